"""What the aligned services say: the stages study and derive, ratio tests and profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.derive import (
    DeriveResult,
    bench_speeds,
    bench_sweeps,
    capture_sweeps,
    derive_service,
    mean_request,
    profile_ratio,
    profiles_of,
    services_of_tests,
)
from hs_analysis.derive.capacity_laws import RULES
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.ingest_stages import require_services
from hs_analysis.pipeline.records import from_plain
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.pipeline.tables import (
    read_frames,
    read_instances,
    split,
    typed_rows,
    typed_signals,
)
from hs_analysis.plan_test import Precision, plan_service
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.frames import CAPACITY_CURVE, CAPACITY_POINTS, MIX, empty
from hs_analysis.schema.results import (
    Capacity,
    Demand,
    Derived,
    GpuSpeed,
    PdRatio,
    Recommendation,
    Refusal,
    Release,
    SignalVerdict,
    Startup,
    StudyResult,
    Threshold,
)
from hs_analysis.schema.settings import Settings
from hs_analysis.schema.sweeps import BenchSpeed, PlannedTest, ProfileRatio, SweepResult
from hs_analysis.study import study_service


def answer(work: Work) -> list[SweepResult]:
    """Answer the ratio tests in benchmark points and in captures, and write their tables."""
    slo = work.settings.slo
    answers = [bench_sweeps(tables.read(work.run, "bench"), slo)]
    answers += [capture_sweeps(frame, slo) for frame in read_frames(work.run)]
    found = [one for results, _ in answers for one in results]
    tables.write_rows(work.out, "sweeps", [vars(one) for one in found])
    tables.write_frames(work.out, "splits", [splits for _, splits in answers])
    return found


def speeds_of_types(work: Work) -> list[BenchSpeed]:
    """Set the GPU types of benchmarks against each other, and write their table."""
    found = list(bench_speeds(tables.read(work.run, "bench"), work.settings.slo))
    tables.write_rows(work.out, "bench_speeds", [vars(one) for one in found])
    return found


def read_bench_speeds(folder: Path) -> tuple[BenchSpeed, ...]:
    """Return how the GPU types of a run's benchmarks compare."""
    rows = tables.read(folder, "bench_speeds").iter_rows(named=True)
    return tuple(from_plain(BenchSpeed, row) for row in rows)


def read_sweeps(folder: Path) -> tuple[SweepResult, ...]:
    """Return the answers of all ratio tests of a run."""
    return tuple(from_plain(SweepResult, row) for row in tables.read(folder, "sweeps").iter_rows(named=True))


def from_profiles(work: Work) -> list[ProfileRatio]:
    """Give the ratios of profiles for the requests and services of the run, and write their table."""
    profiles = profiles_of(tables.read(work.run, "bench"))
    found = [
        replace(profile_ratio(profile, isl, osl, work.settings.slo), source=source)
        for profile in profiles
        for source, isl, osl in (_shapes(work.run) if profiles else ())
    ]
    tables.write_rows(work.out, "profile_ratios", [vars(one) for one in found])
    return found


