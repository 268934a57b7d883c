"""Which signal of the catalogue a metric name or a PromQL query reads, in which unit, and how it adds up.

Only what can be told is read: a sum, an average or a maximum over instances of one signal's metrics, times a
constant. Everything else is said to be not understood, with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hs_analysis.catalogue import Catalogue, Signal, Source
from hs_analysis.current.model import Known

DEFAULT_RANGE_S = 60.0
"""Averaging of a gauge that is read as it stands [s]: one window of the replay."""

_RECORDED = re.compile(r"\bhs_([a-z0-9_]+?)(?:[:_](?:rate|avg|max|mean)(\d+)([smhd])|[:_]value)(?![a-z0-9])")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_RANGE = re.compile(r"\[(\d+)(s|m|h|d)(?::[^\]]*)?\]")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_CALL = re.compile(r"\b([a-z_0-9]+)\s*\(")
_FUNCTIONS = {
    "sum", "avg", "max", "by", "without", "rate", "irate", "increase", "avg_over_time", "max_over_time",
    "histogram_quantile", "scalar", "on", "ignoring",
}  # fmt: skip
_NUMBER = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_TAIL = re.compile(rf"\)\s*([*/])\s*{_NUMBER}\s*$")
_HEAD = re.compile(rf"^\s*{_NUMBER}\s*\*")
_ROLE = {role: re.compile(rf"(?<![a-z]){role}(?![a-z])", re.IGNORECASE) for role in ("prefill", "decode")}


@dataclass(frozen=True)
class Query:
    """What a query reads.

    Attributes
    ----------
    signal, role
        The catalogue's signal and the pool it speaks of.
    pool
        How the signal adds up over instances: ``sum``, ``mean`` or ``ratio``.
    over
        What the query makes of the instances: ``sum``, ``avg`` or ``max``.
    scale
        Unit of the signal per unit of the query's answer [ratio].
    averaging_s
        Its range [s].
    notes
        What is only nearly so.
    """

    signal: str
    role: str
    pool: str
    over: str
    scale: float
    averaging_s: float
    notes: tuple[str, ...] = ()


def read_query(text: str, pool: str, known: Known, catalogue: Catalogue, labels: str = "") -> Query | str:
    """Return what a query or a bare metric name reads for a pool, or why it can't be told.

    Parameters
    ----------
    text
        PromQL or the name of an external metric.
    pool
        The pool that is scaled by it.
    known
        Signals of the service that can be replayed.
    catalogue
        Signals and their metrics.
    labels
        Labels beside a bare name, as text; they may name the role.
    """
    recorded = _RECORDED.search(text)
    found = _of_record(recorded, catalogue) if recorded else _of_metrics(text, pool, known, catalogue)
    if isinstance(found, str):
        return found
    signal, source, total = found
    role = _role_of(f"{text} {labels}", signal.id, pool, known)
    if role is None:
        return f"{signal.id} of {pool} is not in this history"
    adds = known.readable[(signal.id, role)]
    if recorded is not None:
        span = float(recorded[2]) * _SECONDS[recorded[3]] if recorded[2] else DEFAULT_RANGE_S
        over = "sum" if total or adds == "sum" else "avg"
        return Query(signal.id, role, adds, over, 1.0, span)
    why = _unread(text, source)
    if why or source is None:
        return why
    notes = []
    over = next((name for name in ("sum", "avg", "max") if re.match(rf"[\s(]*{name}\b", _bare(text))), "")
    if not over:
        over = "sum"
        notes.append("the query does not say how instances add up: read as their sum")
    if over == "max":
        notes.append("the highest instance is read as their mean: instances are alike in the replay")
    if "histogram_quantile" in text:
        notes.append("a quantile is read as the mean of the latency: its target stands for another number")
    ranges = [float(n) * _SECONDS[unit] for n, unit in _RANGE.findall(text)]
    span = max(ranges, default=DEFAULT_RANGE_S)
    scale = source.scale / _constant(text)
    if re.search(r"\bincrease\s*\(", text) and ranges:
        scale /= span
    return Query(signal.id, role, adds, over, scale, span, tuple(notes))


def _of_record(found: re.Match[str], catalogue: Catalogue) -> tuple[Signal, None, bool] | str:
    """Return the signal of one of our own recorded names, and whether it is a pool's total."""
    name = found[1]
    total = name.endswith("_total") and catalogue.signal(name) is None
    signal = catalogue.signal(name.removesuffix("_total") if total else name)
    return (signal, None, total) if signal else f"no signal is named {name}"


def _of_metrics(
    text: str, pool: str, known: Known, catalogue: Catalogue
) -> tuple[Signal, Source, bool] | str:
    words = set(_WORD.findall(text))
    names = {word for word in words if catalogue.reader_of(word)}
    if not names:
        return "it names no metric of the catalogue (hsa signals)"
    fitting = [
        (signal, source)
        for signal in catalogue.signals
        for source in signal.sources
        if _carries(source, names, text)
    ]
    if not fitting:
        return f"no one signal is read from {' and '.join(sorted(names))} like this"
    owners = (pool, "service", *known.pools)
    ranked = [
        (owners.index(role), signal, source)
        for signal, source in fitting
        for role in owners
        if (signal.id, role) in known.readable
    ]
    if not ranked:
        return f"{fitting[0][0].id} is not in this history"
    _, signal, source = min(ranked, key=lambda one: one[0])
    return signal, source, False


def _carries(source: Source, names: set[str], text: str) -> bool:
    """Whether a source's formula is made of exactly these metrics, in one of its generations of names."""
    for generation in source.names:
        terms = set(generation.metrics)
        bucket = f"{generation.histogram}_bucket" if generation.histogram else ""
        if (names == terms or names == {bucket}) and (source.read == "gauge" or _RANGE.search(text)):
            return True
    return False


def _role_of(text: str, signal: str, pool: str, known: Known) -> str | None:
    said = [role for role, word in _ROLE.items() if word.search(text)]
    order = (*(said if len(said) == 1 else ()), pool, "service", *known.pools)
    return next((role for role in order if (signal, role) in known.readable), None)


def _bare(text: str) -> str:
    """Return a query without what is in braces and quotes."""
    return re.sub(r"\{[^}]*\}", "", re.sub(r"\"[^\"]*\"|'[^']*'", "", text))


def _unread(text: str, source: Source | None) -> str:
    """Return why a query's form is not understood, empty when it is."""
    bare = _bare(text)
    odd = sorted({name for name in _CALL.findall(bare) if name not in _FUNCTIONS})
    if odd:
        return f"the function {odd[0]} is not read"
    body = _HEAD.sub("", _TAIL.sub(")", bare)) if _constant(text) != 1.0 else bare
    body = _RANGE.sub("", body)
    signs = re.findall(r"[-+*/%<>=!]", body)
    allowed = 0 if source is None else len(source.terms) - 1
    if len(signs) > max(0, allowed):
        return f"the arithmetic around {signs[-1]} is not read"
    return ""


def _constant(text: str) -> float:
    """Return the constant that the query multiplies its metrics by."""
    bare = _bare(text)
    tail, head = _TAIL.search(bare), _HEAD.match(bare)
    factor = float(head[1]) if head else 1.0
    if tail and float(tail[2]):
        factor = factor * float(tail[2]) if tail[1] == "*" else factor / float(tail[2])
    return factor or 1.0
