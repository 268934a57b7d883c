"""The ingest stage: files in; series, samples, requests, benchmark points and rejected rows out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

import hs_analysis
from hs_analysis.catalogue import Catalogue, load_catalogue, with_user_rows
from hs_analysis.errors import InputError, first_of
from hs_analysis.ingest.checkpoint import Checkpoint, FileBefore, FileRead, Key, Labels
from hs_analysis.ingest.dedup import (
    OUTCOMES,
    CannotExtendError,
    Deduplication,
    StoredSeries,
    series_on_query_grids,
    stored_batches,
)
from hs_analysis.ingest.discovery import Discovery, InputFile
from hs_analysis.ingest.extension import (
    keep_samples,
    later_batches,
    outcomes_before,
    rejected_in_order,
    require_no_older,
    rows_before,
)
from hs_analysis.ingest.precedence import (
    covered_ranges,
    source_precedence,
    superseding_files,
)
from hs_analysis.ingest.quality import FileSpan, file_spans
from hs_analysis.ingest.reader_errors import BUGS_FILE, ReaderBugError, catch_reader_bugs, command_error
from hs_analysis.ingest.readers.table import HOW_TO_MAP
from hs_analysis.ingest.rows import (
    SENTINEL,
    SERIES_CHARACTERS,
    BenchRows,
    Dump,
    RawSeries,
    ReadNotes,
    Rejection,
    RequestRows,
    series_text,
)
from hs_analysis.ingest.services import identify
from hs_analysis.ingest.staging import Piece, Quarantine, Samples, Staging
from hs_analysis.schema import settings
from hs_analysis.schema.frames import (
    BENCH,
    REJECTED,
    REQUESTS,
    SAMPLES,
    SERIES,
    arrow,
    check,
    empty,
)
from hs_analysis.schema.settings import Reading
from hs_analysis.store import read_table, sample_parts, write_table

NOT_SUPPORTED = 1e15
"""DCGM writes 9223372036854775794 for fields a GPU does not support; anything above this is that sentinel."""

MOST_UNREAD = 1 << 17
"""Rows of one file that may be set aside while they are more than those that are read: seconds of work."""

_NOTED_TYPES = ("native_histogram", "negative_counter")
"""Reasons of rows that are what the format says, and are left out all the same."""


@dataclass
class Intake:
    """All files read.

    Attributes
    ----------
    keys
        Number of each series (capture, labels) that a whole file holds.
    records, whole
        Record and number of every file that was read to its end. Samples of a broken file may have been
        written before it broke: only numbers in ``whole`` count.
    requests, bench
        Frames of contracts REQUESTS and BENCH.
    broken
        (file, why) of those that broke.
    bugs
        (file, traceback) of those whose reading ended in a way that nobody foresaw; they are broken, too.
    guessed
        Numbers of those whose times are a guess.
    helps
        HELP text per metric, where a whole file carries one; of several the first file's.
    increases
        Numbers of series whose samples are what a counter gained.
    helps_of
        HELP texts of each file, by its number.
    """

    keys: dict[Key, int] = field(default_factory=dict)
    records: list[FileRead] = field(default_factory=list)
    requests: pl.DataFrame = field(default_factory=lambda: empty(REQUESTS))
    bench: pl.DataFrame = field(default_factory=lambda: empty(BENCH))
    broken: list[tuple[str, str]] = field(default_factory=list)
    bugs: list[tuple[str, str]] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    guessed: set[int] = field(default_factory=set)
    helps: dict[str, str] = field(default_factory=dict)
    increases: set[int] = field(default_factory=set)
    helps_of: dict[int, dict[str, str]] = field(default_factory=dict)


@dataclass
class _OneFile:
    """What one file gave so far."""

    found: dict[Key, int] = field(default_factory=dict)
    requests: list[pl.DataFrame] = field(default_factory=list)
    bench: list[pl.DataFrame] = field(default_factory=list)
    notes: ReadNotes = field(default_factory=ReadNotes)


def read_files(
    discovery: Discovery,
    staging: Staging,
    quarantine: Quarantine,
    progress: Callable[[str], None],
    how: settings.Reading | None = None,
    before: Checkpoint | None = None,
) -> Intake:
    """Read every file that is new; samples go to ``staging``, rejected rows to ``quarantine``.

    A damaged file inside a folder is noted in ``broken`` and none of it counts, and so is one on which a
    reader breaks; such a file named on the command line is an error.

    Raises
    ------
    InputError
        For a named file that can't be read, or when nothing could be read at all.
    """
    intake = Intake()
    reading = how or settings.Reading()
    known = _SeenSoFar(with_user_rows(load_catalogue(), reading))
    earlier: dict[int, FileBefore] = {}
    if before is not None:
        earlier = dict(zip(before.numbers, before.files, strict=True))
        known.numbers = {key: number for number, key in enumerate(before.keys)}
        known.increases = {number: number in before.increases for number in range(len(before.keys))}
        intake.keys = dict(known.numbers)
    requests = rows_before(before, "requests") if before else {}
    bench = rows_before(before, "bench") if before else {}
    errors: list[InputError] = []
    for number, file in enumerate(discovery.files):
        if number in earlier:
            _take_before(intake, number, earlier[number])
            continue
        progress(file.name)
        one = _OneFile()
        one.notes.rejections = quarantine.rows_of(number, file.name)
        dump = Dump(file.path, str(file.path), file.name, reading)
        try:
            with catch_reader_bugs(dump.where):
                _read_one(dump, file, number, staging, one, known)
        except InputError as error:
            _set_broken(intake, file, error, staging)
            errors.append(error)
            continue
        _take(intake, number, file, one)
        requests[number], bench[number] = one.requests, one.bench
    if not intake.records and errors:
        raise command_error(errors[0]) from errors[0]
    intake.increases = {number for number, kind in known.increases.items() if kind}
    intake.requests, intake.bench = _together(requests, REQUESTS), _together(bench, BENCH)
    return intake


def _set_broken(intake: Intake, file: InputFile, error: InputError, staging: Staging) -> None:
    """Note a file that can't be read; raise when the user named it."""
    staging.drop()
    if file.named:
        raise command_error(error) from error
    can_be_kept = error.hint is not None and "--salvage" in error.hint
    intake.broken.append((file.name, f"{error.what}; {error.hint}" if can_be_kept else error.what))
    if isinstance(error, ReaderBugError):
        intake.bugs.append((file.name, error.account))


