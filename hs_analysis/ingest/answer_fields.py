"""Fields of the JSON that other back ends write: times, values, texts, and samples gathered by series."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from hs_analysis.ingest.json_records import excerpt
from hs_analysis.ingest.rows import (
    LATEST_S,
    NAN,
    NEG_INF,
    NULL,
    POS_INF,
    RawSeries,
    ReadNotes,
    Rejection,
    series_text,
)
from hs_analysis.ingest.text_lines import as_text

GATHER_ROWS = 1 << 18
"""Samples held before they are handed on by series: back ends write one moment of all series at a time."""

_LATEST_US = round(LATEST_S * 1e6)


class FieldError(Exception):
    """A field that can't be read: ``reason`` for the rejected table, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


def whole_number(value: Any) -> int | None:
    """Return a whole number that stands as a number or, as 64-bit ones do, as a text; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1 << 63 else None
    if isinstance(value, str) and len(value) < 20 and value.removeprefix("-").isascii():
        return int(value) if value.removeprefix("-").isdigit() else None
    return None


def unix_us(value: Any, per_second: int) -> int:
    """Return a Unix time in microseconds.

    Raises
    ------
    FieldError
        When it is none, or lies after 2100.
    """
    number = value if isinstance(value, float) and math.isfinite(value) else whole_number(value)
    if number is None:
        raise FieldError("bad_ts", f"{_shown(value)} is no time")
    if per_second > 1_000_000 and isinstance(number, int):
        found = (number + per_second // 2_000_000) // (per_second // 1_000_000)
    else:
        found = round(number * 1_000_000 / per_second) if abs(number) < 1e21 else _LATEST_US
    if not abs(found) < _LATEST_US:
        raise FieldError("bad_ts", f"{_shown(value)} is no Unix time in {_UNITS[per_second]}")
    return found


_UNITS = {1: "seconds", 1_000: "milliseconds", 1_000_000_000: "nanoseconds"}


def text_us(value: Any) -> int:
    """Return an ISO 8601 time with its zone in microseconds.

    Raises
    ------
    FieldError
        When it is none, or carries no zone.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and len(value) < 50 else None
    except ValueError:
        moment = None
    if moment is None:
        raise FieldError("bad_ts", f"{_shown(value)} is no time")
    if moment.tzinfo is None:
        raise FieldError("naive_ts", f"{_shown(value)} carries no zone")
    try:
        seconds = moment.replace(microsecond=0).timestamp()
    except (OverflowError, ValueError):
        seconds = LATEST_S
    if not abs(seconds) < LATEST_S:
        raise FieldError("bad_ts", f"{_shown(value)} is no time since 1970")
    return round(seconds) * 1_000_000 + moment.microsecond


def sample_value(value: Any) -> tuple[float, int]:
    """Return a value and its flag; ``null`` and what is no finite number have none.

    Raises
    ------
    FieldError
        When it is neither a number nor a text of one.
    """
    if value is None:
        return math.nan, NULL
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool):
        raise FieldError("bad_value", f"{_shown(value)} is no number")
    if math.isfinite(number):
        return number, 0
    return math.nan, NAN if math.isnan(number) else POS_INF if number > 0 else NEG_INF


def _shown(value: Any) -> str:
    return as_text(excerpt(value))[:60]


def member(found: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a member of an object, an empty one of its kind where it is missing or of another kind."""
    value = found.get(name)
    return value if isinstance(value, kind) else kind()


Labels = frozenset[tuple[str, str]]


@dataclass
class _Gathered:
    """Samples of one series."""

    labels: dict[str, str]
    place: int
    t_us: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)


class SampleGatherer:
    """Takes samples one by one, and gives them back by series whenever many are there.

    Parameters
    ----------
    notes
        Counts every sample as a row.
    """

    def __init__(self, notes: ReadNotes) -> None:
        self._notes = notes
        self._held: dict[tuple[Labels, bool], _Gathered] = {}
        self._rows = 0

    @property
    def held(self) -> int:
        """Samples that are held."""
        return self._rows

    def add(
        self, labels: dict[str, str], t_us: int, value: float, flag: int, place: int, *,
        increases: bool = False,
    ) -> None:  # fmt: skip
        """Take a sample; ``increases`` as in `RawSeries`."""
        key = (frozenset(labels.items()), increases)
        one = self._held.get(key)
        if one is None:
            self._held[key] = one = _Gathered(labels, place)
        one.t_us.append(t_us)
        one.values.append(value)
        one.flags.append(flag)
        self._rows += 1

    def reject(
        self, place: int, raw: Any, why: FieldError, path: str, labels: Mapping[str, str] | None
    ) -> None:
        """Set a sample aside."""
        self._notes.rows += 1
        series = series_text(dict(labels)) if labels else ""
        self._notes.rejections.append(
            Rejection(place, why.reason, as_text(excerpt(raw)), str(why), path, series)
        )

    def many(self) -> Iterator[RawSeries]:
        """Yield what is held when it is much, else nothing."""
        if self._rows >= GATHER_ROWS:
            yield from self.rest()

    def rest(self) -> Iterator[RawSeries]:
        """Yield what is held, and forget it."""
        held, self._held, self._rows = self._held, {}, 0
        for (_, increases), one in held.items():
            self._notes.rows += len(one.t_us)
            self._notes.last_series = one.labels.get("__name__", "")
            yield RawSeries(
                one.labels, np.array(one.t_us, np.int64), np.array(one.values, np.float64),
                np.array(one.flags, np.uint8), one.place, increases=increases,
            )  # fmt: skip
