"""Which input moved the mix, and what holding one ratio costs while it moves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from derive.synthetic import frame_of, with_columns
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.mix import Stretch, fixed_costs, movers, movers_text, stretches_of
from hs_analysis.schema.results import Mover
from hs_analysis.schema.settings import Settings, Slo

HOURS = 12


def moving(isl: np.ndarray, osl: np.ndarray, hit: np.ndarray):  # type: ignore[no-untyped-def]
    """Return a frame whose lengths and hit rate are given by the hour, and its stretches."""
    rows = HOURS * 60
    isl, osl, hit = (np.repeat(values, 60).astype(float) for values in (isl, osl, hit))
    rate = 5.0 + np.sin(np.arange(rows) / 50)
    columns = {
        "request_rate@service": rate, "finished_rate@service": rate, "input_length@service": isl,
        "output_length@service": osl, "prompt_tps@service": rate * isl,
        "cached_prompt_tps@service": rate * isl * hit,
    }  # fmt: skip
    frame = frame_of(columns, "production", 60.0)
    return frame, stretches_of(frame, rate * isl * (1 - hit), rate * osl)


STEP = np.where(np.arange(HOURS) % 4 < 2, 1.0, 1.6)
FLAT = np.ones(HOURS)


@pytest.mark.parametrize(
    ("name", "isl", "osl", "hit"),
    [
        ("isl", 1000 * STEP, 200 * FLAT, 0.3 * FLAT),
        ("osl", 1000 * FLAT, 200 * STEP, 0.3 * FLAT),
        ("hit_rate", 1000 * FLAT, 200 * FLAT, 0.3 * STEP),
    ],
)
def test_the_one_input_that_moves_is_named(
    name: str, isl: np.ndarray, osl: np.ndarray, hit: np.ndarray
) -> None:
    """One moving input explains all of the movement, with the values it moved between."""
    first, *rest = movers(*moving(isl, osl, hit))
    values = {"isl": isl, "osl": osl, "hit_rate": hit}[name]
    assert (first.input, first.share) == (name, pytest.approx(1.0))
    assert (first.low, first.high) == pytest.approx((values.min(), values.max()))
    assert [one.share for one in rest] == pytest.approx([0.0, 0.0])


@given(st.lists(st.tuples(st.floats(100, 4000), st.floats(50, 900), st.floats(0, 0.9)),
                min_size=HOURS, max_size=HOURS))  # fmt: skip
def test_shares_add_up(rows: list[tuple[float, float, float]]) -> None:
    """Whatever moves, the shares of the inputs add up to the whole movement, largest first."""
    isl, osl, hit = (np.array(values) for values in zip(*rows, strict=True))
    found = movers(*moving(isl, osl, hit))
    if found:
        assert sum(one.share for one in found) == pytest.approx(1.0)
        assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)


def test_what_can_not_be_told_is_not_told() -> None:
    """Nothing moves, or a length is missing: no input is named."""
    assert movers(*moving(1000 * FLAT, 200 * FLAT, 0 * FLAT)) == ()
    frame, stretches = moving(1000 * STEP, 200 * FLAT, 0 * FLAT)
    bare = replace(frame, table=frame.table.drop("output_length@service"))
    assert movers(bare, stretches) == ()
    assert movers_text(()) == ""


def test_shares_of_the_movement_say_of_what_they_are() -> None:
    """Two shares of more than the whole need the one that moved against them; a whole needs no more."""
    both = (Mover("osl", 0.57, 192.0, 308.0), Mover("isl", 0.49, 1010.0, 1535.0))
    assert movers_text((*both, Mover("hit_rate", -0.06, 0.24, 0.33))) == (
        "output length (57 % of the movement of the mix, 192 to 308 tokens) and prompt length (49 %, 1,010 "
        "to 1,535 tokens), less 6 % by share of cached prompt tokens, which moved against them"
    )
    assert movers_text((Mover("hit_rate", 1.0, 0.24, 0.33), Mover("isl", 0.0, 9.0, 9.0))) == (
        "share of cached prompt tokens (100 % of the movement of the mix, 24 % to 33 %)"
    )


def test_a_hit_rate_that_was_not_scraped_moves_nothing() -> None:
    """A constant hit rate with a gap is constant: stretches that hold it are compared, else all."""
    frame, stretches = moving(1000 * FLAT, 200 * STEP, 0.5 * FLAT)
    name = "cached_prompt_tps@service"
    gap = np.where(np.arange(frame.table.height) < 360, np.nan, frame.table[name])
    shares = {one.input: one.share for one in movers(with_columns(frame, {name: gap}), stretches)}
    assert shares == pytest.approx({"osl": 1.0, "isl": 0.0, "hit_rate": 0.0})
    bare = replace(frame, table=frame.table.drop(name))
    assert movers(bare, stretches)[0].input == "osl"


def stretch(hour: int, prefill: float, decode: float) -> Stretch:
    return Stretch(0, 3600.0 * hour, 3600.0 * (hour + 1), prefill, decode)


def test_a_fixed_ratio_by_hand() -> None:
    """Half the time the mix needs 1, half 2 (scale 1), 100 decode tokens/s throughout.

    Following: 100·(2 + 3) = 500. Held at 1: 100·2 + 200·2 = 600, +20 %; on decode alone 400, −20 %, short
    half the time at twice the target. Held at 2: 600 either way, never short.
    """
    hours = [stretch(i, 100.0 * (1 + i % 2), 100.0) for i in range(4)]
    low, high = fixed_costs(hours, 1.0, {"low": 1.0, "high": 2.0}, 0.85)
    assert (low.extra_instance_hours, low.sized_on_decode) == pytest.approx((0.2, -0.2))
    assert (low.short_share, low.worst_load) == pytest.approx((0.5, 2.0))
    assert (high.extra_instance_hours, high.sized_on_decode) == pytest.approx((0.2, 0.2))
    assert (high.short_share, high.worst_load) == (0.0, 1.0)


MIXES = st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=3, max_size=12)


@given(MIXES, st.floats(0.2, 5.0), st.floats(0.05, 20.0))
def test_following_is_never_beaten_by_a_fixed_ratio(
    rows: list[tuple[float, float]], scale: float, ratio: float
) -> None:
    """Without shortage a fixed ratio costs at least as much, and as much only where the mix stands still."""
    hours = [stretch(i, p, d) for i, (p, d) in enumerate(rows)]
    (cost,) = fixed_costs(hours, scale, {"r": ratio}, 0.85)
    assert cost.extra_instance_hours >= -1e-9
    assert cost.sized_on_decode <= cost.extra_instance_hours + 1e-9
    assert (cost.short_share > 0) == any(0.85 * scale * p / d > ratio for p, d in rows)
    still = [stretch(i, rows[0][0] * d, d) for i, (_, d) in enumerate(rows)]
    (nothing,) = fixed_costs(still, scale, {"r": rows[0][0] * scale}, 0.85)
    assert nothing.extra_instance_hours == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_cycles_of_real_components(real_data: Path, tmp_path: Path) -> None:
    """Five cycles with alternating mix: drifting, the windows follow the truth, output length moved most."""
    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import run_inputs
    from hs_analysis.pipeline.stages import Silent
    from hs_analysis.pipeline.study_stages import read_derived

    source = real_data / "dynamo-mocker" / "pd-cycles"
    settings = Settings(slo=Slo(ttft_s=2.0, tbt_s=0.05), history_kind="pressure_test")
    run_inputs([source], "derive", settings, stages=STAGES, progress=Silent(), run_dir=tmp_path / "run")
    found = read_derived(tmp_path / "run", "-/sim-llama-8b").pd_ratio
    assert (found.status, found.reason.code) == ("drifting", "mix_moves")
    truth = json.loads((source / "truth.json").read_text("utf-8"))
    begin, wanted = truth["load_start_unix"], (0.90, 0.52, 0.91, 0.47, 0.96)
    one_capacity = "balanced_P_per_D_with_pressure_test_decode_capacity"
    level = np.array([cycle[one_capacity] for cycle in truth["cycles"]])
    by_cycle: dict[int, list[float]] = {}
    held = []
    for window in found.by_window:
        start, end = (datetime.fromisoformat(text).timestamp() - begin for text in (window.start, window.end))
        cycle = int((start + end) / 2 // 900)
        if cycle == int(start // 900) == int(end // 900) and 0 <= cycle < 5:
            by_cycle.setdefault(cycle, []).append(window.value)
            held.append(window.ci[0] <= wanted[cycle] <= window.ci[1])
    medians = np.array([np.median(by_cycle[k]) for k in range(5)])
    # The truth of each cycle's own mix also moves decode's capacity, which one number per role can't.
    np.testing.assert_allclose(medians, level, rtol=0.1)
    np.testing.assert_allclose(medians, wanted, rtol=0.2)
    assert np.argsort(medians).tolist() == np.argsort(wanted).tolist()
    assert np.mean(held) > 0.8
    assert [one.input for one in found.moved_by[:2]] == ["osl", "isl"]
    assert "output length" in found.reason.text
    value, low, high, bound = found.fixed_costs
    assert bound.short_share < value.short_share
    assert value.extra_instance_hours > 0.05
    assert low.short_share > value.short_share > high.short_share
