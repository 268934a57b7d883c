"""Checked access to the keys of a YAML document: an error names the full path of the key, and its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from hs_analysis.errors import InputError
from hs_analysis.schema.places import DocumentText

T = TypeVar("T")


class Node:
    """A mapping of a document with its path, so that an error can name the key.

    ``done`` refuses keys that nobody read.
    """

    def __init__(self, data: object, path: str, where: DocumentText, kind: str = "policy") -> None:
        self.path, self.where, self.kind = path, where, kind
        if not isinstance(data, Mapping):
            raise self.wrong("", f"expected keys and values, found {data!r}")
        self.data = data
        self.read: set[str] = set()

    def wrong(self, key: str, what: str, hint: str = "") -> InputError:
        """Return the error of a key."""
        place = ".".join(part for part in (self.path, key) if part)
        return InputError(f"{place}: {what}" if place else what, where=self.where.at(place), hint=hint)

    def get(self, key: str) -> Any:
        """Return the value of a key that has to be there."""
        if key not in self.data:
            raise self.wrong(key, "is missing")
        self.read.add(key)
        return self.data[key]

    def text(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        """Return a text, one of those allowed where any are given."""
        value = self.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, f"expected text, found {value!r}")
        if allowed and value not in allowed:
            raise self.wrong(key, f"{value!r} is not one of {', '.join(allowed)}")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, f"expected true or false, found {value!r}")
        return value

    def number(self, key: str) -> float:
        """Return a number."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"expected a number, found {value!r}")
        return float(value)

    def maybe(self, key: str) -> float | None:
        """Return a number or null."""
        return None if self.get(key) is None else self.number(key)

    def whole(self, key: str) -> int:
        """Return a whole number from 0."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(key, f"expected a whole number, found {value!r}")
        return value

    def maybe_whole(self, key: str) -> int | None:
        """Return a whole number from 0, or null."""
        return None if self.get(key) is None else self.whole(key)

    def plain(self, key: str) -> dict[str, Any]:
        """Return a mapping as it is."""
        value = self.get(key)
        if not isinstance(value, Mapping):
            raise self.wrong(key, f"expected keys and values, found {value!r}")
        return dict(value)

    def node(self, key: str) -> Node:
        """Return a mapping that knows its place."""
        return Node(self.get(key), f"{self.path}.{key}".lstrip("."), self.where, self.kind)

    def items(self, key: str, read: Callable[[Node], T]) -> tuple[T, ...]:
        """Return what is read from each mapping of a list."""
        value = self.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, f"expected a list, found {value!r}")
        found = []
        for number, item in enumerate(value):
            node = Node(item, f"{self.path}.{key}[{number}]".lstrip("."), self.where, self.kind)
            found.append(node.done(read(node)))
        return tuple(found)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, f"expected a list of texts, found {value!r}")
        return tuple(value)

    def child(self, key: str, read: Callable[[Node], T]) -> T:
        """Return what is read from a mapping."""
        node = self.node(key)
        return node.done(read(node))

    def optional(self, key: str, read: Callable[[Node], T]) -> T | None:
        """Return what is read from a mapping, or null."""
        return None if self.get(key) is None else self.child(key, read)

    def done(self, value: T) -> T:
        """Return a value once all keys were read; one that was not is unknown."""
        unknown = sorted(str(key) for key in self.data if key not in self.read)
        if unknown:
            near = get_close_matches(unknown[0], sorted(self.read), n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise self.wrong(unknown[0], f"is not a key of this {self.kind} schema", hint)
        return value
