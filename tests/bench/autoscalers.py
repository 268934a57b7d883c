"""Controllers for arrays of lanes against a loop over the reference, as ratios of CPU time.

A thousand lanes of one structure, four hours of one-minute rows with four syncs each. Both sides see the same
readings and ask for the same counts; they run in turn, medians are compared. A replay has one lane of most
kinds: what that takes beside the thousand is the price of a step whatever its lanes.

    python tests/bench/autoscalers.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from controllers.batches import batch_of
from controllers.reference import Controller, PoolView

from hs_analysis.controllers.hpa import Hpa, Metric, RatePolicy, Rules
from hs_analysis.controllers.keda import Fallback, Keda
from hs_analysis.controllers.kthena import Kthena
from hs_analysis.controllers.lanes import Fleet, Scraped

LANES, ROWS, WINDOW_S, REPEATS = 1000, 240, 60.0, 3
GOAL = 10.0
"""Times that a batch must at least be faster than the loop, per controller and row."""


def hpas(rng: np.random.Generator) -> list[Hpa]:
    """Return candidates that differ in target, tolerance, window, and a rate policy's value and period."""
    up = Rules(0.0, (RatePolicy("Percent", 100, 15.0), RatePolicy("Pods", 4, 15.0)))
    found = []
    for _ in range(LANES):
        policy = RatePolicy("Pods", int(rng.integers(1, 4)), float(rng.choice([60.0, 300.0])))
        down = Rules(float(rng.choice([0.0, 300.0, 900.0])), (policy,))
        metric = Metric("load", float(rng.uniform(80, 120)))
        found.append(Hpa((metric,), 1, 60, float(rng.choice([0.05, 0.1])), 15.0, up, down))
    return found


def sides(parameters: Sequence[Any], load: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return a walk of a batch and one of a loop, each for the counts of every row, shape (ROWS, LANES)."""
    lanes = len(parameters)
    columns = [{"load": load[:, lane].tolist()} for lane in range(lanes)]

    def array() -> np.ndarray:
        batch, counts, found = batch_of(parameters), np.full(lanes, 7.0), []
        for row in range(1, ROWS + 1):
            seen = Scraped(WINDOW_S, {("load", "decode"): load[:row]})
            pools = {"decode": counts}
            counts = batch.step(Fleet(np.full(lanes, row * WINDOW_S), WINDOW_S, pools, pools, seen)).count
            found.append(counts)
        return np.stack(found)

    def loop() -> np.ndarray:
        alone, counts, found = [Controller(one) for one in parameters], [7] * lanes, []
        for row in range(1, ROWS + 1):
            counts = [
                one.step(PoolView("decode", row * WINDOW_S, WINDOW_S, count, count, column, row))
                for one, count, column in zip(alone, counts, columns, strict=True)
            ]
            for one in alone:
                forget(one.memory, row * WINDOW_S)
            found.append(counts)
        return np.array(found, float)

    return array, loop


def forget(memory: Any, now_s: float) -> None:
    """Drop what no window reaches any more, as a loop in earnest would."""
    limits = getattr(memory, "hpa", None) or getattr(memory, "limits", None) or memory
    for name in filter(lambda name: hasattr(limits, name), ("recommended", "changes", "corrected")):
        kept = tuple(entry for entry in getattr(limits, name) if now_s - entry[0] < 900.0)
        object.__setattr__(limits, name, kept)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU time [s] and the result of one call."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def main() -> None:
    """Print a line per controller."""
    rng = np.random.default_rng(0)
    day = 900.0 + 700.0 * np.sin(np.arange(ROWS)[:, None] / 38.0)
    load = np.abs(day * (1.0 + 0.1 * rng.normal(size=(ROWS, LANES))))
    scalers = hpas(rng)
    fallback = Fallback(3, 6, "currentReplicas")
    batches: dict[str, Sequence[Any]] = {
        "HPA": scalers,
        "KEDA": [Keda(one, 1, 60, ignore_null_values=False, fallback=fallback) for one in scalers],
        "Kthena": [Kthena(one.metrics, 1, 60, one.tolerance, one.up, one.down) for one in scalers],
    }
    for name, parameters in batches.items():
        array, loop = sides(parameters, load)
        alone, _ = sides(parameters[:1], load[:, :1])
        pairs = [(timed(array), timed(loop), timed(alone)) for _ in range(REPEATS)]
        assert (pairs[0][0][1] == pairs[0][1][1]).all(), f"{name}: the counts differ"
        ours, theirs, one = (statistics.median(pair[side][0] for pair in pairs) for side in range(3))
        each = 1e6 / (ROWS * LANES)
        sys.stdout.write(
            f"{name}, {LANES} lanes × {ROWS} rows: loop {theirs * each:.1f} µs a controller and row, "
            f"arrays {ours * each:.2f} µs: {theirs / ours:.0f} times faster (goal ≥ {GOAL:g}); "
            f"one lane takes {one / ours:.0%} of that\n"
        )


if __name__ == "__main__":
    main()
