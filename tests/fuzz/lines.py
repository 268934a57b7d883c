"""Which lines of a reader's own module a corpus runs."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from fuzz.seeds import ANY, seeds
from fuzz.tars import ask_promtool_once_in
from fuzz.whole import refused_or_read

from hs_analysis.ingest import discovery
from hs_analysis.ingest.formats import format_named


def lines_reached(kind: str, corpus: Sequence[Path]) -> tuple[int, int]:
    """Return how many lines inside functions of a reader's module were run, and how many there are.

    For files of any format the module is the one that tells formats apart.
    """
    module = discovery.__name__ if kind == ANY else format_named(kind).read.__module__
    source = sys.modules[module].__file__
    assert source is not None
    there = set(_lines(compile(Path(source).read_text("utf-8"), source, "exec"), top=True))
    seen: set[int] = set()

    def watch(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != source:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
        return watch

    names = sorted({name for _, name in seeds(kind)})
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "file"
        patch = pytest.MonkeyPatch()
        if kind == "tsdb":
            ask_promtool_once_in(10, patch)
        sys.settrace(watch)
        try:
            for one in corpus:
                path.write_bytes(one.read_bytes())
                for name in names:
                    with contextlib.suppress(BaseException):  # findings are told apart elsewhere
                        refused_or_read(kind, path, name)
        finally:
            sys.settrace(None)
            patch.undo()
    return len(seen & there), len(there)


def _lines(code: CodeType, *, top: bool) -> Iterator[int]:
    """Yield the lines of functions: those of the module and its classes run when it is imported."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _lines(inner, top=inner.co_name == "<class>" or "__qualname__" in inner.co_names)
    if not top:
        yield from (line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno)
