"""How far rates from a query's grid may be off: exact cases, and counters scraped at times nobody told."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.align.increases import Increases, increases_of
from hs_analysis.align.scrape_times import RATE_BOUNDS, delays, rate_bounds
from hs_analysis.align.series_windows import WindowStore, counter_windows
from hs_analysis.align.terms import TERM_COLUMNS

STEP_S, WIDTH_S = 5.0, 20.0
START = 1_764_000_000.0
CHOSEN = pl.DataFrame(
    [{"service": "s", "capture": "", "role": "decode", "signal": "decode_tps", "preference": 0}]
)


def terms(*series: tuple[int, str, str], pool: str = "sum") -> pl.DataFrame:
    """The term table of a signal: number, emitter and side of each series."""
    rows = [
        {
            "signal": "decode_tps", "source": "vllm", "preference": 0, "pool": pool, "role": "decode",
            "gpu_group": None, "service": "s", "capture": "", "instance": emitter, "emitter": emitter,
            "term": 0 if side == "num" else 1, "side": side, "sign": 1.0, "series_id": number, "read": "rate",
            "generation": 0,
        }
        for number, emitter, side in series
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=TERM_COLUMNS)


def later(counter: Increases) -> Increases:
    return Increases(counter.t0 - STEP_S, counter.t1 - STEP_S, counter.gain, counter.gap)


def kept(counters: dict[int, np.ndarray]) -> WindowStore:
    """The windows of counters on a grid, by their gains per step, and those a step later."""
    store = WindowStore(io.BytesIO())
    for number, gains in counters.items():
        t_s = START + STEP_S * np.arange(gains.size + 1)
        counter = increases_of(t_s, np.concatenate([[0.0], np.cumsum(gains)]), STEP_S)
        store.put("windows", number, counter_windows(counter, WIDTH_S))
        store.put("later", number, counter_windows(later(counter), WIDTH_S))
    return store


def bounds(table: pl.DataFrame, store: WindowStore, width_s: float = WIDTH_S) -> list[float | None]:
    """The bounds of the windows of a width, in order of time."""
    found = rate_bounds(CHOSEN, table, store, WIDTH_S, dict.fromkeys(table["series_id"], STEP_S))
    assert dict(found.schema) == RATE_BOUNDS
    return found.filter(pl.col("width_s") == width_s).sort("t")["open_ratio"].to_list()


def test_a_counter_is_open_by_the_steps_after_the_ends_of_a_window() -> None:
    """Windows of four steps; between 8 in the step after the end and 2 in the first lie 6 of 20."""
    gains = np.array([2.0, 6, 6, 6, 8, 4, 4, 4, 8, 8, 8, 8, 8])
    store = kept({1: gains})
    assert bounds(terms((1, "p-0", "num")), store)[:2] == pytest.approx([6 / 20, 0.0])


def test_wider_windows_have_the_difference_of_their_ends() -> None:
    """Two windows of 20 s gain 60, and the ends differ by 4: as the halves' bounds, not their sum."""
    gains = np.array([2.0, 6, 6, 6, 20, 8, 8, 4, 6, 8, 8, 8, 8])
    store = kept({1: gains})
    assert bounds(terms((1, "p-0", "num")), store)[:2] == pytest.approx([18 / 20, 14 / 40])
    assert bounds(terms((1, "p-0", "num")), store, 2 * WIDTH_S)[:1] == pytest.approx([4 / 60])


def test_targets_have_delays_of_their_own() -> None:
    """Differences of opposite sign do not cancel: the larger of the two sums counts."""
    store = kept({1: np.array([2.0, 6, 6, 6, 8, 8]), 2: np.array([6.0, 6, 6, 2, 4, 4])})
    both = terms((1, "p-0", "num"), (2, "p-1", "num"))
    assert bounds(both, store)[0] == pytest.approx(6 / 40)


def test_a_ratio_moves_as_its_two_counters_together() -> None:
    """Requests and their seconds are scraped at once: twice as many of both leave the mean alone."""
    seconds, count = np.array([2.0, 4, 4, 2, 4, 4, 4, 4]), np.array([1.0, 2, 2, 1, 2, 2, 2, 2])
    table = terms((1, "p-0", "num"), (2, "p-0", "den"), pool="ratio")
    assert bounds(table, kept({1: seconds, 2: count}))[0] == pytest.approx(0.0)
    slower = np.array([2.0, 4, 4, 2, 8, 8, 8, 8])
    assert bounds(table, kept({1: slower, 2: count}))[0] == pytest.approx((6 - 2.0) / 6 / 2.0)


def test_nothing_counted_has_no_ratio_and_no_grid_no_rows() -> None:
    """A rate of zero is open by no share of it."""
    store = kept({1: np.zeros(8)})
    assert bounds(terms((1, "p-0", "num")), store)[0] is None
    assert rate_bounds(CHOSEN, terms((1, "p-0", "num")), store, WIDTH_S, {}).is_empty()


@given(
    st.lists(st.integers(0, 50), min_size=24, max_size=24),
    st.lists(st.integers(0, 50), min_size=24, max_size=24),
    st.floats(0.0, 4.9),
    st.floats(0.0, 4.9),
)
def test_the_rate_as_scraped_lies_within(one: list[int], two: list[int], early: float, other: float) -> None:
    """Two targets scraped every 5 s, each up to 5 s before the grid shows it: any delays, any counts."""
    gains = {1: np.array(one, float), 2: np.array(two, float)}
    total, true = np.zeros(4), np.zeros(4)
    for (_, own), delay_s in zip(gains.items(), (early, other), strict=True):
        t_s = START + STEP_S * np.arange(own.size + 1)
        values = np.concatenate([[0.0], np.cumsum(own)])
        edges = START + WIDTH_S * np.arange(1, 6)
        total += np.diff(np.interp(edges, t_s, values))
        true += np.diff(np.interp(edges, t_s - delay_s, values))
    table = terms((1, "p-0", "num"), (2, "p-1", "num"))
    for of, real, bound in zip(total, true, bounds(table, kept(gains))[1:], strict=False):
        assert bound is None or abs(real - of) <= bound * of + 1e-9


def test_a_grid_finer_than_the_scrapes_is_late_by_a_scrape() -> None:
    """The liveliest series of a capture tells; no delay is shorter than the step."""
    grids = pl.DataFrame({"series_id": [1, 2, 3], "step_s": [5.0, 5.0, 30.0]})
    series = pl.DataFrame({"series_id": [1, 2, 3], "capture": [""] * 3})
    quality = pl.DataFrame({"series_id": [1, 2, 3], "news_s": [15.0, 400.0, None]})
    assert delays(grids, series, quality) == {1: 15.0, 2: 15.0, 3: 30.0}
