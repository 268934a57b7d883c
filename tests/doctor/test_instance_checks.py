"""Checks of instances that come and go, stop to answer, or stand still."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
from doctor.test_checks import START, quality, series
from doctor.test_value_checks import texts

from hs_analysis.schema.frames import FROZEN_SERIES, LIVES, empty


def at(hours: float) -> Any:
    """Return a moment so many hours after the start."""
    return START + timedelta(hours=hours)


def lives(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return lives with sensible defaults: there from start to end."""
    plain = dict.fromkeys(LIVES.names) | {
        "service": "ns/m", "capture": "", "role": "decode", "life": 1, "resolution_s": 30.0,
    }  # fmt: skip
    return pl.DataFrame([plain | row for row in rows], schema=empty(LIVES).schema)


def test_who_came_and_went_is_named_with_the_times() -> None:
    """One that came, one that ended, one that was away, and one that was there."""
    came = {"instance": "d1", "started": at(1), "started_by": "up", "ready": at(2)}
    gone = {"instance": "d2", "ended": at(3), "ended_by": "series"}
    away = {"instance": "d3", "ended": at(4), "ended_by": "reset"}
    back = {"instance": "d3", "life": 2, "started": at(5), "started_by": "reset", "ready": at(5)}
    ((level, text),) = texts("fleet", lives=lives({"instance": "d0"}, came, gone, away, back))
    assert level == "pass"
    assert text.startswith(
        "3 of 4 decode instances came or went: d1 came by 2026-01-01 02:00:00 UTC; "
        "d2 ended at 2026-01-01 03:00:00 UTC; "
        "d3 was away from 2026-01-01 04:00:00 UTC to 2026-01-01 05:00:00 UTC;"
    )
    assert "all 1 decode instances" in texts("fleet", lives=lives({"instance": "d0"}))[0][1]


def test_a_target_that_stopped_to_answer_is_named() -> None:
    """One whose series end was scaled in, or so it looks."""
    dead = {"instance": "d1", "ended": at(3), "ended_by": "up"}
    gone = {"instance": "d2", "ended": at(3), "ended_by": "series"}
    ((level, text),) = texts("ended", lives=lives(dead, gone))
    assert level == "warn"
    assert text.startswith("d1 (decode) does not answer from 2026-01-01 03:00:00 UTC on")


def gauge(
    instance: str, metric: str = "vllm:kv_cache_usage_perc", signal: str = "kv_usage"
) -> dict[str, Any]:
    """Return a gauge of an instance."""
    return {"instance": instance, "metric": metric, "signal": signal, "kind": "gauge"}


def test_a_signal_that_ends_before_its_instance_is_named() -> None:
    """While the other series of the pod go on; one that all pods lose at once is no pod's fault."""
    rows = [{}, gauge("decode-0"), {"instance": "decode-1"}, gauge("decode-1")]
    short = {"last_t": at(10)}
    ((level, text),) = texts("ended", series=series(rows), quality=quality([{}, short, {}, {}]))
    assert level == "warn"
    assert text.startswith(
        "decode-0 (decode) ends its vllm:kv_cache_usage_perc (kv_usage) at 2026-01-01 10:00"
    )
    assert texts("ended", series=series(rows), quality=quality([{}, short, {}, short])) == []
    assert texts("ended", series=series(rows), quality=quality([short, short, {}, {}])) == []


def test_a_renamed_gauge_has_not_ended() -> None:
    """Its signal goes on under the newer name, while another pod still exports the older one."""
    old = "vllm:gpu_cache_usage_perc"
    rows = [{}, gauge("decode-0", old), gauge("decode-0"), {"instance": "d1"}, gauge("d1", old)]
    parts = [{}, {"last_t": at(10)}, {"first_t": at(10)}, {}, {}]
    assert texts("ended", series=series(rows), quality=quality(parts)) == []


def test_what_stands_still_is_named() -> None:
    """A whole instance, or one gauge of it."""
    plain = {
        "service": "ns/m",
        "capture": "",
        "role": "decode",
        "instance": "d1",
        "after": at(1),
        "until": at(2),
    }
    rows = [
        {**plain, "metric": "", "told_by": "clock", "series": 40},
        {**plain, "metric": "vllm:kv_cache_usage_perc", "told_by": "peers", "series": 1},
    ]
    found = texts("frozen", frozen_series=pl.DataFrame(rows, schema=empty(FROZEN_SERIES).schema))
    assert [level for level, _ in found] == ["warn", "warn"]
    assert found[0][1].startswith("d1 (decode) does not move from 2026-01-01 01:00:00 UTC to")
    assert found[1][1].startswith("vllm:kv_cache_usage_perc of d1 does not move from")
    assert "null in 40 series" in found[0][1]
