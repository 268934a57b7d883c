"""Each named check, on the smallest scene that makes it speak."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from hs_analysis.catalogue import load_catalogue
from hs_analysis.doctor import (
    CHECKS,
    DoctorContext,
    SupersededFile,
    diagnose,
    input_checks,
    instance_checks,
    missing_signals,
    renamed_metrics,
    series_checks,
    table_checks,
)
from hs_analysis.schema.aligned import ServiceFrame, SignalInfo
from hs_analysis.schema.frames import REJECTED, SERIES, empty
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)


def series(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return series with sensible defaults."""
    plain = {
        "metric": "vllm:generation_tokens_total",
        "labels": [],
        "signal": "decode_tps",
        "emitter_role": "decode",
        "role_evidence": "pod_name",
        "service": "ns/m",
        "instance": "decode-0",
        "unit_kind": "pod",
        "gpu_type": None,
        "unit": "tokens/s",
        "kind": "counter",
        "interval_s": 30.0,
        "capture": "",
        "source": "vllm",
    }
    full = [plain | {"series_id": number} | row for number, row in enumerate(rows)]
    return pl.DataFrame(full, schema=empty(SERIES).schema)


def quality(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return what a query says of each series."""
    plain = {
        "rows": 100,
        "first_t": START,
        "last_t": START + timedelta(hours=24),
        "interval_s": 30.0,
        "news_s": 30.0,
        "gaps": 0,
        "longest_gap_s": None,
        "nulls": 0,
        "lookback": 0,
        "resets": 0,
        "low": 0.0,
        "high": 1.0,
    }
    return pl.DataFrame(
        [plain | {"series_id": number} | row for number, row in enumerate(rows)],
        schema_overrides={"longest_gap_s": pl.Float64},
    )


def frame(
    columns: dict[str, float],
    infos: tuple[SignalInfo, ...] = (),
    reference: str = "offered",
    rows: int = 1440,
) -> ServiceFrame:
    """Return a service with constant columns."""
    times = [START + timedelta(minutes=k) for k in range(rows)]
    table = pl.DataFrame(
        {"capture": [""] * rows, "t": times} | {name: [value] * rows for name, value in columns.items()}
    )
    return ServiceFrame("ns/m", 60.0, "production", reference, table, infos, {}, {})  # type: ignore[arg-type]


def info(
    signal: str, role: str, source: str = "vllm", unit: str = "ratio", family: str = "memory"
) -> SignalInfo:
    """Return what is known of a column."""
    return SignalInfo(signal, role, source, unit, "mean", family, 30.0, 1.0)


def scene(**changes: Any) -> DoctorContext:
    """Return a scene with nothing to complain of."""
    frozen = pl.DataFrame(
        schema={"capture": pl.String, "first_t": pl.Datetime("us", "UTC"), "last_t": pl.Datetime("us", "UTC")}
    )
    resets = pl.DataFrame(
        schema={
            "series_id": pl.Int64,
            "t": pl.Datetime("us", "UTC"),
            "before": pl.Float64,
            "after": pl.Float64,
        }
    )
    differ = pl.DataFrame(
        schema=dict.fromkeys(("service", "role", "signal", "source", "other"), pl.String)
        | {"difference": pl.Float64}
    )
    plain = DoctorContext(
        series([{}]), quality([{}]), empty(REJECTED), frozen, resets, (), (), (), (), (frame({}),), (),
        differ, load_catalogue(), Settings(),
    )  # fmt: skip
    return replace(plain, **changes)


def test_a_clean_scene_passes_but_for_what_is_missing() -> None:
    """Only the missing signals of an empty service are warned of."""
    found = diagnose(scene())
    assert set(found.filter(pl.col("level") != "pass")["check"]) == {"missing"}


@pytest.mark.parametrize(
    ("ttft", "tbt", "seen", "words"),
    [
        (0.4, 0.04, {}, None),
        (
            400.0,
            0.04,
            {},
            "ttft is 400 s at 10 requests/s, which takes 4,000 requests in flight, and 110",
        ),
        (0.4, 40.0, {}, "tbt is 40 s at 2.5e+03 tokens/s, which takes 100,000 requests in flight, and 110"),
        (400.0, 0.04, {"in_flight@service": 4000.0}, None),
        (400.0, 40.0, {"running@decode": math.nan}, None),
    ],
)
def test_latencies_need_no_more_requests_than_are_there(
    ttft: float, tbt: float, seen: dict[str, float], words: str | None
) -> None:
    """Rate times latency are requests in flight: of milliseconds for seconds a thousand times as many."""
    columns = {"ttft@service": ttft, "first_token_rate@service": 10.0, "tbt@decode": tbt}
    columns |= {"decode_tps@decode": 2500.0, "running@decode": 100.0, "running@prefill": 10.0}
    frames = (frame(columns | {"instances@prefill": 1.0, "instances@decode": 1.0} | seen),)
    texts = [one.text for one in input_checks.scales(scene(frames=frames)) if one.level == "fail"]
    assert [text.partition(" are: ")[0] for text in texts] == ([words] if words else [])


@pytest.mark.parametrize("shift_h", [0.0, 1.0, -5.5])
def test_a_front_end_in_another_time_zone_is_found(shift_h: float) -> None:
    """Its requests then move hours before or after the tokens; an unrelated load says nothing."""
    made = frame(
        {"instances@prefill": 1.0, "request_rate@service": 1.0, "prefill_tps_effective@prefill": 1.0}
    )
    rng = np.random.default_rng(3)
    more = 6 * 60
    load = np.exp(np.repeat(rng.normal(0.0, 0.3, (made.table.height + 2 * more) // 10), 10))
    requests, tokens, strange = (
        pl.Series(name, load[more + by : more + by + made.table.height] * scale)
        for name, by, scale in [
            ("request_rate@service", round(60 * shift_h), 2.0),
            ("prefill_tps_effective@prefill", 0, 900.0),
            ("request_rate@service", more, 2.0),
        ]
    )

    def found(*columns: pl.Series) -> list[tuple[str, float | None]]:
        frames = (replace(made, table=made.table.with_columns(*columns)),)
        return [(one.level, one.value) for one in input_checks.clocks(scene(frames=frames))]

    assert found(requests, tokens) == ([("fail", 3600.0 * shift_h)] if shift_h else [])
    assert found(strange.reverse(), tokens) == []


def test_every_check_is_listed() -> None:
    """A check that is written but not listed would never run."""
    written = {
        value
        for module in (input_checks, instance_checks, renamed_metrics, series_checks, table_checks)
        for value in vars(module).values()
        if callable(value)
        and not value.__name__.startswith("_")
        and getattr(value, "__annotations__", {}).get("return") == "list[Finding]"
    }
    assert written == {check.run for check in CHECKS}


@pytest.mark.parametrize(
    ("check", "changes", "level", "words"),
    [
        ("files", {"broken": (("a.json", "an HTML page"),)}, "fail", "a.json was not read: an HTML page"),
        ("files", {"skipped": ("truth.json",)}, "pass", "truth.json"),
        (
            "files",
            {"skipped": ("a.csv", "b.csv"), "tables": (("a.csv", "a table, columns x"),)},
            "warn",
            "skipped: a.csv: a table, columns x; map them under [tables]",
        ),
        (
            "files",
            {"superseded": (SupersededFile("a.om", 9, 9, ("b.txt", "c.txt", "d.txt")),)},
            "pass",
            "1 files add nothing, others hold their samples more faithfully: a.om by b.txt, c.txt and 1 more",
        ),
        (
            "files",
            {"superseded": (SupersededFile("a.om", 1500, 4000, ("b.txt",)),)},
            "pass",
            "read only where no other file holds their samples more faithfully: a.om (1,500 of 4,000 rows) "
            "by b.txt",
        ),
        (
            "rejected",
            {
                "rejected": pl.DataFrame(
                    {"reason": ["bad_ts"] * 2, "file": ["a", "b"], "metric": ["m", ""], "rows": [5, 2]}
                )
            },
            "warn",
            "7 rows quarantined: bad_ts, 5 of them m in a; see",
        ),
        (
            "server_warnings",
            {"server_warnings": (("a.json", "store unreachable"),)},
            "warn",
            "store unreachable",
        ),
        (
            "holes",
            {"quality": quality([{"gaps": 2, "longest_gap_s": 480.0}])},
            "warn",
            "the longest for 480 s",
        ),
        (
            "no_value",
            {"quality": quality([{"rows": 100, "nulls": 50}])},
            "warn",
            "50 of 100 samples in 1 series (50 %) are NaN",
        ),
        (
            "times",
            {"quality": quality([{"first_t": datetime(1970, 1, 21, tzinfo=UTC)}])},
            "warn",
            "if milliseconds for seconds were read",
        ),
        ("length", {"frames": (frame({}, rows=300),)}, "warn", "5.0 h of history"),
        ("services", {"series": series([{"service": None}])}, "warn", "belong to no service"),
        (
            "roles",
            {"series": series([{"emitter_role": "unknown", "role_evidence": "none"}])},
            "warn",
            "are unknown",
        ),
        ("offered_load", {"frames": (frame({}, reference="served"),)}, "warn", "served rates are used"),
        ("offered_load", {"frames": (frame({}),)}, "pass", "first tokens plus the growth of queues"),
        (
            "offered_load",
            {"frames": (frame({"request_rate@service": 1.0}),)},
            "pass",
            "known from requests that started",
        ),
        (
            "scale",
            {"frames": (frame({"kv_usage@decode": 40.0}, (info("kv_usage", "decode"),)),)},
            "fail",
            "reaches 40",
        ),
        (
            "ttft",
            {"frames": (frame({"ttft@service": 0.3}, (info("ttft", "service", unit="s"),)),)},
            "warn",
            "ttft_excludes_queue",
        ),
        (
            "repeats",
            {
                "series": series([{"source": "dcgm", "metric": "DCGM_FI_DEV_GPU_UTIL"}]),
                "quality": quality([{"news_s": 60.0}]),
            },
            "warn",
            "change every 60 s",
        ),
    ],
)
def test_a_check_speaks(check: str, changes: dict[str, Any], level: str, words: str) -> None:
    """What is wrong is said in words, at its level."""
    found = diagnose(scene(**changes)).filter((pl.col("check") == check) & (pl.col("level") == level))
    assert any(words in text for text in found["text"])


@pytest.mark.parametrize(
    ("engine", "handed_over"), [("vllm", "is left out, and so is"), ("sglang", "is left out")]
)
def test_a_ttft_that_decode_observes_holds_the_hand_over(engine: str, handed_over: str) -> None:
    """SGLang's prefill workers never observe it; vLLM's ends at the prefill worker's token."""
    columns = {"ttft@service": 0.3, "decode_tps@decode": 1.0, "instances@decode": 1.0}
    split = frame(columns, (info("ttft", "service", engine, unit="s"),))
    found = diagnose(scene(frames=(split,))).filter(pl.col("check") == "ttft")
    assert found["text"][0].partition("engine ")[2].startswith(handed_over)
    assert ("hand-over" in found["text"][0]) == (engine == "vllm")


def test_a_gauge_that_is_flat_is_not_collected_rarely() -> None:
    """A GPU at 100 % for hours: nothing is copied."""
    flat = series([{"source": "dcgm", "metric": "DCGM_FI_DEV_GPU_UTIL"}])
    found = diagnose(scene(series=flat, quality=quality([{"news_s": 6738.75}])))
    assert "repeats" not in found.filter(pl.col("level") == "warn")["check"].to_list()


def test_instances_without_a_service_come_before_mere_series() -> None:
    """A pool that no answer counts matters more than a series nobody asked for."""
    found = input_checks.unmapped(scene(series=series([{"service": None}]), unserved=("1 instance is lost",)))
    assert [(one.level, one.text[:18]) for one in found] == [
        ("warn", "1 instance is lost"), ("warn", "1 series belong to"),
    ]  # fmt: skip


def test_resets_close_together_are_one_restart() -> None:
    """Several counters of one instance fall back together: one restart, named once."""
    times = [START, START + timedelta(seconds=15), START + timedelta(hours=2)]
    resets = pl.DataFrame({"series_id": [0, 0, 0], "t": times, "before": [9.0] * 3, "after": [1.0] * 3})
    found = diagnose(scene(resets=resets)).filter(pl.col("check") == "restarts")
    assert found["start"].to_list() == [START, START + timedelta(hours=2)]
    assert all("decode-0 started again" in text for text in found["text"])


def test_an_instance_that_restarts_all_day_is_one_line() -> None:
    """Twelve restarts are told together, with how many and from when to when."""
    times = [START + timedelta(hours=2 * k) for k in range(12)]
    resets = pl.DataFrame({"series_id": [0] * 12, "t": times, "before": [9.0] * 12, "after": [1.0] * 12})
    found = diagnose(scene(resets=resets)).filter(pl.col("check") == "restarts")
    assert (found["start"].to_list(), found["end"].to_list()) == ([times[0]], [times[-1]])
    assert "decode-0 started again 12 times from " in found["text"][0]


def test_a_scrape_gap_has_its_times() -> None:
    """The finding carries both ends, for marks on charts."""
    frozen = pl.DataFrame({"capture": [""], "first_t": [START], "last_t": [START + timedelta(seconds=35)]})
    found = diagnose(scene(frozen=frozen)).filter(pl.col("check") == "scrape_gap")
    assert (found["start"][0], found["end"][0], found["value"][0]) == (
        START,
        START + timedelta(seconds=35),
        35.0,
    )


@pytest.mark.parametrize(
    ("low", "high", "level", "words"),
    [
        (1.0, 1.0, "pass", "has an edge at 1 s"),
        (0.5, 2.0, "warn", "between 500 ms and 2 s, the edges of its histogram; add an edge at 1 s"),
        (0.5, math.inf, "warn", "judged at 500 ms, the last edge of its histogram, not at 1 s; add an edge"),
        (None, 2.0, "fail", "the first edge of its histogram is 2 s; add an edge at 1 s"),
    ],
)
def test_limits_say_where_they_lie(low: float | None, high: float, level: str, words: str) -> None:
    """At an edge, between two, beyond the last or below the first, with the edge to add."""
    edge = LimitEdges("ttft", "vllm", 1.0, low, high)
    found = diagnose(scene(edges=(("ns/m", edge),))).filter(pl.col("check") == "limits")
    assert found["level"].to_list() == [level]
    assert words in found["text"][0]


def test_missing_signals_name_the_switch() -> None:
    """What is absent comes with how to switch it on; what is there is not listed."""
    pools = {"instances@prefill": 2.0, "instances@decode": 3.0, "decode_tps@decode": 5.0}
    found = missing_signals(scene(frames=(frame(pools),)))
    names = {(row["signal"], row["role"]) for row in found}
    assert ("decode_tps", "decode") not in names
    assert ("sm_activity", "prefill") in names
    assert any("DCGM_FI_PROF_SM_ACTIVE" in row["how_to_enable"] for row in found)


def test_pods_of_two_pools_are_warned_of() -> None:
    """Two files may give the same pods two roles; at another time or in another run they may have one."""
    rows = [
        {"instance": "worker-0", "emitter_role": "decode"},
        {"instance": "worker-0", "emitter_role": "mixed", "role_evidence": "user:role", "capture": "a"},
    ]
    later = START + timedelta(hours=30)
    swept = [rows[0] | {"capture": "b"}, rows[1]]
    for given, lives, warned in (
        (rows, [{}, {}], True), (rows, [{}, {"first_t": later, "last_t": later}], False),
        (swept, [{}, {}], False),
    ):  # fmt: skip
        found = input_checks.roles(scene(series=series(given), quality=quality(lives)))
        said = [one for one in found if "counted in two pools" in one.text]
        assert bool(said) == warned
        assert all(one.level == "warn" and one.value == 1.0 for one in said)
        assert all("decode (by pod_name) and mixed (by user:role)" in one.text for one in said)
