"""Which reader reads a file, decided by its first bytes and never by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hs_analysis.errors import UsageError
from hs_analysis.ingest.prometheus_json import read_prometheus_json
from hs_analysis.ingest.raw import Dump, Piece, ReadNotes
from hs_analysis.schema.settings import Reading

HEAD_BYTES = 1 << 16
"""How much of a file is looked at to tell its format."""


QUERY_RANGE, OPENMETRICS, RAW_DUMP, SNAPSHOT = range(4)
"""How faithful a form is: where two hold the same metric at the same time the higher one is kept."""


@dataclass(frozen=True)
class Look:
    """What a format is told by.

    ``head`` is the first decompressed bytes, at most HEAD_BYTES of them; ``name`` the path below the input.
    Only tables that the user described are known by their name.
    """

    head: bytes
    name: str = ""
    reading: Reading = field(default_factory=Reading)

    @property
    def text(self) -> bytes:
        """The head without byte order mark and leading blanks."""
        return self.head.removeprefix(b"\xef\xbb\xbf").lstrip()


@dataclass(frozen=True)
class Format:
    """A format: how to know it, and the reader that yields what it holds.

    A new reader is a module with a function that reads, and a row in FORMATS.

    Attributes
    ----------
    id
        Name in messages, in the manifest and for ``--format``.
    recognise
        Whether a file is of it.
    read
        Yields series, requests or benchmark points; every row it sees is yielded or noted as rejected.
    form
        How faithful its samples are.
    momentary
        Whether a file is one moment, so that a folder of them is part of the capture of the folder above.
    """

    id: str
    recognise: Callable[[Look], bool]
    read: Callable[[Dump, ReadNotes], Iterator[Piece]]
    form: int = QUERY_RANGE
    momentary: bool = False


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


def _is_api_answer(look: Look) -> bool:
    return _starts_as_answer(look.text)


def _starts_as_answer(head: bytes) -> bool:
    return bool(_ENVELOPE.match(head)) and bool(_CONTENT.search(head))


def _is_cut(head: bytes) -> bool:
    """Whether a small file starts as an API answer and stops before it says of what."""
    if not _ENVELOPE.match(head) or _starts_as_answer(head) or len(head) > HEAD_BYTES // 2:
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


def sniff(look: Look) -> Format | Damage | None:
    """Return the format of a file, the damage it shows, or None for what is not a dump."""
    for damage in DAMAGES:
        if damage.recognise(look.text):
            return damage
    return next((f for f in FORMATS if f.recognise(look)), None)


def format_named(name: str) -> Format:
    """Return a format by its id.

    Raises
    ------
    UsageError
        When there is none; the message lists the ids.
    """
    found = next((f for f in FORMATS if f.id == name), None)
    if found is None:
        ids = ", ".join(f.id for f in FORMATS)
        raise UsageError(f"no such format {name!r}", where="--format", hint=f"known: {ids}")
    return found
