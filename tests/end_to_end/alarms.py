"""Is what line one warns of true? Policies at work in the simulated physics, and the first lines about them.

Each history is run through the command line; the exported file works another day of the service
(`closed_loop`), and so do copies of the policy whose targets were raised by hand, which `hsa replay --policy`
spoke of before. A loop is *good* where it breaks the SLO in no more windows than are allowed, or than what
ran does on that day; *bad* where it does in more than one point more than that; between them it counts
nowhere. An alarm is a first line that warns of the policy's latency, or keeps what runs because of it.

    PYTHONPATH=tests python -m end_to_end.alarms --seeds 10 --first-seed 1 --out alarms.jsonl

appends one line a loop to the file, leaves out histories that are in it already, and prints the table of all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from end_to_end.closed_loop import Written, cases, chosen_runner, judged, kinds, recorded
from end_to_end.runs import here
from ruamel.yaml import YAML
from simulator import History, Kind, fresh_history, history, write
from simulator.kinds import LINEAR, EngineLaws
from simulator.truth import short_minutes

from hs_analysis.export import ExportOptions, export
from hs_analysis.policy import load

FACTORS = (1.2, 1.3, 1.4, 1.5, 1.6)
"""What targets are raised by [ratio]."""

PLANTED = 2
"""How many of them are tried of each history."""

MARGIN = 0.01
"""A loop is bad where it breaks the SLO in this share of windows more than is allowed or was recorded."""

GOOD, BETWEEN, BAD = "good", "between", "bad"

DROPPED: dict[str, str] = {
    "no_starts": r"dynamo_frontend_requests_started_total",
    "no_ttft": r".*time_to_first_token_seconds_bucket",
    "no_cache": r"vllm:prompt_tokens_by_source_total|dynamo_frontend_cached_tokens_.*",
    "front_only": r"vllm:.*",
    "engine_only": r"dynamo_.*",
}
"""Degraded telemetry: names of the metrics that are not there."""

OWN = "own"
"""The policy as it was written, among the factors."""


@dataclass(frozen=True)
class Loop:
    """One policy at work on a fresh day, and what the first lines said of it.

    ``factor`` is what the targets were raised by; ``over`` and ``ran`` are shares of windows over the
    objective, of the policy and of what ran; ``saved`` and ``foretold`` the hours saved against what ran, on
    that day and as replayed (with its interval), None where it is not said; ``short`` and ``ran_short`` the
    shares of minutes in which those who came to a pool waited long for it (`simulator.truth`): waiting for
    room at decode is seen by neither latency. ``laws`` is the family of physics.
    """

    kind: str
    seed: int
    factor: float
    days: int
    allowed: float
    over: float
    ran: float
    lines: tuple[str, ...]
    statuses: str
    saved: float
    foretold: float | None = None
    interval: tuple[float, float] | None = None
    short: float | None = None
    ran_short: float | None = None
    laws: EngineLaws = LINEAR

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Loop:
        """Return a loop from a JSON line."""
        return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()})

    @property
    def standing(self) -> str:
        """Whether the loop is good, bad or between."""
        most = max(self.allowed, self.ran)
        return GOOD if self.over <= most else BAD if self.over > most + MARGIN else BETWEEN

    @property
    def alarmed(self) -> bool:
        """Whether a first line warns of the policy's latency."""
        return bool(self.lines)

    @property
    def wrong(self) -> bool:
        """Whether the first lines are wrong: an alarm of a good loop, none of a bad one."""
        return self.standing == (GOOD if self.alarmed else BAD)


def alarm_kinds(laws: EngineLaws = LINEAR) -> tuple[Kind, ...]:
    """Return the kinds of history: of the closed loop, on one day and on two, and with degraded telemetry."""
    day = kinds(laws)
    two = [replace(kind, name=f"{kind.name}+", hours=48.0) for kind in day if not kind.name.endswith("_0.6")]
    plain = {kind.name: kind for kind in day}
    poor = [
        replace(plain[of], name=f"{of}-{name}")
        for name, of in zip(
            [*DROPPED, "no_slo"],
            ("day_0.6", "night_0.75", "day_scaled", "ramps_0.6", "day_0.75", "day_0.5"),
            strict=True,
        )
    ]
    return (*day, *two, *poor)


def class_of(kind: str) -> str:
    """Return the class of a kind of history: what was recorded, and on how many days."""
    if "-" in kind:
        return "degraded"
    name, days = kind.rstrip("+"), "two days" if kind.endswith("+") else "one day"
    return f"{'ramps' if name.startswith('ramps') else name.partition('_')[2]}, {days}"


