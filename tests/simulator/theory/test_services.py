"""Services drawn from laws with a knee lie where their kind puts them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from end_to_end.closed_loop import kinds
from simulator import services
from simulator.batching import TURNS, TWO
from simulator.physics import GAP_SPREAD
from simulator.pressure import Point, capacity
from simulator.services import KNEE, LATENCY_QUANTILE_Z, LIGHT, draw, knee_law, mean_point


def test_peaks_of_laws_with_a_knee_lie_at_their_share_of_the_capacity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both pools, by a pressure test with other chance; they share one way of routing."""
    kind = replace(
        next(one for one in kinds("knee") if one.name == "day_small"), instances=(2, 2), hours=12.0
    )
    drawn = draw(kind, np.random.default_rng(6))
    point = mean_point(drawn.rate, drawn.path)
    assert drawn.service.prefill.routing == drawn.service.decode.routing
    for role, lives in drawn.service.lives.items():
        holds = capacity(drawn.service, role, point, kind.mix, kind.slo, 5)
        assert holds is not None
        peak = np.quantile(drawn.rate, 0.99) * point.tokens(role) / len(lives)
        assert peak / holds == pytest.approx(0.75, rel=0.08)


def test_laws_with_a_knee_are_drawn_from_what_is_said_of_them() -> None:
    """Light load and knee within their ranges; a knee is below and above the limit, memory binds and not."""
    mean, longest = Point(1.0, 1400.0, 320.0, 0.3), 0.05 / math.exp(LATENCY_QUANTILE_Z * GAP_SPREAD)
    held, request = mean.prompt + mean.output / 2.0, mean.prompt + mean.output
    below, binds = [], []
    for seed in range(100):
        law = knee_law(mean, 0.05, np.random.default_rng(seed))
        knee = law.fixed_s / (law.least_s - law.token_s * held)
        assert law.step_s(knee, knee * held) == pytest.approx(law.least_s * knee)
        assert LIGHT[0] <= law.fixed_s / longest <= LIGHT[1]
        assert KNEE[0] <= law.least_s * knee / law.fixed_s <= KNEE[1]
        below.append(law.least_s * knee < longest)
        binds.append(law.step_s(law.kv_tokens / request, law.kv_tokens / request * held) < longest)
    assert 0.5 < np.mean(below) < 0.95
    assert 0.1 < np.mean(binds) < 0.5


def test_both_ways_of_routing_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few histories some look at two instances and some take turns."""
    monkeypatch.setattr(services, "capacity", lambda *_: None)
    kind = next(one for one in kinds("knee") if one.name == "day_small")
    found = {draw(kind, np.random.default_rng(seed)).service.decode.routing for seed in range(8)}
    assert found == {TWO, TURNS}
