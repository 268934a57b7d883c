"""File names that are no text: their bytes are no UTF-8, and no manifest, message or page could hold them."""

from __future__ import annotations

import os
from pathlib import Path

NO_TEXT = "its name is no UTF-8"


def is_text(path: Path | str) -> bool:
    """Whether a path is text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: Path | str) -> str:
    """Return a path with escapes for what is no text in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
