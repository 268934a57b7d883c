"""Replay of many policies, compiled, against one after the other: CPU per policy-step, as ratios."""

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
LOOPED = 3
POLICIES = 1000
DAY_ROWS = 1440


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
    """Print the ratio for a week of 15-s rows at 1,000 policies, the compile time, and how figures differ."""
    base = pd_day(DAY_ROWS)
    model = fit_fleet(base, derived(), SETTINGS)
    week = pd_day(7 * 4 * DAY_ROWS, window_s=15.0)
    parts = demands(week)
    policies = settings(built(base, PAIR), POLICIES)
    begin = time.process_time()
    score_batch(policies[:1], parts, model)
    sys.stdout.write(
        f"first policy, compiler and its load included: {time.process_time() - begin:.1f} s CPU\n"
    )
    looped, alone = [], []
    for policy in policies[:LOOPED]:
        begin = time.process_time()
        alone.append(score("x", [simulate(policy, part, model) for part in parts], model))
        looped.append(time.process_time() - begin)
    begin = time.process_time()
    figures = score_batch(policies, parts, model)
    each = (time.process_time() - begin) / POLICIES
    rows = week.table.height
    sys.stdout.write(
        f"{POLICIES} policies x {rows} rows of 15 s: {statistics.median(looped) / each:.0f}x the loop per "
        f"policy-step (goal 60)\n"
    )
    worst = max(
        abs(figures.instance_hours[i] / (one.row.instance_hours or 1.0) - 1.0) for i, one in enumerate(alone)
    )
    sys.stdout.write(f"largest relative difference of instance-hours: {worst:.1e}\n")


if __name__ == "__main__":
    main()
