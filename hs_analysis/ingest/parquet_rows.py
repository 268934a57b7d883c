"""Parquet tables in batches of rows that know their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, overload

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from hs_analysis.errors import InputError
from hs_analysis.ingest.delimited import Records
from hs_analysis.ingest.raw import Dump

MAGIC = b"PAR1"

BATCH_ROWS = 1 << 17

MOST_CELLS = 1 << 27
"""Cells of a table that is read whole: about 2 GB."""

LARGEST_RATIO = 50
SMALLEST_LIMIT_BYTES = 64 << 20
"""What is compressed inside, as Parquet and zipped arrays, does not inflate to so much more than its size."""


class RowTexts(Sequence[str]):
    """Rows of a frame as text, made when asked for."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __len__(self) -> int:
        return self._frame.height

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[str]: ...
    def __getitem__(self, i: int | slice) -> str | Sequence[str]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        return str(self._frame.row(i, named=True))


@contextmanager
def open_parquet(dump: Dump) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, compressed as a whole or not.

    Raises
    ------
    InputError
        When it can't be opened or is cut or damaged, whenever that shows.
    """
    try:
        with dump.path.open("rb") as probe:
            plain = probe.read(len(MAGIC)) == MAGIC
        if plain:
            with pq.ParquetFile(dump.path) as file:
                yield file
        else:
            with dump.handle() as handle, pq.ParquetFile(pa.BufferReader(inflated(handle, dump))) as file:
                yield file
    except (pa.ArrowException, OSError, EOFError) as error:
        what = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(
            f"no Parquet file that can be read ({what})", where=dump.where, hint="copy or export it again"
        ) from error


def inflated(handle: BinaryIO, dump: Dump) -> bytes:
    """Return the whole content of a file whose format is compressed inside: gzip can't shrink it much.

    Raises
    ------
    InputError
        When it inflates to far more than such a file can.
    """
    limit = SMALLEST_LIMIT_BYTES + LARGEST_RATIO * dump.path.stat().st_size
    data = handle.read(limit + 1)
    if len(data) > limit:
        raise InputError(
            f"it unpacks to more than {LARGEST_RATIO} times its size", where=dump.where,
            hint="give the file as it was written, not compressed again",
        )  # fmt: skip
    return data


def held_whole(file: pq.ParquetFile, dump: Dump) -> pa.Table:
    """Return all rows of a table that has to be in memory at once.

    Raises
    ------
    InputError
        When it has more cells than MOST_CELLS: a few bytes can claim billions of equal rows.
    ArrowException
        When it is damaged.
    """
    rows, columns = file.metadata.num_rows, file.metadata.num_columns
    if rows * columns > MOST_CELLS:
        raise InputError(
            f"{rows:,} rows of {columns} columns are more than can be read at once", where=dump.where,
            hint="write it in parts, a file each",
        )  # fmt: skip
    table = file.read()
    table.validate(full=True)  # a text that is no UTF-8 would be taken for one
    return table


def read_parquet(dump: Dump) -> Iterator[Records]:
    """Yield the rows of a Parquet table, at least one batch even when there is none.

    Texts lose the blanks around them; empty ones are null.

    Raises
    ------
    InputError
        When it can't be opened, is cut or damaged.
    """
    with open_parquet(dump) as file:
        number = 1
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            batch.validate(full=True)  # a text that is no UTF-8 would be taken for one
            cells = _plain(pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch]))))
            lines = np.arange(number, number + cells.height, dtype=np.int64)
            number += cells.height
            yield Records(cells, lines, RowTexts(cells))
        if number == 1:
            empty = _plain(pl.DataFrame(pl.from_arrow(file.schema_arrow.empty_table())))
            yield Records(empty, np.zeros(0, np.int64), [])


def _plain(cells: pl.DataFrame) -> pl.DataFrame:
    columns = [_plain_column(column) for column in cells]
    return pl.DataFrame(columns)


def _plain_column(column: pl.Series) -> pl.Series:
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        texts: list[Any] = [None if value is None else str(value) for value in column.to_list()]
        column = pl.Series(column.name, texts, pl.String)
    elif isinstance(column.dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return column
    stripped = column.str.strip_chars()
    return stripped.set(stripped == "", None)
