"""The backtest of a service: each policy beside static peak, the recorded counts and hindsight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.controllers import CONTROLLERS, Sizing
from hs_analysis.errors import UsageError
from hs_analysis.policy.model import Policy
from hs_analysis.policy.timetable import written
from hs_analysis.policy.topology import Topology, sizes_of
from hs_analysis.replay.calibrate import calibrate, moved_lengths, moved_types
from hs_analysis.replay.control import Control
from hs_analysis.replay.demand import Demand, demands, taking_over
from hs_analysis.replay.fault_outcomes import LEAD_S, FaultOutcome, replay_faults
from hs_analysis.replay.faults import Fault
from hs_analysis.replay.fleet import FleetModel, fit_fleet, instance_prices
from hs_analysis.replay.foretold import foretold
from hs_analysis.replay.hindsight import hindsight
from hs_analysis.replay.intervals import cut, with_intervals
from hs_analysis.replay.placement import replay_placement
from hs_analysis.replay.schedules import by_the_clock, constant, day_plan, foreseen, recorded, static_peak
from hs_analysis.replay.score import PolicyScore, compared, judged_roles, mean_violation, score
from hs_analysis.replay.sides import with_side
from hs_analysis.replay.signals import work_signal
from hs_analysis.replay.simulate import SimulationResult, simulate, timeline
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import TIMELINE, empty
from hs_analysis.schema.names import BASELINES, CURRENT, HINDSIGHT, ORACLE, RECORDED, STATIC_PEAK, TIMETABLE
from hs_analysis.schema.results import Derived, PlacementOutcome, ReplayResult
from hs_analysis.schema.settings import Settings


@dataclass(frozen=True)
class ReplayOutcome:
    """The backtest, and every row of it in the ``timeline`` contract."""

    result: ReplayResult
    timeline: pl.DataFrame


@dataclass(frozen=True)
class _Run:
    """All controls replayed on one window."""

    model: FleetModel
    parts: tuple[Demand, ...]
    results: dict[str, list[SimulationResult]]
    scores: dict[str, PolicyScore]
    accounts: dict[str, Any]


def replay_service(
    frame_test: ServiceFrame,
    frame_train: ServiceFrame,
    derived_train: Derived,
    policies: Mapping[str, Control],
    settings: Settings,
    typed: pl.DataFrame | None = None,
    versions: Sequence[str] = (),
) -> ReplayOutcome:
    """Replay policies on a window they have not seen.

    Parameters
    ----------
    frame_test
        The window to replay; its counts are the ``recorded`` row.
    frame_train, derived_train
        Where ceilings, signal curves, static peak, capacities and targets come from.
    policies
        Policies, and autoscalers as a user runs them today, by name, fitted on the training window if the
        result is to be honest. The names of ``BASELINES`` are taken.
    settings
        SLO and start-up times.
    typed
        Rows of the contract SIGNALS of the window to replay that have a GPU type; None without any. Every pod
        counts 1: where the mix of types moved, nothing is said of latency.
    versions
        In which pools the window ran another version than the numbers are of: nothing is said of latency.

    Returns
    -------
    ReplayOutcome
        One row per policy in the order given, then the baselines: static peak, what ran, the future known,
        and every autoscaler of the field that can be expressed on the service (``calibration`` says why
        others can't). Comparisons are in GPU-hours when every pool's GPUs per instance are known, else in
        instance-hours. Where the fleet model does not agree with history (``calibration``),
        ``slo_violation_ratio``, its time and its tokens are None and the shares are kept in ``calibration``.
        The violations of ``recorded`` are predicted like all others, so that rows compare; those seen are in
        ``calibration``. Without pools or demand there are no rows and ``calibration`` says so.

    Raises
    ------
    UsageError
        When a policy is named like a baseline.
    """
    if not _replayable(frame_test, frame_train):
        nothing = {
            "status": "not_tested",
            "text": "no pool with instance counts and demand: nothing to replay",
        }
        return ReplayOutcome(ReplayResult(_span(frame_train), None, nothing, ()), empty(TIMELINE))
    run = _run(frame_test, frame_train, derived_train, policies, settings, whole=True)
    moved = moved_lengths(frame_train, frame_test)
    types = moved_types(frame_test, derived_train, typed)
    calibration = calibrate(run.results[RECORDED], run.model, settings.slo, moved, types, versions)
    calibration["readings"] = foretold(run.results[RECORDED], run.model)
    judged = judged_roles(run.model)
    sure = tuple(role for role in judged if run.model.pools[role].status == "ok")
    rows = tuple(
        with_side(run.scores[name].row, mean_violation(results, sure), calibration, run.model.allowed)
        for name, results in run.results.items()
    )
    if calibration["status"] == "not_calibrated":
        calibration["uncalibrated_shares"] = {row.policy: row.slo_violation_ratio for row in rows}
        rows = tuple(
            replace(row, slo_violation_ratio=None, slo_violation_s=None, slo_violation_tokens=None)
            for row in rows
        )
    calibration |= _accounts(run, frame_test)
    gpus = run.model.gpus_per_instance
    pieces = {name: cut(results, judged, gpus) for name, results in run.results.items()}
    rows = tuple(with_intervals(row, pieces, settings.seed, settings.draws) for row in rows)
    tables = [
        timeline(frame_test.service, name, result, judged)
        for name, results in run.results.items()
        for result in results
    ]
    result = ReplayResult(_span(frame_train), _span(frame_test), calibration, rows)
    return ReplayOutcome(result, pl.concat(tables) if tables else empty(TIMELINE))


def score_policies(
    frame: ServiceFrame, derived: Derived, policies: Mapping[str, Policy], settings: Settings
) -> dict[str, PolicyScore]:
    """Simulate policies on the window they were fitted on: what selection ranks, ``recorded`` among them."""
    if not _replayable(frame, frame):
        return {}
    return _run(frame, frame, derived, policies, settings, whole=False).scores


def replay_service_faults(
    frame_test: ServiceFrame,
    frame_train: ServiceFrame,
    derived_train: Derived,
    policies: Mapping[str, Control],
    settings: Settings,
    faults: Sequence[Fault],
) -> tuple[FaultOutcome, ...]:
    """Replay policies, the recorded counts and the autoscalers of the field under faults.

    The longest capture of the test window is used, led in by what the training window ends with; see
    ``replay_faults``. Empty where nothing can run.
    """
    if not _replayable(frame_test, frame_train):
        return ()
    model = fit_fleet(frame_train, derived_train, settings)
    longest = max(demands(frame_test, model.pools), key=lambda one: one.rows)
    (part,) = taking_over((longest,), frame_train, LEAD_S)
    known = sizing(frame_train, model, derived_train, policies.values())
    sized = {row.name: row.size(known) for row in CONTROLLERS}
    controls: dict[str, Control] = {**policies, RECORDED: recorded(model, part)}
    controls |= {name: scaler for name, scaler in sized.items() if not isinstance(scaler, str)}
    return replay_faults(controls, part, model, faults, part.rows - longest.rows)


def replay_service_placement(
    frame_test: ServiceFrame,
    frame_train: ServiceFrame,
    derived_train: Derived,
    policies: Mapping[str, Control],
    settings: Settings,
    topology: Topology,
    where: str,
) -> tuple[PlacementOutcome, ...]:
    """Place the counts of policies, static peak and those recorded on a topology: ``replay_placement``.

    Empty where nothing can be replayed.

    Raises
    ------
    InputError
        When neither ``topology``, of the file ``where``, nor the history tells the GPUs of an instance.
    """
    if not _replayable(frame_test, frame_train):
        return ()
    model = fit_fleet(frame_train, derived_train, settings)
    sizes = sizes_of(topology, model.gpus_per_instance, tuple(model.pools), where)
    parts = taking_over(demands(frame_test, model.pools), frame_train)
    static = static_peak(frame_train, model)
    found = []
    for name in (*policies, STATIC_PEAK, RECORDED):
        results = []
        for part in parts:
            fixed = constant(static, part) if name == STATIC_PEAK else recorded(model, part)
            results.append(simulate(policies.get(name, fixed), part, model))
        found.append(replay_placement(name, results, model, topology, sizes))
    return tuple(found)


def _replayable(frame: ServiceFrame, history: ServiceFrame) -> bool:
    return bool(history.pools) and bool(frame.pools) and frame.table.height > 0


def _run(
    frame: ServiceFrame,
    history: ServiceFrame,
    derived: Derived,
    policies: Mapping[str, Control],
    settings: Settings,
    *,
    whole: bool,
) -> _Run:
    """Replay policies and the recorded counts; the other baselines only for the ``whole`` table."""
    taken = sorted(set(policies) & set(BASELINES) - {CURRENT})
    if taken:
        raise UsageError(f"a policy may not be named {taken[0]!r}", hint="that is the name of a baseline")
    model = fit_fleet(history, derived, settings)
    if whole:
        model = replace(model, instance_prices=instance_prices(history, settings.prices))
    parts = taking_over(demands(frame, model.pools), history)
    results = {name: [simulate(policy, part, model) for part in parts] for name, policy in policies.items()}
    if whole:
        static = static_peak(history, model)
        results[STATIC_PEAK] = [simulate(constant(static, part), part, model) for part in parts]
    results[RECORDED] = [simulate(recorded(model, part), part, model) for part in parts]
    accounts: dict[str, Any] = {}
    if whole:
        results[ORACLE] = [simulate(foreseen(model, part), part, model) for part in parts]
        best = hindsight(parts, model)
        results[HINDSIGHT] = list(best.results)
        known = sizing(history, model, derived, policies.values())
        sized = {row.name: row.size(known) for row in CONTROLLERS}
        results |= {
            name: [simulate(scaler, part, model) for part in parts]
            for name, scaler in sized.items()
            if not isinstance(scaler, str)
        }
        accounts = {
            "least_instance_hours": best.least_instance_hours,
            "not_expressed": {name: why for name, why in sized.items() if isinstance(why, str)},
        }
        entries = day_plan(history, model)
        if isinstance(entries, str):
            accounts["not_expressed"][TIMETABLE] = entries
        else:
            results[TIMETABLE] = [simulate(by_the_clock(entries, part), part, model) for part in parts]
            accounts["timetable"] = [written(entry) for entry in entries]
    scores = {
        name: score(name, replayed, model, evidence.path(frame.service, "replay", name))
        for name, replayed in results.items()
    }
    rows = {name: found.row for name, found in scores.items()}
    scores = {name: replace(found, row=compared(found.row, rows)) for name, found in scores.items()}
    return _Run(model, parts, results, scores, accounts)


def sizing(history: ServiceFrame, model: FleetModel, derived: Derived, policies: Iterable[Control]) -> Sizing:
    """Return what autoscalers are sized by: the targets and bounds that the policies have.

    Without a policy among them the bounds are 1 … twice the most instances of the history. The band of the
    ratio is its interval or band, one tenth to either side where it has none.
    """
    bounds = {role: (1, max(2, 2 * _most(history, role))) for role in model.pools}
    for policy in (one for one in policies if isinstance(one, Policy)):
        bounds |= {role: (b.min, b.max) for role, b in policy.bounds.items() if role in bounds}
    found = derived.pd_ratio
    band = found.band if found.status == "drifting" else found.ci
    ratio = None
    if found.value is not None:
        low, high = band or (0.9 * found.value, 1.1 * found.value)
        ratio = (found.value, low, high)
    return Sizing(
        {role: pool.target for role, pool in model.pools.items()},
        {role: work_signal(history, role) for role in model.pools},
        frozenset(model.signals),
        bounds,
        ratio,
    )


def _most(history: ServiceFrame, role: str) -> int:
    counts = history.values("instances", role)
    return math.ceil(float(np.nanmax(counts))) if np.isfinite(counts).any() else 1


def _accounts(run: _Run, frame_test: ServiceFrame) -> dict[str, Any]:
    """Return what the figures rest on: rows left out, hours to reconcile, start-up times, baselines."""
    window_h = frame_test.window_s / 3600
    all_hours = {
        role: float(np.nansum(frame_test.values("instances", role))) * window_h for role in run.model.pools
    }  # fmt: skip
    return {
        "rows": {
            "scored": sum(int(p.scored.sum()) for p in run.parts),
            "gap": sum(int(p.gap.sum()) for p in run.parts),
            "saturated_without_offered_demand": sum(int(p.censored.sum()) for p in run.parts),
        },
        "recorded_instance_hours_all_rows": all_hours,
        "start_up_s": {
            role: {"value": pool.start_up_s, "provenance": pool.start_up_from}
            for role, pool in run.model.pools.items()
        },
        "baselines": {name: text for name, text in BASELINES.items() if name in run.results},
        **run.accounts,
        "static_peak_counts": {
            role: int(run.results[STATIC_PEAK][0].desired[role][0]) for role in run.model.pools
        },
    }


def _span(frame: ServiceFrame) -> tuple[str, str] | None:
    """First start and last end of the rows, ISO 8601 UTC."""
    seconds: Sequence[float] = frame.seconds().tolist()
    if not seconds:
        return None
    ends = (min(seconds), max(seconds) + frame.window_s)
    start, end = (datetime.fromtimestamp(s, UTC).isoformat().replace("+00:00", "Z") for s in ends)
    return start, end
