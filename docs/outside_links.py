"""A hook of mkdocs: links to files of the repository outside of docs/ become their text."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return a page without the links that the site has no page for."""
    folder = posixpath.dirname(page.file.src_uri)

    def kept(found: re.Match[str]) -> str:
        leaves = posixpath.normpath(posixpath.join(folder, found[2])).startswith("..")
        return found[1] if leaves else found[0]

    return _LINK.sub(kept, markdown)
