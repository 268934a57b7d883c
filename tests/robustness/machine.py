"""The program in a process of its own: what it says, how much memory it took, under limits and kills."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LIMITS = ("--slo", "ttft=2.5s", "--slo", "tbt=50ms", "--startup", "120s")
SHORT = 2
"""Hours of the small history with which all stages work and have something to say."""


@dataclass(frozen=True)
class Done:
    """A finished process: exit code (negative for a signal), both streams, highest memory [MB], time [s]."""

    code: int
    out: str
    err: str
    peak_mb: float
    seconds: float

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1] if self.err else ""


def hsa(*arguments: str | Path, largest_file: int | None = None, kill_after_s: float | None = None) -> Done:
    """Run the command line.

    Parameters
    ----------
    largest_file
        Bytes a file may have, as on a full disk; None for no limit.
    kill_after_s
        When to kill the process without warning; None for never.
    """

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    command = [sys.executable, "-m", "hs_analysis", *map(str, arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, preexec_fn=limit)
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(process.pid, signal.SIGKILL)  # Popen's own kill collects one that has ended by then
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        said = [stream.read().decode() for stream in (out, err)]
    return Done(process.returncode, *said, usage.ru_maxrss / 1024, seconds)


def leftovers(folder: Path) -> list[str]:
    """Return what lies below a folder under a temporary name."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if ".staging" in name or name.endswith((".unfinished", ".tmp")))


def plain_refusal(done: Done) -> bool:
    """Whether a command failed as users are promised: exit 1, a last line that names it, no traceback."""
    return done.code == 1 and "Traceback" not in done.err and done.last.startswith("hsa ")
