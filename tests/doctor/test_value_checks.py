"""Checks on values, copies, histograms, times, captures, logs and points, each on the smallest scene."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from doctor.test_checks import START, frame, quality, scene, series

from hs_analysis.catalogue import load_catalogue
from hs_analysis.doctor import diagnose, replica_pairs, requirements
from hs_analysis.doctor.series_checks import SHAPES, histogram_parts
from hs_analysis.schema.frames import BENCH, REQUESTS, empty
from hs_analysis.schema.settings import Settings, Slo

DAY = timedelta(hours=24)


def shapes(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return what the query says of plain series, but for what is given."""
    plain = dict.fromkeys(SHAPES, 0) | {
        "steps": 100,
        "rises": 50,
        "falls": 0,
        "shortest_s": 30.0,
        "broken": 9,
    }
    return pl.DataFrame([plain | {"series_id": k} | row for k, row in enumerate(rows)], schema=SHAPES)


def texts(check: str, **changes: Any) -> list[tuple[str, str]]:
    """Return level and text of the findings of a check on a scene."""
    found = diagnose(scene(**changes)).filter(pl.col("check") == check)
    return list(found.select("level", "text").iter_rows())


def said(check: str, words: str, **changes: Any) -> str:
    """Return the level at which a check says some words."""
    found = texts(check, **changes)
    return next((level for level, text in found if words in text), f"nothing of it in {found}")


GAUGE = {"kind": "gauge", "metric": "vllm:num_requests_waiting", "signal": "queue_length"}
UTIL = {"kind": "gauge", "metric": "DCGM_FI_DEV_GPU_UTIL", "signal": "gpu_util", "source": "dcgm"}


@pytest.mark.parametrize(
    ("uneven", "level"), [({"uneven": 1, "shortest_s": 24.0}, "warn"), ({"uneven": 1, "steps": 200}, "pass")]
)
def test_uneven_steps_are_warned_of_from_one_in_a_hundred(uneven: dict[str, Any], level: str) -> None:
    assert said("spacing", "steps off the usual 30 s: 1 in 1 of 1 series", shapes=shapes(uneven)) == level


def test_pairs_of_samples_are_named() -> None:
    assert said("spacing", "12 samples of 1 series", shapes=shapes({"close": 12})) == "warn"
    assert texts("spacing", shapes=shapes({})) == [("pass", "every series keeps its step")]


@pytest.mark.parametrize(("high", "level"), [(95.0, "pass"), (7.0, "warn")])
def test_whole_percents(high: float, level: str) -> None:
    """A few steps alone can't follow load."""
    seen = {"series": series([UTIL]), "quality": quality([{"low": 5.0, "high": high}])}
    assert said("resolution", "whole percents", shapes=shapes({"broken": 0}), **seen) == level
    assert not texts("resolution", shapes=shapes({"broken": 1}), **seen)


def test_a_signal_that_never_changes() -> None:
    still = {"series": series([GAUGE]), "quality": quality([{"low": 0.0, "high": 0.0}]), "shapes": shapes({})}
    assert said("constant", "queue_length can't be judged", **still) == "warn"
    two = {
        "series": series([GAUGE, GAUGE | {"instance": "decode-1"}]),
        "quality": quality([{"low": 0.0, "high": 0.0}, {}]),
        "shapes": shapes({}, {}),
    }
    assert not texts("constant", **two)


@pytest.mark.parametrize(
    ("row", "shape", "level"),
    [
        ({}, {"rises": 50, "falls": 50}, "fail"),
        ({}, {"rises": 98, "falls": 2}, None),
        (GAUGE, {"rises": 50, "falls": 0}, "warn"),
        (GAUGE, {"rises": 50, "falls": 1}, None),
    ],
)
def test_a_gauge_read_as_a_counter_and_the_reverse(
    row: dict[str, Any], shape: dict[str, Any], level: str | None
) -> None:
    found = texts("kind", series=series([row]), shapes=shapes(shape))
    assert [one[0] for one in found] == ([level] if level else [])


def test_a_latency_of_zero_is_no_traffic() -> None:
    row = {"kind": "gauge", "signal": "ttft", "metric": "gateway_ttft"}
    assert said("idle_zero", "no traffic", series=series([row]), shapes=shapes({"zeros": 4})) == "warn"


