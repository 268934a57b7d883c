"""One command on one run folder: choose it, lock it, run stages, leave it whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hs_analysis.errors import HsError, ManyErrors, RowsRejected, machine_in_words
from hs_analysis.pipeline import folder as folders
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline.inputs import list_inputs
from hs_analysis.pipeline.lock import lock
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.progress import Progress
from hs_analysis.pipeline.records import changed, from_plain, to_plain
from hs_analysis.pipeline.runner import Accept, Ran, run_to
from hs_analysis.pipeline.stages import Stage
from hs_analysis.pipeline.standard_input import spooled
from hs_analysis.pipeline.tables import PLACES
from hs_analysis.schema.settings import Machine, Settings
from hs_analysis.store import write_view_database

VIEWS_FILE = "run.duckdb"


@dataclass(frozen=True)
class Asked:
    """How a command was given; all of it goes into the manifest and none of it changes a result.

    Attributes
    ----------
    command
        The command line.
    machine
        How the machine may be used.
    origins
        Where each setting that is no default was given, by dotted name.
    config
        The settings file that was read; empty when none was.
    strict
        Whether to stop after ingest when a row was rejected or a file is broken.
    stdin
        Whether the INPUT ``-`` is standard input.
    """

    command: tuple[str, ...] = ()
    machine: Machine = field(default_factory=Machine)
    origins: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    strict: bool = False
    stdin: bool = False


def run_inputs(
    arguments: Sequence[Path],
    target: str,
    settings: Settings,
    *,
    stages: Sequence[Stage],
    progress: Progress,
    run_dir: Path | None = None,
    force: bool = False,
    asked: Asked = Asked(),
) -> Ran:
    """Read inputs into their run folder and run the stages up to `target`.

    Parameters
    ----------
    arguments
        Files and folders of dumps.
    target
        Last stage to run.
    settings
        Settings of the run.
    run_dir
        The folder; by default ``reports/<name>-<window>``, the same one for the same inputs and bounds.
    force
        Start the folder again, even one made from other inputs.
    asked
        How the command was given.

    Raises
    ------
    RowsRejected
        When a row was rejected or a file is broken, and that is asked to be an error.
    """
    beside = folders.REPORTS if run_dir is None else run_dir.resolve().parent
    with (
        machine_in_words(str(beside if run_dir is None else run_dir)),
        spooled(arguments, beside, wanted=asked.stdin) as paths,
    ):
        return _run_files(paths, target, settings, stages, progress, run_dir, force, asked)


def _run_files(
    arguments: Sequence[Path],
    target: str,
    settings: Settings,
    stages: Sequence[Stage],
    progress: Progress,
    run_dir: Path | None,
    force: bool,
    asked: Asked,
) -> Ran:
    """Do the work of `run_inputs` on INPUTs that are all files and folders."""
    files = list_inputs(arguments)
    place = folders.choose(arguments, files, settings, run_dir)

    def settle(stage: str, folder: Path, manifest: Manifest) -> Path:
        if stage != "ingest" or place.settled:
            return folder
        return folders.settle(folder, arguments, manifest, settings, force=force)

    folders.refuse_foreign(place.folder)
    with lock(place.folder):
        new = manifests.new(arguments, files, settings, asked.command)
        manifest = folders.open_for(place.folder, files, new, force=force)
        try:
            ran = run_to(
                target, place.folder, _signed(manifest, asked, {}), settings,
                stages=stages, progress=progress, inputs_checked=True, settle=settle,
                accept=_accepts(asked), machine=asked.machine,
            )  # fmt: skip
        finally:
            _drop_if_nothing_came(place)
        return _with_views(ran)


def _signed(manifest: Manifest, asked: Asked, before: Mapping[str, str]) -> Manifest:
    """Return the manifest with how the command was given; ``before`` are origins of settings that stay."""
    return replace(
        manifest,
        command=manifests.masked(asked.command) if asked.command else manifest.command,
        origins={**before, **asked.origins},
        config=asked.config,
        machine=to_plain(asked.machine),
    )


def _accepts(asked: Asked) -> Accept:
    """Return what looks at a stage that is up to date, and stops after one that must not be built upon."""

    def accept(stage: str, folder: Path, manifest: Manifest) -> None:
        if asked.strict and stage == "ingest":
            refuse_rejected(folder, manifest)

    return accept


def refuse_rejected(folder: Path, manifest: Manifest) -> None:
    """Raise when the input of a run had rejected rows or broken files."""
    record = manifest.stages["ingest"]
    hint = f'see why: hsa sql {folder} "FROM rejected"'
    errors: list[HsError] = [
        RowsRejected(
            f"{file['rows_rejected']:,} row{'s' * (file['rows_rejected'] != 1)} rejected",
            where=str(file["name"]),
            hint=hint,
        )
        for file in record.inputs
        if file.get("rows_rejected")
    ]
    errors += [
        RowsRejected(f"can't be read: {entry['why']}", where=str(entry["name"]), hint="export it again")
        for entry in record.counts.get("broken", ())
    ]
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(errors)


def _with_views(ran: Ran) -> Ran:
    """Write run.duckdb when tables have changed; its views name the folder's own place."""
    views = {name: place for name, place in PLACES.items() if any(ran.folder.glob(place))}
    if views and (ran.worked or not (ran.folder / VIEWS_FILE).exists()):
        write_view_database(ran.folder, views)
    return ran


def _drop_if_nothing_came(place: folders.Place) -> None:
    """Remove a folder this command made if no stage finished in it, and one that got no name in any case."""
    if not place.folder.exists():
        return
    found = manifests.read(place.folder)
    if not place.settled or (place.created and (found is None or not found.stages)):
        shutil.rmtree(place.folder, ignore_errors=True)


def run_folder(
    folder: Path,
    target: str,
    changes: Mapping[str, Any],
    *,
    stages: Sequence[Stage],
    progress: Progress,
    asked: Asked = Asked(),
) -> Ran:
    """Run the stages of an existing run folder up to `target`, with some settings changed.

    ``changes`` holds dotted names of settings, e.g. ``slo.ttft_s``; the others stay as the run had them.
    """
    folders.require(folder)
    with machine_in_words(str(folder)), lock(folder):
        manifest = folders.require(folder)
        settings = changed(from_plain(Settings, manifest.settings), changes)
        signed = _signed(manifest, replace(asked, config=asked.config or manifest.config), manifest.origins)
        ran = run_to(
            target, folder, signed, settings,
            stages=stages, progress=progress, accept=_accepts(asked), machine=asked.machine,
        )  # fmt: skip
        return _with_views(ran)
