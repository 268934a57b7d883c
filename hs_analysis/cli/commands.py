"""Commands without a stage of their own: run, init, plan-test, sql, validate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hs_analysis.cli import gates
from hs_analysis.cli.context import Flags, expected_settings, extended, from_inputs, on_folder
from hs_analysis.cli.options import (
    INPUT,
    METHOD,
    OUTPUT,
    AnonymiseFlags,
    ClusterFlags,
    ConfigFlags,
    CurrentFlags,
    FailFlags,
    FormFlags,
    HistoryFlags,
    Inputs,
    MachineFlags,
    MethodFlags,
    OutputFlags,
    ReadingFlags,
    RunFolder,
    RunFolderFlags,
    SloFlags,
    StrictFlags,
    TargetFlags,
    grouped,
)
from hs_analysis.cli.output import Block, CommandOutput, Table, number, write_output
from hs_analysis.cli.verdict import run_result
from hs_analysis.errors import HsError, ManyErrors, UsageError
from hs_analysis.schema.names import POOL_ROLES

RUN_HELP = (
    "hsa run dumps/ --slo ttft=1s --slo tbt=50ms --startup 240s\n\n"
    "Everything, in order, into one run folder: reads the dumps, judges the signals, derives targets and the "
    "P/D ratio, selects and backtests a policy, and writes policy.yaml, exports and report.html.\n\n"
    "A second run with the same inputs does nothing and prints the same answer: the run remembers its "
    "settings. With other settings it says what changes, and writes again what they concern."
)


@grouped
def run(
    inputs: Inputs,
    extend: Annotated[
        Path | None,
        typer.Option(
            "--extend",
            metavar="RUN",
            rich_help_panel=INPUT,
            show_default=False,
            help="Add the INPUTs, later days, to this run: the results are those of a run over all of them.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=OUTPUT,
            help="Say what the run would take (samples, minutes, memory, disk), and write nothing.",
        ),
    ] = False,
    *,
    settings: ConfigFlags,
    reading: ReadingFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    current: CurrentFlags,
    controller: TargetFlags,
    cluster: ClusterFlags,
    machine: MachineFlags,
    strict: StrictFlags,
    fail: FailFlags,
    names: AnonymiseFlags,
    place: RunFolderFlags,
    out: OutputFlags,
) -> None:
    """Run every stage and print the answers."""
    closed = gates.summary_gates(fail.fail_on or (), extend or place.run_dir)
    flags = (reading, history, slo, method, current, controller, cluster, machine)
    if dry_run:
        write_output(_costs(inputs, settings.config, flags), out.output, no_color=out.no_color)
        return
    if extend is not None:
        ran = extended(
            extend, inputs, "report", settings.config, flags, place=place, out=out, strict=strict.strict
        )
    else:
        ran = from_inputs(
            inputs, "report", settings.config, flags,
            place=place, out=out, strict=strict.strict, changes_settings=True,
        )  # fmt: skip

    from hs_analysis.cli.stages import anonymised
    from hs_analysis.pipeline.results import policy_documents, read_summary

    if without_names := anonymised(ran, names):
        typer.echo(f"report without names: {without_names}", err=True)
    summary = read_summary(ran.folder)
    result = run_result(summary, policy_documents(ran.folder), ran.folder, verbose=out.verbose)
    write_output(result, out.output, no_color=out.no_color)
    gates.check_gates(closed, summary, ran.folder, fail.junit)


def _costs(inputs: list[Path], config: Path | None, flags: Sequence[Flags]) -> CommandOutput:
    """Return what a run over the inputs would take."""
    used = expected_settings(config, flags)

    from hs_analysis.pipeline.cost import in_words
    from hs_analysis.pipeline.session import cost_of_inputs

    found = cost_of_inputs(inputs, used)
    return CommandOutput(asdict(found), [asdict(found)], lambda: [in_words(found)])


INIT_HELP = """hsa init demo --demo

