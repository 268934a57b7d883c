"""Signals instance by instance: what tells a relation within instances from one between them."""

from __future__ import annotations

import numpy as np
import polars as pl

from hs_analysis.align.tables import instants
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame
from hs_analysis.schema.frames import INSTANCES, check, empty

INSTANCES_MAX = 64
"""Most instances of a role that are kept, evenly spaced by name: enough for a slope, bounded in size."""

ROW_S = 300.0
"""Width of a row [s]: the study's rows behind association and elasticity; in a pressure test one window."""

_SIGNAL = ["service", "role", "signal"]
_POOL = ["service", "capture", "role"]


def instance_terms(
    frames: tuple[ServiceFrame, ...], terms: pl.DataFrame, chosen: pl.DataFrame
) -> pl.DataFrame:
    """Return the terms of candidate signals that every instance of their pool exports.

    Parameters
    ----------
    frames
        The aligned services.
    terms
        The term table.
    chosen
        Rows of the chosen sources, with service, role, signal and preference.

    Returns
    -------
    Terms over all GPU types of at most 64 instances a pool, evenly spaced by name; pools of one instance are
    left out.
    """
    candidates = [
        (frame.service, info.role, info.signal)
        for frame in frames
        for info in frame.signals
        if info.role in POOL_ROLES and info.family != "auxiliary"
    ]
    wanted = pl.DataFrame(candidates, schema=dict.fromkeys(_SIGNAL, pl.String), orient="row")
    sources = chosen.select(*_SIGNAL, "preference").unique()
    own = terms.filter(pl.col("gpu_group").is_null() & pl.col("instance").is_not_null())
    own = own.join(wanted, _SIGNAL, how="semi").join(sources, [*_SIGNAL, "preference"], how="semi")
    pools = own.group_by(_POOL).agg(pl.col("instance").unique().sort())
    sizes = pools.with_columns(pl.col("instance").list.len().alias("size")).drop("instance")
    exporters = own.group_by([*_POOL, "signal"]).agg(pl.col("instance").n_unique().alias("exporting"))
    everywhere = exporters.join(sizes, _POOL).filter(
        (pl.col("exporting") == pl.col("size")) & (pl.col("size") > 1)
    )
    kept = pools.with_columns(pl.col("instance").map_elements(_spread, return_dtype=pl.List(pl.String)))
    own = own.join(everywhere, [*_POOL, "signal"], how="semi")
    return own.join(kept.explode("instance"), [*_POOL, "instance"], how="semi")


def row_width_s(kind: str, window_s: float) -> float:
    """Return the width of a row [s]: whole windows, about five minutes; in a pressure test one window."""
    return window_s if kind == "pressure_test" else window_s * max(1, round(ROW_S / window_s))


def _spread(names: pl.Series) -> list[str]:
    """Return at most 64 of the sorted names, first and last among them."""
    count = min(len(names), INSTANCES_MAX)
    return [names[int(place)] for place in np.linspace(0, len(names) - 1, count).round()]


def instance_table(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the result of the query ``align/instance_windows`` by contract INSTANCES."""
    return check(rows.with_columns(instants()), INSTANCES) if rows.height else empty(INSTANCES)
