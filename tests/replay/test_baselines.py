"""What the known future allows: cheapest counts ahead of time, fewest that keep the SLO, the bound."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import SETTINGS, derived, pd_day, service

from hs_analysis.replay.baselines import asked_ahead, offline_optimum
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet, violation_probability
from hs_analysis.replay.score import compared, score
from hs_analysis.replay.simulate import Schedule, simulate


def serves(asked: tuple[int, ...], ready: np.ndarray, start: int) -> bool:
    """Whether counts asked for have ``ready`` instances at every row from ``start`` on."""
    return all(min(asked[t - start : t + 1]) >= ready[t] for t in range(start, len(ready)))


@given(st.lists(st.integers(1, 3), min_size=4, max_size=6), st.integers(1, 2))
def test_asking_ahead_is_the_cheapest_way_to_be_ready(ready: list[int], start: int) -> None:
    """Against every sequence of counts: none that serves costs less."""
    wanted = np.array(ready, float)
    asked = asked_ahead(wanted, start)
    assert serves(tuple(asked), wanted, start)
    cheapest = min(
        sum(counts)
        for counts in itertools.product(range(4), repeat=len(ready))
        if serves(counts, wanted, start) and all(counts[t] >= wanted[t] for t in range(start))
    )
    assert asked.sum() == cheapest


def test_bound_against_every_choice_of_counts() -> None:
    """Four rows, three counts each: the bound is below the best choice by less than one row's."""
    load = np.array([2500.0, 4500.0, 2500.0, 1200.0])
    frame = service({"decode": load}, {"decode": 3}, window_s=300.0)
    model = replace(fit_fleet(frame, derived(), SETTINGS), allowed=0.2)
    pool = model.pools["decode"]
    chance = {
        n: violation_probability(load / n, np.zeros(4), pool, model.allowed) for n in (1, 2, 3, 4, 5, 6)
    }
    best = min(
        sum(counts)
        for counts in itertools.product(chance, repeat=4)
        if sum(chance[n][i] for i, n in enumerate(counts)) <= model.allowed * 4
    )
    found = offline_optimum(demands(frame), model)
    assert found.least_instance_hours is not None
    least = found.least_instance_hours * 12
    assert best - 2.0 <= least <= best + 1e-9


def test_hindsight_keeps_the_slo_with_fewer_hours_than_the_target_needs() -> None:
    """On a day: within the allowance, and at most a tenth above the bound."""
    frame = pd_day()
    model = fit_fleet(frame, derived(), SETTINGS)
    found = offline_optimum(demands(frame), model)
    best = score("hindsight", found.results, model)
    assert best.strain_ratio is not None
    assert best.strain_ratio <= SETTINGS.slo.allowed_window_share
    assert best.row.instance_hours is not None
    assert found.least_instance_hours is not None
    assert found.least_instance_hours <= best.row.instance_hours <= 1.1 * found.least_instance_hours


@pytest.mark.parametrize("load", [[2500.0, 4500.0, 2500.0, 1200.0], [1400.0, 4400.0, 4400.0, 1400.0]])
def test_nothing_that_keeps_the_slo_saves_against_hindsight(load: list[float]) -> None:
    """Every schedule of up to four instances, a start-up time after it is asked for: best is even."""
    frame = service({"decode": np.array(load)}, {"decode": 3}, window_s=300.0)
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    bound = score("hindsight", offline_optimum([part], model).results, model).row
    kept = []
    for counts in itertools.product((1.0, 2.0, 3.0, 4.0), repeat=4):
        asked = Schedule({"decode": np.array(counts)}, running=False)
        row = score("x", [simulate(asked, part, model)], model).row
        assert row.slo_violation_ratio is not None
        if row.slo_violation_ratio <= model.allowed:
            kept.append(compared(row, {"hindsight": bound}).vs_hindsight)
    assert len(kept) > 10
    assert max(kept) == pytest.approx(0.0)


def test_a_tighter_slo_costs_more() -> None:
    """The bound rises as fewer windows may violate."""
    frame = pd_day(720)
    model = fit_fleet(frame, derived(), SETTINGS)
    bounds = []
    for allowed in (0.2, 0.05, 0.001):
        found = offline_optimum(demands(frame), replace(model, allowed=allowed)).least_instance_hours
        assert found is not None
        bounds.append(found)
    assert bounds == sorted(bounds)


def test_without_a_capacity_there_is_no_bound() -> None:
    """The recorded counts stand in, and nothing is claimed."""
    frame = service({"decode": np.full(60, 3000.0)}, {"decode": 3})
    model = fit_fleet(frame, replace(derived(), capacity=(), thresholds=()), SETTINGS)
    found = offline_optimum(demands(frame), model)
    assert found.least_instance_hours is None
    assert found.results[0].desired["decode"] == pytest.approx(3.0)
