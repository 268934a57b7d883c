"""Lines of keys in YAML and JSON texts, by path."""

from __future__ import annotations

import pytest
from ruamel.yaml.error import YAMLError

from hs_analysis.schema.places import DocumentText, documents_of, lines_of_documents, nearest, yaml_fault

YAML_TEXT = """# a comment
a: 1
b:
  - x: 1
    y: {z: 2}
  - 7
c.d/e: {f: 1}
---
---
q:
  - - 1
"""

JSON_TEXT = """
{"a": 1,
 "b": [{"x": 1,
   "y": {"z": "q,}\\""}},
  7],
 "c": {
  "d": null}, "e": [[1,
  2], []]
"""


def test_every_key_and_item_has_its_line() -> None:
    """Documents that are empty don't count; a key with dots is one key."""
    first, second = lines_of_documents(YAML_TEXT)
    assert first == {
        "": 2, "a": 2, "b": 3, "b[0]": 4, "b[0].x": 4, "b[0].y": 5, "b[0].y.z": 5, "b[1]": 6, "c.d/e": 7,
        "c.d/e.f": 7,
    }  # fmt: skip
    assert second == {"": 10, "q": 10, "q[0]": 11, "q[0][0]": 11}


def test_a_json_text_has_them_as_far_as_it_goes() -> None:
    """Text in strings is no structure; the one here is cut."""
    (found,) = lines_of_documents(JSON_TEXT)
    assert found == {
        "": 2, "a": 2, "b": 3, "b[0]": 3, "b[0].x": 3, "b[0].y": 4, "b[0].y.z": 4, "b[1]": 5, "c": 6,
        "c.d": 7, "e": 7, "e[0]": 7, "e[0][0]": 7, "e[0][1]": 8, "e[1]": 8,
    }  # fmt: skip


def test_a_key_that_is_missing_is_placed_where_it_belongs() -> None:
    """At the nearest key above it; without one at the document."""
    place = DocumentText("f.yaml", YAML_TEXT)
    assert place.at("b[0].y.w.v") == "f.yaml:5"
    assert place.at("nothing.here") == "f.yaml:2"
    assert DocumentText("f.yaml", YAML_TEXT, 1).at("q[7]") == "f.yaml:10"
    assert DocumentText("f.yaml", "a: [").at("a") == "f.yaml:1", "no YAML has no lines"
    assert nearest({"": 4}, "") == 4


def test_a_document_that_holds_itself_ends() -> None:
    """An anchor inside what it names is taken once."""
    assert lines_of_documents("a: &x\n  b: *x\n  c: 1\n") == [{"": 1, "a": 1, "a.b": 2, "a.c": 3}]


def test_comments_on_top_move_lines_and_nothing_else() -> None:
    """Documents under other comments are the same values, at lines of the whole text; faults are, too."""
    assert documents_of("# one\n" + YAML_TEXT) == tuple((at + 1, one) for at, one in documents_of(YAML_TEXT))
    assert [at for at, _ in documents_of(YAML_TEXT)] == [2, 9, 10]
    assert documents_of("# one\n") == documents_of("") == ()
    with pytest.raises(YAMLError) as raised:
        documents_of("# one\na: 1\nb: [1, 2\n")
    assert yaml_fault(raised.value, "x.yaml")[1] == "x.yaml:3"
