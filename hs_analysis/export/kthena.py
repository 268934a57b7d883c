"""Kthena's AutoscalingPolicy: both roles of a ModelServing in one object, with prefill ÷ decode in a band.

The checks are those of the CRD and of the webhook of Kthena 1.0.0 (workload.serving.volcano.sh/v1alpha1), and
one more: the webhook takes a band that no pair of whole counts lies in, and the controller then clamps to the
bounds and says nothing. Nor does it look for a pair: it raises the role that falls short, so that the counts
leave a narrow band at its other end, and at the next decision it may raise the other role. What is written is
therefore as wide as whole counts need it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import RatePolicy, Rules
from hs_analysis.controllers.kthena import Kthena, RatioConstraint
from hs_analysis.export import kubernetes, model, queries, rules, shape, translated
from hs_analysis.export.kubernetes import PoolSizing
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import Policy
from hs_analysis.schema.number_text import percent

TITLE = "Kthena AutoscalingPolicy workload.serving.volcano.sh/v1alpha1 (checked against Kthena 1.0.0)"
KIND = ("workload.serving.volcano.sh/v1alpha1", "AutoscalingPolicy")
PARENT = "ModelServing"
KTHENA_SUFFIX = "autoscalingpolicy.yaml"
CONTROLLER: Final = "kthena"
MAX_WINDOW_S = 1800
"""Longest period and stabilisation window that the webhook takes [s]."""
MAX_REPLICAS = 1_000_000
"""Largest count in the CRD [instances]."""

PANIC_OFF = {"percent": 0, "period": "0s", "panicThresholdPercent": 200, "panicModeHold": "0s"}
"""A hold of 0 s never panics: no policy asks for it, and left out it would be the CRD's 60 s."""

BAND_SLACK = 1e-9
"""Slack of a ratio's bounds [ratio]: 0.1 × 30 must stay 3 in floating point."""

_ONE_BEHAVIOR = "one behavior and one tolerance for both roles: {chosen}"
_MISSING = "without the metric of one role Kthena decides for none of them: both counts hold"
_PER_ROLE = "a replica of a role is one instance: its entry pod with its workers"
_NO_PAIR = "no whole counts within the bounds lie between {low} and {high}"
_TOO_NARROW = (
    "at some counts within the bounds no whole counts lie in the interval; Kthena would leave it there, and "
    "where nothing may shrink grow both roles until some do"
)
_UNKNOWN = "the run has no interval of the P/D ratio"
_ONE_POOL = "one role only is scaled"


def export_kthena(policy: Policy, options: ExportOptions) -> Export:
    """Return the AutoscalingPolicy of a policy and the recording rules, with what they do not say.

    ``ratioConstraint`` is the interval of the policy's P/D ratio, else the run's; without one, or where no
    whole counts lie in it, it is left out and a loss says so. No object is written in mode hold or periodic.
    """
    bounded, _, losses, why = translated.bounded_pools(policy, "Kthena")
    if why:
        return translated.refused(policy, options, CONTROLLER, why)
    interval = _interval(policy, options)
    band, why = _band(policy, interval, bounded)
    scaler = parameters(policy, bounded, band)
    high = float(model.plain_number(interval[1])) if interval else None
    losses = [*_known(policy, bounded, scaler), *_ratio_losses(losses, band, why, high)]
    losses += kubernetes.unsized(policy, set(scaler.pools))
    found = model.concerning(losses, policy, options.costs)
    names = " and ".join(scaler.pools)
    body = _document(policy, bounded, scaler, options)
    server = body["spec"]["disaggregatedTarget"]["targetRef"]["name"]
    head = model.header(
        policy, options, TITLE, found,
        [
            "; ".join(pool.origin for pool in bounded),
            f"Check before applying: namespace, serverURL, ModelServing {server}, its roles {names}.",
        ],
    )  # fmt: skip
    files = dict(rules.export_rules(policy, options).files)
    files[f"{model.file_stem(policy.service)}.{KTHENA_SUFFIX}"] = head + model.dump_documents([body])
    return Export(CONTROLLER, files, found)


def parameters(policy: Policy, pools: Sequence[PoolSizing], band: tuple[float, float] | None) -> Autoscaler:
    """Return the controller that the object sets up: what is written is these parameters.

    Kthena has one tolerance and one set of limits for all roles: the smallest band, the fastest growth and
    the slowest removal of the policy's pools.
    """
    tolerance = min(math.floor(100 * min(pool.hpa.tolerances) + 1e-6) for pool in pools) / 100.0
    up, down = _up([pool.hpa.up for pool in pools]), _down([pool.hpa.down for pool in pools])
    roles = {}
    for pool in pools:
        asked = replace(pool.hpa.metrics[0], target=pool.threshold, kind="AverageValue")
        least, most = _bounds(policy, pool.role, pools)
        roles[pool.role] = Kthena((asked,), least, most, tolerance, up, down, None, 0, 0.0, 0.0)
    together = RatioConstraint(*band, *_pair_bounds(policy, pools)) if band else None
    return Autoscaler(CONTROLLER, roles, together)


