"""A report's page as a browser with scripts has it: charts with rows, packed parts in their places."""

from __future__ import annotations

import json
import re
from typing import Any

from hs_analysis.report.packing import unpacked

_CHARTS = re.compile(r'<script type="application/gzip" id="packed-charts">([^<]*)</script>')
_PARTS = re.compile(r'<script type="application/gzip" class="packed-parts">([^<]*)</script>')


_SECTION = re.compile(r'<section id="([^"]+)">\n<details class="part"[^>]*>.*?<div class="inner">', re.DOTALL)


def shared(page: str) -> dict[str, Any]:
    """Return what the charts of a page share: ``config`` and ``layers``, with ``charts`` as a list."""
    found = _CHARTS.search(page)
    return json.loads(unpacked(found[1])) if found else {"config": {}, "layers": [], "charts": []}


def charts(page: str) -> dict[str, dict[str, Any]]:
    """Return the charts of a page by their figure: ``spec``, ``csv``, ``alt``, ``height``, ``rows``."""
    return dict(shared(page)["charts"])


def whole(page: str) -> str:
    """Return the page with every packed part in its section."""
    parts: dict[str, str] = {}
    for island in _PARTS.findall(page):
        parts |= json.loads(unpacked(island))

    def filled(found: re.Match[str]) -> str:
        return found[0] + parts.pop(found[1], "")

    page = _SECTION.sub(filled, page)
    assert not parts, f"parts without a section: {sorted(parts)[:3]}"
    return page


def behind(page: str) -> dict[str, Any]:
    """Return what stands behind the numbers of a page: ``made_by`` and ``numbers``, each from its path on."""
    found = re.search(r'<script type="application/gzip" id="packed-evidence">([^<]*)</script>', page)
    assert found, "the page says of no number what stands behind it"
    said: dict[str, Any] = json.loads(unpacked(found[1]))
    return said
