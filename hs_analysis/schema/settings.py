"""Settings of a run: frozen values passed as arguments, never imported state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

HistoryKind = Literal["production", "pressure_test"]


@dataclass(frozen=True)
class Slo:
    """A latency objective; a limit that is None was not given and there is no default.

    Attributes
    ----------
    ttft_s, tbt_s
        Limits on time to first token and time between tokens [s].
    quantile
        Share of requests (TTFT) or token gaps (TBT) of a window that must be within the limit [ratio].
    window_s
        Width of a judged window [s].
    allowed_window_share
        Share of windows that may violate [ratio].
    """

    ttft_s: float | None = None
    tbt_s: float | None = None
    quantile: float = 0.95
    window_s: float = 60.0
    allowed_window_share: float = 0.05

    def limit_s(self, signal: str) -> float | None:
        """Return the limit on ``ttft`` or ``tbt`` in seconds, None when not given."""
        return {"ttft": self.ttft_s, "tbt": self.tbt_s}.get(signal)

    @property
    def given(self) -> bool:
        """Whether any limit was given."""
        return self.ttft_s is not None or self.tbt_s is not None


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
    seed
        Seed of every resampling.
    headroom_ratio
        Share of the lower end of capacity that a target may use [ratio].
    train_share
        First share of the window that selection and replay learn on [ratio].
    draws
        Bootstrap replicates.
    """

    slo: Slo = field(default_factory=Slo)
    startup_s: dict[str, float] = field(default_factory=dict)
    history_kind: HistoryKind = "production"
    start: str | None = None
    end: str | None = None
    seed: int = 0
    headroom_ratio: float = 0.85
    train_share: float = 0.6
    draws: int = 200

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, for the manifest."""
        return asdict(self)
