"""The first screen of a service: the answer, a chart a pool, instances now and then, how to apply it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from hs_analysis.report import marks
from hs_analysis.report.answer import answer_of
from hs_analysis.report.cells import number_cell, table, text_cell
from hs_analysis.report.chart_templates import ROLE_COLOURS
from hs_analysis.report.charts import Chart, line_rows, make
from hs_analysis.report.choice import Choice, knows_shares, mapping, records, threshold_of
from hs_analysis.report.decision_words import LOADS, moved
from hs_analysis.report.wording import is_number, parse_time, plural, replayed_on, the_day
from hs_analysis.schema.aligned import SERVED
from hs_analysis.schema.constants import MAJORITY
from hs_analysis.schema.names import CURRENT, RECORDED

HEIGHT_PX = 150
"""Height of a chart of the first screen [px]: two of them and the table fit in one."""

LOAD_PART = 4
"""The load has this part of a line's points: its shape is enough."""

BANDS_MOST = 40
"""Most marked stretches over the SLO on one chart [count]; the timeline table holds them all."""


def first_screen(service: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    """Return what stands first in a service's part of the page.

    Returns
    -------
    dict
        ``lines`` (hours, risk), ``questions``, ``pools`` (a table, empty without a backtest) and ``apply``
        (commands in order, each with why; empty where nothing is to be applied).
    """
    said = answer_of(service, choice, mapping(service.get("slo")), ".")
    return {
        "lines": [line for line in (said.hours, said.risk) if line],
        "questions": list(said.questions),
        "pools": _pools(choice),
        "apply": _apply(service, choice),
    }


def _pools(choice: Choice) -> dict[str, Any]:
    pools = [pool for pool in records(choice.decision.get("pools")) if is_number(pool.get("now"))]
    if not choice.decision.get("backtested"):
        return _within_bounds(choice, pools)
    heads = ["pool", "now", "recommended", *(f"at {load} load" for load in LOADS)]
    rows = []
    for pool in pools:
        loads = mapping(pool.get("at_load"))
        cells = [
            text_cell(str(pool.get("role"))),
            number_cell(pool.get("now"), "", None, 1),
            number_cell(pool.get("recommended"), "", None, 1, strong=True),
            *(text_cell(moved(mapping(loads.get(load))), numeric=True) for load in LOADS),
        ]
        rows.append({"id": "", "cells": cells})
    window = the_day(choice.decision) if choice.decision.get("by_blocks") else "the test window"
    return table(f"Instances, mean over {window}: now → recommended", heads, rows)


def _within_bounds(choice: Choice, pools: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what ran and the bounds of a policy that was not replayed: no count of its own is known."""
    bounds = mapping(choice.spec.get("bounds"))
    rows = [
        {
            "id": "",
            "cells": [
                text_cell(str(pool.get("role"))),
                number_cell(pool.get("now"), "", None, 1),
                *(
                    number_cell(mapping(bounds.get(str(pool.get("role")))).get(end), "", None, 0)
                    for end in ("min", "max")
                ),
            ],
        }
        for pool in pools
    ]
    return table("Instances: mean of what ran, and the policy's bounds", ["pool", "ran", "min", "max"], rows)


def _apply(service: Mapping[str, Any], choice: Choice) -> list[dict[str, str]]:
    """Return what APPLY.md says to do, in order, run from the run folder; nothing that is not recommended."""
    if choice.decision.get("recommend") != "apply":
        return []
    found = mapping(service.get("apply"))
    return [
        {"command": str(step.get("command") or ""), "why": str(step.get("why") or "")}
        for part in ("check", "steps", "watch")
        for step in records(found.get(part))
    ]


def pool_charts(
    timeline: pl.DataFrame, service: Mapping[str, Any], choice: Choice, budget: int
) -> list[Chart]:
    """Draw for each pool what it needs, what ran and what is recommended on the test window.

    Stretches in which the policy is expected to break the SLO in most windows are marked.

    Parameters
    ----------
    timeline
        The service's rows of the ``timeline`` contract; without any there are no charts.
    service, choice
        Its part of summary.json, and the selected policy.
    budget
        Most points of one line.
    """
    name = str(choice.selected.get("policy") or "")
    mine = timeline.filter(pl.col("policy") == name)
    if mine.is_empty():
        return []
    replayed = {str(row.get("policy")) for row in records(mapping(service.get("replay")).get("policies"))}
    lines = [(RECORDED, "recorded"), (name, "recommended")]
    lines += [(CURRENT, "today's autoscaler")] if CURRENT in replayed else []
    drawn = [
        _pool_chart(timeline, pool, lines, service, budget) for pool in records(choice.decision.get("pools"))
    ]
    return [chart for chart in drawn if chart is not None]


def _pool_chart(
    timeline: pl.DataFrame, pool: Mapping[str, Any], lines: list[tuple[str, str]],
    service: Mapping[str, Any], budget: int,
) -> Chart | None:  # fmt: skip
    role = str(pool.get("role"))
    target = threshold_of(service, SERVED[role], role).get("target_per_instance")
    rows, names = _instances(timeline, role, lines, target, budget)
    if not names:
        return None
    chosen = lines[1][0]
    mine = timeline.filter(pl.col("policy") == chosen)
    sides = {
        row.get("policy"): row.get("slo_side")
        for row in records(mapping(service.get("replay")).get("policies"))
    }
    over = _over(mine) if knows_shares(service) or sides.get(chosen) == "over" else []
    decision = mapping(service.get("decision"))
    over_day = f" over {the_day(decision)}" if decision.get("by_blocks") else ""
    title = f"{role.capitalize()}: {moved(pool)} instances on average{over_day}"
    drawn = f"Instances that are ready, on {replayed_on(service)}."
    marked = (
        f" Shaded: the SLO is expected to break ({plural(len(over), 'stretch', 'stretches')})."
        if over
        else ""
    )
    _, _, happened = marks.between(service, parse_time(mine["t"].min()), parse_time(mine["t"].max()))
    looks = {
        "recorded": ("var(--c-load)", [1, 0]),
        "recommended": (ROLE_COLOURS[role], [1, 0]),
        "today's autoscaler": ("var(--ink)", [6, 3]),
        "load ÷ target": ("var(--c-service)", [2, 2]),
    }
    chart = make(
        "steps", f"decision-{role}",
        (title, f"{drawn}{marked}", f"{title}.{marked}"),
        (["t", "series", "capture", "value", "lone"], rows),
        places={
            "Y": f"{role} instances", "DOMAIN": names,
            "COLOURS": [looks[name][0] for name in names], "DASHES": [looks[name][1] for name in names],
        },
        datasets={"bands": over, "events": happened},
    )  # fmt: skip
    chart.spec["height"] = HEIGHT_PX
    return chart


def _instances(
    timeline: pl.DataFrame, role: str, lines: list[tuple[str, str]], target: Any, budget: int
) -> tuple[list[list[str]], list[str]]:
    """Return the CSV rows of a pool's instances under each policy and of what its load asks for; their names.

    ``lines`` are (policy, its name on the chart), the recommended one second, whose load is drawn.
    """
    column = "prefill" if role == "prefill" else "decode"  # a single pool stands in the columns of decode
    rows, names = [], []
    for policy, words in lines:
        part = timeline.filter(pl.col("policy") == policy)
        if part.filter(pl.col(f"ready_{column}").is_finite()).is_empty():
            continue
        rows += line_rows(part, words, f"ready_{column}", budget, steps=True)
        names.append(words)
    mine = timeline.filter(pl.col("policy") == lines[1][0])
    if names and is_number(target) and mine[f"load_{column}"].is_finite().any():
        needed = mine.with_columns(pl.col(f"load_{column}") / target)
        rows += line_rows(needed, "load ÷ target", f"load_{column}", budget // LOAD_PART)
        names.append("load ÷ target")
    return rows, names


def _over(mine: pl.DataFrame) -> list[dict[str, Any]]:
    """Return stretches in which most windows are expected to be over the SLO, as bands of a chart."""
    steps = mine.sort("capture", "t").with_columns(
        over=pl.col("violation_probability") > MAJORITY,
        end=pl.col("t").shift(-1).over("capture").fill_null(pl.col("t")),
    )
    runs = (
        steps.with_columns(run=pl.struct("capture", "over").rle_id())
        .filter(pl.col("over"))
        .group_by("run", maintain_order=True)
        .agg(start=pl.col("t").first(), end=pl.col("end").last())
    )
    return [
        {"start": marks.iso(row["start"]), "end": marks.iso(row["end"]), "text": "over the SLO"}
        for row in runs.head(BANDS_MOST).iter_rows(named=True)
    ]
