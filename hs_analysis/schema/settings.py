"""Settings of a run: frozen values passed as arguments, never imported state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from hs_analysis.schema.declare import Field

HistoryKind = Literal["production", "pressure_test"]
ControllerName = Literal["keda", "hpa", "heteroscale"]
PolicyMode = Literal["metric", "periodic"]


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


MetricKind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True)
class MetricRow:
    """One of the user's own metrics and the catalogue signal it carries (``[metrics]`` of hsa.toml)."""

    signal: Annotated[str, Field("signal of the catalogue")]
    kind: Annotated[
        MetricKind,
        Field(
            "`gauge` (mean of samples), `counter` (increase per second) or `histogram` (named without its "
            "`_bucket`, `_sum`, `_count`; `unit` is that of its edges)"
        ),
    ] = "gauge"
    unit: Annotated[
        str | None, Field("unit of the metric, e.g. `ms`, `percent`, `req/min`; None = the signal's own")
    ] = None
    where: Annotated[dict[str, str], Field("label values a series must have")] = field(default_factory=dict)
    weights: Annotated[
        dict[str, dict[str, float]],
        Field(
            "label → its values → what one counts, for requests that differ in size, e.g. "
            '`{ resolution = { "512x512" = 1, "1024x1024" = 4 } }`; each value has to occur, and others do '
            "not count"
        ),
    ] = field(default_factory=dict)
    averaged: Annotated[
        float | None,
        Field(
            'how long the values, or what they were made from, were averaged over, e.g. `"6h"` (here '
            "in seconds); None = as sampled",
            "s",
        ),
    ] = None


