"""Figures of one policy: exact small cases, intervals from whole days."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import (
    SETTINGS,
    built,
    day,
    derived,
    plain_policy,
    policy_replay,
    primary,
    replayed,
    service,
)

from hs_analysis.controllers import CONTROLLERS
from hs_analysis.policy.controls import control_of
from hs_analysis.replay.backtest import replay_service
from hs_analysis.replay.constants import ANOTHER_DAY_SD
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet, instance_prices
from hs_analysis.replay.score import (
    Pieces,
    Sums,
    compared,
    cut,
    needed,
    saving,
    score,
    sums,
    violation_s,
    violation_tokens,
    with_intervals,
)
from hs_analysis.replay.simulate import Schedule, simulate
from hs_analysis.schema.constants import DAY_S, GROUP_MIN, NORMAL_95
from hs_analysis.schema.names import AUTOSCALERS, BASELINES
from hs_analysis.schema.replays import PolicyReplay

ROWS = 60


def scored(
    counts: np.ndarray,
    load: float | np.ndarray = 2_000.0,
    gpus: dict[str, float] | None = None,
    settings=SETTINGS,
):
    """Score decode counts against a load, with a fleet learnt at that load."""
    loads = np.broadcast_to(np.asarray(load, float), ROWS)
    frame = service({"decode": loads}, {"decode": counts}, gpus=gpus)
    model = fit_fleet(frame, derived(), settings)
    results = [
        simulate(Schedule({"decode": np.asarray(counts, float)}), part, model) for part in demands(frame)
    ]
    return score("x", results, model), model


def test_hours_actions_and_reversals() -> None:
    """Instance-hours are counts × time; an action is a moment of change, a reversal one that turns round."""
    counts = np.repeat([4.0, 6.0, 5.0, 7.0], 15)
    found, _ = scored(counts)
    assert found.row.instance_hours == pytest.approx((4 + 6 + 5 + 7) * 0.25)
    assert found.row.gpu_hours is None
    assert found.row.actions_per_day == pytest.approx(3 * 24)
    assert found.row.reversals_per_day == pytest.approx(2 * 24)
    assert found.scored_s == 3600


def test_gpu_hours_need_every_pools_gpus() -> None:
    """Known GPUs per instance multiply the hours of their pool."""
    assert scored(np.full(ROWS, 4.0), gpus={"decode": 8.0})[0].row.gpu_hours == pytest.approx(32.0)
    assert scored(np.full(ROWS, 4.0), gpus={"prefill": 8.0})[0].row.gpu_hours is None


def test_cost_is_gpu_hours_at_the_price_of_the_pools_gpus() -> None:
    """A price for a role's only GPU type; none where types differ in price, or one is not priced."""
    frame = service({"decode": np.full(ROWS, 2_000.0)}, {"decode": np.full(ROWS, 4.0)}, gpus={"decode": 8.0})

    def cost(*types: str, prices: dict[str, float]) -> float | None:
        own = replace(frame, gpu_types={"decode": types})
        model = replace(fit_fleet(own, derived(), SETTINGS), instance_prices=instance_prices(own, prices))
        held = [simulate(Schedule({"decode": np.full(ROWS, 4.0)}), part, model) for part in demands(own)]
        return score("x", held, model).row.cost

    assert cost("H20", prices={"H20": 1.5}) == pytest.approx(4 * 8 * 1.5)
    assert cost("H20", "L20", prices={"H20": 1.5, "L20": 1.5}) == pytest.approx(4 * 8 * 1.5)
    assert cost("H20", "L20", prices={"H20": 1.5, "L20": 1.0}) is None
    assert cost("H20", "L20", prices={"H20": 1.5}) is None
    assert cost("H20", prices={}) is None
    assert cost(prices={"H20": 1.5}) is None


