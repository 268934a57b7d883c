"""Offered work: started requests times the tokens a request brings, counted over the rows near each.

The reference query ``align/offered_work`` of the tests is the same work in SQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

HALF_WIDTHS_S = (60.0, 120.0, 300.0, 600.0, 1800.0)
"""Half widths of a mean of tokens per request, tried from the narrowest [s]; defaults of this project."""

_ROW_SLACK = 1e-9
"""What a width may lack of a whole number of rows and still reach the last of them [rows]."""

_PAIRS = (
    ("effective_tps", "first_token_rate"), ("effective_tps", "prompt_tps"), ("output_tps", "finished_rate"),
)  # fmt: skip
"""What is divided by what: missed tokens of a request, missed share of a prompt, output of a request."""

_COUNTS = ("first_token_rate", "finished_rate")
"""What tells whether a mean holds enough requests, for prefill and for decode."""


def offered_work(
    windows: pl.DataFrame, window_s: float, *, enough_requests: float, narrowest_s: float, ahead: float
) -> pl.DataFrame:
    """Return the offered work of both roles.

    A mean of tokens per request is of the narrowest stretch near the row that holds enough requests, else of
    the widest. It needs both of its sides: a window without one of them counts in neither.

    Parameters
    ----------
    windows
        One row per capture and window, regular grid inside each capture, rates per second, null = missing:
        capture, t [s since 1970, UTC], started, arrived_tps, prompt_tps, effective_tps, first_token_rate,
        output_tps, finished_rate, decode_arrivals.
    window_s
        Width of a window [s].
    enough_requests
        Finished requests that make a mean trustworthy [count].
    narrowest_s
        Least half width of a mean, 0 = the row alone [s].
    ahead
        How much of a mean lies ahead of its row: 1 = as much as behind, 0 = none, no look-ahead [ratio].

    Returns
    -------
    Frame (capture, t, prefill_tps, decode_tps), rows as given: offered cache-missed prompt tokens, those
    counted at arrival where there are any, and offered output tokens [tokens/s]. A row depends on nothing
    further away than the widest mean reaches.
    """
    halves_s = [narrowest_s, *(half for half in HALF_WIDTHS_S if half > narrowest_s)]
    reaches = [(_rows(half * (2 - ahead), window_s), _rows(half * ahead, window_s)) for half in halves_s]
    parts = [windows.select("capture", "t").clear().with_columns(prefill_tps=0.0, decode_tps=0.0)]
    for _, part in windows.group_by("capture", maintain_order=True):
        prefill, decode = _of_capture(part, reaches, window_s, enough_requests)
        parts.append(
            part.select(
                "capture",
                "t",
                pl.Series("prefill_tps", prefill).fill_nan(None),
                pl.Series("decode_tps", decode).fill_nan(None),
            )
        )
    return pl.concat(parts)


def _rows(width_s: float, window_s: float) -> int:
    """Return how many rows beside its own a stretch reaches."""
    return int(width_s / window_s + _ROW_SLACK)


def _of_capture(
    part: pl.DataFrame, reaches: Sequence[tuple[int, int]], window_s: float, enough_requests: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return offered prefill and decode work of one capture, NaN where unknown."""
    known = {
        name: part[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in part.columns
        if name not in ("capture", "t")
    }
    sides = []
    for above, below in _PAIRS:
        both = np.isfinite(known[above]) & np.isfinite(known[below])
        sides += [np.where(both, known[name], 0.0) for name in (above, below)]
    stacked = np.stack([*sides, *(np.nan_to_num(known[name]) for name in _COUNTS)])
    means, open_rows = np.full((len(_PAIRS), part.height), np.nan), np.ones((2, part.height), bool)
    for number, sums in enumerate(_sums(stacked, reaches)):
        with np.errstate(invalid="ignore", divide="ignore"):
            upper, lower = sums[0 : 2 * len(_PAIRS) : 2], sums[1 : 2 * len(_PAIRS) : 2]
            ratios = np.where(lower == 0, np.nan, upper / lower)
        widest = number + 1 == len(reaches)
        taken = open_rows if widest else open_rows & (sums[2 * len(_PAIRS) :] * window_s >= enough_requests)
        for mean, role in enumerate((0, 0, 1)):
            means[mean] = np.where(taken[role], ratios[mean], means[mean])
        open_rows = open_rows & ~taken
    missed_tokens, missed_share, output_tokens = means
    at_arrival = known["arrived_tps"] * missed_share
    prefill = np.where(np.isfinite(at_arrival), at_arrival, known["started"] * missed_tokens)
    return prefill, known["decode_arrivals"] * output_tokens


def _sums(rows: np.ndarray, reaches: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Yield the sums over the rows near each, for stretches that grow; shape (columns, rows) as given.

    Values are added in the order of their distance, so that a sum is the same wherever its rows lie.
    """
    size = rows.shape[1]
    total, behind, ahead = rows.copy(), 0, 0
    for to_behind, to_ahead in reaches:
        while behind < to_behind or ahead < to_ahead:
            if behind < to_behind:
                behind += 1
                total[:, behind:] += rows[:, : max(size - behind, 0)]
            if ahead < to_ahead:
                ahead += 1
                total[:, : max(size - ahead, 0)] += rows[:, ahead:]
        yield total
