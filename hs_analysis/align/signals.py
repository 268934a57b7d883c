"""One value per signal and window, from the best source that covers it: totals, means or ratios.

The reference query ``align/signal_windows`` of the tests is the same work in SQL for all signals at once.
Memory is one formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from hs_analysis.align.counters import WindowStore
from hs_analysis.align.instances import PoolKey, nulls_last
from hs_analysis.align.limit_shares import BESIDE, HIGH
from hs_analysis.align.terms import (
    EmitterParts,
    TermRow,
    WindowRange,
    emitter_parts,
    grouped,
    window_range_of,
)

SIGNAL_WINDOWS = {
    "service": pl.String, "capture": pl.String, "role": pl.String, "gpu_group": pl.String,
    "signal": pl.String, "source": pl.String, "preference": pl.Int64, "t": pl.Float64, "value": pl.Float64,
    "instances": pl.Float64, "coverage": pl.Float64,
}  # fmt: skip
"""Columns of the result, as the reference query gives them."""

LEAST_REPORTING = 0.5
"""Share of a pool's instances below which those that report do not stand for it."""

_FORMULA = ("service", "capture", "role", "gpu_group", "signal", "preference")


def signal_windows(
    terms: pl.DataFrame, store: WindowStore, instances: pl.DataFrame, width_s: float, least_coverage: float
) -> pl.DataFrame:
    """Return one row per formula and window in which any of its series has a value, sorted.

    Parameters
    ----------
    terms
        The term table.
    store
        Windows of its series.
    instances
        Reporting instances per pool and window, as `presence.Presence` counts them.
    width_s
        Width of a window [s].
    least_coverage
        Share of a window's samples below which its value is null [ratio, 0..1].

    Returns
    -------
    Frame with the columns SIGNAL_WINDOWS.
    """
    counted = _counted(instances, width_s)
    frames = [pl.DataFrame(schema=SIGNAL_WINDOWS)]
    formulas = grouped(terms.iter_rows(named=True), *_FORMULA)
    for key in sorted(formulas, key=lambda one: (*one[:3], nulls_last(one[3]), *one[4:])):
        own = formulas[key]
        span = window_range_of(own, store)
        if span is not None:
            pool = _pool(own, store, span)
            there = _spread(counted.get(key[:4]), span) if pool.pooled.any() else np.full(span.size, np.nan)
            frames.append(_formula_rows(own[0], pool, there, span, width_s, least_coverage))
    return pl.concat(frames)


def _counted(instances: pl.DataFrame, width_s: float) -> dict[PoolKey, tuple[np.ndarray, np.ndarray]]:
    """Return window numbers and instances of each pool."""
    key = ["service", "capture", "role", "gpu_group"]
    return {
        pool: ((own["t"].to_numpy() / width_s).round().astype(np.int64), own["instances"].to_numpy())
        for pool, own in instances.group_by(key)
    }


def _spread(counts: tuple[np.ndarray, np.ndarray] | None, span: WindowRange) -> np.ndarray:
    """Return the instances in each window of a stretch, NaN where not known."""
    found = np.full(span.size, np.nan)
    if counts is not None:
        slots, instances = counts
        inside = (slots >= span.first) & (slots < span.after)
        found[slots[inside] - span.first] = instances[inside]
    return found


class _Sum:
    """A sum that keeps what rounding takes from it (Knuth's two-sum), so that no order of terms shows.

    Names of pods decide in which order they are read, and say nothing of the service.
    """

    def __init__(self, size: int) -> None:
        self._near, self._lost = np.zeros(size), np.zeros(size)

    def add(self, values: np.ndarray) -> None:
        """Add values, shape (windows,)."""
        near = self._near + values
        with np.errstate(invalid="ignore"):
            back = near - self._near
            lost = (self._near - (near - back)) + (values - back)
        self._lost += np.where(np.isfinite(lost), lost, 0.0)  # of what is infinite nothing is lost
        self._near = near

    @property
    def value(self) -> np.ndarray:
        """The sum, shape (windows,)."""
        return self._near + self._lost


