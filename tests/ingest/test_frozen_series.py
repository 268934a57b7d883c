"""Instances and gauges whose last value is repeated after they had gone, and those that are only idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl
import pytest

from hs_analysis.catalogue import load_catalogue
from hs_analysis.ingest.frozen_series import FrozenSeries, SeenBefore, frozen_series
from hs_analysis.ingest.quality import quality_frame, quality_of, shape_of
from hs_analysis.schema.frames import SERIES, empty

STEP = 15
BEGIN_US = 1_767_225_600_000_000
TIMES = np.arange(0, 7200, STEP)
STOPPED, LAST = 3600, 7185
PODS = ("p0", "p1", "p2")

Pod = dict[str, np.ndarray]
"""Metric → values, NaN where there is no sample."""


def working(seed: int) -> Pod:
    """Return an engine under load: its counter rises and its gauges move at every scrape."""
    rng = np.random.default_rng(seed)
    return {
        "vllm:generation_tokens_total": 5.0 + np.cumsum(rng.integers(100, 200, TIMES.size)),
        "vllm:num_requests_running": rng.integers(5, 30, TIMES.size).astype(float),
        "vllm:kv_cache_usage_perc": rng.uniform(0.2, 0.6, TIMES.size),
        "vllm:num_requests_waiting": np.zeros(TIMES.size),
        "up": np.ones(TIMES.size),
    }


def fleet() -> dict[str, Pod]:
    """Return three engines of one pool."""
    return {pod: working(number) for number, pod in enumerate(PODS)}


def stop(pod: Pod, *metrics: str, until: int = LAST) -> None:
    """Repeat the last value from STOPPED on."""
    for metric in metrics or [name for name in pod if name != "up"]:
        stretch = (TIMES > STOPPED) & (until >= TIMES)
        pod[metric] = np.where(stretch, pod[metric][TIMES == STOPPED], pod[metric])


def idle(pod: Pod) -> None:
    """Give an engine nothing to do: nothing runs, and its counter stays."""
    stop(pod, "vllm:generation_tokens_total", "vllm:kv_cache_usage_perc")
    for metric in ("vllm:num_requests_running", "vllm:kv_cache_usage_perc"):
        pod[metric] = np.where(TIMES > STOPPED, 0.0, pod[metric])


Samples = list[tuple[int, np.ndarray, np.ndarray]]


def found(
    pods: dict[str, Pod],
    before: Callable[[Samples], SeenBefore] | None = None,
    asked: list[int] | None = None,
) -> FrozenSeries:
    """Return what is frozen, with what was known before; ``asked`` takes the series that are read."""
    catalogue = load_catalogue()
    named = [(pod, metric, values) for pod, own in sorted(pods.items()) for metric, values in own.items()]
    plain = {
        "labels": [], "emitter_role": "decode", "role_evidence": "", "service": "s", "unit_kind": "pod",
        "gpu_type": None, "unit": None, "interval_s": float(STEP), "capture": "",
    }  # fmt: skip
    rows = [
        {
            **plain, "series_id": number, "metric": metric, "instance": pod,
            "signal": catalogue.first_signal(metric), "kind": catalogue.kind_of(metric),
            "source": catalogue.exporter_of(metric).name,
        }
        for number, (pod, metric, _) in enumerate(named)
    ]  # fmt: skip
    samples = []
    for number, (_, _, values) in enumerate(named):
        there = ~np.isnan(values)
        samples.append((number, BEGIN_US + TIMES[there] * 1_000_000, values[there]))
    quality = [
        quality_of(number, shape_of(t_us, values, counter=rows[number]["kind"] == "counter", lookback=0))
        for number, t_us, values in samples
    ]

    def read(wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        chosen = set(wanted)
        if asked is not None:
            asked.extend(sorted(chosen))
        return (one for one in samples if one[0] in chosen)

    series = pl.DataFrame(rows, schema=empty(SERIES).schema)
    known = before(samples) if before else None
    return frozen_series(series, quality_frame(quality), catalogue, read, known)


def told(pods: dict[str, Pod]) -> list[tuple[str, str, float, float, str]]:
    """Return (instance, metric, after, until, told by), moments in seconds after the beginning."""
    table = found(pods).table.with_columns(pl.col("after", "until").dt.epoch("us").sub(BEGIN_US).truediv(1e6))
    return table.select("instance", "metric", "after", "until", "told_by").rows()


def test_a_fleet_at_work_is_not_frozen() -> None:
    """Nor are gauges that are constant, as a queue that is empty."""
    assert told(fleet()) == []


@pytest.mark.parametrize("until", [LAST, 4500])
def test_a_pod_that_holds_requests_and_stands_still_is_frozen(until: int) -> None:
    """To the end, or until it is there again; the others of its pool move on."""
    pods = fleet()
    stop(pods["p1"], until=until)
    assert told(pods) == [("p1", "", STOPPED, until, "peers")]
    assert set(found(pods).spans.values()) == {
        ((BEGIN_US + STOPPED * 1_000_000, BEGIN_US + until * 1_000_000),)
    }
    assert len(found(pods).spans) == 4


def test_five_minutes_that_a_server_looked_back_are_frozen() -> None:
    """A pod that went, and whose series go on for a while and end."""
    pods = fleet()
    stop(pods["p1"])
    for metric, values in pods["p1"].items():
        pods["p1"][metric] = np.where(TIMES > STOPPED + 300, np.nan, values)
    assert told(pods) == [("p1", "", STOPPED, STOPPED + 300, "peers")]


def test_an_idle_pod_is_not_frozen() -> None:
    """It holds nothing, although its peers work; its KV cache may keep a value."""
    pods = fleet()
    idle(pods["p1"])
    assert told(pods) == []
    pods["p1"]["vllm:kv_cache_usage_perc"] = np.where(
        TIMES > STOPPED, 0.31, pods["p1"]["vllm:kv_cache_usage_perc"]
    )
    assert told(pods) == []


def test_a_night_is_not_frozen() -> None:
    """All stand still at once, one with a request that hangs: nobody can tell it from the others."""
    pods = fleet()
    for pod in pods.values():
        idle(pod)
    pods["p1"]["vllm:num_requests_running"] = np.where(
        TIMES > STOPPED, 1.0, pods["p1"]["vllm:num_requests_running"]
    )
    assert told(pods) == []


def test_what_moves_at_every_scrape_tells_an_idle_pod_from_a_dead_one() -> None:
    """Its uptime goes on, or it stands still with the rest."""
    pods = fleet()
    idle(pods["p1"])
    for pod in pods.values():
        pod["dynamo_component_uptime_seconds"] = TIMES + 0.5
    assert told(pods) == []
    stop(pods["p1"], "dynamo_component_uptime_seconds")
    assert told(pods) == [("p1", "", STOPPED + STEP, LAST, "clock")]
    stop(pods["p0"], "dynamo_component_uptime_seconds")
    stop(pods["p2"], "dynamo_component_uptime_seconds")
    for pod in ("p0", "p2"):
        stop(pods[pod])
    assert told(pods) == []


def test_a_target_that_does_not_answer_has_no_samples() -> None:
    """What comes all the same repeats, were it a single sample of an idle pod."""
    pods = fleet()
    idle(pods["p1"])
    pods["p1"]["up"] = np.where((TIMES > 5000) & (TIMES < 5060), 0.0, 1.0)
    assert told(pods) == [("p1", "", 5010 - 1e-6, 5055, "up")]
    moving = fleet()
    moving["p1"]["up"] = pods["p1"]["up"]  # of another target, for this one's values move
    assert told(moving) == []


def test_what_is_known_of_unanswered_targets_is_not_read_again() -> None:
    """Of a run that goes on: stretches of before are known, and later ones need later samples alone."""
    pods = fleet()
    idle(pods["p1"])
    down = ((TIMES > 3700) & (TIMES < 3760)) | ((TIMES > 5000) & (TIMES < 5060))
    pods["p1"]["up"] = np.where(down, 0.0, 1.0)
    whole, seam_us = found(pods), BEGIN_US + 4500 * 1_000_000

    def before(samples: Samples) -> SeenBefore:
        known = {
            number: {span: one for span, one in shown.items() if span[1] < seam_us}
            for number, shown in whole.unanswered.items()
        }
        cut = {number: int(np.searchsorted(t_us, seam_us)) for number, t_us, _ in samples}
        ends = {n: (int(t_us[cut[n] - 1]), float(values[cut[n] - 1])) for n, t_us, values in samples}

        def later(wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
            chosen = set(wanted)
            return ((n, t_us[cut[n] :], values[cut[n] :]) for n, t_us, values in samples if n in chosen)

        return SeenBefore(known, ends, later)

    asked: list[int] = []
    now = found(pods, before, asked)
    assert now.table.filter(pl.col("told_by") == "up").height == 2
    assert (now.table.rows(), now.spans, now.unanswered) == (
        whole.table.rows(),
        whole.spans,
        whole.unanswered,
    )
    everything: list[int] = []
    found(pods, asked=everything)
    assert len(everything) - len(asked) == len(whole.unanswered) == 4


@pytest.mark.parametrize("metric", ["vllm:num_requests_running", "vllm:kv_cache_usage_perc"])
def test_one_gauge_that_stands_still_while_its_pod_works_is_frozen(metric: str) -> None:
    """By name; the pod's other series count on."""
    pods = fleet()
    pods["p1"][metric][TIMES == STOPPED] = 0.4 if "kv" in metric else 11.0
    stop(pods["p1"], metric)
    assert told(pods) == [("p1", metric, STOPPED, LAST, "peers")]
    assert len(found(pods).spans) == 1


def test_a_gauge_that_rests_as_long_as_before_is_not_frozen() -> None:
    """A queue that comes in bursts: the last pause is no longer than three times one before."""
    pods = fleet()
    for number, pod in enumerate(pods.values()):
        queue = np.random.default_rng(number).integers(0, 9, TIMES.size).astype(float)
        pod["vllm:num_requests_waiting"] = np.where((TIMES < 2000) | (number != 1), queue, 0.0)
    own = pods["p1"]["vllm:num_requests_waiting"]
    own[(TIMES > 5000) & (TIMES < 5600)] = 3.0
    assert told(pods) == []
