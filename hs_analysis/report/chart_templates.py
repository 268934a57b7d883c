"""The charts that a report fills: one Vega-Lite specification per kind, and the look that they share.

A specification reads its rows from the named dataset ``main`` (the CSV that the page shows behind the chart)
and its few marks from ``bands``, ``events`` and ``marks``. Strings such as ``@Y@`` are places that `fill`
replaces. Colours are CSS variables of the page, so that one drawing serves light, dark and print.

The specifications are a file of the package, made and checked by Altair (``chart_specs``) when one changes:
a run loads neither Altair nor its schema. The tests make the file again and compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

FILE = files("hs_analysis.report") / "chart_templates.json"
"""Kind of chart → its specification; written by ``make chart-library``."""

LIBRARY = files("hs_analysis.report") / "chart_library.js"
"""Vega, Vega-Lite and Vega-Embed as one script, of the version that altair writes charts for; written by
``make chart-library``, its licences in chart_library.LICENSES.txt beside it."""

ROW_PX = 22
HEIGHT_PX = 240

ROLE_COLOURS = {
    "prefill": "var(--c-prefill)",
    "decode": "var(--c-decode)",
    "mixed": "var(--c-mixed)",
    "service": "var(--c-service)",
}
"""One colour a role on every chart; the palette stays apart for colour-blind readers."""

ROWS = ("coverage", "elasticity", "drivers")
"""Kinds of chart that have one row per name in the first column."""

HERE, LOAD = "this history", "its load"
"""Kinds of marks of a driver."""

FRONT_KINDS = (
    "selected policy", "candidates that no other beats (training window)", "other controllers",
    "what ran or runs today, static peak, timetable", "best schedule found",
)  # fmt: skip
"""Kinds of marks of hours against windows over the limit."""

BEST, NEAR, OTHER, FAILS = "best", "within 3 % of it", "other split", "breaks a limit"
"""Kinds of splits."""

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


@cache
def _templates() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def kinds() -> tuple[str, ...]:
    """Return every kind of chart."""
    return tuple(_templates())


def fill(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fresh specification of a kind of chart with every ``@NAME@`` replaced by its value."""
    filled = _replace(_templates()[kind], values)
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
