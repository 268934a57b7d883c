"""Tables of one service: signals, capacity, thresholds, replay, selection and data quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hs_analysis.report.cells import (
    Anchors,
    Cell,
    estimate_cell,
    evidence_path,
    number_cell,
    reason_text,
    status_cell,
    table,
    text_cell,
)
from hs_analysis.report.choice import Choice, mapping, records, threshold_of
from hs_analysis.report.rolling_words import coverage_text
from hs_analysis.report.wording import (
    count,
    fixed,
    interval,
    is_number,
    moment,
    on_type,
    percent,
    signal_label,
    span,
    status,
    unit_of,
)

VERDICT_ORDER = ("proportional", "guard", "unusable", "unknown")
LEVEL_ORDER = ("fail", "warn", "pass")


def ranked(service: Mapping[str, Any], *, types: bool = False) -> list[Mapping[str, Any]]:
    """Return the signals best first: verdict, the recommended one, smaller drift, higher SNR.

    With ``types`` those per GPU type of a pool that mixes types follow behind all others.
    """
    best = mapping(service.get("recommended"))

    def rank(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        verdict = entry.get("verdict")
        order = VERDICT_ORDER.index(verdict) if verdict in VERDICT_ORDER else len(VERDICT_ORDER)
        first = (entry.get("signal"), entry.get("role")) != (best.get("signal"), best.get("role"))
        drift = abs(entry["drift"]) if is_number(entry.get("drift")) else float("inf")
        snr = -entry["snr"] if is_number(entry.get("snr")) else float("inf")
        typed = str(entry.get("gpu_type") or "")
        names = (str(entry.get("signal")), str(entry.get("role")), typed)
        return (bool(typed), order, first, drift, snr, *names)

    rows = [row for row in records(service.get("signals")) if types or not row.get("gpu_type")]
    return sorted(rows, key=rank)


def signals(name: str, entries: Sequence[Mapping[str, Any]], anchors: Anchors) -> dict[str, Any]:
    """Return the ranking: one row per signal with its verdict and checks; the rest unfolds in the row."""
    rows = []
    for place, entry in enumerate(entries, start=1):
        signal, role = str(entry.get("signal")), str(entry.get("role") or "")
        path = evidence_path(name, "study", f"{signal}@{role}", entry.get("evidence"))
        label = signal_label(signal, role) + on_type(entry)
        cells = [
            text_cell(label),
            status_cell(entry.get("verdict"), sort=str(place), key="verdict"),
            number_cell(entry.get("elasticity"), "", entry.get("elasticity_ci"), 2, key="elasticity"),
            {"text": "", "wide": True, "fold": {"summary": checks_line(entry), "lines": _further(entry)}},
            number_cell(entry.get("spearman"), "", None, 3, key="spearman"),
            number_cell(entry.get("snr"), "", None, 1, key="snr"),
            number_cell(entry.get("lag_s"), "seconds", None, 1, key="lag_s"),
            number_cell(entry.get("drift"), "", None, 3, key="drift"),
        ]
        rows.append({"id": anchors.claim(path, label), "cells": cells, "path": path})
    heads = ["signal", "verdict", "elasticity", "checks", "Spearman ρ", "SNR", "lag", "drift"]
    return table("Signals, best first; intervals are 95 %", heads, rows)


CHECK_NAMES = {
    "rank": "rank",
    "rank_weak": "rank",
    "common_clock": "own moves",
    "no_innovation_link": "innovations",
    "chance": "chance",
    "noise": "SNR",
    "flat": "elasticity",
    "drift": "drift",
    "hysteresis": "hysteresis",
    "elasticity_low": "elasticity",
    "elasticity_high": "elasticity",
    "not_linear": "linearity",
    "class": "kind (latency or queue)",
}
"""Name of a check of the verdict rule by the code of its reason."""


def checks_line(entry: Mapping[str, Any]) -> str:
    """Return which checks a signal failed and which it passed, or why it was not tested.

    Passed checks are those whose number would change the verdict if it crossed its limit; where no single
    number would, only what failed is named.
    """
    codes = [str(reason.get("code")) for reason in records(entry.get("reasons"))]
    if entry.get("verdict") == "unknown":
        return next(
            (text for r in entry.get("reasons") or [] if (text := reason_text(r))), "not tested: no reason"
        )
    failed = list(dict.fromkeys(CHECK_NAMES[code] for code in codes if code in CHECK_NAMES))
    near = [str(turn.get("code")) for turn in records(entry.get("turns"))]
    passed = list(dict.fromkeys(CHECK_NAMES.get(code, code.replace("_", " ")) for code in near))
    passed = [check for check in passed if check not in failed]
    said = [f"Failed: {', '.join(failed)}."] if failed else []
    said += [f"Passed: {', '.join(passed)}."] if passed else []
    if entry.get("verdict") == "proportional" and not said:
        return "Passed every check."
    return " ".join(said) or next(
        (text for r in entry.get("reasons") or [] if (text := reason_text(r))), "no reason was recorded"
    )


def _further(entry: Mapping[str, Any]) -> list[str]:
    """Return the reasons of a verdict in full, then intervals, coverage and source."""
    found = [text for reason in entry.get("reasons") or [] if (text := reason_text(reason))]
    for key, label, unit, decimals in (("spearman", "Spearman ρ", "", 3), ("lag", "lag", "seconds", 1)):
        if between := interval(entry.get(f"{key}_ci"), unit, decimals):
            found.append(f"{label}, 95 % interval: {between}{' s' if unit else ''}")
    if is_number(entry.get("coverage")):
        found.append(f"coverage: {percent(entry['coverage'])}")
    if is_number(entry.get("n_effective")):
        found.append(f"independent observations: {fixed(entry['n_effective'], 0)}")
    if entry.get("source"):
        found.append(f"source: {str(entry['source']).replace('_', ' ')}")
    return found


def capacities(name: str, service: Mapping[str, Any], anchors: Anchors) -> list[dict[str, Any]]:
    """Return one card per role and GPU type: the number, its interval, status and reason."""
    cards = []
    for place, entry in enumerate(records(service.get("capacity"))):
        role, gpu = str(entry.get("role")), entry.get("gpu_type")
        what = f"capacity@{role}" + (f"@{gpu}" if gpu else "")
        path = evidence_path(name, "derive", what, entry.get("evidence"))
        unit = unit_of(str(entry.get("signal"))) or "tokens/s"
        cell = number_cell(entry.get("per_instance"), unit, entry.get("ci"), strong=True, key="per_instance")
        cell |= {"per": f"per {role} instance", "status": status(entry.get("status"))}
        cards.append(
            {
                "id": anchors.claim(path, cell["text"]),
                "path": path,
                "role": role,
                "gpu_type": gpu,
                "title": role.capitalize() + (f" on {gpu}" if gpu else ""),
                "cell": cell,
                "basis": _BASIS.get(str(entry.get("basis")), ""),
                "method": str(entry.get("method") or ""),
                "reason": reason_text(entry.get("reason")),
                "coverage": coverage_text(entry),
                "place": place,
            }
        )
    return cards


_BASIS = {
    "slo": "from the windows in which the objective was and was not held",
    "observed": "from what the instances already carried",
    "bench": "from a benchmark",
    "profile": "from a profile",
}


def thresholds(name: str, service: Mapping[str, Any], chosen: Choice, anchors: Anchors) -> dict[str, Any]:
    """Return the thresholds; rows of the chosen policy come first and say so."""
    entries = list(enumerate(records(service.get("thresholds"))))
    sizing = [id(threshold_of(service, *pair)) for pair in chosen.primaries if chosen.follows]
    entries.sort(key=lambda item: (id(item[1]) not in sizing, item[0]))
    rows = []
    for _, entry in entries:
        signal, role, gpu = str(entry.get("signal")), str(entry.get("role") or ""), entry.get("gpu_type")
        path = threshold_path(name, entry)
        target = number_cell(entry.get("target_per_instance"), unit_of(signal), key="target_per_instance")
        used = id(entry) in sizing
        note = " · ".join(
            part for part in ("sizes the pool" if used else "", str(gpu) if gpu else "") if part
        )
        cells = [
            text_cell(signal_label(signal, role), note=note),
            target,
            number_cell(entry.get("headroom_ratio"), "", decimals=2, key="headroom_ratio"),
            estimate_cell(entry.get("capacity"), unit_of(signal), key="capacity"),
            *(_ratio_cell(entry.get(key), key) for key in ("scale_out_ratio", "scale_in_ratio")),
            *(number_cell(entry.get(key), "s", key=key) for key in ("cooldown_out_s", "cooldown_in_s")),
            status_cell(entry.get("status"), key="status"),
            text_cell(reason_text(entry.get("reason")), wide=True),
        ]
        rows.append({"id": anchors.claim(path, target["text"]), "cells": cells, "path": path})
    heads = [
        "signal",
        "target per instance",
        "share of the load of lower end or floor",
        "capacity",
        "noise asks: out above",
        "noise asks: in below",
        "usual rest before out",
        "usual rest before in",
        "status",
        "reason",
    ]
    return table("Thresholds; intervals are 95 %", heads, rows) | {"bands": _bands(chosen) if rows else ""}


def _bands(chosen: Choice) -> str:
    """Return where the bands and rests of the policy stand: what noise asks for is not what was selected."""
    where = "The policy's own bands and rests are hysteresis, reading and cooldown of policy.yaml"
    band, over_s = mapping(chosen.spec.get("hysteresis")), mapping(chosen.spec.get("reading")).get("over_s")
    ratios = [band.get(key) for key in ("scale_out_ratio", "scale_in_ratio")]
    if not chosen.follows or band.get("by_role") or not all(map(is_number, ratios)):
        return f"{where}."
    held = f" for {over_s:g} s" if is_number(over_s) else ""
    return f"{where}: out above {ratios[0]:g}, in below {ratios[1]:g}{held}."


def threshold_path(name: str, entry: Mapping[str, Any]) -> str:
    """Return the evidence path of a threshold."""
    gpu = entry.get("gpu_type")
    what = f"threshold:{entry.get('signal')}@{entry.get('role')}" + (f"@{gpu}" if gpu else "")
    return evidence_path(name, "derive", what, entry.get("evidence"))


def _ratio_cell(value: Any, key: str) -> Cell:
    return number_cell(value, "× target", None, 2, key=key)


def startups(name: str, service: Mapping[str, Any], anchors: Anchors) -> dict[str, Any]:
    """Return how long instances of each pool took from being asked for to their first work."""
    rows = []
    for entry in records(service.get("startup")):
        role = str(entry.get("role"))
        path = evidence_path(name, "derive", f"startup@{role}", entry.get("evidence"))
        took = number_cell(entry.get("value_s"), "s", entry.get("ci"), key="value_s")
        cells = [
            text_cell(role),
            took,
            number_cell(entry.get("births"), decimals=0, key="births"),
            status_cell(entry.get("status"), key="status"),
            text_cell(reason_text(entry.get("reason")), wide=True),
        ]
        rows.append({"id": anchors.claim(path, took["text"]), "cells": cells, "path": path})
    heads = ["pool", "start-up time", "instances that came", "status", "reason"]
    return table("Start-up times; intervals are 95 %, of fewer than six instances the range", heads, rows)


def findings(frame: pl.DataFrame, level: Sequence[str] = ("fail", "warn")) -> dict[str, Any]:
    """Return checks of the given levels, worst first, with when they apply."""
    rows = []
    kept = frame.filter(pl.col("level").is_in(list(level))).sort("check", "start", "text", nulls_last=True)
    for entry in sorted(kept.iter_rows(named=True), key=lambda e: LEVEL_ORDER.index(e["level"])):
        when = span(entry["start"], entry["end"]) if entry["start"] is not None else "all of it"
        cells = [
            text_cell(entry["check"].replace("_", " ")),
            status_cell(entry["level"]),
            text_cell(entry["text"], wide=True),
            text_cell(when),
        ]
        rows.append({"id": "", "cells": cells})
    return table("What was found in the data", ["check", "level", "finding", "when"], rows)


def totals(service: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return totals as recorded, in full digits so that they can be reconciled with a bill."""
    given = mapping(service.get("totals"))
    names = (
        ("requests", "requests"),
        ("prompt_tokens", "prompt tokens"),
        ("output_tokens", "output tokens"),
        ("instance_hours", "instance-hours"),
        ("gpu_hours", "GPU-hours"),
    )
    return [
        {"label": words, "text": _total(given.get(key)) if "hours" in key else count(given.get(key))}
        for key, words in names
    ]


