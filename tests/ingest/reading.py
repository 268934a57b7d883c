"""A reader under test on bytes: what it yields, and whether every row it saw is accounted for."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from hs_analysis.ingest.rows import FLAGS, BenchRows, Dump, Piece, RawSeries, ReadNotes, RequestRows
from hs_analysis.schema.frames import BENCH, REQUESTS, check
from hs_analysis.schema.settings import Reading

Reader = Callable[[Dump, ReadNotes], Iterator[Piece]]


def read(
    reader: Reader, raw: bytes, name: str = "data.csv", reading: Reading | None = None, **how: Any
) -> tuple[list[Any], ReadNotes]:
    """Return the pieces a reader yields for a file of these bytes, and its notes."""
    notes = ReadNotes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(raw)
        pieces = list(reader(Dump(path, name, name, reading or Reading(**how)), notes))
    assert accounted(pieces, notes), (notes.rows, [size(p) for p in pieces], len(notes.rejections))
    for rejection in notes.rejections:
        assert rejection.position >= 0
        assert rejection.reason
        assert rejection.detail
    return pieces, notes


def size(piece: Piece) -> int:
    return piece.t_us.size if isinstance(piece, RawSeries) else piece.frame.height


def accounted(pieces: list[Piece], notes: ReadNotes) -> bool:
    """Whether rows seen = rows yielded + rows rejected, and frames keep their contracts."""
    for piece in pieces:
        if not isinstance(piece, RawSeries):
            contract = BENCH if isinstance(piece, BenchRows) else REQUESTS
            capture = [] if "capture" in piece.frame.columns else [pl.lit("").alias("capture")]
            check(piece.frame.with_columns(pl.lit("f").alias("file"), *capture), contract)
    return notes.rows == sum(size(piece) for piece in pieces) + len(notes.rejections)


def series(pieces: list[Any]) -> dict[str, list[tuple[int, float | None, str]]]:
    """Return samples by series text: (microseconds, value, flag)."""
    from hs_analysis.ingest.rows import series_text

    found: dict[str, list[tuple[int, float | None, str]]] = {}
    for one in pieces:
        rows = found.setdefault(series_text(one.labels), [])
        for t, value, flag in zip(one.t_us.tolist(), one.values.tolist(), one.flags.tolist(), strict=True):
            rows.append((t, None if math.isnan(value) else value, FLAGS[flag]))
    return found


def frame(pieces: list[Any]) -> pl.DataFrame:
    """Return requests or benchmark points as one frame."""
    kind = {type(piece) for piece in pieces}
    assert len(kind) == 1
    assert kind <= {BenchRows, RequestRows}
    return pl.concat([piece.frame for piece in pieces])
