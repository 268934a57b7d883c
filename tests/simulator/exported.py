"""Exported files, read as a cluster reads them: objects, recording rules, and what their queries ask for.

The files are those that ``hsa export`` writes for KEDA, llm-d and an HPA: ScaledObjects or
HorizontalPodAutoscalers, recording rules, and the adapter's rules. Nothing of the package reads them here.
A query is understood by the names of the generator's metrics (`METRICS`): one metric, a function over a
range, a sum or a mean over instances, a factor, and at most one function over a subquery around each of query
and rule; or sums and differences of such. Everything else is refused by a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from ruamel.yaml import YAML

from simulator.autoscalers import (
    DOWN,
    TOLERANCE,
    UP,
    Fallback,
    Hpa,
    Policy,
    Query,
    Reading,
    Rules,
    Scaled,
    Target,
)
from simulator.faults import Spell
from simulator.prometheus import GAUGES, Prometheus

METRICS: dict[str, tuple[str, float]] = {
    "vllm:prompt_tokens_by_source_total": ("prefill_tps_effective", 1.0),
    "vllm:prompt_tokens_total": ("prefill_tps", 1.0),
    "vllm:generation_tokens_total": ("decode_tps", 1.0),
    "vllm:num_requests_running": ("running", 1.0),
    "vllm:num_requests_waiting": ("queue_length", 1.0),
    "vllm:kv_cache_usage_perc": ("kv_usage", 1.0),
    "DCGM_FI_DEV_GPU_UTIL": ("gpu_util", 100.0),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_activity", 1.0),
    "llm_d_epp_inflight_tokens": ("in_flight_tokens", 1.0),
    "dynamo_frontend_requests_started_total": ("request_rate", 1.0),
    "dynamo_frontend_requests_total": ("request_rate", 1.0),
    "dynamo_frontend_input_sequence_tokens_sum": ("passing_prompt_tps", 1.0),
    "dynamo_frontend_cached_tokens_sum": ("passing_cached_tps", 1.0),
    "dynamo_frontend_output_tokens_total": ("passing_output_tps", 1.0),
}
"""Metric → the signal it shows, and its unit as a part of the signal's. Requests are counted as started."""

JOINED = "kube_pod_labels"
"""What a query is multiplied with only to pick pods."""

OVER: dict[str, Callable[[Sequence[float]], Any]] = {"max": np.max, "min": np.min, "avg": np.mean}
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
WEEK_MINUTES = 7 * 24 * 60

_WORDS = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_SUBQUERY = re.compile(r"(max|min|avg)_over_time\s*\((.*)\[(\w+(?::\w*)?)\]\s*\)$", re.DOTALL)
_FACTOR = re.compile(r"^(.*\))\s*([*/])\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*$", re.DOTALL)


@dataclass(frozen=True)
class Scene:
    """What queries are asked of: the Prometheus, what goes wrong, and when the history starts [Unix s]."""

    prometheus: Prometheus
    spells: Sequence[Spell] = ()
    start_unix_s: float = 0.0

    def moment(self, at_s: float) -> float:
        """Return the moment that a query asked now answers of."""
        for spell in self.spells:
            if at_s in spell:
                at_s = spell.from_s if spell.fault.frozen else at_s - spell.fault.late_s
        return at_s


@dataclass(frozen=True)
class _Rule:
    """A recording rule: its query, its labels, and how often it is evaluated [s]."""

    record: str
    labels: Mapping[str, str]
    query: Query
    every_s: float


def autoscalers(texts: Iterable[str], scene: Scene) -> dict[str, Scaled]:
    """Return the autoscaler of each role that the texts of exported files hold.

    Raises
    ------
    ValueError
        Naming what is not understood.
    """
    bodies = [body for text in texts for body in YAML(typ="safe").load_all(text) if body]
    rules = [rule for body in bodies for rule in _rules(body, scene)]
    names = {name: record for body in bodies for name, record in _adapter(body)}
    found: dict[str, Scaled] = {}
    for body in bodies:
        if body.get("kind") == "ScaledObject":
            found[_role(body)] = _keda(body["spec"], rules, scene)
        elif body.get("kind") == "HorizontalPodAutoscaler":
            found[_role(body)] = _hpa(body["spec"], rules, names, scene)
    return found


def behaviour(body: Mapping[str, Any] | None) -> tuple[Rules, Rules]:
    """Return the rules of both directions, with Kubernetes' defaults for what is not said."""
    body = body or {}
    return _direction(body.get("scaleUp"), UP), _direction(body.get("scaleDown"), DOWN)


