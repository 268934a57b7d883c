"""Figures of one policy: exact small cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hs_analysis.replay.control import Schedule
from replay.services import SETTINGS, derived, policy_replay, service

from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet, instance_prices
from hs_analysis.replay.score import compared, needed, saving, score, violation_s, violation_tokens
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.results import PolicyReplay

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
