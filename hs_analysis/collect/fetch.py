"""One planned file: its query in as many parts as the server needs, so that nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hs_analysis.collect.answers import RangeAnswer, range_answer, series_of, total_of
from hs_analysis.collect.plan import (
    MOST_POINTS,
    Api,
    Chunk,
    PlannedFile,
    count_of,
    cut,
    halves,
    number,
    parameters,
)
from hs_analysis.collect.selectors import query_of, with_matcher
from hs_analysis.collect.server import (
    PrometheusServer,
    QueryError,
    SilentError,
    TooHeavyError,
    TooManyPointsError,
)
from hs_analysis.errors import ServerError

DEEPEST = 14
"""A query is halved at most this often; one that still fails then does not fail for its size."""

MOST_SILENT_PARTS = 4
"""A file is given up after so many of its queries in a row were not answered in time, each half the last."""


@dataclass
class ServerLimits:
    """What a server takes at once; it shrinks when it says so or is late, and stays so for the next files.

    ``points`` is the most points of a series in one query, ``samples`` the most series × points of one, where
    the number of series is known.
    """

    samples: int
    points: int = MOST_POINTS

    def points_for(self, series: int | None) -> int:
        """Return the points per series of one query."""
        return min(self.points, max(1, self.samples // series)) if series else self.points

    def was_slow(self, series: int | None, points: int) -> None:
        """Ask for half as much from now on: a part of some series × points was not answered in time."""
        if series:
            self.samples = max(1, min(self.samples, series * points) // 2)


@dataclass(frozen=True)
class QueryPart:
    """A part of what a file holds: some of its series over some of its points; ``depth`` counts halvings.

    ``divides``: whether its selectors can be narrowed; a query of the user's can't. ``metric`` is the name of
    its series, None for a query.
    """

    api: Api
    match: tuple[str, ...]
    chunk: Chunk
    step_s: float
    divides: bool
    metric: str | None = None
    depth: int = 0


@dataclass(frozen=True)
class FetchedFile:
    """What a file holds.

    Attributes
    ----------
    series
        Series with a sample in the file's stretch, over all parts.
    points
        Samples in it.
    outside
        Samples that lie outside it.
    first_s, last_s
        Earliest and latest sample, wherever they lie [Unix s]; null without any.
    asked
        The parts that were asked for.
    warnings
        What the server said, each text once.
    """

    series: int
    points: int
    outside: int
    first_s: float | None
    last_s: float | None
    asked: tuple[QueryPart, ...]
    warnings: tuple[str, ...]

    @property
    def parts(self) -> int:
        """Number of parts."""
        return len(self.asked)


def fetch(
    file: PlannedFile, server: PrometheusServer, limits: ServerLimits, write: Callable[[bytes], object]
) -> FetchedFile:
    """Ask for a file's points and write the answers as they came, one JSON document a part.

    A query over too many points is halved in time; one that is too heavy is split by series, then in time.

    Raises
    ------
    QueryError
        When a part can't be had, however small.
    ServerError
        When the server can't be had.
    """
    points = limits.points_for(file.expected_series)
    waiting = [
        part
        for match in reversed(file.selections)
        for part in _in_time(
            QueryPart(file.api, match, file.chunk, file.step_s, bool(file.match), _name_of(file)), points
        )
    ]
    answers: list[tuple[QueryPart, RangeAnswer]] = []
    while waiting:
        part = waiting.pop()
        try:
            answer = _answers(part, server, write)
        except TooManyPointsError as error:
            waiting += _shorter(part, limits, server, str(error))
        except TooHeavyError as error:
            if isinstance(error, SilentError):
                if server.silence(part.api) >= MOST_SILENT_PARTS:
                    raise _gives_up(part, server, str(error)) from None
                limits.was_slow(file.expected_series, part.chunk.points)
            waiting += _lighter(part, server, str(error))
        else:
            answers.append((part, answer))
    return _combined(answers, server)


def _name_of(file: PlannedFile) -> str | None:
    return file.metric if file.match else None


def _combined(answers: Sequence[tuple[QueryPart, RangeAnswer]], server: PrometheusServer) -> FetchedFile:
    """Return what the answers to all parts hold."""
    got = [answer for _, answer in answers]
    warnings = dict.fromkeys(server.access.masked(text) for answer in got for text in answer.warnings)
    return FetchedFile(
        series=len(frozenset[int]().union(*(answer.keys for answer in got))),
        points=sum(answer.points for answer in got),
        outside=sum(answer.outside for answer in got),
        first_s=min((one.first_s for one in got if one.first_s is not None), default=None),
        last_s=max((one.last_s for one in got if one.last_s is not None), default=None),
        asked=tuple(part for part, _ in answers),
        warnings=tuple(warnings),
    )


def counted(asked: Sequence[QueryPart], server: PrometheusServer) -> int | None:
    """Return how many samples a server counts in some parts, by itself; None when it does not say.

    What it counts is what it should have given: series that began, ended or paused have fewer samples than
    their stretch has scrapes, and only the server can tell those from samples that were lost on the way.
    """
    total = 0
    for part in asked:
        try:
            total += server.ask("query", count_of(part.api, part.match, part.chunk, part.step_s), total_of)
        except (QueryError, TooHeavyError, TooManyPointsError):
            return None
    return total


def _answers(part: QueryPart, server: PrometheusServer, write: Callable[[bytes], object]) -> RangeAnswer:
    def read(body: bytes) -> tuple[bytes, RangeAnswer]:
        return body, range_answer(body, part.chunk.start, part.chunk.end, part.metric)

    body, answer = server.ask(part.api, parameters(part.api, part.match, part.chunk, part.step_s), read)
    most = server.backend.most_series
    if (most is not None and len(answer.keys) >= most) or any("truncated" in one for one in answer.warnings):
        raise TooHeavyError(f"an answer of {len(answer.keys)} series, which is a part of them")
    if server.access.shows_in(body):
        raise QueryError("the answer quotes the credentials, so it was not kept", where=server.base)
    write(body.rstrip() + b"\n")
    return answer


def _in_time(part: QueryPart, points: int) -> list[QueryPart]:
    """Return a part's chunks of at most some points, the first one last: parts are taken from the end."""
    smaller = cut(part.api, part.chunk.start, part.chunk.end, part.step_s, points)
    return [replace(part, chunk=chunk) for chunk in smaller][::-1]


