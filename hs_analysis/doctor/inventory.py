"""What was found per signal and role, what each stage lacks, and the switch that gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.doctor.context import DoctorContext
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame, SignalInfo, column
from hs_analysis.schema.constants import STARTUP_S

AUXILIARY = "auxiliary"

INVENTORY: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(
    ("service", "role", "signal", "source"), pl.String
)
INVENTORY |= dict.fromkeys(("series", "rows"), pl.Int64)
INVENTORY |= dict.fromkeys(("first", "last"), pl.Datetime("us", "UTC"))
INVENTORY |= dict.fromkeys(("span_s", "interval_s", "news_s"), pl.Float64)
INVENTORY |= dict.fromkeys(("gaps", "resets"), pl.Int64)
INVENTORY |= dict.fromkeys(("low", "high", "coverage"), pl.Float64)
INVENTORY |= dict.fromkeys(("scale", "role_evidence", "other_source"), pl.String)
INVENTORY |= {"difference": pl.Float64}
"""Columns of `inventory`."""


def inventory(context: DoctorContext) -> pl.DataFrame:
    """Return one row per service, role and signal of the catalogue.

    Columns: service, role, signal, source, series, rows, first, last, span_s, interval_s (usual spacing),
    news_s (time between values that change), gaps, resets, low, high (exporter's unit), coverage (share of
    windows with a value), scale (how the unit is known), role_evidence, other_source and difference (median
    relative difference to another source of the same signal; null where there is none or it agrees).
    """
    joined = context.series.join(context.quality.drop("interval_s"), "series_id").filter(
        pl.col("signal").is_not_null()
    )
    differing = {
        (row["service"], row["role"], row["signal"]): (row["other"], row["difference"])
        for row in context.disagreements.sort("difference").iter_rows(named=True)
    }
    rows = []
    for frame in context.frames:
        own = joined.filter(pl.col("service") == frame.service)
        for info in frame.signals:
            if context.catalogue.signal(info.signal) is None:
                continue
            carried = _carrying(own, info.signal, info.role, info.source, context)
            difference = differing.get((frame.service, info.role, info.signal), (None, None))
            rows.append(_inventory_row(frame.service, info, carried, *difference))
    return pl.DataFrame(rows, schema=INVENTORY)


def _inventory_row(
    service: str, info: SignalInfo, carried: pl.DataFrame, other: str | None, difference: float | None
) -> dict[str, object]:
    first, last = carried["first_t"].min(), carried["last_t"].max()
    return {
        "service": service,
        "role": info.role,
        "signal": info.signal,
        "source": info.source,
        "series": carried.height,
        "rows": int(carried["rows"].sum()),
        "first": first,
        "last": last,
        "span_s": _seconds(first, last),
        "interval_s": carried["interval_s"].median(),
        "news_s": carried["news_s"].median(),
        "gaps": int(carried["gaps"].sum()),
        "resets": int(carried["resets"].sum()),
        "low": carried["low"].min(),
        "high": carried["high"].max(),
        "coverage": info.coverage,
        "scale": _scale(carried),
        "role_evidence": ", ".join(sorted(set(carried["role_evidence"]))),
        "other_source": other,
        "difference": difference,
    }


def _seconds(first: object, last: object) -> float | None:
    both = isinstance(first, datetime) and isinstance(last, datetime)
    return (last - first).total_seconds() if both else None  # type: ignore[operator]  # datetimes


def _scale(carried: pl.DataFrame) -> str | None:
    """Return how the unit of the series is known: by values, by documentation, or not."""
    kinds = sorted({str(text).partition(":")[0] for text in carried["scale_evidence"].drop_nulls()})
    return ", ".join(kinds) or ("documented" if carried.height else None)


def _carrying(own: pl.DataFrame, signal: str, role: str, source: str, context: DoctorContext) -> pl.DataFrame:
    """Return the series that carry a signal of a role, by the metrics the catalogue gives for the source."""
    known = context.catalogue.signal(signal)
    metrics = {
        metric for row in (known.sources if known else ()) if row.source == source for metric in row.metrics
    }
    found = own.filter(pl.col("metric").is_in(list(metrics)))
    pooled = found.filter(pl.col("emitter_role") == role)
    return pooled if role in POOL_ROLES and pooled.height else found


def missing_signals(context: DoctorContext) -> list[dict[str, str]]:
    """Return the wanted signals of the catalogue that no service has: signal, role, how_to_enable; sorted."""
    missing: dict[tuple[str, str], str] = {}
    for frame in context.frames:
        for signal in context.catalogue.signals:
            if signal.family == AUXILIARY or not signal.wanted:
                continue
            for role in _roles(signal.role, frame):
                if not frame.has(signal.id, role):
                    missing[signal.id, role] = signal.enable
    return [
        {"signal": signal, "role": role, "how_to_enable": enable}
        for (signal, role), enable in sorted(missing.items())
    ]


def _roles(role: str, frame: ServiceFrame) -> tuple[str, ...]:
    if role == "emitter":
        return frame.pools
    if role in POOL_ROLES and column("instances", "mixed") in frame.table.columns:
        return ("mixed",)
    return (role,)


REQUIREMENTS: dict[str, type[pl.DataType]] = dict.fromkeys(
    ("service", "stage", "role", "need", "state", "without", "how"), pl.String
)
"""Columns of `requirements`; ``state`` is met or lacks, ``without`` what the stage then leaves out."""

ALL_STAGES = ("study", "capacity", "ratio", "selection and replay", "start-up", "guards", "cost")

ROLE_LABEL = (
    "add to the scrape job `relabel_configs: [{action: labelmap, regex: "
    "__meta_kubernetes_pod_label_(llm_d_ai_role|role_name)}]`; or run kube-state-metrics with "
    "`--metric-labels-allowlist=pods=[llm-d.ai/role,role-name]` and export kube_pod_labels, which is joined "
    "on (namespace, pod); or name the pods under [roles] in hsa.toml"
)
"""How a pod gets its role: Prometheus' own relabelling, kube-state-metrics' flag, or the user's word."""

