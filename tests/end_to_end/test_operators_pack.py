"""The operators' pack on the runs of both samples: every query answers, with the numbers of the summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import SAMPLES, Finished, Run

from hs_analysis.pipeline.results import queried
from hs_analysis.store import operators_pack

EMPTY = {"source_disagreements"}
"""Queries without a row on the samples, whose sources agree."""

Rows = tuple[dict[str, Any], ...]


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest, root: Path, finished: Finished) -> Run:
    """The finished run of each sample."""
    return finished(root / "data_samples" / request.param, *SAMPLES[request.param])


def rows(run: Run, name: str) -> Rows:
    """Return all rows of a query of the pack."""
    return queried(run.folder, f"@{name}", None).rows


def test_every_query_answers_with_the_columns_of_its_header(sample: Run) -> None:
    """On real serving components under a set load and on simulated days."""
    for query in operators_pack():
        found = queried(sample.folder, f"@{query.name}", None)
        assert found.columns == tuple(query.columns), query.name
        assert bool(found.rows) != (query.name in EMPTY), query.name


def test_capacities_are_those_of_the_summary(sample: Run) -> None:
    """Per pool the capacity and its status, the load ÷ capacity within it."""
    for row in rows(sample, "capacity_by_hour"):
        capacity = sample.capacity(row["role"])
        assert row["capacity_per_instance_tps"] == pytest.approx(capacity["per_instance"])
        assert row["capacity_status"] == capacity["status"]
        assert row["used_ratio"] <= row["busiest_used_ratio"]


def test_hours_reconcile_with_the_totals(sample: Run) -> None:
    """Tokens and instance-hours of the hours sum to the totals, but for windows without a value."""
    hours, totals = rows(sample, "dearest_hour"), sample.service["totals"]
    for column, total in (("instance_hours", "instance_hours"), ("output_tokens", "output_tokens")):
        assert sum(row[column] for row in hours) == pytest.approx(totals[total], rel=0.08), column
    known = sample.service["gpus_per_instance"] is not None
    assert all((row["gpu_hours"] is not None) == known for row in hours)


def test_every_instance_has_a_lifetime_within_the_window(sample: Run) -> None:
    """No stay is longer than the recording, and the pools are complete."""
    lives = rows(sample, "instance_lifetimes")
    now = {pool["role"]: pool["now"] for pool in sample.service["decision"]["pools"]}
    assert {row["role"] for row in lives} == set(now)
    longest = max(row["stay_s"] for row in lives)
    assert all(0 < row["stay_s"] <= longest for row in lives)
