"""The client against recorded protocols: busy, broken, strict and nearly-Prometheus servers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from collect.conftest import Clock
from collect.one_file import METRIC, START, expected, got, grid, planned
from collect.recording_server import (
    PODS,
    Asked,
    Reply,
    Script,
    failure,
    older_prometheus,
    small_prometheus,
    success,
)

from hs_analysis.catalogue import load_catalogue
from hs_analysis.collect.answers import kind_of
from hs_analysis.collect.fetch import ServerLimits, fetch
from hs_analysis.collect.plan import Api, selector_of, wanted_metrics
from hs_analysis.collect.server import ATTEMPTS, LONGEST_GET, QueryError, backoff_s, retry_after_s
from hs_analysis.collect.survey import listed
from hs_analysis.errors import ServerError

APIS = pytest.mark.parametrize("api", ["query_range", "query"])


def once_then(first: list[Reply], then: Script) -> Script:
    """Answer data queries with some replies first, then by a script."""
    waiting = list(first)
    return lambda asked: waiting.pop(0) if waiting and asked.for_data else then(asked)


def test_a_plain_answer(ask: Callable) -> None:
    """One query gives every point; the address, the parameters and the agent are as they should be."""
    server, asked, _ = ask(small_prometheus)
    fetched, points = got(planned(100), server)
    assert (fetched.series, fetched.points, fetched.parts) == (4, 400, 1)
    assert sorted(points) == grid(100)
    (one,) = asked
    assert one.path == "/api/v1/query_range"
    assert {k: v[0] for k, v in one.parameters.items()} == {
        "query": METRIC, "start": "1764000000", "end": "1764001485", "step": "15",
    }  # fmt: skip
    assert one.headers["User-Agent"].startswith("hs-analysis/")


@pytest.mark.parametrize(("status", "header", "pause"), [(429, "7", 7.0), (503, "0", 1.0), (500, None, 1.0)])
def test_a_busy_server_is_asked_again(
    ask: Callable, clock: Clock, status: int, header: str | None, pause: float
) -> None:
    """After the pause it wants, else after a second; the wait is noted."""
    headers = {"Retry-After": header} if header else {}
    server, asked, notes = ask(once_then([Reply(status, b"slow down", headers)], small_prometheus))
    _, points = got(planned(10), server)
    assert sorted(points) == grid(10)
    assert clock.slept == [pause]
    assert notes == [f"the server is busy (HTTP {status}): asking again in {pause:.0f} s"]
    assert len(asked) == 2


def test_back_off_doubles_and_ends(ask: Callable, clock: Clock) -> None:
    """Six attempts, then one error that says so."""
    server, asked, _ = ask(lambda _: Reply(503))
    with pytest.raises(ServerError, match=r"HTTP 503\), 6 times") as caught:
        got(planned(10), server)
    assert not isinstance(caught.value, QueryError)
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert len(asked) == ATTEMPTS
    assert backoff_s(40) == 60.0


def test_a_pause_too_long_is_an_error(ask: Callable, clock: Clock) -> None:
    """The tool does not sleep for hours."""
    server, _, _ = ask(lambda _: Reply(429, b"", {"Retry-After": "7200"}))
    with pytest.raises(ServerError, match="asks to come back in 7200 s"):
        got(planned(10), server)
    assert clock.slept == []


def test_retry_after_forms() -> None:
    """Seconds or an HTTP date; what is neither is as if not sent."""
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    assert retry_after_s("1.5", now) == 1.5
    assert retry_after_s("Tue, 24 Nov 2026 12:00:30 GMT", now) == 30.0
    assert retry_after_s("Tue, 24 Nov 2026 11:00:00 GMT", now) == 0.0
    assert [retry_after_s(text, now) for text in (None, "soon", "")] == [None, None, None]


def test_queries_keep_their_distance(ask: Callable, clock: Clock) -> None:
    """At two a second, five parts take two seconds."""
    server, _, _ = ask(small_prometheus, rate=2.0)
    fetched, _ = got(planned(50, series=4), server, ServerLimits(samples=40))
    assert fetched.parts == 5
    assert clock.now == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("api", "text"),
    [
        ("query_range", "exceeded maximum resolution of 3,000 points per timeseries."),
        ("query", "the query time range exceeds the limit (query length: 45h50m0s, limit: 12h30m0s)"),
    ],
)
def test_a_limit_of_length_halves_chunks_and_is_remembered(ask: Callable, api: Api, text: str) -> None:
    """A server that takes 3,000 points, or 12 hours: no hole, no double, and the next file starts small."""

    def strict(asked: Asked) -> Reply:
        if asked.for_data and asked.length_s > 3000 * 15:
            return failure(400, "bad_data", text)
        return small_prometheus(asked)

    server, asked, _ = ask(strict)
    limits = ServerLimits(10**9)
    file = planned(11_000, api=api)
    fetched, points = got(file, server, limits)
    assert sorted(points) == expected(file)
    assert fetched.parts == 4
    before = len(asked)
    _, points = got(file, server, limits)
    assert sorted(points) == expected(file)
    assert len(asked) - before == 4


def test_samples_as_scraped(ask: Callable) -> None:
    """An instant query whose range selector holds both edges of the stretch, the early one as well."""
    server, asked, _ = ask(small_prometheus)
    file = planned(100, api="query")
    fetched, points = got(file, server)
    assert (fetched.series, fetched.points, fetched.parts) == (4, 100 + 3 * 99, 1)
    assert sorted(points) == expected(file)
    (one,) = asked
    assert one.path == "/api/v1/query"
    assert {k: v[0] for k, v in one.parameters.items()} == {
        "query": f"{METRIC}[1485001ms]", "time": "1764001485",
    }  # fmt: skip


@pytest.mark.parametrize("server_of", [small_prometheus, older_prometheus])
@pytest.mark.parametrize("samples", [1, 7, 50, 300, 10**6])
def test_parts_of_what_was_scraped_lose_nothing(ask: Callable, server_of: Script, samples: int) -> None:
    """Whichever edges a server takes in; where it takes both, a sample on an edge comes twice, alike."""
    server, _, _ = ask(server_of)
    file = planned(40, series=4, api="query")
    fetched, points = got(file, server, ServerLimits(samples))
    assert sorted({(pod, t) for pod, t in points if t >= file.start}) == expected(file)
    assert all(t >= file.start - 0.001 for _, t in points)
    twice = [one for one in set(points) if points.count(one) > 1]
    assert {pod for pod, _ in twice} <= ({PODS[0]} if server_of is older_prometheus else set())
    assert len(points) == len(set(points)) + len(twice)
    assert (fetched.parts > 1) == (samples < 160)


def test_selectors_that_exclude_each_other_are_asked_for_apart(ask: Callable) -> None:
    """No operator joins range selectors; one document an alternative, each series once."""
    file = planned(41, api="query")
    server, asked, _ = ask(small_prometheus)
    _, points = got(replace(file, match=tuple(f'{METRIC}{{pod=~".*-{n}"}}' for n in (0, 1))), server)
    assert sorted(points) == expected(file)
    assert [one.one("query") for one in asked] == [f'{METRIC}{{pod=~".*-{n}"}}[600001ms]' for n in (0, 1)]


def heavy(most: int) -> Script:
    """A server that refuses to load more than some series in one query, as Prometheus does."""

    def script(asked: Asked) -> Reply:
        reply = small_prometheus(asked)
        if asked.for_data and len(json.loads(reply.body)["data"]["result"]) > most:
            return failure(422, "execution", "query processing would load too many samples into memory")
        return reply

    return script


@APIS
@pytest.mark.parametrize(("most", "parts"), [(2, 2), (1, 4)])
def test_a_heavy_query_is_split_by_series(ask: Callable, api: Api, most: int, parts: int) -> None:
    """Each series is in exactly one part."""
    server, _, _ = ask(heavy(most))
    file = planned(20, api=api)
    fetched, points = got(file, server)
    assert fetched.parts == parts
    assert sorted(points) == expected(file)


@APIS
def test_a_heavy_series_is_split_in_time(ask: Callable, api: Api) -> None:
    """When no label divides it any more."""

    def script(asked: Asked) -> Reply:
        if asked.for_data and asked.length_s > 60:
            return failure(503, "timeout", "query timed out in expression evaluation")
        return Reply(404) if "series" in asked.path else small_prometheus(asked)

    server, _, _ = ask(script)
    file = planned(16, api=api)
    fetched, points = got(file, server)
    assert sorted(points) == expected(file)
    assert fetched.parts == 4


@APIS
def test_a_query_that_never_fits(ask: Callable, api: Api) -> None:
    """One error that names the query and what the server said; it ends soon."""
    server, asked, _ = ask(heavy(0))
    with pytest.raises(QueryError, match=r"can't be had even in parts .*too many samples"):
        got(planned(4, api=api), server)
    assert len(asked) < 50


def test_series_are_listed_in_parts_where_a_server_wants_it(ask: Callable) -> None:
    """As Mimir's limits on the length of a query do; each series once, whichever parts it is in."""

    def script(asked: Asked) -> Reply:
        length = float(asked.one("end")) - float(asked.one("start"))
        if length > 86_400:
            return failure(
                422, "bad_data", "the query time range exceeds the limit (err-mimir-max-query-length)"
            )
        return small_prometheus(asked)

    server, asked, _ = ask(script)
    need = next(n for n in wanted_metrics(load_catalogue()) if n.metric == METRIC)
    rows = listed(server, selector_of(need, (), None), (START, START + 3 * 86_400))
    assert [row["pod"] for row in rows] == sorted(PODS)
    assert len(asked) == 7
    with pytest.raises(ServerError, match="can't list the series of vllm:generation_tokens_total"):
        listed(ask(lambda _: Reply(422))[0], selector_of(need, (), None), (START, START + 86_400))


