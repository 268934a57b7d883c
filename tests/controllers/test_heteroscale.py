"""HeteroScale's rule: sizing, reading, dead band, rests, limits, guards, and what a missing metric may do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from controllers import reference_heteroscale as reference
from controllers.fleets import fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from hs_analysis.controllers.heteroscale import (
    WEEK_MINUTES,
    HeteroScale,
    HeteroScaleBatch,
    LatencyGuard,
    PoolRule,
    RatioUpkeep,
    follower_count,
    structure,
)
from hs_analysis.controllers.hpa import Operand, Surge
from hs_analysis.controllers.lanes import Orders, Why

DECODE = ("decode_tps", "decode")
TTFT = ("ttft", "prefill")
NAN = math.nan
PLAIN = PoolRule(
    scale_out_ratio=1.1, scale_in_ratio=0.8, rest_out_s=300.0, rest_in_s=600.0, most=100, start_up_s=240.0
)
TIERS = ((1.0, 0.1), (1.2, 0.2))


def control(
    *, decode: Mapping[str, Any] | None = None, prefill: Mapping[str, Any] | None = None, **changes: Any
) -> HeteroScale:
    """Return a decode-led control with round numbers: 100 tokens/s a decode instance, ratio 2."""
    pools = {
        "prefill": replace(PLAIN, **prefill or {}),
        "decode": replace(PLAIN, **{"signal": "decode_tps", "target": 100.0, **(decode or {})}),
    }
    return replace(HeteroScale(pools, RatioUpkeep("decode", 2.0, 0.2)), **changes)


def guarded(**changes: Any) -> HeteroScale:
    """Return the same with TTFT as the guard of prefill."""
    return control(prefill={"guards": (LatencyGuard("ttft", "prefill", 1.0, TIERS),)}, **changes)


def ask(
    batch: HeteroScale | HeteroScaleBatch,
    decode_tps: float | Sequence[float],
    prefill: int = 8,
    decode: int = 4,
    t_s: float = 0.0,
    ttft: float | None = None,
    **more: Any,
) -> tuple[dict[str, int], Orders]:
    """Return the counts that one lane asks for, and the orders."""
    rows = [decode_tps] if isinstance(decode_tps, float) else list(decode_tps)
    late = [NAN if ttft is None else ttft] * len(rows)
    if isinstance(batch, HeteroScale):
        batch = HeteroScaleBatch([batch])
    seen = fleet({DECODE: rows, TTFT: late}, {"prefill": prefill, "decode": decode}, t_s=t_s, **more)
    orders = batch.step(seen)
    return {role: int(count[0]) for role, count in orders.counts.items()}, orders


def why(orders: Orders, role: str) -> Why:
    """Return the code of a role in the first lane."""
    return Why(int(orders.code[role][0]))


@pytest.mark.parametrize(("total", "decode"), [(650.0, 7), (600.0, 6), (601.0, 7)])
def test_decode_signal_sizes_both_pools(total: float, decode: int) -> None:
    """D = ⌈total ÷ target⌉ and P = ⌈D × ratio⌉."""
    counts, orders = ask(control(), total)
    assert counts == {"decode": decode, "prefill": 2 * decode}
    assert (why(orders, "decode"), why(orders, "prefill")) == (Why.GROWS, Why.RATIO)
    assert orders.wanted["decode"][0] == total / 100


def test_prefill_signal_sizes_both_pools() -> None:
    """P = ⌈total ÷ target⌉ and D = ⌈P ÷ ratio⌉."""
    led = HeteroScale(
        {"prefill": replace(PLAIN, signal="work", target=50.0), "decode": PLAIN},
        RatioUpkeep("prefill", 2.0, 0.2),
    )
    orders = HeteroScaleBatch([led]).step(fleet({("work", "prefill"): [640.0]}, {"prefill": 8, "decode": 4}))
    assert (orders.counts["prefill"][0], orders.counts["decode"][0]) == (13, 7)


def test_two_signals_size_a_pool_each() -> None:
    """Without a ratio to keep nothing ties the pools together."""
    pair = HeteroScale(
        {
            "prefill": replace(PLAIN, signal="work", target=50.0),
            "decode": replace(PLAIN, signal="decode_tps", target=100.0),
        }
    )
    orders = HeteroScaleBatch([pair]).step(
        fleet({("work", "prefill"): [900.0], DECODE: [200.0]}, {"prefill": 8, "decode": 4})
    )
    assert (orders.counts["prefill"][0], orders.counts["decode"][0]) == (18, 2)


def test_growth_follows_the_newest_minute_and_shrinking_the_highest_of_five() -> None:
    """One minute of load is followed at once; one high minute of the last five forbids a scale-in."""
    assert ask(control(), [100.0, 100.0, 100.0, 100.0, 800.0])[0]["decode"] == 8
    peak = [100.0, 380.0, 100.0, 100.0, 100.0, 100.0]
    assert ask(control(), peak)[0]["decode"] == 4
    assert ask(control(), [*peak, 100.0])[0]["decode"] == 1
    partly = ask(control(), [100.0, 250.0, 100.0, 100.0, 100.0])
    assert (partly[0]["decode"], partly[1].wanted["decode"][0]) == (3, 2.5)
    short = control(over_s=120.0)
    assert ask(short, [*peak[:-2]])[0]["decode"] == 1


def test_rows_finer_than_the_window_are_averaged_and_coarser_ones_are_used_as_they_are() -> None:
    """Of 15-s rows four make a reading; a row of 300 s is a reading of its own."""
    fine = [0.0, 0.0, 0.0, 0.0, 400.0, 800.0, 800.0, 800.0]
    assert ask(control(), fine, window_s=15.0)[0]["decode"] == 7
    assert ask(control(), [900.0, 100.0], window_s=300.0)[0]["decode"] == 1
    gap = [0.0, 700.0, NAN, NAN]
    assert ask(control(), gap, window_s=15.0)[1].wanted["decode"][0] == 3.5


def test_lanes_may_read_windows_of_their_own() -> None:
    """One batch holds lanes that average over one and two minutes, and look back over one and five."""
    found = [control(window_s=w, over_s=o) for w, o in ((60.0, 300.0), (120.0, 60.0), (60.0, 60.0))]
    rows = [390.0, 100.0, 100.0, 300.0, 100.0]
    seen = fleet({DECODE: rows, TTFT: [NAN] * 5}, {"prefill": [8] * 3, "decode": [4] * 3})
    orders = HeteroScaleBatch(found).step(seen)
    assert orders.counts["decode"].tolist() == [4, 2, 1]


def test_mixed_pool_has_one_count() -> None:
    """A single pool is sized alone."""
    one = HeteroScale({"mixed": replace(PLAIN, signal="decode_tps", target=100.0)})
    orders = HeteroScaleBatch([one]).step(fleet({("decode_tps", "mixed"): [730.0]}, {"mixed": 3}))
    assert orders.counts["mixed"][0] == 8


def test_pool_mean_scales_current_by_value_over_target() -> None:
    """A utilisation of 0.9 against 0.6 asks for half as many again, counted on instances that report."""
    util = control(decode={"target": 0.6, "adds_up": "mean"})
    assert ask(util, 0.9)[0]["decode"] == 6
    assert ask(util, 0.9, 12, 6, reporting={"decode": [4.0]})[0]["decode"] == 6
    assert why(ask(util, 0.9, reporting={"decode": [NAN]})[1], "decode") == Why.MISSING


def test_dead_band_holds_inside_and_acts_outside() -> None:
    """Nothing happens between the two ratios, both edges included."""
    for total in (400.0, 440.0, 320.0):
        assert ask(control(), total)[0] == {"prefill": 8, "decode": 4}
    assert ask(control(), 800.0, 20, 10)[0] == {"prefill": 20, "decode": 10}
    assert ask(control(), 441.0)[0]["decode"] == 5
    assert ask(control(), 299.0)[0]["decode"] == 3


def test_rests_count_from_the_last_action() -> None:
    """Out waits for out; in waits for both; out after in need not wait."""
    batch = HeteroScaleBatch([control()])
    ask(batch, 600.0)
    assert why(ask(batch, 900.0, 12, 6, t_s=299.0)[1], "decode") == Why.RESTS
    assert ask(batch.take(np.array([0])), 900.0, 12, 6, t_s=300.0)[0]["decode"] == 9
    assert ask(batch, 100.0, 12, 6, t_s=599.0)[0]["decode"] == 6
    assert ask(batch, 100.0, 12, 6, t_s=600.0)[0]["decode"] == 1
    assert ask(batch, 900.0, t_s=660.0)[0]["decode"] == 9


def test_growth_needs_no_rest_by_default() -> None:
    """Instances asked for and not ready are counted, so that each minute may ask for more."""
    batch = HeteroScaleBatch([HeteroScale({"decode": PoolRule("decode_tps", 100.0)})])
    counts = [
        batch.step(fleet({DECODE: [load]}, {"decode": count}, t_s=t)).counts["decode"][0]
        for t, load, count in ((0.0, 600.0, 4), (60.0, 900.0, 6), (120.0, 5000.0, 9), (180.0, 100.0, 50))
    ]
    assert counts == [6, 9, 50, 50]


def test_scale_in_that_is_off_never_removes() -> None:
    """Where the rest after an action is unknown and no default was set, instances stay."""
    off = control(decode={"rest_in_s": None})
    counts, orders = ask(off, 10.0)
    assert (counts["decode"], why(orders, "decode")) == (4, Why.DISABLED)
    assert ask(off, 900.0)[0]["decode"] == 9


def test_step_limits_and_dampening() -> None:
    """Steps out round up, steps in round down, one instance at least; dampening shrinks the change."""
    limits = control(decode={"max_out_fraction": 0.25, "max_in_fraction": 0.10})
    counts = [
        ask(limits, load, 2 * decode, decode)[0]["decode"]
        for load, decode in ((3000.0, 12), (3000.0, 10), (100.0, 29), (100.0, 3))
    ]
    assert counts == [15, 13, 27, 2]
    assert why(ask(limits, 3000.0, 24, 12)[1], "decode") == Why.STEP_LIMIT
    assert ask(control(decode={"dampening": 0.5}), 900.0)[0]["decode"] == 7


def test_follower_moves_in_the_leaders_direction() -> None:
    """A pool that a guard grew is not shrunk by a scale-out of its leader."""
    assert ask(control(), 500.0, 12)[0] == {"decode": 5, "prefill": 12}


def test_ratio_is_kept_within_its_tolerance() -> None:
    """A follower off by more than the tolerance comes back without the leader; inside it stays."""
    assert ask(control(), 400.0, 10)[0]["prefill"] == 8
    assert ask(control(), 400.0, 6)[0]["prefill"] == 8
    assert ask(control(upkeep=RatioUpkeep("decode", 2.0, 1.0)), 400.0, 10)[0]["prefill"] == 10


def test_guards_add_by_tier_and_veto_scale_in() -> None:
    """Above the limit the worst tier adds to the guard's pool, and nothing shrinks."""
    counts, orders = ask(guarded(), 400.0, 20, 10, ttft=1.1)
    assert counts == {"decode": 10, "prefill": 22}
    assert (why(orders, "prefill"), why(orders, "decode")) == (Why.GUARD, Why.VETOED)
    assert ask(guarded(), 1000.0, 20, 10, ttft=1.3)[0] == {"decode": 10, "prefill": 24}
    assert ask(guarded(), 400.0, 20, 10, ttft=0.9)[0] == {"decode": 4, "prefill": 8}


