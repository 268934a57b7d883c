"""``hsa help``: the pages of the documentation, by topic. They are in the wheel, so an error can cite one."""

from __future__ import annotations

import posixpath
import re
from importlib.abc import Traversable
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from hs_analysis.errors import UsageError
from hs_analysis.settings.values import suggestion

FOLDERS = {"howto": "How to", "method": "Method", "reference": "Reference", "": "Around"}
"""Folder of docs/ whose pages are topics → what the list calls them; the last one is docs/ itself."""

INDEX = "README.md"
"""Pages that only list others are no topics."""

APPLY = "apply"
"""Topic that is no page: the steps of APPLY.md, with names to replace."""

HELP_HELP = """hsa help collect

A page of the documentation, by its topic: how to get the data, which metrics an engine has, how a number is
computed. Without a topic: the list of topics. Flags of a command are in its own help: hsa run --help."""


def help(  # noqa: A001 - the command's name
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="A topic of the list.", show_default=False)
    ] = None,
) -> None:
    """Print a page of the documentation, or the list of topics."""
    known = topics()
    if topic is None:
        typer.echo("\n".join(_listed(known)))
        return
    if topic == APPLY:
        typer.echo(_how_to_apply())
        return
    if topic not in known:
        from hs_analysis.cli.app import COMMANDS

        hint = (
            f"hsa {topic} --help lists its flags" if topic in COMMANDS else suggestion(topic, [*known, APPLY])
        )
        raise UsageError(f"no such topic {topic!r}", where="TOPIC", hint=hint)
    typer.echo(plain(known[topic], _page(known[topic]).read_text("utf-8"), known))


def _how_to_apply() -> str:
    from hs_analysis.export.alerts import ALERTS
    from hs_analysis.report.apply import in_general

    return in_general(ALERTS).rstrip()


def topics() -> dict[str, str]:
    """Return every topic → its page below docs/, in the order of the list."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        names = sorted(one.name for one in _page(folder).iterdir() if one.name.endswith(".md"))
        found |= {name.removesuffix(".md"): posixpath.join(folder, name) for name in names if name != INDEX}
    return found


def plain(path: str, text: str, known: dict[str, str]) -> str:
    """Return a page as a terminal shows it: a link to a topic names its command, others only their text."""
    by_page = {page: topic for topic, page in known.items()}

    def link(found: re.Match[str]) -> str:
        label, target = found[1], found[2].partition("#")[0]
        if "://" in target:
            return f"{label} ({found[2]})"
        topic = by_page.get(posixpath.normpath(posixpath.join(posixpath.dirname(path), target)))
        return f"{label} (hsa help {topic})" if target and topic else label

    text = re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL)
    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", link, text).strip()


def _page(path: str) -> Traversable:
    """Return a page or a folder of docs/: of the wheel, else of the checkout."""
    packaged = files("hs_analysis").joinpath("_pages")
    root = packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "docs"
    return root.joinpath(path) if path else root


def _listed(known: dict[str, str]) -> list[str]:
    width = max(map(len, known))
    lines = ["Topics. hsa help TOPIC prints the page; hsa COMMAND --help lists the flags of a command."]
    for folder, title in FOLDERS.items():
        rows = [
            f"  {topic:{width}}  {_title(path)}"
            for topic, path in known.items()
            if posixpath.dirname(path) == folder
        ]
        if folder == "howto":
            rows.insert(0, f"  {APPLY:{width}}  How to apply a policy: the steps of exports/APPLY.md")
        lines += ["", title, *rows]
    return lines


def _title(path: str) -> str:
    return _page(path).read_text("utf-8").partition("\n")[0].removeprefix("# ")
