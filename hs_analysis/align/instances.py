"""Which instances a service has: who reports, how many GPUs they hold and of which type."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.frames import label_map

NOT_REPORTERS = ("prometheus", "ksm", "node")
"""Exporters whose series do not prove that an instance serves."""


def of_pools(series: pl.DataFrame) -> pl.DataFrame:
    """Return the series that speak of an instance of a pool."""
    return series.filter(
        pl.col("service").is_not_null()
        & pl.col("instance").is_not_null()
        & pl.col("emitter_role").is_in(POOL_ROLES)
    )


def with_several_types(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with a GPU type of the pools that hold more than one.

    Parameters
    ----------
    frame
        Columns service, role, gpu_group and others.
    """
    typed = frame.filter(pl.col("gpu_group").is_not_null())
    several = (
        typed.group_by("service", "role")
        .agg(pl.col("gpu_group").n_unique().alias("types"))
        .filter(pl.col("types") > 1)
    )
    return typed.join(several, ["service", "role"], how="semi")


def gpu_exporters(catalogue: Catalogue) -> dict[str, str | None]:
    """Return the exporters of GPU metrics, which report on while an engine is down, and their GPU's label."""
    return {e.name: e.gpu_id for e in catalogue.exporters if e.watches_gpus}


def reporters(series: pl.DataFrame, interval_s: float, catalogue: Catalogue) -> pl.DataFrame:
    """Return the series whose samples prove that an instance is there, for all GPU types and once per type.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    interval_s
        Spacing of a series with a single sample [s].
    catalogue
        Which exporters watch GPUs.

    Returns
    -------
    Frame (series_id, service, capture, role, gpu_group, instance, interval_s). An engine's own series count;
    those of a GPU exporter only where a pool has no others. Buckets are left out: their _count says the
    same.
    """
    own = (
        of_pools(series)
        .filter(~pl.col("source").is_in(NOT_REPORTERS) & ~pl.col("metric").str.ends_with("_bucket"))
        .select(
            "series_id", "service", "capture", pl.col("emitter_role").alias("role"),
            pl.col("gpu_type").alias("gpu_group"), "instance", "source",
            pl.col("interval_s").fill_null(interval_s),
        )
    )  # fmt: skip
    engines = own.filter(~pl.col("source").is_in(list(gpu_exporters(catalogue))))
    alone = own.join(engines, ["service", "role"], how="anti")
    proof = pl.concat([engines, alone]).drop("source")
    return pl.concat(
        [proof.with_columns(pl.lit(None, pl.String).alias("gpu_group")), with_several_types(proof)]
    )


def gpus_per_instance(
    series: pl.DataFrame, service: str, catalogue: Catalogue, told: Mapping[str, float]
) -> dict[str, float]:
    """Return the GPUs of one instance per role: the median over instances of distinct GPUs, else the user's.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    service
        Service.
    catalogue
        Which exporters watch GPUs, and the label that names one.
    told
        The user's numbers by role, or by ``*`` for every role; a role without either is left out.
    """
    pools = of_pools(series).filter(pl.col("service") == service)
    labels = gpu_exporters(catalogue)
    gpus = pools.filter(pl.col("source").is_in(list(labels)))
    names = [
        label_map(row["labels"]).get(labels[row["source"]] or "")
        for row in gpus.select("labels", "source").iter_rows(named=True)
    ]
    seen = gpus.with_columns(pl.Series("gpu", names, dtype=pl.String)).drop_nulls("gpu")
    per = seen.group_by("emitter_role", "capture", "instance").agg(pl.col("gpu").n_unique())
    medians = per.group_by("emitter_role").agg(pl.col("gpu").median()).sort("emitter_role")
    counted = {row["emitter_role"]: float(row["gpu"]) for row in medians.iter_rows(named=True)}
    given = {role: told.get(role, told.get("*")) for role in sorted(set(pools["emitter_role"]))}
    return {role: float(gpus) for role, gpus in given.items() if gpus is not None} | counted


def gpu_types(series: pl.DataFrame, service: str) -> dict[str, tuple[str, ...]]:
    """Return the GPU models seen per role, sorted."""
    found = (
        of_pools(series)
        .filter(pl.col("service") == service)
        .drop_nulls("gpu_type")
        .group_by("emitter_role")
        .agg(pl.col("gpu_type").unique().sort())
    )
    return {
        row["emitter_role"]: tuple(row["gpu_type"])
        for row in found.sort("emitter_role").iter_rows(named=True)
    }
