"""A P/D ratio that moves: by the hour of the day, and by the mix that is observed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from controllers.fleets import fleet
from controllers.test_heteroscale import control

from hs_analysis.controllers import batch_of, with_slots
from hs_analysis.controllers.heteroscale import ObservedMix, PoolWork, RatioUpkeep
from hs_analysis.schema.arrays import Floats

DECODE, PREFILL = ("decode_tps", "decode"), ("prefill_tps", "prefill")
MIX = ObservedMix(PoolWork("prefill_tps", "prefill"), PoolWork("decode_tps", "decode"), 0.5, 300.0)
BY_HOUR = RatioUpkeep("decode", 2.0, by_hour=(2.0,) * 9 + (3.0,) + (2.0,) * 14)
FIXED = control(upkeep=RatioUpkeep("decode", 2.0))


def prefill(upkeep: RatioUpkeep, prefill_tps: float | list[float] = math.nan, t_s: float = 0.0) -> float:
    """Return the prefill count asked for where decode grows from 4 to 6."""
    one = replace(FIXED, upkeep=upkeep)
    rows = prefill_tps if isinstance(prefill_tps, list) else [prefill_tps]
    seen = fleet({DECODE: [600.0] * len(rows), PREFILL: rows}, {"prefill": 8, "decode": 4}, t_s=t_s)
    asked = batch_of([one]).step(seen).counts
    assert asked["decode"] == [6]
    return float(asked["prefill"][0])


@pytest.mark.parametrize(("hour", "count"), [(8.99, 12), (9.0, 18), (9.99, 18), (10.0, 12)])
def test_the_ratio_of_the_hour_is_kept(hour: float, count: int) -> None:
    """The other pool follows the ratio of the hour that the clock shows."""
    assert prefill(BY_HOUR, t_s=hour * 3600.0) == count


def test_the_hour_is_that_of_the_zone() -> None:
    """Where the clock of the zone shows nine, the ratio of nine is kept."""
    one = replace(FIXED, upkeep=BY_HOUR, zone="Europe/Berlin")  # an hour ahead in January
    seen = fleet({DECODE: [600.0]}, {"prefill": 8, "decode": 4}, t_s=8 * 3600.0)
    assert batch_of([one]).step(seen).counts["prefill"] == [18]


def test_the_ratio_follows_the_mean_mix_of_the_last_minutes() -> None:
    """Factor × prefill work ÷ decode work over five minutes: older rows and missing ones count nothing."""
    upkeep = RatioUpkeep("decode", 2.0, observed=MIX)
    assert prefill(upkeep, 3600.0) == 18
    assert prefill(upkeep, [90_000.0, 3000.0, 4200.0, math.nan, 3600.0, 3600.0]) == 18


@pytest.mark.parametrize("missing", [math.nan, 0.0])
def test_without_a_reading_the_fixed_ratio_is_kept(missing: float) -> None:
    """A work that is missing, or none at all, says nothing of the mix."""
    assert prefill(RatioUpkeep("decode", 2.0, observed=MIX), missing) == 12


def test_fixed_and_moving_ratios_decide_as_each_alone_and_when_lanes_are_taken() -> None:
    """Fixed and by hour share a batch, and a lane taken out keeps its ratio."""
    batch = batch_of([FIXED, replace(FIXED, upkeep=BY_HOUR)])
    seen = fleet({DECODE: [600.0]}, {"prefill": [8, 8], "decode": [4, 4]}, t_s=9 * 3600.0)

    def asked(one: object) -> Floats:
        return one.step(seen).counts["prefill"]  # type: ignore[attr-defined]

    assert asked(batch.take(np.array([1, 0]))).tolist() == [18, 12]
    assert asked(batch).tolist() == [12, 18]
    mixes = batch_of([replace(FIXED, upkeep=RatioUpkeep("decode", 2.0, observed=MIX))] * 2)
    both = fleet({DECODE: [600.0], PREFILL: [3600.0]}, {"prefill": [8, 8], "decode": [4, 4]})
    assert mixes.take(np.array([1, 0])).step(both).counts["prefill"].tolist() == [18, 18]


def test_the_observed_mix_reads_slots() -> None:
    """With slots the readings of the mix are named as those of the pools: the leader's own is held once."""
    slotted, held = with_slots(replace(FIXED, upkeep=RatioUpkeep("decode", 2.0, observed=MIX)))
    assert set(held.values()) == {DECODE, PREFILL}
    assert set(batch_of([slotted]).keys) == set(held)
