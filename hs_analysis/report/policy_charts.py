"""Charts of policies: the front of the search with the point taken, and signals tried as drivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hs_analysis.report.charts import Chart, make
from hs_analysis.report.policy_specs import CHOSEN, DERIVED, FRONT, HERE, LOAD, PAPER
from hs_analysis.report.thinning import csv_number
from hs_analysis.report.trial_words import NEAR_PEAK, finding, in_order
from hs_analysis.report.wording import is_number, number, percent, policy_name, signal_label

LEAST_SHARE = 1e-4
"""Shares of windows below this can't be told apart [ratio]; the front is drawn down to the first of them."""


def pareto(points: pl.DataFrame, allowed: float | None) -> Chart | None:
    """Draw the points that the search kept: hours against the expected share of windows over capacity.

    ``points`` are one service's rows of ``select_search``; ``allowed`` is the share that the SLO allows.
    """
    unit = "GPU-hours" if points["gpu_hours"].null_count() == 0 else "instance-hours"
    hours = "gpu_hours" if unit == "GPU-hours" else "instance_hours"
    known = points.filter(pl.col(hours).is_finite() & pl.col("strain_ratio").is_finite())
    told = known.sort(hours).filter(
        (pl.col("strain_ratio") >= LEAST_SHARE)
        | pl.col("chosen")
        | _derived()
        | ((pl.col("strain_ratio") < LEAST_SHARE).cum_sum() == 1)
    )
    taken = known.filter("chosen")
    if taken.is_empty():
        return None
    rows = [_point(row, hours) for row in told.iter_rows(named=True)]
    best = taken.row(0, named=True)
    name = policy_name(str(best["policy"]))
    title = (
        f"The search took {name}: {number(best[hours])} {unit}, "
        f"{percent(best['strain_ratio'])} of windows over capacity"
    )
    reading = (
        "Each point is a candidate at one setting on the training window; the line joins those that no "
        f"other beats in both. Shares below {percent(LEAST_SHARE)} are drawn there. Why the one taken: "
        f"{best['reason']}. policy.yaml keeps the derived numbers; the row “tuned” of the backtest shows "
        "this point on unseen data."
    )
    words = f"allowed share of windows {percent(allowed)}"
    limit = [{"y": allowed, "text": words}] if is_number(allowed) and allowed > 0 else []
    reading += " Dashed: the share of windows that the SLO allows." if limit else ""
    header = ["hours", "share", "kind", "line", "policy", "numbers", "actions"]
    places = {"X": f"{unit} on the training window", "Y": "windows over capacity (%)"}
    return make(
        "pareto",
        "pareto",
        (title, reading, title + "."),
        (header, rows),
        places=places,
        datasets={"bands": limit},
    )


def _derived() -> pl.Expr:
    factors = ("target_share", "band_scale", "cooldown_scale", "step_scale")
    return pl.all_horizontal(pl.col(name) == 1.0 for name in factors)


def _point(row: Mapping[str, Any], hours: str) -> list[str]:
    factors = (
        ("target", "target_share"),
        ("band", "band_scale"),
        ("cooldowns", "cooldown_scale"),
        ("steps", "step_scale"),
    )
    turned = [f"{word} × {row[key]:g}" for word, key in factors if row[key] != 1.0]
    kind = CHOSEN if row["chosen"] else FRONT if turned else DERIVED
    return [
        csv_number(row[hours]),
        csv_number(max(row["strain_ratio"], LEAST_SHARE)),
        kind,
        "1" if row["on_front"] else "",
        policy_name(str(row["policy"])),
        ", ".join(turned) or "as derived",
        csv_number(row["actions_per_day"]),
    ]


def drivers(trial: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw how far each driver's instances fall when the load dips, beside the load and the paper's trial."""
    rows = []
    for entry in in_order(trial):
        if not is_number(entry.get("dip_ratio")):
            continue
        label = signal_label(str(entry.get("signal")), str(entry.get("role") or ""))
        values = (
            (HERE, entry.get("dip_ratio")),
            (LOAD, entry.get("load_dip_ratio")),
            (PAPER, entry.get("paper_dip_ratio")),
        )
        rows += [[label, kind, csv_number(value)] for kind, value in values if is_number(value)]
    if not rows:
        return None
    title = finding(trial)
    reading = (
        "Each row is a signal as the driver of its pool. A point near the load's own mark gives back what "
        f"the load no longer needs; one in the shaded zone (over {NEAR_PEAK}) stays up and pays for idle "
        "instances."
    )
    zone = [{"low": NEAR_PEAK, "high": 1.05, "text": "stays near its peak"}]
    here = "; ".join(f"{label} {value}" for label, kind, value in rows if kind == HERE)
    return make(
        "drivers",
        "drivers",
        (title, reading, f"{title}. Instances at the dip ÷ at the peak: {here}."),
        (["driver", "kind", "ratio"], rows),
        datasets={"bands": zone},
    )
