"""The controller that runs a policy: which number of the policy becomes which parameter."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from controllers.fleets import fleet
from replay.services import guard, plain_policy, primary

from hs_analysis.controllers import Autoscaler, HeteroScale, batch_of
from hs_analysis.controllers.heteroscale import LatencyGuard, PoolRule, RatioUpkeep
from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP, Hpa, Metric, RatePolicy, Rules
from hs_analysis.controllers.keda import Fallback, Keda
from hs_analysis.policy.controls import control_of, held_target
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Hysteresis,
    PeriodicEntry,
    Policy,
    Ratio,
    SignalReading,
    SoftScaleIn,
    Step,
)

PREFILL_LED = (primary("prefill_tps_effective", "prefill", 2000.0),)


def pools(policy: Policy) -> dict[str, Any]:
    """Return the parameters per pool of an autoscaler."""
    found = control_of(policy)
    assert isinstance(found, Autoscaler)
    return dict(found.pools)


def test_heteroscale_has_every_knob() -> None:
    """Targets, bands, rests, steps, bounds, guards, ratio, reading and observation."""
    policy = plain_policy(
        controller="heteroscale",
        guards=(guard(),),
        soft_scale_in=SoftScaleIn(120.0, "ttft > 1 s"),
        reading=SignalReading(60.0, 600.0),
        step=Step(0.5, None, 0.25),
        cooldown={"prefill": Cooldown(None, None), "decode": Cooldown(60.0, 300.0)},
        bounds={"decode": Bounds(2, 9)},
    )
    found = control_of(policy)
    assert isinstance(found, HeteroScale)
    common = PoolRule(
        scale_out_ratio=1.1, scale_in_ratio=0.8, dampening=0.5, max_in_fraction=0.25, start_up_s=240.0
    )
    ttft = LatencyGuard("ttft", "prefill", 1.0, ((1.0, 0.1), (1.2, 0.2)))
    assert math.isnan(found.pools["prefill"].target)
    known = {**found.pools, "prefill": replace(found.pools["prefill"], target=1.0)}
    assert replace(found, pools=known) == HeteroScale(
        {
            "prefill": replace(common, target=1.0, rest_in_s=None, least=0, guards=(ttft,)),
            "decode": replace(common, signal="decode_tps", target=100.0, rest_out_s=60.0, least=2, most=9),
        },
        RatioUpkeep("decode", 2.0, 0.2),
        60.0,
        600.0,
        120.0,
    )


def test_an_hpa_holds_target_tolerances_windows_and_bounds() -> None:
    """Up: Kubernetes' own limits. Down: the highest of over_s. The follower reads the leader's total."""
    policy = plain_policy(controller="hpa", step=Step(), bounds={"decode": Bounds(0, 9)})
    up, down = Rules(0.0, SCALE_UP.policies, tolerance=0.1), Rules(300.0, SCALE_DOWN.policies, tolerance=0.2)
    assert pools(policy) == {
        "decode": Hpa((Metric("decode_tps", 100.0),), 1, 9, up=up, down=down),
        "prefill": Hpa((Metric("decode_tps@decode", 50.0),), 1, 100, up=up, down=down),
    }


def test_a_scaled_object_holds_what_it_has_on_a_failing_query() -> None:
    """The same rules; an empty answer is no zero, and its bounds are its own."""
    hpa = plain_policy(controller="hpa", bounds={"decode": Bounds(0, 9)}, pd_ratio=None)
    rules = pools(hpa)["decode"]
    assert pools(replace(hpa, controller="keda")) == {
        "decode": Keda(
            Hpa(rules.metrics, up=rules.up, down=rules.down),
            min_replica_count=0,
            max_replica_count=9,
            ignore_null_values=False,
            fallback=Fallback(3, 9, "currentReplicas"),
        )
    }


def test_a_decode_pool_that_follows_has_the_target_times_the_ratio() -> None:
    """D = P ÷ ratio = total ÷ (target × ratio); two primaries size a pool each."""
    ratio = Ratio(3, 2, 1.5, 1.0, 2.0, 0.1, "ok")
    led = plain_policy(controller="hpa", primaries=PREFILL_LED, pd_ratio=ratio)
    assert pools(led)["decode"].metrics == (Metric("prefill_tps_effective@prefill", 3000.0),)
    pair = replace(led, primaries=(*PREFILL_LED, primary("decode_tps", "decode", 100.0)))
    assert pools(pair)["decode"].metrics == (Metric("decode_tps", 100.0),)


def test_limits_of_the_policy_become_rate_policies() -> None:
    """A share of the pool a rest, or a window without one; scale-in is off where its rest is not known."""
    policy = plain_policy(
        controller="hpa",
        step=Step(1.0, 0.254, 0.5),
        cooldown={"prefill": Cooldown(0.0, None), "decode": Cooldown(120.0, 3000.0)},
        reading=SignalReading(60.0, 7200.0),
    )
    found = pools(policy)
    assert found["decode"].up.policies == (RatePolicy("Percent", 25, 120.0),)
    assert found["decode"].down == Rules(3600.0, (RatePolicy("Percent", 50, 1800.0),), tolerance=0.2)
    assert found["prefill"].up.policies == (RatePolicy("Percent", 25, 60.0),)
    assert found["prefill"].down == Rules(3600.0, SCALE_DOWN.policies, "Disabled", 0.2)


def test_a_pool_mean_is_read_per_pod() -> None:
    """Kind Pods; the follower keeps the target, since the leader's mean moves both in proportion."""
    policy = plain_policy(controller="hpa", primaries=(primary("gpu_util", "decode", 0.6, "mean"),))
    found = pools(policy)
    assert found["decode"].metrics == (Metric("gpu_util", 0.6, "Pods"),)
    assert found["prefill"].metrics == (Metric("gpu_util@decode", 0.6, "Pods"),)


