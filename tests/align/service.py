"""A small service made for tests: exact counters of a front end, two prefill and three decode pods."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hs_analysis.align import Aligned, StoredSamples, align
from hs_analysis.catalogue import load_catalogue
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.stage import Ingested, ingest
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.store import Database, series_samples

START = 1767225600
STEP = 30
INPUT, CACHED, OUTPUT = 1000, 200, 150
"""Prompt tokens, those of them found in the cache, and output tokens of each request."""
TTFT_S, TBT_S = 0.5, 0.02
SETTINGS = Settings(slo=Slo(ttft_s=1.0, tbt_s=0.03))

Element = dict[str, Any]


@dataclass
class Scene:
    """The series of a service and the requests behind them, one entry per step."""

    started: np.ndarray
    first_tokens: np.ndarray
    finished: np.ndarray
    elements: list[Element] = field(default_factory=list)

    @property
    def times(self) -> list[int]:
        """Times of the samples [s]."""
        return [START + STEP * i for i in range(self.started.size + 1)]

    def counter(self, name: str, gains: np.ndarray, **labels: str) -> None:
        """Add a counter that begins at 5 and gains so much a step."""
        self.gauge(name, 5 + np.concatenate([[0], np.cumsum(gains)]), **labels)

    def gauge(self, name: str, levels: np.ndarray | float, **labels: str) -> None:
        """Add a gauge with one level a sample."""
        values = np.broadcast_to(np.asarray(levels, dtype=float), (len(self.times),))
        pairs = [[t, repr(float(v))] for t, v in zip(self.times, values, strict=True)]
        self.elements.append({"metric": {"__name__": name, **labels}, "values": pairs})

    def histogram(
        self, name: str, counts: np.ndarray, mean: float, edges: Sequence[str], **labels: str
    ) -> None:
        """Add a histogram all of whose samples lie at the mean."""
        self.counter(f"{name}_sum", counts * mean, **labels)
        self.counter(f"{name}_count", counts, **labels)
        for edge in edges:
            self.counter(f"{name}_bucket", counts * (float(edge) >= mean), le=edge, **labels)


def scene(minutes: int = 120, seed: int = 0) -> Scene:
    """Return a service under a wave of load, one step from arrival to first token and one more to the end."""
    rng = np.random.default_rng(seed)
    steps = minutes * 60 // STEP
    load = 6 + 4 * np.sin(np.arange(steps) * 2 * np.pi / steps)
    started = rng.poisson(load * STEP).astype(float)
    first = np.concatenate([started[:1], started[:-1]])
    made = Scene(started, first, np.concatenate([first[:1], first[:-1]]))
    _front_end(made)
    pods = [("prefill", i) for i in range(2)] + [("decode", i) for i in range(3)]
    for role, number in pods:
        worker(made, role, f"w-{role}-{number}", 2 if role == "prefill" else 3)
    return made


def _front_end(made: Scene) -> None:
    own = {"pod": "front-0", "namespace": "ns", "model": "Big"}
    made.counter("dynamo_frontend_requests_started_total", made.started, **own)
    made.counter("dynamo_frontend_requests_total", made.finished, status="success", **own)
    made.counter("dynamo_frontend_input_sequence_tokens_sum", INPUT * made.first_tokens, **own)
    made.counter("dynamo_frontend_input_sequence_tokens_count", made.first_tokens, **own)
    made.counter("dynamo_frontend_output_sequence_tokens_sum", OUTPUT * made.finished, **own)
    made.counter("dynamo_frontend_output_sequence_tokens_count", made.finished, **own)
    made.counter("dynamo_frontend_output_tokens_total", OUTPUT * made.finished, **own)
    ttft, tbt = "dynamo_frontend_time_to_first_token_seconds", "dynamo_frontend_inter_token_latency_seconds"
    made.histogram(ttft, made.first_tokens, TTFT_S, ("0.25", "1.0", "4.0", "+Inf"), **own)
    made.histogram(tbt, OUTPUT * made.finished, TBT_S, ("0.01", "0.025", "0.05", "+Inf"), **own)


def worker(made: Scene, role: str, pod: str, pool: int) -> None:
    own = {"pod": pod, "namespace": "ns"}
    engine = {**own, "model_name": "big"}
    component = "backend" if role == "decode" else "prefill"
    uptime = STEP * np.arange(len(made.times)) + 0.25
    made.gauge("dynamo_component_uptime_seconds", uptime, dynamo_component=component, **own)
    if role == "prefill":
        computed = (INPUT - CACHED) * made.first_tokens / pool
        made.counter("vllm:prompt_tokens_total", INPUT * made.first_tokens / pool, **engine)
        made.counter("vllm:prompt_tokens_by_source_total", computed, source="local_compute", **engine)
    else:
        made.counter("vllm:generation_tokens_total", OUTPUT * made.finished / pool, **engine)
    made.gauge("vllm:num_requests_waiting", 0.0, **engine)
    made.gauge("vllm:num_requests_running", 2.0, **engine)
    made.gauge("vllm:kv_cache_usage_perc", 0.25 if role == "prefill" else 0.5, **engine)
    gpu = {"exported_pod": pod, "exported_namespace": "ns", "UUID": f"GPU-{pod}", "modelName": "H20"}
    made.gauge("DCGM_FI_DEV_GPU_UTIL", 80.0, **gpu)


def without(elements: Sequence[Element], start: int, end: int) -> list[Element]:
    """Return the series without the samples of a stretch of time."""
    return [{**e, "values": [v for v in e["values"] if not start <= v[0] < end]} for e in elements]


def named(elements: Sequence[Element], *names: str) -> list[Element]:
    """Return the series of these metrics."""
    return [e for e in elements if e["metric"]["__name__"] in names]


def only(elements: Sequence[Element], keep: Callable[[str, dict[str, str]], bool]) -> list[Element]:
    """Return the series that a test on name and labels keeps."""
    return [e for e in elements if keep(e["metric"]["__name__"], e["metric"])]


def write(folder: Path, elements: Sequence[Element], *, prefix: str = "") -> Path:
    """Write one answer per metric, as an export by name would."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted({e["metric"]["__name__"] for e in elements}):
        document = {"status": "success", "data": {"resultType": "matrix", "result": named(elements, name)}}
        (folder / f"{prefix}{name.replace(':', '__')}.json").write_text(json.dumps(document))
    return folder


def put_on_grid(
    folder: Path, source: Path, settings: Settings = SETTINGS, *, threads: int = 1
) -> tuple[Ingested, Aligned]:
    """Ingest a folder of dumps and align it."""
    found = ingest(discover([source]), folder / "data", lambda _name: None)
    return found, on_grid(folder, found, settings, threads=threads)


def on_grid(folder: Path, found: Ingested, settings: Settings, *, threads: int = 1) -> Aligned:
    """Align what was ingested into a folder."""
    samples = folder / "data" / "samples" / "*.parquet"
    with Database(threads=threads) as database, tempfile.TemporaryFile() as scratch:
        stored = StoredSamples(samples, partial(series_samples, samples), scratch)
        return align(found.series, stored, found.quality, load_catalogue(), settings, database.query)


def aligned(folder: Path, elements: Sequence[Element], settings: Settings = SETTINGS) -> Aligned:
    """Write, ingest and align series."""
    return put_on_grid(folder, write(folder / "in", elements), settings)[1]
