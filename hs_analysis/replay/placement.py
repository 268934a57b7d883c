"""Whether the counts that a policy wants can stand where prefill and decode are near enough to each other.

Wanted counts are placed cycle by cycle as Algorithm 4 of arXiv:2508.19559 does: one instance at a time, in
the subgroup of the lowest priority that fits; removal begins with the highest priority. GPUs that a cycle
frees are used from the next one on. A network domain that holds one role without the other serves nothing, so
that a domain is opened with one of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hs_analysis.policy.topology import LOW, Topology
from hs_analysis.replay.fleet import FleetModel
from hs_analysis.replay.score import score
from hs_analysis.replay.simulate import Schedule, SimulationResult, simulate
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import HOUR_S
from hs_analysis.schema.replays import PlacementOutcome


@dataclass(frozen=True)
class Placed:
    """Counts that found a place. Arrays have shape (rows,).

    Attributes
    ----------
    counts
        Instances placed, per role.
    crossing
        Share of the traffic from prefill to decode that has no partner in its own domain, were both spread in
        proportion [ratio]; 0 with one role, NaN while a role has none.
    scarce
        Instances on subgroups of more than the lowest priority.
    """

    counts: dict[str, Floats]
    crossing: Floats
    scarce: Floats


class _Racks:
    """Instances per rack and role, changed in place."""

    def __init__(self, topology: Topology, sizes: Mapping[str, int]) -> None:
        self.topology, self.sizes, self.roles = topology, sizes, tuple(sizes)
        self.racks = range(len(topology.racks))
        self.domain = [topology.domain(rack) for rack in topology.racks]
        self.priority = [topology.priority(rack) for rack in topology.racks]
        self.held = {role: [0] * len(topology.racks) for role in sizes}
        self.free = [rack.gpus for rack in topology.racks]

    def in_domain(self, role: str, at: int) -> int:
        return sum(n for n, d in zip(self.held[role], self.domain, strict=True) if d == self.domain[at])

    def fits(self, role: str, at: int, taken: int = 0) -> bool:
        types = self.topology.gpu_types.get(role)
        allowed = types is None or self.topology.racks[at].gpu_type in types
        return allowed and self.free[at] - taken >= self.sizes[role]

    def share(self, role: str, at: int, wanted: Mapping[str, int]) -> float:
        """Return how well a role stands in a domain against the other roles: the lowest needs more."""
        others = [self.in_domain(other, at) / max(1, wanted[other]) for other in self.roles if other != role]
        return self.in_domain(role, at) / max(1, wanted[role]) - min(others, default=0.0)

    def put(self, role: str, at: int) -> None:
        self.held[role][at] += 1
        self.free[at] -= self.sizes[role]

    def add(self, role: str, wanted: Mapping[str, int], missing: Mapping[str, int]) -> bool:
        """Place one more, with a partner where its domain is opened; False when nothing fits."""
        found = []
        for at in self.racks:
            if not self.fits(role, at):
                continue
            absent = [o for o in self.roles if o != role and not self.in_domain(o, at)]
            partners = [(o, rack) for o in absent if (rack := self._partner(o, role, at)) is not None]
            if len(partners) < len(absent) or not all(missing[other] for other in absent):
                continue
            order = (self.priority[at], bool(absent), self.share(role, at, wanted), at)
            found.append((order, at, partners))
        if not found:
            return False
        _, at, opened = min(found, key=lambda one: one[0])
        for one, rack in [(role, at), *opened]:
            self.put(one, rack)
        return True

    def _partner(self, other: str, role: str, at: int) -> int | None:
        """Return the rack of the same domain where another role fits once ``role`` stands on ``at``."""
        near = [k for k in self.racks if self.domain[k] == self.domain[at]]
        fit = [k for k in near if self.fits(other, k, self.sizes[role] if k == at else 0)]
        return min(fit, key=lambda k: (self.priority[k], k), default=None)

    def remove(self, role: str, wanted: Mapping[str, int]) -> int:
        """Take one away and return its rack; the GPUs are freed by the caller.

        What would leave another role without a partner goes last, unless that role is about to leave as well.
        """

        def order(at: int) -> tuple[bool, int, float, int]:
            stays = (
                self.in_domain(other, at) > sum(self.held[other]) - wanted[other]
                for other in self.roles
                if other != role and self.in_domain(other, at)
            )
            alone = self.in_domain(role, at) == 1 and any(stays)
            return (alone, -self.priority[at], -self.share(role, at, wanted), -at)

        at = min((k for k in self.racks if self.held[role][k]), key=order)
        self.held[role][at] -= 1
        return at

    def cycle(self, wanted: Mapping[str, int]) -> None:
        """Bring the counts as near to the wanted ones as there is room."""
        freed: list[tuple[int, int]] = []
        for role in self.roles:
            while sum(self.held[role]) > wanted[role]:
                freed.append((self.remove(role, wanted), self.sizes[role]))
        stuck: set[str] = set()
        while True:
            missing = {role: max(0, wanted[role] - sum(self.held[role])) for role in self.roles}
            open_roles = [role for role in self.roles if missing[role] and role not in stuck]
            if not open_roles:
                break
            role = max(open_roles, key=lambda one: missing[one] / wanted[one])
            if self.add(role, wanted, missing):
                stuck.clear()
            else:
                stuck.add(role)
        for at, gpus in freed:
            self.free[at] += gpus

    def crossing(self) -> float:
        """Return the share of traffic without a partner in its domain."""
        totals = [sum(self.held[role]) for role in self.roles]
        if len(totals) < 2:
            return 0.0
        if not all(totals):
            return float("nan")
        firsts = {self.domain[at]: at for at in self.racks}.values()
        inside = (
            min(self.in_domain(role, at) / total for role, total in zip(self.roles, totals, strict=True))
            for at in firsts
        )
        return max(0.0, 1.0 - sum(inside))


def place(wanted: Mapping[str, Floats], topology: Topology, sizes: Mapping[str, int]) -> Placed:
    """Place wanted counts row by row.

    Parameters
    ----------
    wanted
        Instances per role, shape (rows,) each; a missing count wants what the row before did.
    topology, sizes
        Where, and the GPUs that an instance of each role takes.
    """
    racks = _Racks(topology, {role: sizes[role] for role in wanted})
    rows = len(next(iter(wanted.values())))
    counts = {role: np.zeros(rows) for role in wanted}
    crossing, scarce = np.zeros(rows), np.zeros(rows)
    goal = dict.fromkeys(wanted, 0)
    for row in range(rows):
        goal = {
            role: goal[role] if np.isnan(values[row]) else round(float(values[row]))
            for role, values in wanted.items()
        }
        if row == 0 or any(sum(racks.held[role]) != goal[role] for role in goal):
            racks.cycle(goal)
        for role in wanted:
            counts[role][row] = sum(racks.held[role])
        crossing[row] = racks.crossing()
        scarce[row] = sum(
            racks.held[role][at] for role in wanted for at in racks.racks if racks.priority[at] > LOW
        )
    return Placed(counts, crossing, scarce)


def replay_placement(
    policy: str,
    results: Sequence[SimulationResult],
    model: FleetModel,
    topology: Topology,
    sizes: Mapping[str, int],
) -> PlacementOutcome:
    """Say how often a replayed policy's counts found no place, and what that does to what is served.

    Both shares replay counts as they stand, asked for a start-up time ahead: the policy does not see that
    some found no place.
    """
    placed = [place(result.desired, topology, sizes) for result in results]
    shares = {}
    for name, counts in (("wanted", [r.desired for r in results]), ("placed", [p.counts for p in placed])):
        replayed = [
            simulate(Schedule(each, running=False), result.demand, model)
            for each, result in zip(counts, results, strict=True)
        ]
        shares[name] = score(name, replayed, model).row
    scored = [result.scored for result in results]
    window_h = results[0].demand.window_s / HOUR_S
    gaps = [
        np.sum([np.nan_to_num(result.desired[role]) - one.counts[role] for role in one.counts], axis=0)[use]
        for result, one, use in zip(results, placed, scored, strict=True)
    ]
    short = np.maximum(np.concatenate(gaps), 0.0)
    crossing = np.concatenate([one.crossing[use] for one, use in zip(placed, scored, strict=True)])
    scarce = np.concatenate([one.scarce[use] for one, use in zip(placed, scored, strict=True)])
    crossed = crossing[np.isfinite(crossing)]
    return PlacementOutcome(
        policy=policy,
        unplaced_instance_hours=float(short.sum()) * window_h,
        unplaced_window_ratio=float((short > 0).mean()) if short.size else 0.0,
        crossing_ratio=float(crossed.mean()) if len(model.pools) > 1 and crossed.size else None,
        scarce_instance_hours=float(scarce.sum()) * window_h,
        slo_violation_ratio=shares["wanted"].slo_violation_ratio,
        placed_slo_violation_ratio=shares["placed"].slo_violation_ratio,
        unserved_tokens=shares["wanted"].unserved_tokens or 0.0,
        placed_unserved_tokens=shares["placed"].unserved_tokens or 0.0,
    )
