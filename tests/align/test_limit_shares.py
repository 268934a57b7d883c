"""Shares over a limit at alignment: from which histogram, for which rows, and what is left in the table."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from hs_analysis.align.limit_shares import with_limit_shares
from hs_analysis.align.signals import SIGNAL_WINDOWS
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.statistics.between_edges import shares_over

BETWEEN = LimitEdges("tbt", "vllm", 0.045, 0.035, 0.064)
WIDTH_S = 60.0

Row = tuple[str, str | None, str, float, float | None]


def windows(*rows: Row, service: str = "s") -> pl.DataFrame:
    """Return chosen rows of (capture, GPU type, signal, t, value)."""
    return pl.DataFrame(
        [
            {
                "service": service, "capture": capture, "role": "decode", "gpu_group": gpu, "signal": signal,
                "source": "vllm", "preference": 1, "t": t, "value": value, "instances": 2.0, "coverage": 1.0,
            }
            for capture, gpu, signal, t, value in rows
        ],
        schema=SIGNAL_WINDOWS,
    )  # fmt: skip


def measured(
    capture: str, gpu: str | None, t: float, low: float | None, high: float | None, rate: float, mean: float
) -> list[Row]:
    """Return what is measured of one window."""
    values = {"over_low": low, "over_high": high, "over_samples": rate, "over_mean": mean}
    return [(capture, gpu, f"tbt_{ending}", t, value) for ending, value in values.items()]


def by_key(found: pl.DataFrame, signal: str) -> dict[tuple[str, str | None, float], float | None]:
    """Return the values of a signal by capture, GPU type and time."""
    rows = found.filter(pl.col("signal") == signal)
    return {(r["capture"], r["gpu_group"], r["t"]): r["value"] for r in rows.iter_rows(named=True)}


def test_each_window_of_each_capture_and_gpu_type_is_read_by_its_own_shares() -> None:
    """Samples are those of the window, rate × width; rows that share a time are not mixed up."""
    made = {
        ("a", None, 0.0): (0.6, 0.01, 50.0, 0.036), ("a", "H20", 0.0): (0.2, 0.002, 20.0, 0.031),
        ("b", None, 0.0): (0.9, 0.2, 5.0, 0.05), ("b", None, 60.0): (0.0, 0.0, 1.0, 0.02),
    }  # fmt: skip
    rows = [row for (capture, gpu, t), values in made.items() for row in measured(capture, gpu, t, *values)]
    found = with_limit_shares(windows(*reversed(rows)), [("s", BETWEEN)], WIDTH_S)
    for key, (low, high, rate, mean) in made.items():
        one = [np.array([value]) for value in (low, high, rate * WIDTH_S, mean)]
        want = shares_over(*one, 0.045, 0.035, 0.064)
        assert by_key(found, "tbt_over")[key] == pytest.approx(float(want.over[0]))
        assert by_key(found, "tbt_over_least")[key] == pytest.approx(float(want.least[0]))
        assert by_key(found, "tbt_over_other")[key] == pytest.approx(float(want.other[0]))


def test_shares_at_the_edges_stay_and_samples_and_their_mean_go() -> None:
    """What was measured can be looked up; another service's rows and other signals are left alone."""
    own = windows(*measured("", None, 0.0, 0.6, 0.01, 50.0, 0.036), ("", None, "tbt", 0.0, 0.036))
    other = windows(*measured("", None, 0.0, 0.6, 0.01, 50.0, 0.036), service="other")
    found = with_limit_shares(pl.concat([own, other]), [("s", BETWEEN)], WIDTH_S)
    names = set(found.filter(pl.col("service") == "s")["signal"])
    assert names == {"tbt", "tbt_over_low", "tbt_over_high", "tbt_over", "tbt_over_least", "tbt_over_other"}
    assert not any(name in ("tbt_over",) for name in found.filter(pl.col("service") == "other")["signal"])


def test_an_edge_at_the_limit_needs_no_other_reading() -> None:
    """The share is the edge's, and the columns that could differ are not there."""
    at = LimitEdges("tbt", "vllm", 0.05, 0.05, 0.05)
    rows = windows(*measured("", None, 0.0, 0.03, 0.03, 50.0, 0.036))
    found = with_limit_shares(rows, [("s", at)], WIDTH_S)
    assert by_key(found, "tbt_over") == {("", None, 0.0): 0.03}
    assert by_key(found, "tbt_over_least") == {}


def test_a_missing_share_is_no_share_and_below_the_first_edge_only_a_least_one_is_known() -> None:
    """Null stays null; without an edge below, no share over it was measured at all."""
    rows = windows(*measured("", None, 0.0, None, None, 0.0, math.nan))
    assert by_key(with_limit_shares(rows, [("s", BETWEEN)], WIDTH_S), "tbt_over") == {("", None, 0.0): None}
    below = LimitEdges("tbt", "vllm", 0.005, None, 0.01)
    rows = windows(("", None, "tbt_over_high", 0.0, 0.4))
    found = with_limit_shares(rows, [("s", below)], WIDTH_S)
    assert by_key(found, "tbt_over") == {("", None, 0.0): None}
    assert by_key(found, "tbt_over_least") == {("", None, 0.0): 0.4}
