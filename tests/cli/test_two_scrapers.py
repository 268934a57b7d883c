"""Histories that two Prometheus servers scraped: their copies are stored, exported and read back as one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
from cli.conftest import LIMITS, SHIPPED, small_history, write_dumps
from typer.testing import CliRunner

from hs_analysis.cli.app import app

OF_COPIES = re.compile(r"(?<!0 \* )(?:sum|avg)(?: by \((?!le)[^)]*\) )?\((?:rate|avg_over_time)\(")
"""A total or a mean of series as a server keeps them; a quantile is the same with every bucket doubled."""


def scaled_by(query: str) -> str:
    """Return today's object of the decode pool, which follows a query."""
    trigger = {"type": "prometheus", "metadata": {"serverAddress": "x", "threshold": "900", "query": query}}
    spec = {"scaleTargetRef": {"name": "m-decode"}, "maxReplicaCount": 9, "triggers": [trigger]}
    body = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "m-decode"}}
    return json.dumps(body | {"spec": spec})


def test_what_several_scrapers_delivered_is_asked_for_once(tmp_path: Path) -> None:
    """Every exported sum takes one copy of each series; a query of today's that takes all of them says so."""
    history = small_history()
    for metric, series in history.items():
        named = ("a", "b", "c") if metric == SHIPPED else ("a", "b")
        history[metric] = [
            {**one, "metric": {**one["metric"], "prometheus_replica": name}}
            for one in series
            for name in named
        ]
    run, today = tmp_path / "run", tmp_path / "today.json"
    today.write_text(scaled_by(f"sum(rate({SHIPPED}[2m]))"))
    given = ["run", write_dumps(tmp_path / "dumps", history), "--run-dir", run, "-q", *LIMITS]
    given += ["--dedup-label", "prometheus_replica", "--current", today]
    done = CliRunner().invoke(app, [str(one) for one in given], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    stored = pl.read_parquet(run / "data" / "series.parquet").filter(pl.col("metric") == SHIPPED)
    assert stored["copies"].to_list() == [["a", "b", "c"]] * 2
    files = [run / "policy.yaml", *(one for one in (run / "exports").rglob("*") if one.is_file())]
    texts = [" ".join(file.read_text("utf-8").split()) for file in files]
    assert [one for text in texts for one in OF_COPIES.findall(text)] == []
    assert sum("max without (prometheus_replica) (rate(" in text for text in texts) >= 5
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert "replicas_removed" not in {one["code"] for one in summary["warnings"]}
    said = json.dumps(summary["services"][0]["replay"]["current"])
    assert f"it adds up 3 copies of each series of {SHIPPED}" in said
