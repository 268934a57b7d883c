"""Excluded stretches and events, from words and from files of several shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hs_analysis.errors import HsError
from hs_analysis.schema.settings import Event, Excluded
from hs_analysis.settings.time_ranges import events, excluded

EARLY = Excluded("2026-07-01T08:00:00Z", "2026-07-01T09:30:00Z")


def test_words_are_stretches(tmp_path: Path) -> None:
    """START..END with zones, or without where a zone is known; equal ones count once, in order of time."""
    late = "2026-07-02T08:00Z..2026-07-02T09:00Z"
    found = excluded([late, "2026-07-01T08:00Z..2026-07-01T09:30Z", late], "--exclude", tmp_path, None)
    assert found == (EARLY, Excluded("2026-07-02T08:00:00Z", "2026-07-02T09:00:00Z"))
    assert excluded(["2026-07-01T10:00..2026-07-01T11:30"], "--exclude", tmp_path, "Europe/Berlin") == (
        EARLY,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "start,end,label\n2026-07-01T08:00Z,2026-07-01T09:30Z,load test\n"),
        ("b.csv", "\ufeffFrom,To,Reason,owner\n1782892800,1782898200,load test,me\n"),
        ("c.json", '[{"start": "2026-07-01T08:00Z", "end": "2026-07-01T09:30Z", "label": "load test"}]'),
        ("d.json", '{"begin": 1782892800000, "until": 1782898200000, "title": "load test"}'),
    ],
)
def test_files_are_stretches(tmp_path: Path, name: str, text: str) -> None:
    """CSV and JSON, ISO and Unix times, with the names such files have."""
    (tmp_path / name).write_text(text)
    (found,) = excluded([name], "--exclude", tmp_path, None)
    assert found == Excluded(EARLY.start, EARLY.end, "load test")


def test_events_of_a_recorder(tmp_path: Path) -> None:
    """Unix seconds and a kind; keys without a name of their own are the text."""
    rows = [
        {"unix": 1795527666.699, "kind": "worker_kill", "worker": 5, "pod": "llama8b-5"},
        {"unix": 1795525390.682, "kind": "ready", "startup_s": 7.8},
        {"t": "2026-11-24T14:00Z", "end": "2026-11-24T14:05Z", "text": "deploy v2"},
    ]
    (tmp_path / "events.json").write_text(json.dumps(rows))
    assert events(["events.json"], "--events", tmp_path, None) == (
        Event("2026-11-24T13:03:10.682000Z", None, "startup_s 7.8", "ready"),
        Event("2026-11-24T13:41:06.699000Z", None, "worker 5, pod llama8b-5", "worker_kill"),
        Event("2026-11-24T14:00:00Z", "2026-11-24T14:05:00Z", "deploy v2", ""),
    )


@pytest.mark.parametrize(
    ("word", "text", "message"),
    [
        ("2026-07-02T00:00Z..2026-07-01T00:00Z", "", "is not before"),
        ("2026-07-01T00:00:00Z..2026-07-01T00:00:00Z", "", "is not before"),
        ("2026-07-01T00:00..2026-07-01T01:00", "", "has no zone"),
        ("2026-07-01", "", "a stretch is START..END"),
        ("..", "", "is not a time"),
        ("x.csv", "start,label\n2026-07-01T08:00Z,x\n", "line 2: no end among start, label"),
        ("x.csv", "starts,end\n2026-07-01T08:00Z,2026-07-01T09:00Z\n", "did you mean start?"),
        ("x.csv", "start,end\n", "holds no record"),
        ("x.csv", "start,end\n2026-07-01T08:00,2026-07-01T09:00Z\n", "line 2: time '2026-07-01T08:00' has"),
        ("x.json", "[1]", "item 1 is no object"),
        ("x.json", "[\n{]", "x.json line 2: no JSON"),
        ("x.json", '[{"start": 20260701, "end": 20260702}]', "no time of this century"),
    ],
)  # fmt: skip
def test_what_is_no_stretch(tmp_path: Path, word: str, text: str, message: str) -> None:
    """The message names the flag, or file and record."""
    if text:
        (tmp_path / word).write_text(text)
    with pytest.raises(HsError) as caught:
        excluded([word], "--exclude", tmp_path, None)
    assert message in caught.value.line()
    assert word.split("..", maxsplit=1)[0] in caught.value.line()


def test_recorded_events(real_data: Path) -> None:
    """The events of a recorded capture are read as they are."""
    found = events(["events.json"], "--events", real_data / "dynamo-mocker" / "pd-cycles", None)
    assert [event.kind for event in found][:3] == ["ready", "load_start", "worker_kill"]
    assert len(found) == 8