def test_silence_splits_the_query(ask: Callable) -> None:
    """A slow answer is a query too heavy; smaller ones come."""
    import time

    def script(asked: Asked) -> Reply:
        reply = small_prometheus(asked)
        if asked.for_data and len(json.loads(reply.body)["data"]["result"]) > 2:
            time.sleep(0.6)
        return reply

    server, _, _ = ask(script, timeout_s=0.2)
    fetched, points = got(planned(20), server)
    assert fetched.parts == 2
    assert sorted(points) == grid(20)


def test_a_cut_answer_is_asked_for_again(ask: Callable, clock: Clock) -> None:
    """Fewer bytes than promised are no answer, although they may look like one."""
    whole = small_prometheus(
        Asked("/api/v1/query_range", {"query": [METRIC], "start": ["0"], "end": ["15"], "step": ["15"]}, {})
    )
    cut = Reply(200, whole.body[:-40], {"Content-Length": str(len(whole.body))})
    server, _, notes = ask(once_then([cut], small_prometheus), timeout_s=2.0)
    _, points = got(planned(5), server)
    assert sorted(points) == grid(5)
    assert clock.slept == [1.0]
    assert "the connection broke (IncompleteRead)" in notes[0]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"status":"success","data":{"resultType":"matrix","result":[', 'is \'{"status"'),
        (b"<html><title>Sign in</title></html>", r"an HTML page \(Sign in\)"),
        (b"", "an empty answer"),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', "a vector, not a matrix"),
        (b'{"status":"error","errorType":"internal","error":"boom"}', r"an error \(boom\)"),
    ],
)
def test_a_wrong_answer_is_not_kept(ask: Callable, body: bytes, what: str) -> None:
    """Whatever the status says, the body must be a whole matrix."""
    server, _, _ = ask(lambda _: Reply(200, body))
    kept: list[bytes] = []
    with pytest.raises(QueryError, match=what):
        fetch(planned(5), server, ServerLimits(10**6), kept.append)
    assert kept == []