@dataclass(frozen=True)
class TableRow:
    """How the columns of CSV or Parquet tables are read (``[tables.NAME]`` of hsa.toml)."""

    match: Annotated[str, Field("pattern on the file's name below the input, as in a shell")]
    holds: Annotated[
        Literal["samples", "requests", "bench"],
        Field("`samples` (metrics over time), `requests` (one row a request) or `bench` (one row a point)"),
    ] = "samples"
    time: Annotated[str | None, Field("column of the time; None in a table without one")] = None
    time_unit: Annotated[
        str | None, Field("`s`, `ms`, `us` or `ns` of a numeric time; None = found by its size, or a text")
    ] = None
    time_relative: Annotated[bool, Field("whether the time counts from the start of the log")] = False
    tz: Annotated[str | None, Field("zone of times without one, e.g. `UTC`")] = None
    labels: Annotated[
        dict[str, str],
        Field(
            'column → label of the series, e.g. `{"variant": "model"}`; a list in the file keeps the '
            "names. The label `capture` makes each value a capture of its own"
        ),
    ] = field(default_factory=dict)
    fixed: Annotated[
        dict[str, str],
        Field(
            'label → value that every row gets, e.g. `{"role": "mixed"}`; `{file}` in it is the file\'s name'
        ),
    ] = field(default_factory=dict)
    metric: Annotated[str | None, Field("column of a long table: name of the metric; None in a wide one")] = (
        None
    )
    value: Annotated[str | None, Field("column of a long table: its value; None in a wide one")] = None
    columns: Annotated[
        dict[str, MetricRow],
        Field("column → what it carries; for `requests` and `bench` `signal` is a column of that table"),
    ] = field(default_factory=dict)
    skip_where: Annotated[
        dict[str, list[str]],
        Field("column → values whose rows are left out (counted as rejected, with this reason)"),
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """How input files are read; everything here changes what ingest stores."""

    format: Annotated[str | None, Field("reader of every file")] = None
    tz: Annotated[str | None, Field("zone of times that carry none")] = None
    time_unit: Annotated[str | None, Field("unit of a table's numeric times")] = None
    epoch: Annotated[str | None, Field("start of logs whose times are relative")] = None
    legend_regex: Annotated[str | None, Field("named groups that turn a Grafana legend into labels")] = None
    on_conflict: Annotated[
        Literal["reject", "first", "last", "max"],
        Field("what to do with different values of one series at one time"),
    ] = "reject"
    dedup_label: Annotated[
        str | None, Field("label in which replicas of one Prometheus differ; the fuller copy is kept")
    ] = None
    salvage: Annotated[bool, Field("keep the complete series of a document that is cut")] = False
    captures: Annotated[dict[str, str], Field("name of a capture → its file or folder")] = field(
        default_factory=dict
    )
    queries: Annotated[
        dict[str, str],
        Field(
            "pattern on the file's name below the input → PromQL whose answer it holds, or a name: "
            "what its series without a name are called"
        ),
    ] = field(default_factory=dict)
    roles: Annotated[
        dict[str, str], Field("pattern on the instance → prefill, decode, mixed, encode, frontend or ignore")
    ] = field(default_factory=dict)
    services: Annotated[dict[str, str], Field("pattern on `label=value` pairs → service name")] = field(
        default_factory=dict
    )
    metrics: Annotated[dict[str, MetricRow], Field("the user's own metrics")] = field(default_factory=dict)
    tables: Annotated[dict[str, TableRow], Field("the user's own tables")] = field(default_factory=dict)
    gpus_per_instance: Annotated[
        dict[str, float], Field("GPUs of an instance by role, or by `*`, where the dump does not say")
    ] = field(default_factory=dict)


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
    """A text file that the user gave, kept with the run, so that a stage can be run again without it."""

    name: Annotated[str, Field("the file as it was named")]
    text: Annotated[str, Field("what it holds")]
    role: Annotated[str, Field("pool it was given for; empty when the file is to say")] = ""


@dataclass(frozen=True)
class Beside:
    """What the backtest replays beside the selected policy."""

    policies: Annotated[
        tuple[Document, ...], Field("policy.yaml files, edited by hand or from elsewhere")
    ] = ()
    current: Annotated[tuple[Document, ...], Field("objects of the autoscaler that runs today")] = ()
    faults: Annotated[tuple[str, ...], Field("names of faults, `all` for every one")] = ()
    topology: Annotated[tuple[Document, ...], Field("where instances may run, one file at most")] = ()


@dataclass(frozen=True)
class CountLimits:
    """Least and most instances that the user allows a pool; either end may be open."""

    min: Annotated[int | None, Field("least instances; null where the user set none", "instances")] = None
    max: Annotated[int | None, Field("most instances; null where the user set none", "instances")] = None

    def __str__(self) -> str:
        """Return it as a variable holds it: ``2..40``, ``2..`` or ``..40``."""
        return "..".join("" if end is None else str(end) for end in (self.min, self.max))


@dataclass(frozen=True)
class ClusterNames:
    """What the user's cluster calls the things that exported objects name."""

    namespace: Annotated[str | None, Field("namespace of exported objects")] = None
    workloads: Annotated[
        dict[str, str],
        Field("what runs a pool's pods, `KIND/NAME`, or `GROUP/VERSION/KIND/NAME` of other kinds"),
    ] = field(default_factory=dict)
    serving: Annotated[
        str | None,
        Field("name of the ModelServing, StormService, LLMInferenceService, RoleBasedGroup or "
              "InferenceService"),
    ] = None  # fmt: skip
    labels: Annotated[tuple[str, ...], Field("labels of every exported object, `NAME=VALUE`")] = ()


@dataclass(frozen=True)
class Settings:
    """Everything the stages need to know that is not data."""

    slo: Annotated[Slo, Field("the latency objective")] = field(default_factory=Slo)
    startup_s: Annotated[
        dict[str, float],
        Field("time from asking for an instance to its first request, per role; empty when unknown", "s"),
    ] = field(default_factory=dict)
    grace_s: Annotated[
        dict[str, float],
        Field("terminationGracePeriodSeconds of the pods, per role; empty when unknown", "s"),
    ] = field(default_factory=dict)
    history_kind: Annotated[
        HistoryKind, Field("pressure_test when someone set the load on purpose: a ramp, steps, a sweep")
    ] = "production"
    start: Annotated[str | None, Field("leave out what is before")] = None
    end: Annotated[str | None, Field("leave out what is from then on")] = None
    excluded: Annotated[
        tuple[Excluded, ...],
        Field("stretches to leave out (incidents, deploys, load tests), or CSV or JSON files of them"),
    ] = ()
    events: Annotated[tuple[Event, ...], Field("CSV or JSON files of events to mark on the charts")] = ()
    service: Annotated[tuple[str, ...], Field("services to go on with after ingest")] = ()
    prices: Annotated[dict[str, float], Field("price of a GPU-hour by GPU model")] = field(
        default_factory=dict
    )
    seed: Annotated[int, Field("seed of every resampling")] = 0
    headroom_ratio: Annotated[
        float, Field("share of the lower end of capacity that a target may use", "ratio")
    ] = 0.85
    train_share: Annotated[
        float,
        Field("first share of the window to learn on; the rest, in whole days, judges selections", "ratio"),
    ] = 0.6
    draws: Annotated[int, Field("bootstrap replicates behind each interval", "replicates")] = 200
    bounds: Annotated[
        dict[str, CountLimits],
        Field("least and most instances of a pool that selection, replay, policy and exports keep"),
    ] = field(default_factory=dict)
    gpus_limit: Annotated[
        int | None,
        Field("most GPUs that all pools of a service may hold together", "GPUs"),
    ] = None
    target: Annotated[
        ControllerName | None,
        Field("controller that is to run the policy, and that it is selected and replayed for:"),
    ] = None
    server_address: Annotated[
        str | None, Field("address of Prometheus as the autoscaler sees it, in exported objects")
    ] = None
    cluster: Annotated[ClusterNames, Field("names that exported objects use")] = field(
        default_factory=ClusterNames
    )
    kube_version: Annotated[
        str | None, Field("version of Kubernetes: fields that it does not know are left out")
    ] = None
    runbook_url: Annotated[str | None, Field("page that every exported alert names as its `runbook_url`")] = (
        None
    )
    policy_mode: Annotated[
        PolicyMode, Field("whether the policy follows metrics or a timetable made of the history:")
    ] = "metric"
    edited: Annotated[
        tuple[Document, ...],
        Field("policy.yaml edited by hand that exports are written from, one file at most"),
    ] = ()
    reading: Annotated[Reading, Field("how input files are read")] = field(default_factory=Reading)
    beside: Annotated[Beside, Field("what is replayed with the selected policy")] = field(
        default_factory=Beside
    )


HISTORY = ("history_kind", "start", "end", "excluded", "service")
"""Fields of Settings that say which part of the input counts, and as what."""

SPLIT = ("train_share",)
"""Where the part that numbers are learnt on ends."""

NUMBERS = ("slo", "startup_s", "headroom_ratio", *SPLIT)
"""Fields that derived numbers and the policy depend on."""

LIMITS = ("bounds", "gpus_limit", "grace_s")
"""Limits of the user's own on counts, and how long pods may take to leave: no derived number depends on
them, every policy or its hours do.

Stages declare these groups (`hs_analysis.pipeline.chain`): a new field joins one, or is declared by those
that read it."""


@dataclass(frozen=True)
class Machine:
    """How the machine is used; nothing here changes a result."""

    memory_limit: Annotated[
        str, Field("what may be held in memory before it is spilled to disk; changes no result", "bytes")
    ] = "4GB"
    engine: Annotated[
        Literal["local", "ray"],
        Field("where tasks run: processes of this machine, or a Ray cluster; changes no result"),
    ] = "local"
