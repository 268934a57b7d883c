"""The align stage on a small service whose numbers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from align.service import (
    CACHED,
    INPUT,
    OUTPUT,
    SETTINGS,
    START,
    TBT_S,
    TTFT_S,
    Element,
    Scene,
    aligned,
    only,
    put_on_grid,
    scene,
    without,
    write,
)  # fmt: skip
from polars.testing import assert_frame_equal

from hs_analysis.align import Aligned
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import SIGNALS, check
from hs_analysis.schema.settings import Settings, Slo

MADE = scene()
MINUTE = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    """The service as it is."""
    return aligned(tmp_path_factory.mktemp("whole"), MADE.elements)


def frame_of(found: Aligned) -> ServiceFrame:
    """Return the only service."""
    (frame,) = found.frames
    return frame


def values_of(frame: ServiceFrame, signal: str, role: str) -> np.ndarray:
    """Return a column from the first whole minute on; the row before it holds the sample at the start."""
    return frame.values(signal, role)[1:]


def per_minute(gains: np.ndarray) -> np.ndarray:
    """Return a rate per second in each minute, from gains per half-minute step."""
    return gains.reshape(-1, 2).sum(1) / MINUTE


def test_rates_levels_and_ratios_are_those_of_the_requests(whole: Aligned) -> None:
    """Every window equals a count by hand, to rounding."""
    frame = frame_of(whole)
    expected = {
        ("request_rate", "service"): per_minute(MADE.started),
        ("first_token_rate", "service"): per_minute(MADE.first_tokens),
        ("completion_rate", "service"): per_minute(MADE.finished),
        ("prefill_tps", "prefill"): INPUT * per_minute(MADE.first_tokens),
        ("prefill_tps_effective", "prefill"): (INPUT - CACHED) * per_minute(MADE.first_tokens),
        ("decode_tps", "decode"): OUTPUT * per_minute(MADE.finished),
    }
    for (signal, role), values in expected.items():
        np.testing.assert_allclose(values_of(frame, signal, role), values, rtol=1e-9, err_msg=signal)
    constants = {
        ("ttft", "service"): TTFT_S, ("tbt", "decode"): TBT_S, ("ttft_over_low", "service"): 0.0,
        ("tbt_over_low", "decode"): 0.0, ("tbt_over_high", "decode"): 0.0, ("input_length", "service"): INPUT,
        ("output_length", "service"): OUTPUT, ("queue_length", "prefill"): 0.0, ("running", "decode"): 6.0,
        ("kv_usage", "prefill"): 0.25, ("kv_usage", "decode"): 0.5, ("gpu_util", "decode"): 0.8,
        ("instances", "prefill"): 2.0, ("instances", "decode"): 3.0,
    }  # fmt: skip
    for (signal, role), value in constants.items():
        np.testing.assert_allclose(
            values_of(frame, signal, role), value, rtol=1e-9, atol=1e-12, err_msg=signal
        )


def test_the_table_is_a_regular_grid_with_what_is_known_of_each_column(whole: Aligned) -> None:
    """Sorted, one row a minute, one entry a column; nothing is invented."""
    frame = frame_of(whole)
    assert (frame.service, frame.window_s, frame.reference, frame.pools) == (
        "ns/big", 60.0, "offered", ("prefill", "decode"),
    )  # fmt: skip
    assert set(np.diff(frame.seconds())) == {60.0}
    assert frame.seconds()[1] == START
    assert frame.table.columns == ["capture", "t", *[f"{i.signal}@{i.role}" for i in frame.signals]]
    info = frame.info("gpu_util", "decode")
    assert info is not None
    assert (info.source, info.unit, info.pool, info.family, info.interval_s) == (
        "dcgm", "ratio", "mean", "hardware", 30.0,
    )  # fmt: skip
    assert frame.info("offered_tps", "decode").source == "derived"
    assert frame.gpus_per_instance == {"prefill": 1.0, "decode": 1.0}
    assert frame.gpu_types == {"prefill": ("H20",), "decode": ("H20",)}
    check(whole.signals, SIGNALS)


def test_offered_work_is_arrivals_times_tokens(whole: Aligned) -> None:
    """In every window, to rounding, as requests are all alike."""
    frame = frame_of(whole)
    started = per_minute(MADE.started)
    for role, tokens in (("prefill", INPUT - CACHED), ("decode", OUTPUT)):
        offered = values_of(frame, "offered_tps", role)
        np.testing.assert_allclose(offered, tokens * started, rtol=1e-9)
    assert not frame.values("saturated", "prefill").any()
    assert not frame.values("saturated", "decode").any()


def test_totals_are_what_the_counters_gained(whole: Aligned) -> None:
    """Tokens, requests and hours can be reconciled with a bill."""
    (facts,) = whole.facts
    assert facts.prompt_tokens == pytest.approx(INPUT * MADE.first_tokens.sum(), rel=1e-12)
    assert facts.output_tokens == pytest.approx(OUTPUT * MADE.finished.sum(), rel=1e-12)
    assert facts.requests == MADE.started.sum()
    assert facts.instance_hours == pytest.approx(5 * 2.0, abs=0.2)
    assert facts.gpu_hours == facts.instance_hours


def test_edges_around_the_limits_are_those_of_the_shares(whole: Aligned) -> None:
    """TTFT has an edge at its limit; TBT lies between two."""
    found = {edges.signal: (edges.low_s, edges.high_s) for _, edges in whole.edges}
    assert found == {"ttft": (1.0, 1.0), "tbt": (0.025, 0.05)}


def _tables_equal(found: Aligned, other: Aligned) -> None:
    assert_frame_equal(frame_of(found).table, frame_of(other).table, rel_tol=1e-12, abs_tol=1e-12)
    assert found.facts == other.facts
    assert found.edges == other.edges


def test_the_order_of_files_does_not_matter(tmp_path: Path, whole: Aligned) -> None:
    """Files that sort in reverse, series in reverse within them."""
    folder = tmp_path / "in"
    for number, element in enumerate(reversed(MADE.elements)):
        write(folder, [element], prefix=f"{number:03d}-")
    _tables_equal(put_on_grid(tmp_path, folder)[1], whole)


def test_names_of_pods_do_not_matter(tmp_path: Path, whole: Aligned) -> None:
    """Other names, in another order, with the same role words."""
    names = ["front-0", "w-prefill-0", "w-prefill-1", "w-decode-0", "w-decode-1", "w-decode-2"]
    renamed = {old: f"{9 - i}-{old.rstrip('-012')}-x" for i, old in enumerate(names)}

    def rename(element: Element) -> Element:
        labels = {k: renamed.get(v, v) for k, v in element["metric"].items()}
        return {**element, "metric": labels}

    _tables_equal(aligned(tmp_path, [rename(e) for e in MADE.elements]), whole)


def test_the_order_of_pods_leaves_no_trace_in_the_last_digits(tmp_path: Path) -> None:
    """Gauges that differ from pod to pod, summed and averaged in the reverse order of names, bit by bit."""
    rng, pods = np.random.default_rng(0), [f"w-decode-{i}" for i in range(3)]

    def unlike(element: Element) -> Element:
        if element["metric"].get("pod") not in pods or "vllm:" not in element["metric"]["__name__"]:
            return element
        factor = rng.uniform(0.3, 1.7)
        return {**element, "values": [[t, repr(factor * float(v))] for t, v in element["values"]]}

    made = [unlike(element) for element in MADE.elements]
    swapped = dict(zip(pods, reversed(pods), strict=True))
    other = [{**e, "metric": {k: swapped.get(v, v) for k, v in e["metric"].items()}} for e in reversed(made)]
    tables = [frame_of(aligned(tmp_path / name, one)).table for name, one in (("a", made), ("b", other))]
    assert_frame_equal(*tables, check_exact=True)


def test_files_split_by_time_are_the_same_input(tmp_path: Path, whole: Aligned) -> None:
    """Chunks of a longer range, with one sample in both, are put together again."""
    middle = START + 3000
    folder = write(tmp_path / "in", without(MADE.elements, 0, middle), prefix="b-")
    write(folder, without(MADE.elements, middle + 1, 10**12), prefix="a-")
    found, split = put_on_grid(tmp_path, folder)
    assert sum(file.duplicates for file in found.files) == len(MADE.elements)
    _tables_equal(split, whole)


TOKENS = {
    "prefill": ("vllm:prompt_tokens_total", "vllm:prompt_tokens_by_source_total",
                "dynamo_frontend_input_sequence_tokens_sum"),
    "decode": ("vllm:generation_tokens_total", "dynamo_frontend_output_tokens_total",
               "dynamo_frontend_output_sequence_tokens_sum"),
}  # fmt: skip


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_twice_the_tokens_of_a_role_are_twice_its_work(tmp_path: Path, whole: Aligned, role: str) -> None:
    """The other role's columns stay, and so do rates of requests."""

    def double(element: Element) -> Element:
        if element["metric"]["__name__"] not in TOKENS[role]:
            return element
        return {**element, "values": [[t, repr(2 * float(v))] for t, v in element["values"]]}

    before, after = frame_of(whole), frame_of(aligned(tmp_path, [double(e) for e in MADE.elements]))
    for signal in ("offered_tps", "prefill_tps" if role == "prefill" else "decode_tps"):
        np.testing.assert_allclose(after.values(signal, role), 2 * before.values(signal, role), rtol=1e-12)
    other = "decode" if role == "prefill" else "prefill"
    np.testing.assert_allclose(
        after.values("offered_tps", other), before.values("offered_tps", other), rtol=1e-12
    )
    np.testing.assert_array_equal(
        after.values("request_rate", "service"), before.values("request_rate", "service")
    )


