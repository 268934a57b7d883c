"""One planned file: its query in as many parts as the server needs, so that nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hs_analysis.collect.answers import Answer, NotAnAnswerError, judged
from hs_analysis.collect.plan import MOST_POINTS, Chunk, PlannedFile, cut, number, parameters
from hs_analysis.collect.selectors import query_of, with_matcher
from hs_analysis.collect.server import QueryError, Server, TooHeavyError, TooManyPointsError
from hs_analysis.collect.shares import Api, halves
from hs_analysis.errors import ServerError

DEEPEST = 14
"""A query is halved at most this often; one that still fails then does not fail for its size."""


@dataclass
class Limits:
    """What a server takes at once; ``points`` shrinks when it says so, and stays so for the next files.

    ``samples`` is the most series × points of one query, where the number of series is known.
    """

    samples: int
    points: int = MOST_POINTS

    def points_for(self, series: int | None) -> int:
        """Return the points per series of one query."""
        return min(self.points, max(1, self.samples // series)) if series else self.points


@dataclass(frozen=True)
class Fetched:
    """What a file holds: series in its fullest part, points of all parts, parts, the server's warnings."""

    series: int
    points: int
    parts: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """A part of what a file holds: some of its series over some of its points; ``depth`` counts halvings.

    ``divides``: whether its selectors can be narrowed; a query of the user's can't.
    """

    api: Api
    match: tuple[str, ...]
    chunk: Chunk
    step_s: float
    divides: bool
    depth: int = 0


def fetch(file: PlannedFile, server: Server, limits: Limits, write: Callable[[bytes], None]) -> Fetched:
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
        for part in _in_time(_Part(file.api, match, file.chunk, file.step_s, bool(file.match)), points)
    ]
    answers: list[Answer] = []
    while waiting:
        part = waiting.pop()
        try:
            answer = _asked(part, server, write)
        except TooManyPointsError as error:
            waiting += _shorter(part, limits, server, str(error))
        except TooHeavyError as error:
            waiting += _lighter(part, server, str(error))
        else:
            answers.append(answer)
    warnings = dict.fromkeys(server.access.masked(text) for answer in answers for text in answer.warnings)
    return Fetched(
        max(answer.series for answer in answers), sum(answer.points for answer in answers),
        len(answers), tuple(warnings),
    )  # fmt: skip


def _asked(part: _Part, server: Server, write: Callable[[bytes], None]) -> Answer:
    body = server.get(part.api, parameters(part.api, part.match, part.chunk, part.step_s))
    try:
        answer = judged(body)
    except NotAnAnswerError as error:
        what = f"the answer to {query_of(part.match)} is {server.access.masked(str(error))}"
        raise QueryError(what, where=server.base, hint="ask again; a proxy may have cut it") from None
    if server.access.shows_in(body):
        raise QueryError("the answer quotes the credentials, so it was not kept", where=server.base)
    write(body.rstrip() + b"\n")
    return answer


def _in_time(part: _Part, points: int) -> list[_Part]:
    """Return a part's chunks of at most some points, the first one last: parts are taken from the end."""
    smaller = cut(part.api, part.chunk.start, part.chunk.end, part.step_s, points)
    return [replace(part, chunk=chunk) for chunk in smaller][::-1]


def _halved(part: _Part) -> list[_Part]:
    return _in_time(replace(part, depth=part.depth + 1), -(-part.chunk.points // 2))


def _shorter(part: _Part, limits: Limits, server: Server, text: str) -> list[_Part]:
    if part.chunk.points == 1 or part.depth >= DEEPEST:
        raise _gives_up(part, server, text)
    limits.points = min(limits.points, -(-part.chunk.points // 2))
    return _halved(part)


def _lighter(part: _Part, server: Server, text: str) -> list[_Part]:
    if part.depth >= DEEPEST:
        raise _gives_up(part, server, text)
    series = _listed(part, server) if part.divides else []
    if in_two := halves(series):
        matches = [tuple(with_matcher(one, matcher) for one in part.match) for matcher in in_two]
        return [replace(part, match=match, depth=part.depth + 1) for match in reversed(matches)]
    if part.chunk.points == 1:
        raise _gives_up(part, server, text)
    return _halved(part)


def _listed(part: _Part, server: Server) -> list[dict[str, str]]:
    """Return the labels of a part's series; none when the server does not list them."""
    bounds = [("start", number(part.chunk.start)), ("end", number(part.chunk.end))]
    try:
        return list(server.data("series", [*(("match[]", one) for one in part.match), *bounds]))
    except (ServerError, TooHeavyError, TooManyPointsError):
        return []


def _gives_up(part: _Part, server: Server, text: str) -> QueryError:
    return QueryError(
        f"{query_of(part.match)} can't be had even in parts ({text})", where=server.base,
        hint="narrow it with --match or --namespace, or ask for a shorter window",
    )  # fmt: skip
