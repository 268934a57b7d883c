"""What a controller can be set to: the knobs of candidates, beside the signals that size their pools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hs_analysis.policy.model import Hysteresis, Policy

DEFAULT_BAND = (1.1, 0.9)
"""Wanted ÷ current from which an HPA adds and below which it removes: its tolerance of 10 % [ratio].
https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ ("Algorithm details")."""

DEFAULT_OVER_S = 300.0
"""Time of which an HPA takes the highest recommendation before it removes [s]; same page."""

WAYS_IN: tuple[tuple[float, float], ...] = ((300.0, 0.8), (600.0, 0.8), (900.0, 0.9), (900.0, 0.8))
"""Time of which the highest reading has to ask for fewer instances [s], and wanted ÷ current below which it
does [ratio]. Each keeps flat load to about one action in three days; a way in at 300 s below 0.9 takes
seven times as many. Measured on 12 policies at constant levels of a simulator."""


@dataclass(frozen=True)
class Knobs:
    """One setting of a controller: what it waits for before it removes, and where its band ends.

    Attributes
    ----------
    over_s
        The highest reading of this time decides whether instances go [s].
    in_ratio
        Wanted ÷ current below which they may at most [ratio]; the noise of a signal may ask for less.
    out_ratio
        Wanted ÷ current above which instances come [ratio]; None = as the noise of the signal asks.
    """

    over_s: float
    in_ratio: float
    out_ratio: float | None = None

    @property
    def name(self) -> str:
        """The knobs in words, as part of a candidate's name."""
        out = "" if self.out_ratio is None else f", out above {self.out_ratio:g}"
        return f"in below {self.in_ratio:g} for {self.over_s:g} s{out}"


DEFAULTS = Knobs(DEFAULT_OVER_S, DEFAULT_BAND[1], DEFAULT_BAND[0])
"""Kubernetes' own, which an HPA or a ScaledObject has when nothing is set."""


def knobs_of(controller: str) -> tuple[Knobs, ...]:
    """Return the settings of a controller that are simulated."""
    ways = tuple(Knobs(over_s, ratio) for over_s, ratio in WAYS_IN)
    if controller == "heteroscale":
        return ways
    wider = tuple(replace(one, out_ratio=DEFAULT_BAND[0]) for one in ways)
    return (DEFAULTS, *ways, *wider)


def knobs_by_name(signals: Iterable[str], controller: str) -> dict[str, tuple[str, Knobs]]:
    """Return every candidate of a controller by name: the signals that size its pools, and its knobs.

    Parameters
    ----------
    signals
        Names of the signals, as `policy.candidates.candidate_primaries` gives them.
    controller
        keda, hpa or heteroscale.
    """
    return {f"{name}, {knobs.name}": (name, knobs) for name in signals for knobs in knobs_of(controller)}


def can_hold(policy: Policy, controller: str) -> bool:
    """Say whether the objects of a controller can hold a policy's signals.

    A pool that follows the ratio goes by the leader's total in an HPA or a ScaledObject; of a mean over the
    leader's instances no such total can be asked for.
    """
    follows_mean = policy.pd_ratio is not None and any(one.pool == "mean" for one in policy.primaries)
    return controller == "heteroscale" or not follows_mean


def with_knobs(policy: Policy, knobs: Knobs, controller: str) -> Policy:
    """Return a policy for a controller, set to some knobs."""
    bands = {role: _band(band, knobs) for role, band in policy.hysteresis.items()}
    cooldown = dict(policy.cooldown)
    step = policy.step
    if controller != "heteroscale":
        # What an HPA waits for is its stabilisation window alone.
        cooldown = {
            role: replace(one, scale_out_s=0.0, scale_in_s=None if one.scale_in_s is None else 0.0)
            for role, one in cooldown.items()
        }
        step = replace(step, max_out_fraction=None, max_in_fraction=None)
    return replace(
        policy,
        controller=controller,  # type: ignore[arg-type]
        reading=replace(policy.reading, over_s=knobs.over_s),
        hysteresis=bands,
        cooldown=cooldown,
        step=step,
    )


def _band(band: Hysteresis, knobs: Knobs) -> Hysteresis:
    """Return a band no narrower on the way in than the noise asks for, but for Kubernetes' own."""
    if knobs == DEFAULTS:
        return replace(band, scale_out_ratio=DEFAULT_BAND[0], scale_in_ratio=DEFAULT_BAND[1])
    out = band.scale_out_ratio if knobs.out_ratio is None else max(band.scale_out_ratio, knobs.out_ratio)
    return replace(band, scale_out_ratio=out, scale_in_ratio=min(band.scale_in_ratio, knobs.in_ratio))
