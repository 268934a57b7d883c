"""Streaming ingest against parsing whole documents with the json module: time and peak memory, as ratios.

Each way reads the same files in a process of its own, in turn; both end with an array of times and an array
of values per series.
"""

from __future__ import annotations

import gzip
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from hs_analysis.ingest.bytestream import ByteStream, open_decompressed
from hs_analysis.ingest.prometheus_json import read_answers
from hs_analysis.ingest.raw import ReadNotes

REPEATS = 3
SAMPLES = Path(__file__).resolve().parents[2] / "data_samples"


def whole(path: Path) -> int:
    """Parse the document at once; return the number of samples."""
    with gzip.open(path) as file:
        series = json.load(file)["data"]["result"]
    arrays = [
        (np.array([p[0] for p in s["values"]]), np.array([float(p[1]) for p in s["values"]])) for s in series
    ]
    return sum(times.size for times, _ in arrays)


def streamed(path: Path) -> int:
    """Read series by series, as ingest does; return the number of samples."""
    with open_decompressed(path) as file:
        return sum(s.values.size for s in read_answers(ByteStream(file), path.name, ReadNotes()))


def child(way: str, folder: str) -> None:
    """Read every file of a folder one way and print samples, seconds and peak memory [MB]."""
    begin = time.perf_counter()
    samples = sum(
        {"whole": whole, "streamed": streamed}[way](p) for p in sorted(Path(folder).glob("*.json.gz"))
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{samples} {time.perf_counter() - begin} {peak}")


def measure(way: str, folder: Path) -> tuple[int, float, float]:
    """Return (samples, seconds, peak MB) of one process."""
    command = [sys.executable, __file__, way, str(folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(text[0]), float(text[1]), float(text[2])


def main() -> None:
    """Print one line per sample folder."""
    for folder in sorted(p for p in SAMPLES.iterdir() if p.is_dir()):
        runs = [(measure("whole", folder), measure("streamed", folder)) for _ in range(REPEATS)]
        counts = {way[0] for run in runs for way in run}
        assert len(counts) == 1, f"the two ways read different numbers of samples: {counts}"
        slow, fast = (statistics.median(run[i][1] for run in runs) for i in (0, 1))
        large, small = (statistics.median(run[i][2] for run in runs) for i in (0, 1))
        rate = next(iter(counts)) / fast / 1e6
        sys.stdout.write(
            f"ingest {folder.name}: whole document {slow:.2f} s {large:.0f} MB, "
            f"streamed {fast:.2f} s {small:.0f} MB ({rate:.2f} million samples/s), "
            f"time ratio {fast / slow:.2f}, memory ratio {small / large:.2f}\n"
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], sys.argv[2])
    else:
        main()
