"""What the input is worth: the stage doctor, on a run or on files in a cache."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.doctor import (
    INVENTORY,
    MOST_TIMES,
    NEAR_RATIO,
    TOP_SHARE,
    DoctorContext,
    SupersededFile,
    diagnose,
    histogram_parts,
    inventory,
    missing_signals,
    replica_pairs,
    requirements,
)
from hs_analysis.errors import RunFolderError, machine_in_words
from hs_analysis.ingest.rows import SERIES_CHARACTERS, series_text
from hs_analysis.ingest.services import joined_pod_labels
from hs_analysis.ingest.versions import version_changes
from hs_analysis.interrupts import temporary_folder, undone
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline import run_folder as folders
from hs_analysis.pipeline import session, tables
from hs_analysis.pipeline.ingest_stages import (
    FROZEN_FILE,
    GRIDS_FILE,
    INPUTS_FILE,
    QUALITY_FILE,
    catalogue_of,
    quality_within,
    samples_within,
    wanted_series,
    without_service,
    work_database,
)
from hs_analysis.pipeline.inputs import HashedInput, inputs_sha256, list_inputs, spooled
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.records import from_plain
from hs_analysis.pipeline.runner import Ran, lock, run_to, start_over, sweep
from hs_analysis.pipeline.session import Asked, accepts, settings_for, signed
from hs_analysis.pipeline.stages import Outcome, Progress, Stage, Work
from hs_analysis.pipeline.tables import edges_of, read_entries, read_frames
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.settings import Settings
from hs_analysis.store import Database, read_table

DOCTOR_FILE = "data/doctor.json"

SHAPED_ROWS = 5_000_000
"""Samples whose steps are looked at together: a few hundred megabytes, and enough for few queries."""


def examine_input(work: Work) -> Outcome:
    """Run the checks, and list what was found and what is missing per service, role and signal."""
    context = _context(work)
    findings = diagnose(context)
    missing = missing_signals(context)
    found = [{"state": "found", **row} for row in inventory(context).to_dicts()]
    absent = [{"state": "missing", **dict.fromkeys(INVENTORY), "service": "", **one} for one in missing]
    tables.write_frames(work.out, "findings", [findings])
    needed = requirements(context)
    written = {"signals": [*found, *absent], "missing": missing, "needs": needed.to_dicts()}
    tables.write_json(work.out, DOCTOR_FILE, written)
    levels = findings["level"].to_list()
    counts = ", ".join(f"{level} {levels.count(level)}" for level in ("fail", "warn", "pass"))
    lacking = needed.filter(pl.col("state") == "lacks").height
    return Outcome(f"checks: {counts}; signals missing {len(missing)}, needs not met {lacking}")


def _context(work: Work) -> DoctorContext:
    series = wanted_series(work)
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
    edges = [(entry["service"], edge) for entry in read_entries(work.run) for edge in edges_of(entry)]
    return DoctorContext(
        series=series,
        quality=quality,
        rejected=rejected_groups(work.run),
        frozen=read_table(work.run / FROZEN_FILE),
        resets=resets,
        frames=read_frames(work.run),
        edges=tuple(edges),
        disagreements=tables.read(work.run, "disagreements"),
        catalogue=catalogue,
        settings=work.settings,
        pod_labels=joined_pod_labels(_labelled(series), catalogue).sentences(),
        unserved=tuple(one.sentence() for one in without_service(work.run, work.settings)),
        releases=version_changes(tables.read(work.run, "versions")),
        lives=tables.read(work.run, "lives"),
        frozen_series=tables.read(work.run, "frozen_series"),
        instances=tables.read(work.run, "instances"),
        requests=tables.read(work.run, "requests"),
        bench=tables.read(work.run, "bench"),
        shapes=shapes,
        twins=twins,
        histograms=histograms,
        tails=tails,
        grids=read_table(work.run / GRIDS_FILE),
        now=datetime.now(UTC),
        **_of_files(tables.read_json(work.run, INPUTS_FILE)),
    )


def _of_files(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reading the files left to say, by its name in `DoctorContext`."""
    counts = inputs["counts"]
    return {
        "skipped": tuple(counts["skipped"]),
        "tables": tuple(counts.get("tables", {}).items()),
        "superseded": tuple(from_plain(SupersededFile, one) for one in counts["superseded_files"]),
        "broken": tuple((b["name"], b["why"]) for b in counts["broken"]),
        "server_warnings": tuple((w["name"], w["text"]) for w in counts["warnings"]),
        "notes": tuple((note["name"], note["text"]) for note in counts["infos"]),
        "losses": tuple((loss["name"], loss["text"]) for loss in counts.get("losses", ())),
        "copies": tuple((f["name"], f["duplicates"]) for f in inputs["files"] if f["duplicates"]),
        "plan": _lacks(inputs.get("plan")),
    }


