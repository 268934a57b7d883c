"""The reader of Datadog's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ingest.reading import read, series

from hs_analysis.errors import InputError
from hs_analysis.ingest.formats import FileStart, sniff
from hs_analysis.ingest.readers.datadog import read_datadog
from hs_analysis.ingest.request_files import REQUEST_ONLY
from hs_analysis.ingest.rows import Dump, ReadNotes

T = 1764000000
US = 1_000_000


def one(query: str, points: list[Any], tags: list[str] | None = None, **more: Any) -> dict[str, Any]:
    named = {"metric": query.partition(":")[2].partition("{")[0], "expression": query, "tag_set": tags or []}
    return {**named, "pointlist": [[(T + 20 * i) * 1000.0, v] for i, v in enumerate(points)], **more}


def answer(*found: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"status": "ok", "res_type": "time_series", "series": found, **more}).encode()


def request(*queries: str) -> dict[str, Any]:
    asked = [{"data_source": "metrics", "name": f"q{i}", "query": query} for i, query in enumerate(queries)]
    formulas = [{"formula": one["name"]} for one in asked]
    return {"data": {"type": "timeseries_request", "attributes": {"formulas": formulas, "queries": asked}}}


def version_2(*values: list[Any]) -> dict[str, Any]:
    found = [{"group_tags": ["pod_name:d-0"], "query_index": i} for i in range(len(values))]
    times = [(T + 20 * i) * 1000 for i in range(max(map(len, values)))]
    return {"data": {"type": "timeseries_response",
                     "attributes": {"series": found, "times": times, "values": list(values)}}}  # fmt: skip


WAITING = "avg:vllm.num_requests.waiting{*} by {pod_name}"
SMALL = answer(
    one(WAITING, [3, None], ["pod_name:d-0", "kube_namespace:llm"]),
    one("sum:vllm.generation_tokens.count{*} by {pod_name}.as_count()", [5, 7], ["pod_name:d-0"]),
)


def values(raw: bytes) -> dict[str, list[tuple[float, float | None]]]:
    """Return (seconds from the start, value) by series; a microsecond behind a start is taken off."""
    pieces, notes = read(read_datadog, raw)
    assert not notes.rejections, [r.detail for r in notes.rejections]
    return {
        name: [((t - T * US) // 1000 / 1000, v) for t, v, _ in rows] for name, rows in series(pieces).items()
    }


def test_a_gauge_keeps_its_times_and_null_is_missing() -> None:
    """Tags become labels under the names that Prometheus has for them."""
    assert values(answer(one(WAITING, [3, None], ["pod_name:d-0", "kube_namespace:llm", "a:b", "a:c"]))) == {
        'vllm:num_requests_waiting{a="b,c", namespace="llm", pod="d-0"}': [(0.0, 3.0), (20.0, None)]
    }


@pytest.mark.parametrize(
    ("query", "points"),
    [
        ("sum:vllm.generation_tokens.count{*} by {pod_name}.as_count()", [5, 7]),
        ("sum:vllm.generation_tokens.count{*} by {pod_name}.rollup(sum, 20)", [5, 7]),
        ("sum:vllm.generation_tokens.count{*} by {pod_name}.as_rate()", [0.25, 0.35]),
    ],
)
def test_a_counter_is_what_it_gained_at_the_end_of_each_interval(query: str, points: list[float]) -> None:
    """Counts as they are, rates times the interval; counting begins with the first interval."""
    pieces, _ = read(read_datadog, answer(one(query, points, ["pod_name:d-0"])))
    (piece,) = pieces
    assert piece.increases
    assert piece.labels == {"__name__": "vllm:generation_tokens_total", "pod": "d-0"}
    assert [(t - T * US) // 1000 / 1000 for t in piece.t_us.tolist()] == [0.0, 20.0, 40.0]
    assert piece.values.tolist() == pytest.approx([0.0, 5.0, 7.0])


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("avg:vllm.generation_tokens.count{*} by {pod_name}", "vllm:generation_tokens_total:avg"),
        ("max:vllm.num_requests.waiting{*} by {pod_name}", "vllm:num_requests_waiting:max"),
        ("avg:vllm.num_requests.waiting{*}.rollup(max, 20)", "vllm:num_requests_waiting:max"),
        ("avg:dcgm.sm_active{*} by {host}", "DCGM_FI_PROF_SM_ACTIVE"),
        ("avg:llm.dynamo_frontend_queued_requests{*}", "dynamo_frontend_queued_requests"),
        ("avg:a.b{*} / avg:a.c{*}", "avg:a.b{*} / avg:a.c{*}"),
    ],
)
def test_what_a_query_puts_together_otherwise_has_another_name(query: str, name: str) -> None:
    """A maximum is no queue length, an average of single flushes no counter, a formula no metric."""
    pieces, notes = read(read_datadog, answer(one(query, [1, 2], ["host:n-1"])))
    assert [p.labels["__name__"] for p in pieces] == [name]
    told = any("called by how they were put together" in text for text in notes.warnings)
    assert told == (":" in name.removeprefix("vllm:"))


def test_counting_begins_where_the_first_value_is() -> None:
    """Answers with a common time axis have nulls before a pod was there: it did not count 0 all the while."""
    counter = one("sum:vllm.generation_tokens.count{*}.as_count()", [None, None, 5], ["pod_name:d-0"])
    (rows,) = values(answer(counter)).values()
    assert set(rows) == {(20.0, None), (40.0, None), (40.0, 0.0), (60.0, 5.0)}


def test_the_query_of_the_answer_says_more_than_that_of_a_series() -> None:
    """Modifiers stand in the whole query; a series' own expression may lack them."""
    bare = one("sum:vllm.generation_tokens.count{pod_name:d-0}", [5], ["pod_name:d-0"], interval=20)
    whole = "sum:vllm.generation_tokens.count{*} by {pod_name}.as_count()"
    pieces, _ = read(read_datadog, answer(bare, query=whole))
    assert [p.increases for p in pieces] == [True]


