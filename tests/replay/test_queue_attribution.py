"""The latency that a backlog's wait shows in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import D_CAPACITY, P_CAPACITY, SETTINGS, derived, service

from hs_analysis.replay.baselines import recorded
from hs_analysis.replay.calibrate import prediction_errors
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.queue_attribution import FIRST_TOKEN_FROM_DECODE, waited_s
from hs_analysis.replay.signals import SignalModel, to_ceiling
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.aligned import ServiceFrame

ROWS = 200
PROMPTS = np.linspace(0.3, 0.6, ROWS) * 10 * P_CAPACITY
ANSWERS = np.linspace(0.3, 0.6, ROWS) * 4 * D_CAPACITY
AGE_S = np.where(np.arange(ROWS) >= 150, 40.0, 0.0)
AFTER_FIRST = {"ttft": {"prefill": 1.0}, "tbt": {"decode": 0.01}}


def history(ttft: np.ndarray, age_s: np.ndarray = AGE_S, answers: np.ndarray = ANSWERS) -> ServiceFrame:
    """Return a service whose decode pool waited in its last windows; 200 tokens an answer."""
    return service(
        {"prefill": PROMPTS, "decode": answers},
        {"prefill": 10, "decode": 4},
        ttft__service=ttft,
        tbt__decode=0.02 + ANSWERS / D_CAPACITY / 1000,
        request_rate__service=answers / 200.0,
        backlog_age_s__decode=age_s,
    )


def model_of(frame: ServiceFrame, status: str = "ok") -> FleetModel:
    """Fit the fleet on a whole history."""
    return fit_fleet(frame, derived(status=status), SETTINGS)


def test_history_says_which_side_of_the_first_token_the_wait_is_on() -> None:
    """TTFT that follows decode's backlog holds it; one that does not leaves a gap of 1 ÷ 200 of it."""
    assert model_of(history(0.4 + AGE_S)).waits == FIRST_TOKEN_FROM_DECODE
    after = model_of(history(np.full(ROWS, 0.4))).waits
    assert after == {"ttft": {"prefill": 1.0}, "tbt": {"decode": pytest.approx(1 / 200)}}


def test_without_a_backlog_the_first_token_is_taken_to_come_from_decode() -> None:
    """A history that never waited can't tell; a queue at a floor may not exist, and delays no first token."""
    never = history(np.full(ROWS, 0.4), np.zeros(ROWS))
    assert model_of(never).waits == FIRST_TOKEN_FROM_DECODE
    assert "decode" not in model_of(never, "floor").waits["ttft"]
    assert model_of(history(0.4 + AGE_S), "floor").waits == FIRST_TOKEN_FROM_DECODE


def test_the_wait_of_an_overloaded_decode_pool_is_foretold_in_ttft_and_not_in_tbt() -> None:
    """Answers past the ceiling: their wait delays first tokens, gaps stay those of a full batch."""
    model = model_of(history(np.full(ROWS, 0.4), np.zeros(ROWS)))
    past = np.full(ROWS, 1.5 * 4 * model.pools["decode"].max_throughput)
    part = demands(history(np.full(ROWS, 500.0), answers=past))[0]
    result = simulate(recorded(model, part), part, model)
    told = {entry["signal"]: entry for entry in prediction_errors([result], model)}
    age_s = np.median(result.queued["decode"]) / (4 * model.pools["decode"].max_throughput)
    assert age_s > 1000
    assert told["ttft"]["predicted"] == pytest.approx(age_s, rel=0.01)
    assert told["tbt"]["predicted"] < 0.2
    assert result.violation["prefill"].mean() > 0.9
    late = replace(model, waits=AFTER_FIRST)
    result = simulate(recorded(late, part), part, late)
    told = {entry["signal"]: entry for entry in prediction_errors([result], late)}
    assert told["ttft"]["predicted"] < 1.0
    assert told["tbt"]["predicted"] == pytest.approx(0.01 * age_s, rel=0.05)
    assert result.violation["prefill"].mean() < 0.1


def test_waits_add_up_over_the_pools() -> None:
    """First tokens wait for both pools, gaps for none of them; a pool without a backlog adds nothing."""
    ages = {"prefill": 2.0, "decode": 3.0}
    assert waited_s(FIRST_TOKEN_FROM_DECODE, "ttft", ages) == 5.0
    assert waited_s(FIRST_TOKEN_FROM_DECODE, "tbt", ages) == 0.0
    assert waited_s(AFTER_FIRST, "tbt", ages) == pytest.approx(0.03)


def test_the_latency_of_a_batch_is_carried_on_by_its_law() -> None:
    """A step of 10 ms ÷ (1 − load ÷ 2,000), seen up to 1,000 tokens/s, is 40 ms at 1,500."""
    loads = (200.0, 600.0, 1000.0)
    curve = SignalModel("curve", "decode", loads=loads, values=tuple(0.01 / (1 - x / 2000) for x in loads))
    carried = to_ceiling(curve, 1500.0)
    assert carried.at(1500.0) == pytest.approx(0.04)
    assert carried.at(600.0) == curve.at(600.0)
    assert to_ceiling(curve, 5000.0).loads[-1] == pytest.approx(1900.0)
    assert to_ceiling(curve, 900.0) == curve
    assert to_ceiling(replace(curve, values=(0.01,) * 3), 1500.0).at(1500.0) == 0.01
