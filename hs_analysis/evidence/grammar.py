"""The one written grammar of evidence links: every answer points to the place that shows where it comes from.

    path       = service "/" stage "/" what [ "?" range ]
    range      = "from=" time | "to=" time | "from=" time "&to=" time
    in report  = "report.html#/" path          (any file name may stand before "#/")
    permalink  = "hsa:" run "/" path

Segments are percent-encoded UTF-8, so that a service such as ``namespace/model`` stays one segment. Times are
ISO 8601 in UTC, ending in ``Z``. The path is the same from run to run; with the run it names one very number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from hs_analysis.errors import UsageError

STAGES = ("ingest", "align", "study", "derive", "select", "replay", "policy", "export")
"""Stages a link may point into."""

REPORT_FILE = "report.html"
_SCHEME = "hsa:"
# Readable marks stay as they are (signal@role, threshold:signal@role); what could be read as grammar is
# encoded, in a service the colon as well: "hsa:" opens a permalink.
_SAFE = {"service": "@", "stage": "", "what": "@:"}
_RUN = re.compile(r"[0-9A-Za-z._-]+")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HINT = "write it as <service>/<stage>/<what>, with a slash inside a name as %2F"
_RANGE_HINT = "write ?from=…&to=…, each once"
_TIME_HINT = "e.g. 2026-07-01T12:00:00Z"


@dataclass(frozen=True)
class EvidenceLink:
    """A parsed link.

    Parameters
    ----------
    service, stage, what
        Decoded segments; ``stage`` is one of `STAGES`.
    start, end
        Time range in UTC, either may be missing.
    run
        Hash of the run it was seen in; empty for a bare path or a link inside a report.
    """

    service: str
    stage: str
    what: str
    start: datetime | None = None
    end: datetime | None = None
    run: str = ""

    @property
    def path(self) -> str:
        """The path without the run, in its one canonical form."""
        return path(self.service, self.stage, self.what, self.start, self.end)

    def __str__(self) -> str:
        return permalink(self.run, self.path) if self.run else self.path


def path(
    service: str, stage: str, what: str, start: datetime | None = None, end: datetime | None = None
) -> str:
    """Return the canonical path of a piece of evidence.

    Parameters
    ----------
    service, stage, what
        Plain text; encoded here. ``stage`` must be one of `STAGES`.
    start, end
        Aware times of the range the evidence covers; either may be None.

    Raises
    ------
    UsageError
        For an empty segment, an unknown stage, a time without a zone, or a range that runs backwards.
    """
    _check(service, stage, what, start, end)
    named = {"service": service, "stage": stage, "what": what}
    text = "/".join(_encode(segment, _SAFE[name]) for name, segment in named.items())
    pairs = [f"{key}={_print_time(t)}" for key, t in (("from", start), ("to", end)) if t is not None]
    return f"{text}?{'&'.join(pairs)}" if pairs else text


def in_report(path: str) -> str:
    """Return the link to a path inside the report that lies next to the reader."""
    return f"{REPORT_FILE}#/{path}"


def permalink(run: str, path: str) -> str:
    """Return the link that names the run as well, for use outside a report."""
    if not _RUN.fullmatch(run):
        raise UsageError("not a run hash", where=repr(run), hint="letters, digits, '.', '_' and '-' only")
    return f"{_SCHEME}{run}/{path}"


def parse(text: str) -> EvidenceLink:
    """Read a link in any of its three forms: bare path, inside a report, or permalink.

    Raises
    ------
    UsageError
        When the text does not follow the grammar; it says which part.
    """
    body, run = text.strip(), ""
    if "#" in body:
        before, _, body = body.partition("#/")
        if "#" in before or "#" in body:
            raise UsageError("'#' comes only before the path, as '#/'", where=repr(text), hint=_HINT)
    elif body.startswith(_SCHEME):
        run, slash, body = body.removeprefix(_SCHEME).partition("/")
        if not slash or not _RUN.fullmatch(run):
            raise UsageError("no run hash after 'hsa:'", where=repr(text), hint="write hsa:<run>/<path>")
    body, question, query = body.partition("?")
    segments = body.split("/")
    if len(segments) != 3:
        raise UsageError(f"{len(segments)} segments, expected 3", where=repr(text), hint=_HINT)
    service, stage, what = (_decode(segment, text) for segment in segments)
    start, end = _parse_range(query, text) if question else (None, None)
    _check(service, stage, what, start, end)
    return EvidenceLink(service, stage, what, start, end, run)


def _check(service: str, stage: str, what: str, start: datetime | None, end: datetime | None) -> None:
    for name, segment in (("service", service), ("stage", stage), ("what", what)):
        if not segment:
            raise UsageError(f"the {name} of an evidence link is empty", hint=_HINT)
    if stage not in STAGES:
        raise UsageError(f"no stage {stage!r}", where="evidence link", hint=f"one of {', '.join(STAGES)}")
    for moment in (start, end):
        if moment is not None and moment.tzinfo is None:
            raise UsageError(f"time {moment} has no zone", where="evidence link", hint="give it in UTC")
    if start is not None and end is not None and end < start:
        raise UsageError("the range runs backwards", where=f"from {start} to {end}", hint="swap from and to")


def _encode(segment: str, safe: str) -> str:
    try:
        text = quote(segment, safe=safe)
        # A leading dash (a service without a namespace is `-/model`) would read as a command-line option.
        return f"%2D{text[1:]}" if text.startswith("-") else text
    except UnicodeEncodeError as error:
        raise UsageError("not valid Unicode", where=repr(segment)) from error


def _decode(segment: str, text: str) -> str:
    if _BAD_PERCENT.search(segment):
        raise UsageError("'%' without two hex digits", where=repr(text), hint="a plain percent sign is %25")
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise UsageError("percent-encoding is not UTF-8", where=repr(text)) from error


def _parse_range(query: str, text: str) -> tuple[datetime | None, datetime | None]:
    found: dict[str, datetime] = {}
    for pair in query.split("&"):
        key, equals, value = pair.partition("=")
        if key not in ("from", "to") or not equals or key in found:
            raise UsageError(f"{pair!r} is not part of a range", where=repr(text), hint=_RANGE_HINT)
        found[key] = _parse_time(_decode(value, text), text)
    return found.get("from"), found.get("to")


def _print_time(moment: datetime) -> str:
    # Encoded or not, a colon means the same in a fragment; plain reads better.
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _parse_time(value: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise UsageError(f"{value!r} is not a time", where=repr(text), hint=_TIME_HINT) from error
    if moment.tzinfo is None:
        raise UsageError(f"time {value!r} has no zone", where=repr(text), hint="end it in Z for UTC")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f"time {value!r} is out of range", where=repr(text)) from error
