"""Run a written policy against the simulated physics itself: did the replay foretell what it does?

The truth side runs what the policy's controller reads: its exported files, or the policy document for
HeteroScale's own rule. It knows nothing of the replay. What exported files do on another day is judged in
`closed_loop`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from end_to_end.closed_loop import Case, Runner, Written, chosen_runner, there, violating, written_of
from end_to_end.foretold_table import Foretold
from simulator import History, history
from simulator.exported import Scene
from simulator.steering import Steered, Steering
from simulator.workloads import Arrivals

from hs_analysis.pipeline.study_stages import TRAIN, read_derived
from hs_analysis.pipeline.tables import read_frames, split
from hs_analysis.policy import Policy, control_of, load
from hs_analysis.replay import replay_service
from hs_analysis.schema.replays import PolicyReplay, ReplayResult
from hs_analysis.schema.settings import Settings

WRITTEN = "written"

WARM_S = 3600
"""Time with the recorded counts before a policy takes over in the middle of a history [s]."""

FORETOLD_KINDS = ("near_limit_days", "autoscaled", "drifting_mix", "ramps_and_bursts", "roomy_day")
"""Kinds whose pools keep their laws, so that a policy's own counts are the only difference."""


def foretold(kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Write a policy from a history, replay it on the test window, and run the physics under it there."""
    made = history(kind, seed)
    written = written_of(made, folder)
    policy = load((written.run_dir / "policy.yaml").read_text("utf-8"))
    reason, runner = "", None
    try:
        runner = chosen_runner(written)
    except ValueError as error:
        reason = str(error)
    if not reason:
        replayed = _replayed(made, written, policy)
    shutil.rmtree(written.run_dir)
    if reason:
        return asdict(Foretold(kind, seed, reason))
    row = next(p for p in replayed.policies if p.policy == WRITTEN)
    assert replayed.test is not None
    start, end = (datetime.fromisoformat(t).timestamp() - made.start_unix_s for t in replayed.test)
    steered, actions = _on_test_window(made, runner, round(start), round(end))
    windows = slice(round(WARM_S / made.kind.slo.window_s), None)
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
    return replay_service(test, train, derived, {WRITTEN: control_of(policy)}, settings).result


def _share(row: PolicyReplay, calibration: Mapping[str, Any]) -> float:
    """Return the replayed share of violating windows, also where the replay says not to rely on it."""
    found = row.slo_violation_ratio
    found = calibration.get("uncalibrated_shares", {}).get(WRITTEN) if found is None else found
    return math.nan if found is None else float(found)


def _on_test_window(made: History, runner: Runner, start: int, end: int) -> tuple[Steered, int]:
    """Run the physics over the test window, from the counts recorded at its start, under its own requests.

    Return what happened, and how often counts changed once the policy had taken over.
    """
    begin = start - WARM_S
    requests = made.trace.requests
    inside = (requests.time_s >= begin) & (requests.time_s < end)
    same = Arrivals(
        requests.time_s[inside] - begin,
        *(v[inside] for v in (requests.prompt, requests.cached, requests.output)),
    )
    pools = {role: there(lives, start) for role, lives in made.trace.service.lives.items()}
    day = replace(
        made, start_unix_s=made.start_unix_s + begin,
        trace=replace(made.trace, service=made.trace.service.with_lives(**pools)),
    )  # fmt: skip

    def later(scene: Scene) -> Steering:
        steering = runner(scene)
        return lambda sight: steering(sight) if sight.t_s >= WARM_S else {}

    steered = Case(day, same, (end - begin) / 3600.0).run(later)
    asked = np.array(list(steered.asked.values()))
    return steered, int((np.diff(asked, axis=1) != 0).any(axis=0).sum())


def _statuses(policy: Policy) -> str:
    return "+".join(str(p.target_per_instance.status) for p in policy.primaries)
