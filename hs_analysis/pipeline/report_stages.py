"""What leaves the run folder: exports, summary.json and report.html."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from hs_analysis.evidence import REPORT_FILE
from hs_analysis.export import TARGETS, Export, ExportOptions, NamesOfCluster, Watched, export
from hs_analysis.export.kustomize import ALTERNATIVES, KUSTOMIZATION, kustomization
from hs_analysis.export.llmd import LLMD_SUFFIX
from hs_analysis.export.model import load_documents, warning_of
from hs_analysis.pipeline import summary, tables
from hs_analysis.pipeline.doctor_stage import DOCTOR_FILE, lost_whole, rejected_groups
from hs_analysis.pipeline.edited_policy import ToExport, policies_to_export
from hs_analysis.pipeline.ingest_stages import INPUTS_FILE, catalogue_of, without_service
from hs_analysis.pipeline.inputs import is_spooled
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.objects import (
    cluster_names,
    costs_by_field,
    kubernetes_of,
    measured_of,
    selected_for,
    target_replays,
)
from hs_analysis.pipeline.policy_stages import (
    NOTES_FILE,
    POLICY_FILE,
    headline_of,
    policy_primaries,
    read_decision,
    read_replay,
    window_of,
)
from hs_analysis.pipeline.provenance import made_by
from hs_analysis.pipeline.ratio_tests import tested_names
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.pipeline.request_times import idle_ttft
from hs_analysis.pipeline.select_stage import chosen_policy, read_drivers, read_scores
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
from hs_analysis.pipeline.tables import read_entries, read_frames
from hs_analysis.pipeline.watched import watched
from hs_analysis.policy import Policy, dump, load_all
from hs_analysis.report.apply import APPLY_FILE, ExportedFile, ServiceSection, guide, markdown
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.exported import ApplyGuide
from hs_analysis.schema.replays import ReplayResult
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Settings

EXPORTS_FILE = "exports/index.json"
SUMMARY_FILE = "summary.json"
ANONYMISED_FILE = "report-anonymised.html"
DETAIL_TABLES = (
    "study_points", "capacity_points", "capacity_curve", "mix", "timeline", "splits",
)  # fmt: skip


def _policies(folder: Path) -> tuple[tuple[Policy, ...], str]:
    text = (folder / POLICY_FILE).read_text(encoding="utf-8")
    return load_all(text), hashlib.sha256(text.encode()).hexdigest()


def export_policies(work: Work) -> Outcome:
    """Write every policy as the objects of every target, how to apply them, and what they do not express."""
    policies, sha256 = _policies(work.run)
    series = tables.read(work.run, "series")
    frames = {frame.service: frame for frame in read_frames(work.run)}
    index, sections = [], []
    folders: dict[str, dict[str, str]] = {target: {} for target in TARGETS}
    unwanted: dict[str, str] = {}
    said: dict[str, list[str]] = {target: [] for target in TARGETS}
    for one in policies_to_export(policies, sha256, work.settings.edited):
        policy = one.policy
        if policy.service not in frames:  # of a ratio test in benchmarks, which names no workload
            continue
        decision = to_plain(read_decision(work.run, policy.service))
        replay = read_replay(work.run, policy.service)
        replays = () if one.stamp else target_replays(replay, headline_of(work.run, policy))
        names = cluster_names(policy.service, frames, work.settings, series)
        options = _options(work, one, names, frames.get(policy.service), series)
        told = selected_for(policy, replays, replay.policies) if replays else {}
        options = replace(options, selected_for=told, advised_against=decision["why"])
        costs = costs_by_field(replays)
        guides: dict[str, ApplyGuide] = {}
        shared: dict[str, str] = {}
        instead: dict[str, tuple[str, str]] = {}
        for target in TARGETS:
            made = export(policy, target, replace(options, costs=costs.get(target, {})))
            shared = shared or made.files  # the rules, which come with every target
            folders[target] |= made.files
            if not policy.recommended:
                unwanted |= dict.fromkeys(made.files, warning_of(options))
            guides[target] = _guide(decision, made, shared)
            instead |= _instead(made)
            index.append(_entry(one, made, names, options.selected_for, guides[target]))
            if note := index[-1]["note"].replace("This file", "Its file"):
                said[target].append(f"{policy.service}: {note}" if len(policies) > 1 else note)
        own = guides.pop(policy.controller)
        sections.append(ServiceSection(policy.service, decision, own, guides, to_plain(replays), instead))
    _write_folders(work.out, folders, unwanted, said)
    if sections:
        _write_text(work.out / APPLY_FILE, markdown(sections, _made_from(policies[0])))
    tables.write_json(work.out, EXPORTS_FILE, index)
    return Outcome(f"targets {', '.join(TARGETS)}; files {sum(len(entry['files']) for entry in index)}")


def _options(
    work: Work, one: ToExport, names: NamesOfCluster, frame: ServiceFrame | None, series: pl.DataFrame
) -> ExportOptions:
    """Return what the policy of one service does not know: names, version, what was measured and replayed."""
    service = one.policy.service
    interval = series.filter(pl.col("service") == service)["interval_s"].median()
    return ExportOptions(
        namespace=names.namespace,
        workloads=names.workloads,
        serving=names.serving,
        todays=names.todays,
        labels=names.labels,
        unknown=names.unknown,
        server_address=names.server_address or ExportOptions.server_address,
        scrape_interval_s=float(interval) if isinstance(interval, int | float) else 15.0,
        kubernetes=kubernetes_of(work.settings),
        policy_sha256=one.sha256,
        notes=tuple(tables.read_json(work.run, NOTES_FILE).get(service, ())),
        measured=replace(
            measured_of(read_derived(work.run, service), frame, work.settings.slo),
            idle_ttft=idle_ttft(tables.read(work.run, "requests"), service),
        ),
        watched=_watched(frame, series, work.settings),
        runbook_url=work.settings.runbook_url,
        edited=one.stamp,
        dedup_label=work.settings.reading.dedup_label,
    )


def _entry(
    one: ToExport, made: Export, names: NamesOfCluster, told: Mapping[str, str], how: ApplyGuide
) -> dict[str, Any]:
    """Return what the index says of one target of a policy."""
    said = told.get(made.target, "") if one.policy.mode != "hold" else ""
    return {
        "service": one.policy.service,
        "target": made.target,
        "selected_for": one.policy.controller,
        "note": one.stamp or said,
        "edited": list(one.changes),
        "doubts": list(one.doubts),
        "files": [f"exports/{made.target}/{name}" for name in made.files],
        "losses": [vars(loss) for loss in made.losses],
        "names": [vars(name) for name in names.found],
        "to_fill": [vars(blank) | {"places": list(blank.places)} for blank in made.to_fill],
        "apply": to_plain(how),
    }


def _write_folders(
    out: Path,
    folders: Mapping[str, Mapping[str, str]],
    unwanted: Mapping[str, str],
    said: Mapping[str, Sequence[str]],
) -> None:
    """Write the files of every target and its base.

    ``unwanted`` are those of policies not recommended, ``said`` what the first lines of a target's files say.
    """
    for target, files in folders.items():
        base = kustomization(target, files, unwanted, said[target])
        for name, text in {**files, **({KUSTOMIZATION: base} if base else {})}.items():
            _write_text(out / "exports" / target / name, text)


def _write_text(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8", newline="\n")


def _made_from(policy: Policy) -> str:
    return f"Written by hs_analysis {policy.tool_version} from run {policy.run}."


def _guide(decision: Mapping[str, Any], made: Export, shared: Mapping[str, str]) -> ApplyGuide:
    """Return how the files of a target are put in place; rules that it does not hold are those shared."""
    places = {name: (f"exports/{made.target}/{name}", text) for name, text in made.files.items()}
    places |= {n: (f"exports/rules/{n}", text) for n, text in shared.items() if n not in places}
    files = [
        ExportedFile(path, tuple(load_documents(text)))
        for path, text in places.values()
        if path.endswith(".yaml") and not path.endswith(ALTERNATIVES)
    ]
    return guide(decision, made.target, files, [blank.sentence() for blank in made.to_fill])


def _instead(made: Export) -> dict[str, tuple[str, str]]:
    """Return the file of a target's objects and the one that is applied in their place; empty without one."""
    files = {name: f"exports/{made.target}/{name}" for name in made.files}
    second = next((path for name, path in files.items() if name.endswith(ALTERNATIVES)), None)
    first = next((path for name, path in files.items() if name.endswith(LLMD_SUFFIX)), None)
    return {made.target: (first, second)} if first and second else {}


