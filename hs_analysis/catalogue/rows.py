"""The catalogue's rows as frozen values: exporters, signals, the metrics that carry them, and units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from hs_analysis.errors import UsageError

COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
"""Name endings that mark a counter where the catalogue knows no better (OpenMetrics naming)."""

HISTOGRAM_ENDINGS = ("_bucket", "_sum", "_count")
"""What a histogram's name becomes in the names of its parts (Prometheus text format)."""

MAPPING = "mapping"
"""Exporter of what the user mapped: first preference, and its labels are taken at their word."""

RECORDED_PREFIX = "hs_"
"""What the recording rules of ``hsa init --rules`` put before the name of a metric."""

RECORDED_BY = "the rules of hsa init"
"""What renames a metric so (`Names.renamed`)."""

FormulaSide = Literal["num", "den"]
Pooling = Literal["sum", "mean", "ratio"]
ReadKind = Literal["rate", "gauge"]


@dataclass(frozen=True)
class Exporter:
    """A program that exports metrics, known by the beginnings of its metric names.

    Attributes
    ----------
    name
        Short name that sources refer to.
    prefixes
        Beginnings of its metric names; of all exporters the longest one that fits wins.
    versions
        Versions whose names were checked.
    enable
        How to have it scraped.
    model, gpu_type, gpu_id, host
        Labels that carry them, None where it has none.
    frontend
        Whether it sees the whole service.
    watches_gpus
        Whether it reports of GPUs, whatever runs on them.
    role_label
        Label → its values' roles.
    repeats
        Labels of ranks that repeat what rank 0 says.
    metrics
        Names it claims whatever they begin with.
    """

    name: str
    prefixes: tuple[str, ...]
    versions: str
    enable: str = ""
    model: str | None = None
    gpu_type: str | None = None
    gpu_id: str | None = None
    host: str | None = None
    frontend: bool = False
    watches_gpus: bool = False
    role_label: dict[str, dict[str, str]] = field(default_factory=dict)
    repeats: tuple[str, ...] = ()
    metrics: frozenset[str] = frozenset()

    def prefix_of(self, metric: str) -> str:
        """Return the longest of its prefixes that the metric begins with, empty when there is none."""
        name = metric.removeprefix(RECORDED_PREFIX)
        return max((p for p in self.prefixes if name.startswith(p)), key=len, default="")


@dataclass(frozen=True)
class Term:
    """One metric of a formula: which series, and whether it is subtracted or divides."""

    metric: str
    where: dict[str, tuple[str, ...]]
    sign: float
    side: FormulaSide


@dataclass(frozen=True)
class Names:
    """Metric names of a source's formula: today's, those up to a version, or those of a relabelling.

    ``until`` is the last version that wrote them, ``renamed`` what renames them; both are empty for today's.
    """

    terms: tuple[Term, ...]
    histogram: str | None
    until: str
    renamed: str = ""

    @property
    def metrics(self) -> frozenset[str]:
        """Metrics of the formula."""
        return frozenset(term.metric for term in self.terms)

    @property
    def recorded(self) -> Names:
        """The same formula with the names that the rules of ``hsa init --rules`` record it under."""
        terms = tuple(replace(term, metric=RECORDED_PREFIX + term.metric) for term in self.terms)
        histogram = RECORDED_PREFIX + self.histogram if self.histogram else None
        return Names(terms, histogram, "", RECORDED_BY)


@dataclass(frozen=True)
class Source:
    """How one exporter carries a signal.

    Attributes
    ----------
    source
        Exporter.
    read
        How a series becomes a window value: ``rate`` (increase per second) or ``gauge`` (mean).
    scale
        Factor from the exporter's unit to the signal's.
    emitters
        Roles of the exporting pod that count; empty for front ends.
    role_label
        Label whose values name the role, where the pod's role does not decide.
    terms
        The formula with today's metric names.
    histogram
        Family that a latency mean and its shares over a limit come from.
    older
        The same formula with the names of older versions, newest first. One series under two names is one:
        per instance and window the best covered name counts, never both.
    unit
        The exporter's unit, empty where it is the signal's.
    pool
        How instances are put together where it differs from the signal's.
    repeats
        Labels of ranks that repeat what rank 0 says; only rank 0 counts.
    steps
        Distance of neighbouring values in the exporter's unit, where it rounds.
    since
        First version that has it.
    notes
        What to know before trusting it.
    """

    source: str
    read: ReadKind
    scale: float
    emitters: tuple[str, ...]
    role_label: dict[str, dict[str, str]]
    terms: tuple[Term, ...]
    histogram: str | None
    older: tuple[Names, ...] = ()
    unit: str = ""
    pool: Pooling | None = None
    repeats: tuple[str, ...] = ()
    steps: float | None = None
    since: str = ""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[Names, ...]:
        """Every generation of its metric names, today's first, last those under which rules record them.

        No rule records what the user mapped.
        """
        today = Names(self.terms, self.histogram, "")
        return (today, *self.older) if self.source == MAPPING else (today, *self.older, today.recorded)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric it may be read from, today's names first, each once."""
        return tuple(dict.fromkeys(term.metric for names in self.names for term in names.terms))

    @property
    def named_today(self) -> frozenset[str]:
        """Metrics of the formula under today's names."""
        return self.names[0].metrics

    def edge(self, written: float) -> float:
        """Return an edge of its histogram in the unit of the signal, rounded as edges are written."""
        return float(f"{written * self.scale:.12g}")

    def written_edge(self, edge: float) -> float:
        """Return an edge in the unit of the signal as its histogram has it: `edge` the other way."""
        return float(f"{edge / self.scale:.12g}")

    def reads(self, metric: str, labels: Mapping[str, str]) -> bool:
        """Whether a series enters the formula, under today's name or an older one."""
        terms = [term for names in self.names for term in names.terms if term.metric == metric]
        return any(all(labels.get(k) in values for k, values in term.where.items()) for term in terms)

    def named(self, present: Collection[str]) -> Source | None:
        """Return the source with the newest names all of whose metrics are present, None when none are."""
        for names in self.names:
            if names.metrics <= set(present):
                return replace(self, terms=names.terms, histogram=names.histogram, older=())
        return None


