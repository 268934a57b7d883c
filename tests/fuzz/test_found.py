"""What fuzzing broke once, and what fuzzing starts from: both are read or refused in words."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz.seeds import ANY, seeds
from fuzz.whole import refused_or_read
from ingest.test_aiperf import at

from hs_analysis.ingest.formats import FORMATS

KINDS = (*(f.id for f in FORMATS), ANY)


def not_utf8() -> bytes:
    """Return Parquet whose text columns hold bytes that are no UTF-8; it says that they are text."""
    texts = pa.array([b"http\xff\xfe", b"m"], pa.binary()).view(pa.string())
    table = pa.table(
        {"metric_name": texts, "metric_type": ["gauge"] * 2, "timestamp_ns": [at(0)] * 2, "value": [1.0] * 2}
    )
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


CUT_ZSTD = b"\x28\xb5\x2f\xfdal2"
"""Nothing of it can be inflated; its length is odd, so that it is salvaged where a reader can."""

LINE_FORMATS = ("promtool-text", "vm-jsonl", "tsdb-dump", "openmetrics", "exposition")

FOUND: tuple[tuple[str, str, bytes, str], ...] = (
    ("aiperf-parquet", "m.parquet", not_utf8(), "Invalid UTF8"),
    ("table", "fleet.csv", not_utf8(), "Invalid UTF8"),
    ("vllm-bench", "b.json", CUT_ZSTD, ""),
    *((kind, "a", CUT_ZSTD, "cut or damaged") for kind in LINE_FORMATS),
)
"""Format, name, bytes, and what the refusal says; empty when the file is read, if only as nothing."""


@pytest.mark.parametrize(("kind", "name", "raw", "says"), FOUND)
def test_what_broke_a_reader_once(kind: str, name: str, raw: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    refusal = refused_or_read(kind, path, name)
    assert refusal is None if not says else says in str(refusal)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_are_read(kind: str, tmp_path: Path) -> None:
    """Every format has a seed that its reader reads, so that fuzzing starts inside the reader."""
    path = tmp_path / "file"
    read = 0
    for raw, name in seeds(kind):
        path.write_bytes(raw)
        read += refused_or_read(kind, path, name) is None
    assert read or kind in ("servegen", "gpu-distribution")  # their readers only explain
