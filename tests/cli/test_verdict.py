"""The answer of hsa run says the worst first and leaves nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hs_analysis.cli.verdict import run_result
from hs_analysis.schema.results import ALARM

SLO = {"ttft_s": 2.0, "tbt_s": 0.05, "quantile": 0.95, "window_s": 60.0, "allowed_window_share": 0.05}
REASON = {"code": "thin", "text": "too few", "value": None, "limit": None}


def service(ours: float | None, theirs: float | None, **more: Any) -> dict[str, Any]:
    """Return a service with a chosen policy and two rows of replay."""

    def row(policy: str, ratio: float | None, saved: float) -> dict[str, Any]:
        return {"policy": policy, "slo_violation_ratio": ratio, "vs_recorded": saved, "vs_static_peak": 0.4}

    found: dict[str, Any] = {
        "service": "demo/m", "history_kind": "production", "reference": "offered", "signals": [],
        "recommended": {"signal": "decode_tps", "role": "decode", "why": "first of 3", "runner_up": None},
        "capacity": [], "demand": {},
        "thresholds": [
            {
                "signal": "decode_tps", "role": "decode", "gpu_type": None, "target_per_instance": 1080.0,
                "headroom_ratio": 0.9,
                "capacity": {"value": 1250.0, "low": 1200.0, "high": 1300.0}, "status": "ok", "reason": None,
            }
        ],
        "pd_ratio": {
            "value": 1.5, "ci": [1.4, 1.6], "status": "ok", "reason": None, "integer_pairs": [[3, 2]],
        },
        "selection": [
            {"policy": "decode_tps@decode", "signal": "decode_tps", "role": "decode", "chosen": True},
        ],
        "replay": {"policies": [row("decode_tps@decode", ours, 0.25), row("recorded", theirs, 0.0)]},
        "refusals": [],
    }  # fmt: skip
    return found | more


def lines(*services: dict[str, Any]) -> list[str]:
    """Return the table form."""
    shown = run_result(
        {"services": list(services), "warnings": [], "slo": SLO}, [], Path("reports/x"), verbose=True
    )
    return [str(block) for block in shown.blocks()]


def test_what_a_release_leaves_is_said() -> None:
    """A line for every version that came; none where none came."""
    release = {"text": "decode runs another version since noon: its numbers rest on 16.0 h"}
    text = lines(service(0.01, 0.02, releases=[release]))
    assert f"  release: {release['text']}" in text
    assert not any("release" in line for line in lines(service(0.01, 0.02)))


def test_answers() -> None:
    """Signal, target with its capacity, ratio with interval and status, saving, path last."""
    text = lines(service(0.01, 0.02))
    assert text[0] == "demo/m: no decision was made."
    assert any(line.startswith("demo/m (production history") for line in text)
    assert "  recommended signal: decode_tps@decode (first of 3)" in text
    assert "  selected policy: decode_tps@decode" in text
    target = "1,080 tokens/s per instance, ok, 0.90 × the lower end of a capacity of 1,250 [1,200 to 1,300]"
    assert f"  target: decode_tps@decode {target} tokens/s" in text
    assert "  P/D ratio: 1.50 [1.40 to 1.60] prefill per decode, ok; as whole instances 3P:2D" in text
    backtest = "saves 25 % of the recorded hours, saves 40 % of static peak; SLO broken in 1.0 % of windows"
    assert any(backtest in line for line in text)
    assert text[-1] == "report: reports/x/report.html"


DECISION = {
    "recommend": "keep", "why": "the policy needs 4.0% more hours, and it breaks the SLO in 3.00% of windows",
    "confidence": "medium", "confidence_reasons": [{"code": "ratio_drifts", "text": "the P/D ratio drifts"}],
    "next_steps": ["Keep what runs."],
}  # fmt: skip


BREAKS = {"code": "slo_not_held", "text": "breaks the SLO in 9.00% of windows; 5% are allowed"}
ALARMED = {"code": ALARM, "text": f"the policy of demo/m {BREAKS['text']}"}


@pytest.mark.parametrize(
    ("recommend", "first"),
    [("keep", "demo/m: keep what runs: the policy needs"), ("record", "demo/m: keep what runs and record"),
     ("apply", "demo/m: apply the policy: decode TPS 1,080 per instance.")],
)  # fmt: skip
def test_what_not_to_apply_is_said_in_the_first_line(recommend: str, first: str) -> None:
    """Before warnings, even; and with its confidence and the reasons among the answers."""
    text = lines(service(0.01, 0.02, decision=DECISION | {"recommend": recommend}))
    assert text[0].startswith(first)
    (line,) = [line for line in text if line.startswith("  decision: ")]
    assert line.endswith("confidence medium (the P/D ratio drifts)")
    decided = DECISION | {"alarm": BREAKS}
    warned = {"services": [service(0.01, 0.02, decision=decided)], "warnings": [ALARMED], "slo": SLO}
    assert str(run_result(warned, [], Path("r")).blocks()[1]).startswith("WARNING")
    shown = run_result(
        {"services": [service(0.01, 0.02, decision=DECISION)], "warnings": []}, [], Path("r"), verbose=True
    )
    assert shown.rows[0]["recommend"] == "keep"
    assert shown.rows[0]["confidence_reasons"] == ["the P/D ratio drifts"]


PAIR = """metadata: {service: demo/m}
spec:
  mode: metric
  primaries: [{signal: prefill_tps, role: prefill}, {signal: decode_tps, role: decode}]
  pd_ratio:
