"""Exported files as a cluster reads them: objects, bounds, behaviour, and what each query asks for."""

from __future__ import annotations

import numpy as np
import pytest
from simulator.autoscalers import DOWN, UP, Policy, Rules, Scaled, Target
from simulator.exported import Scene, autoscalers, behaviour, expression, quantity, seconds
from simulator.faults import FAULTS, Spell
from simulator.measures import Looks
from simulator.prometheus import Prometheus

FRESH, CALM = (f'sum(rate(vllm:generation_tokens_total{{pod=~"a-decode-.*"}}[{m}m]))' for m in (1, 3))
RULES = """\
# a header
groups:
  - name: hs_analysis_chat
    interval: 30s
    rules:
      - record: service:hs_decode_tps:rate1m
        expr: sum(rate(vllm:generation_tokens_total{job="x",pod=~".*-decode-.*"}[1m]))
        labels: {policy: chat, role: decode}
      - record: service:hs_ttft:mean2m
        expr: sum(rate(a_sum[2m])) / sum(rate(a_count[2m]))
        labels: {policy: chat, role: prefill}
"""
KEDA = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat-ROLE}
spec:
  scaleTargetRef: {name: chat-ROLE}
  minReplicaCount: 2
  maxReplicaCount: 9
  fallback: {failureThreshold: 3, replicas: 9, behavior: currentReplicas}
  advanced: {horizontalPodAutoscalerConfig: {behavior: {
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 25, periodSeconds: 300}],
              tolerance: "0.05"},
    scaleDown: {selectPolicy: Disabled}}}}
  triggers:
    - {type: prometheus, name: x, metricType: AverageValue, metadata: {
        query: 'sum(service:hs_decode_tps:rate1m{policy="chat",role="decode"})', threshold: "THRESHOLD",
        ignoreNullValues: "false"}}
"""
HPA = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: chat-decode}
spec:
  scaleTargetRef: {name: chat-decode}
  minReplicas: 2
  maxReplicas: 9
  metrics:
    - type: External
      external:
        metric: {name: hs_decode_tps_rate1m_chat, selector: {matchLabels: {policy: chat, role: decode}}}
        target: {type: AverageValue, averageValue: 1k}
"""
ADAPTER = """\
externalRules:
  - seriesQuery: '{__name__="service:hs_decode_tps:rate1m"}'
    name: {as: hs_decode_tps_rate1m_chat}
    metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>})'
"""


@pytest.fixture(scope="module")
def kept() -> Prometheus:
    """Return an hour of two instances a role that count 100 and 300 tokens/s; everything else is a ramp."""
    found = Prometheus(Looks(15, 30), 1.0, np.random.default_rng(0))
    for role in ("prefill", "decode"):
        one = found.of(role, 2)
        one.age_s[:] = 0
        points = np.arange(one.kept.shape[1])
        for number, pace in enumerate((100.0, 300.0)):
            for row in range(one.kept.shape[2]):
                one.kept[number, :, row] = 15.0 * pace * points if row < 4 else points / 1000.0 * (number + 1)
    found.front_s = 0
    found.front[:] = 150.0 * np.arange(len(found.front))[:, None]
    return found


def _both(kept: Prometheus) -> tuple[Scaled, Scaled]:
    keda = autoscalers([RULES, KEDA.replace("ROLE", "decode").replace("THRESHOLD", "1000")], Scene(kept))
    hpa = autoscalers([HPA, RULES, ADAPTER], Scene(kept))
    return keda["decode"], hpa["decode"]


def test_a_scaled_object_is_read(kept: Prometheus) -> None:
    """Bounds, rules of both directions with defaults for what is not said, fallback, threshold and query."""
    keda, _ = _both(kept)
    assert (keda.hpa.least, keda.hpa.most, keda.hpa.targets) == (2, 9, (Target(1000.0),))
    assert keda.hpa.up == Rules(0, (Policy("Percent", 25, 300),), tolerance=0.05)
    assert keda.hpa.down == Rules(300, DOWN.policies, "Disabled")
    assert keda.fallbacks[0].behavior == "currentReplicas"
    assert (keda.fallbacks[0].threshold, keda.zero) == (3, (False,))
    assert keda.queries[0](1800.0) == pytest.approx(400.0)