def test_warnings_and_partial_answers_are_kept(ask: Callable) -> None:
    """Thanos' warnings and VictoriaMetrics' isPartial: in the file as they came, and told."""
    matrix = {"resultType": "matrix", "result": []}
    for more, told in (
        ({"warnings": ["store 10.0.0.7 unreachable"]}, "store 10.0.0.7 unreachable"),
        ({"isPartial": True}, "the answer is partial: not every storage node answered"),
    ):
        server, _, _ = ask(lambda _, more=more: success(matrix, **more))
        bodies: list[bytes] = []
        assert fetch(planned(5), server, ServerLimits(10**6), bodies.append).warnings == (told,)
        assert json.loads(bodies[0]).items() >= more.items()
    server, _, _ = ask(lambda _: success(matrix, isPartial=False))
    assert fetch(planned(5), server, ServerLimits(10**6), lambda _: None).warnings == ()


def test_compressed_answers(ask: Callable) -> None:
    """Gzip is asked for and unpacked."""

    def packed(asked: Asked) -> Reply:
        assert asked.headers["Accept-Encoding"] == "gzip"
        return Reply(200, gzip.compress(small_prometheus(asked).body), {"Content-Encoding": "gzip"})

    server, _, _ = ask(packed)
    assert sorted(got(planned(50), server)[1]) == grid(50)


def test_long_queries_are_posted(ask: Callable) -> None:
    """No proxy cuts the address."""
    server, asked, _ = ask(lambda _: success({"resultType": "matrix", "result": []}))
    query = "x" * LONGEST_GET
    assert server.ask("query_range", [("query", query)], kind_of) == "matrix"
    assert asked[0].one("query") == query
    assert asked[0].headers["Content-Type"] == "application/x-www-form-urlencoded"
