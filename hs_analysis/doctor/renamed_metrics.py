"""Metrics of known exporters that nobody reads, named nearly as metrics that are missed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import SequenceMatcher

import polars as pl

from hs_analysis.catalogue import Exporter, Names, Source
from hs_analysis.catalogue.rows import RECORDED_BY
from hs_analysis.doctor.context import DoctorContext, Finding

NEAR_WORD = 0.7
"""Part of two words that is the same, from which one may be the other misspelt; names that differ by a whole
word, as hits and queries, are two things [ratio]. Default of this project."""

SHORTEST_WORD = 3
"""Letters from which the beginning of a word may stand for it. Default of this project."""

KINDS = frozenset(("total", "num", "seconds", "perc", "percent", "ratio", "bytes"))
"""Words that say a unit or a kind: they come and go with a version."""

_PART = re.compile(r"_(bucket|sum|count)$")

_Words = tuple[str, ...]


def renamed(context: DoctorContext) -> list[Finding]:
    """Unread metrics named nearly as one that the catalogue reads of their exporter and the input lacks."""
    catalogue, read = context.catalogue, set(context.catalogue.metrics)
    orphans = context.series.filter(pl.col("signal").is_null()).select("metric", "source").unique()
    unread: dict[str, set[str]] = {}
    for metric, source in orphans.drop_nulls().iter_rows():
        if metric not in read and not metric.endswith("_created"):
            unread.setdefault(source, set()).add(_stem(metric))
    if not unread:
        return []
    present = {_stem(metric) for metric in context.series["metric"].drop_nulls().unique()}
    found = {}
    for exporter in catalogue.exporters:
        if exporter.name not in unread or not any(exporter.prefixes):
            continue
        sources = [
            one for signal in catalogue.signals for one in signal.sources if one.source == exporter.name
        ]
        known = {
            stem: _words(stem, exporter) for one in sources for names in _own(one) for stem in _stems(names)
        }
        for stem in unread[exporter.name] - known.keys():
            near = _nearest(_words(stem, exporter), known)
            if near and near not in present and _is_missed(near, sources, present):
                found[stem] = near
    return [
        Finding(
            "renamed", "warn",
            f"{stem} is not used, and {near}, which the catalogue reads, is not there: if it is the same "
            "under a new name, name its signal and unit under [metrics] in hsa.toml",
        )
        for stem, near in sorted(found.items())
    ]  # fmt: skip


def _stem(metric: str) -> str:
    """Return the name of a metric without the part of a histogram that it is."""
    return _PART.sub("", metric)


def _own(source: Source) -> tuple[Names, ...]:
    """Return the names that exporters give, not those of recording rules."""
    return tuple(names for names in source.names if names.renamed != RECORDED_BY)


def _stems(names: Names) -> set[str]:
    return {_stem(metric) for metric in names.metrics} | ({names.histogram} if names.histogram else set())


def _words(stem: str, exporter: Exporter) -> _Words:
    own = stem.removeprefix(exporter.prefix_of(stem))
    return tuple(word for word in own.split("_") if word not in KINDS)


def _nearest(words: _Words, known: Mapping[str, _Words]) -> str | None:
    """Return the name that is most alike, None where none is near."""
    near = [(_likeness(words, other), name) for name, other in known.items() if _same(words, other)]
    return max(near)[1] if near else None


def _same(one: _Words, other: _Words) -> bool:
    """Say whether no word stands for another: those that differ are shortened or misspelt, and are few."""
    if len(one) != len(other):
        return False
    odd = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    return 2 * len(odd) <= len(one) and all(_alike(*pair) for pair in odd)


def _alike(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    begins = len(shorter) >= SHORTEST_WORD and longer.startswith(shorter)
    return begins or SequenceMatcher(None, one, other).ratio() >= NEAR_WORD


def _likeness(one: _Words, other: _Words) -> float:
    return SequenceMatcher(None, "_".join(one), "_".join(other), autojunk=False).ratio()


def _is_missed(near: str, sources: Collection[Source], present: set[str]) -> bool:
    """Say whether something that is read from the metric is read from no other name of it."""
    reading = [[_stems(names) for names in source.names] for source in sources]
    return any(
        any(near in own for own in names) and not any(own <= present for own in names) for names in reading
    )
