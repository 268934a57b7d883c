"""The report: summary, frames and policies to one HTML page, by pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hs_analysis.report.html import render

__all__ = ["render"]


def __getattr__(name: str) -> Any:
    """Load the page and its charts only when it is drawn: tables and `explain` use just the words."""
    if name == "render":
        from hs_analysis.report.html import render

        return render
    raise AttributeError(name)