def test_overshoot_counts_instances_beyond_need() -> None:
    """Two instances are needed at the target; four run: an excess of one."""
    found, model = scored(np.full(ROWS, 4.0))
    assert model.pools["decode"].target is not None
    assert np.unique(needed(np.full(ROWS, 2_000.0), 60.0, model.pools["decode"].target)).tolist() == [2.0]
    assert found.row.overshoot_ratio == pytest.approx(1.0)


def test_violations_and_unserved_work() -> None:
    """A pool far beyond its ceiling violates always and ends with a queue."""
    loads = np.where(np.arange(ROWS) < 30, 1_000.0, 9_000.0)
    frame = service({"decode": loads}, {"decode": 1})
    model = fit_fleet(service({"decode": np.full(ROWS, 1_000.0)}, {"decode": 1}), derived(), SETTINGS)
    results = [simulate(Schedule({"decode": np.ones(ROWS)}), part, model) for part in demands(frame)]
    found = score("x", results, model)
    assert found.row.slo_violation_ratio == pytest.approx(0.5, abs=0.01)
    ceiling = model.pools["decode"].max_throughput
    assert found.row.unserved_tokens == pytest.approx(30 * 60 * (9_000.0 - ceiling))


def test_time_and_tokens_over_the_limit_are_chances_times_what_windows_have() -> None:
    """Rows of 60 s with chances 0.5 and 1: 90 s, half the tokens of the first and all of the second."""
    frame = service({"prefill": np.full(3, 700.0), "decode": np.full(3, 100.0)}, {"prefill": 1, "decode": 1})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    held = simulate(Schedule({role: np.ones(3) for role in model.pools}), part, model)
    last_gap = replace(part, gap=np.array([False, False, True]))
    found = replace(
        held,
        demand=last_gap,
        violation={"prefill": np.array([0.0, 1.0, 1.0]), "decode": np.array([0.5, 0.0, 1.0])},
        served={"prefill": np.full(3, 9e9), "decode": np.array([6_000.0, 7_000.0, 9e9])},
    )
    both = ("prefill", "decode")
    assert violation_s([found], both) == pytest.approx(90.0)
    assert violation_s([found, found], both) == pytest.approx(180.0)
    assert violation_tokens([found], both) == pytest.approx(10_000.0)
    assert violation_s([found], ("decode",)) == pytest.approx(30.0)
    row = score("x", [found], model).row
    assert (row.slo_violation_s, row.slo_violation_tokens) == (pytest.approx(90.0), pytest.approx(10_000.0))
    assert row.slo_violation_ratio == pytest.approx(0.75)
    assert violation_s([found], ()) is None
    assert violation_tokens([found], ()) is None
    unseen = replace(found, served={"prefill": np.ones(3)})
    assert violation_tokens([unseen], ("prefill",)) is None
    single = replace(found, served={"mixed": found.served["decode"]})
    assert violation_tokens([single], both) == pytest.approx(10_000.0)


def test_time_over_the_limit_is_the_share_of_the_scored_time() -> None:
    """However the rows are cut: the share times the time that counts."""
    loads = np.where(np.arange(ROWS) % 7 < 3, 2_000.0, 1_500.0)
    loads[20:25] = np.nan
    found, _ = scored(np.ones(ROWS), loads)
    assert found.row.slo_violation_ratio is not None
    assert 0 < found.row.slo_violation_ratio < 1
    assert found.row.slo_violation_s == pytest.approx(found.row.slo_violation_ratio * found.scored_s)
    assert found.row.slo_violation_tokens is not None
    assert 0 < found.row.slo_violation_tokens <= np.nansum(loads) * 60


def test_no_slo_makes_no_latency_claim_but_keeps_the_strain() -> None:
    """Without a limit the violation share is null; how far the pool is over capacity is still known."""
    bare = replace(SETTINGS, slo=replace(SETTINGS.slo, ttft_s=None, tbt_s=None))
    found, _ = scored(np.ones(ROWS), 2_000.0, settings=bare)
    assert found.row.slo_violation_ratio is None
    assert (found.row.slo_violation_s, found.row.slo_violation_tokens) == (None, None)
    assert found.strain_ratio == pytest.approx(1.0, abs=1e-3)


