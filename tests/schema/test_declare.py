"""A field of a result is declared once: its column, its key and its JSON Schema come from there."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator

from hs_analysis.schema import summary
from hs_analysis.schema.declare import Field, declared
from hs_analysis.schema.json_schema import object_schema, schema_text, shipped_schema
from hs_analysis.schema.results import Capacity, Interval, Reason
from hs_analysis.schema.tables import TABLES, arrow_type, table_of


@dataclass(frozen=True)
class Part:
    """A part of a result."""

    share: Annotated[float, Field("share of the whole", "ratio", least=0, most=1)]


@dataclass(frozen=True)
class Made:
    """A result with a field of every kind."""

    status: Annotated[Literal["ok", "refused"], Field()]
    role: Annotated[str | None, Field("pool:", words=("prefill", "decode"))]
    value: Annotated[float, Field("a number", "s")]
    known: Annotated[float, Field("a number that is never missing", "s", null=False)]
    count: Annotated[int | None, Field("how many")]
    ci: Annotated[Interval | None, Field("95 % interval", "s")]
    parts: Annotated[tuple[Part, ...], Field("parts")]
    reason: Annotated[Reason | None, Field("why not")]
    more: Annotated[dict[str, Any], Field("the rest", "JSON", absent="there is none")]
    either: Annotated[float | str | None, Field("one of two")]


def test_columns_follow_the_fields() -> None:
    """Name, type, null rule, unit and meaning of each column, in the order of the fields."""
    with pytest.raises(TypeError, match="no column holds"):
        table_of("made", "one row", Made, ())
    names = [one.name for one in declared(Made) if one.name != "either"]
    made = table_of("made", "one row", Made, (), names)
    number = pa.float64()
    reason = pa.struct([("code", pa.string()), ("text", pa.string()), ("value", number), ("limit", number)])
    assert [(one.name, one.type, one.nullable) for one in made] == [
        ("status", pa.string(), False),
        ("role", pa.string(), True),
        ("value", number, True),
        ("known", number, False),
        ("count", pa.int64(), True),
        ("ci", pa.list_(number), True),
        ("parts", pa.list_(pa.struct([("share", number)])), True),
        ("reason", reason, True),
        ("more", pa.string(), False),
    ]
    assert made.field("role").metadata == {b"unit": b"", b"meaning": b"pool: prefill or decode"}
    assert made.field("status").metadata[b"meaning"] == b"ok or refused"
    assert made.metadata == {b"table": b"made", b"grain": b"one row"}


def test_json_schema_follows_the_fields() -> None:
    """What fits the types is accepted; a missing key, an unknown one, a wrong word or number is not."""
    shapes: dict[str, Any] = {}
    schema = object_schema(Made, shapes) | {"$defs": shapes}
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good: dict[str, Any] = {
        "status": "ok", "role": None, "value": 1.5, "known": 2, "count": None, "ci": [1.0, 2.0],
        "parts": [{"share": 0.5}], "reason": None, "either": "text",
    }  # fmt: skip
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(good | {"more": {"a": 1}, "either": None, "role": "decode"})) == []
    wrong: tuple[dict[str, Any], ...] = (
        {"status": "fine"}, {"status": None}, {"role": "cache"}, {"value": None}, {"count": -1},
        {"ci": [1.0]}, {"parts": [{"share": 2.0}]}, {"parts": [{}]}, {"reason": {"code": "a"}}, {"more": 1},
        {"new": 1}, {"either": True},
    )  # fmt: skip
    for change in wrong:
        assert list(validator.iter_errors(good | change)), change
    for name in good:
        assert list(validator.iter_errors({k: v for k, v in good.items() if k != name})), name
    assert schema["properties"]["value"]["description"] == "a number [s]"
    assert schema["properties"]["more"]["description"] == "the rest; absent where there is none"


@dataclass(frozen=True)
class Later:
    """A part of a file that grew."""

    start: Annotated[str, Field("when", key="from")]
    shares: Annotated[dict[str, float], Field("share by name", "ratio", above=0)]
    names: Annotated[tuple[str, ...], Field("names", most=1)]
    added: Annotated[float, Field("a later figure", "s", since="0.2.0")]


def test_a_later_key_is_asked_of_nobody() -> None:
    """Files of before validate without it, and those that have it are held to its type; other limits hold."""
    validator = Draft202012Validator(object_schema(Later, {}))
    before: dict[str, Any] = {"from": "now", "shares": {"a": 0.5}, "names": ["a"]}
    assert list(validator.iter_errors(before)) == []
    assert list(validator.iter_errors(before | {"added": 1.0})) == []
    for change in ({"added": "x"}, {"start": "now"}, {"shares": {"a": 0}}, {"names": ["a", "b"]}):
        assert list(validator.iter_errors(before | change)), change
    described = validator.schema["properties"]["added"]["description"]
    assert described == "a later figure [s]; since version 0.2.0"


def test_a_field_that_says_nothing_is_an_error() -> None:
    """Who adds a figure without its meaning learns it at once, by class and field."""

    @dataclass(frozen=True)
    class Bare:
        value: float

    @dataclass(frozen=True)
    class Silent:
        value: Annotated[float, Field()]

    with pytest.raises(TypeError, match=r"Bare\.value has no Field"):
        declared(Bare)
    with pytest.raises(TypeError, match=r"Silent\.value has no meaning"):
        declared(Silent)


def test_a_figure_is_in_the_table_the_schema_and_the_keys() -> None:
    """Each field of a result has a column and a key, in the same order, required but for what came later."""
    names = [one.name for one in fields(Capacity)]
    assert TABLES["capacity"].names == ["service", "fit", *names]
    shape = summary.json_schema()["$defs"]["Capacity"]
    assert list(shape["properties"]) == names
    assert shape["required"] == [one for one in names if one != "carried_ratio"]


def test_shipped_schema_is_the_generated_one() -> None:
    """The file in the package is what the dataclasses say now; `make docs` renews it."""
    shipped = shipped_schema("summary")
    assert shipped == schema_text(summary.json_schema())
    assert json.loads(shipped) == summary.json_schema()


def test_types_that_no_column_holds_are_named() -> None:
    """A set is no column."""
    with pytest.raises(TypeError, match="set"):
        arrow_type(set)
