"""What the selected policy did on the test window and why, with the user's events between its actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from hs_analysis.report import marks
from hs_analysis.report.cells import Cell, table, text_cell
from hs_analysis.report.choice import Choice, mapping, records
from hs_analysis.report.thinning import csv_time
from hs_analysis.report.wording import is_number, moment, parse_time, plain, replayed_on

DECISIONS_ONE_SERVICE, DECISIONS_ALL_SERVICES, DECISIONS_LEAST = 60, 600, 8
"""Most decisions listed of one service, and of all; least of each. The timeline table holds them all."""

COUNTS = ("desired_prefill", "desired_decode")

EVENT = {"sign": "⚑", "word": "event", "tone": "none"}


def actions(timeline: pl.DataFrame, policy: str) -> pl.DataFrame:
    """Return the rows of a policy that changed a count, with ``<count>_before`` beside each of ``COUNTS``.

    ``timeline`` are a service's rows of the ``timeline`` contract.
    """
    mine = timeline.filter(pl.col("policy") == policy).sort("capture", "t")
    before = [pl.col(name).shift(1).over("capture").alias(f"{name}_before") for name in COUNTS]
    return mine.with_columns(before).filter(pl.col("action").is_in(["out", "in"]))


def decisions(
    timeline: pl.DataFrame, chosen: Choice, service: Mapping[str, Any], services: int = 1
) -> dict[str, Any]:
    """Return the scaling actions of the selected policy: when, from how many to how many, and why.

    Parameters
    ----------
    timeline
        The service's rows of the ``timeline`` contract.
    chosen
        The selected policy.
    service
        Its ``events`` within the test window stand between the actions, as rows of their own.
    services
        How many share the page: the more, the fewer first actions are listed.

    Returns
    -------
    dict
        A table; ``total`` counts its actions, ``listed`` those in it, ``more`` those beyond.
    """
    policy = str(chosen.selected.get("policy"))
    mine, acted = timeline.filter(pl.col("policy") == policy), actions(timeline, policy)
    counts = [name for name in COUNTS if mine[name].is_not_null().any()]
    most = max(DECISIONS_LEAST, min(DECISIONS_ONE_SERVICE, DECISIONS_ALL_SERVICES // max(1, services)))
    listed = acted.head(most)
    timed = [(row["t"], _action(row, counts)) for row in listed.iter_rows(named=True)]
    # Where actions are cut, what happened after the last one listed would stand in the wrong place.
    last = listed["t"].max() if acted.height > listed.height else mine["t"].max()
    _, _, happened = marks.between(service, parse_time(mine["t"].min()), parse_time(last))
    timed += [(row["t"], _event(row, counts)) for row in happened]
    timed.sort(key=lambda each: marks.time_of(each[0]))
    rows = [{"id": "", "cells": cells} for _, cells in timed]
    heads = ["time (UTC)", "action", *(_pool(name, service) for name in counts), "why"]
    events = ", and events" if happened else ""
    caption = f"Actions of the chosen policy on {replayed_on(service)}{events}"
    found = table(caption, heads, rows)
    more = acted.height - listed.height
    return found | {"total": acted.height, "listed": listed.height, "more": more, "events": len(happened)}


def _pool(count: str, service: Mapping[str, Any]) -> str:
    """Return the pool of a count; a mixed one stands in the columns of decode."""
    pools = {pool.get("role") for pool in records(mapping(service.get("decision")).get("pools"))}
    return "mixed" if "mixed" in pools else count.removeprefix("desired_")


def _action(row: Mapping[str, Any], counts: list[str]) -> list[Cell]:
    moved = [_moved(row[f"{name}_before"], row[name]) for name in counts]
    words = [text_cell(moment(row["t"])), text_cell(f"scale {row['action']}")]
    return [*words, *moved, text_cell(row["reason"], wide=True)]


def _event(row: Mapping[str, str], counts: list[str]) -> list[Cell]:
    nothing: list[Cell] = [{"text": "", "numeric": True} for _ in counts]
    words: list[Cell] = [text_cell(moment(row["t"])), {"text": "", "status": EVENT}]
    return [*words, *nothing, text_cell(row["text"], wide=True)]


def _moved(before: Any, after: Any) -> Cell:
    """Return a count that changed as ``11 → 10``, one that did not as itself."""
    if not is_number(before) or before == after:
        return text_cell(plain(after), numeric=True)
    return text_cell(f"{plain(before)} → {plain(after)}", numeric=True)


def dots(timeline: pl.DataFrame, policy: str, role: str, most: int) -> list[dict[str, Any]]:
    """Return a policy's first actions on one pool as chart marks: ``t``, ``count`` ready then, ``text``.

    None where there is room for fewer than ``DECISIONS_LEAST``, on a page of many services.
    """
    if most < DECISIONS_LEAST:
        return []
    pool = "prefill" if role == "prefill" else "decode"  # a mixed pool stands in the columns of decode
    moved = actions(timeline, policy).filter(
        pl.col(f"desired_{pool}").ne_missing(pl.col(f"desired_{pool}_before")),
        pl.col(f"ready_{pool}").is_finite(),
    )
    columns = moved.head(most).select("t", f"ready_{pool}", "reason")
    return [
        {"t": csv_time(marks.time_of(t).timestamp()), "count": count, "text": reason}
        for t, count, reason in columns.iter_rows()
    ]
