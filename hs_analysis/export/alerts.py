"""Alert rules of a policy: its SLO, and each assumption that it rests on, with what to do when one breaks.

They refer to recorded names only: to those of the policy's signals, and to what is recorded for them in a
group of their own. An alert whose metric the history lacks is not written; a loss says so by its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hs_analysis.export import model, queries, rules
from hs_analysis.export.constants import (
    DRIFT_FOR_S,
    DRIFT_MARGIN,
    LENGTHS_FOR_S,
    LENGTHS_OVER_S,
    LENGTHS_REQUESTS,
    MISSING_FOR_S,
    RATIO_FOR_S,
    SLO_FOR_S,
)
from hs_analysis.export.model import (
    Export,
    ExportOptions,
    Loss,
    WatchedLength,
    WatchedLimit,
    plain_number,
)
from hs_analysis.export.queries import quoted
from hs_analysis.policy.model import Bounds, Guard, Policy, Primary, Ratio
from hs_analysis.schema.aligned import LATENCIES
from hs_analysis.schema.constants import MIX_MOVED_RATIO, SUSTAINED_S
from hs_analysis.schema.names import CONTROLLER_TITLES

TITLE = "Prometheus alert rules (checked with promtool 2.42)"
ALERTS_SUFFIX = "alerts.yaml"

OVER_SLO = {"ttft": "HsTtftOverSlo", "tbt": "HsTbtOverSlo"}
MAY_BE_OVER = {"ttft": "HsTtftMayBeOverSlo", "tbt": "HsTbtMayBeOverSlo"}
OUT_OF_BAND, TARGET_DRIFTED = "HsRatioOutOfBand", "HsTargetDrifted"
MIX_DRIFTED, SIGNAL_MISSING, GUARD_REACHED = "HsMixDrifted", "HsSignalMissing", "HsGuardReached"

ALERTS = (
    *OVER_SLO.values(),
    *MAY_BE_OVER.values(),
    OUT_OF_BAND,
    TARGET_DRIFTED,
    MIX_DRIFTED,
    SIGNAL_MISSING,
    GUARD_REACHED,
)
"""Names of all alerts; one may be written several times, with other labels."""

Severity = Literal["critical", "warning", "info"]
"""Act now, act soon, look at it some time."""

_SERVICE = ("policy", "service")
_POOL = ("policy", "service", "role")
_SAMPLES = {"ttft": "requests", "tbt": "token gaps"}
_STUDY_AGAIN = "capture the last days and run hsa again."


@dataclass(frozen=True)
class AlertRules:
    """Rules that belong together: what is recorded for alerts, the alerts, and those not written."""

    records: tuple[dict[str, Any], ...] = ()
    alerts: tuple[dict[str, Any], ...] = ()
    losses: tuple[Loss, ...] = ()

    @classmethod
    def of(cls, parts: Iterable[AlertRules]) -> AlertRules:
        """Return several as one, in order; what two of them record is recorded once."""
        found = list(parts)
        records: list[dict[str, Any]] = []
        for record in (record for part in found for record in part.records):
            if record not in records:
                records.append(record)
        return cls(
            tuple(records),
            tuple(alert for part in found for alert in part.alerts),
            tuple(loss for part in found for loss in part.losses),
        )


def export_alerts(policy: Policy, options: ExportOptions) -> Export:
    """Return the recording and the alert rules of a policy, with everything that they do not say."""
    recorded = rules.export_rules(policy, options)
    part = alert_rules(policy, options)
    losses = [*part.losses, *_watched_losses(recorded.losses)]
    files = dict(recorded.files)
    if part.alerts:
        files[f"{model.file_stem(policy.service)}.{ALERTS_SUFFIX}"] = _text(policy, options, part)
    return Export("rules", files, tuple(losses))


def alert_rules(policy: Policy, options: ExportOptions) -> AlertRules:
    """Return the alert rules of a policy: its SLO first, then its assumptions."""
    limits = {limit.edges.signal: limit for limit in options.watched.limits}
    parts = [_over_slo(policy, options, signal, limits.get(signal)) for signal in OVER_SLO]
    parts.append(_out_of_band(policy, options))
    parts += [_target_drifted(policy, options, primary, limits) for primary in policy.primaries]
    parts.append(_mix_drifted(policy, options))
    signals: list[Primary | Guard] = [*policy.primaries, *policy.guards]
    parts += [_signal_missing(policy, options, item) for item in signals]
    parts += [_guard_reached(policy, options, guard) for guard in policy.guards]
    return AlertRules.of(parts)


def _text(policy: Policy, options: ExportOptions, part: AlertRules) -> str:
    """Return the file: what is recorded for the alerts in one group, the alerts in the next."""
    stem = model.file_stem(policy.service)
    name = f"hs_analysis_{stem}"
    # Numbers of minutes and hours: the group need not follow every scrape.
    groups = [
        {"name": f"{name}_watched", "interval": "1m", "rules": list(part.records)},
        {"name": f"{name}_alerts", "interval": "1m", "rules": list(part.alerts)},
    ]
    drifted = any(alert["alert"] == TARGET_DRIFTED for alert in part.alerts)
    calm = f" On the history that the policy was made from {TARGET_DRIFTED} never fires." if drifted else ""
    lines = [
        f"Load {stem}.{rules.RULES_SUFFIX} too: alerts read what it records.{calm}",
        "Thresholds are the policy's. `for` and the others: hsa settings --all, constants of export.",
    ]
    body = [{"groups": [group for group in groups if group["rules"]]}]
    return (
        model.header(policy, options, TITLE, part.losses) + model.comment(lines) + model.dump_documents(body)
    )


_ACTS_ON = "an alert watches it, and no rule acts on it"


def _watched_losses(losses: Sequence[Loss]) -> Iterator[Loss]:
    """Yield the losses of the recording rules; what an alert watches is not dropped any more."""
    for loss in losses:
        if loss.item in WATCHED:
            yield replace(loss, kind="approximated", text=_ACTS_ON)
        else:
            yield loss


WATCHED = (
    "mode", "pd_ratio", "hysteresis", "bounds", "window_s", "controller", "start_up_s", "primaries",
    "*.target_per_instance", "*.gpu_types", "*.pool", "*.unit", "*.slo_s", "*.tiers",
)  # fmt: skip
"""Items of a policy that alerts read."""


def _over_slo(policy: Policy, options: ExportOptions, signal: str, limit: WatchedLimit | None) -> AlertRules:
    """Return the alerts of one latency limit: broken, and where no edge lies at it, perhaps broken."""
    name, quantile = OVER_SLO[signal], options.measured.slo_quantile
    if limit is None or quantile is None:
        return AlertRules(losses=(_unwritten(name, options.watched.lacking.get(signal, _NO_LIMIT)),))
    parts = []
    edges, allowed = limit.edges, plain_number(1.0 - quantile)
    if limit.over_high:
        record = _share_record(policy, limit, limit.over_high, edges.high_s)
        alert = _slo_alert(policy, options, limit, name, "critical", f"{_named(record)} > {allowed}")
        parts.append(AlertRules((record,), (alert,)))
    else:
        why = f"no edge of the histogram shows for sure that the limit is broken: {edges.sentence}"
        parts.append(AlertRules(losses=(_unwritten(name, why),)))
    if limit.over_low and not edges.exact:
        record = _share_record(policy, limit, limit.over_low, edges.low_s or 0.0)
        alert = _slo_alert(
            policy, options, limit, MAY_BE_OVER[signal], "info", f"{_named(record)} > {allowed}"
        )
        parts.append(AlertRules((record,), (alert,)))
    return AlertRules.of(parts)


_NO_LIMIT = "no limit was given: hsa run --slo"


def _share_record(policy: Policy, limit: WatchedLimit, promql: str, edge_s: float) -> dict[str, Any]:
    name = f"service:hs_{limit.edges.signal}_over:{model.reading(promql, 'ratio_rate')}"
    labels = {**model.record_labels(policy, limit.role), "edge_s": f"{edge_s:g}"}
    return {"record": name, "expr": promql, "labels": labels}


_SHARE, _VALUE = "{{ $value | humanizePercentage }}", "{{ $value | humanize }}"
"""The value of an alert's expression, as Prometheus writes it into an annotation."""


