"""Confounders are found where they are, and nowhere else."""

import dataclasses

import numpy as np
import pytest

from hs_analysis.study import study_service


def found(frame, settings, signal, role="decode"):
    """Verdict of a signal, and its reasons by code."""
    verdict = study_service(frame, settings).verdict_of(signal, role)
    return verdict.verdict, {reason.code: reason for reason in verdict.reasons}


@pytest.fixture
def load(load_of):
    return load_of(36, 31)


@pytest.fixture
def plain(load, pool, answer):
    """A decode pool without a trap."""
    return pool(load) | {
        "decode_tps@decode": answer(load, 1.0, 0.02, 1, scale=5000.0),
        "sm_activity@decode": answer(load, 0.8, 0.02, 2, scale=0.4),
        "tbt@decode": answer(load, 0.5, 0.02, 3, scale=0.03),
    }


TRAPS = {
    "ended", "one_bucket", "cache_moved", "mix_moved", "weekend_differs", "served_saturates", "repeats",
    "moves_on_finish", "mixed_gpu_types", "version_change", "link_power", "per_instance",
}  # fmt: skip


def test_no_trap_is_seen_where_there_is_none(load_of, pool, answer, make, settings):
    """Six plain services of one to three days: no reason of this page at all."""
    for seed in range(6):
        load = load_of(24 + 24 * (seed % 3), 400 + seed)
        columns = pool(load) | {
            "decode_tps@decode": answer(load, 1.0, 0.02, seed, scale=5000.0),
            "sm_activity@decode": answer(load, 0.8, 0.05, seed + 50, scale=0.4),
            "tbt@decode": answer(load, 0.5, 0.02, seed + 90),
            "request_rate@service": answer(load, 1.0, 0.03, seed + 120, scale=10.0),
        }
        codes = {r.code for v in study_service(make(columns), settings).verdicts for r in v.reasons}
        assert not codes & TRAPS, seed


def test_a_release_is_split_never_averaged(plain, load, make, settings):
    """Halfway everything decodes a third faster: numbers are those of after, the reason names before."""
    late = np.arange(load.size) >= load.size // 2 + 47
    faster = plain | {
        "sm_activity@decode": np.where(late, 0.75, 1.0) * plain["sm_activity@decode"],
        "tbt@decode": np.where(late, 0.7, 1.0) * plain["tbt@decode"],
    }
    verdict, reasons = found(make(faster), settings, "sm_activity")
    assert verdict == "proportional"
    text = reasons["version_change"].text
    assert "2026-01-01T18:4" in text  # 18 h 47 min after the start, within a row
    assert "before it was proportional (elasticity 0.8" in text
    assert found(make(faster), settings, "tbt")[0] == "guard"
    unmoved = study_service(make(faster), settings).verdict_of("decode_tps", "decode")
    assert "version_change" not in {r.code for r in unmoved.reasons}
    only = study_service(make(faster), settings).points.filter(signal="sm_activity")
    assert only["t"].min().isoformat() >= "2026-01-01T18:40"


def test_a_change_with_too_little_after_it_leaves_unknown(plain, load, make, settings):
    """What ends before it can be judged is not spoken for by the version before."""
    late = np.arange(load.size) >= load.size - 420
    holes = np.arange(load.size) >= load.size - 300
    columns = plain | {
        "sm_activity@decode": np.where(holes, np.nan, np.where(late, 0.6, 1.0) * plain["sm_activity@decode"]),
        "tbt@decode": np.where(late, 0.5, 1.0) * plain["tbt@decode"],
    }
    assert found(make(columns), settings, "sm_activity")[0] == "unknown"


def test_one_signal_alone_or_a_slow_move_is_no_release(plain, load, make, settings):
    """An exporter's own jump stays in the drift; a relation that slides does not jump."""
    late = np.arange(load.size) >= load.size // 2
    alone = plain | {"sm_activity@decode": np.where(late, 0.6, 1.0) * plain["sm_activity@decode"]}
    assert "version_change" not in found(make(alone), settings, "sm_activity")[1]
    slide = np.exp(np.linspace(0, 0.6, load.size))
    sliding = plain | {k: plain[k] * slide for k in ("sm_activity@decode", "tbt@decode")}
    verdict, reasons = found(make(sliding), settings, "sm_activity")
    assert "version_change" not in reasons
    assert verdict == "unusable"


def test_weekends_that_read_otherwise_are_named(load_of, pool, answer, make, settings):
    """Thursday to Sunday with batch jobs on the weekend; the same without them passes."""
    load = load_of(96, 32)  # starts on a Thursday
    weekend = np.arange(load.size) >= 2 * 1440
    value = answer(load, 1.0, 0.02, 1, scale=0.4)
    other = pool(load) | {"gpu_util@decode": value * np.where(weekend, 1.3, 1.0)}
    verdict, reasons = found(make(other), settings, "gpu_util")
    assert verdict == "unusable"
    assert reasons["weekend_differs"].value == pytest.approx(0.26, abs=0.05)
    assert found(make(pool(load) | {"gpu_util@decode": value}), settings, "gpu_util")[0] == "proportional"


