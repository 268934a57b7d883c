"""What leaves the run folder: exports, summary.json and report.html."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import hs_analysis
from hs_analysis.export import TARGETS, ExportOptions, export
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.doctor_stage import DOCTOR_FILE
from hs_analysis.pipeline.ingest_stages import INPUTS_FILE, without_service
from hs_analysis.pipeline.inputs import is_spooled
from hs_analysis.pipeline.policy_stages import (
    NOTES_FILE,
    POLICY_FILE,
    chosen_policy,
    policy_primaries,
    read_decision,
    read_drivers,
    read_replay,
    read_scores,
    window_of,
)
from hs_analysis.pipeline.provenance import made_by
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.pipeline.study_stages import (
    TRAIN,
    WHOLE,
    read_all_verdicts,
    read_bench_speeds,
    read_derived,
    read_profile_ratios,
    read_recommended,
    read_sweeps,
)
from hs_analysis.pipeline.tables import read_entries, read_frames, to_plain
from hs_analysis.policy import Policy, dump, load_all
from hs_analysis.schema.backtests import CandidateScore, ReplayResult, SignalDriver
from hs_analysis.schema.baselines import RECORDED
from hs_analysis.schema.reasons import WITHOUT_SERVICE
from hs_analysis.schema.results import Derived, Recommendation, SignalVerdict, Threshold
from hs_analysis.schema.settings import Excluded, Settings, Slo
from hs_analysis.schema.sweeps import BenchSpeed, ProfileRatio, SweepResult

if TYPE_CHECKING:
    from hs_analysis.policy.decision import PolicyDecision


SCHEMA_VERSION = 2

READABLE_VERSIONS = (1, SCHEMA_VERSION)
"""Versions that are read. 1 gave a target an interval of its own and held no decision."""

DIGITS = 12
"""Significant digits of a number in summary.json: below them the order of additions begins to show."""

_TOTALS = ("prompt_tokens", "output_tokens", "requests", "instance_hours", "gpu_hours")
_SIGNAL = (
    "signal", "role", "source", "verdict", "pearson", "pearson_ci", "spearman", "spearman_ci", "elasticity",
    "elasticity_ci", "snr", "lag_s", "lag_ci", "stability", "drift", "coverage", "interval_s", "n_effective",
    "reasons", "evidence",
)  # fmt: skip
_CAPACITY = ("role", "gpu_type", "signal", "per_instance", "ci", "status", "basis", "reason", "evidence")
_THRESHOLD = (
    "signal", "role", "gpu_type", "target_per_instance", "headroom_ratio", "capacity", "scale_out_ratio",
    "scale_in_ratio", "cooldown_out_s", "cooldown_in_s", "status", "reason", "evidence",
)  # fmt: skip
_STARTUP = ("role", "value_s", "ci", "births", "status", "source", "reason", "evidence")
_RATIO = (
    "value", "ci", "status", "at_least", "at_most", "reason", "by_window", "integer_pairs", "evidence",
)  # fmt: skip
_SELECTION = ("policy", "signal", "score", "gpu_hours", "slo_violation_ratio", "chosen")


def compose(
    *,
    window: Mapping[str, Any],
    slo: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
    coverage: Mapping[str, Any],
    services: Sequence[Mapping[str, Any]],
    warnings: Sequence[Mapping[str, str]],
    excluded: Sequence[Any] = (),
    events: Sequence[Any] = (),
    sweeps: Sequence[SweepResult] = (),
    profiles: Sequence[ProfileRatio] = (),
    bench_speeds: Sequence[BenchSpeed] = (),
) -> dict[str, Any]:
    """Return summary.json of a run; numbers have twelve digits, what could not be had is null."""
    whole = {
        "schema_version": SCHEMA_VERSION,
        "tool_version": hs_analysis.__version__,
        "window": window,
        "excluded": list(excluded),
        "events": list(events),
        "slo": slo,
        "inputs": list(inputs),
        "coverage": coverage,
        "services": list(services),
        "sweeps": list(sweeps),
        "profiles": list(profiles),
        "bench_speeds": list(bench_speeds),
        "warnings": list(warnings),
    }
    rounded = _rounded(to_plain(whole))
    assert isinstance(rounded, dict)  # noqa: S101 - narrows the type
    return rounded


def facts_section(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a service before any judgement, from its entry beside the aligned table."""
    totals = entry["totals"] or {}
    return {
        "service": entry["service"],
        "history_kind": entry["kind"],
        "reference": entry["reference"],
        "gpus_per_instance": entry["gpus_per_instance"] or None,
        "totals": {name: totals.get(name) for name in _TOTALS},
        "slo_edges": list(entry.get("slo_edges") or ()),
    }


def decision_section(decision: PolicyDecision) -> dict[str, Any]:
    """Return what to do with the policy: the first key of a service."""
    return {"decision": to_plain(decision)}


