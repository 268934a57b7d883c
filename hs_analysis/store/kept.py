"""Texts that are the same in every run and take time to make, kept in the user's cache folder.

``$XDG_CACHE_HOME/hs_analysis``, else ``~/.cache/hs_analysis``. Whatever stands in the way of that (no home, a
full or read-only disk) costs the time of making the text, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hs_analysis.interrupts import temporary_folder


def kept(name: str, make: Callable[[], str]) -> str:
    """Return the text of a name, made once and read back in later runs.

    Parameters
    ----------
    name
        A file name that says everything the text depends on.
    make
        Makes the text.
    """
    try:
        path = cache_folder() / name
        return path.read_text("utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):
        text = make()
    with suppress(OSError, RuntimeError):
        _write(cache_folder() / name, text)
    return text


def cache_folder() -> Path:
    """Return the user's cache folder of this program; nothing in it is needed."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "hs_analysis"


def _write(path: Path, text: str) -> None:
    """Write under another name first, so that a run killed half-way leaves nothing that is cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent, "tmp") as folder:
        part = folder / path.name
        part.write_text(text, encoding="utf-8")
        part.replace(path)