def _total(hours: Any) -> str:
    return fixed(hours, 0 if is_number(hours) and abs(hours) >= 100 else 1)


def saturated(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stretches in which served work hides the demand."""
    rows = [
        {
            "id": "",
            "cells": [text_cell(span(w.get("start"), w.get("end"))), text_cell(w.get("reason"), wide=True)],
        }
        for w in records(mapping(service.get("demand")).get("censored_windows"))
    ]
    return table("Saturated stretches: demand there is not known from served work", ["when", "why"], rows)


def coverage(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what was read, stored and rejected."""
    given = mapping(summary.get("coverage"))
    names = (
        ("rows_read", "samples read"),
        ("rows_stored", "stored"),
        ("duplicates", "exact duplicates"),
        ("superseded", "superseded"),
        ("rows_rejected", "rejected"),
        ("series", "series"),
        ("series_unmapped", "series without a service"),
    )
    listed = [{"label": words, "text": count(given.get(key))} for key, words in names]
    if is_number(given.get("ratio")):
        listed.append({"label": "coverage", "text": percent(given["ratio"])})
    return listed


def missing(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return signals that the input does not hold, and how to switch them on."""
    rows = [
        {
            "id": "",
            "cells": [
                text_cell(signal_label(str(m.get("signal")), str(m.get("role") or ""))),
                text_cell(m.get("how_to_enable"), wide=True),
            ],
        }
        for m in records(mapping(summary.get("coverage")).get("missing"))
    ]
    return table("Signals that were not found", ["signal", "how to switch it on"], rows)


def inputs(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input files with size and hash."""
    given = summary.get("inputs")
    any_superseded = any(row.get("superseded") for row in records(given))
    rows = []
    for entry in given if isinstance(given, list | tuple) else []:
        row = entry if isinstance(entry, Mapping) else {"name": entry}
        name = next((row[key] for key in ("name", "path", "file") if row.get(key)), None)
        size = next((row[key] for key in ("bytes", "size", "size_bytes") if is_number(row.get(key))), None)
        cells = [
            text_cell(name),
            text_cell(count(size), unit="bytes" if size is not None else "", numeric=True),
            text_cell(row.get("sha256"), mono=True),
            *([text_cell(_fate(row), wide=True)] if any_superseded else []),
        ]
        rows.append({"id": "", "cells": cells})
    heads = ["file", "size", "SHA-256", *(["superseded"] if any_superseded else [])]
    return table("Input files", heads, rows)


def _fate(row: Mapping[str, Any]) -> str:
    """Return how many of a file's rows others hold more faithfully, and which."""
    if not row.get("superseded"):
        return "none"
    by = ", ".join(str(name) for name in row.get("superseded_by") or ())
    return f"{count(row['superseded'])} of {count(row.get('rows_read'))} rows, by {by}"


def window(given: Any) -> str:
    """Return the window of the run in words."""
    known = mapping(given)
    return (
        span(known.get("start"), known.get("end")) if known.get("start") or known.get("end") else moment(None)
    )