def labelled(**labels: str) -> dict[str, Any]:
    return {"labels": [{"key": k, "value": v} for k, v in sorted(labels.items())]}


def test_replica_pairs_differ_in_one_label_only() -> None:
    """Another pod is another series; a constant series proves nothing."""
    rows = [
        labelled(pod="a", prometheus_replica="p-0"), labelled(pod="a", prometheus_replica="p-1"),
        labelled(pod="b", prometheus_replica="p-0"), labelled(pod="c", prometheus_replica="p-1"),
        labelled(pod="d", replica="0"), labelled(pod="d", replica="1"),
    ]  # fmt: skip
    still = quality([{}, {}, {}, {}, {"high": 0.0}, {"high": 0.0}])
    found = replica_pairs(series(rows), still)
    assert found.rows() == [(0, "prometheus_replica", 0, 1, 30.0)]


@pytest.mark.parametrize(("alike", "level"), [(90, "fail"), (10, None)])
def test_two_servers_count_twice(alike: int, level: str | None) -> None:
    twins = pl.DataFrame({"pair_id": [0], "compared": [100], "alike": [alike], "label": ["replica"]})
    found = texts("replicas", twins=twins)
    assert [one[0] for one in found] == ([level] if level else [])
    assert all("--dedup-label replica" in text for _, text in found)


@pytest.mark.parametrize(
    ("fault", "level", "words"),
    [
        ("open", "fail", "no bucket up to +Inf"), ("lacking", "warn", "lacks edges at times"),
        ("falling", "fail", "is not cumulative"), ("unequal", "warn", "another count than its last bucket"),
    ],
)  # fmt: skip
def test_histograms_that_fall_apart(fault: str, level: str, words: str) -> None:
    whole = {"histogram_id": 0, "moments": 10, "falling": 0, "open": 0, "unequal": 0, "lacking": 0}
    assert [one for one, _ in texts("histograms", histograms=pl.DataFrame([whole]))] == ["pass"]
    assert said("histograms", words, histograms=pl.DataFrame([whole | {fault: 3}])) == level


def test_histogram_parts_meet_by_their_labels() -> None:
    """A bucket and a count of one pod are one histogram; other families and odd edges are left out."""
    name = "vllm:time_to_first_token_seconds"
    rows = [
        {"metric": f"{name}_bucket", **labelled(pod="a", le="0.5")},
        {"metric": f"{name}_bucket", **labelled(pod="a", le="+Inf")},
        {"metric": f"{name}_bucket", **labelled(pod="a", le="x")},
        {"metric": f"{name}_bucket", **labelled(pod="b", le="1e0")},
        {"metric": f"{name}_count", **labelled(pod="a")},
        {"metric": "other_bucket", **labelled(pod="a", le="1")},
    ]
    buckets, counts = histogram_parts(series(rows), frozenset({name}))
    assert buckets.rows() == [(0, 0, 0.5), (1, 0, float("inf")), (3, 3, 1.0)]
    assert counts.rows() == [(4, 0)]


def test_times_that_have_not_been() -> None:
    now = datetime(2026, 1, 3, tzinfo=UTC)
    assert [one for one, _ in texts("times", now=now)] == ["pass"]
    ahead = quality([{"last_t": datetime(2026, 3, 1, tzinfo=UTC)}])
    assert said("times", "which has not been yet", quality=ahead, now=now) == "warn"
    assert [one for one, _ in texts("times", quality=ahead)] == ["pass"]


def test_metrics_of_nobody_are_named() -> None:
    rows = [{"metric": m, "signal": None, "source": "prometheus"} for m in ("mine", "up", "go_goroutines")]
    assert texts("unknown_metric", series=series(rows), quality=quality([{}, {}, {}]))[0][1].startswith(
        "1 metrics of exporters the catalogue does not know are not used (mine)"
    )


@pytest.mark.parametrize(
    ("metrics", "named"),
    [
        (("vllm:gen_tokens_total",), "vllm:generation_tokens_total"),
        (("vllm:kv_cache_usage_ratio",), "vllm:kv_cache_usage_perc"),
        (
            tuple(f"vllm:time_to_first_tok_seconds_{part}" for part in ("bucket", "sum", "count")),
            "vllm:time_to_first_token_seconds",
        ),
    ],
)
def test_a_metric_under_a_new_name_is_told_with_the_one_it_is_near(
    metrics: tuple[str, ...], named: str
) -> None:
    """Once a histogram; silent where the catalogue's name is there too."""

    def found(*names: str) -> list[tuple[str, str]]:
        rows = [{"metric": name, "signal": None} for name in names]
        return texts("renamed", series=series(rows), quality=quality([{} for _ in rows]))

    ((level, text),) = found(*metrics)
    assert level == "warn"
    assert f"and {named}, which the catalogue reads, is not there" in text
    assert found(*metrics, named) == []


