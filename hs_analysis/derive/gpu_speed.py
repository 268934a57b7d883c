"""Relative speeds of GPU types, and instances of a mixed pool counted in equivalents.

What a pool that mixes types is weighed by where its own history can't tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.derive.capacity_laws import log_interval
from hs_analysis.derive.constants import DRAWS_MIN, LENGTHS_WITHIN, QUEUE_BIN_ROWS, QUEUE_BINS_MAX, SYSTEMATIC
from hs_analysis.derive.demand import mean_request
from hs_analysis.derive.gpu_types import is_pool_mean
from hs_analysis.derive.profiles import Profile, profile_ratio
from hs_analysis.derive.rows import capture_numbers, centred_mean, smooth_rows
from hs_analysis.derive.split_sweeps import trials_of
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import GPU_MIX_MOVED, LOAD_RANGE_QUANTILES, MINUTE_ROWS_MIN
from hs_analysis.schema.names import same_gpu
from hs_analysis.schema.results import Capacity, GpuSpeed, Interval, Reason, SpeedBasis, TypeRatio, weights_of
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.schema.sweeps import BenchSpeed
from hs_analysis.statistics.isotonic import MonotoneFit, monotone_fit

COMPARED_COLUMNS = ("capture", "file", "model", "engine", "precision", "cached_ratio", "isl", "osl")
"""Columns in which the points of one comparison agree."""


def bench_speeds(bench: pl.DataFrame, slo: Slo) -> tuple[BenchSpeed, ...]:
    """Return what each GPU type of a benchmark serves against the others, per GPU.

    Types are compared at the loads (requests/s or in flight) that each was tested at, so that none gains by
    having been tested further; each by its best point there that does not surely break a limit. Points
    without GPUs, decode TPS or load, or with separate prefill, are left out, as is a benchmark of one type.
    """
    load = pl.coalesce("request_rate", "concurrency")
    points = bench.filter((pl.col("kind") == "point") & pl.col("prefill_instances").is_null())
    points = points.with_columns(load=load).drop_nulls(
        ["load", "decode_tps", "decode_gpus", "decode_gpu_type"]
    )
    points = points.filter(pl.col("decode_gpus") > 0, pl.col("decode_tps") > 0).with_columns(
        gpu=pl.col("decode_gpu_type"), each=pl.col("decode_tps") / pl.col("decode_gpus")
    )
    found: list[BenchSpeed] = []
    for key, group in sorted(points.group_by(COMPARED_COLUMNS), key=lambda one: tuple(map(str, one[0]))):
        found += _of_group(dict(zip(COMPARED_COLUMNS, key, strict=True)), group, slo)
    return tuple(found)


def _of_group(named: Mapping[str, Any], group: pl.DataFrame, slo: Slo) -> list[BenchSpeed]:
    setups = ["gpu", "decode_gpus"]
    count = group.select(setups).unique().height
    common = group.group_by("load").agg(pl.struct(setups).n_unique().alias("n")).filter(pl.col("n") == count)
    rows = group.join(common.select("load"), "load", how="semi").sort(*setups, "load")
    if count < 2 or rows.is_empty():
        return []
    limits = [name for name in ("ttft", "tbt") if slo.limit_s(name) is not None]
    trials = trials_of(rows.with_columns(prefill_instances=pl.lit(0.0), decode_instances=pl.lit(1.0)), slo)
    holds = pl.Series([not trial.fails(limits) for trial in trials])
    unknown = any(getattr(trial, limit) == "unknown" for trial in trials for limit in limits)
    best = rows.filter(holds).sort("each", descending=True).unique(setups, keep="first", maintain_order=True)
    if best.height < 2:
        return []
    least = best.row(-1, named=True)
    top = float(common["load"].max())  # type: ignore[arg-type]
    name = " · ".join(
        str(named[key]) for key in ("capture", "model", "engine", "precision", "file") if named[key]
    )
    return [
        BenchSpeed(
            name=name,
            isl=named["isl"],
            osl=named["osl"],
            gpu_type=row["gpu"],
            gpus=row["decode_gpus"],
            tps_per_gpu=row["each"],
            load=row["load"],
            relative=row["each"] / least["each"],
            reference=least["gpu"],
            reason=_caveat(row["load"] >= top, unknown),
        )
        for row in best.iter_rows(named=True)
    ]


def _caveat(at_top: bool, unknown: bool) -> Reason | None:
    if unknown:
        return Reason("not_measured", "a latency with a limit was not measured: compared by throughput alone")
    if at_top:
        return Reason("highest_load", "best at the highest common load: it may serve more beyond it")
    return None


def pool_speeds(
    bench: Sequence[BenchSpeed], types: Sequence[str], request: tuple[float, float] | None, gpus: float | None
) -> dict[str, BenchSpeed]:
    """Return the benchmark's row of each GPU type of a pool, empty where no benchmark has them all.

    Parameters
    ----------
    bench
        Types of benchmarks, as of `bench_speeds`; the one whose lengths are nearest to the request is taken.
    types
        GPU types as the pool names them: a benchmark's type stands for one if it is called the same, else if
        it is the only one there with its model number.
    request
        Computed prompt and output tokens of the service's mean request; None where not counted.
    gpus
        GPUs of an instance: set-ups of that size first; None where not known.
    """
    groups: dict[tuple[str, float, float], list[BenchSpeed]] = {}
    for one in bench:
        if request is not None and one.isl and one.osl and _apart(one.isl, one.osl, request) <= 1.0:
            groups.setdefault((one.name, one.isl, one.osl), []).append(one)
    nearest = sorted(groups, key=lambda key: (_apart(key[1], key[2], request or (1.0, 1.0)), key))
    for key in nearest:
        found = {name: _row_of(name, groups[key], gpus) for name in types}
        known = {name: row for name, row in found.items() if row is not None}
        if len(known) == len(types) == len({row.gpu_type for row in known.values()}):
            return known
    return {}


def _apart(isl: float, osl: float, request: tuple[float, float]) -> float:
    """Return how far two lengths lie from a request's, 1 where the farther one is at the limit."""
    return max(abs(math.log(a / b)) for a, b in zip((isl, osl), request, strict=True)) / math.log(
        LENGTHS_WITHIN
    )


