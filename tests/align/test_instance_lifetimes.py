"""When instances start, are ready, serve and end, from whatever series speak of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from hs_analysis.align.instance_lifetimes import InstanceLifetimes, lifetime_signs
from hs_analysis.align.terms import TERM_COLUMNS
from hs_analysis.catalogue import load_catalogue
from hs_analysis.schema.frames import SERIES, empty

STEP = 15.0
BEGIN = 1_767_225_600.0
HOUR = np.arange(0.0, 3600.0, STEP)

Sampled = tuple[str, str, str, Sequence[float], Sequence[float] | float]
"""Instance, metric, what it tells, moments [s after the beginning] and values."""


def lives(samples: Iterable[Sampled], *, roles: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the lives, moments in seconds after the beginning."""
    rows, series = [], []
    for number, (instance, metric, tells, times, values) in enumerate(samples):
        role = (roles or {}).get(instance, "decode")
        rows.append((number, "s", "", role, instance, metric, STEP, tells))
        t = np.asarray(times, float)
        series.append((t + BEGIN, np.broadcast_to(np.asarray(values, float), t.shape)))
    columns = ("series_id", "service", "capture", "role", "instance", "metric", "interval_s", "tells")
    told = pl.DataFrame(rows, schema=list(columns), orient="row")
    watch = InstanceLifetimes(told, dict.fromkeys(range(len(rows)), ""), STEP)
    for number, (t_s, values) in enumerate(series):
        watch.add(number, t_s, values)
    moments = ("started", "ready", "served", "ended")
    table = watch.table().with_columns(pl.col(name).dt.epoch("us") / 1e6 - BEGIN for name in moments)
    return table.select("instance", "life", "started_by", "ended_by", *moments).to_dicts()


def of(found: list[dict[str, Any]], instance: str) -> list[tuple[Any, ...]]:
    """Return (started, by, ready, served, ended, by) of each life of an instance."""
    names = ("started", "started_by", "ready", "served", "ended", "ended_by")
    return [tuple(row[name] for name in names) for row in found if row["instance"] == instance]


def steady(instance: str = "old") -> Sampled:
    """Return an instance that is there all the time."""
    return (instance, "tokens_total", "work", HOUR, 10.0 + HOUR)


THERE = (None, None, None, None, None, None)
"""The only life of an instance that was there from start to end."""


def test_an_instance_that_was_there_has_neither_start_nor_end() -> None:
    """A target whose first scrape comes late is not new."""
    late = HOUR[HOUR >= 60.0]
    found = lives([steady(), ("slow", "running", "sample", late, 1.0)])
    assert of(found, "old") == [THERE]
    assert of(found, "slow") == [THERE]


@pytest.mark.parametrize("tells", ["work", "counter"])
def test_a_target_that_waits_for_its_instance_tells_the_start(tells: str) -> None:
    """Up is 0 from the tenth minute, 1 from the thirteenth; whatever it counts shows that it serves."""
    alive = HOUR[HOUR >= 780.0]
    found = lives(
        [
            steady(),
            ("new", "up", "up", HOUR[HOUR >= 600.0], (HOUR[HOUR >= 600.0] >= 780.0).astype(float)),
            ("new", "requests_total", tells, alive, np.maximum(0.0, alive - 810.0)),
        ]
    )
    assert of(found, "new") == [(600.0, "up", 780.0, 825.0, None, None)]


def test_gauges_alone_show_when_an_instance_came_and_went() -> None:
    """Nothing counts its work: it is known when it was there, not when it served."""
    own = HOUR[(HOUR >= 600.0) & (HOUR <= 1800.0)]
    found = lives([steady(), ("gpu", "running", "sample", own, 1.0)])
    assert of(found, "gpu") == [(600.0, "series", 600.0, None, 1800.0, "series")]


def test_a_process_tells_when_it_started() -> None:
    """By its start or its uptime; one older than the recording was there before, its metrics came late."""
    own = HOUR[HOUR >= 600.0]
    found = lives(
        [
            steady(),
            ("a", "process_start_time_seconds", "process", own, BEGIN + 480.0),
            ("b", "uptime_seconds", "uptime", own, own - 500.0),
            ("c", "uptime_seconds", "uptime", own, own + 9000.0),
        ]
    )
    assert of(found, "a") == [(480.0, "process", 600.0, None, None, None)]
    assert of(found, "b") == [(500.0, "process", 600.0, None, None, None)]
    assert of(found, "c") == [THERE]


def test_counters_that_begin_anew_are_another_life() -> None:
    """Up at 0 in between is how it ended; without it the fall of the counters is."""
    own = HOUR[(HOUR < 1200.0) | (HOUR >= 1245.0)]
    counted = np.where(own < 1200.0, 5.0 + own, own - 1240.0)
    up = ("a", "up", "up", HOUR, ((HOUR < 1200.0) | (HOUR >= 1245.0)).astype(float))
    found = lives([steady(), ("a", "tokens_total", "work", own, counted), up])
    assert of(found, "a") == [
        (None, None, None, None, 1185.0, "up"),
        (1245.0, "reset", 1245.0, 1245.0, None, None),
    ]
    at_once = lives(
        [steady(), ("a", "tokens_total", "work", HOUR, np.where(HOUR < 1200.0, HOUR, HOUR - 1200.0))]
    )
    assert [row[-1] for row in of(at_once, "a")] == ["reset", None]