def rejected_groups(run: Path) -> pl.DataFrame:
    """Return how many rows were rejected by reason, file and metric: reason, file, metric, detail, rows.

    The metric is empty where a row names no series.
    """
    rows = tables.scan(run, "rejected")
    metric = pl.col("series").str.split("{").list.first().alias("metric")
    groups = rows.group_by("reason", "file", metric).agg(
        pl.col("detail").first(), pl.len().cast(pl.Int64).alias("rows")
    )
    return groups.sort("rows", "reason", "file", "metric", descending=[True, False, False, False]).collect()


def lost_whole(run: Path) -> list[str]:
    """Return the series of which every sample was rejected, as text; only whole samples name a series."""
    rows = tables.scan(run, "rejected").filter(pl.col("reason").is_in(["dup_conflict", "negative_counter"]))
    torn = rows.select(pl.col("series").unique().sort()).collect()["series"].to_list()
    if not torn:
        return []
    series = tables.read(run, "series").join(read_table(run / QUALITY_FILE), "series_id", how="semi")
    stored = {_text(metric, raw) for metric, raw in series.select("metric", "labels").iter_rows()}
    return [text for text in torn if text not in stored]


def _text(metric: str, labels: object) -> str:
    """Return a series as rejected rows name it."""
    return series_text({**label_map(labels), "__name__": metric})[:SERIES_CHARACTERS]


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
    rejected = tables.scan(work.run, "rejected").filter(pl.col("reason") == "dup_conflict")
    rows = rejected.select("series", pl.col("position").alias("t_us")).unique().collect()
    if rows.is_empty():
        return pl.DataFrame(schema={"series_id": pl.Int64, "t": pl.Datetime("us", "UTC")})
    texts = pl.DataFrame(
        [
            (number, _text(metric, raw))
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
    every = max(1, math.ceil(span_s / (MOST_TIMES * interval_s)))
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


_KEEP = 'see why: hsa ingest INPUT keeps them, then hsa sql RUN "FROM rejected"'
LOOKED_AT = "looked-at"
MOST_CACHED = 4
"""Inputs kept in the cache: looking again at one of the last few reads nothing twice."""


def cache_folder() -> Path:
    """Return the user's cache folder of this program; nothing in it is needed."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "hs_analysis"


@contextmanager
def look_at_inputs(
    arguments: Sequence[Path],
    target: str,
    settings: Settings,
    *,
    stages: Sequence[Stage],
    progress: Progress,
    run_dir: Path | None = None,
    asked: Asked,
) -> Iterator[Ran]:
    """Yield what the stages up to `target` found on inputs: in their run where there is one, else in a cache.

    Parameters
    ----------
    run_dir
        Where a run of the inputs may be; by default under ``reports/``.

    Raises
    ------
    RunFolderError
        When settings are given that differ from those of the run of the inputs, or ``run_dir`` is a run of
        other inputs.
    """
    folders.refuse_runs(arguments)
    with ExitStack() as held:
        room = held.enter_context(_room(str([str(path.resolve()) for path in arguments])))
        held.enter_context(machine_in_words(str(room)))
        paths = held.enter_context(spooled(arguments, room.parent, wanted=asked.stdin))
        files = list_inputs(paths)
        there = _run_of(paths, files, settings, run_dir)
        if there:
            yield held.enter_context(
                look_at_run(there, target, stages=stages, progress=progress, asked=asked)
            )
            return
        new = manifests.new(paths, files, settings, asked.command)
        found = manifests.read(room)
        if found and found.inputs_sha256 != inputs_sha256(files):
            start_over(room, found)
            found = None
        yield _run_in(room, found or new, target, settings, stages, progress, asked)


@contextmanager
def look_at_run(
    folder: Path, target: str, *, stages: Sequence[Stage], progress: Progress, asked: Asked
) -> Iterator[Ran]:
    """Yield what `target` found in a run: as it is recorded there, else made from the run in a cache.

    Raises
    ------
    RunFolderError
        When there is no run, or settings are given that differ from its own.
    """
    manifest = folders.require(folder)
    run = session.of_run(manifest)
    settings = settings_for(folder, manifest, run, target, stages, progress, asked)
    record = manifest.stages.get(target)
    if record and settings == run and all(f.intact(folder) for f in record.files):
        accepts(asked)("ingest", folder, manifest)
        progress.skipped(target)
        yield Ran((), (target,), folder, manifest)
        return
    with _room(str(folder.resolve())) as room, machine_in_words(str(room)):
        before = manifests.read(room)
        if before:
            start_over(room, before)
        _mirror(folder, manifest, room)
        yield _run_in(room, manifest, target, settings, stages, progress, asked)


def _run_of(
    paths: Sequence[Path], files: Sequence[HashedInput], settings: Settings, run_dir: Path | None
) -> Path | None:
    """Return the run folder of some inputs, None without one."""
    if run_dir is None:
        return folders.find(paths, files, settings)
    found = manifests.read(run_dir)
    if found is None:
        return None
    folders.require_same(run_dir, found, files)
    return run_dir


def _run_in(
    room: Path,
    manifest: Manifest,
    target: str,
    settings: Settings,
    stages: Sequence[Stage],
    progress: Progress,
    asked: Asked,
) -> Ran:
    return run_to(
        target, room, signed(manifest, asked, settings), settings,
        stages=stages, progress=progress, inputs_checked=True, accept=accepts(asked, _KEEP),
        machine=asked.machine,
    )  # fmt: skip


def _mirror(folder: Path, manifest: Manifest, room: Path) -> None:
    """Put the files of a run into another folder: as links where the disk can, else as copies.

    Stages replace files and never write into them, so that a link can't change the run.
    """
    for record in manifest.stages.values():
        for file in record.files:
            source, copy = folder / file.path, room / file.path
            if not source.is_file():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            try:
                os.link(source, copy)
            except OSError:
                shutil.copy2(source, copy)
    manifests.write(room, manifest)


@contextmanager
def _room(key: str) -> Iterator[Path]:
    """Yield a locked folder of the cache; one that is removed afterwards where the cache can't be had."""
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    with ExitStack() as held:
        try:
            room = cache_folder() / LOOKED_AT / name
            room.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.enter_context(lock(room))
            held.enter_context(undone(partial(sweep, room)))
            os.utime(room)
            _prune(room)
        except (OSError, RuntimeError, RunFolderError):  # no home, or another hsa looks at the same
            room = held.enter_context(temporary_folder(Path(tempfile.gettempdir()), "hs-analysis-"))
        yield room


def _prune(room: Path) -> None:
    """Remove all but the folders looked at last; one that another process uses stays."""
    others = sorted((p for p in room.parent.iterdir() if p != room), key=lambda p: p.stat().st_mtime)
    for old in others[: max(0, len(others) + 1 - MOST_CACHED)]:
        try:
            with lock(old):
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, RunFolderError):
            continue
