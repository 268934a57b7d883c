"""The judge: exported files at work in the simulated physics, on a day that nobody has seen.

``hsa run`` sees the dumps of one history of a service; the files it exported then run another day of the same
service by the semantics of their controller (`simulator.autoscalers`), every 15 s, on what a Prometheus has
scraped (`simulator.prometheus`): undisturbed, at flat load, under nine faults and under bursts. Beside them:
what ran, a static peak, and a HorizontalPodAutoscaler with Kubernetes' defaults on the same derived targets.
Nothing of the package's own replay or controllers takes part.

    PYTHONPATH=tests python -m end_to_end.closed_loop --seeds 10 --faults 2 --jobs 2 --out scores.jsonl

appends one line a history to the file, leaves out those that are in it already, and prints the table of all.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
from end_to_end.closed_loop_table import (
    CLASSES,
    EXPORTED,
    FLAT,
    FLAT_DAYS,
    RECORDED,
    STATIC_PEAK,
    USUAL_HPA,
    Judged,
    table,
)
from end_to_end.runs import here
from ruamel.yaml import YAML
from simulator import History, Kind, fresh_history, history, kind_of, write
from simulator.autoscalers import SYNC_S, Hpa, Scaled, Target, static, steering_of
from simulator.exported import Scene, autoscalers
from simulator.faults import FAULTS, Spell, burst, crowded, even_spells, steep_spells
from simulator.heteroscale import HeteroScale
from simulator.kinds import LINEAR, EngineLaws
from simulator.lives import FOREVER_S, Life
from simulator.measures import Looks, offered, tbt_over, ttft_over
from simulator.physics import Trace
from simulator.pressure import WORK, capacity
from simulator.prometheus import Prometheus
from simulator.services import mean_point
from simulator.steering import Steered, Steering, steer
from simulator.workloads import Arrivals, LoadShape, TokenMix, arrivals, grid, mix_path

from hs_analysis.schema.settings import Slo

Flags = np.ndarray[Any, np.dtype[np.bool_]]

BLOCK_S = 300
"""Work is offered to an instance over five minutes, as capacities are measured [s]."""

SETTLING_HOURS = 2.0
FLAT_HOURS = SETTLING_HOURS + 24.0 * FLAT_DAYS
"""Length of a flat load, and of its start, in which a pool comes to its size [h]."""

STEEP_HOURS, BURSTS = 3, 6
"""How often a day each fault is tried, and how many bursts come."""

HETEROSCALE, POLICY_SCHEMA = "heteroscale", "hs-analysis/policy/"
"""The target whose files are a policy document, and what its schema begins with."""

OWN_WORK = {"prefill": "prefill_tps_effective", "decode": "decode_tps"}
READING_S = 60.0
"""What the usual HPA follows in each pool: the rate of its own work over a minute."""

PEAKS = (0.5, 0.6, 0.75, 0.9)
LOADS: dict[str, tuple[LoadShape, TokenMix]] = {
    "day": (LoadShape(night=0.25, wander_sd=0.07), TokenMix()),
    "night": (LoadShape(night=0.08, wander_sd=0.07), TokenMix()),
    "ramps": (LoadShape(night=0.4, wander_sd=0.05, ramps_per_day=5.0, bursts_per_day=8.0), TokenMix()),
    "mix": (LoadShape(night=0.25, wander_sd=0.07), TokenMix(prompt_drift=-0.5, output_drift=0.5)),
}


def kinds(laws: EngineLaws = LINEAR) -> tuple[Kind, ...]:
    """Return the kinds of history that are judged: four loads at four static peaks and autoscaled to 0.6,
    near the limit, and small pools.

    Pools are of 4 to 20 instances, small ones of 2 to 4; `laws` is the family of physics they obey.
    """
    roomy = replace(kind_of("roomy_day"), instances=(4, 20), engine_laws=laws)

    def of(name: str, load: str, peak: float, **changed: Any) -> Kind:
        shape, mix = LOADS[load]
        return replace(
            roomy,
            name=name,
            load=shape,
            mix=mix,
            prefill_peak=(peak, peak),
            decode_peak=(peak, peak),
            **changed,
        )

    found = []
    for load in LOADS:
        found += [of(f"{load}_{peak:g}", load, peak) for peak in PEAKS]
        found.append(of(f"{load}_scaled", load, 0.86, event="autoscaled"))
    found += [of(f"{load}_limit", load, 1.02, instances=(3, 6)) for load in ("day", "ramps")]
    found += [of(f"{load}_small", load, 0.75, instances=(2, 4)) for load in ("day", "ramps")]
    return tuple(found)


@dataclass(frozen=True)
class Written:
    """What a run wrote of a history: the summary of the service, and where."""

    service: dict[str, Any]
    run_dir: Path

    def exports(self, target: str) -> list[str]:
        """Return the texts of the files of an export target."""
        return [
            path.read_text("utf-8") for path in sorted((self.run_dir / "exports" / target).glob("*.yaml"))
        ]

    def targets(self) -> dict[str, float]:
        """Return the derived target of each role's own work [tokens/s per instance]."""
        rows = pl.read_parquet(self.run_dir / "data" / "derived" / "thresholds.parquet").filter(
            pl.col("fit") == "whole",
            pl.col("gpu_type").is_null(),
            pl.col("target_per_instance").is_not_null(),
        )
        found = rows.select("role", "signal", "target_per_instance").rows()
        return {role: value for role, signal, value in found if OWN_WORK.get(role) == signal}