@pytest.mark.slow
def test_the_number_of_threads_does_not_matter(tmp_path: Path) -> None:
    """To the last bit, on more rows than one thread takes at a time."""
    big = scene(minutes=60 * 40, seed=1)
    folder = write(tmp_path / "in", big.elements)
    tables = [frame_of(put_on_grid(tmp_path / str(n), folder, threads=n)[1]).table for n in (1, 4)]
    assert tables[0].equals(tables[1])


def test_a_scrape_gap_is_null_in_windows_and_counts_in_totals(tmp_path: Path, whole: Aligned) -> None:
    """No window takes the increase over the gap as its rate; the totals miss nothing."""
    gap = (START + 1800, START + 2400)
    found = aligned(tmp_path, without(MADE.elements, *gap))
    frame, before = frame_of(found), frame_of(whole)
    inside = (frame.seconds() >= gap[0]) & (frame.seconds() < gap[1] - 60)
    for info in frame.signals:
        if info.signal not in ("saturated", "in_flight"):
            assert np.isnan(frame.values(info.signal, info.role)[inside]).all(), info
    rates = frame.values("request_rate", "service")
    assert np.nanmax(rates) <= np.nanmax(before.values("request_rate", "service")) + 1e-9
    assert found.facts[0].requests == whole.facts[0].requests
    assert found.facts[0].output_tokens == pytest.approx(whole.facts[0].output_tokens, rel=1e-12)
    assert found.facts[0].instance_hours == pytest.approx(whole.facts[0].instance_hours, abs=0.01)


