"""The page of many services, which takes seconds to write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from report import sample as samples

from hs_analysis.report import render


@pytest.fixture(scope="session")
def sixty(made_once: Callable[..., Path]) -> Path:
    """The report of 60 services."""

    def fill(path: Path) -> None:
        path.write_text(render(*samples.many(60).arguments()), encoding="utf-8")

    return made_once("sixty.html", fill)
