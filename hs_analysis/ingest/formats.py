"""Which reader reads a file, decided by its first bytes and never by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hs_analysis.ingest.bytestream import ByteStream
from hs_analysis.ingest.prometheus_json import RawSeries, ReadNotes, read_prometheus_json

HEAD_BYTES = 1 << 16
"""How much of a file is looked at to tell its format."""


@dataclass(frozen=True)
class Format:
    """A format: how to know it, and the reader that yields its series."""

    id: str
    recognise: Callable[[bytes], bool]
    read: Callable[[ByteStream, str, ReadNotes], Iterator[RawSeries]]


@dataclass(frozen=True)
class Damage:
    """Something that pretends to be a dump: how to know it, what it is, what to do."""

    id: str
    recognise: Callable[[bytes], bool]
    what: Callable[[bytes], str]
    hint: str


_ENVELOPE = re.compile(rb'\{\s*"(status|data|isPartial|warnings|infos|error|errorType|stats|trace)"\s*:')
"""First key of an API answer; VictoriaMetrics and Thanos put their own keys there too."""

_CONTENT = re.compile(rb'"(resultType|errorType)"\s*:|"data"\s*:\s*\{\s*"result"\s*:')
"""What makes it one: a result or an error; with sorted keys the result stands before its type."""


def _is_api_answer(head: bytes) -> bool:
    return bool(_ENVELOPE.match(head)) and bool(_CONTENT.search(head))


def _is_cut(head: bytes) -> bool:
    """Whether a small file starts as an API answer and stops before it says of what."""
    if not _ENVELOPE.match(head) or _is_api_answer(head) or len(head) > HEAD_BYTES // 2:
        return False
    try:
        json.loads(head)
    except (ValueError, RecursionError):
        return True
    return False


def _html_title(head: bytes) -> str:
    title = re.search(rb"<title[^>]*>([^<]*)", head, re.IGNORECASE)
    text = title.group(1).decode("utf-8", "replace").strip()[:80] if title else ""
    return f"an HTML page ({text})" if text else "an HTML page"


FORMATS: tuple[Format, ...] = (Format("prom-api", _is_api_answer, read_prometheus_json),)

DAMAGES: tuple[Damage, ...] = (
    Damage(
        "empty",
        lambda head: not head.strip(),
        lambda _: "an empty file",
        "repeat the export and check its exit code",
    ),
    Damage(
        "html",
        lambda head: head[:1] == b"<",
        lambda head: f"{_html_title(head)}, not a metric dump",
        "log in or fix the URL or token, then export again",
    ),
    Damage(
        "cut",
        _is_cut,
        lambda head: f"JSON that ends in the middle at byte {len(head)}",
        "export this file again",
    ),
)


def sniff(head: bytes) -> Format | Damage | None:
    """Return the format of a file's first bytes, the damage it shows, or None for what is not a dump."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for damage in DAMAGES:
        if damage.recognise(text):
            return damage
    return next((f for f in FORMATS if f.recognise(text)), None)
