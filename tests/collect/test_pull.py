"""``hsa pull`` from a real Prometheus: the data of the dump, point by point, however it was interrupted."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from export.prometheus_server import needs, prometheus_over

from hs_analysis.collect.access import Access
from hs_analysis.collect.fetch import Limits
from hs_analysis.collect.pace import Pace
from hs_analysis.collect.plan import Request
from hs_analysis.collect.server import Server
from hs_analysis.pipeline.collect import Pulled, pull
from hs_analysis.pipeline.progress import Silent

START, END = "2026-11-24T12:16:30Z", "2026-11-24T12:36:45Z"
WINDOW = ("--from", START, "--to", END)
STEP_S, LOOK_BACK_S = 5.0, 300.0
Key = tuple[tuple[str, str], ...]


def unpacked(into: Path) -> Path:
    """The snapshot of a Prometheus that scraped a Dynamo service for twenty minutes, ready to be opened."""
    with tarfile.open(Path(__file__).with_name("pd-diurnal-snapshot.tar.gz")) as archive:
        archive.extractall(into, filter="data")
    (snapshot,) = into.iterdir()
    (snapshot / "wal").mkdir()  # promtool stops without it
    return snapshot


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus over the snapshot."""
    needs("prometheus")
    with prometheus_over(unpacked(tmp_path_factory.mktemp("tsdb"))) as url:
        yield url


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of promtool's dump of the snapshot."""
    snapshot = unpacked(tmp_path_factory.mktemp("dumped"))
    command = [needs("promtool"), "tsdb", "dump", str(snapshot)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.fixture(scope="module")
def pulled(prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder pulled in one go; tests must not change it."""
    folder = tmp_path_factory.mktemp("pulled") / "dumps"
    fetch_into(folder, prometheus)
    return folder


def fetch_into(folder: Path, url: str, limits: Limits | None = None, **request: Any) -> Pulled:
    """Pull without waiting between queries."""
    server = Server(url, Access(), Pace(1e9, time.monotonic, time.sleep), lambda _: None)
    asked = Request(start=START, end=END, **request)
    return pull(server, folder, asked, limits or Limits(10**6), now=0.0, progress=Silent())


def finished(folder: Path) -> list[Path]:
    """The files of a folder that anyone sees."""
    return sorted(path for path in folder.glob("*.json.gz") if not path.name.startswith("."))


def points(folder: Path) -> dict[Key, list[tuple[float, str]]]:
    """Every point of a folder by series, in the order of files and documents."""
    found: dict[Key, list[tuple[float, str]]] = defaultdict(list)
    for file in finished(folder):
        for line in gzip.decompress(file.read_bytes()).splitlines():
            for row in json.loads(line)["data"]["result"]:
                found[tuple(sorted(row["metric"].items()))] += [
                    (float(t), value) for t, value in row["values"]
                ]
    return found


def samples_of(dumped: list[str]) -> dict[Key, list[tuple[float, float]]]:
    """Samples of a dump by series: time [s] and value, NaN where the series went stale."""
    by_text: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in dumped:
        text, value, t = line.rsplit(" ", 2)
        by_text[text].append((int(t) / 1000, float(value)))
    return {key_of(text): sorted(samples) for text, samples in by_text.items()}


def key_of(text: str) -> Key:
    """The labels of a series as the dump writes them: ``{__name__="x", pod="p"}``."""
    pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text)
    return tuple(sorted((name, json.loads(f'"{value}"')) for name, value in pairs))


def as_evaluated(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What a range query shows of samples: at each point the last one of the five minutes before."""
    start, end = (datetime.fromisoformat(text).timestamp() for text in (START, END))
    shown = []
    at, last = 0, None
    t = start
    while t <= end:
        while at < len(samples) and samples[at][0] <= t:
            last = samples[at]
            at += 1
        if last is not None and last[0] > t - LOOK_BACK_S and last[1] == last[1]:
            shown.append((t, last[1]))
        t += STEP_S
    return shown


def test_every_point_of_the_dump(pulled: Path, dumped: list[str]) -> None:
    """Each series of a needed metric with each value it had on the grid; nothing else, nothing twice."""
    plan = json.loads((pulled / "plan.json").read_text())
    metrics = {file["metric"] for file in plan["files"]}
    jobs = {"dynamo-worker", "dynamo-frontend"}
    expected = {
        key: shown
        for key, samples in samples_of(dumped).items()
        if dict(key)["__name__"] in metrics and dict(key)["job"] in jobs and (shown := as_evaluated(samples))
    }
    got = {key: [(t, float(value)) for t, value in rows] for key, rows in points(pulled).items()}
    assert len(expected) > 200
    assert got == expected


def test_the_plan_says_what_was_asked(pulled: Path) -> None:
    """The scrape interval is the server's; series and points of each file are as they came."""
    plan = json.loads((pulled / "plan.json").read_text())
    assert {file["step_s"] for file in plan["files"]} == {STEP_S}
    assert plan["notes"] == []
    for file in plan["files"]:
        body = gzip.decompress((pulled / file["file"]).read_bytes()).decode()
        rows = json.loads(body)["data"]["result"]
        assert len(rows) == file["expected_series"]
        assert max(len(row["values"]) for row in rows) <= file["expected_points"] == 244


def test_checksums_are_what_sha256sum_reads(pulled: Path) -> None:
    """Every file is listed once, with its bytes' hash."""
    sums = (pulled / "SHA256SUMS").read_text().splitlines()
    assert len(sums) == len(finished(pulled))
    done = subprocess.run([needs("sha256sum"), "-c", "--quiet", "SHA256SUMS"], cwd=pulled, check=False)
    assert done.returncode == 0


def test_the_folder_is_an_input(pulled: Path, hsa, tmp_path: Path) -> None:
    """hsa run takes it as it is."""
    done = hsa("ingest", pulled, "--run-dir", tmp_path / "run", "-o", "json", "-q")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows_read"] == found["rows_stored"] == sum(len(rows) for rows in points(pulled).values())
    assert found["broken"] == []


@pytest.fixture
def hsa():
    """Run the program in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HSA_")} | {
        "NO_PROXY": "127.0.0.1"
    }

    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hs_analysis", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment | more, timeout=120
        )

    return run


def test_doctor_knows_the_plan(pulled: Path, hsa, tmp_path: Path) -> None:
    """A whole folder passes; a missing, a short and a thinned file are findings, each with its command."""

    def findings(folder: Path) -> list[tuple[str, str]]:
        done = hsa("doctor", folder, "--run-dir", folder.with_suffix(".run"), "-q", "-o", "json")
        assert done.returncode == 0, done.stderr
        return [(f["level"], f["text"]) for f in json.loads(done.stdout)["findings"] if f["check"] == "plan"]

    whole, harmed = tmp_path / "whole", tmp_path / "harmed"
    for folder in (whole, harmed):
        shutil.copytree(pulled, folder)
    assert findings(whole) == [("pass", "every file of plan.json is there, whole and at its step")]
    (harmed / "up.000.json.gz").unlink()
    for name, keep in (("num_requests_waiting", slice(100)), ("num_requests_running", slice(None, None, 3))):
        path = harmed / f"vllm__{name}.000.json.gz"
        body = json.loads(gzip.decompress(path.read_bytes()))
        for row in body["data"]["result"]:
            row["values"] = row["values"][keep]
        path.write_bytes(gzip.compress(json.dumps(body).encode()))
    missing, short, step = sorted(findings(harmed), key=lambda one: (one[0], "running" in one[1]))
    assert missing[0] == "fail"
    assert "up: 1 of 1 planned files are missing (up.000.json.gz)" in missing[1]
    assert f"repeat: hsa pull --url URL --out {harmed}" in missing[1]
    assert short[0] == step[0] == "warn"
    assert "vllm__num_requests_waiting.000.json.gz ends at 2026-11-24T12:2" in short[1]
    assert "has a sample every 15" in step[1]
    assert "curl -fsSG URL/api/v1/query_range" in step[1]


def test_small_parts_give_the_same_points(prometheus: str, pulled: Path, tmp_path: Path) -> None:
    """Files fetched in many documents hold each point once."""
    fetch_into(tmp_path / "dumps", prometheus, Limits(samples=200, points=50))
    assert points(tmp_path / "dumps") == points(pulled)


def test_the_point_limit_met_on_purpose(prometheus: str, tmp_path: Path) -> None:
    """Asked for 12,151 points at once, the server refuses; the halves hold every one of them."""
    pulled = fetch_into(tmp_path / "dumps", prometheus, step_s=0.1, exporters=("dynamo_router",))
    whole = points(tmp_path / "dumps")
    assert {got.file.expected_points for got in pulled.files} == {11_000, 1_151}
    shutil.rmtree(tmp_path / "dumps")

    import hs_analysis.collect.plan as plans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "MOST_POINTS", 20_000)
        over = fetch_into(
            tmp_path / "dumps", prometheus, Limits(10**9, 20_000), step_s=0.1, exporters=("dynamo_router",)
        )
    assert {got.file.expected_points for got in over.files} == {12_151}
    assert {got.fetched.parts for got in over.files if got.fetched} == {2}
    assert {k: sorted(v) for k, v in points(tmp_path / "dumps").items()} == {
        k: sorted(v) for k, v in whole.items()
    }
    assert all(len({t for t, _ in rows}) == len(rows) for rows in whole.values())
    steady = next(rows for key, rows in whole.items() if dict(key)["__name__"] == "up")
    assert {round(b[0] - a[0], 3) for a, b in pairwise(steady)} == {0.1}


def test_an_overridden_step_is_noted(prometheus: str, tmp_path: Path) -> None:
    """Longer drops samples, shorter repeats them."""
    longer = fetch_into(tmp_path / "a", prometheus, step_s=15.0, exporters=("dynamo_router",))
    assert longer.plan.notes == (
        "step 15 s is longer than the scrape interval of 5 s: 67% of samples are dropped",
    )
    shorter = fetch_into(tmp_path / "b", prometheus, step_s=1.0, exporters=("dynamo_router",))
    assert shorter.plan.notes == ("step 1 s is shorter than the scrape interval of 5 s: samples repeat",)


def test_killed_in_the_middle(prometheus: str, pulled: Path, hsa, tmp_path: Path) -> None:
    """kill -9 leaves whole files only; the same command goes on, and the folder is as if nothing had been."""
    folder = tmp_path / "dumps"
    command = [
        sys.executable,
        "-m",
        "hs_analysis",
        "pull",
        "--url",
        prometheus,
        *WINDOW,
        "--out",
        str(folder),
    ]
    environment = os.environ | {"NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(
        [*command, "--rate", "40"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while len(finished(folder)) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = {path.name: path.read_bytes() for path in finished(folder)}
    assert 5 <= len(before) < len(finished(pulled))
    for data in before.values():
        json.loads(gzip.decompress(data))
    (folder / ".draft-up.000.json.gz").write_bytes(b"half")
    cut = folder / sorted(before)[0]
    cut.write_bytes(cut.read_bytes()[:-20])  # a disk that lost its last block
    done = hsa("pull", "--url", prometheus, "--out", folder, "--rate", "1000", "-o", "json")
    assert done.returncode == 0, done.stderr
    states = Counter(file["state"] for file in json.loads(done.stdout)["files"])
    assert states["there already"] in (len(before) - 1, len(before) - 2)
    for name in ("plan.json", "SHA256SUMS", *before):
        assert (folder / name).read_bytes() == (pulled / name).read_bytes(), name
    assert points(folder) == points(pulled)
    assert not list(folder.glob(".draft-*"))


def test_the_commands_give_the_same_points(prometheus: str, pulled: Path, hsa, tmp_path: Path) -> None:
    """export-plan on the server's list of series, run by a shell, is pull; run again it leaves all alone."""
    needs("curl")
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


def test_a_failed_command_ends_the_script(hsa, tmp_path: Path) -> None:
    """Nothing answers: the first command's error, and no file."""
    needs("curl")
    done = hsa("export-plan", *WINDOW, "--url", "http://127.0.0.1:9", "--out", tmp_path, "-q")
    shell = subprocess.run(
        ["sh"], input=done.stdout, text=True, cwd=tmp_path, capture_output=True, check=False
    )
    assert shell.returncode != 0
    assert len(shell.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_promtool_gives_the_same_points(prometheus: str, pulled: Path, hsa, tmp_path: Path) -> None:
    """Its answers have no envelope; the series are the same."""
    needs("promtool")
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
    done = hsa("export-plan", *WINDOW, *arguments, "--tool", "promtool", "--out", tmp_path, "-q")
    subprocess.run(["sh"], input=done.stdout, text=True, cwd=tmp_path, check=True)
    whole = points(pulled)
    rows = [row for f in finished(tmp_path) for row in json.loads(gzip.decompress(f.read_bytes())) or []]
    assert rows
    for row in rows:
        got = [(float(t), value) for t, value in row["values"]]
        assert got == whole[tuple(sorted(row["metric"].items()))]