def _slo_alert(
    policy: Policy, options: ExportOptions, limit: WatchedLimit, name: str, severity: Severity, expr: str
) -> dict[str, Any]:
    edges, quantile = limit.edges, options.measured.slo_quantile or 0.0
    what = f"{_SAMPLES[edges.signal]} {{}} {_seconds(edges.limit_s)}"
    allowed = f"{100.0 * (1.0 - quantile):.4g} % are allowed"
    if edges.exact:
        summary = f"Too many {what.format('take longer than')}."
        shown = f"{_SHARE} of them are over the limit, and {allowed}."
    elif severity == "critical":
        summary = f"Too many {what.format('take longer than the limit of')}."
        shown = (
            f"{_SHARE} of them are over {_seconds(edges.high_s)}, the histogram edge above the limit, and "
            f"{allowed}: nearer to the limit the histogram can't tell, so {edges.advice}."
        )
    else:
        summary = f"Perhaps too many {what.format('take longer than the limit of')}."
        shown = (
            f"{_SHARE} of them are over {_seconds(edges.low_s or 0.0)}, the histogram edge below the limit, "
            f"and {allowed} over the limit itself: {edges.advice} to know."
        )
    action = (
        f"See whether the {limit.role} pool is at its maximum or has slow instances; else raise its minimum."
    )
    if severity == "info":
        action = "Look at the latency in the log of the front end before adding instances."
    return _alert(
        policy, options, name, severity, SLO_FOR_S, expr, (summary, shown, action), signal=edges.signal
    )


