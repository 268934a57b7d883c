"""Short histories that several tests look at."""

from __future__ import annotations

import pytest
from simulator import History, shortened


@pytest.fixture(scope="session")
def busy() -> History:
    """Restarts, outages, a front end and GPUs in two and a half hours."""
    return shortened("restarts_and_gaps")
