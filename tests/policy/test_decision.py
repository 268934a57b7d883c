"""What to do with a policy, and the table of confidence: each row alone, and how they add up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from replay.services import SETTINGS, START, built, derived, pd_day, policy_replay

from hs_analysis.policy.build import build_policy
from hs_analysis.policy.confidence import CRITERIA, GIVE_LIMITS, Grounds, recorded_weekdays
from hs_analysis.policy.decision import Consequences, decide_on, pool_counts, with_decision
from hs_analysis.schema.decision import PoolDecision, SloRisk
from hs_analysis.schema.replays import PolicyReplay, ReplayResult
from hs_analysis.schema.results import PLAN_TEST, MixRatio, Reason, Refusal, SplitBeside

DECODE = (("decode_tps", "decode"),)
NAME = "decode_tps@decode"
WEEK_S = 7 * 86_400.0


def row(policy: str, saved: float | None, share: float | None, side: str | None = "under") -> PolicyReplay:
    """Return a row of the backtest."""
    return replace(
        policy_replay(
            policy,
            instance_hours=100.0,
            slo_violation_ratio=share,
            actions_per_day=1.0,
            reversals_per_day=0.0,
            overshoot_ratio=0.1,
            unserved_tokens=0.0,
            vs_static_peak=0.3,
            vs_recorded=saved,
        ),
        slo_side=side,
    )


def backtest(
    saved: float | None = 0.2, ours: float | None = 0.01, theirs: float | None = 0.02, **known: Any
) -> ReplayResult:
    """Return a backtest of the policy beside what ran."""
    calibration = {"status": "calibrated"} | known
    return ReplayResult(None, None, calibration, (row(NAME, saved, ours), row("recorded", 0.0, theirs)))


def grounds(**changes: Any) -> Grounds:
    """Return grounds that every criterion is met on, but for the changes."""
    met = Grounds(
        policy=built(pd_day(), DECODE),
        whole=derived(),
        first=derived(),
        chosen=NAME,
        same_signals=True,
        replay=backtest(),
        slo=SETTINGS.slo,
        kind="production",
        slo_edges=({"signal": "ttft", "limit_s": 2.5, "low_s": 2.5},),
        span_s=WEEK_S,
        weekday_s=(86_400.0,) * 7,
    )
    return replace(met, **changes)


def with_ratio(status: str, value: float = 2.61) -> Any:
    """Return derived numbers with another ratio."""
    return derived(ratio=value, ratio_status=status)


def with_splits(**changes: Any) -> Any:
    """Return derived numbers whose ratio is that of a ratio test."""
    known = {"status": "ok", "is_estimated": False} | changes
    mix = MixRatio(
        isl=900.0, osl=200.0, prefill=5, decode=3, value=5 / 3, between=(1.0, 3.0), status="ok", share=1.0,
        neighbours=(SplitBeside(4, 4, 0.88), SplitBeside(6, 2, None)), prefill_tps_per_instance=1620.0,
        decode_tps_per_instance=600.0, is_estimated=known["is_estimated"],
    )  # fmt: skip
    found = derived(ratio=5 / 3, ratio_status=known["status"])
    return replace(found, pd_ratio=replace(found.pd_ratio, basis="sweep", by_mix=(mix,)))


def unknown_startup() -> Any:
    """Return a policy whose start-up times nobody knows."""
    return build_policy(pd_day(), derived(), (), DECODE, replace(SETTINGS, startup_s={}), {}, {})


def raw_prompts() -> Any:
    """Return derived numbers whose prefill is counted in all prompt tokens."""
    found = derived()
    prefill, decode = found.capacity
    return replace(found, capacity=(replace(prefill, signal="prefill_tps"), decode))


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "on_hold": ({"policy": built(pd_day(), ())}, "low"),
    "pool_not_sized": (
        {"policy": built(pd_day(), DECODE, derived(ratio=None, ratio_status="refused"))},
        "low",
    ),
    "unserved_instances": ({"unserved_instances": 3}, "low"),
    "idle_instances": ({"idle": ("1 of 2 decode",)}, "low"),
    "slo_not_held": ({"replay": backtest(ours=0.06, theirs=0.09)}, "low"),
    "not_backtested": ({"replay": ReplayResult(None, None)}, "low"),
    "not_calibrated": ({"replay": backtest(status="not_calibrated")}, "medium"),
    "slo_side_unclear": (
        {"replay": replace(backtest(), policies=(row(NAME, 0.2, 0.06, "unclear"), row("recorded", 0, 0.02)))},
        "medium",
    ),
    "other_signals": ({"same_signals": False}, "medium"),
    "numbers_moved": ({"first": with_ratio("ok", 2.0)}, "medium"),
    "ratio_drifts": ({"whole": with_ratio("drifting")}, "medium"),
    "mixes_differ": ({"whole": with_splits(status="drifting"), "first": with_splits()}, "medium"),
    "throughput_estimated": ({"whole": with_splits(is_estimated=True), "first": with_splits()}, "medium"),
    "startup_default": ({"policy": unknown_startup()}, "medium"),
    "bucket_edge": ({"slo_edges": ({"signal": "ttft", "limit_s": 2.5, "low_s": 2.0},)}, "medium"),
    "capacity_floor": ({"whole": derived(status="floor")}, "medium"),
    "hit_rate_unknown": ({"whole": raw_prompts()}, "medium"),
    "weekdays_not_seen": ({"weekday_s": (86_400.0,) * 5 + (0.0, 0.0)}, "medium"),
    "pressure_test": ({"kind": "pressure_test"}, "medium"),
}


@pytest.mark.parametrize("code", FAILURES)
def test_each_criterion_fails_alone(code: str) -> None:
    """With everything else met: its own reason, and the level that it leaves."""
    changes, level = FAILURES[code]
    made = decide_on(grounds(**changes))
    if code in ("on_hold", "capacity_floor"):  # no pool is sized then; a floor moves the fits apart here
        assert code in {reason.code for reason in made.confidence_reasons}
    else:
        assert [reason.code for reason in made.confidence_reasons] == [code]
    assert made.confidence == level
    assert made.confidence_reasons[0].text


BETWEEN = {"signal": "tbt", "limit_s": 0.045, "low_s": 0.035, "high_s": 0.064}


def with_reading(ratio: float | None, code: str = "") -> Any:
    """Return derived numbers whose decode capacity hangs on the reading of its limit."""
    whole = derived()
    reason = Reason(code, code) if code else None
    read = tuple(
        replace(one, reading_ratio=ratio, reason=reason or one.reason) if one.role == "decode" else one
        for one in whole.capacity
    )
    return replace(whole, capacity=read)


@pytest.mark.parametrize(
    ("edges", "ratio", "code", "moved"),
    [
        (BETWEEN, 0.85, "", 0.15),
        (BETWEEN, 1.2, "", 0.2),
        (BETWEEN, 0.95, "", None),
        (BETWEEN, None, "", None),
        (BETWEEN, None, "undecided_edge", 1.0),
        ({**BETWEEN, "high_s": None}, None, "", 2 / 7),
        ({**BETWEEN, "low_s": None}, None, "", 1.0),
        ({**BETWEEN, "low_s": 0.045, "high_s": 0.045}, 0.5, "", None),
    ],
)
def test_confidence_asks_how_far_a_limit_hangs_on_its_edges(
    edges: dict[str, Any], ratio: float | None, code: str, moved: float | None
) -> None:
    """A reading that moves the capacity by over 10 %, no telling, a limit beyond the edges; else nothing."""
    made = decide_on(grounds(whole=with_reading(ratio, code), slo_edges=(edges,)))
    found = {reason.code: reason for reason in made.confidence_reasons}
    assert ("bucket_edge" in found) == (moved is not None)
    if moved is not None:
        assert found["bucket_edge"].value == pytest.approx(moved)
        assert "TBT" in found["bucket_edge"].text


def test_every_row_of_the_table_is_tried() -> None:
    """A criterion without a case above would be one that nobody has seen fail."""
    hit = {
        row.fails
        for changes, _ in FAILURES.values()
        for row in CRITERIA
        if row.fails(grounds(**changes)) is not None
    }
    assert hit == {row.fails for row in CRITERIA}
    assert all(row.remedy.endswith(".") for row in CRITERIA)


def test_a_ratio_test_is_kept_and_names_its_splits() -> None:
    """Load and counts were set on purpose: nothing is saved or alarmed about; the splits are the answer."""
    bad = backtest(saved=0.2, ours=0.9, theirs=0.01)
    made = decide_on(grounds(whole=with_splits(), first=with_splits(), kind="pressure_test", replay=bad))
    assert (made.recommend, made.alarm) == ("keep", None)
    assert "the best split measured is 5P3D for 900 tokens in and 200 out" in made.why
    assert "slo_not_held" not in {reason.code for reason in made.confidence_reasons}
    assert made.ratio_notes[:3] == (
        "the best split measured is 5P3D for 900 tokens in and 200 out",
        "next to 5P3D 4P4D serves 12 % less and 6P2D breaks a limit",
        "one instance carried at least 1,620 prompt or 600 output tokens/s for 900 tokens in and 200 out:"
        " floors for that token mix only",
    )
    assert any("its own load" in step for step in made.next_steps)
    production = decide_on(grounds(whole=with_splits(), first=with_splits(), replay=bad))
    assert production.recommend == "keep"
    assert production.alarm is not None


def test_confidence_is_high_only_where_all_is_met() -> None:
    """One that fails costs a step, two are low; what only caps adds nothing to it."""
    assert decide_on(grounds()).confidence == "high"
    assert decide_on(grounds()).confidence_reasons == ()
    drifting = {"whole": with_ratio("drifting")}
    cap = {"weekday_s": (86_400.0,) * 3 + (0.0,) * 4, "span_s": 3 * 86_400.0}
    assert decide_on(grounds(**drifting, **cap)).confidence == "medium"
    assert decide_on(grounds(**drifting, replay=backtest(status="not_calibrated"))).confidence == "low"


def test_reasons_come_weightiest_first_and_then_shortest() -> None:
    """A reader takes in the short ones before the long, but for what makes an answer low by itself."""
    known = {"unserved_instances": 2, "idle": ("1 of 2 decode",)}
    made = decide_on(grounds(whole=with_ratio("drifting"), kind="pressure_test", **known))
    assert [reason.code for reason in made.confidence_reasons] == [
        "idle_instances", "unserved_instances", "ratio_drifts", "pressure_test",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("saved", "ours", "theirs", "recommend"),
    [
        (0.2, 0.01, 0.02, "apply"),
        (0.2, 0.03, 0.02, "apply"),  # fewer hours, and what the SLO allows
        (-0.2, 0.01, 0.07, "apply"),  # more hours, and what ran broke the SLO
        (-0.2, 0.01, 0.02, "keep"),  # what ran holds it: nothing is worth more hours
        (-0.2, 0.02, 0.02, "keep"),
        (-0.001, 0.03, 0.02, "keep"),
        (-0.2, None, None, "keep"),  # not known to break it less often
        (0.2, None, None, "apply"),
        (None, 0.01, 0.02, "apply"),
        (0.2, 0.06, 0.02, "keep"),  # what ran held the SLO
        (0.2, 0.06, 0.07, "apply"),
    ],
)
def test_what_costs_more_and_breaks_no_less_is_never_recommended(
    saved: float | None, ours: float | None, theirs: float | None, recommend: str
) -> None:
    """More hours have to buy fewer violations; fewer hours may not cost an SLO that held."""
    made = decide_on(grounds(replay=backtest(saved, ours, theirs)))
    assert made.recommend == recommend
    assert made.why
    assert made.next_steps
    status = with_decision(built(pd_day(), DECODE), made)
    assert status.recommended is (recommend == "apply")
    assert status.confidence == made.confidence


def test_an_uncalibrated_replay_may_still_tell_which_breaks_less() -> None:
    """Its shares are no claim, but both are off by the same model."""
    shares = {"uncalibrated_shares": {NAME: 0.01, "recorded": 0.3}}
    rough = backtest(-0.2, None, None, status="not_calibrated", **shares)
    made = decide_on(grounds(replay=rough))
    assert made.recommend == "apply"
    assert made.why.endswith("by a replay that is not calibrated it breaks the SLO less often than what ran")
    worse = {"uncalibrated_shares": {NAME: 0.3, "recorded": 0.3}}
    rough = backtest(-0.2, None, None, status="not_calibrated", **worse)
    made = decide_on(grounds(replay=rough))
    assert made.recommend == "keep"
    assert made.why.endswith("as often as what ran")


def test_an_uncalibrated_replay_may_warn_of_a_policy_that_breaks_more_often() -> None:
    """It may not say that the SLO holds; on one day the shares are those of the day."""
    broken = {"uncalibrated_shares": {NAME: 0.3, "recorded": 0.02}}
    rough = backtest(0.2, None, None, status="not_calibrated", **broken)
    made = decide_on(grounds(replay=rough))
    assert made.recommend == "keep"
    assert made.alarm is not None
    assert made.why == f"it {made.alarm.text}"
    day = (row("in_sample", 0.2, None, "unclear"), row("recorded", 0.0, None, "unclear"))
    assert decide_on(grounds(replay=rough, day=day)).alarm is None
    of_day = {"one_day": {"uncalibrated_shares": {"in_sample": 0.3, "recorded": 0.02}}}
    rough = backtest(0.2, None, None, status="not_calibrated", **of_day)
    assert decide_on(grounds(replay=rough, day=day)).alarm == made.alarm


def test_more_hours_have_to_break_the_slo_less_often_by_more_than_a_point() -> None:
    """Or to end within what is allowed, where what ran did not."""
    allowed = SETTINGS.slo.allowed_window_share
    for ours, theirs, what in (
        (0.519, 0.52, "keep"),
        (0.40, 0.52, "apply"),
        (allowed, allowed + 0.002, "apply"),
        (0.0, allowed, "keep"),
    ):
        assert decide_on(grounds(replay=backtest(-0.086, ours, theirs))).recommend == what


def test_a_replay_that_is_not_calibrated_says_why() -> None:
    """The first cause, as the replay has it."""
    replay = backtest(0.2, None, None, status="not_calibrated", why_not="a release came in the test window")
    reasons = decide_on(grounds(replay=replay)).confidence_reasons
    assert ("not_calibrated", "a release came in the test window") in [(r.code, r.text) for r in reasons]


def test_a_hold_says_what_to_record() -> None:
    """Nothing can be stood for: the refusals say what would change that."""
    refusal = Refusal("capacity@decode", "thin", "too few", "record a busier day")
    numbers = replace(derived(), refusals=(refusal,))
    made = decide_on(grounds(policy=built(pd_day(), ()), whole=numbers))
    assert (made.recommend, made.confidence) == ("record", "low")
    assert "Record a busier day." in made.next_steps
    assert made.why == "no signal may size a pool; counts stay as they are"
    mix = MixRatio(isl=900.0, osl=100.0, prefill=4, decode=1, value=4.0, between=None, status="ok", share=1.0)
    tested = replace(numbers, pd_ratio=replace(numbers.pd_ratio, basis="sweep", by_mix=(mix,)))
    made = decide_on(grounds(policy=built(pd_day(), ()), whole=tested))
    assert made.why.endswith("; the best split measured is 4P1D for 900 tokens in and 100 out")


def test_weekdays_are_counted_in_recorded_time() -> None:
    """2026-01-01 was a Thursday; half a day of a weekday is enough, and a gap is not recorded."""
    seconds = START + np.arange(0.0, WEEK_S, 60.0)
    span_s, weekday_s = recorded_weekdays(seconds, 60.0)
    assert span_s == WEEK_S
    assert weekday_s == (86_400.0,) * 7
    hole = seconds[(seconds < START + 86_400) | (seconds >= START + 2 * 86_400)]
    assert recorded_weekdays(hole, 60.0)[1][4] == 0.0
    made = decide_on(grounds(weekday_s=recorded_weekdays(hole, 60.0)[1]))
    assert [reason.code for reason in made.confidence_reasons] == ["weekdays_not_seen"]
    assert recorded_weekdays(np.array([]), 60.0) == (0.0, (0.0,) * 7)


def timeline(
    counts: dict[str, list[float | None]], load: list[float | None], role: str = "decode"
) -> pl.DataFrame:
    """Return rows of one pool of some policies on one capture; the other pool has none."""
    rows = [
        {
            "policy": policy, "capture": "", "t": at, "load_decode": None, "load_prefill": None,
            "desired_decode": None, "desired_prefill": None,
        }
        | {f"load_{role}": load[at], f"desired_{role}": asked[at]}
        for policy, asked in counts.items()
        for at in range(len(load))
    ]  # fmt: skip
    kinds = dict.fromkeys(("load_decode", "load_prefill", "desired_decode", "desired_prefill"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=kinds)


def test_counts_are_told_over_all_windows_and_at_three_loads() -> None:
    """Loads 1 to 100: the lowest tenth, those about the median, the highest tenth; now 10, then load ÷ 10."""
    load = [float(x) for x in range(1, 101)]
    table = timeline({"recorded": [10.0] * 100, "mine": [x / 10 for x in load]}, load)
    (pool,) = pool_counts(table, "mine", ("decode",))
    assert (pool.role, pool.now, pool.recommended) == ("decode", 10.0, pytest.approx(5.05))
    found = {name: (at.load, at.now, at.recommended) for name, at in pool.at_load.items()}
    assert list(found) == ["low", "usual", "peak"]
    for name, low, high in (("low", 1, 11), ("usual", 46, 56), ("peak", 90, 100)):
        mean, now, then = found[name]
        assert low <= mean <= high
        assert now == 10.0
        assert then == pytest.approx(mean / 10)
    assert found["low"][0] == pytest.approx(6.0, abs=0.6)
    assert found["usual"][0] == pytest.approx(50.5, abs=0.6)
    assert found["peak"][0] == pytest.approx(95.0, abs=0.6)


def test_counts_of_gaps_and_of_what_was_not_replayed_are_left_out() -> None:
    """A row without load is none; without the policy's rows only today is known; no rows, nothing is."""
    table = timeline({"recorded": [2.0, 9.0, 4.0]}, [10.0, None, 30.0], "prefill")
    (pool,) = pool_counts(table, "mine", ("prefill",))
    assert (pool.now, pool.recommended) == (3.0, None)
    assert (pool.at_load["peak"].now, pool.at_load["peak"].recommended) == (4.0, None)
    (mixed,) = pool_counts(timeline({"recorded": [3.0]}, [5.0]), "mine", ("mixed",))
    assert (mixed.role, mixed.now) == ("mixed", 3.0)
    (nothing,) = pool_counts(table, "mine", ("decode",))
    assert (nothing.now, nothing.recommended, nothing.at_load) == (None, None, {})


