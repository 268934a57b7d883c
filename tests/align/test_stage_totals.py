"""Recorded totals of a service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hs_analysis.align.stage import facts_of
from hs_analysis.schema.aligned import ServiceFrame

START = datetime(2026, 1, 1, tzinfo=UTC)
CHOSEN = pl.DataFrame(
    {
        "service": ["s"] * 4,
        "role": ["service", "decode", "mixed", "service"],
        "signal": ["prompt_tps", "decode_tps", "decode_tps", "completion_rate"],
        "preference": [1, 0, 2, 0],
    }
)
TOTALS = pl.DataFrame(
    {
        "service": ["s", "s", "s", "s", "s", "other"],
        "role": ["service", "service", "decode", "decode", "mixed", "decode"],
        "signal": ["prompt_tps", "prompt_tps", "decode_tps", "decode_tps", "decode_tps", "decode_tps"],
        "preference": [0, 1, 0, 1, 2, 0],
        "total": [5.0, 7.0, 100.0, 999.0, 11.0, 1.0],
    }
)


def frame(captures: list[str], counts: list[float | None], gpus: dict[str, float]) -> ServiceFrame:
    """Return a service with one decode pool, a row a minute."""
    table = pl.DataFrame(
        {
            "capture": captures,
            "t": [START + timedelta(minutes=i) for i in range(len(captures))],
            "instances@decode": counts,
        },
        schema_overrides={"t": pl.Datetime("us", "UTC"), "instances@decode": pl.Float64},
    )
    return ServiceFrame("s", 60.0, "production", "offered", table, (), gpus, {})


def test_totals_come_from_the_chosen_source_of_each_role() -> None:
    """Other sources of the signal and other services do not count; what nobody counts is unknown."""
    facts = facts_of(frame([""], [1.0], {}), TOTALS, CHOSEN)
    assert (facts.prompt_tokens, facts.output_tokens, facts.requests) == (7.0, 111.0, None)


def test_instance_hours_carry_the_last_count_over_a_gap_but_not_into_another_capture() -> None:
    """Thirty rows known, thirty in a gap; the next capture begins with what it shows itself."""
    counts = [*[4.0] * 30, *[None] * 30, *[None] * 30, *[2.0] * 30]
    captures = ["a"] * 60 + ["b"] * 60
    facts = facts_of(frame(captures, counts, {"decode": 8.0}), TOTALS, CHOSEN)
    assert facts.instance_hours == pytest.approx(4.0 + 1.0)
    assert facts.gpu_hours == pytest.approx(8 * 5.0)


def test_gpu_hours_are_unknown_without_the_size_of_every_pool() -> None:
    """And instance-hours without any pool."""
    assert facts_of(frame([""], [1.0], {}), TOTALS, CHOSEN).gpu_hours is None
    empty = facts_of(frame([""], [None], {}), TOTALS, CHOSEN)
    assert (empty.instance_hours, empty.gpu_hours) == (None, None)
