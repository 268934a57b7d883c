"""Frames of one service to charts: rows as CSV, a specification, a title that states the finding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.catalogue import load_catalogue
from hs_analysis.report import chart_templates, marks
from hs_analysis.report.decisions import dots
from hs_analysis.report.thinning import csv_number, csv_text, csv_time, lone, thin
from hs_analysis.report.wording import (
    fixed,
    interval,
    plain,
    plural,
    quantity,
    replayed_on,
    signal_label,
    signal_name,
    unit_of,
)

ELASTICITY_ZONE = (0.7, 1.4)
"""Elasticities that count as proportional; the study's verdict rule."""

POINTS_AN_ACTION = 16
"""Points of a line that take as much of the page as one action with its reason; measured on reports."""

FIT_POINTS = 120
"""Most points of a fitted line; a monotone curve needs no more."""


@dataclass(frozen=True)
class Chart:
    """One chart, ready for the page.

    Attributes
    ----------
    key
        Name within the service, part of its element ids.
    title, reading, alt
        The finding; how to read the chart; what a reader who can't see it needs to know.
    spec
        Vega-Lite specification without its rows.
    csv
        The rows, shown behind the chart and read by it.
    rows
        Number of rows of the CSV.
    """

    key: str
    kind: str
    title: str
    reading: str
    alt: str
    spec: dict[str, Any]
    csv: str
    rows: int


