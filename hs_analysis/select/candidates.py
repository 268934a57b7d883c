"""What a controller can be set to: the knobs of candidates, beside the signals that size their pools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hs_analysis import evidence
from hs_analysis.policy.model import Cooldown, Hysteresis, Policy
from hs_analysis.select.constants import READINGS_S, WAYS_IN, WAYS_OUT


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
    """

    window_s: float
    out_ratio: float
    over_s: float
    in_ratio: float

    @property
    def name(self) -> str:
        """The knobs in words, as part of a candidate's name."""
        return (
            f"{self.window_s:g} s mean, out above {self.out_ratio:g}, "
            f"in below {self.in_ratio:g} for {self.over_s:g} s"
        )


def knobs_of() -> tuple[Knobs, ...]:
    """Return the settings that are simulated.

    Kubernetes' own are among them: a tolerance of 10 % and the highest recommendation of five minutes.
    """
    return tuple(Knobs(window_s, out, *way) for window_s in READINGS_S for out in WAYS_OUT for way in WAYS_IN)


def knobs_by_name(signals: Iterable[str]) -> dict[str, tuple[str, Knobs]]:
    """Return every candidate by name: the signals that size its pools, and its knobs.

    Parameters
    ----------
    signals
        Names of the signals, as `policy.candidates.candidate_primaries` gives them.
    """
    return {f"{name}, {knobs.name}": (name, knobs) for name in signals for knobs in knobs_of()}


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
        reading=replace(policy.reading, window_s=window_s, over_s=max(window_s, knobs.over_s)),
        hysteresis=bands,
        cooldown=cooldown,
        step=step,
    )
