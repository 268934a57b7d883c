"""Words that a user may choose from, where the command line reads them without loading a stage."""

from __future__ import annotations

EXPORT_TARGETS = {
    "rules": "Prometheus recording rules",
    "keda": "KEDA ScaledObjects",
    "hpa": "HorizontalPodAutoscalers (autoscaling/v2) and the rules of prometheus-adapter behind them",
}
"""Export target → what it is; ``export.TARGETS`` holds one row for each."""
