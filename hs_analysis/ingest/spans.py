"""What times each file covers, and how far apart its samples are, to be held against a plan of queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hs_analysis.ingest.staging import Piece

US = 1e6


@dataclass(frozen=True)
class FileSpan:
    """Times of one file: earliest and latest sample [Unix s], and the spacing of its samples [s].

    The spacing is the smallest mean one of its series: gaps make it longer in the others. Null where there is
    no sample, or no series with two.
    """

    name: str
    series: int
    first_s: float | None
    last_s: float | None
    spacing_s: float | None


def file_spans(names: Sequence[tuple[str, int]], pieces: Iterable[Sequence[Piece]]) -> tuple[FileSpan, ...]:
    """Return the span of each file.

    Parameters
    ----------
    names
        Name and number of the files that were read whole.
    pieces
        The staged pieces of each series.
    """
    by_file: dict[int, list[Piece]] = {number: [] for _, number in names}
    series: dict[int, int] = dict.fromkeys(by_file, 0)
    for own in pieces:
        for number in {piece.file_no for piece in own} & by_file.keys():
            series[number] += 1
        for piece in own:
            by_file.get(piece.file_no, []).append(piece)
    return tuple(_span(name, series[number], by_file[number]) for name, number in names)


def _span(name: str, series: int, pieces: Sequence[Piece]) -> FileSpan:
    spacings = [(p.high_us - p.low_us) / (p.rows - 1) for p in pieces if p.rows > 1 and p.high_us > p.low_us]
    return FileSpan(
        name,
        series,
        min((p.low_us for p in pieces), default=0) / US if pieces else None,
        max((p.high_us for p in pieces), default=0) / US if pieces else None,
        min(spacings) / US if spacings else None,
    )
