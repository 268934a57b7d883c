"""Recording rules to install before a study: what it reads, once a minute, under names that it knows.

A series is recorded as it is, and never summed: a sum over pods adds counters that restart apart, and hides
how many instances report and what role they have. A counter stays a counter: a rate recorded over two
minutes would blur the minutes. A gauge is not averaged: its mean over the last minute is half a minute late
against the counters, and signals that follow the load at once then seem not to. What the rules leave out is
what a study does not need: other metrics, older names, and buckets of histograms that no latency limit is
judged by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from hs_analysis.catalogue import Catalogue, Exporter
from hs_analysis.catalogue.pod_labels import POD_LABEL_METRIC
from hs_analysis.catalogue.rows import RECORDED_PREFIX, Signal, Source
from hs_analysis.collect.plan import LIMITED, ROLE_LABELS

RULES_IN_GROUP = 20
"""Most rules of a group that every managed server takes: Azure's limit, and Mimir's unless it is raised."""

INTERVAL = "1m"
"""How often rules are evaluated: the shortest that every managed server takes, and the study's window."""

STUDIED = (
    "first_token_rate", "completion_rate", "input_length", "output_length", "finished_output_tps",
    "finished_rate", "arrived_prompt_tps", "prompt_tps", "cached_prompt_tps", "cache_hit_rate", "in_flight",
    "router_queue", "replicas_ready", "replicas_desired", "restarts",
)  # fmt: skip
"""Auxiliary signals that demand, token mix and instance counts are made from."""

PACKS = {
    "vllm": ("vllm",),
    "sglang": ("sglang",),
    "tensorrt-llm": ("trtllm", "triton_trtllm"),
    "dynamo": ("dynamo_frontend", "dynamo_worker", "dynamo_router"),
    "llm-d": ("llmd_epp",),
    "kthena": ("kthena_router",),
    "aibrix": ("aibrix",),
    "gen-ai": ("gen_ai",),
    "gpus": ("dcgm", "amd_dme"),
    "kubernetes": ("ksm",),
}
"""Pack → the exporters it records: what is installed together."""


@dataclass(frozen=True)
class RecordedMetric:
    """A metric that is recorded, and whether it is the buckets of a histogram."""

    metric: str
    buckets: bool = False

    @property
    def expr(self) -> str:
        """PromQL of what is recorded."""
        return _PICKED.get(self.metric, self.metric)


_PICKED = {"kube_pod_status_ready": 'kube_pod_status_ready{condition="true"}'}
"""Selectors of metrics with a series for each of several states, of which one is read."""


@dataclass(frozen=True)
class RulesPack:
    """The rules of one stack.

    Attributes
    ----------
    name
        Key of `PACKS`.
    exporters
        What writes the metrics.
    metrics
        What is recorded, in catalogue order, each once.
    """

    name: str
    exporters: tuple[Exporter, ...]
    metrics: tuple[RecordedMetric, ...]

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.name}.rules.yaml"

    @property
    def cost(self) -> tuple[str, ...]:
        """What it costs in series, as sentences."""
        single = sum(not one.buckets for one in self.metrics)
        families = [one.metric.removesuffix("_bucket") for one in self.metrics if one.buckets]
        unit = "GPU" if any(one.watches_gpus for one in self.exporters) else "pod"
        unit = "Deployment, StatefulSet or pod" if "ksm" in PACKS[self.name] else unit
        text = f"Cost: {single} series a {unit} where all are exported"
        text += f", and one for each edge of {' and '.join(families)}" if families else ""
        return (f"{text}.", f"How many they are now: {self.count}")

    @property
    def count(self) -> str:
        """PromQL that counts the series which the rules will record."""
        return f'count({{__name__=~"{"|".join(one.metric for one in self.metrics)}"}})'


def rules_packs(catalogue: Catalogue) -> tuple[RulesPack, ...]:
    """Return a pack for each stack of the catalogue, in the order of `PACKS`."""
    found = []
    for name, exporters in PACKS.items():
        metrics: dict[str, RecordedMetric] = {}
        for one in _recorded(catalogue, exporters):
            metrics.setdefault(one.metric, one)
        owners = tuple(one for one in catalogue.exporters if one.name in exporters)
        found.append(RulesPack(name, owners, tuple(metrics.values())))
    return tuple(found)


def _recorded(catalogue: Catalogue, exporters: tuple[str, ...]) -> Iterator[RecordedMetric]:
    for signal in catalogue.signals:
        if is_recorded(signal):
            for source in signal.sources:
                if source.source in exporters:
                    yield from _of_source(signal, source)


def is_recorded(signal: Signal) -> bool:
    """Whether the rules keep a signal: every candidate that doctor asks for, and what demand is made from."""
    return signal.wanted and (signal.family != "auxiliary" or signal.id in STUDIED)


def _of_source(signal: Signal, source: Source) -> Iterator[RecordedMetric]:
    for term in source.terms:
        yield RecordedMetric(term.metric)
    if source.histogram and signal.id in LIMITED:
        yield RecordedMetric(f"{source.histogram}_bucket", buckets=True)


def pack_text(pack: RulesPack) -> str:
    """Return a pack as a rules file of Prometheus, with what it is for and what it costs."""
    rules = [(one.metric, one.expr) for one in pack.metrics]
    if "ksm" in PACKS[pack.name]:
        # Of pods' labels only those that tell a role: a cluster has many pods.
        picked = " or ".join(f'{POD_LABEL_METRIC}{{{label}!=""}}' for label in ROLE_LABELS)
        rules.append((POD_LABEL_METRIC, picked))
    versions = "; ".join(f"{one.name} {one.versions}" for one in pack.exporters)
    lines = [
        f"Recording rules that keep what hsa reads of {pack.name} ({versions}), once a minute.",
        "Install them before a study, where its history will be kept; hsa knows their names.",
        *pack.cost,
        "A study then looks at windows of two minutes, and its verdicts need more days; interval: 30s, where",
        "your server takes it, keeps minutes. Keep the raw series of a pressure test.",
    ]
    text = "".join(f"# {line}\n" for line in lines) + "groups:\n"
    for number, start in enumerate(range(0, len(rules), RULES_IN_GROUP), 1):
        text += f"  - name: hs_analysis_history_{pack.name}_{number}\n    interval: {INTERVAL}\n    rules:\n"
        for metric, expr in rules[start : start + RULES_IN_GROUP]:
            text += f"      - record: {RECORDED_PREFIX}{metric}\n        expr: {json.dumps(expr)}\n"
    return text
