"""Parquet that lies, is cut, or holds what only its writer knows: read or refused in one line."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz.seeds import ANY
from fuzz.whole import refused_or_read

from hs_analysis.ingest import parquet_rows

T_NS = 1_764_000_000 * 10**9
TABLE = {
    "metric_name": ["m", "h"], "metric_type": ["gauge", "histogram"], "timestamp_ns": [T_NS] * 2,
    "value": [1.0, 2.0], "bucket_le": ["0.1", "+Inf"], "extra": ["x", "y"],
    "ts": ["2025-11-25T12:00:00Z"] * 2, "pod": ["a", "b"], "model": ["m"] * 2, "ttft_ms": [1, 2],
    "rpm": [1, 2], "state": ["up"] * 2, "at": ["1764072000.5"] * 2, "in": [1, 2], "outcome": ["ok"] * 2,
    "run": ["r"] * 2,
}  # fmt: skip
"""Columns of aiperf, of a described fleet and of a described request log, all in one."""

READINGS = (("aiperf-parquet", "m.parquet"), ("table", "fleet.csv"), ("table", "log.csv"), (ANY, "any"))
"""Format, and the name by which a table is described."""

TYPES: dict[str, pa.Array] = {
    "decimal128": pa.array([Decimal("1.5"), None], pa.decimal128(38, 10)),
    "decimal256": pa.array([Decimal("1.5"), None], pa.decimal256(60, 10)),
    "bytes": pa.array([b"\xff", None], pa.binary()),
    "two bytes": pa.array([b"ab", b"\xff\xff"], pa.binary(2)),
    "time of day": pa.array([1, 2], pa.time64("ns")),
    "duration": pa.array([1, 2], pa.duration("ns")),
    "date": pa.array([1, 2**30], pa.date32()),
    "date in ms": pa.array([0, 86_400_000 * 10**10], pa.date64()),
    "half": pa.array([1.5, 2.5], pa.float32()).cast(pa.float16()),
    "null": pa.nulls(2),
    "yes or no": pa.array([True, None]),
    "list": pa.array([[[1]], None]),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    "struct": pa.array([{"a": {"b": [1]}}, None]),
    "category": pa.array(["a", None]).dictionary_encode(),
    "category of numbers": pa.array([1, None]).dictionary_encode(),
    "category of bytes": pa.array([b"\xff", None]).dictionary_encode(),
    "far ns": pa.array([2**62, None], pa.timestamp("ns")),
    "far us": pa.array([2**62, -(2**62)], pa.timestamp("us")),
    "far ms": pa.array([-(2**62), 5], pa.timestamp("ms")),
    "no such zone": pa.array([1, 2], pa.timestamp("us", "No/Where")),
    "odd zone": pa.array([1, 2], pa.timestamp("ms", "+01:17")),
    "unsigned": pa.array([2**64 - 1, None], pa.uint64()),
    "no number": pa.array([float("nan"), float("inf")]),
    "large text": pa.array(["a", None], pa.large_string()),
}  # fmt: skip


def written(table: pa.Table) -> bytes:
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


WHOLE = written(pa.table(TABLE))


def said(raw: bytes, folder: Path) -> list[str]:
    """Return what each reading says of a file, empty where it is read; never more than a line."""
    path = folder / "file.parquet"
    path.write_bytes(raw)
    refusals = [str(refused_or_read(kind, path, name) or "") for kind, name in READINGS]
    assert all(len(refusal.splitlines()) <= 1 for refusal in refusals)
    return refusals


def test_the_whole_table_is_read(tmp_path: Path) -> None:
    """All that follows bends a file that all readings take."""
    assert said(WHOLE, tmp_path) == [""] * len(READINGS)


@pytest.mark.parametrize("name", [b"metric_name", b"timestamp_ns", b"pod", b"ttft_ms", b"extra"])
def test_names_that_are_no_utf8_are_refused(name: bytes, tmp_path: Path) -> None:
    refusals = said(WHOLE.replace(name, name[:-1] + b"\xff"), tmp_path)
    assert all("no Parquet file that can be read" in one for one in refusals[:3])
    assert "not a metric dump" in refusals[3]


def test_metadata_is_not_looked_at(tmp_path: Path) -> None:
    """Whatever writers note about a table or a column, and in whatever encoding."""
    fields = [pa.field(name, array.type, metadata={b"k\xff": b"v\xfe"})
              for name, array in zip(TABLE, pa.table(TABLE).columns, strict=True)]  # fmt: skip
    noted = pa.table(list(TABLE.values()), schema=pa.schema(fields, {b"k\xff": b"v\xfe", b"pandas": b"{no"}))
    assert said(written(noted), tmp_path) == [""] * len(READINGS)
    bent = WHOLE.replace(b"ARROW:schema", b"ARROW:schem\xff")
    assert said(bent, tmp_path) == [""] * len(READINGS)


OF_EACH_KIND = ("bytes", "far us", "list", "no such zone", "null")
"""Text, time, nested, none; the others take longer than they tell."""


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k not in OF_EACH_KIND)) for k in sorted(TYPES)]
)
def test_any_type_in_any_column(kind: str, tmp_path: Path) -> None:
    """A column of another type than expected is read as what it says, set aside, or refused."""
    for column in TABLE:
        said(written(pa.table({**TABLE, column: TYPES[kind]})), tmp_path)


def test_names_that_readers_use_themselves(tmp_path: Path) -> None:
    """Columns called like helpers, twice the same name, no name, no column, no row."""
    table = pa.table(TABLE)
    said(written(pa.table({**TABLE, "row#": [1, 2], "reason#": ["a", "b"], "alias": ["a", "b"]})), tmp_path)
    said(written(table.rename_columns(["metric_name"] * table.num_columns)), tmp_path)
    said(written(table.rename_columns([""] * table.num_columns)), tmp_path)
    said(written(pa.table({})), tmp_path)
    said(written(table.slice(0, 0)), tmp_path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """With and without the footer's own end, which a resumed copy may have written."""
    for size in range(0, len(WHOLE), 97):
        for raw in (WHOLE[:size], WHOLE[:size] + WHOLE[-8:]):
            assert all(refusal for refusal in said(raw, tmp_path)), size


