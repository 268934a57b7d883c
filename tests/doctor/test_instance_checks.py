"""Checks of instances that come and go, stop to answer, or stand still."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from doctor.test_checks import START, quality, series
from doctor.test_value_checks import texts

from hs_analysis.schema.frames import FROZEN_SERIES, INSTANCES, LIVES, empty


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


def test_a_target_that_ends_early_is_one_line() -> None:
    """Its pod's GPU series go on: one finding names its signals, and until when the others go on."""
    running = ("vllm:num_requests_running", "running")
    rows = [gauge("d0"), gauge("d0", *running), gauge("d0", "DCGM_FI_DEV_GPU_UTIL", "gpu_util"),
            gauge("d1"), gauge("d1", *running)]  # fmt: skip
    short = {"last_t": at(10)}
    ((_, text),) = texts("ended", series=series(rows), quality=quality([short, short, {}, {}, {}]))
    assert "vllm:kv_cache_usage_perc, vllm:num_requests_running (kv_usage, running) at" in text
    assert "go on to 2026-01-02" in text


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


def shares(
    role: str = "decode", signal: str = "decode_tps", **work: Sequence[float | None] | float
) -> pl.DataFrame:
    """Return the work of instances in rows of five minutes: two hours of a constant, or as listed."""
    rows = [
        {
            "service": "ns/m", "capture": "", "role": role, "instance": name, "t": at(number / 12),
            "signal": signal, "value": value,
        }
        for name, given in work.items()
        for number, value in enumerate([given] * 24 if isinstance(given, float) else given)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=empty(INSTANCES).schema)


def test_an_instance_that_does_no_work_while_its_pool_works_is_named() -> None:
    """With its share and a fair one; several of a pool are one finding."""
    ((level, text),) = texts("idle_instances", instances=shares(d0=99.0, d1=1.0))
    assert level == "warn"
    assert text.startswith(
        "1 of 2 decode instances (d1) did 1.0 % of the work (decode_tps) in 2 h, where a fair share is 50 %:"
    )
    assert "look at the router" in text
    ((_, several),) = texts("idle_instances", instances=shares(d0=98.0, d1=1.0, d2=1.0, d3=100.0))
    assert several.startswith("2 of 4 decode instances (d1, d2) did 1.0 % of the work (decode_tps) in 2 h,")
    assert "a fair share is 50 %" in several


def test_a_pool_that_rests_tells_nothing() -> None:
    """Only where the pool works counts: an hour of it in a quiet day is enough, half an hour is not."""
    for rows, found in ((12, 1), (6, 0)):
        day = [100.0] * rows + [1.0] * 48
        instances = shares(d0=day, d1=[0.0] * rows + [1.0] * 48)
        assert len(texts("idle_instances", instances=instances)) == found


def test_what_an_instance_does_alone_is_not_compared() -> None:
    """One that waits beside the others and works only when they are gone got no share of their work."""
    turns = shares(d0=[99.0] * 14, d1=[0.0] * 14 + [99.0] * 10)
    ((_, text),) = texts("idle_instances", instances=turns)
    assert text.startswith("1 of 2 decode instances (d1) did 0 % of the work (decode_tps) in 1.17 h,")


@pytest.mark.parametrize(
    "instances",
    [
        pytest.param(shares(d0=90.0, d1=10.0), id="little but some"),
        pytest.param(shares(d0=99.0), id="alone"),
        pytest.param(shares(d0=99.0, d1=[0.0] * 11), id="too short"),
        pytest.param(shares(d0=99.0, d1=[0.0] * 4 + [90.0] * 20), id="starts"),
        pytest.param(shares(d0=99.0, d1=[90.0] * 20 + [0.0] * 4), id="drains"),
        pytest.param(shares(d0=99.0, d1=[None] * 24), id="no value"),
        pytest.param(shares(d0=99.0, d1=[90.0] * 3 + [None] * 21), id="mostly no value"),
        pytest.param(shares(d0=[99.0] * 24, d1=[None] * 24 + [1.0] * 24), id="one after the other"),
        pytest.param(shares(d0=[99.0, 0.0] * 12, d1=[0.0, 99.0] * 12), id="in turn"),
        pytest.param(shares(d0=99.0, d1=[0.0, 0.0, 0.0, 12.0] * 6), id="now and then"),
        pytest.param(shares(d0=99.0, d1=[0.0] * 22 + [300.0] * 2), id="bursts"),
        pytest.param(shares(signal="kv_usage", d0=0.9, d1=0.0), id="no work is counted"),
        pytest.param(shares(d0=0.0, d1=0.0), id="nothing happens"),
        pytest.param(
            shares(**{f"d{i}": [9.0 * (row == i) for row in range(12)] for i in range(20)}), id="too little"
        ),
    ],
)
def test_no_instance_is_called_idle_without_reason(instances: pl.DataFrame) -> None:
    """One with some work, few or unknown readings, none beside it, or where the busy are not told apart."""
    assert texts("idle_instances", instances=instances) == []


def test_running_requests_stand_in_where_no_work_is_counted() -> None:
    """Prompt tokens, cached ones too, come before them: a prefill instance that finds all cached works."""
    running = shares("prefill", "running", p0=9.0, p1=0.0)
    assert "work (running)" in texts("idle_instances", instances=running)[0][1]
    prompts = shares("prefill", "prefill_tps", p0=9.0, p1=9.0)
    missed = shares("prefill", "prefill_tps_effective", p0=9.0, p1=0.1)
    assert texts("idle_instances", instances=pl.concat([running, missed, prompts])) == []
