"""Load of one service against signals of another under one clock is never called proportional."""

import numpy as np
import pytest
from study.strangers import judge_strangers

FAST, SLOW = 6, 420
"""Pairs of unrelated services; each judges four signals."""


def test_strangers_under_one_clock_size_no_pool():
    """A fast part of the sweep below."""
    found = judge_strangers(range(FAST))
    assert len(found) == 4 * FAST
    assert [one for one in found if one.verdict in ("proportional", "guard")] == []


@pytest.mark.slow
def test_none_of_hundreds_of_strangers_sizes_a_pool(capsys):
    """0 of at least 400 pairs (and four times as many verdicts) are proportional; guards are counted."""
    found = judge_strangers(range(1000, 1000 + SLOW))
    verdicts = [one.verdict for one in found]
    links = np.array([one.link for one in found if one.link is not None])
    with capsys.disabled():
        counts = {v: verdicts.count(v) for v in ("proportional", "guard", "unusable", "unknown")}
        print(f"\n{SLOW} pairs, {len(found)} signals: {counts}; largest link {links.max():.1f}")  # noqa: T201
    assert verdicts.count("proportional") == 0
    # 2 % of guards would be too many: bound of a binomial at 99.9 %.
    assert verdicts.count("guard") <= 0.01 * len(found)
