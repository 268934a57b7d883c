"""Samples at the times of a query are told from samples at the times of scrapes."""

from __future__ import annotations

import polars as pl

from hs_analysis.ingest.dedup import StoredSeries, series_on_query_grids
from hs_analysis.ingest.staging import Piece

MS = 1_000
AT = 1_764_000_000_000 * MS


def kept(number: int, *offsets_ms: int, file_no: int = 0, rows: int = 10) -> StoredSeries:
    """A series with one piece of ten samples per offset of its first."""
    pieces = [
        Piece(0, rows, 0, rows, file_no, AT + ms * MS, AT + (ms + 15_000 * (rows - 1)) * MS)
        for ms in offsets_ms
    ]
    return StoredSeries(number, "", True, False, pieces)


def found(
    *series: StoredSeries, instances: list[str | None], outdone=None, answers=frozenset({0})
) -> list[int]:
    """Numbers of the series on a grid."""
    facts = {
        "series_id": [one.series_id for one in series], "instance": instances,
        "interval_s": [15.0] * len(series),
    }  # fmt: skip
    grids = series_on_query_grids(series, pl.DataFrame(facts), answers, outdone or {})
    assert set(grids["step_s"]) <= {15.0}
    return grids["series_id"].to_list()


def test_one_time_for_all_is_a_query_s() -> None:
    """Whole seconds, or the same fraction for several instances."""
    assert found(kept(1, 0), kept(2, 15_000), instances=["a", "b"]) == [1, 2]
    assert found(kept(1, 0), instances=[None]) == [1]
    assert found(kept(1, 123), kept(2, 123), instances=["a", "b"]) == [1, 2]


def test_scrapes_have_times_of_their_own() -> None:
    """Targets differ by fractions of a second; one target alone may be anything but a whole second."""
    assert found(kept(1, 123), kept(2, 4_871), instances=["a", "b"]) == []
    assert found(kept(1, 123), kept(2, 123), instances=["a", "a"]) == []


def test_pieces_that_do_not_meet_are_no_grid() -> None:
    """Two chunks of one series on different grids."""
    assert found(kept(1, 0, 160_001), instances=["a"]) == []


def test_only_answers_and_only_what_they_tell() -> None:
    """A dump is no answer; a file that a more faithful one replaces does not count."""
    assert found(kept(1, 0, file_no=1), instances=["a"]) == []
    assert found(kept(1, 0), kept(2, 0), instances=["a", "b"], outdone={1: {0: [(0, 1)]}}) == [2]
