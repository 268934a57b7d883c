"""summary.json: what a run found, as dataclasses in the order of its keys, and its JSON Schema.

``summary.schema.json`` beside this module is written from here by ``docs/generate.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from hs_analysis.schema import results as found
from hs_analysis.schema.decision import PolicyDecision
from hs_analysis.schema.declare import Field, declared
from hs_analysis.schema.exported import ApplyGuide
from hs_analysis.schema.json_schema import Json, Shapes, whole_schema
from hs_analysis.schema.replays import ReplayResult
from hs_analysis.schema.settings import Event, Excluded, HistoryKind, Slo
from hs_analysis.schema.sweeps import BenchSpeed, ProfileRatio, SweepResult

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class SummaryWindow:
    """The window of the run, over all services; null without a service."""

    start: Annotated[str | None, Field("its first moment", "UTC")]
    end: Annotated[str | None, Field("its end", "UTC")]
    step_s: Annotated[float | None, Field("width of a row", "s", least=0)]


@dataclass(frozen=True)
class InputFileSummary:
    """One input file and what became of its rows; counts are missing for a file that no reader knows."""

    name: Annotated[str, Field("path below the input")]
    size: Annotated[int, Field("size", "bytes")]
    sha256: Annotated[str, Field("SHA-256 of its bytes", pattern="^[0-9a-f]{64}$")]
    format: Annotated[str, Field("reader that read it", absent="no reader knows it")]
    rows_read: Annotated[int, Field("samples read", "rows", absent="no reader knows it")]
    rows_stored: Annotated[int, Field("samples stored", "rows", absent="no reader knows it")]
    duplicates: Annotated[int, Field("exact copies of a stored one", "rows", absent="no reader knows it")]
    superseded: Annotated[
        int, Field("held more faithfully by another file", "rows", absent="no reader knows it")
    ]
    rows_rejected: Annotated[int, Field("quarantined", "rows", absent="no reader knows it")]
    series: Annotated[int, Field("series", "series", absent="no reader knows it")]
    requests: Annotated[int, Field("requests stored", "rows", absent="no reader knows it")]
    bench: Annotated[int, Field("benchmark points stored", "rows", absent="no reader knows it")]
    superseded_by: Annotated[
        tuple[str, ...], Field("files that hold the superseded rows more faithfully", absent="there are none")
    ]


@dataclass(frozen=True)
class MissingSignal:
    """A wanted signal that no service has."""

    signal: Annotated[str, Field("catalogue signal")]
    role: Annotated[str, Field("role it speaks of")]
    how_to_enable: Annotated[str, Field("how to switch it on")]


@dataclass(frozen=True)
class BrokenFile:
    """A file that could not be read."""

    name: Annotated[str, Field("path below the input")]
    why: Annotated[str, Field("what is wrong, and where")]


@dataclass(frozen=True)
class Coverage:
    """What became of the input as a whole: rows read = stored + duplicates + superseded + rejected."""

    rows_read: Annotated[int, Field("samples read", "rows")]
    rows_stored: Annotated[int, Field("samples stored", "rows")]
    duplicates: Annotated[int, Field("exact copies of a stored one", "rows")]
    superseded: Annotated[int, Field("held more faithfully by another file", "rows")]
    rows_rejected: Annotated[int, Field("quarantined", "rows")]
    series: Annotated[int, Field("series", "series")]
    series_unmapped: Annotated[int, Field("series that belong to no service", "series")]
    roles: Annotated[dict[str, int], Field("emitter role to number of instances", "instances")]
    missing: Annotated[tuple[MissingSignal, ...], Field("wanted signals that no service has")]
    skipped: Annotated[tuple[str, ...], Field("files no reader knows; they change no result")]
    broken: Annotated[tuple[BrokenFile, ...], Field("files that could not be read")]


@dataclass(frozen=True)
class Totals:
    """As recorded, to reconcile with a bill."""

    prompt_tokens: Annotated[float | None, Field("prompt tokens", "tokens")]
    output_tokens: Annotated[float | None, Field("output tokens", "tokens")]
    requests: Annotated[float | None, Field("requests", "requests")]
    instance_hours: Annotated[float | None, Field("hours of instances", "instance-hours")]
    gpu_hours: Annotated[float | None, Field("hours of GPUs", "GPU-hours")]


@dataclass(frozen=True)
class SloEdges:
    """Histogram bounds around a latency limit; equal where one lies at it."""

    signal: Annotated[str, Field("latency:", words=("ttft", "tbt"))]
    source: Annotated[str, Field("exporter of the histogram")]
    limit_s: Annotated[float, Field("the limit", "s")]
    low_s: Annotated[float | None, Field("bound below; null under the first", "s")]
    high_s: Annotated[float | None, Field("bound above; null over the last", "s")]


@dataclass(frozen=True)
class CurrentChange:
    """One value of today's objects and what the policy would have there."""

    where: Annotated[str, Field("file and object")]
    name: Annotated[str, Field("name of the object")]
    role: Annotated[str, Field("pool")]
    item: Annotated[str, Field("what is changed")]
    now: Annotated[float | str | None, Field("value today", "as the item")]
    then: Annotated[float | str | None, Field("value of the policy", "as the item")]
    why: Annotated[str, Field("sentence")]
    evidence: found.Evidence


