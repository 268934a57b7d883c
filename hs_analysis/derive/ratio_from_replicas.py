"""The P/D ratio from a history in which the counts of both pools moved: what each served while limited."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from hs_analysis.derive.capacity_laws import log_interval
from hs_analysis.derive.constants import APART_MIN, DRAWS_MIN, EVENTS_MIN, RATIO_SYSTEMATIC
from hs_analysis.derive.mix import Mix
from hs_analysis.derive.rows import RoleRows
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import GROUP_MIN, HIGHEST_QUANTILE, TEST_BACKLOG_S
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import PdRatio, Reason, ReplicaGroup, ReplicaRatio
from hs_analysis.statistics.resampling import percentile_interval

ROLES: tuple[Literal["prefill"], Literal["decode"]] = ("prefill", "decode")


def replica_ratio(
    frame: ServiceFrame, rows: Mapping[str, RoleRows], mix: Mix | None, resamples: Integers
) -> ReplicaRatio | None:
    """Return the ratio that the recorded counts show, refused with the reason where they don't.

    A window is limited by prefill where prefill's backlog is older than 3 s and older than decode's, by
    decode where decode's is; the window before has to be limited by the same side, so that the pool worked
    all the time. Windows are grouped by the counts (P, D) that ran. α is the median over groups of prefill
    work served ÷ P in windows limited by prefill, β of decode work ÷ D in those limited by decode, and
    r = mix · β ÷ α. These are throughputs: no limit on latency is in them.

    Parameters
    ----------
    frame
        The service; None is returned for one that has not both pools, or that was recorded in several
        captures: those are a ratio test (`capture_sweep`).
    rows
        Its rows per role; those within a start-up time of a change of the counts don't count.
    mix
        Prefill tokens per decode token.
    resamples
        Row numbers of each bootstrap draw, shape (draws, rows).
    """
    if not set(ROLES) <= set(rows) or len(frame.captures()) > 1:
        return None
    counts = np.column_stack([rows[role].instances for role in ROLES])
    known = np.isfinite(counts).all(axis=1) & (counts > 0).all(axis=1)
    if not known.any():
        return _refused("no_counts", "the instance counts of both pools are not known in one window")
    pairs, number = np.unique(np.round(counts[known], 2), axis=0, return_inverse=True)
    pair = np.full(known.size, -1)
    pair[known] = number.reshape(-1)
    sides = _limited(rows)
    groups = _groups(frame, rows, pairs, pair, sides)
    still = _unmoved(pairs)
    if still is not None:
        return replace(still, groups=groups)
    if mix is None:
        return _refused(
            "no_common_rows", "no rows show the work of both pools while neither is saturated", groups
        )
    value, why = _value(groups, mix.value)
    if why is not None:
        at_least, at_most = _bound(frame, rows, groups, mix)
        return replace(why, groups=groups, at_least=at_least, at_most=at_most)
    draws = np.array(
        [
            _value(_groups(frame, rows, pairs, pair, sides, chosen), share)[0]
            for chosen, share in zip(resamples, mix.draws, strict=True)
        ]
    )
    if np.isfinite(draws).mean() < DRAWS_MIN:
        text = "all windows limited by one of the sides lie in one stretch: too few to tell an interval"
        return _refused("thin", text, groups)
    ci = log_interval(value, draws, RATIO_SYSTEMATIC)
    alpha, beta = (_median(groups, role) for role in ROLES)
    return ReplicaRatio(
        value=value, ci=ci, status="ok", at_least=None, at_most=None, reason=None,
        prefill_tps=alpha, decode_tps=beta, groups=groups,
    )  # fmt: skip


def _refused(code: str, text: str, groups: tuple[ReplicaGroup, ...] = ()) -> ReplicaRatio:
    return ReplicaRatio(
        value=None,
        ci=None,
        status="refused",
        at_least=None,
        at_most=None,
        reason=Reason(code, text),
        prefill_tps=None,
        decode_tps=None,
        groups=groups,
    )


def _unmoved(pairs: Floats) -> ReplicaRatio | None:
    """Refuse counts that never changed, or that changed in proportion."""
    if len(pairs) < 2:
        p, d = pairs[0]
        return _refused("counts_still", f"the counts never changed: {p:g} prefill and {d:g} decode")
    ratios = pairs[:, 0] / pairs[:, 1]
    if ratios.max() < APART_MIN * ratios.min():
        return _refused("moved_together", "prefill and decode always moved together, in proportion")
    return None


def _limited(rows: Mapping[str, RoleRows]) -> dict[str, Mask]:
    """Return the windows that each side limits: an old backlog there, older than the other side's."""
    age = {role: np.nan_to_num(rows[role].backlog_s, nan=0.0) for role in ROLES}
    prefill = (age["prefill"] > TEST_BACKLOG_S) & (age["prefill"] > age["decode"])
    decode = (age["decode"] > TEST_BACKLOG_S) & ~prefill
    group = rows["prefill"].group
    same = np.r_[False, group[1:] == group[:-1]]
    found = {}
    for role, side in (("prefill", prefill), ("decode", decode)):
        before = np.r_[False, side[:-1]] & same
        found[role] = side & before
    return found


