"""From a command's arguments to a run folder brought up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hs_analysis.cli.options import OutputFlags, RunFolderFlags
from hs_analysis.cli.output import ProgressLines, progress_listener
from hs_analysis.errors import UsageError, first_of
from hs_analysis.pipeline import effective
from hs_analysis.pipeline.effective import Effective
from hs_analysis.settings.file import Layer

if TYPE_CHECKING:
    from hs_analysis.pipeline.runner import Ran
    from hs_analysis.pipeline.session import Asked
    from hs_analysis.schema.settings import Settings

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
    place: RunFolderFlags,
    out: OutputFlags,
    strict: bool = False,
    changes_settings: bool = False,
) -> Ran:
    """Read inputs and run every stage up to `target`.

    ``changes_settings`` lets given settings that differ from those of the run's folder change the run.
    """
    # Wrong flags and settings are told before anything heavy is loaded or anything is read.
    used = effective.for_inputs(config, [group.layer() for group in flags])
    arguments = [*arguments, *_captures_outside(used, arguments)]
    stdin = _stdin(arguments)

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import run_inputs

    with _progress(used, out) as progress:
        ran = run_inputs(
            arguments, target, used.settings,
            stages=STAGES, progress=progress, run_dir=place.run_dir, force=place.force,
            asked=_invocation(used, strict=strict, stdin=stdin, changes_settings=changes_settings),
        )  # fmt: skip
    _report_stale(ran, progress)
    progress.noted(f"run folder: {ran.folder}")
    return ran


def expected_settings(config: Path | None, flags: Sequence[Flags]) -> Settings:
    """Return the settings that a new run would have."""
    return effective.for_inputs(config, [group.layer() for group in flags]).settings


def extended(
    folder: Path,
    arguments: Sequence[Path],
    target: str,
    config: Path | None,
    flags: Sequence[Flags],
    *,
    place: RunFolderFlags,
    out: OutputFlags,
    strict: bool = False,
) -> Ran:
    """Add inputs to a run and bring every stage up to date; given settings may not differ from the run's."""
    if place.run_dir or place.force:
        flag = "--run-dir" if place.run_dir else "--force"
        raise UsageError("does not go with --extend", where=flag, hint="--extend names the run folder")
    layers = [group.layer() for group in flags]

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.run_folder import require
    from hs_analysis.pipeline.session import extend_run, of_run

    before = require(folder)
    used = effective.for_run(of_run(before), before.origins, config, layers)
    with _progress(used, out) as progress:
        ran = extend_run(
            folder, arguments, target, stages=STAGES, progress=progress,
            asked=_invocation(used, strict=strict, stdin=_stdin(arguments)),
        )  # fmt: skip
    _report_stale(ran, progress)
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
    """Bring a stage of a run folder up to date with the run's settings; given ones may not differ."""
    layers = [group.layer() for group in flags]

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.run_folder import require
    from hs_analysis.pipeline.session import of_run, run_folder

    before = require(folder)
    used = effective.for_run(of_run(before), before.origins, config, layers)
    with _progress(used, out) as progress:
        ran = run_folder(
            folder, target, used.changes, stages=STAGES, progress=progress,
            asked=_invocation(used, strict=strict),
        )  # fmt: skip
    _report_stale(ran, progress)
    return ran


@contextmanager
def inspected_folder(
    paths: Sequence[Path],
    target: str,
    config: Path | None,
    flags: Sequence[Flags],
    *,
    run_dir: Path | None,
    out: OutputFlags,
    strict: bool,
) -> Iterator[Ran]:
    """Yield what `target` finds on INPUTs or in a run, without making or changing a run."""
    layers = [group.layer() for group in flags]

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.doctor_stage import look_at_inputs, look_at_run
    from hs_analysis.pipeline.run_folder import is_run, require
    from hs_analysis.pipeline.session import of_run

    progress = progress_listener(quiet=out.quiet, no_color=out.no_color, log=out.log)
    if len(paths) == 1 and is_run(run := paths[0]):
        if run_dir:
            raise UsageError("is for INPUT, and this is a run folder", where="--run-dir", hint="leave it out")
        before = require(run)
        used = effective.for_run(of_run(before), before.origins, config, layers)
        asked = _invocation(used, strict=strict)
        looking = look_at_run(run, target, stages=STAGES, progress=progress, asked=asked)
    else:
        used = effective.for_inputs(config, layers)
        paths = [*paths, *_captures_outside(used, paths)]
        asked = _invocation(used, strict=strict, stdin=_stdin(paths))
        looking = look_at_inputs(
            paths, target, used.settings, stages=STAGES, progress=progress, run_dir=run_dir, asked=asked
        )
    _report_settings(used, progress, verbose=out.verbose)
    try:
        with looking as ran:
            progress.close()
            _report_stale(ran, progress)
            yield ran
    finally:
        progress.close()


@contextmanager
def _progress(used: Effective, out: OutputFlags) -> Iterator[ProgressLines]:
    """Yield the lines of a run's progress, its settings said; they are closed however the run ends."""
    progress = progress_listener(quiet=out.quiet, no_color=out.no_color, log=out.log)
    _report_settings(used, progress, verbose=out.verbose)
    try:
        yield progress
    finally:
        progress.close()


def _invocation(
    used: Effective, *, strict: bool, stdin: bool = False, changes_settings: bool = False
) -> Asked:
    """Return how this command was given."""
    from hs_analysis.pipeline.session import Asked

    return Asked(
        command=command_line(),
        machine=used.machine,
        given=used.changes,
        changes_settings=changes_settings,
        origins=used.origins,
        config=used.config,
        strict=strict,
        stdin=stdin,
    )


def _report_stale(ran: Ran, progress: ProgressLines) -> None:
    """Say which stages are of before, and what brings them up to date."""
    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import stale_line

    if line := stale_line(ran.folder, ran.manifest, STAGES):
        progress.noted(line)


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


def _report_settings(used: Effective, progress: ProgressLines, *, verbose: bool) -> None:
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
    return first_of(list(map(str, value)), MOST_ITEMS)


def command_line() -> tuple[str, ...]:
    """Return the command as typed, with the program's short name."""
    return ("hsa", *sys.argv[1:])
