"""Selectors say what they mean, and a split loses no series and doubles none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.collect.plan import halves
from hs_analysis.collect.selectors import (
    LabelMatcher,
    SeriesSelector,
    complement,
    one_of,
    parse_matchers,
    query_of,
    with_matcher,
)
from hs_analysis.errors import UsageError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=6)
SERIES = st.lists(
    st.dictionaries(st.sampled_from(["pod", "instance", "le"]), NAMES, max_size=3), min_size=1, max_size=8
)


def test_text_of_a_selector() -> None:
    """A bare metric has no braces; alternatives are joined by or; quotes and backslashes are escaped."""
    plain = SeriesSelector("up")
    assert query_of(plain.match) == "up"
    two = plain.spread(
        [(LabelMatcher("a", "=", 'x"\\'),), (LabelMatcher("a", "=", ""), LabelMatcher("b", "!~", "y|z"))]
    )
    assert query_of(two.match) == 'up{a="x\\"\\\\"} or up{a="",b!~"y|z"}'


def test_absent_labels_are_empty_and_patterns_are_anchored() -> None:
    """As in Prometheus."""
    assert LabelMatcher("pod", "=", "").accepts({})
    assert LabelMatcher("pod", "!~", "a").accepts({"pod": "ab"})
    assert not LabelMatcher("pod", "=~", "a").accepts({"pod": "ab"})


@given(st.lists(st.tuples(st.sampled_from(["=", "!=", "=~", "!~"]), NAMES), min_size=1, max_size=3))
def test_matchers_are_read_back_as_written(pairs: list[tuple]) -> None:
    """What text writes, parse_matchers reads."""
    matchers = tuple(LabelMatcher("pod", operator, value) for operator, value in pairs)
    assert parse_matchers("{" + ",".join(m.text for m in matchers) + "}", "--match") == matchers


@given(NAMES, NAMES)
def test_one_of_takes_values_as_text(value: str, other: str) -> None:
    """Metacharacters in a pod's name match themselves alone."""
    assert one_of("pod", [value]).accepts({"pod": value})
    assert one_of("pod", [value]).accepts({"pod": other}) == (value == other)


@given(SERIES, SERIES)
def test_halves_are_a_partition(series: list[dict], later: list[dict]) -> None:
    """Each series, also one that was not known, is in exactly one half; neither half is everything."""
    cut = halves(series)
    if cut is None:
        assert all(len({row.get(name, "") for row in series}) == 1 for name in ("pod", "instance", "le"))
        return
    first, second = cut
    for row in series + later:
        assert first.accepts(row) != second.accepts(row)
    assert {first.accepts(row) for row in series} == {True, False}
    assert complement(first) == second


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("up", 'up{pod="p"}'),
        ("up{}", 'up{pod="p"}'),
        ('up{a="{x}",}', 'up{a="{x}",pod="p"}'),
        ('vllm:x{a="b"}', 'vllm:x{a="b",pod="p"}'),
    ],
)
def test_one_more_matcher(selector: str, expected: str) -> None:
    """The text of a selector takes another matcher, whatever stands in it."""
    assert with_matcher(selector, LabelMatcher("pod", "=", "p")) == expected


@pytest.mark.parametrize("text", ["pod", "pod=p", 'pod="p" job="j"', 'pod=="p"', '"pod"="p"', 'a="b",,c="d"'])
def test_what_is_no_matcher(text: str) -> None:
    """A usage error that names the flag."""
    with pytest.raises(UsageError, match="--match: no label matcher at"):
        parse_matchers(text, "--match")


def test_matchers_with_blanks_and_a_last_comma() -> None:
    """Blanks around a matcher and a comma at the end are allowed, as in PromQL."""
    assert parse_matchers(' { a = "b" , c!="d", } ', "--match") == (
        LabelMatcher("a", "=", "b"),
        LabelMatcher("c", "!=", "d"),
    )
    assert parse_matchers("", "--match") == ()
