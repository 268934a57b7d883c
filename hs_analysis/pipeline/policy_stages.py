"""What the policy would have done, and how it is written: the stages replay, policy and plan-test."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import hs_analysis
from hs_analysis.controllers import HeteroScale
from hs_analysis.derive import other_version
from hs_analysis.doctor import idle_pools
from hs_analysis.export import Loss
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.beside import policies_beside, require_spoken_of
from hs_analysis.pipeline.field_costs import Ablations, ablations, replayed
from hs_analysis.pipeline.ingest_stages import catalogue_of, without_service
from hs_analysis.pipeline.objects import (
    CURRENT_FILE,
    Key,
    current_autoscaler,
    current_record,
    deployed,
    deployed_as,
    expressions,
    known_service,
    read_current,
    sets_up_the_same,
    with_targets,
)
from hs_analysis.pipeline.ratio_tests import policy_of, tested_names
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.pipeline.request_times import graces, scale_in_of, with_graces
from hs_analysis.pipeline.select_stage import Chosen, ServiceTask, chosen_policy
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.pipeline.study_stages import PRECISION, TRAIN, WHOLE, read_derived, read_verdicts
from hs_analysis.pipeline.tables import (
    read_entries,
    read_frames,
    service_names,
    split,
    typed_rows,
    typed_signals,
)
from hs_analysis.pipeline.tasks import map_tasks
from hs_analysis.plan_test import plan_service
from hs_analysis.policy import Policy, build_policy, candidate_primaries, dump_all
from hs_analysis.policy.confidence import Grounds, recorded_weekdays
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.decision import Consequences, decide_on, limit_cost, pool_counts, with_decision
from hs_analysis.policy.declaration import MODELINE
from hs_analysis.policy.model import SignalReading
from hs_analysis.policy.ratio_costs import stray_cost
from hs_analysis.policy.rounding import rounded
from hs_analysis.policy.scale_in import Grace
from hs_analysis.policy.timetable import periodic_policy, planned_roles
from hs_analysis.policy.topology import load_topology
from hs_analysis.policy.waiting import QUEUE, WAITS_IN, with_waiting
from hs_analysis.replay import (
    NO_FAULT,
    ReplayOutcome,
    faults_named,
    replay_day,
    replay_service,
    replay_service_faults,
    replay_service_placement,
)
from hs_analysis.replay.baselines import day_plan_of
from hs_analysis.replay.calibrate import counts_apart
from hs_analysis.replay.limit_cost import has_limits, without_limits
from hs_analysis.replay.ratios import moving
from hs_analysis.replay.simulate import Control
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.clock import UTC_NAME
from hs_analysis.schema.decision import LimitCost, LimitHeld, PolicyDecision, PoolDecision
from hs_analysis.schema.json_schema import SCHEMA_FILES, shipped_schema
from hs_analysis.schema.names import (
    CURRENT,
    DEFAULT_HPA,
    IN_SAMPLE,
    NEUTRAL,
    PERIODIC,
    RATIO_FIXED,
    READ_AS_IDLE,
    RECORDED,
    TRANSLATED,
    UNLIMITED,
)
from hs_analysis.schema.replays import FaultReplay, PlacementOutcome, PolicyReplay, ReplayResult
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Settings
from hs_analysis.select import with_knobs

if TYPE_CHECKING:
    from hs_analysis.current import CurrentAutoscaler, Known, Withheld


POLICY_FILE = "policy.yaml"
NOTES_FILE = "data/promql_notes.json"
DECISIONS_FILE = "data/decisions.json"


def headline_of(folder: Path, policy: Policy) -> str:
    """Return the row of the backtest that speaks of a policy as it is written; empty where none does.

    A timetable has none where only the whole window makes one.
    """
    chosen = chosen_policy(folder, policy.service)
    said = read_replay(folder, policy.service).calibration.get("deployed") or {}
    if policy.mode == "periodic":
        return PERIODIC if said.get("policy") == PERIODIC else ""
    return chosen.policy if chosen else ""


def fault_rows(work: Work, names: Sequence[str], doubted: Collection[str] = ()) -> list[dict[str, Any]]:
    """Replay the policies of the replay, and the autoscalers beside them, under faults on the test window.

    Today's autoscaler is left out of the services ``doubted``: there it may not be compared.

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
    for aligned in read_frames(work.run):
        is_doubted = aligned.service in doubted
        current, frame = (None, aligned) if is_doubted else _current(work, aligned)
        train, test = split(frame, work.settings.train_share)
        derived = read_derived(work.run, frame.service, TRAIN)
        controls = _controls(work, aligned, train, current)
        for one in replay_service_faults(test, train, derived, controls.of, work.settings, faults):
            row = vars(one) | {"service": frame.service, "fit": TRAIN, "text": texts[one.fault]}
            for name in ("lowest", "lowest_ready"):
                row |= {f"{name}_{role}": count for role, count in row.pop(name).items()}
            rows.append(row)
    return rows


