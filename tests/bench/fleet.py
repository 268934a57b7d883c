"""What runs cost at four sizes, and whether that foretells a fifth: CPU time, memory and disk.

A fleet is made of the shipped simulated service: copies under other names, of the first days or of all days
twice over, and per pod so many more series that no signal is read from. The four terms of
`hs_analysis.pipeline.cost` (the start, a sample, a service, a day of a service) are fitted to four sizes; the
fit, the shipped numbers and a look at the files then say what the fifth takes.

    python tests/bench/fleet.py
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hs_analysis.ingest.discovery import discover
from hs_analysis.pipeline.cost import Cost, cost_of, expected_cost
from hs_analysis.schema.settings import Reading

SAMPLE = Path(__file__).parents[2] / "data_samples" / "simulated-days"
SAMPLE_DAYS = 2.5
FIRST_S = 1_767_225_600


@dataclass(frozen=True)
class Size:
    """Services of 15 pods each, days, and series of each pod that no signal is read from."""

    services: int
    days: float
    more: int = 0


FOUR = (Size(1, 1.0), Size(2, 1.0), Size(1, SAMPLE_DAYS), Size(1, SAMPLE_DAYS, more=100))
FIFTH = Size(2, 2 * SAMPLE_DAYS, more=20)

NAMES = ("namespace", "exported_namespace", "pod", "exported_pod", "instance", "model_name", "model")
"""Labels in which copies of the service differ."""

WITHIN = 2.0
"""Factor within which a cost must be foretold."""


def make(folder: Path, size: Size) -> None:
    """Write the answers of a fleet."""
    folder.mkdir()
    for path in sorted(SAMPLE.glob("*.json.gz")):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        result = [one for number in range(size.services) for one in renamed(answer["data"]["result"], number)]
        answer["data"]["result"] = [dict(one, values=over_days(one["values"], size.days)) for one in result]
        (folder / path.name.removesuffix(".gz")).write_text(json.dumps(answer), "utf-8")
        if path.name.startswith("vllm__generation_tokens"):
            answer["data"]["result"] = [
                {**one, "metric": {**one["metric"], "__name__": "vllm:other_seconds_bucket", "le": f"{n}.0"}}
                for one in answer["data"]["result"]
                for n in range(size.more * 15 // 4)
            ]
            (folder / "more.json").write_text(json.dumps(answer), "utf-8")


def renamed(result: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Return the series of a copy of the service."""
    found = copy.deepcopy(result)
    for one in found:
        for label in (
            "namespace",
            "exported_namespace",
            "pod",
            "exported_pod",
            "instance",
            "model_name",
            "model",
        ):
            if label in one["metric"]:
                one["metric"][label] = f"{one['metric'][label]}-{number}"
    return found


def over_days(values: list[list[Any]], days: float) -> list[list[Any]]:
    """Return the points of some days; the sample's come again where it is shorter."""
    times = range(round(np.ceil(days / SAMPLE_DAYS)))
    shifted = [[t + round(k * SAMPLE_DAYS * 86400), value] for k in times for t, value in values]
    return [point for point in shifted if point[0] <= FIRST_S + days * 86400]


def measure(dumps: Path, folder: Path) -> tuple[float, float, int, int]:
    """Return CPU seconds, peak bytes, samples and stored bytes of a whole run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "hs_analysis",
        "run",
        str(dumps),
        "--slo",
        "ttft=2.5s",
        "--slo",
        "tbt=50ms",
    ]
    command += ["--startup", "240s", "--run-dir", str(folder), "-q", "-o", "json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    inputs = json.loads((folder / "data" / "inputs.json").read_text("utf-8"))
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    factor = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * factor, inputs["counts"]["rows_stored"], stored


def told(size: Size, used: float, peak: float, rows: int, cost: Cost) -> str:
    """Return a line on one size: measured, and as foretold."""
    return (
        f"{size.services} services × {size.days:g} days, {rows:,} samples: {used:.0f} s CPU, foretold "
        f"{cost.seconds:.0f} ({cost.seconds / used:.2f}); {peak / 1e9:.2f} GB of memory, foretold "
        f"{cost.memory_bytes / 1e9:.2f} ({cost.memory_bytes / peak:.2f})\n"
    )


def terms_of(size: Size, rows: int) -> list[float]:
    """Return what each term is multiplied with."""
    return [1.0, rows, size.services, size.services * size.days]


def main() -> None:
    """Print a line per size, the fit, and what it says of the fifth."""
    measured = []
    with tempfile.TemporaryDirectory() as made_in:
        for number, size in enumerate((*FOUR, FIFTH)):
            dumps = Path(made_in) / f"dumps-{number}"
            make(dumps, size)
            looked = expected_cost(discover([dumps]).files, Reading())
            used, peak, rows, _ = measure(dumps, Path(made_in) / f"run-{number}")
            sys.stdout.write(told(size, used, peak, rows, cost_of(rows, size.services, size.days)))
            sys.stdout.write(f"  by a look at the files: {told(size, used, peak, looked.rows, looked)}")
            sys.stdout.flush()
            measured.append((used, peak, rows))
    terms = np.array(
        [terms_of(size, rows) for size, (_, _, rows) in zip(FOUR, measured[: len(FOUR)], strict=True)]
    )
    fitted, *_ = np.linalg.lstsq(terms, np.array([used for used, _, _ in measured[: len(FOUR)]]), rcond=None)
    used, _, rows = measured[-1]
    foretold = float(fitted @ terms_of(FIFTH, rows))
    sys.stdout.write(
        f"fitted to four: {fitted[0]:.1f} s, {fitted[1] * 1e6:.2f} µs a sample, {fitted[2]:.1f} s a service, "
        f"{fitted[3]:.1f} s a day of a service; the fifth: measured {used:.0f} s, foretold {foretold:.0f} s "
        f"({foretold / used:.2f}; within a factor {WITHIN:g})\n"
    )


if __name__ == "__main__":
    main()
