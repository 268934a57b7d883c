"""What the exporters write keeps their names, rules and quirks."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from simulator import KINDS, History, kind_of, shortened
from simulator.scrapes import LOOK_BACK_S, Series, bucketed, counted, merged, silent
from simulator.surroundings import SENTINEL

COUNTERS = ("_total", "_sum", "_count", "_bucket")


@pytest.fixture(scope="module")
def series(busy: History) -> list[Series]:
    """The busy history's series."""
    return busy.series()


def _named(series: list[Series], name: str) -> list[Series]:
    return [one for one in series if one.labels["__name__"] == name]


def test_counters_rise_but_for_restarts(busy: History, series: list[Series]) -> None:
    """A counter falls only where its pod was started again, and there it does fall."""
    restarts = {life.pod for lives in busy.trace.service.lives.values() for life in lives if life.restarts}
    fallen: dict[str, int] = defaultdict(int)
    for one in series:
        if one.labels["__name__"].endswith(COUNTERS):
            values = one.values[np.isfinite(one.values)]
            drops = int((np.diff(values) < 0).sum())
            assert drops <= (one.labels.get("pod") in restarts)
            fallen[one.labels.get("pod", "")] += drops
    assert restarts
    assert all(fallen[pod] for pod in restarts)


def test_histograms_are_cumulative_and_end_in_their_count(series: list[Series]) -> None:
    """Buckets rise with their edge, whole numbers, and +Inf equals _count at every scrape."""
    families: dict[tuple[str, ...], dict[float, np.ndarray]] = defaultdict(dict)
    for one in series:
        if "le" in one.labels:
            key = tuple(sorted(f"{k}={v}" for k, v in one.labels.items() if k not in ("le",)))
            families[key][float(one.labels["le"])] = one.values
    counts = {
        tuple(
            sorted(
                f"{k}={v}"
                for k, v in {
                    **one.labels,
                    "__name__": one.labels["__name__"].removesuffix("_count") + "_bucket",
                }.items()
            )
        ): one.values
        for one in series
        if one.labels["__name__"].endswith("_count")
    }
    assert len(families) >= 5
    for key, buckets in families.items():
        stack = np.stack([buckets[edge] for edge in sorted(buckets)])
        there = np.isfinite(stack[-1])
        assert np.all(np.diff(stack[:, there], axis=0) >= 0)
        assert np.array_equal(stack[:, there], np.floor(stack[:, there]))
        assert np.array_equal(stack[-1], counts[key], equal_nan=True)


def test_an_outage_repeats_everything_for_five_minutes_at_most(busy: History, series: list[Series]) -> None:
    """While Prometheus is down all series repeat together, the clock-like ones too; then there is nothing."""
    took = _named(series, "scrape_duration_seconds")
    repeats = np.stack(
        [np.r_[False, (np.diff(one.values) == 0.0) | np.isnan(one.values[1:])] for one in took]
    )
    frozen = repeats.all(axis=0)
    step = busy.kind.setup.step_s
    frozen &= np.isfinite(took[0].values)
    assert frozen.sum() * step >= 120
    run = max(len(part) for part in "".join("x" if f else " " for f in frozen).split())
    assert run * step <= LOOK_BACK_S + step
    for one in series:
        assert np.array_equal(one.values[1:][frozen[1:]], one.values[:-1][frozen[1:]], equal_nan=True)


def test_gpu_readings_repeat_and_are_whole_percentages() -> None:
    """A collector at 30 s under scrapes at 15 s repeats values; GPU_UTIL is whole; one GPU is unsupported."""
    made = shortened("roomy_day")
    series = made.series()
    for one in _named(series, "DCGM_FI_DEV_GPU_UTIL"):
        values = one.values[np.isfinite(one.values)]
        assert np.array_equal(values, np.round(values))
        assert 0 <= values.min() <= values.max() <= 100
    active = _named(series, "DCGM_FI_PROF_SM_ACTIVE")
    blank = [one for one in active if np.nanmax(one.values) == SENTINEL]
    assert len(blank) == 2  # one per pool
    prefill = next(o for o in active if "prefill" in o.labels["exported_pod"] and o not in blank)
    assert np.mean(np.diff(prefill.values) == 0) == pytest.approx(0.5, abs=0.05)


