"""hsa validate on files with one fault each: told with its line and its reason, whatever the kind."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from export.scenes import full_policy

from hs_analysis.errors import HsError, ManyErrors
from hs_analysis.export import TARGETS, ExportOptions, Measured, export
from hs_analysis.export.kustomize import kustomization
from hs_analysis.pipeline.file_kinds import check_file
from hs_analysis.schema.results import Estimate

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "simulated-days"

TOML = """[slo]
ttft = "2s"
[roles]
"^gen-" = "mixed"
[metrics]
"gateway_qps" = { signal = "request_rate", unit = "req/s" }
[export]
server_address = "http://prom:9090"
[prices]
"NVIDIA H20" = 1.0
[tables.fleet]
match = "usage*.csv"
time = "ts"
columns = { ttft_ms = { signal = "ttft", unit = "ms" } }
"""

KEDA = """apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: gen, namespace: llm}
spec:
  scaleTargetRef:
    name: gen
  minReplicaCount: 2
  maxReplicaCount: 9
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prom:9090
        query: sum(rate(vllm:generation_tokens_total[1m]))
        threshold: "700"
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gen}
"""

HPA = """apiVersion: v1
kind: List
items:
  - apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: gen}
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: gen}
      minReplicas: 2
      maxReplicas: 9
      metrics:
        - type: External
          external:
            metric: {name: work}
            target:
              type: AverageValue
              averageValue: "700"
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 300
          policies:
            - {type: Pods, value: 1, periodSeconds: 60}
"""

PLANNER = """optimization_target: load
mode: decode
decode_scale_up_kv_rate: 80
decode_scale_down_kv_rate: 40
max_gpu_budget: 64
prometheus_port: 9090
"""

TOPOLOGY = """schema: hs-analysis/topology/v1alpha1
affinity: s2
racks:
  - {s2: a, s1: a1, gpu_type: H20, gpus: 8}
  - {s2: a, s1: a2, gpu_type: H20, gpus: 8}
