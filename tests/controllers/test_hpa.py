"""Kubernetes' HPA: the worked examples of its documentation and of KEP-853, and its rules one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from controllers.batches import asks, batch_of, fleet, pods, walk
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.controllers.hpa import Hpa, Metric, RatePolicy, Rules

PODS = Hpa((Metric("load", 100.0, "Pods"),), sync_s=60.0)
TOTAL = Hpa((Metric("load", 100.0),), max_replicas=10_000, sync_s=60.0)
AT_ONCE = Rules(0.0, ())


@pytest.mark.parametrize(("value", "count"), [(200.0, 8), (50.0, 2), (110.0, 4), (90.0, 4), (111.0, 5)])
def test_ratio_and_tolerance(value: float, count: int) -> None:
    """200m of 100m doubles, 50m halves, and a ratio within 0.1 of 1 changes nothing."""
    assert pods([value] * 4, 0, 100.0, 4) == count


def test_each_direction_may_have_its_own_tolerance() -> None:
    """Up from 5 % on, down only beyond 30 %; a direction that says nothing takes the object's."""
    own = replace(
        TOTAL, up=replace(AT_ONCE, tolerance=0.05), down=replace(AT_ONCE, tolerance=0.3), tolerance=0.2
    )
    wants = {load: asks(own, [load], 10) for load in (1040.0, 1060.0, 720.0, 690.0)}
    assert wants == {1040.0: 10, 1060.0: 11, 720.0: 10, 690.0: 7}
    assert replace(own, down=AT_ONCE).tolerances == (0.2, 0.05)


def test_missing_pods_dampen() -> None:
    """Missing pods stand at the target when fewer are asked for, at zero when more are."""
    assert pods([20.0, 20.0, None, None], 0, 100.0, 4) == 3
    assert pods([300.0, 300.0, None, None], 0, 100.0, 4) == 6
    assert pods([150.0, 150.0, None, None], 0, 100.0, 4) == 4


def test_unready_pods_dampen_scaling_up_only() -> None:
    """Pods not yet ready count at zero when more are asked for; they are left out of a scale-down."""
    assert pods([300.0, 300.0], 2, 100.0, 4) == 6
    assert pods([150.0, 150.0], 2, 100.0, 4) == 4
    assert pods([50.0, 50.0], 2, 100.0, 4) == 1


def test_the_largest_of_several_metrics_wins_and_a_missing_one_forbids_shrinking() -> None:
    """Each metric gives a count; with one unreadable the others may only grow the pool."""
    both = replace(TOTAL, metrics=(Metric("load", 100.0), Metric("other", 10.0)), down=AT_ONCE)
    assert asks(both, {"load": [500.0], "other": [20.0]}, 4) == 5
    blind = {"load": [100.0], "other": [float("nan")]}
    assert asks(both, blind, 4) == 4
    assert asks(both, {**blind, "load": [600.0]}, 4) == 6
    assert asks(both, {"load": [float("nan")], "other": [float("nan")]}, 4) == 4


def test_documented_scale_down_from_80_to_10() -> None:
    """Percent 10 and Pods 4 a minute: 8 at first, again 8 at 72 (7.2 rounded up), 4 each from 40 on."""
    rules = Rules(0.0, (RatePolicy("Pods", 4, 60.0), RatePolicy("Percent", 10, 60.0)))
    counts = walk(replace(TOTAL, down=rules), [1000.0] * 15, 80)
    assert counts[:3] == [72, 64, 57]
    assert counts[counts.index(40) :] == [40, 36, 32, 28, 24, 20, 16, 12, 10, 10]


def test_min_selects_the_smallest_change_and_disabled_none() -> None:
    """10 % or 5 pods a minute, whichever is fewer; Disabled never shrinks."""
    rules = Rules(0.0, (RatePolicy("Percent", 10, 60.0), RatePolicy("Pods", 5, 60.0)), "Min")
    assert walk(replace(TOTAL, down=rules), [100.0] * 2, 80) == [75, 70]
    assert walk(replace(TOTAL, down=Rules(0.0, (), "Disabled")), [100.0] * 30, 80)[-1] == 80