def _row_of(name: str, rows: Sequence[BenchSpeed], gpus: float | None) -> BenchSpeed | None:
    named = {row.gpu_type for row in rows if row.gpu_type == name}
    named = named or {row.gpu_type for row in rows if same_gpu(row.gpu_type, name)}
    own = [row for row in rows if row.gpu_type in named]
    if len(named) != 1:
        return None
    return max(own, key=lambda row: (row.gpus == gpus, row.tps_per_gpu))


QUEUE = ("running", "queue_length")
"""Signals that add up to the requests an instance holds."""

QUEUE_POINTS = 20
"""Queue lengths at which two curves are compared."""

Relative = dict[str, tuple[float, Interval]]
"""Speed of each type ÷ that of the reference type, with its 95 % interval."""


@dataclass(frozen=True)
class Typed:
    """The windows of one role per GPU type: instances and signals, arrays on the rows of the service."""

    role: str
    instances: dict[str, Floats]
    signals: dict[str, dict[str, Floats]]

    @property
    def reference(self) -> str:
        """The type with most instance-windows, ties by name."""
        return min(self.instances, key=lambda name: (-float(np.nansum(self.instances[name])), name))


def typed_of(frame: ServiceFrame, typed: pl.DataFrame, role: str) -> Typed | None:
    """Return the windows of a role per GPU type; None where not all of its types count their served work."""
    served, types = frame.served(role)[0], frame.gpu_types.get(role, ())
    found = Typed(role, {}, {})
    for name in types:
        rows = typed.filter((pl.col("role") == role) & (pl.col("gpu_type") == name))
        if rows.filter(pl.col("signal") == served).is_empty():
            return None
        key = ["capture", "t"]
        own = rows.pivot("signal", index=key, values="value", aggregate_function="first")
        counts = rows.filter(pl.col("signal") == served).select(*key, pl.col("instances").cast(pl.Float64))
        own = own.join(counts, key, how="left")
        table = frame.table.select(key).join(own, key, how="left", maintain_order="left")
        values = {
            signal: table[signal].cast(pl.Float64).fill_null(math.nan).to_numpy()
            for signal in table.columns
            if signal not in ("capture", "t")
        }
        found.instances[name] = values.pop("instances")
        found.signals[name] = values
    return found if len(found.instances) > 1 else None


