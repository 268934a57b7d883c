"""Counts made at the end of a request, moved to where it arrived."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.align.demand import at_arrival, prefill_at_arrival

WINDOW_S = 60.0
FINE = 60
"""Moments per window of the slow reference."""

NAN = np.nan


def moved(cached_at_end: bool = False, **columns: np.ndarray) -> dict[str, np.ndarray]:
    """Move the counts of one capture; a column that is left out is missing."""
    size = next(iter(columns.values())).size
    names = ("started", "finished_rate", "output_tps", "prompt_tps", "effective_tps", "in_flight")
    table = pl.DataFrame(
        {"capture": ["a"] * size}
        | {n: pl.Series(columns.get(n, np.full(size, NAN)), dtype=pl.Float64).fill_nan(None) for n in names}
    )
    found = at_arrival(table, WINDOW_S, cached_at_end=cached_at_end)
    return {name: found[name].fill_null(NAN).to_numpy() for name in names}


def queue(rates: np.ndarray, tokens: np.ndarray, stay_s: np.ndarray) -> dict[str, np.ndarray]:
    """Return windows of a service whose requests end in order, `stay_s` after they came; one value a window.

    Second by second: what comes in a second ends together.
    """
    step = WINDOW_S / FINE
    came = np.repeat(rates, FINE) * step
    at = (np.arange(came.size) + 0.5) * step
    ends = np.maximum.accumulate(at + np.repeat(stay_s, FINE))
    inside = np.array([came[(at <= t) & (ends > t)].sum() for t in at])
    edges = np.arange(rates.size + 1) * WINDOW_S

    def ending(values: np.ndarray) -> np.ndarray:
        return np.histogram(ends, edges, weights=values)[0] / WINDOW_S

    return {
        "started": rates, "finished_rate": ending(came), "output_tps": ending(came * np.repeat(tokens, FINE)),
        "in_flight": inside.reshape(-1, FINE).mean(axis=1),
    }  # fmt: skip


def test_a_mix_that_turns_at_once_is_told_where_it_arrived() -> None:
    """Ten requests a second stay a minute; answers double in the sixth window, of which none ends in it."""
    tokens = np.where(np.arange(12) < 5, 100.0, 200.0)
    counted = queue(np.full(12, 10.0), tokens, np.full(12, 60.0))
    assert counted["output_tps"][5] / counted["finished_rate"][5] == pytest.approx(100.0)
    found = moved(**counted)
    per_request = found["output_tps"] / found["finished_rate"]
    np.testing.assert_allclose(per_request[1:-1], tokens[1:-1], rtol=0.02)


@given(st.integers(0, 10_000))
def test_whatever_load_and_stay_do_each_window_gets_its_own_requests(seed: int) -> None:
    """Requests that end in order: tokens per request are those of arrivals, as finely as windows tell."""
    rng = np.random.default_rng(seed)
    rates = 10.0 * np.exp(0.3 * np.cumsum(rng.standard_normal(30)) / 3.0)
    tokens = 100.0 * np.exp(0.4 * np.sin(np.arange(30) / 3.0))
    counted = queue(rates, tokens, np.linspace(5.0, 40.0, 30))
    found = moved(**counted)
    inner = slice(2, -3)
    before = np.abs(np.log(counted["output_tps"] / np.maximum(counted["finished_rate"], 1e-9) / tokens))[
        inner
    ]
    after = np.abs(np.log(found["output_tps"] / found["finished_rate"] / tokens))[inner]
    assert after.mean() < before.mean()
    assert after.max() < 0.06


def test_unknown_requests_in_flight_move_nothing() -> None:
    """Nor does a window whose requests are not out by the end."""
    counted = queue(np.full(8, 10.0), np.full(8, 100.0), np.full(8, 90.0))
    still = moved(**{name: values for name, values in counted.items() if name != "in_flight"})
    np.testing.assert_array_equal(still["output_tps"], counted["output_tps"])
    found = moved(**counted)
    np.testing.assert_array_equal(found["output_tps"][-2:], counted["output_tps"][-2:])


def test_a_hole_moves_nothing_over_it() -> None:
    """Windows whose requests end in a hole keep what was counted; others are moved as ever."""
    counted = queue(np.full(20, 10.0), np.where(np.arange(20) < 5, 100.0, 200.0), np.full(20, 60.0))
    holed = {name: np.where(np.arange(20) == 12, NAN, values) for name, values in counted.items()}
    found = moved(**holed)
    assert found["output_tps"][11] == holed["output_tps"][11]
    assert np.isnan(found["output_tps"][12])
    assert found["output_tps"][5] / found["finished_rate"][5] == pytest.approx(200.0, rel=0.02)


def test_cached_tokens_counted_at_the_end_are_those_of_the_prompts_that_came() -> None:
    """Every other token was cached, and prompts double at once: half of what came is to be computed."""
    prompt = np.where(np.arange(12) < 5, 1000.0, 2000.0)
    counted = queue(np.full(12, 10.0), 0.5 * prompt, np.full(12, 60.0))
    came = 10.0 * prompt
    found = moved(cached_at_end=True, **counted, prompt_tps=came, effective_tps=came - counted["output_tps"])
    np.testing.assert_allclose(found["effective_tps"][1:-1], 0.5 * came[1:-1], rtol=0.02)


def prefills(waiting: np.ndarray | None, **columns: np.ndarray) -> dict[str, np.ndarray]:
    """Move the prompts of one capture; without a queue it is missing."""
    size = next(iter(columns.values())).size
    given = columns | {"waiting_prefill": np.full(size, NAN) if waiting is None else waiting}
    table = pl.DataFrame({"capture": ["a"] * size} | given).fill_nan(None)
    found = prefill_at_arrival(table, WINDOW_S)
    return {name: found[name].fill_null(NAN).to_numpy() for name in given}


def test_prompts_behind_a_backlog_count_where_they_came() -> None:
    """Ten requests a second wait two minutes; prompts double in the seventh window, read in the ninth."""
    tokens = np.where(np.arange(16) < 6, 100.0, 200.0)
    counted = queue(np.full(16, 10.0), tokens, np.full(16, 120.0))
    seen = {
        "started": counted["started"], "first_token_rate": counted["finished_rate"],
        "effective_tps": counted["output_tps"], "prompt_tps": 2.0 * counted["output_tps"],
    }  # fmt: skip
    assert seen["effective_tps"][6] / seen["first_token_rate"][6] == pytest.approx(100.0)
    found = prefills(counted["in_flight"], **seen)
    inner = slice(2, -3)
    np.testing.assert_allclose(
        (found["effective_tps"] / found["first_token_rate"])[inner], tokens[inner], rtol=0.02
    )
    np.testing.assert_allclose(found["prompt_tps"][inner], 2.0 * found["effective_tps"][inner])


def test_prompts_stay_where_the_queue_is_not_known_or_empty() -> None:
    """Without a gauge of the queue nothing moves, and without a queue nothing has to."""
    tokens = np.where(np.arange(10) < 5, 100.0, 200.0)
    seen = {
        "started": np.full(10, 10.0), "first_token_rate": np.full(10, 10.0), "effective_tps": 10.0 * tokens,
        "prompt_tps": np.full(10, NAN),
    }  # fmt: skip
    for waiting in (None, np.zeros(10)):
        found = prefills(waiting, **seen)
        np.testing.assert_allclose(found["effective_tps"], seen["effective_tps"])
        assert np.isnan(found["prompt_tps"]).all()
