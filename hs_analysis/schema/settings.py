"""Settings of a run: frozen values passed as arguments, never imported state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from hs_analysis.schema.declare import Field

HistoryKind = Literal["production", "pressure_test"]


@dataclass(frozen=True)
class Slo:
    """A latency objective; a limit that is None was not given and there is no default."""

    ttft_s: Annotated[float | None, Field("limit on the time to first token", "s")] = None
    tbt_s: Annotated[float | None, Field("limit on the time between tokens", "s")] = None
    quantile: Annotated[
        float,
        Field(
            "share of requests (TTFT) or token gaps (TBT) of a window that must be within the limit", "ratio"
        ),
    ] = 0.95
    window_s: Annotated[float, Field("width of a judged window", "s")] = 60.0
    allowed_window_share: Annotated[float, Field("share of windows that may break the SLO", "ratio")] = 0.05

    def limit_s(self, signal: str) -> float | None:
        """Return the limit on ``ttft`` or ``tbt`` in seconds, None when not given."""
        return {"ttft": self.ttft_s, "tbt": self.tbt_s}.get(signal)

    @property
    def given(self) -> bool:
        """Whether any limit was given."""
        return self.ttft_s is not None or self.tbt_s is not None


@dataclass(frozen=True)
class MetricRow:
    """One of the user's own metrics and the catalogue signal it carries (``[metrics]`` of hsa.toml).

    Attributes
    ----------
    signal
        Signal of the catalogue.
    kind
        ``gauge`` (mean of samples) or ``counter`` (increase per second).
    unit
        Unit of the metric, e.g. ``ms``, ``percent``, ``req/min``; None = the signal's own.
    where
        Label values a series must have.
    averaged
        How long the values, or what they were made from, were averaged over, e.g. ``"6h"`` (here in
        seconds); None = as sampled.
    """

    signal: str
    kind: Literal["gauge", "counter"] = "gauge"
    unit: str | None = None
    where: dict[str, str] = field(default_factory=dict)
    averaged: float | None = None


@dataclass(frozen=True)
class TableRow:
    """How the columns of CSV or Parquet tables are read (``[tables.NAME]`` of hsa.toml).

    Attributes
    ----------
    match
        Pattern on the file's name below the input, as in a shell.
    holds
        ``samples`` (metrics over time), ``requests`` (one row a request) or ``bench`` (one row a point).
    time
        Column of the time; None in a table without one.
    time_unit
        ``s``, ``ms``, ``us`` or ``ns`` of a numeric time; None = told by its size, or a text.
    time_relative
        Whether the time counts from the start of the log.
    tz
        Zone of times without one, e.g. ``UTC``.
    labels
        Column → label of the series, e.g. ``{"variant": "model"}``; a list in the file keeps the names. The
        label ``capture`` makes each value a capture of its own.
    fixed
        Label → value that every row gets, e.g. ``{"role": "mixed"}``; ``{file}`` in it is the file's name.
    metric, value
        Columns of a long table: name of the metric, its value. None in a wide one.
    columns
        Column → what it carries; for ``requests`` and ``bench`` ``signal`` is a column of that table.
    skip_where
        Column → values whose rows are left out (counted as rejected, with this reason).
    """

    match: str
    holds: Literal["samples", "requests", "bench"] = "samples"
    time: str | None = None
    time_unit: str | None = None
    time_relative: bool = False
    tz: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    metric: str | None = None
    value: str | None = None
    columns: dict[str, MetricRow] = field(default_factory=dict)
    skip_where: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """How input files are read; everything here changes what ingest stores.

    Attributes
    ----------
    format
        Reader that reads every file; None = told by each file's content.
    tz
        Zone of times that carry none, e.g. ``Europe/Berlin``; None refuses them.
    time_unit
        ``s``, ``ms``, ``us`` or ``ns`` where a free-form table's numbers do not say; None infers and says so.
    epoch
        Start of logs whose times are relative, as ISO 8601 UTC text; None keeps them relative.
    legend_regex
        Named groups that turn a Grafana legend into labels.
    on_conflict
        What to do with different values of one series at one time: ``reject``, or keep one.
    dedup_label
        Label in which replicas of one Prometheus differ; the fuller copy is kept.
    salvage
        Keep the complete series of a document that is cut.
    captures
        Name of a capture → its file or folder.
    queries
        Pattern on the file's name below the input → PromQL whose answer it holds, or a name: what its series
        without a name are called.
    roles
        Pattern on the instance → prefill, decode, mixed, encode, frontend or ignore.
    services
        Pattern on ``label=value`` pairs → service name.
    metrics, tables
        The user's own metrics and tables.
    gpus_per_instance
        GPUs of an instance by role, or by ``*``, where the dump does not say.
    """

    format: str | None = None
    tz: str | None = None
    time_unit: str | None = None
    epoch: str | None = None
    legend_regex: str | None = None
    on_conflict: Literal["reject", "first", "last", "max"] = "reject"
    dedup_label: str | None = None
    salvage: bool = False
    captures: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, MetricRow] = field(default_factory=dict)
    tables: dict[str, TableRow] = field(default_factory=dict)
    gpus_per_instance: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Excluded:
    """A stretch of the history that is left out: an incident, a deploy, a load test."""

    start: Annotated[str, Field("first moment that is left out", "UTC")]
    end: Annotated[str, Field("first moment that is not left out any more", "UTC")]
    label: Annotated[str, Field("why, in the user's words; empty when not said")] = ""


@dataclass(frozen=True)
class Event:
    """Something that happened, to be marked on the charts."""

    t: Annotated[str, Field("when it began", "UTC")]
    end: Annotated[str | None, Field("when it ended; null for a moment", "UTC")] = None
    text: Annotated[str, Field("what happened")] = ""
    kind: Annotated[str, Field("its kind in one word, e.g. deploy; empty when not said")] = ""


@dataclass(frozen=True)
class Document:
    """A text file that the user gave, kept with the run, so that a stage can be run again without it.

    Attributes
    ----------
    name
        The file as it was named.
    text
        What it holds.
    role
        Pool it was given for; empty when the file is to say.
    """

    name: str
    text: str
    role: str = ""


@dataclass(frozen=True)
class Beside:
    """What the backtest replays beside the selected policy.

    Attributes
    ----------
    policies
        policy.yaml files, edited by hand or from elsewhere.
    current
        Objects of the autoscaler that runs today.
    faults
        Names of faults, ``all`` for every one.
    topology
        Where instances may stand, one file at most.
    """

    policies: tuple[Document, ...] = ()
    current: tuple[Document, ...] = ()
    faults: tuple[str, ...] = ()
    topology: tuple[Document, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Everything the stages need to know that is not data.

    Attributes
    ----------
    slo
        The latency objective.
    startup_s
        Seconds from asking for an instance to its first request, per role; empty when unknown.
    history_kind
        ``production`` passes the gates on hours and cycles; ``pressure_test`` has its own.
    start, end
        Bounds of the window as ISO 8601 UTC text, None for all of the input.
    excluded
        Stretches inside it that are left out: missing, not zero.
    events
        What happened when, for the charts.
    service
        Services to go on with after ingest; empty for all of them.
    prices
        Price of a GPU-hour by GPU model.
    seed
        Seed of every resampling.
    headroom_ratio
        Share of the lower end of capacity that a target may use [ratio].
    train_share
        First share of the window that selection and replay learn on [ratio].
    draws
        Bootstrap replicates.
    reading
        How input files are read.
    beside
        What is replayed beside the selected policy.
    """

    slo: Slo = field(default_factory=Slo)
    startup_s: dict[str, float] = field(default_factory=dict)
    history_kind: HistoryKind = "production"
    start: str | None = None
    end: str | None = None
    excluded: tuple[Excluded, ...] = ()
    events: tuple[Event, ...] = ()
    service: tuple[str, ...] = ()
    prices: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    headroom_ratio: float = 0.85
    train_share: float = 0.6
    draws: int = 200
    reading: Reading = field(default_factory=Reading)
    beside: Beside = field(default_factory=Beside)


@dataclass(frozen=True)
class Machine:
    """How the machine is used; nothing here changes a result.

    Attributes
    ----------
    memory_limit
        What DuckDB may hold in memory before it spills to disk, e.g. ``4GB``.
    engine
        Where tasks run: ``local`` processes or a ``ray`` cluster.
    """

    memory_limit: str = "4GB"
    engine: Literal["local", "ray"] = "local"
