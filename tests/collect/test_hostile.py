"""``hsa pull`` against servers that answer wrongly: one line, in time, in bounded memory, no silent loss."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from collect.hostile_server import SLOW_S, WINDOW, Case, Raw, case, for_data, hostile, whole
from collect.recording_server import Asked
from typer.testing import CliRunner

from hs_analysis.cli.app import app
from hs_analysis.collect import server as client
from hs_analysis.collect.server import MOST_SILENT_IN_ALL

TOKEN = "tok-3f9a-very-secret"
MOST_BYTES = 512 << 20
SLACK_S = 20.0
"""What starting and computing may take beside waiting, on a loaded machine [s]."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; waiting for a busy server takes no time."""
    for name in ("HSA_URL", "HSA_USER", "HSA_PASSWORD", "HSA_TENANT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HSA_TOKEN", TOKEN)
    monkeypatch.setattr(client, "backoff_s", lambda _attempt: 0.001)
    monkeypatch.setattr(client, "LONGEST_RETRY_AFTER_S", 1.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pulled(one: Case, out: str, *more: str) -> Any:
    """Pull from the server of a case; hold the outcome to what every pull must keep."""
    began = time.monotonic()
    with hostile(one.answer) as (url, _):
        done = CliRunner().invoke(
            app,
            [
                "pull",
                "--url",
                url,
                *WINDOW,
                "--rate",
                "1000000",
                "--strict",
                "--out",
                out,
                "-o",
                "json",
                *more,
            ],
        )
    told = f"{one.kind} {one.seed}: {one.name}: exit {done.exit_code}\n{done.output[-2000:]}"
    assert done.exception is None or isinstance(done.exception, SystemExit), (told, done.exception)
    assert done.exit_code in (0, 1, 4), told
    assert "Traceback" not in done.output, told
    assert "bug in hsa" not in done.output, told
    assert TOKEN not in done.output, told
    assert (done.exit_code == 0) != any(line.startswith("hsa pull: ") for line in done.stderr.splitlines()), (
        told
    )
    assert all(len(line) < 1500 for line in done.stderr.splitlines()), told
    assert time.monotonic() - began < 3 * MOST_SILENT_IN_ALL * SLOW_S + SLACK_S, told
    assert not list(Path(out).glob(".draft-*")), told
    whole_or_told(one, Path(out), done, told)
    return done


def whole_or_told(one: Case, folder: Path, done: Any, told: str) -> None:
    """What is there without a word said holds every sample the server has of it."""
    if done.exit_code != 0:
        return
    plan = json.loads((folder / "plan.json").read_text())
    for file in plan["files"]:
        lines = gzip.decompress((folder / file["file"]).read_bytes()).splitlines()
        rows = [row for line in lines for row in json.loads(line)["data"]["result"]]
        got = {(tuple(sorted(row["metric"].items())), t) for row in rows for t, _ in row["values"]}
        if file["api"] == "query_range":
            held = one.fleet.on_grid(file["metric"], file["start"], file["end"])
        else:
            held = one.fleet.held(f"{file['metric']}[3600001ms]", file["end"])
        wanted = {(tuple(sorted(row.items())), t) for row, times in held for t in times}
        assert {t for _, t in got} == {t for _, t in wanted}, told
        assert len(got) == len(wanted), told


def judge(kind: str, seed: int) -> str:
    """Pull once; say how it ended."""
    one = case(seed, kind)
    slow = ("--timeout", f"{SLOW_S:g}s") if kind == "slow" else ("--timeout", "20s")
    done = pulled(one, f"dumps-{kind}-{seed}", *slow)
    told = f"{kind} {seed}: {one.name}: exit {done.exit_code}\n{done.output[-2000:]}"
    if one.lost is not None:
        findings = json.loads(done.stdout)["findings"]
        assert bool(one.lost) == (done.exit_code == 4), told
        assert bool(one.lost) == any(f["level"] == "fail" for f in findings), told
    return f"{done.exit_code}"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["honest", "loss", "garbage"])
def test_some_wrong_answers(kind: str, seed: int) -> None:
    """Losses are found and none is invented; garbage is one line."""
    judge(kind, seed)


def test_many_files_that_fail_name_the_command_that_asks_again() -> None:
    """Three lines and how many more there are."""
    fleet = case(1, "honest").fleet

    def answer(asked: Asked) -> Raw:
        return whole({"status": "success"}) if for_data(asked) else whole(fleet.answer(asked))

    with hostile(answer) as (url, _):
        done = CliRunner().invoke(app, ["pull", "--url", url, *WINDOW, "--rate", "1000000"])
    *errors, last = done.stderr.splitlines()[-4:]
    assert all("the answer to query " in line and "without 'data'" in line for line in errors)
    assert last == f"… and 1 more: hsa pull --url {url} --out dumps"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("honest", 50), ("loss", 80), ("garbage", 110), ("slow", 20)])
def test_many_wrong_answers(kind: str, count: int) -> None:
    """The same over many seeds."""
    ends: dict[str, int] = {}
    for seed in range(100, 100 + count):
        end = judge(kind, seed)
        ends[end] = ends.get(end, 0) + 1
    assert sum(ends.values()) == count


@pytest.mark.slow
def test_many_bombs() -> None:
    """Answers that unpack into gigabytes, or never end: one line, and no more memory than is said."""
    most = 0
    for seed in range(100, 140):
        one = case(seed, "bomb")
        with hostile(one.answer) as (url, _):
            command = [
                sys.executable,
                "-m",
                "hs_analysis",
                "pull",
                "--url",
                url,
                *WINDOW,
                "--rate",
                "1000000",
            ]
            with subprocess.Popen(
                [*command, "--timeout", "20s", "--out", f"bomb-{seed}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            ) as process:  # fmt: skip
                said = process.stderr.read() if process.stderr else ""
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        most = max(most, used.ru_maxrss << 10)
        assert used.ru_maxrss << 10 <= MOST_BYTES, (seed, one.name, used.ru_maxrss >> 10)
        assert process.returncode in (0, 1), (seed, one.name, said)
        assert "Traceback" not in said, (seed, one.name, said)
    assert most > 0
