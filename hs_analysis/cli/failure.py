"""Errors as lines on stderr, and the exit code of each kind."""

from __future__ import annotations

import sys
import traceback

import typer

import hs_analysis
from hs_analysis.cli.printable import printable
from hs_analysis.errors import HsError, ManyErrors

MOST_LINES = 3


def lines(error: HsError, command: str, first_input: str = "INPUT") -> list[str]:
    """Return what to print for an error: a line a problem, at most three, then how many more."""
    problems = error.errors if isinstance(error, ManyErrors) else [error]
    most = len(problems) if isinstance(error, ManyErrors) and error.all_told else MOST_LINES
    shown = [f"hsa {command}: {_one_line(problem.line())}" for problem in problems[:most]]
    if len(problems) > most:
        more = error.more if isinstance(error, ManyErrors) and error.more else f"hsa doctor {first_input}"
        shown.append(f"… and {len(problems) - most} more: {more}")
    return shown


def exit_code(error: HsError) -> int:
    """Return the exit code of an error; of several, that of the first."""
    return error.errors[0].exit_code if isinstance(error, ManyErrors) and error.errors else error.exit_code


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def report_bug(error: BaseException) -> None:
    """Print the traceback of what is no user's mistake, and how to report it."""
    traceback.print_exception(error, file=sys.stderr)
    typer.echo(
        f"hsa {hs_analysis.__version__}: this is a bug in hsa, not in your input. "
        "Please report it with the lines above and the command you ran.",
        err=True,
    )
