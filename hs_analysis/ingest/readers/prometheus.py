"""Readers of Prometheus text and answers: `/metrics` pages, OpenMetrics, API answers, `promtool query`.

The body is scanned, never held: memory is one block and one series. Numbers are parsed in bulk; a series
whose numbers do not parse cleanly is read again value by value, so that each bad sample is quarantined with
its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from hs_analysis.errors import InputError
from hs_analysis.ingest.json_records import decode_json, require_few
from hs_analysis.ingest.rows import (
    FLAGS,
    LATEST_S,
    RAW_CHARACTERS,
    SERIES_CHARACTERS,
    Dump,
    RawSeries,
    ReadNotes,
    Rejection,
    flagged,
    series_text,
    short_text,
)
from hs_analysis.ingest.streams import (
    LARGEST_VALUE_BYTES,
    LINE_BLOCK_BYTES,
    LONGEST_RECORD_BYTES,
    BrokenStreamError,
    ByteStream,
    damaged_after,
)
from hs_analysis.ingest.text_lines import (
    DECIMAL,
    SERIES,
    VALUE,
    BadLabelsError,
    Syntax,
    as_text,
    bulk_numbers,
    openmetrics_unquoted,
    parse_series,
    read_lines,
    reject_line,
    sample_tails,
)
from hs_analysis.ingest.timestamps import EARLIEST_S
from hs_analysis.schema.settings import Reading

SAMPLED_TYPES = ("counter", "histogram", "summary")
"""Types whose `_created` line says when the counting began."""

MOST_TEXT_BYTES = 1 << 12
"""What is kept of a HELP text."""

_TIMED = re.compile(rf"\S+[ \t]+({DECIMAL})(?:[ \t]+#.*)?".encode())
_DECLARATION = re.compile(rb"#[ \t]+(TYPE|HELP|UNIT)[ \t]+(\S+)[ \t]*(.*)", re.DOTALL)


@dataclass
class Declarations:
    """What the comment lines of a file declare; fills the notes of the reader."""

    notes: ReadNotes
    ended: bool = False

    def comment(self, line: bytes) -> None:
        """Take one line that begins with ``#``."""
        if line.split() == [b"#", b"EOF"]:
            self.ended = True
            return
        match = _DECLARATION.match(line)
        if match is None:
            return
        self.ended = False  # another document follows in the same file
        name, text = match[2].decode("utf-8", "replace"), match[3].strip()
        if match[1] == b"TYPE":
            self.notes.types[name] = text[:MOST_TEXT_BYTES].decode("utf-8", "replace").lower()
        elif match[1] == b"HELP":
            self.notes.helps[name] = openmetrics_unquoted(text[:MOST_TEXT_BYTES]).decode("utf-8", "replace")

    def is_creation(self, metric: str) -> bool:
        """Return whether a metric only says when a declared counter was created."""
        if not metric.endswith("_created"):
            return False
        family = metric.removesuffix("_created")
        declared = self.notes.types.get(family) or self.notes.types.get(f"{family}_total")
        return declared in SAMPLED_TYPES


def is_openmetrics(head: bytes) -> bool:
    """Return whether a file begins with samples that carry Unix seconds."""
    if head[:1] == b"{":  # a dump's times are milliseconds
        return False
    times = [match[1] for tail in sample_tails(head) if (match := _TIMED.fullmatch(tail))]
    return any(EARLIEST_S <= float(time) < LATEST_S for time in times)