@dataclass(frozen=True)
class PoolApart:
    """Why one pool of today's autoscaler is not compared."""

    pool: Annotated[str, Field("pool")]
    code: Annotated[str, Field("cause:", words=("pool_not_replayed", "counts_apart", "counts_unknown"))]
    text: Annotated[str, Field("sentence")]
    apart_ratio: Annotated[float | None, Field("|replayed − recorded count| ÷ recorded", "ratio")]
    cause: Annotated[
        str,
        Field(
            "what may be behind it:",
            words=(
                "outside_bounds", "never_moved", "trigger_left_out", "signal_gaps", "other_target",
                "other_signal", "moved", "unknown", "",
            ),
        ),
    ]  # fmt: skip
    cause_text: Annotated[str, Field("the same in words")]


@dataclass(frozen=True)
class NotCompared:
    """Why today's autoscaler is not compared with the policy."""

    code: Annotated[
        str, Field("cause:", words=("pool_not_replayed", "counts_apart", "counts_unknown", "no_policy"))
    ]
    text: Annotated[str, Field("sentence")]
    pools: Annotated[tuple[PoolApart, ...], Field("by pool")]


@dataclass(frozen=True)
class CurrentSummary:
    """Today's autoscaler beside the policy."""

    objects: Annotated[tuple[dict[str, Any], ...], Field("the objects as they were read")]
    not_understood: Annotated[tuple[str, ...], Field("what of them has no counterpart here")]
    changes: Annotated[tuple[CurrentChange, ...], Field("what to change in them")]
    compared: Annotated[
        dict[str, Any] | None, Field("hours and violations of both; null where reason says why")
    ]
    reason: Annotated[NotCompared | None, Field("why it is not compared; null where it is")]
    counts: Annotated[tuple[dict[str, Any], ...], Field("replayed against recorded counts, by pool")]


