"""Configuration of Dynamo's planner: advisory, by the KV thresholds of a policy or by the SLO.

The planner decides by numbers of its own. Where the policy follows the KV usage of decode, its target and
band become the planner's thresholds. Elsewhere the file asks for the SLO (``optimization_target: sla``), and
the planner finds by its own model of an engine how many are needed: no target of a policy can be said.

The checks are those of ``PlannerConfig`` of ai-dynamo 1.6.1, which 1.7 keeps. Keys that it does not know it
takes in silence, so that a misspelt ``advisory`` would scale: here they are errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from hs_analysis.export import kubernetes, model, rules, shape, translated
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.export.shape import Check
from hs_analysis.policy.model import Hysteresis, Policy, Primary

TITLE = "Configuration of Dynamo's planner (checked against ai-dynamo 1.6.1)"
DYNAMO_SUFFIX = "planner.yaml"
CONTROLLER: Final = "dynamo"

MODES = {("prefill", "decode"): "disagg", ("prefill",): "prefill", ("decode",): "decode", ("mixed",): "agg"}
"""Pools that are scaled → the planner's mode."""

GOALS = {"ttft": "ttft_ms", "tbt": "itl_ms"}
"""Latency of a guard → the planner's goal for it [ms]."""

NEEDED = {"disagg": ("ttft", "tbt"), "prefill": ("ttft",), "decode": ("tbt",), "agg": ("ttft", "tbt")}
"""Mode → the goals without which ``sla`` would take the planner's own, which are no SLO of the service."""

BACKENDS = ("vllm", "sglang", "trtllm")
"""Engines that the planner and the catalogue of signals name alike."""

NO_BUDGET = -1
"""``max_gpu_budget`` without a limit: left out it would be 8 GPUs, and a larger fleet would shrink."""

TOLERANCE = 0.1
"""Distance of the thresholds from the target where the policy has no band: Kubernetes' own [ratio]."""

_OWN_MODEL = (
    "engines are sized by the planner's own model of them, learnt from what runs: no target, query, band or "
    "ratio of the policy is said"
)
_NOT_HELD = (
    "nothing holds a shrinking pool: the planner sizes it for the mean of 180 s, and one minute that reads "
    "as zero, as after a restart of counters, is a third of it"
)
_NO_REST = "nothing rests beyond the planner's own interval"
_ONE_WORKER = "load mode adds or removes one worker at a time, and acts again only when it runs"
_BUDGET = "one GPU budget for both pools: each may grow into what the other leaves"
_NO_MOST = "no upper bound: how many GPUs an instance has is not known, so that there is no budget"
_EIGHT = "at most 8 replicas of a pool in a decision"


def export_dynamo(policy: Policy, options: ExportOptions) -> Export:
    """Return the planner's configuration and the recording rules of a policy, with what they do not say.

    Nothing is written in mode hold or periodic, for pools that no mode of the planner scales, and where it
    would have to run on the planner's own latency goals for want of an SLO.
    """
    roles = tuple(role for role in policy.sized_roles if role in policy.bounds)
    mode, why = MODES.get(roles), translated.refusal(policy, "the planner")
    if not why and mode is None:
        why = "no pool with a signal, a target and bounds is one that the planner scales"
    if why or mode is None:
        return translated.refused(policy, options, CONTROLLER, why)
    followed = _by_usage(policy, mode)
    limits = options.measured.limits_s(policy)
    goals = {signal: limit for signal, limit in limits.items() if signal in GOALS}
    if followed is None and (missing := [name for name in NEEDED[mode] if name not in goals]):
        names = " and ".join(name.upper() for name in missing)
        why = f"the SLO on {names} is not known, and the planner would take goals of its own; give --slo"
        return translated.refused(policy, options, CONTROLLER, why)
    body = {"mode": mode, **_backend(policy)}
    body |= _load_keys(policy, followed) if followed else _sla_keys(goals, mode)
    body |= _floors(policy, roles, mode) | _budget(policy, roles, mode, options)
    # The user turns it off after having watched what it advises.
    body["advisory"] = True
    found = model.concerning(_losses(policy, roles, body), policy, options.costs)
    head = model.header(policy, options, TITLE, found, [*_origin(followed), _check_line(body)])
    files = dict(rules.export_rules(policy, options).files)
    files[f"{model.file_stem(policy.service)}.{DYNAMO_SUFFIX}"] = head + model.dump_documents([body])
    return Export(CONTROLLER, files, found)


def _by_usage(policy: Policy, mode: str) -> Primary | None:
    """Return the primary whose target is a threshold of the planner: KV usage, where one pool is scaled.

    None where the pool has no signal of its own, or several.
    """
    own = [one for one in policy.primaries if one.role in ("decode", "mixed")]
    if mode not in ("decode", "agg") or len(own) != 1:
        return None
    (primary,) = own
    return primary if primary.signal == "kv_usage" and primary.target_per_instance.value else None


