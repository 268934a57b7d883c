"""Checks of what the series themselves tell: their units, their pods' labels, releases inside the window."""

from __future__ import annotations

import polars as pl

from hs_analysis.doctor.scene import Finding, Scene


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
