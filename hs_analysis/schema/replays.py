"""Results of replays: policies on the test window, under faults, on a topology, and as targets' files."""

# Annotations are values here and no text, as in `schema.results`.
from dataclasses import dataclass, field
from typing import Annotated, Any

from hs_analysis.schema.declare import Field
from hs_analysis.schema.exported import TargetReplay
from hs_analysis.schema.results import SHARE_UNIT, Evidence, Interval, Policy

_DRAWN = "95 % interval; see interval_basis"


@dataclass(frozen=True, kw_only=True)
class PolicyReplay:
    """One policy on the test window.

    ``vs_static_peak``, ``vs_recorded``, ``vs_hindsight`` and ``vs_current`` are 1 − hours ÷ those of that
    row, in GPU-hours where both have them, negative when the policy costs more; null without the row:
    ``current`` needs the objects that scale the service today, and a replay of them that stands for what
    ran. What keeps the SLO is not above 0 against ``hindsight``, but for the little by which the schedule
    found there lies above the bound, and ``recorded``, which waits for no start-up.

    Intervals are 95 %, from ``interval_basis`` drawn anew: whole ``days``, or ``hours`` in blocks, which
    holds what moves within a day alone; that of ``vs_recorded`` is then widened by how days differ.
    """

    policy: Policy
    gpu_hours: Annotated[float | None, Field("on the test window", "GPU-hours")]
    instance_hours: Annotated[float | None, Field("on the test window", "instance-hours")]
    slo_violation_ratio: Annotated[float | None, Field("share of windows over the SLO", SHARE_UNIT)]
    actions_per_day: Annotated[float | None, Field("scaling actions", "1/day")]
    reversals_per_day: Annotated[float | None, Field("actions that undo the one before", "1/day")]
    overshoot_ratio: Annotated[float | None, Field("instances beyond need ÷ need", "ratio")]
    unserved_tokens: Annotated[float | None, Field("work never served", "tokens")]
    vs_static_peak: Annotated[float | None, Field("1 − hours ÷ those of a fleet fixed at its peak", "ratio")]
    vs_recorded: Annotated[float | None, Field("1 − hours ÷ those of the recorded counts", "ratio")]
    evidence: Evidence = ""
    recovery_s: Annotated[
        float | None, Field("longest stretch in which windows are expected to violate", "s")
    ] = None
    pd_imbalance_ratio: Annotated[
        float | None, Field("mean share of the room of one pool that the other can't match", SHARE_UNIT)
    ] = None
    pd_stray_ratio: Annotated[float | None, Field("windows off the P/D ratio's interval", SHARE_UNIT)] = None
    pd_stray_factor: Annotated[float | None, Field("farthest off it, 2 = twice or half", "×")] = None
    slo_violation_s: Annotated[
        float | None, Field("expected time in windows over the SLO; null where slo_violation_ratio is", "s")
    ] = None
    slo_violation_tokens: Annotated[
        float | None,
        Field(
            "output tokens served in windows over the SLO; null where slo_violation_ratio is, and where no "
            "pool decodes",
            "tokens",
        ),
    ] = None
    vs_hindsight: Annotated[
        float | None,
        Field("1 − hours ÷ those of the cheapest schedule found with the future known", "ratio"),
    ] = None
    vs_current: Annotated[
        float | None,
        Field("1 − hours ÷ those of today's autoscaler; null when not given or not comparable", "ratio"),
    ] = None
    instance_hours_ci: Annotated[Interval | None, Field(_DRAWN, "instance-hours")] = None
    slo_violation_ci: Annotated[Interval | None, Field(_DRAWN, SHARE_UNIT)] = None
    vs_recorded_ci: Annotated[Interval | None, Field(_DRAWN, "ratio")] = None
    slo_violation_s_ci: Annotated[Interval | None, Field(_DRAWN, "s")] = None
    slo_violation_tokens_ci: Annotated[Interval | None, Field(_DRAWN, "tokens")] = None
    vs_static_peak_ci: Annotated[Interval | None, Field(_DRAWN, "ratio")] = None
    vs_hindsight_ci: Annotated[Interval | None, Field(_DRAWN, "ratio")] = None
    vs_current_ci: Annotated[Interval | None, Field(_DRAWN, "ratio")] = None
    interval_reason: Annotated[str, Field("why there are no intervals")] = ""
    cost: Annotated[
        float | None,
        Field(
            "on the test window; null where a price is not given", "currency of [prices]",
            absent="no price was given",
        ),
    ] = None  # fmt: skip
    interval_basis: Annotated[
        str | None, Field("what intervals are drawn from:", words=("days", "hours"))
    ] = None
    slo_violation_range: Annotated[
        Interval | None, Field("how far the replay may be off; null = no claim", SHARE_UNIT)
    ] = None
    slo_side: Annotated[
        str | None,
        Field(
            "where that range lies against the share of windows that the SLO allows; beyond = more windows "
            "than that carry far more load an instance than was ever recorded:",
            words=("under", "over", "unclear", "beyond"),
        ),
    ] = None
    not_known_ratio: Annotated[
        float | None,
        Field("share of windows with more load an instance than was ever carried; null = no SLO", SHARE_UNIT),
    ] = None
    far_above_ratio: Annotated[
        float | None,
        Field("the same where it is far more: 1.1 times after a calm history; null = no floor", SHARE_UNIT),
    ] = None


