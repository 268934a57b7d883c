"""Text files in blocks of numbered lines, and the series and numbers that lines hold.

A dump repeats the whole series on every line, and neighbouring lines mostly repeat the line before. So the
series is read once, the lines that begin with the very same bytes are counted, and what stands behind the
series on all lines of a block is cut out in one go.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise, repeat
from operator import indexOf
from typing import Any

import numpy as np

from hs_analysis.errors import InputError
from hs_analysis.ingest.rows import (
    LATEST_S,
    RAW_CHARACTERS,
    SERIES_CHARACTERS,
    Dump,
    RawSeries,
    ReadNotes,
    Rejection,
    flagged,
)
from hs_analysis.ingest.streams import BOM, LONGEST_RECORD_BYTES, BrokenStreamError, ByteStream, damaged_after
from hs_analysis.ingest.timestamps import EARLIEST_S


@dataclass(frozen=True)
class LineBlock:
    """Whole lines of a file.

    ``number`` is the first line's, from 1; ``lines`` come without their ends. ``last`` says that the file
    ends here.
    """

    number: int
    lines: list[bytes]
    last: bool


def line_blocks(dump: Dump, notes: ReadNotes) -> Iterator[LineBlock]:
    """Yield the lines of a file; a byte order mark and the ends of lines are taken off.

    An archive that is cut or damaged gives the whole lines before the damage: the rest of its last line is
    set aside with reason ``truncated``, and a warning says so.

    Raises
    ------
    InputError
        When the file can't be opened, or a line never ends.
    """
    number, rest = 1, b""
    with dump.stream() as stream:
        try:
            for read in stream.lines():
                if number == 1:
                    _note_oddities(read, notes)
                block = read.removeprefix(BOM) if number == 1 else read
                if not block.endswith(b"\n"):
                    rest = block
                    break
                lines = block[:-1].split(b"\n")
                yield LineBlock(number, _ended(lines), last=False)
                number += len(lines)
        except BrokenStreamError as broken:
            raise InputError(broken.text, where=dump.where, hint=broken.hint) from broken
        yield LineBlock(number, _remainder(stream, rest, number, notes), last=True)


def _note_oddities(block: bytes, notes: ReadNotes) -> None:
    """Note what the first bytes have that other programs stumble over; it is left out here."""
    if block.startswith(BOM):
        notes.infos.append("begins with a byte order mark, which is left out")
    if block.partition(b"\n")[0].endswith(b"\r"):
        notes.infos.append("lines end in CR LF, which is left out")


def _remainder(stream: ByteStream, rest: bytes, number: int, notes: ReadNotes) -> list[bytes]:
    """Return the last line, which has no end; in a damaged archive it is cut and set aside."""
    if not stream.damage:
        return _ended([rest]) if rest else []
    notes.warnings.append(
        f"{stream.damage} after line {number}: what follows is missing; copy the file again"
    )
    if rest:
        notes.rows += 1
        notes.rejections.append(
            Rejection(number, "truncated", as_text(rest), "the line is cut by the end of the archive", "", "")
        )
    return []


def _ended(lines: list[bytes]) -> list[bytes]:
    return [line.rstrip(b"\r") for line in lines]


def as_text(raw: bytes) -> str:
    """Return bytes as text for the rejected table, at most RAW_CHARACTERS of it."""
    return raw[: 4 * RAW_CHARACTERS].decode("utf-8", "replace")[:RAW_CHARACTERS]


def reject_line(number: int, line: bytes, reason: str, detail: str, notes: ReadNotes) -> None:
    """Count a line and set it aside."""
    notes.rows += 1
    notes.rejections.append(Rejection(number, reason, as_text(line), detail, "", ""))


_QUOTED = rb'"(?:[^"\\\n]++|\\.)*+"'
_NAME = rb"[a-zA-Z_:\x80-\xff][a-zA-Z0-9_:.\x80-\xff]*"
SERIES = re.compile(rb"(?:" + _NAME + rb")?\{(?:[^\"}\n]++|" + _QUOTED + rb")*+\}|" + _NAME)
"""A series at the start of a line. A brace or blank inside a quoted value does not end it."""

_PAIR = re.compile(rb"[ \t,]*(?:(" + _NAME + rb")|(" + _QUOTED + rb"))[ \t]*(?:=[ \t]*(" + _QUOTED + rb"))?")

GO_ESCAPES = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
    b"\\": b"\\", b'"': b'"', b"'": b"'",
}  # fmt: skip
_GO_ESCAPE = re.compile(
    rb"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|([abfnrtv\\\"']))"
)

OPENMETRICS_ESCAPES = {b"n": b"\n", b"\\": b"\\", b'"': b'"'}
_OPENMETRICS_ESCAPE = re.compile(rb"\\([n\\\"])")


class BadLabelsError(Exception):
    """Labels that can't be read: ``reason`` is a code of the rejected table, the message what is wrong."""

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        super().__init__(what)


