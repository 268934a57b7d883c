"""The decision rule for many policies at once: ``policy.rule.decide`` on arrays, held equal to it by a test.

Only selection's search over parameters runs this form; what it chooses is replayed by the rule itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hs_analysis.errors import UsageError
from hs_analysis.policy.model import Guard, Policy
from hs_analysis.policy.rule import ROUNDING
from hs_analysis.replay.demand import Floats, Key, Mask

NEVER = -np.inf


@dataclass(frozen=True)
class Family:
    """Policies that differ in numbers only, as arrays of shape (policies,).

    Attributes
    ----------
    template
        One of them: primaries, guards and soft scale-in are those of all.
    policies
        How many.
    target
        Per primary [unit of the signal].
    above, below
        Band per role.
    rest_out, rest_in
        Cooldown per role [s]; an infinite ``rest_in`` forbids scale-in.
    dampening, most_out, most_in
        Step limits.
    ratio, deviation
        Prefill ÷ decode and its tolerance; None when no ratio sizes a pool.
    least, most
        Bounds per role.
    """

    template: Policy
    policies: int
    target: Mapping[Key, Floats]
    above: Mapping[str, Floats]
    below: Mapping[str, Floats]
    rest_out: Mapping[str, Floats]
    rest_in: Mapping[str, Floats]
    dampening: Floats
    most_out: Floats
    most_in: Floats
    ratio: Floats | None
    deviation: Floats
    least: Mapping[str, Floats]
    most: Mapping[str, Floats]

    @property
    def follower(self) -> str | None:
        """Pool that the only primary sizes through the ratio."""
        if self.ratio is None or len(self.template.primaries) != 1:
            return None
        return {"decode": "prefill", "prefill": "decode"}.get(self.template.primaries[0].role)


@dataclass
class Memory:
    """What controllers remember of one pool, shape (policies,) each."""

    last_out: Floats
    last_in: Floats
    draining: Floats
    draining_since: Floats


@dataclass
class Alarms:
    """Worst guard of one pool: latency ÷ SLO, its place (−1 none), and whether one is blind."""

    ratio: Floats
    worst: NDArray[np.int64]
    blind: Mask
    guards: tuple[Guard, ...] = field(default=())


def family(policies: Sequence[Policy], roles: Sequence[str]) -> Family:
    """Stack policies that have the same primaries, guards and soft scale-in.

    Raises
    ------
    UsageError
        When they differ in more than numbers, or when one is not driven by a metric.
    """
    first = policies[0]
    shape = _shape(first)
    if any(_shape(policy) != shape for policy in policies) or first.mode != "metric":
        raise UsageError(
            "policies of one family differ in numbers only", hint="group them by their primaries"
        )

    def each(value: object) -> Floats:
        return np.array(value, dtype=float)

    def rest(role: str, name: str, unknown: float) -> Floats:
        found = [getattr(p.cooldown[role], name) if role in p.cooldown else None for p in policies]
        return each([unknown if value is None else value for value in found])

    ratios = [p.pd_ratio.value if p.pd_ratio else None for p in policies]
    known = all(ratios)
    limits = {r: [p.bounds.get(r) for p in policies] for r in roles}
    return Family(
        first,
        len(policies),
        {
            (first.primaries[i].signal, first.primaries[i].role): each(
                [p.primaries[i].target_per_instance.value or np.nan for p in policies]
            )
            for i in range(len(first.primaries))
        },
        {
            r: each([p.hysteresis[r].scale_out_ratio if r in p.hysteresis else 1.0 for p in policies])
            for r in roles
        },
        {
            r: each([p.hysteresis[r].scale_in_ratio if r in p.hysteresis else 1.0 for p in policies])
            for r in roles
        },
        {r: rest(r, "scale_out_s", NEVER) for r in roles},
        {r: rest(r, "scale_in_s", np.inf) for r in roles},
        each([p.step.dampening for p in policies]),
        each([p.step.max_out_fraction for p in policies]),
        each([p.step.max_in_fraction for p in policies]),
        each(ratios) if known else None,
        each([(p.pd_ratio.max_deviation or 0.0) if p.pd_ratio else 0.0 for p in policies]),
        {r: each([b.min if b else -np.inf for b in limits[r]]) for r in roles},
        {r: each([b.max if b else np.inf for b in limits[r]]) for r in roles},
    )


def _shape(policy: Policy) -> tuple[object, ...]:
    primaries = tuple((p.signal, p.role, p.pool) for p in policy.primaries)
    ratio = bool(policy.pd_ratio and policy.pd_ratio.value)
    return (
        policy.mode,
        primaries,
        ratio,
        policy.guards,
        policy.soft_scale_in,
        policy.averaging_s,
        tuple(sorted(policy.start_up_s.items())),
    )


class Controllers:
    """All policies of a family at work on one capture."""

    def __init__(self, fam: Family, roles: Sequence[str], guards: Sequence[Guard]) -> None:
        self.fam, self.roles = fam, tuple(roles)
        self.guards = {role: tuple(g for g in guards if g.role == role) for role in self.roles}
        p = fam.policies
        self.memory = {
            role: Memory(np.full(p, NEVER), np.full(p, NEVER), np.zeros(p), np.full(p, NEVER))
            for role in self.roles
        }

    def decide(
        self,
        t_s: float,
        values: Mapping[Key, Floats],
        desired: Mapping[str, Floats],
        reporting: Mapping[str, Floats],
        latencies: Mapping[Key, Floats],
    ) -> dict[str, tuple[Floats, Floats]]:
        """Apply the rule to one moment; NaN is a missing value.

        Returns
        -------
        dict
            Per role the counts after and the instances restored, shape (policies,) each.
        """
        fam = self.fam
        alarms = {role: self._alarms(role, latencies) for role in self.roles}
        counts = {role: desired[role] for role in self.roles}
        for primary in fam.template.primaries:
            key, role = (primary.signal, primary.role), primary.role
            if role not in desired:
                continue
            need = self._wanted(primary.pool, key, values[key], desired[role], reporting)
            follower = fam.follower if fam.follower in desired else None
            watched = [alarms[role], *([alarms[follower]] if follower else [])]
            counts[role] = self._size(role, need, values[key] == 0.0, desired[role], t_s, watched)
            if follower:
                counts[follower] = self._follow(
                    role, follower, need, counts[role], desired, t_s, alarms[follower]
                )
        for role in self.roles:
            counts[role] = self._guarded(role, counts[role], desired[role], t_s, alarms[role])
        return {
            role: self._settled(role, counts[role], desired[role], t_s, alarms[role]) for role in self.roles
        }

    def _alarms(self, role: str, latencies: Mapping[Key, Floats]) -> Alarms:
        p = self.fam.policies
        found = Alarms(np.zeros(p), np.full(p, -1), np.zeros(p, bool), self.guards[role])
        for place, guard in enumerate(found.guards):
            ratio = latencies[(guard.signal, guard.role)] / guard.slo_s
            missing = ~np.isfinite(ratio)
            found.blind |= missing
            worse = ~missing & (ratio > found.ratio)
            found.ratio = np.where(worse, ratio, found.ratio)
            found.worst = np.where(worse, place, found.worst)
        return found

    def _wanted(
        self, pool: str, key: Key, value: Floats, desired: Floats, reporting: Mapping[str, Floats]
    ) -> Floats:
        target = self.fam.target[key]
        bad = ~np.isfinite(value) | (value < 0) | ~(target > 0)
        scale = 1.0 if pool == "sum" else reporting.get(key[1], desired)
        need = scale * value / target
        return np.where(bad, np.nan, need)

    def _size(
        self, role: str, need: Floats, idle: Mask, current: Floats, t_s: float, watched: Sequence[Alarms]
    ) -> Floats:
        fam, missing = self.fam, np.isnan(need)
        goal = np.maximum(1.0, np.ceil(np.where(missing, 1.0, need) * (1 - ROUNDING)))
        ratio = need / current
        out = (ratio > fam.above[role]) & (goal > current)
        inn = (ratio < fam.below[role]) & (goal < current)
        for alarm in watched:
            inn &= ~(((alarm.ratio > 1.0) & (alarm.worst >= 0)) | (alarm.blind & ~idle))
        counts = np.where(out, self._step_out(role, current, goal, t_s), current) if out.any() else current
        if inn.any():
            counts = np.where(inn, self._step_in(role, current, goal, t_s), counts)
        return np.where(missing, current, np.where(current <= 0, goal, counts))

    def _follow(
        self,
        leader: str,
        role: str,
        need: Floats,
        count: Floats,
        desired: Mapping[str, Floats],
        t_s: float,
        alarm: Alarms,
    ) -> Floats:
        fam, current, before = self.fam, desired[role], desired[leader]
        if fam.ratio is None:
            return current
        count = np.minimum(np.maximum(count, fam.least[leader]), np.maximum(fam.most[leader], before))
        exact = count * fam.ratio if leader == "decode" else count / fam.ratio
        goal = np.maximum(1.0, np.ceil(exact * (1 - ROUNDING)))
        now = current / before if role == "prefill" else before / np.maximum(current, 1.0)
        settled = (goal == current) | (np.abs(now - fam.ratio) <= fam.deviation)
        veto = ((alarm.ratio > 1.0) & (alarm.worst >= 0)) | alarm.blind
        level = np.where(goal > current, self._step_out(role, current, goal, t_s), current)
        level = np.where((goal < current) & ~veto, self._step_in(role, current, goal, t_s), level)
        level = np.where(settled, current, level)
        moved = np.where(count > before, np.maximum(current, goal), level)
        moved = np.where(count < before, np.minimum(current, goal), moved)
        return np.where(np.isnan(need), current, moved)

    def _step_out(self, role: str, current: Floats, goal: Floats, t_s: float) -> Floats:
        fam = self.fam
        change = np.ceil(fam.dampening * (goal - current) - ROUNDING)
        limit = np.maximum(1.0, np.ceil(fam.most_out * current - ROUNDING))
        after = current + np.minimum(np.maximum(1.0, change), limit)
        return np.where(t_s - self.memory[role].last_out < fam.rest_out[role], current, after)

    def _step_in(self, role: str, current: Floats, goal: Floats, t_s: float) -> Floats:
        fam, memory = self.fam, self.memory[role]
        change = np.floor(fam.dampening * (current - goal) + ROUNDING)
        limit = np.maximum(1.0, np.floor(fam.most_in * current + ROUNDING))
        after = current - np.minimum(np.maximum(1.0, change), limit)
        rested = t_s - np.maximum(memory.last_in, memory.last_out)
        held = np.isinf(fam.rest_in[role]) | (rested < fam.rest_in[role])
        return np.where(held, current, after)

    def _guarded(self, role: str, counts: Floats, current: Floats, t_s: float, alarm: Alarms) -> Floats:
        fam = self.fam
        add_share = np.zeros(fam.policies)
        for place, guard in enumerate(alarm.guards):
            for tier in guard.tiers:
                hit = (alarm.worst == place) & (alarm.ratio > tier.above_ratio)
                add_share = np.where(hit, np.maximum(add_share, tier.add_fraction), add_share)
        if not add_share.any():
            return counts
        rest = np.maximum(np.maximum(fam.rest_out[role], 0.0), fam.template.start_up_s.get(role, 0.0))
        free = (add_share > 0) & ~(t_s - self.memory[role].last_out < rest)
        add = np.maximum(1.0, np.ceil(add_share * current - ROUNDING))
        limit = np.maximum(1.0, np.ceil(fam.most_out * current - ROUNDING))
        goal = current + np.minimum(add, limit)
        return np.where(free & (goal > counts), goal, counts)

    def _settled(
        self, role: str, after: Floats, before: Floats, t_s: float, alarm: Alarms
    ) -> tuple[Floats, Floats]:
        """Restore or end observations, clamp to the bounds, and remember."""
        fam, memory, soft = self.fam, self.memory[role], self.fam.template.soft_scale_in
        watch = soft.observe_s if soft else 0.0
        over = (memory.draining > 0) & (t_s - memory.draining_since >= watch)
        memory.draining = np.where(over, 0.0, memory.draining)
        alarmed = (memory.draining > 0) & (alarm.ratio > 1.0) & (alarm.worst >= 0)
        back = before + memory.draining
        after = np.where(alarmed & (back >= after), back, after)
        after = np.maximum(np.minimum(after, np.maximum(fam.most[role], before)), fam.least[role])
        restored = np.minimum(memory.draining, np.maximum(0.0, after - before))
        grown, shrunk = after > before, after < before
        memory.last_out = np.where(grown, t_s, memory.last_out)
        memory.last_in = np.where(shrunk, t_s, memory.last_in)
        memory.draining = np.where(grown, memory.draining - restored, memory.draining)
        if soft is not None:
            memory.draining = np.where(shrunk, memory.draining + before - after, memory.draining)
            memory.draining_since = np.where(shrunk, t_s, memory.draining_since)
        return after, restored
