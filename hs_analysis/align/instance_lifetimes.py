"""Lifetimes: when each instance was asked for, started, was ready, first served and ended.

Every series that speaks of an instance is a sign of it, whatever it counts, and so is the scrape target's own
``up``. One process is one life: an instance whose counters begin anew, or whose series come under a new
identity, has started again, and one that was away for long while its capture was recorded has ended and come
back. A pause in which its counters count on is a hole in the record and no end; a pause of the whole capture
says nothing of any instance.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl

from hs_analysis.align.counters import MomentSet, merged_times
from hs_analysis.align.instances import NOT_REPORTERS, gpu_exporters, of_pools
from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.frames import BIRTHS, GAP_INTERVALS, LIVES, check, empty
from hs_analysis.schema.runners import QueryRunner, SampleTable

WORK = ("prefill_tps", "prefill_tps_effective", "decode_tps", "request_rate", "completion_rate")
"""Signals whose counters show that an instance serves; without any, every counter of its engine does."""

POD_CREATED = "kube_pod_created"
"""Gauge whose value is when a pod was created [s since 1970]; kube-state-metrics exports it by default."""

PROCESS_STARTED = "process_start_time_seconds"
"""Gauge whose value is when a process started [s since 1970]; Prometheus's client libraries export it."""

UPTIMES = ("dynamo_component_uptime_seconds",)
"""Gauges whose value is how long a process has run [s]."""

SCRAPE_UP = "up"
"""Prometheus's own series of a scrape target: 1 when it answered, 0 when it did not."""

CHANGED_AFTER_S, CHANGED_AFTER_SAMPLES = 120.0, 3
"""An instance first seen this much after its capture's first sample [s], and so many samples, came inside the
window, and one last seen so long before its last sample ended: targets that are scraped late or miss their
first scrapes are not called new. Default of this project."""

TOGETHER_INTERVALS = 1.5
"""Falls of counters within so many intervals of each other are one restart: a pod's targets are scraped one
after the other."""

WATCHED_SHARE = 0.5
"""Share of a pause in which the capture must have been recorded for the pause to say something [ratio]."""

DOWN_SAMPLES = 2
"""Samples of ``up`` at 0 that end an instance; a single one may be a failed scrape."""

LIKE_TIMES = 4
"""Series of a capture whose moments are kept for comparison [count]: those of one target lie together."""

_KEY = ("service", "capture", "role", "instance")

Key = tuple[str, str, str, str]
"""Service, capture, role and instance."""

RangeS = tuple[float, float]
"""Two moments [s since 1970, UTC]."""


def lifetime_signs(
    series: pl.DataFrame, terms: pl.DataFrame, catalogue: Catalogue, usual_s: float
) -> pl.DataFrame:
    """Return the series that tell of the lives of instances, and what each tells.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    terms
        Term table: which counters count work.
    catalogue
        Which exporters watch GPUs, and the metrics that move whatever an engine does.
    usual_s
        Interval of a series that has none of its own [s].

    Returns
    -------
    Frame (series_id, service, capture, role, instance, metric, interval_s, tells): ``work``, ``counter`` or
    ``sample`` for an instance's own series, ``up`` for its target, ``created``, ``process`` and ``uptime``
    for what tells a start. GPU exporters report on while an engine is down: they count only where an instance
    has nothing else. Buckets are left out: their _count says the same. So is what has no name or the name of
    a recording rule, which goes on after its inputs have ended.
    """
    own = (
        of_pools(series)
        .filter(~pl.col("metric").str.ends_with("_bucket"))
        .join(_work(terms), "series_id", how="left")
        .with_columns(_sign_of(catalogue).alias("tells"), pl.col("interval_s").fill_null(usual_s))
        .drop_nulls("tells")
        .select(
            "series_id", "service", "capture", pl.col("emitter_role").alias("role"), "instance", "metric",
            "interval_s", "tells", "source",
        )
    )  # fmt: skip
    gpus = pl.col("source").is_in(list(gpu_exporters(catalogue)))
    engines = own.filter(pl.col("tells").is_in(["work", "counter", "sample"]) & ~gpus)
    alone = own.filter(gpus).join(engines, list(_KEY), how="anti")
    return pl.concat([own.filter(~gpus), alone]).drop("source").sort("series_id")


def _work(terms: pl.DataFrame) -> pl.DataFrame:
    """Return the series whose increase is work done."""
    counters = terms.filter(
        pl.col("signal").is_in(WORK)
        & (pl.col("read") == "rate")
        & (pl.col("side") == "num")
        & (pl.col("sign") > 0)
    )
    return counters.select("series_id", pl.lit(value=True).alias("works")).unique()


