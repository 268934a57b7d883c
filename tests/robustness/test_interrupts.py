"""Ctrl-C at any moment: exit 130, one line, nothing half-written, no process left; SIGTERM alike: 143."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.conftest import small_history, write_dumps
from robustness.machine import LIMITS, SHORT, hsa, leftovers

LONGEST_END_S = 20.0
"""An interrupted process that takes longer hangs: the longest computation that hears no signal takes less."""

SMALL = """
import os, sys, time
from pathlib import Path
from hs_analysis import interrupts
interrupts.install()
sys.argv = ["hsa", "run"]
with interrupts.temporary_folder(Path({where!r}), "x-"):
    print("ready", flush=True)
    {work}
"""
"""A process that is told to end while it does some work."""

WORKS = {
    "that sleeps": "time.sleep(60)",
    "that takes errors": "\n    while True:\n        try:\n            time.sleep(0.01)\n"
    "        except BaseException:\n            pass",
    "in a destructor": "\n    class Slow:\n        def __del__(self): time.sleep(60)\n    Slow()",
}


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Send a signal, wait for the end, and return exit code and what was said on stderr.

    Sent again after a while: one that comes between Python's last look and a system call is heard at its end.
    """
    tries, said = 4, ""
    try:
        for left in reversed(range(tries)):
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired if left else ()):
                said = process.communicate(timeout=LONGEST_END_S / tries)[1]
                break
    finally:
        process.kill()
        process.wait()
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", WORKS)
def test_whatever_the_process_does(work: str, number: int, tmp_path: Path) -> None:
    """Where an exception would be swallowed, the process ends all the same, and its folder goes with it."""
    code = SMALL.format(where=str(tmp_path), work=WORKS[work])
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    returned, said = ended(process, number)
    assert returned == 128 + number
    assert said == "hsa run: interrupted; finished stages are kept, the same command goes on after them\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_ignored_stays_ignored() -> None:
    """`nohup hsa run …` outlives its terminal."""
    code = "import signal; from hs_analysis import interrupts as i; i.install(); print(+signal.getsignal(1))"
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    done = subprocess.run([*ignoring, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == signal.SIG_IGN


def has(pid: int, mask: str, number: int) -> bool:
    """Whether a process catches (``SigCgt``) or blocks (``SigBlk``) a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition(f"{mask}:")[2].split()[0], 16) & 1 << (number - 1))


def listening(process: subprocess.Popen[str]) -> None:
    """Wait until the program has put its handler in place: before, the interpreter itself is starting."""
    while process.poll() is None and not has(process.pid, "SigCgt", signal.SIGTERM):
        time.sleep(0.005)


WORKERS = """
import os, sys, time
os.environ["PYTHONWARNINGS"] = "ignore"
from hs_analysis import interrupts
from hs_analysis.pipeline.tasks import map_tasks
interrupts.install()
sys.argv = ["hsa", "run"]
list(map_tasks(time.sleep, [60] * 4))
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core runs all tasks in one process")
def test_workers_end_with_the_command() -> None:
    """A terminal sends Ctrl-C to them, too: they are silent, none stays, and nothing warns of semaphores."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKERS], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and len(children.read_text().split()) < 3:  # two workers and a tracker
        time.sleep(0.01)
    deaf = [has(int(pid), "SigBlk", signal.SIGINT) for pid in children.read_text().split()]
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=LONGEST_END_S)[1]
    left = group_is_there(process.pid)
    if left:
        os.killpg(process.pid, signal.SIGKILL)
    assert not left
    assert all(deaf[1:])  # the first is the tracker of shared memory, which ignores it
    assert process.returncode == 130
    assert len(said.splitlines()) == 1, said


def interrupt(source: Path, folder: Path, after_s: float, number: int = signal.SIGINT) -> tuple[int, str]:
    """Interrupt `hsa run` after some seconds as a terminal does, with all processes that it started."""
    command = [sys.executable, "-m", "hs_analysis", "run", str(source), "--run-dir", str(folder), *LIMITS]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    listening(process)
    time.sleep(after_s)
    os.killpg(process.pid, number)
    try:
        said = process.communicate(timeout=LONGEST_END_S)[1]
    finally:
        left = group_is_there(process.pid)
        if left:
            os.killpg(process.pid, signal.SIGKILL)
    assert not left, "a process that the command started outlives it"
    return process.returncode, said


def group_is_there(group: int) -> bool:
    """Whether a process group still has a process, some moments after its first one ended."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def hold(code: int, said: str, folder: Path, number: int = signal.SIGINT) -> None:
    """Assert what an interrupted, or by then finished, command has to keep."""
    assert code in (0, 128 + number), said
    assert "Traceback" not in said
    assert "bug in hsa" not in said
    if code:
        assert said.splitlines()[-1].startswith("hsa run: interrupted"), said
    assert leftovers(folder.parent) == []
    assert not list(folder.parent.rglob(".*.json.*"))
    # A folder that is there has at least one finished stage.
    assert not folder.exists() or (folder / "manifest.json").is_file()


@pytest.mark.slow
def test_a_run_interrupted_now_and_then(tmp_path: Path) -> None:
    """Three moments of a small run: while libraries are loaded, in ingest, and later; then it goes on."""
    source, folder = write_dumps(tmp_path / "dumps", small_history(SHORT)), tmp_path / "out/run"
    folder.parent.mkdir()
    moments = random.Random(6)
    for low, high, number in ((0, 0.5, 2), (0.5, 2.0, 2), (2.0, 4.0, 15)):
        hold(*interrupt(source, folder, moments.uniform(low, high), number), folder, number)


@pytest.mark.slow
def test_fifty_interrupts_at_random_moments(root: Path, tmp_path: Path) -> None:
    """Of runs of a real capture; each goes on from where the one before was stopped, or starts afresh.

    A command that was done before it could be interrupted does not count.
    """
    source, folder = root / "data_samples/dynamo-pd", tmp_path / "out/run"
    folder.parent.mkdir()
    whole = hsa("run", source, "--run-dir", tmp_path / "whole", *LIMITS)
    assert whole.code == 0, whole.err
    moments = random.Random(50)
    stopped = 0
    while stopped < 50:
        code, said = interrupt(source, folder, moments.uniform(0, whole.seconds))
        hold(code, said, folder)
        stopped += code != 0
        if code == 0 or stopped % 10 == 0:
            done = hsa("run", source, "--run-dir", folder, *LIMITS)
            assert done.code == 0, done.err
            for name in ("summary.json", "policy.yaml"):
                assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
            shutil.rmtree(folder)
