"""Series that stand still while what they speak of has gone on: repeats of a last value, and no measurement.

A server looks up to five minutes back, other stores longer, and an exporter may serve its last page for ever:
the gauges of a pod that died then stay where they were. Constant is not frozen, though. An idle pod stands
still, and so does a queue at night. Three things tell a frozen pod:

- its scrape target does not answer (``up`` is 0), and samples come all the same;
- a series of it that moves whatever the pod does, such as its uptime, stands still;
- it holds requests (running or waiting above zero), nothing of it moves, and its peers move. With p the share
  of moments at which it changed before, or the least such share of a peer in the same stretch where that is
  smaller, m moments without a change have the probability (1 − p)^m, which must be under 10⁻⁶.

A single gauge is frozen where its own pod works on and it does not move, by the same probability from its own
past and its peers, and for three times its longest pause before.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.frames import FROZEN_SERIES, check, empty, label_map
from hs_analysis.schema.runners import SeriesReader

FLAG = "frozen"
"""Why the value of such a sample is null."""

HELD_SIGNALS = ("running", "queue_length", "in_flight", "prefill_outstanding")
"""Signals that count requests an instance holds: above zero it is not idle."""

OF_PROMETHEUS = frozenset(("scrape_duration_seconds", "node_time_seconds"))
"""Series that move at every scrape of a pod that is gone, too."""

MOVES = 5
"""Changes of a series below which its standing still says nothing [count]; default of this project."""

POD_STEPS, POD_S = 4, 60.0
"""A pod must stand still for so many intervals and so long [s]; default of this project."""

GAUGE_MOVES, GAUGE_STEPS, GAUGE_S = 20, 20, 300.0
"""A single gauge must have changed so often, and stand still for so many intervals and so long [s]."""

LIKE_BEFORE = 3.0
"""A gauge must stand still for so many times its longest pause before [ratio]; default of this project."""

CHANCE = 1e-6
"""Probability of standing still by chance below which a series is frozen: one in a million stretches."""

MOST_SHARE = 0.95
"""Share of moments with a change that is taken at most [ratio]: none is sure to change at every scrape."""

AT_REST = 3.0
"""At its least or greatest value a gauge often rests: there the logarithm of the chance must be so many times
as large [ratio]."""

WORKS_SHARE = 0.5
"""Share of moments at which a pod's counters must rise for it to be at work [ratio]."""

PEERS_MAX = 16
"""Peers that are looked at, evenly spaced by name [count]."""

FrozenRange = tuple[int, int]
"""The last true sample and the last repeat [us since 1970, UTC]: samples later than the first, up to the
second, are no measurement."""

_KEY = ["service", "capture", "emitter_role", "instance"]


@dataclass(frozen=True)
class Unanswered:
    """What a series shows while its target does not answer.

    Attributes
    ----------
    moved
        Whether a value differs from the last one before.
    last_us
        Its last sample in the stretch [us since 1970, UTC], None where it has none or had none before.
    """

    moved: bool = False
    last_us: int | None = None


UnansweredRanges = dict[int, dict[FrozenRange, Unanswered]]
"""Series number → stretch in which its target does not answer → what it shows there."""


