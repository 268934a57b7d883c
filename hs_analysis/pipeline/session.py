"""One command on one run folder: choose it, lock it, run stages, leave it whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hs_analysis.errors import DataMissing, HsError, ManyErrors, RowsRejected, machine_in_words
from hs_analysis.interrupts import undone
from hs_analysis.pipeline import folder as folders
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline import run_settings
from hs_analysis.pipeline.inputs import list_inputs
from hs_analysis.pipeline.lock import lock
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.progress import Progress
from hs_analysis.pipeline.records import to_plain
from hs_analysis.pipeline.runner import Accept, Ran, run_to, sweep
from hs_analysis.pipeline.stages import Stage
from hs_analysis.pipeline.standard_input import spooled
from hs_analysis.pipeline.tables import PLACES
from hs_analysis.schema.settings import Machine, Settings
from hs_analysis.store import write_view_database

VIEWS_FILE = "run.duckdb"


@dataclass(frozen=True)
class Asked:
    """How a command was given.

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
    given
        The settings that were given, by dotted name: in a folder that is a run already, the others are the
        run's. None where the settings of the call are meant as a whole.
    changes_settings
        Whether settings that differ from the run's are taken and the run written again from the first stage
        they concern; else they are refused.
    strict
        Whether to stop after ingest when a row was rejected or a file is broken.
    stdin
        Whether the INPUT ``-`` is standard input.
    """

    command: tuple[str, ...] = ()
    machine: Machine = field(default_factory=Machine)
    given: Mapping[str, Any] | None = None
    changes_settings: bool = False
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

    A folder that is a run of these inputs already goes on with its own settings and those that are given.

    Parameters
    ----------
    arguments
        Files and folders of dumps.
    target
        Last stage to run.
    settings
        Settings of a new run: defaults and what is given.
    run_dir
        The folder; by default ``reports/<name>-<window>``, the same one for the same inputs and bounds.
    force
        Start the folder again, even one made from other inputs.
    asked
        How the command was given.

    Raises
    ------
    RunFolderError
        When the folder was made from other inputs, or with other settings than are given and the command
        may not change them; nothing has been written then.
    RowsRejected
        When a row was rejected or a file is broken, and that is asked to be an error.
    """
    folders.refuse_runs(arguments)
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
    places = [place.folder]

    def settle(stage: str, folder: Path, manifest: Manifest) -> Path:
        if stage != "ingest" or place.settled:
            return folder
        places.append(folders.settle(folder, arguments, manifest, settings, force=force))
        return places[-1]

    folders.refuse_foreign(place.folder)
    with lock(place.folder), undone(partial(_leave_whole, places, place)):
        try:
            new = manifests.new(arguments, files, settings, asked.command)
            manifest = folders.open_for(place.folder, files, new, force=force)
            used = settings_for(place.folder, manifest, settings, target, stages, progress, asked)
            ran = run_to(
                target, place.folder, signed(manifest, asked, used), used,
                stages=stages, progress=progress, later_too=asked.changes_settings, inputs_checked=True,
                settle=settle, accept=accepts(asked), machine=asked.machine,
            )  # fmt: skip
        finally:
            _drop_if_nothing_came(place)
        return _with_views(ran)


def settings_for(
    folder: Path,
    manifest: Manifest,
    settings: Settings,
    target: str,
    stages: Sequence[Stage],
    progress: Progress,
    asked: Asked,
) -> Settings:
    """Return what the stages work with: the run's settings and what is given, where that may be.

    Raises
    ------
    RunFolderError
        When given settings differ from the run's and the command may not change them.
    """
    given = run_settings.apart(manifest, settings) if asked.given is None else asked.given
    found = run_settings.differences(manifest, given, asked.origins, stages)
    if found and not asked.changes_settings:
        raise run_settings.refusal(folder, found)
    if found:
        progress.noted(run_settings.announcement(found, stages))
    return run_settings.with_given(run_settings.of_run(manifest), given, target, stages)


def signed(manifest: Manifest, asked: Asked, used: Settings) -> Manifest:
    """Return the manifest with how the command was given; origins of settings that stay are kept."""
    origins = run_settings.used_origins(used, asked.given or {}, asked.origins)
    return replace(
        manifest,
        command=manifests.masked(asked.command) if asked.command else manifest.command,
        origins={**manifest.origins, **origins},
        config=asked.config or manifest.config,
        machine=to_plain(asked.machine),
    )


def accepts(asked: Asked, hint: str = 'see why: hsa sql {folder} "FROM rejected"') -> Accept:
    """Return what looks at a stage that is up to date, and stops after one that must not be built upon.

    ``hint`` says where rejected rows are to be seen; ``{folder}`` in it is the run folder.
    """

    def accept(stage: str, folder: Path, manifest: Manifest) -> None:
        if asked.strict and stage == "ingest":
            refuse_rejected(manifest, hint.format(folder=folder))

    return accept


def refuse_rejected(manifest: Manifest, hint: str) -> None:
    """Raise when the input of a run had rejected rows or broken files, or lacks what a pull planned."""
    record = manifest.stages["ingest"]
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
    errors += [
        DataMissing(str(lack["text"]), where="plan.json", hint=f"repeat: {lack['command']}")
        for lack in record.counts.get("not_received", ())
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


def _leave_whole(places: Sequence[Path], place: folders.Place | None = None) -> None:
    """Remove what an interrupt would leave half-written in a locked run folder, wherever it is by now."""
    for folder in places:
        if folder.exists():
            sweep(folder)
    if place is not None:
        _drop_if_nothing_came(place)


def run_folder(
    folder: Path,
    target: str,
    given: Mapping[str, Any],
    *,
    stages: Sequence[Stage],
    progress: Progress,
    asked: Asked = Asked(),
) -> Ran:
    """Bring the stages of an existing run folder up to `target` up to date, with the run's settings.

    What follows `target` is kept as it is and marked stale where it was made from what is written again.

    Parameters
    ----------
    given
        Dotted names of settings and values, e.g. ``slo.ttft_s``.

    Raises
    ------
    RunFolderError
        When there is no run, or a given setting differs from the run's; nothing has been written then.
    """
    folders.require(folder)
    with machine_in_words(str(folder)), lock(folder), undone(partial(_leave_whole, [folder])):
        manifest = folders.require(folder)
        asked = replace(asked, given=given, changes_settings=False)
        run = run_settings.of_run(manifest)
        used = settings_for(folder, manifest, run, target, stages, progress, asked)
        ran = run_to(
            target, folder, signed(manifest, asked, used), used,
            stages=stages, progress=progress, accept=accepts(asked), machine=asked.machine,
        )  # fmt: skip
        return _with_views(ran)
