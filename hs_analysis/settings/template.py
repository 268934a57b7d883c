"""The commented hsa.toml that ``hsa init`` writes: every setting, with its meaning and an example."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from hs_analysis.settings.known import SETTINGS, Setting
from hs_analysis.settings.sections import SECTIONS, Section

WIDTH = 100

LEAD = (
    "Settings of hs-analysis. Every one is optional: take away the # before those you need. A flag wins over "
    "an HSA_* variable, and that over this file; hsa settings prints what is in effect, hsa validate checks "
    "this file."
)


def template(given: Mapping[str, str]) -> str:
    """Return the text of hsa.toml.

    Parameters
    ----------
    given
        Settings to set, by key, as TOML writes them. The others are comments: prose after ``# ``, settings
        after ``#`` alone.
    """
    lines = [*_prose(LEAD)]
    section = ""
    for setting in SETTINGS:
        first = setting.key.rpartition(".")[0]
        if first != section:
            section = first
            lines += ["", f"[{section}]"]
        else:
            lines.append("")
        lines += _setting(setting, given.get(setting.key))
    for one in SECTIONS:
        lines += ["", *_section(one)]
    return "\n".join(lines) + "\n"


def _prose(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _setting(setting: Setting, value: str | None) -> Iterator[str]:
    ways = ", ".join(way for way in (setting.variable, setting.flag) if way)
    yield from _prose(f"{setting.meaning} ({setting.provenance}); {ways}")
    name = setting.key.rpartition(".")[2]
    yield f"{name} = {value}" if value is not None else f"#{name} = {setting.example}"


def _section(section: Section) -> Iterator[str]:
    # A table of tables has no key of its own: its header is part of the example.
    header = f"#[{section.name}.fleet]" if section.name == "tables" else f"[{section.name}]"
    yield from _prose(section.meaning) if header.startswith("#") else ()
    yield header
    yield from () if header.startswith("#") else _prose(section.meaning)
    yield from (f"#{line}" for line in section.example)