def test_guard_waits_for_what_it_asked_for() -> None:
    """Instances asked for less than a start-up ago can't have helped yet."""
    batch = HeteroScaleBatch(
        [
            control(
                prefill={"guards": (LatencyGuard("ttft", "prefill", 1.0, TIERS),), "rest_out_s": 60.0},
                decode={"rest_out_s": 60.0},
            )
        ]
    )
    ask(batch, 1000.0, 20, 10, ttft=2.0)
    assert ask(batch, 1000.0, 24, 10, t_s=239.0, ttft=2.0)[0]["prefill"] == 24
    assert ask(batch, 1000.0, 24, 10, t_s=240.0, ttft=2.0)[0]["prefill"] == 29


def test_missing_guard_forbids_scale_in_unless_idle() -> None:
    """What can't be seen can't be shown safe; an idle pool has no latency to see."""
    counts, orders = ask(guarded(), 100.0)
    assert (counts["decode"], why(orders, "decode")) == (4, Why.BLIND)
    assert ask(guarded(), 0.0)[0]["decode"] == 1


def test_a_guard_without_a_limit_watches_nothing() -> None:
    """Neither a latency that is missing, high or not known holds a pool that shrinks."""
    free = control(prefill={"guards": (LatencyGuard("ttft", "prefill", math.inf, TIERS),)})
    for ttft in (None, 50.0, math.inf):
        counts, orders = ask(free, 200.0, t_s=10_000.0, ttft=ttft)
        assert counts == ask(control(), 200.0, t_s=10_000.0)[0]
        assert why(orders, "decode") == Why.SHRINKS


