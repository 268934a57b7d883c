"""The decision rule: sizing, dead band, cooldowns, limits, guards, and what a missing metric may do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import guard, plain_policy, primary

from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Highest,
    Hysteresis,
    PeriodicEntry,
    Ratio,
    SoftScaleIn,
    Step,
)
from hs_analysis.policy.rule import Observation, State, decide, follower_count, round_up, wanted

DECODE = ("decode_tps", "decode")


def see(
    value: float | None, prefill: int = 8, decode: int = 4, t_s: float = 0.0, **more: object
) -> Observation:
    """Return an observation of decode TPS."""
    return Observation(t_s, {DECODE: value}, {"prefill": prefill, "decode": decode}, **more)


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (650.0, {"decode": 7, "prefill": 14}),
        (600.0, {"decode": 6, "prefill": 12}),
        (601.0, {"decode": 7, "prefill": 14}),
    ],
)
def test_decode_primary_sizes_both_pools(total: float, expected: dict[str, int]) -> None:
    """D = ⌈total ÷ target⌉ and P = ⌈D × ratio⌉."""
    decision, _ = decide(plain_policy(), see(total), State())
    assert decision.counts == expected
    assert decision.direction == "out"


def test_prefill_primary_sizes_both_pools() -> None:
    """P = ⌈total ÷ target⌉ and D = ⌈P ÷ ratio⌉."""
    policy = plain_policy(primaries=(primary("prefill_tps_effective", "prefill", 50.0),))
    seen = Observation(0.0, {("prefill_tps_effective", "prefill"): 640.0}, {"prefill": 8, "decode": 4})
    assert decide(policy, seen, State())[0].counts == {"prefill": 13, "decode": 7}


def test_two_primaries_size_a_pool_each() -> None:
    """With two primaries the ratio decides nothing."""
    policy = plain_policy(
        primaries=(primary("prefill_tps_effective", "prefill", 50.0), primary(*DECODE, 100.0))
    )
    values = {("prefill_tps_effective", "prefill"): 900.0, DECODE: 200.0}
    seen = Observation(0.0, values, {"prefill": 8, "decode": 4})
    assert decide(policy, seen, State())[0].counts == {"prefill": 18, "decode": 2}


@pytest.mark.parametrize(("total", "need"), [(500.0, 10.0), (700.0, 12.0), (1000.0, 12.0), (1100.0, 14.0)])
def test_room_for_growth_ends_at_the_highest_total_seen(total: float, need: float) -> None:
    """At a target of 50 1,000 would need 20; without growth 12 do, and beyond it one more per 50."""
    seen = replace(primary(*DECODE, 50.0), highest=Highest(1000.0, 12.0))
    assert wanted(seen, see(total)) == pytest.approx(need)
    assert wanted(replace(seen, highest=None), see(total)) == pytest.approx(total / 50.0)


def test_small_pools_shrink_only_for_a_whole_instance_and_noise() -> None:
    """Below its usual 8 a band of 0.825 leaves 1 ÷ n and half its noise, 0.025, wider by √(8 ÷ n), free."""
    band = Hysteresis(1.05, 0.825, "", 8.0)
    assert band.scale_in_at(8) == band.scale_in_at(20) == 0.825
    assert band.scale_in_at(4) == pytest.approx(1 - 0.25 - 0.025 * math.sqrt(2))
    assert Hysteresis(1.05, 0.825).scale_in_at(2) == 0.825
    policy = plain_policy(primaries=(primary(*DECODE, 100.0),), pd_ratio=None, hysteresis={"decode": band})
    edge = 4 * band.scale_in_at(4)
    for need, after in ((edge + 0.01, 4), (edge - 0.01, 3)):
        assert decide(policy, see(100.0 * need), State())[0].counts["decode"] == after


@given(out=st.floats(1.0, 1.5), down=st.floats(0.0, 1.0), usual=st.floats(1.0, 50.0), n=st.integers(2, 60))
def test_what_is_left_after_a_scale_in_is_not_asked_back(
    out: float, down: float, usual: float, n: int
) -> None:
    """A pool shrinks only where it needs less than what remains, and a smaller one no sooner."""
    band = Hysteresis(out, down, "", usual)
    assert band.scale_in_at(n) <= min(down, 1.0 - 1.0 / n)
    assert band.scale_in_at(n) <= band.scale_in_at(n + 1)


def test_mixed_pool_has_one_count() -> None:
    """A single pool is sized alone."""
    policy = plain_policy(
        primaries=(primary("decode_tps", "mixed", 100.0),),
        pd_ratio=None,
        bounds={"mixed": Bounds(1, 50)},
        cooldown={"mixed": Cooldown(0.0, 0.0)},
    )
    seen = Observation(0.0, {("decode_tps", "mixed"): 730.0}, {"mixed": 3})
    assert decide(policy, seen, State())[0].counts == {"mixed": 8}


def test_pool_mean_scales_current_by_value_over_target() -> None:
    """A utilisation of 0.9 against 0.6 asks for half as many again, counted on instances that report."""
    policy = plain_policy(primaries=(primary("gpu_util", "decode", 0.6, "mean"),))
    seen = Observation(0.0, {("gpu_util", "decode"): 0.9}, {"prefill": 8, "decode": 4})
    assert decide(policy, seen, State())[0].counts["decode"] == 6
    starting = replace(seen, desired={"prefill": 12, "decode": 6}, reporting={"decode": 4.0})
    assert decide(policy, starting, State())[0].counts["decode"] == 6


def test_dead_band_holds_inside_and_acts_outside() -> None:
    """Nothing happens between the two ratios, both edges included."""
    for total in (400.0, 440.0, 320.0):
        assert decide(plain_policy(), see(total), State())[0].direction == "hold"
    assert decide(plain_policy(), see(800.0, prefill=20, decode=10), State())[0].direction == "hold"
    assert decide(plain_policy(), see(441.0), State())[0].counts["decode"] == 5
    assert decide(plain_policy(), see(299.0), State())[0].counts["decode"] == 3


def test_cooldowns_count_from_the_last_action() -> None:
    """Out waits for out; in waits for both; out after in need not wait."""
    policy = plain_policy()
    _, after_out = decide(policy, see(600.0), State())
    grown = {"prefill": 12, "decode": 6}
    assert decide(policy, see(900.0, **grown, t_s=299.0), after_out)[0].direction == "hold"
    assert decide(policy, see(900.0, **grown, t_s=300.0), after_out)[0].direction == "out"
    assert decide(policy, see(100.0, **grown, t_s=599.0), after_out)[0].direction == "hold"
    decision, after_in = decide(policy, see(100.0, **grown, t_s=600.0), after_out)
    assert decision.direction == "in"
    assert decide(policy, see(900.0, t_s=660.0), after_in)[0].direction == "out"


def test_unknown_scale_in_cooldown_never_removes() -> None:
    """Where the start-up time is unknown and no default was set, instances stay."""
    policy = plain_policy(cooldown={"decode": Cooldown(None, None)})
    assert decide(policy, see(10.0), State())[0].direction == "hold"
    assert decide(policy, see(900.0), State())[0].direction == "out"


def test_step_limits_and_dampening() -> None:
    """Steps out round up, steps in round down, one instance at least; dampening shrinks the change."""
    policy = plain_policy(step=Step(1.0, 0.25, 0.10))
    assert decide(policy, see(3000.0, 24, 12), State())[0].counts["decode"] == 15
    assert decide(policy, see(3000.0, 20, 10), State())[0].counts["decode"] == 13
    assert decide(policy, see(100.0, 58, 29), State())[0].counts["decode"] == 27
    assert decide(policy, see(100.0, 6, 3), State())[0].counts["decode"] == 2
    assert decide(plain_policy(step=Step(0.5, 1.0, 1.0)), see(900.0), State())[0].counts["decode"] == 7


def test_follower_moves_in_the_leaders_direction() -> None:
    """A pool that a guard grew is not shrunk by a scale-out of its leader."""
    decision, _ = decide(plain_policy(), see(500.0, prefill=12), State())
    assert decision.counts == {"decode": 5, "prefill": 12}


def test_ratio_is_kept_within_its_tolerance() -> None:
    """A follower off by more than the tolerance comes back without the leader; inside it stays."""
    assert decide(plain_policy(), see(400.0, prefill=10), State())[0].counts["prefill"] == 8
    assert decide(plain_policy(), see(400.0, prefill=6), State())[0].counts["prefill"] == 8
    loose = plain_policy(pd_ratio=Ratio(2, 1, 2.0, 1.0, 3.0, 1.0, "ok"))
    assert decide(loose, see(400.0, prefill=10), State())[0].counts["prefill"] == 10


def test_guards_add_by_tier_and_veto_scale_in() -> None:
    """Above the SLO the worst tier adds to the guard's pool, and nothing shrinks."""
    policy = plain_policy(guards=(guard(),))
    mild = decide(policy, see(400.0, 20, 10, latencies={("ttft", "prefill"): 1.1}), State())[0]
    assert mild.counts == {"decode": 10, "prefill": 22}
    severe = decide(policy, see(1000.0, 20, 10, latencies={("ttft", "prefill"): 1.3}), State())[0]
    assert severe.counts == {"decode": 10, "prefill": 24}
    calm = decide(policy, see(400.0, 20, 10, latencies={("ttft", "prefill"): 0.9}), State())[0]
    assert calm.direction == "in"


