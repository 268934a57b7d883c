"""One Vega-Lite specification per kind of chart, made and checked by Altair once, filled per chart.

A template reads its rows from the named dataset ``main`` (the CSV that the page shows behind the chart) and
its few marks from ``bands``, ``events`` and ``marks``. Strings such as ``@Y@`` are places that `fill`
replaces. Colours are CSS variables of the page, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import altair as alt

Layers = alt.LayerChart | alt.FacetChart

HEIGHT_PX = 240
ROW_PX = 22

ROLE_COLOURS = {
    "prefill": "var(--c-prefill)",
    "decode": "var(--c-decode)",
    "mixed": "var(--c-mixed)",
    "service": "var(--c-service)",
}
"""One colour a role on every chart; the palette stays apart for colour-blind readers."""

# Labels of a time axis by what a tick falls on; UTC, 24 hours.
CLOCK = {
    "seconds": "%H:%M:%S",
    "minutes": "%H:%M",
    "hours": "%H:%M",
    "date": "%b %d",
    "week": "%b %d",
    "month": "%b %d",
    "year": "%b %d",
}

LONE = "lone"
"""Name of the layer of single values; a chart without any goes without it."""

VERDICTS = ("proportional", "guard", "unusable", "unknown")

# The rest of each chart's look; handed to the renderer once per page.
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
    "aria": False,  # the figure around each chart carries the text alternative
    "view": {"stroke": "transparent"},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--grid)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titlePadding": 8,
        "labelLimit": 150,
    },
    "axisX": {"grid": False},
    "axisY": {
        "domain": False,
        "ticks": False,
        "titleAngle": 0,
        "titleAlign": "left",
        "titleAnchor": "end",
        "titleBaseline": "bottom",
        "titleX": 0,
        "titleY": -8,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "orient": "bottom",
        "labelFontSize": 12,
        "labelLimit": 260,
        "title": None,
        "symbolType": "stroke",
        "symbolSize": 160,
        "columns": 2,
        "offset": 12,
    },
    "text": {"color": "var(--muted)", "fontSize": 11},
    "line": {"strokeWidth": 1.75},
    "point": {"size": 28},
}

# Fewer ticks on a narrow chart, and none that run into each other.
ROOM: dict[str, Any] = {"labelOverlap": True, "tickCount": {"expr": "max(3, floor(width / 80))"}}


def fill(template: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fresh specification with every ``@NAME@`` replaced by its value."""
    filled = _replace(json.loads(template), values)
    assert isinstance(filled, dict)  # noqa: S101 - narrows the type of json
    return filled


def _replace(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _replace(child, values) for key, child in node.items()}
    if isinstance(node, list):
        children = [_replace(child, values) for child in node]
        if node and isinstance(node[0], str) and isinstance(children[0], list):
            return children[0]  # a place for a whole list: a domain, its colours, its dashes
        return children
    if isinstance(node, str) and node.startswith("@") and node.endswith("@"):
        return values[node[1:-1]]
    return node


def template(build: Callable[[], Layers]) -> Callable[[], str]:
    """Build a chart once a process and keep it as JSON text."""

    @lru_cache(maxsize=1)
    def text() -> str:
        spec = build().properties(width="container", height=HEIGHT_PX).to_dict()
        plain = {k: v for k, v in spec.items() if k not in ("$schema", "config", "datasets")}
        return json.dumps(plain, sort_keys=True, ensure_ascii=False)

    text.__doc__ = build.__doc__
    return text


def csv_rows(**parse: str) -> alt.NamedData:
    """Return the rows of the chart: the CSV that the page shows behind it."""
    return alt.NamedData(name="main", format=alt.CsvDataFormat(type="csv", parse=parse))


def named_rows(name: str, **parse: str) -> alt.NamedData:
    """Return one of the few marks that a chart is given beside its rows."""
    return alt.NamedData(name=name, format=alt.JsonDataFormat(type="json", parse=parse))


def _time(field: str, title: str | None = "time (UTC)") -> alt.X:
    ticks = {"expr": "max(3, floor(width / 110))"}
    axis = alt.Axis(title=title, labelOverlap=True, tickCount=ticks, format=CLOCK)
    return alt.X(f"{field}:T", scale=alt.Scale(type="utc"), axis=axis)


