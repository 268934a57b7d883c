"""The program: its commands, its version, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import hs_analysis
from hs_analysis.cli import failure, streams
from hs_analysis.cli.collect import EXPORT_PLAN_HELP, PULL_HELP, export_plan, pull
from hs_analysis.cli.compare import COMPARE_HELP, compare
from hs_analysis.cli.init import INIT_HELP, init
from hs_analysis.cli.look import DOCTOR_HELP, EXPLAIN_HELP, SIGNALS_HELP, doctor, explain, signals
from hs_analysis.cli.plan_test import PLAN_TEST_HELP, plan_test
from hs_analysis.cli.run import RUN_HELP, run
from hs_analysis.cli.settings import SETTINGS_HELP, settings
from hs_analysis.cli.sql import SQL_HELP, sql
from hs_analysis.cli.steps import (
    EXPORT_HELP,
    INGEST_HELP,
    REPLAY_HELP,
    REPORT_HELP,
    STAGE_COMMANDS,
    export,
    ingest,
    replay,
    report,
)
from hs_analysis.cli.validate import VALIDATE_HELP, validate
from hs_analysis.errors import HsError, machine_in_words


class Commands(TyperGroup):
    """Prints the errors a user can act on, one line each, and ends with their exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with machine_in_words(""):
                return super().invoke(ctx)
        except HsError as error:
            for line in failure.lines(error, ctx.invoked_subcommand or "", _first_input()):
                typer.echo(line, err=True)
            raise typer.Exit(failure.exit_code(error)) from error


def _first_input() -> str:
    words = [word for word in sys.argv[2:] if not word.startswith("-")]
    return words[0] if words else "INPUT"


app = typer.Typer(
    name="hsa",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 --fail-on holds, 4 data lost and --strict.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hsa {hs_analysis.__version__}")
        raise typer.Exit


PROGRAM_HELP = (
    "hsa run dumps/ --slo ttft=1s --slo tbt=50ms\n\n"
    "Which metric to autoscale prefill/decode LLM serving on, at which thresholds, with which P/D ratio, and "
    "what that would have done last week: from Prometheus dumps, offline."
)


@app.callback(help=PROGRAM_HELP)
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the flags of the program itself."""


EVERYTHING, DATA, STAGES, AROUND = "Everything", "Getting the data", "Stages", "Around"

COMMANDS: dict[str, tuple[Callable[..., None], str, str, str]] = {
    "run": (run, RUN_HELP, EVERYTHING, "Everything, in order, into one run folder."),
    "pull": (pull, PULL_HELP, DATA, "Fetch the metrics from a Prometheus."),
    "export-plan": (export_plan, EXPORT_PLAN_HELP, DATA, "The queries to run by hand."),
    "init": (init, INIT_HELP, EVERYTHING, "A commented hsa.toml, and sample dumps to try."),
    "ingest": (ingest, INGEST_HELP, STAGES, "Dumps into typed tables."),
    **{step.name: (step.command(), step.help, STAGES, step.brief) for step in STAGE_COMMANDS},
    "replay": (replay, REPLAY_HELP, STAGES, "Backtest of the selected policy and what stands beside it."),
    "export": (export, EXPORT_HELP, STAGES, "The policy as objects of other programs."),
    "report": (report, REPORT_HELP, STAGES, "summary.json and report.html."),
    "doctor": (doctor, DOCTOR_HELP, AROUND, "What was found, its quality, what is missing."),
    "compare": (compare, COMPARE_HELP, AROUND, "What changed between two runs."),
    "explain": (explain, EXPLAIN_HELP, AROUND, "How one number was found."),
    "plan-test": (plan_test, PLAN_TEST_HELP, AROUND, "Tests that would answer what is open."),
    "signals": (signals, SIGNALS_HELP, AROUND, "The catalogue of signals and metrics."),
    "settings": (settings, SETTINGS_HELP, AROUND, "Every setting in effect, and where it is from."),
    "sql": (sql, SQL_HELP, AROUND, "The tables of a run, in SQL."),
    "validate": (validate, VALIDATE_HELP, AROUND, "A settings file or policy checked offline."),
}
"""Command → function, help (an example first, then what it does), panel, line in the list of commands."""

for _name, (_function, _help, _panel, _brief) in COMMANDS.items():
    app.command(_name, help=_help, short_help=_brief, rich_help_panel=_panel)(_function)


def main() -> None:
    """Run the program; a bug keeps its traceback, with a hint to report it."""
    if not sys.warnoptions:
        # Warnings of libraries speak to developers; what a user must know is a finding or a reason.
        warnings.simplefilter("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")  # the same in processes that are started
    streams.prepare()
    try:
        app(prog_name="hsa")
    except Exception as error:
        failure.report_bug(error)
        sys.exit(1)
