"""The P/D ratio from tests of splits: the best split measured for each token mix is the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from derive.bench import silicon
from derive.synthetic import SETTINGS, day_frame, sweep_frame

from hs_analysis.derive import bench_sweeps, derive_service
from hs_analysis.derive.ratio_from_sweeps import with_benchmarks
from hs_analysis.derive.service import DeriveResult
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import PdRatio
from hs_analysis.schema.settings import Slo

NO_LIMIT = replace(SETTINGS, slo=Slo(), draws=20)
EIGHT = [(p, 8 - p) for p in range(2, 7)]
UNKNOWN = PdRatio(value=None, ci=None, status="refused", at_least=None, at_most=None, reason=None)


def derived(frame: ServiceFrame, settings=NO_LIMIT) -> DeriveResult:
    """Return what the derive stage says of captures."""
    return derive_service(frame, (), settings)


def two_mixes() -> ServiceFrame:
    """Return captures of one service under two token mixes: one needs twice the prefill per decode."""
    first, second = sweep_frame(2.0, 3.0, EIGHT), sweep_frame(2.0, 1.0, EIGHT)
    other = second.table.with_columns(
        pl.lit(300.0).alias("input_length@service"), ("short " + pl.col("capture")).alias("capture")
    )
    return replace(first, table=pl.concat([first.table, other]).sort("capture", "t"))


def test_the_best_split_of_a_sweep_is_the_ratio() -> None:
    """One token mix: the split that serves most is the value, between the splits that serve less."""
    ratio = derived(sweep_frame(2.0, 3.0, EIGHT)).derived.pd_ratio
    assert (ratio.basis, ratio.status, ratio.reason) == ("sweep", "ok", None)
    assert ratio.value == pytest.approx(5 / 3)
    assert ratio.ci == (1.0, 3.0)
    assert ratio.integer_pairs[0] == (5, 3)
    assert [(m.prefill, m.decode, m.status, m.share) for m in ratio.by_mix] == [(5, 3, "ok", 1.0)]
    assert ratio.one_primary_bound is None


def test_a_sweep_whose_best_split_is_its_edge_bounds_the_ratio() -> None:
    """The best split is given; what lies beyond it was not tested, so that the other side is open."""
    low, high = EIGHT[:3], EIGHT[3:]
    most = derived(sweep_frame(2.0, 3.0, low)).derived
    assert (most.pd_ratio.status, most.pd_ratio.reason.code) == ("floor", "edge_of_sweep")
    assert (most.pd_ratio.value, most.pd_ratio.ci) == (1.0, None)
    assert (most.pd_ratio.at_least, most.pd_ratio.at_most) == (0.6, None)
    assert [r.code for r in most.refusals if r.what == "pd_ratio"] == ["edge_of_sweep"]
    least = derived(sweep_frame(2.0, 3.0, high)).derived.pd_ratio
    assert (least.value, least.at_least, least.at_most) == (5 / 3, None, 3.0)


def test_mixes_with_different_best_splits_have_no_single_ratio() -> None:
    """Each mix keeps its split; the value weighs them by decode work, and one signal holds the larger."""
    frame = two_mixes()
    ratio = derived(frame).derived.pd_ratio
    assert (ratio.status, ratio.reason.code) == ("drifting", "mixes_differ")
    splits = {round(m.isl): (m.prefill, m.decode) for m in ratio.by_mix}
    assert splits == {900: (5, 3), 300: (3, 5)}
    work = (
        frame.table.group_by("input_length@service").agg(pl.col("decode_tps@decode").sum()).sort(pl.first())
    )
    short, long = work["decode_tps@decode"].to_list()
    assert ratio.value == pytest.approx((long * 5 / 3 + short * 3 / 5) / (long + short))
    assert ratio.band == (3 / 5, 5 / 3)
    assert ratio.held == ratio.one_primary_bound == 5 / 3


def test_a_sweep_whose_splits_all_break_the_limit_leaves_the_ratio_as_it_was() -> None:
    """No split holds under the limits: nothing is answered by the split that serves most without them."""
    frame = sweep_frame(2.0, 3.0, EIGHT)
    ratio = derived(frame, replace(NO_LIMIT, slo=Slo(ttft_s=2.0, tbt_s=0.05))).derived.pd_ratio
    assert (ratio.status, ratio.basis, ratio.by_mix) == ("refused", None, ())


def served_alike(isl: float, osl: float, name: str = "prod/deepseek-v3") -> ServiceFrame:
    """Return a quiet day of a service whose mean request has these lengths."""
    frame = day_frame(3, prefill_peak=0.5, decode_peak=0.5, hours=10)
    rate = frame.values("request_rate", "service")
    table = frame.table.with_columns(
        pl.Series("offered_tps@prefill", isl * rate), pl.Series("offered_tps@decode", osl * rate)
    )
    return replace(frame, service=name, table=table)


def test_benchmarks_of_the_services_model_answer_where_its_history_does_not(real_data: Path) -> None:
    """The best split measured near the mean request; another model, length or own balance is left alone."""
    slo = Slo(ttft_s=2.0, tbt_s=0.05)
    tests = [
        one for one in bench_sweeps(silicon(real_data), slo)[0]
        if one.name.endswith("sglang 0.5.8.post1 · fp4 · gb300") and one.judged_on == "slo"
    ]  # fmt: skip
    assert [(one.isl, one.best) for one in tests if one.tbt_s == 0.05] == [(1024, (4, 1)), (8192, (1, 4))]
    for isl, split in ((1000.0, (4, 1)), (8000.0, (1, 4))):
        frame = served_alike(isl, 1000.0)
        found = with_benchmarks(UNKNOWN, frame, tests, slo)
        assert (found.basis, found.status, found.reason.code) == ("sweep", "floor", "mean_only")
        assert found.value == split[0] / split[1]
        assert [(m.prefill, m.decode, m.status) for m in found.by_mix] == [(*split, "indicative")]
    assert with_benchmarks(UNKNOWN, served_alike(3000.0, 1000.0), tests, slo) == UNKNOWN
    assert with_benchmarks(UNKNOWN, served_alike(1000.0, 1000.0, "prod/llama"), tests, slo) == UNKNOWN
    for status in ("ok", "floor", "drifting"):
        known = replace(UNKNOWN, value=1.4, status=status, basis="balance")
        assert with_benchmarks(known, served_alike(1000.0, 1000.0), tests, slo) == known
    sized = replace(served_alike(1000.0, 1000.0), gpus_per_instance={"prefill": 1.0, "decode": 64.0})
    assert with_benchmarks(UNKNOWN, sized, tests, slo) == UNKNOWN


def test_benchmarks_that_disagree_answer_nothing(real_data: Path) -> None:
    """Which engine and GPU type the service is like is not known: they have to agree."""
    slo = Slo(ttft_s=2.0, tbt_s=0.05)
    tests = bench_sweeps(silicon(real_data), slo)[0]
    assert np.ptp([t.ratio for t in tests if t.best and t.model and t.isl == 1024]) > 1.0
    assert with_benchmarks(UNKNOWN, served_alike(1000.0, 1000.0), tests, slo) == UNKNOWN
