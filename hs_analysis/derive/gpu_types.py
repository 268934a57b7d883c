"""Capacity per GPU type, where a pool holds several: each type judged as a pool of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.derive.capacity import CapacityFit, fit_capacity
from hs_analysis.derive.rows import limits_of, role_rows
from hs_analysis.derive.versions import ActiveVersion
from hs_analysis.schema.aligned import LATENCIES, ServiceFrame, column
from hs_analysis.schema.arrays import Integers
from hs_analysis.schema.results import Capacity, Reason
from hs_analysis.schema.settings import Settings

POOL_MEAN = "pool_mean"
"""Reason code of a type's capacity that is its pool's."""


def type_capacities(
    frame: ServiceFrame,
    typed: pl.DataFrame,
    pool: CapacityFit,
    active: ActiveVersion,
    settings: Settings,
    resamples: Integers,
    rng: np.random.Generator,
) -> tuple[Capacity, ...]:
    """Return the capacity of each GPU type of a pool, empty for a pool of one type.

    Parameters
    ----------
    frame
        The service over all types.
    typed
        Its rows of the contract SIGNALS that have a GPU type.
    pool
        The pool's capacity over all types: what a type gets whose own can't be estimated, with the reason.
    active
        The rows of the active versions.
    settings, resamples, rng
        As of `fit_capacity`.
    """
    role = pool.capacity.role
    types = frame.gpu_types.get(role, ())
    if len(types) < 2:
        return ()
    found = []
    for gpu_type in types:
        link = evidence.path(frame.service, "derive", f"capacity@{role}@{gpu_type}")
        part = type_frame(frame, typed, role, gpu_type)
        missing = _missing(part, role, frame.served(role)[0], settings)
        if part is None or missing:
            found.append(_of_pool(pool.capacity, gpu_type, missing, link))
            continue
        fit = fit_capacity(active.of(role_rows(part, role, settings)), settings, resamples, rng, link)
        if fit.capacity.status == "refused":
            why = fit.capacity.reason.text if fit.capacity.reason else "its own load can't be judged"
            found.append(_of_pool(pool.capacity, gpu_type, why, link))
        else:
            found.append(replace(fit.capacity, gpu_type=gpu_type))
    return tuple(found)


def type_frame(frame: ServiceFrame, typed: pl.DataFrame, role: str, gpu_type: str) -> ServiceFrame | None:
    """Return the service as seen by the instances of one GPU type of a role.

    Its instances, served rate, latencies and shares over the limit are the type's own. Offered work of the
    pool is split as the served work was: routing decides which type gets it. None without rows of the type.
    """
    rows = typed.filter((pl.col("role") == role) & (pl.col("gpu_type") == gpu_type))
    served = frame.served(role)[0]
    if rows.filter(pl.col("signal") == served).is_empty():
        return None
    shares = ("over", "over_least", "over_other", "over_low", "over_high")
    latencies = LATENCIES[role]
    wanted = (served, *latencies, *(f"{name}_{ending}" for name in latencies for ending in shares))
    own = rows.filter(pl.col("signal").is_in(wanted)).pivot(
        "signal", index=["capture", "t"], values="value", aggregate_function="first"
    )
    counts = rows.filter(pl.col("signal") == served).select(
        "capture", "t", pl.col("instances").cast(pl.Float64)
    )
    found = frame.table.select("capture", "t").join(own, ["capture", "t"], how="left", maintain_order="left")
    found = found.join(counts, ["capture", "t"], how="left", maintain_order="left")
    total, offered, part = column(served, role), column("offered_tps", role), pl.col(served)
    new = [found["instances"].alias(column("instances", role)), found[served].alias(total)]
    new += [found[name].alias(column(name, role)) for name in wanted[1:] if name in found.columns]
    table = frame.table.drop([column(name, "service") for name in wanted[1:]], strict=False)
    if offered in table.columns:
        share = pl.when(pl.col(total) > 0).then(part / pl.col(total))
        new.append(
            table.with_columns(found[served]).select((pl.col(offered) * share).alias(offered)).to_series()
        )
    absent = [name for name in wanted[1:] if name not in found.columns]
    table = table.drop([column(name, role) for name in absent], strict=False).with_columns(new)
    return replace(frame, table=table)


def _missing(part: ServiceFrame | None, role: str, served: str, settings: Settings) -> str:
    """Return what the type's rows lack to be judged, empty when nothing."""
    if part is None:
        return f"the input has no {served} per GPU type"
    for signal in limits_of(role, settings.slo):
        if not part.has(f"{signal}_over", role):
            return f"the input has no {signal} histogram per GPU type"
    return ""


def _of_pool(pool: Capacity, gpu_type: str, why: str, link: str) -> Capacity:
    text = f"this is the mean of the {pool.role} pool over its GPU types: {why}"
    return replace(pool, gpu_type=gpu_type, reason=Reason(POOL_MEAN, text), evidence=link)


def is_pool_mean(capacity: Capacity) -> bool:
    """Whether the number of a GPU type is only its pool's mean."""
    return capacity.reason is not None and capacity.reason.code == POOL_MEAN
