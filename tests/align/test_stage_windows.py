"""The width of a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hs_analysis.align.stage import scrape_interval_s, span_s, window_s


@pytest.mark.parametrize(
    ("kind", "interval", "span", "width"),
    [
        ("production", 15.0, 86_400, 60.0),
        ("production", 30.0, 86_400, 60.0),
        ("production", 45.0, 86_400, 90.0),
        ("production", 60.0, 86_400, 120.0),
        ("pressure_test", 5.0, 1200, 20.0),
        ("pressure_test", 1.0, 1200, 15.0),
        ("pressure_test", 15.0, 24 * 60, 60.0),
        ("pressure_test", 15.0, 24 * 60 - 1, 30.0),
        ("pressure_test", 15.0, 60, 30.0),
    ],
)
def test_windows_hold_enough_scrapes(kind: str, interval: float, span: float, width: float) -> None:
    """Two scrapes and a minute in production; four in a test, two where that would leave too few windows."""
    assert window_s(kind, interval, span) == width


def test_the_usual_interval_is_that_of_known_signals() -> None:
    """Unknown metrics do not count; without any the usual scrape interval is assumed."""
    series = pl.DataFrame({"signal": ["a", "b", "c", None], "interval_s": [15.0, 15.0, None, 300.0]})
    assert scrape_interval_s(series) == 15.0
    assert scrape_interval_s(series.filter(pl.col("signal").is_null())) == 15.0
    assert scrape_interval_s(series.with_columns(pl.lit(0.0).alias("interval_s"))) == 15.0


def test_time_between_captures_is_not_covered() -> None:
    """Two runs of ten minutes a week apart cover twenty minutes."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    series = pl.DataFrame({"series_id": [0, 1, 2], "capture": ["a", "a", "b"]})
    firsts = [start, start + timedelta(minutes=5), start + timedelta(days=7)]
    lasts = [
        start + timedelta(minutes=9),
        start + timedelta(minutes=10),
        start + timedelta(days=7, minutes=10),
    ]
    quality = pl.DataFrame({"series_id": [0, 1, 2], "first_t": firsts, "last_t": lasts})
    assert span_s(series, quality) == 1200.0
    assert span_s(series, quality.clear()) == 0.0
