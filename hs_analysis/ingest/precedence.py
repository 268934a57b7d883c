"""Which file gives way to which, where a folder holds one capture in several forms."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from hs_analysis.ingest.dedup import RangeUs, StoredSeries
from hs_analysis.ingest.discovery import Discovery

ALL_TIME: RangeUs = (-(2**63), 2**63 - 1)

Precedence = Mapping[int, int | None]
"""File number → how faithful its form is; None gives way to every other file of its capture."""


def source_precedence(
    whole: Collection[int], guessed: Collection[int], discovery: Discovery
) -> dict[int, int | None]:
    """Return how faithful each whole file is; None where its times are a guess and others know theirs."""
    files = discovery.files
    dated = {files[n].capture for n in whole if n not in guessed}
    return {n: None if n in guessed and files[n].capture in dated else files[n].format.form for n in whole}


def covered_ranges(
    stored: Sequence[StoredSeries], metrics: Iterable[str], forms: Precedence
) -> dict[int, dict[int, list[RangeUs]]]:
    """Return, per series and file, the spans in which a more faithful file holds the same metric.

    A file that gives way is covered for ever, whether others hold its metrics or not.
    """
    if len(set(forms.values())) < 2:
        return {}
    spans: dict[tuple[str, str], dict[int, RangeUs]] = {}
    named = list(zip(stored, metrics, strict=True))
    for one, metric in named:
        own = spans.setdefault((one.capture, metric), {})
        for piece in one.pieces:
            if (form := forms[piece.file_no]) is not None:
                low, high = own.get(form, (piece.low_us, piece.high_us))
                own[form] = min(low, piece.low_us), max(high, piece.high_us)

    def better(form: int | None, own: Mapping[int, RangeUs]) -> list[RangeUs]:
        return [ALL_TIME] if form is None else [span for other, span in sorted(own.items()) if other > form]

    return {
        one.series_id: {
            piece.file_no: better(forms[piece.file_no], spans[one.capture, metric]) for piece in one.pieces
        }
        for one, metric in named
    }


def superseding_files(
    stored: Sequence[StoredSeries], metrics: Iterable[str], forms: Precedence
) -> dict[int, set[int]]:
    """Return, per file, the files of a more faithful form that hold one of its metrics in its capture.

    For a file that gives way to all, they are those of its captures, whatever metrics they hold.
    """
    if len(set(forms.values())) < 2:
        return {}
    holders: dict[tuple[str, str], set[int]] = {}
    for one, metric in zip(stored, metrics, strict=True):
        for piece in one.pieces:
            for place in ((one.capture, metric), (one.capture, "")):
                holders.setdefault(place, set()).add(piece.file_no)
    found: dict[int, set[int]] = {}
    for (_, metric), files in holders.items():
        for file in files:
            form = forms[file]
            if (form is None) == (metric == ""):
                better = {n for n in files if forms[n] is not None and (form is None or forms[n] > form)}  # type: ignore[operator]
                found.setdefault(file, set()).update(better)
    return found
