"""What becomes of each staged sample: stored, an exact copy, a contradiction, or a hidden scrape gap.

Two passes, so that memory is one series and one batch: the first counts over all series which samples repeat
the one before, and so where a server repeated last values across a scrape gap; the second writes what is
stored. Series whose samples lie on the grid of a query, not of scrapes, are found by the same steps.

The reference queries ``ingest/deduplicate``, ``ingest/fates``, ``ingest/conflicts``, ``ingest/repeats`` and
``ingest/stored_samples`` of the tests are the same work in SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.errors import InputError
from hs_analysis.ingest.quality import SeriesShape, quality_frame, quality_of, shape_of
from hs_analysis.ingest.rows import FLAGS
from hs_analysis.ingest.staging import Piece, Samples, Staging
from hs_analysis.schema.arrays import Mask
from hs_analysis.schema.frames import SAMPLES, arrow
from hs_analysis.statistics.episodes import Run, runs

OUTCOMES = ("stored", "duplicate", "conflict", "superseded")
STORED, DUPLICATE, CONFLICT, SUPERSEDED = range(len(OUTCOMES))

_FLAG_ORDER = np.argsort(np.argsort([flag or "~" for flag in FLAGS]))
"""Rank of a flag by its text; a value that is there comes last."""

RangeUs = tuple[int, int]
"""First and last time [us], both included."""


@dataclass(frozen=True)
class Deduplicated:
    """The verdict on one series: outcome codes of the samples as read, and the stored ones in time order."""

    outcomes: np.ndarray
    stored: np.ndarray


def deduplicate(samples: Samples, covered: dict[int, Sequence[RangeUs]], on_conflict: str) -> Deduplicated:
    """Return the outcome of every sample.

    Parameters
    ----------
    samples
        Samples of one series.
    covered
        File number → spans in which a more faithful file holds the same metric.
    on_conflict
        ``reject`` quarantines all sides of a contradiction; ``first``, ``last`` (by file) and ``max`` keep
        one, a value before a missing one.
    """
    t_us = samples.t_us
    outcomes = np.zeros(t_us.size, np.uint8)
    for file_no, spans in covered.items():
        own = samples.files == file_no
        for low, high in spans:
            outcomes[own & (t_us >= low) & (t_us <= high)] = SUPERSEDED
    live = np.flatnonzero(outcomes == STORED)
    if live.size == t_us.size and np.all(t_us[1:] > t_us[:-1]):
        return Deduplicated(outcomes, live)
    order = live[np.lexsort((_FLAG_ORDER[samples.flags[live]], samples.files[live], t_us[live]))]
    first = np.diff(t_us[order], prepend=t_us[order[0]] - 1 if order.size else 0) != 0
    if order.size:
        _mark_copies(samples, order, first, on_conflict, outcomes)
    return Deduplicated(outcomes, order[outcomes[order] == STORED])


def _mark_copies(
    samples: Samples, order: np.ndarray, first: np.ndarray, on_conflict: str, outcomes: np.ndarray
) -> None:
    """Mark copies and contradictions among samples in time order; ``first`` marks a new moment."""
    starts = np.flatnonzero(first)
    moment = np.cumsum(first) - 1
    values = samples.values[order]
    there = ~np.isnan(values)
    copies, present = np.bincount(moment), np.bincount(moment, there)
    low = np.minimum.reduceat(np.where(there, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(there, values, -np.inf), starts)
    differ = (copies > 1) & (present > 0) & ((present < copies) | (low != high))
    outcomes[order[~first]] = DUPLICATE
    torn = differ[moment]
    outcomes[order[torn]] = CONFLICT
    if on_conflict != "reject" and torn.any():
        outcomes[_winners(samples, order[torn], on_conflict)] = STORED


def _winners(samples: Samples, torn: np.ndarray, on_conflict: str) -> np.ndarray:
    """Return, of contradicting samples, the one each moment keeps."""
    values, files = samples.values[torn], samples.files[torn]
    missing = np.isnan(values)
    shown = np.where(missing, 0.0, values)
    wish = {"max": -shown, "last": -files}.get(on_conflict, files)
    order = torn[np.lexsort((shown, files, wish, missing, samples.t_us[torn]))]
    return order[np.flatnonzero(np.diff(samples.t_us[order], prepend=samples.t_us[order[0]] - 1))]


REPEAT_COUNTS = ("series", "repeats", "clocks", "clock_repeats", "begun", "ended")

MOST_GRIDS = 64
"""Grids kept apart before they are merged into the first: bounds memory and search where every target has
its own scrape times."""

MOST_TIMES = 1 << 19
"""Moments of all grids but the first that wait for a merge; more only where the first has more itself."""

_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "capture": pl.String,
    "t": pl.Datetime("us", "UTC"),
    **dict.fromkeys(("series", "repeats", "clocks", "clock_repeats", "alive"), pl.Int64),
}


@dataclass
class _RepeatGrid:
    """Moments that several series share, and what was counted at each: shape (6, moments)."""

    t_us: np.ndarray
    counts: np.ndarray


@dataclass
class RepeatedSamples:
    """Counts of all series seen so far, per capture."""

    _grids: dict[str, list[_RepeatGrid]] = field(default_factory=dict)

    @staticmethod
    def of(table: pl.DataFrame) -> RepeatedSamples:
        """Return counts as `table` gave them."""
        found = RepeatedSamples()
        for (capture,), own in table.group_by("capture", maintain_order=True):
            counts = own.select(REPEAT_COUNTS).to_numpy().T.astype(np.int32)
            found._grids[str(capture)] = [_RepeatGrid(own["t_us"].to_numpy().copy(), counts)]
        return found

    def table(self) -> pl.DataFrame:
        """Return the counts as a frame (capture, t_us, the six counts), sorted."""
        schema = {"capture": pl.String, "t_us": pl.Int64, **dict.fromkeys(REPEAT_COUNTS, pl.Int32)}
        frames = [pl.DataFrame(schema=schema)]
        for capture, grids in sorted(self._grids.items()):
            whole = _merged_grids(grids)
            frame = pl.DataFrame(whole.counts.T, schema=dict.fromkeys(REPEAT_COUNTS, pl.Int32))
            frames.append(
                frame.select(pl.lit(capture).alias("capture"), pl.Series("t_us", whole.t_us), *REPEAT_COUNTS)
                .filter(pl.any_horizontal(pl.col(*REPEAT_COUNTS) != 0))
                .sort("t_us")
            )
        return pl.concat(frames)

    def ends(self) -> dict[str, int]:
        """Return the last moment of each capture [us since 1970, UTC]."""
        return {
            capture: max(int(grid.t_us[-1]) for grid in grids)
            for capture, grids in self._grids.items()
            if any(grid.t_us.size for grid in grids)
        }

    def add(
        self,
        capture: str,
        t_us: np.ndarray,
        values: np.ndarray,
        *,
        clock_like: bool,
        before: tuple[int, float] | None = None,
    ) -> None:
        """Count one series: stored samples in time order; missing values are left out.

        ``before`` are the moment and the value of its last sample, where it is counted up to there.
        """
        there = ~np.isnan(values)
        if not there.all():
            t_us, values = t_us[there], values[there]
        if not t_us.size:
            return
        if before is not None:
            t_us, values = np.append(before[0], t_us), np.append(before[1], values)
        counts, at = self._place(capture, t_us)
        again = values[1:] == values[:-1]
        counts[0, at[1:]] += 1
        counts[1, at[1:]] += again
        if clock_like:
            counts[2, at[1:]] += 1
            counts[3, at[1:]] += again
        if before is None:
            counts[4, at[0]] += 1
        else:  # it did not end there
            counts[5, at[0]] -= 1
        counts[5, at[-1]] += 1

    def _place(self, capture: str, t_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts of a grid that holds all these moments, and where in it they are."""
        grids = self._grids.setdefault(capture, [])
        for grid in reversed(grids[-4:]):  # series of one target lie together
            if grid.t_us.size == t_us.size and np.array_equal(grid.t_us, t_us):
                return grid.counts, np.arange(t_us.size)
        if grids and grids[0].t_us.size >= t_us.size:
            at = np.minimum(np.searchsorted(grids[0].t_us, t_us), grids[0].t_us.size - 1)
            if np.array_equal(grids[0].t_us[at], t_us):
                return grids[0].counts, at
        waiting = sum(grid.t_us.size for grid in grids[1:])
        if len(grids) >= MOST_GRIDS or (grids and waiting > max(MOST_TIMES, grids[0].t_us.size)):
            grids[:] = [_merged_grids(grids)]
            return self._place(capture, t_us)
        grids.append(_RepeatGrid(t_us.copy(), np.zeros((len(REPEAT_COUNTS), t_us.size), np.int32)))
        return grids[-1].counts, np.arange(t_us.size)

    def frame(self) -> pl.DataFrame:
        """Return the counts per capture and moment at which a series has a value and had one before, sorted.

        Columns: capture, t, series, repeats, clocks, clock_repeats, alive.
        """
        frames = [pl.DataFrame(schema=_SCHEMA)]
        for capture, grids in sorted(self._grids.items()):
            whole = _merged_grids(grids)
            series, repeats, clocks, clock_repeats, begun, ended = whole.counts.astype(np.int64)
            lives = np.cumsum(begun - ended) - (begun - ended)
            frame = pl.DataFrame(
                {
                    "capture": pl.Series([capture]).new_from_index(0, whole.t_us.size),
                    "t": pl.Series(whole.t_us).cast(pl.Datetime("us", "UTC")),
                    "series": series,
                    "repeats": repeats,
                    "clocks": clocks,
                    "clock_repeats": clock_repeats,
                    "alive": lives,
                },
                schema=_SCHEMA,
            )
            frames.append(frame.filter(pl.col("series") > 0))
        return pl.concat(frames)


