"""A Grafana dashboard of one service: signals, counts and limits of its policy, on the policy's own queries.

It is the classic model of a dashboard. A dashboard shows and decides nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs_analysis.export import kubernetes, model, rules, shape
from hs_analysis.export.kubernetes import PoolSizing
from hs_analysis.export.model import Export, ExportOptions, Loss, WatchedLimit, concerning, warning_of
from hs_analysis.export.queries import NAMESPACE_LABELS, quoted
from hs_analysis.policy.model import Guard, Hysteresis, Policy
from hs_analysis.schema.names import CONTROLLER_TITLES, POOL_ROLES

DASHBOARD_SUFFIX = "dashboard.json"

SCHEMA_VERSION = 42
"""Of the classic model (grafana/grafana-foundation-sdk@f178d5a, ``jsonschema/dashboard.jsonschema.json``)."""

COLUMNS = 24
"""Width of a dashboard [grid units]."""

HEIGHT = 8
"""Of a chart [grid units], Grafana's own default being 9."""

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

UNITS = {"s": "s", "ratio": "percentunit", "requests": "short", "instances": "short", "": "none"}
"""Unit of the catalogue → Grafana's name of it; any other is written behind the number, after a
space of Grafana's own."""

BLUE, GREEN, ORANGE, RED, CLEAR = "blue", "green", "orange", "red", "transparent"

_DROPPED = {
    "step": "a dashboard shows what is wanted, not how fast it is reached",
    "cooldown": "a dashboard shows what is wanted, not how fast it is reached",
    "soft_scale_in": "a dashboard removes nothing",
    "on_missing_metric": "a dashboard shows a gap where a metric is missing",
    "periodic": "no timetable is drawn",
    "placement": "where instances start is not shown",
    "gpus": "a limit on the GPUs of all pools together is not drawn",
    "replay": "hsa report has the backtest",
    "start_up_s": "the time that an instance takes to start is not drawn",
    "window_s": "a dashboard has the step of its own panels",
    "reading": "queries read the newest mean; the highest of the last ones is not drawn",
    "unit": "what one instance is, a pod or a group, is not said",
    "refusals": "hsa report has them",
    "*.gpu_types": "instances of all GPU types count alike",
    "*.waiting": "the query holds what waits; how it is weighed is in policy.yaml",
    "*.provenance": "policy.yaml has it",
    "*.source": "the exporter is not named",
    "*.target_per_instance.status": "policy.yaml has it",
    "pd_ratio.prefill": "the pair of whole counts nearest to the ratio is not drawn",
    "pd_ratio.decode": "the pair of whole counts nearest to the ratio is not drawn",
}
_NEARLY = (
    Loss("*.evidence", "approximated", "that of a target is in its chart's text; policy.yaml has all"),
    Loss("recommended", "approximated", "a warning is the first text where it is not"),
)
_UNCOUNTED = "no query tells how many {role} instances report"
_UNSIZED = "in mode {mode} no signal sizes a pool: neither target nor band nor a wanted count is drawn"


@dataclass(frozen=True)
class _Line:
    """One query of a panel, and what its line is called."""

    legend: str
    expr: str


def export_grafana(policy: Policy, options: ExportOptions) -> Export:
    """Return the dashboard of a service and the recording rules of its signals.

    A panel is left out where the run has no query for it; that is a loss. Recorded instances and shares over
    the limits come from the run (``options``), what is wanted and the guards from the policy.
    """
    files = dict(rules.export_rules(policy, options).files)
    panels, losses = _panels(policy, options)
    losses += [Loss(item, "dropped", text) for item, text in _DROPPED.items()]
    found = Export("grafana", files, concerning([*losses, *rules.missing_expressions(policy)], policy))
    body = _dashboard(policy, options, panels)
    files[f"{model.file_stem(policy.service)}.{DASHBOARD_SUFFIX}"] = (
        json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    )
    return found


