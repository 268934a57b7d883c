"""A file of any bytes through the ingest stage's own reading, held to what reading promises."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from fuzz.seeds import ANY, READING

from hs_analysis.catalogue import Catalogue, load_catalogue, with_user_rows
from hs_analysis.errors import HsError
from hs_analysis.ingest.discovery import Discovery, InputFile, discover
from hs_analysis.ingest.formats import format_named
from hs_analysis.ingest.rows import Dump
from hs_analysis.ingest.stage import _OneFile, _read_one, _SeenSoFar, ingest
from hs_analysis.ingest.staging import Staging


@cache
def _catalogue() -> Catalogue:
    return with_user_rows(load_catalogue(), READING)


def ingested_or_refused(kind: str, path: Path, name: str, data: Path) -> HsError | None:
    """Take one file through the whole ingest stage into a folder; return the refusal in words, if any."""
    try:
        ingest(Discovery((_input(kind, path, name),), ()), data, lambda _name: None, READING)
    except HsError as error:
        return _in_words(error)
    return None


def _in_words(error: HsError) -> HsError:
    """Hold a refusal to what users are promised: one line, no bug, no traceback, no form of numpy's."""
    assert "this is a bug in hsa" not in error.what, error.hint
    assert not _INTERNAL.search(error.what), error.what
    return error


_INTERNAL = re.compile(r"Traceback|\bnp\.(?:float|int|uint|str|bool)|\barray\(|dtype=")
"""What no message may hold: the file's own words stand in quotes, and none of the seeds has these."""


def _input(kind: str, path: Path, name: str) -> InputFile:
    if kind == ANY:
        (file,) = discover([path], READING).files
        return file
    return InputFile(path, name, "", named=True, format=format_named(kind))


def refused_or_read(kind: str, path: Path, name: str) -> HsError | None:
    """Read one file as a format; return the refusal in words, or None when it was read.

    Files of odd length are salvaged where they are cut. Anything else than an HsError escapes, and so does
    the AssertionError when a row is lost or told twice: rows read = staged + requests + points + rejected.
    """
    reading = replace(READING, salvage=path.stat().st_size % 2 == 1)
    staging, one = Staging(io.BytesIO()), _OneFile()
    try:
        file = _input(kind, path, name)
        dump = Dump(file.path, str(file.path), file.name, reading)
        _read_one(dump, file, 0, staging, one, _SeenSoFar(_catalogue()))
    except HsError as error:
        return _in_words(error)
    for rejection in one.notes.rejections:
        assert rejection.reason
        assert not _INTERNAL.search(rejection.detail), rejection.detail
        assert rejection.position >= 0
    staged = sum(piece.rows for pieces in staging.pieces.values() for piece in pieces)
    given = staged + sum(frame.height for frame in (*one.requests, *one.bench))
    assert one.notes.rows == given + one.notes.rejections.total, (one.notes.rows, given, one.notes.rejections)
    return None
