"""Which policy: the stage select, and what it chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hs_analysis.controllers.registry import target_of
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.objects import kubernetes_of
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.pipeline.study_stages import TRAIN, WHOLE, parts, read_derived, read_verdicts
from hs_analysis.pipeline.tables import (
    read_frame,
    service_names,
    split,
)
from hs_analysis.pipeline.tasks import map_tasks
from hs_analysis.policy import Policy, build_policy, candidate_primaries
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.waiting import with_waiting
from hs_analysis.replay import (
    CandidateOutcome,
    score_policies,
    try_signals,
)
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import (
    CandidateScore,
    Derived,
    SignalDriver,
)
from hs_analysis.schema.settings import ControllerName, Settings
from hs_analysis.select import (
    Knobs,
    can_be_set,
    can_hold,
    can_surge,
    candidate_of,
    chosen_knobs,
    knobs_of,
    models_of,
    select_service,
    with_knobs,
)


@dataclass(frozen=True)
class ServiceTask:
    """One service of a run, to be worked on anywhere that sees the run folder."""

    run: Path
    settings: Settings
    service: str

    def frame(self) -> ServiceFrame:
        """Return the aligned service."""
        return read_frame(self.run, self.service)


@dataclass(frozen=True)
class Chosen:
    """The candidate that selection took.

    Attributes
    ----------
    policy
        Its name.
    fit
        The part of the window it was fitted and scored on.
    controller
        Whose semantics it was selected with.
    signals
        Name of the signals that size its pools.
    knobs
        What its controller is set to.
    """

    policy: str
    fit: str
    controller: str
    signals: str
    knobs: Knobs


def select_policies(work: Work) -> Outcome:
    """Simulate every candidate on the training window, choose one per service, and try every signal.

    Where the first part of a history is too short to give a candidate but the whole is not, candidates are
    fitted and scored on the whole window: a policy that no unseen data has tested is better than none, and is
    marked as such.
    """
    services = service_names(work.run)
    tasks = [ServiceTask(work.run, work.settings, service) for service in services]
    found = []
    for number, one in enumerate(map_tasks(_select_one, tasks, work.machine)):
        found.append(one)
        work.progress.advanced(number + 1, len(tasks), "services")
    rows = [score for one in found for score in one.scores]
    drivers = [row for one in found for row in one.drivers]
    tables.write_rows(work.out, "drivers", drivers)
    tables.write_rows(work.out, "select", rows)
    chosen = dict.fromkeys(score["policy"] for score in rows if score["chosen"])
    tried = sum(row["dip_ratio"] is not None for row in drivers)
    return Outcome(
        f"candidates {len(rows)}, chosen {', '.join(chosen) or 'none'}; "
        f"signals tried as drivers {tried} of {len(drivers)}",
        counts={"target": target_of(work.settings, ())},
    )


@dataclass(frozen=True)
class _Selected:
    """Rows of one service's candidates, and of its signals as drivers."""

    scores: list[dict[str, Any]]
    drivers: list[dict[str, Any]]


def _select_one(task: ServiceTask) -> _Selected:
    frame = task.frame()
    scores: tuple[CandidateScore, ...] = ()
    fit = TRAIN
    for fit, part in parts(frame, task.settings.train_share, (TRAIN, WHOLE)).items():
        derived = read_derived(task.run, frame.service, fit)
        candidates = _candidates(task, part, fit, target_of(task.settings, ()))
        scores = select_service(part, derived, candidates, task.settings, _simulated)
        if any(score.chosen for score in scores):
            break
    key = {"service": frame.service, "fit": fit}
    return _Selected([key | vars(score) for score in scores], _drivers(task, frame))


def _simulated(
    frame: ServiceFrame, derived: Derived, policies: Mapping[str, Policy], settings: Settings
) -> Mapping[str, CandidateOutcome]:
    """Simulate policies as the objects that would run them."""
    return score_policies(frame, derived, {n: control_of(p) for n, p in policies.items()}, settings)


def _drivers(task: ServiceTask, frame: ServiceFrame) -> list[dict[str, Any]]:
    """Let every studied signal drive its pool over the test window, fitted on the training window."""
    train, test = split(frame, task.settings.train_share)
    derived = read_derived(task.run, frame.service, TRAIN)
    verdicts = read_verdicts(task.run, frame.service)
    tried = try_signals(test, train, derived, verdicts, task.settings)
    return [{"service": frame.service, "fit": TRAIN} | vars(one) for one in tried]


def controller_of(settings: Settings) -> ControllerName:
    """Return the controller that policies are selected for: the target, else the kind of today's objects."""
    if settings.target is not None or not settings.beside.current:
        return target_of(settings, ())

    from hs_analysis.current import read_manifests

    files = settings.beside.current
    return target_of(settings, [one.kind for file in files for one in read_manifests(file.text, file.name)])


def _candidates(work: Work | ServiceTask, part: ServiceFrame, fit: str, controller: str) -> dict[str, Policy]:
    """Return every candidate of a controller by name, fitted on a part of the window."""
    verdicts = read_verdicts(work.run, part.service, fit)
    derived = read_derived(work.run, part.service, fit)
    made = {
        name: build_policy(part, derived, verdicts, primaries, work.settings, {}, {})
        for name, primaries in candidate_primaries(verdicts, derived).items()
    }
    held = [name for name, policy in made.items() if can_hold(policy, controller)]
    found: dict[str, Policy] = {}
    fewest = min((models_of(made[signals]) for signals in held), default=0)
    for signals in held:
        plain, counted = made[signals], with_waiting(made[signals], part, {})
        every = knobs_of(plain.reading.window_s, waits=counted != plain, surges=can_surge(plain, controller))
        tried = [knobs for knobs in every if can_be_set(knobs, controller, kubernetes_of(work.settings))]
        # What rests on more models has to save far more than knobs can: Kubernetes' own are enough to see it.
        for knobs in tried if models_of(plain) == fewest else tried[:1]:
            name = candidate_of(signals, knobs)
            found[name] = with_knobs(counted if knobs.waits else plain, knobs, controller, name)
    return found


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
                return Chosen(score.policy, fit, score.controller, *chosen_knobs(score))
    return None


def read_drivers(folder: Path, service: str) -> tuple[SignalDriver, ...]:
    """Return how every signal did as the driver of its pool."""
    return tables.read_rows(folder, "drivers", SignalDriver, service, TRAIN)