def _panels(policy: Policy, options: ExportOptions) -> tuple[list[dict[str, Any]], list[Loss]]:
    """Return the charts in reading order, and what could not be drawn."""
    pools: dict[str, PoolSizing] = {}
    losses: list[Loss] = [*_NEARLY]
    if policy.mode == "metric":
        sized, lost = kubernetes.sizings(policy, "keda")
        losses += [loss for loss in lost if loss.kind == "refused"]
        pools = {pool.role: pool for pool in sized}
    else:
        text = _UNSIZED.format(mode=policy.mode)
        losses += [Loss(item, "dropped", text) for item in ("primaries", "hysteresis")]
        losses.append(Loss("pd_ratio", "approximated", "its bounds are drawn, and nothing keeps it"))
    found: list[dict[str, Any]] = []
    for role in POOL_ROLES:
        count, pool = options.watched.instances.get(role, ""), pools.get(role)
        text = _UNCOUNTED.format(role=role)
        if not count:
            losses.append(Loss(f"hysteresis.{role}", "dropped", text))
            losses.append(Loss("pd_ratio", "approximated", f"what the policy wants keeps it, but {text}"))
        if not count and pool is None:
            losses.append(Loss(f"bounds.{role}", "dropped", text))
            continue
        found.append(_instances(policy, role, count, pool))
        if pool is None:
            losses.append(Loss(f"hysteresis.{role}", "dropped", f"no signal sizes {role}"))
        elif count:
            found.append(_load(policy, pool, count))
    found += _ratio(policy, options)
    found += [_share(limit, options.measured.slo_quantile) for limit in options.watched.limits]
    found += [_guard(guard) for guard in policy.guards if guard.promql]
    return [*found, _alerts(policy)], losses


def _instances(policy: Policy, role: str, count: str, pool: PoolSizing | None) -> dict[str, Any]:
    """Return the chart of recorded and wanted instances within their bounds."""
    bounds = policy.bounds.get(role)
    lines = [_Line("instances that report", count)] if count else []
    text = f"{role.capitalize()} instances that report now."
    if pool is not None:
        asked = f"ceil(({pool.query}) / {model.plain_number(pool.threshold)})"
        if bounds:
            asked = f"clamp_max(clamp_min({asked}, {bounds.min}), {bounds.max})"
        lines.append(_Line("the policy wants", asked))
        text += (
            " The policy wants the total of its signal ÷ the target, rounded up. A controller acts on it "
            "only outside the band and after its rests, so the two lines may differ for a while. "
            f"{pool.origin}."
        )
    steps: list[tuple[float | None, str]] = [(None, CLEAR)]
    if bounds:
        steps = _ascending([(None, CLEAR), (float(bounds.min), BLUE), (float(bounds.max), ORANGE)])
        text += f" The dashed lines are the bounds: least {bounds.min}, most {bounds.max}."
    return _chart(f"Instances: {role}", text, "instances", lines, steps)


def _load(policy: Policy, pool: PoolSizing, count: str) -> dict[str, Any]:
    """Return the chart of a signal per instance against its target and band."""
    name = pool.primary.signal.replace("_", " ").replace("tps", "TPS")
    target = pool.threshold
    band = (
        policy.hysteresis.get(pool.role) or policy.hysteresis.get(pool.primary.role) or Hysteresis(1.0, 1.0)
    )
    own_mean = pool.total and pool.role == pool.primary.role
    expr = pool.primary.promql if own_mean else f"({pool.query}) / ({count})"
    low, high = target * band.scale_in_ratio, target * band.scale_out_ratio
    unit = pool.primary.unit
    text = (
        f"{name} ({pool.primary.role}) per {pool.role} instance. Target {_number(target)} {unit}: "
        f"the policy adds instances above {_number(high)} and removes them below {_number(low)}. "
        f"{pool.origin}."
    )
    lines = [_Line("per instance", expr), _Line("target", f"vector({model.plain_number(target)})")]
    steps = _ascending([(None, BLUE), (low, GREEN), (high, RED)])
    return _chart(f"{name} per {pool.role} instance", text, unit, lines, steps, filled=True)


def _ratio(policy: Policy, options: ExportOptions) -> Iterator[dict[str, Any]]:
    """Yield the chart of prefill per decode instance, where both are counted."""
    prefill, decode = (options.watched.instances.get(role) for role in ("prefill", "decode"))
    if not prefill or not decode:
        return
    kept, band = policy.pd_ratio, options.measured.ratio_band
    lines = [_Line("prefill ÷ decode", f"({prefill}) / ({decode})")]
    text = "Prefill instances ÷ decode instances that report now."
    if kept and kept.low is not None and kept.high is not None:
        band = (kept.low, kept.high)
    if kept and kept.held and policy.mode == "metric":
        lines.append(_Line("the policy keeps", f"vector({model.plain_number(kept.held)})"))
        text += f" The policy keeps {_number(kept.held)} ({kept.status})"
        text += f", within {_number(kept.max_deviation)}." if kept.max_deviation else "."
    steps: list[tuple[float | None, str]] = [(None, CLEAR)]
    if band:
        steps = _ascending([(None, ORANGE), (band[0], GREEN), (band[1], ORANGE)])
        text += f" Bounds from the history: {_number(band[0])} to {_number(band[1])}."
    if not kept or not kept.value:
        text += " Each pool is sized by its own signal, so nothing keeps the ratio."
    yield _chart("P/D ratio", text, "", lines, steps, filled=True)


