"""Exported files at work in the simulated physics: what is run, what is measured, and what they must beat."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end import closed_loop
from end_to_end.closed_loop import (
    Case,
    Written,
    bound_hours,
    cases,
    chosen_runner,
    flat_case,
    judge_all,
    judged,
    kinds,
    recorded,
    static_runner,
    usual_hpa_runner,
    violating,
)
from end_to_end.closed_loop_table import (
    CLASSES,
    EXPORTED,
    FLAT,
    RECORDED,
    STATIC_PEAK,
    USUAL_HPA,
    Judged,
    beaten,
    broken,
    lines,
    no_worse_under,
    rate_interval,
    score_of,
    table,
    wins,
)
from end_to_end.runs import SAMPLES, Finished
from simulator import History, fresh_history, history
from simulator.autoscalers import Scaled
from simulator.exported import Scene, autoscalers
from simulator.faults import BURST, FAULTS
from simulator.heteroscale import HeteroScale
from simulator.measures import Looks, offered
from simulator.prometheus import Prometheus
from simulator.steering import Sight

SEEDS = int(os.environ.get("HSA_LOOP_SEEDS", "1"))
"""Histories per kind; 10 give 240."""

FIRST_SEED = int(os.environ.get("HSA_LOOP_FIRST_SEED", "1"))
"""Seed of the first one: a fresh number judges on histories nobody has seen."""

HOURS = 3.0


def printed(capsys: pytest.CaptureFixture[str], title: str, texts: Sequence[str]) -> None:
    """Show a table while the test goes on."""
    with capsys.disabled():
        sys.stdout.write("\n".join([f"\n{title}", *(f"  {text}" for text in texts)]) + "\n")


@pytest.mark.slow
def test_exported_files_are_judged_on_a_fresh_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every kind gets a score; what ran, static peak and the usual HPA stand beside the exported files."""
    chosen = [(kind, FIRST_SEED + seed, False) for seed in range(SEEDS) for kind in kinds()]
    scores = judge_all(chosen, tmp_path / "scores.jsonl", 2, "keda", ())
    printed(capsys, f"{len(scores)} histories", table(scores))
    assert len(scores) == len(chosen)
    ran = [score_of(score) for score in scores if not score["skipped"]]
    assert len(ran) >= 0.9 * len(chosen)
    for score in ran:
        assert {runner for runner, _ in score.runs} == {RECORDED, STATIC_PEAK, USUAL_HPA, EXPORTED}


@pytest.fixture(scope="module")
def day() -> History:
    """Return another day of a small service, three hours of a morning."""
    kind = next(kind for kind in kinds() if kind.name == "day_small")
    return fresh_history(history(replace(kind, hours=HOURS, load=replace(kind.load, first_hour=6.0)), 2), 1)


@pytest.fixture(scope="module")
def calm(day: History) -> Case:
    """Return that day undisturbed."""
    return next(cases(day, faults=False))


def test_what_ran_is_what_its_static_counts_do_in_the_loop(day: History, calm: Case) -> None:
    """Still pools of the recorded sizes: the same hours, the same windows over the objective, no action."""
    counts = {role: len(lives) for role, lives in day.trace.service.lives.items()}
    ours, theirs = judged("x", calm, calm.run(static_runner(counts))), recorded(day)
    assert ours.hours == pytest.approx(theirs.hours) == sum(counts.values()) * HOURS
    assert (ours.actions, theirs.actions) == (0.0, 0.0)
    assert ours.over == pytest.approx(theirs.over, abs=0.02)


def test_the_usual_hpa_follows_the_load(day: History, calm: Case) -> None:
    """Its counts are those that the work of a minute needs, as far as tolerance and five minutes let them."""
    work = offered(day.trace, 60.0)
    targets = {"prefill": work["missed"].max() / 4.0, "decode": work["output"].max() / 4.0}
    steered = calm.run(usual_hpa_runner(targets, dict.fromkeys(targets, (1, 9))))
    for role, name in (("prefill", "missed"), ("decode", "output")):
        asked = np.array(steered.asked[role])[::4][30:]
        need = np.ceil(work[name] / targets[role])[29 : 29 + asked.size]
        assert np.median(asked - need) in (0.0, 1.0)
        assert asked.max() <= need.max() + 1
    found = judged("x", calm, steered)
    assert found.actions > 0
    assert found.pool_actions <= found.actions


def test_the_bound_is_below_every_run_that_holds_the_objective(day: History) -> None:
    """One instance a pool at least, and no more than what ran, which held it."""
    assert recorded(day).over < 0.05
    assert 2 * HOURS <= bound_hours(day) < recorded(day).hours


def test_faults_are_nine_and_a_burst(day: History) -> None:
    """Each is a run of its own on the same day; only two bring more requests."""
    kind = next(kind for kind in kinds() if kind.name == "day_small")
    whole = fresh_history(history(replace(kind, instances=(2, 2)), 1), 1)
    found = list(cases(whole, faults=True))
    assert [case.fault for case in found] == ["", *(fault.name for fault in FAULTS), BURST]
    more = {case.fault for case in found if len(case.requests) > len(whole.trace.requests)}
    assert more == {"doubled_traffic", BURST}
    assert all(len(case.spells) in (3, 6) for case in found[1:])


