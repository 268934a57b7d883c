"""Objects of serving stacks as controllers of the replay: what is read of them, and what is refused where."""

from __future__ import annotations

import pytest
from current.test_translate import KNOWN, TOKENS

from hs_analysis.catalogue import load_catalogue
from hs_analysis.controllers.kthena import SCALE_UP, Kthena, RatioConstraint
from hs_analysis.current import read_manifests, translate
from hs_analysis.current.translate import CurrentAutoscaler
from hs_analysis.errors import InputError

ROLE = f"""minReplicas: 2
        maxReplicas: 9
        metrics: [{{name: tps, targetValue: "1200"}}]
        metricSources: {{tps: {{prometheus: {{serverURL: x, query: "{TOKENS}"}}}}}}"""
POLICY = f"""apiVersion: workload.serving.volcano.sh/v1alpha1
kind: AutoscalingPolicy
metadata: {{name: chat}}
spec:
  disaggregatedTarget:
    ratioConstraint: {{numeratorRole: prefill, denominatorRole: decode, minRatio: "1.5", maxRatio: "2500m"}}
    roles:
      prefill:
        {ROLE}
      decode:
        {ROLE}
  behavior: {{scaleDown: {{period: 1m30s, percent: 0}}}}
"""
AIBRIX = """apiVersion: autoscaling.aibrix.ai/v1alpha1
kind: PodAutoscaler
metadata: {name: chat-decode}
spec:
  maxReplicas: 9
  scalingStrategy: APA
  metricsSources: [{metricSourceType: pod, targetMetric: kv_cache_usage_perc, targetValue: "0.75"}]
"""


def read(text: str) -> CurrentAutoscaler:
    """Return what the objects of a file set up."""
    return translate([(one, "") for one in read_manifests(text, "f")], KNOWN, load_catalogue())


def test_a_policy_of_kthena_is_read_with_its_band_and_its_defaults() -> None:
    """A direction that is not given is the webhook's, what a given one does not say the CRD's."""
    scaler = read(POLICY).scaler
    assert scaler is not None
    assert scaler.together == RatioConstraint(1.5, 2.5, (2, 9), (2, 9))
    decode = scaler.pools["decode"]
    assert isinstance(decode, Kthena)
    assert (decode.tolerance, decode.panic_hold_s) == (0.1, 0.0)
    assert decode.up == SCALE_UP
    assert [(one.kind, one.value, one.period_s) for one in decode.down.policies] == [
        ("Percent", 0, 90.0),
        ("Pods", 1, 90.0),
    ]
    assert decode.down.stabilization_s == 300.0
    assert decode.metrics[0].target == 1200.0
    assert scaler.pools["prefill"].metrics[0].signal == "decode_tps@decode"


def test_panic_of_kthena_has_the_defaults_of_its_crd_where_it_is_given() -> None:
    """200 % of the pool, 1000 % in the given period, for 60 s."""
    given = POLICY.replace("behavior: {", "behavior: {scaleUp: {panicPolicy: {period: 30s}}, ")
    scaler = read(given).scaler
    assert scaler is not None
    decode = scaler.pools["decode"]
    assert isinstance(decode, Kthena)
    panic = decode.panic_threshold, decode.panic_percent, decode.panic_period_s, decode.panic_hold_s
    assert panic == (2.0, 1000, 30.0, 60.0)
    assert decode.up == SCALE_UP


def test_limits_of_zero_stop_a_direction_only_where_both_have_to_be_met() -> None:
    """0 % And 1 instance remove none; 0 % Or 1 instance remove one."""
    both = POLICY.replace("percent: 0}", "percent: 0, selectPolicy: And}")
    none = POLICY.replace("percent: 0", "percent: 0, instances: 0")
    for text, select in ((POLICY, "Max"), (both, "Min"), (none, "Disabled")):
        scaler = read(text).scaler
        assert scaler is not None
        assert scaler.pools["decode"].down.select == select
        assert min(one.value for one in scaler.pools["decode"].down.policies) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (POLICY.replace("1m30s", "90"), "f:1: expected a duration such as 90s, found 90"),
        (POLICY.replace("maxReplicas: 9", "most: 9"), "f:1: maxReplicas is missing"),
        (POLICY.replace("percent: 0", "percent: all"), "f:1: percent: expected a whole number, found 'all'"),
    ],
)
def test_what_is_no_value_is_refused_with_its_place(text: str, says: str) -> None:
    """File and line, one sentence."""
    with pytest.raises(InputError) as caught:
        read(text)
    assert caught.value.line().startswith(says)


def test_a_strategy_that_is_not_read_leaves_the_pool_as_it_is() -> None:
    """Named, and the pool keeps its count."""
    found = read(AIBRIX)
    assert found.scaler is None
    assert any("strategy APA: only KPA on one external metric is read" in note for note in found.notes)