@dataclass(frozen=True)
class ServiceSummary:
    """What a run found of one service."""

    decision: Annotated[PolicyDecision, Field("what to do, and how far to trust it")]
    apply: Annotated[ApplyGuide, Field("how to put it in place", absent="nothing was exported")]
    service: Annotated[str, Field("namespace/model")]
    history_kind: Annotated[HistoryKind, Field()]
    reference: Annotated[Literal["offered", "served"], Field("work that the load columns count:")]
    gpus_per_instance: Annotated[
        dict[str, float] | None,
        Field("role to GPUs of an instance; null when the input does not say", "GPUs"),
    ]
    totals: Annotated[Totals, Field("as recorded")]
    slo_edges: Annotated[tuple[SloEdges, ...], Field("histogram bounds around each latency limit")]
    signals: Annotated[tuple[found.SignalVerdict, ...], Field("verdict of each signal; then by GPU type")]
    recommended: Annotated[found.Recommendation | None, Field("signal to scale on; null when none is fit")]
    capacity: Annotated[tuple[found.Capacity, ...], Field("work that an instance carries, by role and type")]
    demand: Annotated[found.Demand, Field("offered work")]
    thresholds: Annotated[tuple[found.Threshold, ...], Field("targets and bands, by signal")]
    startup: Annotated[tuple[found.Startup, ...], Field("start-up times, by role")]
    gpu_speeds: Annotated[tuple[found.GpuSpeed, ...], Field("GPU types of pools that mix types")]
    releases: Annotated[
        tuple[found.Release, ...], Field("versions that came inside the window", absent="none came")
    ]
    pd_ratio: Annotated[found.PdRatio, Field("prefill instances per decode instance")]
    selection: Annotated[
        tuple[found.CandidateScore, ...],
        Field("the chosen candidate, those that no other beats, and the default HPA; the chosen one first"),
    ]
    selection_left_out: Annotated[int, Field("candidates that only data/select.parquet lists")]
    replay: Annotated[ReplayResult, Field("the backtest")]
    drivers: Annotated[
        tuple[found.SignalDriver, ...],
        Field("every signal as the driver of its pool on the test window"),
    ]
    refusals: Annotated[tuple[found.Refusal, ...], Field("what the data could not answer")]


@dataclass(frozen=True)
class Warned:
    """Something that lowers what can be said."""

    code: Annotated[str, Field("cause")]
    text: Annotated[str, Field("sentence")]


@dataclass(frozen=True)
class Summary:
    """What a run found.

    Ratios are prefill ÷ decode, times are ISO 8601 UTC, intervals are [low, high]. A number that could not
    be had is null and has a reason.
    """

    schema_version: Annotated[int, Field("version of this schema", least=SCHEMA_VERSION, most=SCHEMA_VERSION)]
    tool_version: Annotated[str, Field("version of hs_analysis")]
    window: Annotated[SummaryWindow, Field("what was looked at")]
    excluded: Annotated[
        tuple[Excluded, ...],
        Field("stretches the user left out: missing, and in no total"),
    ]
    events: Annotated[tuple[Event, ...], Field("what the user says happened when")]
    slo: Annotated[Slo, Field("the objective; a limit that was not given is null")]
    inputs: Annotated[tuple[InputFileSummary, ...], Field("the input files")]
    coverage: Annotated[Coverage, Field("what became of them")]
    services: Annotated[tuple[ServiceSummary, ...], Field("one entry a service")]
    sweeps: Annotated[
        tuple[SweepResult, ...], Field("ratio tests: splits of prefill and decode by what they served")
    ]
    profiles: Annotated[
        tuple[ProfileRatio, ...],
        Field("capacities and ratio from profiles of one instance"),
    ]
    bench_speeds: Annotated[tuple[BenchSpeed, ...], Field("GPU types of a benchmark against each other")]
    warnings: Annotated[tuple[Warned, ...], Field("what lowers what can be said")]


_OTHER_SHAPES: Shapes = {(ReplayResult, "current"): CurrentSummary}
"""Fields that hold plain data whose shape is declared here."""


def in_order(kind: type[Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a part of summary.json in the order of its fields.

    Raises
    ------
    KeyError
        For a key that is not declared, and for one that is missing although it is never left out.
    """
    known = {one.name: one for one in declared(kind)}
    wrong = [name for name in parts if name not in known]
    wrong += [name for name, one in known.items() if name not in parts and not one.field.absent]
    if wrong:
        raise KeyError(f"{kind.__name__}: {', '.join(wrong)}")
    return {name: parts[name] for name in known if name in parts}


def json_schema() -> Json:
    """Return the JSON Schema of summary.json; each dataclass is a definition under its name."""
    return whole_schema(
        Summary, f"urn:hs-analysis:summary:{SCHEMA_VERSION}", "summary.json of hs_analysis", _OTHER_SHAPES
    )
