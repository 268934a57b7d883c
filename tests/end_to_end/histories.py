"""Seeded histories without dump files: an aligned service made from numbers, and every stage behind it.

Over-provisioned days, days near and beyond the limit, a drifting mix, short histories, single pools, pressure
tests, with and without an SLO and start-up times: what an answer is made of, at a hundredth of the cost of
dumps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from derive.synthetic import Service, day_frame, step_test, with_columns
from export.scenes import series_frame

from hs_analysis.align import Aligned, ServiceFacts
from hs_analysis.pipeline import policy_stages, report_stages, study_stages, tables
from hs_analysis.pipeline.doctor_stage import DOCTOR_FILE
from hs_analysis.pipeline.ingest_stages import INPUTS_FILE
from hs_analysis.pipeline.select_stage import select_policies
from hs_analysis.pipeline.stages import Silent, Work
from hs_analysis.pipeline.tables import write_aligned
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.frames import BIRTHS, DISAGREEMENTS, INSTANCES, LIVES, SIGNALS, empty
from hs_analysis.schema.settings import Settings, Slo

DRAWS = 40
"""Bootstrap draws: the laws hold at any number of them."""

METRICS = {
    "decode": ("vllm:generation_tokens_total", "DCGM_FI_DEV_GPU_UTIL"),
    "prefill": ("vllm:prompt_tokens_total", "vllm:prompt_tokens_by_source_total", "DCGM_FI_DEV_GPU_UTIL"),
    "mixed": ("vllm:generation_tokens_total", "vllm:prompt_tokens_total"),
}
"""Metrics that the pods of a role show, so that signals have queries."""

SOURCES = {"decode_tps": "vllm", "prefill_tps": "vllm", "prefill_tps_effective": "vllm", "gpu_util": "dcgm"}


@dataclass(frozen=True)
class Seeded:
    """What one seed makes: the aligned service and the settings of its run."""

    frame: ServiceFrame
    settings: Settings


def seeded(seed: int) -> Seeded:
    """Return a history; neighbouring seeds differ in kind, so that few seeds see all kinds."""
    rng = np.random.default_rng([seed, 15])
    kind = ("roomy", "near", "over", "moving_mix", "uneven", "short", "mixed", "pressure_test")[seed % 8]
    sizes = Service(prefill=int(rng.integers(2, 12)), decode=int(rng.integers(2, 10)))
    peaks = {
        "roomy": (0.45, 0.75), "near": (0.9, 1.02), "over": (1.05, 1.3), "moving_mix": (0.6, 1.1),
        "uneven": (0.4, 1.2), "short": (0.7, 1.1), "mixed": (0.6, 1.2), "pressure_test": (0.8, 1.2),
    }[kind]  # fmt: skip
    prefill, decode = rng.uniform(*peaks, 2)
    if kind == "pressure_test":
        frame = step_test(seed, top=float(prefill), minutes=float(rng.uniform(20, 40)))
    else:
        frame = day_frame(
            seed, prefill_peak=float(prefill), decode_peak=float(decode), service=sizes,
            hours=_hours(seed, kind, rng),
            mix_drift=float(rng.uniform(0.2, 0.6)) if kind == "moving_mix" else 0.0,
            low=float(rng.uniform(0.2, 0.6)), wander_sd=float(rng.uniform(0.02, 0.12)),
        )  # fmt: skip
    frame = _counts_moved(frame, rng) if seed % 3 == 0 else frame
    frame = _single_pool(frame) if kind == "mixed" else frame
    slo = Slo() if seed % 11 == 10 else Slo(ttft_s=2.5, tbt_s=0.05)
    startup = {} if seed % 5 == 4 else {role: float(rng.integers(60, 600)) for role in frame.pools}
    history = "pressure_test" if kind == "pressure_test" else "production"
    settings = Settings(slo=slo, startup_s=startup, history_kind=history, draws=DRAWS)
    return Seeded(_with_sources(frame), settings)


def _hours(seed: int, kind: str, rng: np.random.Generator) -> float:
    """Return a length: too short for a held part, about a day, three days and more in some later seeds."""
    if kind == "short":
        return float(rng.uniform(3, 8))
    return float(rng.uniform(75, 100) if seed >= 8 and seed % 16 in (0, 9) else rng.uniform(14, 26))


def _counts_moved(frame: ServiceFrame, rng: np.random.Generator) -> ServiceFrame:
    """Return the frame with pools of which one more or less ran in stretches of hours."""
    columns = {}
    for role in frame.pools:
        counts = frame.values("instances", role)
        steps = np.repeat(rng.integers(0, 2, counts.size // 180 + 1), 180)[: counts.size]
        columns[f"instances@{role}"] = counts + steps
    return with_columns(frame, columns)


def _single_pool(frame: ServiceFrame) -> ServiceFrame:
    """Return the frame as one pool that does prefill and decode."""
    names = {
        name: name.replace("@decode", "@mixed") for name in frame.table.columns if name.endswith("@decode")
    }
    kept = [n for n in frame.table.columns if not n.endswith("@prefill")]
    infos = tuple(
        replace(one, role="mixed" if one.role == "decode" else one.role)
        for one in frame.signals
        if one.role != "prefill"
    )
    return replace(frame, table=frame.table.select(kept).rename(names), signals=infos)


def _with_sources(frame: ServiceFrame) -> ServiceFrame:
    infos = tuple(replace(one, source=SOURCES.get(one.signal, one.source)) for one in frame.signals)
    return replace(frame, signals=infos)


def answered(made: Seeded, folder: Path) -> Path:
    """Run every stage behind alignment on a history, into a folder as a run leaves it."""
    frame, settings = made.frame, made.settings
    _write_inputs(frame, folder)
    work = Work(folder, folder, settings, (), (), "0123456789ab", "0" * 64, Silent())
    for stage in (
        study_stages.study_signals, study_stages.derive_numbers,
        select_policies, policy_stages.replay_policies,
        policy_stages.write_policies, report_stages.export_policies, report_stages.write_report,
    ):  # fmt: skip
        stage(work)
    return folder


def _write_inputs(frame: ServiceFrame, folder: Path) -> None:
    """Write what ingest, align and doctor would have left of a service."""
    long = frame.table.unpivot(
        [c for c in frame.table.columns if "@" in c], index=["capture", "t"], variable_name="name"
    )
    parts = pl.col("name").str.split("@")
    signals = long.with_columns(
        service=pl.lit(frame.service), signal=parts.list.get(0), role=parts.list.get(1),
        source=pl.lit("vllm"), gpu_type=pl.lit(None, pl.String), window_s=pl.lit(frame.window_s),
        instances=pl.lit(1.0), coverage=pl.lit(1.0),
    )  # fmt: skip
    contract = empty(SIGNALS)
    aligned = Aligned(
        (frame,), signals.select(contract.columns).cast(dict(contract.schema)), (_facts(frame),), (),
        disagreements=empty(DISAGREEMENTS), lives=empty(LIVES), births=empty(BIRTHS),
        instances=empty(INSTANCES),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    write_aligned(folder, aligned)
    rows = [
        {
            "metric": metric, "emitter_role": role, "service": frame.service, "unit_kind": "pod",
            "labels": {"namespace": "shop", "model_name": "chat", "pod": f"{role}-{n}", "job": f"vllm-{role}",
                       "source": "local_compute"},
        }
        for role in frame.pools for n in range(2) for metric in METRICS[role]
    ]  # fmt: skip
    tables.write_frames(folder, "series", [series_frame(rows)])
    counts: Mapping[str, object] = dict.fromkeys(
        (
            "rows_read",
            "rows_stored",
            "duplicates",
            "superseded",
            "rows_rejected",
            "series",
            "requests",
            "bench",
        ),
        0,
    ) | {"skipped": [], "broken": [], "warnings": []}
    tables.write_json(folder, INPUTS_FILE, {"files": [], "counts": counts, "plan": []})
    tables.write_json(folder, DOCTOR_FILE, {"signals": [], "missing": [], "needs": []})


def _facts(frame: ServiceFrame) -> ServiceFacts:
    return ServiceFacts(frame.service, None, None, None, None, None)


def summary_of(folder: Path) -> dict[str, object]:
    """Return summary.json of a run folder."""
    found: dict[str, object] = json.loads((folder / "summary.json").read_text("utf-8"))
    return found