def written_of(made: History, folder: Path, *options: str) -> Written:
    """Run the command line on the dumps of a history alone."""
    name = f"{made.kind.name}-{made.seed}"
    dumps, run_dir = folder / name, folder / f"{name}-run"
    write(made, dumps)
    slo = made.kind.slo
    here(
        "run", dumps, "--run-dir", run_dir, "-q", "--startup", f"{made.startup_s:.0f}s",
        "--slo", f"ttft={slo.ttft_s}s", "--slo", f"tbt={slo.tbt_s}s", *options,
    )  # fmt: skip
    shutil.rmtree(dumps)
    (service,) = json.loads((run_dir / "summary.json").read_text("utf-8"))["services"]
    return Written(dict(service), run_dir)


Runner = Callable[[Scene], Steering]
"""Makes what steers a run, of what its queries are asked of."""


def exported_runner(written: Written, target: str) -> Runner:
    """Return what runs the files of an export target as they are written."""
    texts = written.exports(target)
    if target == HETEROSCALE:
        found = [text for text in texts if f"schema: {POLICY_SCHEMA}" in text]
        return document_runner(found[0]) if found else lambda scene: static({})

    def runner(scene: Scene) -> Steering:
        found = autoscalers(texts, scene)
        for query in (query for one in found.values() for query in one.queries):
            query(0.0)  # what can't be read is said before anything is run
        return steering_of(found)

    return runner


def chosen_runner(written: Written) -> Runner:
    """Return what runs the chosen policy by its own controller.

    Raises
    ------
    ValueError
        Saying why there is nothing to run.
    """
    text = (written.run_dir / "policy.yaml").read_text("utf-8")
    controller = YAML(typ="safe").load(text)["spec"].get("controller", HETEROSCALE)
    runner = document_runner(text) if controller == HETEROSCALE else exported_runner(written, controller)
    runner(Scene(Prometheus(Looks(), 0.0, np.random.default_rng(0))))  # what can't be read is said now
    return runner


def document_runner(text: str) -> Runner:
    """Return what runs a policy document by HeteroScale's own rule."""
    return lambda scene: HeteroScale(text, scene)


def usual_hpa_runner(targets: Mapping[str, float], bounds: Mapping[str, tuple[int, int]]) -> Runner:
    """Return HorizontalPodAutoscalers with Kubernetes' defaults on targets of each pool's own work."""

    def runner(scene: Scene) -> Steering:
        def scaled(role: str) -> Scaled:
            def query(at_s: float) -> float | None:
                return scene.prometheus.rate(OWN_WORK[role], role, READING_S, scene.moment(at_s))

            return Scaled(Hpa((Target(targets[role]),), *bounds[role]), (query,), (None,), (False,))

        return steering_of({role: scaled(role) for role in targets})

    return runner


def static_runner(counts: Mapping[str, int]) -> Runner:
    """Return what keeps the same counts."""
    return lambda scene: static(counts)


def violating(trace: Trace, slo: Slo) -> dict[str, Flags]:
    """Return per latency which windows were over the objective.

    One without samples was not, unless somebody waited for a first token, or a sequence for its next one, at
    its end for longer than the limit.
    """
    late = 1.0 - slo.quantile
    limits = {"ttft": slo.ttft_s or math.inf, "tbt": slo.tbt_s or math.inf}
    shares = {
        "ttft": ttft_over(trace, limits["ttft"], slo.window_s),
        "tbt": tbt_over(trace, limits["tbt"], slo.window_s),
    }
    since = {"ttft": trace.requests.time_s, "tbt": trace.stays["decode"].enter_s}
    until = {"ttft": trace.first_s, "tbt": trace.end_s}
    found = {}
    for name, share in shares.items():
        found[name] = np.nan_to_num(share) > late
        for window in np.flatnonzero(np.isnan(share)):
            end = slo.window_s * (window + 1.0)
            found[name][window] = ((since[name] + limits[name] < end) & (until[name] > end)).any()
    return found


