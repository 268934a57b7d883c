"""Progress on stderr: a bar on a terminal, a line a stage elsewhere, nothing with -q."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from hs_analysis.cli.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Lines:
    """A line for each stage that worked or had nothing to do."""

    def _print(self, text: str) -> None:
        typer.echo(printable(text), err=True)

    def started(self, stage: str, does: str, index: int, total: int) -> None:
        """Stay silent until the stage is done."""

    def advanced(self, done: int, total: int, unit: str) -> None:
        """Stay silent."""

    def finished(self, stage: str, seconds: float, note: str) -> None:
        """Print what the stage did and how long it took."""
        self._print(f"{stage}: {note or 'done'} ({seconds:.1f} s)")

    def skipped(self, stage: str) -> None:
        """Print that the stage had nothing to do."""
        self._print(f"{stage}: nothing to do, same inputs and settings")

    def noted(self, text: str) -> None:
        """Print a remark."""
        self._print(text)

    def close(self) -> None:
        """Do nothing."""


class Bars(Lines):
    """A bar for the stage at work, with unit, rate and time left; finished stages become lines."""

    def __init__(self, *, no_color: bool) -> None:
        self._no_color = no_color
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(printable(text), soft_wrap=True)
        else:
            super()._print(text)

    def _live(self) -> Bar:
        if self._bar is None:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            from hs_analysis.cli.shown import console

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console(sys.stderr, no_color=self._no_color),
                transient=True,
            )
            self._bar.start()
        return self._bar

    def started(self, stage: str, does: str, index: int, total: int) -> None:
        """Show the stage that works."""
        self._task = self._live().add_task(f"{stage} ({index} of {total}): {does}", total=None, unit="")

    def advanced(self, done: int, total: int, unit: str) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, unit=unit)

    def finished(self, stage: str, seconds: float, note: str) -> None:
        """Turn the bar into a line."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        super().finished(stage, seconds, note)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Quiet(Lines):
    """Nothing at all."""

    def _print(self, text: str) -> None:
        pass


def listener(*, quiet: bool, no_color: bool) -> Lines:
    """Return the listener that fits stderr and the flags."""
    if quiet:
        return Quiet()
    return Bars(no_color=no_color) if sys.stderr.isatty() else Lines()