class _PoolWindows:
    """The emitters of a formula added up; shape (windows,) each."""

    def __init__(self, size: int) -> None:
        self.total, self.mean, self.below, self.covered = (_Sum(size) for _ in range(4))
        self.emitters, self.reporting, self.begun, self.ended = (np.zeros(size) for _ in range(4))
        self.pooled, self.there = (np.zeros(size, bool) for _ in range(2))

    def add(self, one: EmitterParts, parts: int, *, pooled: bool) -> None:
        """Add an emitter; a window in which a part of the formula is missing is no zero."""
        there, whole = one.parts > 0, one.parts == parts
        self.total.add(np.where(whole, one.total, 0.0))
        self.mean.add(np.where(whole, one.mean, 0.0))
        self.below.add(np.where(whole, one.below, 0.0))
        self.covered.add(np.where(whole, one.coverage, 0.0))
        self.emitters += whole
        self.reporting += whole & pooled
        self.pooled |= there & pooled
        self.there |= there
        if there.any():
            self.begun[np.argmax(there)] += 1
            self.ended[there.size - 1 - np.argmax(there[::-1])] += 1


def _pool(terms: Sequence[TermRow], store: WindowStore, span: WindowRange) -> _PoolWindows:
    parts = len({term["term"] for term in terms})
    found = _PoolWindows(span.size)
    emitters = grouped(terms, "emitter")
    for emitter in sorted(emitters, key=lambda one: nulls_last(one[0])):
        own = emitters[emitter]
        pooled = any(term["instance"] is not None for term in own)
        found.add(_of_emitter(own, parts, store, span), parts, pooled=pooled)
    return found


def _of_emitter(terms: Sequence[TermRow], parts: int, store: WindowStore, span: WindowRange) -> EmitterParts:
    """Return an emitter's parts; where its metrics were renamed, old and new ones are one, never two.

    In each window the generation counts that has the whole formula, then the best coverage, then the newer.
    """
    generations = (emitter_parts(own, store, span) for own in _by_generation(terms))
    best = next(generations)
    for older in generations:
        there, has = older.parts > 0, best.parts > 0
        whole, has_whole = older.parts == parts, best.parts == parts
        more = np.round(older.coverage, 6) > np.round(best.coverage, 6)
        better = (whole > has_whole) | ((whole == has_whole) & more)
        best = best.put(older, there & (~has | better))
    return best


def _by_generation(terms: Sequence[TermRow]) -> Iterator[list[TermRow]]:
    """Yield the terms of each generation of names, the newest first."""
    found = grouped(terms, "generation")
    yield from (found[key] for key in sorted(found))


def _formula_rows(
    term: TermRow,
    pool: _PoolWindows,
    instances: np.ndarray,
    span: WindowRange,
    width_s: float,
    least_coverage: float,
) -> pl.DataFrame:
    """Return the rows of a formula: its value where enough of the pool is there.

    Front ends and others that no instance count covers are expected between their first and their last
    window.
    """
    instances = np.where(pool.pooled, instances, np.nan)
    alive = np.cumsum(pool.begun) - (np.cumsum(pool.ended) - pool.ended)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = pool.covered.value / np.where(np.isnan(instances), alive, pool.emitters)
        coverage = np.where(pool.emitters > 0, share, 0.0)
        value = _pool_value(term["pool"], pool, instances)
        few = (coverage < least_coverage) | (pool.reporting < LEAST_REPORTING * instances)
    slots = np.flatnonzero(pool.there)
    columns: Mapping[str, np.ndarray] = {
        "t": (span.first + slots) * width_s,
        "value": np.where(few, np.nan, value)[slots],
        "instances": instances[slots],
        "coverage": np.minimum(1.0, coverage)[slots],
    }
    named = {name: pl.lit(term[name], kind) for name, kind in SIGNAL_WINDOWS.items() if name not in columns}
    return (
        pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Float64))
        .with_columns(pl.col("value", "instances").fill_nan(None), **named)
        .select(*SIGNAL_WINDOWS)
    )


def _pool_value(kind: str, pool: _PoolWindows, instances: np.ndarray) -> np.ndarray:
    """Return the value of the pool, NaN where there is none."""
    total = pool.total.value
    if kind == "mean":
        return pool.mean.value / pool.emitters
    if kind == "ratio":
        below = pool.below.value
        return np.where(below == 0, np.nan, total / below)
    short = (instances > pool.reporting) & (pool.reporting > 0)
    value = np.where(short, total / pool.reporting * instances, total)
    return np.where(pool.emitters > 0, value, np.nan)


ENOUGH_COVERAGE = 0.7
"""Share of windows with a value below which the next source is taken."""