def _watched(frame: ServiceFrame | None, series: pl.DataFrame, settings: Settings) -> Watched:
    return watched(frame, series, catalogue_of(settings), settings.slo) if frame else Watched()


def write_report(work: Work) -> Outcome:
    """Write summary.json and the report."""
    from hs_analysis.report import render

    found = _summary(work)
    tables.write_json(work.out, SUMMARY_FILE, found)
    page = render(found, *_shown(work.run, work.arguments, work.settings))
    (work.out / REPORT_FILE).write_text(page, encoding="utf-8", newline="\n")
    return Outcome(f"{REPORT_FILE} {len(page.encode()) / 1e6:.1f} MB")


def _shown(run: Path, arguments: Sequence[Path], settings: Settings) -> tuple[Any, ...]:
    """Return what `render` is given beside the summary."""
    policies, _ = _policies(run)
    return (
        {name: tables.read(run, name) for name in DETAIL_TABLES},
        {policy.service: dump(policy) for policy in policies},
        tables.read(run, "findings"),
        tables.read(run, "signals"),
        reproduce(arguments, settings),
        made_by(),
    )


def write_anonymised(run: Path, manifest: Manifest, key: bytes = b"") -> tuple[Path, list[str]]:
    """Write the report of a run once more, with aliases for what identifies its fleet.

    Returns
    -------
    Path
        The page, beside report.html.
    list of str
        Values that stay where they stand in sentences, because the report uses the word itself.

    Raises
    ------
    HsError
        When a value would still stand in the page; then nothing is written.
    """
    from hs_analysis.report import anonymise, render
    from hs_analysis.report.packing import spread

    settings = from_plain(Settings, manifest.settings)
    arguments = [Path(text) for text in manifest.arguments]
    found = tables.read_json(run, SUMMARY_FILE)
    services = {str(entry["service"]) for entry in found["services"]}
    aliases = anonymise.aliases_of(_names(run, arguments, settings, found), services, key)
    details, policies, findings, signals, command, makers = _shown(run, arguments, settings)
    page = render(
        aliases.plain(found),
        {name: aliases.frame(frame) for name, frame in details.items()},
        {aliases.text(name): aliases.text(text) for name, text in policies.items()},
        aliases.frame(findings),
        aliases.frame(signals),
        aliases.text(command),
        makers,
    )
    anonymise.check(aliases, spread(page))
    path = run / ANONYMISED_FILE
    path.write_text(page, encoding="utf-8", newline="\n")
    return path, sorted(aliases.spoken)