def type_speeds(
    frame: ServiceFrame,
    typed: pl.DataFrame,
    capacities: Sequence[Capacity],
    profiles: Sequence[Profile],
    settings: Settings,
    resamples: Integers,
    bench: Sequence[BenchSpeed] = (),
) -> tuple[GpuSpeed, ...]:
    """Return the relative speed of each GPU type of every pool that mixes types.

    From the types' own capacities where all are known, else from profiles of all of them at the service's
    mean request, else from the work an instance of each serves while it holds equally many requests, else
    from a benchmark of them (not for prefill). Refused, with what is missing, where none can be had.

    Parameters
    ----------
    frame, typed
        The service over all types, and its rows of the contract SIGNALS that have a GPU type.
    capacities
        Those per GPU type; others are left out.
    profiles
        Of one instance each; those without a GPU type say nothing here.
    settings, resamples
        SLO, and row numbers of each bootstrap draw, shape (draws, rows).
    bench
        How the types of benchmarks compare.
    """
    found: list[GpuSpeed] = []
    for role in frame.pools:
        if len(frame.gpu_types.get(role, ())) < 2:
            continue
        pool = typed_of(frame, typed, role)
        if pool is None:
            found += _refused(frame, role, f"the input has no {frame.served(role)[0]} per GPU type")
            continue
        tried: tuple[tuple[SpeedBasis, Relative | None], ...] = (
            ("capacity", _by_capacity(pool, capacities)),
            ("profile", _by_profile(pool, profiles, mean_request(frame), settings.slo)),
        )
        basis, relative = next((one for one in tried if one[1] is not None), (None, None))
        if relative is None:
            of_queue = _by_queue(frame, pool, resamples)
            if isinstance(of_queue, str):
                found += _by_bench(frame, pool, bench, of_queue) or _refused(frame, role, of_queue)
                continue
            basis, relative = "equal_queue", of_queue
        found += _rows(frame, pool, basis, relative)
    return tuple(found)


def _rows(
    frame: ServiceFrame,
    pool: Typed,
    basis: SpeedBasis | None,
    relative: Relative,
    reason: Reason | None = None,
) -> list[GpuSpeed]:
    counts = {name: float(np.nanmean(values)) for name, values in pool.instances.items()}
    mean = sum(counts[name] * relative[name][0] for name in counts) / sum(counts.values())
    return [
        GpuSpeed(
            role=pool.role,
            gpu_type=name,
            instances=counts[name],
            relative=relative[name][0],
            ci=relative[name][1],
            reference=pool.reference,
            weight=relative[name][0] / mean,
            basis=basis,
            status="ok",
            reason=reason,
            evidence=_link(frame, pool.role, name),
        )
        for name in counts
    ]


def _refused(frame: ServiceFrame, role: str, why: str) -> list[GpuSpeed]:
    text = f"the types of the {role} pool can't be weighed against each other: {why}"
    return [
        GpuSpeed(
            role=role,
            gpu_type=name,
            instances=None,
            relative=None,
            ci=None,
            reference=None,
            weight=None,
            basis=None,
            status="refused",
            reason=Reason("speed_unknown", text),
            evidence=_link(frame, role, name),
        )
        for name in frame.gpu_types[role]
    ]


def _link(frame: ServiceFrame, role: str, name: str) -> str:
    return evidence.path(frame.service, "derive", f"speed@{role}@{name}")


def _by_capacity(pool: Typed, capacities: Sequence[Capacity]) -> Relative | None:
    known = {
        c.gpu_type: c
        for c in capacities
        if c.role == pool.role and c.gpu_type and c.status == "ok" and not is_pool_mean(c)
    }
    if set(known) != set(pool.instances):
        return None
    out: Relative = {pool.reference: (1.0, (1.0, 1.0))}
    one, (one_low, one_high) = _logs(known[pool.reference])
    for name in pool.instances:
        if name != pool.reference:
            own, (low, high) = _logs(known[name])
            value = math.exp(own - one)
            down, up = math.hypot(own - low, one_high - one), math.hypot(high - own, one - one_low)
            out[name] = (value, (value * math.exp(-down), value * math.exp(up)))
    return out


def _logs(capacity: Capacity) -> tuple[float, Interval]:
    """Return ln of a capacity and of the ends of its interval."""
    value = capacity.per_instance or math.nan
    low, high = capacity.ci or (value, value)
    return math.log(value), (math.log(low), math.log(high))


def equivalents(
    profiles: Sequence[Profile], isl: float, osl: float, slo: Slo
) -> dict[str, tuple[float, float]]:
    """Return what one instance of every profiled GPU type carries: (prompt, output) tokens/s.

    At one shape of request, under the limits. A profile without a GPU type, or that the shape lies outside
    of, or whose type can't keep a limit, is left out.
    """
    found = {}
    for one in profiles:
        ratio = profile_ratio(one, np.array([isl]), np.array([osl]), slo)
        if one.gpu_type and ratio.status == "ok" and ratio.prefill_tps and ratio.decode_tps:
            found[one.gpu_type] = (ratio.prefill_tps, ratio.decode_tps)
    return found


