"""The objects that scale a service: today's, and the one that a policy becomes, written and read back.

Selection, backtest, headline and exports speak of the same object. What an exporter writes and the reader of
``--current`` reads again is what a cluster would run; where it can't be read back, the reason is kept and the
policy's own parameters are replayed in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hs_analysis.catalogue import Catalogue
from hs_analysis.controllers import Autoscaler, HeteroScale
from hs_analysis.errors import HsError
from hs_analysis.export import (
    ALTERNATIVES,
    ExportOptions,
    Loss,
    Measured,
    NamesOfCluster,
    export,
    expression,
    names_of,
    surging,
)
from hs_analysis.export.llmd import GAUGE, LLMD_SUFFIX, as_the_guide, gauge_labels
from hs_analysis.export.model import NO_COST
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.field_costs import ADDED, fields_of_file, figures_of
from hs_analysis.pipeline.ingest_stages import catalogue_of
from hs_analysis.pipeline.records import to_plain
from hs_analysis.policy import Policy, dump, load
from hs_analysis.policy.build import work_target
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import SignalReading
from hs_analysis.policy.rounding import rounded
from hs_analysis.policy.waiting import tokens_per_request
from hs_analysis.promql.forms import NAME
from hs_analysis.replay.signals import HANDED_OUT, fit_quantile, fit_signals, quantile_of, work_signal
from hs_analysis.replay.tokens_in_flight import ERROR
from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.exported import FieldReplay, TargetReplay
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.names import CONTROLLER_TITLES, CURRENT, READ_AS_IDLE, SLO_AWARE, TARGET_TITLES
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.replays import PolicyReplay, ReplayResult
from hs_analysis.schema.results import Derived, Estimate
from hs_analysis.schema.settings import Document, Settings, Slo

if TYPE_CHECKING:
    from hs_analysis.current import CurrentAutoscaler, Known, Stored, Withheld

CURRENT_FILE = "data/replay/current.json"

Key = tuple[str, str]


@dataclass(frozen=True)
class Deployed:
    """A policy as the object that will run.

    Attributes
    ----------
    control
        What a replay runs.
    why_not
        Why it is not what was read back from the exported file; empty where it is.
    differs
        Pools whose parameters as read back are not those of the policy.
    idle
        Of llm-d's file the same with its guide's own queries, which read a missing metric as an idle pool.
    losses
        What the files do not say of the policy.
    """

    control: Autoscaler | HeteroScale
    why_not: str = ""
    differs: tuple[str, ...] = ()
    idle: Autoscaler | None = None
    losses: tuple[Loss, ...] = ()


def deployed(
    policy: Policy,
    frame: ServiceFrame,
    derived: Derived,
    settings: Settings,
    series: pl.DataFrame,
    interval_s: float = 15.0,
    known: Known | None = None,
) -> Deployed:
    """Write a policy for its controller, read the files back, and return what was read.

    Parameters
    ----------
    policy
        The policy, with the PromQL of its signals.
    frame, derived, settings
        The window that it was fitted on, its numbers, and the settings of the run.
    series
        Series of all services (``SERIES``): what queries pick from.
    interval_s
        Scrape interval of the service [s].
    known
        `known_service` of the rest, where it is there already.
    """
    policy = rounded(policy)
    own = control_of(policy)
    if policy.mode == "hold":
        return Deployed(own, "a policy on hold has no object")
    if policy.controller == "heteroscale":
        return Deployed(control_of(load(dump(policy))))
    options = ExportOptions(
        scrape_interval_s=interval_s,
        kubernetes=kubernetes_of(settings),
        dedup_label=settings.reading.dedup_label,
    )
    made = export(policy, policy.controller, options)
    pools = own.pools if isinstance(own, Autoscaler) else {}
    if policy.mode == "periodic" and not pools:
        return Deployed(own, "it keeps no timetable")
    wanted = policy.sized_roles if policy.mode == "metric" else tuple(pools)
    found = _read_back(made.files, wanted, (frame, derived, settings, series, known))
    if isinstance(found, str):
        return Deployed(own, found)
    differs = tuple(role for role, one in found.pools.items() if one != pools.get(role))
    return Deployed(replace(found, name=policy.controller), differs=differs, losses=made.losses)


def _read_back(
    files: Mapping[str, str],
    roles: Collection[str],
    given: tuple[ServiceFrame, Derived, Settings, pl.DataFrame, Known | None],
) -> Autoscaler | str:
    """Return what the objects among exported files scale, or why that is not known: they scale other roles.

    ``given`` is what `current_autoscaler` reads them with. Each reason is given once, in the order in which
    they came.
    """
    texts = [Document(name, text) for name, text in files.items() if name.endswith(".yaml")]
    try:
        found = current_autoscaler(texts, *given)
    except HsError as error:
        return str(error)
    if found.scaler is None or set(found.scaler.pools) != set(roles):
        return "; ".join(dict.fromkeys(found.notes)) or "no object could be written"
    return found.scaler


def kubernetes_of(settings: Settings) -> tuple[int, int]:
    """Return the version of Kubernetes that objects are written for."""
    if settings.kube_version is None:
        return ExportOptions.kubernetes
    major, minor = settings.kube_version.split(".")
    return int(major), int(minor)


def cluster_names(
    service: str, frames: Mapping[str, ServiceFrame], settings: Settings, series: pl.DataFrame
) -> NamesOfCluster:
    """Return what the cluster calls the things that exports of a service name.

    Parameters
    ----------
    service
        The service.
    frames
        All services of the run.
    settings
        Settings of the run, with today's objects.
    series
        Series of all services (``SERIES``).
    """
    frame, alone = frames.get(service), len(frames) == 1
    pools = tuple(frame.pools) if frame else ()
    todays = {}
    if alone and settings.beside.current:
        from hs_analysis.current import read_manifests, todays_objects

        files = settings.beside.current
        manifests = [(one, file.role) for file in files for one in read_manifests(file.text, file.name)]
        todays = todays_objects(manifests, pools)
    return names_of(service, pools, settings.cluster, settings.server_address, todays, series, alone=alone)


def deployed_as(
    target: str,
    policy: Policy,
    frame: ServiceFrame,
    derived: Derived,
    settings: Settings,
    series: pl.DataFrame,
    interval_s: float = 15.0,
    known: Known | None = None,
) -> Deployed:
    """Write a policy as the files of any target, read them back, and return what was read.

    Parameters are those of `deployed`. Where the files can't be read back, or nothing is written in them, the
    policy's own control is returned with the reason.
    """
    if target in CONTROLLER_TITLES:
        as_theirs = replace(policy, controller=target)  # type: ignore[arg-type]
        return deployed(as_theirs, frame, derived, settings, series, interval_s, known)
    policy = rounded(policy)
    own = control_of(policy)
    options = ExportOptions(
        scrape_interval_s=interval_s,
        kubernetes=kubernetes_of(settings),
        measured=measured_of(derived, frame, settings.slo),
        dedup_label=settings.reading.dedup_label,
    )
    if target == "llmd":  # its queries name pods
        names = names_of(frame.service, tuple(frame.pools), settings.cluster, None, {}, series, alone=False)
        options = replace(options, namespace=names.namespace, workloads=names.workloads)
    made = export(policy, target, options)
    refused = next((loss.text for loss in made.losses if (loss.item, loss.kind) == ("*", "refused")), "")
    if refused:
        return Deployed(own, refused)
    together = {name: text for name, text in made.files.items() if not name.endswith(ALTERNATIVES)}
    if target == "llmd":
        known = with_gauge(known or known_service(frame, derived, settings, series), policy, options)
        if known is None:
            return Deployed(own, NO_GAUGE)
    given = (frame, derived, settings, series, known)
    found = _read_back(together, policy.sized_roles, given)
    if isinstance(found, str):
        return Deployed(own, found)
    idle = None
    if target == "llmd":
        texts = {name: as_the_guide(text) for name, text in together.items() if name.endswith(LLMD_SUFFIX)}
        read = _read_back(texts, policy.sized_roles, given)
        idle = None if isinstance(read, str) else replace(read, name=target)
    return Deployed(replace(found, name=target), idle=idle, losses=made.losses)


NO_GAUGE = (
    "the gauge of llm-d's router is not recorded, and too few calm minutes have a TTFT histogram to tell the "
    "tokens in flight"
)
"""Why llm-d's file can't be replayed."""


def with_gauge(known: Known, policy: Policy, options: ExportOptions) -> Known | None:
    """Return what is known of a service with a series for llm-d's gauge; None where nothing tells it.

    A gauge that the history holds stays alone.
    """
    from hs_analysis.current import Stored

    if any(one.labels[NAME] == GAUGE for one in known.series):
        return known
    if (HANDED_OUT, "prefill") not in known.readable:
        return None
    return replace(known, series=(*known.series, Stored(gauge_labels(policy, options), "prefill")))


def sets_up_the_same(one: object, other: object) -> bool:
    """Whether two controls decide alike, whatever they are called."""
    if isinstance(one, Autoscaler) and isinstance(other, Autoscaler):
        return replace(one, name="") == replace(other, name="")
    return False


def measured_of(derived: Derived, frame: ServiceFrame | None, slo: Slo) -> Measured:
    """Return what a run measured beyond the policy; the ratio's band where its balance drifts."""
    ratio = derived.pd_ratio
    band = (ratio.band if ratio.status == "drifting" else ratio.ci) if ratio.value is not None else None
    if ratio.basis == "sweep" and ratio.at_least is not None and ratio.at_most is not None:
        band = (ratio.at_least, ratio.at_most)
    work = SERVED["prefill"]
    capacity = next(
        (
            Estimate(one.per_instance, *one.ci)
            for one in derived.capacity
            if (one.role, one.gpu_type, one.signal) == ("prefill", None, work)
            and one.per_instance is not None
            and one.ci is not None
        ),
        None,
    )
    usage = (
        one.target_per_instance
        for one in derived.thresholds
        if (one.signal, one.role, one.gpu_type) == ("kv_usage", "decode", None)
    )
    return Measured(
        ratio_band=band,
        gpus_per_instance=frame.gpus_per_instance if frame else {},
        prefill_capacity=capacity,
        prompt_tokens=tokens_per_request(frame, work, "prefill") if frame else None,
        kv_usage_target=next(usage, None),
        slo_quantile=slo.quantile,
        slo_s={name: limit for name in ("ttft", "tbt") if (limit := slo.limit_s(name)) is not None},
    )


