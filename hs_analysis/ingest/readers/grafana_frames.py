"""Data frames of Grafana as JSON: answers of ``/api/ds/query``, and what a panel's inspector saves.

A frame holds columns: times, numbers with labels, texts. The same frame is written in two ways, as schema and
data (``grafana-plugin-sdk-go``) or as fields that carry their values (the inspector's panel data).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs_analysis.errors import InputError, first_of
from hs_analysis.ingest.answer_fields import (
    FieldError,
    SampleGatherer,
    member,
    sample_value,
    unix_us,
    whole_number,
)
from hs_analysis.ingest.exporter_names import MOST_LABEL_CHARACTERS, ExporterNames
from hs_analysis.ingest.json_records import objects
from hs_analysis.ingest.losses import SourceLoss
from hs_analysis.ingest.readers.prometheus import query_of
from hs_analysis.ingest.rows import NAN, NEG_INF, NULL, POS_INF, Dump, RawSeries, ReadNotes

LOSSES = (
    SourceLoss(
        "thinned",
        "a panel asks for as many values as it is wide: where its step is longer than the scrape interval "
        "the samples between are not there, and with them peaks and variance; take the samples with hsa pull",
    ),
    SourceLoss("no_type", "types of metrics do not travel with frames: what counts up is found by its name"),
)

_ANSWER = re.compile(rb'\{\s*"results"\s*:\s*\{')
_FRAME = re.compile(rb'(\[\s*)?\{\s*"schema"\s*:\s*\{')
_PANEL = re.compile(rb'\{\s*"(state|series|annotations|request|timeRange|structureRev)"\s*:')
_FIELDS = re.compile(rb'"fields"\s*:\s*\[')
_EXPRESSION = re.compile(r"Expr: (.*?)(?:\nStep: (\S+))?\s*\Z", re.DOTALL)
_SELECTOR = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\}\s*)?")

ENTITIES = {"NaN": NAN, "Inf": POS_INF, "NegInf": NEG_INF}
"""Kind of number that JSON has no word for → its flag; a frame lists where they stood."""

MOST_ERRORS = 3
"""Messages of failed queries that are passed on."""


def is_grafana_frames(head: bytes) -> bool:
    """Return whether a file begins with data frames."""
    if _ANSWER.match(head):
        return b'"frames"' in head
    has_fields = bool(_FIELDS.search(head))
    return has_fields and bool(_FRAME.match(head) or (_PANEL.match(head) and b'"values"' in head))


def read_grafana_frames(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of data frames: one a column of numbers, or one a set of texts in a long frame.

    A series is named by its label ``__name__``, else by the query that travels with the frame, else by what
    ``--query`` says of the file. ``null`` is missing, but NaN and infinite where the frame says so. Frames of
    annotations are passed over; a frame without times is set aside.

    Raises
    ------
    InputError
        When the file is cut or no JSON, or every query in it failed.
    """
    reader = _FrameReader(dump, notes)
    for at, document in objects(dump, notes):
        for frame in _frames(document, at, reader):
            yield from reader.take(frame)
    reader.end()


@dataclass(frozen=True)
class Column:
    """A column of a frame: ``kind`` is time, number or string, ``entities`` what its nulls were."""

    name: str
    kind: str
    labels: Mapping[str, Any]
    values: Sequence[Any]
    entities: Mapping[str, Any]
    nanos: Sequence[Any]


@dataclass(frozen=True)
class Frame:
    """A frame and where it stands; ``query`` is the PromQL that it answers, empty where nothing says it."""

    at: int
    path: str
    columns: tuple[Column, ...]
    query: str
    step: str
    topic: str
    raw: Mapping[str, Any]


def _frames(document: Mapping[str, Any], at: int, reader: _FrameReader) -> Iterator[Frame]:
    """Yield the frames of a document of any of the shapes."""
    if isinstance(document.get("results"), dict):
        for ref, result in document["results"].items():
            if not isinstance(result, dict):
                continue
            if error := result.get("error"):
                reader.errors.append(f"query {str(ref)[:40]} failed: {str(error)[:160]}")
            for i, raw in enumerate(member(result, "frames", list)):
                yield _frame(raw, at, f"results.{str(ref)[:40]}.frames[{i}]")
        return
    listed = document.get("series")
    for i, raw in enumerate(listed if isinstance(listed, list) else [document]):
        yield _frame(raw, at, f"series[{i}]" if isinstance(listed, list) else "")


def _frame(raw: Any, at: int, path: str) -> Frame:
    raw = raw if isinstance(raw, dict) else {}
    schema, data = member(raw, "schema", dict), member(raw, "data", dict)
    fields = member(schema, "fields", list) or member(raw, "fields", list)
    meta = member(schema, "meta", dict) or member(raw, "meta", dict)
    columns = []
    for i, found in enumerate(fields):
        field = found if isinstance(found, dict) else {}
        own = field.get("values")
        values = own if isinstance(own, list) else _at(data.get("values"), i, list)
        entities = field.get("entities") if isinstance(own, list) else _at(data.get("entities"), i, dict)
        columns.append(
            Column(
                name=str(field.get("name") or ""),
                kind=str(field.get("type") or ""),
                labels=member(field, "labels", dict),
                values=values,
                entities=entities if isinstance(entities, dict) else {},
                nanos=member(field, "nanos", list) or _at(data.get("nanos"), i, list),
            )
        )
    told = _EXPRESSION.match(str(meta.get("executedQueryString") or "")[:MOST_LABEL_CHARACTERS])
    return Frame(
        at, path, tuple(columns), told[1].strip() if told else "", (told[2] or "") if told else "",
        str(meta.get("dataTopic") or ""), raw,
    )  # fmt: skip


