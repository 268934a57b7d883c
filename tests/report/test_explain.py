import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from replay.services import policy_replay

from hs_analysis import evidence
from hs_analysis.errors import UsageError
from hs_analysis.report.derivations import CAPACITY_FORMULAS
from hs_analysis.report.explain import explain, text
from hs_analysis.schema.frames import CAPACITY_POINTS, STUDY_POINTS, TIMELINE, empty
from hs_analysis.schema.results import (
    CandidateScore,
    Capacity,
    Demand,
    Estimate,
    PdRatio,
    Reason,
    SignalVerdict,
    Startup,
    Threshold,
)

NAME = "prod/llama"
START = datetime(2026, 11, 17, tzinfo=UTC)


def path(stage, what, start=None, end=None):
    return evidence.path(NAME, stage, what, start, end)


def verdict(signal, role, word, **more):
    return asdict(
        SignalVerdict(
            signal=signal,
            role=role,
            source="vllm",
            verdict=word,
            reasons=more.pop("reasons", ()),
            evidence=path("study", f"{signal}@{role}"),
            **more,
        )
    )


def candidate(name, signal, role, chosen, **more):
    return asdict(
        CandidateScore(
            policy=name,
            signal=signal,
            role=role,
            score=0.31,
            gpu_hours=None,
            instance_hours=900.0,
            slo_violation_ratio=0.004,
            actions_per_day=15.0,
            chosen=chosen,
            reason="saves most",
            **more,
        )
    )


def summary():
    """Return a summary.json with one entry of every kind, built from the results it is written from."""
    thin = Reason("thin", "two violating windows; 25 are needed", 2.0, 25.0)
    service = {
        "service": NAME,
        "reference": "offered",
        "signals": [
            verdict(
                "decode_tps",
                "decode",
                "proportional",
                elasticity=0.998,
                elasticity_ci=(0.96, 1.04),
                snr=121.0,
                lag_s=0.4,
            ),
            verdict(
                "gpu_util",
                "decode",
                "unusable",
                reasons=(Reason("flat", "it hardly moves", 0.02, 0.1),),
                elasticity=0.02,
            ),
            verdict(
                "kv_usage", "decode", "unknown", reasons=(Reason("coverage", "no values in 92 % of windows"),)
            ),
        ],
        "capacity": [
            asdict(
                Capacity(
                    role="decode",
                    gpu_type=None,
                    signal="decode_tps",
                    per_instance=1548.9,
                    ci=(1502.0, 1597.0),
                    status="ok",
                    basis="slo",
                    reason=None,
                    method="logistic",
                    evidence=path("derive", "capacity@decode"),
                )
            ),
            asdict(
                Capacity(
                    role="decode",
                    gpu_type="NVIDIA H20",
                    signal="decode_tps",
                    per_instance=None,
                    ci=None,
                    status="refused",
                    basis=None,
                    reason=thin,
                )
            ),
            asdict(
                Capacity(
                    role="prefill",
                    gpu_type=None,
                    signal="prefill_tps_effective",
                    per_instance=3000.0,
                    ci=(2900.0, 3100.0),
                    status="floor",
                    basis="observed",
                    reason=Reason("no_violations", "the limit was never met"),
                    method="highest load carried within the limit",
                    evidence=path("derive", "capacity@prefill"),
                )
            ),
        ],
        "demand": asdict(Demand(24_310.0, 11_870.0, (), 0.006)),
        "thresholds": [
            asdict(
                Threshold(
                    signal="decode_tps",
                    role="decode",
                    gpu_type=None,
                    target_per_instance=1276.7,
                    capacity=Estimate(1549.5, 1502.0, 1596.9),
                    scale_out_ratio=1.05,
                    scale_in_ratio=0.79,
                    cooldown_out_s=300.0,
                    cooldown_in_s=900.0,
                    status="ok",
                    reason=None,
                    noise_cv=0.013,
                    headroom_ratio=0.85,
                    evidence=path("derive", "threshold:decode_tps@decode"),
                )
            )
        ],
        "pd_ratio": asdict(
            PdRatio(
                value=0.9,
                ci=(0.85, 0.96),
                status="ok",
                at_least=None,
                at_most=None,
                reason=None,
                integer_pairs=((9, 10),),
                evidence=path("derive", "pd_ratio"),
            )
        ),
        "selection": [
            candidate("decode_tps", "decode_tps", "decode", True),
            candidate("pair", "prefill_tps+decode_tps", "prefill+decode", False),
        ],
        "replay": {
            "train": ["2026-11-17T00:00:00Z", "2026-11-21T00:00:00Z"],
            "test": ["2026-11-21T00:00:00Z", "2026-11-24T00:00:00Z"],
            "policies": [
                asdict(
                    policy_replay(
                        "decode_tps",
                        gpu_hours=7160.0,
                        instance_hours=895.2,
                        slo_violation_ratio=0.006,
                        actions_per_day=15.2,
                        reversals_per_day=2.1,
                        overshoot_ratio=0.11,
                        unserved_tokens=0.0,
                        vs_static_peak=0.34,
                        vs_recorded=0.3,
                        evidence=path("replay", "decode_tps"),
                    )
                )
            ],
        },
    }
    return {
        "window": {"start": "2026-11-17T00:00:00Z", "end": "2026-11-24T00:00:00Z", "step_s": 15.0},
        "inputs": [{"name": "dump.json.gz", "bytes": 48_210_331, "sha256": "9f" * 32}],
        "services": [service],
    }