def _bands() -> alt.Chart:
    data = named_rows("bands", start="date", end="date")
    bands = alt.Chart(data).mark_rect(color="var(--band)")
    drawn: alt.Chart = bands.encode(
        x=_time("start"), x2="end:T", tooltip=[alt.Tooltip("text:N", title="stretch")]
    )
    return drawn


def _events() -> alt.Chart:
    """Draw a thin rule at every event; what happened is its tooltip."""
    rule = alt.Chart(named_rows("events", t="date")).mark_rule(color="var(--muted)", strokeWidth=1)
    when = alt.Tooltip("t:T", title="at (UTC)", format="%Y-%m-%d %H:%M")
    drawn: alt.Chart = rule.encode(x=_time("t"), tooltip=[alt.Tooltip("text:N", title="event"), when])
    return drawn


def _actions(y: alt.Y) -> alt.Chart:
    """Draw a dot at every action; why it was taken is its tooltip."""
    dots = alt.Chart(named_rows("actions", t="date")).mark_point(filled=True, size=36, color="var(--ink)")
    when = alt.Tooltip("t:T", title="at (UTC)", format="%Y-%m-%d %H:%M")
    drawn: alt.Chart = dots.encode(x=_time("t"), y=y, tooltip=[alt.Tooltip("text:N", title="why"), when])
    return drawn


def _split() -> list[alt.Chart]:
    """Draw the rule between training and test, with both words beside it."""
    data = named_rows("split", t="date")
    base = alt.Chart(data).encode(x=_time("t"))
    rule = base.mark_rule(color="var(--ink)", strokeDash=[2, 3])
    before = base.mark_text(align="right", dx=-6, y=8, color="var(--muted)").encode(
        text=alt.value("training")
    )
    after = base.mark_text(align="left", dx=6, y=8, color="var(--muted)").encode(text=alt.value("test"))
    return [rule, before, after]


def _lone(base: alt.Chart, y: alt.Y, colour: alt.Color) -> alt.Chart:
    """Draw values that have a gap on either side, which a line does not show."""
    dots = base.transform_filter("datum.lone == 1").mark_point(filled=True, size=14)
    drawn: alt.Chart = dots.encode(x=_time("t"), y=y, color=colour).properties(name=LONE)
    return drawn


@template
def coverage_strip() -> Layers:
    """One row per signal and event: thick where complete, thin where partial, empty where missing."""
    colours = ["var(--c-good)", "var(--c-warn)", "var(--c-bad)"]
    states = ["complete", "partial", "event"]
    legend = alt.Legend(columns=3)
    rule = (
        alt.Chart(csv_rows(start="date", end="date"))
        .mark_rule(strokeCap="butt")
        .encode(
            x=_time("start"),
            x2="end:T",
            y=alt.Y("row:N", sort=None, axis=alt.Axis(title=None, domain=False, ticks=False)),
            strokeWidth=alt.StrokeWidth(
                "state:O", scale=alt.Scale(domain=states, range=[11, 4, 11]), legend=legend
            ),
            color=alt.Color("state:O", scale=alt.Scale(domain=states, range=colours), legend=legend),
            tooltip=[
                alt.Tooltip("row:N", title="row"),
                alt.Tooltip("state:N", title="state"),
                alt.Tooltip("start:T", title="from (UTC)", format="%Y-%m-%d %H:%M"),
                alt.Tooltip("end:T", title="to (UTC)", format="%Y-%m-%d %H:%M"),
            ],
        )
    )
    return alt.layer(rule)


@template
def elasticity_dots() -> Layers:
    """Elasticity of every signal with its interval, on the zone in which a signal is proportional."""
    base = alt.Chart(csv_rows(elasticity="number", low="number", high="number"))
    y = alt.Y("signal:N", sort=None, axis=alt.Axis(title=None, grid=True))
    x_axis = alt.Axis(title="elasticity: % change of the signal per 1 % change of load", grid=False, **ROOM)
    colours = ["var(--c-good)", "var(--c-warn)", "var(--c-bad)", "var(--muted)"]
    legend = alt.Legend(symbolType="circle", symbolStrokeWidth=1.5)
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=list(VERDICTS), range=colours), legend=legend)
    shape = alt.Shape(
        "verdict:N",
        scale=alt.Scale(domain=list(VERDICTS), range=["circle", "diamond", "cross", "square"]),
        legend=legend,
    )
    zone = (
        alt.Chart(named_rows("bands"))
        .mark_rect(color="var(--zone)")
        .encode(x=alt.X("low:Q", axis=x_axis), x2="high:Q", tooltip=[alt.Tooltip("text:N", title="zone")])
    )
    bar = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", axis=x_axis), x2="high:Q", y=y, color=colour)
    tips = [alt.Tooltip(f"{name}:N") for name in ("signal", "verdict", "elasticity", "low", "high")]
    dot = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("elasticity:Q", axis=x_axis), y=y, color=colour, shape=shape, tooltip=tips
    )
    return alt.layer(zone, bar, dot)


