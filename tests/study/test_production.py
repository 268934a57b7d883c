"""Verdicts on production histories whose true relations are known."""

import dataclasses

import numpy as np
import pytest

from hs_analysis.study import study_service
from hs_analysis.study.production import at_five_minutes
from hs_analysis.study.signal_statistics import SignalStatistics
from hs_analysis.study.verdict import _with_limit


def codes(verdict):
    return {reason.code for reason in verdict.reasons}


def judge_one(frame, settings, signal, role="decode"):
    return study_service(frame, settings).verdict_of(signal, role)


@pytest.fixture
def day(load_of, pool, answer):
    """One day of a decode pool with one signal of each kind."""
    load = load_of(24, 1)
    calm_clock = 1.0 - 0.45 * np.cos(2 * np.pi * np.arange(load.size) / 1440)
    rng = np.random.default_rng(9)
    return pool(load) | {
        "decode_tps@decode": answer(load, 1.0, 0.02, 1, scale=5000.0),
        "sm_activity@decode": answer(load, 0.35, 0.01, 2, scale=0.4),
        "gpu_util@decode": 0.9 + 0.01 * rng.normal(size=load.size),
        "kv_usage@decode": 0.3 * calm_clock * np.exp(0.02 * rng.normal(size=load.size)),
        "running@decode": answer(load, 1.0, 0.9, 3, scale=60.0),
        "tbt@decode": answer(load, 0.5, 0.02, 4, scale=0.03),
        "queue_length@decode": np.maximum(load / 6500 - 1.0, 0.0) * 40,
    }


def test_each_kind_of_signal_gets_its_verdict(day, make, settings):
    """Proportional, guard by elasticity, guard by class, flat, common clock and noise are told apart."""
    result = study_service(make(day), settings)
    found = {v.signal: (v.verdict, codes(v)) for v in result.verdicts}
    assert found["decode_tps"][0] == "proportional"
    assert "passes" in found["decode_tps"][1]
    assert found["sm_activity"] == ("guard", found["sm_activity"][1] | {"elasticity_low"})
    assert found["tbt"] == ("guard", found["tbt"][1] | {"class"})
    assert found["queue_length"] == ("guard", found["queue_length"][1] | {"class"})
    assert found["gpu_util"] == ("unusable", found["gpu_util"][1] | {"flat", "rank"})
    assert found["kv_usage"] == ("unusable", found["kv_usage"][1] | {"no_innovation_link"})
    assert found["running"] == ("unusable", found["running"][1] | {"rank"})
    assert result.recommended.signal == "decode_tps"
    assert result.recommended.runner_up is None


def test_elasticity_is_found_within_its_interval(day, make, settings):
    """The known exponents are inside the 95 % intervals, and n_eff stands beside them."""
    result = study_service(make(day), settings)
    for signal, exponent in (("decode_tps", 1.0), ("sm_activity", 0.35), ("tbt", 0.5)):
        verdict = result.verdict_of(signal, "decode")
        low, high = verdict.elasticity_ci
        assert verdict.elasticity == pytest.approx(exponent, abs=0.03)
        assert low < exponent < high
        assert 3 <= verdict.n_effective <= 288
        assert verdict.pearson_ci[0] <= verdict.pearson <= verdict.pearson_ci[1]


def test_reasons_give_value_and_limit(day, make, settings):
    """A reader sees the number, and the rule's limit in brackets."""
    reason = judge_one(make(day), settings, "sm_activity").reasons[0]
    assert reason.code == "elasticity_low"
    assert reason.limit == 0.70
    assert reason.value == pytest.approx(0.35, abs=0.03)
    assert reason.text.endswith(f"elasticity {reason.value:.2f} (at least 0.70)")


def test_a_miss_by_a_hair_does_not_read_as_equal():
    """As many digits as tell the number from its limit; a tiny number keeps its first."""
    assert _with_limit(0.6996, 0.70, "at least") == "0.6996 (at least 0.7000)"
    assert _with_limit(0.0007, 0.20, "at most") == "0.0007 (at most 0.20)"
    assert _with_limit(280.2, 5.0, "at least") == "280 (at least 5.00)"


