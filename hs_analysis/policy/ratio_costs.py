"""What the P/D ratio is by a test, and what it costs: counts that stray, and a fixed one for a moving one.

Sentences of the decision, read from the rows of a backtest; empty where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping

from hs_analysis.policy.constants import FEWER, SAME_HOURS, SAME_SHARE_POINTS
from hs_analysis.schema.names import NEUTRAL, RATIO_BY_HOUR, RATIO_BY_MIX, RATIO_FIXED
from hs_analysis.schema.number_text import number, percent
from hs_analysis.schema.replays import PolicyReplay, ReplayResult
from hs_analysis.schema.results import MixRatio, PdRatio, SplitBeside

HELD_BY = {NEUTRAL: "HeteroScale's own rule", RATIO_FIXED: "HeteroScale's own rule with one signal"}
"""Row that holds the fixed ratio → what it is; another one is the selected policy itself."""

MOVING = {RATIO_BY_HOUR: "by the hour of the day", RATIO_BY_MIX: "by the observed mix"}

LESS_HOURS, LESS_WINDOWS = FEWER
SAME_WINDOWS = LESS_WINDOWS * SAME_HOURS / LESS_HOURS
"""Share of windows as small beside one worth a sentence as hours that count as the same are [ratio]."""


def ratio_notes(replay: ReplayResult, chosen: str | None, found: PdRatio) -> tuple[str, ...]:
    """Return what there is to say: of splits that were tested, counts that stray, and a moving ratio."""
    texts = (
        measured_splits(found), splits_beside(found), measured_floors(found), stray_cost(replay, chosen),
        moving_gain(replay),
    )  # fmt: skip
    return tuple(text for text in texts if text)


def measured_splits(found: PdRatio) -> str:
    """Return the best split that a ratio test measured for each token mix, empty without one."""
    said = [f"{_pair(mix)}{_lengths(mix)}" for mix in found.by_mix]
    return f"the best split measured is {', '.join(said)}" if said else ""


def splits_beside(found: PdRatio) -> str:
    """Return which splits were tested next to the best ones and how far they fall, empty without one."""
    many = len(found.by_mix) > 1
    said = [
        f"next to {_pair(mix)}{_lengths(mix) if many else ''} {' and '.join(map(_fall, mix.neighbours))}"
        for mix in found.by_mix
        if mix.neighbours
    ]
    return "; ".join(said)


def measured_floors(found: PdRatio) -> str:
    """Return what one instance of the best splits carried within the limits, empty where it is not known."""
    said = []
    for mix in found.by_mix:
        amounts = ((mix.prefill_tps_per_instance, "prompt"), (mix.decode_tps_per_instance, "output"))
        known = [f"{number(tps)} {kind}" for tps, kind in amounts if tps is not None]
        if known:
            said.append(f"{' or '.join(known)} tokens/s{_lengths(mix)}")
    if not said:
        return ""
    return f"one instance carried at least {', '.join(said)}: floors for that token mix only"


def _pair(split: MixRatio | SplitBeside) -> str:
    return f"{split.prefill}P{split.decode}D"


def _lengths(mix: MixRatio) -> str:
    return f" for {mix.isl:,.0f} tokens in and {mix.osl:,.0f} out" if mix.isl and mix.osl else ""


def _fall(split: SplitBeside) -> str:
    if split.served_ratio is None:
        return f"{_pair(split)} breaks a limit"
    return f"{_pair(split)} serves {percent(1.0 - split.served_ratio)} less"


def stray_cost(replay: ReplayResult, chosen: str | None) -> str:
    """Return how far the selected policy's counts stray from the P/D ratio, and what holding it would cost.

    Empty where they stray in no more windows than make no difference, or nothing holds a ratio to compare
    with.
    """
    rows, held = _rows(replay), _fixed(replay)
    row = rows.get(chosen or "")
    if row is None or held is None or held.policy not in HELD_BY:
        return ""
    if row.pd_stray_ratio is None or row.pd_stray_ratio <= SAME_SHARE_POINTS:
        return ""
    far = "" if row.pd_stray_factor is None else f", {row.pd_stray_factor:.2f} times off at most"
    share = percent(row.pd_stray_ratio)
    text = f"prefill ÷ decode of its counts is off the P/D ratio in {share} of windows{far}"
    cost = _difference(replay, held, row)
    return f"{text}; {HELD_BY[held.policy]}, which ties the pools, {cost}" if cost else text


def moving_gain(replay: ReplayResult) -> str:
    """Return by how much a moving P/D ratio beats the fixed one on the test window, the cheapest that does.

    It needs `FEWER` hours less, or breaks the SLO in so many windows less, and is no worse
    in the other. Empty where none does, or the violations of either are not known; those of a replay that is
    not calibrated are taken, and said to be.
    """
    rows, fixed = _rows(replay), _fixed(replay)
    if fixed is None:
        return ""
    better = [row for name in MOVING if (row := rows.get(name)) is not None and _beats(replay, row, fixed)]
    if not better:
        return ""
    best = min(better, key=lambda row: row.instance_hours or 0.0)
    cost = _difference(replay, best, fixed)
    return f"with a ratio {MOVING[best.policy]} instead of a fixed one, HeteroScale's own rule {cost}"


def _rows(replay: ReplayResult) -> dict[str, PolicyReplay]:
    return {row.policy: row for row in replay.policies}


def _fixed(replay: ReplayResult) -> PolicyReplay | None:
    said = replay.calibration.get("ratio_rows")
    return _rows(replay).get(str(said.get("fixed"))) if isinstance(said, Mapping) else None


def _saved(row: PolicyReplay, other: PolicyReplay) -> float | None:
    """Return 1 − hours ÷ those of another row; None where either is not known."""
    if row.instance_hours is None or not other.instance_hours:
        return None
    return 1.0 - row.instance_hours / other.instance_hours


def _shares(replay: ReplayResult, row: PolicyReplay, other: PolicyReplay) -> tuple[float, float] | None:
    """Return the shares of windows over the SLO; of an uncalibrated replay where it has no others."""
    rough = replay.calibration.get("uncalibrated_shares") or {}
    ours, theirs = (
        rough.get(one.policy) if one.slo_violation_ratio is None else one.slo_violation_ratio
        for one in (row, other)
    )
    return None if ours is None or theirs is None else (float(ours), float(theirs))


def _beats(replay: ReplayResult, row: PolicyReplay, other: PolicyReplay) -> bool:
    saved, shares = _saved(row, other), _shares(replay, row, other)
    if saved is None or shares is None:
        return False
    fewer = shares[1] - shares[0]
    return (saved >= LESS_HOURS and fewer >= -SAME_WINDOWS) or (
        fewer >= LESS_WINDOWS and saved >= -SAME_HOURS
    )


def _difference(replay: ReplayResult, row: PolicyReplay, other: PolicyReplay) -> str:
    """Return how hours and violations of a row differ from those of another; empty where neither is known."""
    saved, shares, parts = _saved(row, other), _shares(replay, row, other), []
    if saved is not None:
        parts.append(f"needs {percent(abs(saved))} {'more' if saved < 0 else 'fewer'} hours")
    if shares is not None:
        share, instead = (f"{percent(one)}" for one in shares)
        often = "as often, in {} of windows" if share == instead else "in {} of windows instead of {}"
        rough = "" if row.slo_violation_ratio is not None else " (the replay is not calibrated)"
        parts.append(f"breaks the SLO {often.format(share, instead)}{rough}")
    return " and ".join(parts)
