"""How far the load grows while an instance starts, and what a target leaves free for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, day_shape
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.rows import RoleRows
from hs_analysis.derive.targets import operating_point, ramp_growth
from hs_analysis.schema.results import Capacity


def _rows(work: np.ndarray, kind: str = "production", group: np.ndarray | None = None) -> RoleRows:
    n = work.size
    nan, off = np.full(n, np.nan), np.zeros(n, dtype=bool)
    captures = np.zeros(n, dtype=np.int64) if group is None else group
    return RoleRows(
        "decode", work, np.full(n, 4.0), work / 4, work / 4, nan, work / 4, 0.0, ("tbt",), nan, nan, nan,
        ~off, ~off, off, nan, ~off, captures, 60.0, kind,
    )  # fmt: skip


def _doubling(times: int) -> np.ndarray:
    """Return a day at 1,000 tokens/s that doubles within a minute, an hour at a time."""
    work = np.full(1440, 1000.0)
    for k in range(times):
        work[60 + 120 * k : 120 + 120 * k] = 2000.0
    return work


def test_a_steady_load_does_not_grow() -> None:
    """Nothing has to be left free for it."""
    assert ramp_growth(_rows(np.full(1440, 700.0)), 240.0) == pytest.approx(1.0)


def test_doublings_count_when_they_fill_the_rows_that_may_be_over() -> None:
    """Four minutes before the 5-minute mean about a moment has doubled the newest minute has not grown yet.

    That is so in three rows of each doubling, the mean of a fourth is 1.8 times as high: ten doublings fill
    two rows in a hundred with them; one fills none.
    """
    assert ramp_growth(_rows(_doubling(10)), 240.0) == pytest.approx(1.8)
    assert ramp_growth(_rows(_doubling(1)), 240.0) == pytest.approx(1.0)


def test_no_instance_goes_before_the_load_was_lower_for_five_minutes() -> None:
    """A load that falls for three minutes and comes back does not grow; one that is away for six does."""
    grown = []
    for minutes in (3, 6):
        work = np.full(1440, 1000.0)
        for k in range(40):
            work[30 * k + 20 : 30 * k + 20 + minutes] = 500.0
        grown.append(ramp_growth(_rows(work), 240.0))
    assert grown == [pytest.approx(1.0), pytest.approx(2.0)]


def test_the_slow_obvious_way_gives_the_same() -> None:
    """Row by row: the highest of the last five minutes, and the mean about a start-up time later."""
    rng = np.random.default_rng(3)
    work = 2000.0 * day_shape(24.0) * np.exp(0.05 * rng.standard_normal(1440))
    sized = [work[max(0, t - 4) : t + 1].max() for t in range(1440)]
    meant = [work[max(0, t - 2) : t + 3].mean() for t in range(1440)]
    pairs = [(sized[t], meant[t + 5]) for t in range(1435)]
    least = 0.2 * np.quantile([now for now, _ in pairs], 0.95)
    grown = np.quantile([after / now for now, after in pairs if now >= least], 0.98)
    assert ramp_growth(_rows(work), 300.0) == pytest.approx(grown)


@given(st.floats(0.01, 1e6), st.integers(0, 50))
def test_the_unit_of_work_does_not_matter(scale: float, seed: int) -> None:
    """Growth is a ratio."""
    work = np.random.default_rng(seed).uniform(1.0, 2.0, 600)
    once, scaled = (ramp_growth(_rows(by * work), 240.0) for by in (1.0, scale))
    assert scaled == pytest.approx(once)


def test_what_can_not_be_told_is_not_told() -> None:
    """A load set on purpose, too few rows, no work at all, and pairs across captures only."""
    assert ramp_growth(_rows(_doubling(10), "pressure_test"), 240.0) is None
    assert ramp_growth(_rows(_doubling(10)[:200]), 240.0) is None
    assert ramp_growth(_rows(np.full(1440, np.nan)), 240.0) is None
    assert ramp_growth(_rows(_doubling(10), group=np.arange(1440) // 4), 240.0) is None
    assert ramp_growth(_rows(_doubling(10)[:3]), 240.0) is None


@pytest.mark.parametrize(
    ("status", "calm", "growth", "share"),
    [("floor", True, 1.1, 1.0), ("floor", True, 1.6, 0.625), ("floor", False, 1.1, 0.85),
     ("floor", False, 1.6, 0.625), ("ok", None, 1.0, 0.85), ("ok", None, 1.6, 0.625),
     ("ok", None, None, 0.85)],
)  # fmt: skip
def test_growth_takes_the_place_of_a_head_room_it_exceeds(
    status: str, calm: bool | None, growth: float | None, share: float
) -> None:
    """Up to 1 ÷ 0.85 the usual head-room covers it; beyond, the target is what the growth leaves."""
    capacity = Capacity(
        role="decode",
        gpu_type=None,
        signal="decode_tps",
        per_instance=1000.0,
        ci=(900.0, 1100.0),
        status=status,
        basis="slo",
        reason=None,
    )
    capacity = replace(capacity, calm=calm, growth_ratio=growth)
    headroom, value = operating_point(capacity, SETTINGS)
    base = 1000.0 if status == "floor" else 900.0
    assert headroom == pytest.approx(share)
    assert value == pytest.approx(share * base)
