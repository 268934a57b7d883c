"""Reading dumps: CPU time and memory of each reader beside a yardstick, as ratios of one run.

A set of 64 workers with 20 signals each is made at 15 s: gauges with NaN and +Inf, counters, 0.2 % of the
samples missing. Every way reads it in a process of its own, in turn with the others, and ends with a Parquet
file of samples; every way must give the same number of rows and series and the same sums.

    python tests/bench/ingest.py [STEPS]
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import itertools
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simdjson

from hs_analysis.ingest.readers.prometheus import read_openmetrics, read_prometheus_json
from hs_analysis.ingest.readers.tsdb import read_tsdb_dump
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes

REPEATS = 5
STEPS = 2520
WORKERS, SIGNALS = 64, 20
T0 = 1764000000
STEP_S = 15

CLIENT_ROWS = 20_000
"""Lines that the client library's parser is given: it takes some 50 µs each."""

ROW_GROUP_ROWS = 1 << 20
STORED = pa.schema([("key", pa.int64()), ("t_us", pa.int64()), ("value", pa.float64())])
STORED_OPTIONS = {
    "compression": "zstd", "compression_level": 1, "use_dictionary": ["key"],
    "column_encoding": {"t_us": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
}  # fmt: skip
"""How all ways that have the choice write samples."""

Check = tuple[int, int, int, float]
"""Rows, series, sum of times [s], sum of finite values."""


def made_series(steps: int) -> Iterator[tuple[dict[str, str], list[int], list[str]]]:
    """Yield labels, times and value texts of every series."""
    draw = np.random.default_rng(0)
    times = T0 + STEP_S * np.arange(steps)
    for worker in range(WORKERS):
        for signal in range(SIGNALS):
            if signal % 2:
                texts = [str(v) for v in np.cumsum(draw.integers(0, 500, steps)).tolist()]
            elif signal % 4:
                texts = [str(v) for v in draw.integers(0, 50, steps).tolist()]
            else:
                texts = [repr(v) for v in draw.uniform(0, 1, steps).tolist()]
            if signal == 0:
                texts[100::500] = ["NaN"] * len(texts[100::500])
                texts[333::1500] = ["+Inf"] * len(texts[333::1500])
            kept = draw.random(steps) > 0.002
            labels = {
                "__name__": f"vllm:signal_{signal}", "instance": f"10.0.0.{worker}:8000", "model_name": "m",
                "namespace": "ns", "pod": f"worker-{worker}",
            }  # fmt: skip
            yield labels, times[kept].tolist(), [t for t, k in zip(texts, kept, strict=True) if k]


def make(folder: Path, steps: int) -> None:
    """Write the set as an API answer, plain and packed, as OpenMetrics and as a dump.

    A second dump has no blanks between labels, so that what splits on blanks can read it.
    """
    with (
        (folder / "set.json").open("w") as answer,
        (folder / "set.om").open("w") as openmetrics,
        (folder / "set.dump").open("w") as dump,
        (folder / "set.noblank").open("w") as noblank,
    ):
        answer.write('{"status":"success","data":{"resultType":"matrix","result":[')
        for number, (labels, times, texts) in enumerate(made_series(steps)):
            pairs = ",".join(f'[{t},"{v}"]' for t, v in zip(times, texts, strict=True))
            metric = json.dumps(labels, separators=(",", ":"))
            answer.write(f'{"," if number else ""}{{"metric":{metric},"values":[{pairs}]}}')
            inner = [f'{key}="{value}"' for key, value in labels.items() if key != "__name__"]
            head = f"{labels['__name__']}{{{','.join(inner)}}}"
            openmetrics.write("".join(f"{head} {v} {t}.000\n" for t, v in zip(times, texts, strict=True)))
            head = f'{{__name__="{labels["__name__"]}", {", ".join(inner)}}}'
            lines = "".join(f"{head} {v} {t}000\n" for t, v in zip(times, texts, strict=True))
            dump.write(lines)
            noblank.write(lines.replace(", ", ","))
        answer.write("]}}")
        openmetrics.write("# EOF\n")
    with gzip.open(folder / "set.json.gz", "wb", compresslevel=6) as packed:
        packed.write((folder / "set.json").read_bytes())


def write(held: list[tuple[int, RawSeries]], writer: pq.ParquetWriter) -> None:
    """Write a row group."""
    if held:
        key = np.repeat([number for number, _ in held], [series.t_us.size for _, series in held])
        t_us = np.concatenate([series.t_us for _, series in held])
        value = np.concatenate([series.values for _, series in held])
        writer.write_table(pa.table([key, t_us, value], schema=STORED), row_group_size=ROW_GROUP_ROWS)


def ours(
    reader: Callable[[Dump, ReadNotes], Iterator[RawSeries]], name: str
) -> Callable[[Path, Path], Check]:
    """Return a way that reads a file as ingest does."""

    def way(folder: Path, out: Path) -> Check:
        path = folder / name
        keys: dict[tuple[tuple[str, str], ...], int] = {}
        notes, times, values = ReadNotes(), 0, 0.0
        with pq.ParquetWriter(out, STORED, **STORED_OPTIONS) as writer:
            held: list[tuple[int, RawSeries]] = []
            for series in reader(Dump(path, name, name), notes):
                key = tuple(sorted(series.labels.items()))
                held.append((keys.setdefault(key, len(keys)), series))
                times += int(series.t_us.sum()) // 1_000_000
                values += float(np.nansum(series.values))
                if sum(one.t_us.size for _, one in held) >= ROW_GROUP_ROWS:
                    write(held, writer)
                    held = []
            write(held, writer)
        return notes.rows, len(keys), times, values

    return way


def whole_document(folder: Path, out: Path) -> Check:
    """Parse the document at once with orjson, else with the json module; then numpy, then Parquet."""
    try:
        from orjson import loads
    except ImportError:
        from json import loads
    found = loads((folder / "set.json").read_bytes())["data"]["result"]
    times = [np.array([pair[0] for pair in one["values"]], np.float64) for one in found]
    values = [np.array([float(pair[1]) for pair in one["values"]]) for one in found]
    key = np.repeat(np.arange(len(found)), [t.size for t in times])
    t_us = np.round(np.concatenate(times) * 1e6).astype(np.int64)
    flat = np.concatenate(values)
    with pq.ParquetWriter(out, STORED, **STORED_OPTIONS) as writer:
        writer.write_table(pa.table([key, t_us, flat], schema=STORED), row_group_size=ROW_GROUP_ROWS)
    return t_us.size, len(found), int(t_us.sum()) // 1_000_000, float(flat[np.isfinite(flat)].sum())


def parse_only(folder: Path, _out: Path) -> Check:
    """Parse the document with simdjson and throw it away."""
    document = simdjson.Parser().parse((folder / "set.json").read_bytes())
    assert document["status"] == "success"
    return 0, 0, 0, 0.0


def split_on_blank(name: str) -> Callable[[Path, Path], Check]:
    """Return DuckDB's CSV reader as a way: it splits on each blank, right only where no label holds one."""

    def way(folder: Path, out: Path) -> Check:
        columns = "{'series': 'VARCHAR', 'value': 'DOUBLE', 't': 'DOUBLE'}"
        options = "header = false, quote = '', escape = '', auto_detect = false, comment = '#'"
        source = f"read_csv('{folder / name}', columns = {columns}, delim = ' ', {options})"
        with duckdb.connect() as connection:
            connection.execute("SET threads = 1")
            connection.execute(
                f"COPY (SELECT hash(series) AS key, t, value FROM {source}) TO '{out}' "
                "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
            )
            row = connection.execute(
                "SELECT count(*), count(DISTINCT key), sum(t)::HUGEINT, sum(value) FILTER (isfinite(value)) "
                f"FROM '{out}'"
            ).fetchone()
        assert row is not None
        return row[0], row[1], row[2], row[3]

    return way


def client_loop(folder: Path, _out: Path) -> Check:
    """Go through the first lines with the Prometheus client library's parser, sample by sample."""
    from prometheus_client.openmetrics.parser import text_fd_to_metric_families

    keys, rows, times, values = set(), 0, 0, 0.0
    with (folder / "set.om").open() as file:
        lines = sorted(itertools.islice(file, CLIENT_ROWS), key=lambda line: line.split(" ")[0])
    for family in text_fd_to_metric_families(
        io.StringIO("".join(lines) + "# EOF\n")
    ):  # families in one piece
        for sample in family.samples:
            keys.add((sample.name, *sorted(sample.labels.items())))
            rows, times = rows + 1, times + int(float(sample.timestamp))
            values += sample.value if math.isfinite(sample.value) else 0.0
    return rows, len(keys), times, values


def range_data_frame(folder: Path, out: Path) -> Check:
    """Load the document as prometheus-api-client's data frame, and write that as Parquet."""
    from prometheus_api_client import MetricRangeDataFrame

    found = json.loads((folder / "set.json").read_bytes())["data"]["result"]
    frame = MetricRangeDataFrame(found)
    frame.to_parquet(out)
    values = frame["value"].astype(float)
    seconds = np.asarray(frame.index, dtype="datetime64[s]").astype(np.int64)
    return len(frame), len(found), int(seconds.sum()), float(values[np.isfinite(values)].sum())


WAYS: dict[str, Callable[[Path, Path], Check]] = {
    "json": ours(read_prometheus_json, "set.json"),
    "json.gz": ours(read_prometheus_json, "set.json.gz"),
    "openmetrics": ours(read_openmetrics, "set.om"),
    "dump": ours(read_tsdb_dump, "set.dump"),
    "whole document": whole_document,
    "parse only": parse_only,
    "split on blank": split_on_blank("set.om"),
    "dump split on blank": split_on_blank("set.noblank"),
    "client loop": client_loop,
}
if importlib.util.find_spec("prometheus_api_client"):  # it brings matplotlib: not among what tests install
    WAYS["range data frame"] = range_data_frame

PARTIAL = ("parse only", "client loop")
"""Ways that do not read the whole set."""

ROWS = (
    ("json", "whole document", 0.45),
    ("json", "parse only", 4.0),
    ("json.gz", "json", 1.15),
    ("openmetrics", "split on blank", 1.9),
    ("dump", "dump split on blank", 1.9),
)
"""Way, yardstick, and the most that the ratio of their CPU times may be."""

FASTER = (("openmetrics", "client loop", 20.0), ("json", "range data frame", 5.0))
"""Way, yardstick, and by how much a sample must cost less CPU time at least."""


def child(way: str, folder: str) -> None:
    """Go one way and print its check, CPU seconds and peak memory [MB]."""
    with tempfile.TemporaryDirectory() as out:
        begin = time.process_time()
        check = WAYS[way](Path(folder), Path(out) / "o.parquet")
        used = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps([check, used, peak], default=int))


