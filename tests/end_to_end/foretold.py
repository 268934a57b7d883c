"""Run a written policy against the simulated physics itself: did the replay foretell what it does?

The truth side knows the decision rule of the policy and nothing of the replay; it looks once a minute, as the
rule does. What exported files do there is judged in `closed_loop`.
"""

from __future__ import annotations

import math
import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from end_to_end.closed_loop import Written, settled, violating, written_of
from end_to_end.foretold_table import Foretold
from simulator import History, history
from simulator.physics import Service
from simulator.sights import LOOK_S, Sight
from simulator.steering import Order, Steered, steer
from simulator.workloads import Arrivals

from hs_analysis.pipeline.study_stages import TRAIN, read_derived
from hs_analysis.pipeline.tables import read_frames, split
from hs_analysis.policy import Observation, Policy, State, decide, load
from hs_analysis.replay import replay_service
from hs_analysis.schema.results import PolicyReplay, ReplayResult
from hs_analysis.schema.settings import Settings

SHOWN = {
    ("request_rate", "prefill"), ("request_rate", "decode"), ("prefill_tps", "prefill"),
    ("prefill_tps_effective", "prefill"), ("decode_tps", "decode"), ("queue_length", "decode"),
    *((name, role) for name in ("gpu_util", "sm_activity", "kv_usage", "running")
      for role in ("prefill", "decode")),
}  # fmt: skip
"""Signals that the closed loop shows a policy; one that follows another is not judged."""

WRITTEN = "written"

WARM_S = 3600
"""Time with the recorded counts before a policy takes over in the middle of a history [s]."""

FORETOLD_KINDS = ("near_limit_days", "autoscaled", "drifting_mix", "ramps_and_bursts", "roomy_day")
"""Kinds whose pools keep their laws, so that a policy's own counts are the only difference."""


class PolicyAtWork:
    """A policy that steers: it averages what was seen and asks the rule, once a look."""

    def __init__(self, policy: Policy, start_unix_s: float, from_s: float = 0.0) -> None:
        self.policy, self.start_unix_s, self.from_s = policy, start_unix_s, from_s
        self.state = State()
        self.seen: deque[Sight] = deque(maxlen=max(1, round(policy.averaging_s / LOOK_S)))
        self.actions = 0

    def __call__(self, sight: Sight) -> Mapping[str, Order]:
        """Decide on what was seen up to now."""
        self.seen.append(sight)
        if sight.t_s < self.from_s:
            return {}
        observation = Observation(
            self.start_unix_s + sight.t_s,
            {(p.signal, p.role): self._mean(p.signal, p.role) for p in self.policy.primaries},
            dict(sight.asked),
            {p.role: self._ready(p.role) for p in self.policy.primaries if p.pool == "mean"},
            {(g.signal, g.role): sight.values.get(f"{g.signal}@service") for g in self.policy.guards},
        )
        decision, self.state = decide(self.policy, observation, self.state)
        self.actions += decision.direction != "hold"
        return {change.role: Order(change.after, change.restored) for change in decision.roles}

    def _mean(self, signal: str, role: str) -> float | None:
        name = f"{signal}@{'service' if signal == 'request_rate' else role}"
        known = [sight.values[name] for sight in self.seen if name in sight.values]
        return sum(known) / len(known) if name in self.seen[-1].values else None

    def _ready(self, role: str) -> float:
        return sum(sight.ready[role] for sight in self.seen) / len(self.seen)


def unreadable(policy: Policy) -> str:
    """Say why a policy can't be steered by what the loop shows; empty when it can."""
    if policy.mode != "metric":
        return f"policy is on {policy.mode}"
    other = [p.signal for p in policy.primaries if (p.signal, p.role) not in SHOWN]
    return f"follows {', '.join(other)}" if other else ""


def _watch_s(policy: Policy) -> float:
    return policy.soft_scale_in.observe_s if policy.soft_scale_in else 0.0


def foretold(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Write a policy from a history, replay it on the test window, and run the physics under it there."""
    made = history(kind, seed)
    written = written_of(made, folder)
    policy = load((written.run_dir / "policy.yaml").read_text("utf-8"))
    reason = unreadable(policy)
    if not reason:
        replayed = _replayed(made, written, policy)
    shutil.rmtree(written.run_dir)
    if reason:
        return asdict(Foretold(kind, seed, reason))
    row = next(p for p in replayed.policies if p.policy == WRITTEN)
    assert replayed.test is not None
    start, end = (datetime.fromisoformat(t).timestamp() - made.start_unix_s for t in replayed.test)
    steered, actions = _on_test_window(made, policy, round(start), round(end))
    windows = slice(WARM_S // LOOK_S, None)
    over = violating(steered.trace, made.kind.slo)
    return asdict(
        Foretold(
            kind, seed, "", _statuses(policy), row.slo_violation_range, row.instance_hours,
            steered.instance_hours(WARM_S, WARM_S + end - start),
            _share(row, replayed.calibration), float((over["ttft"] | over["tbt"])[windows].mean()),
            float(over["ttft"][windows].mean()), float(over["tbt"][windows].mean()),
            row.actions_per_day, actions * 86400.0 / (end - start),
        )
    )  # fmt: skip


def _replayed(made: History, written: Written, policy: Policy) -> ReplayResult:
    """Replay the written policy itself, not its fit on the training window, on the run's test window."""
    (frame,) = read_frames(written.run_dir)
    startup_s = {"prefill": made.startup_s, "decode": made.startup_s}
    settings = Settings(slo=made.kind.slo, startup_s=startup_s)
    train, test = split(frame, settings.train_share)
    derived = read_derived(written.run_dir, frame.service, TRAIN)
    return replay_service(test, train, derived, {WRITTEN: policy}, settings).result


def _share(row: PolicyReplay, calibration: Mapping[str, Any]) -> float:
    """Return the replayed share of violating windows, also where the replay says not to rely on it."""
    found = row.slo_violation_ratio
    found = calibration.get("uncalibrated_shares", {}).get(WRITTEN) if found is None else found
    return math.nan if found is None else float(found)


def _on_test_window(made: History, policy: Policy, start: int, end: int) -> tuple[Steered, int]:
    """Run the physics over the test window, from the counts recorded at its start, under its own requests."""
    begin = start - WARM_S
    requests = made.trace.requests
    inside = (requests.time_s >= begin) & (requests.time_s < end)
    same = Arrivals(
        requests.time_s[inside] - begin,
        *(v[inside] for v in (requests.prompt, requests.cached, requests.output)),
    )
    lives = {
        role: tuple(settled(one) for one in pool if one.open_s <= start < one.close_s)
        for role, pool in made.trace.service.lives.items()
    }
    work = PolicyAtWork(policy, made.start_unix_s + begin, WARM_S)
    steered = _steered(made, made.trace.service.with_lives(**lives), same, (end - begin) / 3600.0, work)
    return steered, work.actions


def _steered(
    made: History, service: Service, requests: Arrivals, hours: float, work: PolicyAtWork
) -> Steered:
    rng = np.random.default_rng([made.seed, len(requests)])
    return steer(
        service, requests, hours, rng, work, startup_s=made.startup_s, watch_s=_watch_s(work.policy),
        looks=made.kind.setup.looks,
    )  # fmt: skip


def _statuses(policy: Policy) -> str:
    return "+".join(str(p.target_per_instance.status) for p in policy.primaries)
