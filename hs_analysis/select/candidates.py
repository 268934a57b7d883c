"""What a controller can be set to: the knobs of candidates, beside the signals that size their pools."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hs_analysis import evidence
from hs_analysis.controllers.hpa import SCALE_DOWN, TOLERANCE_KNOWN, Surge
from hs_analysis.policy.candidates import candidate_name
from hs_analysis.policy.model import Cooldown, Hysteresis, Policy, SignalReading
from hs_analysis.schema.aligned import SERVED
from hs_analysis.schema.results import CandidateScore
from hs_analysis.select.constants import (
    IN_RATIO,
    OUT_RATIOS,
    READINGS,
    SUSTAINED,
)


@dataclass(frozen=True)
class Knobs:
    """One setting of a controller: what it reads, when it adds, and what it waits for before it removes.

    Attributes
    ----------
    window_s
        Range of the query that it follows [s]; no less than four scrapes are taken.
    out_ratio
        Wanted ÷ current above which instances come [ratio].
    over_s
        The highest reading of this time decides whether instances go [s].
    in_ratio
        Wanted ÷ current below which they go [ratio].
    waits
        Whether work that waits counts beside the work that is served.
    surge
        Shorter range that it reads while the load grows; None = it does not.
    """

    window_s: float
    out_ratio: float
    over_s: float
    in_ratio: float
    waits: bool = False
    surge: Surge | None = None

    @property
    def reading(self) -> SignalReading:
        """What of a signal it compares with the target."""
        return SignalReading(self.window_s, self.over_s, self.surge)

    @property
    def name(self) -> str:
        """The knobs in words, as part of a candidate's name."""
        growing = f"/{self.surge.window_s:g}" if self.surge else ""
        return (
            f"{self.window_s:g}{growing} s mean{' with what waits' if self.waits else ''}, "
            f"out above {self.out_ratio:g}, in below {self.in_ratio:g} for {self.over_s:g} s"
        )

    @classmethod
    def kubernetes(cls, window_s: float) -> Knobs:
        """Return Kubernetes' own: a tolerance of 10 %, the highest recommendation of five minutes."""
        return cls(window_s, OUT_RATIOS[-1], SCALE_DOWN.stabilization_s, IN_RATIO)


def knobs_of(shortest_s: float, *, waits: bool, surges: bool = False) -> tuple[Knobs, ...]:
    """Return the settings that are simulated, Kubernetes' own among them.

    Parameters
    ----------
    shortest_s
        Shortest range that the scrapes of a service allow [s].
    waits
        Whether it is known what waits; it then counts in all of them but Kubernetes' own.
    surges
        Whether the controller may read another range while the load grows.
    """
    usual = Knobs.kubernetes(shortest_s)
    tried = [
        Knobs(part * shortest_s, out, over_s, IN_RATIO, waits)
        for part in READINGS[:-1]
        for out in OUT_RATIOS
        for over_s in SUSTAINED[1:]
    ]
    surge = Surge(shortest_s, OUT_RATIOS[-1])
    calm = [
        Knobs(READINGS[-1] * shortest_s, out, over_s, IN_RATIO, waits, surge)
        for out in OUT_RATIOS
        for over_s in SUSTAINED[:-1]
    ]
    return tuple(dict.fromkeys([usual, *tried, *(calm if surges else ())]))


def can_surge(policy: Policy, controller: str) -> bool:
    """Say whether a policy's objects can read another range while the load grows: of totals, by PromQL."""
    return controller != "heteroscale" and all(primary.pool == "sum" for primary in policy.primaries)


def can_be_set(knobs: Knobs, controller: str, kubernetes: tuple[int, int]) -> bool:
    """Say whether the objects of a controller can be set to knobs in a version of Kubernetes.

    Before it knew ``tolerance`` an HPA, and that of a ScaledObject, has the cluster's 10 %.
    """
    if controller == "heteroscale" or kubernetes >= TOLERANCE_KNOWN:
        return True
    usual = Knobs.kubernetes(knobs.window_s)
    return (knobs.out_ratio, knobs.in_ratio) == (usual.out_ratio, usual.in_ratio)


def models_of(policy: Policy) -> int:
    """Return how much of a policy is itself a model, fitted on the very window it is simulated on.

    Primaries that are not counted tokens, in what they read at other counts; and a pool that follows the P/D
    ratio, which stands still while the mix of tokens moves.
    """
    follows = len(policy.primaries) == 1 and len(policy.sized_roles) > 1
    return follows + sum(primary.signal not in SERVED.values() for primary in policy.primaries)


def candidate_of(signals: str, knobs: Knobs) -> str:
    """Return the name of a candidate: the signals that size its pools, and its knobs."""
    return f"{signals}, {knobs.name}"


def chosen_knobs(score: CandidateScore) -> tuple[str, Knobs]:
    """Return what a row of the selection was: the names of its signals, and its knobs."""
    pairs = zip(score.signal.split("+"), score.role.split("+"), strict=True)
    knobs = Knobs(
        score.reading_s or 0.0,
        score.scale_out_ratio or 1.0,
        score.over_s or 0.0,
        score.scale_in_ratio or 1.0,
        score.counts_waiting,
        Surge(score.surge_s, OUT_RATIOS[-1]) if score.surge_s else None,
    )
    return candidate_name(tuple(pairs)), knobs


def can_hold(policy: Policy, controller: str) -> bool:
    """Say whether the objects of a controller can hold a policy's signals.

    A pool that follows the ratio goes by the leader's total in an HPA or a ScaledObject; of a mean over the
    leader's instances no such total can be asked for.
    """
    follows_mean = policy.pd_ratio is not None and any(one.pool == "mean" for one in policy.primaries)
    return controller == "heteroscale" or not follows_mean


def with_knobs(policy: Policy, knobs: Knobs, controller: str, candidate: str) -> Policy:
    """Return a policy for a controller, set to some knobs, with a link to the candidate that has them."""
    link = evidence.path(policy.service, "select", candidate)
    bands = {role: Hysteresis(knobs.out_ratio, knobs.in_ratio, link) for role in policy.hysteresis}
    window_s = max(policy.reading.window_s, knobs.window_s)
    shortest_s = knobs.surge.window_s if knobs.surge else window_s
    cooldown = dict(policy.cooldown)
    step = policy.step
    if controller != "heteroscale":
        # What an HPA waits for is its stabilisation window alone.
        cooldown = {
            role: Cooldown(0.0, None if one.scale_in_s is None else 0.0, link)
            for role, one in cooldown.items()
        }
        step = replace(step, max_out_fraction=None, max_in_fraction=None)
    return replace(
        policy,
        controller=controller,  # type: ignore[arg-type]
        reading=SignalReading(window_s, max(shortest_s, knobs.over_s), knobs.surge),
        hysteresis=bands,
        cooldown=cooldown,
        step=step,
    )
