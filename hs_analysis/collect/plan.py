"""The plan: which range queries give a study's data, in chunks that a server answers, as data.

One grid is aligned to the step; chunk i holds the points ``first + i·n·step`` to
``first + (i·n + n − 1)·step`` inclusive, so that two chunks share no edge and leave no hole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zlib import crc32

from hs_analysis.collect.selectors import query_of
from hs_analysis.collect.shares import Share
from hs_analysis.errors import UsageError

PLAN_SCHEMA = "hs-analysis/plan/v1"
PLAN_FILE = "plan.json"

MOST_POINTS = 11_000
"""Points per series and query; Prometheus refuses when (end − start) ÷ step is above it (web/api/v1)."""

MOST_SAMPLES = 5_000_000
"""Series × points per file: a tenth of the samples a Prometheus query may load (--query.max-samples)."""

LONGEST_NAME = 60
"""Characters of a query that its file is called by."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, as it was given; None is not given.

    ``last_s`` and ``step_s`` in seconds, ``start`` and ``end`` ISO 8601 UTC; ``own`` are the metrics and
    queries that the settings map to signals.
    """

    start: str | None = None
    end: str | None = None
    last_s: float | None = None
    step_s: float | None = None
    match: str | None = None
    namespace: str | None = None
    exporters: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A stretch of the grid: Unix seconds of its first and last point, both inclusive."""

    start: float
    end: float
    points: int


@dataclass(frozen=True)
class PlannedFile:
    """One file and the query that gives it.

    Attributes
    ----------
    file
        File name.
    metric, signal, exporter, role
        What it carries; ``signal`` is null for witnesses of scrapes and roles, ``role`` unless split by it.
    query
        The PromQL expression; ``match`` are its selectors, one by one, and none for a query of the user's,
        which can't be divided by series.
    start, end
        Unix seconds of the first and last point, both inclusive.
    step_s
        Distance of points [s].
    expected_points
        Points of a series that is there all the time.
    expected_series
        Series the server listed; null when it was not asked.
    """

    file: str
    metric: str
    signal: str | None
    exporter: str
    role: str | None
    query: str
    match: tuple[str, ...]
    start: float
    end: float
    step_s: float
    expected_points: int
    expected_series: int | None = None

    @property
    def chunk(self) -> Chunk:
        """The stretch of the grid."""
        return Chunk(self.start, self.end, self.expected_points)


@dataclass(frozen=True)
class Plan:
    """All files, and what they were planned from.

    ``start`` and ``end`` bound the window (ISO 8601 UTC); ``absent`` are metrics the server does not have;
    ``notes`` what the user should know. Credentials are never part of it.
    """

    schema: str
    request: Request
    start: str
    end: str
    files: tuple[PlannedFile, ...]
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def chunks(start: float, end: float, step_s: float, points: int = MOST_POINTS) -> Iterator[Chunk]:
    """Yield the chunks of the grid points within [start, end], Unix seconds; none when it holds no point.

    Worked in whole milliseconds, the resolution of Prometheus.
    """
    step = max(round(step_s * 1000), 1)
    first = -(-round(start * 1000) // step) * step
    total = (round(end * 1000) - first) // step + 1
    for begin in range(0, total, points):
        size = min(points, total - begin)
        at = first + begin * step
        yield Chunk(at / 1000, (at + (size - 1) * step) / 1000, size)


def make_plan(
    request: Request,
    window: tuple[float, float],
    shares: Iterable[Share],
    absent: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Plan:
    """Return the plan of some shares over a window [Unix s].

    A share too large for one file over a full chunk gets shorter chunks.

    Raises
    ------
    UsageError
        When the window is shorter than a step, so that no point lies in it.
    """
    files = tuple(file for share in shares for file in _files(share, window))
    if not files:
        raise UsageError(
            "the window holds no point of the grid", where="--from, --to and --step", hint="widen the window"
        )
    start, end = (iso(moment) for moment in window)
    return Plan(PLAN_SCHEMA, request, start, end, files, tuple(absent), tuple(notes))


def _files(share: Share, window: tuple[float, float]) -> Iterator[PlannedFile]:
    points = MOST_POINTS if not share.series else max(1, min(MOST_POINTS, MOST_SAMPLES // share.series))
    query = query_of(share.selector.match)
    match = () if share.need.is_query else share.selector.match
    for number, chunk in enumerate(chunks(*window, share.step_s, points)):
        yield PlannedFile(
            file=file_name(share, number), metric=share.need.metric, signal=share.need.signal,
            exporter=share.need.exporter, role=share.role, query=query, match=match,
            start=chunk.start, end=chunk.end, step_s=share.step_s, expected_points=chunk.points,
            expected_series=share.series,
        )  # fmt: skip


def file_name(share: Share, chunk: int) -> str:
    """Return the name of a share's file: metric, role and pod group where split, number of the chunk.

    A colon becomes two underscores, so that `trtllm:x` and `trtllm_x` have files of their own. A query's name
    is its words, cut, and its checksum, by which two that begin alike differ.
    """
    metric = share.need.metric
    if share.need.is_query:
        words = "_".join(re.findall(r"[A-Za-z0-9_]+", metric))
        metric = f"{words[:LONGEST_NAME].rstrip('_')}_{crc32(metric.encode()):08x}"
    parts = [re.sub(r"[^A-Za-z0-9_]", "_", metric.replace(":", "__"))]
    parts += [share.role] if share.role else []
    parts += [f"g{share.group:02d}"] if share.group is not None else []
    return ".".join([*parts, f"{chunk:03d}", "json.gz"])


def iso(moment: float) -> str:
    """Return Unix seconds as ISO 8601 UTC text."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def number(value: float) -> str:
    """Return seconds as the API takes them: whole where they are, else to the millisecond."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