"""


def test_the_selected_policy_is_the_one_in_the_file() -> None:
    """Where the whole history gives another one than selection took, the backtest says whose it is."""
    shown = run_result(
        {"services": [service(0.01, 0.02)], "warnings": [], "slo": SLO}, [PAIR], Path("r"), verbose=True
    )
    text = [str(block) for block in shown.blocks()]
    assert "  selected policy: prefill_tps@prefill+decode_tps@decode" in text
    assert shown.rows[0]["selected_policy"] == "prefill_tps@prefill+decode_tps@decode"
    assert any(
        line.startswith("  backtest: of decode_tps@decode, not of the policy in policy.yaml") for line in text
    )


def test_a_timetable_is_named_as_one() -> None:
    """No signal sizes a pool then, and its backtest is that of the policy in the file."""
    entries = (
        "  periodic: [{from: '08:00', to: '20:00', zone: Europe/Berlin}, {from: '20:00', to: '08:00'}]\n"
    )
    timed = PAIR.replace("mode: metric", "mode: periodic") + entries
    shown = run_result(
        {"services": [service(0.01, 0.02)], "warnings": [], "slo": SLO}, [timed], Path("r"), verbose=True
    )
    text = [str(block) for block in shown.blocks()]
    clock = "2 entries by the clock of Europe/Berlin and UTC"
    assert f"  selected policy: a timetable ({clock}); no signal sizes a pool" in text
    assert not any("not of the policy in policy.yaml" in line for line in text)


def test_a_ratio_that_nothing_keeps_is_not_printed_as_if_it_were() -> None:
    """Two primaries: the derived ratio stands there as a finding, and says so."""

    def told(document: str) -> str:
        shown = run_result(
            {"services": [service(0.01, 0.02)], "warnings": []}, [document], Path("r"), verbose=True
        )
        return next(str(block) for block in shown.blocks() if str(block).startswith("  P/D ratio: "))

    assert told(PAIR).endswith("derived, and not kept: the policy sizes each pool by its own signal")
    single = PAIR.replace("{signal: prefill_tps, role: prefill}, ", "").replace(
        "pd_ratio:", "pd_ratio: {value: 1}"
    )
    assert "not kept" not in told(single)


def test_what_a_policy_is_warned_of_follows_the_first_line() -> None:
    """The one thing a reader must not miss stands between what to do and what it saves, and only once."""
    one = service(0.09, 0.02, decision=DECISION | {"alarm": BREAKS})
    found = {"services": [one], "warnings": [ALARMED], "slo": SLO}
    text = [str(block) for block in run_result(found, [], Path("r")).blocks()]
    assert text[1] == f"WARNING: {ALARMED['text']}."
    assert sum(ALARMED["text"] in line for line in text) == 1


def test_a_warning_belongs_to_the_service_whose_decision_has_it() -> None:
    """Names in sentences don't matter: a service without an alarm has no warning, whatever another says."""
    other = service(0.01, 0.02, decision=DECISION) | {"service": "demo/n"}
    one = service(0.09, 0.02, decision=DECISION | {"alarm": BREAKS | {"text": "is worse than demo/n was"}})
    for services in ([other, one], [one, other], [other]):
        found = {"services": services, "warnings": [ALARMED], "slo": SLO}
        text = [str(block) for block in run_result(found, [], Path("r")).blocks()]
        warned = [line for line in text if line.startswith("WARNING")]
        assert warned == ["WARNING: the policy of demo/m is worse than demo/n was."] * (one in services)


