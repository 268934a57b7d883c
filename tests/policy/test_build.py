"""From derived numbers to a policy: where each number goes, and what stands in for those that are missing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import D_CAPACITY, RATIO, SETTINGS, VERDICTS, built, derived, pd_day, service

from hs_analysis.policy.build import build_policy, work_target
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.document import dump, load
from hs_analysis.policy.model import Bounds, Cooldown, MixSplit
from hs_analysis.policy.rounding import rounded
from hs_analysis.schema.results import Estimate, MixRatio, PdRatio, Refusal, Startup
from hs_analysis.schema.settings import Settings, Slo

DECODE = (("decode_tps", "decode"),)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


def test_single_primary_takes_target_band_and_ratio() -> None:
    """Target, its capacity, status and evidence come from derivation; the follower has its own band."""
    policy = built(pd_day(), DECODE)
    target = policy.primaries[0].target_per_instance
    assert (target.value, target.headroom_ratio, target.status) == (0.85 * 0.95 * D_CAPACITY, 0.85, "ok")
    assert target.capacity == Estimate(D_CAPACITY, 0.95 * D_CAPACITY, 1.05 * D_CAPACITY)
    assert target.evidence == "demo%2Fm/derive/decode"
    assert policy.mode == "metric"
    assert policy.sized_roles == ("prefill", "decode")
    assert {role: band.evidence for role, band in policy.hysteresis.items()} == {
        "prefill": "demo%2Fm/derive/prefill",
        "decode": "demo%2Fm/derive/decode",
    }
    assert policy.cooldown["prefill"].evidence == "demo%2Fm/derive/prefill"
    assert policy.pd_ratio is not None
    assert policy.pd_ratio.value == RATIO
    assert policy.pd_ratio.max_deviation == pytest.approx(0.07 * RATIO)
    assert (policy.pd_ratio.prefill, policy.pd_ratio.decode) == (5, 2)


def test_a_policy_that_may_lack_a_pool_says_why() -> None:
    """Instances of its namespace belong to no service: however good its numbers, they are of a part."""
    meta = {"unserved": ["3 prefill instances belong to no service"]}
    policy = build_policy(pd_day(), derived(), VERDICTS, DECODE, SETTINGS, {}, meta)
    assert policy.refusals[0] == "instances_without_service: 3 prefill instances belong to no service"


def test_a_measured_start_up_time_is_the_policys_where_none_is_given() -> None:
    """A time that the user gives goes before it."""
    measured = tuple(
        Startup(role=role, value_s=310.0, ci=(300.0, 320.0), births=4, status="ok", reason=None)
        for role in ("prefill", "decode")
    )
    numbers, unknown = replace(derived(), startup=measured), replace(SETTINGS, startup_s={"decode": 90.0})
    policy = build_policy(pd_day(), numbers, VERDICTS, DECODE, unknown, {}, {})
    assert policy.start_up_s == {"prefill": 310.0, "decode": 90.0}


def test_bounds_are_twice_the_most_and_two_unless_one_was_seen() -> None:
    """Minimum 1 only where one instance was seen, not where it would have carried the least demand."""
    busy = service(
        {"prefill": np.full(60, 30_000.0), "decode": np.full(60, 4_000.0)}, {"prefill": 11, "decode": 4}
    )
    assert built(busy, DECODE).bounds == {"prefill": Bounds(2, 22), "decode": Bounds(2, 8)}
    quiet = np.full(60, 4_000.0)
    quiet[20:40] = 900.0
    night = service({"prefill": np.full(60, 30_000.0), "decode": quiet}, {"prefill": 11, "decode": 4})
    assert built(night, DECODE).bounds["decode"] == Bounds(2, 8)
    counts = np.full(60, 4.0)
    counts[7] = 1.0
    seen = service(
        {"prefill": np.full(60, 30_000.0), "decode": np.full(60, 4_000.0)}, {"prefill": 11, "decode": counts}
    )
    assert built(seen, DECODE).bounds["decode"] == Bounds(1, 8)


@given(st.floats(1.0, 40.0), st.integers(1, 12))
def test_bounds_hold_the_largest_need_of_the_window(peak_instances: float, recorded: int) -> None:
    """Where the recorded pool was far too small for the target, twice of it would cap what the SLO needs."""
    target = work_target(derived(), "decode", SETTINGS)
    assert target is not None
    decode = np.full(60, 0.5 * target)
    decode[20:40] = peak_instances * target
    frame = service({"prefill": np.full(60, 30_000.0), "decode": decode}, {"prefill": 11, "decode": recorded})
    most = built(frame, DECODE).bounds["decode"].max
    assert most >= peak_instances * (1 - 1e-9)
    assert most <= max(2 * recorded, peak_instances + 1)


def test_guards_need_an_slo_and_a_verdict() -> None:
    """TTFT guards prefill, TBT decode; without limit or verdict there is neither guard nor soft scale-in."""
    policy = built(pd_day(), DECODE)
    assert [(g.signal, g.role, g.slo_s) for g in policy.guards] == [
        ("ttft", "prefill", 2.5),
        ("tbt", "decode", 0.05),
    ]
    assert policy.soft_scale_in is not None
    assert policy.soft_scale_in.observe_s == 120.0
    one = build_policy(pd_day(), derived(), VERDICTS, DECODE, Settings(slo=Slo(tbt_s=0.05)), {}, {})
    assert [g.signal for g in one.guards] == ["tbt"]
    none = build_policy(pd_day(), derived(), VERDICTS[:2], DECODE, SETTINGS, {}, {})
    assert (none.guards, none.soft_scale_in) == ((), None)


def test_guard_of_a_single_pool_acts_on_it() -> None:
    """Both latencies speak of the only pool."""
    numbers = derived()
    mixed = replace(
        numbers,
        capacity=(replace(numbers.capacity[1], role="mixed"),),
        thresholds=(replace(numbers.thresholds[1], role="mixed"),),
        pd_ratio=PdRatio(value=None, ci=None, status="refused", at_least=None, at_most=None, reason=None),
    )
    frame = service({"mixed": np.full(60, 4_000.0)}, {"mixed": 4})
    policy = build_policy(frame, mixed, VERDICTS, (("decode_tps", "mixed"),), SETTINGS, {}, {})
    assert [g.role for g in policy.guards] == ["mixed", "mixed"]
    assert (policy.pd_ratio, policy.sized_roles, policy.mode) == (None, ("mixed",), "metric")


def test_missing_numbers_get_defaults_marked_as_such() -> None:
    """No dead band or cooldown from data: defaults with that provenance."""
    numbers = derived()
    bare = replace(
        numbers.thresholds[1],
        scale_out_ratio=None,
        scale_in_ratio=None,
        cooldown_out_s=None,
        cooldown_in_s=None,
    )
    policy = built(pd_day(), DECODE, replace(numbers, thresholds=(numbers.thresholds[0], bare)))
    assert policy.hysteresis["decode"].evidence == "default"
    assert policy.cooldown["decode"] == Cooldown(0.0, 300.0, "default")


def test_no_target_means_hold_with_the_reason() -> None:
    """A policy is still written; it says what is missing, and the refusals of derivation."""
    numbers = derived()
    none = replace(numbers.thresholds[1], target_per_instance=None, status="refused")
    refused = replace(
        numbers,
        thresholds=(none,),
        refusals=(Refusal("capacity", "thin", "two violating windows", "a busier day"),),
    )
    policy = built(pd_day(), DECODE, refused)
    assert policy.mode == "hold"
    assert policy.refusals == (
        "thin: two violating windows",
        "no_primary: no target for decode_tps@decode; counts stay as they are",
    )
    assert built(pd_day(), ()).refusals == ("no_primary: no signal may size a pool; counts stay as they are",)


def test_drifting_ratio_carries_its_band() -> None:
    """The band, not the interval of the compromise, is what low and high mean then."""
    numbers = derived(ratio_status="drifting")
    numbers = replace(numbers, pd_ratio=replace(numbers.pd_ratio, band=(1.5, 4.0)))
    ratio = built(pd_day(), DECODE, numbers).pd_ratio
    assert ratio is not None
    assert (ratio.low, ratio.high, ratio.max_deviation, ratio.status) == (1.5, 4.0, 1.25, "drifting")


def test_one_signal_keeps_the_bound_and_says_the_ratio() -> None:
    """Where a fixed ratio would be short, prefill follows the bound, decode the low end; the value stays."""
    numbers = derived(ratio_status="floor")
    numbers = replace(
        numbers, pd_ratio=replace(numbers.pd_ratio, ci=(2.0, 3.0), one_primary_bound=4.5, integer_pairs=())
    )
    led = built(pd_day(), DECODE, numbers)
    assert (led.pd_ratio.value, led.pd_ratio.one_primary_bound, led.pd_ratio.held) == (RATIO, 4.5, 4.5)
    assert control_of(replace(led, controller="heteroscale")).upkeep.value == 4.5
    leads = built(pd_day(), (("prefill_tps_effective", "prefill"),), numbers)
    assert (leads.pd_ratio.value, leads.pd_ratio.held) == (RATIO, 2.0)
    text = dump(led)
    assert "not kept: see the bound below" in text
    assert "kept in place of the value" in text
    assert built(pd_day(), DECODE).pd_ratio.held == RATIO


def test_splits_that_a_test_found_best_are_in_the_policy() -> None:
    """The best split of each token mix is written, and what the ratio is says that a test measured it."""
    mix = MixRatio(isl=900.0, osl=200.0, prefill=5, decode=3, value=5 / 3, between=(1.0, 3.0), status="ok",
                   share=1.0, decode_tps_per_instance=600.0)  # fmt: skip
    numbers = derived()
    tested = replace(
        numbers.pd_ratio, value=5 / 3, ci=None, at_least=1.0, at_most=3.0, basis="sweep", by_mix=(mix,),
        integer_pairs=((5, 3),),
    )  # fmt: skip
    policy = built(pd_day(), DECODE, replace(numbers, pd_ratio=tested))
    assert (policy.pd_ratio.prefill, policy.pd_ratio.decode, policy.pd_ratio.held) == (5, 3, 5 / 3)
    splits = (MixSplit(900.0, 200.0, 5, 3, None, 600.0),)
    assert policy.pd_ratio.by_mix == splits
    assert (policy.pd_ratio.low, policy.pd_ratio.high, policy.pd_ratio.max_deviation) == (1.0, 3.0, None)
    assert "the best split that a ratio test measured" in dump(policy)
    hold, apart = (built(pd_day(), keys, replace(numbers, pd_ratio=tested)) for keys in ((), PAIR))
    assert (hold.mode, hold.pd_ratio.value, hold.pd_ratio.low, hold.pd_ratio.by_mix) == (
        "hold", 5 / 3, 1.0, splits,
    )  # fmt: skip
    assert "nothing keeps it" in dump(hold)
    assert (apart.pd_ratio.held, apart.pd_ratio.by_mix) == (None, splits)
    assert "# no value: each pool is sized by its own signal;" in dump(apart)
    two = replace(tested, status="drifting", by_mix=(mix, replace(mix, isl=1800.0, prefill=3, decode=5)))
    text = dump(built(pd_day(), PAIR, replace(numbers, pd_ratio=two)))
    assert "# no value: the best split differs between the 2 token mixes tested, and each pool is" in text
    assert "# by_mix: the best split measured of each mix" in text
    for one in (hold, apart, policy):
        assert load(dump(rounded(one))) == rounded(one)
        assert one.sized_roles == (() if one is hold else ("prefill", "decode"))


def test_a_ratio_that_nothing_keeps_is_not_written() -> None:
    """Two primaries move apart, a hold moves nothing, and without a value there is nothing to follow."""
    refused = replace(
        derived(),
        pd_ratio=PdRatio(value=None, ci=None, status="refused", at_least=1.7, at_most=None, reason=None),
    )
    assert built(pd_day(), DECODE).pd_ratio is not None
    assert built(pd_day(), PAIR).pd_ratio is None
    assert built(pd_day(), ()).pd_ratio is None
    assert built(pd_day(), DECODE, refused).pd_ratio is None


def test_work_counted_in_requests_has_its_target_at_the_service() -> None:
    """A pool whose only count is the front end's requests is steered to their threshold."""
    numbers = derived()
    capacity = replace(numbers.capacity_of("decode"), role="mixed", signal="request_rate")
    threshold = replace(numbers.threshold_of("decode_tps", "decode"), signal="request_rate", role="service")
    found = replace(numbers, capacity=(capacity,), thresholds=(replace(threshold, target_per_instance=0.3),))
    assert work_target(found, "mixed", SETTINGS) == 0.3


