"""Sections of hsa.toml whose keys are the user's own: captures, roles, services, metrics, tables and more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from hs_analysis.errors import HsError, ManyErrors, UsageError
from hs_analysis.schema.settings import MetricKind, MetricRow, TableRow
from hs_analysis.settings import values
from hs_analysis.settings.values import suggestion

ROLES = ("prefill", "decode", "mixed", "encode", "frontend", "ignore")
HOLDS = ("samples", "requests", "bench")
TIME_UNITS = ("s", "ms", "us", "ns")

Where = Callable[[tuple[str, ...]], str]
"""Names the place of a path below the section, for errors: file, line and key."""


@dataclass(frozen=True)
class Section:
    """A section with keys of the user's own.

    Attributes
    ----------
    name
        Name in hsa.toml.
    field
        Dotted place in Settings.
    meaning
        What it is for.
    example
        Lines of hsa.toml, without the section's name.
    read
        Reads the whole section: (table, where, folder of the file) → the field's value.
    """

    name: str
    field: str
    meaning: str
    example: tuple[str, ...]
    read: Callable[[Mapping[str, Any], Where, Path], Any]


def _every(table: Mapping[str, Any], where: Where, read: Callable[[str, Any, Where], Any]) -> dict[str, Any]:
    """Read each key of a table; several problems are told together."""
    found, errors = {}, list[HsError]()
    for key, value in table.items():
        try:
            found[key] = read(key, value, _below(where, key))
        except ManyErrors as error:
            errors += error.errors
        except HsError as error:
            errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)
    return found


def _below(where: Where, *parts: str) -> Where:
    return lambda path: where((*parts, *path))


def _text(value: Any, where: Where, *path: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{_quoted(value)} is no text", where=where(path), hint="write it in quotes")
    return values.plain(value, where(path))


def _table(value: Any, where: Where, *path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(
            f"{_quoted(value)} is no table", where=where(path), hint='write { name = "value", … }'
        )
    return value


def _number(value: Any, where: Where, *, zero: bool) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not (0 <= value < float("inf")) or (value == 0 and not zero):
        least = "from 0 on" if zero else "above 0"
        raise UsageError(f"{_quoted(value)} is no number {least}", where=where(()), hint="write e.g. 1.0")
    return float(value)


def _quoted(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _roles(table: Mapping[str, Any], where: Where, _folder: Path) -> dict[str, str]:
    def role(key: str, value: Any, here: Where) -> str:
        values.pattern(key, here(()))
        return values.word_of(*ROLES)(_text(value, here), here(()))

    return _every(table, where, role)


def _services(table: Mapping[str, Any], where: Where, _folder: Path) -> dict[str, str]:
    def name(key: str, value: Any, here: Where) -> str:
        values.pattern(key, here(()))
        return _text(value, here)

    return _every(table, where, name)


def _queries(table: Mapping[str, Any], where: Where, _folder: Path) -> dict[str, str]:
    return _every(table, where, lambda _key, value, here: _text(value, here))


def _captures(table: Mapping[str, Any], where: Where, folder: Path) -> dict[str, str]:
    return _every(table, where, lambda _key, value, here: str(folder / _text(value, here)))


def _gpus(table: Mapping[str, Any], where: Where, _folder: Path) -> dict[str, float]:
    def count(key: str, value: Any, here: Where) -> float:
        values.word_of("prefill", "decode", "mixed", "*")(key, here(()))
        return _number(value, here, zero=False)

    return _every(table, where, count)


def _prices(table: Mapping[str, Any], where: Where, _folder: Path) -> dict[str, float]:
    return _every(table, where, lambda _key, value, here: _number(value, here, zero=True))


def _metrics(table: Mapping[str, Any], where: Where, _folder: Path) -> dict[str, MetricRow]:
    kinds = get_args(MetricKind)
    return _every(table, where, lambda _key, value, here: _metric(value, here, _signals(), kinds))


def _signals() -> tuple[str, ...]:
    from hs_analysis.catalogue import load_catalogue

    return tuple(signal.id for signal in load_catalogue().signals)


def _metric(
    value: Any, where: Where, known: tuple[str, ...], kinds: tuple[str, ...] = ("gauge", "counter")
) -> MetricRow:
    """Return one metric or column; ``known`` are the signals it may carry, ``kinds`` what it may be."""
    row = _table(value, where)
    _only(row, ("signal", "kind", "unit", "where", "weights", "averaged"), where)
    if "signal" not in row:
        raise UsageError("it says no signal", where=where(()), hint='write { signal = "request_rate", … }')
    signal = _text(row["signal"], where, "signal")
    if signal not in known:
        what = f"no such signal {signal!r}"
        raise UsageError(what, where=where(("signal",)), hint=suggestion(signal, known))
    kind = values.word_of(*kinds)(row.get("kind", "gauge"), where(("kind",)))
    unit = _text(row["unit"], where, "unit") if "unit" in row else None
    labels = {k: _text(v, where, "where", k) for k, v in _table(row.get("where", {}), where, "where").items()}
    averaged = row.get("averaged")
    over_s = None
    if averaged is not None:
        over_s = values.seconds(_text(averaged, where, "averaged"), where(("averaged",)))
    weights = _weights(row.get("weights", {}), where)
    return MetricRow(signal, cast(MetricKind, kind), unit, labels, weights, over_s)


def _weights(value: Any, where: Where) -> dict[str, dict[str, float]]:
    """Return what a series counts by the value of one of its labels."""
    found: dict[str, dict[str, float]] = {}
    for label, table in _table(value, where, "weights").items():
        below = _table(table, where, "weights", label)
        found[label] = {}
        for size, weight in below.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                what = f"{weight!r} is no weight"
                raise UsageError(what, where=where(("weights", label, size)), hint="write a number above 0")
            found[label][size] = float(weight)
    if len(found) > 1:
        raise UsageError("weights go by one label", where=where(("weights",)), hint="name one label")
    return found


def _only(row: Mapping[str, Any], known: tuple[str, ...], where: Where) -> None:
    for key in row:
        if key not in known:
            raise UsageError(f"no such key {key!r}", where=where((key,)), hint=suggestion(key, known))


_TABLE_KEYS = (
    "match", "holds", "time", "time_unit", "time_relative", "tz", "labels", "fixed", "metric", "value",
    "columns", "skip_where",
)  # fmt: skip


def _tables(table: Mapping[str, Any], where: Where, _folder: Path) -> dict[str, TableRow]:
    return _every(table, where, lambda _key, value, here: _table_row(value, here))


def _table_row(value: Any, where: Where) -> TableRow:
    row = _table(value, where)
    _only(row, _TABLE_KEYS, where)
    if "match" not in row:
        raise UsageError("it matches no file", where=where(()), hint='write match = "usage*.csv"')
    texts = {
        key: _text(row[key], where, key) for key in ("match", "time", "tz", "metric", "value") if key in row
    }
    holds = values.word_of(*HOLDS)(row.get("holds", "samples"), where(("holds",)))
    known = _carried(holds)
    columns = _every(
        _table(row.get("columns", {}), where, "columns"),
        _below(where, "columns"),
        lambda _key, one, here: _metric(one, here, known),
    )
    _long_or_wide(row, holds, where)
    if "tz" in texts:
        values.zone(texts["tz"], where(("tz",)))
    relative = row.get("time_relative", False)
    if not isinstance(relative, bool):
        raise UsageError(
            f"{_quoted(relative)} is neither true nor false",
            where=where(("time_relative",)),
            hint="no quotes",
        )
    unit = row.get("time_unit")
    return TableRow(
        holds=holds,  # type: ignore[arg-type]  # one of its words, checked above
        time_unit=None if unit is None else values.word_of(*TIME_UNITS)(unit, where(("time_unit",))),
        time_relative=relative,
        labels=_labels(row.get("labels", {}), where),
        fixed={
            k: _text(v, where, "fixed", k) for k, v in _table(row.get("fixed", {}), where, "fixed").items()
        },
        columns=columns,
        skip_where=_skip(row.get("skip_where", {}), where),
        **texts,
    )


def _carried(holds: str) -> tuple[str, ...]:
    """Return what columns may carry: signals, or the columns of the table of requests or bench points."""
    if holds == "samples":
        return _signals()
    from hs_analysis.schema.frames import CONTRACTS

    return tuple(CONTRACTS[holds].names)


def _long_or_wide(row: Mapping[str, Any], holds: str, where: Where) -> None:
    """Refuse a table that is neither long (metric, value) nor wide (columns), or lacks its time."""
    long = [key for key in ("metric", "value") if key in row]
    if len(long) == 1:
        other = "value" if long == ["metric"] else "metric"
        raise UsageError(
            f"it has {long[0]} but no {other}", where=where(()), hint=f"name the column of {other}"
        )
    if not long and not row.get("columns"):
        hint = "say columns = { … }, or metric and value of a long table"
        raise UsageError("no column carries anything", where=where(()), hint=hint)
    if holds == "samples" and "time" not in row:
        raise UsageError("it has no time", where=where(()), hint='name its column: time = "ts"')


def _labels(value: Any, where: Where) -> dict[str, str]:
    """Return column → label; a list keeps the names."""
    if isinstance(value, list):
        return {name: name for name in (_text(item, where, "labels") for item in value)}
    return {k: _text(v, where, "labels", k) for k, v in _table(value, where, "labels").items()}


def _skip(value: Any, where: Where) -> dict[str, list[str]]:
    found = {}
    for column, listed in _table(value, where, "skip_where").items():
        items = listed if isinstance(listed, list) else [listed]
        found[column] = [str(item) if not isinstance(item, bool) else str(item).lower() for item in items]
    return found


SECTIONS: tuple[Section, ...] = (
    Section("captures", "reading.captures",
            "separate runs of one service, as in a sweep: name = file or folder; pools and rates never cross "
            "them",
            ('"split-1-3" = "sweep/p1-d3"',), _captures),
    Section("queries", "reading.queries",
            "pattern on the file's name → the PromQL it answers, or a name, for series that have none as "
            "a function took it; say under [metrics] what that is, by the same text",
            ('"rates*.json" = "sum by (pod) (rate(gateway_tokens_total[1m]))"',), _queries),
    Section("roles", "reading.roles",
            "regular expression on the instance → prefill, decode, mixed, encode, frontend or ignore, where "
            "the dump does not say",
            ('"^gen-" = "mixed"',), _roles),
    Section("services", "reading.services",
            "regular expression on label=value pairs → service name, where namespace/model is not enough",
            ('"team=search" = "search/llama"',), _services),
    Section("metrics", "reading.metrics", "your own metric names → a signal of the catalogue (hsa signals)",
            ('"gateway_qps" = { signal = "request_rate", kind = "gauge", unit = "req/s", '
             'where = { type = "chat" } }',), _metrics),
    Section("gpus", "reading.gpus_per_instance",
            "GPUs of an instance by role, or * for every role, where the dump does not say",
            ("prefill = 8", '"*" = 8'), _gpus),
    Section("prices", "prices", "price of a GPU-hour by GPU model", ('"NVIDIA H20" = 1.0',), _prices),
    Section("tables", "reading.tables",
            "columns of CSV or Parquet tables: long (metric, value) or wide (columns); one [tables.NAME] a "
            "kind of file",
            ('match = "va_timeseries*.csv"', 'time = "ts"', 'labels = ["variant", "accelerator"]',
             'columns = { ttft_ms = { signal = "ttft", unit = "ms" } }'), _tables),
)  # fmt: skip
"""In the order of hsa.toml."""
