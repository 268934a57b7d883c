"""hs_analysis from Python: a run folder as an object, stages as functions, figures as Altair charts.

Everything reads or returns polars frames, frozen dataclasses and run folders. `run` alone writes a run
folder. What a user can mend is raised as `HsError`, whose text is the line that the command prints.

>>> from hs_analysis import load_run
>>> history = load_run("reports/dynamo-pd")
>>> history.services
('-/sim-llama-8b',)
>>> chart = history.figure("capacity-decode")  # an Altair chart: a notebook draws it
>>> chart.to_dict()["height"]  # px
240
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack

import polars as pl

from hs_analysis.align.service_tables import frame_of as _frame_of
from hs_analysis.catalogue import load_catalogue
from hs_analysis.derive import DeriveResult, derive_service
from hs_analysis.errors import InputError, RunFolderError, UsageError
from hs_analysis.pipeline import effective, results, tables
from hs_analysis.pipeline import run_folder as folders
from hs_analysis.pipeline.beside import policies_beside
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.effective import Effective
from hs_analysis.pipeline.policy_stages import replay_one
from hs_analysis.pipeline.records import changed, to_plain
from hs_analysis.pipeline.report_stages import DETAIL_TABLES, SUMMARY_FILE
from hs_analysis.pipeline.select_stage import ServiceTask
from hs_analysis.pipeline.session import Asked, of_run, run_inputs, stale_line
from hs_analysis.pipeline.stages import Progress, Silent
from hs_analysis.pipeline.study_stages import TRAIN, WHOLE, derive_part, read_verdicts, study_part
from hs_analysis.policy import Policy, dump, load_all
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.sanity import target_slip
from hs_analysis.replay import replay_service
from hs_analysis.report.charts import replay_steps
from hs_analysis.report.figures import POINTS_ONE_SERVICE, Figure, figures
from hs_analysis.report.marks import marked
from hs_analysis.report.wording import policy_name
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import empty
from hs_analysis.schema.names import POOL_ROLES, RECORDED, STATIC_PEAK
from hs_analysis.schema.results import SignalVerdict
from hs_analysis.schema.settings import Document, Settings
from hs_analysis.settings import file
from hs_analysis.settings.values import suggestion
from hs_analysis.study import StudyResult, study_service

if TYPE_CHECKING:
    import altair as alt

PathLike: TypeAlias = "str | os.PathLike[str]"
Section: TypeAlias = "Mapping[str, object]"
History: TypeAlias = "Run | ServiceFrame | pl.DataFrame"
"""What a stage works on: a run, an aligned service, or a table that `frame_of` takes."""

Policies: TypeAlias = "Policy | PathLike | Mapping[str, Policy | PathLike]"
"""A policy, a file in the form of policy.yaml, or several of them by the name of their row."""

OWN = "own policy"
"""Name of the row of a policy that has none."""


class GivenSettings(TypedDict, total=False):
    """Settings, named and written as in ``hsa.toml``: a section is a mapping, ``slo={"ttft": "2s"}``.

    ``docs/reference/settings.md`` lists every key with its unit and default. Durations are text with a unit.
    """

    slo: Section
    startup: Section
    grace: Section
    history: Section
    bounds: Section
    export: Section
    policy: Section
    reading: Section
    captures: Section
    queries: Section
    roles: Section
    services: Section
    metrics: Section
    gpus: Section
    prices: Section
    tables: Section
    seed: int
    draws: int
    headroom_ratio: float
    train_share: float
    memory_limit: str
    engine: Literal["local", "ray"]


@dataclass(frozen=True)
class Run:
    """A run folder, read when something is asked of it; nothing here changes it.

    Where a ``service`` may be given it may be left out in a run of one service.

    Attributes
    ----------
    folder
        The run folder.

    Examples
    --------
    >>> history = load_run("reports/dynamo-pd")
    >>> history.decision()["recommend"]
    'apply'
    >>> history.table("study").filter(pl.col("verdict") == "proportional").height > 0
    True
    """

    folder: Path

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Everything the run says, as summary.json has it; a number that is not known is None.

        Raises
        ------
        RunFolderError
            When the report stage has not run.
        """
        _require_stage(self, "report")
        return results.read_summary(self.folder)

    @property
    def services(self) -> tuple[str, ...]:
        """Names of the services, ``namespace/model``."""
        _require_stage(self, "align")
        return tables.service_names(self.folder)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that the run holds; ``docs/reference/files.md`` says what a row of each is."""
        return tuple(results.run_tables(self.folder))

    def service(self, name: str | None = None) -> dict[str, Any]:
        """Return the part of the summary about a service."""
        wanted = _service_of(self, name)
        return next(dict(one) for one in self.summary["services"] if one["service"] == wanted)

    def decision(self, service: str | None = None) -> dict[str, Any]:
        """Return what to do: ``recommend`` is ``apply``, ``keep`` or ``record``, the rest says why."""
        return dict(self.service(service)["decision"])

    def table(self, name: str, service: str | None = None) -> pl.DataFrame:
        """Return a table of the run, all of it or the rows of one service.

        Samples, of which there are as many as in the input, are found by their series.

        Raises
        ------
        UsageError
            When the run has no such table; the message names a near one. Also when it is about no service.
        """
        known = results.run_tables(self.folder)
        if name not in known:
            hint = suggestion(name, known)
            raise UsageError(f"no such table {name!r}", where=str(self.folder), hint=hint)
        frame = tables.read(self.folder, name) if name != "samples" else _samples(self.folder)
        if service is None:
            return frame
        about = pl.col("service") == _service_of(self, service)
        if "service" in frame.columns:
            return frame.filter(about)
        if "series_id" not in frame.columns:
            raise UsageError(
                f"table {name!r} is about the run", where=str(self.folder), hint="name no service"
            )
        return frame.join(tables.read(self.folder, "series").filter(about), "series_id", how="semi")

    def sql(self, query: str) -> pl.DataFrame:
        """Return the rows of one SELECT (DuckDB) over the tables; times are ISO 8601 text in UTC.

        Raises
        ------
        UsageError
            For what is no query, fails, or would change or reach anything else.
        """
        answer = results.queried(self.folder, query, None)
        return pl.DataFrame(list(answer.rows), schema=list(answer.columns), infer_schema_length=None)

    def signals(self, service: str | None = None) -> pl.DataFrame:
        """Return the aligned signals of a service: one row a window, one column per ``signal@role``.

        ``t`` is the start of the window in UTC; values are in the catalogue's unit (``hsa signals``), what is
        missing is null. The long form, with source, coverage and GPU types, is ``table("signals")``.

        Examples
        --------
        >>> wide = load_run("reports/dynamo-pd").signals()
        >>> wide.select("t", "decode_tps@decode").height == wide.height
        True
        """
        return self.frame(service).table

    def frame(self, service: str | None = None) -> ServiceFrame:
        """Return an aligned service as the stages take it: its table, and what is known of each column."""
        return tables.read_frame(self.folder, _service_of(self, service))

    def policy(self, service: str | None = None) -> Policy:
        """Return the policy of a service, a frozen dataclass; `with_targets` and ``replace`` edit it.

        Raises
        ------
        RunFolderError
            When the policy stage has not run.
        """
        _require_stage(self, "policy")
        wanted = _service_of(self, service)
        return next(one for one in self._policies if one.service == wanted)

    def figures(self, service: str | None = None) -> pl.DataFrame:
        """Return the figures of the report: service, figure (its name), title, reading, rows.

        Ratio tests are about the run: their service is empty.

        Examples
        --------
        >>> load_run("reports/dynamo-pd").figures().get_column("figure").head(2).to_list()
        ['coverage', 'elasticity']
        """
        found = self._figures if service is None else [self._figure(one) for one in self._names(service)]
        rows = [(f.service, f.name, f.chart.title, f.chart.reading, f.chart.rows) for f in found]
        return pl.DataFrame(rows, orient="row", schema=_FIGURES)

    def figure(self, name: str, service: str | None = None) -> alt.LayerChart:
        """Return a figure of the report as an Altair chart, its rows inside.

        Raises
        ------
        UsageError
            When the report has no such figure; the message names a near one.
        """
        return self._figure((self._about(name, service), name)).altair()

    def figure_rows(self, name: str, service: str | None = None) -> pl.DataFrame:
        """Return the rows that a figure draws, those of the CSV behind it in the report.

        Examples
        --------
        >>> load_run("reports/dynamo-pd").figure_rows("elasticity").columns
        ['signal', 'verdict', 'elasticity', 'low', 'high']
        """
        return self._figure((self._about(name, service), name)).rows()

    def explain(self, link: str) -> dict[str, Any]:
        """Return how a number came about; ``link`` is an ``evidence`` of the summary or of the policy."""
        return results.explained(link, self.folder)[0]

    @property
    def settings(self) -> Settings:
        """The settings that the run was made with."""
        return of_run(folders.require(self.folder))

    @cached_property
    def _policies(self) -> tuple[Policy, ...]:
        return load_all(results.policy_text(self.folder))

    @cached_property
    def _figures(self) -> tuple[Figure, ...]:
        return figures(
            self.summary,
            {name: tables.read(self.folder, name) for name in DETAIL_TABLES},
            {policy.service: dump(policy) for policy in self._policies},
            tables.read(self.folder, "findings"),
            tables.read(self.folder, "signals"),
        )

    def _about(self, name: str, service: str | None) -> str:
        """Return the service a figure is about; empty for what is about the run."""
        of_the_run = service is None and any((f.service, f.name) == ("", name) for f in self._figures)
        return "" if of_the_run else _service_of(self, service)

    def _names(self, service: str) -> list[tuple[str, str]]:
        wanted = _service_of(self, service)
        return [(f.service, f.name) for f in self._figures if f.service == wanted]

    def _figure(self, key: tuple[str, str]) -> Figure:
        found = {(one.service, one.name): one for one in self._figures}
        if key not in found:
            hint = suggestion(key[1], [name for service, name in found if service in (key[0], "")])
            hint += " (.signals() has every signal to plot)" if "scatter" in key[1] or "@" in key[1] else ""
            raise UsageError(f"no such figure {key[1]!r}", where=str(self.folder), hint=hint)
        return found[key]


_FIGURES = {
    "service": pl.String, "figure": pl.String, "title": pl.String, "reading": pl.String, "rows": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True)
class Replayed:
    """A backtest on the test window of one service.

    Attributes
    ----------
    service
        The service.
    policies
        One row per policy, autoscaler of the field and baseline, in the order of the report: hours, share of
        windows that break the SLO, actions. Contract ``replay_policies``.
    timeline
        Per policy and window the counts, ready and wanted, and why they changed. Contract ``timeline``.
    calibration
        Whether the fleet model agrees with the history, and what could not be replayed.
    own
        Names of the rows of one's own policies.
    selected
        Name of the row of the run's policy, fitted on the training window; empty where there is none.
    """

    service: str
    policies: pl.DataFrame = field(repr=False)
    timeline: pl.DataFrame = field(repr=False)
    calibration: Mapping[str, Any] = field(repr=False)
    own: tuple[str, ...] = ()
    selected: str = ""
    _marks: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def figure(self, role: str, policies: Sequence[str] = ()) -> alt.LayerChart:
        """Return ready instances of a pool over time, one stepped line per policy, as an Altair chart.

        The first policy has a dot with its reason at every action.

        Parameters
        ----------
        role
            The pool.
        policies
            One or more names of rows, ``recorded``; by default one's own, selected, recorded, static peak.

        Raises
        ------
        UsageError
            When a policy or the pool is not known, or none of them has counts of that pool.
        """
        # A replay has one pool, or prefill and decode; counts of a mixed pool stand in the column of decode.
        pools = POOL_ROLES[:2] if self.timeline["ready_prefill"].is_finite().any() else POOL_ROLES
        if role not in pools:
            raise UsageError(f"no such pool {role!r}", where="figure", hint=suggestion(role, pools))
        asked = [self.row(name)["policy"] for name in ([policies] if isinstance(policies, str) else policies)]
        chosen = asked or [*self.own, self.selected, RECORDED, STATIC_PEAK]
        names = [(name, policy_name(name)) for name in chosen if name in set(self.policies["policy"])]
        drawn = replay_steps(self.timeline, role, names, self._marks, POINTS_ONE_SERVICE) if names else None
        if drawn is None:
            hint = f"known: {', '.join(self.policies['policy'])}"
            raise UsageError(f"none of the policies has {role} counts", where="figure", hint=hint)
        return Figure(self.service, drawn).altair()

    def row(self, policy: str = "") -> dict[str, Any]:
        """Return the row of a policy; without a name that of one's own, else of the selected one.

        Raises
        ------
        UsageError
            When there is none of that name.
        """
        name = policy or next(iter(self.own), self.selected)
        found = self.policies.filter(pl.col("policy") == name)
        if self.policies.is_empty():
            raise UsageError(str(self.calibration.get("text")), where=f"replay of {self.service}")
        if found.is_empty():
            own = " (Replayed.selected names that of the run)" if self.selected else ""
            hint = suggestion(name, self.policies["policy"].to_list()) + own
            raise UsageError(f"no such policy {name!r}", where=f"replay of {self.service}", hint=hint)
        return found.row(0, named=True)


def load_run(folder: PathLike) -> Run:
    """Return a run folder that `run` or ``hsa run`` has made.

    What is read is kept with the object: load it again after the run was written again. Stages that are older
    than what they were made from are named in a warning.

    Raises
    ------
    RunFolderError
        When there is no such folder, or it is no run folder.

    Examples
    --------
    >>> load_run("reports/nothing")
    Traceback (most recent call last):
    hs_analysis.errors.RunFolderError: reports/nothing: no such run folder; make one with hsa run INPUT or ...
    """
    if line := stale_line(Path(folder), folders.require(Path(folder)), STAGES):
        warnings.warn(line, stacklevel=2)
    return Run(Path(folder))


def run(
    inputs: PathLike | Sequence[PathLike],
    run_dir: PathLike | None = None,
    *,
    until: str = "report",
    config: PathLike | None = None,
    force: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    **settings: Unpack[GivenSettings],
) -> Run:
    """Read dumps and run every stage into a run folder, as ``hsa run`` does.

    A folder that is a run of these inputs already goes on with its settings and those given; where nothing
    has changed nothing is done. Neither the ``hsa.toml`` of the current folder nor ``HSA_*`` variables are
    read: a notebook gives the same everywhere.

    Parameters
    ----------
    inputs
        A file or folder of dumps, or several.
    run_dir
        The run folder; by default ``reports/<name>-<window>``.
    until
        Last stage to run, e.g. ``study``.
    config
        A settings file; what is given here wins over it.
    force
        Start the folder again, even one made from other inputs.
    strict
        Whether a rejected row or a broken file is an error.
    progress
        What is told of each stage; nothing is printed without one.
    **settings
        See `GivenSettings`.

    Raises
    ------
    HsError
        For what the user can mend; the text is that of the command.

    Examples
    --------
    >>> history = run("dynamo-pd", "reports/dynamo-pd", slo={"ttft": "2s", "tbt": "50ms"},
    ...               history={"kind": "pressure_test"})
    >>> history.service()["pd_ratio"]["status"]
    'drifting'
    """
    used = _effective(settings, config)
    known = [stage.name for stage in STAGES]
    if until not in known:
        raise UsageError(f"no such stage {until!r}", where="until", hint=suggestion(until, known))
    listed = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    if not listed:
        raise UsageError("no INPUT is named", where="inputs", hint="name files or folders of dumps")
    ran = run_inputs(
        [Path(one) for one in listed], until, used.settings,
        stages=STAGES, progress=progress or Silent(), run_dir=None if run_dir is None else Path(run_dir),
        force=force,
        asked=Asked(machine=used.machine, given=used.changes, changes_settings=True, origins=used.origins,
                    config=used.config, strict=strict),
    )  # fmt: skip
    return Run(ran.folder)


def frame_of(
    table: pl.DataFrame,
    service: str = "default",
    *,
    kind: Literal["production", "pressure_test"] = "production",
    gpus_per_instance: Mapping[str, float] | None = None,
) -> ServiceFrame:
    """Return an aligned service from a table of one's own, for `study`, `derive` and `replay`.

    Parameters
    ----------
    table
        One row a window on a regular grid: ``t``, its start, with a time zone; optionally ``capture``; and a
        column of numbers per ``signal@role``, in the catalogue's unit. Rates are totals over the pool.
        ``instances@<role>`` [instances] and ``offered_tps@<role>`` or the served rate [tokens/s] are what the
        other signals are judged on; ``ttft_over@service`` and the like are shares of requests over the
        limit [ratio]. Missing is null.
    service
        ``namespace/model``.
    kind
        ``pressure_test`` where somebody set the load on purpose.
    gpus_per_instance
        GPUs of one instance per role.

    Raises
    ------
    InputError
        When the table is none of that form; the message names the column.

    Examples
    --------
    >>> table = load_run("reports/dynamo-pd").signals()
    >>> frame_of(table, kind="pressure_test").pools
    ('prefill', 'decode')
    """
    return _frame_of(table, load_catalogue(), service, kind, gpus_per_instance)


def study(data: History, service: str | None = None, **settings: Unpack[GivenSettings]) -> StudyResult:
    """Judge every signal of a service: ``proportional`` may size pools, ``guard`` may only add or veto.

    Parameters
    ----------
    data
        A run, whose own settings count; or an aligned service or a table for `frame_of`, with ``settings``.
    service
        The service of a run, or the name of that of a table.
    **settings
        For a service or table: see `GivenSettings`; seed, draws and, for a table, ``history`` count.

    Returns
    -------
    StudyResult
        ``verdicts``, of which `as_frame` makes a table, and ``recommended``. Elasticity [% per % of load],
        lag [s], coverage [ratio]; None where a gate failed, with its reason.

    Examples
    --------
    >>> found = study(load_run("reports/dynamo-pd"))
    >>> found.verdict_of("decode_tps", "decode").verdict
    'proportional'
    """
    if isinstance(data, Run):
        return study_part(data.folder, data.frame(service), _own(data, settings))
    used = _effective(settings).settings
    return study_service(_service_frame(data, service, used), used)


def derive(
    data: History,
    service: str | None = None,
    *,
    studied: StudyResult | None = None,
    **settings: Unpack[GivenSettings],
) -> DeriveResult:
    """Derive demand, capacity per instance at the SLO, targets and the P/D ratio of a service.

    Parameters
    ----------
    data
        As for `study`.
    service
        As for `study`.
    studied
        What `study` found; a run knows it, and without it a table is studied first.
    **settings
        For a service or table: ``slo`` and ``startup`` above all.

    Returns
    -------
    DeriveResult
        ``derived.thresholds`` [unit of the signal per instance], ``derived.capacity``, ``derived.pd_ratio``
        (prefill ÷ decode), ``derived.refusals``; each with a status, ``ok``, ``floor``, ``drifting`` or
        ``refused``. `as_frame` makes a table of any of them.

    Examples
    --------
    >>> found = derive(load_run("reports/dynamo-pd"))
    >>> found.derived.pd_ratio.status
    'drifting'
    """
    if isinstance(data, Run):
        frame = data.frame(service)
        if studied is None:
            _require_stage(data, "study")
        verdicts = _over_types(studied) if studied else read_verdicts(data.folder, frame.service)
        return derive_part(data.folder, frame, _own(data, settings), verdicts, WHOLE)
    used = _effective(settings).settings
    frame = _service_frame(data, service, used)
    return derive_service(frame, _over_types(studied or study_service(frame, used)), used, rolling=True)


def _over_types(studied: StudyResult) -> tuple[SignalVerdict, ...]:
    """Return the verdicts over all GPU types: those that numbers may rest on."""
    return tuple(one for one in studied.verdicts if one.gpu_type is None)


def replay(
    data: History,
    policies: Policies | None = None,
    service: str | None = None,
    **settings: Unpack[GivenSettings],
) -> Replayed:
    """Backtest policies of one's own on the test window, beside what ran and the autoscalers of the field.

    Capacities and ceilings come from the training window. In a run the selected policy, today's autoscaler
    and what was replayed with it stand beside, and a row equals that of ``hsa replay RUN --policy FILE``.

    Parameters
    ----------
    data
        As for `study`.
    policies
        A policy (its row is ``own policy``), a file (its row has the file's name), or several by name; None
        replays what the run replayed.
    service
        As for `study`; by default that of the first policy.
    **settings
        For a service or table: ``slo``, ``startup`` and ``train_share`` above all.

    Raises
    ------
    InputError
        When a policy is of another service than the replay, or follows a signal that is not in the history.
    UsageError
        When a name is that of a baseline.

    Examples
    --------
    >>> history = load_run("reports/dynamo-pd")
    >>> careful = with_targets(history.policy(), {"decode": 500.0})  # tokens/s an instance
    >>> found = replay(history, careful)
    >>> found.row()["instance_hours"] > found.row("recorded")["instance_hours"]
    True
    """
    documents = _documents(policies)
    spoken = {given.name: [one.service for one in load_all(given.text, given.name)] for given in documents}
    service = service or next((of for services in spoken.values() for of in services), None)
    if isinstance(data, Run):
        name = _service_of(data, service)
        _require_policies(spoken, name)
        return _replay_of_run(data, documents, name, _own(data, settings))
    used = _effective(settings).settings
    frame = _service_frame(data, service, used)
    _require_policies(spoken, frame.service)
    train, test = tables.split(frame, used.train_share)
    controls = {name: control_of(one) for name, one in policies_beside(documents, train).items()}
    derived = derive(train, **settings).derived
    outcome = replay_service(test, train, derived, controls, used)
    key = {"service": frame.service, "fit": TRAIN}
    rows = _rows("replay_policies", [key | vars(row) for row in outcome.result.policies])
    told = to_plain(outcome.result.calibration)
    return Replayed(frame.service, rows, outcome.timeline, told, tuple(controls))


def _replay_of_run(data: Run, documents: tuple[Document, ...], name: str, settings: Settings) -> Replayed:
    """Return what the stage replay would write of one service; a topology costs time and changes no row."""
    _require_stage(data, "select")
    beside = {"beside.topology": ()} | ({"beside.policies": documents} if documents else {})
    used = changed(settings, beside)
    found = replay_one(ServiceTask(data.folder, used, name))
    told = json.loads(found.window["calibration"])
    marks = marked(data.service(name), data.summary) if (data.folder / SUMMARY_FILE).is_file() else {}
    own = tuple(policies_beside(used.beside.policies, data.frame(name)))
    selected = str((told.get("deployed") or {}).get("policy") or "")
    return Replayed(name, _rows("replay_policies", found.rows), found.timeline, told, own, selected, marks)


def with_targets(policy: Policy, targets: Mapping[str, float]) -> Policy:
    """Return a policy with other targets per instance.

    Parameters
    ----------
    policy
        The policy; it is not changed.
    targets
        Role or ``signal@role`` of a primary → what one instance should carry [unit of the signal].

    Raises
    ------
    UsageError
        When the policy follows no such signal, or a target is not above a hundredth of the one it replaces.

    Examples
    --------
    >>> policy = load_run("reports/dynamo-pd").policy()
    >>> now = policy.primaries[-1].target_per_instance.value  # tokens/s
    >>> careful = with_targets(policy, {"decode": 0.9 * now})
    """
    left = dict(targets)
    primaries = []
    for primary in policy.primaries:
        value = left.pop(f"{primary.signal}@{primary.role}", left.pop(primary.role, None))
        own = primary.target_per_instance
        if slip := None if value is None else target_slip(primary, value):
            raise UsageError(slip[0], where=f"target of {primary.role}", hint=slip[1])
        made = primary if value is None else replace(primary, target_per_instance=replace(own, value=value))
        primaries.append(made)
    if left:
        known = [name for one in policy.primaries for name in (one.role, f"{one.signal}@{one.role}")]
        name = next(iter(left))
        raise UsageError("the policy has no such primary", where=name, hint=suggestion(name, known))
    return replace(policy, primaries=tuple(primaries))


def as_frame(results: Iterable[Any]) -> pl.DataFrame:
    """Return results of one kind as a table: verdicts, capacities, thresholds, refusals.

    One row a result, one column a field; what is not known is null.

    Examples
    --------
    >>> found = study(load_run("reports/dynamo-pd"))
    >>> as_frame(found.verdicts).select("signal", "role", "verdict").columns
    ['signal', 'role', 'verdict']
    """
    return pl.DataFrame([to_plain(one) for one in results], infer_schema_length=None)


def _require_stage(history: Run, stage: str) -> None:
    """Raise when a run has not come as far as a stage."""
    if stage not in folders.require(history.folder).stages:
        command = "study" if stage == "align" else stage  # alignment has no command of its own
        hint = f"hsa {command} {history.folder}"
        raise RunFolderError(f"the stage {stage} has not run yet", where=str(history.folder), hint=hint)


def _service_of(history: Run, service: str | None) -> str:
    """Return the service that is meant: the one named, or the only one."""
    known = history.services
    if service is None and len(known) == 1:
        return known[0]
    if service is None:
        what, hint = f"the run has {len(known)} services", f"name one of {', '.join(known)}"
        raise UsageError(what, where=str(history.folder), hint=hint)
    if service not in known:
        hint = suggestion(service, known)
        raise UsageError(f"no such service {service!r}", where=str(history.folder), hint=hint)
    return service


def _effective(settings: Mapping[str, Any], config: PathLike | None = None) -> Effective:
    """Return the settings of a call: defaults, then the file named, then what is given."""
    path = None if config is None else file.find(Path(config))
    layers = [file.read_file(path)] if path else []
    return effective.applied(Settings(), {}, [*layers, file.read_mapping(settings)], path)


def _own(history: Run, settings: Mapping[str, Any]) -> Settings:
    """Return the settings of a run, which a call may not change: its tables were made with them."""
    if settings:
        what = "a run keeps the settings that it was made with"
        hint = "hs_analysis.run(INPUTS, RUN_DIR, …) makes the run again with others"
        raise UsageError(what, where=", ".join(settings), hint=hint)
    return history.settings


def _service_frame(data: ServiceFrame | pl.DataFrame, service: str | None, used: Settings) -> ServiceFrame:
    """Return what a stage works on; a table is of the service named, and its kind is that of the settings."""
    if isinstance(data, ServiceFrame):
        return data
    if not isinstance(data, pl.DataFrame):
        what = f"expected a run, an aligned service or a polars.DataFrame, found {type(data).__name__}"
        raise UsageError(what, where="data", hint="give load_run(DIR), pl.from_pandas(DF) or LAZY.collect()")
    return frame_of(data, service or "default", kind=used.history_kind)


def _samples(folder: Path) -> pl.DataFrame:
    parts = sorted(folder.glob(tables.PLACES["samples"]))
    return pl.read_parquet(parts).sort("series_id", "t") if parts[1:] else pl.read_parquet(parts)


def _documents(policies: Policies | None) -> tuple[Document, ...]:
    """Return policies as the files that a command is given."""
    if policies is None:
        return ()
    if not isinstance(policies, Mapping):
        policies = {OWN if isinstance(policies, Policy) else Path(policies).name: policies}
    if named := [name for name in policies if "/" in name or not name]:
        raise UsageError(f"no name of a row: {named[0]!r}", where="policies", hint="take one without a slash")
    return tuple(
        Document(name, dump(one) if isinstance(one, Policy) else _text(Path(one)))
        for name, one in policies.items()
    )


def _require_policies(spoken: Mapping[str, Sequence[str]], service: str) -> None:
    """Raise when a file has no policy of the service: it would be left out in silence."""
    for name in (name for name, services in spoken.items() if service not in services):
        text = f"is a policy of {' and '.join(spoken[name]) or 'no service'}, the replay is of {service}"
        raise InputError(text, where=name, hint="name its service, or take the policy of this one")


def _text(path: Path) -> str:
    """Return what a file of policies holds; an `InputError` when it can't be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"can't be read ({reason})", where=str(path), hint="check the path") from error


def _rows(table: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return plain records by the contract of a table, without the part of the window they were fitted on."""
    schema = empty(tables.contract(table)).schema
    return pl.DataFrame([to_plain(row) for row in rows], schema=schema).drop("fit")
