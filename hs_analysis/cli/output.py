"""What leaves the program: results on stdout in five forms, progress, warnings and errors on stderr."""

from __future__ import annotations

import codecs
import csv
import html
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

import hs_analysis
from hs_analysis.errors import HsError, MachineError, ManyErrors

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

OutputFormat = Literal["table", "json", "yaml", "csv", "markdown"]

LogFormat = Literal["text", "json"]

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters and those that turn the direction of text; line ends and tabs are not among them."""


def printable(text: str) -> str:
    """Return a text that can't steer a terminal: names in dumps are anyone's, and may hold escapes."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class _ClosedStream(io.TextIOBase):
    """Standard output of a process that was started without one."""

    def write(self, _text: str) -> int:
        """Say that nothing can be printed."""
        raise MachineError(
            "standard output is closed, so the result can't be printed",
            hint="give the command a place to print to, e.g. > /dev/null",
        )


def prepare() -> None:
    """Give every standard stream a place, and escape what its encoding does not have.

    A closed one must not stay closed: the next file that is opened would take its number, and get what is
    meant for the stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _ClosedStream()
    elif not takes_all(sys.stdout) and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def takes_all(stream: Any) -> bool:
    """Whether a stream's encoding has every character."""
    try:
        name = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name
    except LookupError:
        return False
    return name.startswith("utf")


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


@dataclass(frozen=True)
class Folded:
    """Lines that a reader opens when wanted: folded in Markdown, only their title on a terminal.

    Attributes
    ----------
    title
        Says what is folded, how much, and which command prints it.
    groups
        (heading, lines) of each part.
    """

    title: str
    groups: Sequence[tuple[str, Sequence[str]]]


Block = str | Table | Folded


@dataclass(frozen=True)
class CommandOutput:
    """A result in all its forms.

    Attributes
    ----------
    data
        Plain data, for JSON and YAML.
    rows
        Flat records, for CSV.
    blocks
        Makes lines of text and tables, for people.
    columns
        Columns of the CSV where they are known beforehand: then it has its header without a row too.
    """

    data: Any
    rows: Sequence[Mapping[str, Any]]
    blocks: Callable[[], Sequence[Block]]
    columns: Sequence[str] = ()


def write_output(shown: CommandOutput, output: OutputFormat, *, no_color: bool = False) -> None:
    """Write a result to stdout."""
    if output == "table":
        _show_blocks(shown.blocks(), no_color=no_color)
        return
    unicode = takes_all(sys.stdout)
    if output == "csv":
        text = as_csv(shown.rows, shown.columns)
    elif output == "markdown":
        text = as_markdown(shown.blocks())
    else:
        text = (as_json if output == "json" else as_yaml)(shown.data, unicode=unicode)
    sys.stdout.write(text)
    sys.stdout.flush()


def as_json(data: Any, *, unicode: bool = True) -> str:
    """Return plain data as JSON text; NaN and infinities are null. Without ``unicode`` all is ASCII."""
    from hs_analysis.pipeline.records import to_plain

    return json.dumps(to_plain(data), indent=2, ensure_ascii=not unicode, allow_nan=False) + "\n"


def as_yaml(data: Any, *, unicode: bool = True) -> str:
    """Return plain data as YAML text that parsers of YAML 1.1 and 1.2 read alike; see `as_json`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    from hs_analysis.pipeline.records import to_plain

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


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Return flat records as CSV with a header; null is an empty cell, lists and dicts are JSON.

    ``columns`` are those that are known beforehand; what the records have besides comes after them.
    """
    from hs_analysis.pipeline.records import to_plain

    plain = [to_plain(row) for row in rows]
    buffer = io.StringIO()
    names = list(dict.fromkeys([*columns, *(key for row in plain for key in row)]))
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for row in plain:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return buffer.getvalue()


_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|#&~]")
"""What a Markdown reader would take as a sign of its own: names in dumps are anyone's."""