def _load_keys(policy: Policy, primary: Primary) -> dict[str, Any]:
    """Return the thresholds of KV usage [percent]: the target at both ends of the pool's band."""
    target = 100.0 * (primary.target_per_instance.value or 0.0)
    band = policy.hysteresis.get(primary.role) or Hysteresis(1.0 + TOLERANCE, 1.0 - TOLERANCE)
    return {
        "optimization_target": "load",
        "decode_scale_up_kv_rate": _digits(min(100.0, target * band.scale_out_ratio)),
        "decode_scale_down_kv_rate": _digits(min(99.0, target * band.scale_in_ratio)),
    }


def _sla_keys(goals: Mapping[str, float], mode: str) -> dict[str, Any]:
    """Return the goals [ms] and what decides by them: the last interval's load, without a profile."""
    return {
        "optimization_target": "sla",
        **{GOALS[name]: _digits(1000.0 * goals[name]) for name in NEEDED[mode]},
        "enable_throughput_scaling": True,
        "enable_load_scaling": False,
        # Its own interval of 180 s is left: 300 s broke the SLO under faults less in 10 of 18 simulated
        # histories and more in 8, and under bursts more in 14.
        # Growth follows the newest reading in a policy too; the planner's own ARIMA would foresee.
        "load_predictor": "constant",
        "pre_deployment_sweeping_mode": "none",
    }


def _digits(value: float) -> float:
    return float(model.plain_number(value))


def _backend(policy: Policy) -> dict[str, Any]:
    """Return the engine where the signals name one: the planner would take vLLM for any."""
    sources = {primary.source for primary in policy.primaries if primary.source in BACKENDS}
    return {"backend": sources.pop()} if len(sources) == 1 else {}


def _floors(policy: Policy, roles: Sequence[str], mode: str) -> dict[str, Any]:
    """Return the least counts; the planner takes no 0 for a role."""
    if mode == "agg":
        return {"min_endpoint": max(1, policy.bounds[roles[0]].min)}
    return {f"{role}_min_endpoint": max(1, policy.bounds[role].min) for role in roles}


def _budget(policy: Policy, roles: Sequence[str], mode: str, options: ExportOptions) -> dict[str, Any]:
    """Return the GPUs that the pools may hold together, and those of an instance; none where not known."""
    each = options.measured.gpus_per_instance
    if any(role not in each or each[role] != round(each[role]) for role in roles):
        return {"max_gpu_budget": NO_BUDGET}
    most = sum(round(each[role]) * policy.bounds[role].max for role in roles)
    if policy.gpus is not None:
        most = min(most, policy.gpus.limit)
    keyed = {role: "decode" if mode == "agg" else role for role in roles}
    return {"max_gpu_budget": most} | {f"{keyed[role]}_engine_num_gpu": round(each[role]) for role in roles}


def _origin(followed: Primary | None) -> list[str]:
    if followed is None:
        return [f"Sized for the SLO: {_OWN_MODEL}."]
    given = followed.target_per_instance
    value = model.plain_number(100.0 * (given.value or 0.0))
    return [f"{followed.role}: {value} % of the KV cache at both ends of the band ({given.evidence})"]


def _check_line(body: Mapping[str, Any]) -> str:
    names = ["Prometheus of the planner (PROMETHEUS_ENDPOINT)", "GPUs of an engine"]
    names += [] if "backend" in body else ["backend (vllm unless said)"]
    return (
        f"Check: {', '.join(names)}. advisory logs what it would do; set it to false to let it act: "
        "python -m dynamo.planner --config FILE"
    )


def _losses(policy: Policy, roles: Sequence[str], body: Mapping[str, Any]) -> list[Loss]:
    own = body["optimization_target"] == "sla"
    follows: Literal["dropped", "approximated"] = "dropped" if own else "approximated"
    found = translated.replaced(
        kubernetes.known_losses(policy, CONTROLLER), "guards", "*.source", *_SAID_HERE
    )
    held = Loss("cooldown", "approximated" if own else "dropped", _NOT_HELD if own else _NO_REST)
    found = [held, *found]
    found += [
        Loss("primaries", "approximated", _OWN_MODEL if own else "thresholds of the planner's own reading"),
        Loss("pd_ratio", "dropped", "nothing ties the two pools but the GPU budget"),
        Loss("reading", "dropped", "the planner reads by intervals of its own"),
        Loss("hysteresis", follows, _OWN_MODEL if own else "both ends of the band are the thresholds"),
        Loss("step", "dropped", _EIGHT if own else _ONE_WORKER),
        Loss("guards", "approximated", "their limits are the planner's goals; tiers are not said" if own else
             "load mode looks at no latency"),
        Loss("unit", "dropped", "the planner counts engines"),
        Loss("*.source", "approximated", "backend is the engine where a signal comes from one"),
        Loss("periodic", "dropped", "the planner keeps no timetable"),
        Loss("on_missing_metric", "approximated", "the planner keeps its last decision"),
        Loss("window_s", "approximated", f"the planner decides every {180 if own else 5} s"),
        Loss("controller", "approximated", f"selected and replayed for {policy.controller}"),
        *rules.missing_expressions(policy),
    ]  # fmt: skip
    for role in roles:
        text = _NO_MOST if body["max_gpu_budget"] == NO_BUDGET else _BUDGET
        found.append(Loss(f"bounds.{role}.max", "approximated", text))
        if policy.bounds[role].min < 1:
            found.append(Loss(f"bounds.{role}.min", "approximated", f"{role} keeps 1"))
    return found + kubernetes.unsized(policy, set(roles))


