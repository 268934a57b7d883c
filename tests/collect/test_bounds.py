"""Requests end: in time however slowly bytes come, in memory however far they unpack, on this server only."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from collect.hostile_server import LIST, MATRIX, Raw, framed, hostile, whole, zipped
from collect.one_file import METRIC, START, planned
from collect.recording_server import Asked, Reply, serving, small_prometheus, success
from collect.test_refusals import certificate

from hs_analysis.collect import server as collect_server
from hs_analysis.collect.access import Access, Secret
from hs_analysis.collect.answers import kind_of, series_of
from hs_analysis.collect.fetch import ServerLimits, fetch
from hs_analysis.collect.server import (
    MOST_SILENT,
    Pace,
    PrometheusServer,
    QueryError,
    SilentError,
    TooHeavyError,
)
from hs_analysis.errors import ServerError

__all__ = ["certificate"]

TIMEOUT_S = 0.3
SLACK_S = 3.0
"""What a loaded machine may add [s]."""

ANSWER = framed(b'{"status":"success","data":{"resultType":"matrix","result":[]}}')
CHUNKED = framed(b"", headers=("Transfer-Encoding: chunked", "Content-Length:"))


def client(url: str, timeout_s: float = TIMEOUT_S, access: Access | None = None) -> PrometheusServer:
    """A client that waits for nothing but answers."""
    return PrometheusServer(
        url, access or Access(), Pace(1e9, lambda: 0.0, lambda _: None), lambda _: None, timeout_s
    )


@pytest.mark.parametrize(
    "raw",
    [
        Raw((b"", b""), 30.0),
        Raw(tuple(ANSWER[at : at + 1] for at in range(len(ANSWER))), 0.05),
        Raw((ANSWER[:-60], *(ANSWER[at : at + 1] for at in range(-60, 0))), 0.05),
        Raw((CHUNKED, *(b"0" for _ in range(99))), 0.05),
        Raw((b"HTTP/1.1 100 Continue\r\n\r\n",), 0.01, endless=True),
    ],
    ids=["silent", "dripping head", "dripping body", "dripping chunk", "going on for ever"],
)
def test_a_request_ends_in_time(raw: Raw) -> None:
    """The limit is on the whole of it: a byte in between does not start it anew."""
    with hostile(lambda _asked: raw) as (url, _):
        began = time.monotonic()
        with pytest.raises(SilentError, match=r"no whole answer within 0\.3 s"):
            client(url).ask("query", [("query", "1")], kind_of)
        assert TIMEOUT_S * 0.9 < time.monotonic() - began < TIMEOUT_S + SLACK_S


@pytest.mark.outside("openssl")
def test_the_time_limit_holds_over_tls(certificate: Path) -> None:
    """As without."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def script(_asked: Asked) -> Reply:
        time.sleep(0.05)
        return Reply(200, b"", {"Content-Length": "9999"})

    with serving(script, context) as (url, _):
        server = client(url, access=Access(ca_file=str(certificate)))
        began = time.monotonic()
        with pytest.raises((ServerError, SilentError)):
            server.ask("query", [("query", "1")], kind_of)
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S


def test_a_hanging_server_ends_the_pull() -> None:
    """After so many requests in a row, whatever is left to be fetched."""
    with hostile(lambda _asked: Raw((b"", b""), 30.0)) as (url, asked):
        server = client(url, 0.4)  # room to connect on a busy machine
        files = [planned(40, api="query") for _ in range(4)]
        errors: list[ServerError] = []
        for file in files:
            with pytest.raises(ServerError) as caught:
                fetch(file, server, ServerLimits(10**6), lambda _: None)
            errors.append(caught.value)
            if not isinstance(caught.value, QueryError):
                break
        assert [type(error) for error in errors] == [QueryError, QueryError, ServerError]
        assert "can't be had even in parts (no whole answer within 0.4 s)" in str(errors[0])
        assert f"gave no whole answer to {MOST_SILENT} requests in a row" in str(errors[-1])
        assert len([one for one in asked if one.for_data]) == MOST_SILENT