def test_guard_waits_for_what_it_asked_for() -> None:
    """Instances asked for less than a start-up ago can't have helped yet."""
    policy = plain_policy(
        guards=(guard(),), cooldown={"prefill": Cooldown(60.0, 600.0), "decode": Cooldown(60.0, 600.0)}
    )
    late = {("ttft", "prefill"): 2.0}
    _, state = decide(policy, see(1000.0, 20, 10, latencies=late), State())
    assert decide(policy, see(1000.0, 24, 10, t_s=239.0, latencies=late), state)[0].direction == "hold"
    assert decide(policy, see(1000.0, 24, 10, t_s=240.0, latencies=late), state)[0].counts["prefill"] == 29


def test_missing_guard_forbids_scale_in_unless_idle() -> None:
    """What can't be seen can't be shown safe; an idle pool has no latency to see."""
    policy = plain_policy(guards=(guard(),))
    blind = {("ttft", "prefill"): None}
    assert decide(policy, see(100.0, latencies=blind), State())[0].direction == "hold"
    assert decide(policy, see(0.0, latencies=blind), State())[0].direction == "in"


def test_missing_metric_holds_both_pools_but_guards_still_add() -> None:
    """Without the primary nothing is removed; latency may still grow its pool."""
    policy = plain_policy(guards=(guard(),))
    for missing in (None, math.nan):
        assert decide(policy, see(missing, 20, 10), State())[0].counts == {"prefill": 20, "decode": 10}
        late = see(missing, 20, 10, latencies={("ttft", "prefill"): 1.3})
        assert decide(policy, late, State())[0].counts == {"prefill": 24, "decode": 10}