def test_an_answer_near_a_limit_is_called_close(load_of, pool, answer, make, settings):
    """An elasticity of 0.68 is a guard by a hair, and says so."""
    load = load_of(24, 2)
    verdict = judge_one(
        make(pool(load) | {"gpu_util@decode": answer(load, 0.67, 0.01, 1)}), settings, "gpu_util"
    )
    assert verdict.verdict == "guard"
    assert "at_edge" in codes(verdict)
    far = judge_one(make(pool(load) | {"gpu_util@decode": answer(load, 0.45, 0.01, 1)}), settings, "gpu_util")
    assert "at_edge" not in codes(far)


def test_constant_load_is_unknown_and_nothing_is_recommended(pool, answer, make, settings):
    """Without a load that moves nothing was tested."""
    load = 5000 * np.exp(np.random.default_rng(3).normal(size=1440) * 0.05)
    result = study_service(make(pool(load) | {"decode_tps@decode": answer(load, 1.0, 0.01, 1)}), settings)
    (verdict,) = result.verdicts
    assert verdict.verdict == "unknown"
    assert codes(verdict) == {"load_range"}
    assert verdict.elasticity is None
    assert result.recommended is None


def test_a_short_history_is_unknown(load_of, pool, answer, make, settings):
    """Below six hours the verdict is unknown, with the hours as value and limit."""
    load = load_of(24, 4)[360:660]
    result = study_service(make(pool(load) | {"decode_tps@decode": answer(load, 1.0, 0.01, 1)}), settings)
    reason = result.verdicts[0].reasons[0]
    assert (reason.code, reason.value, reason.limit) == ("too_short", 5.0, 6.0)
    assert result.recommended is None


def test_load_of_one_day_against_signals_of_another_is_never_usable(load_of, pool, answer, make, settings):
    """Independent days under a common clock pass no check of the news in the load."""
    wrong = []
    for seed in range(12):
        mine, other = load_of(24, seed), load_of(24, seed + 100)
        columns = pool(mine) | {
            "decode_tps@decode": answer(other, 1.0, 0.02, seed, scale=5000.0),
            "tbt@decode": answer(other, 0.5, 0.02, seed),
        }
        wrong += [v for v in study_service(make(columns), settings).verdicts if v.verdict != "unusable"]
    assert wrong == []


def test_compute_bound_pool_with_deep_nights_is_proportional(load_of, make, pool, settings):
    """GPU utilisation with an idle floor wins in the operating range although all rows make it look flat."""
    load = load_of(24, 5, depth=0.98)
    rng = np.random.default_rng(6)
    busy = np.maximum(0.7 * load / 10_000, 0.15) * np.exp(0.03 * rng.normal(size=load.size))
    result = study_service(make(pool(load, "mixed") | {"gpu_util@mixed": busy}), settings)
    verdict = result.verdict_of("gpu_util", "mixed")
    assert verdict.verdict == "proportional"
    assert verdict.elasticity > 0.85
    assert verdict.elasticity_all_rows < 0.7
    assert (result.recommended.signal, result.recommended.role) == ("gpu_util", "mixed")


def test_units_and_clock_do_not_matter(day, make, settings):
    """A signal in other units or a history at another date gets the same verdict and numbers."""
    base = study_service(make(day), settings)
    scaled = day | {key: day[key] * 1000 for key in ("decode_tps@decode", "sm_activity@decode", "tbt@decode")}
    for other in (make(scaled), make(day, start_s=1_900_000_020)):
        again = study_service(other, settings)
        for first, second in zip(base.verdicts, again.verdicts, strict=True):
            assert second.verdict == first.verdict
            assert second.elasticity == pytest.approx(first.elasticity, abs=1e-9)
            assert second.snr == pytest.approx(first.snr, rel=1e-6)


def without_tests(verdict):
    """The verdict without what the number of signals tested enters."""
    reasons = tuple(r for r in verdict.reasons if r.code != "tests")
    return dataclasses.replace(
        verdict, reasons=reasons, turns=tuple(t for t in verdict.turns if t.code != "chance")
    )


def test_other_columns_change_nothing(day, make, settings):
    """But for the correction for many tests, numbers and intervals do not depend on other signals."""
    alone = {
        k: v for k, v in day.items() if k.split("@")[0] in ("offered_tps", "saturated", "instances", "tbt")
    }
    one = judge_one(make(alone), settings, "tbt")
    other = judge_one(make(day), settings, "tbt")
    assert without_tests(one) == without_tests(other)
    tested = next(r for r in other.reasons if r.code == "tests")
    assert "for 7 signals tested" in tested.text
    assert tested.value >= next(r for r in one.reasons if r.code == "tests").value


