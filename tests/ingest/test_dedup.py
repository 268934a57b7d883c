"""Settling series by series gives what the reference queries give for all of them at once."""

from __future__ import annotations

import tempfile

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from reference import Reference

from hs_analysis.ingest.dedup import (
    MOST_GRIDS,
    Deduplication,
    RangeUs,
    RepeatedSamples,
    StoredSeries,
    frozen_ranges,
    stored_batches,
    totals,
)
from hs_analysis.ingest.rows import FLAGS, NAN, STALE, RawSeries
from hs_analysis.ingest.staging import Samples, Staging
from hs_analysis.schema.frames import SAMPLES, empty

Row = tuple[int, int, float, int, int]
"""Series, time [s], value, flag code, file."""

VALUES = st.sampled_from([0.0, 1.0, 1.0, 2.0, 3.0])
FILES = {0: 0, 1: 0, 2: 2}
"""File number → how faithful its form is."""


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Few series on a short grid in three files, with copies, contradictions, holes and missing values."""
    rows = []
    for _ in range(draw(st.integers(0, 40))):
        flag = draw(st.sampled_from([0, 0, 0, NAN, STALE]))
        value = draw(VALUES) if flag == 0 else np.nan
        rows.append((draw(st.integers(0, 3)), draw(st.integers(0, 9)), value, flag, draw(st.integers(0, 2))))
    return rows


@st.composite
def gaps(draw: st.DrawFn) -> list[Row]:
    """Series on one grid that all repeat over a stretch and go on one after the other."""
    first, length = draw(st.integers(2, 5)), draw(st.integers(2, 6))
    rows = []
    for series in range(draw(st.integers(1, 4))):
        late, value = draw(st.integers(0, 3)), 0.0
        for t in range(16):
            held = first < t <= first + length + late
            value = value if held else value + draw(st.sampled_from([1.0, 2.0]))
            if draw(st.integers(0, 12)):
                rows.append((series, t, value, 0, 0))
    return rows


def staged(rows: list[Row], scratch: tempfile._TemporaryFileWrapper[bytes]) -> Staging:
    """Return the rows in staging, file by file, as readers hand them on."""
    staging = Staging(scratch)  # type: ignore[arg-type]
    for file_no in sorted(FILES):
        for series, t, value, flag, _ in (row for row in rows if row[4] == file_no):
            one = RawSeries({}, np.array([t * 1_000_000]), np.array([value]), np.array([flag], np.uint8), 0)
            staging.add(series, one, file_no)
        staging.flush(file_no)
    return staging


Conflict = tuple[int, int, int, float | None]
"""File number, series, time [us] and value of a sample that contradicts another."""


def settled(rows: list[Row], on_conflict: str) -> tuple[Deduplication, pl.DataFrame, list[Conflict]]:
    """Settle rows; series 0 and 1 are one metric, 2 and 3 another; series 0 moves at every scrape."""
    conflicts: list[Conflict] = []

    def set_aside(series: int, torn: Samples) -> None:
        columns = (torn.files.tolist(), torn.t_us.tolist(), torn.values.tolist())
        taken = [(f, series, t, None if np.isnan(v) else v) for f, t, v in zip(*columns, strict=True)]
        assert taken == sorted(taken, key=lambda row: (row[2], row[0], row[3] is None, row[3]))
        assert all(row[1] < series for row in conflicts)  # one series at a time
        conflicts.extend(taken)

    with tempfile.TemporaryFile() as scratch:
        staging = staged(rows, scratch)  # type: ignore[arg-type]
        numbers = sorted(staging.pieces)
        kept = [StoredSeries(n, "", n % 2 == 0, n == 0, staging.pieces[n]) for n in numbers]
        better: dict[int, RangeUs] = {}
        for n in numbers:
            for piece in (p for p in staging.pieces[n] if FILES[p.file_no] == 2):
                low, high = better.get(n // 2, (piece.low_us, piece.high_us))
                better[n // 2] = min(low, piece.low_us), max(high, piece.high_us)
        covered = {n: {f: [better[n // 2]] for f in (0, 1)} for n in numbers if n // 2 in better}
        found, batches = stored_batches(kept, staging, covered, on_conflict, set_aside)
        table = pa.Table.from_batches(list(batches), SAMPLES)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return found, frame, conflicts


def by_queries(rows: list[Row], on_conflict: str) -> dict[str, pl.DataFrame]:
    """Return what the reference queries say of the same rows."""
    names = ("key", "t_us", "value", "flag", "file_no")
    columns = [(s, t * 1_000_000, None if np.isnan(v) else v, FLAGS[f] or None, n) for s, t, v, f, n in rows]
    kinds = [pl.Int64, pl.Int64, pl.Float64, pl.String, pl.Int64]
    numbers = sorted({row[0] for row in rows})
    ids = {"key": numbers, "series_id": numbers, "metric_group": [n // 2 for n in numbers]}
    with Reference(threads=1) as database:
        judged = database.query(
            "ingest/deduplicate",
            {"on_conflict": on_conflict},
            {
                "staged": pl.DataFrame(columns, schema=dict(zip(names, kinds, strict=True)), orient="row"),
                "ids": pl.DataFrame(ids, schema=dict.fromkeys(ids, pl.Int64)).with_columns(is_copy=False),
                "whole": pl.DataFrame({"file_no": list(FILES), "form": list(FILES.values())}),
            },
        )
        captured = pl.DataFrame({"series_id": numbers}, schema={"series_id": pl.Int64}).with_columns(
            capture=pl.lit(""), clock_like=pl.col("series_id") == 0
        )
        repeats = database.query("ingest/repeats", inputs={"judged": judged, "captured": captured})
        frozen = frozen_ranges(repeats)
        samples = database.query(
            "ingest/stored_samples", inputs={"judged": judged, "captured": captured, "frozen": frozen}
        )
        kind = pl.when(pl.col("series_id") % 2 == 0).then(pl.lit("counter")).otherwise(pl.lit("gauge"))
        quality = database.query(
            "ingest/series_quality",
            inputs={"samples": samples, "kinds": captured.select("series_id", kind=kind)},
        )
        return {
            "samples": samples,
            "quality": quality,
            "repeats": repeats,
            "fates": database.query("ingest/fates", inputs={"judged": judged}),
            "conflicts": database.query("ingest/conflicts", inputs={"judged": judged}),
        }


def same(rows: list[Row], on_conflict: str) -> None:
    """Assert that both ways agree on every table."""
    found, samples, torn = settled(rows, on_conflict)
    expected = by_queries(rows, on_conflict)
    assert_frame_equal(samples, pl.concat([empty(SAMPLES), expected["samples"]]))
    assert_frame_equal(found.quality, expected["quality"], check_dtypes=False)
    fates = {(f, fate): n for f, fate, n in expected["fates"].iter_rows()}
    assert dict(found.outcomes) == fates
    conflicts = expected["conflicts"].select("file_no", "series_id", "t_us", "value").rows()
    assert sorted(torn, key=str) == sorted(conflicts, key=str)


@example([(0, 1, np.nan, STALE, 0), (0, 1, np.nan, NAN, 0), (1, 1, np.nan, NAN, 0)], "reject")
@settings(max_examples=15)
@given(histories(), st.sampled_from(["reject", "first", "last", "max"]))
def test_fates_are_those_of_the_queries(rows: list[Row], on_conflict: str) -> None:
    """Copies, contradictions, better forms and missing values have the fate the query gives them."""
    same(rows, on_conflict)


@pytest.mark.slow
@settings(max_examples=10)
@given(gaps())
def test_repeats_across_a_gap_are_those_of_the_queries(rows: list[Row]) -> None:
    """What the server repeated is null in both, late series included."""
    same(rows, "reject")


def test_many_grids_count_as_one() -> None:
    """More targets than grids kept apart, each with its own scrape times, count as if seen at once."""
    rng = np.random.default_rng(7)
    series = [
        (np.sort(rng.choice(500, 30, replace=False)), rng.integers(0, 2, 30) * 1.0)
        for _ in range(3 * MOST_GRIDS)
    ]
    moments = RepeatedSamples()
    for t_us, values in series:
        moments.add("", t_us, values, clock_like=False)
    frame = moments.frame()
    expected = np.zeros((500, 2), int)
    for t_us, values in series:
        expected[t_us[1:], 0] += 1
        expected[t_us[1:], 1] += values[1:] == values[:-1]
    at = frame["t"].dt.epoch("us").to_numpy()
    assert frame["series"].to_list() == expected[at, 0].tolist()
    assert frame["repeats"].to_list() == expected[at, 1].tolist()
    assert frame["series"].sum() == 3 * MOST_GRIDS * 29


def test_the_counts_do_not_depend_on_when_grids_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Series that each lack other samples would hold a grid each: a few are held, and counted alike."""
    draw = np.random.default_rng(3)
    series = [np.flatnonzero(draw.random(300) > 0.01) for _ in range(200)]
    frames = []
    for most in (1 << 19, 500):
        monkeypatch.setattr("hs_analysis.ingest.dedup.MOST_TIMES", most)
        moments, held = RepeatedSamples(), 0
        for t_us in series:
            moments.add("", t_us, t_us % 3 * 1.0, clock_like=False)
            held = max(held, sum(grid.t_us.size for grid in moments._grids[""]))
        frames.append(moments.frame())
    assert held <= 500 + 3 * 300
    assert_frame_equal(*frames)


