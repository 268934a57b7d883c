"""Which numbers and links a page must have by summary.json: the rules, apart from the code of the page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

SHOWN = {
    "signals": ("verdict", "elasticity", "spearman", "snr", "lag_s", "drift"),
    "capacity": ("per_instance",),
    "thresholds": (
        "target_per_instance", "headroom_ratio", "capacity", "scale_out_ratio", "scale_in_ratio",
        "cooldown_out_s", "cooldown_in_s", "status",
    ),
    "startup": ("value_s", "births", "status"),
    "gpu_speeds": ("instances", "relative", "weight", "pods", "status"),
    "pd_ratio": ("value", "at_least", "at_most"),
    "demand": ("prefill_tps", "decode_tps", "reconstruction_error"),
    "selection": (
        "reading_s", "scale_out_ratio", "scale_in_ratio", "over_s", "score", "instance_hours", "gpu_hours",
        "slo_violation_ratio", "fault_violation_ratio", "burst_violation_ratio", "actions_per_day",
        "flat_actions_per_day", "chosen",
    ),
    "replay": (
        "instance_hours", "gpu_hours", "vs_recorded", "vs_static_peak", "vs_hindsight",
        "slo_violation_ratio", "slo_violation_s", "recovery_s", "actions_per_day",
    ),
    "drivers": (
        "verdict", "dip_ratio", "correlation", "reversals_per_day", "instance_hours", "strain_ratio",
        "target_per_instance",
    ),
    "policy": (),
}  # fmt: skip
"""What the page shows of a number of each kind, by the keys of summary.json."""

LEFT_OUT = {
    "pd_ratio": SHOWN["pd_ratio"],
    "demand": SHOWN["demand"],
    "selection": ("slo_violation_ratio", "fault_violation_ratio", "burst_violation_ratio"),
}
"""What the page leaves out where it is not known, by kind; elsewhere a dash stands for it."""

INTERVALS: dict[str, dict[str, str]] = {
    "signals": {"elasticity": "elasticity_ci"},
    "capacity": {"per_instance": "ci"},
    "startup": {"value_s": "ci"},
    "gpu_speeds": {"relative": "ci"},
    "pd_ratio": {"value": "ci"},
    "replay": {"slo_violation_ratio": "slo_violation_ci"}
    | {
        key: f"{key}_ci"
        for key in ("instance_hours", "vs_recorded", "vs_static_peak", "vs_hindsight", "slo_violation_s")
    },
}
"""Keys of the intervals that the page shows, by kind and key of their number."""

ANSWERED = ("value", "elasticity", "vs_recorded", "vs_static_peak")
"""Keys of the numbers that the answer of a service shows with their interval."""


def interval_of(entry: Mapping[str, Any], key: str) -> Any:
    """Return the interval of a number of the answer, of the amount where it is less than nothing."""
    if "low" in entry:
        return [entry["low"], entry["high"]]
    ends = entry.get("ci" if key == "value" else f"{key}_ci")
    return [-ends[1], -ends[0]] if ends and key.startswith("vs_") and entry[key] < 0 else ends


FIGURES = {
    "signals": ("series-{signal}-{role}", "scatter-{signal}-{role}", "elasticity", "coverage"),
    "capacity": ("capacity-{role}",),
    "gpu_speeds": ("capacity-{role}",),
    "thresholds": ("capacity-{role}", "series-{signal}-{role}", "capacity-decode", "capacity-mixed"),
    "startup": ("decision-{role}", "steps-{role}"),
    "pd_ratio": ("ratio",),
    "demand": ("series-*", "ratio"),
    "selection": ("front", "steps-*"),
    "replay": ("steps-*", "front"),
    "drivers": ("drivers",),
    "policy": ("decision-*", "steps-*"),
}
"""Figures that show a number of each kind, best first; a star stands for any end."""


def figures_of(kind: str, entry: Mapping[str, Any], here: Collection[str]) -> list[str]:
    """Return the figures that may stand beside a number: those of the first name that the service has."""
    for name in FIGURES[kind]:
        wanted = name.format(signal=entry.get("signal"), role=entry.get("role"))
        found = [
            one for one in here if (one.startswith(wanted[:-1]) if wanted.endswith("*") else one == wanted)
        ]
        if found:
            return found
    return [""]


def pointers_of(service: Mapping[str, Any], at: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what the answer of a service links to: a pointer into summary.json, and the entry it lies in.

    Parameters
    ----------
    service, at
        The service's part of summary.json, and the pointer of it.
    spec
        ``spec`` of its policy.
    """
    primaries = [(one["signal"], one["role"]) for one in spec.get("primaries") or []]
    decision, signals = service.get("decision") or {}, service.get("signals") or []
    targets = [
        (f"{at}/thresholds/{n}", row)
        for pair in primaries
        for n, row in enumerate(service.get("thresholds") or [])
        if (row["signal"], row["role"]) == pair and not row.get("gpu_type")
    ]
    if decision.get("recommend") != "keep":
        yield from ((f"{place}/target_per_instance", row) for place, row in targets)
    best = service.get("recommended") or {}
    pairs = [(best.get("signal"), best.get("role")), *primaries]
    for pair in dict.fromkeys(pairs):
        for n, row in enumerate(signals):
            if (row["signal"], row["role"]) == pair and not row.get("gpu_type"):
                yield f"{at}/signals/{n}/signal", row
                yield f"{at}/signals/{n}/elasticity", row
    for place, row in targets:
        yield f"{place}/target_per_instance", row
        if row.get("capacity"):
            yield f"{place}/capacity/value", row
    ratio = service.get("pd_ratio") or {}
    for key in ("value", "at_least", "at_most", "integer_pairs"):
        if ratio.get(key):
            yield f"{at}/pd_ratio/{key}", ratio
    yield from _replayed(service, at)


def _replayed(service: Mapping[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = (service.get("replay") or {}).get("policies") or []
    chosen = next((row["policy"] for row in service.get("selection") or [] if row.get("chosen")), None)
    places = {row["policy"]: (f"{at}/replay/policies/{n}", row) for n, row in enumerate(rows)}
    if chosen not in places:
        return
    place, row = places[chosen]
    for key in ("vs_recorded", "vs_static_peak", "slo_violation_ratio"):
        if row.get(key) is not None:
            yield f"{place}/{key}", row
    if "recorded" in places and places["recorded"][1].get("slo_violation_ratio") is not None:
        yield f"{places['recorded'][0]}/slo_violation_ratio", places["recorded"][1]
    decision = service.get("decision") or {}
    if decision.get("backtested"):
        for n, _ in enumerate(decision.get("pools") or []):
            yield f"{at}/decision/pools/{n}/recommended", row
        risk = decision.get("slo_risk") or {}
        for key, other in (
            ("undisturbed", "recorded"),
            ("under_faults", "default_hpa_under_faults"),
            ("under_bursts", "default_hpa_under_bursts"),
        ):
            if risk.get(key) is not None:
                yield f"{at}/decision/slo_risk/{key}", row
                if risk.get(other) is not None:
                    yield f"{at}/decision/slo_risk/{other}", row
