"""Users' patterns: found and taken apart as before, in time in line with the text, else refused."""

from __future__ import annotations

import re
import time

import pytest

from hs_analysis.errors import UsageError
from hs_analysis.patterns import check, group_names, groups_in, hits

FOR_EVER = r"^(\w+\s?)*$"
"""A pattern on which an engine that backtracks tries every way to cut a text into words."""

LONG = "a" * 60 + "!"


def test_a_pattern_that_would_backtrack_for_ever() -> None:
    """60 characters take Python's engine longer than anyone waits; here they take no time."""
    began = time.process_time()
    assert hits(FOR_EVER, [LONG, "a b"]) == {"a b"}
    assert groups_in(r"(?P<word>(\w+\s?)*)$", [LONG])[0] is not None
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(
    "pattern", [r"(?=prefill)", r"(?<!x)prefill", r"(a)\1", "(", "[z-a]", "a{5000}", r"(?P<pod>a)(?=b)"]
)
def test_what_the_engine_can_not_take_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError) as told:
        check(pattern, 'roles."x"')
    assert told.value.where == 'roles."x"'
    assert "RE2" in told.value.hint


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(?P<pod>\S+) (?P<metric>\S+)", "é p-0 up"),
        (r"(?P<pod>p-(\d+|x))( (?P<metric>u.))?", "p-1"),
        (r"[()](?P<pod>[(\[a-c]+)\((x|y)\]", "(a[b(y]"),
        (r"(?P<pod>[^]()]+)|(no)", "]x("),
        (r"\((?P<pod>.*?)\)(\()?", "a (b c)( d"),
    ],
)
def test_groups_are_where_python_finds_them(pattern: str, text: str) -> None:
    """Nameless groups, classes with brackets in them and escaped brackets; places are in bytes of UTF-8."""
    match = re.search(pattern, text)
    assert match is not None
    (found,) = groups_in(pattern, [text])
    assert found is not None
    raw = text.encode()
    read = {name: raw[start:end].decode() for name, (start, end) in found.items()}
    assert read == {name: value or "" for name, value in match.groupdict().items()}
    assert group_names(pattern) == tuple(match.groupdict())


def test_a_pattern_without_named_groups_has_no_names() -> None:
    assert group_names(r"(a)|\(\?P<b>") == ()
    assert groups_in(r"(?P<a>x)", ["y"]) == [None]
