"""What the time charts mark lies inside them, and is said beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hs_analysis.report import marks

FIRST, LAST = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC)
SERVICE: dict[str, Any] = marks.marked(
    {
        "demand": {
            "censored_windows": [
                {"start": "2026-07-01T01:00:00Z", "end": "2026-07-01T02:00:00Z", "reason": "queue"},
                {"start": "2026-07-05T01:00:00Z", "end": "2026-07-05T02:00:00Z", "reason": "queue"},
            ]
        }
    },
    {
        "excluded": [
            {"start": "2026-06-30T23:00:00Z", "end": "2026-07-01T00:30:00Z", "label": "load test"},
            {"start": "2026-07-01T23:00:00Z", "end": "2026-07-02T05:00:00Z", "label": ""},
        ],
        "events": [
            {"t": "2026-07-01T12:00:00Z", "end": None, "text": "v2", "kind": "big_deploy"},
            {"t": "2026-07-03T12:00:00Z", "end": None, "text": "v3", "kind": "deploy"},
            {"t": "not a time", "end": None, "text": "v4", "kind": "deploy"},
        ],
    },
)


def test_marks_lie_inside_the_chart() -> None:
    """What lies outside is left out, a stretch that reaches outside is cut: neither widens the axis."""
    saturated, excluded, events = marks.between(SERVICE, FIRST, LAST)
    assert [row["start"] for row in saturated] == ["2026-07-01T01:00:00Z"]
    assert [(row["start"], row["end"], row["text"]) for row in excluded] == [
        ("2026-07-01T00:00:00Z", "2026-07-01T00:30:00Z", "excluded: load test"),
        ("2026-07-01T23:00:00Z", "2026-07-02T00:00:00Z", "excluded"),
    ]
    assert events == [{"t": "2026-07-01T12:00:00Z", "kind": "big deploy", "text": "big deploy: v2"}]


def test_an_empty_chart_marks_nothing() -> None:
    """Without a first and last moment there is nowhere to mark."""
    assert marks.between(SERVICE, None, None) == ([], [], [])


def test_what_is_marked_is_said() -> None:
    """A reader who sees a shade or a rule can read what it is; nothing is said of what is not there."""
    row = [{"t": "x"}]
    assert marks.words([], [], []) == ""
    assert "saturated" in marks.words(row, [], [])
    assert "excluded" not in marks.words(row, [], row)
    assert marks.words([], row, []).startswith(" Shaded: stretches that were excluded")
    assert "Thin rules: events" in marks.words([], [], row)
