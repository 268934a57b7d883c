"""Delimited text: every record with its line, none lost."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.errors import InputError
from hs_analysis.ingest import streams
from hs_analysis.ingest.delimited import header_names, read_delimited, split_header
from hs_analysis.ingest.rows import Dump, ReadNotes


def cut(raw: bytes, **how: int) -> tuple[list[tuple[int, tuple[str | None, ...]]], ReadNotes]:
    """Return (line, cells) of every record."""
    notes = ReadNotes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        path.write_bytes(raw)
        batches = list(read_delimited(Dump(path, "f", "f"), notes, **how))
    rows = [(int(line), row) for b in batches for line, row in zip(b.lines, b.cells.rows(), strict=True)]
    assert all(len(b.raw) == b.cells.height for b in batches)
    assert notes.rows == len(notes.rejections)
    return rows, notes


def test_marks_ends_blanks_quotes_and_empty_cells() -> None:
    """A byte order mark, CRLF, trailing blanks and quotes are no part of a cell; an empty one is null."""
    rows, notes = cut(b'\xef\xbb\xbfa,b\r\n1, two \r\n,"x, y"\r\n\r\n"",4\r\n')
    assert rows == [(2, ("1", "two")), (3, (None, "x, y")), (5, (None, "4"))]
    assert notes.rejections == []


def test_a_text_over_lines_is_one_record() -> None:
    rows, _ = cut(b'a,b\n1,"x\ny"\n2,z\n')
    assert rows == [(2, ("1", "x\ny")), (4, ("2", "z"))]


def test_a_lost_quote_costs_its_line_alone() -> None:
    """The lines after it are read as they stand."""
    rows, notes = cut(b'a,b\n"1,2\n3,4\n5,6\n')
    assert [row for _, row in rows] == [("3", "4"), ("5", "6")]
    assert [(r.position, r.reason, r.raw) for r in notes.rejections] == [(2, "bad_value", '"1,2')]


def test_quotes_that_close_over_lines_but_leave_the_width_wrong_cost_one_line() -> None:
    rows, notes = cut(b'a,b\n"1,2\n3,4"\n5,6\n')
    assert rows == [(3, ("3", '4"')), (4, ("5", "6"))]
    assert [r.position for r in notes.rejections] == [2]


def test_short_and_long_records_of_plain_lines_are_set_aside() -> None:
    """Also where together they have as many cells as they should."""
    rows, notes = cut(b"a,b,c\n1,2\n3,4,5\n6,7,8,9\n")
    assert rows == [(3, ("3", "4", "5"))]
    assert [r.position for r in notes.rejections] == [2, 4]
    rows, notes = cut(b"a,b\n1\n3,4\n")
    assert rows == [(3, ("3", "4"))]
    assert [r.position for r in notes.rejections] == [2]


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        path.write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")
        (records,) = read_delimited(Dump(path, "f", "f"), ReadNotes())
    assert records.cells.columns == ["a", "b"]


def test_records_of_another_width_bad_bytes_and_nul_are_set_aside() -> None:
    rows, notes = cut(b"a,b\n1\n1,2,3\n1,2,\n\xff,2\n1,\0\n3,4\n")
    assert rows == [(4, ("1", "2")), (7, ("3", "4"))]
    assert [(r.position, r.reason) for r in notes.rejections] == [
        (2, "bad_value"), (3, "bad_value"), (5, "bad_utf8"), (6, "bad_utf8"),
    ]  # fmt: skip


def test_repeated_headers_are_no_records() -> None:
    rows, notes = cut(b"a,b\n1,2\na,b\n3,4\na,b\n")
    assert [row for _, row in rows] == [("1", "2"), ("3", "4")]
    assert notes.infos == ["the header is repeated on 2 lines"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter: str) -> None:
    rows, _ = cut(f"a{delimiter}b\n1{delimiter}2\n".encode())
    assert rows == [(2, ("1", "2"))]


def test_a_first_line_to_skip_and_names_that_repeat() -> None:
    rows, _ = cut(b"sep=,\na,a\n1,2\n", skip=1)
    assert rows == [(3, ("1", "2"))]
    assert header_names(b"sep=,\nTime,x,x,x\n", 1) == ["Time", "x", "x#2", "x#3"]


def test_a_header_without_end_is_refused() -> None:
    """Names of over 4 MB are no header; 2 MB in quotes are cut in the memory that they take."""
    with pytest.raises(InputError, match="the line with the column names is over 4 MB"):
        cut(b"a," + b"x" * (5 << 20) + b"\n1,2\n")
    tracemalloc.start()
    with pytest.raises(csv.Error):
        split_header('a,"' + "x" * (2 << 20) + '"')
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_no_header_is_an_error_and_a_header_alone_is_an_empty_table() -> None:
    with pytest.raises(InputError, match="no line with column names"):
        cut(b"\n\n")
    assert cut(b"a,b\n")[0] == []


def test_a_cut_archive_keeps_its_whole_lines() -> None:
    """The line it is cut in is set aside as truncated, and the file says what is missing."""
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 1000) for i in range(20_000))
    rows, notes = cut(gzip.compress(text)[:-40])
    assert rows[:2] == [(2, ("0", "0")), (3, ("1", "919"))]
    assert [row for _, row in rows] == [(str(i), str(i * 7919 % 1000)) for i in range(len(rows))]
    assert [r.reason for r in notes.rejections] in ([], ["truncated"])
    assert "cut or damaged" in notes.warnings[0]


def test_blocks_end_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and quoted texts over the end of a block come out whole, on the lines they stand on."""
    text = b'a,b\n1,2\n"x\ny",3\n4,"5"\n6,7\n'
    whole = cut(text)[0]
    assert whole == [(2, ("1", "2")), (3, ("x\ny", "3")), (5, ("4", "5")), (6, ("6", "7"))]
    for size in range(1, len(text) + 1):
        monkeypatch.setattr(streams, "BLOCK_BYTES", size)
        assert cut(text)[0] == whole


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=("Cs",)), max_size=6
)


