"""Charts of the answers: capacity per role, and the P/D ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from hs_analysis.report import chart_templates, marks
from hs_analysis.report.charts import Chart, line_rows, make
from hs_analysis.report.choice import mapping, records
from hs_analysis.report.load_groups import quantile_groups, share_groups
from hs_analysis.report.slo import of_samples
from hs_analysis.report.thinning import csv_number, csv_time
from hs_analysis.report.wording import (
    interval,
    is_number,
    number,
    parse_time,
    percent,
    plural,
    unit_of,
)


def capacity(
    role: str,
    entry: Mapping[str, Any],
    target: Mapping[str, Any],
    points: pl.DataFrame,
    curve: pl.DataFrame,
    allowed: float | None,
) -> Chart | None:
    """Draw the share of violating windows against load per instance with the fit, the limit and the answer.

    Parameters
    ----------
    role, entry, target
        Role, its capacity over all GPU types, and the threshold that is steered to.
    points, curve
        The role's capacity points and fitted curve.
    allowed
        Share of windows that may violate; None when not known.
    """
    decided = points.filter(pl.col("load_per_instance").is_finite() & pl.col("violates").is_not_null())
    samples = of_samples(entry)
    groups = share_groups(points) if samples else quantile_groups(decided)
    rows = [
        [csv_number(load), csv_number(share), csv_number(low), csv_number(high), str(int(n)), ""]
        for load, share, low, high, n in groups.iter_rows()
    ]
    line = curve.sort("load_per_instance").select("load_per_instance", "violation_probability")
    rows += [[csv_number(x), "", "", "", "", csv_number(y)] for x, y in line.iter_rows()]
    if not rows and not is_number(entry.get("per_instance")):
        return None
    rules = _rules(entry, target)
    of = "samples" if samples else "windows"
    words = f"allowed share of {of} {percent(allowed)}"
    given = mapping(entry.get("reason")).get("code") != "no_slo"
    limit = [{"y": allowed, "text": words}] if is_number(allowed) and given else []
    judged = points.filter(pl.col("load_per_instance").is_finite())
    between = judged.filter(
        pl.col("violates").is_null()
        & pl.col("over_ratio").is_finite()
        & pl.col("over_least_ratio").is_finite()
    ).height
    known = judged.filter(pl.col("over_ratio").is_finite()).height
    missing = points.height - (known if samples else decided.height + between)
    reading = (
        "Each point is a group of windows of about equal load with "
        + ("its mean share of samples over the limit; " if samples else "its 95 % interval; ")
        + "the line is the fit"
        + (", the shaded strip the interval of the answer" if rules and rules[0]["low"] is not None else "")
        + (f", the dashed line the allowed share ({percent(allowed)})." if limit else ".")
    )
    if between and not samples:
        left_out = plural(between, "window")
        reading += f" {left_out} left out: one histogram bucket about the limit holds all samples there."
    if not given:
        reading = "No limit on the latency was given, so that no window is over one."
    elif missing:
        reading += f" {plural(missing, 'window')} left out: no samples of the latency, or no load."
    unit = unit_of(str(entry.get("signal"))) or "tokens/s"
    title = _capacity_title(role, entry, unit)
    places = {
        "X": f"work per {role} instance ({unit})",
        "Y": f"{of} over the limit (%)",
        "COLOUR": chart_templates.ROLE_COLOURS.get(role, "var(--c-service)"),
        "DOMAIN": [rule["text"] for rule in rules],
    }
    header = ["load", "share", "low", "high", "windows", "fit"]
    return make(
        "capacity",
        f"capacity-{role}",
        (title, reading, title + "."),
        (header, rows),
        places=places,
        datasets={"marks": rules, "bands": limit},
    )


def _rules(entry: Mapping[str, Any], target: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the answer with its interval and the target, as rules of the chart."""
    rules = []
    if is_number(entry.get("per_instance")):
        ends = interval(entry.get("ci"))
        low, high = entry["ci"] if ends else (None, None)
        word = "carried" if entry.get("status") == "floor" else "capacity"
        text = f"{word} {number(entry['per_instance'])}" + (f" ({ends})" if ends else "")
        rules.append({"text": text, "value": entry["per_instance"], "low": low, "high": high})
    if is_number(target.get("target_per_instance")):
        value = target["target_per_instance"]
        rules.append({"text": f"target {number(value)}", "value": value, "low": None, "high": None})
    return rules


def _capacity_title(role: str, entry: Mapping[str, Any], unit: str) -> str:
    name, value = role.capitalize(), number(entry.get("per_instance"))
    if entry.get("status") == "ok":
        return f"{name} holds the objective up to {value} {unit} per instance"
    if entry.get("status") == "floor":
        return f"{name} already carried {value} {unit} per instance; {_beyond(entry)}"
    return f"{name}: no capacity could be had from these windows"


def _beyond(entry: Mapping[str, Any]) -> str:
    """Return what is known of loads above a floor."""
    code, ratio = mapping(entry.get("reason")).get("code"), entry.get("carried_ratio")
    if code == "no_slo":
        return "no limit was given to set it against"
    if is_number(ratio) and ratio > 1.0:
        return f"up to {number(entry['per_instance'] * ratio)} was inside the limit for a time"
    return "its limit was met too seldom to say more" if code == "thin" else "more was never tested"