def replay_policies(work: Work) -> Outcome:
    """Replay the chosen policy, with thresholds of the training window, on the rest of the time.

    A policy that was fitted on the whole window is not replayed: it has seen the test.
    """
    services = service_names(work.run)
    require_spoken_of(work.settings, services)
    tasks = [ServiceTask(work.run, work.settings, service) for service in services]
    found = []
    for number, one in enumerate(map_tasks(replay_one, tasks, work.machine)):
        found.append(one)
        work.progress.advanced(number + 1, len(tasks), "services")
    rows = [row for one in found for row in one.rows]
    tables.write_rows(work.out, "replay_windows", [one.window for one in found])
    tables.write_rows(work.out, "replay_policies", rows)
    tables.write_frames(work.out, "timeline", [one.timeline for one in found])
    told = {one.window["service"]: one.told for one in found if one.told is not None}
    doubted = {one.window["service"] for one in found if one.doubted}
    if told:
        tables.write_json(work.out, CURRENT_FILE, told)
    faults = work.settings.beside.faults
    if faults:
        tables.write_rows(work.out, "replay_faults", fault_rows(work, faults, doubted))
    if work.settings.beside.topology:
        tables.write_rows(work.out, "replay_placement", [row for one in found for row in one.placed])
    return Outcome(
        ", faults ".join([f"policies and baselines {len(rows)}", *filter(None, [", ".join(faults)])])
    )


@dataclass(frozen=True)
class Backtest:
    """Rows of one service's backtest, what is said of today's objects, whether they can't be compared."""

    window: dict[str, Any]
    rows: list[dict[str, Any]]
    timeline: pl.DataFrame
    told: dict[str, Any] | None
    doubted: bool
    placed: list[dict[str, Any]]


def replay_one(task: ServiceTask) -> Backtest:
    """Replay everything on the test window of one service; nothing is written."""
    from hs_analysis.pipeline.answers import with_llmd_signals

    frame = task.frame()
    pods = graces(task.settings, frame)
    task = replace(task, settings=with_graces(task.settings, pods))
    frame = with_llmd_signals(frame, task.run, task.settings)
    current, frame = _current(task, frame)
    train, test = split(frame, task.settings.train_share)
    key = {"service": frame.service, "fit": TRAIN}
    derived = read_derived(task.run, frame.service, TRAIN)
    controls = _controls(task, frame, train, current)
    typed = typed_rows(typed_signals(task.run), test)
    others = other_version(test, train, tables.read(task.run, "versions"))
    every = controls.of | controls.ratios
    whole = (frame, read_derived(task.run, frame.service))
    lost = _ablations(controls)
    struck = _struck(controls) | dict(lost.lanes)
    outcome = replay_service(test, train, derived, every, task.settings, typed, others, whole, struck)
    apart = counts_apart(outcome.timeline, CURRENT, train.pools)
    doubt = None
    if current is not None:
        from hs_analysis.current import withheld, without_today

        doubt = withheld(current, test, train.pools, apart)
        outcome = outcome if doubt is None else without_today(outcome)
    named = {name: one for name, one in controls.of.items() if doubt is None or name != CURRENT}
    placed = [key | row for row in _placed(task, test, train, derived, named)]
    found = outcome.result
    name = str(controls.said.get("policy") or "")
    told = None if current is None else _told(task, frame, current, outcome, apart, doubt, name)
    known = found.calibration | _refitted(derived, read_derived(task.run, frame.service))
    known |= {"ratio_rows": controls.ratio_rows} if controls.ratio_rows else {}
    known |= {"deployed": controls.said} | _struck_told(next(iter(struck), ""), lost, outcome)
    known |= {"graces": pods}
    known |= _on_its_day(task, frame, controls)
    calibration = json.dumps(to_plain(known), ensure_ascii=False)
    window = key | {"train": found.train, "test": found.test, "calibration": calibration}
    rows = [key | vars(policy) for policy in found.policies]
    return Backtest(window, rows, outcome.timeline, told, doubt is not None, placed)