def test_nothing_answered_while_somebody_waits_is_over_the_objective(day: History, calm: Case) -> None:
    """One instance a pool: the morning's load drowns it, and windows without first tokens count."""
    trace = calm.run(static_runner({"prefill": 1, "decode": 1})).trace
    late = violating(
        replace(trace, first_s=np.where(trace.first_s > 7200.0, np.inf, trace.first_s)), day.kind.slo
    )
    assert late["ttft"][121:].all()


def test_a_flat_load_is_still(day: History) -> None:
    """Its rate is one number, its actions are counted once the pools have settled."""
    flat = flat_case(day)
    counts = np.histogram(flat.requests.time_s, np.arange(0.0, flat.hours * 3600.0 + 1, 600.0))[0]
    assert counts.std() < 2.0 * math.sqrt(counts.mean())
    counts = {"prefill": 3, "decode": 3}
    assert judged("x", flat, flat.run(static_runner(counts))).pool_actions == 0.0


@pytest.mark.parametrize("target", ["keda", "hpa"])
def test_exported_files_of_the_sample_are_understood(finished: Finished, root: Path, target: str) -> None:
    """Both targets hold an object for each pool, with the same targets, and queries that can be asked."""
    found = _objects(finished, root, target)
    assert set(found) == {"prefill", "decode"}
    other = _objects(finished, root, "hpa" if target == "keda" else "keda")
    for role, one in found.items():
        assert one.hpa.targets == other[role].hpa.targets
        assert (one.hpa.least, one.hpa.most) == (other[role].hpa.least, other[role].hpa.most)
        assert (one.hpa.up, one.hpa.down) == (other[role].hpa.up, other[role].hpa.down)
        assert [query(600.0) for query in one.queries] == [None]


def _objects(finished: Finished, root: Path, target: str) -> dict[str, Scaled]:
    name = "simulated-days"
    run_dir = finished(root / "data_samples" / name, *SAMPLES[name]).folder
    files = sorted((run_dir / "exports" / target).glob("*.yaml"))
    scene = Scene(Prometheus(Looks(15, 30), 1.0, np.random.default_rng(0)))
    return autoscalers([path.read_text("utf-8") for path in files], scene)


def test_the_chosen_policy_is_run_by_its_own_controller(
    finished: Finished, root: Path, tmp_path: Path
) -> None:
    """The exported files where the document names KEDA or an HPA, the document where it names the rule."""
    folder = finished(root / "data_samples" / "simulated-days", *SAMPLES["simulated-days"]).folder
    text = (folder / "policy.yaml").read_text("utf-8")
    (tmp_path / "exports").symlink_to(folder / "exports")
    scene = Scene(Prometheus(Looks(15, 30), 1.0, np.random.default_rng(0)))
    named = re.sub(r"(?m)^  controller:.*\n", "", text)
    for controller in ("keda", "hpa", "heteroscale"):
        found = named.replace("spec:\n", f"spec:\n  controller: {controller}\n", 1)
        (tmp_path / "policy.yaml").write_text(found, "utf-8")
        steering = chosen_runner(Written({}, tmp_path))(scene)
        assert isinstance(steering, HeteroScale) == (controller == "heteroscale")
        counts = {"prefill": 3, "decode": 3}
        orders = steering(Sight(60.0, counts, counts))
        assert {role: order.count for role, order in orders.items()} == counts  # nothing can be read


