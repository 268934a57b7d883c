"""From effect sizes to a verdict: the checks, what failing each means, and chance over many signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import CLAIM_CHANCE
from hs_analysis.schema.results import Reason, Turn, Verdict
from hs_analysis.study.constants import (
    DRIFT_MAX,
    ELASTICITY_BAND,
    FLAT,
    HIGHPASS_RANK_MIN,
    LATENCY_DRIFT_MAX,
    LINK_MIN,
    NONLINEAR,
    PEAK_RANK_MIN,
    RANK_MIN,
    RANK_SIZING,
    RANK_TEST_MIN,
    SNR_MIN,
    SNR_SIZING,
    TURN_NEAR,
)
from hs_analysis.study.signal_statistics import SignalStatistics

SEVERITY: dict[Verdict, int] = {"proportional": 0, "guard": 1, "unusable": 2, "unknown": 3}
"""Verdicts from best to worst."""

Kind = Literal["rate", "latency", "queue"]


@dataclass(frozen=True)
class VerdictCheck:
    """One line of the verdict rule.

    Attributes
    ----------
    number
        Field of `SignalStatistics` it looks at; not applied where that is None.
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


def _every(limit: float) -> dict[Kind, float]:
    return {"rate": limit, "latency": limit, "queue": limit}


def _waits(limit: float) -> dict[Kind, float]:
    return {"latency": limit, "queue": limit}


CHECKS: tuple[VerdictCheck, ...] = (
    VerdictCheck("spearman", "rank", "Spearman", True, {"rate": RANK_MIN}, "unusable",
          "it does not follow the load", "production"),
    VerdictCheck("spearman", "rank", "Spearman", True, {"rate": RANK_TEST_MIN}, "unusable",
          "it does not follow the load", "pressure_test"),  # minutes, and no link to lean on
    VerdictCheck("auc_top", "rank", "P(top load > calm load)", True, _waits(PEAK_RANK_MIN), "unusable",
          "it does not tell peak load from calm"),
    VerdictCheck("spearman_highpass", "common_clock", "Spearman without the 2-h mean", True,
          _every(HIGHPASS_RANK_MIN), "unusable",
          "it shares a clock or a trend with the load, not its moves"),
    VerdictCheck("innovation_link", "no_innovation_link", "innovation link", True,
          _every(LINK_MIN), "unusable",
          "news in the load does not reach it: a common clock or trend"),
    VerdictCheck("link_chance", "chance", "chance of its link over all signals tested", False,
          _every(CLAIM_CHANCE), "unusable",
          "among so many signals an unrelated one may look like this"),
    VerdictCheck("snr", "noise", "signal to noise", True, _every(SNR_MIN), "unusable",
          "its noise hides the load"),
    VerdictCheck("elasticity", "flat", "elasticity", True,
          _every(FLAT), "unusable",
          "it hardly moves with the load"),
    VerdictCheck("drift", "drift", "drift relative to elasticity", False,
          {"rate": DRIFT_MAX, "latency": LATENCY_DRIFT_MAX}, "unusable",
          "its relation to the load moves over the hours"),
    VerdictCheck("half_shift", "drift", "shift between halves", False, {"rate": DRIFT_MAX}, "unusable",
          "its relation to the load differs between the first and the second half"),
    VerdictCheck("hysteresis", "hysteresis", "shift between rising and falling load", False,
          {"rate": DRIFT_MAX}, "unusable",
          "it reads differently when load rises and when it falls"),
    VerdictCheck("elasticity", "elasticity_low", "elasticity", True, {"rate": ELASTICITY_BAND[0]}, "guard",
          "it moves less than in proportion to the load"),
    VerdictCheck("elasticity", "elasticity_high", "elasticity", False, {"rate": ELASTICITY_BAND[1]}, "guard",
          "it moves more than in proportion to the load"),
    VerdictCheck("spearman", "rank_weak", "Spearman", True, {"rate": RANK_SIZING}, "guard",
          "it orders loads too loosely to size a pool"),
    VerdictCheck("snr", "noise", "signal to noise", True, _every(SNR_SIZING), "guard",
          "too noisy to size a pool"),
    # Latencies and queues are guards by class; this names what else they lack.
    VerdictCheck("nonlinearity", "not_linear", "|Spearman − Pearson|", False,
          _waits(NONLINEAR), "guard",
          "it does not move in a line with the load"),
)  # fmt: skip

