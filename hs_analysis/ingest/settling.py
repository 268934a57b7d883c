"""From staged samples to stored ones, series by series: judge each sample, find frozen stretches, write.

Two passes, so that memory is one series and one batch: the first counts repeats over all series, the second
writes what is kept. The reference queries ``ingest/stored_samples``, ``ingest/repeats`` and
``ingest/deduplicate`` of the tests are the same work in SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from hs_analysis.ingest.fates import CONFLICT, FATES, Judged, Span, judge
from hs_analysis.ingest.frozen import frozen_stretches
from hs_analysis.ingest.moments import Moments
from hs_analysis.ingest.quality import quality_frame, quality_of
from hs_analysis.ingest.raw import FLAGS
from hs_analysis.ingest.staging import Piece, Samples, Staging
from hs_analysis.schema.frames import SAMPLES

BATCH_ROWS = 1 << 20

LOOKBACK = len(FLAGS)
"""Flag code of a value the server repeated across a gap; it joins the readers' codes."""

_FLAG_TEXTS = pa.array([None, *FLAGS[1:], "lookback"], pa.string())


@dataclass(frozen=True)
class Kept:
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
    """

    series_id: int
    capture: str
    counter: bool
    clock_like: bool
    pieces: Sequence[Piece]
    looks_back: bool = True


SetAside = Callable[[int, Samples], None]
"""Takes a series number and samples of it that contradict each other, sorted by time, file and value."""


@dataclass
class Settled:
    """What the two passes found; complete when the batches have been read to the end.

    Attributes
    ----------
    fates
        (file number, fate) → samples.
    frozen
        Frozen stretches: capture, first_t, last_t, settle_t.
    """

    frozen: pl.DataFrame
    fates: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    _quality: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def quality(self) -> pl.DataFrame:
        """One row per stored series."""
        return quality_frame(self._quality)


def settle(
    series: Sequence[Kept],
    staging: Staging,
    covered: Mapping[int, Mapping[int, Sequence[Span]]],
    on_conflict: str,
    set_aside: SetAside,
) -> tuple[Settled, Iterator[pa.RecordBatch]]:
    """Return what is found and the stored samples as batches of contract SAMPLES.

    Parameters
    ----------
    series
        Series in the order of their numbers.
    staging
        Where their samples lie.
    covered
        Series number → file number → spans that a more faithful file holds.
    on_conflict
        As for `fates.judge`.
    set_aside
        Takes contradicting samples, a series at a time: there may be more of them than fit into memory.
    """

    def judged(one: Kept) -> tuple[Samples, Judged]:
        samples = staging.samples(one.pieces)
        return samples, judge(samples, dict(covered.get(one.series_id, {})), on_conflict)

    moments = Moments()
    for one in series:
        if not one.looks_back:
            continue
        samples, found = judged(one)
        stored = found.stored
        moments.add(one.capture, samples.t_us[stored], samples.values[stored], clock_like=one.clock_like)
    settled = Settled(frozen_stretches(moments.frame()))
    stretches = _by_capture(settled.frozen)

    def batches() -> Iterator[pa.RecordBatch]:
        rows: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
        size = 0
        for one in series:
            samples, found = judged(one)
            _count(one, samples, found, settled.fates)
            if (torn := np.flatnonzero(found.fates == CONFLICT)).size:
                set_aside(one.series_id, _in_order(samples, torn))
            t_us, values, flags = (
                column[found.stored] for column in (samples.t_us, samples.values, samples.flags)
            )
            if not t_us.size:
                continue
            repeated = lookback(t_us, values, stretches.get(one.capture, ()) if one.looks_back else ())
            values, flags = np.where(repeated, np.nan, values), np.where(repeated, np.uint8(LOOKBACK), flags)
            settled._quality.append(  # noqa: SLF001 - the generator is part of settling
                quality_of(one.series_id, t_us, values, counter=one.counter, lookback=int(repeated.sum()))
            )
            rows.append((one.series_id, t_us, values, flags))
            size += t_us.size
            if size >= BATCH_ROWS:
                yield _batch(rows)
                rows, size = [], 0
        if rows:
            yield _batch(rows)

    return settled, batches()


def _by_capture(frozen: pl.DataFrame) -> dict[str, list[tuple[int, int, int]]]:
    found: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    us = frozen.with_columns(pl.col("first_t", "last_t", "settle_t").dt.epoch("us"))
    for capture, first, last, settle_at in us.select("capture", "first_t", "last_t", "settle_t").iter_rows():
        found[capture].append((first, last, settle_at))
    return found


def lookback(t_us: np.ndarray, values: np.ndarray, stretches: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return which samples of a series were repeated by the server across a gap.

    Parameters
    ----------
    t_us, values
        Stored samples in time order.
    stretches
        (first, last, settle) times [us] of frozen stretches: samples from first to last are repeats, and
        those up to settle as long as the value is still the one held at last.
    """
    repeated = np.zeros(t_us.size, bool)
    for first, last, settle_at in stretches:
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


def _count(one: Kept, samples: Samples, found: Judged, fates: dict[tuple[int, str], int]) -> None:
    if samples.files.size and found.stored.size == samples.files.size and len(one.pieces) == 1:
        fates[one.pieces[0].file_no, "stored"] += samples.files.size
        return
    pairs, sizes = np.unique(
        np.stack([samples.files, found.fates.astype(np.int64)]), axis=1, return_counts=True
    )
    for (file_no, fate), size in zip(pairs.T.tolist(), sizes.tolist(), strict=True):
        fates[file_no, FATES[fate]] += size


def _batch(rows: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray]]) -> pa.RecordBatch:
    numbers = np.repeat([row[0] for row in rows], [row[1].size for row in rows]).astype(np.int64)
    t_us, values, flags = (np.concatenate([row[i] for row in rows]) for i in (1, 2, 3))
    texts = _FLAG_TEXTS.take(pa.array(flags)) if flags.any() else pa.nulls(flags.size, pa.string())
    columns = [
        pa.array(numbers),
        pa.array(t_us, pa.int64()).cast(SAMPLES.field("t").type),
        pa.array(values, pa.float64(), mask=np.isnan(values)),
        texts,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SAMPLES)
