"""AIBrix PodAutoscalers: one a role of a StormService, on the pool total of its signal as external metric.

The strategy is KPA: it divides what it reads by the target, and a pool total read once is what it needs. APA
multiplies the count by what it reads, so that a total would grow the pool without end. The checks are those
of the CRD autoscaling.aibrix.ai/v1alpha1 and of the controller's own validation as of 0.7 (August 2026); 0.8
keeps the object and asks for ``spec.mode: Pooled`` in the StormService.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hs_analysis.controllers.aibrix import Kpa
from hs_analysis.controllers.hpa import SCALE_UP
from hs_analysis.export import hpa, kubernetes, model, queries, rules, shape, translated
from hs_analysis.export.hpa import ADAPTER_SUFFIX, ADAPTER_TITLE
from hs_analysis.export.kubernetes import PoolSizing
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import PeriodicEntry, Policy
from hs_analysis.policy.timetable import DAYS, planned_roles, weekly_plan
from hs_analysis.schema.clock import DAY_MINUTES, UTC_NAME

TITLE = "AIBrix PodAutoscaler autoscaling.aibrix.ai/v1alpha1 (checked against 0.7, for 0.7 and 0.8)"
KIND = ("autoscaling.aibrix.ai/v1alpha1", "PodAutoscaler")
STORM_SERVICE = ("orchestration.aibrix.ai/v1alpha1", "StormService")
AIBRIX_SUFFIX = "podautoscalers.yaml"
CONTROLLER: Final = "aibrix"

ANNOTATION = "autoscaling.aibrix.ai/"
KNOWN_ANNOTATIONS = frozenset(
    ANNOTATION + name
    for name in (
        "max-scale-up-rate",
        "max-scale-down-rate",
        "scale-up-tolerance",
        "scale-down-tolerance",
        "panic-threshold",
        "scale-up-cooldown-window",
        "scale-down-cooldown-window",
        "scale-to-zero",
        "storm-service-mode",
    )
)
"""What the controller reads. It ignores any other, some of the project's own samples among them."""

OBSERVED_S = 30
"""Window of both means [s]: three samples of its cycle of 10 s, as the query has its own mean already."""
LAST_MINUTE = 24 * 60 - 1
"""Latest end of a schedule [minute of the day]."""
NO_LIMIT = 1000.0
"""Rate of scaling in that limits nothing: a thousandth of the pool may remain [ratio]."""
MOST_WINDOW_S = 3600
"""Longest window of the controller [s]."""

_NO_BAND = (
    "KPA compares its tolerances with the pool's total, so that they are off: every change of the rounded "
    "count is followed"
)
_NO_REST = (
    "{role} does not rest between two steps in: it shrinks as soon as the highest reading of {held} s, which "
    "the adapter's query gives, asks for fewer"
)
_OFF = "the scale-in cooldown of {role} is unknown: scale-in is off; give --startup and run again"
_READ = f"the mean of the query's range over {OBSERVED_S} s more"
_PER_CYCLE = "of the pool in every cycle of 10 s"
_DOUBLES = "at most doubled in a cycle of 10 s"
_BETWEEN = "where no entry of the timetable holds, the metric decides within the bounds"
_MIDNIGHT = (
    "an entry that ends at midnight ends at 23:59, the latest that AIBrix takes, and for a minute the metric "
    "decides; a count of 0 is 1"
)
_UNPLANNED = "no object: no signal sizes {role}, and a schedule needs a metric with it"
_UNIT = "a replica of a StormService's role is one instance"
_MODE = "StormService {name} with spec.mode: Pooled (0.8; 0.7 reads the annotation) and replicas 1"


def export_aibrix(policy: Policy, options: ExportOptions) -> Export:
    """Return the PodAutoscalers of a policy, the adapter's rules and the recording rules, with the losses.

    A timetable becomes schedules, whose bounds are its counts; the metric decides where no entry holds. No
    object is written in mode hold.
    """
    bounded, unbounded, losses, why = translated.bounded_pools(policy, "AIBrix", timetable=True)
    if why:
        return translated.refused(policy, options, CONTROLLER, why)
    losses += [loss for pool in unbounded for loss in _unbounded(policy, pool)]
    objects = []
    for pool in bounded:
        scaler = parameters(policy, pool)
        objects.append(_object(policy, pool, scaler, options))
        losses += _pool_losses(policy, pool, scaler)
    losses += kubernetes.unsized(policy, {pool.role for pool in bounded})
    planned = planned_roles(policy.periodic) if policy.mode == "periodic" else ()
    unsized = [role for role in planned if role not in {pool.role for pool in bounded}]
    losses += [Loss("periodic", "approximated", _UNPLANNED.format(role=role)) for role in unsized]
    found = model.concerning([*_known(policy), *losses], policy, options.costs)
    files = dict(rules.export_rules(policy, options).files)
    stem = model.file_stem(policy.service)
    head = model.header(
        policy, options, TITLE, found,
        ["; ".join(pool.origin for pool in bounded), _check_line(stem, objects)],
    )  # fmt: skip
    files[f"{stem}.{AIBRIX_SUFFIX}"] = head + model.dump_documents(objects)
    head = model.header(policy, options, ADAPTER_TITLE)
    files[f"{stem}.{ADAPTER_SUFFIX}"] = head + model.dump_documents([_adapter(policy, bounded)])
    return Export(CONTROLLER, files, found)


