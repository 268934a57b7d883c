"""Limits of the user's own in the replay: no controller passes them, undisturbed or under faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import SETTINGS, VERDICTS, derived, pd_day

from hs_analysis.controllers import CONTROLLERS
from hs_analysis.policy.build import build_policy
from hs_analysis.policy.controls import control_of
from hs_analysis.replay.backtest import score_policies, sizing
from hs_analysis.replay.demand import demands
from hs_analysis.replay.faults import FAULTS, FaultRows, FaultStrike
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import Control, Run
from hs_analysis.schema.settings import CountLimits

GPUS = {"prefill": 8.0, "decode": 4.0}
LIMIT = 72
"""GPUs: the recorded 11 and 4 instances hold 104, the peak needs more."""
FRAME = pd_day(240, gpus=GPUS)
LIMITED = replace(SETTINGS, gpus_limit=LIMIT)
MODEL = fit_fleet(FRAME, derived(), LIMITED)
(DEMAND,) = demands(FRAME)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


def controls(settings: object = LIMITED) -> dict[str, Control]:
    """Return a policy in each controller, of one primary and of two, and the autoscalers of the field."""
    found: dict[str, Control] = {}
    for name, keys in (("one", PAIR[1:]), ("two", PAIR)):
        policy = build_policy(FRAME, derived(), VERDICTS, keys, settings, {}, {})
        for controller in ("heteroscale", "keda", "hpa"):
            found[f"{name} {controller}"] = control_of(replace(policy, controller=controller))
    sized = {row.name: row.size(sizing(FRAME, MODEL, derived(), settings)) for row in CONTROLLERS}
    return found | {name: one for name, one in sized.items() if not isinstance(one, str)}


@pytest.fixture(scope="module")
def gpus_held() -> dict[str, np.ndarray]:
    """Return the GPUs of every control under each fault, by fault, shape (rows, controls): one run of all."""
    run = Run(tuple(controls().values()), DEMAND, MODEL)
    strike = FaultStrike(FAULTS, FaultRows(120, 140), run)
    hit = run.branch(len(FAULTS), DEMAND.rows, strike)
    hit.advance(DEMAND.rows)
    held = sum(gpus * hit.log.desired[role] for role, gpus in GPUS.items())
    return {fault.name: held[:, strike.of_lane == number] for number, fault in enumerate(FAULTS)}


@pytest.mark.parametrize("fault", [fault.name for fault in FAULTS])
def test_no_control_passes_the_gpus_of_the_service(fault: str, gpus_held: dict[str, np.ndarray]) -> None:
    """From the second row on: the recorded fleet, which stands above the limit, is where it starts."""
    held = gpus_held[fault][1:]
    assert held.shape == (DEMAND.rows - 1, len(controls()))
    assert float(held.max()) <= LIMIT + 1e-6
    assert float(held.max()) > LIMIT - 12  # it binds


def test_candidates_of_selection_keep_the_users_bounds() -> None:
    """Every row that selection scores lies within min and max of each pool, from the second row on."""
    settings = replace(SETTINGS, bounds={"prefill": CountLimits(3, 8), "decode": CountLimits(2, 3)})
    every = controls(settings)
    results = Run(tuple(every.values()), DEMAND, MODEL)
    results.advance(DEMAND.rows)
    for role, limits in settings.bounds.items():
        counts = results.log.desired[role][1:]
        assert float(np.min(counts)) >= limits.min
        assert float(np.max(counts)) <= limits.max
    assert score_policies(FRAME, derived(), {"one": every["one keda"]}, settings)["one"].score is not None
