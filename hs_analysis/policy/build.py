"""From what was derived to a policy: which number goes where, and what stands in where no data gave one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.controllers.heteroscale import GpuLimit
from hs_analysis.policy.candidates import candidate_primaries, signal_threshold
from hs_analysis.policy.constants import (
    LEAST_INSTANCES,
    MAX_OVER_OBSERVED,
    OBSERVE_WINDOWS,
    SCALE_IN_RATIO,
    SCALE_OUT_RATIO,
)
from hs_analysis.policy.guards import guards_of
from hs_analysis.policy.limits import limited, shares_of, together_of
from hs_analysis.policy.model import (
    FLOOR,
    Bounds,
    Cooldown,
    Guard,
    Hysteresis,
    MixSplit,
    Mode,
    Policy,
    Primary,
    Ratio,
    SignalReading,
    SoftScaleIn,
    Step,
    Target,
)
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.constants import (
    RESTS_S,
    SCRAPES_PER_WINDOW,
    SHORTEST_S,
    SUSTAINED_S,
)
from hs_analysis.schema.results import WITHOUT_SERVICE, Derived, PdRatio, SignalVerdict, Threshold
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.queueing import size_factor

__all__ = ["build_policy", "candidate_primaries", "policy_of_test", "work_target"]

WEIGHED = ("throughput", "load")  # families of signals that count work: a faster GPU takes more of it
LARGEST_PAIR = 16  # largest decode count tried for a whole-number pair


def build_policy(
    frame: ServiceFrame,
    derived: Derived,
    verdicts: Sequence[SignalVerdict],
    primaries: tuple[tuple[str, str], ...],
    settings: Settings,
    promql: Mapping[tuple[str, str], str],
    meta: Mapping[str, Any],
) -> Policy:
    """Assemble the policy of one service.

    Parameters
    ----------
    frame
        The window the numbers were fitted on; gives bounds, units and GPU types.
    derived, verdicts
        Targets, dead bands, ratio and refusals; which signals may act as guards.
    primaries
        (signal, role) that size pools; empty for a policy on hold. One sizes both pools through the ratio.
    settings
        SLO limits, and start-up times; one that is not given is the one that was measured.
    promql
        Query per (signal, role); a signal without one gets an empty query.
    meta
        Optional keys ``window`` (dict), ``inputs_sha256``, ``run``, ``tool_version``, ``unit`` (group or
        pod), ``replay`` (dict) and ``unserved`` (sentences on instances of the service's namespace that
        belong to no service).

    Returns
    -------
    Policy
        Mode ``hold`` when a primary has no target; then ``refusals`` say why. `policy.decision` says how
        far to trust it.
    """
    sized = tuple(_primary(frame, derived, verdicts, key, promql) for key in primaries)
    targets_known = bool(sized) and all(p.target_per_instance.value for p in sized)
    mode: Mode = "metric" if targets_known else "hold"
    ratio = _ratio(derived, primaries) if targets_known else measured_ratio(derived.pd_ratio)
    guards = guards_of(frame, verdicts, settings, promql)
    draft = Policy(
        service=frame.service, mode=mode, unit=str(meta.get("unit", "pod")), primaries=sized, pd_ratio=ratio,
        hysteresis={}, cooldown={}, step=Step(), guards=guards, soft_scale_in=_soft(guards, settings),
        bounds=bounds_of(frame, derived, settings), gpus=gpus_of(frame, derived, settings),
        placement={"affinity": None, "gpu_types": {r: list(frame.gpu_types.get(r, ())) for r in frame.pools}},
        refusals=_unserved(meta) + _refusals(derived, mode, primaries), window=dict(meta.get("window", {})),
        inputs_sha256=str(meta.get("inputs_sha256", "")), run=str(meta.get("run", "")),
        tool_version=str(meta.get("tool_version", "")), window_s=frame.window_s,
        start_up_s=derived.measured_startup_s | settings.startup_s,
        reading=reading_of(frame, primaries),
        replay=dict(meta.get("replay", {})),
    )  # fmt: skip
    return _with_bands(draft, derived)


def policy_of_test(name: str, derived: Derived, meta: Mapping[str, Any]) -> Policy:
    """Return the policy of a ratio test in benchmarks: on hold, with the splits that were measured.

    No load was seen and no metric of a fleet, so that nothing says what to follow, when to act or how many
    instances there may be.

    Parameters
    ----------
    name
        What the points of the test have in common.
    derived
        Its ratio and what it leaves open.
    meta
        Keys ``inputs_sha256``, ``run`` and ``tool_version``.
    """
    return Policy(
        service=name, mode="hold", unit="pod", primaries=(), pd_ratio=measured_ratio(derived.pd_ratio),
        hysteresis={}, cooldown={}, step=Step(), guards=(), soft_scale_in=None, bounds={},
        placement={"affinity": None, "gpu_types": {}},
        refusals=(*_refusals(derived, "metric", ()), f"no_primary: {NO_LOAD}"),
        window={"start": None, "end": None, "step_s": None},
        inputs_sha256=str(meta["inputs_sha256"]), run=str(meta["run"]),
        tool_version=str(meta["tool_version"]),
    )  # fmt: skip


NO_LOAD = "no load was recorded, so that no signal can be judged and no target set"
"""Why a ratio test alone makes no policy."""


def work_target(derived: Derived, role: str, settings: Settings) -> float | None:
    """Return the work one instance of a role should carry [tokens/s]; None when no capacity is known.

    The threshold of the signal that capacity is measured in, else the head-room share of its lower end.
    """
    capacity = derived.capacity_of(role)
    if capacity is None or not capacity.per_instance:
        return None
    threshold = signal_threshold(derived, capacity.signal, role)
    if threshold is not None and threshold.target_per_instance:
        return threshold.target_per_instance
    lower = capacity.ci[0] if capacity.ci else capacity.per_instance
    return settings.headroom_ratio * lower


def _primary(
    frame: ServiceFrame,
    derived: Derived,
    verdicts: Sequence[SignalVerdict],
    key: tuple[str, str],
    promql: Mapping[tuple[str, str], str],
) -> Primary:
    signal, role = key
    threshold = signal_threshold(derived, signal, role)
    info = frame.info(signal, role) or frame.info(signal, "service")
    verdict = next((v for v in verdicts if v.signal == signal and v.role in (role, "service")), None)
    query = promql.get(key) or promql.get((signal, "service"), "")
    target = Target(None, status="refused")
    if threshold is not None:
        target = Target(
            threshold.target_per_instance, threshold.headroom_ratio, threshold.capacity, threshold.status,
            threshold.evidence,
        )  # fmt: skip
    source = verdict.source if verdict else info.source if info else ""
    pool = info.pool if info else "sum"
    weights = derived.gpu_weights(role) if info is not None and info.family in WEIGHED else {}
    return Primary(
        signal,
        role,
        info.unit if info else "",
        query,
        source,
        target,
        "sum" if pool == "sum" else "mean",
        weights,
    )


def _ratio(derived: Derived, primaries: tuple[tuple[str, str], ...]) -> Ratio | None:
    """Return the ratio by which the only primary sizes the other pool; None where nothing would keep one.

    With its interval (the band, when it drifts), the nearest pair of whole numbers, and what a pod of each
    GPU type counts in the pool that follows.
    """
    found = derived.pd_ratio
    follower = (
        {"decode": "prefill", "prefill": "decode"}.get(primaries[0][1]) if len(primaries) == 1 else None
    )
    if follower is None or found.value is None:
        tested = measured_ratio(found)
        return None if tested is None else _unkept(tested)
    low, high = _ends(found)
    half = (high - low) / 2 if low is not None and high is not None else None
    if found.by_mix:
        half = None  # the splits tested on either side serve less: nothing may stray as far as them
    if found.integer_pairs:
        prefill, decode = found.integer_pairs[0]
    else:
        prefill, decode = _nearest_pair(found.value, low, high)
    return Ratio(
        prefill, decode, found.value, low, high, half, found.status, found.evidence,
        derived.gpu_weights(follower), _bound(found, follower, low), _splits(found),
    )  # fmt: skip


def measured_ratio(found: PdRatio) -> Ratio | None:
    """Return the ratio as a ratio test measured it, for a policy that keeps none; None without a test."""
    if found.value is None or not found.by_mix:
        return None
    low, high = _ends(found)
    best = found.by_mix[0]
    prefill, decode = (best.prefill, best.decode) if len(found.by_mix) == 1 else (None, None)
    return Ratio(
        prefill, decode, found.value, low, high, None, found.status, found.evidence, by_mix=_splits(found)
    )


def _ends(found: PdRatio) -> tuple[float | None, float | None]:
    """Return the range of a ratio: band, interval, or the nearest splits of a ratio test that serve less."""
    if found.basis == "sweep" and found.status != "drifting":
        return found.at_least, found.at_most
    interval = (found.band if found.status == "drifting" else None) or found.ci or found.band
    return interval or (None, None)


def _unkept(tested: Ratio) -> Ratio:
    """Return the splits measured without a value: each pool has a signal of its own."""
    return replace(tested, prefill=None, decode=None, value=None, low=None, high=None)


def _splits(found: PdRatio) -> tuple[MixSplit, ...]:
    return tuple(
        MixSplit(
            one.isl, one.osl, one.prefill, one.decode, one.prefill_tps_per_instance,
            one.decode_tps_per_instance,
        )
        for one in found.by_mix
    )  # fmt: skip


def _bound(found: PdRatio, follower: str, low: float | None) -> float | None:
    """Return what is kept in place of the value, so that the pool that follows is never the short one.

    Prefill that follows needs the bound; decode that follows needs the low end of where the balance lies,
    since its count is that of prefill ÷ ratio. None where the value itself can be held.
    """
    if found.one_primary_bound is None:
        return None
    return found.one_primary_bound if follower == "prefill" else low


def _nearest_pair(value: float, low: float | None, high: float | None) -> tuple[int, int]:
    """Return the smallest whole-number pair whose ratio lies in the interval, else the nearest tried."""
    pairs = [(max(1, round(value * decode)), decode) for decode in range(1, LARGEST_PAIR + 1)]
    if low is not None and high is not None:
        inside = [pair for pair in pairs if low <= pair[0] / pair[1] <= high]
        if inside:
            return inside[0]
    return min(pairs, key=lambda pair: (abs(pair[0] / pair[1] - value), pair[1]))


def _soft(guards: tuple[Guard, ...], settings: Settings) -> SoftScaleIn | None:
    """Watch instances before they end; without a guard there is nothing to watch."""
    if not guards:
        return None
    condition = " or ".join(f"{g.signal} > {g.slo_s:g} s" for g in guards)
    return SoftScaleIn(OBSERVE_WINDOWS * settings.slo.window_s, condition)


def bounds_of(frame: ServiceFrame, derived: Derived, settings: Settings) -> dict[str, Bounds]:
    """Twice what was ever seen, or what the highest demand needs at the target where that is more.

    At least 2, or 1 where one instance was seen to be enough: a pool of one carries less than each of many
    do, since nothing evens out its arrivals. For the same reason a prefill pool with a floor keeps the size
    at which an instance loses no more than the head-room against the pool that carried the floor. The user's
    limits come last; where GPUs are limited the maxima of all pools fit together, since objects that scale
    pools apart know nothing of each other.
    """
    bounds = _alone(frame, derived, settings)
    if settings.gpus_limit is not None:
        peak = {role: _need(frame, derived, role, settings) for role in bounds}
        bounds = shares_of(settings.gpus_limit, bounds, frame.gpus_per_instance, peak)
    return bounds


def gpus_of(frame: ServiceFrame, derived: Derived, settings: Settings) -> GpuLimit | None:
    """Return the user's limit on GPUs for a controller that steps all pools at once; None without one."""
    if settings.gpus_limit is None:
        return None
    return together_of(settings.gpus_limit, _alone(frame, derived, settings), frame.gpus_per_instance)


