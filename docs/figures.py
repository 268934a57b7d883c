"""Make docs/images/method/*.png: a figure for each page of the method, from a run of the shipped history.

    .venv/bin/python docs/figures.py reports/demo-simulated-days

Needs the test dependencies.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hs_analysis import load_run

IMAGES = Path(__file__).resolve().parent / "images" / "method"

FIGURES = {
    "study": "scatter-decode_tps-decode",
    "demand": "series-prefill_tps_effective-prefill",
    "capacity": "capacity-decode",
    "ratio": "ratio",
    "selection": "front",
    "replay": "decision-prefill",
    "decision": "decision-decode",
}
"""Page → figure of the report."""


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    run = load_run(sys.argv[1])
    for page, name in FIGURES.items():
        run.figure(name).save(IMAGES / f"{page}.png", ppi=72)


if __name__ == "__main__":
    main()