def test_soft_scale_in_restores_on_a_breach_and_ends_otherwise() -> None:
    """Instances under observation come back at once when a guard is above its SLO, and end after the time."""
    policy = plain_policy(guards=(guard(),), soft_scale_in=SoftScaleIn(120.0, "ttft > 1 s"))
    calm, late = {("ttft", "prefill"): 0.5}, {("ttft", "prefill"): 1.5}
    decision, state = decide(policy, see(200.0, latencies=calm), State())
    assert decision.counts == {"decode": 2, "prefill": 4}
    assert state.of("prefill").draining == 4
    again, restored = decide(policy, see(200.0, 4, 2, t_s=60.0, latencies=late), state)
    assert again.counts["prefill"] == 8
    assert next(r.restored for r in again.roles if r.role == "prefill") == 4
    assert restored.of("prefill").draining == 0
    _, over = decide(policy, see(200.0, 4, 2, t_s=120.0, latencies=calm), state)
    assert over.of("prefill").draining == 0
    gone, _ = decide(policy, see(200.0, 4, 2, t_s=180.0, latencies=late), over)
    assert all(r.restored == 0 for r in gone.roles)


def test_bounds_stop_both_pools_and_a_pool_above_is_not_forced_down() -> None:
    """Counts end at the bounds; the follower follows the bounded leader."""
    policy = plain_policy(bounds={"prefill": Bounds(2, 11), "decode": Bounds(2, 6)})
    assert decide(policy, see(5000.0), State())[0].counts == {"decode": 6, "prefill": 11}
    assert decide(policy, see(1.0), State())[0].counts == {"decode": 2, "prefill": 4}
    assert decide(policy, see(900.0, 20, 9), State())[0].counts["decode"] == 9
    assert decide(policy, see(None, 1, 1), State())[0].counts == {"prefill": 2, "decode": 2}