def _direction(body: Mapping[str, Any] | None, usual: Rules) -> Rules:
    body = body or {}
    policies = tuple(
        Policy(one["type"], int(one["value"]), int(one["periodSeconds"])) for one in body.get("policies", ())
    )
    return Rules(
        int(body.get("stabilizationWindowSeconds", usual.window_s)),
        policies or usual.policies,
        body.get("selectPolicy", "Max"),
        quantity(body.get("tolerance", TOLERANCE)),
    )


def quantity(text: str | float) -> float:
    """Return a Kubernetes quantity as a number: 0.1, "100m", "1.5k"."""
    scales = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}
    text = str(text)
    return float(text[:-1]) * scales[text[-1]] if text[-1] in scales else float(text)


def _role(body: Mapping[str, Any]) -> str:
    for name in (body["spec"]["scaleTargetRef"]["name"], body["metadata"]["name"]):
        for role in ("prefill", "decode"):
            if role in name:
                return role
    raise ValueError(f"no role in the name of {body['metadata']['name']}")


def _rules(body: Mapping[str, Any], scene: Scene) -> Iterable[_Rule]:
    for group in body.get("groups", ()) or body.get("spec", {}).get("groups", ()):
        every_s = seconds(group.get("interval", "1m"))
        for rule in group["rules"]:
            if "record" not in rule:
                continue
            labels = dict(rule.get("labels", {}))
            try:
                query = expression(rule["expr"], labels.get("role", ""), scene.prometheus)
            except ValueError as error:
                query = _unreadable(str(error))
            yield _Rule(rule["record"], labels, query, every_s)


def _unreadable(why: str) -> Query:
    def query(at_s: float) -> Reading:
        raise ValueError(why)

    return query


