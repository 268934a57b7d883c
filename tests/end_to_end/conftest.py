"""Runs that several modules look at, made once however many workers test."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from end_to_end.runs import Run, run

Finished = Callable[..., Run]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return `run` of a source and options, the first caller's work shared with all others: read it only."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(source: Path, *options: str) -> Run:
        key = hashlib.sha256(repr((str(source), options)).encode()).hexdigest()[:16]
        folder = shared / f"finished-{key}"
        with (shared / f"finished-{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "summary.json").is_file():
                return run(source, folder, *options)
        return Run(folder, json.loads((folder / "summary.json").read_text("utf-8")))

    return once
