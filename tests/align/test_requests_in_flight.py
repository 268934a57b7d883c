"""Backlog age by Little's law and the saturated windows it marks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.align.requests_in_flight import (
    AGE_PER_WAIT,
    Flows,
    age_s,
    backlog_ages,
    longest_age_s,
    saturated,
    unqueued_excess,
)

NAN = np.nan


def flows(rows: int = 8, **known: object) -> Flows:
    """Return flows in which all that is not given is missing."""
    names = (
        "started", "first_tokens", "completed", "waiting_prefill", "waiting_decode", "running_prefill",
        "running_decode", "in_flight", "wait_s",
    )  # fmt: skip
    given = {name: np.broadcast_to(np.asarray(value, float), (rows,)) for name, value in known.items()}
    return Flows(**{name: given.get(name, np.full(rows, NAN)) for name in names})


def marks(ages: list[float], kind: str = "production", window_s: float = 60.0) -> list[float]:
    """Return the saturated flags of a list of ages."""
    return saturated(np.array(ages), window_s, kind).tolist()


def test_age_is_waiting_over_leaving() -> None:
    """Twenty wait, four leave a second: the last in line will have waited five seconds."""
    assert age_s(np.array([20.0, 0.0]), np.array([4.0, 4.0])).tolist() == [5.0, 0.0]


def test_a_trickle_does_not_make_an_endless_queue() -> None:
    """An outflow under 5 % of its usual counts as that; idle windows do not set what is usual."""
    outflow = np.array([10.0, 10.0, 0.1, 0.0, 0.0, 0.0, 0.0])
    ages = age_s(np.full(7, 1.0), outflow)
    np.testing.assert_allclose(ages, [0.1, 0.1, 2.0, 2.0, 2.0, 2.0, 2.0])


def test_where_nothing_ever_leaves_a_queue_is_endless_and_no_queue_is_none() -> None:
    """An idle service has no backlog; a dead one has."""
    assert age_s(np.array([0.0, 3.0, NAN]), np.zeros(3)).tolist()[:2] == [0.0, np.inf]
    assert np.isnan(age_s(np.array([0.0, 3.0, NAN]), np.zeros(3))[2])


def test_missing_parts_are_unknown_and_not_zero() -> None:
    """A window without the running requests has no excess: taking them for zero would invent a queue."""
    running = np.array([5.0, 5.0, NAN, 5.0])
    excess = unqueued_excess(flows(4, in_flight=6.0, running_decode=running))
    np.testing.assert_array_equal(excess, [0.0, 0.0, NAN, 0.0])
    ages = backlog_ages(flows(4, in_flight=6.0, running_decode=running, completed=1.0))
    assert np.isnan(ages["decode"][2])


def test_a_part_nobody_exports_is_left_out() -> None:
    """Requests in flight, less what is known; the quiet level is service, not backlog."""
    level = np.array([10.0, 10.0, 10.0, 10.0, 60.0, 110.0, 10.0, 10.0])
    assert unqueued_excess(flows(in_flight=level)).tolist() == (level - 10).tolist()
    assert np.isnan(unqueued_excess(flows(waiting_prefill=1.0))).all()


def test_a_role_whose_queue_is_exported_uses_it() -> None:
    """The excess counts for the role whose queue nobody exports, for both when neither is."""
    level = np.array([10.0] * 6 + [110.0] * 2)
    ages = backlog_ages(flows(in_flight=level, waiting_prefill=4.0, completed=2.0, first_tokens=4.0))
    np.testing.assert_allclose(ages["prefill"], 1.0)
    np.testing.assert_allclose(ages["decode"], [0.0] * 6 + [50.0] * 2)
    neither = backlog_ages(flows(in_flight=level, completed=2.0))
    np.testing.assert_allclose(neither["prefill"], neither["decode"])


def test_a_queue_that_does_not_show_in_the_first_token_is_a_leak() -> None:
    """The age is at most twice the time to first token where that holds the whole wait."""
    level = np.concatenate([np.zeros(4), np.full(4, 1000.0)])
    wait = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 30.0, NAN, NAN])
    started = np.array([2.0] * 7 + [0.0])
    ages = backlog_ages(flows(in_flight=level, completed=2.0, wait_s=wait, started=started))["decode"]
    assert ages.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 60.0, 500.0, 60.0]
    assert longest_age_s(flows(wait_s=wait, started=started)).tolist()[6] == np.inf
    assert np.isinf(longest_age_s(flows(in_flight=level))).all()


def test_an_exported_queue_is_believed() -> None:
    """The bound is for what is worked out from counters, never for a gauge of the queue."""
    ages = backlog_ages(flows(waiting_prefill=100.0, first_tokens=2.0, wait_s=0.5, started=2.0))
    np.testing.assert_allclose(ages["prefill"], 50.0)


@given(st.floats(1.0, 4.0), st.floats(5.0, 50.0))
def test_a_growing_queue_is_not_cut_while_arrivals_are_at_most_twice_what_is_served(
    excess_ratio: float, served: float
) -> None:
    """In a fluid queue the wait of those now served times two is at least the age."""
    ratio = min(excess_ratio, AGE_PER_WAIT)
    minutes = np.arange(1, 40)
    age = (ratio - 1) * 60 * minutes
    wait = age / ratio  # those served now came when the queue was 1/ratio of the way
    level = np.concatenate([np.zeros(40), served * age])
    found = backlog_ages(
        flows(level.size, in_flight=level, completed=served, started=served * ratio,
              wait_s=np.concatenate([np.full(40, 0.5), wait + 0.5]))
    )["decode"]  # fmt: skip
    np.testing.assert_allclose(found[40:], age, rtol=1e-9, atol=1e-9)


def test_production_marks_are_dilated_joined_and_kept_from_two_minutes() -> None:
    """One row more on both sides; gaps up to 120 s are bridged, longer ones not."""
    hot, cold = 11.0, 9.0
    assert marks([cold, cold, hot, cold, cold, cold]) == [0, 1, 1, 1, 0, 0]
    assert marks([hot, *[cold] * 4, hot, cold]) == [1] * 7
    assert marks([hot, *[cold] * 5, hot]) == [1, 1, 0, 0, 0, 1, 1]
    assert marks([10.0] * 3) == [0, 0, 0]


def test_a_row_of_unknown_age_inside_a_stretch_belongs_to_it() -> None:
    """Elsewhere it counts as not saturated; where nothing is known nothing is said."""
    assert marks([11.0, 11.0, NAN, 11.0, 1.0, 1.0, NAN, 1.0]) == [1, 1, 1, 1, 0, 0, 0, 0]
    assert np.isnan(marks([NAN, NAN])).all()


def test_a_row_beside_an_episode_is_saturated_only_with_a_backlog_of_its_own() -> None:
    """A row in which a queue builds up or drains belongs to the episode, one without a queue does not."""
    assert marks([0.1, 30.0, 40.0, 4.0, 0.1]) == [0, 1, 1, 1, 0]
    assert marks([0.1, 0.2, 11.0, 0.2, 0.1]) == [0, 0, 1, 0, 0]
    assert marks([11.0, 0.1, 0.1, 11.0, 0.1]) == [1, 1, 1, 1, 0]


def test_a_pressure_test_keeps_every_window_over_three_seconds() -> None:
    """Levels are short and set on purpose: nothing is joined."""
    assert marks([4.0, 1.0, 4.0, 3.0], kind="pressure_test", window_s=20.0) == [1, 0, 1, 0]


@pytest.mark.parametrize("window_s", [60.0, 90.0, 240.0])
def test_wider_windows_join_over_the_same_time(window_s: float) -> None:
    """120 s are two rows of a minute and none of four minutes."""
    gap = int(120 // window_s)
    ages = [11.0, *[1.0] * (gap + 2), 11.0]
    assert marks(ages, window_s=window_s) == [1.0] * len(ages)
    longer = [11.0, *[1.0] * (gap + 3), 11.0]
    assert 0.0 in marks(longer, window_s=window_s)
