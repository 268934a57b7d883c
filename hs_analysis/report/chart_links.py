"""The evidence link of a chart over time: what the address names when a window is chosen on it."""

from __future__ import annotations

from hs_analysis.report.cells import evidence_path
from hs_analysis.report.charts import Chart

PREFIX = "chart:"
"""What the last segment of a chart's link begins with; the chart's key follows."""

STAGES = {"coverage": "align", "series": "study", "mix": "derive", "ratio": "derive", "steps": "replay"}
"""Stage of each kind of chart over time; others have no window to choose."""


def link(service: str, chart: Chart) -> str:
    """Return the evidence path of a chart over time; empty for one that has no time axis."""
    stage = STAGES.get(chart.key) or STAGES.get(chart.kind)
    return evidence_path(service, stage, f"{PREFIX}{chart.key}") if stage else ""
