"""Reader of saved `/metrics` pages: one moment of one target, dated by the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

from hs_analysis.ingest.bytestream import LINE_BLOCK_BYTES
from hs_analysis.ingest.line_samples import Syntax, read_lines, sample_tails
from hs_analysis.ingest.numbers import VALUE
from hs_analysis.ingest.openmetrics import Declarations
from hs_analysis.ingest.raw import Dump, RawSeries, ReadNotes
from hs_analysis.schema.settings import Reading

_STAMP = re.compile(
    r"(?<!\d)(?:(\d{4})-?(\d\d)-?(\d\d)[T_\- ]?(\d\d)[:\-_]?(\d\d)[:\-_]?(\d\d)(Z?)"
    r"|(1\d{9})(\d{3})?)(?!\d)"
)
"""A time in a file's name: 20261124T100000Z, 2026-11-24T10-00-00Z, or Unix seconds or milliseconds."""

_ENDINGS = re.compile(r"(\.(gz|zst|prom|txt|metrics|om))+$", re.IGNORECASE)
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|.*:\d+")
_GUESS = "when the file was last changed: put the time into its name to be sure"
_DECLARED = re.compile(rb"^#[ \t]+(TYPE|HELP)[ \t]", re.MULTILINE)
_TAIL = re.compile(rb"(\S+)(?:[ \t]+-?\d+)?(?:[ \t]+#.*)?")


def is_exposition(head: bytes) -> bool:
    """Return whether a file begins as a `/metrics` page: declared types or labels, and values."""
    if head[:1] == b"{":
        return False
    tails = [match[1] for tail in sample_tails(head) if (match := _TAIL.fullmatch(tail))]
    values = [tail for tail in tails if VALUE.fullmatch(tail.decode("latin-1"))]
    return bool(values) and bool(_DECLARED.search(head) or b"{" in head)


def read_exposition(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the samples of a page, at the time in the file's name, else when the file was last changed.

    Samples that carry a time in milliseconds, as `/federate` gives them, keep it. A series without the label
    ``instance`` gets the file's name without time and ending.

    Raises
    ------
    InputError
        When a line never ends.
    """
    known = stamp_of(dump.name, dump.reading)
    notes.is_time_guessed = known is None
    taken_s, how = known or (dump.path.stat().st_mtime, _GUESS)
    instance = instance_of(dump.name)
    declared = Declarations(notes)
    syntax = Syntax(
        go_escapes=False, per_second=1000, page_s=taken_s, timed=False,
        comment=declared.comment, dropped=declared.is_creation,
    )  # fmt: skip
    named = False
    with dump.stream(LINE_BLOCK_BYTES) as stream:
        for series in read_lines(stream, dump.where, syntax, notes):
            if "instance" not in series.labels:
                series.labels = {**series.labels, "instance": instance}
                named = True
            yield series
    moment = datetime.fromtimestamp(taken_s, UTC)
    notes.infos.append(f"a page of {moment:%Y-%m-%d %H:%M:%S} UTC ({how})")
    if named:
        notes.infos.append(f"series without an instance are named after the file: {instance}")


def stamp_of(name: str, reading: Reading) -> tuple[float, str] | None:
    """Return the time in a file's name [s since 1970] and how it was read, None when there is none."""
    for match in reversed(list(_STAMP.finditer(PurePosixPath(name).name))):
        *parts, zulu, seconds, milliseconds = match.groups()
        if seconds:
            return float(f"{seconds}.{milliseconds or 0}"), "Unix time in the file's name"
        zone = UTC if zulu or not reading.tz else ZoneInfo(reading.tz)
        said = "UTC" if zulu else (reading.tz or "taken as UTC")
        try:
            moment = datetime(*(int(part) for part in parts), tzinfo=zone)  # type: ignore[misc, arg-type]
        except ValueError:  # digits that are no date
            continue
        return moment.timestamp(), f"time in the file's name, {said}"
    return None


def instance_of(name: str) -> str:
    """Return the target a page is of: its file name without time and endings, else its folder's name."""
    path = PurePosixPath(name)
    stem = _STAMP.sub("", _ENDINGS.sub("", path.name)).strip("._- ")
    if not stem:
        return path.parent.name or "page"
    return stem if _ADDRESS.fullmatch(stem) else stem.partition(".")[0]