def _alone(frame: ServiceFrame, derived: Derived, settings: Settings) -> dict[str, Bounds]:
    """Return the bounds of each pool while the others are at their least."""
    bounds = {}
    for role in frame.pools:
        counts = frame.table[column("instances", role)].drop_nulls().drop_nans()
        seen = counts.filter(counts > 0)
        low = math.floor(_number(seen.min())) if seen.len() else 1
        high = math.ceil(_number(seen.max())) if seen.len() else 1
        most = _need(frame, derived, role, settings)
        least_instances, provenance = 1 if low <= 1 else LEAST_INSTANCES, "default"
        capacity = derived.capacity_of(role)
        if role == "prefill" and capacity is not None and capacity.status == "floor" and seen.len():
            kept = min(low, _evened_out(_number(seen.mean()), settings))
            if kept > least_instances:
                least_instances, provenance = kept, FLOOR
        most_instances = max(MAX_OVER_OBSERVED * high, math.ceil(most), least_instances)
        bounds[role] = Bounds(least_instances, most_instances, provenance)
    return limited(bounds, settings, frame.gpus_per_instance)


def reading_of(frame: ServiceFrame, primaries: Sequence[tuple[str, str]]) -> SignalReading:
    """Return how far back the signals are read: the newest minute, but no less than four of their scrapes."""
    infos = [frame.info(signal, role) or frame.info(signal, "service") for signal, role in primaries]
    scrapes = [info.interval_s for info in infos if info is not None and math.isfinite(info.interval_s)]
    window_s = max([SHORTEST_S, frame.window_s, *(SCRAPES_PER_WINDOW * every for every in scrapes)])
    return SignalReading(float(math.ceil(window_s)), max(SUSTAINED_S, window_s))