def test_a_quantile_inside_one_bucket_is_not_tested(plain, load, make, settings):
    """A p95 that leaves its bucket in the busiest hours only has one value most of the time."""
    stuck = np.where(load > np.quantile(load, 0.85), plain["tbt@decode"], 0.0475)
    verdict, reasons = found(make(plain | {"tbt@decode": stuck}), settings, "tbt")
    assert verdict == "unknown"
    assert reasons["one_bucket"].value == pytest.approx(0.8, abs=0.08)


def test_a_counter_that_moves_on_finish_is_named(plain, load, make, settings):
    """Its minute-to-minute moves are those of finished work; a live counter's are those of started work."""
    rng = np.random.default_rng(4)
    length = 300 * np.exp(0.1 * rng.normal(size=load.size))
    started = load / 300 * np.exp(0.05 * rng.normal(size=load.size))
    finished = np.concatenate((started[:2], started[:-2])) * np.exp(0.03 * rng.normal(size=load.size))
    columns = plain | {
        "output_length@service": length,
        "completion_rate@service": finished,
        "first_token_rate@service": started,
    }
    assert "moves_on_finish" not in found(make(columns), settings, "decode_tps")[1]
    lumped = columns | {"decode_tps@decode": length * finished}
    assert found(make(lumped), settings, "decode_tps")[1]["moves_on_finish"].value > 0.99


def test_a_factor_that_goes_with_the_hours_is_found(load_of, pool, make, settings):
    """Cache hits that rise with the load bend the fit and leave no drift; the ratio tells."""
    load = load_of(48, 33)
    hit = 0.2 + 0.5 * (load - load.min()) / np.ptp(load)
    columns = pool(load, "prefill") | {"prefill_tps@prefill": load / (1.0 - hit)}
    verdict, reasons = found(make(columns), settings, "prefill_tps", "prefill")
    assert verdict == "unusable"
    assert "cache_moved" in reasons
    assert "raw_prefill" in reasons
    tokens = pool(load) | {"request_rate@service": load / (300 * (1.0 + hit) ** 2.5)}
    verdict, reasons = found(make(tokens), settings, "request_rate", "service")
    assert verdict == "unusable"
    assert "mix_moved" in reasons


def test_a_signal_that_ended_is_unknown(plain, load, make, settings):
    """A name that no exporter has used for three hours is nothing to scale on."""
    old = np.where(np.arange(load.size) < load.size - 180, plain["sm_activity@decode"], np.nan)
    verdict, reasons = found(make(plain | {"sm_activity@decode": old}), settings, "sm_activity")
    assert verdict == "unknown"
    assert reasons["ended"].value == pytest.approx(3.0, abs=0.1)
    later = ["a"] * 1080 + ["z"] * (load.size - 1080)
    for names in (later, ["b" if name == "a" else "a" for name in later]):  # whatever captures are called
        frame = make(plain | {"sm_activity@decode": old}, capture=names)
        frame = dataclasses.replace(frame, table=frame.table.sort("capture", "t"))
        _, reasons = found(frame, settings, "sm_activity")
        assert reasons["ended"].value == pytest.approx(3.0, abs=0.1)
    cut = {k: np.where(np.isnan(old), np.nan, v) for k, v in plain.items()}
    assert found(make(cut), settings, "sm_activity")[0] == "proportional"  # an excluded end ends nothing


def test_noise_that_hides_every_follower_is_unknown_not_unusable(load_of, pool, answer, make, settings):
    """In ten hours a noisy gauge can't be told from a clock; a smooth stranger can, and fails."""
    load, other = load_of(10, 34, depth=0.8), load_of(10, 35, depth=0.8)
    noisy = answer(load, 1.0, 0.5, 1, scale=0.4)
    verdict, reasons = found(make(pool(load) | {"kv_usage@decode": noisy}), settings, "kv_usage")
    if verdict != "guard":  # chance may lift the link over the limit
        assert verdict == "unknown"
        assert "link_power" in reasons
    stranger = answer(other, 1.0, 0.02, 1, scale=0.4)
    verdict, reasons = found(make(pool(load) | {"kv_usage@decode": stranger}), settings, "kv_usage")
    assert verdict == "unusable"
    assert "no_innovation_link" in reasons


def test_saturation_repeats_pools_and_types_are_said(plain, load, make, settings):
    """Notes that change no verdict: where a served rate is cut, repeats, moving pools, mixed GPU types."""
    short = plain | {"saturated@decode": (load > np.quantile(load, 0.97)).astype(float)}
    assert found(make(short), settings, "decode_tps")[1]["served_saturates"].value == pytest.approx(
        0.03, abs=0.005
    )
    assert "served_saturates" not in found(make(short), settings, "sm_activity")[1]
    assert "repeats" in found(make(plain, interval_s=120.0), settings, "sm_activity")[1]
    moved = plain | {"instances@decode": np.repeat([4.0, 5.0], load.size // 2)}
    assert "per_instance" in found(make(moved), settings, "decode_tps")[1]
    mixed = dataclasses.replace(make(plain), gpu_types={"decode": ("H20", "L20")})
    assert "mixed_gpu_types" in found(mixed, settings, "sm_activity")[1]
