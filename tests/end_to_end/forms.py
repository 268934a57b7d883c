"""One capture in all the forms people keep it in, and what becomes of it in the aligned frame."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from hs_analysis.align import StoredSamples, align
from hs_analysis.catalogue import load_catalogue
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.stage import Ingested, ingest
from hs_analysis.schema.settings import Settings
from hs_analysis.store import Database, series_samples

Line = tuple[str, str, str]
"""Series text, value and milliseconds of one line of a dump."""

_LABEL = re.compile(r'(\w+)="([^"]*)"')


def dump_lines(path: Path) -> list[Line]:
    """Return the lines of a dump whose label values hold no quotes."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [tuple(line.rstrip("\n").rsplit(" ", 2)) for line in file]  # type: ignore[misc]


def by_series(lines: Iterable[Line]) -> dict[str, list[tuple[str, str]]]:
    """Return (value, milliseconds) by series text, in order of appearance."""
    found: dict[str, list[tuple[str, str]]] = {}
    for series, value, time in lines:
        found.setdefault(series, []).append((value, time))
    return found


def as_dump(lines: Iterable[Line]) -> str:
    return "".join(f"{series} {value} {time}\n" for series, value, time in lines)


def as_openmetrics(lines: Iterable[Line]) -> str:
    """Write samples as `promtool tsdb dump-openmetrics` does, with the name before the braces."""

    def one(series: str, value: str, time: str) -> str:
        labels = dict(_LABEL.findall(series))
        name = labels.pop("__name__")
        inner = ",".join(f'{key}="{text}"' for key, text in labels.items())
        return f"{name}{{{inner}}} {value} {int(time) // 1000}.{int(time) % 1000:03}\n"

    return "".join(one(*line) for line in lines) + "# EOF\n"


def as_vm_jsonl(lines: Iterable[Line]) -> str:
    """Write samples as VictoriaMetrics exports them: numbers, null for what is stale."""

    def one(series: str, samples: Sequence[tuple[str, str]]) -> str:
        values = ",".join("null" if value == "NaN" else value for value, _ in samples)
        times = ",".join(time for _, time in samples)
        metric = json.dumps(dict(_LABEL.findall(series)), separators=(",", ":"))
        return f'{{"metric":{metric},"values":[{values}],"timestamps":[{times}]}}\n'

    return "".join(one(series, samples) for series, samples in by_series(lines).items())


def as_promtool_json(lines: Iterable[Line]) -> str:
    """Write samples as `promtool query -o json` does, without an envelope."""
    elements = [
        {"metric": dict(_LABEL.findall(series)), "values": [[int(t) / 1000, value] for value, t in samples]}
        for series, samples in by_series(lines).items()
    ]
    return json.dumps(elements, separators=(",", ":"))


WRITERS: dict[str, Callable[[Iterable[Line]], str]] = {
    "dump": as_dump, "openmetrics": as_openmetrics, "vm": as_vm_jsonl, "array": as_promtool_json,
}  # fmt: skip


def metric_of(line: Line) -> str:
    return dict(_LABEL.findall(line[0]))["__name__"]


def ten_minutes_of(line: Line) -> str:
    return str(int(line[2]) // 600_000)


def aligned(inputs: Sequence[Path], out: Path) -> tuple[Ingested, pl.DataFrame]:
    """Ingest and align inputs; return what was ingested and the aligned frame."""
    found = ingest(discover(inputs), out, lambda _name: None)
    samples = out / "samples" / "part-0.parquet"
    with Database(threads=1) as database, tempfile.TemporaryFile() as scratch:
        stored = StoredSamples(samples, partial(series_samples, samples), scratch)
        done = align(found.series, stored, found.quality, load_catalogue(), Settings(), database.query)
    return found, done.signals
