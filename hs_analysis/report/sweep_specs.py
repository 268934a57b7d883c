"""Specification of the ratio-test chart: what each split served, after arXiv:2508.19559, figure 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt

from hs_analysis.report.chart_specs import Layers, csv_rows, template

BEST, NEAR, OTHER, FAILS = "best", "within 3 % of it", "other split", "breaks a limit"
"""Kinds of splits."""

PREFILL_LINE, DECODE_LINE = "prefill could do", "decode could do"
"""What one role alone could serve at a split."""


@template
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


TEMPLATES: dict[str, Callable[[], str]] = {"sweep": sweep}
"""This kind of chart by name."""