@pytest.mark.parametrize("length", [0, 1, 100, len(WHOLE) - 12, len(WHOLE), 2**31 - 1, 2**31, 2**32 - 1])
def test_a_footer_that_lies_about_its_length_is_refused(length: int, tmp_path: Path) -> None:
    raw = WHOLE[:-8] + length.to_bytes(4, "little") + b"PAR1"
    assert all(refusal for refusal in said(raw, tmp_path))


def test_a_text_that_repeats_is_not_written_out_without_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some kilobytes of a file can stand for gigabytes: one long text, and a million rows that name it."""
    monkeypatch.setattr(parquet_rows, "MOST_TEXT_BYTES", 10_000_000)
    rows = 10_000
    for column in ("extra", "pod"):
        columns = {name: pa.array([cells[0]] * rows) for name, cells in TABLE.items()}
        index = pa.array([0] * rows, pa.int32())
        columns[column] = pa.DictionaryArray.from_arrays(index, pa.array(["x" * 2000]))
        raw = written(pa.table(columns))
        assert len(raw) < 100_000
        refusals = said(raw, tmp_path)
        assert sum("bytes of texts in 10,000 rows" in refusal for refusal in refusals) == len(READINGS)


NESTED: dict[str, pa.DataType] = {
    "list": pa.list_(pa.string()), "lists": pa.list_(pa.list_(pa.string())),
    "struct": pa.struct([("a", pa.string())]), "map": pa.map_(pa.string(), pa.string()),
}  # fmt: skip


def nested(kind: str, text: str, rows: int) -> pa.Array:
    """A column whose every row holds one text inside lists, a struct or a map."""
    cell = {"list": [text], "lists": [[text]], "struct": {"a": text}, "map": [(text, text)]}[kind]
    return pa.array([cell] * rows, NESTED[kind])


@pytest.mark.parametrize("kind", sorted(NESTED))
def test_a_nested_text_that_repeats_is_not_written_out_without_limit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside lists, structs and maps as well; below the limit it is read."""
    rows = 1_000
    columns = {name: pa.array([cells[0]] * rows) for name, cells in TABLE.items()}
    raw = written(pa.table(columns | {"tags": nested(kind, "x" * 2000, rows)}))
    fleet = tmp_path / "file"
    fleet.write_bytes(raw)
    assert "bytes of texts" not in str(refused_or_read("table", fleet, "fleet.csv"))
    monkeypatch.setattr(parquet_rows, "MOST_TEXT_BYTES", 5_000_000)
    assert "bytes of texts in 1,000 rows" in str(refused_or_read("table", fleet, "fleet.csv"))


def test_lists_are_read_in_batches_they_fit_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten values a row are read a few rows at a time; a row of more than all of a batch is named."""
    monkeypatch.setattr(parquet_rows, "MOST_LEAVES", 100)
    seen: list[int] = []
    frame = parquet_rows._frame
    monkeypatch.setattr(
        parquet_rows, "_frame", lambda table, dump: seen.append(table.num_rows) or frame(table, dump)
    )
    columns = {name: pa.array([cells[0]] * 50) for name, cells in TABLE.items()}
    path = tmp_path / "file"
    path.write_bytes(written(pa.table(columns | {"gaps": pa.array([[7] * 10] * 50)})))
    assert refused_or_read("table", path, "fleet.csv") is None or max(seen) <= 10
    assert sum(seen) >= 50
    path.write_bytes(written(pa.table(columns | {"gaps": pa.array([[7] * 450, *[[1]] * 49])})))
    assert "column 'gaps': 4" in str(refused_or_read("table", path, "fleet.csv"))
    monkeypatch.setattr(parquet_rows, "MOST_CELLS", 400)
    said_of = str(refused_or_read("table", path, "fleet.csv"))
    assert "column 'gaps.list.element': 499 values in row group 0 are more than can be read" in said_of
