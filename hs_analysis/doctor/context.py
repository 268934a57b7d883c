"""What the checks look at, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.errors import first_of
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import BENCH, FROZEN_SERIES, INSTANCES, LIVES, REQUESTS, empty
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.settings import Settings

Level = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing a check found: its level, a sentence, the number behind it and when it was."""

    check: str
    level: Level
    text: str
    service: str = ""
    value: float | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class SupersededFile:
    """A file of whose ``of`` rows ``rows`` are held more faithfully ``by`` other files."""

    name: str
    rows: int
    of: int
    by: tuple[str, ...]

    def sentence(self) -> str:
        """Return the file, how much of it, and the files that hold it better."""
        part = "" if self.rows == self.of else f" ({self.rows:,} of {self.of:,} rows)"
        return f"{self.name}{part} by {first_of(self.by, 2)}"


@dataclass(frozen=True)
class DoctorContext:
    """The run as the checks see it; all frames as the stages left them.

    Attributes
    ----------
    series, quality, rejected, frozen, resets
        Contract SERIES, frame of `ingest.quality.quality_frame`, how many rows were rejected (reason, file,
        metric, rows; most first), frozen stretches (capture, first_t, last_t), result of ``ingest/resets``.
    skipped, superseded, broken, server_warnings
        Files no reader knows; files whose samples others hold more faithfully; (file, why) that could
        not be read; (file, text) the server warned of.
    frames
        The aligned services.
    edges
        Per service and latency limit: the histogram edges about it.
    disagreements
        Sources that differ: (service, role, signal, source, other, difference).
    pod_labels
        What did not match in the join with kube_pod_labels, a sentence per kind of miss.
    unserved
        Instances that have a role and no service, a sentence per pool.
    releases
        Versions that changed inside the window: (service, role, what, t, until, from, to).
    plan
        What the files lack of the plan beside them, as (level, text with the command that repeats it); None
        where there is no plan.
    lives, frozen_series, instances
        Contracts LIVES, FROZEN_SERIES and INSTANCES.
    requests, bench
        Contracts REQUESTS and BENCH.
    notes, copies
        (file, text) of what readers assumed or left out; (file, rows) of exact copies stored once.
    losses
        (file, text) of what the sources of files can't give.
    tables
        (file, what it is) of skipped files that are tables, which a mapping would read.
    shapes, twins, histograms, tails
        Results of the queries ``doctor/shapes``, ``doctor/twins`` (with the label of each pair),
        ``doctor/histograms`` and ``doctor/tails`` (with metric and service of each group); None where they
        were not asked for.
    grids
        Series on a query's grid (series_id, step_s, file); None where nobody looked.
    now
        When the input is looked at; None where that must not matter.
    """

    series: pl.DataFrame
    quality: pl.DataFrame
    rejected: pl.DataFrame
    frozen: pl.DataFrame
    resets: pl.DataFrame
    skipped: tuple[str, ...]
    superseded: tuple[SupersededFile, ...]
    broken: tuple[tuple[str, str], ...]
    server_warnings: tuple[tuple[str, str], ...]
    frames: tuple[ServiceFrame, ...]
    edges: tuple[tuple[str, LimitEdges], ...]
    disagreements: pl.DataFrame
    catalogue: Catalogue
    settings: Settings
    pod_labels: tuple[str, ...] = ()
    unserved: tuple[str, ...] = ()
    releases: pl.DataFrame | None = None
    plan: tuple[tuple[str, str], ...] | None = None
    lives: pl.DataFrame = field(default_factory=lambda: empty(LIVES))
    frozen_series: pl.DataFrame = field(default_factory=lambda: empty(FROZEN_SERIES))
    instances: pl.DataFrame = field(default_factory=lambda: empty(INSTANCES))
    requests: pl.DataFrame = field(default_factory=lambda: empty(REQUESTS))
    bench: pl.DataFrame = field(default_factory=lambda: empty(BENCH))
    notes: tuple[tuple[str, str], ...] = ()
    copies: tuple[tuple[str, int], ...] = ()
    losses: tuple[tuple[str, str], ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    shapes: pl.DataFrame | None = None
    twins: pl.DataFrame | None = None
    histograms: pl.DataFrame | None = None
    tails: pl.DataFrame | None = None
    grids: pl.DataFrame | None = None
    now: datetime | None = None