def _adapter(body: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for rule in body.get("externalRules", ()):
        yield rule["name"]["as"], rule["seriesQuery"]


def _keda(spec: Mapping[str, Any], rules: Sequence[_Rule], scene: Scene) -> Scaled:
    advanced = spec.get("advanced", {})
    least = int(spec.get("minReplicaCount", 0))
    if least < 1 or "idleReplicaCount" in spec or "scalingModifiers" in advanced:
        raise ValueError("scale to zero and formulas are not judged")
    fallback, targets, queries, kept, zero = spec.get("fallback"), [], [], [], []
    for trigger in spec["triggers"]:
        meta, kind = trigger["metadata"], trigger.get("metricType", "AverageValue")
        if trigger["type"] == "cron":
            targets.append(Target(1.0))
            queries.append(_asked(_timetable(meta, scene.start_unix_s), scene))
        else:
            targets.append(Target(float(meta["threshold"]), kind))
            queries.append(_asked(_recorded(meta["query"], rules, scene.prometheus), scene))
        kept.append(_fallback(fallback) if fallback else None)
        zero.append(trigger["type"] != "cron" and meta.get("ignoreNullValues", "true") == "true")
    up, down = behaviour(advanced.get("horizontalPodAutoscalerConfig", {}).get("behavior"))
    hpa = Hpa(tuple(targets), least, int(spec.get("maxReplicaCount", 100)), up, down)
    return Scaled(hpa, tuple(queries), tuple(kept), tuple(zero))


def _fallback(body: Mapping[str, Any]) -> Fallback:
    return Fallback(int(body["failureThreshold"]), int(body["replicas"]), body.get("behavior", "static"))


def _hpa(spec: Mapping[str, Any], rules: Sequence[_Rule], names: Mapping[str, str], scene: Scene) -> Scaled:
    targets, queries = [], []
    for metric in spec["metrics"]:
        source = metric["external"]
        name, labels = source["metric"]["name"], source["metric"].get("selector", {}).get("matchLabels", {})
        matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
        series = names[name].rstrip("}") + ("," if "{" in names[name] else "{") + matchers + "}"
        kind = source["target"]["type"]
        value = source["target"]["averageValue" if kind == "AverageValue" else "value"]
        targets.append(Target(quantity(value), kind))
        queries.append(_asked(_recorded(f"sum({series})", rules, scene.prometheus), scene))
    up, down = behaviour(spec.get("behavior"))
    hpa = Hpa(tuple(targets), int(spec.get("minReplicas", 1)), int(spec["maxReplicas"]), up, down)
    nothing = (None,) * len(targets)
    return Scaled(hpa, tuple(queries), nothing, (False,) * len(targets))


def _asked(query: Query, scene: Scene) -> Query:
    return lambda at_s: query(scene.moment(at_s))


def _recorded(text: str, rules: Sequence[_Rule], prometheus: Prometheus) -> Query:
    """Return a query of a recorded series, or of the metrics themselves."""
    wanted = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', text))
    record = wanted.pop("__name__", None)
    named = [rule for rule in rules if rule.record == record or rule.record in _WORDS.findall(text)]
    if not named:
        return expression(text, "", prometheus)
    found = [r for r in named if all(r.labels.get(k, v) == v for k, v in wanted.items())]
    if len(found) != 1:
        raise ValueError(f"{len(found)} recording rules for {text}")
    rule = found[0]
    phase_s = float(prometheus.front_s % max(1, int(rule.every_s)))

    def evaluated(at_s: float) -> Reading:
        return rule.query((at_s + phase_s) // rule.every_s * rule.every_s - phase_s)

    return _around(text, evaluated, rule.every_s, single=True)


def _around(text: str, query: Query, step_s: float, *, single: bool = False) -> Query:
    """Return a query with the factors and the subquery that stand around it.

    With ``single`` it is one series, whose sum is itself.
    """
    text = _unwrapped(text)
    factor = _FACTOR.match(text)
    if factor:
        text, sign, number = factor.group(1), factor.group(2), float(factor.group(3))
        return _times(_around(text, query, step_s, single=single), number if sign == "*" else 1.0 / number)
    found = _SUBQUERY.match(text)
    if found and (single or ":" in found.group(3)):
        name, inside, range_text = found.groups()
        length, _, step = range_text.partition(":")
        step_s = seconds(step) if step else step_s
        return _over(OVER[name], _around(inside, query, step_s, single=single), seconds(length), step_s)
    pooled = re.match(r"(?:sum|avg|max|min)\s*(\(.*)$", text, re.DOTALL) if single else None
    if pooled and _unwrapped(pooled.group(1)) != pooled.group(1):
        return _around(pooled.group(1), query, step_s, single=True)
    if re.search(r"\[\w+:", text) or (single and "_over_time" in text):
        raise ValueError(f"not understood: {text}")
    return query


def _unwrapped(text: str) -> str:
    """Return a text without the parentheses that hold all of it."""
    text = text.strip()
    while text.startswith("(") and text.endswith(")"):
        depths = np.cumsum([(char == "(") - (char == ")") for char in text])
        if np.flatnonzero(depths == 0)[0] < len(text) - 1:
            break
        text = text[1:-1].strip()
    return text


def _times(query: Query, factor: float) -> Query:
    def scaled(at_s: float) -> Reading:
        found = query(at_s)
        return None if found is None else found * factor

    return scaled


def _over(function: Callable[[Sequence[float]], float], query: Query, range_s: float, step_s: float) -> Query:
    """Return a function over a subquery, whose steps are whole multiples of its step."""

    def over(at_s: float) -> Reading:
        first, last = int((at_s - range_s) // step_s) + 1, int(at_s // step_s)
        known = [v for k in range(first, last + 1) if (v := query(k * step_s)) is not None]
        return float(function(known)) if known else None

    return over


def expression(text: str, role: str, prometheus: Prometheus) -> Query:
    """Return what an expression over the generator's metrics asks for.

    Parameters
    ----------
    text
        PromQL.
    role
        Whose metrics, where its matchers name none; empty: of the role of its signal.

    Raises
    ------
    ValueError
        For more than one metric, or a form that is not understood.
    """
    terms = _terms(text)
    if len(terms) > 1:
        return _sum([expression(term, role, prometheus) for term in terms])
    terms = _terms(_unwrapped(text), " - ")
    if len(terms) > 1:
        parts = [expression(term, role, prometheus) for term in terms]
        return _sum([parts[0], *(_times(one, -1.0) for one in parts[1:])])
    sides = _terms(_unwrapped(text), " or ")
    if len(sides) == 2:
        compared, above = _terms(sides[0], " > "), sides[1]
        factor, _, times = compared[-1].partition(" * ")
        if len(compared) != 2 or _unwrapped(times) != _unwrapped(above):
            raise ValueError(f"not understood: {text}")
        fresh, usual = (expression(one, role, prometheus) for one in (compared[0], above))
        return _higher(fresh, usual, float(factor))
    bare = re.sub(r'"[^"]*"', '""', text)
    names = [word for word in _WORDS.findall(bare) if word in METRICS]
    others = set(re.findall(r"([A-Za-z_:][A-Za-z0-9_:]*)\s*[{\[]", bare)) - {JOINED, *METRICS}
    if len(names) != 1 or others:
        raise ValueError(f"not one metric of the generator: {text}")
    signal, unit = METRICS[names[0]]
    inner, pooled = _inner(bare, names[0], signal, prometheus)
    role = _named(text) or (role if role in ("prefill", "decode") else _usual(signal))
    return _around(bare, _times(_of(inner, signal, role, pooled, prometheus), unit), 60.0)


def _terms(text: str, sign: str = "+") -> list[str]:
    """Return what stands around a sign outside all brackets, the text itself where there is none."""
    hidden = re.sub(r'"[^"]*"', lambda quoted: "x" * len(quoted.group()), text)
    depths = np.cumsum([(char in "({[") - (char in ")}]") for char in hidden])
    ends = [n for n in range(len(hidden)) if hidden.startswith(sign, n) and depths[n] == 0]
    return [text[a:b] for a, b in zip([0, *(n + len(sign) for n in ends)], [*ends, len(text)], strict=True)]


def _sum(queries: Sequence[Query]) -> Query:
    """Return the sum of queries, nothing where one answers nothing."""

    def total(at_s: float) -> Reading:
        found = [query(at_s) for query in queries]
        return None if None in found else float(sum(one for one in found if one is not None))

    return total


def _higher(fresh: Query, usual: Query, factor: float) -> Query:
    """Return the first query where it is more than so many times the second, else the second."""

    def query(at_s: float) -> Reading:
        one, other = fresh(at_s), usual(at_s)
        return one if one is not None and other is not None and one > factor * other else other

    return query


@dataclass(frozen=True)
class _Inner:
    """A function over a range of samples: rate, mean or highest, its range [s], and a factor."""

    name: str
    range_s: float
    factor: float = 1.0


def _inner(text: str, metric: str, signal: str, prometheus: Prometheus) -> tuple[_Inner, str]:
    found = re.search(rf"(\w+)\s*\(\s*{re.escape(metric)}(?:\{{[^}}]*\}})?\[(\w+)\]", text)
    pools = re.findall(r"\b(sum|avg)\b", text)
    pooled = pools[0] if pools else "sum"
    if found is None:
        if signal not in GAUGES:
            raise ValueError(f"a counter without a rate: {text}")
        return _Inner("mean", float(prometheus.looks.scrape_s)), pooled
    name, range_s = found.group(1), seconds(found.group(2))
    kinds = {"rate": "rate", "increase": "rate", "avg_over_time": "mean", "max_over_time": "highest"}
    if name not in kinds or (kinds[name] == "rate") == (signal in GAUGES):
        raise ValueError(f"{name} of {metric} is not understood")
    return _Inner(kinds[name], range_s, range_s if name == "increase" else 1.0), pooled


def _of(inner: _Inner, signal: str, role: str, pooled: str, prometheus: Prometheus) -> Query:
    ask = {"rate": prometheus.rate, "mean": prometheus.mean, "highest": prometheus.highest}[inner.name]
    way: Any = pooled
    return _times(lambda at_s: ask(signal, role, inner.range_s, at_s, way), inner.factor)


def _named(text: str) -> str:
    """Return the role that a text's own matchers name, empty where none does."""
    return next((role for role in ("prefill", "decode") if re.search(rf'"[^"]*{role}[^"]*"', text)), "")


def _usual(signal: str) -> str:
    return "decode" if signal == "decode_tps" else "prefill"


def seconds(text: str) -> float:
    """Return a Prometheus duration in seconds: 90s, 5m, 1h30m."""
    parts = re.findall(r"(\d+)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"no duration: {text}")
    return float(sum(int(number) * UNITS_S[unit] for number, unit in parts))


def _timetable(meta: Mapping[str, str], start_unix_s: float) -> Query:
    """Return a cron trigger's count: the wanted one between start and end, else one."""
    zone, count = ZoneInfo(meta["timezone"]), float(meta["desiredReplicas"])
    starts, ends = _minutes(meta["start"]), _minutes(meta["end"])
    active = [False] * WEEK_MINUTES
    inside = max(starts, default=-1) > max(ends, default=-1)
    for minute in range(WEEK_MINUTES):
        inside = minute in starts or (inside and minute not in ends)
        active[minute] = inside

    def query(at_s: float) -> Reading:
        local = datetime.fromtimestamp(start_unix_s + at_s, zone)
        minute = (local.isoweekday() % 7 * 24 + local.hour) * 60 + local.minute
        return count if active[minute] else 1.0

    return query


def _minutes(cron: str) -> set[int]:
    """Return the minutes of a week, from Sunday on, that ``minute hour * * days`` names."""
    minute, hour, day, month, weekday = cron.split()
    if (day, month) != ("*", "*"):
        raise ValueError(f"days of a month are not judged: {cron}")
    days = range(7) if weekday == "*" else [_day(name) for name in weekday.split(",")]
    return {(d * 24 + int(h)) * 60 + int(m) for d in days for h in hour.split(",") for m in minute.split(",")}


def _day(name: str) -> int:
    return int(name) % 7 if name.isdigit() else DAYS.index(name[:3].lower())
