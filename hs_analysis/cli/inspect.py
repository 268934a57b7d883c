"""Commands that look: at an input's quality, at one number's derivation, at the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hs_analysis.cli import gates
from hs_analysis.cli.context import inspected_folder
from hs_analysis.cli.options import (
    INPUT,
    ConfigFlags,
    FailFlags,
    FormFlags,
    HistoryFlags,
    MachineFlags,
    OutputFlags,
    ReadingFlags,
    SloFlags,
    StrictFlags,
    VerboseFlag,
    grouped,
)
from hs_analysis.cli.output import Block, CommandOutput, Table, write_output
from hs_analysis.errors import UsageError
from hs_analysis.schema.number_text import percent
from hs_analysis.settings.values import suggestion

if TYPE_CHECKING:
    from hs_analysis.pipeline.runner import Ran

DOCTOR_HELP = """hsa doctor dumps/

What was found per signal and role, its quality, what is missing and how to switch it on. It only looks:
a run of the INPUT is read and not changed, and without one no run folder is left behind."""


@grouped
def doctor(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT|RUN", help="Dumps, or a run folder made from them; - is standard input.",
            show_default=False,
        ),
    ],
    settings: ConfigFlags,
    reading: ReadingFlags,
    history: HistoryFlags,
    slo: SloFlags,
    machine: MachineFlags,
    strict: StrictFlags,
    fail: FailFlags,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir", metavar="DIR", rich_help_panel=INPUT, show_default=False,
            help="Run folder of the INPUT; one under reports/ is found by itself.",
        ),
    ] = None,
    *,
    out: OutputFlags,
) -> None:  # fmt: skip
    """Print the findings, and what is there and what is missing per signal and role."""
    conditions = gates.doctor_gates(fail.fail_on or ())
    flags = (reading, history, slo, machine)
    with inspected_folder(
        paths, "doctor", settings.config, flags, run_dir=run_dir, out=out, strict=strict.strict
    ) as ran:
        write_output(_diagnosis(ran.folder), out.output, no_color=out.no_color)
        gates.check_gates(conditions, _as_summary(ran), ran.folder, fail.junit)


def _as_summary(ran: Ran) -> dict[str, Any]:
    """Return what conditions look at, before there is a summary.json."""
    from hs_analysis.pipeline.results import diagnosis

    found = [row for row in diagnosis(ran.folder)["signals"] if row["state"] == "found"]
    services = sorted({row["service"] for row in found})
    return {
        "coverage": ran.manifest.stages["ingest"].counts,
        "services": [
            {"service": name, "signals": [row for row in found if row["service"] == name]}
            for name in services
        ],
    }


def _diagnosis(folder: Path) -> CommandOutput:
    from hs_analysis.pipeline.results import diagnosis

    found = diagnosis(folder)
    signals_found = [row for row in found["signals"] if row["state"] == "found"]
    absent = [row for row in found["signals"] if row["state"] == "missing"]
    lacking = [row for row in found["needs"] if row["state"] == "lacks"]
    rows = [compact(row) for row in signals_found]
    left_out = {"service"} if len({row["service"] for row in rows}) < 2 else set()
    left_out |= set() if any(row["differs"] for row in rows) else {"differs"}
    blocks: list[Block] = [
        Table("Findings", _FINDINGS, found["findings"]),
        Table("Signals found", [column for column in _SIGNALS if column[0] not in left_out], rows),
        Table("Signals missing", _MISSING, absent),
        Table("What later stages lack", _NEEDS, lacking, empty="nothing"),
    ]
    return CommandOutput(found, found["signals"], lambda: blocks)


_FINDINGS = [(name, name) for name in ("check", "level", "service", "text")]
_SIGNALS = [
    ("service", "service"), ("what", "signal@role"), ("source", "source"), ("series", "series"),
    ("every", "every"), ("holes", "gaps/resets"), ("range", "range"), ("cover", "cover"),
    ("differs", "differs"),
]  # fmt: skip
_MISSING = [("role", "role"), ("signal", "signal"), ("how_to_enable", "how to switch it on")]
_NEEDS = [
    ("stage", "stage"), ("role", "role"), ("need", "needs"), ("without", "without it"),
    ("how", "how to get it"),
]  # fmt: skip
"""Columns of the printed tables, narrow enough for 100 characters; JSON and CSV have all."""


def compact(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a signal's row with related numbers in one cell each.

    ``every`` says how often values change where that is rarer; ``range`` is given where the values
    tell the unit.
    """
    from hs_analysis.cli.output import number

    interval, news = row["interval_s"], row["news_s"]
    later = f", new every {number(news, 3)} s" if interval and news and news > 1.5 * interval else ""
    bounded = row["scale"] not in (None, "documented")
    return {
        **row,
        "what": f"{row['signal']}@{row['role']}",
        "every": f"{number(interval, 3)} s{later}" if interval else None,
        "holes": f"{row['gaps']}/{row['resets']}",
        "range": f"{number(row['low'], 3)} to {number(row['high'], 3)}"
        if bounded and row["low"] is not None
        else None,
        "cover": f"{percent(row['coverage'], whole=True)}",
        "differs": f"{percent(row['difference'], whole=True)}" if row["difference"] else None,
    }


