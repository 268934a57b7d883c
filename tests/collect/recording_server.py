"""A small HTTP server that answers by a script and records what it was asked, headers included."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

METRIC = "vllm:generation_tokens_total"

LOOKS_S = (0.0, 60.0, 900.0)
"""Lengths of queries that only look: an instant, and range selectors that are tried [s]."""


@dataclass(frozen=True)
class Asked:
    """One request: path, parameters (a list each), headers; its method, and the parameters as they came."""

    path: str
    parameters: dict[str, list[str]]
    headers: dict[str, str]
    method: str = "GET"
    text: str = ""

    def one(self, name: str) -> str:
        """The only value of a parameter."""
        (value,) = self.parameters[name]
        return value

    @property
    def for_data(self) -> bool:
        """Whether it asks for points, or for samples as scraped that are to be kept."""
        return "query_range" in self.path or (self.path.endswith("/query") and self.length_s not in LOOKS_S)

    @property
    def length_s(self) -> float:
        """How long a stretch it asks for [s]."""
        if "start" in self.parameters:
            return float(self.one("end")) - float(self.one("start"))
        _, _, length = self.parameters.get("query", [""])[0].removesuffix("]").rpartition("[")
        if length.endswith("ms"):
            return float(length[:-2]) / 1000
        return float(length[:-1]) if length.endswith("s") else 0.0


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Asked], Reply]


def success(data, **more) -> Reply:
    """An API answer."""
    return Reply(200, json.dumps({"status": "success", "data": data, **more}).encode())


def failure(status: int, kind: str, text: str, **headers: str) -> Reply:
    """An API error."""
    body = json.dumps({"status": "error", "errorType": kind, "error": text}).encode()
    return Reply(status, body, headers)


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[Asked]]]:
    """Run a server on a loopback port; yield its address and the list of what it is asked."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            size = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(size).decode() if size else parts.query
            given = parse_qs(text, keep_blank_values=True)
            one = Asked(parts.path, given, dict(self.headers.items()), self.command, text)
            asked.append(one)
            reply = script(one)
            self.send_response(reply.status)
            headers = {"Content-Length": str(len(reply.body))} | reply.headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


PODS = ("m-prefill-0", "m-prefill-1", "m-decode-0", "m-decode-1")
PHASES_S = dict(zip(PODS, (0.0, 3.137, 7.5, 14.999), strict=True))
"""When each pod is scraped after a multiple of the interval [s]; the first one at the edges of chunks."""

INTERVAL_S = 15


def scraped(pod: str, start: float, end: float) -> list[float]:
    """The scrape times of a pod in [start, end]."""
    first_ms, start_ms, end_ms, step = (round(1000 * s) for s in (PHASES_S[pod], start, end, INTERVAL_S))
    at = first_ms + -(-(start_ms - first_ms) // step) * step
    return [ms / 1000 for ms in range(at, end_ms + 1, step)]


def older_prometheus(asked: Asked) -> Reply:
    """Answer as before Prometheus 3, whose range selectors take in both edges."""
    return small_prometheus(asked, left_open=False)


def as_scraped(asked: Asked, left_open: bool) -> Reply:
    """Answer a range selector."""
    selector, _, _ = asked.one("query").rpartition("[")
    end = float(asked.one("time"))
    start = end - asked.length_s + (0.001 if left_open else 0.0)
    series = [(row, scraped(row["pod"], start, end)) for row in rows_of(selector)]
    result = [{"metric": row, "values": [[t, str(int(t))] for t in times]} for row, times in series if times]
    return success({"resultType": "matrix", "result": result})


def as_counted(asked: Asked, left_open: bool) -> Reply:
    """Answer how many samples, or points of a grid, some range selectors hold."""
    counts = []
    for text in re.findall(r"count_over_time\((.*?\])\)", asked.one("query")):
        selector, _, length = text.removesuffix("]").rpartition("[")
        length, _, step = length.partition(":")
        inner = Asked(asked.path, {"query": [f"{selector}[{length}]"], "time": asked.parameters["time"]}, {})
        if step:
            points = int(inner.length_s // (float(step.removesuffix("ms")) / 1000)) + 1
            counts += [points] * len(rows_of(selector.strip("()")))
        else:
            rows = json.loads(as_scraped(inner, left_open).body)["data"]["result"]
            counts += [len(row["values"]) for row in rows]
    at = float(asked.one("time"))
    result = [{"metric": {}, "value": [at, str(sum(counts))]}] if counts else []
    return success({"resultType": "vector", "result": result})


def small_prometheus(asked: Asked, left_open: bool = True) -> Reply:
    """Answer as a Prometheus that has one metric of four pods, scraped every 15 s; 11,000 points at most."""
    what = asked.path.rpartition("/")[2]
    if what == "values":
        return success([METRIC] if all(METRIC in m for m in asked.parameters.get("match[]", ())) else [])
    if what == "series":
        known = [m for m in asked.parameters["match[]"] if m.startswith(METRIC)]
        return success([row for m in known for row in rows_of(m)])
    if what == "query":
        if asked.one("query") == "1":
            return success({"resultType": "scalar", "result": [0, "1"]})
        if asked.one("query").startswith("sum("):
            return as_counted(asked, left_open)
        return as_scraped(asked, left_open)
    assert what == "query_range", asked.path
    start, end, step = (float(asked.one(name)) for name in ("start", "end", "step"))
    if (end - start) / step > 11_000:
        text = (
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution"
        )
        return failure(400, "bad_data", text)
    points = round((end - start) / step) + 1
    times = [start + step * n for n in range(points)]
    rows = [row for one in asked.one("query").split(" or ") for row in rows_of(one)]
    result = [{"metric": row, "values": [[t, str(int(t))] for t in times]} for row in rows]
    return success({"resultType": "matrix", "result": result})


def rows_of(selector: str) -> list[dict[str, str]]:
    """Return the labels of the small Prometheus' series that a selector finds."""
    from hs_analysis.collect.selectors import parse_matchers

    metric, _, inside = selector.partition("{")
    if metric != METRIC:
        return []
    matchers = parse_matchers(inside.removesuffix("}"), "test")
    rows = [{"__name__": metric, "model_name": "m", "pod": pod, "job": "vllm"} for pod in PODS]
    return [row for row in rows if all(matcher.accepts(row) for matcher in matchers)]
