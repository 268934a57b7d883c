"""What the input is worth: the stage doctor."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.doctor import (
    INVENTORY,
    MOST_MOMENTS,
    NEAR_RATIO,
    TOP_SHARE,
    Scene,
    Superseded,
    diagnose,
    histogram_parts,
    inventory,
    missing_signals,
    needs,
    replica_pairs,
)
from hs_analysis.ingest.identity import joined_pod_labels
from hs_analysis.ingest.raw import SERIES_CHARACTERS, series_text
from hs_analysis.ingest.versions import version_changes
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.frames import read_entries, read_frames
from hs_analysis.pipeline.gather import (
    DISAGREEMENTS_FILE,
    FROZEN_FILE,
    GRIDS_FILE,
    INPUTS_FILE,
    catalogue_of,
    quality_within,
    samples_within,
    wanted_series,
    without_service,
    work_database,
)
from hs_analysis.pipeline.records import from_plain
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.schema.frames import label_map
from hs_analysis.store import Database, read_table

DOCTOR_FILE = "data/doctor.json"

SHAPED_ROWS = 5_000_000
"""Samples whose steps are looked at together: a few hundred megabytes, and enough for few queries."""


def examine_input(work: Work) -> Outcome:
    """Run the checks, and list what was found and what is missing per service, role and signal."""
    scene = _scene(work)
    findings = diagnose(scene)
    missing = missing_signals(scene)
    found = [{"state": "found", **row} for row in inventory(scene).to_dicts()]
    absent = [
        {"state": "missing", "service": "", "role": m["role"], "signal": m["signal"]}
        | dict.fromkeys(INVENTORY.keys() - {"service", "role", "signal"})
        | {"how_to_enable": m["how_to_enable"]}
        for m in missing
    ]
    tables.write_frames(work.out, "findings", [findings])
    needed = needs(scene)
    written = {"signals": [*found, *absent], "missing": missing, "needs": needed.to_dicts()}
    tables.write_json(work.out, DOCTOR_FILE, written)
    levels = findings["level"].to_list()
    counts = ", ".join(f"{level} {levels.count(level)}" for level in ("fail", "warn", "pass"))
    lacking = needed.filter(pl.col("state") == "lacks").height
    return Outcome(f"checks: {counts}; signals missing {len(missing)}, needs not met {lacking}")


def _scene(work: Work) -> Scene:
    series = wanted_series(work)
    inputs = tables.read_json(work.run, INPUTS_FILE)
    counts = inputs["counts"]
    catalogue = catalogue_of(work.settings)
    with work_database(work) as database, samples_within(work, database) as samples:
        quality = quality_within(work, series, samples)
        fell = quality.filter(pl.col("resets") > 0)
        kinds = series.join(fell, "series_id", how="semi").select("series_id", "kind")
        resets = database.query("ingest/resets", inputs={"samples": samples, "kinds": kinds})
        shapes = _shapes(series, quality, _torn(work, series, quality), samples, database)
        tails = _tails(series, catalogue, samples, database)
        twins = _twins(series, quality, samples, database)
        histograms = _histograms(series, quality, catalogue, samples, database)
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
        superseded=tuple(from_plain(Superseded, one) for one in counts["superseded_files"]),
        broken=tuple((b["name"], b["why"]) for b in counts["broken"]),
        server_warnings=tuple((w["name"], w["text"]) for w in counts["warnings"]),
        frames=read_frames(work.run),
        edges=tuple(edges),
        disagreements=read_table(work.run / DISAGREEMENTS_FILE),
        catalogue=catalogue,
        settings=work.settings,
        pod_labels=joined_pod_labels(_labelled(series), catalogue).sentences(),
        unserved=tuple(one.sentence() for one in without_service(work.run, work.settings)),
        releases=version_changes(tables.read(work.run, "versions")),
        plan=_lacks(inputs.get("plan")),
        lives=tables.read(work.run, "lives"),
        frozen_series=tables.read(work.run, "frozen_series"),
        requests=tables.read(work.run, "requests"),
        bench=tables.read(work.run, "bench"),
        notes=tuple((note["name"], note["text"]) for note in counts["infos"]),
        copies=tuple((f["name"], f["duplicates"]) for f in inputs["files"] if f["duplicates"]),
        shapes=shapes,
        twins=twins,
        histograms=histograms,
        tails=tails,
        grids=read_table(work.run / GRIDS_FILE),
        now=datetime.now(UTC),
    )


def _shapes(
    series: pl.DataFrame, quality: pl.DataFrame, torn: pl.DataFrame, samples: Path, database: Database
) -> pl.DataFrame:
    """Return how values and steps run; buckets are many, and their histograms are looked at by themselves.

    A part of the series at a time: all their steps at once may be more than fits into memory.
    """
    spaced = (
        series.filter(~pl.col("metric").str.ends_with("_bucket"))
        .select("series_id", "interval_s")
        .join(quality.select("series_id", "rows"), "series_id")
        .sort("series_id")
    )
    parts = spaced.with_columns((pl.col("rows").cum_sum() // SHAPED_ROWS).alias("part"))
    found = [
        database.query(
            "doctor/shapes",
            inputs={"samples": samples, "spaced": own.select("series_id", "interval_s"), "torn": torn},
        )
        for own in parts.partition_by("part", maintain_order=True) or [spaced]
    ]
    return pl.concat(found)


def _torn(work: Work, series: pl.DataFrame, quality: pl.DataFrame) -> pl.DataFrame:
    """Return the moments whose samples contradict each other: they are steps of a series, and not stored.

    A text that several series share names none of them.
    """
    rejected = pl.scan_parquet(work.run / tables.PLACES["rejected"]).filter(
        pl.col("reason") == "dup_conflict"
    )
    rows = rejected.select("series", pl.col("position").alias("t_us")).unique().collect()
    if rows.is_empty():
        return pl.DataFrame(schema={"series_id": pl.Int64, "t": pl.Datetime("us", "UTC")})
    texts = pl.DataFrame(
        [
            (number, series_text({**label_map(raw), "__name__": metric})[:SERIES_CHARACTERS])
            for number, metric, raw in series.select("series_id", "metric", "labels").iter_rows()
        ],
        schema={"series_id": pl.Int64, "series": pl.String}, orient="row",
    )  # fmt: skip
    alone = texts.filter(pl.len().over("series") == 1)
    t = pl.from_epoch("t_us", "us").dt.replace_time_zone("UTC").alias("t")
    found = rows.join(alone, "series").with_columns(t).join(quality, "series_id")
    inside = found.filter(pl.col("t").is_between("first_t", "last_t"))
    return inside.select("series_id", "t").sort("series_id", "t")


def _tails(
    series: pl.DataFrame, catalogue: Catalogue, samples: Path, database: Database
) -> pl.DataFrame | None:
    """Return how steep latencies that are gauges are, by service and metric; None where there are none."""
    latency = [signal.id for signal in catalogue.signals if signal.family == "latency"]
    gauges = series.filter((pl.col("kind") == "gauge") & pl.col("signal").is_in(latency))
    if gauges.is_empty():
        return None
    named = gauges.select("service", "metric").unique().sort("service", "metric").with_row_index("group_no")
    named = named.with_columns(pl.col("group_no").cast(pl.Int64))
    grouped = gauges.join(named, ["service", "metric"], nulls_equal=True).select("series_id", "group_no")
    found = database.query("doctor/tails", {"top_share": TOP_SHARE}, {"samples": samples, "grouped": grouped})
    return found.join(named, "group_no").with_columns(pl.col("service").fill_null(""))


def _twins(
    series: pl.DataFrame, quality: pl.DataFrame, samples: Path, database: Database
) -> pl.DataFrame | None:
    """Return how alike series are that differ in a replica label only, None where none do."""
    pairs = replica_pairs(series, quality)
    if pairs.is_empty():
        return None
    found = database.query(
        "doctor/twins", {"near_ratio": NEAR_RATIO}, {"samples": samples, "pairs": pairs.drop("label")}
    )
    return found.join(pairs.select("pair_id", "label"), "pair_id")


def _histograms(
    series: pl.DataFrame, quality: pl.DataFrame, catalogue: Catalogue, samples: Path, database: Database
) -> pl.DataFrame | None:
    """Return what is wrong with the histograms of latencies at some moments, None where there are none."""
    sources = [source for signal in catalogue.signals for source in signal.sources]
    families = {names.histogram for source in sources for names in source.names if names.histogram}
    buckets, counts = histogram_parts(series, frozenset(families))
    spans = quality.join(buckets, "series_id").drop_nulls("interval_s")
    if spans.is_empty():
        return None
    bounds = spans.select(
        pl.col("interval_s").median(), (pl.col("last_t").max() - pl.col("first_t").min()).dt.total_seconds()
    )
    interval_s, span_s = bounds.row(0)
    width_us = round(interval_s * 1e6)
    every = max(1, math.ceil(span_s / (MOST_MOMENTS * interval_s)))
    return database.query(
        "doctor/histograms",
        {"period_us": every * width_us, "width_us": width_us},
        {"samples": samples, "buckets": buckets, "counts": counts},
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