@template
def scatter_fit() -> Layers:
    """Draw the chosen signal against load, with the monotone fit."""
    base = alt.Chart(csv_rows(load="number", value="number", fit="number"))
    x = alt.X("load:Q", axis=alt.Axis(title="@X@", format="~s", **ROOM))
    y_axis = alt.Axis(title="@Y@", format="@FORMAT@")
    domain = ["used in the study", "left out"]
    points = (
        base.transform_filter("isValid(datum.value)")
        .mark_point(opacity=0.55, size=22)
        .encode(
            x=x,
            y=alt.Y("value:Q", axis=y_axis),
            color=alt.Color("rows:N", scale=alt.Scale(domain=domain, range=["@COLOUR@", "var(--muted)"])),
            shape=alt.Shape("rows:N", scale=alt.Scale(domain=domain, range=["circle", "cross"])),
            tooltip=[alt.Tooltip("load:Q", format=",.4~g"), alt.Tooltip("value:Q", format=",.4~g"), "rows:N"],
        )
    )
    line = (
        base.transform_filter("isValid(datum.fit)")
        .mark_line(color="var(--ink)", strokeWidth=1.75)
        .encode(x=x, y=alt.Y("fit:Q", axis=y_axis), order="load:Q")
    )
    return alt.layer(points, line)


@template
def series() -> Layers:
    """Lines over time; a gap is a gap, stretches are bands, events rules, training and test are split."""
    base = alt.Chart(csv_rows(t="date", value="number", lone="number"))
    colour = alt.Color("series:O", scale=alt.Scale(domain=["@DOMAIN@"], range=["@COLOURS@"]))
    width = alt.StrokeWidth("series:O", scale=alt.Scale(domain=["@DOMAIN@"], range=["@WIDTHS@"]))
    y = alt.Y("value:Q", axis=alt.Axis(title="@Y@", format="@FORMAT@"), scale=alt.Scale(domainMin=0))
    lines = base.mark_line().encode(x=_time("t"), y=y, color=colour, strokeWidth=width, detail="capture:N")
    return alt.layer(_bands(), _events(), lines, _lone(base, y, colour), *_split())


@template
def steps() -> Layers:
    """Instances over time, one stepped line per policy."""
    base = alt.Chart(csv_rows(t="date", value="number", lone="number"))
    colour = alt.Color("series:N", scale=alt.Scale(domain=["@DOMAIN@"], range=["@COLOURS@"]))
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=["@DOMAIN@"], range=["@DASHES@"]))
    y, counts = (
        alt.Y(field, axis=alt.Axis(title="@Y@", tickMinStep=1), scale=alt.Scale(domainMin=0))
        for field in ("value:Q", "count:Q")
    )
    lines = base.mark_line(interpolate="step-after").encode(
        x=_time("t"), y=y, color=colour, strokeDash=dash, detail="capture:N"
    )
    return alt.layer(_bands(), _events(), lines, _lone(base, y, colour), _actions(counts))


