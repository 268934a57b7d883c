"""Reader of Prometheus API answers (`query_range` and range-vector `query`), one series at a time.

The body is scanned, never held: memory is one block and one series. Numbers are parsed in bulk; a series
whose numbers do not parse cleanly is read again value by value, so that each bad sample is quarantined with
its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import LARGEST_VALUE_BYTES, BrokenStreamError, ByteStream
from hs_analysis.ingest.json_documents import require_few
from hs_analysis.ingest.json_lines import decoded
from hs_analysis.ingest.numbers import DECIMAL, VALUE, bulk_numbers
from hs_analysis.ingest.raw import (
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
)
from hs_analysis.schema.settings import Reading

MATRIX_TYPES = ("matrix", "vector")

SAID = ("status", "errorType", "error", "warnings", "infos", "isPartial", "resultType")
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
        told = query_of(dump.name, dump.reading)
        yield from read_answers(stream, dump.where, notes, salvage=dump.reading.salvage, told=told)


def query_of(name: str, reading: Reading) -> str | None:
    """Return the PromQL that a file answers, or the name its series are to have; None when nobody says.

    ``name`` is the file's name below the input; a pattern may be on all of it or on its last part.
    """
    tried = (name, name.rpartition("/")[2])
    hits = (text for like, text in reading.queries.items() if any(fnmatchcase(n, like) for n in tried))
    return next(hits, None)


def read_answers(
    stream: ByteStream, where: str, notes: ReadNotes, *, salvage: bool = False, told: str | None = None
) -> Iterator[RawSeries]:
    """Yield the series of every API answer in a stream; errors name ``where`` and the byte."""

    def document() -> Iterator[RawSeries]:
        return _read_document(stream, where, notes)

    yield from read_documents(stream, where, notes, document, salvage, told)


def read_documents(
    stream: ByteStream,
    where: str,
    notes: ReadNotes,
    document: Callable[[], Iterator[RawSeries]],
    salvage: bool,
    told: str | None = None,
) -> Iterator[RawSeries]:
    """Yield the series of every document in a stream; those without a name are called as ``told``.

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
                    series.labels |= {"__name__": told} if told else {}
                notes.last_t_us = int(series.t_us[-1])
                some = True
                yield series
            answers, empty = answers + 1, empty + (not some)
            require_few(empty, answers, "answers", at)
            stream.skip_mark()
    except BrokenStreamError as broken:
        what = f"{broken.what} at byte {broken.offset}{_after(notes)}"
        if not (salvage and broken.is_end and notes.last_series):
            or_else = ", or keep the complete series with --salvage" if broken.is_end else ""
            raise InputError(what, where=where, hint=broken.hint + or_else) from broken
        notes.rows += 1
        notes.rejections.append(Rejection(broken.offset, "truncated", "", what, "", notes.last_series))
        notes.warnings.append(f"truncated: {what}; the complete series before it are kept")
    if nameless and told:
        notes.infos.append(f"{nameless} series without a name are called {told}, the query that they answer")
    elif nameless:
        notes.warnings.append(
            f"{nameless} series have no name, because a function or an aggregation took it: export the "
            "metrics themselves, or say what they are: --query FILE=PROMQL, and [metrics] for what that is"
        )


def _after(notes: ReadNotes) -> str:
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
        return decoded(raw)
    except ValueError:
        raise BrokenStreamError("no JSON", at) from None


def _read_document(stream: ByteStream, where: str, notes: ReadNotes) -> Iterator[RawSeries]:
    envelope: dict[str, Any] = {}
    has_result = False
    for key in stream.object_keys():
        if key != "data" or stream.peek() != b"{":
            _take_said(key, stream, envelope)
            continue
        for inner in stream.object_keys():
            if inner != "result" or stream.peek() != b"[":
                _take_said(inner, stream, envelope)
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


def _take_said(key: str, stream: ByteStream, envelope: dict[str, Any]) -> None:
    """Keep what an envelope says under a key that is read; pass over all others, however much they hold."""
    if key in SAID:
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
        notes.rows += 1
        notes.rejections.append(labels)
        return
    notes.last_series = labels.get("__name__") or series_text(labels)[:RAW_CHARACTERS]
    if histograms_at >= 0:
        notes.rows += 1
        notes.rejections.append(
            Rejection(
                histograms_at, "native_histogram", notes.last_series[:RAW_CHARACTERS],
                "native histograms are not read", place, series_text(labels),
            )
        )  # fmt: skip
    while bodies:
        samples_before = 0
        for at, part in _parts(*bodies.pop(0)):
            series = _numbers(part, labels, at, notes, place, samples_before)
            samples_before += part.count(b"[") - 1
            if series.t_us.size:
                yield series


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
    shown = raw.decode("utf-8", "replace")[:RAW_CHARACTERS]
    try:
        found = decoded(raw)
        labels = {str(key): value if isinstance(value, str) else str(value) for key, value in found.items()}
        for key, value in labels.items():
            (key + value).encode("utf-8")  # half a surrogate pair has no UTF-8 form
    except UnicodeError:
        return Rejection(0, "bad_utf8", shown, "labels are not UTF-8", "", shown)
    except (ValueError, AttributeError):
        return Rejection(0, "bad_json", shown, "labels are no JSON object", "", shown)
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
        shown = raw.decode("utf-8", "replace")[:RAW_CHARACTERS]
        series = series_text(labels)[:SERIES_CHARACTERS]
        notes.rejections.append(Rejection(at + position, reason, shown, detail, path, series))

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
