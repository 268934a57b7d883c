"""The parts of policy.yaml in the order of their keys, and its JSON Schema.

What the policy itself is made of is declared in `policy.model`; here is what the file has around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from hs_analysis.controllers.heteroscale import GpuLimit
from hs_analysis.controllers.hpa import Surge
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Guard,
    Hysteresis,
    Mode,
    PeriodicEntry,
    Primary,
    Ratio,
    Runner,
    SoftScaleIn,
    Step,
)
from hs_analysis.schema.declare import Field
from hs_analysis.schema.json_schema import SCHEMA_FILES, Json, whole_schema

SCHEMA = "hs-analysis/policy/v1alpha2"

_NO_POOL = "the service has no such pool"


@dataclass(frozen=True)
class Metadata:
    """What the policy is of, and which run made it."""

    service: Annotated[str, Field("namespace/model")]
    window: Annotated[dict[str, Any], Field("history it was fitted on", "UTC")]
    tool_version: Annotated[str, Field("version of hs_analysis")]
    inputs_sha256: Annotated[str, Field("SHA-256 of the inputs")]
    run: Annotated[str, Field("the run, as evidence links name it")]


@dataclass(frozen=True)
class ReadingRule:
    """What of a signal is compared with its target."""

    window_s: Annotated[float, Field("width of the mean that is read", "s", above=0)]
    out: Annotated[str, Field("growth follows the mean that is the", words=("newest",))]
    in_: Annotated[str, Field("shrinking follows the mean that is the", words=("highest",), key="in")]
    over_s: Annotated[float, Field("time in which the means ended of which it is the highest", "s", above=0)]
    surge: Annotated[
        Surge | None,
        Field("fresher mean that is read instead while it is higher", absent="the mean over window_s is all"),
    ] = None


@dataclass(frozen=True)
class BandOfRoles:
    """Band of each pool."""

    prefill: Annotated[Hysteresis, Field("of the prefill pool", absent=_NO_POOL)]
    decode: Annotated[Hysteresis, Field("of the decode pool", absent=_NO_POOL)]
    mixed: Annotated[Hysteresis, Field("of the undivided pool", absent=_NO_POOL)]


@dataclass(frozen=True)
class BandsByRole:
    """The calmest band for readers, and each pool's own by role."""

    scale_out_ratio: Annotated[float, Field("highest of the pools", "ratio")]
    scale_in_ratio: Annotated[float, Field("lowest of the pools", "ratio")]
    by_role: Annotated[BandOfRoles, Field("the band of each pool")]


@dataclass(frozen=True)
class RestOfRoles:
    """Rest of each pool."""

    prefill: Annotated[Cooldown, Field("of the prefill pool", absent=_NO_POOL)]
    decode: Annotated[Cooldown, Field("of the decode pool", absent=_NO_POOL)]
    mixed: Annotated[Cooldown, Field("of the undivided pool", absent=_NO_POOL)]


@dataclass(frozen=True)
class RestsByRole:
    """The longest rest for readers, and each pool's own by role."""

    scale_out_s: Annotated[float | None, Field("longest of the pools; null = one is unknown", "s")]
    scale_in_s: Annotated[float | None, Field("longest of the pools; null = one is unknown", "s")]
    by_role: Annotated[RestOfRoles, Field("the rest of each pool")]


@dataclass(frozen=True)
class PoolBounds:
    """Least and most instances of each pool, and the limit on GPUs of all of them."""

    prefill: Annotated[Bounds, Field("of the prefill pool", absent=_NO_POOL)]
    decode: Annotated[Bounds, Field("of the decode pool", absent=_NO_POOL)]
    mixed: Annotated[Bounds, Field("of the undivided pool", absent=_NO_POOL)]
    gpus: Annotated[GpuLimit, Field("GPUs that all pools may hold together", absent="there is no limit")]


@dataclass(frozen=True)
class Evaluation:
    """How often it decides, and what it knows of start-up."""

    window_s: Annotated[float, Field("time between two decisions", "s")]
    start_up_s: Annotated[dict[str, float], Field("start-up time by role", "s")]


@dataclass(frozen=True)
class Spec:
    """The policy."""

    mode: Annotated[Mode, Field("follow the metrics or a timetable, or change nothing:")]
    unit: Annotated[str, Field("what one instance is: group or pod")]
    primaries: Annotated[
        tuple[Primary, ...], Field("signals that size pools: one for both where there is a ratio", most=2)
    ]
    pd_ratio: Annotated[
        Ratio | None,
        Field("kept where one primary sizes both pools; else null, or what a ratio test measured"),
    ]
    controller: Annotated[Runner, Field("whose semantics it was selected and replayed with:")]
    reading: Annotated[ReadingRule, Field("what of a signal is compared with its target")]
    hysteresis: Annotated[Hysteresis | BandsByRole | None, Field("wanted ÷ current that it acts on")]
    cooldown: Annotated[Cooldown | RestsByRole | None, Field("rest after an action")]
    step: Annotated[Step, Field("limits of one action")]
    guards: Annotated[tuple[Guard, ...], Field("latencies that may add instances and forbid removal")]
    soft_scale_in: Annotated[SoftScaleIn | None, Field("how instances leave")]
    bounds: Annotated[PoolBounds, Field("least and most instances")]
    evaluation: Annotated[Evaluation, Field("how often it decides")]
    on_missing_metric: Annotated[str, Field("what it does without a metric:", words=("hold",))]
    periodic: Annotated[tuple[PeriodicEntry, ...], Field("fixed counts by time of day")]
    placement: Annotated[dict[str, Any], Field("network affinity and GPU types", "JSON")]


@dataclass(frozen=True)
class Status:
    """How far to trust the policy."""

    recommended: Annotated[bool, Field("false: keep what runs, or record more")]
    confidence: Annotated[str, Field("how sure it is:", words=("high", "medium", "low"))]
    confidence_reasons: Annotated[tuple[str, ...], Field("what lowers it, in sentences")]
    refusals: Annotated[tuple[str, ...], Field("what the data could not answer: code and sentence")]
    replay: Annotated[dict[str, Any], Field("what the backtest said", "JSON")]


@dataclass(frozen=True)
class PolicyDocument:
    """One service's policy. Ratios are prefill ÷ decode, times are UTC, what is not known is null."""

    schema: Annotated[str, Field("version of the file's shape:", words=(SCHEMA,))]
    metadata: Annotated[Metadata, Field("what it is of")]
    spec: Annotated[Spec, Field("the policy")]
    status: Annotated[Status, Field("how far to trust it")]


MODELINE = f"# yaml-language-server: $schema={SCHEMA_FILES['policy']}\n"
"""First line of a policy.yaml beside which its schema lies: editors check it and complete its keys."""


def json_schema() -> Json:
    """Return the JSON Schema of a document of policy.yaml."""
    identifier = f"urn:hs-analysis:policy:{SCHEMA.rpartition('/')[2]}"
    return whole_schema(PolicyDocument, identifier, "policy.yaml of hs_analysis, one document a service", {})
