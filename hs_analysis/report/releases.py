"""What a pool's numbers stand on after a release inside the window: for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.choice import records


def lines(service: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every version that came inside the window; none where none came."""
    return [f"release: {entry['text']}" for entry in records(service.get("releases")) if entry.get("text")]