@pytest.mark.parametrize(("ours", "theirs"), [(0.02, 0.02), (0.03, 0.02), (None, 0.02), (0.02, None)])
def test_no_alarm_without_ground(ours: float | None, theirs: float | None) -> None:
    """As good as what ran, worse within what is allowed, or not known: no warning."""
    assert not any(line.startswith("WARNING") for line in lines(service(ours, theirs))[:2])


def test_a_share_that_is_not_known_stays_in_the_body() -> None:
    """A backtest that can't tell is no alarm: it says so after the answer."""
    one = service(None, None)
    one["replay"]["calibration"] = {"status": "not_calibrated", "text": "the mix moved"}
    said = {"code": "not_calibrated", "text": "demo/m: the mix moved"}
    found = {"services": [one], "warnings": [said], "slo": SLO}
    text = [str(block) for block in run_result(found, [], Path("r")).blocks()]
    assert text[0].startswith("demo/m: ")
    assert not any(line.startswith("WARNING") for line in text)
    assert "warning (not_calibrated): demo/m: the mix moved" in text


def test_alarm_is_said_once() -> None:
    """The warning of summary.json that the first line says already is not repeated; others are."""
    warnings = [{"code": "slo_worse_than_recorded", "text": "a"}, {"code": "not_calibrated", "text": "b"}]
    shown = run_result({"services": [service(0.03, 0.02)], "warnings": warnings}, [], Path("r"), verbose=True)
    text = [str(block) for block in shown.blocks()]
    assert text[-2] == "warning (not_calibrated): b"
    assert sum("slo_worse" in line or line.startswith("WARNING") for line in text) == 1


def test_policy_that_costs_more_is_not_called_a_saving() -> None:
    """A negative saving is put as what it is; violations that are not known are not a number."""
    rows = [
        {
            "policy": "decode_tps@decode",
            "vs_recorded": -0.6,
            "vs_static_peak": 0.1,
            "slo_violation_ratio": None,
        }
    ]
    text = "\n".join(lines(service(None, None, replay={"policies": rows})))
    assert (
        "needs 60 % more than the recorded hours, saves 10 % of static peak; SLO violations not known" in text
    )


def test_refusals_say_what_to_collect() -> None:
    """Status with its reason, the bound there is, and what would answer it."""
    refusal = {"what": "pd_ratio", "code": "thin", "text": "too few", "collect": "record a peak"}
    ratio = {
        "value": None,
        "ci": None,
        "status": "refused",
        "at_least": 1.2,
        "at_most": None,
        "reason": REASON,
    }
    text = "\n".join(lines(service(0.0, 0.0, pd_ratio=ratio, refusals=[refusal], recommended=None)))
    assert "P/D ratio: refused; at least 1.20; too few" in text
    assert "not answered: pd_ratio (thin): too few; to know it, record a peak" in text
    assert "recommended signal: none; no signal passed every check" in text


