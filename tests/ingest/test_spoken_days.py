"""Days that a description beside the data names."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from hs_analysis.ingest.spoken_days import days_in, spoken_days


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("collected on 2026-11-24T10:00:00Z", [date(2026, 11, 24)]),
        ("2026/11/24 and again 2026-11-24", [date(2026, 11, 24)]),
        ("from 24 November 2026, to Dec. 3, 2026", [date(2026, 11, 24), date(2026, 12, 3)]),
        ("on 3 May 2026 and may 12 2026", [date(2026, 5, 3), date(2026, 5, 12)]),
        ("30 February 2026, 24.11.2026, 11/24/2026, v2026.11, 5 Novembers 2026, id 12026-11-245", []),
    ],
)
def test_days_are_found_where_their_order_is_clear(text: str, days: list[date]) -> None:
    """Figures alone are read year first; what is no day of a calendar is none."""
    assert days_in(text) == days


def test_only_descriptions_are_looked_at(tmp_path: Path) -> None:
    """A licence or a log beside the data names days that are not the data's."""
    for name in ("README.md", "LICENSE", "log.txt", "source.TXT"):
        (tmp_path / name).write_text("2026-11-24")
    found = spoken_days(
        (tmp_path / name, f"in/{name}") for name in ("README.md", "LICENSE", "log.txt", "source.TXT")
    )
    assert found == [("in/README.md", date(2026, 11, 24)), ("in/source.TXT", date(2026, 11, 24))]
    assert spoken_days([(tmp_path / "gone" / "README.md", "README.md")]) == []
