"""The times a file covers, and how far apart its samples are."""

from __future__ import annotations

from hs_analysis.ingest.quality import FileSpan, file_spans
from hs_analysis.ingest.staging import Piece


def piece(file_no: int, first_s: float, last_s: float, rows: int) -> Piece:
    """A stretch of one series in one file."""
    return Piece(0, rows, 0, rows, file_no, round(first_s * 1e6), round(last_s * 1e6))


def test_spans() -> None:
    """Over all series of the file; gaps in one series do not lengthen the spacing; broken files have none."""
    even, gappy = piece(0, 100, 160, 5), piece(0, 85, 205, 3)
    lone, broken = piece(2, 300, 300, 1), piece(1, 0, 900, 9)
    spans = file_spans([("a", 0), ("b", 2), ("c", 3)], [[even, broken], [gappy], [lone]])
    assert spans == (
        FileSpan("a", 2, 85.0, 205.0, 15.0),
        FileSpan("b", 1, 300.0, 300.0, None),
        FileSpan("c", 0, None, None, None),
    )


def test_a_series_in_several_pieces_counts_once() -> None:
    """As when a block ends within it."""
    (span,) = file_spans([("a", 0)], [[piece(0, 0, 15, 2), piece(0, 30, 60, 3)]])
    assert span == FileSpan("a", 1, 0.0, 60.0, 15.0)