def _by_profile(
    pool: Typed, profiles: Sequence[Profile], request: tuple[float, float] | None, slo: Slo
) -> Relative | None:
    if request is None:
        return None
    groups: dict[str, list[Profile]] = {}
    for one in profiles:  # types compare within one model, engine and precision
        groups.setdefault(one.name.removesuffix(one.gpu_type or ""), []).append(one)
    found = [equivalents(group, *request, slo) for _, group in sorted(groups.items())]
    known = next((one for one in found if set(pool.instances) <= set(one)), None)
    if known is None:
        return None
    rates = {name: _rate(known[name], pool.role, request) for name in pool.instances}
    relative = {name: rate / rates[pool.reference] for name, rate in rates.items()}
    return {name: (value, (value, value)) for name, value in relative.items()}


def _rate(known: tuple[float, float], role: str, request: tuple[float, float]) -> float:
    """Return the speed of a role; a mixed instance does both parts of a request one after the other."""
    prefill, decode = known
    if role == "mixed":
        return 1.0 / (request[0] / prefill + request[1] / decode)
    return prefill if role == "prefill" else decode


def _by_bench(frame: ServiceFrame, pool: Typed, bench: Sequence[BenchSpeed], why: str) -> list[GpuSpeed]:
    """Return the speeds that a benchmark gives, empty where none does or for a prefill pool.

    Its points are output tokens of instances that do both parts of a request: they say nothing of prefill.
    """
    gpus = frame.gpus_per_instance.get(pool.role)
    known = pool_speeds(bench, tuple(pool.instances), mean_request(frame), gpus)
    if not known or pool.role == "prefill":
        return []
    one = known[pool.reference]
    text = (
        f"from the benchmark {one.name} at {one.isl:,.0f} prompt and {one.osl:,.0f} output tokens, output "
        f"tokens/s per GPU of instances that do both parts: of the history, {why}"
    )
    found = {name: row.tps_per_gpu / one.tps_per_gpu for name, row in known.items()}
    relative: Relative = {name: (value, (value, value)) for name, value in found.items()}
    return _rows(frame, pool, "bench", relative, Reason("bench", text))


def _by_queue(frame: ServiceFrame, pool: Typed, resamples: Integers) -> Relative | str:
    """Compare served work per instance at equal requests per instance; or say what is missing."""
    curves = {name: _per_instance(frame, pool, name) for name in pool.instances}
    for name, (held, _) in curves.items():
        if not np.isfinite(held).any():
            return f"the input has no requests running on {name}"
    reference = curves.pop(pool.reference)
    out: Relative = {pool.reference: (1.0, (1.0, 1.0))}
    for name, own in curves.items():
        value = _at_equal_queue(own, reference, np.arange(own[0].size))
        if value is None:
            return (
                f"an instance of {name} and one of {pool.reference} seldom held equally many requests, so"
                " their work can't be compared at equal queue length"
            )
        found = [_at_equal_queue(own, reference, rows) for rows in resamples]
        draws = np.array([math.nan if one is None else one for one in found])
        if np.isfinite(draws).mean() < DRAWS_MIN:
            return f"too few windows in which {name} and {pool.reference} held equally many requests"
        out[name] = (value, log_interval(value, draws, SYSTEMATIC))
    return {name: out[name] for name in pool.instances}


