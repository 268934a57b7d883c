"""Reader of Prometheus API answers (`query_range` and range-vector `query`), one series at a time.

The body is scanned, never held: memory is one block and one series. Numbers are parsed in bulk; a series whose
numbers do not parse cleanly is read again value by value, so that each bad sample is quarantined with its place.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import ByteStream, Truncated

_STRUCTURE = re.compile(rb'["{}\[\]]')
_STRING_END = re.compile(rb'(?:[^"\\]|\\.)*"', re.DOTALL)
_VALUES_END = re.compile(rb"\]\s*\]|\[\s*\]")
_RESULT = re.compile(rb'"result"\s*:\s*')
_PAIR = re.compile(rb"\[[^\[\]]*\]")
_SCALAR_END = re.compile(rb"[,}\]]")

LATEST_S = 4_102_444_800.0
"""Times after 2100-01-01 are not Unix seconds."""

NUMBERS_ONLY = bytes.maketrans(b"", b"")


@dataclass
class Rejection:
    """One sample that can't be stored: byte offset in the decompressed file, reason code, raw text."""

    position: int
    reason: str
    raw: str
    detail: str
    path: str
    series: str


@dataclass
class RawSeries:
    """One series as read: labels with ``__name__``, times [us UTC], values (NaN where flagged) and flags."""

    labels: dict[str, str]
    t_us: np.ndarray
    values: np.ndarray
    flags: np.ndarray
    offset: int


@dataclass
class ReadNotes:
    """What a reader has to say beside the series: rows seen, rejections, and the server's own warnings."""

    rows: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    last_series: str = ""


