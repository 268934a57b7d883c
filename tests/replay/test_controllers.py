"""Autoscalers other than the HPA, one by one, and the table that lists them."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.views import view, walk

from hs_analysis.replay.controllers import CONTROLLERS, Autoscaler, RatioConstraint, Sizing
from hs_analysis.replay.controllers.aibrix import Apa, Kpa, decide_apa
from hs_analysis.replay.controllers.dynamo import DynamoLoad, DynamoThroughput, decide_load
from hs_analysis.replay.controllers.hpa import Hpa, Metric, Operand
from hs_analysis.replay.controllers.keda import Fallback, Keda, decide
from hs_analysis.replay.controllers.kthena import Kthena, within_ratio
from hs_analysis.replay.controllers.saturation import Saturation
from hs_analysis.replay.controllers.saturation import decide as decide_saturation
from hs_analysis.replay.controllers.table import step
from hs_analysis.replay.controllers.velocity import TokenVelocity

NAN = math.nan
TRIGGER = Hpa((Metric("load", 100.0),))


def sizing(**changes: object) -> Sizing:
    """Return what a P/D service knows of itself."""
    known = Sizing(
        targets={"prefill": 2000.0, "decode": 1000.0},
        capacities={"prefill": 2500.0, "decode": 1250.0},
        work={"prefill": "prefill_tps_effective", "decode": "decode_tps"},
        readable=frozenset(
            {
                ("prefill_tps_effective", "prefill"), ("decode_tps", "decode"),
                *((s, r) for s in ("kv_usage", "queue_length") for r in ("prefill", "decode")),
            }
        ),
        bounds={"prefill": (1, 20), "decode": (1, 10)},
        ratio=(2.0, 1.8, 2.2),
    )  # fmt: skip
    return dataclasses.replace(known, **changes)


def test_every_row_says_where_its_numbers_come_from() -> None:
    """Names and parameter types are unique; defaults have a source; each is sized or says why."""
    assert len({row.name for row in CONTROLLERS}) == len({row.parameters for row in CONTROLLERS}) == 9
    for row in CONTROLLERS:
        assert row.source.startswith("https://")
        assert row.observes
        for field in dataclasses.fields(row.parameters):
            if field.default is not dataclasses.MISSING and field.name not in (
                "signal", "kv_signal", "queue_signal", "context_tokens",
            ):  # fmt: skip
                assert field.metadata["source"], (row.name, field.name)
        assert isinstance(row.size(sizing()), (Autoscaler, str))
        assert isinstance(row.size(sizing(targets={}, capacities={}, readable=frozenset())), str)


def test_sized_by_the_same_targets() -> None:
    """At the target load every work-following autoscaler asks for the same counts."""
    readings = {"prefill_tps_effective": [12_000.0], "decode_tps": [6_000.0], "arrived_tps": [7_500.0]}
    for row in CONTROLLERS:
        scaler = row.size(sizing())
        if isinstance(scaler, str) or row.name == "llmd_wva":
            continue
        views = {
            "prefill": view({**readings, "arrived_tps": [15_000.0]}, 6, role="prefill"),
            "decode": view(readings, 6),
        }
        scaler = dataclasses.replace(scaler, together=None)
        assert step(scaler, views, {})[0] == {"prefill": 6, "decode": 6}, row.name


def test_keda_reads_an_empty_answer_as_zero_unless_told_otherwise() -> None:
    """The Prometheus trigger's default walks a blind fleet to its minimum; ignoreNullValues=false holds."""
    blind = [800.0] + [NAN] * 10
    assert walk(Keda(TRIGGER, min_replica_count=2), blind, 8)[-1] == 2
    assert walk(Keda(TRIGGER, min_replica_count=2, ignore_null_values=False), blind, 8)[-1] == 8


def test_keda_keeps_the_count_it_found_as_its_hpa_does() -> None:
    """10 found, 3 needed: 10 until 300 s have passed."""
    assert walk(Keda(TRIGGER, min_replica_count=2), [300.0] * 6, 10) == [10] * 5 + [3]


def test_keda_fallback_after_the_threshold() -> None:
    """Three failed polls are borne, the fourth falls back: two polls a minute, so from the second row on."""
    fallen = Keda(TRIGGER, 2, ignore_null_values=False, fallback=Fallback(3, 6))
    assert walk(fallen, [400.0, NAN, NAN, NAN], 4) == [4, 4, 6, 6]
    slow = dataclasses.replace(fallen, polling_interval_s=60.0)
    assert walk(slow, [400.0, NAN, NAN, NAN, NAN], 4) == [4, 4, 4, 4, 6]
    higher = dataclasses.replace(fallen, fallback=Fallback(3, 2, "currentReplicasIfHigher"))
    assert walk(higher, [400.0, NAN, NAN, NAN], 4) == [4, 4, 4, 4]


