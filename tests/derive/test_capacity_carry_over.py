"""How much of a window's latency answers to the window before it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, day_shape, frame_of, wander
from scipy.stats import norm

from hs_analysis.derive.capacity import with_carry_over
from hs_analysis.derive.capacity_laws import RULES, label_rows
from hs_analysis.derive.constants import EVENTS_MIN
from hs_analysis.derive.rows import RoleRows, role_rows

CHANCE, SCATTER, STEEPNESS, LIMIT = 0.04, 0.3, 15.0, 1000.0
"""Sd of what comes in a window, sd of the probit of its share, slope of that probit in ln load, and the load
at which the share is what a window may have [tokens/s]."""


def rows_with_memory(part: float, seed: int, peak: float = 1.05) -> tuple[RoleRows, float]:
    """Return two days of a decode instance whose share over the limit answers to (1 - part) of what came in a
    window and `part` of what came in the one before, and the mean load at which 5 % of windows violate."""
    rng = np.random.default_rng([seed, 21])
    mean = peak * LIMIT * day_shape(48) * wander(48 * 60, 0.05, rng)
    came = mean * np.exp(CHANCE * rng.standard_normal(mean.size) * np.sqrt(LIMIT / mean))
    answering = (1.0 - part) * came + part * np.r_[came[:1], came[:-1]]
    probit = norm.ppf(0.05) + STEEPNESS * np.log(answering / LIMIT)
    share = norm.cdf(probit + SCATTER * rng.standard_normal(mean.size))
    columns = {
        "offered_tps@decode": came,
        "instances@decode": np.ones(mean.size),
        "tbt_over@decode": share,
    }
    noise = math.hypot(CHANCE * math.hypot(1.0 - part, part), SCATTER / STEEPNESS)
    rows = role_rows(frame_of(columns, "production", 60.0), "decode", SETTINGS)
    return rows, LIMIT * math.exp(norm.ppf(0.05) * noise)


def part_of(rows: RoleRows, found: RoleRows) -> float:
    """Return the part of the window before in a mixed load."""
    moved = np.isfinite(found.load) & (np.abs(rows.earlier - rows.load) > 1.0)
    return float(np.median(((found.load - rows.load) / (rows.earlier - rows.load))[moved]))


@pytest.mark.parametrize("part", [0.0, 0.4, 1.0])
def test_the_part_of_the_window_before_is_recovered(part: float) -> None:
    """None, some and all of a latency that answers to the window before; chance shrinks as a mean's does."""
    for seed in range(3):
        rows, _ = rows_with_memory(part, seed)
        found = with_carry_over(rows, SETTINGS.slo)
        told = part_of(rows, found)
        assert told == pytest.approx(part, abs=0.1)
        assert found.count_noise == pytest.approx(rows.count_noise * ((1 - told) ** 2 + told**2))


def test_a_latency_that_remembers_does_not_pull_capacity_down() -> None:
    """Chance that has no effect in its own window is not counted twice: 1 % off, not 2 % low."""
    blurred, errors = [], []
    for seed in range(8):
        rows, true = rows_with_memory(0.4, seed)
        for found, error in ((rows, blurred), (with_carry_over(rows, SETTINGS.slo), errors)):
            labelled = label_rows(found, SETTINGS.slo, drop_recovery=True)
            crossing = RULES["production"][0].crossing(labelled, SETTINGS.slo, np.arange(labelled.kept.size))
            assert crossing is not None
            error.append(math.log(crossing.load / true))
    assert np.mean(blurred) < -0.015
    assert abs(np.mean(errors)) < 0.007


def test_too_few_violations_and_pressure_tests_keep_the_own_load() -> None:
    """Under ten violating windows nothing tells the part; the loads of a test are means already."""
    rows, _ = rows_with_memory(0.4, 0)
    test = replace(rows, kind="pressure_test")
    assert with_carry_over(test, SETTINGS.slo) is test
    bad = np.flatnonzero(label_rows(rows, SETTINGS.slo, drop_recovery=True).bad)
    share = rows.over.copy()
    share[bad[EVENTS_MIN - 1 :]] = 0.0
    few = replace(rows, over=share)
    assert with_carry_over(few, SETTINGS.slo) is few