def test_scores_are_kept_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second call judges what is missing only; a run with faults stands for one without."""
    asked: list[tuple[str, int, bool]] = []

    def made(tasks: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        asked.extend((kind.name, seed, faults) for kind, seed, _, _, faults, _ in tasks)
        return [{**_row("day_0.5", seed), "kind": k.name, "faults": f} for k, seed, _, _, f, _ in tasks]

    monkeypatch.setattr(closed_loop, "in_processes", lambda function, tasks, jobs: made(tasks))
    kind, out = kinds()[0], tmp_path / "scores.jsonl"
    judge_all([(kind, 1, True), (kind, 2, False)], out, 1, "keda", ())
    scores = judge_all([(kind, 1, False), (kind, 2, True), (kind, 3, False)], out, 1, "keda", ())
    assert asked[2:] == [(kind.name, 2, True), (kind.name, 3, False)]
    assert len(out.read_text("utf-8").splitlines()) == 4
    assert [(score["seed"], score["faults"]) for score in scores] == [(1, True), (2, True), (3, False)]
    judge_all([(kinds("knee")[0], 1, False)], out, 1, "keda", ())
    assert asked[4:] == [(kind.name, 1, False)]


def test_every_kind_is_in_a_class_and_every_class_has_kinds() -> None:
    """Static peaks, autoscaled, near the limit and small pools share them; ramps and mixes cut across."""
    names = [kind.name for kind in kinds()]
    members = {name: [kind for kind in names if inside(kind)] for name, inside in CLASSES.items()}
    assert all(members.values())
    first = [name for name in CLASSES if name not in ("ramps", "moving_mix", "all")]
    assert sorted(kind for name in first for kind in members[name]) == sorted(names)


HPA = Judged(USUAL_HPA, "", 100.0, 0.001)


@pytest.mark.parametrize(
    ("hours", "over", "is_beaten", "is_win"),
    [
        (100.0, 0.001, False, False),
        (100.0, 0.0012, True, False),  # as many hours and 0.02 points more windows
        (100.0, 0.00105, False, False),
        (100.3, 0.001, True, False),
        (100.3, 0.0008, False, False),  # more of the one, less of the other
        (98.9, 0.001, False, True),
        (98.9, 0.0012, False, False),
        (99.2, 0.001, False, False),
        (100.1, 0.0004, False, True),
        (101.0, 0.0004, False, False),
    ],
)
def test_beaten_and_strict_win(hours: float, over: float, is_beaten: bool, is_win: bool) -> None:
    """Against 100 hours and 0.1 % of windows."""
    ours = Judged(EXPORTED, "", hours, over)
    assert (beaten(ours, HPA), wins(ours, HPA)) == (is_beaten, is_win)


def _row(
    kind: str, seed: int, hours: float = 80.0, over: float = 0.0, faults: Sequence[float] = ()
) -> dict[str, Any]:
    runs = [
        Judged(RECORDED, "", 100.0, 0.0), Judged(STATIC_PEAK, "", 90.0, 0.0),
        Judged(USUAL_HPA, "", 81.0, 0.0, actions=30.0, counts=1),
        Judged(EXPORTED, "", hours, over, actions=10.0, pool_actions=5.0),
        Judged(EXPORTED, FLAT, 10.0, 0.0, pool_actions=2.0),
        Judged(USUAL_HPA, FLAT, 10.0, 0.0, pool_actions=8.0),
    ]  # fmt: skip
    for fault, share in zip(("metric_gap", "lost_group", BURST), faults, strict=False):
        runs.append(Judged(EXPORTED, fault, 80.0, 0.0, fault_over=share))
        runs.append(Judged(USUAL_HPA, fault, 81.0, 0.0, fault_over=0.1))
    return {
        "kind": kind, "seed": seed, "target": "keda", "faults": bool(faults), "skipped": "", "bound": 50.0,
        "runs": [asdict(run) for run in runs], "day_s": 1.0, "seconds": 9.0, "pipeline_s": 5.0,
    }  # fmt: skip


def test_the_table_counts_by_class() -> None:
    """Hours over the bound, saved, faults apart from bursts, and the lines of each class."""
    rows = [
        _row("day_0.5", 1, faults=(0.02, 0.2, 0.3)), _row("ramps_0.5", 2, over=0.011),
        _row("mix_scaled", 3, 90.0), {**_row("day_0.9", 4), "skipped": "no object is exported"},
    ]  # fmt: skip
    texts = table(json.loads(json.dumps(rows)))
    assert texts[0] == "3 of 4 histories judged, 1 under faults"
    assert "static_0.9: 1 histories" not in texts
    at = texts.index("static_0.5: 2 histories")
    assert texts[at + 5].split() == [
        "exported",
        "1.60",
        "20.0",
        "0.550",
        "11.00",
        "30.00",
        "10.0",
        "5.0",
        "2.00",
    ]
    found = {line.what: (line.hits, line.trials) for line in lines([score_of(row) for row in rows[:3]])}
    assert found["beaten by the usual HPA"] == (1, 3)
    assert found["strict win over the usual HPA"] == (1, 3)
    assert found["no worse than it under a fault or burst"] == (1, 3)
    assert found["broke the SLO by over a point"] == (1, 3)
    assert any(text.startswith("broken: ramps_0.5-2: 1.10% of windows") for text in texts)
    assert "not judged: day_0.9-4, no object is exported" in texts
    assert (
        "  flat load: exported 2.00 [0.24, 7.22], usual_hpa 8.00 [3.45, 15.76] actions a pool and day"
        in texts
    )


def test_a_point_over_what_ran_is_not_broken_and_more_is() -> None:
    """Exactly a point is allowed."""
    assert not broken(score_of(_row("day_0.5", 1, over=0.01)))
    assert broken(score_of(_row("day_0.5", 1, over=0.0101)))
    assert no_worse_under(
        Judged("a", "x", 1.0, 0.0, fault_over=0.2), Judged("b", "x", 1.0, 0.0, fault_over=0.2)
    )


def test_the_interval_of_a_rate_is_exact() -> None:
    """Of no event in T days the highest rate is ln 40 ÷ T; one event has a lowest of −ln 0.975 ÷ T."""
    assert rate_interval(0, 2.0) == pytest.approx((0.0, math.log(40.0) / 2.0))
    assert rate_interval(1, 1.0)[0] == pytest.approx(-math.log(0.975))
    assert math.isnan(rate_interval(0, 0.0)[1])