def go_unquoted(raw: bytes) -> bytes:
    """Undo what Go's ``%q`` did, as ``promtool tsdb dump`` prints labels."""
    return _GO_ESCAPE.sub(_go_character, raw) if b"\\" in raw else raw


def _go_character(match: re.Match[bytes]) -> bytes:
    byte, short, long, octal, letter = match.groups()
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8) & 0xFF])
    if letter:
        return GO_ESCAPES[letter]
    try:
        return chr(int(short or long, 16)).encode("utf-8")
    except (ValueError, OverflowError):  # half a surrogate pair or no code point
        raise BadLabelsError("bad_utf8", "a label holds an escape that is no character") from None


def openmetrics_unquoted(raw: bytes) -> bytes:
    r"""Undo the escapes of the exposition formats, ``\n``, ``\"`` and ``\\``; others stand for themselves."""
    if b"\\" not in raw:
        return raw
    return _OPENMETRICS_ESCAPE.sub(lambda match: OPENMETRICS_ESCAPES[match[1]], raw)


def parse_series(raw: bytes, *, go_escapes: bool) -> dict[str, str]:
    """Return the labels of a series text with ``__name__`` where it has a name.

    Parameters
    ----------
    raw
        ``name{label="value", …}``, ``{__name__="name", …}``, ``{"name with dots", …}`` or a bare name.
    go_escapes
        Whether values are quoted as Go does (dumps of promtool) or with the three escapes of OpenMetrics.

    Raises
    ------
    BadLabelsError
        When a label has no value, stands twice, or is no UTF-8.
    """
    unquoted = go_unquoted if go_escapes else openmetrics_unquoted
    name, brace, inner = raw.partition(b"{")
    labels = {"__name__": _text(name)} if name else {}
    if not brace:
        return labels
    inner = inner[:-1]
    end = 0
    for match in _PAIR.finditer(inner):
        if match.start() != end:
            break
        end = match.end()
        plain, quoted, value = match.groups()
        key = plain or unquoted(quoted[1:-1])
        if value is None:
            if plain or "__name__" in labels:
                raise BadLabelsError("bad_line", f"label {_text(key)!r} has no value")
            key, value = b"__name__", quoted
        text = _text(key)
        if text in labels:
            raise BadLabelsError("bad_line", f"label {text!r} is given twice")
        labels[text] = _text(unquoted(value[1:-1]))
    if inner[end:].strip(b" \t,"):
        raise BadLabelsError("bad_line", 'expected label="value" pairs')
    return {key: value for key, value in labels.items() if value}  # an empty label is none


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadLabelsError("bad_utf8", "labels are not UTF-8") from None


@dataclass
class Runs:
    """The runs of a block, in order: neighbouring lines of one series.

    Attributes
    ----------
    series
        Number of the series of each run.
    lines
        First line of each run, counted from 0 in the block.
    counts
        Lines of each run.
    skips
        Bytes before the numbers on each of its lines.
    """

    series: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    skips: list[int] = field(default_factory=list)


@dataclass
class SeriesTexts:
    """Number of each series text met so far."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    texts: list[bytes] = field(default_factory=list)

    def number(self, text: bytes) -> int:
        """Return the number of a text, a new one when it was not met before."""
        found = self.numbers.setdefault(text, len(self.texts))
        if found == len(self.texts):
            self.texts.append(text)
        return found


def line_starts(block: bytes) -> np.ndarray:
    """Return where each line of a block begins, and at last where the block ends; int64."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    return np.concatenate([np.zeros(1, np.int64), ends])