def parameters(policy: Policy, pool: PoolSizing) -> Kpa:
    """Return the controller that an object sets up: what is written is these parameters.

    Panic is off: both windows are one, and their quotient never leaves 1.
    """
    down, up = pool.hpa.down, pool.hpa.up
    share = policy.step.max_in_fraction
    rate_in = NO_LIMIT if share is None or share >= 1.0 - 1.0 / NO_LIMIT else 1.0 / (1.0 - share)
    if down.select == "Disabled":
        rate_in = 1.0
    share = policy.step.max_out_fraction
    bounds = policy.bounds[pool.role]
    metric = pool.hpa.metrics[0]
    return Kpa(
        metric.signal,
        pool.threshold,
        stable_window_s=OBSERVED_S,
        panic_window_s=OBSERVED_S,
        max_scale_up_rate=2.0 if share is None else 1.0 + share,
        max_scale_down_rate=rate_in,
        up_tolerance=0.0,
        down_tolerance=0.0,
        up_cooldown_s=up.stabilization_s,
        # Its window holds the lowest count to shrink to; the highest is in what the adapter asks for.
        down_cooldown_s=0.0,
        min_replicas=max(1, bounds.min),
        max_replicas=max(1, bounds.max),
        averaging_s=metric.averaging_s,
        others=metric.others,
        surge=metric.surge,
        highest_s=down.stabilization_s,
    )


def _object(policy: Policy, pool: PoolSizing, scaler: Kpa, options: ExportOptions) -> dict[str, Any]:
    reference = kubernetes.scaled_object(policy, pool.role, options)
    of_storm_service = pool.role not in options.workloads and pool.role != "mixed"
    if of_storm_service:
        api_version, kind = STORM_SERVICE
        reference = {"apiVersion": api_version, "kind": kind, "name": options.serving_name(kind)}
    source = {
        "metricSourceType": "external",
        "targetMetric": metric_name(policy, pool),
        "targetValue": model.plain_number(scaler.target),
    }
    planned = schedules(policy.periodic, pool.role) if policy.mode == "periodic" else []
    spec = {
        "scaleTargetRef": reference,
        **({"subTargetSelector": {"roleName": pool.role}} if of_storm_service else {}),
        "minReplicas": scaler.min_replicas,
        "maxReplicas": scaler.max_replicas,
        **({"schedules": planned} if planned else {}),
        "scalingStrategy": "KPA",
        "observeWindowSeconds": round(scaler.stable_window_s),
        "panicWindowSeconds": round(scaler.panic_window_s),
        "metricsSources": [source],
    }
    body = kubernetes.manifest(policy, pool.role, options, KIND, spec)
    given = {
        **({"storm-service-mode": "pool"} if of_storm_service else {}),
        "max-scale-up-rate": model.plain_number(scaler.max_scale_up_rate),
        "max-scale-down-rate": model.plain_number(scaler.max_scale_down_rate),
        "scale-up-tolerance": model.plain_number(scaler.up_tolerance),
        "scale-down-tolerance": model.plain_number(scaler.down_tolerance),
        "scale-up-cooldown-window": f"{round(scaler.up_cooldown_s)}s",
        "scale-down-cooldown-window": f"{round(scaler.down_cooldown_s)}s",
    }
    body["metadata"]["annotations"] = {ANNOTATION + name: text for name, text in given.items()}
    return body


def schedules(entries: Sequence[PeriodicEntry], role: str) -> list[dict[str, Any]]:
    """Return the schedules of a role: in each the least and the most are the count of the timetable.

    None crosses midnight and none overlaps another, as AIBrix asks; of two entries that hold the first
    counts. The latest end that it takes is 23:59.
    """
    plan = weekly_plan(entries, role).reshape(len(DAYS), DAY_MINUTES)
    found: dict[tuple[int, int, int], list[str]] = {}
    for day, minutes in zip(DAYS, plan.tolist(), strict=True):
        begin = 0
        for count, same in itertools.groupby(
            minutes, key=lambda one: None if math.isnan(one) else round(one)
        ):
            end = begin + sum(1 for _ in same)
            if count is not None and begin < min(end, LAST_MINUTE):
                found.setdefault((begin, min(end, LAST_MINUTE), count), []).append(day.capitalize())
            begin = end
    zone = entries[0].zone if entries else UTC_NAME
    return [
        {
            "name": f"timetable-{place}",
            "timezone": zone,
            **({"daysOfWeek": days} if len(days) < len(DAYS) else {}),
            "startTime": f"{begin // 60:02d}:{begin % 60:02d}",
            "endTime": f"{end // 60:02d}:{end % 60:02d}",
            "minReplicas": max(1, count),
            "maxReplicas": max(1, count),
        }
        for place, ((begin, end, count), days) in enumerate(found.items())
    ]


