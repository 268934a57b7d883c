"""What exported files did in the simulated physics, by class, beside what ran and what they must beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from end_to_end.recovery import Line
from scipy.stats import gamma
from simulator.faults import BURST

EXPORTED, USUAL_HPA, STATIC_PEAK, RECORDED = "exported", "usual_hpa", "static_peak", "recorded"
"""What was run: the exported files; an HPA with Kubernetes' defaults on the derived targets; the counts that
the highest five minutes of the history needed at those targets; and what ran."""

FLAT, FLAT_DAYS = "flat", 0.25
"""The run in which the load stands still, among the faults, and how long actions are counted in it [days]."""

MORE_HOURS, MORE_WINDOWS = 0.002, 0.0001
"""What one of two may have more of and be no worse: hours [ratio], windows over the objective [share]."""

WINS_HOURS, WINS_WINDOWS = 0.01, 0.0005
"""By how much a strict win is better: hours [ratio], windows over the objective [share]."""

BREAKS_BY = 0.01
"""A policy breaks the SLO where it violates in this share of windows more than what ran."""

CLASSES: dict[str, Callable[[str], bool]] = {
    **{
        f"static_{peak}": lambda kind, p=peak: kind.endswith(f"_{p}")
        for peak in ("0.5", "0.6", "0.75", "0.9")
    },
    "autoscaled": lambda kind: kind.endswith("_scaled"),
    "near_limit": lambda kind: kind.endswith("_limit"),
    "small_pools": lambda kind: kind.endswith("_small"),
    "ramps": lambda kind: kind.startswith("ramps_"),
    "moving_mix": lambda kind: kind.startswith("mix_"),
    "all": lambda kind: True,
}
"""Class → whether a kind of history is in it; the last three cut across the others."""


@dataclass(frozen=True)
class Judged:
    """One run of a day.

    Attributes
    ----------
    runner, fault
        What was run, and under what; empty = undisturbed.
    hours
        Instance-hours paid: an instance that leaves is paid until its requests end.
    over, ttft_over, tbt_over
        Share of windows over the objective: of either latency, and of each.
    fault_over, fault_windows
        The same within the time the faults are judged over, and how many windows that is.
    actions, pool_actions
        Moments a day at which any count changed; changes a day and pool.
    lost
        Requests that died with an instance.
    counts
        A digest of the wanted counts: equal ones are the same run.
    """

    runner: str
    fault: str
    hours: float
    over: float
    ttft_over: float = math.nan
    tbt_over: float = math.nan
    fault_over: float = math.nan
    fault_windows: int = 0
    actions: float = math.nan
    pool_actions: float = math.nan
    lost: int = 0
    counts: int = 0


@dataclass(frozen=True)
class Score:
    """A history's runs by runner and fault, and the bound on its hours."""

    kind: str
    seed: int
    bound: float | None
    runs: Mapping[tuple[str, str], Judged]
    skipped: str = ""

    def of(self, runner: str, fault: str = "") -> Judged:
        """Return a run."""
        return self.runs[runner, fault]

    def faults(self) -> list[str]:
        """Return the faults that were tried, without bursts."""
        return [fault for runner, fault in self.runs if runner == EXPORTED and fault not in ("", FLAT, BURST)]


def score_of(row: Mapping[str, Any]) -> Score:
    """Return a score from a JSON line."""
    runs = [Judged(**run) for run in row["runs"]]
    return Score(
        row["kind"], row["seed"], row["bound"], {(r.runner, r.fault): r for r in runs}, row["skipped"]
    )


def beaten(ours: Judged, theirs: Judged) -> bool:
    """Whether theirs is at most a little worse in both hours and windows, and better in one by more."""
    no_worse = theirs.hours <= ours.hours * (1.0 + MORE_HOURS) and theirs.over <= ours.over + MORE_WINDOWS
    better = theirs.hours < ours.hours * (1.0 - MORE_HOURS) or theirs.over < ours.over - MORE_WINDOWS
    return no_worse and better


def wins(ours: Judged, theirs: Judged) -> bool:
    """Whether ours is clearly better in hours or windows, and no worse in the other."""
    fewer_hours = ours.hours <= theirs.hours * (1.0 - WINS_HOURS) and ours.over <= theirs.over + MORE_WINDOWS
    fewer_over = ours.over <= theirs.over - WINS_WINDOWS and ours.hours <= theirs.hours * (1.0 + MORE_HOURS)
    return fewer_hours or fewer_over


def no_worse_under(ours: Judged, theirs: Judged) -> bool:
    """Whether ours violates no more than theirs while something goes wrong."""
    return ours.fault_over <= theirs.fault_over + MORE_WINDOWS


def broken(score: Score) -> bool:
    """Whether the exported files broke the SLO where what ran did not."""
    return score.of(EXPORTED).over - score.of(RECORDED).over > BREAKS_BY


