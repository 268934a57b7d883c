"""Series of a small history: prefill and decode pods of one service, a front end, another service."""

from __future__ import annotations

from hs_analysis.current.model import Known, Stored

PODS = {
    "prefill": ("m-large-prefill-0", "m-large-prefill-1"),
    "decode": tuple(f"m-large-decode-{i}" for i in range(3)),
}
OF_BOTH = (
    "vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc",
    "vllm:e2e_request_latency_seconds_sum", "vllm:e2e_request_latency_seconds_count",
)  # fmt: skip
OF_DECODE = ("vllm:generation_tokens_total",)
OF_PREFILL = ("vllm:prompt_tokens_total",)
OF_SERVICE = (
    "dynamo_frontend_requests_started_total", "dynamo_frontend_time_to_first_token_seconds_sum",
    "dynamo_frontend_time_to_first_token_seconds_count", "dynamo_frontend_inter_token_latency_seconds_sum",
    "dynamo_frontend_inter_token_latency_seconds_count", "dynamo_frontend_inter_token_latency_seconds_bucket",
    "dynamo_frontend_time_to_first_token_seconds_bucket",
)  # fmt: skip


def of_pods(metric, role, **labels):
    """Return the series of a metric of one role's pods."""
    shown = {"namespace": "demo", "model_name": "m-large", "job": f"vllm-{role}", **labels}
    return [Stored({"__name__": metric, "pod": pod, **shown}, role, instance=pod) for pod in PODS[role]]


def series():
    """Return all series of the history."""
    found = []
    for metric in OF_BOTH:
        found += of_pods(metric, "prefill") + of_pods(metric, "decode")
    for role, metrics in (("decode", OF_DECODE), ("prefill", OF_PREFILL)):
        for metric in metrics:
            found += of_pods(metric, role)
    for role, pods in PODS.items():
        for pod in pods:
            labels = {
                "__name__": "DCGM_FI_DEV_GPU_UTIL",
                "exported_pod": pod,
                "exported_namespace": "demo",
                "pod": "dcgm",
            }
            found += [Stored({**labels, "gpu": gpu}, role, instance=pod) for gpu in ("0", "1")]
            labels = {"__name__": "kube_pod_labels", "pod": pod, "namespace": "demo", "label_role": role}
            found.append(Stored(labels, "unknown", ours=False))
    for metric in OF_SERVICE:
        labels = {"__name__": metric, "model": "m-large", "namespace": "demo"}
        edges = ("0.1", "1", "+Inf") if metric.endswith("_bucket") else ("",)
        found += [Stored({**labels, **({"le": edge} if edge else {})}, "frontend") for edge in edges]
    for metric in ("vllm:num_requests_waiting", "vllm:generation_tokens_total"):
        labels = {"__name__": metric, "pod": "m-small-0", "namespace": "demo", "model_name": "m-small"}
        found.append(Stored(labels, "mixed", ours=False, instance="m-small-0"))
    return tuple(found)


READABLE = {
    ("decode_tps", "decode"): "sum",
    ("prefill_tps", "prefill"): "sum",
    ("queue_length", "prefill"): "sum",
    ("queue_length", "decode"): "sum",
    ("running", "decode"): "sum",
    ("kv_usage", "decode"): "mean",
    ("gpu_util", "decode"): "mean",
    ("request_rate", "service"): "sum",
    ("ttft", "service"): "ratio",
    ("tbt", "service"): "ratio",
}


def known(**changes):
    """Return what is known of the service."""
    return Known(**{"pools": ("prefill", "decode"), "readable": READABLE, "series": series(), **changes})