NOT_REPLAYED_PARTS = {
    "llmd": f"on tokens in flight by Little's law ({ERROR})",
    "dynamo": "as if the planner's own model of an engine gave the derived capacity",
    "rbg": "without the CoordinatedPolicy, whose steps are not public",
}
"""Export target → what a replay of its file assumes or leaves out."""


def target_replays(replay: ReplayResult, headline: str) -> tuple[TargetReplay, ...]:
    """Return what the file of each target does on the test window, the selected one first.

    Parameters
    ----------
    replay
        The backtest: the files were replayed in it as they are read back. Files that set up the same control
        share a row.
    headline
        Name of the row of the replay that speaks of the policy as selected; empty without one.
    """
    rows = {row.policy: row for row in replay.policies}
    said = replay.calibration.get("deployed") or {}
    under = replay.calibration.get("under_faults") or {}
    shares = under.get("files") or ({headline: under["policy"]} if under.get("policy") else {})
    by_field: Mapping[str, Any] = replay.calibration.get("by_field") or {}
    own = str(said.get("target") or "")
    found = []
    for target in sorted(TARGET_TITLES, key=lambda one: one != own):
        other = (said.get("as_others") or {}).get(target) or {}
        name = headline if target == own else str(other.get("policy") or "")
        row, faults = rows.get(name), shares.get(name) or {}
        why = str(other.get("why_not") or "") or "no part of the history was left to replay it on"
        found.append(
            TargetReplay(
                target=target,
                policy=name if row else None,
                **(figures_of(row, faults) if row else {}),
                under_gap=faults.get("gap"),
                gap_read_as_idle=(shares.get(READ_AS_IDLE) or {}).get("gap") if target == "llmd" else None,
                fields=fields_of_file(by_field, target),
                assumes=NOT_REPLAYED_PARTS.get(target, "") if row else "",
                why_not="" if row else why,
            )
        )
    return tuple(found)