def test_default_behaviour() -> None:
    """Up: double or 4 pods in 15 s, the larger. Down: all, once nothing higher was wanted for 5 min."""
    fast = replace(TOTAL, sync_s=15.0)
    assert walk(fast, [10_000.0] * 4, 1, window_s=15.0) == [5, 10, 20, 40]
    assert walk(fast, [10_000.0], 1) == [40]
    assert walk(TOTAL, [800.0] + [100.0] * 6, 8) == [8, 8, 8, 8, 8, 1, 1]


def test_the_count_that_was_found_holds_for_a_window() -> None:
    """10 found, 3 needed: 10 until 300 s have passed since the first sync, then 3; nothing waits to grow."""
    fast = replace(TOTAL, sync_s=15.0)
    assert walk(fast, [300.0] * 22, 10, window_s=15.0) == [10] * 20 + [3, 3]
    assert walk(fast, [300.0] * 7, 10) == [10] * 5 + [3, 3]
    assert walk(replace(fast, down=AT_ONCE), [300.0], 10) == [3]
    assert walk(fast, [1200.0], 10) == [12]
    assert walk(replace(fast, up=Rules(120.0, ())), [1200.0] * 3, 10) == [10, 10, 12]


def test_the_count_that_was_found_counts_from_the_first_sync_without_a_metric_too() -> None:
    """The controller finds its pool before it reads a metric: a gap at the start is part of the window."""
    assert walk(TOTAL, [float("nan")] * 3 + [300.0] * 4, 10) == [10] * 5 + [3, 3]
    assert walk(TOTAL, [float("nan")] * 5 + [300.0], 10) == [10] * 5 + [3]


def test_the_count_that_was_found_holds_within_bounds_only() -> None:
    """Above the maximum the cap holds at once."""
    assert walk(replace(TOTAL, max_replicas=6), [300.0] * 6, 10) == [6] * 5 + [3]


def test_kep_853_stories() -> None:
    """900 % a minute: 1, 10, 100, 1000. One pod in 5 min: 2, 3, 4. One pod in 10 min off 1000."""
    up = replace(TOTAL, up=Rules(0.0, (RatePolicy("Percent", 900, 60.0),)))
    assert walk(up, [1e6] * 3, 1) == [10, 100, 1000]
    slow = replace(TOTAL, up=Rules(0.0, (RatePolicy("Pods", 1, 300.0),)))
    assert walk(slow, [1e6] * 12, 1)[::5] == [2, 3, 4]
    down = replace(TOTAL, down=Rules(0.0, (RatePolicy("Pods", 1, 600.0),)))
    assert walk(down, [100.0] * 12, 1000) == [999] * 10 + [998] * 2


def test_kep_853_stabilisation_example() -> None:
    """Ten recommendations in the window keep 10; the eleventh lets 9 through."""
    wanted = [10, 9, 8, 9, 9, 8, 9, 8, 9, 8, 7]
    rules = Rules(600.0, (RatePolicy("Pods", 5, 60.0),))
    free = replace(TOTAL, tolerance=0.0, down=rules)
    assert walk(free, [100.0 * n for n in wanted], 10) == [10] * 10 + [9]


def test_scale_up_window_takes_the_lowest() -> None:
    """A spike shorter than the window adds nothing."""
    rules = Rules(180.0, (RatePolicy("Pods", 20, 60.0),))
    calm = replace(TOTAL, up=rules)
    assert walk(calm, [200.0, 200.0, 900.0, 900.0, 900.0], 2) == [2, 2, 2, 2, 9]


def test_value_target_uses_ready_pods() -> None:
    """Value: ready pods × value ÷ target."""
    whole = replace(TOTAL, metrics=(Metric("load", 100.0, "Value"),))
    assert asks(whole, [150.0], 6, ready=4.0) == 6
    assert asks(whole, [300.0], 6, ready=4.0) == 12


def test_bounds_hold_even_without_a_metric() -> None:
    """Below the minimum or above the maximum is put right."""
    bounded = replace(TOTAL, min_replicas=3, max_replicas=5)
    assert asks(bounded, [float("nan")], 1) == 3
    assert asks(bounded, [float("nan")], 9) == 5
    assert asks(bounded, [9000.0], 4) == 5


