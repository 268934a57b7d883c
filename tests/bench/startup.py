"""How long `hsa --help` takes, against nothing but importing typer: the ratio is what the tool adds.

Both are started in turn, and the medians are compared, so that a busy machine slows both alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 7


def seconds(*command: str) -> float:
    """Return the wall time of one process [s]."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Print both medians and their ratio."""
    tool, bare = [], []
    for _ in range(REPEATS):
        tool.append(seconds("-m", "hs_analysis", "--help"))
        bare.append(seconds("-c", "import typer"))
    a, b = statistics.median(tool), statistics.median(bare)
    sys.stdout.write(f"start-up: hsa --help {a:.2f} s, import typer {b:.2f} s, ratio {a / b:.2f}\n")


if __name__ == "__main__":
    main()
