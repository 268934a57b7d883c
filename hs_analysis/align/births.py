"""Births: instances that came inside the window, when each was asked for and when it first served."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hs_analysis.align.instances import of_pools
from hs_analysis.align.queries import QueryRunner, Samples
from hs_analysis.schema.frames import BIRTHS, check, empty

WORK = ("prefill_tps", "prefill_tps_effective", "decode_tps", "request_rate", "completion_rate")
"""Signals whose counters show that an instance serves."""

POD_CREATED = "kube_pod_created"
"""Gauge whose value is when a pod was created [s since 1970]; kube-state-metrics exports it by default."""

WANTED = "replicas_desired"
"""Signal that counts the instances asked for."""

BORN_AFTER_S, BORN_AFTER_SAMPLES = 120.0, 3
"""An instance first seen this much after its capture's first sample [s], and so many samples, came inside the
window: targets that are scraped late or miss their first scrapes are not called new. Default of this
project."""

_KEY = ["service", "capture", "role", "instance"]
_POOL = ["service", "capture", "role"]


def births_of(
    series: pl.DataFrame,
    samples: Samples,
    quality: pl.DataFrame,
    terms: pl.DataFrame,
    instances: pl.DataFrame,
    window_s: float,
    query: QueryRunner,
) -> pl.DataFrame:
    """Return the births of every service, a frame of contract BIRTHS sorted by its key.

    An instance was asked for when its pod was created, else at the rise of the wanted replicas that no
    earlier instance answered (`_matched`). Left out are an instance that never served; one that came when
    nothing else of its service was seen, as after a scrape gap, for its first sample is not its beginning;
    and one whose pod is older than the capture: it was there, and only its metrics came later.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    samples
        Frame of contract SAMPLES, or what the query runner takes for it.
    quality
        Result of the query ``ingest/series_quality``: first sample of each series.
    terms
        Term table.
    instances
        Result of the query ``align/instances``.
    window_s
        Width of a window [s].
    query
        Runs a shipped query.
    """
    work = _work(series, terms)
    new = _newcomers(series, quality, work)
    if new.is_empty():
        return empty(BIRTHS)
    served = work.join(new, _KEY, how="semi").with_columns(pl.lit("served").alias("shows"))
    created = (
        series.filter(pl.col("metric") == POD_CREATED)
        .select(
            "series_id", "service", "capture", pl.col("emitter_role").alias("role"), "instance",
            pl.lit("created").alias("shows"),
        )
        .join(new, _KEY, how="semi")
    )  # fmt: skip
    seen = query(
        "align/births",
        {},
        {"samples": samples, "watched": pl.concat([served.select(created.columns), created])},
    )
    seen = _watched(seen.drop_nulls(["first_sample_s", "first_served_s"]), instances, window_s)
    older = pl.col("created_s") < pl.col("begun").dt.epoch("us") / 1e6
    seen = seen.join(new, _KEY).filter(~older.fill_null(value=False))
    seen = seen.join(served.group_by(_KEY).agg(pl.col("interval_s").median()), _KEY).with_columns(
        pl.when(pl.col("created_s") <= pl.col("first_sample_s")).then(pl.col("created_s"))
    )
    replicas = terms.filter((pl.col("signal") == WANTED) & pl.col("gpu_group").is_null())
    changes = pl.DataFrame()
    if seen["created_s"].null_count() and not replicas.is_empty():
        wanted = replicas.select("series_id", *_POOL).unique()
        changes = query("align/replica_changes", {}, {"samples": samples, "replicas": wanted})
    return _table(seen, changes)


def _work(series: pl.DataFrame, terms: pl.DataFrame) -> pl.DataFrame:
    """Return the counters of work of every instance: series_id, the key of the instance, and interval_s."""
    counters = terms.filter(
        pl.col("signal").is_in(WORK)
        & (pl.col("read") == "rate")
        & (pl.col("side") == "num")
        & (pl.col("sign") > 0)
    )
    return (
        of_pools(series)
        .join(counters, "series_id", how="semi")
        .select(
            "series_id", "service", "capture", pl.col("emitter_role").alias("role"), "instance", "interval_s"
        )
        .sort("series_id")
    )  # fmt: skip


def _newcomers(series: pl.DataFrame, quality: pl.DataFrame, work: pl.DataFrame) -> pl.DataFrame:
    """Return the instances whose counters began clearly after their capture, and when that one began."""
    first = quality.select("series_id", "first_t").drop_nulls()
    begun = (
        series.drop_nulls("service")
        .join(first, "series_id")
        .group_by("service", "capture")
        .agg(pl.col("first_t").min().alias("begun"))
    )
    own = work.join(first, "series_id").group_by(_KEY)
    seen = own.agg(pl.col("first_t").min(), pl.col("interval_s").median()).join(begun, ["service", "capture"])
    late_s = (pl.col("first_t") - pl.col("begun")).dt.total_microseconds() / 1e6
    samples_s = BORN_AFTER_SAMPLES * pl.col("interval_s").fill_null(0.0)
    return seen.filter(late_s > pl.max_horizontal(pl.lit(BORN_AFTER_S), samples_s)).select(*_KEY, "begun")


def _watched(seen: pl.DataFrame, instances: pl.DataFrame, window_s: float) -> pl.DataFrame:
    """Keep the instances before whose first sample some instance of the service was seen."""
    present = (
        instances.filter(pl.col("gpu_group").is_null() & (pl.col("instances") > 0))
        .select("service", "capture", "t")
        .unique()
    )
    before = ((pl.col("first_sample_s") / window_s).ceil() - 2) * window_s
    return seen.with_columns(before.alias("t")).join(present, ["service", "capture", "t"], how="semi")


def _table(seen: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    """Return the contract's rows: creation of the pod first, the rise of the wanted replicas else."""
    raised: dict[tuple[str, ...], float] = {}
    if not changes.is_empty():
        for pool, born in seen.sort("first_sample_s", *_KEY).group_by(_POOL, maintain_order=True):
            own = changes.filter(
                pl.all_horizontal(pl.col(name) == value for name, value in zip(_POOL, pool, strict=True))
            )
            raised |= {(*map(str, pool), name): at for name, at in _matched(born, own)}
    rows = []
    for row in seen.iter_rows(named=True):
        created = row["created_s"]
        asked = created if created is not None else raised.get(tuple(row[name] for name in _KEY))
        rows.append(
            {name: row[name] for name in _KEY}
            | {"asked": _us(asked), "first_sample": _us(row["first_sample_s"])}
            | {"asked_by": None if asked is None else "replicas" if created is None else "pod_created"}
            | {"first_served": _us(row["first_served_s"]), "resolution_s": row["interval_s"]}
        )
    kinds = empty(BIRTHS).schema
    moments = [name for name, kind in kinds.items() if kind == pl.Datetime("us", "UTC")]
    table = pl.DataFrame(rows, schema={**kinds, **dict.fromkeys(moments, pl.Int64)})
    return check(table.with_columns(pl.col(moments).cast(pl.Datetime("us", "UTC"))).sort(_KEY), BIRTHS)


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _matched(born: pl.DataFrame, changes: pl.DataFrame) -> Iterator[tuple[str, float]]:
    """Yield (instance, when it was asked for) of one pool: first asked for, first served.

    A fall of the wanted number takes back the latest request that no instance has answered yet; one that
    finds none ends an instance, which asks for nothing. An instance that finds no open request took
    another's place and yields nothing.

    Parameters
    ----------
    born
        Instances with first_sample_s, in that order.
    changes
        Result of the query ``align/replica_changes`` for the pool.
    """
    open_since: list[float] = []
    events = [(row["at_s"], 0, row["change"], "") for row in changes.iter_rows(named=True)]
    events += [(row["first_sample_s"], 1, 0.0, row["instance"]) for row in born.iter_rows(named=True)]
    for at, _, change, instance in sorted(events):
        if instance:
            if open_since:
                yield instance, open_since.pop(0)
        elif change > 0:
            open_since += [at] * round(change)
        else:
            del open_since[max(0, len(open_since) - round(-change)) :]