def _merged_grids(grids: list[_RepeatGrid]) -> _RepeatGrid:
    if len(grids) == 1:
        return grids[0]
    t_us, place = np.unique(np.concatenate([grid.t_us for grid in grids]), return_inverse=True)
    counts = np.concatenate([grid.counts for grid in grids], axis=1)
    summed = np.stack([np.bincount(place, row, minlength=t_us.size) for row in counts])
    return _RepeatGrid(t_us, np.round(summed).astype(np.int32))


FROZEN_SHARE = 0.97
"""Share of series that must repeat together; Prometheus repeats all of them for up to five minutes."""

FROZEN_STEPS = 3
"""Steps in a row, so that one quiet moment is no gap."""

USUAL_SHARE = 0.8
"""Without a clock-like series a stretch counts only where series usually move: else it may be idle."""

TOGETHER_SHARE = 0.5
"""Share of the living series that must have a sample at a moment for it to speak of all of them: a dump
with the true scrape times has one target at a time, and repeats nothing."""

FREEZE_DELAY_STEPS = 2
"""Steps after a stretch in which single series may still repeat: targets are scraped one after the other."""

USUAL_STEPS_FACTOR = 2.5
"""Where the step is shorter than the scrape interval most moments repeat: there a gap is a stretch this
many times longer than the usual one, as a pause over 2.5 intervals is a gap elsewhere."""


