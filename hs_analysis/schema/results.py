"""Results of the stages: frozen values whose fields are the columns of their tables and keys of summary.json.

A number that could not be had is None and stands beside a reason. Ratios are prefill ÷ decode. Times are ISO
8601 UTC text. Intervals are (low, high). Each field is declared here and nowhere else, see `schema.declare`;
results with many fields take them by name alone.
"""

# Annotations are values here and no text: evaluating them all again would cost each start 30 ms.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from hs_analysis.schema.declare import Field
from hs_analysis.schema.names import POOL_ROLES

if TYPE_CHECKING:
    import polars as pl

Interval = tuple[float, float]
Pair = tuple[int, int]

Verdict = Literal["proportional", "guard", "unusable", "unknown"]
Status = Literal["ok", "floor", "refused"]
RatioStatus = Literal["ok", "floor", "drifting", "refused"]
RatioBasis = Literal["balance", "sweep"]
Answered = Literal["ok", "refused"]
CapacityBasis = Literal["slo", "observed", "bench", "profile"]
SpeedBasis = Literal["capacity", "profile", "equal_queue", "bench"]
ReleaseKind = Literal["released", "tried", "under_way"]

WITHOUT_SERVICE, ALARM = "instances_without_service", "policy_alarm"
IDLE_INSTANCES, ROWS_LOST, CHECK_FAILED = "idle_instances", "rows_lost", "check_failed"
"""Codes of warnings: instances with a role belong to no service, what speaks against a policy, instances
that do no work while their pool works, rows of the input that could not be used, and input that makes numbers
wrong."""

_PER_INSTANCE = "unit of the signal per instance"
_RATIO = "prefill ÷ decode"
SHARE_UNIT = "ratio 0..1"

Signal = Annotated[str, Field("catalogue signal")]
SignalRole = Annotated[str, Field(words=(*POOL_ROLES, "service"))]
PoolRole = Annotated[str, Field(words=POOL_ROLES)]
GpuType = Annotated[str | None, Field("GPU model; null = all together")]
Evidence = Annotated[str, Field("path of the evidence")]
Policy = Annotated[str, Field("name of the policy")]


@dataclass(frozen=True)
class Estimate:
    """A number that was estimated, and the ends of its 95 % interval: low ≤ value ≤ high, one unit."""

    value: Annotated[float, Field("the number", "as its table says")]
    low: Annotated[float, Field("lower end of the 95 % interval", "as its table says")]
    high: Annotated[float, Field("upper end", "as its table says")]


@dataclass(frozen=True)
class Reason:
    """Why a verdict or a refusal is what it is: code, sentence, measured value and the rule's limit."""

    code: Annotated[str, Field("cause")]
    text: Annotated[str, Field("sentence")]
    value: Annotated[float | None, Field("what was measured", "as the text says")] = None
    limit: Annotated[float | None, Field("limit of the rule", "as the text says")] = None


FloorReason = Annotated[Reason | None, Field("why it is a floor or refused")]
RefusedReason = Annotated[Reason | None, Field("why it is refused")]


@dataclass(frozen=True)
class Turn:
    """One number that would change a verdict by crossing a limit, or a gate that kept it from the test."""

    code: Annotated[str, Field("check or gate")]
    value: Annotated[float, Field("what was measured", null=True)]
    limit: Annotated[float, Field("limit of the rule", null=True)]
    distance: Annotated[float, Field("|value − limit| ÷ limit", "ratio", null=True)]
    verdict: Annotated[Verdict | None, Field("verdict on the other side, all else equal; null for a gate")]