def _take_before(intake: Intake, number: int, file: FileBefore) -> None:
    """Take a file as a run before read it."""
    intake.helps = file.helps | intake.helps
    intake.helps_of[number] = file.helps
    intake.whole.append(number)
    if file.guessed:
        intake.guessed.add(number)
    intake.records.append(file.record)


def _take(intake: Intake, number: int, file: InputFile, one: _OneFile) -> None:
    """Take a file that was read to its end."""
    intake.keys.update(one.found)
    intake.helps = one.notes.helps | intake.helps
    intake.helps_of[number] = one.notes.helps
    intake.whole.append(number)
    if one.notes.is_time_guessed:
        intake.guessed.add(number)
    intake.records.append(_record(file, one))


def _together(of_files: Mapping[int, list[pl.DataFrame]], contract: pa.Schema) -> pl.DataFrame:
    """Return the rows of all files in the order of their numbers."""
    frames = [frame for _, own in sorted(of_files.items()) for frame in own]
    return check(pl.concat([empty(contract), *frames], how="vertical_relaxed", rechunk=True), contract)


def _record(file: InputFile, one: _OneFile) -> FileRead:
    there = file.format.losses if one.notes.rows else ()
    return FileRead(
        name=file.name,
        format=file.format.id,
        rows_read=one.notes.rows,
        rows_rejected=one.notes.rejections.total,
        series=len(one.found),
        requests=sum(frame.height for frame in one.requests),
        bench=sum(frame.height for frame in one.bench),
        warnings=one.notes.warnings,
        infos=one.notes.infos,
        losses=[loss.text for loss in there if loss.always or loss.code in one.notes.losses],
    )