_FEWEST = "fewest {} in the fault; null = no such pool"


@dataclass(frozen=True, kw_only=True)
class FaultReplay:
    """One policy under one fault asked for, at all hours that it was tried at."""

    policy: Policy
    fault: Annotated[str, Field("name; none is the same hours undisturbed")]
    text: Annotated[str, Field("what happens")]
    places: Annotated[int | None, Field("at how many hours it was tried")] = None
    slo_violation_ratio: Annotated[
        float | None, Field("mean, from its start to two hours after its end", SHARE_UNIT)
    ] = None
    worst_violation_ratio: Annotated[float | None, Field("the same of the worst hour", SHARE_UNIT)] = None
    recovery_s: Annotated[
        float | None,
        Field("longest, from its end to the last window it makes violate; null = not recovered once", "s"),
    ] = None
    unserved_tokens: Annotated[
        float | None, Field("most work still waiting two hours after a fault", "tokens")
    ] = None
    lowest_prefill: Annotated[float | None, Field(_FEWEST.format("asked for"), "instances")] = None
    lowest_decode: Annotated[float | None, Field(_FEWEST.format("asked for"), "instances")] = None
    lowest_mixed: Annotated[float | None, Field(_FEWEST.format("asked for"), "instances")] = None
    lowest_ready_prefill: Annotated[float | None, Field(_FEWEST.format("able to serve"), "instances")] = None
    lowest_ready_decode: Annotated[float | None, Field(_FEWEST.format("able to serve"), "instances")] = None
    lowest_ready_mixed: Annotated[float | None, Field(_FEWEST.format("able to serve"), "instances")] = None


@dataclass(frozen=True, kw_only=True)
class PlacementOutcome:
    """One policy on a topology."""

    policy: Policy
    unplaced_instance_hours: Annotated[float, Field("wanted, and found no place", "instance-hours")]
    unplaced_window_ratio: Annotated[float, Field("windows in which a wanted instance had none", SHARE_UNIT)]
    crossing_ratio: Annotated[
        float | None,
        Field("KV traffic whose partner is in another network domain; null with one role", SHARE_UNIT),
    ]
    scarce_instance_hours: Annotated[float, Field("on subgroups of several GPU types", "instance-hours")]
    slo_violation_ratio: Annotated[float | None, Field("windows over the SLO, all placed", SHARE_UNIT)]
    placed_slo_violation_ratio: Annotated[float | None, Field("the same with what found a place", SHARE_UNIT)]
    unserved_tokens: Annotated[float, Field("work never served, all placed", "tokens")]
    placed_unserved_tokens: Annotated[float, Field("the same with what found a place", "tokens")]


@dataclass(frozen=True)
class ReplayResult:
    """The backtest: windows, calibration of the fleet model, and one row per policy."""

    train: Annotated[tuple[str, str] | None, Field("first and last moment of the training window", "UTC")]
    test: Annotated[tuple[str, str] | None, Field("first and last moment of the test window", "UTC")]
    calibration: Annotated[
        dict[str, Any], Field("recorded against replayed violations of what ran", "JSON")
    ] = field(default_factory=dict)
    policies: Annotated[tuple[PolicyReplay, ...], Field("one row a policy")] = ()
    current: Annotated[
        dict[str, Any],
        Field("today's autoscaler and what to change in it", absent="its objects were not given"),
    ] = field(default_factory=dict)
    faults: Annotated[tuple[FaultReplay, ...], Field("policy by fault", absent="none was asked for")] = ()
    placement: Annotated[
        tuple[PlacementOutcome, ...], Field("policies on a topology", absent="no topology was given")
    ] = ()
    targets: Annotated[tuple[TargetReplay, ...], Field("file of each target", absent="none replayed")] = ()
