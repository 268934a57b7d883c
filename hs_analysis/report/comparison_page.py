"""Two runs on one page: the sentence, what to act on, what the runs were made from, and the rest folded."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class ChangeRow:
    """One difference as text.

    Attributes
    ----------
    what
        What differs, with its service where several do.
    before, after
        The two answers, the unit behind the second.
    says
        By how much it moved and how the two intervals relate; empty where neither is known.
    """

    what: str
    before: str
    after: str
    says: str = ""


@dataclass(frozen=True)
class PartRows:
    """Differences of one part, folded: its heading, how many of what, and the rows."""

    heading: str
    count: str
    rows: tuple[ChangeRow, ...]


@dataclass(frozen=True)
class ComparisonPage:
    """What the page says.

    Attributes
    ----------
    a, b
        The two runs as a user calls them.
    sentence
        What changed in the decision.
    act
        Whether a user must act.
    to_act, foretold, made_from
        Changes of the decision, heaviest first; what the policies save and risk; differences of inputs,
        limits and version.
    rest
        Everything else, by part.
    link_count, links
        How many evidence links of the old run lead somewhere in the new one; those of which there is more to
        say, dead ones first.
    closing
        What is the same, counted; what was not compared.
    command
        The command line that makes this page again.
    """

    a: str
    b: str
    sentence: str
    act: bool
    to_act: tuple[ChangeRow, ...]
    foretold: tuple[ChangeRow, ...]
    made_from: tuple[ChangeRow, ...]
    rest: tuple[PartRows, ...]
    link_count: str
    links: tuple[ChangeRow, ...]
    closing: tuple[str, ...]
    command: str


def render_comparison(page: ComparisonPage, tool_version: str) -> str:
    """Return one HTML page without scripts that needs no network; equal inputs give equal bytes."""
    from hs_analysis.report.html import environment, packaged_text  # charts and frames: only for a page

    style = Markup(packaged_text("style.css"))  # noqa: S704 - shipped with the package
    template = environment().get_template("comparison.html.jinja")
    return template.render(page=page, style=style, tool_version=tool_version)
