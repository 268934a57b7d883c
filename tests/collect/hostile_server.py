"""A small Prometheus on 127.0.0.1 that gives wrong answers, by a seed: garbage, losses, bombs and silence."""

from __future__ import annotations

import gzip
import json
import random
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from collect.recording_server import Asked

from hs_analysis.collect.selectors import parse_matchers

START, END, STEP_S = 1_764_000_000.0, 1_764_003_600.0, 15.0
METRICS = ("vllm:num_requests_running", "vllm:generation_tokens_total", "vllm:num_requests_waiting", "up")
WINDOW = ("--from", "2025-11-24T16:00:00Z", "--to", "2025-11-24T17:00:00Z")

LOOK_BACK_S = 300.0

SLOW_S = 1.0
"""Time limit that is given where the server is slow [s]."""


@dataclass(frozen=True)
class Raw:
    """What is sent: a whole response, headers included, piece by piece with a pause after each [s]."""

    pieces: tuple[bytes, ...]
    pause_s: float = 0.0
    endless: bool = False


Fault = Callable[[Asked, Any], Raw]


def framed(body: bytes, status: str = "200 OK", headers: tuple[str, ...] = ()) -> bytes:
    """A response: a header of the same name given here takes the place of the usual one."""
    given = {line.partition(":")[0].lower() for line in headers}
    usual = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    lines = [line for line in usual if line.partition(":")[0].lower() not in given]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, *headers, "Connection: close"])
    return head.encode("latin-1", "replace") + b"\r\n\r\n" + body


def success(data: Any, **more: Any) -> dict[str, Any]:
    """A document."""
    return {"status": "success", "data": data, **more}