def with_targets(replay: ReplayResult) -> ReplayResult:
    """Return a backtest with what the file of each target does, as it is where no policy was replayed."""
    name = str((replay.calibration.get("deployed") or {}).get("policy") or "")
    return replace(replay, targets=target_replays(replay, name)) if name else replay


def selected_for(
    policy: Policy, replays: Sequence[TargetReplay], rows: Sequence[PolicyReplay] = ()
) -> dict[str, str]:
    """Return for which controller a policy was selected and what its files for another one cost, by target.

    Parameters
    ----------
    policy
        The policy as policy.yaml holds it.
    replays
        What the file of each target does, as `target_replays` returns it.
    rows
        Rows of the backtest: one of them is the formula of llm-d's SLO-aware file.
    """
    by_target = {one.target: one for one in replays}
    ours = by_target[policy.controller]
    found = {}
    start = f"The policy was selected and replayed for {CONTROLLER_TITLES[policy.controller]}"
    for target, title in TARGET_TITLES.items():
        if target == policy.controller:
            continue
        theirs = by_target[target]
        if ours.policy is None or theirs.policy is None:
            why = (theirs.why_not or ours.why_not).rstrip(".")
            found[target] = f"{start}. This file was not replayed: {why}."
        else:
            found[target] = f"{start}. {_difference(title, ours, theirs)}"
    row = next((one for one in rows if one.policy == SLO_AWARE), None)
    if row is None or ours.policy is None:
        found[SLO_AWARE] = (
            f"{start}. This file was not replayed: its P90s were not evaluated on this history."
        )
    else:
        theirs = TargetReplay(
            target="llmd", policy=row.policy, instance_hours=row.instance_hours, gpu_hours=row.gpu_hours,
            slo_violation_ratio=row.slo_violation_ratio, assumes="a latency that is missing read as idle",
        )  # fmt: skip
        found[SLO_AWARE] = f"{start}. {_difference('its formula', ours, theirs)}"
    return found