def test_siblings_and_other_exporters_are_no_new_names() -> None:
    """Names that differ by a whole word, exporters of their own, and a signal read under an older name."""
    others = (
        "vllm:mm_cache_queries_total", "vllm:request_prefill_kv_computed_tokens_sum", "mine_tokens_total",
        "vllm:prompt_tokens_created", "sglang:gen_throughput", "kube_deployment_status_replicas_updated",
    )  # fmt: skip
    rows = [
        {"metric": name, "signal": None, "source": load_catalogue().exporter_of(name).name} for name in others
    ]
    assert texts("renamed", series=series(rows), quality=quality([{} for _ in rows])) == []
    older = [
        {"metric": "vllm:gpu_cache_usage_perc", "signal": "kv_usage"},
        {"metric": "vllm:kv_cache_usage", "signal": None},
    ]
    assert texts("renamed", series=series(older), quality=quality([{}, {}])) == []
    half = [
        {"metric": "vllm:prefix_cache_hits_total", "signal": "cached_share"},
        {"metric": "vllm:prefix_cache_hit_total", "signal": None},
    ]
    assert texts("renamed", series=series(half), quality=quality([{}, {}])) == []


def test_a_new_identity_is_a_restart() -> None:
    """One that begins after the other has ended; both at once are two processes."""
    rows = [labelled(worker_id="old"), labelled(worker_id="new")]
    half = START + timedelta(hours=12)
    after = quality([{"last_t": half}, {"first_t": half + timedelta(minutes=1), "last_t": START + DAY}])
    assert said("renewed", "(old, then new)", series=series(rows), quality=after) == "warn"
    assert not texts("renewed", series=series(rows), quality=quality([{}, {}]))
    apart = series([row | {"capture": name} for row, name in zip(rows, "ab", strict=True)])
    assert not texts("renewed", series=apart, quality=after)


def test_a_pool_without_its_other_half() -> None:
    words = 'there are decode instances and no others: if they do both, say so under [roles] in hsa.toml ("."'
    alone, two = {"instances@decode": 2.0}, {"instances@decode": 2.0, "instances@prefill": 1.0}
    assert said("roles", words, frames=(frame(alone),)) == "warn"
    assert [level for level, _ in texts("roles", frames=(frame(two),))] == ["pass"]


def test_captures_that_lack_a_signal() -> None:
    from doctor.test_checks import info

    whole = frame({"kv_usage@decode": 0.5}, (info("kv_usage", "decode"),), rows=4)
    names = pl.Series("capture", ["a", "a", "b", "b"])
    values = pl.Series("kv_usage@decode", [0.5, None, None, None])
    split = replace(whole, table=whole.table.with_columns(names, values))
    found = texts("captures", frames=(split,))
    assert [level for level, _ in found] == ["pass", "warn"]
    assert "missing in 1 of 2 captures (b)" in found[1][1]


def test_no_metrics_pass_nothing() -> None:
    """Checks that have nothing to look at say nothing."""
    log = pl.DataFrame({"capture": [""] * 3, "file": ["a"] * 3, "arrival_s": [0.0, 1.0, 2.0]})
    bare = empty(REQUESTS)
    requests = pl.concat([bare, log], how="diagonal")
    found = diagnose(scene(series=series([]), quality=quality([{}]).clear(), frames=(), requests=requests))
    assert set(found["check"]) == {"files", "metrics", "rejected", "requests"}
    lacking = requirements(scene(series=series([]), frames=(), requests=requests))
    assert set(lacking["state"]) == {"lacks"}
    assert lacking.height == 7


