"""AIBrix's and Dynamo's autoscalers: their rules one by one, and lanes against the plain rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from controllers.fleets import fleet, walk
from controllers.reference_field import DECIDE, PoolView
from controllers.test_cases import CASES, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hs_analysis.controllers import aibrix as controllers_aibrix
from hs_analysis.controllers import dynamo
from hs_analysis.controllers.aibrix import Apa, ApaBatch, Kpa, KpaBatch
from hs_analysis.controllers.dynamo import (
    DynamoLoad,
    DynamoLoadBatch,
    DynamoThroughput,
    DynamoThroughputBatch,
)
from hs_analysis.controllers.lanes import Why

NAN = float("nan")
AIBRIX = YAML(typ="safe").load(CASES / "aibrix.yaml")
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


def aibrix(kind: type, case: dict[str, Any], **given: Any) -> Any:
    """Return the controller of a case, its cooldown windows off."""
    up, down = case["rates"]
    least, most = case.get("bounds", (0, 100))
    return kind(
        "load", case["target"], max_scale_up_rate=up, max_scale_down_rate=down, min_replicas=least,
        max_replicas=most, up_cooldown_s=0.0, down_cooldown_s=0.0, **given,
    )  # fmt: skip


@cases(AIBRIX, "apa")
def test_aibrix_apa(case: dict[str, Any]) -> None:
    """Tolerances, rounding and rates of one cycle."""
    apa = aibrix(Apa, case, total=False)
    seen = fleet({("load", "decode"): [float(case["value"])]}, {"decode": case["current"]}, window_s=10.0)
    assert ApaBatch([apa], "decode").step(seen).count.tolist() == [case["count"]]


@cases(AIBRIX, "kpa")
def test_aibrix_kpa(case: dict[str, Any]) -> None:
    """Both windows, rounding and rates of one cycle."""
    kpa = aibrix(Kpa, case, stable_window_s=100.0, panic_window_s=10.0, up_tolerance=0.0, down_tolerance=0.0)
    earlier = (10 * case["stable"] - case["panic"]) / 9
    readings = {("load", "decode"): [earlier] * 9 + [float(case["panic"])]}
    seen = fleet(readings, {"decode": case["current"]}, window_s=10.0)
    assert KpaBatch([kpa], "decode").step(seen).count.tolist() == [case["count"]]


def test_aibrix_decides_every_ten_seconds() -> None:
    """Doubled in a cycle: 4, 8, 16, 20 within half a minute, and over 20 s to 1 again."""
    kpa = Kpa("load", 100.0, 10.0, 10.0, down_cooldown_s=0.0)
    assert walk(KpaBatch([kpa], "decode"), [2000.0, 2000.0], 4, window_s=20.0) == [16, 20]
    assert walk(KpaBatch([kpa], "decode"), [2000.0, 2000.0], 4, window_s=30.0) == [20, 20]


def test_aibrix_kpa_panics_without_memory() -> None:
    """On while the last minute is more than twice the last three, and no longer."""
    kpa = Kpa("load", 100.0, 180.0, 60.0, 1.2, down_cooldown_s=0.0)
    batch = KpaBatch([kpa], "decode")
    assert walk(batch, [400.0, 400.0, 400.0, 1000.0, 400.0, 400.0, 400.0], 4) == [4, 4, 4, 10, 6, 6, 4]
    calm = KpaBatch([replace(kpa, panic_threshold=2.0)], "decode")
    assert walk(calm, [400.0, 400.0, 400.0, 1000.0], 4) == [4, 4, 4, 6]


def test_aibrix_kpa_holds_within_tolerance_of_one_pod_only() -> None:
    """105 at a target of 100 is near it whatever runs; 430 is not near 400."""
    kpa = Kpa("load", 100.0, 60.0, 60.0, down_cooldown_s=0.0)
    assert walk(KpaBatch([kpa], "decode"), [105.0], 3) == [3]
    assert walk(KpaBatch([kpa], "decode"), [430.0], 4) == [5]
    assert walk(KpaBatch([replace(kpa, up_tolerance=0.0)], "decode"), [105.0], 3) == [2]


def test_aibrix_kpa_holds_without_a_value() -> None:
    """An external metric that can't be read ends the decision, whatever its windows hold."""
    kpa = Kpa("load", 100.0, 180.0, 60.0, down_cooldown_s=0.0)
    assert walk(KpaBatch([kpa], "decode"), [400.0, 900.0, NAN], 4) == [4, 7, 7]
    assert asks(kpa, [400.0, NAN], 4) == (4, Why.MISSING)


