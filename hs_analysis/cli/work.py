"""From a command's arguments to a run folder brought up to date."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hs_analysis.cli.options import Method
from hs_analysis.cli.terminal import listener

if TYPE_CHECKING:
    from hs_analysis.pipeline.runner import Ran


def from_inputs(
    arguments: Sequence[Path],
    target: str,
    method: Method,
    *,
    run_dir: Path | None,
    force: bool,
    quiet: bool,
    no_color: bool,
) -> Ran:
    """Read inputs and run every stage up to `target`; settings that are not given are the defaults."""
    changes = method.changes()  # wrong flags are told before anything is loaded or read

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import changed, run_inputs
    from hs_analysis.schema.settings import Settings

    progress = listener(quiet=quiet, no_color=no_color)
    try:
        ran = run_inputs(
            arguments, target, changed(Settings(), changes),
            stages=STAGES, progress=progress, run_dir=run_dir, force=force, command=command_line(),
        )  # fmt: skip
    finally:
        progress.close()
    progress.noted(f"run folder: {ran.folder}")
    return ran


def on_folder(folder: Path, target: str, method: Method, *, quiet: bool, no_color: bool) -> Ran:
    """Bring a stage of a run folder up to date; settings that are not given stay as the run had them."""
    changes = method.changes()

    from hs_analysis.pipeline.chain import STAGES
    from hs_analysis.pipeline.session import run_folder

    progress = listener(quiet=quiet, no_color=no_color)
    try:
        return run_folder(folder, target, changes, stages=STAGES, progress=progress, command=command_line())
    finally:
        progress.close()


def command_line() -> tuple[str, ...]:
    """Return the command as typed, with the program's short name."""
    return ("hsa", *sys.argv[1:])
