"""One Vega-Lite specification per kind of chart, made and checked by Altair: what ``chart_templates`` fills.

Nothing of a run loads this module: ``made`` writes the file that the package carries.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import altair as alt

from hs_analysis.report.chart_templates import (
    BEST,
    FAILS,
    FRONT_KINDS,
    HEIGHT_PX,
    HERE,
    LOAD,
    NEAR,
    OTHER,
)

Layers = alt.LayerChart | alt.FacetChart

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

VERDICTS = ("proportional", "guard", "unusable", "unknown")

# Fewer ticks on a narrow chart, and none that run into each other.
ROOM: dict[str, Any] = {"labelOverlap": True, "tickCount": {"expr": "max(3, floor(width / 80))"}}


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
    drawn: alt.Chart = dots.encode(x=_time("t"), y=y, color=colour)
    return drawn


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


def series() -> Layers:
    """Lines over time; a gap is a gap, stretches are bands, events rules, training and test are split."""
    base = alt.Chart(csv_rows(t="date", value="number", lone="number"))
    colour = alt.Color("series:O", scale=alt.Scale(domain=["@DOMAIN@"], range=["@COLOURS@"]))
    width = alt.StrokeWidth("series:O", scale=alt.Scale(domain=["@DOMAIN@"], range=["@WIDTHS@"]))
    y = alt.Y("value:Q", axis=alt.Axis(title="@Y@", format="@FORMAT@"), scale=alt.Scale(domainMin=0))
    lines = base.mark_line().encode(x=_time("t"), y=y, color=colour, strokeWidth=width, detail="capture:N")
    return alt.layer(_bands(), _events(), lines, _lone(base, y, colour), *_split())


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
        _events(),
        stretch,
        bars.encode(x=_time("middle"), y=alt.Y("low:Q", **y), y2="high:Q"),
        dots.encode(x=_time("middle"), y=alt.Y("ratio:Q", **y), tooltip=tips),
        answer,
    )


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


def sweep() -> Layers:
    """Draw served tokens by split, least prefill first; what each role alone could do as lines."""
    base = alt.Chart(csv_rows(tps="number", prefill_line="number", decode_line="number"))
    x = alt.X("split:N", sort=None, axis=alt.Axis(title="prefill and decode instances", labelAngle=0))
    y: dict[str, Any] = {"axis": alt.Axis(title="@Y@", format="~s"), "scale": alt.Scale(zero=True)}
    kinds = [BEST, NEAR, OTHER, FAILS]
    legend = alt.Legend(symbolType="circle", symbolStrokeWidth=1.5, columns=4)
    colours = ["var(--c-good)", "var(--c-decode)", "var(--c-load)", "var(--c-bad)"]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend)
    shape = alt.Shape(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=["diamond", "square", "circle", "cross"]),
        legend=legend,
    )
    size = alt.Size("kind:N", scale=alt.Scale(domain=kinds, range=[170, 90, 60, 60]), legend=None)
    tips = [
        alt.Tooltip("split:N"),
        alt.Tooltip("tps:Q", title="tokens/s", format=",.4~g"),
        alt.Tooltip("kind:N", title="is"),
        alt.Tooltip("limited:N", title="held back by"),
        alt.Tooltip("load:N"),
    ]
    lines = [
        base.transform_filter(f"isValid(datum.{field})")
        .mark_line(color=f"var(--c-{role})", strokeDash=dash)
        .encode(x=x, y=alt.Y(f"{field}:Q", **y), order="order:Q")
        for field, role, dash in (
            ("prefill_line", "prefill", [6, 4]),
            ("decode_line", "decode", [2, 3]),
        )
    ]
    dots = base.mark_point(filled=True, opacity=1).encode(
        x=x, y=alt.Y("tps:Q", **y), color=colour, shape=shape, size=size, tooltip=tips
    )
    return alt.layer(*lines, dots)


def front() -> Layers:
    """Hours against windows over the limit: a dot each, a whisker up to the share under faults."""
    base = alt.Chart(csv_rows(hours="number", violations="number", faults="number", lift="number"))
    x = alt.X(
        "hours:Q", axis=alt.Axis(title="@X@", format="%", **ROOM), scale=alt.Scale(zero=False, padding=20)
    )
    axis, scale = alt.Axis(title="@Y@", format=".2~%"), alt.Scale(type="sqrt", domainMin=0)
    y = alt.Y("violations:Q", axis=axis, scale=scale)
    legend = alt.Legend(symbolType="circle", symbolStrokeWidth=1.5, columns=3)
    kinds = list(FRONT_KINDS)
    colours = ["var(--c-decode)", "var(--c-load)", "var(--c-service)", "var(--ink)", "var(--c-good)"]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend)
    shapes = ["diamond", "cross", "circle", "square", "triangle-up"]
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=shapes), legend=legend)
    tips = [
        alt.Tooltip("policy:N"),
        alt.Tooltip("hours:Q", title="hours, of those recorded", format=".1%"),
        alt.Tooltip("violations:Q", title="windows over limit", format=".2%"),
        alt.Tooltip("faults:Q", title="under faults", format=".2%"),
    ]
    struck = base.transform_filter("isValid(datum.faults)")
    whiskers = struck.mark_rule(opacity=0.6).encode(x=x, y=y, y2="faults:Q", color=colour)
    ends = struck.mark_tick(orient="horizontal", width=9, thickness=1.5).encode(
        x=x, y=alt.Y("faults:Q", axis=axis, scale=scale), color=colour
    )
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=y, color=colour, shape=shape, tooltip=tips
    )
    lifted = alt.ExprRef("-8 - datum.lift")
    written = base.mark_text(dy=lifted, color="var(--ink)", fontSize=11, align="left", dx=6)
    turned = base.mark_text(dy=lifted, color="var(--ink)", fontSize=11, align="right", dx=-6)
    right, left = (
        one.transform_filter(f"datum.side == '{side}'")
        for one, side in ((written, "right"), (turned, "left"))
    )
    labels = [one.encode(x=x, y=y, text="label:N") for one in (right, left)]
    return alt.layer(whiskers, ends, dots, *labels)


KINDS: dict[str, Callable[[], Layers]] = {
    "coverage": coverage_strip,
    "elasticity": elasticity_dots,
    "scatter": scatter_fit,
    "series": series,
    "steps": steps,
    "capacity": capacity,
    "ratio": ratio,
    "drivers": drivers,
    "sweep": sweep,
    "front": front,
}
"""What draws each kind of chart."""


def made() -> str:
    """Return the specifications of all kinds as the text of ``chart_templates.json``."""
    found = {kind: _plain(build()) for kind, build in KINDS.items()}
    return json.dumps(found, sort_keys=True, ensure_ascii=False, indent=1) + "\n"


def _plain(chart: Layers) -> dict[str, Any]:
    spec = chart.properties(width="container", height=HEIGHT_PX).to_dict()
    return {name: part for name, part in spec.items() if name not in ("$schema", "config", "datasets")}
