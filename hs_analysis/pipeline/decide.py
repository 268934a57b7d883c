"""Which policy, and what it would have done: the stages select, replay and policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import hs_analysis
from hs_analysis.catalogue import Catalogue
from hs_analysis.current import CurrentAutoscaler
from hs_analysis.export import expression
from hs_analysis.pipeline import beside, tables
from hs_analysis.pipeline.frames import read_frames, split
from hs_analysis.pipeline.gather import catalogue_of
from hs_analysis.pipeline.judge import TRAIN, WHOLE, parts, read_derived, read_verdicts
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.policy import Policy, build_policy, candidate_primaries, dump_all
from hs_analysis.policy.rounding import rounded
from hs_analysis.replay import (
    NO_FAULT,
    faults_named,
    replay_service,
    replay_service_faults,
    score_family,
    score_policies,
    try_signals,
)
from hs_analysis.replay.control import Control
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.backtests import CandidateScore, PolicyReplay, ReplayResult, SearchPoint
from hs_analysis.schema.baselines import CURRENT, TUNED
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.trial import SignalTrial
from hs_analysis.select import apply_setting, search_service, select_service, setting_of
from hs_analysis.store import read_table

POLICY_FILE = "policy.yaml"
NOTES_FILE = "data/promql_notes.json"

Key = tuple[str, str]


@dataclass(frozen=True)
class Chosen:
    """The candidate that selection took, and the part of the window it was fitted and scored on."""

    policy: str
    fit: str


def select_policies(work: Work) -> Outcome:
    """Simulate every candidate on the training window and choose one per service; search their numbers.

    Where the first part of a history is too short to give a candidate but the whole is not, candidates are
    fitted and scored on the whole window: a policy that no unseen data has tested is better than none, and is
    marked as such.
    """
    rows: list[dict[str, Any]] = []
    searched: list[dict[str, Any]] = []
    chosen = []
    frames = read_frames(work.run)
    for number, frame in enumerate(frames):
        work.progress.advanced(number, len(frames), "services")
        scores: tuple[CandidateScore, ...] = ()
        points: tuple[SearchPoint, ...] = ()
        fit = TRAIN
        for fit, part in parts(frame, work.settings.train_share, (TRAIN, WHOLE)).items():
            derived = read_derived(work.run, frame.service, fit)
            candidates = _candidates(work, part, fit)
            scores = select_service(part, derived, candidates, work.settings, score_policies)
            points = search_service(part, derived, candidates, work.settings, score_family)
            if any(score.chosen for score in scores):
                break
        key = {"service": frame.service, "fit": fit}
        rows += [key | vars(score) for score in scores]
        searched += [key | vars(point) for point in points]
        chosen += [score.policy for score in scores if score.chosen]
    tables.write_rows(work.out, "select", rows)
    tables.write_rows(work.out, "select_search", searched)
    return Outcome(f"candidates {len(rows)}, chosen {', '.join(dict.fromkeys(chosen)) or 'none'}")


def _candidates(work: Work, part: ServiceFrame, fit: str) -> dict[str, Policy]:
    verdicts = read_verdicts(work.run, part.service, fit)
    derived = read_derived(work.run, part.service, fit)
    return {
        name: build_policy(part, derived, verdicts, primaries, work.settings, {}, {})
        for name, primaries in candidate_primaries(verdicts, derived).items()
    }


def read_scores(folder: Path, service: str) -> tuple[CandidateScore, ...]:
    """Return the candidates of one service as selection scored them."""
    return tuple(
        score
        for fit in (TRAIN, WHOLE)
        for score in tables.read_rows(folder, "select", CandidateScore, service, fit)
    )


def chosen_policy(folder: Path, service: str) -> Chosen | None:
    """Return what selection took, None when it took none."""
    for fit in (TRAIN, WHOLE):
        for score in tables.read_rows(folder, "select", CandidateScore, service, fit):
            if score.chosen:
                return Chosen(score.policy, fit)
    return None


def searched_point(folder: Path, service: str) -> SearchPoint | None:
    """Return the point that the search took on the training window, None when it took none there."""
    points = tables.read_rows(folder, "select_search", SearchPoint, service, TRAIN)
    return next((point for point in points if point.chosen), None)


def fault_rows(work: Work, names: Sequence[str]) -> list[dict[str, Any]]:
    """Replay the policies of the replay, and the autoscalers beside them, under faults on the test window.

    Returns
    -------
    list
        Per service, policy and fault (``none`` first) one flat row: ``service``, ``fit``, ``policy``,
        ``fault``, ``text``, ``slo_violation_ratio``, ``recovery_s``, ``unserved_tokens``, and
        ``lowest_<role>`` and ``lowest_ready_<role>`` of each pool. A service that can't be replayed has none.

    Raises
    ------
    UsageError
        When a fault is unknown.
    """
    faults = faults_named(names)
    texts = {fault.name: fault.text for fault in (NO_FAULT, *faults)}
    rows: list[dict[str, Any]] = []
    for frame in read_frames(work.run):
        train, test = split(frame, work.settings.train_share)
        derived = read_derived(work.run, frame.service, TRAIN)
        controls = _controls(work, train, _current(work, train))
        for one in replay_service_faults(test, train, derived, controls, work.settings, faults):
            row = vars(one) | {"service": frame.service, "fit": TRAIN, "text": texts[one.fault]}
            for name in ("lowest", "lowest_ready"):
                row |= {f"{name}_{role}": count for role, count in row.pop(name).items()}
            rows.append(row)
    return rows


def _replayed(work: Work, train: ServiceFrame) -> dict[str, Policy]:
    """Return what is replayed on unseen data: the chosen policy, and the point that the search took."""
    chosen = chosen_policy(work.run, train.service)
    if chosen is None or chosen.fit != TRAIN:
        return {}
    candidates = _candidates(work, train, TRAIN)
    policies = {chosen.policy: candidates[chosen.policy]}
    point = searched_point(work.run, train.service)
    if point is not None and point.policy in candidates:
        policies[TUNED] = apply_setting(candidates[point.policy], setting_of(point))
    return policies


def replay_policies(work: Work) -> Outcome:
    """Replay the chosen policy, with thresholds of the training window, on the rest of the time.

    Beside it the point that the search chose there: this is the only time that it meets unseen data.

    A policy that was fitted on the whole window is not replayed: it has seen the test.
    """
    windows: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    timelines: list[pl.DataFrame] = []
    told: dict[str, Any] = {}
    frames = read_frames(work.run)
    beside.require_services(work.settings, [frame.service for frame in frames])
    for number, frame in enumerate(frames):
        work.progress.advanced(number, len(frames), "services")
        train, test = split(frame, work.settings.train_share)
        current = _current(work, train)
        derived = read_derived(work.run, frame.service, TRAIN)
        outcome = replay_service(test, train, derived, _controls(work, train, current), work.settings)
        key = {"service": frame.service, "fit": TRAIN}
        found = outcome.result
        if current is not None:
            told[frame.service] = _told(work, frame, current, found.policies)
        known = found.calibration | {"targets": _refitted(derived, read_derived(work.run, frame.service))}
        calibration = json.dumps(to_plain(known), ensure_ascii=False)
        windows.append(key | {"train": found.train, "test": found.test, "calibration": calibration})
        rows += [key | vars(policy) for policy in found.policies]
        timelines.append(outcome.timeline)
    tables.write_rows(work.out, "replay_windows", windows)
    tables.write_rows(work.out, "replay_policies", rows)
    tables.write_frames(work.out, "timeline", timelines)
    if told:
        tables.write_json(work.out, beside.CURRENT_FILE, told)
    faults = work.settings.beside.faults
    if faults:
        tables.write_rows(work.out, "replay_faults", fault_rows(work, faults))
    return Outcome(
        f"policies and baselines {len(rows)}" + (f", faults {', '.join(faults)}" if faults else "")
    )


def _refitted(train: Derived, whole: Derived) -> list[dict[str, Any]]:
    """Return every target as the backtest had it, from the first part, beside that of the whole window."""
    before = {(t.signal, t.role, t.gpu_type): t.target_per_instance for t in train.thresholds}
    return [
        {
            "signal": one.signal,
            "role": one.role,
            "first_part": before.get((one.signal, one.role, one.gpu_type)),
            "whole": one.target_per_instance,
        }
        for one in whole.thresholds
        if one.gpu_type is None
    ]


def _current(work: Work, train: ServiceFrame) -> CurrentAutoscaler | None:
    derived = read_derived(work.run, train.service, TRAIN)
    return beside.current_autoscaler(work.settings.beside.current, train, derived, work.settings)


def _controls(work: Work, train: ServiceFrame, current: CurrentAutoscaler | None) -> dict[str, Control]:
    """Return what is replayed: the selected policy, the searched point, the files given, today's objects."""
    found: dict[str, Control] = {**_replayed(work, train)}
    found |= beside.policies_beside(work.settings.beside.policies, train)
    if current is not None and current.scaler is not None:
        found[CURRENT] = current.scaler
    return found


