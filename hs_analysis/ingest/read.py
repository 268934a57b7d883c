"""Read all files: samples into staging, requests and benchmark points into frames, bad rows aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.catalogue import Catalogue, load_catalogue, with_user_rows
from hs_analysis.errors import InputError
from hs_analysis.ingest.discover import Discovery, InputFile
from hs_analysis.ingest.net import ReaderBugError, ending, net
from hs_analysis.ingest.quarantine import Quarantine
from hs_analysis.ingest.raw import (
    SENTINEL,
    SERIES_CHARACTERS,
    Dump,
    RawBench,
    RawRequests,
    RawSeries,
    ReadNotes,
    Rejection,
    series_text,
)
from hs_analysis.ingest.staging import Staging
from hs_analysis.schema import settings
from hs_analysis.schema.frames import BENCH, REQUESTS, check, empty

NOT_SUPPORTED = 1e15
"""DCGM writes 9223372036854775794 for fields a GPU does not support; anything above this is that sentinel."""

MOST_UNREAD = 1 << 17
"""Rows of one file that may be set aside while they are more than those that are read: seconds of work."""

_KNOWN = ("native_histogram", "negative_counter")
"""Reasons of rows that are what the format says, and are left out all the same."""

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""A series: its capture and its sorted labels."""


@dataclass(frozen=True)
class FileRecord:
    """What one file gave.

    Rows read = stored + duplicates + superseded + rejected; what becomes of samples is known after
    deduplication, ``requests`` and ``bench`` count the rows of the other two tables.
    """

    name: str
    format: str
    rows_read: int
    rows_rejected: int
    series: int
    requests: int
    bench: int
    warnings: list[str]
    infos: list[str]


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
    """

    keys: dict[Key, int] = field(default_factory=dict)
    records: list[FileRecord] = field(default_factory=list)
    requests: pl.DataFrame = field(default_factory=lambda: empty(REQUESTS))
    bench: pl.DataFrame = field(default_factory=lambda: empty(BENCH))
    broken: list[tuple[str, str]] = field(default_factory=list)
    bugs: list[tuple[str, str]] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    guessed: set[int] = field(default_factory=set)
    helps: dict[str, str] = field(default_factory=dict)


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
) -> Intake:
    """Read every file; samples go to ``staging``, rejected rows to ``quarantine``.

    A damaged file inside a folder is noted in ``broken`` and none of it counts, and so is one on which a
    reader breaks; such a file named on the command line is an error.

    Raises
    ------
    InputError
        For a named file that can't be read, or when nothing could be read at all.
    """
    intake = Intake()
    reading = how or settings.Reading()
    catalogue = with_user_rows(load_catalogue(), reading)
    known = _Known(catalogue)
    requests, bench = list[pl.DataFrame](), list[pl.DataFrame]()
    first_error: InputError | None = None
    for number, file in enumerate(discovery.files):
        progress(file.name)
        one = _OneFile()
        one.notes.rejections = quarantine.rows_of(number, file.name)
        try:
            with net(str(file.path)):
                _read_one(
                    Dump(file.path, str(file.path), file.name, reading), file, number, staging, one, known
                )
        except InputError as error:
            staging.drop()
            if file.named:
                raise ending(error) from error
            first_error = first_error or error
            intake.broken.append((file.name, error.what))
            if isinstance(error, ReaderBugError):
                intake.bugs.append((file.name, error.account))
            continue
        intake.keys.update(one.found)
        intake.helps = one.notes.helps | intake.helps
        intake.whole.append(number)
        if one.notes.is_time_guessed:
            intake.guessed.add(number)
        intake.records.append(_record(file, one))
        requests += one.requests
        bench += one.bench
    if not intake.records and first_error is not None:
        raise ending(first_error) from first_error
    intake.requests = check(
        pl.concat([empty(REQUESTS), *requests], how="vertical_relaxed", rechunk=True), REQUESTS
    )
    intake.bench = check(pl.concat([empty(BENCH), *bench], how="vertical_relaxed", rechunk=True), BENCH)
    return intake


def _record(file: InputFile, one: _OneFile) -> FileRecord:
    return FileRecord(
        file.name, file.format.id, one.notes.rows, one.notes.rejections.total, len(one.found),
        sum(frame.height for frame in one.requests), sum(frame.height for frame in one.bench),
        one.notes.warnings, one.notes.infos,
    )  # fmt: skip


@dataclass
class _Known:
    """What is known beside the file that is read: numbers of the series so far, kinds of metrics.

    A kind is asked once per series, and names are few.
    """

    catalogue: Catalogue
    numbers: dict[Key, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def is_counter(self, metric: str) -> bool:
        """Whether a metric counts up, as the catalogue or the user says, else by its name's ending."""
        if metric not in self.kinds:
            self.kinds[metric] = self.catalogue.kind_of(metric)
        return self.kinds[metric] == "counter"


def _read_one(
    dump: Dump, file: InputFile, number: int, staging: Staging, one: _OneFile, known: _Known
) -> None:
    """Take what one file yields; new series are counted on in ``known``.

    Raises
    ------
    InputError
        When it can't be read, or after MOST_UNREAD rows of which most can't be.
    """
    one.notes.rejections.after_batch = partial(_require_readable, one.notes, dump.where)
    for piece in file.format.read(dump, one.notes):
        if isinstance(piece, RawRequests):
            one.requests.append(_placed(piece.frame, file, REQUESTS))
        elif isinstance(piece, RawBench):
            one.bench.append(_placed(piece.frame, file, BENCH))
        else:
            series = _repaired(piece, one.notes, known)
            if not series.t_us.size:
                continue
            capture = _within(file.capture, series.capture)
            key = (capture, tuple(sorted(series.labels.items())))
            one.found[key] = known.numbers.setdefault(key, len(known.numbers))
            staging.add(one.found[key], series, number)
    staging.flush(number)
    one.notes.rejections.flush()


def _require_readable(notes: ReadNotes, where: str, last: Rejection) -> None:
    unread = notes.rejections.total
    if unread >= MOST_UNREAD and 2 * unread > notes.rows and last.reason not in _KNOWN:
        raise InputError(
            f"{unread} of the first {notes.rows} rows can't be read, "
            f"the last at {last.position}: {last.detail}",
            where=where,
            hint="look at that place, or say what format it is: --format",
        )


def _placed(frame: pl.DataFrame, file: InputFile, contract: pa.Schema) -> pl.DataFrame:
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


def _repaired(series: RawSeries, notes: ReadNotes, known: _Known) -> RawSeries:
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
    return RawSeries(
        series.labels, series.t_us[keep], values[keep], flags[keep], series.offset, series.capture
    )