def test_a_server_of_crumbs_ends_the_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in time only by the minute is not asked for a week long."""
    monkeypatch.setattr(collect_server, "MOST_SILENT_IN_ALL", 3)

    def answer(asked: Asked) -> Raw:
        reply = small_prometheus(asked)
        late = asked.for_data and len(json.loads(reply.body)["data"]["result"]) > 1
        return Raw((b"", b""), 30.0) if late else Raw((framed(reply.body),))

    with hostile(answer) as (url, asked):
        server = client(url, 0.5)
        with pytest.raises(ServerError, match=r"gave no whole answer to 3 requests, each within 0\.5 s"):
            fetch(planned(40, api="query", series=4), server, ServerLimits(10**6), lambda _: None)
        assert sum(one.for_data for one in asked) < 20


def test_later_files_begin_as_small_as_the_last_one_had_to() -> None:
    """A slow server is not asked for too much file by file."""

    def answer(asked: Asked) -> Raw:
        reply = small_prometheus(asked)
        late = asked.for_data and asked.length_s > 400
        return Raw((b"", b""), 30.0) if late else Raw((framed(reply.body),))

    with hostile(answer) as (url, asked):
        server, limits = client(url, 0.5), ServerLimits(10**6)
        for late in (True, False):
            asked.clear()
            fetch(planned(40, api="query", series=4), server, limits, lambda _: None)
            assert any(one.for_data and one.length_s > 400 for one in asked) == late


def test_a_probe_that_hangs_is_one_line() -> None:
    """The first question of all."""
    with (
        hostile(lambda _asked: Raw((b"", b""), 30.0)) as (url, asked),
        pytest.raises(ServerError, match=r"does not answer the query 1 \(no whole answer within 0\.1 s\)"),
    ):
        client(url, 0.1).located()
    assert len(asked) == 1


BOMBS = {
    "blanks": (MATRIX, b" "),
    "lists": (MATRIX, b"[],"),
    "numbers": (MATRIX, b"1,"),
    "texts": (LIST, b'"",'),
    "series": (MATRIX, b'{"metric":{"a":"b"},"values":[[1,"1"]]},'),
    "labels": (LIST, b'{"__name__":"up"},'),
    "nested": (MATRIX, b"["),
}

CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from collect.one_file import planned
from collect.test_bounds import client
from hs_analysis.collect.answers import series_of
from hs_analysis.collect.fetch import ServerLimits, fetch
from hs_analysis.collect.server import TooHeavyError
from hs_analysis.errors import ServerError
server = client(sys.argv[1], 60.0)
for ask in (
    lambda: fetch(planned(1), server, ServerLimits(10**6), lambda _: None),
    lambda: server.ask("series", [("match[]", "up")], series_of),
    lambda: server.located(),
):
    try:
        ask()
    except (ServerError, TooHeavyError) as error:
        print(str(error)[:200])
# Not ru_maxrss: a child starts with the most that the process held which started it.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("size", [47 << 20, 4 << 30], ids=["just below the limit", "4 GB"])
@pytest.mark.parametrize("kind", [*BOMBS])
@pytest.mark.slow
def test_bombs(kind: str, size: int) -> None:
    """A small answer that unpacks into much is refused before it fills the memory."""
    assert bombed(*BOMBS[kind], size) <= 512 << 20


def test_a_bomb_is_refused() -> None:
    """The same for one: 4 MB that would be 4 GB."""
    assert bombed(*BOMBS["lists"], 4 << 30) <= 512 << 20


def bombed(head: bytes, chunk: bytes, size: int) -> int:
    """Return the most memory [bytes] of a client that is given a bomb to each of its questions."""
    block = chunk * ((1 << 20) // len(chunk))
    body = zipped(block, size >> 20, head) if size > 1 << 30 else gzip.compress(head + block * (size >> 20))
    assert len(body) < 16 << 20
    raw = Raw((framed(body, headers=("Content-Encoding: gzip",)),))
    with hostile(lambda _asked: raw) as (url, _):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, url], capture_output=True, text=True, check=True,
            env=os.environ | {"NO_PROXY": "127.0.0.1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    *said, most = done.stdout.splitlines()
    assert len(said) == 3, done.stdout
    return int(most) << 10


def test_the_largest_answers_that_are_read() -> None:
    """A body over the limit is asked for in parts; nothing of it is kept."""
    rows = [{"metric": {"__name__": METRIC}, "values": [[START, "1" * 60_000_000]]}]
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}}).encode()
    with (
        hostile(lambda _asked: Raw((framed(body),))) as (url, _),
        pytest.raises(TooHeavyError, match="48 MiB"),
    ):
        client(url, 60.0).ask("query", [("query", "1")], kind_of)


ELSEWHERE = (
    "http://127.0.0.1:{other}/api/v1/query",
    "https://127.0.0.1:{port}/api/v1/query",
    "http://localhost:{port}/api/v1/query",
    "//127.0.0.1:{other}/",
    "http://user@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@127.0.0.1:{other}/",
    "http://[::1",
    "http://127.0.0.1:port/",
    "",
)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_credential_leaves_the_server(ask: Callable, status: int) -> None:
    """Another port, scheme or host, however it is written, is asked nothing at all."""
    other, seen, _ = ask(small_prometheus)
    access = Access(token=Secret("tok-3f9a-very-secret"), tenant="team-a")
    for place in ELSEWHERE:
        location = ""

        def script(_asked: Asked) -> Reply:
            return Reply(status, b"", {"Location": location})  # noqa: B023 - asked within the turn

        server, asked, _ = ask(script, access)
        port, away = (one.base.rpartition(":")[2] for one in (server, other))
        location = place.format(port=port, other=away)
        with pytest.raises(ServerError, match="the server sends on to") as caught:
            server.ask("query", [("query", "1")], kind_of)
        assert "\n" not in str(caught.value)
        assert len(asked) == 1
    assert seen == []


def test_redirects_on_the_server_are_followed_so_often(ask: Callable) -> None:
    """Credentials go along; round and round they do not go for ever."""
    server, asked, _ = ask(lambda one: Reply(302, b"", {"Location": f"{one.path}x?query=1"}))
    with pytest.raises(ServerError, match="sends on more than 5 times; give the final address"):
        server.ask("query", [("query", "1")], kind_of)
    assert len(asked) == 6
    long, asked, _ = ask(lambda _: Reply(307, b"", {"Location": "/other"}))
    with pytest.raises(ServerError, match="the server sends on to elsewhere"):
        long.ask("query", [("query", "x" * 5_000)], kind_of)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"Retry-After": "nan"}, [1.0]), ({"Retry-After": "inf"}, [1.0]), ({"Retry-After": "-5"}, [1.0]),
        ({"Retry-After": "Tue, 99 Foo"}, [1.0]), ({"Retry-After": "3"}, [3.0]),
    ],
)  # fmt: skip
def test_pauses_that_are_none(ask: Callable, clock, headers: dict[str, str], waits: list[float]) -> None:
    """Waits as if nothing had been said."""
    replies = [Reply(429, b"", headers), success([])]
    server, _, _ = ask(lambda _: replies.pop(0))
    server.ask("series", [("match[]", "up")], series_of)
    assert clock.slept == waits


def test_pauses_add_up(ask: Callable, clock) -> None:
    """A server that wants five minutes every time is taken as down after ten."""
    server, asked, _ = ask(lambda _: Reply(429, b"", {"Retry-After": "300"}))
    with pytest.raises(ServerError, match="asks to come back in 300 s"):
        server.ask("series", [("match[]", "up")], series_of)
    assert clock.slept == [300.0, 300.0]
    assert len(asked) == 3


def test_a_length_that_is_no_number() -> None:
    """The answer is whole all the same: its JSON says so."""
    body = json.dumps({"status": "success", "data": []}).encode()
    for length in ("abc", "-5", "1e3", "²"):
        raw = Raw((framed(body, headers=(f"Content-Length: {length}",)),))
        with hostile(lambda _asked, raw=raw: raw) as (url, _):
            assert client(url, 20.0).ask("series", [("match[]", "up")], series_of) == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (None, "an answer without 'data'"), (7, "no list of series"),
        ([1, 2], "a number where labels should be"), (["a"], "a text where labels should be"),
        ([None], "null where labels should be"),
        ([{"pod": 3}], "a label 'pod' that is a number, not a text"), ({"a": 1}, "no list of series"),
        ([[["a"]]], "a list where labels should be"),
    ],
)  # fmt: skip
def test_lists_of_series_that_are_none(data: object, what: str) -> None:
    """One line that says what stands there."""
    with hostile(lambda _asked: whole(success_of(data))) as (url, _):
        with pytest.raises(QueryError, match=f"the answer to series up is .*{what}") as caught:
            client(url, 20.0).ask("series", [("match[]", "up")], series_of)
        assert str(caught.value).endswith("; ask again; a proxy may have cut or changed it")


def success_of(data: object) -> dict[str, object]:
    """A document."""
    return {"status": "success", "data": data}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"metric": {"__name__": METRIC}}, "a series without values"),
        ({"metric": {"__name__": METRIC}, "values": 7}, "no pair of time and value"),
        ({"metric": {"__name__": METRIC}, "values": [[START]]}, "no pair of time and value"),
        ({"metric": {"__name__": METRIC}, "values": [["noon", "1"]]}, r"a time that is no number \('noon'\)"),
        ({"metric": {"__name__": METRIC}, "values": [[True, "1"]]}, r"a time that is no number \('True'\)"),
        ({"metric": {"__name__": METRIC}, "values": [[START, 1]]}, r"a value that is no text \('1'\)"),
        ({"metric": {"__name__": METRIC}, "values": [[START, "x"]]}, r"a value that is no number \('x'\)"),
        ({"metric": {"__name__": "other"}, "values": []}, "series of another metric"),
        ({"metric": {"pod": None}, "values": []}, "a label 'pod' that is null"),
        (None, "a matrix that holds null where a series should be"),
    ],
)
def test_matrices_that_are_none(row: object, what: str) -> None:
    """Nothing of them is kept."""
    document = success_of({"resultType": "matrix", "result": [row]})
    kept: list[bytes] = []
    with hostile(lambda _asked: whole(document)) as (url, _), pytest.raises(QueryError, match=what):
        fetch(planned(5), client(url, 20.0), ServerLimits(10**6), kept.append)
    assert kept == []


def test_what_nobody_expected_is_one_line(ask: Callable) -> None:
    """A bug in a reader is an error of that query, with the place, and without what was sent."""
    server, _, _ = ask(small_prometheus, Access(token=Secret("tok-3f9a-very-secret")))

    def broken(_body: bytes) -> None:
        raise ZeroDivisionError("tok-3f9a-very-secret")

    with pytest.raises(
        QueryError, match=r"could not be read \(ZeroDivisionError in test_bounds\.py:\d+: "
    ) as caught:
        server.ask("query", [("query", "1")], broken)
    assert "this is a bug in hsa: please report it" in str(caught.value)
    assert "secret" not in str(caught.value)