def test_every_role_has_a_reason_when_it_acts() -> None:
    """Words say what was seen, what was wanted and what was done."""
    decision, _ = decide(plain_policy(), see(650.0), State())
    assert decision.reason == (
        "prefill: ratio 2.000 to 7 decode: 14; "
        "decode: decode_tps asks for 6.50 of 4, ratio 1.625 above 1.100: out to 7"
    )


def test_hold_mode_changes_nothing() -> None:
    """A policy on hold keeps every count."""
    decision, _ = decide(plain_policy(mode="hold"), see(5000.0), State())
    assert decision.counts == {"prefill": 8, "decode": 4}


def test_periodic_mode_follows_the_timetable() -> None:
    """Entries hold from start to end in UTC, past midnight too; without an entry counts stay."""
    entries = (
        PeriodicEntry("08:00", "20:00", ("mon", "tue", "wed", "thu", "fri"), 6, 12),
        PeriodicEntry("22:00", "06:00", ("thu",), 2, 4),
    )
    policy = plain_policy(mode="periodic", periodic=entries)
    thursday = 0.0  # 1970-01-01
    at = {hour: see(None, t_s=thursday + hour * 3600) for hour in (9, 21, 23, 29, 30, 9 + 48)}
    counts = {hour: decide(policy, seen, State())[0].counts for hour, seen in at.items()}
    stay = {"prefill": 8, "decode": 4}
    night = {"prefill": 4, "decode": 2}
    assert counts == {9: {"prefill": 12, "decode": 6}, 21: stay, 23: night, 29: night, 30: stay, 57: stay}


def test_rounding_up_ignores_float_noise() -> None:
    """0.1 × 3 ÷ 0.1 is three instances, not four."""
    assert round_up(0.1 * 3 / 0.1) == 3
    assert round_up(3.0001) == 4
    assert round_up(0.0) == 1
    assert follower_count("decode", 7, 9 / 7) == 9


COUNTS = st.integers(2, 40)
TOTALS = st.floats(0.0, 1e4)


@given(total=TOTALS, unit=st.floats(1e-3, 1e3), prefill=COUNTS, decode=COUNTS)
def test_units_change_nothing(total: float, unit: float, prefill: int, decode: int) -> None:
    """Scaling signal and target together leaves every count as it is, away from rounding edges."""
    ratio = total / 100.0
    if min(abs(ratio - round(ratio)), abs(ratio / decode - 1.1), abs(ratio / decode - 0.8)) < 1e-6:
        return
    scaled = plain_policy(primaries=(primary("decode_tps", "decode", 100.0 * unit),))
    one = decide(plain_policy(), see(total, prefill, decode), State())[0].counts
    other = decide(scaled, see(total * unit, prefill, decode), State())[0].counts
    assert one == other