def study_section(verdicts: Sequence[SignalVerdict], recommended: Recommendation | None) -> dict[str, Any]:
    """Return the keys that the study fills."""
    return {"signals": [_ordered(v, _SIGNAL) for v in verdicts], "recommended": to_plain(recommended)}


def derive_section(derived: Derived) -> dict[str, Any]:
    """Return the keys that the derivation fills, but for the refusals, which close a service."""
    return {
        "capacity": [_ordered(c, _CAPACITY) for c in derived.capacity],
        "demand": to_plain(derived.demand),
        "thresholds": [_ordered(t, _THRESHOLD) for t in derived.thresholds],
        "startup": [_ordered(s, _STARTUP) for s in derived.startup],
        "gpu_speeds": to_plain(derived.gpu_speeds),
        **({"releases": to_plain(derived.releases)} if derived.releases else {}),
        "pd_ratio": _ordered(derived.pd_ratio, _RATIO),
    }


def selection_section(scores: Sequence[CandidateScore]) -> dict[str, Any]:
    """Return the keys that the selection fills."""
    return {"selection": [_ordered(score, _SELECTION) for score in scores]}


def replay_section(replay: ReplayResult) -> dict[str, Any]:
    """Return the keys that the backtest fills; those of what was not asked for or priced are left out."""
    plain = to_plain(replay)
    if all(row.cost is None for row in replay.policies):
        plain["policies"] = [{k: v for k, v in row.items() if k != "cost"} for row in plain["policies"]]
    return {"replay": {k: v for k, v in plain.items() if v or k not in ("current", "faults", "placement")}}


def drivers_section(tried: Sequence[SignalDriver]) -> dict[str, Any]:
    """Return how every signal did as the driver of its pool."""
    return {"drivers": to_plain(tried)}


def refusals_section(derived: Derived) -> dict[str, Any]:
    """Return what the data could not answer."""
    return {"refusals": to_plain(derived.refusals)}


def _ordered(value: Any, first: Sequence[str]) -> dict[str, Any]:
    """Return a dataclass as a dict with the contract's keys first, in the contract's order."""
    plain = to_plain(value)
    return {name: plain[name] for name in (*first, *(key for key in plain if key not in first))}


def refit_warnings(service: str, train: Derived, whole: Derived) -> list[dict[str, str]]:
    """Return a warning for every target that differs between the first part and the whole window."""
    from hs_analysis.policy.decision import REFIT_APART  # brings statistics that reading dumps needs none of

    found = []
    for after in whole.thresholds:
        before = _same(after, train.thresholds)
        if before is None or not before.target_per_instance or not after.target_per_instance:
            continue
        change = after.target_per_instance / before.target_per_instance - 1.0
        if abs(change) > REFIT_APART:
            text = (
                f"{service}: the target of {after.signal}@{after.role} is {after.target_per_instance:.4g} "
                f"on the whole window, {before.target_per_instance:.4g} on its first part ({change:+.0%}): "
                "the backtest used the latter, policy.yaml holds the former"
            )
            found.append({"code": "refit_differs", "text": text})
    return found


def _same(wanted: Threshold, among: Sequence[Threshold]) -> Threshold | None:
    key = (wanted.signal, wanted.role, wanted.gpu_type)
    return next((t for t in among if (t.signal, t.role, t.gpu_type) == key), None)


def replay_warnings(service: str, replay: ReplayResult, chosen: str | None, slo: Slo) -> list[dict[str, str]]:
    """Return a warning when the policy did worse than what ran or than the SLO, or is not calibrated."""
    found = []
    rows = {policy.policy: policy.slo_violation_ratio for policy in replay.policies}
    ours, theirs = rows.get(chosen or ""), rows.get(RECORDED)
    if ours is not None and theirs is not None and ours > theirs:
        text = (
            f"{service}: on the test window {chosen} breaks the SLO in {ours:.2%} of windows, "
            f"the recorded fleet in {theirs:.2%}"
        )
        found.append({"code": "slo_worse_than_recorded", "text": text})
    side = next((policy.slo_side for policy in replay.policies if policy.policy == chosen), None)
    if ours is not None and slo.given and side == "unclear":
        text = (
            f"{service}: the replay can't tell whether {chosen} holds the SLO on the test window: "
            f"{ours:.2%} of windows expected to break it, {slo.allowed_window_share:.0%} are allowed"
        )
        found.append({"code": "slo_side_unclear", "text": text})
    elif ours is not None and slo.given and ours > slo.allowed_window_share:
        text = (
            f"{service}: on the test window {chosen} does not hold the SLO: it is broken in {ours:.2%} of "
            f"windows, {slo.allowed_window_share:.0%} are allowed"
        )
        found.append({"code": "slo_not_held", "text": text})
    if replay.calibration.get("status") == "not_calibrated":
        text = f"{service}: {replay.calibration.get('text') or 'the backtest does not agree with history'}"
        found.append({"code": "not_calibrated", "text": text})
    return found


