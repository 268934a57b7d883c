"""A relation of the pool that comes from its mix of instances alone is found, others are left."""

import numpy as np
import polars as pl
import pytest

from hs_analysis.study import study_service
from hs_analysis.study.confounders import slopes

SLOTS = 8
"""Instances that run at any time; each is a small one or, while the load is high, a big one in its place."""


@pytest.fixture
def fleet(load_of, pool, make):
    """Return a decode pool and its rows per instance: the more load, the more of its instances are big.

    The signal of an instance is its level times (own load)^`exponent`; every one gets an equal share of the
    load, but for an hourly unevenness. A big one has `big_level`, a small one 0.2.
    """
    load = load_of(36, 51)
    hourly = load.reshape(-1, 60).mean(axis=1)
    swaps = np.quantile(hourly, np.linspace(0.15, 0.85, SLOTS))

    def made(exponent, big_level, seed=1, noise=0.03):
        rng = np.random.default_rng(seed)
        own, value = [], []
        for swap in swaps:
            for big in (False, True):
                here = ((hourly > swap) == big).repeat(60)
                uneven = np.exp(0.1 * rng.normal(size=hourly.size)).repeat(60)
                mine = np.where(here, load / SLOTS * uneven, np.nan)
                scatter = np.exp(noise * rng.normal(size=load.size))
                own.append(mine)
                level = np.where(here, big_level if big else 0.2, np.nan)
                value.append(level * (mine / 1000.0) ** exponent * scatter)
        columns = pool(load, instances=SLOTS) | {
            "decode_tps@decode": np.nansum(own, axis=0),
            "sm_activity@decode": np.nanmean(value, axis=0),
        }
        frame = make(columns)
        starts = frame.table["t"][::5]
        rows = [
            pl.DataFrame({"t": starts, "value": each.reshape(-1, 5).mean(axis=1)}).with_columns(
                pl.lit("demo/m").alias("service"), pl.lit("").alias("capture"),
                pl.lit("decode").alias("role"),
                pl.lit(f"pod-{k}").alias("instance"), pl.lit(signal).alias("signal"),
            )
            for signal, series in (("decode_tps", own), ("sm_activity", value))
            for k, each in enumerate(series)
        ]  # fmt: skip
        return frame, pl.concat(rows).filter(pl.col("value").is_not_nan())

    return made


def reasons_of(frame, settings, instances):
    """Verdict on SM activity and its reasons by code."""
    found = study_service(frame, settings, None, instances).verdict_of("sm_activity", "decode")
    return found, {reason.code: reason for reason in found.reasons}


def test_a_relation_from_the_mix_of_instances_alone_is_found(fleet, settings):
    """No instance answers to its load; big ones read higher and run while the load is high."""
    frame, instances = fleet(0.0, 0.6)
    verdict, reasons = reasons_of(frame, settings, instances)
    assert verdict.spearman > 0.9
    assert verdict.verdict == "unusable"
    assert reasons["simpson"].value == pytest.approx(0.0, abs=0.05)
    assert reasons["simpson"].limit > 0.5
    assert "within instances" in reasons["simpson"].text


def test_a_relation_that_the_mix_steepens_may_not_size_a_pool(fleet, settings):
    """Instances answer with 0.3, their mix adds the rest: without single instances it looks proportional."""
    frame, instances = fleet(0.3, 0.36)
    assert study_service(frame, settings).verdict_of("sm_activity", "decode").verdict == "proportional"
    verdict, reasons = reasons_of(frame, settings, instances)
    assert verdict.verdict == "guard"
    assert reasons["simpson"].value == pytest.approx(0.3, abs=0.03)


def test_a_relation_that_the_mix_hides_is_found(fleet, settings):
    """Every instance follows its load, and big ones read so much lower that the pool does not."""
    frame, instances = fleet(0.8, 0.11)
    _, reasons = reasons_of(frame, settings, instances)
    assert reasons["simpson"].value == pytest.approx(0.8, abs=0.05)
    assert reasons["simpson"].limit < 0.4


def test_instances_of_one_law_are_left_alone(fleet, settings):
    """Eight fleets whose instances share one law, whatever their size: no reason, and no other verdict."""
    for seed in range(8):
        frame, instances = fleet((0.3, 0.8, 1.0, 1.2)[seed % 4], 0.2, seed)
        found, reasons = reasons_of(frame, settings, instances)
        assert "simpson" not in reasons, seed
        assert found == study_service(frame, settings).verdict_of("sm_activity", "decode")


def test_the_slope_within_is_that_of_dummy_variables():
    """Demeaning gives what least squares with one dummy per instance gives."""
    rng = np.random.default_rng(2)
    instance = np.repeat(np.arange(3), 120)
    second = np.tile(np.arange(120) * 300.0, 3)
    load = np.exp(rng.normal(size=360) * 0.4 + instance)
    value = load**0.7 * np.exp(-1.5 * instance + 0.1 * rng.normal(size=360))
    design = np.column_stack([np.log(load), instance[:, None] == np.arange(3)])
    wanted = np.linalg.lstsq(design, np.log(value), rcond=None)[0][0]
    found = slopes(load, value, instance, second)
    assert found.within == pytest.approx(wanted, rel=1e-9)
    assert found.pool < 0.3
    assert slopes(load[:120], value[:120], instance[:120], second[:120]) is None
    assert slopes(load[:200], value[:200], instance[:200], second[:200] % 7200) is None