def test_missing_metric_holds_both_pools_but_guards_still_add() -> None:
    """Without the newest reading nothing is removed, however low those before; latency may grow its pool."""
    for rows in ([NAN], [10.0, 10.0, NAN]):
        counts, orders = ask(guarded(), rows, 20, 10, ttft=0.5)
        assert (counts, why(orders, "decode")) == ({"prefill": 20, "decode": 10}, Why.MISSING)
        assert ask(guarded(), rows, 20, 10, ttft=1.3)[0] == {"prefill": 24, "decode": 10}


def test_soft_scale_in_restores_on_a_breach_and_ends_otherwise() -> None:
    """Instances under observation come back at once on a breach, and end after their time."""
    batch = HeteroScaleBatch([guarded(observe_s=120.0)])
    counts, orders = ask(batch, 200.0, ttft=0.5)
    assert counts == {"decode": 2, "prefill": 4}
    assert orders.draining["prefill"][0] == 4
    over = batch.take(np.array([0]))
    counts, orders = ask(batch, 200.0, 4, 2, t_s=60.0, ttft=1.5)
    assert (counts["prefill"], why(orders, "prefill")) == (8, Why.RESTORED)
    assert (orders.restored["prefill"][0], orders.draining["prefill"][0]) == (4, 0)
    assert ask(over, 200.0, 4, 2, t_s=120.0, ttft=0.5)[1].draining["prefill"][0] == 0
    gone = ask(over, 200.0, 4, 2, t_s=180.0, ttft=1.5)[1]
    assert all(restored[0] == 0 for restored in gone.restored.values())


