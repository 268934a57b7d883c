"""The ingest stage: files in, series, samples and rejected rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from hs_analysis.catalogue import load_catalogue, metric_kind
from hs_analysis.errors import InputError
from hs_analysis.ingest.discover import Discovery
from hs_analysis.ingest.frozen import frozen_stretches
from hs_analysis.ingest.identity import Identity, identify
from hs_analysis.ingest.raw import SERIES_CHARACTERS, series_text
from hs_analysis.ingest.read import FileRecord, Intake, Key, read_files
from hs_analysis.ingest.staging import STAGED
from hs_analysis.schema.frames import BENCH, REJECTED, REQUESTS, SAMPLES, SERIES, check, empty, label_map
from hs_analysis.schema.settings import Reading
from hs_analysis.store import Database, Input, write_table


@dataclass(frozen=True)
class FileCount:
    """The invariant of one file: rows_read = rows_stored + duplicates + superseded + rows_rejected.

    ``duplicates`` are exact copies of a stored sample; ``superseded`` samples are held more faithfully by
    another file. Requests and benchmark points are stored as they are.
    """

    name: str
    format: str
    rows_read: int
    rows_stored: int
    duplicates: int
    rows_rejected: int
    superseded: int
    series: int
    requests: int
    bench: int


@dataclass(frozen=True)
class Ingested:
    """What the stage leaves: the series with their quality, per-file counts, and what was passed over."""

    series: pl.DataFrame
    quality: pl.DataFrame
    rejected: pl.DataFrame
    frozen: pl.DataFrame
    requests: pl.DataFrame
    bench: pl.DataFrame
    files: tuple[FileCount, ...]
    skipped: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]
    infos: tuple[tuple[str, str], ...]


def ingest(
    discovery: Discovery,
    data: Path,
    database: Database,
    progress: Callable[[str], None],
    how: Reading | None = None,
) -> Ingested:
    """Read the files of ``discovery`` into Parquet tables below ``data``.

    Writes ``series.parquet``, ``samples/part-0.parquet``, ``rejected.parquet``, ``requests.parquet`` and
    ``bench.parquet``.

    Raises
    ------
    InputError
        When nothing could be read or no metric of the catalogue was found.
    """
    data.mkdir(parents=True, exist_ok=True)
    staged = data / "staged.parquet"
    try:
        with pq.ParquetWriter(staged, STAGED, compression="zstd", compression_level=1) as writer:
            intake = read_files(discovery, writer.write_batch, progress, how)
        return _from_staged(staged, intake, discovery, data, database, how or Reading())
    finally:
        staged.unlink(missing_ok=True)


def _from_staged(
    staged: Path, intake: Intake, discovery: Discovery, data: Path, database: Database, how: Reading
) -> Ingested:
    keys = sorted(intake.keys, key=lambda key: (key[0], dict(key[1]).get("__name__", ""), key[1]))
    identities = identify([(capture, dict(labels)) for capture, labels in keys], load_catalogue())
    series = _series_frame(keys, identities)
    _require_known(series, discovery)
    ids = _ids(keys, intake, series)
    whole = pl.DataFrame(
        {"file_no": intake.whole, "form": [discovery.files[n].format.form for n in intake.whole]},
        schema={"file_no": pl.Int64, "form": pl.Int64},
    )
    samples = data / "samples" / "part-0.parquet"
    judged = data / "judged.parquet"
    try:
        _write_judged(database, {"staged": staged, "ids": ids, "whole": whole}, how.on_conflict, judged)
        frozen = _store_samples(database, judged, series, samples)
        fates = database.query("ingest/fates", inputs={"judged": judged})
        conflicts = database.query("ingest/conflicts", inputs={"judged": judged})
    finally:
        judged.unlink(missing_ok=True)
    quality = database.query(
        "ingest/series_quality", inputs={"samples": samples, "kinds": series.select("series_id", "kind")}
    )
    rejected = pl.concat([intake.rejected, _conflict_rows(conflicts, series, discovery)])
    rejected = check(rejected.sort("file", "position", "path", "series", "raw"), REJECTED)
    spacing = quality.select("series_id", "interval_s")
    series = check(series.drop("interval_s").join(spacing, "series_id", maintain_order="left"), SERIES)
    write_table(series, SERIES, data / "series.parquet")
    write_table(rejected, REJECTED, data / "rejected.parquet")
    write_table(intake.requests, REQUESTS, data / "requests.parquet")
    write_table(intake.bench, BENCH, data / "bench.parquet")
    return Ingested(
        series, quality, rejected, frozen, intake.requests, intake.bench, _file_counts(intake, fates),
        tuple(p.name for p in discovery.passed if p.state == "skipped"),
        tuple((p.name, p.why) for p in discovery.passed if p.state == "broken") + tuple(intake.broken),
        tuple((r.name, text) for r in intake.records for text in r.warnings),
        tuple((r.name, text) for r in intake.records for text in r.infos),
    )  # fmt: skip


def _ids(keys: Sequence[Key], intake: Intake, series: pl.DataFrame) -> pl.DataFrame:
    """Return the number of every series, and of its capture and metric, within which forms compete."""
    return series.select(
        pl.Series("key", [intake.keys[key] for key in keys], pl.Int64),
        "series_id",
        (pl.struct("capture", "metric").rank("dense") - 1).cast(pl.Int64).alias("metric_group"),
        pl.lit(value=False).alias("is_copy"),
    )


def _write_judged(database: Database, inputs: Mapping[str, Input], on_conflict: str, path: Path) -> None:
    """Write the fate of every staged sample, one batch in memory at a time."""
    batches = database.stream("ingest/deduplicate", {"on_conflict": on_conflict}, inputs)
    with pq.ParquetWriter(path, batches.schema, compression="zstd", compression_level=1) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _store_samples(database: Database, judged: Path, series: pl.DataFrame, samples: Path) -> pl.DataFrame:
    """Write the samples that are kept; return the frozen stretches, whose samples are null."""
    clocks = list(load_catalogue().clock_like)
    clock_like = pl.col("metric").is_in(clocks).alias("clock_like")
    captured = series.select("series_id", "capture", clock_like)
    repeats = database.query("ingest/repeats", inputs={"judged": judged, "captured": captured})
    frozen = frozen_stretches(repeats)
    inputs: dict[str, Input] = {"judged": judged, "captured": captured, "frozen": frozen}
    write_table(database.stream("ingest/stored_samples", inputs=inputs), SAMPLES, samples)
    return frozen


def _series_frame(keys: Sequence[Key], identities: Sequence[Identity]) -> pl.DataFrame:
    catalogue = load_catalogue()
    metrics = [dict(labels).get("__name__", "") for _, labels in keys]
    signals = {metric: catalogue.first_signal(metric) for metric in set(metrics)}
    kinds = {metric: metric_kind(metric) for metric in set(metrics)}
    units = {s.id: s.unit for s in catalogue.signals}
    rows = [
        {
            "series_id": number,
            "metric": metric,
            "labels": [{"key": k, "value": v} for k, v in labels if k != "__name__"],
            "signal": signals[metric],
            "emitter_role": who.emitter_role,
            "role_evidence": who.role_evidence,
            "service": who.service,
            "instance": who.instance,
            "unit_kind": who.unit_kind,
            "gpu_type": who.gpu_type,
            "unit": units.get(signals[metric] or ""),
            "kind": kinds[metric],
            "interval_s": None,
            "capture": capture,
            "source": who.exporter,
        }
        for number, ((capture, labels), metric, who) in enumerate(zip(keys, metrics, identities, strict=True))
    ]
    return pl.DataFrame(rows, schema=empty(SERIES).schema)


def _require_known(series: pl.DataFrame, discovery: Discovery) -> None:
    if series["signal"].null_count() < series.height:
        return
    seen = sorted(set(series["metric"]))
    shown = ", ".join(seen[:3]) + (f" and {len(seen) - 3} more" if len(seen) > 3 else "")
    raise InputError(
        f"no metric that the catalogue knows among {len(seen)} names ({shown})"
        if seen
        else "no series in the answers",
        where=", ".join(sorted({str(f.path.parent if not f.named else f.path) for f in discovery.files})[:2]),
        hint="`hsa signals` lists the names it looks for",
    )


def _conflict_rows(conflicts: pl.DataFrame, series: pl.DataFrame, discovery: Discovery) -> pl.DataFrame:
    names = {number: file.name for number, file in enumerate(discovery.files)}
    if conflicts.is_empty():
        return empty(REJECTED)
    mentioned = series.filter(pl.col("series_id").is_in(conflicts["series_id"].unique().to_list()))
    text = {
        row["series_id"]: series_text({**label_map(row["labels"]), "__name__": row["metric"]})
        for row in mentioned.select("series_id", "metric", "labels").iter_rows(named=True)
    }
    rows = [
        {
            "file": names[row["file_no"]], "member": "", "position": row["t_us"], "path": "",
            "series": text[row["series_id"]][:SERIES_CHARACTERS], "reason": "dup_conflict",
            "raw": f"[{row['t_us'] / 1e6},{row['value']}]",
            "detail": "the same series has another value at this time; position is the time in microseconds",
        }
        for row in conflicts.iter_rows(named=True)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=empty(REJECTED).schema)


def _file_counts(intake: Intake, fates: pl.DataFrame) -> tuple[FileCount, ...]:
    by_file: dict[int, dict[str, int]] = {}
    for row in fates.iter_rows(named=True):
        by_file.setdefault(row["file_no"], {})[row["fate"]] = row["rows"]

    def count(record: FileRecord, number: int) -> FileCount:
        fate = by_file.get(number, {})
        return FileCount(
            record.name, record.format, record.rows_read,
            fate.get("stored", 0) + record.requests + record.bench, fate.get("duplicate", 0),
            record.rows_rejected + fate.get("conflict", 0), fate.get("superseded", 0),
            record.series, record.requests, record.bench,
        )  # fmt: skip

    return tuple(count(record, number) for record, number in zip(intake.records, intake.whole, strict=True))