@dataclass(frozen=True, kw_only=True)
class SignalVerdict:
    """What the study found for one signal of one role."""

    signal: Signal
    role: SignalRole
    source: Annotated[str, Field("exporter it came from")]
    verdict: Annotated[Verdict, Field()]
    pearson: Annotated[float | None, Field("correlation with the reference load", "−1..1")] = None
    pearson_ci: Annotated[Interval | None, Field("95 % interval", "−1..1")] = None
    spearman: Annotated[float | None, Field("rank correlation with the reference load", "−1..1")] = None
    spearman_ci: Annotated[Interval | None, Field("95 % interval", "−1..1")] = None
    elasticity: Annotated[
        float | None, Field("relative change of the signal per relative change of load", "ratio")
    ] = None
    elasticity_ci: Annotated[Interval | None, Field("95 % interval", "ratio")] = None
    elasticity_range: Annotated[
        Interval | None,
        Field("loads the elasticity speaks of, q05 and q95; per instance where the pool moved", "tokens/s"),
    ] = None
    snr: Annotated[float | None, Field("spread that load explains ÷ noise", "ratio")] = None
    lag_s: Annotated[float | None, Field("delay of the signal behind the load; negative = ahead", "s")] = None
    lag_ci: Annotated[Interval | None, Field("95 % interval", "s")] = None
    stability: Annotated[
        float | None, Field("1 − drift, within 0..1: 1 = the relation to load never moved", "ratio")
    ] = None
    drift: Annotated[
        float | None, Field("slow change at equal load, relative to the elasticity", "ratio")
    ] = None
    coverage: Annotated[float, Field("share of windows with a value", SHARE_UNIT, null=True)] = 0.0
    interval_s: Annotated[float | None, Field("time between values that carry news", "s")] = None
    n_effective: Annotated[float | None, Field("effective sample size", "rows")] = None
    reasons: Annotated[
        tuple[Reason, ...], Field("why: code, sentence, measured value, the rule's limit")
    ] = ()
    evidence: Evidence = ""
    spearman_highpass: Annotated[
        float | None, Field("rank correlation without everything slower than two hours", "−1..1")
    ] = None
    innovation_link: Annotated[
        float | None, Field("association of what neither series predicts of itself", "standard errors")
    ] = None
    elasticity_all_rows: Annotated[
        float | None, Field("elasticity outside the operating range too", "ratio")
    ] = None
    auc_top: Annotated[
        float | None, Field("how well it tells the highest loads apart; latency and queues", SHARE_UNIT)
    ] = None
    turns: Annotated[
        tuple[Turn, ...], Field("single numbers that would change the verdict, nearest first")
    ] = ()
    gpu_type: GpuType = None


@dataclass(frozen=True)
class Recommendation:
    """The signal the study would scale on, the next best, and what would change the answer."""

    signal: Signal
    role: SignalRole
    why: Annotated[str, Field("sentence")]
    runner_up: Annotated[str | None, Field("the next best, signal@role")]
    changes: Annotated[tuple[str, ...], Field("what would change the recommendation, in sentences")] = ()


@dataclass(frozen=True)
class StudyResult:
    """Everything the study says of one service.

    Attributes
    ----------
    verdicts
        One per signal of the service that can be a candidate, in the order of the frame's columns; then those
        per GPU type of pools that mix types.
    recommended
        None when no signal is fit to size pools.
    points
        Rows of the contract ``study_points``.
    """

    verdicts: tuple[SignalVerdict, ...]
    recommended: Recommendation | None
    points: "pl.DataFrame"

    def verdict_of(self, signal: str, role: str) -> SignalVerdict | None:
        """Return the verdict of a signal of a role over all GPU types, None when it was not judged."""
        key = (signal, role, None)
        return next((v for v in self.verdicts if (v.signal, v.role, v.gpu_type) == key), None)


