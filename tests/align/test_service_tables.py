"""What is known of each column of a service table."""

from __future__ import annotations

import polars as pl

from hs_analysis.align.service_tables import signal_infos
from hs_analysis.catalogue import load_catalogue
from hs_analysis.schema.aligned import SignalInfo

TABLE = pl.DataFrame(
    {
        "capture": [""] * 4,
        "t": [0, 1, 2, 3],
        "gpu_util@decode": [0.5, None, 0.5, 0.5],
        "request_rate@service": [1.0, 1.0, None, None],
        "tbt_over_low@decode": [0.0] * 4,
        "queue_length@decode": [0.0, 0.0, 2.0, 0.0],
        "instances@decode": [3.0] * 4,
        "sm_activity@decode": [1.0] * 4,
    }
)
OWN = pl.DataFrame(
    {
        "signal": ["gpu_util", "request_rate", "tbt_over_low", "queue_length", "sm_activity"],
        "role": ["decode", "service", "decode", "decode", "decode"],
        "source": ["dcgm", "dynamo_frontend", "vllm", "vllm", "dcgm"],
        "preference": [0, 0, 101, 0, 0],
    }
)
TERMS = pl.DataFrame(
    {
        "signal": [
            "gpu_util",
            "gpu_util",
            "request_rate",
            "request_rate",
            "tbt_over_low",
            "queue_length",
            "sm_activity",
        ],
        "role": ["decode", "decode", "service", "service", "decode", "decode", "decode"],
        "preference": [0, 0, 0, 1, 101, 0, 0],
        "side": ["num"] * 7,
        "read": ["gauge", "gauge", "rate", "rate", "rate", "gauge", "gauge"],
        "series_id": [0, 1, 2, 3, 4, 5, 6],
    }
)
QUALITY = pl.DataFrame(
    {
        "series_id": [0, 1, 2, 3, 4, 5, 6],
        "interval_s": [15.0, 15.0, 15.0, 5.0, None, 15.0, 15.0],
        "news_s": [30.0, 30.0, 600.0, 5.0, None, 19725.0, 6738.75],
    }
)


def info(name: str) -> SignalInfo:
    """Return what is known of one column."""
    found = signal_infos(TABLE, OWN, TERMS, QUALITY, load_catalogue(), 15.0)
    return next(one for one in found if f"{one.signal}@{one.role}" == name)


def test_copies_of_a_gauge_carry_no_news() -> None:
    """The effective interval of a gauge is the time between changes; a counter has its scrape interval."""
    assert info("gpu_util@decode").interval_s == 30.0
    assert info("request_rate@service").interval_s == 15.0


def test_a_queue_that_stands_at_zero_is_news_at_every_scrape() -> None:
    """Empty for five hours is no copy: rows as wide as that would leave nothing to judge it on."""
    assert info("queue_length@decode").interval_s == 15.0


def test_a_gauge_that_stands_for_hours_is_flat_and_no_copy() -> None:
    """A GPU at 100 % all day: there is a sample at every scrape, and nothing in it."""
    assert info("sm_activity@decode").interval_s == 15.0


def test_what_has_no_interval_of_its_own_has_the_usual_one() -> None:
    """Series with a single sample, and derived columns."""
    assert info("tbt_over_low@decode").interval_s == 15.0
    assert info("instances@decode").interval_s == 15.0


def test_catalogue_gives_unit_pool_and_family() -> None:
    """Shares and derived quantities are auxiliary."""
    gpu, share, count = (info(n) for n in ("gpu_util@decode", "tbt_over_low@decode", "instances@decode"))
    assert (gpu.source, gpu.unit, gpu.pool, gpu.family) == ("dcgm", "ratio", "mean", "hardware")
    assert (share.source, share.unit, share.pool, share.family) == ("vllm", "ratio", "ratio", "auxiliary")
    assert (count.source, count.unit, count.pool, count.family) == (
        "derived",
        "instances",
        "sum",
        "auxiliary",
    )


def test_coverage_is_the_share_of_windows_with_a_value() -> None:
    """Nulls are missing."""
    assert info("gpu_util@decode").coverage == 0.75
    assert info("request_rate@service").coverage == 0.5
    assert [one.signal for one in signal_infos(TABLE, OWN, TERMS, QUALITY, load_catalogue(), 15.0)] == [
        "gpu_util", "request_rate", "tbt_over_low", "queue_length", "instances", "sm_activity",
    ]  # fmt: skip
