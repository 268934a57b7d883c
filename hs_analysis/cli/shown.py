"""A command's result on stdout, as a table, JSON, YAML or CSV; nothing else is ever printed there."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hs_analysis.cli.options import Format
from hs_analysis.cli.printable import printable
from hs_analysis.cli.streams import takes_all

if TYPE_CHECKING:
    from rich.console import Console

# What YAML 1.1 parsers read as something else than text when it stands without quotes.
_YAML_11_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"}
_YAML_11_STARTS = tuple("0123456789+-.=<")

_UNBOUNDED = 10_000  # columns; wider than any row


@dataclass(frozen=True)
class Table:
    """A titled table; ``columns`` are (key, heading) pairs, numbers are aligned right."""

    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Mapping[str, Any]]
    empty: str = "none"


Block = str | Table


@dataclass(frozen=True)
class Shown:
    """A result in all its forms.

    Attributes
    ----------
    data
        Plain data, for JSON and YAML.
    rows
        Flat records, for CSV.
    blocks
        Makes lines of text and tables, for people.
    """

    data: Any
    rows: Sequence[Mapping[str, Any]]
    blocks: Callable[[], Sequence[Block]]


def show(shown: Shown, output: Format, *, no_color: bool = False) -> None:
    """Write a result to stdout."""
    if output == "table":
        _show_blocks(shown.blocks(), no_color=no_color)
        return
    unicode = takes_all(sys.stdout)
    if output == "csv":
        text = as_csv(shown.rows)
    else:
        text = (as_json if output == "json" else as_yaml)(shown.data, unicode=unicode)
    sys.stdout.write(text)
    sys.stdout.flush()


def as_json(data: Any, *, unicode: bool = True) -> str:
    """Return plain data as JSON text; NaN and infinities are null. Without ``unicode`` all is ASCII."""
    from hs_analysis.pipeline.tables import to_plain

    return json.dumps(to_plain(data), indent=2, ensure_ascii=not unicode, allow_nan=False) + "\n"


def as_yaml(data: Any, *, unicode: bool = True) -> str:
    """Return plain data as YAML text that parsers of YAML 1.1 and 1.2 read alike; see `as_json`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    from hs_analysis.pipeline.tables import to_plain

    def text(representer: Any, value: str) -> Any:
        quoted = value.lower() in _YAML_11_WORDS or value.startswith(_YAML_11_STARTS)
        return representer.represent_scalar("tag:yaml.org,2002:str", value, style="'" if quoted else None)

    def real(representer: Any, value: float) -> Any:
        mantissa, e, exponent = repr(value).partition("e")
        full = mantissa if "." in mantissa else f"{mantissa}.0"
        return representer.represent_scalar("tag:yaml.org,2002:float", full + e + exponent)

    quoting: Any = type("Quoting", (SafeRepresenter,), {})  # a copy: the library's own table stays as it is
    quoting.add_representer(str, text)
    quoting.add_representer(float, real)
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Representer = quoting
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = unicode
    yaml.width = 110
    buffer = io.StringIO()
    yaml.dump(to_plain(data), buffer)
    return buffer.getvalue()


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return flat records as CSV with a header; null is an empty cell, lists and dicts are JSON."""
    from hs_analysis.pipeline.tables import to_plain

    plain = [to_plain(row) for row in rows]
    buffer = io.StringIO()
    names = list(dict.fromkeys(key for row in plain for key in row))
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for row in plain:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def console(file: Any, *, no_color: bool) -> Console:
    """Return a console for a stream; colour only on a terminal and unless NO_COLOR or the flag says no."""
    from rich.console import Console

    off = no_color or bool(os.environ.get("NO_COLOR"))
    # Off a terminal nothing is cut to a screen's width: the reader may be grep.
    width = None if file.isatty() else _UNBOUNDED
    return Console(file=file, no_color=off, width=width, highlight=False, emoji=False, markup=False)


def _show_blocks(blocks: Sequence[Block], *, no_color: bool) -> None:
    if sys.stdout.isatty():
        _print_blocks(blocks, console(sys.stdout, no_color=no_color))
        return
    text = io.StringIO()
    _print_blocks(blocks, console(text, no_color=True))
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))
    sys.stdout.flush()


def _print_blocks(blocks: Sequence[Block], out: Console) -> None:
    for number, block in enumerate(blocks):
        if isinstance(block, str):
            out.print(printable(block), soft_wrap=True)
            continue
        if number:
            out.print()
        if block.rows:
            out.print(_drawn(block))
        else:
            out.print(f"{block.title}: {block.empty}", soft_wrap=True)


def _drawn(block: Table) -> Any:
    from rich import box
    from rich.table import Table as Drawn

    drawn = Drawn(
        title=block.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for key, heading in block.columns:
        numeric = all(isinstance(row.get(key), int | float | None) for row in block.rows)
        drawn.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in block.rows:
        drawn.add_row(*(text_of(row.get(key)) for key, _ in block.columns))
    return drawn


def text_of(value: Any) -> str:
    """Return a cell's text: numbers to four digits, null as a dash, lists joined."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(text_of(item) for item in value)
    return printable(str(value))


def number(value: float | None, digits: int = 4) -> str:
    """Return a number to some significant digits, large ones with thin groups; a dash for null and NaN."""
    if value is None or value != value:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
