"""From effect sizes to a verdict: the checks, what failing each means, and chance over many signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hs_analysis.schema.results import Reason, Turn, Verdict
from hs_analysis.study.signal_statistics import FLAT, Measured

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
    history
        Kind of history it applies to; empty = both.
    """

    number: str
    code: str
    label: str
    above: bool
    limits: dict[Kind, float]
    failing: Verdict
    meaning: str
    history: Literal["", "production", "pressure_test"] = ""


RANK_MIN, RANK_SIZING = 0.65, 0.82
"""Spearman below which a signal does not follow its load, and below which it orders loads too loosely to size
a pool: what is left of a perfect relation over evenly spread loads when the signal to noise is 3, and 5,
1 ÷ sqrt(1 + 12 ÷ snr²). With a higher limit no signal between the two limits on noise could ever pass."""

LINK_MIN = 5.0
"""Innovation link below which a signal may share no more than a clock with its load. Of 3,200 signals of made
strangers under one clock, 10 to 48 h long, none reached it (largest 4.7), nor did any of 1,426 pairs of
simulated services (largest 4.8)."""

CHANCE_MAX = 0.05
"""Largest chance that any of the signals tested on one service gets its link without following the load,
after Holm's correction (1979) for their number; default of this project."""

NONLINEAR = 0.15
"""|Spearman − Pearson| from which a latency or queue is said not to be linear; default of this project."""

# Limits: defaults of this project, set on simulated services whose answers are known by intervention, and
# checked against independent pairs of public series (none passed) and captures of real serving components.
CHECKS: tuple[Check, ...] = (
    Check("spearman", "rank", "Spearman", True, {"rate": RANK_MIN}, "unusable",
          "it does not follow the load", "production"),
    Check("spearman", "rank", "Spearman", True, {"rate": 0.85}, "unusable",
          "it does not follow the load", "pressure_test"),  # minutes, and no link to lean on
    Check("auc_top", "rank", "P(top load > calm load)", True, {"latency": 0.95, "queue": 0.95}, "unusable",
          "it does not tell peak load from calm"),
    Check("spearman_highpass", "common_clock", "Spearman without the 2-h mean", True,
          {"rate": 0.10, "latency": 0.10, "queue": 0.10}, "unusable",
          "it shares a clock or a trend with the load, not its moves"),
    Check("innovation_link", "no_innovation_link", "innovation link", True,
          {"rate": LINK_MIN, "latency": LINK_MIN, "queue": LINK_MIN}, "unusable",
          "news in the load does not reach it: a common clock or trend"),
    Check("link_chance", "chance", "chance of its link over all signals tested", False,
          {"rate": CHANCE_MAX, "latency": CHANCE_MAX, "queue": CHANCE_MAX}, "unusable",
          "among so many signals an unrelated one may look like this"),
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
    Check("spearman", "rank_weak", "Spearman", True, {"rate": RANK_SIZING}, "guard",
          "it orders loads too loosely to size a pool"),
    Check("snr", "noise", "signal to noise", True, {"rate": 5.0, "latency": 5.0, "queue": 5.0}, "guard",
          "too noisy to size a pool"),
    # Latencies and queues are guards by class; this says what they lack beside it.
    Check("nonlinearity", "not_linear", "|Spearman − Pearson|", False,
          {"latency": NONLINEAR, "queue": NONLINEAR}, "guard",
          "it does not move in a line with the load"),
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
        if value is None or limit is None or check.history not in ("", measured.history):
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


def turns(measured: Measured) -> tuple[Turn, ...]:
    """Return each single number that would change the verdict by crossing a limit of the rule, nearest first.

    For a signal that was not tested: the gates, all of which have to open.
    """
    if measured.gates:
        return tuple(
            Turn(gate.code, gate.value, gate.limit, _apart(gate.value, gate.limit), None)
            for gate in measured.gates
            if gate.value is not None and gate.limit is not None
        )
    verdict, kind = _worst(_bounds(measured)), kind_of(measured.family)
    found: list[Turn] = []
    for check in CHECKS:
        value, limit = getattr(measured, check.number), check.limits.get(kind)
        if value is None or limit is None or check.history not in ("", measured.history):
            continue
        other = _worst(_bounds(_with(measured, check.number, _beyond(value, limit))))
        if other != verdict:
            found.append(Turn(check.code, value, limit, _apart(value, limit), other))
    return tuple(sorted(found, key=lambda turn: (turn.distance, turn.code)))


def _with(measured: Measured, number: str, value: float) -> Measured:
    """Return the same with another value of the named number."""
    changed: dict[str, Any] = {number: value}
    return replace(measured, **changed)


def _apart(value: float, limit: float) -> float:
    """Return the distance of a number from its limit as a share of the limit."""
    return abs(value - limit) / abs(limit)


def _beyond(value: float, limit: float) -> float:
    """Return a number just past the limit, seen from the value; a value at the limit still holds it."""
    return limit * (0.999 if value >= limit else 1.001)


def _edges(measured: Measured, verdict: Verdict) -> tuple[Reason, ...]:
    """Name each limit so near that a slightly different number would turn the verdict over."""
    found: list[Reason] = []
    for number, limit, width in EDGES:
        value = getattr(measured, number)
        if value is None or abs(value - limit) > width:
            continue
        other = _worst(_bounds(_with(measured, number, _beyond(value, limit))))
        if other != verdict:
            words = "elasticity" if number == "elasticity" else "signal to noise"
            text = f"close call: {words} {_distance(value, limit)}; past it the verdict is {other}"
            found.append(Reason("at_edge", text, value, limit))
    return tuple(found)


def correct_chances(measured: Sequence[Measured]) -> list[Measured]:
    """Replace each signal's own chance by that over all signals tested on the service, and say so.

    Holm's step-down correction (1979) holds whatever the signals have to do with each other: with it the
    probability that *any* unrelated signal passes is at most the limit.

    Parameters
    ----------
    measured
        All signals of a service; those that were not tested, or have no link, are left as they are.
    """
    tested = [k for k, one in enumerate(measured) if not one.gates and one.link_chance is not None]
    if not tested:
        return list(measured)
    own = [measured[k].link_chance for k in tested]
    corrected = holm(np.array(own, dtype=float))
    found = list(measured)
    for k, chance in zip(tested, corrected, strict=True):
        text = (
            f"chance of its innovation link without following the load: {chance:.1g} after Holm's correction "
            f"for {len(tested)} signals tested"
        )
        reason = Reason("tests", text, float(chance), CHANCE_MAX)
        found[k] = replace(measured[k], link_chance=float(chance)).noting(reason)
    return found


def holm(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return chances corrected for all tests of their family, in the same order, shape (tests,).

    The k-th smallest of n is multiplied by n − k + 1, no corrected one is below that of a smaller chance, and
    none is above 1 (Holm 1979). As statsmodels' `multipletests`, which collects the garbage of the whole
    process at every call.
    """
    order = np.argsort(chances)
    stepped = np.maximum.accumulate(chances[order] * np.arange(chances.size, 0, -1))
    corrected = np.empty_like(chances)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
