"""Search signals × parameters on the training window: hours against violations, and one point chosen.

HeteroScale's workload-centric policy curation (arXiv:2508.19559, Algorithm 1) scores policies by
simulation; here the numbers of each candidate are turned as well. Settings scale what was derived, and a
target is never set above what the data stand for. The test window is not touched: the chosen point is
replayed there once, beside the derived one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hs_analysis.policy.model import Cooldown, Hysteresis, Policy, Primary, Step
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.backtests import SearchPoint
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Settings
from hs_analysis.select.choose import SAME_HOURS, SAME_STRAIN

Floats = NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Setting:
    """How far a policy's numbers are from the derived ones, all as factors.

    Attributes
    ----------
    target_share
        Of the derived target; at most 1.
    band_scale
        Of the distance of both scaling ratios from 1.
    cooldown_scale
        Of both cooldowns.
    step_scale
        Of the largest share of a pool moved at once, at most the whole pool.
    """

    target_share: float = 1.0
    band_scale: float = 1.0
    cooldown_scale: float = 1.0
    step_scale: float = 1.0

    @property
    def distance(self) -> float:
        """Sum of the absolute logarithms of the factors: 0 for the derived numbers."""
        factors = (self.target_share, self.band_scale, self.cooldown_scale, self.step_scale)
        return float(sum(abs(np.log(factor)) for factor in factors))


DERIVED = Setting()

GRID: tuple[Setting, ...] = tuple(
    Setting(*factors)
    for factors in itertools.product(
        (0.75, 0.8, 0.85, 0.9, 0.95, 1.0), (0.5, 1.0, 1.5, 2.0), (0.5, 1.0, 2.0), (0.5, 1.0, 2.0, 4.0)
    )
)
"""Settings tried for every candidate: 288; a default of this project."""


class Figures(Protocol):
    """What a simulation says of many policies, shape (policies,) each; NaN where it can't be said."""

    @property
    def instance_hours(self) -> Floats:
        """Hours from the moment instances are asked for."""

    @property
    def gpu_hours(self) -> Floats:
        """The same in GPU-hours."""

    @property
    def strain_ratio(self) -> Floats:
        """Expected share of windows over capacity."""

    @property
    def actions_per_day(self) -> Floats:
        """Scaling actions."""


Evaluate = Callable[[ServiceFrame, Derived, Sequence[Policy], Settings], Figures | None]


def apply_setting(policy: Policy, setting: Setting) -> Policy:
    """Return the policy with its numbers scaled; its structure stays."""
    primaries = tuple(
        _scaled_target(p, value, setting.target_share) if (value := p.target_per_instance.value) else p
        for p in policy.primaries
    )
    bands = {role: _scaled_band(band, setting.band_scale) for role, band in policy.hysteresis.items()}
    rests = {
        role: Cooldown(
            _scaled(rest.scale_out_s, setting.cooldown_scale),
            _scaled(rest.scale_in_s, setting.cooldown_scale),
            rest.evidence,
        )
        for role, rest in policy.cooldown.items()
    }
    step = Step(
        policy.step.dampening,
        min(1.0, policy.step.max_out_fraction * setting.step_scale),
        min(1.0, policy.step.max_in_fraction * setting.step_scale),
        policy.step.provenance,
    )
    return replace(policy, primaries=primaries, hysteresis=bands, cooldown=rests, step=step)


def search_service(
    frame_train: ServiceFrame,
    derived_train: Derived,
    candidates: Mapping[str, Policy],
    settings: Settings,
    evaluate: Evaluate,
    grid: Sequence[Setting] = GRID,
) -> tuple[SearchPoint, ...]:
    """Score every candidate at every setting, and choose one point of the front.

    A point is on the front when no other has fewer hours without more violations. A point is feasible when
    its expected share of windows over capacity is within the SLO's ``allowed_window_share``. Of the
    feasible points within 2 % of the fewest hours, which a replay can't tell apart, fewer violations win,
    then fewer actions, then the numbers nearest to the derived ones, then the name; when none is feasible,
    the least violating point.

    Parameters
    ----------
    evaluate
        ``evaluate(frame, derived, policies, settings)`` gives figures of policies that differ in numbers
        only.

    Returns
    -------
    tuple
        The points of the front, the derived point of every candidate and the chosen one, fewest hours first.
        Empty when nothing could be simulated. Independent of the order of ``candidates``.
    """
    points: list[SearchPoint] = []
    for name in sorted(candidates):
        policy = candidates[name]
        if policy.mode != "metric":
            continue
        figures = evaluate(frame_train, derived_train, [apply_setting(policy, one) for one in grid], settings)
        if figures is not None:
            points += _points(name, grid, figures)
    if not points:
        return ()
    allowed = settings.slo.allowed_window_share
    front = _front(points)
    chosen = _chosen(points, allowed)
    kept = {id(p) for p in (*front, chosen, *(p for p in points if setting_of(p) == DERIVED))}
    on_front = {id(p) for p in front}
    derived = {p.policy: p for p in points if setting_of(p) == DERIVED}
    found = [
        replace(
            point,
            on_front=id(point) in on_front,
            chosen=point is chosen,
            reason=_why(point, derived.get(point.policy), allowed, len(points)) if point is chosen else "",
        )
        for point in points
        if id(point) in kept
    ]
    return tuple(sorted(found, key=lambda p: (_hours(p), p.strain_ratio or 0.0, p.policy, setting_of(p))))