def test_bounds_stop_both_pools_and_a_pool_above_is_not_forced_down() -> None:
    """Counts end at the bounds; the follower follows the bounded leader."""
    bounded = control(prefill={"least": 2, "most": 11}, decode={"least": 2, "most": 6})
    counts, orders = ask(bounded, 5000.0)
    assert (counts, why(orders, "decode")) == ({"decode": 6, "prefill": 11}, Why.BOUND)
    assert ask(bounded, 1.0)[0] == {"decode": 2, "prefill": 4}
    assert ask(bounded, 900.0, 20, 9)[0]["decode"] == 9
    assert ask(bounded, NAN, 1, 1)[0] == {"prefill": 2, "decode": 2}


def test_hold_mode_changes_nothing() -> None:
    """A control on hold keeps every count and needs no reading."""
    held = control(mode="hold")
    assert ask(held, 5000.0)[0] == {"prefill": 8, "decode": 4}
    assert HeteroScaleBatch([held]).keys == ()


def test_periodic_mode_follows_the_plan_of_the_week() -> None:
    """The minute of the week counts from Monday 00:00 UTC; without a count the pool keeps its own."""
    decode = [NAN] * WEEK_MINUTES
    decode[3 * 1440 + 9 * 60] = 6.0
    planned = control(mode="periodic", plan={"decode": tuple(decode)})
    thursday = 0.0  # 1970-01-01
    batch = HeteroScaleBatch([planned, planned])
    times = np.array([thursday + 9 * 3600 + 59, thursday + 9 * 3600 + 60])
    orders = batch.step(fleet({}, {"prefill": 8, "decode": 4}, t_s=times))
    assert orders.counts["decode"].tolist() == [6, 4]
    assert orders.code["decode"].tolist() == [Why.PLANNED, Why.NO_PLAN]
    assert orders.counts["prefill"].tolist() == [8, 8]


