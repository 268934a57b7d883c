"""Stored samples are read back series by series, however they lie in row groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hs_analysis.schema.frames import SAMPLES
from hs_analysis.store import flagged_samples, renumbered, series_samples, without_stretches

LENGTHS = {0: 5, 2: 1, 3: 17, 4: 2, 9: 8}
"""Series and how many samples each has."""


def written(place: Path, rows_a_group: int) -> dict[int, tuple[list[int], list[float | None]]]:
    """Write samples and return them by series; every third value is missing."""
    stored: dict[int, tuple[list[int], list[float | None]]] = {}
    for number, count in LENGTHS.items():
        times = [1_000_000 * (100 * number + k) for k in range(count)]
        stored[number] = (times, [None if k % 3 == 2 else float(number + k) for k in range(count)])
    numbers = [number for number, count in LENGTHS.items() for _ in range(count)]
    columns = [
        pa.array(numbers, pa.int64()),
        pa.array([t for times, _ in stored.values() for t in times], SAMPLES.field("t").type),
        pa.array(_flat(stored), pa.float64()),
        pa.array(["lookback" if v is None and k % 2 else None for k, v in enumerate(_flat(stored))]),
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=SAMPLES), place, row_group_size=rows_a_group)
    return stored


def _flat(stored: dict[int, tuple[list[int], list[float | None]]]) -> list[float | None]:
    return [v for _, values in stored.values() for v in values]


@pytest.mark.parametrize("rows_a_group", [1, 3, 7, 100])
@pytest.mark.parametrize("wanted", [[0, 2, 3, 4, 9], [9, 3], [1, 4, 12], []])
def test_series_come_whole_and_in_order(tmp_path: Path, rows_a_group: int, wanted: list[int]) -> None:
    """A series that spans row groups comes once; one without a sample not at all; missing values are NaN."""
    stored = written(tmp_path / "part-0.parquet", rows_a_group)
    read = list(series_samples(tmp_path / "*.parquet", wanted))
    assert [number for number, _, _ in read] == sorted(set(wanted) & set(stored))
    for number, t_us, values in read:
        assert t_us.tolist() == stored[number][0]
        np.testing.assert_array_equal(values, np.array(stored[number][1], dtype=float))


@pytest.mark.parametrize("rows_a_group", [1, 3, 100])
@pytest.mark.parametrize("wanted", [[0, 2, 3, 4, 9], [9, 3]])
def test_a_series_of_several_files_comes_once(tmp_path: Path, rows_a_group: int, wanted: list[int]) -> None:
    """Its samples follow one another in the order of the files' numbers, of which the tenth is no second."""
    stored = written(tmp_path / "whole", 100)
    rows = pq.read_table(tmp_path / "whole")
    part_of = np.array([k * 3 // count for count in LENGTHS.values() for k in range(count)])
    for number, name in enumerate(("part-0", "part-2", "part-10")):
        part = rows.filter(pa.array(part_of == number))
        pq.write_table(part, tmp_path / f"{name}.parquet", row_group_size=rows_a_group)
    read = list(series_samples(tmp_path / "*.parquet", wanted))
    assert [number for number, _, _ in read] == sorted(wanted)
    for number, t_us, values in read:
        assert t_us.tolist() == stored[number][0]
        np.testing.assert_array_equal(values, np.array(stored[number][1], dtype=float))


def test_numbers_of_series_change_and_nothing_else(tmp_path: Path) -> None:
    """However the samples lie in row groups."""
    written(tmp_path / "part-0.parquet", 3)
    before = pq.read_table(tmp_path / "part-0.parquet").to_pylist()
    batches = renumbered(tmp_path / "part-0.parquet", np.arange(10) * 2 + 5)
    after = pa.Table.from_batches(batches, SAMPLES).to_pylist()
    assert after == [row | {"series_id": row["series_id"] * 2 + 5} for row in before]


def test_repeats_are_marked(tmp_path: Path) -> None:
    """A flag that says lookback is a repeat, none is not."""
    stored = written(tmp_path / "part-0.parquet", 4)
    read = np.concatenate([one[3] for one in flagged_samples(tmp_path / "part-0.parquet", LENGTHS)])
    assert read.tolist() == [v is None and k % 2 == 1 for k, v in enumerate(_flat(stored))]
    assert read.any()


@pytest.mark.parametrize("rows_a_group", [3, 7, 100])
def test_stretches_of_some_series_become_null(tmp_path: Path, rows_a_group: int) -> None:
    """Samples after the start up to the end, however they lie in row groups; what was null keeps its flag."""
    place = tmp_path / "part-0.parquet"
    written(place, rows_a_group)
    before = pq.read_table(place).to_pylist()
    stretch = (302_000_000, 310_000_000)
    batches = without_stretches(place, {3: [stretch], 4: [(0, 1)]}, "frozen")
    after = pa.Table.from_batches(batches, SAMPLES).to_pylist()
    hit = [row["series_id"] == 3 and stretch[0] < row["t"].timestamp() * 1e6 <= stretch[1] for row in before]
    assert sum(hit) == 8
    for old, new, inside in zip(before, after, hit, strict=True):
        fresh = inside and old["value"] is not None
        assert new == (old | {"value": None, "flag": "frozen"} if fresh else old)


def test_row_groups_without_a_wanted_series_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bounds say so."""
    written(tmp_path / "part-0.parquet", 5)
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, **how: object) -> pa.Table:
        read.append(group)
        return whole(file, group, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    assert [number for number, _, _ in series_samples(tmp_path / "part-0.parquet", [0, 9])] == [0, 9]
    assert read == [0, 5, 6]
