"""``hsa compare``: whether the decision of two runs differs, what to act on, and the rest folded."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import hs_analysis
from hs_analysis.cli.options import OUTPUT, VERBOSE, FormFlags, grouped
from hs_analysis.cli.output import Block, CommandOutput, Folded, write_output

if TYPE_CHECKING:
    from hs_analysis.compare import Comparison
    from hs_analysis.report.comparison_page import ComparisonPage

COMPARE_HELP = """hsa compare reports/june reports/july

Two runs: first whether anything changed that you must act on (what is recommended, the metric, its verdict,
controller, mode, a status, a target or bound that moved by more than 10 %), then those changes, heaviest
first, then how many other answers and policy fields differ; -v prints them all, old → new. --html writes the
same as one page that needs no network. A floor (≥) is a one-sided bound: no intervals are compared with it.
--output json has the keys changed, decision_changed and changes. Exit code 0 whatever changed; --fail-on
decision-changed:RUN of hsa run is the gate."""


@grouped
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", rich_help_panel=OUTPUT, show_default=False,
            help="Write the comparison as one HTML page, too.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", rich_help_panel=OUTPUT, help=VERBOSE)
    ] = False,
    *,
    form: FormFlags,
) -> None:  # fmt: skip
    """Print what changed from A to B."""
    from hs_analysis.compare import compare_runs
    from hs_analysis.pipeline.results import compared, stale_note
    from hs_analysis.pipeline.run_folder import require

    for folder in (a, b):
        require(folder)
        if stale := stale_note(folder):
            typer.echo(stale, err=True)
    found = compare_runs(compared(a), compared(b))
    command = f"hsa compare {shlex.quote(str(a))} {shlex.quote(str(b))}"
    data = {"a": str(a), "b": str(b), **_as_data(found)}
    written: list[Block] = []
    if html is not None:
        _write_page(html, page_of(found, str(a), str(b), f"{command} --html {shlex.quote(str(html))}"))
        data["page"] = str(html)
        written = [f"page: {html}"]
    output = CommandOutput(
        data, data["changes"], lambda: [*blocks(found, command, verbose=verbose), *written]
    )
    write_output(output, form.output, no_color=form.no_color)


def _as_data(found: Comparison) -> dict[str, Any]:
    """Return all that was found as plain data."""
    from hs_analysis.cli.compare_words import act_lines, sentence
    from hs_analysis.pipeline.records import to_plain

    return {
        "text": sentence(found),
        "act_on": act_lines(found),
        "changed": found.changed,
        "decision_changed": found.decision_changed,
        "changes": to_plain(found.changes),
        "unchanged": dict(found.unchanged),
        "not_compared": list(found.not_compared),
    }


def blocks(found: Comparison, command: str, *, verbose: bool) -> list[Block]:
    """Return the sentence, what to act on, what the runs were made from, and the rest, folded.

    Parameters
    ----------
    found
        The comparison.
    command
        The command line that made it, for the lines that say how to see more.
    verbose
        Whether every change is a line of its own.
    """
    from hs_analysis.cli import compare_words as words

    acts, context = words.act_lines(found), words.made_from(found)
    shown: list[Block] = [words.sentence(found)]
    most = len(acts) if verbose else words.MOST_LINES
    if len(acts) > 1 or any("\n" in text for text in acts):
        shown += ["", "to act on", *(f"  {text}" for text in acts[:most])]
        if len(acts) > most:
            shown.append(f"  … and {len(acts) - most} more to act on: {command} -v")
    if context:
        most = len(context) if verbose else words.MOST_MADE_FROM
        shown += ["", "made from", *(f"  {text}" for text in context[:most])]
        if len(context) > most:
            shown.append(f"  … and {len(context) - most} more: {command} -v")
    parts = words.rest(found)
    listed = [(part, [words.line_of(change, found) for change in part.changes]) for part in parts]
    if verbose:
        for part, lines in listed:
            shown += ["", part.heading, *(f"  {text}" for text in lines)]
    elif listed:
        total = sum(len(lines) for _, lines in listed)
        groups = tuple((f"{part.heading}: {part.count}", tuple(lines)) for part, lines in listed)
        told = f"{total} more: {', '.join(part.count for part in parts)}"
        shown += ["", Folded(f"{told}: {command} -v", groups)]
    return [*shown, "", *words.closing(found, listed=verbose)]


def page_of(found: Comparison, a: str, b: str, command: str) -> ComparisonPage:
    """Return what the page says of two runs that a user calls ``a`` and ``b``."""
    from hs_analysis.cli import compare_words as words
    from hs_analysis.compare.order import leading
    from hs_analysis.report.comparison_page import ComparisonPage, PartRows

    context = [change for change in found.changes if change.relevance == "context"]
    return ComparisonPage(
        a=a,
        b=b,
        sentence=words.sentence(found),
        act=found.decision_changed,
        to_act=words.rows(leading(found.changes), found),
        made_from=words.rows(context, found),
        rest=tuple(
            PartRows(part.heading, part.count, words.rows(part.changes, found)) for part in words.rest(found)
        ),
        closing=tuple(words.closing(found)),
        command=command,
    )


def _write_page(path: Path, page: ComparisonPage) -> None:
    from hs_analysis.errors import UsageError
    from hs_analysis.pipeline.manifest import write_text
    from hs_analysis.report.comparison_page import render_comparison

    try:
        write_text(path, render_comparison(page, hs_analysis.__version__))
    except OSError as error:
        hint = "give a file in a folder that is there and that you may write to"
        raise UsageError(f"can't be written ({error.strerror})", where=f"--html {path}", hint=hint) from error
