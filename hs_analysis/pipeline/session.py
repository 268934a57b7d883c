"""One command on one run folder: choose it, lock it, run stages, leave it whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hs_analysis.pipeline import folder as folders
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline.inputs import list_inputs
from hs_analysis.pipeline.lock import lock
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.progress import Progress
from hs_analysis.pipeline.records import from_plain, to_plain
from hs_analysis.pipeline.runner import Ran, run_to
from hs_analysis.pipeline.stages import Stage
from hs_analysis.pipeline.tables import PLACES
from hs_analysis.schema.settings import Settings
from hs_analysis.store import write_view_database

VIEWS_FILE = "run.duckdb"


def run_inputs(
    arguments: Sequence[Path],
    target: str,
    settings: Settings,
    *,
    stages: Sequence[Stage],
    progress: Progress,
    run_dir: Path | None = None,
    force: bool = False,
    command: Sequence[str] = (),
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
    command
        The command line, for the manifest.
    """
    files = list_inputs(arguments)
    place = folders.choose(arguments, files, settings, run_dir)

    def settle(stage: str, folder: Path, manifest: Manifest) -> Path:
        if stage != "ingest" or place.settled:
            return folder
        return folders.settle(folder, arguments, manifest, settings, force=force)

    folders.refuse_foreign(place.folder)
    with lock(place.folder):
        new = manifests.new(arguments, files, settings, command)
        manifest = folders.open_for(place.folder, files, new, force=force)
        if command:
            manifest = replace(manifest, command=new.command)
        try:
            ran = run_to(
                target, place.folder, manifest, settings,
                stages=stages, progress=progress, inputs_checked=True, settle=settle,
            )  # fmt: skip
        finally:
            _drop_if_nothing_came(place)
        return _with_views(ran)


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
    command: Sequence[str] = (),
) -> Ran:
    """Run the stages of an existing run folder up to `target`, with some settings changed.

    ``changes`` holds dotted names of settings, e.g. ``slo.ttft_s``; the others stay as the run had them.
    """
    folders.require(folder)
    with lock(folder):
        manifest = folders.require(folder)
        settings = changed(from_plain(Settings, manifest.settings), changes)
        if command:
            manifest = replace(manifest, command=manifests.masked(command))
        return _with_views(run_to(target, folder, manifest, settings, stages=stages, progress=progress))


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with some values replaced, by dotted name; ``startup_s.prefill`` replaces one role."""
    plain = to_plain(settings)
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = plain
        for part in parents:
            place = place[part]
        place[last] = value
    return from_plain(Settings, plain)
