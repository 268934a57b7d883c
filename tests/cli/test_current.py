"""Today's objects from the command line to the answer: compared where their replay stands for what ran."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli.conftest import LIMITS
from typer.testing import CliRunner

from hs_analysis.cli.app import app

QUERIES = {
    "prefill": 'sum(rate(vllm:prompt_tokens_by_source_total{source="local_compute"}[1m]))',
    "decode": "sum(rate(vllm:generation_tokens_total[1m]))",
}


def scaled(role: str, count: int, query: str = "") -> str:
    """Return an object that keeps a pool at a count, whatever its query reads."""
    trigger = {"query": query or QUERIES[role], "threshold": "100"}
    spec = {
        "scaleTargetRef": {"name": f"m-{role}"},
        "minReplicaCount": count,
        "maxReplicaCount": count,
        "triggers": [{"type": "prometheus", "metadata": trigger}],
    }
    body = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": f"m-{role}"}}
    return json.dumps(body | {"spec": spec})


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def said(*arguments: str | Path) -> str:
    """Return what a command prints, its lines joined as one."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def answer(folder: Path) -> dict[str, Any]:
    """Return the only service of a run."""
    (service,) = json.loads((folder / "summary.json").read_text("utf-8"))["services"]
    found: dict[str, Any] = service
    return found


def test_a_pool_that_can_not_be_replayed_withholds_the_comparison(
    mine: Path, finished: Path, dumps: Path, tmp_path: Path
) -> None:
    """No hours, saving or violations of today's in answer, summary and report; the decision stays."""
    before = answer(finished)
    refused = 'sum(rate(vllm:generation_tokens_total{pod=~"m-large-decode-.*"}[1m]))'
    path = tmp_path / "today.yaml"
    path.write_text(f"{scaled('prefill', 1)}\n---\n{scaled('decode', 2, refused)}\n")
    text = said("run", dumps, "--run-dir", mine, "-q", *LIMITS, "--current", path)
    assert "today's autoscaler is not compared with the policy: decode is not replayed: " in text
    assert "ScaledObject m-decode: triggers[0]: " in text
    assert re.search(r"prefill is replayed with 1\S* instances on average where 3 ran, 6\S+ % apart", text)
    assert "cause: 3 instances ran, outside the object's bounds 1 to 1 in 100 % of windows" in text
    for word in ("against today's autoscaler", "today in "):
        assert word not in text
    after = answer(mine)
    found = after["replay"].pop("current")
    assert (found["compared"], found["reason"]["code"]) == (None, "pool_not_replayed")
    names = after.pop("apply")["not_filled"], before.pop("apply")["not_filled"]
    assert len(names[0]) < len(names[1])  # today's objects tell some
    assert after == before
    page = (mine / "report.html").read_text("utf-8")
    assert "is not compared with the policy" in page
    assert "saved vs. today" not in page


def test_objects_that_stand_for_what_ran_are_compared(mine: Path, tmp_path: Path) -> None:
    """The line has the hours of both and the saving; today's autoscaler is a row."""
    path = tmp_path / "today.yaml"
    path.write_text(f"{scaled('prefill', 3)}\n---\n{scaled('decode', 2)}\n")
    text = said("replay", mine, "--current", path)
    assert "not compared with the policy" not in text
    rows = pl.read_parquet(mine / "data/replay/policies.parquet")
    (today,) = rows.filter(pl.col("policy") == "current").to_dicts()
    (ran,) = rows.filter(pl.col("policy") == "recorded").to_dicts()
    assert today["instance_hours"] == pytest.approx(ran["instance_hours"])
    told = text.split("against today's autoscaler: ", 1)[1]
    assert " instance-hours, " in told
    assert told.split(" for ", 1)[1].startswith(f"{today['instance_hours']:.3g}")
    assert (
        "today's autoscaler as replayed against what ran, mean instances: prefill 3.00 for 3.00, 0 apart"
        in text
    )