def consequences(**changes: Any) -> Consequences:
    """Return what a policy changes: 60 of 100 instance-hours, in 80 of 120 GPU-hours."""
    ours = replace(row(NAME, 0.4, 0.01), instance_hours=60.0, gpu_hours=80.0, slo_violation_range=(0.0, 0.03))
    ran = replace(row("recorded", 0.0, 0.02), gpu_hours=120.0)
    shares = {"policy": {"faults": 0.02, "bursts": 0.05}, "hpa": {"faults": 0.03, "bursts": 0.06}}
    pools = (PoolDecision(role="decode", now=4.0, recommended=3.0),)
    span = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    return replace(Consequences("keda", NAME, pools, ours, ran, shares, span), **changes)


def test_a_decision_says_what_it_changes_and_what_it_risks() -> None:
    """Target, metric, counts, hours, risk undisturbed and under faults beside a default HPA, and the test."""
    made = decide_on(grounds(), consequences())
    assert (made.target, made.metric, made.backtested) == ("keda", NAME, consequences().test)
    assert made.pools == consequences().pools
    assert (made.hours_saved_ratio, made.instance_hours_saved, made.gpu_hours_saved) == (0.4, 40.0, 40.0)
    assert made.cost_saved is None
    assert made.slo_risk == SloRisk(
        undisturbed=0.01, undisturbed_range=(0.0, 0.03), recorded=0.02, under_faults=0.02, under_bursts=0.05,
        default_hpa_under_faults=0.03, default_hpa_under_bursts=0.06,
    )  # fmt: skip
    priced = consequences(
        row=replace(consequences().row, cost=7.0), recorded=replace(consequences().recorded, cost=10.0)
    )
    assert decide_on(grounds(), priced).cost_saved == 3.0


