"""Checks of instances: who came and went, stopped to answer, stands still, or does no work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import polars as pl

from hs_analysis.doctor.context import DoctorContext, Finding
from hs_analysis.doctor.input_checks import listed, number, time_text
from hs_analysis.schema.aligned import OUTPUT_TOKENS, POOL_ROLES, PROMPT_TOKENS, REQUESTS
from hs_analysis.schema.constants import HOUR_S
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import IDLE_INSTANCES

ENDED_STEPS, ENDED_S = 5.0, 120.0
"""A series that ends so many steps and so long [s] before its instance does has ended."""

ENOUGH_ROWS = 10
"""Samples of a series below which its end says nothing [count]; default of this project."""

MOST_NAMED = 5
"""Instances that a sentence names [count]; all are in data/lives.parquet."""

FROZEN_BY = {
    "up": "its target does not answer (up is 0), and samples come all the same",
    "clock": "even what moves at every scrape, as its uptime, does not move",
    "peers": "the others of its pool move on",
}
"""What tells that an instance is frozen, in words."""

_PROMPTS = tuple(signal for signal, _ in reversed(PROMPT_TOKENS))
_OUTPUTS = tuple(signal for signal, _ in OUTPUT_TOKENS)
_LAST = (*(signal for signal, _ in REQUESTS), "running")
WORK = {
    "prefill": (*_PROMPTS, *_LAST),
    "decode": (*_OUTPUTS, *_LAST),
    "mixed": (*_OUTPUTS, *_PROMPTS, *_LAST),
}
"""What an instance's share of its pool's work is told by, the best first. Raw prompt tokens come before those
that missed the cache: an instance that finds them there is not idle."""

IDLE_SHARE = 0.1
"""Work below so much of the pool's mean per instance is none [ratio]; default of this project."""

IDLE_ROWS = 0.9
"""An idle instance does none in so much of its time, when its pool works [ratio]; default of this project."""

WORKING_SHARE = 0.2
"""A pool works where it does so much of its mean work [ratio]; default of this project."""

IDLE_LEAST_S = 3600.0
"""Time with others of a working pool that judges an instance [s]; default of this project."""

SPARSE_ROWS = 0.5
"""Where even the busy do none in so much of their time, no share tells [ratio]; default of this project."""

_KEY = ["service", "capture", "role", "instance"]


def fleet(context: DoctorContext) -> list[Finding]:
    """Instances that were not there all the time: they came, went, or started again under the same name."""
    found = []
    for (service, role), lives in context.lives.sort(_KEY).group_by("service", "role", maintain_order=True):
        total = lives.select("capture", "instance").unique().height
        moved = lives.filter(pl.col("started").is_not_null() | pl.col("ended").is_not_null())
        part = moved.select("capture", "instance").unique().height
        text = f"all {total} {role} instances were there from start to end: nothing scaled"
        if part:
            text = (
                f"{part} of {total} {role} instances came or went: {_moved_instances(moved)}; "
                "they count only while they report, and a last value is no zero"
            )
        found.append(Finding("fleet", "pass", text, service=str(service), value=float(part)))
    return sorted(found, key=lambda one: (one.service, one.text))


def _moved_instances(moved: pl.DataFrame) -> str:
    """Name the first instances that came or went, with the times."""
    words = []
    for (capture, instance), lives in moved.sort("life").group_by("capture", "instance", maintain_order=True):
        rows = lives.to_dicts()
        events = (
            [f"came by {time_text(rows[0]['ready'])}"] if rows[0]["ready"] and rows[0]["life"] == 1 else []
        )
        events += [
            f"was away from {time_text(one['ended'])} to {time_text(later['ready'])}"
            for one, later in pairwise(rows)
            if one["ended"] and later["ready"]
        ]
        events += [f"ended at {time_text(rows[-1]['ended'])}"] if rows[-1]["ended"] else []
        name = f"{capture}/{instance}" if capture else str(instance)
        words.append(f"{name} {' and '.join(events)}")
    more = f"; and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return "; ".join(words[:MOST_NAMED]) + more


