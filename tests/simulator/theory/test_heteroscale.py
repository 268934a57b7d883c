"""HeteroScale's rule on a policy document, against cases worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from simulator.exported import Scene
from simulator.heteroscale import HeteroScale
from simulator.measures import Looks
from simulator.prometheus import Prometheus
from simulator.steering import Sight

PROMQL = "sum(rate(vllm:generation_tokens_total[1m]))"
POLICY = """\
schema: hs-analysis/policy/v1alpha2
spec:
  mode: metric
  primaries:
    - {signal: decode_tps, role: decode, pool: sum, promql: "sum(rate(vllm:generation_tokens_total[1m]))",
       target_per_instance: {value: 100.0}}
  pd_ratio: {value: 0.5, max_deviation: 0.2}
  hysteresis: {scale_out_ratio: 1.05, scale_in_ratio: 0.8}
  cooldown: {scale_out_s: 0.0, scale_in_s: 300.0}
  step: {dampening: 1.0, max_out_fraction: null, max_in_fraction: null}
  guards:
    - {signal: ttft, role: prefill, slo_s: 2.0,
       tiers: [{above_ratio: 1.0, add_fraction: 0.1}, {above_ratio: 1.5, add_fraction: 0.5}]}
  soft_scale_in: null
  bounds: {prefill: {min: 1, max: 20}, decode: {min: 2, max: 40}}
  reading: {window_s: 60.0, over_s: 300.0}
  evaluation: {window_s: 60.0, start_up_s: {prefill: 240.0, decode: 240.0}}
