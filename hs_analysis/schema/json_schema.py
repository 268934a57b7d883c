"""JSON Schemas of the files that hs_analysis writes and reads, from the declarations of their fields.

Each schema lies beside this module as ``*.schema.json``, written by ``docs/generate.py``. Its ``$id`` is a
URN: a name that needs no server.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from importlib.resources import files
from typing import Any

from hs_analysis.schema.declare import Declared, declared, without_none

SCHEMA_FILES = {
    "summary": "summary.schema.json",
    "policy": "policy.schema.json",
    "settings": "hsa.schema.json",
}
"""What a schema is of → its file beside this module."""

LINE = 120
"""Characters of a line of a schema that a short object may fill."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Json = dict[str, Any]

Shapes = Mapping[tuple[type[Any], str], Any]
"""Fields, by class and name, whose shape in the file is another type than the field's own."""

_PLAIN = {str: "string", float: "number", int: "integer", bool: "boolean"}


def shipped_schema(kind: str) -> str:
    """Return the text of a schema that the package ships, by a key of `SCHEMA_FILES`."""
    return files("hs_analysis.schema").joinpath(SCHEMA_FILES[kind]).read_text("utf-8")


def whole_schema(kind: type[Any], identifier: str, title: str, other: Shapes) -> Json:
    """Return the schema of a file; each dataclass below the first is a definition under its name.

    Parameters
    ----------
    kind
        Dataclass of the whole file.
    identifier
        ``$id`` of the schema.
    title
        What the file is.
    other
        Fields whose shape in the file is another than the field's own.
    """
    shapes: dict[str, Json] = {}
    whole = object_schema(kind, shapes, other)
    head = {"$schema": DIALECT, "$id": identifier, "title": title}
    return {**head, **whole, "$defs": dict(sorted(shapes.items()))}


def schema_text(schema: Json) -> str:
    """Return a schema as the package ships it."""
    return _laid_out(schema, "") + "\n"


def _laid_out(value: Any, indent: str) -> str:
    """Return JSON with a line for what fits into one."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= LINE or not isinstance(value, dict | list):
        return flat
    inner = f"{indent}  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_laid_out(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}}}"
    parts = [_laid_out(item, inner) for item in value]
    return "[\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}]"


def object_schema(kind: type[Any], shapes: dict[str, Json], other: Shapes | None = None) -> Json:
    """Return the schema of a dataclass; those in its fields are put into ``shapes``, by name."""
    fields = declared(kind)
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()).replace("``", "`"),
        "properties": {one.key: _property(kind, one, shapes, other or {}) for one in fields},
        "required": [one.key for one in fields if not (one.field.absent or one.field.since)],
        "additionalProperties": False,
    }


def _property(kind: type[Any], one: Declared, shapes: dict[str, Json], other: Shapes) -> Json:
    hint = other.get((kind, one.name), one.kind)
    made = _limited(_words(one) if one.words else _type(hint, shapes, other), one)
    null = one.optional or (one.field.null is True)
    said = one.meaning + (f" [{one.field.unit}]" if one.field.unit not in ("", "UTC", "JSON") else "")
    said += f"; absent where {one.field.absent}" if one.field.absent else ""
    said += f"; since version {one.field.since}" if one.field.since else ""
    return _nullable(made, null) | {"description": said}


def _limited(made: Json, one: Declared) -> Json:
    """Return a type within the limits of a field: of a number, of a dict's values, of a list's length."""
    field = one.field
    if made.get("type") == "array":
        limits = {"minItems": field.least, "maxItems": field.most}
    else:
        limits = {"minimum": field.least, "maximum": field.most, "exclusiveMinimum": field.above}
    given: Json = {name: value for name, value in limits.items() if value is not None}
    if field.pattern:
        given["pattern"] = field.pattern
    if given and made.get("type") == "object":
        return made | {"additionalProperties": made["additionalProperties"] | given}
    return made | given


def _words(one: Declared) -> Json:
    return {"enum": list(one.words)}


def _nullable(made: Json, null: bool) -> Json:
    if not null:
        return made
    if "enum" in made:
        return made | {"enum": [*made["enum"], None]}
    if "type" in made:
        known = made["type"] if isinstance(made["type"], list) else [made["type"]]
        return made | {"type": [*known, "null"]}
    return {"oneOf": [made, {"type": "null"}]}


def _type(hint: Any, shapes: dict[str, Json], other: Shapes) -> Json:
    """Return what a value of a type is; whole numbers are counts."""
    kind, null = without_none(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        made: Json = {"enum": list(arguments)}
    elif origin is typing.Union and all(one in _PLAIN for one in arguments):
        made = {"type": [_PLAIN[one] for one in arguments]}
    elif origin is typing.Union:
        made = {"oneOf": [_type(one, shapes, other) for one in arguments]}
    elif origin in (dict, Mapping):
        free = arguments[1] in (Any, object)
        rest = {} if free else {"additionalProperties": _type(arguments[1], shapes, other)}
        made = {"type": "object", **rest}
    elif origin is list:
        made = {"type": "array", "items": _type(arguments[0], shapes, other)}
    elif origin is tuple:
        length = {} if arguments[-1] is Ellipsis else {"minItems": len(arguments), "maxItems": len(arguments)}
        made = {"type": "array", "items": _type(arguments[0], shapes, other), **length}
    elif is_dataclass(kind):
        named = typing.cast("type[Any]", kind)
        if named.__name__ not in shapes:
            shapes[named.__name__] = {}  # claims the name before its own fields are looked at
            shapes[named.__name__] = object_schema(named, shapes, other)
        made = {"$ref": f"#/$defs/{named.__name__}"}
    else:
        made = {"type": _PLAIN[kind]} | ({"minimum": 0} if kind is int else {})
    return _nullable(made, null)
