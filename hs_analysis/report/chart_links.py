"""The evidence link of a chart over time: what the address names when a window is chosen on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hs_analysis.report.cells import evidence_path
from hs_analysis.report.choice import mapping, records

if TYPE_CHECKING:
    from hs_analysis.report.charts import Chart

PREFIX = "chart:"
"""What the last segment of a chart's link begins with; the chart's key follows."""

STAGES = {"coverage": "align", "series": "study", "mix": "derive", "ratio": "derive", "steps": "replay"}
"""Stage of each kind of chart over time; others have no window to choose."""

COVERAGE = (
    "Per signal, role and window: the seconds of the window with samples ÷ its length. A stretch is "
    "complete, partial or missing by that share; the rows on top are findings, excluded stretches and events."
)
"""How the chart of coverage is made, in words."""


def link(service: str, chart: Chart) -> str:
    """Return the evidence path of a chart over time; empty for one that has no time axis."""
    stage = STAGES.get(chart.key) or STAGES.get(chart.kind)
    return evidence_path(service, stage, f"{PREFIX}{chart.key}") if stage else ""


def number_of(what: str, service: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (stage, what) of the number that the chart of a link shows; None where it shows none.

    Parameters
    ----------
    what
        Last segment of the link, e.g. ``chart:steps-decode``.
    service
        The service's part of summary.json.
    """
    kind, _, rest = what.removeprefix(PREFIX).partition("-")
    if kind == "series":
        signal, _, role = rest.rpartition("-")
        return "study", f"{signal}@{role}"
    if kind in ("ratio", "mix"):
        return "derive", "pd_ratio"
    chosen = next((row for row in records(service.get("selection")) if row.get("chosen")), {})
    replayed = records(mapping(service.get("replay")).get("policies"))
    names = [str(row.get("policy")) for row in replayed]
    if kind in ("steps", "decision") and names:
        own = str(chosen.get("policy"))
        return "replay", own if own in names else names[0]
    return None
