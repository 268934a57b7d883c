"""Violation runs: onsets, recovery rows, brackets, and the gates."""

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import SETTINGS, frame_of
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.capacity_laws import Bracket, bracket, counted_onsets, doubtful_load, label_rows
from hs_analysis.derive.constants import VIOLATING_MIN
from hs_analysis.derive.rows import (
    RoleRows,
    operating_load_range,
    pressure_gate,
    production_gate,
    role_rows,
)
from hs_analysis.statistics.load_range import load_levels


def rows_of(
    load: list[float], share: list[float], age: list[float] | None = None, kind: str = "production"
) -> RoleRows:
    """Return decode rows with exactly these loads, shares and backlog ages."""
    n = len(load)
    columns = {
        "offered_tps@decode": np.array(load, dtype=float),
        "instances@decode": np.ones(n),
        "tbt_over@decode": np.array(share, dtype=float),
        "backlog_age_s@decode": np.array(age or [0.0] * n),
    }
    # Rows of five minutes are not averaged further; these few count as loads without chance and steps.
    rows = role_rows(frame_of(columns, kind, 300.0), "decode", SETTINGS)
    return replace(rows, load=rows.sustained, count_noise=np.nan)


def test_recovery_rows_are_dropped() -> None:
    """After two rows of a run, rows under 0.9 of its onset load are recovery; heavier rows stay evidence."""
    load = [50, 100, 110, 100, 60, 50, 50, 50, 50, 50, 50]
    share = [0.0, 0.2, 0.3, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0]
    labelled = label_rows(rows_of(load, share), SETTINGS.slo, drop_recovery=True)
    assert labelled.onsets.tolist() == [110.0]
    assert np.flatnonzero(~labelled.kept).tolist() == [4, 5]
    assert labelled.bad_kept == 3
    kept_all = label_rows(rows_of(load, share), SETTINGS.slo, drop_recovery=False)
    assert kept_all.kept.all()


