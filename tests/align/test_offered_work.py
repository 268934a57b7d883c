"""Offered work against the same in SQL, and that a row knows nothing of rows far away."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from reference import Reference
from seeds import first

from hs_analysis.align.offered_work import offered_work

COUNTED = ("first_token_rate", "finished_rate", "effective_tps", "prompt_tps", "output_tps")


def windows(seed: int, window_s: float) -> pl.DataFrame:
    """Return two captures with quiet, busy and missing windows; counts are whole numbers a window."""
    rng = np.random.default_rng(seed)
    parts = []
    for capture, size in (("a", 90), ("b", 1)):
        quiet = rng.choice([0.02, 1.0], size, p=[0.4, 0.6])
        rate = np.floor(rng.gamma(2.0, 60.0, size) * quiet) / window_s
        columns = {name: rate * rng.integers(1, 40, size) for name in COUNTED}
        columns |= {name: rate * rng.uniform(0.8, 1.2, size) for name in ("started", "decode_arrivals")}
        columns["arrived_tps"] = np.where(rng.random(size) < 0.5, np.nan, rate * 30)
        holed = {n: np.where(rng.random(size) < 0.15, np.nan, values) for n, values in columns.items()}
        t = window_s * (1000 + np.arange(size))
        parts.append(pl.DataFrame({"capture": [capture] * size, "t": t, **holed}))
    return pl.concat(parts).with_columns(pl.exclude("capture", "t").fill_nan(None))


@pytest.mark.parametrize("seed", first(2, range(8)))
@pytest.mark.parametrize("window_s", [15.0, 60.0, 300.0])
def test_equals_the_query(seed: int, window_s: float) -> None:
    """Centred and trailing means, from the row alone or from a minute on, in two captures."""
    made = windows(seed, window_s)
    with Reference(threads=1) as database:
        for narrowest_s in (0.0, 60.0):
            for ahead in (0.0, 1.0):
                more = {"enough_requests": 399.5, "narrowest_s": narrowest_s, "ahead": ahead}
                expected = database.query(
                    "align/offered_work", {**more, "window_s": window_s}, {"windows": made}
                )
                found = offered_work(made, window_s, **more)
                assert_frame_equal(found, expected.drop("decode_half_width_s"), rel_tol=1e-9)
                assert found["decode_tps"].drop_nulls().len() > 20


def test_a_row_is_the_same_whatever_lies_far_away() -> None:
    """To the last bit: later rows that no mean reaches change nothing, nor does where a history begins."""
    made, more = windows(3, 300.0).head(90), {"enough_requests": 400.0, "narrowest_s": 60.0, "ahead": 1.0}
    whole = offered_work(made, 300.0, **more)
    part = offered_work(made.slice(20, 50), 300.0, **more)
    assert part.slice(6, 38).equals(whole.slice(26, 38))
    assert not part.equals(whole.slice(20, 50))
