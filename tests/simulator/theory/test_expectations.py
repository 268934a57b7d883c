"""Expected verdicts follow from responses to loads that were held still."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulator.expectations import expected
from simulator.pressure import Response


def _response(slope: float = 1.0, snr: float = 50.0, top: float = 1.0, mean: float = 1.0) -> Response:
    return Response(np.array([1.0, 2.0]), np.array([mean, mean]), 0.1, slope, snr, top)


@pytest.mark.parametrize(
    ("signal", "response", "drift", "verdict"),
    [
        ("decode_tps", _response(), 0.0, "proportional"),
        ("sm_activity", _response(0.3), 0.0, "guard"),
        ("running", _response(1.7), 0.0, "guard"),
        ("gpu_util", _response(0.01), 0.0, "unusable"),
        ("gpu_util", _response(0.9, snr=1.5), 0.0, "unusable"),
        ("prefill_tps", _response(1.0), 0.4, "unusable"),
        ("ttft", _response(0.5), 0.0, "guard"),
        ("tbt", _response(1.0), 0.0, "guard"),
        ("queue_length", _response(math.nan), 0.0, "guard"),
        ("queue_length", _response(math.nan, top=0.6), 0.0, "unusable"),
        ("queue_length", _response(mean=0.0), 0.0, "unusable"),
    ],
)
def test_a_clear_case_has_its_verdict(signal: str, response: Response, drift: float, verdict: str) -> None:
    """Far from every limit the verdict is clear and scored."""
    found = expected(signal, response, drift, 4.0)
    assert (found.verdict, found.borderline) == (verdict, False)


@pytest.mark.parametrize(
    ("response", "drift", "load_range"),
    [
        (_response(0.72), 0.0, 4.0),
        (_response(1.45), 0.0, 4.0),
        (_response(0.11), 0.0, 4.0),
        (_response(1.0, snr=5.5), 0.0, 4.0),
        (_response(1.0), 0.19, 4.0),
        (_response(1.0), 0.0, 1.62),
    ],
)
def test_answers_near_a_limit_are_not_scored(response: Response, drift: float, load_range: float) -> None:
    """Near an edge of elasticity, noise, drift or load range the answer is borderline."""
    assert expected("running", response, drift, load_range).borderline


def test_a_load_that_stands_still_tells_nothing() -> None:
    """Below the least load range everything is unknown."""
    assert expected("decode_tps", _response(), 0.0, 1.2).verdict == "unknown"