def test_same_seed_same_answer_other_seed_same_verdict(day, make, settings):
    """Only intervals depend on the seed."""
    first = study_service(make(day), settings)
    assert study_service(make(day), settings).verdicts == first.verdicts
    other = study_service(make(day), dataclasses.replace(settings, seed=5))
    assert [v.verdict for v in other.verdicts] == [v.verdict for v in first.verdicts]
    assert other.verdicts[0].elasticity_ci != first.verdicts[0].elasticity_ci


def test_a_delay_is_measured_and_called_late(load_of, pool, answer, make, settings):
    """A signal three minutes behind its load has a lag of 180 s, inside its interval, and is called late."""
    load = load_of(24, 7)
    columns = pool(load) | {
        "decode_tps@decode": answer(load, 1.0, 0.02, 1),
        "running@decode": answer(load, 1.0, 0.02, 2, delay=3),
    }
    result = study_service(make(columns), settings)
    prompt, late = (result.verdict_of(s, "decode") for s in ("decode_tps", "running"))
    assert abs(prompt.lag_s) < 10
    assert late.lag_s == pytest.approx(180, abs=15)
    assert late.lag_ci[0] <= late.lag_s <= late.lag_ci[1]
    assert "late" in codes(late)
    assert "late" not in codes(prompt)


def test_raw_prefill_rate_drifts_when_the_cache_hit_rate_moves(load_of, pool, answer, make, settings):
    """The cache-missed rate stays proportional, the raw rate is unmasked by its drift."""
    load = load_of(48, 8)
    hit = 0.45 + 0.35 * np.sin(2 * np.pi * np.arange(load.size) / 1000)
    columns = pool(load, "prefill") | {
        "prefill_tps_effective@prefill": answer(load, 1.0, 0.02, 1, scale=5000.0),
        "prefill_tps@prefill": answer(load, 1.0, 0.02, 2, scale=5000.0) / (1 - hit),
    }
    result = study_service(make(columns), settings)
    assert result.verdict_of("prefill_tps_effective", "prefill").verdict == "proportional"
    raw = result.verdict_of("prefill_tps", "prefill")
    assert raw.verdict == "unusable"
    assert "drift" in codes(raw)
    assert raw.stability == pytest.approx(1 - min(raw.drift, 1.0))


def test_prefill_is_not_judged_without_cache_missed_work(day, make, answer, settings):
    """Where prefill's offered work is missing its signals and TTFT are unknown, not guessed."""
    columns = day | {"gpu_util@prefill": day["decode_tps@decode"], "ttft@service": day["tbt@decode"]}
    result = study_service(make(columns), settings)
    for signal, role in (("gpu_util", "prefill"), ("ttft", "service")):
        verdict = result.verdict_of(signal, role)
        assert verdict.verdict == "unknown"
        assert codes(verdict) == {"no_reference"}


def test_saturated_rows_are_left_out(load_of, pool, answer, make, settings):
    """A served rate that hits a ceiling is still judged right once the saturated hours are known."""
    load = load_of(24, 9)
    served = answer(np.minimum(load, 6000), 1.0, 0.02, 1, scale=5000.0)
    hidden = pool(load) | {"decode_tps@decode": served}
    known = hidden | {"saturated@decode": (load > 5900).astype(float)}
    assert judge_one(make(known), settings, "decode_tps").elasticity == pytest.approx(1.0, abs=0.03)
    assert judge_one(make(hidden), settings, "decode_tps").elasticity < 0.9


def test_pool_means_follow_load_per_instance_when_pools_move(load_of, pool, answer, make, settings):
    """With an autoscaler at work utilisation and totals are judged on work per instance."""
    load = load_of(24, 10)
    counts = np.repeat(np.clip(np.round(load.reshape(-1, 180).mean(axis=1) / 2500), 1, 9), 180)
    columns = pool(load) | {
        "instances@decode": counts,
        "gpu_util@decode": answer(load / counts * 3, 1.0, 0.02, 1, scale=0.5),
        "decode_tps@decode": answer(load, 1.0, 0.02, 2, scale=5000.0),
    }
    result = study_service(make(columns), settings)
    for signal in ("gpu_util", "decode_tps"):
        verdict = result.verdict_of(signal, "decode")
        assert verdict.verdict == "proportional"
        assert verdict.elasticity == pytest.approx(1.0, abs=0.05)
    still = study_service(make(columns | {"instances@decode": np.full(load.size, 4.0)}), settings)
    assert still.verdict_of("gpu_util", "decode").verdict != "proportional"