@dataclass(frozen=True)
class Signal:
    """A quantity the tool knows, with its sources in order of preference.

    ``wanted`` signals are reported as missing, with how to get them, where no source has them.
    """

    id: str
    meaning: str
    unit: str
    family: str
    pool: Pooling
    role: str
    sources: tuple[Source, ...]
    enable: str
    wanted: bool = True


WORKED_OUT = (
    Signal(
        id="offered_tps",
        meaning="the load: work that arrived for the pool, from started requests times the work of one, "
        "whether it was served yet or not; read around its window",
        unit="tokens/s", family="load", pool="sum", role="prefill, decode or mixed", sources=(),
        enable="request_rate and lengths of the front end; without them served work is used",
    ),
    Signal(
        id="offered_tps_trailing",
        meaning="the same by what had arrived when its window ended, as a controller sees it",
        unit="tokens/s", family="load", pool="sum", role="prefill, decode or mixed", sources=(),
        enable="as for offered_tps",
    ),
    Signal(
        id="backlog_age_s",
        meaning="how long the oldest work that waits for the pool has waited",
        unit="s", family="load", pool="mean", role="prefill, decode or mixed", sources=(),
        enable="as for offered_tps",
    ),
    Signal(
        id="saturated",
        meaning="whether work waited for the pool or it served less than arrived",
        unit="0 or 1", family="load", pool="mean", role="prefill, decode or mixed", sources=(),
        enable="as for offered_tps",
    ),
    Signal(
        id="instances",
        meaning="instances of the pool that reported in the window",
        unit="instances", family="load", pool="sum", role="prefill, decode or mixed", sources=(),
        enable="a metric of each instance of the pool, or up",
    ),
)  # fmt: skip
"""Quantities that alignment works out of signals, for no exporter has a metric of them.

Each says under ``enable`` what it is made of; tables of one's own name them as columns ``id@role``.
"""


@dataclass(frozen=True)
class Catalogue:
    """All exporters and signals."""

    date: str
    exporters: tuple[Exporter, ...]
    signals: tuple[Signal, ...]
    clock_like: frozenset[str]

    @cached_property
    def _claims(self) -> dict[str, Exporter]:
        return {metric: exporter for exporter in self.exporters for metric in exporter.metrics}

    @cached_property
    def _prefixes(self) -> tuple[tuple[str, Exporter], ...]:
        pairs = [(prefix, exporter) for exporter in self.exporters for prefix in exporter.prefixes]
        return tuple(sorted(pairs, key=lambda pair: -len(pair[0])))

    @cached_property
    def _readers(self) -> dict[str, tuple[Signal, Source]]:
        """First signal and source per metric, buckets and families included."""
        found: dict[str, tuple[Signal, Source]] = {}
        for signal in self.signals:
            for source in signal.sources:
                for names in source.names:
                    family = [names.histogram, f"{names.histogram}_bucket"] if names.histogram else []
                    for metric in [*(term.metric for term in names.terms), *family]:
                        found.setdefault(metric, (signal, source))
        return found

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that a signal is read from, parts of histograms included, and those used beside."""
        found: dict[str, None] = {}
        for signal in self.signals:
            for source in signal.sources:
                for names in source.names:
                    parts = [f"{names.histogram}{end}" for end in HISTOGRAM_ENDINGS if names.histogram]
                    found |= dict.fromkeys([*(term.metric for term in names.terms), *parts])
        claimed = (metric for exporter in self.exporters for metric in sorted(exporter.metrics))
        return tuple(found | dict.fromkeys([*claimed, *sorted(self.clock_like), "up"]))

    def signal(self, name: str) -> Signal | None:
        """Return a signal by id, None when there is none."""
        return next((s for s in self.signals if s.id == name), None)

    def exporter(self, name: str) -> Exporter | None:
        """Return an exporter by name, None when there is none."""
        return next((e for e in self.exporters if e.name == name), None)

    def exporter_of(self, metric: str) -> Exporter:
        """Return the exporter that claims the metric, else the one with the longest prefix that fits."""
        name = metric.removeprefix(RECORDED_PREFIX)
        claimed = self._claims.get(metric)
        return claimed or next(e for prefix, e in self._prefixes if name.startswith(prefix))

    def reader_of(self, metric: str) -> tuple[Signal, Source] | None:
        """Return the first signal and source that read the metric (its _bucket included), None for none."""
        return self._readers.get(metric)

    def first_signal(self, metric: str) -> str | None:
        """Return the first signal that reads the metric (its _bucket included), None when none does."""
        found = self.reader_of(metric)
        return found[0].id if found else None

    def kind_of(self, metric: str) -> Literal["counter", "gauge"]:
        """Return whether a metric counts up, by its source first and its name's ending second."""
        found = self.reader_of(metric)
        if found:
            return "counter" if found[1].read == "rate" else "gauge"
        return "counter" if metric.endswith(COUNTER_SUFFIXES) else "gauge"


