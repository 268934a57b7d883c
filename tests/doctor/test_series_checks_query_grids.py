"""What the doctor says of rates from samples on a query's grid."""

from __future__ import annotations

import polars as pl
import pytest

from hs_analysis.doctor.series_checks import scrape_distance_s


@pytest.mark.parametrize(("numbers", "late_s"), [([1, 2], 15.0), ([3], 30.0), ([1, 2, 3], 30.0)])
def test_a_grid_finer_than_the_scrapes_is_late_by_a_scrape(numbers: list[int], late_s: float) -> None:
    """The liveliest counter of a capture and step tells; no distance is shorter than the step."""
    counters = pl.DataFrame({"series_id": [1, 2, 3], "step_s": [5.0, 5.0, 30.0], "capture": [""] * 3})
    quality = pl.DataFrame({"series_id": [1, 2, 3], "news_s": [15.0, 400.0, None]})
    assert scrape_distance_s(counters.filter(pl.col("series_id").is_in(numbers)), quality) == late_s
