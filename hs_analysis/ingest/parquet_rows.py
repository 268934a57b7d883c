"""Parquet tables in batches of rows that know their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hs_analysis.errors import InputError
from hs_analysis.ingest.delimited import Records
from hs_analysis.ingest.rows import Dump
from hs_analysis.ingest.streams import DAMAGED, DAMAGES, LARGEST_RATIO, most_unpacked_bytes

MAGIC = b"PAR1"

BATCH_ROWS = 1 << 17

MOST_CELLS = 1 << 27
"""Cells of a table that is read whole: about 2 GB."""

MOST_LEAVES = 1 << 22
"""Values inside the lists of a batch: each is an object of its own on its way to text, some 100 bytes."""

NESTED_COPIES = 4
"""A text inside a list is there so often at once: as read, as an object, in its row's text, in the frame."""

MOST_TEXT_BYTES = 1 << 30
"""Texts of a batch, or of a table that is read whole: a text that repeats is stored once in the file."""

EARLIEST_S, LATEST_S = 62_135_596_800, 253_402_300_800
"""Seconds from 1970 back to the year 1 and on to the year 10000."""

_UNREADABLE = (
    pa.ArrowException, OSError, EOFError, UnicodeDecodeError, pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
)  # fmt: skip


def column_names(path: Path) -> list[str]:
    """Return the names of a Parquet file's columns, none when it can't be read."""
    try:
        return list(pq.read_schema(path).names)
    except _UNREADABLE:
        return []


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
    """Open a Parquet file, compressed as a whole or not; its texts are given as dictionaries.

    Raises
    ------
    InputError
        When it can't be opened or is cut or damaged, whenever that shows.
    """
    try:
        with dump.path.open("rb") as probe:
            plain = probe.read(len(MAGIC)) == MAGIC
        if plain:
            source: Any = dump.path
        else:
            with dump.handle() as handle:
                source = pa.BufferReader(inflated(handle, dump))
        with pq.ParquetFile(source) as probe_file:
            texts = _text_columns(probe_file)
        with pq.ParquetFile(source, read_dictionary=texts) as file:
            yield file
    except _UNREADABLE as error:
        what = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(
            f"no Parquet file that can be read ({what})", where=dump.where, hint="copy or export it again"
        ) from error


def _text_columns(file: pq.ParquetFile) -> list[str]:
    """Return the columns of texts or bytes, and those inside lists, maps and structs."""
    schema = file.schema
    columns = [schema.column(i) for i in range(len(schema))]
    return [one.path for one in columns if one.physical_type == "BYTE_ARRAY"]


