"""Brackets of JSON outside of its texts: where a list or object ends, how many there are, how deep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

FEW = 32
"""Brackets found one by one; further ones many at once, which costs more to start and less for each."""

SMALLEST_CHUNK_BYTES, LARGEST_CHUNK_BYTES = 1 << 10, 1 << 20
"""Bytes looked at together: a value may end soon, and what stays in a core's cache is cheap."""

_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]]?)', re.DOTALL)
"""Whole texts and all else up to the next bracket, and that; without it where what is there ends."""

_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_QUOTE = ord('"')
_STEP = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"{[")], _STEPS[list(b"}]")] = 1, -1
_IS_MARK = _STEPS != 0
_IS_MARK[_QUOTE] = True


class Told(NamedTuple):
    """How far brackets are told: ``end`` is the byte after the last one, or where more bytes are needed.

    ``depth`` brackets are open there, ``opened`` were opened in all. ``cut`` says that an unfinished text, or
    nothing, stands at ``end``.
    """

    end: int
    depth: int = 0
    opened: int = 0
    cut: bool = False


def tell(data: bytes, told: Told, most_levels: int) -> Told:
    """Tell brackets on from ``told.end``, which is outside of texts.

    Returns at the bracket that closes the first one, at one that lies in more than ``most_levels`` others, at
    the end of the data, and now and then between.
    """
    return _one(data, told) if told.opened < FEW else _many(data, told, most_levels)


def _one(data: bytes, told: Told) -> Told:
    match = _TO_BRACKET.match(data, told.end)
    assert match is not None  # noqa: S101 - it matches nothing, too
    if not match[1]:
        return told._replace(end=match.end(), cut=True)
    step = _STEP[match[1]]
    return Told(match.end(), told.depth + step, told.opened + (step > 0))


def _many(data: bytes, told: Told, most_levels: int) -> Told:
    _, depth, opened, _ = told
    for end, places, steps in _chunks(data, told.end):
        levels = depth + np.cumsum(steps, dtype=np.int32)
        stops = np.flatnonzero((levels == 0) | (levels > most_levels))
        if stops.size:
            last = int(stops[0])
            opened += int(np.count_nonzero(steps[: last + 1] > 0))
            return Told(int(places[last]) + 1, int(levels[last]), opened)
        depth = int(levels[-1]) if levels.size else depth
        opened += int(np.count_nonzero(steps > 0))
        told = Told(end, depth, opened, cut=True)
    return told._replace(cut=True)


def deepest(data: bytes) -> tuple[int, int]:
    """Return how many lists and objects a JSON text opens, and how many of them lie in each other at most."""
    depth = opened = most = 0
    for _, _, steps in _chunks(data, 0):
        levels = depth + np.cumsum(steps, dtype=np.int32)
        most = max(most, int(levels.max(initial=0)))
        depth = int(levels[-1]) if levels.size else depth
        opened += int(np.count_nonzero(steps > 0))
    return opened, most


def _chunks(data: bytes, start: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield where each chunk ends, and place and step (1 or -1) of every bracket in it outside of texts.

    A chunk ends before a text that it does not hold whole; the last one where the data ends or is cut.
    """
    size = SMALLEST_CHUNK_BYTES
    while start < len(data):
        chunk = data[start : start + size]
        is_last = start + size >= len(data)
        if not is_last and (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
            chunk = chunk[:-1]  # it escapes what comes next
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        codes = np.frombuffer(chunk, np.uint8)
        marks = np.flatnonzero(_IS_MARK[codes])
        is_quote = codes[marks] == _QUOTE
        in_text = np.cumsum(is_quote, dtype=np.uint8) & 1
        places = marks[~is_quote & (in_text == 0)]
        is_cut = in_text.size > 0 and in_text[-1] == 1
        end = start + (int(marks[is_quote][-1]) if is_cut else len(chunk))
        yield end, places + start, _STEPS[codes[places]]
        if is_cut and is_last:
            return
        if end == start:  # a text longer than a chunk
            text = _TEXT.match(data, start)
            if text is None:
                return
            end = text.end()
            yield end, places, _STEPS[places]
        start, size = end, min(2 * size, LARGEST_CHUNK_BYTES)
