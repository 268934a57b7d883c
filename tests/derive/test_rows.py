"""Rows that capacity is read from."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from derive.synthetic import SETTINGS, day_frame, frame_of, with_columns
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.rows import (
    centred_mean,
    operating_load_range,
    role_rows,
    trailing_mean,
    waits_for_decode,
)
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.statistics.load_range import load_range
from hs_analysis.study import effects as study


@pytest.fixture(scope="module")
def frame():
    """Half a day of a service with both pools."""
    return day_frame(0, prefill_peak=0.8, decode_peak=0.8, hours=6)


values = st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=1, max_size=25)


@given(values, st.integers(1, 7), st.integers(1, 24))
def test_means_agree_with_a_loop(numbers: list[float | None], rows: int, cut: int) -> None:
    """Centred and trailing means equal a plain loop that stops at captures and asks for 70 % of the rows."""
    x = np.array([np.nan if v is None else v for v in numbers])
    group = (np.arange(x.size) >= cut).astype(np.int64)

    def slow(back: int, ahead: int) -> np.ndarray:
        out = []
        for i in range(x.size):
            inside = [j for j in range(i - back, i + ahead + 1) if 0 <= j < x.size and group[j] == group[i]]
            good = [x[j] for j in inside if np.isfinite(x[j])]
            out.append(np.mean(good) if good and len(good) >= 0.7 * len(inside) else np.nan)
        return np.array(out)

    np.testing.assert_allclose(trailing_mean(x, rows, group), slow(rows - 1, 0), atol=1e-9)
    np.testing.assert_allclose(centred_mean(x, rows, group), slow(rows // 2, rows // 2), atol=1e-9)


def test_load_is_what_came_in_the_row_and_sustained_load_a_five_minute_mean(frame) -> None:
    """A row has its own load per instance, and the mean of itself and two rows on either side."""
    rows = role_rows(frame, "prefill", SETTINGS)
    work = frame.values("offered_tps", "prefill") / 6
    assert rows.load[100] == pytest.approx(work[100])
    assert rows.sustained[100] == pytest.approx(work[98:103].mean())


def test_rows_beside_a_step_have_no_load_of_their_own(frame) -> None:
    """Part of a row in which the load moved belongs to another load; the 5-minute mean stays."""
    work = frame.values("offered_tps", "prefill")
    work[100:] *= 2.0
    rows = role_rows(with_columns(frame, {"offered_tps@prefill": work}), "prefill", SETTINGS)
    assert np.isnan(rows.load[[99, 100]]).all()
    assert np.isfinite(rows.sustained[[99, 100]]).all()
    assert np.isfinite(rows.load[90:110]).sum() >= 16


def test_decode_load_of_a_test_spans_the_residence_time() -> None:
    """In a pressure test decode answers to running ÷ first-token rate, prefill to three windows."""
    n = 40
    flat = {
        "running@decode": 30.0,
        "first_token_rate@service": 0.5,
        "instances@decode": 2.0,
        "instances@prefill": 1.0,
    }
    columns = {name: np.full(n, value) for name, value in flat.items()}
    columns |= {f"offered_tps@{role}": np.arange(n, dtype=float) for role in ("prefill", "decode")}
    frame = frame_of(columns, "pressure_test", 20.0)
    assert role_rows(frame, "decode", SETTINGS).load[10] == pytest.approx(np.mean([8, 9, 10]) / 2)
    assert role_rows(frame, "prefill", SETTINGS).load[10] == pytest.approx(9.0)
    slow = with_columns(frame, {"running@decode": np.full(n, 60.0)})
    assert role_rows(slow, "decode", SETTINGS).load[10] == pytest.approx(np.mean(np.arange(5, 11)) / 2)


def test_rows_after_a_change_of_size_are_left_out(frame) -> None:
    """For one start-up time after the instance count changed a pool's load is not judged."""
    counts = np.where(np.arange(frame.table.height) >= 200, 5.0, 4.0)
    moved = with_columns(frame, {"instances@decode": counts})
    usable = role_rows(moved, "decode", SETTINGS).usable
    assert np.flatnonzero(~usable).tolist() == [200, 201, 202, 203]  # start-up 240 s


def test_a_test_of_minutes_leaves_three_windows_out_after_a_change(frame) -> None:
    """In a pressure test a start-up time would leave nothing."""
    counts = np.where(np.arange(frame.table.height) >= 200, 5.0, 4.0)
    moved = replace(with_columns(frame, {"instances@decode": counts}), kind="pressure_test")
    assert np.flatnonzero(~role_rows(moved, "decode", SETTINGS).usable).tolist() == [200, 201, 202]


def test_a_hole_in_the_input_is_not_a_change_of_size(frame) -> None:
    """Nobody reports and no work is known: the pool did not scale to zero and back."""
    hole = slice(100, 103)
    counts, work = np.full(frame.table.height, 4.0), frame.values("offered_tps", "decode")
    counts[hole], work[hole] = 0.0, np.nan
    holed = with_columns(frame, {"instances@decode": counts, "offered_tps@decode": work})
    assert role_rows(holed, "decode", SETTINGS).usable.all()
    work[hole] = 0.0
    zero = with_columns(frame, {"instances@decode": counts, "offered_tps@decode": work})
    assert np.flatnonzero(~role_rows(zero, "decode", SETTINGS).usable).tolist() == list(range(100, 107))


