"""Instances that come inside the window: when they were asked for and when they first served."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from align.service import SETTINGS, START, STEP, Element, Scene, aligned, only, put_on_grid, scene, worker
from align.service import write as write_series
from simulator import history, kind_of, write

from hs_analysis.align.instance_lifetimes import _matched, instance_startups
from hs_analysis.schema.frames import LIVES, empty
from hs_analysis.schema.settings import Excluded

BORN = {"w-decode-3": 20, "w-decode-4": 40, "w-prefill-2": 60}
"""Minute at which each new pod's first sample lies."""

ASKED_BEFORE_S = 250
LATE = 2
"""Steps between a pod's first sample and its first token."""


def grown(*, pods: bool = True, replicas: bool = True) -> list[Element]:
    """Return the service with three pods that came, and what Kubernetes says of them."""
    made = scene()
    for pod, minute in BORN.items():
        role, begin = pod.split("-")[1], minute * 60 // STEP
        before = len(made.elements)
        worker(made, role, pod, 6)
        for element in made.elements[before:]:
            name, values = element["metric"]["__name__"], element["values"]
            if "uptime" in name:
                values = [[t, repr(float(v) - begin * STEP)] for t, v in values]
            if name.endswith("_total"):  # a process starts at zero and has work after two steps
                at = begin + LATE
                level = [float(v) - float(values[at - 1][1]) for _, v in values]
                values = [[t, repr(max(0.0, x))] for (t, _), x in zip(values, level, strict=True)]
            element["values"] = values[begin:]
        if pods:
            asked = START + minute * 60 - ASKED_BEFORE_S
            made.gauge("kube_pod_created", float(asked), pod=pod, namespace="ns")
    if replicas:
        _replicas(made)
    return made.elements


def _replicas(made: Scene) -> None:
    """Add the wanted replicas: each raised in the first sample after the asking."""
    times = np.array(made.times)
    for role, count in (("prefill", 2), ("decode", 3)):
        own = [m for pod, m in BORN.items() if role in pod]
        raised = sum((times >= START + minute * 60 - ASKED_BEFORE_S).astype(float) for minute in own)
        made.gauge("kube_deployment_spec_replicas", count + raised, deployment=f"w-{role}", namespace="ns")


def births(folder: Path, elements: list[Element]) -> list[tuple[object, ...]]:
    """Return (instance, asked, by, first sample, first served) in seconds after the start."""
    table = aligned(folder, elements).births.with_columns(
        pl.col("asked", "first_sample", "first_served").dt.epoch("us") / 1e6 - START
    )
    assert (table["resolution_s"] == STEP).all()
    return table.select("instance", "asked", "asked_by", "first_sample", "first_served").rows()


def test_a_pod_counts_from_its_creation_to_its_first_token(tmp_path: Path) -> None:
    """Pods that were there from the start are no births."""
    found = births(tmp_path, grown())
    assert found == [
        (pod, 60 * at - ASKED_BEFORE_S, "pod_created", 60 * at, 60 * at + LATE * STEP)
        for pod, at in BORN.items()
    ]


def test_the_rise_of_the_wanted_replicas_stands_in(tmp_path: Path) -> None:
    """Its sample is the first at or after the asking."""
    found = births(tmp_path, grown(pods=False))
    assert [(pod, asked, by) for pod, asked, by, *_ in found] == [
        (pod, 60 * at - ASKED_BEFORE_S + 10, "replicas") for pod, at in BORN.items()
    ]


def test_without_either_nothing_is_said_of_the_asking(tmp_path: Path) -> None:
    """Births are seen all the same."""
    found = births(tmp_path, only(grown(pods=False, replicas=False), lambda name, _: "uptime" not in name))
    assert [(pod, asked, by) for pod, asked, by, *_ in found] == [(pod, None, None) for pod in BORN]


def test_an_instance_found_after_a_gap_is_no_birth(tmp_path: Path) -> None:
    """When Prometheus was down nobody knows when it came."""
    gap = (START + 18 * 60, START + 21 * 60)
    elements = [
        {**e, "values": [v for v in e["values"] if not gap[0] <= v[0] < gap[1]]} for e in grown(pods=False)
    ]
    assert [pod for pod, *_ in births(tmp_path, elements)] == list(BORN)[1:]