def test_machine_forms_hold_the_same() -> None:
    """One flat record a service, the report's path in each."""
    shown = run_result({"services": [service(0.01, 0.02)], "warnings": []}, [], Path("r"), verbose=True)
    (row,) = shown.rows
    assert row["service"] == "demo/m"
    assert row["pd_ratio_ci"] == [1.4, 1.6]
    assert row["saved_vs_recorded"] == 0.25
    assert row["report"] == shown.data["report"] == "r/report.html"
    assert shown.data["answers"][0]["targets"][0]["target_per_instance"] == 1080.0


def test_the_objective_stands_first() -> None:
    """Both limits, what share of samples and windows they mean; no SLO is said too."""
    text = lines(service(0.01, 0.02))
    want = "TTFT ≤ 2 s and TBT ≤ 50 ms for 95 % of samples in a window of 60 s; 5.0 % of windows may break it"
    assert f"  SLO: {want}" in text
    wide = {"services": [service(0.01, 0.02)], "warnings": [], "slo": SLO, "window": {"step_s": 1200.0}}
    shown = run_result(wide, [], Path("r"), verbose=True)
    assert any("samples in a window of 20 min;" in str(block) for block in shown.blocks())
    shown = run_result({"services": [service(0.01, 0.02)], "warnings": []}, [], Path("r"), verbose=True)
    assert "no SLO was given" in str(shown.blocks()[1])


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (2.0, 2.0, ""),
        (
            1.0,
            5.0,
            "TTFT at 2 s is interpolated between 1 s and 5 s, the edges of its histogram; add an edge at 2 s",
        ),
        (
            1.0,
            None,
            "TTFT is judged at 1 s, the last edge of its histogram, not at 2 s; add an edge at 2 s",
        ),
        (
            None,
            5.0,
            "TTFT can't be judged at 2 s: the first edge of its histogram is 5 s; add an edge at 2 s",
        ),
    ],
)
def test_a_limit_judged_elsewhere_is_said(low: float | None, high: float | None, want: str) -> None:
    """A limit at which no edge lies is interpolated or bounded: it is said, with the edge to add."""
    edge = {"signal": "ttft", "source": "vllm", "limit_s": 2.0, "low_s": low, "high_s": high}
    text = lines(service(0.01, 0.02, slo_edges=[edge]))
    assert any(want in line for line in text) if want else not any("judged" in line for line in text)


def test_numbers_that_no_data_gave_are_said() -> None:
    """Start-up times assumed by the replay, and defaults of the policy, stand in the verdict."""
    document = """metadata: {service: demo/m}
spec:
  mode: metric
  primaries: [{signal: decode_tps, role: decode}]
  cooldown: {scale_out_s: 300.0, scale_in_s: 600.0, evidence: default}
  hysteresis:
    scale_out_ratio: 1.2
    scale_in_ratio: 0.8
    by_role:
      prefill: {scale_out_ratio: 1.1, scale_in_ratio: 0.8, evidence: default}
      decode: {scale_out_ratio: 1.2, scale_in_ratio: 0.9, evidence: x}
"""
    one = service(0.01, 0.02)
    times = {
        "decode": {"value": 300.0, "provenance": "default"},
        "prefill": {"value": 60.0, "provenance": "settings"},
    }
    one["replay"]["calibration"] = {"start_up_s": times}
    shown = run_result({"services": [one], "warnings": [], "slo": SLO}, [document], Path("r"), verbose=True)
    text = [str(block) for block in shown.blocks() if "assumed" in str(block)]
    assert text == [
        "  assumed, no data gave it: start-up time 300 s for decode (give yours: --startup)",
        "  assumed, no data gave it: cooldowns 300 s out and 10 min in (they follow from the start-up time)",
        "  assumed, no data gave it: scaling ratios 1.1 and 0.8 for prefill (the noise of the signal is not "
        "known)",
    ]
    assert not any("assumed" in line for line in lines(service(0.01, 0.02)))