def test_tight_closed_loop_judges_rates_on_totals(load_of, pool, answer, make, settings):
    """Where load per instance hardly moves, TPS is judged on totals and utilisation needs less range."""
    load = load_of(24, 11)
    counts = np.round(load / 100)
    columns = pool(load) | {
        "instances@decode": counts,
        "decode_tps@decode": answer(load, 1.0, 0.02, 2, scale=5000.0),
        "gpu_util@decode": answer(load / counts * 50, 1.0, 0.02, 1, scale=0.5),
    }
    result = study_service(make(columns), settings)
    assert result.verdict_of("decode_tps", "decode").verdict == "proportional"
    utilisation = result.verdict_of("gpu_util", "decode")
    assert utilisation.verdict == "unknown"
    assert utilisation.reasons[0].limit == 1.25


def test_coarse_gauges_and_coarse_rows_keep_their_verdict(day, make, settings, load_of, pool, answer):
    """A gauge that changes every four minutes and a history of 10-min rows are judged on wider rows."""
    slow = study_service(make(day, interval_s=240.0), settings)
    assert slow.verdict_of("decode_tps", "decode").verdict == "proportional"
    assert slow.points.filter(slow.points["signal"] == "tbt").height == 180
    load = load_of(120, 12, window_s=600.0)
    wide = make(pool(load) | {"decode_tps@decode": answer(load, 1.0, 0.02, 1)}, window_s=600.0)
    assert judge_one(wide, settings, "decode_tps").verdict == "proportional"


def test_means_over_long_rows_do_not_flatter_a_noisy_signal():
    """White noise over 20 minutes is half of that of 5: signal to noise is given for 5, and says so."""
    stats = SignalStatistics("hardware", snr=8.0)
    long = at_five_minutes(stats, 1200.0, 600.0)
    assert long.snr == pytest.approx(4.0)
    (said,) = long.notes
    assert (said.code, said.value, said.limit) == ("long_rows", 1200.0, 300.0)
    assert "come every 600 s" in said.text
    assert at_five_minutes(stats, 300.0, 60.0).snr == 8.0
    unknown = SignalStatistics("hardware")
    assert at_five_minutes(unknown, 1200.0, 600.0) == unknown


def test_gaps_do_not_change_the_verdict(day, make, settings):
    """Scrape gaps in load and signal cost rows, not answers."""
    rng = np.random.default_rng(13)
    holed = {k: np.where(rng.random(v.size) < 0.04, np.nan, v) for k, v in day.items()}
    holed |= {"saturated@decode": day["saturated@decode"], "instances@decode": day["instances@decode"]}
    before, after = (study_service(make(c), settings) for c in (day, holed))
    assert [v.verdict for v in after.verdicts] == [v.verdict for v in before.verdicts]


def test_an_always_empty_column_is_unknown_and_an_unmoved_signal_flat(day, make, settings):
    """No value is not tested; one value however the load moved is tested and flat."""
    columns = day | {
        "kv_usage@decode": np.full(1440, np.nan),
        "queue_length@decode": np.zeros(1440),
    }
    result = study_service(make(columns), settings)
    empty, still = (result.verdict_of(s, "decode") for s in ("kv_usage", "queue_length"))
    assert (empty.verdict, codes(empty)) == ("unknown", {"no_data"})
    assert still.verdict == "unusable"
    assert "flat" in codes(still)


def test_points_keep_their_contract(day, make, settings):
    """One row per signal and five minutes, times in order, the fit monotone in the load."""
    result = study_service(make(day), settings)
    tps = result.points.filter(result.points["signal"] == "decode_tps").sort("load")
    assert tps.height == 288
    assert tps["t"].n_unique() == 288
    assert np.all(np.diff(tps["fit"].to_numpy()) >= -1e-9)
    assert 0 < tps["used"].sum() <= 288
    assert result.verdict_of("tbt", "decode").evidence == "demo%2Fm/study/tbt@decode"
