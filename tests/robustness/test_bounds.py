"""Files that never end, or go deeper than any stack: each is refused in a sentence, in bounded memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from fuzz.seeds import READING, seeds
from fuzz.whole import refused_or_read
from robustness.fillings import FILLINGS, LINES, TEXT_FORMATS

from hs_analysis.ingest import delimited, json_records, stage, streams, text_lines
from hs_analysis.ingest import rows as raw_rows
from hs_analysis.ingest.formats import format_named
from hs_analysis.ingest.json_records import decode_json, parse_object
from hs_analysis.ingest.readers import prometheus
from hs_analysis.ingest.rows import RAW_CHARACTERS, SERIES_CHARACTERS, Dump, ReadNotes, Rejection, Rejections
from hs_analysis.ingest.streams import MOST_LEVELS


def refusal(kind: str, path: Path, name: str) -> str:
    """Return what is said of a file, empty when it was read."""
    return str(refused_or_read(kind, path, name) or "")


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, pytest.param(2_000, marks=pytest.mark.slow), 200_000])
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
    with pytest.raises(streams.BrokenStreamError) as caught:
        stream(raw).value()
    assert caught.value.offset == raw.rfind(b"[" * 200) + MOST_LEVELS - 1
    assert decode_json(b'["' + b"[" * 200 + b'"]') == ["[" * 200]
    assert parse_object(deep(MOST_LEVELS + 1)) == ("bad_json", f"brackets in more than {MOST_LEVELS} others")


def stream(raw: bytes, size: int = 1 << 10) -> streams.ByteStream:
    return streams.ByteStream(io.BytesIO(raw), size)


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
    """Not more of it is read than the limit and the blocks read at once."""
    monkeypatch.setattr(streams, "LARGEST_VALUE_BYTES", 4096)
    monkeypatch.setattr(streams, "LONGEST_TEXT_BYTES", 2048)
    monkeypatch.setattr(streams, "MOST_BRACKETS", 100)
    read = io.BytesIO(b"  " + raw)
    with pytest.raises(streams.BrokenStreamError) as caught:
        streams.ByteStream(read, 256).value()
    assert str(caught.value) == says
    assert read.tell() <= 4096 + (1 + streams.GROWTH) * 256


def test_samples_without_end_are_refused_where_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LARGEST_VALUE_BYTES", 4096)
    with pytest.raises(
        streams.BrokenStreamError, match="a list of samples of more than 4096 bytes at byte 0"
    ):
        stream(b'[[1,"1"]' + b',[1,"1"]' * 1000).pairs()


@pytest.mark.parametrize("size", [1, 7, 1 << 10])
def test_what_nobody_reads_may_be_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is passed over is not held, so no limit but the depth goes for it."""
    monkeypatch.setattr(streams, "LARGEST_VALUE_BYTES", 64)
    monkeypatch.setattr(streams, "MOST_BRACKETS", 10)
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