def test_instances_without_a_service_are_the_first_lines() -> None:
    """Before what a policy breaks and what was not read; each once, and not too many."""
    pools = [f"{i} instances belong to no service" for i in range(1, 6)]
    warnings = [{"code": "input_broken", "text": "b.json: cut short"}]
    warnings += [{"code": "instances_without_service", "text": text} for text in pools]
    shown = run_result({"services": [service(0.02, 0.01)], "warnings": warnings}, [], Path("r"), verbose=True)
    text = [str(block) for block in shown.blocks()]
    assert text[:4] == [
        *(f"WARNING: {pool}" for pool in pools[:3]),
        "WARNING: … and 2 more below the answer",
    ]
    assert "WARNING: 2 more pools belong to no service: hsa doctor lists them" in text
    assert sum("belong to no service" in line for line in text) == 4


def test_broken_files_are_told_at_the_top() -> None:
    """A file that could not be read is said before any answer, and once."""
    warnings = [{"code": "input_broken", "text": "b.json: cut short"}]
    shown = run_result({"services": [service(0.01, 0.02)], "warnings": warnings}, [], Path("r"), verbose=True)
    text = [str(block) for block in shown.blocks()]
    assert text[0] == "WARNING: not read: b.json: cut short"
    assert sum("b.json" in line for line in text) == 1


def test_input_that_makes_numbers_wrong_is_told_at_the_top() -> None:
    """A check that failed is said before any answer, and once."""
    warnings = [{"code": "check_failed", "text": "two servers scraped the same pods"}]
    shown = run_result({"services": [service(0.01, 0.02)], "warnings": warnings}, [], Path("r"), verbose=True)
    text = [str(block) for block in shown.blocks()]
    assert text[0] == "WARNING: numbers are wrong: two servers scraped the same pods"
    assert sum("two servers" in line for line in text) == 1


def test_lost_rows_are_told_at_the_top() -> None:
    """Rows that could not be used are said before any answer, and once."""
    warnings = [{"code": "rows_lost", "text": "30 of 90 rows (33.3 %): m in a.json"}]
    shown = run_result({"services": [service(0.01, 0.02)], "warnings": warnings}, [], Path("r"), verbose=True)
    text = [str(block) for block in shown.blocks()]
    assert text[0] == "WARNING: not used: 30 of 90 rows (33.3 %): m in a.json"
    assert sum("a.json" in line for line in text) == 1


def first_five(*services: dict[str, Any], warnings: list[dict[str, str]] | None = None) -> list[str]:
    """Return the first five lines of the answer of a run."""
    found = {"services": list(services), "warnings": warnings or [], "slo": SLO}
    return [str(block) for block in run_result(found, [], Path("r")).blocks()[:5]]


def test_a_run_without_a_service_answers_what_to_record() -> None:
    """Benchmark points alone: no service has a line that says it."""
    first, second, *_ = first_five(warnings=[{"code": "no_history", "text": "points only"}])
    assert first.startswith("No policy: keep what runs.")
    assert second.startswith("Next: add metric dumps of the service")


@pytest.mark.parametrize("count", [1, 4, 13])
def test_services_without_a_policy_say_what_to_record(count: int) -> None:
    """Of more than three services the lines of one are cut before they come to the next step."""
    decided = {
        "recommend": "record",
        "why": "no signal",
        "next_steps": ["Keep what runs.", "Record counters."],
    }
    five = first_five(*(service(None, None, service=f"s{n}", decision=decided) for n in range(count)))
    assert any("keep what runs and record more" in line for line in five)
    assert any(line.startswith("Next: Record counters.") for line in five)


def test_many_warnings_leave_the_answer_in_the_first_five_lines() -> None:
    """Those above the third follow below the answers; none is lost."""
    broken = [{"code": "input_broken", "text": f"file {n}"} for n in range(9)]
    decided = DECISION | {"recommend": "keep"}
    *_, fourth, fifth = first_five(service(0.01, 0.02, decision=decided), warnings=broken)
    assert (fourth, fifth[:23]) == ("WARNING: … and 6 more below the answer", "demo/m: keep what runs:")
    found = {"services": [service(0.01, 0.02)], "warnings": broken, "slo": SLO}
    text = [str(block) for block in run_result(found, [], Path("r")).blocks()]
    assert all(f"WARNING: not read: file {n}" in text for n in range(9))
