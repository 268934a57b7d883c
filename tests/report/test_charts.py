"""Charts as data: specifications, rows, titles, and what they draw."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import vl_convert
from report import sample as samples
from report.sample_tables import GAP, START

from hs_analysis.report import capacity_chart, chart_templates, charts, service_charts
from hs_analysis.report.charts import Chart
from hs_analysis.report.choice import choose
from hs_analysis.report.slo import allowed_share
from hs_analysis.report.tables import ranked
from hs_analysis.schema.frames import CAPACITY_CURVE, CAPACITY_POINTS, empty

GOLDEN = Path(__file__).parent / "golden_charts.json"


def drawn(sample: samples.Sample, budget: int = 1000) -> dict[str, Chart]:
    """Return the charts of the sample's first service by key."""
    service = sample.summary["services"][0]
    choice = choose(service, sample.policies.get(service["service"], ""))
    empty = {name: frame.clear() for name, frame in samples.sample().details.items()}
    tables = empty | sample.details
    found = service_charts.draw(
        service, sample.summary, choice, ranked(service), tables, sample.signals, sample.findings, budget
    )
    return {chart.key: chart for chart in service_charts.flat(found)}


@pytest.fixture(scope="module")
def week() -> dict[str, Chart]:
    """Return the charts of the sample."""
    return drawn(samples.sample())


def rows(chart: Chart) -> list[dict[str, str]]:
    """Return the rows of a chart's CSV."""
    return list(csv.DictReader(io.StringIO(chart.csv)))


def svg(chart: Chart) -> str:
    """Draw a chart as the browser would."""
    spec = {**chart.spec, "width": 900, "config": chart_templates.CONFIG}
    spec["datasets"] = {**spec["datasets"], "main": chart.csv}
    return vl_convert.vegalite_to_svg(json.dumps(spec))


