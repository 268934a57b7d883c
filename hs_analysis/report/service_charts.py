"""All charts of one service, from its tables, in page order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hs_analysis.report import (
    capacity_chart,
    charts,
    coverage_chart,
    first_screen,
    policy_charts,
    ratio_chart,
)
from hs_analysis.report.charts import Chart
from hs_analysis.report.choice import Choice, entry_of, mapping, records
from hs_analysis.report.replay_words import DRAWN
from hs_analysis.report.slo import allowed_share
from hs_analysis.report.wording import is_number, policy_name, unit_of
from hs_analysis.schema.names import CURRENT, ORACLE, STATIC_PEAK

LEAST_DRAWN = 4
"""Policies on one chart: the selected one and what `replay_words.DRAWN` names, else the next at hand."""

PER_INSTANCE = 0.7
"""A study load below this share of the pool's is that of an instance; two instances give a half [ratio]."""

SIGNALS_DRAWN = 24
"""Most rows of the coverage chart; the ranking lists them all."""


def draw(
    service: Mapping[str, Any],
    summary: Mapping[str, Any],
    choice: Choice,
    ranked: Sequence[Mapping[str, Any]],
    tables: Mapping[str, pl.DataFrame],
    signals: pl.DataFrame,
    findings: pl.DataFrame,
    budget: int,
    *,
    crowded: bool = False,
) -> dict[str, Any]:
    """Return the charts of a service by their place on the page; None where there is nothing to draw.

    Parameters
    ----------
    service, summary
        The service's part of summary.json, and all of it.
    choice, ranked
        What was chosen, and the signals best first.
    tables
        The service's rows of each detail table.
    signals, findings
        The service's aligned rows, and findings about it or the whole input.
    budget
        Most points of one line.
    crowded
        Whether so many services share the page that each goes without the charts of its decision.
    """
    found: dict[str, Any] = {
        "coverage": coverage_chart.coverage(signals, _rows(ranked, signals), findings, service),
        "elasticity": charts.elasticity(ranked),
        "chosen": _chosen(service, choice, ranked, tables["study_points"], signals, budget),
        "ratio": ratio_chart.ratio(mapping(service.get("pd_ratio")), tables["mix"], service),
        "replay": _replay(service, choice, tables["timeline"], budget),
        "decision": [] if crowded else first_screen.pool_charts(tables["timeline"], service, choice, budget),
        "front": policy_charts.front(service),
        "drivers": policy_charts.drivers(records(service.get("drivers"))),
    }
    targets = {
        str(t.get("role")): t for t in reversed(records(service.get("thresholds"))) if not t.get("gpu_type")
    }
    targets |= {str(t.get("role")): t for t in _targets(service, choice)}
    for entry in records(service.get("capacity")):
        role = str(entry.get("role"))
        if entry.get("gpu_type"):
            continue
        points, curve = (
            tables[name].filter(pl.col("role") == role) for name in ("capacity_points", "capacity_curve")
        )
        target = targets.get(role, {})
        comparable = target if target.get("signal") == entry.get("signal") else {}
        found[f"capacity-{role}"] = capacity_chart.capacity(
            role, entry, comparable, points, curve, allowed_share(service, summary, entry, curve)
        )
    return found


def flat(found: Mapping[str, Any]) -> list[Chart]:
    """Return the charts that there are, in no particular grouping."""
    listed = [c for value in found.values() for c in (value if isinstance(value, list) else [value])]
    return [c for c in listed if c is not None]


def _targets(service: Mapping[str, Any], choice: Choice) -> list[Mapping[str, Any]]:
    rows = records(service.get("thresholds"))
    return [r for r in rows if not r.get("gpu_type") and (r.get("signal"), r.get("role")) in choice.primaries]


def _rows(ranked: Sequence[Mapping[str, Any]], signals: pl.DataFrame) -> list[tuple[str, str]]:
    """Return the rows of the coverage chart: ranked signals, or what was aligned when none was studied."""
    wanted = [(str(entry.get("signal")), str(entry.get("role") or "")) for entry in ranked]
    if not wanted:
        wanted = list(signals.select("signal", "role").unique().sort("role", "signal").iter_rows())
    return wanted[:SIGNALS_DRAWN]


def _chosen(
    service: Mapping[str, Any],
    choice: Choice,
    ranked: Sequence[Mapping[str, Any]],
    points: pl.DataFrame,
    signals: pl.DataFrame,
    budget: int,
) -> list[Chart]:
    """Return scatter and time chart of every primary; of the best ranked signal when there is none."""
    best = mapping(service.get("recommended"))
    wanted = list(choice.primaries) or [(str(best.get("signal")), str(best.get("role")))]
    entries = [entry for pair in wanted if (entry := entry_of(ranked, *pair))] or list(ranked[:1])
    drawn = []
    for entry in entries[:2]:
        signal, role = pair_of(entry)
        pair = (pl.col("signal") == signal) & (pl.col("role") == role)
        mine = points.filter(pair)
        values = signals.filter(pair).select("capture", "t", "value")
        if values.is_empty():
            values = mine.select("capture", "t", "value")
        pools = [str(row.get("role")) for row in records(service.get("capacity"))]
        at = charts.load_pool(*pair_of(entry), pools)
        divided = _divided(mine, signals.filter((pl.col("signal") == "offered_tps") & (pl.col("role") == at)))
        reference = str(service.get("reference") or "reference")
        work = next((row for row in records(service.get("capacity")) if row.get("role") == at), {})
        unit = unit_of(str(work.get("signal"))) or "tokens/s"
        drawn.append(
            charts.scatter(mine, entry, reference, budget, pools=pools, per_instance=divided, unit=unit)
        )
        drawn.append(charts.against_time(values, mine.select("capture", "t", "load"), entry, service, budget))
    return [chart for chart in drawn if chart is not None]


def pair_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the signal and role of a verdict."""
    return str(entry.get("signal")), str(entry.get("role") or "")


def _divided(points: pl.DataFrame, offered: pl.DataFrame) -> bool:
    """Whether the study's load is that of an instance: well below what the pool was offered."""
    own, total = points["load"].median(), offered["value"].median()
    return is_number(own) and is_number(total) and own < PER_INSTANCE * total


def _replay(service: Mapping[str, Any], choice: Choice, timeline: pl.DataFrame, budget: int) -> list[Chart]:
    names = timeline["policy"].unique().sort().to_list() if timeline.height else []
    rows = records(mapping(service.get("replay")).get("policies"))
    if not any(row.get("policy") == CURRENT for row in rows):
        names = [name for name in names if name != CURRENT]  # its counts do not stand for what runs today
    wanted = [choice.selected.get("policy") or choice.policy, *DRAWN]
    order = [name for name in wanted if name in names]
    if len(order) < LEAST_DRAWN:  # an older run or a service on which little could be expressed
        spare = [name for name in (STATIC_PEAK, ORACLE, *names) if name in names and name not in order]
        order += list(dict.fromkeys(spare))[: LEAST_DRAWN - len(order)]
    policies = [(name, policy_name(name)) for name in order]
    roles = (
        ("mixed",)
        if any(e.get("role") == "mixed" for e in records(service.get("capacity")))
        else ("prefill", "decode")
    )
    drawn = [charts.replay_steps(timeline, role, policies, service, budget) for role in roles]
    return [chart for chart in drawn if chart is not None]