def _sign_of(catalogue: Catalogue) -> pl.Expr:
    metric, source = pl.col("metric"), pl.col("source")
    others = source.is_in(NOT_REPORTERS)
    nameless = (metric == "") | ((source == "prometheus") & metric.str.contains(":", literal=True))
    # What Prometheus writes of a target is there while the target is not.
    of_target = metric.str.starts_with("scrape_") | source.is_in(["ksm", "node"]) | nameless
    idle = others | metric.is_in(list(catalogue.clock_like)) | metric.str.ends_with("_created")
    return (
        pl.when(metric == SCRAPE_UP).then(pl.lit("up"))
        .when(metric == POD_CREATED).then(pl.lit("created"))
        .when(of_target).then(None)
        .when(metric == PROCESS_STARTED).then(pl.lit("process"))
        .when(metric.is_in(UPTIMES)).then(pl.lit("uptime"))
        .when(pl.col("works").fill_null(value=False)).then(pl.lit("work"))
        .when((pl.col("kind") == "counter") & ~idle).then(pl.lit("counter"))
        .otherwise(pl.lit("sample"))
    )  # fmt: skip


@dataclass
class _Sightings:
    """What the series of an instance showed; moments in seconds since 1970, UTC."""

    interval_s: float = np.inf
    seen: MomentSet = field(default_factory=MomentSet)
    work: MomentSet = field(default_factory=MomentSet)
    counts: MomentSet = field(default_factory=MomentSet)
    up: np.ndarray = field(default_factory=lambda: np.empty(0))
    down: np.ndarray = field(default_factory=lambda: np.empty(0))
    created: np.ndarray = field(default_factory=lambda: np.empty(0))
    processes: np.ndarray = field(default_factory=lambda: np.empty(0))
    falls: list[RangeS] = field(default_factory=list)
    families: dict[str, list[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def moments(self) -> np.ndarray:
        """Samples of its own series."""
        return self.seen.moments()

    @property
    def worked(self) -> np.ndarray:
        """Samples in which a counter of work rose."""
        return self.work.moments()

    @property
    def counted(self) -> np.ndarray:
        """Samples in which another counter rose."""
        return self.counts.moments()

    def take(self, tells: str, metric: str, t_s: np.ndarray, values: np.ndarray) -> None:
        if tells == "up":
            self.up = merged_times(self.up, t_s[values > 0])
            self.down = merged_times(self.down, t_s[values == 0])
            return
        if tells == "created":
            self.created = merged_times(self.created, np.unique(values[values > 0]))
            return
        self.seen.add(t_s)
        if tells == "process":
            self.processes = merged_times(self.processes, np.unique(values[values > 0]))
        elif tells == "uptime":
            self.processes = merged_times(self.processes, _starts(t_s, values))
        elif tells in ("work", "counter"):
            self._count(tells, metric, t_s, values)

    def _count(self, tells: str, metric: str, t_s: np.ndarray, values: np.ndarray) -> None:
        steps = np.diff(values, prepend=0.0)
        fell = np.flatnonzero(steps < 0)
        rose = (steps > 0) | ((steps < 0) & (values > 0))
        (self.work if tells == "work" else self.counts).add(t_s, rose)
        self.falls += [(float(t_s[at - 1]), float(t_s[at])) for at in fell.tolist()]
        moved = float(t_s[np.argmax(rose)]) if rose.any() else np.inf
        self.families[metric].append((float(t_s[0]), float(t_s[-1]), moved))


def _starts(t_s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return when the processes behind a gauge of uptime started: one moment a run that never falls."""
    begins = np.flatnonzero(np.diff(values, prepend=np.inf) < 0)
    return np.unique(t_s[begins] - values[begins])


class _Recorded:
    """The slots of time in which anything of a capture was recorded."""

    def __init__(self) -> None:
        self.base, self._there = 0, np.zeros(0, bool)

    def add(self, slots: np.ndarray) -> None:
        """Take the slots of a series' samples, in order and at least one."""
        low, high = int(slots[0]), int(slots[-1]) + 1
        if not self._there.size:
            self.base = low
        first, after = min(low, self.base), max(high, self.base + self._there.size)
        if after - first > self._there.size:
            grown = np.zeros(after - first, bool)
            grown[self.base - first :][: self._there.size] = self._there
            self.base, self._there = first, grown
        self._there[slots - self.base] = True

    def within(self, first: int, after: int) -> int:
        """Return how many slots of a stretch are recorded, its end left out."""
        low = max(first - self.base, 0)
        return int(self._there[low : max(after - self.base, low)].sum())


@dataclass(frozen=True)
class _Absence:
    """An instance that was there last at ``ended`` and again at ``back`` [s since 1970, UTC]."""

    ended: float
    back: float
    anew: bool


class InstanceLifetimes:
    """Takes the samples of series, one after the other, and tells the lives of instances.

    Parameters
    ----------
    signs
        Result of `lifetime_signs`.
    captures
        Capture of each series that is read: any sample shows that its capture was recorded then.
    slot_s
        Width of the slots in which a capture is recorded or not [s].
    """

    def __init__(self, signs: pl.DataFrame, captures: dict[int, str], slot_s: float) -> None:
        columns = ("series_id", *_KEY, "metric", "interval_s", "tells")
        self._signs = {row[0]: row[1:] for row in signs.select(columns).iter_rows()}
        self._captures, self._slot_s = captures, slot_s
        self._recorded: dict[str, _Recorded] = defaultdict(_Recorded)
        self._ends: dict[str, RangeS] = {}
        self._times: dict[str, deque[np.ndarray]] = defaultdict(lambda: deque(maxlen=LIKE_TIMES))
        self._seen: dict[Key, _Sightings] = defaultdict(_Sightings)

    def add(self, series_id: int, t_s: np.ndarray, values: np.ndarray) -> None:
        """Take the values of a series and their moments [s since 1970, UTC], in order and at least one."""
        capture = self._captures.get(series_id)
        if capture is not None and self._is_new(capture, t_s):
            self._recorded[capture].add((t_s // self._slot_s).astype(np.int64))
            first, last = self._ends.get(capture, (np.inf, -np.inf))
            self._ends[capture] = min(first, float(t_s[0])), max(last, float(t_s[-1]))
        signs = self._signs.get(series_id)
        if signs is not None:
            *key, metric, interval_s, tells = signs
            seen = self._seen[(key[0], key[1], key[2], key[3])]
            if tells not in ("up", "created"):
                seen.interval_s = min(seen.interval_s, interval_s)
            seen.take(tells, metric, t_s, values)

    def _is_new(self, capture: str, t_s: np.ndarray) -> bool:
        """Whether none of the last series of a capture was seen at just these moments."""
        known = self._times[capture]
        if any(np.array_equal(one, t_s) for one in known):
            return False
        known.append(t_s)
        return True

    def table(self) -> pl.DataFrame:
        """Return the lives, a frame of contract LIVES sorted by its key and the number of the life."""
        rows = [row for key, seen in sorted(self._seen.items()) for row in self._rows(key, seen)]
        kinds = empty(LIVES).schema
        moments = [name for name, kind in kinds.items() if kind == pl.Datetime("us", "UTC")]
        table = pl.DataFrame(rows, schema={**kinds, **dict.fromkeys(moments, pl.Float64)})
        table = table.with_columns(
            pl.from_epoch((pl.col(name) * 1e6).round().cast(pl.Int64), time_unit="us")
            .dt.replace_time_zone("UTC")
            .alias(name)
            for name in moments
        )
        return check(_without_cuts(table), LIVES)

    def _rows(self, key: Key, seen: _Sightings) -> Iterator[dict[str, object]]:
        """Yield the lives of one instance; an instance that never answered has none."""
        if not seen.moments.size:
            return
        down = self._down(seen)
        begun, over = self._ends[key[1]]
        breaks = list(self._breaks(key[1], seen))
        work = seen.worked if seen.worked.size else seen.counted
        backs = [float(seen.moments[0]), *(one.back for one in breaks)]
        ends = [*(one.ended for one in breaks), float(seen.moments[-1])]
        for life, (ready, last) in enumerate(zip(backs, ends, strict=True)):
            before = breaks[life - 1] if life else None
            started, started_by = self._start(seen, down, ready, before, begun)
            after = breaks[life].back if life < len(breaks) else over
            gone = down[(down > last) & (down < after if life < len(breaks) else down <= after)]
            done = life < len(breaks) or _ended(last, over, gone, seen)
            served = work[(work >= ready) & (work <= last)]
            yield dict(zip(_KEY, key, strict=True)) | {
                "life": life + 1,
                "started": started,
                "started_by": started_by,
                "away_s": None if before is None else ready - before.ended,
                "ready": None if started is None else ready,
                "watched": None if started is None else self._watched_before(key[1], ready, seen),
                "served": None if started is None or not served.size else float(served[0]),
                "ended": last if done else None,
                "ended_by": None if not done else "up" if gone.size else _how(breaks, life),
                "created": _latest(seen.created, before.ended if before else begun, ready),
                "resolution_s": seen.interval_s,
            }  # fmt: skip

    def _start(
        self, seen: _Sightings, down: np.ndarray, ready: float, before: _Absence | None, begun: float
    ) -> tuple[float | None, str | None]:
        """Return the first sign of a life inside the window, None for one that was there before it."""
        since = begun if before is None else before.ended
        if before is None and not _latest(seen.created, begun, ready) and np.any(seen.created <= begun):
            return None, None
        # A sample on a query's grid is up to an interval old, and so is a start that is read off an uptime.
        process = _latest(seen.processes, since if before else begun + seen.interval_s, ready)
        if before is not None and not _long(before, seen.interval_s):
            return (ready, "reset") if process is None else (process, "process")
        asleep = down[(down > since if before else down >= since) & (down < ready)]
        # A target that is down from the first sample on was known before: nobody saw when it came.
        late = asleep.size and asleep[0] - since > least_s(seen.interval_s)
        if late and not (before is not None and _steady(asleep, since, seen.interval_s)):
            return float(asleep[0]), "up"
        if process is not None:
            return process, "process"
        if before is None and not asleep.size:
            older = seen.processes.size and seen.processes[0] <= begun + seen.interval_s
            if older or ready - begun <= least_s(seen.interval_s):
                return None, None
        return ready, "series"

    @staticmethod
    def _down(seen: _Sightings) -> np.ndarray:
        """Return when the instance's target did not answer, and no other target of it did."""
        here = merged_times(seen.moments, seen.up) if seen.up.size else seen.moments
        near = np.searchsorted(here, seen.down - 0.5 * seen.interval_s, "right")
        after = np.searchsorted(here, seen.down + 0.5 * seen.interval_s, "left")
        return np.asarray(seen.down[near == after])

    def _breaks(self, capture: str, seen: _Sightings) -> Iterator[_Absence]:
        """Yield where one life ends and the next begins, in order."""
        interval = seen.interval_s
        restarts = list(_restarts(seen))
        pauses = np.flatnonzero(np.diff(seen.moments) > GAP_INTERVALS * interval)
        away = [
            _Absence(float(seen.moments[at]), float(seen.moments[at + 1]), anew=False)
            for at in pauses.tolist()
        ]
        found = list(restarts)
        for pause in away:
            near = any(r.ended <= pause.back and r.back >= pause.ended for r in restarts)
            same = _going_on(seen, pause.ended, pause.back)
            if not near and not same and _long(pause, interval) and self._watched(capture, pause):
                found.append(pause)
        yield from sorted(found, key=lambda one: one.back)

    def _watched(self, capture: str, pause: _Absence) -> bool:
        """Whether the capture was recorded while an instance was not seen."""
        first, after = (int(at // self._slot_s) for at in (pause.ended, pause.back))
        there = self._recorded[capture].within(first + 1, after)
        return there >= WATCHED_SHARE * max(after - first - 1, 1)

    def _watched_before(self, capture: str, ready: float, seen: _Sightings) -> bool:
        """Whether the capture was recorded just before an instance was first seen.

        Left out are the last two slots: after a gap targets are scraped one after the other.
        """
        since, until = ready - least_s(seen.interval_s), ready - GAP_INTERVALS * seen.interval_s
        first, after = int(since // self._slot_s), int(until // self._slot_s) + 1
        there = self._recorded[capture].within(first, after)
        known = after - max(first, self._recorded[capture].base)
        return known > 0 and there >= WATCHED_SHARE * known


def least_s(interval_s: float) -> float:
    """Return how long an instance must be away for it to have come or gone [s]."""
    return max(CHANGED_AFTER_S, CHANGED_AFTER_SAMPLES * interval_s)


def _long(one: _Absence, interval_s: float) -> bool:
    return one.back - one.ended > least_s(interval_s)


def _steady(asleep: np.ndarray, since: float, interval_s: float) -> bool:
    """Whether a target was down from the end of its last life on, as one of a fixed list is."""
    return bool(asleep[0] - since <= GAP_INTERVALS * interval_s)


def _latest(moments: np.ndarray, after: float, until: float) -> float | None:
    """Return the latest of some moments in a stretch, its start left out."""
    inside = moments[(moments > after) & (moments <= until)]
    return float(inside[-1]) if inside.size else None


def _how(breaks: list[_Absence], life: int) -> str:
    return "reset" if life < len(breaks) and breaks[life].anew else "series"


def _ended(last: float, over: float, gone: np.ndarray, seen: _Sightings) -> bool:
    """Whether an instance was gone before its capture was over."""
    if gone.size >= DOWN_SAMPLES and not np.any(seen.up > last):
        return True
    return over - last > least_s(seen.interval_s)


def _restarts(seen: _Sightings) -> Iterator[_Absence]:
    """Yield the moments at which an instance's counters begin anew, by falling or under a new identity."""
    falls = set(seen.falls)
    events = sorted([*seen.falls, *_renewals(seen)], key=lambda span: span[1])
    groups: list[list[RangeS]] = []
    for span in events:
        if groups and span[1] - groups[-1][0][1] <= TOGETHER_INTERVALS * seen.interval_s:
            groups[-1].append(span)
        else:
            groups.append([span])
    for group in groups:
        back = min(after for _, after in group)
        ended = max(before for before, _ in group if before < back)
        fell = sum(span in falls for span in group)
        going = _going_on(seen, ended, max(after for _, after in group)) - fell
        if len(group) >= going:
            yield _Absence(ended, back, anew=True)


def _renewals(seen: _Sightings) -> Iterator[RangeS]:
    """Yield where all series of a counter end and others of the same name begin: a new identity."""
    for own in seen.families.values():
        last = -np.inf
        for first, until, _ in sorted(own):
            if last < first and last > -np.inf:
                yield last, first
            last = max(last, until)


def _going_on(seen: _Sightings, before: float, after: float) -> int:
    """Return how many counters that had moved before a stretch are there after it, fallen or not."""
    return sum(
        first <= before and last >= after and moved <= before
        for own in seen.families.values()
        for first, last, moved in own
    )


def _without_cuts(table: pl.DataFrame) -> pl.DataFrame:
    """Return the lives without ends that all instances of a pool share: there the export was cut.

    A pool whose instances all end with the same scrape, with no target that stopped to answer, was exported
    for a shorter time than the rest.
    """
    newest = table.sort("life").group_by(list(_KEY)).last()
    pool = ["service", "capture", "role"]
    cut = (
        newest.group_by(pool)
        .agg(
            pl.len().alias("size"),
            pl.col("ended").null_count().alias("there"),
            (pl.col("ended_by") == "up").any().alias("told"),
            (pl.col("ended").max() - pl.col("ended").min()).dt.total_microseconds().alias("spread"),
            pl.col("resolution_s").max().alias("interval_s"),
        )
        .filter(
            (pl.col("size") > 1)
            & (pl.col("there") == 0)
            & ~pl.col("told")
            & (pl.col("spread") <= TOGETHER_INTERVALS * 1e6 * pl.col("interval_s"))
        )
    )
    joined = table.join(cut.select(*pool, pl.lit(value=True).alias("cut")), pool, how="left")
    last = pl.col("life") == pl.col("life").max().over(list(_KEY))
    shared = last & pl.col("cut").fill_null(value=False)
    return joined.with_columns(
        pl.when(~shared).then(pl.col("ended")), pl.when(~shared).then(pl.col("ended_by"))
    ).sort(*_KEY, "life")


WANTED = "replicas_desired"
"""Signal that counts the instances asked for."""

_START_COLUMNS = ["service", "capture", "role", "instance"]
_POOL = ["service", "capture", "role"]

_SIGNS = {"up": "target", "process": "process"}
"""What tells the start of a life → what says, then, when an instance was asked for."""


def instance_startups(
    lives: pl.DataFrame, samples: SampleTable, terms: pl.DataFrame, query: QueryRunner
) -> pl.DataFrame:
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
        for pool, own in born.sort("first_sample_s", *_START_COLUMNS).group_by(_POOL, maintain_order=True):
            mine = changes.filter(
                pl.all_horizontal(pl.col(name) == value for name, value in zip(_POOL, pool, strict=True))
            )
            raised |= {(*pool, name, at): asked for name, at, asked in _matched(own, mine)}
    rows = []
    for row in born.iter_rows(named=True):
        by = _SIGNS.get(row["started_by"])
        asked = row["started"] if by else None
        replicas = raised.get((*(row[name] for name in _START_COLUMNS), row["first_sample_s"]))
        if row["created"] is not None:
            asked, by = row["created"], "pod_created"
        elif replicas is not None:
            asked, by = datetime.fromtimestamp(replicas, UTC), "replicas"
        rows.append(
            {name: row[name] for name in _START_COLUMNS}
            | {"asked": asked, "asked_by": by, "first_sample": row["ready"], "first_served": row["served"]}
            | {"resolution_s": row["resolution_s"]}
        )
    return check(
        pl.DataFrame(rows, schema=empty(BIRTHS).schema).sort(*_START_COLUMNS, "first_sample"), BIRTHS
    )


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
