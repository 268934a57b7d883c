"""Requests that found a service empty, from a log of requests: what a router's calibration record takes."""

from __future__ import annotations

import polars as pl
import pytest

from hs_analysis.pipeline.request_times import IDLE_MIN, idle_ttft

APART_S = 100.0


def log(**changes: list) -> pl.DataFrame:
    """Return requests far apart, each alone; changed columns replace the whole column."""
    rows = IDLE_MIN + 1
    columns = {
        "capture": [""] * rows,
        "file": ["log.jsonl"] * rows,
        "service": ["prod/chat"] * rows,
        "arrival_s": [APART_S * n for n in range(rows)],
        "prompt_tokens": [1000.0 + n for n in range(rows)],
        "cached_tokens": [0.0] * rows,
        "ttft_s": [0.5 + 0.01 * n for n in range(rows)],
        "e2e_s": [10.0] * rows,
    }
    return pl.DataFrame(columns | changes)


def test_requests_alone_in_a_service_give_their_median() -> None:
    """All but the first, whose surroundings nobody knows."""
    found = idle_ttft(log(), "prod/chat")
    assert found is not None
    assert (found.requests, found.prompt_tokens) == (IDLE_MIN, 1005.5)
    assert found.median_s == pytest.approx(0.555)


@pytest.mark.parametrize(
    "changes",
    [
        {"arrival_s": [0.1 * n for n in range(IDLE_MIN + 1)]},
        {"e2e_s": [None, *[10.0] * IDLE_MIN]},
        {"cached_tokens": [0.0, 8.0, *[0.0] * (IDLE_MIN - 1)]},
        {"ttft_s": [0.5] * IDLE_MIN + [None]},
        {"service": ["prod/other"] * (IDLE_MIN + 1)},
    ],
    ids=["all at once", "one without an end", "cached", "no first token", "of another service"],
)
def test_too_few_requests_alone_give_nothing(changes: dict[str, list]) -> None:
    """One less than asked for is none: absent, not a guess."""
    assert idle_ttft(log(**changes), "prod/chat") is None


def test_a_request_that_shares_its_prefill_is_not_alone() -> None:
    """Another one arrives before its first token."""
    arrivals = [APART_S * n for n in range(IDLE_MIN)] + [APART_S * (IDLE_MIN - 1) + 0.1]
    assert idle_ttft(log(arrival_s=arrivals), "prod/chat") is None
