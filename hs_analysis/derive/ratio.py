"""Prefill instances per decode instance: balance, drift, floor, or a bound from the side that is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis import evidence
from hs_analysis.derive.capacity import GATES
from hs_analysis.derive.capacity_laws import log_interval
from hs_analysis.derive.constants import NEAR_BEST
from hs_analysis.derive.demand import instant
from hs_analysis.derive.format import RATIO_COLLECT, TESTABLE
from hs_analysis.derive.mix import DRIFT_SPREAD, Mix, Stretch, fixed_costs, movers, movers_text
from hs_analysis.derive.targets import LoadTarget
from hs_analysis.schema.aligned import HIT_RATE_TEXT, ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import DECILES, DEMAND_QUANTILE, SYSTEMATIC_SHARE
from hs_analysis.schema.results import PLAN_TEST, Interval, PdRatio, RatioWindow, Reason, Refusal
from hs_analysis.statistics.resampling import block_length, moving_block_indices, percentile_interval


def ratio_of(
    frame: ServiceFrame,
    targets: dict[str, LoadTarget],
    mix: Mix | None,
    rng: np.random.Generator,
) -> PdRatio:
    """Return the ratio of a service.

    The value is the balance of the two capacities under the load-weighted mix: of the two targets, where a
    capacity is only a floor. Where one value can't be held through the day, because the mix moves or a
    capacity is a floor, `one_primary_bound` stands beside it: what the 95 % quantile of the hourly mix needs.
    Refused where the load of either pool stood still or was recorded too shortly: nothing then says what
    another load would ask for.

    Parameters
    ----------
    frame
        The service, for its pools and recorded sizes.
    targets
        Target of each pool.
    mix
        Its mix, None where the pools have no common unsaturated rows.
    rng
        Source of the resampled stretches of a floor.
    """
    link = evidence.path(frame.service, "derive", "pd_ratio")
    impossible = _impossible(targets, mix)
    if impossible is not None or mix is None:
        sides = bounds(targets["prefill"], targets["decode"], mix) if mix is not None else (None, None)
        ratio = _refused(impossible, sides, link)
    else:
        balance = _Balance.of(targets["prefill"], targets["decode"])
        ratio = _moved(_from_mix(targets, mix, rng, balance), frame, balance, mix, link)
        ratio = replace(ratio, integer_pairs=_pairs(frame, ratio))
    return ratio


def ratio_refusals(ratio: PdRatio, targets: Mapping[str, LoadTarget]) -> tuple[Refusal, ...]:
    """Return what would pin a ratio that is not `ok`: of floors, what the capacities that are one ask for."""
    if ratio.status == "ok" or ratio.reason is None:
        return ()
    code, floors = ratio.reason.code, _floors(targets.values())
    collect = RATIO_COLLECT[code].format(open=" and then of ".join(one.role for one in floors))
    if code == "capacity_floor" and all(one.reason and one.reason.code in TESTABLE for one in floors):
        collect += PLAN_TEST
    return (Refusal("pd_ratio", code, ratio.reason.text, collect),)


def _floors(targets: Iterable[LoadTarget]) -> list[LoadTarget]:
    return [target for target in targets if target.status == "floor"]


@dataclass(frozen=True)
class _Balance:
    """Decode ÷ prefill capacity (targets, where one is a floor): the factor from a mix to a ratio.

    Attributes
    ----------
    known
        Whether both capacities are.
    scale, draws, systematic
        The factor, its bootstrap draws, and its systematic term.
    headroom
        Of the prefill target [ratio].
    """

    known: bool
    scale: float
    draws: Floats
    systematic: float
    headroom: float

    @classmethod
    def of(cls, prefill: LoadTarget, decode: LoadTarget) -> _Balance:
        known = prefill.fit.is_known and decode.fit.is_known
        systematic = SYSTEMATIC_SHARE * math.hypot(prefill.fit.systematic, decode.fit.systematic)
        draws = decode.fit.draws / prefill.fit.draws
        scale = (decode.fit.value or math.nan) / (prefill.fit.value or math.nan)
        if not known:
            # Targets differ from capacities by a constant factor each: head-room, and the lower end of an
            # interval.
            factor = (decode.value or math.nan) / (prefill.value or math.nan) / scale
            return cls(False, scale * factor, draws * factor, systematic, prefill.headroom)
        return cls(True, scale, draws, systematic, prefill.headroom)


def _moved(ratio: PdRatio, frame: ServiceFrame, balance: _Balance, mix: Mix, link: str) -> PdRatio:
    """Add which input moved the mix, and what holding one ratio costs."""
    found = movers(frame, mix.stretches)
    ratio = replace(ratio, evidence=link, moved_by=found)
    if ratio.value is None or not ratio.by_window:
        return ratio
    held = {"value": ratio.value}
    held |= {"band_low": ratio.band[0], "band_high": ratio.band[1]} if ratio.band else {}
    held |= {"one_primary_bound": ratio.one_primary_bound} if ratio.one_primary_bound else {}
    costs = fixed_costs(mix.stretches, balance.scale, held, balance.headroom)
    words = movers_text(found)
    if ratio.status == "drifting" and ratio.reason is not None and words:
        text = f"{ratio.reason.text}; what moved is {words}"
        ratio = replace(ratio, reason=replace(ratio.reason, text=text))
    return replace(ratio, fixed_costs=costs)


def _impossible(targets: dict[str, LoadTarget], mix: Mix | None) -> Reason | None:
    if "mixed" in targets and "prefill" not in targets:
        return Reason("single_pool", "one pool does prefill and decode: there is no ratio")
    missing = [role for role in ("prefill", "decode") if role not in targets]
    if missing:
        text = f"the input shows no {' and no '.join(missing)} instances, so there is nothing to balance"
        return Reason("one_role", text)
    if not np.isfinite(targets["prefill"].fit.labelled.rows.work).any():
        return Reason("no_prompt_tokens", "prompt tokens are not in the input, so prefill work is unknown")
    if mix is None:
        return Reason("no_common_rows", "no rows show the work of both pools while neither is saturated")
    return _stood_still(targets)


def _refused(reason: Reason | None, sides: tuple[float | None, float | None], link: str = "") -> PdRatio:
    return PdRatio(
        value=None, ci=None, status="refused", at_least=sides[0], at_most=sides[1], reason=reason,
        evidence=link,
    )  # fmt: skip


def _stood_still(targets: dict[str, LoadTarget]) -> Reason | None:
    """Say for which pool the load stood still or was recorded too shortly, None where it moved in both."""
    for role in ("prefill", "decode"):
        rows = targets[role].fit.labelled.rows
        gate = GATES[rows.kind](rows)
        if gate is not None:
            text = f"{role}: {gate.text}, so nothing says what the pools need at another load"
            return Reason(gate.code, text, gate.value, gate.limit)
    return None


def _unbalanced(prefill: LoadTarget, decode: LoadTarget) -> Reason | None:
    """Return why two pools with a mix have no ratio, None where they have one."""
    if prefill.fit.labelled.rows.hit_rate_unknown:
        text = f"{HIT_RATE_TEXT}, so how much work prefill has for each output token is not known"
        return Reason("hit_rate_unknown", text)
    if prefill.value is not None and decode.value is not None:
        return None
    side = "prefill" if prefill.value is None else "decode"
    text = f"the capacity of {side} is not known, so nothing can be balanced"
    return Reason("capacity_refused", text)


def _from_mix(targets: dict[str, LoadTarget], mix: Mix, rng: np.random.Generator, found: _Balance) -> PdRatio:
    prefill, decode = targets["prefill"], targets["decode"]
    at_least, at_most = bounds(prefill, decode, mix)
    reason = _unbalanced(prefill, decode)
    if reason is not None:
        return _refused(reason, (at_least, at_most))
    known, scale, scale_draws, systematic = found.known, found.scale, found.draws, found.systematic
    by_window = tuple(
        w for s in mix.stretches if (w := _window(s, scale, scale_draws, systematic, mix.noise)) is not None
    )
    value = mix.value * scale
    ci = log_interval(value, mix.draws * scale_draws, systematic)
    ratio = PdRatio(
        value=value, ci=ci, status="ok", at_least=None, at_most=None, reason=None, basis="balance",
        by_window=by_window,
    )  # fmt: skip
    if known and not mix.moves:
        return ratio
    if not known:
        ratio = replace(
            ratio, status="floor", at_least=at_least, at_most=at_most, reason=_floor_reason(prefill, decode)
        )
    bound, bound_ci = _one_primary_bound(value, mix, found, rng)
    ratio = replace(ratio, one_primary_bound=bound, one_primary_bound_ci=bound_ci)
    if not mix.moves:
        return ratio
    low, high = (float(end) for end in np.quantile(mix.busy, DECILES) * scale)
    band = (min(low, value), max(high, value))
    return replace(ratio, status="drifting", reason=_moves(mix, known), band=band)


def _one_primary_bound(
    value: float, mix: Mix, found: _Balance, rng: np.random.Generator
) -> tuple[float, Interval]:
    """Return what the 95 % quantile of the hourly mix needs, at least the balance, and its interval.

    Hours are drawn in blocks, as long as hours resemble each other.
    """
    if not mix.busy.size:
        return value, log_interval(value, mix.draws * found.draws, found.systematic)
    safe = float(np.quantile(mix.busy, DEMAND_QUANTILE)) * found.scale
    block = block_length(np.log(mix.busy), np.log(mix.busy))
    picks = moving_block_indices(mix.busy.size, block, found.draws.size, rng)
    draws = np.quantile(mix.busy[picks], DEMAND_QUANTILE, axis=1) * found.draws
    low, high = log_interval(safe, draws, found.systematic)
    bound = max(safe, value)
    return bound, (low, max(high, bound))


def bounds(prefill: LoadTarget, decode: LoadTarget, mix: Mix) -> tuple[float | None, float | None]:
    """Return (at_least, at_most) of the balanced ratio mix · C_D ÷ C_P from what is known of either capacity.

    A capacity that is known counts with the far end of its interval, a floor bounds it from below only, a
    lowest load that already breaks the limit from above only; the mix with its interval. None where a side
    is open.
    """
    low, high = percentile_interval(mix.draws)
    low, high = (low, high) if math.isfinite(low) else (mix.value, mix.value)
    p, d = prefill.fit, decode.fit
    if prefill.status == "floor" and decode.status == "floor":
        return None, None
    at_least = low * d.low / p.high if d.low and p.high else None
    at_most = high * d.high / p.low if d.high and p.low else None
    return at_least, at_most


def _window(
    stretch: Stretch, scale: float, draws: Floats, systematic: float, noise: float
) -> RatioWindow | None:
    if not math.isfinite(stretch.mix):
        return None
    value = stretch.mix * scale
    ci = log_interval(
        value, draws * stretch.mix, math.hypot(systematic, noise if math.isfinite(noise) else 0.0)
    )
    return RatioWindow(instant(stretch.start_s), instant(stretch.end_s), value, ci)


def _moves(mix: Mix, known: bool) -> Reason:
    of = "the two capacities" if known else "the two targets, of which a capacity is a floor,"
    factor = math.exp(mix.spread)
    text = f"the mix moves by a factor of {factor:.2f} between its deciles, so no single ratio is right"
    text = f"{text}; the value is the balance of {of} under the load-weighted mix"
    return Reason("mix_moves", text, factor, math.exp(DRIFT_SPREAD))


def _floor_reason(prefill: LoadTarget, decode: LoadTarget) -> Reason:
    floors = [target.role for target in _floors((prefill, decode))]
    value = "the value is the balance of the two targets under the load-weighted mix"
    if any(one.reason is not None and one.reason.code == "undecided_edge" for one in (prefill, decode)):
        said = f"whether {' and '.join(floors)} broke the limit is not known from the histogram's buckets"
        text = f"{said}: {value}"
        return Reason("undecided_edge", text)
    return Reason("capacity_floor", f"the capacity of {' and '.join(floors)} is a floor: {value}")


def _pairs(frame: ServiceFrame, ratio: PdRatio) -> tuple[tuple[int, int], ...]:
    """Return the best splits of the recorded total, best first, then the best of one less and one more."""
    sizes = [float(np.nanmedian(frame.values("instances", role))) for role in ("prefill", "decode")]
    total = round(sum(sizes))
    if ratio.value is None or total < 2:
        return ()
    found = list(integer_pairs(total, ratio.value))
    for other in (total - 1, total + 1):
        found += [pair for pair in integer_pairs(other, ratio.value)[:1] if pair not in found]
    return tuple(found)


def integer_pairs(total: int, ratio: float) -> tuple[tuple[int, int], ...]:
    """Return the splits (P, D) of `total` instances that serve within 3 % of the best one, best first.

    A split serves min(P ÷ ratio, D) in units of a decode instance's capacity; ties go to more decode.
    """
    splits = [(min(p / ratio, total - p), p) for p in range(1, total)]
    if not splits:
        return ()
    best = max(splits)[0]
    near = sorted((-served, p) for served, p in splits if served >= NEAR_BEST * best)
    return tuple((p, total - p) for _, p in near)
