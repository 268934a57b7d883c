"""Holm's correction, against a peer and in a case done by hand."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from hs_analysis.study.verdict import holm


def test_a_family_of_three_by_hand() -> None:
    """0.01 · 3, then 0.02 · 2 = 0.04, then 0.03 · 1, which may not be below the one before."""
    assert holm(np.array([0.03, 0.01, 0.02])).tolist() == [0.04, 0.03, 0.04]
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_as_the_peer_to_the_last_bit(chances: list[float]) -> None:
    """Whatever the family, ties included."""
    own = np.array(chances)
    with patch("gc.collect"):  # the peer collects the garbage of the whole process at each call
        theirs = multipletests(own, method="holm")[1]
    assert holm(own).tolist() == theirs.tolist()