def first_lines(text: str) -> tuple[str, ...]:
    """Return the lines before an answer's own that warn of latency, or keep what runs because of it."""
    found = []
    for line in text.splitlines():
        if re.match(r"\S.* \(.* history, .* as reference\)", line) or line.startswith("backtest"):
            break
        if "SLO" in line and ("WARNING" in line or "keep what runs: it " in line):
            found.append(line)
    return tuple(found)


def runs_of(made: History, folder: Path) -> tuple[str, Written]:
    """Run the command line on the dumps of a history; return what it printed and what it wrote."""
    kind = made.kind
    dumps, run_dir = folder / f"{kind.name}-{made.seed}", folder / f"{kind.name}-{made.seed}-run"
    write(made, dumps)
    if (poor := kind.name.partition("-")[2]) in DROPPED:
        _drop(dumps, re.compile(DROPPED[poor]))
    slo = ("--slo", f"ttft={kind.slo.ttft_s}s", "--slo", f"tbt={kind.slo.tbt_s}s")
    done = here(
        "run", dumps, "--run-dir", run_dir, "-q", "--startup", f"{made.startup_s:.0f}s",
        *(() if poor == "no_slo" else slo),
    )  # fmt: skip
    (service,) = json.loads((run_dir / "summary.json").read_text("utf-8"))["services"]
    return done.stdout, Written(dict(service), run_dir)


def _drop(dumps: Path, names: re.Pattern[str]) -> None:
    for path in sorted(dumps.rglob("*.json.gz")):
        answer = json.loads(gzip.decompress(path.read_bytes()))
        kept = [s for s in answer["data"]["result"] if not names.fullmatch(s["metric"]["__name__"])]
        if not kept:
            path.unlink()
        elif len(kept) < len(answer["data"]["result"]):
            answer["data"]["result"] = kept
            path.write_bytes(gzip.compress(json.dumps(answer).encode(), 1, mtime=0))


def raised(written: Written, factor: float, folder: Path) -> Written:
    """Return the policy of a run with every target raised, and its exported files, in a folder of its own."""
    yaml = YAML()
    document = yaml.load((written.run_dir / "policy.yaml").read_text("utf-8"))
    for primary in document["spec"]["primaries"]:
        primary["target_per_instance"]["value"] *= factor
    folder.mkdir(parents=True)
    path = folder / "policy.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    policy = load(path.read_text("utf-8"))
    if policy.controller != "heteroscale":
        target = folder / "exports" / policy.controller
        for name, text in export(policy, policy.controller, ExportOptions()).files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(text, encoding="utf-8")
    return Written(written.service, folder)


