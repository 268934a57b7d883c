"""From a trace to the series a Prometheus would have kept of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.engines import View, images, sglang, vllm
from simulator.lives import Life
from simulator.measures import Looks
from simulator.physics import Trace
from simulator.scrapes import Series, Target, gone_s, merged, silent, target
from simulator.surroundings import (
    GPUS,
    GpuExporter,
    dynamo_frontend,
    dynamo_router,
    dynamo_worker,
    gpus,
    image_gateway,
    kubernetes,
    prometheus,
)

Floats = NDArray[np.float64]

NAMESPACE = "prod-llm"
MODEL = "Qwen2.5-72B-Instruct"
GAUGES = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
)
"""Engine gauges that a mislabelled join would take from another service."""


@dataclass(frozen=True)
class Setup:
    """What a cluster exports, and how it is scraped.

    Attributes
    ----------
    engine
        Whose metric names the engines use; `images` are engines that count requests and no tokens.
    frontend, router
        Whether Dynamo's front end is there, and its router's counters too.
    roles_by
        Where the role of a pod can be read: its name, Dynamo's component label, or a pod label (llm-d).
    gpu
        The GPU exporter, None without one.
    step_s
        Scrape interval and step of the range query [s].
    outages
        Times that Prometheus was down for two to seven minutes.
    engine_buckets
        Whether the engines' TTFT buckets were kept.
    sentinel
        Whether one GPU does not support SM activity.
    one_file
        Whether the dump is one answer, not one per metric.
    """

    engine: Literal["vllm", "sglang", "images"] = "vllm"
    frontend: bool = True
    router: bool = False
    roles_by: Literal["pod_name", "dynamo_label", "pod_label"] = "pod_name"
    gpu: GpuExporter | None = field(default_factory=GpuExporter)
    step_s: int = 30
    outages: int = 0
    engine_buckets: bool = False
    sentinel: bool = False
    one_file: bool = False

    @property
    def looks(self) -> Looks:
        """How often scrapes and the GPU exporter look; without an exporter, as a usual one would."""
        return Looks(self.step_s, self.gpu.collect_s) if self.gpu else Looks(self.step_s)


def record(
    trace: Trace, setup: Setup, rng: np.random.Generator, start_unix_s: float, stranger: Trace | None = None
) -> list[Series]:
    """Return every series of a history, sorted by labels.

    Parameters
    ----------
    trace
        What happened.
    setup
        What is exported.
    rng
        Source of scrape offsets, misses, identifiers and outages.
    start_unix_s
        When the history starts [s since 1970 UTC]: pods say when they were created.
    stranger
        Another service with pools of the same size, whose GPU metrics and engine gauges are recorded in
        place of this one's: a join by node or name that went wrong.
    """
    grid = np.arange(0.0, trace.hours * 3600.0 + 0.5, setup.step_s)[1:]
    series: list[Series] = []
    for role, lives in trace.service.lives.items():
        for number, life in enumerate(lives):
            series += _instance(trace, stranger, role, number, life, setup, grid, rng)
    series += _whole_service(trace, setup, grid, start_unix_s, rng)
    return silent(merged(series), grid, _outages(setup.outages, trace.hours, rng))


def _instance(
    trace: Trace,
    stranger: Trace | None,
    role: str,
    number: int,
    life: Life,
    setup: Setup,
    grid: Floats,
    rng: np.random.Generator,
) -> list[Series]:
    stay = trace.stays[role]
    ended = stay.end_s[(stay.life == number) & np.isfinite(stay.end_s)]
    until = gone_s(life, float(ended.max()) if ended.size else 0.0)
    named = np.random.default_rng(zlib.crc32(life.pod.encode()))  # a restarted pod keeps its address and GPUs
    address = f"10.{named.integers(0, 64)}.{named.integers(0, 256)}.{named.integers(1, 255)}"
    node = f"gpu-node-{int(named.integers(100, 999))}"
    place = {
        "namespace": NAMESPACE,
        "pod": life.pod,
        "instance": f"{address}:8000",
        "job": f"{setup.engine}-engine",
    }
    at = target(place, grid, setup.step_s, life.open_s, until, rng)
    series = [*_engine(trace, stranger, role, number, life, setup, at), *prometheus(at, rng)]
    if setup.roles_by == "dynamo_label":
        series += dynamo_worker(trace, role, number, at, f"{int(named.integers(2**52)):016x}")
    if setup.gpu is not None:
        uuids = [f"GPU-{int(named.integers(2**48)):012x}-{gpu}" for gpu in range(GPUS)]
        labels = {
            "Hostname": node, "instance": f"{node}:9400", "job": "dcgm-exporter", "namespace": "gpu-operator",
            "pod": f"nvidia-dcgm-exporter-{node[-3:]}", "exported_namespace": NAMESPACE,
            "exported_pod": life.pod, "exported_container": "engine",
        }  # fmt: skip
        dcgm = target(labels, grid, setup.step_s, life.open_s, until, rng)
        shown = stranger or trace
        series += gpus(shown, role, number, dcgm, uuids, setup.gpu, rng, setup.sentinel and number == 0)
    return series


def _engine(
    trace: Trace, stranger: Trace | None, role: str, number: int, life: Life, setup: Setup, at: Target
) -> list[Series]:
    if setup.engine == "sglang":
        return sglang(View(trace, role, number), at, MODEL)
    if setup.engine == "images":
        return images(View(stranger or trace, role, number), at, MODEL)
    rows = vllm(View(trace, role, number), at, MODEL, old_names=life.old_names, buckets=setup.engine_buckets)
    if stranger is None:
        return rows
    others = {row.labels["__name__"]: row for row in vllm(View(stranger, role, number), at, MODEL)}
    return [others.get(name, row) if (name := row.labels["__name__"]) in GAUGES else row for row in rows]


def _whole_service(
    trace: Trace, setup: Setup, grid: Floats, start_unix_s: float, rng: np.random.Generator
) -> list[Series]:
    forever = (-1.0, trace.hours * 3600.0 + 1.0)
    series: list[Series] = []
    if setup.frontend:
        place = {
            "namespace": NAMESPACE, "pod": "qwen72b-frontend-0", "instance": "10.1.0.7:8000",
            "job": "dynamo-frontend",
        }  # fmt: skip
        at = target(place, grid, setup.step_s, *forever, rng)
        front = image_gateway if setup.engine == "images" else dynamo_frontend
        series += [*front(trace, at, MODEL), *prometheus(at, rng)]
        if setup.router:
            series += dynamo_router(trace, at, MODEL, str(int(rng.integers(2**62))))
    place = {"instance": "10.1.0.9:8080", "job": "kube-state-metrics"}
    at = target(place, grid, setup.step_s, *forever, rng)
    deployments = {role: deployment(role, setup) for role in trace.service.lives}
    return [
        *series,
        *kubernetes(trace, at, NAMESPACE, deployments, setup.roles_by == "pod_label", start_unix_s),
        *prometheus(at, rng),
    ]


def deployment(role: str, setup: Setup) -> str:
    """Return the name of a role's deployment; it names the role only where names are what tells it."""
    if setup.roles_by == "pod_name":
        return f"qwen72b-{role}"
    return "qwen72b-" + {"prefill": "alpha", "decode": "beta", "mixed": "pool"}[role]


def pod_names(role: str, setup: Setup, count: int, rng: np.random.Generator) -> list[str]:
    """Return names of pods as a ReplicaSet gives them."""
    letters = list("bcdfghjklmnpqrstvwxz2456789")
    replica_set = "".join(rng.choice(letters, 9))
    return [
        f"{deployment(role, setup)}-{replica_set}-{''.join(rng.choice(letters, 5))}" for _ in range(count)
    ]


def _outages(count: int, hours: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return when Prometheus was down, one stretch in each equal part of the history."""
    part = hours * 3600.0 / max(count, 1)
    begins = [(k + float(rng.uniform(0.2, 0.8))) * part for k in range(count)]
    return [(begin, begin + float(rng.uniform(120.0, 420.0))) for begin in begins]


def with_gpu(life: Life, gpu: str, slowness: float) -> Life:
    """Return a life on another GPU model."""
    return replace(life, gpu=gpu, slowness=life.slowness * slowness)
