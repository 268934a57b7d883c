"""Charts of policies: what they cost against what they break, and signals tried as drivers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs_analysis.report import replay_words
from hs_analysis.report.chart_templates import FRONT_KINDS, HEIGHT_PX, HERE, LOAD
from hs_analysis.report.charts import Chart, make
from hs_analysis.report.choice import headline_of, mapping, records
from hs_analysis.report.driver_words import NEAR_PEAK, finding, in_order
from hs_analysis.report.thinning import csv_number
from hs_analysis.report.wording import is_number, percent, policy_name, replayed_on, signal_label
from hs_analysis.schema.names import (
    BURST,
    COUNTS,
    DEFAULT_HPA,
    FAULTS,
    HINDSIGHT,
    IN_SAMPLE,
    ORACLE,
    RECORDED,
)


def drivers(tried: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw how far each driver's instances fall when the load dips, beside the load."""
    rows = []
    for entry in in_order(tried):
        if not is_number(entry.get("dip_ratio")):
            continue
        label = signal_label(str(entry.get("signal")), str(entry.get("role") or ""))
        values = (
            (HERE, entry.get("dip_ratio")),
            (LOAD, entry.get("load_dip_ratio")),
        )
        rows += [[label, kind, csv_number(value)] for kind, value in values if is_number(value)]
    if not rows:
        return None
    title = finding(tried)
    reading = (
        "Each row is a signal as the driver of its pool. A point near the load's own mark gives back what "
        f"the load no longer needs; one in the shaded zone (over {NEAR_PEAK}) stays up and pays for idle "
        "instances."
    )
    zone = [{"low": NEAR_PEAK, "high": 1.05, "text": "stays near its peak"}]
    here = "; ".join(f"{label} {value}" for label, kind, value in rows if kind == HERE)
    return make(
        "drivers",
        "drivers",
        (title, reading, f"{title}. Instances at the dip ÷ at the peak: {here}."),
        (["driver", "kind", "ratio"], rows),
        datasets={"bands": zone},
    )


WIDTH_PX, LABEL_PX, LETTER_PX, TOGETHER_PX = 560, 14, 6, 24
"""About what a chart, a line of labels, a letter, and marks that touch take on the page."""

MOST_NAMES = 3
"""Most names of dots that stand together; the tooltip of each has its own."""


@dataclass(frozen=True)
class _Dot:
    """One policy: its kind, hours as a share of those recorded, shares over the limit; None = not known."""

    name: str
    kind: str
    hours: float
    violations: float
    faults: float | None


def front(service: Mapping[str, Any]) -> Chart | None:
    """Draw hours against windows over the limit, undisturbed and under faults, of all that was replayed.

    Beside the rows of the test window stand the candidates of the training window that no other beats; hours
    are shares of those recorded in the same window, so that both can be read on one axis.
    """
    tested = _tested(service)
    if len(tested) < len(("one", "another")):
        return None
    dots = [*_candidates(service), *reversed(tested)]  # the selected policy lies on top
    labels = _labels(tested, dots)
    rows = [
        [
            dot.name, dot.kind, csv_number(dot.hours), csv_number(dot.violations),
            "" if dot.faults is None else csv_number(dot.faults), *labels.get(id(dot), ("", "", "")),
        ]
        for dot in dots
    ]  # fmt: skip
    ours = next((dot for dot in tested if dot.kind == FRONT_KINDS[0]), None)
    title = "Hours against windows over the limit"
    if ours:
        one_day = mapping(service.get("decision")).get("by_blocks")
        who = f"On {replayed_on(service)}, the selected policy" if one_day else "The selected policy"
        title = f"{who} needs {percent(ours.hours)} of the recorded hours and is over the limit "
        title += f"in {percent(ours.violations)} of windows"
    known = sum(dot.faults is not None for dot in tested)
    reading = (
        "One mark a policy: to the left it needs fewer hours, below it breaks the limit less often. A line "
        f"up to a tick is its mean share under faults ({known} of {len(tested)} were replayed under faults). "
        "The vertical axis is a square root, so that small shares stay apart."
    )
    listed = "; ".join(f"{dot.name} {percent(dot.hours)}, {percent(dot.violations)}" for dot in tested)
    return make(
        "front",
        "front",
        (title, reading, f"{title}. Share of recorded hours, windows over the limit: {listed}."),
        (["policy", "kind", "hours", "violations", "faults", "label", "side", "lift"], rows),
        places={"X": "hours, share of those recorded", "Y": "windows over the limit (%)"},
    )