def test_a_pod_older_than_the_dump_is_no_birth(tmp_path: Path) -> None:
    """Its metrics came late, as when a monitor is set up; counted from its creation it took for ever."""
    made = grown(pods=False)
    old = {"__name__": "kube_pod_created", "pod": "w-decode-3", "namespace": "ns"}
    made.append({"metric": old, "values": [[t, repr(float(START - 7200))] for t, _ in made[0]["values"]]})
    found = births(tmp_path, made)
    assert [(pod, by) for pod, _, by, *_ in found] == [
        ("w-decode-4", "replicas"),
        ("w-prefill-2", "replicas"),
    ]


def test_what_the_user_leaves_out_holds_no_birth(tmp_path: Path) -> None:
    """A load test or an incident."""
    settings = replace(SETTINGS, excluded=(Excluded("2026-01-01T00:30:00Z", "2026-01-01T00:50:00Z"),))
    _, found = put_on_grid(tmp_path, write_series(tmp_path / "in", grown()), settings)
    assert found.births["instance"].to_list() == ["w-decode-3", "w-prefill-2"]


def test_requests_are_answered_in_their_order_and_can_be_taken_back() -> None:
    """What is asked for at 10 and 20 and taken back at 25 leaves the first; an end asks for nothing."""
    changes = pl.DataFrame({"at_s": [10.0, 20.0, 25.0, 60.0, 100.0], "change": [1.0, 2.0, -1.0, -3.0, 1.0]})
    born = pl.DataFrame({"first_sample_s": [40.0, 50.0, 55.0, 130.0], "instance": ["a", "b", "c", "d"]})
    assert list(_matched(born, changes)) == [("a", 40.0, 10.0), ("b", 50.0, 20.0), ("d", 130.0, 100.0)]


def test_which_lives_are_births() -> None:
    """One that came, or came back after long; no restart in its place, no unrecorded start, no idler."""
    at = [datetime.fromtimestamp(START + 60 * minute, UTC) for minute in range(10)]
    plain = dict.fromkeys(LIVES.names) | {
        "service": "s", "capture": "", "role": "prefill", "life": 1, "started": at[2], "started_by": "up",
        "ready": at[5], "watched": True, "served": at[6], "resolution_s": 30.0,
    }  # fmt: skip
    rows = [
        {"instance": "came"},
        {"instance": "made", "created": at[1]},
        {"instance": "process", "started_by": "process"},
        {"instance": "seen", "started_by": "series", "started": at[5]},
        {"instance": "back", "life": 2, "away_s": 600.0},
        {"instance": "again", "life": 2, "away_s": 45.0, "started_by": "reset"},
        {"instance": "late", "watched": False},
        {"instance": "idle", "served": None},
    ]
    lives = pl.DataFrame([plain | row for row in rows], schema=empty(LIVES).schema)
    terms = pl.DataFrame(schema={"signal": pl.String, "gpu_group": pl.String})
    found = instance_startups(lives, None, terms, lambda *_: pl.DataFrame())
    assert found.select("instance", "asked", "asked_by").rows() == [
        ("back", at[2], "target"), ("came", at[2], "target"), ("made", at[1], "pod_created"),
        ("process", at[2], "process"), ("seen", None, None),
    ]  # fmt: skip


@pytest.mark.slow
def test_births_of_a_simulated_pool_are_the_scalers(tmp_path: Path) -> None:
    """Every pod the tracker added, asked for four minutes before it was ready."""
    kind = kind_of("autoscaled")
    made = history(replace(kind, hours=5.0, load=replace(kind.load, first_hour=6.0)), 5)
    write(made, tmp_path / "in")
    _, found = put_on_grid(tmp_path, tmp_path / "in")
    table = found.births
    lives = {x.pod: x for pool in made.trace.service.lives.values() for x in pool if x.open_s > 150.0}
    assert set(table["instance"]) == {pod for pod, x in lives.items() if x.open_s < 5 * 3600 - 60}
    spans = (table["first_served"] - table["asked"]).dt.total_seconds().to_numpy()
    assert table.height >= 3
    assert ((spans >= made.startup_s) & (spans <= made.startup_s + 2 * kind.setup.step_s + 5)).all()
