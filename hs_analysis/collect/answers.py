"""One answer of the API: is it whole, what does it hold, and what did the server say about it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A matrix: number of series and points, and the server's warnings (data may be missing)."""

    series: int
    points: int
    warnings: tuple[str, ...]


class NotAnAnswerError(Exception):
    """The body is no whole API answer; the text says what it is."""


def judged(body: bytes) -> Answer:
    """Return what a ``query_range`` answer holds.

    The body is parsed whole, so that a cut one is never taken for a short one.

    Raises
    ------
    NotAnAnswerError
        For what is cut, no JSON, an error envelope, or no matrix.
    """
    import simdjson

    try:
        document: Any = simdjson.Parser().parse(body)
        if document["status"] != "success":
            raise NotAnAnswerError(f"an error ({str(document.get('error'))[:200]})")
        data = document["data"]
        if data["resultType"] != "matrix":
            raise NotAnAnswerError(f"a {data['resultType']}, not a matrix")
        rows = data["result"]
        points = sum(len(row["values"]) for row in rows if "values" in row)
        warnings = [str(text) for text in document.get("warnings") or ()]
        if document.get("isPartial"):  # VictoriaMetrics cluster: a storage node did not answer
            warnings.append("the answer is partial: not every storage node answered")
        return Answer(len(rows), points, tuple(warnings))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAnAnswerError(described(body)) from error


def data_of(body: bytes) -> Any:
    """Return ``data`` of a small successful answer, decoded.

    Raises
    ------
    NotAnAnswerError
        For anything else.
    """
    try:
        document = json.loads(body)
        if document["status"] != "success":
            raise NotAnAnswerError(f"an error ({document.get('error')})")
        return document["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotAnAnswerError(described(body)) from error


def error_of(body: bytes) -> tuple[str, str]:
    """Return (errorType, error) of an error envelope; of anything else an empty type and what it is."""
    try:
        document = json.loads(body)
        return str(document["errorType"]), str(document["error"])
    except (ValueError, KeyError, TypeError):
        return "", described(body)


def described(body: bytes) -> str:
    """Return in a few words what a body is that is no API answer."""
    text = body[:4096].decode("utf-8", "replace").strip()
    if not text:
        return "an empty answer"
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        return f"an HTML page ({title[1].strip()[:80]})" if title and title[1].strip() else "an HTML page"
    if text.startswith("{") and len(body) > 4096:
        return f"JSON cut or broken within {len(body):,} bytes"
    return f"{text[:120]!r}"
