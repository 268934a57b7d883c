"""Factors between units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.catalogue.rows import BASES, factor, known_units, measured
from hs_analysis.errors import UsageError


@pytest.mark.parametrize(
    ("unit", "wanted", "expected"),
    [
        ("percent", "ratio", 0.01), ("%", "ratio", 0.01), ("ratio", "ratio", 1.0),
        ("ms", "s", 1e-3), ("us", "s", 1e-6), ("min", "s", 60.0),
        ("req/min", "requests/s", 1 / 60), ("rpm", "requests/s", 1 / 60), ("qps", "requests/s", 1.0),
        ("requests/h", "requests/s", 1 / 3600), ("tokens/min", "tokens/s", 1 / 60),
        ("ktokens/s", "tokens/s", 1e3), ("MiB", "bytes", 1048576.0), ("KB/ms", "bytes/s", 1e6),
        ("kW", "W", 1e3), ("mJ/s", "W", 1e-3), ("pods", "instances", 1.0),
    ],
)  # fmt: skip
def test_a_value_is_converted(unit: str, wanted: str, expected: float) -> None:
    """By hand."""
    assert factor(unit, wanted) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "wanted", "expected"), [("tokens", "tokens/s", 1.0), ("mJ", "W", 1e-3), ("s", "s/s", 1.0)]
)
def test_a_counter_is_read_per_second(unit: str, wanted: str, expected: float) -> None:
    """What it counts, per second: joules become watts."""
    assert factor(unit, wanted, counter=True) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "wanted", "counter"),
    [
        ("ms", "ratio", False),
        ("tokens", "tokens/s", False),
        ("tokens/s", "tokens/s", True),
        ("W", "J", False),
    ],
)
def test_what_measures_something_else_is_refused(unit: str, wanted: str, counter: bool) -> None:
    """A rate is no count, and a time no share."""
    with pytest.raises(UsageError, match="does not measure"):
        factor(unit, wanted, counter=counter)


@pytest.mark.parametrize("unit", ["milliseconds", "", "tokens/furlong", "s/tokens", "a/b/c"])
def test_an_unknown_unit_names_the_known_ones(unit: str) -> None:
    """The message is enough to repair the setting."""
    with pytest.raises(UsageError) as raised:
        factor(unit, "s", where='metrics."x"')
    assert known_units() in raised.value.hint
    assert raised.value.where == 'metrics."x"'


@given(st.sampled_from(sorted(BASES)), st.sampled_from(sorted(BASES)))
def test_there_and_back_is_one(one: str, other: str) -> None:
    """Of units that measure the same."""
    found, back = measured(one), measured(other)
    assert found is not None
    assert back is not None
    if found[0] == back[0]:
        assert factor(one, other) * factor(other, one) == pytest.approx(1.0)
