"""KEDA's ScaledObject: its documentation's rules one by one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from controllers.batches import asks, batch_of, fleet, walk

from hs_analysis.controllers.hpa import Hpa, Metric, MetricLanes, Operand
from hs_analysis.controllers.keda import Fallback, Keda

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
    """Polls and the HPA's requests both count: six a minute, so a threshold of three is passed in a row."""
    fallen = Keda(TRIGGER, 2, ignore_null_values=False, fallback=Fallback(3, 6))
    assert walk(fallen, [400.0, NAN, NAN, NAN], 4) == [4, 6, 6, 6]
    borne = dataclasses.replace(fallen, fallback=Fallback(9, 6))
    assert walk(borne, [400.0, NAN, NAN, NAN], 4) == [4, 4, 6, 6]
    assert walk(borne, [400.0, NAN, 400.0, NAN, NAN], 4) == [4, 4, 4, 4, 6]
    slow = dataclasses.replace(borne, polling_interval_s=60.0)
    assert walk(slow, [400.0, NAN, NAN, NAN], 4) == [4, 4, 6, 6]
    higher = dataclasses.replace(fallen, fallback=Fallback(3, 2, "currentReplicasIfHigher"))
    assert walk(higher, [400.0, NAN, NAN, NAN], 4) == [4, 4, 4, 4]


def test_the_largest_of_several_triggers_wins() -> None:
    """Two metrics of one object: the count is the larger one's, in either order."""
    two = (Metric("load", 100.0), Metric("queue", 5.0))
    for metrics in (two, two[::-1]):
        scaler = Keda(Hpa(metrics), min_replica_count=2)
        assert asks(scaler, {"load": [800.0], "queue": [10.0]}, 4) == 8
        assert asks(scaler, {"load": [300.0], "queue": [35.0]}, 4) == 7


@pytest.mark.parametrize(("how", "count"), [("sum", 9), ("max", 6), ("min", 3)])
def test_a_metric_of_several_readings(how: str, count: int) -> None:
    """Of 30 and, weighed, 60, at 10 an instance: the sum, the largest or the least of them."""
    metric = Metric("queue", 10.0, others=(Operand("load", 60.0, 0.1),), how=how)  # type: ignore[arg-type]
    scaler = Keda(Hpa((metric,)), min_replica_count=1)
    assert scaler.signals == ("queue", "load")
    assert asks(scaler, {"queue": [30.0], "load": [600.0]}, 5, window_s=360.0) == count


def test_what_is_empty_in_a_query_is_all_of_it_and_in_a_formula_one_trigger() -> None:
    """As PromQL adds series, and as KEDA hands 0 for each trigger that ignores null values."""
    whole = Metric("queue", 10.0, others=(Operand("load", 60.0),))
    each = dataclasses.replace(whole, each=True)
    scraped = fleet({"queue": [30.0], "load": [NAN]}, [3]).scraped
    zero = np.zeros(1)
    for metric, alone in ((whole, 0.0), (each, 30.0)):
        lanes = MetricLanes.of([metric])
        assert np.isnan(lanes.read(scraped, "decode")).all()
        assert lanes.read(scraped, "decode", zero).tolist() == [alone]


def test_keda_rests_at_zero_after_its_cooldown_and_wakes() -> None:
    """cooldownPeriod counts from the last active poll and only leads to zero; activity wakes at once."""
    counts = walk(Keda(TRIGGER), [300.0] + [0.0] * 6 + [250.0], 3)
    assert counts[-2:] == [0, 1]
    assert counts.index(0) == 5
    idle = Keda(TRIGGER, min_replica_count=3, idle_replica_count=0)
    assert walk(idle, [300.0] + [0.0] * 6 + [250.0], 3)[-2:] == [0, 3]
    assert asks(Keda(TRIGGER, activation_threshold=50.0), [40.0], 0) == 0


def test_keda_in_error_neither_wakes_a_pool_nor_renews_its_cooldown() -> None:
    """A failed query is no activity: zero stays zero, and the 300 s run on while it lasts."""
    blind = Keda(TRIGGER, ignore_null_values=False)
    assert walk(blind, [NAN] * 3, 0) == [0, 0, 0]
    assert walk(blind, [300.0] + [NAN] * 7, 3)[-1] == 3
    assert walk(blind, [300.0] + [NAN] * 5 + [0.0], 3)[-1] == 0


def test_keda_that_falls_back_is_active() -> None:
    """Past the threshold the pool wakes from zero and is sized by the fallback, for Value targets too."""
    rescued = Keda(TRIGGER, ignore_null_values=False, fallback=Fallback(3, 6))
    assert walk(rescued, [NAN] * 4, 0) == [0, 1, 6, 6]
    value = Keda(Hpa((Metric("load", 100.0, "Value"),)), 1, ignore_null_values=False, fallback=Fallback(3, 6))
    assert walk(value, [100.0, NAN], 4) == [4, 6]


def test_keda_counts_failures_of_each_trigger_alone() -> None:
    """One trigger that fails falls back; the other goes on to be read."""
    two = Hpa((Metric("load", 100.0), Metric("queue", 5.0)))
    scaler = Keda(two, 1, ignore_null_values=False, fallback=Fallback(3, 6))
    assert asks(scaler, {"load": [NAN], "queue": [10.0]}, 4) == 6
    assert asks(scaler, {"load": [NAN], "queue": [40.0]}, 4) == 8


def test_keda_raises_a_pool_below_its_minimum_without_activity() -> None:
    """Without an idle count the minimum holds from zero, too."""
    assert walk(Keda(TRIGGER, min_replica_count=3), [0.0], 0) == [3]
    assert walk(Keda(TRIGGER, min_replica_count=3, idle_replica_count=0), [0.0], 0) == [0]


def test_keda_activity_beside_an_error_does_not_renew_the_cooldown() -> None:
    """Load for a minute, then load beside a failed trigger for five: the first quiet minute rests at zero."""
    two = Hpa((Metric("load", 100.0), Metric("queue", 5.0)))
    readings = {"load": [300.0] * 7 + [0.0], "queue": [0.0] + [NAN] * 6 + [0.0]}
    for blind, count in ((readings, 0), ({**readings, "queue": [0.0] * 8}, 3)):
        batch = batch_of([Keda(two, ignore_null_values=False)])
        asked = [int(batch.step(fleet(blind, [3], rows=rows)).count[0]) for rows in range(1, 9)]
        assert asked == [3] * 7 + [count]


def test_keda_failures_go_on_in_taken_lanes() -> None:
    """Six failures before a copy and six after it pass a threshold of nine in both."""
    batch = batch_of([Keda(TRIGGER, 2, ignore_null_values=False, fallback=Fallback(9, 6))])
    batch.step(fleet({"load": [NAN] * 2}, [4], rows=1))
    twin = batch.take(np.array([0, 0]))
    assert batch.step(fleet({"load": [NAN] * 2}, [4])).count.tolist() == [6]
    assert twin.step(fleet({"load": [NAN] * 2}, [4, 4])).count.tolist() == [6, 6]
