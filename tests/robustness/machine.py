"""The program in a process of its own: what it says, how much memory it took, under limits and kills."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

_LAUNCH = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "hs_analysis", *sys.argv[2:]], os.environ)
_, status, usage = os.wait4(pid, 0)
os.write(int(sys.argv[1]), repr((status, usage.ru_maxrss, usage.ru_utime + usage.ru_stime)).encode())
"""
"""A small process between: one that comes from a large one counts that one's memory as its own highest."""

LIMITS = ("--slo", "ttft=2.5s", "--slo", "tbt=50ms", "--startup", "120s")
SHORT = 2
"""Hours of the small history with which all stages work and have something to say."""


@dataclass(frozen=True)
class Done:
    """A finished process: exit code (negative for a signal), both streams, highest memory [MB], time [s].

    ``cpu_s`` is the time [s] it ran on a core, which others on the machine lengthen little. Memory and CPU
    time of a killed one are 0.
    """

    code: int
    out: str
    err: str
    peak_mb: float
    seconds: float
    cpu_s: float = 0.0

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1] if self.err else ""


def hsa(*arguments: str | Path, kill_after_s: float | None = None) -> Done:
    """Run the command line.

    Parameters
    ----------
    kill_after_s
        When to kill the process without warning; None for never.
    """
    told, tells = os.pipe()
    command = [sys.executable, "-c", _LAUNCH, str(tells), *map(str, arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, pass_fds=[tells], start_new_session=True)
        os.close(tells)
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.killpg(process.pid, signal.SIGKILL)  # Popen's own kill collects one that has ended by then
        code = process.wait()
        seconds = time.perf_counter() - began
        with os.fdopen(told, "rb") as pipe:
            measured = pipe.read()
        status, peak_kb, cpu_s = literal_eval(measured.decode()) if measured else (None, 0, 0.0)
        out.seek(0)
        err.seek(0)
        said = [stream.read().decode() for stream in (out, err)]
    code = code if status is None else os.waitstatus_to_exitcode(status)
    return Done(code, *said, peak_kb / 1024, seconds, cpu_s)


def here(*arguments: str | Path) -> Done:
    """Run the command line in this process, where neither memory nor limits are looked at."""
    from hs_analysis.cli.app import app

    began = time.perf_counter()
    done = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    return Done(done.exit_code, done.stdout, done.stderr, 0.0, time.perf_counter() - began)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow over a number of bytes meanwhile, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def leftovers(folder: Path) -> list[str]:
    """Return what lies below a folder under a temporary name."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if ".staging" in name or name.endswith((".unfinished", ".tmp")))


def plain_refusal(done: Done) -> bool:
    """Whether a command failed as users are promised: exit 1, a last line that names it, no traceback."""
    return done.code == 1 and "Traceback" not in done.err and done.last.startswith("hsa ")
