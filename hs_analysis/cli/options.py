"""Flags that several commands share, in the groups they come in, each spelt and explained once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from hs_analysis.cli import flag_values
from hs_analysis.cli.output import LogFormat, OutputFormat
from hs_analysis.errors import UsageError
from hs_analysis.schema.names import FAULTS
from hs_analysis.settings.file import GivenValue, Layer
from hs_analysis.settings.registry import EVENT_FILES, MOMENT, SETTINGS, SPANS

INPUT, HISTORY, METHOD, GATES, OUTPUT = "Input", "History", "Method", "Gates", "Output"


Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT", help="Files or folders of Prometheus dumps; - is standard input.", show_default=False
    ),
]
RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run folder, as hsa run or hsa ingest made it.", show_default=False),
]


def _flag(panel: str, text: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, rich_help_panel=panel, show_default=False, help=text, **more)


@dataclass(frozen=True)
class ConfigFlags:
    """Where settings are read from."""

    config: Annotated[
        Path | None,
        _flag(INPUT, "Settings file; hsa.toml of the current folder unless said.", "--config",
              metavar="FILE"),
    ] = None  # fmt: skip


@dataclass(frozen=True)
class ReadingFlags:
    """How input files are read."""

    format: Annotated[
        str | None,
        _flag(INPUT, "Reader of every file; found by content unless given.", "--format", metavar="ID"),
    ] = None
    capture: Annotated[
        list[str] | None,
        _flag(INPUT, "A separate run of the same service, as in a sweep: an input too; repeat it.",
              "--capture", metavar="NAME=PATH"),
    ] = None  # fmt: skip
    query: Annotated[
        list[str] | None,
        _flag(INPUT, "The PromQL a file answers, or a name, for its series that have none; repeat it.",
              "--query", metavar="FILE=PROMQL"),
    ] = None  # fmt: skip
    tz: Annotated[
        str | None,
        _flag(INPUT, "Zone of times that carry none, e.g. Europe/Berlin; they are refused unless said.",
              "--tz", metavar="ZONE"),
    ] = None  # fmt: skip
    time_unit: Annotated[
        str | None,
        _flag(INPUT, "Unit of a table's numeric times; found by their size unless given.", "--time-unit",
              metavar="s|ms|us|ns"),
    ] = None  # fmt: skip
    epoch: Annotated[
        str | None, _flag(INPUT, "Start of logs whose times are relative.", "--epoch", metavar="TIME")
    ] = None
    legend_regex: Annotated[
        str | None,
        _flag(INPUT, "Named groups that turn a Grafana legend into labels.", "--legend-regex",
              metavar="REGEX"),
    ] = None  # fmt: skip
    on_conflict: Annotated[
        str | None,
        _flag(INPUT, "What to do with different values of one series at one time; reject unless said.",
              "--on-conflict", metavar="reject|first|last|max"),
    ] = None  # fmt: skip
    dedup_label: Annotated[
        str | None,
        _flag(INPUT, "Label in which replicas of one Prometheus differ; the fuller copy is kept.",
              "--dedup-label", metavar="LABEL"),
    ] = None  # fmt: skip
    salvage: Annotated[
        bool, _flag(INPUT, "Keep the complete series of a document that is cut.", "--salvage")
    ] = False

    def layer(self) -> Layer:
        """Return what was given."""
        captures, queries = flag_values.captures(self.capture or ()), flag_values.queries(self.query or ())
        return {
            **_simple(
                self, "format", "tz", "time_unit", "epoch", "legend_regex", "on_conflict", "dedup_label"
            ),
            **({"reading.captures": GivenValue(captures, "--capture")} if captures else {}),
            **({"reading.queries": GivenValue(queries, "--query")} if queries else {}),
            **({"reading.salvage": GivenValue(True, "--salvage")} if self.salvage else {}),
        }


@dataclass(frozen=True)
class BoundsFlags:
    """Bounds of the window."""

    start: Annotated[
        str | None,
        _flag(HISTORY, "Leave out what is before, e.g. 2026-07-01T00:00:00Z.", "--from", metavar="TIME"),
    ] = None
    end: Annotated[str | None, _flag(HISTORY, "Leave out what is from then on.", "--to", metavar="TIME")] = (
        None
    )

    def layer(self) -> Layer:
        """Return what was given."""
        return {
            name: GivenValue(flag_values.read(MOMENT, [text], flag), flag)
            for name, flag, text in (("start", "--from", self.start), ("end", "--to", self.end))
            if text is not None
        }


@dataclass(frozen=True)
class HistoryFlags(BoundsFlags):
    """Which part of the input counts, and as what."""

    exclude: Annotated[
        list[str] | None,
        _flag(HISTORY, "Leave out a stretch (incident, deploy, load test), or the stretches of a CSV or JSON "
              "file; repeat it.", "--exclude", metavar="START..END|FILE"),
    ] = None  # fmt: skip
    events: Annotated[
        list[str] | None,
        _flag(HISTORY, "Events of a CSV or JSON file, marked on the charts; repeat it.", "--events",
              metavar="FILE"),
    ] = None  # fmt: skip
    service: Annotated[
        list[str] | None,
        _flag(HISTORY, "Go on with this service only; repeat it.", "--service", metavar="NAME"),
    ] = None
    pressure_test: Annotated[
        bool | None,
        _flag(HISTORY, "Whether someone set the load on purpose (a ramp, steps, a sweep); production unless "
              "said.", "--pressure-test/--production"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        found = dict(super().layer())
        if self.exclude:
            found["excluded"] = GivenValue(flag_values.read(SPANS, self.exclude, "--exclude"), "--exclude")
        if self.events:
            found["events"] = GivenValue(flag_values.read(EVENT_FILES, self.events, "--events"), "--events")
        if self.service:
            found["service"] = GivenValue(tuple(self.service), "--service")
        if self.pressure_test is not None:
            kind, flag = ("pressure_test", "--pressure-test") if self.pressure_test else ("production",) * 2
            found["history_kind"] = GivenValue(kind, flag if flag.startswith("-") else f"--{flag}")
        return found


@dataclass(frozen=True)
class SloFlags:
    """The latency objective."""

    slo: Annotated[
        list[str] | None,
        _flag(METHOD, "ttft=2.5s, tbt=50ms, quantile=0.95 (share of requests or token gaps that must hold) "
              "or window=60s; repeat it. There is no default limit.", "--slo", metavar="LIMIT"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        return flag_values.slo(self.slo or ())


@dataclass(frozen=True)
class MethodFlags:
    """What the method is told beside the SLO."""

    startup: Annotated[
        list[str] | None,
        _flag(METHOD, "From asking for an instance to its first request: 240s, or prefill=240s; repeat it.",
              "--startup", metavar="TIME"),
    ] = None  # fmt: skip
    seed: Annotated[
        int | None, _flag(METHOD, "Seed of every resampling; 0 unless said.", "--seed", min=0)
    ] = None

    def layer(self) -> Layer:
        """Return what was given."""
        seed = {} if self.seed is None else {"seed": GivenValue(self.seed, "--seed")}
        return {**flag_values.startup(self.startup or ()), **seed}


@dataclass(frozen=True)
class CurrentFlags:
    """What scales the service today."""

    current: Annotated[
        list[str] | None,
        _flag(METHOD, "Today's autoscaler, replayed with the policy: HPA (autoscaling/v2), KEDA "
              "ScaledObject or Dynamo planner configuration, and the rules behind its names; repeat it. none "
              "takes it away.", "--current",
              metavar="FILE|POOL=FILE"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        files = flag_values.current(self.current or ())
        return {"beside.current": GivenValue(files, "--current")} if self.current else {}


@dataclass(frozen=True)
class StageFlags:
    """Flags of one stage alone; most have none."""

    def layer(self) -> Layer:
        """Return what was given."""
        return {}


@dataclass(frozen=True)
class TargetFlags(StageFlags):
    """What the policy is selected for."""

    target: Annotated[
        str | None,
        _flag(METHOD, "Controller that is to run the policy: it is selected, replayed and written for this "
              "one; the kind of --current, else keda, unless said.", "--target",
              metavar="keda|hpa|heteroscale"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        return _simple(self, "target")


@dataclass(frozen=True)
class ClusterFlags:
    """What exported objects are told of the cluster."""

    kube_version: Annotated[
        str | None,
        _flag(METHOD, "Version of Kubernetes that runs the objects: fields it does not know are left out; "
              "1.35 unless said.", "--kube-version", metavar="VERSION"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        return _simple(self, "kube_version")


@dataclass(frozen=True)
class EditedFlags:
    """A policy that the user edited."""

    policy: Annotated[
        str | None,
        _flag(METHOD, "A policy.yaml of the run, edited by hand, to write instead of the run's own. none "
              "takes it away.", "--policy", metavar="FILE"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        if self.policy is None:
            return {}
        return {"edited": GivenValue(flag_values.policies([self.policy]), "--policy")}


@dataclass(frozen=True)
class ModeFlags(StageFlags):
    """What the policy follows."""

    mode: Annotated[
        str | None,
        _flag(METHOD, "What the policy follows: metrics, or a timetable made of the history; metric unless "
              "said.", "--mode", metavar="metric|periodic"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        return _simple(self, "mode")


@dataclass(frozen=True)
class ScenarioFlags(CurrentFlags):
    """What is replayed beside the selected policy."""

    policy: Annotated[
        list[str] | None,
        _flag(METHOD, "Another policy.yaml to replay, e.g. edited by hand; repeat it. none takes it away.",
              "--policy", metavar="FILE"),
    ] = None  # fmt: skip
    fault: Annotated[
        list[str] | None,
        _flag(METHOD, f"What goes wrong: {', '.join(FAULTS)}, or all; repeat it. none takes it away.",
              "--fault", metavar="F"),
    ] = None  # fmt: skip
    topology: Annotated[
        str | None,
        _flag(METHOD, "Switches and their GPUs: is there room for the wanted counts, prefill near decode? "
              "none takes it away.", "--topology", metavar="FILE"),
    ] = None  # fmt: skip

    def layer(self) -> Layer:
        """Return what was given."""
        files, faults = flag_values.policies(self.policy or ()), flag_values.faults(self.fault or ())
        topology = flag_values.topology([self.topology] if self.topology else ())
        return {
            **super().layer(),
            **({"beside.policies": GivenValue(files, "--policy")} if self.policy else {}),
            **({"beside.faults": GivenValue(faults, "--fault")} if self.fault else {}),
            **({"beside.topology": GivenValue(topology, "--topology")} if self.topology else {}),
        }


@dataclass(frozen=True)
class MachineFlags:
    """How the machine is used."""

    memory_limit: Annotated[
        str | None,
        _flag(METHOD, "What may be held in memory before it is spilled to disk; 4GB unless said.",
              "--memory-limit", metavar="SIZE"),
    ] = None  # fmt: skip
    engine: Annotated[
        str | None,
        _flag(METHOD, "Where tasks run; local unless said.", "--engine", metavar="local|ray"),
    ] = None

    def layer(self) -> Layer:
        """Return what was given."""
        return _simple(self, "memory_limit", "engine")


@dataclass(frozen=True)
class FailFlags:
    """Conditions on the answer."""

    fail_on: Annotated[
        list[str] | None,
        _flag(GATES, "End with exit code 3 when it holds: refused, decision-changed:RUN, "
              "verdict-changed:RUN, ratio-drifting, check-failed, coverage<0.9, slo_violation_ratio>0.01; "
              "repeat it.", "--fail-on",
              metavar="COND"),
    ] = None  # fmt: skip
    junit: Annotated[
        Path | None,
        _flag(GATES, "Write the conditions and what holds as JUnit XML.", "--junit", metavar="FILE"),
    ] = None


@dataclass(frozen=True)
class AnonymiseFlags:
    """A second report without the names of the fleet."""

    anonymise: Annotated[
        bool,
        _flag(OUTPUT, "Write report-anonymised.html too: label values, names of services, files and hosts "
              "have aliases; numbers, times, metric names and GPU types stay.", "--anonymise"),
    ] = False  # fmt: skip
    anonymise_key: Annotated[
        Path | None,
        _flag(OUTPUT, "File with a secret: the same value has the same alias in every report made with it. "
              "Without one, aliases are numbered in this report alone.", "--anonymise-key", metavar="FILE"),
    ] = None  # fmt: skip


STRICT_HELP = (
    "End with exit code 4 when something is lost: rows rejected, files broken, less come than a pull planned."
)


@dataclass(frozen=True)
class StrictFlags:
    """Conditions on the input."""

    strict: Annotated[
        bool,
        _flag(GATES, STRICT_HELP, "--strict"),
    ] = False


@dataclass(frozen=True)
class RunFolderFlags:
    """Where a run goes."""

    run_dir: Annotated[
        Path | None,
        _flag(OUTPUT, "Run folder; by default reports/<name>-<window>.", "--run-dir", metavar="DIR"),
    ] = None
    force: Annotated[
        bool,
        _flag(OUTPUT, "Start the run folder again, even one made from other inputs.", "--force"),
    ] = False


VERBOSE = (
    "Say more: the settings that are used and where each is from; in compare every change; in explain every "
    "query and input file."
)
VerboseFlag = Annotated[bool, _flag(OUTPUT, VERBOSE, "--verbose", "-v")]
"""Of every command that can say more."""


@dataclass(frozen=True)
class FormFlags:
    """Form of the result."""

    output: Annotated[
        OutputFormat,
        typer.Option("--output", "-o", rich_help_panel=OUTPUT, help="Form of the result on stdout."),
    ] = "table"
    no_color: Annotated[bool, _flag(OUTPUT, "No colour; NO_COLOR does the same.", "--no-color")] = False


@dataclass(frozen=True)
class QuietFlags(FormFlags):
    """Form of the result, and whether anything is said beside it."""

    quiet: Annotated[bool, _flag(OUTPUT, "Nothing on stderr but errors.", "--quiet", "-q")] = False
    log: Annotated[
        LogFormat,
        typer.Option("--log", rich_help_panel=OUTPUT, help="Form of progress and errors on stderr."),
    ] = "text"


@dataclass(frozen=True)
class OutputFlags(QuietFlags):
    """Form of the result, and how much is said beside it."""

    verbose: VerboseFlag = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise UsageError("they contradict each other", where="-q and -v", hint="leave one out")


def _simple(group: Any, *names: str) -> Layer:
    """Return the settings whose flags hold one word and are named as in hsa.toml."""
    found = {}
    for name in names:
        text = getattr(group, name)
        flag = f"--{name.replace('_', '-')}"
        if text is not None:
            setting = next(s for s in SETTINGS if s.flag == flag)
            found[setting.field] = GivenValue(flag_values.read(setting.kind, [text], flag), flag)
    return found


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose parameters of a dataclass type are taken apart into the flags they group.

    The order of the help is the order of the parameters, and inside a group that of its fields. Every field
    needs a default and an ``Annotated`` type with a ``typer.Option``.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            parameters += _flags(groups[parameter.name])
        else:
            own = parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)
            parameters.append(own)

    @wraps(function)
    def command(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        function(**given, **made)

    # What typer looks at is the flags, not the groups.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _flags(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]
