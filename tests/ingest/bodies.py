"""Prometheus answers made for tests, and the obvious way to read them back."""

from __future__ import annotations

import io
import json
import math
from typing import Any

from hs_analysis.ingest.readers.prometheus import read_answers
from hs_analysis.ingest.rows import FLAGS as CODES
from hs_analysis.ingest.rows import RawSeries, ReadNotes
from hs_analysis.ingest.streams import ByteStream

Row = tuple[int, float | None]
TEXT_FLAGS = {"NaN": "nan", "+Inf": "pos_inf", "-Inf": "neg_inf", None: "null"}


def element(name: str, values: list[tuple[float, Any]], **labels: str) -> dict[str, Any]:
    """Return one element of data.result; values that are no text are written as Prometheus would."""
    pairs = [[t, v if isinstance(v, str) or v is None else f"{v:g}"] for t, v in values]
    return {"metric": {"__name__": name, **labels}, "values": pairs}


def answer(*elements: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    """Return a query_range answer."""
    return {"status": "success", "data": {"resultType": "matrix", "result": list(elements)}, **envelope}


def body(*elements: dict[str, Any], **envelope: Any) -> bytes:
    """Return a query_range answer as Prometheus sends it."""
    return json.dumps(answer(*elements, **envelope), separators=(",", ":")).encode()


def read(raw: bytes) -> tuple[list[RawSeries], ReadNotes]:
    """Read a body with the reader under test."""
    notes = ReadNotes()
    return list(read_answers(ByteStream(io.BytesIO(raw)), "f.json", notes)), notes


def plain(series: list[RawSeries]) -> list[tuple[dict[str, str], list[Row], list[str | None]]]:
    """Return series as plain values: labels, (microseconds, value or None), flags."""
    return [
        (
            s.labels,
            [
                (t, None if math.isnan(v) else v)
                for t, v in zip(s.t_us.tolist(), s.values.tolist(), strict=True)
            ],
            [CODES[code] or None for code in s.flags],
        )
        for s in series
    ]


def obvious(document: dict[str, Any]) -> list[tuple[dict[str, str], list[Row], list[str | None]]]:
    """Return what a parsed answer holds, value by value: the slow reference of the reader."""
    result = []
    for one in document["data"]["result"]:
        pairs = one.get("values", [])
        if pairs:
            rows = [(round(t * 1e6), None if v in TEXT_FLAGS else float(v)) for t, v in pairs]
            result.append((one["metric"], rows, [TEXT_FLAGS.get(v) for _, v in pairs]))
    return result