def test_a_restart_adds_what_the_new_counter_shows(tmp_path: Path, whole: Aligned) -> None:
    """A counter that falls back is a new one: the pool's rate stays near its neighbours, never below zero."""
    half = len(MADE.times) // 2

    def restart(element: Element) -> Element:
        name, pod = element["metric"]["__name__"], element["metric"].get("pod")
        if (name, pod) != ("vllm:generation_tokens_total", "w-decode-0"):
            return element
        base = float(element["values"][half][1])
        values = [
            [t, v if i <= half else repr(float(v) - base)] for i, (t, v) in enumerate(element["values"])
        ]
        return {**element, "values": values}

    after = frame_of(aligned(tmp_path, [restart(e) for e in MADE.elements])).values("decode_tps", "decode")
    np.testing.assert_allclose(after, frame_of(whole).values("decode_tps", "decode"), rtol=1e-9)


def test_the_next_source_is_taken_when_the_first_covers_too_little(tmp_path: Path) -> None:
    """Engine counters for under 70 % of the time: the front end's take over, for the whole time."""
    cut = START + 120 * 60 * 6 // 10
    thin = [
        {**e, "values": [v for v in e["values"] if v[0] < cut]}
        if e["metric"]["__name__"] == "vllm:generation_tokens_total"
        else e
        for e in MADE.elements
    ]
    frame = frame_of(aligned(tmp_path, thin))
    info = frame.info("decode_tps", "decode")
    assert info is not None
    assert info.source == "dynamo_frontend"
    expected = OUTPUT * per_minute(MADE.finished)
    np.testing.assert_allclose(values_of(frame, "decode_tps", "decode"), expected, rtol=1e-9)


