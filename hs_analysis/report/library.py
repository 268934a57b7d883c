"""The chart library that a report carries: Vega, Vega-Lite and Vega-Embed as one script.

It is a file of the package, made by vl-convert when altair or vl-convert changes; the tests make it again and
compare.
"""

from __future__ import annotations

from importlib.resources import files

FILE = files("hs_analysis.report") / "chart_library.js"
"""Written by ``make chart-library``; its licences are in chart_library.LICENSES.txt beside it."""


def chart_library() -> str:
    """Return the script of the major version of Vega-Lite that altair writes charts for."""
    return FILE.read_text("utf-8")