def test_a_role_that_is_not_there_and_one_without_parameters_are_left_alone() -> None:
    """A control of two pools on a fleet of one more and one fewer."""
    orders = HeteroScaleBatch([control()]).step(fleet({DECODE: [900.0]}, {"decode": 4, "mixed": 3}))
    assert set(orders.counts) == {"decode"}


def test_rounding_up_ignores_float_noise() -> None:
    """0.1 × 3 ÷ 0.1 is three instances, not four; seven at 9 ÷ 7 are followed by nine."""
    assert ask(control(decode={"target": 0.1}), 0.1 * 3, 8, 2)[0]["decode"] == 3
    assert follower_count("decode", np.array([7.0]), np.array([9 / 7]))[0] == 9
    assert ask(control(), 0.0)[0]["decode"] == 1


COUNTS = st.integers(2, 40)
TOTALS = st.floats(0.0, 1e4)


@given(total=TOTALS, unit=st.floats(1e-3, 1e3), prefill=COUNTS, decode=COUNTS)
def test_units_change_nothing(total: float, unit: float, prefill: int, decode: int) -> None:
    """Scaling signal and target together leaves every count as it is, away from rounding edges."""
    ratio = total / 100.0
    if min(abs(ratio - round(ratio)), abs(ratio / decode - 1.1), abs(ratio / decode - 0.8)) < 1e-6:
        return
    scaled = control(decode={"target": 100.0 * unit})
    assert ask(control(), total, prefill, decode)[0] == ask(scaled, total * unit, prefill, decode)[0]


@given(first=TOTALS, second=TOTALS, decode=COUNTS)
def test_more_load_never_asks_for_fewer(first: float, second: float, decode: int) -> None:
    """The wanted count is monotone in the signal."""
    low, high = (ask(control(), v, 2 * decode, decode)[0] for v in sorted((first, second)))
    assert low["decode"] <= high["decode"]
    assert low["prefill"] <= high["prefill"]


NUMBERS = {
    "scale_out_ratio": st.floats(1.0, 1.4),
    "scale_in_ratio": st.floats(0.3, 1.0),
    "rest_out_s": st.sampled_from([0.0, 60.0, 300.0]),
    "rest_in_s": st.sampled_from([None, 0.0, 120.0, 300.0]),
    "dampening": st.sampled_from([1.0, 0.5, 0.3]),
    "max_out_fraction": st.sampled_from([None, 0.25, 1.0]),
    "max_in_fraction": st.sampled_from([None, 0.1, 0.5]),
    "least": st.integers(0, 3),
    "most": st.sampled_from([None, 6, 12, 40]),
    "start_up_s": st.sampled_from([0.0, 120.0, 240.0]),
}
QUEUES = {"prefill": "queue", "decode": "queue@prefill"}
"""What is added to the signals of both pools: the queue of one of them."""

GUARD = st.builds(
    LatencyGuard,
    st.just("ttft"),
    st.just("prefill"),
    st.floats(0.5, 2.0),
    st.tuples(
        st.tuples(st.just(1.0), st.floats(0.05, 0.3)), st.tuples(st.floats(1.1, 1.5), st.floats(0.1, 0.6))
    ),
)
TBT = st.builds(
    LatencyGuard, st.just("tbt"), st.just("decode"), st.floats(0.03, 0.06), st.just(((1.0, 0.2),))
)


