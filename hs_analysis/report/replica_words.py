"""The ratio that a history of changing counts shows, in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report import gpu_types
from hs_analysis.report.cells import number_cell, reason_text, table, text_cell
from hs_analysis.report.choice import mapping, records
from hs_analysis.report.wording import interval, is_number, number


def replica_text(answer: Mapping[str, Any]) -> str:
    """Return what the recorded counts show as a sentence, empty where it was not looked for."""
    found = mapping(mapping(answer).get("from_replicas"))
    if not found:
        return ""
    head = "cross-check from the counts that ran"
    if is_number(found.get("value")):
        ends = interval(found.get("ci"))
        value = f"{number(found['value'])}{f' [{ends}]' if ends else ''} prefill per decode by throughput"
        return "; ".join(part for part in (f"{head}: {value}", found.get("text")) if part)
    bounds = [(found.get("at_least"), "at least"), (found.get("at_most"), "at most")]
    known = "".join(f"; {word} {number(value)}" for value, word in bounds if is_number(value))
    return f"{head}: none, {reason_text(found.get('reason'))}{known}"


def beside_ratio(service: Mapping[str, Any]) -> list[str]:
    """Return what stands beside a service's ratio, a line each: GPU types, what the counts show."""
    said = replica_text(mapping(service.get("pd_ratio")))
    return [*gpu_types.lines(service), *([said] if said else [])]


def groups_table(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each pair of counts served while a side held it back, as a table of the page."""
    rows = [
        {
            "id": "",
            "cells": [
                text_cell(f"{group['prefill']:g}P{group['decode']:g}D"),
                text_cell(group.get("limited")),
                number_cell(group.get("windows"), decimals=0),
                number_cell(group.get("per_instance_tps"), "tokens/s"),
            ],
        }
        for group in records(mapping(mapping(answer).get("from_replicas")).get("groups"))
    ]
    heads = ["counts that ran", "held back by", "windows", "work of one instance of that pool"]
    return table("What the pools served while a backlog held requests back", heads, rows)
