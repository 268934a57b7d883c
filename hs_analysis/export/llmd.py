"""llm-d: the token-aware ScaledObjects of its guide, with the measured prefill throughput and thresholds.

Prefill follows the seconds of prompts that the router has handed out and that are not yet prefilled, decode
its KV usage, after guides/workload-autoscaling/keda-epp-token-aware in https://github.com/llm-d/llm-d
(experimental there). Two things differ on purpose. Its queries end in ``or vector(0)``, which reads a missing
metric as an idle pool and scales in; here the pool keeps its count. And its divisor is measured on an idle
stack; here it is what an instance prefills while the SLO just holds, which is less, so that instances come
earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hs_analysis.controllers.hpa import RatePolicy, Rules
from hs_analysis.export import blanks, keda, kubernetes, model, rules, translated
from hs_analysis.export.calibration import CALIBRATION_SUFFIX, calibration_record
from hs_analysis.export.model import Export, ExportOptions, Loss, PrometheusAccess
from hs_analysis.export.queries import of_one_copy, quoted
from hs_analysis.export.slo_aware import SLO_AWARE_SUFFIX, slo_aware_file
from hs_analysis.policy.model import Policy

TITLE = "llm-d token-aware ScaledObjects keda.sh/v1alpha1 (after its token-aware guide, 560d420)"
LLMD_SUFFIX = "token-aware.yaml"
TARGET: Final = "llmd"

TAIL_QUANTILE = 0.9
"""From here on an objective speaks of the tail of the requests [ratio]."""
TAIL_SHARE = 0.65
"""Part of the queue budget that a tail objective leaves: the signal is an average, and the guide takes 60 to
70 % for p90 and p99 [ratio]."""
GAUGE, PRODUCER = "llm_d_epp_inflight_tokens", "inflight-load-producer"
"""The router's gauge of tokens in flight, and the plugin that counts them."""
EMPTY = " or vector(0)"
"""End of the guide's own queries: a missing metric reads as an idle pool."""
OF_THE_GUIDE = ("prefill-backlog-seconds", "decode-kv-utilization")
"""Names of its triggers: prefill's and decode's."""
PACE = (Rules(0.0, (RatePolicy("Pods", 1, 180.0),)), Rules(300.0, (RatePolicy("Pods", 1, 300.0),)))
"""The guide's behaviour, out and in. With the policy's own, files of five simulated histories swung between
their bounds: on a fresh day they took 14 to 71 % more hours than with it, 7 to 34 points more of windows over
the SLO. The first history, at half of its capacity, 2 % and none."""
LEAST_QUEUE_S = 0.001
"""Shortest queue that an object can hold: KEDA works in thousandths [s]."""

_NO_CAPACITY = "no prefill throughput of an instance is measured, and llm-d's divisor is not guessed"
_NO_TTFT = "the SLO on TTFT is not known, and the queue budget comes from it; give --slo"
_NO_PROMPT = "the prompt tokens of a request are not recorded, and the queue budget is what they leave"
_NO_QUEUE = "the SLO on TTFT of {slo} s leaves no time to wait: a prompt of {tokens} tokens takes {floor} s"
_NO_PREFILL = "the policy scales no prefill pool with bounds"
_MISSING = (
    "without the gauges the count holds: llm-d's own queries (or vector(0)) read that as idle and scale in; "
    "before the router's first request its gauge does not exist"
)
_BACKLOG = "prefill follows the router's backlog in seconds, not the policy's signal"
_PACE = "the guide's pace, an instance more in 180 s, one fewer in 300 s: at the policy's a queue swings"
_USAGE = "decode follows its KV usage, not the policy's signal"
_OWN_DECODE = "no KV target is measured for decode: it keeps the policy's own signal"
_ROUTER = (
    "One router replica only; up to router 0.10.0 series of removed pods stay, and prefill never scales in "
    "(llm-d-router#2577)."
)


