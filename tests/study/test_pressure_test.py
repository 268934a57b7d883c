"""Verdicts on pressure tests: windows, levels, steadiness, mix, ramps and pooled runs."""

import dataclasses

import numpy as np
import pytest

from hs_analysis.statistics.load_range import load_levels
from hs_analysis.study import study_service
from hs_analysis.study.pressure_test import mix_spread, row_factor, steady_rows, usual_instances
from hs_analysis.study.reference_load import lay_grid

WINDOW_S = 20.0


def codes(verdict):
    return {reason.code for reason in verdict.reasons}


def up_and_down(n: int = 60, low: float = 1000.0, high: float = 5000.0) -> np.ndarray:
    """Load steps of three windows that go up and come down again."""
    steps = np.concatenate((np.arange(0, n // 2, 3), np.arange(n // 2 - 3, -1, -3))) / (n // 2 - 3)
    return low + (high - low) * np.repeat(steps, 3)[:n]


@pytest.fixture
def test_columns(pool, answer):
    """Columns of one run: load, flows in balance, and one signal of each kind."""

    def build(load: np.ndarray, seed: int = 1, instances: float = 3.0, length: float = 250.0):
        return pool(load, "decode", instances) | {
            "request_rate@service": load / length,
            "first_token_rate@service": load / length,
            "completion_rate@service": load / length,
            "decode_tps@decode": answer(load, 1.0, 0.02, seed, scale=5000.0),
            "tbt@decode": answer(load / instances, 0.4, 0.01, seed + 1, scale=0.03),
            "kv_usage@decode": answer(load / instances, 1.0, 0.02, seed + 2, scale=0.5),
        }

    return build


@pytest.fixture
def run_of(make, test_columns):
    """One capture of a pressure test, with columns replaced as given."""

    def build(load: np.ndarray, **changes):
        columns = test_columns(load) | {k.replace("__", "@"): v for k, v in changes.items()}
        return make(columns, kind="pressure_test", window_s=WINDOW_S, interval_s=5.0)

    return build


def test_twenty_minutes_of_set_load_give_verdicts(run_of, settings):
    """The same signals get their verdicts, with the basis named and no clock checks."""
    result = study_service(run_of(up_and_down()), settings)
    found = {v.signal: v for v in result.verdicts}
    assert found["decode_tps"].verdict == "proportional"
    assert found["kv_usage"].verdict == "proportional"
    assert found["tbt"].verdict == "guard"
    for verdict in found.values():
        assert "set_load" in codes(verdict)
        assert verdict.spearman_highpass is None
        assert verdict.innovation_link is None
        assert verdict.stability == pytest.approx(1 - verdict.drift)
    assert result.recommended.signal == "decode_tps"


def test_too_few_windows_too_little_range_and_two_levels_are_unknown(run_of, settings):
    """Each gate gives its own reason, and nothing is recommended."""
    short = study_service(run_of(up_and_down(12)[:11]), settings)
    assert codes(short.verdict_of("decode_tps", "decode")) == {"too_few_rows", "set_load"}
    narrow = study_service(run_of(up_and_down(low=3000.0)), settings)
    assert codes(narrow.verdict_of("decode_tps", "decode")) == {"load_range", "set_load"}
    two = study_service(run_of(np.where(np.arange(60) % 20 < 10, 2000.0, 4100.0)), settings)
    assert codes(two.verdict_of("decode_tps", "decode")) == {"too_few_levels", "set_load"}
    assert short.recommended is narrow.recommended is two.recommended is None


def test_levels_are_a_quarter_apart():
    """Levels are counted greedily from below."""
    assert load_levels(np.array([100.0, 124.0, 125.0, 156.0, 157.0])) == 3
    assert load_levels(np.array([100.0, 101.0, 102.0])) == 1
    assert load_levels(np.array([0.0, 100.0])) == 1


def test_windows_out_of_balance_do_not_speak(run_of, settings):
    """A window in which departures miss arrivals by more than max(20 %, 2 sqrt n) is left out."""
    load = up_and_down()
    done = load / 250.0
    done[:3] *= 0.79  # few arrivals: within two standard deviations of a count, still steady
    done[27:33] *= 0.5
    frame = run_of(load, completion_rate__service=done)
    steady = study_service(frame, settings).points.filter(signal="decode_tps")["load"].is_not_null()
    assert steady.to_list()[27:33] == [False] * 6
    assert sum(steady) == 54


def test_steadiness_allows_the_noise_of_a_count(make):
    """Departures may miss arrivals by two square roots of the arrivals where that is more than 20 %."""
    columns = {
        "first_token_rate@service": np.array([0.2, 0.2, 50.0, 50.0]),
        "completion_rate@service": np.array([0.39, 0.41, 59.9, 60.1]),  # limits 0.4 and 60
    }
    frame = make(columns, kind="pressure_test", window_s=20.0)
    assert steady_rows(frame, lay_grid(frame, 1), "decode")[:4].tolist() == [True, False, True, False]
    assert steady_rows(frame, lay_grid(frame, 1), "prefill") is None


def test_windows_with_another_pool_size_or_a_backlog_do_not_speak(run_of, settings):
    """Instances must be at their usual count; a backlog of more than three seconds is saturation."""
    load = up_and_down()
    counts, age = np.full(60, 3.0), np.zeros(60)
    counts[10:13], age[40:42] = 2.0, 3.5
    frame = run_of(load, instances__decode=counts, backlog_age_s__decode=age)
    assert (~usual_instances(frame, "decode")).nonzero()[0].tolist() == [10, 11, 12]
    spoken = study_service(frame, settings).points.filter(signal="decode_tps")["load"].is_not_null()
    assert np.flatnonzero(~spoken.to_numpy()).tolist() == [10, 11, 12, 40, 41]


def test_rows_widen_to_three_residence_times_where_enough_remain(run_of):
    """Long decode requests are judged on wider rows, unless too few would remain."""
    load = up_and_down(120)
    usable = np.full(120, 1.0)
    quick = run_of(load, running__decode=load / 250.0 * 5.0)
    slow = run_of(load, running__decode=load / 250.0 * 25.0)
    endless = run_of(load, running__decode=load / 250.0 * 500.0)
    assert row_factor(quick, "decode", usable, 5.0) == 1
    assert row_factor(slow, "decode", usable, 5.0) == 4
    assert row_factor(endless, "decode", usable, 5.0) == 5
    assert row_factor(slow, "prefill", usable, 5.0) == 1
    assert row_factor(slow, "prefill", usable, 15.0) == 2


def test_a_mix_that_moves_leaves_only_token_rates_proportional(run_of, settings):
    """Requests are unusable and memory is at best a guard when tokens per request move by more than 1.25."""
    load = up_and_down()
    length = np.where(np.arange(60) % 20 < 10, 200.0, 320.0)
    rate = load / length
    flows = {f"{name}__service": rate for name in ("request_rate", "first_token_rate", "completion_rate")}
    frame = run_of(load, **flows)
    assert mix_spread(frame, "decode") == pytest.approx(1.6)
    result = study_service(frame, settings)
    assert result.verdict_of("decode_tps", "decode").verdict == "proportional"
    memory, requests = result.verdict_of("kv_usage", "decode"), result.verdict_of("request_rate", "service")
    assert memory.verdict == "guard"
    assert requests.verdict == "unusable"
    assert "mix_moved" in codes(memory) & codes(requests)


def test_hysteresis_and_halves_are_judged_for_rates_only(run_of, settings):
    """A signal that reads higher on the way down is unusable; a latency that does so is still a guard."""
    load = up_and_down()
    later = np.where(np.arange(60) < 30, 1.0, 1.5)
    columns = {
        "kv_usage__decode": load / 9000 * later,
        "tbt__decode": 0.01 * (load / 1000) ** 0.8 * later,
    }
    result = study_service(run_of(load, **columns), settings)
    memory, latency = result.verdict_of("kv_usage", "decode"), result.verdict_of("tbt", "decode")
    assert memory.verdict == "unusable"
    assert {"hysteresis", "drift"} <= codes(memory)
    assert latency.verdict == "guard"
    assert latency.drift > 0.2


def test_a_ramp_that_only_rises_needs_steps_that_go_together(run_of, settings):
    """Memory that fills up looks like load on such a ramp; a signal that follows its steps does not."""
    rng = np.random.default_rng(3)
    ramp = 1000 * np.exp(np.linspace(0, 1.6, 60) + 0.08 * rng.normal(size=60))
    time = np.arange(60) + 1.0
    frame = run_of(ramp, kv_usage__decode=0.02 * time**0.6 * np.exp(0.01 * rng.normal(size=60)))
    result = study_service(frame, settings)
    filling, tps = result.verdict_of("kv_usage", "decode"), result.verdict_of("decode_tps", "decode")
    assert filling.verdict == "guard"
    assert "one_way_ramp" in codes(filling)
    assert tps.verdict == "proportional"


def test_a_served_rate_is_never_judged_on_itself(test_columns, make, settings):
    """In a pressure test a served reference leaves its own rate unknown."""
    frame = make(test_columns(up_and_down()), kind="pressure_test", reference="served", window_s=WINDOW_S)
    verdict = study_service(frame, settings).verdict_of("decode_tps", "decode")
    assert verdict.verdict == "unknown"
    assert "circular_reference" in codes(verdict)


@pytest.fixture
def sweep(test_columns, make):
    """Several runs of one service; `offsets` shifts ln(signal) of each run."""

    def build(offsets: list[float], load: np.ndarray | None = None):
        load = up_and_down(30) if load is None else load
        n = load.size
        parts = [
            test_columns(load * size, seed=10 * k, instances=3.0 * size)
            for k, size in enumerate(1.0 + 0.5 * np.arange(len(offsets)))
        ]
        for part, offset in zip(parts, offsets, strict=True):
            for signal in ("decode_tps@decode", "kv_usage@decode", "tbt@decode"):
                part[signal] = part[signal] * np.exp(offset)
        columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        names = [f"run-{k}" for k in range(len(parts)) for _ in range(n)]
        return make(columns, kind="pressure_test", window_s=WINDOW_S, capture=names, interval_s=5.0)

    return build


def test_runs_on_one_curve_are_pooled_per_instance(sweep, settings):
    """Short runs of different pool sizes become one test on load per instance."""
    short = up_and_down(18, low=1500.0)[:9]
    assert (
        study_service(sweep([0.0], short), settings).verdict_of("decode_tps", "decode").verdict == "unknown"
    )
    result = study_service(sweep([0.0, 0.02, -0.02, 0.01], short), settings)
    verdict = result.verdict_of("decode_tps", "decode")
    assert verdict.verdict == "proportional"
    assert verdict.elasticity == pytest.approx(1.0, abs=0.06)
    assert {"runs_pooled", "set_load"} <= codes(verdict)
    assert result.points.filter(signal="decode_tps")["capture"].unique().len() == 4


def test_runs_that_differ_are_judged_alone(sweep, settings):
    """Curves 60 % apart are not pooled; each run stands for itself."""
    verdict = study_service(sweep([0.0, 0.6, -0.6]), settings).verdict_of("decode_tps", "decode")
    assert verdict.verdict == "proportional"
    assert {"runs_differ", "runs_alone"} <= codes(verdict)


def test_two_captures_are_judged_alone_and_the_worse_stands(sweep, settings):
    """Two runs are too few to pool: a run in which memory bends makes the verdict a guard."""
    frame = sweep([0.0, 0.0])
    assert study_service(frame, settings).verdict_of("kv_usage", "decode").verdict == "proportional"
    values = frame.values("kv_usage", "decode")
    values[30:] = values[30:] ** 1.7
    bent = frame.table.with_columns(kv=values).drop("kv_usage@decode").rename({"kv": "kv_usage@decode"})
    verdict = study_service(dataclasses.replace(frame, table=bent), settings).verdict_of("kv_usage", "decode")
    assert verdict.verdict == "guard"
    assert "runs_alone" in codes(verdict)
    note = next(r for r in verdict.reasons if r.code == "runs_alone")
    assert "run-0 proportional, run-1 guard" in note.text


def test_signals_of_other_moments_are_never_usable(run_of, settings):
    """Load against the same capture's signals shifted in time passes no check."""
    rng = np.random.default_rng(4)
    load = 3000 * np.exp(np.cumsum(rng.normal(size=90)) * 0.25)
    load = np.clip(load, 800, 9000)
    for shift in (25, 45, 65):
        columns = {
            "decode_tps__decode": np.roll(load, shift),
            "kv_usage__decode": np.roll(load, shift) / 20_000,
        }
        result = study_service(run_of(load, **columns), settings)
        assert {result.verdict_of(s, "decode").verdict for s in ("decode_tps", "kv_usage")} == {"unusable"}