def find_runs(
    block: bytes, starts: np.ndarray, known: SeriesTexts, fields: int, other: Callable[[int, bytes], None]
) -> Runs:
    """Return the runs of a block of whole lines.

    Parameters
    ----------
    block
        Lines, each with its newline.
    starts
        Its ``line_starts``.
    known
        Series texts; new ones are added.
    fields
        Numbers that usually follow the series: a guess that saves work, not a rule.
    other
        Takes the number (from 0) and bytes of lines that do not begin with a series: comments, and what is no
        sample.
    """
    runs = Runs()
    begins: list[int] = starts.tolist()
    line, last = 0, len(begins) - 1
    while line < last:
        at, end = begins[line], begins[line + 1] - 1
        text = block[at:end].rsplit(b" ", fields)[0]
        if text not in known.numbers or len(text) == end - at:
            match = SERIES.match(block, at, end)
            if match is None or block[match.end() : match.end() + 1] not in (b" ", b"\t"):
                other(line, block[at:end])
                line += 1
                continue
            text = match.group()
        prefix = block[at : at + len(text) + 1]
        # nothing begins where the block ends, so there is always a line that does not go on
        count = 1 + indexOf(map(block.startswith, repeat(prefix), islice(begins, line + 1, None)), False)
        runs.series.append(known.number(text))
        runs.lines.append(line)
        runs.counts.append(count)
        runs.skips.append(len(prefix))
        line += count
    return runs


def tails(block: bytes, starts: np.ndarray, runs: Runs) -> tuple[bytes, np.ndarray]:
    """Return what follows the series on every line of the runs, newlines with it, and where each run begins.

    Returns
    -------
    The text, and the offsets of the runs in it with its length at last; int64, shape (runs + 1,).
    """
    counts = np.array(runs.counts, np.int64)
    firsts = np.array(runs.lines, np.int64)
    done = np.cumsum(counts) - counts
    lines = np.arange(counts.sum()) + np.repeat(firsts - done, counts)
    begins = starts[lines] + np.repeat(np.array(runs.skips, np.int64), counts)
    lengths = starts[lines + 1] - begins
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) + np.repeat(begins - (ends - lengths), lengths)
    text = np.frombuffer(block, np.uint8).take(places).tobytes()
    return text, np.concatenate([(ends - lengths)[done], ends[-1:]])


_new_parser: Any = None

try:
    import simdjson
except ImportError:  # a platform without the wheel: slower, same numbers
    pass
else:
    _new_parser = simdjson.Parser

PLACEHOLDERS = (
    (b"+Inf", b"-1.5e308", np.inf),
    (b"-Inf", b"-1.25e308", -np.inf),
    (b"NaN", b"-1.125e308", np.nan),
)
"""What is no JSON number is parsed as one that no metric holds, and put back; a text that holds such a
number itself is told by there being more of it than was replaced, and read the slow way."""

DECIMAL = r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?"
"""Possessive: digits before something else are not tried in every split."""

VALUE = re.compile(rf"\s*(?:{DECIMAL}|[+-]?inf(?:inity)?|[+-]?nan)\s*", re.IGNORECASE)
"""A sample's value as exporters and servers write it."""


_EMPTY_FIELD = re.compile(rb"(?:\A|,)\s*(?:,|\Z)")

PIECE_BYTES = 8 << 20
"""Text parsed at once: a parser's own memory is many times that."""


def bulk_numbers(text: bytes) -> np.ndarray | None:
    """Return the numbers of a comma-separated text in order, float64, shape (n,).

    None when any field is no number, or is empty: then the text must be read field by field. ``NaN``,
    ``+Inf`` and ``-Inf`` are numbers here.
    """
    if not text.strip():
        return np.empty(0)
    if len(text) <= PIECE_BYTES:
        return _piece(text)
    parts, at = list[np.ndarray](), 0
    while at <= len(text):
        end = text.find(b",", at + PIECE_BYTES)
        piece = text[at : end if end >= 0 else len(text)]
        part = _piece(piece) if piece.strip() else None
        if part is None:
            return None
        parts.append(part)
        at += len(piece) + 1
    return np.concatenate(parts)


def _piece(text: bytes) -> np.ndarray | None:
    parsed = _by_simdjson(text) if _new_parser is not None else None
    return parsed if parsed is not None else _by_numpy(text)