DISAGREEMENT = 0.05
"""Median relative difference of two sources above which it is a finding."""

COMPARABLE = (
    "decode_tps",
    "prefill_tps",
    "prefill_tps_effective",
    "request_rate",
    "running",
    "kv_usage",
    "gpu_util",
)
"""Signals whose sources mean the same; latencies and queues of different layers may differ with reason."""

_SIGNAL = ["service", "role", "signal"]


def choose_sources(windows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Keep one source per signal and report where the next one disagrees.

    Parameters
    ----------
    windows
        Frame of `signal_windows.signal_windows`.

    Returns
    -------
    chosen
        The rows of the chosen sources. The shares over both edges of a limit and their samples are of one
        histogram.
    disagreements
        (service, role, signal, source, other, difference): median absolute log ratio of the two best sources
        where it is above 5 %.
    """
    # Rows of a formula follow one another: its names are looked at once, not in every row.
    windows = windows.with_columns(pl.struct(*_FORMULA, "source").rle_id().alias("formula"))
    formulas = windows.group_by("formula").agg(
        pl.col(*_FORMULA, "source").first(), pl.col("value").is_not_null().sum().alias("present")
    )
    together = formulas.filter(pl.col("gpu_group").is_null())
    slots = (
        _rows_of(windows, together)
        .select("service", "capture", "t")
        .unique()
        .group_by("service")
        .agg(pl.len().alias("slots"))
    )
    coverage = (
        together.group_by([*_SIGNAL, "preference", "source"])
        .agg(pl.col("present").sum())
        .join(slots, "service")
        .with_columns((pl.col("present") / pl.col("slots")).alias("share"))
    )
    enough = pl.col("share") >= ENOUGH_COVERAGE
    ranked = coverage.sort(
        [*_SIGNAL, enough.not_(), pl.when(enough).then(pl.lit(0.0)).otherwise(-pl.col("share")), "preference"]
    )
    best = ranked.group_by(_SIGNAL, maintain_order=True).first().select([*_SIGNAL, "preference"])
    second = ranked.group_by(_SIGNAL, maintain_order=True).agg(pl.col("preference").get(1, null_on_oob=True))
    chosen = _rows_of(windows, formulas.join(_one_histogram(best), [*_SIGNAL, "preference"], how="semi"))
    comparable = together.filter(pl.col("signal").is_in(COMPARABLE))
    compared = [
        _rows_of(windows, comparable.join(one, [*_SIGNAL, "preference"], how="semi"))
        for one in (best, second.drop_nulls())
    ]
    return chosen.drop("formula"), _disagreements(compared[0], compared[1])


def _rows_of(windows: pl.DataFrame, formulas: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of some formulas, in their order."""
    return windows.filter(pl.col("formula").is_in(formulas["formula"].to_list()))


def sources_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the names of some rows, each once: service, role, signal, source and preference.

    Rows of a formula follow one another, and formulas are few.
    """
    names = [*_SIGNAL, "source", "preference"]
    begins = pl.struct(names).rle_id().diff().fill_null(1) > 0
    return rows.filter(begins).select(names).unique(maintain_order=True)


def _one_histogram(best: pl.DataFrame) -> pl.DataFrame:
    """Take what tells the share over a limit from the histogram that gives the one over the upper edge."""
    of_high = f"_{HIGH}"
    beside = pl.any_horizontal(pl.col("signal").str.ends_with(f"_{ending}") for ending in BESIDE)
    upper = best.filter(pl.col("signal").str.ends_with(of_high))
    others = [
        upper.with_columns(pl.col("signal").str.replace(of_high, f"_{ending}", literal=True))
        for ending in BESIDE
    ]
    return pl.concat([best.filter(~beside), *others])


def _disagreements(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Return how far the rows of the second sources are from those of the first, where it is far."""
    key = [*_SIGNAL, "capture", "t"]
    positive = pl.col("value") > 0
    others = second.filter(positive).select(
        *key, pl.col("source").alias("other"), pl.col("value").alias("other_value")
    )
    return (
        first.filter(positive)
        .select(*key, "source", "value")
        .join(others, key)
        .group_by([*_SIGNAL, "source", "other"])
        .agg((pl.col("value") / pl.col("other_value")).log().abs().median().alias("difference"))
        .filter(pl.col("difference") > DISAGREEMENT)
        .sort(_SIGNAL)
    )