@template
def capacity() -> Layers:
    """Share of windows over the limit against load per instance: groups of windows, fit, limit, answer."""
    x_axis = alt.Axis(title="@X@", format="~s", **ROOM)
    y_axis = alt.Axis(title="@Y@", format="%")
    y_scale = alt.Scale(domainMin=0)
    base = alt.Chart(csv_rows(load="number", share="number", low="number", high="number", fit="number"))
    marks = alt.Chart(named_rows("marks"))
    range_ = (
        marks.transform_filter("isValid(datum.low)")
        .mark_rect(color="var(--zone)")
        .encode(x=alt.X("low:Q", axis=x_axis), x2="high:Q", tooltip=["text:N"])
    )
    limit = alt.Chart(named_rows("bands")).mark_rule(color="var(--c-bad)", strokeDash=[6, 4], strokeWidth=1.5)
    bars = base.transform_filter("isValid(datum.high)").mark_rule(color="@COLOUR@", opacity=0.6)
    dots = base.transform_filter("isValid(datum.share)").mark_point(
        filled=True, size=36, color="@COLOUR@", opacity=1
    )
    curve = base.transform_filter("isValid(datum.fit)").mark_line(color="var(--ink)")
    tips = [
        alt.Tooltip("load:Q", format=",.4~g"),
        alt.Tooltip("share:Q", format=".2%"),
        alt.Tooltip("windows:N"),
    ]
    rule = marks.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("value:Q", axis=x_axis),
        color=alt.Color(
            "text:N", scale=alt.Scale(domain=["@DOMAIN@"], range=["var(--ink)", "var(--c-good)"])
        ),
        strokeDash=alt.StrokeDash("text:N", scale=alt.Scale(domain=["@DOMAIN@"], range=[[1, 0], [4, 3]])),
        tooltip=["text:N"],
    )
    x = alt.X("load:Q", axis=x_axis, scale=alt.Scale(zero=False))
    return alt.layer(
        range_,
        limit.encode(y=alt.Y("y:Q", axis=y_axis, scale=y_scale), tooltip=["text:N"]),
        bars.encode(x=x, y=alt.Y("low:Q", axis=y_axis, scale=y_scale), y2="high:Q"),
        curve.encode(x=x, y=alt.Y("fit:Q", axis=y_axis, scale=y_scale), order="load:Q"),
        dots.encode(x=x, y=alt.Y("share:Q", axis=y_axis, scale=y_scale), tooltip=tips),
        rule,
    )


@template
def ratio() -> Layers:
    """Draw the balanced ratio of each stretch with its interval, on the band of the one answer."""
    base = alt.Chart(
        csv_rows(start="date", end="date", middle="date", ratio="number", low="number", high="number")
    )
    y: dict[str, Any] = {"axis": alt.Axis(title="@Y@"), "scale": alt.Scale(zero=False)}
    band = (
        alt.Chart(named_rows("bands"))
        .mark_rect(color="var(--zone)")
        .encode(y=alt.Y("low:Q", **y), y2="high:Q", tooltip=["text:N"])
    )
    answer = (
        alt.Chart(named_rows("marks"))
        .mark_rule(strokeWidth=1.5)
        .encode(
            y=alt.Y("value:Q", **y),
            color=alt.Color(
                "text:N", scale=alt.Scale(domain=["@DOMAIN@"], range=["var(--ink)", "var(--c-bad)"])
            ),
            strokeDash=alt.StrokeDash("text:N", scale=alt.Scale(domain=["@DOMAIN@"], range=[[1, 0], [5, 4]])),
        )
    )
    stretch = base.mark_rule(color="var(--c-service)", strokeWidth=3).encode(
        x=_time("start"), x2="end:T", y=alt.Y("ratio:Q", **y)
    )
    bars = base.transform_filter("isValid(datum.high)").mark_rule(color="var(--c-service)", opacity=0.6)
    dots = base.mark_point(filled=True, size=16, color="var(--c-service)", opacity=1)
    tips = [
        alt.Tooltip("start:T", title="from (UTC)", format="%Y-%m-%d %H:%M"),
        alt.Tooltip("ratio:Q", format=".3f"),
        alt.Tooltip("low:Q", format=".3f"),
        alt.Tooltip("high:Q", format=".3f"),
    ]
    return alt.layer(
        band,
        stretch,
        bars.encode(x=_time("middle"), y=alt.Y("low:Q", **y), y2="high:Q"),
        dots.encode(x=_time("middle"), y=alt.Y("ratio:Q", **y), tooltip=tips),
        answer,
    )


ROWS = ("coverage", "elasticity", "drivers")
"""Kinds of chart that have one row per name in the first column."""

TEMPLATES: dict[str, Callable[[], str]] = {
    "coverage": coverage_strip,
    "elasticity": elasticity_dots,
    "scatter": scatter_fit,
    "series": series,
    "steps": steps,
    "capacity": capacity,
    "ratio": ratio,
}
"""Every kind of chart by name; each value returns the template as JSON text."""