def make(
    kind: str,
    key: str,
    words: tuple[str, str, str],
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    *,
    places: Mapping[str, Any] | None = None,
    datasets: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Chart:
    """Fill the template of a kind.

    ``words`` are title, reading and alternative text; ``table`` is header and rows of the CSV. Layers without
    a row are left out.
    """
    spec = chart_templates.fill(kind, places or {})
    header, rows = table
    given = {name: list(part) for name, part in sorted((datasets or {}).items()) if part}
    known: dict[str, Sequence[Mapping[str, Any]]] = {
        "main": [dict(zip(header, row, strict=True)) for row in rows],
        **given,
    }
    spec["layer"] = [
        layer
        for layer in spec["layer"]
        if _draws(layer, known.get(layer.get("data", spec.get("data"))["name"], []))
    ]
    spec["datasets"] = given
    if kind == "series" and len({row[1] for row in rows}) == 1:
        for layer in spec["layer"]:  # one line needs no legend: the axis names it
            for channel in ("color", "strokeWidth"):
                if channel in layer["encoding"]:
                    layer["encoding"][channel]["legend"] = None
    if kind in chart_templates.ROWS:
        spec["height"] = chart_templates.ROW_PX * len({row[0] for row in rows})
    return Chart(key, kind, *words, spec, csv_text(header, rows), len(rows))


_FILTER = re.compile(r"isValid\(datum\.(\w+)\)|datum\.(\w+) == '?(\w+)'?")


def _draws(layer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a layer has a row left after its filters: Vega warns of an axis whose layer has none."""
    for step in layer.get("transform", []):
        found = _FILTER.fullmatch(step["filter"])
        assert found is not None, step  # noqa: S101 - the templates are made here
        valid, field, wanted = found.groups()
        rows = [
            row
            for row in rows
            if (row.get(valid) not in ("", None) if valid else str(row.get(field)) == wanted)
        ]
    return bool(rows)


def axis_of(signal: str, role: str = "") -> tuple[str, str]:
    """Return (title with unit, number format) of an axis that carries a signal."""
    unit = unit_of(signal)
    name = signal_label(signal, role) if role else signal_name(signal)
    if unit == "ratio":
        return f"{name} (%)", "%"
    return (f"{name} ({unit})" if unit else name), "~s"


def elasticity(signals: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw the elasticity of every signal that has one, in the order given."""
    rows, proportional = [], 0
    for entry in signals:
        value, ci = entry.get("elasticity"), entry.get("elasticity_ci")
        if value is None:
            continue
        ends = [csv_number(end) for end in ci] if isinstance(ci, list | tuple) and len(ci) == 2 else ["", ""]
        verdict = str(entry.get("verdict") or "unknown")
        proportional += verdict == "proportional"
        label = signal_label(str(entry.get("signal")), str(entry.get("role") or ""))
        rows.append([label, verdict, csv_number(value), *ends])
    if not rows:
        return None
    title = f"{proportional} of {len(rows)} signals with an elasticity may size a pool"
    reading = (
        "Each point is a signal, the line its 95 % interval. Inside the shaded zone "
        f"({ELASTICITY_ZONE[0]} to {ELASTICITY_ZONE[1]}) the signal moves in proportion to load; near 0 "
        "it hardly moves."
    )
    listed = "; ".join(f"{r[0]} {r[2]} ({r[1]})" for r in rows[:12])
    zone = [{"low": ELASTICITY_ZONE[0], "high": ELASTICITY_ZONE[1], "text": "proportional"}]
    return make(
        "elasticity",
        "elasticity",
        (title, reading, f"Elasticity per signal: {listed}."),
        (["signal", "verdict", "elasticity", "low", "high"], rows),
        datasets={"bands": zone},
    )


_FOLLOWS = {
    "proportional": "{} rises in proportion to load",
    "guard": "{} answers to load, but not in proportion",
    "unusable": "{} does not follow load well enough",
}


def load_pool(signal: str, role: str, pools: Sequence[str]) -> str:
    """Return the pool whose work a signal is judged on: its own; of a service's signals prefill or decode."""
    if role != "service":
        return role
    if "mixed" in pools:
        return "mixed"
    return "prefill" if signal == "ttft" else "decode"


def is_pool_total(signal: str) -> bool:
    """Whether a signal adds up over instances, so that the study may divide it by their count."""
    known = load_catalogue().signal(signal)
    return known is not None and known.pool == "sum"


def scatter(
    points: pl.DataFrame,
    verdict: Mapping[str, Any],
    reference: str,
    budget: int,
    *,
    pools: Sequence[str] = ("prefill", "decode"),
    per_instance: bool = False,
    unit: str = "tokens/s",
) -> Chart | None:
    """Draw a signal against its reference load with the monotone fit.

    ``points`` are its study points; ``per_instance`` says that the study divided both by the instances;
    ``unit`` is that of the load.
    """
    known = points.filter(pl.col("load").is_finite() & pl.col("value").is_finite())
    if known.is_empty():
        return None
    signal, role = str(verdict.get("signal")), str(verdict.get("role") or "")
    every = -(-known.height // budget)
    shown = known.sort("capture", "t").gather_every(every)
    rows = [
        [csv_number(load), csv_number(value), "used in the study" if used else "left out", ""]
        for load, value, used in shown.select("load", "value", "used").iter_rows()
    ]
    fitted = known.filter(pl.col("fit").is_finite()).select("load", "fit").unique().sort("load", "fit")
    line = fitted.gather_every(max(1, -(-fitted.height // FIT_POINTS)))
    rows += [[csv_number(load), "", "", csv_number(fit)] for load, fit in line.iter_rows()]
    label = signal_label(signal, role)
    ci = interval(verdict.get("elasticity_ci"), "", 2)
    found = f"elasticity {fixed(verdict.get('elasticity'), 2)}" + (f", {ci}" if ci else "")
    follows = _FOLLOWS.get(str(verdict.get("verdict")), "{} against load")
    title = follows.format(label[0].upper() + label[1:]) + (
        f" ({found})" if verdict.get("elasticity") is not None else ""
    )
    part = "" if every == 1 else f" One row in {every} is drawn."
    reading = (
        f"One point per row of the study; the line is the monotone fit the noise is measured about.{part}"
        f"{_spoken_range(verdict)}"
    )
    y_title, y_format = axis_of(signal, role)
    colour = chart_templates.ROLE_COLOURS.get(role, chart_templates.ROLE_COLOURS["service"])
    if per_instance and is_pool_total(signal):
        y_title = (
            y_title.replace(" (", " per instance (", 1) if " (" in y_title else f"{y_title} per instance"
        )
    of = f"{load_pool(signal, role, pools)} load{' per instance' if per_instance else ''}"
    places = {"X": f"{reference} {of} ({unit})", "Y": y_title, "FORMAT": y_format, "COLOUR": colour}
    return make(
        "scatter",
        f"scatter-{signal}-{role}",
        (title, reading, f"{title}; {known.height} rows."),
        (["load", "value", "rows", "fit"], rows),
        places=places,
    )


def _spoken_range(verdict: Mapping[str, Any]) -> str:
    """Return the sentence on the loads that the elasticity speaks of, empty where they are not known."""
    ends = verdict.get("elasticity_range")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return ""
    low, high = (quantity(end, "tokens/s")[0] for end in ends)
    return f" The elasticity speaks of loads between {low} and {high} tokens/s."


def line_rows(
    frame: pl.DataFrame, name: str, value: str, budget: int, *, scale: float = 1.0, steps: bool = False
) -> list[list[str]]:
    """Return CSV rows (t, series, capture, value, lone) of one line, thinned, with gaps kept."""
    parts = frame.partition_by("capture", maintain_order=True) if frame.height else []
    rows = []
    for part in sorted(parts, key=lambda p: str(p["capture"][0])):
        ordered = part.sort("t")
        t = ordered["t"].dt.epoch("us").to_numpy() / 1e6
        v = ordered[value].cast(pl.Float64).fill_null(float("nan")).to_numpy() * scale
        times, values = thin(t, v, max(4, budget // len(parts)), steps=steps)
        capture = str(ordered["capture"][0])
        rows += [
            [csv_time(when), name, capture, csv_number(y), "1" if single else ""]
            for when, y, single in zip(times, values, lone(values), strict=True)
        ]
    return rows


def against_time(
    values: pl.DataFrame,
    load: pl.DataFrame,
    verdict: Mapping[str, Any],
    service: Mapping[str, Any],
    budget: int,
) -> Chart | None:
    """Draw a signal and its load over time, each as a share of its own 95 % quantile.

    ``values`` has columns capture, t, value; ``load`` has capture, t, load.
    """
    signal, role = str(verdict.get("signal")), str(verdict.get("role") or "")
    label = signal_label(signal, role)
    rows = []
    # Load last: its thin line lies on the wider one of the signal, so that both can be seen.
    for frame, column, name in ((values, "value", label), (load, "load", "load")):
        known = frame.filter(pl.col(column).is_finite())
        top = (_beside(known, load) if column == "value" else known)[column].quantile(0.95)
        if top is not None and top > 0:
            rows += line_rows(frame, name, column, budget, scale=1 / top)
    if not rows:
        return None
    saturated, left_out, happened = marks.between(service, *_span(values))
    together = "moves with load" if verdict.get("verdict") == "proportional" else "apart from load"
    marked = f"; {plural(len(saturated), 'saturated stretch', 'saturated stretches')}" if saturated else ""
    title = f"{label[0].upper()}{label[1:]} {together} over time{marked}"
    divided = marks.split(service)
    reading = (
        "Both lines are shares of their own 95 % quantile, so that their shapes can be compared. Gaps are "
        "gaps in the data."
        + marks.words(saturated, left_out, happened)
        + (" Dotted rule: training ends, test begins." if divided else "")
    )
    colour = chart_templates.ROLE_COLOURS.get(role, chart_templates.ROLE_COLOURS["service"])
    places = {
        "Y": "share of own 95 % quantile",
        "FORMAT": "%",
        "DOMAIN": [label, "load"],
        "COLOURS": [colour, "var(--ink)"],
        "WIDTHS": [2, 0.8],
    }
    return make(
        "series",
        f"series-{signal}-{role}",
        (title, reading, title + "."),
        (["t", "series", "capture", "value", "lone"], rows),
        places=places,
        datasets={"bands": saturated + left_out, "events": happened, "split": divided},
    )


def _beside(values: pl.DataFrame, load: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a signal at which the load is known too, all rows when there are none.

    Shares of a quantile compare only over the same stretches: in a saturated one the load is not known.
    """
    known = load.filter(pl.col("load").is_finite())
    if known.is_empty() or values.is_empty():
        return values
    seconds = known["t"].dt.epoch("us").unique().sort().to_numpy()
    step = max(1, int(np.median(np.diff(seconds)))) if seconds.size > 1 else 1
    row = ((pl.col("t").dt.epoch("us") - int(seconds[0])) // step).alias("row")
    beside = values.with_columns(row).join(known.select("capture", row), on=["capture", "row"], how="semi")
    return beside if beside.height else values


_LINE_COLOURS = ("var(--c-load)", "var(--ink)", "var(--c-service)", "var(--c-mixed)", "var(--c-warn)")
"""Colours of the policies after the best, which has that of its role."""

_LINE_DASHES = ([1, 0], [1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [3, 5])
"""Dash and gap of each policy's line, the best first [px]."""


def replay_steps(
    timeline: pl.DataFrame,
    role: str,
    policies: Sequence[tuple[str, str]],
    service: Mapping[str, Any],
    budget: int,
) -> Chart | None:
    """Draw instances over time per policy; ``policies`` are (name, name in words), best first.

    The first actions of the best have dots with their reasons.
    """
    column = "ready_prefill" if role == "prefill" else "ready_decode"
    rows, names, ranges = [], [], []
    for policy, words in policies:
        mine = timeline.filter(pl.col("policy") == policy)
        finite = mine.filter(pl.col(column).is_finite())[column]
        if finite.is_empty():
            continue
        rows += line_rows(mine, words, column, budget, steps=True)
        names.append(words)
        ranges.append((words, plain(finite.min()), plain(finite.max())))
    if not rows:
        return None
    sizes = [f"{w} {low if low == high else f'{low} to {high}'}" for w, low, high in ranges]
    title = f"{role.capitalize()} instances on {replayed_on(service)}: {'; '.join(sizes[:3])}"
    places = {
        "Y": f"ready {role} instances",
        "DOMAIN": names,
        "COLOURS": [chart_templates.ROLE_COLOURS[role], *_LINE_COLOURS][: len(names)],
        "DASHES": list(_LINE_DASHES[: len(names)]),
    }
    shown = timeline.filter(pl.col("policy").is_in([p for p, _ in policies]))
    inside, left_out, happened = marks.between(service, *_span(shown))
    reading = "One stepped line per policy: the lower the line, the fewer instances are paid for."
    acted = dots(timeline, policies[0][0], role, budget // POINTS_AN_ACTION)
    reading += f" Dots: actions of {policies[0][1]}, with the reason as tooltip." if acted else ""
    reading += marks.words(inside, left_out, happened)
    return make(
        "steps",
        f"steps-{role}",
        (title, reading, title + "."),
        (["t", "series", "capture", "value", "lone"], rows),
        places=places,
        datasets={"bands": inside + left_out, "events": happened, "actions": acted},
    )


def _span(frame: pl.DataFrame) -> tuple[datetime | None, datetime | None]:
    """Return the first and last time of a frame."""
    first, last = frame["t"].min(), frame["t"].max()
    return (first, last) if isinstance(first, datetime) and isinstance(last, datetime) else (None, None)