def test_nothing_scored_gives_nulls() -> None:
    """A window of gaps has no figures."""
    found, _ = scored(np.full(ROWS, 4.0), np.full(ROWS, np.nan))
    assert found.row.instance_hours is None
    assert found.scored_s == 0


def test_saving_uses_gpu_hours_where_both_have_them() -> None:
    """1 − own ÷ baseline; nothing against an empty baseline."""

    def row(gpu: float | None, instance: float | None) -> PolicyReplay:
        return policy_replay("x", gpu_hours=gpu, instance_hours=instance)

    assert saving(row(60.0, 9.0), row(80.0, 10.0)) == pytest.approx(0.25)
    assert saving(row(None, 9.0), row(80.0, 10.0)) == pytest.approx(0.1)
    assert saving(row(None, 9.0), row(None, 0.0)) is None


def test_hours_are_set_against_the_rows_that_are_there() -> None:
    """Each comparison is against its own row, 0 against oneself; null where that row is missing."""

    def row(name: str, hours: float) -> PolicyReplay:
        return policy_replay(name, instance_hours=hours)

    rows = {name: row(name, hours) for name, hours in (("static_peak", 10.0), ("recorded", 8.0))}
    few = compared(row("x", 6.0), rows)
    assert few.vs_static_peak == pytest.approx(0.4)
    assert few.vs_recorded == pytest.approx(0.25)
    assert (few.vs_hindsight, few.vs_current) == (None, None)
    rows |= {"hindsight": row("hindsight", 5.0), "current": row("current", 12.0)}
    many = compared(row("x", 6.0), rows)
    assert many.vs_hindsight == pytest.approx(-0.2)
    assert many.vs_current == pytest.approx(0.5)
    assert compared(rows["hindsight"], rows).vs_hindsight == 0.0


PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


FIGURES = (
    "slo_violation_s", "slo_violation_tokens", "vs_static_peak", "vs_recorded", "vs_hindsight", "vs_current",
)  # fmt: skip


ROWS_A_DAY = 144


def days(count: int, mean: float = 18_000.0):
    """Return a service of several days that differ in load, at 10-min rows."""
    prefill = np.concatenate([day(ROWS_A_DAY, mean * (1 + 0.1 * k), seed=k) for k in range(count)])
    window_s = 86_400.0 / ROWS_A_DAY
    return service(
        {"prefill": prefill, "decode": prefill / 7.3}, {"prefill": 12, "decode": 5}, window_s=window_s
    )


