"""The reader of saved `/metrics` pages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ingest.texts import read_bytes

from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.readers.prometheus import instance_of, read_exposition, stamp_of
from hs_analysis.ingest.rows import Dump, ReadNotes
from hs_analysis.ingest.stage import ingest
from hs_analysis.schema.settings import Reading

PAGE = b"""# HELP vllm:num_requests_waiting Number of requests waiting.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="m 1"} 3.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="m 1"} 1e+06
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{model_name="m 1"} 1.764e+09
"""


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("w0.20251124T160000Z.prom", 1764000000),
        ("w0-2025-11-24T16-00-00Z.txt.gz", 1764000000),
        ("w0_20251124_160000.prom", 1764000000),
        ("pages/1764000000.prom", 1764000000),
        ("w0-1764000000123.prom", 1764000000.123),
        ("w0-20259999T000000Z.prom", None),
        ("w0.prom", None),
        ("a/20251124T160000Z/w0.prom", None),
        ("w17640000001.prom", None),
    ],
)
def test_the_time_comes_from_the_name(name: str, seconds: float | None) -> None:
    """Dates, Unix seconds and milliseconds; digits that are no date are none."""
    found = stamp_of(name, Reading())
    assert (found[0] if found else None) == seconds


def test_a_time_without_zone_is_the_users(tmp_path: Path) -> None:
    """--tz says where the clock stood; without it the name is taken as UTC, and that is said."""
    assert stamp_of("w0-20251124T170000.prom", Reading(tz="Europe/Berlin")) == (
        1764000000.0, "time in the file's name, Europe/Berlin",
    )  # fmt: skip
    assert stamp_of("w0-20251124T160000.prom", Reading()) == (
        1764000000.0, "time in the file's name, taken as UTC",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("frontend.peak.prom.gz", "frontend"),
        ("w0.20251124T160000Z.prom", "w0"),
        ("decode-llama8b-3.trough.prom", "decode-llama8b-3"),
        ("pages/10.0.0.7:9090_1764000000.txt", "10.0.0.7:9090"),
        ("pod-7/1764000000.prom", "pod-7"),
        ("1764000000.prom", "page"),
    ],
)
def test_the_target_comes_from_the_name(name: str, instance: str) -> None:
    """Without time and endings, else from the folder."""
    assert instance_of(name) == instance


def test_a_page_is_one_moment_of_one_target(tmp_path: Path) -> None:
    """Samples get the time and the instance; declared types are kept; creation times are left out."""
    found, notes = read_bytes(read_exposition, PAGE, tmp_path, "w0.20251124T160000Z.prom")
    assert found == {
        (("__name__", "vllm:num_requests_waiting"), ("instance", "w0"), ("model_name", "m 1")): [
            (1764000000_000000, 3.0, "")
        ],
        (("__name__", "vllm:prompt_tokens_total"), ("instance", "w0"), ("model_name", "m 1")): [
            (1764000000_000000, 1e6, "")
        ],
    }
    assert notes.types["vllm:prompt_tokens_total"] == "counter"
    assert notes.infos[0] == "1 lines say when a counter was created; they are no samples"
    assert "2025-11-24 16:00:00 UTC (time in the file's name, UTC)" in notes.infos[1]
    assert not notes.is_time_guessed


def test_without_a_time_in_the_name_the_files_own_is_said_to_be_a_guess(tmp_path: Path) -> None:
    """The modification time survives no copy, so the notes say where the time is from."""
    path = tmp_path / "w0.prom"
    path.write_bytes(PAGE)
    os.utime(path, (1764000123, 1764000123))
    notes = ReadNotes()
    pieces = list(read_exposition(Dump(path, "w0.prom", "w0.prom"), notes))
    assert {t for piece in pieces for t in piece.t_us.tolist()} == {1764000123_000000}
    assert notes.is_time_guessed
    assert "when the file was last changed" in notes.infos[1]


def test_times_of_a_federated_page_are_kept(tmp_path: Path) -> None:
    """`/federate` writes milliseconds and the instance of each series."""
    raw = b'# TYPE up untyped\nup{instance="a:1"} 1 1764000000123\nup{instance="b:1"} 0\n'
    found, notes = read_bytes(read_exposition, raw, tmp_path, "f.1764000999.prom")
    assert {dict(key)["instance"]: rows[0][0] for key, rows in found.items()} == {
        "a:1": 1764000000_123000,
        "b:1": 1764000999_000000,
    }
    assert notes.rejections == []


def test_pages_without_a_known_time_count_only_where_no_other_dump_is(tmp_path: Path) -> None:
    """Beside a dump of the same capture their samples are superseded: a wrong day stretches the window."""
    pages = tmp_path / "in" / "pages"
    pages.mkdir(parents=True)
    (pages / "w0.prom").write_bytes(PAGE)
    (pages / "w1.20251124T160010Z.prom").write_bytes(PAGE)
    line = '{__name__="vllm:num_requests_running", pod="a"} 1 1764000000000\n'
    (tmp_path / "in" / "dump.txt").write_text(line)

    def counts(*names: str) -> dict[str, tuple[int, int]]:
        inputs = [tmp_path / "in" / name for name in names]
        found = ingest(discover(inputs), tmp_path / "out", lambda _name: None)
        assert {len(s) for s in found.series["capture"].unique().to_list()} == {0}
        return {Path(f.name).name: (f.rows_stored, f.superseded) for f in found.files}

    beside = {"dump.txt": (1, 0), "w0.prom": (0, 2), "w1.20251124T160010Z.prom": (2, 0)}
    assert counts(".") == beside
    assert counts("pages/w0.prom") == {"w0.prom": (2, 0)}


def test_real_pages_of_a_front_end_and_workers(real_data: Path) -> None:
    """Saved pages of real components are read whole, with the types they declare."""
    for path in sorted((real_data / "dynamo-mocker").glob("*/metrics_pages/*.gz")):
        notes = ReadNotes()
        rows = sum(s.t_us.size for s in read_exposition(Dump(path, str(path), path.name), notes))
        assert rows == notes.rows > 30
        assert notes.rejections == []
        assert "gauge" in notes.types.values()