SCRAPE_PODS = "scrape every pod by itself, not through the Service, and keep the label pod or instance"

KEEP_BUCKETS = (
    "keep every le of vllm:{family}_bucket or dynamo_frontend_{family}_bucket in metric_relabel_configs, and "
    "export it with the rest"
)

KEEP_LENGTHS = (
    "keep _sum and _count of dynamo_frontend_{0}_tokens, vllm:request_{1}_tokens or "
    "sglang:{1}_tokens_histogram"
)

_IsMet = Callable[[DoctorContext, ServiceFrame, str], bool]


@dataclass(frozen=True)
class Requirement:
    """One thing a stage needs.

    Attributes
    ----------
    stage
        Which.
    roles
        ``service``, or the pools it is needed of; those of a single pool are asked of ``mixed``.
    need
        What, in words.
    met
        Whether a service has it for a role.
    without
        What is left out where it has not.
    how
        How to get it: a signal of the catalogue, whose own words are used, or the words.
    split
        Whether only a service with two pools needs it.
    """

    stage: str
    roles: tuple[str, ...]
    need: str
    met: _IsMet
    without: str
    how: str
    split: bool = False


def _has(*signals: str) -> _IsMet:
    """Return whether any of the signals is there for the role or the service."""

    def met(_context: DoctorContext, frame: ServiceFrame, role: str) -> bool:
        return any(frame.has(signal, place) for signal in signals for place in (role, "service"))

    return met


def _limit(signal: str) -> _IsMet:
    return lambda context, _frame, _role: context.settings.slo.limit_s(signal) is not None


def _bucketed(signal: str) -> _IsMet:
    """Return whether shares over the limit are known; without a limit it is that which is lacking."""
    shares = _has(f"{signal}_over", f"{signal}_over_least")

    def met(context: DoctorContext, frame: ServiceFrame, role: str) -> bool:
        return context.settings.slo.limit_s(signal) is None or shares(context, frame, role)

    return met


