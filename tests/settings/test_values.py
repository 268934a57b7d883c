"""Values of settings are read exactly or refused with the setting, the fault and the right form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.errors import UsageError
from hs_analysis.settings import values
from hs_analysis.settings.values import UNIT_SECONDS, moment, seconds, share, suggestion


@pytest.mark.parametrize(
    ("text", "want"),
    [("50ms", 0.05), ("2.5s", 2.5), ("4m", 240.0), ("1h30m", 5400.0), (" 1s ", 1.0), (".5s", 0.5)],
)
def test_durations(text: str, want: float) -> None:
    """Milliseconds, seconds, minutes, hours, and several in one."""
    assert seconds(text, "--startup") == want


@given(st.integers(1, 10**6), st.sampled_from(sorted(UNIT_SECONDS)))
def test_every_whole_number_of_a_unit_is_a_duration(number: int, unit: str) -> None:
    """The value is the number times the unit."""
    assert seconds(f"{number}{unit}", "--slo ttft") == pytest.approx(number * UNIT_SECONDS[unit])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2.5", "'2.5' has no unit; write e.g. 2.5s or 2.5ms"),
        ("2.5 s", "not a duration"),
        ("s", "not a duration"),
        ("", "not a duration"),
        ("2w", "not a duration"),
        ("4min", "not a duration; write 4m"),
        ("2 hours", "not a duration; write 2h"),
        ("0.5 sec", "not a duration; write 0.5s"),
        ("1s!", "not a duration"),
        ("0s", "'0s': a duration must be above zero; write e.g. 2.5s"),
        ("0", "'0': a duration must be above zero; write e.g. 2.5s"),
        ("0.0", "above zero"),
        ("-1s", "above zero"),
        ("-2.5", "'-2.5': a duration must be above zero; write e.g. 2.5s"),
        ("0.5", "'0.5' has no unit; write e.g. 0.5s or 0.5ms"),
        ("1e3", "'1e3' has no unit; write e.g. 1000s or 1000ms"),
        ("-x", "not a duration"),
        ("nan", "not a duration"),
    ],
)
def test_bad_durations(text: str, message: str) -> None:
    """The message names the flag, the fault and what to write."""
    with pytest.raises(UsageError, match=message) as caught:
        seconds(text, "--startup")
    assert caught.value.line().startswith("--startup: ")


def test_moments_are_utc() -> None:
    """Any zone is read, UTC is kept."""
    assert moment("2026-07-01T02:00:00+02:00", "--from") == "2026-07-01T00:00:00Z"
    assert moment("2026-07-01T00:00Z", "--from") == "2026-07-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [("2026-07-01T00:00:00", "has no zone; write e.g. 2026-07-01T00:00:00Z"), ("yesterday", "not a time")],
)
def test_bad_moments(text: str, message: str) -> None:
    """A time without a zone is never guessed at."""
    with pytest.raises(UsageError, match=message):
        moment(text, "--from")


def test_share_forms() -> None:
    """A number or a percentage."""
    assert share("95%", "--slo quantile") == share("0.95", "--slo quantile") == 0.95


@pytest.mark.parametrize(
    ("word", "want"),
    [("kedaa", "did you mean keda?"), ("zzz", "known: keda, rules"), ("rule", "did you mean rules?")],
)
def test_suggestions(word: str, want: str) -> None:
    """The nearest name, or all of them."""
    check: Callable[..., str] = suggestion
    assert check(word, ["keda", "rules"]) == want


def test_unix_times_by_their_digits() -> None:
    """Seconds, ms, µs and ns of one moment are that moment; other lengths are no time."""
    want = "2026-11-24T13:41:06Z"
    stamp = int(datetime(2026, 11, 24, 13, 41, 6, tzinfo=UTC).timestamp())
    for factor in (1, 10**3, 10**6, 10**9):
        assert moment(str(stamp * factor), "t") == want
    assert moment(f"{stamp}.5", "t") == "2026-11-24T13:41:06.500000Z"
    with pytest.raises(UsageError, match="no time of this century"):
        moment("20261124", "t")


def test_local_times_need_a_zone_and_one_meaning() -> None:
    """A local time is read in the zone given; an hour that is repeated or skipped is refused."""
    assert moment("2026-07-01T02:00:00", "--from", "Europe/Berlin") == "2026-07-01T00:00:00Z"
    assert moment("2026-12-01T02:00:00", "--from", "Europe/Berlin") == "2026-12-01T01:00:00Z"
    assert moment("2026-10-25T02:30:00+02:00", "--from", "Europe/Berlin") == "2026-10-25T00:30:00Z"
    for text in ("2026-10-25T02:30:00", "2026-03-29T02:30:00"):
        with pytest.raises(UsageError, match="the clock changes then; write it with its offset"):
            moment(text, "--from", "Europe/Berlin")


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (values.size, "4 gigs", "no amount of memory"),
        (values.zone, "Europe/Berlni", "no such time zone"),
        (values.zone, "../etc/passwd", "no such time zone"),
        (values.named_groups, "(pod)", "no named group"),
        (values.pattern, "(", "no regular expression"),
        (values.switch, "maybe", "neither true nor false"),
        (values.whole_number(0), "1.5", "not a whole number from 0 on"),
        (values.whole_number(20), "3", "not a whole number from 20 on"),
        (values.word_of("reject", "first"), "frist", "did you mean first"),
        (values.plain, "  ", "the text is empty"),
    ],
)
def test_other_forms_are_refused(read: Callable[[str, str], object], text: str, message: str) -> None:
    """The message names the setting and the fault."""
    with pytest.raises(UsageError, match=message) as caught:
        read(text, "the setting")
    assert caught.value.where == "the setting"


def test_whole_share_may_be_one() -> None:
    """Head-room may be all of capacity; nothing above."""
    assert values.whole_share("1", "headroom_ratio") == 1.0
    with pytest.raises(UsageError, match="not between 0 and 1"):
        values.whole_share("1.01", "headroom_ratio")
