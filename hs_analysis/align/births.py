"""Births: instances that came inside the window, when each was asked for and when it first served."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl

from hs_analysis.align.lives import least_s
from hs_analysis.align.queries import QueryRunner, Samples
from hs_analysis.schema.frames import BIRTHS, check, empty

WANTED = "replicas_desired"
"""Signal that counts the instances asked for."""

_KEY = ["service", "capture", "role", "instance"]
_POOL = ["service", "capture", "role"]

_SIGNS = {"up": "target", "process": "process"}
"""What tells the start of a life → what says, then, when an instance was asked for."""


def births_of(lives: pl.DataFrame, samples: Samples, terms: pl.DataFrame, query: QueryRunner) -> pl.DataFrame:
    """Return the births of every service, a frame of contract BIRTHS sorted by its key and time.

    An instance was asked for when its pod was created, else at the rise of the wanted replicas that no
    earlier instance answered (`_matched`), else when its scrape target became known, else when its process
    started. Left out are an instance that never served; a process that started again at once in its place;
    and one that came while its capture was not recorded, for its first sample is not its beginning.

    Parameters
    ----------
    lives
        Frame of contract LIVES.
    samples
        Frame of contract SAMPLES, or what the query runner takes for it.
    terms
        Term table.
    query
        Runs a shipped query.
    """
    rows = lives.filter(pl.col("watched") & pl.col("served").is_not_null()).to_dicts()
    born = [row for row in rows if row["away_s"] is None or row["away_s"] > least_s(row["resolution_s"])]
    if not born:
        return empty(BIRTHS)
    replicas = terms.filter((pl.col("signal") == WANTED) & pl.col("gpu_group").is_null())
    changes = pl.DataFrame()
    if any(row["created"] is None for row in born) and not replicas.is_empty():
        wanted = replicas.select("series_id", *_POOL).unique()
        changes = query("align/replica_changes", {}, {"samples": samples, "replicas": wanted})
    return _table(pl.DataFrame(born, schema=lives.schema), changes)


def _table(born: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    """Return the contract's rows: the creation of the pod first, the rise of the wanted replicas next."""
    raised: dict[tuple[object, ...], float] = {}
    born = born.with_columns(pl.col("ready").dt.epoch("us").truediv(1e6).alias("first_sample_s"))
    if not changes.is_empty():
        for pool, own in born.sort("first_sample_s", *_KEY).group_by(_POOL, maintain_order=True):
            mine = changes.filter(
                pl.all_horizontal(pl.col(name) == value for name, value in zip(_POOL, pool, strict=True))
            )
            raised |= {(*pool, name, at): asked for name, at, asked in _matched(own, mine)}
    rows = []
    for row in born.iter_rows(named=True):
        by = _SIGNS.get(row["started_by"])
        asked = row["started"] if by else None
        replicas = raised.get((*(row[name] for name in _KEY), row["first_sample_s"]))
        if row["created"] is not None:
            asked, by = row["created"], "pod_created"
        elif replicas is not None:
            asked, by = datetime.fromtimestamp(replicas, UTC), "replicas"
        rows.append(
            {name: row[name] for name in _KEY}
            | {"asked": asked, "asked_by": by, "first_sample": row["ready"], "first_served": row["served"]}
            | {"resolution_s": row["resolution_s"]}
        )
    return check(pl.DataFrame(rows, schema=empty(BIRTHS).schema).sort(*_KEY, "first_sample"), BIRTHS)


def _matched(born: pl.DataFrame, changes: pl.DataFrame) -> Iterator[tuple[str, float, float]]:
    """Yield (instance, its first sample, when it was asked for) of one pool: first asked for, first served.

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
                yield instance, at, open_since.pop(0)
        elif change > 0:
            open_since += [at] * round(change)
        else:
            del open_since[max(0, len(open_since) - round(-change)) :]
