"""Files that never end, or go deeper than any stack: each is refused in a sentence, in bounded memory."""

from __future__ import annotations

import gzip
import io
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pytest
from fuzz.seeds import seeds
from fuzz.whole import refused_or_read
from robustness.machine import hsa, plain_refusal

from hs_analysis.ingest import bytestream, delimited, quarantine
from hs_analysis.ingest.bytestream import MOST_LEVELS
from hs_analysis.ingest.formats import FORMATS
from hs_analysis.ingest.json_lines import decoded, parsed
from hs_analysis.ingest.raw import (
    RAW_CHARACTERS,
    SERIES_CHARACTERS,
    Dump,
    ReadNotes,
    Rejection,
    Rejections,
)
from hs_analysis.ingest.staging import Samples

TEXT_FORMATS = tuple(
    f.id for f in FORMATS if f.id not in ("tsdb", "aiperf-parquet", "servegen", "gpu-distribution")
)
FILLINGS = (b"a", b"1,", b"[],", b'"",', b'"', b",", b"1 ", b"{", b'{"a":')
CHUNK_BYTES = 8 << 20

PEAK_MB = 1024
"""Of the whole program, whatever one line or one value of the input claims: 128 and 256 MB are held at most,
with the copies that reading them takes."""


def bomb(path: Path, before: bytes, filling: bytes, size: int, after: bytes = b"") -> Path:
    """Write a small archive that inflates to ``size`` bytes of a filling between two texts."""
    chunk = gzip.compress(filling * (CHUNK_BYTES // len(filling)), 1, mtime=0)
    packed = [
        gzip.compress(before, 1, mtime=0),
        chunk * (size // CHUNK_BYTES),
        gzip.compress(after, 1, mtime=0),
    ]
    path.write_bytes(b"".join(packed))
    return path


def middle(kind: str) -> tuple[bytes, bytes, str]:
    """Return the two halves of a valid file, and its name."""
    raw, name = seeds(kind)[0]
    return raw[: len(raw) // 2], raw[len(raw) // 2 :], name


def refusal(kind: str, path: Path, name: str) -> str:
    """Return what is said of a file, empty when it was read."""
    return str(refused_or_read(kind, path, name) or "")


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 2_000, 200_000])
@pytest.mark.parametrize("kind", TEXT_FORMATS)
def test_any_depth_is_refused_or_set_aside(kind: str, levels: int, tmp_path: Path) -> None:
    """Deeper than the limit, than Python's stack and than C's: after a quote, a bracket, a colon, alone."""
    path = tmp_path / "file"
    raw, name = seeds(kind)[0]
    places = {0, len(raw)} | {raw.find(mark) + 1 for mark in (b"[", b"{", b":", b",", b"\n")}
    for at in sorted(places):
        for nest in (deep(levels), b'{"a":' * levels + b"1" + b"}" * levels, b"[" * levels):
            path.write_bytes(raw[:at] + nest + raw[at:])
            refused_or_read(kind, path, name)


@pytest.mark.parametrize("opening", ["[", '{"config":'])
def test_the_deepest_value_that_is_taken_can_be_walked_over(opening: str, tmp_path: Path) -> None:
    """A summary's settings are searched level by level, in as many calls."""
    closing = {"[": "]"}.get(opening, "}")
    for levels, says in ((MOST_LEVELS - 1, ""), (MOST_LEVELS, f"brackets in more than {MOST_LEVELS} others")):
        nest = opening * levels + "1" + closing * levels
        path = tmp_path / "file"
        path.write_text('{"request_throughput": {"avg": 1}, "input_config": ' + nest + "} ")
        said = refusal("genai-perf", path, "s.json")
        assert says in said
        assert bool(says) == bool(said)


def test_depth_is_told_with_its_byte() -> None:
    """Brackets in texts are none, whatever they look like."""
    raw = b'{"a":"' + b"[" * 200 + b'","b":' + b"[" * 200
    with pytest.raises(bytestream.BrokenStreamError) as caught:
        stream(raw).value()
    assert caught.value.offset == raw.rfind(b"[" * 200) + MOST_LEVELS - 1
    assert decoded(b'["' + b"[" * 200 + b'"]') == ["[" * 200]
    assert parsed(deep(MOST_LEVELS + 1)) == ("bad_json", f"brackets in more than {MOST_LEVELS} others")


def stream(raw: bytes, size: int = 1 << 10) -> bytestream.ByteStream:
    return bytestream.ByteStream(io.BytesIO(raw), size)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"[" + b"1," * 5000, "a value of more than 4096 bytes at byte 2"),
        (b'["' + b"\\" * 5000, "a text of more than 2048 bytes at byte 4"),
        (b"1" * 5000, "a word of more than 2048 bytes at byte 2"),
        (b"[" + b"[]," * 500, "a value of more than 100 lists and objects at byte 2"),
    ],
)
def test_a_value_without_end_is_refused_where_it_begins(
    raw: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not more of it is read than the limit and a block."""
    monkeypatch.setattr(bytestream, "LARGEST_VALUE_BYTES", 4096)
    monkeypatch.setattr(bytestream, "LONGEST_TEXT_BYTES", 2048)
    monkeypatch.setattr(bytestream, "MOST_BRACKETS", 100)
    read = io.BytesIO(b"  " + raw)
    with pytest.raises(bytestream.BrokenStreamError) as caught:
        bytestream.ByteStream(read, 256).value()
    assert str(caught.value) == says
    assert read.tell() <= 4096 + 2 * 256


def test_samples_without_end_are_refused_where_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytestream, "LARGEST_VALUE_BYTES", 4096)
    with pytest.raises(
        bytestream.BrokenStreamError, match="a list of samples of more than 4096 bytes at byte 0"
    ):
        stream(b'[[1,"1"]' + b',[1,"1"]' * 1000).pairs()


@pytest.mark.parametrize("size", [1, 7, 1 << 10])
def test_what_nobody_reads_may_be_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is passed over is not held, so no limit but the depth goes for it."""
    monkeypatch.setattr(bytestream, "LARGEST_VALUE_BYTES", 64)
    monkeypatch.setattr(bytestream, "MOST_BRACKETS", 10)
    unread = b'{"a":"]}","b":[' + b'{"c":"\\"}"},' * 300 + b"1]}"
    for value in (unread, b'"text"', b"1", b"null"):
        found = stream(b" " + value + b',{"kept":1}', size)
        found.skip()
        assert found.value() == b'{"kept":1}'


def test_keys_nobody_reads_do_not_gather(tmp_path: Path) -> None:
    """An envelope and a report may have as many other keys as they like: they are not kept."""
    many = b"".join(b'"k%d":{"a":[1]},' % i for i in range(20_000))
    for kind in ("prom-api", "guidellm"):
        raw, name = seeds(kind)[0]
        path = tmp_path / "file"
        path.write_bytes(raw.replace(b"{", b"{" + many, 1))
        assert refusal(kind, path, name) == ""


LINES = tuple(
    kind for kind in TEXT_FORMATS
    if kind not in ("prom-api", "promtool-json", "guidellm", "vllm-bench", "sglang-bench", "inferencex",
                    "genai-perf")
)  # fmt: skip
"""Formats that are read line by line."""


@pytest.mark.parametrize("kind", LINES)
def test_a_line_without_end_is_refused_where_it_begins(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One limit goes for all line formats, and the byte is that of the line."""
    monkeypatch.setattr(bytestream, "LONGEST_LINE_BYTES", 100_000)
    monkeypatch.setattr(bytestream, "BLOCK_BYTES", 1 << 12)
    raw, name = seeds(kind)[0]
    raw = raw if raw.endswith(b"\n") else raw + b"\n"
    path = tmp_path / "file"
    for filling in FILLINGS:
        path.write_bytes(raw + filling * (2_000_000 // len(filling)))
        assert f"a line of more than 100000 bytes at byte {len(raw)};" in refusal(kind, path, name)


def test_a_record_is_cut_only_when_it_is_no_larger_than_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells take many times their bytes; a lost quote carries no more lines than a record may have bytes."""
    monkeypatch.setattr(delimited, "LONGEST_RECORD_BYTES", 1000)
    path = tmp_path / "f.csv"
    path.write_text("a,b\n1,2\n" + "x" * 900 + '"\n' + "y" * 200 + '"\n' + "," * 2000 + "\n3,4\n")
    notes = ReadNotes()
    rows = [row for r in delimited.read_delimited(Dump(path, "f", "f"), notes) for row in r.cells.rows()]
    assert rows == [("1", "2"), ("3", "4")]
    assert [(r.position, r.detail) for r in notes.rejections] == [
        (3, "1 cells, the header has 2"), (4, "1 cells, the header has 2"),
        (5, "a record of more than 1000 bytes"),
    ]  # fmt: skip


def test_rejected_rows_hold_no_more_than_is_shown() -> None:
    """Thousands of them stay in memory, whatever the lines they come from."""
    held = Rejections()
    held.append(Rejection(1, "bad_line", "r" * 10**6, "d" * 10**6, "p" * 10**6, "s" * 10**6))
    assert [len(text) for text in (held[0].raw, held[0].detail, held[0].path, held[0].series)] == [
        RAW_CHARACTERS, RAW_CHARACTERS, SERIES_CHARACTERS, SERIES_CHARACTERS,
    ]  # fmt: skip


def test_a_header_of_any_length_is_told_at_once() -> None:
    """Names that repeat are numbered without counting all names before; too many are no header."""
    names, _ = delimited.split_header("a,b," + "a," * 8000 + "a#2")
    assert names[:5] == ["a", "b", "a#2", "a#3", "a#4"]
    assert len(set(names)) == len(names) == 8003
    assert delimited.header_names(b"," * 60_000) == []


def test_any_number_of_contradictions_is_written_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to disk as the rows that readers refuse do; none is lost, none of a broken file kept."""
    monkeypatch.setattr(quarantine, "REJECTED_BATCH", 7)
    size = 1000
    t_us = np.repeat(np.arange(size // 2), 2)
    values = np.where(np.arange(size) % 3 == 0, np.nan, np.arange(size, dtype=float))
    torn = Samples(t_us, values, np.zeros(size, np.uint8), np.arange(size) % 3)
    with tempfile.TemporaryFile() as scratch, quarantine.Quarantine(scratch) as aside:
        aside.contradictions(torn, 'm{a="b"}', ["x", "y", "z"])
        batches = list(aside.batches([0, 2]))
    assert max(batch.num_rows for batch in batches) <= 7
    rows = [row for batch in batches for row in batch.to_pylist()]
    kept = np.flatnonzero(np.arange(size) % 3 != 1)
    assert [row["position"] for row in rows] == t_us[kept].tolist()
    assert [row["file"] for row in rows] == ["xyz"[i % 3] for i in kept]
    assert [row["raw"] for row in rows[:2]] == ["[0.0,None]", "[1e-06,2.0]"]


@pytest.mark.slow
def test_the_memory_of_contradictions_does_not_grow_with_them(tmp_path: Path) -> None:
    """Two files that contradict each other in every sample: a hundred bytes each would show."""
    peaks = {}
    for series in (10, 160):
        folder = tmp_path / str(series)
        folder.mkdir()
        for name, value in (("a.json", "1"), ("b.json", "2")):
            pairs = ",".join(f'[{1_764_000_000 + i},"{value}"]' for i in range(10_000))
            result = ",".join(
                f'{{"metric":{{"__name__":"vllm:num_requests_waiting","pod":"{i}"}},"values":[{pairs}]}}'
                for i in range(series)
            )
            answer = f'{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}'
            (folder / name).write_text(answer)
        done = hsa("ingest", folder, "--run-dir", folder / "run")
        assert done.code in (0, 1), done.err
        peaks[series] = done.peak_mb
        with duckdb.connect() as connection:
            rejected = connection.execute(
                f"SELECT count(*) FROM '{folder / 'run' / 'data' / 'rejected.parquet'}'"
            ).fetchone()
        assert rejected == (2 * series * 10_000,)
    assert peaks[160] < peaks[10] + 150, peaks


ENDLESS = ("prom-api", "vm-jsonl", "openmetrics", "vllm-bench", "azure-csv")
QUICK = ENDLESS[:2]
"""A list of samples, lines of three kinds, and a value that is decoded whole; the first two every time."""


@pytest.mark.parametrize(
    ("kind", "filling"),
    [
        *(
            pytest.param(
                k, b'[1,"1"],' if k == "prom-api" else b"1,", marks=[pytest.mark.slow] * (k not in QUICK)
            )
            for k in ENDLESS
        ),
        *(pytest.param(k, f, marks=pytest.mark.slow) for k in TEXT_FORMATS for f in (b"a", b'"",', b"[],")),
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
