"""Delimited text: records with the line they stand on, none of them lost, and cells as numbers.

A block of lines without quotes is cut by polars; what that can't cut without losing count (quotes, odd
numbers of cells, bad bytes) is cut record by record.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hs_analysis.catalogue.rows import measured
from hs_analysis.errors import InputError
from hs_analysis.ingest.rows import NAN, NULL, Dump, ReadNotes, Rejection, flagged
from hs_analysis.ingest.streams import BOM, LONGEST_RECORD_BYTES
from hs_analysis.ingest.text_lines import DECIMAL, LineBlock, as_text, line_blocks

DELIMITERS = (",", ";", "\t", "|")

BLANKS = "cells have blanks around them, which are left out"

MOST_LINES = 50
"""A record over more lines than this is a lost quote, not a text with line breaks."""

MOST_COLUMNS = 1 << 13
"""A line with more cells is no header: the widest panels and tables have some hundred columns."""

MOST_CHARACTERS = 1 << 17
"""The longest cell that is read (the limit of Python's csv module)."""


@dataclass(frozen=True)
class Records:
    """Records of a table.

    Attributes
    ----------
    cells
        One column a header name, in the file's order; texts without blanks around them, null where a cell is
        empty. Tables of another kind (Parquet) may hold numbers and times.
    lines
        Line (or row) each record starts on, from 1, shape (n,).
    raw
        Each record as it stood in the file.
    """

    cells: pl.DataFrame
    lines: np.ndarray
    raw: Sequence[str]


def chosen(records: Records, keep: np.ndarray) -> Records:
    """Return the records a mask keeps."""
    if keep.all():
        return records
    at = np.flatnonzero(keep).tolist()
    return Records(records.cells[at], records.lines[at], [records.raw[i] for i in at])


_QUOTED = re.compile(r'"[^"]*+"')
"""What stands in quotes; a doubled quote inside parts it in two, which leaves the same outside."""


def split_header(line: str) -> tuple[list[str], str]:
    """Return the names of a header line and its delimiter; a name that repeats gets ``#2``, then ``#3``.

    Raises
    ------
    csv.Error
        When the line can't be cut, or into more than MOST_COLUMNS names.
    """
    bare = _QUOTED.sub("", line)  # what stands in quotes parts no names
    delimiter = max(DELIMITERS, key=bare.count)
    if bare.count(delimiter) >= MOST_COLUMNS:
        raise csv.Error("too many columns")
    names: dict[str, int] = {}  # name → how often it came
    for cell in next(csv.reader([line], delimiter=delimiter), []):
        name = fresh = cell.strip()
        while fresh in names:
            names[name] += 1
            fresh = f"{name}#{names[name]}"
        names[fresh] = 1
    return list(names), delimiter


def header_names(head: bytes, skip: int = 0) -> list[str]:
    """Return the names on the first line of a head after ``skip`` lines; none when it is no text."""
    lines = head[:MOST_CHARACTERS].removeprefix(BOM).split(b"\n", skip + 1)[skip:]
    try:
        return split_header(lines[0].decode("utf-8").strip())[0] if lines else []
    except (UnicodeDecodeError, csv.Error):
        return []


def require_names(columns: Sequence[str], needed: Sequence[str], what: str, where: str) -> None:
    """Hold a table to the columns its format has.

    Raises
    ------
    InputError
        When one is missing; the message lists those there are.
    """
    missing = [name for name in needed if name not in columns]
    if missing:
        there = ", ".join(name[:60] for name in columns[:20])
        raise InputError(
            f"no {what}: {', '.join(missing)} is missing among its columns {there}", where=where,
            hint="leave --format out, or describe the table under [tables] in hsa.toml",
        )  # fmt: skip


def read_delimited(
    dump: Dump, notes: ReadNotes, *, names: Sequence[str] | None = None, skip: int = 0
) -> Iterator[Records]:
    """Yield the records of a delimited file, at least one batch even when there is none.

    The header is the first line that is not blank, unless ``names`` are given; blank lines, ``skip`` lines
    before the header and repeated headers are no records. A record with another number of cells, bad UTF-8
    or a NUL byte is set aside, and so is one of more than LONGEST_RECORD_BYTES.

    Raises
    ------
    InputError
        When the file can't be opened, has no header, or a line never ends.
    """
    header = list(names) if names is not None else None
    delimiter, carried, repeats, started = ",", LineBlock(1, [], last=False), 0, False
    for block in line_blocks(dump, notes):
        lines, number = carried.lines + block.lines, block.number - len(carried.lines)
        if header is None:
            at = next((i for i, line in enumerate(lines) if i + number > skip and line.strip()), None)
            if at is None:
                continue
            header, delimiter = _header(lines[at], dump)
            lines, number = lines[at + 1 :], number + at + 1
        cut = _cut(LineBlock(number, lines, block.last), header, delimiter, notes)
        records, carried = cut
        records, found = _without_headers(records, header)
        repeats += found
        if records.cells.height or not started:
            started = True
            yield records
    if header is None:
        raise InputError("no line with column names", where=dump.where, hint="export the table again")
    if repeats:
        notes.infos.append(f"the header is repeated on {repeats} lines")


def _header(line: bytes, dump: Dump) -> tuple[list[str], str]:
    if len(line) > LONGEST_RECORD_BYTES:
        text = f"the line with the column names is over {LONGEST_RECORD_BYTES >> 20} MB"
        raise InputError(text, where=dump.where, hint="export fewer series at once")
    try:
        names, delimiter = split_header(line.decode("utf-8"))
    except (UnicodeDecodeError, csv.Error) as error:
        hint = "save the table as UTF-8 text"
        raise InputError("the line with the column names is no text", where=dump.where, hint=hint) from error
    return names, delimiter


def _frame(rows: Sequence[Sequence[str]], header: Sequence[str]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return _tidy(pl.DataFrame({name: pl.Series(name, list(cells), pl.String) for name, cells in
                               zip(header, columns, strict=True)}))  # fmt: skip


def _tidy(cells: pl.DataFrame) -> pl.DataFrame:
    stripped = pl.all().str.strip_chars()
    return cells.select(stripped).with_columns(
        pl.when(pl.col(pl.String) != "").then(pl.col(pl.String)).name.keep()
    )


def _without_headers(records: Records, header: Sequence[str]) -> tuple[Records, int]:
    """Take out lines that repeat the header, as loggers write it at every sample."""
    cells = records.cells
    if not header or not cells.height:
        return records, 0
    same = cells.select(pl.all_horizontal(pl.col(name).eq_missing(pl.lit(name or None)) for name in header))
    mask = same.to_series().to_numpy()
    if not mask.any():
        return records, 0
    return chosen(records, ~mask), int(mask.sum())


def _cut(
    block: LineBlock, header: Sequence[str], delimiter: str, notes: ReadNotes
) -> tuple[Records, LineBlock]:
    """Cut lines into records; a record that may go on in the next block is carried over."""
    text = b"\n".join(block.lines)
    if BLANKS not in notes.infos and any(odd in text for odd in _blank_edges(delimiter)):
        notes.infos.append(BLANKS)
    fast = _cut_at_once(block, text, header, delimiter)
    if fast is not None:
        return fast, LineBlock(block.number + len(block.lines), [], last=False)
    rows, places, raws = list[list[str]](), list[int](), list[str]()
    at = 0
    while at < len(block.lines):
        line = block.lines[at]
        if not line.strip():
            at += 1
            continue
        count = _record_lines(block, at)
        if count == 0:
            break
        record = b"\n".join(block.lines[at : at + count])
        cells, reason, detail = _cells(record, len(header), delimiter)
        if reason and count > 1:
            count, record = 1, line
            cells, reason, detail = _cells(record, len(header), delimiter)
        if reason:
            notes.rows += 1
            notes.rejections.append(Rejection(block.number + at, reason, as_text(record), detail, "", ""))
        else:
            rows.append(cells)
            places.append(block.number + at)
            raws.append(record.decode("utf-8"))
        at += count
    rest = LineBlock(block.number + at, block.lines[at:], last=False)
    return Records(_frame(rows, header), np.array(places, np.int64), raws), rest


def _blank_edges(delimiter: str) -> tuple[bytes, bytes]:
    """Return what a blank at the edge of a cell looks like."""
    edge = delimiter.encode()
    return b" " + edge, edge + b" "


def _cut_at_once(block: LineBlock, text: bytes, header: Sequence[str], delimiter: str) -> Records | None:
    """Cut a block whose lines are plain: no quotes, no bad bytes, the same number of cells in each."""
    if not block.lines or max(map(len, block.lines)) > LONGEST_RECORD_BYTES:
        return None
    if b'"' in text or b"\0" in text or b"\r" in text or b"" in block.lines:
        return None
    separators = len(block.lines) * (len(header) - 1)
    if len(header) < 2 or text.count(delimiter.encode()) != separators:
        return None
    schema = {f"c{i}": pl.String for i in range(len(header))}
    try:
        whole = text.decode("utf-8")
        cells = pl.read_csv(
            io.BytesIO(text), separator=delimiter, has_header=False, quote_char=None, schema=schema,
            truncate_ragged_lines=False, raise_if_empty=False,
        )  # fmt: skip
    except (UnicodeDecodeError, pl.exceptions.PolarsError):
        return None
    if cells.height != len(block.lines):
        return None
    lines = np.arange(block.number, block.number + len(block.lines), dtype=np.int64)
    cells.columns = list(header)
    return Records(_tidy(cells), lines, whole.split("\n"))


def _record_lines(block: LineBlock, at: int) -> int:
    """Return how many lines a record takes: until its quotes are even; 0 when the next block decides."""
    quotes, size = 0, 0
    for count, line in enumerate(block.lines[at : at + MOST_LINES], 1):
        quotes += line.count(b'"')
        size += len(line)
        if quotes % 2 == 0:
            return count
        if size > LONGEST_RECORD_BYTES:
            return 1
    runs_out = len(block.lines) - at < MOST_LINES
    return 0 if runs_out and not block.last else 1


def _cells(record: bytes, width: int, delimiter: str) -> tuple[list[str], str, str]:
    """Return the cells of a record, or the reason and detail why it has none."""
    if len(record) > LONGEST_RECORD_BYTES:
        return [], "bad_value", f"a record of more than {LONGEST_RECORD_BYTES} bytes"
    if b"\0" in record:
        return [], "bad_utf8", "a NUL byte"
    try:
        text = record.decode("utf-8")
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except UnicodeDecodeError:
        return [], "bad_utf8", "no UTF-8"
    except csv.Error:
        return [], "bad_value", f"a cell of more than {MOST_CHARACTERS} characters"
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    if len(cells) != width:
        return [], "bad_value", f"{len(cells)} cells, the header has {width}"
    return cells, "", ""


MISSING = frozenset(
    {"null", "none", "n/a", "na", "[n/a]", "[not supported]", "[unknown error]", "not supported", "-", "--"}
)
"""Words that stand for no value, in lower case (nvidia-smi, amd-smi, dcgmi, spreadsheets)."""

SCALES = {
    "": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "Mil": 1e6, "G": 1e9, "B": 1e9, "Bil": 1e9, "T": 1e12, "Tri": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip
"""Letters that Grafana puts behind shortened numbers (its unit "short" and SI prefixes)."""

WORDS = {
    "ns": "ns", "µs": "us", "us": "us", "ms": "ms", "s": "s", "sec": "s", "secs": "s", "min": "min",
    "mins": "min", "hour": "h", "hours": "h", "h": "h", "req": "requests", "reqs": "requests",
    "rps": "rps", "p": "1", "bytes": "bytes", "%": "percent", "kB": "KB",
}  # fmt: skip
"""How cells write units, where not as the catalogue does."""

_NUMBER = r"[+-]?(?:(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++)?|\.\d++)(?:[eE][+-]?\d++)?"
_WITH_UNIT = re.compile(rf"({_NUMBER})\s*([^\d\s].*)")
_PLAIN = re.compile(rf"{DECIMAL}|[+-]?inf(?:inity)?|[+-]?nan", re.IGNORECASE)


@dataclass(frozen=True)
class Numbers:
    """Numbers of a column: ``values`` with NaN where ``flags`` say why, and which cells are ``bad``."""

    values: np.ndarray
    flags: np.ndarray
    bad: np.ndarray


def plain_number(text: str) -> float | None:
    """Return a number or a word for one, None when it is neither."""
    return float(text) if _PLAIN.fullmatch(text) else None


def numbers(column: pl.Series) -> Numbers:
    """Return a column as numbers; an empty cell and a word for missing are null, never 0."""
    if column.dtype != pl.String:
        if not (column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype == pl.Null):
            column = column.cast(pl.String, strict=False)
            return numbers(column)
        values = column.cast(pl.Float64, strict=False).to_numpy().astype(np.float64, copy=True)
        missing = column.is_null().to_numpy()
    else:
        parsed = column.cast(pl.Float64, strict=False)
        values = parsed.to_numpy().astype(np.float64, copy=True)
        missing = column.is_null().to_numpy().copy()
        bad = parsed.is_null().to_numpy() & ~missing
        for i in np.flatnonzero(bad).tolist():
            text = column[i]
            number = plain_number(text)
            if number is not None:
                values[i], bad[i] = number, False
            elif text.lower() in MISSING:
                missing[i], bad[i] = True, False
        return _numbers(values, missing, bad)
    return _numbers(values, missing, np.zeros(missing.size, bool))


def _numbers(values: np.ndarray, missing: np.ndarray, bad: np.ndarray) -> Numbers:
    values[missing | bad] = np.nan
    shown, flags = flagged(values)
    flags[missing] = NULL
    flags[bad] = NAN
    return Numbers(np.array(shown), flags, bad)


def with_unit(text: str) -> tuple[float, str] | None:
    """Return a cell's number and its unit as the catalogue names it, None when it can't be read.

    ``1.5 K`` is 1500 without a unit, ``97%`` is 97 percent, ``3.2 ms`` is 3.2 ms, ``12 k tokens/s`` is 12000
    tokens/s. The number is in the unit returned; an unknown unit is None, not a guess.
    """
    number = plain_number(text)
    if number is not None:
        return number, ""
    match = _WITH_UNIT.fullmatch(text)
    if match is None:
        return None
    value, unit = float(match[1].replace(",", "")), match[2].strip()
    if unit in SCALES and unit not in WORDS:
        return value * SCALES[unit], ""
    known = _unit(unit)
    if known is not None:
        return value, known
    scale, _, rest = unit.partition(" ")
    known = _unit(rest.strip()) if scale in SCALES and rest else None
    return None if known is None else (value * SCALES[scale], known)


def _unit(text: str) -> str | None:
    above, slash, below = text.partition("/")
    named = WORDS.get(above, above) + (f"/{WORDS.get(below, below)}" if slash else "")
    return named if measured(named) is not None else None
