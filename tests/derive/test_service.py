"""The derive stage as a whole: contracts, determinism, and changes whose effect is known."""

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from derive.synthetic import SETTINGS, day_frame, step_test, with_columns

from hs_analysis import evidence
from hs_analysis.derive import derive_service
from hs_analysis.derive.service import _resamples
from hs_analysis.schema.frames import CAPACITY_CURVE, CAPACITY_POINTS, MIX, check
from hs_analysis.schema.results import SignalVerdict

FEW = replace(SETTINGS, draws=80)
PREFILL_TOKENS = ("offered_tps@prefill", "prefill_tps_effective@prefill", "prefill_tps@prefill")
VERDICTS = (
    SignalVerdict(signal="gpu_util", role="prefill", source="synthetic", verdict="proportional", reasons=()),
    SignalVerdict(signal="not_there", role="decode", source="synthetic", verdict="proportional", reasons=()),
)


@pytest.fixture(scope="module")
def frame():
    """A day that passes both limits."""
    return day_frame(0, prefill_peak=1.1, decode_peak=1.1, hours=24)


@pytest.fixture(scope="module")
def result(frame):
    """What is derived from it."""
    return derive_service(frame, VERDICTS, FEW)


def numbers(value: Any) -> list[float]:
    """Return every float inside nested plain data."""
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list | tuple):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, float) else []


def test_tables_keep_their_contracts(frame, result) -> None:
    """Points hold one row per role and window, the curve rises from 0 to 1, the mix has one row an hour."""
    points = check(result.capacity_points, CAPACITY_POINTS)
    curve = check(result.capacity_curve, CAPACITY_CURVE)
    mix = check(result.mix, MIX)
    assert points.height == 2 * frame.table.height
    assert points.filter("used")["load_per_instance"].null_count() == 0
    for role in ("prefill", "decode"):
        share = curve.filter(pl.col("role") == role)["violation_probability"].to_numpy()
        assert (np.diff(share) >= 0).all()
        assert share.min() >= 0
        assert share.max() <= 1
    assert mix.height == 24
    assert mix["ratio"].to_list() == [w.value for w in result.derived.pd_ratio.by_window]


def test_violations_between_the_edges_are_undecided(frame) -> None:
    """A window over the lower edge only is neither a violation nor clean in the points."""
    changed = with_columns(
        frame, {"tbt_over@decode": np.full(1440, 0.2), "tbt_over_least@decode": np.full(1440, 0.01)}
    )
    points = derive_service(changed, (), FEW).capacity_points.filter(pl.col("role") == "decode")
    assert points["violates"].null_count() == points.height


def test_equal_seeds_give_equal_results(frame, result) -> None:
    """Nothing depends on more than the frame, the verdicts and the settings."""
    again = derive_service(frame, VERDICTS, FEW)
    assert again.derived == result.derived
    assert again.capacity_curve.equals(result.capacity_curve)
    other = derive_service(frame, VERDICTS, replace(FEW, seed=1)).derived
    assert other.capacity[0].per_instance == result.derived.capacity[0].per_instance
    assert other.capacity[0].ci != result.derived.capacity[0].ci


def test_twice_the_tokens_are_twice_the_capacity(frame, result) -> None:
    """A unit change of prefill work: its capacity and targets double, decode's and the ratio stay."""
    doubled = with_columns(frame, {name: 2 * frame.table[name].to_numpy() for name in PREFILL_TOKENS})
    once, twice = result.derived, derive_service(doubled, VERDICTS, FEW).derived
    assert twice.capacity_of("prefill").per_instance == pytest.approx(
        2 * once.capacity_of("prefill").per_instance
    )
    assert twice.capacity_of("prefill").ci == pytest.approx(
        tuple(2 * x for x in once.capacity_of("prefill").ci)
    )
    assert twice.capacity_of("decode") == once.capacity_of("decode")
    assert twice.demand.prefill_tps == pytest.approx(2 * once.demand.prefill_tps)
    # Twice the work at twice the capacity needs the same instances.
    assert twice.pd_ratio.value == pytest.approx(once.pd_ratio.value)
    assert twice.threshold_of("gpu_util", "prefill").target_per_instance == pytest.approx(
        once.threshold_of("gpu_util", "prefill").target_per_instance
    )


def test_twice_the_work_on_twice_the_instances_changes_nothing_per_instance(frame, result) -> None:
    """Pool totals and counts doubled together leave capacities and the ratio where they were."""
    totals = [c for c in frame.table.columns if "tps@" in c or c.startswith(("instances", "tps_effective"))]
    totals += ["prefill_tps_effective@prefill"]
    doubled = with_columns(frame, {name: 2 * frame.table[name].to_numpy() for name in set(totals)})
    once, twice = result.derived, derive_service(doubled, VERDICTS, FEW).derived
    for a, b in zip(once.capacity, twice.capacity, strict=True):
        assert b.per_instance == pytest.approx(a.per_instance)
    assert twice.pd_ratio.value == pytest.approx(once.pd_ratio.value)


