"""Ratio tests: the best measured split, those near it, what holds it back, and the balance behind it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from derive.bench import PAPER, paper, points, silicon
from derive.synthetic import sweep_frame, with_columns
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.derive.split_sweeps import (
    Trial,
    answer,
    bench_sweeps,
    best_of,
    capture_sweeps,
    chained,
    continuous,
    decides,
    segments,
)
from hs_analysis.policy.document import load
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.schema.sweeps import SweepResult

LIMITS = Slo(ttft_s=2.0, tbt_s=0.05, quantile=0.9)
BASE = SweepResult(name="made", source="bench")


def test_the_papers_ratio_test() -> None:
    """9P7D serves most for A and 10P6D for B, each with exactly the splits that lie within 3 % of it."""
    results, splits = bench_sweeps(paper(), Slo())
    found = {one.name: one for one in results}
    for name, best, near in (("A", (9, 7), {(9, 7), (10, 6), (11, 5)}), ("B", (10, 6), {(10, 6), (11, 5)})):
        one = found[f"service {name}"]
        assert (one.judged_on, one.status, one.best, set(one.near)) == ("decode_tps", "ok", best, near)
        top = max(decode for _, _, decode in PAPER[name])
        assert one.score == pytest.approx(1e3 * top / 16)
        assert one.near_ratio == (best[0] / best[1], 11 / 5)
        assert one.continuous_reason.code == "side_inferred"
        peaks = [max(d / (p if by == 0 else 16 - p) for p, _, d in PAPER[name]) for by in (0, 1)]
        assert one.continuous == pytest.approx(peaks[1] / peaks[0])
        assert one.disagreement == pytest.approx(one.continuous / one.ratio - 1)
        assert "against the best split measured" in one.disagreement_text
    assert [round(found[f"service {name}"].continuous, 2) for name in "AB"] == [1.65, 2.05]
    assert splits.height == 12
    assert splits["decode_tps"].max() == 26.7e3


@given(st.floats(1.0, 9.0), st.floats(1.0, 9.0), st.integers(6, 24))
def test_the_shape_of_what_was_served_gives_the_balance_of_a_law(
    alpha: float, beta: float, total: int
) -> None:
    """Where min(αP, βD) was served and the best split lies inside, the peaks are α and β."""
    trials = [
        Trial(float(p), float(total - p), decode_tps=min(alpha * p, beta * (total - p)))
        for p in range(1, total)
    ]
    found = answer(trials, (), BASE)
    if found.best in (trials[0].pair, trials[-1].pair):
        assert found.continuous is None
    elif found.continuous is not None:
        assert found.continuous == pytest.approx(beta / alpha)


def test_splits_that_only_rise_give_no_balance() -> None:
    """Nothing says where decode would have held them back; under limits shape says nothing either."""
    rising = [Trial(float(p), float(8 - p), decode_tps=10.0 * p) for p in (1, 2, 3, 4)]
    assert answer(rising, (), BASE).continuous_reason.code == "side_unknown"
    bent = [Trial(float(p), float(8 - p), decode_tps=min(10.0 * p, 10.0 * (8 - p))) for p in range(1, 8)]
    assert answer(bent, (), BASE).continuous == pytest.approx(1.0)
    assert answer(bent, ("ttft",), BASE).continuous is None


def test_points_of_several_tests_never_compete() -> None:
    """The same splits at another length, or on other GPUs, are another test."""
    rows = [
        {"model": "m", "prefill_gpu_type": gpu, "isl": isl, "osl": 100.0, "prefill_instances": float(p),
         "decode_instances": float(4 - p), "decode_tps": tps}
        for gpu, isl, rates in (("x", 100, (9, 5, 1)), ("x", 900, (1, 5, 9)), ("y", 900, (1, 9, 5)))
        for p, tps in zip((1, 2, 3), rates, strict=True)
    ]  # fmt: skip
    results, _ = bench_sweeps(points(rows), Slo())
    assert [(one.isl, one.best) for one in results] == [(100, (1, 3)), (900, (3, 1)), (900, (2, 2))]


def test_a_point_without_a_split_is_no_test() -> None:
    """A single pool, and one split alone, answer nothing about a ratio."""
    rows = [{"decode_instances": 4.0, "decode_tps": 1.0},
            {"prefill_instances": 1.0, "decode_instances": 3.0, "decode_tps": 1.0}]  # fmt: skip
    results, splits = bench_sweeps(points(rows), LIMITS)
    assert (results, splits.height) == ((), 1)


@pytest.mark.parametrize(
    ("columns", "verdict"),
    [
        ({"ttft_p90_s": 2.0}, "meets"),
        ({"ttft_p90_s": 2.1}, "fails"),
        ({"ttft_p95_s": 2.1}, "undecided"),  # a stricter quantile fails: the one asked for may hold
        ({"ttft_p95_s": 1.9}, "meets"),
        ({"ttft_p50_s": 1.0}, "unknown"),  # a laxer quantile certifies nothing
        ({"ttft_mean_s": 2.1, "ttft_p99_s": 1.9}, "meets"),
    ],
)
def test_a_quantile_that_was_stated_decides(columns: dict[str, float], verdict: str) -> None:
    """The quantile of the objective decides, else a stricter one, and a laxer one does not."""
    rows = [{"prefill_instances": float(p), "decode_instances": 2.0, "decode_tps": 1.0, **columns}
            for p in (1, 2)]  # fmt: skip
    _, splits = bench_sweeps(points(rows), Slo(ttft_s=2.0, quantile=0.9))
    assert splits["ttft"].to_list() == [verdict] * 2


def test_a_mean_gives_an_indication_only() -> None:
    """A mean inside the limit says nothing of its quantile, and the status says so."""
    rows = [{"prefill_instances": float(p), "decode_instances": 2.0, "decode_tps": 1.0, "ttft_mean_s": 1.0}
            for p in (1, 2)]  # fmt: skip
    results, _ = bench_sweeps(points(rows), Slo(ttft_s=2.0))
    assert (results[0].judged_on, results[0].status) == ("slo", "indicative")


TRIAL = st.builds(
    Trial, prefill=st.integers(1, 6), decode=st.integers(1, 6), decode_tps=st.floats(1, 1e4),
    ttft=st.sampled_from(["meets", "fails"]), tbt=st.sampled_from(["meets", "fails"]),
)  # fmt: skip


@given(st.lists(TRIAL, min_size=1, max_size=20))
def test_the_best_split_is_the_best_by_brute_force(trials: list[Trial]) -> None:
    """No trial that holds both limits serves more per instance than the best; near is exactly within 3 %."""
    limits = ("ttft", "tbt")
    holds = [t for t in trials if t.ttft == t.tbt == "meets"]
    ranked = best_of(trials, limits)
    assert bool(ranked) == bool(holds)
    if not holds:
        assert answer(trials, limits, BASE).reason.code == "none_holds"
        return
    rate = {}
    for t in holds:
        rate[t.pair] = max(rate.get(t.pair, 0.0), t.decode_tps / (t.prefill + t.decode))
    found = answer(trials, limits, BASE)
    assert found.score == max(rate.values()) == rate[found.best]
    assert set(found.near) == {pair for pair, value in rate.items() if value >= 0.97 * max(rate.values())}


def test_what_decides_is_the_limit_whose_absence_helps() -> None:
    """A split that only TTFT keeps out is decided by TTFT; one that breaks both is decided by both."""
    good = Trial(1, 3, decode_tps=100.0, ttft="meets", tbt="meets")
    limits = ("ttft", "tbt")
    late = Trial(1, 3, decode_tps=150.0, ttft="fails", tbt="meets")
    slow = replace(late, ttft="meets", tbt="fails")
    worst = replace(late, tbt="fails")
    assert decides([good, late], limits) == "ttft"
    assert decides([good, slow], limits) == "tbt"
    assert decides([good, worst], limits) == "both"
    assert decides([good, replace(late, decode_tps=101.0)], limits) == "throughput"
    assert decides([late], limits) is None


def test_the_share_inside_the_limits_decides_nothing() -> None:
    """Requests outside a limit that holds cost no throughput: two splits that meet both are not held back."""
    good = Trial(1, 3, decode_tps=100.0, ttft="meets", tbt="meets", within=0.96 * 0.96)
    assert decides([good, replace(good, prefill=2, decode=2)], ("ttft", "tbt")) == "throughput"


@given(st.floats(0.3, 3.0), st.floats(0.3, 3.0), st.integers(4, 24))
def test_the_balance_of_a_law_is_recovered(alpha: float, beta: float, total: int) -> None:
    """Splits that serve min(αP, βD), each with its backlog where the law puts it, balance at β ÷ α."""
    trials = [
        Trial(p, total - p, decode_tps=1.0, request_throughput=min(alpha * p, beta * (total - p)),
              limited="prefill" if alpha * p < beta * (total - p) else "decode")
        for p in range(1, total)
    ]  # fmt: skip
    found = continuous(trials)
    sides = {t.limited for t in trials}
    truth = beta / alpha
    if len(sides) == 2:
        assert found.value == pytest.approx(truth)
    elif sides == {"prefill"}:
        assert found.value is None
        assert found.at_least <= truth * (1 + 1e-9)
    else:
        assert found.value is None
        assert found.at_most >= truth * (1 - 1e-9)


def test_a_best_split_at_the_edge_says_where_to_test_next() -> None:
    """The most prefill that was tested is not known to be the most that helps."""
    trials = [Trial(p, 4 - p, decode_tps=float(p)) for p in (1, 2, 3)]
    found = answer(trials, (), BASE)
    assert (found.best, found.edge, found.reason.code) == ((3, 1), "most_prefill", "edge_of_sweep")


def test_splits_of_other_sizes_are_compared_per_gpu() -> None:
    """Twice the GPUs for the same tokens is half as good, whatever the count of instances."""
    trials = [Trial(1, 1, (4.0, 4.0), decode_tps=100.0), Trial(1, 2, (4.0, 16.0), decode_tps=110.0)]
    found = answer(trials, (), BASE)
    assert (found.best, found.gpu_ratio, found.unit) == ((1, 1), 1.0, "decode tokens/s per GPU")


def test_steps_are_cut_where_the_rate_changes() -> None:
    """Poisson counts of three rates give three stretches, flat counts one; a 10 % change is none."""
    rng = np.random.default_rng(3)
    counts = np.concatenate([rng.poisson(rate, 12) for rate in (60, 100, 160)]).astype(float)
    assert segments(counts) == [(0, 12), (12, 24), (24, 36)]
    for seed in range(40):
        flat = np.random.default_rng(seed).poisson(90, 40).astype(float)
        assert segments(flat) == [(0, 40)]


def test_captures_of_splits_give_best_and_balance() -> None:
    """The split that serves most is found, and the balance of the law behind it."""
    frame = sweep_frame(2.0, 3.0, [(p, 8 - p) for p in range(2, 7)])
    results, splits = capture_sweeps(frame, LIMITS)
    slo, free = results
    assert (slo.status, slo.reason.code) == ("refused", "none_holds")
    assert (free.judged_on, free.best) == ("decode_tps", (5, 3))
    assert free.continuous == pytest.approx(1.5)
    assert splits.height == 5
    one = replace(frame, table=frame.table.filter(pl.col("capture") == "2p6d"))
    assert capture_sweeps(one, LIMITS)[0] == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("instances@prefill", np.nan), ("instances@prefill", 0), ("instances@decode", 0),
     ("output_length@service", 0)],
)  # fmt: skip
def test_a_split_that_is_not_known_is_no_trial(name: str, value: float) -> None:
    """A pool that was not scraped, one without instances and answers without tokens are left out."""
    frame = sweep_frame(2.0, 3.0, [(p, 8 - p) for p in range(2, 7)])
    one = np.where(frame.table["capture"] == "2p6d", value, frame.table[name])
    results, splits = capture_sweeps(with_columns(frame, {name: one}), LIMITS)
    assert splits.height == 4
    assert results[1].best == (5, 3)


def test_first_tokens_that_were_not_scraped_are_not_behind() -> None:
    """A gap in one of two counters says nothing of a shortage: the rows that hold both do."""
    frame = sweep_frame(2.0, 3.0, [(p, 8 - p) for p in range(2, 7)])
    first = np.where(np.arange(frame.table.height) % 3, np.nan, 30.0)
    inside = np.zeros(frame.table.height)
    columns = {
        "first_token_rate@service": first,
        "ttft_over@service": inside,
        "ttft_over_least@service": inside,
    }
    assert set(capture_sweeps(with_columns(frame, columns), LIMITS)[1]["ttft"]) == {"meets"}


def test_half_an_instance_is_no_split() -> None:
    """A benchmark of half a decode instance has no whole split: it is left out of the test."""
    rows = [{"prefill_instances": 1.0, "decode_instances": d, "decode_tps": 1.0} for d in (0.5, 1.0, 2.0)]
    results, splits = bench_sweeps(points(rows), Slo())
    assert (results[0].tested, splits.height) == (((1, 2), (1, 1)), 2)


@pytest.mark.parametrize(
    ("over", "least", "status", "code"),
    [
        (0.01, 0.01, "ok", None),
        (0.2, 0.0, "undecided", "undecided_edge"),
        (0.2, 0.2, "refused", "none_holds"),
    ],
)
def test_a_split_is_judged_by_the_share_at_the_limit(
    over: float, least: float, status: str, code: str | None
) -> None:
    """Read between two edges it decides; only where one bucket holds all samples the winner stays unsure."""
    frame = sweep_frame(2.0, 3.0, [(p, 8 - p) for p in range(2, 8)])
    enough = {"first_token_rate@service": np.full(frame.table.height, 30.0)}
    shares = {
        f"ttft_over{ending}@service": np.full(frame.table.height, share)
        for ending, share in (("", over), ("_least", least))
    }
    found = capture_sweeps(with_columns(frame, enough | shares), LIMITS)[0][0]
    assert found.judged_on == "slo"
    assert found.status == status
    assert (found.reason.code if found.reason else None) == code


@pytest.fixture(scope="module")
def pd_sweep(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight captures of one service, four splits under two token mixes, derived."""
    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import run_inputs
    from hs_analysis.pipeline.stages import Silent

    source, folder = real_data / "dynamo-mocker" / "pd-sweep", tmp_path_factory.mktemp("sweep") / "run"
    settings = Settings(slo=LIMITS, history_kind="pressure_test", draws=20)
    run_inputs([source], "report", settings, stages=STAGES, progress=Silent(), run_dir=folder)
    return source, folder


