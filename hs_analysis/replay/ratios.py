"""The P/D ratio beside the counts: how far they stray from it, and ratios that move with the mix.

Everything here is fitted on one window alone, so that a backtest of it sees nothing of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from hs_analysis.controllers.heteroscale import HeteroScale, ObservedMix, PoolWork
from hs_analysis.controllers.lanes import ROUNDING
from hs_analysis.replay.demand import demands
from hs_analysis.replay.signals import work_signal
from hs_analysis.replay.simulate import SimulationResult
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import DAY_S, DEMAND_QUANTILE, HOUR_S, SUSTAINED_S
from hs_analysis.schema.names import RATIO_BY_HOUR, RATIO_BY_MIX
from hs_analysis.schema.results import PdRatio

MIX_OVER_S = 2 * SUSTAINED_S
"""Time over which the mix is observed [s]. Measured on a simulated service: from five minutes to an hour the
hours are the same, and ten minutes ask for a third fewer actions than five."""


@dataclass(frozen=True)
class RatioRange:
    """Prefill ÷ decode, and where the truth lies: its interval, or the band in which a drifting one moves."""

    value: float
    low: float
    high: float


def ratio_range(found: PdRatio) -> RatioRange | None:
    """Return the range of a ratio, a tenth to either side where it has no interval; None without a value.

    Where one signal has to size both pools by a bound, counts up to that are in the range.
    """
    if found.value is None:
        return None
    near = (0.9 * found.value, 1.1 * found.value)
    low, high = (found.band if found.status == "drifting" else found.ci) or near
    return RatioRange(found.value, low, max(high, found.held or high))


@dataclass(frozen=True)
class Stray:
    """How far the counts of a policy stray from the ratio over scored rows.

    Attributes
    ----------
    share
        Of the rows, those with a ratio outside the range that whole instances do not explain [ratio].
    factor
        Farthest from the value, upwards or downwards alike: 2 is twice it, or half of it [ratio]. None where
        one pool is always empty.
    """

    share: float
    factor: float | None


def stray_of(results: Sequence[SimulationResult], found: RatioRange | None) -> Stray | None:
    """Return how far the counts asked for stray from a ratio; None without two pools, a ratio or rows.

    Counts are whole. P and D are within the range if neither is more than one instance above what the other
    needs beside it at a ratio in it: P − high · D ≤ 1 and D − P ÷ low ≤ 1. Pools that are each rounded up
    never stray, nor does the best split of a total.
    """
    if found is None or not results or not {"prefill", "decode"} <= set(results[0].desired):
        return None
    prefill, decode = (
        np.concatenate([one.desired[role][one.scored] for one in results]) for role in ("prefill", "decode")
    )
    if not prefill.size:
        return None
    most = 1.0 + ROUNDING
    outside = (prefill - found.high * decode > most) | (decode - prefill / found.low > most)
    both = (prefill > 0) & (decode > 0)
    factor = None
    if both.any():
        factor = float(np.exp(np.abs(np.log(prefill[both] / decode[both] / found.value)).max()))
    return Stray(float(outside.mean()), factor)


def ratio_by_hour(history: ServiceFrame, found: PdRatio) -> tuple[float, ...] | str:
    """Return the ratio of each hour of the day (UTC) as a window of history had it, or why there is none.

    The mean over the hour, weighted by decode work; where the ratio of the window is what a high quantile of
    the mix needs, because a capacity is a floor, that quantile of the hour. An hour that is not in the window
    has the value of all of it.
    """
    if history.kind == "pressure_test":
        return "a pressure test sets the mix on purpose, so that its hours say nothing"
    if found.value is None or not found.by_window:
        return "no ratio is known by the hour"
    t_s, _, decode = _work(history, {})
    ratio = _ratio_at(t_s, found)
    known = np.isfinite(ratio) & (decode > 0)
    hours = (t_s % DAY_S // HOUR_S).astype(np.int64)
    values = []
    for hour in range(round(DAY_S / HOUR_S)):
        own = known & (hours == hour)
        if not own.any():
            values.append(found.held or found.value)
        elif found.status == "floor":
            values.append(float(np.quantile(ratio[own], DEMAND_QUANTILE)))
        else:
            values.append(float(np.average(ratio[own], weights=decode[own])))
    return tuple(values)


def observed_mix(history: ServiceFrame, found: PdRatio) -> ObservedMix | str:
    """Return how the ratio follows from the work that both pools report, or why it can't.

    The factor makes the readings of the window, over all of it, give the ratio that its mix needs.
    """
    if found.value is None or not found.by_window:
        return "no ratio is known that the mix could move"
    signals = {role: work_signal(history, role) for role in ("prefill", "decode")}
    missing = [role for role, signal in signals.items() if not signal]
    if missing:
        return f"the work of {' and '.join(missing)} is not recorded"
    t_s, prefill, decode = _work(history, signals)
    ratio = _ratio_at(t_s, found)
    known = np.isfinite(ratio) & (prefill > 0) & (decode > 0)
    if not known.any():
        return "no row holds the work of both pools and a ratio"
    factor = float((ratio[known] * decode[known]).sum() / prefill[known].sum())
    works = {role: PoolWork(signal, role) for role, signal in signals.items()}
    return ObservedMix(works["prefill"], works["decode"], factor, MIX_OVER_S)


def moving(
    control: HeteroScale, history: ServiceFrame, found: PdRatio
) -> tuple[dict[str, HeteroScale], dict[str, str]]:
    """Return a control whose ratio moves, one a kind, and why others can't be had, by the name of the row.

    Parameters
    ----------
    control
        HeteroScale's rule that keeps a fixed ratio.
    history, found
        The window that it was fitted on, and the ratio there.
    """
    keeps = control.upkeep
    if keeps is None:
        return {}, {}
    # A band says how far the ratio drifts; one that follows it is only as wide as its interval.
    deviation = (found.ci[1] - found.ci[0]) / 2.0 if found.ci else keeps.max_deviation
    made: dict[str, HeteroScale] = {}
    why: dict[str, str] = {}
    hours, mix = ratio_by_hour(history, found), observed_mix(history, found)
    if isinstance(hours, str):
        why[RATIO_BY_HOUR] = hours
    else:
        upkeep = replace(keeps, max_deviation=deviation, by_hour=hours)
        made[RATIO_BY_HOUR] = replace(control, upkeep=upkeep)
    if isinstance(mix, str):
        why[RATIO_BY_MIX] = mix
    else:
        upkeep = replace(keeps, max_deviation=deviation, observed=mix)
        made[RATIO_BY_MIX] = replace(control, upkeep=upkeep)
    return made, why


def _work(history: ServiceFrame, signals: Mapping[str, str]) -> tuple[Floats, Floats, Floats]:
    """Return times [Unix s] and the work of both pools [tokens/s] in scored rows, shape (rows,) each.

    ``signals`` are the columns that hold it; without any it is the work that was offered.
    """
    parts = demands(history, ("prefill", "decode"))

    def of(role: str) -> Floats:
        signal = signals.get(role)
        columns = [part.column(signal, role) if signal else part.offered[role] for part in parts]
        return np.concatenate([v[p.scored] for v, p in zip(columns, parts, strict=True)])

    return np.concatenate([part.t_s[part.scored] for part in parts]), of("prefill"), of("decode")


def _ratio_at(t_s: Floats, found: PdRatio) -> Floats:
    """Return the ratio of the stretch that each moment lies in, NaN outside of all of them."""
    ratio = np.full(t_s.size, np.nan)
    for one in found.by_window:
        start, end = (datetime.fromisoformat(at).timestamp() for at in (one.start, one.end))
        ratio[(t_s >= start) & (t_s < end)] = one.value
    return ratio