@dataclass(frozen=True)
class Case:
    """A day that policies are run on: the service, its counts at the start, load, and what goes wrong.

    Actions are counted once it has settled.
    """

    day: History
    requests: Arrivals
    hours: float
    spells: tuple[Spell, ...] = ()
    settles_s: float = 0.0

    @property
    def fault(self) -> str:
        """The name of what goes wrong; empty when nothing does."""
        return self.spells[0].fault.name if self.spells else ""

    def run(self, runner: Runner, look_s: int = SYNC_S) -> Steered:
        """Run the day from the counts that were recorded at its start."""
        made = self.day
        looks = made.kind.setup.looks
        kept = Prometheus(looks, self.hours, np.random.default_rng([made.seed, 15]))
        pools = {role: there(lives, 0.0) for role, lives in made.trace.service.lives.items()}
        steering = runner(Scene(kept, self.spells, made.start_unix_s))
        return steer(
            made.trace.service.with_lives(**pools), self.requests, self.hours,
            np.random.default_rng([made.seed, len(self.requests)]), steering,
            startup_s=made.startup_s, look_s=look_s, prometheus=kept, spells=self.spells,
            watch_s=steering.watch_s if isinstance(steering, HeteroScale) else 0.0,
        )  # fmt: skip


def settled(life: Life) -> Life:
    """Return an instance that was there before the start and never goes."""
    return replace(life, open_s=-1.0, close_s=FOREVER_S)


def there(lives: Sequence[Life], at_s: float) -> tuple[Life, ...]:
    """Return the instances that take requests at a time, settled."""
    return tuple(settled(one) for one in lives if one.open_s <= at_s < one.close_s)


def cases(day: History, *, faults: bool) -> Iterator[Case]:
    """Return the day undisturbed, and with ``faults`` under each fault in steep hours and under bursts."""
    requests, hours = day.trace.requests, day.kind.hours
    yield Case(day, requests, hours)
    if not faults:
        return
    rng = np.random.default_rng([day.seed, 18])
    for fault in FAULTS:
        spells = steep_spells(fault, day.drawn.rate, STEEP_HOURS)
        yield Case(day, crowded(requests, spells, rng), hours, spells)
    spells = even_spells(burst(day.startup_s), hours, BURSTS, rng)
    yield Case(day, crowded(requests, spells, rng), hours, spells)


def flat_case(made: History) -> Case:
    """Return hours in which the load stands still, at some level from 0.3 of the peak on.

    The rate and the means of the mix are constant; arrivals and lengths are as random as ever.
    """
    rng = np.random.default_rng([made.seed, 1])
    steps = grid(FLAT_HOURS).size
    peak = float(np.quantile(made.drawn.rate, 0.99))
    mix = replace(made.kind.mix, prompt_drift=0.0, output_drift=0.0, hit_drift=0.0)
    rate = np.full(steps, peak * rng.uniform(0.3, 1.0))
    path = mix_path(mix, FLAT_HOURS, rng)
    still = replace(path, **{name: np.full(steps, v.mean()) for name, v in vars(path).items()})
    return Case(made, arrivals(rate, still, mix, rng), FLAT_HOURS, settles_s=SETTLING_HOURS * 3600.0)


