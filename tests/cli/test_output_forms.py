"""Results have the same content in every form, and standard parsers read them."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hs_analysis.cli.output import (
    CommandOutput,
    Table,
    as_csv,
    as_json,
    as_markdown,
    as_yaml,
    number,
    text_of,
    write_output,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
)
words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=12)
plain = st.recursive(
    scalars
    | words
    | st.sampled_from(["yes", "no", "1:30", "2026-07-01", "1e5", "0x1", "null", "~", "#", "- a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_json_and_yaml_say_the_same(data: object) -> None:
    """Both parse back to the data, YAML as version 1.1 and as 1.2."""
    assert json.loads(as_json(data)) == data
    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(as_yaml(data)) == data


def test_nan_is_null() -> None:
    """What JSON has no word for becomes null, in every form."""
    data = {"a": math.nan, "b": [math.inf, 1.0]}
    assert json.loads(as_json(data)) == {"a": None, "b": [None, 1.0]}
    assert YAML(typ="safe").load(as_yaml(data)) == {"a": None, "b": [None, 1.0]}
    assert as_csv([data]) == 'a,b\n,"[null, 1.0]"\n'


def test_csv_has_every_column_once() -> None:
    """Records with different keys share one header; null is empty, lists are JSON."""
    text = as_csv([{"a": 1, "b": None}, {"a": 'x,"y"', "c": [1, 2], "d": True}])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows == [
        {"a": "1", "b": "", "c": "", "d": ""},
        {"a": 'x,"y"', "b": "", "c": "[1, 2]", "d": "true"},
    ]


def test_table_off_a_terminal_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Long cells stay on one line, markup in data stays text, and no line ends in blanks."""
    long = "x" * 300
    table = Table(
        "Things",
        [("a", "name"), ("b", "amount")],
        [{"a": f"[red]{long}", "b": 1234.5}, {"a": "y", "b": None}],
    )
    write_output(CommandOutput({}, [], lambda: ["a line", table, Table("More", [], [])]), "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a line"
    assert any(f"[red]{long}" in line for line in lines)
    assert lines[-1] == "More: none"
    assert all(line == line.rstrip() for line in lines)
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "want"),
    [(None, "–"), (math.nan, "–"), (0.0, "0"), (0.012345, "0.01235"), (1234.56, "1,235"), (12.3456, "12.35")],
)
def test_numbers(value: float | None, want: str) -> None:
    """Four digits, thousands in groups, a dash for what is not known."""
    assert number(value) == want


def test_cells() -> None:
    """Words for truth values, groups in whole numbers, lists joined."""
    assert [text_of(v) for v in (True, False, 1234567, [1, None], "a")] == [
        "yes",
        "no",
        "1,234,567",
        "1, –",
        "a",
    ]


def test_markdown_has_paragraphs_items_and_tables() -> None:
    """Indented lines are items; names with signs of Markdown stay as they are."""
    blocks = [
        "m: apply the policy.",
        "  Open: `x` | <b>",
        "report: r.html",
        Table("Signals", (("signal", "signal"), ("snr", "SNR")), [{"signal": "a_b", "snr": 2.5}]),
        Table("None", (("x", "x"),), [], empty="nothing"),
    ]
    assert (
        as_markdown(blocks)
        == (
            "m: apply the policy.\n\n"
            "- Open: \\`x\\` \\| \\<b\\>\n\n"
            "report: r.html\n\n"
            "**Signals**\n\n| signal | SNR |\n| --- | ---: |\n| a\\_b | 2.5 |\n\n"
            "**None**\n\nnothing\n\n"
        ).rstrip("\n")
        + "\n"
    )


def test_an_item_of_several_lines_is_one_line_of_markdown() -> None:
    """Line breaks and what indents after them are for a terminal: Markdown wraps by itself."""
    assert as_markdown(["  query:\n      was a →\n      is  b"]) == "- query: was a → is b\n"
