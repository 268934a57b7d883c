"""Inputs on which reading broke, kept on disk: the shortest one for each place that broke."""

from __future__ import annotations

import traceback
from pathlib import Path


def keep(folder: Path, error: BaseException, raw: bytes, name: str) -> None:
    """Keep an input as ``found-…`` with what was raised beside it, unless a shorter one broke there too."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "hs_analysis" in f.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    place = f"found-{type(error).__name__}-{Path(last.filename).stem}-{last.name.strip('<>')}"
    kept = folder / place
    if kept.exists() and kept.stat().st_size <= len(raw):
        return
    kept.write_bytes(raw)
    said = "".join(traceback.format_exception(error))
    (folder / f"{place}.txt").write_text(f"name: {name}\n{said}", "utf-8", "backslashreplace")
