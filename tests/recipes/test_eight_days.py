"""Eight days with the built wheel alone: the shipped sample, then the weekly recipe on a real Prometheus.

On the eighth day requests change their shape unannounced: the gate closes, and the comparison says why.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from export.prometheus_server import prometheus_with
from recipes.eight_days import eight_days
from recipes.test_weekly import weekly
from simulator.workloads import DAY_S

pytestmark = [pytest.mark.slow, pytest.mark.outside("prometheus", "promtool")]

SETTINGS = """[slo]
ttft = "2.2s"
tbt = "50ms"

[startup]
prefill = "240s"
decode = "240s"
"""


@pytest.fixture(scope="module")
def python(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the built wheel; what it needs are packages of the tests.

    Its own folder comes first; the checkout, linked from the tests' environment, is not followed.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    (library,) = (folder / "venv").glob("lib/python*/site-packages")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(library),
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    spec = find_spec("typer")
    assert spec is not None
    assert spec.origin is not None
    (library / "needed.pth").write_text(str(Path(spec.origin).parents[1]))
    made = folder / "venv" / "bin" / "python"
    said = subprocess.run(
        [made, "-c", "import hs_analysis; print(hs_analysis.__file__)"], cwd=folder, text=True, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert Path(said.stdout.strip()).is_relative_to(folder)
    return made


def test_the_shipped_sample_is_the_first_minute(python: Path, tmp_path: Path) -> None:
    """`hsa init --demo` names the next command, and that one ends with an answer and a report."""
    made = subprocess.run(
        [python, "-m", "hs_analysis", "init", "--demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    *_, following = made.stdout.splitlines()
    assert following.startswith("next: hsa run ")
    done = subprocess.run(
        [python, "-m", "hs_analysis", *following.split()[2:], "-q"], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith("sim-llama-8b: apply the KEDA policy")
    assert (tmp_path / lines[-1].removeprefix("report: ")).is_file()


def test_an_unannounced_change_of_mix_on_the_eighth_day(python: Path, tmp_path: Path) -> None:
    """Seven days alike give a policy; a day later the gate closes, and what to act on has its cause."""
    rows, end = eight_days(1)
    latest = tmp_path / "state" / "latest"
    with prometheus_with(rows) as url:
        first = weekly(url, tmp_path, "2026-W10", end - DAY_S, python=python, settings=SETTINGS)
        assert first.returncode == 0, first.stderr
        assert "apply the KEDA policy" in (latest / "answer.md").read_text("utf-8")
        second = weekly(url, tmp_path, "2026-W11", end, python=python, settings=SETTINGS)
    assert second.returncode == 3, second.stderr
    assert (latest / "gate").read_text() == "3\n"
    changes = (latest / "changes.md").read_text("utf-8")
    to_act, _, _ = changes.partition("made from")
    assert to_act.startswith("Something changed that you must act on:")
    assert "the mix moves by a factor of" in to_act
    assert "what moved is prompt length" in to_act
    assert "query" not in to_act
    assert "what moved is prompt length" in second.stderr
