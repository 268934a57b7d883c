"""What a large input takes is told before it is read, and a disk too small is an error."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pytest

from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline import ingest_stages
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Settings

Usage = namedtuple("Usage", "total used free")


def answer(points: int) -> bytes:
    """Return a query_range answer of one series."""
    values = [[1_764_000_000 + 15 * k, str(k * 37 % 1000)] for k in range(points)]
    result = [{"metric": {"__name__": "vllm:num_requests_waiting", "pod": "decode-0"}, "values": values}]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


class Noting(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def noted(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("form", ["plain", "gzip", pytest.param("zstd", marks=pytest.mark.slow)])
def test_the_size_is_told_from_the_first_part(tmp_path: Path, form: str) -> None:
    """An archive's ratio of its first part holds for all of it, within a tenth."""
    text = answer(200_000)
    path = tmp_path / "a.json"
    if form == "gzip":
        path.write_bytes(gzip.compress(text))
    elif form == "zstd":
        sink = io.BytesIO()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(text)
            stream.flush()
            path.write_bytes(sink.getvalue())
    else:
        path.write_bytes(text)
    assert ingest_stages.decompressed_bytes(path) == pytest.approx(len(text), rel=0.1)
    found = ingest_stages.expected([(path, "prom-api")])
    assert found.rows == pytest.approx(200_000, rel=0.2)
    assert found.disk_bytes == found.rows * 22


def test_a_small_input_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of what takes seconds."""
    (tmp_path / "a.json").write_bytes(answer(100))
    monkeypatch.setattr(ingest_stages, "expected", lambda _files: pytest.fail("looked"))
    noting = Noting()
    run_inputs(
        [tmp_path / "a.json"], "ingest", Settings(), stages=STAGES, progress=noting, run_dir=tmp_path / "r"
    )
    assert not noting.texts


def test_a_large_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with samples, minutes and disk, before the files are read."""
    monkeypatch.setattr(ingest_stages, "BIG_BYTES", 1000)
    (tmp_path / "a.json").write_bytes(answer(1000))
    noting = Noting()
    run_inputs(
        [tmp_path / "a.json"], "ingest", Settings(), stages=STAGES, progress=noting, run_dir=tmp_path / "r"
    )
    assert len(noting.texts) == 1
    assert "samples: about 1 min, about 0.0 GB of disk" in noting.texts[0]


def test_a_disk_too_small_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read, and the message says what is needed and what is free."""
    monkeypatch.setattr(ingest_stages, "BIG_BYTES", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10, 0, 10))
    (tmp_path / "a.json").write_bytes(answer(1000))
    with pytest.raises(RunFolderError, match=r"needs about 0\.0 GB of disk, and 0\.0 GB are free"):
        run_inputs(
            [tmp_path / "a.json"],
            "ingest",
            Settings(),
            stages=STAGES,
            progress=Silent(),
            run_dir=tmp_path / "r",
        )
    assert not (tmp_path / "r").exists()
