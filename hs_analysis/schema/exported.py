"""What is said of exported files: what a target's file does in the backtest, and how it is put in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hs_analysis.schema.declare import Field

NOT_SEEN = "new instances are not seen"
"""What the note of a query says that names today's pods alone."""

_Hours = Annotated[float | None, Field("on the test window", "instance-hours")]
_GpuHours = Annotated[float | None, Field("null where GPUs are not known", "GPU-hours")]
_OverSlo = Annotated[float | None, Field("expected share of windows over the SLO", "ratio 0..1")]
_UnderFaults = Annotated[float | None, Field("under the nine faults, their mean", "ratio 0..1")]
_UnderBursts = Annotated[float | None, Field("under bursts", "ratio 0..1")]


@dataclass(frozen=True, kw_only=True)
class FieldReplay:
    """HeteroScale's own rule on the test window with one field of the policy as a target's file has it."""

    field: Annotated[str, Field("field of the policy")]
    kind: Annotated[
        str,
        Field(
            "how the file holds it: expressed, approximated, dropped, or added: the file itself without it"
        ),
    ]
    instance_hours: _Hours = None
    gpu_hours: _GpuHours = None
    slo_violation_ratio: _OverSlo = None
    under_faults: _UnderFaults = None
    under_bursts: _UnderBursts = None


@dataclass(frozen=True, kw_only=True)
class TargetReplay:
    """The file of one export target on the test window, written with numbers of the first part, read back."""

    target: Annotated[str, Field("export target")]
    policy: Annotated[str | None, Field("its row of policies; files that set up the same share one")]
    instance_hours: _Hours = None
    gpu_hours: _GpuHours = None
    slo_violation_ratio: _OverSlo = None
    under_faults: _UnderFaults = None
    under_bursts: _UnderBursts = None
    under_gap: Annotated[float | None, Field("while no metric can be read for an hour", "ratio 0..1")] = None
    gap_read_as_idle: Annotated[
        float | None,
        Field("the same with the queries of llm-d's guide, for which a missing metric is idle", "ratio 0..1"),
    ] = None
    fields: Annotated[
        tuple[FieldReplay, ...],
        Field(
            "what each field is worth that a replay can tell of; empty where HeteroScale's rule was not run"
        ),
    ] = ()
    assumes: Annotated[str, Field("what the replay assumes or leaves out; empty for nothing")] = ""
    why_not: Annotated[str, Field("why it was not replayed; empty where it was")] = ""


@dataclass(frozen=True, kw_only=True)
class ApplyStep:
    """One thing to do."""

    command: Annotated[str, Field("what to type in the run folder; empty where nothing is typed")]
    why: Annotated[str, Field("one sentence")]


@dataclass(frozen=True, kw_only=True)
class ApplyAlert:
    """What the policy assumes, and what says that it broke."""

    assumption: Annotated[str, Field("sentence")]
    alerts: Annotated[tuple[str, ...], Field("alert rules of the exported rules file that watch it")]


@dataclass(frozen=True, kw_only=True)
class ApplyGuide:
    """How the files of the decision's target are put in place: APPLY.md, in parts."""

    target: Annotated[str, Field("export target")]
    not_filled: Annotated[tuple[str, ...], Field("what a file needs and the dump does not tell")]
    check: Annotated[tuple[ApplyStep, ...], Field("what to check first")]
    steps: Annotated[tuple[ApplyStep, ...], Field("what to do, in order; empty where no object is written")]
    watch: Annotated[tuple[ApplyStep, ...], Field("how to see that it works")]
    back: Annotated[tuple[ApplyStep, ...], Field("how to go back")]
    alerts: Annotated[tuple[ApplyAlert, ...], Field("which alert fires when an assumption breaks")]
    scale_in: Annotated[str, Field("requests that a scale-in cuts, as a sentence; empty where unknown")]
