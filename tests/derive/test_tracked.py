"""The usual load of a pool whose counts followed its load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, day_shape
from derive.test_growth import _rows

from hs_analysis.derive.load import RoleRows
from hs_analysis.derive.tracked import tracked_load

DAY = 4000.0 * day_shape(24.0)


def _counted(counts: np.ndarray, over: np.ndarray | None = None) -> RoleRows:
    rows = replace(_rows(DAY), instances=counts, sustained=DAY / counts)
    return rows if over is None else replace(rows, over_low=over)


def _kept(share: float) -> np.ndarray:
    """Return a day in which this share of windows had a tenth of their samples over the limit."""
    over = np.zeros(DAY.size)
    over[: round(share * DAY.size)] = 0.1
    return over


def test_a_tracker_is_seen_and_runs_at_its_target() -> None:
    """Counts of ⌈load ÷ 500⌉, an instance late by ten minutes: its usual load is just under 500."""
    counts = np.roll(np.ceil(DAY / 500.0), 10)
    found = tracked_load(_counted(counts, _kept(0.02)), SETTINGS)
    assert found == pytest.approx(470.0, abs=30.0)


@pytest.mark.parametrize(
    "rows",
    [
        _counted(np.full(DAY.size, 8.0), _kept(0.0)),
        _counted(np.where(np.arange(DAY.size) % 600 < 300, 8.0, 4.0), _kept(0.0)),
        _counted(np.ceil(DAY / 500.0), _kept(0.08)),
        _counted(np.ceil(DAY / 500.0)),
        replace(_counted(np.ceil(DAY / 500.0), _kept(0.0)), kind="pressure_test"),
    ],
    ids=["still", "moved against the load", "over its limit", "latency unknown", "set on purpose"],
)
def test_what_proves_nothing_gives_none(rows: RoleRows) -> None:
    """A pool that stood still, or moved for other reasons, or did not keep its limit."""
    assert tracked_load(rows, SETTINGS) is None


def test_without_a_limit_the_counts_are_enough() -> None:
    """No latency was promised, so none was broken."""
    rows = replace(_counted(np.ceil(DAY / 500.0)), limits=())
    assert tracked_load(rows, SETTINGS) == pytest.approx(470.0, abs=30.0)
