"""The chart of the P/D ratio: the balance of each stretch, or the token mix that moves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from hs_analysis.report import marks
from hs_analysis.report.charts import Chart, line_rows, make
from hs_analysis.report.choice import records
from hs_analysis.report.thinning import csv_number, csv_time
from hs_analysis.report.wording import interval, is_number, number, parse_time


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
