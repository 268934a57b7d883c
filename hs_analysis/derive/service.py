"""The derive stage of one service: demand, capacity, thresholds and ratio, with the tables behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis import evidence
from hs_analysis.derive.backtest_coverage import realised_coverage
from hs_analysis.derive.capacity import CapacityFit, fit_capacity
from hs_analysis.derive.capacity_laws import violating
from hs_analysis.derive.constants import CARRY_OVER_ROWS, LEVEL_GROUPS, REACH
from hs_analysis.derive.demand import demand_of, prompt_work
from hs_analysis.derive.format import MIXED_TYPES_COLLECT, capacity_refusal
from hs_analysis.derive.gpu_speed import in_equivalents, type_ratios, type_speeds, with_pods
from hs_analysis.derive.gpu_types import is_pool_mean, type_capacities
from hs_analysis.derive.mix import Stretch, mix_of, stretches_of
from hs_analysis.derive.profiles import Profile
from hs_analysis.derive.ratio import ratio_of, ratio_refusals
from hs_analysis.derive.ratio_from_replicas import replica_ratio, with_replica_ratio
from hs_analysis.derive.ratio_from_sweeps import (
    with_benchmarks,
    with_captured_sweeps,
    with_undeclared_test,
)
from hs_analysis.derive.rows import role_rows, work_of
from hs_analysis.derive.split_sweeps import capture_sweeps
from hs_analysis.derive.startup import startups_of, with_measured
from hs_analysis.derive.targets import LoadTarget, target_of, with_calm, with_ramp_headroom
from hs_analysis.derive.thresholds import thresholds_of, type_thresholds
from hs_analysis.derive.versions import ActiveVersion, active_version
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import BLOCK_S, GROUP_MIN
from hs_analysis.schema.frames import CAPACITY_CURVE, CAPACITY_POINTS, MIX, check, empty
from hs_analysis.schema.results import (
    Capacity,
    Demand,
    Derived,
    GpuSpeed,
    PdRatio,
    Refusal,
    SignalVerdict,
    Startup,
)
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.schema.sweeps import BenchSpeed, SweepResult
from hs_analysis.statistics.isotonic import monotone_fit
from hs_analysis.statistics.resampling import moving_block_indices

CURVE_POINTS = 100
"""Grid points of a fitted curve: smooth at the width of a page."""

CURVE_BINS = 40
"""Load bins of a curve where no law was fitted."""


def _nullable(values: Floats) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64).fill_nan(None)


def _frame(columns: dict[str, Any], schema: pa.Schema) -> pl.DataFrame:
    return check(pl.DataFrame(columns, schema=empty(schema).schema), schema)


def _stack(frames: list[pl.DataFrame], schema: pa.Schema) -> pl.DataFrame:
    return pl.concat([empty(schema), *frames])


def capacity_points(frame: ServiceFrame, fits: dict[str, CapacityFit], slo: Slo) -> pl.DataFrame:
    """Return one row per role and window: load per instance, shares over the limit, verdict, used or not.

    `violates` is null where one histogram bucket about the limit holds all samples, or the share is unknown.
    """
    frames = []
    for role, fit in fits.items():
        rows = fit.labelled.rows
        fails = violating(rows.over_least, slo)
        held = ~violating(rows.over, slo) & np.isfinite(rows.over)
        columns = {
            "service": [frame.service] * rows.load.size,
            "role": [role] * rows.load.size,
            "capture": frame.table["capture"],
            "t": frame.table["t"],
            "load_per_instance": _nullable(rows.sustained),
            "over_ratio": _nullable(rows.over),
            "over_least_ratio": _nullable(rows.over_least),
            "violates": [True if f else False if h else None for f, h in zip(fails, held, strict=True)],
            "used": fit.labelled.kept,
        }
        frames.append(_frame(columns, CAPACITY_POINTS))
    return _stack(frames, CAPACITY_POINTS)


def capacity_curve(frame: ServiceFrame, fits: dict[str, CapacityFit], slo: Slo) -> pl.DataFrame:
    """Return the fitted share over load that capacity was read off, per role.

    The logistic law's own curve where it was fitted; where the law is load levels the share of samples over
    the limit that it fitted; else a monotone fit of violating windows in load bins.
    No rows for a role without judged windows.
    """
    frames = []
    for role, fit in fits.items():
        load = fit.labelled.rows.sustained[fit.labelled.kept]
        load = load[load > 0]
        if load.size < 2 or not load.max() > load.min():
            continue
        grid = np.linspace(load.min(), max(load.max(), fit.capacity.per_instance or 0.0), CURVE_POINTS)
        columns = {
            "service": [frame.service] * CURVE_POINTS,
            "role": [role] * CURVE_POINTS,
            "load_per_instance": grid,
            "violation_probability": _probability(fit, grid, slo),
        }
        frames.append(_frame(columns, CAPACITY_CURVE))
    return _stack(frames, CAPACITY_CURVE)


def _probability(fit: CapacityFit, grid: Floats, slo: Slo) -> Floats:
    crossing = fit.crossing
    if crossing is not None and crossing.slope is not None:
        allowed = slo.allowed_window_share
        odds = math.log(allowed / (1.0 - allowed)) + crossing.slope * np.log(grid / crossing.load)
        curve: Floats = 0.5 * (1.0 + np.tanh(odds / 2.0))
        return curve
    labelled = fit.labelled
    known = labelled.kept & np.isfinite(labelled.rows.sustained)
    if fit.capacity.method.startswith("load levels"):
        bins = max(2, min(LEVEL_GROUPS, int(known.sum()) // GROUP_MIN))
        share = labelled.rows.over[known]
        return monotone_fit(labelled.rows.load[known], share, bins=bins, increasing=True).predict(grid)
    bad = labelled.bad[known].astype(float)
    bins = min(CURVE_BINS, max(2, bad.size // 3))
    return monotone_fit(labelled.rows.sustained[known], bad, bins=bins, increasing=True).predict(grid)


def mix_table(frame: ServiceFrame, stretches: tuple[Stretch, ...], ratio: PdRatio) -> pl.DataFrame:
    """Return one row per stretch: mean work of each role, and the balanced ratio or null."""
    captures = frame.captures()
    balanced = iter(ratio.by_window)
    values = [
        next(balanced).value if ratio.by_window and math.isfinite(s.mix) else math.nan for s in stretches
    ]
    columns = {
        "service": [frame.service] * len(stretches),
        "capture": [captures[s.capture] for s in stretches],
        "start": [round(s.start_s * 1e6) for s in stretches],
        "end": [round(s.end_s * 1e6) for s in stretches],
        "prefill_tps": _nullable(np.array([s.prefill for s in stretches], dtype=float)),
        "decode_tps": _nullable(np.array([s.decode for s in stretches], dtype=float)),
        "ratio": _nullable(np.array(values, dtype=float)),
    }
    return _frame(columns, MIX)


def history_stretches(frame: ServiceFrame) -> tuple[Stretch, ...]:
    """Return the stretches of a service without a mix: the pool's work and the prefill work that is known."""
    pool = "mixed" if "mixed" in frame.pools else "decode"
    prefill = prompt_work(frame) if pool == "mixed" else work_of(frame, "prefill")[0]
    return stretches_of(frame, prefill, work_of(frame, pool)[0])


