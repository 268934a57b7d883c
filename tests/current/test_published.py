"""Queries that projects publish: what is read of each, or the sentence of its refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from current.published import CATALOGUE, outcome
from ruamel.yaml import YAML

from hs_analysis.promql import parse, selectors
from hs_analysis.replay.signals import quantile_of

TABLE = YAML(typ="safe").load((Path(__file__).parent / "published_queries.yaml").read_text("utf-8"))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["query"][:60])
def test_a_published_query_is_read_as_it_is_or_refused_by_name(row: dict[str, Any]) -> None:
    """On a history that has exactly its series; what is not modelled is told, not read as something else."""
    assert outcome(row["query"], row["emitter"], row["instances"]) == row["reading"]


def test_the_table_holds_what_many_projects_publish() -> None:
    """Over fifty distinct queries, and more than a few projects, each with its source."""
    assert len({row["query"] for row in TABLE}) == len(TABLE) >= 50
    assert len({row["source"].split("/")[0] for row in TABLE}) >= 8


def test_most_queries_on_known_metrics_are_read() -> None:
    """At least four of five; what is refused is a ratio to itself, or a signal that is not modelled."""
    known = [row for row in TABLE if any(map(CATALOGUE.reader_of, metrics_of(row)))]
    refused = [row["reading"] for row in known if row["reading"].startswith("refused")]
    assert len(refused) <= 0.2 * len(known)
    words = ("divided by itself", "of service has no value")
    assert all(any(word in one for word in words) for one in refused)


def metrics_of(row: dict[str, Any]) -> set[str]:
    """Return the metrics of a query."""
    return {one.metric or "" for one in selectors(parse(row["query"]))}


def test_a_reading_names_the_signal_of_the_very_metrics_of_its_query() -> None:
    """No query is read as a signal that its metrics do not carry."""
    for row in TABLE:
        if row["reading"].startswith("refused"):
            continue
        name = row["reading"].split(" of ")[1].partition("@")[0]
        quantile = quantile_of(name)
        signal = CATALOGUE.signal(quantile.latency if quantile else name)
        named = [names for source in signal.sources for names in source.names]
        carried = {metric for names in named for metric in names.metrics}
        if quantile:
            assert f"histogram_quantile({quantile.share:g}," in row["query"]
            carried = {f"{names.histogram}_bucket" for names in named}
        assert metrics_of(row) <= carried