def test_aibrix_kpa_on_a_highest_value_grows_at_once_and_shrinks_when_all_of_it_is_low() -> None:
    """One reading of nothing, or a short gap, changes no count; a gap as long as the range holds it."""
    kpa = Kpa("load", 100.0, 30.0, 30.0, down_cooldown_s=0.0, highest_s=180.0)
    batch = KpaBatch([kpa], "decode")
    assert walk(batch, [400.0, 0.0, 400.0, NAN, 900.0, 400.0, 400.0, 400.0], 4) == [4] * 4 + [9] * 3 + [4]
    assert walk(KpaBatch([kpa], "decode"), [400.0, NAN, NAN, NAN, NAN], 4) == [4] * 5
    plain = replace(kpa, highest_s=0.0, down_cooldown_s=180.0)
    assert walk(KpaBatch([plain], "decode"), [400.0, 0.0, 400.0], 4) == [4, 1, 4]


def test_aibrix_apa_reads_pods_that_do_not_answer_as_idle() -> None:
    """A missing metric is zero in the mean of the window: the pool shrinks to nothing but its least."""
    apa = Apa("load", 100.0, down_cooldown_s=0.0)
    assert walk(ApaBatch([apa], "decode"), [400.0] * 3 + [NAN] * 3, 4) == [4, 4, 4, 3, 1, 1]
    assert asks(apa, [NAN], 4) == (4, Why.MISSING)


def test_aibrix_apa_overshoots_as_its_window_remembers_the_use_of_fewer_pods() -> None:
    """Thrice the load of 4 pods needs 12; within three minutes it runs more."""
    counts = walk(ApaBatch([Apa("load", 100.0)], "decode"), [400.0] * 3 + [1200.0] * 4, 4)
    assert counts[:3] == [4, 4, 4]
    assert max(counts) > 12


def test_aibrix_bounds_come_before_metrics_and_zero_stays() -> None:
    """Below the least, above the most, and a pool of zero that may not be."""
    kpa = Kpa("load", 100.0, min_replicas=3, max_replicas=6)
    assert [asks(kpa, [NAN], count) for count in (1, 9, 0)] == [
        (3, Why.BOUND), (6, Why.BOUND), (0, Why.IDLE),
    ]  # fmt: skip


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
TOLERANCE = st.floats(0.0, 0.3)
LEAST, MOST = st.integers(0, 3), st.integers(4, 30)
PACES: dict[str, st.SearchStrategy[Any]] = {
    "up_tolerance": TOLERANCE, "down_tolerance": TOLERANCE, "max_scale_up_rate": RATE,
    "max_scale_down_rate": RATE, "up_cooldown_s": WINDOW, "down_cooldown_s": WINDOW, "min_replicas": LEAST,
    "max_replicas": MOST,
}  # fmt: skip
PARAMETERS: dict[type, st.SearchStrategy[Any]] = {
    Apa: st.builds(
        Apa, st.just("load"), TARGET, st.just(True), st.sampled_from([60.0, 180.0]), **PACES
    ),
    Kpa: st.builds(
        Kpa, st.just("load"), TARGET, st.sampled_from([120.0, 180.0, 600.0]), st.sampled_from([60.0, 120.0]),
        st.floats(1.2, 3.0), highest_s=WINDOW, **PACES,
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
    structure = dynamo.structure if kind in (DynamoLoad, DynamoThroughput) else controllers_aibrix.structure
    found = [one for one in found if structure(one) == structure(found[0])]
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