def _by_simdjson(text: bytes) -> np.ndarray | None:
    replaced: list[tuple[float, float, int]] = []
    if b"N" in text or b"I" in text:
        for word, stand_in, meaning in PLACEHOLDERS:
            if count := text.count(word):
                text = text.replace(word, stand_in)
                replaced.append((float(stand_in), meaning, count))
    try:
        numbers = np.frombuffer(_new_parser().parse(b"[" + text + b"]").as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):  # RuntimeError: an integer of more than 64 bits
        return None
    if not replaced:
        return numbers
    numbers = numbers.copy()
    for stand_in_value, meaning, count in replaced:
        where = numbers == stand_in_value
        if np.count_nonzero(where) != count:
            return None
        numbers[where] = meaning
    return numbers


def _by_numpy(text: bytes) -> np.ndarray | None:
    """Read with numpy, which takes more spellings than JSON has and is as exact."""
    if _EMPTY_FIELD.search(text):  # numpy would make up a number
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text.decode("ascii"), sep=",")
        except (DeprecationWarning, ValueError):
            return None


GATHER_ROWS = 1 << 19
"""Samples gathered before they are handed on by series: files that are sorted by time hold few of one series
in a row."""

HEAD_LINES = 20
"""Lines of a file's beginning that tell its format."""

_NOT_BETWEEN = bytes(set(range(256)) - set(b" \n"))
_TO_COMMAS = bytes.maketrans(b" \n", b",,")
_TIME = re.compile(DECIMAL)


def sample_tails(head: bytes) -> list[bytes]:
    """Return what follows the series on the first lines of a file that begin with one, comments left out.

    Empty when fewer than half of the lines do: then it is some other text.
    """
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")]
    lines = [line for line in lines if line.strip() and line[:1] != b"#"][:HEAD_LINES]
    matches = [(line, SERIES.match(line)) for line in lines]
    found = [line[match.end() :] for line, match in matches if match]
    tails_found = [tail.strip() for tail in found if tail[:1] in (b" ", b"\t")]
    return tails_found if 2 * len(tails_found) >= len(lines) else []


@dataclass(frozen=True)
class Syntax:
    """How the lines of a format differ.

    Attributes
    ----------
    go_escapes
        Whether label values are quoted as Go does.
    per_second
        Units of a time in one second; 1 or 1000.
    page_s
        Time of samples that carry none [s since 1970]; None = they must carry one.
    timed
        Whether lines usually carry a time: a guess that saves work.
    comment
        Takes lines that begin with ``#``.
    dropped
        Whether a metric is no sample of its own, given its name.
    """

    go_escapes: bool
    per_second: int
    page_s: float | None = None
    timed: bool = True
    comment: Callable[[bytes], None] = lambda _line: None
    dropped: Callable[[str], bool] = lambda _metric: False


@dataclass
class _SampleRows:
    """Samples of many series, in file order."""

    series: list[np.ndarray] = field(default_factory=list)
    t_us: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    rows: int = 0

    def add(self, series: np.ndarray, t_us: np.ndarray, values: np.ndarray) -> None:
        self.series.append(series)
        self.t_us.append(t_us)
        self.values.append(values)
        self.rows += values.size


