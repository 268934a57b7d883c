"""From a command's arguments to a run folder brought up to date."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hs_analysis.cli import effective
from hs_analysis.cli.effective import Effective
from hs_analysis.cli.options import OutputFlags, PlaceFlags
from hs_analysis.cli.terminal import Lines, listener
from hs_analysis.errors import UsageError
from hs_analysis.settings.layers import Layer

if TYPE_CHECKING:
    from hs_analysis.pipeline.runner import Ran

STDIN = Path("-")
MOST_ITEMS = 3


class Flags(Protocol):
    """A group of flags that set settings."""

    def layer(self) -> Layer:
        """Return what was given."""


def from_inputs(
    arguments: Sequence[Path],
    target: str,
    config: Path | None,
    flags: Sequence[Flags],
    *,
    place: PlaceFlags,
    out: OutputFlags,
    strict: bool = False,
) -> Ran:
    """Read inputs and run every stage up to `target`."""
    # Wrong flags and settings are told before anything heavy is loaded or anything is read.
    used = effective.for_inputs(config, [group.layer() for group in flags])
    arguments = [*arguments, *_captures_outside(used, arguments)]
    stdin = _stdin(arguments)

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import Asked, run_inputs

    progress = listener(quiet=out.quiet, no_color=out.no_color)
    _say(used, progress, verbose=out.verbose)
    try:
        ran = run_inputs(
            arguments, target, used.settings,
            stages=STAGES, progress=progress, run_dir=place.run_dir, force=place.force,
            asked=Asked(command_line(), used.machine, used.origins, used.config, strict, stdin),
        )  # fmt: skip
    finally:
        progress.close()
    progress.noted(f"run folder: {ran.folder}")
    return ran


def on_folder(
    folder: Path,
    target: str,
    config: Path | None,
    flags: Sequence[Flags],
    *,
    out: OutputFlags,
    strict: bool = False,
) -> Ran:
    """Bring a stage of a run folder up to date; settings that are not given stay as the run had them."""
    layers = [group.layer() for group in flags]

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.folder import require
    from hs_analysis.pipeline.records import from_plain
    from hs_analysis.pipeline.session import Asked, run_folder
    from hs_analysis.schema.settings import Settings

    before = require(folder)
    used = effective.for_run(from_plain(Settings, before.settings), before.origins, config, layers)
    progress = listener(quiet=out.quiet, no_color=out.no_color)
    _say(used, progress, verbose=out.verbose)
    try:
        return run_folder(
            folder, target, used.changes, stages=STAGES, progress=progress,
            asked=Asked(command_line(), used.machine, used.origins, used.config, strict),
        )  # fmt: skip
    finally:
        progress.close()


def _captures_outside(used: Effective, arguments: Sequence[Path]) -> list[Path]:
    """Return the places of --capture that no INPUT holds: naming one is naming an input."""
    if used.origins.get("reading.captures") != "--capture":
        return []
    inputs = [path.resolve() for path in arguments]
    places = [Path(place) for place in used.settings.reading.captures.values()]
    return [p for p in places if not any(p.resolve().is_relative_to(one) for one in inputs)]


def _stdin(arguments: Sequence[Path]) -> bool:
    """Return whether standard input is one of the inputs."""
    asked = STDIN in arguments
    if asked and sys.stdin.isatty():
        hint = "pipe a dump into it, e.g. zcat dump.json.gz | hsa run -"
        raise UsageError("standard input is a terminal", where="-", hint=hint)
    return asked


def _say(used: Effective, progress: Lines, *, verbose: bool) -> None:
    """Tell variables that set nothing, and with -v the settings file and every setting that is no default."""
    for warning in used.warnings:
        progress.noted(f"warning: {warning}")
    if not verbose:
        return

    from hs_analysis.cli.settings import rows

    progress.noted(f"settings file: {used.config or 'none'}")
    for row in rows(used):
        if row["source"] != "default":
            progress.noted(f"setting {row['setting']} = {_short(row['value'])} ({row['source']})")


def _short(value: object) -> str:
    """Return a value for one line: of a long list the first items and how many more."""
    if not isinstance(value, list):
        return str(value)
    more = f" and {len(value) - MOST_ITEMS} more" if len(value) > MOST_ITEMS else ""
    return ", ".join(map(str, value[:MOST_ITEMS])) + more


def command_line() -> tuple[str, ...]:
    """Return the command as typed, with the program's short name."""
    return ("hsa", *sys.argv[1:])