@pytest.mark.parametrize(("kind", "hole"), [("production", 2), ("pressure_test", 1)])
def test_what_piled_up_over_a_hole_is_no_load(frame, kind: str, hole: int) -> None:
    """The increase of a counter over a hole lands in the next window, and never becomes a load carried."""
    work = frame.values("offered_tps", "prefill")
    plain = role_rows(replace(frame, kind=kind), "prefill", SETTINGS).sustained
    work[100 : 100 + hole] = np.nan
    work[100 + hole] *= 1 + hole
    load = role_rows(
        replace(with_columns(frame, {"offered_tps@prefill": work}), kind=kind), "prefill", SETTINGS
    ).sustained
    assert np.nanmax(load[90:115]) < 1.1 * np.nanmax(plain[90:115])
    np.testing.assert_allclose(load[110:], plain[110:])


def test_served_work_is_censored_where_the_role_is_saturated(frame) -> None:
    """Offered work is used in saturated rows, served work is not."""
    marked = with_columns(frame, {"saturated@decode": (np.arange(frame.table.height) < 30).astype(float)})
    assert role_rows(marked, "decode", SETTINGS).usable[:30].all()
    served = replace(marked, reference="served")
    assert not role_rows(served, "decode", SETTINGS).usable[:30].any()
    assert role_rows(served, "decode", SETTINGS).usable[30:].all()


def test_first_tokens_that_wait_for_decode_are_not_prefills(frame) -> None:
    """A backlog of decode takes the row from prefill, unless prefill is saturated itself."""
    n = frame.table.height
    age = np.zeros(n)
    age[10:20] = 50.0
    waiting = with_columns(frame, {"backlog_age_s@decode": age})
    assert np.flatnonzero(waits_for_decode(waiting)).tolist() == list(range(10, 20))
    assert not role_rows(waiting, "prefill", SETTINGS).labelled[10:20].any()
    assert role_rows(waiting, "decode", SETTINGS).labelled[10:20].all()
    both = with_columns(
        waiting, {"saturated@prefill": (age > 0).astype(float), "backlog_age_s@prefill": age / 2}
    )
    assert not waits_for_decode(both).any()
    older = with_columns(waiting, {"backlog_age_s@prefill": np.where(age > 0, 60.0, 0.0)})
    assert not waits_for_decode(older).any()


def test_each_latency_belongs_to_its_role(frame) -> None:
    """TTFT is judged for prefill, TBT for decode; a limit that was not given judges nothing."""
    shares = {"ttft_over@service": 0.2, "ttft_over_least@service": 0.1, "tbt_over@decode": 0.3}
    marked = with_columns(frame, {k: np.full(frame.table.height, v) for k, v in shares.items()})
    assert role_rows(marked, "prefill", SETTINGS).over[5] == 0.2
    assert role_rows(marked, "prefill", SETTINGS).over_least[5] == 0.1
    assert role_rows(marked, "decode", SETTINGS).over[5] == 0.3
    only = Settings(slo=Slo(ttft_s=1.0))
    assert role_rows(marked, "decode", only).limits == ()
    assert np.isnan(role_rows(marked, "decode", only).over).all()


def test_a_mixed_pool_answers_for_its_worst_limit(frame) -> None:
    """One pool keeps both limits: its share is the larger of the two."""
    table = frame.table.rename(
        {c: c.replace("@decode", "@mixed") for c in frame.table.columns if c.endswith("@decode")}
    )
    mixed = replace(frame, table=table.drop("instances@prefill"))
    mixed = with_columns(mixed, {"ttft_over@service": np.full(frame.table.height, 0.4)})
    rows = role_rows(mixed, "mixed", SETTINGS)
    assert rows.limits == ("ttft", "tbt")
    assert rows.over[5] == max(0.4, frame.values("tbt_over", "decode")[5])


def test_missing_shares_are_unknown_not_zero(frame) -> None:
    """A null share neither violates nor holds."""
    blank = replace(
        frame, table=frame.table.with_columns(pl.lit(None, pl.Float64).alias("ttft_over@service"))
    )
    assert not role_rows(blank, "prefill", SETTINGS).labelled.any()


@given(idle=st.integers(0, 400), seed=st.integers(0, 20))
def test_the_range_of_a_load_is_that_of_the_study(idle: int, seed: int) -> None:
    """Rows without load count for its 95 % quantile in both, or two stages print two ranges of one load."""
    busy = np.random.default_rng(seed).lognormal(0.0, 1.0, 200)
    load = np.concatenate([busy, np.zeros(idle), [np.nan]])
    assert operating_load_range(load) == load_range(load[study.operating_range(load)])
