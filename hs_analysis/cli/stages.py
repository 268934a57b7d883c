"""One command a stage: bring it up to date in its run folder and print what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hs_analysis.cli import backtest, gates, tables
from hs_analysis.cli.context import from_inputs, on_folder
from hs_analysis.cli.options import (
    METHOD,
    OUTPUT,
    AnonymiseFlags,
    ClusterFlags,
    ConfigFlags,
    CurrentFlags,
    EditedFlags,
    FailFlags,
    HistoryFlags,
    Inputs,
    MachineFlags,
    MethodFlags,
    ModeFlags,
    OutputFlags,
    ReadingFlags,
    RunFolder,
    RunFolderFlags,
    ScenarioFlags,
    SloFlags,
    StageFlags,
    StrictFlags,
    TargetFlags,
    grouped,
)
from hs_analysis.cli.output import Block, CommandOutput, Table, write_output
from hs_analysis.errors import UsageError, first_of
from hs_analysis.schema.names import EXPORT_TARGETS

if TYPE_CHECKING:
    from hs_analysis.pipeline.runner import Ran


@dataclass(frozen=True)
class StageCommand:
    """A command that brings one stage up to date.

    Attributes
    ----------
    name
        The stage.
    example
        Arguments of a runnable example, after ``hsa <name>``.
    does
        What it does, in a paragraph.
    present
        Reads the result from the run folder.
    own
        Flags of this stage alone.
    """

    name: str
    example: str
    does: str
    present: Callable[[Path], CommandOutput]
    own: type[StageFlags] = StageFlags

    @property
    def help(self) -> str:
        """The help text: the example first."""
        return f"hsa {self.name} {self.example}\n\n{self.does}"

    def command(self) -> Callable[..., None]:
        """Return the function that typer turns into the command."""

        def run_stage(
            run: RunFolder,
            settings: ConfigFlags,
            history: HistoryFlags,
            slo: SloFlags,
            method: MethodFlags,
            own: StageFlags,
            machine: MachineFlags,
            out: OutputFlags,
        ) -> None:
            ran = on_folder(run, self.name, settings.config, (history, slo, method, own, machine), out=out)
            write_output(self.present(ran.folder), out.output, no_color=out.no_color)

        run_stage.__annotations__["own"] = self.own
        return grouped(run_stage)


def _sections(
    stage: str, blocks: Callable[[tables.Service], list[Block]], rows: Callable[[tables.Service], list[Any]]
) -> Callable[[Path], CommandOutput]:
    """Return a reader of the part of summary.json that a stage fills."""

    def present(folder: Path) -> CommandOutput:
        from hs_analysis.pipeline.results import profile_ratios, ratio_tests, sections

        services = sections(folder, stage)
        flat = [{"service": service["service"], **row} for service in services for row in rows(service)]
        tests = ratio_tests(folder) if stage == "derive" else []
        data = {"services": services} | ({"sweeps": tests} if tests else {})
        given = profile_ratios(folder) if stage == "derive" else []
        data |= {"profiles": given} if given else {}
        lines = [*map(tables.ratio_test, tests), *map(tables.profile_ratio, given)]
        return CommandOutput(
            data, flat, lambda: [*(b for service in services for b in blocks(service)), *lines]
        )

    return present


def _policy(folder: Path) -> CommandOutput:
    from hs_analysis.pipeline.results import parsed_policies, policy_text

    documents = parsed_policies(folder)
    rows = [
        {"service": document["metadata"]["service"], "mode": document["spec"]["mode"], **primary}
        for document in documents
        for primary in document["spec"]["primaries"] or [{}]
    ]
    return CommandOutput({"policies": documents}, rows, lambda: [policy_text(folder).rstrip("\n")])


def _report(folder: Path, anonymised: Path | None) -> CommandOutput:
    from hs_analysis.evidence import REPORT_FILE

    page = folder / REPORT_FILE
    found = {"report": str(page), "summary": str(folder / "summary.json"), "bytes": page.stat().st_size}
    lines = [f"summary: {found['summary']}", f"report: {page}"]
    if anonymised is not None:
        found |= {"anonymised": str(anonymised)}
        lines.append(f"report without names: {anonymised}")
    return CommandOutput(found, [found], lambda: lines)


def anonymised(ran: Ran, asked: AnonymiseFlags) -> Path | None:
    """Write the report without names where it was asked for, say what stays, and return its path."""
    if not asked.anonymise and asked.anonymise_key is None:
        return None
    from hs_analysis.pipeline.report_stages import write_anonymised

    key = b""
    if asked.anonymise_key is not None:
        try:
            key = asked.anonymise_key.read_bytes().strip()
        except OSError as error:
            raise UsageError(
                f"can't be read: {error.strerror}", where=str(asked.anonymise_key), hint="name a text file"
            ) from error
        if not key:
            raise UsageError(
                "the key is empty", where=str(asked.anonymise_key), hint="write a long random word into it"
            )
    path, spoken = write_anonymised(ran.folder, ran.manifest, key)
    if spoken:
        typer.echo(
            f"not replaced in sentences, because the report uses the word: {', '.join(spoken)}", err=True
        )
    return path


_RUN = "reports/dumps-20260701T0000-20260708T0000"

_STAGES: tuple[StageCommand, ...] = (
    StageCommand(
        "study",
        _RUN,
        "Judge every signal: proportional (may size pools), guard (may only add or veto), unusable or "
        "unknown; each with its reasons.",
        _sections("study", tables.signals, lambda service: service["signals"]),
    ),
    StageCommand(
        "derive",
        _RUN,
        "Derive demand, capacity per instance at the SLO, targets with dead band and cooldowns, and the P/D "
        "ratio (prefill instances per decode instance).",
        _sections("derive", tables.derived, lambda service: service["thresholds"]),
    ),
    StageCommand(
        "select",
        _RUN,
        "Simulate every signal that may size pools with every setting of the controller that will run the "
        "policy, on the training window: undisturbed, under faults and bursts, and at flat load. Choose the "
        "one that saves most within the SLO and withstands them as a default HPA does (HeteroScale's "
        "Algorithm 1). Then let every studied signal, qualified or not, drive its pool over the test "
        "window: does the fleet follow when the load dips?",
        _sections(
            "select",
            lambda service: [*tables.selection(service), *tables.drivers(service)],
            lambda service: service["selection"],
        ),
        TargetFlags,
    ),
    StageCommand(
        "policy",
        f"{_RUN} -q > policy.yaml",
        "Write policy.yaml, fitted on the whole window, and print it; comments say where numbers come from.",
        _policy,
        ModeFlags,
    ),
)

STAGE_COMMANDS = {one.name: one for one in _STAGES}
"""The commands of stages that only show what the stage found, by name."""

REPLAY_HELP = f"""hsa replay {_RUN} --fault all

