"""What stands beside the policies of a replay: the fleet that ran, bounds, autoscalers of the field."""

from __future__ import annotations

RECORDED, STATIC_PEAK, ORACLE, HINDSIGHT = "recorded", "static_peak", "oracle", "hindsight"
CURRENT, TIMETABLE = "current", "timetable"
AUTOSCALERS = {
    "hpa": "Kubernetes HPA with default behaviour on each pool's own work",
    "keda": "KEDA ScaledObject with default settings: such an HPA, but an empty answer of Prometheus is zero",
    "aibrix_apa": "AIBrix APA with default tolerances and rates",
    "aibrix_kpa": "AIBrix KPA with default stable and panic windows",
    "dynamo_load": "Dynamo planner, load-based, default thresholds",
    "dynamo_throughput": "Dynamo planner, throughput-based, constant predictor, engines sized by the target",
    "kthena": "Kthena AutoscalingPolicy with the derived band as ratio constraint",
}
"""Autoscalers of the field with their documented defaults, sized by the derived targets."""

BASELINES = {
    STATIC_PEAK: "all the time as many instances as the highest 5-min load of the training window needs "
    "at the target; the most recorded there where the target is a floor (they held the SLO) or not known",
    RECORDED: "the instances that ran",
    TIMETABLE: "at each hour of the day (UTC) what the highest 5-min load in that hour of the training "
    "window needs at the target, asked for a start-up time before: HeteroScale's periodic policy",
    ORACLE: "at every moment what the highest load of the next start-up time needs at the target; "
    "it knows the future, no policy can",
    HINDSIGHT: "the fewest instances that keep the expected share of violating windows within the SLO, "
    "the future known, start-up time included",
    CURRENT: "the autoscaler that runs today, as its objects say (--current)",
    **AUTOSCALERS,
}
"""Rows that stand beside the policies of a replay, and what they are."""
