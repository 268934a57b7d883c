"""Checks of samples on a query's grid: what a rate over a window from them is worth."""

from __future__ import annotations

import polars as pl

from hs_analysis.doctor.input_checks import listed
from hs_analysis.doctor.scene import Finding, Scene

CERTAIN_RATIO = 0.02
"""A rate that is off by less is as good as one from scrapes [ratio]; default of this project."""


def query_grids(scene: Scene) -> list[Finding]:
    """Find counters at the times of a query, not of scrapes, and say how far rates from them may be off.

    A server answers at each point of the grid with the last sample before it, so that a counter is late by up
    to a scrape interval. A rate over a window then gains or loses the growth of up to one interval at an end:
    interval ÷ window, where the load changes by as much as itself from one end to the other. In a real
    capture (5 s of 60 s, bursty load) 99 % of the rates were within that.
    """
    if scene.grids is None or scene.grids.is_empty() or not scene.frames:
        return []
    counters = scene.series.filter(pl.col("kind") == "counter").join(scene.grids, "series_id")
    if counters.is_empty():
        return []
    late_s = scrape_distance_s(counters, scene.quality)
    window_s = min(frame.window_s for frame in scene.frames)
    steps = listed(f"{step:g}" for step in counters["step_s"].unique())
    files = counters["file"].n_unique()
    which = (
        f"{counters.height} counters of {files} file{'s' * (files != 1)} ({listed(counters['file'])}) "
        f"lie on a query's grid of {steps} s, which does not say when a value was scraped"
    )
    open_ratio = late_s / window_s
    if open_ratio <= CERTAIN_RATIO:
        text = f"{which}: rates over windows of {window_s:g} s are within {CERTAIN_RATIO:.0%} all the same"
        return [Finding("query_grid", "pass", text, value=open_ratio)]
    text = (
        f"{which}: a rate over a window of {window_s:g} s may be off by {open_ratio:.1%} (one scrape "
        f"interval, {late_s:g} s, of the window), by {CERTAIN_RATIO:.0%} from {late_s / CERTAIN_RATIO:g} s "
        "on; ask for the samples as scraped (hsa pull without --step, `metric[1d]` at the end of each day, "
        "a TSDB snapshot or dump)"
    )
    return [Finding("query_grid", "warn", text, value=open_ratio)]


def scrape_distance_s(counters: pl.DataFrame, quality: pl.DataFrame) -> float:
    """Return by how much samples on a grid may be late [s]: the largest distance of scrapes.

    A grid finer than the scrapes repeats values. The liveliest counter of a capture and step tells how often
    there is news at all; no distance is shorter than the step.

    Parameters
    ----------
    counters
        Series on a grid (series_id, capture, step_s), at least one.
    quality
        How often each series brings news: series_id, news_s.
    """
    news = counters.join(quality.select("series_id", "news_s"), "series_id", how="left")
    liveliest = pl.col("news_s").min().over("capture", "step_s")
    found: float = news.select(pl.max_horizontal("step_s", liveliest).max()).item()
    return found