def measure(way: str, folder: Path) -> tuple[Check, float, float]:
    """Return (check, CPU seconds, peak MB) of one process."""
    command = [sys.executable, __file__, way, str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    check, used, peak = json.loads(said)
    return tuple(check), used, peak


def main(steps: int) -> None:
    """Print one line per row of the table."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make(folder, steps)
        runs = {way: [] for way in WAYS}
        for _ in range(REPEATS):
            for way in WAYS:
                runs[way].append(measure(way, folder))
    agree(runs)
    used = {way: statistics.median(cpu for _, cpu, _ in found) for way, found in runs.items()}
    peak = {way: max(mb for _, _, mb in found) for way, found in runs.items()}
    rows = runs["json"][0][0][0]
    for way, yardstick, most in ROWS:
        sys.stdout.write(
            f"ingest {way}: {used[way]:.2f} s CPU ({rows / used[way] / 1e6:.2f} million samples/s), "
            f"{peak[way]:.0f} MB; {used[way] / used[yardstick]:.2f} of {yardstick} (at most {most})\n"
        )
    for way, yardstick, least in FASTER:
        if yardstick not in WAYS:
            sys.stdout.write(f"ingest {way}: not compared with the {yardstick}, which is not installed\n")
            continue
        each = {one: used[one] / runs[one][0][0][0] for one in (way, yardstick)}
        sys.stdout.write(
            f"ingest {way}: {each[yardstick] / each[way]:.0f} times the samples/s of the {yardstick} "
            f"(at least {least:.0f}); that peaks at {peak[yardstick]:.0f} MB\n"
        )


def agree(runs: dict[str, list[tuple[Check, float, float]]]) -> None:
    """Hold all ways that read to the same rows, series and sums."""
    checks = [found[0][0] for way, found in runs.items() if way not in PARTIAL]
    for check in checks[1:]:
        assert check[:2] == checks[0][:2], f"the ways read different rows: {checks}"
        assert abs(check[3] / checks[0][3] - 1) < 1e-9, f"the ways read different values: {checks}"


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else STEPS)