def test_a_backlog_prolongs_the_run() -> None:
    """Rows without a violation still belong to the run while work waits for more than a second."""
    load = [50, 100, 100, 50, 50, 50, 50, 50, 50, 50]
    share = [0.0, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    waiting = [0, 5, 5, 5, 5, 5, 5, 5, 5, 0.0]
    labelled = label_rows(rows_of(load, share, waiting), SETTINGS.slo, drop_recovery=True)
    assert np.flatnonzero(~labelled.kept).tolist() == [3, 4, 5, 6, 7, 8]
    without = label_rows(rows_of(load, share), SETTINGS.slo, drop_recovery=True)
    assert without.kept.all()


def test_episodes_are_more_than_ten_minutes_apart() -> None:
    """Violating rows ten minutes apart are one episode, fifteen minutes apart two."""
    share = [0.1, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.1]  # rows of 5 minutes
    labelled = label_rows(rows_of([100] * 8, share), SETTINGS.slo, drop_recovery=False)
    assert labelled.episodes == 2


def test_an_onset_that_seldom_violates_does_not_count() -> None:
    """One violation at a load that mostly holds is chance; the onset of a real overload counts."""
    load = [30.0, *[50.0] * 100, *[120.0] * 20]
    share = [0.2, *[0.0] * 100, *[0.3] * 20]
    labelled = label_rows(rows_of(load, share), SETTINGS.slo, drop_recovery=True)
    assert labelled.onsets.tolist() == [30.0, 120.0]
    assert counted_onsets(labelled).tolist() == [30.0, 120.0]  # 21 of 121 rows at 30 or more violate
    rare = label_rows(rows_of(load[:101], share[:101]), SETTINGS.slo, drop_recovery=True)
    assert counted_onsets(rare).tolist() == []  # 1 of 101


@pytest.mark.parametrize(("above", "counts"), [(2, False), (3, True)])
def test_one_or_two_chance_violations_at_the_top_set_no_onset(above: int, counts: bool) -> None:
    """In a narrow range of loads even one chance violation is 5 % of the rows at its load or more."""
    load = [*np.linspace(50, 79, 100), *[80.0] * above]
    share = [0.0] * 100 + [0.3] * above
    load[90] = 40.0  # a chance violation below, which the share rules out
    share[90] = 0.3
    labelled = label_rows(rows_of(load, share), SETTINGS.slo, drop_recovery=True)
    assert labelled.bad_kept == above + 1
    assert counted_onsets(labelled).tolist() == ([80.0] if counts else [])
    assert (bracket(labelled, SETTINGS.slo) is not None) is counts


@pytest.mark.parametrize(("above", "shown"), [(91, False), (92, True)])
def test_one_violation_needs_92_quiet_windows_at_its_load_or_more(above: int, shown: bool) -> None:
    """0.95ⁿ + n · 0.05 · 0.95ⁿ⁻¹, the chance of at most one in n, falls under 5 % at n = 93."""
    load = [*np.linspace(20, 49, 50), 50.0, *np.linspace(51, 90, above)]
    share = [0.0] * 50 + [0.3] + [0.0] * above
    labelled = label_rows(rows_of(load, share), SETTINGS.slo, drop_recovery=True)
    assert doubtful_load(labelled, SETTINGS.slo) == (None if shown else 50.0)


def test_a_violation_at_the_top_is_doubtful_and_one_at_the_bottom_chance() -> None:
    """The light one has 199 windows above it with one violation, the other has four."""
    load = [float(x) for x in range(1, 201)]
    share = [0.0] * 200
    share[0] = share[195] = 0.3
    labelled = label_rows(rows_of(load, share), SETTINGS.slo, drop_recovery=True)
    assert doubtful_load(labelled, SETTINGS.slo) == 196.0
    lenient = replace(SETTINGS.slo, allowed_window_share=0.6)  # 0.4⁵ + 5 · 0.6 · 0.4⁴ = 0.087: still too few
    assert doubtful_load(labelled, lenient) == 196.0
    assert doubtful_load(labelled, replace(lenient, allowed_window_share=0.7)) is None  # 0.031


def test_a_doubtful_load_is_a_mean_load() -> None:
    """By chance 5 % of the windows get more than exp(1.645 · √(variance ÷ mean ÷ load)) times the mean."""
    rows = replace(rows_of([*np.linspace(10, 100, 50)], [0.0] * 49 + [0.3]), count_noise=0.25)
    labelled = label_rows(rows, SETTINGS.slo, drop_recovery=True)
    assert doubtful_load(labelled, SETTINGS.slo) == pytest.approx(100 * np.exp(-1.6449 * 0.05), rel=1e-4)


def test_without_a_violation_no_load_is_doubtful() -> None:
    """Few windows alone cast no doubt: floors of quiet histories stay what was carried."""
    labelled = label_rows(rows_of([10.0, 20.0, 30.0], [0.0, 0.0, 0.0]), SETTINGS.slo, drop_recovery=True)
    assert doubtful_load(labelled, SETTINGS.slo) is None


@given(st.lists(st.tuples(st.floats(10, 100), st.booleans()), min_size=1, max_size=200))
def test_every_onset_that_counts_is_doubtful(rows: list[tuple[float, bool]]) -> None:
    """Where 5 % of the windows violate nothing shows that fewer do: floors heed every onset of brackets."""
    load, bad = [value for value, _ in rows], [0.3 if over else 0.0 for _, over in rows]
    labelled = label_rows(rows_of(load, bad), SETTINGS.slo, drop_recovery=True)
    counted, doubtful = counted_onsets(labelled), doubtful_load(labelled, SETTINGS.slo)
    assert counted.size == 0 or (doubtful is not None and doubtful <= counted[0])


@given(st.lists(st.tuples(st.floats(10, 100), st.booleans()), min_size=1, max_size=60))
def test_every_counted_onset_has_three_violations_at_its_load_or_more(rows: list[tuple[float, bool]]) -> None:
    """An onset is a claim that loads from there on break the limit: three windows at least have to say so."""
    load, bad = [value for value, _ in rows], [0.3 if over else 0.0 for _, over in rows]
    labelled = label_rows(rows_of(load, bad), SETTINGS.slo, drop_recovery=True)
    for onset in counted_onsets(labelled):
        above = labelled.bad & labelled.kept & (labelled.rows.load >= onset)
        assert int(above.sum()) >= VIOLATING_MIN


def test_bracket_lies_between_clean_and_violating_loads() -> None:
    """Its ends are the onset and the ranked clean loads, its value their geometric mean."""
    load = [*np.linspace(40, 99, 60), 100.0, 100.0, 100.0, 104.0, 100.0]
    share = [0.0] * 60 + [0.0, 0.0, 0.0, 0.2, 0.2]
    share[-2:] = [0.2, 0.2]
    labelled = label_rows(
        rows_of([*load, 110.0, 108.0], [*share, 0.2, 0.2]), SETTINGS.slo, drop_recovery=True
    )
    found = bracket(labelled, SETTINGS.slo)
    assert found == Bracket(low=93.0, high=104.0)  # 10th-highest clean load, onset
    assert found is not None
    assert found.value == pytest.approx(np.sqrt(93 * 104))
    assert found.width == pytest.approx(11 / np.sqrt(93 * 104))


def test_a_bracket_speaks_of_mean_load() -> None:
    """Where windows get 5 % more or less by chance, both ends lie 1.645 such deviations lower."""
    rows = replace(rows_of([50.0] * 60 + [100.0] * 3, [0.0] * 60 + [0.2] * 3), count_noise=0.05**2 * 100.0)
    labelled = label_rows(rows, SETTINGS.slo, drop_recovery=True)
    found = bracket(labelled, SETTINGS.slo)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(np.array([50.0, 100.0]) * np.exp(-1.645 * 0.05), rel=1e-4)


def test_bracket_needs_rows_on_both_sides() -> None:
    """Two violating rows, or 59 clean ones, make none."""
    clean = [50.0] * 60
    thin = rows_of([*clean, 90, 90], [0.0] * 60 + [0.2] * 2)
    assert bracket(label_rows(thin, SETTINGS.slo, drop_recovery=True), SETTINGS.slo) is None
    few = rows_of([*clean[:59], 90, 90, 90], [0.0] * 59 + [0.2] * 3)
    assert bracket(label_rows(few, SETTINGS.slo, drop_recovery=True), SETTINGS.slo) is None
    enough = rows_of([*clean, 90, 90, 90], [0.0] * 60 + [0.2] * 3)
    assert bracket(label_rows(enough, SETTINGS.slo, drop_recovery=True), SETTINGS.slo) == Bracket(50.0, 90.0)


def test_gate_of_a_production_history() -> None:
    """Under six hours, or a load that hardly moves, can't pin a capacity."""
    moving = np.linspace(50, 150, 96)
    assert production_gate(rows_of(list(moving), [0.0] * 96)) is None
    short = production_gate(rows_of(list(moving[:71]), [0.0] * 71))
    assert short is not None
    assert (short.code, short.limit) == ("thin", 6.0)
    flat = production_gate(rows_of([100.0, 110.0] * 48, [0.0] * 96))
    assert flat is not None
    assert flat.code == "load_range"
    assert flat.value == pytest.approx(1.1)


def test_gate_of_a_pressure_test() -> None:
    """Twelve windows, a factor of two and three levels 25 % apart are the least."""
    assert pressure_gate(rows_of([50, 70, 100, 130] * 3, [0.0] * 12, kind="pressure_test")) is None
    few = pressure_gate(rows_of([50, 70, 100, 130], [0.0] * 4, kind="pressure_test"))
    narrow = pressure_gate(rows_of([100, 105] * 10, [0.0] * 20, kind="pressure_test"))
    assert few is not None
    assert few.code == "thin"
    assert narrow is not None
    assert narrow.code == "load_range"


def test_range_leaves_idle_hours_out() -> None:
    """Nights at a handful of requests do not make a range."""
    assert operating_load_range(np.r_[np.full(50, 1.0), np.full(50, 100.0)]) == pytest.approx(1.0)
    assert operating_load_range(np.linspace(50, 150, 101)) == pytest.approx(145 / 55)
    assert np.isnan(operating_load_range(np.array([np.nan])))


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=30), st.floats(0.1, 10))
def test_levels_do_not_depend_on_the_unit(loads: list[float], unit: float) -> None:
    """Counting levels is a matter of ratios, and there are never more than the range has room for."""
    load = np.array(loads)
    count = load_levels(load)
    assert 1 <= count <= 1 + np.log(load.max() / load.min() + 1e-9) / np.log(1.25) + 1e-6
    assert abs(load_levels(load * unit) - count) <= 1  # a step of exactly 25 % may round either way