@dataclass(frozen=True, kw_only=True)
class RealisedCoverage:
    """How often the next block of history agreed with a capacity's interval that was fitted before it."""

    covered: Annotated[int | None, Field("blocks that agreed; null where fewer than three were checked")]
    blocks: Annotated[int, Field("blocks that were checked")]
    block_s: Annotated[float | None, Field("length of a block", "s")]
    below: Annotated[Pair, Field("agreed and seen: blocks with enough windows just below the interval")]
    above: Annotated[Pair, Field("agreed and seen: just above the interval")]
    reason: Annotated[Reason | None, Field("why there is no number")]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Work per instance at which the SLO just holds (``ok``), or the most it already carried (``floor``)."""

    role: PoolRole
    gpu_type: GpuType
    signal: Annotated[str, Field("signal the work is counted in")]
    per_instance: Annotated[
        float | None, Field("work at which the SLO just holds, or the most carried (floor)", _PER_INSTANCE)
    ]
    ci: Annotated[Interval | None, Field("95 % interval", _PER_INSTANCE)]
    status: Annotated[Status, Field()]
    basis: Annotated[CapacityBasis | None, Field()]
    reason: FloorReason
    evidence: Evidence = ""
    method: Annotated[str, Field("law that gave it")] = ""
    calm: Annotated[bool | None, Field("no latency over the limit at the highest loads")] = None
    growth_ratio: Annotated[
        float | None,
        Field("load's growth in a start-up time, but for 0.25 to 2 % of windows", "ratio"),
    ] = None
    carried_ratio: Annotated[
        float | None,
        Field(
            "highest load carried inside the SLO ÷ the floor; null for a known capacity, after a calm "
            "history and without judged windows",
            "ratio",
            since="0.2.0",
        ),
    ] = None
    slope: Annotated[float | None, Field("steepness of the fitted law in ln load", "1")] = None
    reading_ratio: Annotated[
        float | None,
        Field(
            "capacity by the next best reading of shares between histogram edges ÷ this one; null where an "
            "edge lies at the limit",
            "ratio",
        ),
    ] = None
    realised_coverage: Annotated[
        RealisedCoverage | None,
        Field(
            "later blocks that agree with intervals fitted before; null per GPU type and on a part of the "
            "window",
            "blocks",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Startup:
    """Time from asking for an instance of a role to its first request, as the dump shows it.

    A floor is a lower bound, for then nothing says when the instances were asked for. A time that is given by
    ``--startup`` or hsa.toml goes before it.
    """

    role: PoolRole
    value_s: Annotated[
        float | None, Field("median time from asking to the first request; floor = at least this", "s")
    ]
    ci: Annotated[Interval | None, Field("95 % interval of the median; the range under six births", "s")]
    births: Annotated[int, Field("instances it rests on", "instances")]
    status: Annotated[Status, Field()]
    source: Annotated[
        str,
        Field(
            "what says when they were asked for:", words=("pod_created", "replicas", "target", "process", "")
        ),
    ] = ""
    reason: FloorReason
    evidence: Evidence = ""


@dataclass(frozen=True)
class CensoredWindow:
    """A stretch in which served work hides the demand."""

    start: Annotated[str, Field("its first moment", "UTC")]
    end: Annotated[str, Field("its last moment", "UTC")]
    reason: Annotated[str, Field("what hides it")]


@dataclass(frozen=True)
class Demand:
    """Offered work of the service: 95 % quantile of 5-minute means per role."""

    prefill_tps: Annotated[
        float | None,
        Field(
            "95 % quantile of offered prefill work: cache-missed prompt tokens, all if nothing counts those",
            "tokens/s",
        ),
    ]
    decode_tps: Annotated[
        float | None,
        Field(
            "95 % quantile of offered decode work; None of a single pool that gives no output tokens",
            "tokens/s",
        ),
    ]
    censored_windows: Annotated[
        tuple[CensoredWindow, ...], Field("stretches in which served work hides demand", "UTC")
    ]
    reconstruction_error: Annotated[
        float | None, Field("offered against served work where both are true", "ratio")
    ]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What one instance of a role should carry, and the band around it.

    A target is a decision: it has no interval of its own.
    """

    signal: Signal
    role: SignalRole
    gpu_type: GpuType
    target_per_instance: Annotated[float | None, Field("what one instance should carry", _PER_INSTANCE)]
    headroom_ratio: Annotated[
        float | None,
        Field("share of the capacity that the target uses: of its lower end, or of a floor's value", "ratio"),
    ] = None
    capacity: Annotated[
        Estimate | None,
        Field("what the signal reads at the capacity behind the target, and its interval", _PER_INSTANCE),
    ]
    scale_out_ratio: Annotated[float | None, Field("out above, as noise asks", "wanted ÷ current")]
    scale_in_ratio: Annotated[float | None, Field("in below, as noise asks", "wanted ÷ current")]
    cooldown_out_s: Annotated[
        float | None,
        Field("rest before a scale-out, as the policy's cooldown.scale_out_s", "s"),
    ]
    cooldown_in_s: Annotated[
        float | None, Field("rest before a scale-in, as the policy's cooldown.scale_in_s", "s")
    ]
    status: Annotated[Status, Field()]
    reason: FloorReason
    evidence: Evidence = ""
    noise_cv: Annotated[float | None, Field("noise of the newest reading ÷ its mean", "ratio")] = None
    usual_instances: Annotated[
        float | None, Field("size of the pool that scale_in_ratio was set for", "instances")
    ] = None