def metric_name(policy: Policy, pool: PoolSizing) -> str:
    """Return the name of the external metric: AIBrix asks for a name alone, so that the pool is in it."""
    return f"{hpa.metric_name(policy, pool)}_{pool.primary.role}"


def _adapter(policy: Policy, pools: Sequence[PoolSizing]) -> dict[str, Any]:
    """Return the adapter's rules, one a metric, with the labels in the query: AIBrix gives no selector.

    A query gives the highest value of the time in which a pool does not shrink: growth is as fresh, as the
    newest value is the highest one then.
    """
    found = {}
    for pool in pools:
        labels = model.record_labels(policy, pool.primary.role)
        matchers = ",".join(f"{key}={queries.quoted(value)}" for key, value in labels.items())
        record, name = model.record_name(pool.primary, total=pool.total), metric_name(policy, pool)
        series = f"<<.Series>>{{<<.LabelMatchers>>,{matchers}}}"
        held_s = round(parameters(policy, pool).highest_s)
        found[name] = {
            "seriesQuery": f'{{__name__="{record}",{matchers}}}',
            "resources": {"namespaced": False},
            "name": {"as": name},
            "metricsQuery": f"sum(max_over_time({series}[{held_s}s]))" if held_s else f"sum({series})",
        }
    return {"externalRules": list(found.values())}


def _check_line(stem: str, objects: Sequence[Mapping[str, Any]]) -> str:
    scaled = ", ".join(dict.fromkeys(_scaled(body["spec"]["scaleTargetRef"]) for body in objects))
    return (
        f"Check before applying: namespace, {scaled}; {stem}.{ADAPTER_SUFFIX} has the rules of its metrics."
    )


def _scaled(reference: Mapping[str, str]) -> str:
    """Return what is scaled in words, a StormService with what it has to be."""
    if reference["kind"] == STORM_SERVICE[1]:
        return _MODE.format(name=reference["name"])
    return f"{reference['kind']} {reference['name']}"


def _unbounded(policy: Policy, pool: PoolSizing) -> list[Loss]:
    return kubernetes.unbounded(
        policy, pool.role, "no object: maxReplicas is required, and {role} has no bounds"
    )


def _known(policy: Policy) -> list[Loss]:
    return [
        *kubernetes.known_losses(policy, CONTROLLER),
        Loss("hysteresis", "dropped", _NO_BAND),
        Loss("reading.window_s", "approximated", _READ),
        *_of_timetable(policy),
        Loss("on_missing_metric", "approximated", "nothing to set: without its metric the count holds"),
        Loss("unit", "approximated", _UNIT),
        Loss("window_s", "approximated", "AIBrix decides every 10 s"),
        *rules.missing_expressions(policy),
    ]


def _of_timetable(policy: Policy) -> list[Loss]:
    """Return what schedules do not hold of a timetable; of a policy by metrics, that none are written."""
    if policy.mode != "periodic":
        return [Loss("periodic", "dropped", "schedules are not written with a metric policy")]
    return [Loss("mode", "approximated", _BETWEEN), Loss("periodic", "approximated", _MIDNIGHT)]


def _pool_losses(policy: Policy, pool: PoolSizing, scaler: Kpa) -> list[Loss]:
    """Return what of the policy the parameters of one pool do not hold."""
    role, found = pool.role, []
    own = next((i for i, one in enumerate(policy.primaries) if one.role == role), None)
    if own is not None:
        item = f"primaries[{own}].target_per_instance.value"
        wanted = policy.primaries[own].target_per_instance.value or 0.0
        if abs(wanted - pool.threshold) > kubernetes.SAME_DIGITS * wanted:
            numbers = f"{model.plain_number(pool.threshold)} instead of {model.plain_number(wanted)}"
            found.append(Loss(item, "approximated", f"{numbers} for {role}"))
    if scaler.max_scale_down_rate == 1.0:
        item = f"cooldown.{role}" if role in policy.cooldown else "step.max_in_fraction"
        found.append(Loss(item, "approximated", _OFF.format(role=role)))
    else:
        held = f"{scaler.highest_s:g}"
        found.append(Loss(f"cooldown.{role}", "dropped", _NO_REST.format(role=role, held=held)))
    if pool.hpa.up.policies == SCALE_UP.policies:
        found.append(Loss("step", "approximated", _DOUBLES))
    found.append(Loss("step.max_out_fraction", "approximated", _PER_CYCLE))
    found.append(Loss("step.max_in_fraction", "approximated", _PER_CYCLE))
    if scaler.highest_s != policy.reading.over_s:
        held = f"{scaler.highest_s:g} instead of {policy.reading.over_s:g}"
        found.append(Loss("reading.over_s", "approximated", held))
    if scaler.min_replicas != policy.bounds[role].min:
        found.append(Loss(f"bounds.{role}.min", "approximated", f"{role} keeps 1"))
    return found


