"""Moments put together from series, whether they share their times or not."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import first

from hs_analysis.align.counters import MomentSet


@pytest.mark.parametrize("seed", first(5, range(40)))
def test_every_marked_moment_is_there_once(seed: int) -> None:
    """Series of one grid, of parts of it and of others, in any order; the set is read in between, too."""
    rng = np.random.default_rng(seed)
    grids = [np.unique(rng.integers(0, 60, size)).astype(float) for size in (0, 5, 40, 40)]
    found, expected = MomentSet(), set[float]()
    for _ in range(12):
        grid = grids[rng.integers(len(grids))]
        marked = None if rng.random() < 0.4 else rng.random(grid.size) < 0.5
        found.add(grid, marked)
        expected |= set(grid if marked is None else grid[marked])
        if rng.random() < 0.3:
            assert found.moments().tolist() == sorted(expected)
    assert found.moments().tolist() == sorted(expected)
