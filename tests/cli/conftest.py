"""A small history of a prefill/decode service as query_range answers, and a program to run on it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hs_analysis.cli.app import app

START, STEP_S, HOURS = 1_782_864_000, 30, 12  # 2026-07-01T00:00:00Z
ISL, OSL = 900.0, 150.0  # tokens of a request


def _series(name: str, labels: dict[str, str], values: np.ndarray) -> dict[str, Any]:
    times = range(START, START + STEP_S * len(values), STEP_S)
    pairs = [[t, f"{v:.6g}"] for t, v in zip(times, values, strict=True)]
    return {"metric": {"__name__": name, **labels}, "values": pairs}


def small_history(hours: int = HOURS, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Return series by metric of half a day with waves of load: 3 prefill pods, 2 decode pods, front end."""
    rng = np.random.default_rng(seed)
    rows = hours * 3600 // STEP_S
    clock = np.arange(rows) * STEP_S / 3600
    rate = 6 + 3.5 * np.sin(2 * np.pi * clock / 5) + 0.6 * np.sin(2 * np.pi * clock / 0.7)
    started = np.cumsum(rng.poisson(rate * STEP_S)).astype(float)
    done = np.concatenate([[0.0], started[:-1]])
    load = np.diff(started, prepend=0.0) / STEP_S
    front = {"model": "m", "namespace": "demo", "job": "dynamo-frontend"}
    latency = {
        "dynamo_frontend_time_to_first_token_seconds": (0.3 + 0.02 * load, done, ("0.5", "1", "2.5", "+Inf")),
        "dynamo_frontend_inter_token_latency_seconds": (0.02 + 0.001 * load, done * OSL, ("0.05", "+Inf")),
    }
    series = [
        _series("dynamo_frontend_requests_started_total", front, started),
        _series("dynamo_frontend_output_sequence_tokens_sum", front, done * OSL),
        _series("dynamo_frontend_output_sequence_tokens_count", front, done),
    ]
    for name, (mean, count, edges) in latency.items():
        series.append(_series(f"{name}_sum", front, np.cumsum(mean * np.diff(count, prepend=0.0))))
        series.append(_series(f"{name}_count", front, count))
        series += [_series(f"{name}_bucket", {**front, "le": edge}, count) for edge in edges]
    for role, pods, metric, tokens in (
        ("prefill", 3, "vllm:prompt_tokens_total", ISL),
        ("decode", 2, "vllm:generation_tokens_total", OSL),
    ):
        for number in range(pods):
            pod = {"model_name": "m", "namespace": "demo", "pod": f"m-{role}-{number}", "job": f"vllm-{role}"}
            share = np.round(done * tokens / pods)
            series.append(_series(metric, pod, share))
            if role == "prefill":
                by_source = {**pod, "source": "local_compute"}
                series.append(_series("vllm:prompt_tokens_by_source_total", by_source, share))
            busy = load / pods / (4.0 if role == "prefill" else 6.0) * rng.normal(1.0, 0.01, rows)
            series.append(_series("DCGM_FI_PROF_SM_ACTIVE", {"exported_pod": pod["pod"], **pod}, busy))
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for one in series:
        by_metric.setdefault(str(one["metric"]["__name__"]), []).append(one)
    return by_metric


def write_dumps(folder: Path, history: dict[str, list[dict[str, Any]]]) -> Path:
    """Write one query_range answer per metric."""
    folder.mkdir(parents=True)
    for name, series in history.items():
        answer = {"status": "success", "data": {"resultType": "matrix", "result": series}}
        (folder / f"{name.replace(':', '__')}.json").write_text(json.dumps(answer))
    return folder


@pytest.fixture(scope="session")
def dumps(made_once: Callable[..., Path]) -> Path:
    """A folder of dumps, and one file that is none."""

    def fill(folder: Path) -> None:
        write_dumps(folder, small_history())
        (folder / "notes.md").write_text("not a dump")

    return made_once("small-dumps", fill)


@pytest.fixture
def small_dumps(tmp_path: Path) -> Callable[[int], Path]:
    """Make a history of some hours."""

    def make(hours: int) -> Path:
        return write_dumps(tmp_path / f"{hours}h", small_history(hours))

    return make


@pytest.fixture(scope="session")
def finished(dumps: Path, made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run; tests must not change it. A worker's own copy: commands lock it."""

    def fill(folder: Path) -> None:
        arguments = ["run", str(dumps), "--run-dir", str(folder), "-q", *LIMITS]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    return Path(shutil.copytree(made_once("small-run", fill), tmp_path_factory.mktemp("finished") / "run"))


SHIPPED, OWN = "vllm:generation_tokens_total", "engine_tokens_out"
"""A counter as vLLM names it, and under a name of the user's that has no ending of a counter."""

OWN_TOML = f"""[metrics]
"{OWN}" = {{ signal = "decode_tps", kind = "counter", unit = "tokens" }}
[gpus]
"*" = 4
[prices]
"NVIDIA H20" = 2.5
"""


@pytest.fixture(scope="session")
def own_and_priced(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same history on GPUs of one type, four an instance, at a price; a counter has a name of the user's.

    One value of that counter is broken.
    """

    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "hsa.toml").write_text(OWN_TOML)
        history = small_history()
        for one in history["DCGM_FI_PROF_SM_ACTIVE"]:
            one["metric"]["modelName"] = "NVIDIA H20"
        history[OWN] = history.pop(SHIPPED)
        for one in history[OWN]:
            one["metric"]["__name__"] = OWN
            one["values"].insert(7, [one["values"][7][0] - 10, "-1"])
        arguments = ["run", str(write_dumps(folder / "dumps", history)), "--run-dir", str(folder / "run")]
        arguments += ["-q", *LIMITS, "--config", str(folder / "hsa.toml")]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    made = made_once("own-and-priced", fill)
    return Path(shutil.copytree(made / "run", tmp_path_factory.mktemp("own-and-priced") / "run"))


LIMITS = ("--slo", "ttft=2.5s", "--slo", "tbt=50ms", "--startup", "120s")


@pytest.fixture
def hsa() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program in this process, in a folder and with standard input as a user would."""

    def run(
        *arguments: str | Path, cwd: Path | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in arguments]
        with contextlib.chdir(cwd or Path.cwd()):
            done = CliRunner().invoke(app, words, input=stdin, catch_exceptions=False)
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return run