Backtest: replay the selected policy, static peak, the recorded counts and the autoscalers of the field on the
last part of the window, with thresholds fitted on the first; also today's autoscaler, edited policies,
and all of them under faults."""


@grouped
def replay(
    run: RunFolder,
    settings: ConfigFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    beside: ScenarioFlags,
    machine: MachineFlags,
    out: OutputFlags,
) -> None:
    """Replay, and print the backtest."""
    flags = (history, slo, method, beside, machine)
    ran = on_folder(run, "replay", settings.config, flags, out=out)
    write_output(_replayed(ran), out.output, no_color=out.no_color)


def _replayed(ran: Ran) -> CommandOutput:
    """Return the backtest; people first read whom it leaves out, where it breaks the SLO, and what is odd."""
    from hs_analysis.pipeline.faults import policy_doubts
    from hs_analysis.pipeline.results import decisions, sections, unserved
    from hs_analysis.pipeline.session import of_run
    from hs_analysis.report import first_line
    from hs_analysis.report.choice import choose

    present = _sections("replay", backtest.replay, lambda service: service["replay"]["policies"])
    found = present(ran.folder)
    selected = sections(ran.folder, "select")  # says which of the replayed policies was selected
    services = [mine | theirs for mine, theirs in zip(selected, found.data["services"], strict=True)]
    slo = ran.manifest.settings.get("slo") or {}
    lost = first_line.without_service({"warnings": unserved(ran.folder, ran.manifest)})
    first = [f"WARNING: {text}" for text in lost]
    decided = decisions(ran.folder, ran.manifest)
    for one in services:
        known = one | decided.get(one["service"], {})
        first += first_line.warnings(known, choose(known, ""), slo)
    for file in of_run(ran.manifest).beside.policies:  # as they were replayed: a pipe is read once
        first += [f"look again: {text}" for text in policy_doubts(file.text, file.name)]
    return replace(found, blocks=lambda: [*first, *(b for one in services for b in backtest.replay(one))])


REPORT_HELP = f"""hsa report {_RUN}

