"""Answers by intervention are what they say, where the answer is known otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr
from simulator.decode import DecodeLaw
from simulator.lives import Life
from simulator.measures import Looks, tbt_over, ttft_over
from simulator.physics import GAP_SPREAD, Service
from simulator.pressure import Point, capacity, crossing, press, respond, throughput_tps
from simulator.workloads import TokenMix

from hs_analysis.schema.settings import Slo

MIX = TokenMix()
POINT = Point(1.0, MIX.prompt, MIX.output, MIX.hit)


def _service(decode: DecodeLaw | None = None) -> Service:
    pools = {role: tuple(Life(f"{role}{i}") for i in range(2)) for role in ("prefill", "decode")}
    return Service(pools, decode=decode or DecodeLaw(), wobble_sd=0.0)


def test_crossing_finds_where_a_known_share_passes() -> None:
    """A probit in ln level is found to 0.1 %; a share that never passes or always does has no crossing."""
    found = crossing(lambda level: float(ndtr(30.0 * math.log(level / 0.7) - 1.645)), 0.3, 1.1, 0.05)
    assert found == pytest.approx(0.7, rel=1e-3)
    cliff = crossing(lambda level: 0.04 if level < 0.5 else 0.06 + 0.9 * (level > 0.52), 0.3, 1.1, 0.05)
    assert cliff == pytest.approx(0.5, rel=0.04)
    assert crossing(lambda _: 0.0, 0.3, 1.1, 0.05) is None
    assert crossing(lambda _: 1.0, 0.3, 1.1, 0.05) is None


def test_decode_capacity_lies_where_the_step_meets_the_limit() -> None:
    """With a steep law the mean step at capacity is within 6 % of limit ÷ e^(1.645 · spread)."""
    service = _service()
    found = capacity(service, "decode", POINT, MIX, Slo(tbt_s=0.05), 1)
    assert found is not None
    trace = press(
        service, "decode", Point(2 * found / MIX.output, MIX.prompt, MIX.output, MIX.hit), MIX, 1.0,
        np.random.default_rng(9),
    )  # fmt: skip
    steps = np.concatenate([s.gap_s[600:] for s in trace.seconds["decode"]])
    assert np.quantile(steps, 0.9) == pytest.approx(0.05 / math.exp(1.645 * GAP_SPREAD), rel=0.06)


def test_a_looser_limit_allows_more_and_none_allows_the_throughput() -> None:
    """Capacity rises with the TTFT limit and stays under the throughput of the law."""
    service = _service()
    tight, loose = (capacity(service, "prefill", POINT, MIX, Slo(ttft_s=limit), 1) for limit in (1.2, 4.0))
    assert tight is not None
    assert loose is not None
    assert tight < 0.97 * loose
    assert loose < throughput_tps(service, "prefill", POINT, MIX)


def test_signals_answer_as_their_formulas_say() -> None:
    """Token rates go with load, decode utilisation stands still, prefill is as busy as its work."""
    service = _service()
    top = throughput_tps(service, "prefill", POINT, MIX)
    levels = [
        Point(share * top * 2 / POINT.tokens("prefill"), POINT.prompt, POINT.output, POINT.hit)
        for share in (0.3, 0.6)
    ]
    prefill = respond(service, "prefill", levels, MIX, Looks(), 1)
    assert prefill["prefill_tps_effective@prefill"].elasticity == pytest.approx(1.0, abs=0.02)
    assert prefill["sm_activity@prefill"].mean == pytest.approx([0.88 * 0.3, 0.88 * 0.6], rel=0.06)
    assert prefill["ttft@service"].mean[1] > prefill["ttft@service"].mean[0]
    decode = respond(
        service,
        "decode",
        [Point(r, POINT.prompt, POINT.output, POINT.hit) for r in (1.5, 3.0)],
        MIX,
        Looks(),
        1,
    )
    assert decode["gpu_util@decode"].elasticity == pytest.approx(0.0, abs=0.01)
    assert decode["decode_tps@decode"].elasticity == pytest.approx(1.0, abs=0.03)
    assert decode["running@decode"].elasticity > 1.1


def test_shares_over_a_limit_are_those_of_the_samples() -> None:
    """With every step at the limit half of the gaps are over it; TTFT counts first tokens of the window."""
    service = _service(DecodeLaw(fixed_s=0.04, sequence_s=0.0, token_s=0.0))
    trace = press(service, "decode", Point(1.0, 100.0, 200.0, 0.0), MIX, 0.3, np.random.default_rng(0))
    assert tbt_over(trace, 0.04, 60.0) == pytest.approx(np.full(18, 0.5))
    prefill = press(service, "prefill", Point(3.0, 1000.0, 20.0, 0.0), MIX, 0.3, np.random.default_rng(0))
    inside = prefill.first_s < 60.0
    assert ttft_over(prefill, 0.3, 60.0)[0] == pytest.approx((prefill.ttft_s[inside] > 0.3).mean())
