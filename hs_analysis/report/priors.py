"""What performance tables predict beside what the data say: for the page and for the terminal."""

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
from hs_analysis.report.choice import records
from hs_analysis.report.wording import is_number, number, percent, seconds


def prior_basis(entry: Mapping[str, Any]) -> str:
    """Return which tables a prior is from, at which request and limit; empty for other entries."""
    if not entry.get("tables"):
        return ""
    parts = [str(entry["tables"])]
    if is_number(entry.get("isl")):
        cached = f" ({percent(entry['cached_ratio'])} cached)" if entry.get("cached_ratio") else ""
        parts.append(
            f"mean request of {number(entry['isl'])} prompt{cached} and {number(entry['osl'])} output"
        )
    short = "TTFT" if entry.get("role") == "prefill" else "TBT"
    limit = entry.get("limit_s")
    parts.append(f"{short} limit {seconds(limit)}" if is_number(limit) else f"no {short} limit")
    return ", ".join([*parts, "without queueing"])


def prior_text(entry: Mapping[str, Any]) -> str:
    """Return how a prior compares with the data, or why there is none."""
    return str(entry.get("text") or reason_text(entry.get("reason")))


def lines(service: Mapping[str, Any]) -> list[str]:
    """Return the priors of a service, a line each; none where none was asked for."""
    found = []
    for entry in records(service.get("prior")):
        head = f"prior of {entry['role']}, from tables"
        known = is_number(entry.get("per_instance"))
        value = f"{number(entry['per_instance'])} tokens/s per instance; " if known else "refused; "
        found.append(f"{head}: {value}{prior_text(entry)} [{prior_basis(entry)}]")
    return found


def table_of(name: str, service: Mapping[str, Any], anchors: Anchors) -> dict[str, Any]:
    """Return the priors of a service as a table of the page."""
    rows = []
    for entry in records(service.get("prior")):
        path = evidence_path(name, "derive", f"prior@{entry.get('role')}", entry.get("evidence"))
        value = number_cell(entry.get("per_instance"), "tokens/s")
        cells = [
            text_cell(entry.get("role")),
            value,
            number_cell(entry.get("data_per_instance"), "tokens/s", note=str(entry.get("data_status") or "")),
            number_cell(entry.get("data_ratio")),
            status_cell(entry.get("status")),
            text_cell(f"{prior_text(entry)} [{prior_basis(entry)}]", wide=True),
        ]
        rows.append({"id": anchors.claim(path, str(value["text"])), "cells": cells, "path": path})
    heads = ["role", "prior, one instance", "capacity from the data", "data ÷ prior", "status", "how"]
    return table("Priors from performance tables; no number of the policy rests on them", heads, rows)
