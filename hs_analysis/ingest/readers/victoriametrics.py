"""Reader of VictoriaMetrics' `/api/v1/export`: one JSON object a line with the samples of one series."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from hs_analysis.errors import InputError
from hs_analysis.ingest.json_records import decode_json
from hs_analysis.ingest.rows import (
    LATEST_S,
    NAN,
    NEG_INF,
    POS_INF,
    RAW_CHARACTERS,
    SERIES_CHARACTERS,
    STALE,
    Dump,
    RawSeries,
    ReadNotes,
    Rejection,
    flagged,
    series_text,
)
from hs_analysis.ingest.streams import BrokenStreamError, damaged_after
from hs_analysis.ingest.text_lines import bulk_numbers, reject_line

_BEGIN = re.compile(rb'\{\s*"metric"\s*:\s*\{')
_BARE_VALUES = re.compile(rb'"values"\s*:\s*\[\s*[^"\[\s]')
_FIELDS = re.compile(
    rb'\{"metric":(\{(?:[^"{}\\]++|"(?:[^"\\]++|\\.)*+")*+\}),"values":\[([^"\[\]]*)\],"timestamps":\[([\d,]*)\]\}'
)
"""A line as the server writes it, from which numbers can be cut without parsing the whole."""

STALE_SENTINEL = b"-1.0625e308"
"""What ``null`` is parsed as in bulk: a number that no metric holds, as for `numbers.STAND_INS`."""

LARGEST_ODD_BYTES = 16 << 20
"""A line that is no plain numbers is taken apart value by value, at many times its bytes, up to this size."""

_NO_JSON = re.compile(rb"(?<=[\[,])(\s*)([+-]?Inf(?:inity)?|NaN)(?=\s*[,\]])")
"""What the server writes bare and JSON does not know (VictoriaMetrics issue 3161)."""


def is_vm_jsonl(head: bytes) -> bool:
    """Return whether a file begins with a series whose values are bare numbers."""
    return bool(_BEGIN.match(head) and (_BARE_VALUES.search(head) or b'"timestamps"' in head))


def is_vm_native(head: bytes) -> bool:
    """Return whether a file begins as VictoriaMetrics' binary export: the bounds of its time range [ms]."""
    if len(head) < 32 or b"\0" not in head:
        return False
    start, end = (int.from_bytes(head[at : at + 8], "big") for at in (0, 8))
    if start % 2 or end % 2:  # zig-zag: odd numbers are negative
        return False
    return start <= end and 1e12 < end / 2 < LATEST_S * 1e3


