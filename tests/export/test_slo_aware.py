"""llm-d's SLO-aware ScaledObjects: the guide's formula and signal chain, what a missing metric does."""

from __future__ import annotations

import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from controllers.fleets import fleet
from export.scenes import full_policy
from export.test_llmd import FULL, lacking
from outside import needs

from hs_analysis.controllers.slo_aware import SloAwareBatch
from hs_analysis.export import ExportOptions, Workload, export
from hs_analysis.export.kustomize import kustomization
from hs_analysis.export.model import load_documents
from hs_analysis.export.slo_aware import lint_slo_aware, parameters, saturation, thresholds_of
from hs_analysis.policy.model import Bounds

SCHEMA = json.loads((Path(__file__).parent / "scaledobject.schema.json").read_text("utf-8"))


def text_of(options: ExportOptions = FULL, **changes: Any) -> str:
    """Return the file of a policy; empty where none is written."""
    files = export(full_policy(**changes), "llmd", options).files
    return next((text for name, text in files.items() if name.endswith("slo-aware.yaml")), "")


def objects(options: ExportOptions = FULL, **changes: Any) -> dict[str, Any]:
    """Return the objects of a policy by pool."""
    found = load_documents(text_of(options, **changes))
    return {body["metadata"]["name"].split("-")[1]: body for body in found}


def queries(body: dict[str, Any]) -> dict[str, str]:
    """Return the queries of an object by the name of its trigger."""
    return {one["name"]: one["metadata"]["query"] for one in body["spec"]["triggers"]}


def test_every_object_passes_the_strict_schema_and_the_lint() -> None:
    """They are ScaledObjects of KEDA, one a pool."""
    found = objects()
    assert set(found) == {"prefill", "decode"}
    for body in found.values():
        jsonschema.validate(body, SCHEMA)
        assert lint_slo_aware(body) == []


def test_what_is_written_reads_back_as_the_controllers_parameters() -> None:
    """Thresholds, bounds and behaviour are those that the replay steps as llm-d's SLO-aware formula."""
    for role, body in objects().items():
        wanted, spec = parameters(full_policy(), FULL, role), body["spec"]
        assert thresholds_of(body) == (wanted.up, wanted.down) == (0.55, 0.4)
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (
            wanted.scaler.min_replicas, wanted.scaler.max_replicas,
        )  # fmt: skip
        behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        for name, rules in (("scaleUp", wanted.scaler.up), ("scaleDown", wanted.scaler.down)):
            assert behaviour[name]["stabilizationWindowSeconds"] == rules.stabilization_s
            assert [
                (one["type"], one["value"], one["periodSeconds"]) for one in behaviour[name]["policies"]
            ] == [(one.kind, one.value, one.period_s) for one in rules.policies]


def answer(formula: str, **values: float) -> float:
    """Return what the formula answers: expr's choices as Python's."""
    python = re.sub(
        r"(\(readyReplicas > 0) && (.*?) \? (.*?) : (1\.0)\)", r"(\3 if \1) and (\2) else \4)", formula
    )
    first, more, rest = re.fullmatch(r"(.+?) \? (.+) : \((.+)\)", python).groups()  # type: ignore[union-attr]
    second, fewer, same = re.fullmatch(r"(.+?) \? (.+) : (.+)", rest).groups()  # type: ignore[union-attr]
    names = {"ceil": math.ceil, "floor": math.floor, **values}
    if eval(first, names):
        return float(eval(more, names))
    return float(eval(fewer if eval(second, names) else same, names))


def test_the_formula_is_the_one_that_the_replay_steps() -> None:
    """At any signal, count and share of ready pods, as far as what starts already is counted."""
    body = objects()["decode"]
    formula = body["spec"]["advanced"]["scalingModifiers"]["formula"]
    rule = SloAwareBatch([parameters(full_policy(), FULL, "decode")], "decode")
    for level in np.linspace(0.0, 2.0, 41):
        for count, ready in ((1, 1), (3, 3), (8, 8), (8, 5), (8, 0), (20, 19)):
            seen = fleet({("tbt", "decode"): [0.0]}, {"decode": count}, ready={"decode": float(ready)})
            (wanted,) = rule.formula(np.array([level]), seen)
            got = answer(formula, saturation=float(level), replicas=float(count), readyReplicas=float(ready))
            assert got == wanted, (level, count, ready)