def test_an_hpa_is_read_through_the_adapters_rules(kept: Prometheus) -> None:
    """Its external metric is the recorded series; without a behaviour Kubernetes' defaults hold."""
    _, hpa = _both(kept)
    assert (hpa.hpa.least, hpa.hpa.most, hpa.hpa.targets) == (2, 9, (Target(1000.0),))
    assert (hpa.hpa.up, hpa.hpa.down) == (UP, DOWN)
    assert hpa.queries[0](1800.0) == pytest.approx(400.0)


def test_both_roles_may_follow_one_signal(kept: Prometheus) -> None:
    """A prefill object on the decode signal has its own threshold."""
    thresholds = {"prefill": 50.0, "decode": 90.0}
    texts = [KEDA.replace("ROLE", role).replace("THRESHOLD", f"{n}") for role, n in thresholds.items()]
    found = autoscalers([RULES, *texts], Scene(kept))
    assert {role: one.hpa.targets[0].value for role, one in found.items()} == thresholds
    assert found["prefill"].queries[0](1800.0) == found["decode"].queries[0](1800.0)


def test_a_recorded_series_is_as_old_as_its_rules_last_evaluation(kept: Prometheus) -> None:
    """Evaluated every 30 s: the answer changes with every second look of 15 s."""
    kept.targets["decode"].kept[0, 60:, 2] += 9000.0
    keda, _ = _both(kept)
    answers = [keda.queries[0](900.0 + 15.0 * k) for k in range(6)]
    kept.targets["decode"].kept[0, 60:, 2] -= 9000.0
    assert answers == pytest.approx([600.0] * 4 + [400.0] * 2)


@pytest.mark.parametrize(
    ("text", "role", "value"),
    [
        ('sum(rate(vllm:prompt_tokens_by_source_total{source="local_compute"}[1m]))', "prefill", 400.0),
        ('sum(increase(vllm:prompt_tokens_total{pod=~"a-prefill-.*"}[2m])) / 120', "", 400.0),
        ("avg(rate(vllm:generation_tokens_total[1m]))", "decode", 200.0),
        ("sum(rate(dynamo_frontend_requests_started_total[1m]))", "service", 10.0),
        (f"({FRESH} > 0.9 * {CALM} or {CALM}) + sum(vllm:num_requests_running) * 10", "", 400 + 3.6),
        (f"({FRESH} > 1.1 * {CALM} or {CALM})", "", 400.0),
        (f"{FRESH} * 2 > 1.1 * {CALM} or {CALM}", "", 800.0),
        ("sum(avg_over_time(vllm:num_requests_running[30s]))", "decode", (119 + 120) / 2 * 3 / 1000),
        ("sum(vllm:num_requests_running)", "decode", 120 * 3 / 1000),
        ("avg(avg by (pod) (avg_over_time(DCGM_FI_DEV_GPU_UTIL[15s]))) / 100", "decode", 0.18),
        ("sum(max_over_time(vllm:kv_cache_usage_perc[5m]))", "decode", 0.36),
        ("max_over_time(sum(avg_over_time(vllm:num_requests_running[15s]))[5m:1m])", "decode", 0.36),
        (
            "sum(rate(vllm:prompt_tokens_total[1m])) + sum(vllm:num_requests_waiting) * 9",
            "prefill",
            400.0 + 9 * 120 * 3 / 1000,
        ),
        ("min_over_time((sum(vllm:num_requests_running) * 10)[5m:1m])", "decode", 104 * 3 / 100),
    ],
)
def test_expressions_are_read_by_their_metric(kept: Prometheus, text: str, role: str, value: float) -> None:
    """At half an hour: counters of 100 and 300/s, levels of 0.12 and 0.24 that rise by 1 and 2 ‰ a scrape."""
    assert expression(text, role, kept)(1800.0) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "sum(rate(vllm:prompt_tokens_total[1m])) / sum(rate(vllm:generation_tokens_total[1m]))",
        "sum(rate(node_cpu_seconds_total[1m]))",
        "sum(vllm:generation_tokens_total)",
        "sum(deriv(vllm:num_requests_running[5m]))",
        "sum(max_over_time(rate(vllm:generation_tokens_total[1m])[5m:1m]))",
    ],
)
def test_what_is_not_understood_is_refused(kept: Prometheus, text: str) -> None:
    """Two metrics, a stranger's, a counter as it is, another function, a subquery per instance."""
    with pytest.raises(ValueError, match=r"not one metric|without a rate|not understood"):
        expression(text, "decode", kept)


