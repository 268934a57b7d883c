"""Files of one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hs_analysis.ingest.bytestream import BOM
from hs_analysis.ingest.line_blocks import line_blocks, shown
from hs_analysis.ingest.raw import Dump, ReadNotes, Rejection


def json_lines(dump: Dump, notes: ReadNotes) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """Yield line, object and text of every line; what is no object is set aside, blank lines are no rows.

    Raises
    ------
    InputError
        When the file can't be opened.
    """
    for block in line_blocks(dump, notes):
        for number, line in enumerate(block.lines, block.number):
            if not line.strip():
                continue
            found = parsed(line)
            if isinstance(found, dict):
                yield number, found, line
            else:
                reason, detail = found
                reject_line(number, line, reason, detail, notes)


def parsed(text: bytes) -> dict[str, Any] | tuple[str, str]:
    """Return a JSON object, or reason and detail why the text is none."""
    try:
        found = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        return "bad_utf8", "no UTF-8"
    except (ValueError, RecursionError):
        return "bad_json", "no JSON"
    return found if isinstance(found, dict) else ("bad_json", "no JSON object")


def reject_line(number: int, line: bytes, reason: str, detail: str, notes: ReadNotes) -> None:
    """Count a line and set it aside."""
    notes.rows += 1
    notes.rejections.append(Rejection(number, reason, shown(line), detail, "", ""))


def first_object(head: bytes) -> bytes:
    """Return the first line of a head, or all of it when it has one line only."""
    return head.removeprefix(BOM).lstrip().partition(b"\n")[0]
