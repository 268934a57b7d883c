"""The reader of `promtool tsdb dump`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest.texts import Samples, go_quoted, merged, obvious_line, read_bytes, reasons

from hs_analysis.ingest import streams, text_lines
from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.tsdb import read_tsdb_dump

T_MS = 1764000000000
NAMES = st.sampled_from(["up", "vllm:num_requests_waiting", "a_b", "m"])
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
LABELS = st.dictionaries(st.sampled_from(["pod", "a", "model_name"]), TEXTS, max_size=3)
VALUES = st.one_of(
    st.floats(allow_nan=False).map(repr), st.sampled_from(["0", "NaN", "+Inf", "-Inf", "1e+06"])
)
SERIES = st.tuples(NAMES, LABELS)
RUNS = st.lists(
    st.tuples(SERIES, st.lists(st.tuples(VALUES, st.integers(0, 10**12)), min_size=1, max_size=6)), max_size=6
)


def line(name: str, labels: dict[str, str], value: str, t_ms: int) -> str:
    """Write a sample as promtool does: labels sorted, blanks after commas."""
    pairs = sorted({"__name__": name, **labels}.items())
    inner = ", ".join(f"{key}={go_quoted(text)}" for key, text in pairs)
    return f"{{{inner}}} {value} {t_ms}\n"


@pytest.mark.parametrize(("block", "gather"), [(1 << 19, 1 << 19), (7, 3), (100, 1)])
@given(runs=RUNS)
def test_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, block: int, gather: int, runs: list
) -> None:  # type: ignore[type-arg]
    """Any labels (blanks, quotes, newlines, unicode), any runs, any block size: nothing is lost."""
    raw, expected = "", list[Samples]()
    for (name, labels), samples in runs:
        for value, offset in samples:
            raw += line(name, labels, value, T_MS + offset)
            key = [("__name__", name), *labels.items()]
            expected.append(obvious_line(key, value, (T_MS + offset) * 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hs_analysis.ingest.readers.tsdb.LINE_BLOCK_BYTES", block)
        patch.setattr(text_lines, "GATHER_ROWS", gather)
        found, notes = read_bytes(read_tsdb_dump, raw.encode(), tmp_path_factory.mktemp("dump"))
    assert found == merged(expected)
    assert notes.rejections == []


def test_a_brace_or_blank_in_a_label_ends_nothing(tmp_path: Path) -> None:
    """Values such as `} 5 6` stay labels; a name that another begins with is another series."""
    raw = line("m", {"a": "} 5 6", "b": 'x", c="y'}, "1", T_MS) + line("m", {"a": "} 5 6"}, "2", T_MS)
    raw += line("m", {"a": "} 5"}, "3", T_MS) + line("mm", {"a": "} 5"}, "4", T_MS)
    found, notes = read_bytes(read_tsdb_dump, raw.encode(), tmp_path)
    assert sorted(rows[0][1] for rows in found.values() if rows[0][1]) == [1.0, 2.0, 3.0, 4.0]
    assert len(found) == 4
    assert notes.rejections == []


def test_bad_lines_are_rejected_with_their_line(tmp_path: Path) -> None:
    """The neighbours of a bad line are kept, and every line has one fate."""
    good = line("m", {"pod": "a b"}, "1", T_MS).encode()
    bad = [
        good.replace(b" 1 1764000000000", b" x 1764000000000"),
        good.replace(b" 1 1764000000000", b" 1 yesterday"),
        good.replace(b" 1 1764000000000", b" 1 99999999999999999"),
        good.replace(b" 1 1764000000000", b" 1"),
        good.replace(b" 1 1764000000000", b" 1 2 3"),
        good.replace(b" 1 1764000000000", b" {count:3, sum:2} 1764000000000"),
        b'{__name__="m", pod="a\xff"} 1 1764000000000\n',
        b'{__name__="m", pod} 1 1764000000000\n',
        b'{__name__="m", pod="1", pod="2"} 1 1764000000000\n',
        b"oops\n",
        b'{__name__="m", pod="open} 1 1764000000000\n',
        b'{__name__="m"} 1 1764000000000 \x00\n',
    ]
    raw = b"".join(good + one for one in bad) + good
    found, notes = read_bytes(read_tsdb_dump, raw, tmp_path)
    assert [len(rows) for rows in found.values()] == [len(bad) + 1]
    expected = [
        "bad_value", "bad_ts", "bad_ts", "bad_ts", "bad_line", "native_histogram", "bad_utf8", "bad_line",
        "bad_line", "bad_line", "bad_line", "bad_line",
    ]  # fmt: skip
    assert sorted(reasons(notes)) == [(2 * i + 2, reason) for i, reason in enumerate(expected)]
    shown = next(r for r in notes.rejections if r.position == 2)
    assert shown.raw == '{__name__="m", pod="a b"} x 1764000000000'
    assert shown.series == '{__name__="m", pod="a b"}'


def test_numbers_do_not_slip_from_line_to_line(tmp_path: Path) -> None:
    """A line with one number less beside a line with one more is two bad lines, not two samples."""
    prefix = '{__name__="m"} '
    raw = f"{prefix}3\n{prefix}4 {T_MS} 5\n".encode()
    found, notes = read_bytes(read_tsdb_dump, raw, tmp_path)
    assert found == {}
    assert reasons(notes) == [(1, "bad_ts"), (2, "bad_line")]


def test_a_cut_dump_keeps_its_whole_lines(tmp_path: Path) -> None:
    """The unfinished line is rejected: its time may lack digits. A cut archive says so."""
    rows = [line("m", {"pod": f"p{i % 7}"}, str(i), T_MS + i) for i in range(20_000)]
    found, notes = read_bytes(read_tsdb_dump, "".join(rows).encode()[:-5], tmp_path)
    assert sum(len(samples) for samples in found.values()) == 19_999
    assert reasons(notes) == [(20_000, "truncated")]
    packed = gzip.compress("".join(rows).encode())
    found, notes = read_bytes(read_tsdb_dump, packed[: len(packed) // 2], tmp_path)
    kept = sum(len(samples) for samples in found.values())
    assert 5_000 < kept < 15_000
    assert [text.split(":")[0] for text in notes.warnings] == ["truncated"]


def test_lines_sorted_by_time_are_gathered_by_series(tmp_path: Path) -> None:
    """A file in which no series stands on two lines in a row is yielded series by series all the same."""
    raw = "".join(line("m", {"pod": f"p{i % 50}"}, str(i), T_MS + i) for i in range(5000)).encode()
    path = tmp_path / "f"
    path.write_bytes(raw)
    from hs_analysis.ingest.rows import Dump, ReadNotes

    pieces = list(read_tsdb_dump(Dump(path, "f", "f"), ReadNotes()))
    assert len(pieces) == 50
    assert all(piece.t_us.size == 100 for piece in pieces)


def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    """Files that went through an editor are read too."""
    raw = "\ufeff" + line("m", {}, "1", T_MS).replace("\n", "\r\n") * 2
    found, notes = read_bytes(read_tsdb_dump, raw.encode(), tmp_path)
    assert [len(rows) for rows in found.values()] == [2]
    assert notes.rejections == []


def test_a_line_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded whatever is fed."""
    from hs_analysis.errors import InputError

    monkeypatch.setattr(streams, "LONGEST_LINE_BYTES", 1000)
    monkeypatch.setattr("hs_analysis.ingest.readers.tsdb.LINE_BLOCK_BYTES", 256)
    with pytest.raises(InputError, match="a line of more than 1000 bytes at byte"):
        read_bytes(read_tsdb_dump, b"{" * 5000, tmp_path)


def test_old_times_warn_with_both_readings(tmp_path: Path) -> None:
    """A dump whose times are seconds is not silently put into 1970."""
    _, notes = read_bytes(read_tsdb_dump, b'{__name__="m"} 1 1764000000\n', tmp_path)
    assert notes.warnings == ["the first time 1764000000 is 1970-01-21; as seconds it would be 2025-11-24"]


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b'{__name__="m", a="b c"} 1 1764000000000\n', "tsdb-dump"),
        (b'{__name__="m"} NaN 1764000000000\n', "tsdb-dump"),
        (b"{} 1 1764000000000\n", "tsdb-dump"),
        (b'{__name__="m"} {count:3, sum:18.4} 1764000000000\n', "tsdb-dump"),
        (b'{"a": 1}\n', None),
        (b"{ some text }\n", None),
    ],
)
def test_recognised_by_its_lines(head: bytes, known: str | None) -> None:
    """The name of the file says nothing."""
    found = sniff(FileStart(head))
    assert (found.id if found else None) == known
