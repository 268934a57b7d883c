"""No address, person or server is made up in what the tool writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.export.model import ExportOptions
from hs_analysis.schema.json_schema import DIALECT

ALLOWED = {
    ExportOptions.server_address: "a blank, which no cluster has and exports list as one to fill in",
    "http://prometheus.monitoring.svc:9090": "how such an address looks, in a comment of hsa.toml",
    DIALECT: "the dialect of a JSON Schema, which names itself so",
    "http://localhost:9090": "where a Prometheus listens that nobody configured",
}
"""Addresses that may be written although the user gave none, and why."""

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>`)\]]+")
PERSON = re.compile(r"(?<![\w@/%.+-])[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[a-z]{2,}(?![\w%])")
EXAMPLE = re.compile(
    r"example\.(com|org|net)|\.(example|invalid|test)\b|\byour[-_.]|\bfoo\b|\bacme\b|runbook_url: |changeme",
    re.IGNORECASE,
)
SCRIPT = re.compile(r"<script.*?</script>", re.DOTALL)


def made_up(text: str) -> list[str]:
    """Return addresses, persons and placeholders of a text that nobody gave."""
    text = SCRIPT.sub("", text)
    found = [one.rstrip(".,;") for one in ADDRESS.findall(text)]
    return [
        *(one for one in found if not any(one.startswith(known) for known in ALLOWED)),
        *PERSON.findall(text),
        *(one[0] for one in EXAMPLE.finditer(text)),
    ]


def texts(folder: Path) -> list[Path]:
    """Return the files of a folder that are text."""
    kinds = {".json", ".yaml", ".yml", ".html", ".md", ".toml", ".txt", ".jsonnet", ".csv"}
    return [path for path in sorted(folder.rglob("*")) if path.suffix in kinds and path.is_file()]


def test_a_run_writes_no_address_that_nobody_gave(finished: Path) -> None:
    """Summary, policy, report and every export of a run without [export]."""
    paths = texts(finished)
    assert {"summary.json", "policy.yaml", "report.html"} <= {path.name for path in paths}
    assert any("exports" in path.parts for path in paths)
    found = {path.relative_to(finished).as_posix(): made_up(path.read_text("utf-8")) for path in paths}
    assert {name: what for name, what in found.items() if what} == {}


def test_a_starter_writes_no_address_that_nobody_gave(tmp_path: Path) -> None:
    """hsa.toml and its schema, and the plan of queries."""
    for arguments in (
        ["init", tmp_path / "a"],
        ["export-plan", "--last", "1d", "--out", tmp_path / "b", "-q"],
    ):
        done = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        assert made_up(done.stdout) == []
    found = {path.name: made_up(path.read_text("utf-8")) for path in texts(tmp_path)}
    assert "plan.json" in found
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "text",
    [
        "runbook_url: https://runbooks.example.com/x",
        "summary: https://github.com/hs-analysis/hs-analysis",
        "owner: sre@corp.io",
        "server: http://your-prometheus:9090",
    ],
)
def test_an_invented_address_is_seen(text: str) -> None:
    """The search is not blind."""
    assert made_up(text)
