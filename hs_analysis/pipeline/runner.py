"""Run stages in one run folder: one writer at a time, what is current is skipped, the rest recorded."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

import hs_analysis
from hs_analysis.errors import HsError, RunFolderError
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline.handover import handing_on
from hs_analysis.pipeline.inputs import HashedInput, is_spooled, sha256_of
from hs_analysis.pipeline.manifest import FileRecord, Manifest, StageRecord
from hs_analysis.pipeline.records import to_plain
from hs_analysis.pipeline.stages import (
    Outcome,
    Progress,
    Stage,
    Work,
    fingerprints,
    following,
    leading_to,
    setting_values,
)
from hs_analysis.schema.settings import Machine, Settings

STAGING_PREFIX = ".staging-"
_OTHERWISE = "settings or versions have changed since it was written"


@dataclass(frozen=True)
class Ran:
    """Which stages worked, which had nothing to do, and the folder and its manifest as they are now."""

    worked: tuple[str, ...]
    skipped: tuple[str, ...]
    folder: Path
    manifest: Manifest


Settle = Callable[[str, Path, Manifest], Path]
"""Called after each stage with its name; returns where the run folder is now, so that it may be renamed."""

Accept = Callable[[str, Path, Manifest], None]
"""Called with the name of each stage that is up to date now; raises to go no further."""


def run_to(
    target: str,
    folder: Path,
    manifest: Manifest,
    settings: Settings,
    *,
    stages: Sequence[Stage],
    progress: Progress,
    later_too: bool = False,
    inputs_checked: bool = False,
    settle: Settle = lambda _stage, folder, _manifest: folder,
    accept: Accept = lambda _stage, _folder, _manifest: None,
    machine: Machine | None = None,
    extends: bool = False,
) -> Ran:
    """Bring a stage and all it needs up to date.

    The folder must be locked by the caller. A stage whose inputs, settings and code are those it was run
    with, and whose files are untouched, is skipped. What was made from a stage that is written again is kept
    and marked stale in the manifest; ``later_too`` writes it again instead. Stages that never ran are left
    alone. ``inputs_checked`` says that the input files were hashed just now, ``extends`` that the folder was
    up to date before some of them came.
    """
    sweep(folder)
    manifest = replace(
        manifest,
        settings=to_plain(settings),
        tool_version=hs_analysis.__version__,
        code_sha256=manifests.code_sha256(),
    )
    manifest = _forget(folder, manifest, stages)
    prints = fingerprints(stages, settings, manifest.inputs_sha256, manifest.code_sha256)
    work, skipped = _plan(target, folder, manifest, prints, stages, later_too=later_too)
    manifest = _mark_stale(manifest, prints, work, stages)
    for name in skipped:
        progress.skipped(name)
        accept(name, folder, manifest)
    if not work:
        _keep(folder, manifest)
    with handing_on():
        for index, stage in enumerate(work, start=1):
            progress.started(stage.name, stage.does, index, len(work))
            for path in _edited(stage, manifest, folder):
                progress.noted(f"{path} was changed by hand since {stage.name} wrote it; it is written again")
            if not stage.needs and not inputs_checked:
                check_unchanged(manifest.input_files())
            manifest = _run_one(
                stage, prints[stage.name], folder, manifest, settings, progress, machine or Machine(),
                extends=extends,
            )  # fmt: skip
            folder = settle(stage.name, folder, manifest)
            accept(stage.name, folder, manifest)
    return Ran(tuple(stage.name for stage in work), skipped, folder, manifest)


def _forget(folder: Path, manifest: Manifest, stages: Sequence[Stage]) -> Manifest:
    """Remove the files and records of stages that an earlier version had and this one has not."""
    gone = set(manifest.stages) - {stage.name for stage in stages}
    for name in gone:
        for file in manifest.stages[name].files:
            (folder / file.path).unlink(missing_ok=True)
    return manifest.without_stages(gone)


def _keep(folder: Path, manifest: Manifest) -> None:
    """Record new settings of a run in which no stage had to work; a command that changes nothing is none."""
    before = manifests.read(folder)
    if before is None or replace(manifest, command=before.command) != before:
        manifests.write(folder, manifest)


def _plan(
    target: str,
    folder: Path,
    manifest: Manifest,
    prints: Mapping[str, str],
    stages: Sequence[Stage],
    *,
    later_too: bool,
) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """Return the stages to run, in order, and the names of those asked for that are current."""
    asked = {stage.name for stage in leading_to(target, stages)}
    if later_too:
        there = asked | set(manifest.stages)
        asked |= {stage.name for stage in stages if stage.name in there and there.issuperset(stage.needs)}
    wanted = tuple(stage for stage in stages if stage.name in asked)
    stale = {stage.name for stage in wanted if not _current(stage, prints[stage.name], manifest, folder)}
    stale |= {stage.name for stage in following(stale, wanted)}
    return (
        tuple(stage for stage in wanted if stage.name in stale),
        tuple(stage.name for stage in wanted if stage.name not in stale),
    )


def _mark_stale(
    manifest: Manifest, prints: Mapping[str, str], work: Sequence[Stage], stages: Sequence[Stage]
) -> Manifest:
    """Mark the records that no longer say what the run would: of what is written again, or set otherwise.

    A stage that is written again leaves its mark with its old record; one that is current again loses it.
    """
    records = {}
    for name, record in manifest.stages.items():
        reason = ""
        if record.fingerprint != prints.get(name):
            before = {stage.name for stage in leading_to(name, stages)} - {name} if name in prints else set()
            first = next((stage.name for stage in work if stage.name in before), "")
            reason = f"{first} was written again after it" if first else record.stale or _OTHERWISE
        records[name] = replace(record, stale=reason)
    return replace(manifest, stages=records)


def _current(stage: Stage, fingerprint: str, manifest: Manifest, folder: Path) -> bool:
    record = manifest.stages.get(stage.name)
    return (
        record is not None
        and record.fingerprint == fingerprint
        and all(file.intact(folder) for file in record.files)
    )


def is_current(stage: Stage, manifest: Manifest, settings: Settings, folder: Path) -> bool:
    """Whether a stage that needs no other is up to date with the inputs of its manifest."""
    code = manifests.code_sha256()
    fingerprint = fingerprints((stage,), settings, manifest.inputs_sha256, code)[stage.name]
    return _current(stage, fingerprint, manifest, folder)


def _edited(stage: Stage, manifest: Manifest, folder: Path) -> list[str]:
    """Return the files of a stage that are there with other bytes than it wrote."""
    record = manifest.stages.get(stage.name)
    files = record.files if record else ()
    return [file.path for file in files if (folder / file.path).exists() and not file.intact(folder)]


def _run_one(
    stage: Stage,
    fingerprint: str,
    folder: Path,
    manifest: Manifest,
    settings: Settings,
    progress: Progress,
    machine: Machine,
    *,
    extends: bool,
) -> Manifest:
    """Run a stage in a folder of its own, then move its files into place and record them."""
    began = time.perf_counter()
    out = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=folder))
    try:
        arguments = tuple(_from_here(Path(text)) for text in manifest.arguments)
        read = manifests.read_sha256(manifest)
        work = Work(
            folder,
            out,
            settings,
            arguments,
            manifest.input_files(),
            manifests.run_id(manifest),
            read,
            progress,
            machine,
            extends,
        )
        outcome = stage.run(work)
        drafts = _drafts(stage, out)
        manifest = _retire(stage, drafts, folder, manifest)
        files = _commit(drafts, folder)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    seconds = time.perf_counter() - began
    manifest = manifest.with_stage(stage.name, _record(fingerprint, stage, settings, seconds, outcome, files))
    manifests.write(folder, manifest)
    progress.finished(stage.name, seconds, outcome.note)
    return manifest


def _from_here(path: Path) -> Path:
    """Return a path as a user standing here would write it, for messages."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _drafts(stage: Stage, out: Path) -> dict[str, Path]:
    drafts = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    for name in drafts:
        if not stage.owns(name):
            raise AssertionError(f"stage {stage.name} wrote {name}, which it does not declare")
    return drafts