@dataclass(frozen=True, kw_only=True)
class GpuSpeed:
    """How fast one GPU type of a pool that mixes types is."""

    role: PoolRole
    gpu_type: Annotated[str, Field("GPU model")]
    instances: Annotated[float | None, Field("mean pods of the type", "instances")]
    relative: Annotated[float | None, Field("speed ÷ that of the reference type", "ratio")]
    ci: Annotated[
        Interval | None,
        Field("95 % interval; the value itself where a profile or a benchmark gave it", "ratio"),
    ]
    reference: Annotated[str | None, Field("the most numerous type")]
    weight: Annotated[
        float | None, Field("what a pod of the type counts, 1 = the mean pod recorded", "equivalents")
    ]
    basis: Annotated[SpeedBasis | None, Field()]
    status: Annotated[Answered, Field()]
    reason: RefusedReason
    evidence: Evidence = ""
    pods: Annotated[
        int | None, Field("pods that make up the 95 % demand, the fastest type first", "instances")
    ] = None


def weights_of(speeds: Sequence[GpuSpeed], role: str) -> dict[str, float]:
    """Return what one pod of each GPU type of a role counts, 1 = the mean pod recorded; empty if unknown."""
    return {s.gpu_type: s.weight for s in speeds if s.role == role and s.weight is not None}


@dataclass(frozen=True, kw_only=True)
class Release:
    """A version of one pool that came inside the window, and the rows its numbers stand on.

    Capacity, targets, mix and ratio stand on the version that runs at the end. Between ``start`` and ``end``
    both versions ran, and these rows belong to neither.
    """

    role: PoolRole
    kind: Annotated[
        ReleaseKind,
        Field("released = replaced the one before, tried = went again, under_way = both run at the end"),
    ]
    what: Annotated[str, Field("what tells the versions apart: an image, a version label, metric names")]
    before: Annotated[str, Field("version before")]
    after: Annotated[str, Field("version that came")]
    start: Annotated[str, Field("when it was first seen", "UTC")]
    end: Annotated[str, Field("when the one that went was last seen", "UTC")]
    used_h: Annotated[float, Field("hours that the numbers of the pool use", "h", null=False)]
    left_out_h: Annotated[float, Field("hours left out for its releases", "h", null=False)]
    text: Annotated[str, Field("the same in words")]


@dataclass(frozen=True)
class RatioWindow:
    """Ratio of one stretch of time."""

    start: Annotated[str, Field("its start", "UTC")]
    end: Annotated[str, Field("its end", "UTC")]
    value: Annotated[float, Field("the ratio", _RATIO)]
    ci: Annotated[Interval | None, Field("95 % interval", _RATIO)]


@dataclass(frozen=True)
class SplitBeside:
    """A split tested next to the best one, and what it serves against it."""

    prefill: Annotated[int, Field("prefill instances", "instances")]
    decode: Annotated[int, Field("decode instances", "instances")]
    served_ratio: Annotated[
        float | None,
        Field("what it serves within the limits ÷ what the best does; null where it breaks a limit", "ratio"),
    ]