def judged(runner: str, case: Case, steered: Steered) -> Judged:
    """Measure a run."""
    slo = case.day.kind.slo
    over = violating(steered.trace, slo)
    both = over["ttft"] | over["tbt"]
    inside = np.zeros(both.size, bool)
    for spell in case.spells:
        begin, end = (round(moment // slo.window_s) for moment in spell.judged)
        inside[begin:end] = True
    asked = np.array(list(steered.asked.values()))[:, round(case.settles_s) // SYNC_S :]
    moved = np.diff(asked, axis=1) != 0
    days = (case.hours - case.settles_s / 3600.0) / 24.0
    digest = zlib.crc32(repr(sorted(steered.asked.items())).encode())
    return Judged(
        runner, case.fault, steered.instance_hours(0.0, case.hours * 3600.0), float(both.mean()),
        float(over["ttft"].mean()), float(over["tbt"].mean()),
        float(both[inside].mean()) if inside.any() else math.nan, int(inside.sum()),
        float(moved.any(axis=0).sum()) / days, float(moved.sum()) / days / len(moved),
        int(steered.lost.size), digest,
    )  # fmt: skip


def recorded(day: History) -> Judged:
    """Measure what ran: each instance is paid as long as it takes requests, and its start-up time before."""
    end_s, total, moments = day.kind.hours * 3600.0, 0.0, []
    for lives in day.trace.service.lives.values():
        for one in lives:
            asked = max(0.0, one.open_s - day.startup_s) if one.open_s > 0 else 0.0
            total += min(one.close_s, end_s) - asked
            moments += [t for t in (asked, one.close_s) if 0.0 < t < end_s]
    over = violating(day.trace, day.kind.slo)
    both = over["ttft"] | over["tbt"]
    days = day.kind.hours / 24.0
    return Judged(
        RECORDED, "", total / 3600.0, float(both.mean()), float(over["ttft"].mean()),
        float(over["tbt"].mean()),
        actions=len(set(moments)) / days, pool_actions=len(moments) / days / 2.0,
    )  # fmt: skip


def work(trace: Trace) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return offered work per role and five minutes [tokens/s]."""
    found = offered(trace, BLOCK_S)
    return {role: found[WORK[role]] for role in ("prefill", "decode")}


def bound_hours(day: History) -> float | None:
    """Return the least instance-hours that any counts could have: the future and true capacities known.

    ⌈five-minute load ÷ capacity of an instance⌉ per pool, at least one; capacities are those of pressure
    tests on the usual pool with the day's mean mix. None where a pool has none.
    """
    point = mean_point(day.drawn.rate, day.drawn.path)
    pools = {role: there(lives, day.kind.hours * 1800.0) for role, lives in day.trace.service.lives.items()}
    still = day.trace.service.with_lives(**pools)
    total = 0.0
    for role, load in work(day.trace).items():
        most = capacity(still, role, point, day.kind.mix, day.kind.slo, day.seed)
        if most is None:
            return None
        total += float(np.maximum(1.0, np.ceil(load / most)).sum()) * BLOCK_S / 3600.0
    return total


def runners_of(made: History, written: Written, target: str) -> dict[str, Runner]:
    """Return what is run: the exported files, the usual HPA and the static peak on the derived targets.

    Raises
    ------
    ValueError
        Saying why there is nothing to run.
    """
    texts = written.exports(target)
    bounds, exported = _bounds(texts), exported_runner(written, target)
    if not bounds:
        raise ValueError("no object is exported")
    exported(Scene(Prometheus(made.kind.setup.looks, 0.0, np.random.default_rng(0))))
    targets, peaks = written.targets(), work(made.trace)
    missing = sorted(set(OWN_WORK) - set(targets))
    if missing:
        raise ValueError(f"no derived target for {', '.join(missing)}")
    counts = {role: len(there(lives, 0.0)) for role, lives in made.trace.service.lives.items()}
    bounds = {role: (1, 2 * counts[role]) for role in OWN_WORK} | bounds
    peak = {role: max(1, math.ceil(float(peaks[role].max()) / targets[role])) for role in OWN_WORK}
    return {
        EXPORTED: exported,
        USUAL_HPA: usual_hpa_runner(targets, bounds),
        STATIC_PEAK: static_runner(peak),
    }


def _bounds(texts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the least and most instances of each role that exported files hold."""
    bodies = [body for text in texts for body in YAML(typ="safe").load_all(text) if body]
    for body in bodies:
        if str(body.get("schema", "")).startswith(POLICY_SCHEMA):
            return {role: (one["min"], one["max"]) for role, one in body["spec"]["bounds"].items()}
    scene = Scene(Prometheus(Looks(), 0.0, np.random.default_rng(0)))
    return {role: (one.hpa.least, one.hpa.most) for role, one in autoscalers(texts, scene).items()}


def judge(
    kind: Kind,
    seed: int,
    folder: Path,
    target: str = "keda",
    faults: bool = False,
    options: Sequence[str] = (),
    *,
    extra: Callable[[History, Written], Mapping[str, Runner]] = lambda made, written: {},
) -> dict[str, Any]:
    """Judge what is exported of one history on a fresh day; return a score for a JSON line.

    Parameters
    ----------
    kind, seed
        What the history is made from.
    folder
        Where dumps and run folder are kept meanwhile.
    target
        Export target whose files are run: keda, hpa or heteroscale.
    faults
        Whether each fault and bursts are tried too.
    options
        More options of ``hsa run``.
    extra
        More to run, by name: a policy of the package's own rule, say.
    """
    begun = time.perf_counter()
    made = history(kind, seed)
    written = written_of(made, folder, *options)
    score: dict[str, Any] = {
        "kind": kind.name,
        "seed": seed,
        "laws": kind.engine_laws,
        "target": target,
        "faults": faults,
        "skipped": "",
    }
    try:
        runners = {**runners_of(made, written, target), **extra(made, written)}
    except ValueError as error:
        score["skipped"], runners = str(error), {}
    score["decision"] = written.service.get("decision")
    day = fresh_history(made, 1)
    score |= {
        "bound": bound_hours(day),
        "runs": [asdict(recorded(day))],
        "pipeline_s": time.perf_counter() - begun,
    }
    lasted: list[float] = []
    todo = [("", case) for case in cases(day, faults=faults)] + [(FLAT, flat_case(made))]
    for label, case in todo if runners else ():
        for name, runner in runners.items():
            if label and name == STATIC_PEAK:
                continue
            started = time.perf_counter()
            found = judged(name, case, case.run(runner))
            lasted.append((time.perf_counter() - started) / case.hours * 24.0)
            score["runs"].append(asdict(replace(found, fault=label or found.fault)))
    shutil.rmtree(written.run_dir)
    score |= {
        "day_s": float(np.median(lasted)) if lasted else math.nan,
        "seconds": time.perf_counter() - begun,
    }
    return score


def in_processes(
    function: Callable[..., dict[str, Any]], tasks: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[dict[str, Any]]:
    """Yield what a function returns of each task, as they are done."""
    context = multiprocessing.get_context("spawn")  # a forked copy of a threaded library can hang
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for future in as_completed([pool.submit(function, *task) for task in tasks]):
            yield future.result()


def judge_all(
    chosen: Sequence[tuple[Kind, int, bool]], out: Path, jobs: int, target: str, options: Sequence[str]
) -> list[dict[str, Any]]:
    """Judge histories (kind, seed, whether under faults), adding each score to a file; return them.

    Those that are in the file already are not judged again; of two scores of one history that with faults is
    returned. All are of one family of physics.
    """
    families = {kind.engine_laws for kind, _, _ in chosen}
    known = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []
    known = [s for s in known if s["target"] == target and s.get("laws", LINEAR) in families]
    done = {(score["kind"], score["seed"], faults) for score in known for faults in (False, score["faults"])}
    with tempfile.TemporaryDirectory() as folder:
        tasks = [
            (kind, seed, Path(folder), target, faults, options)
            for kind, seed, faults in chosen
            if (kind.name, seed, faults) not in done
        ]
        for number, score in enumerate(in_processes(judge, tasks, jobs), 1):
            known.append(score)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(score) + "\n")
            sys.stderr.write(f"{number}/{len(tasks)} {_done_text(score)}\n")
    best = {(s["kind"], s["seed"]): s for s in sorted(known, key=lambda score: score["faults"])}
    wanted = {(kind.name, seed) for kind, seed, _ in chosen}
    return [best[key] for key in sorted(best) if key in wanted]


def _done_text(score: Mapping[str, Any]) -> str:
    text = (
        f"{score['kind']}-{score['seed']}: {score['seconds']:.0f} s, {score['pipeline_s']:.0f} s of them "
        f"before the loops, {score['day_s']:.1f} s a closed-loop day"
    )
    return f"{text}; not judged: {score['skipped']}" if score["skipped"] else text


def main() -> None:
    """Judge histories by the options of the command line and print the table."""
    options = argparse.ArgumentParser(description="Exported files at work in the simulated physics.")
    options.add_argument("--seeds", type=int, default=10, help="histories of each kind")
    options.add_argument("--first-seed", type=int, default=1, help="seed of the first one")
    options.add_argument("--faults", type=int, default=0, help="so many of them also under faults and bursts")
    options.add_argument("--classes", nargs="*", default=[], help=f"of {', '.join(CLASSES)}; all by default")
    options.add_argument("--jobs", type=int, default=2, help="processes")
    options.add_argument(
        "--target", default="keda", choices=("keda", "hpa", HETEROSCALE), help="whose files are run"
    )
    options.add_argument("--out", type=Path, required=True, help="JSON lines, one a history; added to")
    options.add_argument("--laws", default=LINEAR, choices=get_args(EngineLaws), help="family of physics")
    options.add_argument("--option", action="append", default=[], help="one more word of `hsa run`")
    given = options.parse_args()
    every = kinds(given.laws)
    wanted = [k for k in every if not given.classes or any(CLASSES[c](k.name) for c in given.classes)]
    chosen = [
        (kind, given.first_seed + seed, seed < given.faults) for seed in range(given.seeds) for kind in wanted
    ]
    scores = judge_all(chosen, given.out, given.jobs, given.target, given.option)
    sys.stdout.write("\n".join(table(scores)) + "\n")


if __name__ == "__main__":
    main()
