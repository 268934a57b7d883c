"""One policy on one capture, compiled: the decision rule and the fluid of ``simulate`` as plain loops.

Selection's search runs this form, what it chooses is replayed by the rule; tests hold both equal.
"""

from __future__ import annotations

import math

import numpy as np

from hs_analysis.compiling import compiled, entry, inlined
from hs_analysis.policy.rule import ROUNDING
from hs_analysis.replay.alike import SAME
from hs_analysis.replay.arrays import QUEUE, RECORDED, SERVED, Family, Figures, Record, Records, Scene, State
from hs_analysis.replay.demand import Floats
from hs_analysis.replay.fleet import BACKLOG_LIMIT_S
from hs_analysis.replay.score import HOUR_S
from hs_analysis.replay.simulate import STEP_S
from hs_analysis.statistics.queueing import SIZE_LOSS


@compiled
def curve_at(loads: Floats, values: Floats, curve: int, points: int, load: float) -> float:
    """Return a curve's value: linear between its points, flat beyond them; NaN stays NaN."""
    if math.isnan(load):
        return math.nan
    low, high = 0, points
    while low < high:  # first point above the load
        middle = (low + high) // 2
        low, high = (low, middle) if load < loads[curve, middle] else (middle + 1, high)
    if low in (0, points):
        return float(values[curve, max(0, low - 1)])
    x0, x1, y0, y1 = loads[curve, low - 1], loads[curve, low], values[curve, low - 1], values[curve, low]
    return float(y0 + (y1 - y0) * (load - x0) / (x1 - x0))


@compiled
def _mean_before(values: Floats, place: int, row: int, rows: int) -> float:
    """Trailing mean over completed rows; NaN when the last one brought no value."""
    if row == 0 or math.isnan(values[place, row - 1]):
        return math.nan
    total, known = 0.0, 0
    for at in range(max(0, row - rows), row):
        if not math.isnan(values[place, at]):
            total += values[place, at]
            known += 1
    return total / known


@compiled
def _see_alarms(guards: Records, pools: Records) -> None:
    """Find the worst guard of each pool, and whether a guard can't be seen."""
    for place in range(pools.size):
        pool = pools[place]
        pool.alarm, pool.worst, pool.blind = 0.0, -1, False
        for at in range(guards.size):
            ratio, own = guards[at].latency_s / guards[at].slo_s, guards[at].pool == place
            if own and not math.isfinite(ratio):
                pool.blind = True
            elif own and ratio > pool.alarm:
                pool.alarm, pool.worst = ratio, at


@compiled
def _whole(instances: float) -> float:
    return max(1.0, math.ceil(instances * (1 - ROUNDING)))


@compiled
def _step_out(p: Record, own: Record, pool: Record, goal: float, t_s: float) -> float:
    if t_s - pool.last_out_s < own.rest_out_s:
        return float(pool.desired)
    change = max(1.0, math.ceil(p.dampening * (goal - pool.desired) - ROUNDING))
    return float(pool.desired + min(change, max(1.0, math.ceil(p.most_out * pool.desired - ROUNDING))))


@compiled
def _step_in(p: Record, own: Record, pool: Record, goal: float, t_s: float) -> float:
    if math.isinf(own.rest_in_s) or t_s - max(pool.last_in_s, pool.last_out_s) < own.rest_in_s:
        return float(pool.desired)
    change = max(1.0, math.floor(p.dampening * (pool.desired - goal) + ROUNDING))
    return float(pool.desired - min(change, max(1.0, math.floor(p.most_in * pool.desired + ROUNDING))))


@compiled
def _size(p: Record, own: Record, pool: Record, need: float, vetoed: bool, t_s: float) -> float:
    """Size one pool in proportion: dead band on wanted ÷ current, then cooldown and step limits."""
    current = pool.desired
    if math.isnan(need):
        return float(current)
    goal = _whole(need)
    if current <= 0:
        return float(goal)
    if need / current > own.above and goal > current:
        return float(_step_out(p, own, pool, goal, t_s))
    wider = max(1.0, math.sqrt(own.usual / current))
    below = min(own.below, 1.0 - 1.0 / current - own.way_back * wider)
    if need / current < below and goal < current and not vetoed:
        return float(_step_in(p, own, pool, goal, t_s))
    return float(current)


