"""Progress is a bar on a terminal, a line a stage elsewhere, and nothing with -q."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from hs_analysis.cli.output import NoProgress, ProgressBars, ProgressLines, progress_listener


def test_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for a finished or skipped stage, none for steps, all on stderr."""
    lines = progress_listener(quiet=False, no_color=False)
    assert type(lines) is ProgressLines
    lines.started("study", "judging", 1, 2)
    lines.advanced(1, 5, "fits")
    lines.finished("study", 1.25, "signals 3")
    lines.skipped("derive")
    lines.noted("hello")
    lines.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "study: signals 3 (1.2 s)", "derive: nothing to do, same inputs and settings", "hello",
    ]  # fmt: skip


def test_a_log_of_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is an object of its own; an error of the same command is one too."""
    log = progress_listener(quiet=False, no_color=False, log="json")
    log.finished("study", 1.25, "signals 3")
    log.skipped("derive")
    log.noted("hello")
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == [
        {"event": "stage", "stage": "study", "seconds": 1.25, "text": "signals 3"},
        {"event": "skipped", "stage": "derive"},
        {"event": "note", "text": "hello"},
    ]


@pytest.mark.parametrize("words", [("--log", "json"), ("--log=json",)])
def test_errors_are_json_lines_too(words: tuple[str, ...]) -> None:
    """One object a problem, with the command and its exit code."""
    command = [sys.executable, "-m", "hs_analysis", "study", "nowhere", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (line,) = done.stderr.splitlines()
    found = json.loads(line)
    assert (found["event"], found["command"], found["exit_code"]) == ("error", "study", done.returncode)
    assert "nowhere" in found["text"]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """With -q neither progress nor remarks."""
    quiet = progress_listener(quiet=True, no_color=False)
    assert type(quiet) is NoProgress
    quiet.finished("study", 1.0, "")
    quiet.noted("hello")
    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar names stage, count and unit; finished stages become lines."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    bars = progress_listener(quiet=False, no_color=True)
    assert type(bars) is ProgressBars
    bars.started("ingest", "reading the dumps", 1, 3)
    bars.advanced(2, 7, "files")
    assert bars._bar is not None
    bars._bar.refresh()
    bars.finished("ingest", 0.5, "files 7")
    bars.close()
    text = screen.getvalue()
    assert "ingest (1 of 3): reading the dumps" in text
    assert "2/7" in text
    assert "files" in text
    assert "ingest: files 7 (0.5 s)" in text


@pytest.mark.parametrize("variable", [{}, {"NO_COLOR": "1"}])
def test_colour_only_on_a_terminal_that_wants_it(variable: dict[str, str], tmp_path: Path) -> None:
    """A table on a terminal is styled; with NO_COLOR it has no colour codes."""
    main, screen = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"} | variable
    environment = {k: v for k, v in environment.items() if k not in ("GITHUB_ACTIONS", "FORCE_COLOR")}
    command = [sys.executable, "-m", "hs_analysis", "signals", "ttft"]
    with subprocess.Popen(command, stdout=screen, env=environment, cwd=tmp_path):
        os.close(screen)
        text = b""
        while True:
            try:
                part = os.read(main, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
    os.close(main)
    assert b"ttft" in text
    coloured = any(f"\x1b[{code}m".encode() in text for code in range(30, 50))
    assert not coloured
