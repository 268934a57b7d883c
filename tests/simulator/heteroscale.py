"""HeteroScale's rule at work on a policy document, as plain as the document says it.

Once a window: each primary sizes its pool in proportion, growing on the newest reading and shrinking on the
highest of the last ones, inside bands, rests and step limits; where one primary sizes both pools the ratio
sizes the other, in the same direction; guards on latencies add instances and forbid removal; what was taken
out runs on under observation and comes back on a breach; bounds hold. A missing reading removes nothing.
Written from the document's own comments for one policy and one moment at a time; nothing is shared with what
the package itself simulates. Timetables are run as exported cron triggers are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML

from simulator.autoscalers import Query, Reading
from simulator.exported import Scene, expression
from simulator.steering import Order, Sight

SLACK = 1e-9
"""Three targets are three instances in floating point, too [ratio]."""

BAND = {"scale_out_ratio": 1.0, "scale_in_ratio": 1.0}
REST: dict[str, float | None] = {"scale_out_s": None, "scale_in_s": None}


def _kept(spec: Mapping[str, Any]) -> float:
    """Return what is kept between the pools, 0 where nothing is: a bound goes before the ratio itself."""
    ratio = spec.get("pd_ratio") or {}
    return float(ratio.get("one_primary_bound") or ratio.get("value") or 0.0)


@dataclass
class _Pool:
    """What is remembered of a pool: its readings of the last windows, its actions, and what is observed."""

    totals: list[Reading] = field(default_factory=list)
    out_s: float = -math.inf
    in_s: float = -math.inf
    observed: int = 0


@dataclass(frozen=True)
class _Alarm:
    """The worst guard of a pool: latency ÷ limit, the share to add, and whether one could not be read."""

    ratio: float = 0.0
    add: float = 0.0
    blind: bool = False


class HeteroScale:
    """What steers both pools by a policy document; it remembers, so that each run needs its own.

    Parameters
    ----------
    text
        The policy document of one service.
    scene
        What its queries are asked of.

    Raises
    ------
    ValueError
        For a policy on hold or on a timetable, and for a query that is not understood.
    """

    def __init__(self, text: str, scene: Scene) -> None:
        self.spec: Mapping[str, Any] = YAML(typ="safe").load(text)["spec"]
        if self.spec["mode"] != "metric":
            raise ValueError(f"the policy is in mode {self.spec['mode']}")
        self.scene = scene
        self.window_s = float(self.spec["evaluation"]["window_s"])
        self.over_s = float(self.spec.get("reading", {}).get("over_s", self.window_s))
        soft = self.spec.get("soft_scale_in")
        self.watch_s = float(soft["observe_s"]) if soft else 0.0
        self.leaders: dict[str, Mapping[str, Any]] = {one["role"]: one for one in self.spec["primaries"]}
        self.queries: dict[str, Query] = {
            role: expression(one["promql"], role, scene.prometheus) for role, one in self.leaders.items()
        }
        self.pools = {role: _Pool() for role in ("prefill", "decode")}

    def __call__(self, sight: Sight) -> Mapping[str, Order]:
        """Decide when a window has passed."""
        if sight.t_s % self.window_s:
            return {}
        alarms = {role: self._alarm(role, sight.t_s) for role in self.pools}
        asked = dict(sight.asked)
        for role in self.leaders:
            self._lead(role, sight, alarms, asked)
        for role, alarm in alarms.items():
            asked[role] = self._guarded(role, alarm, sight, asked[role])
        return {role: self._settled(role, alarms[role], sight, count) for role, count in asked.items()}

    def _of(self, table: str, role: str, usual: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the numbers of a role, or those of all roles."""
        found = self.spec.get(table) or {}
        return {**usual, **(found.get("by_role") or {}).get(role, found)}

    def _lead(self, role: str, sight: Sight, alarms: Mapping[str, _Alarm], asked: dict[str, int]) -> None:
        one, pool = self.leaders[role], self.pools[role]
        reading = self.queries[role](self.scene.moment(sight.t_s))
        total = None if reading is None else reading * (sight.ready[role] if one["pool"] == "mean" else 1.0)
        pool.totals = [*pool.totals, total][-max(1, round(self.over_s / self.window_s)) :]
        if total is None:
            return
        target, current = float(one["target_per_instance"]["value"]), sight.asked[role]
        need, peak = (value / target for value in (total, max(v for v in pool.totals if v is not None)))
        goal, low = (max(1, math.ceil(value - SLACK)) for value in (need, peak))
        band, follower = self._of("hysteresis", role, BAND), self._follower(role)
        watched = [alarms[role], *([alarms[follower]] if follower else [])]
        if current == 0 or (need / current > band["scale_out_ratio"] and goal > current):
            asked[role] = self._grown(role, current, goal, sight.t_s) if current else goal
        elif peak / current < band["scale_in_ratio"] and low < current:
            asked[role] = self._shrunk(role, current, low, sight.t_s, watched, idle=total == 0)
        if follower:
            self._follow(role, follower, sight, alarms, asked)

    def _follower(self, role: str) -> str:
        if len(self.leaders) != 1 or not _kept(self.spec):
            return ""
        return "decode" if role == "prefill" else "prefill"

    def _follow(
        self, leader: str, role: str, sight: Sight, alarms: Mapping[str, _Alarm], asked: dict[str, int]
    ) -> None:
        """Move the other pool with the leader, or back to the ratio where it has strayed too far."""
        least, most = self._bounds(leader)
        count = max(least, min(asked[leader], max(most, sight.asked[leader])))
        ratio, current = _kept(self.spec), sight.asked[role]
        goal = max(1, math.ceil((count * ratio if leader == "decode" else count / ratio) - SLACK))
        if count != sight.asked[leader]:
            asked[role] = max(current, goal) if count > sight.asked[leader] else min(current, goal)
            return
        strays = abs(sight.asked["prefill"] / max(1, sight.asked["decode"]) - ratio)
        if strays <= float(self.spec["pd_ratio"].get("max_deviation") or 0.0):
            return
        if goal > current:
            asked[role] = self._grown(role, current, goal, sight.t_s)
        elif goal < current:
            asked[role] = self._shrunk(role, current, goal, sight.t_s, [alarms[role]])

    def _grown(self, role: str, current: int, goal: int, now_s: float) -> int:
        rest = self._of("cooldown", role, REST)["scale_out_s"] or 0.0
        if now_s - self.pools[role].out_s < rest:
            return current
        step = max(1, math.ceil(self._step("dampening", 1.0) * (goal - current) - SLACK))
        return current + min(step, self._most_added(current))

    def _most_added(self, current: int) -> int:
        share = self._step("max_out_fraction", math.inf)
        return 10**9 if math.isinf(share) else max(1, math.ceil(share * current - SLACK))

    def _shrunk(
        self, role: str, current: int, goal: int, now_s: float, watched: list[_Alarm], *, idle: bool = False
    ) -> int:
        rest, pool = self._of("cooldown", role, REST)["scale_in_s"], self.pools[role]
        if rest is None or now_s - max(pool.in_s, pool.out_s) < rest:
            return current
        if any(one.ratio > 1.0 or (one.blind and not idle) for one in watched):
            return current
        step = max(1, math.floor(self._step("dampening", 1.0) * (current - goal) + SLACK))
        share = self._step("max_in_fraction", math.inf)
        most = 10**9 if math.isinf(share) else max(1, math.floor(share * current + SLACK))
        return current - min(step, most)

    def _step(self, name: str, usual: float) -> float:
        found = self.spec["step"].get(name)
        return usual if found is None else float(found)

    def _alarm(self, role: str, now_s: float) -> _Alarm:
        worst = _Alarm()
        for guard in self.spec.get("guards") or ():
            if guard["role"] != role:
                continue
            found = self.scene.prometheus.latency(guard["signal"], self.window_s, self.scene.moment(now_s))
            if found is None:
                worst = _Alarm(worst.ratio, worst.add, blind=True)
                continue
            ratio = found / float(guard["slo_s"])
            if ratio > worst.ratio:
                add = max(
                    (t["add_fraction"] for t in guard["tiers"] if ratio > t["above_ratio"]), default=0.0
                )
                worst = _Alarm(ratio, float(add), worst.blind)
        return worst

    def _guarded(self, role: str, alarm: _Alarm, sight: Sight, count: int) -> int:
        """Add what the worst guard asks for, unless what was asked for before can't have started yet."""
        if not alarm.add:
            return count
        rest = self._of("cooldown", role, REST)["scale_out_s"] or 0.0
        starts = float(self.spec["evaluation"].get("start_up_s", {}).get(role) or 0.0)
        if sight.t_s - self.pools[role].out_s < max(rest, starts):
            return count
        current = sight.asked[role]
        added = max(1, math.ceil(alarm.add * current - SLACK))
        return max(count, current + min(added, self._most_added(current)))

    def _bounds(self, role: str) -> tuple[int, int]:
        found = (self.spec.get("bounds") or {}).get(role) or {}
        return int(found.get("min", 0)), int(found.get("max") or 10**9)

    def _settled(self, role: str, alarm: _Alarm, sight: Sight, count: int) -> Order:
        """Restore what is observed on a breach, hold the bounds, and remember what was done."""
        pool, before, now_s = self.pools[role], sight.asked[role], sight.t_s
        if now_s - pool.in_s >= self.watch_s:
            pool.observed = 0
        if pool.observed and alarm.ratio > 1.0 and before + pool.observed >= count:
            count = before + pool.observed
        least, most = self._bounds(role)
        count = max(least, min(count, max(most, before)))
        restored = min(pool.observed, max(0, count - before))
        pool.observed -= restored
        if count > before:
            pool.out_s = now_s
        elif count < before:
            pool.in_s = now_s
            pool.observed += before - count if self.watch_s else 0
        return Order(count, restored)