"""

EXCLUDED = """start,end,label
2026-07-01T08:00Z,2026-07-01T09:00Z,deploy
2026-07-02T08:00Z,2026-07-02T09:00Z,load test
"""

EVENTS = """[
 {"time": "2026-07-01T08:00Z", "text": "deploy"},
 {"time": "2026-07-02T08:00Z",
  "text": "rollback"}
]
"""

PLAN = """{
 "schema": "hs-analysis/plan/v1",
 "request": {"last_s": 3600.0},
 "start": "2026-07-01T00:00:00Z",
 "end": "2026-07-01T01:00:00Z",
 "files": [
  {
   "file": "a.json.gz",
   "metric": "up",
   "signal": null,
   "exporter": "prometheus",
   "role": null,
   "query": "up",
   "match": ["up"],
   "start": 1782864000.0,
   "end": 1782867600.0,
   "step_s": 15.0,
   "expected_points": 241
  }
 ]
}
"""

MEASURED = Measured(
    ratio_band=(0.45, 0.56), gpus_per_instance={"prefill": 2.0, "decode": 4.0},
    prefill_capacity=Estimate(9000.0, 8500.0, 9500.0), prompt_tokens=1000.0, kv_usage_target=0.7,
)  # fmt: skip


@cache
def exported(target: str, suffix: str) -> str:
    """Return an exported file."""
    files = export(full_policy(), target, ExportOptions(measured=MEASURED)).files
    (text,) = [text for name, text in files.items() if name.endswith(suffix)]
    return text


BESIDE = "chat.scaledobjects.yaml"
"""File that a Kustomize base lists."""


@cache
def base_of_keda() -> str:
    """Return a Kustomize base of the objects of KEDA."""
    return kustomization("keda", {BESIDE: exported("keda", "scaledobjects.yaml")}, {})


@cache
def golden(name: str) -> str:
    """Return an answer of a sample."""
    return (GOLDEN / name).read_text("utf-8")


@dataclass(frozen=True)
class Broken:
    """A file with one fault.

    ``at`` is in the line that has to be named, the first that holds it once ``old`` is replaced by ``new``.
    """

    name: str
    text: Callable[[], str]
    old: str
    new: str
    at: str
    says: str

    def content(self) -> str:
        """Return the broken text."""
        whole = self.text()
        assert self.old in whole, self.old
        return whole.replace(self.old, self.new, 1)

    def line(self) -> int:
        """Return the line of the fault."""
        lines = self.content().splitlines()
        return next(number for number, line in enumerate(lines, 1) if self.at in line)


def _of(name: str, text: str | Callable[[], str], *cases: tuple[str, str, str, str]) -> list[Broken]:
    given = (lambda: text) if isinstance(text, str) else text
    return [Broken(name, given, *case) for case in cases]


CASES = [
    *_of(
        "hsa.toml", TOML,
        ('"2s"', '"2"', "ttft =", "slo.ttft: '2' has no unit; write e.g. 2s or 2ms"),
        ("ttft =", "tftf =", "tftf =", "no such key 'tftf' in [slo]; did you mean ttft?"),
        ('"mixed"', '"mixd"', "^gen-", "'mixd' is none of its values; did you mean mixed?"),
        ('"^gen-"', '"(gen"', "(gen", "roles"),
        ('"request_rate"', '"request_rat"', "gateway_qps", "no such signal 'request_rat'; did you mean"),
        ("unit = \"req/s\"", "unti = \"req/s\"", "gateway_qps", "no such key 'unti'; did you mean unit?"),
        ("http://prom", "prom", "server_address", "'prom:9090' is no address of a server"),
        ("= 1.0", '= "1.0"', "H20", "'1.0' is no number from 0 on"),
        ("time =", "tiem =", "tiem =", "no such key 'tiem'; did you mean time?"),
        ("[prices]", "[prizes]", "[prizes]", "no such section [prizes]; did you mean prices?"),
        ('ttft = "2s"', 'ttft = "2s', 'ttft = "2s', "not TOML: "),
    ),
    *_of(
        "policy.yaml", lambda: golden("policy.yaml"),
        ("  unit: pod", "  unti: pod", "spec:", "spec.unit: is missing"),
        ("  unit: pod", "  unit: pod\n  primeries: []", "primeries", "schema; did you mean primaries?"),
        ("mode: metric", "mode: metrics", "mode: metrics", "'metrics' is not one of metric, periodic, hold"),
        ("scale_out_ratio: 1.1", "scale_out_ratio: 0.8", "scale_in_ratio", "is above scale_out_ratio"),
        ("sum(rate(", "sum(rate((", "sum(rate((", "is no PromQL: "),
        ("unit: tokens/s", "unit: ms", "unit: ms", "primaries[0].unit: 'ms' is not the unit of"),
        ("- signal: prefill_", "- signal: prefil_", "prefil_", "no such signal 'prefil_tps_effective'"),
        ("policy/v1alpha2", "policy/v9", "v9", "schema is 'hs-analysis/policy/v9'"),
        ("spec:", "spec: [", "spec: [", "not YAML: a bracket is not closed"),
    ),
    *_of(
        "racks.yaml", TOPOLOGY,
        ("affinity: s2", "affinity: s3", "affinity: s3", "'s3' is not one of s1, s2, cluster"),
        ("s1: a2, gpu_type: H20, gpus: 8", "s1: a2, gpu_type: H20, gpus: x", "a2", "a whole number, found"),
    ),
    *_of(
        "summary.json", lambda: golden("summary.json"),
        ('"tool_version"', '"tool_versoin"', '"tool_versoin"', "is unknown; did you mean tool_version?"),
        ('"rows_read": ', '"rows_read": "x", "x": ', '"rows_read"', "rows_read x is not of type integer"),
        ('"schema_version": 2', '"schema_version": 7', '"schema_version": 7', "7 is greater than"),
        ('"services": [', '"services": [,', '"services": [,', "no JSON"),
    ),
    *_of(
        "plan.json", PLAN,
        ('"metric": "up",', '"metrik": "up",', '"metrik"', "metrik is unknown; did you mean metric?"),
        ('"step_s": 15.0', '"step_s": "15s"', '"step_s"', "files[0].step_s '15s' is no number"),
        ('"a.json.gz"', '"../a.json.gz"', '"../a', "is no name of a file next to the plan"),
        ('plan/v1', 'plan/v9', 'plan/v9', "is not hs-analysis/plan/v1"),
    ),
    *_of(
        "incidents.csv", EXCLUDED,
        ("2026-07-02T09:00Z", "2026-07-02T07:00Z", "load test", "is not before"),
        ("2026-07-02T08:00Z", "2026-07-32T08:00Z", "load test", "'2026-07-32T08:00Z' is not a time"),
        ("start,end", "strt,end", "strt,end", "no start among strt, end, label; did you mean start?"),
    ),
    *_of(
        "events.json", EVENTS,
        ('"2026-07-02T08:00Z"', '"soon"', '"soon"', "'soon' is not a time"),
        ('"deploy"}', '"deploy"', '"2026-07-02', "no JSON"),
    ),
    *_of(
        "keda.yaml", KEDA,
        ("maxReplicaCount: 9", "maxReplicaCont: 9", "maxReplicaCont", "did you mean maxReplicaCount?"),
        ("minReplicaCount: 2", "minReplicaCount: 12", "minReplicaCount", "12 is above maxReplicaCount 9"),
        ('threshold: "700"', "threshold: 700", "threshold", "700 is no text: put it in quotes"),
        ("        query: ", "        qeury: ", "qeury", "qeury is unknown; did you mean query?"),
        ("[1m]", "[1x]", "query", "query is no PromQL: "),
        ("    name: gen\n", "    kind: Deployment\n", "scaleTargetRef", "scaleTargetRef.name is missing"),
        ("{name: gen, namespace: llm}", "{{ .Values.meta }}", "{{", "a template"),
        ("type: prometheus", "type: prometheus\n     name: x", "     name: x", "no YAML or JSON"),
    ),
    *_of(
        "hpa.yaml", HPA,
        ("minReplicas: 2", "minReplicas: 12", "minReplicas", "spec.minReplicas 12 is above maxReplicas 9"),
        ("autoscaling/v2", "autoscaling/v2beta2", "v2beta2", "only autoscaling/v2 is read"),
        ("Seconds: 300", "Seconds: 9000", "9000", "9000 is not a whole number 0 to 3600"),
        ('averageValue: "700"', 'value: "700"', "target:", "averageValue is missing"),
        ("type: Pods, value: 1", "type: Pod, value: 1", "type: Pod,", "'Pod' is not one of Pods, Percent"),
    ),
    *_of(
        "planner.yaml", PLANNER,
        ("down_kv_rate: 40", "down_kv_rate: 90", "scale_up", "80 is not above decode_scale_down_kv_rate 90"),
        ("max_gpu_budget", "max_gpu_bugdet", "max_gpu_bugdet", "is unknown; did you mean max_gpu_budget?"),
        ("mode: decode", "mode: decoding", "mode:", "'decoding' is not one of"),
    ),
    *_of(
        "chat.scaledobjects.yaml", lambda: exported("keda", "scaledobjects.yaml"),
        ('Values: "false"', 'Values: "true"', "ignoreNullValues", "an empty answer would scale in"),
        ("query: sum(", "query: avg(", "query: avg(", "is not a sum"),
    ),
    *_of(
        "chat.rules.yaml", lambda: exported("rules", "rules.yaml"),
        ("record: service:", "record: service_", "record: service_", "is not level:name:operation"),
        ("interval: 15s", "interval: soon", "interval: soon", "interval 'soon' is not a duration"),
    ),
    *_of(
        "chat.adapter.yaml", lambda: exported("hpa", "adapter.yaml"),
        ("namespaced: false", "namespaced: true", "namespaced", "resources.namespaced is not false"),
    ),
    *_of(
        "chat.autoscalingpolicy.yaml", lambda: exported("kthena", "autoscalingpolicy.yaml"),
        ("minRatio:", "minRation:", "minRation:", "minRation is unknown; did you mean minRatio?"),
        ("maxReplicas: 12", "maxReplicas: 1", "minReplicas: 2", "replica counts 2 to 1 are not min ≤ max"),
    ),
    *_of(
        "chat.podautoscalers.yaml", lambda: exported("aibrix", "podautoscalers.yaml"),
        ("scale-up-tolerance:", "scale-up-toleranc:", "scale-up-toleranc:", "is not one that is read"),
    ),
    *_of(
        "chat.llminferenceservice.yaml", lambda: exported("kserve", "llminferenceservice.yaml"),
        ("minReplicas: 3", "minReplicas: 0", "minReplicas: 0", "is not a whole number 1 to any"),
    ),
    *_of(
        "chat.rolebasedgroup.yaml", lambda: exported("rbg", "rolebasedgroup.yaml"),
        ("maxSkew: 10%", "maxSkew: 110%", "maxSkew: 110%", "maxSkew '110%' is not a percentage"),
    ),
    *_of(
        "chat.autoscalerpolicies.yaml", lambda: exported("ome", "autoscalerpolicies.yaml"),
        ("providerRef:", "providerRf:", "providerRf:", "is unknown; did you mean providerRef?"),
    ),
    *_of(
        "chat.alerts.yaml", lambda: exported("rules", "alerts.yaml"),
        ("severity: critical", "severty: critical", "labels:", "severity None is not one of"),
        ("    for: 1m", "    for: soon", "for: soon", "for 'soon' is not a duration"),
    ),
    *_of(
        "chat.token-aware.yaml", lambda: exported("llmd", "token-aware.yaml"),
        (") / 9000", ")", "inflight_tokens", "the backlog is not divided"),
        ("query: sum(vllm", "query: vector(0) or sum(vllm", "vector(0) or", "reads a missing metric as idle"),
    ),
    *_of(
        "chat.slo-aware.yaml", lambda: exported("llmd", "slo-aware.yaml"),
        ("saturation > 0.55", "saturation > 0.35", "formula", "is not the guide's"),
        ("name: readyReplicas", "name: ready", "triggers:", "which the formula names"),
    ),
    *_of(
        "chat.calibration.json", lambda: exported("llmd", "calibration.json"),
        ('"schema_version": 1', '"schema_version": 2', '"schema_version": 2', "schema_version"),
        ('"status": "NOT_RUN"', '"status": "DONE"', '"DONE"', "status"),
    ),
    *_of(
        "chat.inferenceservice.yaml", lambda: exported("ome", "inferenceservice.yaml"),
        ("autoscalerPolicyRef:", "autoscalerPolicyRf:", "PolicyRf", "did you mean autoscalerPolicyRef?"),
    ),
    *_of(
        "chat.storm.yaml", lambda: exported("aibrix", "podautoscalers.yaml"),
        ("roleName: decode", "rolName: decode", "rolName", "rolName is unknown; did you mean roleName?"),
        ("kind: StormService", "kind: Deployment", "subTargetSelector:", "is for the roles of a Storm"),
    ),
    *_of(
        "chat.rbg.yaml", lambda: exported("rbg", "rolebasedgroup.yaml"),
        ("OrderScheduled", "OrderSched", "progression", "'OrderSched' is not one of"),
    ),
    *_of(
        "chat.dashboard.json", lambda: exported("grafana", "dashboard.json"),
        ('"schemaVersion"', '"schemaVersoin"', '"schemaVersoin"', "did you mean schemaVersion?"),
        ('"id": 2,', '"id": 1,', '"panels"', "an id is used twice"),
        ('"w": 24', '"w": 30', '"w": 30', "30"),
    ),
    *_of(
        "kustomization.yaml", base_of_keda,
        ("chat.scaledobjects", "chat.scaledobject", "chat.scaledobject.yaml", "is not in the folder"),
        ("resources:", "resurces:", "resurces:", "resurces is unknown"),
        ("k8s.io/v1beta1", "k8s.io/v1", "k8s.io/v1", "apiVersion and kind are not"),
    ),
    *_of(
        "chat.losses.json", lambda: exported("llmd", "losses.json"),
        ('"kind": "dropped"', '"kind": "droped"', '"droped"', "is not one of dropped, approximated, refused"),
        ('"text": "300 for', '"txt": "300 for', '"txt"', "did you mean text?"),
    ),
    *_of("what.yaml", "a: 1\n", ("a: 1", "schema: hs-analysis/polcy/v1", "schema", "is none of hs_analysis")),
]  # fmt: skip

CASE_IDS = [f"{one.name}: {re.sub(r'[^ -~]', ' ', one.new)[:40]}" for one in CASES]


def problems(path: Path) -> list[HsError]:
    """Return what is wrong with a file."""
    try:
        check_file(path)
    except ManyErrors as error:
        return error.errors
    except HsError as error:
        return [error]
    return []


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_a_fault_is_told_with_its_line(case: Broken, tmp_path: Path) -> None:
    """A line names the place and says why; little else is made of it, and nothing ends in a bug."""
    path = tmp_path / case.name
    (tmp_path / BESIDE).write_text(exported("keda", "scaledobjects.yaml"), "utf-8")
    path.write_text(case.content(), "utf-8")
    told = problems(path)
    place = re.compile(rf"{re.escape(str(path))}(:| line ){case.line()}(:|$)")
    assert any(place.match(one.where) and case.says in one.line() for one in told), [o.line() for o in told]
    assert len(told) <= 2, "a misspelt key is also missing where it belongs"


@pytest.mark.parametrize("name", sorted({case.name for case in CASES} - {"what.yaml"}))
def test_the_same_file_without_its_fault_is_valid(name: str, tmp_path: Path) -> None:
    """No fault is seen where there is none."""
    case = next(one for one in CASES if one.name == name)
    path = tmp_path / name
    (tmp_path / BESIDE).write_text(exported("keda", "scaledobjects.yaml"), "utf-8")
    path.write_text(case.text(), "utf-8")
    assert [one.line() for one in problems(path)] == []


def test_the_check_of_a_file_that_is_neither_yaml_nor_json_is_its_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A further target needs no kind of its own: its check says what is wrong, and in which line."""

    def lint(text: str) -> list[str]:
        return [f"line {n}: no number" for n, one in enumerate(text.splitlines(), 1) if "x" in one]

    row = replace(TARGETS["keda"], lints={"thresholds.csv": lint})
    monkeypatch.setitem(TARGETS, "csv", row)
    path = tmp_path / "chat.thresholds.csv"
    path.write_text("start\n1\nx\n", "utf-8")
    assert [one.where for one in problems(path)] == [f"{path}:3"]
    path.write_text("start\n1\n", "utf-8")
    assert check_file(path).holds == "2 lines as hsa export writes them"


