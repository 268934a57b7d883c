"""Intervals from whole days, and the figures that stand beside the hours."""

from __future__ import annotations

import numpy as np
import pytest
from hs_analysis.replay.control import Schedule
from replay.services import SETTINGS, built, day, derived, plain_policy, primary, service

from hs_analysis.controllers import CONTROLLERS
from hs_analysis.replay.backtest import replay_service
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.score import score, sums, violation_tokens
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.constants import DAY_S, GROUP_MIN
from hs_analysis.schema.names import AUTOSCALERS, BASELINES

PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


FIGURES = (
    "slo_violation_s", "slo_violation_tokens", "vs_static_peak", "vs_recorded", "vs_hindsight", "vs_current",
)  # fmt: skip


def days(count: int, mean: float = 18_000.0):
    """Return a service of several days that differ in load, at 5-min rows."""
    prefill = np.concatenate([day(288, mean * (1 + 0.1 * k), seed=k) for k in range(count)])
    return service(
        {"prefill": prefill, "decode": prefill / 7.3}, {"prefill": 12, "decode": 5}, window_s=300.0
    )


def test_intervals_hold_the_figure_and_days_take_three() -> None:
    """Four days give intervals about the figures; two give those of hours, labelled; an evening none."""
    frame = days(6)
    rows = np.arange(frame.table.height)
    train = frame.rows(rows < 576)
    policies = {"pair": built(train, PAIR), "current": built(train, PAIR[1:])}
    found = replay_service(frame.rows(rows >= 576), train, derived(), policies, SETTINGS).result.policies
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
    short = replay_service(frame.rows(rows >= 1152), train, derived(), policies, SETTINGS).result.policies
    for row in short:
        assert (row.interval_basis, row.interval_reason, row.instance_hours_ci) == ("hours", "", None)
        assert row.vs_recorded_ci[0] - 1e-9 <= row.vs_recorded <= row.vs_recorded_ci[1] + 1e-9
        assert row.slo_violation_ci[0] <= row.slo_violation_ratio <= row.slo_violation_ci[1]
    rest = frame.rows(rows >= rows.size - 7 * 12)
    evening = replay_service(rest, train, derived(), policies, SETTINGS).result.policies
    assert all(
        row.vs_recorded_ci is None and "fewer than eight hours" in row.interval_reason for row in evening
    )


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
    grown = score("y", [simulate(policy, part, model)], model)
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
