"""Which series carry which signal, and the edges around a limit."""

from __future__ import annotations

import polars as pl
import pytest

from hs_analysis.align.terms import TERM_COLUMNS, LimitEdges, chosen_edges, resolve_terms
from hs_analysis.catalogue import load_catalogue
from hs_analysis.schema.frames import SERIES, check, empty
from hs_analysis.schema.settings import Slo

CATALOGUE = load_catalogue()
TTFT = "dynamo_frontend_time_to_first_token_seconds"


def series(*rows: dict[str, object]) -> pl.DataFrame:
    """Return a frame of contract SERIES; a row gives metric, role and what differs."""
    full = [
        {
            "series_id": number, "labels": {}, "emitter_role": "unknown", "role_evidence": "test",
            "service": "ns/m", "kind": "counter", "interval_s": 15.0, "capture": "", **row,
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    return check(pl.DataFrame(full, schema=empty(SERIES).schema), SERIES)


def vllm(metric: str, role: str, instance: str, **more: object) -> dict[str, object]:
    """Return a series of an engine."""
    return {"metric": f"vllm:{metric}", "emitter_role": role, "instance": instance, **more}


def front(metric: str, **more: object) -> dict[str, object]:
    """Return a series of a front end."""
    return {"metric": f"dynamo_frontend_{metric}", "emitter_role": "frontend", "instance": "f", **more}


def terms(*rows: dict[str, object], slo: Slo | None = None) -> pl.DataFrame:
    """Return the term table."""
    table, _ = resolve_terms(series(*rows), CATALOGUE, slo or Slo())
    assert dict(table.schema) == TERM_COLUMNS
    return table


def of(table: pl.DataFrame, signal: str, *columns: str) -> list[tuple[object, ...]]:
    """Return the given columns of one signal's terms."""
    return table.filter(pl.col("signal") == signal).select(columns).rows()


def test_counters_that_count_twice_across_roles_count_for_their_own() -> None:
    """Both pools export prompt tokens; only prefill's are prefill's, and unknown roles are left out."""
    found = terms(
        vllm("prompt_tokens_total", "prefill", "p"), vllm("prompt_tokens_total", "decode", "d"),
        vllm("prompt_tokens_total", "unknown", "u"),
    )  # fmt: skip
    assert of(found, "prefill_tps", "series_id", "role", "instance") == [(0, "prefill", "p")]


def test_gauges_speak_of_the_role_that_exports_them() -> None:
    """Queue and cache use of either pool; front ends have none."""
    found = terms(vllm("num_requests_waiting", "prefill", "p"), vllm("num_requests_waiting", "decode", "d"),
                  vllm("num_requests_waiting", "frontend", "f"))  # fmt: skip
    assert of(found, "queue_length", "series_id", "role") == [(0, "prefill"), (1, "decode")]


def test_a_front_end_gauge_names_the_role_by_a_label() -> None:
    """The phase decides, not the role of the pod; no instance of the pool is meant."""
    found = terms(
        front("stage_requests", labels={"stage": "dispatch", "phase": "prefill"}),
        front("stage_requests", labels={"stage": "dispatch", "phase": "decode"}),
        front("stage_requests", labels={"stage": "other", "phase": "decode"}),
    )
    assert of(found, "queue_length", "series_id", "role", "instance", "emitter") == [
        (0, "prefill", None, "f"), (1, "decode", None, "f"),
    ]  # fmt: skip


def test_scale_and_sign_are_in_the_term() -> None:
    """Percent become a share; cached tokens are subtracted."""
    found = terms(
        {"metric": "DCGM_FI_DEV_GPU_UTIL", "emitter_role": "decode", "instance": "d", "kind": "gauge"},
        front("input_sequence_tokens_sum"), front("cached_tokens_sum"),
    )  # fmt: skip
    assert of(found, "gpu_util", "sign", "read") == [(0.01, "gauge")]
    assert of(found, "prefill_tps_effective", "series_id", "term", "sign") == [(1, 0, 1.0), (2, 1, -1.0)]


def test_a_formula_needs_all_its_parts_in_the_same_capture() -> None:
    """Without cached tokens the input tokens are no measure of work: not in that capture."""
    found = terms(
        front("input_sequence_tokens_sum", capture="a"), front("cached_tokens_sum", capture="a"),
        front("input_sequence_tokens_sum", capture="b"),
    )  # fmt: skip
    assert {row[0] for row in of(found, "prefill_tps_effective", "capture")} == {"a"}
    assert {row[0] for row in of(found, "prefill_tps", "capture")} == {"a", "b"}


def test_where_narrows_by_labels() -> None:
    """Only locally computed prompt tokens are work."""
    found = terms(
        vllm("prompt_tokens_by_source_total", "prefill", "p", labels={"source": "local_compute"}),
        vllm("prompt_tokens_by_source_total", "prefill", "p", labels={"source": "cache_hit"}),
    )
    assert of(found, "prefill_tps_effective", "series_id") == [(0,)]


def test_a_single_pool_takes_front_end_signals_as_its_own() -> None:
    """Decode work of a service whose only pool does both is the pool's."""
    found = terms(vllm("generation_tokens_total", "mixed", "m"), front("output_tokens_total"))
    assert of(found, "decode_tps", "source", "role") == [("vllm", "mixed"), ("dynamo_frontend", "mixed")]


def test_pools_with_several_gpu_types_appear_once_per_type() -> None:
    """And once for all; a pool with one type only for all."""
    found = terms(
        vllm("generation_tokens_total", "decode", "a", gpu_type="H20"),
        vllm("generation_tokens_total", "decode", "b", gpu_type="L20"),
        vllm("prompt_tokens_total", "prefill", "c", gpu_type="H20"),
    )
    assert of(found, "decode_tps", "gpu_group", "series_id") == [(None, 0), (None, 1), ("H20", 0), ("L20", 1)]
    assert of(found, "prefill_tps", "gpu_group") == [(None,)]


def test_series_without_a_service_carry_nothing() -> None:
    """Unmapped series are counted elsewhere."""
    assert terms(vllm("generation_tokens_total", "decode", "a", service=None)).is_empty()


def buckets(*edges: str, metric: str = TTFT, role: str = "frontend") -> list[dict[str, object]]:
    """Return the buckets of a histogram."""
    return [
        {"metric": f"{metric}_bucket", "labels": {"le": edge}, "emitter_role": role, "instance": "i"}
        for edge in edges
    ]


@pytest.mark.parametrize(
    ("limit", "low", "high"),
    [
        (0.5, 0.5, 0.5),
        (0.3, 0.25, 0.5),
        (0.1, None, 0.25),
        (9.0, 2.0, float("inf")),
        (0.15, None, 0.25),
        (0.1 + 0.7 + 0.1, 0.9, 0.9),
    ],
)
def test_edges_around_a_limit(limit: float, low: float | None, high: float) -> None:
    """At an edge, between two, below the first, above the last; a rounding error is no distance."""
    table, edges = resolve_terms(
        series(*buckets("0.25", "5e-1", "0.9", "2.0", "+Inf")), CATALOGUE, Slo(ttft_s=limit)
    )
    assert [edge for _, _, edge in edges] == [LimitEdges("ttft", "dynamo_frontend", limit, low, high)]
    assert bool(of(table, "ttft_over_low", "series_id")) == (low is not None)
    place = {0.25: 0, 0.5: 1, 0.9: 2, float("inf"): 4}
    expected = [(4, 0, "num", 1.0), (place[high], 1, "num", -1.0), (4, 2, "den", 1.0)]
    assert of(table, "ttft_over_high", "series_id", "term", "side", "sign") == expected


def test_buckets_without_infinity_or_with_edges_that_are_no_number_say_nothing() -> None:
    """A share needs the count of all; a bad label is left out."""
    table, edges = resolve_terms(series(*buckets("0.25", "0.5")), CATALOGUE, Slo(ttft_s=0.3))
    assert table.is_empty()
    assert edges == ()
    _, edges = resolve_terms(series(*buckets("x", "nan", "0.5", "+Inf")), CATALOGUE, Slo(ttft_s=0.3))
    assert (edges[0][2].low_s, edges[0][2].high_s) == (None, 0.5)


def test_without_a_limit_there_are_no_shares() -> None:
    """Nothing is judged that nobody asked for."""
    assert terms(*buckets("0.5", "+Inf")).is_empty()


def test_a_tbt_histogram_with_an_edge_at_the_limit_comes_first_but_not_a_ttft_one() -> None:
    """An engine's TTFT leaves out the queue in front of it: the front end stays first."""
    ttft = [*buckets("0.25", "0.5", "+Inf"),
            *buckets("0.3", "+Inf", metric="vllm:time_to_first_token_seconds", role="prefill")]  # fmt: skip
    table, _ = resolve_terms(series(*ttft), CATALOGUE, Slo(ttft_s=0.3))
    order = (
        table.filter(pl.col("signal") == "ttft_over_high")
        .sort("preference")["source"]
        .unique(maintain_order=True)
    )
    assert order.to_list() == ["dynamo_frontend", "vllm"]
    tbt = [*buckets("0.01", "0.1", "+Inf", metric="dynamo_frontend_inter_token_latency_seconds"),
           *buckets("0.05", "+Inf", metric="vllm:inter_token_latency_seconds", role="decode")]  # fmt: skip
    table, _ = resolve_terms(series(*tbt), CATALOGUE, Slo(tbt_s=0.05))
    order = (
        table.filter(pl.col("signal") == "tbt_over_high")
        .sort("preference")["source"]
        .unique(maintain_order=True)
    )
    assert order.to_list() == ["vllm", "dynamo_frontend"]


def test_of_two_tbt_histograms_without_an_edge_at_the_limit_the_nearer_edge_comes_first() -> None:
    """45 ms: 50 ms is nearer than 35 ms; within a tenth in logs the order of the catalogue stays."""
    frontend = buckets("0.035", "0.064", "+Inf", metric="dynamo_frontend_inter_token_latency_seconds")
    engine = buckets("0.025", "0.05", "+Inf", metric="vllm:inter_token_latency_seconds", role="decode")

    def first(limit: float) -> str:
        table, _ = resolve_terms(series(*frontend, *engine), CATALOGUE, Slo(tbt_s=limit))
        return str(table.filter(pl.col("signal") == "tbt_over_high").sort("preference")["source"][0])

    assert [first(limit) for limit in (0.045, 0.03, 0.036)] == ["vllm", "dynamo_frontend", "dynamo_frontend"]


def test_samples_and_mean_of_the_histogram_come_with_its_shares() -> None:
    """The samples are the count of all, summed over instances; the mean is sum over count."""
    parts = [
        {"metric": f"{TTFT}_{part}", "emitter_role": "frontend", "instance": "i"} for part in ("sum", "count")
    ]
    table, _ = resolve_terms(series(*buckets("0.25", "0.5", "+Inf"), *parts), CATALOGUE, Slo(ttft_s=0.3))
    assert of(table, "ttft_over_samples", "series_id", "side", "pool") == [(2, "num", "sum")]
    assert of(table, "ttft_over_mean", "series_id", "side") == [(3, "num"), (4, "den")]
    places = {
        name: table.filter(pl.col("signal") == name)["preference"].unique().to_list()
        for name in ("ttft_over_high", "ttft_over_samples", "ttft_over_mean")
    }
    assert len({tuple(found) for found in places.values()}) == 1


def test_only_edges_of_chosen_histograms_are_kept() -> None:
    """What is reported is what the shares came from, even between two histograms of one exporter."""
    one, two = LimitEdges("tbt", "vllm", 0.05, 0.05, 0.05), LimitEdges("tbt", "vllm", 0.05, 0.01, 0.1)
    chosen = pl.DataFrame({"service": ["s"], "signal": ["tbt_over_high"], "preference": [102]})
    assert chosen_edges([("s", 1, one), ("s", 102, two), ("other", 102, one)], chosen) == (("s", two),)


OLD_TBT, NEW_TBT = "vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds"


def test_old_and_new_names_are_one_source() -> None:
    """A renamed metric keeps its place in the order; the name's age stands beside it."""
    found = terms(
        vllm("kv_cache_usage_perc", "decode", "a"), vllm("gpu_cache_usage_perc", "decode", "b"),
        {"metric": "DCGM_FI_DEV_GPU_UTIL", "emitter_role": "decode", "instance": "d", "kind": "gauge"},
    )  # fmt: skip
    assert of(found, "kv_usage", "series_id", "preference", "generation") == [(0, 0, 0), (1, 0, 1)]


def test_a_renamed_histogram_is_judged_at_edges_it_always_had() -> None:
    """An edge that only one of the names has would leave the other's windows without a share."""
    old = buckets("0.01", "0.05", "+Inf", metric=OLD_TBT, role="decode")
    new = buckets("0.01", "0.1", "+Inf", metric=NEW_TBT, role="decode")
    table, edges = resolve_terms(series(*old, *new), CATALOGUE, Slo(tbt_s=0.05))
    assert [(found.low_s, found.high_s) for _, _, found in edges] == [(0.01, float("inf"))]
    shares = table.filter(pl.col("signal") == "tbt_over_low")
    assert set(shares.select("generation", "term").rows()) == {(g, t) for g in (0, 1) for t in (0, 1, 2)}
    assert set(shares.filter(pl.col("generation") == 1)["series_id"]) == {0, 2}


def test_a_prefill_workers_ttft_counts_and_a_decode_workers_is_the_hand_over() -> None:
    """Pooled, the two would be neither: a request shows in both."""
    found = terms(
        *[vllm(f"time_to_first_token_seconds_{part}", role, role)
          for role in ("prefill", "decode") for part in ("sum", "count")]
    )  # fmt: skip
    assert of(found, "ttft", "series_id", "side") == [(0, "num"), (1, "den")]
    assert of(found, "handover_time", "series_id", "side", "role") == [
        (2, "num", "decode"), (3, "den", "decode"),
    ]  # fmt: skip
    assert of(found, "first_token_rate", "series_id", "preference") == [(1, 2), (3, 3)]


def test_sglang_without_a_front_end_tells_tokens_per_request() -> None:
    """Both sides of the mean come from the workers that finish requests."""
    found = terms(
        {"metric": "sglang:generation_tokens_total", "emitter_role": "decode", "instance": "d"},
        {"metric": "sglang:num_requests_total", "emitter_role": "decode", "instance": "d"},
        {"metric": "sglang:num_requests_total", "emitter_role": "prefill", "instance": "p"},
    )
    assert of(found, "finished_output_tps", "series_id") == [(0,)]
    assert of(found, "finished_rate", "series_id") == [(1,)]


def test_ranks_that_repeat_the_first_one_count_once() -> None:
    """Every tensor rank of an SGLang engine may say the same; data ranks say their own."""
    rank = {"metric": "sglang:num_running_reqs", "emitter_role": "decode", "instance": "d", "kind": "gauge"}
    found = terms(
        *[{**rank, "labels": {"tp_rank": tp, "dp_rank": dp}} for tp in ("0", "1") for dp in ("0", "1")], rank
    )
    assert [row[0] for row in of(found, "running", "series_id")] == [0, 1, 4]


def test_the_scale_of_a_mean_is_that_of_what_stands_above() -> None:
    """Microseconds over requests are seconds after one conversion, not after two or none."""
    found = terms(
        {"metric": "nv_inference_request_duration_us", "emitter_role": "mixed", "instance": "m"},
        {"metric": "nv_inference_request_success", "emitter_role": "mixed", "instance": "m"},
    )
    assert sorted(of(found, "e2e_latency", "side", "sign")) == [("den", 1.0), ("num", 1e-6)]


def test_a_series_in_another_unit_is_repaired_and_one_in_none_is_left_out() -> None:
    """The factor stands on top of the catalogue's; a mismatch has no value."""
    usage = vllm("kv_cache_usage_perc", "decode", "d", kind="gauge")
    found = terms(
        {**usage, "repair": 0.01, "scale_evidence": "values: 0 to 97"}, usage,
        {**usage, "scale_evidence": "mismatch: 0 to 4000"},
    )  # fmt: skip
    assert of(found, "kv_usage", "series_id", "sign") == [(0, 0.01), (1, 1.0)]
