"""The ingest stage: files in, series, samples and rejected rows out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from hs_analysis.catalogue import load_catalogue, metric_kind
from hs_analysis.errors import InputError
from hs_analysis.ingest.discover import Discovery
from hs_analysis.ingest.fates import FATES, Span
from hs_analysis.ingest.identity import Identity, identify
from hs_analysis.ingest.raw import SERIES_CHARACTERS, series_text
from hs_analysis.ingest.read import FileRecord, Intake, Key, read_files
from hs_analysis.ingest.settling import Kept, settle
from hs_analysis.ingest.spans import FileSpan, file_spans
from hs_analysis.ingest.staging import Piece, Staging
from hs_analysis.schema.frames import BENCH, REJECTED, REQUESTS, SAMPLES, SERIES, check, empty, label_map
from hs_analysis.schema.settings import Reading
from hs_analysis.store import write_table


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
    spans: tuple[FileSpan, ...]


def ingest(
    discovery: Discovery,
    data: Path,
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
    reading = how or Reading()
    with tempfile.TemporaryFile(dir=data) as scratch:
        staging = Staging(scratch)
        intake = read_files(discovery, staging, progress, reading)
        return _from_staged(staging, intake, discovery, data, reading)


def _from_staged(
    staging: Staging, intake: Intake, discovery: Discovery, data: Path, how: Reading
) -> Ingested:
    members = _members(intake, staging, how.dedup_label)
    keys = sorted(members, key=lambda key: (key[0], dict(key[1]).get("__name__", ""), key[1]))
    catalogue = load_catalogue()
    series = _series_frame(keys, identify([(capture, dict(labels)) for capture, labels in keys], catalogue))
    if not intake.requests.height and not intake.bench.height:  # with these alone there is no metric to know
        _require_known(series, discovery)
    forms = {number: discovery.files[number].format.form for number in intake.whole}
    kept = [
        Kept(number, key[0], kind == "counter", metric in catalogue.clock_like, members[key].pieces)
        for number, (key, kind, metric) in enumerate(zip(keys, series["kind"], series["metric"], strict=True))
    ]
    settled, batches = settle(kept, staging, _covered(kept, series["metric"], forms), how.on_conflict)
    write_table(
        pa.RecordBatchReader.from_batches(SAMPLES, batches), SAMPLES, data / "samples" / "part-0.parquet"
    )
    for copy in (piece for member in members.values() for piece in member.copies):
        settled.fates[copy.file_no, "superseded"] += copy.rows
    rejected = pl.concat([intake.rejected, _conflict_rows(settled.conflicts, series, discovery)])
    rejected = check(rejected.sort("file", "position", "path", "series", "raw"), REJECTED)
    spacing = settled.quality.select("series_id", "interval_s")
    series = check(
        series.drop("interval_s").join(spacing, "series_id", "left", maintain_order="left"), SERIES
    )
    for frame, contract, name in (
        (series, SERIES, "series"), (rejected, REJECTED, "rejected"),
        (intake.requests, REQUESTS, "requests"), (intake.bench, BENCH, "bench"),
    ):  # fmt: skip
        write_table(frame, contract, data / f"{name}.parquet")
    return Ingested(
        series, settled.quality, rejected, settled.frozen, intake.requests, intake.bench,
        _file_counts(intake, settled.fates),
        tuple(p.name for p in discovery.passed if p.state == "skipped"),
        tuple((p.name, p.why) for p in discovery.passed if p.state == "broken") + tuple(intake.broken),
        tuple((r.name, text) for r in intake.records for text in r.warnings),
        tuple((r.name, text) for r in intake.records for text in r.infos),
        file_spans(
            [(r.name, number) for r, number in zip(intake.records, intake.whole, strict=True)],
            staging.pieces.values(),
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """The pieces of a series, and those of its replicas that hold less and are left out."""

    pieces: list[Piece]
    copies: list[Piece]


def _members(intake: Intake, staging: Staging, dedup_label: str | None) -> dict[Key, _Member]:
    """Return every series that a whole file holds; replicas that differ in a label are one series."""
    whole = set(intake.whole)
    replicas: dict[Key, list[tuple[int, str, list[Piece]]]] = {}
    for (capture, labels), number in intake.keys.items():
        pieces = [piece for piece in staging.pieces.get(number, ()) if piece.file_no in whole]
        rest = tuple(pair for pair in labels if pair[0] != dedup_label)
        name = dict(labels).get(dedup_label or "", "")
        replicas.setdefault((capture, rest), []).append((-sum(p.rows for p in pieces), name, pieces))
    found = {}
    for key, copies in replicas.items():
        _, _, pieces = min(copies, key=lambda copy: copy[:2])
        found[key] = _Member(pieces, [p for copy in copies if copy[2] is not pieces for p in copy[2]])
    return found


def _covered(
    kept: Sequence[Kept], metrics: Iterable[str], forms: Mapping[int, int]
) -> dict[int, dict[int, list[Span]]]:
    """Return, per series and file, the spans in which a more faithful file holds the same metric."""
    if len(set(forms.values())) < 2:
        return {}
    spans: dict[tuple[str, str], dict[int, Span]] = {}
    named = list(zip(kept, metrics, strict=True))
    for one, metric in named:
        own = spans.setdefault((one.capture, metric), {})
        for piece in one.pieces:
            low, high = own.get(forms[piece.file_no], (piece.low_us, piece.high_us))
            own[forms[piece.file_no]] = min(low, piece.low_us), max(high, piece.high_us)
    return {
        one.series_id: {
            piece.file_no: [
                span
                for form, span in sorted(spans[one.capture, metric].items())
                if form > forms[piece.file_no]
            ]
            for piece in one.pieces
        }
        for one, metric in named
    }


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


def _conflict_rows(
    conflicts: Sequence[tuple[int, int, int, float | None]], series: pl.DataFrame, discovery: Discovery
) -> pl.DataFrame:
    numbers = {series_id for _, series_id, _, _ in conflicts}
    mentioned = series.filter(pl.col("series_id").is_in(sorted(numbers)))
    text = {
        row["series_id"]: series_text({**label_map(row["labels"]), "__name__": row["metric"]})
        for row in mentioned.select("series_id", "metric", "labels").iter_rows(named=True)
    }
    rows = [
        {
            "file": discovery.files[file_no].name, "member": "", "position": t_us, "path": "",
            "series": text[series_id][:SERIES_CHARACTERS], "reason": "dup_conflict",
            "raw": f"[{t_us / 1e6},{value}]",
            "detail": "the same series has another value at this time; position is the time in microseconds",
        }
        for file_no, series_id, t_us, value in conflicts
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=empty(REJECTED).schema)


def _file_counts(intake: Intake, fates: Mapping[tuple[int, str], int]) -> tuple[FileCount, ...]:
    def count(record: FileRecord, number: int) -> FileCount:
        stored, duplicates, conflicts, superseded = (fates.get((number, fate), 0) for fate in FATES)
        return FileCount(
            record.name, record.format, record.rows_read, stored + record.requests + record.bench, duplicates,
            record.rows_rejected + conflicts, superseded, record.series, record.requests, record.bench,
        )  # fmt: skip

    return tuple(count(record, number) for record, number in zip(intake.records, intake.whole, strict=True))