@compiled
def _follow(
    p: Record, of_leader: Record, own: Record, leader: Record, pool: Record, leads_decode: bool, t_s: float
) -> float:
    """Size the other pool by the ratio: with the leader in its direction, else back inside the tolerance."""
    current, before = pool.desired, leader.desired
    count = min(max(leader.after, of_leader.least), max(of_leader.most, before))
    goal = _whole(count * p.ratio if leads_decode else count / p.ratio)
    if count > before:
        return float(max(current, goal))
    if count < before:
        return float(min(current, goal))
    now = current / before if leads_decode else before / max(current, 1.0)
    if goal == current or abs(now - p.ratio) <= p.deviation:
        return float(current)
    if goal > current:
        return float(_step_out(p, own, pool, goal, t_s))
    held = pool.alarm > 1.0 or pool.blind
    return float(current if held else _step_in(p, own, pool, goal, t_s))


@inlined
def _guard_step(p: Record, own: Record, pool: Record, rest_s: float, scene: Scene, t_s: float) -> None:
    """Let the worst guard add instances, unless those asked for before can't have started yet."""
    share = -1.0
    if pool.worst >= 0:
        for tier in range(scene.tier_above.shape[1]):
            if pool.alarm > scene.tier_above[pool.worst, tier]:
                share = max(share, scene.tier_add[pool.worst, tier])
    if share < 0 or t_s - pool.last_out_s < max(own.rest_out_s, 0.0, rest_s):
        return
    more = max(1.0, math.ceil(share * pool.desired - ROUNDING))
    limit = max(1.0, math.ceil(p.most_out * pool.desired - ROUNDING))
    pool.after = max(pool.after, pool.desired + min(more, limit))


@compiled
def _settle(own: Record, pool: Record, observe_s: float, t_s: float) -> float:
    """Restore or end observations, clamp to the bounds, remember; return the instances restored."""
    before, after = pool.desired, pool.after
    if pool.draining > 0 and not t_s - pool.draining_since_s < observe_s:
        pool.draining = 0.0
    if pool.draining > 0 and pool.alarm > 1.0:
        after = max(after, before + pool.draining)
    after = max(min(after, max(own.most, before)), own.least)
    restored = min(pool.draining, max(0.0, after - before))
    if after > before:
        pool.last_out_s = t_s
        pool.draining -= restored
    elif after < before:
        pool.last_in_s = t_s
        if not math.isnan(observe_s):
            pool.draining += before - after
            pool.draining_since_s = t_s
    pool.after = after
    return float(restored)


@compiled
def _ask(pool: Record, place: int, at_s: Floats, counts: Floats, restored: float, ready_at_s: float) -> None:
    """Change the count asked for; removal takes the latest that starts first, then what is ready."""
    change = pool.after - pool.desired
    if change > 0:
        pool.ready += min(restored, change)
        if change > restored:
            at_s[place, pool.last_start], counts[place, pool.last_start] = ready_at_s, change - restored
            pool.last_start += 1
    left = max(0.0, -change)
    while left > 0 and pool.last_start > pool.first_start:
        last = pool.last_start - 1
        taken = min(left, counts[place, last])
        counts[place, last] -= taken
        left -= taken
        if counts[place, last] <= 0:
            pool.last_start = last
    pool.ready -= left
    pool.desired = pool.after


@inlined
def _decide(family: Family, policy: int, scene: Scene, state: State, row: int, t_s: float) -> bool:
    """Apply the rule to the completed rows, ask the pools for the counts, and say whether any changed."""
    p, pools, follower, lead = family.numbers[policy], state.pools, scene.follower, scene.before.shape[1]
    _see_alarms(scene.guards, pools)
    for place in range(pools.size):
        pools[place].after = pools[place].desired
    for k in range(scene.primaries.size):
        primary, target = scene.primaries[k], family.targets[policy, k]
        if primary.pool < 0:
            continue
        pool, own = pools[primary.pool], family.pools[policy, primary.pool]
        value = _mean_before(state.scraped, k, lead + row, scene.average_rows)
        scale = 1.0
        if not primary.total:
            reporting = _mean_before(state.ready, primary.pool, lead + row, scene.average_rows)
            scale = 0.0 if math.isnan(reporting) else reporting
        seen = math.isfinite(value) and value >= 0 and target.value > 0
        below, over = min(value, target.total), max(0.0, value - target.total)
        need = min(scale * below / target.value, target.instances) + over / target.value if seen else math.nan
        vetoed = pool.alarm > 1.0 or (pool.blind and value != 0.0)
        if follower >= 0:
            vetoed = vetoed or pools[follower].alarm > 1.0 or (pools[follower].blind and value != 0.0)
        pool.after = _size(p, own, pool, need, vetoed, t_s)
        if follower >= 0 and not math.isnan(need):
            other = family.pools[policy, follower]
            led = primary.pool == scene.decode
            pools[follower].after = _follow(p, own, other, pool, pools[follower], led, t_s)
    acted = False
    for place in range(pools.size):
        pool, own, given = pools[place], family.pools[policy, place], scene.pools[place]
        _guard_step(p, own, pool, given.guard_rest_s, scene, t_s)
        restored = _settle(own, pool, scene.observe_s, t_s)
        acted = acted or pool.after != pool.desired
        _ask(pool, place, state.start_at_s, state.start_count, restored, t_s + given.start_up_s)
    return acted


