"""Ratio tests and profiles of a run, a part of the stage derive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hs_analysis.derive import (
    bench_speeds,
    bench_sweeps,
    capture_sweeps,
    mean_request,
    profile_ratio,
    profiles_of,
)
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.frames import edges_of, read_entries, read_frames
from hs_analysis.pipeline.records import from_plain
from hs_analysis.pipeline.stages import Work
from hs_analysis.schema.sweeps import BenchSpeed, ProfileRatio, SweepResult

Floats = NDArray[np.float64]


def answer(work: Work) -> list[SweepResult]:
    """Answer the ratio tests in benchmark points and in captures, and write their tables."""
    slo = work.settings.slo
    answers = [bench_sweeps(tables.read(work.run, "bench"), slo)]
    entries = {entry["service"]: entry for entry in read_entries(work.run)}
    answers += [capture_sweeps(f, slo, edges_of(entries[f.service])) for f in read_frames(work.run)]
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
