"""One self-contained page: view and charts into templates, with the chart library and the rows packed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from hs_analysis.report import chart_links, chart_templates, figures, view
from hs_analysis.report.behind import Tables, behind
from hs_analysis.report.charts import Chart
from hs_analysis.report.choice import records
from hs_analysis.report.decisions import decisions
from hs_analysis.report.marks import marked
from hs_analysis.report.packing import lightened, packed, plain_json
from hs_analysis.schema.frames import DETAILS, FINDINGS, empty

SCRIPTS = ("links.js", "time.js", "pictures.js", "dead_links.js", "script.js")
"""Scripts of the page in the order in which they run."""

AROUND_CHART_PX = 96
"""Axis and legend below a chart: kept free, so that the page does not jump when it is drawn."""


def render(
    summary: Mapping[str, Any],
    details: Mapping[str, pl.DataFrame],
    policies_yaml: Mapping[str, str],
    findings: pl.DataFrame,
    signals: pl.DataFrame,
    reproduce: str,
    made_by: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the report as one HTML page that needs no network.

    Parameters
    ----------
    summary
        summary.json. Null means not known; missing keys count as null.
    details
        Tables behind the charts by name, contracts of `hs_analysis.schema.frames`; a missing one is empty.
    policies_yaml
        Text of policy.yaml per service.
    findings, signals
        Contracts ``findings`` and ``signals``.
    reproduce
        The command line that makes this page again.
    made_by
        Per kind of number the functions and queries that make it; only kinds that the run has name them.

    Returns
    -------
    str
        Equal inputs give equal bytes: no clock, no random ids.
    """
    findings = findings if findings.width else empty(FINDINGS)
    page = view.build(summary, policies_yaml, findings, reproduce, made_by)
    entries = [marked(entry, summary) for entry in records(summary.get("services"))]
    timelines = figures.by_service(details.get("timeline"), DETAILS["timeline"])
    charts = figures.services(page, summary, details, findings, signals)
    drawn = _PageCharts()
    for service, entry, found in zip(page["services"], entries, charts, strict=True):
        service["decisions"] = decisions(timelines(service["name"]), service["choice"], entry, len(entries))
        service["charts"] = {
            key: drawn.placed(service["id"], value, service["name"]) for key, value in found.items()
        }
    page["sweep_charts"] = [drawn.placed("sweeps", test) for test in figures.ratio_tests(summary, details)]
    page["has_charts"] = bool(drawn.charts)
    known = behind(
        summary,
        _rows_of(details),
        drawn.by_service({service["id"]: service["name"] for service in page["services"]}),
        made_by,
    )
    whole = (
        environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            style=Markup(packaged_text("style.css")),  # noqa: S704 - shipped with the package
            scripts=[Markup(packaged_text(name)) for name in SCRIPTS],  # noqa: S704 - shipped with the package
            bundle=packed(chart_templates.LIBRARY.read_text("utf-8")) if drawn.charts else "",
            charts=packed(plain_json(drawn.island())) if drawn.charts else "",
            behind=packed(plain_json(known)),
        )
    )
    return lightened(whole)


def _rows_of(details: Mapping[str, pl.DataFrame]) -> Tables:
    """Return a look-up of a service's rows of every table; the empty name has those of the whole run."""
    here = [name for name in DETAILS if name in details]
    tables = {name: figures.by_service(details[name], DETAILS[name]) for name in here}
    return lambda name: {key: table(name) for key, table in tables.items()} if name else details


class _PageCharts:
    """The charts of a page: what the template shows of each, and what the script draws it from.

    Layers that are equal are kept once; charts of one kind lie beside each other, so that they pack well.
    """

    def __init__(self) -> None:
        self.charts: dict[str, tuple[str, dict[str, Any]]] = {}
        self.layers: dict[str, int] = {}

    def placed(self, section: str, value: Any, service: str = "") -> Any:
        """Take in a chart of a service, or each of a list, for its template; None stays None."""
        if isinstance(value, list):
            return [self.placed(section, chart, service) for chart in value]
        return None if value is None else self._chart(section, value, service)

    def _chart(self, section: str, chart: Chart, service: str) -> dict[str, str]:
        kind = _element_key(chart.key)
        texts = [json.dumps(layer, sort_keys=True, ensure_ascii=False) for layer in chart.spec["layer"]]
        places = [self.layers.setdefault(text, len(self.layers)) for text in texts]
        self.charts[f"{section}-{kind}"] = (
            kind,
            {
                "alt": chart.alt,
                "csv": chart.csv,
                "height": int(chart.spec["height"]) + AROUND_CHART_PX,
                "rows": f"{chart.rows:,}",
                "spec": chart.spec | {"layer": places},
            },
        )
        return {
            "key": kind,
            "link": chart_links.link(service, chart),
            "title": chart.title,
            "reading": chart.reading,
        }

    def by_service(self, names: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the figures of each service by its name, in page order; those of the run under no name."""
        found: dict[str, list[str]] = {}
        for figure in self.charts:
            found.setdefault(names.get(figure.partition("-")[0], ""), []).append(figure)
        return found

    def island(self) -> dict[str, Any]:
        """Return the look that all charts share, their layers, and the charts by the id of their figure."""
        beside = sorted(self.charts.items(), key=lambda item: (item[1][0], item[0]))
        return {
            "config": chart_templates.CONFIG,
            "layers": [json.loads(text) for text in self.layers],
            "charts": [[name, chart] for name, (_, chart) in beside],
        }


def _element_key(key: str) -> str:
    """Return the key with only characters that an element id, a selector and a file name all bear."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in key)


def packaged_text(name: str) -> str:
    """Return a file of the templates."""
    return files("hs_analysis.report").joinpath("templates", name).read_text("utf-8")


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return what renders the templates: all text is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hs_analysis.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