def details():
    """Return ten rows per table, of which the first two are unused and one violates, one is undecided."""
    times = [START + timedelta(minutes=5 * i) for i in range(10)]
    common = {"service": [NAME] * 10, "capture": [""] * 10, "t": times, "used": [i >= 2 for i in range(10)]}
    study = pl.DataFrame(
        {
            **common,
            "signal": ["decode_tps"] * 10,
            "role": ["decode"] * 10,
            "load": [100.0 + i for i in range(10)],
            "value": [1.0] * 10,
            "fit": [1.0] * 10,
        }
    )
    capacity = pl.DataFrame(
        {
            **common,
            "role": ["decode"] * 10,
            "load_per_instance": [float(i) for i in range(10)],
            "over_ratio": [0.0] * 10,
            "over_least_ratio": [0.0] * 10,
            "violates": [False] * 8 + [True, None],
        }
    )
    capacity = pl.concat([capacity, capacity.with_columns(role=pl.lit("prefill"))])
    frames = {"study_points": (study, STUDY_POINTS), "capacity_points": (capacity, CAPACITY_POINTS)}
    found = {
        name: frame.select(contract.names).cast(empty(contract).schema)
        for name, (frame, contract) in frames.items()
    }
    return {**found, "timeline": empty(TIMELINE)}


def about(stage, what, **more):
    link = evidence.parse(path(stage, what, **more))
    return explain(link, summary(), details(), made_by=MADE_BY)


MADE_BY = {"capacity": ("derive.capacity:fit", "queries/align/totals.sql")}


CASES = [
    ("study", "decode_tps@decode", 0.998, (0.96, 1.04), "proportional"),
    ("derive", "capacity@decode", 1548.9, (1502.0, 1597.0), "ok"),
    ("derive", "capacity@decode@NVIDIA H20", None, None, "refused"),
    ("derive", "threshold:decode_tps@decode", 1276.7, None, "ok"),
    ("derive", "pd_ratio", 0.9, (0.85, 0.96), "ok"),
    ("select", "decode_tps", 0.31, None, "chosen"),
    ("select", "pair", 0.31, None, "not chosen"),
    ("replay", "decode_tps", 895.2, None, ""),
    ("policy", "policy", None, None, "chosen"),
    ("derive", "demand", None, None, ""),
]


