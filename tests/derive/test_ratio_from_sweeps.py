"""The P/D ratio from tests of splits: the best split measured for each token mix is the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from derive.bench import paper, silicon
from derive.synthetic import SETTINGS, day_frame, sweep_frame, with_columns

from hs_analysis.derive import bench_sweeps, derive_service, services_of_tests
from hs_analysis.derive.ratio_from_sweeps import with_benchmarks, with_undeclared_test
from hs_analysis.derive.service import DeriveResult
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import PdRatio, Reason, SplitBeside
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
    assert (ratio.ci, ratio.at_least, ratio.at_most) == (None, 1.0, 3.0)  # splits tested, no 95 % interval
    assert ratio.integer_pairs[0] == (5, 3)
    assert [(m.prefill, m.decode, m.status, m.share) for m in ratio.by_mix] == [(5, 3, "ok", 1.0)]
    assert ratio.one_primary_bound is None


def test_what_lies_next_to_the_best_split_and_what_its_instances_carried() -> None:
    """The neighbours with what they serve against it, and the tokens of one instance: floors for the mix."""
    (mix,) = derived(sweep_frame(2.0, 3.0, EIGHT)).derived.pd_ratio.by_mix
    assert mix.neighbours == (
        SplitBeside(4, 4, pytest.approx(8 / 9)),
        SplitBeside(6, 2, pytest.approx(6 / 9)),
    )
    assert mix.prefill_tps_per_instance == pytest.approx(900 * 9 / 5)
    assert mix.decode_tps_per_instance == pytest.approx(200 * 9 / 3)


def test_a_neighbour_that_breaks_a_limit_says_so_and_means_certify_no_floor() -> None:
    """A split that fails has no share; judged by means nothing is said of what an instance may carry."""
    frame = paper().with_columns(
        pl.when(pl.col("prefill_instances") == 8).then(9.0).otherwise(0.5).alias("ttft_mean_s")
    )
    tests, _ = bench_sweeps(frame, Slo(ttft_s=1.0))
    (one,) = [test for test in tests if (test.judged_on, test.name) == ("slo", "service A")]
    assert one.neighbours[0] == SplitBeside(8, 8, None)
    assert one.neighbours[1] == SplitBeside(12, 4, pytest.approx(20.3 / 26.7))  # 10P6D and 11P5D are as good
    assert (one.status, one.prefill_tps_per_instance, one.decode_tps_per_instance) == (
        "indicative",
        None,
        None,
    )


def test_benchmarks_without_a_service_answer_for_what_they_tested() -> None:
    """Each name has its ratio and the splits next to it, no demand or target, and what to record."""
    slo = Slo()
    tests, _ = bench_sweeps(paper(), slo)
    found = dict(services_of_tests(tests, slo))
    assert set(found) == {"service A", "service B"}
    ratio = found["service A"].pd_ratio
    assert (ratio.basis, ratio.status, ratio.value, ratio.ci) == ("sweep", "ok", 9 / 7, None)
    assert ratio.at_least < ratio.value < ratio.at_most
    assert (found["service A"].thresholds, found["service A"].capacity) == ((), ())
    assert [one.code for one in found["service A"].refusals] == ["no_history"]


def test_benchmarks_of_two_mixes_have_no_single_ratio() -> None:
    """One name, two token mixes: the mean counts both alike, since no load weighs them."""
    frame = paper().with_columns(
        pl.lit("one").alias("model"),
        pl.when(pl.col("model") == "service A").then(100.0).otherwise(9000.0).alias("isl"),
        pl.lit(9.0).alias("osl"),
    )  # fmt: skip
    ((name, one),) = services_of_tests(bench_sweeps(frame, Slo())[0], Slo())
    ratio = one.pd_ratio
    assert (name, ratio.status, ratio.reason.code) == ("one", "drifting", "mixes_differ")
    assert ratio.value == pytest.approx((9 / 7 + 10 / 6) / 2)
    assert "plain mean" in ratio.reason.text
    assert {mix.share for mix in ratio.by_mix} == {0.5}


def test_splits_that_all_break_the_limit_refuse_the_ratio() -> None:
    """Nothing is recommended; the reason is that of the test, with what to test instead."""
    slo = Slo(ttft_s=1.0)
    frame = paper().with_columns(pl.lit(9.0).alias("ttft_mean_s"))
    found = dict(services_of_tests(bench_sweeps(frame, slo)[0], slo))["service A"]
    assert (found.pd_ratio.status, found.pd_ratio.value) == ("refused", None)
    assert [one.code for one in found.refusals] == ["none_holds", "no_history"]


def as_production(frame: ServiceFrame) -> ServiceFrame:
    """Return captures of a ratio test that were read without saying so."""
    return replace(frame, kind="production")


def test_short_captures_of_several_splits_look_like_a_ratio_test() -> None:
    """Read as production they are too short; the refusal says which splits are there and what to type."""
    thin = replace(UNKNOWN, reason=Reason("thin", "0.3 h of known load"))
    frame = as_production(sweep_frame(2.0, 3.0, EIGHT))
    reason = with_undeclared_test(thin, frame).reason
    assert reason.code == "test_not_declared"
    assert "2P6D, 3P5D, 4P4D, 5P3D, 6P2D" in reason.text
    assert "--pressure-test" in reason.text
    assert with_undeclared_test(thin, sweep_frame(2.0, 3.0, EIGHT)) == thin
    assert with_undeclared_test(thin, as_production(sweep_frame(2.0, 3.0, EIGHT[:1]))) == thin
    other = replace(UNKNOWN, reason=Reason("capacity_refused", "no capacity"))
    assert with_undeclared_test(other, frame) == other
    none = with_columns(frame, {"instances@prefill": np.zeros(frame.table.height)})
    assert with_undeclared_test(thin, none) == thin  # without a warning of NumPy's in between


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
