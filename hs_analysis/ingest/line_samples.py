"""Samples out of lines: what the dump of a TSDB, OpenMetrics and `/metrics` pages have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import LONGEST_RECORD_BYTES, BrokenStreamError, ByteStream
from hs_analysis.ingest.labels import SERIES, BadLabelsError, parse_series
from hs_analysis.ingest.line_runs import Runs, SeriesTexts, find_runs, line_starts, tails
from hs_analysis.ingest.numbers import DECIMAL, VALUE, bulk_numbers
from hs_analysis.ingest.raw import (
    LATEST_S,
    RAW_CHARACTERS,
    SERIES_CHARACTERS,
    RawSeries,
    ReadNotes,
    Rejection,
    flagged,
)

GATHER_ROWS = 1 << 19
"""Samples gathered before they are handed on by series: files that are sorted by time hold few of one series
in a row."""

EARLIEST_S = 1_420_070_400.0
"""Metrics from before 2015 are more likely times in another unit."""

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
class _Samples:
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


class _Reader:
    """One file on its way through: series met, samples gathered, and where it is."""

    def __init__(self, syntax: Syntax, notes: ReadNotes) -> None:
        self._syntax = syntax
        self._notes = notes
        self._known = SeriesTexts()
        self._labels: list[dict[str, str] | BadLabelsError | None] = []
        self._first_lines: list[int] = []
        self._gathered = _Samples()
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
        self._gathered = _Samples()
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
                line, reason, raw[: 4 * RAW_CHARACTERS].decode("utf-8", "replace")[:RAW_CHARACTERS], detail,
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
    reader = _Reader(syntax, notes)
    try:
        stream.skip_mark()
        for block in stream.lines():
            yield from reader.take(block)
    except BrokenStreamError as broken:
        raise InputError(f"{broken.what} at byte {broken.offset}", where=where, hint=broken.hint) from broken
    yield from reader.rest()
    if stream.damage:
        notes.warnings.append(
            f"truncated: {stream.damage} after byte {stream.offset}; whole lines up to there are kept"
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
    told = f"the first time {stamp:.0f} is {datetime.fromtimestamp(first_s, UTC):%Y-%m-%d}"
    if not EARLIEST_S <= other_s < LATEST_S:
        return told
    return f"{told}; as {other} it would be {datetime.fromtimestamp(other_s, UTC):%Y-%m-%d}"
