"""Twenty minutes of a Dynamo service in a Prometheus' snapshot, and what is pulled of it."""

from __future__ import annotations

import gzip
import json
import tarfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from hs_analysis.collect.access import Access
from hs_analysis.collect.fetch import ServerLimits
from hs_analysis.collect.plan import PlanRequest
from hs_analysis.collect.server import Pace, PrometheusServer
from hs_analysis.pipeline.pull import Pulled, pull
from hs_analysis.pipeline.stages import Silent

START, END = "2026-11-24T12:16:30Z", "2026-11-24T12:36:45Z"
WINDOW = ("--from", START, "--to", END)
Key = tuple[tuple[str, str], ...]


def unpacked(into: Path) -> Path:
    """The snapshot of a Prometheus that scraped a Dynamo service for twenty minutes, ready to be opened."""
    with tarfile.open(Path(__file__).with_name("pd-diurnal-snapshot.tar.gz")) as archive:
        archive.extractall(into, filter="data")
    (snapshot,) = into.iterdir()
    (snapshot / "wal").mkdir()  # promtool stops without it
    return snapshot


def fetch_into(folder: Path, url: str, limits: ServerLimits | None = None, **request: Any) -> Pulled:
    """Pull without waiting between queries."""
    server = PrometheusServer(url, Access(), Pace(1e9, time.monotonic, time.sleep), lambda _: None)
    asked = PlanRequest(**{"start": START, "end": END, **request})
    return pull(server, folder, asked, limits or ServerLimits(10**6), now=0.0, progress=Silent())


def finished(folder: Path) -> list[Path]:
    """The files of a folder that anyone sees."""
    return sorted(path for path in folder.glob("*.json.gz") if not path.name.startswith("."))


def points(folder: Path) -> dict[Key, list[tuple[float, str]]]:
    """Every point of a folder by series, in the order of files and documents."""
    found: dict[Key, list[tuple[float, str]]] = defaultdict(list)
    for file in finished(folder):
        for line in gzip.decompress(file.read_bytes()).splitlines():
            for row in json.loads(line)["data"]["result"]:
                found[tuple(sorted(row["metric"].items()))] += [
                    (float(t), value) for t, value in row["values"]
                ]
    return found
