"""The user's description of a table, checked against the table itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import polars as pl

from hs_analysis.errors import InputError
from hs_analysis.ingest.delimited import Records, chosen
from hs_analysis.ingest.raw import SERIES_CHARACTERS, Dump, ReadNotes, Rejection
from hs_analysis.ingest.times import Clock, epoch_us
from hs_analysis.schema.settings import Reading, TableRow

ARCHIVE_ENDINGS = (".gz", ".zst")

HOW_TO_MAP = "describe its columns under [tables.NAME] in hsa.toml (docs/howto/tables.md)"

CAPTURE = "capture"
"""Label that is no label: its values are the captures the rows belong to."""

FILE = "{file}"
"""Stands for the file's name, without folder and endings, in a fixed label."""


TIME_DETAILS = {
    "bad_ts": "no time that can be read",
    "naive_ts": "a time without a zone: --tz says which",
    "tz_ambiguous": "this hour comes twice, when the clocks go back",
}
"""Reason of a row without a time → what is said of it."""


@dataclass(frozen=True)
class Mapped:
    """A described table: its name in hsa.toml, the description, and the file's name without its endings."""

    name: str
    row: TableRow
    stem: str

    @property
    def setting(self) -> str:
        """The table in hsa.toml, for messages."""
        return f"[tables.{self.name}]"


def mapped_tables(name: str, reading: Reading) -> list[Mapped]:
    """Return the descriptions whose pattern fits a file's name; the ending of an archive does not count."""
    bare = name
    for ending in ARCHIVE_ENDINGS:
        bare = bare.removesuffix(ending)
    tried = {name, bare, name.rpartition("/")[2], bare.rpartition("/")[2]}
    return [
        Mapped(table, row, bare.rpartition("/")[2].partition(".")[0])
        for table, row in sorted(reading.tables.items())
        if any(fnmatchcase(one, row.match) for one in tried)
    ]


def require_columns(table: Mapped, columns: Sequence[str], where: str) -> None:
    """Hold a description to the columns the file has.

    Raises
    ------
    InputError
        When it names one that is not there; the message lists those that are.
    """
    row = table.row
    wide = row.columns if row.metric is None else {}
    asked = [row.time, row.metric, row.value, *row.labels, *wide, *row.skip_where]
    missing = [name for name in asked if name is not None and name not in columns]
    if missing:
        raise InputError(
            f"{table.setting} names {_listed(missing)}, but the columns are {_listed(columns)}",
            where=where,
            hint="correct the names in hsa.toml",
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name)[:60] for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def clock_of(row: TableRow, dump: Dump) -> Clock:
    """Return how the times of a table are read: its own zone and unit before those for all files."""
    reading = dump.reading
    return Clock(
        dump.where, row.tz or reading.tz, row.time_unit or reading.time_unit, row.time_relative,
        (epoch_us(reading.epoch) or 0) if row.time_relative else 0,
    )  # fmt: skip


def kept_rows(records: Records, table: Mapped, notes: ReadNotes) -> Records:
    """Set aside the rows that the description leaves out."""
    out = np.zeros(records.cells.height, bool)
    for column, values in sorted(table.row.skip_where.items()):
        texts = records.cells[column].cast(pl.String, strict=False).fill_null("")
        hit = texts.is_in(list(values)).to_numpy() & ~out
        for i in np.flatnonzero(hit).tolist():
            detail = f"{table.setting} leaves out rows with {column} = {texts[i]!r}"
            reject_row(records, i, "skip_where", detail, notes)
        out |= hit
    return chosen(records, ~out)


def reject_row(
    records: Records, i: int, reason: str, detail: str, notes: ReadNotes, path: str = "", series: str = ""
) -> None:
    """Count a row, or a cell of it, and set it aside."""
    notes.rows += 1
    notes.rejections.append(
        Rejection(int(records.lines[i]), reason, records.raw[i], detail, path, series[:SERIES_CHARACTERS])
    )


def timed(records: Records, column: str, clock: Clock, notes: ReadNotes) -> tuple[Records, np.ndarray]:
    """Return the rows whose time can be read, and their times; the others are set aside."""
    times = clock.read(records.cells[column])
    good = times.good
    for i in np.flatnonzero(~good).tolist():
        reason = times.reasons[i]
        reject_row(records, i, reason, TIME_DETAILS[reason], notes)
    return chosen(records, good), times.t_us[good]