def frozen_ranges(repeats: pl.DataFrame) -> pl.DataFrame:
    """Return the stretches in which all series repeat together.

    Parameters
    ----------
    repeats
        Frame of `moments.Moments`: per capture and time the series and how many repeat.

    Returns
    -------
    Frame (capture, first_t, last_t, settle_t): the repeated samples, both ends included, and until when a
    series that still holds the same value has not been scraped yet; sorted.

    Notes
    -----
    A series that behaves like a clock (uptime, scrape duration) never repeats while it is scraped, so where
    one exists it must repeat too. An idle service repeats without a gap; without a clock the usual share
    decides.
    """
    found: list[dict[str, object]] = []
    for (capture,), moments in repeats.group_by("capture", maintain_order=True):
        part = moments.filter(pl.col("series") >= TOGETHER_SHARE * pl.col("alive"))
        if part.is_empty():
            continue
        times = part["t"].to_list()
        found += [
            {
                "capture": capture,
                "first_t": times[first],
                "last_t": times[stop - 1],
                "settle_t": times[min(stop - 1 + FREEZE_DELAY_STEPS, len(times) - 1)],
            }
            for first, stop in _longer_than_usual(runs(_repeating_times(part)), part.height)
        ]
    time = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        found, schema={"capture": pl.String} | dict.fromkeys(("first_t", "last_t", "settle_t"), time)
    )
    return frame.sort("capture", "first_t")