@given(
    st.lists(st.floats(0.0, 5_000.0), min_size=1, max_size=30),
    st.integers(1, 40),
    st.sampled_from([15.0, 60.0, 300.0]),
)
def test_counts_stay_in_bounds(values: list[float], start: int, window_s: float) -> None:
    """Whatever is read: within the bounds."""
    parameters = replace(TOTAL, min_replicas=2, max_replicas=30, sync_s=15.0)
    assert all(2 <= count <= 30 for count in walk(parameters, values, start, window_s=window_s))


def test_a_count_outside_the_bounds_goes_to_the_bound_and_the_metric_has_its_say_a_sync_later() -> None:
    """Two found, ten wanted, three at least: 3, then 10. Ten found, three wanted, six at most: 6, then 3."""
    free = replace(TOTAL, sync_s=15.0, min_replicas=3, max_replicas=20, up=AT_ONCE, down=AT_ONCE)
    assert walk(free, [1000.0] * 2, 2, window_s=15.0) == [3, 10]
    assert walk(replace(free, max_replicas=6), [300.0] * 2, 10, window_s=15.0) == [6, 3]
    assert walk(free, [1000.0], 2) == [10]


def test_a_pool_of_zero_is_left_alone_unless_zero_is_allowed() -> None:
    """Scaling is disabled at zero while the minimum is one; with a minimum of zero load wakes the pool."""
    assert walk(TOTAL, [500.0] * 3, 0) == [0, 0, 0]
    assert walk(replace(TOTAL, min_replicas=0), [0.0, 500.0], 0) == [0, 4]
    assert walk(replace(TOTAL, min_replicas=0, metrics=(Metric("load", 1.0, "Pods"),)), [500.0], 0) == [0]


def test_percentages_are_rounded_in_favour_of_the_change() -> None:
    """25 % of 3 is one pod in either direction; 110 % of 100 is 111 in the source's floating point."""
    quarter = Rules(0.0, (RatePolicy("Percent", 25, 60.0),))
    free = replace(TOTAL, up=quarter, down=quarter)
    assert walk(free, [1e6], 3) == [4]
    assert walk(free, [0.0], 3) == [2]
    tenth = replace(TOTAL, up=Rules(0.0, (RatePolicy("Percent", 10, 60.0),)))
    assert walk(tenth, [1e6], 100) == [111]


def test_rows_that_were_left_out_are_rows_without_a_sync() -> None:
    """The count found holds for 300 s, however few of its rows were run."""
    batch = batch_of([TOTAL])
    seen = [fleet({"load": [300.0] * 9}, [10], rows=rows) for rows in (1, 3, 5, 6)]
    assert [int(batch.step(one).count[0]) for one in seen] == [10, 10, 10, 3]
    with pytest.raises(ValueError, match="rows of 60 s"):
        batch.step(fleet({"load": [300.0] * 9}, [10], window_s=15.0))


def test_a_batch_has_one_structure() -> None:
    """Numbers and kinds of target differ between lanes; readings and policies do not."""
    other = replace(TOTAL, metrics=(Metric("load", 70.0),), tolerance=0.2, max_replicas=3)
    seen = fleet({"load": [500.0]}, [4, 4])
    assert batch_of([TOTAL, other]).step(seen).count.tolist() == [5, 3]
    each = [int(batch_of([one]).step(fleet({"load": [150.0]}, [4])).count[0]) for one in (TOTAL, PODS)]
    assert batch_of([TOTAL, PODS]).step(fleet({"load": [150.0]}, [4, 4])).count.tolist() == each == [4, 6]
    for changed in (
        replace(TOTAL, metrics=(Metric("other", 100.0),)),
        replace(TOTAL, up=Rules(0.0, (RatePolicy("Pods", 1, 60.0),))),
    ):
        with pytest.raises(ValueError, match="one structure"):
            batch_of([TOTAL, changed])


def test_each_direction_looks_back_over_its_own_window() -> None:
    """A long scale-up window does not lengthen the one for scaling down."""
    rules = Rules(600.0, (RatePolicy("Pods", 20, 60.0),))
    both = replace(TOTAL, up=rules, down=Rules(120.0, (RatePolicy("Pods", 20, 60.0),)))
    assert walk(both, [800.0, 400.0, 400.0, 400.0], 8) == [8, 8, 4, 4]