@compiled
def _serve(pool: Record, ceiling: float, arriving: float, seconds: float, share_of_row: float) -> float:
    """Serve what fits and queue the rest; return the share of waiting tokens that were served."""
    waiting = pool.backlog + arriving
    served = min(waiting, pool.ready * ceiling * seconds if pool.ready > 0 else 0.0)
    pool.backlog = waiting - served
    pool.arrived, pool.served = pool.arrived + arriving, pool.served + served
    if pool.backlog > 0:
        age_s = pool.backlog / (pool.ready * ceiling) if pool.ready > 0 else math.inf
        pool.age_s, pool.wait_s = max(pool.age_s, age_s), pool.wait_s + age_s * share_of_row
    return float(served / waiting) if waiting > 0 else 1.0


@inlined
def _pass_row(scene: Scene, state: State, row: int, t_s: float, waiting: float) -> float:
    """Let one row pass in steps; return the decode work whose prompts still wait for prefill [tokens]."""
    steps = max(1, math.ceil(scene.window_s / STEP_S - 1e-9))
    seconds, at = scene.window_s / steps, scene.before.shape[1] + row
    for place in range(state.pools.size):
        pool = state.pools[place]
        pool.arrived, pool.served, pool.age_s, pool.wait_s = 0.0, 0.0, 0.0, 0.0
        state.ready[place, at] = 0.0
    for step in range(steps):
        handed, now_s = 1.0, t_s + step * seconds + 1e-9
        for place in range(state.pools.size):
            pool = state.pools[place]
            while pool.first_start < pool.last_start and state.start_at_s[place, pool.first_start] <= now_s:
                pool.ready += state.start_count[place, pool.first_start]
                pool.first_start += 1
            arriving = scene.offered[place, row] * seconds
            if place == scene.decode and scene.prefill >= 0:
                waiting += arriving
                arriving = waiting * handed
                waiting -= arriving
            share = _serve(pool, scene.pools[place].ceiling, arriving, seconds, 1.0 / steps)
            if place == scene.prefill:
                handed = share
            state.ready[place, at] += pool.ready / steps
    return waiting


@inlined
def _read(scene: Scene, state: State, k: int, row: int) -> float:
    """Return what a primary reads after a row, if it was there."""
    primary, recorded, kept = scene.primaries[k], scene.column[k, row], scene.kept[k, row]
    place = primary.reading_pool
    pool, ready = state.pools[place], state.ready[place, scene.before.shape[1] + row]
    if primary.reading == RECORDED or math.isnan(recorded) or pool.same:
        return float(recorded)
    offered = scene.offered[place, row] * scene.window_s
    known = not math.isnan(kept) and abs(pool.served - offered) <= SAME * offered
    if primary.reading == SERVED:
        return float(pool.served / scene.window_s * (kept if known else scene.factor[k, row]))
    if not ready > 0:
        return math.nan
    (loads, values), load = scene.curves, pool.served / scene.window_s / ready
    value = curve_at(loads, values, k, primary.points, load)
    value *= ready if primary.per_instance else 1.0
    if primary.reading == QUEUE and not math.isnan(primary.tokens_per_request):
        value += pool.backlog / primary.tokens_per_request
    return float(value * kept if known else value)


@inlined
def _waited_s(own_s: float, decode_s: float, own_wait: float, decode_wait: float) -> float:
    """Return what a pool's latency gains by backlogs; one that nothing serves is infinitely old."""
    own = own_wait * own_s if own_wait > 0 else 0.0
    return float(own + decode_wait * decode_s if decode_wait > 0 else own)


@inlined
def _record(scene: Scene, state: State, row: int) -> None:
    """Scrape the completed row: load of pools, which stand as recorded (``alike.Alike``), signals, guards."""
    lead, decode = scene.before.shape[1], state.pools[scene.decode]
    for place in range(state.pools.size):
        pool, ready = state.pools[place], state.ready[place, lead + row]
        load = pool.arrived / scene.window_s / ready
        state.load[place, row] = 0.0 if math.isnan(load) else load
        ran = ready > 0 and abs(ready - scene.counts[place, row]) <= SAME * ready
        pool.same = ran and (pool.same or pool.calm)
        pool.calm = pool.wait_s == 0 and not scene.waited[place, row]
        if place == scene.decode and scene.prefill >= 0:
            pool.same = pool.same and (state.pools[scene.prefill].same or state.pools[scene.prefill].calm)
    for k in range(scene.primaries.size):
        state.scraped[k, lead + row] = _read(scene, state, k, row)
    for at in range(scene.guards.size):
        guard = scene.guards[at]
        guard.latency_s = math.nan
        ready = state.ready[guard.pool, lead + row] if guard.pool >= 0 else 0.0
        if ready > 0:
            (loads, values), pool = scene.guard_curves, state.pools[guard.pool]
            told_s = curve_at(loads, values, at, guard.points, pool.served / scene.window_s / ready)
            told_s += _waited_s(pool.wait_s, decode.wait_s, guard.own_wait, guard.decode_wait)
            alike = pool.same and (decode.same or decode.calm or not guard.decode_wait > 0)
            seen_s = scene.latency[at, row] if alike else math.nan
            guard.latency_s = told_s if math.isnan(seen_s) else seen_s


