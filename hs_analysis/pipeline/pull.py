"""Getting the data: make a plan, write it down, run it on a server, and leave out what is there already."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path

from hs_analysis.catalogue import Catalogue, can_be_asked, load_catalogue, with_user_rows
from hs_analysis.collect.backends import PROMETHEUS, Backend
from hs_analysis.collect.check import (
    LOST,
    PlanFinding,
    Received,
    arrived_late,
    fell_short,
    is_complete,
    lost_from_plan,
)
from hs_analysis.collect.fetch import FetchedFile, ServerLimits, counted, fetch
from hs_analysis.collect.plan import (
    PLAN_FILE,
    Labels,
    MetricShare,
    Plan,
    PlannedFile,
    PlanRequest,
    make_plan,
    on_grid,
    own_notes,
    selector_of,
    wanted_metrics,
)
from hs_analysis.collect.selectors import parse_matchers
from hs_analysis.collect.server import PrometheusServer, QueryError
from hs_analysis.collect.survey import (
    FoundMetric,
    ServerSurvey,
    how_to_ask,
    intervals,
    names,
    refuses_ranges,
    shares,
    step_notes,
    survey,
)
from hs_analysis.errors import HsError, ManyErrors, RunFolderError, UsageError
from hs_analysis.pipeline.plan_files import (
    COMPANIONS,
    Downloads,
    read_plan,
    read_received,
    store_plan,
    store_received,
)
from hs_analysis.pipeline.runner import lock
from hs_analysis.pipeline.stages import Progress
from hs_analysis.schema.settings import Reading

DEFAULT_LAST_S = 7 * 86_400.0
"""A week [s]: what the study's day-to-day checks want."""


@dataclass(frozen=True)
class Got:
    """One file of the plan, there now.

    ``fetched`` is null where it was there before; ``received`` says what it holds, null where nobody wrote
    that down.
    """

    file: PlannedFile
    size: int
    fetched: FetchedFile | None
    received: Received | None


@dataclass(frozen=True)
class Pulled:
    """What a pull leaves behind: the plan, its files, what the server warned of (file, text), what is less.

    ``findings`` say what came otherwise than planned; those of ``lost`` that data did not come.
    """

    plan: Plan
    files: tuple[Got, ...]
    warnings: tuple[tuple[str, str], ...]
    findings: tuple[PlanFinding, ...] = ()

    @property
    def lost(self) -> tuple[PlanFinding, ...]:
        """Findings of data that the plan expects and that did not come."""
        return tuple(one for one in self.findings if one.code in LOST)


@dataclass(frozen=True)
class Wanted:
    """What is asked for: the shipped catalogue and the metrics that the settings map, with notes on those.

    ``own`` are the names and queries of the settings that a server can be asked for.
    """

    catalogue: Catalogue
    own: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def wanted(reading: Reading) -> Wanted:
    """Return what settings want of a server; columns of tables are none of its metrics.

    Raises
    ------
    UsageError, ManyErrors
        For a mapping to a signal or in a unit that does not exist.
    """
    catalogue = with_user_rows(load_catalogue(), Reading(metrics=reading.metrics))
    own = tuple(sorted(metric for metric in reading.metrics if can_be_asked(metric)))
    return Wanted(catalogue, own, own_notes(reading))


def window_of(request: PlanRequest, now: float) -> tuple[float, float]:
    """Return the window of a request [Unix s]: up to ``now`` and a week long unless said."""
    end = datetime.fromisoformat(request.end).timestamp() if request.end else now
    if request.start:
        start = datetime.fromisoformat(request.start).timestamp()
    else:
        start = end - (request.last_s or DEFAULT_LAST_S)
    if start >= end:
        raise UsageError(
            "the window ends before it starts", where="--from and --to", hint="--to is now unless said"
        )
    return start, end


