"""The forward-only view of a byte stream."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.errors import InputError
from hs_analysis.ingest import streams
from hs_analysis.ingest.streams import DAMAGED, BrokenStreamError, ByteStream, open_decompressed

SIZES = (1, 2, 3, 5, 8, 1 << 20)


def stream(raw: bytes, size: int = 1 << 20) -> ByteStream:
    """Return a stream that reads ``size`` bytes at once."""
    return ByteStream(io.BytesIO(raw), size)


def packed(raw: bytes, kind: str) -> bytes:
    """Return the bytes as a file of the kind."""
    if kind == "gz":
        return gzip.compress(raw, mtime=0)
    return pa.compress(raw, codec="zstd", asbytes=True) if kind == "zst" else raw


@pytest.mark.parametrize("kind", ["plain", "gz", "zst"])
def test_archives_are_known_by_their_first_bytes(tmp_path: Path, kind: str) -> None:
    """The name says nothing: gzip and zstd are undone by their magic bytes, others are read as they are."""
    path = tmp_path / "dump.txt"
    path.write_bytes(packed(b"some bytes", kind))
    with open_decompressed(path) as file:
        assert file.read() == b"some bytes"


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    """The error names the file and what to do."""
    with pytest.raises(InputError, match=r"gone\.json: can't be opened .*check the path"):
        open_decompressed(tmp_path / "gone.json")


@given(st.text(), st.sampled_from(SIZES), st.booleans())
def test_a_text_is_read_whole_across_any_block_border(text: str, size: int, ascii_only: bool) -> None:
    """Escapes, quotes and backslashes at a block's end do not end the text early."""
    raw = json.dumps(text, ensure_ascii=ascii_only).encode()
    found = stream(raw + b":1", size)
    assert found.value() == raw
    assert found.offset == len(raw)


@pytest.mark.parametrize("size", SIZES)
def test_backslashes_before_a_quote_are_counted(size: int) -> None:
    """Three backslashes and a quote go on, four end the text: whatever the block size."""
    raw = rb'"a\\\"b\\\\" '
    assert stream(raw, size).value() == raw.strip()


@pytest.mark.parametrize("size", SIZES)
def test_a_value_is_taken_with_all_its_brackets(size: int) -> None:
    """Brackets inside texts do not count."""
    raw = b'{"a":["}]",{"b":null}],"c":"\\"}"}'
    found = stream(b"  ," + raw + b"]", size)
    assert found.value() == raw
    assert found.peek() == b"]"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("blanks", ["", " ", "\n" * 200])
def test_pairs_end_at_the_outer_bracket(size: int, blanks: str) -> None:
    """Any run of blanks may stand between the brackets, longer than a block too; offsets are kept."""
    raw = f'[{blanks}[1,"2"],{blanks}[3,"4"]{blanks}]'.encode()
    found = stream(raw + b'},{"x":[[9]]}', size)
    assert len(found.pairs()) == len(raw)
    assert found.offset == len(raw)
    assert stream(f"[{blanks}]".encode(), size).pairs() == b"[]"


@pytest.mark.parametrize(
    "raw", [b"[1,2]", b"{}", b'[[1,"2"]}', b'[[1,"2"],"metric":{"a":"b"},"values":[[3,"4"]]']
)
def test_pairs_do_not_run_into_the_next_series(raw: bytes) -> None:
    """A list that is none, or whose end was lost, is an error with its byte and takes nothing more."""
    with pytest.raises(BrokenStreamError) as caught:
        stream(raw + b"]]").pairs()
    assert 0 <= caught.value.offset <= len(raw) + 2


def test_a_lost_quote_does_not_pull_in_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text longer than any label is an error where it begins, before the rest is read."""
    monkeypatch.setattr(streams, "LONGEST_TEXT_BYTES", 100)
    raw = io.BytesIO(b'"' + b"x" * 10_000)
    with pytest.raises(BrokenStreamError, match="more than 100 bytes") as caught:
        ByteStream(raw, 60).value()
    assert caught.value.offset == 1
    assert raw.tell() < 500


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_cut_archive_gives_what_it_holds_and_then_says_so(tmp_path: Path, kind: str) -> None:
    """What was inflated counts; the end is no clean end."""
    path = tmp_path / "cut"
    whole = packed(json.dumps(list(range(200_000))).encode(), kind)
    path.write_bytes(whole[: len(whole) // 2])
    with open_decompressed(path) as file:
        found = ByteStream(file)
        assert found.head(3) == b"[0,"
        with pytest.raises(BrokenStreamError, match="cut or damaged") as caught:
            found.value()
    assert 1000 < caught.value.offset < 1_300_000
    assert caught.value.text == f"{DAMAGED} after {caught.value.offset} unpacked bytes"


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_an_archive_whose_end_is_lost_is_not_taken_for_whole(tmp_path: Path, kind: str) -> None:
    """All documents may have been read, but nobody knows whether another one followed."""
    path = tmp_path / "cut"
    path.write_bytes(packed(b'{"a":1}', kind)[:-1])
    with open_decompressed(path) as file:
        found = ByteStream(file)
        with pytest.raises(BrokenStreamError, match="cut or damaged"):
            [found.value() for _ in range(2) if found.peek()]


def test_a_byte_order_mark_is_skipped_once() -> None:
    """It is no content, and only one is a mark."""
    found = stream(b"\xef\xbb\xbf{}")
    found.skip_mark()
    assert found.offset == 3
    found.skip_mark()
    assert found.value() == b"{}"


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("packed", [False, True])
def test_utf16_is_read_as_utf8(coding: str, packed: bool, tmp_path: Path) -> None:
    """Whole, cut in the middle of a character, inside gzip; characters of four bytes at a block's edge."""
    text = "Time\tä😀\r\n" * 5000
    raw = ("\ufeff" + text).encode(coding)
    for cut, wanted in ((len(raw), text), (len(raw) - 1, text[:-1] + "\ufffd")):
        path = tmp_path / str(cut)
        path.write_bytes(gzip.compress(raw[:cut]) if packed else raw[:cut])
        with streams.open_decompressed(path) as handle:
            read = b"".join(iter(lambda: handle.read1(1000), b""))
        assert read.decode() == wanted