def _batch_rows(file: pq.ParquetFile, dump: Dump) -> int:
    """Return how many rows are read at once: fewer where each holds lists of many values.

    Raises
    ------
    InputError
        When the lists of a column in one row group have more values than MOST_CELLS: all may be one row's.
    """
    rows = BATCH_ROWS
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            leaf = group.column(place)
            if leaf.num_values > MOST_CELLS:
                raise _too_much(
                    leaf.path_in_schema, f"{leaf.num_values:,} values in row group {number}", dump
                )
            rows = min(rows, max(1, MOST_LEAVES * group.num_rows // max(leaf.num_values, 1)))
    return rows


def _too_much(column: str, what: str, dump: Dump) -> InputError:
    return InputError(
        f"column {column[:60]!r}: {what} are more than can be read at once", where=dump.where,
        hint="leave the column out, or write the table in parts",
    )  # fmt: skip


def inflated(handle: BinaryIO, dump: Dump) -> bytes:
    """Return the whole content of a file whose format is compressed inside: gzip can't shrink it much.

    Raises
    ------
    InputError
        When it is cut or damaged, or inflates to far more than such a file can.
    """
    limit = most_unpacked_bytes(dump.path)
    try:
        data = handle.read(limit + 1)
    except DAMAGES as error:
        raise InputError(DAMAGED, where=dump.where, hint="copy or export the file again") from error
    if len(data) > limit:
        raise InputError(
            f"it unpacks to more than {LARGEST_RATIO} times its size", where=dump.where,
            hint="give the file as it was written, not compressed again",
        )  # fmt: skip
    return data


def held_whole(file: pq.ParquetFile, dump: Dump) -> pl.DataFrame:
    """Return all rows of a table that has to be in memory at once.

    Raises
    ------
    InputError
        When it has more cells than MOST_CELLS: a few bytes can claim billions of equal rows. When its texts
        have more bytes than MOST_TEXT_BYTES.
    ArrowException
        When it is damaged.
    """
    rows, columns = file.metadata.num_rows, file.metadata.num_columns
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    inside = sum(group.column(place).num_values for group in groups for place in range(group.num_columns))
    if max(rows * columns, inside) > MOST_CELLS:
        raise InputError(
            f"{rows:,} rows of {columns} columns are more than can be read at once", where=dump.where,
            hint="write it in parts, a file each",
        )  # fmt: skip
    return _frame(file.read(), dump)


def _frame(table: pa.Table, dump: Dump) -> pl.DataFrame:
    """Return Arrow columns as a frame: texts as texts, and no type that only Arrow knows."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = sum(_leaves(chunk) for chunk in column.chunks) if pa.types.is_nested(column.type) else 0
        if values > NESTED_COPIES * MOST_LEAVES:
            raise _too_much(name, f"{values:,} values in lists of {table.num_rows:,} rows", dump)
    size = sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks)
    if size > MOST_TEXT_BYTES:
        raise InputError(
            f"{size:,} bytes of texts in {table.num_rows:,} rows are more than can be read at once",
            where=dump.where, hint="leave out columns of long texts, or write it in parts",
        )  # fmt: skip
    columns = [_castable(column) for column in table.columns]
    plain = pa.table(columns, names=table.column_names)  # without metadata, which may be no UTF-8
    plain.validate(full=True)  # a text that is no UTF-8 would be taken for one
    frame = pl.from_arrow(plain)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type of from_arrow
    return frame


def _text_bytes(values: pa.Array) -> int:
    """Return the bytes that texts of dictionaries take when they are written out, those inside lists too."""
    if pa.types.is_nested(values.type):
        return NESTED_COPIES * sum(_text_bytes(part) for part in _leaf_arrays(values))
    if not pa.types.is_dictionary(values.type):
        return 0
    kind = values.type.value_type
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return 0
    lengths = pc.binary_length(values.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(values.indices)).as_py() or 0


def _leaves(values: pa.Array) -> int:
    """Return how many values there are inside lists, maps and structs."""
    return sum(len(part) for part in _leaf_arrays(values))


def _leaf_arrays(values: pa.Array) -> Iterator[pa.Array]:
    """Yield the columns of plain values that a column of lists, maps and structs is made of."""
    kind = values.type
    if pa.types.is_struct(kind):
        parts = values.flatten()
    elif pa.types.is_map(kind):
        parts = [values.keys, values.items]
    elif pa.types.is_nested(kind):
        parts = [values.flatten()]
    else:
        yield values
        return
    for part in parts:
        yield from _leaf_arrays(part)


def _without_dictionaries(kind: pa.DataType) -> pa.DataType:
    """Return a type whose texts stand where they are, inside lists, maps and structs too."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_dictionaries(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_without_dictionaries(kind.key_type), _without_dictionaries(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_dictionaries(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_dictionaries(kind.value_type)))
    return kind


def _castable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as a type that polars casts to text and numbers."""
    plain = _without_dictionaries(column.type)
    if plain != column.type:
        column = column.cast(plain)
    kind = column.type
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_duration(kind):
        return pc.binary_join_element_wise(column.cast(pa.int64()).cast(pa.string()), kind.unit, " ")
    if pa.types.is_date64(kind):
        column = column.cast(pa.int64()).cast(pa.timestamp("ms"))
    elif pa.types.is_date32(kind):
        days = column.cast(pa.int32()).cast(pa.int64())
        column = pc.multiply(days, 86_400).cast(pa.timestamp("s"))
    return _four_digit_years(column) if pa.types.is_timestamp(column.type) else column


def _four_digit_years(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return times without those that are in no year of four digits: they have no text."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    latest = min(LATEST_S * per_second, 2**63 - 1)
    ticks = column.cast(pa.int64())
    there = pc.and_(pc.less(ticks, latest), pc.greater(ticks, -min(EARLIEST_S * per_second, 2**63 - 1)))
    return pc.if_else(there, ticks, None).cast(column.type)


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
        for batch in file.iter_batches(batch_size=_batch_rows(file, dump)):
            cells = _plain(_frame(pa.Table.from_batches([batch]), dump))
            lines = np.arange(number, number + cells.height, dtype=np.int64)
            number += cells.height
            yield Records(cells, lines, RowTexts(cells))
        if number == 1:
            empty = _plain(_frame(file.schema_arrow.empty_table(), dump))
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