@pytest.mark.parametrize("kind", LINES)
def test_a_line_without_end_is_refused_where_it_begins(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One limit goes for all line formats, and the byte is that of the line."""
    monkeypatch.setattr(streams, "LONGEST_LINE_BYTES", 100_000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 12)
    raw, name = seeds(kind)[0]
    raw = raw if raw.endswith(b"\n") else raw + b"\n"
    path = tmp_path / "file"
    for filling in FILLINGS:
        path.write_bytes(raw + filling * (2_000_000 // len(filling)))
        assert f"a line of more than 100000 bytes at byte {len(raw)};" in refusal(kind, path, name)


RECORDS = {
    "openmetrics": text_lines, "tsdb-dump": text_lines, "exposition": text_lines,
    "promtool-text": prometheus, "aiperf-jsonl": json_records, "mooncake": json_records,
    "azure-csv": delimited,
    "nvidia-smi-csv": delimited,
}  # fmt: skip
"""Formats whose lines are one sample, request or row, and the module that reads their lines."""


@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_a_line_too_long_for_a_record_is_set_aside_unread(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row with its line; those around it are read. Read, the line would take many times its bytes."""
    monkeypatch.setattr(RECORDS[kind], "LONGEST_RECORD_BYTES", 5000)
    raw, name = seeds(kind)[0]
    lines = [line for line in raw.splitlines(keepends=True) if line.strip() and not line.startswith(b"# EOF")]
    last = lines[-1].rstrip(b"\n")
    path = tmp_path / "file"

    def read(between: bytes) -> ReadNotes:
        path.write_bytes(b"".join([*lines[:-1], last, b"\n", between, last, b"\n"]))
        notes = ReadNotes()
        list(format_named(kind).read(Dump(path, name, name, READING), notes))
        return notes

    plain = read(b"")
    for filling in FILLINGS:
        long = last + filling * (8000 // len(filling))
        assert len(long) > 5000
        notes = read(long + b"\n")
        assert notes.rows == plain.rows + 1
        (told,) = (r for r in notes.rejections if r.position == len(lines) + 1)
        assert "of more than" in told.detail or kind == "promtool-text"
        assert notes.rejections.total == plain.rejections.total + 1


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


def test_a_long_list_of_samples_is_parsed_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample is lost or told twice where it is cut, and a bad one keeps its byte and its number."""
    pairs = [f'[{1_764_000_000 + i},"{i}"]' for i in range(60)]
    pairs[20] = '[1764000020,"x"]'
    pairs[41] = '[1764000041,"1]"]'
    for between in (",", " ,\n "):
        body = "[" + between.join(pairs) + "]"
        raw = f'{{"status":"success","data":{{"result":[{{"metric":{{"__name__":"m"}},"values":{body}}}]}}}}'
        path = tmp_path / "file"
        path.write_text(raw)
        told = []
        for part in (1 << 20, 100, 7, 1):
            monkeypatch.setattr(prometheus, "PART_BYTES", part)
            notes = ReadNotes()
            pieces = list(format_named("prom-api").read(Dump(path, "f", "f"), notes))
            t_us = np.concatenate([piece.t_us for piece in pieces])
            values = np.concatenate([piece.values for piece in pieces])
            assert notes.rows == t_us.size + notes.rejections.total
            told.append(
                (t_us.tolist(), values.tolist(), [(r.position, r.reason, r.path) for r in notes.rejections])
            )
        assert told[0] == told[1]
        assert [one[:2] for one in told[2:]] == [told[0][:2]] * 2
        assert told[0][2][0] == (raw.index(pairs[20]), "bad_value", "data.result[0].values[20]")


@pytest.mark.parametrize(
    ("kind", "before", "filling", "says"),
    [
        ("prom-api", b'"values":[', b"[],", "of the first"),
        ("prom-api", b'"values":[', b'[1,"x"],', "expected a number"),
        ("prom-api", b'"result":[', b"{},", "series without a sample"),
        ("prom-api", b"", b'{"data":{"result":[]}}', "answers without a sample"),
        ("prom-api", b"{", b'"a":1,', "an object of more than 100 keys at byte 0"),
        ("promtool-json", b"", b"[]", "answers without a sample"),
        ("guidellm", b"", b'{"benchmarks":[]}', "a report without a benchmark"),
        ("guidellm", b'"benchmarks": [', b"{},", "neither a throughput nor a latency"),
        ("guidellm", b'"successful": [', b"{},", "neither a time nor a number"),
        ("inferencex", b"[", b"{},", "neither a throughput nor a latency"),
        ("inferencex", b"", b"[]", "a list of nothing"),
        ("mooncake", b"", b"1\n", "no JSON object"),
    ],
)
def test_what_goes_on_without_saying_anything_is_refused(
    kind: str, before: bytes, filling: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many rows that can't be read, and more of them than others, the file is none of its format."""
    for module, name in ((raw_rows, "REJECTED_BATCH"), (stage, "MOST_UNREAD"), (streams, "MOST_KEYS")):
        monkeypatch.setattr(module, name, 100)
    monkeypatch.setattr(json_records, "MOST_EMPTY", 100)
    raw, name = seeds(kind)[0]
    at = raw.index(before) + len(before)
    path = tmp_path / "file"
    for times, refused in ((40, False), (400, True)):
        path.write_bytes(raw[:at] + filling * times + raw[at:])
        said = refusal(kind, path, name)
        assert (says in said) == refused, said


def test_rows_set_aside_do_not_end_a_file_that_is_mostly_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few hours of texts in a year of numbers are rows set aside, however many they are."""
    monkeypatch.setattr(raw_rows, "REJECTED_BATCH", 10)
    monkeypatch.setattr(stage, "MOST_UNREAD", 20_000)
    path = tmp_path / "file"
    path.write_text("".join(f'{{__name__="m"}} {"x" if i % 3 == 0 else i} {i}000\n' for i in range(90_000)))
    assert refusal("tsdb-dump", path, "d") == ""


def test_a_value_of_more_entries_than_any_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "MOST_ENTRIES", 10)
    assert parse_object(b"[" + b"1," * 11 + b"1]") == ("bad_json", "more than 10 commas")
    assert decode_json(b"[" + b"1," * 10 + b"1]") == [1] * 11


def test_lists_of_samples_of_one_series_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key may stand there several times; each list is held until its labels are known."""
    monkeypatch.setattr(prometheus, "LARGEST_VALUE_BYTES", 100)
    path = tmp_path / "file"
    values = '"values":[[1764000000,"1"],[1764000015,"2"]]'
    for times, says in ((2, ""), (3, "a series of more than 100 bytes")):
        both = ",".join([values] * times)
        path.write_text(f'{{"status":"success","data":{{"result":[{{"metric":{{}},{both}}}]}}}}')
        said = refusal("prom-api", path, "a.json")
        assert says in said
        assert bool(says) == bool(said)


def test_a_sample_without_end_is_refused_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_TEXT_BYTES", 2048)
    with pytest.raises(streams.BrokenStreamError, match="a sample of more than 2048 bytes at byte 7"):
        stream(b'[[1,"1"],[1,"' + b"1" * 10_000).pairs()


def test_labels_and_messages_without_end_are_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is as large as a list of samples may be."""
    monkeypatch.setattr(streams, "LONGEST_RECORD_BYTES", 2000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 10)
    raw, name = seeds("prom-api")[0]
    path = tmp_path / "file"
    for before, filling in (
        (b'"metric":{', b'"a":"b",'),
        (b"{", b'"warnings":[' + b'"a",' * 2000 + b'"a"],'),
    ):
        at = raw.index(before) + len(before)
        path.write_bytes(raw[:at] + filling * (2000 if before != b"{" else 1) + raw[at:])
        assert "a value of more than 2000 bytes" in refusal("prom-api", path, name)
