"""Thinning keeps peaks and gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.report.thinning import csv_number, csv_text, csv_time, lone, runs, thin

values = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=300)


def crossed(t: np.ndarray, v: np.ndarray, times: np.ndarray, drawn: np.ndarray) -> list[tuple[float, float]]:
    """Return pairs of neighbouring drawn points with a missing value or a jump of time between them."""
    step = float(np.median(np.diff(t))) if t.size > 1 else 1.0
    found = []
    for a, b in zip(range(times.size - 1), range(1, times.size), strict=True):
        if np.isnan(drawn[a]) or np.isnan(drawn[b]):
            continue
        inside = (t >= times[a]) & (t <= times[b])
        if np.isnan(v[inside]).any() or (np.diff(t[inside]) > 1.5 * step).any():
            found.append((float(times[a]), float(times[b])))
    return found


@given(values, st.integers(4, 60), st.sets(st.integers(0, 299), max_size=40), st.booleans())
def test_no_line_crosses_a_gap(
    given_values: list[float | None], budget: int, dropped: set[int], steps: bool
) -> None:
    """However hard a series is thinned, nothing is drawn over missing values or missing rows."""
    keep = [n for n in range(len(given_values)) if n not in dropped]
    t = np.array(keep, dtype=float) * 60
    v = np.array([np.nan if given_values[n] is None else given_values[n] for n in keep], dtype=float)
    times, drawn = thin(t, v, budget, steps=steps)
    assert times.size <= budget
    assert np.all(np.diff(times) >= 0)
    assert crossed(t, v, times, drawn) == []
    assert set(drawn[~np.isnan(drawn)]) <= set(v[~np.isnan(v)])


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=400), st.integers(4, 60))
def test_peaks_survive(given_values: list[float], budget: int) -> None:
    """The least and the greatest value are always drawn."""
    v = np.array(given_values)
    _, drawn = thin(np.arange(v.size) * 60.0, v, budget)
    assert np.nanmax(drawn) == v.max()
    assert np.nanmin(drawn) == v.min()


def test_steps_lose_nothing_when_they_fit() -> None:
    """A stepped line keeps each change and its end, and drops only repeats."""
    v = np.repeat([3.0, 4.0, 3.0], 100)
    times, drawn = thin(np.arange(300) * 60.0, v, 50, steps=True)
    assert times.tolist() == [0, 6000, 12_000, 299 * 60]
    assert drawn.tolist() == [3, 4, 3, 3]


def test_single_points_are_marked() -> None:
    """A value between two gaps is marked, as a line would not show it."""
    v = np.array([1.0, np.nan, 2.0, np.nan, 3.0, 4.0])
    assert lone(v).tolist() == [True, False, True, False, False, False]


def test_runs_end_at_a_jump() -> None:
    """Neighbouring rows of one state are joined, rows apart are not."""
    assert runs(["a", "a", "b", "b"], [0, 1, 2, 5], [1, 2, 3, 6]) == [(0, 2, "a"), (2, 3, "b"), (5, 6, "b")]


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (np.nan, ""), (0.123456, "0.12346"), (123_456.7, "123457"), (-2.0, "-2")]
)
def test_csv_numbers_are_short_and_missing_is_empty(value: float | None, text: str) -> None:
    """Five digits are enough for a chart; missing is an empty field, never zero."""
    assert csv_number(value) == text


def test_csv_quotes_what_would_break_it() -> None:
    """Commas, quotes and line breaks in names stay inside their field."""
    assert csv_text(["a"], [['x,"y"\nz']]) == 'a\n"x,""y""\nz"\n'
    assert csv_time(1_762_078_500) == "2025-11-02T10:15Z"
    assert csv_time(1_762_078_501) == "2025-11-02T10:15:01Z"