def as_markdown(blocks: Sequence[Block]) -> str:
    """Return lines and tables as GitHub-flavoured Markdown: indented lines are items of a list."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, str):
            text = _escaped(block.strip())
            parts.append(f"- {text}" if block.startswith("  ") else f"{text}\n")
            continue
        if isinstance(block, Folded):
            parts.append(_markdown_folded(block))
            continue
        parts.append(f"\n**{_escaped(block.title)}**\n")
        parts.append(_markdown_table(block) if block.rows else f"{_escaped(block.empty)}\n")
    joined = "\n".join(parts) + "\n"
    # A paragraph after a list needs a line between; more than one says nothing.
    joined = re.sub(r"(^- .*)\n(?!- |\n)", r"\1\n\n", joined, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", joined).strip("\n") + "\n"


def _markdown_folded(block: Folded) -> str:
    """Return ``<details>``: inside HTML a list needs an empty line before and after it."""
    lines = [f"\n<details><summary>{html.escape(printable(block.title), quote=False)}</summary>\n"]
    for heading, items in block.groups:
        lines += [f"\n{_escaped(heading)}\n", *(f"- {_escaped(item.strip())}" for item in items)]
    return "\n".join([*lines, "\n</details>\n"])


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", printable(re.sub(r"[ \n]+", " ", text)))


def _markdown_table(block: Table) -> str:
    heads = [_escaped(heading) for _, heading in block.columns]
    numeric = [
        all(isinstance(row.get(key), int | float | None) for row in block.rows) for key, _ in block.columns
    ]
    lines = [heads, ["---:" if right else "---" for right in numeric]]
    lines += [[_escaped(text_of(row.get(key))) for key, _ in block.columns] for row in block.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


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
        if isinstance(block, str | Folded):
            out.print(printable(block if isinstance(block, str) else block.title), soft_wrap=True)
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


def error_entry(line: str, error: HsError, command: str) -> str:
    """Return a line of an error as a JSON object, for a log of JSON lines."""
    entry = {"event": "error", "command": command, "exit_code": exit_code(error), "text": line}
    return json.dumps(entry, ensure_ascii=True)


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


class ProgressLines:
    """A line for each stage that worked or had nothing to do."""

    def _print(self, text: str) -> None:
        typer.echo(printable(text), err=True)

    def started(self, stage: str, does: str, index: int, total: int) -> None:
        """Stay silent until the stage is done."""

    def advanced(self, done: int, total: int, unit: str) -> None:
        """Stay silent."""

    def finished(self, stage: str, seconds: float, note: str) -> None:
        """Print what the stage did and how long it took."""
        self._print(f"{stage}: {note or 'done'} ({seconds:.1f} s)")

    def skipped(self, stage: str) -> None:
        """Print that the stage had nothing to do."""
        self._print(f"{stage}: nothing to do, same inputs and settings")

    def noted(self, text: str) -> None:
        """Print a remark."""
        self._print(text)

    def close(self) -> None:
        """Do nothing."""


class ProgressBars(ProgressLines):
    """A bar for the stage at work, with unit, rate and time left; finished stages become lines."""

    def __init__(self, *, no_color: bool) -> None:
        self._no_color = no_color
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(printable(text), soft_wrap=True)
        else:
            super()._print(text)

    def _live(self) -> Bar:
        if self._bar is None:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console(sys.stderr, no_color=self._no_color),
                transient=True,
            )
            self._bar.start()
        return self._bar

    def started(self, stage: str, does: str, index: int, total: int) -> None:
        """Show the stage that works."""
        self._task = self._live().add_task(f"{stage} ({index} of {total}): {does}", total=None, unit="")

    def advanced(self, done: int, total: int, unit: str) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, unit=unit)

    def finished(self, stage: str, seconds: float, note: str) -> None:
        """Turn the bar into a line."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        super().finished(stage, seconds, note)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class JsonLines(ProgressLines):
    """One JSON object a line: ``event`` (stage, skipped, note), and what it says."""

    def _write(self, **entry: Any) -> None:
        typer.echo(json.dumps(entry, ensure_ascii=True), err=True)

    def _print(self, text: str) -> None:
        self._write(event="note", text=text)

    def finished(self, stage: str, seconds: float, note: str) -> None:
        """Write the stage, what it did, and how long it took."""
        self._write(event="stage", stage=stage, seconds=round(seconds, 3), text=note or "done")

    def skipped(self, stage: str) -> None:
        """Write that the stage had nothing to do."""
        self._write(event="skipped", stage=stage)


class NoProgress(ProgressLines):
    """Nothing at all."""

    def _print(self, text: str) -> None:
        pass


def progress_listener(*, quiet: bool, no_color: bool, log: LogFormat = "text") -> ProgressLines:
    """Return the listener that fits stderr and the flags."""
    if quiet:
        return NoProgress()
    if log == "json":
        return JsonLines()
    return ProgressBars(no_color=no_color) if sys.stderr.isatty() else ProgressLines()
