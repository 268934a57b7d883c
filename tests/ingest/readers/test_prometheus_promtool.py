"""The readers of what `promtool query` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ingest.texts import read_bytes, reasons

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.prometheus import read_promtool_json, read_promtool_text
from hs_analysis.ingest.rows import Dump, ReadNotes
from hs_analysis.schema.settings import Reading

T = 1764000000
LIST = json.dumps(
    [
        {"metric": {"__name__": "m", "pod": "a b"}, "values": [[T, "1"], [T + 0.25, "NaN"]]},
        {"metric": {"__name__": "n"}, "value": [T, "2"]},
    ]
).encode()


def test_a_bare_list_is_read_like_an_answer(tmp_path: Path) -> None:
    """Ranges and instants; rejections name the element."""
    found, notes = read_bytes(read_promtool_json, LIST.replace(b'"2"', b'"x"'), tmp_path)
    assert found == {
        (("__name__", "m"), ("pod", "a b")): [(T * 10**6, 1.0, ""), (T * 10**6 + 250_000, None, "nan")]
    }
    assert [(r.path, r.reason) for r in notes.rejections] == [("[1].values[0]", "bad_value")]


def test_empty_lists_before_others(tmp_path: Path) -> None:
    """The answers to several queries in one file, of which the first found nothing; alone they are none."""
    assert sniff(FileStart(b"[]\n[]\n")) is None
    several = b"[]\n" + LIST + b"\n[]\n"
    found = sniff(FileStart(several))
    assert found is not None
    assert found.id == "promtool-json"
    assert (
        read_bytes(read_promtool_json, several, tmp_path)[0]
        == read_bytes(read_promtool_json, LIST, tmp_path)[0]
    )


def test_a_cut_list_names_its_last_series_or_is_salvaged(tmp_path: Path) -> None:
    """--salvage keeps the complete series and a row that says where the rest is missing."""
    cut = LIST[:-20]
    with pytest.raises(
        InputError,
        match=r'middle at byte 139 after series m\{pod="a b"\} until 2025-11-24 16:00:00 UTC.*--salvage',
    ):
        read_bytes(read_promtool_json, cut, tmp_path)
    found, notes = read_bytes(read_promtool_json, cut, tmp_path, reading=Reading(salvage=True))
    assert [len(rows) for rows in found.values()] == [2]
    assert reasons(notes) == [(len(cut), "truncated")]
    assert "the complete series before it are kept" in notes.warnings[0]
    with pytest.raises(InputError, match=r"no series before it is complete; export this file again$"):
        read_bytes(read_promtool_json, LIST[:20], tmp_path, reading=Reading(salvage=True))


def test_series_without_a_name_are_a_warning(tmp_path: Path) -> None:
    """A function took the name; the warning says what to do."""
    raw = b'[{"metric":{"pod":"a"},"values":[[1764000000,"1"]]},{"metric":{},"values":[[1764000000,"1"]]}]'
    _, notes = read_bytes(read_promtool_json, raw, tmp_path)
    assert notes.warnings[0].startswith("2 series have no name")


def test_series_without_a_name_are_called_as_told(tmp_path: Path) -> None:
    """By the query they answer, or by a name; those with one keep it, in JSON as in text."""
    raw = b'[{"metric":{"pod":"a"},"values":[[1764000000,"1"]]},'
    raw += b'{"metric":{"__name__":"m"},"values":[[1764000000,"1"]]}]'
    text = b'{pod="a"} => 1 @[1764000000]\nm => 1 @[1764000000]\n'
    reading = Reading(queries={"other*": "no", "*": "sum by (pod) (x)"})
    for read, body in ((read_promtool_json, raw), (read_promtool_text, text)):
        found, notes = read_bytes(read, body, tmp_path, reading=reading)
        assert set(found) == {
            (("__name__", "sum by (pod) (x)"), ("pod", "a")), (("__name__", "m"),),
        }  # fmt: skip
        assert notes.warnings == []


def test_text_in_both_layouts(tmp_path: Path) -> None:
    """Ranges stand on lines of their own, instants behind the arrow; quotes are Go's."""
    raw = 'm{pod="a} =>", x="\\t\\"q\\""} =>\n3 @[1764000000]\nNaN @[1764000015.25]\n'
    raw += 'n{} => +Inf @[1764000000]\n{pod="b"} => 1 @[1764000000]\n'
    found, notes = read_bytes(read_promtool_text, raw.encode(), tmp_path)
    assert found == {
        (("__name__", "m"), ("pod", "a} =>"), ("x", '\t"q"')): [
            (T * 10**6, 3.0, ""), (T * 10**6 + 15_250_000, None, "nan"),
        ],
        (("__name__", "n"),): [(T * 10**6, None, "pos_inf")],
        (("pod", "b"),): [(T * 10**6, 1.0, "")],
    }  # fmt: skip
    assert notes.rejections == []


def test_bad_lines_of_text_are_rejected_with_their_line(tmp_path: Path) -> None:
    """Neighbours are kept; samples of labels that can't be read are left out one by one."""
    raw = b"m{} =>\n3 @[1764000000]\nx @[1764000001]\n4 @[1764000000000]\noops\n"
    raw += b"n{a} =>\n3 @[1764000000]\nm{} =>\n5 @[1764000009]\n6 @[17640"
    found, notes = read_bytes(read_promtool_text, raw, tmp_path)
    assert [[value for _, value, _ in rows] for rows in found.values()] == [[3.0, 5.0]]
    assert reasons(notes) == [
        (3, "bad_value"), (4, "bad_ts"), (5, "bad_line"), (6, "bad_line"), (7, "bad_line"), (10, "truncated"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (LIST, "promtool-json"),
        (b'[ {"values":[[1,"2"]],"metric":{}}]', "promtool-json"),
        (b'[{"hw":"h200","isl":1024}]', None),
        (b"[1,2]", None),
        (b"m{} =>\n3 @[1764000000]\n", "promtool-text"),
        (b"m => 3 @[1764000000]\n", "promtool-text"),
        (b"m => 3\n", "promtool-text"),
        (b"a = b\n", None),
    ],
)
def test_recognised_by_their_beginning(head: bytes, known: str | None) -> None:
    """Lists of other things are left to others."""
    found = sniff(FileStart(head))
    assert (found.id if found else None) == known


def test_a_real_answer_of_promtool(real_data: Path) -> None:
    """The shipped range query without an envelope is read whole."""
    path = real_data / "dynamo-mocker" / "pd-diurnal" / "promtool_query_range.decode_tps_per_pod.json.gz"
    notes = ReadNotes()
    pieces = list(read_promtool_json(Dump(path, str(path), path.name), notes))
    assert len(pieces) == 3
    assert notes.rejections == []
