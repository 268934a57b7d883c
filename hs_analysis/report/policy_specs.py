"""Specifications of charts whose points are policies: the search's front, and drivers in a dip of load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt

from hs_analysis.report.chart_specs import ROOM, Layers, csv_rows, named_rows, template

FRONT, DERIVED, CHOSEN = "front", "derived numbers", "taken"
"""Kinds of points of the search."""

HERE, LOAD, PAPER = "this history", "its load", "the paper"
"""Kinds of marks of the trial."""


@template
def pareto() -> Layers:
    """Hours against windows over capacity: the front as a line, the derived points, the point taken."""
    kinds = [FRONT, DERIVED, CHOSEN]
    colours = ["var(--c-load)", "var(--c-decode)", "var(--c-bad)"]
    base = alt.Chart(csv_rows(hours="number", share="number"))
    x = alt.X("hours:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title="@X@", **ROOM))
    axis = alt.Axis(title="@Y@", format=".2~%", tickCount=5)
    y: dict[str, Any] = {"scale": alt.Scale(type="log"), "axis": axis}
    share = alt.Y("share:Q", **y)
    legend = alt.Legend(symbolType="circle", symbolStrokeWidth=1.5, columns=3)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend)
    shape = alt.Shape(
        "kind:N", scale=alt.Scale(domain=kinds, range=["circle", "square", "diamond"]), legend=legend
    )
    size = alt.Size("kind:N", scale=alt.Scale(domain=kinds, range=[26, 60, 150]), legend=None)
    tips = [
        alt.Tooltip("policy:N"),
        alt.Tooltip("kind:N", title="point"),
        alt.Tooltip("numbers:N", title="numbers"),
        alt.Tooltip("hours:Q", format=",.4~g"),
        alt.Tooltip("share:Q", format=".2~%"),
        alt.Tooltip("actions:N", title="actions per day"),
    ]
    line = base.transform_filter(f"datum.kind == '{FRONT}' || datum.line == 1").mark_line(
        color="var(--c-load)", strokeWidth=1, interpolate="step-after"
    )
    limit = alt.Chart(named_rows("bands")).mark_rule(color="var(--c-bad)", strokeDash=[6, 4], strokeWidth=1.5)
    dots = base.mark_point(filled=True, opacity=1)
    return alt.layer(
        limit.encode(y=alt.Y("y:Q", **y), tooltip=["text:N"]),
        line.encode(x=x, y=share, order="hours:Q"),
        dots.encode(x=x, y=share, color=colour, shape=shape, size=size, tooltip=tips),
    )


@template
def drivers() -> Layers:
    """One row per driver: instances at the dip ÷ at the peak, here and in the paper, and the load's own."""
    kinds = [HERE, LOAD, PAPER]
    base = alt.Chart(csv_rows(ratio="number"))
    y = alt.Y("driver:N", sort=None, axis=alt.Axis(title=None, grid=True))
    axis = alt.Axis(title="dip ÷ peak", grid=False, **ROOM)
    scale = alt.Scale(domainMin=0)
    legend = alt.Legend(symbolType="circle", symbolStrokeWidth=1.5, columns=3)
    colours = ["var(--c-decode)", "var(--ink)", "var(--c-prefill)"]
    zone = (
        alt.Chart(named_rows("bands"))
        .mark_rect(color="var(--band)")
        .encode(x=alt.X("low:Q", axis=axis, scale=scale), x2="high:Q", tooltip=["text:N"])
    )
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("ratio:Q", axis=axis, scale=scale),
        y=y,
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend),
        shape=alt.Shape(
            "kind:N", scale=alt.Scale(domain=kinds, range=["circle", "cross", "diamond"]), legend=legend
        ),
        tooltip=[alt.Tooltip("driver:N"), alt.Tooltip("kind:N", title="of"), alt.Tooltip("ratio:Q")],
    )
    return alt.layer(zone, dots)


TEMPLATES: dict[str, Callable[[], str]] = {"pareto": pareto, "drivers": drivers}
"""These kinds of chart by name."""