def test_without_a_backtest_nothing_is_claimed_of_hours_and_risk() -> None:
    """Only what ran is known of; the window of a test that no policy was in is none."""
    made = decide_on(grounds(replay=ReplayResult(None, None)), consequences(row=None, under_faults={}))
    assert (made.hours_saved_ratio, made.instance_hours_saved, made.gpu_hours_saved) == (None, None, None)
    assert (made.backtested, made.slo_risk) == (None, SloRisk(recorded=0.02))
    bare = decide_on(grounds())
    assert (bare.target, bare.pools, bare.slo_risk) == ("", (), SloRisk())
    assert bare.recommend == decide_on(grounds(), consequences()).recommend


def far_above(share: float) -> PolicyReplay:
    """Return the policy with loads far above all that was recorded."""
    return replace(row(NAME, 0.2, None, "beyond"), not_known_ratio=0.9, far_above_ratio=share)


@pytest.mark.parametrize(
    ("ours", "alarm"),
    [
        (row(NAME, 0.2, 0.2, "over"), "slo_not_held"),
        (replace(row(NAME, 0.2, None, "over"), slo_violation_range=(0.3, 0.5)), "slo_not_held"),
        (far_above(0.4), "load_never_carried"),
        (row(NAME, 0.2, 0.01), None),
        (replace(row(NAME, 0.2, None, "unclear"), not_known_ratio=0.3), None),
        (row(NAME, 0.2, 0.025, "over"), None),
    ],
)
def test_an_alarm_keeps_what_runs_and_what_is_not_known_does_not(
    ours: PolicyReplay, alarm: str | None
) -> None:
    """A broken SLO, and loads that nothing carried; neither a range that is open, nor a hair more."""
    replay = replace(backtest(), policies=(ours, row("recorded", 0.0, 0.02)))
    made = decide_on(grounds(replay=replay))
    assert (made.alarm.code if made.alarm else None) == alarm
    broken = [one.code for one in made.confidence_reasons if one.code == "slo_not_held"]
    assert bool(broken) == (alarm == "slo_not_held")
    assert made.recommend == ("keep" if alarm else "apply")
    if alarm:
        assert made.alarm.text in made.why