def export_llmd(policy: Policy, options: ExportOptions) -> Export:
    """Return the ScaledObjects of a policy on llm-d's signals and the recording rules, with the losses.

    Bounds, behaviour and fallback are the policy's. Nothing is written without a measured prefill capacity,
    the prompt tokens of a request and the SLO on TTFT, nor where these leave no time to wait.
    """
    why = translated.refusal(policy, "llm-d's guide") or _unmeasured(policy, options)
    if why:
        return translated.refused(policy, options, TARGET, why)
    objects, _, losses = keda.objects_of(policy, options)
    objects = {role: body for role, body in objects.items() if role in policy.bounds}
    if "prefill" not in objects:
        return translated.refused(policy, options, TARGET, _NO_PREFILL)
    losses = [*translated.replaced(losses, "window_s", *_SAID_HERE), *_losses(policy, options, set(objects))]
    for role, body in objects.items():
        if role not in options.todays:
            body["metadata"]["name"] += "-token-aware"
        trigger = _trigger(policy, options, role, body)
        if trigger:
            body["spec"]["triggers"] = [trigger]
            pace, _ = kubernetes.behavior_of(*PACE, options.kubernetes, "")
            body["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] = pace
            losses = _at_its_pace(losses, policy, role)
    found = model.concerning(losses, policy, options.costs)
    bodies = list(objects.values())
    names = kubernetes.workload_names(bodies)
    head = model.header(
        policy, options, TITLE, found,
        [
            _origin(policy, options),
            f"Check: serverAddress, authentication, namespace and pod names in queries, {names}. {_ROUTER}",
        ],
    )  # fmt: skip
    files = dict(rules.export_rules(policy, options).files)
    stem = model.file_stem(policy.service)
    files[f"{stem}.{LLMD_SUFFIX}"] = head + model.dump_documents(bodies)
    files[f"{stem}.{CALIBRATION_SUFFIX}"] = calibration_record(policy, options)
    if alternative := slo_aware_file(policy, options):
        files[f"{stem}.{SLO_AWARE_SUFFIX}"] = alternative
    return Export(TARGET, files, found)


def _at_its_pace(losses: Sequence[Loss], policy: Policy, role: str) -> list[Loss]:
    """Return losses of which those of a pool's pace are the guide's."""
    items = [f"{name}.{role}" for name in ("hysteresis", "cooldown") if role in getattr(policy, name)]
    others = [one for one in losses if one.text != _PACE and not one.item.startswith(tuple(items))]
    said = dict.fromkeys([*(one.item for one in losses if one.text == _PACE), *items, "step"])
    return [*others, *(Loss(item, "approximated", _PACE) for item in said)]


def _unmeasured(policy: Policy, options: ExportOptions) -> str:
    """Return why the guide's numbers can't be filled; empty where they can."""
    if options.measured.prefill_capacity is None:
        return _NO_CAPACITY
    if _ttft_s(policy, options) is None:
        return _NO_TTFT
    if options.measured.prompt_tokens is None:
        return _NO_PROMPT
    if queue_budget_s(policy, options) >= LEAST_QUEUE_S:
        return ""
    floor = options.measured.prompt_tokens / options.measured.prefill_capacity.value
    slo, tokens = _ttft_s(policy, options) or 0.0, options.measured.prompt_tokens
    return _NO_QUEUE.format(
        slo=model.plain_number(slo), tokens=model.plain_number(tokens), floor=model.plain_number(floor)
    )


def _ttft_s(policy: Policy, options: ExportOptions) -> float | None:
    return options.measured.limits_s(policy).get("ttft")


def queue_budget_s(policy: Policy, options: ExportOptions) -> float:
    """Return the seconds of prefill that may wait per instance: what the SLO leaves after the prompt itself.

    Below 0 where the prompt alone takes longer than the SLO allows. All numbers have to be measured.
    """
    measured = options.measured
    capacity = measured.prefill_capacity.value if measured.prefill_capacity else float("nan")
    left_s = (_ttft_s(policy, options) or 0.0) - (measured.prompt_tokens or 0.0) / capacity
    return _share(options) * left_s


def _share(options: ExportOptions) -> float:
    quantile = options.measured.slo_quantile
    return TAIL_SHARE if quantile is not None and quantile >= TAIL_QUANTILE else 1.0


def _trigger(
    policy: Policy, options: ExportOptions, role: str, body: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return a pool's trigger in the guide's form; None where the policy's own stays."""
    capacity, usage = options.measured.prefill_capacity, options.measured.kv_usage_target
    namespace = quoted(body["metadata"]["namespace"])
    pods, access = _pods(role, options), options.access(role)
    if role == "prefill" and capacity is not None:
        selector = f"namespace={namespace},producer_name={quoted(PRODUCER)},endpoint_name=~{quoted(pods)}"
        gauge = of_one_copy(f"{GAUGE}{{{selector}}}", options.dedup_label)
        query = f"sum({gauge}) / {model.plain_number(capacity.value)}"
        return _prometheus(OF_THE_GUIDE[0], query, queue_budget_s(policy, options), access)
    if role == "decode" and usage:
        picked = f"vllm:kv_cache_usage_perc{{namespace={namespace},pod=~{quoted(pods)}}}"
        query = f"sum({of_one_copy(picked, options.dedup_label)})"
        return _prometheus(OF_THE_GUIDE[1], query, usage, access)
    return None


def gauge_labels(policy: Policy, options: ExportOptions) -> dict[str, str]:
    """Return the labels of a series that the prefill pool's query picks, its name among them."""
    return {
        "__name__": GAUGE,
        "namespace": kubernetes.namespace(policy, options),
        "producer_name": PRODUCER,
        "endpoint_name": _pods("prefill", options).replace(".*", "0"),
    }


def as_the_guide(text: str) -> str:
    """Return token-aware objects with the guide's own reading of a missing metric: an idle pool.

    A pool that keeps the policy's own signal stays as it is.
    """
    bodies = model.load_documents(text)
    for trigger in (one for body in bodies for one in body["spec"]["triggers"]):
        if trigger["name"] in OF_THE_GUIDE:
            trigger["metadata"]["query"] += EMPTY
    return model.dump_documents(bodies)


def _pods(role: str, options: ExportOptions) -> str:
    """Return which pods are a role's: those of its workload, a blank where that is not known."""
    workload = options.workloads.get(role)
    return f"{workload.name if workload else blanks.pods(role)}-.*"


def _prometheus(name: str, query: str, threshold: float, access: PrometheusAccess) -> dict[str, Any]:
    metadata = {"query": query, "threshold": model.plain_number(threshold), "ignoreNullValues": "false"}
    return keda.prometheus_trigger(name, metadata, access)


def _origin(policy: Policy, options: ExportOptions) -> str:
    """Say where the divisor and the thresholds come from, and that the divisor is not the router's."""
    measured = options.measured
    capacity = measured.prefill_capacity
    numbers = [capacity.value, capacity.low, capacity.high] if capacity else []
    value, low, high = map(model.plain_number, numbers)
    share = f"{model.plain_number(_share(options))} × " if _share(options) < 1.0 else ""
    budget = model.plain_number(queue_budget_s(policy, options))
    slo, tokens = (
        model.plain_number(_ttft_s(policy, options) or 0.0),
        model.plain_number(measured.prompt_tokens or 0.0),
    )
    return (
        f"Divisor {value} ({low} to {high}): cache-missed prompt tokens/s of an instance at the SLO, not the "
        f"router's idle peakPrefillThroughput: do not copy it there. "
        f"Queue {budget} s = {share}(TTFT {slo} s - {tokens} ÷ {value})."
    )


def _losses(policy: Policy, options: ExportOptions, roles: set[str]) -> list[Loss]:
    usage = options.measured.kv_usage_target
    found = [
        Loss("on_missing_metric", "approximated", _MISSING),
        Loss("window_s", "approximated", "Kubernetes decides every 15 s"),
        Loss("reading", "approximated", "both gauges are read as they are, over no range"),
        Loss("guards", "approximated", "the limit on TTFT gives the queue budget; nothing acts on latencies"),
        Loss("pd_ratio", "dropped", "each pool is sized by its own gauge, so no ratio is used"),
        *rules.missing_expressions(policy),
    ]
    texts = {"prefill": _BACKLOG, "decode": _USAGE if usage else _OWN_DECODE}
    for role in sorted(roles):
        item = next(
            (f"primaries[{i}]" for i, one in enumerate(policy.primaries) if one.role == role), "primaries"
        )
        found.append(Loss(item, "approximated", texts[role]))
    return found


_SAID_HERE = ("pd_ratio", "pd_ratio.value", "primaries", "guards", "on_missing_metric")
"""Losses of ScaledObjects that this target says in its own words."""


def lint_llmd(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a token-aware ScaledObject, one sentence a problem."""
    found = keda.lint_scaled_object(manifest)
    for place, trigger in enumerate((manifest.get("spec") or {}).get("triggers") or []):
        query = str((trigger.get("metadata") or {}).get("query", ""))
        where = f"spec.triggers[{place}]: metadata.query"
        if "vector(" in query:
            found.append(f"{where}: vector(0) reads a missing metric as idle and scales in")
        if GAUGE in query and " / " not in query:
            found.append(f"{where}: the backlog is not divided, and its threshold is in seconds")
    return found