@pytest.mark.parametrize(("stage", "what", "value", "ends", "status"), CASES)
def test_a_link_gives_the_very_number_of_the_summary(stage, what, value, ends, status):
    """Value, interval and status are those of summary.json, for every stage."""
    found = about(stage, what)
    assert (found["value"], found["interval"], found["status"]) == (value, ends, status)
    assert found["method"]
    assert found["formula"] or status == "refused"
    assert found["inputs"] == [{"name": "dump.json.gz", "bytes": 48_210_331, "sha256": "9f" * 32}]
    json.dumps(found)


def test_a_target_is_told_with_the_capacity_it_comes_from():
    """It is a decision: the interval is the capacity's."""
    numbers = {one["name"]: one for one in about("derive", "threshold:decode_tps@decode")["numbers"]}
    known = numbers["the capacity it comes from"]
    assert (known["value"], list(known["interval"])) == (1549.5, [1502.0, 1596.9])
    assert numbers["share of the load at the capacity's lower end, or of the floor"]["value"] == 0.85
    assert numbers["out above, as noise asks"]["value"] == 1.05


def test_every_number_has_its_own_interval():
    """That of the share of windows stands beside the share, not beside the time; a lag keeps its own."""
    found = summary()
    row = found["services"][0]["replay"]["policies"][0]
    row |= {"slo_violation_ci": [0.001, 0.009], "slo_violation_s": 1_500.0, "vs_recorded_ci": [0.2, 0.4]}
    found["services"][0]["signals"][0]["lag_ci"] = [0.1, 0.7]
    told = explain(evidence.parse(path("replay", "decode_tps")), found, details())["numbers"]
    of = {one["name"]: one["interval"] for one in told}
    assert of["windows over the limit"] == [0.001, 0.009]
    assert of["time over the limit"] is None
    assert of["saved against recorded"] == [0.2, 0.4]
    told = explain(evidence.parse(path("study", "decode_tps@decode")), found, details())["numbers"]
    assert {one["name"]: one["interval"] for one in told}["lag"] == [0.1, 0.7]


@pytest.mark.parametrize(
    ("stage", "chart", "shows"),
    [
        ("study", "series-decode_tps-decode", "verdict on decode TPS"),
        ("derive", "ratio", "P/D ratio"),
        ("derive", "mix", "P/D ratio"),
        ("replay", "steps-decode", "backtest of decode_tps"),
        ("replay", "decision-prefill", "backtest of decode_tps"),
        ("align", "coverage", "when each signal was recorded"),
    ],
)
def test_the_link_of_a_chart_explains_what_it_shows_in_its_window(stage, chart, shows):
    """The number of the chart, with the rows and the window of the link."""
    link = path(stage, f"chart:{chart}") + "?from=2026-07-02T00:00:00Z&to=2026-07-03T00:00:00Z"
    found = explain(evidence.parse(link), summary(), details())
    assert found["link"] == link
    assert shows in found["title"]
    assert found["window"]["of"] == "the link"
    assert "method" in text(found)


def test_the_link_of_a_chart_that_is_not_drawn_is_a_usage_error():
    """It says so instead of explaining another."""
    with pytest.raises(UsageError, match="no such chart"):
        about("align", "chart:pie")


def test_every_link_in_the_summary_is_explained():
    """No evidence that the run hands out leads nowhere."""

    def links(node):
        if isinstance(node, dict):
            yield from ([node["evidence"]] if node.get("evidence") else [])
            node = list(node.values())
        if isinstance(node, list | tuple):
            for below in node:
                yield from links(below)

    given = list(links(summary()))
    assert len(given) >= 8
    for link in given:
        assert explain(evidence.parse(link), summary(), details())["link"] == link


@pytest.mark.parametrize(("stage", "what", "value", "ends", "status"), CASES)
def test_the_links_beside_a_number_lead_on(stage, what, value, ends, status):
    """Every see-also link is explained by the same run, and none is the number itself."""
    found = about(stage, what)
    for link in found["see_also"]:
        assert explain(evidence.parse(link), summary(), {})["title"]
        assert link != found["link"]


def test_a_target_leads_to_its_capacity_and_its_signal():
    """What a target was made from stands beside it."""
    assert about("derive", "threshold:decode_tps@decode")["see_also"] == [
        path("derive", "capacity@decode"),
        path("study", "decode_tps@decode"),
    ]


