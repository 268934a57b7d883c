"""Where limits of the user's own held a pool in the replay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from replay.services import SETTINGS, START, VERDICTS, derived, pd_day, service

from hs_analysis.policy.build import build_policy
from hs_analysis.policy.controls import control_of
from hs_analysis.replay.backtest import replay_service
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.limit_cost import has_limits, held_by_limits, without_limits
from hs_analysis.replay.simulate import SimulationResult, simulate
from hs_analysis.schema.settings import CountLimits, Settings

GPUS = {"prefill": 1.0, "decode": 1.0}
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))
ROWS, FIRST, LAST = 240, 90, 150
FRAME = service(
    {
        "prefill": np.full(ROWS, 7000.0),
        "decode": np.where((np.arange(ROWS) >= FIRST) & (np.arange(ROWS) < LAST), 9000.0, 2000.0),
    },
    {"prefill": 5, "decode": 3},
    gpus=GPUS,
)
"""Prefill stands still; decode needs two instances, and eight in one hour."""


def replayed(settings: Settings, controller: str) -> SimulationResult:
    """Return the replay of a policy under limits."""
    policy = build_policy(FRAME, derived(), VERDICTS, PAIR, settings, {}, {})
    (demand,) = demands(FRAME)
    model = fit_fleet(FRAME, derived(), settings)
    return simulate(control_of(replace(policy, controller=controller)), demand, model)


@pytest.mark.parametrize("controller", ["heteroscale", "keda", "hpa"])
@pytest.mark.parametrize("limits", [{"bounds": {"decode": CountLimits(1, 4)}}, {"gpus_limit": 9}], ids=str)
def test_pool_that_wants_more_than_its_limit_is_held_in_those_hours(controller: str, limits: dict) -> None:
    """Decode in the hour that needs eight, give or take its readings; prefill, which wants no more, never."""
    settings = replace(SETTINGS, **limits)
    (held,) = held_by_limits([replayed(settings, controller)], settings)
    assert held.role == "decode"
    first, last = (
        (datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() - START) / 60.0
        for at in (held.first.removesuffix("Z"), held.last.removesuffix("Z"))
    )
    assert FIRST <= first <= FIRST + 6
    assert LAST - 1 <= last <= LAST + 30
    assert LAST - FIRST - 10 <= held.windows <= last - first


def test_guessed_maximum_is_no_limit_of_the_users() -> None:
    """A limit of another pool, a least alone, and none at all: nothing is said."""
    for limits in ({}, {"prefill": CountLimits(1, 9)}, {"decode": CountLimits(2, None)}):
        settings = replace(SETTINGS, bounds=limits)
        assert held_by_limits([replayed(settings, "hpa")], settings) == ()
        assert has_limits(settings) == bool(limits)
        assert without_limits(settings) == SETTINGS


def test_rest_of_the_controller_is_no_limit() -> None:
    """Growth that waits for a rest is below what is wanted, and a maximum of forty holds nothing."""
    settings = replace(SETTINGS, bounds={"decode": CountLimits(1, 40)})
    assert held_by_limits([replayed(settings, "heteroscale")], settings) == ()


def test_backtest_keeps_what_was_held_per_policy() -> None:
    """Beside the rows, for the decision; nothing of it without limits."""
    frame = pd_day(240, gpus=GPUS)
    limited = replace(SETTINGS, gpus_limit=11)
    control = control_of(build_policy(frame, derived(), VERDICTS, PAIR, limited, {}, {}))
    found = replay_service(frame, frame, derived(), {"one": control}, limited).result.calibration
    assert {one["role"] for one in found["held_by_limits"]["one"]} <= {"prefill", "decode"}
    assert sum(one["windows"] for one in found["held_by_limits"]["one"]) > 0
    free = replay_service(frame, frame, derived(), {"one": control}, SETTINGS).result.calibration
    assert "held_by_limits" not in free