def test_a_scrape_that_failed_is_no_end() -> None:
    """The counters count on after it, and after a pause of minutes."""
    own = HOUR[(HOUR < 1200.0) | (HOUR >= 1500.0)]
    up = ("a", "up", "up", HOUR, ((HOUR < 1200.0) | (HOUR >= 1500.0)).astype(float))
    assert of(lives([steady(), ("a", "tokens_total", "work", own, 5.0 + own), up]), "a") == [THERE]
    last = ("a", "up", "up", HOUR, (HOUR[-1] > HOUR).astype(float))
    found = lives([steady(), ("a", "tokens_total", "work", HOUR[:-1], 5.0 + HOUR[:-1]), last])
    assert of(found, "a") == [THERE]


def test_one_counter_that_falls_among_others_is_no_restart() -> None:
    """A counter may be written anew; a process that starts again takes all of its counters along."""
    falls = np.where(HOUR < 1200.0, HOUR, HOUR - 1200.0)
    others = [("a", f"c{n}_total", "counter", HOUR, 5.0 + HOUR) for n in range(3)]
    assert of(lives([("a", "tokens_total", "work", HOUR, falls), *others]), "a") == [THERE]


def test_series_under_a_new_identity_are_another_life() -> None:
    """As where worker_id is a label: no counter falls, all of them end and others begin."""
    before, after = HOUR[HOUR < 1200.0], HOUR[HOUR >= 1245.0]
    found = lives(
        [
            steady(),
            ("a", "requests_total", "counter", before, 1.0 + before),
            ("a", "requests_total", "counter", after, after - 1245.0),
        ]
    )
    assert of(found, "a") == [
        (None, None, None, None, 1185.0, "reset"),
        (1245.0, "reset", 1245.0, 1260.0, None, None),
    ]


def test_a_name_that_comes_back_after_long_lives_twice() -> None:
    """Pods of a stateful set are scaled in and out under one name."""
    own = HOUR[(HOUR < 900.0) | (HOUR >= 2700.0)]
    found = lives([steady(), ("pod-3", "running", "sample", own, 1.0)])
    assert of(found, "pod-3") == [
        (None, None, None, None, 885.0, "series"),
        (2700.0, "series", 2700.0, None, None, None),
    ]


def test_what_nobody_recorded_is_no_end() -> None:
    """A gap of the whole capture, and an export that holds a pool for a shorter time than the rest."""
    own = HOUR[(HOUR < 900.0) | (HOUR >= 2700.0)]
    gap = [("a", "running", "sample", own, 1.0), ("b", "running", "sample", own, 1.0)]
    assert of(lives(gap), "a") == [THERE]
    short = HOUR[HOUR < 1800.0]
    cut = [("a", "running", "sample", short, 1.0), ("b", "running", "sample", short, 1.0)]
    found = lives([steady(), *cut], roles={"old": "prefill"})
    assert of(found, "a") == of(found, "b") == [THERE]


def test_a_target_that_answers_no_more_has_ended() -> None:
    """All of a pool may die at once: then up says so."""
    short = HOUR[HOUR < 1800.0]
    up = (HOUR < 1800.0).astype(float)
    dead = [
        sample
        for name in "ab"
        for sample in ((name, "running", "sample", short, 1.0), (name, "up", "up", HOUR, up))
    ]
    found = lives([steady(), *dead], roles={"old": "prefill"})
    assert of(found, "a") == of(found, "b") == [(None, None, None, None, 1785.0, "up")]


def test_every_series_of_an_instance_is_a_sign_of_it() -> None:
    """But not what Prometheus or a rule says of one, nor buckets; a GPU where it is alone."""
    rows = [
        ("up", "prometheus", "gauge"), ("scrape_duration_seconds", "prometheus", "gauge"),
        ("pod:tokens:rate5m", "prometheus", "gauge"), ("my_gauge", "prometheus", "gauge"),
        ("kube_pod_created", "ksm", "gauge"), ("kube_pod_info", "ksm", "gauge"),
        ("dynamo_component_requests_total", "dynamo_worker", "counter"),
        ("dynamo_component_request_seconds_bucket", "dynamo_worker", "counter"),
        ("dynamo_component_uptime_seconds", "dynamo_worker", "gauge"),
        ("process_start_time_seconds", "prometheus", "gauge"), ("DCGM_FI_DEV_GPU_UTIL", "dcgm", "gauge"),
    ]  # fmt: skip
    plain = {
        "labels": [], "signal": None, "emitter_role": "prefill", "role_evidence": "", "service": "s",
        "unit_kind": "pod", "gpu_type": None, "unit": None, "interval_s": STEP, "capture": "",
    }  # fmt: skip
    made = [
        {**plain, "series_id": n, "metric": metric, "source": source, "kind": kind, "instance": "p0"}
        for n, (metric, source, kind) in enumerate(rows)
    ]
    alone = {**made[-1], "series_id": len(made), "instance": "p1"}
    series = pl.DataFrame([*made, alone], schema=empty(SERIES).schema)
    told = lifetime_signs(series, pl.DataFrame(schema=TERM_COLUMNS), load_catalogue(), STEP)
    assert dict(told.filter(pl.col("instance") == "p0").select("metric", "tells").iter_rows()) == {
        "up": "up", "my_gauge": "sample", "kube_pod_created": "created",
        "dynamo_component_requests_total": "counter", "dynamo_component_uptime_seconds": "uptime",
        "process_start_time_seconds": "process",
    }  # fmt: skip
    assert told.filter(pl.col("instance") == "p1")["metric"].to_list() == ["DCGM_FI_DEV_GPU_UTIL"]