def _bounds(policy: Policy, role: str, pools: Sequence[PoolSizing]) -> tuple[int, int]:
    """Return least and most instances; 0 only where every role may go to 0, as the webhook asks."""
    bounds = policy.bounds[role]
    all_to_zero = all(policy.bounds[pool.role].min == 0 for pool in pools)
    return (bounds.min if all_to_zero else max(1, bounds.min)), max(1, bounds.max)


def _pair_bounds(policy: Policy, pools: Sequence[PoolSizing]) -> tuple[tuple[int, int], tuple[int, int]]:
    prefill, decode = (_bounds(policy, role, pools) for role in ("prefill", "decode"))
    return prefill, decode


def _up(each: Sequence[Rules]) -> Rules:
    """Return the fastest of the roles' rules, each with at least one instance as percents round down."""
    policies = min((_floored(one.policies) for one in each), key=lambda found: found[0].period_s)
    return Rules(min(_capped(one.stabilization_s) for one in each), policies)


def _down(each: Sequence[Rules]) -> Rules:
    """Return the slowest of the roles' rules; off where one of them is."""
    policies = max((_floored(one.policies) for one in each), key=lambda found: found[0].period_s)
    select = "Disabled" if any(one.select == "Disabled" for one in each) else "Max"
    return Rules(max(_capped(one.stabilization_s) for one in each), policies, select)  # type: ignore[arg-type]


def _capped(seconds: float) -> float:
    return float(min(math.ceil(seconds), MAX_WINDOW_S))


def _floored(policies: tuple[RatePolicy, ...]) -> tuple[RatePolicy, ...]:
    """Return rate policies with one of instances: 25 % of three is none, and the pool would never grow."""
    if any(one.kind == "Pods" for one in policies):
        return policies
    return (*policies, RatePolicy("Pods", 1, policies[0].period_s))


def _interval(policy: Policy, options: ExportOptions) -> tuple[float, float] | None:
    """Return the interval of prefill ÷ decode: the policy's where it keeps a ratio, else the run's."""
    ratio = policy.pd_ratio
    if ratio is None or not ratio.value:
        return options.measured.ratio_band
    return (ratio.low, ratio.high) if ratio.low is not None and ratio.high is not None else None


def _band(
    policy: Policy, interval: tuple[float, float] | None, pools: Sequence[PoolSizing]
) -> tuple[tuple[float, float] | None, str]:
    """Return the band of prefill ÷ decode as the object can hold it, or why there is none."""
    if {pool.role for pool in pools} != {"prefill", "decode"}:
        return None, _ONE_POOL
    if interval is None:
        return None, _UNKNOWN
    low, high = (float(model.plain_number(end)) for end in interval)
    high = keepable_high(low, high, *_pair_bounds(policy, pools))
    if not has_whole_pair(low, high, *_pair_bounds(policy, pools)):
        return None, _NO_PAIR.format(low=model.plain_number(low), high=model.plain_number(high))
    return (low, high), ""


def has_whole_pair(low: float, high: float, numerator: tuple[int, int], denominator: tuple[int, int]) -> bool:
    """Whether whole counts within their bounds (least, most) have a quotient from ``low`` to ``high``."""
    for count in range(max(1, denominator[0]), denominator[1] + 1):
        least = max(numerator[0], 1, math.ceil(low * count - BAND_SLACK))
        if least <= min(numerator[1], math.floor(high * count + BAND_SLACK)):
            return True
    return False


def keepable_high(low: float, high: float, numerator: tuple[int, int], denominator: tuple[int, int]) -> float:
    """Return the end of a band in which counts stay that the controller raised into it.

    It is the given end where each count of the denominator within its bounds (least, most), or the next one,
    has a whole count beside it in the band. Else it is the least end with which that is so: with a narrower
    one the counts stay outside, and both roles grow, one after the other, to the next pair there is, as long
    as nothing may shrink.
    """

    def needed(count: int) -> float | None:
        beside = math.ceil(low * count - BAND_SLACK)
        return beside / count if numerator[0] <= beside <= numerator[1] else None

    each = [needed(count) for count in range(max(1, denominator[0]), denominator[1] + 1)]
    nearer = (min(one, two) for one, two in itertools.pairwise(each) if one is not None and two is not None)
    found = max(nearer, default=high)
    if found <= high:
        return high
    # Six digits are written: rounded up, the pair itself is still in the band.
    scale = 10.0 ** (5 - math.floor(math.log10(found)))
    return math.ceil(found * scale - BAND_SLACK) / scale


