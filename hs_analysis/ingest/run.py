"""The ingest stage: files in, series, samples and rejected rows out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

import hs_analysis
from hs_analysis.catalogue import Catalogue, load_catalogue, with_user_rows
from hs_analysis.errors import InputError
from hs_analysis.ingest.discover import Discovery
from hs_analysis.ingest.faithful import covered, forms_of, outdone
from hs_analysis.ingest.fates import FATES
from hs_analysis.ingest.grids import on_grids
from hs_analysis.ingest.identity import Identity, identify
from hs_analysis.ingest.net import BUGS_FILE
from hs_analysis.ingest.quarantine import Quarantine
from hs_analysis.ingest.raw import SERIES_CHARACTERS, series_text
from hs_analysis.ingest.read import FileRecord, Intake, Key, read_files
from hs_analysis.ingest.settling import Kept, settle
from hs_analysis.ingest.spans import FileSpan, file_spans
from hs_analysis.ingest.staging import Piece, Samples, Staging
from hs_analysis.ingest.unknown import UNWRAP, WRAPPED
from hs_analysis.schema.frames import BENCH, REJECTED, REQUESTS, SAMPLES, SERIES, check
from hs_analysis.schema.settings import Reading
from hs_analysis.store import read_table, write_table


@dataclass(frozen=True)
class FileCount:
    """The invariant of one file: rows_read = rows_stored + duplicates + superseded + rows_rejected.

    ``duplicates`` are exact copies of a stored sample; ``superseded`` samples are held more faithfully by
    the files in ``superseded_by``. Requests and benchmark points are stored as they are.
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
    superseded_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ingested:
    """What the stage leaves: the series with their quality, per-file counts, and what was passed over.

    Rejected rows stay on disk: there may be more of them than fit into memory. ``helps`` is the HELP text per
    metric, where the input has them.
    """

    series: pl.DataFrame
    quality: pl.DataFrame
    rejected_path: Path
    frozen: pl.DataFrame
    requests: pl.DataFrame
    bench: pl.DataFrame
    files: tuple[FileCount, ...]
    skipped: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]
    infos: tuple[tuple[str, str], ...]
    spans: tuple[FileSpan, ...]
    grids: pl.DataFrame
    helps: dict[str, str]

    @property
    def rejected(self) -> pl.DataFrame:
        """The rejected rows, read into memory; a frame of contract REJECTED."""
        return read_table(self.rejected_path)


def ingest(
    discovery: Discovery,
    data: Path,
    progress: Callable[[str], None],
    how: Reading | None = None,
    as_scraped: Collection[str] = (),
) -> Ingested:
    """Read the files of ``discovery`` into Parquet tables below ``data``.

    ``as_scraped`` are names of files that are known to hold samples as scraped, although their form is that
    of an answer on a query's grid, which repeats values where nothing was scraped.

    Writes ``samples/part-0.parquet``, ``rejected.parquet``, ``requests.parquet`` and ``bench.parquet``, and
    ``bugs.txt`` with the tracebacks where it is a bug that a file can't be read. The
    series are the caller's to write: the samples may show more of them (`shown.shown_by_samples`).

    Raises
    ------
    InputError
        When nothing could be read, or there are only metrics that neither the catalogue nor the user knows.
    """
    data.mkdir(parents=True, exist_ok=True)
    reading = how or Reading()
    with (
        tempfile.TemporaryFile(dir=data) as scratch,
        tempfile.TemporaryFile(dir=data) as aside,
        Quarantine(aside) as quarantine,
    ):
        staging = Staging(scratch)
        intake = read_files(discovery, staging, quarantine, progress, reading)
        _tell_bugs(data, [(p.name, p.bug.account) for p in discovery.passed if p.bug] + intake.bugs)
        looking_back = {
            number
            for number in intake.whole
            if discovery.files[number].format.looks_back and discovery.files[number].name not in as_scraped
        }
        return _from_staged(staging, quarantine, intake, discovery, data, reading, looking_back)


def _tell_bugs(data: Path, bugs: Sequence[tuple[str, str]]) -> None:
    """Write the tracebacks of files that could not be read, where there are any."""
    if bugs:
        told = [f"hsa {hs_analysis.__version__}", *(f"{name}\n{account}" for name, account in bugs)]
        (data.parent / BUGS_FILE).write_text("\n".join(told), "utf-8", "backslashreplace")