def _repeating_times(part: pl.DataFrame) -> Mask:
    """Return the moments at which all series repeat and a clock, or the usual share, says it is no idling."""
    share = (part["repeats"] / part["series"]).to_numpy()
    clocks = part["clocks"].to_numpy()
    stuck = part["clock_repeats"].to_numpy() / np.maximum(clocks, 1) >= FROZEN_SHARE
    usually_moving = float(np.median(share)) <= USUAL_SHARE
    return np.asarray((share >= FROZEN_SHARE) & np.where(clocks > 0, stuck, usually_moving))


def _longer_than_usual(ranges: list[Run], moments: int) -> list[Run]:
    steps = [stop - start for start, stop in ranges]
    least = float(FROZEN_STEPS)
    if 2 * sum(steps) > moments:
        least = max(least, USUAL_STEPS_FACTOR * float(np.median(steps)))
    return [run for run, length in zip(ranges, steps, strict=True) if length >= least]


BATCH_ROWS = 1 << 20

LOOKBACK_FLAG = len(FLAGS)
"""Flag code of a value the server repeated across a gap; it joins the readers' codes."""

_FLAG_TEXTS = arrow([None, *FLAGS[1:], "lookback"], pa.string())


class CannotExtendError(InputError):
    """New files do not go on where what is stored ends: everything has to be read again."""


@dataclass(frozen=True)
class StoredBefore:
    """What a run holds of a series, to which later samples are added.

    Attributes
    ----------
    shape
        What the stored samples show.
    last_us, last_value, last_flag, last_file
        The last sample as it was read: moment, value (NaN where missing), flag code, number of its file.
    value_us, value
        The last one that is not missing, before repeats are made null; None and NaN without any.
    total
        Sum of what a counter gained, where its samples are increases.
    """

    shape: SeriesShape
    last_us: int
    last_value: float
    last_flag: int
    last_file: int
    value_us: int | None
    value: float
    total: float = 0.0

    @property
    def present(self) -> tuple[int, float] | None:
        """Moment and value of the last sample that is not missing."""
        return None if self.value_us is None else (self.value_us, self.value)


@dataclass(frozen=True)
class StoredSeries:
    """One series to be stored.

    Attributes
    ----------
    series_id, capture, counter
        Its number, its capture, and whether it counts up.
    clock_like
        Whether it moves at every scrape.
    pieces
        Where its samples lie.
    looks_back
        Whether a server may have repeated its values across a scrape gap.
    increases
        Whether its samples are what a counter gained since the one before; its totals are stored.
    before
        What is stored of it already; None where nothing is.
    """

    series_id: int
    capture: str
    counter: bool
    clock_like: bool
    pieces: Sequence[Piece]
    looks_back: bool = True
    increases: bool = False
    before: StoredBefore | None = None

    @property
    def is_staged(self) -> bool:
        """Whether there are samples to be stored."""
        return any(piece.is_staged for piece in self.pieces)


OnContradictions = Callable[[int, Samples], None]
"""Takes a series number and samples of it that contradict each other, sorted by time, file and value."""


@dataclass
class Deduplication:
    """What the two passes found; complete when the batches have been read to the end.

    Attributes
    ----------
    frozen
        Times in which a server repeated last values: capture, first_t, last_t, settle_t.
    outcomes
        (file number, outcome) → samples.
    qualities
        Rows of `quality_of`, one per stored series.
    stored
        Series number → what is stored of it now.
    repeats
        Counts of samples that repeat the one before.
    """

    frozen: pl.DataFrame
    outcomes: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    qualities: list[tuple[object, ...]] = field(default_factory=list)
    stored: dict[int, StoredBefore] = field(default_factory=dict)
    repeats: RepeatedSamples = field(default_factory=RepeatedSamples)

    @property
    def quality(self) -> pl.DataFrame:
        """One row per stored series."""
        return quality_frame(self.qualities)