def test_the_count_of_a_histogram_is_its_last_bucket() -> None:
    """Datadog has no bucket without an upper edge; the Agent's tag for the edge is upper_bound."""
    base, by = "vllm.time_to_first_token.seconds", "{*} by {pod_name}.as_count()"
    found = values(answer(
        one(f"sum:{base}.bucket{by}", [1, 2], ["pod_name:d-0", "upper_bound:0.1", "lower_bound:0.0"]),
        one(f"sum:{base}.count{by}", [3, 4], ["pod_name:d-0"]),
    ))  # fmt: skip
    name = "vllm:time_to_first_token_seconds"
    assert found == {
        f'{name}_bucket{{le="0.1", pod="d-0"}}': [(0.0, 0.0), (20.0, 1.0), (40.0, 2.0)],
        f'{name}_count{{pod="d-0"}}': [(0.0, 0.0), (20.0, 3.0), (40.0, 4.0)],
        f'{name}_bucket{{le="+Inf", pod="d-0"}}': [(0.0, 0.0), (20.0, 3.0), (40.0, 4.0)],
    }


def test_losses_are_those_of_the_queries() -> None:
    """Interpolation unless .fill(null) is asked for, and values of a whole fleet unless pods are."""
    filled = one(WAITING + ".fill(null)", [1], ["pod_name:d-0"])
    assert read(read_datadog, answer(filled))[1].losses == set()
    assert read(read_datadog, answer(filled, one(WAITING, [1])))[1].losses == {"interpolated", "fleet"}


def test_version_2_is_named_by_its_request(tmp_path: Path) -> None:
    """In the same file, in the file beside it, or by --query; else it is refused with what to do."""
    answered = json.dumps(version_2([1, 2])).encode()
    asked = json.dumps(request(WAITING)).encode()
    wanted = {'vllm:num_requests_waiting{pod="d-0"}': [(0.0, 1.0), (20.0, 2.0)]}
    assert values(asked + b"\n" + answered) == wanted
    with pytest.raises(InputError, match="does not say what was asked"):
        read(read_datadog, answered)
    assert read(read_datadog, answered, "a.json", queries={"a.json": WAITING})[1].losses >= {"no_names"}
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes(answered)
    (tmp_path / "any.json").write_bytes(asked)
    notes = ReadNotes()
    pieces = list(read_datadog(Dump(tmp_path / "a.json", "a.json", "a.json"), notes))
    assert [p.labels["__name__"] for p in pieces] == ["vllm:num_requests_waiting"]
    assert "names are those of the request in any.json" in notes.infos
    (tmp_path / "b.request.json").write_bytes(asked)
    assert list(read_datadog(Dump(tmp_path / "b.json", "b.json", "b.json"), ReadNotes()))
    with pytest.raises(InputError, match="2 requests lie next to it"):
        list(read_datadog(Dump(tmp_path / "a.json", "a.json", "a.json"), ReadNotes()))


def test_a_request_by_itself_holds_no_rows() -> None:
    pieces, notes = read(read_datadog, json.dumps(request(WAITING)).encode())
    assert (pieces, notes.rows) == ([], 0)
    assert notes.infos == [REQUEST_ONLY]


def test_bad_points_are_set_aside_and_an_error_is_refused() -> None:
    """No pair, no number, no time, a counter of one point without interval; the others are read."""
    bent = one(WAITING, [1, 2], ["pod_name:d-0"])
    bent["pointlist"] += [[T * 1000, "x"], 7, ["x", 1]]
    lone = one("sum:vllm.generation_tokens.count{*}.as_count()", [5], ["pod_name:d-0"])
    pieces, notes = read(read_datadog, answer(bent, lone))
    assert sorted(r.reason for r in notes.rejections) == ["bad_ts", "bad_ts", "bad_value", "bad_value"]
    assert notes.rejections[0].path == "series[0].pointlist[2]"
    assert [p.values.tolist() for p in pieces] == [[1.0, 2.0]]
    with pytest.raises(InputError, match="answered with an error"):
        read(read_datadog, b'{"errors": ["Forbidden"]}')


@pytest.mark.parametrize(
    ("raw", "kind"),
    [(SMALL, "datadog"), (json.dumps(version_2([1])).encode(), "datadog"),
     (json.dumps(request(WAITING), indent=2).encode(), "datadog"),
     (json.dumps(request(WAITING)).encode() + json.dumps(version_2([1])).encode(), "datadog")],
)  # fmt: skip
def test_it_is_told_by_its_content(raw: bytes, kind: str) -> None:
    found = sniff(FileStart(raw, "any"))
    assert found is not None
    assert found.id == kind
