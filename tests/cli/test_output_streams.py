"""Standard streams that are closed or ASCII: one line, or text with escapes, and never a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from ruamel.yaml import YAML

from hs_analysis.cli.output import as_json, as_yaml, takes_all

COMMAND = f"{sys.executable} -m hs_analysis signals ttft -o json"
TEXT = {"name": "TTFT ≤ 1 s, é, \U0001f600", "lines": ["a\nb", "…"]}


def shell(redirected: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with some of its streams redirected by a shell."""
    return subprocess.run(
        ["sh", "-c", f"{COMMAND} {redirected}"], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirected", "says"), [(">&-", "standard output is closed"), ("> /dev/full", "no space left")]
)
def test_a_result_that_can_not_be_printed(redirected: str, says: str) -> None:
    """Exit 1 and one line: the result is lost, and nobody would know."""
    done = shell(redirected)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("hsa signals: ")
    assert says in line


def test_without_the_other_streams() -> None:
    """No standard input and no standard error: the result is printed all the same."""
    done = shell("<&- 2>&-")
    assert done.returncode == 0
    assert json.loads(done.stdout)


def test_ascii_output() -> None:
    """What the encoding does not have is escaped, so that JSON stays JSON."""
    done = shell("", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert json.loads(done.stdout) == json.loads(shell("", PYTHONIOENCODING="utf-8").stdout)


@pytest.mark.parametrize("unicode", [True, False])
def test_text_is_the_same_with_and_without_escapes(unicode: bool) -> None:
    texts = {write: write(TEXT, unicode=unicode) for write in (as_json, as_yaml)}
    assert json.loads(texts[as_json]) == TEXT
    assert YAML(typ="safe").load(texts[as_yaml]) == TEXT
    assert all(text.isascii() != unicode for text in texts.values())


@pytest.mark.parametrize(
    ("name", "takes"), [("utf-8", True), ("UTF8", True), (None, True), ("ascii", False), ("latin-1", False)]
)
def test_which_encodings_take_every_character(name: str | None, takes: bool) -> None:
    stream: Any = io.StringIO() if name is None else io.TextIOWrapper(io.BytesIO(), encoding=name)
    assert takes_all(stream) is takes
