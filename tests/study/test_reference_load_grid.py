"""Rows of windows: captures apart, gaps kept, means only of enough windows."""

import numpy as np

from hs_analysis.study.reference_load import lay_grid


def test_a_row_needs_seventy_percent_of_its_windows(make):
    """Four of five windows make a row, three do not; no row is filled from nothing."""
    values = np.arange(20.0)
    values[[1, 6, 7]] = np.nan
    values[10:15] = np.nan
    frame = make({"x@decode": values})
    rows = lay_grid(frame, 5).mean(frame.values("x", "decode"))
    assert rows[0] == np.mean([0, 2, 3, 4])
    assert np.isnan(rows[1:3]).all()
    assert rows[3] == 17.0


def test_strict_rows_need_every_window(make):
    """A pressure test takes no row with a hole."""
    values = np.array([1.0, np.nan, 3.0, 4.0])
    frame = make({"x@decode": values})
    rows = lay_grid(frame, 2).mean(frame.values("x", "decode"), valid_share=1.0)
    assert np.isnan(rows[0])
    assert rows[1] == 3.5


def test_captures_never_share_a_row(make):
    """Each capture starts its own rows and two hours without data lie between them."""
    frame = make({"x@decode": np.arange(7.0)}, capture=["a"] * 3 + ["b"] * 4)
    grid = lay_grid(frame, 2)
    rows = grid.mean(frame.values("x", "decode"))
    assert rows[np.isfinite(rows)].tolist() == [0.5, 3.5, 5.5]  # the odd window of a is too few
    assert grid.capture[grid.capture >= 0].tolist() == [0, 0, 1, 1]
    between = np.flatnonzero(grid.capture == 1)[0] - np.flatnonzero(grid.capture == 0)[-1] - 1
    assert between * grid.step_s >= 7200


def test_missing_rows_of_the_table_leave_a_hole(make):
    """A table from which rows were cut keeps its clock."""
    frame = make({"x@decode": np.arange(10.0)}).rows(np.arange(10) % 10 != 4)
    rows = lay_grid(frame, 1).mean(frame.values("x", "decode"))
    assert np.isnan(rows[4])
    assert rows[5] == 5.0