A commented hsa.toml with every setting; with --demo also a sample dump, and settings that fit it. With
--rules, instead, recording rules for a Prometheus, a file a stack: they keep what a later study reads."""


@grouped
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write; made when it is not there.")
    ] = Path(),
    demo: Annotated[
        bool, typer.Option("--demo", rich_help_panel=OUTPUT, help="Copy a sample dump too.")
    ] = False,
    rules: Annotated[
        bool,
        typer.Option(
            "--rules", rich_help_panel=OUTPUT, help="Write recording rules to install before a study."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=OUTPUT, help="Write over what is there.")
    ] = False,
    *,
    form: FormFlags,
) -> None:
    """Write the files and say what to run next."""
    from hs_analysis.pipeline.starter import SAMPLE, write_rules, write_starter

    if rules and demo:
        raise UsageError("--demo and --rules write different things", hint="give one of them")
    written = write_rules(folder, force=force) if rules else write_starter(folder, demo=demo, force=force)
    dumps = str(folder / SAMPLE) if demo else "dumps/"
    config = "" if folder == Path() else f" --config {written[0]}"
    then = f"hsa run {dumps}{config}"
    if rules:
        then = "load the files of the stacks you run into Prometheus; each says what it costs"
    data = {"written": [str(path) for path in written], "next": then}
    lines = [*(f"wrote {path}" for path in written), f"next: {then}"]
    write_output(
        CommandOutput(data, [{"written": str(p)} for p in written], lambda: lines),
        form.output,
        no_color=form.no_color,
    )


PLAN_TEST_HELP = """hsa plan-test reports/dumps-20260701T0000-20260708T0000

For each refusal and floor that a load test would answer: pools, load levels, minutes, GPU-hours, the interval
to expect, and command lines of a load generator."""

Generator = Literal["aiperf", "guidellm", "vllm"]


@grouped
def plan_test(
    run: RunFolder,
    generator: Annotated[
        Generator,
        typer.Option("--generator", rich_help_panel=METHOD, help="Load generator of the command lines."),
    ] = "aiperf",
    *,
    settings: ConfigFlags,
    history: HistoryFlags,
    slo: SloFlags,
    method: MethodFlags,
    machine: MachineFlags,
    out: OutputFlags,
) -> None:
    """Plan the tests and print them with their commands."""
    ran = on_folder(run, "plan-test", settings.config, (history, slo, method, machine), out=out)
    write_output(_planned(ran.folder, generator), out.output, no_color=out.no_color)


def _planned(folder: Path, generator: str) -> CommandOutput:
    from hs_analysis.pipeline.results import planned_tests

    found = planned_tests(folder, generator)
    flat = [{key: value for key, value in test.items() if key != "levels"} for test in found]
    return CommandOutput({"tests": found}, flat, lambda: _blocks(found))


def _blocks(found: list[dict[str, Any]]) -> list[Block]:
    if not found:
        return ["nothing is open that a load test would answer; hsa derive prints what is"]
    rows = [
        {
            **test,
            "pools": ", ".join(f"{test[role]} {role}" for role in POOL_ROLES if test[role] is not None),
            "expect": f"×÷ {number(1.0 + test['expect_ratio'])}",
            "minutes": sum(level["minutes"] for level in test["levels"]) or None,
        }
        for test in found
    ]
    columns = [
        ("what", "to know"), ("code", "because"), ("pools", "pools in the test"), ("minutes", "minutes"),
        ("instance_hours", "instance-hours"), ("gpu_hours", "GPU-hours"), ("expect", "95 % interval"),
    ]  # fmt: skip
    blocks: list[Block] = [Table("Planned tests", columns, rows)]
    for test in found:
        blocks.append(f"{test['service']} {test['what']}: {test['text']}")
        if test["levels"]:
            heads = [("number", "level"), ("load", "tokens/s per instance"),
                     ("request_rate", "requests/s"), ("minutes", "minutes")]  # fmt: skip
            blocks.append(Table(f"Levels of {test['what']}", heads, test["levels"]))
        blocks += test["commands"]
    return blocks


MOST_ROWS = 1000
"""Rows printed unless said otherwise; more than a reader takes in, less than a terminal drowns in."""

SQL_HELP = """hsa sql reports/dumps-20260701T0000-20260708T0000 @capacity_by_hour

