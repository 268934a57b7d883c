"""Cells of tables as numbers: plain ones in bulk, words for missing and numbers with a unit one by one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from hs_analysis.catalogue.rows import measured
from hs_analysis.ingest.numbers import DECIMAL
from hs_analysis.ingest.raw import NAN, NULL, flagged

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
