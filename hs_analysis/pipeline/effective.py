"""The settings a command works with: which sources count, what they give together, and where each is from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hs_analysis.errors import UsageError
from hs_analysis.pipeline.records import changed
from hs_analysis.pipeline.tasks import missing_engine
from hs_analysis.schema.settings import Machine, Settings
from hs_analysis.settings import file
from hs_analysis.settings.file import Layer, resolve
from hs_analysis.settings.registry import MACHINE


@dataclass(frozen=True)
class Effective:
    """Settings in effect.

    Attributes
    ----------
    settings, machine
        The values.
    changes
        Those that a source gave, by dotted name.
    origins
        Where each that is no default is from, by dotted name.
    config
        The settings file that was read, as typed; empty when none was.
    warnings
        What the environment holds that looks like a setting and is none.
    """

    settings: Settings
    machine: Machine
    changes: Mapping[str, Any]
    origins: Mapping[str, str]
    config: str
    warnings: tuple[str, ...] = ()


def for_inputs(config: Path | None, flags: Sequence[Layer]) -> Effective:
    """Return the settings of a run of inputs: defaults, hsa.toml, HSA_* variables, flags.

    hsa.toml is the one named, else the one in the current folder.
    """
    path = file.find(config)
    from_file = file.read_file(path) if path else {}
    from_environment, warnings = file.read_environment(os.environ)
    found = applied(Settings(), {}, [from_file, from_environment, *flags], path)
    return replace(found, warnings=warnings)


def for_run(
    settings: Settings, origins: Mapping[str, str], config: Path | None, flags: Sequence[Layer]
) -> Effective:
    """Return the settings of an existing run with what is given: hsa.toml, HSA_* variables, flags.

    What none of them names is the run's. ``changes`` holds what is given; whether it may differ from the
    run's is not decided here.
    """
    path = file.find(config)
    from_file = file.read_file(path) if path else {}
    from_environment, warnings = file.read_environment(os.environ)
    found = applied(settings, origins, [from_file, from_environment, *flags], path)
    return replace(found, warnings=warnings)


def applied(
    settings: Settings, origins: Mapping[str, str], layers: Sequence[Layer], path: Path | None
) -> Effective:
    """Return settings with what layers give, weakest first; ``path`` is the settings file among them."""
    values, sources = resolve(layers, settings.reading.tz)
    own, machine = dict[str, Any](), dict[str, Any]()
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if first == MACHINE:
            machine[rest] = value
        else:
            own[name] = value
    found = Effective(
        changed(settings, own), changed(Machine(), machine), own, {**origins, **sources}, str(path or "")
    )
    if package := missing_engine(found.machine.engine):
        where = found.origins[f"{MACHINE}.engine"]
        raise UsageError(
            f"the {found.machine.engine} engine needs the package {package}, which is not installed",
            where=where,
            hint=f"pip install 'hs-analysis[{package}]', or use local",
        )
    return found