def offline_plan(
    request: PlanRequest, now: float, series: Sequence[Labels] | None, want: Wanted,
    backend: Backend = PROMETHEUS,
) -> Plan:  # fmt: skip
    """Return a plan made without a server.

    Parameters
    ----------
    series
        Labels of the server's series, as ``/api/v1/series`` lists them; they decide which metrics are asked
        for and how files are split. None when there is no such list: every metric of the catalogue is asked
        for, in one file a chunk. Queries of the user's are asked for in any case.
    want
        What is asked for.
    backend
        The kind of server that will be asked.
    """
    window = window_of(request, now)
    matchers = parse_matchers(request.match or "", "--match")
    found, absent = [], []
    for need in wanted_metrics(want.catalogue, request.exporters, recorded=series is not None):
        selector = selector_of(need, matchers, request.namespace)
        rows = tuple(row for row in series or () if selector.accepts(row))
        if series is not None and not rows and not need.is_query:
            absent += [] if need.is_recorded else [need.metric]
        else:
            found.append(FoundMetric(need, selector, rows))
    if series is None:
        parts = [_unlisted(one, request.step_s) for one in found]
    else:
        known = [one for one in found if not one.need.is_query]
        parts = shares(ServerSurvey(tuple(known), ()), {}, request.step_s, window, want.catalogue, backend)
        parts += [_unlisted(one, request.step_s) for one in found if one.need.is_query]
    if not parts:
        raise UsageError("lists no metric of the catalogue", where="--series", hint="hsa signals lists them")
    notes = (*step_notes(parts, {}, request.step_s), *want.notes, *_unnarrowed(request, parts))
    return make_plan(request, window, parts, absent, notes, backend.longest_query_s)


def _unlisted(one: FoundMetric, step_s: float | None) -> MetricShare:
    """Return the one share of a metric whose series nobody listed."""
    api, step, assumed = how_to_ask(one.need, None, step_s)
    return MetricShare(one.need, one.selector, step, api=api, assumed=assumed)


def _unnarrowed(request: PlanRequest, parts: Sequence[MetricShare]) -> tuple[str, ...]:
    """Return a note when series are to be picked by flags that queries of the user's do not obey."""
    queries = sorted({part.need.metric for part in parts if part.need.is_query})
    if not queries or not (request.match or request.namespace):
        return ()
    return (f"--match and --namespace do not go into queries of [metrics]: {', '.join(queries)}",)


def online_plan(
    server: PrometheusServer, request: PlanRequest, now: float, progress: Progress, want: Wanted
) -> Plan:
    """Return the plan that fits a server: its metrics, their scrape intervals, their series split to size."""
    began = time.perf_counter()
    window = window_of(request, now)
    matchers = parse_matchers(request.match or "", "--match")
    progress.started("plan", "looking for metrics", 1, 2)
    found = survey(
        server, wanted_metrics(want.catalogue, request.exporters, recorded=True), matchers,
        request.namespace, window,
        lambda done, total: progress.advanced(done, total, "metrics"),
    )  # fmt: skip
    measured = intervals(server, found.found, window)
    longest_s = server.backend.longest_query_s
    parts = shares(found, measured, request.step_s, window, want.catalogue, server.backend)
    notes = (
        *step_notes(parts, measured, request.step_s), *want.notes, *found.notes, *_unnarrowed(request, parts),
    )  # fmt: skip
    plan = answerable(server, make_plan(request, window, parts, found.absent, notes, longest_s))
    note = f"metrics {len(found.found)}, files {len(plan.files)}"
    progress.finished("plan", time.perf_counter() - began, note)
    return plan


def answerable(server: PrometheusServer, plan: Plan, there: Collection[str] = ()) -> Plan:
    """Return a plan whose files, but for those that are ``there``, the server can give.

    One that takes no range selectors is asked for points of a grid instead, which a note says.
    """
    as_scraped = (file for file in plan.files if file.api == "query" and file.file not in there)
    first = next(as_scraped, None)
    why = refuses_ranges(server, first.match[0], first.end) if first else None
    if why is None:
        return plan
    text = "points on a grid come instead, without their scrape times"
    return on_grid(plan, there, f"the server gives no samples as scraped ({why}): {text}")