_WEEK = tuple(day.capitalize() for day in DAYS)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")

_SPEC = shape.keys(
    {
        "scaleTargetRef": shape.keys({"apiVersion": shape.text, "kind": shape.text, "name": shape.text}),
        "minReplicas": shape.whole(1),
        "maxReplicas": shape.whole(1),
        # Panic and the two windows are KPA's; what is written means nothing under the others.
        "scalingStrategy": shape.choice("KPA"),
        "observeWindowSeconds": shape.whole(1, MOST_WINDOW_S),
        "panicWindowSeconds": shape.whole(1, MOST_WINDOW_S),
        "metricsSources": shape.listed(
            shape.keys(
                {
                    "metricSourceType": shape.choice("external"),
                    "targetMetric": shape.text,
                    "targetValue": shape.text,
                }
            )
        ),
    },
    {
        "subTargetSelector": shape.keys({"roleName": shape.text}),
        "schedules": shape.listed(
            shape.keys(
                {
                    "name": shape.text,
                    "startTime": shape.text,
                    "endTime": shape.text,
                    "minReplicas": shape.whole(1),
                    "maxReplicas": shape.whole(1),
                },
                {"timezone": shape.text, "daysOfWeek": shape.listed(shape.choice(*_WEEK))},
            )
        ),
    },
)


def lint_aibrix(manifest: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a PodAutoscaler on an external total, one sentence a problem."""
    found = kubernetes.identity_problems(manifest, KIND) + _SPEC(manifest.get("spec"), "spec")
    if found:
        return found
    spec, given = manifest["spec"], manifest["metadata"].get("annotations") or {}
    odd = dict.fromkeys(sorted(set(given) - KNOWN_ANNOTATIONS), "is not one that is read")
    odd |= {name: "is not a text" for name, text in given.items() if not isinstance(text, str)}
    found += [f"metadata.annotations.{name}: annotation {said}" for name, said in odd.items()]
    if spec["minReplicas"] > spec["maxReplicas"]:
        counts = f"{spec['minReplicas']} to {spec['maxReplicas']}"
        found.append(f"spec.minReplicas: replica counts {counts} are not min ≤ max")
    if spec["panicWindowSeconds"] > spec["observeWindowSeconds"]:
        found.append("panicWindowSeconds is more than observeWindowSeconds")
    for source in spec["metricsSources"]:
        if kubernetes.number(source["targetValue"]) <= 0:
            found.append(f"targetValue {source['targetValue']!r} is not a number above 0")
    found += _schedule_problems(spec.get("schedules") or [])
    if "subTargetSelector" in spec and spec["scaleTargetRef"]["kind"] != STORM_SERVICE[1]:
        found.append("subTargetSelector is for the roles of a StormService")
    tolerances = [given.get(f"{ANNOTATION}scale-{way}-tolerance") for way in ("up", "down")]
    if tolerances != ["0", "0"]:
        what = "a tolerance is not '0', and KPA would compare it with the pool's total"
        found.append(f"metadata.annotations: {what}")
    return found


def _schedule_problems(written: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what AIBrix refuses of schedules: times, one name twice, windows that overlap."""
    found = []
    for one in written:
        times = [str(one["startTime"]), str(one["endTime"])]
        if not all(map(_CLOCK.fullmatch, times)) or times[0] >= times[1]:
            found.append(f"schedule {one['name']}: {' to '.join(times)} is no window of one day")
        if one["minReplicas"] > one["maxReplicas"]:
            found.append(f"schedule {one['name']}: minReplicas is more than maxReplicas")
    names = [one["name"] for one in written]
    found += [
        f"schedule {name} is written twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    for day in _WEEK:
        windows = sorted((one for one in written if day in one.get("daysOfWeek", _WEEK)), key=_begin)
        for before, after in itertools.pairwise(windows):
            if after["startTime"] < before["endTime"]:
                found.append(f"schedules {before['name']} and {after['name']} overlap on {day}")
    return found


def _begin(schedule: Mapping[str, Any]) -> str:
    return str(schedule["startTime"])
