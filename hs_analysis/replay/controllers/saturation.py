"""llm-d's Workload Variant Autoscaler, saturation analyser version 1: spare KV cache and spare queue.

After the project's ``docs/saturation-analyzer.md`` (0.5 to 0.8; opt-in since 0.9, deprecated with the
VariantAutoscaling object), https://github.com/llm-d/llm-d-workload-variant-autoscaler. One variant a pool;
replicas are alike in the replay, so that each stands at the pool's mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hs_analysis.replay.controllers.view import Answer, PoolView, documented

DOC = "https://github.com/llm-d/llm-d-workload-variant-autoscaler/blob/main/docs/saturation-analyzer.md"


@dataclass(frozen=True)
class Saturation:
    """Thresholds of one pool. ``kv_signal`` is a mean over replicas, ``queue_signal`` a pool total."""

    kv_signal: str = "kv_usage"
    queue_signal: str = "queue_length"
    kv_threshold: float = field(default=0.80, metadata=documented("ratio", DOC))
    queue_threshold: float = field(default=5.0, metadata=documented("requests", DOC))
    kv_spare_trigger: float = field(default=0.1, metadata=documented("ratio", DOC))
    queue_spare_trigger: float = field(default=3.0, metadata=documented("requests", DOC))
    peak_s: float = field(default=60.0, metadata=documented("s", DOC))
    min_replicas: int = field(default=1, metadata=documented("instances", DOC))
    max_replicas: int = field(
        default=100,
        metadata=documented("instances", "none of its own: the HPA that acts on its wish has one"),
    )

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.kv_signal, self.queue_signal)


def decide(parameters: Saturation, view: PoolView, memory: None) -> Answer:
    """Add one replica when spare capacity is short, remove one when the rest could carry its load.

    Nothing is decided while replicas are starting (the model is "in transition") or a metric is missing.
    """
    kv = view.highest(parameters.kv_signal, parameters.peak_s)
    queue = view.highest(parameters.queue_signal, parameters.peak_s)
    current = view.desired
    if kv is None or queue is None:
        return Answer(current, memory, "kv usage or queue is missing: hold")
    if view.ready < current - 1e-6:
        return Answer(current, memory, "replicas are starting: hold")
    each = queue / max(1, current)
    spare_kv, spare_queue = parameters.kv_threshold - kv, parameters.queue_threshold - each
    saturated = spare_kv <= 0 or spare_queue <= 0
    if saturated or spare_kv < parameters.kv_spare_trigger or spare_queue < parameters.queue_spare_trigger:
        count = min(current + 1, max(current, parameters.max_replicas))
        return Answer(count, memory, f"spare kv {spare_kv:.2f}, spare queue {spare_queue:.1f}: short")
    if current >= 2 and current > parameters.min_replicas:
        more = current / (current - 1)
        if (
            parameters.kv_threshold - kv * more >= parameters.kv_spare_trigger
            and parameters.queue_threshold - each * more >= parameters.queue_spare_trigger
        ):
            return Answer(
                current - 1, memory, f"one fewer leaves spare kv {parameters.kv_threshold - kv * more:.2f}"
            )
    return Answer(current, memory, f"spare kv {spare_kv:.2f}, spare queue {spare_queue:.1f}: hold")