def _tested(service: Mapping[str, Any]) -> list[_Dot]:
    """Return the rows of the test window that have hours and a share over the limit."""
    replay = mapping(service.get("replay"))
    entries = replay_words.in_order(records(replay.get("policies")), service)
    headline = headline_of(replay) or next(
        (str(one.get("policy")) for one in records(service.get("selection")) if one.get("chosen")), ""
    )
    base = _hours(next((one for one in entries if one.get("policy") == RECORDED), {}))
    faults = _faults(replay, headline)
    found = []
    for entry in entries:
        name, hours, share = str(entry.get("policy")), _hours(entry), entry.get("slo_violation_ratio")
        if name in (ORACLE, IN_SAMPLE) or not base or not is_number(hours) or not is_number(share):
            continue
        found.append(_Dot(_said(name), _kind(name, headline), hours / base, share, faults.get(name)))
    return found


def _kind(name: str, headline: str) -> str:
    selected, _, others, still, bound = FRONT_KINDS
    if name == headline:
        return selected
    if name == HINDSIGHT:
        return bound
    return still if name in COUNTS else others


def _said(name: str) -> str:
    return {HINDSIGHT: "hindsight (best schedule found)", DEFAULT_HPA: "default HPA"}.get(
        name, policy_name(name)
    )


def _hours(entry: Mapping[str, Any]) -> Any:
    """Return GPU-hours, else instance-hours."""
    return entry["gpu_hours"] if is_number(entry.get("gpu_hours")) else entry.get("instance_hours")


def _faults(replay: Mapping[str, Any], headline: str) -> dict[str, float]:
    """Return the mean share over the limit under faults, by row, of those replayed under every fault."""
    under = mapping(mapping(replay.get("calibration")).get("under_faults"))
    keys = {headline: "policy", DEFAULT_HPA: DEFAULT_HPA}
    means = {name: mapping(under.get(key)).get("faults") for name, key in keys.items()}
    found = {name: mean for name, mean in means.items() if is_number(mean)}
    shares: dict[str, list[float]] = {}
    for row in records(replay.get("faults")):
        if row.get("fault") not in ("none", BURST) and is_number(row.get("slo_violation_ratio")):
            shares.setdefault(str(row.get("policy")), []).append(row["slo_violation_ratio"])
    whole = {
        name: sum(values) / len(values) for name, values in shares.items() if len(values) == len(FAULTS) - 1
    }
    return whole | found


def _candidates(service: Mapping[str, Any]) -> list[_Dot]:
    """Return the candidates that no other beats on the training window, one of those that do the same.

    None where the recorded hours of that window are not known.
    """
    entries = records(service.get("selection"))
    bases = [
        _hours(one) / (1.0 - one["score"])
        for one in entries
        if is_number(one.get("score")) and is_number(_hours(one)) and one["score"] < 1.0
    ]
    found: dict[tuple[str, str], _Dot] = {}
    for one in entries:
        hours, share = _hours(one), one.get("slo_violation_ratio")
        if not (bases and one.get("front") and is_number(hours) and is_number(share)):
            continue
        if one.get("policy") != DEFAULT_HPA:
            name = policy_name(str(one.get("policy")))
            dot = _Dot(name, FRONT_KINDS[1], hours / bases[0], share, one.get("fault_violation_ratio"))
            found.setdefault((csv_number(dot.hours), csv_number(share)), dot)
    return list(found.values())


def _labels(named: Sequence[_Dot], dots: Sequence[_Dot]) -> dict[int, tuple[str, str, str]]:
    """Return label, side and lift [px] by identity of a dot: one for those that stand together.

    Labels that would cross stand above each other.
    """
    low, high = min(dot.hours for dot in dots), max(dot.hours for dot in dots)
    top = max(max(dot.violations, dot.faults or 0.0) for dot in dots) or 1.0
    groups: list[tuple[float, float, list[_Dot]]] = []
    for dot in sorted(named, key=lambda one: (one.violations, one.hours)):
        across = WIDTH_PX * (dot.hours - low) / ((high - low) or 1.0)
        up = HEIGHT_PX * math.sqrt(max(dot.violations, 0.0) / top)
        near = (g for g in groups if abs(up - g[1]) < LABEL_PX and abs(across - g[0]) < TOGETHER_PX)
        group = next(near, None)
        if group is None:
            groups.append((across, up, [dot]))
        else:
            group[2].append(dot)
    found: dict[int, tuple[str, str, str]] = {}
    taken: list[tuple[float, float, float]] = []
    for across, up, members in groups:
        text, right = _together(members), across < WIDTH_PX / 2
        length = LETTER_PX * len(text)
        ends = (across, across + length) if right else (across - length, across)
        lift = 0
        while any(abs(up + lift - at) < LABEL_PX and ends[0] < b and a < ends[1] for a, b, at in taken):
            lift += LABEL_PX
        taken.append((*ends, up + lift))
        found[id(members[0])] = (text, "right" if right else "left", str(lift))
    return found


def _together(members: Sequence[_Dot]) -> str:
    """Return the names of dots that stand together, the selected policy first."""
    names = [dot.kind if dot.kind == FRONT_KINDS[0] else dot.name.partition(", ")[0] for dot in members]
    names.sort(key=lambda name: name != FRONT_KINDS[0])
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
