"""The reader of Grafana's data frames."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ingest.reading import read, series

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.grafana_frames import read_grafana_frames

T = 1764000000
WAITING = "vllm:num_requests_waiting"


def frame(
    values: list[Any], labels: dict[str, str] | None = None, query: str = WAITING, **data: Any
) -> dict[str, Any]:
    columns = [[(T + 15 * i) * 1000 for i in range(len(values))], values]
    return {
        "schema": {
            "refId": "A", "meta": {"executedQueryString": f"Expr: {query}\nStep: 15s"},
            "fields": [
                {"name": "Time", "type": "time"}, {"name": "Value", "type": "number", "labels": labels},
            ],
        },
        "data": {"values": columns, **data},
    }  # fmt: skip


def answer(*frames: dict[str, Any], **results: Any) -> bytes:
    return json.dumps({"results": {"A": {"status": 200, "frames": frames}, **results}}).encode()


SMALL = answer(frame([3, None, 4], {"pod": "d-0"}, entities=[None, {"NaN": [1]}], nanos=[[0, 0, 5000], None]))


def samples(raw: bytes, **how: Any) -> dict[str, list[tuple[int, float | None, str]]]:
    pieces, notes = read(read_grafana_frames, raw, "panel.json", **how)
    assert not notes.rejections, [r.detail for r in notes.rejections]
    return series(pieces)


def test_a_null_is_missing_unless_the_frame_says_what_it_was() -> None:
    """Entities give NaN and infinite back; nanoseconds are added to the milliseconds."""
    raw = answer(frame([None, None, None, 1], {"pod": "d-0"}, entities=[None, {"NaN": [1], "NegInf": [2]}],
                       nanos=[[0, 0, 0, 999_000]]))  # fmt: skip
    (rows,) = samples(raw).values()
    assert rows == [
        (T * 1_000_000, None, "null"), ((T + 15) * 1_000_000, None, "nan"),
        ((T + 30) * 1_000_000, None, "neg_inf"), ((T + 45) * 1_000_000 + 999, 1.0, ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "query", "given", "name"),
    [
        ({"__name__": "m", "pod": "d-0"}, "x", {}, 'm{pod="d-0"}'),
        ({"pod": "d-0"}, WAITING + '{job="a"}', {}, WAITING + '{pod="d-0"}'),
        ({"pod": "d-0"}, "sum by (pod) (m)", {}, 'sum by (pod) (m){pod="d-0"}'),
        ({"pod": "d-0"}, "sum by (pod) (m)", {"panel.json": "mine"}, 'mine{pod="d-0"}'),
    ],
)
def test_the_query_that_travels_with_a_frame_names_its_series(
    labels: dict[str, str], query: str, given: dict[str, str], name: str
) -> None:
    """The label __name__ first, then what the user says, then the query, a plain selector as its metric."""
    assert list(samples(answer(frame([1], labels, query)), queries=given)) == [name]


def test_shapes_of_frames_hold_the_same() -> None:
    """A list of frames, one frame, fields with values, a shared time, and labels as columns of texts."""
    one = frame([1, 2], {"pod": "d-0"})
    values = one["data"]["values"]
    fields = [
        {**field, "values": column} for field, column in zip(one["schema"]["fields"], values, strict=True)
    ]
    meta = one["schema"]["meta"]
    wanted = samples(answer(one))
    assert samples(json.dumps([one]).encode()) == wanted
    assert samples(json.dumps(one).encode()) == wanted
    assert (
        samples(json.dumps({"state": "Done", "series": [{"meta": meta, "fields": fields}]}).encode())
        == wanted
    )
    other = {"name": "Value", "type": "number", "labels": {"pod": "d-1"}}
    wide = {
        "schema": {"meta": meta, "fields": [*one["schema"]["fields"], other]},
        "data": {"values": [*values, [7, 8]]},
    }
    assert [[v for _, v, _ in rows] for rows in samples(answer(wide)).values()] == [[1, 2], [7, 8]]
    pods = {"name": "pod", "type": "string"}
    long = {
        "schema": {
            "meta": meta,
            "fields": [{"name": "Time", "type": "time"}, pods, {"name": "v", "type": "number"}],
        },
        "data": {"values": [[T * 1000] * 2 + [(T + 15) * 1000], ["d-0", "d-1", "d-0"], [1, 7, 2]]},
    }
    assert samples(answer(long))[WAITING + '{pod="d-0"}'] == wanted[WAITING + '{pod="d-0"}']


def test_what_holds_no_series_is_told() -> None:
    """Annotations are counted, a table is set aside, a failed query is a warning or the file's error."""
    notes_only = frame([1]) | {"schema": {"meta": {"dataTopic": "annotations"}, "fields": []}}
    table = {"schema": {"fields": [{"name": "pod", "type": "string"}]}, "data": {"values": [["a"]]}}
    _, notes = read(
        read_grafana_frames, answer(notes_only, table, frame([1]), B={"status": 400, "error": "bad"})
    )
    assert [r.reason for r in notes.rejections] == ["bad_json"]
    assert "pod (string)" in notes.rejections[0].detail
    assert notes.warnings == ["query B failed: bad"]
    assert "1 frames of annotations are left out" in notes.infos
    with pytest.raises(InputError, match="no data: query A failed: parse error"):
        read(read_grafana_frames, b'{"results": {"A": {"error": "parse error", "status": 400}}}')


def test_a_bad_value_is_set_aside_with_its_place() -> None:
    """A text that is no number, a value without a time; the others are read."""
    bent = frame([1, "x", 3], {"pod": "d-0"})
    bent["data"]["values"][0].pop()
    pieces, notes = read(read_grafana_frames, answer(bent))
    assert [(r.reason, r.path) for r in notes.rejections] == [
        ("bad_value", "results.A.frames[0] Value[1]"), ("bad_ts", "results.A.frames[0] Value[2]")
    ]  # fmt: skip
    assert [p.values.tolist() for p in pieces] == [[1.0]]


def test_a_cut_answer_is_refused_with_the_byte() -> None:
    with pytest.raises(InputError, match="ends in the middle at byte 100"):
        read(read_grafana_frames, SMALL[:100])


@pytest.mark.parametrize("raw", [SMALL, json.dumps([frame([1])], indent=2).encode()])
def test_it_is_told_by_its_content(raw: bytes) -> None:
    found = sniff(FileStart(raw, "any"))
    assert found is not None
    assert found.id == "grafana-frame"
