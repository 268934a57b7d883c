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
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from collect.snapshot import END, START, WINDOW, Key, fetch_into, finished, points, unpacked
from outside import needs

from hs_analysis.collect.fetch import ServerLimits

STEP_S, LOOK_BACK_S = 5.0, 300.0


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of promtool's dump of the snapshot."""
    snapshot = unpacked(tmp_path_factory.mktemp("dumped"))
    command = [needs("promtool"), "tsdb", "dump", str(snapshot)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


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


def as_evaluated(samples: list[tuple[float, float]], step_s: float) -> list[tuple[float, float]]:
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
        t += step_s
    return shown


def in_the_window(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The samples that a range selector shows: those in the window, without the marks of staleness."""
    start, end = (datetime.fromisoformat(text).timestamp() for text in (START, END))
    return [(t, value) for t, value in samples if start <= t <= end and value == value]


def assert_holds(folder: Path, dumped: list[str], shown: Callable[[list], list]) -> None:
    """Hold a folder to what is to be shown of the dump: each series of a needed metric, nothing twice."""
    plan = json.loads((folder / "plan.json").read_text())
    metrics = {file["metric"] for file in plan["files"]}
    jobs = {"dynamo-worker", "dynamo-frontend"}
    expected = {
        key: samples
        for key, whole in samples_of(dumped).items()
        if dict(key)["__name__"] in metrics and dict(key)["job"] in jobs and (samples := shown(whole))
    }
    got = {key: [(t, float(value)) for t, value in rows] for key, rows in points(folder).items()}
    assert len(expected) > 200
    assert got == expected


@pytest.mark.outside("promtool")
def test_every_sample_of_the_dump(pulled: Path, dumped: list[str]) -> None:
    """Each value with the time at which it was scraped."""
    assert_holds(pulled, dumped, in_the_window)


@pytest.mark.outside("promtool")
def test_every_point_of_a_grid(prometheus: str, dumped: list[str], tmp_path: Path) -> None:
    """With a step longer than the scrape interval: each value that a series had on the grid."""
    fetch_into(tmp_path / "dumps", prometheus, step_s=15.0)
    assert_holds(tmp_path / "dumps", dumped, lambda samples: as_evaluated(samples, 15.0))


def test_the_plan_says_what_was_asked(pulled: Path) -> None:
    """The scrape interval is the server's; series and samples of each file are as they came."""
    plan = json.loads((pulled / "plan.json").read_text())
    assert {(file["api"], file["step_s"]) for file in plan["files"]} == {("query", STEP_S)}
    assert plan["notes"] == []
    for file in plan["files"]:
        body = gzip.decompress((pulled / file["file"]).read_bytes()).decode()
        rows = json.loads(body)["data"]["result"]
        assert len(rows) == file["expected_series"]
        assert max(len(row["values"]) for row in rows) <= file["expected_points"] == 244


@pytest.mark.outside("sha256sum")
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
    assert "curl -fsSG URL/api/v1/query --data-urlencode" in step[1]
    strict = hsa("doctor", harmed, "--strict", "-q")
    assert (strict.returncode, strict.stdout) == (4, "")
    assert "hsa doctor: plan.json: up: 1 of 1 planned files are missing (up.000.json.gz)" in strict.stderr


def test_small_parts_give_the_same_points(prometheus: str, pulled: Path, tmp_path: Path) -> None:
    """Files fetched in many documents hold each point once."""
    fetch_into(tmp_path / "dumps", prometheus, ServerLimits(samples=200, points=50))
    assert points(tmp_path / "dumps") == points(pulled)


def test_the_point_limit_met_on_purpose(prometheus: str, tmp_path: Path) -> None:
    """Asked for 13,243 points at once, the server refuses; the halves hold every one of them."""
    asked = {"step_s": 7.0, "exporters": ("dynamo_router",), "start": "2026-11-23T10:51:42Z"}
    pulled = fetch_into(tmp_path / "dumps", prometheus, **asked)
    whole = points(tmp_path / "dumps")
    assert {got.file.expected_points for got in pulled.files} == {11_000, 2_243}
    shutil.rmtree(tmp_path / "dumps")

    import hs_analysis.collect.plan as plans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "MOST_POINTS", 20_000)
        over = fetch_into(tmp_path / "dumps", prometheus, ServerLimits(10**9, 20_000), **asked)
    assert {got.file.expected_points for got in over.files} == {13_243}
    assert {got.fetched.parts for got in over.files if got.fetched} == {2}
    assert {k: sorted(v) for k, v in points(tmp_path / "dumps").items()} == {
        k: sorted(v) for k, v in whole.items()
    }
    assert all(len({t for t, _ in rows}) == len(rows) for rows in whole.values())
    steady = next(rows for key, rows in whole.items() if dict(key)["__name__"] == "up")
    assert {round(b[0] - a[0], 3) for a, b in pairwise(steady)} == {7.0}


def test_samples_as_scraped_have_no_point_limit(prometheus: str, pulled: Path, tmp_path: Path) -> None:
    """A day at the interval is 17,000 points, of which a range selector gives the samples that are there."""
    before = "2026-11-23T12:16:30Z"
    asked = {"start": before, "exporters": ("dynamo_router",)}

    import hs_analysis.collect.plan as plans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "MOST_POINTS", 20_000)
        over = fetch_into(tmp_path / "dumps", prometheus, ServerLimits(10**9, 20_000), **asked)
    assert {got.file.expected_points for got in over.files} == {17_524}
    assert {got.fetched.parts for got in over.files if got.fetched} == {1}
    start = datetime.fromisoformat(START).timestamp()
    found = {
        key: [(t, value) for t, value in rows if t >= start]
        for key, rows in points(tmp_path / "dumps").items()
    }
    assert found == {key: rows for key, rows in points(pulled).items() if key in found}


def test_an_overridden_step_is_noted(prometheus: str, tmp_path: Path) -> None:
    """Longer drops samples, shorter changes nothing."""
    longer = fetch_into(tmp_path / "a", prometheus, step_s=15.0, exporters=("dynamo_router",))
    assert longer.plan.notes == (
        "step 15 s is longer than the scrape interval of 5 s: 67 % of samples are dropped",
    )
    shorter = fetch_into(tmp_path / "b", prometheus, step_s=1.0, exporters=("dynamo_router",))
    assert shorter.plan.notes == (
        "step 1 s is shorter than the scrape interval of 5 s: samples come as scraped",
    )
    assert {got.file.api for got in longer.files} == {"query_range"}
    assert {got.file.step_s for got in shorter.files} == {5.0}


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