@dataclass(frozen=True)
class DeriveResult:
    """What the derive stage says of one service, and the tables its charts draw.

    Attributes
    ----------
    derived
        Demand, capacity, thresholds, ratio and refusals.
    capacity_points, capacity_curve, mix
        Frames under the contracts of the same names in ``schema.tables``.
    """

    derived: Derived
    capacity_points: pl.DataFrame
    capacity_curve: pl.DataFrame
    mix: pl.DataFrame


def derive_service(
    frame: ServiceFrame,
    verdicts: tuple[SignalVerdict, ...],
    settings: Settings,
    typed: pl.DataFrame | None = None,
    instance_startups: pl.DataFrame | None = None,
    profiles: Sequence[Profile] = (),
    *,
    bench: Sequence[BenchSpeed] = (),
    tests: Sequence[SweepResult] = (),
    versions: pl.DataFrame | None = None,
    rolling: bool = False,
) -> DeriveResult:
    """Derive demand, capacity at the SLO, thresholds and the P/D ratio of one service.

    Parameters
    ----------
    frame
        The aligned service.
    verdicts
        What the study found: every proportional signal gets a threshold, as the served token rates do.
    settings
        SLO, start-up times, head-room, draws and seed; equal seeds give equal results.
    typed
        Rows of the contract SIGNALS of this service and window that have a GPU type; None without any.
    instance_startups
        Rows of the contract BIRTHS; None when they were not looked for.
    profiles
        Of one instance per GPU type, to weigh the types of a pool that mixes them.
    bench
        How the GPU types of benchmarks compare, where profiles and the history don't tell.
    tests
        Answers of the ratio tests in benchmarks: those of the service's model may give its ratio.
    versions
        Rows of the contract VERSIONS: capacities, targets, the mix and the ratio speak of the version that
        runs at the end (`active_version`), demand and growth of the whole window; None when not looked for.
    rolling
        Whether to check the intervals of the capacities on later blocks of the history, which takes a fit
        a block.
    """
    active = ActiveVersion() if versions is None else active_version(frame, versions)
    startups: tuple[Startup, ...] = ()
    if instance_startups is not None:
        startups = startups_of(frame, active.instance_startups(instance_startups))
    effective = with_measured(settings, startups)
    seeds = np.random.SeedSequence(settings.seed).spawn(2 + len(frame.pools))
    resamples = _resamples(frame, settings, np.random.default_rng(seeds[0]))
    pools = _fit_pools(frame, typed, active, effective, resamples, seeds[2:], profiles, bench)
    frame, fits = pools.frame, pools.fits
    if rolling:
        fits = {role: _checked(fit, frame, active, effective) for role, fit in fits.items()}
    targets = {role: target_of(fit, effective) for role, fit in fits.items()}
    thresholds, unset = thresholds_of(frame, verdicts, targets, settings, startups, active)
    common = active.both(frame)
    mix = mix_of(common, resamples) if {"prefill", "decode"} <= set(targets) else None
    ratio = ratio_of(common, targets, mix, np.random.default_rng(seeds[1]))
    ratio = _with_tests(ratio, frame, tests, settings.slo)
    rows = {role: fit.labelled.rows for role, fit in fits.items()}
    ratio = with_replica_ratio(ratio, replica_ratio(common, rows, mix, resamples))
    ratio = replace(ratio, by_gpu_type=type_ratios(ratio.value, pools.speeds))
    demand, censored = demand_of(frame)
    capacity = (*(fit.capacity for fit in fits.values()), *pools.typed)
    open_ = (*_capacity_refusals(frame, fits, capacity), *ratio_refusals(ratio, targets), *unset, *censored)
    derived = Derived(
        capacity=capacity,
        demand=demand,
        thresholds=thresholds + type_thresholds(thresholds, pools.typed, frame.service, effective),
        pd_ratio=ratio,
        refusals=tuple(active.collect(one, rows, frame) for one in open_),
        startup=startups,
        gpu_speeds=with_pods(pools.speeds, _needs(demand, targets)),
        releases=active.releases,
    )
    points, curve = capacity_points(frame, fits, settings.slo), capacity_curve(frame, fits, settings.slo)
    stretches = mix.stretches if mix is not None else history_stretches(frame)
    return DeriveResult(derived, points, curve, mix_table(frame, stretches, ratio))


