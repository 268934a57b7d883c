"""Autoscalers other than the HPA, one by one, and the table that lists them."""

from __future__ import annotations

import dataclasses
import math

import pytest
from controllers.views import view, walk
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.controllers import RatioConstraint
from hs_analysis.controllers.hpa import Hpa, Metric, Operand
from hs_analysis.controllers.keda import Fallback, Keda, decide
from hs_analysis.controllers.kthena import Kthena, within_ratio

NAN = math.nan
TRIGGER = Hpa((Metric("load", 100.0),))


def test_keda_reads_an_empty_answer_as_zero_unless_told_otherwise() -> None:
    """The Prometheus trigger's default walks a blind fleet to its minimum; ignoreNullValues=false holds."""
    blind = [800.0] + [NAN] * 10
    assert walk(Keda(TRIGGER, min_replica_count=2), blind, 8)[-1] == 2
    assert walk(Keda(TRIGGER, min_replica_count=2, ignore_null_values=False), blind, 8)[-1] == 8


def test_keda_keeps_the_count_it_found_as_its_hpa_does() -> None:
    """10 found, 3 needed: 10 until 300 s have passed."""
    assert walk(Keda(TRIGGER, min_replica_count=2), [300.0] * 6, 10) == [10] * 5 + [3]


def test_keda_fallback_after_the_threshold() -> None:
    """Three failed polls are borne, the fourth falls back: two polls a minute, so from the second row on."""
    fallen = Keda(TRIGGER, 2, ignore_null_values=False, fallback=Fallback(3, 6))
    assert walk(fallen, [400.0, NAN, NAN, NAN], 4) == [4, 4, 6, 6]
    slow = dataclasses.replace(fallen, polling_interval_s=60.0)
    assert walk(slow, [400.0, NAN, NAN, NAN, NAN], 4) == [4, 4, 4, 4, 6]
    higher = dataclasses.replace(fallen, fallback=Fallback(3, 2, "currentReplicasIfHigher"))
    assert walk(higher, [400.0, NAN, NAN, NAN], 4) == [4, 4, 4, 4]


def test_the_largest_of_several_triggers_wins() -> None:
    """Two metrics of one object: the count is the larger one's, in either order."""
    two = (Metric("load", 100.0), Metric("queue", 5.0))
    for metrics in (two, two[::-1]):
        scaler = Keda(Hpa(metrics), min_replica_count=2)
        assert decide(scaler, view({"load": [800.0], "queue": [10.0]}, 4), None).count == 8
        assert decide(scaler, view({"load": [300.0], "queue": [35.0]}, 4), None).count == 7


@pytest.mark.parametrize(("how", "count"), [("sum", 9), ("max", 6), ("min", 3)])
def test_a_metric_of_several_readings(how: str, count: int) -> None:
    """Of 30 and, weighed, 60, at 10 an instance: the sum, the largest or the least of them."""
    metric = Metric("queue", 10.0, others=(Operand("load", 60.0, 0.1),), how=how)  # type: ignore[arg-type]
    scaler = Keda(Hpa((metric,)), min_replica_count=1)
    assert scaler.signals == ("queue", "load")
    assert decide(scaler, view({"queue": [30.0], "load": [600.0]}, 5, window_s=360.0), None).count == count


def test_what_is_empty_in_a_query_is_all_of_it_and_in_a_formula_one_trigger() -> None:
    """As PromQL adds series, and as KEDA hands 0 for each trigger that ignores null values."""
    whole = Metric("queue", 10.0, others=(Operand("load", 60.0),))
    each = dataclasses.replace(whole, each=True)
    seen = view({"queue": [30.0], "load": [NAN]}, 3)
    assert (whole.value(seen), whole.value(seen, 0.0)) == (None, 0.0)
    assert (each.value(seen), each.value(seen, 0.0)) == (None, 30.0)


def test_keda_rests_at_zero_after_its_cooldown_and_wakes() -> None:
    """cooldownPeriod counts from the last active poll and only leads to zero; activity wakes at once."""
    counts = walk(Keda(TRIGGER), [300.0] + [0.0] * 6 + [250.0], 3)
    assert counts[-2:] == [0, 1]
    assert counts.index(0) == 5
    idle = Keda(TRIGGER, min_replica_count=3, idle_replica_count=0)
    assert walk(idle, [300.0] + [0.0] * 6 + [250.0], 3)[-2:] == [0, 3]
    assert decide(Keda(TRIGGER, activation_threshold=50.0), view([40.0], 0), None).count == 0


@pytest.mark.parametrize(
    ("counts", "kept"),
    [((4, 2), (4, 2)), ((9, 2), (9, 5)), ((2, 5), (9, 5)), ((20, 10), (20, 10)), ((20, 1), (20, 10))],
)
def test_kthena_ratio(counts: tuple[int, int], kept: tuple[int, int]) -> None:
    """Decode grows until the prefill count fits; a prefill count below the band grows to its lower end."""
    band = RatioConstraint(1.8, 2.2, (1, 20), (1, 10))
    found = within_ratio({"prefill": counts[0], "decode": counts[1]}, band)
    assert (found["prefill"], found["decode"]) == kept


@given(st.integers(1, 30), st.integers(1, 15), st.floats(0.3, 3.0), st.floats(1.0, 1.6), st.integers(5, 40))
def test_kthena_ratio_is_in_the_band_and_the_bounds(
    prefill: int, decode: int, low: float, width: float, most: int
) -> None:
    """Whenever any whole pair in the bounds lies in the band, the answer is one."""
    band = RatioConstraint(low, low * width, (1, most), (1, most))
    found = within_ratio({"prefill": prefill, "decode": decode}, band)
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