def ended(context: DoctorContext) -> list[Finding]:
    """Instances that stopped to answer for good, and signals that end while their instance goes on."""
    newest = context.lives.sort("life").group_by(_KEY, maintain_order=True).last()
    dead = newest.filter(pl.col("ended").is_not_null() & (pl.col("ended_by") == "up")).sort(_KEY)
    found = [
        Finding(
            "ended", "warn",
            f"{row['instance']} ({row['role']}) does not answer from {time_text(row['ended'])} on: "
            "its target is known (up is 0) and its series end; it counts no more",
            service=row["service"], start=row["ended"],
        )
        for row in dead.iter_rows(named=True)
    ]  # fmt: skip
    return found + [
        Finding(
            "ended", "warn",
            f"{row['instance']} ({row['role']}) ends its {listed(row['metrics'])} ({listed(row['signals'])}) "
            f"at {time_text(row['last'])} while its other series go on to {time_text(row['over'])}; "
            "the others of its pool represent it",
            service=row["service"], start=row["last"], end=row["over"],
        )
        for row in _ended_signals(context).iter_rows(named=True)
    ]  # fmt: skip


def _ended_signals(context: DoctorContext) -> pl.DataFrame:
    """Return what of an instance ends before the instance does, and not in the whole pool; a row a moment.

    A series whose signal goes on under another name or identity from then on has not ended.
    """
    rows = (
        context.series.filter(
            pl.col("signal").is_not_null()
            & pl.col("service").is_not_null()
            & pl.col("instance").is_not_null()
            & pl.col("emitter_role").is_in(POOL_ROLES)
            & ~pl.col("source").is_in(["prometheus", "ksm", "node"])
            & ~pl.col("metric").str.ends_with("_bucket")
        )
        .join(context.quality.drop("interval_s"), "series_id")
        .rename({"emitter_role": "role"})
    )
    slack = pl.max_horizontal(pl.lit(ENDED_S), ENDED_STEPS * pl.col("interval_s").fill_null(60.0))
    judged = rows.with_columns(
        pl.duration(seconds=slack).alias("slack"),
        pl.col("last_t").max().over(_KEY).alias("over"),
        pl.col("first_t").max().over([*_KEY, "signal"]).alias("newest"),
    ).with_columns(
        (
            (pl.col("last_t") < pl.col("over") - pl.col("slack"))
            & (pl.col("newest") < pl.col("last_t") - pl.col("slack"))
            & (pl.col("rows") >= ENOUGH_ROWS)
        ).alias("early")
    )
    by_instance = judged.group_by(*_KEY, "signal", "metric").agg(
        pl.col("early").any(), pl.col("last_t").filter("early").max().alias("last"), pl.col("over").first()
    )
    some = ~pl.col("early").all().over("service", "capture", "role", "metric")
    return (
        by_instance.filter(pl.col("early") & some)
        .group_by(*_KEY, "last")  # a target loses all that it exports at once
        .agg(pl.col("metric").alias("metrics"), pl.col("signal").alias("signals"), pl.col("over").first())
        .sort(*_KEY, "last")
    )