def read_prometheus_json(stream: ByteStream, where: str, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of every API answer in the stream.

    Parameters
    ----------
    stream
        Decompressed bytes.
    where
        File name for messages.
    notes
        Filled while reading: rows read, rejections, warnings.

    Raises
    ------
    InputError
        When the answer is an error envelope, is cut, or has another result type. Messages give the byte.
    """
    try:
        while stream.peek():
            yield from _read_document(stream, where, notes)
    except Truncated as cut:
        last = f" after series {notes.last_series}" if notes.last_series else ""
        raise InputError(
            f"the JSON ends in the middle at byte {cut.offset}{last}",
            where=where,
            hint="export this file again",
        ) from cut


def _read_document(stream: ByteStream, where: str, notes: ReadNotes) -> Iterator[RawSeries]:
    header = _until_result(stream, where)
    kind = re.search(rb'"resultType"\s*:\s*"(\w+)"', header)
    if kind and kind.group(1) not in (b"matrix", b"vector"):
        raise InputError(
            f"the answer is a {kind.group(1).decode()}, not a matrix",
            where=where,
            hint="export with query_range",
        )
    notes.warnings += _warnings(header)
    if stream.peek() != b"[":
        raise InputError(
            f"no list of series at byte {stream.offset}", where=where, hint="export this file again"
        )
    stream.skip(1)
    index = 0
    while (byte := stream.peek()) == b"{":
        yield from _read_element(stream, notes, index)
        index += 1
    if byte != b"]":
        if not byte:
            raise Truncated(stream.offset)
        raise InputError(
            f"unexpected {byte.decode('latin-1')!r} at byte {stream.offset}",
            where=where,
            hint="export this file again",
        )
    stream.skip(1)
    notes.warnings += _warnings(_document_tail(stream))


def _until_result(stream: ByteStream, where: str) -> bytes:
    """Consume the envelope up to the list of series; an error envelope is told apart here."""
    head = stream.head(1 << 16)
    match = _RESULT.search(head)
    if match:
        stream.skip(match.end())
        return head[: match.end()]
    body = stream.rest()
    try:
        answer = json.loads(body)
    except ValueError:
        raise Truncated(stream.offset) from None
    if isinstance(answer, dict) and answer.get("status") == "error":
        kind, text = answer.get("errorType", "error"), str(answer.get("error", ""))[:160]
        hint = (
            "export in smaller time ranges"
            if "maximum resolution" in text
            else "repair the query and export again"
        )
        raise InputError(f"the server answered with an error ({kind}: {text})", where=where, hint=hint)
    raise InputError("no data.result in the answer", where=where, hint="export with query_range")


def _document_tail(stream: ByteStream) -> bytes:
    """Consume the rest of the envelope: the closing braces and what stands between them."""
    parts, depth = [], 2
    while depth:
        part = stream.until(_STRUCTURE, 0)
        parts.append(part)
        if part.endswith(b'"'):
            parts.append(stream.until(_STRING_END, 2))
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(part[-1:], 0)
    return b"".join(parts)


def _warnings(envelope: bytes) -> list[str]:
    match = re.search(rb'"warnings"\s*:\s*(\[[^\]]*\])', envelope)
    if not match:
        return []
    try:
        return [str(text) for text in json.loads(match.group(1))]
    except ValueError:
        return [match.group(1).decode("utf-8", "replace")[:200]]


def _read_element(stream: ByteStream, notes: ReadNotes, index: int) -> Iterator[RawSeries]:
    """Read one element of data.result, keys in any order."""
    stream.skip(1)
    labels: dict[str, str] = {}
    body, body_at, histograms = b"", stream.offset, False
    while (byte := stream.peek()) != b"}":
        if byte != b'"':
            raise Truncated(stream.offset)
        stream.skip(1)
        key = stream.until(_STRING_END, 2)[:-1]
        if stream.peek() == b"" or stream.head(1) != b":":
            raise Truncated(stream.offset)
        stream.skip(1)
        opening = stream.peek()
        if key == b"metric" and opening == b"{":
            labels = {str(k): str(v) for k, v in json.loads(_balanced(stream)).items()}
        elif key == b"values" and opening == b"[":
            body_at, body = stream.offset, stream.until(_VALUES_END, 64)
        elif key == b"value" and opening == b"[":
            body_at, body = stream.offset, b"[" + _balanced(stream) + b"]"
        else:
            histograms = histograms or key == b"histograms"
            _skip_value(stream, opening)
    stream.skip(1)
    notes.last_series = labels.get("__name__", str(labels))
    if histograms:
        text = "native histograms are not read"
        notes.rows += 1
        notes.rejections.append(
            Rejection(
                body_at,
                "native_histogram",
                notes.last_series[:200],
                text,
                f"data.result[{index}]",
                str(labels),
            )
        )
    if body and (series := _numbers(body, labels, body_at, notes, index)) is not None:
        yield series


def _balanced(stream: ByteStream) -> bytes:
    """Consume one object or list, strings respected."""
    parts, depth = [], 0
    while True:
        part = stream.until(_STRUCTURE, 0)
        parts.append(part)
        if part.endswith(b'"'):
            parts.append(stream.until(_STRING_END, 2))
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(part[-1:], 0)
        if depth == 0:
            return b"".join(parts)


def _skip_value(stream: ByteStream, opening: bytes) -> None:
    if opening in (b"{", b"["):
        _balanced(stream)
    elif opening == b'"':
        stream.skip(1)
        stream.until(_STRING_END, 2)
    else:
        size = len(stream.until(_SCALAR_END, 0))
        stream.skip(-1 if size else 0)


def _numbers(body: bytes, labels: dict[str, str], at: int, notes: ReadNotes, index: int) -> RawSeries | None:
    """Parse ``[[t,"v"],…]``: in bulk when clean, else pair by pair."""
    pairs = body.count(b"[") - 1
    if pairs <= 0:
        return None
    notes.rows += pairs
    flat = body.translate(NUMBERS_ONLY, b'[]"')
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            numbers = np.fromstring(flat.decode("ascii"), sep=",")
        except (DeprecationWarning, ValueError):
            numbers = np.empty(0)
    clean = numbers.size == 2 * pairs and bool(np.all(np.abs(numbers[0::2]) < LATEST_S))
    t, values = (numbers[0::2], numbers[1::2]) if clean else _pair_by_pair(body, labels, at, notes, index)
    flags = np.full(t.size, None, dtype=object)
    flags[np.isnan(values)] = "nan"
    flags[np.isposinf(values)] = "pos_inf"
    flags[np.isneginf(values)] = "neg_inf"
    values = np.where(np.isfinite(values), values, np.nan)
    return RawSeries(labels, np.round(t * 1e6).astype(np.int64), values, flags, at)


def _pair_by_pair(
    body: bytes, labels: dict[str, str], at: int, notes: ReadNotes, index: int
) -> tuple[np.ndarray, np.ndarray]:
    times, values = [], []
    for number, match in enumerate(_PAIR.finditer(body)):
        try:
            t, value = _one_pair(match.group())
        except ValueError as error:
            reason, detail = str(error).split(": ", 1)
            raw = match.group().decode("utf-8", "replace")[:200]
            path = f"data.result[{index}].values[{number}]"
            notes.rejections.append(
                Rejection(at + match.start(), reason, raw, detail, path, str(labels)[:500])
            )
        else:
            times.append(t)
            values.append(value)
    return np.array(times, dtype=np.float64), np.array(values, dtype=np.float64)


def _one_pair(raw: bytes) -> tuple[float, float]:
    """Parse one ``[t, "v"]``; the error's text is ``reason: what was expected``."""
    try:
        pair = json.loads(raw)
    except ValueError:
        raise ValueError('bad_json: expected [seconds, "value"]') from None
    if len(pair) != 2 or isinstance(pair[0], bool) or not isinstance(pair[0], (int, float)):
        raise ValueError("bad_ts: expected Unix seconds")
    if not abs(pair[0]) < LATEST_S:
        raise ValueError(f"bad_ts: {pair[0]} is not Unix seconds; milliseconds?")
    if pair[1] is None:
        return float(pair[0]), float("nan")
    try:
        return float(pair[0]), float(pair[1])
    except (TypeError, ValueError):
        raise ValueError("bad_value: expected a number") from None