def _shapes(folder: Path) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield whose requests, and their computed prompt and output lengths: logs by capture, then services."""
    log = tables.read(folder, "requests").drop_nulls(["prompt_tokens", "output_tokens"])
    computed = pl.col("prompt_tokens") - pl.col("cached_tokens").fill_null(0.0)
    for (capture,), rows in sorted(log.with_columns(computed.alias("isl")).group_by("capture")):
        name = f"requests of {capture}" if capture else "requests"
        yield name, rows["isl"].to_numpy(), rows["output_tokens"].to_numpy()
    for frame in read_frames(folder):
        shape = mean_request(frame)
        if shape is not None:
            yield frame.service, np.array([shape[0]]), np.array([shape[1]])


def read_profile_ratios(folder: Path) -> tuple[ProfileRatio, ...]:
    """Return what the profiles of a run gave."""
    rows = tables.read(folder, "profile_ratios").iter_rows(named=True)
    return tuple(from_plain(ProfileRatio, row) for row in rows)


WHOLE, TRAIN = "whole", "train"


def parts(
    frame: ServiceFrame, train_share: float, order: Sequence[str] = (WHOLE, TRAIN)
) -> Mapping[str, ServiceFrame]:
    """Return the parts of a service that numbers are fitted on, in the order asked for."""
    found = {WHOLE: frame, TRAIN: split(frame, train_share)[0]}
    return {fit: found[fit] for fit in order}


def _fits(work: Work) -> Iterator[tuple[ServiceFrame, str]]:
    frames = read_frames(work.run)
    total = 2 * len(frames)
    for number, (fit, part) in enumerate(
        item for frame in frames for item in parts(frame, work.settings.train_share).items()
    ):
        work.progress.advanced(number, total, "fits")
        yield part, fit


def study_part(folder: Path, part: ServiceFrame, settings: Settings) -> StudyResult:
    """Judge every signal of a part of a service, with what a run knows beside its pools."""
    typed = typed_rows(typed_signals(folder), part)
    return study_service(part, settings, typed, read_instances(folder, part))


def derive_part(
    folder: Path, part: ServiceFrame, settings: Settings, verdicts: tuple[SignalVerdict, ...], fit: str
) -> DeriveResult:
    """Derive the numbers of a part of a service, with what a run knows beside its pools.

    The intervals of the capacities are checked on later blocks where the part is the ``WHOLE``.
    """
    bench = tables.read(folder, "bench")
    tests, _ = bench_sweeps(bench, settings.slo)
    return derive_service(
        part, verdicts, settings, typed_rows(typed_signals(folder), part), tables.read(folder, "births"),
        profiles_of(bench), bench=list(bench_speeds(bench, settings.slo)), tests=tests,
        versions=tables.read(folder, "versions"), rolling=fit == WHOLE,
    )  # fmt: skip


def study_signals(work: Work) -> Outcome:
    """Judge every signal of every service."""
    require_services(work)
    found: list[tuple[str, str, StudyResult]] = [
        (part.service, fit, study_part(work.run, part, work.settings)) for part, fit in _fits(work)
    ]
    verdicts = [
        {"service": service, "fit": fit} | vars(verdict)
        for service, fit, result in found
        for verdict in result.verdicts
    ]
    recommended = [
        {"service": service, "fit": fit} | vars(result.recommended)
        for service, fit, result in found
        if result.recommended
    ]
    tables.write_rows(work.out, "study", verdicts)
    tables.write_rows(work.out, "recommended", recommended)
    tables.write_frames(work.out, "study_points", [r.points for _, fit, r in found if fit == WHOLE])
    whole = [v["verdict"] for v in verdicts if v["fit"] == WHOLE and v["gpu_type"] is None]
    kinds = [f"{whole.count(kind)} {kind}" for kind in ("proportional", "guard", "unusable", "unknown")]
    return Outcome(f"signals {len(whole)}: {', '.join(kinds)}")


def derive_numbers(work: Work) -> Outcome:
    """Derive demand, capacity, thresholds and the ratio of every service."""
    found: list[tuple[str, str, DeriveResult]] = []
    compared = speeds_of_types(work)
    for part, fit in _fits(work):
        verdicts = read_verdicts(work.run, part.service, fit)
        found.append((part.service, fit, derive_part(work.run, part, work.settings, verdicts, fit)))
    sweeps, profiles = answer(work), from_profiles(work)
    if not found:
        found = [
            (name, WHOLE, _without_tables(derived))
            for name, derived in services_of_tests(sweeps, work.settings.slo)
        ]
    _write_derived(work, found)
    said = [r.derived.pd_ratio.status for _, fit, r in found if fit == WHOLE]
    notes = [f"P/D ratio {', '.join(dict.fromkeys(said))}"] if said else []
    notes += counted(sweeps, len(profiles), compared)
    return Outcome("; ".join(notes))


def counted(sweeps: Sequence[SweepResult], profiles: int, compared: Sequence[BenchSpeed]) -> list[str]:
    """Return how many tests and comparisons there are; each is answered in several rows, by limit or type."""
    numbers = {
        "ratio tests": len({(one.name, one.source, one.label, one.isl, one.osl) for one in sweeps}),
        "ratios from profiles": profiles,
        "comparisons of GPU types": len({(one.name, one.isl, one.osl) for one in compared}),
    }
    return [f"{what} {number}" for what, number in numbers.items() if number]


def _without_tables(derived: Derived) -> DeriveResult:
    return DeriveResult(derived, empty(CAPACITY_POINTS), empty(CAPACITY_CURVE), empty(MIX))


def _write_derived(work: Work, found: Sequence[tuple[str, str, DeriveResult]]) -> None:
    """Write what was derived of each service (name, fit, result), a table a kind of number."""
    many = ("capacity", "thresholds", "refusals", "startup", "gpu_speeds", "releases")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*many, "demand", "pd_ratio")}
    for service, fit, result in found:
        key = {"service": service, "fit": fit}
        for name in many:
            rows[name] += [key | vars(one) for one in getattr(result.derived, name)]
        for name in ("demand", "pd_ratio"):
            rows[name].append(key | vars(getattr(result.derived, name)))
    for name, records in rows.items():
        tables.write_rows(work.out, name, records)
    for name in ("capacity_points", "capacity_curve", "mix"):
        drawn: list[pl.DataFrame] = [getattr(result, name) for _, fit, result in found if fit == WHOLE]
        tables.write_frames(work.out, name, drawn)


def read_verdicts(folder: Path, service: str, fit: str = WHOLE) -> tuple[SignalVerdict, ...]:
    """Return the verdicts of one service over all GPU types: those that policies may rest on."""
    return tuple(v for v in read_all_verdicts(folder, service, fit) if v.gpu_type is None)


def read_all_verdicts(folder: Path, service: str, fit: str = WHOLE) -> tuple[SignalVerdict, ...]:
    """Return the verdicts of one service, then those per GPU type of pools that mix types."""
    return tables.read_rows(folder, "study", SignalVerdict, service, fit)


def read_recommended(folder: Path, service: str) -> Recommendation | None:
    """Return the recommendation of one service, None when there is none."""
    return next(iter(tables.read_rows(folder, "recommended", Recommendation, service)), None)


def read_derived(folder: Path, service: str, fit: str = WHOLE) -> Derived:
    """Return everything the derive stage said of one service."""
    return Derived(
        capacity=tables.read_rows(folder, "capacity", Capacity, service, fit),
        demand=tables.read_rows(folder, "demand", Demand, service, fit)[0],
        thresholds=tables.read_rows(folder, "thresholds", Threshold, service, fit),
        pd_ratio=tables.read_rows(folder, "pd_ratio", PdRatio, service, fit)[0],
        refusals=tables.read_rows(folder, "refusals", Refusal, service, fit),
        startup=tables.read_rows(folder, "startup", Startup, service, fit),
        gpu_speeds=tables.read_rows(folder, "gpu_speeds", GpuSpeed, service, fit),
        releases=tables.read_rows(folder, "releases", Release, service, fit),
    )


PRECISION = Precision(RULES["pressure_test"][0].systematic)
"""What the law of pressure tests leaves."""


def plan_tests(work: Work) -> Outcome:
    """Plan the tests that would answer what the run left open."""
    found = [
        test
        for frame in read_frames(work.run)
        for test in plan_service(frame, read_derived(work.run, frame.service), PRECISION)
    ]
    tables.write_rows(work.out, "planned_tests", [vars(test) for test in found])
    return Outcome(f"tests {len(found)}")


def read_plan(folder: Path) -> tuple[PlannedTest, ...]:
    """Return the planned tests of a run."""
    rows = tables.read(folder, "planned_tests").iter_rows(named=True)
    return tuple(from_plain(PlannedTest, row) for row in rows)
