"""Realised coverage: exact tiny cases, and whether the number tracks how often intervals are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, day_frame
from seeds import first

from hs_analysis.derive import derive_service, service
from hs_analysis.derive.backtest_coverage import CoverageCheck, check_block, part_of, realised_coverage
from hs_analysis.derive.rows import RoleRows, role_rows
from hs_analysis.schema.results import Capacity, RealisedCoverage

TRUE = {"prefill": 4000.0, "decode": 1300.0}
SLOPE = 45.0
"""Steepness that the law gives on these services."""


def day(seed: int, role: str) -> RoleRows:
    """Return a day of a role that passes its capacity."""
    return role_rows(day_frame(seed, prefill_peak=1.12, decode_peak=1.12, hours=24.0), role, SETTINGS)


def made(load: np.ndarray, bad: np.ndarray) -> RoleRows:
    """Return rows of given loads, those named bad over the limit."""
    base = part_of(day(0, "decode"), np.arange(1440) < load.size)
    yes, share = np.ones(load.size, dtype=bool), bad.astype(float)
    return replace(
        base, load=load, sustained=load, over=share, over_least=share, over_other=share, usable=yes,
        backlog_s=np.zeros(load.size),
    )  # fmt: skip


def test_each_side_is_held_to_its_end() -> None:
    """Clean windows below, broken ones above agree; each side contradicts by itself, few windows nothing."""
    load = np.r_[np.full(40, 98.0), np.full(40, 106.0)]
    clean, broken = np.zeros(40, dtype=bool), np.ones(40, dtype=bool)
    slo, ci = SETTINGS.slo, (100.0, 104.0)
    assert check_block(made(load, np.r_[clean, broken]), slo, ci) == CoverageCheck(ci, True, True)
    assert check_block(made(load, np.r_[broken, broken]), slo, ci).below is False
    assert check_block(made(load, np.r_[clean, clean]), slo, ci).above is False
    few = check_block(made(load[35:], np.r_[clean[:5], broken]), slo, ci)
    assert (few.below, few.above, few.holds) == (None, True, True)
    assert not check_block(made(load, np.r_[clean, broken]), slo, (200.0, 300.0)).seen


@pytest.mark.parametrize(("half", "sd"), first(2, [(0.04, 0.08), (0.08, 0.04), (0.04, 0.04), (0.08, 0.08)]))
def test_the_number_tracks_how_often_intervals_hold_the_truth(half: float, sd: float) -> None:
    """Intervals that hold the true capacity in 40 to 95 % of 240 draws over 24 days: within 0.12 of that."""
    rng = np.random.default_rng([round(100 * half), round(100 * sd)])
    real, told, seen = 0, 0, 0
    for seed in range(12):
        for role, capacity in TRUE.items():
            rows = day(seed, role)
            for _ in range(10):
                value = capacity * np.exp(rng.normal(0.0, sd))
                ci = (float(value * np.exp(-half)), float(value * np.exp(half)))
                found = check_block(rows, SETTINGS.slo, ci, SLOPE)
                if found.seen:
                    seen, told = seen + 1, told + found.holds
                    real += ci[0] <= capacity <= ci[1]
    assert seen >= 200
    assert told / seen == pytest.approx(real / seen, abs=0.12)


@pytest.fixture(scope="module")
def days() -> tuple[RoleRows, np.ndarray, Capacity]:
    """Return five days, and a capacity known on them."""
    frame = day_frame(3, prefill_peak=1.12, decode_peak=1.12, hours=120.0)
    found = Capacity(
        role="decode",
        gpu_type=None,
        signal="decode_tps",
        per_instance=1300.0,
        ci=(1200.0, 1400.0),
        status="ok",
        basis="slo",
        reason=None,
    )
    return role_rows(frame, "decode", SETTINGS), frame.seconds(), found


def test_days_are_checked_in_order(days: tuple[RoleRows, np.ndarray, Capacity]) -> None:
    """Four later days of five, all of whose earlier fits hold the truth here; a day a block."""
    rows, seconds, capacity = days
    found = realised_coverage(capacity, rows, seconds, SETTINGS)
    assert (found.blocks, found.covered, found.block_s, found.reason) == (4, 4, 86400.0, None)
    assert found.below[1] >= 3
    assert found.above[1] >= 1


def test_a_later_day_is_never_seen_by_the_fit_before_it(
    days: tuple[RoleRows, np.ndarray, Capacity],
) -> None:
    """A last day whose limit breaks at 0.8 of the load is the one block that is not covered."""
    rows, seconds, capacity = days
    last = seconds >= seconds.min() + 4 * 86400
    slower = np.where(last, 0.8, 1.0)
    changed = replace(rows, load=rows.load * slower, sustained=rows.sustained * slower)
    found = realised_coverage(capacity, changed, seconds, SETTINGS)
    assert (found.blocks, found.covered) == (4, 3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"status": "floor"}, "no_capacity"),
        ({"kind": "pressure_test"}, "pressure_test"),
        ({"hours": 30}, "too_short"),
        ({"quiet": True}, "few_blocks"),
    ],
)
def test_no_number_without_three_checks(
    days: tuple[RoleRows, np.ndarray, Capacity], change: dict[str, object], code: str
) -> None:
    """Null with the reason: nothing known, no second day, a short history, or days that never came near."""
    rows, seconds, capacity = days
    if "status" in change:
        capacity = replace(capacity, status="floor")
    if "kind" in change:
        rows = replace(rows, kind="pressure_test")
    if "hours" in change:
        kept = seconds < seconds.min() + 30 * 3600
        rows, seconds = part_of(rows, kept), seconds[kept]
    if "quiet" in change:
        late = np.where(seconds >= seconds.min() + 2 * 86400, 0.3, 1.0)
        rows = replace(rows, load=rows.load * late, sustained=rows.sustained * late, over=np.where(
            late < 1.0, 0.0, rows.over))  # fmt: skip
    found = realised_coverage(capacity, rows, seconds, SETTINGS)
    assert found.covered is None
    assert found.reason is not None
    assert found.reason.code == code


def test_fits_on_the_past_get_loads_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """No adjustment that was fitted on the whole history reaches a fit on a part of it."""
    frame = day_frame(0, prefill_peak=1.12, decode_peak=1.12, hours=24.0)
    given: dict[str, RoleRows] = {}
    monkeypatch.setattr(service, "realised_coverage", lambda _, rows, *__: given.update({rows.role: rows}))
    derive_service(frame, (), replace(SETTINGS, draws=20), rolling=True)
    for role in TRUE:
        np.testing.assert_array_equal(given[role].load, role_rows(frame, role, SETTINGS).load)


def test_derivation_checks_only_where_asked() -> None:
    """A fit per block is not for every part of a window."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=0.6, hours=24.0)
    few = replace(SETTINGS, draws=20)
    plain = derive_service(frame, (), few).derived.capacity
    assert {one.realised_coverage for one in plain} == {None}
    asked = derive_service(frame, (), few, rolling=True).derived.capacity
    assert all(isinstance(one.realised_coverage, RealisedCoverage) for one in asked)