def test_refusals_say_why_with_value_and_limit():
    """Nothing is shown for a refused number but its reason."""
    found = about("derive", "capacity@decode@NVIDIA H20")
    assert found["reasons"] == [
        {"code": "thin", "text": "two violating windows; 25 are needed", "value": 2.0, "limit": 25.0}
    ]
    assert "none, refused: see because" in text(found)
    assert "thin: two violating windows" in text(found)


def test_rows_are_those_of_the_number_and_of_the_range():
    """Rows, used, violating and undecided are counted; a range in the link narrows them."""
    assert about("derive", "capacity@decode")["rows"] == {
        "table": "capacity_points",
        "rows": 10,
        "used": 8,
        "violating": 1,
        "undecided": 1,
        "load": [0.0, 9.0],
    }
    part = about(
        "derive", "capacity@decode", start=START + timedelta(minutes=10), end=START + timedelta(minutes=20)
    )
    assert (part["rows"]["rows"], part["rows"]["load"]) == (2, [2.0, 3.0])
    assert part["window"] == {
        "start": "2026-11-17T00:10:00Z",
        "end": "2026-11-17T00:20:00Z",
        "of": "the link",
    }
    assert about("study", "gpu_util@decode")["rows"] == {"table": "study_points", "rows": 0, "used": 0}
    assert explain(evidence.parse(path("derive", "capacity@decode")), summary(), {})["rows"] is None


def test_the_window_is_that_of_the_stage():
    """The study speaks of the whole window, the selection of the training part, the replay of the test."""
    assert about("study", "decode_tps@decode")["window"]["start"] == "2026-11-17T00:00:00Z"
    assert about("select", "decode_tps")["window"]["end"] == "2026-11-21T00:00:00Z"
    assert about("replay", "decode_tps")["window"] == {
        "start": "2026-11-21T00:00:00Z",
        "end": "2026-11-24T00:00:00Z",
        "of": "the test window",
    }


def test_the_formula_of_a_capacity_is_that_of_its_law():
    """Logistic and floor are not explained by the same formula."""
    assert about("derive", "capacity@decode")["formula"] == CAPACITY_FORMULAS["logistic"]
    assert about("derive", "capacity@prefill")["formula"].startswith("floor = q99")
    assert "law: logistic" in about("derive", "capacity@decode")["basis"]


def test_a_signal_names_the_metrics_that_carry_it():
    """The metric is read from the catalogue for the source that was used."""
    assert about("study", "decode_tps@decode")["metrics"] == ["vllm:generation_tokens_total"]
    assert about("derive", "threshold:decode_tps@decode")["metrics"] == ["vllm:generation_tokens_total"]


def test_the_makers_of_the_kind_are_named():
    """An explanation names what makes its kind of number, in the order given, and nothing where none is."""
    link = evidence.parse(path("derive", "capacity@decode"))
    made_by = MADE_BY | {"demand": ("other",)}
    assert explain(link, summary(), {}, made_by=made_by)["made_by"] == [*MADE_BY["capacity"]]
    assert explain(link, summary(), {})["made_by"] == []


def test_the_text_holds_what_the_data_holds():
    """Value with unit and interval, window, makers, file hash, references and link stand in the text."""
    shown = text(about("derive", "capacity@decode"))
    for part in (
        "prod/llama · capacity of one decode instance",
        " tokens/s per decode instance (95 % interval ",
        "exactly    1548.9 (1502 to 1597)",
        "2026-11-17 00:00 to 2026-11-24 00:00 UTC",
        "10 rows of capacity_points, 8 used, 1 over the limit, 1 undecided",
        "made by    derive.capacity:fit, queries/align/totals.sql",
        "48,210,331 bytes  sha256 9f9f",
        "doi:10.1214/aos/1176347265",
        path("derive", "capacity@decode"),
    ):
        assert part in shown
    assert "usual rest before in: 15" in text(about("derive", "threshold:decode_tps@decode"))
    assert "saved against recorded: 30" in text(about("replay", "decode_tps"))
    assert "nearest pairs P:D 9:10" in text(about("derive", "pd_ratio"))
    assert "saves most" in text(about("select", "decode_tps"))