EXPLAIN_HELP = """hsa explain chat%2Fllama/derive/pd_ratio --run-dir reports/dumps-20260701T0000-20260708T0000

One number with its unit and status, then how it was found: method, formula, functions and queries,
window, rows and further numbers, then the input files in one line, or each with its hash under -v."""


@grouped
def explain(
    link: Annotated[
        str,
        typer.Argument(
            metavar="LINK", show_default=False,
            help="An evidence link: from policy.yaml, summary.json, or a report's address bar.",
        ),
    ],
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir", metavar="DIR", rich_help_panel=INPUT, show_default=False,
            help="Run folder of the link; found by the link itself or the only run in reports/ unless said.",
        ),
    ] = None,
    verbose: VerboseFlag = False,
    *,
    form: FormFlags,
) -> None:  # fmt: skip
    """Print how the number behind an evidence link was found."""
    from hs_analysis.pipeline.results import explained

    found, note = explained(link, run_dir)
    if note:
        typer.echo(note, err=True)
    flat = {key: value for key, value in found.items() if not isinstance(value, dict)}

    def blocks() -> list[Block]:
        from hs_analysis.report.explain import text

        return [text(found, listed=verbose)]

    write_output(CommandOutput(found, [flat], blocks), form.output, no_color=form.no_color)


SIGNALS_HELP = """hsa signals ttft

The catalogue: what each signal means, which metrics carry it, and how to switch it on."""


@grouped
def signals(
    name: Annotated[
        str | None,
        typer.Argument(metavar="SIGNAL", help="One signal; all of them unless said.", show_default=False),
    ] = None,
    *,
    form: FormFlags,
) -> None:
    """Print the catalogue of signals."""
    from hs_analysis.catalogue import WORKED_OUT, load_catalogue

    known = {signal.id: signal for signal in (*load_catalogue().signals, *WORKED_OUT)}
    if name is not None and name not in known:
        raise UsageError(f"no such signal {name!r}", where="SIGNAL", hint=suggestion(name, list(known)))
    rows = [_catalogue_row(signal) for key, signal in known.items() if name in (None, key)]
    flat = [
        {**{k: v for k, v in row.items() if k != "sources"}, "metrics": " ".join(_metrics(row))}
        for row in rows
    ]
    listed = [{**row, "metrics": "\n".join(_metrics(row))} for row in rows]
    columns = [(key, key) for key in ("signal", "role", "unit", "family", "meaning", "metrics")]
    blocks: list[Block] = [Table("Signals", columns, listed)]
    if name is not None:
        carried = [
            {
                "source": source["source"], "read": source["read"], "unit": source["unit"], "metric": metric,
                "name": "today's" if metric in source["metrics"] else "older",
            }
            for source in rows[0]["sources"]
            for metric in [*source["metrics"], *source["older_metrics"]]
        ]  # fmt: skip
        heads = [
            ("source", "exporter"), ("read", "read as"), ("unit", "in"), ("metric", "metric"),
            ("name", "name"),
        ]  # fmt: skip
        none = "no exporter has it: alignment works it out"
        blocks.append(Table("Metrics", heads, carried, empty=none))
        noted = {note: source["source"] for source in rows[0]["sources"] for note in source["notes"]}
        blocks += [f"{exporter}: {note}" for note, exporter in noted.items()]
        made = "to switch it on" if carried else "made from"
        blocks.append(f"{made}: {rows[0]['enable']}")
    write_output(CommandOutput({"signals": rows}, flat, lambda: blocks), form.output, no_color=form.no_color)


def _metrics(row: dict[str, Any]) -> list[str]:
    names = [name for source in row["sources"] for name in (*source["metrics"], *source["older_metrics"])]
    return list(dict.fromkeys(names))


def _catalogue_row(signal: Any) -> dict[str, Any]:
    return {
        "signal": signal.id,
        "role": signal.role,
        "unit": signal.unit,
        "family": signal.family,
        "pool": signal.pool,
        "meaning": signal.meaning,
        "sources": [
            {
                "source": source.source,
                "read": source.read,
                "metrics": list(dict.fromkeys(term.metric for term in source.terms)),
                "older_metrics": [metric for metric in source.metrics if metric not in source.named_today],
                "unit": source.unit or signal.unit,
                "notes": list(source.notes),
            }
            for source in signal.sources
        ],
        "enable": signal.enable,
    }
