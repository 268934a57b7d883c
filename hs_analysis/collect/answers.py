"""One answer of the API: is it whole, what does it hold, and what did the server say about it.

Every reader takes a body and either returns what it should hold, each value of the type it is said to have,
or raises NotAnAnswerError. JSON is read by simdjson: it refuses what is nested too deep, and holds a document
without a Python object for each of its values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

EDGE_S = 0.0015
"""A sample may lie outside its stretch by this much [s]: before Prometheus 3 a range selector takes in its
early edge, a millisecond before the stretch."""

BYTES_PER_MARK = 4
"""An answer has at least so many bytes per comma, colon or bracket. Samples have about 6, the shortest labels
4; fewer is what takes many times its length to hold."""

MOST_SERIES = 100_000
"""An answer that lists more series is too much at once; a file holds some hundreds."""

_MARKS = (b",", b":", b"[", b"{")


@dataclass(frozen=True)
class RangeAnswer:
    """A matrix that was asked for over a stretch of time.

    Attributes
    ----------
    keys
        One hash for the labels of each series with a sample in the stretch.
    points
        Samples in the stretch, each time of a series once.
    outside
        Samples that lie outside it.
    first_s, last_s
        Earliest and latest sample, wherever they lie [Unix s]; null without any.
    warnings
        What the server said: data may be missing.
    """

    keys: frozenset[int]
    points: int
    outside: int
    first_s: float | None
    last_s: float | None
    warnings: tuple[str, ...]


class NotAnAnswerError(Exception):
    """The body is no whole API answer; the text says what it is."""


class TooManySeriesError(Exception):
    """The answer lists more series than are read at once."""


def range_answer(body: bytes, start: float, end: float, metric: str | None = None) -> RangeAnswer:
    """Return what the answer to a query over a stretch of time holds.

    The body is parsed whole, so that a cut one is never taken for a short one.

    Parameters
    ----------
    body
        The answer, unpacked.
    start, end
        The stretch that was asked for [Unix s], both inclusive.
    metric
        Name that its series must have where they have one; None for a query.

    Raises
    ------
    NotAnAnswerError
        For what is cut, no JSON, an error envelope, no matrix, or holds other values than a matrix does.
    """
    document = _success(body)
    counted: dict[int, int] = {}
    outside, first, last = 0, math.inf, -math.inf
    for row in _rows(document, "matrix"):
        labels = _labels(_get(row, "metric"))
        if metric and labels.get("__name__", metric).casefold() != metric.casefold():
            raise NotAnAnswerError(f"series of another metric ({labels['__name__'][:80]!r})")
        times = _times(row)
        if not times:
            continue
        low, high = min(times), max(times)
        first, last = min(first, low), max(last, high)
        own = set(times)
        if low < start - EDGE_S or high > end + EDGE_S:
            inside = {t for t in own if start - EDGE_S <= t <= end + EDGE_S}
            outside += len(own) - len(inside)
            own = inside
        if own:
            key = hash(frozenset(labels.items()))
            counted[key] = max(counted.get(key, 0), len(own))  # a series that comes twice is there once
    return RangeAnswer(
        frozenset(counted), sum(counted.values()), outside,
        first if first <= last else None, last if first <= last else None, _warnings(document),
    )  # fmt: skip


def _times(row: Any) -> list[float]:
    """Return the times of a series' samples [Unix s], none for a series of native histograms.

    Raises
    ------
    NotAnAnswerError
        When one is no number, or the value beside it is none.
    """
    pairs = row.get("values")
    if pairs is None:
        if row.get("histograms") is None:
            raise NotAnAnswerError("a series without values")
        return []
    try:
        times = [one[0] for one in pairs]
        values = [one[1] for one in pairs]
    except (TypeError, IndexError, KeyError):
        raise NotAnAnswerError("a sample that is no pair of time and value") from None
    if not set(map(type, times)) <= {int, float}:
        raise NotAnAnswerError(f"a time that is no number ({_odd(times, int, float)})")
    if not set(map(type, values)) <= {str}:
        raise NotAnAnswerError(f"a value that is no text ({_odd(values, str)})")
    try:
        for value in values:
            float(value)
    except ValueError:
        raise NotAnAnswerError(f"a value that is no number ({value[:40]!r})") from None
    return times


def _odd(values: list[Any], *kinds: type) -> str:
    return repr(next(str(value) for value in values if type(value) not in kinds))[:60]


def series_of(body: bytes) -> list[dict[str, str]]:
    """Return the labels of the series that ``series`` lists.

    Raises
    ------
    NotAnAnswerError
        For anything else than a list of labels.
    TooManySeriesError
        When there are more than are read at once, or the server says that it gives a part of them.
    """
    document = _success(body)
    rows = _get(document, "data")
    if not _is_list(rows):
        raise NotAnAnswerError("no list of series")
    if len(rows) > MOST_SERIES:
        raise TooManySeriesError(f"{len(rows):,} series in one answer")
    if any("truncated" in text for text in _warnings(document)):
        raise TooManySeriesError("the server lists a part of the series")
    shared: dict[str, str] = {}
    return [_labels(row, shared) for row in rows]


def names_of(body: bytes) -> list[str]:
    """Return the values of a label.

    Raises
    ------
    NotAnAnswerError
        For anything else than a list of texts, and for one that the server warns is not whole.
    """
    document = _success(body)
    values = _get(document, "data")
    if not _is_list(values):
        raise NotAnAnswerError("no list of names")
    names = list(values)
    if not set(map(type, names)) <= {str}:
        raise NotAnAnswerError(f"a name that is no text ({_odd(names, str)})")
    if warned := _warnings(document):
        raise NotAnAnswerError(f"a part of the names ({warned[0][:200]})")
    return names


def vector_of(body: bytes) -> list[dict[str, str]]:
    """Return the labels of the series that an instant query gives.

    Raises
    ------
    NotAnAnswerError
        For what is no vector.
    """
    rows = _rows(_success(body), "vector")
    return [_labels(_get(row, "metric")) for row in rows]


def total_of(body: bytes) -> int:
    """Return the one number that a sum over everything gives; 0 where there was nothing to add up.

    Raises
    ------
    NotAnAnswerError
        For what is no vector of one number, and for one that the server warns is not whole.
    """
    document = _success(body)
    rows = list(_rows(document, "vector"))
    if len(rows) > 1 or _warnings(document):
        raise NotAnAnswerError("no whole sum")
    for row in rows:
        try:
            number = float(_get(row, "value")[1])
        except (TypeError, ValueError, IndexError, KeyError):
            raise NotAnAnswerError("no number") from None
        if not (math.isfinite(number) and number >= 0):
            raise NotAnAnswerError("no count")
        return int(number)
    return 0


def times_of(body: bytes) -> list[list[float]]:
    """Return the times of the samples of each series of a matrix [Unix s].

    Raises
    ------
    NotAnAnswerError
        For what is no matrix of samples.
    """
    return [_times(row) for row in _rows(_success(body), "matrix")]


def data_of(body: bytes) -> Any:
    """Return ``data`` of a successful answer, whatever it is.

    Raises
    ------
    NotAnAnswerError
        For anything else.
    """
    return _success(body).get("data")


def kind_of(body: bytes) -> str:
    """Return the type of a query's result.

    Raises
    ------
    NotAnAnswerError
        For an answer without one.
    """
    kind = _get(_get(_success(body), "data"), "resultType")
    if not isinstance(kind, str):
        raise NotAnAnswerError("a result without a type")
    return kind[:40]


def _success(body: bytes) -> Any:
    """Return the document of a successful answer.

    Raises
    ------
    NotAnAnswerError
        For what is cut, no JSON object, an error envelope, or takes too much room.
    """
    document = _parsed(body)
    try:
        status = document["status"]
    except (KeyError, TypeError, IndexError, ValueError):
        raise NotAnAnswerError(what_it_is(body)) from None
    if status != "success":
        raise NotAnAnswerError(f"an error ({str(document.get('error'))[:200]})")
    return document


def _parsed(body: bytes) -> Any:
    import simdjson

    if len(body) > 1 << 20 and sum(map(body.count, _MARKS)) * BYTES_PER_MARK > len(body):
        raise NotAnAnswerError(f"{len(body):,} bytes of little but brackets and commas")
    try:
        return simdjson.Parser().parse(body)
    except (ValueError, RuntimeError, MemoryError) as error:
        if len(body) > 4096 and "depth" in str(error).lower():
            raise NotAnAnswerError("JSON nested too deep") from None
        raise NotAnAnswerError(what_it_is(body)) from None


def _rows(document: Any, kind: str) -> Iterator[Any]:
    """Yield the objects of a result of a kind."""
    data = _get(document, "data")
    found = _get(data, "resultType")
    if found != kind:
        raise NotAnAnswerError(f"a {str(found)[:40]}, not a {kind}")
    rows = _get(data, "result")
    if not _is_list(rows):
        raise NotAnAnswerError(f"a {kind} without a list")
    for row in rows:
        if not hasattr(row, "get"):
            raise NotAnAnswerError(f"a {kind} that holds {_word(row)} where a series should be")
        yield row


def _get(thing: Any, key: str) -> Any:
    """Return what stands under a key.

    Raises
    ------
    NotAnAnswerError
        When it is no object, or has no such key.
    """
    if not hasattr(thing, "get"):
        raise NotAnAnswerError(f"an answer with {_word(thing)} where {key!r} should be")
    found = thing.get(key)
    if found is None:
        raise NotAnAnswerError(f"an answer without {key!r}")
    return found


def _word(thing: Any) -> str:
    if thing is None:
        return "null"
    if isinstance(thing, str):
        return "a text"
    if isinstance(thing, bool | int | float):
        return "a number" if not isinstance(thing, bool) else "true or false"
    return "an object" if hasattr(thing, "get") else "a list"


def _is_list(thing: Any) -> bool:
    return hasattr(thing, "__len__") and not hasattr(thing, "get") and not isinstance(thing, str)


def _labels(thing: Any, shared: dict[str, str] | None = None) -> dict[str, str]:
    """Return labels; equal texts are held once where ``shared`` keeps them.

    Raises
    ------
    NotAnAnswerError
        When it is no object of texts.
    """
    if not hasattr(thing, "get"):
        raise NotAnAnswerError(f"an answer with {_word(thing)} where labels should be")
    labels: dict[str, str] = {}
    for key, value in thing.items():
        if not isinstance(value, str):
            raise NotAnAnswerError(f"a label {key[:40]!r} that is {_word(value)}, not a text")
        if shared is None:
            labels[key] = value
        else:
            labels[shared.setdefault(key, key)] = shared.setdefault(value, value)
    return labels


def _warnings(document: Any) -> tuple[str, ...]:
    said = document.get("warnings")
    warnings = [str(text) for text in said] if said is not None and _is_list(said) else []
    if document.get("isPartial") is True:  # VictoriaMetrics cluster: a storage node did not answer
        warnings.append("the answer is partial: not every storage node answered")
    return tuple(warnings)


def error_of(body: bytes) -> tuple[str, str]:
    """Return (errorType, error) of an error envelope; of anything else an empty type and what it is."""
    try:
        document = _parsed(body)
        return str(document["errorType"]), str(document["error"])
    except (NotAnAnswerError, ValueError, KeyError, TypeError, IndexError):
        return "", what_it_is(body)


def what_it_is(body: bytes) -> str:
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
