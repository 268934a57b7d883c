"""``hsa compare``: whether the decision of two runs differs, what to act on, and the rest folded."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import hs_analysis
from hs_analysis.cli.options import INPUT, OUTPUT, FormFlags, VerboseFlag, grouped
from hs_analysis.cli.output import Block, CommandOutput, Folded, write_output

if TYPE_CHECKING:
    from hs_analysis.compare import Comparison
    from hs_analysis.report.comparison_page import ComparisonPage

COMPARE_HELP = """hsa compare reports/june reports/july

Two runs: first whether anything changed that you must act on (what is recommended, the metric, its verdict,
controller, mode, a status, a target or bound that moved by more than 10 %), then those changes, heaviest
first, then what the two policies save and risk as replayed, then how many other answers and policy fields
differ; -v prints them all, old → new. --html writes the same as one page that needs no network. A floor (≥)
is a one-sided bound: no intervals are compared with it. Every evidence link of A is followed into B: those
that lead nowhere come first, each with the reason. --link follows the links that you give. --renamed says
that a service goes by another name in B. --output json has the keys changed, decision_changed, changes and
links. Exit code 0 whatever changed; --fail-on decision-changed:RUN of hsa run is the gate."""


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
    link: Annotated[
        list[str] | None,
        typer.Option(
            "--link", metavar="LINK", rich_help_panel=INPUT, show_default=False,
            help="Follow this evidence link of A into B, with its time range; repeatable.",
        ),
    ] = None,
    renamed: Annotated[
        list[str] | None,
        typer.Option(
            "--renamed", metavar="OLD=NEW", rich_help_panel=INPUT, show_default=False,
            help="A service of A that goes by another name in B; OLD= for one that is gone; repeatable.",
        ),
    ] = None,
    verbose: VerboseFlag = False,
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
    found = compare_runs(compared(a), compared(b), _names(renamed or []), link)
    command = f"hsa compare {shlex.quote(str(a))} {shlex.quote(str(b))}"
    command += "".join(f" --renamed {shlex.quote(one)}" for one in renamed or [])
    command += "".join(f" --link {shlex.quote(one)}" for one in link or [])
    data = {"a": str(a), "b": str(b), **_as_data(found)}
    written: list[Block] = []
    if html is not None:
        _write_page(html, page_of(found, str(a), str(b), f"{command} --html {shlex.quote(str(html))}"))
        data["page"] = str(html)
        written = [f"page: {html}"]
    output = CommandOutput(
        data, data["changes"], lambda: [*blocks(found, command, verbose=verbose, given=bool(link)), *written]
    )
    write_output(output, form.output, no_color=form.no_color)


def _names(renamed: list[str]) -> dict[str, str]:
    """Return what ``--renamed`` says: old name → new name."""
    from hs_analysis.errors import UsageError

    pairs = [text.partition("=") for text in renamed]
    for old, equals, new in pairs:
        if not (old and equals):
            hint = "e.g. team/a=team/b, or team/a= where no service of B is it"
            raise UsageError("not OLD=NEW", where=f"--renamed {old}{equals}{new}", hint=hint)
    return {old: new for old, _, new in pairs}


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
        "links": to_plain(found.links),
    }


def blocks(found: Comparison, command: str, *, verbose: bool, given: bool = False) -> list[Block]:
    """Return the sentence, what to act on, what is foretold, what the runs were made from, the rest folded.

    Parameters
    ----------
    found
        The comparison.
    command
        The command line that made it, for the lines that say how to see more.
    verbose
        Whether every change is a line of its own.
    given
        Whether the links are those that a user gave: each is a line.
    """
    from hs_analysis.cli import compare_words as words

    acts = words.act_lines(found)
    first = {
        "to act on": (acts if len(acts) > 1 or any("\n" in text for text in acts) else [], words.MOST_LINES),
        "as replayed": (words.foretold_lines(found), words.MOST_OTHERS),
        "made from": (words.made_from(found), words.MOST_OTHERS),
    }
    shown: list[Block] = [words.sentence(found)]
    for heading, (lines, most) in first.items():
        shown += _few(heading, lines, len(lines) if verbose else most, command)
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
    return [
        *shown,
        *_links(found, command, verbose=verbose, given=given),
        "",
        *words.closing(found, listed=verbose),
    ]


def _few(heading: str, lines: list[str], most: int, command: str) -> list[str]:
    """Return the first lines under their heading, and how to see the others; nothing where there are none."""
    left = len(lines[most:])
    more = [f"  … and {left} more: {command} -v"] if left else []
    return ["", heading, *(f"  {text}" for text in lines[:most]), *more] if lines else []


def _links(found: Comparison, command: str, *, verbose: bool, given: bool) -> list[Block]:
    """Return how many links of the old run still lead somewhere, with those of which there is more to say."""
    from hs_analysis.cli import compare_words as words

    count = words.link_count(found)
    if verbose or given:
        return ["", count, *(f"  {text}" for text in words.link_lines(found, every=given))] if count else []
    if not words.link_rows(found):
        return ["", count] if count else []
    group = ("those that lead nowhere first", tuple(words.link_lines(found, most=words.MOST_LINKS)))
    return ["", Folded(f"{count}: {command} -v", (group,))]


def page_of(found: Comparison, a: str, b: str, command: str) -> ComparisonPage:
    """Return what the page says of two runs that a user calls ``a`` and ``b``."""
    from hs_analysis.cli import compare_words as words
    from hs_analysis.compare.order import foretold, leading
    from hs_analysis.report.comparison_page import ComparisonPage, PartRows

    context = [change for change in found.changes if change.relevance == "context"]
    return ComparisonPage(
        a=a,
        b=b,
        sentence=words.sentence(found),
        act=found.decision_changed,
        to_act=words.rows(leading(found.changes), found),
        foretold=words.rows(foretold(found.changes), found),
        made_from=words.rows(context, found),
        rest=tuple(
            PartRows(part.heading, part.count, words.rows(part.changes, found)) for part in words.rest(found)
        ),
        link_count=words.link_count(found),
        links=words.link_rows(found)[: words.MOST_LINKS],
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
