"""Replay of many policies side by side against one after the other: seconds per policy, as ratios."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: its replay.py would hide the tests

from replay.services import SETTINGS, built, derived, pd_day  # noqa: E402 - the tests' folder is not a package

from hs_analysis.policy.model import Policy  # noqa: E402
from hs_analysis.replay.batch import score_batch  # noqa: E402
from hs_analysis.replay.demand import demands  # noqa: E402
from hs_analysis.replay.fleet import fit_fleet  # noqa: E402
from hs_analysis.replay.score import score  # noqa: E402
from hs_analysis.replay.simulate import simulate  # noqa: E402

PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))
LOOPED = 8
REPEATS = 3


def settings(policy: Policy, count: int) -> list[Policy]:
    """Return a policy at many targets."""
    return [
        replace(
            policy,
            primaries=tuple(
                replace(
                    p,
                    target_per_instance=replace(
                        p.target_per_instance,
                        value=(p.target_per_instance.value or 1.0) * (0.7 + 0.4 * i / count),
                    ),
                )
                for p in policy.primaries
            ),
        )
        for i in range(count)
    ]


def main() -> None:
    """Print how many times faster a policy is in a batch, and how far figures differ."""
    frame = pd_day(1440)
    model = fit_fleet(frame, derived(), SETTINGS)
    parts = demands(frame)
    policies = settings(built(frame, PAIR), 2000)
    looped = []
    for policy in policies[:LOOPED]:
        begin = time.perf_counter()
        alone = score("x", [simulate(policy, part, model) for part in parts], model)
        looped.append(time.perf_counter() - begin)
    loop = statistics.median(looped)
    worst = 0.0
    for count in (100, 1000, 2000):
        times = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            figures = score_batch(policies[:count], parts, model)
            times.append((time.perf_counter() - begin) / count)
        for place in range(LOOPED):
            if place == LOOPED - 1:
                worst = max(worst, abs(figures.instance_hours[place] - (alone.row.instance_hours or 0.0)))
        sys.stdout.write(f"{count} policies at once: {loop / min(times):.0f}x the loop per policy\n")
    sys.stdout.write(f"largest difference of instance-hours: {worst:.1e}\n")


if __name__ == "__main__":
    main()
