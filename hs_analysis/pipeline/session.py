"""One command on one run folder: with the run's own settings, locked, and left whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from hs_analysis.errors import (
    DataMissing,
    HsError,
    ManyErrors,
    RowsRejected,
    RunFolderError,
    UsageError,
    machine_in_words,
)
from hs_analysis.ingest.discovery import discover
from hs_analysis.interrupts import undone
from hs_analysis.pipeline import manifest as manifests
from hs_analysis.pipeline import run_folder as folders
from hs_analysis.pipeline.cost import Cost, expected_cost
from hs_analysis.pipeline.inputs import HashedInput, list_inputs, spooled
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.records import changed, from_plain, to_plain
from hs_analysis.pipeline.runner import Accept, Ran, is_current, lock, run_to, sweep
from hs_analysis.pipeline.stages import Progress, Stage, leading_to
from hs_analysis.pipeline.tables import PLACES
from hs_analysis.schema.settings import Beside, ControllerName, Machine, Settings
from hs_analysis.settings.registry import DURATION, MACHINE, SETTINGS
from hs_analysis.settings.sections import SECTIONS
from hs_analysis.store import write_view_database

COMMAND_SETTINGS = (
    "beside", "events", "prices", "target", "server_address", "cluster", "kube_version", "runbook_url",
    "policy_mode", "edited",
)  # fmt: skip
"""Fields of Settings that belong to the command that gives them: no data, verdict or fitted number depends on
them. They are recorded and used again by later commands, and never compared."""

STAGE_OF = {"target": "select", "policy_mode": "policy"}
"""Field of Settings → the stage whose own command alone, beside hsa run, changes it once the stage is done:
hsa.toml may name another controller, a report of a run still speaks of the one that was selected for."""

_LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class Difference:
    """A setting that was given and that the run has another value of.

    Attributes
    ----------
    name
        Its key in hsa.toml.
    before, after
        The run's value and the given one, in words.
    source
        Where it was given: a flag, a variable, a line of hsa.toml.
    stage
        First finished stage of the run that depends on it.
    """

    name: str
    before: str
    after: str
    source: str
    stage: str

    def __str__(self) -> str:
        return f"{self.name} {self.before} → {self.after}"


def of_run(manifest: Manifest) -> Settings:
    """Return the settings a run was made with."""
    return from_plain(Settings, manifest.settings)


def apart(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return the settings, by dotted name, in which some settings meant as a whole differ from a run's."""
    run = of_run(manifest)
    names = [one.field for one in SETTINGS if not one.field.startswith(f"{MACHINE}.")]
    names += [one.field for one in SECTIONS] + [f"beside.{one.name}" for one in fields(Beside)] + ["edited"]
    wanted = {name: _value(settings, name) for name in names}
    return {name: value for name, value in wanted.items() if to_plain(value) != to_plain(_value(run, name))}


def with_given(
    manifest: Manifest,
    given: Mapping[str, Any],
    target: str,
    stages: Sequence[Stage],
    *,
    changes_settings: bool = False,
) -> Settings:
    """Return a run's settings with what a command gives.

    A command's own settings count where a stage that it brings up to date depends on them: prices in a
    hsa.toml do not reach the study. Those of one stage (``STAGE_OF``) count for the command of that stage,
    while the stage is not done, and where the command may change the run. Where nobody names a controller,
    today's objects do by their kind, by the same rule: a replay beside other objects selects nothing anew.
    """
    used = {name for stage in leading_to(target, stages) for name in stage.settings}
    fixed = {name for name, stage in STAGE_OF.items() if stage != target and stage in manifest.stages}
    counts = {
        name: value
        for name, value in given.items()
        if not _is_commands(name)
        or (any(_overlap(name, one) for one in used) and (changes_settings or name not in fixed))
    }
    after = changed(of_run(manifest), counts)
    if after.beside.current and counts.get("target") is None and "target" not in manifest.origins:
        selected = manifest.stages.get("select")
        kept = None if changes_settings or target == "select" or selected is None else selected.counts
        return replace(after, target=kept["target"] if kept else _target_by_kind(after))
    return after