def test_windows_above_a_floor_are_one_reason_against_trust_not_two() -> None:
    """The floor itself is a criterion; that its share is open follows from it."""
    ours = replace(row(NAME, 0.2, None, "unclear"), not_known_ratio=0.3)
    replay = replace(backtest(), policies=(ours, row("recorded", 0.0, 0.02)))
    made = decide_on(grounds(replay=replay, whole=derived(status="floor")))
    assert [one.code for one in made.confidence_reasons] == ["capacity_floor"]
    open_side = replace(ours, not_known_ratio=0.0)
    replay = replace(replay, policies=(open_side, row("recorded", 0.0, 0.02)))
    assert "slo_side_unclear" in [one.code for one in decide_on(grounds(replay=replay)).confidence_reasons]


def test_one_day_is_decided_by_its_own_rows_and_saves_a_range() -> None:
    """The file on the day it was fitted on: no single number of hours, no amount saved."""
    ours, ran = replace(row("in_sample", 0.3, 0.0), vs_recorded_ci=(0.2, 0.4)), row("recorded", 0.0, 0.0)
    worse = backtest(saved=-0.2, ours=0.2, theirs=0.0)
    after = consequences(row=ours, recorded=ran, by_blocks=True)
    made = decide_on(grounds(day=(ours, ran), replay=worse, span_s=1200.0), after)
    assert "fewer hours on the 20 minutes it was fitted on" in made.why
    made = decide_on(grounds(day=(ours, ran), replay=worse), after)
    assert (made.recommend, made.by_blocks) == ("apply", True)
    assert (made.hours_saved_ratio, made.hours_saved_ci) == (None, (0.2, 0.4))
    assert (made.instance_hours_saved, made.gpu_hours_saved) == (None, None)
    assert "fewer hours on the one day it was fitted on" in made.why
    assert "not_backtested" not in [one.code for one in made.confidence_reasons]
    seen = decide_on(grounds(day=(ours, ran), replay=replace(worse, policies=worse.policies[1:])), after)
    assert (seen.confidence, seen.confidence_reasons[0].code) == ("low", "not_backtested")


