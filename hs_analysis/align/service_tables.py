"""The tables of an aligned service: wide for its frame, long for disk, and what is known of each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

import polars as pl

from hs_analysis.align.limit_shares import HIGH, LEAST, LOW, OTHER, OVER
from hs_analysis.catalogue import WORKED_OUT, Catalogue
from hs_analysis.errors import InputError
from hs_analysis.schema.aligned import (
    POOL_ROLES,
    REQUESTS,
    ServiceFrame,
    SignalInfo,
    column,
    served_signal,
)
from hs_analysis.schema.constants import SUSTAINED_S

DERIVED = {one.id: one.unit for one in WORKED_OUT}
"""Quantities that alignment works out, and their units."""

GRID_SLACK = 0.01
"""How far a row may lie off its window and still be in it [ratio of a window]; default of this project."""

OFFERED = ("offered_tps", "offered_tps_trailing")
"""Those that count work, in the unit of what is counted."""

SHARE_SIGNALS = tuple(
    f"{latency}_{ending}" for latency in ("ttft", "tbt") for ending in (LOW, HIGH, OVER, LEAST, OTHER)
)
"""Shares of samples over a limit and over the histogram edges about it."""


def signal_infos(
    table: pl.DataFrame,
    sources: pl.DataFrame,
    terms: pl.DataFrame,
    quality: pl.DataFrame,
    catalogue: Catalogue,
    usual_s: float,
) -> tuple[SignalInfo, ...]:
    """Return one entry per column other than capture and t, in column order.

    Parameters
    ----------
    table
        The service's wide table.
    sources
        Chosen sources of the service (signal, role, source, preference).
    terms
        Term table of the service.
    quality
        Frame of `ingest.quality.quality_frame`.
    catalogue
        Unit, pool and family of the signals.
    usual_s
        Interval of what has none of its own [s].
    """
    chosen = {
        (row["signal"], row["role"]): (row["source"], row["preference"])
        for row in sources.iter_rows(named=True)
    }
    queues = [one.id for one in catalogue.signals if one.family == "queue"]
    effective = _effective_intervals(terms, quality, queues)
    counted = served_signal(table, "mixed")  # of a single pool; its only count of work is a candidate too
    infos = []
    for name in table.columns:
        if name in ("capture", "t"):
            continue
        signal, role = name.split("@")
        source, preference = chosen.get((signal, role), ("derived", None))
        interval = effective.get((signal, role, preference)) or usual_s
        share = 1.0 - table[name].null_count() / table.height
        unit, pool, family = _catalogued(signal, preference, catalogue)
        if (signal, role) == counted and counted in REQUESTS:
            family = "load"
        elif signal in OFFERED and role == "mixed" and counted in REQUESTS:
            unit = "requests/s"
        infos.append(
            SignalInfo(
                signal=signal,
                role=role,
                source=source,
                unit=unit,
                pool=pool,
                family=family,
                interval_s=float(interval),
                coverage=share,
            )
        )
    return tuple(infos)


def _catalogued(
    signal: str, preference: int | None, catalogue: Catalogue
) -> tuple[str, Literal["sum", "mean", "ratio"], str]:
    known = catalogue.signal(signal)
    if known:
        chosen = known.sources[preference] if preference is not None else None
        return known.unit, (chosen.pool if chosen else None) or known.pool, known.family
    return DERIVED.get(signal, "ratio"), "ratio" if signal in SHARE_SIGNALS else "sum", "auxiliary"


def _effective_intervals(
    terms: pl.DataFrame, quality: pl.DataFrame, queues: Sequence[str]
) -> dict[tuple[str, str, int], float | None]:
    """Return the median effective interval of a signal's series: a gauge's copies carry no news.

    A queue that reads 0 for hours is no copy: it was looked at and found empty at every scrape. Nor is any
    other gauge that stands for longer than a load is averaged over (``SUSTAINED_S``): no collector waits so
    long, and it is flat.
    """
    copied = (pl.col("news_s") <= SUSTAINED_S) & ~pl.col("signal").is_in(queues)
    news = pl.when((pl.col("read") == "gauge") & copied).then("news_s")
    spacing = (
        terms.filter(pl.col("side") == "num")
        .join(quality, "series_id")
        .with_columns(pl.max_horizontal("interval_s", news).alias("effective"))
        .group_by("signal", "role", "preference")
        .agg(pl.col("effective").median())
    )
    return {
        (row["signal"], row["role"], row["preference"]): row["effective"]
        for row in spacing.iter_rows(named=True)
    }


READY = "replicas_ready"
"""Signal that counts instances where none of them reports itself."""


def instants() -> pl.Expr:
    """Return the column t, Unix seconds, as UTC timestamps in whole microseconds."""
    microseconds = (pl.col("t") * 1e6).round().cast(pl.Int64)
    return pl.from_epoch(microseconds, time_unit="us").dt.replace_time_zone("UTC").alias("t")


def wide_table(own: pl.DataFrame, counts: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """Return the regular grid per capture with one column per ``signal@role``.

    Parameters
    ----------
    own
        Chosen rows of one service over all GPU types (capture, t [s], signal, role, value).
    counts
        Reporting instances of the service over all GPU types (capture, t [s], role, instances).
    window_s
        Width of a window [s].

    Returns
    -------
    Frame sorted by capture and t; no rows when nothing has a value. Where no instance of a pool reports, its
    ready replicas count.
    """
    named = own.select("capture", "t", (pl.col("signal") + "@" + pl.col("role")).alias("name"), "value")
    counted = counts.select(
        "capture", "t", ("instances@" + pl.col("role")).alias("name"), pl.col("instances").alias("value")
    )
    ready = named.filter(pl.col("name").str.starts_with(f"{READY}@")).with_columns(
        pl.col("name").str.replace(f"{READY}@", "instances@", literal=True)
    )
    fallback = ready.filter(~pl.col("name").is_in(counted["name"].unique().to_list()))
    values = pl.concat([named, counted, fallback])
    values = values.filter(pl.col("value").is_not_null().any().over("name"))
    if values.is_empty():
        return pl.DataFrame(schema={"capture": pl.String, "t": pl.Datetime("us", "UTC")})
    columns = values.pivot("name", index=["capture", "t"], values="value", sort_columns=True)
    wide = _grid(values, window_s).join(columns, ["capture", "t"], how="left").sort("capture", "t")
    order = ["capture", "t", *sorted(c for c in wide.columns if c not in ("capture", "t"))]
    return wide.select(order).with_columns(instants())


def _grid(values: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """Return every window from the first to the last of each capture."""
    bounds = values.group_by("capture").agg(pl.col("t").min().alias("first"), pl.col("t").max().alias("last"))
    slots = ((pl.col("last") - pl.col("first")) / window_s).round().cast(pl.Int64) + 1
    return (
        bounds.sort("capture")
        .with_columns(pl.int_ranges(0, slots).alias("slot"))
        .explode("slot")
        .select("capture", (pl.col("first") + pl.col("slot") * window_s).alias("t"))
    )


def long_table(frame: ServiceFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Return the service's rows of contract SIGNALS: chosen signals, per GPU type too, and derived ones."""
    measured = own.select(
        "service", "capture", "role", pl.col("gpu_group").alias("gpu_type"), "signal", "source", instants(),
        pl.lit(frame.window_s).alias("window_s"), "value", "instances", "coverage",
    )  # fmt: skip
    derived = [_derived(frame, info.signal, info.role) for info in frame.signals if info.signal in DERIVED]
    return _sorted(pl.concat([measured, *derived]), ["capture", "role", "signal", "gpu_type"])


