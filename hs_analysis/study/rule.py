"""From effect sizes to a verdict: the checks, what failing each means, how far a number is from its limit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hs_analysis.schema.results import Reason, Verdict
from hs_analysis.study.measured import FLAT, Measured

SEVERITY: dict[Verdict, int] = {"proportional": 0, "guard": 1, "unusable": 2, "unknown": 3}
"""Verdicts from best to worst."""

Kind = Literal["rate", "latency", "queue"]


@dataclass(frozen=True)
class Check:
    """One line of the verdict rule.

    Attributes
    ----------
    number
        Field of `Measured` it looks at; not applied where that is None.
    code, label
        Reason code, and the words for the number.
    above
        Whether the number must be at least the limit (else at most).
    limits
        Limit per kind of signal; a kind without one is not tested.
    failing
        Best verdict of a signal that fails.
    meaning
        What failing means.
    """

    number: str
    code: str
    label: str
    above: bool
    limits: dict[Kind, float]
    failing: Verdict
    meaning: str


# Limits: defaults of this project, set on simulated services whose answers are known by intervention, and
# checked against independent pairs of public series (none passed) and captures of real serving components.
CHECKS: tuple[Check, ...] = (
    Check("spearman", "rank", "Spearman", True, {"rate": 0.85}, "unusable",
          "it does not follow the load"),
    Check("auc_top", "rank", "P(top load > calm load)", True, {"latency": 0.95, "queue": 0.95}, "unusable",
          "it does not tell peak load from calm"),
    Check("spearman_highpass", "common_clock", "Spearman without the 2-h mean", True,
          {"rate": 0.20, "latency": 0.10, "queue": 0.10}, "unusable",
          "it shares a clock or a trend with the load, not its moves"),
    Check("innovation_link", "no_innovation_link", "innovation link", True,
          {"rate": 5.0, "latency": 5.0, "queue": 5.0}, "unusable",
          "news in the load does not reach it: a common clock or trend"),
    Check("snr", "noise", "signal to noise", True, {"rate": 3.0, "latency": 3.0, "queue": 3.0}, "unusable",
          "its noise hides the load"),
    Check("elasticity", "flat", "elasticity", True,
          {"rate": FLAT, "latency": FLAT, "queue": FLAT}, "unusable",
          "it hardly moves with the load"),
    Check("drift", "drift", "drift relative to elasticity", False,
          {"rate": 0.20, "latency": 0.60}, "unusable",
          "its relation to the load moves over the hours"),
    Check("half_shift", "drift", "shift between halves", False, {"rate": 0.20}, "unusable",
          "its relation to the load differs between the first and the second half"),
    Check("hysteresis", "hysteresis", "shift between rising and falling load", False,
          {"rate": 0.20}, "unusable",
          "it reads differently when load rises and when it falls"),
    Check("elasticity", "elasticity_low", "elasticity", True, {"rate": 0.70}, "guard",
          "it moves less than in proportion to the load"),
    Check("elasticity", "elasticity_high", "elasticity", False, {"rate": 1.40}, "guard",
          "it moves more than in proportion to the load"),
    Check("snr", "noise", "signal to noise", True, {"rate": 5.0}, "guard",
          "too noisy to size a pool"),
)  # fmt: skip

EDGES: tuple[tuple[str, float, float], ...] = (
    ("elasticity", 1.40, 0.10),
    ("elasticity", 0.70, 0.06),
    ("elasticity", FLAT, 0.03),
    ("snr", 3.0, 0.9),
    ("snr", 5.0, 1.0),
)
"""Number, limit and how near it an answer can turn over with the next history; measured on simulated
services."""

CLASS_TEXT = {
    "latency": "latency answers to queues and bends with load: it may veto or trigger a safety step",
    "queue": "a queue is empty until work waits: it may veto or trigger a safety step",
}


def kind_of(family: str) -> Kind:
    """Return the column of the rule a family of signals is judged by."""
    return "latency" if family == "latency" else "queue" if family == "queue" else "rate"


def judge(measured: Measured) -> tuple[Verdict, tuple[Reason, ...]]:
    """Return the verdict and its reasons: what decided it first, then what a reader should know.

    A failed gate gives ``unknown`` (not tested); ``unusable`` means tested and failed.
    """
    if measured.gates:
        return "unknown", measured.gates + measured.notes
    bounds = _bounds(measured)
    verdict = _worst(bounds)
    deciding = tuple(reason for bound, reason in bounds if bound == verdict)
    if verdict == "proportional":
        deciding = (_passes(measured),)
    return verdict, deciding + _edges(measured, verdict) + measured.notes


def _bounds(measured: Measured) -> list[tuple[Verdict, Reason]]:
    """Return the best verdict that each failed check and each circumstance allows."""
    kind = kind_of(measured.family)
    found: list[tuple[Verdict, Reason]] = []
    for check in CHECKS:
        value, limit = getattr(measured, check.number), check.limits.get(kind)
        if value is None or limit is None:
            continue
        if value < limit if check.above else value > limit:
            text = f"{check.meaning}: {check.label} {_distance(value, limit)}"
            found.append((check.failing, Reason(check.code, text, value, limit)))
    if kind != "rate":
        found.append(("guard", Reason("class", CLASS_TEXT[kind])))
    return found + [(cap.verdict, cap.reason) for cap in measured.caps]


def _worst(bounds: list[tuple[Verdict, Reason]]) -> Verdict:
    return max((verdict for verdict, _ in bounds), key=SEVERITY.__getitem__, default="proportional")


def _distance(value: float, limit: float) -> str:
    side = "over" if value > limit else "under"
    return f"{_figure(value)} is {_figure(abs(value - limit))} {side} {_figure(limit)}"


def _figure(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    # Enough digits that a miss by a hair does not read as equal.
    return f"{value:.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:.1g}"


def _passes(measured: Measured) -> Reason:
    """Return the reason of a proportional verdict, with the number nearest to its limit in its range."""
    slope = measured.elasticity or 0.0
    near = 0.70 if slope - 0.70 < 1.40 - slope else 1.40
    parts = [f"elasticity {_distance(slope, near)}"]
    if measured.snr is not None:
        parts.append(f"signal to noise {_distance(measured.snr, 5.0)}")
    shift = measured.drift if measured.drift is not None else measured.half_shift
    if shift is not None:
        parts.append(f"drift {_distance(shift, 0.20)}")
    return Reason("passes", "it moves in proportion to the load: " + ", ".join(parts), slope, near)


def _with(measured: Measured, number: str, value: float) -> Measured:
    return replace(measured, elasticity=value) if number == "elasticity" else replace(measured, snr=value)


def _edges(measured: Measured, verdict: Verdict) -> tuple[Reason, ...]:
    """Name each limit so near that a slightly different number would turn the verdict over."""
    found: list[Reason] = []
    for number, limit, width in EDGES:
        value = getattr(measured, number)
        if value is None or abs(value - limit) > width:
            continue
        beyond = limit * (0.999 if value >= limit else 1.001)
        other = _worst(_bounds(_with(measured, number, beyond)))
        if other != verdict:
            words = "elasticity" if number == "elasticity" else "signal to noise"
            text = f"close call: {words} {_distance(value, limit)}; past it the verdict is {other}"
            found.append(Reason("at_edge", text, value, limit))
    return tuple(found)
