"""Verdicts per GPU type, where a pool holds several: each type judged as a pool of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from hs_analysis import evidence
from hs_analysis.schema.aligned import POOL_ROLES, SERVED, ServiceFrame, column
from hs_analysis.schema.results import Reason, SignalVerdict

CODE = "mixed_gpu_types"

TYPES_APART = 0.2
"""Difference of the elasticities of two types from which they disagree, whatever the verdicts; as between
the halves of a history; default of this project."""


def type_frames(frame: ServiceFrame, typed: pl.DataFrame) -> tuple[tuple[str, str, ServiceFrame], ...]:
    """Return the service as seen by each GPU type of each pool that mixes types.

    Offered work of the pool is split as the served work was, because routing decides which type gets it. That
    makes the served rate a part of its own reference, so the frame says ``served``: the rate counts only
    where an independent signal of the same type follows the same load.

    Parameters
    ----------
    frame
        The service over all types.
    typed
        Its rows of the contract SIGNALS that have a GPU type.

    Returns
    -------
    (role, GPU type, frame), by role and name of the type; a role whose served rate is not known per type is
    left out.
    """
    found = []
    for role in POOL_ROLES:
        types = frame.gpu_types.get(role, ())
        parts = [(name, _type_frame(frame, typed, role, name)) for name in types if len(types) > 1]
        found += [(role, name, part) for name, part in parts if part is not None]
    return tuple(found)


def _type_frame(frame: ServiceFrame, typed: pl.DataFrame, role: str, gpu_type: str) -> ServiceFrame | None:
    rows = typed.filter((pl.col("role") == role) & (pl.col("gpu_type") == gpu_type))
    served = rows.filter(pl.col("signal") == SERVED[role])
    total, offered = column(SERVED[role], role), column("offered_tps", role)
    if served.is_empty() or not {total, offered} <= set(frame.table.columns):
        return None
    key = ["capture", "t"]
    values = rows.pivot("signal", index=key, values="value", aggregate_function="first")
    counts = served.select(*key, pl.col("instances").cast(pl.Float64))
    own = frame.table.select(key).join(values, key, how="left", maintain_order="left")
    own = own.join(counts, key, how="left", maintain_order="left")
    infos = tuple(info for info in frame.signals if info.role == role and info.signal in own.columns)
    kept = [name for name in frame.table.columns if not name.endswith(f"@{role}") and name not in key]
    table = frame.table.select(
        *key, *kept,
        own["instances"].alias(column("instances", role)),
        (pl.col(offered) * own[SERVED[role]] / pl.when(pl.col(total) > 0).then(pl.col(total))).alias(offered),
        *(pl.col(name) for name in (column("saturated", role), column("backlog_age_s", role))
          if name in frame.table.columns),
        *(own[info.signal].cast(pl.Float64).alias(column(info.signal, role)) for info in infos
          if info.family != "auxiliary"),
    )  # fmt: skip
    candidates = tuple(info for info in infos if info.family != "auxiliary")
    return replace(frame, reference="served", table=table, signals=candidates, gpu_types={role: (gpu_type,)})


def of_type(verdict: SignalVerdict, service: str, gpu_type: str) -> SignalVerdict:
    """Return the verdict of a type's frame as one of that type, with a link of its own."""
    what = f"{column(verdict.signal, verdict.role)}@{gpu_type}"
    return replace(verdict, gpu_type=gpu_type, evidence=evidence.path(service, "study", what))


def say_types(pool: SignalVerdict, types: Sequence[SignalVerdict]) -> SignalVerdict:
    """Return the pool's verdict with what its GPU types say where these disagree.

    Types disagree where the verdicts of those that were tested differ, or their elasticities by more than
    0.2. The pool's own verdict stays: it is about what the pool did as a whole.

    Parameters
    ----------
    pool
        Verdict over all types.
    types
        Verdicts of the same signal and role per type; fewer than two that were tested say nothing.
    """
    tested = [one for one in types if one.verdict != "unknown"]
    slopes = [one.elasticity for one in tested if one.elasticity is not None]
    gap = max(slopes) - min(slopes) if len(slopes) > 1 else 0.0
    if len(tested) < 2 or (len({one.verdict for one in tested}) == 1 and gap <= TYPES_APART):
        return pool
    text = "its GPU types disagree: " + ", ".join(_said(one) for one in tested)
    reason = Reason(CODE, f"{text}; one number over all of them moves with their share", gap, TYPES_APART)
    others = tuple(one for one in pool.reasons if one.code != CODE)
    return replace(pool, reasons=(*others, reason))


def _said(one: SignalVerdict) -> str:
    slope = "" if one.elasticity is None else f" (elasticity {one.elasticity:.2f})"
    return f"{one.gpu_type} {one.verdict}{slope}"
