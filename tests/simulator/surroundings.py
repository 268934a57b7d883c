"""What stands around the engines: Dynamo's front end and router, the GPU exporter, Kubernetes and Prometheus.

Quirks kept: Dynamo lower-cases the model, counts prompt tokens at the first token and cached ones at the end,
started requests at once and finished ones at the end. dcgm-exporter reads its GPUs every 30 or 60 s whatever
the scrape interval is, so that values repeat; GPU_UTIL is a whole percentage of the last second, profiling
fields are means since the last reading; an unsupported field is the sentinel 9223372036854775794.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator import histograms as h
from simulator.lives import FOREVER_S, Life
from simulator.physics import Trace
from simulator.readings import collected, misread, sm_activity, utilisation
from simulator.scrapes import Series, Target, counted

Floats = NDArray[np.float64]

SENTINEL = 9223372036854775794.0
"""int64 "blank" of DCGM: the field is not supported here."""

GPUS = 2
"""GPUs of an instance."""


@dataclass(frozen=True)
class GpuExporter:
    """How the GPU exporter of a cluster is set up.

    Attributes
    ----------
    collect_s
        Time between two readings of the GPUs [s].
    delay_s
        Age of the values when they are scraped [s]: a pipeline in between, 0 = none.
    """

    collect_s: int = 30
    delay_s: float = 0.0


def dynamo_frontend(trace: Trace, at: Target, model: str) -> list[Series]:
    """Return the front end's series of a service."""
    name = model.lower()
    who, requests, when = {"model": name}, trace.requests, at.sample_s
    first, end = trace.first_s, trace.end_s
    http = {**who, "endpoint": "completions", "request_type": "stream"}
    role = "mixed" if "mixed" in trace.seconds else "decode"
    numbers = range(len(trace.seconds[role]))
    gaps = h.of_gaps(trace, role, numbers, h.DYNAMO_GAP, when)
    ttft = h.of_events(first, trace.ttft_s, h.DYNAMO_TTFT, when)
    started, finished = counted(requests.time_s, None, when), counted(end, None, when)
    emitted = counted(first, None, when) + gaps.buckets[-1]
    rows = [
        at.series("dynamo_frontend_requests_started_total", started, **http),
        at.series("dynamo_frontend_requests_total", finished, **http, status="success", error_type=""),
        at.series("dynamo_frontend_inflight_requests", started - finished, **who),
        at.series("dynamo_frontend_output_tokens_total", emitted, **who),
        at.series("dynamo_frontend_input_sequence_tokens_sum", counted(first, requests.prompt, when), **who),
        at.series("dynamo_frontend_input_sequence_tokens_count", counted(first, None, when), **who),
        at.series("dynamo_frontend_output_sequence_tokens_sum", counted(end, requests.output, when), **who),
        at.series("dynamo_frontend_output_sequence_tokens_count", finished, **who),
        at.series("dynamo_frontend_cached_tokens_sum", counted(end, requests.cached, when), **who),
        at.series("dynamo_frontend_cached_tokens_count", finished, **who),
        *h.families(at, "dynamo_frontend_time_to_first_token_seconds", ttft, h.DYNAMO_TTFT, "rust", **who),
        *h.families(at, "dynamo_frontend_inter_token_latency_seconds", gaps, h.DYNAMO_GAP, "rust", **who),
    ]
    for phase, stay in trace.stays.items():
        stage = {"phase": "aggregated" if phase == "mixed" else phase, "stage": "dispatch"}
        left = stay.start_s if phase == "decode" else first
        inside = counted(stay.enter_s, None, when) - counted(left, None, when)
        rows.append(at.series("dynamo_frontend_stage_requests", inside, **stage))
    return rows


SMALL, LARGE = "512x512", "1024x1024"
"""Sizes of an image, of which the large ones are those with more than the usual work."""


def image_gateway(trace: Trace, at: Target, model: str) -> list[Series]:
    """Return the series of a gateway in front of a pool that makes images: requests by size, and no tokens.

    Its counter of images asked for is no catalogued one; the others are Dynamo's.
    """
    requests, when, who = trace.requests, at.sample_s, {"model": model.lower()}
    http = {**who, "endpoint": "images", "request_type": "unary"}
    large = requests.prompt > float(np.mean(requests.prompt))
    started, finished = counted(requests.time_s, None, when), counted(trace.end_s, None, when)
    return [
        at.series("dynamo_frontend_requests_started_total", started, **http),
        at.series("dynamo_frontend_requests_total", finished, **http, status="success", error_type=""),
        at.series("dynamo_frontend_inflight_requests", started - finished, **who),
        *(
            at.series(
                "gateway_images_asked_total", counted(requests.time_s[of], None, when), **who, resolution=size
            )
            for size, of in ((SMALL, ~large), (LARGE, large))
        ),
    ]


def dynamo_router(trace: Trace, at: Target, model: str, router_id: str) -> list[Series]:
    """Return the router's count of prompt tokens at arrival, one set per phase."""
    requests, when, rows = trace.requests, at.sample_s, []
    for phase, component in (("prefill", "prefill"), ("decode", "backend")):
        if phase not in trace.stays:
            continue
        who = {
            "model": model.lower(),
            "phase": phase,
            "router_id": router_id,
            "dynamo_component": component,
            "dynamo_namespace": "dynamo",
        }
        moment = requests.time_s if phase == "prefill" else trace.first_s
        name = "dynamo_component_router_input_sequence_tokens"
        rows += [
            at.series(f"{name}_sum", counted(moment, requests.prompt, when), **who),
            at.series(f"{name}_count", counted(moment, None, when), **who),
        ]
    return rows