def test_the_number_comes_first_then_how_it_was_found_then_the_files():
    """Unit, interval and status stand in the second line; method before window, rows and inputs."""
    lines = text(about("derive", "capacity@decode")).splitlines()
    assert lines[1].startswith(
        "capacity   1,549 tokens/s per decode instance (95 % interval 1,502 to 1,597), ok"
    )
    labels = [line[:10].strip() for line in lines[2:] if line[:10].strip()]
    wanted = ["exactly", "method", "formula", "made by", "window", "rows", "inputs", "refs", "link"]
    assert [label for label in labels if label in wanted] == wanted


def test_many_inputs_are_one_line_unless_they_are_asked_for():
    """156 files are a count, their bytes and the hash of all; every one with its own hash when listed."""
    whole = summary()
    whole["inputs"] = [{"name": f"{n}.json", "bytes": 10, "sha256": f"{n:064d}"} for n in range(156)]
    found = explain(evidence.parse(path("derive", "capacity@decode")), whole, details())
    folded = text(found | {"inputs_sha256": "ab" * 32})
    line = next(line for line in folded.splitlines() if line.startswith("inputs"))
    assert line.endswith(f"156 input files, 1,560 bytes, sha256 of all {'ab' * 32}; -v lists them")
    assert len(folded.splitlines()) <= 40
    assert len(text(found, listed=True).splitlines()) > 156
    assert f"155.json  10 bytes  sha256 {155:064d}" in text(found, listed=True)
    assert len(found["inputs"]) == 156


def test_a_permalink_keeps_its_run():
    """The link printed at the end names the run it came from."""
    link = evidence.parse(evidence.permalink("9f3a", path("derive", "pd_ratio")))
    assert text(explain(link, summary(), {})).endswith(f"hsa:9f3a/{path('derive', 'pd_ratio')}")


@pytest.mark.parametrize(
    ("link", "says"),
    [
        (evidence.path("other/x", "study", "a@b"), "it has prod/llama"),
        (path("study", "decode_tp@decode"), r"nearest: prod%2Fllama/study/decode_tps@decode"),
        (path("ingest", "files"), "nothing under this link"),
    ],
)
def test_a_link_that_leads_nowhere_is_a_usage_error_with_the_nearest(link, says):
    """The error names the services or the nearest links of the run."""
    with pytest.raises(UsageError, match=says):
        explain(evidence.parse(link), summary(), details())


def test_a_run_without_answers_is_no_crash():
    """Null sections, as in a run that found nothing, give a usage error and no traceback."""
    nothing = {
        "services": [{"service": NAME, "signals": None, "replay": None}],
        "inputs": None,
        "window": None,
    }
    with pytest.raises(UsageError, match="no answers"):
        explain(evidence.parse(path("derive", "pd_ratio")), nothing, {})
    with pytest.raises(UsageError, match="no service at all"):
        explain(evidence.parse(path("derive", "pd_ratio")), {"services": []}, {})


@pytest.mark.parametrize(
    ("births", "said"), [(3, "range of all 3 births"), (5, "range of all 5 births"), (6, "95 % interval")]
)
def test_the_range_of_few_births_is_called_no_interval(births, said):
    """Of fewer than six the range holds the median with less than 95 %: two in 2^n lie on one side."""
    found = summary()
    link = path("derive", "startup@decode")
    found["services"][0]["startup"] = [
        asdict(
            Startup(
                role="decode", value_s=118.0, ci=(100.0, 140.0), births=births, status="ok", evidence=link,
                reason=Reason("measured", "median", float(births), 3.0),
            )
        )
    ]  # fmt: skip
    told = explain(evidence.parse(link), found, {})
    assert told["interval_is"] == said
    (line,) = [line for line in text(told).splitlines() if line.startswith("start-up")]
    assert f"({said} " in line
    assert ("95 %" in line) == (births >= 6)
