"""Where a run lives: the named folder, the one made from the same inputs, or a new one under ``reports/``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline.inputs import HashedInput, first_difference, inputs_sha256
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.runner import LOCK_FILE, STAGING_PREFIX, start_over
from hs_analysis.schema.settings import Settings

REPORTS = Path("reports")
_PARTIAL = ".partial-"
_SUFFIXES = {".gz", ".zst", ".json", ".jsonl", ".txt", ".csv", ".om", ".prom"}


@dataclass(frozen=True)
class Place:
    """A run folder chosen for a command.

    ``settled`` is False while the name still lacks the window; ``created`` tells that this command made it.
    """

    folder: Path
    settled: bool
    created: bool


def name_of(argument: Path) -> str:
    """Return the run's name from the first INPUT: its last part without endings such as ``.json.gz``."""
    path = argument.resolve()
    name = path.name
    while path.is_file() and Path(name).suffix.lower() in _SUFFIXES:
        name = Path(name).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"


def choose(
    arguments: Sequence[Path], files: Sequence[HashedInput], settings: Settings, run_dir: Path | None
) -> Place:
    """Choose the run folder of some inputs, and make it when it is new.

    With ``run_dir`` that one. Else the folder under ``reports/`` with the first INPUT's name, the same inputs
    and the same bounds; else a new one, named for good when its window is known.
    """
    if run_dir is not None:
        return Place(run_dir, settled=True, created=_make(run_dir))
    if there := find(arguments, files, settings):
        return Place(there, settled=True, created=False)
    partial = REPORTS / f"{_PARTIAL}{name_of(arguments[0])}-{inputs_sha256(files)[:12]}"
    return Place(partial, settled=False, created=_make(partial))


def find(arguments: Sequence[Path], files: Sequence[HashedInput], settings: Settings) -> Path | None:
    """Return the folder under ``reports/`` that is a run of these inputs and bounds, None without one."""
    inputs = inputs_sha256(files)
    for folder in sorted(REPORTS.glob(f"{name_of(arguments[0])}-*")):
        found = manifests.read(folder) if folder.is_dir() else None
        if found and found.inputs_sha256 == inputs and _bounds(found) == (settings.start, settings.end):
            return folder
    return None


def _bounds(manifest: Manifest) -> tuple[str | None, str | None]:
    return manifest.settings.get("start"), manifest.settings.get("end")


def _make(folder: Path) -> bool:
    """Make a folder; return whether it was not there."""
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"can't be made ({error.strerror})",
            where=str(folder),
            hint="choose another folder with --run-dir",
        ) from error
    return not there


def open_for(folder: Path, files: Sequence[HashedInput], new: Manifest, *, force: bool) -> Manifest:
    """Return the manifest to go on with in a locked folder: its own if made from the same inputs, else `new`.

    Raises
    ------
    RunFolderError
        When the folder was made from other inputs and ``force`` is not given, or is not a run folder at all.
    """
    found = manifests.read(folder)
    if found is None:
        _refuse_foreign(folder)
        return new
    if not force:
        require_same(folder, found, files)
        return found
    start_over(folder, found)
    return new


def require_same(folder: Path, found: Manifest, files: Sequence[HashedInput]) -> None:
    """Raise when a run was made from other inputs than these."""
    difference = first_difference(((i.name, i.sha256) for i in found.inputs), files)
    if difference:
        raise RunFolderError(
            f"made from other inputs ({difference})",
            where=str(folder),
            hint="choose another folder with --run-dir, or replace it with --force",
        )


def refuse_runs(arguments: Sequence[Path]) -> None:
    """Raise when an INPUT is a run folder: what it holds are answers, not dumps."""
    for path in arguments:
        if is_run(path):
            raise RunFolderError(
                "this is a run folder, not an INPUT",
                where=str(path),
                hint=f"hsa report {path} brings it up to date; hsa run INPUT --run-dir {path} makes it from "
                "dumps",
            )


def refuse_foreign(folder: Path) -> None:
    """Raise when a folder holds files but is no run folder; nothing is written into it."""
    if folder.is_dir() and manifests.read(folder) is None:
        _refuse_foreign(folder)


def _refuse_foreign(folder: Path) -> None:
    ours = (LOCK_FILE, STAGING_PREFIX)
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith(ours))
    if foreign:
        raise RunFolderError(
            f"not a run folder and not empty (it holds {foreign[0]})",
            where=str(folder),
            hint="choose another folder with --run-dir",
        )


def settle(
    partial: Path, arguments: Sequence[Path], manifest: Manifest, settings: Settings, *, force: bool
) -> Path:
    """Give a new folder its name, ``reports/<name>-<window>``, once ingest has found the window."""
    counts = manifest.stages["ingest"].counts
    window = window_name(counts.get("start"), counts.get("end"), settings)
    final = REPORTS / f"{name_of(arguments[0])}-{window}"
    if final.exists():
        other = manifests.read(final)
        if other is None or not force:
            raise RunFolderError(
                "made from other inputs, or cut with other --from and --to" if other else "not a run folder",
                where=str(final),
                hint="choose another folder with --run-dir"
                + (", or replace it with --force" if other else ""),
            )
        shutil.rmtree(final)
    partial.rename(final)
    return final


def window_name(start: str | None, end: str | None, settings: Settings) -> str:
    """Return the window, cut by --from and --to, for a folder name: ``20260701T0000-20260708T0000``."""
    first = max((t for t in (start, settings.start) if t), key=_instant, default=None)
    last = min((t for t in (end, settings.end) if t), key=_instant, default=None)
    return "-".join(_instant(t).strftime("%Y%m%dT%H%M") if t else "open" for t in (first, last))


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def require(folder: Path) -> Manifest:
    """Return the manifest of an existing run folder.

    Raises
    ------
    RunFolderError
        When there is no such folder, or it is none that hsa made.
    """
    if not folder.exists():
        raise RunFolderError(
            "no such run folder", where=str(folder), hint="make one with hsa run INPUT or hsa ingest INPUT"
        )
    found = manifests.read(folder)
    if found is None:
        raise RunFolderError(
            "not a run folder (it has no manifest.json)",
            where=str(folder),
            hint="for dumps use hsa run INPUT or hsa ingest INPUT",
        )
    return found


def is_run(path: Path) -> bool:
    """Whether a path is a run folder."""
    return path.is_dir() and manifests.read(path) is not None


def find_run(run_id: str) -> Path | None:
    """Return the folder under ``reports/`` whose run has this id, None when there is none."""
    for folder in sorted(REPORTS.glob("*")):
        found = manifests.read(folder) if folder.is_dir() else None
        if found and manifests.run_id(found) == run_id:
            return folder
    return None
