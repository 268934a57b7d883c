"""Two processes never write one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline.runner import lock

HOLD = """
import sys
from pathlib import Path
from hs_analysis.pipeline.runner import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_second_process_is_refused_by_the_firsts_number(tmp_path: Path) -> None:
    """The message names the process; when that ends the lock is free, even if it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RunFolderError, match=f"process {other.pid}"), lock(tmp_path):
            pass
        other.kill()
        other.wait()
    with lock(tmp_path):
        pass


def test_lock_survives_a_rename(tmp_path: Path) -> None:
    """A folder may get its final name while it is held."""
    folder = tmp_path / "a"
    folder.mkdir()
    with lock(folder):
        folder.rename(tmp_path / "b")
        with pytest.raises(RunFolderError), lock(tmp_path / "b"):
            pass
