"""Answers of Datadog's API to timeseries queries, versions 1 and 2, under the names of the exporters.

The Agent takes `_total` off, writes dots, and gives counters and parts of histograms as what they gained.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hs_analysis.errors import InputError
from hs_analysis.ingest.answer_fields import (
    FieldError,
    SampleGatherer,
    member,
    sample_value,
    unix_us,
    whole_number,
)
from hs_analysis.ingest.exporter_names import MOST_LABEL_CHARACTERS, ExporterNames, labels_from
from hs_analysis.ingest.json_records import objects
from hs_analysis.ingest.losses import SourceLoss
from hs_analysis.ingest.readers.prometheus import query_of
from hs_analysis.ingest.request_files import REQUEST_ONLY, request_beside
from hs_analysis.ingest.rows import Dump, RawSeries, ReadNotes

LOSSES = (
    SourceLoss(
        "rolled_up",
        "every value is one of an interval, of 20 s at the least, of 5 min for a day, of 1 h for a week: "
        "peaks and variance inside it are lost, and signals look calmer than they are; ask for an hour at a "
        "time with .rollup(avg, 20), and for the peaks with .rollup(max, 20)",
    ),
    SourceLoss(
        "increases",
        "counters come as what they gained in each interval: a restart does not show, and totals count from "
        "the first file",
    ),
    SourceLoss(
        "interpolated",
        "the query does not end in .fill(null): Datadog may have filled gaps of up to 300 s with values that "
        "nobody measured",
        always=False,
    ),
    SourceLoss(
        "no_names",
        "answers of version 2 do not say what was asked: names are those of the request next to the file, or "
        "of --query",
        always=False,
    ),
    SourceLoss(
        "fleet",
        "some series name no pod: each is one value for many instances, and no capacity of an instance "
        "follows from it; ask with by {pod_name}",
        always=False,
    ),
)

NAMES = {
    "dcgm.gpu_utilization": "DCGM_FI_DEV_GPU_UTIL", "dcgm.mem.copy_utilization": "DCGM_FI_DEV_MEM_COPY_UTIL",
    "dcgm.frame_buffer.used": "DCGM_FI_DEV_FB_USED", "dcgm.frame_buffer.free": "DCGM_FI_DEV_FB_FREE",
    "dcgm.frame_buffer.total": "DCGM_FI_DEV_FB_TOTAL", "dcgm.power_usage": "DCGM_FI_DEV_POWER_USAGE",
    "dcgm.temperature": "DCGM_FI_DEV_GPU_TEMP", "dcgm.sm_clock": "DCGM_FI_DEV_SM_CLOCK",
    "dcgm.mem.clock": "DCGM_FI_DEV_MEM_CLOCK", "dcgm.dram.active": "DCGM_FI_PROF_DRAM_ACTIVE",
    "dcgm.gr_engine_active": "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "dcgm.sm_active": "DCGM_FI_PROF_SM_ACTIVE",
    "dcgm.sm_occupancy": "DCGM_FI_PROF_SM_OCCUPANCY",
    "dcgm.pipe.tensor_active": "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "dcgm.pcie_rx_throughput": "DCGM_FI_PROF_PCIE_RX_BYTES",
    "dcgm.pcie_tx_throughput": "DCGM_FI_PROF_PCIE_TX_BYTES",
    "dcgm.total_energy_consumption.count": "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "kubernetes_state.deployment.replicas_ready": "kube_deployment_status_replicas_ready",
}  # fmt: skip
"""Names that no rule leads back from (DataDog/integrations-core, dcgm/datadog_checks/dcgm/metrics.py; the
Agent's check kubernetes_state_core)."""

_PLAIN = re.compile(
    r"\s*(?:(avg|sum|min|max|count)\s*:)?\s*([A-Za-z][\w.]*)\s*\{[^{}]*\}\s*(?:by\s*\{[^{}]*\})?\s*"
    r"((?:\.\w+\([^()]*\)\s*)*)"
)
_ROLLUP = re.compile(r"\.rollup\(\s*(avg|sum|min|max|count)\b")
_VERSION_1 = re.compile(rb'"pointlist"\s*:|"res_type"\s*:\s*"time_series"')
_VERSION_2 = re.compile(rb'"timeseries_response"|"group_tags"\s*:')
_MARK = b'"timeseries_request"'

MOST_QUERY_CHARACTERS = 1 << 13


def is_datadog(head: bytes) -> bool:
    """Return whether a file begins with an answer, or the request of one."""
    return head[:1] == b"{" and bool(_VERSION_1.search(head) or _VERSION_2.search(head) or _MARK in head)


def read_datadog(dump: Dump, notes: ReadNotes) -> Iterator[RawSeries]:
    """Yield the series of every answer in a file; a request alone holds none.

    A counter's values become increases that end with their interval; without ``.as_count()`` or
    ``.as_rate()`` they are no increases, and are called after how they were put together, as the minima and
    maxima of gauges are. The bucket without an upper edge is the count of its histogram.

    Raises
    ------
    InputError
        When the file is cut or no JSON, an answer is an error, or nothing says what it answers.
    """
    reader = _DatadogReader(dump, notes)
    for at, document in objects(dump, notes):
        if _is_request(document):
            reader.request = document
            continue
        for series in _series(document, at, reader):
            reader.take(series)
            yield from reader.gathered.many()
    reader.end()
    if reader.request is not None and not notes.rows and not reader.gathered.held:
        notes.infos.append(REQUEST_ONLY)
    yield from reader.gathered.rest()


@dataclass(frozen=True)
class Series:
    """One series of an answer; ``query`` is the expression it answers, ``interval`` as the answer has it."""

    at: int
    path: str
    query: str
    tags: Sequence[Any]
    times: Sequence[Any]
    values: Sequence[Any]
    interval: Any


def _is_request(document: Mapping[str, Any]) -> bool:
    return bool(member(document, "data", dict).get("type") == "timeseries_request")


def _series(document: Mapping[str, Any], at: int, reader: _DatadogReader) -> Iterator[Series]:
    error = document.get("error") or document.get("errors")
    if error and not document.get("series"):
        raise InputError(
            f"Datadog answered with an error ({str(error)[:160]})", where=reader.dump.where,
            hint="repair the query or the keys and ask again",
        )  # fmt: skip
    attributes = member(member(document, "data", dict), "attributes", dict)
    if isinstance(attributes.get("times"), list) or "data" in document:
        yield from _version_2(attributes, at, reader)
        return
    if not isinstance(document.get("series"), list):
        reader.gathered.reject(at, document, FieldError("bad_json", "neither series nor data"), "", None)
    whole = str(document.get("query") or "")[:MOST_QUERY_CHARACTERS]
    asked = whole if _PLAIN.fullmatch(whole) else ""  # a series' own expression may leave the roll-up out
    for i, raw in enumerate(member(document, "series", list)):
        if not isinstance(raw, dict):
            reader.gathered.reject(at, raw, FieldError("bad_json", "no object"), f"series[{i}]", None)
            continue
        points = member(raw, "pointlist", list)
        pairs = [p if isinstance(p, list) and len(p) == 2 else [p, "no pair"] for p in points]
        tags = raw.get("tag_set")
        query = asked or raw.get("expression") or f"{raw.get('metric')}{{*}}"
        yield Series(
            at, f"series[{i}].pointlist", str(query)[:MOST_QUERY_CHARACTERS],
            tags if isinstance(tags, list) else str(raw.get("scope") or "").split(","),
            [p[0] for p in pairs], [p[1] for p in pairs], raw.get("interval"),
        )  # fmt: skip


def _version_2(attributes: Mapping[str, Any], at: int, reader: _DatadogReader) -> Iterator[Series]:
    reader.notes.losses.add("no_names")
    queries = reader.queries()
    times = member(attributes, "times", list)
    columns = member(attributes, "values", list)
    for i, found in enumerate(member(attributes, "series", list)):
        raw = found if isinstance(found, dict) else {}
        index = whole_number(raw.get("query_index", 0))
        named = index is not None and 0 <= index < len(queries)
        values = columns[i] if i < len(columns) and isinstance(columns[i], list) else []
        yield Series(
            at, f"data.attributes.values[{i}]", queries[index or 0] if named else "",
            member(raw, "group_tags", list), times, values, None,
        )  # fmt: skip


class _DatadogReader:
    """Turns series of answers into samples."""

    def __init__(self, dump: Dump, notes: ReadNotes) -> None:
        self.dump = dump
        self.notes = notes
        self.gathered = SampleGatherer(notes)
        self.request: Mapping[str, Any] | None = None
        self._names = ExporterNames(dump.reading, NAMES)
        self._counts: list[tuple[dict[str, str], list[tuple[int, float, int]], int]] = []
        self._families: set[str] = set()
        self._other_names: set[str] = set()

    def queries(self) -> list[str]:
        """Return the expressions of a request, one a formula.

        Raises
        ------
        InputError
            When nothing says what was asked.
        """
        request = self.request
        if request is None and (beside := request_beside(self.dump, _MARK, _is_request)):
            name, request = beside
            self.notes.infos.append(f"names are those of the request in {name}")
        if request is None:
            called = query_of(self.dump.name, self.dump.reading)
            if called is None:
                raise InputError(
                    "an answer of Datadog's version 2 does not say what was asked", where=self.dump.where,
                    hint="put its request next to it as NAME.request.json, or give --query FILE=QUERY",
                )  # fmt: skip
            return [called]
        attributes = member(member(request, "data", dict), "attributes", dict)
        asked = [one for one in member(attributes, "queries", list) if isinstance(one, dict)]
        known = {str(one.get("name")): str(one.get("query")) for one in asked}
        formulas = [
            one.get("formula") for one in member(attributes, "formulas", list) if isinstance(one, dict)
        ]
        if not formulas:
            return list(known.values())
        return [known.get(str(formula).strip(), str(formula))[:MOST_QUERY_CHARACTERS] for formula in formulas]

    def take(self, series: Series) -> None:
        """Take one series."""
        plain = _PLAIN.fullmatch(series.query)
        if ".fill(null" not in series.query.replace(" ", ""):
            self.notes.losses.add("interpolated")
        labels = _labels(series.tags)
        if not any(labels.get(name) for name in ("pod", "instance", "host", "Hostname")):
            self.notes.losses.add("fleet")
        if not series.query.strip():
            detail = f"no query says what this is; its {len(series.values)} values are left out"
            self.gathered.reject(series.at, series.tags, FieldError("bad_value", detail), series.path, labels)
            return
        if plain is None:
            name, kind = series.query, "gauge"
            self._other_names.add(name)
        else:
            name, kind = self._named(plain[1] or "avg", plain[2], plain[3])
        self._samples(series, {**labels, "__name__": name}, kind)

    def _named(self, aggregator: str, metric: str, modifiers: str) -> tuple[str, str]:
        """Return the exporter's name, and whether values are a gauge's, increases, or rates."""
        name = self._names.find(metric)
        rollup = _ROLLUP.search(modifiers)
        if self._names.is_counter(name):
            if ".as_rate(" in modifiers:
                return name, "rate"
            if ".as_count(" in modifiers or (rollup and rollup[1] == "sum"):
                return name, "increase"
        over_time = rollup[1] if rollup else aggregator if aggregator in ("min", "max") else "avg"
        if over_time != "avg" or self._names.is_counter(name):
            name = f"{name}:{over_time}"
            self._other_names.add(name)
        return name, "gauge"

    def _samples(self, series: Series, labels: dict[str, str], kind: str) -> None:
        found: list[tuple[int, float, int]] = []
        for i, value in enumerate(series.values):
            try:
                if i >= len(series.times):
                    raise FieldError("bad_ts", "a value without a time")
                found.append((unix_us(series.times[i], 1_000), *sample_value(value)))
            except FieldError as error:
                self.gathered.reject(series.at, value, error, f"{series.path}[{i}]", labels)
        if kind == "gauge":
            for t_us, value, flag in found:
                self.gathered.add(labels, t_us, value, flag, series.at)
            return
        width_us = _width_us(found, series.interval)
        if width_us is None:
            for _ in found:
                why = FieldError("bad_ts", "one point and no interval: what was counted has no length")
                self.gathered.reject(series.at, series.values[:1], why, series.path, labels)
            return
        per = width_us / 1e6 if kind == "rate" else 1.0
        ended = [(t_us + width_us, value * per, flag) for t_us, value, flag in sorted(found)]
        self._increases(labels, ended, width_us, series.at)

    def _increases(
        self, labels: dict[str, str], ended: list[tuple[int, float, int]], width_us: int, at: int
    ) -> None:
        """Gather increases with the time they end at; keep counts, which may be a bucket's as well.

        Counting begins with the first interval in which something was counted at all.
        """
        first_us = next((t_us for t_us, _, flag in ended if not flag), None)
        if first_us is not None:
            ended = [(first_us - width_us + 1, 0.0, 0), *ended]
        for t_us, value, flag in ended:
            self.gathered.add(labels, t_us, value, flag, at, increases=True)
        name = labels["__name__"]
        if name.endswith("_bucket") and "le" in labels:
            self._families.add(name.removesuffix("_bucket"))
        elif name.endswith("_count"):
            self._counts.append((labels, ended, at))

    def end(self) -> None:
        """Add the buckets without an edge, and say what was found on the way."""
        for labels, increases, at in self._counts:
            family = labels["__name__"].removesuffix("_count")
            if family in self._families:
                bucket = {**labels, "__name__": f"{family}_bucket", "le": "+Inf"}
                for t_us, value, flag in increases:
                    self.gathered.add(bucket, t_us, value, flag, at, increases=True)
        self._names.note(self.notes)
        if self._other_names:
            shown = ", ".join(sorted(self._other_names)[:3])[:300]
            self.notes.warnings.append(
                f"{len(self._other_names)} series are called by how they were put together ({shown}): a "
                "counter needs .as_count(), a gauge the average; or say under [metrics] what they are"
            )


def _labels(tags: Sequence[Any]) -> dict[str, str]:
    """Return the labels of ``key:value`` tags; several values of one key are joined by commas."""
    found: dict[str, str] = {}
    for tag in tags:
        key, colon, value = str(tag).strip()[:MOST_LABEL_CHARACTERS].partition(":")
        if colon and key != "lower_bound":
            found[key] = f"{found[key]},{value}" if key in found else value
    return labels_from(found.items())


def _width_us(found: Sequence[tuple[int, float, int]], interval: Any) -> int | None:
    """Return the length of the intervals: the distance of points, else what the answer says in s or ms."""
    times = sorted(t_us for t_us, _, _ in found)
    gaps = [after - before for before, after in pairwise(times) if after > before]
    if gaps:
        return min(gaps)
    said = whole_number(interval)
    if said is None or said <= 0 or not math.isfinite(said):
        return None
    return said * (1_000 if said >= 1_000 else 1_000_000) if said < 1 << 32 else None