@pytest.mark.parametrize(
    ("target", "held"),
    [(1234.5678, 1234.57), (123456.78, 123457.0), (0.05799, 0.057), (0.0001234567, 0.000123457)],
)
def test_targets_have_six_digits_and_whole_thousandths(target: float, held: float) -> None:
    """As Kubernetes works with them; rounding once more changes nothing."""
    assert held_target(target) == held_target(held_target(target)) == held


def test_tolerances_have_four_digits_and_are_never_negative() -> None:
    """As they are written; a band that is narrower than that is none."""
    band = {role: Hysteresis(1.123456, 1.0000001) for role in ("prefill", "decode")}
    found = pools(plain_policy(controller="hpa", hysteresis=band))["decode"]
    assert found.tolerances == (0.0, 0.1235)


@pytest.mark.parametrize("name", ["keda", "hpa", "heteroscale"])
def test_a_policy_on_hold_changes_nothing(name: Any) -> None:
    """Whatever runs it."""
    batch = batch_of([control_of(plain_policy(mode="hold", controller=name))])
    orders = batch.step(fleet({}, {"prefill": 8, "decode": 4}))
    kept = {"prefill": 8, "decode": 4} if name == "heteroscale" else {}
    assert {role: count[0] for role, count in orders.counts.items()} == kept


def test_a_timetable_keeps_the_count_or_the_minimum_between_entries() -> None:
    """HeteroScale's rule follows the first entry and keeps counts, KEDA the largest and its minimum."""
    entries = (PeriodicEntry("08:00", "20:00", (), 6, 12), PeriodicEntry("08:00", "09:00", (), 7, None))
    policy = plain_policy(mode="periodic", periodic=entries, bounds={"decode": Bounds(2, 50)})
    seen = fleet({}, {"prefill": [8] * 3, "decode": [4] * 3}, t_s=np.array([8.5, 9.5, 21.0]) * 3600)
    decode = {}
    for name in ("heteroscale", "keda"):
        batch = batch_of([control_of(replace(policy, controller=name))] * 3)
        decode[name] = batch.step(seen).counts["decode"].tolist()
    assert decode == {"heteroscale": [6, 6, 4], "keda": [7, 6, 2]}
    assert pools(replace(policy, controller="hpa")) == {}


def test_a_timetable_is_run_on_the_clock_of_its_zone() -> None:
    """Nine in Berlin over both changes; an end in the hour that is skipped comes at three for KEDA."""
    entries = (
        PeriodicEntry("09:00", "17:00", (), 6, None, "Europe/Berlin"),
        PeriodicEntry("22:00", "02:30", ("sat",), 5, None, "Europe/Berlin"),
    )
    policy = plain_policy(mode="periodic", periodic=entries, bounds={"decode": Bounds(2, 50)})
    moments = [
        (2026, 3, 28, 8, 0), (2026, 3, 29, 7, 0), (2026, 10, 24, 7, 0), (2026, 10, 25, 8, 0),
        (2026, 10, 25, 7, 59), (2026, 7, 5, 0, 45), (2026, 7, 5, 1, 0),
    ]  # fmt: skip
    t_s = np.array([datetime(*moment, tzinfo=UTC).timestamp() for moment in moments])  # type: ignore[misc]
    seen = fleet({}, {"decode": [4] * len(moments)}, t_s=t_s)
    decode = {}
    for name in ("heteroscale", "keda"):
        batch = batch_of([control_of(replace(policy, controller=name))] * len(moments))
        decode[name] = batch.step(seen).counts["decode"].tolist()
    assert decode == {"heteroscale": [6, 6, 6, 6, 4, 4, 4], "keda": [6, 6, 6, 6, 2, 5, 2]}


def test_one_policy_runs_as_any_controller() -> None:
    """The same numbers ask for the same counts, but that an object follows the signal, not the count."""
    seen = fleet({("decode_tps", "decode"): [1210.0]}, {"prefill": 8, "decode": 4})
    counts = {}
    for name in ("heteroscale", "keda", "hpa"):
        batch = batch_of([control_of(plain_policy(controller=name, step=Step(1.0, 9.0, None)))])
        counts[name] = {role: int(count[0]) for role, count in batch.step(seen).counts.items()}
    assert counts["heteroscale"] == {"prefill": 26, "decode": 13}
    assert counts["keda"] == counts["hpa"] == {"prefill": 25, "decode": 13}