def lines(scores: Sequence[Score]) -> list[Line]:
    """Return the lines that exported files are judged by."""
    pairs = [(s.of(EXPORTED), s.of(USUAL_HPA)) for s in scores]
    hit = [
        (s.of(EXPORTED, f), s.of(USUAL_HPA, f)) for s in scores for f in (*s.faults(), BURST) if s.faults()
    ]
    return [
        Line("beaten by the usual HPA", sum(beaten(*pair) for pair in pairs), len(pairs), 0.025, least=False),
        Line("strict win over the usual HPA", sum(wins(*pair) for pair in pairs), len(pairs), 0.5),
        Line(
            "the very counts of the usual HPA", sum(a.counts == b.counts for a, b in pairs), len(pairs), 0.0
        ),
        Line(
            "no worse than it under a fault or burst",
            sum(no_worse_under(*pair) for pair in hit),
            len(hit),
            0.95,
        ),
        Line("broke the SLO by over a point", sum(map(broken, scores)), len(scores), 0.01, least=False),
    ]


COLUMNS = (
    "runner", "hours÷bound", "saved %", "over %", "faults %", "bursts %", "actions/day", "a pool",
    "flat a pool",
)  # fmt: skip


def class_rows(scores: Sequence[Score]) -> list[tuple[str, ...]]:
    """Return a row of `COLUMNS` per runner."""
    runners = [RECORDED, STATIC_PEAK, USUAL_HPA, EXPORTED]
    runners += sorted({runner for s in scores for runner, _ in s.runs} - set(runners))
    return [_row(runner, [s for s in scores if (runner, "") in s.runs]) for runner in runners]


def _row(runner: str, scores: Sequence[Score]) -> tuple[str, ...]:
    runs = [s.of(runner) for s in scores]
    bounded = [(s.of(runner).hours, s.bound) for s in scores if s.bound]
    recorded = sum(s.of(RECORDED).hours for s in scores)
    hours = sum(run.hours for run in runs)
    faults = [s.of(runner, f).fault_over for s in scores for f in s.faults() if (runner, f) in s.runs]
    bursts = [s.of(runner, BURST).fault_over for s in scores if (runner, BURST) in s.runs]
    flat = [s.of(runner, FLAT).pool_actions for s in scores if (runner, FLAT) in s.runs]
    return (
        runner,
        _text(sum(h for h, _ in bounded) / sum(b for _, b in bounded) if bounded else math.nan, ".2f"),
        _text(100.0 * (1.0 - hours / recorded) if recorded else math.nan, ".1f"),
        _text(100.0 * _mean([run.over for run in runs]), ".3f"),
        _text(100.0 * _mean(faults), ".2f"),
        _text(100.0 * _mean(bursts), ".2f"),
        _text(_mean([run.actions for run in runs]), ".1f"),
        _text(_mean([run.pool_actions for run in runs]), ".1f"),
        _text(_mean(flat), ".2f"),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _text(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of all scores as lines of text: a block per class, and who broke the SLO."""
    scores = [score_of(row) for row in rows]
    ran = [s for s in scores if not s.skipped]
    texts = [
        f"{len(ran)} of {len(scores)} histories judged, {sum(bool(s.faults()) for s in ran)} under faults"
    ]
    for name, inside in CLASSES.items():
        chosen = [s for s in ran if inside(s.kind)]
        if not chosen:
            continue
        texts += ["", f"{name}: {len(chosen)} histories"]
        texts += ["".join(f"{cell:>13}" for cell in row) for row in (COLUMNS, *class_rows(chosen))]
        texts += [f"  {line.text()}" for line in lines(chosen)]
        texts.append(f"  flat load: {_flat_text(chosen)}")
    texts += ["", *(f"broken: {_broken_text(s)}" for s in ran if broken(s))]
    texts += [f"not judged: {s.kind}-{s.seed}, {s.skipped}" for s in scores if s.skipped]
    seconds = [row["day_s"] for row in rows if not row["skipped"]]
    texts.append(f"median of {_mean(seconds):.2f} s a closed-loop day" if seconds else "")
    return texts


def _flat_text(scores: Sequence[Score]) -> str:
    """Say how often a pool and day changes while the load stands still, with the exact interval."""
    days = 2.0 * FLAT_DAYS * len(scores)
    texts = []
    for runner in (EXPORTED, USUAL_HPA):
        events = round(sum(s.of(runner, FLAT).pool_actions for s in scores) * 2.0 * FLAT_DAYS)
        low, high = rate_interval(events, days)
        texts.append(f"{runner} {events / days:.2f} [{low:.2f}, {high:.2f}]")
    return f"{', '.join(texts)} actions a pool and day"


def _broken_text(score: Score) -> str:
    ours, before = score.of(EXPORTED), score.of(RECORDED)
    return (
        f"{score.kind}-{score.seed}: {ours.over:.2%} of windows (ttft {ours.ttft_over:.2%}, "
        f"tbt {ours.tbt_over:.2%}), recorded {before.over:.2%}, usual HPA {score.of(USUAL_HPA).over:.2%}"
    )


def rate_interval(events: int, exposure: float) -> tuple[float, float]:
    """Return the exact 95 % interval of a rate of independent events (Garwood 1936)."""
    if not exposure:
        return math.nan, math.nan
    low = float(gamma.ppf(0.025, events)) if events else 0.0
    return low / exposure, float(gamma.ppf(0.975, events + 1)) / exposure
