"""Specifications of charts whose points are policies: drivers in a dip of load."""

from __future__ import annotations

from collections.abc import Callable

import altair as alt

from hs_analysis.report.chart_specs import ROOM, Layers, csv_rows, named_rows, template

HERE, LOAD = "this history", "its load"
"""Kinds of marks of a driver."""


@template
def drivers() -> Layers:
    """One row per driver: instances at the dip ÷ at the peak, and the load's own."""
    kinds = [HERE, LOAD]
    base = alt.Chart(csv_rows(ratio="number"))
    y = alt.Y("driver:N", sort=None, axis=alt.Axis(title=None, grid=True))
    axis = alt.Axis(title="dip ÷ peak", grid=False, **ROOM)
    scale = alt.Scale(domainMin=0)
    legend = alt.Legend(symbolType="circle", symbolStrokeWidth=1.5, columns=2)
    colours = ["var(--c-decode)", "var(--ink)"]
    zone = (
        alt.Chart(named_rows("bands"))
        .mark_rect(color="var(--band)")
        .encode(x=alt.X("low:Q", axis=axis, scale=scale), x2="high:Q", tooltip=["text:N"])
    )
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("ratio:Q", axis=axis, scale=scale),
        y=y,
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["circle", "cross"]), legend=legend),
        tooltip=[alt.Tooltip("driver:N"), alt.Tooltip("kind:N", title="of"), alt.Tooltip("ratio:Q")],
    )
    return alt.layer(zone, dots)


TEMPLATES: dict[str, Callable[[], str]] = {"drivers": drivers}
"""These kinds of chart by name."""
