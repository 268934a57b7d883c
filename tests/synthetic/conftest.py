"""Short histories that several tests look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hs_analysis.synthetic import History, history, kind_of


def shortened(name: str, hours: float = 2.5) -> History:
    """Return a history of a kind, cut to a few busy hours."""
    kind = kind_of(name)
    return history(replace(kind, hours=hours, load=replace(kind.load, first_hour=8.0)), 5)


@pytest.fixture(scope="session")
def busy() -> History:
    """Restarts, outages, a front end and GPUs in two and a half hours."""
    return shortened("restarts_and_gaps")