FALLS = "it falls with the load"
"""What an elasticity means that fails by its sign alone."""

CLOCKS = ("common_clock", "no_innovation_link")
"""Codes that say what else than the load a signal follows: not said where it does not follow it at all."""

CLOSE_CALLS: tuple[tuple[str, float, float], ...] = (
    ("elasticity", ELASTICITY_BAND[1], TURN_NEAR["elasticity_high"]),
    ("elasticity", ELASTICITY_BAND[0], TURN_NEAR["elasticity_low"]),
    ("elasticity", FLAT, TURN_NEAR["flat"]),
    ("snr", SNR_MIN, TURN_NEAR["snr"]),
    ("snr", SNR_SIZING, TURN_NEAR["snr_sizing"]),
)
"""Number, limit and how near it an answer can turn over with the next history; measured on simulated
services."""

CLASS_TEXT = {
    "latency": "a latency: it answers to queues and bends with load, and may veto or trigger a safety step",
    "queue": "a queue: it is empty until work waits, and may veto or trigger a safety step",
}


def kind_of(family: str) -> Kind:
    """Return the column of the rule a family of signals is judged by."""
    return "latency" if family == "latency" else "queue" if family == "queue" else "rate"


def judge(stats: SignalStatistics) -> tuple[Verdict, tuple[Reason, ...]]:
    """Return the verdict and its reasons: what decided it first, then what a reader should know.

    A failed gate gives ``unknown`` (not tested); ``unusable`` means tested and failed.
    """
    if stats.gates:
        return "unknown", stats.gates + stats.notes
    bounds = _bounds(stats)
    verdict = _worst(bounds)
    deciding = tuple(reason for bound, reason in bounds if bound == verdict)
    if verdict == "proportional":
        deciding = (_passes(stats),)
    return verdict, deciding + _close_calls(stats, verdict) + stats.notes


def _bounds(stats: SignalStatistics) -> list[tuple[Verdict, Reason]]:
    """Return the best verdict that each failed check and each circumstance allows."""
    kind = kind_of(stats.family)
    found: list[tuple[Verdict, Reason]] = []
    for check in CHECKS:
        value, limit = getattr(stats, check.number), check.limits.get(kind)
        if value is None or limit is None or check.history not in ("", stats.history):
            continue
        if value < limit if check.above else value > limit:
            side = "at least" if check.above else "at most"
            meaning = FALLS if check.code == "flat" and value <= -limit else check.meaning
            text = f"{meaning}: {check.label} {_with_limit(value, limit, side)}"
            found.append((check.failing, Reason(check.code, text, value, limit)))
    if (stats.spearman or 0.0) < HIGHPASS_RANK_MIN and any(reason.code == "rank" for _, reason in found):
        found = [one for one in found if one[1].code not in CLOCKS]
    if kind != "rate":
        found.append(("guard", Reason("class", CLASS_TEXT[kind])))
    return found + [(cap.verdict, cap.reason) for cap in stats.caps]


def _worst(bounds: list[tuple[Verdict, Reason]]) -> Verdict:
    return max((verdict for verdict, _ in bounds), key=SEVERITY.__getitem__, default="proportional")


def _with_limit(value: float, limit: float, side: str) -> str:
    """Return a number with its limit, with so many digits that a miss by a hair does not read as equal."""
    more = next((d for d in range(12) if _figure(value, d) != _figure(limit, d)), 0)
    return f"{_figure(value, more)} ({side} {_figure(limit, more)})"


def _figure(value: float, more_digits: int = 0) -> str:
    if abs(value) >= 100:
        return f"{value:.{more_digits}f}"
    return (
        f"{value:.{2 + more_digits}f}"
        if abs(value) >= 0.005 or value == 0
        else f"{value:.{1 + more_digits}g}"
    )


def _passes(stats: SignalStatistics) -> Reason:
    """Return the reason of a proportional verdict, with the number nearest to its limit in its range."""
    slope = stats.elasticity or 0.0
    low, high = ELASTICITY_BAND
    near = low if slope - low < high - slope else high
    parts = [f"elasticity {_with_limit(slope, near, 'at least' if near == low else 'at most')}"]
    if stats.snr is not None:
        parts.append(f"signal to noise {_with_limit(stats.snr, SNR_SIZING, 'at least')}")
    shift = stats.drift if stats.drift is not None else stats.half_shift
    if shift is not None:
        parts.append(f"drift {_with_limit(shift, DRIFT_MAX, 'at most')}")
    return Reason("passes", "it moves in proportion to the load: " + ", ".join(parts), slope, near)