def test_the_largest_of_several_triggers_wins() -> None:
    """Two metrics of one object: the count is the larger one's, in either order."""
    two = (Metric("load", 100.0), Metric("queue", 5.0))
    for metrics in (two, two[::-1]):
        scaler = Keda(Hpa(metrics), min_replica_count=2)
        assert decide(scaler, view({"load": [800.0], "queue": [10.0]}, 4), None).count == 8
        assert decide(scaler, view({"load": [300.0], "queue": [35.0]}, 4), None).count == 7


@pytest.mark.parametrize(("how", "count"), [("sum", 9), ("max", 6), ("min", 3)])
def test_a_metric_of_several_readings(how: str, count: int) -> None:
    """Of 30 and, weighed, 60, at 10 an instance: the sum, the largest or the least of them."""
    metric = Metric("queue", 10.0, others=(Operand("load", 60.0, 0.1),), how=how)  # type: ignore[arg-type]
    scaler = Keda(Hpa((metric,)), min_replica_count=1)
    assert scaler.signals == ("queue", "load")
    assert decide(scaler, view({"queue": [30.0], "load": [600.0]}, 5, window_s=360.0), None).count == count


def test_what_is_empty_in_a_query_is_all_of_it_and_in_a_formula_one_trigger() -> None:
    """As PromQL adds series, and as KEDA hands 0 for each trigger that ignores null values."""
    whole = Metric("queue", 10.0, others=(Operand("load", 60.0),))
    each = dataclasses.replace(whole, each=True)
    seen = view({"queue": [30.0], "load": [NAN]}, 3)
    assert (whole.value(seen), whole.value(seen, 0.0)) == (None, 0.0)
    assert (each.value(seen), each.value(seen, 0.0)) == (None, 30.0)


def test_keda_rests_at_zero_after_its_cooldown_and_wakes() -> None:
    """cooldownPeriod counts from the last active poll and only leads to zero; activity wakes at once."""
    counts = walk(Keda(TRIGGER), [300.0] + [0.0] * 6 + [250.0], 3)
    assert counts[-2:] == [0, 1]
    assert counts.index(0) == 5
    idle = Keda(TRIGGER, min_replica_count=3, idle_replica_count=0)
    assert walk(idle, [300.0] + [0.0] * 6 + [250.0], 3)[-2:] == [0, 3]
    assert decide(Keda(TRIGGER, activation_threshold=50.0), view([40.0], 0), None).count == 0


def test_aibrix_apa_tolerances_and_rates() -> None:
    """Within 10 % nothing; otherwise in proportion, at most doubled or halved."""
    apa = Apa("load", 100.0)
    loads = (440.0, 441.0, 2000.0, 370.0, 361.0, 10.0)
    assert [decide_apa(apa, view([v], 4), None).count for v in loads] == [4, 5, 8, 4, 4, 2]
    assert decide_apa(apa, view([NAN], 4), None).count == 4
    assert decide_apa(dataclasses.replace(apa, total=False), view([150.0], 4), None).count == 6


def test_aibrix_kpa_panics_and_does_not_shrink_until_the_surge_is_in_the_stable_window() -> None:
    """A burst over twice the pool is followed by the panic window and held for the stable window."""
    kpa = Kpa("load", 100.0, down_cooldown_s=0.0)
    counts = walk(kpa, [400.0, 400.0, 900.0] + [100.0] * 6, 4)
    assert counts[:3] == [4, 4, 8]
    assert counts[3:6] == [8, 8, 8]
    assert counts[-1] < 8


def test_dynamo_thresholds_move_one_worker() -> None:
    """Prefill by queued tokens of a worker ÷ context, decode by KV usage; nothing while workers start."""
    prefill = DynamoLoad("queued_tokens", context_tokens=1000.0)
    decode = DynamoLoad("kv_usage")

    def asks(parameters: DynamoLoad, value: float, role: str, ready: float = 4.0) -> int:
        return decide_load(
            parameters, view({parameters.signal: [value]}, 4, ready=ready, role=role), None
        ).count

    assert [asks(prefill, v, "prefill") for v in (4000.0, 3999.0, 400.0, 399.0)] == [5, 4, 4, 3]
    assert [asks(decode, v, "decode") for v in (1.01, 1.0, 0.6, 0.59)] == [5, 4, 4, 3]
    assert asks(decode, 1.5, "decode", ready=3.0) == 4
    eager = dataclasses.replace(decode, optimization_target="latency")
    assert [asks(eager, v, "decode") for v in (0.41, 0.2, 0.09)] == [5, 4, 3]


def test_dynamo_thresholds_may_be_set_by_hand() -> None:
    """Queued tokens of a worker for prefill, KV usage for decode, without a context length."""
    tokens = DynamoLoad("load", limits=(18_000.0, 4000.0))
    counts = {
        queue: decide_load(tokens, view([queue], 2, role="prefill"), None).count
        for queue in (36_000.0, 20_000.0, 7000.0)
    }
    assert counts == {36_000.0: 3, 20_000.0: 2, 7000.0: 1}
    usage = DynamoLoad("load", limits=(0.8, 0.4))
    assert [decide_load(usage, view([v], 2), None).count for v in (0.85, 0.6, 0.3)] == [3, 2, 1]


