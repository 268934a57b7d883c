"""The P/D ratio beside the counts: how far they stray, and ratios by the hour and by the observed mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from replay.services import D_CAPACITY, P_CAPACITY, SETTINGS, built, derived, service

from hs_analysis.controllers import HeteroScale
from hs_analysis.derive.ratio import integer_pairs
from hs_analysis.policy.controls import control_of
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.ratios import RatioRange, moving, observed_mix, ratio_by_hour, ratio_range, stray_of
from hs_analysis.replay.score import PolicyScore, score
from hs_analysis.replay.simulate import Schedule, simulate, simulate_all
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.names import RATIO_BY_HOUR, RATIO_BY_MIX, RATIO_FIXED
from hs_analysis.schema.results import Derived, PdRatio, RatioWindow

WINDOW_S = 120.0
DAY_ROWS = 720
BALANCE = D_CAPACITY / P_CAPACITY
"""Ratio per mix: decode ÷ prefill work that one instance carries."""


def two_days(swing: float) -> tuple[ServiceFrame, ServiceFrame]:
    """Return a day and the next one; the mix swings once a day, decode work is steady."""
    rng = np.random.default_rng(1)
    t = np.arange(2 * DAY_ROWS)
    hour = t * WINDOW_S // 3600.0
    decode = 30_000.0 * np.exp(0.01 * rng.standard_normal(t.size))
    mix = 7.3 * np.exp(swing * np.sin(2 * np.pi * hour / 24.0))
    counts = {"prefill": np.ceil(1.3 * decode * mix / P_CAPACITY), "decode": 28.0}
    whole = service({"prefill": decode * mix, "decode": decode}, counts, window_s=WINDOW_S)
    table = whole.table
    return replace(whole, table=table[:DAY_ROWS]), replace(whole, table=table[DAY_ROWS:])


def windows_of(frame: ServiceFrame) -> tuple[RatioWindow, ...]:
    """Return the ratio of each hour of a frame."""
    prefill, decode = (frame.values("offered_tps", role) for role in ("prefill", "decode"))
    rows, found = round(3600 / WINDOW_S), []
    for first in range(0, frame.table.height, rows):
        own = slice(first, first + rows)
        start = float(frame.seconds()[first])
        ends = [datetime.fromtimestamp(s, UTC).isoformat() for s in (start, start + 3600.0)]
        ratio = BALANCE * float(prefill[own].sum() / decode[own].sum())
        found.append(RatioWindow(ends[0].replace("+00:00", "Z"), ends[1].replace("+00:00", "Z"), ratio, None))
    return tuple(found)


def numbers(frame: ServiceFrame, status: str = "ok") -> Derived:
    """Return derived numbers with the ratio of a frame: load-weighted, or as its highest hours need it."""
    by_window = windows_of(frame)
    values = np.array([one.value for one in by_window])
    value = float(np.quantile(values, 0.95) if status == "floor" else values.mean())
    found = derived(ratio=value)
    ratio = replace(found.pd_ratio, status=status, ci=(0.98 * value, 1.02 * value), by_window=by_window)
    return replace(found, pd_ratio=ratio)


def replayed(swing: float, status: str = "ok") -> dict[str, PolicyScore]:
    """Return the fixed and the moving ratios of the first day, replayed on the second."""
    train, test = two_days(swing)
    found = numbers(train, status)
    fixed = control_of(replace(built(train, (("decode_tps", "decode"),), found), controller="heteroscale"))
    assert isinstance(fixed, HeteroScale)
    controls = {RATIO_FIXED: fixed, **moving(fixed, train, found.pd_ratio)[0]}
    model = fit_fleet(train, found, SETTINGS)
    (part,) = demands(test)
    results = simulate_all(tuple(controls.values()), part, model)
    within = ratio_range(found.pd_ratio)
    return {name: score(name, [r], model, "", within) for name, r in zip(controls, results, strict=True)}


def hours(found: Mapping[str, PolicyScore], name: str) -> float:
    """Return the instance-hours of a row."""
    return found[name].row.instance_hours or 0.0


@pytest.fixture(scope="module")
def swinging() -> dict[str, PolicyScore]:
    """A mix that swings by the hour, and a fixed ratio that is safe for nearly all of it."""
    return replayed(0.4, "floor")


@pytest.mark.parametrize("name", [RATIO_BY_HOUR, RATIO_BY_MIX])
def test_a_moving_ratio_saves_hours_where_the_mix_moves(
    swinging: Mapping[str, PolicyScore], name: str
) -> None:
    """Against the ratio of the highest hours both save more than a tenth, and break the SLO no more often."""
    assert hours(swinging, name) < 0.9 * hours(swinging, RATIO_FIXED)
    over = {row: found.row.slo_violation_ratio or 0.0 for row, found in swinging.items()}
    assert over[name] <= over[RATIO_FIXED] + 0.01


@pytest.mark.parametrize("name", [RATIO_BY_HOUR, RATIO_BY_MIX])
def test_a_moving_ratio_keeps_the_slo_where_a_compromise_breaks_it(name: str) -> None:
    """Against the load-weighted compromise it breaks the SLO less often, at about the same hours."""
    found = replayed(0.6, "drifting")
    over = {row: one.row.slo_violation_ratio or 0.0 for row, one in found.items()}
    assert over[RATIO_FIXED] > 0.1
    assert over[name] < 0.05
    assert hours(found, name) == pytest.approx(hours(found, RATIO_FIXED), rel=0.06)


@pytest.mark.parametrize("name", [RATIO_BY_HOUR, RATIO_BY_MIX])
def test_where_the_mix_stands_still_every_ratio_is_the_fixed_one(name: str) -> None:
    """Hours differ by what rounding to whole instances and noise leave."""
    found = replayed(0.0)
    assert hours(found, name) == pytest.approx(hours(found, RATIO_FIXED), rel=0.01)


def test_a_moving_ratio_strays_from_the_fixed_one_and_the_fixed_does_not(
    swinging: Mapping[str, PolicyScore],
) -> None:
    """The share of windows off the ratio tells both apart; the farthest is the swing of the mix."""
    assert (swinging[RATIO_FIXED].row.pd_stray_ratio or 0.0) < 0.01  # the counts that it starts with
    assert (swinging[RATIO_BY_HOUR].row.pd_stray_ratio or 0.0) > 0.5
    assert swinging[RATIO_BY_HOUR].row.pd_stray_factor == pytest.approx(np.exp(2 * 0.4), rel=0.1)


def test_the_ratio_of_an_hour_is_that_of_the_same_hour_in_the_first_part() -> None:
    """Nothing of a later day enters it, and an hour that the window lacks has the overall value."""
    train, test = two_days(0.4)
    found = numbers(train).pd_ratio
    values = ratio_by_hour(train, found)
    assert values == pytest.approx([one.value for one in windows_of(train)])
    half = replace(train, table=train.table[: DAY_ROWS // 2])
    assert ratio_by_hour(half, found)[12:] == (found.value,) * 12
    both = replace(train, table=pl.concat([train.table, test.table]))
    assert ratio_by_hour(both, found) == pytest.approx(values)


def test_hours_are_weighted_by_decode_work() -> None:
    """Two stretches of one hour count by their load, not alike."""
    loads = {"prefill": np.full(60, 9_000.0), "decode": np.repeat([1_000.0, 3_000.0], 30)}
    frame = service(loads, {"prefill": 3, "decode": 3})
    middle, ends = "2026-01-01T00:30:00Z", ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z")
    stretches = (RatioWindow(ends[0], middle, 4.0, None), RatioWindow(middle, ends[1], 2.0, None))
    found = replace(derived().pd_ratio, by_window=stretches)
    assert ratio_by_hour(frame, found)[0] == pytest.approx(2.5)
    assert ratio_by_hour(frame, replace(found, status="floor"))[0] == pytest.approx(4.0)


def test_what_makes_no_moving_ratio_is_said() -> None:
    """A pressure test has no hours of its own, and work that is not recorded tells no mix."""
    train, _ = two_days(0.4)
    found = numbers(train).pd_ratio
    assert "pressure test" in str(ratio_by_hour(replace(train, kind="pressure_test"), found))
    blind = replace(train, table=train.table.drop("prefill_tps_effective@prefill", "offered_tps@prefill"))
    assert observed_mix(blind, found) == "the work of prefill is not recorded"
    assert isinstance(observed_mix(train, replace(found, value=None)), str)


def strays(prefill: list[float], decode: list[float], ratio: RatioRange) -> tuple[float, float | None]:
    """Return the stray of counts over as many rows."""
    frame = service({role: np.full(len(prefill), 10.0) for role in ("prefill", "decode")},
                    {"prefill": prefill, "decode": decode})  # fmt: skip
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    counts = {"prefill": np.array(prefill), "decode": np.array(decode)}
    found = stray_of([simulate(Schedule(counts), part, model)], ratio)
    assert found is not None
    return found.share, found.factor


def test_counts_that_whole_instances_explain_do_not_stray() -> None:
    """Of 2.59 ± 0.1 at four decode instances, eight to eleven prefill instances are within an instance."""
    within = RatioRange(2.59, 2.49, 2.69)
    assert strays([8, 9, 10, 11], [4, 4, 4, 4], within)[0] == 0.0
    share, factor = strays([7, 10, 12, 12], [4, 4, 4, 3], within)
    assert share == pytest.approx(3 / 4)  # 10 and 4 alone are within
    assert factor == pytest.approx(12 / 3 / 2.59)


def test_the_nearest_pair_of_every_fleet_is_within() -> None:
    """The best split of a total never strays, however narrow the interval; nor do both pools rounded up."""
    for ratio in (0.4, 1.0, 2.59):
        pairs = [integer_pairs(total, ratio)[0] for total in range(2, 40)]
        pairs += [(int(np.ceil(ratio * need)), int(np.ceil(need))) for need in (0.3, 1.2, 3.01, 7.99, 20.4)]
        counts = [[float(pair[side]) for pair in pairs] for side in (0, 1)]
        assert strays(counts[0], counts[1], RatioRange(ratio, ratio, ratio))[0] == 0.0


def test_the_range_of_a_ratio() -> None:
    """Its interval, its band where it drifts, a tenth without either; nothing without a value."""
    found = PdRatio(value=2.0, ci=(1.9, 2.2), status="ok", at_least=None, at_most=None, reason=None)
    assert ratio_range(found) == RatioRange(2.0, 1.9, 2.2)
    assert ratio_range(replace(found, status="drifting", band=(1.0, 3.0))) == RatioRange(2.0, 1.0, 3.0)
    assert ratio_range(replace(found, ci=None)) == RatioRange(2.0, 1.8, 2.2)
    assert ratio_range(replace(found, value=None)) is None


def test_one_pool_has_no_ratio_to_stray_from() -> None:
    """Without two pools or without a ratio nothing is said."""
    frame = service({"decode": np.full(4, 10.0)}, {"decode": 2})
    (part,) = demands(frame)
    alone = [simulate(Schedule({"decode": np.full(4, 2.0)}), part, fit_fleet(frame, derived(), SETTINGS))]
    assert stray_of(alone, RatioRange(2.0, 1.8, 2.2)) is None
    assert stray_of([], RatioRange(2.0, 1.8, 2.2)) is None