def _halved(part: QueryPart) -> list[QueryPart]:
    return _in_time(replace(part, depth=part.depth + 1), -(-part.chunk.points // 2))


def _shorter(part: QueryPart, limits: ServerLimits, server: PrometheusServer, text: str) -> list[QueryPart]:
    if part.chunk.points == 1 or part.depth >= DEEPEST:
        raise _gives_up(part, server, text)
    limits.points = min(limits.points, -(-part.chunk.points // 2))
    return _halved(part)


def _lighter(part: QueryPart, server: PrometheusServer, text: str) -> list[QueryPart]:
    if part.depth >= DEEPEST:
        raise _gives_up(part, server, text)
    series = _listed(part, server) if part.divides else []
    if in_two := halves(series):
        matches = [tuple(with_matcher(one, matcher) for one in part.match) for matcher in in_two]
        return [replace(part, match=match, depth=part.depth + 1) for match in reversed(matches)]
    if part.chunk.points == 1:
        raise _gives_up(part, server, text)
    return _halved(part)


def _listed(part: QueryPart, server: PrometheusServer) -> list[dict[str, str]]:
    """Return the labels of a part's series; none when the server does not list them."""
    bounds = [("start", number(part.chunk.start)), ("end", number(part.chunk.end))]
    try:
        return server.ask("series", [*(("match[]", one) for one in part.match), *bounds], series_of)
    except (ServerError, TooHeavyError, TooManyPointsError):
        return []


def _gives_up(part: QueryPart, server: PrometheusServer, text: str) -> QueryError:
    return QueryError(
        f"{query_of(part.match)} can't be had even in parts ({text})", where=server.base,
        hint="narrow it with --match or --namespace, or ask for a shorter window",
    )  # fmt: skip