def _evened_out(usual: float, settings: Settings) -> int:
    """Return the least pool whose instances carry the head-room's share of what those of the usual one do."""
    sizes = np.arange(1.0, math.ceil(usual) + 1.0)
    enough = size_factor(sizes, usual) >= settings.headroom_ratio
    return int(sizes[np.argmax(enough)])


def _need(frame: ServiceFrame, derived: Derived, role: str, settings: Settings) -> float:
    """Return the most instances that the demand of an averaging window needed at the target, 0 if unknown."""
    target = work_target(derived, role, settings)
    name = column("offered_tps", role)
    if target is None or name not in frame.table.columns:
        return 0.0
    rows = max(1, round(SUSTAINED_S / frame.window_s))
    means = frame.table.select(pl.col(name).cast(pl.Float64).rolling_mean(rows).over("capture")).to_series()
    known = means.drop_nulls().drop_nans()
    return 0.0 if known.is_empty() else _number(known.max()) / target


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _with_bands(policy: Policy, derived: Derived) -> Policy:
    """Add dead band and cooldown, each pool's own.

    A pool that follows a ratio has those of its own work: its size and start-up time are not its leader's.
    Where none are known it moves with its leader's.
    """
    leaders = {p.role: signal_threshold(derived, p.signal, p.role) for p in policy.primaries}
    only = next(iter(leaders.values()), None)
    found = {role: leaders.get(role) or _own_work(derived, role) or only for role in policy.sized_roles}
    return replace(
        policy,
        hysteresis={role: _band(threshold) for role, threshold in found.items()},
        cooldown={role: _cooldown(threshold) for role, threshold in found.items()},
    )


