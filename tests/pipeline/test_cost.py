"""What an input takes is told before it is read, and a disk too small is an error."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pytest
from ingest import other_back_ends as written
from ingest.test_other_back_ends import BACK_ENDS

from hs_analysis.errors import RunFolderError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.rows import Dump, ReadNotes
from hs_analysis.pipeline import cost
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Reading, Settings

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


def looked_at(*paths: Path) -> cost.Cost:
    """Return what files are expected to take."""
    return cost.expected_cost(discover(paths).files, Reading())


@pytest.mark.parametrize("form", ["plain", "gzip", pytest.param("zstd", marks=pytest.mark.slow)])
def test_the_size_is_told_from_the_first_part(tmp_path: Path, form: str) -> None:
    """An archive's ratio of its first part holds for all of it, within a tenth."""
    text = answer(200_000)
    path = tmp_path / "a.json"
    if form == "gzip":
        path.write_bytes(gzip.compress(text))
    elif form == "zstd":
        with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as stream:
            stream.write(text)
    else:
        path.write_bytes(text)
    assert cost.decompressed_bytes(path) == pytest.approx(len(text), rel=0.1)
    found = looked_at(path)
    assert found.rows == pytest.approx(200_000, rel=0.2)
    assert found.disk_bytes == found.rows * 22
    assert found.days == pytest.approx(200_000 * 15 / 86_400, rel=0.01)
    assert found.services == 1


def test_a_small_input_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of what takes seconds."""
    (tmp_path / "a.json").write_bytes(answer(100))
    monkeypatch.setattr(cost, "expected_cost", lambda *_: pytest.fail("looked"))
    noting = Noting()
    run_inputs(
        [tmp_path / "a.json"], "ingest", Settings(), stages=STAGES, progress=noting, run_dir=tmp_path / "r"
    )
    assert not noting.texts


def test_a_large_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with samples, minutes and disk, before the files are read."""
    monkeypatch.setattr(cost, "BIG_BYTES", 1000)
    (tmp_path / "a.json").write_bytes(answer(1000))
    noting = Noting()
    run_inputs(
        [tmp_path / "a.json"], "ingest", Settings(), stages=STAGES, progress=noting, run_dir=tmp_path / "r"
    )
    assert len(noting.texts) == 1
    assert "samples, 1 service, 0.2 days: about 1 min to read, 1 min in all on one core" in noting.texts[0]
    assert "GB of memory, 0.0 GB of disk" in noting.texts[0]


def test_a_disk_too_small_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read, and the message says what is needed and what is free."""
    monkeypatch.setattr(cost, "BIG_BYTES", 1000)
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


@pytest.mark.parametrize("form", sorted(BACK_ENDS))
def test_samples_of_every_back_end_are_foretold(
    form: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a factor of two, also where the first part of a file is all that is looked at."""
    monkeypatch.setattr(cost, "LOOKED_AT_ROWS", 500)
    monkeypatch.setattr(cost, "HEAD_BYTES", 1 << 16)
    captured = written.capture(root / "data_samples" / "dynamo-pd" / "query_range.core.json.gz", 2500)
    path = tmp_path / "in" / "dump"
    path.parent.mkdir()
    path.write_bytes(BACK_ENDS[form].write(captured))
    (file,) = discover([path.parent]).files
    notes = ReadNotes()
    for _ in file.format.read(Dump(path, "dump", "dump", Reading()), notes):
        pass
    rows = notes.rows
    assert rows / 2 <= looked_at(path.parent).rows <= rows * 2


def test_services_and_days_make_the_time(tmp_path: Path) -> None:
    """Names of models are sought beyond the first part; every day of each costs the same."""
    text = answer(20_000).decode()
    for name in ("one", "two", "two"):
        labels = f'"model_name": "{name}", "pod"'
        (tmp_path / f"{name}.json").write_text(text.replace('"pod"', labels), "utf-8")
    both = json.loads((tmp_path / "one.json").read_text("utf-8"))
    both["data"]["result"] += json.loads((tmp_path / "two.json").read_text("utf-8"))["data"]["result"]
    (tmp_path / "both.json").write_text(json.dumps(both), "utf-8")
    one, two = looked_at(tmp_path / "one.json"), looked_at(tmp_path / "both.json")
    assert (one.services, two.services) == (1, 2)
    later_s = [found.seconds - found.reading_s for found in (one, two)]
    assert later_s[1] == pytest.approx(2 * later_s[0])
    assert two.memory_bytes > one.memory_bytes


def test_a_file_that_breaks_is_no_reason_to_stop(tmp_path: Path) -> None:
    """Reading says why; here the others count."""
    (tmp_path / "a.json").write_bytes(answer(1000))
    (tmp_path / "cut.json").write_bytes(answer(1000)[:9000])
    assert 900 <= looked_at(tmp_path).rows <= 1600