@dataclass(frozen=True, kw_only=True)
class MixRatio:
    """The best split that a ratio test measured for one token mix."""

    isl: Annotated[float | None, Field("mean prompt length", "tokens")]
    osl: Annotated[float | None, Field("mean output length", "tokens")]
    prefill: Annotated[int, Field("prefill instances of the best split", "instances")]
    decode: Annotated[int, Field("decode instances of it", "instances")]
    value: Annotated[float, Field("its ratio", _RATIO)]
    between: Annotated[
        Interval | None,
        Field("nearest splits tested on either side that serve less; null at an edge of the test", _RATIO),
    ]
    status: Annotated[
        Literal["ok", "undecided", "indicative"],
        Field("ok, undecided (it may break a limit) or indicative (judged by means)"),
    ]
    share: Annotated[
        float, Field("of the decode work of all mixes tested; alike where no load says it", "ratio 0..1")
    ]
    neighbours: Annotated[
        tuple[SplitBeside, ...], Field("nearest splits tested on either side that serve less")
    ] = ()
    prefill_tps_per_instance: Annotated[
        float | None,
        Field("prompt tokens one prefill instance of it computed within the limits: a floor", "tokens/s"),
    ] = None
    decode_tps_per_instance: Annotated[
        float | None,
        Field("output tokens one decode instance of it made within the limits: a floor", "tokens/s"),
    ] = None
    gpu_ratio: Annotated[float | None, Field("its ratio in GPUs; null where not known", _RATIO)] = None
    is_estimated: Annotated[
        bool, Field("whether what splits served follows from concurrency and latencies")
    ] = False
    evidence: Evidence = ""


@dataclass(frozen=True)
class Mover:
    """An input of the token mix and what it has to do with the mix's movement."""

    input: Annotated[str, Field(words=("isl", "osl", "hit_rate"))]
    share: Annotated[
        float,
        Field(
            "share of the variance of ln mix it explains; negative where it moves against the rest", "ratio"
        ),
    ]
    low: Annotated[float, Field("10 % quantile over stretches", "tokens, or ratio")]
    high: Annotated[float, Field("90 % quantile over stretches", "tokens, or ratio")]


@dataclass(frozen=True, kw_only=True)
class FixedCost:
    """What holding one ratio costs while the mix moves, against following it."""

    name: Annotated[str, Field("which ratio is held")]
    ratio: Annotated[float, Field("that ratio", _RATIO)]
    extra_instance_hours: Annotated[
        float, Field("instance-hours beyond following the mix, neither pool ever over its target", "ratio")
    ]
    sized_on_decode: Annotated[float, Field("the same with both pools sized on decode alone", "ratio")]
    short_share: Annotated[
        float, Field("then: share of decode work that comes while prefill is over its capacity", "ratio")
    ]
    worst_load: Annotated[float, Field("then: highest prefill load ÷ target", "ratio")]


@dataclass(frozen=True)
class TypeRatio:
    """Prefill pods of one GPU type per decode pod of another; a type is None where its pool has one."""

    prefill_type: Annotated[str | None, Field("GPU model of prefill")]
    decode_type: Annotated[str | None, Field("GPU model of decode")]
    value: Annotated[float, Field("pods per pod; it counts mean pods", _RATIO)]


@dataclass(frozen=True, kw_only=True)
class ReplicaGroup:
    """What one pair of counts served while a side held it back."""

    prefill: Annotated[float, Field("prefill instances", "instances")]
    decode: Annotated[float, Field("decode instances", "instances")]
    limited: Annotated[Literal["prefill", "decode"], Field("the side that held it back:")]
    windows: Annotated[int, Field("windows", "rows")]
    per_instance_tps: Annotated[float, Field("work per instance", "tokens/s")]


@dataclass(frozen=True, kw_only=True)
class ReplicaRatio:
    """The ratio that a history of changing counts shows: a cross-check, which never replaces the value."""

    value: Annotated[float | None, Field("mix · β ÷ α", _RATIO)]
    ci: Annotated[Interval | None, Field("95 % interval", _RATIO)]
    status: Annotated[Answered, Field()]
    at_least: Annotated[float | None, Field("bound where only one side was ever held back", _RATIO)]
    at_most: Annotated[float | None, Field("bound where only one side was ever held back", _RATIO)]
    reason: RefusedReason
    prefill_tps: Annotated[
        float | None, Field("α: work an instance serves while its pool holds requests back", "tokens/s")
    ]
    decode_tps: Annotated[float | None, Field("β: the same of decode", "tokens/s")]
    groups: Annotated[tuple[ReplicaGroup, ...], Field("what it was read from, by side and counts")] = ()
    agrees: Annotated[
        bool | None, Field("whether the intervals meet; null where one of them is not known")
    ] = None
    text: Annotated[str | None, Field("the same in words")] = None