def turns(stats: SignalStatistics) -> tuple[Turn, ...]:
    """Return each single number that would change the verdict by crossing a limit of the rule, nearest first.

    For a signal that was not tested: the gates, all of which have to open.
    """
    if stats.gates:
        return tuple(
            Turn(gate.code, gate.value, gate.limit, _apart(gate.value, gate.limit), None)
            for gate in stats.gates
            if gate.value is not None and gate.limit is not None
        )
    verdict, kind = _worst(_bounds(stats)), kind_of(stats.family)
    found: list[Turn] = []
    for check in CHECKS:
        value, limit = getattr(stats, check.number), check.limits.get(kind)
        if value is None or limit is None or check.history not in ("", stats.history):
            continue
        other = _worst(_bounds(_with(stats, check.number, _beyond(value, limit))))
        if other != verdict:
            found.append(Turn(check.code, value, limit, _apart(value, limit), other))
    return tuple(sorted(found, key=lambda turn: (turn.distance, turn.code)))


def turn_texts(name: str, found: Sequence[Turn], most: int) -> list[str]:
    """Return what would give a proportional signal another verdict, a sentence a number and direction.

    Of two limits that one number meets on its way only the nearer changes the answer first.

    Parameters
    ----------
    name
        The signal, as the sentences name it.
    found
        Its turns, nearest first.
    most
        Most sentences.
    """
    nearest: dict[tuple[str, bool], str] = {}
    for turn in found:
        check = next(check for check in CHECKS if check.code == turn.code)
        label = check.label.replace("Spearman", "Spearman correlation")
        way = "fell from {} to under {}" if turn.value > turn.limit else "rose from {} to over {}"
        moved = way.format(f"{turn.value:.3g}", f"{turn.limit:g}")
        other = "only a guard" if turn.verdict == "guard" else turn.verdict
        text = f"{name} would be {other} if its {label} {moved}"
        nearest.setdefault((check.number, turn.value > turn.limit), text)
    return list(nearest.values())[:most]


def _with(stats: SignalStatistics, number: str, value: float) -> SignalStatistics:
    """Return the same with another value of the named number."""
    changed: dict[str, Any] = {number: value}
    return replace(stats, **changed)


def _apart(value: float, limit: float) -> float:
    """Return the distance of a number from its limit as a share of the limit."""
    return abs(value - limit) / abs(limit)


def _beyond(value: float, limit: float) -> float:
    """Return a number just past the limit, seen from the value; a value at the limit still holds it."""
    return limit * (0.999 if value >= limit else 1.001)


def _close_calls(stats: SignalStatistics, verdict: Verdict) -> tuple[Reason, ...]:
    """Name each limit so near that a slightly different number would turn the verdict over."""
    found: list[Reason] = []
    for number, limit, width in CLOSE_CALLS:
        value = getattr(stats, number)
        if value is None or abs(value - limit) > width:
            continue
        other = _worst(_bounds(_with(stats, number, _beyond(value, limit))))
        if other != verdict:
            words = "elasticity" if number == "elasticity" else "signal to noise"
            text = f"close call: {words} {_with_limit(value, limit, 'limit')}; past it the verdict is {other}"
            found.append(Reason("at_edge", text, value, limit))
    return tuple(found)


def correct_chances(stats: Sequence[SignalStatistics]) -> list[SignalStatistics]:
    """Replace each signal's own chance by that over all signals tested on the service, and say so.

    Holm's step-down correction (1979) holds whatever the signals have to do with each other: with it the
    probability that *any* unrelated signal passes is at most the limit.

    Parameters
    ----------
    stats
        All signals of a service; those that were not tested, or have no link, are left as they are.
    """
    tested = [k for k, one in enumerate(stats) if not one.gates and one.link_chance is not None]
    if not tested:
        return list(stats)
    own = [stats[k].link_chance for k in tested]
    corrected = holm(np.array(own, dtype=float))
    found = list(stats)
    for k, chance in zip(tested, corrected, strict=True):
        text = (
            f"chance of its innovation link without following the load: {chance:.1g} after Holm's correction "
            f"for {len(tested)} signals tested"
        )
        reason = Reason("tests", text, float(chance), CLAIM_CHANCE)
        found[k] = replace(stats[k], link_chance=float(chance)).noting(reason)
    return found


def holm(chances: Floats) -> Floats:
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
