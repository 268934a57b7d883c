"""HeteroScale's rule for one service in plain Python: what the batch of lanes has to decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hs_analysis.controllers.heteroscale import HeteroScale, LatencyGuard, PoolRule
from hs_analysis.controllers.lanes import ROUNDING, Key, Why


@dataclass(frozen=True)
class Seen:
    """What one controller sees: per reading the rows so far, oldest first, NaN where nothing was scraped."""

    t_s: float
    window_s: float
    values: Mapping[Key, Sequence[float]]
    desired: Mapping[str, int]
    reporting: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """Last actions of one pool [Unix s], and instances under observation."""

    last_out_s: float = -math.inf
    last_in_s: float = -math.inf
    draining: int = 0
    since_s: float = -math.inf


@dataclass(frozen=True)
class Decided:
    """What is asked of one pool, why, and how many of those added never stopped running."""

    count: int
    code: Why
    wanted: float | None = None
    restored: int = 0
    draining: int = 0


@dataclass(frozen=True)
class Alarm:
    """The worst guard: latency ÷ limit, and whether one can't be seen."""

    ratio: float = 0.0
    guard: LatencyGuard | None = None
    blind: bool = False


def mean(rows: Sequence[float], count: int) -> float | None:
    """Return the mean of the known of the last rows."""
    known = [value for value in rows[-count:] if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def surged(control: HeteroScale, rows: Sequence[float], row_s: float) -> float | None:
    """Return the newest mean over the window, or over the surge's where that is so much higher."""
    usual = mean(rows, max(1, round(control.window_s / row_s)))
    if control.surge is None or usual is None:
        return usual
    fresh = mean(rows, max(1, round(control.surge.window_s / row_s)))
    return fresh if fresh is not None and fresh > control.surge.above_ratio * usual else usual


def readings(control: HeteroScale, rows: Sequence[float], row_s: float) -> list[float | None]:
    """Return the newest mean over a window, and the highest of those that ended in the last ``over_s``."""
    ends = max(1, round(control.over_s / row_s))
    means = [surged(control, rows[: len(rows) - back], row_s) for back in range(min(ends, len(rows)))]
    known = [value for value in means if value is not None]
    return [means[0], max(known) if known else None]


def of_several(control: HeteroScale, role: str, seen: Seen) -> list[float | None]:
    """Return the newest sum of a signal and its weighed others, and the highest of the last ``over_s``."""
    pool = control.pools[role]
    parts = [(pool.signal, control.window_s, 1.0)]
    parts += [(other.signal, other.averaging_s, other.weight) for other in pool.others]
    count = len(seen.values[pool.signal, role])
    sums = []
    for back in range(min(max(1, round(control.over_s / seen.window_s)), count)):
        total: float | None = 0.0
        for signal, over_s, weight in parts:
            name, _, owner = signal.partition("@")
            rows = seen.values[name, owner or role][: count - back]
            found = mean(rows, max(1, round(over_s / seen.window_s)))
            if signal == pool.signal and weight == 1.0 and over_s == control.window_s:
                found = surged(control, rows, seen.window_s)
            total = None if total is None or found is None else total + weight * found
        sums.append(total)
    known = [value for value in sums if value is not None]
    return [sums[0], max(known) if known else None]


def round_up(instances: float) -> int:
    """Return the least whole number that is enough, at least 1."""
    return max(1, math.ceil(instances * (1 - ROUNDING)))


def decide(
    control: HeteroScale, seen: Seen, memories: Mapping[str, Memory]
) -> tuple[dict[str, Decided], dict[str, Memory]]:
    """Decide once."""
    roles = [role for role in seen.desired if role in control.pools]
    asked = {role: Decided(seen.desired[role], Why.NOTHING) for role in roles}
    old = {role: memories.get(role, Memory()) for role in roles}
    alarms = {role: Alarm() for role in roles}
    if control.mode == "hold":
        asked = {role: replace(one, code=Why.ON_HOLD) for role, one in asked.items()}
    elif control.mode == "periodic":
        asked = {role: planned(control, role, seen) for role in roles}
    else:
        alarms = {role: alarm_of(control, role, seen) for role in roles}
        for role in roles:
            pool, up = control.pools[role], control.upkeep
            if pool.signal:
                paired = up.follower if up and up.leader == role and up.follower in roles else None
                watched = [alarms[role]] + ([alarms[paired]] if paired else [])
                asked[role] = size(control, role, seen, old[role], watched)
                if paired:
                    asked[paired] = follow(control, paired, asked[role], seen, old[paired], alarms[paired])
        for role in roles:
            asked[role] = guarded(control.pools[role], alarms[role], seen, role, old[role], asked[role])
    done, kept = {}, {}
    for role in roles:
        done[role], kept[role] = settle(control, role, seen, old[role], asked[role], alarms[role])
    return done, kept


def planned(control: HeteroScale, role: str, seen: Seen) -> Decided:
    """Return the count of the minute of the week."""
    minute = int(seen.t_s // 60 + 3 * 1440) % (7 * 1440)
    plan = control.plan.get(role)
    if plan is None or math.isnan(plan[minute]):
        return Decided(seen.desired[role], Why.NO_PLAN)
    return Decided(int(plan[minute]), Why.PLANNED, plan[minute])


def alarm_of(control: HeteroScale, role: str, seen: Seen) -> Alarm:
    """Return the worst guard of a pool."""
    worst = Alarm()
    for guard in control.pools[role].guards:
        width = max(1, round(control.window_s / seen.window_s))
        value = mean(seen.values[guard.signal, guard.role], width)
        if value is None or not math.isfinite(value):
            worst = replace(worst, blind=True)
        elif value / guard.limit_s > worst.ratio:
            worst = Alarm(value / guard.limit_s, guard, worst.blind)
    return worst


def size(control: HeteroScale, role: str, seen: Seen, memory: Memory, alarms: Sequence[Alarm]) -> Decided:
    """Size a pool in proportion."""
    pool, current = control.pools[role], seen.desired[role]
    name, _, owner = pool.signal.partition("@")
    rows = list(seen.values[name, owner or role])
    if pool.adds_up == "mean":
        running = seen.reporting.get(role, [current] * len(rows))
        rows = [value * count for value, count in zip(rows, running, strict=True)]
    newest, highest = readings(control, rows, seen.window_s)
    if pool.others:
        newest, highest = of_several(control, role, seen)
    if newest is None or highest is None or not math.isfinite(newest) or newest < 0 or not pool.target > 0:
        return Decided(current, Why.MISSING)
    need, peak = newest / pool.target, highest / pool.target
    if current <= 0:
        return Decided(round_up(need), Why.GROWS, need)
    if need / current > pool.scale_out_ratio and round_up(need) > current:
        return step_out(pool, current, round_up(need), seen.t_s, memory, need)
    if peak / current < pool.scale_in_ratio and round_up(peak) < current:
        held = veto(alarms, idle=newest == 0)
        return (
            Decided(current, held, peak)
            if held
            else step_in(pool, current, round_up(peak), seen.t_s, memory, peak)
        )
    return Decided(current, Why.HOLDS, need)


def veto(alarms: Sequence[Alarm], *, idle: bool) -> Why:
    """Return why a pool may not shrink."""
    if any(alarm.ratio > 1 for alarm in alarms):
        return Why.VETOED
    return Why.BLIND if any(alarm.blind for alarm in alarms) and not idle else Why.NOTHING


def step_out(pool: PoolRule, current: int, goal: int, t_s: float, memory: Memory, wanted: float) -> Decided:
    """Grow towards the goal."""
    if t_s - memory.last_out_s < pool.rest_out_s:
        return Decided(current, Why.RESTS, wanted)
    change = max(1, math.ceil(pool.dampening * (goal - current) - ROUNDING))
    after = current + min(change, most_out(pool, current))
    return Decided(after, Why.STEP_LIMIT if after < goal else Why.GROWS, wanted)


def most_out(pool: PoolRule, current: int) -> int:
    """Return how many instances one action may add."""
    share = pool.max_out_fraction
    return 10**9 if share is None else max(1, math.ceil(share * current - ROUNDING))


def step_in(pool: PoolRule, current: int, goal: int, t_s: float, memory: Memory, wanted: float) -> Decided:
    """Shrink towards the goal."""
    if pool.rest_in_s is None:
        return Decided(current, Why.DISABLED, wanted)
    if t_s - max(memory.last_in_s, memory.last_out_s) < pool.rest_in_s:
        return Decided(current, Why.RESTS, wanted)
    change = max(1, math.floor(pool.dampening * (current - goal) + ROUNDING))
    share = pool.max_in_fraction
    limit = 10**9 if share is None else max(1, math.floor(share * current + ROUNDING))
    after = current - min(change, limit)
    return Decided(after, Why.STEP_LIMIT if after > goal else Why.SHRINKS, wanted)


def follow(
    control: HeteroScale, role: str, led: Decided, seen: Seen, memory: Memory, alarm: Alarm
) -> Decided:
    """Size the pool that follows."""
    up, current = control.upkeep, seen.desired[role]
    assert up is not None
    if led.code == Why.MISSING:
        return Decided(current, Why.MISSING)
    leader, before = control.pools[up.leader], seen.desired[up.leader]
    most = math.inf if leader.most is None else leader.most
    count = min(max(led.count, leader.least), max(most, before))
    goal = round_up(count * up.value if up.leader == "decode" else count / up.value)
    if count > before:
        return Decided(max(current, goal), Why.RATIO, goal)
    if count < before:
        return Decided(min(current, goal), Why.RATIO, goal)
    now = (current / before if before else math.inf) if role == "prefill" else before / max(current, 1)
    if goal == current or abs(now - up.value) <= up.max_deviation:
        return Decided(current, Why.NOTHING)
    pool = control.pools[role]
    if goal > current:
        found = step_out(pool, current, goal, seen.t_s, memory, goal)
    else:
        held = veto([alarm], idle=False)
        found = Decided(current, held, goal) if held else step_in(pool, current, goal, seen.t_s, memory, goal)
    return replace(found, code=Why.RATIO) if found.count != current else found


def guarded(pool: PoolRule, alarm: Alarm, seen: Seen, role: str, memory: Memory, asked: Decided) -> Decided:
    """Let the worst guard add instances."""
    tiers = [add for above, add in (alarm.guard.tiers if alarm.guard else ()) if alarm.ratio > above]
    if not tiers or seen.t_s - memory.last_out_s < max(pool.rest_out_s, pool.start_up_s):
        return asked
    current = seen.desired[role]
    add = max(1, math.ceil(max(tiers) * current - ROUNDING))
    goal = current + min(add, most_out(pool, current))
    return replace(asked, count=goal, code=Why.GUARD) if goal > asked.count else asked


def settle(
    control: HeteroScale, role: str, seen: Seen, memory: Memory, asked: Decided, alarm: Alarm
) -> tuple[Decided, Memory]:
    """Restore or end observations, hold the bounds, remember."""
    pool, before = control.pools[role], seen.desired[role]
    if seen.t_s - memory.since_s >= (control.observe_s or 0.0):
        memory = replace(memory, draining=0)
    after, code = asked.count, asked.code
    if memory.draining and alarm.ratio > 1 and before + memory.draining >= after:
        after, code = before + memory.draining, Why.RESTORED
    most = math.inf if pool.most is None else pool.most
    bounded = max(min(after, max(most, before)), pool.least)
    code = code if bounded == after else Why.BOUND
    restored = min(memory.draining, max(0, bounded - before))
    if bounded > before:
        memory = replace(memory, last_out_s=seen.t_s, draining=memory.draining - restored)
    elif bounded < before:
        memory = replace(memory, last_in_s=seen.t_s)
        if control.observe_s is not None:
            memory = replace(memory, draining=memory.draining + before - bounded, since_s=seen.t_s)
    return Decided(int(bounded), code, asked.wanted, restored, memory.draining), memory
