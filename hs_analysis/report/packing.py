"""What keeps a page small: text as gzip in base64, and folded parts packed where it would weigh too much.

A browser unpacks both itself (``DecompressionStream``), from a file as from a server. Chart library, charts
and their rows are always packed: without scripts nothing draws them. Parts of a service are packed only where
the page is over its limit, in the order of `PACKED_FIRST`, until it is under: a reader without scripts loses
no more than the weight asks for, and the page says what.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

PAGE_BYTES = 3_000_000
"""Most bytes of a page before parts of its services are packed; default of this project."""

PACKED_FIRST = (
    "drivers", "load", "data", "policy", "replay", "signals", "capacity", "ratio", "thresholds", "figures",
)  # fmt: skip
"""Parts of a service by the name in their element id, the one that a decision rests on least first."""

_LEVEL = 9
_PACKED = re.compile(r'<script type="application/gzip" (id|class)="([^"]+)">([^<]*)</script>')
_LIBRARY_ID = "packed-library"
_PART = re.compile(r"<!--part (\w+(?:-(\w+))?)-->(.*?)<!--/part-->", re.DOTALL)
_NOTE_HERE, _ISLANDS_HERE = "<!--packed note-->", "<!--packed parts-->"
_NOTE = (
    '<p class="hint">On a page of so many services these parts of each are packed and need scripts: {kinds}. '
    "summary.json has their numbers, policy.yaml the policy.</p>"
)


def packed(text: str) -> Markup:
    """Return text as gzip in base64, safe inside any element; equal texts give equal characters."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), _LEVEL, mtime=0)).decode("ascii"))  # noqa: S704


def unpacked(text: str) -> str:
    """Return what `packed` was given."""
    return gzip.decompress(base64.b64decode(text)).decode()


def spread(page: str) -> str:
    """Return a page with every text that is packed in it, one a line; the chart library is left out.

    Texts stand as they are shown: no sign of JSON is left in them.
    """

    def told(found: re.Match[str]) -> str:
        if found[2] == _LIBRARY_ID:
            return ""
        return "\n".join(_texts(json.loads(unpacked(found[3]))))

    return _PACKED.sub(told, page)


def _texts(node: Any) -> Iterator[str]:
    """Yield the texts of plain data, keys among them."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(node, list):
        for one in node:
            yield from _texts(one)


def plain_json(data: Any) -> str:
    """Return data as JSON of one form."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def lightened(page: str, limit: int = PAGE_BYTES) -> str:
    """Return the page with parts of its services packed until it is within ``limit`` bytes.

    Parameters
    ----------
    page
        HTML whose foldable parts stand between ``<!--part ID-->`` and ``<!--/part-->``, with
        ``<!--packed parts-->`` where packed ones go and ``<!--packed note-->`` where a reader without
        scripts is told. No text of a user can be such a mark: it is escaped.
    limit
        Most bytes wanted. A page that is over it with every part packed is returned as that.

    Returns
    -------
    str
        The page without its marks.
    """
    parts: dict[str, dict[str, str]] = {}
    for found in _PART.finditer(page):
        parts.setdefault(found[2], {})[found[1]] = found[3]
    islands: dict[str, str] = {}
    weight = len(page.encode())
    for kind in (kind for kind in PACKED_FIRST if kind in parts):
        if weight <= limit:
            break
        islands[kind] = _island(parts[kind])
        weight += len(islands[kind]) - sum(len(text.encode()) for text in parts[kind].values())
    body = _PART.sub(lambda found: "" if found[2] in islands else found[3], page)
    note = _NOTE.format(kinds=", ".join(sorted(islands))) if islands else ""
    return body.replace(_NOTE_HERE, note).replace(_ISLANDS_HERE, "\n".join(islands.values()))


def _island(parts: Mapping[str, str]) -> str:
    return f'<script type="application/gzip" class="packed-parts">{packed(plain_json(parts))}</script>'
