"""Readers of what `promtool query` prints: a bare JSON list of series, or text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import LINE_BLOCK_BYTES, LONGEST_RECORD_BYTES, BrokenStreamError
from hs_analysis.ingest.labels import SERIES, BadLabelsError, parse_series
from hs_analysis.ingest.numbers import DECIMAL, VALUE
from hs_analysis.ingest.prometheus_json import query_of, read_documents, read_result
from hs_analysis.ingest.raw import LATEST_S, RAW_CHARACTERS, Dump, RawSeries, ReadNotes, Rejection, flagged

_LIST = re.compile(rb'(\[\s*\]\s*)*\[\s*\{\s*"(metric|values?)"\s*:')
_EMPTY = re.compile(rb"(\[\s*\]\s*)+")
_ARROW = re.compile(rb"[ \t]*=>[ \t]*")
_POINT = re.compile(rf"(\S+) @\[({DECIMAL})\]")

GATHER_ROWS = 1 << 16
"""Samples of a series held before they are handed on."""


def is_promtool_json(head: bytes) -> bool:
    """Return whether a file begins with a bare list of series, after those of queries that found none."""
    return bool(_LIST.match(head))


def is_empty_promtool_json(head: bytes) -> bool:
    """Return whether a file is what promtool prints for queries that find nothing: no dump of its own.

    Any program writes empty lists; only who knows that promtool was asked can take them for its answer.
    """
    return bool(_EMPTY.fullmatch(head))


def read_promtool_json(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of ``[{"metric": {…}, "values": […]}, …]``, the output of ``promtool query -o json``.

    Raises
    ------
    InputError
        As for an API answer.
    """
    told = query_of(dump.name, dump.reading)
    with dump.stream() as stream:
        yield from read_documents(
            stream, dump.where, notes, lambda: read_result(stream, notes, ""), dump.reading.salvage, told
        )


def is_promtool_text(head: bytes) -> bool:
    """Return whether a file begins with ``name{…} =>``."""
    match = SERIES.match(head)
    return bool(match and _ARROW.match(head, match.end()))


@dataclass
class _Open:
    """The series whose samples are being read; None as labels when they can't be."""

    labels: dict[str, str] | None
    line: int
    times_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def taken(self) -> Iterator[RawSeries]:
        """Yield the samples gathered so far, and forget them."""
        if self.labels is not None and self.times_s:
            values, flags = flagged(np.array(self.values, np.float64))
            t_us = np.round(np.array(self.times_s) * 1e6).astype(np.int64)
            yield RawSeries(self.labels, t_us, values, flags, self.line)
        self.times_s, self.values = [], []


def read_promtool_text(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of ``name{…} =>`` followed by ``value @[seconds]`` lines, or both on one line.

    ``position`` of a rejection is its line.

    Raises
    ------
    InputError
        When a line never ends.
    """
    told = query_of(dump.name, dump.reading)
    series = _Open(None, 0)
    line = 0
    with dump.stream(LINE_BLOCK_BYTES) as stream:
        try:
            stream.skip_mark()
            for block in stream.lines():
                for raw in block.splitlines():
                    line += 1
                    match = SERIES.match(raw)
                    arrow = _ARROW.match(raw, match.end()) if match else None
                    if match and arrow:
                        yield from series.taken()
                        series = _opened(match.group(), line, notes, told)
                    if (point := raw[arrow.end() :] if arrow else raw).strip():
                        _point(point, line, series, notes, is_cut=not block.endswith(b"\n"))
                    if len(series.values) >= GATHER_ROWS:
                        yield from series.taken()
        except BrokenStreamError as broken:
            what = f"{broken.what} at byte {broken.offset}"
            raise InputError(what, where=dump.where, hint=broken.hint) from broken
        yield from series.taken()
        if stream.damage:
            notes.warnings.append(
                f"truncated: {stream.damage} after byte {stream.offset}; whole lines up to there are kept"
            )


def _opened(text: bytes, line: int, notes: ReadNotes, told: str | None) -> _Open:
    """Return a new series; one without a name is called as ``told``."""
    try:
        labels = parse_series(text, go_escapes=True)
    except BadLabelsError as error:
        _reject(notes, line, error.reason, text, f"{error}; its samples are left out")
        return _Open(None, line)
    if told and "__name__" not in labels:
        labels["__name__"] = told
    notes.last_series = labels.get("__name__", "")
    return _Open(labels, line)


def _point(raw: bytes, line: int, series: _Open, notes: ReadNotes, *, is_cut: bool) -> None:
    """Take one ``value @[seconds]``."""
    short = len(raw) <= LONGEST_RECORD_BYTES
    match = _POINT.fullmatch(raw.decode("utf-8", "replace").strip()) if short else None
    if match is None:
        cut = is_cut and not raw.rstrip().endswith(b"]")
        detail = "the last line has no end" if cut else "expected value @[seconds]"
        _reject(notes, line, "truncated" if cut else "bad_line", raw, detail)
    elif not VALUE.fullmatch(match[1]):
        _reject(notes, line, "bad_value", raw, "expected a number")
    elif not abs(float(match[2])) < LATEST_S:
        _reject(notes, line, "bad_ts", raw, f"{match[2]} is not Unix seconds")
    elif series.labels is None:
        _reject(notes, line, "bad_line", raw, "the series of this sample can't be read")
    else:
        notes.rows += 1
        series.values.append(float(match[1]))
        series.times_s.append(float(match[2]))


def _reject(notes: ReadNotes, line: int, reason: str, raw: bytes, detail: str) -> None:
    notes.rows += 1
    shown = raw[: 4 * RAW_CHARACTERS].decode("utf-8", "replace")[:RAW_CHARACTERS]
    notes.rejections.append(Rejection(line, reason, shown, detail, "", ""))
