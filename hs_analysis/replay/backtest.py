"""The backtest of a service: each policy beside static peak, the recorded counts and hindsight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.controllers import CONTROLLERS, Autoscaler, Sizing
from hs_analysis.errors import UsageError
from hs_analysis.policy.build import bounds_of, reading_of
from hs_analysis.policy.controls import held_target
from hs_analysis.policy.timetable import written
from hs_analysis.policy.topology import Topology, sizes_of
from hs_analysis.replay.baselines import (
    by_the_clock,
    constant,
    day_plan,
    foreseen,
    offline_optimum,
    recorded,
    static_peak,
)
from hs_analysis.replay.calibrate import calibrate, moved_lengths, moved_types, prediction_errors, with_side
from hs_analysis.replay.carried import Laws, as_seen, judged_by, laws_of, settled, violation_bounds
from hs_analysis.replay.demand import DemandTrace, demands, taking_over
from hs_analysis.replay.faults import (
    FAULTS,
    PLACES_TO_SELECT,
    Fault,
    FaultOutcome,
    fault_shares,
    replay_faults,
)
from hs_analysis.replay.flat_load import flat_actions
from hs_analysis.replay.fleet import FleetModel, fit_fleet, instance_prices
from hs_analysis.replay.limit_cost import has_limits, held_by_limits
from hs_analysis.replay.placement import replay_placement
from hs_analysis.replay.ratios import RatioRange, ratio_range
from hs_analysis.replay.score import (
    PolicyScore,
    compared,
    cut,
    judged_roles,
    score,
    with_intervals,
)
from hs_analysis.replay.signals import work_signal
from hs_analysis.replay.simulate import (
    Control,
    Run,
    Schedule,
    SimulationResult,
    simulate,
    timeline,
)
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.clock import UTC_NAME
from hs_analysis.schema.constants import DAY_S, DECILES
from hs_analysis.schema.frames import TIMELINE, empty
from hs_analysis.schema.names import (
    BASELINES,
    BURST,
    CURRENT,
    DEFAULT_HPA,
    GAP,
    HINDSIGHT,
    IN_SAMPLE,
    ORACLE,
    RATIO_ROWS,
    RECORDED,
    STATIC_PEAK,
    TIMETABLE,
    TRANSLATED,
    UNLIMITED,
)
from hs_analysis.schema.replays import PlacementOutcome, PolicyReplay, ReplayResult
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Settings


@dataclass(frozen=True)
class ReplayOutcome:
    """The backtest, and every row of it in the ``timeline`` contract.

    ``under_faults`` says of each control that was struck how often faults and bursts break the SLO on the
    longest capture: ``faults``, the mean chance of violating over the nine faults, ``gap``, that while no
    metric can be read, and ``bursts`` [ratio]. Empty without a capacity or a limit to break. ``aside`` are
    the rows of those that are struck and are no policies, which the result leaves out, by name.
    """

    result: ReplayResult
    timeline: pl.DataFrame
    under_faults: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    aside: Mapping[str, PolicyReplay] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    """All controls replayed on one window; ``aside`` are those that are no rows of the backtest.

    ``settled`` is what figures are summed from: results and ``aside`` with few unknown windows judged.
    """

    model: FleetModel
    parts: tuple[DemandTrace, ...]
    results: dict[str, list[SimulationResult]]
    scores: dict[str, PolicyScore]
    accounts: dict[str, Any]
    under_faults: dict[str, dict[str, float]]
    aside: dict[str, list[SimulationResult]]
    settled: dict[str, list[SimulationResult]]


def replay_service(
    frame_test: ServiceFrame,
    frame_train: ServiceFrame,
    derived_train: Derived,
    policies: Mapping[str, Control],
    settings: Settings,
    typed: pl.DataFrame | None = None,
    versions: Sequence[str] = (),
    whole: tuple[ServiceFrame, Derived] | None = None,
    struck: Mapping[str, Control] | None = None,
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
    whole
        The whole history and its numbers. What a load does to latency is the fleet's and not the policy's:
        windows over the limit are told by all that was recorded. None takes the training window.
    struck
        Controls that also run under faults and bursts, or only there where they are no policies; with them a
        default HPA where one can be set up. None for nothing.

    Returns
    -------
    ReplayOutcome
        One row per policy in the order given, then the baselines: static peak, what ran, the future known,
        and every autoscaler of the field that can be expressed on the service (``calibration`` says why
        others can't). Comparisons are in GPU-hours when every pool's GPUs per instance are known, else in
        instance-hours. Where the fleet model does not agree with history (``calibration``),
        ``slo_violation_ratio``, its time and its tokens are None and the shares are kept in ``calibration``.
        The violations of ``recorded`` are predicted like all others, so that rows compare, but in windows
        whose load is beyond what the laws know; those seen are in ``calibration``. Without pools or demand
        there are no rows and ``calibration`` says so.

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
    laws = laws_of(*(whole or (frame_train, derived_train)), settings)
    run = _run(frame_test, frame_train, derived_train, policies, settings, laws, struck or {})
    moved = moved_lengths(frame_train, frame_test)
    types = moved_types(frame_test, derived_train, typed)
    counts, held = _recorded_counts(run, frame_train, derived_train, settings, whole, laws)
    calibration = calibrate(counts, run.model, settings.slo, moved, types, versions, held=held)
    calibration["readings"] = prediction_errors(run.results[RECORDED], run.model)
    judged = judged_roles(run.model)
    rows = _rows(run.scores, run.results, run.model, laws, calibration)
    aside = _rows(run.scores, run.aside, run.model, laws, dict(calibration))
    calibration |= _accounts(run, frame_test)
    if has_limits(settings):
        limits = {name: held_by_limits(run.results[name], settings) for name in policies}
        calibration["held_by_limits"] = {name: [vars(one) for one in found] for name, found in limits.items()}
    gpus = run.model.gpus_per_instance
    pieces = {name: cut(run.settled[name], judged, gpus) for name in run.results}
    rows = tuple(with_intervals(row, pieces, settings.seed, settings.draws) for row in rows)
    tables = [
        timeline(frame_test.service, name, result, judged)
        for name, results in run.results.items()
        for result in results
    ]
    result = ReplayResult(_span(frame_train), _span(frame_test), calibration, rows)
    table = pl.concat(tables) if tables else empty(TIMELINE)
    return ReplayOutcome(result, table, run.under_faults, {row.policy: row for row in aside})


@dataclass(frozen=True)
class CandidateOutcome:
    """One candidate on the window it was fitted on.

    Attributes
    ----------
    score
        Its figures undisturbed.
    fault_ratio
        Mean chance of violating under each fault, and under bursts, by name [ratio]; empty where no pool has
        a capacity.
    flat_actions
        Actions a pool and day while the load stands still; None where that is not known.
    """

    score: PolicyScore
    fault_ratio: Mapping[str, float]
    flat_actions: float | None = None


def score_policies(
    frame: ServiceFrame, derived: Derived, policies: Mapping[str, Control], settings: Settings
) -> dict[str, CandidateOutcome]:
    """Simulate controls on the window they were fitted on: what selection ranks.

    Undisturbed on every capture, and under faults and bursts in the steep hours of the longest. ``recorded``
    is among them, and the default HPA on the derived targets (``hpa``) where one can be set up.
    """
    if not _replayable(frame, frame):
        return {}
    model = fit_fleet(frame, derived, settings)
    controls = {**policies, **_default_hpa(frame, model, derived, settings)}
    parts = demands(frame, model.pools)
    longest = max(parts, key=lambda one: one.rows)
    results: dict[str, list[SimulationResult]] = {name: [] for name in (*controls, RECORDED)}
    shares = np.full((len(results), len(FAULTS)), np.nan)
    for part in parts:
        every = {**controls, RECORDED: recorded(model, part)}
        run = Run(tuple(every.values()), part, model)
        if part is longest:
            shares = fault_shares(run, FAULTS, PLACES_TO_SELECT)
        run.advance(part.rows)
        for name, result in zip(every, run.results(), strict=True):
            results[name].append(result)
    flats = _flat(controls, parts, model, derived, settings.seed)
    found = {}
    for row, (name, replayed) in enumerate(results.items()):
        scored = score(name, replayed, model, evidence.path(frame.service, "replay", name))
        named = {fault.name: float(shares[row, at]) for at, fault in enumerate(FAULTS)}
        flat = flats.get(name, math.nan)
        known = {fault: share for fault, share in named.items() if not math.isnan(share)}
        found[name] = CandidateOutcome(scored, known, None if math.isnan(flat) else flat)
    return found


def _flat(
    controls: Mapping[str, Control],
    parts: Sequence[DemandTrace],
    model: FleetModel,
    derived: Derived,
    seed: int,
) -> dict[str, float]:
    """Return the actions a pool and day of controls at flat load, at the sizes that the history asks for."""
    deciding = {name: one for name, one in controls.items() if not isinstance(one, Schedule)}
    needs = {}
    for role, pool in model.pools.items():
        load = np.concatenate([part.offered[role][part.scored] for part in parts])
        if pool.target is None or not load.size:
            return {}
        low, high = np.quantile(load, DECILES) / pool.target
        needs[role] = (float(low), float(high))
    whole = [one for one in derived.thresholds if one.gpu_type is None]
    noise = {(one.signal, one.role): one.noise_cv or 0.0 for one in whole}
    found = flat_actions(tuple(deciding.values()), needs, noise, seed)
    return dict(zip(deciding, found.tolist(), strict=True))


def _default_hpa(
    history: ServiceFrame, model: FleetModel, derived: Derived, settings: Settings
) -> dict[str, Control]:
    """Return an HPA with Kubernetes' defaults on the derived targets; empty where it can't be set up."""
    row = next(one for one in CONTROLLERS if one.name == DEFAULT_HPA)
    found = row.size(sizing(history, model, derived, settings))
    return {} if isinstance(found, str) else {DEFAULT_HPA: found}


def replay_service_faults(
    frame_test: ServiceFrame,
    frame_train: ServiceFrame,
    derived_train: Derived,
    policies: Mapping[str, Control],
    settings: Settings,
    faults: Sequence[Fault],
) -> tuple[FaultOutcome, ...]:
    """Replay policies, the recorded counts and the autoscalers of the field under faults.

    The longest capture of the test window is used; see ``replay_faults``. Empty where nothing can run.
    """
    if not _replayable(frame_test, frame_train):
        return ()
    model = fit_fleet(frame_train, derived_train, settings)
    part = max(taking_over(demands(frame_test, model.pools), frame_train), key=lambda one: one.rows)
    field, _ = _autoscalers(frame_train, model, derived_train, settings)
    controls: dict[str, Control] = {**policies, RECORDED: recorded(model, part), **field}
    return replay_faults(controls, part, model, faults)


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
    results = _results(
        parts,
        model,
        lambda part: {**policies, STATIC_PEAK: constant(static, part), RECORDED: recorded(model, part)},
    )
    return tuple(replay_placement(name, one, model, topology, sizes) for name, one in results.items())


def _replayable(frame: ServiceFrame, history: ServiceFrame) -> bool:
    return bool(history.pools) and bool(frame.pools) and frame.table.height > 0


def _refuse_names_of_baselines(policies: Iterable[str]) -> None:
    ours = {CURRENT, IN_SAMPLE, UNLIMITED, *TRANSLATED.values(), *RATIO_ROWS}
    taken = sorted(set(policies) & set(BASELINES) - ours)
    if taken:
        raise UsageError(f"a policy may not be named {taken[0]!r}", hint="that is the name of a baseline")


def _run(
    frame: ServiceFrame,
    history: ServiceFrame,
    derived: Derived,
    policies: Mapping[str, Control],
    settings: Settings,
    laws: Laws,
    struck: Mapping[str, Control],
) -> _Run:
    """Replay policies and all baselines, some under faults as well, and judge them by laws."""
    _refuse_names_of_baselines(policies)
    model = fit_fleet(history, derived, settings)
    model = replace(model, instance_prices=instance_prices(history, settings.prices))
    parts = taking_over(demands(frame, model.pools), history)
    static = static_peak(history, model)
    field, not_expressed = _autoscalers(history, model, derived, settings)
    entries = day_plan(history, model, settings.reading.tz or UTC_NAME)
    only_struck = {name: one for name, one in struck.items() if name not in policies}

    def controls(part: DemandTrace) -> dict[str, Control]:
        found: dict[str, Control] = {**policies, STATIC_PEAK: constant(static, part)}
        found |= {RECORDED: recorded(model, part), ORACLE: foreseen(model, part), **field}
        if not isinstance(entries, str):
            found[TIMETABLE] = by_the_clock(entries, part)
        return found | only_struck

    results, shares = _results_and_shares(parts, model, controls, (*struck, DEFAULT_HPA) if struck else ())
    best = offline_optimum(parts, model)
    before = (*policies, STATIC_PEAK, RECORDED, ORACLE)
    results = {
        **{name: results[name] for name in before},
        HINDSIGHT: list(best.results),
        **{name: one for name, one in results.items() if name not in before},
    }
    accounts: dict[str, Any] = {"least_instance_hours": best.least_instance_hours}
    accounts["not_expressed"] = not_expressed
    if isinstance(entries, str):
        not_expressed[TIMETABLE] = entries
    else:
        accounts["timetable"] = list(map(written, entries))
    model = judged_by(model, laws)
    laws = replace(laws, pools=model.pools)
    results = {name: [laws.judge(one) for one in found] for name, found in results.items()}
    results[RECORDED] = [as_seen(one, model.pools, settings.slo) for one in results[RECORDED]]
    summed = {name: settled(found, judged_roles(model)) for name, found in results.items()}
    scores = _scores(frame.service, summed, model, ratio_range(derived.pd_ratio))
    aside = {name: results.pop(name) for name in only_struck}
    return _Run(model, parts, results, scores, accounts, shares if judged_roles(model) else {}, aside, summed)


def _rows(
    scores: Mapping[str, PolicyScore],
    results: Mapping[str, Sequence[SimulationResult]],
    model: FleetModel,
    laws: Laws,
    calibration: dict[str, Any],
) -> tuple[PolicyReplay, ...]:
    """Return the rows with their side of the SLO; shares that are off move to ``calibration``."""
    judged = judged_roles(model)
    rows = tuple(
        with_side(
            scores[name].row,
            violation_bounds(found, judged),
            calibration,
            model.allowed,
            laws.far_above(found),
        )
        for name, found in results.items()
    )
    if calibration["status"] != "not_calibrated":
        return rows
    calibration["uncalibrated_shares"] = {row.policy: row.slo_violation_ratio for row in rows}
    return tuple(
        replace(
            row, slo_violation_ratio=None, slo_violation_s=None, slo_violation_tokens=None, recovery_s=None
        )
        for row in rows
    )


def _recorded_counts(
    run: _Run,
    train: ServiceFrame,
    derived_train: Derived,
    settings: Settings,
    whole: tuple[ServiceFrame, Derived] | None,
    laws: Laws,
) -> tuple[list[SimulationResult], bool]:
    """Return the counts that ran, judged by laws that have not seen them, and whether a held part did that.

    On one day no part can be held back, for its hours are not those of the rest: every block of the day is
    judged by the others.
    """
    if whole is None or not is_one_day(whole[0]):
        first = laws_of(train, derived_train, settings)
        return [first.judge(one) for one in run.results[RECORDED]], True
    parts = demands(whole[0], run.model.pools)
    results = [simulate(recorded(run.model, part), part, run.model) for part in parts]
    return [laws.judge_by_blocks(one) for one in results], False


def is_one_day(frame: ServiceFrame) -> bool:
    """Whether a production history is too short to hold back a part that has seen the same hours."""
    days = (float(np.ptp(frame.seconds())) + frame.window_s) / DAY_S if frame.table.height else 0.0
    return frame.kind == "production" and round(days) < 2


def replay_day(
    frame: ServiceFrame, derived: Derived, controls: Mapping[str, Control], settings: Settings
) -> ReplayOutcome | None:
    """Replay policies by name on the one day that they were fitted on, beside what ran.

    Returns
    -------
    ReplayOutcome or None
        Rows of the policies, in their order, and of ``recorded``. The savings' intervals are drawn from
        blocks of the day, and counts are calibrated block by block against the rest of it: nothing else is
        known of another day. None where a part of the history can be held back, and where nothing can be
        replayed.
    """
    if not is_one_day(frame) or not _replayable(frame, frame):
        return None
    laws, model = laws_of(frame, derived, settings), fit_fleet(frame, derived, settings)
    model = replace(model, instance_prices=instance_prices(frame, settings.prices))
    found = _results(
        demands(frame, model.pools), model, lambda part: {**controls, RECORDED: recorded(model, part)}
    )
    counts = [laws.judge_by_blocks(one) for one in found[RECORDED]]
    calibration = calibrate(counts, model, settings.slo, held=False)
    results = {key: [laws.judge(one) for one in some] for key, some in found.items()}
    results[RECORDED] = [as_seen(one, model.pools, settings.slo) for one in results[RECORDED]]
    judged = judged_roles(model)
    summed = {key: settled(some, judged) for key, some in results.items()}
    scores = _scores(frame.service, summed, model, ratio_range(derived.pd_ratio))
    rows = _rows(scores, results, model, laws, calibration)
    gpus = model.gpus_per_instance
    pieces = {key: cut(some, judged, gpus) for key, some in summed.items()}
    rows = tuple(with_intervals(row, pieces, settings.seed, settings.draws) for row in rows)
    tables = [timeline(frame.service, key, one, judged) for key, some in results.items() for one in some]
    return ReplayOutcome(ReplayResult(None, _span(frame), calibration, rows), pl.concat(tables))


def _scores(
    service: str,
    results: Mapping[str, Sequence[SimulationResult]],
    model: FleetModel,
    ratio: RatioRange | None,
) -> dict[str, PolicyScore]:
    """Return the figures of each control, set beside those of the baselines."""
    scores = {
        name: score(name, replayed, model, evidence.path(service, "replay", name), ratio)
        for name, replayed in results.items()
    }
    rows = {name: found.row for name, found in scores.items()}
    return {name: replace(found, row=compared(found.row, rows)) for name, found in scores.items()}


def _autoscalers(
    history: ServiceFrame, model: FleetModel, derived: Derived, settings: Settings
) -> tuple[dict[str, Autoscaler], dict[str, str]]:
    """Return the autoscalers of the field on the derived targets, and why others can't be set up, by name."""
    known = sizing(history, model, derived, settings)
    sized = {row.name: row.size(known) for row in CONTROLLERS}
    field = {name: one for name, one in sized.items() if not isinstance(one, str)}
    return field, {name: why for name, why in sized.items() if isinstance(why, str)}


