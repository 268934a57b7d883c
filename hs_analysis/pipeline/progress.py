"""How stages say where they are, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A listener; the command line draws a bar or prints lines, a notebook may stay silent."""

    def started(self, stage: str, does: str, index: int, total: int) -> None:
        """Say that stage number `index` of `total` has begun work."""

    def advanced(self, done: int, total: int, unit: str) -> None:
        """Say that `done` of `total` units (files, services) of the current stage are finished."""

    def finished(self, stage: str, seconds: float, note: str) -> None:
        """Say that a stage has written its files."""

    def skipped(self, stage: str) -> None:
        """Say that a stage had nothing to do: same inputs, same settings."""

    def noted(self, text: str) -> None:
        """Pass on a remark about the input or the run."""


class Silent:
    """A listener that does nothing."""

    def started(self, stage: str, does: str, index: int, total: int) -> None:
        """Ignore."""

    def advanced(self, done: int, total: int, unit: str) -> None:
        """Ignore."""

    def finished(self, stage: str, seconds: float, note: str) -> None:
        """Ignore."""

    def skipped(self, stage: str) -> None:
        """Ignore."""

    def noted(self, text: str) -> None:
        """Ignore."""
