"""The policy as frozen values: the structure of policy.yaml, read by selection, replay and exporters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hs_analysis.controllers.heteroscale import GpuLimit
from hs_analysis.schema.constants import SHORTEST_S, SUSTAINED_S
from hs_analysis.schema.results import Estimate

Mode = Literal["metric", "periodic", "hold"]
Runner = Literal["heteroscale", "keda", "hpa"]
"""What can run a policy."""


@dataclass(frozen=True)
class Target:
    """What one instance should carry [unit of the signal]: a decision, so that it has no interval of its own.

    Attributes
    ----------
    value
        The target; None where it is refused.
    headroom_ratio
        Share of the capacity that it uses: of its lower end, or of a floor's value.
    capacity
        The capacity it comes from with its 95 % interval; None where none is known.
    status, evidence
        ``ok``, ``floor`` or ``refused``, and an evidence path.
    """

    value: float | None
    headroom_ratio: float | None = None
    capacity: Estimate | None = None
    status: str = "ok"
    evidence: str = ""


@dataclass(frozen=True)
class Waiting:
    """Requests that wait for a pool, and what they add to the served work that sizes it.

    Attributes
    ----------
    signal, role
        Where they are counted [requests].
    tokens_per_request
        Work of one [tokens].
    within_s
        Time in which they should be gone [s].
    window_s
        Width of the mean that is read [s].
    """

    signal: str
    role: str
    tokens_per_request: float
    within_s: float
    window_s: float

    @property
    def weight(self) -> float:
        """Work a second that one of them adds, to six digits, as a query says it [tokens/s per request]."""
        return float(f"{self.tokens_per_request / self.within_s:.6g}")


@dataclass(frozen=True)
class Primary:
    """A signal that sizes pools: total ÷ target_per_instance = instances of ``role``.

    ``pool`` says how the signal adds up: ``sum`` for pool totals; ``mean`` for pool means such as
    utilisation, where the wanted count is current × value ÷ target. ``gpu_types`` holds what one pod of a
    type counts, for a pool that mixes types: the target is then that of a pod that counts 1. ``waiting`` is
    what waits and counts as work; ``promql`` adds it up.
    """

    signal: str
    role: str
    unit: str
    promql: str
    source: str
    target_per_instance: Target
    pool: Literal["sum", "mean"] = "sum"
    gpu_types: dict[str, float] = field(default_factory=dict)
    waiting: Waiting | None = None


@dataclass(frozen=True)
class Ratio:
    """Prefill ÷ decode of a policy whose only primary sizes both pools, and the nearest integer pair.

    The rule keeps it: the other pool goes with the primary's, and comes back once the ratio of the two is
    more than ``max_deviation`` off. Where each pool has a primary of its own, or none is known, there is no
    ratio. ``low`` and ``high`` are the 95 % interval of the value, or the band in which a drifting balance
    moves.
    ``gpu_types`` holds what one pod of each type counts in the pool that follows, where it mixes types.
    """

    prefill: int | None
    decode: int | None
    value: float | None
    low: float | None
    high: float | None
    max_deviation: float | None
    status: str
    evidence: str = ""
    gpu_types: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SignalReading:
    """What of a signal is compared with its target [s].

    Growth follows the newest mean over ``window_s``, shrinking the highest of those that ended in the last
    ``over_s``.
    """

    window_s: float = SHORTEST_S
    over_s: float = SUSTAINED_S


@dataclass(frozen=True)
class Hysteresis:
    """Scale out above scale_out_ratio, in below scale_in_ratio, of wanted ÷ current instances."""

    scale_out_ratio: float
    scale_in_ratio: float
    evidence: str = ""


@dataclass(frozen=True)
class Cooldown:
    """Rest after an action [s]; None = unknown.

    ``scale_out_s`` counts from the last scale-out, ``scale_in_s`` from the last action of either direction:
    adding after a removal need not wait, removing after an addition must.
    """

    scale_out_s: float | None
    scale_in_s: float | None
    evidence: str = ""


@dataclass(frozen=True)
class Step:
    """Limits of one action: share of the wanted change taken, and largest share of the pool moved.

    None = no limit. At least one instance may always be moved.
    """

    dampening: float = 1.0
    max_out_fraction: float | None = None
    max_in_fraction: float | None = None
    provenance: str = "default"


@dataclass(frozen=True)
class Tier:
    """When the guard is above ``above_ratio`` × SLO, add ``add_fraction`` of the pool."""

    above_ratio: float
    add_fraction: float


@dataclass(frozen=True)
class Guard:
    """A latency that may add instances to a role and veto scale-in, never size the pool."""

    signal: str
    role: str
    slo_s: float
    promql: str
    tiers: tuple[Tier, ...]
    provenance: str = "default"


@dataclass(frozen=True)
class SoftScaleIn:
    """Victims leave discovery, are watched for observe_s, and come back when restore_when holds."""

    observe_s: float
    restore_when: str
    provenance: str = "default"


@dataclass(frozen=True)
class Bounds:
    """Least and most instances of a role."""

    min: int
    max: int
    provenance: str = "default"


@dataclass(frozen=True)
class PeriodicEntry:
    """Fixed counts for a time of day, as the clock of a zone (IANA name) shows it."""

    start: str
    end: str
    days: tuple[str, ...]
    decode: int | None
    prefill: int | None
    zone: str = "UTC"


@dataclass(frozen=True)
class Policy:
    """One service's policy.

    ``hysteresis`` and ``cooldown`` are per role: pools differ in noise and size, so they differ in band.
    ``recommended`` is false where what runs should be kept, or nothing can be stood for; ``confidence`` is
    high, medium or low with its reasons as sentences; ``refusals`` are sentences with the code in front.
    ``controller`` is whose semantics it was selected and replayed with. ``window_s`` is the width of an
    observed window and the time between two decisions; ``start_up_s`` is the time from asking for an instance
    to its first request, per role. ``replay`` is what a backtest said.
    ``gpus`` is the user's limit on GPUs for a controller that steps all pools at once; ``bounds`` keep it
    too.
    """

    service: str
    mode: Mode
    unit: str
    primaries: tuple[Primary, ...]
    pd_ratio: Ratio | None
    hysteresis: dict[str, Hysteresis]
    cooldown: dict[str, Cooldown]
    step: Step
    guards: tuple[Guard, ...]
    soft_scale_in: SoftScaleIn | None
    bounds: dict[str, Bounds]
    on_missing_metric: str = "hold"
    periodic: tuple[PeriodicEntry, ...] = ()
    placement: dict[str, object] = field(default_factory=dict)
    recommended: bool = True
    confidence: str = "low"
    confidence_reasons: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    window: dict[str, object] = field(default_factory=dict)
    inputs_sha256: str = ""
    run: str = ""
    tool_version: str = ""
    window_s: float = 60.0
    start_up_s: dict[str, float] = field(default_factory=dict)
    controller: Runner = "keda"
    reading: SignalReading = field(default_factory=SignalReading)
    replay: dict[str, object] = field(default_factory=dict)
    gpus: GpuLimit | None = None

    @property
    def sized_roles(self) -> tuple[str, ...]:
        """Pools whose count the policy decides: those of its primaries, and both when a ratio follows one."""
        roles = {primary.role for primary in self.primaries}
        if len(self.primaries) == 1 and self.pd_ratio and self.pd_ratio.value and "mixed" not in roles:
            roles = {"prefill", "decode"}
        return tuple(role for role in ("prefill", "decode", "mixed") if role in roles)