def _results(
    parts: Sequence[DemandTrace], model: FleetModel, controls: Callable[[DemandTrace], Mapping[str, Control]]
) -> dict[str, list[SimulationResult]]:
    """Replay the controls of each capture, by name."""
    return _results_and_shares(parts, model, controls, ())[0]


def _results_and_shares(
    parts: Sequence[DemandTrace],
    model: FleetModel,
    controls: Callable[[DemandTrace], Mapping[str, Control]],
    struck: Sequence[str],
) -> tuple[dict[str, list[SimulationResult]], dict[str, dict[str, float]]]:
    """Replay the controls of each capture, by name; and those that are struck under faults on the longest.

    Faults branch off from the replay itself: a control meets them as it stands on that day.
    """
    found: dict[str, list[SimulationResult]] = {}
    shares: dict[str, dict[str, float]] = {}
    longest = max(parts, key=lambda one: one.rows)
    for part in parts:
        named = controls(part)
        run = Run(tuple(named.values()), part, model)
        hit = [name for name in named if name in struck] if part is longest else []
        if hit:
            numbers = [number for number, name in enumerate(named) if name in hit]
            rows = fault_shares(run, FAULTS, controls=numbers)[numbers]
            shares = {name: _faults_and_bursts(row) for name, row in zip(hit, rows.tolist(), strict=True)}
        run.advance(part.rows)
        for name, result in zip(named, run.results(), strict=True):
            found.setdefault(name, []).append(result)
    return found, {name: one for name, one in shares.items() if not math.isnan(one["bursts"])}