def _retire(stage: Stage, drafts: Mapping[str, Path], folder: Path, manifest: Manifest) -> Manifest:
    """Remove files of an earlier run of the stage that are not written again, and stop claiming the others.

    The manifest is written before any file moves: an end in between leaves the stage unfinished and what
    follows marked, never a new file under an old record.
    """
    record = manifest.stages.get(stage.name)
    manifest = manifest.without_stages({stage.name})
    manifests.write(folder, manifest)
    for file in record.files if record else ():
        if file.path not in drafts:
            (folder / file.path).unlink(missing_ok=True)
    return manifest


def _commit(drafts: Mapping[str, Path], folder: Path) -> tuple[FileRecord, ...]:
    records = []
    for name, draft in drafts.items():
        final = folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(final)
        stat = final.stat()
        records.append(FileRecord(name, stat.st_size, sha256_of(final), stat.st_mtime_ns))
    return tuple(records)


def _record(
    fingerprint: str,
    stage: Stage,
    settings: Settings,
    seconds: float,
    outcome: Outcome,
    files: tuple[FileRecord, ...],
) -> StageRecord:
    return StageRecord(
        fingerprint=fingerprint,
        settings=setting_values(stage, settings),
        seconds=round(seconds, 3),
        note=outcome.note,
        counts=outcome.counts,
        inputs=outcome.inputs,
        files=files,
    )