def _from_staged(
    staging: Staging,
    quarantine: Quarantine,
    intake: Intake,
    discovery: Discovery,
    data: Path,
    how: Reading,
    looking_back: Set[int],
) -> Ingested:
    members = _members(intake, staging, how.dedup_label)
    keys = sorted(members, key=lambda key: (key[0], dict(key[1]).get("__name__", ""), key[1]))
    catalogue = with_user_rows(load_catalogue(), how)
    labelled = [(capture, dict(labels)) for capture, labels in keys]
    series = _series_frame(keys, identify(labelled, catalogue, how), catalogue)
    if not intake.requests.height and not intake.bench.height:  # with these alone there is no metric to know
        _require_known(series, discovery, how)
    forms = forms_of(intake, discovery)
    kept = [
        Kept(
            number, key[0], kind == "counter", metric in catalogue.clock_like, members[key].pieces,
            any(piece.file_no in looking_back for piece in members[key].pieces),
        )
        for number, (key, kind, metric) in enumerate(zip(keys, series["kind"], series["metric"], strict=True))
    ]  # fmt: skip
    names = [file.name for file in discovery.files]

    def set_aside(number: int, torn: Samples) -> None:
        text = series_text(dict(keys[number][1]))[:SERIES_CHARACTERS]
        quarantine.contradictions(torn, text, names)

    spans = covered(kept, series["metric"], forms)
    settled, batches = settle(kept, staging, spans, how.on_conflict, set_aside)
    write_table(
        pa.RecordBatchReader.from_batches(SAMPLES, batches), SAMPLES, data / "samples" / "part-0.parquet"
    )
    better = outdone(kept, series["metric"], forms)
    for member in members.values():
        for copy in member.copies:
            settled.fates[copy.file_no, "superseded"] += copy.rows
            better.setdefault(copy.file_no, set()).update(piece.file_no for piece in member.pieces)
    rejected = pa.RecordBatchReader.from_batches(REJECTED, quarantine.batches(intake.whole))
    write_table(rejected, REJECTED, data / "rejected.parquet")
    spacing = settled.quality.select("series_id", "interval_s")
    series = check(
        series.drop("interval_s").join(spacing, "series_id", "left", maintain_order="left"), SERIES
    )
    for frame, contract, name in (
        (intake.requests, REQUESTS, "requests"), (intake.bench, BENCH, "bench"),
    ):  # fmt: skip
        write_table(frame, contract, data / f"{name}.parquet")
    return Ingested(
        series, settled.quality, data / "rejected.parquet", settled.frozen, intake.requests, intake.bench,
        _file_counts(intake, settled.fates, better),
        tuple(p.name for p in discovery.passed if p.state == "skipped"),
        tuple((p.name, p.why) for p in discovery.passed if p.state == "broken") + tuple(intake.broken),
        tuple((r.name, text) for r in intake.records for text in r.warnings),
        tuple((r.name, text) for r in intake.records for text in r.infos) + _wrapped(discovery),
        file_spans(
            [(r.name, number) for r, number in zip(intake.records, intake.whole, strict=True)],
            staging.pieces.values(),
        ),
        on_grids(kept, series, looking_back, spans),
        intake.helps,
    )  # fmt: skip


def _wrapped(discovery: Discovery) -> tuple[tuple[str, str], ...]:
    """Return (file, what to do) of skipped files that hold the answers of a server all the same."""
    return tuple((p.name, f"{p.why}, skipped: {UNWRAP}") for p in discovery.passed if p.why == WRAPPED)


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


def _series_frame(keys: Sequence[Key], identities: Sequence[Identity], catalogue: Catalogue) -> pl.DataFrame:
    metrics = [dict(labels).get("__name__", "") for _, labels in keys]
    signals = {metric: catalogue.first_signal(metric) for metric in set(metrics)}
    kinds = {metric: catalogue.kind_of(metric) for metric in set(metrics)}
    units = {s.id: s.unit for s in catalogue.signals}
    rows = [
        {
            "series_id": number,
            "metric": metric,
            "labels": [pair for pair in labels if pair[0] != "__name__"],
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
    # By way of Arrow: polars builds a series of its own for the labels of every row.
    frame = pl.from_arrow(pa.Table.from_pylist(rows, schema=SERIES))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type of from_arrow
    return frame


def _require_known(series: pl.DataFrame, discovery: Discovery, how: Reading) -> None:
    described = {*how.metrics, *(column for table in how.tables.values() for column in table.columns)}
    if series["signal"].null_count() < series.height or described.intersection(series["metric"]):
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


def _file_counts(
    intake: Intake, fates: Mapping[tuple[int, str], int], better: Mapping[int, set[int]]
) -> tuple[FileCount, ...]:
    names = {number: record.name for number, record in zip(intake.whole, intake.records, strict=True)}

    def count(record: FileRecord, number: int) -> FileCount:
        stored, duplicates, conflicts, superseded = (fates.get((number, fate), 0) for fate in FATES)
        return FileCount(
            record.name, record.format, record.rows_read, stored + record.requests + record.bench, duplicates,
            record.rows_rejected + conflicts, superseded, record.series, record.requests, record.bench,
            tuple(sorted(names[other] for other in better.get(number, ()))) if superseded else (),
        )  # fmt: skip

    return tuple(count(record, number) for record, number in zip(intake.records, intake.whole, strict=True))
