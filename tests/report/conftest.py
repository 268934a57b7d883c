"""Pages of many services, which take seconds to write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from report import sample as samples

from hs_analysis.report import render


@pytest.fixture(params=[20, *(pytest.param(n, marks=pytest.mark.slow) for n in (24, 60))])
def crowded(request: pytest.FixtureRequest, made_once: Callable[..., Path]) -> tuple[int, Path]:
    """How many services, and their report."""
    count: int = request.param

    def fill(path: Path) -> None:
        path.write_text(render(*samples.many(count).arguments()), encoding="utf-8")

    return count, made_once(f"{count}-services.html", fill)