def write_plan(folder: Path, plan: Plan, *, force: bool = False) -> Path:
    """Write plan.json; an equal one stays.

    Raises
    ------
    RunFolderError
        When another plan is there and ``force`` is not given.
    """
    _make(folder)
    old = None if force else read_plan(folder)
    if old is not None and old != plan:
        raise RunFolderError(
            "another plan is there",
            where=str(folder / PLAN_FILE),
            hint="choose another folder with --out, or give --force",
        )
    if force:
        _clear(folder)
    return store_plan(folder, plan)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"can't be made ({error.strerror})", where=str(folder), hint="choose another folder with --out"
        ) from error


def pull(
    server: PrometheusServer,
    folder: Path,
    request: PlanRequest,
    limits: ServerLimits,
    *,
    now: float,
    progress: Progress,
    want: Wanted | None = None,
    force: bool = False,
) -> Pulled:
    """Fetch every file of a plan that is not there yet.

    The plan in the folder is gone on with when the request does not contradict it, whatever the time is now;
    else it is made from what the server has.

    Raises
    ------
    RunFolderError
        When the folder holds another plan, or files that are no part of one.
    ServerError, ManyErrors
        When the server refuses, or some files can't be had; the others are there.
    """
    there = folder.exists()
    _make(folder)
    try:
        with lock(folder):
            server = server.located()
            plan = _settled(
                server,
                folder,
                request,
                now=now,
                progress=progress,
                want=want or wanted(Reading()),
                force=force,
            )
            return _Pull(server, folder, plan, limits, progress, now).run()
    finally:
        if not there and all(path.name.startswith(".") for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)


def _settled(
    server: PrometheusServer,
    folder: Path,
    request: PlanRequest,
    *,
    now: float,
    progress: Progress,
    want: Wanted,
    force: bool,
) -> Plan:
    """Return the folder's plan, made and written if need be."""
    plan = None if force else read_plan(folder)
    if plan is not None:
        _require_same(folder, plan.request, request)
        progress.noted(f"going on with {folder / PLAN_FILE}: {plan.start} to {plan.end}")
        there = [name for name in Downloads(folder).listed() if (folder / name).is_file()]
        settled = answerable(server, plan, there)
        if settled != plan:
            store_plan(folder, settled)
        return settled
    _require_own(folder)
    plan = online_plan(server, request, now, progress, want)
    _clear(folder)  # only now: until here nothing may be lost
    store_plan(folder, plan)
    return plan


def _require_same(folder: Path, planned: PlanRequest, asked: PlanRequest) -> None:
    for field in fields(PlanRequest):
        given, was = getattr(asked, field.name), getattr(planned, field.name)
        if given not in (None, ()) and given != was:
            raise RunFolderError(
                f"holds the plan of another request ({_flag(field.name)} was {_shown(was)})",
                where=str(folder), hint="choose another folder with --out, or start it again with --force",
            )  # fmt: skip


def _shown(was: object) -> str:
    return ", ".join(was) if was and isinstance(was, tuple) else str(was or "not given")


def _flag(name: str) -> str:
    names = {
        "start": "--from",
        "end": "--to",
        "last_s": "--last",
        "step_s": "--step",
        "exporters": "--exporter",
        "own": "[metrics]",
    }
    return names.get(name, f"--{name}")


def _own(folder: Path) -> set[str]:
    """Return the names of the files that belong to the folder's plan, if it has one."""
    try:
        plan = read_plan(folder)
    except RunFolderError:
        plan = None
    planned = {file.file for file in plan.files} if plan else set()
    return planned | set(Downloads(folder).listed()) | set(COMPANIONS)


def _clear(folder: Path) -> None:
    for name in _own(folder):
        (folder / name).unlink(missing_ok=True)