def ratio(answer: Mapping[str, Any], mix: pl.DataFrame, service: Mapping[str, Any]) -> Chart | None:
    """Draw the balanced ratio of each stretch; without any, the token mix that moves it.

    The events of ``service`` are marked.
    """
    stretches = _stretches(answer, mix)
    if not stretches:
        return _token_mix(mix, service)
    *_, happened = marks.between(
        service, parse_time(min(s[0] for s in stretches)), parse_time(max(s[1] for s in stretches))
    )
    value, drifting = answer.get("value"), answer.get("status") == "drifting"
    ci = answer.get("band") if drifting else answer.get("ci")
    answers = [
        {"value": answer.get(key), "text": f"{words} {number(answer.get(key))}"}
        for key, words in (("value", "answer"), ("at_least", "at least"), ("at_most", "at most"))
        if is_number(answer.get(key)) and (key == "value" or not is_number(value))
    ]
    ends = interval(ci)
    band = (
        [{"low": ci[0], "high": ci[1], "text": f"{'band' if drifting else 'interval'} {ends}"}]
        if ends and ci is not None
        else []
    )
    low, high = min(float(s[3]) for s in stretches), max(float(s[3]) for s in stretches)
    title = _ratio_title(answer, low, high)
    reading = (
        "Each point is the balanced ratio of one stretch, with its interval where it has one"
        + (f"; shaded: the {'band of the day' if drifting else 'interval of the answer'}." if band else ".")
        + " Points far outside mean that one fixed ratio can't be right all day."
        + marks.words([], [], happened)
    )
    places = {"Y": "prefill ÷ decode instances", "DOMAIN": [m["text"] for m in answers]}
    header = ["start", "end", "middle", "ratio", "low", "high"]
    return make(
        "ratio",
        "ratio",
        (title, reading, title + "."),
        (header, stretches),
        places=places,
        datasets={"marks": answers, "bands": band, "events": happened},
    )


def _ratio_title(answer: Mapping[str, Any], low: float, high: float) -> str:
    moved, value = f"between {number(low)} and {number(high)}", answer.get("value")
    if answer.get("status") == "ok":
        return f"{number(value)} prefill per decode instance balances the pools (stretches {moved})"
    if answer.get("status") == "drifting":
        return f"The balance moves {moved}: no single ratio is right"
    if answer.get("status") == "floor":
        return f"At the targets {number(value)} balances the pools; single stretches lie {moved}"
    return f"Single stretches lie {moved}; they don't pin one ratio"


def _stretches(answer: Mapping[str, Any], mix: pl.DataFrame) -> list[list[str]]:
    """Return CSV rows (start, end, middle, ratio, low, high), from the answer, else from the mix table."""
    rows: list[tuple[Any, Any, Any, Any]] = [
        (w.get("start"), w.get("end"), w.get("value"), w.get("ci")) for w in records(answer.get("by_window"))
    ]
    if not rows and mix.height:
        rows = [
            (a, b, r, None)
            for a, b, r in mix.sort("capture", "start").select("start", "end", "ratio").iter_rows()
        ]
    found = []
    for start, end, value, ci in rows:
        first, last = parse_time(start), parse_time(end)
        if first is None or last is None or not is_number(value):
            continue
        a, b = first.timestamp(), last.timestamp()
        ends = [csv_number(end) for end in ci] if interval(ci) else ["", ""]
        found.append([csv_time(a), csv_time(b), csv_time((a + b) / 2), csv_number(value), *ends])
    return found


def _token_mix(mix: pl.DataFrame, service: Mapping[str, Any]) -> Chart | None:
    """Draw prefill work per decode work over time: what any ratio has to follow."""
    if mix.is_empty():
        return None
    frame = mix.select(
        "capture",
        t=pl.col("start"),
        value=pl.when(pl.col("decode_tps") > 0).then(pl.col("prefill_tps") / pl.col("decode_tps")),
    )
    finite = frame.filter(pl.col("value").is_finite())["value"]
    if finite.is_empty():
        return None
    name = "prefill ÷ decode work"
    low, high = number(finite.min()), number(finite.max())
    title = f"The token mix moves between {low} and {high}; the ratio it asks for is not known"
    *_, happened = marks.between(service, parse_time(mix["start"].min()), parse_time(mix["start"].max()))
    reading = (
        "Cache-missed prompt tokens per generated token. The ratio of instances must follow it, "
        "times the ratio of targets." + marks.words([], [], happened)
    )
    places = {
        "Y": "prefill ÷ decode tokens",
        "FORMAT": "~g",
        "DOMAIN": [name],
        "COLOURS": ["var(--c-service)"],
        "WIDTHS": [1.75],
    }
    return make(
        "series",
        "mix",
        (title, reading, title + "."),
        (["t", "series", "capture", "value", "lone"], line_rows(frame, name, "value", 500)),
        places=places,
        datasets={"events": happened},
    )
