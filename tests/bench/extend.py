"""Seven days and a day that is added beside eight days at once: CPU time as ratios, and equal results.

A simulated service at 15 s whose engines export as many series as a real one, some 280 each: beside what the
simulator makes, the buckets of other histograms. The week is run whole; then, in pairs one after the other,
the last day is added to a copy with ``hsa run --extend``, and all eight days are run at once. Every table
must have the same content. All figures are CPU seconds, user and system, of all processes and threads: what
else the machine does changes them far less than the clock, and those of a pair alike.

    python tests/bench/extend.py [FOLDER [PAIRS]]

FOLDER keeps the dumps for the next time. They take minutes to make, and a gigabyte of disk.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
from simulator.dumps import write_dumps
from simulator.history import history
from simulator.kinds import kind_of
from simulator.scrapes import Series

DAYS, INSTANCES = 8, 3
DAY_S = 86400

HISTOGRAMS = {
    "vllm:request_prompt_tokens": 18, "vllm:request_generation_tokens": 18,
    "vllm:request_params_max_tokens": 18, "vllm:request_max_num_generation_tokens": 18,
    "vllm:iteration_tokens_total": 18,
    "vllm:e2e_request_latency_seconds": 21, "vllm:request_queue_time_seconds": 21,
    "vllm:request_inference_time_seconds": 21, "vllm:request_prefill_time_seconds": 21,
    "vllm:request_decode_time_seconds": 21, "vllm:time_to_first_token_seconds": 21,
}  # fmt: skip
"""Histograms of vLLM and how many buckets each has."""

MOST_OF_READING, MOST_OF_RUN = 1 / 5, 2 / 3
"""Reading and aligning of the added day, and the whole run: of the same for eight days at once."""

BYTES_DIFFER = ("manifest.json", "run.duckdb", "report.html", "data/samples/")
"""Files that hold the command, times and places, or are stored in parts."""


def bystanders(series: list[Series]) -> list[Series]:
    """Return buckets for every engine that counts tokens, as many as a real one has."""
    found = []
    for one in series:
        if one.labels["__name__"] != "vllm:generation_tokens_total":
            continue
        for name, buckets in HISTOGRAMS.items():
            for edge in range(buckets):
                le = "+Inf" if edge == buckets - 1 else f"{2**edge}.0"
                labels = {**one.labels, "__name__": f"{name}_bucket", "le": le}
                found.append(replace(one, labels=labels, values=np.floor(one.values * (edge + 1) / 4000)))
    return found


def make(folder: Path) -> None:
    """Write the dumps of the week and of the day after it."""
    kind = kind_of("weekend")
    kind = replace(
        kind, hours=24.0 * DAYS, setup=replace(kind.setup, step_s=15), instances=(INSTANCES, INSTANCES)
    )
    made = history(kind, 5)
    series = made.series()
    grid = made.grid_unix_s
    week = grid <= made.start_unix_s + DAY_S * (DAYS - 1)
    for name, mask in (("week", week), ("day", ~week)):
        for number, part in enumerate((series, bystanders(series))):
            rows = [replace(one, values=one.values[mask]) for one in part]
            write_dumps(rows, grid[mask], folder / name / f"{number}" if number else folder / name)
            for path in (folder / name / "1").glob("*") if number else ():
                path.rename(folder / name / f"buckets_{path.name}")
        (folder / name / "1").rmdir()


CHILD = """
import json, resource, sys
from hs_analysis.pipeline import runner
seconds, inner = {}, runner._run_one
def cpu_s():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)
def timed(stage, *rest, **more):
    begin = cpu_s()
    result = inner(stage, *rest, **more)
    seconds[stage.name] = cpu_s() - begin
    return result
runner._run_one = timed
sys.argv = ["hsa", *sys.argv[1:]]
from hs_analysis.__main__ import main
try:
    main()
finally:
    print("STAGES " + json.dumps(seconds))
"""


def timed(arguments: list[str], folder: Path) -> tuple[float, dict[str, float]]:
    """Return CPU seconds of a command in a process of its own, and of each stage."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = next((line for line in done.stdout.splitlines() if line.startswith("STAGES ")), None)
    assert line, done.stderr
    stages = json.loads(line.removeprefix("STAGES "))
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, stages


def differences(one: Path, other: Path) -> list[str]:
    """Return the files in which two runs differ, and that should not."""
    found = []
    for path in sorted(path for path in other.rglob("*") if path.is_file()):
        name = path.relative_to(other).as_posix()
        if not name.startswith((*BYTES_DIFFER, ".")) and path.read_bytes() != (one / name).read_bytes():
            found.append(name)
    samples = [
        pl.scan_parquet(folder / "data" / "samples" / "*.parquet")
        .select(pl.len(), pl.struct("series_id", "t", "value", "flag").hash(seed=0).sum().alias("hash"))
        .collect()
        for folder in (one, other)
    ]
    return found + ([] if samples[0].equals(samples[1]) else ["data/samples"])


def main(folder: Path, pairs: int) -> None:
    """Print the ratios of each pair, and their medians."""
    if not (folder / "day").is_dir():
        make(folder)
    slo = ["--slo", "ttft=2.2s", "--slo", "tbt=50ms", "--startup", "240s"]
    week, day = str(folder.resolve() / "week"), str(folder.resolve() / "day")
    ratios = []
    with tempfile.TemporaryDirectory(dir=folder) as made_in:
        at = Path(made_in)
        show("seven days", timed(["run", week, *slo, "--run-dir", "begun"], at))
        for number in range(pairs):
            shutil.copytree(at / "begun", at / "a")
            added = timed(["run", "--extend", "a", day], at)
            whole = timed(["run", week, day, *slo, "--run-dir", "b"], at)
            show("the eighth added", added)
            show("eight days", whole)
            reading = [sum(stages[s] for s in ("ingest", "align")) for _, stages in (added, whole)]
            ratios.append((reading[0] / reading[1], added[0] / whole[0]))
            differ = differences(at / "a", at / "b")
            told = f"reading and aligning {ratios[-1][0]:.2f}, the whole run {ratios[-1][1]:.2f}"
            sys.stdout.write(f"pair {number + 1}: {told}; files that differ: {differ or 'none'}\n")
            rows = json.loads((at / "b/data/inputs.json").read_text("utf-8"))["counts"]["rows_stored"]
            for one in ("a", "b"):
                shutil.rmtree(at / one)
    reading_ratio, run_ratio = (median(each) for each in zip(*ratios, strict=True))
    sys.stdout.write(
        f"{rows:,} samples; CPU seconds of the day added, of those of eight days at once, median of {pairs}: "
        f"reading and aligning {reading_ratio:.2f} (at most {MOST_OF_READING:.2f}), the whole run "
        f"{run_ratio:.2f} (at most {MOST_OF_RUN:.2f})\n"
    )


def show(name: str, run: tuple[float, dict[str, float]]) -> None:
    """Print the CPU seconds of a run and of its stages."""
    each = ", ".join(f"{stage} {used:.1f}" for stage, used in run[1].items())
    sys.stdout.write(f"{name}: {run[0]:.1f} s CPU ({each})\n")
    sys.stdout.flush()


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), count)
    else:
        with tempfile.TemporaryDirectory() as made_in:
            main(Path(made_in), count)