def replaced_warning(service: str) -> dict[str, str]:
    """Say that policy.yaml does not hold the policy that selection took and the backtest replayed."""
    text = (
        f"{service}: the selected policy does not stand on the whole window (its ratio or target changed "
        "since the first part); policy.yaml holds the nearest one that does, which was not backtested"
    )
    return {"code": "policy_replaced", "text": text}


def unserved_warnings(sentences: Sequence[str]) -> list[dict[str, str]]:
    """Return a warning for every pool whose instances belong to no service: no answer counts them."""
    return [{"code": WITHOUT_SERVICE, "text": text} for text in sentences]


def excluded_warning(excluded: Sequence[Excluded]) -> dict[str, str]:
    """Say what the user left out, since totals don't count it."""
    named = [f"{one.start} to {one.end}{f' ({one.label})' if one.label else ''}" for one in excluded[:3]]
    more = f" and {len(excluded) - 3} more" if len(excluded) > 3 else ""
    text = f"left out: {', '.join(named)}{more}; totals do not count these stretches"
    return {"code": "excluded", "text": text}


def no_history_warning() -> dict[str, str]:
    """Return the warning that an input of benchmark points alone gives no policy."""
    text = (
        "the input holds benchmark points and no metric over time: ratio tests were answered, but no signal "
        "could be judged and no policy made; add metric dumps of the service for those"
    )
    return {"code": "no_history", "text": text}


def untested_warning(service: str) -> dict[str, str]:
    """Return the warning that a policy was chosen on the very data it was fitted on."""
    text = (
        f"{service}: the first part of the history is too short to fit a policy, so selection used all of it "
        "and no unseen data is left for a backtest; record at least twice as long to have one"
    )
    return {"code": "not_backtested", "text": text}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


EXPORTS_FILE = "exports/index.json"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"
DETAIL_TABLES = (
    "study_points", "capacity_points", "capacity_curve", "mix", "timeline", "splits",
)  # fmt: skip


def _policies(folder: Path) -> tuple[tuple[Policy, ...], str]:
    text = (folder / POLICY_FILE).read_text(encoding="utf-8")
    return load_all(text), hashlib.sha256(text.encode()).hexdigest()


def export_policies(work: Work) -> Outcome:
    """Write every policy as the objects of every target, and an index of what they could not express."""
    policies, sha256 = _policies(work.run)
    notes = tables.read_json(work.run, NOTES_FILE)
    series = tables.read(work.run, "series")
    index = []
    for policy in policies:
        interval = series.filter(pl.col("service") == policy.service)["interval_s"].median()
        options = ExportOptions(
            scrape_interval_s=float(interval) if isinstance(interval, int | float) else 15.0,
            policy_sha256=sha256,
            notes=tuple(notes.get(policy.service, ())),
        )
        for target in TARGETS:
            made = export(policy, target, options)
            paths = [f"exports/{target}/{name}" for name in made.files]
            for path, text in zip(paths, made.files.values(), strict=True):
                place = work.out / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8")
            losses = [vars(loss) for loss in made.losses]
            index.append({"service": policy.service, "target": target, "files": paths, "losses": losses})
    tables.write_json(work.out, EXPORTS_FILE, index)
    return Outcome(f"targets {', '.join(TARGETS)}; files {sum(len(entry['files']) for entry in index)}")


def write_report(work: Work) -> Outcome:
    """Write summary.json and the report."""
    from hs_analysis.report import render

    found = _summary(work)
    tables.write_json(work.out, SUMMARY_FILE, found)
    policies, _ = _policies(work.run)
    page = render(
        found,
        {name: tables.read(work.run, name) for name in DETAIL_TABLES},
        {policy.service: dump(policy) for policy in policies},
        tables.read(work.run, "findings"),
        tables.read(work.run, "signals"),
        reproduce(work.arguments, work.settings),
        made_by(),
    )
    (work.out / REPORT_FILE).write_text(page, encoding="utf-8")
    return Outcome(f"{REPORT_FILE} {len(page.encode()) / 1e6:.1f} MB")