def _offered(_context: DoctorContext, frame: ServiceFrame, _role: str) -> bool:
    return frame.reference == "offered"


def _works(_context: DoctorContext, frame: ServiceFrame, role: str) -> bool:
    """Return whether the work of a pool is known, offered or served: the mix is one pool's by the other's."""
    return frame.has("offered_tps", role) or frame.has(*frame.served(role))


def _has_role(context: DoctorContext, frame: ServiceFrame, _role: str) -> bool:
    own = context.series.filter(pl.col("service") == frame.service).drop_nulls(["instance", "signal"])
    return "unknown" not in own["emitter_role"]


def _started(context: DoctorContext, _frame: ServiceFrame, role: str) -> bool:
    return bool({role, "*"} & set(context.settings.startup_s))


def _counted(_context: DoctorContext, frame: ServiceFrame, role: str) -> bool:
    return role in frame.gpus_per_instance


def _priced(context: DoctorContext, frame: ServiceFrame, role: str) -> bool:
    types = frame.gpu_types.get(role, ())
    return bool(types) and set(types) <= set(context.settings.prices)


_SERVICE, _PREFILL, _DECODE = ("service",), ("prefill",), ("decode",)
_POOLS = (*_PREFILL, *_DECODE)

REQUIREMENT_ROWS: tuple[Requirement, ...] = (
    Requirement("study", _SERVICE, "a role for every pod", _has_role, "pods without one count in no pool",
        ROLE_LABEL),
    Requirement("study", _SERVICE, "requests that arrive", _offered,
        "signals are judged against served work", "request_rate"),
    Requirement("study", _POOLS, "instances that report", _has("instances"), "no signal per instance",
        SCRAPE_PODS),
    Requirement("study", _PREFILL, "prompt tokens per second", _has("prefill_tps", "prefill_tps_effective"),
        "no throughput signal of prefill", "prefill_tps"),
    Requirement("study", _DECODE, "output tokens per second", _has("decode_tps"),
        "no throughput signal of decode", "decode_tps"),
    Requirement("study", _POOLS, "SM activity", _has("sm_activity"), "no hardware signal but GPU utilisation",
        "sm_activity"),
    Requirement("capacity", _PREFILL, "a limit on TTFT", _limit("ttft"),
        "targets are a load that prefill carried, without a claim on latency",
        "--slo ttft=2s, or ttft under [slo]"),
    Requirement("capacity", _DECODE, "a limit on TBT", _limit("tbt"),
        "targets are a load that decode carried, without a claim on latency",
        "--slo tbt=50ms, or tbt under [slo]"),
    Requirement("capacity", _PREFILL, "TTFT", _has("ttft"), "no capacity of prefill", "ttft"),
    Requirement("capacity", _PREFILL, "buckets of TTFT around the limit", _bucketed("ttft"),
        "means replace the share of requests over the limit",
        KEEP_BUCKETS.format(family="time_to_first_token_seconds")),
    Requirement("capacity", _PREFILL, "prompt tokens that were computed", _has("prefill_tps_effective"),
        "cache hits count as work, so capacity depends on the hit ratio", "prefill_tps_effective"),
    Requirement("capacity", _DECODE, "TBT", _has("tbt"), "no capacity of decode", "tbt"),
    Requirement("capacity", _DECODE, "buckets of TBT around the limit", _bucketed("tbt"),
        "means replace the share of token gaps over the limit",
        KEEP_BUCKETS.format(family="inter_token_latency_seconds")),
    Requirement("ratio", _POOLS, "a pool of its own", _has("instances"), "no P/D ratio", ROLE_LABEL,
        split=True),
    Requirement("ratio", _PREFILL, "its work in tokens", _works, "the mix can't be said", "prefill_tps",
        split=True),
    Requirement("ratio", _DECODE, "its work in tokens", _works, "the mix can't be said", "decode_tps",
        split=True),
    Requirement("ratio", _SERVICE, "prompt lengths", _has("input_length"),
        "if the mix moves, not what moved it", KEEP_LENGTHS.format("input_sequence", "prompt"), split=True),
    Requirement("ratio", _SERVICE, "output lengths", _has("output_length"),
        "if the mix moves, not what moved it", KEEP_LENGTHS.format("output_sequence", "generation"),
        split=True),
    Requirement("selection and replay", _SERVICE, "offered load, not served", _offered,
        "an overload looks like less load: the backtest flatters", "request_rate"),
    Requirement("selection and replay", _POOLS, "the fleet as it was", _has("instances"),
        "no comparison with what ran", "replicas_ready"),
    Requirement("start-up", _POOLS, "seconds until a new instance serves", _started,
        f"{STARTUP_S:g} s is assumed, which sets cooldowns and head-room",
        "--startup {role}=240s, or {role} under [startup]"),
    Requirement("guards", _PREFILL, "TTFT", _has("ttft"), "no latency guard on prefill", "ttft"),
    Requirement("guards", _PREFILL, "waiting requests", _has("queue_length"), "no queue guard on prefill",
        "queue_length"),
    Requirement("guards", _DECODE, "TBT", _has("tbt"), "no latency guard on decode", "tbt"),
    Requirement("guards", _DECODE, "KV-cache usage", _has("kv_usage"), "no memory guard on decode",
        "kv_usage"),
    Requirement("cost", _POOLS, "GPUs of an instance", _counted, "instance-hours, no GPU-hours",
        "export a GPU metric with UUID and pod (dcgm-exporter with DCGM_EXPORTER_KUBERNETES=true), or set "
        "{role} under [gpus]"),
    Requirement("cost", _POOLS, "a price of its GPUs", _priced, "GPU-hours, no money",
        "set the price of each GPU model under [prices]"),
)  # fmt: skip
"""Everything later stages need, in the order of the stages."""