SAME_COST = 5e-4
"""Hours that differ by less read as the same [ratio]. Default of this project."""


def cost_of_idle(replays: Sequence[TargetReplay]) -> str:
    """Return what it costs to read a missing metric as idle, of llm-d's file; empty where not known."""
    one = next((one for one in replays if one.target == "llmd"), None)
    if one is None or one.under_gap is None or one.gap_read_as_idle is None:
        return ""
    if one.slo_violation_ratio is None:
        return (
            "Replayed both ways, but how often it breaks the SLO is not known: its instances carry more than "
            "any of the history, or the replay does not match the recorded latencies"
        )
    idle, held = percent(one.gap_read_as_idle), percent(one.under_gap)
    return (
        f"Replayed both ways: while no metric can be read, it breaks the SLO in {held} of windows, read as "
        f"idle in {idle}"
    )


def costs_by_field(replays: Sequence[TargetReplay]) -> dict[str, dict[str, str]]:
    """Return what it costs that the file of a target holds a field of the policy otherwise, as sentences.

    By target and field. Nothing is set against HeteroScale's own rule, which holds all of it, where that was
    not replayed.
    """
    whole = next((one for one in replays if one.target == "heteroscale" and one.policy), None)
    found = {one.target: _costs(one, whole) for one in replays} if whole else {}
    if idle := cost_of_idle(replays):
        found["llmd"] = {"on_missing_metric": idle} | found.get("llmd", {})
    return found


def _costs(file: TargetReplay, whole: TargetReplay) -> dict[str, str]:
    """Return what each field costs as a file holds it, by field; what changes most first."""
    said = {one.field: _alone(file if one.kind == ADDED else whole, one) for one in file.fields}
    return {name: said[name][0] for name in sorted(said, key=lambda name: -said[name][1])}


def _alone(whole: TargetReplay, one: FieldReplay) -> tuple[str, float]:
    """Return what one field costs: figures that read otherwise than those of the whole, and their size."""
    hours, more = _hours(whole, one)
    said, size = ([hours], abs(more)) if abs(more) >= SAME_COST else ([], 0.0)
    shares = {
        "windows over the SLO": (whole.slo_violation_ratio, one.slo_violation_ratio),
        "under faults": (whole.under_faults, one.under_faults),
        "under bursts": (whole.under_bursts, one.under_bursts),
    }
    for name, (before, after) in shares.items():
        if percent(before) != percent(after):
            said.append(f"{name} {percent(after)} against {percent(before)}")
            size += abs((after or 0.0) - (before or 0.0))
    start = "Without its ratio this file has" if one.kind == ADDED else "Alone, by HeteroScale's own rule:"
    return (f"{start} {', '.join(said)}" if said else NO_COST), size


