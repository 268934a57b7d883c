"""Scrape gaps that `query_range` hid by repeating the last value."""

from __future__ import annotations

import numpy as np
import polars as pl

from hs_analysis.statistics.episodes import Mask, Run, runs

FROZEN_SHARE = 0.97
"""Share of series that must repeat together; Prometheus repeats all of them for up to five minutes."""

FROZEN_STEPS = 3
"""Steps in a row, so that one quiet moment is no gap."""

USUAL_SHARE = 0.8
"""Without a clock-like series a stretch counts only where series usually move: else it may be idle."""

TOGETHER_SHARE = 0.5
"""Share of the living series that must have a sample at a moment for it to speak of all of them: a dump
with the true scrape times has one target at a time, and repeats nothing."""

SETTLE_STEPS = 2
"""Steps after a stretch in which single series may still repeat: targets are scraped one after the other."""

USUAL_STEPS_FACTOR = 2.5
"""Where the step is shorter than the scrape interval most moments repeat: there a gap is a stretch this
many times longer than the usual one, as a pause over 2.5 intervals is a gap elsewhere."""


def frozen_stretches(repeats: pl.DataFrame) -> pl.DataFrame:
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
                "settle_t": times[min(stop - 1 + SETTLE_STEPS, len(times) - 1)],
            }
            for first, stop in _longer_than_usual(runs(_repeating(part)), part.height)
        ]
    time = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        found, schema={"capture": pl.String} | dict.fromkeys(("first_t", "last_t", "settle_t"), time)
    )
    return frame.sort("capture", "first_t")


def _repeating(part: pl.DataFrame) -> Mask:
    """Return the moments at which all series repeat and a clock, or the usual share, says it is no idling."""
    share = (part["repeats"] / part["series"]).to_numpy()
    clocks = part["clocks"].to_numpy()
    stuck = part["clock_repeats"].to_numpy() / np.maximum(clocks, 1) >= FROZEN_SHARE
    usually_moving = float(np.median(share)) <= USUAL_SHARE
    return np.asarray((share >= FROZEN_SHARE) & np.where(clocks > 0, stuck, usually_moving))


def _longer_than_usual(stretches: list[Run], moments: int) -> list[Run]:
    steps = [stop - start for start, stop in stretches]
    least = float(FROZEN_STEPS)
    if 2 * sum(steps) > moments:
        least = max(least, USUAL_STEPS_FACTOR * float(np.median(steps)))
    return [run for run, length in zip(stretches, steps, strict=True) if length >= least]