def test_intervals_hold_the_figure_and_days_take_three() -> None:
    """Four days give intervals about the figures; two give those of hours, labelled; an evening none."""
    frame = days(6)
    rows = np.arange(frame.table.height)
    train = frame.rows(rows < 2 * ROWS_A_DAY)
    policies = {"pair": control_of(built(train, PAIR)), "current": control_of(built(train, PAIR[1:]))}
    found = replay_service(
        frame.rows(rows >= 2 * ROWS_A_DAY), train, derived(), policies, SETTINGS
    ).result.policies
    for row in found:
        assert (row.interval_reason, row.interval_basis) == ("", "days")
        assert row.instance_hours_ci is not None
        assert row.vs_recorded_ci is not None
        low, high = row.instance_hours_ci
        assert low - 1e-6 <= row.instance_hours <= high + 1e-6
        for figure in FIGURES:
            value, ends = getattr(row, figure), getattr(row, f"{figure}_ci")
            assert ends is not None, figure
            spread = 1e-9 * max(1.0, abs(value))
            assert ends[0] - spread <= value <= ends[1] + spread, figure
        test_s = 4 * 86_400.0
        assert row.slo_violation_s_ci == pytest.approx([end * test_s for end in row.slo_violation_ci])
    named = {row.policy: row for row in found}
    for baseline in ("static_peak", "recorded", "hindsight", "current"):
        assert getattr(named[baseline], f"vs_{baseline}_ci") == (0.0, 0.0)
        assert getattr(named["pair"], f"vs_{baseline}_ci") != (0.0, 0.0)
    short = replay_service(
        frame.rows(rows >= 4 * ROWS_A_DAY), train, derived(), policies, SETTINGS
    ).result.policies
    for row in short:
        assert (row.interval_basis, row.interval_reason, row.instance_hours_ci) == ("hours", "", None)
        assert row.vs_recorded_ci[0] - 1e-9 <= row.vs_recorded <= row.vs_recorded_ci[1] + 1e-9
        assert row.slo_violation_ci[0] <= row.slo_violation_ratio <= row.slo_violation_ci[1]
        least = 0.0 if row.policy == "recorded" else NORMAL_95 * ANOTHER_DAY_SD
        assert row.vs_recorded - row.vs_recorded_ci[0] >= least - 1e-9
        still = row.policy in ("recorded", "static_peak")
        assert row.vs_static_peak - row.vs_static_peak_ci[0] >= (0.0 if still else least) - 1e-9
        assert row.policy != "static_peak" or row.vs_static_peak_ci == (0.0, 0.0)
    rest = frame.rows(rows >= rows.size - 7 * ROWS_A_DAY // 24)
    evening = replay_service(rest, train, derived(), policies, SETTINGS).result.policies
    assert all(
        row.vs_recorded_ci is None and "fewer than eight hours" in row.interval_reason for row in evening
    )


def drawn_days(hours: np.ndarray, over_s: np.ndarray) -> tuple[PolicyReplay, dict[str, Pieces]]:
    """Return a policy that ran for some hours a day, each day against 240 recorded ones, and its days."""
    recorded, count = np.full(hours.size, 240.0), hours.size

    def of(paid: np.ndarray, over: np.ndarray, rows: float) -> Sums:
        each = np.full(paid.size, rows)
        return Sums(each, paid, paid, over, 60.0 * each, over)

    hourly = of(np.zeros(24), np.zeros(24), 60.0)
    pieces = {
        "x": Pieces(of(hours, over_s, 1440.0), hourly),
        "recorded": Pieces(of(recorded, np.zeros(count), 1440.0), hourly),
    }
    row = replace(
        policy_replay("x"),
        instance_hours=float(hours.sum()),
        vs_recorded=1.0 - float(hours.sum() / recorded.sum()),
        slo_violation_ratio=float(over_s.sum() / (DAY_S * count)),
        slo_violation_s=float(over_s.sum()),
    )
    return row, pieces


@pytest.mark.parametrize("count", [3, 5])
def test_intervals_of_few_days_hold_what_days_save_on_average(count: int) -> None:
    """Days that save 25 % on average: of 200 windows 95 % intervals hold it in 179 but once in 1,000."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        row, pieces = drawn_days(240.0 * rng.normal(0.75, 0.06, count), np.zeros(count))
        low, high = with_intervals(row, pieces, seed, 200).vs_recorded_ci
        held += low <= 0.25 <= high
    assert held >= 179


def test_an_interval_ends_where_its_figure_does() -> None:
    """No less than no time over the limit and no hours, no more than all time."""
    row, pieces = drawn_days(np.array([700.0, 5.0, 5.0]), DAY_S * np.array([0.9, 0.01, 0.01]))
    found = with_intervals(row, pieces, 0, 200)
    assert found.slo_violation_ci == (0.0, 1.0)
    assert found.slo_violation_s_ci == (0.0, 3 * DAY_S)
    assert found.instance_hours_ci[0] == 0.0
    assert found.vs_recorded_ci[1] == 1.0


def test_three_short_captures_are_no_three_days() -> None:
    """Captures of four hours are drawn in blocks of hours: nothing is known of how days differ."""
    load = np.concatenate([day(48, 6_000.0, seed=k) for k in range(3)])
    names = [f"c{k}" for k in range(3) for _ in range(48)]
    frame = service({"decode": load}, {"decode": 6}, window_s=300.0, captures=names)
    model = fit_fleet(frame, derived(), SETTINGS)
    results = [
        simulate(Schedule({"decode": np.full(part.rows, 6.0)}), part, model) for part in demands(frame)
    ]
    row = score("recorded", results, model).row
    found = with_intervals(row, {"recorded": cut(results, ("decode",), {})}, 0, 50)
    assert (found.interval_basis, found.instance_hours_ci) == ("hours", None)


def test_equal_days_have_no_spread() -> None:
    """The same day four times: the interval of the hours is the figure."""
    load = np.tile(day(288, 6_000.0), 4)
    frame = service({"decode": load}, {"decode": 6}, window_s=300.0)
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    result = simulate(Schedule({"decode": np.full(part.rows, 6.0)}), part, model)
    found = sums([result], ("decode",), {}, DAY_S)
    assert found.rows.tolist() == [288.0] * 4
    assert found.hours == pytest.approx([144.0] * 4)
    assert found.over_s == pytest.approx(found.over_s[:1].repeat(4), rel=0.05)
    assert found.judged_s.tolist() == [86_400.0] * 4
    assert found.over_tokens.sum() == pytest.approx(violation_tokens([result], ("decode",)))
    assert GROUP_MIN == 3


def test_a_short_rest_joins_the_day_before() -> None:
    """A last piece of less than half a day is no day of its own."""
    load = np.full(288 * 2 + 100, 5_000.0)
    frame = service({"decode": load}, {"decode": 5}, window_s=300.0)
    (part,) = demands(frame)
    result = simulate(
        Schedule({"decode": np.full(part.rows, 5.0)}), part, fit_fleet(frame, derived(), SETTINGS)
    )
    found = sums([result], (), {"decode": 8.0}, DAY_S)
    assert found.rows.tolist() == [288.0, 388.0]
    assert found.cost[0] == pytest.approx(288 * 5 * 8)


def test_recovery_is_the_longest_stretch_over_the_limit() -> None:
    """Twenty rows at twice the capacity of what runs; none violate elsewhere."""
    load = np.full(200, 3_000.0)
    load[100:120] = 12_000.0
    frame = service({"decode": load}, {"decode": 4})
    model = fit_fleet(service({"decode": np.full(60, 3_000.0)}, {"decode": 4}), derived(), SETTINGS)
    (part,) = demands(frame)
    held = score("x", [simulate(Schedule({"decode": np.full(200, 4.0)}), part, model)], model)
    assert held.row.recovery_s is not None
    assert held.row.recovery_s >= 20 * 60
    policy = plain_policy(pd_ratio=None, primaries=(primary("decode_tps", "decode", 1000.0),))
    grown = score("y", [replayed(policy, part, model)], model)
    assert 0 < grown.row.recovery_s < held.row.recovery_s


def test_imbalance_of_prefill_and_decode() -> None:
    """Equal room is 0; twice the room on one side is 0.5."""
    targets = {t.role: t.target_per_instance for t in derived().thresholds}
    load = {"prefill": np.full(60, 4 * targets["prefill"]), "decode": np.full(60, 4 * targets["decode"])}
    for counts, share in (({"prefill": 4, "decode": 4}, 0.0), ({"prefill": 4, "decode": 8}, 0.5)):
        frame = service(load, counts)
        model = fit_fleet(frame, derived(), SETTINGS)
        (part,) = demands(frame)
        schedule = Schedule({role: np.full(60, float(n)) for role, n in counts.items()})
        row = score("x", [simulate(schedule, part, model)], model).row
        assert row.pd_imbalance_ratio == pytest.approx(share)


def test_names_of_the_field_are_the_controllers() -> None:
    """The contract's list and the table of rules name the same autoscalers, in one order."""
    assert list(AUTOSCALERS) == [row.name for row in CONTROLLERS]
    assert set(AUTOSCALERS) < set(BASELINES)
