"""The evidence that a written report has a place for: read back from its page."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterator

_PACKED = re.compile(r'<script type="application/gzip" class="packed-parts">([^<]*)</script>')
_PLACE = re.compile(r'\s(?:id="/|data-link=")([^"]+)"')


def evidence_in(page: str) -> frozenset[str]:
    """Return the paths of evidence that a page has an element for, those in its packed parts included.

    Parameters
    ----------
    page
        A report, as it was written.
    """
    texts = [page, *_packed(page)]
    return frozenset(html.unescape(found) for text in texts for found in _PLACE.findall(text))


def _packed(page: str) -> Iterator[str]:
    """Yield the HTML of parts that a heavy page holds packed, as JSON in gzip."""
    for island in _PACKED.findall(page):
        yield from json.loads(gzip.decompress(base64.b64decode(island))).values()