def _faults_and_bursts(shares: Sequence[float]) -> dict[str, float]:
    """Return the mean over the faults, what bursts bring and what a metric gap does, of ``FAULTS``."""
    named = {fault.name: share for fault, share in zip(FAULTS, shares, strict=True)}
    bursts = named.pop(BURST)
    return {"faults": float(np.mean(list(named.values()))), "bursts": bursts, "gap": named[GAP]}


def sizing(history: ServiceFrame, model: FleetModel, derived: Derived, settings: Settings) -> Sizing:
    """Return what autoscalers are sized by: targets, bounds and reading that policies have.

    Targets are what Kubernetes can hold, so that the same parameters give the same counts.

    The band of the ratio is its ``ratio_range``.
    """
    bounds = {role: (one.min, one.max) for role, one in bounds_of(history, derived, settings).items()}
    ratio = ratio_range(derived.pd_ratio)
    work = {role: work_signal(history, role) for role in model.pools}
    return Sizing(
        {
            role: None if pool.target is None else held_target(pool.target)
            for role, pool in model.pools.items()
        },
        work,
        frozenset(model.signals),
        bounds,
        (ratio.value, ratio.low, ratio.high) if ratio else None,
        reading_of(history, [(signal, role) for role, signal in work.items() if signal]).window_s,
        {name: limit_s for name in ("ttft", "tbt") if (limit_s := settings.slo.limit_s(name)) is not None},
    )


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
            role: {"value": pool.startup_s, "provenance": pool.startup_from}
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
