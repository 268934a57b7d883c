"""Alignment: CPU time and memory of samples to signals beside a yardstick, and how they grow, as ratios.

A set of 64 workers with 20 signals each at 15 s, half of them counters, 0.2 % of the samples missing. Ours
reads it series by series into windows of a minute and puts 20 signals over the workers together; the
yardstick looks up the last value of each series at the end of each window with polars' join_asof and turns
the rows into one column per series. Both must find the same number of values. Each run is a process of its
own, in turn with the others.

    python tests/bench/align.py [STEPS]
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.align.counters import WindowStore
from hs_analysis.align.instances import Presence
from hs_analysis.align.series import SeriesPass, first_scrapes, used_series
from hs_analysis.align.signals import signal_windows
from hs_analysis.align.terms import TERM_COLUMNS
from hs_analysis.schema.frames import SAMPLES
from hs_analysis.store import series_samples, write_table

REPEATS = 3
STEPS = 2520
WORKERS, SIGNALS = 64, 20
T0_S, STEP_S, WIDTH_S = 1764000000, 15, 60

MOST_OF_POLARS, MOST_GROWTH, MOST_MEMORY_GROWTH = 0.7, 4.6, 1.25
"""The most that CPU may be of the yardstick's, that four times the samples may cost, and that 16 times may
take of the memory."""


def made(steps: int) -> Iterator[pa.RecordBatch]:
    """Yield the samples of every series, a signal at a time: sorted by series and time, as ingest stores."""
    draw = np.random.default_rng(0)
    times = 1_000_000 * (T0_S + STEP_S * np.arange(1, steps + 1))
    for series_id in range(WORKERS * SIGNALS):
        counter = series_id // WORKERS % 2
        values = np.cumsum(draw.integers(0, 500, steps)) if counter else draw.uniform(0, 1, steps)
        kept = draw.random(steps) > 0.002
        kept[[0, -1]] = True
        columns = [
            pa.array(np.full(kept.sum(), series_id)), pa.array(times[kept]).cast(SAMPLES.field("t").type),
            pa.array(values[kept].astype(float)), pa.nulls(int(kept.sum()), pa.string()),
        ]  # fmt: skip
        yield pa.RecordBatch.from_arrays(columns, schema=SAMPLES)


def grouped(steps: int) -> Iterator[pa.RecordBatch]:
    """Yield them in batches of about a million rows."""
    held: list[pa.RecordBatch] = []
    for batch in made(steps):
        held.append(batch)
        if sum(one.num_rows for one in held) >= 1 << 20:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held = []
    yield from pa.Table.from_batches(held, SAMPLES).combine_chunks().to_batches()


def write(folder: Path, steps: int) -> Path:
    """Write a set of so many steps and return its file."""
    path = folder / f"{steps}.parquet"
    write_table(pa.RecordBatchReader.from_batches(SAMPLES, grouped(steps)), SAMPLES, path)
    return path


def ours(path: Path) -> int:
    """Align as the stage does."""
    numbers = range(WORKERS * SIGNALS)
    series = pl.DataFrame(
        {
            "series_id": numbers, "metric": [f"m{n // WORKERS:02d}" for n in numbers],
            "instance": [f"w{n % WORKERS:02d}" for n in numbers],
        }
    ).with_columns(
        pl.lit("s").alias("service"), pl.lit("").alias("capture"), pl.lit("decode").alias("role"),
        pl.lit(None, pl.String).alias("gpu_group"), pl.lit(float(STEP_S)).alias("interval_s"),
    )  # fmt: skip
    counter = pl.col("series_id") // WORKERS % 2 == 1
    summed, rate = (
        pl.when(counter).then(pl.lit(then)).otherwise(pl.lit(other))
        for then, other in (("sum", "mean"), ("rate", "gauge"))
    )
    terms = series.select(
        "service", "capture", "role", "gpu_group", "instance", pl.col("instance").alias("emitter"),
        "series_id", pl.col("metric").alias("signal"), pl.lit("x").alias("source"),
        pl.lit(0).alias("preference"), summed.alias("pool"),
        pl.lit(0).alias("term"), pl.lit("num").alias("side"), pl.lit(1.0).alias("sign"),
        rate.alias("read"),
        pl.lit(0).alias("generation"),
    ).select(*TERM_COLUMNS)  # fmt: skip
    begun = pl.from_epoch(pl.lit(T0_S + STEP_S), time_unit="s").dt.replace_time_zone("UTC")
    quality = series.select("series_id", begun.alias("first_t"))
    with tempfile.TemporaryFile() as scratch:
        store, presence = WindowStore(scratch), Presence(series, WIDTH_S)
        used = used_series(series, terms, STEP_S)
        whole = SeriesPass(used, first_scrapes(used, quality), {}, store, (presence,), WIDTH_S, ())
        whole.read(set(numbers), partial(series_samples, path))
        signals = signal_windows(terms, store, presence.counts(0.5), WIDTH_S, 0.7)
        windows = (store.get("windows", n) for n in numbers)
        count = sum(int((one.coverage > 0).sum()) for one in windows if one is not None)
    assert signals["value"].null_count() < signals.height
    return count


def join_asof(path: Path) -> int:
    """Look up the last value at the end of each window and turn rows into columns."""
    samples = pl.read_parquet(path, columns=["series_id", "t", "value"])
    bounds = samples.select(pl.col("t").min().alias("first"), pl.col("t").max().alias("last")).row(0)
    first, last = (int(moment.timestamp()) for moment in bounds)
    ends = np.arange(-(-first // WIDTH_S) * WIDTH_S, last + WIDTH_S, WIDTH_S)
    times = (
        pl.from_epoch(pl.Series("t", ends), time_unit="s").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    )
    series = samples.select("series_id").unique(maintain_order=True)
    grid = series.join(times.to_frame(), how="cross")
    found = grid.join_asof(
        samples, on="t", by="series_id", strategy="backward", tolerance=f"{WIDTH_S * 1000 - 1}ms",
        check_sortedness=False,
    )  # fmt: skip
    wide = found.pivot("series_id", index="t", values="value")
    return sum(wide[name].count() for name in wide.columns if name != "t")


WAYS: dict[str, Callable[[Path], int]] = {"ours": ours, "join_asof": join_asof}


def child(way: str, path: str) -> None:
    """Go one way and print its count, CPU seconds and peak memory [MB]."""
    begin = time.process_time()
    count = WAYS[way](Path(path))
    used = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps([count, used, peak]))


def measure(way: str, path: Path) -> tuple[int, float, float]:
    """Return (values found, CPU seconds, peak MB) of one process."""
    command = [sys.executable, __file__, way, str(path)]
    count, used, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return count, used, peak


def main(steps: int) -> None:
    """Print the ratio to the yardstick, and what more samples cost."""
    with tempfile.TemporaryDirectory() as made_in:
        paths = {factor: write(Path(made_in), factor * steps) for factor in (1, 4, 16)}
        cases = [("ours", 1), ("join_asof", 1), ("ours", 4), ("ours", 16)]
        runs = {case: [] for case in cases}
        for _ in range(REPEATS):
            for way, factor in cases:
                runs[way, factor].append(measure(way, paths[factor]))
    counts = {runs[way, 1][0][0] for way in WAYS}
    assert len(counts) == 1, f"the ways find different numbers of values: {counts}"
    used = {case: statistics.median(cpu for _, cpu, _ in found) for case, found in runs.items()}
    peak = {case: max(mb for _, _, mb in found) for case, found in runs.items()}
    sys.stdout.write(
        f"align, {WORKERS * SIGNALS} series x {steps} steps: {used['ours', 1]:.2f} s CPU, "
        f"{used['ours', 1] / used['join_asof', 1]:.2f} of polars join_asof + pivot "
        f"(at most {MOST_OF_POLARS})\n"
        f"align, 16 times against 4 times the samples: CPU {used['ours', 16] / used['ours', 4]:.2f} "
        f"(at most {MOST_GROWTH}); memory of 16 times against 1: {peak['ours', 16] / peak['ours', 1]:.2f} "
        f"(at most {MOST_MEMORY_GROWTH}), {peak['ours', 16]:.0f} MB\n"
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else STEPS)