@dataclass
class _SeenSoFar:
    """What is known beside the file that is read: numbers of the series so far, kinds of metrics.

    A kind is asked once per series, and names are few.
    """

    catalogue: Catalogue
    numbers: dict[Key, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    increases: dict[int, bool] = field(default_factory=dict)

    def is_counter(self, metric: str) -> bool:
        """Whether a metric counts up, as the catalogue or the user says, else by its name's ending."""
        if metric not in self.kinds:
            self.kinds[metric] = self.catalogue.kind_of(metric)
        return self.kinds[metric] == "counter"


def _read_one(
    dump: Dump, file: InputFile, number: int, staging: Staging, one: _OneFile, known: _SeenSoFar
) -> None:
    """Take what one file yields; new series are counted on in ``known``.

    Raises
    ------
    InputError
        When it can't be read, or after MOST_UNREAD rows of which most can't be.
    """
    one.notes.rejections.after_batch = partial(_require_readable, one.notes, dump.where)
    for piece in file.format.read(dump, one.notes):
        if isinstance(piece, RequestRows):
            one.requests.append(_with_origin(piece.frame, file, REQUESTS))
        elif isinstance(piece, BenchRows):
            one.bench.append(_with_origin(piece.frame, file, BENCH))
        else:
            series = _without_sentinels(piece, one.notes, known)
            if not series.t_us.size:
                continue
            capture = _within(file.capture, series.capture)
            key = (capture, tuple(sorted(series.labels.items())))
            series_no = known.numbers.setdefault(key, len(known.numbers))
            if known.increases.setdefault(series_no, series.increases) != series.increases:
                _reject_other_kind(series, one.notes)
                continue
            one.found[key] = series_no
            staging.add(series_no, series, number)
    staging.flush(number)
    one.notes.rejections.flush()


def _reject_other_kind(series: RawSeries, notes: ReadNotes) -> None:
    """Set aside totals of a series whose samples before are increases, or the reverse."""
    was, now = ("totals", "increases") if series.increases else ("increases", "totals")
    text = series_text(series.labels)[:SERIES_CHARACTERS]
    for t_us, value in zip(series.t_us.tolist(), series.values.tolist(), strict=True):
        notes.rejections.append(
            Rejection(
                series.offset, "bad_value", f"[{t_us / 1e6},{value}]",
                f"{now} of a series whose first samples are {was}: the two can't be joined", "", text,
            )
        )  # fmt: skip


def _require_readable(notes: ReadNotes, where: str, last: Rejection) -> None:
    unread = notes.rejections.total
    if unread >= MOST_UNREAD and 2 * unread > notes.rows and last.reason not in _NOTED_TYPES:
        raise InputError(
            f"{unread} of the first {notes.rows} rows can't be read, "
            f"the last at {last.position}: {last.detail}",
            where=where,
            hint="look at that place, or say what format it is: --format",
        )


def _with_origin(frame: pl.DataFrame, file: InputFile, contract: pa.Schema) -> pl.DataFrame:
    """Return rows with their capture and file, columns as the contract orders them.

    All files together are held to the contract later: a document may hold a single row.
    """
    inner = frame["capture"].to_list() if "capture" in frame.columns else [""] * frame.height
    place = {
        "capture": pl.Series("capture", [_within(file.capture, one) for one in inner], pl.String),
        "file": pl.Series("file", [file.name] * frame.height, pl.String),
    }
    return pl.DataFrame([place[name] if name in place else frame[name] for name in contract.names])


def _within(outer: str, inner: str | None) -> str:
    """Return the name of a capture inside the one of the file's folder."""
    return "/".join(name for name in (outer, inner) if name)


def _without_sentinels(series: RawSeries, notes: ReadNotes, known: _SeenSoFar) -> RawSeries:
    """Null the exporter's sentinels and quarantine what a counter can't be."""
    metric = series.labels.get("__name__", "")
    values, flags = series.values, series.flags
    if metric.startswith("DCGM_FI_"):
        blank = values > NOT_SUPPORTED
        flags[blank], values[blank] = SENTINEL, np.nan
    if not np.any(values < 0) or not known.is_counter(metric):
        return series
    bad = values < 0
    for t, value in zip(series.t_us[bad], values[bad], strict=True):
        notes.rejections.append(
            Rejection(
                series.offset, "negative_counter", f"[{t / 1e6},{value}]", "a counter is never below 0",
                "", series_text(series.labels)[:SERIES_CHARACTERS],
            )
        )  # fmt: skip
    keep = ~bad
    return replace(series, t_us=series.t_us[keep], values=values[keep], flags=flags[keep])


@dataclass(frozen=True)
class FileRows:
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
    metric, where the input has them; ``paths`` are those of ``files``. ``checkpoint`` is None where later
    files can't be added. ``tables`` are those among ``skipped`` that could be mapped, and what they are.
    """

    series: pl.DataFrame
    quality: pl.DataFrame
    rejected_path: Path
    frozen: pl.DataFrame
    requests: pl.DataFrame
    bench: pl.DataFrame
    files: tuple[FileRows, ...]
    paths: tuple[Path, ...]
    skipped: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]
    infos: tuple[tuple[str, str], ...]
    losses: tuple[tuple[str, str], ...]
    spans: tuple[FileSpan, ...]
    grids: pl.DataFrame
    helps: dict[str, str]
    checkpoint: Checkpoint | None
    tables: tuple[tuple[str, str], ...] = ()

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
    before: Checkpoint | None = None,
) -> Ingested:
    """Read the files of ``discovery`` into Parquet tables below ``data``.

    Those of ``before`` are not read again: their samples are linked to, or copied with new numbers where
    series have come that stand before others.

    ``as_scraped`` are names of files that are known to hold samples as scraped, although their form is that
    of an answer on a query's grid, which repeats values where nothing was scraped.

    Writes ``samples/part-0.parquet``, ``rejected.parquet``, ``requests.parquet`` and ``bench.parquet``, and
    ``bugs.txt`` with the tracebacks where it is a bug that a file can't be read. The
    series are the caller's to write: the samples may show more of them (`roles.infer_from_samples`).

    Raises
    ------
    InputError
        When nothing could be read, or there are only metrics that neither the catalogue nor the user knows.
    CannotExtendError
        When what is new changes what is stored; what was written is of no use then.
    """
    data.mkdir(parents=True, exist_ok=True)
    reading = how or Reading()
    with (
        tempfile.TemporaryFile(dir=data) as scratch,
        tempfile.TemporaryFile(dir=data) as aside,
        Quarantine(aside) as quarantine,
    ):
        staging = Staging(scratch)
        if before is not None:
            staging.pieces = {number: list(own) for number, own in before.pieces.items()}
        intake = read_files(discovery, staging, quarantine, progress, reading, before)
        _write_bugs(data, [(p.name, p.bug.account) for p in discovery.passed if p.bug] + intake.bugs)
        looking_back = {
            number
            for number in intake.whole
            if discovery.files[number].format.looks_back and discovery.files[number].name not in as_scraped
        }
        return _from_staged(staging, quarantine, intake, discovery, data, reading, looking_back, before)


def _write_bugs(data: Path, bugs: Sequence[tuple[str, str]]) -> None:
    """Write the tracebacks of files that could not be read, where there are any."""
    if bugs:
        lines = [f"hsa {hs_analysis.__version__}", *(f"{name}\n{account}" for name, account in bugs)]
        (data.parent / BUGS_FILE).write_text("\n".join(lines), "utf-8", "backslashreplace", newline="\n")


def _from_staged(
    staging: Staging,
    quarantine: Quarantine,
    intake: Intake,
    discovery: Discovery,
    data: Path,
    how: Reading,
    looking_back: Set[int],
    before: Checkpoint | None,
) -> Ingested:
    members = _series_pieces(intake, staging, how.dedup_label)
    keys = sorted(members, key=lambda key: (key[0], dict(key[1]).get("__name__", ""), key[1]))
    catalogue = with_user_rows(load_catalogue(), how)
    series = _series_frame(keys, catalogue, how, [members[key].values for key in keys])
    if not intake.requests.height and not intake.bench.height:  # with these alone there is no metric to know
        _require_known_series(series, discovery, how)
    stored = _stored_series(keys, members, series, catalogue, looking_back, before)
    forms = source_precedence(intake.whole, intake.guessed, discovery)
    spans = covered_ranges(stored, series["metric"], forms)
    one_form = len(set(forms.values())) < 2
    names = [file.name for file in discovery.files]
    if before is None:
        aside = partial(_set_aside, quarantine, keys, names)
        found, batches = stored_batches(stored, staging, spans, how.on_conflict, aside)
    else:
        require_no_older(stored, names, one_form=one_form)
        found, batches = later_batches(before, stored, staging, how.on_conflict)
        keep_samples(data, before, keys)
    _write_tables(data, batches, intake, quarantine, before)
    outcomes = found.outcomes | outcomes_before(before)
    better = superseding_files(stored, series["metric"], forms)
    _count_copies(members.values(), outcomes, better)
    series = _with_intervals(series, found.quality)
    is_plain = one_form and how.dedup_label is None
    return Ingested(
        series=series,
        quality=found.quality,
        rejected_path=data / "rejected.parquet",
        frozen=found.frozen,
        files=_file_counts(intake, outcomes, better),
        spans=file_spans(
            list(zip([record.name for record in intake.records], intake.whole, strict=True)),
            staging.pieces.values(),
        ),
        grids=series_on_query_grids(stored, series, looking_back, spans),
        checkpoint=_checkpoint(discovery, intake, keys, stored, found, outcomes) if is_plain else None,
        **_told(discovery, intake),
    )


def _told(discovery: Discovery, intake: Intake) -> dict[str, Any]:
    """Return the fields of Ingested that reading has told already."""
    return {
        "requests": intake.requests,
        "bench": intake.bench,
        "paths": tuple(discovery.files[number].path.resolve() for number in intake.whole),
        "skipped": tuple(p.name for p in discovery.passed if p.state == "skipped"),
        "tables": tuple((p.name, p.why) for p in discovery.passed if p.then == HOW_TO_MAP),
        "broken": (*((p.name, p.why) for p in discovery.passed if p.state == "broken"), *intake.broken),
        "warnings": tuple((r.name, text) for r in intake.records for text in r.warnings),
        "infos": (*((r.name, text) for r in intake.records for text in r.infos), *_skipped(discovery)),
        "losses": tuple((r.name, text) for r in intake.records for text in r.losses),
        "helps": intake.helps,
    }


def _checkpoint(
    discovery: Discovery,
    intake: Intake,
    keys: Sequence[Key],
    stored: Sequence[StoredSeries],
    found: Deduplication,
    outcomes: Mapping[tuple[int, str], int],
) -> Checkpoint | None:
    """Return what later files are added to.

    None where samples contradict each other, and where a file broke: it may be whole the next time.
    """
    in_dispute = any(kind == "conflict" for _, kind in outcomes)
    if in_dispute or intake.broken or intake.bugs or any(p.bug for p in discovery.passed):
        return None
    records = dict(zip(intake.whole, intake.records, strict=True))
    files = tuple(
        FileBefore(
            str(file.path.resolve()), file.name, file.capture, file.named, file.format.id, records[number],
            number in intake.guessed, intake.helps_of[number],
            {kind: size for kind in OUTCOMES if (size := outcomes.get((number, kind), 0))},
        )
        for number, file in enumerate(discovery.files)
    )  # fmt: skip
    return Checkpoint(
        files=files,
        passed=discovery.passed,
        keys=tuple(keys),
        increases=frozenset(one.series_id for one in stored if one.increases),
        stored=found.stored,
        pieces={one.series_id: list(one.pieces) for one in stored},
        repeats=found.repeats,
    )


def _stored_series(
    keys: Sequence[Key],
    members: Mapping[Key, _SeriesPieces],
    series: pl.DataFrame,
    catalogue: Catalogue,
    looking_back: Set[int],
    before: Checkpoint | None,
) -> list[StoredSeries]:
    """Return the series to be stored, by number; ``looking_back`` are files whose server repeats values."""
    known = {before.keys[n]: one for n, one in before.stored.items()} if before else {}
    found = []
    for number, (key, kind, metric) in enumerate(zip(keys, series["kind"], series["metric"], strict=True)):
        pieces = members[key].pieces
        looks = [piece.file_no in looking_back for piece in pieces]
        if key in known and any(looks) != any(
            look for look, piece in zip(looks, pieces, strict=True) if not piece.is_staged
        ):
            raise CannotExtendError("some files hold samples as scraped, and others a server's answers")
        found.append(
            StoredSeries(
                series_id=number,
                capture=key[0],
                counter=kind == "counter",
                clock_like=metric in catalogue.clock_like,
                pieces=pieces,
                looks_back=any(looks),
                increases=members[key].increases,
                before=known.get(key),
            )
        )
    return found


def _set_aside(
    quarantine: Quarantine, keys: Sequence[Key], names: Sequence[str], number: int, torn: Samples
) -> None:
    """Quarantine the contradicting samples of a series."""
    quarantine.contradictions(torn, series_text(dict(keys[number][1]))[:SERIES_CHARACTERS], names)


def _with_intervals(series: pl.DataFrame, quality: pl.DataFrame) -> pl.DataFrame:
    spacing = quality.select("series_id", "interval_s")
    return check(series.drop("interval_s").join(spacing, "series_id", "left", maintain_order="left"), SERIES)


def _write_tables(
    data: Path,
    batches: Iterator[pa.RecordBatch],
    intake: Intake,
    quarantine: Quarantine,
    before: Checkpoint | None,
) -> None:
    """Write samples first: contradictions among them are rejected rows."""
    samples = pa.RecordBatchReader.from_batches(SAMPLES, batches)
    stored = sample_parts(data / "samples" / "*.parquet")
    if before is None:  # what an earlier ingest left in the folder
        for part in stored:
            part.unlink()
    number = 0 if before is None else len(stored)
    write_table(samples, SAMPLES, data / "samples" / f"part-{number}.parquet")
    rows = quarantine.batches(intake.whole)
    if before is not None:
        rows = rejected_in_order(before, rows, dict(zip(intake.whole, intake.records, strict=True)))
    rejected = pa.RecordBatchReader.from_batches(REJECTED, rows)
    write_table(rejected, REJECTED, data / "rejected.parquet")
    write_table(intake.requests, REQUESTS, data / "requests.parquet")
    write_table(intake.bench, BENCH, data / "bench.parquet")


def _count_copies(
    members: Iterable[_SeriesPieces], outcomes: dict[tuple[int, str], int], better: dict[int, set[int]]
) -> None:
    """Count the samples of replicas that were left out as superseded by the replica that was kept."""
    for member in members:
        for copy in member.copies:
            outcomes[copy.file_no, "superseded"] += copy.rows
            better.setdefault(copy.file_no, set()).update(piece.file_no for piece in member.pieces)


def _skipped(discovery: Discovery) -> tuple[tuple[str, str], ...]:
    """Return (file, what to do) of skipped files that hold answers, or come from where answers come from.

    Tables are no news: anything may lie beside dumps.
    """
    advised = (p for p in discovery.passed if p.then and p.then != HOW_TO_MAP)
    return tuple((p.name, f"{p.why}, skipped: {p.then}") for p in advised)


@dataclass(frozen=True)
class _SeriesPieces:
    """The pieces of a series, those of its replicas that hold less, and what they are told apart by."""

    pieces: list[Piece]
    copies: list[Piece]
    increases: bool = False
    values: tuple[str, ...] = ()


def _series_pieces(intake: Intake, staging: Staging, dedup_label: str | None) -> dict[Key, _SeriesPieces]:
    """Return every series that a whole file holds; replicas that differ in a label are one series."""
    whole = set(intake.whole)
    replicas: dict[Key, list[tuple[int, str, list[Piece], bool]]] = {}
    for (capture, labels), number in intake.keys.items():
        pieces = [piece for piece in staging.pieces.get(number, ()) if piece.file_no in whole]
        rest = tuple(pair for pair in labels if pair[0] != dedup_label)
        name = dict(labels).get(dedup_label or "", "")
        replicas.setdefault((capture, rest), []).append(
            (-sum(p.rows for p in pieces), name, pieces, number in intake.increases)
        )
    found = {}
    for key, copies in replicas.items():
        _, _, pieces, increases = min(copies, key=lambda copy: copy[:2])
        others = [p for copy in copies if copy[2] is not pieces for p in copy[2]]
        values = tuple(sorted(copy[1] for copy in copies if copy[1]))
        found[key] = _SeriesPieces(pieces, others, increases, values)
    return found


def _series_frame(
    keys: Sequence[Key], catalogue: Catalogue, how: Reading, copies: Sequence[Sequence[str]]
) -> pl.DataFrame:
    identities = identify([(capture, dict(labels)) for capture, labels in keys], catalogue, how)
    metrics = [dict(labels).get("__name__", "") for _, labels in keys]
    signals = {metric: catalogue.first_signal(metric) for metric in set(metrics)}
    kinds = {metric: catalogue.kind_of(metric) for metric in set(metrics)}
    units = {s.id: s.unit for s in catalogue.signals}
    columns = {
        "series_id": range(len(keys)),
        "metric": metrics,
        "labels": _label_column([labels for _, labels in keys]),
        "signal": [signals[metric] for metric in metrics],
        "emitter_role": [who.emitter_role for who in identities],
        "role_evidence": [who.role_evidence for who in identities],
        "service": [who.service for who in identities],
        "instance": [who.instance for who in identities],
        "unit_kind": [who.unit_kind for who in identities],
        "gpu_type": [who.gpu_type for who in identities],
        "unit": [units.get(signals[metric] or "") for metric in metrics],
        "kind": [kinds[metric] for metric in metrics],
        "capture": [capture for capture, _ in keys],
        "source": [who.exporter for who in identities],
        "copy_label": [how.dedup_label] * len(keys),
        "copies": [list(values) if how.dedup_label else None for values in copies],
    }
    later = {name: [None] * len(keys) for name in SERIES.names if name not in columns}
    return pl.DataFrame(columns | later, schema=empty(SERIES).schema)


def _label_column(labels: Sequence[Labels]) -> pl.Series:
    """Return the labels of each series without its name; polars alone builds a series for every row."""
    pairs = [[pair for pair in each if pair[0] != "__name__"] for each in labels]
    ends = np.cumsum([0, *(len(each) for each in pairs)])
    names, values = ([pair[side] for each in pairs for pair in each] for side in (0, 1))
    column = pa.MapArray.from_arrays(
        arrow(ends, pa.int32()), arrow(names, pa.string()), arrow(values, pa.string())
    )
    return pl.Series(pl.from_arrow(column))


def _require_known_series(series: pl.DataFrame, discovery: Discovery, how: Reading) -> None:
    described = {*how.metrics, *(column for table in how.tables.values() for column in table.columns)}
    if series["signal"].null_count() < series.height or described.intersection(series["metric"]):
        return
    seen = sorted(set(series["metric"]))
    raise InputError(
        f"no metric that the catalogue knows among {len(seen)} names ({first_of(seen, 3)})"
        if seen
        else "no series in the answers",
        where=", ".join(sorted({str(f.path.parent if not f.named else f.path) for f in discovery.files})[:2]),
        hint="`hsa signals` lists the names it looks for",
    )


def _file_counts(
    intake: Intake, outcomes: Mapping[tuple[int, str], int], better: Mapping[int, set[int]]
) -> tuple[FileRows, ...]:
    names = {number: record.name for number, record in zip(intake.whole, intake.records, strict=True)}

    def count(record: FileRead, number: int) -> FileRows:
        stored, duplicates, conflicts, superseded = (
            outcomes.get((number, outcome), 0) for outcome in OUTCOMES
        )
        return FileRows(
            name=record.name,
            format=record.format,
            rows_read=record.rows_read,
            rows_stored=stored + record.requests + record.bench,
            duplicates=duplicates,
            rows_rejected=record.rows_rejected + conflicts,
            superseded=superseded,
            series=record.series,
            requests=record.requests,
            bench=record.bench,
            superseded_by=tuple(sorted(names[other] for other in better.get(number, ())))
            if superseded
            else (),
        )

    return tuple(count(record, number) for record, number in zip(intake.records, intake.whole, strict=True))