_SAID_HERE = ("controller", "reading", "cooldown", "step", "step.dampening")
"""Losses of every object that this target says in its own words, or whose part of a larger item they are."""

_MS = shape.between(0.001, math.inf)
_ENDPOINTS = shape.whole(1)
_REQUIRED: Mapping[str, Check] = {
    "mode": shape.choice(*MODES.values()),
    "optimization_target": shape.choice("load", "sla"),
    "max_gpu_budget": shape.whole(NO_BUDGET),
    "advisory": shape.choice(True, False),
}
_OPTIONAL: Mapping[str, Check] = {
    "environment": shape.choice("kubernetes", "virtual", "global-planner"),
    "backend": shape.choice(*BACKENDS, "mocker"),
    "namespace": shape.text,
    "model_name": shape.text,
    "decode_scale_up_kv_rate": shape.between(0.0, 100.0),
    "decode_scale_down_kv_rate": shape.between(0.0, 100.0),
    "prefill_scale_up_queue_tokens": shape.whole(0),
    "prefill_scale_down_queue_tokens": shape.whole(0),
    "ttft_ms": _MS,
    "itl_ms": _MS,
    "enable_throughput_scaling": shape.choice(True, False),
    "enable_load_scaling": shape.choice(True, False),
    "load_predictor": shape.choice("constant", "arima", "prophet", "kalman"),
    "pre_deployment_sweeping_mode": shape.choice("none", "rapid", "thorough"),
    "throughput_adjustment_interval_seconds": shape.whole(1),
    "load_adjustment_interval_seconds": shape.whole(1),
    "max_throughput_scaling_replicas": shape.whole(1),
    "min_endpoint": shape.whole(0),
    "prefill_min_endpoint": _ENDPOINTS,
    "decode_min_endpoint": _ENDPOINTS,
    "prefill_engine_num_gpu": _ENDPOINTS,
    "decode_engine_num_gpu": _ENDPOINTS,
    "metric_pulling_prometheus_endpoint": shape.text,
}
_KNOWN = shape.keys(_REQUIRED, _OPTIONAL)

_OTHER_ROLE = {"prefill": ("decode",), "decode": ("prefill",), "agg": ("prefill", "decode"), "disagg": ()}
"""Mode → roles whose own least count the planner refuses."""


def lint_planner(config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a planner's configuration, one sentence a problem; empty when nothing is."""
    found = _KNOWN(config, "planner")
    if found:
        return found
    mode, load = config["mode"], config["optimization_target"] == "load"
    if load and mode != "prefill":
        found += _rates(config, "decode_scale_up_kv_rate", "decode_scale_down_kv_rate")
    if load and mode in ("disagg", "prefill"):
        found += _rates(config, "prefill_scale_up_queue_tokens", "prefill_scale_down_queue_tokens")
    if not load:
        needed = [GOALS[name] for name in NEEDED[mode] if GOALS[name] not in config]
        found += [f"planner.{key} is missing, and its own goal is no SLO of yours" for key in needed]
        if not (config.get("enable_throughput_scaling", True) or config.get("enable_load_scaling", False)):
            found.append("neither throughput nor load scaling is on")
    for role in _OTHER_ROLE[mode]:
        if f"{role}_min_endpoint" in config:
            found.append(f"planner.{role}_min_endpoint is refused in mode {mode}")
    return found


_DEFAULTS = {"mode": "disagg", "optimization_target": "sla", "max_gpu_budget": 8, "advisory": False}
"""What the planner takes where a file does not say; by throughput and latency it asks for no goals either."""


def planner_faults(config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a configuration of a user's: it may say less, and more than is known here.

    Keys that are not known are told where they look like a known one: the planner takes them in silence.
    """
    known = [*_REQUIRED, *_OPTIONAL]
    odd = [shape.unknown(f"planner.{key}", key, known) for key in config if key not in known]
    given = {key: value for key, value in config.items() if key in known}
    if given.get("optimization_target") in ("throughput", "latency"):
        del given["optimization_target"]
    found = [said for said in odd if "did you mean" in said]
    return found + [said for said in lint_planner({**_DEFAULTS, **given}) if " is missing" not in said]


def _rates(config: Mapping[str, Any], up: str, down: str) -> list[str]:
    if up not in config or down not in config:
        return [f"planner.{up} and {down} are needed by optimization_target load"]
    if config[up] <= config[down]:
        return [f"planner.{up} {config[up]} is not above {down} {config[down]}"]
    return []
