"""Run a written policy against the simulated physics itself, and judge it there.

Two questions: did the replay foretell what the policy does on the very same demand (`foretold`), and is a
policy from an over-provisioned history safe on another day of the same service (`fresh`). The truth side
knows the decision rule of the policy and nothing of the replay.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from end_to_end.closed_loop_table import Foretold, Fresh
from end_to_end.runs import here
from simulator import History, Kind, fresh_history, history, kind_of, write
from simulator.lives import FOREVER_S, Life
from simulator.measures import tbt_over, ttft_over
from simulator.physics import Service, Trace
from simulator.sights import LOOK_S, Sight
from simulator.steering import Order, Steered, steer
from simulator.workloads import Arrivals, LoadShape, TokenMix, arrivals, grid, mix_path

from hs_analysis.pipeline.study_stages import TRAIN, read_derived
from hs_analysis.pipeline.tables import read_frames, split
from hs_analysis.policy import Observation, Policy, State, decide, load
from hs_analysis.replay import replay_service
from hs_analysis.schema.results import PolicyReplay, ReplayResult
from hs_analysis.schema.settings import Settings, Slo

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

FLAT_HOURS, SETTLING_HOURS = 8.0, 2.0
"""Length of a flat load, and of its start, in which a pool comes to its size [h]."""

FORETOLD_KINDS = ("near_limit_days", "autoscaled", "drifting_mix", "ramps_and_bursts", "roomy_day")
"""Kinds whose pools keep their laws, so that a policy's own counts are the only difference."""

PEAKS = (0.5, 0.6, 0.75, 0.9)
LOADS: dict[str, tuple[LoadShape, TokenMix]] = {
    "day": (LoadShape(night=0.25, wander_sd=0.07), TokenMix()),
    "night": (LoadShape(night=0.08, wander_sd=0.07), TokenMix()),
    "ramps": (LoadShape(night=0.4, wander_sd=0.05, ramps_per_day=5.0, bursts_per_day=8.0), TokenMix()),
    "mix": (LoadShape(night=0.25, wander_sd=0.07), TokenMix(prompt_drift=-0.5, output_drift=0.5)),
}


def roomy_kinds() -> tuple[Kind, ...]:
    """Return kinds of over-provisioned day: four loads at four peaks, and each load autoscaled to 0.6.

    Pools are of 4 to 20 instances, the sizes that the floor rule was set on.
    """
    roomy = replace(kind_of("roomy_day"), instances=(4, 20))
    made = []
    for name, (load_shape, mix) in LOADS.items():
        shaped = replace(roomy, load=load_shape, mix=mix)
        made += [
            replace(shaped, name=f"{name}_{peak:g}", prefill_peak=(peak, peak), decode_peak=(peak, peak))
            for peak in PEAKS
        ]
        usual = (0.86, 0.86)
        made.append(
            replace(shaped, name=f"{name}_scaled", prefill_peak=usual, decode_peak=usual, event="autoscaled")
        )
    return tuple(made)


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


def violating(trace: Trace, slo: Slo) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return per latency which windows were over the objective; one without samples was not."""
    late = 1.0 - slo.quantile
    shares = {
        "ttft": ttft_over(trace, slo.ttft_s or math.inf, slo.window_s),
        "tbt": tbt_over(trace, slo.tbt_s or math.inf, slo.window_s),
    }
    return {name: np.nan_to_num(share) > late for name, share in shares.items()}


@dataclass(frozen=True)
class Written:
    """What a run wrote of a history: policy, summary of the service, and where."""

    policy: Policy
    service: dict[str, Any]
    run_dir: Path


def policy_of(made: History, folder: Path) -> Written:
    """Run the command line on the dumps of a history alone, and read its policy."""
    dumps, run_dir = folder / f"{made.kind.name}-{made.seed}", folder / f"{made.kind.name}-{made.seed}-run"
    write(made, dumps)
    slo = made.kind.slo
    here(
        "run", dumps, "--run-dir", run_dir, "-q", "--startup", f"{made.startup_s:.0f}s",
        "--slo", f"ttft={slo.ttft_s}s", "--slo", f"tbt={slo.tbt_s}s",
    )  # fmt: skip
    shutil.rmtree(dumps)
    return Written(load((run_dir / "policy.yaml").read_text("utf-8")), _service(run_dir), run_dir)


def _service(run_dir: Path) -> dict[str, Any]:
    (service,) = json.loads((run_dir / "summary.json").read_text("utf-8"))["services"]
    return dict(service)


def _watch_s(policy: Policy) -> float:
    return policy.soft_scale_in.observe_s if policy.soft_scale_in else 0.0


def foretold(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Write a policy from a history, replay it on the test window, and run the physics under it there."""
    made = history(kind, seed)
    written = policy_of(made, folder)
    policy = written.policy
    reason = unreadable(policy)
    if not reason:
        replayed = _replayed(made, written)
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