def stored_batches(
    series: Sequence[StoredSeries],
    staging: Staging,
    covered: Mapping[int, Mapping[int, Sequence[RangeUs]]],
    on_conflict: str,
    set_aside: OnContradictions,
    repeats: RepeatedSamples | None = None,
) -> tuple[Deduplication, Iterator[pa.RecordBatch]]:
    """Return what is found and the stored samples as batches of contract SAMPLES.

    Of a series that is stored up to some moment the batches hold what comes later.

    Parameters
    ----------
    series
        Series in the order of their numbers.
    staging
        Where their samples lie.
    covered
        Series number → file number → spans that a more faithful file holds.
    on_conflict
        As for `deduplicate`.
    set_aside
        Takes contradicting samples, a series at a time: there may be more of them than fit into memory.
    repeats
        Counts of what is stored already; they are added to.

    Raises
    ------
    CannotExtendError
        When samples do not follow those that are stored; while the batches are read, too.
    """
    read = partial(_read, staging=staging, covered=covered, on_conflict=on_conflict)
    counted = repeats or RepeatedSamples()
    found = Deduplication(frozen_ranges(_repeats(series, read, counted)), repeats=counted)
    return found, _in_batches(_stored_rows(series, read, found, set_aside))


_Read = Callable[[StoredSeries], tuple[Samples, Deduplicated]]
_StoredRows = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""Series number, times, values and flags."""


def _read(
    one: StoredSeries,
    staging: Staging,
    covered: Mapping[int, Mapping[int, Sequence[RangeUs]]],
    on_conflict: str,
) -> tuple[Samples, Deduplicated]:
    samples = staging.samples([piece for piece in one.pieces if piece.is_staged])
    spans = dict(covered.get(one.series_id, {}))
    if one.before is None or not np.any(samples.t_us <= one.before.last_us):
        return samples, deduplicate(samples, spans, on_conflict)
    return _beside_the_last(one, one.before, samples, on_conflict)


def _beside_the_last(
    one: StoredSeries, before: StoredBefore, samples: Samples, on_conflict: str
) -> tuple[Samples, Deduplicated]:
    """Return samples of which some are copies of the last one that is stored: two pulls share a moment."""
    copy = samples.t_us == before.last_us
    same = samples.flags[copy] == before.last_flag
    equal = samples.values[copy] == before.last_value
    missing = np.isnan(samples.values[copy]) & np.isnan(before.last_value)
    first = before.last_file < samples.files[copy]
    if one.increases or samples.t_us.min() < before.last_us or not np.all(same & (equal | missing) & first):
        raise CannotExtendError("samples of a stored series lie before its end or contradict it")
    later = np.flatnonzero(~copy)
    rest = deduplicate(
        Samples(samples.t_us[later], samples.values[later], samples.flags[later], samples.files[later]),
        {}, on_conflict,
    )  # fmt: skip
    outcomes = np.full(copy.size, DUPLICATE, np.uint8)
    outcomes[later] = rest.outcomes
    return samples, Deduplicated(outcomes, later[rest.stored])


def _repeats(series: Sequence[StoredSeries], read: _Read, repeats: RepeatedSamples) -> pl.DataFrame:
    """Return what `RepeatedSamples` counts in the stored samples of all series that may be repeated."""
    for one in series:
        if one.looks_back and one.is_staged:
            samples, found = read(one)
            stored = found.stored
            repeats.add(
                one.capture, samples.t_us[stored], samples.values[stored], clock_like=one.clock_like,
                before=one.before.present if one.before else None,
            )  # fmt: skip
    return repeats.frame()


def _stored_rows(
    series: Sequence[StoredSeries], read: _Read, result: Deduplication, set_aside: OnContradictions
) -> Iterator[_StoredRows]:
    """Yield the samples of each series that has any; `result` and `set_aside` take the rest."""
    ranges = _by_capture(result.frozen)
    for one in series:
        if one.before is not None:
            result.stored[one.series_id] = one.before
        if one.is_staged:
            samples, found = read(one)
            _count_outcomes(one, samples, found, result.outcomes)
            if (torn := np.flatnonzero(found.outcomes == CONFLICT)).size:
                set_aside(one.series_id, _in_order(samples, torn))
            if found.stored.size:
                yield _stored(one, samples, found.stored, ranges.get(one.capture, ()), result)
        if one.series_id in result.stored:
            result.qualities.append(quality_of(one.series_id, result.stored[one.series_id].shape))


def _stored(
    one: StoredSeries,
    samples: Samples,
    stored: np.ndarray,
    ranges: Sequence[tuple[int, int, int]],
    result: Deduplication,
) -> _StoredRows:
    """Return the stored samples of a series, and let `result` take what is stored of it now."""
    t_us, read, flags, files = (
        column[stored] for column in (samples.t_us, samples.values, samples.flags, samples.files)
    )
    before = one.before
    values = totals(read, before.total if before else 0.0) if one.increases else read
    repeated = repeated_across_gap(t_us, values, ranges if one.looks_back else ())
    shown = np.where(repeated, np.nan, values)
    shape = shape_of(
        t_us,
        shown,
        counter=one.counter,
        lookback=int(repeated.sum()),
        before=before.shape if before else None,
    )
    now = StoredBefore(
        shape, int(t_us[-1]), float(read[-1]), int(flags[-1]), int(files[-1]),
        *((before.value_us, before.value, before.total) if before else (None, np.nan, 0.0)),
    )  # fmt: skip
    if (there := np.flatnonzero(~np.isnan(values))).size:
        last = there[-1]
        now = replace(now, value_us=int(t_us[last]), value=float(read[last]), total=float(values[last]))
    result.stored[one.series_id] = now
    return one.series_id, t_us, shown, np.where(repeated, np.uint8(LOOKBACK_FLAG), flags)


def totals(increases: np.ndarray, before: float = 0.0) -> np.ndarray:
    """Return a counter from what it gained, in time order; where that is missing so is the total.

    It counts on from ``before``, which is nothing at the first sample of all files. A gain that is missing is
    not made up: the total goes on without it.
    """
    missing = np.isnan(increases)
    sums = np.cumsum(np.append(before, np.where(missing, 0.0, increases)))[1:]
    return np.where(missing, np.nan, sums)


def _in_batches(stored: Iterable[_StoredRows]) -> Iterator[pa.RecordBatch]:
    rows: list[_StoredRows] = []
    size = 0
    for one in stored:
        rows.append(one)
        size += one[1].size
        if size >= BATCH_ROWS:
            yield _batch(rows)
            rows, size = [], 0
    if rows:
        yield _batch(rows)


def _by_capture(frozen: pl.DataFrame) -> dict[str, list[tuple[int, int, int]]]:
    found: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    us = frozen.with_columns(pl.col("first_t", "last_t", "settle_t").dt.epoch("us"))
    for capture, first, last, settle_at in us.select("capture", "first_t", "last_t", "settle_t").iter_rows():
        found[capture].append((first, last, settle_at))
    return found


def repeated_across_gap(
    t_us: np.ndarray, values: np.ndarray, ranges: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Return which samples of a series were repeated by the server across a gap.

    Parameters
    ----------
    t_us, values
        Stored samples in time order.
    ranges
        (first, last, settle) times [us] of frozen stretches: samples from first to last are repeats, and
        those up to settle as long as the value is still the one held at last.
    """
    repeated = np.zeros(t_us.size, bool)
    for first, last, settle_at in ranges:
        begin, end = np.searchsorted(t_us, first), np.searchsorted(t_us, last, "right")
        repeated[begin:end] = True
        if end == 0 or end <= begin or t_us[end - 1] != last:
            continue
        held = values[end - 1]
        for at in range(end, int(np.searchsorted(t_us, settle_at, "right"))):
            if values[at] != held:  # NaN differs too
                break
            repeated[at] = True
    return repeated


