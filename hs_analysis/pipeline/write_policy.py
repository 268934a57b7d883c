"""What is written of it all: the stage policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

import hs_analysis
from hs_analysis.catalogue import Catalogue
from hs_analysis.export import expression
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.decide import (
    DECISIONS_FILE,
    NOTES_FILE,
    POLICY_FILE,
    Key,
    chosen_policy,
    policy_primaries,
    read_replay,
    window_of,
)
from hs_analysis.pipeline.frames import read_entries, read_frames
from hs_analysis.pipeline.gather import catalogue_of, without_service
from hs_analysis.pipeline.judge import TRAIN, read_derived, read_verdicts
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.policy import Policy, build_policy, dump_all
from hs_analysis.policy.decision import Grounds, decide_on, recorded_weekdays, with_decision
from hs_analysis.policy.rounding import rounded
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.backtests import PolicyReplay, ReplayResult
from hs_analysis.schema.results import Derived
from hs_analysis.store import read_table


def write_policies(work: Work) -> Outcome:
    """Fit the chosen policy on the whole window and write policy.yaml."""
    series = read_table(work.run / tables.PLACES["series"])
    entries = {entry["service"]: entry for entry in read_entries(work.run)}
    policies, notes, decisions = [], {}, {}
    unserved = without_service(work.run, work.settings)
    for frame in read_frames(work.run):
        verdicts = read_verdicts(work.run, frame.service)
        primaries, _ = policy_primaries(work.run, frame.service)
        keys = [*primaries, *((v.signal, v.role) for v in verdicts if v.signal in ("ttft", "tbt"))]
        queries, warnings = _expressions(frame, keys, series, catalogue_of(work.settings))
        lost = [one for one in unserved if frame.service in one.beside]
        meta = _meta(work, frame, series) | {"unserved": [one.sentence() for one in lost]}
        derived = read_derived(work.run, frame.service)
        made = build_policy(frame, derived, verdicts, primaries, work.settings, queries, meta)
        grounds = _grounds(work, frame, made, derived, entries[frame.service])
        count = sum(len(one.instances) for one in lost)
        decision = decide_on(replace(grounds, unserved_instances=count))
        policies.append(rounded(with_decision(made, decision)))
        notes[frame.service], decisions[frame.service] = warnings, decision
    (work.out / POLICY_FILE).write_text(dump_all(policies), encoding="utf-8")
    tables.write_json(work.out, NOTES_FILE, notes)
    tables.write_json(work.out, DECISIONS_FILE, decisions)
    modes = dict.fromkeys(
        f"{policy.mode}, {decisions[policy.service].recommend}, confidence {policy.confidence}"
        for policy in policies
    )
    return Outcome("; ".join(modes))


def _expressions(
    frame: ServiceFrame, keys: Iterable[Key], series: pl.DataFrame, catalogue: Catalogue
) -> tuple[dict[Key, str], list[str]]:
    """Return the PromQL of signals for the user's own Prometheus, and what to know of it."""
    metrics = set(series.filter(pl.col("service") == frame.service)["metric"])
    queries: dict[Key, str] = {}
    warnings: list[str] = []
    for signal, role in keys:
        info = frame.info(signal, role) or frame.info(signal, "service")
        known = catalogue.signal(signal)
        if info is None or known is None:
            continue
        recipes = [s.named(metrics) for s in known.sources if s.source == info.source]
        recipe = next((s for s in recipes if s is not None), None)
        if recipe is None:
            continue
        width = max(300.0, frame.window_s) if role != "service" else frame.window_s
        found = expression(known, recipe, info.role, series, service=frame.service, window_s=width)
        queries[(signal, info.role)] = found.expr
        warnings += found.warnings
    return queries, list(dict.fromkeys(warnings))


def _meta(work: Work, frame: ServiceFrame, series: pl.DataFrame) -> dict[str, Any]:
    replay = read_replay(work.run, frame.service)
    chosen = chosen_policy(work.run, frame.service)
    row = next((policy for policy in replay.policies if chosen and policy.policy == chosen.policy), None)
    units = series.filter(
        (pl.col("service") == frame.service) & pl.col("emitter_role").is_in(list(frame.pools))
    )["unit_kind"].drop_nulls()
    return {
        "window": window_of(frame),
        "inputs_sha256": work.inputs_sha256,
        "run": work.run_id,
        "tool_version": hs_analysis.__version__,
        "unit": "group" if units.len() and (units == "group").sum() > units.len() / 2 else "pod",
        "replay": _replay_note(replay, row),
    }


def _grounds(
    work: Work, frame: ServiceFrame, policy: Policy, derived: Derived, entry: Mapping[str, Any]
) -> Grounds:
    chosen, (_, same) = chosen_policy(work.run, frame.service), policy_primaries(work.run, frame.service)
    span_s, weekday_s = recorded_weekdays(frame.seconds(), frame.window_s)
    first = read_derived(work.run, frame.service, TRAIN)
    return Grounds(
        policy, derived, first, chosen.policy if chosen else None, same,
        read_replay(work.run, frame.service), work.settings.slo, frame.kind,
        tuple(entry.get("slo_edges") or ()), span_s, weekday_s,
    )  # fmt: skip


def _replay_note(replay: ReplayResult, row: PolicyReplay | None) -> Mapping[str, Any]:
    if row is None:
        return {}
    figures = (
        "instance_hours",
        "gpu_hours",
        "slo_violation_ratio",
        "vs_recorded",
        "vs_static_peak",
        "evidence",
    )
    return {
        "policy": row.policy,
        "test": list(replay.test) if replay.test else None,
        **{name: getattr(row, name) for name in figures},
        "calibration": replay.calibration.get("status"),
    }
