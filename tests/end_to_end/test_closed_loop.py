"""Written policies against the simulated physics: does the replay foretell them, and are floors safe?"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from end_to_end.closed_loop import FORETOLD_KINDS, foretold, fresh, roomy_kinds
from end_to_end.closed_loop_table import (
    FLAT_ACTIONS,
    SAVES,
    Foretold,
    Fresh,
    foretold_table,
    fresh_table,
    rate_interval,
)

SEEDS = int(os.environ.get("HSA_LOOP_SEEDS", "2"))
"""Histories per kind; 10 give 200 over-provisioned ones."""

FIRST_SEED = int(os.environ.get("HSA_LOOP_FIRST_SEED", "1"))
"""Seed of the first one: a fresh number judges on histories nobody has seen."""

KEPT = os.environ.get("HSA_LOOP_SCORES")
"""File to add every score to, one JSON line each; unset = none."""

Score = dict[str, Any]


def _scores(judge: Callable[[Any, int, Path], Score], kinds: Sequence[Any], folder: Path) -> list[Score]:
    """Judge every kind with every seed, two at a time."""
    tasks = [(kind, FIRST_SEED + seed) for seed in range(SEEDS) for kind in kinds]
    context = multiprocessing.get_context("spawn")  # a forked copy of a threaded library can hang
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(judge, kind, seed, folder) for kind, seed in tasks]
        found = [future.result() for future in futures]
    if KEPT:
        with Path(KEPT).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in found)
    return found


def _print(capsys: pytest.CaptureFixture[str], title: str, texts: Sequence[str]) -> None:
    with capsys.disabled():
        sys.stdout.write("\n".join([f"\n{title}", *(f"  {text}" for text in texts)]) + "\n")


@pytest.mark.slow
def test_the_replay_foretells_what_the_physics_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No goal on replayed instance-hours and violation shares is refuted."""
    scores = _scores(foretold, FORETOLD_KINDS, tmp_path)
    lines, texts = foretold_table(scores)
    _print(capsys, f"{len(scores)} policies replayed and run", [*(line.text() for line in lines), *texts])
    assert not [line.text() for line in lines if line.standing == "missed"]


@pytest.mark.slow
def test_policies_from_roomy_histories_are_safe_on_a_fresh_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most 2 % break the SLO where the recorded pools did not, and a quarter of the hours is saved.

    While the load stands still they do next to nothing. Of each goal: it is not refuted.
    """
    scores = _scores(fresh, roomy_kinds(), tmp_path)
    lines, texts, spent = fresh_table(scores)
    _print(
        capsys,
        f"{len(scores)} over-provisioned histories, {spent.text()}",
        [*(line.text() for line in lines), *texts],
    )
    assert not [line.text() for line in lines if line.standing == "missed"]
    assert spent.saved_between[1] >= SAVES
    assert spent.flat_between[0] <= FLAT_ACTIONS


def _fresh(**changed: Any) -> Score:
    found = {
        "recorded_hours": 100.0, "hours": 70.0, "recorded_share": 0.001, "share": 0.002,
        "flat_pool_days": 0.5,
    }  # fmt: skip
    return vars(Fresh("day", 1, **(found | changed)))


def test_a_policy_breaks_by_more_than_a_point_over_what_was_recorded() -> None:
    """A point exactly does not; those that could not be run count for the second line alone."""
    scores = [
        _fresh(), _fresh(share=0.011, flat_actions=4),
        _fresh(share=0.0112, cause="steep", recorded_hours=200.0, hours=200.0),
        vars(Fresh("day", 2, "on hold")),
    ]  # fmt: skip
    lines, texts, spent = fresh_table(scores)
    assert [(line.hits, line.trials) for line in lines] == [(1, 3), (3, 4)]
    assert (spent.saved, spent.saved_per_run) == pytest.approx((0.15, 0.2))
    assert spent.saved_between == pytest.approx((0.0, 0.3))
    assert spent.flat_actions == pytest.approx(4 / 1.5)
    assert texts[2].endswith("BROKEN: steep")
    assert texts[3] == "day-2: not judged, on hold"


def test_a_replay_is_judged_on_hours_and_on_the_side_of_one_percent() -> None:
    """Shares count only where the replay claims a side: neither about a mark, nor without a range."""
    good = {"between": (0.0, 0.008), "replayed_hours": 102.0, "true_hours": 100.0}
    scores = [
        vars(Foretold("day", 1, **good, true_share=0.005)),
        vars(Foretold("day", 2, **(good | {"replayed_hours": 104.0}), true_share=0.04)),
        vars(Foretold("day", 3, **(good | {"between": (0.005, 0.02)}), true_share=0.04)),
        vars(Foretold("day", 4, **(good | {"between": (0.06, 0.2)}), true_share=0.1)),
        vars(Foretold("day", 5, **(good | {"between": None}), true_share=0.5)),
    ]
    lines, texts = foretold_table(scores)
    assert [(line.hits, line.trials) for line in lines] == [(4, 5), (2, 3), (4, 4)]
    assert texts[2].endswith("side of 1% unclear, of 5% under")


def test_the_interval_of_a_rate_is_exact() -> None:
    """Of no event in T days the highest rate is ln 40 ÷ T; one event has a lowest of −ln 0.975 ÷ T."""
    assert rate_interval(0, 2.0) == pytest.approx((0.0, math.log(40.0) / 2.0))
    assert rate_interval(1, 1.0)[0] == pytest.approx(-math.log(0.975))
    assert math.isnan(rate_interval(0, 0.0)[1])
