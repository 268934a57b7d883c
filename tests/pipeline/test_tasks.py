"""Tasks give the same results, in the same order, wherever they run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.runs import SAMPLES, Finished
from pipeline.squares import Square, squared

from hs_analysis.errors import MachineError, UsageError
from hs_analysis.pipeline import tasks
from hs_analysis.pipeline.tasks import map_tasks
from hs_analysis.schema.settings import Machine

RAY = pytest.mark.outside("ray")
SAMPLE = Path(__file__).parents[2] / "data_samples" / "dynamo-pd"


def test_few_tasks_run_here_in_order() -> None:
    """Other processes would take longer to start than the work."""
    found = list(map_tasks(squared, [Square(n) for n in (3, 1, 2)]))
    assert found == [(9, os.getpid()), (1, os.getpid()), (4, os.getpid())]


def test_many_tasks_run_in_other_processes_and_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are in the order of the tasks; the first that fails raises what it raised."""
    monkeypatch.setattr(tasks.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(tasks, "_can_start_again", lambda: True)
    found = list(map_tasks(squared, [Square(n) for n in range(6)]))
    assert [square for square, _ in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process in found}
    with pytest.raises(UsageError, match="no square") as raised:
        list(map_tasks(squared, [Square(n) for n in (1, -1, 2, 3)]))
    assert raised.value.hint == "give another"


def test_a_program_without_a_guard_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's script would run from its top in every new process."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "notes.py", raising=False)
    assert {process for _, process in map_tasks(squared, [Square(n) for n in range(6)])} == {os.getpid()}


def test_an_engine_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and the way out."""
    monkeypatch.setattr(tasks, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"needs the package ray; pip install 'hs-analysis\[ray\]'"):
        list(map_tasks(squared, [Square(1)], Machine(engine="ray")))


@RAY
def test_a_ray_cluster_finds_the_same() -> None:
    """Same results in the same order from other processes; errors arrive as what they are."""
    script = f"""
import sys; sys.path[:0] = {sys.path!r}
import os
from pipeline.squares import Square, squared
from hs_analysis.errors import UsageError
from hs_analysis.pipeline.tasks import map_tasks
from hs_analysis.schema.settings import Machine
found = list(map_tasks(squared, [Square(n) for n in range(5)], Machine(engine="ray")))
assert [square for square, _ in found] == [0, 1, 4, 9, 16], found
assert os.getpid() not in {{process for _, process in found}}
try:
    list(map_tasks(squared, [Square(-1)], Machine(engine="ray")))
except UsageError as error:
    assert error.line() == "no square of a negative number; give another", error.line()
else:
    raise AssertionError("no error")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=_env()
    )
    assert done.returncode == 0, done.stderr


@RAY
@pytest.mark.slow
def test_a_run_on_ray_writes_the_same_files(tmp_path: Path, finished: Finished) -> None:
    """Byte for byte: summary, policy and the tables of selection and replay."""
    local, ray = finished(SAMPLE, *SAMPLES[SAMPLE.name]).folder, tmp_path / "ray"
    command = [sys.executable, "-m", "hs_analysis", "run", SAMPLE, "--run-dir", ray, "-q", "--engine", "ray"]
    done = subprocess.run(
        [*command, *SAMPLES[SAMPLE.name]], capture_output=True, text=True, check=False, env=_env()
    )
    assert done.returncode == 0, done.stderr
    names = ["summary.json", "policy.yaml", "data/select.parquet"]
    names += [f"data/replay/{path.name}" for path in sorted((local / "data" / "replay").iterdir())]
    assert len(names) > 5
    assert [name for name in names if (local / name).read_bytes() != (ray / name).read_bytes()] == []


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
