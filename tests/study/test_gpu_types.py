"""Each GPU type of a pool that mixes types is judged alone, and the pool says where they disagree."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from hs_analysis.study import study_service

SHARES = {"fast": 0.6, "slow": 0.4}


@pytest.fixture
def mixed(load_of, pool, answer, make):
    """A decode pool of two fast and two slow instances, and a function that gives its rows per type."""
    load = load_of(36, 41)

    def made(exponents, noise=0.02):
        types = {
            name: {
                "decode_tps": answer(load, 1.0, 0.02, k, scale=5000.0 * SHARES[name]),
                "sm_activity": answer(load, exponents[name], noise, 10 + k, scale=0.4),
            }
            for k, name in enumerate(SHARES)
        }
        frame = make(
            pool(load)
            | {
                "decode_tps@decode": sum(one["decode_tps"] for one in types.values()),
                "sm_activity@decode": np.mean([one["sm_activity"] for one in types.values()], axis=0),
            }
        )
        rows = [
            frame.table.select("capture", "t").with_columns(
                pl.lit("decode").alias("role"), pl.lit(name).alias("gpu_type"),
                pl.lit(signal).alias("signal"), pl.Series("value", values), pl.lit(2.0).alias("instances"),
            )
            for name, one in types.items()
            for signal, values in one.items()
        ]  # fmt: skip
        return replace(frame, gpu_types={"decode": tuple(SHARES)}), pl.concat(rows)

    return made


def of(result, signal, gpu_type=None):
    """The verdict of a signal for a type, and its reasons by code."""
    found = next(v for v in result.verdicts if (v.signal, v.gpu_type) == (signal, gpu_type))
    return found, {reason.code: reason for reason in found.reasons}


def test_types_that_disagree_are_judged_apart_and_said(mixed, settings):
    """The fast half follows the load, the slow half hardly: the pool's mean hides it, its reason does not."""
    frame, typed = mixed({"fast": 1.0, "slow": 0.3})
    result = study_service(frame, settings, typed)
    fast, _ = of(result, "sm_activity", "fast")
    slow, _ = of(result, "sm_activity", "slow")
    assert fast.verdict == "proportional"
    assert fast.elasticity == pytest.approx(1.0, abs=0.05)
    assert slow.verdict == "guard"
    assert slow.elasticity == pytest.approx(0.3, abs=0.05)
    assert slow.evidence == "demo%2Fm/study/sm_activity@decode@slow"
    pool, reasons = of(result, "sm_activity")
    assert [r.code for r in pool.reasons].count("mixed_gpu_types") == 1
    assert "fast proportional (elasticity " in reasons["mixed_gpu_types"].text
    assert "slow guard (elasticity " in reasons["mixed_gpu_types"].text
    assert reasons["mixed_gpu_types"].value == pytest.approx(0.7, abs=0.08)


def test_types_that_agree_leave_the_pool_as_it_is(mixed, settings):
    """Two types of one law: the pool's verdicts, numbers and points are those without types."""
    frame, typed = mixed({"fast": 1.0, "slow": 1.0})
    with_types, without = study_service(frame, settings, typed), study_service(frame, settings)
    assert with_types.verdicts[: len(without.verdicts)] == without.verdicts
    assert with_types.recommended == without.recommended
    assert with_types.points.equals(without.points)
    assert "disagree" not in of(with_types, "sm_activity")[1]["mixed_gpu_types"].text
    assert with_types.verdict_of("sm_activity", "decode").gpu_type is None


def test_the_served_rate_of_a_type_needs_a_witness(mixed, settings):
    """It splits the load, so it proves nothing alone: with a stranger beside it it stays untested."""
    frame, typed = mixed({"fast": 1.0, "slow": 0.0}, noise=0.3)
    verdict, reasons = of(study_service(frame, settings, typed), "decode_tps", "slow")
    assert verdict.verdict == "unknown"
    assert "circular_reference" in reasons
    frame, typed = mixed({"fast": 1.0, "slow": 1.0})
    verdict, reasons = of(study_service(frame, settings, typed), "decode_tps", "slow")
    assert verdict.verdict == "proportional"
    assert "served_reference" in reasons


def test_one_type_or_no_served_rate_per_type_adds_nothing(mixed, settings):
    """Without the share of the work that a type did there is no load to judge it on."""
    frame, typed = mixed({"fast": 1.0, "slow": 0.3})
    count = len(study_service(frame, settings).verdicts)
    lacking = typed.filter(pl.col("signal") != "decode_tps")
    assert len(study_service(frame, settings, lacking).verdicts) == count
    alone = replace(frame, gpu_types={"decode": ("fast",)})
    assert len(study_service(alone, settings, typed).verdicts) == count