def frozen(context: DoctorContext) -> list[Finding]:
    """Instances and gauges whose last value is repeated after they had gone."""
    found = []
    for row in context.frozen_series.iter_rows(named=True):
        what = f"{row['metric']} of {row['instance']}" if row["metric"] else f"{row['instance']}"
        role = "" if row["metric"] else f" ({row['role']})"
        text = (
            f"{what}{role} does not move from {time_text(row['after'])} to {time_text(row['until'])}: "
            f"{FROZEN_BY[row['told_by']]}; what repeats is null in {row['series']} series and feeds no signal"
        )
        found.append(
            Finding(
                "frozen", "warn", text, service=row["service"],
                value=(row["until"] - row["after"]).total_seconds(), start=row["after"], end=row["until"],
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class IdlePool:
    """Instances of a pool that do next to none of its work while the others work.

    ``names`` are theirs, of ``count`` there were; ``done_ratio`` is their share of the work that ``signal``
    counts, ``fair_ratio`` what it were if all did alike, in the ``hours`` from ``start`` to ``end`` in which
    they can be compared.
    """

    service: str
    role: str
    names: tuple[str, ...]
    count: int
    signal: str
    done_ratio: float
    fair_ratio: float
    hours: float
    start: datetime
    end: datetime

    @property
    def short(self) -> str:
        """How many are idle."""
        return f"{len(self.names)} of {self.count} {self.role}"

    @property
    def sentence(self) -> str:
        """Who is idle, how much they did, and what were fair."""
        return (
            f"{len(self.names)} of {self.count} {self.role} instances ({listed(self.names, MOST_NAMED)}) did "
            f"{percent(self.done_ratio)} of the work ({self.signal}) in {self.hours:.3g} h, where a fair "
            f"share is {percent(self.fair_ratio)}"
        )


def idle(context: DoctorContext) -> list[Finding]:
    """Instances that get next to none of their pool's work while the others work."""
    remedy = (
        "capacity and counts per instance rest on instances that share the load; look at the router (session "
        "affinity, cache-aware routing, one round-robin over two pools), or leave out what is no part of the "
        "pool, as ignore under [roles]"
    )
    return [
        Finding(
            IDLE_INSTANCES, "warn", f"{one.sentence}: {remedy}", service=one.service, value=one.done_ratio,
            start=one.start, end=one.end,
        )
        for one in idle_pools(context.instances)
    ]  # fmt: skip


def idle_pools(instances: pl.DataFrame) -> list[IdlePool]:
    """Return the pools with idle instances.

    Parameters
    ----------
    instances
        Rows of the contract INSTANCES; a value that is missing is no zero.
    """
    found = []
    for service, role in instances.select("service", "role").unique().sort("service", "role").rows():
        own = (pl.col("service") == service) & (pl.col("role") == role)
        counted = instances.filter(own & pl.col("signal").is_in(WORK[role]) & (pl.col("value") >= 0))
        moving = set(counted.filter(pl.col("value") > 0)["signal"].unique())
        signal = next((one for one in WORK[role] if one in moving), "")
        rows = counted.filter(pl.col("signal") == signal).select("capture", "instance", "t", "value")
        alone = _work_of_each(rows).filter("idle")
        if alone.is_empty():
            continue
        moments = alone.unique(["capture", "t"], maintain_order=True)
        work, done, fair = (
            number(column.sum()) for column in (moments["total"], alone["value"], alone["mean"])
        )
        names = tuple(sorted(alone["instance"].unique()))
        times = alone.select(
            pl.col("t").min(), (pl.col("t") + pl.duration(seconds="row_s")).max().alias("end")
        )
        start, end = times.row(0)
        found.append(
            IdlePool(
                service, role, names, rows["instance"].n_unique(), signal, done / work, fair / work,
                number(moments["row_s"].sum()) / HOUR_S, start, end,
            )
        )  # fmt: skip
    return found


def _work_of_each(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the work of each instance where it can be compared, beside that of its pool, and who is idle.

    Compared is where a pool works and two of its instances or more report; no value is no zero.
    """
    place, pool = ["capture", "t"], ["capture"]
    return (
        rows.with_columns(
            pl.col("value").sum().over(place).alias("total"),
            pl.col("value").mean().over(place).alias("mean"),
            pl.len().over(place).alias("reporting"),
            pl.col("t").unique().sort().diff().min().dt.total_seconds().over(pool).alias("row_s"),
        )
        .filter(pl.col("reporting") > 1)
        .filter(pl.col("total") > WORKING_SHARE * pl.col("total").mean().over(pool))
        .with_columns((pl.col("value") < IDLE_SHARE * pl.col("mean")).alias("none"))
        .with_columns(
            (
                (pl.col("row_s").sum() >= IDLE_LEAST_S)
                & (pl.col("none").mean() >= IDLE_ROWS)
                & (pl.col("value").sum() < IDLE_SHARE * pl.col("mean").sum())
            )
            .over("capture", "instance")
            .alias("idle")
        )
        .with_columns(
            pl.col("idle") & (pl.col("none").filter(~pl.col("idle")).mean() < SPARSE_ROWS).over(pool)
        )
    )