def _hours(ours: TargetReplay, theirs: TargetReplay | FieldReplay) -> tuple[str, float]:
    """Return how many hours more than ours, in words and as a ratio: of GPUs where both are known."""
    in_gpus = ours.gpu_hours is not None and theirs.gpu_hours is not None
    before, after = ((row.gpu_hours if in_gpus else row.instance_hours) or 0.0 for row in (ours, theirs))
    unit = "GPU-hours" if in_gpus else "instance-hours"
    more = after / before - 1 if before else 0.0
    same = abs(more) < SAME_COST
    return f"as many {unit}" if same else f"{percent(more, signed=True)} {unit}", more


def _difference(title: str, ours: TargetReplay, theirs: TargetReplay) -> str:
    """Return what the file of another target costs, in a sentence; both were replayed on one window."""
    hours, _ = _hours(ours, theirs)
    now, then = ours.slo_violation_ratio, theirs.slo_violation_ratio
    broken = "how often it breaks the SLO is not known"
    if now is not None and then is not None:
        broken = f"it breaks the SLO in {percent(then)} of windows against {percent(now)}"
        for what in ("faults", "bursts"):
            before, after = (getattr(one, f"under_{what}") for one in (ours, theirs))
            if before is not None and after is not None:
                broken += f", under {what} in {percent(after)} against {percent(before)}"
    assumed = f", {theirs.assumes}" if theirs.assumes else ""
    return f"This file was replayed as well{assumed}: {title} needs {hours}, and {broken}."


def current_autoscaler(
    files: Sequence[Document],
    frame: ServiceFrame,
    derived: Derived,
    settings: Settings,
    series: pl.DataFrame,
    known: Known | None = None,
) -> CurrentAutoscaler:
    """Return today's autoscaler as its objects set it up, on the series of all services (``SERIES``).

    A quantile is read wherever its buckets are; once the frame has it as a column (``with_answers``), only
    where the replay knows it at other counts. ``known`` is `known_service` of the rest, where it is there
    already.
    """
    from hs_analysis.current import Definitions, read_definitions, read_manifests, translate

    known = known or known_service(frame, derived, settings, series)
    manifests = [(one, file.role) for file in files for one in read_manifests(file.text, file.name)]
    definitions = sum((read_definitions(file.text, file.name) for file in files), Definitions())
    return translate(manifests, known, catalogue_of(settings), definitions)


def known_service(frame: ServiceFrame, derived: Derived, settings: Settings, series: pl.DataFrame) -> Known:
    """Return what is known of a service that objects scale: what their queries may read, and its targets."""
    from hs_analysis.current import Known

    targets = {role: work_target(derived, role, settings) for role in frame.pools}
    held = {(info.signal, info.role): info.pool for info in frame.signals}
    modelled = fit_signals(frame)
    return Known(
        tuple(frame.pools),
        {key: adds for key, adds in held.items() if key in modelled},
        {role: target for role, target in targets.items() if target is not None},
        {role: work_signal(frame, role) for role in frame.pools},
        stored_series(series, frame.service),
        frozenset(held) - frozenset(modelled),
        unmodelled_quantiles(frame),
    )


def unmodelled_quantiles(frame: ServiceFrame) -> dict[tuple[str, str], str]:
    """Return the quantiles among a service's columns that a replay does not know at other counts, and why."""
    found = {
        (info.signal, info.role): fit_quantile(frame, info)
        for info in frame.signals
        if quantile_of(info.signal)
    }
    return {key: why for key, why in found.items() if isinstance(why, str)}