class _LineReader:
    """One file on its way through: series met, samples gathered, and where it is."""

    def __init__(self, syntax: Syntax, notes: ReadNotes) -> None:
        self._syntax = syntax
        self._notes = notes
        self._known = SeriesTexts()
        self._labels: list[dict[str, str] | BadLabelsError | None] = []
        self._first_lines: list[int] = []
        self._gathered = _SampleRows()
        self._line = 1
        self.dropped = 0
        self.first_s: float | None = None

    def take(self, block: bytes) -> Iterator[RawSeries]:
        """Read a block of whole lines; yield what has been gathered when it is much."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if not block.endswith(b"\n"):
            if block.lstrip()[:1] != b"#":
                self._reject(self._line, "truncated", block, "the last line has no end", b"")
                return
            block += b"\n"
        starts = line_starts(block)
        if np.diff(starts).max(initial=0) > LONGEST_RECORD_BYTES:
            block = self._without_long(block)
            starts = line_starts(block)
        runs = find_runs(block, starts, self._known, 1 + self._syntax.timed, self._other_line)
        self._learn(runs)
        if runs.series:
            self._sample(runs, *tails(block, starts, runs))
        self._line += starts.size - 1
        if self._gathered.rows >= GATHER_ROWS:
            yield from self.rest()

    def rest(self) -> Iterator[RawSeries]:
        """Yield what is gathered, a piece per series, and forget it."""
        if not self._gathered.rows:
            return
        series = np.concatenate(self._gathered.series)
        t_us = np.concatenate(self._gathered.t_us)
        values, flags = flagged(np.concatenate(self._gathered.values))
        self._gathered = _SampleRows()
        if np.any(series[1:] < series[:-1]):
            order = np.argsort(series, kind="stable")
            series, t_us, values, flags = series[order], t_us[order], values[order], flags[order]
        edges = [0, *(np.flatnonzero(np.diff(series)) + 1).tolist(), series.size]
        for low, high in pairwise(edges):
            number = int(series[low])
            labels = self._labels[number]
            assert isinstance(labels, dict)  # noqa: S101 - samples of others were never gathered
            yield RawSeries(
                labels, t_us[low:high], values[low:high], flags[low:high], self._first_lines[number]
            )

    def _without_long(self, block: bytes) -> bytes:
        """Set lines aside that are too long for a sample; a blank line keeps their place."""
        lines = block.split(b"\n")
        for number, line in enumerate(lines):
            if len(line) > LONGEST_RECORD_BYTES:
                detail = f"a line of more than {LONGEST_RECORD_BYTES} bytes"
                self._reject(self._line + number, "bad_line", line, detail, b"")
                lines[number] = b""
        return b"\n".join(lines)

    def _other_line(self, line: int, text: bytes) -> None:
        text = text.strip()
        if text[:1] == b"#":
            self._syntax.comment(text)
        elif text:
            self._reject(self._line + line, "bad_line", text, "expected a series, a value and a time", b"")

    def _learn(self, runs: Runs) -> None:
        """Read the labels of series met for the first time."""
        for number in range(len(self._labels), len(self._known.texts)):
            self._first_lines.append(self._line + runs.lines[runs.series.index(number)])
            try:
                labels = parse_series(self._known.texts[number], go_escapes=self._syntax.go_escapes)
            except BadLabelsError as error:
                self._labels.append(error)
                continue
            self._labels.append(None if self._syntax.dropped(labels.get("__name__", "")) else labels)

    def _sample(self, runs: Runs, tail: bytes, edges: np.ndarray) -> None:
        """Read the numbers of a block: all at once, else run by run, else line by line."""
        series, counts = np.array(runs.series), np.array(runs.counts)
        if all(isinstance(self._labels[number], dict) for number in set(runs.series)) and self._in_bulk(
            np.repeat(series, counts), tail
        ):
            return
        for number, line, count, low, high in zip(
            runs.series, runs.lines, runs.counts, edges[:-1].tolist(), edges[1:].tolist(), strict=True
        ):
            one = tail[low:high]
            if self._is_kept(number, self._line + line, count, one) and not self._in_bulk(
                np.full(count, number), one
            ):
                self._line_by_line(number, self._line + line, one)

    def _is_kept(self, series: int, line: int, count: int, tail: bytes) -> bool:
        labels = self._labels[series]
        if isinstance(labels, dict):
            return True
        if labels is None:
            self.dropped += count
            return False
        text = self._known.texts[series]
        for number, one in enumerate(tail.split(b"\n")[:-1], line):
            self._reject(number, labels.reason, text + b" " + one, str(labels), text)
        return False

    def _in_bulk(self, series: np.ndarray, tail: bytes) -> bool:
        """Read clean lines, all with a time or all without; False when there is anything else."""
        between = tail.translate(None, _NOT_BETWEEN)
        timed = between == b" \n" * series.size
        if not timed and (between != b"\n" * series.size or self._syntax.page_s is None):
            return False
        numbers = bulk_numbers(tail.translate(_TO_COMMAS)[:-1])
        if numbers is None or numbers.size != (1 + timed) * series.size:
            return False
        if not timed:
            self._gather(series, np.full(series.size, self._syntax.page_s), numbers)
            return True
        times = numbers[1::2] / self._syntax.per_second
        if not np.all(np.abs(times) < LATEST_S):
            return False
        self._gather(series, times, numbers[0::2])
        return True

    def _gather(self, series: np.ndarray, times_s: np.ndarray, values: np.ndarray) -> None:
        if self.first_s is None and times_s.size:
            self.first_s = float(times_s[0])
        self._notes.rows += series.size
        self._gathered.add(series, np.round(times_s * 1e6).astype(np.int64), values)

    def _line_by_line(self, series: int, first_line: int, tail: bytes) -> None:
        times, values = [], []
        for line, raw in enumerate(tail.split(b"\n")[:-1], first_line):
            try:
                time_s, value = _one_line(raw.decode("utf-8", "replace"), self._syntax)
            except ValueError as error:
                reason, detail = str(error).split(": ", 1)
                text = self._known.texts[series]
                self._reject(line, reason, text + b" " + raw, detail, text)
            else:
                times.append(time_s)
                values.append(value)
        self._gather(np.full(len(times), series), np.array(times, np.float64), np.array(values, np.float64))

    def _reject(self, line: int, reason: str, raw: bytes, detail: str, series: bytes) -> None:
        self._notes.rows += 1
        self._notes.rejections.append(
            Rejection(
                line, reason, as_text(raw), detail,
                "", series[: 4 * SERIES_CHARACTERS].decode("utf-8", "replace")[:SERIES_CHARACTERS],
            )
        )  # fmt: skip


def _one_line(tail: str, syntax: Syntax) -> tuple[float, float]:
    """Read one ``value [time]``; the error's text is ``reason: what was expected``."""
    tail = tail.strip()
    if tail.startswith("{"):
        raise ValueError("native_histogram: native histograms are not read")
    fields = tail.partition(" # ")[0].split()  # an exemplar stands behind the sample
    if len(fields) not in (1, 2):
        raise ValueError("bad_line: expected a value and a time")
    if not VALUE.fullmatch(fields[0]):
        raise ValueError("bad_value: expected a number")
    value = float(fields[0])
    if len(fields) == 1:
        if syntax.page_s is None:
            raise ValueError("bad_ts: the sample carries no time")
        return syntax.page_s, value
    if not _TIME.fullmatch(fields[1]):
        raise ValueError("bad_ts: expected a Unix time")
    time_s = float(fields[1]) / syntax.per_second
    if not abs(time_s) < LATEST_S:
        unit = "seconds" if syntax.per_second == 1 else "milliseconds"
        raise ValueError(f"bad_ts: {fields[1]} is not Unix {unit}")
    return time_s, value


