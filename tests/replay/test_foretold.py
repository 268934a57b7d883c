"""Predicted latencies and queues beside recorded ones, at the counts that ran."""

from __future__ import annotations

import numpy as np
import pytest
from replay.services import D_CAPACITY, SETTINGS, day, derived, service

from hs_analysis.replay.baselines import recorded
from hs_analysis.replay.calibrate import prediction_errors
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import simulate

LOAD = day(400, 3 * D_CAPACITY)


def told(factor: float = 1.0, **columns: np.ndarray) -> dict[str, dict]:
    """Fit on latencies that follow load, and compare with the same times `factor`."""
    tbt = 0.02 + LOAD / D_CAPACITY / 100
    learnt = service({"decode": LOAD}, {"decode": 4}, tbt__decode=tbt, **columns)
    model = fit_fleet(learnt, derived(), SETTINGS)
    seen = service({"decode": LOAD}, {"decode": 4}, tbt__decode=tbt * factor, **columns)
    results = [simulate(recorded(model, part), part, model) for part in demands(seen)]
    return {entry["signal"]: entry for entry in prediction_errors(results, model)}


def test_a_latency_that_follows_load_is_foretold() -> None:
    """Within the width of a bin of load; a service that has become slower by a quarter is a fifth off."""
    entry = told()["tbt"]
    assert (entry["role"], entry["pool"], entry["windows"]) == ("decode", "decode", 400)
    assert entry["error_ratio"] < 0.03
    assert entry["predicted"] == pytest.approx(entry["recorded"], rel=0.02)
    assert told(1.25)["tbt"]["error_ratio"] == pytest.approx(0.2, abs=0.01)


def test_queues_are_compared_and_empty_ones_have_no_relative_error() -> None:
    """No queue recorded, none foretold: the error is 0 and there is nothing to divide by."""
    entry = told(queue_length__decode=np.zeros(400))["queue_length"]
    assert (entry["error"], entry["error_ratio"]) == (0.0, None)


def test_what_was_not_recorded_is_left_out() -> None:
    """A signal without a value on the test window has no entry."""
    assert "tbt" not in told(np.nan)
