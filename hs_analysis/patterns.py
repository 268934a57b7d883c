"""Patterns that users write, in an engine that never backtracks: any text takes time in line with its length.

The engine is RE2, as DuckDB and Arrow have it. What it can't do by its nature, to look ahead or behind and to
refer back to a group, is refused when the settings are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hs_analysis.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Span = tuple[int, int]
"""First byte of a group in UTF-8 and the one after its last."""


def hits(pattern: str, texts: Iterable[str]) -> frozenset[str]:
    """Return the texts in which the pattern is found."""
    import pyarrow.compute as pc

    each = list(texts)
    found = pc.match_substring_regex(_column(each), pattern=pattern).to_pylist()
    return frozenset(text for text, is_hit in zip(each, found, strict=True) if is_hit)


def groups_in(pattern: str, texts: Sequence[str]) -> list[dict[str, Span] | None]:
    """Return for each text the place of every named group, None where the pattern is not found.

    A group that took no part is an empty place.
    """
    import pyarrow.compute as pc

    rows = pc.extract_regex_span(_column(texts), pattern=_without_nameless(pattern)).to_pylist()
    return [
        None if row is None else {name: (at, at + size) for name, (at, size) in _placed(row)} for row in rows
    ]


def _placed(row: Mapping[str, Sequence[int] | None]) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the groups with start and length; one that took no part has neither."""
    yield from ((name, place or (0, 0)) for name, place in row.items())


def group_names(pattern: str) -> tuple[str, ...]:
    """Return the names of the groups of a pattern."""
    (row,) = groups_in(f"(?:{pattern})?", [""]) if _names_any(pattern) else ({},)
    return tuple(row or ())


def check(pattern: str, where: str) -> str:
    """Return a pattern that the engine takes.

    Raises
    ------
    UsageError
        When it is no regular expression, or one that only an engine that backtracks can run.
    """
    import pyarrow as pa

    try:
        hits(pattern, [""])
        if _names_any(pattern):
            groups_in(pattern, [""])
    except pa.ArrowException as error:
        why = str(error).splitlines()[0].partition(": ")[2]
        raise UsageError(
            f"{pattern!r} is no regular expression that can be used ({why})",
            where=where,
            hint="it is read by RE2: no look-ahead, no look-behind, no reference back to a group",
        ) from error
    return pattern


def _column(texts: Sequence[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.string())


def _names_any(pattern: str) -> bool:
    return "(?P<" in pattern or "(?<" in pattern


def _without_nameless(pattern: str) -> str:
    r"""Return the pattern with groups that have no name as groups that are not captured.

    Characters behind a backslash, inside square brackets, and between ``\Q`` and ``\E`` open no group.
    """
    made, at, inside = [], 0, False
    while at < len(pattern):
        if pattern.startswith(r"\Q", at):
            end = pattern.find(r"\E", at)
            step = (len(pattern) if end < 0 else end + 2) - at
        elif pattern[at] == "\\":
            step = 2
        elif inside:
            step = _class_step(pattern, at)
            inside = pattern[at : at + step] != "]"
        elif pattern[at] == "[":
            # A bracket right after the opening one is a member of the class.
            step = next(len(o) for o in ("[^]", "[]", "[^", "[") if pattern.startswith(o, at))
            inside = True
        else:
            step = 1
            if pattern[at] == "(" and pattern[at + 1 : at + 2] != "?":
                made.append("(?:")
                at += 1
                continue
        made.append(pattern[at : at + step])
        at += step
    return "".join(made)


def _class_step(pattern: str, at: int) -> int:
    """Return how many characters of a class belong together: ``[:alpha:]`` holds a bracket that ends none."""
    end = pattern.find(":]", at + 2) if pattern.startswith("[:", at) else -1
    return end + 2 - at if end >= 0 else 1