def read_lines(stream: ByteStream, where: str, syntax: Syntax, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of a stream of lines, in pieces of one series each.

    ``offset`` of a piece is the first line of its series, and so is the ``position`` of a rejection. A stream
    that is cut keeps its whole lines; the warning says so.

    Raises
    ------
    InputError
        When a line never ends.
    """
    reader = _LineReader(syntax, notes)
    try:
        stream.skip_mark()
        for block in stream.lines():
            yield from reader.take(block)
    except BrokenStreamError as broken:
        raise InputError(broken.text, where=where, hint=broken.hint) from broken
    yield from reader.rest()
    if stream.damage:
        notes.warnings.append(
            f"truncated: {damaged_after(stream.damage, stream.offset)}; whole lines up to there are kept"
        )
    if reader.dropped:
        notes.infos.append(f"{reader.dropped} lines say when a counter was created; they are no samples")
    if reader.first_s is not None and reader.first_s < EARLIEST_S:
        notes.warnings.append(_early(reader.first_s, syntax))


def _early(first_s: float, syntax: Syntax) -> str:
    """Return the warning for times before 2015, read both ways."""
    stamp = first_s * syntax.per_second
    other = "seconds" if syntax.per_second != 1 else "milliseconds"
    other_s = stamp if syntax.per_second != 1 else stamp / 1000
    reading = f"the first time {stamp:.0f} is {datetime.fromtimestamp(first_s, UTC):%Y-%m-%d}"
    if not EARLIEST_S <= other_s < LATEST_S:
        return reading
    return f"{reading}; as {other} it would be {datetime.fromtimestamp(other_s, UTC):%Y-%m-%d}"
