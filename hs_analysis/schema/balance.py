"""Results about pools that mix GPU types or whose counts moved: parts of the P/D ratio's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hs_analysis.schema.reasons import Interval, Reason

SpeedBasis = Literal["capacity", "profile", "equal_queue", "bench"]


@dataclass(frozen=True)
class GpuSpeed:
    """How fast one GPU type of a pool that mixes types is.

    Attributes
    ----------
    role, gpu_type
        Pool and type.
    instances
        Mean pods of the type while recording.
    relative, ci, reference
        Speed ÷ that of the reference type, the most numerous one, with its 95 % interval; that interval is
        the value itself where a profile or a benchmark gave it.
    weight
        What one pod of the type counts, where the mean pod recorded counts 1: its equivalents.
    basis
        ``capacity`` (the types' own), ``profile``, ``equal_queue`` (work served with as many requests), or
        ``bench`` (a benchmark of them, because the history can't tell).
    status, reason
        ``ok`` or ``refused``, and why.
    pods
        Pods of the type that make up the 95 % demand, the fastest type first, of those recorded.
    """

    role: str
    gpu_type: str
    instances: float | None
    relative: float | None
    ci: Interval | None
    reference: str | None
    weight: float | None
    basis: SpeedBasis | None
    status: Literal["ok", "refused"]
    reason: Reason | None
    evidence: str = ""
    pods: int | None = None


def weights_of(speeds: Sequence[GpuSpeed], role: str) -> dict[str, float]:
    """Return what one pod of each GPU type of a role counts, 1 = the mean pod recorded; empty if unknown."""
    return {s.gpu_type: s.weight for s in speeds if s.role == role and s.weight is not None}


@dataclass(frozen=True)
class TypeRatio:
    """Prefill pods of one GPU type per decode pod of another; a type is None where its pool has one."""

    prefill_type: str | None
    decode_type: str | None
    value: float


@dataclass(frozen=True)
class ReplicaGroup:
    """What one pair of counts served while a side held it back: windows, and work per instance [tokens/s]."""

    prefill: float
    decode: float
    limited: Literal["prefill", "decode"]
    windows: int
    per_instance_tps: float


@dataclass(frozen=True)
class ReplicaRatio:
    """The ratio that a history of changing counts shows, a cross-check of the balance.

    Attributes
    ----------
    value, ci, status
        mix · β ÷ α, or refused.
    at_least, at_most
        Bound where only one side was ever held back.
    reason
        Why it is refused.
    prefill_tps, decode_tps
        α and β: work an instance serves while its pool holds requests back [tokens/s].
    groups
        What it was read from, by side and counts.
    agrees, text
        Whether the balance lies within both intervals, and in words; None where one of them is not known.
    """

    value: float | None
    ci: Interval | None
    status: Literal["ok", "refused"]
    at_least: float | None
    at_most: float | None
    reason: Reason | None
    prefill_tps: float | None
    decode_tps: float | None
    groups: tuple[ReplicaGroup, ...] = ()
    agrees: bool | None = None
    text: str | None = None