Write summary.json and report.html: one file that opens without a network. With --anonymise write
report-anonymised.html too, to pass around: it holds no label value, no name of a service, file or host.
--upgrade takes no run: it gives a report.html of an earlier version the evidence links that it lacks, from
the page alone, as a new file OLD.linked.html next to it. Nothing else of the page changes."""


@grouped
def report(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="A run folder, as hsa run or hsa ingest made it.", show_default=False
        ),
    ] = None,
    upgrade: Annotated[
        Path | None,
        typer.Option(
            "--upgrade",
            metavar="OLD.html",
            rich_help_panel=OUTPUT,
            show_default=False,
            help="Give this report of an earlier version the evidence links that it lacks.",
        ),
    ] = None,
    *,
    settings: ConfigFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    machine: MachineFlags,
    fail: FailFlags,
    names: AnonymiseFlags,
    out: OutputFlags,
) -> None:
    """Write the report and print where it is."""
    if upgrade is not None:
        _refuse_both(run)
        write_output(_upgraded(upgrade), out.output, no_color=out.no_color)
        return
    if run is None:
        raise UsageError("no run folder was given", hint="hsa report RUN")
    closed = gates.summary_gates(fail.fail_on or (), run)
    ran = on_folder(run, "report", settings.config, (history, slo, method, machine), out=out)

    from hs_analysis.pipeline.results import read_summary

    write_output(_report(ran.folder, anonymised(ran, names)), out.output, no_color=out.no_color)
    gates.check_gates(closed, read_summary(ran.folder), ran.folder, fail.junit)


def _refuse_both(run: Path | None) -> None:
    if run is not None:
        hint = "leave the run folder out: the links come from the page alone"
        raise UsageError("--upgrade takes no run folder", where=str(run), hint=hint)


def _upgraded(path: Path) -> CommandOutput:
    """Write an older report with its links beside it, and return what was added."""
    from hs_analysis.pipeline.manifest import write_text
    from hs_analysis.report.upgrade import upgraded

    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't be read ({error.strerror})", where=f"--upgrade {path}") from error
    except UnicodeDecodeError as error:
        hint = "give the report.html of a run folder"
        raise UsageError("this is no report of hsa", where=str(path), hint=hint) from error
    found = upgraded(page, str(path))
    data: dict[str, Any] = {"report": str(path), "places": list(found.places), "links": found.links}
    if not found.links:
        return CommandOutput(data, [data], lambda: [f"report: {path} has every link already"])
    data["report"] = str(path.with_name(f"{path.stem}.linked.html"))
    write_text(Path(data["report"]), found.page)
    added = f"links added: {found.links}; {len(found.places)} pieces of evidence had no place of their own"
    return CommandOutput(data, [data], lambda: [added, f"report: {data['report']}"])


INGEST_HELP = """hsa ingest dumps/

Read dumps into the typed Parquet tables of a run folder: series with their role, samples, rejected rows."""


@grouped
def ingest(
    inputs: Inputs,
    settings: ConfigFlags,
    reading: ReadingFlags,
    machine: MachineFlags,
    strict: StrictFlags,
    place: RunFolderFlags,
    out: OutputFlags,
) -> None:
    """Read dumps into a run folder and print what each file gave."""
    flags = (reading, machine)
    ran = from_inputs(inputs, "ingest", settings.config, flags, place=place, out=out, strict=strict.strict)
    write_output(_ingested(ran), out.output, no_color=out.no_color)


def _ingested(ran: Ran) -> CommandOutput:
    from hs_analysis.pipeline.results import ingested

    found = {"run_dir": str(ran.folder), **ingested(ran.manifest)}
    columns = [
        ("name", "file"), ("format", "format"), ("series", "series"), ("rows_read", "rows read"),
        ("rows_stored", "stored"), ("duplicates", "exact duplicates"),
        ("superseded", "superseded"), ("rows_rejected", "rejected"),
    ]  # fmt: skip
    notes = [f"broken: {entry['name']}: {entry['why']}" for entry in found["broken"]]
    notes += [f"warning: {entry['name']}: {entry['text']}" for entry in found["warnings"]]
    if found["skipped"]:
        notes.append(f"skipped, no dump: {', '.join(found['skipped'])}")
    for one in found["superseded_files"]:
        part = "" if one["rows"] == one["of"] else f", {one['rows']:,} of {one['of']:,} rows"
        notes.append(f"superseded by a more faithful form: {one['name']}{part} (by {', '.join(one['by'])})")
    none = "no metrics over time: hsa doctor says what there is and what is needed"
    notes.append(f"window: {found['start']} to {found['end']}" if found["start"] else none)
    notes.append(f"run folder: {ran.folder}")
    return CommandOutput(
        found, found["files"], lambda: [Table("Files read", columns, found["files"]), *notes]
    )


EXPORT_HELP = f"""hsa export {_RUN} --target keda

