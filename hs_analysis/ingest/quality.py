"""What one series looks like: spacing, holes, repeats, resets, range.

The reference query ``ingest/series_quality`` of the tests says the same in SQL.
"""

from __future__ import annotations

import numpy as np
import polars as pl

GAP_INTERVALS = 2.5
"""A pause longer than so many usual intervals is a gap."""

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


def quality_of(
    series_id: int, t_us: np.ndarray, values: np.ndarray, *, counter: bool, lookback: int
) -> tuple[object, ...]:
    """Return one row of QUALITY for stored samples in time order, at least one; NaN is missing."""
    there = ~np.isnan(values)
    t_s = (t_us if there.all() else t_us[there]) / 1e6
    present = values if there.all() else values[there]
    pauses = np.diff(t_s)
    interval_s = _median(pauses)
    long = pauses[pauses > GAP_INTERVALS * interval_s] if interval_s is not None else pauses[:0]
    changed = np.flatnonzero(np.diff(present, prepend=np.nan) != 0)
    return (
        series_id, t_us.size, int(t_us[0]), int(t_us[-1]), interval_s, _median(np.diff(t_s[changed])),
        long.size, float(long.max()) if long.size else None, t_us.size - present.size, lookback,
        int(np.count_nonzero(present[1:] < present[:-1])) if counter else 0,
        float(present.min()) if present.size else None, float(present.max()) if present.size else None,
        *_stillness(t_s, changed),
    )  # fmt: skip


def _stillness(t_s: np.ndarray, changed: np.ndarray) -> tuple[int, int | None, int | None, int | None]:
    """Return how often a value changed, when for the last time, and its longest stretch without a change.

    ``changed`` are the places at which a new value begins, the first sample's among them.
    """
    if not t_s.size:
        return 0, None, None, None
    lasts = np.append(changed[1:], t_s.size) - 1
    longest = int(np.argmax(t_s[lasts] - t_s[changed]))
    last = round(float(t_s[changed[-1]]) * 1e6) if changed.size > 1 else None
    since, until = (round(float(t_s[at[longest]]) * 1e6) for at in (changed, lasts))
    return changed.size - 1, last, since, until


def _median(values: np.ndarray) -> float | None:
    if not values.size:
        return None
    low, high = values.min(), values.max()
    return float(low) if low == high else float(np.median(values))


def quality_frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    """Return rows of `quality_of` as a frame, in their order."""
    plain = {name: pl.Int64 if kind == pl.Datetime("us", "UTC") else kind for name, kind in QUALITY.items()}
    frame = pl.DataFrame(rows, schema=plain, orient="row")
    return frame.cast({name: kind for name, kind in QUALITY.items() if plain[name] != kind})