def test_without_arrivals_and_queues_only_what_was_served_is_known(tmp_path: Path) -> None:
    """The reference says so."""
    bare = only(MADE.elements, lambda name, _: name not in ("dynamo_frontend_requests_started_total",
                                                            "vllm:num_requests_waiting"))  # fmt: skip
    frame = frame_of(aligned(tmp_path, bare))
    assert frame.reference == "served"
    assert not frame.has("request_rate", "service")
    assert np.isfinite(values_of(frame, "offered_tps", "decode")).all()


def test_without_arrivals_queues_still_tell_the_offered_load(tmp_path: Path) -> None:
    """First tokens plus what queued up."""
    bare = only(MADE.elements, lambda name, _: name != "dynamo_frontend_requests_started_total")
    frame = frame_of(aligned(tmp_path, bare))
    assert frame.reference == "offered"
    np.testing.assert_allclose(
        values_of(frame, "offered_tps", "prefill")[1:],
        (INPUT - CACHED) * per_minute(MADE.first_tokens)[1:],
        rtol=1e-9,
    )


def test_all_prompt_tokens_stand_for_those_that_missed_the_cache(tmp_path: Path) -> None:
    """Where nothing counts cache-missed tokens, all of them are prefill's work, and it says so."""
    bare = only(MADE.elements, lambda name, _: name != "vllm:prompt_tokens_by_source_total")
    frame = frame_of(aligned(tmp_path, bare))
    assert frame.hit_rate_unknown
    assert frame.served("prefill") == ("prefill_tps", "prefill")
    np.testing.assert_allclose(
        values_of(frame, "offered_tps", "prefill")[1:], INPUT * per_minute(MADE.started)[1:], rtol=1e-9
    )
    whole = frame_of(aligned(tmp_path, MADE.elements))
    assert not whole.hit_rate_unknown
    assert whole.served("prefill") == ("prefill_tps_effective", "prefill")


def test_no_prefill_work_without_prompt_tokens(tmp_path: Path) -> None:
    """Requests are no measure of it."""
    counted = ("prompt_tokens", "input_sequence", "cached_tokens")
    bare = only(MADE.elements, lambda name, _: not any(word in name for word in counted))
    frame = frame_of(aligned(tmp_path, bare))
    assert not frame.has("offered_tps", "prefill")
    assert not frame.hit_rate_unknown
    assert frame.has("offered_tps", "decode")


def test_a_drop_of_requests_is_no_endless_queue(tmp_path: Path) -> None:
    """Requests that end uncounted, one of a thousand, are not mistaken for a backlog that never drains."""
    history = scene(minutes=60 * 12).elements
    unqueued = only(history, lambda name, m: name != "vllm:num_requests_waiting" or "prefill" in m["pod"])
    leaking = [
        {**e, "values": [[t, repr(0.999 * float(v))] for t, v in e["values"]]}
        if e["metric"]["__name__"] == "dynamo_frontend_requests_total"
        else e
        for e in unqueued
    ]
    frame = frame_of(aligned(tmp_path, leaking))
    assert np.nanmax(frame.values("in_flight", "service")) > 200
    assert not frame.values("saturated", "decode").any()