def test_cards_with_one_factor_were_computed() -> None:
    """The same factor at every setting is no measurement; a factor that varies is one."""
    rows = [
        {"capture": "", "file": "a.csv", "format": "table", "series": "m", "kind": "point",
         "decode_gpu_type": card, "isl": float(k), "ttft_mean_s": (1 + k) * factor * (1 + wobble * k),
         "tbt_mean_s": 0.01 * (1 + k), "throughput_basis": "measured"}
        for card, factor, wobble in (("x", 1.0, 0.0), ("y", 1.3, 0.0), ("z", 1.3, 0.01))
        for k in range(12)
    ]  # fmt: skip
    bench = pl.concat([empty(BENCH), pl.DataFrame(rows)], how="diagonal_relaxed")
    found = [text for _, text in texts("bench_computed", bench=bench)]
    assert found == [
        "a.csv: at all 12 settings y has 1.300 × the TTFT and 1.000 × the TBT of x: computed, not measured"
    ]


def test_needs_name_the_switch() -> None:
    """What is met is said too; a single pool has no ratio to ask for."""
    two = frame({"instances@prefill": 2.0, "instances@decode": 3.0, "tbt@decode": 0.03})
    limited = replace(Settings(), slo=Slo(tbt_s=0.05), startup_s={"decode": 240.0})
    found = requirements(scene(frames=(two,), settings=limited))
    state = {(row["stage"], row["role"], row["need"]): row["state"] for row in found.iter_rows(named=True)}
    assert state["capacity", "decode", "TBT"] == state["capacity", "decode", "a limit on TBT"] == "met"
    assert state["capacity", "prefill", "a limit on TTFT"] == "lacks"
    assert state["start-up", "decode", "seconds until a new instance serves"] == "met"
    assert state["start-up", "prefill", "seconds until a new instance serves"] == "lacks"
    how = dict(found.filter(pl.col("role") == "prefill").select("need", "how").iter_rows())
    assert how["SM activity"] == next(s.enable for s in load_catalogue().signals if s.id == "sm_activity")
    assert how["seconds until a new instance serves"].startswith("--startup prefill=240s")
    one = requirements(scene(frames=(frame({"instances@mixed": 2.0}),)))
    assert "ratio" not in set(one["stage"])
    assert set(one["role"]) == {"service", "mixed"}


def test_the_mix_needs_work_and_what_moves_it_lengths() -> None:
    """Counters of tokens give the mix: no length is missed for it, and without them it is not known."""

    def lacks(columns: dict[str, float]) -> set[tuple[str, str, str]]:
        found = requirements(
            scene(frames=(frame({"instances@prefill": 2.0, "instances@decode": 3.0} | columns),))
        )
        rows = found.filter((pl.col("stage") == "ratio") & (pl.col("state") == "lacks"))
        return set(rows.select("role", "need", "without").iter_rows())

    work = {"offered_tps@prefill": 900.0, "decode_tps@decode": 300.0}
    lengths = {"input_length@service": 900.0, "output_length@service": 300.0}
    unsaid, unmoved = "the mix can't be said", "if the mix moves, not what moved it"
    assert lacks(work | lengths) == set()
    assert lacks(work) == {("service", f"{what} lengths", unmoved) for what in ("prompt", "output")}
    assert lacks(lengths) == {(role, "its work in tokens", unsaid) for role in ("prefill", "decode")}


def test_pods_without_a_role_are_asked_for_a_label() -> None:
    lost = series([{"emitter_role": "unknown", "role_evidence": "none"}])
    found = requirements(scene(series=lost, frames=(frame({"instances@decode": 1.0}),)))
    row = found.filter(pl.col("need") == "a role for every pod").row(0, named=True)
    assert row["state"] == "lacks"
    assert "labelmap" in row["how"]
    assert "kube_pod_labels" in row["how"]


def test_a_start_up_time_that_is_not_given_is_assumed() -> None:
    """What is left out without it is said as it is done: there is a policy all the same."""
    found = requirements(scene(frames=(frame({"instances@mixed": 2.0}),)))
    (without,) = found.filter(pl.col("stage") == "start-up")["without"].to_list()
    assert without == "300 s is assumed, which sets cooldowns and head-room"


def test_arrivals_that_are_worked_out_are_not_called_missing() -> None:
    """Signals are judged against offered work where queues and first tokens give it."""
    for reference, state in (("offered", "met"), ("served", "lacks")):
        found = requirements(scene(frames=(frame({}, reference=reference),)))
        assert found.filter(pl.col("need") == "requests that arrive")["state"].to_list() == [state]
