"""How far the load grows while an instance starts, and what a target leaves free for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, day_shape
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.capacity import CapacityFit
from hs_analysis.derive.capacity_laws import label_rows
from hs_analysis.derive.rows import RoleRows
from hs_analysis.derive.targets import (
    carried_ratio,
    growth_over,
    operating_point,
    ramp_growth,
    with_ramp_headroom,
)
from hs_analysis.schema.results import Capacity


def _rows(work: np.ndarray, kind: str = "production", group: np.ndarray | None = None) -> RoleRows:
    n = work.size
    nan, off = np.full(n, np.nan), np.zeros(n, dtype=bool)
    captures = np.zeros(n, dtype=np.int64) if group is None else group
    return RoleRows(
        role="decode", work=work, instances=np.full(n, 4.0), load=work / 4, earlier=work / 4,
        request_tokens=nan, sustained=work / 4, count_noise=0.0, limits=("tbt",), over=nan, over_least=nan,
        over_other=nan, usable=~off, settled=~off, saturated=off, backlog_s=nan, steady=~off, group=captures,
        window_s=60.0, kind=kind,
    )  # fmt: skip


def _doubling(times: int) -> np.ndarray:
    """Return a day at 1,000 tokens/s that doubles within a minute, an hour at a time."""
    work = np.full(1440, 1000.0)
    for k in range(times):
        work[60 + 120 * k : 120 + 120 * k] = 2000.0
    return work


def _capacity(status: str = "floor", calm: bool | None = False) -> Capacity:
    return Capacity(
        role="decode", gpu_type=None, signal="decode_tps", per_instance=1000.0, ci=(900.0, 1100.0),
        status=status, basis="slo", reason=None, calm=calm,
    )  # fmt: skip


def _fit(work: np.ndarray, over: np.ndarray, status: str = "floor", calm: bool | None = False) -> CapacityFit:
    """Return a capacity of 1,000 tokens/s from rows with shares over the limit; four instances."""
    labelled = label_rows(replace(_rows(work), over=over, over_least=over), SETTINGS.slo, drop_recovery=True)
    return CapacityFit(_capacity(status, calm), labelled, np.empty(0))


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
    capacity = replace(_capacity(status, calm), growth_ratio=growth)
    headroom, value = operating_point(capacity, SETTINGS)
    base = 1000.0 if status == "floor" else 900.0
    assert headroom == pytest.approx(share)
    assert value == pytest.approx(share * base)


@pytest.mark.parametrize(
    ("carried", "growth", "share"),
    [(1.2, 1.6, 0.75), (1.6, 1.6, 0.85), (1.0, 1.6, 0.625), (None, 1.6, 0.625), (1.2, 1.1, 0.85)],
)
def test_growth_may_end_at_the_highest_load_that_was_carried(
    carried: float | None, growth: float, share: float
) -> None:
    """The target times the growth is that load; the usual head-room stays."""
    capacity = replace(_capacity(), growth_ratio=growth, carried_ratio=carried)
    assert operating_point(capacity, SETTINGS)[0] == pytest.approx(share)


def test_load_may_outgrow_a_target_little_more_often_than_the_slo_was_broken() -> None:
    """A quarter of a point more than ran, at most two points; two after a calm history and of the unseen."""
    work, share = np.full(1000, 4000.0), np.zeros(1000)
    for rows, more in ((0, 0.0025), (5, 0.0075), (100, 0.02)):
        over = share.copy()
        over[:rows] = 1.0
        assert growth_over(_fit(work, over), SETTINGS.slo) == pytest.approx(more)
    assert growth_over(_fit(work, share, calm=True), SETTINGS.slo) == 0.02
    assert growth_over(_fit(work, np.full(1000, np.nan)), SETTINGS.slo) == 0.02


def test_the_highest_load_carried_is_that_up_to_which_the_slo_held() -> None:
    """Loads of 500 to 1,500 an instance: over the limit above 1,200, once at 700; of a known one nothing."""
    load = np.linspace(500.0, 1500.0, 1001)
    over = np.where(load > 1200.0, 1.0, 0.0)
    over[200] = 1.0
    assert carried_ratio(_fit(4.0 * load, over), SETTINGS.slo) == pytest.approx(1.2, abs=0.02)
    assert carried_ratio(_fit(4.0 * load, np.zeros(1001)), SETTINGS.slo) == pytest.approx(1.5, abs=0.01)
    assert carried_ratio(_fit(4.0 * load, np.ones(1001)), SETTINGS.slo) == 1.0
    assert carried_ratio(_fit(4.0 * load, over, calm=True), SETTINGS.slo) is None
    assert carried_ratio(_fit(4.0 * load, over, "ok"), SETTINGS.slo) is None
    assert carried_ratio(_fit(4.0 * load, np.full(1001, np.nan)), SETTINGS.slo) is None


def test_more_is_left_free_where_the_slo_was_hardly_broken() -> None:
    """Four doublings: in under two rows of a hundred, in more than a quarter of one."""
    work, none = _doubling(4), np.zeros(1440)
    settings = replace(SETTINGS, startup_s={"decode": 240.0})

    def growth(calm: bool) -> float | None:
        fits = with_ramp_headroom({"decode": _fit(work, none, calm=calm)}, settings)
        return fits["decode"].capacity.growth_ratio

    assert growth(True) == pytest.approx(1.0)
    assert growth(False) == pytest.approx(2.0)
