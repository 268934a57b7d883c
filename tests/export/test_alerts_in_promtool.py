"""Prometheus' own rule tests: every alert fires on a planted case and is silent on a healthy service."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from export.watching import (
    BETWEEN,
    MINUTES,
    OPTIONS,
    Fired,
    between_the_edges,
    cases,
    healthy,
    watched_policy,
)
from outside import needs

from hs_analysis.export import ExportOptions, export
from hs_analysis.export.alerts import ALERTS
from hs_analysis.policy.model import Bounds, Policy

pytestmark = pytest.mark.outside("promtool")

FIRING = 'count by (alertname, signal) (ALERTS{alertstate="firing"})'


def written(policy: Policy, folder: Path, options: ExportOptions = OPTIONS) -> list[Path]:
    """Write the rules and alerts of a policy, and return the files that promtool has passed."""
    paths = []
    for name, text in export(policy, "rules", options).files.items():
        if name.endswith(".yaml"):
            paths.append(folder / name)
            paths[-1].write_text(text, "utf-8")
    subprocess.run([needs("promtool"), "check", "rules", "--lint-fatal", *paths], check=True, timeout=60)
    return paths


def a_test(name: str, counters: dict[str, float], fired: Fired, minutes: tuple[int, ...]) -> dict:
    """Return one of promtool's tests: these alerts fire at these times, and no other."""
    expected = []
    for alert, signal in sorted(fired):
        labels = f'alertname="{alert}"' + (f',signal="{signal}"' if signal else "")
        expected.append({"labels": f"{{{labels}}}", "value": 1})
    return {
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": series, "values": f"0+{gain:.10g}x{MINUTES}"} for series, gain in counters.items()
        ],
        "promql_expr_test": [
            {"expr": FIRING, "eval_time": f"{minute}m", "exp_samples": expected} for minute in minutes
        ],
    }


def passes(tests: list[dict], paths: list[Path], folder: Path) -> str:
    """Run promtool's rule tests and return what it says of those that failed."""
    file = folder / "test.yaml"
    file.write_text(
        json.dumps(
            {"rule_files": [str(path) for path in paths], "evaluation_interval": "1m", "tests": tests}
        ),
        "utf-8",
    )
    done = subprocess.run(
        [needs("promtool"), "test", "rules", file], capture_output=True, text=True, check=False, timeout=120
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_alert_fires_where_it_should_and_nowhere_else(tmp_path):
    """Services, healthy but for one thing each; at the end exactly the named alerts fire."""
    paths = written(watched_policy(), tmp_path)
    tests = [a_test(name, counters, fired, (MINUTES,)) for name, (counters, fired) in cases().items()]
    assert passes(tests, paths, tmp_path) == ""
    planted = [*cases().values(), *BETWEEN.values()]
    assert {alert for _, fired in planted for alert, _ in fired} == set(ALERTS)


def test_the_alerts_of_ttft_tell_its_edges_apart(tmp_path):
    """With no edge at the limit: below both, between them, and over both."""
    paths = written(watched_policy(), tmp_path, replace(OPTIONS, watched=between_the_edges()))
    tests = [
        a_test(name, healthy() | changed, fired, (MINUTES,)) for name, (changed, fired) in BETWEEN.items()
    ]
    assert passes(tests, paths, tmp_path) == ""


def test_a_healthy_service_is_silent_from_the_start(tmp_path):
    """No alert fires in the first minutes, before an hour is full, or later."""
    paths = written(watched_policy(), tmp_path)
    minutes = (*range(1, 10), 30, 60, 90, 120, MINUTES)
    assert passes([a_test("healthy", healthy(), set(), minutes)], paths, tmp_path) == ""


def test_a_pool_at_its_minimum_is_out_of_proportion_by_intention(tmp_path):
    """Six decode instances for one of prefill: an alert, but not where six is the least."""
    counters = healthy(decode=6, prefill=1)
    alone = a_test("above", counters, {("HsRatioOutOfBand", "")}, (MINUTES,))
    assert passes([alone], written(watched_policy(), tmp_path), tmp_path) == ""
    least = watched_policy(bounds={"prefill": Bounds(1, 12), "decode": Bounds(6, 24)})
    assert passes([a_test("at", counters, set(), (MINUTES,))], written(least, tmp_path), tmp_path) == ""


def test_the_rule_tests_can_fail(tmp_path):
    """The runner reports an alert that is expected and does not fire."""
    paths = written(watched_policy(), tmp_path)
    said = passes([a_test("wrong", healthy(), {("HsTtftOverSlo", "ttft")}, (MINUTES,))], paths, tmp_path)
    assert "FAILED" in said


def test_an_alert_says_what_it_sees_in_numbers(tmp_path):
    """The templates of the annotations come out as sentences with values and units."""
    paths = written(watched_policy(), tmp_path)
    test = a_test("shown", healthy() | {'ttft_bucket{le="1"}': 9.4 * 60}, set(), ())
    test.pop("promql_expr_test")
    labels = {"severity": "critical", "policy": "chat", "service": "prod/chat", "signal": "ttft"}
    said = {
        "summary": "Too many requests take longer than 1 s.",
        "description": "6% of them are over the limit, and 5 % are allowed.",
        "action": "See whether the prefill pool is at its maximum or has slow instances; else raise its "
        "minimum.",
    }
    fired = {"exp_labels": labels | {"role": "prefill", "edge_s": "1"}, "exp_annotations": said}
    test["alert_rule_test"] = [{"eval_time": "60m", "alertname": "HsTtftOverSlo", "exp_alerts": [fired]}]
    assert passes([test], paths, tmp_path) == ""


def test_two_pools_of_their_own_are_both_watched(tmp_path):
    """With a primary a pool each target is watched, and no ratio is."""
    (decode,) = watched_policy().primaries
    prefill = replace(
        decode, signal="prefill_tps", role="prefill", promql='sum(rate(tokens{job="prefill"}[2m]))'
    )
    policy = watched_policy(pd_ratio=None)
    policy = replace(policy, primaries=(prefill, decode))
    slow = healthy() | {'ttft_bucket{le="1"}': 9.4 * 60}
    fired = {("HsTtftOverSlo", "ttft"), ("HsTargetDrifted", "prefill_tps")}
    assert passes([a_test("slow", slow, fired, (MINUTES,))], written(policy, tmp_path), tmp_path) == ""
