"""One source per service, role and signal: the first of the catalogue's order with enough coverage."""

from __future__ import annotations

import polars as pl

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
        The rows of the chosen sources. The shares over the lower and the upper edge of a limit are of one
        histogram.
    disagreements
        (service, role, signal, source, other, difference): median absolute log ratio of the two best sources
        where it is above 5 %.
    """
    together = windows.filter(pl.col("gpu_group").is_null())
    slots = together.group_by("service").agg(pl.struct("capture", "t").n_unique().alias("slots"))
    coverage = (
        together.group_by([*_SIGNAL, "preference", "source"])
        .agg(pl.col("value").is_not_null().sum().alias("present"))
        .join(slots, "service")
        .with_columns((pl.col("present") / pl.col("slots")).alias("share"))
    )
    enough = pl.col("share") >= ENOUGH_COVERAGE
    ranked = coverage.sort(
        [*_SIGNAL, enough.not_(), pl.when(enough).then(pl.lit(0.0)).otherwise(-pl.col("share")), "preference"]
    )
    best = ranked.group_by(_SIGNAL, maintain_order=True).first().select([*_SIGNAL, "preference"])
    second = ranked.group_by(_SIGNAL, maintain_order=True).agg(pl.col("preference").get(1, null_on_oob=True))
    chosen = windows.join(_one_histogram(best), [*_SIGNAL, "preference"], how="semi")
    return chosen, _disagreements(together, best, second.drop_nulls())


def _one_histogram(best: pl.DataFrame) -> pl.DataFrame:
    """Take the share over the lower edge from the histogram that gives the share over the upper one."""
    lower = pl.col("signal").str.ends_with("_over_low")
    upper = best.filter(pl.col("signal").str.ends_with("_over_high")).with_columns(
        pl.col("signal").str.replace("_over_high", "_over_low", literal=True)
    )
    return pl.concat([best.filter(~lower), upper])


def _disagreements(windows: pl.DataFrame, best: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    key = [*_SIGNAL, "capture", "t"]
    first = windows.join(best, [*_SIGNAL, "preference"], how="semi").select([*key, "source", "value"])
    other = windows.join(second, [*_SIGNAL, "preference"], how="semi").select(
        [*key, pl.col("source").alias("other"), pl.col("value").alias("other_value")]
    )
    both = first.join(other, key).filter((pl.col("value") > 0) & (pl.col("other_value") > 0))
    both = both.filter(pl.col("signal").is_in(COMPARABLE))
    return (
        both.group_by([*_SIGNAL, "source", "other"])
        .agg((pl.col("value") / pl.col("other_value")).log().abs().median().alias("difference"))
        .filter(pl.col("difference") > DISAGREEMENT)
        .sort(_SIGNAL)
    )
