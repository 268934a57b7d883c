"""Killed, out of space, or twice in one folder: nothing half-written, and the next run ends the same."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.conftest import small_history, write_dumps
from robustness.machine import LIMITS, SHORT, files_up_to, here, hsa, leftovers, plain_refusal

from hs_analysis.errors import HsError, MachineError, machine_in_words
from hs_analysis.pipeline import manifest as manifests

ANSWERS = ("summary.json", "policy.yaml")


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dumps(tmp_path_factory.mktemp("interrupted") / "dumps", small_history(SHORT))


@pytest.fixture(scope="module")
def whole(dumps: Path) -> dict[str, bytes]:
    """The answers of a run that nothing disturbed."""
    folder = dumps.parent / "whole"
    done = here("run", dumps, "--run-dir", folder, *LIMITS)
    assert done.code == 0, done.err
    return {name: (folder / name).read_bytes() for name in ANSWERS}


def recorded_files_are_whole(folder: Path) -> bool:
    """Whether every file that the manifest claims has the bytes it claims."""
    found = manifests.read(folder)
    return found is None or all(f.intact(folder) for stage in found.stages.values() for f in stage.files)


def went_on(dumps: Path, folder: Path) -> dict[str, bytes]:
    """Run again where one was killed, and return the answers."""
    assert recorded_files_are_whole(folder)
    done = here("run", dumps, "--run-dir", folder, *LIMITS)
    assert done.code == 0, done.err
    assert leftovers(folder) == []
    return {name: (folder / name).read_bytes() for name in ANSWERS}


def test_killed_in_the_middle(dumps: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """While the third stage works: what two have finished is kept, and the rest is done by the next run."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "hs_analysis", "run", str(dumps), "--run-dir", str(folder), *LIMITS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = [next(running.stderr) for _ in range(2)]
        running.kill()
        said += running.stderr.readlines()
    assert running.returncode in (-9, 0), said
    found = manifests.read(folder)
    assert found is not None
    assert len(found.stages) >= 2, said
    assert went_on(dumps, folder) == whole


@pytest.mark.slow
def test_killed_at_any_moment(dumps: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """After each kill the manifest claims only whole files; the next run ends with the very same answers."""
    seconds = hsa("run", dumps, "--run-dir", tmp_path / "timed", *LIMITS).seconds
    moments = random.Random(24)
    folder = tmp_path / "run"
    for number in range(1, 25):
        done = hsa("run", dumps, "--run-dir", folder, *LIMITS, kill_after_s=moments.uniform(0, seconds))
        assert done.code in (-9, 0), done.err
        assert recorded_files_are_whole(folder)
        if number % 3 == 0:  # go on from some kills, start afresh after others
            assert went_on(dumps, folder) == whole
            shutil.rmtree(folder)


@pytest.mark.parametrize("largest_file", [1_000, 4_000, 60_000])
def test_no_room_for_a_file(largest_file: int, dumps: Path, tmp_path: Path) -> None:
    """One line says so; what was written before is whole, and nothing is left under a temporary name."""
    with files_up_to(largest_file):
        done = here("run", dumps, "--run-dir", tmp_path / "run", *LIMITS)
    assert plain_refusal(done), done.err
    assert "would become larger than is allowed" in done.last
    assert leftovers(tmp_path) == []
    assert recorded_files_are_whole(tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "place: no space left"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "place/.lock"), "place/.lock: the file system"),
        (RuntimeError("IO Error: Could not write: No space left on device"), "place: no space left"),
        (MemoryError(), "place: not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_said_in_words(error: Exception, says: str) -> None:
    with pytest.raises(MachineError) as told, machine_in_words("place"):
        raise error
    assert str(told.value).startswith(says)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "gone"), KeyError("x"), HsError("mine")])
def test_bugs_and_own_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as told, machine_in_words("place"):
        raise error
    assert told.value is error


@pytest.mark.slow
def test_two_at_once_in_one_folder(dumps: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """One of the two does the work, the other is refused or comes late and finds nothing to do."""
    words = ["run", str(dumps), "--run-dir", str(tmp_path / "run"), *LIMITS]
    command = [sys.executable, "-m", "hs_analysis", *words]
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as other:
        assert other.stderr is not None
        first = next(other.stderr)  # its first stage has ended: it holds the folder
        mine = here(*words)
        theirs = other.communicate()[1]
    both = ((mine.code, mine.err), (other.returncode, first + theirs))
    assert sorted(code for code, _ in both) in ([0, 1], [0, 0]), both
    for refused in (text for code, text in both if code):
        assert "another hsa is writing this folder" in refused
        assert "Traceback" not in refused
    assert {name: (tmp_path / "run" / name).read_bytes() for name in ANSWERS} == whole
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]
