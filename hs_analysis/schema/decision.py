"""What to do with a policy, and what that changes: counts, hours, risk, limits and scale-in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from hs_analysis.schema.declare import Field
from hs_analysis.schema.results import Interval, Reason

Confidence = Literal["high", "medium", "low"]
Recommend = Literal["apply", "keep", "record"]

_SHARE = "ratio 0..1"
_DRAWN = "95 % interval; see interval_basis"


@dataclass(frozen=True, kw_only=True)
class CountsAtLoad:
    """Instances of one pool at one load of what was backtested, means over the windows near it."""

    load: Annotated[float, Field("offered work of the pool", "tokens/s")]
    now: Annotated[float | None, Field("as recorded", "instances")] = None
    recommended: Annotated[float | None, Field("as the policy asked for in the replay", "instances")] = None


@dataclass(frozen=True, kw_only=True)
class PoolDecision:
    """Instances of one pool, as recorded and as recommended."""

    role: Annotated[str, Field("prefill, decode or mixed")]
    now: Annotated[float | None, Field("mean over what `backtested` names", "instances")] = None
    recommended: Annotated[float | None, Field("mean over what `backtested` names", "instances")] = None
    at_load: Annotated[
        dict[str, CountsAtLoad],
        Field("at the load that a tenth of the windows is below (low), the median (usual), and the highest "
              "tenth (peak)"),
    ] = field(default_factory=dict)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SloRisk:
    """How often the policy is expected to break the SLO."""

    undisturbed: Annotated[float | None, Field("share of windows of `backtested`", _SHARE)] = None
    undisturbed_range: Annotated[Interval | None, Field("how far the replay may be off", _SHARE)] = None
    recorded: Annotated[float | None, Field("the same of what ran, in the same model", _SHARE)] = None
    under_faults: Annotated[
        float | None, Field("share of windows under the nine faults in steep hours, their mean", _SHARE)
    ] = None
    under_bursts: Annotated[
        float | None, Field("the same under bursts that double the load within a start-up time", _SHARE)
    ] = None
    default_hpa_under_faults: Annotated[
        float | None, Field("under the faults, an HPA with Kubernetes' defaults on the same targets", _SHARE)
    ] = None
    default_hpa_under_bursts: Annotated[float | None, Field("the same under bursts", _SHARE)] = None
    faults_at_most: Annotated[
        bool, Field("whether shares under faults and bursts are upper bounds, for a capacity is a floor")
    ] = False


@dataclass(frozen=True, kw_only=True)
class LimitHeld:
    """When limits of the user's own held one pool below what its controller wanted."""

    role: Annotated[str, Field("prefill, decode or mixed")]
    windows: Annotated[int, Field("windows in which the count was held", "windows")]
    first: Annotated[str, Field("start of the first of them", "UTC")]
    last: Annotated[str, Field("end of the last of them", "UTC")]


@dataclass(frozen=True, kw_only=True)
class LimitCost:
    """What limits of the user's own cost on the test window: the same object with and without them."""

    pools: Annotated[tuple[LimitHeld, ...], Field("pools that were held")]
    zone: Annotated[str, Field("time zone of the settings, in which the hours are said (IANA name)")]
    slo_violation_ratio: Annotated[float | None, Field("share of windows over the SLO", _SHARE)] = None
    slo_violation_ratio_without: Annotated[float | None, Field("the same without the limits", _SHARE)] = None
    instance_hours: Annotated[float | None, Field("on the test window", "instance-hours")] = None
    instance_hours_without: Annotated[
        float | None, Field("the same without the limits", "instance-hours")
    ] = None


GraceSource = Literal["setting", "file", "default"]
"""What says how long a pod has to end its requests: ``[grace]``, a pod template, or nothing."""


@dataclass(frozen=True, kw_only=True)
class ScaleIn:
    """What scale-in costs: requests that outlast the grace period of a pod that leaves are cut."""

    role: Annotated[str, Field("pool that gives output: decode or mixed")]
    grace_s: Annotated[float, Field("terminationGracePeriodSeconds of its pods", "s")]
    grace_from: Annotated[
        GraceSource, Field("[grace] of the settings, a pod template among --current, or Kubernetes' default:")
    ]
    grace_where: Annotated[str, Field("file and line of the pod template")] = ""
    instances_leaving_per_day: Annotated[
        float | None, Field("instances that leave in the replay", "1/day")
    ] = None
    longest_request_s: Annotated[
        float | None, Field("99.9 % of requests end within it; null beyond the last bucket", "s")
    ] = None
    longest_request_bound_s: Annotated[
        float | None, Field("the bucket edge above it, the last one where it lies beyond", "s")
    ] = None
    is_at_least: Annotated[
        bool,
        Field("the buckets end before 99.9 % of requests do: longest and cut requests are at least this"),
    ] = False
    requests_cut_per_day: Annotated[
        float | None,
        Field("requests running on instances that leave × the share of them that outlasts the grace period",
              "1/day"),
    ] = None  # fmt: skip
    change: Annotated[
        str | None, Field("line of the pod template that lets them end; null when not needed")
    ] = None
    reason: Annotated[Reason | None, Field("why a number is null, and what to record")] = None


@dataclass(frozen=True, kw_only=True)
class PolicyDecision:
    """What to do, and how far to trust it: the one place where every output gets its answer from."""

    recommend: Annotated[Recommend, Field("keep = what runs, record = no number is safe to apply:")]
    why: Annotated[str, Field("one sentence")]
    confidence: Annotated[Confidence, Field()]
    confidence_reasons: Annotated[
        tuple[Reason, ...], Field("what speaks against a higher confidence, the shortest first")
    ]
    next_steps: Annotated[tuple[str, ...], Field("what to do next, as sentences")]
    target: Annotated[str, Field("controller that the policy is for")] = ""
    metric: Annotated[str, Field("signals that size the pools")] = ""
    pools: Annotated[tuple[PoolDecision, ...], Field("instances now and recommended, per pool")] = ()
    hours_saved_ratio: Annotated[
        float | None, Field("1 − hours ÷ those recorded, negative when it costs more", "ratio")
    ] = None
    hours_saved_ci: Annotated[Interval | None, Field(_DRAWN, "ratio")] = None
    instance_hours_saved: Annotated[float | None, Field("on the test window", "instance-hours")] = None
    gpu_hours_saved: Annotated[
        float | None, Field("on the test window; null where GPUs per instance are not known", "GPU-hours")
    ] = None
    cost_saved: Annotated[
        float | None,
        Field("on the test window; null where a price is not given", "currency of [prices]",
              absent="no price was given"),
    ] = None  # fmt: skip
    slo_risk: Annotated[SloRisk, Field("how often it is expected to break the SLO")] = field(
        default_factory=SloRisk
    )
    backtested: Annotated[
        tuple[str, str] | None,
        Field("start and end of the window of its replay: one it never saw, or the one day"),
    ] = None
    alarm: Annotated[
        Reason | None, Field("what applying it is warned of in first lines; null = nothing that is known")
    ] = None
    by_blocks: Annotated[
        bool,
        Field("whether it was replayed on the one day it was fitted on: hours saved are a range by blocks"),
    ] = False
    limits: Annotated[
        LimitCost | None,
        Field("what limits of the user's own cost where they held a pool below what its controller wanted",
              absent="no limit was given, or none held a pool in the replay"),
    ] = None  # fmt: skip
    ratio_notes: Annotated[
        tuple[str, ...], Field("what a test says of the P/D ratio, and what it costs, as sentences")
    ] = ()
    scale_in: Annotated[ScaleIn | None, Field("what scale-in costs", absent="no policy was replayed")] = None
