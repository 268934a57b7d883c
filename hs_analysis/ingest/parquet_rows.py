"""Parquet tables in batches of rows that know their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from hs_analysis.errors import InputError
from hs_analysis.ingest.delimited import Records
from hs_analysis.ingest.raw import Dump

MAGIC = b"PAR1"

BATCH_ROWS = 1 << 17


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
            with dump.handle() as handle, pq.ParquetFile(pa.BufferReader(handle.read())) as file:
                yield file
    except (pa.ArrowException, OSError, EOFError) as error:
        what = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(
            f"no Parquet file that can be read ({what})", where=dump.where, hint="copy or export it again"
        ) from error


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
