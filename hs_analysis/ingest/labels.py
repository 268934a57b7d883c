"""Series as Prometheus writes them in text: a name, and labels in braces with quoted values."""

from __future__ import annotations

import re

_QUOTED = rb'"(?:[^"\\\n]++|\\.)*+"'
_NAME = rb"[a-zA-Z_:\x80-\xff][a-zA-Z0-9_:.\x80-\xff]*"
SERIES = re.compile(rb"(?:" + _NAME + rb")?\{(?:[^\"}\n]++|" + _QUOTED + rb")*+\}|" + _NAME)
"""A series at the start of a line. A brace or blank inside a quoted value does not end it."""

_PAIR = re.compile(rb"[ \t,]*(?:(" + _NAME + rb")|(" + _QUOTED + rb"))[ \t]*(?:=[ \t]*(" + _QUOTED + rb"))?")

GO_ESCAPES = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
    b"\\": b"\\", b'"': b'"', b"'": b"'",
}  # fmt: skip
_GO_ESCAPE = re.compile(
    rb"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|([abfnrtv\\\"']))"
)

OPENMETRICS_ESCAPES = {b"n": b"\n", b"\\": b"\\", b'"': b'"'}
_OPENMETRICS_ESCAPE = re.compile(rb"\\([n\\\"])")


class BadLabelsError(Exception):
    """Labels that can't be read: ``reason`` is a code of the rejected table, the message what is wrong."""

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        super().__init__(what)


def go_unquoted(raw: bytes) -> bytes:
    """Undo what Go's ``%q`` did, as ``promtool tsdb dump`` prints labels."""
    return _GO_ESCAPE.sub(_go_character, raw) if b"\\" in raw else raw


def _go_character(match: re.Match[bytes]) -> bytes:
    byte, short, long, octal, letter = match.groups()
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8) & 0xFF])
    if letter:
        return GO_ESCAPES[letter]
    try:
        return chr(int(short or long, 16)).encode("utf-8")
    except (ValueError, OverflowError):  # half a surrogate pair or no code point
        raise BadLabelsError("bad_utf8", "a label holds an escape that is no character") from None


def openmetrics_unquoted(raw: bytes) -> bytes:
    r"""Undo the escapes of the exposition formats, ``\n``, ``\"`` and ``\\``; others stand for themselves."""
    if b"\\" not in raw:
        return raw
    return _OPENMETRICS_ESCAPE.sub(lambda match: OPENMETRICS_ESCAPES[match[1]], raw)


def parse_series(raw: bytes, *, go_escapes: bool) -> dict[str, str]:
    """Return the labels of a series text with ``__name__`` where it has a name.

    Parameters
    ----------
    raw
        ``name{label="value", …}``, ``{__name__="name", …}``, ``{"name with dots", …}`` or a bare name.
    go_escapes
        Whether values are quoted as Go does (dumps of promtool) or with the three escapes of OpenMetrics.

    Raises
    ------
    BadLabelsError
        When a label has no value, stands twice, or is no UTF-8.
    """
    unquoted = go_unquoted if go_escapes else openmetrics_unquoted
    name, brace, inner = raw.partition(b"{")
    labels = {"__name__": _text(name)} if name else {}
    if not brace:
        return labels
    inner = inner[:-1]
    end = 0
    for match in _PAIR.finditer(inner):
        if match.start() != end:
            break
        end = match.end()
        plain, quoted, value = match.groups()
        key = plain or unquoted(quoted[1:-1])
        if value is None:
            if plain or "__name__" in labels:
                raise BadLabelsError("bad_line", f"label {_text(key)!r} has no value")
            key, value = b"__name__", quoted
        text = _text(key)
        if text in labels:
            raise BadLabelsError("bad_line", f"label {text!r} stands twice")
        labels[text] = _text(unquoted(value[1:-1]))
    if inner[end:].strip(b" \t,"):
        raise BadLabelsError("bad_line", 'expected label="value" pairs')
    return {key: value for key, value in labels.items() if value}  # an empty label is none


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadLabelsError("bad_utf8", "labels are not UTF-8") from None
