"""How policies bear faults: a table of policy × fault.

Each fault is tried in several hours in which the load climbs steeply, when a held or shrunken fleet hurts
most. A pool of whole instances has up to one to spare when a fault hits, by chance; in a single hour that
decides more than the policy does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hs_analysis.replay.constants import SETTLING_S, SKEW_S, STEEP, WATCHED
from hs_analysis.replay.control import Control
from hs_analysis.replay.demand import Demand, Floats, fill, rows_of
from hs_analysis.replay.faults import FAULTS, NO_FAULT, Fault, Stretch
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.simulate import Simulation, SimulationResult, combined_violation
from hs_analysis.schema.constants import MAJORITY

PLACES = 12
"""At how many hours a fault is tried at most; default of this project: on simulated days mean shares under a
metric gap at 6, 12 and 24 hours were 7.6, 6.5 and 8.2 %, those of single hours 0 to 20 %."""

LEAD_S = 2 * SETTLING_S
"""Time that policies run before the first fault can hit, so that they run counts of their own and not what
they took over [s]; default of this project."""


@dataclass(frozen=True)
class FaultOutcome:
    """One policy under one fault, at all hours that it was tried at.

    Attributes
    ----------
    policy, fault
        Names; fault ``none`` is the same stretches undisturbed.
    places
        At how many hours it was tried.
    slo_violation_ratio, worst_violation_ratio
        Chance of violating in the scored rows from the start of the fault to two fault lengths after its
        end: mean of each hour's mean, and the highest of them; None without a capacity.
    lowest
        Fewest instances asked for in the fault, per pool.
    lowest_ready
        Fewest instances able to serve in the fault, per pool.
    recovery_s
        From the end of the fault to the last window that violates though it does not undisturbed, the longest
        [s]; 0 if there is none; None when it has not recovered once after two fault lengths.
    unserved_tokens
        Most work still waiting two fault lengths after a fault.
    """

    policy: str
    fault: str
    places: int
    slo_violation_ratio: float | None
    worst_violation_ratio: float | None
    lowest: dict[str, float]
    lowest_ready: dict[str, float]
    recovery_s: float | None
    unserved_tokens: float


def steep_stretches(demand: Demand, model: FleetModel, lead: int = 0) -> tuple[Stretch, ...]:
    """Return the hours that faults are tried at, in order: at most ``PLACES``, spread evenly over all starts.

    A start is a row from ``lead`` on from which the load climbs in an hour at least ``STEEP`` of the steepest
    climb, in instances at capacity or target.
    """
    rows = rows_of(SETTLING_S, demand.window_s)
    need = np.zeros(demand.rows)
    for role, pool in model.pools.items():
        per_instance = (
            pool.capacity or pool.target or float(np.nanmax(demand.offered[role], initial=1.0)) or 1.0
        )
        need += fill(demand.offered[role]) / per_instance
    smooth = _ahead(need, max(1, rows // 6))
    last = max(1, demand.rows - (1 + WATCHED) * rows)
    climb = smooth[np.minimum(np.arange(last) + rows, demand.rows - 1)] - smooth[:last]
    climb[:lead] = -math.inf
    climb = np.where(np.isnan(climb), -math.inf, climb)
    steepest = climb.max()
    starts = np.flatnonzero(climb >= STEEP * steepest) if steepest > 0 else np.array([climb.argmax()])
    # Row 0 has nothing scraped before it.
    starts = np.unique(np.maximum(starts, min(2, demand.rows - 1)))
    picked = np.unique(np.linspace(0, starts.size - 1, min(PLACES, starts.size)).round().astype(int))
    return tuple(Stretch(int(at), int(min(at + rows, demand.rows))) for at in starts[picked])


def _ahead(values: Floats, rows: int) -> Floats:
    padded = np.concatenate([values, np.full(rows - 1, values[-1])])
    means: Floats = np.lib.stride_tricks.sliding_window_view(padded, rows).mean(axis=1)
    return means


def replay_faults(
    policies: Mapping[str, Control],
    demand: Demand,
    model: FleetModel,
    faults: Sequence[Fault] = FAULTS,
    lead: int = 0,
) -> tuple[FaultOutcome, ...]:
    """Replay each policy under each fault, and undisturbed.

    Parameters
    ----------
    policies
        Policies, autoscalers or schedules by name.
    demand
        One capture; faults hit ``steep_stretches`` of it, each by itself.
    model
        The fleet.
    faults
        Rows of ``FAULTS``.
    lead
        Rows that are replayed before the first fault can hit.

    Returns
    -------
    tuple
        Per policy in the order given: first the row ``none``, then one per fault.
    """
    stretches = steep_stretches(demand, model, lead)
    known = tuple(role for role, pool in model.pools.items() if pool.capacity is not None)
    outcomes = []
    for name, control in policies.items():
        calm, before = _calm(control, demand, model, stretches)
        usual = combined_violation(calm, known)
        undisturbed = [_Hit(calm, usual, usual, stretch, known) for stretch in stretches]
        outcomes.append(_outcome(name, NO_FAULT, undisturbed))
        for fault in faults:
            hits = []
            for one, stretch in zip(before, stretches, strict=True):
                struck = _struck(one, fault, stretch, demand)
                hits.append(_Hit(struck, combined_violation(struck, known), usual, stretch, known))
            outcomes.append(_outcome(name, fault, hits))
    return tuple(outcomes)


def _calm(
    control: Control, demand: Demand, model: FleetModel, stretches: Sequence[Stretch]
) -> tuple[SimulationResult, list[Simulation]]:
    """Replay undisturbed; return it, and the simulation as it stood some time before each stretch.

    So long before that a clock which is late has what it shows.
    """
    run, before = Simulation(control, demand, model), []
    for stretch in stretches:
        run.advance(max(0, stretch.first - rows_of(SKEW_S, demand.window_s)))
        before.append(run.branch(demand.until(run.row)))
    run.advance(demand.rows)
    return run.result(), before


def _struck(before: Simulation, fault: Fault, stretch: Stretch, demand: Demand) -> SimulationResult:
    """Go on under a fault, until its effects have been watched."""
    hit = fault.demand(stretch, demand).until(watched_until(stretch, demand))
    run = before.branch(hit, fault.trouble(stretch, hit))
    run.advance(hit.rows)
    return run.result()


def watched_until(stretch: Stretch, demand: Demand) -> int:
    """Return the row at which a fault in a stretch is no longer looked at."""
    return min(demand.rows, stretch.last + WATCHED * rows_of(SETTLING_S, demand.window_s))


@dataclass(frozen=True)
class _Hit:
    """A fault in one stretch: what came of it, and the chance of violating per row, with it and without."""

    result: SimulationResult
    chance: Floats
    usual: Floats
    stretch: Stretch
    known: tuple[str, ...]

    def violation(self) -> float | None:
        """Mean chance of violating over scored rows from the start on; None where nothing is known of it."""
        watched = slice(self.stretch.first, watched_until(self.stretch, self.result.demand))
        chance = self.chance[watched]
        values = chance[self.result.scored[watched] & ~np.isnan(chance)]
        return float(values.mean()) if values.size else None

    def recovery_s(self) -> float | None:
        """From the end to the last window that violates though it does not undisturbed; None without end."""
        end = watched_until(self.stretch, self.result.demand)
        hit, usual = (np.nan_to_num(chance[:end]) > MAJORITY for chance in (self.chance, self.usual))
        late = np.flatnonzero((hit & ~usual)[self.stretch.last :])
        if late.size == 0:
            return 0.0
        if self.stretch.last + late[-1] == end - 1:
            return None
        return float(late[-1] + 1) * self.result.demand.window_s

    def fewest(self, counts: Mapping[str, Floats]) -> dict[str, float]:
        """Fewest instances in the fault, per pool."""
        inside = slice(self.stretch.first, self.stretch.last)
        return {role: float(np.nanmin(values[inside])) for role, values in counts.items()}

    def unserved_tokens(self) -> float:
        """Work waiting when it is no longer looked at."""
        last = watched_until(self.stretch, self.result.demand) - 1
        return sum(float(queue[last]) for queue in self.result.queued.values())


def _outcome(name: str, fault: Fault, hits: Sequence[_Hit]) -> FaultOutcome:
    shares = [share for hit in hits if (share := hit.violation()) is not None]
    recoveries = [hit.recovery_s() for hit in hits] if hits[0].known else [None]
    asked = [hit.fewest(hit.result.desired) for hit in hits]
    ready = [hit.fewest(hit.result.ready) for hit in hits]
    return FaultOutcome(
        name,
        fault.name,
        len(hits),
        sum(shares) / len(shares) if shares else None,
        max(shares, default=None),
        {role: min(one[role] for one in asked) for role in asked[0]},
        {role: min(one[role] for one in ready) for role in ready[0]},
        None if None in recoveries else max(one for one in recoveries if one is not None),
        max(hit.unserved_tokens() for hit in hits),
    )
