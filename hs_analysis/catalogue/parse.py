"""From the text of a catalogue file to its checked rows; the shipped catalogue is parsed once a process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from hs_analysis.catalogue.rows import Catalogue, Exporter, Names, Signal, Source, Term, factor, measured
from hs_analysis.errors import HsError, InputError, ManyErrors

FAMILIES = ("throughput", "hardware", "latency", "queue", "memory", "load", "auxiliary")
POOLS = ("sum", "mean", "ratio")
ROLES = ("emitter", "prefill", "decode", "service")
EMITTERS = ("prefill", "decode", "mixed", "encode")
READS = ("rate", "gauge")

TOP_KEYS = {"schema_version", "catalogue_date", "exporters", "clock_like", "signals"}
EXPORTER_KEYS = {
    "match", "versions", "enable", "model", "gpu_type", "gpu_id", "host", "frontend", "watches_gpus",
    "role_label", "repeats",
}  # fmt: skip
SIGNAL_KEYS = {"id", "meaning", "unit", "family", "pool", "role", "sources", "enable", "wanted"}
FORMULA_KEYS = {"num", "den", "histogram"}
SOURCE_KEYS = FORMULA_KEYS | {
    "source", "read", "unit", "pool", "emitters", "role_label", "older", "steps", "since", "notes",
}  # fmt: skip
OLDER_KEYS = FORMULA_KEYS | {"until", "renamed"}
TERM_KEYS = {"metric", "where", "minus"}


@dataclass(frozen=True)
class _CatalogueRow:
    """A row of the file, for messages: its path in the document and its keys from the top."""

    file: str
    text: str
    path: tuple[str | int, ...]

    def row(self, *keys: str | int) -> _CatalogueRow:
        return _CatalogueRow(self.file, self.text, (*self.path, *keys))

    def fault(self, what: str, hint: str = "") -> InputError:
        shown = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in self.path).lstrip(".")
        line = _line(self.text, self.path)
        return InputError(what, where=f"{self.file}, line {line}, {shown}", hint=hint)


def _line(text: str, path: Sequence[str | int]) -> int:
    """Return the line of a row, read again with positions; only a message asks for it."""
    node: Any = YAML(typ="rt", pure=True).load(text)
    line = 0
    for key in path:
        line = (node.lc.value if isinstance(key, str) else node.lc.item)(key)[0]
        node = node[key]
    return int(line) + 1


def parse_catalogue(text: str, file: str = "signals.yaml") -> Catalogue:
    """Return the catalogue of a file's text.

    Raises
    ------
    InputError
        When it is no YAML, or one row is wrong; names the file, the line and the row.
    ManyErrors
        When several rows are wrong.
    """
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"no YAML: {error.problem}", where=f"{file}{line}") from error
    top = _CatalogueRow(file, text, ())
    faults: list[HsError] = list(_unknown_keys(top, raw, TOP_KEYS))
    faults += [InputError(f"{key} is missing", where=file) for key in sorted(TOP_KEYS - set(raw))]
    if faults:
        raise faults[0] if len(faults) == 1 else ManyErrors(faults)
    exporters = tuple(_exporter(top.row("exporters", n), n, r, faults) for n, r in raw["exporters"].items())
    by_name = {exporter.name: exporter for exporter in exporters}
    signals = tuple(
        _signal(top.row("signals", i), row, by_name, faults) for i, row in enumerate(raw["signals"])
    )
    found = Catalogue(
        str(raw["catalogue_date"]), exporters, tuple(s for s in signals if s), frozenset(raw["clock_like"])
    )
    if not faults:
        faults += _across_rows(found, top)
    if faults:
        raise faults[0] if len(faults) == 1 else ManyErrors(faults)
    return found


def _unknown_keys(place: _CatalogueRow, row: Mapping[str, Any], known: set[str]) -> Iterator[InputError]:
    for key in row:
        if key not in known:
            yield place.fault(f"no such field {key!r}", hint=f"fields: {', '.join(sorted(known))}")


def _one_of(
    place: _CatalogueRow, name: str, value: object, allowed: Sequence[str], faults: list[HsError]
) -> None:
    if value not in allowed:
        faults.append(place.fault(f"{name} is {value!r}", hint=f"one of {', '.join(allowed)}"))


def _exporter(place: _CatalogueRow, name: str, row: Mapping[str, Any], faults: list[HsError]) -> Exporter:
    faults += _unknown_keys(place, row, EXPORTER_KEYS)
    match = row.get("match", ())
    if "match" not in row or "versions" not in row:
        faults.append(place.fault("an exporter needs match and versions"))
    return Exporter(
        name=name,
        prefixes=tuple(match) if isinstance(match, list) else (match,) if isinstance(match, str) else (),
        versions=str(row.get("versions", "")),
        enable=row.get("enable", ""),
        model=row.get("model"),
        gpu_type=row.get("gpu_type"),
        gpu_id=row.get("gpu_id"),
        host=row.get("host"),
        frontend=bool(row.get("frontend", False)),
        watches_gpus=bool(row.get("watches_gpus", False)),
        role_label={k: dict(v) for k, v in row.get("role_label", {}).items()},
        repeats=tuple(row.get("repeats", ())),
    )


def _signal(
    place: _CatalogueRow, row: Mapping[str, Any], exporters: Mapping[str, Exporter], faults: list[HsError]
) -> Signal | None:
    before = len(faults)
    faults += _unknown_keys(place, row, SIGNAL_KEYS)
    mapped_only = row.get("sources") == [] and row.get("wanted") is False
    may_lack = {"wanted", "sources"} if mapped_only else {"wanted"}
    missing = [key for key in sorted(SIGNAL_KEYS - may_lack) if not row.get(key)]
    if missing:
        faults.append(place.fault(f"{', '.join(missing)} is missing"))
        return None
    _one_of(place, "family", row["family"], FAMILIES, faults)
    _one_of(place, "pool", row["pool"], POOLS, faults)
    _one_of(place, "role", row["role"], ROLES, faults)
    if measured(row["unit"]) is None:
        faults.append(place.fault(f"no unit {row['unit']!r}"))
    if len(faults) > before:
        return None
    sources = [
        _source(place.row("sources", i), source, row, exporters, faults)
        for i, source in enumerate(row["sources"])
    ]
    return Signal(
        row["id"],
        meaning=row["meaning"],
        unit=row["unit"],
        family=row["family"],
        pool=row["pool"],
        role=row["role"],
        sources=tuple(s for s in sources if s),
        enable=row["enable"],
        wanted=bool(row.get("wanted", True)),
    )


def _source(
    place: _CatalogueRow,
    row: Mapping[str, Any],
    signal: Mapping[str, Any],
    exporters: Mapping[str, Exporter],
    faults: list[HsError],
) -> Source | None:
    before = len(faults)
    faults += _unknown_keys(place, row, SOURCE_KEYS)
    _one_of(place, "source", row.get("source"), sorted(exporters), faults)
    _one_of(place, "read", row.get("read"), READS, faults)
    _one_of(place, "pool", row.get("pool", "sum"), POOLS, faults)
    for role in row.get("emitters", ()):
        _one_of(place, "an emitter", role, EMITTERS, faults)
    pool = row.get("pool", signal["pool"])
    terms = _terms(place, row, pool, faults)
    older = tuple(_older(place.row("older", i), o, pool, faults) for i, o in enumerate(row.get("older", ())))
    if len(faults) > before:
        return None
    exporter = exporters[row["source"]]
    return Source(
        source=row["source"],
        read=row["read"],
        scale=_scale(place, row, signal, pool, faults),
        emitters=tuple(row.get("emitters", ())),
        role_label={k: dict(v) for k, v in row.get("role_label", {}).items()},
        terms=terms,
        histogram=row.get("histogram"),
        older=older,
        unit=row.get("unit", ""),
        pool=row.get("pool"),
        repeats=exporter.repeats,
        steps=row.get("steps"),
        since=str(row.get("since", "")),
        notes=tuple(row.get("notes", ())),
    )


def _scale(
    place: _CatalogueRow, row: Mapping[str, Any], signal: Mapping[str, Any], pool: str, faults: list[HsError]
) -> float:
    """Return the factor from the exporter's unit: a counter's unit is what it counts."""
    unit = row.get("unit")
    if unit is None:
        return 1.0
    try:
        return factor(unit, signal["unit"], counter=row["read"] == "rate" and pool != "ratio")
    except HsError as error:
        faults.append(place.fault(error.what, error.hint))
        return 1.0


def _older(place: _CatalogueRow, row: Mapping[str, Any], pool: str, faults: list[HsError]) -> Names:
    faults += _unknown_keys(place, row, OLDER_KEYS)
    if bool(row.get("until")) == bool(row.get("renamed")):
        what = "older names need `until`, the last version that wrote them, or `renamed`, what renames them"
        faults.append(place.fault(what))
    until, renamed = str(row.get("until", "")), str(row.get("renamed", ""))
    return Names(_terms(place, row, pool, faults), row.get("histogram"), until, renamed)


def _terms(
    place: _CatalogueRow, row: Mapping[str, Any], pool: str, faults: list[HsError]
) -> tuple[Term, ...]:
    if histogram := row.get("histogram"):
        above, below = Term(f"{histogram}_sum", {}, 1.0, "num"), Term(f"{histogram}_count", {}, 1.0, "den")
        return (above, below)
    found = []
    for side in ("num", "den"):
        for number, term in enumerate(row.get(side, ())):
            faults += _unknown_keys(place.row(side, number), term, TERM_KEYS)
            if not term.get("metric"):
                faults.append(place.row(side, number).fault("a term needs a metric"))
                continue
            sign = -1.0 if term.get("minus") else 1.0
            found.append(Term(term["metric"], _where(term.get("where")), sign, side))
    if not any(term.side == "num" for term in found):
        faults.append(place.fault("a source needs num or histogram"))
    elif (pool == "ratio") != any(term.side == "den" for term in found):
        faults.append(place.fault(f"pool is {pool}: den belongs to a ratio, and to nothing else"))
    return tuple(found)


def _where(raw: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    return {k: tuple(map(str, v)) if isinstance(v, list) else (str(v),) for k, v in (raw or {}).items()}


def _across_rows(catalogue: Catalogue, top: _CatalogueRow) -> Iterator[InputError]:
    """Find metrics under another exporter, kinds that contradict each other, and ids given twice."""
    kinds: dict[str, str] = {}
    current = {t.metric for s in catalogue.signals for source in s.sources for t in source.terms}
    seen: set[str] = set()
    for i, signal in enumerate(catalogue.signals):
        if signal.id in seen:
            yield top.row("signals", i).fault(f"{signal.id} is there twice")
        seen.add(signal.id)
        for j, source in enumerate(signal.sources):
            place = top.row("signals", i, "sources", j)
            for number, names in enumerate(source.names):
                for metric in sorted(names.metrics):
                    owner = catalogue.exporter_of(metric).name
                    if owner != source.source:
                        yield place.fault(f"{metric} is a metric of {owner}, not of {source.source}")
                    if kinds.setdefault(metric, source.read) != source.read:
                        yield place.fault(f"{metric} is read as {source.read} here and otherwise elsewhere")
                    if number and metric in current - source.names[0].metrics:
                        yield place.fault(f"{metric} is an older name here and today's name elsewhere")


FILE = "signals.yaml"


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """Return the shipped catalogue.

    Raises
    ------
    InputError, ManyErrors
        When a row of it is wrong: an exporter that does not exist, a field that is misspelled.
    """
    return parse_catalogue(files("hs_analysis.catalogue").joinpath(FILE).read_text("utf-8"), FILE)
