"""Ratio tests in words: the best split of each, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.cells import Anchors, bare_path, number_cell, table, text_cell
from hs_analysis.report.choice import mapping, records
from hs_analysis.report.wording import interval, is_number, number, percent, seconds

Sweep = Mapping[str, Any]

DECIDES = {
    "ttft": "the limit on TTFT",
    "tbt": "the limit on TBT",
    "both": "both limits",
    "throughput": "what it can serve, not by a limit",
}
"""What holds the best split back, in words."""


def mix_text(sweep: Sweep) -> str:
    """Return ``1,800 in, 150 out``, empty where the lengths are not known."""
    parts = [
        f"{number(sweep.get(key))} {word}"
        for key, word in (("isl", "in"), ("osl", "out"))
        if is_number(sweep.get(key))
    ]
    return ", ".join(parts)


def judged_text(sweep: Sweep) -> str:
    """Return by what the splits were compared."""
    if sweep.get("judged_on") != "slo":
        return "decode TPS alone"
    limits = [
        f"{name.upper()} ≤ {seconds(sweep.get(f'{name}_s'))}"
        for name in ("ttft", "tbt")
        if is_number(sweep.get(f"{name}_s"))
    ]
    share = f" for {100 * sweep['quantile']:g} %" if is_number(sweep.get("quantile")) else ""
    return ", ".join(limits) + share


def pair_text(pair: Any) -> str:
    """Return ``9P7D``, empty without a split."""
    return f"{pair[0]}P{pair[1]}D" if pair else ""


def best_text(sweep: Sweep) -> str:
    """Return the best split with those within 3 % of it, or why there is none."""
    if not sweep.get("best"):
        return str(mapping(sweep.get("reason")).get("text") or "none")
    near = [pair_text(pair) for pair in sweep.get("near") or [] if pair != sweep["best"]]
    more = f"; within 3 %: {', '.join(near)}" if near else "; no other within 3 %"
    return f"{pair_text(sweep['best'])}{more}"


def why_text(sweep: Sweep) -> str:
    """Return the reason of a status, what holds the split back, and what the continuous ratio says."""
    parts = [mapping(sweep.get("reason")).get("text")] if sweep.get("best") else []
    if sweep.get("decides"):
        parts.append(f"held back by {DECIDES[str(sweep['decides'])]}")
    unknown = mapping(sweep.get("continuous_reason"))
    parts.append(sweep.get("disagreement_text"))
    if _bound(sweep) or is_number(sweep.get("continuous")):
        parts.append(unknown.get("text"))
    bounds = [(sweep.get("at_least"), "at least"), (sweep.get("at_most"), "at most")]
    parts += [f"{word} {number(value)}" for value, word in bounds if is_number(value)]
    return "; ".join(str(part) for part in parts if part)


def _bound(sweep: Sweep) -> bool:
    return is_number(sweep.get("at_least")) or is_number(sweep.get("at_most"))


def line(sweep: Sweep) -> str:
    """Return one ratio test as a line."""
    mix = mix_text(sweep)
    named = f"{sweep['name']}{f' ({mix})' if mix else ''}"
    ratio = f", ratio {number(sweep.get('ratio'))}" if is_number(sweep.get("ratio")) else ""
    ends = interval(sweep.get("between"))
    span = f" [{ends}]" if ends else ""
    why = why_text(sweep)
    tail = f"; {why}" if why else ""
    return (
        f"ratio test {named}, {judged_text(sweep)}: {best_text(sweep)}{ratio}{span}, {sweep['status']}{tail}"
    )


def profile_line(found: Mapping[str, Any]) -> str:
    """Return what a profile gives for some requests as a line."""
    head = f"profile {found['name']} for {found['source']} ({mix_text(found)})"
    if found.get("status") != "ok":
        return f"{head}: refused; {mapping(found.get('reason')).get('text')}"
    share = found["outside_ratio"]
    outside = f", {percent(share, whole=True)} of requests outside it" if share else ""
    return (
        f"{head}: ratio {number(found['ratio'])}; an instance carries {number(found['prefill_tps'])} prompt"
        f" or {number(found['decode_tps'])} output tokens/s without queueing{outside}"
    )


def sweep_table(summary: Mapping[str, Any], anchors: Anchors) -> dict[str, Any]:
    """Return the ratio tests of a run as a table of the page."""
    rows = []
    for sweep in records(summary.get("sweeps")):
        cells = [
            text_cell(sweep.get("name"), note=mix_text(sweep)),
            text_cell(judged_text(sweep)),
            text_cell(best_text(sweep), note=str(sweep.get("status") or "")),
            number_cell(sweep.get("ratio"), "", sweep.get("between")),
            number_cell(sweep.get("gpu_ratio")),
            number_cell(sweep.get("continuous")),
            text_cell(why_text(sweep), wide=True),
        ]
        path = bare_path(str(sweep.get("evidence") or ""))
        rows.append({"id": anchors.claim(path, str(cells[2]["text"])), "cells": cells, "path": path})
    heads = [
        "test", "judged on", "best split measured", "ratio, between splits that serve less", "ratio in GPUs",
        "balance without limits", "why",
    ]  # fmt: skip
    return table("Ratio tests: splits compared by what they served", heads, rows)
