"""The commands of ``hsa export-plan``, run by a shell: the files of ``hsa pull``."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from collect.snapshot import END, START, WINDOW, finished, points

from hs_analysis.collect.plan import TOOLS, Caller
from hs_analysis.pipeline.plan_files import read_plan


@pytest.mark.outside("curl")
def test_the_commands_give_the_same_points(prometheus: str, pulled: Path, hsa, tmp_path: Path) -> None:
    """export-plan on the server's list of series, run by a shell, is pull; run again it leaves all alone."""
    folder, listed = tmp_path / "by hand", tmp_path / "series.json"
    bounds = urllib.parse.urlencode(
        {"match[]": '{__name__!="",job!="prometheus"}', "start": START, "end": END}
    )
    with urllib.request.urlopen(f"{prometheus}/api/v1/series?{bounds}") as answer:
        listed.write_bytes(answer.read())
    done = hsa(
        "export-plan", *WINDOW, "--step", "5s", "--url", prometheus, "--out", folder,
        "--series", listed, "--match", 'job!="prometheus"',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        shell = subprocess.run(
            ["sh"], input=done.stdout, text=True, cwd=folder, capture_output=True, check=False,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
        assert (shell.returncode, shell.stderr) == (0, "")
    assert points(folder) == points(pulled)


@pytest.mark.outside("curl")
def test_a_file_of_two_selectors(prometheus: str, pulled: Path, hsa, tmp_path: Path) -> None:
    """Both answers are in it, and it is read whole; when the second can't be had there is no file."""
    metric = "vllm:num_requests_running"
    (plan,) = (f for f in read_plan(pulled).files if f.metric == metric)
    halves = tuple(f'{metric}{{pod=~"llama8b-{part}"}}' for part in ("[01]", "[234]"))
    expected = sum(len(rows) for key, rows in points(pulled).items() if dict(key)["__name__"] == metric)
    for tool in TOOLS.values():
        folder = tmp_path / tool.__name__
        folder.mkdir()
        for match, code in (((halves[0], f"{metric}{{"), 1), (halves, 0)):
            script = f"set -e\n{tool(replace(plan, match=match), Caller(prometheus))}\n"
            done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, check=False)
            assert (done.returncode != 0) == code, done.stderr
            assert [path.name for path in folder.iterdir() if path.name[0] != "."] == [plan.file][code:]
        read = hsa("ingest", folder, "--run-dir", folder.with_suffix(".run"), "-o", "json", "-q")
        assert read.returncode == 0, read.stderr
        assert json.loads(read.stdout)["rows_stored"] == expected


@pytest.mark.outside("curl")
def test_a_failed_command_ends_the_script(hsa, tmp_path: Path) -> None:
    """Nothing answers: the first command's error, and no file."""
    done = hsa("export-plan", *WINDOW, "--url", "http://127.0.0.1:9", "--out", tmp_path, "-q")
    shell = subprocess.run(
        ["sh"], input=done.stdout, text=True, cwd=tmp_path, capture_output=True, check=False
    )
    assert shell.returncode != 0
    assert len(shell.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.outside("promtool")
def test_promtool_gives_the_same_points(prometheus: str, pulled: Path, hsa, tmp_path: Path) -> None:
    """Its answers have no envelope; the series are the same."""
    folder = tmp_path / "dumps"
    arguments = (
        "--step",
        "5s",
        "--url",
        prometheus,
        "--exporter",
        "dynamo_router",
        "--match",
        'job!="prometheus"',
    )
    done = hsa("export-plan", *WINDOW, *arguments, "--tool", "promtool", "--out", folder, "-q")
    subprocess.run(["sh"], input=done.stdout, text=True, cwd=folder, check=True)
    whole = points(pulled)
    lines = [line for f in finished(folder) for line in gzip.decompress(f.read_bytes()).splitlines()]
    rows = [row for line in lines for row in json.loads(line)]
    assert len(lines) > len(finished(folder))  # kube_pod_labels is asked for by each label of a role
    assert rows
    for row in rows:
        got = [(float(t), value) for t, value in row["values"]]
        assert got == whole[tuple(sorted(row["metric"].items()))]
    read = hsa("doctor", folder, "--run-dir", tmp_path / "run", "-o", "json", "-q")
    said = [f["text"] for f in json.loads(read.stdout)["findings"] if f["check"] == "plan"]
    assert said == ["every file of plan.json is there, whole and at its step"]
    read = hsa("ingest", folder, "--run-dir", tmp_path / "again", "-o", "json", "-q")
    assert json.loads(read.stdout)["rows_stored"] == sum(len(row["values"]) for row in rows)
