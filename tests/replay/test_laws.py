"""Laws that hold for every control a replay can run: ours, the autoscalers of the field, schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay.services import SETTINGS, built, derived, pd_day, service

from hs_analysis.controllers import CONTROLLERS, Autoscaler
from hs_analysis.controllers.dynamo import DynamoLoad
from hs_analysis.policy.controls import control_of
from hs_analysis.replay.backtest import sizing
from hs_analysis.replay.demand import DemandTrace, demands
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.simulate import Control, Schedule, SimulationResult, simulate, simulate_all
from hs_analysis.schema.aligned import ServiceFrame

DECODE = (("decode_tps", "decode"),)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))


def with_engine_signals(frame: ServiceFrame) -> ServiceFrame:
    """Add KV usage and queue lengths that answer to load per instance, and a request rate."""
    more = {"request_rate__service": frame.values("offered_tps", "prefill") / 1000}
    for role, capacity in (("prefill", 3509.0), ("decode", 1551.0)):
        load = frame.values("offered_tps", role) / frame.values("instances", role) / capacity
        more |= {f"kv_usage__{role}": 0.8 * load, f"queue_length__{role}": load}
    made = service(
        {role: frame.values("offered_tps", role) for role in ("prefill", "decode")},
        {role: frame.values("instances", role) for role in ("prefill", "decode")},
        **more,
    )
    kinds = {"kv_usage": ("memory", "mean"), "queue_length": ("queue", "sum")}
    infos = tuple(
        replace(info, family=kinds[info.signal][0], pool=kinds[info.signal][1])
        if info.signal in kinds
        else info
        for info in made.signals
    )
    return replace(made, signals=infos)


FRAME = with_engine_signals(pd_day(360))
MODEL = fit_fleet(FRAME, derived(), SETTINGS)
(DEMAND,) = demands(FRAME)


def controls(frame: ServiceFrame, model: FleetModel, demand: DemandTrace) -> dict[str, Control]:
    """Return one control of every kind: our policies by each controller, the field, a schedule."""
    ours = {"one": built(frame, DECODE), "two": built(frame, PAIR)}
    found: dict[str, Control] = {
        f"{name}_{runner}": control_of(replace(policy, controller=runner))
        for name, policy in ours.items()
        for runner in ("heteroscale", "keda", "hpa")
    }
    for row in CONTROLLERS:
        scaler = row.size(sizing(frame, model, derived(), SETTINGS))
        if not isinstance(scaler, str):
            found[row.name] = scaler
    planner = {
        "prefill": DynamoLoad("queued_tokens", context_tokens=8000.0),
        "decode": DynamoLoad("kv_usage"),
    }
    found["dynamo_load"] = Autoscaler("dynamo_load", planner)
    rng = np.random.default_rng(3)
    for name, running in (("schedule", False), ("ran", True)):
        counts = {role: rng.integers(1, 9, demand.rows).astype(float) for role in model.pools}
        found[name] = Schedule(counts, running)
    return found


ALL = controls(FRAME, MODEL, DEMAND)
NAMES = tuple(ALL)
DECIDING = tuple(name for name in NAMES if name not in ("schedule", "ran"))


def side_by_side(
    demand: DemandTrace, model: FleetModel = MODEL, names: Sequence[str] = NAMES
) -> dict[str, SimulationResult]:
    """Return what controls do, by name: one run of all of them costs little more than one of one."""
    return dict(zip(names, simulate_all([ALL[name] for name in names], demand, model), strict=True))


@pytest.fixture(scope="module")
def whole() -> dict[str, SimulationResult]:
    """Return all controls on the whole capture."""
    return side_by_side(DEMAND)


@pytest.fixture(scope="module")
def with_another_future() -> tuple[dict[str, SimulationResult], ...]:
    """Return all controls on a capture that ends after row 200, and on one with other loads after it."""
    cut = demands(FRAME.rows(np.arange(FRAME.table.height) < 200))[0]
    rng = np.random.default_rng(0)
    later = np.arange(DEMAND.rows) >= 200
    other = replace(
        DEMAND,
        offered={role: np.where(later, x * rng.uniform(0.1, 3.0), x) for role, x in DEMAND.offered.items()},
    )
    return side_by_side(cut), side_by_side(other)


@pytest.fixture(scope="module")
def at_constant_load() -> dict[str, SimulationResult]:
    """Return what decides under a load that does not change."""
    frame = with_engine_signals(
        service(
            {"prefill": np.full(400, 18_000.0), "decode": np.full(400, 2_500.0)},
            {"prefill": 11, "decode": 4},
        )
    )
    model = replace(fit_fleet(frame, derived(), SETTINGS), signals=MODEL.signals)
    return side_by_side(demands(frame)[0], model, DECIDING)


def test_every_autoscaler_is_here() -> None:
    """All can be run on a service that exports what they read, but for the one that reads quantiles."""
    assert {row.name for row in CONTROLLERS} - {"slo_aware"} <= set(NAMES)


def test_lanes_know_nothing_of_each_other(whole: dict[str, SimulationResult]) -> None:
    """All controls in one run, in whatever order, give what each gives alone."""
    together = whole
    again = side_by_side(DEMAND, names=NAMES[::-1])
    twice = simulate_all([ALL["hpa"], ALL["one_keda"], ALL["hpa"]], DEMAND, MODEL)
    assert len({result.desired["decode"].tobytes() for result in together.values()}) > 8
    for name in NAMES:
        alone = simulate(ALL[name], DEMAND, MODEL)
        others = [together[name], again[name], *(twice[::2] if name == "hpa" else ())]
        for other in others:
            for field in ("desired", "ready", "paid", "arrived", "served", "queued", "code", "violation"):
                for role, values in getattr(alone, field).items():
                    found = getattr(other, field)[role]
                    if field in ("arrived", "served", "ready"):  # a lane that waits makes others step too
                        np.testing.assert_allclose(found, values, rtol=1e-12, err_msg=f"{name} {field}")
                    else:
                        np.testing.assert_allclose(
                            found, values, rtol=1e-9, atol=1e-9, err_msg=f"{name} {field}"
                        )
            assert other.reasons() == alone.reasons()


def test_a_mean_is_read_over_its_own_rows_beside_one_that_looks_back_further() -> None:
    """A signal that is a mean is multiplied by the instances of the very rows it was scraped in."""
    policy = built(FRAME, DECODE)
    level = replace(
        policy,
        primaries=tuple(replace(one, pool="mean") for one in policy.primaries),
        reading=replace(policy.reading, window_s=60.0, over_s=60.0),
        controller="heteroscale",
    )
    alone = simulate(control_of(level), DEMAND, MODEL)
    beside, _ = simulate_all([control_of(level), ALL["dynamo_throughput"]], DEMAND, MODEL)
    np.testing.assert_array_equal(beside.desired["decode"], alone.desired["decode"])


@pytest.mark.parametrize("name", NAMES)
def test_work_is_kept(name: str, whole: dict[str, SimulationResult]) -> None:
    """Arrived = served + queued in every pool; what prefill has not finished has not reached decode."""
    result = whole[name]
    for role in MODEL.pools:
        left = result.queued[role][-1]
        assert result.arrived[role].sum() == pytest.approx(result.served[role].sum() + left)
        offered = DEMAND.offered[role].sum() * DEMAND.window_s
        assert result.arrived[role].sum() <= offered * (1 + 1e-9)
        if role == "prefill":
            assert result.arrived[role].sum() == pytest.approx(offered)


@pytest.mark.parametrize("name", NAMES)
def test_the_future_changes_nothing(
    name: str,
    whole: dict[str, SimulationResult],
    with_another_future: tuple[dict[str, SimulationResult], ...],
) -> None:
    """Cut after row 200, or with other loads after it: rows up to 200 are decided alike."""
    short, changed = (found[name] for found in with_another_future)
    for role in MODEL.pools:
        desired = whole[name].desired[role][:200]
        np.testing.assert_array_equal(desired, short.desired[role])
        np.testing.assert_array_equal(desired, changed.desired[role][:200])


@pytest.mark.parametrize("name", DECIDING)
def test_constant_load_settles(name: str, at_constant_load: dict[str, SimulationResult]) -> None:
    """After four hours of the same load the counts move no more.

    Thresholds on a queue have no resting point: they take workers until a queue grows, then add them again.
    """
    for role, counts in at_constant_load[name].desired.items():
        tail = counts[240:]
        assert np.ptp(tail) <= (2.0 if name == "dynamo_load" else 0.0), (role, tail)


def bounds_hold(result: SimulationResult, bounds: dict[str, tuple[int, int]]) -> bool:
    """Whether counts are within their bounds once the first decision is made."""
    return all(
        low <= result.desired[role][1:].min() and result.desired[role][1:].max() <= high
        for role, (low, high) in bounds.items()
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from([name for name in DECIDING if name != "dynamo_load"]),
    st.integers(0, 2**16),
    st.floats(0.2, 6.0),
)
def test_bounds_hold_whatever_comes(name: str, seed: int, scale: float) -> None:
    """Jumps, gaps and silence: never below the least nor above the most."""
    rng = np.random.default_rng(seed)
    rows = 120
    prefill = scale * 18_000.0 * rng.choice([0.0, 0.3, 1.0, 4.0], rows) * rng.uniform(0.5, 1.5, rows)
    prefill[rng.integers(0, rows, 8)] = np.nan
    frame = with_engine_signals(
        service({"prefill": prefill, "decode": prefill / 7.3}, {"prefill": 11, "decode": 4})
    )
    known = built(FRAME, PAIR).bounds
    result = simulate(ALL[name], demands(frame)[0], MODEL)
    assert bounds_hold(result, {role: (bound.min, bound.max) for role, bound in known.items()})
