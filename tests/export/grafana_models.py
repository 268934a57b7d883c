"""What the models of Grafana's own Foundation SDK say of a dashboard.

The SDK reads what it knows, and passes over the rest without a word. So what it read is written again and
compared with what it was given, and each value is held against the type that its model declares: for panels
the options and custom fields of their own plugin, for queries the model of their data source.
"""

from __future__ import annotations

import enum
import functools
import json
import typing
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import UnknownDataquery, panelcfg_config
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()


def problems(body: dict[str, Any]) -> list[str]:
    """Return one sentence for each thing that the models do not know; empty where they know all of it."""
    try:
        read = Dashboard.from_json(body)
        again = json.loads(json.dumps(read, cls=JSONEncoder))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [f"not read: {error!r}"]
    return [*_lost(body, again, "dashboard"), *_mistyped(read, Dashboard, "dashboard"), *_strangers(read)]


def _lost(given: Any, again: Any, where: str) -> Iterator[str]:
    """Yield what was given and is not there after reading and writing; what the SDK adds is its defaults."""
    if isinstance(given, dict) and isinstance(again, dict):
        for key, value in given.items():
            if key in again:
                yield from _lost(value, again[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: no such field"
    elif isinstance(given, list) and isinstance(again, list) and len(given) == len(again):
        for place, pair in enumerate(zip(given, again, strict=True)):
            yield from _lost(*pair, f"{where}[{place}]")
    elif given != again:
        yield f"{where}: {given!r} is read as {again!r}"


def _strangers(read: Any) -> Iterator[str]:
    for panel in read.panels or ():
        if panelcfg_config(panel.type_val) is None:
            yield f"panel {panel.title!r}: Grafana brings no {panel.type_val!r}"
        if any(isinstance(one, UnknownDataquery) for one in panel.targets or ()):
            yield f"panel {panel.title!r}: a query of a data source that is not known"


def _mistyped(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Yield where a value is not of the type that its model declares."""
    parts = typing.get_args(kind)
    match typing.get_origin(kind):
        case typing.Union:
            found = [list(_mistyped(value, part, where)) for part in parts]
            yield from min(found, key=len)
        case typing.Literal:
            yield from () if value in parts else [f"{where}: {value!r} is none of {parts}"]
        case origin if origin in (list, dict):
            if not isinstance(value, origin):
                yield f"{where}: {value!r} is no {origin.__name__}"
                return
            for key, below in value.items() if origin is dict else enumerate(value):
                yield from _mistyped(below, parts[-1], f"{where}[{key!r}]")
        case _:
            yield from _mistyped_one(value, kind, where)


def _mistyped_one(value: Any, kind: Any, where: str) -> Iterator[str]:
    if kind in (Any, object):
        kind = type(value)  # options and custom fields: whatever model their panel's plugin has for them
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        said = value.value if isinstance(value, enum.Enum) else value
        if said not in {one.value for one in kind}:
            yield f"{where}: {said!r} is no {kind.__name__}"
    elif kind in (bool, int, float, str):
        if not isinstance(value, (int, float) if kind is float else kind) or (
            isinstance(value, bool) and kind is not bool
        ):
            yield f"{where}: {value!r} is no {kind.__name__}"
    elif not isinstance(value, kind):
        yield f"{where}: {value!r} is no {kind.__name__}"
    else:
        for name, declared in _fields(type(value)).items():
            yield from _mistyped(getattr(value, name), declared, f"{where}.{name}")


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind) if kind.__module__.startswith("grafana_foundation_sdk") else {}
