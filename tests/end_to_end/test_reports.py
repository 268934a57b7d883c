"""The reports of real runs, opened in a real browser with the network off."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import SAMPLES, Finished
from report.browser import BROWSER, SHEETS, VIEWS, assert_view_works, sheets
from seeds import first


@BROWSER
@pytest.mark.parametrize(
    ("name", "view"),
    first(1, reversed(list(product(sorted(SAMPLES), VIEWS)))),  # the longer report on the narrow screen
)
def test_the_report_of_a_sample_works(
    name: str, view: tuple[int, str], running: Any, root: Path, finished: Finished
) -> None:
    """Wide and light, narrow and dark: no console message, no request, links land; 8 A4 pages at most."""
    done = finished(root / "data_samples" / name, *SAMPLES[name])
    assert_view_works(running, done.folder / "report.html", done.summary, *view)
    assert sheets(running, done.folder / "report.html") <= SHEETS