def _groups(
    frame: ServiceFrame,
    rows: Mapping[str, RoleRows],
    pairs: Floats,
    pair: Integers,
    sides: Mapping[str, Mask],
    chosen: Integers | None = None,
) -> tuple[ReplicaGroup, ...]:
    """Return what each pair of counts served while one side limited it, by pair and side."""
    found = []
    for role in ROLES:
        work = frame.served_values(role)
        with np.errstate(invalid="ignore", divide="ignore"):
            each = work / rows[role].instances
        use = sides[role] & (pair >= 0) & np.isfinite(each) & _settled(rows)
        picked = np.flatnonzero(use) if chosen is None else chosen[use[chosen]]
        for one in np.unique(pair[picked]):
            inside = each[picked[pair[picked] == one]]
            if inside.size >= GROUP_MIN:
                p, d = pairs[one]
                found.append(
                    ReplicaGroup(
                        prefill=float(p),
                        decode=float(d),
                        limited=role,
                        windows=int(inside.size),
                        per_instance_tps=float(np.median(inside)),
                    )
                )
    return tuple(sorted(found, key=lambda g: (g.limited, g.prefill, g.decode)))


def _settled(rows: Mapping[str, RoleRows]) -> Mask:
    """Windows in which both counts had been the same for a start-up time."""
    settled: Mask = rows["prefill"].settled & rows["decode"].settled
    return settled


def _median(groups: tuple[ReplicaGroup, ...], role: str) -> float:
    own = [group.per_instance_tps for group in groups if group.limited == role]
    return float(np.median(own)) if own else math.nan


def _held_back(groups: tuple[ReplicaGroup, ...]) -> dict[str, int]:
    return {role: sum(g.windows for g in groups if g.limited == role) for role in ROLES}


def _value(groups: tuple[ReplicaGroup, ...], mix: float) -> tuple[float, ReplicaRatio | None]:
    """Return mix · β ÷ α, NaN with the refusal where a side was not limited for long enough."""
    windows = _held_back(groups)
    short = [role for role in ROLES if windows[role] < EVENTS_MIN]
    if len(short) == 2:
        text = "neither pool was held back by a backlog for long, so nothing shows what they can do"
        return math.nan, _refused("never_limited", text)
    if short:
        other = "decode" if short == ["prefill"] else "prefill"
        text = f"only {other} was ever held back: the history shows one side of the ratio"
        return math.nan, _refused("one_side", text)
    return mix * _median(groups, "decode") / _median(groups, "prefill"), None


def _bound(
    frame: ServiceFrame, rows: Mapping[str, RoleRows], groups: tuple[ReplicaGroup, ...], mix: Mix
) -> tuple[float | None, float | None]:
    """Return (at_least, at_most): the role never held back can do at least what it was seen to do."""
    windows = _held_back(groups)
    limited = {role for role in ROLES if windows[role] >= EVENTS_MIN}
    if len(limited) != 1:
        return None, None
    (side,) = limited
    other = "decode" if side == "prefill" else "prefill"
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = frame.served_values(other) / rows[other].instances
    seen = seen[np.isfinite(seen) & _settled(rows)]
    if not seen.size:
        return None, None
    most, low_high = float(np.quantile(seen, HIGHEST_QUANTILE)), percentile_interval(mix.draws)
    low, high = low_high if all(map(math.isfinite, low_high)) else (mix.value, mix.value)
    if side == "prefill":
        return low * most / _median(groups, "prefill"), None
    return None, high * _median(groups, "decode") / most


def with_replica_ratio(ratio: PdRatio, found: ReplicaRatio | None) -> PdRatio:
    """Return the ratio with the one that the recorded counts show, and whether they agree.

    The value of the balance stays as it is. They agree where their 95 % intervals meet.
    """
    if found is None or found.value is None or found.ci is None or ratio.value is None or ratio.ci is None:
        return replace(ratio, from_replicas=found)
    agrees = found.ci[0] <= ratio.ci[1] and ratio.ci[0] <= found.ci[1]
    apart = found.value / ratio.value - 1.0
    text = (
        f"what the pools served while held back asks for {found.value:.2f},"
        f" {percent(apart, signed=True, whole=True)} against {ratio.value:.2f}: "
    )
    text += (
        "the two agree within their intervals"
        if agrees
        else "the two disagree; a throughput knows no limit on latency, the balance does, and its value stays"
    )
    return replace(ratio, from_replicas=replace(found, agrees=agrees, text=text))