@dataclass(frozen=True, kw_only=True)
class PdRatio:
    """Prefill instances per decode instance."""

    value: Annotated[float | None, Field("instances per instance", _RATIO)]
    ci: Annotated[Interval | None, Field("95 % interval; null of a ratio test", _RATIO)]
    status: Annotated[RatioStatus, Field()]
    at_least: Annotated[
        float | None, Field("one-sided bound; of a ratio test the nearest split that serves less", _RATIO)
    ]
    at_most: Annotated[
        float | None, Field("one-sided bound; of a ratio test the nearest split that serves less", _RATIO)
    ]
    reason: Annotated[Reason | None, Field("why it is not ok")]
    basis: Annotated[
        RatioBasis | None,
        Field(
            "balance of the two capacities or targets, or the best splits of a ratio test; null if refused:"
        ),
    ] = None
    one_primary_bound: Annotated[
        float | None,
        Field(
            "what the prefill pool needs per decode instance in 95 % of hours, where one signal has to size "
            "both pools; never the ratio; null where the value itself can be held",
            _RATIO,
        ),
    ] = None
    one_primary_bound_ci: Annotated[Interval | None, Field("95 % interval of that bound", _RATIO)] = None
    by_mix: Annotated[
        tuple[MixRatio, ...], Field("best split of each token mix of a ratio test", _RATIO)
    ] = ()
    by_window: Annotated[tuple[RatioWindow, ...], Field("ratio of each stretch", _RATIO)] = ()
    integer_pairs: Annotated[tuple[Pair, ...], Field("pairs near the value, best first", "instances")] = ()
    evidence: Evidence = ""
    band: Annotated[Interval | None, Field("range it moves in", _RATIO)] = None
    moved_by: Annotated[
        tuple[Mover, ...], Field("inputs of the mix and the share of its movement of each", "ratio")
    ] = ()
    fixed_costs: Annotated[
        tuple[FixedCost, ...], Field("what holding one ratio costs against following", "ratio")
    ] = ()
    by_gpu_type: Annotated[
        tuple[TypeRatio, ...], Field("pods of one GPU type per pod of another that balance", _RATIO)
    ] = ()
    from_replicas: Annotated[
        ReplicaRatio | None, Field("what a history of changing counts shows, a cross-check", _RATIO)
    ] = None

    @property
    def held(self) -> float | None:
        """What a rule keeps that sizes prefill by decode's signal: the bound where there is one."""
        return self.value if self.one_primary_bound is None else self.one_primary_bound


PLAN_TEST = "; hsa plan-test lays out the cheapest test"
"""End of what to record where a load test answers it."""


@dataclass(frozen=True)
class Refusal:
    """A question the data could not answer, and what to record to answer it."""

    what: Annotated[str, Field("the number that is missing")]
    code: Annotated[str, Field("cause")]
    text: Annotated[str, Field("sentence")]
    collect: Annotated[str, Field("what to record to answer it")]

    @property
    def collect_untested(self) -> str:
        """What to record, for a service that `plan-test` has no test for."""
        return self.collect.replace(PLAN_TEST, "")


@dataclass(frozen=True, kw_only=True)
class Derived:
    """Everything the derive stage says of one service."""

    capacity: tuple[Capacity, ...]
    demand: Demand
    thresholds: tuple[Threshold, ...]
    pd_ratio: PdRatio
    refusals: tuple[Refusal, ...]
    startup: tuple[Startup, ...] = ()
    gpu_speeds: tuple[GpuSpeed, ...] = ()
    releases: tuple[Release, ...] = ()

    def capacity_of(self, role: str) -> Capacity | None:
        """Return the capacity of a role over all GPU types, None when the role has none."""
        return next((c for c in self.capacity if c.role == role and c.gpu_type is None), None)

    def threshold_of(self, signal: str, role: str) -> Threshold | None:
        """Return the threshold of a signal over all GPU types, None when it has none."""
        key = (signal, role, None)
        return next((t for t in self.thresholds if (t.signal, t.role, t.gpu_type) == key), None)

    @property
    def measured_startup_s(self) -> dict[str, float]:
        """Start-up time per role that the dump measured [s]; one that the user gives goes before it."""
        return {s.role: s.value_s for s in self.startup if s.status == "ok" and s.value_s is not None}

    def gpu_weights(self, role: str) -> dict[str, float]:
        """Return what one pod of each GPU type of a role counts; empty for a pool of one type."""
        return weights_of(self.gpu_speeds, role)

    def startup_of(self, role: str) -> Startup | None:
        """Return the start-up time that the dump shows of a role, None when it was not looked for."""
        return next((s for s in self.startup if s.role == role), None)