def _replayed(made: History, written: Written) -> ReplayResult:
    """Replay the written policy itself, not its fit on the training window, on the run's test window."""
    (frame,) = read_frames(written.run_dir)
    startup_s = {"prefill": made.startup_s, "decode": made.startup_s}
    settings = Settings(slo=made.kind.slo, startup_s=startup_s)
    train, test = split(frame, settings.train_share)
    derived = read_derived(written.run_dir, frame.service, TRAIN)
    return replay_service(test, train, derived, {WRITTEN: written.policy}, settings).result


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
        role: tuple(_settled(one) for one in pool if one.open_s <= start < one.close_s)
        for role, pool in made.trace.service.lives.items()
    }
    work = PolicyAtWork(policy, made.start_unix_s + begin, WARM_S)
    steered = _steered(made, made.trace.service.with_lives(**lives), same, (end - begin) / 3600.0, work)
    return steered, work.actions


def _settled(life: Life) -> Life:
    return replace(life, open_s=-1.0, close_s=FOREVER_S)


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


def fresh(kind: Kind, seed: int, folder: Path) -> dict[str, Any]:
    """Write a policy from an over-provisioned history and run it on a day that nobody has seen."""
    made = history(kind, seed)
    written = policy_of(made, folder)
    shutil.rmtree(written.run_dir)
    policy = written.policy
    if unreadable(policy):
        return asdict(Fresh(kind.name, seed, unreadable(policy), _statuses(policy)))
    day = fresh_history(made, 1)
    end_s = kind.hours * 3600.0
    counts = {role: _at(lives, 0.0) for role, lives in day.trace.service.lives.items()}
    steered = _steered(
        day, day.trace.service.with_lives(**counts), day.trace.requests, kind.hours,
        PolicyAtWork(policy, day.start_unix_s),
    )  # fmt: skip
    before, after = violating(day.trace, kind.slo), violating(steered.trace, kind.slo)
    found = Fresh(
        kind.name, seed, "", _statuses(policy), _recorded_hours(day, end_s),
        steered.instance_hours(0.0, end_s), float((before["ttft"] | before["tbt"]).mean()),
        float((after["ttft"] | after["tbt"]).mean()), float(after["ttft"].mean()),
        float(after["tbt"].mean()),
    )  # fmt: skip
    cause = _cause(steered, after, policy) if found.broken else ""
    actions, pool_days = flat_actions(made, policy)
    return asdict(replace(found, cause=cause, flat_actions=actions, flat_pool_days=pool_days))


def flat_actions(made: History, policy: Policy) -> tuple[int, float]:
    """Return how often a policy acts while the load stands still, and in how many days of a pool.

    The load is at some level from 0.3 of the peak on. The rate and the means of the mix are constant;
    arrivals and lengths are as random as ever.
    """
    rng = np.random.default_rng([made.seed, 1])
    steps = grid(FLAT_HOURS).size
    peak = float(np.quantile(made.drawn.rate, 0.99))
    mix = replace(made.kind.mix, prompt_drift=0.0, output_drift=0.0, hit_drift=0.0)
    rate = np.full(steps, peak * rng.uniform(0.3, 1.0))
    path = mix_path(mix, FLAT_HOURS, rng)
    still = replace(path, **{name: np.full(steps, v.mean()) for name, v in vars(path).items()})
    requests = arrivals(rate, still, mix, rng)
    counts = {role: _at(lives, 0.0) for role, lives in made.trace.service.lives.items()}
    steered = _steered(
        made, made.trace.service.with_lives(**counts), requests, FLAT_HOURS,
        PolicyAtWork(policy, made.start_unix_s, policy.averaging_s),
    )  # fmt: skip
    asked = np.array(list(steered.asked.values()))[:, round(SETTLING_HOURS * 3600) // LOOK_S :]
    moved = np.diff(asked, axis=1) != 0
    return int(moved.sum()), len(asked) * (FLAT_HOURS - SETTLING_HOURS) / 24.0


def _at(lives: Sequence[Life], at_s: float) -> tuple[Life, ...]:
    return tuple(_settled(one) for one in lives if one.open_s <= at_s < one.close_s)


def _recorded_hours(day: History, end_s: float) -> float:
    """Return what the recorded pools cost: as long as each accepted work, and its start-up time before."""
    total = 0.0
    for lives in day.trace.service.lives.values():
        for one in lives:
            asked = max(0.0, one.open_s - day.startup_s) if one.open_s > 0 else 0.0
            total += min(one.close_s, end_s) - asked
    return total / 3600.0


def _cause(steered: Steered, over: Mapping[str, Any], policy: Policy) -> str:
    """Say of the violating windows which limit, how large the pool was, and how load stood to its target."""
    texts = []
    trace = steered.trace
    for latency, role in (("ttft", "prefill"), ("tbt", "decode")):
        bad = np.flatnonzero(over[latency])
        target = next((p.target_per_instance.value for p in policy.primaries if p.role == role), None)
        if not bad.size or not target:
            continue
        middles = (bad + 0.5) * LOOK_S
        lives = trace.service.lives[role]
        ready = np.array([max(1, len(_at(lives, t))) for t in middles])
        tokens = trace.requests.missed if role == "prefill" else trace.requests.output
        gained = np.r_[0.0, np.cumsum(tokens)]
        at = trace.requests.time_s
        now, then = (gained[np.searchsorted(at, middles - ago)] for ago in (-30.0, 270.0))
        load = (now - then) / 300.0 / ready / target
        growing = np.array([steered.asked[role][w] for w in bad]) > ready
        texts.append(
            f"{bad.size} windows by {latency}: {role} of {np.median(ready):.0f} at {np.median(load):.2f} "
            f"of its target, {growing.mean():.0%} while instances were starting"
        )
    return "; ".join(texts)