def _share(limit: WatchedLimit, quantile: float | None) -> dict[str, Any]:
    """Return the chart of what is over a limit, against what the SLO allows."""
    edges, what = limit.edges, "token gaps" if limit.edges.signal == "tbt" else "requests"
    name, at = edges.signal.upper(), _seconds(edges.limit_s)
    text = f"Share of {what} whose {name} is over {at}."
    if edges.exact:
        lines = [_Line("over the limit", limit.over_high)]
    else:
        asked = (("at most", limit.over_low), ("at least", limit.over_high))
        lines = [_Line(f"over the limit, {words}", expr) for words, expr in asked if expr]
        text += f" No edge of the histogram lies at the limit, so this is a bound: {edges.advice}."
    steps: list[tuple[float | None, str]] = [(None, CLEAR)]
    if quantile is not None:
        steps = _ascending([(None, CLEAR), (1.0 - quantile, RED)])
        text += (
            f" The SLO speaks of the {100 * quantile:g} % quantile: {100 * (1 - quantile):g} % may be over."
        )
    return _chart(f"SLO: {name} over {at} ({limit.role})", text, "ratio", lines, steps)


def _guard(guard: Guard) -> dict[str, Any]:
    """Return the chart of a latency that guards, with its tiers."""
    name = guard.signal.upper()
    tiers = sorted(guard.tiers, key=lambda tier: tier.above_ratio)
    levels = [(tier.above_ratio * guard.slo_s, ORANGE if tier is tiers[0] else RED) for tier in tiers]
    does = "; ".join(
        f"above {_seconds(tier.above_ratio * guard.slo_s)} add {100 * tier.add_fraction:g} %"
        for tier in tiers
    )
    text = f"Mean {name}, the guard of {guard.role}. Its limit is {_seconds(guard.slo_s)}."
    text += f" HeteroScale's rule acts on it: {does}. Other controllers do not." if tiers else ""
    lines = [_Line("mean", guard.promql), _Line("limit", f"vector({model.plain_number(guard.slo_s)})")]
    return _chart(
        f"Guard: mean {name} ({guard.role})", text, "s", lines, _ascending([(None, CLEAR), *levels])
    )


def _alerts(policy: Policy) -> dict[str, Any]:
    """Return the states of the service's alerts over time, as Prometheus itself records them."""
    service = f"service={quoted(policy.service)}"
    expr = (
        f'max by (alertname, role, signal) (2 * ALERTS{{{service},alertstate="firing"}} '
        f'or ALERTS{{{service},alertstate="pending"}})'
    )
    states = {"1": {"text": "pending", "color": ORANGE}, "2": {"text": "firing", "color": RED}}
    options = {"showValue": "auto", "rowHeight": 0.9, "mergeValues": True, **_READING}
    defaults = {
        "noValue": "no alert is pending or firing",
        "mappings": [{"type": "value", "options": states}],
        "custom": {"fillOpacity": 70, "lineWidth": 0},
    }
    text = f"Alerts whose label service is {policy.service}, from the series ALERTS that Prometheus keeps."
    return _panel(
        "state-timeline",
        "Alerts",
        text,
        [_Line("{{alertname}} {{role}} {{signal}}", expr)],
        options,
        defaults,
    )


_READING = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull"]},
    "tooltip": {"mode": "multi", "sort": "none"},
}