def _out_of_band(policy: Policy, options: ExportOptions) -> AlertRules:
    """Return the alert of pools out of proportion by more than bounds, dead bands and rounding explain."""
    ratio = policy.pd_ratio
    band = None if ratio is None else ratio_band(policy, ratio)
    if band is None or len(policy.primaries) != 1 or policy.mode != "metric":
        return AlertRules(losses=(_unwritten(OUT_OF_BAND, _KEEPS_NO_RATIO),))
    counts = {role: _instances_record(policy, options, role) for role in ("prefill", "decode")}
    lacking = [role for role, found in counts.items() if found is None]
    if lacking:
        why = "; ".join(options.watched.lacking.get(f"instances@{role}", _NO_COUNT) for role in lacking)
        return AlertRules(losses=(_unwritten(OUT_OF_BAND, why),))
    prefill, decode = (_named(found) for found in counts.values() if found is not None)
    on = f"on ({', '.join(_SERVICE)})"
    record = {
        "record": "service:hs_prefill_per_decode_instances:ratio",
        "expr": f"{prefill} / {on} {decode}",
        "labels": model.record_labels(policy, "service"),
    }
    low, high = (None if end is None else plain_number(end) for end in band)
    few = f"({prefill} < {on} floor({decode} * {low})){_above_minimum(policy, 'decode', decode)}"
    outside, fit = few, f"{low} and more"
    if high is not None:
        many = f"({prefill} > {on} ceil({decode} * {high})){_above_minimum(policy, 'prefill', prefill)}"
        outside, fit = f"({many}) or {on} ({few})", f"{low} to {high}"
    expr = f"{_named(record)} and {on} ({outside})"
    said = (
        "Prefill and decode instances are out of proportion.",
        f"There are {_VALUE} prefill instances for one of decode, and {fit} fit.",
        f"See whether a pool is at its maximum or can't start instances; else the mix moved: {_STUDY_AGAIN}",
    )
    alert = _alert(policy, options, OUT_OF_BAND, "warning", _ratio_for_s(policy), expr, said)
    return AlertRules((*(found for found in counts.values() if found), record), (alert,))


_KEEPS_NO_RATIO = "the policy keeps no P/D ratio: each pool follows its own signal or a timetable"
_NO_COUNT = "no query counts the instances"


