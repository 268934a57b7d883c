"""What all tests share: one numeric thread per process, repeatable properties, the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy and polars are imported: they read it once

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder named by HSA_REAL_DATA, which holds captures too large for the repository."""
    folder = os.environ.get("HSA_REAL_DATA")
    if not folder:
        pytest.skip("HSA_REAL_DATA names no folder of real captures")
    path = Path(folder)
    assert path.is_dir(), f"HSA_REAL_DATA is {folder}, which is not a folder"
    return path