EDGE = {
    name: f'ttft_seconds_bucket{{le="{edge}"' for name, edge in (("half", 0.5), ("far", 30), ("all", "+Inf"))
}
GROWS, STANDS = "0+60x20", "7x20"
CASES: dict[str, tuple[dict[str, str], float | None]] = {
    "half of the limit": ({EDGE["half"]: GROWS, EDGE["all"]: GROWS}, 0.45),
    "the predicted one first": (
        {
            EDGE["half"]: GROWS,
            EDGE["all"]: GROWS,
            'predicted_ttft_seconds_bucket{le="1"': GROWS,
            'predicted_ttft_seconds_bucket{le="+Inf"': GROWS,
        },
        0.9,
    ),
    "far over the limit": ({EDGE["far"]: GROWS, EDGE["all"]: GROWS}, 2.0),
    "no requests": ({EDGE["half"]: STANDS, EDGE["all"]: STANDS}, 0.0),
    "no series": ({'something_else{le="1"': STANDS}, None),
}
"""Series of the router, and the saturation against a limit of 1 s, by hand: the P90 of a bucket from 0 to its
edge is 0.9 × the edge; more than twice the limit counts as twice; idle is 0 and missing is nothing."""


@pytest.mark.outside("promtool")
@pytest.mark.parametrize("name", CASES)
def test_the_signal_chain_is_what_prometheus_answers(name: str, tmp_path: Path) -> None:
    """P90 ÷ limit, at most 2, averaged over 45 s."""
    series, expected = CASES[name]
    scaler = parameters(full_policy(), FULL, "prefill")
    scaler = replace(scaler, latencies=(replace(scaler.latencies[0], slo_s=1.0),))
    given = {f'llm_d_epp_request_{key},namespace="prod"}}': values for key, values in series.items()}
    given = {key.replace("}}", "}"): values for key, values in given.items()}
    counts = {
        key.replace("_bucket", "_count").replace('le="+Inf",', ""): values
        for key, values in given.items() if 'le="+Inf"' in key
    }  # fmt: skip
    (tmp_path / "rules.yaml").write_text("groups: []\n")
    test = {
        "interval": "15s",
        "input_series": [{"series": key, "values": values} for key, values in {**given, **counts}.items()],
        "promql_expr_test": [
            {
                "expr": f"round({saturation(scaler, 'prod')}, 0.0001)",
                "eval_time": "5m",
                "exp_samples": [] if expected is None else [{"labels": "{}", "value": expected}],
            }
        ],
    }
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test]}))
    done = subprocess.run(
        [needs("promtool"), "test", "rules", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_pool_follows_the_latency_that_it_answers_for() -> None:
    """TTFT for prefill, time between tokens for decode, each against its own limit."""
    found = objects()
    assert "ttft" in queries(found["prefill"])["saturation"]
    assert "/ 1, 2)" in queries(found["prefill"])["saturation"]
    assert "tpot" in queries(found["decode"])["saturation"]
    assert "/ 0.05, 2)" in queries(found["decode"])["saturation"]
    assert 'deployment="fill-in-decode-workload"' in queries(found["decode"])["readyReplicas"]


def test_no_object_without_what_it_needs() -> None:
    """A limit on the pool's latency, bounds, and a workload that kube-state-metrics counts."""
    guards = full_policy().guards
    assert set(objects(guards=tuple(one for one in guards if one.signal == "ttft"))) == {"prefill"}
    assert set(objects(bounds={"prefill": Bounds(2, 12)})) == {"prefill"}
    groups = replace(
        FULL, workloads={"decode": Workload("d", "LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1")}
    )
    assert set(objects(groups)) == {"prefill"}
    sets = replace(FULL, workloads={"decode": Workload("d", "StatefulSet", "apps/v1")})
    assert (
        'kube_statefulset_status_replicas{namespace="prod",statefulset="d"}'
        in queries(objects(sets)["decode"])["replicas"]
    )
    assert not text_of(lacking(prefill_capacity=None))


def test_it_is_an_alternative_and_says_so() -> None:
    """Not in the Kustomize base, and its header names what it takes the place of; six lines at most."""
    files = export(full_policy(), "llmd", FULL).files
    base = kustomization("llmd", files, {})
    assert "token-aware.yaml" in base
    assert "slo-aware" not in base
    text = text_of()
    assert "in place of the token-aware objects" in text
    assert "holds the count: the guide reads it as idle" in text
    assert sum(line.startswith("#") for line in text.splitlines()) <= 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda spec: spec["advanced"]["scalingModifiers"].update(formula="saturation * replicas"),
            "not the guide's",
        ),
        (lambda spec: spec["advanced"]["scalingModifiers"].update(target="2"), "target '1'"),
        (lambda spec: spec.update(minReplicaCount=0), "below 1"),
        (lambda spec: spec["triggers"].reverse(), "saturation, replicas and readyReplicas"),
        (
            lambda spec: spec["triggers"][0]["metadata"].update(query="sum(a) or vector(0)"),
            "reads a missing metric",
        ),
    ],
)
def test_the_lint_knows_what_the_formula_needs(change: Any, says: str) -> None:
    """What would scale by something else is named."""
    body = objects()["decode"]
    change(body["spec"])
    assert any(says in problem for problem in lint_slo_aware(body)), lint_slo_aware(body)
