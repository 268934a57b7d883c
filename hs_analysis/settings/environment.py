"""HSA_* variables: ``HSA_`` and the setting's key in capitals, dots as underscores."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from hs_analysis.settings.file import read_words
from hs_analysis.settings.known import REMOVED, SETTINGS
from hs_analysis.settings.layers import Given, Layer

PREFIX = "HSA_"

NEAR = 0.8
"""How alike a variable and a setting must be for the one to be a misspelt other [ratio of letters]."""


def read(environment: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """Return what the environment gives, and a warning for each variable that only looks like a setting.

    An empty variable gives nothing. Lists are separated by commas.

    Raises
    ------
    UsageError
        When a value can't be understood.
    """
    known = {setting.variable: setting for setting in SETTINGS}
    layer, warnings = {}, []
    for name in sorted(name for name in environment if name.startswith(PREFIX)):
        text, setting = environment[name].strip(), known.get(name)
        if setting is None:
            warnings += _warning(name, list(known))
        elif text:
            words = [word.strip() for word in text.split(",") if word.strip()]
            value = read_words(setting.kind, words if setting.kind.many else [text], name, Path())
            layer[setting.field] = Given(value, name)
    return layer, tuple(warnings)


def _warning(name: str, known: list[str]) -> list[str]:
    """Return a warning for a variable of a section of settings, or spelt nearly like one; else nothing."""
    section = name.split("_")[1]
    if section.lower() in REMOVED:
        return [f"{name} sets nothing; its setting was removed: {REMOVED[section.lower()]}"]
    sections = {variable.split("_")[1] for variable in known if variable.count("_") > 1}
    endings = {variable.removeprefix(PREFIX): variable for variable in known}
    near = get_close_matches(name.removeprefix(PREFIX), list(endings), n=1, cutoff=NEAR)
    if near:
        return [f"{name} sets nothing; did you mean {endings[near[0]]}?"]
    if section in sections:
        same = [variable for variable in known if variable.split("_")[1] == section]
        return [f"{name} sets nothing; known: {', '.join(same)}"]
    return []