def read_openmetrics(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of ``name{label="value"} value time_s`` lines.

    Exemplars are passed over; samples without a time are rejected (``bad_ts``). Lines that say when a
    declared counter was created (``_created``) are no samples and no rows: their number is an info. A file
    that does not end with ``# EOF`` keeps its rows, with a warning.

    Raises
    ------
    InputError
        When a line never ends.
    """
    declared = Declarations(notes)
    syntax = Syntax(go_escapes=False, per_second=1, comment=declared.comment, dropped=declared.is_creation)
    with dump.stream(LINE_BLOCK_BYTES) as stream:
        yield from read_lines(stream, dump.where, syntax, notes)
        if not declared.ended and not stream.damage:
            notes.warnings.append("truncated: the file does not end with # EOF; export it again")


_STAMP = re.compile(
    r"(?<!\d)(?:(\d{4})-?(\d\d)-?(\d\d)[T_\- ]?(\d\d)[:\-_]?(\d\d)[:\-_]?(\d\d)(Z?)"
    r"|(1\d{9})(\d{3})?)(?!\d)"
)
"""A time in a file's name: 20261124T100000Z, 2026-11-24T10-00-00Z, or Unix seconds or milliseconds."""

_ENDINGS = re.compile(r"(\.(gz|zst|prom|txt|metrics|om))+$", re.IGNORECASE)
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|.*:\d+")
_GUESS = "when the file was last changed: put the time into its name to be sure"
_DECLARED = re.compile(rb"^#[ \t]+(TYPE|HELP)[ \t]", re.MULTILINE)
_TAIL = re.compile(rb"(\S+)(?:[ \t]+-?\d+)?(?:[ \t]+#.*)?")


def is_exposition(head: bytes) -> bool:
    """Return whether a file begins as a `/metrics` page: declared types or labels, and values."""
    if head[:1] == b"{":
        return False
    tails = [match[1] for tail in sample_tails(head) if (match := _TAIL.fullmatch(tail))]
    values = [tail for tail in tails if VALUE.fullmatch(tail.decode("latin-1"))]
    return bool(values) and bool(_DECLARED.search(head) or b"{" in head)


def read_exposition(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of a page, at the time in the file's name, else when the file was last changed.

    Samples that carry a time in milliseconds, as `/federate` gives them, keep it. A series without the label
    ``instance`` gets the file's name without time and ending.

    Raises
    ------
    InputError
        When a line never ends.
    """
    known = stamp_of(dump.name, dump.reading)
    notes.is_time_guessed = known is None
    taken_s, how = known or (dump.path.stat().st_mtime, _GUESS)
    instance = instance_of(dump.name)
    declared = Declarations(notes)
    syntax = Syntax(
        go_escapes=False, per_second=1000, page_s=taken_s, timed=False,
        comment=declared.comment, dropped=declared.is_creation,
    )  # fmt: skip
    named = False
    with dump.stream(LINE_BLOCK_BYTES) as stream:
        for series in read_lines(stream, dump.where, syntax, notes):
            if "instance" not in series.labels:
                series.labels = {**series.labels, "instance": instance}
                named = True
            yield series
    moment = datetime.fromtimestamp(taken_s, UTC)
    notes.infos.append(f"a page of {moment:%Y-%m-%d %H:%M:%S} UTC ({how})")
    if named:
        notes.infos.append(f"series without an instance are named after the file: {instance}")


def stamp_of(name: str, reading: Reading) -> tuple[float, str] | None:
    """Return the time in a file's name [s since 1970] and how it was read, None when there is none."""
    for match in reversed(list(_STAMP.finditer(PurePosixPath(name).name))):
        *parts, zulu, seconds, milliseconds = match.groups()
        if seconds:
            return float(f"{seconds}.{milliseconds or 0}"), "Unix time in the file's name"
        zone = UTC if zulu or not reading.tz else ZoneInfo(reading.tz)
        said = "UTC" if zulu else (reading.tz or "taken as UTC")
        try:
            moment = datetime(*(int(part) for part in parts), tzinfo=zone)  # type: ignore[misc, arg-type]
        except ValueError:  # digits that are no date
            continue
        return moment.timestamp(), f"time in the file's name, {said}"
    return None


def instance_of(name: str) -> str:
    """Return the target a page is of: its file name without time and endings, else its folder's name."""
    path = PurePosixPath(name)
    stem = _STAMP.sub("", _ENDINGS.sub("", path.name)).strip("._- ")
    if not stem:
        return path.parent.name or "page"
    return stem if _ADDRESS.fullmatch(stem) else stem.partition(".")[0]


MATRIX_TYPES = ("matrix", "vector")

ENVELOPE_KEYS = ("status", "errorType", "error", "warnings", "infos", "isPartial", "resultType")
"""Keys of an envelope, and of its ``data``, beside the result."""

PART_BYTES = 16 << 20
"""A longer list of samples is parsed in parts: beside the text, parsing takes several times its bytes."""

MOST_TEXTS = 20
"""Warnings and infos of one answer that are passed on; Thanos writes one a store it can't reach."""

_PAIR = re.compile(rb"\[[^\[\]]*\]")
_PARTS = re.compile(r'\[\s*([^\s,"]+)\s*,\s*(?:"([^"]*)"|([^\s,"]+))\s*\]')
_TIME = re.compile(DECIMAL)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[],"'))


def read_prometheus_json(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of every API answer in a file, keys in any order.

    Parameters
    ----------
    dump
        The file.
    notes
        Filled while reading: rows read, rejections, the server's warnings and infos.

    Raises
    ------
    InputError
        When the answer is an error envelope, is cut or no JSON, has another result type, or its times are
        not seconds. Messages give the byte.
    """
    with dump.stream() as stream:
        called = query_of(dump.name, dump.reading)
        yield from read_answers(stream, dump.where, notes, salvage=dump.reading.salvage, called=called)


def query_of(name: str, reading: Reading) -> str | None:
    """Return the PromQL that a file answers, or the name its series are to have; None when nobody says.

    ``name`` is the file's name below the input; a pattern may be on all of it or on its last part.
    """
    tried = (name, name.rpartition("/")[2])
    hits = (text for like, text in reading.queries.items() if any(fnmatchcase(n, like) for n in tried))
    return next(hits, None)


def read_answers(
    stream: ByteStream, where: str, notes: ReadNotes, *, salvage: bool = False, called: str | None = None
) -> Iterator[RawSeries]:
    """Yield the series of every API answer in a stream; errors name ``where`` and the byte."""

    def document() -> Iterator[RawSeries]:
        return _read_document(stream, where, notes)

    yield from read_documents(stream, where, notes, document, salvage, called)


def read_documents(
    stream: ByteStream,
    where: str,
    notes: ReadNotes,
    document: Callable[[], Iterator[RawSeries]],
    salvage: bool,
    called: str | None = None,
) -> Iterator[RawSeries]:
    """Yield the series of every document in a stream; those without a name are called as ``called``.

    A stream that ends in the middle of one is an error that names the last complete series. With ``salvage``
    the complete ones are kept and the place of the cut is a rejected row.

    Raises
    ------
    InputError
        When the stream is cut, or no JSON of the expected shape.
    """
    nameless = answers = empty = 0
    try:
        stream.skip_mark()
        while stream.peek():
            at, some = stream.offset, False
            for series in document():
                if "__name__" not in series.labels:
                    nameless += 1
                    series.labels |= {"__name__": called} if called else {}
                notes.last_t_us = int(series.t_us[-1])
                some = True
                yield series
            answers, empty = answers + 1, empty + (not some)
            require_few(empty, answers, "answers", at)
            stream.skip_mark()
    except BrokenStreamError as broken:
        what = f"{broken.text}{_counting_on(notes)}"
        if not (salvage and broken.is_end and notes.last_series):
            or_else = ", or keep the complete series with --salvage" if broken.is_end and not salvage else ""
            what += "; no series before it is complete" if broken.is_end and salvage else ""
            raise InputError(what, where=where, hint=broken.hint + or_else) from broken
        notes.rows += 1
        notes.rejections.append(Rejection(broken.offset, "truncated", "", what, "", notes.last_series))
        notes.warnings.append(f"truncated: {what}; the complete series before it are kept")
    if nameless and called:
        notes.infos.append(
            f"{nameless} series without a name are called {called}, the query that they answer"
        )
    elif nameless:
        notes.warnings.append(
            f"{nameless} series have no name, because a function or an aggregation took it: export the "
            "metrics themselves, or say what they are: --query FILE=PROMQL, and [metrics] for what that is"
        )


def _counting_on(notes: ReadNotes) -> str:
    if not notes.last_series:
        return ""
    until = ""
    if notes.last_t_us is not None:
        until = f" until {datetime.fromtimestamp(notes.last_t_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f" after series {notes.last_series}{until}"


def _decoded(stream: ByteStream) -> Any:
    """Consume the next value and return it decoded."""
    stream.peek()
    at = stream.offset
    raw = stream.value(small=True)
    try:
        return decode_json(raw)
    except ValueError:
        raise BrokenStreamError("no JSON", at) from None


def _read_document(stream: ByteStream, where: str, notes: ReadNotes) -> Iterator[RawSeries]:
    envelope: dict[str, Any] = {}
    has_result = False
    for key in stream.object_keys():
        if key != "data" or stream.peek() != b"{":
            _take_envelope_key(key, stream, envelope)
            continue
        for inner in stream.object_keys():
            if inner != "result" or stream.peek() != b"[":
                _take_envelope_key(inner, stream, envelope)
                continue
            _require_matrix(envelope, where)
            has_result = True
            yield from read_result(stream, notes, "data.result")
    _require_success(envelope, where)
    _require_matrix(envelope, where)
    if not has_result:
        raise InputError("no data.result in the answer", where=where, hint="export with query_range")
    notes.warnings += _texts(envelope.get("warnings"))
    if envelope.get("isPartial") is True:
        notes.warnings.append("the server marked its answer as partial: some of its storage did not answer")
    notes.infos += _texts(envelope.get("infos"))


def _take_envelope_key(key: str, stream: ByteStream, envelope: dict[str, Any]) -> None:
    """Keep what an envelope says under a key that is read; pass over all others, however much they hold."""
    if key in ENVELOPE_KEYS:
        envelope[key] = _decoded(stream)
    else:
        stream.skip()


def _require_matrix(envelope: dict[str, Any], where: str) -> None:
    kind = envelope.get("resultType", "matrix")
    if kind not in MATRIX_TYPES:
        raise InputError(f"the answer is a {kind}, not a matrix", where=where, hint="export with query_range")


def _require_success(envelope: dict[str, Any], where: str) -> None:
    if envelope.get("status") != "error":
        return
    kind, text = envelope.get("errorType", "error"), str(envelope.get("error", ""))[:160]
    too_many = "maximum resolution" in text
    hint = "export in smaller time ranges" if too_many else "repair the query and export again"
    raise InputError(f"the server answered with an error ({kind}: {text})", where=where, hint=hint)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        return []
    more = [f"and {len(value) - MOST_TEXTS} more of this kind"] if len(value) > MOST_TEXTS else []
    return [str(text)[:SERIES_CHARACTERS] for text in value[:MOST_TEXTS]] + more


def read_result(stream: ByteStream, notes: ReadNotes, path: str) -> Iterator[RawSeries]:
    """Yield the series of a list of ``{metric, values}``; ``path`` is the JSON path of the list."""
    stream.expect(b"[")
    index = empty = 0
    while stream.peek() != b"]":
        at, some = stream.offset, False
        for series in _read_element(stream, notes, f"{path}[{index}]"):
            some = True
            yield series
        index, empty = index + 1, empty + (not some)
        require_few(empty, index, "series", at)
    stream.expect(b"]")


def _read_element(stream: ByteStream, notes: ReadNotes, place: str) -> Iterator[RawSeries]:
    """Read one element of a result, keys in any order; ``place`` is its JSON path."""
    raw_labels, labels_at = b"{}", stream.offset
    bodies: list[tuple[int, bytes]] = []
    histograms_at = -1
    for key in stream.object_keys():
        opening = stream.peek()
        at = stream.offset
        if key == "metric" and opening == b"{":
            raw_labels, labels_at = stream.value(small=True), at
        elif key == "values" and opening == b"[":
            bodies.append((at, stream.pairs()))
        elif key == "value" and opening == b"[":
            bodies.append((at - 1, b"[" + stream.value(small=True) + b"]"))
        else:
            histograms_at = at if key in ("histogram", "histograms") else histograms_at
            stream.skip()
        if len(bodies) > 1 and sum(len(body) for _, body in bodies) > LARGEST_VALUE_BYTES:
            raise BrokenStreamError(f"a series of more than {LARGEST_VALUE_BYTES} bytes", at)
    labels = _labels(raw_labels)
    if isinstance(labels, Rejection):
        labels.position, labels.path = labels_at, f"{place}.metric"
        samples = sum(len(_PAIR.findall(body)) for _, body in bodies)
        labels.detail += f"; all {samples} samples of the series are left out"
        _set_aside(labels, notes)
        return
    notes.last_series = short_text(labels)
    if histograms_at >= 0:
        text = series_text(labels)
        name = (labels.get("__name__") or text)[:RAW_CHARACTERS]
        left_out = "native histograms are not read"
        _set_aside(Rejection(histograms_at, "native_histogram", name, left_out, place, text), notes)
    while bodies:
        samples_before = 0
        for at, part in _parts(*bodies.pop(0)):
            series = _numbers(part, labels, at, notes, place, samples_before)
            samples_before += part.count(b"[") - 1
            if series.t_us.size:
                yield series


def _set_aside(row: Rejection, notes: ReadNotes) -> None:
    notes.rows += 1
    notes.rejections.append(row)


def _parts(at: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut a long list of pairs, so that numbers are parsed in parts; yield the byte and list of each."""
    start = 1
    while len(body) - start > PART_BYTES and (end := body.find(b"]", start + PART_BYTES) + 1) < len(body) - 1:
        yield at + start - 1, b"[" + body[start:end] + b"]"
        start = end
        while body[start : start + 1] in (b",", b" ", b"\n", b"\r", b"\t"):
            start += 1
    yield at + start - 1, body if start == 1 else b"[" + body[start:]


def _labels(raw: bytes) -> dict[str, str] | Rejection:
    """Return the labels, or why they can't be read."""
    raw_text = as_text(raw)
    try:
        found = decode_json(raw)
        labels = {str(key): value if isinstance(value, str) else str(value) for key, value in found.items()}
        for key, value in labels.items():
            (key + value).encode("utf-8")  # half a surrogate pair has no UTF-8 form
    except UnicodeError:
        return Rejection(0, "bad_utf8", raw_text, "labels are not UTF-8", "", raw_text)
    except (ValueError, AttributeError):
        return Rejection(0, "bad_json", raw_text, "labels are no JSON object", "", raw_text)
    return labels


def _numbers(
    body: bytes, labels: dict[str, str], at: int, notes: ReadNotes, place: str, before: int
) -> RawSeries:
    """Parse ``[[t,"v"],…]``: in bulk when clean, else pair by pair; ``before`` pairs stand before these."""
    pairs = body.count(b"[") - 1
    numbers = _in_bulk(body, pairs)
    if numbers is None or numbers.size != 2 * pairs:
        return _pair_by_pair(body, labels, at, notes, place, before)
    times = numbers[0::2]
    if not np.all(np.abs(times) < LATEST_S):
        if np.all(np.abs(times) >= LATEST_S):
            raise _not_seconds(float(times[0]), at)
        return _pair_by_pair(body, labels, at, notes, place, before)
    notes.rows += pairs
    values, flags = flagged(numbers[1::2])
    return RawSeries(labels, _microseconds(times), values, flags, at)


def _microseconds(times: np.ndarray) -> np.ndarray:
    return np.round(times * 1e6).astype(np.int64)


def _in_bulk(body: bytes, pairs: int) -> np.ndarray | None:
    """Return all numbers of a body in order; None when any of it is not ``[number,"number"]``."""
    if body.translate(None, _NOT_STRUCTURE) != b"[" + (b'[,""],' * pairs)[:-1] + b"]":
        return None
    return bulk_numbers(body.translate(None, b'[]"'))


def _not_seconds(stamp: float, at: int) -> BrokenStreamError:
    """Return the error for times in another unit, with the stamp read both ways."""
    for unit, per_second in (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)):
        if abs(stamp) / per_second < LATEST_S:
            read = datetime.fromtimestamp(stamp / per_second, UTC)
            text = f"the time {stamp:.0f} is no Unix seconds; as {unit} it is {read:%Y-%m-%d %H:%M:%S} UTC;"
            return BrokenStreamError(
                text, at, f"an API answer has seconds: divide the times by {per_second:.0f}"
            )
    return BrokenStreamError(f"the time {stamp:g} is no Unix seconds", at)


def _pair_by_pair(
    body: bytes, labels: dict[str, str], at: int, notes: ReadNotes, place: str, before: int
) -> RawSeries:
    times, values, flags = [], [], []
    end = 1

    def reject(position: int, reason: str, raw: bytes, detail: str, number: int) -> None:
        path = f"{place}.values[{before + number}]"
        raw_text = as_text(raw)
        series = series_text(labels)[:SERIES_CHARACTERS]
        notes.rejections.append(Rejection(at + position, reason, raw_text, detail, path, series))

    for number, match in enumerate(_PAIR.finditer(body, 1)):
        between = body[end : match.start()].strip(b" \t\r\n,")
        if between:
            notes.rows += 1
            reject(end, "bad_json", between, 'expected [seconds, "value"]', number)
        end = match.end()
        notes.rows += 1
        try:
            t, value, flag = _one_pair(match.group())
        except ValueError as error:
            reason, detail = str(error).split(": ", 1)
            reject(match.start(), reason, match.group(), detail, number)
        else:
            times.append(t)
            values.append(value)
            flags.append(flag)
    t_us = _microseconds(np.array(times, dtype=np.float64))
    codes = np.array([FLAGS.index(flag or "") for flag in flags], np.uint8)
    return RawSeries(labels, t_us, np.array(values, dtype=np.float64), codes, at)


def _one_pair(raw: bytes) -> tuple[float, float, str | None]:
    """Parse one ``[t, "v"]`` into time, value and flag; the error's text is ``reason: what was expected``."""
    parts = _PARTS.fullmatch(raw.decode("utf-8", "replace"))
    if parts is None:
        raise ValueError('bad_json: expected [seconds, "value"]')
    if not _TIME.fullmatch(parts[1]):
        raise ValueError("bad_ts: expected Unix seconds")
    t = float(parts[1])
    if not abs(t) < LATEST_S:
        raise ValueError(f"bad_ts: {parts[1]} is not Unix seconds; milliseconds?")
    if parts[3] == "null":
        return t, float("nan"), "null"
    text = parts[2] if parts[2] is not None else parts[3]
    if not VALUE.fullmatch(text):
        raise ValueError("bad_value: expected a number")
    value = float(text)
    if value != value:
        return t, value, "nan"
    if value in (float("inf"), float("-inf")):
        return t, float("nan"), "pos_inf" if value > 0 else "neg_inf"
    return t, value, None


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
    called = query_of(dump.name, dump.reading)
    with dump.stream() as stream:
        yield from read_documents(
            stream, dump.where, notes, lambda: read_result(stream, notes, ""), dump.reading.salvage, called
        )


def is_promtool_text(head: bytes) -> bool:
    """Return whether a file begins with ``name{…} =>``."""
    match = SERIES.match(head)
    return bool(match and _ARROW.match(head, match.end()))


@dataclass
class _OpenSeries:
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
    called = query_of(dump.name, dump.reading)
    series = _OpenSeries(None, 0)
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
                        series = _open_series(match.group(), line, notes, called)
                    if (point := raw[arrow.end() :] if arrow else raw).strip():
                        _point(point, line, series, notes, is_cut=not block.endswith(b"\n"))
                    if len(series.values) >= GATHER_ROWS:
                        yield from series.taken()
        except BrokenStreamError as broken:
            raise InputError(broken.text, where=dump.where, hint=broken.hint) from broken
        yield from series.taken()
        if stream.damage:
            notes.warnings.append(
                f"truncated: {damaged_after(stream.damage, stream.offset)}; whole lines up to there are kept"
            )


def _open_series(text: bytes, line: int, notes: ReadNotes, called: str | None) -> _OpenSeries:
    """Return a new series; one without a name is called as ``called``."""
    try:
        labels = parse_series(text, go_escapes=True)
    except BadLabelsError as error:
        reject_line(line, text, error.reason, f"{error}; its samples are left out", notes)
        return _OpenSeries(None, line)
    if called and "__name__" not in labels:
        labels["__name__"] = called
    notes.last_series = short_text(labels)
    return _OpenSeries(labels, line)


def _point(raw: bytes, line: int, series: _OpenSeries, notes: ReadNotes, *, is_cut: bool) -> None:
    """Take one ``value @[seconds]``."""
    short = len(raw) <= LONGEST_RECORD_BYTES
    match = _POINT.fullmatch(raw.decode("utf-8", "replace").strip()) if short else None
    if match is None:
        cut = is_cut and not raw.rstrip().endswith(b"]")
        detail = "the last line has no end" if cut else "expected value @[seconds]"
        reject_line(line, raw, "truncated" if cut else "bad_line", detail, notes)
    elif not VALUE.fullmatch(match[1]):
        reject_line(line, raw, "bad_value", "expected a number", notes)
    elif not abs(float(match[2])) < LATEST_S:
        reject_line(line, raw, "bad_ts", f"{match[2]} is not Unix seconds", notes)
    elif series.labels is None:
        reject_line(line, raw, "bad_line", "the series of this sample can't be read", notes)
    else:
        notes.rows += 1
        series.values.append(float(match[1]))
        series.times_s.append(float(match[2]))
