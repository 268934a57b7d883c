"""The reader of VictoriaMetrics' export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest.texts import Samples, merged, read_bytes, reasons

from hs_analysis.errors import InputError
from hs_analysis.ingest import streams
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers import victoriametrics
from hs_analysis.ingest.readers.victoriametrics import read_vm_jsonl

T_MS = 1764000000000
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
MEANINGS = {
    "null": (None, "stale"),
    "+Inf": (None, "pos_inf"),
    "-Inf": (None, "neg_inf"),
    "NaN": (None, "nan"),
}
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr), st.integers(-(10**18), 10**18).map(str),
    st.sampled_from(sorted(MEANINGS)),
)  # fmt: skip
LINES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["__name__", "pod", "[+Inf,"]), TEXTS, min_size=1),
        st.lists(st.tuples(VALUES, st.integers(0, 10**12)), max_size=5),
    ),
    max_size=5,
)


def line(labels: dict[str, str], samples: list[tuple[str, int]], *, ascii_only: bool = False) -> str:
    """Write a series as the server does."""
    metric = json.dumps(labels, separators=(",", ":"), ensure_ascii=ascii_only)
    values, times = (",".join(str(pair[i]) for pair in samples) for i in (0, 1))
    return f'{{"metric":{metric},"values":[{values}],"timestamps":[{times}]}}\n'


@pytest.mark.parametrize("block", [8 << 20, 5, 64])
@given(lines=LINES, ascii_only=st.booleans())
def test_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, block: int, lines: list, ascii_only: bool
) -> None:  # type: ignore[type-arg]
    """Any labels, one series on several lines, null and bare infinities, any block size."""
    raw, expected = "", list[Samples]()
    for labels, samples in lines:
        stamped = [(value, T_MS + offset) for value, offset in samples]
        raw += line(labels, stamped, ascii_only=ascii_only)
        rows = [(t * 1000, *(MEANINGS.get(value) or (float(value), ""))) for value, t in stamped]
        if rows:
            expected.append({tuple(sorted(labels.items())): rows})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK_BYTES", block)
        found, notes = read_bytes(read_vm_jsonl, raw.encode(), tmp_path_factory.mktemp("vm"))
    assert found == merged(expected)
    assert notes.rejections == []


def test_repaired_values_are_counted(tmp_path: Path) -> None:
    """Only in value position: a label that looks like one is left alone."""
    samples = [(value, T_MS) for value in ("1", "null", "+Inf", "-Inf")]
    raw = line({"__name__": "m", "a": "[+Inf,"}, samples)
    found, notes = read_bytes(read_vm_jsonl, raw.encode(), tmp_path)
    (key,) = found
    assert dict(key)["a"] == "[+Inf,"
    assert {flag for _, _, flag in found[key]} == {"", "stale", "pos_inf", "neg_inf"}
    assert notes.infos == ["2 values like +Inf, which are no JSON, were repaired"]


def test_bad_lines_and_values_are_rejected_with_their_place(tmp_path: Path) -> None:
    """A line that is no series is one row; a bad value leaves its neighbours alone."""
    good = line({"__name__": "m"}, [("1", T_MS)])
    raw = good + "oops\n\n[1]\n" + line({"__name__": "m"}, [("1", T_MS)]).replace("[1]", "[1,2]")
    raw += line({"__name__": "m"}, [("1", T_MS + 1), ('"x"', 2), ("true", 3), ("4", 10**17)])
    raw += '{"metric":{"__name__":5},"values":[1],"timestamps":[1]}\n{"metric":{}}\n'
    found, notes = read_bytes(read_vm_jsonl, raw.encode(), tmp_path)
    assert [len(rows) for rows in found.values()] == [2]
    assert reasons(notes) == [
        (2, "bad_json"), (4, "bad_json"), (5, "bad_json"), (6, "bad_value"), (6, "bad_value"), (6, "bad_ts"),
        (7, "bad_json"), (8, "bad_json"),
    ]  # fmt: skip
    assert notes.rejections[3].path == "values[1]"
    assert notes.rejections[2].detail == "2 values but 1 timestamps"


def test_staleness_markers_are_read_with_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with nulls is no odd one; a label is left alone, and so is a value like the stand-in."""
    samples = [("1", T_MS), ("null", T_MS + 1), ("NaN", T_MS + 2), ("-1.0625e308", T_MS + 3)]
    odd = line({"__name__": "m", "a": "null"}, samples)
    plain = line({"__name__": "m", "a": "null"}, samples[:3])
    found, _ = read_bytes(read_vm_jsonl, odd.encode(), tmp_path)
    monkeypatch.setattr(victoriametrics, "LARGEST_ODD_BYTES", 10)
    fast, notes = read_bytes(read_vm_jsonl, (plain + odd).encode(), tmp_path)
    ((key, rows),) = fast.items()
    assert dict(key)["a"] == "null"
    assert [flag for _, _, flag in rows] == ["", "stale", "nan"]
    assert rows == found[key][:3]
    assert found[key][3][1:] == (-1.0625e308, "")
    assert reasons(notes) == [(2, "bad_json")]
    assert "no plain numbers, and more than 10 bytes" in notes.rejections[0].detail


def test_an_unfinished_last_line_is_rejected_and_a_whole_one_is_not(tmp_path: Path) -> None:
    """The closing brace says that a line is whole, even without a newline."""
    rows = line({"__name__": "m"}, [("1", T_MS)]) * 2
    found, notes = read_bytes(read_vm_jsonl, rows[:-1].encode(), tmp_path)
    assert [len(samples) for samples in found.values()] == [2]
    assert notes.rejections == []
    found, notes = read_bytes(read_vm_jsonl, rows[:-9].encode(), tmp_path)
    assert [len(samples) for samples in found.values()] == [1]
    assert reasons(notes) == [(2, "truncated")]


def test_the_binary_export_says_what_to_do(tmp_path: Path) -> None:
    """It begins with the bounds of its time range, zig-zag coded."""
    bounds = b"".join((2 * t).to_bytes(8, "big") for t in (T_MS, T_MS + 10**7))
    path = tmp_path / "native.bin"
    path.write_bytes(bounds + bytes(range(200)))
    with pytest.raises(InputError, match="binary export of VictoriaMetrics; export it as JSON lines"):
        discover([path])


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (line({"__name__": "m"}, [("1", T_MS)]).encode(), "vm-jsonl"),
        (b'{"metric":{"__name__":"m"},"values":[null,1', "vm-jsonl"),
        (b'{"metric":{"__name__":"m"},"values":[[1,"2"]]}', None),
        (b'{"metrics":{}}', None),
    ],
)
def test_recognised_by_its_line(head: bytes, known: str | None) -> None:
    """An element of an API answer has pairs, an export plain numbers."""
    found = sniff(FileStart(head))
    assert (found.id if found else None) == known
