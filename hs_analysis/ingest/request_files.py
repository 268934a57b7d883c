"""Requests beside answers: back ends whose answers do not say what was asked need the request too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hs_analysis.errors import InputError, first_of
from hs_analysis.ingest.json_records import parse_object
from hs_analysis.ingest.rows import Dump
from hs_analysis.ingest.streams import BOM, LONGEST_RECORD_BYTES, ByteStream, open_decompressed

HEAD_BYTES = 1 << 12
"""Bytes of a file in which the mark of a request stands."""

MOST_BESIDE = 1 << 12
"""Files of a folder that are looked at; default of this project."""

REQUEST_ONLY = "a request without its answer: it is read with the answer next to it"

Request = Mapping[str, Any]

_found: dict[tuple[Path, int, bytes], list[tuple[Path, Request]]] = {}


def request_beside(
    dump: Dump, mark: bytes, is_request: Callable[[Request], bool]
) -> tuple[str, Request] | None:
    """Return name and content of the request whose answer a file is, None when there is none.

    It is the file ``NAME.request.json`` beside the answer ``NAME.json``, else the only request in the folder.

    Parameters
    ----------
    dump
        The answer.
    mark
        What stands near the beginning of every request.
    is_request
        Whether a document is one.

    Raises
    ------
    InputError
        When there are several and none has the answer's name.
    """
    stem = dump.path.name.partition(".")[0]
    beside = [
        (path, one) for path, one in _marked(dump.path.parent, mark) if is_request(one) and path != dump.path
    ]
    own = [pair for pair in beside if pair[0].name.startswith(f"{stem}.request.")] or beside
    if not own:
        return None
    if len(own) > 1:
        names = first_of(sorted(path.name for path, _ in own), 3)
        raise InputError(
            f"{len(own)} requests lie next to it ({names}) and none is called {stem}.request.json",
            where=dump.where,
            hint="name each request after its answer, or put each pair into a folder of its own",
        )
    return own[0][0].name, own[0][1]


def _marked(folder: Path, mark: bytes) -> list[tuple[Path, Request]]:
    """Return the documents of a folder that have a mark; a folder that did not change is looked at once."""
    try:
        key = (folder, folder.stat().st_mtime_ns, mark)
        if key in _found:
            return _found[key]
        paths = sorted(path for path in folder.iterdir() if path.is_file())[:MOST_BESIDE]
    except OSError:
        return []
    found = list[tuple[Path, Request]]()
    for path in paths:
        try:
            with open_decompressed(path) as handle:
                stream = ByteStream(handle, HEAD_BYTES)
                raw = stream.head(HEAD_BYTES)
                if mark not in raw:
                    continue
                raw = stream.head(LONGEST_RECORD_BYTES + 1)
        except InputError:
            continue
        document = parse_object(raw.removeprefix(BOM)) if len(raw) <= LONGEST_RECORD_BYTES else None
        if isinstance(document, dict):
            found.append((path, document))
    _found.clear()
    _found[key] = found
    return found