def _sorted(rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Return the rows sorted by some names, nulls first, and then by t.

    Rows of the same names follow one another: texts are compared once per stretch of them, not per row.
    """
    rows = rows.with_columns(pl.struct(names).rle_id().alias("stretch"))
    stretches = rows.group_by("stretch").agg(pl.col(names).first()).sort(names, nulls_last=False)
    places = stretches.select("stretch", pl.struct(names).rle_id().alias("place"))
    placed = rows.join(places, "stretch", how="left", maintain_order="left")
    return placed.sort("place", "t").drop("stretch", "place")


def _derived(frame: ServiceFrame, signal: str, role: str) -> pl.DataFrame:
    value = pl.col(column(signal, role)).cast(pl.Float64)
    counted = frame.has("instances", role)
    instances = pl.col(column("instances", role)) if counted else pl.lit(None)
    return frame.table.select(
        pl.lit(frame.service).alias("service"), "capture", pl.lit(role).alias("role"),
        pl.lit(None, pl.String).alias("gpu_type"), pl.lit(signal).alias("signal"),
        pl.lit("derived").alias("source"), "t", pl.lit(frame.window_s).alias("window_s"),
        value.alias("value"), instances.cast(pl.Float64).alias("instances"),
        value.is_not_null().cast(pl.Float64).alias("coverage"),
    )  # fmt: skip


def frame_of(
    table: pl.DataFrame,
    catalogue: Catalogue,
    service: str = "default",
    kind: Literal["production", "pressure_test"] = "production",
    gpus_per_instance: Mapping[str, float] | None = None,
) -> ServiceFrame:
    """Return the frame of a service from a table that is aligned already.

    Parameters
    ----------
    table
        One row a window: ``t`` (its start, with a time zone), optionally ``capture``, and a column of numbers
        in the catalogue's unit per ``signal@role``. Missing is null. Windows that have no row get one.
    catalogue
        Unit, pool and family of the signals.
    service
        ``namespace/model``.
    kind
        ``pressure_test`` where somebody set the load on purpose.
    gpus_per_instance
        GPUs of one instance per role, where they are known.

    Raises
    ------
    InputError
        For a table without ``t`` or signals, a column that is no signal of the catalogue, times without a
        zone, two rows of one window, and rows that are on no regular grid.
    """
    names = [name for name in table.columns if name not in ("capture", "t")]
    _check_columns(table, names, catalogue)
    capture = pl.col("capture") if "capture" in table.columns else pl.lit("").alias("capture")
    moment = (pl.col("t").dt.epoch("us") / 1e6).alias("t")
    values = table.select(capture, moment, *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in names))
    window_s = _window_s(values)
    wide = _grid(values, window_s).with_columns(instants())
    whole = wide.join(values.with_columns(instants()), ["capture", "t"], how="left").sort("capture", "t")
    infos = []
    for name in names:
        signal, role = name.split("@")
        share = 1.0 - whole[name].null_count() / whole.height
        infos.append(
            SignalInfo(signal, role, "given", *_catalogued(signal, None, catalogue), window_s, share)
        )
    offered = any(info.signal == "offered_tps" and info.coverage > 0 for info in infos)
    return ServiceFrame(
        service, window_s, kind, "offered" if offered else "served", whole, tuple(infos),
        dict(gpus_per_instance or {}), {},
    )  # fmt: skip


def _check_columns(table: pl.DataFrame, names: Sequence[str], catalogue: Catalogue) -> None:
    if table.is_empty() or not names:
        what = "it has no rows" if names else "it has no column named signal@role"
        raise InputError(what, where="table", hint="give t and e.g. decode_tps@decode, one row a window")
    kind = table.schema.get("t")
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        what = f"expected times with a zone, found {kind}" if kind else "no such column"
        raise InputError(what, where="table, column t", hint=_hint_of_times(table))
    known = [*(signal.id for signal in catalogue.signals), *DERIVED, *SHARE_SIGNALS]
    for name in names:
        signal, _, role = name.partition("@")
        if signal not in known or role not in (*POOL_ROLES, "service"):
            near = get_close_matches(signal, known, n=1)
            listed = "hsa signals lists them, the load is offered_tps@decode"
            hint = f"did you mean {near[0]}@decode?" if near and near[0] != signal else listed
            raise InputError("no signal@role of the catalogue", where=f"table, column {name}", hint=hint)
        if not table.schema[name].is_numeric():
            raise InputError(f"expected numbers, found {table.schema[name]}", where=f"table, column {name}")


def _hint_of_times(table: pl.DataFrame) -> str:
    """Return what makes times of windows of what the table has."""
    if "t" not in table.columns:
        times = next((name for name, kind in table.schema.items() if kind.is_temporal()), "COLUMN")
        return f'table.rename({{"{times}": "t"}})'
    if table.schema["t"] == pl.String:
        return 'pl.col("t").str.to_datetime(time_zone="UTC")'
    return 'pl.col("t").dt.replace_time_zone("UTC")'


def _window_s(values: pl.DataFrame) -> float:
    """Return the width of a window: the least step between two rows, which all others are multiples of."""
    steps = values.sort("capture", "t").select(pl.col("t").diff().over("capture").alias("step"))["step"]
    known = steps.drop_nulls()
    if known.is_empty() or not known.min():
        what = "two rows have the same capture and t" if known.len() else "one row makes no history"
        raise InputError(what, where="table, column t", hint="give one row a window")
    least = float(str(known.min()))
    apart = (known / least - (known / least).round()).abs()
    if (apart > GRID_SLACK).any():
        raise InputError(
            f"rows are on no regular grid: the least step is {least:g} s, others are no multiple of it",
            where="table, column t",
            hint='table.group_by_dynamic("t", every="1m").agg(pl.all().mean()) makes one',
        )
    return least
