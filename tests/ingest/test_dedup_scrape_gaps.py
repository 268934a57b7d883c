"""Scrape gaps that the server hid by repeating the last value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from hs_analysis.ingest.dedup import frozen_ranges

START = datetime(2026, 1, 1, tzinfo=UTC)


def moments(
    repeats: list[int], *, series: int = 100, clocks: int = 0, stuck: list[int] | None = None,
    alive: int | None = None, capture: str = "",
) -> pl.DataFrame:  # fmt: skip
    """Return the result of ingest/repeats, one moment every 15 s; ``stuck`` = clocks that repeat."""
    size = len(repeats)
    return pl.DataFrame(
        {
            "capture": [capture] * size,
            "t": [START + timedelta(seconds=15 * i) for i in range(size)],
            "series": [series] * size,
            "repeats": repeats,
            "clocks": [clocks] * size,
            "clock_repeats": stuck or [0] * size,
            "alive": [series if alive is None else alive] * size,
        },
        schema_overrides={"t": pl.Datetime("us", "UTC")},
    )


def found(*frames: pl.DataFrame) -> list[tuple[str, float, float]]:
    """Return (capture, first step, last step) of the stretches."""
    return [
        (c, (a - START).total_seconds() / 15, (b - START).total_seconds() / 15)
        for c, a, b, _ in frozen_ranges(pl.concat(frames)).iter_rows()
    ]


def test_three_steps_in_which_all_repeat_are_a_gap() -> None:
    """Both ends of the stretch are repeated samples; two steps are too few, and 96 % are not all."""
    assert found(moments([20, 20, 97, 100, 99, 20, 20])) == [("", 2, 4)]
    assert found(moments([20, 20, 100, 100, 20, 20, 20])) == []
    assert found(moments([20, 20, 96, 96, 96, 20, 20])) == []


def test_a_clock_that_goes_on_says_that_the_service_was_idle() -> None:
    """Values of an idle service repeat without a gap; a clock repeats only in one."""
    idle = [100] * 6
    assert found(moments([20, *idle, 20], clocks=4)) == []
    assert found(moments([20, *idle, 20], clocks=4, stuck=[0, 0, 4, 4, 4, 4, 0, 0])) == [("", 2, 5)]
    assert found(moments([20, *idle, 20], clocks=4, stuck=[0, 3, 3, 3, 3, 3, 3, 0])) == []


def test_without_a_clock_a_mostly_idle_service_is_not_frozen() -> None:
    """Where series usually repeat, repeating says nothing."""
    assert found(moments([85] * 10 + [100] * 5)) == []
    assert found(moments([79] * 10 + [100] * 5)) == [("", 10, 14)]


def test_steps_shorter_than_the_scrape_interval_are_no_gap() -> None:
    """Every value repeats four times of five: only a stretch well over the usual one is a gap."""
    usual = [20, 100, 100, 100, 100]
    clock = [0, 2, 2, 2, 2]
    assert found(moments(usual * 8, clocks=2, stuck=clock * 8)) == []
    gap = [*usual * 4, *[100] * 10, *usual * 4]
    stuck = [*clock * 4, *[2] * 10, *clock * 4]
    assert found(moments(gap, clocks=2, stuck=stuck)) == [("", 16, 29)]


def test_one_target_at_a_time_says_nothing_of_the_others() -> None:
    """With the true scrape times each moment holds one target; that it repeats is no gap."""
    assert found(moments([10, 10, 30, 30, 30, 10, 10], series=30, alive=100)) == []
    assert found(moments([10, 10, 50, 50, 50, 10, 10], series=50, alive=100)) == [("", 2, 4)]


def test_captures_are_judged_apart() -> None:
    """A gap of one capture is none of the other, and the result is sorted."""
    gap = [20, 20, 100, 100, 100, 20, 20]
    frames = (moments([20] * 7, capture="a"), moments(gap, capture="c"), moments(gap, capture="b"))
    assert found(*frames) == [("b", 2, 4), ("c", 2, 4)]


def test_targets_are_scraped_again_one_after_the_other() -> None:
    """Two steps after a stretch single series may still repeat; at the end of the input there are fewer."""
    gap = moments([20, 20, 100, 100, 100, 20, 20, 20])
    end = moments([20, 20, 20, 20, 100, 100, 100, 20])
    for frame, steps in ((gap, 6), (end, 7)):
        settled = frozen_ranges(frame)["settle_t"][0]
        assert (settled - START).total_seconds() / 15 == steps


def test_nothing_to_judge_gives_no_rows() -> None:
    """An empty input keeps the columns."""
    assert frozen_ranges(moments([])).columns == ["capture", "first_t", "last_t", "settle_t"]