def stored_series(series: pl.DataFrame, service: str) -> tuple[Stored, ...]:
    """Return what the queries of today's objects pick from: all series, those of the service told apart.

    A series that several captures hold is one series.
    """
    from hs_analysis.current import Stored

    found: dict[tuple[tuple[str, str], ...], Stored] = {}
    names = ("metric", "labels", "emitter_role", "service", "instance", "copy_label", "copies")
    for metric, labels, role, owner, instance, told_by, values in series.select(names).iter_rows():
        named = {name: value for name, value in label_map(labels).items() if value} | {NAME: metric}
        copies = tuple({told_by: value} for value in values or ()) or ({},)
        found.setdefault(
            tuple(sorted(named.items())), Stored(named, role, owner == service, instance, copies)
        )
    return tuple(found.values())


def current_record(
    found: CurrentAutoscaler,
    advised: Policy,
    derived: Derived,
    rows: Sequence[PolicyReplay],
    chosen: str | None,
    counts: Sequence[Mapping[str, Any]],
    doubt: Withheld | None,
) -> dict[str, Any]:
    """Return what is told of today's autoscaler, as plain data: ``replay.current`` of summary.json.

    ``objects``, ``not_understood``, ``changes`` (to the numbers of policy.yaml), ``compared``: the hours
    and violations of both on the test window, null with a ``reason`` where they may not be compared
    (``doubt``, as ``withheld`` returns it) or no policy was replayed, and ``counts``: how far the replay of
    today's was from what ran (``counts_apart``), without pools that no object was replayed for.
    """
    from hs_analysis.current import NO_POLICY, changes

    objects = [
        {
            "kind": one.kind,
            "name": one.name,
            "where": one.where,
            "role": one.role,
            "replayed": one.parameters is not None,
            "metrics": to_plain(one.metrics),
        }
        for one in found.objects
    ]
    by_name = {row.policy: row for row in rows}
    ours, theirs = by_name.get(chosen or ""), by_name.get(CURRENT)
    both = ours is not None and theirs is not None and doubt is None
    reason = None if both else doubt or NO_POLICY
    return {
        "objects": objects,
        "not_understood": list(found.notes),
        "changes": to_plain(changes(found.objects, advised, derived.thresholds)),
        "compared": _compared(ours, theirs) if both and ours and theirs else None,
        "reason": to_plain(reason),
        "counts": [one for one in counts if found.scaler and one["pool"] in found.scaler.pools],
    }


def _compared(ours: PolicyReplay, theirs: PolicyReplay) -> dict[str, Any]:
    in_gpus = ours.gpu_hours is not None and theirs.gpu_hours is not None
    hours = [row.gpu_hours if in_gpus else row.instance_hours for row in (theirs, ours)]
    now, then = hours
    return {
        "policy": ours.policy,
        "unit": "GPU-hours" if in_gpus else "instance-hours",
        "current_hours": now,
        "policy_hours": then,
        "saved": ours.vs_current,
        "current_slo_violation_ratio": theirs.slo_violation_ratio,
        "policy_slo_violation_ratio": ours.slo_violation_ratio,
    }


def read_current(folder: Path, service: str) -> dict[str, Any]:
    """Return what was told of today's autoscaler of a service; empty when none was given."""
    if not (folder / CURRENT_FILE).exists():
        return {}
    found: dict[str, Any] = tables.read_json(folder, CURRENT_FILE).get(service, {})
    return found


_SHORTEST = SignalReading()


def expressions(
    frame: ServiceFrame,
    keys: Iterable[Key],
    series: pl.DataFrame,
    catalogue: Catalogue,
    reading: SignalReading = _SHORTEST,
) -> tuple[dict[Key, str], list[str]]:
    """Return the PromQL of signals for the user's Prometheus, and what to know of it.

    Of ``reading`` its range counts, and for pool totals the shorter one while the load grows.
    """
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
        width = max(reading.window_s, frame.window_s)
        found = expression(known, recipe, info.role, series, service=frame.service, window_s=width)
        asked = found.expr
        surge = reading.surge
        if surge and asked and (recipe.pool or known.pool) == "sum":
            width = max(surge.window_s, frame.window_s)
            fresh = expression(known, recipe, info.role, series, service=frame.service, window_s=width)
            asked = surging(fresh.expr, asked, surge.above_ratio)
        queries[(signal, info.role)] = asked
        warnings += found.warnings
    return queries, list(dict.fromkeys(warnings))