def _told(
    work: Work, frame: ServiceFrame, current: CurrentAutoscaler, rows: Sequence[PolicyReplay]
) -> dict[str, Any]:
    """Set today's objects beside the policy as policy.yaml will hold it: fitted on the whole window."""
    primaries, _ = policy_primaries(work.run, frame.service)
    verdicts, derived = read_verdicts(work.run, frame.service), read_derived(work.run, frame.service)
    advised = build_policy(frame, derived, verdicts, primaries, work.settings, {}, {})
    chosen = chosen_policy(work.run, frame.service)
    return beside.current_record(current, advised, derived, rows, chosen.policy if chosen else None)


def try_drivers(work: Work) -> Outcome:
    """Let every studied signal drive its pool over the test window, fitted on the training window."""
    rows: list[dict[str, Any]] = []
    frames = read_frames(work.run)
    for number, frame in enumerate(frames):
        work.progress.advanced(number, len(frames), "services")
        train, test = split(frame, work.settings.train_share)
        derived = read_derived(work.run, frame.service, TRAIN)
        verdicts = read_verdicts(work.run, frame.service)
        tried = try_signals(test, train, derived, verdicts, work.settings)
        rows += [{"service": frame.service, "fit": TRAIN} | vars(one) for one in tried]
    tables.write_rows(work.out, "trial", rows)
    ran = [row for row in rows if row["dip_ratio"] is not None]
    return Outcome(f"signals tried {len(ran)} of {len(rows)}")


