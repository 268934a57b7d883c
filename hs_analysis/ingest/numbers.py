"""Many numbers of a text at once, exact to the last bit."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

_new_parser: Any = None

try:
    import simdjson
except ImportError:  # a platform without the wheel: slower, same numbers
    pass
else:
    _new_parser = simdjson.Parser

STAND_INS = (
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
        for word, stand_in, meaning in STAND_INS:
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