def test_work_target_falls_back_to_headroom() -> None:
    """Without a threshold the head-room share of capacity's lower end; without a capacity nothing."""
    numbers = derived()
    assert work_target(numbers, "decode", SETTINGS) == 0.85 * 0.95 * D_CAPACITY
    bare = replace(numbers, thresholds=())
    assert work_target(bare, "decode", Settings(headroom_ratio=0.5)) == 0.5 * 0.95 * D_CAPACITY
    assert work_target(replace(numbers, capacity=()), "decode", SETTINGS) is None


@pytest.mark.parametrize(
    ("status", "pool", "least"), [("ok", 11, 2), ("floor", 11, 4), ("floor", 4, 3), ("floor", 2, 2)]
)
def test_a_prefill_floor_keeps_a_pool_whose_instances_carry_most_of_it(
    status: str, pool: int, least: int
) -> None:
    """(1 − 0.55/n) ÷ (1 − 0.55/11) is 0.86 at 3 and 0.91 at 4: head-room 0.9 takes 4; of 4 it takes 3."""
    frame = service(
        {"prefill": np.full(60, 9_000.0), "decode": np.full(60, 4_000.0)}, {"prefill": pool, "decode": 4}
    )
    numbers = derived()
    floors = tuple(replace(c, status=status) if c.role == "prefill" else c for c in numbers.capacity)
    settings = replace(SETTINGS, headroom_ratio=0.9)
    policy = build_policy(frame, replace(numbers, capacity=floors), VERDICTS, DECODE, settings, {}, {})
    assert policy.bounds["prefill"].min == least
    assert policy.bounds["prefill"].provenance == ("floor" if least > 2 else "default")
    assert ("\n  # floor: prefill keeps" in dump(policy)) is (least > 2)
    assert policy.bounds["decode"] == Bounds(2, 8)


@pytest.mark.parametrize(
    ("window_s", "scrape_s", "reading"),
    [
        (60.0, 15.0, (60.0, 300.0)),
        (15.0, 15.0, (60.0, 300.0)),
        (600.0, 15.0, (600.0, 600.0)),
        (60.0, 30.0, (120.0, 300.0)),
        (60.0, 90.5, (362.0, 362.0)),
        (60.0, math.nan, (60.0, 300.0)),
    ],
)
def test_growth_reads_a_minute_and_shrinking_the_highest_of_five(
    window_s: float, scrape_s: float, reading: tuple[float, float]
) -> None:
    """Wider rows are read as they are, and rare scrapes by four; no step is limited, and KEDA runs it."""
    frame = pd_day(window_s=window_s)
    frame = replace(frame, signals=tuple(replace(one, interval_s=scrape_s) for one in frame.signals))
    policy = built(frame, DECODE)
    assert (policy.reading.window_s, policy.reading.over_s) == reading
    assert (policy.step.max_out_fraction, policy.step.max_in_fraction) == (None, None)
    assert policy.controller == "keda"