"""


class Told(Prometheus):
    """A Prometheus whose answers are given: one rate and one latency a minute."""

    def __init__(self, rates: Sequence[float | None], latencies: Sequence[float | None]) -> None:
        super().__init__(Looks(15, 30), 0.0, np.random.default_rng(0))
        self.rates, self.latencies = rates, latencies

    def rate(self, signal: str, role: str, range_s: float, at_s: float, pooled: Any = "sum") -> float | None:
        """Return the rate of the minute."""
        return self.rates[round(at_s / 60.0)]

    def latency(self, signal: str, range_s: float, at_s: float) -> float | None:
        """Return the latency of the minute."""
        return self.latencies[round(at_s / 60.0)] if self.latencies else 0.1


def _dumped(document: dict[str, Any]) -> str:
    stream = StringIO()
    YAML(typ="safe").dump(document, stream)
    return stream.getvalue()


def _walk(
    rates: Sequence[float | None],
    prefill: int,
    decode: int,
    latencies: Sequence[float | None] = (),
    **spec: Any,
) -> list[tuple[int, int]]:
    """Return the counts of both pools after each minute."""
    document = YAML(typ="safe").load(POLICY)
    document["spec"].update(spec)
    rule = HeteroScale(_dumped(document), Scene(Told(rates, latencies)))
    counts, found = {"prefill": prefill, "decode": decode}, []
    for minute in range(len(rates)):
        orders = rule(Sight(60.0 * minute, dict(counts), dict(counts)))
        counts |= {role: order.count for role, order in orders.items()}
        found.append((counts["prefill"], counts["decode"]))
    return found


def test_growth_is_at_once_on_the_newest_reading_and_takes_the_other_pool_along() -> None:
    """From 10 decode at 1,000 tokens/s: 1,040 is inside the band, 1,300 are 13, and 7 prefill at a half."""
    assert _walk([1000.0, 1040.0, 1300.0], 5, 10) == [(5, 10), (5, 10), (7, 13)]


def test_shrinking_follows_the_highest_of_five_minutes_and_rests() -> None:
    """The high minute holds for five; then 700 are 7, and the next step waits 300 s after that one."""
    found = _walk([1000.0] + [700.0] * 5 + [400.0] * 10, 5, 10)
    assert [decode for _, decode in found] == [10] * 5 + [7] * 5 + [4] * 6
    assert [prefill for prefill, _ in found] == [5] * 5 + [4] * 5 + [2] * 6


def test_a_band_of_a_fifth_keeps_what_nearly_fits() -> None:
    """8.1 of 10 is inside, 7.9 is not."""
    assert _walk([810.0] * 7, 5, 10)[-1] == (5, 10)
    assert _walk([790.0] * 7, 5, 10)[-1] == (4, 8)


def test_steps_and_dampening_limit_what_one_action_takes() -> None:
    """A quarter of 10 is 3; half of the wanted 10 is 5. In: a quarter of 10 is 2."""
    up = {"dampening": 1.0, "max_out_fraction": 0.25, "max_in_fraction": 0.25}
    assert _walk([2000.0], 5, 10, step=up, pd_ratio=None) == [(5, 13)]
    assert _walk([2000.0], 5, 10, step={"dampening": 0.5}, pd_ratio=None) == [(5, 15)]
    assert _walk([300.0], 5, 10, step=up, pd_ratio=None) == [(5, 8)]


def test_a_missing_reading_holds_and_is_no_low_one() -> None:
    """Nothing is known for two minutes; the highest of those that are is 700."""
    assert _walk([None, None, 700.0], 5, 10) == [(5, 10), (5, 10), (4, 7)]


def test_an_unknown_rest_forbids_shrinking() -> None:
    """A cooldown without a number."""
    assert _walk([300.0] * 9, 5, 10, cooldown={"scale_out_s": 0.0, "scale_in_s": None})[-1] == (5, 10)


def test_a_ratio_that_strays_is_brought_back() -> None:
    """4 to 10 is within 0.2 of a half, 2 to 10 is not: 5."""
    assert _walk([1000.0], 4, 10) == [(4, 10)]
    assert _walk([1000.0], 2, 10) == [(5, 10)]


def test_guards_add_by_the_tier_that_is_passed_and_wait_for_what_they_asked_for() -> None:
    """10 % of 10 at 2.5 s, half at 3.2 s four minutes later; not in between; nothing shrinks meanwhile."""
    found = _walk([1900.0] * 6, 10, 19, [2.5, 3.2, 3.2, 3.2, 3.2, 1.0])
    assert [prefill for prefill, _ in found] == [11, 11, 11, 11, 17, 17]
    assert _walk([700.0] * 6, 5, 10, [2.1] * 6)[0] == (6, 10)
    assert _walk([700.0] * 6, 5, 10, [None] * 6)[-1] == (5, 10)


def test_what_left_comes_back_on_a_breach_while_it_is_observed() -> None:
    """From 5 to 4 prefill; a minute later the limit is broken and the one is restored."""
    soft = {"observe_s": 120.0}
    found = _walk([700.0, 700.0], 5, 10, [1.0, 2.1], soft_scale_in=soft)
    assert found == [(4, 7), (5, 7)]
    late = _walk([700.0] * 4, 5, 10, [1.0, 1.0, 1.0, 2.1], soft_scale_in=soft)
    assert late[-1] == (5, 7)  # the guard adds a new one


def test_bounds_hold_and_two_primaries_size_a_pool_each() -> None:
    """Decode at most 40; prefill by its own reading, no ratio."""
    assert _walk([9000.0], 5, 10) == [(20, 40)]
    both = [
        {
            "signal": "x",
            "role": role,
            "pool": "sum",
            "promql": PROMQL,
            "target_per_instance": {"value": 100.0},
        }
        for role in ("prefill", "decode")
    ]
    document = YAML(typ="safe").load(POLICY)
    document["spec"]["primaries"] = both
    rule = HeteroScale(_dumped(document), Scene(Told([1200.0], ())))
    orders = rule(Sight(0.0, {"prefill": 5, "decode": 10}, {"prefill": 5, "decode": 10}))
    assert {role: order.count for role, order in orders.items()} == {"prefill": 12, "decode": 12}


def test_it_decides_once_a_window_and_refuses_other_modes() -> None:
    """Between two minutes nothing is asked for."""
    rule = HeteroScale(POLICY, Scene(Told([9000.0, 9000.0], ())))
    counts = {"prefill": 5, "decode": 10}
    assert rule(Sight(15.0, counts, counts)) == {}
    with pytest.raises(ValueError, match="mode hold"):
        HeteroScale(POLICY.replace("mode: metric", "mode: hold"), Scene(Told([], ())))
