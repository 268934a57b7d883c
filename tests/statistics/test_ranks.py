"""Ranks with ties at their mean, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from hs_analysis.statistics.ranks import drawn_ranks, mean_ranks


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_ranks_are_those_of_scipy(digits: int) -> None:
    """Bit by bit, of the rows and of rows drawn again, with many ties and with none."""
    rng = np.random.default_rng(digits)
    for size in (1, 2, 90):
        values, rows = rng.normal(size=size).round(digits), rng.integers(0, size, (8, size))
        assert np.array_equal(mean_ranks(values), rankdata(values))
        assert np.array_equal(drawn_ranks(values, rows), rankdata(values[rows], axis=-1))


def test_no_values_have_no_ranks() -> None:
    """An empty series has none."""
    assert mean_ranks(np.empty(0)).size == 0
