"""Results of the stages: frozen values that become the keys of summary.json.

A number that could not be had is None and stands beside a reason. Ratios are prefill ÷ decode.
Times are ISO 8601 UTC text. Intervals are (low, high).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hs_analysis.schema.balance import GpuSpeed, ReplicaRatio, TypeRatio, weights_of
from hs_analysis.schema.reasons import Estimate as Estimate  # noqa: PLC0414 - importable from here
from hs_analysis.schema.reasons import Interval as Interval  # noqa: PLC0414
from hs_analysis.schema.reasons import Reason as Reason  # noqa: PLC0414
from hs_analysis.schema.releases import Release

if TYPE_CHECKING:
    import polars as pl

Verdict = Literal["proportional", "guard", "unusable", "unknown"]
Status = Literal["ok", "floor", "refused"]
CapacityBasis = Literal["slo", "observed", "bench", "profile"]
RatioStatus = Literal["ok", "floor", "drifting", "refused"]


@dataclass(frozen=True)
class Turn:
    """One number that would change a verdict by crossing a limit, or a gate that kept a signal from the test.

    Attributes
    ----------
    code
        Check or gate.
    value, limit
        What was measured, and the limit of the rule.
    distance
        |value − limit| ÷ limit [ratio].
    verdict
        Verdict on the other side, all else equal; None for a gate.
    """

    code: str
    value: float
    limit: float
    distance: float
    verdict: Verdict | None


@dataclass(frozen=True)
class SignalVerdict:
    """What the study found for one signal of one role; `gpu_type` is null for the pool over all types."""

    signal: str
    role: str
    source: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    pearson: float | None = None
    pearson_ci: Interval | None = None
    spearman: float | None = None
    spearman_ci: Interval | None = None
    spearman_highpass: float | None = None
    innovation_link: float | None = None
    elasticity: float | None = None
    elasticity_ci: Interval | None = None
    elasticity_all_rows: float | None = None
    snr: float | None = None
    lag_s: float | None = None
    lag_ci: Interval | None = None
    stability: float | None = None
    drift: float | None = None
    auc_top: float | None = None
    coverage: float = 0.0
    interval_s: float | None = None
    n_effective: float | None = None
    turns: tuple[Turn, ...] = ()
    evidence: str = ""
    gpu_type: str | None = None


@dataclass(frozen=True)
class Recommendation:
    """The signal the study would scale on, the next best, and what would change the answer."""

    signal: str
    role: str
    why: str
    runner_up: str | None
    changes: tuple[str, ...] = ()


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
    points: pl.DataFrame

    def verdict_of(self, signal: str, role: str) -> SignalVerdict | None:
        """Return the verdict of a signal of a role over all GPU types, None when it was not judged."""
        key = (signal, role, None)
        return next((v for v in self.verdicts if (v.signal, v.role, v.gpu_type) == key), None)


@dataclass(frozen=True)
class RealisedCoverage:
    """How often the next block of history agreed with a capacity's interval that was fitted before it.

    Attributes
    ----------
    covered, blocks
        Blocks that agreed, None where fewer than three could be checked; and blocks that were.
    block_s
        Length of a block [s].
    below, above
        (agreed, seen): blocks with enough windows just below the interval, and just above it.
    reason
        Why there is no number.
    """

    covered: int | None
    blocks: int
    block_s: float | None
    below: tuple[int, int]
    above: tuple[int, int]
    reason: Reason | None


@dataclass(frozen=True)
class Capacity:
    """Work per instance at which the SLO just holds (``ok``), or the most it already carried (``floor``).

    ``realised_coverage`` is None where it was not looked for: per GPU type, and on a part of the window.
    """

    role: str
    gpu_type: str | None
    signal: str
    per_instance: float | None
    ci: Interval | None
    status: Status
    basis: CapacityBasis | None
    reason: Reason | None
    method: str = ""
    calm: bool | None = None
    growth_ratio: float | None = None
    slope: float | None = None
    evidence: str = ""
    realised_coverage: RealisedCoverage | None = None


@dataclass(frozen=True)
class Startup:
    """Time from asking for an instance of a role to its first request, as the dump shows it.

    Attributes
    ----------
    role
        prefill, decode or mixed.
    value_s
        Median over births (``ok``), or a lower bound of it (``floor``), for then nothing says when the
        instances were asked for.
    ci
        95 % interval of the median [s]; the range where fewer than six births give none.
    births
        Instances it rests on.
    source
        What says when they were asked for: ``pod_created``, ``replicas``, ``target`` or ``process``; empty
        where nothing does.
    """

    role: str
    value_s: float | None
    ci: Interval | None
    births: int
    status: Status
    reason: Reason | None
    source: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class CensoredWindow:
    """A stretch in which served work hides the demand."""

    start: str
    end: str
    reason: str


@dataclass(frozen=True)
class Demand:
    """Offered work of the service: 95 % quantile of 5-minute means per role [tokens/s]."""

    prefill_tps: float | None
    decode_tps: float | None
    censored_windows: tuple[CensoredWindow, ...]
    reconstruction_error: float | None


@dataclass(frozen=True)
class Threshold:
    """What one instance of a role should carry, and the band around it.

    A target is a decision: it has no interval of its own.

    Attributes
    ----------
    capacity
        What the signal reads at the capacity behind the target, with its 95 % interval [unit of the signal];
        None without a target.
    headroom_ratio
        Share of the capacity that the target uses: of its lower end, or of a floor's value.
    """

    signal: str
    role: str
    gpu_type: str | None
    target_per_instance: float | None
    capacity: Estimate | None
    scale_out_ratio: float | None
    scale_in_ratio: float | None
    cooldown_out_s: float | None
    cooldown_in_s: float | None
    status: Status
    reason: Reason | None
    noise_cv: float | None = None
    headroom_ratio: float | None = None
    evidence: str = ""
    grows_ratio: float | None = None
    falls_ratio: float | None = None
    usual_instances: float | None = None
    highest_total: float | None = None
    highest_instances: float | None = None


@dataclass(frozen=True)
class RatioWindow:
    """Ratio of one stretch of time."""

    start: str
    end: str
    value: float
    ci: Interval | None


@dataclass(frozen=True)
class Mover:
    """An input of the token mix and what it has to do with the mix's movement.

    Attributes
    ----------
    input
        ``isl``, ``osl`` or ``hit_rate``.
    share
        Share of the variance of ln mix it explains [ratio]; negative where it moves against the rest.
    low, high
        10 % and 90 % quantile over stretches [tokens, or ratio].
    """

    input: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class FixedCost:
    """What holding one ratio costs while the mix moves, against following it.

    Attributes
    ----------
    name, ratio
        Which ratio is held.
    extra_instance_hours
        Instance-hours beyond following the mix, with neither pool ever over its target [ratio].
    sized_on_decode
        The same with both pools sized on decode alone [ratio].
    short_share
        Then: share of decode work that comes while prefill is over its capacity [ratio].
    worst_load
        Then: highest prefill load ÷ target [ratio].
    """

    name: str
    ratio: float
    extra_instance_hours: float
    sized_on_decode: float
    short_share: float
    worst_load: float


@dataclass(frozen=True)
class PdRatio:
    """Prefill instances per decode instance."""

    value: float | None
    ci: Interval | None
    status: RatioStatus
    at_least: float | None
    at_most: float | None
    reason: Reason | None
    band: Interval | None = None
    by_window: tuple[RatioWindow, ...] = ()
    integer_pairs: tuple[tuple[int, int], ...] = ()
    evidence: str = ""
    moved_by: tuple[Mover, ...] = ()
    fixed_costs: tuple[FixedCost, ...] = ()
    by_gpu_type: tuple[TypeRatio, ...] = ()
    from_replicas: ReplicaRatio | None = None


@dataclass(frozen=True)
class Refusal:
    """A question the data could not answer, and what to record to answer it."""

    what: str
    code: str
    text: str
    collect: str


@dataclass(frozen=True)
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
        return next(
            (t for t in self.thresholds if (t.signal, t.role, t.gpu_type) == (signal, role, None)), None
        )

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
