"""A field of a result or a file, declared once: its type, unit, meaning and null rule stand at the dataclass.

``Annotated[float | None, Field("delay of the signal behind the load", "s")]`` is all there is to say of a
figure. From it come the column of the result's table (`schema.tables`), the key of summary.json or of
policy.yaml, its part of the JSON Schema (`schema.json_schema`), and its line in ``docs/reference/files.md``.
The order of the fields is the order of columns and of keys.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Field:
    """What is said of a field beside its type.

    Attributes
    ----------
    meaning
        What it is, without a capital and a full stop; one that ends with a colon is followed by the words.
        Empty for the words alone.
    unit
        Unit or range; empty for text.
    words
        The words that a text may be, where the type is no Literal.
    null
        Whether the column may be null, where the type doesn't tell: a float that is never missing (False), or
        one that can be NaN (True).
    absent
        When the file leaves the key out; empty where it never does.
    since
        Version of hs_analysis that first wrote the key; the schema asks for it from nobody, so that files of
        before still validate. Empty for what was there from the schema's first day.
    least, most
        Bounds of a number, of each value of a dict, or of the length of a list; whole numbers are counts, at
        least 0.
    above
        What a number, or each value of a dict, is above.
    pattern
        What a text looks like, as a regular expression.
    key
        Key in the file, where it can't be the name of a field: ``from`` and ``in`` are words of Python.
    """

    meaning: str = ""
    unit: str = ""
    words: tuple[str, ...] = ()
    null: bool | None = None
    absent: str = ""
    since: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    pattern: str = ""
    key: str = ""


@dataclass(frozen=True)
class Declared:
    """A field of a dataclass as it was declared.

    Attributes
    ----------
    name
        Name of the field, the column and the key.
    kind
        Its type, without None.
    optional
        Whether the type allows None.
    field
        What is said of it.
    """

    name: str
    kind: Any
    optional: bool
    field: Field

    @property
    def key(self) -> str:
        """The key in a file."""
        return self.field.key or self.name

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a text may be; empty where it may be any."""
        return (
            typing.get_args(self.kind) if typing.get_origin(self.kind) is typing.Literal else self.field.words
        )

    @property
    def meaning(self) -> str:
        """The meaning; what is a choice of words names them."""
        said, named = self.field.meaning, [word for word in self.words if word]
        if not named or (said and not said.endswith(":")):
            return said
        listed = f"{', '.join(named[:-1])} or {named[-1]}" if len(named) > 1 else named[0]
        return f"{said} {listed}".strip()


def declared(kind: type[Any]) -> tuple[Declared, ...]:
    """Return the fields of a dataclass in order.

    Raises
    ------
    TypeError
        For a field without a `Field`, or with one that says nothing.
    """
    return _declared(typing.cast("Any", kind))


def names_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of a dataclass's fields in order."""
    return tuple(one.name for one in fields(kind))


def without_none(hint: Any) -> tuple[Any, bool]:
    """Return a type without None, and whether it allowed None."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    kinds = tuple(kind for kind in typing.get_args(hint) if kind is not type(None))
    kind = kinds[0] if len(kinds) == 1 else typing.Union[kinds]  # noqa: UP007 - of a tuple
    return kind, len(kinds) < len(typing.get_args(hint))


@cache
def _declared(kind: Any) -> tuple[Declared, ...]:
    return tuple(_fields(kind))


def _fields(kind: type[Any]) -> Iterator[Declared]:
    hints = typing.get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        hint = hints[one.name]
        said = next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Field)), None)
        if said is None:
            raise TypeError(f"{kind.__name__}.{one.name} has no Field: say its meaning and unit")
        bare, optional = without_none(hint.__origin__)
        found = Declared(one.name, bare, optional, said)
        if not found.meaning:
            raise TypeError(f"{kind.__name__}.{one.name} has no meaning")
        yield found
