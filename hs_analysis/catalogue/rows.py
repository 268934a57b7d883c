"""The catalogue's rows as frozen values, read once from signals.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

from ruamel.yaml import YAML

COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
"""Name endings that mark a counter where the catalogue knows no better (OpenMetrics naming)."""

INF_EDGE = "+Inf"


@dataclass(frozen=True)
class Exporter:
    """A program that exports metrics, known by the prefix of its metric names.

    ``role_label`` maps a label to its values' roles; ``frontend`` marks programs that see the whole service.
    ``model``, ``gpu_type`` and ``gpu_id`` name the labels that carry them.
    """

    name: str
    match: str
    versions: str
    model: str | None
    gpu_type: str | None
    gpu_id: str | None
    frontend: bool
    role_label: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Term:
    """One metric of a formula: which series, and whether it is subtracted or divides."""

    metric: str
    where: dict[str, tuple[str, ...]]
    sign: float
    side: Literal["num", "den"]


@dataclass(frozen=True)
class Source:
    """How one exporter carries a signal.

    ``read`` says how a series becomes a window value: ``rate`` (increase per second) or ``gauge`` (mean).
    ``histogram`` names the family a latency mean and its shares over a limit come from.
    """

    source: str
    read: Literal["rate", "gauge"]
    scale: float
    emitters: tuple[str, ...]
    role_label: dict[str, dict[str, str]]
    terms: tuple[Term, ...]
    histogram: str | None


@dataclass(frozen=True)
class Signal:
    """A quantity the tool knows, with its sources in order of preference."""

    id: str
    meaning: str
    unit: str
    family: str
    pool: Literal["sum", "mean", "ratio"]
    role: str
    sources: tuple[Source, ...]
    enable: str


@dataclass(frozen=True)
class Catalogue:
    """All exporters and signals."""

    date: str
    exporters: tuple[Exporter, ...]
    signals: tuple[Signal, ...]
    clock_like: frozenset[str]

    def signal(self, name: str) -> Signal | None:
        """Return a signal by id, None when there is none."""
        return next((s for s in self.signals if s.id == name), None)

    def exporter_of(self, metric: str) -> Exporter:
        """Return the exporter whose prefix the metric has; the first match in catalogue order wins."""
        return next(e for e in self.exporters if metric.startswith(e.match))

    def first_signal(self, metric: str) -> str | None:
        """Return the first signal that reads the metric (its _bucket included), None when none does."""
        base = metric.removesuffix("_bucket")
        for signal in self.signals:
            for source in signal.sources:
                if source.histogram == base or any(t.metric in (metric, base) for t in source.terms):
                    return signal.id
        return None


@cache  # asked once per series; names are few
def metric_kind(metric: str) -> Literal["counter", "gauge"]:
    """Return whether a metric counts up, by the catalogue's sources first and its name's ending second."""
    for signal in load_catalogue().signals:
        for source in signal.sources:
            if any(term.metric == metric for term in source.terms):
                return "counter" if source.read == "rate" else "gauge"
    return "counter" if metric.endswith(COUNTER_SUFFIXES) else "gauge"


def _where(raw: dict[str, Any] | None) -> dict[str, tuple[str, ...]]:
    return {k: tuple(v) if isinstance(v, list) else (str(v),) for k, v in (raw or {}).items()}


def _terms(raw: dict[str, Any]) -> tuple[Term, ...]:
    if histogram := raw.get("histogram"):
        return (
            Term(f"{histogram}_sum", {}, 1.0, "num"),
            Term(f"{histogram}_count", {}, 1.0, "den"),
        )
    sides: tuple[Literal["num", "den"], ...] = ("num", "den")
    return tuple(
        Term(term["metric"], _where(term.get("where")), -1.0 if term.get("minus") else 1.0, side)
        for side in sides
        for term in raw.get(side, [])
    )


def _source(raw: dict[str, Any]) -> Source:
    return Source(
        source=raw["source"],
        read=raw["read"],
        scale=float(raw.get("scale", 1.0)),
        emitters=tuple(raw.get("emitters", ())),
        role_label={k: dict(v) for k, v in raw.get("role_label", {}).items()},
        terms=_terms(raw),
        histogram=raw.get("histogram"),
    )


def _exporter(name: str, raw: dict[str, Any]) -> Exporter:
    return Exporter(
        name=name,
        match=raw["match"],
        versions=raw["versions"],
        model=raw.get("model"),
        gpu_type=raw.get("gpu_type"),
        gpu_id=raw.get("gpu_id"),
        frontend=bool(raw.get("frontend", False)),
        role_label={k: dict(v) for k, v in raw.get("role_label", {}).items()},
    )


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """Return the shipped catalogue; parsed once a process."""
    text = files("hs_analysis.catalogue").joinpath("signals.yaml").read_text("utf-8")
    raw = YAML(typ="safe", pure=True).load(text)
    signals = tuple(
        Signal(
            s["id"], s["meaning"], s["unit"], s["family"], s["pool"], s["role"],
            tuple(_source(row) for row in s["sources"]), s["enable"],
        )
        for s in raw["signals"]
    )  # fmt: skip
    exporters = tuple(_exporter(name, row) for name, row in raw["exporters"].items())
    return Catalogue(raw["catalogue_date"], exporters, signals, frozenset(raw["clock_like"]))
