"""Capacity per GPU type of a pool that holds several."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from derive.synthetic import SETTINGS, Service, day_frame, role_state, with_columns

from hs_analysis.derive import derive_service
from hs_analysis.derive.gpu_types import type_frame
from hs_analysis.schema.aligned import ServiceFrame

FEW = replace(SETTINGS, draws=60)
CAPACITY = {"fast": 1300.0, "slow": 900.0}
EACH = 2


def mixed_pool(seed: int) -> tuple[ServiceFrame, pl.DataFrame]:
    """Return days of a decode pool of two fast and two slow instances, and its rows per type.

    All get equal work; the peak passes the limit of the slow ones only.
    """
    frame = day_frame(seed, prefill_peak=0.6, decode_peak=0.8, hours=36, service=Service(decode=2 * EACH))
    rng = np.random.default_rng([seed, 3])
    load = frame.values("offered_tps", "decode") / (2 * EACH)
    states = {name: role_state(load, capacity, 60.0, rng) for name, capacity in CAPACITY.items()}
    total = sum(state["served"] * EACH for state in states.values())
    share = np.mean([state["share"] for state in states.values()], axis=0)
    frame = with_columns(
        frame,
        {
            "decode_tps@decode": total, "tbt_over@decode": share,
            "backlog_age_s@decode": np.zeros(share.size), "saturated@decode": np.zeros(share.size),
        },
    )  # fmt: skip
    frame = replace(frame, gpu_types={"prefill": ("fast",), "decode": ("fast", "slow")})
    rows = [
        frame.table.select("capture", "t").with_columns(
            pl.lit("decode").alias("role"), pl.lit(name).alias("gpu_type"), pl.lit(signal).alias("signal"),
            pl.Series("value", values), pl.lit(EACH).alias("instances"),
        )
        for name, state in states.items()
        for signal, values in {
            "decode_tps": state["served"] * EACH,
            "tbt_over": state["share"],
        }.items()
    ]  # fmt: skip
    return frame, pl.concat(rows)


def test_each_type_has_its_own_capacity() -> None:
    """The slow type's limit is found in its interval; the fast one, never near its limit, gets a floor."""
    frame, typed = mixed_pool(1)
    found = {(c.role, c.gpu_type): c for c in derive_service(frame, (), FEW, typed).derived.capacity}
    assert list(found) == [("prefill", None), ("decode", None), ("decode", "fast"), ("decode", "slow")]
    slow, fast = found["decode", "slow"], found["decode", "fast"]
    assert slow.status == "ok"
    assert slow.ci is not None
    assert slow.ci[0] <= CAPACITY["slow"] <= slow.ci[1]
    assert slow.per_instance == pytest.approx(CAPACITY["slow"], rel=0.05)
    assert (fast.status, fast.basis) == ("floor", "observed")
    assert fast.per_instance is not None
    assert fast.per_instance <= CAPACITY["fast"]
    assert slow.evidence.endswith("capacity@decode@slow")


def test_each_type_has_a_target_of_its_own() -> None:
    """Head-room on its own lower end; band and cooldowns are the pool's. The pool's row stays what it was."""
    frame, typed = mixed_pool(1)
    derived, alone = (derive_service(frame, (), FEW, rows).derived for rows in (typed, None))
    capacity = {c.gpu_type: c for c in derived.capacity if c.role == "decode"}
    found = {t.gpu_type: t for t in derived.thresholds if t.role == "decode"}
    assert list(found) == [None, "fast", "slow"]
    assert found[None] == alone.threshold_of("decode_tps", "decode")
    slow, fast = found["slow"], found["fast"]
    assert capacity["slow"].ci is not None
    assert slow.target_per_instance == pytest.approx(0.85 * capacity["slow"].ci[0])
    assert capacity["fast"].per_instance is not None
    assert fast.target_per_instance == pytest.approx(0.85 * capacity["fast"].per_instance)
    assert (slow.status, fast.status) == ("ok", "floor")
    assert slow.scale_in_ratio == found[None].scale_in_ratio
    assert slow.cooldown_in_s == found[None].cooldown_in_s
    assert slow.evidence.endswith("threshold:decode_tps@decode@slow")


def test_the_parts_of_a_pool_add_up() -> None:
    """Instances, served and offered work of the types are those of the pool, row by row."""
    frame, typed = mixed_pool(2)
    parts = [type_frame(frame, typed, "decode", name) for name in CAPACITY]
    for signal in ("decode_tps", "offered_tps", "instances"):
        whole = frame.values(signal, "decode")
        known = [part.values(signal, "decode") for part in parts if part is not None]
        assert len(known) == 2
        np.testing.assert_allclose(sum(known), whole, rtol=1e-9)


def test_a_type_without_its_own_histogram_gets_the_pools_number_and_says_so() -> None:
    """What can't be told per type is the pool's mean, with what is missing, and a refusal asks for it."""
    frame, typed = mixed_pool(3)
    blind = typed.filter(~((pl.col("gpu_type") == "slow") & pl.col("signal").str.starts_with("tbt")))
    derived = derive_service(frame, (), FEW, blind).derived
    pool, slow = (
        next(c for c in derived.capacity if (c.role, c.gpu_type) == ("decode", t)) for t in (None, "slow")
    )
    assert (slow.per_instance, slow.ci, slow.status) == (pool.per_instance, pool.ci, pool.status)
    assert slow.reason is not None
    assert slow.reason.code == "pool_mean"
    assert "no tbt histogram per GPU type" in slow.reason.text
    assert "slow" not in {t.gpu_type for t in derived.thresholds}
    assert "mixed_gpu_types" in {r.code for r in derived.refusals}
    assert type_frame(frame, typed, "decode", "other") is None


def test_a_type_is_judged_by_its_own_edges() -> None:
    """Shares over the edges about the limit and the mean are the type's own; where it has none, nobody's."""
    frame, typed = mixed_pool(1)
    ends = {"tbt_over_low": 0.9, "tbt_over_high": 0.8, "tbt": 9.0}
    frame = with_columns(
        frame, {f"{name}@decode": np.full(frame.table.height, value) for name, value in ends.items()}
    )
    slow = typed.filter(pl.col("gpu_type") == "slow", pl.col("signal") == "tbt_over")
    own = [slow.with_columns(pl.lit(name).alias("signal"), value=0.0 * pl.col("value")) for name in ends]
    part = type_frame(frame, pl.concat([typed, *own]), "decode", "slow")
    assert part is not None
    assert {name: float(part.values(name, "decode").max()) for name in ends} == dict.fromkeys(ends, 0.0)
    bare = type_frame(frame, typed, "decode", "slow")
    assert bare is not None
    assert not any(bare.has(name, "decode") for name in ends)


def test_a_pool_of_one_type_has_one_capacity() -> None:
    """Rows of a single type add nothing."""
    frame, typed = mixed_pool(4)
    alone = replace(frame, gpu_types={"decode": ("fast",)})
    found = derive_service(alone, (), FEW, typed).derived.capacity
    assert [c.gpu_type for c in found] == [None, None]
