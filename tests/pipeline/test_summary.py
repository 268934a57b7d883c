"""summary.json has the contract's keys, in its order, whatever the results are."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import polars as pl
import pytest
from export.scenes import series_frame
from jsonschema import Draft202012Validator
from replay.services import policy_replay

from hs_analysis.catalogue import Signal, Source, Term
from hs_analysis.export.queries import expression
from hs_analysis.pipeline import summary
from hs_analysis.pipeline.records import to_plain
from hs_analysis.pipeline.report_stages import reproduce
from hs_analysis.schema.decision import CountsAtLoad, PolicyDecision, PoolDecision, SloRisk
from hs_analysis.schema.declare import declared, names_of
from hs_analysis.schema.number_text import number
from hs_analysis.schema.replays import ReplayResult
from hs_analysis.schema.results import (
    CandidateScore,
    Capacity,
    CensoredWindow,
    Demand,
    Derived,
    Estimate,
    PdRatio,
    RatioWindow,
    Reason,
    Recommendation,
    Refusal,
    Release,
    SignalDriver,
    SignalVerdict,
    Startup,
    Threshold,
)
from hs_analysis.schema.settings import Settings, Slo
from hs_analysis.schema.summary import ServiceSummary, Summary

DECISION = PolicyDecision(
    recommend="keep",
    why="why",
    confidence="medium",
    confidence_reasons=(Reason("ratio_drifts", "it drifts"),),
    next_steps=("Keep.",),
    target="keda",
    metric="decode_tps@decode",
    pools=(
        PoolDecision(
            role="decode", now=4.0, recommended=3.0, at_load={"low": CountsAtLoad(load=1.0, now=4.0)}
        ),
    ),
    hours_saved_ratio=0.2,
    hours_saved_ci=(0.1, 0.3),
    instance_hours_saved=5.0,
    slo_risk=SloRisk(undisturbed=0.01, undisturbed_range=(0.0, 0.02), under_bursts=0.05),
    backtested=("2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"),
)
STEP = {"command": "kubectl diff -f exports/keda/a.yaml", "why": "See what would change."}
GUIDE = {
    "target": "keda",
    "not_filled": [],
    "check": [],
    "steps": [STEP],
    "watch": [],
    "back": [],
    "alerts": [{"assumption": "The SLO holds", "alerts": ["HsTtft"]}],
    "scale_in": "",
}
REASON = Reason("thin", "too few", 2.0, 3.0)


ROW = policy_replay(
    "p", instance_hours=1.0, slo_violation_ratio=0.02, actions_per_day=1.0, reversals_per_day=0.0,
    overshoot_ratio=0.1, unserved_tokens=0.0, vs_static_peak=0.3, vs_recorded=0.2,
)  # fmt: skip
"""A policy on the test window."""


def derived(target: float | None = 100.0, *, known: bool = True) -> Derived:
    """Return a derivation; with ``known`` false every number is missing."""
    ci = (90.0, 110.0) if known else None
    value = 120.0 if known else None
    return Derived(
        capacity=(
            Capacity(
                role="decode",
                gpu_type=None,
                signal="decode_tps",
                per_instance=value,
                ci=ci,
                status="ok" if known else "refused",
                basis="slo" if known else None,
                reason=REASON,
            ),
        ),
        demand=Demand(value, value, (CensoredWindow("a", "b", "backlog"),) if known else (), value),
        thresholds=(
            Threshold(
                signal="decode_tps",
                role="decode",
                gpu_type=None,
                target_per_instance=target,
                capacity=Estimate(120.0, 90.0, 140.0),
                scale_out_ratio=1.1,
                scale_in_ratio=0.8,
                cooldown_out_s=None,
                cooldown_in_s=None,
                status="floor",
                reason=None,
            ),
        ),
        pd_ratio=PdRatio(
            value=value,
            ci=ci,
            status="drifting",
            at_least=1.0,
            at_most=None,
            reason=REASON,
            band=ci,
            by_window=(RatioWindow("a", "b", 1.0, None),),
            integer_pairs=((3, 2),),
            evidence="x",
        ),
        refusals=(Refusal("pd_ratio", "thin", "too few", "more"),),
        startup=(
            Startup(
                role="decode",
                value_s=250.0,
                ci=(240.0, 270.0),
                births=4,
                status="ok",
                reason=REASON,
                source="pod_created",
                evidence="demo%2Fm/derive/startup@decode",
            ),
        ),
    )


def service(*, known: bool = True) -> dict[str, Any]:
    """Return one service's entry."""
    entry = {
        "service": "demo/m", "kind": "production", "reference": "offered",
        "gpus_per_instance": {"decode": 8.0} if known else {},
        "totals": {"service": "demo/m", "prompt_tokens": 1.0} if known else None,
        "slo_edges": [
            {"signal": "ttft", "source": "vllm", "limit_s": 2.0, "low_s": 1.0, "high_s": None}
        ] if known else [],
    }  # fmt: skip
    verdict = SignalVerdict(
        signal="ttft",
        role="service",
        source="vllm",
        verdict="guard",
        reasons=(REASON,),
        pearson=float("nan"),
        pearson_ci=(0.1, 0.2),
    )
    best = Recommendation("decode_tps", "decode", "because", None) if known else None
    score = CandidateScore(
        policy="p",
        signal="decode_tps",
        role="decode",
        score=0.1,
        gpu_hours=None,
        instance_hours=2.0,
        slo_violation_ratio=0.0,
        actions_per_day=1.0,
        chosen=True,
        reason="best",
    )
    row = ROW
    replayed = ReplayResult(("a", "b"), ("b", "c"), {"status": "calibrated", "rows": (1, 2)}, (row,))
    tried = SignalDriver(
        signal="decode_tps",
        role="decode",
        pool="decode",
        verdict="proportional",
        target_per_instance=100.0,
        load_dip_ratio=0.3,
        dip_ratio=0.4,
        correlation=0.9,
        reversals_per_day=2.0,
        instance_hours=80.0,
        strain_ratio=0.0,
    )
    numbers = derived(known=known)
    return (
        summary.decision_section(DECISION, GUIDE if known else None)
        | summary.facts_section(entry)
        | summary.study_section((verdict,), best)
        | summary.derive_section(numbers)
        | summary.selection_section((score,) if known else ())
        | summary.replay_section(replayed if known else ReplayResult(None, None))
        | summary.drivers_section((tried,) if known else ())
        | summary.refusals_section(numbers)
    )