def read_trial(folder: Path, service: str) -> tuple[SignalTrial, ...]:
    """Return how every signal did as the driver of its pool."""
    return tables.read_rows(folder, "trial", SignalTrial, service, TRAIN)


def read_replay(folder: Path, service: str) -> ReplayResult:
    """Return the backtest of one service."""
    frame = tables.read(folder, "replay_windows").filter(pl.col("service") == service)
    row = frame.row(0, named=True)
    policies = tables.read_rows(folder, "replay_policies", PolicyReplay, service, TRAIN)
    window = from_plain(
        ReplayResult,
        {"train": row["train"], "test": row["test"], "calibration": json.loads(row["calibration"])},
    )
    faults = tables.read(folder, "replay_faults").filter(pl.col("service") == service).drop("service", "fit")
    current = beside.read_current(folder, service)
    return ReplayResult(
        window.train, window.test, window.calibration, policies, current, tuple(faults.to_dicts())
    )


def write_policies(work: Work) -> Outcome:
    """Fit the chosen policy on the whole window and write policy.yaml."""
    series = read_table(work.run / tables.PLACES["series"])
    policies, notes = [], {}
    for frame in read_frames(work.run):
        verdicts = read_verdicts(work.run, frame.service)
        primaries, _ = policy_primaries(work.run, frame.service)
        keys = [*primaries, *((v.signal, v.role) for v in verdicts if v.signal in ("ttft", "tbt"))]
        queries, warnings = _expressions(frame, keys, series, catalogue_of(work.settings))
        meta = _meta(work, frame, series)
        derived = read_derived(work.run, frame.service)
        made = build_policy(frame, derived, verdicts, primaries, work.settings, queries, meta)
        policies.append(rounded(made))
        notes[frame.service] = warnings
    (work.out / POLICY_FILE).write_text(dump_all(policies), encoding="utf-8")
    tables.write_json(work.out, NOTES_FILE, notes)
    modes = dict.fromkeys(f"{policy.mode}, confidence {policy.confidence}" for policy in policies)
    return Outcome("; ".join(modes))