def _require_own(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if others := sorted(names - _own(folder)):
        raise RunFolderError(
            f"is not empty ({others[0]}), and what is there would be read with the data",
            where=str(folder),
            hint="choose another folder with --out",
        )


class _Pull:
    """One pass over a plan's files: those that are not there yet, or were not whole when they came."""

    def __init__(
        self,
        server: PrometheusServer,
        folder: Path,
        plan: Plan,
        limits: ServerLimits,
        progress: Progress,
        now: float,
    ) -> None:
        self._server, self._folder, self._plan, self._limits = server, folder, plan, limits
        self._progress, self._now = progress, now
        self._downloads = Downloads(folder)
        self._received = {one.file: one for one in read_received(folder)}
        self._warnings: list[tuple[str, str]] = []
        self._named: frozenset[str] | None = None

    def run(self) -> Pulled:
        for note in self._plan.notes:
            self._progress.noted(f"note: {note}")
        began = time.perf_counter()
        self._progress.started("pull", "fetching the files", 2, 2)
        self._named = self._names()
        got: list[Got] = []
        errors: list[HsError] = []
        for done, file in enumerate(self._plan.files):
            self._progress.advanced(done, len(self._plan.files), "files")
            try:
                got.append(self._got(file))
            except QueryError as error:
                errors.append(error)
        new = sum(1 for one in got if one.fetched is not None)
        note = f"files {new} fetched, {len(got) - new} there already"
        note += f", {len(errors)} failed" if errors else ""
        self._progress.finished("pull", time.perf_counter() - began, note)
        findings = self._findings(got)
        if errors:
            again = f"hsa pull --url {self._server.base} --out {self._folder}"
            raise errors[0] if len(errors) == 1 else ManyErrors(errors, more=again)
        return Pulled(self._plan, tuple(got), tuple(self._warnings), findings)

    def _names(self) -> frozenset[str] | None:
        """Return which metrics the server knows, where nobody listed the series of some; None if unknown."""
        metrics = {file.metric for file in self._plan.files if file.match and file.expected_series is None}
        if not metrics or all(self._downloads.done(file.file) for file in self._plan.files):
            return None
        bounds = (min(f.start for f in self._plan.files), max(f.end for f in self._plan.files))
        return names(self._server, sorted(metrics), (), bounds)

    def _got(self, file: PlannedFile) -> Got:
        """Return a file that is there, fetched if need be."""
        there, before = self._downloads.done(file.file), self._received.get(file.file)
        fetched = None
        if not there or (before is not None and fell_short(file, before)):
            try:
                with self._downloads.writing(file.file) as write:
                    fetched = fetch(file, self._server, self._limits, write)
                    after = self._checked(file, fetched)
                    if there and before is not None and after.points < before.points:
                        raise _LessError
                    self._received[file.file] = after
                    # Before the file gets its name: what is there is always written down.
                    store_received(self._folder, self._received.values())
            except _LessError:
                self._progress.noted(
                    f"{file.file} was fetched again and holds less than before: the first one is kept"
                )
                fetched = None
        for text in fetched.warnings if fetched else ():
            if text not in {known for _, known in self._warnings}:
                self._progress.noted(f"warning: {file.file}: {text}")
            self._warnings.append((file.file, text))
        size = (self._folder / file.file).stat().st_size
        return Got(file, size, fetched, self._received.get(file.file))

    def _checked(self, file: PlannedFile, fetched: FetchedFile) -> Received:
        """Return what came of a file; where it is less than planned, with how much the server counts."""
        facts = Received(
            file.file, fetched.series, fetched.points, fetched.outside, fetched.first_s, fetched.last_s
        )
        unlisted = file.expected_series is None and self._named is not None
        absent = unlisted and file.metric not in (self._named or ()) and not fetched.points
        if absent or is_complete(file, fetched.series, fetched.points, fetched.outside):
            return facts
        total = counted(fetched.asked, self._server)
        if total is None:
            return replace(facts, held_against="nothing")
        late = arrived_late(file, fetched.series, self._now)
        return replace(facts, held_against="server", counted=total, late=late)

    def _findings(self, got: Sequence[Got]) -> tuple[PlanFinding, ...]:
        """Return what is less than planned of the files that are there, and say it."""
        received = [one.received for one in got if one.received is not None]
        found = lost_from_plan(self._plan, received, self._server.base, str(self._folder))
        for one in found:
            self._progress.noted(f"warning: {one.text}")
        return found


class _LessError(Exception):
    """A file that was fetched again holds less than the one that is there."""