def test_a_policy_that_contradicts_itself_is_valid_with_a_doubt(tmp_path: Path) -> None:
    """It can be read and run: the line is named, and the exit code stays 0."""
    value = r"( +target_per_instance:\n(?: +#.*\n)* +value: )[\d.]+"
    text = re.sub(value, r"\g<1>987654.0", golden("policy.yaml"), count=1)
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "987654" in one)
    (doubt,) = check_file(path).doubts
    where = f"{path}:{line}: spec.primaries[0].target_per_instance.value"
    assert doubt.startswith(f"{where}: 987654 is above the capacity of ")
    path.write_text(re.sub(value, r"\g<1>2.2525", text, count=1))
    (doubt,) = check_file(path).doubts
    assert re.match(rf"{re.escape(where)}: 2.2525 is far below [\d.]+, headroom_ratio ", doubt)


VALUES = ("[]", "{}", "null", "-1", '"x"', "1e99", "[1, {a: b}]", "{a: [1]}", "true", "x: y", '""')


def _worse(text: str, rng: random.Random) -> str:
    """Return a text with one or two lines taken out, cut, doubled, or with another value."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 2)):
        at, how = rng.randrange(len(lines)), rng.random()
        key, sign, _ = [*re.split(r"(: |=|:)", lines[at], maxsplit=1), "", ""][:3]
        if how < 0.2 and len(lines) > 1:
            del lines[at]
        elif how < 0.7 and sign:
            lines[at] = key + sign + rng.choice(VALUES) + "," * lines[at].endswith(",")
        elif how < 0.85:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
        else:
            lines.insert(at, rng.choice(lines))
    return "\n".join(lines) + "\n"


def test_no_broken_file_ends_in_a_bug(tmp_path: Path) -> None:
    """Whatever is made of each kind's lines, the answer is a reason or none."""
    rng = random.Random(0)
    texts = {case.name: case.text for case in CASES if case.name != "summary.json"}
    told = 0
    for name, text in sorted(texts.items()):
        for _ in range(5):
            path = tmp_path / name
            path.write_text(_worse(text(), rng), "utf-8")
            told += bool(problems(path))
    assert told > 2 * len(texts)
    deep = tmp_path / "deep.yaml"
    deep.write_text("a: " + "[" * 3000 + "]" * 3000)
    assert "nested too deep" in problems(deep)[0].line()
