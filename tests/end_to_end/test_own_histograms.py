"""Latencies under names and in a unit of the user's give the policy that the known ones give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.conftest import LIMITS, small_history, write_dumps
from ruamel.yaml import YAML
from typer.testing import CliRunner

from hs_analysis.cli.app import app

OWN = {
    "dynamo_frontend_time_to_first_token_seconds": "gateway_first_token_ms",
    "dynamo_frontend_inter_token_latency_seconds": "gateway_token_gap_ms",
}
MAPPED = """[metrics]
gateway_first_token_ms = { signal = "ttft", kind = "histogram", unit = "ms" }
gateway_first_token_ms_count = { signal = "first_token_rate", kind = "counter" }
gateway_token_gap_ms = { signal = "tbt", kind = "histogram", unit = "ms" }
"""


def strained() -> dict[str, list[dict[str, Any]]]:
    """Return the small history with latencies over their limits where much comes at once."""
    history = small_history()
    for metric, series in history.items():
        if not metric.endswith("_bucket"):
            continue
        for one in series:
            if one["metric"]["le"] != "+Inf":
                times, total = zip(*one["values"], strict=True)
                came = np.diff(np.array(total, float), prepend=0.0)
                over = np.clip(came / np.quantile(came, 0.97) - 0.7, 0.0, 1.0)
                within = np.cumsum(came * (1.0 - over))
                one["values"] = [[t, f"{value:.10g}"] for t, value in zip(times, within, strict=True)]
    return history


def in_ms(history: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return a history whose latency histograms have other names, and edges and sums in milliseconds."""
    found = {}
    for metric, series in history.items():
        family, _, part = metric.rpartition("_")
        if family not in OWN:
            found[metric] = series
            continue
        name = f"{OWN[family]}_{part}"
        found[name] = []
        for one in series:
            labels, values = {**one["metric"], "__name__": name}, one["values"]
            if part == "bucket" and labels["le"] != "+Inf":
                labels["le"] = f"{1e3 * float(labels['le']):g}"
            if part == "sum":
                values = [[t, f"{1e3 * float(value):.10g}"] for t, value in values]
            found[name].append({"metric": labels, "values": values})
    return found


def answered(folder: Path, history: dict[str, list[dict[str, Any]]], *more: str) -> Path:
    """Run everything on a history and return the run folder."""
    given = ["run", write_dumps(folder / "dumps", history), "--run-dir", folder / "run", "-q", *LIMITS, *more]
    done = CliRunner().invoke(app, [str(one) for one in given], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "run"


def numbers(run: Path) -> Any:
    """Return a policy without what names its metrics, runs and files."""
    policy = YAML(typ="safe", pure=True).load((run / "policy.yaml").read_text("utf-8"))
    del policy["metadata"]

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if k not in ("promql", "source", "evidence")}
        return [bare(v) for v in value] if isinstance(value, list) else value

    return bare(policy)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs on one history: under the names of the catalogue, and under own ones in milliseconds."""
    place = tmp_path_factory.mktemp("histograms")
    known = answered(place / "known", strained())
    (place / "hsa.toml").write_text(MAPPED)
    return known, answered(place / "own", in_ms(strained()), "--config", str(place / "hsa.toml"))


def test_milliseconds_under_own_names_give_the_same_policy(both: tuple[Path, Path]) -> None:
    known, own = both
    assert numbers(own) == numbers(known)
    capacities = [
        [(one["per_instance"], one["ci"], one["status"]) for one in service["capacity"]]
        for run in both
        for service in json.loads((run / "summary.json").read_text("utf-8"))["services"]
    ]
    assert capacities[0] == capacities[1]
    assert "ok" in {status for *_, status in capacities[0]}


def test_exports_ask_in_the_metrics_own_unit(both: tuple[Path, Path]) -> None:
    """Alerts name the edges as the buckets do, and a mean is divided to be compared with the limit."""
    texts = [
        " ".join(file.read_text("utf-8").split())
        for file in (both[1] / "exports").rglob("*")
        if file.is_file()
    ]
    edges = {edge for text in texts for edge in re.findall(r'gateway_\w+_bucket\{[^}]*le="([^"]+)"', text)}
    edges |= {edge for text in texts for edge in re.findall(r'gateway_\w+_bucket\{[^}]*le=~"([^"]+)"', text)}
    assert any("2500" in edge for edge in edges), edges
    assert any(re.search(r"\b50\b", edge) for edge in edges), edges
    assert any(re.search(r"gateway_token_gap_ms_count.{,40}\) / 1000", text) for text in texts)
    assert not any("dynamo_frontend_inter_token_latency" in text for text in texts)