def read_vm_jsonl(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of ``{"metric": {…}, "values": […], "timestamps": […]}`` lines, times in milliseconds.

    ``null`` is a staleness marker. Bare ``+Inf`` and its like, which are no JSON, are repaired and counted.
    A line that can't be read is rejected whole; an unfinished last line is ``truncated`` and the rest kept.

    Raises
    ------
    InputError
        When a line never ends.
    """
    repaired = 0
    line = 0
    with dump.stream() as stream:
        try:
            stream.skip_mark()
            for block in stream.lines():
                for raw in block.split(b"\n"):
                    line += 1
                    if not raw.strip():
                        continue
                    is_last = not block.endswith(b"\n") and block.endswith(raw)
                    series, fixed = _line(raw.strip(), line, notes, is_last=is_last)
                    repaired += fixed
                    if series is not None and series.t_us.size:
                        yield series
                line -= 1  # what follows the last newline is part of the next block
        except BrokenStreamError as broken:
            raise InputError(broken.text, where=dump.where, hint=broken.hint) from broken
        if stream.damage:
            notes.warnings.append(
                f"truncated: {damaged_after(stream.damage, stream.offset)}; whole lines up to there are kept"
            )
    if repaired:
        notes.infos.append(f"{repaired} values like +Inf, which are no JSON, were repaired")


def _line(raw: bytes, line: int, notes: ReadNotes, *, is_last: bool) -> tuple[RawSeries | None, int]:
    """Return the series of a line and how many values were repaired; None when it was rejected."""
    if found := _in_bulk(raw, line):
        notes.rows += found[0].t_us.size
        notes.last_series = found[0].labels.get("__name__", "")
        return found
    if len(raw) > LARGEST_ODD_BYTES:
        reject_line(
            line, raw, "bad_json", f"no plain numbers, and more than {LARGEST_ODD_BYTES} bytes", notes
        )
        return None, 0
    fixed = 0
    document = _decoded(raw)
    if document is None:
        at = raw.find(b'"values"') + 1  # a label may hold anything
        tail, fixed = _NO_JSON.subn(rb'\1"\2"', raw[at:])
        document = _decoded(raw[:at] + tail)
    problem = _problem(document)
    if problem:
        reason = "truncated" if is_last and document is None else "bad_json"
        reject_line(
            line, raw, reason, "the last line has no end" if reason == "truncated" else problem, notes
        )
        return None, 0
    return _one_by_one(document, line, notes), fixed


def _in_bulk(raw: bytes, line: int) -> tuple[RawSeries, int] | None:
    """Read a line of plain numbers, nulls, and what the server writes bare; None for anything else."""
    match = _FIELDS.fullmatch(raw)
    if match is None:
        return None
    stale_count = match[2].count(b"null")
    values = bulk_numbers(match[2].replace(b"null", STALE_SENTINEL) if stale_count else match[2])
    times = bulk_numbers(match[3])
    if values is None or times is None or values.size != times.size:
        return None
    if not np.all(np.abs(times) < LATEST_S * 1e3):
        return None
    labels = _labels(_decoded(match[1]))
    if labels is None:
        return None
    stale = np.flatnonzero(values == float(STALE_SENTINEL))
    if stale.size != stale_count:
        return None
    finite, flags = flagged(values)
    if stale.size:
        finite = finite.copy()  # what was parsed may be read-only
        finite[stale], flags[stale] = np.nan, STALE
    bare = match[2].count(b"Inf") + match[2].count(b"NaN")
    return RawSeries(labels, (times * 1000).astype(np.int64), finite, flags, line), bare


def _decoded(raw: bytes) -> Any:
    try:
        return decode_json(raw)
    except ValueError:
        return None


def _labels(found: Any) -> dict[str, str] | None:
    """Return labels that are texts with a UTF-8 form, None for anything else."""
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return None
    try:
        "".join([*found, *found.values()]).encode("utf-8")
    except UnicodeError:
        return None
    return found


def _problem(document: Any) -> str:
    """Return why a decoded line is no series, empty when it is one."""
    if not isinstance(document, dict):
        return "expected a JSON object"
    if _labels(document.get("metric")) is None:
        return "expected labels in UTF-8 under metric"
    values, times = document.get("values"), document.get("timestamps")
    if not isinstance(values, list) or not isinstance(times, list):
        return "expected the lists values and timestamps"
    return "" if len(values) == len(times) else f"{len(values)} values but {len(times)} timestamps"


def _one_by_one(document: dict[str, Any], line: int, notes: ReadNotes) -> RawSeries:
    """Read value by value; a bad one is rejected with its place."""
    labels = document["metric"]
    size = len(document["values"])
    times, values, flags = np.empty(size, np.int64), np.empty(size, np.float64), np.empty(size, np.uint8)
    good = np.zeros(size, bool)
    for number, (value, time) in enumerate(zip(document["values"], document["timestamps"], strict=True)):
        notes.rows += 1
        is_time = isinstance(time, int | float) and not isinstance(time, bool) and abs(time) < LATEST_S * 1e3
        meant = _value(value)
        if not is_time or meant is None:
            reason = "bad_value" if is_time else "bad_ts"
            detail = "expected a number" if is_time else f"{time!r} is not Unix milliseconds"
            notes.rejections.append(
                Rejection(
                    line, reason, f"[{time!r},{value!r}]"[:RAW_CHARACTERS], detail[:RAW_CHARACTERS],
                    f"values[{number}]", series_text(labels)[:SERIES_CHARACTERS],
                )
            )  # fmt: skip
            continue
        good[number], times[number] = True, round(time * 1000)
        values[number], flags[number] = meant
    notes.last_series = labels.get("__name__", "")
    return RawSeries(labels, times[good], values[good], flags[good], line)


def _value(value: Any) -> tuple[float, int] | None:
    """Return a value and its flag, None for what is no number."""
    if value is None:
        return np.nan, STALE
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if np.isnan(number):
        return np.nan, NAN
    if np.isinf(number):
        return np.nan, POS_INF if number > 0 else NEG_INF
    return number, 0
