"""What performance tables say of an instance before any data: a guess beside capacity, never in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hs_analysis.schema.reasons import Reason


@dataclass(frozen=True)
class Prior:
    """What tables predict that one instance of a role carries, beside what the data say.

    No target, ratio or policy rests on it.

    Attributes
    ----------
    role, signal
        Pool, and the work that is counted: that of its capacity.
    tables
        Model, system, engine and GPUs of an instance, as asked for.
    per_instance
        Work of one instance under the limit at the mean request, without queueing [tokens/s].
    status
        ``prior`` or ``refused``, never ``ok``.
    basis
        ``profile``: a table of one instance.
    isl, cached_ratio, osl
        Prompt tokens of the mean request, share of them found in a cache, output tokens.
    limit_s
        TTFT limit of prefill, TBT limit of decode [s]; None when not given.
    data_per_instance, data_status
        Capacity from the data, and its status.
    data_ratio
        Data ÷ prior.
    reason
        Why it is refused.
    text
        How the two compare, in words.
    """

    role: str
    signal: str
    tables: str
    per_instance: float | None = None
    status: Literal["prior", "refused"] = "refused"
    basis: Literal["profile"] = "profile"
    isl: float | None = None
    cached_ratio: float | None = None
    osl: float | None = None
    limit_s: float | None = None
    data_per_instance: float | None = None
    data_status: Literal["ok", "floor", "refused"] = "refused"
    data_ratio: float | None = None
    reason: Reason | None = None
    text: str = ""
    evidence: str = ""
