"""What one series looks like: spacing, holes, repeats, resets, range, unit, and the times of its files.

The reference query ``ingest/series_quality`` of the tests says the same in SQL.

A repair is a factor on the catalogue's own, kept with its proof beside the series; the stored samples stay as
they were exported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.ingest.staging import Piece
from hs_analysis.schema.frames import GAP_INTERVALS, label_map

QUALITY: dict[str, pl.DataType | type[pl.DataType]] = {
    "series_id": pl.Int64,
    "rows": pl.Int64,
    "first_t": pl.Datetime("us", "UTC"),
    "last_t": pl.Datetime("us", "UTC"),
    "interval_s": pl.Float64,
    "news_s": pl.Float64,
    "gaps": pl.Int64,
    "longest_gap_s": pl.Float64,
    "nulls": pl.Int64,
    "lookback": pl.Int64,
    "resets": pl.Int64,
    "low": pl.Float64,
    "high": pl.Float64,
    "changes": pl.Int64,
    "changed_t": pl.Datetime("us", "UTC"),
    "still_from": pl.Datetime("us", "UTC"),
    "still_to": pl.Datetime("us", "UTC"),
}
"""Columns of a quality frame, as the reference query gives them."""


@dataclass(frozen=True)
class Pauses:
    """Distances of moments [s]: each different one once, ascending, and how often it came."""

    length_s: np.ndarray
    count: np.ndarray

    @staticmethod
    def of(lengths_s: np.ndarray) -> Pauses:
        """Count some distances."""
        if lengths_s.size and lengths_s.min() == lengths_s.max():
            return Pauses(lengths_s[:1], np.array([lengths_s.size]))
        return Pauses(*np.unique(lengths_s, return_counts=True))

    def and_more(self, other: Pauses) -> Pauses:
        """Return both counts as one."""
        lengths, place = np.unique(np.append(self.length_s, other.length_s), return_inverse=True)
        counts = np.zeros(lengths.size, np.int64)
        np.add.at(counts, place, np.append(self.count, other.count))
        return Pauses(lengths, counts)

    def median(self) -> float | None:
        """Return the middle one, the mean of the two in the middle of an even number, None of none."""
        total = int(self.count.sum())
        if not total:
            return None
        middle = np.searchsorted(np.cumsum(self.count), [(total - 1) // 2, total // 2], "right")
        low, high = self.length_s[middle].tolist()
        return float(low) if low == high else (low + high) / 2.0


@dataclass(frozen=True)
class SeriesShape:
    """What stored samples of a series showed, in a form that later samples can continue.

    Attributes
    ----------
    rows, nulls, lookback, resets, changes
        Samples, missing ones, those repeated across a scrape gap, falls of a counter, changes of the value.
    first_us, last_us
        Moments of the first and the last sample [us since 1970, UTC].
    low, high
        Range of the values, None without any.
    pauses, news
        Distances of the values, and of the moments at which a new one begins.
    value, value_us
        The last value, NaN without any, and its moment.
    since_us
        When the last value began.
    longest_us
        Longest stretch without a change that is over: first and last moment, None without any.
    """

    rows: int
    nulls: int
    lookback: int
    resets: int
    changes: int
    first_us: int
    last_us: int
    low: float | None
    high: float | None
    pauses: Pauses
    news: Pauses
    value: float
    value_us: int | None
    since_us: int | None
    longest_us: tuple[int, int] | None


def shape_of(
    t_us: np.ndarray,
    values: np.ndarray,
    *,
    counter: bool,
    lookback: int,
    before: SeriesShape | None = None,
) -> SeriesShape:
    """Return what stored samples in time order show, at least one; NaN is missing.

    ``before`` is what the samples before these showed.
    """
    there = ~np.isnan(values)
    nulls = t_us.size - int(np.count_nonzero(there))
    moments, present = (t_us, values) if not nulls else (t_us[there], values[there])
    if before is not None and before.value_us is not None:
        moments, present = np.append(before.value_us, moments), np.append(before.value, present)
    t_s = moments / 1e6
    changed = np.flatnonzero(present[1:] != present[:-1]) + 1
    since = moments[:1] if before is None or before.since_us is None else np.array([before.since_us])
    begins = np.append(since, moments[changed])
    found = SeriesShape(
        rows=t_us.size,
        nulls=nulls,
        lookback=lookback,
        resets=int(np.count_nonzero(present[1:] < present[:-1])) if counter else 0,
        changes=changed.size,
        first_us=int(t_us[0]),
        last_us=int(t_us[-1]),
        low=float(present.min()) if present.size else None,
        high=float(present.max()) if present.size else None,
        pauses=Pauses.of(np.diff(t_s)),
        news=Pauses.of(np.diff(begins / 1e6)),
        value=float(present[-1]) if present.size else np.nan,
        value_us=int(moments[-1]) if moments.size else None,
        since_us=int(begins[-1]) if moments.size else None,
        longest_us=_longest(begins[:-1], moments[changed - 1]),
    )
    return found if before is None else _together(before, found)


def _longest(begins_us: np.ndarray, ends_us: np.ndarray) -> tuple[int, int] | None:
    """Return the longest of some stretches, the first of equal ones."""
    if not begins_us.size:
        return None
    at = int(np.argmax(ends_us / 1e6 - begins_us / 1e6))
    return int(begins_us[at]), int(ends_us[at])


def _together(one: SeriesShape, then: SeriesShape) -> SeriesShape:
    """Return what two stretches of a series show, the second worked out with the last value of the first."""
    sums = {
        name: getattr(one, name) + getattr(then, name)
        for name in ("rows", "nulls", "lookback", "resets", "changes")
    }
    ranges = [shape for shape in (one, then) if shape.low is not None and shape.high is not None]
    stretches = [shape.longest_us for shape in (one, then) if shape.longest_us is not None]
    return replace(
        then,
        **sums,
        first_us=one.first_us,
        low=min((shape.low for shape in ranges), default=None),  # type: ignore[type-var]
        high=max((shape.high for shape in ranges), default=None),  # type: ignore[type-var]
        pauses=one.pauses.and_more(then.pauses),
        news=one.news.and_more(then.news),
        longest_us=_longest(*np.array(stretches, np.int64).T) if stretches else None,
    )


def quality_of(series_id: int, shape: SeriesShape) -> tuple[object, ...]:
    """Return one row of QUALITY."""
    interval_s = shape.pauses.median()
    long = shape.pauses.length_s > GAP_INTERVALS * (np.inf if interval_s is None else interval_s)
    return (
        series_id, shape.rows, shape.first_us, shape.last_us, interval_s, shape.news.median(),
        int(shape.pauses.count[long].sum()), float(shape.pauses.length_s[-1]) if long.any() else None,
        shape.nulls, shape.lookback, shape.resets, shape.low, shape.high,
        *_stillness(shape),
    )  # fmt: skip


def _stillness(shape: SeriesShape) -> tuple[int, int | None, int | None, int | None]:
    """Return how often a value changed, when for the last time, and its longest stretch without a change."""
    if shape.value_us is None or shape.since_us is None:
        return 0, None, None, None
    open_us = (shape.since_us, shape.value_us)
    spans = [open_us] if shape.longest_us is None else [shape.longest_us, open_us]
    longest = _longest(*np.array(spans, np.int64).T)
    return shape.changes, shape.since_us if shape.changes else None, *(longest or open_us)


def quality_frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    """Return rows of `quality_of` as a frame, in their order."""
    plain = {name: pl.Int64 if kind == pl.Datetime("us", "UTC") else kind for name, kind in QUALITY.items()}
    frame = pl.DataFrame(rows, schema=plain, orient="row")
    return frame.cast({name: kind for name, kind in QUALITY.items() if plain[name] != kind})


MICROSECONDS = 1e6


@dataclass(frozen=True)
class FileSpan:
    """Times of one file: earliest and latest sample [Unix s], and the spacing of its samples [s].

    The spacing is the smallest mean one of its series: gaps make it longer in the others. Null where there is
    no sample, or no series with two.
    """

    name: str
    series: int
    first_s: float | None
    last_s: float | None
    spacing_s: float | None


def file_spans(names: Sequence[tuple[str, int]], pieces: Iterable[Sequence[Piece]]) -> tuple[FileSpan, ...]:
    """Return the span of each file.

    Parameters
    ----------
    names
        Name and number of the files that were read whole.
    pieces
        The staged pieces of each series.
    """
    by_file: dict[int, list[Piece]] = {number: [] for _, number in names}
    series: dict[int, int] = dict.fromkeys(by_file, 0)
    for own in pieces:
        for number in {piece.file_no for piece in own} & by_file.keys():
            series[number] += 1
        for piece in own:
            by_file.get(piece.file_no, []).append(piece)
    return tuple(_span(name, series[number], by_file[number]) for name, number in names)


def _span(name: str, series: int, pieces: Sequence[Piece]) -> FileSpan:
    spacings = [(p.high_us - p.low_us) / (p.rows - 1) for p in pieces if p.rows > 1 and p.high_us > p.low_us]
    return FileSpan(
        name,
        series,
        min((p.low_us for p in pieces), default=0) / MICROSECONDS if pieces else None,
        max((p.high_us for p in pieces), default=0) / MICROSECONDS if pieces else None,
        min(spacings) / MICROSECONDS if spacings else None,
    )


OVER_ONE = 1.05
"""A ratio does not go above this: rounding and overcommitment end here [ratio]."""

PLAINLY_PERCENT = 2.0
"""A value from which on it can't be a ratio that ran over [exporter's unit]."""

ENOUGH_OVER = 3
"""Values above one that are no glitch [count]; default of this project."""

MOST_PERCENT = 100.5
"""A percentage does not go above this [percent]."""

LIKE_SIBLINGS = 5.0
"""Factor within which the largest values of two instances of a pool are alike; a wrong unit is off by 100."""

FACTORS = {("ratio", "percent"): 0.01, ("percent", "ratio"): 100.0}
"""(documented, found) → factor on the catalogue's scale."""

