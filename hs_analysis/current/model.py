"""What is read from today's objects: parameters per pool, the metrics behind them, and what is not said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hs_analysis.controllers.hpa import Surge

How = Literal["sum", "max", "min"]
"""What is made of several signals."""


@dataclass(frozen=True)
class Stored:
    """A series of the history.

    Attributes
    ----------
    labels
        Its labels, the metric's name among them as ``__name__``; none is empty.
    emitter
        Role of what exports it: prefill, decode, mixed, encode, frontend, unknown or ignore.
    ours
        Whether it is of the service that the objects scale.
    instance
        The unit an autoscaler adds; None when the series names none.
    copies
        What each copy of it that the server holds has of labels beside these: one without any where it is
        there once.
    """

    labels: Mapping[str, str]
    emitter: str
    ours: bool = True
    instance: str | None = None
    copies: tuple[Mapping[str, str], ...] = ({},)


@dataclass(frozen=True)
class Known:
    """What is known of the service that the objects scale.

    Attributes
    ----------
    pools
        prefill, decode or mixed.
    readable
        What a replay knows at other counts: (signal, role) → how it adds up, ``sum``, ``mean`` or ``ratio``.
    recorded
        (signal, role) that the history has, but a replay does not know at other counts.
    unmodelled
        Quantiles of latencies, (signal, role) as ``replay.quantiles`` names them, that a replay does not know
        at other counts → why.
    targets
        Derived work per instance, per pool; absent where not known.
    work
        Signal that counts a pool's served work, per pool.
    series
        All series of the history, those of other services as well: what a query's selectors pick from.
    """

    pools: tuple[str, ...]
    readable: Mapping[tuple[str, str], str]
    targets: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, str] = field(default_factory=dict)
    series: tuple[Stored, ...] = ()
    recorded: frozenset[tuple[str, str]] = frozenset()
    unmodelled: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Addend:
    """One more signal of a metric: its range [s], and units of the metric's first signal per unit of it."""

    signal: str
    role: str
    averaging_s: float
    weight: float


@dataclass(frozen=True)
class MetricRead:
    """One metric of an object, as a signal of the catalogue.

    Attributes
    ----------
    signal, role
        What it reads.
    target
        Its target or threshold [unit of the signal]; per instance unless ``kind`` is ``Value``.
    kind
        ``AverageValue``, ``Value`` or ``Pods``, as the replay's HPA names them.
    averaging_s
        Range over which it averages [s].
    scale
        Unit of the signal per unit of the query [ratio].
    text
        The query, name or formula as it was written.
    others
        More signals that it is made of.
    how
        What is made of several: ``sum``, ``max`` or ``min``.
    surge
        When the first signal is read over another range; None = never.
    highest_s
        Time whose highest value it gives [s]; 0 = the value of now.
    """

    signal: str
    role: str
    target: float
    kind: str
    averaging_s: float
    scale: float
    text: str
    others: tuple[Addend, ...] = ()
    how: How = "sum"
    surge: Surge | None = None
    highest_s: float = 0.0

    @property
    def name(self) -> str:
        """The signals that it reads, as text."""
        names = [f"{self.signal}@{self.role}", *(f"{one.signal}@{one.role}" for one in self.others)]
        return " + ".join(names) if self.how == "sum" else f"{self.how} of {', '.join(names)}"


def name_in(pool: str, one: MetricRead | Addend) -> str:
    """Return a signal as a rule of a pool names it."""
    return one.signal if one.role in (pool, "service") else f"{one.signal}@{one.role}"


@dataclass(frozen=True)
class CurrentObject:
    """One pool's autoscaler of today.

    Attributes
    ----------
    kind, name, where
        What it is, its name, and its file and line.
    role
        Pool it scales.
    parameters
        Parameters of a controller of the replay; None when it can't be run.
    metrics
        Its metrics, as far as they were understood.
    notes
        What could not be understood, or is only nearly so, as sentences.
    numbers
        Of a planner's configuration what may be changed in it, by key and in the file's own unit; its default
        where it has one and the file does not say.
    unread
        How many of its metrics or triggers are left out of ``metrics``.
    """

    kind: str
    name: str
    where: str
    role: str
    parameters: Any
    metrics: tuple[MetricRead, ...] = ()
    notes: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    unread: int = 0


@dataclass(frozen=True)
class Change:
    """One number to change.

    Attributes
    ----------
    where, name, role
        The object and its pool; pools joined by ``and`` for a number that they share.
    item
        Its field.
    now, then
        Its value and the one to set, in the object's own unit; text where it is no number.
    why
        A sentence.
    evidence
        Path of the evidence; empty where the number is a default.
    """

    where: str
    name: str
    role: str
    item: str
    now: float | str | None
    then: float | str | None
    why: str
    evidence: str = ""
