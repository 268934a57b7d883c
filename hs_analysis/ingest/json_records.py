"""Files of JSON documents or of one JSON object a line, read one value at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hs_analysis.errors import InputError
from hs_analysis.ingest.rows import RAW_CHARACTERS, Dump, ReadNotes, Rejection
from hs_analysis.ingest.streams import (
    BOM,
    LONGEST_RECORD_BYTES,
    MOST_BRACKETS,
    MOST_LEVELS,
    BrokenStreamError,
    ByteStream,
    nesting_of,
)
from hs_analysis.ingest.text_lines import as_text, line_blocks, reject_line

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that is a character only with another beside it."""

TOO_LONG = f"a line of more than {LONGEST_RECORD_BYTES} bytes"

MOST_ENTRIES = 1 << 24
"""Commas of one JSON value: decoded, what stands between two takes 8 to 40 bytes."""


def json_lines(dump: Dump, notes: ReadNotes) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """Yield line, object and text of every line; what is no object is set aside, blank lines are no rows.

    Raises
    ------
    InputError
        When the file can't be opened, or a line never ends.
    """
    for block in line_blocks(dump, notes):
        for number, line in enumerate(block.lines, block.number):
            if not line.strip():
                continue
            found = parse_object(line) if len(line) <= LONGEST_RECORD_BYTES else ("bad_json", TOO_LONG)
            if isinstance(found, dict):
                yield number, found, line
            else:
                reason, detail = found
                reject_line(number, line, reason, detail, notes)


LONGEST_BATCH_BYTES = 64 << 20
"""A longer line is set aside unread where a line holds many samples: a collector's batches of 8,192 points
take 2 to 10 MB."""


def json_batches(dump: Dump, notes: ReadNotes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line and object of every line, or byte and object of every document that takes several lines.

    What is no object is set aside, and so is a last line without its end (``truncated``).

    Raises
    ------
    InputError
        When the file can't be opened, a line never ends, or a document of several lines is cut.
    """
    first, newline, _ = dump.head(_HEAD_BYTES).removeprefix(BOM).lstrip().partition(b"\n")
    if first[:1] == b"[" or (newline and not first.rstrip().endswith(b"}")):
        yield from objects(dump, notes)
        return
    for block in line_blocks(dump, notes):
        for number, line in enumerate(block.lines, block.number):
            if not line.strip():
                continue
            long = len(line) > LONGEST_BATCH_BYTES
            found = (
                ("bad_json", f"a line of over {LONGEST_BATCH_BYTES} bytes") if long else parse_object(line)
            )
            if isinstance(found, dict):
                yield number, found
            elif block.last and found[0] == "bad_json":
                reject_line(number, line, "truncated", "the last line has no end", notes)
            else:
                reject_line(number, line, *found, notes)


_HEAD_BYTES = 1 << 16


def parse_object(text: bytes) -> dict[str, Any] | tuple[str, str]:
    """Return a JSON object, or reason and detail why the text is none.

    Half a surrogate pair, as programs write that cut a text in the middle of a character, becomes ``?``.
    """
    try:
        found = decode_json(text)
    except UnicodeDecodeError:
        return "bad_utf8", "no UTF-8"
    except TooDeepError as error:
        return "bad_json", str(error)
    except ValueError:
        return "bad_json", "no JSON"
    if not isinstance(found, dict):
        return "bad_json", "no JSON object"
    return _with_whole_characters(found) if _SURROGATE.search(text) else found


def _with_whole_characters(found: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(found, ensure_ascii=False)
    whole: dict[str, Any] = json.loads(text.encode("utf-8", "replace"))
    return whole


class TooDeepError(ValueError):
    """JSON that would exhaust stack or memory when it is decoded or walked over."""


def decode_json(text: bytes) -> Any:
    """Return a JSON value.

    Raises
    ------
    UnicodeDecodeError
        When it is no UTF-8.
    TooDeepError
        When it has more brackets than MOST_BRACKETS, MOST_LEVELS inside each other, or more commas
        than MOST_ENTRIES.
    ValueError
        When it is no JSON.
    """
    if text.count(b"{") + text.count(b"[") > MOST_LEVELS:
        opened, levels = nesting_of(text)
        if opened > MOST_BRACKETS:
            raise TooDeepError(f"more than {MOST_BRACKETS} lists and objects")
        if levels > MOST_LEVELS:
            raise TooDeepError(f"brackets in more than {MOST_LEVELS} others")
    if len(text) > MOST_ENTRIES and text.count(b",") > MOST_ENTRIES:
        raise TooDeepError(f"more than {MOST_ENTRIES} commas")
    return json.loads(text.decode("utf-8"))


def first_object(head: bytes) -> bytes:
    """Return the first line of a head, or all of it when it has one line only."""
    return head.removeprefix(BOM).lstrip().partition(b"\n")[0]


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
def open_json(dump: Dump, notes: ReadNotes) -> Iterator[ByteStream]:
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
                raise InputError(broken.text, where=dump.where, hint=hint) from broken
            notes.rows += 1
            notes.rejections.append(Rejection(broken.offset, "truncated", "", broken.what, "", ""))
            notes.warnings.append(f"{broken.text}: what is whole before it was kept")


def objects(dump: Dump, notes: ReadNotes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield byte and object of every document, and of every item where a document is an array of objects.

    What is no object is set aside. Raises what `open_json` raises.
    """
    with open_json(dump, notes) as stream:
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
    found = parse_object(raw)
    if isinstance(found, dict):
        return at, found
    reject_value(at, raw, *found, notes)
    return None


def excerpt(value: Any) -> bytes:
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
    notes.rejections.append(Rejection(at, reason, as_text(raw), detail, path, ""))
