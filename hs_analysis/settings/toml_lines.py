"""On which line of a TOML text a key stands; the parser of the standard library keeps no positions."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence

_BARE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEY = re.compile(rf"\s*({_BARE}(?:\s*\.\s*{_BARE})*)\s*=")
_SECTION = re.compile(rf"\s*\[\s*({_BARE}(?:\s*\.\s*{_BARE})*)\s*\]")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Return the line of a key, of the first key inside it, of the nearest key around it, or None.

    Keys inside an inline table stand on the line of the key that holds it. A text that spans lines may hide
    a line that looks like a key; then a later line can be named, never a wrong file.
    """
    best: tuple[int, int] | None = None  # parts of the path that match, line
    below: int | None = None  # first line of a key inside what the path names
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _SECTION.match(line):
            section = here = _parts(found[1])
        elif found := _KEY.match(line):
            here = (*section, *_parts(found[1]))
        else:
            continue
        if here == tuple(path[: len(here)]) and (best is None or len(here) > best[0]):
            best = (len(here), number)
        elif here[: len(path)] == tuple(path):
            below = below or number
    return best[1] if best and (below is None or best[0] == len(path)) else below


def _parts(key: str) -> tuple[str, ...]:
    """Return the parts of a dotted key as the parser reads them."""
    place = tomllib.loads(f"{key} = 0")
    parts = []
    while isinstance(place, dict):
        (part,) = place
        parts.append(part)
        place = place[part]
    return tuple(parts)