def _summary(work: Work) -> dict[str, Any]:
    services: list[dict[str, Any]] = []
    warnings = unserved_warnings([one.sentence() for one in without_service(work.run, work.settings)])
    warnings += _input_warnings(work)
    if work.settings.excluded:
        warnings.append(excluded_warning(work.settings.excluded))
    for entry in read_entries(work.run):
        name = entry["service"]
        derived, replay = read_derived(work.run, name), read_replay(work.run, name)
        services.append(
            decision_section(read_decision(work.run, name))
            | facts_section(entry)
            | study_section(read_all_verdicts(work.run, name), read_recommended(work.run, name))
            | derive_section(derived)
            | selection_section(read_scores(work.run, name))
            | replay_section(replay)
            | drivers_section(read_drivers(work.run, name))
            | refusals_section(derived)
        )
        warnings += refit_warnings(name, read_derived(work.run, name, TRAIN), derived)
        chosen = chosen_policy(work.run, name)
        warnings += replay_warnings(name, replay, chosen.policy if chosen else None, work.settings.slo)
        if not policy_primaries(work.run, name)[1]:
            warnings.append(replaced_warning(name))
        if chosen and chosen.fit == WHOLE:
            warnings.append(untested_warning(name))
    if not services:
        warnings.append(no_history_warning())
    return compose(
        window=_window(work),
        slo=to_plain(work.settings.slo),
        inputs=tables.read_json(work.run, INPUTS_FILE)["files"],
        coverage=_coverage(work),
        services=services,
        warnings=warnings,
        excluded=work.settings.excluded,
        events=work.settings.events,
        sweeps=read_sweeps(work.run),
        bench_speeds=read_bench_speeds(work.run),
        profiles=read_profile_ratios(work.run),
    )


def _window(work: Work) -> dict[str, Any]:
    windows = [window_of(frame) for frame in read_frames(work.run)]
    return {
        "start": min((w["start"] for w in windows), default=None),
        "end": max((w["end"] for w in windows), default=None),
        "step_s": min((w["step_s"] for w in windows), default=None),
    }


def _coverage(work: Work) -> dict[str, Any]:
    series = tables.read(work.run, "series")
    counts = tables.read_json(work.run, INPUTS_FILE)["counts"]
    names = ("rows_read", "rows_stored", "duplicates", "superseded", "rows_rejected", "series")
    roles = series.group_by("emitter_role").agg(pl.col("instance").n_unique()).sort("emitter_role")
    return {
        **{name: counts[name] for name in names},
        "series_unmapped": series["service"].null_count(),
        "roles": dict(roles.iter_rows()),
        "missing": tables.read_json(work.run, DOCTOR_FILE)["missing"],
        "skipped": counts["skipped"],
        "broken": counts["broken"],
    }


def _input_warnings(work: Work) -> Sequence[dict[str, str]]:
    counts = tables.read_json(work.run, INPUTS_FILE)["counts"]
    broken = [{"code": "input_broken", "text": f"{b['name']}: {b['why']}"} for b in counts["broken"]]
    said = [{"code": "input_warning", "text": f"{w['name']}: {w['text']}"} for w in counts["warnings"]]
    return [*broken, *said]


def reproduce(arguments: Sequence[Path], settings: Settings) -> str:
    """Return the command that makes a run again; inputs by their last name, since folders differ."""
    slo, defaults = settings.slo, Settings()
    words = ["hsa", "run", *("-" if is_spooled(path) else path.name for path in arguments)]
    limits: Mapping[str, float | None] = {"ttft": slo.ttft_s, "tbt": slo.tbt_s}
    words += [f"--slo {name}={seconds:g}s" for name, seconds in limits.items() if seconds is not None]
    if slo.quantile != defaults.slo.quantile:
        words.append(f"--slo quantile={slo.quantile:g}")
    if slo.window_s != defaults.slo.window_s:
        words.append(f"--slo window={slo.window_s:g}s")
    times = settings.startup_s
    if len(times) == 3 and len(set(times.values())) == 1:
        words.append(f"--startup {next(iter(times.values())):g}s")
    else:
        words += [f"--startup {role}={seconds:g}s" for role, seconds in sorted(times.items())]
    if settings.history_kind == "pressure_test":
        words.append("--pressure-test")
    words += [f"--from {settings.start}"] if settings.start else []
    words += [f"--to {settings.end}"] if settings.end else []
    words += [f"--exclude {one.start}..{one.end}" for one in settings.excluded]
    words += [f"--service {shlex.quote(name)}" for name in settings.service]
    words += [f"--seed {settings.seed}"] if settings.seed else []
    for one in settings.beside.current:
        words.append(f"--current {shlex.quote(f'{one.role}=' * bool(one.role) + Path(one.name).name)}")
    spelt = {name: getattr(defaults, name) for name in _SPELT}
    share = replace(defaults.slo, allowed_window_share=slo.allowed_window_share)
    if replace(settings, **spelt | {"slo": share}) != defaults:
        words.append("# and the other settings that manifest.json lists")
    return " ".join(words)


_SPELT = (
    "startup_s", "history_kind", "start", "end", "excluded", "events", "service", "prices", "seed", "beside",
)  # fmt: skip
"""Settings beside the SLO that the command spells out, or that change no number."""