def ratio_band(policy: Policy, ratio: Ratio) -> tuple[float, float | None] | None:
    """Return the least and the most prefill per decode instance that a policy's rules may leave.

    The interval of the ratio, what its rule lets stray from the ratio it holds, and, as an autoscaler moves a
    pool only outside its dead band, that band of either pool. None without a ratio; without a most where
    prefill never shrinks by its signal.
    """
    held = ratio.held
    if held is None:
        return None
    stray = ratio.max_deviation or 0.0
    low = min(end for end in (ratio.low, held - stray) if end is not None)
    high = max(end for end in (ratio.high, held + stray) if end is not None)
    bands = [policy.hysteresis.get(role) for role in ("prefill", "decode")]
    shrink = [1.0 if band is None else min(band.scale_in_ratio, 1.0) for band in bands]
    grow = [1.0 if band is None else max(band.scale_out_ratio, 1.0) for band in bands]
    return low * shrink[1] / grow[0], high * grow[1] / shrink[0] if shrink[0] > 0 else None


def _above_minimum(policy: Policy, role: str, count: str) -> str:
    """Return the condition that a pool could be smaller: at its minimum it is too large by intention."""
    bounds: Bounds | None = policy.bounds.get(role)
    return "" if bounds is None else f" and on ({', '.join(_SERVICE)}) {count} > {bounds.min}"


def _ratio_for_s(policy: Policy) -> float:
    start_up_s = max(policy.start_up_s.values(), default=None)
    return RATIO_FOR_S if start_up_s is None else start_up_s + SUSTAINED_S


def _target_drifted(
    policy: Policy, options: ExportOptions, primary: Primary, limits: Mapping[str, WatchedLimit]
) -> AlertRules:
    """Return the alert of an SLO that breaks at a load below the target of an instance.

    On the history that the policy was made from it never fires: where that broke the SLO below the target for
    as long as the alert waits, the alert speaks of loads below that.
    """
    role, quantile = primary.role, options.measured.slo_quantile
    name, signals = f"{TARGET_DRIFTED} of {role}", LATENCIES.get(role, ())
    over = [
        _share_record(policy, limits[signal], limits[signal].over_high, limits[signal].edges.high_s)
        for signal in signals
        if signal in limits and limits[signal].over_high
    ]
    safe = _safe_load(primary)
    if safe is None or not primary.promql:
        return AlertRules(losses=(_unwritten(name, "the policy has no target or no query for it"),))
    if not over or quantile is None:
        missing = dict.fromkeys(options.watched.lacking.get(signal, _NO_LIMIT) for signal in signals)
        return AlertRules(losses=(_unwritten(name, "; ".join(missing)),))
    load, records = _load_record(policy, options, primary)
    if load is None:
        why = options.watched.lacking.get(f"instances@{role}", _NO_COUNT)
        return AlertRules(losses=(_unwritten(name, why),))
    seen = options.watched.broken_at.get(f"{primary.signal}@{role}", math.inf)
    losses: tuple[Loss, ...] = ()
    if DRIFT_MARGIN * seen < safe:
        losses = (_lowered(name, primary, seen, safe),)
        safe = DRIFT_MARGIN * seen
    on = f"on ({', '.join(_POOL)})"
    broken = f" or {on} ".join(f"{_named(record)} > {plain_number(1.0 - quantile)}" for record in over)
    expr = f"{load} < {plain_number(safe)} and {on} ({broken})"
    said = (
        f"The SLO is broken although the {role} instances carry less than "
        f"{'what broke it in the history' if losses else 'their target'}.",
        f"An instance carries {_VALUE} {primary.unit} of {primary.signal}; "
        f"{'limit' if losses else 'target'} {plain_number(safe)}.",
        f"Look for slow {role} instances first; if there are none, the target is too high: {_STUDY_AGAIN}",
    )
    alert = _alert(
        policy, options, TARGET_DRIFTED, "warning", DRIFT_FOR_S, expr, said, signal=primary.signal, role=role
    )
    return AlertRules((*records, *over), (alert,), losses)


def _lowered(name: str, primary: Primary, seen: float, safe: float) -> Loss:
    """Return the loss of an alert that would have fired on the history that the policy was made from."""
    unit, lasted = f"{primary.unit} of {primary.signal} per instance", queries.duration(DRIFT_FOR_S)
    return Loss(
        f"alerts.{name}", "approximated",
        f"the history itself broke the SLO for {lasted} at {plain_number(seen)} {unit}, below the target of"
        f" {plain_number(safe)}: the alert fires below {plain_number(DRIFT_MARGIN * seen)} only",
    )  # fmt: skip