def _chart(
    title: str,
    text: str,
    unit: str,
    lines: Sequence[_Line],
    steps: Sequence[tuple[float | None, str]],
    *,
    filled: bool = False,
) -> dict[str, Any]:
    """Return a chart over time; gaps stay gaps, and each step of ``steps`` but the first is a dashed line.

    ``filled`` colours what lies between the lines: the band in which nothing is done.
    """
    style = "dashed+area" if filled else "dashed"
    defaults = {
        "unit": UNITS.get(unit, f"suffix:{unit}"),
        "min": 0,
        "color": {"mode": "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": [{"color": color, "value": at} for at, color in steps]},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 2,
            "fillOpacity": 0,
            "spanNulls": False,
            "thresholdsStyle": {"mode": style if len(steps) > 1 else "off"},
        },
    }
    return _panel("timeseries", title, text, lines, dict(_READING), defaults)


def _panel(
    kind: str,
    title: str,
    text: str,
    lines: Sequence[_Line],
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": DATA_SOURCE, "expr": line.expr,
         "legendFormat": line.legend, "range": True, "editorMode": "code"}
        for place, line in enumerate(lines)
    ]  # fmt: skip
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": DATA_SOURCE,
        "targets": targets,
        "options": dict(options),
        "fieldConfig": {"defaults": dict(defaults), "overrides": []},
    }


