"""Small archives that inflate without end, and repeated bytes: the program stays small and ends in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fuzz.seeds import seeds
from fuzz.whole import refused_or_read
from robustness.fillings import FILLINGS, LINES, PARTS, PEAK_MB, SECONDS, TAKEN_MB, TEXT_FORMATS, bomb
from robustness.machine import hsa, plain_refusal

from hs_analysis.ingest.formats import HEAD_BYTES, FileStart, sniff

ENDLESS = ("prom-api", "vm-jsonl", "openmetrics", "vllm-bench", "azure-csv")
"""A list of samples, lines of three kinds, and a value that is decoded whole."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "filling"),
    [
        *((k, b'[1,"1"],' if k == "prom-api" else b"1,") for k in ENDLESS),
        *((k, f) for k in TEXT_FORMATS for f in (b"a", b'",', b"[],")),
    ],
)
def test_a_megabyte_that_inflates_to_a_gigabyte(kind: str, filling: bytes, tmp_path: Path) -> None:
    """One line or value of it is refused by the whole program in bounded memory, in one line."""
    raw, name = seeds(kind)[0]
    at = raw.index(b"[0.0") + 4 if kind == "vllm-bench" else len(raw) // 2
    path = bomb(tmp_path / (name + ".gz"), raw[:at], filling, 1 << 30, raw[at:])
    assert path.stat().st_size < 16 << 20
    done = hsa("ingest", path, "--format", kind, "--run-dir", tmp_path / "run")
    assert done.code in (0, 1), done.err
    assert plain_refusal(done) or kind not in ENDLESS, done.err
    assert done.peak_mb < PEAK_MB
    assert done.cpu_s < SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "before", "filling"), PARTS)
def test_a_part_that_is_repeated_without_end(
    kind: str, before: bytes, filling: bytes, tmp_path: Path
) -> None:
    """Lists, objects, keys or whole documents by the million are refused early, or are quick to read."""
    raw, name = next((raw, name) for raw, name in seeds(kind) if before in raw)
    at = raw.index(before) + len(before)
    path = bomb(tmp_path / (name + ".gz"), raw[:at], filling, 1 << 30, raw[at:])
    done = hsa("ingest", path, "--format", kind, "--run-dir", tmp_path / "run")
    assert done.code == 0 or plain_refusal(done), done.err
    assert done.cpu_s < SECONDS
    assert done.peak_mb < PEAK_MB


@pytest.mark.slow
@pytest.mark.parametrize("filling", [b"a", b"1,", b'"",', b"[],", b"null,"])
@pytest.mark.parametrize("kind", LINES)
def test_the_longest_line_that_is_taken(kind: str, filling: bytes, tmp_path: Path) -> None:
    """Just below the limit: read or set aside in bounded memory, and the program ends in time."""
    raw, name = seeds(kind)[0]
    at = raw.index(b",null") + 1 if kind == "vm-jsonl" else len(raw) // 2
    path = bomb(tmp_path / (name + ".gz"), raw[:at], filling, 120 << 20, raw[at:])
    done = hsa("ingest", path, "--format", kind, "--run-dir", tmp_path / "run")
    assert done.code == 0 or plain_refusal(done), done.err
    assert done.peak_mb < TAKEN_MB


LONG = 1 << 17
READ_S = 5.0
"""CPU time for a file of 128 KB: what takes its length squared takes minutes."""

SLOW_ONCE: tuple[tuple[str, bytes, bytes], ...] = (
    ("nvidia-smi-csv", b"timestamp, ", b"["),
    ("table", b"ts,", b","),
    ("grafana-csv", b'"Time","p-0 ', b"x"),
    ("grafana-csv", b"p-0 up,1764072000000,", b"1"),
    ("promtool-text", b"=>\n", b"1"),
    ("openmetrics", b'y"} ', b"1"),
    ("tsdb-dump", b'b"} ', b"1"),
    ("prom-api", b"[[", b"1"),
    ("dcgmi-dmon", b"GPU 0", b" "),
)
"""Format, what stands before the filling in a valid file, and the filling."""


def cpu_s(kind: str, raw: bytes, name: str, path: Path) -> float:
    path.write_bytes(raw)
    begin = time.process_time()
    sniff(FileStart(raw[:HEAD_BYTES], name))
    refused_or_read(kind, path, name)
    return time.process_time() - begin


@pytest.mark.parametrize(("kind", "before", "filling"), SLOW_ONCE)
def test_what_took_the_square_of_its_length_once(
    kind: str, before: bytes, filling: bytes, tmp_path: Path
) -> None:
    """Each of these hung a reader or the telling of formats."""
    places = [(raw, name, raw.find(before) + len(before)) for raw, name in seeds(kind) if before in raw]
    assert places
    for raw, name, at in places:
        for after in (b"", b"x"):
            long = raw[:at] + filling * LONG + after + raw[at:]
            assert cpu_s(kind, long, name, tmp_path / "file") < READ_S


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXT_FORMATS)
def test_no_filling_takes_the_square_of_its_length(kind: str, tmp_path: Path) -> None:
    """Anything repeated, put in anywhere."""
    raw, name = seeds(kind)[0]
    for at in sorted({0, len(raw) // 3, len(raw) // 2, 2 * len(raw) // 3, len(raw) - 2}):
        for filling in (
            *FILLINGS,
            b" ",
            b"\\",
            b"\t",
            b"#",
            b"=",
            b'a="b",',
            b"-",
            b".",
            b"\r",
            b"\0",
            b"a b ",
        ):
            long = raw[:at] + filling * (LONG // len(filling)) + raw[at:]
            assert cpu_s(kind, long, name, tmp_path / "file") < READ_S, (at, filling)