@dataclass
class Fleet:
    """What the server has: sample times of each series; and whether it lists more, and counts at all.

    ``extra`` are series that are listed and have no sample in the window: a head block does so.
    """

    times: dict[tuple[tuple[str, str], ...], list[float]]
    extra: list[dict[str, str]] = field(default_factory=list)
    counts: bool = True

    @classmethod
    def drawn(cls, draw: random.Random, churn: bool, counts: bool) -> Fleet:
        """A fleet of some pods; with churn they come, go and pause."""
        pods = [f"m-{role}-{n}" for role in ("prefill", "decode") for n in range(draw.randint(1, 4))]
        times: dict[tuple[tuple[str, str], ...], list[float]] = {}
        extra = []
        for pod in pods:
            phase = round(draw.uniform(0, STEP_S), 3)
            own = [START + phase + STEP_S * n for n in range(int((END - START - phase) // STEP_S) + 1)]
            if churn and draw.random() < 0.7:
                first, last = sorted(draw.sample(range(len(own)), 2))
                own = own[first : last + 1]
            if churn and draw.random() < 0.4:
                own = [t for t in own if draw.random() < 0.9] or own[:1]
            for metric in METRICS:
                labels = {"__name__": metric, "pod": pod, "job": "vllm", "model_name": "m"}
                times[tuple(sorted(labels.items()))] = [round(t, 3) for t in own]
        if churn:
            gone = {"pod": "m-prefill-gone", "job": "vllm", "model_name": "m"}
            extra = [{"__name__": metric, **gone} for metric in METRICS if draw.random() < 0.5]
        return cls(times, extra, counts)

    def answer(self, asked: Asked) -> dict[str, Any] | None:
        """The document of an honest answer; None for what is refused."""
        what = asked.path.rpartition("/")[2]
        if what == "values":
            return success(sorted({dict(key)["__name__"] for key in self.times}))
        if what == "series":
            rows = [dict(key) for key in self.times] + self.extra
            return success([row for row in rows if any(_takes(m, row) for m in asked.parameters["match[]"])])
        query = asked.one("query")
        if query == "1":
            return success({"resultType": "scalar", "result": [0, "1"]})
        if what == "query_range":
            held = self.on_grid(query, float(asked.one("start")), float(asked.one("end")))
            return success({"resultType": "matrix", "result": _matrix(held)})
        at = float(asked.one("time"))
        if query.startswith("sum("):
            if not self.counts:
                return None
            parts = re.findall(r"count_over_time\((.*?\])\)", query)
            total = sum(len(times) for part in parts for _, times in self.held(part, at))
            result = [{"metric": {}, "value": [at, str(total)]}] if total else []
            return success({"resultType": "vector", "result": result})
        return success({"resultType": "matrix", "result": _matrix(self.held(query, at))})

    def held(self, query: str, at: float) -> Iterator[tuple[dict[str, str], list[float]]]:
        """The series of a range selector, with their times in it."""
        selector, _, text = query.removesuffix("]").rpartition("[")
        text, _, step = text.partition(":")
        if step:
            yield from self.on_grid(selector.strip("()"), at - float(text.removesuffix("ms")) / 1000, at)
            return
        length = float(text.removesuffix("ms")) / 1000 if text.endswith("ms") else float(text[:-1])
        for key, times in self.times.items():
            if _takes(selector, dict(key)):
                yield dict(key), [t for t in times if at - length < t <= at]

    def on_grid(
        self, selector: str, start: float, end: float
    ) -> Iterator[tuple[dict[str, str], list[float]]]:
        """The series of a selector, with the points of the grid at which they have a value."""
        grid = [t for t in (START + STEP_S * n for n in range(241)) if start <= t <= end]
        for key, times in self.times.items():
            if _takes(selector, dict(key)):
                yield dict(key), [t for t in grid if any(t - LOOK_BACK_S < at <= t for at in times)]


def _matrix(held: Iterator[tuple[dict[str, str], list[float]]]) -> list[dict[str, Any]]:
    return [
        {"metric": row, "values": [[t, str(round(t % 1000, 3))] for t in times]}
        for row, times in held
        if times
    ]


def _takes(selector: str, row: dict[str, str]) -> bool:
    metric, _, inside = selector.partition("{")
    if metric and row["__name__"] != metric:
        return False
    return all(one.accepts(row) for one in parse_matchers(inside.removesuffix("}"), "test"))


def for_data(asked: Asked) -> bool:
    """Whether samples are asked for that are to be kept: in the small fleets those of the whole window."""
    query = asked.parameters.get("query", [""])[0]
    return asked.path.endswith("query_range") or query.endswith("[3600001ms]")


def whole(document: Any) -> Raw:
    """The response of a document."""
    return Raw((framed(json.dumps(document).encode()),))


def refused() -> Raw:
    """What a server says to a query it does not know."""
    body = b'{"status":"error","errorType":"bad_data","error":"unknown function"}'
    return Raw((framed(body, "400 Bad Request"),))


# --- losses -------------------------------------------------------------------------------------------------


def lossy(draw: random.Random) -> tuple[str, Callable[[list[Any]], list[Any]]]:
    """A loss and its name: it takes samples from an answer's rows."""
    share, every = draw.uniform(0.1, 0.9), draw.choice([2, 3, 5])
    seed, by = draw.random(), draw.choice([-400, -1, 1, 400]) * 86_400

    def fewer_series(rows: list[Any]) -> list[Any]:
        return rows[: min(len(rows) - 1, round(len(rows) * (1 - share)))]

    def tail(rows: list[Any]) -> list[Any]:
        return [_with(row, row["values"][: int(len(row["values"]) * (1 - share))]) for row in rows]

    def head(rows: list[Any]) -> list[Any]:
        return [_with(row, row["values"][int(len(row["values"]) * share) + 1 :]) for row in rows]

    def thinned(rows: list[Any]) -> list[Any]:
        return [_with(row, row["values"][::every]) for row in rows]

    def scattered(rows: list[Any]) -> list[Any]:
        toss = random.Random(seed)
        return [_with(row, [v for v in row["values"] if toss.random() > share]) for row in rows]

    def nothing(_rows: list[Any]) -> list[Any]:
        return []

    def shifted(rows: list[Any]) -> list[Any]:
        return [_with(row, [[t + by, v] for t, v in row["values"]]) for row in rows]

    def repeated(rows: list[Any]) -> list[Any]:
        return [_with(row, [row["values"][0]] * len(row["values"])) for row in rows]

    def twice(rows: list[Any]) -> list[Any]:
        return [rows[0]] * len(rows) if len(rows) > 1 else []

    kind = draw.choice([fewer_series, tail, head, thinned, scattered, nothing, shifted, repeated, twice])
    return kind.__name__, kind


def _with(row: Any, values: list[Any]) -> Any:
    return {**row, "values": [list(value) for value in values]}


# --- garbage ------------------------------------------------------------------------------------------------

JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**30, "", "NaN", "\u0000", "x" * 5000, [], [1, 2, 3], ["a", "b"], [[]],
    [None], {}, {"a": 1}, {"metric": None}, [[[[[1]]]]], {"resultType": 7, "result": 7}, {"__name__": 3},
)  # fmt: skip


def mutated(document: Any, draw: random.Random) -> Any:
    """The document with one node changed for junk, or taken out."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list) and len(places) < 5000:
                walk(node[key])

    document = json.loads(json.dumps(document))
    walk(document)
    shallow = places[:40]
    node, key = draw.choice(shallow if draw.random() < 0.7 else places)
    if draw.random() < 0.15:
        del node[key]
    else:
        node[key] = draw.choice(JUNK)
    return document


def garbled(draw: random.Random) -> Fault:
    """A fault of a body or a header."""

    def changed(_asked: Asked, document: Any) -> Raw:
        return whole(mutated(document, draw))

    def bytes_changed(_asked: Asked, document: Any) -> Raw:
        body = bytearray(json.dumps(document).encode())
        for _ in range(draw.randint(1, 8)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        return Raw((framed(bytes(body)),))

    def cut(_asked: Asked, document: Any) -> Raw:
        body = json.dumps(document).encode()
        return Raw((framed(body[: draw.randrange(len(body))]),))

    def deep(_asked: Asked, _document: Any) -> Raw:
        depth = draw.choice([900, 2_000, 100_000])
        body = b'{"status":"success","data":' + b"[" * depth + b"]" * depth + b"}"
        return Raw((framed(body),))

    def headed(_asked: Asked, document: Any) -> Raw:
        body = json.dumps(document).encode()
        status, *headers = draw.choice(HEADS)
        return Raw((framed(body, status, tuple(headers)),))

    def unpacked(_asked: Asked, document: Any) -> Raw:
        body = gzip.compress(json.dumps(document).encode())
        damaged = draw.choice([body[:-9], body[:20] + b"\x00" * 30, b"no gzip", b"", body + b"more" * 99])
        return Raw((framed(damaged, headers=("Content-Encoding: gzip",)),))

    def noise(_asked: Asked, _document: Any) -> Raw:
        return Raw(
            (draw.choice([b"", b"\x16\x03\x01", b"HTTP/9.9 abc\r\n\r\n", b"\r\n" * 99, b"SSH-2.0-x\r\n"]),)
        )

    def page(_asked: Asked, _document: Any) -> Raw:
        return Raw(
            (framed(b"<html><title>Sign in \xff</title>", draw.choice(["200 OK", "502 Bad Gateway"])),)
        )

    return draw.choice(
        [changed, changed, changed, changed, bytes_changed, cut, deep, headed, headed, unpacked, noise, page]
    )


NOISE = (b"", b"\x16\x03\x01", b"HTTP/9.9 abc\r\n\r\n", b"\r\n" * 99, b"SSH-2.0-x\r\n")

HEADS: tuple[tuple[str, ...], ...] = (
    ("429 Too Many", "Retry-After: nan"), ("503 Busy", "Retry-After: inf"),
    ("429 Too Many", "Retry-After: -5"),
    ("503 Busy", "Retry-After: 1e999"), ("429 Too Many", "Retry-After: Tue, 99 Foo 2025 99:99:99 GMT"),
    ("429 Too Many", "Retry-After: Fri, 31 Dec 9999 23:59:59 -2359"),
    ("200 OK", "Content-Length: abc"), ("200 OK", "Content-Length: -5"), ("200 OK", "Content-Length: 1e3"),
    ("200 OK", "Content-Length: 99999999999999999999"), ("200 OK", "Content-Length: ²"),
    ("302 Found", "Location: http://[::1"), ("301 Moved"), ("307 Moved", "Location: //"),
    ("302 Found", "Location: http://127.0.0.1:9/api/v1/query"), ("308 Moved", "Location: http://a:b/"),
    ("302 Found", "Location: javascript:alert(1)"), ("302 Found", "Location: /ä ö\x01"),
    ("302 Found", "Location: ?a=b"), ("302 Found", "Location: https://127.0.0.1/"),
    ("200 OK", "Transfer-Encoding: chunked"), ("200 OK", "Content-Encoding: br"), ("204 No Content",),
    ("206 Partial",), ("304 Not Modified",), ("999 What",), ("418 Teapot",), ("500 Oops",), ("100 Continue",),
    ("200 OK", *(f"X-{n}: y" for n in range(200))), ("200 OK", f"X: {'y' * 70_000}"), ("200 OK", "no header"),
)  # fmt: skip


# --- bombs and silence --------------------------------------------------------------------------------------


def zipped(chunk: bytes, times: int, head: bytes = b"") -> bytes:
    """Gzip of many copies of a chunk, made without packing each: one is packed to stand alone, and copied.

    Its checksum is that of the first copy: who unpacks it all finds it damaged.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(chunk) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + one * times + packer.flush()


MATRIX = b'{"status":"success","data":{"resultType":"matrix","result":['
LIST = b'{"status":"success","data":['


def bomb(draw: random.Random) -> Fault:
    """A small answer that unpacks into gigabytes, or one that never ends."""
    head = draw.choice([MATRIX, LIST, b"", b" "])
    chunk = draw.choice(
        [b" ", b"[],", b"1,", b'"",', b"[1,2],", b'{"a":"b"},', b'{"metric":{"a":"b"},"values":[[1,"1"]]},',
         b'{"__name__":"up"},', b"\x00", b"[[[["]
    )  # fmt: skip
    size = draw.choice([40 << 20, 300 << 20, 2 << 30])
    block = chunk * ((1 << 20) // len(chunk))
    endless = draw.random() < 0.2
    status = draw.choice(["200 OK", "200 OK", "200 OK", "500 Oops", "302 Found", "400 Bad"])

    def packed(_asked: Asked, _document: Any) -> Raw:
        return Raw((framed(body, status, ("Content-Encoding: gzip", "Location: /")),))

    def streamed(_asked: Asked, _document: Any) -> Raw:
        start = framed(head, status, ("Content-Length: 99999999999", "Location: /"))
        return Raw((start, block), endless=True)

    body = b"" if endless else zipped(block, size >> 20, head)
    return streamed if endless else packed


def slow(draw: random.Random) -> Fault:
    """An answer that comes a byte at a time, or stops somewhere."""
    pause = draw.choice([0.05, 0.2, 30.0])
    kept = draw.choice([0, 9, 40, 200])

    def dripping(_asked: Asked, document: Any) -> Raw:
        data = framed(json.dumps(document).encode())
        return Raw((data[:kept], *(data[at : at + 1] for at in range(kept, len(data)))), pause)

    def chunked(_asked: Asked, _document: Any) -> Raw:
        head = framed(b"", headers=("Transfer-Encoding: chunked", "Content-Length:"))
        return Raw((head, *(b"0" for _ in range(10_000))), pause)

    def continuing(_asked: Asked, _document: Any) -> Raw:
        return Raw((b"HTTP/1.1 100 Continue\r\n\r\n",), pause / 10, endless=True)

    return draw.choice([dripping, dripping, chunked, continuing])


# --- one case -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A server of a seed: what it has, whom its fault meets, and whether samples are lost by it."""

    seed: int
    kind: str
    name: str
    fleet: Fleet
    answer: Callable[[Asked], Raw]
    lost: bool | None


PLACES: tuple[tuple[str, Callable[[Asked], bool]], ...] = (
    ("probe", lambda asked: asked.parameters.get("query") == ["1"]),
    ("names", lambda asked: asked.path.endswith("values")),
    ("series", lambda asked: asked.path.endswith("series")),
    (
        "looks",
        lambda asked: asked.path.endswith("/query") and not for_data(asked) and asked.one("query") != "1",
    ),
    ("data", for_data),
    ("all", lambda _asked: True),
)


def case(seed: int, kind: str) -> Case:
    """The case of a seed: ``honest``, ``loss``, ``garbage``, ``bomb`` or ``slow``."""
    draw = random.Random(f"{kind} {seed}")
    if kind in ("honest", "loss"):
        return _losing(seed, kind, draw)
    fleet = Fleet.drawn(draw, churn=False, counts=True)
    fault = {"garbage": garbled, "bomb": bomb, "slow": slow}[kind](draw)
    place, meets = draw.choice(PLACES)
    once = kind == "garbage" and draw.random() < 0.3
    left = [1 if once else 10**9]
    lock = threading.Lock()

    def answer(asked: Asked) -> Raw:
        try:
            document = fleet.answer(asked)
        except (KeyError, ValueError):  # sent on to an address that asks for something else
            return refused()
        with lock:
            hit = meets(asked) and left[0] > 0
            left[0] -= hit
            return fault(asked, document) if hit else whole(document)

    return Case(seed, kind, f"{fault.__name__} at {place}{' once' if once else ''}", fleet, answer, None)


def _losing(seed: int, kind: str, draw: random.Random) -> Case:
    counts = draw.random() < 0.7
    fleet = Fleet.drawn(draw, churn=counts, counts=counts)
    metric = draw.choice(METRICS[:3])
    rows = [
        {"metric": row, "values": [[t, "1"] for t in times]}
        for row, times in fleet.held(f"{metric}[3600001ms]", END)
        if times
    ]
    name, loss = lossy(draw)
    while _distinct(loss(rows)) == _distinct(rows):  # one sample has no half
        name, loss = lossy(draw)

    def answer(asked: Asked) -> Raw:
        document = fleet.answer(asked)
        if document is None:
            return refused()
        if kind == "loss" and for_data(asked) and asked.one("query").startswith(metric):
            rows = loss(document["data"]["result"])
            document["data"]["result"] = [row for row in rows if row["values"]]
        return whole(document)

    shown = f"{name} of {metric}, {'counts' if counts else 'no counts'}, {len(rows)} series"
    return Case(seed, kind, shown if kind == "loss" else "honest", fleet, answer, kind == "loss")


def _distinct(rows: list[Any]) -> set[tuple[str, float]]:
    """Which samples of which pods rows hold."""
    return {(row["metric"]["pod"], t) for row in rows for t, _ in row["values"]}


@contextmanager
def hostile(answer: Callable[[Asked], Raw]) -> Iterator[tuple[str, list[Asked]]]:
    """Serve on a loopback port; yield the address and what is asked."""
    asked: list[Asked] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            size = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(size).decode() if size else parts.query
            one = Asked(parts.path, parse_qs(text, keep_blank_values=True), dict(self.headers.items()))
            asked.append(one)
            self.close_connection = True
            raw = answer(one)
            with suppress(OSError):
                self._send(raw)

        def _send(self, raw: Raw) -> None:
            for piece in raw.pieces:
                self.wfile.write(piece)
                if raw.pause_s and over.wait(raw.pause_s):
                    return
            while raw.endless and not over.is_set():
                self.wfile.write(raw.pieces[-1])
                if raw.pause_s:
                    time.sleep(raw.pause_s)

        do_GET = do_POST = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            with suppress(OSError):
                super().handle_one_request()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
