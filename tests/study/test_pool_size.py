"""Latency and queues of pools that an autoscaler moves, against what the pool does at its usual size."""

import math

import numpy as np
import pytest

from hs_analysis.study import study_service
from hs_analysis.study.pool_size import size_effect


def wait_s(use, count):
    """Wait in a pool of `count` instances at a use of 0 .. 1: Sakasegawa's approximation (1977)."""
    return use ** np.sqrt(2.0 * (count + 1.0)) / (count * (1.0 - use))


SERVED_S, USUAL = 0.2, 4.0


@pytest.fixture(scope="module")
def autoscaled():
    """Load per instance and counts of a pool that a target of 0.65 moved between 1 and 8 instances."""
    rng = np.random.default_rng(3)
    minutes = np.arange(36 * 60)
    cycle = 1.0 - 0.75 * 0.5 * (1.0 + np.cos(2 * np.pi * minutes / 1440))
    wander = np.cumsum(rng.normal(size=minutes.size) * 0.02)
    wander -= np.convolve(np.pad(wander, 120, mode="edge"), np.ones(241) / 241, "valid")
    total = 4.6 * cycle * np.exp(np.clip(wander, -0.3, 0.3) + 0.03 * rng.normal(size=minutes.size))
    counts = np.clip(np.ceil(np.repeat(total[::15], 15) / 0.65), 1, 8)
    return total / counts, counts


@pytest.fixture(scope="module")
def columns(autoscaled):
    """A decode pool whose time between tokens is service and wait, and whose queue is wait times arrivals."""
    use, counts = np.minimum(autoscaled[0], 0.95), autoscaled[1]
    rng = np.random.default_rng(4)
    wait = wait_s(use, counts) * np.exp(0.15 * rng.normal(size=use.size))
    return {
        "offered_tps@decode": 1000.0 * use * counts,
        "saturated@decode": np.zeros(use.size),
        "instances@decode": counts,
        "tbt@decode": SERVED_S + 0.1 * wait,
        "queue_length@decode": wait * use * counts * 20.0,
    }


def truth(low, high, law):
    """Slope of ln(law) on ln(use) over levels alike in logs, in a pool of the usual size."""
    use = np.geomspace(low, high, 8) / 1000.0
    return np.polyfit(np.log(use), np.log(law(use)), 1)[0]


def test_a_latency_of_an_autoscaled_pool_has_the_slope_of_the_usual_size(columns, make, settings):
    """Small pools at night wait longer at equal load per instance: that is no answer to the load."""
    verdict = study_service(make(columns), settings).verdict_of("tbt", "decode")
    low, high = verdict.elasticity_ci
    usual = np.median(columns["instances@decode"])
    true = truth(*verdict.elasticity_range, lambda use: SERVED_S + 0.1 * wait_s(use, usual))
    assert verdict.verdict == "guard"
    assert low <= true <= high
    assert "pool_size" in {reason.code for reason in verdict.reasons}


def test_a_queue_of_an_autoscaled_pool_tells_peak_from_calm(columns, make, settings):
    """Judged at one size its peak stands out."""
    verdict = study_service(make(columns), settings).verdict_of("queue_length", "decode")
    assert verdict.auc_top > 0.95
    assert verdict.verdict == "guard"


def test_sizes_are_told_apart_from_loads(autoscaled):
    """Factors of sizes that multiply the wait are found again, whatever the curve of the load."""
    use, counts = np.minimum(autoscaled[0], 0.95), autoscaled[1]
    effect = size_effect(use, 1.0 + use**3 * 4.0 / counts, counts, served=1.0)
    usual = float(np.median(counts))
    for size, factor in zip(effect.sizes, effect.factors, strict=True):
        assert factor == pytest.approx(usual / round(size), rel=0.1)
    assert effect.at_usual(np.array([1.0]), np.array([2.0])) == pytest.approx(1.0)
    assert math.isnan(effect.at_usual(np.array([2.0]), np.array([0.0]))[0])


def test_a_wait_that_grows_with_the_pool_is_left_alone(autoscaled):
    """More instances never make requests wait longer at equal load: a stranger's day does not become one."""
    use, counts = autoscaled
    effect = size_effect(use, counts.astype(float), counts, served=0.0)
    assert effect.factors == pytest.approx(np.ones(effect.factors.size))


def test_a_pool_that_stood_still_is_judged_as_recorded(columns, make, settings):
    """Nothing is corrected, and nothing said of it, where the count never moved."""
    still = columns | {"instances@decode": np.full(columns["instances@decode"].size, 4.0)}
    verdict = study_service(make(still), settings).verdict_of("tbt", "decode")
    assert "pool_size" not in {reason.code for reason in verdict.reasons}
