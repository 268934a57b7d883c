"""Frozen dataclasses as plain data and back, for tables and JSON between two stages."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return a dataclass, tuple, dict or scalar as dicts, lists and JSON scalars.

    NaN and infinities become None; numpy scalars become Python's; dict keys become text. Field order is kept.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return to_plain(value.tolist())
    return str(value)


def from_plain(kind: type[T], data: Mapping[str, Any]) -> T:
    """Build a dataclass from plain data: lists become tuples, nested dicts become dataclasses.

    Fields that are absent take their default; unknown keys are ignored: a table may carry key columns.
    """
    hints = _hints(typing.cast("Any", kind))
    values = {f.name: _build(hints[f.name], data[f.name]) for f in fields(kind) if f.name in data}  # type: ignore[arg-type]
    return kind(**values)


def changed(value: T, changes: Mapping[str, Any]) -> T:
    """Return a dataclass with some values replaced, by dotted name.

    The last part may be a key of a dict: ``startup_s.prefill`` replaces one role of Settings.
    """
    plain = to_plain(value)
    for name, new in changes.items():
        *parents, last = name.split(".")
        place = plain
        for part in parents:
            place = place[part]
        place[last] = to_plain(new)
    return from_plain(type(value), plain)


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(hint: Any, value: Any) -> Any:
    if value is None or hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _build(next(a for a in arguments if a is not type(None) and _fits(a, value)), value)
    if is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value)
    if origin is tuple:
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(kind, item) for kind, item in zip(inner, value, strict=True))
    if origin is dict:
        return {key: _build(arguments[1], item) for key, item in value.items()}
    return float(value) if hint is float else value


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint) or origin is dict:
        return isinstance(value, Mapping)
    if origin is tuple:
        inner = arguments[0]
        return isinstance(value, list | tuple) and (not value or _fits(inner, value[0]))
    if origin is typing.Literal:
        return value in arguments
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)