def check_unchanged(files: Sequence[HashedInput]) -> None:
    """Raise when an input file is gone or has other bytes than the run was made from."""
    for file in files:
        if is_spooled(file.path) and not file.path.is_file():
            raise RunFolderError(
                "standard input is gone and has to be read again",
                where=file.name,
                hint="pipe it into hsa run -",
            )
        if not file.path.is_file():
            raise RunFolderError(
                "the input is gone and has to be read again",
                where=str(file.path),
                hint="run hsa run INPUT with the inputs where they are now",
            )
        if file.path.stat().st_size != file.size or sha256_of(file.path) != file.sha256:
            raise RunFolderError(
                "the input has changed since the folder was made",
                where=str(file.path),
                hint="run hsa run INPUT --force, or choose another folder with --run-dir",
            )


def sweep(folder: Path) -> None:
    """Remove what an interrupted run left under temporary names; the folder must be locked."""
    for path in folder.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
    for pattern in (".*.json.*", "*.unfinished"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def start_over(folder: Path, manifest: Manifest) -> None:
    """Remove every file a run recorded, and its manifest; files of others stay."""
    for record in manifest.stages.values():
        for file in record.files:
            try:
                (folder / file.path).unlink(missing_ok=True)
            except OSError as error:
                raise HsError(
                    f"can't be removed ({error.strerror})", where=str(folder / file.path)
                ) from error
    (folder / manifests.MANIFEST_FILE).unlink(missing_ok=True)


LOCK_FILE = ".lock"

_HOLDER_AT = 1
"""Where the number of the holder begins in the file [bytes]: Windows lets nobody read the first byte."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the folder must exist and may be renamed meanwhile.

    Raises
    ------
    RunFolderError
        When another process holds it; the message names the process.
    """
    held: list[int] = []
    path = folder / LOCK_FILE
    one = FileLock(path, blocking=False, preserve_lock_file=True, on_acquired=held.append)
    try:
        one.acquire()
    except Timeout as error:
        raise RunFolderError(
            f"another hsa is writing this folder (process {_holder(path)})",
            where=str(folder),
            hint="wait for it, or choose another folder with --run-dir",
        ) from error
    try:
        os.ftruncate(held[0], 0)
        os.write(held[0], f"{' ' * _HOLDER_AT}{os.getpid()}\n".encode())
        yield
        os.ftruncate(held[0], 0)
    finally:
        one.release()


def _holder(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        file.seek(_HOLDER_AT)
        return file.read().decode().strip() or "unknown"
