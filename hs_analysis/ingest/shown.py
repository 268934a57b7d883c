"""What only the stored samples show of a series: the role of its instance, and its unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.ingest.behaviour import behaviour_counters, behaviour_roles
from hs_analysis.ingest.scales import OVER_ONE, bounded_series, judge_scales

COUNTERS_AT_ONCE = 8
"""Counters whose samples a query holds at once: a week at 15 s of them is 320,000 samples."""


class QueryRunner(Protocol):
    """Runs a shipped query on named inputs."""

    def __call__(self, name: str, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> pl.DataFrame:
        """Return the result of ``name``."""


def shown_by_samples(
    series: pl.DataFrame,
    samples: Any,
    catalogue: Catalogue,
    query: QueryRunner,
    help_texts: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Return the series with the roles and the scales that their values show.

    Parameters
    ----------
    series
        Frame of contract SERIES, roles decided as far as labels and names tell.
    samples
        Frame of contract SAMPLES, or what the query runner takes for it.
    catalogue
        The catalogue, the user's rows included.
    query
        Runs a shipped query.
    help_texts
        HELP text per metric name, where the input has them.

    Returns
    -------
    Frame of contract SERIES; a role that is known stays.
    """
    counters = behaviour_counters(series)
    if counters.height:
        totals = [
            query("ingest/behaviour_totals", {}, {"samples": samples, "counters": some})
            for some in counters.sort("series_id").iter_slices(COUNTERS_AT_ONCE)
        ]
        series = behaviour_roles(series, pl.concat(totals))
    bounded = bounded_series(series, catalogue)
    if bounded.is_empty():
        return series
    ranges = query("ingest/value_ranges", {"over_one": OVER_ONE}, {"samples": samples, "bounded": bounded})
    return judge_scales(series, ranges, catalogue, help_texts)