def _safe_load(primary: Primary) -> float | None:
    """Return the load of an instance at which the policy counts on the SLO [unit of the signal].

    It is the target and not the capacity: there, just as many windows break the SLO as hold it.
    """
    target = primary.target_per_instance.value
    # The smallest pod of a pool that mixes types reaches its capacity first.
    return None if target is None else target * min(primary.gpu_types.values(), default=1.0)


def _load_record(
    policy: Policy, options: ExportOptions, primary: Primary
) -> tuple[str | None, tuple[dict[str, Any], ...]]:
    """Return what one instance carries as a recorded name, and what is recorded for it."""
    labels = model.record_labels(policy, primary.role)
    recorded = {"record": model.record_name(primary), "labels": labels}
    if primary.pool == "mean":
        return _named(recorded), ()
    count = _instances_record(policy, options, primary.role)
    if count is None:
        return None, ()
    level, name, operation = model.record_name(primary).split(":")
    each = {
        "record": f"{level}:{name}_per_instance:{operation}",
        "expr": f"{_named(recorded)} / on ({', '.join(_POOL)}) {_named(count)}",
        "labels": labels,
    }
    return _named(each), (count, each)


def _instances_record(policy: Policy, options: ExportOptions, role: str) -> dict[str, Any] | None:
    promql = options.watched.instances.get(role)
    if not promql:
        return None
    name = f"service:hs_instances:{model.reading(promql, 'count')}"
    return {"record": name, "expr": promql, "labels": model.record_labels(policy, role)}


def _mix_drifted(policy: Policy, options: ExportOptions) -> AlertRules:
    """Return the alerts of tokens of a request that the history did not hold."""
    parts = [_length_drifted(policy, options, length) for length in options.watched.lengths]
    written = {length.name for length in options.watched.lengths}
    for name in LENGTHS:
        if name not in written:
            why = options.watched.lacking.get(name, "the history does not count them")
            parts.append(AlertRules(losses=(_unwritten(f"{MIX_DRIFTED} of {name}", why),)))
    return AlertRules.of(parts)


LENGTHS = {"prompt_tokens": "prompt", "output_tokens": "output"}
"""Tokens of a request that targets depend on, and their name in a sentence."""


def _length_drifted(policy: Policy, options: ExportOptions, length: WatchedLength) -> AlertRules:
    labels = model.record_labels(policy, "service")
    low, high = (plain_number(end) for end in (length.least / MIX_MOVED_RATIO, length.most * MIX_MOVED_RATIO))
    requests = {
        "record": f"service:hs_requests_of_{length.name}:{model.reading(length.requests)}",
        "expr": length.requests,
        "labels": labels,
    }
    mean = {
        "record": f"service:hs_{length.name}_per_request:{model.reading(length.tokens, 'mean')}",
        "expr": f"{_grouped(length.tokens)} / {_grouped(length.requests)}",
        "labels": labels,
    }
    counted = f"{_named(requests)} * {LENGTHS_OVER_S:g} >= {LENGTHS_REQUESTS}"
    expr = f"({_named(mean)} < {low} or {_named(mean)} > {high}) and on ({', '.join(_POOL)}) {counted}"
    what = LENGTHS[length.name]
    said = (
        f"The {what} tokens of a request are not those of the history that the policy was made from.",
        f"The mean of the last hour is {_VALUE} tokens; hourly means of the history were "
        f"{plain_number(length.least)} to {plain_number(length.most)}.",
        f"Targets may not fit any more: {_STUDY_AGAIN}",
    )
    alert = _alert(policy, options, MIX_DRIFTED, "info", LENGTHS_FOR_S, expr, said, signal=length.name)
    return AlertRules((requests, mean), (alert,))


def _grouped(promql: str) -> str:
    return f"({promql})" if ") " in promql else promql


