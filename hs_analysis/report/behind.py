"""What stands behind each number of the page, shown where its link lands: chart, code, rows, input files.

`hsa explain LINK` says the same of one number; here it is for all of them, short enough for the page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from hs_analysis import evidence
from hs_analysis.report import explain, sweep_charts, sweep_explain
from hs_analysis.report.choice import records
from hs_analysis.report.explain_text import row_words
from hs_analysis.report.wording import span

Tables = Callable[[str], Mapping[str, pl.DataFrame]]


def behind(
    summary: Mapping[str, Any],
    tables: Tables,
    charts: Mapping[str, Collection[str]],
    made_by: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return what stands behind every link of a page.

    Parameters
    ----------
    summary
        summary.json.
    tables
        Detail tables of a service by its name; those of the run under the empty name.
    charts
        Names of the figures of each service on the page; those of ratio tests under the empty name.
    made_by
        Per kind of number the functions and queries that make it.

    Returns
    -------
    dict
        ``made_by`` (kind → names) and ``numbers``: for each path its kind, title, figure (empty without
        one), rows in words (empty where no table holds them), window in words, metrics, and the paths it was
        made from. Paths of one service stand together.
    """
    numbers = [
        [path, kind, said["title"], chart, *_words(said), said["metrics"], said["see_also"]]
        for path, kind, chart, said in _numbers(summary, tables, charts, made_by or {})
    ]
    kinds = sorted({str(one[1]) for one in numbers})
    return {"made_by": {kind: list((made_by or {}).get(kind, ())) for kind in kinds}, "numbers": numbers}


def _numbers(
    summary: Mapping[str, Any],
    tables: Tables,
    charts: Mapping[str, Collection[str]],
    made_by: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Yield path, kind, figure and explanation of every number that has a link."""
    for service in records(summary.get("services")):
        name = str(service.get("service") or "")
        if not name:
            continue
        here = charts.get(name, ())
        for path, kind, entry, said in explain.everything(service, summary, tables(name), made_by):
            yield path, kind, next((one for one in _figures(kind, entry, here) if one in here), ""), said
    asked = sweep_charts.asked(summary)
    for path in sweep_explain.links(summary):
        said = explain.explain(evidence.parse(path), summary, tables(""), made_by=made_by)
        sweep = sweep_explain.sweep_of(evidence.parse(path), summary)
        place = next((n for n, one in enumerate(asked) if one is sweep), -1)
        figure = f"sweeps-sweep-{place}"
        kind = sweep_explain.kind_of(sweep or {})
        yield path, kind, figure if figure in charts.get("", ()) else "", said


def _words(said: Mapping[str, Any]) -> tuple[str, str]:
    window = said["window"]
    rows = row_words(said["rows"]) if said["rows"] else ""
    return rows, f"{span(window['start'], window['end'])}, {window['of']}"


def _figures(kind: str, entry: Mapping[str, Any], here: Collection[str]) -> Iterator[str]:
    """Yield the figures that show a number, the one that shows it best first."""
    signal, role = str(entry.get("signal")), str(entry.get("role"))
    wanted = {
        "signals": (f"series-{signal}-{role}", f"scatter-{signal}-{role}", "elasticity", "coverage"),
        "capacity": (f"capacity-{role}",),
        "gpu_speeds": (f"capacity-{role}",),
        "thresholds": (f"capacity-{role}", f"series-{signal}-{role}", "capacity-decode", "capacity-mixed"),
        "startup": (f"decision-{role}", f"steps-{role}"),
        "pd_ratio": ("ratio",),
        "demand": ("series-", "ratio"),
        "selection": ("front", "steps-"),
        "replay": ("steps-", "front"),
        "drivers": ("drivers",),
        "policy": ("decision-", "steps-"),
    }
    for name in wanted.get(kind, ()):
        for figure in here:
            own = figure.partition("-")[2]
            if own == name or (name.endswith("-") and own.startswith(name)):
                yield figure
