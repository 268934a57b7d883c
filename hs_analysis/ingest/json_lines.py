"""Files of one JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from hs_analysis.ingest.brackets import deepest
from hs_analysis.ingest.bytestream import BOM, LONGEST_RECORD_BYTES, MOST_BRACKETS, MOST_LEVELS
from hs_analysis.ingest.line_blocks import line_blocks, shown
from hs_analysis.ingest.raw import Dump, ReadNotes, Rejection

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
            found = parsed(line) if len(line) <= LONGEST_RECORD_BYTES else ("bad_json", TOO_LONG)
            if isinstance(found, dict):
                yield number, found, line
            else:
                reason, detail = found
                reject_line(number, line, reason, detail, notes)


def parsed(text: bytes) -> dict[str, Any] | tuple[str, str]:
    """Return a JSON object, or reason and detail why the text is none.

    Half a surrogate pair, as programs write that cut a text in the middle of a character, becomes ``?``.
    """
    try:
        found = decoded(text)
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


def decoded(text: bytes) -> Any:
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
        opened, levels = deepest(text)
        if opened > MOST_BRACKETS:
            raise TooDeepError(f"more than {MOST_BRACKETS} lists and objects")
        if levels > MOST_LEVELS:
            raise TooDeepError(f"brackets in more than {MOST_LEVELS} others")
    if len(text) > MOST_ENTRIES and text.count(b",") > MOST_ENTRIES:
        raise TooDeepError(f"more than {MOST_ENTRIES} commas")
    return json.loads(text.decode("utf-8"))


def reject_line(number: int, line: bytes, reason: str, detail: str, notes: ReadNotes) -> None:
    """Count a line and set it aside."""
    notes.rows += 1
    notes.rejections.append(Rejection(number, reason, shown(line), detail, "", ""))


def first_object(head: bytes) -> bytes:
    """Return the first line of a head, or all of it when it has one line only."""
    return head.removeprefix(BOM).lstrip().partition(b"\n")[0]
