"""The plain HPA and KEDA against cases worked by hand from Kubernetes' and KEDA's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from simulator.autoscalers import DOWN, UP, Fallback, Hpa, Policy, Reading, Rules, Scaled, Target, steering_of
from simulator.steering import Order, Sight

AT_ONCE = Rules(0, (Policy("Percent", 100, 15),))


def _hpa(**changed: object) -> Hpa:
    return replace(Hpa((Target(100.0),), 1, 1000), **changed)


def _walk(hpa: Hpa, totals: Sequence[Reading], pods: int, every_s: float = 15.0) -> list[int]:
    found = []
    for turn, total in enumerate(totals):
        pods = hpa.sync(turn * every_s, pods, [total])
        found.append(pods)
    return found


@pytest.mark.parametrize(
    ("total", "pods", "wanted"),
    [
        (1000.0, 5, 10),  # twice 5 within 15 s is the larger limit
        (440.0, 4, 4),  # 1.1 is within the tolerance
        (441.0, 4, 5),
        (360.0, 4, 4),  # 0.9 too
        (359.0, 4, 4),  # 4 are wanted: 3.59 rounded up
        (0.0, 4, 1),
        (101.0, 1, 1),
        (111.0, 1, 2),
    ],
)
def test_a_total_divided_by_its_target_is_rounded_up_outside_the_tolerance(
    total: float, pods: int, wanted: int
) -> None:
    """The first column is the sum of a metric whose target is 100 a pod."""
    assert _hpa(down=AT_ONCE).sync(0.0, pods, [total]) == wanted


def test_growth_is_four_pods_or_double_within_fifteen_seconds() -> None:
    """From 1: 5, 10, 20, 40; never two steps within one period."""
    assert _walk(_hpa(), [1e5] * 4, 1) == [5, 10, 20, 40]
    assert _walk(_hpa(), [1e5] * 4, 1, every_s=5.0) == [5, 5, 5, 10]


def test_shrinking_waits_until_nothing_higher_was_wanted_for_five_minutes() -> None:
    """What was there when the controller began counts as wanted then: 20 turns of 15 s."""
    assert _walk(_hpa(), [300.0] * 21, 10) == [10] * 20 + [3]
    assert _walk(_hpa(), [300.0] * 10 + [700.0] + [300.0] * 20, 10) == [10] * 20 + [7] * 10 + [3]


def test_what_grew_again_is_kept_for_the_whole_window() -> None:
    """A peak of one turn holds its count for five minutes after it."""
    found = _walk(_hpa(), [500.0, 800.0] + [500.0] * 20, 5)
    assert found == [5] + [8] * 20 + [5]


def test_a_window_of_growth_takes_the_lowest_proposal() -> None:
    """A spike shorter than 60 s adds nothing; what stays comes when the last lower one is 60 s old."""
    up = replace(UP, window_s=60)
    assert _walk(_hpa(up=up), [500.0, 900.0, 500.0], 5) == [5, 5, 5]
    assert _walk(_hpa(up=up), [500.0] + [900.0] * 4, 5) == [5, 5, 5, 5, 9]


def test_a_percentage_up_is_rounded_up_and_one_down_is_cut_off() -> None:
    """25 % of 5 are 6.25: 7 are allowed. Half of 5 less leaves 2.5: 2 are allowed."""
    up = Rules(0, (Policy("Percent", 25, 60),))
    down = Rules(0, (Policy("Percent", 50, 60),))
    assert _walk(_hpa(up=up), [2000.0], 5) == [7]
    assert _walk(_hpa(down=down), [100.0] * 5, 5) == [2, 2, 2, 2, 1]


def test_what_was_added_in_the_period_counts_and_what_was_removed_may_come_back() -> None:
    """One pod in 60 s: at 0 and 60 s. What 5 pods were before two went away may come back, and one more."""
    up = Rules(0, (Policy("Pods", 1, 60),))
    assert _walk(_hpa(up=up), [2000.0] * 5, 5) == [6, 6, 6, 6, 7]
    assert _walk(_hpa(up=up, down=AT_ONCE), [300.0, 2000.0], 5) == [3, 6]


def test_select_policy_takes_the_smallest_or_no_change() -> None:
    """Of 4 pods and 10 % of 10 the smaller is one; Disabled never shrinks."""
    two = (Policy("Pods", 4, 15), Policy("Percent", 10, 15))
    assert _walk(_hpa(up=Rules(0, two, "Min")), [5000.0], 10) == [11]
    assert _walk(_hpa(up=Rules(0, two)), [5000.0], 10) == [14]
    assert _walk(_hpa(down=Rules(0, two, "Disabled")), [100.0] * 30, 10) == [10] * 30


def test_each_direction_has_its_own_tolerance() -> None:
    """5 % up and 30 % down of 10 pods."""
    for total, wanted in ((1040.0, 10), (1060.0, 11), (710.0, 10), (690.0, 7)):
        hpa = _hpa(up=replace(UP, tolerance=0.05), down=replace(AT_ONCE, tolerance=0.3))
        assert hpa.sync(0.0, 10, [total]) == wanted


def test_a_tolerated_ratio_is_a_proposal_to_stay() -> None:
    """Within the tolerance the count that is there is proposed, and holds shrinking off for its window."""
    assert _walk(_hpa(), [500.0, 475.0] + [300.0] * 20, 5)[-2:] == [5, 3]


def test_bounds_come_first_and_without_a_metric_too() -> None:
    """Above the most and below the least is put right at once, by no metric and no policy."""
    hpa = _hpa(least=3, most=6)
    assert hpa.sync(0.0, 1, [None]) == 3
    assert hpa.sync(15.0, 9, [None]) == 6
    assert hpa.sync(30.0, 6, [9000.0]) == 6
    assert hpa.sync(45.0, 0, [9000.0]) == 0


def test_the_largest_of_several_metrics_counts_and_a_missing_one_forbids_shrinking() -> None:
    """Of 4 pods: 5 by the one, 2 by the other; with one unreadable only growth is possible."""
    hpa = _hpa(targets=(Target(100.0), Target(10.0)), down=AT_ONCE)
    assert hpa.sync(0.0, 4, [500.0, 20.0]) == 5
    assert hpa.sync(15.0, 4, [200.0, None]) == 4
    assert hpa.sync(30.0, 4, [None, 60.0]) == 6
    assert hpa.sync(45.0, 4, [None, None]) == 4


def test_a_value_target_multiplies_ready_pods() -> None:
    """A queue of 30 where 10 is right triples the 4 that are ready of 6."""
    hpa = _hpa(targets=(Target(10.0, "Value"),))
    assert hpa.sync(0.0, 6, [30.0], ready=4) == 12


def test_nothing_is_remembered_of_a_turn_without_a_metric() -> None:
    """A gap of ten minutes leaves no proposal that would hold the next one up."""
    assert _walk(_hpa(), [500.0] + [None] * 40 + [300.0], 5) == [5] * 41 + [3]


@pytest.mark.parametrize(
    ("behavior", "told"),
    [("static", 9), ("currentReplicas", 4), ("currentReplicasIfHigher", 9), ("currentReplicasIfLower", 4)],
)
def test_keda_falls_back_after_more_failures_than_its_threshold(behavior: str, told: int) -> None:
    """Three failures are errors, the fourth is answered by a count times the target; a success forgets."""
    kept = Fallback(3, 9, behavior)
    target = Target(50.0)
    assert [kept.answer(None, target, 4) for _ in range(4)] == [None, None, None, 50.0 * told]
    assert kept.answer(7.0, target, 4) == 7.0
    assert kept.answer(None, target, 4) is None


def test_an_empty_answer_is_zero_where_keda_ignores_nulls() -> None:
    """The default of KEDA takes the pool to its minimum; told not to, the HPA holds it."""
    for zero, wanted in ((True, 1), (False, 5)):
        hpa = _hpa(down=AT_ONCE)
        scaled = Scaled(hpa, (lambda at_s: None,), (None,), (zero,))
        orders = steering_of({"decode": scaled})(Sight(0.0, {"decode": 5}, {"decode": 5}))
        assert orders == {"decode": Order(wanted)}


def test_defaults_are_those_of_kubernetes() -> None:
    """autoscaling/v2: up 4 pods or 100 % in 15 s at once; down 100 % in 15 s after 300 s."""
    assert (UP.window_s, DOWN.window_s, UP.tolerance) == (0, 300, 0.1)
    assert {(p.kind, p.value, p.period_s) for p in UP.policies} == {("Pods", 4, 15), ("Percent", 100, 15)}