def _target_by_kind(settings: Settings) -> ControllerName:
    """Return the controller that the kind of today's objects names."""
    from hs_analysis.pipeline.select_stage import controller_of

    return controller_of(replace(settings, target=None))


def differences(
    manifest: Manifest, given: Mapping[str, Any], origins: Mapping[str, str], stages: Sequence[Stage]
) -> tuple[Difference, ...]:
    """Return the run settings that are given otherwise than finished stages of a run were made with.

    What no finished stage depends on is free: a folder that was only ingested takes any SLO.
    """
    run = of_run(manifest)
    after = changed(run, given)
    found = []
    for name in given:
        if _is_commands(name):
            continue
        old, new = _value(run, name), _value(after, name)
        stage = _first_concerned(name, manifest, stages)
        if stage and to_plain(old) != to_plain(new):
            key, unit = _key(name)
            said = (_in_words(old, unit), _in_words(new, unit))
            if said[0] == said[1]:
                said = (said[0], f"another {said[1]}")
            found.append(Difference(key, *said, origins.get(name, ""), stage))
    return tuple(found)


def refusal(folder: Path, found: Sequence[Difference]) -> RunFolderError:
    """Return the error of a command that may not change the settings of a run."""
    listed = ", ".join(f"{one} ({one.source})" if one.source else str(one) for one in found)
    return RunFolderError(
        f"the run was made with other settings: {listed}; nothing was changed",
        where=str(folder),
        hint=f"leave them out, or write this run again (hsa run INPUT --run-dir {folder} with them; --force "
        "starts over), or make another run (--run-dir DIR)",
    )


def announcement(found: Sequence[Difference], stages: Sequence[Stage]) -> str:
    """Return the line of ``hsa run`` that says what changes and from which stage on it writes again."""
    order = [stage.name for stage in stages]
    first = min((one.stage for one in found), key=order.index)
    return f"settings change: {', '.join(map(str, found))}; written again from {first} on"


def stale_line(folder: Path, manifest: Manifest, stages: Sequence[Stage]) -> str:
    """Return the line that says which stages are of before and how to renew them; empty when none is."""
    stale = {name: record.stale for name, record in manifest.stages.items() if record.stale}
    if not stale:
        return ""
    covered = {stage.name for stage in leading_to(stages[-1].name, stages)}
    ends = [stages[-1].name] if covered & set(stale) else []
    renewing = " and ".join(
        f"hsa {name} {folder}" for name in [*ends, *(n for n in stale if n not in covered)]
    )
    return (
        f"stale, kept as before: {', '.join(stale)} ({next(iter(stale.values()))}); "
        f"{renewing} writes them again"
    )


def used_origins(settings: Settings, given: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, str]:
    """Return the origins of settings without those of given values that do not count here."""
    return {
        name: source
        for name, source in origins.items()
        if name not in given or to_plain(_value(settings, name)) == to_plain(given[name])
    }


