"""The policy as frozen values: the structure of policy.yaml, read by selection, replay and exporters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from hs_analysis.controllers.heteroscale import GpuLimit
from hs_analysis.controllers.hpa import Surge
from hs_analysis.schema.constants import SHORTEST_S, SUSTAINED_S
from hs_analysis.schema.declare import Field
from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.schema.results import Estimate

Mode = Literal["metric", "periodic", "hold"]
Runner = Literal["heteroscale", "keda", "hpa"]
"""What can run a policy."""

_ROLE = Field("pool:", words=POOL_ROLES)
_EVIDENCE = Field("evidence path, for `hsa explain`; empty where there is none")
_WEIGHTS = Field(
    "GPU type to what one pod of it counts; the target is that of a pod that counts 1", "ratio", above=0
)
_WEIGHTS_OF_FOLLOWER = Field(
    _WEIGHTS.meaning, "ratio", above=0, absent="the pool that follows mixes no types"
)
_PROVENANCE = Field("where the numbers come from; default: no data gave them")
_STATUS = Field("how far the number is known: ok, floor, drifting or refused")


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

    value: Annotated[
        float | None,
        Field("what one instance should carry; null where it is refused", "unit of the signal", above=0),
    ]
    headroom_ratio: Annotated[
        float | None,
        Field("share of the lower end of the capacity that it uses, of a floor of its value", "ratio"),
    ] = None
    capacity: Annotated[Estimate | None, Field("capacity it comes from; null where none is known")] = None
    status: Annotated[str, _STATUS] = "ok"
    evidence: Annotated[str, _EVIDENCE] = ""


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

    signal: Annotated[str, Field("signal that counts them")]
    role: Annotated[str, _ROLE]
    tokens_per_request: Annotated[float, Field("work of one", "tokens", above=0)]
    within_s: Annotated[float, Field("time in which they should be gone", "s", above=0)]
    window_s: Annotated[float, Field("width of the mean that is read", "s", above=0)]

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

    signal: Annotated[str, Field("catalogue signal")]
    role: Annotated[str, _ROLE]
    unit: Annotated[str, Field("unit of the signal")]
    promql: Annotated[str, Field("query that reads it, what waits included")]
    source: Annotated[str, Field("exporter it comes from")]
    target_per_instance: Annotated[Target, Field("what one instance should carry")]
    pool: Annotated[Literal["sum", "mean"], Field("how it adds up over the pool:")] = "sum"
    gpu_types: Annotated[dict[str, float], _WEIGHTS] = field(default_factory=dict)
    waiting: Annotated[
        Waiting | None,
        Field(
            "requests that wait: of each, tokens_per_request ÷ within_s counts as work with the signal",
            absent="an earlier version wrote the file",
        ),
    ] = None


@dataclass(frozen=True)
class MixSplit:
    """The best split that a ratio test measured for one token mix [instances]; lengths in tokens.

    What one instance of it carried is a floor for this mix only: a target where its own load was not seen.
    """

    isl: Annotated[float | None, Field("mean prompt length", "tokens")]
    osl: Annotated[float | None, Field("mean output length", "tokens")]
    prefill: Annotated[int, Field("prefill instances", "instances")]
    decode: Annotated[int, Field("decode instances", "instances")]
    prefill_tps_per_instance: Annotated[
        float | None,
        Field(
            "prompt tokens one prefill instance computed within the limits: a floor",
            "tokens/s",
            absent="it was not measured",
        ),
    ] = None
    decode_tps_per_instance: Annotated[
        float | None,
        Field(
            "output tokens one decode instance made within the limits: a floor",
            "tokens/s",
            absent="it was not measured",
        ),
    ] = None


@dataclass(frozen=True)
class Ratio:
    """Prefill ÷ decode of a policy whose only primary sizes both pools, and the nearest integer pair.

    The rule keeps it: the other pool goes with the primary's, and comes back once the ratio of the two is
    more than ``max_deviation`` off. Where each pool has a primary of its own there is no value, and only the
    splits that a ratio test measured, if one did; a policy on hold names them with their value and keeps
    nothing. ``low`` and ``high`` are the 95 % interval of the value, or the band in which a drifting balance
    moves.
    ``gpu_types`` holds what one pod of each type counts in the pool that follows, where it mixes types.
    ``one_primary_bound`` is kept in place of the value where no single value is right through the day: with
    it the pool that follows has what it needs in 95 % of the hours. ``by_mix`` holds the best split of each
    token mix that a ratio test measured.
    """

    prefill: Annotated[int | None, Field("prefill instances of the nearest pair of integers", "instances")]
    decode: Annotated[int | None, Field("decode instances of it", "instances")]
    value: Annotated[float | None, Field("prefill ÷ decode instances", "ratio")]
    low: Annotated[
        float | None,
        Field("lower end of its 95 % interval, or of the band in which a drifting balance moves", "ratio"),
    ]
    high: Annotated[float | None, Field("upper end", "ratio")]
    max_deviation: Annotated[
        float | None, Field("how far the ratio may be off before it is brought back", "ratio")
    ]
    status: Annotated[str, _STATUS]
    evidence: Annotated[str, _EVIDENCE] = ""
    gpu_types: Annotated[dict[str, float], _WEIGHTS_OF_FOLLOWER] = field(default_factory=dict)
    one_primary_bound: Annotated[
        float | None,
        Field(
            "kept in place of the value where no single value is right through the day",
            "ratio",
            above=0,
            absent="the value is kept",
        ),
    ] = None
    by_mix: Annotated[
        tuple[MixSplit, ...],
        Field("best split that a ratio test measured for each token mix", absent="no test says it"),
    ] = ()

    @property
    def held(self) -> float | None:
        """What the rule keeps: the bound where there is one, else the value."""
        return self.value if self.one_primary_bound is None else self.one_primary_bound


@dataclass(frozen=True)
class SignalReading:
    """What of a signal is compared with its target [s].

    Growth follows the newest mean over ``window_s``, shrinking the highest of those that ended in the last
    ``over_s``. With a ``surge`` a fresher mean takes its place while the load grows.
    """

    window_s: float = SHORTEST_S
    over_s: float = SUSTAINED_S
    surge: Surge | None = None


@dataclass(frozen=True)
class Hysteresis:
    """Scale out above scale_out_ratio, in below scale_in_ratio, of wanted ÷ current instances."""

    scale_out_ratio: Annotated[float, Field("scale out above this wanted ÷ current", "ratio")]
    scale_in_ratio: Annotated[float, Field("scale in below it", "ratio")]
    evidence: Annotated[str, _EVIDENCE] = ""


@dataclass(frozen=True)
class Cooldown:
    """Rest after an action [s]; None = unknown.

    ``scale_out_s`` counts from the last scale-out, ``scale_in_s`` from the last action of either direction:
    adding after a removal need not wait, removing after an addition must.
    """

    scale_out_s: Annotated[float | None, Field("rest since the last scale-out; null = unknown", "s")]
    scale_in_s: Annotated[
        float | None, Field("rest since the last action of either direction; null = unknown", "s")
    ]
    evidence: Annotated[str, _EVIDENCE] = ""


@dataclass(frozen=True)
class Step:
    """Limits of one action: share of the wanted change taken, and largest share of the pool moved.

    None = no limit. At least one instance may always be moved.
    """

    dampening: Annotated[float, Field("share of the wanted change that is taken", "ratio")] = 1.0
    max_out_fraction: Annotated[
        float | None, Field("largest share of the pool that is added at once; null = no limit", "ratio")
    ] = None
    max_in_fraction: Annotated[
        float | None, Field("largest share that is removed at once; null = no limit", "ratio")
    ] = None
    provenance: Annotated[str, _PROVENANCE] = "default"


@dataclass(frozen=True)
class Tier:
    """When the guard is above ``above_ratio`` × SLO, add ``add_fraction`` of the pool."""

    above_ratio: Annotated[float, Field("latency ÷ SLO above which it acts", "ratio")]
    add_fraction: Annotated[float, Field("share of the pool that is added", "ratio")]


@dataclass(frozen=True)
class Guard:
    """A latency that may add instances to a role and veto scale-in, never size the pool."""

    signal: Annotated[str, Field("latency that guards")]
    role: Annotated[str, _ROLE]
    slo_s: Annotated[float, Field("its limit", "s", above=0)]
    promql: Annotated[str, Field("query that reads it")]
    tiers: Annotated[tuple[Tier, ...], Field("what is added when it is over the limit")]
    provenance: Annotated[str, _PROVENANCE] = "default"


@dataclass(frozen=True)
class SoftScaleIn:
    """Victims leave discovery, are watched for observe_s, and come back when restore_when holds."""

    observe_s: Annotated[float, Field("how long a removed instance runs on", "s")]
    restore_when: Annotated[str, Field("breach on which it comes back")]
    provenance: Annotated[str, _PROVENANCE] = "default"


FLOOR = "floor"
"""Provenance of a least that keeps the size at which a prefill pool carried its floor."""


@dataclass(frozen=True)
class Bounds:
    """Least and most instances of a role."""

    min: Annotated[int, Field("least", "instances")]
    max: Annotated[int, Field("most", "instances")]
    provenance: Annotated[str, _PROVENANCE] = "default"


@dataclass(frozen=True)
class PeriodicEntry:
    """Fixed counts for a time of day, as the clock of a zone (IANA name) shows it."""

    start: Annotated[str, Field("clock time at which it begins", key="from")]
    end: Annotated[str, Field("clock time at which it ends", key="to")]
    days: Annotated[tuple[str, ...], Field("weekdays, the first three letters of each; empty = every day")]
    decode: Annotated[int | None, Field("decode instances", "instances")]
    prefill: Annotated[int | None, Field("prefill instances", "instances")]
    zone: Annotated[
        str,
        Field(
            "IANA time zone of the clock; UTC where it is absent", absent="an earlier version wrote the file"
        ),
    ] = "UTC"


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
    def counts_waiting(self) -> bool:
        """Whether a pool of it is sized by the work that waits, too."""
        return any(primary.waiting for primary in self.primaries)

    @property
    def sized_roles(self) -> tuple[str, ...]:
        """Pools whose count the policy decides: those of its primaries, and both when a ratio follows one."""
        roles = {primary.role for primary in self.primaries}
        if len(self.primaries) == 1 and self.pd_ratio and self.pd_ratio.value and "mixed" not in roles:
            roles = {"prefill", "decode"}
        return tuple(role for role in POOL_ROLES if role in roles)