@dataclass(frozen=True)
class _Pools:
    """The pools of a service, with what an instance of each carries.

    ``frame`` counts instances in equivalents where a pool mixed GPU types; ``typed`` are capacities per type.
    """

    frame: ServiceFrame
    fits: dict[str, CapacityFit]
    typed: tuple[Capacity, ...] = ()
    speeds: tuple[GpuSpeed, ...] = ()


def _fit_pools(
    frame: ServiceFrame,
    typed: pl.DataFrame | None,
    active: ActiveVersion,
    settings: Settings,
    resamples: Integers,
    seeds: Sequence[np.random.SeedSequence],
    profiles: Sequence[Profile],
    bench: Sequence[BenchSpeed],
) -> _Pools:
    """Fit the pools over all GPU types and by type; those whose mix of types moved again, in equivalents."""
    fits = _capacities(frame, active, settings, resamples, seeds)
    if typed is None:
        return _Pools(frame, fits)
    typed = active.typed(frame, typed)
    by_type: tuple[Capacity, ...] = ()
    for fit, seed in zip(fits.values(), seeds, strict=True):
        rng = np.random.default_rng(seed.spawn(1)[0])
        by_type += type_capacities(frame, typed, fit, active, settings, resamples, rng)
    speeds = type_speeds(frame, typed, by_type, profiles, settings, resamples, bench)
    frame, moved = in_equivalents(frame, typed, speeds)
    if moved:
        again = _capacities(frame, active, settings, resamples, seeds)
        fits |= {role: again[role] for role in moved}
    return _Pools(frame, fits, by_type, speeds)


