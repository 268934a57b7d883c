"""Kthena's AutoscalingPolicy: limits, panic and the band of the ratio."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from controllers import reference
from controllers.batches import walk
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.controllers.hpa import Metric, RatePolicy, Rules
from hs_analysis.controllers.kthena import Kthena, RatioBand, RatioConstraint, within_ratio


def paired(prefill: int, decode: int, constraint: RatioConstraint) -> dict[str, int]:
    """Return one pair of counts after the constraint."""
    counts = {"prefill": np.array([float(prefill)]), "decode": np.array([float(decode)])}
    return {role: int(one[0]) for role, one in within_ratio(counts, RatioBand.of([constraint])).items()}


@pytest.mark.parametrize(
    ("counts", "kept"),
    [((4, 2), (4, 2)), ((9, 2), (9, 5)), ((2, 5), (9, 5)), ((20, 10), (20, 10)), ((20, 1), (20, 10))],
)
def test_kthena_ratio(counts: tuple[int, int], kept: tuple[int, int]) -> None:
    """Decode grows until the prefill count fits; a prefill count below the band grows to its lower end."""
    band = RatioConstraint(1.8, 2.2, (1, 20), (1, 10))
    found = paired(*counts, band)
    assert (found["prefill"], found["decode"]) == kept


@given(st.integers(1, 30), st.integers(1, 15), st.floats(0.3, 3.0), st.floats(1.0, 1.6), st.integers(5, 40))
def test_kthena_ratio_is_in_the_band_and_the_bounds(
    prefill: int, decode: int, low: float, width: float, most: int
) -> None:
    """Whenever any whole pair in the bounds lies in the band, the answer is one."""
    band = RatioConstraint(low, low * width, (1, most), (1, most))
    found = paired(prefill, decode, band)
    assert found == reference.within_ratio({"prefill": prefill, "decode": decode}, band)
    pairs = [(p, d) for d in range(1, most + 1) for p in range(1, most + 1) if low <= p / d <= low * width]
    if pairs:
        assert low - 1e-6 <= found["prefill"] / found["decode"] <= low * width + 1e-6
    else:
        assert found == {"prefill": prefill, "decode": decode}


def test_kthena_panic_lifts_the_rate_limit() -> None:
    """One instance or 100 % in 15 s at rest; past twice the pool up to eleven times of it."""
    role = Kthena((Metric("load", 100.0),), 1, 100)
    assert walk(role, [790.0], 4, window_s=15.0) == [8]
    assert walk(role, [3000.0], 4, window_s=15.0) == [30]
    assert walk(dataclasses.replace(role, panic_threshold=None), [3000.0], 4, window_s=15.0) == [8]


def test_kthena_percentages_round_down() -> None:
    """25 % of 3 is no instance: a pool that small grows by its one instance only."""
    quarter = Rules(0.0, (RatePolicy("Pods", 0, 15.0), RatePolicy("Percent", 25, 15.0)))
    role = Kthena((Metric("load", 100.0),), 1, 100, up=quarter, down=quarter, panic_threshold=None)
    assert walk(role, [3000.0], 3, window_s=15.0) == [3]
    assert walk(role, [3000.0], 9, window_s=15.0) == [11]
    assert walk(role, [100.0], 9, window_s=15.0) == [7]


def test_kthena_panic_forgets_nothing() -> None:
    """What was recommended during panic keeps the pool for the stabilisation window after it."""
    calm = dataclasses.replace(Kthena((Metric("load", 100.0),)).down, stabilization_s=300.0)
    role = Kthena((Metric("load", 100.0),), 1, 100, down=calm)
    assert walk(role, [900.0] + [200.0] * 6, 4) == [9, 9, 9, 9, 9, 2, 2]


@given(st.integers(0, 2**32 - 1))
def test_kthena_ratio_of_many_lanes_is_that_of_each(seed: int) -> None:
    """Lanes with bands and bounds of their own move as they do alone."""
    rng = np.random.default_rng(seed)
    bands = []
    for _ in range(40):
        low, least, most = rng.uniform(0.3, 3.0), rng.integers(1, 4, 2), rng.integers(4, 30, 2)
        high = low * rng.uniform(1.0, 1.6)
        bounds = [(int(a), int(b)) for a, b in zip(least, most, strict=True)]
        bands.append(RatioConstraint(low, high, bounds[0], bounds[1]))
    prefill, decode = rng.integers(0, 30, 40), rng.integers(0, 30, 40)
    found = within_ratio({"prefill": prefill, "decode": decode}, RatioBand.of(bands))
    for lane, band in enumerate(bands):
        alone = reference.within_ratio({"prefill": int(prefill[lane]), "decode": int(decode[lane])}, band)
        assert (found["prefill"][lane], found["decode"][lane]) == (alone["prefill"], alone["decode"])
