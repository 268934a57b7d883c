"""The figures of a report by name, as its page draws them: Altair charts, and frames of their rows."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from hs_analysis.report import chart_templates, service_charts, sweep_charts, view
from hs_analysis.report.charts import Chart
from hs_analysis.report.choice import records
from hs_analysis.report.marks import marked
from hs_analysis.schema.frames import DETAILS, FINDINGS, SIGNALS, empty

if TYPE_CHECKING:
    import altair as alt

POINTS_ONE_SERVICE = 1000
"""Most points of a line when there is one service; what a screen can show, and what keeps the page small."""

POINTS_ALL_SERVICES = 2400
"""Points of one line summed over services: keeps a page of 60 services below 3 MB."""

POINTS_LEAST = 40
"""Least points of a line however many services there are."""

WIDTH_PX = 640
"""Width of a chart outside the page, where it can't take that of what surrounds it."""

TITLE_CHARACTERS = 90
"""Longest line of a title at that width."""


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    Attributes
    ----------
    service
        The service it is about; empty for a ratio test, which is about the run.
    chart
        Its specification, words and rows.
    """

    service: str
    chart: Chart

    @property
    def name(self) -> str:
        """Its name within the service, e.g. ``capacity-decode``."""
        return self.chart.key

    def rows(self) -> pl.DataFrame:
        """Return the rows behind the figure: those of the CSV that the page offers.

        Numbers are Float64, times Datetime in UTC, the rest text; what is not known is null.
        """
        kinds = _parsed(self.chart.spec)
        text = pl.read_csv(BytesIO(self.chart.csv.encode()), infer_schema=False).fill_null("")
        columns = []
        for name in text.columns:
            column, kind = pl.col(name), kinds.get(name)
            if kind == "number":
                columns.append(column.replace("", None).cast(pl.Float64))
            elif kind == "date":
                columns.append(column.replace("", None).str.to_datetime(time_unit="us", time_zone="UTC"))
            else:
                columns.append(column)
        return text.select(columns)

    def altair(self) -> alt.LayerChart:
        """Return the figure as an Altair chart in the light colours of the page, with its rows inside."""
        import altair as alt

        chart = self.chart
        rows = self.rows()
        stated = [pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%SZ") for name in _times(rows)]
        spec = chart.spec | {
            "width": WIDTH_PX,
            "title": {"text": textwrap.wrap(chart.title, TITLE_CHARACTERS), "anchor": "start", "offset": 20},
            "description": chart.alt,
            "datasets": chart.spec["datasets"] | {"main": rows.with_columns(stated).to_dicts()},
            "background": "var(--paper)",  # a notebook may be dark
            "config": {name: one for name, one in chart_templates.CONFIG.items() if name != "aria"},
        }
        drawn = alt.LayerChart.from_dict(_outside_the_page(spec))
        assert isinstance(drawn, alt.LayerChart)  # noqa: S101 - narrows the type of from_dict
        return drawn


def figures(
    summary: Mapping[str, Any],
    details: Mapping[str, pl.DataFrame],
    policies_yaml: Mapping[str, str],
    findings: pl.DataFrame,
    signals: pl.DataFrame,
) -> tuple[Figure, ...]:
    """Return every figure that the report of a run draws, service by service, ratio tests last.

    Parameters are those of `render`.
    """
    findings = findings if findings.width else empty(FINDINGS)
    page = view.build(summary, policies_yaml, findings, "")
    found = [
        Figure(str(service["name"]), chart)
        for service, drawn in zip(
            page["services"], services(page, summary, details, findings, signals), strict=True
        )
        for chart in service_charts.flat(drawn)
    ]
    return (*found, *(Figure("", chart) for chart in ratio_tests(summary, details)))


def services(
    page: Mapping[str, Any],
    summary: Mapping[str, Any],
    details: Mapping[str, pl.DataFrame],
    findings: pl.DataFrame,
    signals: pl.DataFrame,
) -> list[dict[str, Any]]:
    """Return the charts of each service of a page, in its order; each as `service_charts.draw` does."""
    entries = [marked(entry, summary) for entry in records(summary.get("services"))]
    budget = max(POINTS_LEAST, min(POINTS_ONE_SERVICE, POINTS_ALL_SERVICES // max(1, len(entries))))
    tables = {name: by_service(details.get(name), contract) for name, contract in DETAILS.items()}
    aligned = by_service(signals.filter(pl.col("gpu_type").is_null()) if signals.width else None, SIGNALS)
    drawn = []
    for service, entry in zip(page["services"], entries, strict=True):
        name = service["name"]
        about = findings.filter(pl.col("service").is_in([name, ""]))
        mine = {key: table(name) for key, table in tables.items()}
        found = service_charts.draw(
            entry, summary, service["choice"], service["ranked"], mine, aligned(name), about, budget,
            crowded=page["crowded"],
        )  # fmt: skip
        drawn.append(found)
    return drawn


def ratio_tests(summary: Mapping[str, Any], details: Mapping[str, pl.DataFrame]) -> list[Chart]:
    """Return the charts of the ratio tests of a run."""
    return sweep_charts.draw(summary, details["splits"]) if "splits" in details else []


def by_service(frame: pl.DataFrame | None, contract: pa.Schema) -> Callable[[str], pl.DataFrame]:
    """Split a table once and return a look-up by service; an unknown service has no rows."""
    none = empty(contract)
    if frame is None or frame.is_empty():
        return lambda _: none
    parts = {str(key[0]): part for key, part in frame.partition_by("service", as_dict=True).items()}
    return lambda name: parts.get(name, none)


def _parsed(node: Any) -> dict[str, str]:
    """Return how the columns of the named rows ``main`` are to be read, from anywhere in a specification."""
    found: dict[str, str] = {}
    if isinstance(node, dict):
        if node.get("name") == "main" and "format" in node:
            found |= node["format"].get("parse") or {}
        for child in node.values():
            found |= _parsed(child)
    elif isinstance(node, list):
        for child in node:
            found |= _parsed(child)
    return found


def _times(rows: pl.DataFrame) -> Sequence[str]:
    return [name for name, kind in rows.schema.items() if kind == pl.Datetime]


@cache
def colours() -> Mapping[str, str]:
    """Return the light colours of the page by the name of their variable, without the dashes."""
    text = files("hs_analysis.report").joinpath("templates", "style.css").read_text("utf-8")
    return dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-fA-F]+)", text.partition("}")[0]))


def _outside_the_page(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a specification whose colours are written out and whose rows are JSON, not CSV."""
    text = re.sub(r"var\(--([a-z-]+)\)", lambda found: colours()[found[1]], json.dumps(spec))
    return dict(_with_json_rows(json.loads(text)))


def _with_json_rows(node: Any) -> Any:
    """Return a part of a specification with its rows as JSON."""
    if isinstance(node, list):
        return [_with_json_rows(child) for child in node]
    if not isinstance(node, dict):
        return node
    if node.get("name") == "main" and "format" in node:
        return node | {"format": node["format"] | {"type": "json"}}
    return {name: _with_json_rows(child) if name != "datasets" else child for name, child in node.items()}