def test_dynamo_throughput_acts_once_an_interval() -> None:
    """Every 180 s, on the mean of the interval."""
    assert walk(DynamoThroughput("load", 100.0), [450.0, 900.0, 900.0, 900.0, 900.0], 4) == [5, 5, 5, 9, 9]


def test_saturation_keeps_spare_room() -> None:
    """Out when spare KV or queue is short, in when the rest could carry it, never while replicas start."""

    def asks(kv: float, queue: float, desired: int = 4, ready: float | None = None) -> int:
        seen = view({"kv_usage": [kv], "queue_length": [queue]}, desired, ready=ready)
        return decide_saturation(Saturation(), seen, None).count

    assert asks(0.71, 0.0) == 5
    assert asks(0.5, 4 * 2.1) == 5
    assert asks(0.9, 0.0) == 5
    assert asks(0.52, 0.0) == 3
    assert asks(0.53, 0.0) == 4
    assert asks(0.9, 0.0, ready=3.0) == 4
    assert asks(0.1, 0.0, desired=1) == 1
    assert asks(NAN, 0.0) == 4


def test_saturation_of_one_pool_leads_the_other_by_the_ratio() -> None:
    """Prefill that can't be seen follows decode at 2 to 1, in its bounds; without a ratio nothing runs."""
    size = next(row.size for row in CONTROLLERS if row.name == "llmd_wva")
    decode_only = frozenset((signal, "decode") for signal in ("kv_usage", "queue_length"))
    scaler = size(sizing(readable=decode_only))
    assert isinstance(scaler, Autoscaler)
    assert scaler.note == "kv_usage of prefill is not recorded: prefill follows decode by the derived ratio"

    def asks(kv: float, desired: int) -> dict[str, int]:
        seen = {"decode": view({"kv_usage": [kv], "queue_length": [0.0]}, desired)}
        return step(scaler, seen, {})[0]

    assert asks(0.75, 4) == {"decode": 5, "prefill": 10}
    assert asks(0.52, 4) == {"decode": 3, "prefill": 6}
    assert asks(0.6, 4) == {"decode": 4, "prefill": 8}
    assert asks(0.75, 10) == {"decode": 10, "prefill": 20}
    tight = sizing(readable=decode_only, bounds={"prefill": (1, 7), "decode": (1, 10)})
    assert size(tight).follows["prefill"].most == 7
    assert size(sizing(readable=decode_only, ratio=None)) == (
        "kv_usage of prefill is not recorded, and no ratio is known to follow decode by"
    )
    assert size(sizing(readable=frozenset({("kv_usage", "decode")}))) == (
        "kv_usage of prefill is not recorded and queue_length of decode is not recorded"
    )
    assert size(sizing()).follows == {}
    prefill_only = frozenset((signal, "prefill") for signal in ("kv_usage", "queue_length"))
    assert size(sizing(readable=prefill_only)).follows["decode"].leader == "prefill"


def test_token_velocity_rounds_arrivals_up() -> None:
    """Arriving tokens ÷ velocity."""
    assert walk(TokenVelocity(100.0), [301.0, 50.0, NAN], 4, signal="arrived_tps") == [4, 1, 1]


@pytest.mark.parametrize(
    ("counts", "kept"),
    [((4, 2), (4, 2)), ((9, 2), (9, 5)), ((2, 5), (9, 5)), ((20, 10), (20, 10)), ((20, 1), (20, 10))],
)
def test_kthena_ratio(counts: tuple[int, int], kept: tuple[int, int]) -> None:
    """Decode grows until the prefill count fits; a prefill count below the band grows to its lower end."""
    band = RatioConstraint(1.8, 2.2, (1, 20), (1, 10))
    found = within_ratio({"prefill": counts[0], "decode": counts[1]}, band)
    assert (found["prefill"], found["decode"]) == kept


@given(st.integers(1, 30), st.integers(1, 15), st.floats(0.3, 3.0), st.floats(1.0, 1.6), st.integers(5, 40))
def test_kthena_ratio_is_in_the_band_and_the_bounds(
    prefill: int, decode: int, low: float, width: float, most: int
) -> None:
    """Whenever any whole pair in the bounds lies in the band, the answer is one."""
    band = RatioConstraint(low, low * width, (1, most), (1, most))
    found = within_ratio({"prefill": prefill, "decode": decode}, band)
    pairs = [(p, d) for d in range(1, most + 1) for p in range(1, most + 1) if low <= p / d <= low * width]
    if pairs:
        assert low - 1e-6 <= found["prefill"] / found["decode"] <= low * width + 1e-6
    else:
        assert found == {"prefill": prefill, "decode": decode}


def test_kthena_panic_lifts_the_rate_limit() -> None:
    """One instance or 100 % in 15 s at rest; past twice the pool up to eleven times of it."""
    role = Kthena((Metric("load", 100.0),), 1, 100)
    assert walk(role, [790.0], 4, window_s=15.0) == [8]
    assert walk(role, [3000.0], 4, window_s=15.0) == [30]
    assert walk(dataclasses.replace(role, panic_threshold=None), [3000.0], 4, window_s=15.0) == [8]
