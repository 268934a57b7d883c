"""Times of tables: zones, clock changes, units, digits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.errors import InputError, UsageError
from hs_analysis.ingest.timestamps import Clock, epoch_us, unit_by_size


def read(*texts: object, dtype: type[pl.DataType] = pl.String, **how: object) -> list[int | str]:
    """Return microseconds, or the reason there are none."""
    times = Clock("f", **how).read(pl.Series(texts, dtype=dtype))  # type: ignore[arg-type]
    return [
        t if reason is None else reason
        for t, reason in zip(times.t_us.tolist(), times.reasons.to_list(), strict=True)
    ]


LOCAL_2016, LOCAL_2090 = datetime(2016, 1, 1), datetime(2090, 1, 1)  # noqa: DTZ001

NOON = 1_764_072_000_000_000  # 2025-11-25 12:00:00 UTC


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-25T12:00:00Z", "2025-11-25 12:00:00 UTC", "2025-11-25T12:00:00.000000000Z",
        "2025-11-25T13:00:00+01:00", "2025-11-25 06:30:00-0530", "2025/11/25 12:00:00Z", "2025-11-25T12:00Z",
        "1764072000", "1764072000.0", "1764072000000", "1764072000000000", "1764072000000000000",
    ],
)  # fmt: skip
def test_one_moment_in_many_forms(text: str) -> None:
    """Texts with a zone and Unix numbers of every unit name the same moment."""
    assert read(text) == [NOON]


def test_fractions_are_kept_to_the_microsecond() -> None:
    """Seven digits, as the Azure traces have, are rounded at the seventh; nanoseconds too."""
    assert read("2025-11-25 12:00:00.6805905Z") == [NOON + 680_590]
    assert read("2025-11-25 12:00:00.6805906Z") == [NOON + 680_591]
    assert read("1764072000000000500") == [NOON + 1]
    assert read(1764072000000001499, dtype=pl.Int64) == [NOON + 1]
    assert read("1764072000000001499", None) == [NOON + 1, "bad_ts"]


def test_a_time_without_a_zone_is_refused_unless_one_is_given() -> None:
    """The reason says so; the zone given is that of the log."""
    assert read("2025-11-25 12:00:00") == ["naive_ts"]
    assert read("2025-11-25 13:00:00", tz="Europe/Berlin") == [NOON]
    assert read("2025-11-25T12:00:00Z", tz="Europe/Berlin") == [NOON]
    assert read(datetime(2025, 11, 25, 12), dtype=pl.Datetime("us")) == ["naive_ts"]  # noqa: DTZ001


def test_the_hour_that_comes_twice_is_ambiguous_and_the_one_that_never_comes_is_no_time() -> None:
    """In Berlin 02:30 came twice on 25 October 2026 and not at all on 29 March."""
    got = read(
        "2026-10-25 01:59:59", "2026-10-25 02:30:00", "2026-10-25 03:00:00", "2026-03-29 02:30:00",
        tz="Europe/Berlin",
    )  # fmt: skip
    assert got[1] == "tz_ambiguous"
    assert got[3] == "bad_ts"
    assert isinstance(got[0], int)
    assert isinstance(got[2], int)
    assert got[2] - got[0] == 2 * 3600 * 1_000_000 + 1_000_000


def test_no_times() -> None:
    """Empty cells, words, days that don't exist and years past 2100 are no times."""
    assert read(None, "yesterday", "2026-13-01 00:00:00Z", "2026-02-30 00:00:00Z") == ["bad_ts"] * 4
    assert read("1764072000", None, "1e300", "9e9") == [NOON, "bad_ts", "bad_ts", "bad_ts"]


def test_the_first_number_tells_the_unit_of_all() -> None:
    """What lies outside it then is no time, and the span is said in UTC and in the zone given."""
    clock = Clock("f", tz="Europe/Berlin")
    clock.read(pl.Series(["1764072000000", "1764072060000"]))
    warnings, infos = clock.notes()
    assert warnings == []
    assert infos == [
        "numeric times were read as Unix milliseconds: 2025-11-25 12:00:00 to 2025-11-25 12:01:00 UTC "
        "(2025-11-25 13:00:00 to 2025-11-25 13:01:00 Europe/Berlin)"
    ]


def test_times_before_the_age_of_llms_are_a_warning() -> None:
    """Seconds from a start look like 1970."""
    clock = Clock("f")
    clock.read(pl.Series(["0", "60"]))
    assert "times begin 1970-01-01 00:00:00 UTC as seconds" in clock.notes()[0][0]


def test_a_unit_that_is_given_is_not_guessed() -> None:
    assert read("1764072000", unit="ms") == [1_764_072_000_000]
    assert read("60", unit="s", relative=True, epoch_us=NOON) == [NOON + 60_000_000]


@pytest.mark.parametrize(
    ("value", "unit"), [(1.7e9, "s"), (1.7e12, "ms"), (1.7e15, "us"), (1.7e18, "ns"), (0, "s"), (1e30, "ns")]
)
def test_units_by_size(value: float, unit: str) -> None:
    assert unit_by_size(value) == unit


def test_all_naive_is_refused_and_some_naive_is_not() -> None:
    clock = Clock("f.csv")
    clock.read(pl.Series(["2025-11-25 12:00:00", "x"]))
    with pytest.raises(InputError, match=r"no zone \(first: 2025-11-25 12:00:00\); say which: --tz"):
        clock.require_zone()
    clock.read(pl.Series(["2025-11-25 12:00:00Z"]))
    clock.require_zone()


def test_what_is_no_zone_and_no_epoch() -> None:
    with pytest.raises(UsageError, match="no time zone 'Mars/Dome'"):
        Clock("f", tz="Mars/Dome")
    with pytest.raises(UsageError, match="no time 'soon'"):
        epoch_us("soon")
    assert epoch_us("2025-11-25T12:00:00") == epoch_us("2025-11-25T13:00:00+01:00") == NOON
    assert epoch_us(None) is None


@given(
    st.datetimes(LOCAL_2016, LOCAL_2090),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
)
def test_local_times_as_the_standard_library_reads_them(moment: datetime, zone: str) -> None:
    """Every local time that exists once is read as zoneinfo does."""
    first, second = (moment.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    once = first.utcoffset() == second.utcoffset()
    got = read(moment.isoformat(sep=" "), tz=zone)[0]
    if once:
        assert got == (first - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    else:
        assert got in ("tz_ambiguous", "bad_ts")


@given(st.lists(st.text(max_size=40) | st.none(), max_size=5), st.sampled_from([None, "UTC"]))
def test_any_text_is_a_time_or_has_a_reason(texts: list[str | None], zone: str | None) -> None:
    got = read(*texts, tz=zone)
    assert len(got) == len(texts)
    assert all(isinstance(one, int) or one in ("bad_ts", "naive_ts", "tz_ambiguous") for one in got)
