"""Checks of what the series themselves tell: units, tails, pods' labels, releases, load and fleet size."""

from __future__ import annotations

import re

import polars as pl

from hs_analysis.catalogue.rows import BASES, measured
from hs_analysis.doctor.input_checks import listed, number
from hs_analysis.doctor.scene import Finding, Scene
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.settings import MetricRow

UNIT_WORDS = {"milliseconds": "ms", "millis": "ms", "microseconds": "us", "seconds": "s", "pct": "percent"}
"""Words at the end of metric names → the unit they mean; units themselves mean what they are."""

TOP_SHARE = 0.01
"""Share of the samples, farthest from the mean first, whose part of the variance is looked at [ratio]."""

CARRIED_SHARE = 0.5
"""Share of the variance in those samples from which on they decide every mean and every straight line
[ratio]; of exponential values it is 0.22."""

ENOUGH_VALUES = 100
"""Values a signal needs before its tail says something [count]; default of this project."""

ENOUGH_WINDOWS = 30
"""Windows a rank correlation needs: its standard error is 0.2 then [count]."""

FOLLOWS = 0.5
"""Rank correlation of load and instances from which on one stands for the other [ratio]; default of this
project."""


def series_scales(scene: Scene) -> list[Finding]:
    """Report series whose unit is not the documented one, or can't be told."""
    judged = scene.series.drop_nulls("scale_evidence").with_columns(
        pl.col("scale_evidence").str.split(":").list.first().alias("why")
    )
    odd = judged.filter(pl.col("repair").is_not_null() | pl.col("why").is_in(["mismatch", "doubtful"]))
    counts = odd.group_by("metric", "why").agg(pl.len(), pl.col("scale_evidence").min().alias("seen"))
    return [
        Finding(
            "scale_mismatch", "fail" if row["why"] == "mismatch" else "warn",
            f"{row['len']} series of {row['metric']}: {row['seen']}", value=float(row["len"]),
        )
        for row in counts.sort("metric", "why").iter_rows(named=True)
    ]  # fmt: skip


def pod_labels(scene: Scene) -> list[Finding]:
    """Pods that the join with kube_pod_labels missed."""
    return [Finding("label_join", "warn", text) for text in scene.pod_labels]


def releases(scene: Scene) -> list[Finding]:
    """Versions, images and metric names that changed inside the window."""
    rows = [] if scene.releases is None else scene.releases.iter_rows(named=True)
    return [
        Finding(
            "release", "warn",
            f"{row['what']} of {row['role']} changed from {row['from']} to {row['to']}: what was measured "
            "before may not hold after", service=row["service"], start=row["t"], end=row["until"],
        )
        for row in rows
    ]  # fmt: skip


def tails(scene: Scene) -> list[Finding]:
    """Latencies whose few highest values carry most of the variance: a cliff, not a slope."""
    if scene.tails is None or scene.tails.is_empty():
        return []
    steep = scene.tails.filter((pl.col("moments") >= ENOUGH_VALUES) & (pl.col("carried") >= CARRIED_SHARE))
    return [
        Finding(
            "tail", "warn",
            f"{row['metric']}: the highest {TOP_SHARE:.0%} of its values carry {row['carried']:.0%} of the "
            f"variance (mean {row['mean']:.4g}, 99 % within {row['high']:.4g}, maximum {row['peak']:.4g}, "
            f"deviation {row['deviation'] / row['mean']:.1f} × the mean): a cliff, so trust ranks and shares "
            "over a limit, no mean and no straight line", service=row["service"], value=row["carried"],
        )
        for row in steep.sort("service", "metric").iter_rows(named=True)
    ]  # fmt: skip


def followed(scene: Scene) -> list[Finding]:
    """Pools whose size moves with the load: what comes of which can't be told apart in totals."""
    found = []
    for frame in scene.frames:
        for role in frame.pools if frame.has("request_rate", "service") else ():
            rho, count = _rank_correlation(
                frame, column("request_rate", "service"), column("instances", role)
            )
            if rho >= FOLLOWS:
                text = (
                    f"{role} instances move with the request rate (rank correlation {rho:.2f} over {count} "
                    "windows): the fleet followed the load, so what comes of either can't be told apart in "
                    "totals; signals are judged per instance"
                )
                found.append(Finding("confounded", "pass", text, service=frame.service, value=rho))
    return found


def _rank_correlation(frame: ServiceFrame, load: str, size: str) -> tuple[float, int]:
    both = frame.table.select(load, size).drop_nulls()
    varies = both[load].n_unique() > 1 and both[size].n_unique() > 1
    if both.height < ENOUGH_WINDOWS or not varies:
        return 0.0, both.height
    return number(both.select(pl.corr(load, size, method="spearman")).item()), both.height


def averaged(scene: Scene) -> list[Finding]:
    """Values that the mapping says were averaged before they were written."""
    spans: dict[float, list[str]] = {}
    for name, row in _mapped(scene):
        if row.averaged is not None:
            spans.setdefault(row.averaged, []).append(name)
    return [
        Finding(
            "averaged", "warn",
            f"{listed(names)}: averages over {span_s:,.0f} s, or made from such: steps at its multiples are "
            "no load, and nothing shorter can be seen", value=span_s,
        )
        for span_s, names in sorted(spans.items())
    ]  # fmt: skip


def _mapped(scene: Scene) -> list[tuple[str, MetricRow]]:
    """Return the metrics of the user's that the input has, and what the settings say of them."""
    reading = scene.settings.reading
    tables = [table.columns for table in reading.tables.values() if table.holds == "samples"]
    rows = {name: row for columns in (*tables, reading.metrics) for name, row in columns.items()}
    there = set(scene.series["metric"])
    return [(name, row) for name, row in sorted(rows.items()) if name in there]


def named_units(scene: Scene) -> list[Finding]:
    """Metrics of the user's whose name tells another unit than they are read in."""
    found = []
    for name, row in _mapped(scene):
        signal, told = scene.catalogue.signal(row.signal), _unit_in(name)
        if signal is None or told is None or row.kind == "counter":
            continue
        read = row.unit or signal.unit
        ours, theirs = measured(told), measured(read)
        if ours and theirs and ours[0] == theirs[0] and ours[1] != theirs[1]:
            text = (
                f"{name} is read in {read}, but its name says {told}: if the name is right, {row.signal} is "
                f'off by a factor of {max(ours[1] / theirs[1], theirs[1] / ours[1]):.4g}; set unit = "{told}"'
            )
            found.append(Finding("named_unit", "warn", text))
    return found


def _unit_in(name: str) -> str | None:
    """Return the unit that the end of a name tells, None when it tells none."""
    words = re.split(r"[_:.]", name.lower())
    if words[-2:] == ["per", "minute"]:
        return "req/min" if {"rate", "requests", "arrival"} & set(words) else None
    last = UNIT_WORDS.get(words[-1], words[-1])
    return last if len(words) > 1 and last in BASES else None