def _in_order(samples: Samples, at: np.ndarray) -> Samples:
    """Return some samples, sorted by time, file and value."""
    at = at[np.lexsort((samples.values[at], samples.files[at], samples.t_us[at]))]
    return Samples(samples.t_us[at], samples.values[at], samples.flags[at], samples.files[at])


def _count_outcomes(
    one: StoredSeries, samples: Samples, found: Deduplicated, outcomes: dict[tuple[int, str], int]
) -> None:
    if samples.files.size and found.stored.size == samples.files.size and len(one.pieces) == 1:
        outcomes[one.pieces[0].file_no, "stored"] += samples.files.size
        return
    sizes = np.bincount(samples.files * len(OUTCOMES) + found.outcomes)  # far cheaper than sorting the pairs
    for place in np.flatnonzero(sizes).tolist():
        file_no, outcome = divmod(place, len(OUTCOMES))
        outcomes[file_no, OUTCOMES[outcome]] += int(sizes[place])


def _batch(rows: Sequence[_StoredRows]) -> pa.RecordBatch:
    numbers = np.repeat([row[0] for row in rows], [row[1].size for row in rows]).astype(np.int64)
    t_us, values, flags = (np.concatenate([row[i] for row in rows]) for i in (1, 2, 3))
    texts = _FLAG_TEXTS.take(arrow(flags, pa.uint8())) if flags.any() else pa.nulls(flags.size, pa.string())
    columns = [
        arrow(numbers, pa.int64()),
        arrow(t_us, pa.int64()).cast(SAMPLES.field("t").type),
        arrow(values, pa.float64()),
        texts,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SAMPLES)


