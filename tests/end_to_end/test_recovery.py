"""Whole runs on fresh simulated histories, from dump files to summary.json, against their known answers."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from end_to_end.recovery import recover, table
from simulator import KINDS

SEEDS = int(os.environ.get("HSA_RECOVERY_SEEDS", "3"))
"""Histories per kind."""

FIRST_SEED = int(os.environ.get("HSA_RECOVERY_FIRST_SEED", "1"))
"""Seed of the first one: a fresh number judges on histories nobody has seen."""

KEPT = os.environ.get("HSA_RECOVERY_SCORES")
"""File to add every score to, one JSON line each; unset = none."""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every kind with every seed, run once, two at a time."""
    folder = tmp_path_factory.mktemp("recovery")
    tasks = [(kind.name, FIRST_SEED + seed) for seed in range(SEEDS) for kind in KINDS]
    context = multiprocessing.get_context("spawn")  # a forked copy of a threaded library can hang
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(recover, name, seed, folder) for name, seed in tasks]
        found = [future.result() for future in futures]
    if KEPT:
        with Path(KEPT).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in found)
    return found


@pytest.mark.slow
def test_answers_on_fresh_histories_meet_their_goals(
    scores: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """No goal on verdicts, capacities, ratios and short minutes is refuted, whatever chance may have done."""
    lines, misses = table(scores)
    report = [
        f"\n{len(scores)} histories, {len(KINDS)} kinds, seeds from {FIRST_SEED}",
        *(line.text() for line in lines),
        f"{len(misses)} misses:",
        *(f"  {miss}" for miss in misses),
    ]
    with capsys.disabled():
        sys.stdout.write("\n".join(report) + "\n")
    assert not [line.text() for line in lines if line.standing == "missed"]