def loops(kind: Kind, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the loops of one history as JSON lines: its own policy, and with raised targets.

    One line with the reason as ``skipped`` where no object is written.
    """
    made = history(kind, seed)
    said, written = runs_of(made, folder)
    name = {"kind": kind.name, "seed": seed, "laws": kind.engine_laws}
    try:
        ours = chosen_runner(written)
    except ValueError as error:
        yield name | {"skipped": str(error), "lines": first_lines(said)}
        return
    policy = load((written.run_dir / "policy.yaml").read_text("utf-8"))
    statuses = "+".join(str(p.target_per_instance.status) for p in policy.primaries)
    day = fresh_history(made, 1)
    (calm,) = cases(day, faults=False)
    ran = recorded(day)
    base = name | {"days": round(kind.hours / 24), "statuses": statuses, "ran": ran.over}
    base["allowed"] = day.kind.slo.allowed_window_share
    base["ran_short"] = float(short_minutes(day.trace)[0].mean())

    def at_work(runner: Any) -> dict[str, Any]:
        steered = calm.run(runner)
        found = judged(OWN, calm, steered)
        short = float(short_minutes(steered.trace)[0].mean())
        return {"over": found.over, "saved": 1.0 - found.hours / ran.hours, "short": short}

    decision = written.service["decision"]
    yield base | at_work(ours) | {
        "factor": 1.0, "lines": first_lines(said),
        "foretold": decision["hours_saved_ratio"], "interval": decision["hours_saved_ci"],
    }  # fmt: skip
    rng = np.random.default_rng([seed, 71])
    for factor in rng.choice(FACTORS, PLANTED, replace=False) if policy.mode == "metric" else ():
        copy = raised(written, float(factor), folder / f"{kind.name}-{seed}-{factor}")
        replayed = here("replay", written.run_dir, "-q", "--policy", copy.run_dir / "policy.yaml")
        lines = [line for line in first_lines(replayed.stdout) if "policy.yaml" in line]
        yield base | at_work(chosen_runner(copy)) | {"factor": float(factor), "lines": lines}


def judge_all(chosen: Sequence[tuple[Kind, int]], out: Path, keep: Path | None = None) -> None:
    """Judge histories, adding each loop to a file as it is done; those that are in it are left out."""
    known = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []
    done = {(row["kind"], row["seed"], row.get("laws", LINEAR)) for row in known}
    todo = [(kind, seed) for kind, seed in chosen if (kind.name, seed, kind.engine_laws) not in done]
    for number, (kind, seed) in enumerate(todo, 1):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) if keep is None else keep
            rows = list(loops(kind, seed, place))
        with out.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
        sys.stderr.write(f"{number}/{len(todo)} {kind.name}-{seed} {time.perf_counter() - begun:.0f} s\n")


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return false and missed alarms by class, then savings, then every wrong line and what was skipped."""
    every = [Loop.of(row) for row in rows if not row.get("skipped")]
    texts = [f"{'class':24} {'false of good, own':>20} {'false of good, raised':>22} {'missed of bad':>14}"]
    for name in [*sorted({class_of(loop.kind) for loop in every}), "all"]:
        some = [loop for loop in every if name in (class_of(loop.kind), "all")]
        own = [loop for loop in some if loop.standing == GOOD and loop.factor == 1.0]
        up = [loop for loop in some if loop.standing == GOOD and loop.factor > 1.0]
        bad = [loop for loop in some if loop.standing == BAD]
        cells = (
            f"{sum(loop.alarmed for loop in own)} of {len(own)}",
            f"{sum(loop.alarmed for loop in up)} of {len(up)}",
            f"{sum(not loop.alarmed for loop in bad)} of {len(bad)}",
        )
        texts.append(f"{name:24} {cells[0]:>20} {cells[1]:>22} {cells[2]:>14}")
    between = [loop for loop in every if loop.standing == BETWEEN]
    texts.append(f"between: {sum(loop.alarmed for loop in between)} of {len(between)} alarmed")
    own = [loop for loop in every if loop.factor == 1.0]
    texts += [
        _savings(n, [loop for loop in own if loop.days == n]) for n in sorted({one.days for one in own})
    ]
    texts += [f"wrong: {_wrong(loop)}" for loop in every if loop.wrong]
    texts += [f"skipped: {row['kind']}-{row['seed']}: {row['skipped']}" for row in rows if row.get("skipped")]
    return texts


def _savings(days: int, loops: Sequence[Loop]) -> str:
    off = np.array([loop.foretold - loop.saved for loop in loops if loop.foretold is not None])
    spans = [(loop.interval, loop.saved) for loop in loops if loop.interval is not None]
    inside = sum(low <= saved <= high for (low, high), saved in spans)
    spread = float(off.std()) if off.size else math.nan
    return (
        f"saving, {days} d: said in {off.size} of {len(loops)}, within 5 points in "
        f"{int((abs(off) <= 0.05).sum())}, sd {spread:.1%}; truth inside its interval in "
        f"{inside} of {len(spans)}"
    )


def _wrong(loop: Loop) -> str:
    said = " | ".join(loop.lines) or "nothing"
    return (
        f"{loop.kind}-{loop.seed} x{loop.factor:g} ({loop.statuses}) is {loop.standing}: {loop.over:.2%} of "
        f"windows, what ran {loop.ran:.2%}; said: {said}"
    )


def main() -> None:
    """Judge histories by the options of the command line and print the table."""
    options = argparse.ArgumentParser(description="Are the alarms of the first lines true?")
    options.add_argument("--seeds", type=int, default=1, help="histories of each kind")
    options.add_argument("--first-seed", type=int, default=1, help="seed of the first one")
    options.add_argument("--kinds", nargs="*", default=[], help="names of kinds; all by default")
    options.add_argument("--laws", default=LINEAR, choices=get_args(EngineLaws), help="family of physics")
    options.add_argument("--out", type=Path, required=True, help="JSON lines, one a loop; added to")
    options.add_argument("--keep", type=Path, help="folder in which dumps and runs stay")
    given = options.parse_args()
    wanted = [kind for kind in alarm_kinds(given.laws) if not given.kinds or kind.name in given.kinds]
    chosen = [(kind, given.first_seed + seed) for seed in range(given.seeds) for kind in wanted]
    judge_all(chosen, given.out, given.keep)
    rows = [json.loads(line) for line in given.out.read_text("utf-8").splitlines()]
    sys.stdout.write("\n".join(table(rows)) + "\n")


if __name__ == "__main__":
    main()