def _placed(
    task: ServiceTask,
    test: ServiceFrame,
    train: ServiceFrame,
    derived: Derived,
    controls: Mapping[str, Control],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of controls that were placed on each topology given."""
    for file in task.settings.beside.topology:
        topology = load_topology(file.text, file.name)
        yield from map(
            vars, replay_service_placement(test, train, derived, controls, task.settings, topology, file.name)
        )


def _struck(controls: _Controls) -> dict[str, Control]:
    """Return what faults strike: the headline, then what the files of other targets set up.

    Empty without a policy that was fitted on the first part.
    """
    headline = controls.said.get("policy")
    if not headline:
        return {}
    found = {row: controls.of[row] for row in (headline, *TRANSLATED.values()) if row in controls.of}
    return found | ({} if controls.idle is None else {READ_AS_IDLE: controls.idle})


def _ablations(controls: _Controls) -> Ablations:
    """Return what tells the worth of each field that files do not say; nothing where nothing is struck."""
    headline = str(controls.said.get("policy") or "")
    name = headline if controls.said.get("target") == "heteroscale" else NEUTRAL
    return ablations(name, controls.of.get(name), controls.files) if headline else Ablations()


def _struck_told(headline: str, lost: Ablations, outcome: ReplayOutcome) -> dict[str, Any]:
    """Return how often faults and bursts break the SLO on the test window, and what each field is worth.

    ``under_faults``: of the headline (``policy``), of a default HPA, and by row of the files (``files``), the
    headline among them; empty where nothing is struck. ``by_field``: what `replayed` tells, where it does.
    """
    if not headline:
        return {"under_faults": {}}
    shares = {row: one for row, one in outcome.under_faults.items() if row not in lost.lanes}
    files = {row: found for row, found in shares.items() if row != DEFAULT_HPA}
    under = {"policy": shares.get(headline), DEFAULT_HPA: shares.get(DEFAULT_HPA), "files": files}
    figures = {**{row.policy: row for row in outcome.result.policies}, **outcome.aside}
    by_field = replayed(lost, figures, outcome.under_faults)
    return {"under_faults": under} | ({"by_field": by_field} if by_field else {})


def _on_its_day(task: ServiceTask, frame: ServiceFrame, controls: _Controls) -> dict[str, Any]:
    """Return how the policy as its file holds it does on the one day of a history, empty with more days.

    ``one_day``: the rows of the policy, of files ``given`` by name, and of what ran, their shares of windows
    over the SLO where the replay is not calibrated, the counts of the pools, the span of the day.
    """
    if controls.written is None:
        return {}
    derived = read_derived(task.run, frame.service)
    every = {IN_SAMPLE: controls.written, **controls.given}
    found = replay_day(frame, derived, every, task.settings)
    if found is None:
        return {}
    rows = {row.policy: row for row in found.result.policies}
    pools = pool_counts(found.timeline, IN_SAMPLE, frame.pools)
    said = {"policy": rows[IN_SAMPLE], "recorded": rows[RECORDED], "pools": pools, "test": found.result.test}
    given = {"given": {name: rows[name] for name in controls.given}} if controls.given else {}
    known = found.result.calibration
    rough = {name: known[name] for name in ("uncalibrated_shares",) if known.get(name)}
    return {"one_day": said | {"text": known["text"]} | given | rough}


def day_rows(replay: ReplayResult) -> tuple[PolicyReplay, PolicyReplay] | None:
    """Return how the policy and what ran did on the one day of a history, None where it has more."""
    found = replay.calibration.get("one_day")
    if not found:
        return None
    policy, ran = (from_plain(PolicyReplay, found[key]) for key in ("policy", "recorded"))
    return policy, ran


def _refitted(train: Derived, whole: Derived) -> dict[str, Any]:
    """Return targets and P/D ratio as the backtest had them, beside those of the whole window."""
    before = {(t.signal, t.role): t.target_per_instance for t in train.thresholds if t.gpu_type is None}
    targets = [
        {"signal": now.signal, "role": now.role, "first_part": before.get((now.signal, now.role)),
         "whole": now.target_per_instance}
        for now in whole.thresholds
        if now.gpu_type is None
    ]  # fmt: skip
    ratios = {"first_part": train.pd_ratio.value, "whole": whole.pd_ratio.value}
    return {"targets": targets, "pd_ratio": ratios}


def _current(work: Work | ServiceTask, frame: ServiceFrame) -> tuple[CurrentAutoscaler | None, ServiceFrame]:
    """Return today's autoscaler, and the service with a column for each quantile that it follows."""
    files = work.settings.beside.current
    if not files:
        return None, frame

    from hs_analysis.pipeline.answers import with_answers

    derived = read_derived(work.run, frame.service, TRAIN)
    series = tables.read(work.run, "series")

    def read(whole: ServiceFrame) -> CurrentAutoscaler:
        train, _ = split(whole, work.settings.train_share)
        return current_autoscaler(files, train, derived, work.settings, series)

    found = read(frame)
    if not found.answers:
        return found, frame
    frame = with_answers(frame, found.answers, series, work.run / tables.PLACES["samples"])
    return read(frame), frame


@dataclass(frozen=True)
class _Controls:
    """What is replayed, by name, and what is said of the object that a policy becomes.

    ``written`` is the object as the exports hold it. ``ratios`` are the rows that keep a P/D ratio, fixed or
    moving, and ``ratio_rows`` says which they are. ``idle`` is llm-d's file as its guide reads gaps.
    ``files`` are those of the targets that could be read back, with what they do not say; ``given`` the
    policies that a user gave.
    """

    of: dict[str, Control]
    said: dict[str, Any]
    written: Control | None = None
    ratios: dict[str, HeteroScale] = field(default_factory=dict)
    ratio_rows: dict[str, Any] = field(default_factory=dict)
    idle: Control | None = None
    files: dict[str, tuple[Control, Sequence[Loss]]] = field(default_factory=dict)
    given: dict[str, Control] = field(default_factory=dict)


def _controls(
    work: Work | ServiceTask, frame: ServiceFrame, train: ServiceFrame, current: CurrentAutoscaler | None
) -> _Controls:
    """Return what is replayed: the selected policy as it is deployed, the files given, today's objects."""
    chosen = chosen_policy(work.run, train.service)
    ours = _Controls({}, {})
    if chosen is not None:
        written = _written(work, frame, chosen)
        ours = replace(ours, written=written)
        if chosen.fit == TRAIN:
            ours = _of_selected(work, train, chosen, written)
    found: dict[str, Any] = dict(ours.of)
    files = policies_beside(work.settings.beside.policies, train)
    given: dict[str, Control] = {name: control_of(policy) for name, policy in files.items()}
    found |= given
    if current is not None and current.scaler is not None:
        found[CURRENT] = current.scaler
    return replace(ours, of=found, given=given)


def _written(work: Work | ServiceTask, frame: ServiceFrame, chosen: Chosen) -> Control:
    """Return the selected policy as the exports hold it, with numbers of the whole window."""
    series, whole = tables.read(work.run, "series"), read_derived(work.run, frame.service)
    written = in_mode(_fitted(work, frame, WHOLE, chosen, series), frame, whole, work.settings)
    return deployed(written, frame, whole, work.settings, series).control


def _of_selected(
    work: Work | ServiceTask, train: ServiceFrame, chosen: Chosen, written: Control
) -> _Controls:
    """Return what is replayed for the selected policy, the headline first.

    It stands several times: its object with numbers of the first part, the headline; the same with those of
    the whole window, as the exports hold it, which has seen the test window; and with the numbers of the
    first part as the files of the other controllers say it, HeteroScale's own rule among them, which says
    what the controller can't. Where a timetable was asked for and the first part makes one, that is the
    headline, and the policy by metrics stands beside it.
    """
    settings, series = work.settings, tables.read(work.run, "series")
    first = read_derived(work.run, train.service, TRAIN)
    by_metrics = _fitted(work, train, TRAIN, chosen, series)
    asked = in_mode(by_metrics, train, first, settings)
    timed = asked.mode == "periodic"
    name = PERIODIC if timed else chosen.policy
    service = known_service(train, first, settings, series)
    headline = deployed(asked, train, first, settings, series, known=service)
    found: dict[str, Control] = {name: headline.control}
    if timed:
        found[chosen.policy] = deployed(by_metrics, train, first, settings, series).control
    found[IN_SAMPLE] = written
    if has_limits(settings):
        free = without_limits(settings)
        alike = in_mode(_fitted(work, train, TRAIN, chosen, series, free), train, first, free)
        found[UNLIMITED] = deployed(alike, train, first, free, series).control
    as_others = _as_others(work, asked, train, series, service, (name, headline.control))
    said = {"policy": name, "target": chosen.controller, "read_back": not headline.why_not}
    said |= {"why_not": headline.why_not, "differs": list(headline.differs)} | as_others.said
    ratios, rows = ({}, {}) if timed else ratio_rows_of(work, train, by_metrics, chosen)
    files = {chosen.controller: (headline.control, headline.losses)} | as_others.files
    return _Controls({**found, **as_others.of}, said, written, ratios, rows, as_others.idle, files)


def ratio_rows_of(
    work: Work | ServiceTask, train: ServiceFrame, first: Policy, chosen: Chosen
) -> tuple[dict[str, HeteroScale], dict[str, Any]]:
    """Return HeteroScale's own rule with one signal and a P/D ratio, fixed and moving, by name.

    The signal is the policy's own, with what counts beside it, or that of decode where each pool has one.
    Also returned: the name of the row that holds the ``fixed`` ratio, which may be the headline or the
    neutral policy, and why others are ``missing``. Both are empty where one signal can't size both pools.

    Parameters
    ----------
    first
        The chosen policy, with numbers of the training window.
    """
    derived, made = read_derived(work.run, train.service, TRAIN), first
    alone = len(first.primaries) == 1
    if not alone:
        leader = next(one for one in first.primaries if one.role == "decode")
        verdicts = read_verdicts(work.run, train.service, TRAIN)
        keys = ((leader.signal, leader.role),)
        made = build_policy(train, derived, verdicts, keys, work.settings, {}, {})
        made = with_knobs(made, chosen.knobs, chosen.controller, chosen.policy)
    control = control_of(replace(made, controller="heteroscale"))
    if not isinstance(control, HeteroScale) or control.upkeep is None:
        return {}, {}
    found, missing = moving(control, train, derived.pd_ratio)
    if not alone:
        return {RATIO_FIXED: control} | found, {"fixed": RATIO_FIXED, "missing": missing}
    fixed = chosen.policy if chosen.controller == "heteroscale" else NEUTRAL
    return found, {"fixed": fixed, "missing": missing}


def _as_others(
    work: Work | ServiceTask,
    first: Policy,
    train: ServiceFrame,
    series: pl.DataFrame,
    service: Known,
    headline: tuple[str, Control],
) -> _Controls:
    """Return a policy as the files of the targets that it was not selected for say it, read back.

    A file that can't be read back, or that nothing is written in, has no row but a reason. One that sets up
    what another does, the ``headline`` (its name and control) among them, has the row of that one.
    """
    derived = read_derived(work.run, train.service, TRAIN)
    found: dict[str, Control] = {}
    idle: Control | None = None
    others: dict[str, dict[str, str]] = {}
    files: dict[str, tuple[Control, Sequence[Loss]]] = {}
    for target, row in TRANSLATED.items():
        if target == first.controller:
            continue
        read = deployed_as(target, first, train, derived, work.settings, series, known=service)
        idle = idle or read.idle
        known = dict([headline]) | found
        same = (name for name, one in known.items() if sets_up_the_same(one, read.control))
        name = "" if read.why_not else next(same, row)
        others[target] = {"policy": name, "why_not": read.why_not}
        files |= {} if read.why_not else {target: (read.control, read.losses)}
        if name == row:
            found[row] = read.control
    return _Controls(found, {"as_others": others}, idle=idle, files=files)


def _fitted(
    work: Work | ServiceTask,
    frame: ServiceFrame,
    fit: str,
    chosen: Chosen,
    series: pl.DataFrame,
    settings: Settings | None = None,
) -> Policy:
    """Return the chosen policy with numbers of a part of the window, and the PromQL of its signals.

    ``settings`` stand in for those of the run.

    Where the signals of the candidate do not stand on the whole window, those take their place that share
    most with them.
    """
    verdicts, derived = (
        read_verdicts(work.run, frame.service, fit),
        read_derived(work.run, frame.service, fit),
    )
    primaries, _ = policy_primaries(work.run, frame.service, fit)
    queries, _ = expressions(frame, primaries, series, catalogue_of(work.settings), chosen.knobs.reading)
    made = build_policy(frame, derived, verdicts, primaries, settings or work.settings, queries, {})
    return _as_chosen(made, chosen, frame, series, work.settings)


def _as_chosen(
    policy: Policy, chosen: Chosen | None, frame: ServiceFrame, series: pl.DataFrame, settings: Settings
) -> Policy:
    """Return a policy with what selection chose: what counts as work, knobs and controller."""
    if chosen is None:
        return policy
    if chosen.knobs.waits:
        read = catalogue_of(settings), policy.reading
        queries, _ = expressions(frame, [(QUEUE, WAITS_IN)], series, *read)
        policy = with_waiting(policy, frame, queries)
    return with_knobs(policy, chosen.knobs, chosen.controller, chosen.policy)


def _told(
    work: ServiceTask,
    frame: ServiceFrame,
    current: CurrentAutoscaler,
    outcome: ReplayOutcome,
    apart: Sequence[Mapping[str, Any]],
    doubt: Withheld | None,
    headline: str,
) -> dict[str, Any]:
    """Set today's objects beside the policy as policy.yaml will hold it: fitted on the whole window.

    What is compared is its row ``headline`` of the replay.
    """
    primaries, _ = policy_primaries(work.run, frame.service)
    verdicts, derived = read_verdicts(work.run, frame.service), read_derived(work.run, frame.service)
    advised = build_policy(frame, derived, verdicts, primaries, work.settings, {}, {})
    chosen = chosen_policy(work.run, frame.service)
    advised = _as_chosen(advised, chosen, frame, tables.read(work.run, "series"), work.settings)
    return current_record(current, advised, derived, outcome.result.policies, headline or None, apart, doubt)


def read_replay(folder: Path, service: str) -> ReplayResult:
    """Return the backtest of one service."""
    frame = tables.read(folder, "replay_windows").filter(pl.col("service") == service)
    row = frame.row(0, named=True)
    policies = tables.read_rows(folder, "replay_policies", PolicyReplay, service, TRAIN)
    window = from_plain(
        ReplayResult,
        {"train": row["train"], "test": row["test"], "calibration": json.loads(row["calibration"])},
    )
    found = ReplayResult(
        window.train, window.test, window.calibration, policies,
        read_current(folder, service),
        tables.read_rows(folder, "replay_faults", FaultReplay, service, TRAIN),
        tables.read_rows(folder, "replay_placement", PlacementOutcome, service, TRAIN),
    )  # fmt: skip
    return with_targets(found)


def policy_primaries(folder: Path, service: str, fit: str = WHOLE) -> tuple[tuple[Key, ...], bool]:
    """Return the signals of the policy on a part of the window, and whether they are those that were chosen.

    A candidate of the first part of the window may not stand on the whole of it: the mix drifted since, or a
    target became a floor. Then the candidate of the whole window takes its place that shares most signals.
    """
    chosen = chosen_policy(folder, service)
    if chosen is None:
        return (), True
    verdicts, derived = read_verdicts(folder, service, chosen.fit), read_derived(folder, service, chosen.fit)
    taken = candidate_primaries(verdicts, derived)[chosen.signals]
    standing = candidate_primaries(read_verdicts(folder, service, fit), read_derived(folder, service, fit))
    if taken in standing.values() or not standing:
        return taken, True
    return min(standing.values(), key=lambda keys: (-len(set(keys) & set(taken)), len(keys))), False


def read_decision(folder: Path, service: str) -> PolicyDecision:
    """Return what to do with the policy of one service."""
    return from_plain(PolicyDecision, tables.read_json(folder, DECISIONS_FILE)[service])


def window_of(frame: ServiceFrame) -> dict[str, Any]:
    """Return first start and last end of a service's rows, and the width of one."""
    seconds: Sequence[float] = frame.seconds().tolist()
    ends = pl.Series([min(seconds), max(seconds) + frame.window_s])
    start, end = pl.from_epoch((ends * 1e6).cast(pl.Int64), time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"start": start, "end": end, "step_s": frame.window_s}


def write_policies(work: Work) -> Outcome:
    """Fit the chosen policy on the whole window and write policy.yaml, and its JSON Schema beside it."""
    series = tables.read(work.run, "series")
    entries = {entry["service"]: entry for entry in read_entries(work.run)}
    policies, notes, decisions = [], {}, {}
    unserved, alone = without_service(work.run, work.settings), idle_pools(tables.read(work.run, "instances"))
    for frame in read_frames(work.run):
        verdicts = read_verdicts(work.run, frame.service)
        primaries, _ = policy_primaries(work.run, frame.service)
        keys = [*primaries, *((v.signal, v.role) for v in verdicts if v.signal in ("ttft", "tbt"))]
        chosen = chosen_policy(work.run, frame.service)
        reading = chosen.knobs.reading if chosen else SignalReading()
        queries, warnings = expressions(frame, keys, series, catalogue_of(work.settings), reading)
        lost = [one for one in unserved if frame.service in one.beside]
        meta = _meta(work, frame, series) | {"unserved": [one.sentence() for one in lost]}
        derived = read_derived(work.run, frame.service)
        made = build_policy(frame, derived, verdicts, primaries, work.settings, queries, meta)
        made = _as_chosen(made, chosen, frame, series, work.settings)
        made = in_mode(made, frame, derived, work.settings)
        replay = read_replay(work.run, frame.service)
        note = _day_note(replay) or _replay_note(replay, _headline(work, made))
        made = replace(made, replay=dict(note))
        grounds = _grounds(work, frame, made, derived, entries[frame.service])
        count = sum(len(one.instances) for one in lost)
        idle = tuple(one.short for one in alone if one.service == frame.service)
        grounds = replace(grounds, unserved_instances=count, idle=idle)
        decision = decide_on(grounds, _consequences(work, frame, made))
        policies.append(rounded(with_decision(made, decision)))
        notes[frame.service], decisions[frame.service] = warnings, decision
    for name in tested_names(work.run):
        made, decisions[name] = policy_of(work, name)
        policies.append(rounded(made))
    text = MODELINE + dump_all(policies) if policies else ""
    (work.out / POLICY_FILE).write_text(text, encoding="utf-8", newline="\n")
    (work.out / SCHEMA_FILES["policy"]).write_text(shipped_schema("policy"), encoding="utf-8", newline="\n")
    tables.write_json(work.out, NOTES_FILE, notes)
    tables.write_json(work.out, DECISIONS_FILE, decisions)
    modes = dict.fromkeys(
        f"{policy.mode}, {decisions[policy.service].recommend}, confidence {policy.confidence}"
        for policy in policies
    )
    return Outcome("; ".join(modes))


def in_mode(policy: Policy, frame: ServiceFrame, derived: Derived, settings: Settings) -> Policy:
    """Return a policy in the mode that was asked for: as it is, or with the timetable of its history.

    Times are those of the zone of ``--tz``, else UTC. A history that makes no timetable leaves the policy as
    it is, with the reason among its refusals.
    """
    if settings.policy_mode == "metric":
        return policy
    if policy.controller == "hpa":
        why = "an HPA keeps no timetable: select for keda or heteroscale (hsa select RUN --target keda)"
        return replace(policy, refusals=(*policy.refusals, f"no_timetable: {why}"))
    zone = settings.reading.tz or UTC_NAME
    entries = day_plan_of(frame, derived, settings, zone)
    if isinstance(entries, str):
        return replace(policy, refusals=(*policy.refusals, f"no_timetable: {entries}"))
    return periodic_policy(policy, entries, zone)


def _meta(work: Work, frame: ServiceFrame, series: pl.DataFrame) -> dict[str, Any]:
    units = series.filter(
        (pl.col("service") == frame.service) & pl.col("emitter_role").is_in(list(frame.pools))
    )["unit_kind"].drop_nulls()
    return {
        "window": window_of(frame),
        "inputs_sha256": work.inputs_sha256,
        "run": work.run_id,
        "tool_version": hs_analysis.__version__,
        "unit": "group" if units.len() and (units == "group").sum() > units.len() / 2 else "pod",
    }


def _headline(work: Work, policy: Policy) -> PolicyReplay | None:
    """Return the row of the backtest that speaks of a policy."""
    name = headline_of(work.run, policy)
    return next((row for row in read_replay(work.run, policy.service).policies if row.policy == name), None)


def _grounds(
    work: Work, frame: ServiceFrame, policy: Policy, derived: Derived, entry: Mapping[str, Any]
) -> Grounds:
    name, (_, same) = headline_of(work.run, policy), policy_primaries(work.run, frame.service)
    span_s, weekday_s = recorded_weekdays(frame.seconds(), frame.window_s)
    replay = read_replay(work.run, frame.service)
    return Grounds(
        policy=policy,
        whole=derived,
        first=read_derived(work.run, frame.service, TRAIN),
        chosen=name or None,
        same_signals=same or policy.mode == "periodic",
        replay=replay,
        slo=work.settings.slo,
        kind=frame.kind,
        slo_edges=tuple(entry.get("slo_edges") or ()),
        span_s=span_s,
        weekday_s=weekday_s,
        day=day_rows(replay),
        load_test=bool(plan_service(frame, derived, PRECISION)),
    )


def _consequences(work: Work, frame: ServiceFrame, policy: Policy) -> Consequences:
    """Return what applying a policy would change, from the row that is the headline."""
    replay = read_replay(work.run, frame.service)
    timeline = tables.read(work.run, "timeline").filter(pl.col("service") == frame.service)
    name = headline_of(work.run, policy)
    signals = " + ".join(f"{p.signal}@{p.role}" for p in policy.primaries)
    known = (replay.calibration.get("graces") or {}).items()
    pods = {role: from_plain(Grace, one) for role, one in known}
    sized = planned_roles(policy.periodic) or policy.sized_roles
    day, rows = replay.calibration.get("one_day"), day_rows(replay)
    test = tuple(day["test"]) if day else replay.test
    if day:
        pools = tuple(from_plain(PoolDecision, one) for one in day["pools"] if one["role"] in sized)
    else:
        pools = pool_counts(timeline, name, sized)
    return Consequences(
        target=policy.controller,
        metric="timetable" if policy.mode == "periodic" else signals,
        pools=pools,
        row=rows[0] if rows else next((row for row in replay.policies if row.policy == name), None),
        recorded=rows[1] if rows else next((row for row in replay.policies if row.policy == RECORDED), None),
        under_faults=_known_faults(replay),
        test=test,
        by_blocks=rows is not None,
        floors=any(c.status == "floor" for c in read_derived(work.run, frame.service, TRAIN).capacity),
        limits=_limit_cost(work, replay, name),
        scale_in=scale_in_of(work.run, frame, work.settings, timeline, name, pods),
    )


def _known_faults(replay: ReplayResult) -> Mapping[str, Any]:
    """Return the shares under faults and bursts, none of a replay that is not calibrated."""
    known = replay.calibration.get("status") != "not_calibrated"
    return (replay.calibration.get("under_faults") or {}) if known else {}


def _limit_cost(work: Work, replay: ReplayResult, name: str) -> LimitCost | None:
    """Return what limits of the user's own cost the policy that is the headline."""
    held = (replay.calibration.get("held_by_limits") or {}).get(name) or []
    rows = {row.policy: row for row in replay.policies}
    return limit_cost(
        [from_plain(LimitHeld, one) for one in held], work.settings.reading.tz or UTC_NAME,
        rows.get(name), rows.get(UNLIMITED),
    )  # fmt: skip


def _day_note(replay: ReplayResult) -> dict[str, Any]:
    """Return what policy.yaml says of a replay on the one day of a history; empty with more days."""
    rows = day_rows(replay)
    if rows is None:
        return {}
    row = rows[0]
    return {
        "policy": row.policy,
        "test": replay.calibration["one_day"]["test"],
        "slo_violation_ratio": row.slo_violation_ratio,
        "vs_recorded": list(row.vs_recorded_ci) if row.vs_recorded_ci else None,
        "calibration": replay.calibration.get("status"),
    }


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
        **({"pd_ratio_stray": stray} if (stray := stray_cost(replay, row.policy)) else {}),
    }
