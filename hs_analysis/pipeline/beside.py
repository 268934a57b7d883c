"""What the backtest replays beside the selected policy: edited policies, and today's autoscaler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hs_analysis.current import (
    NO_POLICY,
    CurrentAutoscaler,
    Definitions,
    Known,
    Stored,
    Withheld,
    changes,
    read_definitions,
    read_manifests,
    translate,
)
from hs_analysis.errors import InputError, UsageError
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.gather import catalogue_of
from hs_analysis.pipeline.records import to_plain
from hs_analysis.policy import Policy, load_all
from hs_analysis.policy.build import work_target
from hs_analysis.promql.forms import NAME
from hs_analysis.replay.quantiles import quantile_of
from hs_analysis.replay.signals import fit_quantile, fit_signals, work_signal
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.backtests import PolicyReplay
from hs_analysis.schema.baselines import CURRENT
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.results import Derived
from hs_analysis.schema.settings import Document, Settings

CURRENT_FILE = "data/replay/current.json"


def policies_beside(files: Sequence[Document], frame: ServiceFrame) -> dict[str, Policy]:
    """Return the policies of a service in the files given, by file name.

    Raises
    ------
    InputError
        When a primary follows a signal that the history does not hold: it would hold still all the time.
    """
    found: dict[str, Policy] = {}
    for file in files:
        for policy in load_all(file.text, file.name):
            if policy.service != frame.service:
                continue
            for number, primary in enumerate(policy.primaries):
                if not any(frame.has(primary.signal, role) for role in (primary.role, "service")):
                    raise InputError(
                        f"spec.primaries[{number}]: {primary.signal}@{primary.role} is not in this history",
                        where=file.name,
                        hint="hsa study RUN lists the signals",
                    )
            found[_free(Path(file.name).name, found)] = policy
    return found


def require_services(settings: Settings, services: Sequence[str]) -> None:
    """Raise when a file speaks of none of the services, or today's objects can't be told apart by service."""
    for file in settings.beside.policies:
        spoken = [policy.service for policy in load_all(file.text, file.name)]
        if not set(spoken) & set(services):
            raise InputError(
                f"is a policy of {' and '.join(spoken) or 'no service'}, the run has {', '.join(services)}",
                where=file.name,
                hint="take the policy.yaml of this run and edit it",
            )
    if settings.beside.current and len(services) > 1:
        hint = f"name the one it scales: --service {services[0]}"
        raise UsageError(f"the run has {len(services)} services", where="--current", hint=hint)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number = sum(1 for other in taken if other == name or other.startswith(f"{name} ("))
    return f"{name} ({number + 1})" if number else name


def current_autoscaler(
    files: Sequence[Document],
    frame: ServiceFrame,
    derived: Derived,
    settings: Settings,
    series: pl.DataFrame,
) -> CurrentAutoscaler:
    """Return today's autoscaler as its objects set it up, on the series of all services (``SERIES``).

    A quantile is read wherever its buckets are; once the frame has it as a column (``with_answers``), only
    where the replay knows it at other counts.
    """
    targets = {role: work_target(derived, role, settings) for role in frame.pools}
    held = {(info.signal, info.role): info.pool for info in frame.signals}
    modelled = fit_signals(frame)
    known = Known(
        tuple(frame.pools),
        {key: adds for key, adds in held.items() if key in modelled},
        {role: target for role, target in targets.items() if target is not None},
        {role: work_signal(frame, role) for role in frame.pools},
        stored_series(series, frame.service),
        frozenset(held) - frozenset(modelled),
        unmodelled_quantiles(frame),
    )
    manifests = [(one, file.role) for file in files for one in read_manifests(file.text, file.name)]
    definitions = sum((read_definitions(file.text, file.name) for file in files), Definitions())
    return translate(manifests, known, catalogue_of(settings), definitions)


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
    found: dict[tuple[tuple[str, str], ...], Stored] = {}
    rows = series.select("metric", "labels", "emitter_role", "service", "instance").iter_rows()
    for metric, labels, role, owner, instance in rows:
        named = {name: value for name, value in label_map(labels).items() if value} | {NAME: metric}
        found.setdefault(tuple(sorted(named.items())), Stored(named, role, owner == service, instance))
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
