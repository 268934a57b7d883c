"""The plan: which queries give a study's data, in chunks that a server answers, as data.

One grid is aligned to the step; chunk i holds the points ``first + i·n·step`` to
``first + (i·n + n − 1)·step`` inclusive, so that two chunks share no edge and leave no hole. Samples as
scraped are asked for in stretches of time that end where those chunks do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zlib import crc32

from hs_analysis.collect.selectors import query_of
from hs_analysis.collect.shares import Api, Share
from hs_analysis.errors import UsageError

PLAN_SCHEMA = "hs-analysis/plan/v1"
PLAN_FILE = "plan.json"

MOST_POINTS = 11_000
"""Points per series and query; Prometheus refuses when (end − start) ÷ step is above it (web/api/v1).
Samples as scraped have no such limit; as many make a file of theirs."""

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
    """A stretch of the grid: Unix seconds of its first and last point, both inclusive.

    Of samples as scraped: its earliest and latest moment, both inclusive, and the most samples that a series
    of this spacing has in it.
    """

    start: float
    end: float
    points: int


@dataclass(frozen=True)
class PlannedFile:
    """One file and what gives it.

    Attributes
    ----------
    file
        File name.
    metric, signal, exporter, role
        What it carries; ``signal`` is null for witnesses of scrapes and roles, ``role`` unless split by it.
    query
        The PromQL expression of the series; ``match`` are its selectors, one by one, and none for a query of
        the user's, which can't be divided by series.
    start, end
        Unix seconds of the first and last point, or of the earliest and latest sample; both inclusive.
    step_s
        Distance of points, or of samples as scraped [s].
    expected_points
        Points of a series that is there all the time; null where the scrape interval is an assumption.
    expected_series
        Series the server listed; null when it was not asked.
    api
        Whether ``query`` is evaluated on the grid by ``query_range``, or the samples of each of ``match`` are
        asked for as scraped, by ``query`` with a range selector.
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
    expected_points: int | None
    expected_series: int | None = None
    api: Api = "query_range"

    @property
    def chunk(self) -> Chunk:
        """The stretch of the grid, or of time."""
        step = max(_ms(self.step_s), 1)
        return Chunk(self.start, self.end, (_ms(self.end) - _ms(self.start)) // step + 1)

    @property
    def selections(self) -> tuple[tuple[str, ...], ...]:
        """Selectors that are asked for together: ``or`` joins those of a grid, but no range selectors."""
        return tuple((one,) for one in self.match) if self.api == "query" else (self.match or (self.query,),)


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
    step = max(_ms(step_s), 1)
    first = -(-_ms(start) // step) * step
    total = (_ms(end) - first) // step + 1
    for begin in range(0, total, points):
        size = min(points, total - begin)
        at = first + begin * step
        yield Chunk(at / 1000, (at + (size - 1) * step) / 1000, size)


def stretches(start: float, end: float, step_s: float, points: int = MOST_POINTS) -> Iterator[Chunk]:
    """Yield stretches of time that cover [start, end], Unix seconds, each millisecond in exactly one.

    A series sampled every ``step_s`` has at most ``points`` samples in one. A stretch ends at a point of the
    grid where its chunk would, the next begins a millisecond later, and the last ends with the window.
    """
    step = max(_ms(step_s), 1)
    at, last = _ms(start), _ms(end)
    while at <= last:
        stop = min(-(-at // step) * step + (points - 1) * step, last)
        yield Chunk(at / 1000, stop / 1000, (stop - at) // step + 1)
        at = stop + 1


def cut(api: Api, start: float, end: float, step_s: float, points: int) -> Iterator[Chunk]:
    """Yield the chunks of a window as an API is asked for them."""
    yield from (stretches if api == "query" else chunks)(start, end, step_s, points)


def parameters(api: Api, match: Sequence[str], chunk: Chunk, step_s: float) -> list[tuple[str, str]]:
    """Return what the API is sent for some selectors over a chunk.

    A range selector is a millisecond longer than the stretch: since Prometheus 3, and in VictoriaMetrics, it
    leaves its early edge out. Older servers take it in, so that a sample exactly there comes twice.
    """
    query = query_of(match)
    if api == "query":
        return [("query", f"{query}[{_length(chunk)}]"), ("time", number(chunk.end))]
    start, end, step = (number(value) for value in (chunk.start, chunk.end, step_s))
    return [("query", query), ("start", start), ("end", end), ("step", step)]


def count_of(api: Api, match: Sequence[str], chunk: Chunk, step_s: float) -> list[tuple[str, str]]:
    """Return what an instant query is sent for the number of samples that ``parameters`` asks for.

    Of a grid a subquery counts the points: its own are at the multiples of the step, as the plan's are.
    """
    if api == "query":
        parts = [f"count_over_time({one}[{_length(chunk)}])" for one in match]
    else:
        parts = [f"count_over_time(({query_of(match)})[{_length(chunk)}:{_ms(step_s)}ms])"]
    return [("query", f"sum({query_of(parts)})"), ("time", number(chunk.end))]


def _length(chunk: Chunk) -> str:
    """Return the length of a range selector over a stretch, both edges in it."""
    length = _ms(chunk.end) - _ms(chunk.start) + 1
    return f"{length}ms" if length % 1000 else f"{length // 1000}s"


def _ms(seconds: float) -> int:
    """Return seconds in whole milliseconds, the resolution of Prometheus."""
    return round(seconds * 1000)


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
    for number, chunk in enumerate(cut(share.api, *window, share.step_s, points)):
        yield PlannedFile(
            file=file_name(share, number), metric=share.need.metric, signal=share.need.signal,
            exporter=share.need.exporter, role=share.role, query=query, match=match,
            start=chunk.start, end=chunk.end, step_s=share.step_s,
            expected_points=None if share.assumed and share.api == "query" else chunk.points,
            expected_series=share.series, api=share.api,
        )  # fmt: skip


def on_grid(plan: Plan, there: Collection[str], why: str) -> Plan:
    """Return a plan whose files are asked for by ``query_range``, but for those that are there.

    ``why`` becomes a note. A stretch of time too short to hold a point of the grid has no file any more.
    """
    files = (
        file if file.api == "query_range" or file.file in there else _gridded(file) for file in plan.files
    )
    return replace(plan, files=tuple(file for file in files if file), notes=(*plan.notes, why))


def _gridded(file: PlannedFile) -> PlannedFile | None:
    """Return a file of samples as scraped as one of points; None where no point lies in its stretch."""
    for chunk in chunks(file.start, file.end, file.step_s):
        return replace(
            file, api="query_range", start=chunk.start, end=chunk.end, expected_points=chunk.points
        )
    return None


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
