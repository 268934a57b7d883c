"""Numbers, spans and names as text."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.report import wording
from hs_analysis.schema.number_text import percent, percent_beside


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.2874, "1.29"),
        (999.7, "1,000"),
        (4953.4, "4,953"),
        (24_313, "24,310"),
        (-0.5, "−0.500"),
        (0.000012, "1.2e-5"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (True, "–"),
    ],
)
def test_numbers_have_sensible_digits(value: object, text: str) -> None:
    """Three significant digits, four from a thousand up; what is no number is a dash, never zero."""
    assert wording.number(value) == text


@given(st.floats(min_value=1e-3, max_value=1e12) | st.floats(min_value=-1e12, max_value=-1e-3))
def test_a_written_number_is_near_its_value(value: float) -> None:
    """Reading the text back gives the value within half a percent, with its sign."""
    back = float(wording.number(value).replace(",", "").replace("−", "-"))
    assert back == pytest.approx(value, rel=5e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.283, "28.3 %"), (0.28, "28 %"), (0.0123, "1.2 %"), (0.00042, "0.042 %"), (None, "–")],
)
def test_ratios_become_percent(value: float | None, text: str) -> None:
    """A ratio is written as a percentage."""
    assert wording.percent(value) == text


def test_a_percentage_is_as_exact_as_what_it_is_of() -> None:
    """Rough shares are whole, growth has a sign, a setting no idle zero; a limit reads apart."""
    assert percent(0.664, whole=True) == "66 %"
    assert (percent(0.1, signed=True), percent(-0.333, signed=True)) == ("+10 %", "−33.3 %")
    assert (percent(0.05), percent(0.05, exact=True), percent(0.055, exact=True)) == ("5.0 %", "5 %", "5.5 %")
    assert percent_beside(0.0504, 0.05) == "5.04 %"
    assert (percent_beside(0.05, 0.05), percent_beside(0.16, 0.05)) == ("5.0 %", "16 %")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0483, "48.3 ms"),
        (2.5, "2.5 s"),
        (300.0, "300 s"),
        (900.0, "15 min"),
        (8100.0, "2.25 h"),
        (7 * 86400, "7 days"),
    ],
)
def test_spans_of_time_take_the_unit_a_person_would(value: float, text: str) -> None:
    """Milliseconds below a second, minutes from ten minutes, hours from two hours, days from three."""
    assert wording.seconds(value) == text


def test_intervals_keep_both_ends_and_refuse_half_a_pair() -> None:
    """An interval has two ends in one unit; anything else is no interval."""
    assert wording.interval([3900, 4450.4], "tokens/s") == "3,900 to 4,450"
    assert wording.interval([0.9, 1.1], "s") == "900 ms to 1.1 s"
    assert wording.interval([0.62, 0.7], "ratio") == "62 to 70"
    assert wording.interval([-0.019, 0.07], "", 2) == "−0.02 to 0.07"
    assert [wording.interval(bad) for bad in (None, [1], [1, None], "ab", [1, math.nan])] == [""] * 5


def test_names_say_the_role_once() -> None:
    """A signal is named with its role, unless the name says it already."""
    pairs = [
        ("decode_tps", "decode"),
        ("gpu_util", "prefill"),
        ("ttft", "service"),
        ("tbt", "decode"),
        ("my_qps", "decode"),
    ]
    assert [wording.signal_label(*pair) for pair in pairs] == [
        "decode TPS",
        "prefill GPU utilisation",
        "TTFT",
        "TBT (decode)",
        "decode my qps",
    ]
    assert wording.policy_name("prefill_tps_effective@prefill+decode_tps@decode") == (
        "prefill TPS (cache-missed) + decode TPS"
    )
    assert wording.policy_name("static_peak") == "static peak"


def test_spans_are_utc_and_do_not_repeat_the_day() -> None:
    """A stretch is written in UTC with its length, whatever zone its ends were given in."""
    assert wording.span("2026-11-02T11:15:00+01:00", "2026-11-02T12:00:00Z") == (
        "2026-11-02 10:15 to 12:00 UTC (105 min)"
    )
    assert wording.span("nonsense", None) == "–"


def test_every_status_is_a_word() -> None:
    """No status is told by colour or sign alone."""
    for word in (
        "ok",
        "floor",
        "drifting",
        "refused",
        "proportional",
        "guard",
        "unusable",
        "unknown",
        "warn",
    ):
        assert re.fullmatch("[a-z]+", wording.status(word)["word"])
    assert wording.status("brand new")["word"] == "brand new"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0 s"), (5.8e-8, "<1 s"), (0.99, "<1 s"), (1.0, "1 s"), (700.0, "11.7 min")],
)
def test_expected_times_below_a_second_are_not_told_apart(value: float | None, text: str) -> None:
    """A share of windows of a millionth is no fraction of a millisecond."""
    assert wording.expected_time(value) == text
    assert wording.quantity(value, "expected_s")[0] == text.split(" ", maxsplit=1)[0]