def whole(*services: dict[str, Any]) -> dict[str, Any]:
    """Return a summary."""
    counts = dict.fromkeys(
        (
            "rows_read",
            "rows_stored",
            "duplicates",
            "superseded",
            "rows_rejected",
            "series",
            "series_unmapped",
        ),
        0,
    )
    missing = [{"signal": "ttft", "role": "service", "how_to_enable": "switch"}]
    coverage = {**counts, "roles": {"prefill": 2}, "missing": missing, "skipped": ["a"], "broken": []}
    return summary.compose(
        window={"start": "2026-07-01T00:00:00Z", "end": "2026-07-02T00:00:00Z", "step_s": 60.0},
        slo=to_plain(Slo(ttft_s=1.0)),
        inputs=[{"name": "a.json", "size": 3, "sha256": "0" * 64}],
        coverage=coverage,
        services=services,
        warnings=[{"code": "a", "text": "b"}],
    )


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """The JSON Schema that ships in the package."""
    schema = json.loads(files("hs_analysis.schema").joinpath("summary.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("known", [True, False])
def test_composed_summary_keeps_the_schema(validator: Draft202012Validator, known: bool) -> None:
    """With all numbers and with none."""
    assert [e.message for e in validator.iter_errors(whole(service(known=known)))] == []
    assert [e.message for e in validator.iter_errors(whole())] == []


def test_releases_are_there_only_where_one_came(validator: Draft202012Validator) -> None:
    """A history without a change keeps its bytes; one with a change keeps the schema."""
    release = Release(
        role="decode",
        kind="released",
        what="image",
        before="v1",
        after="v2",
        start="a",
        end="b",
        used_h=16.0,
        left_out_h=8.0,
        text="in words",
    )
    plain, cut = derived(), replace(derived(), releases=(release,))
    assert "releases" not in summary.derive_section(plain)
    found = whole(service() | summary.derive_section(cut))
    assert found["services"][0]["releases"][0]["used_h"] == 16.0
    assert [e.message for e in validator.iter_errors(found)] == []


def test_schema_refuses_what_is_not_agreed(validator: Draft202012Validator) -> None:
    """An unknown key, a missing key or an unknown status is an error."""
    good = whole(service())
    for spoil in (
        lambda s: s.update(extra=1),
        lambda s: s["services"][0].pop("demand"),
        lambda s: s["services"][0].pop("decision"),
        lambda s: s["services"][0]["decision"].update(recommend="maybe"),
        lambda s: s["services"][0]["capacity"][0].update(status="fine"),
        lambda s: s["services"][0]["signals"][0].update(pearson="high"),
        lambda s: s["inputs"][0].update(sha256="x"),
        lambda s: s["services"][0]["pd_ratio"].update(ci=[1.0]),
    ):
        bad = json.loads(json.dumps(good))
        spoil(bad)
        assert list(validator.iter_errors(bad))


def test_keys_come_in_the_order_of_the_fields() -> None:
    """What is declared is what is written: each key once, in order, and none that is not declared."""
    found = whole(service())
    assert tuple(found) == names_of(Summary)
    (one,) = found["services"]
    asked = ("apply",)  # left out where nothing was exported
    fields = [one.name for one in declared(ServiceSummary) if not one.field.absent or one.name in asked]
    assert list(one) == fields
    assert tuple(one["capacity"][0]) == names_of(Capacity)
    (turned,) = whole(dict(reversed(service().items())))["services"]
    assert list(turned) == list(one)
    with pytest.raises(KeyError, match="ServiceSummary: growth"):
        whole(service() | {"growth": 1.0})
    with pytest.raises(KeyError, match="ServiceSummary: demand"):
        whole({name: part for name, part in service().items() if name != "demand"})


def test_missing_numbers_are_null() -> None:
    """NaN never reaches the file; numbers keep twelve digits."""
    found = whole(service())
    assert found["services"][0]["signals"][0]["pearson"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert summary.compose(window={"a": 1 / 3}, slo={}, inputs=[], coverage={}, services=[], warnings=[])[
        "window"
    ] == {"a": 0.333333333333}


@pytest.mark.parametrize(("after", "warned"), [(109.0, False), (111.0, True), (89.0, True), (None, False)])
def test_targets_that_moved_are_a_warning(after: float | None, warned: bool) -> None:
    """More than ten percent between the first part and the whole window."""
    held = [("decode_tps", "decode")]
    found = summary.refit_warnings("demo/m", derived(100.0), derived(after), held, DECISION)
    assert bool(found) is warned
    assert (
        summary.refit_warnings("demo/m", derived(100.0), derived(after), [("running", "decode")], DECISION)
        == []
    )
    if warned:
        said = (
            f"decode_tps@decode is {number(after)} tokens/s per instance on the whole window, 100 tokens/s on"
        )
        assert said in found[0]["text"]
        assert found[0]["text"].endswith("the backtest used the latter, policy.yaml holds the former")
        no_test = replace(DECISION, confidence_reasons=(Reason("not_backtested", "none"),))
        (unseen,) = summary.refit_warnings("demo/m", derived(100.0), derived(after), held, no_test)
        day = replace(DECISION, by_blocks=True)  # was replayed with the numbers of policy.yaml
        assert summary.refit_warnings("demo/m", derived(100.0), derived(after), held, day) == []
        assert unseen["text"].endswith("%): policy.yaml holds the former")


def test_hours_of_the_file_to_apply_are_said_where_they_are_others() -> None:
    """Targets that moved by 71 % made a policy said to cost 170 % more need 90 % more once applied."""
    row = replace(ROW, policy="p", instance_hours=1225.0)
    file = replace(row, policy="in_sample", instance_hours=860.0, vs_recorded=-0.898)
    slo = Slo(ttft_s=1.0)
    (found,) = summary.replay_warnings("s", ReplayResult(None, None, {}, (row, file)), "p", slo)
    assert found["code"] == "exported_hours"
    assert "needs 860 instance-hours on the test window, 89.8 % more than recorded" in found["text"]
    alike = replace(file, instance_hours=1200.0)
    assert summary.replay_warnings("s", ReplayResult(None, None, {}, (row, alike)), "p", slo) == []


def test_replay_warnings() -> None:
    """Worse than what ran, and not calibrated; neither when nothing is known."""
    slo = Slo(ttft_s=1.0)
    row = ROW
    ran = replace(ROW, policy="recorded", slo_violation_ratio=0.005)
    near = replace(ran, slo_violation_ratio=ROW.slo_violation_ratio - 0.005)
    assert summary.replay_warnings("s", ReplayResult(None, None, {}, (row, near)), "p", slo) == []
    worse = ReplayResult(None, None, {"status": "calibrated"}, (row, ran))
    assert [w["code"] for w in summary.replay_warnings("s", worse, "p", slo)] == ["slo_worse_than_recorded"]
    assert summary.replay_warnings("s", worse, None, slo) == []
    assert summary.replay_warnings("s", ReplayResult(None, None, {}, (ran,)), "p", slo) == []
    bare = ReplayResult(None, None, {"status": "not_calibrated", "text": "far off"}, ())
    assert summary.replay_warnings("s", bare, "p", slo) == [{"code": "not_calibrated", "text": "s: far off"}]


@pytest.mark.parametrize(
    ("reason", "rows", "whole", "words"),
    [
        ("negative_counter", 30, (), "30 of 1,000 rows (3.0 %): m in a.json, negative_counter (why)"),
        ("negative_counter", 1, ("m{}",), "nothing is left of 1 series (m{})"),
        ("skip_where", 500, (), ""),
    ],
)
def test_rows_that_are_lost_are_warned_of(reason: str, rows: int, whole: tuple[str, ...], words: str) -> None:
    """How many, what share, of which metric; not what the user left out, and not a trifle."""
    lost = pl.DataFrame(
        {"reason": [reason], "file": ["a.json"], "metric": ["m"], "detail": ["why"], "rows": [rows]}
    )
    found = summary.rows_lost_warnings(lost, 1000, whole)
    assert [w["code"] for w in found] == (["rows_lost"] if words else [])
    assert not words or words in found[0]["text"]
    assert summary.rows_lost_warnings(lost, 1_000_000, ()) == []


def test_queries_that_list_todays_pods_are_warned_of() -> None:
    """An autoscaler that follows one does not see what it adds; other notes are for the files."""
    rows = [
        {"metric": "m_total", "emitter_role": role, "service": "s", "labels": {"pod": name}}
        for role, name in (("decode", "w.a"), ("decode", "w.b"), ("prefill", "v.a"))
    ]
    known = Signal("x", "", "tokens/s", "throughput", "sum", "emitter", (), "")
    source = Source("vllm", "rate", 1.0, ("decode",), {}, (Term("m_total", {}, 1.0, "num"),), None)
    listed = expression(known, source, "decode", series_frame(rows), service="s", window_s=60.0).warnings
    found = summary.unseen_warnings("s", [*listed, "joins kube_pod_labels"])
    assert [one["code"] for one in found] == ["new_instances_unseen"]
    assert found[0]["text"].startswith("s: m_total: picks today's 2 pod values only")


def test_checks_that_failed_are_warned_of() -> None:
    """What makes numbers wrong, of a service or the whole input; not what the answer says in other words."""
    rows = [
        ("replicas", "fail", "", "totals count twice"),
        ("scale", "fail", "s", "a ratio ends at 1"),
        ("scale", "warn", "s", "odd"),
        ("limits", "fail", "s", "no edge"),
        ("files", "fail", "", "cut short"),
    ]
    findings = pl.DataFrame(rows, schema=["check", "level", "service", "text"], orient="row")
    assert summary.failed_warnings(findings) == [
        {"code": "check_failed", "text": "totals count twice"},
        {"code": "check_failed", "text": "s: a ratio ends at 1"},
    ]


def test_a_policy_that_breaks_the_slo_is_said_to() -> None:
    """More violating windows than the SLO allows are a warning, even where the recorded fleet did worse."""
    row = replace(ROW, slo_violation_ratio=0.2)
    ran = replace(row, policy="recorded", slo_violation_ratio=0.5)
    result = ReplayResult(None, None, {"status": "calibrated"}, (row, ran))
    assert [w["code"] for w in summary.replay_warnings("s", result, "p", Slo(ttft_s=1.0))] == ["slo_not_held"]
    assert summary.replay_warnings("s", result, "p", Slo()) == []


def test_a_side_that_the_replay_cannot_tell_is_no_break_and_no_pass() -> None:
    """Over the allowed share or under it: where the side is unclear, that is what is said."""
    for share in (0.06, 0.04):
        row = replace(ROW, slo_violation_ratio=share, slo_side="unclear")
        result = ReplayResult(None, None, {"status": "calibrated"}, (row,))
        (warning,) = summary.replay_warnings("s", result, "p", Slo(ttft_s=1.0))
        assert warning["code"] == "slo_side_unclear"
        assert f"{share:.1%} of windows".replace("%", " %") in warning["text"]
        assert summary.replay_warnings("s", result, "p", Slo()) == []


def test_command_that_makes_a_run_again(tmp_path: Any) -> None:
    """Only what differs from the defaults is said; folders are named by their last part."""
    assert reproduce([tmp_path / "dumps"], Settings()) == "hsa run dumps"
    settings = Settings(
        slo=Slo(2.5, 0.05, quantile=0.99, window_s=30.0),
        startup_s={"prefill": 240.0, "decode": 240.0, "mixed": 240.0},
        history_kind="pressure_test", start="2026-07-01T00:00:00Z", seed=3,
    )  # fmt: skip
    assert reproduce([tmp_path / "a", tmp_path / "b"], settings) == (
        "hsa run a b --slo ttft=2.5s --slo tbt=0.05s --slo quantile=0.99 --slo window=30s --startup 240s "
        "--pressure-test --from 2026-07-01T00:00:00Z --seed 3"
    )
    assert "--startup decode=1s --startup prefill=2s" in reproduce(
        [tmp_path], Settings(startup_s={"prefill": 2.0, "decode": 1.0})
    )