@inlined
def _miss(scene: Scene, state: State) -> None:
    """Scrape nothing in a gap."""
    for at in range(scene.guards.size):
        scene.guards[at].latency_s = math.nan
    for place in range(state.pools.size):
        state.pools[place].same = state.pools[place].calm = False


@compiled
def _chance(given: Record, age_s: float, ready: float, load: float, log_odds: float) -> float:
    """Return the chance that a row violates in a pool; see ``fleet.violation_probability``."""
    capacity, slope = given.capacity, given.slope
    if age_s > BACKLOG_LIMIT_S:
        return 1.0
    if not math.isnan(given.reference):
        count, reference = max(ready, 1.0), max(given.reference, 1.0)
        capacity *= min(1.0, (1.0 - SIZE_LOSS / count) / (1.0 - SIZE_LOSS / reference))
        slope *= min(1.0, count / reference)
    if math.isnan(capacity) or math.isnan(load):
        return math.nan
    exponent = -(slope * np.log(load / capacity) + log_odds)
    return float(1.0 / (1.0 + math.exp(min(max(exponent, -700.0), 700.0))))


@inlined
def _score(scene: Scene, state: State, row: int, policy: int, figures: Figures) -> None:
    """Add the hours and chances of a scored row."""
    lead, none_strained, none_violates, hours = scene.before.shape[1], 1.0, 1.0, scene.window_s / HOUR_S
    for place in range(state.pools.size):
        given, pool, ready = scene.pools[place], state.pools[place], state.ready[place, lead + row]
        figures.hours[policy, place] += (pool.desired + pool.draining) * hours
        lasting = _mean_before(state.load, place, row + 1, scene.load_rows)
        load = _mean_before(state.load, place, row + 1, scene.recent_rows)
        load = load if math.isinf(lasting) else math.sqrt(lasting * load)
        waited_s = _waited_s(pool.age_s, state.pools[scene.decode].age_s, 1.0, given.decode_wait)
        chance = _chance(given, waited_s, ready, load, scene.log_odds)
        none_strained *= 1.0 - chance if given.known else 1.0
        none_violates *= 1.0 - chance if given.judged else 1.0
    for kept, sums in ((none_strained, figures.strain), (none_violates, figures.violation)):
        if not math.isnan(kept):
            sums[policy, 0] += 1.0 - kept
            sums[policy, 1] += 1.0


@compiled
def _reset(scene: Scene, pools: Records) -> None:
    for at in range(scene.guards.size):
        scene.guards[at].latency_s = scene.guards[at].before_s
    for place in range(pools.size):
        pool = pools[place]
        pool.desired = pool.ready = scene.pools[place].first
        pool.backlog = pool.draining = 0.0
        pool.last_out_s = pool.last_in_s = pool.draining_since_s = -math.inf
        pool.first_start, pool.last_start, pool.same, pool.calm = 0, 0, True, True


@entry
def run_family(family: Family, scene: Scene, state: State, figures: Figures, counts: Floats) -> None:
    """Run every policy of a family on one capture, and add its sums to ``figures``.

    ``state`` is scratch; a gap holds it. ``counts`` (pools, rows, policies) takes those asked for, if any.
    """
    pools = state.pools
    for policy in range(family.numbers.size):
        _reset(scene, pools)
        waiting = 0.0
        for row in range(scene.t_s.size):
            acted = False
            if scene.gap[row]:
                _miss(scene, state)
            else:
                acted = _decide(family, policy, scene, state, row, scene.t_s[row])
                waiting = _pass_row(scene, state, row, scene.t_s[row], waiting)
                _record(scene, state, row)
            if scene.scored[row]:
                _score(scene, state, row, policy, figures)
                figures.actions[policy] += 1.0 if acted and row > 0 else 0.0
            for place in range(pools.size if counts.shape[1] else 0):
                counts[place, row, policy] = pools[place].desired
        for place in range(pools.size):
            figures.unserved[policy] += pools[place].backlog