def _own_work(derived: Derived, role: str) -> Threshold | None:
    """Return the threshold of a pool's own work; None where its band and cooldowns are not known."""
    capacity = derived.capacity_of(role)
    found = signal_threshold(derived, capacity.signal, role) if capacity else None
    known = found is not None and found.scale_out_ratio is not None and found.cooldown_in_s is not None
    return found if known else None


def _band(threshold: Threshold | None) -> Hysteresis:
    if threshold is None or threshold.scale_out_ratio is None or threshold.scale_in_ratio is None:
        return Hysteresis(SCALE_OUT_RATIO, SCALE_IN_RATIO, "default")
    return Hysteresis(threshold.scale_out_ratio, threshold.scale_in_ratio, threshold.evidence)


def _cooldown(threshold: Threshold | None) -> Cooldown:
    """Return the rests of a threshold; the defaults, marked as such, where it has none."""
    out_s = threshold.cooldown_out_s if threshold else None
    in_s = threshold.cooldown_in_s if threshold else None
    if threshold is not None and out_s is not None and in_s is not None:
        return Cooldown(out_s, in_s, threshold.evidence)
    return Cooldown(RESTS_S[0] if out_s is None else out_s, RESTS_S[1] if in_s is None else in_s, "default")


def _unserved(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return why a policy may lack a pool."""
    return tuple(f"{WITHOUT_SERVICE}: {text}" for text in meta.get("unserved", ()))


def _refusals(derived: Derived, mode: Mode, primaries: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    sentences = [f"{r.code}: {r.text}" for r in derived.refusals]
    if mode == "hold":
        missing = [f"{s}@{r}" for s, r in primaries]
        why = f"no target for {', '.join(missing)}" if missing else "no signal may size a pool"
        sentences.append(f"no_primary: {why}; counts stay as they are")
    return tuple(sentences)
