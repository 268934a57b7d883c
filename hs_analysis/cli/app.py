"""The program: its commands, its version, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import hs_analysis
from hs_analysis.cli import output
from hs_analysis.errors import HsError, UsageError, machine_in_words

REMOVED = {
    "trial": "hsa select shows every signal as a driver",
    "--prior": "leave it out: performance tables changed no number (hsa plan-test lays out a test)",
}
"""Command or flag that earlier versions had → what to do instead."""


@dataclass(frozen=True)
class Command:
    """A command as the list of commands shows it; its module is loaded when it is asked for.

    Attributes
    ----------
    module
        Module of this package that has the function of the command and its help (an example first, then what
        it does).
    panel, brief
        Panel and line in the list of commands.
    """

    module: str
    panel: str
    brief: str

    def listed(self, name: str) -> TyperCommand:
        """Return what a list needs: a command without parameters."""
        return TyperCommand(name, short_help=self.brief, rich_help_panel=self.panel)

    def loaded(self, name: str) -> Any:
        """Return the whole command."""
        module = import_module(f"hs_analysis.cli.{self.module}")
        if self.module == "stages" and name in module.STAGE_COMMANDS:
            function, text = module.STAGE_COMMANDS[name].command(), module.STAGE_COMMANDS[name].help
        else:
            word = name.replace("-", "_")
            function, text = getattr(module, word), getattr(module, f"{word.upper()}_HELP")
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings=CONTEXT)
        alone.command(name, help=text, short_help=self.brief, rich_help_panel=self.panel)(function)
        return typer.main.get_command(alone)


class Commands(TyperGroup):
    """Loads the command that is asked for, and no other.

    Prints the errors a user can act on, one line each, and ends with their exit code.
    """

    def __init__(self, **given: Any) -> None:
        given["commands"] = {name: command.listed(name) for name, command in COMMANDS.items()}
        super().__init__(**given)
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name; None for a name that is none."""
        if cmd_name not in COMMANDS or self._listing:
            return super().get_command(ctx, cmd_name)
        return COMMANDS[cmd_name].loaded(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the program."""
        with self._listed():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands that begin so."""
        with self._listed():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listed(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is asked for; of what is gone say what to do instead."""
        for kind, words in (("command", args[:1]), ("flag", args[1:])):
            for word in (w.partition("=")[0] for w in words):
                if word in REMOVED and word.startswith("--") == (kind == "flag"):
                    ctx.invoked_subcommand = args[0]
                    where = word if kind == "flag" else ""
                    raise UsageError(f"this {kind} was removed", where=where, hint=REMOVED[word])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with machine_in_words(""):
                return super().invoke(ctx)
        except HsError as error:
            command = ctx.invoked_subcommand or ""
            for line in output.lines(error, command, _first_input()):
                typer.echo(output.error_entry(line, error, command) if _logs_json() else line, err=True)
            raise typer.Exit(output.exit_code(error)) from error


def _first_input() -> str:
    words = [word for word in sys.argv[2:] if not word.startswith("-")]
    return words[0] if words else "INPUT"


def _logs_json() -> bool:
    """Say whether errors are to be JSON lines; a flag that could not be read counts too."""
    pairs = zip(sys.argv, sys.argv[1:], strict=False)
    return "--log=json" in sys.argv or ("--log", "json") in pairs


CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="hsa",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
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

COMMANDS: dict[str, Command] = {
    "run": Command("commands", EVERYTHING, "Everything, in order, into one run folder."),
    "pull": Command("pull", DATA, "Fetch the metrics from a Prometheus."),
    "export-plan": Command("pull", DATA, "The queries to run by hand."),
    "init": Command("commands", EVERYTHING, "A commented hsa.toml, and sample dumps to try."),
    "ingest": Command("stages", STAGES, "Dumps into typed tables."),
    "study": Command("stages", STAGES, "Verdicts of the signals."),
    "derive": Command("stages", STAGES, "Demand, capacity, targets and the P/D ratio."),
    "select": Command("stages", STAGES, "Candidate policies simulated, the best chosen."),
    "policy": Command("stages", STAGES, "The policy as policy.yaml."),
    "replay": Command("stages", STAGES, "Backtest of the selected policy and its baselines."),
    "export": Command("stages", STAGES, "The policy as objects of other programs."),
    "report": Command("stages", STAGES, "summary.json and report.html."),
    "doctor": Command("inspect", AROUND, "What was found, its quality, what is missing."),
    "compare": Command("compare", AROUND, "What changed between two runs."),
    "explain": Command("inspect", AROUND, "How one number was found."),
    "plan-test": Command("commands", AROUND, "Tests that would answer what is open."),
    "signals": Command("inspect", AROUND, "The catalogue of signals and metrics."),
    "settings": Command("settings", AROUND, "Every setting in effect, and where it is from."),
    "sql": Command("commands", AROUND, "The tables of a run, in SQL."),
    "validate": Command("commands", AROUND, "A settings file or policy checked offline."),
    "help": Command("topics", AROUND, "The documentation, by topic."),
}
"""The commands, in the order of the help."""


def main() -> None:
    """Run the program; a bug keeps its traceback, with a hint to report it."""
    if not sys.warnoptions:
        # Warnings of libraries speak to developers; what a user must know is a finding or a reason.
        warnings.simplefilter("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")  # the same in processes that are started
    output.prepare()
    try:
        app(prog_name="hsa")
    except Exception as error:
        output.report_bug(error)
        sys.exit(1)