def controls(shape: str) -> st.SearchStrategy[HeteroScale]:
    """Return controls of one structure: numbers differ, signals and guards do not."""
    mean = "mean" if shape == "mean" else "sum"
    leader = {"decode leads": "decode", "prefill leads": "prefill"}.get(shape)
    signals = {"prefill": ("work", 50.0), "decode": ("decode_tps", 100.0)}
    if leader:
        signals = {leader: signals[leader]}

    def pool(role: str, guards: st.SearchStrategy[Any]) -> st.SearchStrategy[PoolRule]:
        name, target = signals.get(role, ("", NAN))
        queues = st.builds(Operand, st.just(QUEUES.get(role, "")), st.just(180.0), st.floats(0.1, 5.0))
        others = st.tuples(queues) if shape == "waits" else st.just(())
        return st.builds(
            PoolRule, st.just(name), st.just(0.5 if mean == "mean" else target), st.just(mean), **NUMBERS,
            guards=guards, others=others,
        )  # fmt: skip

    pools = st.fixed_dictionaries(
        {
            "prefill": pool("prefill", st.tuples(GUARD) if shape != "pair" else st.just(())),
            "decode": pool("decode", st.tuples(TBT, TBT)),
        }
    )
    upkeep = st.builds(RatioUpkeep, st.just(leader), st.floats(0.5, 4.0), st.floats(0.0, 0.6))
    return st.builds(
        HeteroScale,
        pools,
        upkeep if leader else st.none(),
        st.sampled_from([60.0, 120.0]),
        st.sampled_from([60.0, 300.0, 600.0]),
        st.sampled_from([None, 120.0, 300.0]),
        surge=st.none() | st.builds(Surge, st.sampled_from([60.0, 180.0]), st.sampled_from([0.8, 1.1])),
    )


def loads(rng: np.random.Generator, rows: int, lanes: int, level: float) -> np.ndarray:
    """Return readings that climb, fall, stop and are missing."""
    walk = level * np.exp(np.cumsum(0.35 * rng.standard_normal((rows, lanes)), axis=0))
    walk[rng.random((rows, lanes)) < 0.12] = NAN
    walk[rng.random((rows, lanes)) < 0.04] = 0.0
    return walk


def walk_both(found: Sequence[HeteroScale], seed: int, row_s: float, rows: int = 40) -> set[Why]:
    """Walk a batch and the plain rule side by side; return the codes that were met."""
    rng, lanes = np.random.default_rng(seed), len(found)
    mean = found[0].pools["decode"].adds_up == "mean"
    values = {
        DECODE: loads(rng, rows, lanes, 0.5 if mean else 800.0),
        ("work", "prefill"): loads(rng, rows, lanes, 0.5 if mean else 600.0),
        TTFT: loads(rng, rows, lanes, 0.7),
        ("tbt", "decode"): loads(rng, rows, lanes, 0.03),
        ("queue", "prefill"): loads(rng, rows, lanes, 300.0),
    }
    desired = {role: rng.integers(0, 12, lanes).astype(float) for role in ("prefill", "decode")}
    reporting = {role: np.maximum(1.0, rng.integers(0, 12, (rows, lanes))) for role in desired}
    batch, memories, codes = HeteroScaleBatch(found), [{} for _ in found], set()
    order = rng.permutation(lanes)
    for row in range(1, rows):
        if row == rows // 2:  # the same lanes, shuffled, go on
            batch, found = batch.take(order), [found[lane] for lane in order]
            memories = [memories[lane] for lane in order]
        t_s = np.full(lanes, row * row_s)
        seen = {key: table[:row] for key, table in values.items()}
        running = {role: table[:row] for role, table in reporting.items()}
        orders = batch.step(fleet(seen, desired, t_s=t_s, window_s=row_s, reporting=running))
        for lane, one in enumerate(found):
            plain = reference.Seen(
                t_s[lane],
                row_s,
                {key: table[:, lane].tolist() for key, table in seen.items()},
                {role: int(count[lane]) for role, count in desired.items()},
                {role: table[:, lane].tolist() for role, table in running.items()},
            )
            asked, memories[lane] = reference.decide(one, plain, memories[lane])
            for role, expected in asked.items():
                where = (row, lane, role)
                assert orders.counts[role][lane] == expected.count, where
                assert orders.code[role][lane] == expected.code, where
                wanted = orders.wanted[role][lane]
                assert (None if np.isnan(wanted) else wanted) == pytest.approx(expected.wanted), where
                if orders.draining:
                    assert orders.draining[role][lane] == expected.draining, where
                    assert orders.restored[role][lane] == expected.restored, where
                codes.add(expected.code)
        desired = {role: orders.counts[role] for role in desired}
    return codes