_HELP = {
    "percent": re.compile(r"0\s*(?:-|to|–)\s*100\b|\bin (?:%|percent)|\(%\)|\bin percentage", re.IGNORECASE),
    "ratio": re.compile(
        r"1(?:\.0)? means 100|0(?:\.0)?\s*(?:-|to|–)\s*1(?:\.0)?(?!\d)|\bfraction\b|\bratio of\b",
        re.IGNORECASE,
    ),
}
"""Words of a HELP text that say the range."""


@dataclass(frozen=True)
class _Range:
    """One series: what its metric is documented as, and the values it had."""

    series_id: int
    group: tuple[str, str]
    documented: str
    rounds: bool
    low: float
    high: float
    over: int
    between: int

    @property
    def shown(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"


_Verdict = tuple[float | None, str]
"""Repair and evidence."""


def unit_in_help(text: str) -> str | None:
    """Return ``percent`` or ``ratio`` where a HELP text says the range, None where it says none or both."""
    said = [unit for unit, words in _HELP.items() if words.search(text)]
    return said[0] if len(said) == 1 else None


def bounded_series(series: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Return the gauges that are documented as a ratio or a percentage.

    Returns
    -------
    Frame (series_id, steps), input ``bounded`` of the query ``ingest/value_ranges``.
    """
    rows = []
    for number, metric, labels in series.select("series_id", "metric", "labels").iter_rows():
        reader = catalogue.reader_of(metric)
        if reader and _documented(metric, catalogue) and reader[1].reads(metric, label_map(labels)):
            rows.append((number, reader[1].steps or 0.0))
    return pl.DataFrame(rows, schema={"series_id": pl.Int64, "steps": pl.Float64}, orient="row")


def infer_scales(
    series: pl.DataFrame,
    ranges: pl.DataFrame,
    catalogue: Catalogue,
    help_texts: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Return the series with their repair and the evidence for their scale.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    ranges
        Result of the query ``ingest/value_ranges``.
    catalogue
        What each metric is documented as.
    help_texts
        HELP text per metric name, where the input has them.

    Returns
    -------
    Frame of contract SERIES with ``repair`` and ``scale_evidence`` set. Evidence begins with ``values`` (only
    one unit fits them), ``siblings`` (another instance's do, and this one's are alike in it), ``help`` (the
    exporter's text says it), ``assumed`` (documented, and nothing speaks against it), ``doubtful`` (a little
    over one: as documented) or ``mismatch`` (no unit fits, or which one does can't be said: left out).
    """
    said = {metric: unit for metric, text in (help_texts or {}).items() if (unit := unit_in_help(text))}
    found = _ranges(series, ranges, catalogue)
    verdicts = {one.series_id: _by_values(one) for one in found}
    proved = _proved_units(found, verdicts)
    for one in found:
        if verdicts[one.series_id] is None:
            verdicts[one.series_id] = _otherwise(one, said.get(one.group[1]), proved.get(one.group, {}))
    table = pl.DataFrame(
        [(number, *verdict) for number, verdict in sorted(verdicts.items()) if verdict],
        schema={"series_id": pl.Int64, "repair": pl.Float64, "scale_evidence": pl.String},
        orient="row",
    )
    bare = series.drop("repair", "scale_evidence", strict=False)
    return bare.join(table, "series_id", how="left", maintain_order="left").select(
        *series.columns, *(name for name in ("repair", "scale_evidence") if name not in series.columns)
    )


def _documented(metric: str, catalogue: Catalogue) -> str | None:
    """Return ``ratio`` or ``percent`` where the catalogue says that a gauge is one, None for others."""
    found = catalogue.reader_of(metric)
    if found is None or found[1].read != "gauge" or found[0].unit != "ratio":
        return None
    return "percent" if found[1].unit in ("percent", "%") else "ratio"


def _ranges(series: pl.DataFrame, ranges: pl.DataFrame, catalogue: Catalogue) -> list[_Range]:
    joined = series.select("series_id", "capture", "metric").join(ranges, "series_id").sort("series_id")
    rows = []
    for row in joined.iter_rows(named=True):
        documented, reader = _documented(row["metric"], catalogue), catalogue.reader_of(row["metric"])
        if documented and reader:
            rows.append(
                _Range(
                    series_id=row["series_id"], group=(row["capture"], row["metric"]), documented=documented,
                    rounds=reader[1].steps is not None, low=row["low"], high=row["high"],
                    over=row["over"], between=row["between"],
                )
            )  # fmt: skip
    return rows


def _repaired(one: _Range, unit: str, why: str) -> _Verdict:
    repair = FACTORS.get((one.documented, unit))
    words = f", {unit} where {one.documented} is documented" if repair else ""
    return repair, f"{why}: {one.shown}{words}"


def _by_values(one: _Range) -> _Verdict | None:
    """Return the verdict that the values alone give, None when they fit either unit."""
    if one.low < 0 or one.high > MOST_PERCENT:
        return None, f"mismatch: {one.shown} is neither a ratio nor a percentage"
    if one.high >= PLAINLY_PERCENT and one.over >= ENOUGH_OVER:
        return _repaired(one, "percent", "values")
    if one.over:
        return None, f"doubtful: {one.shown}, {one.over} above 1; read as {one.documented}, as documented"
    if one.documented == "percent" and one.rounds and one.between >= ENOUGH_OVER:
        return _repaired(one, "ratio", "values")
    return None


def _proved_units(
    found: list[_Range], verdicts: Mapping[int, _Verdict | None]
) -> dict[tuple[str, str], dict[str, float]]:
    """Return per capture and metric the units that values proved, with the usual largest value in each."""
    highs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in found:
        verdict = verdicts[one.series_id]
        if verdict and verdict[1].startswith("values"):
            unit = one.documented if verdict[0] is None else {0.01: "percent", 100.0: "ratio"}[verdict[0]]
            highs.setdefault(one.group, {}).setdefault(unit, []).append(one.high)
    return {group: {unit: median(high) for unit, high in by.items()} for group, by in highs.items()}


def _otherwise(one: _Range, said: str | None, proved: Mapping[str, float]) -> _Verdict:
    """Return the verdict on values that fit either unit: by siblings, the HELP text, the documentation."""
    other = next((unit for unit in proved if unit != one.documented), None)
    if other and one.high > 0:
        if said is None and other == "percent" and _similar(one.high, proved[other]):
            return _repaired(one, "percent", "siblings")
        if said is None:
            why = f"{other} elsewhere against the documented {one.documented}, and this one fits both"
            return None, f"mismatch: {one.shown}, {why}"
    if said:
        return _repaired(one, said, "help")
    return None, f"assumed: {one.shown}, {one.documented} as documented"


def _similar(one: float, other: float) -> bool:
    return one * LIKE_SIBLINGS >= other and other * LIKE_SIBLINGS >= one