def dynamo_worker(trace: Trace, role: str, number: int, at: Target, worker_id: str) -> list[Series]:
    """Return what a Dynamo worker adds to its engine's series: requests in flight and uptime."""
    component = {"prefill": "prefill", "decode": "backend", "mixed": "backend"}[role]
    who = {"dynamo_component": component, "dynamo_namespace": "dynamo", "worker_id": worker_id}
    stay, life = trace.stays[role], trace.service.lives[role][number]
    own = stay.life == number
    inside = counted(stay.enter_s[own], None, at.sample_s) - counted(stay.end_s[own], None, at.sample_s)
    uptime = np.maximum(np.round(at.sample_s - life.open_s, 3), 0.0)
    return [
        at.series("dynamo_component_inflight_requests", inside, **who, dynamo_endpoint="generate"),
        at.series("dynamo_component_uptime_seconds", uptime, worker_id=worker_id),
    ]


def gpus(
    trace: Trace,
    role: str,
    number: int,
    at: Target,
    uuids: list[str],
    exporter: GpuExporter,
    rng: np.random.Generator,
    sentinel: bool,
) -> list[Series]:
    """Return the GPU series of an instance; with ``sentinel`` its last GPU does not support SM activity.

    ``at`` is the exporter on the instance's node, labelled with the pod that uses the GPU.
    """
    life = trace.service.lives[role][number]
    seconds = trace.seconds[role][number]
    phase = int(rng.integers(exporter.collect_s, 2 * exporter.collect_s))
    looks, busy = collected(utilisation(seconds, role), exporter.collect_s, phase, 1)
    _, active = collected(
        sm_activity(seconds, role, trace.service), exporter.collect_s, phase, exporter.collect_s
    )
    index = np.searchsorted(seconds.first + looks, at.sample_s - exporter.delay_s, side="right") - 1
    seen = Target(at.labels, at.sample_s, at.there & (index >= 0), at.missed)
    index = np.clip(index, 0, max(looks.size - 1, 0))
    rows: list[Series] = []
    if looks.size == 0:
        return rows
    for gpu, uuid in enumerate(uuids):
        who = {"gpu": str(gpu), "UUID": uuid, "device": f"nvidia{gpu}", "modelName": life.gpu}
        util = np.round(100.0 * misread(busy, rng))
        sm = np.round(active * (1.0 + 0.01 * rng.standard_normal(active.size)), 6)
        if sentinel and gpu == len(uuids) - 1:
            sm = np.full(sm.size, SENTINEL)
        rows += [
            seen.series("DCGM_FI_DEV_GPU_UTIL", util[index], **who),
            seen.series("DCGM_FI_PROF_SM_ACTIVE", sm[index], **who),
        ]
    return rows


def kubernetes(
    trace: Trace,
    at: Target,
    namespace: str,
    deployments: dict[str, str],
    pod_roles: bool,
    start_unix_s: float,
) -> list[Series]:
    """Return kube-state-metrics' series: ready and wanted replicas, pods' creation, restarts and labels.

    Pods carry labels only where these name the role. A pod is known from its creation [s since 1970], before
    it is ready.
    """
    rows, when = [], at.sample_s
    for role, deployment in deployments.items():
        lives = trace.service.lives[role]
        there = [(when >= life.open_s) & (when < life.close_s) for life in lives]
        ready = np.asarray(np.sum(there, axis=0), dtype=float)
        who = {"namespace": namespace, "deployment": deployment}
        rows.append(at.series("kube_deployment_status_replicas_ready", ready, **who))
        rows.append(at.series("kube_deployment_spec_replicas", _wanted(lives, when), **who))
        for pod in sorted({life.pod for life in lives}):
            own = [life for life in lives if life.pod == pod]
            begin, end = min(life.open_s for life in own), max(life.close_s for life in own)
            alive = (when >= begin) & (when < end if end < FOREVER_S else True)
            seen = Target(at.labels, when, at.there & alive, at.missed)
            again = np.sum([(when >= life.open_s) & (life.restarts > 0) for life in own], axis=0).astype(
                float
            )
            pod_of = {"namespace": namespace, "pod": pod}
            created = min(life.asked_s for life in own)
            known = Target(at.labels, when, at.there & (when >= created) & (when < end), at.missed)
            since = np.full(when.size, np.floor(start_unix_s + created))
            rows.append(known.series("kube_pod_created", since, **pod_of))
            rows.append(
                seen.series("kube_pod_container_status_restarts_total", again, **pod_of, container="engine")
            )
            if pod_roles:
                value = {"mixed": "both"}.get(role, role)
                rows.append(
                    seen.series("kube_pod_labels", np.ones(when.size), **pod_of, label_llm_d_ai_role=value)
                )
    return rows


def _wanted(lives: tuple[Life, ...], when: Floats) -> Floats:
    """Return the pods asked for: a restart asks for none, nor does a roll-out."""
    rolled = any(life.old_names for life in lives)
    pods: dict[str, list[Life]] = {}
    for life in lives:
        pods.setdefault(life.pod, []).append(life)
    asked = [
        (when >= min(life.open_s if rolled else life.asked_s for life in own))
        & (when < max(life.close_s for life in own))
        for own in pods.values()
    ]
    return np.asarray(np.sum(asked, axis=0), dtype=float)


def prometheus(at: Target, rng: np.random.Generator) -> list[Series]:
    """Return what Prometheus itself writes for a target: up and the time a scrape took."""
    took = np.round(0.012 * np.exp(0.25 * rng.standard_normal(at.sample_s.size)), 9)
    known = Target(at.labels, at.sample_s, at.there, np.zeros_like(at.missed))
    return [
        known.series("up", np.where(at.missed, 0.0, 1.0)),
        known.series("scrape_duration_seconds", np.where(at.missed, 10.0, took)),
    ]