@given(
    total=st.one_of(st.none(), TOTALS, st.just(math.nan)),
    ttft=st.one_of(st.none(), st.floats(0.0, 5.0)),
    prefill=st.integers(2, 30),
    decode=st.integers(2, 15),
    limits=st.tuples(st.floats(0.1, 1.0), st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
)
def test_counts_stay_inside_bounds_and_a_missing_metric_never_shrinks(
    total: float | None, ttft: float | None, prefill: int, decode: int, limits: tuple[float, float, float]
) -> None:
    """Whatever is seen, counts keep their bounds, and blindness removes nothing."""
    policy = plain_policy(
        guards=(guard(),), step=Step(*limits), bounds={"prefill": Bounds(2, 30), "decode": Bounds(2, 15)}
    )
    decision, _ = decide(policy, see(total, prefill, decode, latencies={("ttft", "prefill"): ttft}), State())
    for role, count in decision.counts.items():
        assert policy.bounds[role].min <= count <= policy.bounds[role].max
    if total is None or math.isnan(total):
        assert decision.direction != "in"


@given(first=TOTALS, second=TOTALS, decode=COUNTS)
def test_more_load_never_asks_for_fewer(first: float, second: float, decode: int) -> None:
    """The wanted count is monotone in the signal."""
    low, high = sorted((first, second))
    counts = [decide(plain_policy(), see(v, 2 * decode, decode), State())[0].counts for v in (low, high)]
    assert counts[0]["decode"] <= counts[1]["decode"]
    assert counts[0]["prefill"] <= counts[1]["prefill"]


def test_equivalents_count_where_the_types_are_seen() -> None:
    """Two fast and two slow pods of weights 1.5 and 0.5 count four; four slow ones count two: more."""
    weighed = replace(primary("decode_tps", "decode", 100.0), gpu_types={"fast": 1.5, "slow": 0.5})
    policy = plain_policy(primaries=(weighed,))
    even = {"decode": {"fast": 2.0, "slow": 2.0}}
    assert decide(policy, see(400.0, gpu_types=even), State())[0].counts == {"prefill": 8, "decode": 4}
    assert decide(policy, see(400.0), State())[0].counts == {"prefill": 8, "decode": 4}
    slow = {"decode": {"slow": 4.0}}
    assert decide(policy, see(400.0, gpu_types=slow), State())[0].counts == {"prefill": 8, "decode": 8}
    strange = {"decode": {"unheard-of": 4.0}}
    assert decide(policy, see(400.0, gpu_types=strange), State())[0].counts == {"prefill": 8, "decode": 4}


def test_the_ratio_is_of_equivalents() -> None:
    """Half as fast decode pods need half the prefill each; half as fast prefill pods twice as many."""
    weights = {"fast": 1.0, "slow": 0.5}
    leader = replace(primary("decode_tps", "decode", 100.0), gpu_types=weights)
    policy = plain_policy(primaries=(leader,))
    assert policy.pd_ratio is not None
    policy = replace(policy, pd_ratio=replace(policy.pd_ratio, gpu_types=weights))
    plain = decide(policy, see(800.0), State())[0].counts
    assert plain == {"decode": 8, "prefill": 16}
    slow_decode = {"decode": {"slow": 4.0}, "prefill": {"fast": 8.0}}
    assert decide(policy, see(400.0, gpu_types=slow_decode), State())[0].counts == {"decode": 8, "prefill": 8}
    slow_prefill = {"decode": {"fast": 4.0}, "prefill": {"slow": 8.0}}
    assert decide(policy, see(800.0, gpu_types=slow_prefill), State())[0].counts == {
        "decode": 8,
        "prefill": 32,
    }