Write the policy as objects of other programs, and list what they could not express. Files for a controller
that it was not selected for are replayed too: their first line says what the difference costs."""


_TARGETS_HELP = "; ".join(f"{name}: {title}" for name, title in EXPORT_TARGETS.items())


@grouped
def export(
    run: RunFolder,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", metavar="T", rich_help_panel=METHOD, show_default=False,
            help=f"{_TARGETS_HELP}. Repeat it; all, as without it, for every one.",
        ),
    ] = None,
    *,
    settings: ConfigFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    current: CurrentFlags,
    edited: EditedFlags,
    cluster: ClusterFlags,
    machine: MachineFlags,
    out: OutputFlags,
) -> None:  # fmt: skip
    """Write the exports and print the files of the targets asked for, with their losses."""
    targets = _known_targets(target or [], tuple(EXPORT_TARGETS))
    ran = on_folder(
        run, "export", settings.config, (history, slo, method, current, edited, cluster, machine), out=out
    )
    write_output(_exported(ran.folder, targets), out.output, no_color=out.no_color)


def _exported(folder: Path, targets: Sequence[str]) -> CommandOutput:
    from hs_analysis.pipeline.results import exported

    found = [
        {**entry, "files": [str(folder / path) for path in entry["files"]]}
        for entry in exported(folder)
        if entry["target"] in targets
    ]
    losses = [
        {"service": entry["service"], "target": entry["target"], **loss}
        for entry in found
        for loss in entry["losses"]
    ]
    columns = [(name, name) for name in ("service", "target", "item", "kind", "text", "cost")]
    first = [f"{entry['target']}, {entry['service']}: {entry['note']}" for entry in found if entry["note"]]
    first += dict.fromkeys(f"look again: {doubt}" for entry in found for doubt in entry["doubts"])
    wrote = [f"wrote {path}" for entry in found for path in entry["files"]]
    blocks: list[Block] = [*first, *wrote, *_names(found), Table("Not expressed", columns, losses)]
    return CommandOutput({"exports": found}, losses, lambda: blocks)


def _names(found: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the names in the files and where they are from, and those that nothing tells, each once."""
    from hs_analysis.export.blanks import MOST_PLACES

    known = {
        (entry["service"], *one.values()): {"service": entry["service"], **one}
        for entry in found
        for one in entry["names"]
    }
    places: dict[tuple[str, str], list[str]] = {}
    blank: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in found:
        for one in entry["to_fill"]:
            key = (entry["service"], one["text"])
            blank.setdefault(key, {"service": entry["service"], **one})
            places.setdefault(key, []).extend(f"{entry['target']}/{place}" for place in one["places"])
    rows = [{**one, "where": first_of(places[key], MOST_PLACES)} for key, one in blank.items()]
    head = [("service", "service")] if len({entry["service"] for entry in found}) > 1 else []
    said = [("what", "what"), ("value", "name"), ("source", "from")]
    open_ = [("text", "fill in"), ("what", "what"), ("why", "found"), ("setting", "or set"), ("where", "in")]
    blocks: list[Block] = []
    if known:
        blocks.append(Table("Names", [*head, *said], list(known.values())))
    if rows:
        blocks.append(Table("To fill in before applying", [*head, *open_], rows))
    return blocks


EVERY_TARGET = "all"
"""Word of ``--target`` for all of them, as without it."""


def _known_targets(asked: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    from hs_analysis.errors import UsageError
    from hs_analysis.settings.values import suggestion

    named = [name for name in asked if name != EVERY_TARGET]
    for name in named:
        if name not in known:
            raise UsageError(f"no such target {name!r}", where="--target", hint=suggestion(name, known))
    return named if len(named) == len(asked) and asked else known
