"""The settings a run remembers: what a command gives that differs from them, and who may change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hs_analysis.errors import RunFolderError
from hs_analysis.pipeline.manifest import Manifest
from hs_analysis.pipeline.records import changed, from_plain, to_plain
from hs_analysis.pipeline.stages import Stage, leading_to
from hs_analysis.schema.settings import Beside, Settings
from hs_analysis.settings.registry import DURATION, MACHINE, SETTINGS
from hs_analysis.settings.sections import SECTIONS

COMMAND_SETTINGS = ("beside", "events", "prices")
"""Fields of Settings that belong to the command that gives them: no data, verdict or fitted number depends on
them. They are recorded and used again by later commands, and never compared."""

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
    names += [one.field for one in SECTIONS] + [f"beside.{one.name}" for one in fields(Beside)]
    wanted = {name: _value(settings, name) for name in names}
    return {name: value for name, value in wanted.items() if to_plain(value) != to_plain(_value(run, name))}


def with_given(run: Settings, given: Mapping[str, Any], target: str, stages: Sequence[Stage]) -> Settings:
    """Return a run's settings with what a command gives.

    A command's own settings count where a stage that it brings up to date depends on them: prices in a
    hsa.toml do not reach the study.
    """
    used = {name for stage in leading_to(target, stages) for name in stage.settings}
    counts = {
        name: value
        for name, value in given.items()
        if not _is_commands(name) or any(_overlap(name, one) for one in used)
    }
    return changed(run, counts)


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
