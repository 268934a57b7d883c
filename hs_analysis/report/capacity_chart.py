"""The chart of a capacity: windows grouped by load, the fit, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.report import chart_templates
from hs_analysis.report.charts import Chart, make
from hs_analysis.report.choice import mapping
from hs_analysis.report.slo import of_samples
from hs_analysis.report.thinning import csv_number
from hs_analysis.report.wording import interval, is_number, number, percent, plural, unit_of
from hs_analysis.schema.constants import NORMAL_95


def capacity(
    role: str,
    entry: Mapping[str, Any],
    target: Mapping[str, Any],
    points: pl.DataFrame,
    curve: pl.DataFrame,
    allowed: float | None,
) -> Chart | None:
    """Draw the share of violating windows against load per instance with the fit, the limit and the answer.

    Parameters
    ----------
    role, entry, target
        Role, its capacity over all GPU types, and the threshold that is steered to.
    points, curve
        The role's capacity points and fitted curve.
    allowed
        Share of windows that may violate; None when not known.
    """
    rows = _points_and_fit(points, curve, samples=of_samples(entry))
    if not rows and not is_number(entry.get("per_instance")):
        return None
    of = "samples" if of_samples(entry) else "windows"
    rules = _rules(entry, target)
    words = f"allowed share of {of} {percent(allowed)}"
    limit = [{"y": allowed, "text": words}] if is_number(allowed) and _has_limit(entry) else []
    reading = _reading(entry, points, rules, allowed if limit else None)
    unit = unit_of(str(entry.get("signal"))) or "tokens/s"
    title = _title(role, entry, unit)
    places = {
        "X": f"work per {role} instance ({unit})",
        "Y": f"{of} over the limit (%)",
        "COLOUR": chart_templates.ROLE_COLOURS.get(role, "var(--c-service)"),
        "DOMAIN": [rule["text"] for rule in rules],
    }
    header = ["load", "share", "low", "high", "windows", "fit"]
    return make(
        "capacity",
        f"capacity-{role}",
        (title, reading, title + "."),
        (header, rows),
        places=places,
        datasets={"marks": rules, "bands": limit},
    )


def _points_and_fit(points: pl.DataFrame, curve: pl.DataFrame, *, samples: bool) -> list[list[str]]:
    """Return CSV rows (load, share, low, high, windows, fit): groups of windows, then the fitted line."""
    groups = share_groups(points) if samples else quantile_groups(_decided(points))
    line = curve.sort("load_per_instance").select("load_per_instance", "violation_probability")
    return [
        *(
            [csv_number(load), csv_number(share), csv_number(low), csv_number(high), str(int(n)), ""]
            for load, share, low, high, n in groups.iter_rows()
        ),
        *([csv_number(x), "", "", "", "", csv_number(y)] for x, y in line.iter_rows()),
    ]


def _decided(points: pl.DataFrame) -> pl.DataFrame:
    """Return the windows with a load that are known to be over the limit or within it."""
    return points.filter(pl.col("load_per_instance").is_finite() & pl.col("violates").is_not_null())


def _has_limit(entry: Mapping[str, Any]) -> bool:
    """Say whether the latency had a limit to be held."""
    return bool(mapping(entry.get("reason")).get("code") != "no_slo")


def _reading(
    entry: Mapping[str, Any], points: pl.DataFrame, rules: list[dict[str, Any]], allowed: float | None
) -> str:
    """Return how to read the chart, and which windows it leaves out."""
    samples = of_samples(entry)
    judged = points.filter(pl.col("load_per_instance").is_finite())
    known = judged.filter(pl.col("over_ratio").is_finite())
    between = known.filter(pl.col("violates").is_null() & pl.col("over_least_ratio").is_finite()).height
    missing = points.height - (known.height if samples else _decided(points).height + between)
    if not _has_limit(entry):
        return "No limit on the latency was given, so that no window is over one."
    reading = (
        "Each point is a group of windows of about equal load with "
        + ("its mean share of samples over the limit; " if samples else "its 95 % interval; ")
        + "the line is the fit"
        + (", the shaded strip the interval of the answer" if rules and rules[0]["low"] is not None else "")
        + (f", the dashed line the allowed share ({percent(allowed)})." if allowed is not None else ".")
    )
    if between and not samples:
        left_out = plural(between, "window")
        reading += f" {left_out} left out: one histogram bucket about the limit holds all samples there."
    if missing:
        reading += f" {plural(missing, 'window')} left out: no samples of the latency, or no load."
    return reading


def _rules(entry: Mapping[str, Any], target: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the answer with its interval and the target, as rules of the chart."""
    rules = []
    if is_number(entry.get("per_instance")):
        ends = interval(entry.get("ci"))
        low, high = entry["ci"] if ends else (None, None)
        word = "carried" if entry.get("status") == "floor" else "capacity"
        text = f"{word} {number(entry['per_instance'])}" + (f" ({ends})" if ends else "")
        rules.append({"text": text, "value": entry["per_instance"], "low": low, "high": high})
    if is_number(target.get("target_per_instance")):
        value = target["target_per_instance"]
        rules.append({"text": f"target {number(value)}", "value": value, "low": None, "high": None})
    return rules


