"""Every code block of the hand-written pages works: settings validate, commands parse, the tutorial runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from hs_analysis.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(p for p in (ROOT / "docs").rglob("*.md") if "reference" not in p.parts),
    ]
)
KINDS = {"", "sh", "python", "toml", "yaml", "json", "text"}
"""Words after the fence; none is shell, text is what a program prints; test_notebooks.py runs the Python."""

OWN = ("dumps", "pull", "export-plan", "make ")
"""A command of the tutorial with one of these needs a server, or dumps of the reader's own."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (kind, text) of each code block of a page."""
    found = re.findall(r"(?ms)^[ ]*```(\w*)\n(.*?)^[ ]*```", page.read_text("utf-8"))
    return [(kind, textwrap.dedent(text)) for kind, text in found]


def of_kind(*kinds: str) -> list[Any]:
    """Return a parameter for each block of some kinds, named by its page."""
    return [
        pytest.param(kind, text, id=f"{page.relative_to(ROOT).as_posix()}-{n}")
        for page in PAGES
        for n, (kind, text) in enumerate(blocks(page))
        if kind in kinds
    ]


def test_every_block_is_of_a_known_kind() -> None:
    """So none escapes the tests below."""
    assert {kind for page in PAGES for kind, _ in blocks(page)} <= KINDS


@pytest.mark.parametrize(("kind", "text"), of_kind("toml", "yaml", "json"))
def test_files_are_valid(kind: str, text: str, tmp_path: Path) -> None:
    """Settings and topologies pass hsa validate; JSON can be read."""
    if kind == "json":
        assert json.loads(text)
        return
    found = YAML(typ="safe").load(text) if kind == "yaml" else {}
    if found is None or "repos" in found:
        return  # a comment alone, or hooks of pre-commit
    file = tmp_path / ("hsa.toml" if kind == "toml" else "racks.yaml")
    file.write_text(text, "utf-8")
    done = CliRunner().invoke(app, ["validate", str(file)])
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_parse(page: Path) -> None:
    """Shell takes every block without a kind; tests/test_docs.py checks commands and flags of hsa."""
    text = "\n".join(text for kind, text in blocks(page) if kind in ("", "sh"))
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def told(block: str, output: str) -> list[str]:
    """Return the lines of a block that a command did not print: ``…`` is any text, times and sizes differ."""
    printed = [_SIZE.sub("#", line) for line in output.splitlines()]
    shown = [_SIZE.sub("#", line) for line in block.splitlines()]
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in shown]
    missing = [p for p in patterns if not any(re.fullmatch(p, line) for line in printed)]
    return missing + [line for line in printed if not any(re.fullmatch(p, line) for p in patterns)]


_SIZE = re.compile(r"[0-9.]+ (?=s\)|MB)")


def test_a_block_that_is_stale_is_told() -> None:
    """A line that is no longer printed, another that is not shown; not how long it took."""
    assert told("a 1 (1.5 s)\nsaves … %", "a 1 (0.2 s)\nsaves 3 %") == []
    assert told("files 12\nx", "files 41\nx\ny") == ["files\\ 12", "files 41", "y"]


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    """Its commands on the samples end with 0, in order, in one folder; the first prints what is shown."""
    (tmp_path / "data_samples").symlink_to(ROOT / "data_samples", target_is_directory=True)
    text = "\n".join(text for kind, text in blocks(ROOT / "docs" / "tutorial.md") if not kind)
    lines = [line.strip().removeprefix(".venv/bin/") for line in text.splitlines() if line.strip()]
    commands = [line for line in lines if line.startswith("hsa ") and not any(word in line for word in OWN)]
    assert len(commands) >= 6
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line in commands:
        shell = line.replace("hsa ", f"{sys.executable} -m hs_analysis ", 1)
        done = subprocess.run(
            ["bash", "-c", shell], cwd=tmp_path, env=place, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        if line == commands[0]:
            shown = [text for kind, text in blocks(ROOT / "docs" / "tutorial.md") if kind == "text"]
            assert [told(*each) for each in zip(shown[:2], (done.stderr, done.stdout), strict=True)] == [
                [],
                [],
            ]