@given(st.lists(st.tuples(cells, cells, cells), max_size=8))
def test_what_the_csv_module_writes_is_read_back(rows: list[tuple[str, str, str]]) -> None:
    """Quotes, delimiters and line breaks in cells survive; blanks around a text do not."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["one", "two", "three"])
    writer.writerows(rows)
    got, notes = cut(out.getvalue().encode())
    expected = [tuple(_stripped(cell) for cell in row) for row in rows]
    assert [row for _, row in got] == expected
    assert notes.rejections == []


def _stripped(cell: str) -> str | None:
    import polars as pl

    return pl.Series([cell]).str.strip_chars()[0] or None


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_set_aside(raw: bytes) -> None:
    """Every line that is not blank belongs to a record, to a rejection, or is the header."""
    text = b"a,b\n" + raw
    got, notes = cut(text)
    lines = sum(1 for line in text.split(b"\n") if line.strip(b"\r").strip())
    assert len(got) + len(notes.rejections) <= lines - 1
    if b'"' not in raw:
        repeats = sum(1 for line in raw.split(b"\n") if [c.strip() for c in line.split(b",")] == [b"a", b"b"])
        assert len(got) + len(notes.rejections) == lines - 1 - repeats


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("a,b,a,a", ["a", "b", "a#2", "a#3"]),
        ("a,a#2,a", ["a", "a#2", "a#3"]),
        ("a#2,a,a", ["a#2", "a", "a#3"]),
        ("x#1,x#1,x#1", ["x#1", "x#1#2", "x#1#3"]),
        (" a ;a", ["a", "a#2"]),
        ('Time,"up{a=""x; y; z""}"', ["Time", 'up{a="x; y; z"}']),
    ],
)
def test_every_name_of_a_header_is_its_own(line: str, names: list[str]) -> None:
    """A name that repeats is numbered, and no number is taken twice."""
    assert split_header(line)[0] == names
