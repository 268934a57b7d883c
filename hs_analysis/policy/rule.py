"""The decision rule: one observation in, the wanted counts out. Selection and replay call this very code.

Proportional control after HeteroScale (arXiv:2508.19559, section on scaling policies): one signal sizes a
pool, a ratio sizes the other, latency guards only add and veto. Constants are in the policy, never here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hs_analysis.policy.equivalents import mean_weight, ratio_factor
from hs_analysis.policy.model import Guard, Policy, Primary
from hs_analysis.policy.timetable import planned_counts

Direction = Literal["out", "in", "hold"]

ROUNDING = 1e-9
"""Relative slack before a count is rounded up [ratio]: 3 × target ÷ target must stay 3 in floating point."""

NEVER = -math.inf


@dataclass(frozen=True, slots=True)
class Observation:
    """What a controller can see at one time.

    Attributes
    ----------
    t_s
        Time [Unix s].
    values
        Primaries by (signal, role): pool total or pool mean over the averaging window [unit of the signal];
        None or NaN when the metric is missing.
    desired
        Instances asked for now, per role.
    reporting
        Instances behind a pool-mean value, averaged like it; an absent role counts its desired instances.
    latencies
        Guards by (signal, role of the guard) over the last window [s]; None or NaN when missing.
    gpu_types
        Pods per GPU type that run in a role, for pools that mix types; an absent role has the mean mix that
        the policy was fitted on.
    """

    t_s: float
    values: Mapping[tuple[str, str], float | None]
    desired: Mapping[str, int]
    reporting: Mapping[str, float] = field(default_factory=dict)
    latencies: Mapping[tuple[str, str], float | None] = field(default_factory=dict)
    gpu_types: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoleState:
    """What the controller remembers of one pool: last actions [Unix s] and instances under observation."""

    last_out_s: float = NEVER
    last_in_s: float = NEVER
    draining: int = 0
    draining_since_s: float = NEVER


@dataclass(frozen=True, slots=True)
class State:
    """Memory of the controller per role; a role that is absent has never been acted on."""

    roles: Mapping[str, RoleState] = field(default_factory=dict)

    def of(self, role: str) -> RoleState:
        """Return the memory of a role."""
        return self.roles.get(role) or RoleState()


@dataclass(frozen=True, slots=True)
class RoleDecision:
    """The outcome for one pool: counts before and after, instances restored from observation, and why."""

    role: str
    before: int
    after: int
    reason: str
    restored: int = 0

    @property
    def direction(self) -> Direction:
        """Whether the pool grows, shrinks or holds."""
        return "out" if self.after > self.before else "in" if self.after < self.before else "hold"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision over all pools, in the order of ``Observation.desired``."""

    roles: tuple[RoleDecision, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Wanted instances per role."""
        return {r.role: r.after for r in self.roles}

    @property
    def direction(self) -> Direction:
        """``out`` if any pool grows, else ``in`` if any shrinks, else ``hold``."""
        seen = {r.direction for r in self.roles}
        return "out" if "out" in seen else "in" if "in" in seen else "hold"

    @property
    def reason(self) -> str:
        """The reasons of all pools that say something, in words."""
        return "; ".join(f"{r.role}: {r.reason}" for r in self.roles if r.reason)


@dataclass(frozen=True, slots=True)
class _Alarm:
    """The worst guard of a role: latency ÷ SLO (0 without guards), and whether a guard can't be seen."""

    ratio: float = 0.0
    guard: Guard | None = None
    blind: bool = False


def wanted(primary: Primary, observation: Observation) -> float | None:
    """Return the instances a primary asks for, before rounding; None when it can't be seen.

    Pool total: value ÷ target, in equivalents, ÷ equivalents of the mean pod that runs (`mean_weight`); up to
    the highest total that history saw no more than that needs (`Highest`). Pool mean: reporting instances ×
    value ÷ target, whatever their types.
    """
    value = observation.values.get((primary.signal, primary.role))
    target = primary.target_per_instance.value
    if value is None or target is None or not math.isfinite(value) or value < 0 or target <= 0:
        return None
    if primary.pool == "sum":
        weight = mean_weight(primary.gpu_types, observation.gpu_types.get(primary.role, {}))
        seen = primary.highest
        if seen is None:
            return value / target / weight
        beyond = max(0.0, value - seen.total) / target / weight
        return min(min(value, seen.total) / target / weight, seen.instances) + beyond
    running = observation.reporting.get(primary.role, float(observation.desired.get(primary.role, 0)))
    return running * value / target


def round_up(instances: float) -> int:
    """Return the least whole number of instances that is enough, at least 1; float noise adds none."""
    return max(1, math.ceil(instances * (1 - ROUNDING)))


def follower_count(leader: str, leader_count: int, ratio: float) -> int:
    """Return the size of the other pool: ⌈D × ratio⌉ when decode leads, ⌈P ÷ ratio⌉ when prefill leads."""
    return round_up(leader_count * ratio if leader == "decode" else leader_count / ratio)


def decide(policy: Policy, observation: Observation, state: State) -> tuple[Decision, State]:
    """Apply the policy to one observation.

    Order: restore instances under observation if a guard is above its SLO; size by the primaries inside
    dead band, cooldown and step limits; keep the ratio where one primary sizes both pools; let guards add;
    clamp to the bounds. A missing primary holds its pools (it may be grown by a guard, never shrunk).

    Parameters
    ----------
    policy
        The policy; only numbers in it decide.
    observation
        What is seen now: nothing later than ``observation.t_s``.
    state
        Memory returned by the decision before; ``State()`` at first.

    Returns
    -------
    tuple
        Wanted counts with a reason per pool, and the memory to hand to the next call.
    """
    if policy.mode == "hold":
        return _settle(
            policy, observation, state, {}, dict.fromkeys(observation.desired, "policy is on hold")
        )
    if policy.mode == "periodic":
        counts = planned_counts(policy.periodic, observation.t_s)
        why = "timetable" if counts else "no timetable entry for this time"
        return _settle(policy, observation, state, counts, dict.fromkeys(observation.desired, why))
    alarms = {role: _alarm(policy, role, observation) for role in observation.desired}
    counts, reasons = {}, {}
    for primary in policy.primaries:
        role = primary.role
        if role in observation.desired:
            paired = _follower_role(policy, role, observation)
            watched = [alarms[role]] + ([alarms[paired]] if paired else [])
            counts[role], reasons[role] = _size(policy, primary, observation, state.of(role), watched)
            if paired:
                counts[paired], reasons[paired] = _follow(
                    policy, primary, paired, counts[role], observation, state, alarms[paired]
                )
    for role, alarm in alarms.items():
        _guard_step(policy, role, alarm, observation, state.of(role), counts, reasons)
    return _settle(policy, observation, state, counts, reasons, alarms)


def _alarm(policy: Policy, role: str, observation: Observation) -> _Alarm:
    worst = _Alarm()
    for guard in policy.guards:
        if guard.role != role:
            continue
        value = observation.latencies.get((guard.signal, guard.role))
        if value is None or not math.isfinite(value):
            worst = replace(worst, blind=True)
        elif value / guard.slo_s > worst.ratio:
            worst = _Alarm(value / guard.slo_s, guard, worst.blind)
    return worst


def _follower_role(policy: Policy, leader: str, observation: Observation) -> str | None:
    """Return the pool that a single primary sizes through the ratio."""
    if len(policy.primaries) != 1 or policy.pd_ratio is None or not policy.pd_ratio.value:
        return None
    other = {"decode": "prefill", "prefill": "decode"}.get(leader)
    return other if other in observation.desired else None


def _size(
    policy: Policy, primary: Primary, observation: Observation, memory: RoleState, alarms: list[_Alarm]
) -> tuple[int, str]:
    """Size one pool in proportion: dead band on wanted ÷ current, then cooldown and step limits."""
    role = primary.role
    current = observation.desired[role]
    need = wanted(primary, observation)
    if need is None:
        return current, f"{primary.signal} is missing: hold"
    goal = round_up(need)
    if current <= 0:
        return goal, f"{primary.signal} asks for {need:.2f}, none running: out"
    band = policy.hysteresis.get(role)
    above, below = (band.scale_out_ratio, band.scale_in_at(current)) if band else (1.0, 1.0)
    ratio = need / current
    text = f"{primary.signal} asks for {need:.2f} of {current}, ratio {ratio:.3f}"
    if ratio > above and goal > current:
        return _step_out(policy, role, current, goal, observation.t_s, memory, f"{text} above {above:.3f}")
    if ratio < below and goal < current:
        idle = observation.values.get((primary.signal, role)) == 0
        veto = _veto(alarms, idle)
        if veto:
            return current, f"{text} below {below:.3f}, {veto}: hold"
        return _step_in(policy, role, current, goal, observation.t_s, memory, f"{text} below {below:.3f}")
    return current, f"{text}, inside the band: hold"


def _veto(alarms: list[_Alarm], idle: bool) -> str:
    """Say why a pool may not shrink; empty when it may. An idle pool has no latency to see."""
    for alarm in alarms:
        if alarm.ratio > 1.0 and alarm.guard is not None:
            return f"{alarm.guard.signal} is {alarm.ratio:.2f} of its SLO"
        if alarm.blind and not idle:
            return "a guard is missing"
    return ""


def _step_out(
    policy: Policy, role: str, current: int, goal: int, t_s: float, memory: RoleState, text: str
) -> tuple[int, str]:
    """Grow towards the goal: rounded up, so that a small pool is never slower than its fraction."""
    rest = policy.cooldown[role].scale_out_s if role in policy.cooldown else None
    if rest is not None and t_s - memory.last_out_s < rest:
        return current, f"{text}, cooling down after a scale-out: hold"
    change = math.ceil(policy.step.dampening * (goal - current) - ROUNDING)
    limit = max(1, math.ceil(policy.step.max_out_fraction * current - ROUNDING))
    after = current + min(max(1, change), limit)
    return after, f"{text}: out to {after}" + (f" (step limit, goal {goal})" if after < goal else "")


def _step_in(
    policy: Policy, role: str, current: int, goal: int, t_s: float, memory: RoleState, text: str
) -> tuple[int, str]:
    """Shrink towards the goal: rounded down, one instance at least; an unknown cooldown forbids it."""
    rest = policy.cooldown[role].scale_in_s if role in policy.cooldown else None
    if rest is None:
        return current, f"{text}, the scale-in cooldown is unknown: hold"
    if t_s - max(memory.last_in_s, memory.last_out_s) < rest:
        return current, f"{text}, cooling down: hold"
    change = math.floor(policy.step.dampening * (current - goal) + ROUNDING)
    limit = max(1, math.floor(policy.step.max_in_fraction * current + ROUNDING))
    after = current - min(max(1, change), limit)
    return after, f"{text}: in to {after}" + (f" (step limit, goal {goal})" if after > goal else "")


def _follow(
    policy: Policy,
    primary: Primary,
    role: str,
    leader_count: int,
    observation: Observation,
    state: State,
    alarm: _Alarm,
) -> tuple[int, str]:
    """Size the other pool by the ratio: with the leader in its direction, else back inside the tolerance."""
    current, before = observation.desired[role], observation.desired[primary.role]
    if policy.pd_ratio is None or not policy.pd_ratio.value or wanted(primary, observation) is None:
        return current, f"{primary.signal} is missing: hold"
    ratio = policy.pd_ratio.value * ratio_factor(policy.pd_ratio, primary, role, observation.gpu_types)
    bounds = policy.bounds.get(primary.role)
    leader_count = min(max(leader_count, bounds.min), max(bounds.max, before)) if bounds else leader_count
    goal = follower_count(primary.role, leader_count, ratio)
    text = f"ratio {ratio:.3f} to {leader_count} {primary.role}"
    if leader_count > before:
        return max(current, goal), f"{text}: {max(current, goal)}"
    if leader_count < before:
        return min(current, goal), f"{text}: {min(current, goal)}"
    now = current / before if role == "prefill" else before / max(current, 1)
    tolerance = policy.pd_ratio.max_deviation
    if goal == current or abs(now - ratio) <= (tolerance or 0.0):
        return current, ""
    text = f"ratio is {now:.3f}, wanted {ratio:.3f}"
    if goal > current:
        return _step_out(policy, role, current, goal, observation.t_s, state.of(role), text)
    veto = _veto([alarm], idle=False)
    if veto:
        return current, f"{text}, {veto}: hold"
    return _step_in(policy, role, current, goal, observation.t_s, state.of(role), text)


def _guard_step(
    policy: Policy,
    role: str,
    alarm: _Alarm,
    observation: Observation,
    memory: RoleState,
    counts: dict[str, int],
    reasons: dict[str, str],
) -> None:
    """Let the worst guard of a pool add instances, unless those asked for before can't have started yet."""
    tiers = [t for t in (alarm.guard.tiers if alarm.guard else ()) if alarm.ratio > t.above_ratio]
    if not tiers or alarm.guard is None:
        return
    rest = policy.cooldown[role].scale_out_s if role in policy.cooldown else None
    if observation.t_s - memory.last_out_s < max(rest or 0.0, policy.start_up_s.get(role, 0.0)):
        return
    current = observation.desired[role]
    add = max(1, math.ceil(max(t.add_fraction for t in tiers) * current - ROUNDING))
    goal = current + min(add, max(1, math.ceil(policy.step.max_out_fraction * current - ROUNDING)))
    if goal > counts.get(role, current):
        counts[role] = goal
        reasons[role] = f"{alarm.guard.signal} is {alarm.ratio:.2f} of its SLO: out to {goal}"


def _settle(
    policy: Policy,
    observation: Observation,
    state: State,
    counts: dict[str, int],
    reasons: dict[str, str],
    alarms: Mapping[str, _Alarm] | None = None,
) -> tuple[Decision, State]:
    """Restore or end observations, clamp to the bounds, and remember what was done."""
    decisions, memories = [], {}
    for role, before in observation.desired.items():
        memory = state.of(role)
        if memory.draining:
            memory = _end_observation(policy, memory, observation.t_s)
        after, reason, alarm = counts.get(role, before), reasons.get(role, ""), (alarms or {}).get(role)
        if memory.draining and alarm is not None and alarm.ratio > 1.0 and alarm.guard is not None:
            back = before + memory.draining
            if back >= after:
                after, reason = back, f"{alarm.guard.signal} is above its SLO: {memory.draining} restored"
        after, reason = _clamp(policy, role, after, before, reason)
        restored = min(memory.draining, max(0, after - before))
        decisions.append(RoleDecision(role, before, after, reason, restored))
        memories[role] = _remember(policy, memory, before, after, restored, observation.t_s)
    return Decision(tuple(decisions)), State(memories)


def _end_observation(policy: Policy, memory: RoleState, t_s: float) -> RoleState:
    watch = policy.soft_scale_in.observe_s if policy.soft_scale_in else 0.0
    return replace(memory, draining=0) if t_s - memory.draining_since_s >= watch else memory


def _clamp(policy: Policy, role: str, after: int, before: int, reason: str) -> tuple[int, str]:
    """Hold the bounds; a pool found above its maximum is not grown and shrinks by its own steps."""
    bounds = policy.bounds.get(role)
    if bounds is None:
        return after, reason
    clamped = max(min(after, max(bounds.max, before)), bounds.min)
    return (after, reason) if clamped == after else (clamped, f"{reason}; bound {clamped}".lstrip("; "))


def _remember(
    policy: Policy, memory: RoleState, before: int, after: int, restored: int, t_s: float
) -> RoleState:
    if after == before:
        return memory
    if after > before:
        return replace(memory, last_out_s=t_s, draining=memory.draining - restored)
    if policy.soft_scale_in is None:
        return replace(memory, last_in_s=t_s)
    return replace(memory, last_in_s=t_s, draining=memory.draining + before - after, draining_since_s=t_s)