def _points(name: str, grid: Sequence[Setting], figures: Figures) -> list[SearchPoint]:
    def at(values: Floats, place: int) -> float | None:
        return None if np.isnan(values[place]) else float(values[place])

    return [
        SearchPoint(
            name,
            one.target_share,
            one.band_scale,
            one.cooldown_scale,
            one.step_scale,
            at(figures.gpu_hours, place),
            at(figures.instance_hours, place),
            at(figures.strain_ratio, place),
            at(figures.actions_per_day, place),
        )
        for place, one in enumerate(grid)
        if not np.isnan(figures.instance_hours[place])
    ]


def setting_of(point: SearchPoint) -> Setting:
    """Return the setting a point stands for."""
    return Setting(point.target_share, point.band_scale, point.cooldown_scale, point.step_scale)


def _hours(point: SearchPoint) -> float:
    return point.gpu_hours if point.gpu_hours is not None else point.instance_hours or 0.0


def _order(point: SearchPoint) -> tuple[float, float, str, Setting]:
    one = setting_of(point)
    return point.actions_per_day or 0.0, round(one.distance, 9), point.policy, one


def _front(points: Iterable[SearchPoint]) -> list[SearchPoint]:
    """Return the points that no other beats in hours and violations; of equal ones the first in order."""
    ordered = sorted(points, key=lambda p: (_hours(p), p.strain_ratio or 0.0, *_order(p)))
    front: list[SearchPoint] = []
    least = np.inf
    for point in ordered:
        if (point.strain_ratio or 0.0) < least:
            front.append(point)
            least = point.strain_ratio or 0.0
    return front


def _chosen(points: Sequence[SearchPoint], allowed: float) -> SearchPoint:
    feasible = [p for p in points if (p.strain_ratio or 0.0) <= allowed]
    if not feasible:
        return min(points, key=lambda p: (p.strain_ratio or 0.0, _hours(p), *_order(p)))
    fewest = min(_hours(p) for p in feasible)
    near = [p for p in feasible if _hours(p) <= fewest * (1 + SAME_HOURS)]
    return min(near, key=lambda p: (round((p.strain_ratio or 0.0) / SAME_STRAIN), *_order(p)))


def _why(point: SearchPoint, derived: SearchPoint | None, allowed: float, tried: int) -> str:
    """Say what was tried, why this point, and what it gains over the derived numbers."""
    strain = point.strain_ratio or 0.0
    kept = strain <= allowed
    start = (
        "the fewest hours of the settings that hold the SLO, or within 2 % of them the safest and calmest"
        if kept
        else "no setting holds the SLO; this one violates least"
    )
    text = f"{tried} settings tried on the training window; {start}: {strain:.2%} of windows over capacity"
    if derived is None or derived is point or setting_of(point) == DERIVED:
        return f"{text}; these are the derived numbers"
    saved = 1 - _hours(point) / _hours(derived) if _hours(derived) else 0.0
    return f"{text}; {saved:+.1%} of hours saved against the derived numbers, unseen data not yet asked"


def _scaled_target(primary: Primary, value: float, share: float) -> Primary:
    """Return the primary at a share of its target; the highest total seen needs as many more instances."""
    seen = primary.highest
    return replace(
        primary,
        target_per_instance=replace(primary.target_per_instance, value=value * share),
        highest=None if seen is None else replace(seen, instances=seen.instances / share),
    )


def _scaled_band(band: Hysteresis, factor: float) -> Hysteresis:
    """Return the band with the noise in it scaled; one instance stays the share of the pool that it is."""
    instance = 1.0 / band.usual_instances if band.usual_instances is not None else 0.0
    more = (factor - 1.0) * max(0.0, 1.0 - band.scale_in_ratio - instance)
    return replace(
        band,
        scale_out_ratio=1 + (band.scale_out_ratio - 1) * factor,
        scale_in_ratio=max(0.0, band.scale_in_ratio - more),
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
