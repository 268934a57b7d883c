"""Instances that leave: paid for until their requests end or their grace period does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import SETTINGS, derived, service

from hs_analysis.replay.fleet import PoolLanes, drain_s, fit_fleet

ROWS = 20


def frame(**columns: np.ndarray) -> object:
    """Return a service of two pools that stands still: two requests a second on four decode instances."""
    loads = {"prefill": np.full(ROWS, 9000.0), "decode": np.full(ROWS, 1000.0)}
    return service(loads, {"prefill": 5, "decode": 4}, request_rate__service=np.full(ROWS, 2.0), **columns)


def pool(seconds: float, lanes: int = 1) -> PoolLanes:
    """Return a pool of five whose instances take so long to leave, in windows of a minute."""
    model = replace(fit_fleet(frame(), derived(), SETTINGS).pools["decode"], drain_s=seconds)
    return PoolLanes(model, np.full(lanes, 5.0), 60.0, 4)


@pytest.mark.parametrize(("seconds", "extra"), [(0.0, [0, 0, 0]), (30.0, [1, 0, 0]), (90.0, [2, 1, 0])])
def test_what_leaves_is_paid_for_as_long_as_it_takes(seconds: float, extra: list[float]) -> None:
    """Two go: so many of them are paid for in the rows after, beside the three that stay."""
    one, found = pool(seconds), []
    one.ask(np.array([3.0]))
    for _ in extra:
        found.append(float(one.paid(np.zeros(1))[0]) - 3.0)
        one.begin_row()
    assert found == extra


def test_restored_and_never_started_instances_are_not_paid_twice() -> None:
    """What comes back leaves no more; what waited or was starting ends at once; observation counts once."""
    one = pool(120.0, lanes=3)
    one.ask(np.array([3.0, 8.0, 3.0]))
    one.ask(np.array([5.0, 5.0, 3.0]), np.array([2.0, 0.0, 0.0]))
    assert one.paid(np.array([0.0, 0.0, 2.0])).tolist() == [5.0, 5.0, 5.0]


def test_an_instance_leaves_when_the_last_of_its_requests_ends() -> None:
    """Mean × (1 + 1/2 + 1/3 + 1/4) for the four that run on it, no longer than the grace period."""
    known = frame(e2e_latency__service=np.full(ROWS, 8.0), ttft__service=np.full(ROWS, 0.5))
    patient = replace(SETTINGS, grace_s={"decode": 600.0})
    assert drain_s(known, "decode", patient) == pytest.approx(8.0 * (1 + 1 / 2 + 1 / 3 + 1 / 4))
    assert drain_s(known, "prefill", SETTINGS) == pytest.approx(0.5)
    assert drain_s(known, "decode", replace(SETTINGS, grace_s={"decode": 10.0})) == 10.0
    assert drain_s(frame(), "decode", SETTINGS) == 30.0  # not recorded: Kubernetes' own grace period
    assert fit_fleet(known, derived(), patient).pools["decode"].drain_s == drain_s(known, "decode", patient)
