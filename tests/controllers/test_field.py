"""AIBrix's and Dynamo's autoscalers: their rules one by one, and lanes against the plain rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from controllers.fleets import fleet, walk
from controllers.reference_field import DECIDE, PoolView
from hypothesis import given, settings
from hypothesis import strategies as st

from hs_analysis.controllers.aibrix import Apa, ApaBatch, Kpa, KpaBatch
from hs_analysis.controllers.dynamo import (
    DynamoLoad,
    DynamoLoadBatch,
    DynamoThroughput,
    DynamoThroughputBatch,
)
from hs_analysis.controllers.lanes import Why

NAN = float("nan")
BATCHES: dict[type, Any] = {
    Apa: ApaBatch,
    Kpa: KpaBatch,
    DynamoLoad: DynamoLoadBatch,
    DynamoThroughput: DynamoThroughputBatch,
}


def asks(
    parameters: Any,
    values: Sequence[float],
    desired: int,
    *,
    role: str = "decode",
    ready: float | None = None,
) -> tuple[int, Why]:
    """Return the count that one controller asks for after some rows, and why."""
    batch = BATCHES[type(parameters)]([parameters], role)
    seen = fleet(
        {(parameters.signal, role): list(values)},
        {role: desired},
        ready={role: desired if ready is None else ready},
    )
    orders = batch.step(seen)
    return int(orders.count[0]), Why(int(orders.code[0]))


def test_aibrix_apa_tolerances_and_rates() -> None:
    """Within 10 % nothing; otherwise in proportion, at most doubled or halved."""
    apa = Apa("load", 100.0)
    loads = (440.0, 441.0, 2000.0, 370.0, 361.0, 10.0)
    assert [asks(apa, [v], 4)[0] for v in loads] == [4, 5, 8, 4, 4, 2]
    assert asks(apa, [NAN], 4) == (4, Why.MISSING)
    assert asks(replace(apa, total=False), [150.0], 4) == (6, Why.GROWS)


def test_aibrix_kpa_panics_and_does_not_shrink_until_the_surge_is_in_the_stable_window() -> None:
    """A burst over twice the pool is followed by the panic window and held for the stable window."""
    kpa = Kpa("load", 100.0, down_cooldown_s=0.0)
    counts = walk(KpaBatch([kpa], "decode"), [400.0, 400.0, 900.0] + [100.0] * 6, 4)
    assert counts[:3] == [4, 4, 8]
    assert counts[3:6] == [8, 8, 8]
    assert counts[-1] < 8


def test_dynamo_thresholds_move_one_worker() -> None:
    """Prefill by queued tokens of a worker ÷ context, decode by KV usage; nothing while workers start."""
    prefill, decode = DynamoLoad("queued_tokens", context_tokens=1000.0), DynamoLoad("kv_usage")
    tokens = (4000.0, 3999.0, 400.0, 399.0)
    assert [asks(prefill, [v], 4, role="prefill")[0] for v in tokens] == [5, 4, 4, 3]
    assert [asks(decode, [v], 4)[0] for v in (1.01, 1.0, 0.6, 0.59)] == [5, 4, 4, 3]
    assert asks(decode, [1.5], 4, ready=3.0) == (4, Why.STARTING)
    eager = replace(decode, optimization_target="latency")
    assert [asks(eager, [v], 4)[0] for v in (0.41, 0.2, 0.09)] == [5, 4, 3]
    unknown = replace(prefill, context_tokens=None)
    assert asks(unknown, [4000.0], 4, role="prefill") == (4, Why.MISSING)


def test_dynamo_thresholds_may_be_set_by_hand() -> None:
    """Queued tokens of a worker for prefill, KV usage for decode, without a context length."""
    tokens = DynamoLoad("load", limits=(18_000.0, 4000.0))
    queues = (36_000.0, 20_000.0, 7000.0)
    assert [asks(tokens, [queue], 2, role="prefill")[0] for queue in queues] == [3, 2, 1]
    usage = DynamoLoad("load", limits=(0.8, 0.4))
    assert [asks(usage, [v], 2)[0] for v in (0.85, 0.6, 0.3)] == [3, 2, 1]


def test_dynamo_throughput_acts_once_an_interval() -> None:
    """Every 180 s, on the mean of the interval."""
    batch = DynamoThroughputBatch([DynamoThroughput("load", 100.0)], "decode")
    assert walk(batch, [450.0, 900.0, 900.0, 900.0, 900.0], 4) == [5, 5, 5, 9, 9]


WINDOW = st.sampled_from([0.0, 60.0, 180.0, 300.0])
RATE = st.floats(1.0, 3.0)
TARGET = st.floats(50.0, 200.0)
LEAST, MOST = st.integers(0, 3), st.integers(4, 30)
PARAMETERS: dict[type, st.SearchStrategy[Any]] = {
    Apa: st.builds(
        Apa, st.just("load"), TARGET, st.just(True), st.sampled_from([60.0, 180.0]), st.floats(0.0, 0.3),
        st.floats(0.0, 0.3), RATE, RATE, WINDOW, WINDOW, LEAST, MOST,
    ),
    Kpa: st.builds(
        Kpa, st.just("load"), TARGET, st.sampled_from([120.0, 180.0, 600.0]), st.sampled_from([60.0, 120.0]),
        st.floats(1.2, 3.0), RATE, RATE, WINDOW, WINDOW, LEAST, MOST,
    ),
    DynamoLoad: st.builds(
        DynamoLoad, st.just("load"), st.none() | st.floats(10.0, 300.0),
        st.none() | st.tuples(st.floats(150.0, 400.0), st.floats(10.0, 100.0)),
        st.sampled_from(["throughput", "latency"]), LEAST, MOST,
    ),
    DynamoThroughput: st.builds(
        DynamoThroughput, st.just("load"), TARGET, st.sampled_from([60.0, 180.0, 300.0]), LEAST, MOST
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BATCHES))
@settings(max_examples=25)
@given(data=st.data())
def test_many_lanes_decide_as_the_plain_rules_do(kind: type, data: st.DataObject) -> None:
    """Every lane at every row, whatever the numbers, gaps and widths of a row; lanes are shuffled midway."""
    found = data.draw(st.lists(PARAMETERS[kind], min_size=1, max_size=4))
    role = data.draw(st.sampled_from(["prefill", "decode"]))
    row_s = data.draw(st.sampled_from([15.0, 60.0, 300.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    rows, lanes = 24, len(found)
    table = 600.0 * np.exp(np.cumsum(0.5 * rng.standard_normal((rows, lanes)), axis=0))
    table[rng.random((rows, lanes)) < 0.15] = NAN
    table[rng.random((rows, lanes)) < 0.05] = 0.0
    batch, order = BATCHES[kind](found, role), rng.permutation(lanes)
    memories: list[Any] = [None] * lanes
    desired = rng.integers(1, 12, lanes).astype(float)
    for row in range(1, rows + 1):
        if row == rows // 2:
            batch, found = batch.take(order), [found[lane] for lane in order]
            memories = [memories[lane] for lane in order]
        ready = np.maximum(0.0, desired - rng.integers(0, 2, lanes))
        t_s = row * row_s
        seen = fleet(
            {("load", role): table[:row]}, {role: desired}, t_s=t_s, window_s=row_s, ready={role: ready}
        )
        orders = batch.step(seen)
        for lane, one in enumerate(found):
            readings = {"load": table[:, lane].tolist()}
            view = PoolView(role, t_s, row_s, int(desired[lane]), ready[lane], readings, row)
            reply = DECIDE[kind](one, view, memories[lane])
            memories[lane] = reply.memory
            assert orders.count[lane] == reply.count, (row, lane, reply.reason)
        desired = orders.count