def _names(
    run: Path, arguments: Sequence[Path], settings: Settings, found: Mapping[str, Any]
) -> dict[str, set[str]]:
    """Return what identifies the fleet of a run, by kind."""
    from hs_analysis.report.anonymise import KINDS, address_of, kind_of_label

    names: dict[str, set[str]] = {kind: set() for kind in KINDS}
    series = tables.read(run, "series")
    for labels in series["labels"].unique().to_list():
        for label, value in dict(labels or ()).items():
            if kind := kind_of_label(label):
                names[kind].add(value)
    names["pod"] |= set(series["instance"].drop_nulls())
    names["capture"] |= set(series["capture"].drop_nulls())
    given = [entry["name"] for entry in found["inputs"]]
    given += [path.name for path in arguments if not is_spooled(path)]
    given += [
        one.name for one in (*settings.beside.policies, *settings.beside.current, *settings.beside.topology)
    ]
    for name in given:
        names["file"] |= {name, Path(name).name}
        names["capture"] |= set(Path(name).parts[:-1])
    names["name"] |= {one.label for one in settings.excluded if one.label}
    names["name"] |= {one.text for one in settings.events if one.text}
    if settings.server_address:
        names["address"].add(settings.server_address)
    every = [value for values in names.values() for value in values]
    names["address"] |= {
        host for value in every if (host := address_of(value)) and value not in names["file"]
    }
    return names