@pytest.mark.parametrize(("kind", "block"), [("production", 60), ("pressure_test", 3)])
def test_bootstrap_draws_hours_or_three_windows(frame, kind: str, block: int) -> None:
    """Neighbouring rows stay together: an hour of a history, three windows of a test."""
    rows = _resamples(replace(frame, kind=kind), FEW, np.random.default_rng(0))
    assert rows.shape == (80, 1440)
    together = (np.diff(rows, axis=1) % 1440 == 1).mean()
    assert together == pytest.approx(1 - 1 / block, abs=0.002)


def test_answers_do_not_depend_on_the_date(frame, result) -> None:
    """The same history a hundred days later gives the same numbers."""
    later = replace(frame, table=frame.table.with_columns(pl.col("t") + pl.duration(days=100)))
    moved = derive_service(later, VERDICTS, FEW).derived
    assert moved.capacity == result.derived.capacity
    assert moved.thresholds == result.derived.thresholds


def test_every_number_links_to_its_evidence(frame, result) -> None:
    """Links follow the one grammar and name the service, the stage and the number."""
    derived = result.derived
    links = [(c.evidence, f"capacity@{c.role}") for c in derived.capacity]
    links += [(t.evidence, f"threshold:{t.signal}@{t.role}") for t in derived.thresholds]
    links += [(derived.pd_ratio.evidence, "pd_ratio")]
    for text, what in links:
        link = evidence.parse(text)
        assert (link.service, link.stage, link.what) == (frame.service, "derive", what)


BROKEN = {
    "as it is": lambda f: f,
    "no rows": lambda f: f.rows(np.zeros(f.table.height, dtype=bool)),
    "one row": lambda f: f.rows(np.arange(f.table.height) == 7),
    "two hours": lambda f: f.rows(np.arange(f.table.height) < 120),
    "zero throughout": lambda f: with_columns(
        f, {c: np.zeros(f.table.height) for c in f.table.columns if "@" in c and "instances" not in c}
    ),
    "null throughout": lambda f: with_columns(
        f, {c: np.full(f.table.height, np.nan) for c in f.table.columns if "@" in c}
    ),
    "no latency": lambda f: replace(f, table=f.table.select(pl.exclude("^.*_over_.*$"))),
    "no instances": lambda f: replace(f, table=f.table.drop("instances@prefill", "instances@decode")),
    "no decode": lambda f: replace(f, table=f.table.select(pl.exclude("^.*@decode$"))),
    "saturated throughout, served": lambda f: replace(
        with_columns(f, {"saturated@decode": np.ones(f.table.height)}), reference="served"
    ),
    "all over the limit": lambda f: with_columns(f, {"tbt_over@decode": np.ones(f.table.height)}),
    "a pressure test": lambda f: replace(f, kind="pressure_test"),
    "a fifth missing": lambda f: with_columns(
        f,
        {
            c: np.where(np.arange(f.table.height) % 5 == 2, np.nan, f.table[c].to_numpy())
            for c in f.table.columns
            if "@" in c
        },
    ),
    "two captures": lambda f: replace(
        f, table=pl.concat([f.table.with_columns(pl.lit(name).alias("capture")) for name in ("a", "b")])
    ),
}


@pytest.mark.parametrize("change", BROKEN)
def test_whatever_is_missing_every_gap_has_a_reason(frame, change: str) -> None:
    """No crash, no NaN, no number without an interval, no gap without a reason and what to collect."""
    derived = derive_service(BROKEN[change](frame), VERDICTS, replace(FEW, startup_s={})).derived
    assert not any(math.isnan(n) for n in numbers(asdict(derived)))
    for part in (*derived.capacity, *derived.thresholds):
        value = part.per_instance if hasattr(part, "per_instance") else part.target_per_instance
        assert (value is None) == (part.status == "refused")
        if value is None or part.status != "ok":
            assert part.reason is not None
    ratio = derived.pd_ratio
    assert (ratio.value is None) == (ratio.status == "refused")
    assert ratio.status == "ok" or ratio.reason is not None
    assert ratio.value is None or ratio.ci is not None
    refused = {r.what for r in derived.refusals}
    assert {f"capacity@{c.role}" for c in derived.capacity if c.status != "ok"} <= refused
    assert ("pd_ratio" in refused) == (ratio.status != "ok")
    assert all(r.code and r.text and r.collect and "{" not in r.text + r.collect for r in derived.refusals)


def test_mixed_gpu_types_are_named(frame) -> None:
    """A capacity over several GPU types is a mean, and the refusal says how to part them."""
    derived = derive_service(replace(frame, gpu_types={"decode": ("A", "B")}), (), FEW).derived
    found = [r for r in derived.refusals if r.code == "mixed_gpu_types"]
    assert [r.what for r in found] == ["capacity@decode"]
    assert "A and B" in found[0].text


def test_a_pressure_test_answers_like_a_history() -> None:
    """Twenty minutes of steps give capacities, targets and a ratio, all through the same door."""
    derived = derive_service(step_test(0, top=1.3), (), FEW).derived
    assert [c.status for c in derived.capacity] == ["ok", "ok"]
    assert all(t.target_per_instance and t.scale_out_ratio for t in derived.thresholds)
    assert derived.pd_ratio.value is not None