def _per_instance(frame: ServiceFrame, pool: Typed, name: str) -> tuple[Floats, Floats]:
    """Return requests held and work served per instance of a type, 5-min means in production."""
    count, values = pool.instances[name], pool.signals[name]
    held = np.full(count.size, math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        for signal in QUEUE:
            if signal not in values:
                continue
            info = frame.info(signal, pool.role)
            one = values[signal] if info is not None and info.pool == "mean" else values[signal] / count
            held = np.where(np.isfinite(held), held + np.nan_to_num(one, nan=0.0), one)
        served = values[frame.served(pool.role)[0]] / count
    held, served = (np.where(count > 0, x, math.nan) for x in (held, served))
    if frame.kind == "production":
        group, rows = capture_numbers(frame), smooth_rows(frame.window_s)
        held, served = (centred_mean(x, rows, group) for x in (held, served))
    return held, served


def _at_equal_queue(
    own: tuple[Floats, Floats], reference: tuple[Floats, Floats], rows: Integers
) -> float | None:
    """Return served work ÷ the reference's, the mean of ln over queue lengths that both held."""
    pairs = [_seen(held[rows], served[rows]) for held, served in (own, reference)]
    ends = [
        np.quantile(held, LOAD_RANGE_QUANTILES) if held.size else np.array([1.0, 0.0]) for held, _ in pairs
    ]
    low, high = max(float(end[0]) for end in ends), min(float(end[1]) for end in ends)
    if not 0.0 < low < high:
        return None
    at = np.geomspace(low, high, QUEUE_POINTS)
    found = []
    for held, served in pairs:
        inside = (held >= low) & (held <= high)
        if int(inside.sum()) < MINUTE_ROWS_MIN:
            return None
        fit = _curve(held[inside], served[inside])
        found.append(fit.predict(at))
    return float(np.exp(np.mean(np.log(found[0]) - np.log(found[1]))))


def _seen(held: Floats, served: Floats) -> tuple[Floats, Floats]:
    known = np.isfinite(held) & np.isfinite(served) & (held > 0) & (served > 0)
    return held[known], served[known]


def _curve(held: Floats, served: Floats) -> MonotoneFit:
    return monotone_fit(
        held, served, bins=max(2, min(QUEUE_BINS_MAX, held.size // QUEUE_BIN_ROWS)), increasing=True
    )


def in_equivalents(
    frame: ServiceFrame, typed: pl.DataFrame, speeds: Sequence[GpuSpeed]
) -> tuple[ServiceFrame, tuple[str, ...]]:
    """Return the service with its instances counted in equivalents, and the roles where that matters.

    One equivalent is the mean pod recorded. A pool whose mix of types stood still keeps its counts: there
    both are the same.
    """
    moved, columns = [], []
    for role in frame.pools:
        weights = weights_of(speeds, role)
        pool = typed_of(frame, typed, role) if weights else None
        if pool is None:
            continue
        pods = sum(np.nan_to_num(pool.instances[name]) for name in weights)
        weighed = sum(weights[name] * np.nan_to_num(pool.instances[name]) for name in weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(pods > 0, weighed / pods, math.nan)
        known = mean[np.isfinite(mean)]
        if not known.size or np.ptp(known) < 2 * GPU_MIX_MOVED:
            continue
        moved.append(role)
        counts = frame.values("instances", role) * np.where(np.isfinite(mean), mean, 1.0)
        columns.append(pl.Series(column("instances", role), counts).fill_nan(None))
    return replace(frame, table=frame.table.with_columns(columns)), tuple(moved)


def type_ratios(value: float | None, speeds: Sequence[GpuSpeed]) -> tuple[TypeRatio, ...]:
    """Return prefill pods of one type per decode pod of another that balance, empty for pools of one type.

    A ratio of mean pods r is r · w_D ÷ w_P of pods with weights w_P and w_D.
    """
    prefill, decode = (weights_of(speeds, role) for role in ("prefill", "decode"))
    if value is None or not (prefill or decode):
        return ()
    one: Mapping[str, float] = {"": 1.0}
    return tuple(
        TypeRatio(p or None, d or None, value * w_d / w_p)
        for p, w_p in (prefill or one).items()
        for d, w_d in (decode or one).items()
    )


def with_pods(speeds: Sequence[GpuSpeed], need: Mapping[str, float | None]) -> tuple[GpuSpeed, ...]:
    """Return the speeds with the pods of each type that make up a need, the fastest first.

    Parameters
    ----------
    speeds
        Of the pools that mix types; as many pods of a type are there as ran in the mean, rounded up.
    need
        Equivalents per role; None where unknown.
    """
    found = list(speeds)
    for role, wanted in need.items():
        own = [s for s in speeds if s.role == role and s.weight is not None]
        if wanted is None or not own:
            continue
        ranked = sorted(own, key=lambda s: (-(s.weight or 0.0), s.gpu_type))
        available = [(s.gpu_type, s.weight or 0.0, math.ceil((s.instances or 0.0) - 1e-9)) for s in ranked]
        pods = dict(pods_for(wanted, available))
        found = [replace(s, pods=pods[s.gpu_type]) if s in own else s for s in found]
    return tuple(found)


def pods_for(needed: float, available: Sequence[tuple[str, float, int]]) -> tuple[tuple[str, int], ...]:
    """Return how many pods of each GPU type make up a need in equivalents, in the order given.

    Parameters
    ----------
    needed
        Equivalents.
    available
        (GPU type, equivalents of one pod, pods there are), the preferred first.

    Returns
    -------
    Whole pods per type; together at least the need where there are enough, else all there are.
    """
    out = []
    for name, speed, most in available:
        count = min(most, max(0, math.ceil(needed / speed - 1e-9))) if speed > 0 else 0
        needed -= count * speed
        out.append((name, count))
    return tuple(out)
