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
from robustness.machine import LIMITS, SHORT, hsa, leftovers, plain_refusal

from hs_analysis.errors import HsError, MachineError, machine_in_words
from hs_analysis.pipeline import manifest as manifests

ANSWERS = ("summary.json", "policy.yaml")


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dumps(tmp_path_factory.mktemp("interrupted") / "dumps", small_history(SHORT))


@pytest.fixture(scope="module")
def whole(dumps: Path) -> tuple[dict[str, bytes], float]:
    """The answers of a run that nothing disturbed, and its seconds."""
    folder = dumps.parent / "whole"
    done = hsa("run", dumps, "--run-dir", folder, *LIMITS)
    assert done.code == 0, done.err
    return {name: (folder / name).read_bytes() for name in ANSWERS}, done.seconds


def recorded_files_are_whole(folder: Path) -> bool:
    """Whether every file that the manifest claims has the bytes it claims."""
    found = manifests.read(folder)
    return found is None or all(f.intact(folder) for stage in found.stages.values() for f in stage.files)


@pytest.mark.parametrize("kills", [3, pytest.param(24, marks=pytest.mark.slow)])
def test_killed_at_any_moment(
    kills: int, dumps: Path, whole: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    """After each kill the manifest claims only whole files; the next run ends with the very same answers."""
    answers, seconds = whole
    moments = random.Random(kills)
    folder = tmp_path / "run"
    for number in range(1, kills + 1):
        done = hsa("run", dumps, "--run-dir", folder, *LIMITS, kill_after_s=moments.uniform(0, seconds))
        assert done.code in (-9, 0), done.err
        assert recorded_files_are_whole(folder)
        if number % 3 == 0:  # go on from some kills, start afresh after others
            assert hsa("run", dumps, "--run-dir", folder, *LIMITS).code == 0
            assert {name: (folder / name).read_bytes() for name in ANSWERS} == answers
            assert leftovers(folder) == []
            shutil.rmtree(folder)


@pytest.mark.parametrize("largest_file", [1_000, 4_000, 60_000])
def test_no_room_for_a_file(largest_file: int, dumps: Path, tmp_path: Path) -> None:
    """One line says so; what was written before is whole, and nothing is left under a temporary name."""
    done = hsa("run", dumps, "--run-dir", tmp_path / "run", *LIMITS, largest_file=largest_file)
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


def test_two_at_once_in_one_folder(
    dumps: Path, whole: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    """One of the two does the work, the other is refused or comes late and finds nothing to do."""
    words = ["run", str(dumps), "--run-dir", str(tmp_path / "run"), *LIMITS]
    command = [sys.executable, "-m", "hs_analysis", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, **pipes) for _ in "ab"]
    said = [one.communicate()[1] for one in both]
    codes = sorted(one.returncode for one in both)
    assert codes in ([0, 1], [0, 0]), said
    if 1 in codes:
        (refused,) = [text for one, text in zip(both, said, strict=True) if one.returncode]
        assert "another hsa is writing this folder" in refused
        assert "Traceback" not in refused
    assert {name: (tmp_path / "run" / name).read_bytes() for name in ANSWERS} == whole[0]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]