@pytest.mark.slow
def test_the_best_splits_of_real_captures_reach_policy_decision_and_exports(
    pd_sweep: tuple[Path, Path],
) -> None:
    """Each mix has the best split of the client; the policy holds them and sizes each pool on its own."""
    source, folder = pd_sweep
    best = json.loads((source / "truth.json").read_text("utf-8"))["best"]
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    (service,) = summary["services"]
    ratio = service["pd_ratio"]
    assert (ratio["basis"], ratio["status"]) == ("sweep", "drifting")
    found = {f"{mix['prefill']}:{mix['decode']}" for mix in ratio["by_mix"]}
    assert found == {one["best_by_good_rps_at_knee"] for one in best.values()} == {"3:2", "2:3"}
    assert ratio["one_primary_bound"] == 1.5
    policy = load((folder / "policy.yaml").read_text("utf-8"))
    assert policy.sized_roles == ("prefill", "decode")
    assert {(mix.prefill, mix.decode) for mix in policy.pd_ratio.by_mix} == {(3, 2), (2, 3)}
    assert policy.pd_ratio.held is None  # two mixes: nothing keeps one ratio
    decision = service["decision"]
    assert decision["recommend"] == "keep"
    assert "3P2D" in decision["ratio_notes"][0]
    assert "breaks a limit" in decision["ratio_notes"][1]
    assert all(mix["decode_tps_per_instance"] > 0 for mix in ratio["by_mix"])


