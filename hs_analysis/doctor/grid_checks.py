"""Checks of samples on a query's grid: what a rate over a window from them is worth."""

from __future__ import annotations

import polars as pl

from hs_analysis.doctor.input_checks import listed
from hs_analysis.doctor.scene import Finding, Scene

CERTAIN_RATIO = 0.02
"""A rate that is off by less is as good as one from scrapes [ratio]; default of this project."""

MOST_WINDOWS = 0.95
"""Share of the windows that a statement holds for [ratio]."""

ENOUGH_WINDOWS = 3
"""Windows of a width below which nothing is said of it [count]."""

NAMED = 3
"""Rates that a sentence names [count]; each window of each has its bound in data/rate_bounds.parquet."""


def query_grids(scene: Scene) -> list[Finding]:
    """Find samples at the times of a query, not of scrapes, and say how far rates from them may be off.

    The bound per window is that of ``align.scrape_times``; here it is put in a sentence per service, which
    names the rates that are most open.
    """
    grids, bounds = scene.grids, scene.rate_bounds
    if grids is None or grids.is_empty():
        return []
    counters = scene.series.filter(pl.col("kind") == "counter").join(grids, "series_id")
    judged = rate_certainty(bounds if bounds is not None else pl.DataFrame())
    if counters.is_empty() or judged.is_empty():
        return []
    steps = listed(f"{step:g}" for step in counters["step_s"].unique())
    files = counters["file"].n_unique()
    which = (
        f"{counters.height} counters of {files} file{'s' * (files != 1)} ({listed(counters['file'])}) "
        f"lie on a query's grid of {steps} s, which does not say when a value was scraped"
    )
    loose = judged.filter(pl.col("high") > CERTAIN_RATIO)
    if loose.is_empty():
        text = f"{which}: rates are within {CERTAIN_RATIO:.0%} all the same, in {MOST_WINDOWS:.0%} of windows"
        return [Finding("query_grid", "pass", text, value=float(judged["high"].max()))]  # type: ignore[arg-type]
    text = (
        f"{which}: {loose.height} of {judged.height} rates are open by more than {CERTAIN_RATIO:.0%}; ask "
        "for the samples as scraped (hsa pull without --step, `metric[1d]` at the end of each day, a TSDB "
        "snapshot or dump)"
    )
    found = [Finding("query_grid", "warn", text, value=float(loose["high"].max()))]  # type: ignore[arg-type]
    for (service,), own in loose.group_by("service", maintain_order=True):
        worst = float(own["high"].max())  # type: ignore[arg-type]
        found.append(Finding("query_grid", "warn", _sentence(own), service=str(service), value=worst))
    return found


def _sentence(loose: pl.DataFrame) -> str:
    """Say how far the rates of a service are open, the worst by name, and which windows are enough."""
    order = loose.sort("high", "signal", "role", descending=[True, False, False])
    named = [
        f"{row['signal']} of {row['role']} by {row['typical']:.1%} (median), {row['high']:.1%}"
        for row in order.head(NAMED).iter_rows(named=True)
    ]
    more = f" and {loose.height - NAMED} more by less" if loose.height > NAMED else ""
    wide = loose.sort("certain_s").row(-1, named=True)
    return (
        f"over windows of {wide['width_s']:g} s, median and in {1 - MOST_WINDOWS:.0%} of them: "
        f"{', '.join(named)}{more}; all within {CERTAIN_RATIO:.0%} over {'' if wide['seen'] else 'about '}"
        f"{wide['certain_s']:g} s and more"
    )


def rate_certainty(bounds: pl.DataFrame) -> pl.DataFrame:
    """Return how far the rates of each signal may be off.

    Parameters
    ----------
    bounds
        Bounds per window and width, as ``align.scrape_times`` gives them.

    Returns
    -------
    One row per service, role, signal and source, sorted: ``width_s`` of the run's windows, ``windows`` looked
    at, the median bound ``typical`` and the bound ``high`` of all windows but the worst twentieth [ratio],
    and the least width from which on ``high`` stays within 2 % ``certain_s`` [s]. Where the history is too
    short to see it, ``seen`` is false and the width follows from the widest one's bound, which falls as 1/W.
    """
    key = ["service", "role", "signal", "source"]
    if bounds.is_empty():
        return pl.DataFrame()
    widths = (
        bounds.drop_nulls("open_ratio")
        .group_by(*key, "width_s")
        .agg(
            pl.len().alias("windows"),
            pl.col("open_ratio").median().alias("typical"),
            pl.col("open_ratio").quantile(MOST_WINDOWS, "higher").alias("high"),
        )
        .filter(pl.col("windows") >= ENOUGH_WINDOWS)
        .sort(*key, "width_s")
    )
    own = widths.filter(pl.col("width_s") == bounds["width_s"].min())
    loose = widths.filter(pl.col("high") > CERTAIN_RATIO)
    open_to = loose.group_by(key).agg(pl.col("width_s").max().alias("open_s"))
    certain = (
        widths.join(open_to, key, how="left")
        .filter(pl.col("width_s") > pl.col("open_s").fill_null(0.0))
        .group_by(key)
        .agg(pl.col("width_s").min().alias("certain_s"))
    )
    widest = widths.group_by(key).agg(
        (pl.col("width_s") * pl.col("high") / CERTAIN_RATIO)
        .get(pl.col("width_s").arg_max())
        .alias("needed_s")
    )
    found = own.join(certain, key, how="left").join(widest, key).sort(key)
    step = pl.col("width_s")
    return found.with_columns(
        pl.col("certain_s").is_not_null().alias("seen"),
        pl.coalesce("certain_s", (pl.col("needed_s") / step).ceil() * step).alias("certain_s"),
    ).drop("needed_s")