def _title(role: str, entry: Mapping[str, Any], unit: str) -> str:
    name, value = role.capitalize(), number(entry.get("per_instance"))
    if entry.get("status") == "ok":
        return f"{name} holds the objective up to {value} {unit} per instance"
    if entry.get("status") == "floor":
        return f"{name} already carried {value} {unit} per instance; {_beyond(entry)}"
    return f"{name}: no capacity could be had from these windows"


def _beyond(entry: Mapping[str, Any]) -> str:
    """Return what is known of loads above a floor."""
    code, ratio = mapping(entry.get("reason")).get("code"), entry.get("carried_ratio")
    if code == "no_slo":
        return "no limit was given to set it against"
    if is_number(ratio) and ratio > 1.0:
        return f"up to {number(entry['per_instance'] * ratio)} was inside the limit for a time"
    return "its limit was met too seldom to say more" if code == "thin" else "more was never tested"


def quantile_groups(points: pl.DataFrame) -> pl.DataFrame:
    """Return groups of windows of about equal load: load, share over the limit, its Wilson interval, windows.

    ``points`` are decided capacity points. At most 20 groups of at least 15 windows; fewer make one group.
    """
    n = points.height
    groups = max(1, min(20, n // 15))
    ordered = points.sort("load_per_instance", "t", "capture").with_columns(
        group=pl.Series(np.arange(n) * groups // max(n, 1))
    )
    table = ordered.group_by("group").agg(
        load=pl.col("load_per_instance").median(),
        over=pl.col("violates").sum().cast(pl.Float64),
        windows=pl.len().cast(pl.Float64),
    )
    z = NORMAL_95
    p, m = pl.col("over") / pl.col("windows"), pl.col("windows")
    centre = (p + z * z / (2 * m)) / (1 + z * z / m)
    half = z / (1 + z * z / m) * (p * (1 - p) / m + z * z / (4 * m * m)).sqrt()
    return table.sort("group").select(
        "load", share=p, low=(centre - half).clip(0), high=(centre + half).clip(upper_bound=1), windows=m
    )


def share_groups(points: pl.DataFrame) -> pl.DataFrame:
    """Return groups of windows of about equal load: load, mean share of samples over the limit, no interval.

    Columns as `quantile_groups`; the share is the one that the law of load levels reads.
    """
    known = points.filter(pl.col("load_per_instance").is_finite() & pl.col("over_ratio").is_finite()).sort(
        "load_per_instance", "t", "capture"
    )
    n = known.height
    groups = max(1, min(20, n // 5))
    numbered = known.with_columns(group=pl.Series(np.arange(n) * groups // max(n, 1)))
    table = numbered.group_by("group").agg(
        load=pl.col("load_per_instance").median(),
        share=pl.col("over_ratio").mean(),
        windows=pl.len().cast(pl.Float64),
    )
    none = pl.lit(None, dtype=pl.Float64)
    return table.sort("group").select("load", "share", low=none, high=none, windows="windows")