@pytest.mark.slow
def test_captures_of_real_components_agree_with_the_clients_truth(pd_sweep: tuple[Path, Path]) -> None:
    """Under the limits and on decode TPS alone the best split of either mix is the client's."""
    from hs_analysis.pipeline.study_stages import read_sweeps

    source, folder = pd_sweep
    best = json.loads((source / "truth.json").read_text("utf-8"))["best"]
    found = {("promptheavy" if one.isl > 1300 else "decodeheavy", one.judged_on): one
             for one in read_sweeps(folder)}  # fmt: skip
    assert set(found) == {(mix, on) for mix in best for on in ("slo", "decode_tps")}
    with (source / "truth.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    for (mix, on), one in found.items():
        step, column = ("knee", "good_rps") if on == "slo" else ("saturating", "served_decode_tps")
        own = [row for row in rows if (row["mix"], row["step"]) == (mix, step)]
        top = max(own, key=lambda row: float(row[column]))
        assert one.best == (int(top["prefill"]), int(top["decode"]))
    assert {found[mix, "slo"].status for mix in best} == {"ok"}
    assert found["promptheavy", "slo"].continuous == pytest.approx(2.15, rel=0.05)
    assert found["decodeheavy", "slo"].continuous == pytest.approx(0.56, rel=0.05)
    assert all(one.pairs[0] == one.best for one in found.values())


def test_values_chain_up_to_a_ratio() -> None:
    """Neighbours just so far apart belong together, by size; zero is one of its own."""
    assert chained([2.3, 1.0, 2.0, 1.15], 1.15) == [1, 0, 1, 0]
    assert chained([1.0, 1.16, 1.3], 1.15) == [0, 1, 1]
    assert chained([0.0, 1.0, 0.0], 1.15) == [0, 1, 0]
    assert chained([], 1.15) == []


def test_measured_hardware_moves_to_decode_as_tbt_tightens(real_data: Path) -> None:
    """Under TTFT ≤ 2 s no best ratio has more prefill at 20 ms than at 50 ms, and two services' halve."""
    results, _ = bench_sweeps(silicon(real_data), Slo(ttft_s=2.0, tbt_s=0.05))
    labelled = [one for one in results if one.judged_on == "slo" and one.best]
    by_test: dict[tuple[str, float, float], dict[float, SweepResult]] = {}
    for one in labelled:
        by_test.setdefault((one.name, one.isl, one.osl), {})[one.tbt_s] = one
    moved = {
        key: (limits[0.05].gpu_ratio, limits[0.02].gpu_ratio)
        for key, limits in by_test.items()
        if {0.05, 0.02} <= set(limits)
    }
    assert len(moved) >= 25
    assert all(tight <= loose for loose, tight in moved.values())
    halved = {key[0]: pair for key, pair in moved.items() if pair[1] <= 0.5 * pair[0]}
    assert {name.rsplit(" · ", 1)[1] for name in halved} == {"b200_sxm", "h200_sxm"}
    decided = {one.decides for one in labelled}
    assert decided == {"ttft", "tbt", "both", "throughput"}
    assert {one.status for one in labelled} == {"indicative"}