GRID_STEPS = {"series_id": pl.Int64, "step_s": pl.Float64, "file_no": pl.Int64}
"""Columns of the result: the series, the distance of the grid's points [s], the first file that has it."""

MS, SECOND = 1_000, 1_000_000
"""Microseconds."""


def series_on_query_grids(
    stored: Sequence[StoredSeries],
    series: pl.DataFrame,
    answers: Set[int],
    superseding: Mapping[int, Mapping[int, object]],
) -> pl.DataFrame:
    """Return the series whose samples lie on a query's grid, one row each, by number.

    Parameters
    ----------
    stored
        The series and where their samples lie.
    series
        ``series_id``, ``instance`` and ``interval_s`` of each.
    answers
        Numbers of files whose form a server's answer to a query may have.
    superseding
        Series number → file number → stretches that a more faithful file holds; such a file does not count.

    Notes
    -----
    The same form holds raw samples (``metric[1d]``), whose times differ from target to target by fractions of
    a second and keep their distance per target. So a file is on a grid when all its series of one step have
    the same time modulo that step, and that is a whole second, or several instances have it.
    """
    facts = {n: (instance, step) for n, instance, step in series.select(*_FACTS).iter_rows() if step}
    members: dict[tuple[int, int], list[StoredSeries]] = {}
    for one in stored:
        step_us = _step_us(facts.get(one.series_id))
        for number in {piece.file_no for piece in one.pieces} & answers if step_us else ():
            if not superseding.get(one.series_id, {}).get(number):
                members.setdefault((number, step_us), []).append(one)
    found: dict[int, tuple[float, int]] = {}
    for (number, step_us), own in sorted(members.items()):
        phases = {
            at % step_us
            for one in own
            for piece in one.pieces
            if piece.file_no == number
            for at in (piece.low_us, piece.high_us)
        }
        instances = {facts[one.series_id][0] for one in own} - {None}
        if len(phases) == 1 and (phases.pop() % SECOND == 0 or len(instances) > 1):
            for one in own:
                found.setdefault(one.series_id, (step_us / SECOND, number))
    rows = [(n, *found[n]) for n in sorted(found)]
    return pl.DataFrame(rows, schema=GRID_STEPS, orient="row")


_FACTS = ("series_id", "instance", "interval_s")


def _step_us(facts: tuple[str | None, float] | None) -> int:
    """Return a series' step in whole milliseconds, the resolution of Prometheus [µs]; 0 when unknown."""
    return round(facts[1] * MS) * MS if facts else 0
