"""The JSON Schema of hsa.toml, from the table of settings and the declarations of rows.

It is for editors: it knows keys, forms and words. What needs more than the file itself (is there such a
folder, does a pattern never backtrack, which columns has a table) only ``hsa validate`` checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from hs_analysis.catalogue import load_catalogue
from hs_analysis.schema.json_schema import DIALECT, Json, object_schema
from hs_analysis.schema.settings import MetricRow, TableRow
from hs_analysis.settings.registry import SETTINGS, Setting
from hs_analysis.settings.sections import ROLES, SECTIONS
from hs_analysis.settings.values import DURATION_PATTERN, TEXT_JSON

VERSION = 1
"""Version of the shape of hsa.toml: a file that one of this version accepts, all of this version accept."""


def json_schema() -> Json:
    """Return the JSON Schema of hsa.toml; times are texts, as TOML's own dates are to editors."""
    properties: dict[str, Json] = {}
    for setting in SETTINGS:
        section, _, name = setting.key.rpartition(".")
        if section:
            properties.setdefault(section, _table({}))["properties"][name] = _value(setting)
        else:
            properties[name] = _value(setting)
    rows: dict[str, Json] = {}
    for one in SECTIONS:
        found = _OWN_KEYS[one.name](rows) | {"description": one.meaning}
        if one.name in properties:
            raise KeyError(one.name)
        properties[one.name] = found
    return {
        "$schema": DIALECT,
        "$id": f"urn:hs-analysis:settings:{VERSION}",
        "title": "hsa.toml of hs_analysis",
        "description": "Settings of hs_analysis. Every one is optional; hsa validate checks the file.",
        **_table(properties),
        "$defs": dict(sorted(rows.items())),
    }


def _table(properties: dict[str, Json]) -> Json:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _value(setting: Setting) -> Json:
    form = setting.kind.json
    made: Json = {"type": "array", "items": form} if setting.kind.many else dict(form)
    unit = f" [{setting.unit}]" if setting.unit else ""
    made["description"] = f"{setting.meaning}{unit} ({setting.provenance})"
    if setting.default not in (None, (), {}):
        made["default"] = json.loads(setting.example)
    return made


def _keys(value: Json, names: Mapping[str, Json] | None = None) -> Json:
    """Return a table with keys of the user's own, or only with some names."""
    if names is not None:
        return _table(dict(names))
    return {"type": "object", "additionalProperties": value}


def _row(kind: type[Any], rows: dict[str, Json], forms: Mapping[str, Json]) -> Json:
    """Return a row of the user's: what has a default may be left out; ``forms`` are those of hsa.toml."""
    made = object_schema(kind, rows)
    for name, form in forms.items():
        made["properties"][name] = form | {"description": made["properties"][name]["description"]}
    for name, form in made["properties"].items():
        made["properties"][name] = _never_null(form)
    made["required"] = [one.name for one in fields(kind) if one.default is one.default_factory is MISSING]
    rows[kind.__name__] = made
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _never_null(form: Json) -> Json:
    """Return a form without null, which TOML can't write."""
    made = dict(form)
    if isinstance(made.get("type"), list):
        kinds = [kind for kind in made["type"] if kind != "null"]
        made["type"] = kinds[0] if len(kinds) == 1 else kinds
    return made


_DURATION: Json = {"type": "string", "pattern": DURATION_PATTERN}
_TEXTS: Json = {"type": "array", "items": TEXT_JSON}
_PLAIN: Json = {"type": ["string", "number", "boolean"]}


def _metric_row(rows: dict[str, Json]) -> Json:
    _row(MetricRow, rows, {"averaged": _DURATION})
    signals = {"signal": {"enum": [signal.id for signal in load_catalogue().signals]}}
    return {"allOf": [{"$ref": "#/$defs/MetricRow"}, {"properties": signals}]}


def _table_row(rows: dict[str, Json]) -> Json:
    forms = {
        "labels": {"anyOf": [_TEXTS, _keys(TEXT_JSON)]},
        "columns": _keys(_row(MetricRow, rows, {"averaged": _DURATION})),
        "skip_where": _keys({"anyOf": [_PLAIN, {"type": "array", "items": _PLAIN}]}),
        "time_unit": {"enum": ["s", "ms", "us", "ns"]},
    }
    return _row(TableRow, rows, forms)


_POSITIVE: Json = {"type": "number", "exclusiveMinimum": 0}

_OWN_KEYS: Mapping[str, Callable[[dict[str, Json]], Json]] = {
    "captures": lambda _rows: _keys(TEXT_JSON),
    "queries": lambda _rows: _keys(TEXT_JSON),
    "roles": lambda _rows: _keys({"enum": list(ROLES)}),
    "services": lambda _rows: _keys(TEXT_JSON),
    "metrics": lambda rows: _keys(_metric_row(rows)),
    "gpus": lambda _rows: _keys({}, dict.fromkeys(("prefill", "decode", "mixed", "*"), _POSITIVE)),
    "prices": lambda _rows: _keys({"type": "number", "minimum": 0}),
    "tables": lambda rows: _keys(_table_row(rows)),
}
"""Section with keys of the user's own → what its table looks like."""