def _document(
    policy: Policy, pools: Sequence[PoolSizing], scaler: Autoscaler, options: ExportOptions
) -> dict[str, Any]:
    first = next(iter(scaler.pools.values()))
    target: dict[str, Any] = {"targetRef": {"kind": PARENT, "name": options.serving_name(PARENT)}}
    if scaler.together:
        target["ratioConstraint"] = {
            "numeratorRole": "prefill",
            "denominatorRole": "decode",
            "minRatio": model.plain_number(scaler.together.low),
            "maxRatio": model.plain_number(scaler.together.high),
        }
    target["roles"] = {pool.role: _role(pool, scaler.pools[pool.role], options) for pool in pools}
    spec = {
        "tolerancePercent": round(100 * first.tolerance),
        "disaggregatedTarget": target,
        "behavior": {
            "scaleUp": {"stablePolicy": _limits(first.up), "panicPolicy": dict(PANIC_OFF)},
            "scaleDown": _limits(first.down),
        },
    }
    body = kubernetes.manifest(policy, "pd", options, KIND, spec)
    body["metadata"]["name"] = model.model_name(policy.service)
    return body


def _role(pool: PoolSizing, scaler: Kthena, options: ExportOptions) -> dict[str, Any]:
    name = pool.primary.signal
    source = {"serverURL": options.access(pool.role).server_address, "query": pool.query}
    return {
        "minReplicas": scaler.min_replicas,
        "maxReplicas": scaler.max_replicas,
        "metrics": [{"name": name, "targetValue": model.plain_number(scaler.metrics[0].target)}],
        "metricSources": {name: {"prometheus": source}},
    }


def _limits(written: Rules) -> dict[str, Any]:
    """Return a direction: instances and percent both, as one left out would be the CRD's own and wider."""
    off = written.select == "Disabled"
    given = {one.kind: 0 if off else one.value for one in written.policies}
    period_s = max(one.period_s for one in written.policies)
    return {
        "instances": given.get("Pods", 0),
        "percent": given.get("Percent", 0),
        "period": queries.duration(period_s),
        "selectPolicy": "Or",
        "stabilizationWindow": queries.duration(written.stabilization_s),
    }


def _known(policy: Policy, pools: Sequence[PoolSizing], scaler: Autoscaler) -> list[Loss]:
    """Return the losses that do not depend on the ratio."""
    found = translated.replaced(
        kubernetes.known_losses(policy, CONTROLLER), "pd_ratio.low", "pd_ratio.high", "pd_ratio.max_deviation"
    )
    found += [
        Loss(
            "pd_ratio.max_deviation",
            "dropped",
            "ratioConstraint is the interval, not a distance from the value",
        ),
        Loss("pd_ratio.status", "dropped", "a status, not a setting"),
        Loss("pd_ratio.evidence", "dropped", "objects hold no links"),
        Loss("periodic", "dropped", "Kthena keeps no timetable"),
        Loss("on_missing_metric", "approximated", _MISSING),
        Loss("unit", "approximated", _PER_ROLE),
        Loss("window_s", "approximated", "Kthena decides every 15 s"),
        *rules.missing_expressions(policy),
    ]
    first = next(iter(scaler.pools.values()))
    chosen = (
        f"the smaller band ({percent(first.tolerance, exact=True)}), the faster growth, the slower removal"
    )
    for table in ("hysteresis", "cooldown"):
        if len(pools) > 1 and len({_numbers(one) for one in getattr(policy, table).values()}) > 1:
            found.append(Loss(table, "approximated", _ONE_BEHAVIOR.format(chosen=chosen)))
    for pool in pools:
        held = scaler.pools[pool.role]
        if held.min_replicas != policy.bounds[pool.role].min:
            text = f"{pool.role} keeps 1: both roles go to 0 or none does"
            found.append(Loss(f"bounds.{pool.role}.min", "approximated", text))
        found += kubernetes.behavior_losses(policy, replace(pool, scaler=held.scaler))
    return found


def _numbers(entry: Any) -> tuple[Any, ...]:
    """Return what an entry of a table per role sets, without its link."""
    return tuple(value for key, value in vars(entry).items() if key != "evidence")


def _ratio_losses(
    given: Sequence[Loss], band: tuple[float, float] | None, why: str, given_high: float | None
) -> list[Loss]:
    """Return the losses of the ratio: the HPA's where no band is kept, else what Kthena does with it.

    ``given_high`` is the upper end of the interval as it is known; None without one.
    """
    rest = translated.replaced(given, "pd_ratio", "pd_ratio.value", "primaries")
    if band is None:
        text = f"no ratioConstraint: {why}; nothing ties the counts of the roles"
        kept = [loss for loss in given if loss not in rest]
        return [*rest, *kept, Loss("pd_ratio", "dropped", text), Loss("primaries", "approximated", text)]
    low, high = map(model.plain_number, band)
    text = (
        f"each role is sized by the signal, then prefill ÷ decode is kept within {low} to {high}: the role "
        "that falls short grows, past the limits of a step where it must"
    )
    found = [*rest, Loss("pd_ratio.value", "approximated", text), Loss("primaries", "approximated", text)]
    if given_high is not None and band[1] > given_high:
        text = f"maxRatio is {high} instead of {model.plain_number(given_high)}: {_TOO_NARROW}"
        found += [Loss("pd_ratio.high", "approximated", text), Loss("primaries", "approximated", text)]
    return found


