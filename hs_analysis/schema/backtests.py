"""Results of the stages select and replay as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hs_analysis.schema.results import Interval, Verdict


@dataclass(frozen=True)
class CandidateScore:
    """One candidate policy on the training window."""

    policy: str
    signal: str
    role: str
    score: float | None
    gpu_hours: float | None
    instance_hours: float | None
    slo_violation_ratio: float | None
    actions_per_day: float | None
    chosen: bool
    reason: str


@dataclass(frozen=True)
class SignalDriver:
    """One signal as the driver of its pool on the test window.

    ``dip_ratio`` is the pool's mean instances in the tenth of rows with the lowest hourly load ÷ in the tenth
    with the highest, ``load_dip_ratio`` the same of the load itself; ``correlation`` is that of instances
    with 5-min load. ``reading`` puts it in words, or says why the signal was not tried.
    """

    signal: str
    role: str
    pool: str
    verdict: Verdict
    target_per_instance: float | None = None
    load_dip_ratio: float | None = None
    dip_ratio: float | None = None
    correlation: float | None = None
    reversals_per_day: float | None = None
    instance_hours: float | None = None
    strain_ratio: float | None = None
    reading: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class PolicyReplay:
    """One policy on the test window.

    ``recovery_s`` is the longest stretch in which windows are expected to violate; ``pd_imbalance_ratio`` the
    mean share of the better supplied pool's room that the other one can't match. ``slo_violation_s`` is the
    expected time in violating windows [s], ``slo_violation_tokens`` the output tokens that the decode pool
    (the only one, where one does both) is expected to serve in them [tokens]; both are null where
    ``slo_violation_ratio`` is, the tokens also where no pool decodes. ``vs_static_peak``, ``vs_recorded``,
    ``vs_hindsight`` and ``vs_current`` are 1 − hours ÷ those of that row, in GPU-hours where both have them,
    negative when the policy costs more; null without the row: ``current`` needs the objects that scale the
    service today, and a replay of them that stands for what ran. What keeps the SLO is not above 0 against
    ``hindsight``, but for the little by which the schedule found there lies above the bound, and
    ``recorded``, which waits for no start-up.

    Intervals are 95 %, from ``interval_basis`` drawn anew: whole ``days``, or ``hours`` in blocks, which
    holds what moves within a day alone; ``interval_reason`` says why they are missing.
    ``slo_violation_range`` is how far the replay itself may be off, and ``slo_side`` says whether that lies
    ``under`` the share of windows that the SLO allows, ``over`` it, or leaves it ``unclear``.
    ``cost`` is in the currency of ``[prices]``.
    """

    policy: str
    gpu_hours: float | None
    instance_hours: float | None
    slo_violation_ratio: float | None
    actions_per_day: float | None
    reversals_per_day: float | None
    overshoot_ratio: float | None
    unserved_tokens: float | None
    vs_static_peak: float | None
    vs_recorded: float | None
    evidence: str = ""
    recovery_s: float | None = None
    pd_imbalance_ratio: float | None = None
    slo_violation_s: float | None = None
    slo_violation_tokens: float | None = None
    vs_hindsight: float | None = None
    vs_current: float | None = None
    instance_hours_ci: Interval | None = None
    slo_violation_ci: Interval | None = None
    vs_recorded_ci: Interval | None = None
    slo_violation_s_ci: Interval | None = None
    slo_violation_tokens_ci: Interval | None = None
    vs_static_peak_ci: Interval | None = None
    vs_hindsight_ci: Interval | None = None
    vs_current_ci: Interval | None = None
    interval_reason: str = ""
    cost: float | None = None
    interval_basis: str | None = None
    slo_violation_range: Interval | None = None
    slo_side: str | None = None


@dataclass(frozen=True)
class ReplayResult:
    """The backtest: windows, calibration of the fleet model, and one row per policy.

    ``current`` is what today's autoscaler was read from and what to change in it; empty when none was given.
    ``faults`` are rows of policy × fault, ``placement`` of policies on a topology; empty when not asked for.
    """

    train: Interval | tuple[str, str] | None
    test: Interval | tuple[str, str] | None
    calibration: dict[str, Any] = field(default_factory=dict)
    policies: tuple[PolicyReplay, ...] = ()
    current: dict[str, Any] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ()
    placement: tuple[dict[str, Any], ...] = ()
