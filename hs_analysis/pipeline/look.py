"""Looking at an input or a run: what doctor needs is made in a cache, and no run is made or changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from hs_analysis.errors import RunFolderError, machine_in_words
from hs_analysis.interrupts import temporary_folder, undone
from hs_analysis.pipeline import folder as folders
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline import run_settings
from hs_analysis.pipeline.inputs import InputFile, inputs_sha256, list_inputs
from hs_analysis.pipeline.lock import lock
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.progress import Progress
from hs_analysis.pipeline.runner import Ran, run_to, start_over, sweep
from hs_analysis.pipeline.session import Asked, accepts, settings_for, signed
from hs_analysis.pipeline.stages import Stage
from hs_analysis.pipeline.standard_input import spooled
from hs_analysis.schema.settings import Settings

_KEEP = 'see why: hsa ingest INPUT keeps them, then hsa sql RUN "FROM rejected"'
LOOKED_AT = "looked-at"
MOST_CACHED = 4
"""Inputs kept in the cache: looking again at one of the last few reads nothing twice."""


def cache_folder() -> Path:
    """Return the user's cache folder of this program; nothing in it is needed."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "hs_analysis"


@contextmanager
def look_at_inputs(
    arguments: Sequence[Path],
    target: str,
    settings: Settings,
    *,
    stages: Sequence[Stage],
    progress: Progress,
    run_dir: Path | None = None,
    asked: Asked,
) -> Iterator[Ran]:
    """Yield what the stages up to `target` found on inputs: in their run where there is one, else in a cache.

    Parameters
    ----------
    run_dir
        Where a run of the inputs may be; by default under ``reports/``.

    Raises
    ------
    RunFolderError
        When settings are given that differ from those of the run of the inputs, or ``run_dir`` is a run of
        other inputs.
    """
    folders.refuse_runs(arguments)
    with ExitStack() as held:
        room = held.enter_context(_room(str([str(path.resolve()) for path in arguments])))
        held.enter_context(machine_in_words(str(room)))
        paths = held.enter_context(spooled(arguments, room.parent, wanted=asked.stdin))
        files = list_inputs(paths)
        there = _run_of(paths, files, settings, run_dir)
        if there:
            yield held.enter_context(
                look_at_run(there, target, stages=stages, progress=progress, asked=asked)
            )
            return
        new = manifests.new(paths, files, settings, asked.command)
        found = manifests.read(room)
        if found and found.inputs_sha256 != inputs_sha256(files):
            start_over(room, found)
            found = None
        yield _run_in(room, found or new, target, settings, stages, progress, asked)


@contextmanager
def look_at_run(
    folder: Path, target: str, *, stages: Sequence[Stage], progress: Progress, asked: Asked
) -> Iterator[Ran]:
    """Yield what `target` found in a run: as it is recorded there, else made from the run in a cache.

    Raises
    ------
    RunFolderError
        When there is no run, or settings are given that differ from its own.
    """
    manifest = folders.require(folder)
    run = run_settings.of_run(manifest)
    settings = settings_for(folder, manifest, run, target, stages, progress, asked)
    record = manifest.stages.get(target)
    if record and settings == run and all(f.intact(folder) for f in record.files):
        accepts(asked)("ingest", folder, manifest)
        progress.skipped(target)
        yield Ran((), (target,), folder, manifest)
        return
    with _room(str(folder.resolve())) as room, machine_in_words(str(room)):
        before = manifests.read(room)
        if before:
            start_over(room, before)
        _mirror(folder, manifest, room)
        yield _run_in(room, manifest, target, settings, stages, progress, asked)


def _run_of(
    paths: Sequence[Path], files: Sequence[InputFile], settings: Settings, run_dir: Path | None
) -> Path | None:
    """Return the run folder of some inputs, None without one."""
    if run_dir is None:
        return folders.find(paths, files, settings)
    found = manifests.read(run_dir)
    if found is None:
        return None
    folders.require_same(run_dir, found, files)
    return run_dir


def _run_in(
    room: Path,
    manifest: Manifest,
    target: str,
    settings: Settings,
    stages: Sequence[Stage],
    progress: Progress,
    asked: Asked,
) -> Ran:
    return run_to(
        target, room, signed(manifest, asked, settings), settings,
        stages=stages, progress=progress, inputs_checked=True, accept=accepts(asked, _KEEP),
        machine=asked.machine,
    )  # fmt: skip


def _mirror(folder: Path, manifest: Manifest, room: Path) -> None:
    """Put the files of a run into another folder: as links where the disk can, else as copies.

    Stages replace files and never write into them, so that a link can't change the run.
    """
    for record in manifest.stages.values():
        for file in record.files:
            source, copy = folder / file.path, room / file.path
            if not source.is_file():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            try:
                os.link(source, copy)
            except OSError:
                shutil.copy2(source, copy)
    manifests.write(room, manifest)


@contextmanager
def _room(key: str) -> Iterator[Path]:
    """Yield a locked folder of the cache; one that is removed afterwards where the cache can't be had."""
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    with ExitStack() as held:
        try:
            room = cache_folder() / LOOKED_AT / name
            room.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.enter_context(lock(room))
            held.enter_context(undone(partial(sweep, room)))
            os.utime(room)
            _prune(room)
        except (OSError, RuntimeError, RunFolderError):  # no home, or another hsa looks at the same
            room = held.enter_context(temporary_folder(Path(tempfile.gettempdir()), "hs-analysis-"))
        yield room


def _prune(room: Path) -> None:
    """Remove all but the folders looked at last; one that another process uses stays."""
    others = sorted((p for p in room.parent.iterdir() if p != room), key=lambda p: p.stat().st_mtime)
    for old in others[: max(0, len(others) + 1 - MOST_CACHED)]:
        try:
            with lock(old):
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, RunFolderError):
            continue