_DIRECTION = shape.keys(
    {
        # Required here: the defaults of the CRD widen a limit of which only one is given.
        "instances": shape.whole(0),
        "percent": shape.whole(0, 1000),
        "period": shape.duration(MAX_WINDOW_S),
        "stabilizationWindow": shape.duration(MAX_WINDOW_S),
    },
    {"selectPolicy": shape.choice("Or", "And")},
)
_PANIC = shape.keys(
    {"period": shape.duration(MAX_WINDOW_S), "panicModeHold": shape.duration(MAX_WINDOW_S)},
    {"percent": shape.whole(0, 1000), "panicThresholdPercent": shape.whole(110, 1000)},
)
_ROLE = shape.keys(
    {"minReplicas": shape.whole(0, MAX_REPLICAS), "maxReplicas": shape.whole(1, MAX_REPLICAS)},
    {
        "metrics": shape.listed(shape.keys({"name": shape.text, "targetValue": shape.quantity})),
        "metricSources": shape.named(
            shape.keys({"prometheus": shape.keys({"serverURL": shape.text, "query": shape.text})})
        ),
    },
)
_RATIO = shape.keys(
    {
        "numeratorRole": shape.text,
        "denominatorRole": shape.text,
        "minRatio": shape.text,
        "maxRatio": shape.quantity,
    }
)
_SPEC = shape.keys(
    {
        "tolerancePercent": shape.whole(0, 100),
        "disaggregatedTarget": shape.keys(
            {
                "targetRef": shape.keys({"kind": shape.choice(PARENT), "name": shape.text}),
                "roles": shape.named(_ROLE, 1, 2),
            },
            {"ratioConstraint": _RATIO},
        ),
        "behavior": shape.keys(
            {
                "scaleUp": shape.keys({"stablePolicy": _DIRECTION, "panicPolicy": _PANIC}),
                "scaleDown": _DIRECTION,
            }
        ),
    }
)


def lint_kthena(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an AutoscalingPolicy of a disaggregated target, one sentence a problem."""
    found = kubernetes.identity_problems(manifest, KIND)
    found += _SPEC(manifest.get("spec"), "spec")
    if found:
        return found
    target = manifest["spec"]["disaggregatedTarget"]
    for role, body in target["roles"].items():
        found += [f"roles.{role}: {text}" for text in _role_problems(body)]
    return found + _ratio_problems(target)


def _role_problems(role: Mapping[str, Any]) -> list[str]:
    found = []
    least, most = role["minReplicas"], role["maxReplicas"]
    if least > most:
        found.append(f"minReplicas: replica counts {least} to {most} are not min ≤ max")
    names = [metric["name"] for metric in role.get("metrics", [])]
    if least != most and not names:
        found.append("metrics is missing")
    if len(set(names)) < len(names):
        found.append("a metric is named twice")
    if set(role.get("metricSources", {})) != set(names):
        found.append("the keys of metricSources are not the names of metrics")
    sources = role.get("metricSources", {}).values()
    if not all(queries.is_sum(source["prometheus"]["query"]) for source in sources):
        found.append("a query is not a sum, so a target per instance of it means nothing")
    return found


def _ratio_problems(target: Mapping[str, Any]) -> list[str]:
    ratio, roles = target.get("ratioConstraint"), target["roles"]
    if ratio is None:
        return []
    pair = [roles.get(ratio[key]) for key in ("numeratorRole", "denominatorRole")]
    if None in pair or ratio["numeratorRole"] == ratio["denominatorRole"]:
        return ["ratioConstraint does not name two of the roles"]
    counts = [(role["minReplicas"], role["maxReplicas"]) for role in pair if role is not None]
    if (counts[0][0] == 0) != (counts[1][0] == 0):
        return ["one role of ratioConstraint may go to 0 and the other may not"]
    low, high = kubernetes.number(ratio["minRatio"]), kubernetes.number(ratio["maxRatio"])
    if not 0 <= low <= high < math.inf:
        return [f"minRatio {ratio['minRatio']!r} to maxRatio {ratio['maxRatio']!r} is no range from 0 up"]
    if not has_whole_pair(low, high, *counts):
        return [_NO_PAIR.format(low=ratio["minRatio"], high=ratio["maxRatio"])]
    return []
