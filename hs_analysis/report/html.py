"""One self-contained page: view and charts into templates, with the chart library once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from hs_analysis.report import chart_links, chart_templates, figures, service_charts, view
from hs_analysis.report.charts import Chart
from hs_analysis.report.choice import records
from hs_analysis.report.decisions import decisions
from hs_analysis.report.library import chart_library
from hs_analysis.report.marks import marked
from hs_analysis.schema.frames import DETAILS, FINDINGS, empty

SCRIPTS = ("links.js", "time.js", "pictures.js", "dead_links.js", "script.js")
"""Scripts of the page in the order in which they run."""

AROUND_CHART_PX = 96
"""Axis and legend below a chart."""


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
    drawn, layers = 0, dict[str, int]()
    for service, entry, found in zip(page["services"], entries, charts, strict=True):
        service["decisions"] = decisions(timelines(service["name"]), service["choice"], entry, len(entries))
        service["charts"] = {key: _placed(value, layers, service["name"]) for key, value in found.items()}
        drawn += len(service_charts.flat(found))
    tests = figures.ratio_tests(summary, details)
    page["sweep_charts"] = [_chart(test, layers, "") for test in tests]
    drawn += len(tests)
    page["has_charts"] = drawn > 0
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            style=Markup(packaged_text("style.css")),  # noqa: S704 - shipped with the package
            scripts=[Markup(packaged_text(name)) for name in SCRIPTS],  # noqa: S704 - shipped with the package
            bundle=Markup(chart_library() if drawn else ""),  # noqa: S704 - the chart library
            shared_json=island(
                {"config": chart_templates.CONFIG, "layers": [json.loads(text) for text in layers]}
            ),
        )
    )


def island(data: Any) -> Markup:
    """Return data as JSON that is safe inside a script element: no ``<``, ``>``, ``&`` is left in it."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _placed(value: Any, layers: dict[str, int], service: str) -> Any:
    if isinstance(value, list):
        return [_placed(chart, layers, service) for chart in value]
    return None if value is None else _chart(value, layers, service)


def _chart(chart: Chart, layers: dict[str, int], service: str) -> dict[str, Any]:
    """Return a chart for the template; its layers go to the page's list, where equal ones are kept once."""
    texts = [json.dumps(layer, sort_keys=True, ensure_ascii=False) for layer in chart.spec["layer"]]
    spec = chart.spec | {"layer": [layers.setdefault(text, len(layers)) for text in texts]}
    return {
        "key": _element_key(chart.key),
        "link": chart_links.link(service, chart),
        "title": chart.title,
        "reading": chart.reading,
        "alt": chart.alt,
        "csv": chart.csv,
        "rows": f"{chart.rows:,}",
        "height": _height(chart),
        "spec_json": island(spec),
    }


def _element_key(key: str) -> str:
    """Return the key with only characters that an element id, a selector and a file name all bear."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in key)


def _height(chart: Chart) -> int:
    """Return the height a chart will take, kept free so that the page does not jump when it is drawn."""
    return int(chart.spec["height"]) + AROUND_CHART_PX


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
