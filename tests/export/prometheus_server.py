"""A real Prometheus over recorded samples, on a loopback port of its own, for as long as a test needs it."""

from __future__ import annotations

import gzip
import json
import math
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from outside import needs

START_S = 30.0
FILL_S = 600.0
# Samples of any age are kept.
RETENTION = "100y"
# One block, so that promtool reads the text once and not once per two hours.
BLOCK = "744h"


def read_query_range(folder: Path, keep=lambda metric: True) -> list[dict]:
    """Return the series of all query_range responses in a folder (or of one file), stale markers included."""
    files = [folder] if folder.is_file() else sorted(folder.glob("*.json.gz"))
    found = []
    for file in files:
        with gzip.open(file) as stream:
            body = json.load(stream)
        found += [row for row in body["data"]["result"] if keep(row["metric"].get("__name__", ""))]
    return found


def openmetrics(series: list[dict], start: float = 0.0, end: float = float("inf")) -> str:
    """Return series as OpenMetrics text with timestamps, samples within [start, end] only."""
    lines = []
    for row in series:
        labels = {name: value for name, value in row["metric"].items() if name != "__name__"}
        text = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())
        head = f"{row['metric']['__name__']}{{{text}}}"
        lines += [f"{head} {value} {float(t):.3f}" for t, value in row["values"] if start <= float(t) <= end]
    return "\n".join([*lines, "# EOF", ""])


@contextmanager
def prometheus_with(
    files: Path | list[dict], keep=lambda metric: True, start: float = 0.0, end: float = float("inf")
) -> Iterator[str]:
    """Run Prometheus over a folder of query_range ``.json.gz`` files and yield its base URL.

    Parameters
    ----------
    files
        Folder, one file, or series as a query_range response holds them.
    keep
        Which metric names to load.
    start, end
        Unix seconds; samples outside are left out.
    """
    promtool = needs("promtool")
    needs("prometheus")
    series = read_query_range(files, keep) if isinstance(files, Path) else files
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "samples.om")
        text.write_text(openmetrics(series, start, end), "utf-8")
        data = Path(folder, "data")
        command = [promtool, "tsdb", "create-blocks-from", f"--max-block-duration={BLOCK}", "openmetrics"]
        subprocess.run([*command, text, data], check=True, capture_output=True, timeout=FILL_S)
        with prometheus_over(data) as url:
            yield url


@contextmanager
def prometheus_over(data: Path) -> Iterator[str]:
    """Run Prometheus over a folder of blocks, which it may change, and yield its base URL."""
    server = needs("prometheus")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text("scrape_configs: []\n", "utf-8")
        port = _free_port()
        process = subprocess.Popen(
            [
                server,
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                f"--storage.tsdb.retention.time={RETENTION}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait(timeout=START_S)


def instant(base_url: str, expr: str, at: float) -> list[tuple[dict, float]]:
    """Return (labels, value) of every series an expression gives at one time."""
    result = _get(base_url, "query", {"query": expr, "time": f"{at:.3f}"})
    return [(row["metric"], float(row["value"][1])) for row in result]


def over(base_url: str, expr: str, start: float, end: float, step: float) -> dict[float, float]:
    """Return time → value of an expression that gives one series; a second series is an error."""
    result = _get(base_url, "query_range", {"query": expr, "start": start, "end": end, "step": step})
    assert len(result) <= 1, [row["metric"] for row in result]
    return {float(t): float(value) for row in result for t, value in row["values"]}


def samples(base_url: str, selector: str, start: float, end: float) -> list[dict]:
    """Return every series of a selector with its samples as stored, in the form of a query_range response."""
    asked = {"query": f"{selector}[{math.ceil(end - start)}s]", "time": f"{end:.3f}"}
    return _get(base_url, "query", asked)


def _get(base_url: str, what: str, parameters: dict) -> list[dict]:
    url = f"{base_url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with _direct().open(url, timeout=START_S) as response:
        return json.load(response)["data"]["result"]


def _direct() -> urllib.request.OpenerDirector:
    """Return an opener that goes to loopback itself, whatever proxy the environment names."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(base_url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"prometheus ended with {process.returncode} before it was ready")
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            _direct().open(f"{base_url}/-/ready", timeout=1.0).close()
            return
        time.sleep(0.1)
    pytest.fail(f"prometheus was not ready within {START_S:.0f} s")