@settings(max_examples=40)
@given(data=st.data(), shape=st.sampled_from(["decode leads", "prefill leads", "pair", "mean", "waits"]))
def test_many_lanes_decide_as_one_rule_does(data: st.DataObject, shape: str) -> None:
    """Count, reason and memory of every lane at every row, whatever the numbers and readings."""
    found = data.draw(st.lists(controls(shape), min_size=1, max_size=4))
    assert len({structure(one) for one in found}) == 1
    walk_both(found, data.draw(st.integers(0, 10**6)), data.draw(st.sampled_from([15.0, 60.0, 300.0])), 25)


def test_every_reason_is_met_on_seeded_walks() -> None:
    """The walks of both rules go through each of the rule's codes."""
    met: set[Why] = set()
    strong = {"max_out_fraction": 0.25, "max_in_fraction": 0.5, "rest_out_s": 120.0, "rest_in_s": 120.0}
    for seed in range(4):
        found = [
            replace(guarded(decode=strong | {"least": 2, "most": 9}), observe_s=300.0),
            replace(guarded(decode=strong | {"rest_in_s": None}), observe_s=None),
            guarded(decode={"rest_out_s": 0.0, "rest_in_s": 60.0}),
        ]
        met |= walk_both(found, seed, 60.0, 80)
    assert met >= {
        Why.HOLDS, Why.GROWS, Why.SHRINKS, Why.MISSING, Why.RESTS, Why.STEP_LIMIT, Why.VETOED, Why.BLIND,
        Why.GUARD, Why.RESTORED, Why.RATIO, Why.BOUND, Why.DISABLED,
    }  # fmt: skip


def test_what_is_added_counts_with_its_own_range_and_weight() -> None:
    """4 instances serve 400; 60 that wait in the mean of three minutes, 10 tokens/s each, ask for 6 more."""
    waits = control(decode={"others": (Operand("queue", 180.0, 10.0),)}, upkeep=None)
    served = [400.0] * 6
    for queue, expected in (
        ([0.0] * 6, 4), ([0.0] * 3 + [0.0, 60.0, 120.0], 10), ([NAN] * 3 + [NAN, NAN, 60.0], 10),
        ([60.0] * 3 + [NAN] * 3, 4),
    ):  # fmt: skip
        seen = fleet({DECODE: served, ("queue", "decode"): queue}, {"decode": 4}, t_s=360.0)
        assert int(HeteroScaleBatch([waits]).step(seen).counts["decode"][0]) == expected, queue


def test_the_highest_sum_of_the_last_minutes_holds_a_pool() -> None:
    """A queue that is gone keeps the pool for the time of which the highest reading decides."""
    waits = control(decode={"others": (Operand("queue", 60.0, 10.0),), "rest_in_s": 0.0}, upkeep=None)
    for ago, expected in ((4, 10), (5, 4)):
        queue = [0.0] * (9 - ago) + [60.0] + [0.0] * ago
        seen = fleet({DECODE: [400.0] * 10, ("queue", "decode"): queue}, {"decode": 10}, t_s=600.0)
        assert int(HeteroScaleBatch([waits]).step(seen).counts["decode"][0]) == expected, ago


def test_readings_reach_as_far_as_the_longest_range_that_is_added() -> None:
    """The highest of five minutes of a mean over ten minutes stands on fifteen."""
    alone = control(upkeep=None)
    added = control(decode={"others": (Operand("queue", 600.0, 1.0),)}, upkeep=None)
    assert HeteroScaleBatch([alone]).reach_s == 360.0
    assert HeteroScaleBatch([added]).reach_s == 900.0


@pytest.mark.parametrize("mode", ["hold", "periodic"])
def test_other_modes_decide_as_one_rule_does(mode: Any) -> None:
    """A plan with holes, and a hold, inside bounds."""
    rng = np.random.default_rng(0)
    plan = tuple(np.where(rng.random(WEEK_MINUTES) < 0.2, NAN, rng.integers(0, 9, WEEK_MINUTES)).tolist())
    walk_both(
        [control(mode=mode, plan={"decode": plan}), control(mode=mode, plan={"prefill": plan})], 1, 60.0
    )
