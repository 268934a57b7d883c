"""The pipeline as data: which stages there are, what each depends on, reads and writes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from hs_analysis.pipeline.inputs import HashedInput
from hs_analysis.pipeline.manifest import canonical
from hs_analysis.schema.settings import Machine, Settings


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


@dataclass(frozen=True)
class Work:
    """What a stage is given.

    Attributes
    ----------
    run
        The run folder, to read from.
    out
        An empty folder to write to; files move to the same place below `run` when the stage has finished.
    settings
        Settings of the run; a stage reads those it declares.
    arguments, inputs
        The INPUTs and the files in them; only ingest opens them.
    run_id, inputs_sha256
        Names of the run and of its inputs, for evidence links.
    progress
        Where to say how far it is.
    machine
        How the machine may be used.
    extends
        Whether the run folder was up to date before some of the inputs came, which is all that changed.
    """

    run: Path
    out: Path
    settings: Settings
    arguments: tuple[Path, ...]
    inputs: tuple[HashedInput, ...]
    run_id: str
    inputs_sha256: str
    progress: Progress
    machine: Machine = field(default_factory=Machine)
    extends: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a stage says of its work: one sentence, totals, and totals per input file."""

    note: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes
    ----------
    name
        The word users type.
    does
        What it does, as a progress line.
    needs
        Stages whose files it reads.
    settings
        Dotted names of the settings it depends on; another value runs it again.
    writes
        Patterns of the files it writes, below the run folder.
    run
        The work.
    """

    name: str
    does: str
    needs: tuple[str, ...]
    settings: tuple[str, ...]
    writes: tuple[str, ...]
    run: Callable[[Work], Outcome]

    def owns(self, path: str) -> bool:
        """Whether a path below the run folder is one this stage may write."""
        return any(fnmatch(path, pattern) for pattern in self.writes)


def by_name(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Return the stages by name, after checking that each needs only stages before it."""
    seen: dict[str, Stage] = {}
    for stage in stages:
        late = [name for name in stage.needs if name not in seen]
        if late:
            raise ValueError(f"stage {stage.name} needs {', '.join(late)}, which is not before it")
        seen[stage.name] = stage
    return seen


def leading_to(target: str, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the target and all it needs, in order."""
    named = by_name(stages)
    wanted, queue = set[str](), [target]
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue.extend(named[name].needs)
    return tuple(stage for stage in stages if stage.name in wanted)


def following(changed: set[str], stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages that depend on any of the changed ones, in order, without those themselves."""
    reached = set(changed)
    for stage in stages:
        if reached.intersection(stage.needs):
            reached.add(stage.name)
    return tuple(stage for stage in stages if stage.name in reached - changed)


def setting_values(stage: Stage, settings: Settings) -> dict[str, Any]:
    """Return the values of the settings a stage depends on, by dotted name."""
    values: dict[str, Any] = {}
    for name in stage.settings:
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = value
    return values


def fingerprints(
    stages: Sequence[Stage], settings: Settings, inputs_sha256: str, code: str
) -> Mapping[str, str]:
    """Return per stage a hash of all its files depend on: code, settings, inputs and earlier stages."""
    found: dict[str, str] = {}
    for stage in stages:
        before = {name: found[name] for name in stage.needs} or {"inputs": inputs_sha256}
        parts = [stage.name, code, setting_values(stage, settings), before]
        found[stage.name] = hashlib.sha256(canonical(parts).encode()).hexdigest()
    return found
