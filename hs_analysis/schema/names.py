"""Names that users type or read: roles, export targets, faults, baselines of a replay, GPU types.

They are here, and not at their stages, so that the command line reads them without loading one.
"""

from __future__ import annotations

import re

POOL_ROLES = ("prefill", "decode", "mixed")
"""Roles that are pools of instances, in the order results list them."""

EXPORT_TARGETS = {
    "rules": "Prometheus recording and alert rules",
    "keda": "KEDA ScaledObjects",
    "hpa": "HorizontalPodAutoscalers (autoscaling/v2) and the rules of prometheus-adapter behind them",
    "heteroscale": "policy document for a controller that runs HeteroScale's own rule",
    "kthena": "Kthena AutoscalingPolicy (1.0) with the P/D ratio kept in its interval",
    "kserve": "KServe LLMInferenceService: KEDA scaling per role, as a merge patch",
    "aibrix": "AIBrix PodAutoscalers for the roles of a StormService, and the rules of prometheus-adapter",
    "dynamo": "configuration of Dynamo's planner, advisory",
    "llmd": "llm-d's token-aware ScaledObjects with the measured prefill throughput",
    "rbg": "RoleBasedGroup: ScaledObjects on its scaling adapters, and a CoordinatedPolicy",
    "ome": "OME AutoscalerPolicies, and the patch of the InferenceService that uses them",
    "grafana": "Grafana dashboard of the service, on the policy's own queries",
}
"""Export target → what it is; ``export.TARGETS`` holds one row for each."""

WORKLOAD_KINDS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "Rollout": "argoproj.io/v1alpha1",
    "RoleBasedGroupScalingAdapter": "workloads.x-k8s.io/v1alpha2",
    "DynamoGraphDeploymentScalingAdapter": "nvidia.com/v1alpha1",
}
"""Kind whose replicas an autoscaler can set → its apiVersion."""

KUBERNETES_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
"""Name of an object, as a regular expression."""
NOT_RECOMMENDED = "WARNING: applying this is not recommended"
"""Begin of the first line of every exported file of such a policy, and of its first loss; why follows."""

CONTROLLER_TITLES = {"keda": "KEDA", "hpa": "HPA", "heteroscale": "HeteroScale's own rule"}
"""Controller that a policy can be selected for → its name in a sentence."""

TARGET_TITLES = {
    **CONTROLLER_TITLES,
    "kthena": "Kthena",
    "kserve": "KServe",
    "aibrix": "AIBrix",
    "dynamo": "Dynamo's planner",
    "llmd": "llm-d",
    "rbg": "RBG",
    "ome": "OME",
}
"""Export target with an object of its own → its name in a sentence."""

BURST, GAP = "burst", "metric_gap"

FAULTS = {
    GAP: "no metric can be read for an hour",
    "stale_metric": "for an hour every metric repeats its last value",
    "stuck_start_up": "what is asked for in the hour starts only after it",
    "no_stock": "no instance can be added for an hour",
    "lost_group": "a quarter of every pool stops at once and is started anew",
    "wrong_ratio": "someone halves the prefill pool (the only pool, where there is one)",
    "doubled_traffic": "twice the traffic for an hour",
    "clock_skew": "for an hour metrics are ten minutes late",
    "counter_reset": "counters restart every ten minutes of the hour and read zero",
    BURST: "the load doubles within a start-up time, stays for ten minutes and goes as it came",
}
"""Fault → what happens; ``replay.FAULTS`` holds one row for each."""