def _at(values: Any, i: int, kind: type) -> Any:
    found = values[i] if isinstance(values, list) and i < len(values) else None
    return found if isinstance(found, kind) else kind()


class _FrameReader:
    """Turns frames into series."""

    def __init__(self, dump: Dump, notes: ReadNotes) -> None:
        self.errors: list[str] = []
        self._where = dump.where
        self._called = query_of(dump.name, dump.reading)
        self._names = ExporterNames(dump.reading)
        self._notes = notes
        self._steps: set[str] = set()
        self._queries: set[str] = set()
        self._nameless = self._annotations = self._seen = 0

    def take(self, frame: Frame) -> Iterator[RawSeries]:
        """Yield the series of a frame."""
        self._seen += 1
        if frame.topic:
            self._annotations += 1
            return
        times = next((column for column in frame.columns if column.kind == "time"), None)
        numbers = [column for column in frame.columns if column.kind == "number"]
        gatherer = SampleGatherer(self._notes)
        if times is None or not numbers:
            gatherer.reject(frame.at, frame.raw, FieldError("bad_json", _no_series(frame)), frame.path, None)
            return
        if frame.step:
            self._steps.add(frame.step)
        texts = [column for column in frame.columns if column.kind == "string"]
        t_us = [_time(times, i) for i in range(len(times.values))]
        for number in numbers:
            parts: list[tuple[Mapping[str, Any], Sequence[int]]] = [
                (number.labels, range(len(number.values)))
            ]
            if texts and not number.labels:
                parts = _rows_by_texts(texts, len(number.values))
            for labels, at in parts:
                named = self._named(frame, number, labels)
                self._samples(frame, number, named, t_us, at, gatherer)
        yield from gatherer.rest()

    def _samples(
        self, frame: Frame, column: Column, labels: dict[str, str], t_us: Sequence[int | FieldError],
        rows: Sequence[int], gatherer: SampleGatherer,
    ) -> None:  # fmt: skip
        unusual = {
            i: flag
            for word, flag in ENTITIES.items()
            for i in member(column.entities, word, list)
            if isinstance(i, int)
        }
        for i in rows:
            value = column.values[i]
            try:
                time = t_us[i] if i < len(t_us) else FieldError("bad_ts", "a value without a time")
                if isinstance(time, FieldError):
                    raise time
                found, flag = sample_value(value)
                if flag == NULL and i in unusual:
                    found, flag = math.nan, unusual[i]
            except FieldError as error:
                path = f"{frame.path} {column.name[:60]}[{i}]".strip()
                gatherer.reject(frame.at, value, error, path, labels)
            else:
                gatherer.add(labels, time, found, flag, frame.at)

    def _named(self, frame: Frame, column: Column, labels: Mapping[str, Any]) -> dict[str, str]:
        """Return the labels of a series with its name, which may be missing."""
        found = {str(k): str(v)[:MOST_LABEL_CHARACTERS] for k, v in labels.items() if v not in (None, "")}
        if "__name__" in found:
            found["__name__"] = self._names.find(found["__name__"])
            return found
        selector = _SELECTOR.fullmatch(frame.query)
        name = self._called or (selector[1] if selector else frame.query)
        if not name and self._names.is_known(column.name):
            name = column.name
        if not name:
            self._nameless += 1
            return found
        if selector is None and not self._called and frame.query:
            self._queries.add(frame.query)
        return {**found, "__name__": name}

    def end(self) -> None:
        """Say what was found on the way.

        Raises
        ------
        InputError
            When there is no frame and a query failed.
        """
        if self.errors and not self._seen:
            raise InputError(
                f"no data: {first_of(self.errors, 1)}", where=self._where,
                hint="repair the panel's query and save its data again",
            )  # fmt: skip
        self._names.note(self._notes)
        self._notes.warnings += self.errors[:MOST_ERRORS]
        if self._steps:
            steps = first_of(sorted(self._steps), 3)
            self._notes.infos.append(
                f"the panel asked for a value every {steps}: compare with the scrape interval"
            )
        if self._annotations:
            self._notes.infos.append(f"{self._annotations} frames of annotations are left out")
        if self._queries:
            shown = first_of([query[:80] for query in sorted(self._queries)], 2)
            self._notes.infos.append(
                f"series of a function or an aggregation are called by their query ({shown}): say under "
                "[metrics] what that is"
            )
        if self._nameless:
            self._notes.warnings.append(
                f"{self._nameless} series have no name: say what they are with --query FILE=PROMQL"
            )


def _no_series(frame: Frame) -> str:
    kinds = first_of([f"{c.name[:40]} ({c.kind[:20]})" for c in frame.columns], 5) or "no columns"
    return f"a frame without times and numbers: {kinds}; save a panel that draws over time"


def _time(column: Column, i: int) -> int | FieldError:
    try:
        t_us = unix_us(column.values[i], 1_000)
    except FieldError as error:
        return error
    nanos = whole_number(column.nanos[i]) if i < len(column.nanos) else None
    return t_us + (nanos // 1000 if nanos is not None and 0 <= nanos < 1_000_000 else 0)


def _rows_by_texts(texts: Sequence[Column], height: int) -> list[tuple[Mapping[str, Any], Sequence[int]]]:
    """Return the rows of a long frame by the texts that stand in them, which are their labels."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for i in range(height):
        cells = (column.values[i] if i < len(column.values) else None for column in texts)
        found.setdefault(tuple(cell if isinstance(cell, str) else "" for cell in cells), []).append(i)
    return [
        ({column.name: cell for column, cell in zip(texts, key, strict=True) if column.name}, rows)
        for key, rows in found.items()
    ]