@dataclass(frozen=True, kw_only=True)
class CandidateScore:
    """One candidate policy on the training window."""

    policy: Annotated[str, Field("name of the candidate")]
    signal: Signal
    score: Annotated[
        float | None,
        Field("1 − hours ÷ those recorded, what selection maximises; null = not feasible", "ratio"),
    ]
    gpu_hours: Annotated[float | None, Field("on the training window", "GPU-hours")]
    slo_violation_ratio: Annotated[
        float | None, Field("share of windows over the SLO; null without one", SHARE_UNIT)
    ]
    chosen: Annotated[bool, Field("whether selection took it")]
    role: Annotated[str, Field("role of the signal; several are joined by +")]
    instance_hours: Annotated[float | None, Field("on the training window", "instance-hours")]
    actions_per_day: Annotated[float | None, Field("scaling actions", "1/day")]
    reason: Annotated[str, Field("why it was or was not")]
    controller: Annotated[str, Field("whose semantics it was simulated with")] = ""
    fault_violation_ratio: Annotated[
        float | None,
        Field("share of windows over capacity under the faults, their mean; null without an SLO", SHARE_UNIT),
    ] = None
    burst_violation_ratio: Annotated[
        float | None, Field("the same under bursts that double the load within a start-up time", SHARE_UNIT)
    ] = None
    flat_actions_per_day: Annotated[
        float | None, Field("actions of a pool while the load is constant, by noise alone", "1/day")
    ] = None
    front: Annotated[
        bool, Field("no other is better in hours, violations and violations under faults at once")
    ] = False
    reading_s: Annotated[float | None, Field("range of the query that the controller follows", "s")] = None
    surge_s: Annotated[float | None, Field("range while the load grows", "s", absent="it is the same")] = None
    scale_out_ratio: Annotated[float | None, Field("scale out above", "wanted ÷ current")] = None
    scale_in_ratio: Annotated[float | None, Field("scale in below", "wanted ÷ current")] = None
    over_s: Annotated[
        float | None, Field("the highest reading of this time decides whether instances go", "s")
    ] = None
    counts_waiting: Annotated[
        bool, Field("whether requests that wait count with the work that is served")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SignalDriver:
    """One signal as the driver of its pool on the test window."""

    signal: Signal
    role: Annotated[str, Field("role of the signal")]
    pool: Annotated[str, Field("pool it drove; empty when none answers to it")]
    verdict: Annotated[Verdict, Field("what the study says of it:")]
    target_per_instance: Annotated[
        float | None, Field("what it reads at the derived target load", _PER_INSTANCE)
    ] = None
    load_dip_ratio: Annotated[
        float | None, Field("load in its lowest tenth ÷ in its highest, hourly means", "ratio")
    ] = None
    dip_ratio: Annotated[float | None, Field("instances at the dip of the load ÷ at its peak", "ratio")] = (
        None
    )
    correlation: Annotated[float | None, Field("instances with 5-min load", "−1..1")] = None
    reversals_per_day: Annotated[
        float | None, Field("moves of the pool that undo the one before", "1/day")
    ] = None
    instance_hours: Annotated[float | None, Field("of the pool, on the test window", "instance-hours")] = None
    strain_ratio: Annotated[float | None, Field("expected share of windows over capacity", SHARE_UNIT)] = None
    reading: Annotated[str, Field("what that means, or why it was not tried")] = ""
    evidence: Evidence = ""