def test_specifications_are_the_golden_ones(week: dict[str, Chart]) -> None:
    """A change of any specification is seen; HSA_UPDATE_GOLDEN=1 writes the file again."""
    specs = {key: {**chart.spec, "title": chart.title} for key, chart in sorted(week.items())}
    if os.environ.get("HSA_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(specs, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    assert specs == json.loads(GOLDEN.read_text("utf-8"))


def test_charts_are_the_same_twice(week: dict[str, Chart]) -> None:
    """Equal frames give equal charts."""
    assert drawn(samples.sample()) == week


def test_filling_leaves_the_template_alone() -> None:
    """One chart's words never reach another's."""
    places = {"Y": "@FORMAT@", "FORMAT": "%", "DOMAIN": ["a"], "COLOURS": ["red"], "WIDTHS": [1]}
    filled = json.dumps(chart_templates.fill("series", places))
    later = json.dumps(chart_templates.fill("series", places | {"Y": "y", "DOMAIN": ["b"]}))
    assert later == filled.replace('"@FORMAT@"', '"y"').replace('["a"]', '["b"]')
    assert '"title": "@FORMAT@"' in filled  # a value is never read as a place
    assert '"@DOMAIN@"' not in filled


@pytest.mark.parametrize("kind", sorted(set(chart_templates.kinds()) - {"sweep"}))  # no chart of one service
def test_every_kind_of_chart_is_drawn(week: dict[str, Chart], kind: str) -> None:
    """The renderer takes each specification, and marks appear."""
    picture = svg(next(chart for chart in week.values() if chart.kind == kind))
    assert picture.count("<path") > 5


def test_each_chart_explains_itself(week: dict[str, Chart]) -> None:
    """Title, reading, alternative text and units are there."""
    assert set(week) >= {
        "coverage",
        "elasticity",
        "ratio",
        "capacity-prefill",
        "capacity-decode",
        "steps-decode",
    }
    for chart in week.values():
        assert chart.title
        assert chart.reading.endswith(".")
        assert chart.alt.endswith(".")
    axes = json.dumps([chart.spec for chart in week.values()], ensure_ascii=False)
    for title in ("tokens/s)", "time (UTC)", "(%)", "ready decode instances", "prefill ÷ decode instances"):
        assert title in axes


def test_lines_stay_within_their_budget(week: dict[str, Chart]) -> None:
    """No line has more than 1,000 points, and the peak is among them."""
    lines: dict[str, list[float]] = {}
    for row in rows(week["series-decode_tps-decode"]):
        lines.setdefault(row["series"], []).append(float(row["value"] or "nan"))
    assert {name for name, values in lines.items() if len(values) > 1000} == set()
    values = samples.sample().signals.filter(pl.col("signal") == "decode_tps")["value"]
    assert max(lines["decode TPS"]) == pytest.approx(values.max() / values.quantile(0.95), rel=1e-4)


def test_gap_of_the_sample_is_a_gap_on_the_picture(week: dict[str, Chart]) -> None:
    """The missing rows make a row without value, and the drawn line has two parts."""
    chart = week["series-decode_tps-decode"]
    first, last = (START + timedelta(minutes=m) for m in GAP)
    within = [r for r in rows(chart) if first <= _time(r["t"]) < last and r["series"] == "decode TPS"]
    assert [r["value"] for r in within] == [""]
    line = re.search(
        r'stroke="var\(--c-decode\)"[^>]*d="([^"]+)"|d="([^"]+)" stroke="var\(--c-decode\)"', svg(chart)
    )
    assert line is not None
    assert (line.group(1) or line.group(2)).count("M") == 2


def _time(text: str) -> Any:
    return pl.Series([text]).str.to_datetime("%Y-%m-%dT%H:%MZ", time_zone="UTC")[0]


def test_saturated_stretches_and_split_are_marked(week: dict[str, Chart]) -> None:
    """The time chart has all bands and the end of training, the replay the bands of the test window."""
    spec = week["series-decode_tps-decode"].spec["datasets"]
    assert [band["start"] for band in spec["bands"]] == ["2026-11-03T10:00:00Z", "2026-11-07T05:00:00Z"]
    assert spec["split"] == [{"t": "2026-11-06T04:48:00Z"}]
    assert [b["start"] for b in week["steps-decode"].spec["datasets"]["bands"]] == ["2026-11-07T05:00:00Z"]


def test_coverage_tells_holes_and_thin_stretches(week: dict[str, Chart]) -> None:
    """The gap is empty for every signal; a signal at 40 % coverage is partial there."""
    chart = week["coverage"]
    assert chart.title == "7 signals have holes; the longest takes 2.25 h"
    states = {(row["row"], row["state"]) for row in rows(chart)}
    assert {("scrape gap", "event"), ("restart", "event"), ("saturated", "event")} <= states
    partial = [r for r in rows(chart) if r["row"] == "decode GPU utilisation" and r["state"] == "partial"]
    assert max(_time(r["end"]) - _time(r["start"]) for r in partial) > timedelta(hours=48)


def test_complete_recording_says_so() -> None:
    """Without holes the title says it."""
    sample = samples.sample()
    sample.signals = sample.signals.filter(pl.col("t") < START + timedelta(minutes=GAP[0]))
    assert drawn(sample)["coverage"].title == "Every signal was recorded throughout"


def test_captures_are_never_joined() -> None:
    """Two captures of one service are two lines."""
    half = samples.sample()
    other = half.signals.with_columns(capture=pl.lit("b"), t=pl.col("t") + timedelta(days=30))
    half.signals = pl.concat([half.signals, other])
    found = {
        row["capture"] for row in rows(drawn(half)["series-decode_tps-decode"]) if row["series"] != "load"
    }
    assert found == {"", "b"}


def test_capacity_groups_count_every_decided_window() -> None:
    """Groups hold all windows, their shares average to the whole, and intervals hold the shares."""
    points = samples.sample().details["capacity_points"].filter(pl.col("role") == "decode")
    decided = points.filter(pl.col("violates").is_not_null())
    groups = capacity_chart.quantile_groups(decided)
    assert groups["windows"].sum() == decided.height
    assert (groups["share"] * groups["windows"]).sum() == pytest.approx(decided["violates"].sum())
    assert ((groups["low"] <= groups["share"] + 1e-12) & (groups["share"] <= groups["high"] + 1e-12)).all()


def test_wilson_interval_of_a_known_case() -> None:
    """Five of twenty windows: 11.2 to 46.9 %, the textbook Wilson interval."""
    points = pl.DataFrame(
        {"load_per_instance": 1.0, "t": range(20), "capture": "", "violates": [True] * 5 + [False] * 15}
    )
    low, high = capacity_chart.quantile_groups(points).select("low", "high").row(0)
    assert (low, high) == (pytest.approx(0.112, abs=5e-4), pytest.approx(0.469, abs=5e-4))


def test_allowed_share_is_told_or_read_off_the_curve() -> None:
    """A summary that carries the objective is believed; else the curve at the capacity tells; or nothing."""
    x = np.linspace(500, 2000, 40)
    curve = pl.DataFrame(
        {
            "load_per_instance": x,
            "violation_probability": 1 / (1 + np.exp(-(60 * np.log(x / 1500) - 2.944439))),
        }
    )
    ok = {"status": "ok", "per_instance": 1500.0, "method": "logistic"}
    assert allowed_share({}, {"slo": {"allowed_window_share": 0.1}}, ok, curve) == 0.1
    assert allowed_share({}, {}, ok, curve) == pytest.approx(0.05, rel=1e-3)
    assert allowed_share({}, {}, ok | {"status": "floor"}, curve) is None
    assert allowed_share({}, {}, ok | {"method": "bracket"}, curve) is None
    assert allowed_share({}, {}, ok | {"per_instance": 9e9}, curve) is None


def test_drifting_ratio_shows_its_band_and_refused_one_the_mix() -> None:
    """The title states what is true of the ratio; without any ratio the token mix stands in."""
    sample = samples.sample()
    answer = sample.summary["services"][0]["pd_ratio"]
    answer["status"] = "drifting"
    chart = drawn(sample)["ratio"]
    assert chart.title == "The balance moves between 0.840 and 0.959: no single ratio is right"
    assert chart.spec["datasets"]["bands"][0]["text"] == "band 0.830 to 0.980"
    answer.update(status="refused", value=None, ci=None, by_window=[])
    sample.details["mix"] = sample.details["mix"].with_columns(ratio=pl.lit(None, pl.Float64))
    found = drawn(sample)
    assert "ratio" not in found
    assert found["mix"].title.startswith("The token mix moves between 2.05 and 2.05")


def test_single_pool_is_one_chart() -> None:
    """A service of one pool has one chart of instances, named for the pool."""
    sample = samples.sample()
    service = sample.summary["services"][0]
    service["capacity"] = [{**service["capacity"][1], "role": "mixed"}]
    found = drawn(sample)
    assert "steps-mixed" in found
    assert not {"steps-prefill", "steps-decode"} & set(found)


@pytest.mark.parametrize("make", [samples.nulls, samples.refused, samples.one_row])
def test_missing_tables_make_no_charts_and_no_errors(make: Any) -> None:
    """What is not there is not drawn; what is drawn is valid."""
    for chart in drawn(make()).values():
        assert svg(chart)


def test_shares_compare_over_the_same_stretches() -> None:
    """Where load is unknown because the service saturates, the signal's level there sets no scale."""
    t = pl.Series("t", [START + timedelta(minutes=n) for n in range(200)])
    half = [float(n + 1) if n < 100 else None for n in range(200)]
    values = pl.DataFrame({"capture": "", "t": t, "value": [100.0 if v is None else v / 2 for v in half]})
    load = pl.DataFrame({"capture": "", "t": t, "load": half})
    chart = charts.against_time(values, load, {"signal": "decode_tps", "role": "decode"}, {}, 1000)
    assert chart is not None
    known = rows(chart)[:100]
    assert [r["value"] for r in known] == [r["value"] for r in rows(chart) if r["series"] == "load"][:100]


def test_load_levels_draw_the_share_the_law_reads() -> None:
    """A pressure test's points are mean shares of samples, its dashed line what the quantile leaves over."""
    points = pl.DataFrame(
        {
            "capture": [""] * 10,
            "t": [START + timedelta(minutes=k) for k in range(10)],
            "load_per_instance": [100.0] * 5 + [200.0] * 5,
            "over_ratio": [0.0, 0.02, 0.04, None, None, 0.3, 0.5, 0.1, 0.5, 0.6],
            "over_least_ratio": [0.0] * 10,
            "violates": [False] * 5 + [True] * 5,
        }
    )
    curve = pl.DataFrame({"load_per_instance": [100.0, 200.0], "violation_probability": [0.02, 0.4]})
    entry = {"per_instance": 120.0, "ci": None, "status": "ok", "method": "load levels"}
    slo = {"quantile": 0.9, "allowed_window_share": 0.05}
    allowed = allowed_share({"slo": slo}, {}, entry, curve)
    assert allowed == pytest.approx(0.1)
    chart = capacity_chart.capacity("decode", entry, {}, points, curve, allowed)
    assert chart is not None
    assert "samples over the limit (%)" in json.dumps(chart.spec)
    assert [float(row["share"]) for row in rows(chart) if row["share"]] == pytest.approx([0.2575])
    assert "2 windows left out: no samples of the latency, or no load." in chart.reading
    windows = capacity_chart.capacity("decode", entry | {"method": "logistic"}, {}, points, curve, 0.05)
    assert windows is not None
    assert "windows over the limit (%)" in json.dumps(windows.spec)


def test_missing_rows_are_not_called_undecided(week: dict[str, Chart]) -> None:
    """Windows without samples and windows inside a bucket are counted apart."""
    points = pl.DataFrame(
        {
            "capture": [""] * 4,
            "t": [START + timedelta(minutes=k) for k in range(4)],
            "load_per_instance": [100.0, 110.0, 120.0, None],
            "over_ratio": [0.01, 0.2, None, 0.01],
            "over_least_ratio": [0.01, 0.01, None, 0.01],
            "violates": [False, None, None, False],
        }
    )
    curve = pl.DataFrame({"load_per_instance": [100.0], "violation_probability": [0.02]})
    entry = {"per_instance": 120.0, "status": "ok", "method": "logistic"}
    chart = capacity_chart.capacity("decode", entry, {}, points, curve, 0.05)
    assert chart is not None
    assert "1 window left out: one histogram bucket about the limit holds all samples there." in chart.reading
    assert "2 windows left out: no samples of the latency, or no load." in chart.reading


def test_replay_draws_what_a_reader_compares(week: dict[str, Chart]) -> None:
    """The chosen policy, what ran, HPA and hindsight; never the first names of the alphabet."""
    one = samples.sample()
    timeline = one.details["timeline"]
    base = timeline.filter(pl.col("policy") == "recorded")
    names = ["aibrix_apa", "hindsight", "hpa", "kthena", "zeta"]
    one.details["timeline"] = pl.concat(
        [timeline, *(base.with_columns(policy=pl.lit(name)) for name in names)]
    )
    chart = drawn(one)["steps-decode"]
    assert list(dict.fromkeys(row["series"] for row in rows(chart))) == [
        "decode TPS", "recorded", "hpa", "hindsight",
    ]  # fmt: skip


def test_todays_autoscaler_is_drawn_only_where_it_is_compared() -> None:
    """Counts that do not stand for what runs today would be read as instances to pay for."""
    one = samples.sample()
    timeline = one.details["timeline"]
    today = timeline.filter(pl.col("policy") == "recorded").with_columns(policy=pl.lit("current"))
    one.details["timeline"] = pl.concat([timeline, today])
    policies = one.summary["services"][0]["replay"]["policies"]

    def lines() -> set[str]:
        return {row["series"] for row in rows(drawn(one)["steps-decode"])}

    assert "current" not in lines()
    policies.append({**policies[0], "policy": "current"})
    assert "current" in lines()


def test_actions_are_dots_with_their_reasons() -> None:
    """On the line of the chosen policy, the reason as tooltip; without an action no layer."""
    one = samples.sample()
    assert "Dots:" not in drawn(one)["steps-decode"].reading
    timeline = one.details["timeline"]
    moved = pl.col("desired_decode") != pl.col("desired_decode").shift(1).over("policy")
    why = pl.when(moved).then(pl.lit("wants more"))
    one.details["timeline"] = timeline.with_columns(
        action=pl.when(moved).then(pl.lit("out")).otherwise(pl.lit("hold")), reason=why.otherwise(pl.lit(""))
    )
    chart = drawn(one)["steps-decode"]
    assert "Dots: actions of decode TPS, with the reason as tooltip." in chart.reading
    marked = chart.spec["datasets"]["actions"]
    assert marked
    assert {mark["text"] for mark in marked} == {"wants more"}
    line = {(row["t"], row["value"]) for row in rows(chart) if row["series"] == "decode TPS"}
    assert {(mark["t"], f"{mark['count']:g}") for mark in marked} <= line
    (layer,) = [one for one in chart.spec["layer"] if one.get("data", {}).get("name") == "actions"]
    assert layer["encoding"]["tooltip"][0]["field"] == "text"
    assert svg(chart).count('d="M3,0A3,3') >= len(marked)


def test_scatter_says_whose_load_it_is() -> None:
    """Pool or instance, and in tokens/s for a service's signal too."""
    one = samples.sample()
    points = one.details["study_points"].filter(pl.col("signal") == "decode_tps")
    verdict = {"signal": "decode_tps", "role": "decode", "verdict": "proportional"}
    whole = charts.scatter(points, verdict, "offered", 500)
    each = charts.scatter(points, verdict, "offered", 500, per_instance=True)
    rate = charts.scatter(points, verdict | {"signal": "request_rate", "role": "service"}, "offered", 500)
    assert whole is not None
    assert each is not None
    assert rate is not None
    assert "offered decode load (tokens/s)" in json.dumps(whole.spec)
    assert "offered decode load per instance (tokens/s)" in json.dumps(each.spec)
    assert "decode TPS per instance (tokens/s)" in json.dumps(each.spec)
    assert "offered decode load (tokens/s)" in json.dumps(rate.spec)


def test_drivers_stand_beside_their_load(week: dict[str, Chart]) -> None:
    """Each driver that was tried has its point and its load's."""
    found = rows(week["drivers"])
    assert [row["kind"] for row in found if row["driver"] == "decode GPU utilisation"] == [
        "this history",
        "its load",
    ]
    assert not any("e2e" in row["driver"] for row in found)
    assert week["drivers"].title == "2 of 3 drivers follow the load when it dips, 1 stays up"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "more was never tested"),
        ({"reason": {"code": "thin"}}, "its limit was met too seldom to say more"),
        ({"reason": {"code": "thin"}, "carried_ratio": 1.1}, "up to 110 was inside the limit for a time"),
        ({"reason": {"code": "no_slo"}}, "no limit was given to set it against"),
    ],
)
def test_a_floor_says_what_is_known_above_it(known: dict[str, Any], said: str) -> None:
    """Loads above it that were carried for a time were tested."""
    entry = {"role": "decode", "signal": "decode_tps", "status": "floor", "per_instance": 100.0} | known
    chart = capacity_chart.capacity("decode", entry, {}, empty(CAPACITY_POINTS), empty(CAPACITY_CURVE), 0.05)
    assert chart is not None
    assert chart.title == f"Decode already carried 100 tokens/s per instance; {said}"


def test_without_a_limit_no_chart_draws_or_counts_by_one() -> None:
    """Windows are not left out for want of samples, and there is no share that may be over."""
    entry = {"signal": "decode_tps", "status": "floor", "per_instance": 9.0, "reason": {"code": "no_slo"}}
    points = samples.sample().details["capacity_points"].with_columns(over_ratio=None, violates=None)
    chart = capacity_chart.capacity("decode", entry, {}, points, empty(CAPACITY_CURVE), 0.05)
    assert chart is not None
    assert chart.reading == "No limit on the latency was given, so that no window is over one."
    assert "allowed share" not in json.dumps(chart.spec)
