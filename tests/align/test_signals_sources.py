"""One source per service, role and signal."""

from __future__ import annotations

import polars as pl
import pytest

from hs_analysis.align.signals import choose_sources


def windows(*parts: tuple[str, str, int, list[float | None]], service: str = "s") -> pl.DataFrame:
    """Return the result of align/signal_windows; a part is (signal, source, preference, values)."""
    rows = [
        {
            "service": service, "capture": "", "role": "decode", "gpu_group": None, "signal": signal,
            "source": source, "preference": preference, "t": 60.0 * i, "value": value, "instances": 1.0,
            "coverage": 1.0,
        }
        for signal, source, preference, values in parts
        for i, value in enumerate(values)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"gpu_group": pl.String, "value": pl.Float64})


def chosen(frame: pl.DataFrame) -> dict[str, str]:
    """Return source by signal."""
    found, _ = choose_sources(frame)
    return dict(found.select("signal", "source").unique().rows())


@pytest.mark.parametrize(("present", "source"), [(7, "engine"), (6, "front")])
def test_the_next_source_is_taken_below_seventy_percent(present: int, source: str) -> None:
    """Coverage is the share of the service's windows with a value."""
    thin = [1.0] * present + [None] * (10 - present)
    assert chosen(windows(("tps", "engine", 0, thin), ("tps", "front", 1, [1.0] * 10))) == {"tps": source}


def test_windows_a_source_never_had_count_as_missing() -> None:
    """A short source is not whole because it has no rows where it has no values."""
    assert chosen(windows(("tps", "engine", 0, [1.0] * 5), ("tps", "front", 1, [1.0] * 10))) == {
        "tps": "front"
    }


def test_where_none_covers_enough_the_fullest_is_taken() -> None:
    """In the catalogue's order when they are equal."""
    thin, thinner = [1.0] * 6 + [None] * 4, [1.0] * 5 + [None] * 5
    assert chosen(windows(("tps", "engine", 0, thinner), ("tps", "front", 1, thin))) == {"tps": "front"}
    assert chosen(windows(("tps", "engine", 0, thin), ("tps", "front", 1, thin))) == {"tps": "engine"}


def test_gpu_groups_follow_the_pool() -> None:
    """The choice is made on the whole pool; its parts come from the same source."""
    whole = windows(("tps", "engine", 0, [None] * 10), ("tps", "front", 1, [1.0] * 10))
    part = whole.with_columns(pl.lit("H20").alias("gpu_group"))
    found, _ = choose_sources(pl.concat([whole, part]))
    assert found["source"].unique().to_list() == ["front"]
    assert found["gpu_group"].unique().sort(nulls_last=True).to_list() == ["H20", None]


def test_both_shares_of_a_limit_come_from_one_histogram() -> None:
    """A histogram whose first edge lies over the limit has no lower share, and no other one lends it."""
    found = choose_sources(
        windows(
            ("ttft_over_high", "front", 0, [0.1] * 10),
            ("ttft_over_high", "engine", 1, [0.2] * 10),
            ("ttft_over_low", "engine", 1, [0.3] * 10),
        )
    )[0]
    assert found["signal"].unique().to_list() == ["ttft_over_high"]
    both = choose_sources(
        windows(
            ("ttft_over_high", "front", 0, [0.1] * 10),
            ("ttft_over_low", "front", 0, [None] * 10),
            ("ttft_over_high", "engine", 1, [0.2] * 10),
            ("ttft_over_low", "engine", 1, [0.3] * 10),
        )
    )[0]
    assert set(both.select("signal", "source").rows()) == {
        ("ttft_over_high", "front"),
        ("ttft_over_low", "front"),
    }


def test_a_disagreement_over_five_percent_is_reported() -> None:
    """The median of the log ratio, for signals whose sources mean the same; zeros and gaps are left out."""
    base = [10.0, 20.0, 30.0, 0.0, None]
    for factor, expected in ((1.04, 0), (1.06, 1)):
        other = [v * factor if v else v for v in base]
        _, found = choose_sources(windows(("decode_tps", "a", 0, base), ("decode_tps", "b", 1, other)))
        assert found.height == expected
    assert found.select("source", "other").row(0) == ("a", "b")
    assert found["difference"][0] == pytest.approx(0.0583, abs=1e-4)
    _, other = choose_sources(windows(("ttft", "a", 0, base), ("ttft", "b", 1, [v and 2 * v for v in base])))
    assert other.is_empty()


def test_services_choose_for_themselves() -> None:
    """One service's gaps do not change the other's source."""
    thin = windows(("tps", "engine", 0, [None] * 10), ("tps", "front", 1, [1.0] * 10), service="x")
    full = windows(("tps", "engine", 0, [1.0] * 10), ("tps", "front", 1, [1.0] * 10), service="y")
    found, _ = choose_sources(pl.concat([thin, full]))
    assert set(found.select("service", "source").rows()) == {("x", "front"), ("y", "engine")}


def test_nothing_in_nothing_out() -> None:
    """An input without windows has no choice to make."""
    frame = windows(("tps", "engine", 0, [1.0])).clear()
    found, disagreements = choose_sources(frame)
    assert found.is_empty()
    assert disagreements.is_empty()
