"""Words that a user may choose from, where the command line reads them without loading a stage."""

from __future__ import annotations

EXPORT_TARGETS = {
    "rules": "Prometheus recording rules",
    "keda": "KEDA ScaledObjects",
    "hpa": "HorizontalPodAutoscalers (autoscaling/v2) and the rules of prometheus-adapter behind them",
}
"""Export target → what it is; ``export.TARGETS`` holds one row for each."""

FAULTS = {
    "metric_gap": "no metric can be read for an hour",
    "stale_metric": "for an hour every metric repeats its last value",
    "stuck_start_up": "what is asked for in the hour starts only after it",
    "no_stock": "no instance can be added for an hour",
    "lost_group": "a quarter of every pool stops at once and is started anew",
    "wrong_ratio": "someone halves the prefill pool (the only pool, where there is one)",
    "doubled_traffic": "twice the traffic for an hour",
    "clock_skew": "for an hour metrics are ten minutes late",
    "counter_reset": "counters restart every ten minutes of the hour and read zero",
}
"""Fault → what happens; ``replay.FAULTS`` holds one row for each."""
