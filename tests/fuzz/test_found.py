"""What fuzzing broke once, and what fuzzing starts from: both are read or refused in words."""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export.prometheus_server import needs
from fuzz.seeds import ANY, seeds
from fuzz.tars import small_tars
from fuzz.whole import refused_or_read
from ingest.readers.test_aiperf import at
from ingest.readers.test_traces import AZURE

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


def deflated(raw: bytes, *, damaged_at: int) -> bytes:
    """Return gzip whose head is whole and one bit of whose body is not: it shows while it is inflated."""
    body = bytearray(zlib.compress(raw, 9)[2:-4])
    body[damaged_at] ^= 1
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes(body) + bytes(8)


EARLY = -99_999_999_999
"""Seconds before 1970, or milliseconds: the year 1966, or one before year 1."""

HALF = "\\ud800"
"""Half a surrogate pair, as a text that was cut in the middle of a character has it in JSON."""

CUT_ZSTD = b"\x28\xb5\x2f\xfdal2"
"""Nothing of it can be inflated; its length is odd, so that it is salvaged where a reader can."""

LINE_FORMATS = ("promtool-text", "vm-jsonl", "tsdb-dump", "openmetrics", "exposition")

BENCHMARKS = ("aiperf-jsonl", "guidellm", "vllm-bench", "sglang-bench", "inferencex", "genai-perf")


def with_half(raw: bytes) -> bytes:
    """Return JSON whose texts all begin with half a surrogate pair."""
    return re.sub(rb":\s*\"", lambda found: found[0] + HALF.encode(), raw)


def huge_header() -> bytes:
    """Return a member of a tar whose extended header gives a length that no machine can count to."""
    record = b"9" * 20 + b" path=x\n"
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, len(record)
    return (
        head.tobuf(tarfile.USTAR_FORMAT)
        + record.ljust(512, b"\0")
        + tarfile.TarInfo("y").tobuf()
        + bytes(1024)
    )


FOUND: tuple[tuple[str, str, bytes, str], ...] = (
    ("aiperf-parquet", "m.parquet", not_utf8(), "Invalid UTF8"),
    ("table", "fleet.csv", not_utf8(), "Invalid UTF8"),
    ("vllm-bench", "b.json", CUT_ZSTD, ""),
    *((kind, "a", CUT_ZSTD, "cut or damaged") for kind in LINE_FORMATS),
    ("exposition", "a.prom", f"m 3.0 {EARLY}\n".encode(), ""),
    ("exposition", "a.prom", f"m 3.0 {EARLY}0\n".encode(), ""),
    ("openmetrics", "a.om", f"m 3.0 {EARLY // 25}\n# EOF\n".encode(), ""),
    ("tsdb-dump", "d.txt", f'{{__name__="m"}} 1 {EARLY}0\n'.encode(), ""),
    ("table", "pods.csv", b"when,run,pod,name,v\n9999-12-31T23:59:59-02:00,r,a,kv,0.5\n", ""),
    ("azure-csv", "a.csv", f"{AZURE.splitlines()[0]}\n2025-11-25 12:00:02.１２,1,1\n".encode(), ""),
    ("grafana-csv", "a.csv", b'"Time","p-0 up"\n0001-01-01T00:00:00+12:00,1\n', ""),
    (
        "aiperf-parquet",
        "m.parquet",
        deflated(seeds("aiperf-parquet")[0][0], damaged_at=300),
        "cut or damaged",
    ),
    ("dynamo-profile", "r.npz", deflated(seeds("dynamo-profile")[2][0], damaged_at=60), "cut or damaged"),
    ("tsdb", "db.tar", deflated(small_tars()[0], damaged_at=60), "no whole tar"),
    ("tsdb", "db.tar", huge_header() + small_tars()[0], "no whole tar"),
    *((kind, name, with_half(raw), "") for kind in BENCHMARKS for raw, name in seeds(kind)[:1]),
)
"""Format, name, bytes, and what the refusal says; empty when the file is read, if only as nothing."""


@pytest.mark.parametrize(("kind", "name", "raw", "says"), FOUND)
def test_what_broke_a_reader_once(
    kind: str, name: str, raw: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read or refused in words; of a TSDB the fault shows before promtool would be run."""
    monkeypatch.setattr("shutil.which", lambda program: program)
    path = tmp_path / "file"
    path.write_bytes(raw)
    refusal = refused_or_read(kind, path, name)
    assert refusal is None if not says else says in str(refusal)


# Without promtool nothing reads a TSDB's own files.
SEEDED = [pytest.param(k, marks=pytest.mark.outside("promtool")) if k == "tsdb" else k for k in KINDS]


@pytest.mark.parametrize("kind", SEEDED)
def test_seeds_are_read(kind: str, tmp_path: Path) -> None:
    """Every format has a seed that its reader reads, so that fuzzing starts inside the reader."""
    if kind == "tsdb":
        needs("promtool")
    path = tmp_path / "file"
    read = 0
    for raw, name in seeds(kind):
        path.write_bytes(raw)
        read += refused_or_read(kind, path, name) is None
    assert read or kind in ("servegen", "gpu-distribution")  # their readers only explain
