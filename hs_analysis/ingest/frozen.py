"""Scrape gaps that `query_range` hid by repeating the last value."""

from __future__ import annotations

import numpy as np
import polars as pl

FROZEN_SHARE = 0.97
"""Share of series that must repeat together; Prometheus repeats all of them for up to five minutes."""

FROZEN_STEPS = 3
"""Steps in a row, so that one quiet moment is no gap."""

USUAL_SHARE = 0.8
"""Without a clock-like series a stretch counts only where series usually move: else it may be an idle service."""


def frozen_stretches(repeats: pl.DataFrame) -> pl.DataFrame:
    """Return the stretches in which all series repeat together.

    Parameters
    ----------
    repeats
        Result of the query ``ingest/repeats``: per capture and time the series and how many repeat.

    Returns
    -------
    Frame (capture, first_t, last_t): the repeated samples, both ends included; sorted.

    Notes
    -----
    A series that behaves like a clock (uptime, scrape duration) never repeats while it is scraped, so where one
    exists it must repeat too. An idle service repeats without a gap; without a clock the usual share decides.
    """
    found: list[dict[str, object]] = []
    for (capture,), part in repeats.group_by("capture", maintain_order=True):
        share = (part["repeats"] / part["series"]).to_numpy()
        clocks = part["clocks"].to_numpy()
        stuck = np.divide(part["clock_repeats"].to_numpy(), np.maximum(clocks, 1)) >= FROZEN_SHARE
        trusted = np.where(clocks > 0, stuck, float(np.median(share)) <= USUAL_SHARE)
        times = part["t"].to_list()
        for first, last in _runs((share >= FROZEN_SHARE) & trusted.astype(bool)):
            if last - first + 1 >= FROZEN_STEPS:
                found.append({"capture": capture, "first_t": times[first], "last_t": times[last]})
    schema: dict[str, pl.DataType | type[pl.DataType]] = {"capture": pl.String, "first_t": pl.Datetime("us", "UTC"), "last_t": pl.Datetime("us", "UTC")}
    return pl.DataFrame(found, schema=schema).sort("capture", "first_t")


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return (first, last) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
