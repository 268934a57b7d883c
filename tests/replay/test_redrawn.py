"""How far hours hang on what is read when: other readings of the same minutes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import SETTINGS, day, derived, plain_policy, primary, service

from hs_analysis.policy.model import Bounds, Hysteresis, Policy
from hs_analysis.replay.demand import Demand, demands
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.redrawn import hours_range, redrawn
from hs_analysis.replay.schedules import recorded
from hs_analysis.replay.score import score
from hs_analysis.replay.signals import kept_ratio, told
from hs_analysis.replay.simulate import simulate

ROWS = 240
UTIL = ("gpu_util", "decode")
NEAR = 10


def made(noise: float, load: np.ndarray | None = None, **more: np.ndarray) -> tuple[Demand, FleetModel]:
    """Return a pool of four whose utilisation reads beside half its load by a noise, and its fleet."""
    work = np.full(ROWS, 3_000.0) if load is None else load
    other = np.exp(noise * np.random.default_rng(1).standard_normal(ROWS))
    frame = service({"decode": work}, {"decode": 4}, gpu_util__decode=work / 6e3 * other, **more)
    return demands(frame)[0], fit_fleet(frame, derived(), SETTINGS)


def follows(target: float) -> Policy:
    """Return a policy that keeps utilisation at a target, and gives nothing back."""
    return plain_policy(
        primaries=(primary(*UTIL, target, "mean"),), pd_ratio=None, bounds={"decode": Bounds(1, 50)},
        hysteresis={"decode": Hysteresis(1.1, 0.01)},
    )  # fmt: skip


def range_of(policy: Policy, part: Demand, model: FleetModel, seed: int = 0) -> tuple[float, float, float]:
    """Return the hours of the replay itself, and the range."""
    hours = score("x", [simulate(policy, part, model)], model).row.instance_hours
    assert hours is not None
    found = hours_range(policy, [part], model, hours, seed)
    assert found is not None
    return hours, *found


def test_each_row_reads_what_one_near_it_read() -> None:
    """Beside what the model says of its own load; rows in which something waited keep their own."""
    age_s = np.where(np.arange(ROWS) == 100, 3.0, 0.0)
    part, model = made(0.1, day(ROWS, 3_000.0), backlog_age_s__decode=age_s)
    other = redrawn(part, [UTIL], model, np.random.default_rng(0))
    before, after = (one.column(*UTIL) / told(model.signals[UTIL], part) for one in (part, other))
    assert np.array_equal(after[100:102], before[100:102])
    kept = kept_ratio(model.signals[UTIL], UTIL, part)
    for row in np.delete(np.arange(ROWS), (100, 101)):
        near = kept[max(0, row - NEAR) : row + NEAR + 1]
        assert np.isclose(after[row], [*near[np.isfinite(near)], before[row]]).any()
    assert np.mean(np.isclose(after, before)) < 0.2
    assert np.array_equal(other.offered["decode"], part.offered["decode"])


def test_a_signal_of_no_pool_keeps_its_readings() -> None:
    """A request rate of the service is as recorded, whatever the counts: a policy on it has a range, too."""
    load = day(ROWS, 3_000.0)
    part, model = made(0.1, load, request_rate__service=load / 150.0)
    rate = ("request_rate", "service")
    assert model.signals[rate].pool not in part.offered
    assert np.isnan(told(model.signals[rate], part)).all()
    other = redrawn(part, [("request_rate", "decode")], model, np.random.default_rng(0))
    assert np.array_equal(other.column(*rate), part.column(*rate))


def test_a_look_beside_a_threshold_makes_hours_uncertain() -> None:
    """The range holds the replay and the fifth that a rare reading asks for; far from it hours are sure."""
    part, model = made(0.1)
    hours, low, high = range_of(follows(0.515), part, model)
    assert low <= hours <= high
    assert high - low > 1.0
    assert range_of(follows(0.515), part, model) == (hours, low, high)
    assert range_of(follows(0.515), part, model, seed=1)[1:] != (low, high)
    assert range_of(follows(0.9), part, model) == (16.0, 16.0, 16.0)
    exact, of_it = made(0.0)
    assert range_of(follows(0.515), exact, of_it) == (16.0, 16.0, 16.0)


@pytest.mark.parametrize(
    "change", [{"mode": "hold"}, {"primaries": (primary("kv_usage", "decode", 0.5, "mean"),)}]
)
def test_where_no_reading_decides_there_is_no_range(change: dict[str, object]) -> None:
    """A policy on hold, one on a signal that was not recorded, fixed counts, and no hours."""
    part, model = made(0.1)
    assert hours_range(replace(follows(0.5), **change), [part], model, 16.0, 0) is None
    assert hours_range(recorded(model, part), [part], model, 16.0, 0) is None
    assert hours_range(follows(0.5), [part], model, None, 0) is None