def _with_tests(ratio: PdRatio, frame: ServiceFrame, tests: Sequence[SweepResult], slo: Slo) -> PdRatio:
    """Return a ratio with what ratio tests say of it: in the history, in benchmarks, or undeclared."""
    captured, _ = capture_sweeps(frame, slo)
    ratio = with_captured_sweeps(ratio, frame, captured, slo)
    ratio = with_benchmarks(ratio, frame, tests, slo)
    return with_undeclared_test(ratio, frame)


def _capacities(
    frame: ServiceFrame,
    active: ActiveVersion,
    settings: Settings,
    resamples: Integers,
    seeds: Sequence[np.random.SeedSequence],
) -> dict[str, CapacityFit]:
    """Return the capacity of each pool over all its GPU types."""
    found = {}
    for role, seed in zip(frame.pools, seeds, strict=True):
        link = evidence.path(frame.service, "derive", f"capacity@{role}")
        rows = active.of(role_rows(frame, role, settings))
        fit = fit_capacity(rows, settings, resamples, np.random.default_rng(seed), link)
        reason = active.with_version_note(role, fit.capacity.reason)
        found[role] = replace(fit, capacity=replace(fit.capacity, reason=reason))
    return with_ramp_headroom(with_calm(found), settings)


def _checked(fit: CapacityFit, frame: ServiceFrame, active: ActiveVersion, settings: Settings) -> CapacityFit:
    """Add the realised coverage, from rows as they came: those of the fit know the whole history."""
    rows = active.of(role_rows(frame, fit.capacity.role, settings))
    found = realised_coverage(fit.capacity, rows, frame.seconds(), settings)
    return replace(fit, capacity=replace(fit.capacity, realised_coverage=found))


def _needs(demand: Demand, targets: dict[str, LoadTarget]) -> dict[str, float | None]:
    """Return the instances that the 95 % demand needs at the target, None where one is unknown."""
    work = {"prefill": demand.prefill_tps, "decode": demand.decode_tps, "mixed": demand.decode_tps}
    found = {}
    for role, target in targets.items():
        tps = work[role]
        found[role] = tps / target.value if tps is not None and target.value else None
    return found


def _resamples(frame: ServiceFrame, settings: Settings, rng: np.random.Generator) -> Integers:
    if frame.table.height == 0:
        return np.empty((settings.draws, 0), dtype=np.int64)
    block = max(1, round(BLOCK_S / frame.window_s)) if frame.kind == "production" else CARRY_OVER_ROWS
    return moving_block_indices(frame.table.height, block, settings.draws, rng)


def _capacity_refusals(
    frame: ServiceFrame, fits: dict[str, CapacityFit], found: tuple[Capacity, ...]
) -> tuple[Refusal, ...]:
    out = []
    test = frame.kind == "pressure_test"
    for role, fit in fits.items():
        capacity = fit.capacity
        if capacity.status != "ok" and capacity.reason is not None:
            above = capacity.per_instance or fit.high
            most = above and REACH * above
            unit = fit.labelled.rows.unit
            out.append(capacity_refusal(role, capacity.reason, most, test=test, unit=unit))
        types = frame.gpu_types.get(role, ())
        known = [c for c in found if c.role == role and c.gpu_type and not is_pool_mean(c)]
        if len(types) > max(1, len(known)):
            text = f"the {role} pool holds {' and '.join(types)}: its capacity is a mean over them"
            out.append(
                Refusal(f"capacity@{role}", "mixed_gpu_types", text, MIXED_TYPES_COLLECT.format(role=role))
            )
    return tuple(out)