def _service(run: Path, entry: Mapping[str, Any], derived: Derived, replay: ReplayResult) -> dict[str, Any]:
    """Return the keys of one service, in the order of summary.json."""
    name = entry["service"]
    decision = read_decision(run, name)
    guides = [
        entry["apply"]
        for entry in tables.read_json(run, EXPORTS_FILE)
        if (entry["service"], entry["target"]) == (name, decision.target)
    ]
    return (
        summary.decision_section(decision, next(iter(guides), None))
        | summary.facts_section(entry)
        | summary.study_section(read_all_verdicts(run, name), read_recommended(run, name))
        | summary.derive_section(derived)
        | summary.selection_section(read_scores(run, name))
        | summary.replay_section(replay)
        | summary.drivers_section(read_drivers(run, name))
        | summary.refusals_section(derived)
    )


def _of_test(run: Path, name: str) -> dict[str, Any]:
    """Return the keys of what a ratio test in benchmarks is of: its ratio and what is not known."""
    derived = read_derived(run, name)
    return (
        summary.decision_section(read_decision(run, name), None)
        | summary.facts_of_test(name)
        | summary.study_section((), None)
        | summary.derive_section(derived)
        | summary.selection_section(())
        | summary.replay_section(ReplayResult(None, None))
        | summary.drivers_section(())
        | summary.refusals_section(derived)
    )


def _summary(work: Work) -> dict[str, Any]:
    services: list[dict[str, Any]] = []
    warnings = _input_warnings(work)
    policies, _ = _policies(work.run)
    for entry in read_entries(work.run):
        name = entry["service"]
        services.append(_service(work.run, entry, read_derived(work.run, name), read_replay(work.run, name)))
        warnings += _service_warnings(work, entry, [one for one in policies if one.service == name])
    if not services:
        services = [_of_test(work.run, name) for name in tested_names(work.run)]
        warnings.append(summary.no_history_warning(tests=len(services)))
    return summary.compose(
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


def _input_warnings(work: Work) -> list[dict[str, str]]:
    """Return what speaks against the input as a whole."""
    counts = tables.read_json(work.run, INPUTS_FILE)["counts"]
    found = summary.unserved_warnings([one.sentence() for one in without_service(work.run, work.settings)])
    found += [{"code": "input_broken", "text": f"{b['name']}: {b['why']}"} for b in counts["broken"]]
    found += summary.rows_lost_warnings(rejected_groups(work.run), counts["rows_read"], lost_whole(work.run))
    found += [{"code": "input_warning", "text": f"{w['name']}: {w['text']}"} for w in counts["warnings"]]
    findings = tables.read(work.run, "findings")
    found += summary.failed_warnings(findings) + summary.idle_warnings(findings)
    if work.settings.excluded:
        found.append(summary.excluded_warning(work.settings.excluded))
    return found


def _service_warnings(
    work: Work, entry: Mapping[str, Any], policies: Sequence[Policy]
) -> list[dict[str, str]]:
    """Return what speaks against the answer of one service, whose policies are given."""
    name = entry["service"]
    derived, decision = read_derived(work.run, name), read_decision(work.run, name)
    found = summary.unseen_warnings(name, tables.read_json(work.run, NOTES_FILE).get(name, ()))
    held = [(p.signal, p.role) for one in policies for p in one.primaries]
    found += summary.refit_warnings(name, read_derived(work.run, name, TRAIN), derived, held, decision)
    headline = next((headline_of(work.run, one) for one in policies), "")
    if (entry["kind"], derived.pd_ratio.basis) != ("pressure_test", "sweep"):  # made to break the SLO
        found += summary.replay_warnings(
            name, read_replay(work.run, name), headline or None, work.settings.slo, decision.alarm
        )
    if not policy_primaries(work.run, name)[1]:
        found.append(summary.replaced_warning(name))
    chosen = chosen_policy(work.run, name)
    if chosen and chosen.fit == WHOLE:
        found.append(summary.untested_warning(name))
    return found


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
    words += [f"--target {settings.target}"] if settings.target else []
    spelt = {name: getattr(defaults, name) for name in _SPELT}
    share = replace(defaults.slo, allowed_window_share=slo.allowed_window_share)
    if replace(settings, **spelt | {"slo": share}) != defaults:
        words.append("# and the other settings that manifest.json lists")
    return " ".join(words)


_SPELT = (
    "startup_s", "history_kind", "start", "end", "excluded", "events", "service", "prices", "seed", "beside",
    "target",
)  # fmt: skip
"""Settings beside the SLO that the command spells out, or that change no number."""
