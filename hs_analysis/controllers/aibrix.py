"""AIBrix PodAutoscaler: APA (tolerances and rates) and KPA (Knative's stable and panic windows).

After https://aibrix.readthedocs.io/latest/features/autoscaling/metric-based-autoscaling.html, the project's
``pkg/controller/podautoscaler`` as of 0.5 to 0.7, and Knative's
https://knative.dev/docs/serving/autoscaling/kpa-specific/. The cooldown windows are read from the sources
alone: within the window of the direction taken, the highest recommendation is used to grow and the lowest to
shrink.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hs_analysis.controllers.view import PoolView, Reply, documented, round_up

DOC = "https://aibrix.readthedocs.io/latest/features/autoscaling/metric-based-autoscaling.html"
SOURCES = "https://github.com/vllm-project/aibrix, pkg/controller/podautoscaler (not in its documentation)"

History = tuple[tuple[float, int], ...]
"""(time [Unix s], recommendation) within the longer cooldown window."""


@dataclass(frozen=True)
class Apa:
    """``scalingStrategy: APA``: mean use of a pod against its target."""

    signal: str
    target: float
    total: bool = field(default=True, metadata=documented("", "whether the signal is a pool total"))
    averaging_s: float = field(default=60.0, metadata=documented("s", "not documented: the last scrape"))
    up_tolerance: float = field(default=0.1, metadata=documented("ratio", DOC))
    down_tolerance: float = field(default=0.1, metadata=documented("ratio", DOC))
    max_scale_up_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    max_scale_down_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    up_cooldown_s: float = field(default=0.0, metadata=documented("s", DOC))
    down_cooldown_s: float = field(default=300.0, metadata=documented("s", DOC))
    min_replicas: int = field(default=1, metadata=documented("instances", DOC))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "no default: the field is required")
    )

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal,)


@dataclass(frozen=True)
class Kpa:
    """``scalingStrategy: KPA``: a pool total against the target of a pod, over two windows."""

    signal: str
    target: float
    stable_window_s: float = field(default=180.0, metadata=documented("s", f"{SOURCES}; Knative: 60 s"))
    panic_window_s: float = field(
        default=60.0, metadata=documented("s", f"{SOURCES}; Knative: a tenth of the stable window")
    )
    panic_threshold: float = field(default=2.0, metadata=documented("ratio", DOC))
    max_scale_up_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    max_scale_down_rate: float = field(default=2.0, metadata=documented("ratio", DOC))
    up_cooldown_s: float = field(default=0.0, metadata=documented("s", DOC))
    down_cooldown_s: float = field(default=300.0, metadata=documented("s", DOC))
    min_replicas: int = field(default=1, metadata=documented("instances", DOC))
    max_replicas: int = field(
        default=100, metadata=documented("instances", "no default: the field is required")
    )

    @property
    def signals(self) -> tuple[str, ...]:
        """Readings it needs."""
        return (self.signal,)


@dataclass(frozen=True, slots=True)
class KpaMemory:
    """When panic was last due [Unix s], the most it asked for, and recommendations."""

    panic_s: float | None = None
    most: int = 0
    history: History = ()


def decide_apa(parameters: Apa, view: PoolView, memory: History | None) -> Reply:
    """Ask for current × use ÷ target outside the tolerances, at most doubled or halved at once."""
    value = view.mean(parameters.signal, parameters.averaging_s)
    current = view.desired
    if value is None:
        return Reply(current, memory or (), f"{parameters.signal} is missing: hold")
    running = max(1.0, min(view.ready, float(current)))
    ratio = (value / running if parameters.total else value) / parameters.target
    goal = current
    if ratio > 1 + parameters.up_tolerance:
        goal = min(round_up(current * ratio), math.ceil(parameters.max_scale_up_rate * current))
    elif ratio < 1 - parameters.down_tolerance:
        goal = max(round_up(current * ratio), math.floor(current / parameters.max_scale_down_rate))
    goal = _bounded(goal, parameters)
    count, history = _cooled(goal, current, view.t_s, memory or (), parameters)
    return Reply(count, history, f"{parameters.signal} is {ratio:.2f} of its target, wants {goal}")


def decide_kpa(parameters: Kpa, view: PoolView, memory: KpaMemory | None) -> Reply:
    """Ask for what the stable window needs, in panic the most that either window asked for."""
    memory = memory or KpaMemory()
    stable = view.mean(parameters.signal, parameters.stable_window_s)
    panic = view.mean(parameters.signal, parameters.panic_window_s)
    current, ready = view.desired, max(1, int(min(view.ready, view.desired) + 1e-9))
    if stable is None or panic is None:
        return Reply(current, memory, f"{parameters.signal} is missing: hold")
    most = max(1, math.ceil(parameters.max_scale_up_rate * ready))
    least = math.floor(ready / parameters.max_scale_down_rate)
    wanted, urgent = (min(max(round_up(v / parameters.target), least), most) for v in (stable, panic))
    over = round_up(panic / parameters.target) / ready >= parameters.panic_threshold
    since = view.t_s if over else memory.panic_s
    if since is not None and not over and view.t_s - since > parameters.stable_window_s:
        since = None
    held = max(memory.most, wanted, urgent) if since is not None else 0
    goal = _bounded(held if since is not None else wanted, parameters)
    count, history = _cooled(goal, current, view.t_s, memory.history, parameters)
    mode = "panic" if since is not None else "stable"
    return Reply(count, KpaMemory(since, held, history), f"{mode} mode wants {goal}")


def _bounded(count: int, parameters: Apa | Kpa) -> int:
    return min(max(count, parameters.min_replicas), parameters.max_replicas)


def _cooled(
    goal: int, current: int, t_s: float, history: History, parameters: Apa | Kpa
) -> tuple[int, History]:
    """Take the extreme recommendation of the direction's window."""
    reach = max(parameters.up_cooldown_s, parameters.down_cooldown_s)
    seen = (*((t, n) for t, n in history if t_s - t < reach), (t_s, goal))
    if goal == current:
        return current, seen
    window_s = parameters.up_cooldown_s if goal > current else parameters.down_cooldown_s
    inside = [n for t, n in seen if t_s - t < window_s or t == t_s]
    return (max(inside) if goal > current else min(inside)), seen