def test_ready_replicas_count_instances_where_none_reports(tmp_path: Path) -> None:
    """Front-end metrics and Kubernetes alone still give a service with two pools."""
    seen = Scene(MADE.started, MADE.first_tokens, MADE.finished, list(MADE.elements))
    for role, count in (("prefill", 2.0), ("decode", 3.0)):
        seen.gauge("kube_deployment_status_replicas_ready", count, deployment=f"big-{role}", namespace="ns")
    kept = only(seen.elements, lambda name, _: name.startswith(("dynamo_frontend", "kube")))
    frame = frame_of(aligned(tmp_path, kept))
    assert frame.pools == ("prefill", "decode")
    assert set(values_of(frame, "instances", "decode")) == {3.0}
    both = frame_of(aligned(tmp_path / "both", seen.elements))
    assert set(values_of(both, "instances", "decode")) == {3.0}


def test_a_single_pool_has_one_role(tmp_path: Path) -> None:
    """Backends without prefill workers do both: role mixed, no prefill load."""
    kept = only(MADE.elements, lambda _, m: "prefill" not in f"{m.get('pod')}{m.get('exported_pod')}")
    plain = [{**e, "metric": {k: v.replace("decode", "unit") for k, v in e["metric"].items()}} for e in kept]
    frame = frame_of(aligned(tmp_path, plain))
    assert frame.pools == ("mixed",)
    np.testing.assert_allclose(
        values_of(frame, "offered_tps", "mixed"), OUTPUT * per_minute(MADE.started), rtol=1e-9
    )
    assert not [info for info in frame.signals if info.role in ("prefill", "decode")]


def test_captures_are_rows_of_their_own(tmp_path: Path, whole: Aligned) -> None:
    """Two runs of a service, an hour apart: twice the rows, nothing between, nothing carried across."""
    later = [{**e, "values": [[t + 90_000, v] for t, v in e["values"]]} for e in MADE.elements]
    folder = tmp_path / "in"
    write(folder / "one", MADE.elements)
    write(folder / "two", later)
    found = put_on_grid(tmp_path, folder)[1]
    frame, single = frame_of(found), frame_of(whole)
    assert frame.captures() == ("one", "two")
    for capture in frame.captures():
        part = frame.table.filter(pl.col("capture") == capture)
        assert_frame_equal(part.drop("capture", "t"), single.table.drop("capture", "t"))
    assert found.facts[0].requests == 2 * whole.facts[0].requests
    assert found.facts[0].instance_hours == pytest.approx(2 * whole.facts[0].instance_hours)


def test_two_services_do_not_mix(tmp_path: Path, whole: Aligned) -> None:
    """The same pod names in two namespaces."""
    other = [
        {**e, "metric": {k: "zz" if v == "ns" else v for k, v in e["metric"].items()}} for e in MADE.elements
    ]
    found = aligned(tmp_path, MADE.elements + other)
    assert [frame.service for frame in found.frames] == ["ns/big", "zz/big"]
    for frame in found.frames:
        assert_frame_equal(frame.table, frame_of(whole).table)


def test_a_service_without_a_value_is_left_out(tmp_path: Path, whole: Aligned) -> None:
    """A model of which one sample of a counter was caught has no window."""
    lone = {
        "metric": {"__name__": "dynamo_frontend_requests_started_total", "model": "lone"},
        "values": [[START + 30, "1"]],
    }
    found = aligned(tmp_path, [*MADE.elements, lone])
    assert [frame.service for frame in found.frames] == [frame_of(whole).service]


def test_a_pressure_test_has_narrow_windows(tmp_path: Path) -> None:
    """Twice the scrape interval of half a minute where four would leave too few windows."""
    settings = Settings(slo=Slo(), history_kind="pressure_test")
    short = [{**e, "values": e["values"][:61]} for e in MADE.elements]
    frame = frame_of(aligned(tmp_path, short, settings))
    assert (frame.kind, frame.window_s) == ("pressure_test", 60.0)
    assert frame_of(aligned(tmp_path / "long", MADE.elements, settings)).window_s == 120.0
    assert not frame.has("ttft_over_low", "service")
    assert SETTINGS.slo.given
