"""What the time charts mark: saturated and excluded stretches, events, the end of training."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hs_analysis.report.choice import mapping, records
from hs_analysis.report.wording import parse_time

Row = dict[str, str]


def marked(service: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a service's part of summary.json with the excluded stretches and events of the whole run."""
    return {**service, "excluded": summary.get("excluded"), "events": summary.get("events")}


def saturated(service: Mapping[str, Any]) -> list[Row]:
    """Return the saturated stretches of a service as chart bands."""
    rows = records(mapping(service.get("demand")).get("censored_windows"))
    return [
        {"start": str(row["start"]), "end": str(row["end"]), "text": str(row.get("reason") or "saturated")}
        for row in rows
        if parse_time(row.get("start")) and parse_time(row.get("end"))
    ]


def excluded(service: Mapping[str, Any]) -> list[Row]:
    """Return the stretches that the user left out as chart bands."""
    return [
        {"start": str(row["start"]), "end": str(row["end"]), "text": _said("excluded", row.get("label"))}
        for row in records(service.get("excluded"))
        if parse_time(row.get("start")) and parse_time(row.get("end"))
    ]


def events(service: Mapping[str, Any]) -> list[Row]:
    """Return the user's events as chart rows (t, kind, text); one that lasts is marked at its start."""
    return [
        {
            "t": str(row["t"]),
            "kind": str(row.get("kind") or "event").replace("_", " "),
            "text": _said(str(row.get("kind") or "event").replace("_", " "), row.get("text")),
        }
        for row in records(service.get("events"))
        if parse_time(row.get("t"))
    ]


def _said(kind: str, text: Any) -> str:
    return f"{kind}: {text}" if text else kind


def split(service: Mapping[str, Any]) -> list[Row]:
    """Return the moment at which training ends and the test begins, as chart rows."""
    test = mapping(service.get("replay")).get("test")
    start = test[0] if isinstance(test, list | tuple) and test else None
    return [{"t": str(start)}] if parse_time(start) else []


def between(
    service: Mapping[str, Any], first: datetime | None, last: datetime | None
) -> tuple[list[Row], list[Row], list[Row]]:
    """Return saturated stretches, excluded ones and events between two moments, the stretches cut to them."""
    if first is None or last is None:
        return [], [], []
    stretches = [
        [_cut(row, first, last) for row in find(service) if _overlaps(row, first, last)]
        for find in (saturated, excluded)
    ]
    happened = [row for row in events(service) if first <= time_of(row["t"]) <= last]
    return stretches[0], stretches[1], happened


def time_of(text: Any) -> datetime:
    """Return a time that is known to be one, in UTC."""
    found = parse_time(text)
    assert found is not None  # noqa: S101 - rows without a time were left out
    return found


def _overlaps(row: Row, first: datetime, last: datetime) -> bool:
    return time_of(row["start"]) <= last and time_of(row["end"]) >= first


def _cut(row: Row, first: datetime, last: datetime) -> Row:
    """Return a stretch without what lies outside: it must not widen a chart's axis."""
    start = row["start"] if time_of(row["start"]) >= first else iso(first)
    return {**row, "start": start, "end": row["end"] if time_of(row["end"]) <= last else iso(last)}


def iso(moment: datetime) -> str:
    """Return a moment as ISO 8601 UTC text."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def words(bands: list[Row], left_out: list[Row], happened: list[Row]) -> str:
    """Return the sentences that say what is marked, each with a space before it."""
    text = " Shaded: saturated stretches, where served work hides demand." if bands else ""
    text += " Shaded too: stretches that were excluded." if left_out and bands else ""
    text += " Shaded: stretches that were excluded." if left_out and not bands else ""
    return text + (" Thin rules: events." if happened else "")