_NOTHING = "nothing can be said"
_WITHOUT_METRICS = {"ratio": "only ratio tests in benchmarks are answered"}
"""What an input without metrics over time gives all the same, by stage."""


def requirements(context: DoctorContext) -> pl.DataFrame:
    """Return what each later stage needs and lacks, frame NEEDS.

    One row per service, need and role, in the order of the services and stages. An input without metrics over
    time lacks everything: one row a stage, without a service.
    """
    rows = [
        _row(need, context, frame, role)
        for frame in context.frames
        for need in REQUIREMENT_ROWS
        for role in _roles_of(need, frame)
    ]
    if not context.frames:
        how = "hsa export-plan prints the queries; hsa pull runs them"
        rows = [
            ("", stage, "service", "metrics over time", "lacks", _WITHOUT_METRICS.get(stage, _NOTHING), how)
            for stage in ALL_STAGES
        ]
    return pl.DataFrame(rows, schema=REQUIREMENTS, orient="row")


def _row(need: Requirement, context: DoctorContext, frame: ServiceFrame, role: str) -> tuple[str, ...]:
    met = need.met(context, frame, role)
    how = how_to_get(need, context.catalogue).replace("{role}", role)
    return frame.service, need.stage, role, need.need, "met" if met else "lacks", need.without, how


def how_to_get(need: Requirement, catalogue: Catalogue) -> str:
    """Return how to get what is needed: in the catalogue's words where it is a signal."""
    known = catalogue.signal(need.how)
    return known.enable if known else need.how


def _roles_of(need: Requirement, frame: ServiceFrame) -> tuple[str, ...]:
    """Return the roles a need is asked for: a single pool does the work of both."""
    if "mixed" not in frame.pools:
        return need.roles
    if need.split:
        return ()
    return tuple(dict.fromkeys("mixed" if role in POOL_ROLES else role for role in need.roles))
