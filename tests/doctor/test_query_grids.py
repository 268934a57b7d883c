"""What the doctor says of rates from samples on a query's grid."""

from __future__ import annotations

import polars as pl
import pytest

from hs_analysis.doctor.grid_checks import rate_certainty


def rows(signal: str, width_s: float, ratios: list[float | None]) -> pl.DataFrame:
    """Bounds of a signal's windows of one width."""
    return pl.DataFrame(
        {
            "service": "s", "capture": "", "role": "decode", "signal": signal, "source": "vllm",
            "width_s": width_s, "t": [float(n) for n in range(len(ratios))], "open_ratio": ratios,
        }
    )  # fmt: skip


def test_the_least_width_that_is_certain_from_there_on() -> None:
    """Three widths, of which the second is better by chance only: the third is named."""
    widths = [
        (60.0, [0.01] * 10 + [0.05] * 10),
        (120.0, [0.02] * 10),
        (300.0, [0.03] * 4),
        (600.0, [0.01] * 3),
    ]
    (row,) = rate_certainty(pl.concat(rows("a", *one) for one in widths)).iter_rows(named=True)
    assert (row["width_s"], row["windows"], row["seen"], row["certain_s"]) == (60.0, 20, True, 600.0)
    assert (row["typical"], row["high"]) == pytest.approx((0.03, 0.05))


def test_a_short_history_is_told_by_the_law() -> None:
    """Twice as wide is half as open: 5 % at 300 s are 2 % at 750 s, in whole minutes 780."""
    own = [(60.0, [0.2] * 12), (300.0, [0.05, 0.05, 0.05, None]), (600.0, [0.001])]
    (row,) = rate_certainty(pl.concat(rows("a", *one) for one in own)).iter_rows(named=True)
    assert (row["seen"], row["certain_s"]) == (False, 780.0)