def test_alive_counts_series_that_have_begun_and_not_ended() -> None:
    """A series counts as alive from after its first to its last sample."""
    moments = RepeatedSamples()
    moments.add("", np.array([1, 2, 3]), np.array([1.0, 1.0, 1.0]), clock_like=True)
    moments.add("", np.array([2, 3, 4]), np.array([5.0, np.nan, 6.0]), clock_like=False)
    rows = moments.frame().drop("capture", "t").rows()
    assert rows == [(1, 1, 1, 1, 1), (1, 1, 1, 1, 2), (1, 0, 0, 0, 1)]


def test_what_no_server_repeated_is_kept() -> None:
    """A table or a raw dump whose series all rest is no scrape gap, as in an answer it were."""

    def stored(*, looks_back: bool) -> list[float | None]:
        with tempfile.TemporaryFile() as scratch:
            values = [1.0, 2.0, 3.0, *[4.0] * 5, 5.0, 6.0, 7.0, 8.0]
            rows = [(0, t, value, 0, 0) for t, value in enumerate(values)]
            staging = staged(rows, scratch)  # type: ignore[arg-type]
            _, batches = stored_batches(
                [StoredSeries(0, "", False, False, staging.pieces[0], looks_back)], staging, {}, "reject",
                lambda _series, _torn: None,
            )  # fmt: skip
            return [value for batch in batches for value in batch.column("value").to_pylist()]

    assert stored(looks_back=True).count(None) == 4
    assert stored(looks_back=False).count(None) == 0


def test_totals_go_on_where_they_were_left() -> None:
    """To the last bit, as if the gains had come at once; a missing one leaves the sum."""
    gains = np.random.default_rng(0).random(50)
    gains[[20, 30]] = np.nan
    whole = totals(gains)
    for cut in (1, 25, 31):
        before = whole[:cut][~np.isnan(whole[:cut])][-1]
        np.testing.assert_array_equal(totals(gains[cut:], before), whole[cut:])