UnitQuantity = tuple[str, int]
"""What is measured, and how often it is divided by time: ("tokens", 1) is tokens per second."""

BASES: dict[str, tuple[UnitQuantity, float]] = {
    "ratio": (("share", 0), 1.0), "percent": (("share", 0), 0.01), "%": (("share", 0), 0.01),
    "s": (("time", 0), 1.0), "ms": (("time", 0), 1e-3), "us": (("time", 0), 1e-6),
    "ns": (("time", 0), 1e-9), "min": (("time", 0), 60.0), "h": (("time", 0), 3600.0),
    "tokens": (("tokens", 0), 1.0), "ktokens": (("tokens", 0), 1e3),
    "requests": (("requests", 0), 1.0), "req": (("requests", 0), 1.0),
    "instances": (("instances", 0), 1.0), "pods": (("instances", 0), 1.0),
    "events": (("events", 0), 1.0), "1": (("events", 0), 1.0),
    "blocks": (("blocks", 0), 1.0), "flop": (("flop", 0), 1.0),
    "bytes": (("bytes", 0), 1.0), "B": (("bytes", 0), 1.0),
    "KB": (("bytes", 0), 1e3), "MB": (("bytes", 0), 1e6), "GB": (("bytes", 0), 1e9),
    "KiB": (("bytes", 0), 2.0**10), "MiB": (("bytes", 0), 2.0**20), "GiB": (("bytes", 0), 2.0**30),
    "J": (("energy", 0), 1.0), "mJ": (("energy", 0), 1e-3), "uJ": (("energy", 0), 1e-6),
    "W": (("energy", 1), 1.0), "mW": (("energy", 1), 1e-3), "kW": (("energy", 1), 1e3),
    "qps": (("requests", 1), 1.0), "rps": (("requests", 1), 1.0), "rpm": (("requests", 1), 1 / 60),
    "tps": (("tokens", 1), 1.0), "tpm": (("tokens", 1), 1 / 60),
}  # fmt: skip
"""Unit → quantity and factor to its first unit; any of them may be divided by a time (``tokens/min``).

SI prefixes and IEC 80000-13 binary prefixes.
"""


def known_units() -> str:
    """Return the units as text, for messages."""
    return ", ".join(unit for unit in BASES if unit not in ("%", "1", "B")) + "; any of them per s, min or h"


def measured(unit: str) -> tuple[UnitQuantity, float] | None:
    """Return quantity and factor of a unit, None when it is not known."""
    above, _, below = unit.partition("/")
    base = BASES.get(above.strip())
    if base is None or ("/" not in unit):
        return base
    time = BASES.get(below.strip())
    if time is None or time[0] != ("time", 0):
        return None
    (kind, per), factor = base
    return (kind, per + 1), factor / time[1]


def factor(unit: str, wanted: str, *, counter: bool = False, where: str = "") -> float:
    """Return what a value in ``unit`` is multiplied by to be in ``wanted``.

    Parameters
    ----------
    unit
        Unit of the metric.
    wanted
        Unit of the signal.
    counter
        Whether the metric is a counter that is read as an increase per second: tokens become tokens/s.
    where
        Metric or setting that the message names.

    Raises
    ------
    UsageError
        When a unit is not known, or the two measure different things.
    """
    found = measured(unit)
    if found is None:
        raise UsageError(f"no unit {unit!r}", where=where, hint=f"known units: {known_units()}")
    (kind, per), size = found
    target = measured(wanted)
    if target is None or (kind, per + int(counter)) != target[0]:
        read = f"a counter of {unit}" if counter else unit
        fitting = [u for u, (quantity, _) in BASES.items() if target and quantity[0] == target[0][0]]
        hint = f"units that do: {', '.join(fitting)}, per s, min or h for a rate" if fitting else ""
        raise UsageError(f"{read} does not measure a signal in {wanted}", where=where, hint=hint)
    return size / target[1]


def conversion(unit: str, wanted: str) -> float | None:
    """Return the factor from one unit to another, None when they don't measure the same."""
    try:
        return factor(unit, wanted)
    except UsageError:
        return None