def test_a_late_exporter_shows_what_was() -> None:
    """With a delay of four minutes SM activity follows the busy share four minutes behind."""
    made = shortened("lagging_exporter")
    lives = made.trace.service.lives["prefill"]
    name = lives[0].pod
    shown = next(
        o for o in _named(made.series(), "DCGM_FI_PROF_SM_ACTIVE") if o.labels["exported_pod"] == name
    )
    busy = made.trace.seconds["prefill"][0].busy
    minutes = busy[: busy.size // 60 * 60].reshape(-1, 60).mean(axis=1)
    read = shown.values[1::2]
    size = min(minutes.size, read.size)
    fits = [np.corrcoef(minutes[10 : size - 10], read[10 + lag : size - 10 + lag])[0, 1] for lag in range(10)]
    assert int(np.nanargmax(fits)) in (4, 5)


@pytest.mark.parametrize(
    ("name", "wanted", "absent"),
    [
        ("near_limit_days", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        ("sglang_days", "sglang:realtime_tokens_total", "vllm:num_requests_running"),
        ("compute_bound_pool", "kube_pod_labels", "dynamo_frontend_requests_total"),
        ("wandering", "dynamo_component_uptime_seconds", "kube_pod_labels"),
        ("drifting_cache", "dynamo_component_router_input_sequence_tokens_sum", "sglang:num_queue_reqs"),
    ],
)
def test_each_set_up_exports_its_own_names(name: str, wanted: str, absent: str) -> None:
    """The metric names of a kind are those of its exporters."""
    names = {one.labels["__name__"] for one in shortened(name, 0.5).series()}
    assert wanted in names
    assert absent not in names
    assert {
        "up",
        "scrape_duration_seconds",
        "DCGM_FI_DEV_GPU_UTIL",
        "kube_deployment_status_replicas_ready",
    } <= names


def test_a_release_changes_names_halfway() -> None:
    """Old pods write the old names, new pods the new ones, and they hardly overlap."""
    series = shortened("release", 3.0).series()
    old, new = (_named(series, f"vllm:{name}_cache_usage_perc") for name in ("gpu", "kv"))
    assert len(old) == len(new) > 0
    assert {o.labels["pod"] for o in old}.isdisjoint(n.labels["pod"] for n in new)


def test_autoscaled_pods_come_and_go() -> None:
    """Series of an autoscaled pool begin and end with their pods; ready replicas say how many there are."""
    series = shortened("autoscaled", 6.0).series()
    running = [o for o in _named(series, "vllm:num_requests_running") if "decode" in o.labels["pod"]]
    there = np.sum([np.isfinite(o.values) for o in running], axis=0)
    assert np.ptp(there) >= 2
    ready = next(
        o
        for o in _named(series, "kube_deployment_status_replicas_ready")
        if "decode" in o.labels["deployment"]
    )
    assert np.nanmedian(np.abs(there - ready.values)) <= 1


def test_conservation_at_the_front_end(busy: History, series: list[Series]) -> None:
    """Started − finished = in flight at every scrape; tokens emitted are those of the requests."""
    (started,), (finished,), (inside,) = (
        _named(series, f"dynamo_frontend_{name}")
        for name in ("requests_started_total", "requests_total", "inflight_requests")
    )
    assert np.array_equal(started.values - finished.values, inside.values, equal_nan=True)
    assert started.values[-1] == pytest.approx(len(busy.trace.requests), abs=200)
    (output,) = _named(series, "dynamo_frontend_output_tokens_total")
    done = busy.trace.end_s <= busy.trace.hours * 3600
    assert output.values[-1] == pytest.approx(busy.trace.requests.output[done].sum(), rel=0.02)


def test_vllm_counts_prompts_when_prefill_ends_and_again_on_decode(
    busy: History, series: list[Series]
) -> None:
    """Both roles count the prompt tokens of what they began; decode says that they came by transfer."""
    requests, horizon = busy.trace.requests, busy.trace.hours * 3600
    began = {"prefill": busy.trace.first_s, "decode": busy.trace.stays["decode"].start_s}
    for role, moment in began.items():
        alive = [o for o in _named(series, "vllm:prompt_tokens_total") if role in o.labels["pod"]]
        gained = sum(
            float(np.nansum(np.clip(np.diff(o.values[np.isfinite(o.values)]), 0, None))) for o in alive
        )
        assert gained == pytest.approx(requests.prompt[moment < horizon].sum(), rel=0.02)
    moved = _named(series, "vllm:prompt_tokens_by_source_total")
    sources = {(o.labels["source"], "decode" in o.labels["pod"]): np.nanmax(o.values) for o in moved}
    assert sources["external_kv_transfer", True] > 0 == sources["external_kv_transfer", False]
    assert sources["local_compute", False] > 0 == sources["local_compute", True]


def test_counted_and_bucketed_by_hand() -> None:
    """Events at a scrape's own moment are in it; a value on an edge belongs to its bucket."""
    moments = np.array([1.0, 2.0, np.inf, 2.5])
    assert counted(moments, np.array([1.0, 2.0, 9.0, 4.0]), np.array([0.5, 2.0, 3.0])).tolist() == [
        0.0,
        3.0,
        7.0,
    ]
    found = bucketed(moments, np.array([0.1, 0.5, 0.1, 2.0]), np.array([0.1, 1.0]), np.array([0.5, 2.0, 3.0]))
    assert found.tolist() == [[0.0, 1.0, 1.0], [0.0, 2.0, 2.0], [0.0, 2.0, 3.0]]


def test_silence_and_merging_by_hand() -> None:
    """Points in an outage repeat the last one for 300 s; two lives of one pod are one series."""
    grid = np.arange(0.0, 1000.0, 100.0)
    (shown,) = silent([Series({"a": "b"}, grid.copy())], grid, [(250.0, 850.0)])
    assert shown.values.tolist()[:3] == [0.0, 100.0, 200.0]
    assert shown.values.tolist()[3:6] == [200.0] * 3
    assert np.isnan(shown.values[6:9]).all()
    assert shown.values[9] == 900.0
    first, second = np.array([1.0, np.nan, np.nan]), np.array([np.nan, np.nan, 5.0])
    (joined,) = merged([Series({"pod": "x"}, first), Series({"pod": "x"}, second)])
    assert joined.values[[0, 2]].tolist() == [1.0, 5.0]
    assert np.isnan(joined.values[1])


def test_kinds_are_many_named_once_and_found_by_name() -> None:
    """At least twelve kinds; an unknown name lists them."""
    names = [kind.name for kind in KINDS]
    assert len(names) == len(set(names)) >= 12
    assert kind_of("overload") is KINDS[names.index("overload")]
    with pytest.raises(KeyError, match="near_limit_days"):
        kind_of("nonsense")
