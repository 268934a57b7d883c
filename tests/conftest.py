"""What all tests share: one thread per process, repeatable properties, real data, whole runs of samples."""

from __future__ import annotations

import atexit
import fcntl
import functools
import gc
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import outside
import pytest
import typer.main
import typer.testing
from end_to_end.runs import Finished, Run, run
from hypothesis import settings
from report.browser import browser

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy and polars are imported: they read it once

# Each worker rewrites the assertions of every test, and tests start the program often: without kept bytecode
# all of it is compiled anew each time, a tenth of the whole suite's work. The Makefile does the same.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A command line in this process: Typer reads the signatures of all commands again for each call.
typer.testing._get_command = functools.cache(typer.main.get_command)

CACHE = tempfile.mkdtemp(prefix="hs-analysis-tests-")
os.environ["XDG_CACHE_HOME"] = CACHE  # what doctor keeps of an input it only looks at
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

for _profile, _examples in (("repeatable", 20), ("thorough", 400)):  # `make check-slow` is thorough
    settings.register_profile(
        _profile, derandomize=True, deadline=None, database=None, max_examples=_examples
    )
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let workers collect one after another where no bytecode is kept yet: the first makes it for all."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None or (ROOT / "tests" / "align" / "__pycache__").exists():
        return (yield)
    path = Path(tempfile.gettempdir()) / f"hs-analysis-collecting-{run}"
    atexit.register(path.unlink, missing_ok=True)
    with path.open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_finish() -> None:
    """Keep modules and collected tests out of garbage collections, which would walk them again and again."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the tests cost: CPU time, because wall time depends on what else the machine does."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in used)
    terminalreporter.write_line(f"CPU {cpu_s:.0f} s of user and system time, all processes that have ended")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what can't run here before anything is made for it."""
    outside.expect(item)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def running() -> Iterator[Any]:
    """Start Chromium once for all tests of a worker."""
    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder named by HSA_REAL_DATA, which holds captures too large for the repository."""
    folder = os.environ.get("HSA_REAL_DATA")
    if not folder:
        pytest.skip("HSA_REAL_DATA names no folder of real captures")
    path = Path(folder)
    assert path.is_dir(), f"HSA_REAL_DATA is {folder}, which is not a folder"
    return path


MadeOnce = Callable[[str, Callable[[Path], object]], Path]
"""Takes a name and what fills a new folder, and returns the folder that all tests share under that name."""


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return a maker of folders: the first caller of all workers fills one, the others read it only."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, fill: Callable[[Path], object]) -> Path:
        folder, whole = shared / name, shared / f"{name}.whole"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                fill(folder)
                whole.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def finished(made_once: MadeOnce) -> Finished:
    """Return `run` of a source and options, the first caller's work shared with all others: read it only."""

    def once(source: Path, *options: str) -> Run:
        key = hashlib.sha256(repr((str(source), options)).encode()).hexdigest()[:16]
        folder = made_once(f"finished-{key}", lambda folder: run(source, folder, *options))
        return Run(folder, json.loads((folder / "summary.json").read_text("utf-8")))

    return once
