"""Which functions and queries make each kind of number, by the objects themselves.

Every one of them runs whenever a run holds such a number; a test runs the samples and sees them run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from hs_analysis.align.demand import add_demand
from hs_analysis.align.instance_lifetimes import instance_startups
from hs_analysis.align.instances import Presence
from hs_analysis.align.offered_work import offered_work
from hs_analysis.align.series import SeriesPass
from hs_analysis.align.signals import signal_windows
from hs_analysis.derive import bench_sweeps, capture_sweeps
from hs_analysis.derive.capacity import fit_capacity
from hs_analysis.derive.demand import demand_of
from hs_analysis.derive.gpu_speed import type_speeds
from hs_analysis.derive.ratio import ratio_of
from hs_analysis.derive.rows import role_rows
from hs_analysis.derive.service import capacity_points, mix_table
from hs_analysis.derive.startup import startup_of
from hs_analysis.derive.thresholds import thresholds_of
from hs_analysis.ingest.dedup import stored_batches
from hs_analysis.ingest.stage import read_files
from hs_analysis.policy import build_policy
from hs_analysis.replay import replay_service, score_policies, try_signals
from hs_analysis.select import select_service
from hs_analysis.study import study_service

Maker: TypeAlias = Callable[..., Any] | str
"""A function, or the name of a query as `hs_analysis.store.query_text` takes it."""

WINDOWS: tuple[Maker, ...] = (stored_batches, SeriesPass.read, signal_windows)
"""From samples to windows of a signal."""

ROWS: tuple[Maker, ...] = (*WINDOWS, Presence.counts, add_demand, offered_work)
"""From samples to windows of signals, instances and load: what most numbers rest on."""

MAKERS: dict[str, tuple[Maker, ...]] = {
    "signals": (*ROWS, study_service),
    "capacity": (*ROWS, role_rows, fit_capacity, capacity_points),
    "thresholds": (*ROWS, fit_capacity, thresholds_of),
    "startup": (stored_batches, instance_startups, startup_of),
    "gpu_speeds": (*WINDOWS, type_speeds),
    "pd_ratio": (*ROWS, ratio_of, mix_table),
    "sweeps": (*ROWS, capture_sweeps),
    "bench_sweeps": (read_files, bench_sweeps),
    "demand": (*ROWS, demand_of, mix_table),
    "selection": (*ROWS, select_service, score_policies),
    "replay": (*ROWS, replay_service),
    "drivers": (*ROWS, try_signals),
    "policy": (*ROWS, build_policy),
}
"""Per kind of number (`hs_analysis.report.explain.kinds`) what makes it, in the order of the work."""


def name_of(maker: Maker) -> str:
    """Return where a maker is found: ``package.module:function``, or the file of a query."""
    return f"queries/{maker}.sql" if isinstance(maker, str) else f"{maker.__module__}:{maker.__qualname__}"


def made_by() -> dict[str, tuple[str, ...]]:
    """Return per kind of number the names of what makes it."""
    return {kind: tuple(name_of(maker) for maker in makers) for kind, makers in MAKERS.items()}