def test_a_sum_answers_nothing_where_a_part_of_it_does() -> None:
    """As a vector plus an empty one is empty; a factor of the second part is not one of the first."""
    nothing = Prometheus(Looks(15, 30), 1.0, np.random.default_rng(0))
    served = "sum(rate(vllm:prompt_tokens_total[1m]))"
    queue = "sum(avg_over_time(vllm:num_requests_waiting[15s])) * 100"
    assert expression(f"{served} + {queue}", "prefill", nothing)(1800.0) is None


def test_a_difference_is_read(kept: Prometheus) -> None:
    """A rate less a half of itself, in brackets or not; nothing where nothing is known."""
    rate = "sum(rate(vllm:generation_tokens_total[1m]))"
    for text in (f"{rate} - {rate} * 0.5", f"({rate} - {rate} * 0.5)"):
        whole = expression(rate, "decode", kept)(1800.0)
        assert expression(text, "decode", kept)(1800.0) == pytest.approx(whole / 2)
    nothing = Prometheus(Looks(15, 30), 1.0, np.random.default_rng(0))
    assert expression(f"{rate} - {rate} * 0.5", "decode", nothing)(1800.0) is None


def test_a_subquery_around_a_record_is_read(kept: Prometheus) -> None:
    """The highest of five minutes of the recorded rate, with the sum inside or outside."""
    for query in (
        'max_over_time(sum(service:hs_decode_tps:rate1m{role="decode"})[5m:1m])',
        'sum(max_over_time(service:hs_decode_tps:rate1m{role="decode"}[5m])) * 2',
    ):
        text = KEDA.replace("ROLE", "decode").replace("THRESHOLD", "1")
        old = 'sum(service:hs_decode_tps:rate1m{policy="chat",role="decode"})'
        found = autoscalers([RULES, text.replace(old, query)], Scene(kept))
        assert found["decode"].queries[0](1800.0) == pytest.approx(800.0 if "* 2" in query else 400.0)


def test_an_unreadable_rule_matters_only_where_it_is_asked(kept: Prometheus) -> None:
    """A mean latency is recorded and no object follows it; one that does can't be judged."""
    assert _both(kept)[0].queries[0](1800.0) is not None
    text = KEDA.replace("ROLE", "prefill").replace("service:hs_decode_tps:rate1m", "service:hs_ttft:mean2m")
    text = text.replace('role="decode"', 'role="prefill"').replace("THRESHOLD", "1")
    found = autoscalers([RULES, text], Scene(kept))
    with pytest.raises(ValueError, match="not one metric"):
        found["prefill"].queries[0](1800.0)


@pytest.mark.parametrize(
    ("name", "moment"), [("stale_metric", 900.0), ("clock_skew", 1200.0), ("no_stock", 1800.0)]
)
def test_faults_of_readings_answer_of_another_moment(kept: Prometheus, name: str, moment: float) -> None:
    """Half an hour into the history, fifteen minutes into the fault."""
    spell = Spell(next(fault for fault in FAULTS if fault.name == name), 900.0)
    assert Scene(kept, (spell,)).moment(1800.0) == moment
    assert Scene(kept, (spell,)).moment(800.0) == 800.0
    assert Scene(kept, (spell,)).moment(4500.0) == 4500.0


def test_cron_triggers_keep_a_timetable(kept: Prometheus) -> None:
    """Monday to Friday from 8 to 18 h seven, else the minimum; in their own zone, over midnight too."""
    trigger = (
        '{type: cron, metadata: {timezone: Europe/Berlin, start: "0 8 * * mon,tue", end: "30 2 * * tue,wed", '
        'desiredReplicas: "7"}}'
    )
    text = KEDA[: KEDA.index("  triggers:")].replace("ROLE", "decode") + f"  triggers: [{trigger}]\n"
    found = autoscalers([text], Scene(kept, start_unix_s=1772409600.0))["decode"]  # Monday 0:00 UTC
    hours = {6.9: 1, 7.1: 7, 25.4: 7, 25.6: 1, 31.1: 7, 49.6: 1, 55.1: 1}
    assert {hour: found.queries[0](hour * 3600.0) for hour in hours} == hours
    assert found.hpa.targets == (Target(1.0),)


def test_defaults_and_quantities() -> None:
    """No behaviour is Kubernetes'; thousandths and durations are read."""
    assert behaviour(None) == (UP, DOWN)
    assert [quantity(text) for text in ("0.1", "100m", "1.5k")] == [0.1, pytest.approx(0.1), 1500.0]
    assert [seconds(text) for text in ("90s", "5m", "1h30m")] == [90.0, 300.0, 5400.0]
    with pytest.raises(ValueError, match="no duration"):
        seconds("5")