def _is_commands(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in COMMAND_SETTINGS


def _overlap(one: str, other: str) -> bool:
    """Whether one dotted name is the other or holds it."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _first_concerned(name: str, manifest: Manifest, stages: Sequence[Stage]) -> str:
    for stage in stages:
        if stage.name in manifest.stages and any(_overlap(name, one) for one in stage.settings):
            return stage.name
    return ""


def _value(settings: Settings, name: str) -> Any:
    place: Any = settings
    for part in name.split("."):
        place = place.get(part) if isinstance(place, Mapping) else getattr(place, part)
    return place


def _key(name: str) -> tuple[str, str]:
    """Return the key in hsa.toml of a field of Settings, and its unit where the value alone lacks it."""
    for setting in SETTINGS:
        if setting.field == name:
            return setting.key, "s" if setting.kind is DURATION else ""
    return next((f"[{section.name}]" for section in SECTIONS if section.field == name), name), ""


def _in_words(value: Any, unit: str) -> str:
    if value is None or value == () or value == {}:
        return "not given"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g} {unit}".rstrip()
    if isinstance(value, Mapping):
        return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    if isinstance(value, tuple | list):
        text = ", ".join(_item(to_plain(one)) for one in value)
        return text if len(text) <= _LONGEST else f"{len(value)} of them"
    return str(value)


def _item(one: Any) -> str:
    """Return an item of a list in words: a stretch as START..END."""
    return f"{one['start']}..{one['end']}" if isinstance(one, Mapping) and "end" in one else str(one)


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


def cost_of_inputs(arguments: Sequence[Path], settings: Settings) -> Cost:
    """Return what a run over some inputs is expected to take; nothing is written.

    Raises
    ------
    InputError, ManyErrors
        When an input is missing, or none can be read.
    """
    folders.refuse_runs(arguments)
    return expected_cost(discover(arguments, settings.reading).files, settings.reading)


def extend_run(
    folder: Path,
    arguments: Sequence[Path],
    target: str,
    *,
    stages: Sequence[Stage],
    progress: Progress,
    asked: Asked = Asked(),
) -> Ran:
    """Add inputs to a run and bring the stages up to `target` up to date, with the run's settings.

    The results are those of a run over all inputs. Files that the run has read are not read again, and need
    not be there any more, unless the new ones change what was made of them.

    Raises
    ------
    RunFolderError
        When there is no run, a given setting differs from the run's, an input of the run is given with other
        content, or an input is gone that has to be read again.
    """
    folders.require(folder)
    folders.refuse_runs(arguments)
    if asked.stdin:
        raise UsageError("standard input can't be added to a run", where="-", hint="save it in a file")
    new = list_inputs(arguments)
    with machine_in_words(str(folder)), lock(folder), undone(partial(_leave_whole, [folder])):
        before = folders.require(folder)
        manifest = manifests.with_inputs(before, arguments, _unknown(before, new))
        asked = replace(asked, changes_settings=False)
        used = settings_for(folder, before, of_run(before), target, stages, progress, asked)
        current = is_current(stages[0], before, used, folder)
        if not current:
            progress.noted("all inputs are read again: the run is unfinished, or another version made it")
        ran = run_to(
            target, folder, signed(manifest, asked, used), used,
            stages=stages, progress=progress, later_too=True, inputs_checked=current,
            accept=accepts(asked), machine=asked.machine, extends=current and manifest != before,
        )  # fmt: skip
        return _with_views(ran)


def _unknown(before: Manifest, files: Sequence[HashedInput]) -> list[HashedInput]:
    """Return the inputs that a run does not have; raise for one that it has with other content."""
    known = {Path(file.path): file.sha256 for file in before.inputs}
    for file in files:
        if known.get(file.path.resolve(), file.sha256) != file.sha256:
            raise RunFolderError(
                "an input of the run has changed: only new files can be added",
                where=str(file.path),
                hint="hsa run INPUT --run-dir RUN --force makes the run again",
            )
    return [file for file in files if file.path.resolve() not in known]


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
    given = apart(manifest, settings) if asked.given is None else asked.given
    found = differences(manifest, given, asked.origins, stages)
    if found and not asked.changes_settings:
        raise refusal(folder, found)
    if found:
        progress.noted(announcement(found, stages))
    return with_given(manifest, given, target, stages, changes_settings=asked.changes_settings)


def signed(manifest: Manifest, asked: Asked, used: Settings) -> Manifest:
    """Return the manifest with how the command was given; origins of settings that stay are kept."""
    origins = used_origins(used, asked.given or {}, asked.origins)
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
        run = of_run(manifest)
        used = settings_for(folder, manifest, run, target, stages, progress, asked)
        ran = run_to(
            target, folder, signed(manifest, asked, used), used,
            stages=stages, progress=progress, accept=accepts(asked), machine=asked.machine,
        )  # fmt: skip
        return _with_views(ran)
