"""Files of one or several JSON documents, read one value at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hs_analysis.errors import InputError
from hs_analysis.ingest.bytestream import BrokenStreamError, ByteStream
from hs_analysis.ingest.json_lines import parsed
from hs_analysis.ingest.line_blocks import shown
from hs_analysis.ingest.raw import RAW_CHARACTERS, Dump, ReadNotes, Rejection

MOST_EMPTY = 1 << 16
"""Answers of one file, or series of one answer, that may be without a sample while they are most of them:
servers leave such series out."""


def require_few(empty: int, seen: int, what: str, at: int) -> None:
    """Refuse, at the thing at byte ``at``, what is mostly empty and goes on and on.

    Raises
    ------
    BrokenStreamError
        When more than MOST_EMPTY, and more than half of those seen, hold no sample.
    """
    if empty > MOST_EMPTY and 2 * empty > seen:
        raise BrokenStreamError(f"more than {MOST_EMPTY} {what} without a sample", at)


@contextmanager
def whole(dump: Dump, notes: ReadNotes) -> Iterator[ByteStream]:
    """Open a file of JSON documents; a byte order mark is the caller's to skip.

    With ``salvage`` what stands before the place where a document is cut is kept, and what is cut is set
    aside with reason ``truncated``.

    Raises
    ------
    InputError
        When it is cut or no JSON; the message gives the byte.
    """
    with dump.stream() as stream:
        try:
            yield stream
        except BrokenStreamError as broken:
            if not dump.reading.salvage:
                hint = f"{broken.hint}, or keep what is whole: --salvage"
                what = f"{broken.what} at byte {broken.offset}"
                raise InputError(what, where=dump.where, hint=hint) from broken
            notes.rows += 1
            notes.rejections.append(Rejection(broken.offset, "truncated", "", broken.what, "", ""))
            notes.warnings.append(f"{broken.what} at byte {broken.offset}: what is whole before it was kept")


def objects(dump: Dump, notes: ReadNotes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield byte and object of every document, and of every item where a document is an array of objects.

    What is no object is set aside. Raises what `whole` raises.
    """
    with whole(dump, notes) as stream:
        stream.skip_mark()
        while opening := stream.peek():
            if opening == b"[":
                at, rows, some = stream.offset, notes.rows, False
                for found in items(stream, notes):
                    some = True
                    yield found
                if not some and notes.rows == rows:
                    reject_value(at, b"[]", "bad_json", "a list of nothing", notes)
            else:
                one = next_object(stream, notes)
                if one is not None:
                    yield one
            stream.skip_mark()


def items(stream: ByteStream, notes: ReadNotes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield byte and object of every item of the array that comes next."""
    stream.expect(b"[")
    while stream.peek() != b"]":
        found = next_object(stream, notes)
        if found is not None:
            yield found
    stream.expect(b"]")


def next_object(stream: ByteStream, notes: ReadNotes) -> tuple[int, dict[str, Any]] | None:
    """Consume the next value; return it with its byte, or set it aside when it is no object."""
    stream.peek()
    at = stream.offset
    raw = stream.value()
    found = parsed(raw)
    if isinstance(found, dict):
        return at, found
    reject_value(at, raw, *found, notes)
    return None


def told(value: Any) -> bytes:
    """Return the beginning of a decoded value as JSON; the rest is not even written."""
    text = ""
    for piece in json.JSONEncoder().iterencode(value):
        text += piece
        if len(text) >= RAW_CHARACTERS:
            break
    return text[:RAW_CHARACTERS].encode()


def reject_value(at: int, raw: bytes, reason: str, detail: str, notes: ReadNotes, path: str = "") -> None:
    """Count a value and set it aside."""
    notes.rows += 1
    notes.rejections.append(Rejection(at, reason, shown(raw), detail, path, ""))
