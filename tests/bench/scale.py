"""One API answer through the whole program: memory that stays and time that grows as the size, as ratios.

The answer is one JSON object of 64 workers with 20 signals each at 15 s: x1 has 2520 steps (77 MB), x4 four
times as many, x16 a week (1.26 GB). The last takes minutes and some gigabytes of disk, so it is made only
with HSA_BENCH_LARGE=1.

    [HSA_BENCH_LARGE=1] python tests/bench/scale.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ingest import STEPS, made_series

REPEATS = 3
SIZES = (1, 4, 16) if os.environ.get("HSA_BENCH_LARGE") else (1, 4)

NAMES = {
    "vllm:signal_1": "vllm:prompt_tokens_total", "vllm:signal_2": "vllm:num_requests_waiting",
    "vllm:signal_3": "vllm:generation_tokens_total",
}  # fmt: skip
"""Two counters and a gauge that the catalogue knows: without one, ingest stops before it stores."""

MOST_GROWTH = 1.25
MOST_MIB = 512
"""Peak memory of the largest: of that of x1, and at all [MiB]."""

MOST_TIMES = 4.6
"""CPU time of four times the samples."""


def write_answer(path: Path, steps: int) -> None:
    """Write the set as one answer to a range query, a series at a time."""
    with path.open("w") as file:
        file.write('{"status":"success","data":{"resultType":"matrix","result":[')
        for number, (labels, times, texts) in enumerate(made_series(steps)):
            pairs = ",".join(f'[{t},"{v}"]' for t, v in zip(times, texts, strict=True))
            labels["__name__"] = NAMES.get(labels["__name__"], labels["__name__"])
            metric = json.dumps(labels, separators=(",", ":"))
            file.write(f'{"," if number else ""}{{"metric":{metric},"values":[{pairs}]}}')
        file.write("]}}")


def measure(answer: Path, folder: Path) -> tuple[float, float]:
    """Return CPU seconds and peak MiB of ``hsa ingest`` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as run:
        command = [sys.executable, "-m", "hs_analysis", "ingest", str(answer), "--run-dir", f"{run}/run"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print a line per size."""
    runs: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for size in SIZES:
            write_answer(folder / f"x{size}.json", size * STEPS)
        for _ in range(REPEATS):
            for size in SIZES:
                runs[size].append(measure(folder / f"x{size}.json", folder))
        sizes_mb = {size: (folder / f"x{size}.json").stat().st_size / 1e6 for size in SIZES}
    cpu = {size: statistics.median(used for used, _ in found) for size, found in runs.items()}
    peak = {size: max(mib for _, mib in found) for size, found in runs.items()}
    for size in SIZES:
        line = f"one answer x{size} ({sizes_mb[size]:.0f} MB): {cpu[size]:.2f} s CPU, {peak[size]:.0f} MiB"
        if size > 1:
            line += (
                f"; memory {peak[size] / peak[1]:.2f} of x1 (at most {MOST_GROWTH}, and {MOST_MIB} MiB), "
                f"CPU {cpu[size] / cpu[size // 4]:.2f} of x{size // 4} (at most {MOST_TIMES})"
            )
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