def _dashboard(policy: Policy, options: ExportOptions, panels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the whole: the sentence of the policy on top, then the charts in two columns."""
    charts, variables = _with_namespace(policy, panels)
    head = {
        "id": 1,
        "type": "text",
        "title": "",
        "gridPos": {"h": 6, "w": COLUMNS, "x": 0, "y": 0},
        "options": {"mode": "markdown", "content": _words(policy, options)},
    }
    width = COLUMNS // 2
    placed = [
        {"id": 2 + place,
         "gridPos": {"h": HEIGHT, "w": width, "x": width * (place % 2), "y": 6 + HEIGHT * (place // 2)},
         **chart}
        for place, chart in enumerate(charts)
    ]  # fmt: skip
    return {
        "uid": f"hsa-{hashlib.sha256(policy.service.encode()).hexdigest()[:16]}",
        "title": f"hsa: {policy.service}",
        "description": _first_words(policy, options),
        "tags": ["hs_analysis"],
        "timezone": "utc",
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-24h", "to": "now"},
        "refresh": "1m",
        "schemaVersion": SCHEMA_VERSION,
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": [head, *placed],
    }


def _with_namespace(
    policy: Policy, panels: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]]]:
    """Return the panels with the namespace as a variable, where their queries name it, and the variables."""
    variables: list[dict[str, Any]] = [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "refresh": 1,
        }
    ]
    own = model.namespace_of(policy.service)
    if own is None:
        return list(panels), variables
    named = re.compile(rf"(?<![A-Za-z0-9_])({'|'.join(NAMESPACE_LABELS)})={re.escape(quoted(own))}")
    listed = re.compile(rf"([A-Za-z_:][A-Za-z0-9_:]*)\{{[^{{}}]*?{named.pattern}")
    first = next(
        (found for panel in panels for one in panel["targets"] if (found := listed.search(one["expr"]))), None
    )
    if first is None:
        return list(panels), variables
    query = f"label_values({first[1]}, {first[2]})"
    variables.append(
        {"type": "query", "name": "namespace", "label": "Namespace", "datasource": DATA_SOURCE,
         "query": query, "refresh": 2, "sort": 1, "current": {"text": own, "value": own}}
    )  # fmt: skip
    changed: list[Mapping[str, Any]] = []
    for panel in panels:
        targets = [{**one, "expr": named.sub(r'\1="$namespace"', one["expr"])} for one in panel["targets"]]
        changed.append({**panel, "targets": targets})
    return changed, variables


def _first_words(policy: Policy, options: ExportOptions) -> str:
    advised = "" if policy.recommended else f"{warning_of(options)} "
    return f"{advised}What the policy of {policy.service} follows, wants and guards. Times are UTC."


def _words(policy: Policy, options: ExportOptions) -> str:
    """Return what made the dashboard and from what, as Markdown."""
    window = policy.window
    lines = [
        _first_words(policy, options),
        f"Policy: {policy.mode}, selected and replayed for "
        f"{CONTROLLER_TITLES.get(policy.controller, policy.controller)}; confidence {policy.confidence}"
        + "".join(f"; {reason}" for reason in policy.confidence_reasons),
        f"Data: {window.get('start', '?')} to {window.get('end', '?')}; inputs sha256 "
        f"{policy.inputs_sha256 or 'unknown'}; run {policy.run or 'unknown'}; policy sha256 "
        f"{options.policy_sha256 or 'unknown'}; hs_analysis {policy.tool_version or '(version unknown)'}.",
        *(f"Note: {note}" for note in options.notes),
    ]
    return "\n\n".join(lines)


def _ascending(steps: Sequence[tuple[float | None, str]]) -> list[tuple[float | None, str]]:
    """Return steps with equal levels joined: the later colour wins, and each is above the one before."""
    found: dict[float | None, str] = {}
    for at, color in sorted(steps, key=lambda step: -float("inf") if step[0] is None else step[0]):
        found[None if at is None else float(f"{at:.6g}")] = color
    return list(found.items())


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000.0 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.4g} s" if value >= 1.0 else f"{value * 1000.0:.4g} ms"


CORE_PANELS = ("timeseries", "state-timeline", "text")
"""Types that are written; each is one of those that Grafana brings."""

_NUMBERS = shape.between(-1e300, 1e300)


def _threshold(value: Any, where: str) -> list[str]:
    return [] if value is None else _NUMBERS(value, where)


_GRID = shape.keys(
    {"h": shape.whole(1), "w": shape.whole(1, COLUMNS), "x": shape.whole(0, COLUMNS - 1), "y": shape.whole(0)}
)
_SOURCE = shape.keys({"type": shape.choice("prometheus"), "uid": shape.choice("${datasource}")})
_TARGET = shape.keys(
    {"refId": shape.text, "datasource": _SOURCE, "expr": shape.text, "legendFormat": shape.text,
     "range": shape.choice(True), "editorMode": shape.choice("code")}
)  # fmt: skip
_STEPS = shape.listed(shape.keys({"color": shape.text, "value": _threshold}))
_DEFAULTS = shape.keys(
    {"custom": shape.anything},
    {"unit": shape.text, "min": _NUMBERS, "color": shape.keys({"mode": shape.text}), "noValue": shape.text,
     "thresholds": shape.keys({"mode": shape.choice("absolute"), "steps": _STEPS}),
     "mappings": shape.listed(shape.anything)},
)  # fmt: skip
_PANEL = shape.keys(
    {"id": shape.whole(1), "type": shape.choice(*CORE_PANELS), "title": shape.anything, "gridPos": _GRID,
     "options": shape.anything},
    {"description": shape.text, "datasource": _SOURCE, "targets": shape.listed(_TARGET, 0),
     "fieldConfig": shape.keys({"defaults": _DEFAULTS, "overrides": shape.listed(shape.anything, 0)})},
)  # fmt: skip
_DASHBOARD = shape.keys(
    {"uid": shape.text, "title": shape.text, "description": shape.text, "tags": shape.listed(shape.text),
     "timezone": shape.choice("utc"), "editable": shape.choice(True), "graphTooltip": shape.whole(0, 2),
     "time": shape.keys({"from": shape.text, "to": shape.text}), "refresh": shape.text,
     "schemaVersion": shape.whole(1), "templating": shape.keys({"list": shape.listed(shape.anything)}),
     "annotations": shape.keys({"list": shape.listed(shape.anything, 0)}), "panels": shape.listed(_PANEL)}
)  # fmt: skip


def lint_dashboard(body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a dashboard, one sentence a problem; empty when nothing is.

    Grafana takes an unknown panel type, a doubled id or steps out of order without a word and draws nothing,
    or something else.
    """
    found = _DASHBOARD(body, "dashboard")
    if found:
        return found
    ids = [panel["id"] for panel in body["panels"]]
    if len(set(ids)) < len(ids):
        found.append("dashboard.panels: an id is used twice")
    if not 8 <= len(body["uid"]) <= 40:
        found.append(f"dashboard.uid {body['uid']!r} has not 8 to 40 characters")
    for place, panel in enumerate(body["panels"]):
        found += [f"dashboard.panels[{place}]: {text}" for text in _panel_problems(panel)]
    return found


def _panel_problems(panel: Mapping[str, Any]) -> Iterator[str]:
    grid = panel["gridPos"]
    if grid["x"] + grid["w"] > COLUMNS:
        yield "it reaches over the right edge"
    if panel["type"] != "text" and not panel.get("targets"):
        yield "it has no query"
    steps = panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps")
    if steps is None:
        return
    levels = [step["value"] for step in steps]
    if levels[0] is not None or None in levels[1:] or levels[1:] != sorted(set(levels[1:])):
        yield "its steps do not begin with null and ascend"