def _signal_missing(policy: Policy, options: ExportOptions, item: Primary | Guard) -> AlertRules:
    """Return the alert of a signal that is gone; one of the policy's without a query is a loss."""
    if not item.promql:
        why = "no series of the input carries it, so there is no query to watch"
        return AlertRules(losses=(_unwritten(f"{SIGNAL_MISSING} of {item.signal}", why),))
    steers = isinstance(item, Primary) and policy.mode == "metric"
    record = {"record": model.record_name(item), "labels": model.record_labels(policy, item.role)}
    runs = CONTROLLER_TITLES.get(policy.controller, policy.controller)
    said = (
        f"The signal {item.signal} of {item.role} is missing.",
        f"{runs} holds the {item.role} pool or falls back until the signal returns."
        if steers
        else f"Nobody sees {item.signal} of {item.role} until it returns.",
        "See whether its targets are scraped, its recording rule is loaded, or a release renamed the metric.",
    )
    severity: Severity = "critical" if steers else "warning"
    alert = _alert(
        policy, options, SIGNAL_MISSING, severity, MISSING_FOR_S, f"absent({_named(record)})", said,
        signal=item.signal, role=item.role,
    )  # fmt: skip
    return AlertRules(alerts=(alert,))


def _guard_reached(policy: Policy, options: ExportOptions, guard: Guard) -> AlertRules:
    """Return the alert of a guard: its own threshold, and the time between two decisions of the policy."""
    name = f"{GUARD_REACHED} of {guard.signal}"
    if not guard.promql:
        why = "no series of the input carries it, so there is no query to watch"
        return AlertRules(losses=(_unwritten(name, why),))
    record = {"record": model.record_name(guard), "labels": model.record_labels(policy, guard.role)}
    above = min((tier.above_ratio for tier in guard.tiers), default=1.0)
    add = min((tier.add_fraction for tier in guard.tiers), default=0.0)
    runs = CONTROLLER_TITLES.get(policy.controller, policy.controller)
    if policy.controller == "heteroscale":
        action = f"Watch the {guard.role} pool grow by {100.0 * add:.4g} %: the guard adds it by itself."
    else:
        action = f"Raise the minimum of the pool by {100.0 * add:.4g} % for now: {runs} runs no guard."
    said = (
        f"The mean {guard.signal.upper()} is at the guard of the {guard.role} pool.",
        f"It is {{{{ $value | humanizeDuration }}}}, and the guard is at {_seconds(above * guard.slo_s)}.",
        action,
    )
    expr = f"{_named(record)} > {plain_number(above * guard.slo_s)}"
    alert = _alert(
        policy, options, GUARD_REACHED, "warning", policy.window_s, expr, said,
        signal=guard.signal, role=guard.role,
    )  # fmt: skip
    return AlertRules(alerts=(alert,))


def _alert(
    policy: Policy,
    options: ExportOptions,
    name: str,
    severity: Severity,
    for_s: float,
    expr: str,
    said: tuple[str, str, str],
    **labels: str,
) -> dict[str, Any]:
    """Return an alert; ``said`` is what it means, what it sees, and what to do."""
    summary, description, action = said
    annotations = {"summary": summary, "description": description, "action": action}
    if options.runbook_url:
        annotations["runbook_url"] = options.runbook_url
    fixed = {"severity": severity, **model.record_labels(policy, ""), **labels}
    return {
        "alert": name,
        "expr": expr,
        "for": queries.duration(for_s),
        "labels": {key: _literal(value) for key, value in fixed.items() if value},
        "annotations": annotations,
    }


def _literal(text: str) -> str:
    """Return a text of the user's that Prometheus shows as it is: labels of an alert are templates."""
    return text.replace("{{", '{{"{{"}}')


def _unwritten(name: str, why: str) -> Loss:
    return Loss(f"alerts.{name}", "dropped", f"the alert is not written: {why}")


def _named(rule: Mapping[str, Any]) -> str:
    """Return the selector of exactly one recorded series."""
    matchers = ",".join(f"{key}={quoted(value)}" for key, value in rule["labels"].items())
    return f"{rule['record']}{{{matchers}}}"


def _seconds(value: float) -> str:
    return f"{value * 1000.0:.4g} ms" if value < 1.0 and math.isfinite(value) else f"{value:.4g} s"