A documented query of the operators' pack by its name, or one of your own, in DuckDB's SQL, over the tables of
a run: read-only, and nothing else within reach. Without QUERY it lists the tables, with @ alone the pack.
FROM, DESCRIBE and SUMMARIZE count as queries."""


@grouped
def sql(
    run: RunFolder,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="@name of the pack, @ to list it, or one SELECT; - reads it from stdin.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            rich_help_panel=OUTPUT,
            help="Print the text of @name instead of its rows: a start for a query of your own.",
        ),
    ] = False,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="ROWS", min=0, rich_help_panel=OUTPUT, help="Rows to print; 0 for all of them."
        ),
    ] = MOST_ROWS,
    *,
    form: FormFlags,
) -> None:
    """Print the rows of a query or its text, or the tables or the queries there are."""
    from hs_analysis.pipeline.results import NAMED, described_pack, described_tables, queried, stale_note

    if stale := stale_note(run):
        typer.echo(stale, err=True)
    if show:
        _show_query(query, form)
        return
    if query is None or query == NAMED:
        listed = described_tables(run) if query is None else described_pack()
        title = "Tables" if query is None else "Queries"
        columns = [(name, name) for name in (TABLE_HEADS if query is None else PACK_HEADS)]
        shown = CommandOutput({title.lower(): listed}, listed, lambda: [Table(title, columns, listed)])
        write_output(shown, form.output, no_color=form.no_color)
        return
    found = queried(run, sys.stdin.read() if query == STDIN else query, limit or None)
    rows = list(found.rows)
    heads = [(name, name) for name in found.columns]
    shown = CommandOutput(rows, rows, lambda: [Table("Rows", heads, rows)], found.columns)
    write_output(shown, form.output, no_color=form.no_color)
    if found.more:
        typer.echo(f"the first {limit:,} rows; --limit 0 prints all of them", err=True)


TABLE_HEADS = ("table", "rows", "grain", "columns")
PACK_HEADS = ("query", "answers")

STDIN = "-"
"""What stands for a text on standard input."""


def _show_query(name: str | None, form: FormFlags) -> None:
    """Print the text of a query of the pack."""
    from hs_analysis.pipeline.results import NAMED, pack_query

    if name is None or not name.startswith(NAMED):
        raise UsageError("there is no text to print", where="--show", hint="name a query of the pack: @name")
    found = pack_query(name)
    record = {"query": name, "answers": found.purpose, "text": found.text}
    write_output(
        CommandOutput(record, [record], lambda: [found.text.rstrip("\n")]),
        form.output,
        no_color=form.no_color,
    )


VALIDATE_HELP = """hsa validate hsa.toml

Settings files, policy.yaml, summary.json, plan.json, topologies, files of --exclude and --events,
objects of autoscalers and exported files, checked offline: every problem with file and line, and exit code 1.
With --schema it prints the JSON Schema of a kind of file, for editors and programs."""

SchemaName = Literal["policy", "settings", "summary"]


@grouped
def validate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Files of any kind above.", show_default=False),
    ] = None,
    schema: Annotated[
        SchemaName | None,
        typer.Option(
            "--schema",
            rich_help_panel=OUTPUT,
            help="Print the JSON Schema of policy.yaml, hsa.toml or summary.json instead.",
        ),
    ] = None,
    *,
    form: FormFlags,
) -> None:
    """Check files and print what they are, or print the schema of a kind of file."""
    if bool(files) == (schema is not None):
        what = "FILE and --schema don't go together" if files else "there is no file to check"
        raise UsageError(what, where="FILE", hint="name a file, or --schema policy, settings or summary")
    if not files:
        _print_schema(str(schema), form)
        return
    rows: list[dict[str, Any]] = []
    errors: list[HsError] = []
    for file in files:
        try:
            rows.append(_checked(file))
        except ManyErrors as error:
            errors += error.errors
        except HsError as error:
            errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors, all_told=True)
    lines = [f"{row['file']}: valid, {row['holds']}" for row in rows]
    lines += [f"look again: {one}" for row in rows for one in row["doubts"]]
    data = rows[0] if len(rows) == 1 else {"files": rows}
    write_output(CommandOutput(data, rows, lambda: lines), form.output, no_color=form.no_color)


def _checked(file: Path) -> dict[str, Any]:
    """Return what a file is; raise every problem of it."""
    from hs_analysis.pipeline.file_kinds import check_file

    found = check_file(file)
    return {
        "file": str(file), "kind": found.kind, "valid": True, "holds": found.holds,
        "doubts": list(found.doubts),
    }  # fmt: skip


def _print_schema(kind: str, form: FormFlags) -> None:
    """Print a schema that the package ships: as it is in the form of a table too, for it is a file."""
    import json

    from hs_analysis.schema.json_schema import shipped_schema

    text = shipped_schema(kind)
    found = json.loads(text)
    shown = CommandOutput(found, [{"schema": found["$id"], "text": text}], lambda: [text.rstrip("\n")])
    write_output(shown, form.output, no_color=form.no_color)