RECORDED, STATIC_PEAK, ORACLE, HINDSIGHT = "recorded", "static_peak", "oracle", "hindsight"
CURRENT, TIMETABLE, DEFAULT_HPA, SLO_AWARE = "current", "timetable", "hpa", "slo_aware"
IN_SAMPLE, NEUTRAL, UNLIMITED = "in_sample", "heteroscale", "unlimited"
RATIO_FIXED, RATIO_BY_HOUR, RATIO_BY_MIX = "ratio_fixed", "ratio_by_hour", "ratio_by_mix"
RATIO_ROWS = {
    RATIO_FIXED: "HeteroScale's own rule with one signal: it sizes one pool, the P/D ratio of the training "
    "window gives the other",
    RATIO_BY_HOUR: "the same rule with the P/D ratio that each hour of the day (UTC) had in the training "
    "window",
    RATIO_BY_MIX: "the same rule with the P/D ratio that the prefill and decode work of the last ten "
    "minutes needs",
}
"""Rows that keep a P/D ratio, fixed or moving, and what they are."""
PERIODIC = "periodic"
"""Row of the policy that was asked for as a timetable (``--mode periodic``): it is the headline then."""

TRANSLATED = {
    **{target: f"as_{target}" for target in TARGET_TITLES if target != "heteroscale"},
    "heteroscale": NEUTRAL,
}
"""Export target → row of a replay that runs its file of a policy that was selected for another controller."""

READ_AS_IDLE = "as_llmd_read_as_idle"
"""llm-d's file with the queries of its guide, which read a missing metric as idle; under faults alone."""

AUTOSCALERS = {
    DEFAULT_HPA: "Kubernetes HPA with default behaviour on each pool's own work",
    "keda": "KEDA ScaledObject with default settings: such an HPA, but an empty answer of Prometheus is zero",
    "aibrix_apa": "AIBrix APA with default tolerances and rates",
    "aibrix_kpa": "AIBrix KPA with default stable and panic windows",
    "dynamo_load": "Dynamo planner, load-based, default thresholds",
    "dynamo_throughput": "Dynamo planner, throughput-based, constant predictor, engines sized by the target",
    "kthena": "Kthena AutoscalingPolicy with the derived band as ratio constraint",
    SLO_AWARE: "llm-d's SLO-aware formula: P90 of TTFT drives prefill, P90 of TBT decode",
}
"""Autoscalers of the field with their documented defaults, sized by the derived targets."""

VARIANTS = {
    IN_SAMPLE: "the selected policy as the exports hold it, fitted on the whole window: it has seen the test "
    "window",
    **{
        row: f"the selected policy as its {TARGET_TITLES[target]} file says it, read back"
        for target, row in TRANSLATED.items()
        if row != NEUTRAL
    },
    NEUTRAL: "HeteroScale's own rule with the numbers of the selected policy: the difference is what the "
    "target of the export can't say",
    UNLIMITED: "the selected policy without the limits of [bounds]: the difference is what they cost",
    **RATIO_ROWS,
}
"""Rows of the selected policy run another way, and what they are."""

COUNTS = {
    RECORDED: "the instances that ran",
    CURRENT: "the autoscaler that runs today, as its objects say (--current)",
    STATIC_PEAK: "all the time as many instances as the highest 5-min load of the training window needs "
    "at the target; the most recorded there where the target is a floor (they held the SLO) or not known",
    TIMETABLE: "at each hour of the day, by the clock of --tz (else UTC), what the highest 5-min load of the "
    "hour in the training window needs at the target, asked for a start-up time before: HeteroScale's "
    "periodic policy",
    HINDSIGHT: "the cheapest schedule found that keeps the expected share of violating windows within the "
    "SLO, the future known, start-up time included",
    ORACLE: "at every moment what the highest load of the next start-up time needs at the target; "
    "it knows the future, no policy can",
}
"""Rows of what runs today and of counts that no reading decides, and what they are."""

BASELINES = {**VARIANTS, **COUNTS, **AUTOSCALERS}
"""Rows that stand beside the policies of a replay, in the order they are listed, and what they are."""


_NUMBERED = re.compile(r"(?<![0-9a-z])(?:\d+x)?([a-z]{1,3}\d{2,4})")
"""A GPU model in a name: H200, GB300, MI300, L20."""


def same_gpu(one: str, other: str) -> bool:
    """Whether two names share a model number: ``NVIDIA H200`` and ``h200_sxm``."""
    left, right = (set(_NUMBERED.findall(name.lower())) for name in (one, other))
    return bool(left & right) or one.lower() == other.lower()