@dataclass(frozen=True)
class SeenBefore:
    """What is known of samples that these go on from.

    Attributes
    ----------
    unanswered
        What series show in stretches into which no sample has come since.
    ends
        Series number → moment [us since 1970, UTC] and value of its last sample that is not missing.
    read
        Reads the samples that have come since.
    """

    unanswered: UnansweredRanges
    ends: Mapping[int, tuple[int, float]]
    read: SeriesReader

    def read_on(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield the samples of some series that have come since, after the last one before."""
        for series_id, t_us, values in _present(self.read(wanted)):
            at, value = self.ends[series_id]
            yield series_id, np.append(at, t_us), np.append(value, values)


@dataclass(frozen=True)
class FrozenSeries:
    """What was found.

    Attributes
    ----------
    table
        Frame of contract FROZEN_SERIES.
    spans
        The frozen stretches of each series.
    unanswered
        What each series shows while its target does not answer.
    """

    table: pl.DataFrame
    spans: Mapping[int, tuple[FrozenRange, ...]]
    unanswered: UnansweredRanges


@dataclass
class _Candidate:
    """A stretch in which an instance, or one gauge of it, may be frozen, and what speaks for it.

    Moments are microseconds since 1970, UTC: ``seen`` and ``moved`` before the stretch, ``inside`` and
    ``inside_moved`` in it, and ``worked`` those in it at which a counter rose.
    """

    key: tuple[str, ...]
    span: FrozenRange
    metric: str = ""
    series_id: int | None = None
    held: bool = False
    clock_still: bool = False
    at_rest: bool = False
    pause_us: int = 0
    seen: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    moved: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    inside: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    inside_moved: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    worked: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    peers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=lambda: defaultdict(list))

    def stands(self) -> bool:
        """Whether what the instance itself shows leaves it open that it is frozen."""
        if self.series_id is None:
            return (
                not self.inside_moved.size
                and self.inside.size >= POD_STEPS
                and (self.held or self.clock_still)
            )
        works = self.worked.size >= WORKS_SHARE * max(self.inside.size, 1)
        length = self.span[1] - self.span[0]
        return works and self.inside.size >= GAUGE_STEPS and length >= LIKE_BEFORE * self.pause_us

    def frozen_by(self) -> str | None:
        """Return what tells that it is frozen, None when it may as well be idle."""
        if self.clock_still and all(moved.size for own in self.peers.values() for moved, _ in own):
            return "clock"
        if not self.peers:
            return None
        share = min(_share(self.moved, self.seen), *(_mean_share(own) for own in self.peers.values()))
        least = -math.log(CHANCE) * (AT_REST if self.at_rest else 1.0)
        moments = self.inside.size
        return "peers" if -moments * math.log1p(-min(share, MOST_SHARE)) >= least else None


def _share(moved: np.ndarray, seen: np.ndarray) -> float:
    return moved.size / seen.size if seen.size else 0.0


def _mean_share(series: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([_share(moved, seen) for moved, seen in series]))


def frozen_series(
    series: pl.DataFrame,
    quality: pl.DataFrame,
    catalogue: Catalogue,
    read: SeriesReader,
    before: SeenBefore | None = None,
) -> FrozenSeries:
    """Return the series of instances that stand still while what they speak of has gone on.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    quality
        What each series looks like: when it changed, and its longest stretch without a change.
    catalogue
        Which exporters watch GPUs, which series move whatever a pod does, and which signals count requests.
    read
        Reads stored samples.
    before
        What is known already, where these are samples of before and later ones.
    """
    own = _own_series(series, quality, catalogue)
    members = _unanswered_targets(series, own, read)
    unanswered = _while_unanswered(members, read, before)
    found = list(_repeated(unanswered, own))
    engines = own.filter("engine")
    cases = [*_still_pods(engines), *_still_gauges(engines)]
    _count_inside(cases, engines, catalogue, read)
    open_ones = [case for case in cases if case.stands()]
    _count_peers(open_ones, engines, read)
    frozen = [(case, by) for case in open_ones if (by := case.frozen_by())]
    whole = {case.key: case for case, _ in frozen if case.series_id is None}
    found += [
        (case.key, case.metric, case.span, by, _ids(case, own))
        for case, by in frozen
        if case.series_id is None or not _overlap(case, whole.get(case.key))
    ]
    return _result(found, unanswered)


_Found = tuple[tuple[str, ...], str, FrozenRange, str, list[int]]
"""Instance, metric or nothing for all of them, stretch, what tells it, and the series concerned."""


def _own_series(series: pl.DataFrame, quality: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Return the series that an instance of a pool exports itself, and what is known of each.

    ``engine`` are those of an exporter that the catalogue knows: only they tell whether it stands still.
    """
    gpus = [e.name for e in catalogue.exporters if e.watches_gpus]
    clocks = sorted(catalogue.clock_like - OF_PROMETHEUS)
    engine = ~pl.col("source").is_in(["prometheus", "ksm", "node"]) | pl.col("metric").is_in(clocks)
    # What Prometheus writes of a target, and what rules make of it, goes on without it.
    unknown = (pl.col("source") == "prometheus") & ~pl.col("metric").str.contains("^up$|^scrape_|:")
    moments = ("last_t", "changed_t", "still_from", "still_to", "first_t")
    return (
        series.drop("interval_s")
        .filter(
            pl.col("service").is_not_null()
            & pl.col("instance").is_not_null()
            & pl.col("emitter_role").is_in(POOL_ROLES)
            & (engine | unknown)
            & (pl.col("metric") != "")
        )
        .join(
            quality.select("series_id", "rows", "interval_s", "changes", "low", "high", *moments), "series_id"
        )
        .with_columns(
            pl.col(moments).dt.epoch("us"),
            pl.col("metric").is_in(clocks).alias("clock"),
            engine.alias("engine"),
            pl.col("source").is_in(gpus).alias("of_gpu"),
            pl.col("metric").str.ends_with("_bucket").alias("bucket"),
        )
        .drop_nulls("still_to")
        .sort("series_id")
    )


def _still_pods(own: pl.DataFrame) -> Iterator[_Candidate]:
    """Yield the stretches in which no series of an instance changes that did before."""
    engines = own.filter(~pl.col("of_gpu") & ~pl.col("bucket") & (pl.col("changes") >= MOVES))
    for key, rows in engines.group_by(_KEY, maintain_order=True):
        least = max(POD_S, POD_STEPS * float(rows["interval_s"].min() or 0.0)) * 1e6  # type: ignore[arg-type]
        last = int(rows["changed_t"].max())  # type: ignore[arg-type]
        spans = {(last, int(rows["last_t"].max()))}  # type: ignore[arg-type]
        whole = rows.filter(pl.col("rows") >= 0.5 * pl.col("rows").max())
        spans.add((int(whole["still_from"].max()), int(whole["still_to"].min())))  # type: ignore[arg-type]
        yield from (
            _Candidate(tuple(map(str, key)), span) for span in sorted(spans) if span[1] - span[0] >= least
        )


def _still_gauges(own: pl.DataFrame) -> Iterator[_Candidate]:
    """Yield the stretches in which a gauge that moves stands still for far longer than its peers do."""
    gauges = own.filter(
        (pl.col("kind") == "gauge")
        & ~pl.col("clock")
        & pl.col("signal").is_not_null()
        & (pl.col("changes") >= GAUGE_MOVES)
    ).with_columns(
        (pl.col("still_to") - pl.col("still_from")).alias("longest"),
        (pl.col("last_t") - pl.col("changed_t")).alias("tail"),
    )
    usual = pl.col("longest").median().over("service", "capture", "emitter_role", "metric")
    least = pl.max_horizontal(pl.lit(GAUGE_S * 1e6), GAUGE_STEPS * 1e6 * pl.col("interval_s"))
    long = gauges.with_columns(usual.alias("usual")).filter(
        pl.max_horizontal("longest", "tail") >= pl.max_horizontal(least, LIKE_BEFORE * pl.col("usual"))
    )
    columns = (
        *_KEY,
        "metric",
        "series_id",
        "still_from",
        "still_to",
        "changed_t",
        "last_t",
        "longest",
        "tail",
    )
    for *key, metric, series_id, since, until, changed, last, longest, tail in long.select(
        columns
    ).iter_rows():
        span = (changed, last) if tail >= longest else (since, until)
        yield _Candidate(tuple(key), span, metric, series_id)


def _count_inside(
    cases: list[_Candidate], own: pl.DataFrame, catalogue: Catalogue, read: SeriesReader
) -> None:
    """Let each case see the series of its instance."""
    by_key: dict[tuple[str, ...], list[_Candidate]] = defaultdict(list)
    for case in cases:
        by_key[case.key].append(case)
    held = {
        m for s in catalogue.signals if s.id in HELD_SIGNALS for source in s.sources for m in source.metrics
    }
    keys = pl.DataFrame(list(by_key), schema=dict.fromkeys(_KEY, pl.String), orient="row")
    counted = own.filter(~pl.col("bucket")).join(keys, _KEY, how="semi")
    facts = {
        row[0]: row[1:]
        for row in counted.select("series_id", *_KEY, "metric", "kind", "clock", "of_gpu").iter_rows()
    }
    for series_id, t_us, values in _present(read(facts)):
        *key, metric, kind, clock, of_gpu = facts[series_id]
        moved = np.flatnonzero(np.diff(values) != 0) + 1
        for case in by_key[tuple(key)]:
            if case.series_id == series_id:
                _count_gauge(case, t_us, values, moved)
            elif case.series_id is not None and kind == "counter" and not clock:
                rose = t_us[moved[values[moved] > values[moved - 1]]]
                case.worked = np.union1d(case.worked, _within(rose, case.span))
            elif case.series_id is None and not of_gpu:
                _count_pod(case, t_us, values, t_us[moved], held=metric in held, clock=clock)


def _count_pod(
    case: _Candidate, t_us: np.ndarray, values: np.ndarray, moved: np.ndarray, *, held: bool, clock: bool
) -> None:
    """Let the case of a whole instance see one of its series."""
    inside = _within(t_us, case.span)
    case.seen = np.union1d(case.seen, t_us[t_us <= case.span[0]])
    case.moved = np.union1d(case.moved, moved[moved <= case.span[0]])
    case.inside = np.union1d(case.inside, inside)
    case.inside_moved = np.union1d(case.inside_moved, _within(moved, case.span))
    if inside.size:
        stuck = values[np.searchsorted(t_us, inside[-1])]
        case.held |= held and bool(stuck > 0)
        usually = moved[moved <= case.span[0]].size >= WORKS_SHARE * t_us[t_us <= case.span[0]].size
        case.clock_still |= clock and usually and not _within(moved, case.span).size


def _count_gauge(case: _Candidate, t_us: np.ndarray, values: np.ndarray, moved: np.ndarray) -> None:
    """Let the case of one gauge see itself."""
    times = t_us[moved]
    outside = (t_us <= case.span[0]) | (t_us > case.span[1])
    case.seen, case.inside = t_us[outside], _within(t_us, case.span)
    case.moved = times[(times <= case.span[0]) | (times > case.span[1])]
    begins = np.append(t_us[:1], times)
    ends = np.append(times, t_us[-1:])
    other = begins != case.span[0]
    case.pause_us = int((ends - begins)[other].max(initial=0))
    stuck = values[np.searchsorted(t_us, case.span[1], "right") - 1]
    case.at_rest = bool(stuck in (values.min(), values.max()))


def _count_peers(cases: list[_Candidate], own: pl.DataFrame, read: SeriesReader) -> None:
    """Let each case see how often the other instances of its pool changed in its stretch."""
    wanted: dict[int, list[tuple[_Candidate, str]]] = defaultdict(list)
    engines = own.filter(~pl.col("bucket"))
    for case in cases:
        pool = engines.filter(
            pl.all_horizontal(
                pl.col(name) == value for name, value in zip(_KEY[:3], case.key[:3], strict=True)
            )
            & (pl.col("instance") != case.key[3])
            & (pl.col("metric") == case.metric if case.metric else ~pl.col("of_gpu"))
            & (pl.col("first_t") <= case.span[0])
            & (pl.col("last_t") >= case.span[1])
        )
        names = pool["instance"].unique().sort().to_list()
        places = np.linspace(0, len(names) - 1, min(len(names), PEERS_MAX)).round().astype(int)
        kept = {names[place] for place in places.tolist()} if names else set()
        for series_id, instance in pool.select("series_id", "instance").iter_rows():
            if instance in kept:
                wanted[series_id].append((case, instance))
    seen: dict[tuple[int, str], list[np.ndarray]] = {}
    for series_id, t_us, values in _present(read(wanted)):
        moved = t_us[1:][np.diff(values) != 0]
        for case, instance in wanted[series_id]:
            there, changed = _within(t_us, case.span), _within(moved, case.span)
            if case.metric:
                case.peers[instance].append((changed, there))
                continue
            known = seen.setdefault((id(case), instance), [there[:0], there[:0]])
            known[:] = np.union1d(known[0], changed), np.union1d(known[1], there)
            case.peers[instance] = [(known[0], known[1])]


def _unanswered_targets(
    series: pl.DataFrame, own: pl.DataFrame, read: SeriesReader
) -> dict[int, list[FrozenRange]]:
    """Return the series of targets that do not answer all the time, and the stretches in which they don't."""
    targets = series.filter((pl.col("metric") == "up") & pl.col("instance").is_not_null())
    keyed = targets.join(own.select(_KEY).unique(), _KEY, how="semi")
    where = {
        row["series_id"]: (tuple(row[name] for name in _KEY), _target(row["labels"]))
        for row in keyed.select("series_id", "labels", *_KEY).iter_rows(named=True)
    }
    down: dict[tuple[tuple[str, ...], tuple[str, str]], list[FrozenRange]] = {}
    for series_id, t_us, values in _present(read(where)):
        spans = _zeros(t_us, values)
        if spans:
            down.setdefault(where[series_id], []).extend(spans)
    keys = pl.DataFrame([key for key, _ in down], schema=dict.fromkeys(_KEY, pl.String), orient="row")
    rows = own.join(keys.unique(), _KEY, how="semi").filter(~pl.col("of_gpu"))
    members: dict[int, list[FrozenRange]] = {}
    for row in rows.select("series_id", "labels", *_KEY).iter_rows(named=True):
        key, target = tuple(row[name] for name in _KEY), _target(row["labels"])
        spans = [span for (k, t), some in down.items() if k == key and _same(t, target) for span in some]
        if spans:
            members[row["series_id"]] = spans
    return members


def _while_unanswered(
    members: Mapping[int, list[FrozenRange]], read: SeriesReader, before: SeenBefore | None
) -> UnansweredRanges:
    """Return what each series shows in its stretches; samples of before are read where they have to be."""
    found: UnansweredRanges = {n: dict.fromkeys(spans, Unanswered()) for n, spans in members.items()}
    later: dict[int, list[FrozenRange]] = {}
    anew: dict[int, list[FrozenRange]] = {}
    for n, spans in members.items():
        known = before.unanswered.get(n, {}) if before else {}
        found[n] |= {span: known[span] for span in spans if span in known}
        if rest := [span for span in spans if span not in known]:
            end = before.ends.get(n) if before else None
            (later if end is not None and min(rest)[0] >= end[0] else anew)[n] = rest
    samples = [_present(read(anew)), before.read_on(later) if before else iter(())]
    for series_id, t_us, values in chain(*samples):
        for span in (later if series_id in later else anew)[series_id]:
            first, after = np.searchsorted(t_us, span, "right")
            if first and after > first:
                moved = bool(np.any(values[first:after] != values[first - 1]))
                found[series_id][span] = Unanswered(moved, int(t_us[after - 1]))
    return found


def _repeated(unanswered: UnansweredRanges, own: pl.DataFrame) -> Iterator[_Found]:
    """Yield the stretches in which every series of an instance that has samples holds its value."""
    rows = own.filter(pl.col("series_id").is_in(list(unanswered)))
    keys = {row[0]: tuple(row[1:]) for row in rows.select("series_id", *_KEY).iter_rows()}
    held: dict[tuple[tuple[str, ...], FrozenRange], list[tuple[int, Unanswered]]] = defaultdict(list)
    for series_id, shown in unanswered.items():
        for span, one in shown.items():
            if one.last_us is not None:
                held[keys[series_id], span].append((series_id, one))
    for (key, span), those in sorted(held.items()):
        if not any(one.moved for _, one in those):
            last_us = max(one.last_us or 0 for _, one in those)
            yield key, "", (span[0], last_us), "up", sorted(n for n, _ in those)


def _zeros(t_us: np.ndarray, values: np.ndarray) -> list[FrozenRange]:
    """Return the stretches in which a target does not answer, from the last answer on."""
    zero = np.concatenate([[False], values == 0, [False]])
    starts, stops = np.flatnonzero(zero[1:] & ~zero[:-1]), np.flatnonzero(zero[:-1] & ~zero[1:])
    return [
        (int(t_us[start]) - 1, int(t_us[stop - 1]))
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]


def _target(labels: object) -> tuple[str, str]:
    named = label_map(labels)
    return named.get("job", ""), named.get("instance", "")


def _same(target: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two series may be of one target: the labels that both have are equal."""
    return all(not a or not b or a == b for a, b in zip(target, other, strict=True))


def _present(
    samples: Iterator[tuple[int, np.ndarray, np.ndarray]],
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for series_id, t_us, values in samples:
        there = ~np.isnan(values)
        if there.all():
            yield series_id, t_us, values
        elif there.any():
            yield series_id, t_us[there], values[there]


def _within(t_us: np.ndarray, span: FrozenRange) -> np.ndarray:
    """Return the moments after the start of a stretch up to its end."""
    first, after = np.searchsorted(t_us, span, "right")
    return t_us[first:after]


def _overlap(case: _Candidate, other: _Candidate | None) -> bool:
    return other is not None and case.span[0] < other.span[1] and other.span[0] < case.span[1]


def _ids(case: _Candidate, own: pl.DataFrame) -> list[int]:
    """Return the series that a case concerns: one gauge, or all of an instance that stand still with it.

    A side-car of the pod may go on.
    """
    if case.series_id is not None:
        return [case.series_id]
    mine = pl.all_horizontal(pl.col(name) == value for name, value in zip(_KEY, case.key, strict=True))
    since, until = case.span
    still = (pl.col("changed_t").fill_null(since) <= since) | (
        (pl.col("still_from") <= since) & (pl.col("still_to") >= until)
    )
    rows = own.filter(mine & ~pl.col("of_gpu") & (pl.col("engine") | still))
    return rows["series_id"].to_list()


def _result(found: list[_Found], unanswered: UnansweredRanges) -> FrozenSeries:
    spans: dict[int, set[FrozenRange]] = defaultdict(set)
    rows = []
    for key, metric, span, by, series in sorted(found):
        rows.append((*key, metric, span[0], span[1], by, len(series)))
        for series_id in series:
            spans[series_id].add(span)
    names = ["service", "capture", "role", "instance", "metric", "after", "until", "told_by", "series"]
    kinds = empty(FROZEN_SERIES).schema
    plain = {name: pl.Int64 if name in ("after", "until") else kinds[name] for name in names}
    moments = pl.col("after", "until").cast(pl.Datetime("us", "UTC"))
    table = pl.DataFrame(rows, schema=plain, orient="row").with_columns(moments)
    frozen = {n: tuple(sorted(own)) for n, own in spans.items()}
    return FrozenSeries(check(table, FROZEN_SERIES), frozen, unanswered)
