"""Judge whole runs on simulated histories against what is true of them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from end_to_end.demand import saturated_error
from end_to_end.elasticity import queue_slopes
from end_to_end.runs import here
from scipy.stats import beta
from simulator import History, history, write
from simulator.truth import Truth

USABLE = ("proportional", "guard")

OFTEN = 25
"""Violating windows from which a capacity can be expected [count]."""

DEMAND_NEAR = 0.03
"""Median error of rebuilt saturated demand that counts as near [ln]."""

NEAR = math.log(1.05)
"""Log distance that counts as near: 5 %, so that half of the answers within it is a median error of 5 %."""


@dataclass
class Score:
    """What one history was worth, as plain data: lists of judged items."""

    kind: str
    seed: int
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    capacities: list[dict[str, Any]] = field(default_factory=list)
    ratio: dict[str, Any] = field(default_factory=dict)
    shortage: dict[str, int] = field(default_factory=dict)
    recommended: str | None = None
    nothing_recommended: bool = False
    lags: list[dict[str, Any]] = field(default_factory=list)
    demand: dict[str, float] = field(default_factory=dict)
    queues: list[dict[str, Any]] = field(default_factory=list)


def recover(kind: str, seed: int, folder: Path, *, keep: bool = False) -> dict[str, Any]:
    """Make a history, run the command line on its dumps alone, and score the summary against the truth."""
    made = history(kind, seed)
    dumps, run_dir = folder / f"{kind}-{seed}", folder / f"{kind}-{seed}-run"
    write(made, dumps)
    slo = made.kind.slo
    here(
        "run", dumps, "--run-dir", run_dir, "-q", "--startup", f"{made.startup_s:.0f}s",
        "--slo", f"ttft={slo.ttft_s}s", "--slo", f"tbt={slo.tbt_s}s",
    )  # fmt: skip
    summary = json.loads((run_dir / "summary.json").read_text("utf-8"))
    (service,) = summary["services"]
    given = {f"{s['signal']}@{s['role']}": s for s in service["signals"] if not s["gpu_type"]}
    scored = asdict(
        replace(
            score(made, summary),
            demand=saturated_error(made, run_dir),
            queues=queue_slopes(made, given),
        )
    )
    if not keep:
        shutil.rmtree(dumps)
        shutil.rmtree(run_dir)
    return scored


def score(made: History, summary: dict[str, Any]) -> Score:
    """Compare one summary with the truth of its history."""
    truth = made.truth
    (service,) = summary["services"]
    result = Score(made.kind.name, made.seed, nothing_recommended=truth.nothing_recommended)
    given = {f"{s['signal']}@{s['role']}": s for s in service["signals"] if not s["gpu_type"]}
    for name, wanted in sorted(truth.signals.items()):
        got = given.get(name)
        result.verdicts.append(
            {
                "signal": name, "wanted": wanted.verdict, "borderline": wanted.borderline,
                "got": got["verdict"] if got else "missing", "true_elasticity": _number(wanted.elasticity),
                "elasticity": got and got["elasticity"], "elasticity_ci": got and got["elasticity_ci"],
                "snr": got and got["snr"], "true_snr": _number(wanted.snr), "drift": got and got["drift"],
                "true_drift": _number(wanted.drift),
                "reasons": [(r["code"], r["value"]) for r in got["reasons"]] if got else [],
            }
        )  # fmt: skip
    result.lags = [
        {"signal": name, "true": lag, "got": given[name]["lag_s"]}
        for name, lag in truth.lag_s.items()
        if name in given
    ]
    result.capacities = [_capacity(service, role, truth) for role in truth.capacity]
    ratio = service["pd_ratio"]
    result.ratio = {
        "true": truth.ratio, "accept": list(truth.ratio_accept), "peak_share": truth.peak_share,
        "violations": truth.violations,
        **{key: ratio[key] for key in ("status", "value", "ci", "at_least", "at_most")},
        "reason": ratio["reason"],
    }  # fmt: skip
    result.shortage = _shortage(made, service, truth)
    recommended = service["recommended"]
    result.recommended = recommended and f"{recommended['signal']}@{recommended['role']}"
    return result


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _capacity(service: dict[str, Any], role: str, truth: Truth) -> dict[str, Any]:
    found = next((c for c in service["capacity"] if c["role"] == role and c["gpu_type"] is None), None)
    return {
        "role": role, "true": list(truth.capacity[role]), "peak_share": _number(truth.peak_share[role]),
        "violations": truth.violations[role], "status": found["status"] if found else "missing",
        "value": found and found["per_instance"], "ci": found and found["ci"],
        "reason": found and found["reason"],
    }  # fmt: skip


def _shortage(made: History, service: dict[str, Any], truth: Truth) -> dict[str, int]:
    """Count minutes in which somebody was short: truly, as said, and both; unclear ones are left out."""
    minutes = made.start_unix_s + 60.0 * np.arange(truth.short.size) + 30.0
    said = np.zeros(minutes.size, dtype=bool)
    for window in service["demand"]["censored_windows"]:
        start, end = (datetime.fromisoformat(window[key]).timestamp() for key in ("start", "end"))
        said |= (minutes >= start) & (minutes < end)
    clear = ~truth.unclear
    return {
        "short": int((truth.short & clear).sum()), "said": int((said & clear).sum()),
        "both": int((truth.short & said & clear).sum()),
    }  # fmt: skip


def interval(hits: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share (Clopper & Pearson 1934)."""
    if trials == 0:
        return math.nan, math.nan
    low = float(beta.ppf(0.025, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


@dataclass(frozen=True)
class Line:
    """One line of the table: what, how many of how many (or a number), and the goal."""

    what: str
    hits: int
    trials: int
    goal: float
    least: bool = True

    @property
    def point(self) -> float:
        """The share."""
        return self.hits / self.trials if self.trials else math.nan

    @property
    def standing(self) -> str:
        """``shown`` when all of the interval meets the goal, ``missed`` when none does, else ``open``."""
        if not self.trials:
            return "open"
        low, high = interval(self.hits, self.trials)
        bad, good = (low, high) if self.least else (-high, -low)
        goal = self.goal if self.least else -self.goal
        return "shown" if bad >= goal else "missed" if good < goal else "open"

    def text(self) -> str:
        """Return the line as printed."""
        low, high = interval(self.hits, self.trials)
        sign = "≥" if self.least else "≤"
        return (
            f"{self.what:<58} {self.hits:>5}/{self.trials:<5} {self.point:6.3f} "
            f"[{low:.3f}, {high:.3f}]  goal {sign} {self.goal:<5} {self.standing}"
        )


def table(scores: Sequence[dict[str, Any]]) -> tuple[list[Line], list[str]]:
    """Return the lines of the table, and a sentence per miss."""
    verdicts, caps = _judged_verdicts(scores), _judged_capacities(scores)
    ratios = [{**s["ratio"], "kind": s["kind"], "seed": s["seed"]} for s in scores]
    clear = [v for v in verdicts if not v["borderline"]]
    lines = [
        *_verdict_lines(verdicts, clear, scores),
        *_elasticity_lines(clear, scores),
        *_capacity_lines(caps),
        *_ratio_lines(ratios),
        *_shortage_lines(scores),
    ]
    return lines, [*_wrong_verdicts(clear), *_wrong_numbers(caps, ratios, scores)]


def _judged_verdicts(scores: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**v, "kind": s["kind"], "seed": s["seed"]} for s in scores for v in s["verdicts"]]


def _judged_capacities(scores: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the capacities that are known: of a service that changed halfway, the one after the change."""
    rows = [{**c, "kind": s["kind"], "seed": s["seed"]} for s in scores for c in s["capacities"]]
    return [{**c, "true": c["true"][-1], "changed": len(c["true"]) > 1} for c in rows if c["true"]]


def _verdict_lines(
    verdicts: list[dict[str, Any]], clear: list[dict[str, Any]], scores: Sequence[dict[str, Any]]
) -> list[Line]:
    right, all_right = (sum(v["wanted"] == v["got"] for v in rows) for rows in (clear, verdicts))
    other = [v for v in clear if v["wanted"] != "proportional"]
    sizing = [v for v in clear if v["wanted"] == "proportional"]
    unusable = [v for v in clear if v["wanted"] == "unusable"]
    mute = [s for s in scores if s["nothing_recommended"]]
    wrongly = sum(v["got"] in USABLE for v in unusable)
    spoken = sum(s["recommended"] is not None for s in mute)
    return [
        Line("verdict right, answers at a rule's edge left out", right, len(clear), 0.95),
        Line("verdict right, all answers", all_right, len(verdicts), 0.92),
        Line(
            "not proportional called proportional", _count(other, got="proportional"), len(other), 0.02, False
        ),
        Line("unusable called usable", wrongly, len(unusable), 0.03, False),
        Line("proportional found", _count(sizing, got="proportional"), len(sizing), 0.92),
        Line("unanswerable: anything recommended", spoken, len(mute), 0.0, False),
    ]


def _elasticity_lines(clear: list[dict[str, Any]], scores: Sequence[dict[str, Any]]) -> list[Line]:
    moved = [
        v
        for v in clear
        if v["wanted"] == "proportional" and v["elasticity"] is not None and v["true_elasticity"]
    ]
    near = sum(abs(v["elasticity"] - v["true_elasticity"]) <= 0.03 for v in moved)
    covered = sum(_covers(v["elasticity_ci"], v["true_elasticity"]) for v in moved)
    lags = [x for s in scores for x in s["lags"] if x["got"] is not None]
    every = [v for s in scores for v in s["verdicts"] if _judged_slope(v)]
    slopes = sum(_covers(v["elasticity_ci"], v["true_elasticity"]) for v in every)
    queues = [queue for s in scores for queue in s["queues"]]
    return [
        Line("elasticity within 0.03 (proportional)", near, len(moved), 0.5),
        Line("elasticity interval covers", covered, len(moved), 0.88),
        Line("the same, every usable signal but queues", slopes, len(every), 0.88),
        Line(
            "the same, queues over the loads spoken of",
            sum(_covers(q["ci"], q["true"]) for q in queues),
            len(queues),
            0.88,
        ),
        Line("known lag within 30 s", sum(abs(x["got"] - x["true"]) <= 30 for x in lags), len(lags), 0.5),
    ]


def _judged_slope(v: dict[str, Any]) -> bool:
    """Return whether a signal that was called usable has a slope to compare; queues are compared apart."""
    queue = v["signal"].startswith("queue_length")
    return v["got"] in USABLE and not queue and bool(v["elasticity_ci"]) and v["true_elasticity"] is not None


def _capacity_lines(caps: list[dict[str, Any]]) -> list[Line]:
    known, floors = ([c for c in caps if c["status"] == status] for status in ("ok", "floor"))
    # Violations are counted over the whole history: most of a release's are of the engine before it.
    near = [c for c in caps if c["violations"] >= OFTEN and not c["changed"]]
    covered = sum(_covers(c["ci"], c["true"]) for c in known)
    return [
        Line("capacity given where 25 windows or more violated", _count(near, status="ok"), len(near), 0.6),
        Line("capacity within 5 %", sum(abs(_off(c)) <= NEAR for c in known), len(known), 0.5),
        Line("capacity interval covers", covered, len(known), 0.9),
        Line("floor above the true capacity", sum(_off(c) > 0.01 for c in floors), len(floors), 0.0, False),
    ]


def _ratio_lines(ratios: list[dict[str, Any]]) -> list[Line]:
    given = [r for r in ratios if r["status"] == "ok" and r["true"]]
    reachable = [
        r
        for r in ratios
        if r["true"]
        and r["kind"] != "release"
        and "drifting" not in r["accept"]
        and all(n >= OFTEN for n in r["violations"].values())
    ]
    drifting = [r for r in ratios if r["accept"] == ["drifting"]]
    steady = [r for r in ratios if "drifting" not in r["accept"]]
    accepted = sum(r["status"] in r["accept"] for r in ratios)
    found = _count(reachable, status="ok")
    return [
        Line("ratio given where both pools violated as often", found, len(reachable), 0.6),
        Line("ratio within 5 %", sum(abs(_off(r)) <= NEAR for r in given), len(given), 0.5),
        Line("ratio interval covers", sum(_covers(r["ci"], r["true"]) for r in given), len(given), 0.9),
        Line("ratio status acceptable", accepted, len(ratios), 0.9),
        Line("drifting mix flagged", _count(drifting, status="drifting"), len(drifting), 1.0),
        Line("steady mix called drifting", _count(steady, status="drifting"), len(steady), 0.0, False),
    ]


def _shortage_lines(scores: Sequence[dict[str, Any]]) -> list[Line]:
    errors = [error for s in scores for error in s["demand"].values()]
    short, said, both = (sum(s["shortage"][key] for s in scores) for key in ("short", "said", "both"))
    return [
        Line("short minutes found", both, short, 0.9),
        Line("minutes called short that were", both, said, 0.8),
        Line("saturated demand of a pool within 3 %", _within(errors, DEMAND_NEAR), len(errors), 0.5),
    ]


def _within(errors: Iterable[float], most: float) -> int:
    return sum(error <= most for error in errors)


def _off(row: dict[str, Any]) -> float:
    return math.log(row["value"] / row["true"])


def _count(rows: Iterable[dict[str, Any]], **wanted: str) -> int:
    return sum(all(row[key] == value for key, value in wanted.items()) for row in rows)


def _covers(interval_: Sequence[float] | None, value: float) -> bool:
    return interval_ is not None and interval_[0] <= value <= interval_[1]


def _wrong_verdicts(clear: list[dict[str, Any]]) -> list[str]:
    return [_wrong_verdict(v) for v in clear if v["wanted"] != v["got"]]


def _wrong_verdict(v: dict[str, Any]) -> str:
    numbers = ", ".join(
        f"{name} {_short(v[name])} (true {_short(v[f'true_{name}'])})"
        for name in ("elasticity", "snr", "drift")
    )
    reasons = ", ".join(f"{code} {_short(value)}" for code, value in v["reasons"])
    return f"{v['kind']}-{v['seed']} {v['signal']}: {v['got']}, true {v['wanted']}; {numbers}; {reasons}"


def _wrong_numbers(
    caps: list[dict[str, Any]], ratios: list[dict[str, Any]], scores: Sequence[dict[str, Any]]
) -> list[str]:
    misses = []
    for c in caps:
        where, true = f"{c['kind']}-{c['seed']} capacity@{c['role']}", c["true"]
        shape = f"true {true:.0f}, peak {_short(c['peak_share'])} of it, {c['violations']} windows violated"
        if c["status"] == "ok" and (abs(_off(c)) > NEAR or not _covers(c["ci"], true)):
            misses.append(f"{where}: {c['value']:.0f} {c['ci']} ({c['value'] / true - 1:+.1%}); {shape}")
        if c["status"] == "floor" and c["value"] > 1.01 * true:
            misses.append(
                f"{where}: floor {c['value']:.0f} above capacity ({c['value'] / true - 1:+.1%}); {shape}"
            )
        if c["status"] != "ok" and c["violations"] >= OFTEN and not c["changed"]:
            misses.append(f"{where}: {c['status']} ({c['reason']}); {shape}")
    for r in ratios:
        where = f"{r['kind']}-{r['seed']} ratio"
        if r["status"] not in r["accept"]:
            misses.append(f"{where}: status {r['status']} ({r['reason']}), acceptable {r['accept']}")
        known = r["status"] == "ok" and r["true"]
        if known and (abs(_off(r)) > NEAR or not _covers(r["ci"], r["true"])):
            misses.append(f"{where}: {r['value']:.3f} {r['ci']}, true {r['true']:.3f}")
    for s in scores:
        minutes = s["shortage"]
        if minutes["both"] < 0.9 * minutes["short"] or minutes["both"] < 0.8 * minutes["said"]:
            misses.append(f"{s['kind']}-{s['seed']} short minutes: {minutes}")
        misses += [
            f"{s['kind']}-{s['seed']} {q['signal']}: slope {q['got']:.2f} {q['ci']}, true {q['true']:.2f}"
            for q in s["queues"]
            if not _covers(q["ci"], q["true"])
        ]
        if s["nothing_recommended"] and s["recommended"]:
            misses.append(f"{s['kind']}-{s['seed']} recommended {s['recommended']}")
    return misses


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