def policy_primaries(folder: Path, service: str) -> tuple[tuple[Key, ...], bool]:
    """Return the signals of the policy, and whether they are those that selection took.

    A candidate of the first part of the window may not stand on the whole of it: the mix drifted since, or a
    target became a floor. Then the candidate of the whole window takes its place that shares most signals.
    """
    chosen = chosen_policy(folder, service)
    if chosen is None:
        return (), True
    verdicts, derived = read_verdicts(folder, service, chosen.fit), read_derived(folder, service, chosen.fit)
    taken = candidate_primaries(verdicts, derived)[chosen.policy]
    standing = candidate_primaries(read_verdicts(folder, service), read_derived(folder, service))
    if taken in standing.values() or not standing:
        return taken, True
    return min(standing.values(), key=lambda keys: (-len(set(keys) & set(taken)), len(keys))), False


def _expressions(
    frame: ServiceFrame, keys: Iterable[Key], series: pl.DataFrame, catalogue: Catalogue
) -> tuple[dict[Key, str], list[str]]:
    """Return the PromQL of signals for the user's own Prometheus, and what to know of it."""
    metrics = set(series.filter(pl.col("service") == frame.service)["metric"])
    queries: dict[Key, str] = {}
    warnings: list[str] = []
    for signal, role in keys:
        info = frame.info(signal, role) or frame.info(signal, "service")
        known = catalogue.signal(signal)
        if info is None or known is None:
            continue
        recipes = [s.named(metrics) for s in known.sources if s.source == info.source]
        recipe = next((s for s in recipes if s is not None), None)
        if recipe is None:
            continue
        width = max(300.0, frame.window_s) if role != "service" else frame.window_s
        found = expression(known, recipe, info.role, series, service=frame.service, window_s=width)
        queries[(signal, info.role)] = found.expr
        warnings += found.warnings
    return queries, list(dict.fromkeys(warnings))


def _meta(work: Work, frame: ServiceFrame, series: pl.DataFrame) -> dict[str, Any]:
    replay = read_replay(work.run, frame.service)
    chosen = chosen_policy(work.run, frame.service)
    row = next((policy for policy in replay.policies if chosen and policy.policy == chosen.policy), None)
    units = series.filter(
        (pl.col("service") == frame.service) & pl.col("emitter_role").is_in(list(frame.pools))
    )["unit_kind"].drop_nulls()
    return {
        "window": window_of(frame),
        "inputs_sha256": work.inputs_sha256,
        "run": work.run_id,
        "tool_version": hs_analysis.__version__,
        "unit": "group" if units.len() and (units == "group").sum() > units.len() / 2 else "pod",
        "calibrated": replay.calibration.get("status") == "calibrated",
        "holds_slo": _holds(row, work.settings.slo),
        "replay": _replay_note(replay, row),
    }


def _holds(row: PolicyReplay | None, slo: Slo) -> bool:
    """Whether the backtest gives no reason to think that the policy breaks the SLO."""
    share = row.slo_violation_ratio if row else None
    return share is None or not slo.given or share <= slo.allowed_window_share


def _replay_note(replay: ReplayResult, row: PolicyReplay | None) -> Mapping[str, Any]:
    if row is None:
        return {}
    figures = (
        "instance_hours",
        "gpu_hours",
        "slo_violation_ratio",
        "vs_recorded",
        "vs_static_peak",
        "evidence",
    )
    return {
        "policy": row.policy,
        "test": list(replay.test) if replay.test else None,
        **{name: getattr(row, name) for name in figures},
        "calibration": replay.calibration.get("status"),
    }


def window_of(frame: ServiceFrame) -> dict[str, Any]:
    """Return first start and last end of a service's rows, and the width of one."""
    seconds: Sequence[float] = frame.seconds().tolist()
    ends = pl.Series([min(seconds), max(seconds) + frame.window_s])
    start, end = pl.from_epoch((ends * 1e6).cast(pl.Int64), time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"start": start, "end": end, "step_s": frame.window_s}