def test_steps_are_things_to_do() -> None:
    """Plan-test is named where it has a test; a refusal that nothing answers is no step."""
    refusals = (
        Refusal("pd_ratio", "single_pool", "one pool", "nothing: one pool does both"),
        Refusal("capacity@decode", "thin", "too few", f"record a busier day{PLAN_TEST}"),
    )
    held = grounds(policy=built(pd_day(), ()), whole=replace(derived(), refusals=refusals))
    steps = decide_on(held).next_steps
    assert steps[1:3] == (
        "Answer the refusals: hsa plan-test says what to record.",
        f"Record a busier day{PLAN_TEST}.",
    )
    assert not any(step.startswith("Nothing") for step in steps)
    steps = decide_on(replace(held, load_test=False)).next_steps
    assert steps[1] == "Record a busier day."
    assert not any("plan-test" in step for step in steps)


def with_floors(**codes: str) -> Any:
    """Return derived numbers whose capacities are floors, each for a reason."""
    found = derived()
    floors = [
        replace(one, status="floor", reason=Reason(codes[one.role], "why"))
        for one in found.capacity
        if one.role in codes
    ]
    return replace(found, capacity=tuple(floors))


def test_a_floor_says_why_it_is_one() -> None:
    """A limit that was met too seldom was met, and one that nobody gave can't be."""
    for codes, said in (
        ({"decode": "thin"}, "decode is a floor: its limit was met too seldom"),
        ({"decode": "no_slo"}, "decode is a floor: no limit on its latency was given"),
        (
            {"prefill": "thin", "decode": "no_violations"},
            "prefill is a floor: its limit was met too seldom; that of decode: its limit was not met",
        ),
    ):
        reasons = decide_on(grounds(whole=with_floors(**codes))).confidence_reasons
        assert f"the capacity of {said}" in [one.text for one in reasons if one.code == "capacity_floor"]


def test_without_limits_the_next_step_is_to_give_them() -> None:
    """No latency was replayed, and a load test answers nothing that is open then."""
    bare = grounds(
        slo=replace(SETTINGS.slo, ttft_s=None, tbt_s=None), replay=backtest(status="not_tested"),
        whole=with_floors(prefill="no_slo", decode="no_slo"),
    )  # fmt: skip
    steps = decide_on(bare).next_steps
    assert [step for step in steps if "--slo" in step] == [GIVE_LIMITS]
    assert not [step for step in steps if "plan-test" in step or "for each latency" in step]


def test_without_limits_hours_alone_decide() -> None:
    """Nothing is said of how often an SLO breaks that nobody gave."""
    slo = replace(SETTINGS.slo, ttft_s=None, tbt_s=None)
    for saved, what, why in (
        (0.2, "apply", "the policy needs 20 % fewer hours"),
        (-0.2, "keep", "the policy needs 20 % more hours"),
    ):
        made = decide_on(grounds(slo=slo, replay=backtest(saved, None, None, status="not_tested")))
        assert (made.recommend, made.why) == (what, why)
