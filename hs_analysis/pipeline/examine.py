"""What the input is worth: the stage doctor."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from hs_analysis.doctor import Scene, diagnose, inventory, missing_signals
from hs_analysis.ingest.identity import joined_pod_labels
from hs_analysis.ingest.versions import version_changes
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.frames import read_entries, read_frames
from hs_analysis.pipeline.gather import (
    DISAGREEMENTS_FILE,
    FROZEN_FILE,
    INPUTS_FILE,
    catalogue_of,
    quality_within,
    samples_within,
    wanted_series,
    work_database,
)
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.schema.frames import label_map
from hs_analysis.store import read_table

DOCTOR_FILE = "data/doctor.json"

_EMPTY = (
    "source",
    "series",
    "rows",
    "interval_s",
    "gaps",
    "resets",
    "low",
    "high",
    "coverage",
    "role_evidence",
)


def examine_input(work: Work) -> Outcome:
    """Run the checks, and list what was found and what is missing per service, role and signal."""
    scene = _scene(work)
    findings = diagnose(scene)
    missing = missing_signals(scene)
    found = [{"state": "found", **row} for row in inventory(scene).to_dicts()]
    absent = [
        {"state": "missing", "service": "", "role": m["role"], "signal": m["signal"]}
        | dict.fromkeys(_EMPTY)
        | {"how_to_enable": m["how_to_enable"]}
        for m in missing
    ]
    tables.write_frames(work.out, "findings", [findings])
    tables.write_json(work.out, DOCTOR_FILE, {"signals": [*found, *absent], "missing": missing})
    levels = findings["level"].to_list()
    counts = ", ".join(f"{level} {levels.count(level)}" for level in ("fail", "warn", "pass"))
    return Outcome(f"checks: {counts}; signals missing {len(missing)}")


def _scene(work: Work) -> Scene:
    series = wanted_series(work)
    inputs = tables.read_json(work.run, INPUTS_FILE)
    counts = inputs["counts"]
    with work_database(work) as database, samples_within(work, database) as samples:
        quality = quality_within(work, series, samples, database)
        kinds = series.select("series_id", "kind")
        resets = database.query("ingest/resets", inputs={"samples": samples, "kinds": kinds})
    catalogue = catalogue_of(work.settings)
    edges = [
        (entry["service"], _edge(edge)) for entry in read_entries(work.run) for edge in entry["slo_edges"]
    ]
    return Scene(
        series=series,
        quality=quality,
        rejected=pl.read_parquet(work.run / tables.PLACES["rejected"], columns=["reason"]),
        frozen=read_table(work.run / FROZEN_FILE),
        resets=resets,
        skipped=tuple(counts["skipped"]),
        superseded=tuple(counts["superseded_files"]),
        broken=tuple((b["name"], b["why"]) for b in counts["broken"]),
        server_warnings=tuple((w["name"], w["text"]) for w in counts["warnings"]),
        frames=read_frames(work.run),
        edges=tuple(edges),
        disagreements=read_table(work.run / DISAGREEMENTS_FILE),
        catalogue=catalogue,
        settings=work.settings,
        pod_labels=joined_pod_labels(_labelled(series), catalogue).sentences(),
        releases=version_changes(series, quality, catalogue),
        plan=_lacks(inputs.get("plan")),
    )


def _lacks(plan: list[dict[str, str]] | None) -> tuple[tuple[str, str], ...] | None:
    if plan is None:
        return None
    return tuple((lack["level"], f"{lack['text']}; repeat: {lack['command']}") for lack in plan)


def _labelled(series: pl.DataFrame) -> list[tuple[str, dict[str, str]]]:
    """Return capture and labels of every series, as the ingest stage has them."""
    return [
        (capture, {**label_map(labels), "__name__": metric})
        for capture, metric, labels in series.select("capture", "metric", "labels").iter_rows()
    ]


def _edge(edge: dict[str, Any]) -> dict[str, Any]:
    """Return a limit's edges as alignment found them: JSON has no infinity for the last bucket's edge."""
    return edge | {"high_s": math.inf if edge["high_s"] is None else edge["high_s"]}
