"""GPU types of a pool that mixes them, in equivalents: for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.cells import (
    Anchors,
    evidence_path,
    number_cell,
    reason_text,
    status_cell,
    table,
    text_cell,
)
from hs_analysis.report.choice import mapping, records
from hs_analysis.report.sweeps import mix_text
from hs_analysis.report.wording import interval, is_number, number

BASIS = {
    "capacity": "from the capacity of each type",
    "profile": "from profiles of each type",
    "equal_queue": "from the work served with as many requests held",
    "bench": "from a benchmark of them",
}
"""What a speed was read from, in words."""


def table_of(name: str, service: Mapping[str, Any], anchors: Anchors) -> dict[str, Any]:
    """Return the GPU types of pools that mix them as a table of the page."""
    rows = []
    for entry in records(service.get("gpu_speeds")):
        what = f"speed@{entry.get('role')}@{entry.get('gpu_type')}"
        path = evidence_path(name, "derive", what, entry.get("evidence"))
        weight = number_cell(entry.get("weight"), key="weight")
        cells = [
            text_cell(entry.get("gpu_type"), note=str(entry.get("role") or "")),
            number_cell(entry.get("instances"), key="instances"),
            number_cell(entry.get("relative"), "", entry.get("ci"), key="relative"),
            weight,
            number_cell(entry.get("pods"), key="pods"),
            status_cell(entry.get("status"), key="status"),
            text_cell(reason_text(entry.get("reason")) or BASIS.get(str(entry.get("basis"))), wide=True),
        ]
        rows.append({"id": anchors.claim(path, str(weight["text"])), "cells": cells, "path": path})
    heads = [
        "GPU type", "mean pods recorded", "speed ÷ the most numerous type's",
        "one pod counts (1 = mean pod recorded)", "pods for the 95 % demand, fastest first", "status", "how",
    ]  # fmt: skip
    return table("GPU types in equivalents; intervals are 95 %", heads, rows)


def speed_line(entry: Mapping[str, Any]) -> str:
    """Return how fast one GPU type is, as a line."""
    head = f"GPU type {entry['gpu_type']} ({entry['role']})"
    if not is_number(entry.get("weight")):
        return f"{head}: {reason_text(entry.get('reason'))}"
    ends = interval(entry.get("ci"))
    against = f" [{ends}]" if ends and entry["gpu_type"] != entry["reference"] else ""
    pods = f"; {entry['pods']} of them for the 95 % demand" if entry.get("pods") is not None else ""
    return (
        f"{head}: {number(entry['relative'])}{against} of a {entry['reference']}, counts"
        f" {number(entry['weight'])} mean pods,"
        f" {reason_text(entry.get('reason')) or BASIS[str(entry['basis'])]}{pods}"
    )


def lines(service: Mapping[str, Any]) -> list[str]:
    """Return the GPU types of a service's pools, and its ratio in pods of each, a line each."""
    said = ratios_text(mapping(service.get("pd_ratio")))
    found = [speed_line(entry) for entry in records(service.get("gpu_speeds"))]
    return found + ([f"P/D ratio {said}"] if said else [])


def ratios_text(answer: Mapping[str, Any]) -> str:
    """Return the ratio in pods of each pair of types, empty where no pool mixes types."""
    parts = []
    for entry in records(mapping(answer).get("by_gpu_type")):
        p, d = (entry.get(key) for key in ("prefill_type", "decode_type"))
        words = (
            f"{number(entry['value'])} prefill{f' on {p}' if p else ''} per decode{f' on {d}' if d else ''}"
        )
        parts.append(words)
    return "in pods of each type: " + "; ".join(parts) if parts else ""


def bench_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what the GPU types of each benchmark serve against each other, a line a benchmark."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in records(summary.get("bench_speeds")):
        found.setdefault(f"{entry['name']} ({mix_text(entry) or 'lengths not known'})", []).append(entry)
    lines = []
    for name, entries in found.items():
        types = ", ".join(
            f"{_gpus(entry)}{entry['gpu_type']} {number(entry['tps_per_gpu'])} ({number(entry['relative'])})"
            for entry in entries
        )
        notes = dict.fromkeys(reason_text(e.get("reason")) for e in entries if e.get("reason"))
        lines.append("; ".join([f"GPU types in {name}, output tokens/s per GPU (÷ least): {types}", *notes]))
    return lines


def _gpus(entry: Mapping[str, Any]) -> str:
    return f"{entry['gpus']:g} × " if is_number(entry.get("gpus")) else ""


def bench_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the GPU types of benchmarks against each other as a table of the page."""
    rows = [
        {
            "id": "",
            "cells": [
                text_cell(entry.get("name"), note=mix_text(entry)),
                text_cell(entry.get("gpu_type")),
                number_cell(entry.get("gpus")),
                number_cell(entry.get("tps_per_gpu"), "tokens/s"),
                number_cell(entry.get("relative")),
                text_cell(reason_text(entry.get("reason")), wide=True),
            ],
        }
        for entry in records(summary.get("bench_speeds"))
    ]
    heads = ["benchmark", "GPU type", "GPUs", "output per GPU", "÷ the type that serves least", "note"]
    return table("GPU types of benchmarks, at equal load", heads, rows)
