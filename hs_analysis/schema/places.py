"""Where the keys of a YAML or JSON text stand, for messages about a value that was read from it.

A key is named by its path, ``spec.primaries[0].promql``. Texts are taken apart only when there is something
to say of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

Lines = dict[str, int]
"""Path of a key or of an item of a list → its line; the empty path is the document's."""


@dataclass(frozen=True)
class DocumentText:
    """One document of a file, for the places of its keys.

    Attributes
    ----------
    file, text
        The file's name and text.
    number
        Which of the documents of the text, from 0; empty ones don't count.
    """

    file: str
    text: str
    number: int = 0
    _lines: list[Lines] = field(default_factory=list, repr=False, compare=False)

    def lines(self) -> Lines:
        """Return the lines of all keys; none where the text is no YAML."""
        if not self._lines:
            found = lines_of_documents(self.text)
            self._lines.append(found[self.number] if self.number < len(found) else {"": 1})
        return self._lines[0]

    def at(self, path: str) -> str:
        """Return ``file:line`` of a key, or of the nearest one above it that is there."""
        return f"{self.file}:{nearest(self.lines(), path)}"


def nearest(lines: Lines, path: str) -> int:
    """Return the line of a key, or of the nearest one above it that is there."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, 1)


def documents_of(text: str) -> tuple[tuple[int, Any], ...]:
    """Return (line, value) of every YAML or JSON document of a text; values are to read and not to change.

    Lines count from 1. An empty document is None.

    Raises
    ------
    YAMLError
        When the text is neither.
    """
    head = _HEAD.match(text)
    comments = head[0] if head else ""
    try:
        found = _documents_of(text[len(comments) :])
    except YAMLError:
        return _documents_of(text)  # fails at the lines of the whole
    lines = comments.count("\n")
    return tuple((line + lines, value) for line, value in found)


_HEAD = re.compile(r"(?:#.*\n)*")


# Files of several targets hold the same rules under other comments, and each is read back.
@lru_cache(maxsize=256)
def _documents_of(text: str) -> tuple[tuple[int, Any], ...]:
    reader = YAML(typ="safe", pure=True)
    roots = list(reader.compose_all(text))
    return tuple((root.start_mark.line + 1, reader.constructor.construct_document(root)) for root in roots)


def lines_of_documents(text: str) -> list[Lines]:
    """Return the lines of all keys, per document that is not empty; none for what is no YAML and no JSON.

    Lines count from 1, those of keys are where the key stands.
    """
    if text.lstrip()[:1] in ("{", "["):
        return [_json_lines(text)]
    try:
        reader = YAML(typ="safe", pure=True)
        roots = [node for node in reader.compose_all(text) if node is not None and node.value]
    except YAMLError:
        return []
    return [dict(_yaml_lines(root, "", set())) | {"": root.start_mark.line + 1} for root in roots]


def yaml_fault(error: YAMLError, file: str) -> tuple[str, str]:
    """Return what a YAML reader stumbled over, and ``file:line`` of it.

    A bracket that is never closed is told where it is opened, and not where the reader gave up.
    """
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark, opened = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if opened is not None and mark is not None and "flow" in (getattr(error, "context", None) or ""):
        return f"a bracket is not closed: {problem} on line {mark.line + 1}", f"{file}:{opened.line + 1}"
    return problem, f"{file}:{mark.line + 1}" if mark is not None else file


def _yaml_lines(node: Any, path: str, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Yield path and line of everything below a node; what several places share counts at the first."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.id == "mapping":
        for key, value in node.value:
            below = f"{path}.{key.value}".lstrip(".")
            yield below, key.start_mark.line + 1
            yield from _yaml_lines(value, below, seen)
    elif node.id == "sequence":
        for number, value in enumerate(node.value):
            below = f"{path}[{number}]"
            yield below, value.start_mark.line + 1
            yield from _yaml_lines(value, below, seen)


_PARTS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|[{}\[\],:]|[^\s{}\[\],:\"]+|\n")


def _json_lines(text: str) -> Lines:
    """Return the lines of a JSON text as far as it goes: a cut one ends where it ends."""
    found: Lines = {"": text[: len(text) - len(text.lstrip())].count("\n") + 1}
    line, stack = 1, list[tuple[str, int | str]]()  # path of each open object or list, and where it is in it
    pending = ""  # key that waits for its value
    for part in _PARTS.findall(text):
        if part == "\n":
            line += 1
            continue
        if stack and isinstance(stack[-1][1], int) and part not in ("]", ","):
            found.setdefault(_here(stack), line)
        if part in "{[":
            stack.append((_here(stack) if stack else "", 0 if part == "[" else ""))
        elif part in "}]" and stack:
            stack.pop()
        elif part == "," and stack:
            path, place = stack[-1]
            stack[-1] = (path, place + 1 if isinstance(place, int) else "")
        elif part == ":" and stack:
            stack[-1] = (stack[-1][0], pending)
        elif part.startswith('"') and stack and stack[-1][1] == "":
            pending = part[1:-1]
            found.setdefault(f"{stack[-1][0]}.{pending}".lstrip("."), line)
    return found


def _here(stack: list[tuple[str, int | str]]) -> str:
    """Return the path of the value that stands where the innermost object or list is."""
    path, place = stack[-1]
    return f"{path}[{place}]" if isinstance(place, int) else f"{path}.{place}".lstrip(".")
