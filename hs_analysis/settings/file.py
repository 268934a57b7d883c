"""Where settings come from: defaults, hsa.toml, HSA_* variables and flags, and which of them wins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from hs_analysis.errors import HsError, InputError, ManyErrors, UsageError
from hs_analysis.settings import time_ranges
from hs_analysis.settings.registry import REMOVED, SETTINGS, Setting, ValueKind, by_key
from hs_analysis.settings.sections import SECTIONS, Section
from hs_analysis.settings.values import moment, suggestion

_BARE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEY = re.compile(rf"\s*({_BARE}(?:\s*\.\s*{_BARE})*)\s*=")
_SECTION = re.compile(rf"\s*\[\s*({_BARE}(?:\s*\.\s*{_BARE})*)\s*\]")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Return the line of a key, of the first key inside it, of the nearest key around it, or None.

    Keys inside an inline table stand on the line of the key that holds it. A text that spans lines may hide
    a line that looks like a key; then a later line can be named, never a wrong file.
    """
    best: tuple[int, int] | None = None  # parts of the path that match, line
    below: int | None = None  # first line of a key inside what the path names
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _SECTION.match(line):
            section = here = _parts(found[1])
        elif found := _KEY.match(line):
            here = (*section, *_parts(found[1]))
        else:
            continue
        if here == tuple(path[: len(here)]) and (best is None or len(here) > best[0]):
            best = (len(here), number)
        elif here[: len(path)] == tuple(path):
            below = below or number
    return best[1] if best and (below is None or best[0] == len(path)) else below


def _parts(key: str) -> tuple[str, ...]:
    """Return the parts of a dotted key as the parser reads them."""
    place = tomllib.loads(f"{key} = 0")
    parts = []
    while isinstance(place, dict):
        (part,) = place
        parts.append(part)
        place = place[part]
    return tuple(parts)


TZ = "reading.tz"
"""The setting that says how times without a zone are read."""

DEFAULT = "default"
"""Where a setting is from that nobody gave."""


@dataclass(frozen=True)
class GivenValue:
    """A setting as one source gave it.

    Attributes
    ----------
    value
        The value; a function of the time zone where it holds times, since that may come from another source.
    source
        Where it was given: ``hsa.toml line 3``, ``HSA_SLO_TTFT`` or ``--slo ttft``.
    """

    value: Any
    source: str

    def at(self, tz: str | None) -> Any:
        """Return the value, its times read in a zone."""
        return self.value(tz) if callable(self.value) else self.value


Layer = Mapping[str, GivenValue]
"""What one source gives, by dotted name of a field of Settings (or ``machine.<field>``)."""


def resolve(layers: Sequence[Layer], tz: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that win and where each is from, by dotted name.

    Parameters
    ----------
    layers
        Weakest first; a setting of a later one replaces that of an earlier one as a whole.
    tz
        Zone of times that carry none, where no layer gives one.

    Raises
    ------
    UsageError
        When a time can't be read, or the window ends before it starts.
    """
    won: dict[str, GivenValue] = {}
    for layer in layers:
        won |= layer
    zone = won[TZ].value if TZ in won else tz
    values = {name: given.at(zone) for name, given in won.items()}
    origins = {name: given.source for name, given in won.items()}
    start, end = values.get("start"), values.get("end")
    if start and end and datetime.fromisoformat(start) >= datetime.fromisoformat(end):
        where = f"{origins['start']} and {origins['end']}"
        raise UsageError(f"{start} is not before {end}", where=where, hint="swap them")
    return values, origins


FILE_NAME = "hsa.toml"


def find(named: Path | None) -> Path | None:
    """Return the settings file: the one named, else hsa.toml in the current folder, else None.

    Raises
    ------
    InputError
        When the named one is not there.
    """
    if named is None:
        return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None
    if not named.is_file():
        hint = f"check the path, or write one with hsa init {named.parent}"
        raise InputError("no such settings file", where=str(named), hint=hint)
    return named


def read_file(path: Path) -> Layer:
    """Return what a settings file gives.

    Raises
    ------
    InputError
        When the file can't be read, or is not TOML.
    UsageError, ManyErrors
        For unknown sections and keys, and for values of another form; each names line and key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't be read ({error})", where=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at line (\d+), column \d+\)", str(error))
        where = f"{path} line {found[1]}" if found else str(path)
        what = str(error).replace(found[0], "") if found else str(error)
        raise UsageError(f"not TOML: {what}", where=where, hint="hsa init writes a valid one") from error
    return _SettingsFile(path, text).layer(data)


def read_mapping(data: Mapping[str, Any], name: str = "settings") -> Layer:
    """Return what a mapping gives that is nested as a settings file is: ``{"slo": {"ttft": "1s"}}``.

    ``name`` stands for the file in messages; relative paths are those of the current folder.

    Raises
    ------
    UsageError, ManyErrors
        For unknown sections and keys, and for values of another form; each names the key.
    """
    return _SettingsFile(Path(name), "").layer(data)


class _SettingsFile:
    """One file as it is read: its place, its text for line numbers, and the problems found so far."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._found: dict[str, GivenValue] = {}
        self._errors: list[HsError] = []

    def layer(self, data: Mapping[str, Any]) -> Layer:
        """Return everything the file gives; all problems are raised together."""
        sections = {section.name: section for section in SECTIONS}
        for name, value in data.items():
            if name in sections:
                self._section(sections[name], value)
            elif isinstance(value, Mapping):
                self._keys(name, value)
            else:
                self._one(name, value, "")
        if self._errors:
            more = f"hsa validate {self._path}"
            raise self._errors[0] if len(self._errors) == 1 else ManyErrors(self._errors, more=more)
        return self._found

    def _section(self, section: Section, value: Any) -> None:
        where = partial(self._where, section.name)
        try:
            if not isinstance(value, Mapping):
                raise UsageError(
                    "this is a section", where=where(()), hint=f"write it below [{section.name}]"
                )
            found = section.read(value, where, self._path.parent)
            if found:
                self._give(section.field, found, (section.name,))
        except ManyErrors as error:
            self._errors += error.errors
        except HsError as error:
            self._errors.append(error)

    def _keys(self, name: str, table: Mapping[str, Any]) -> None:
        names = list(dict.fromkeys(key.partition(".")[0] for key in by_key() if "." in key))
        if name in REMOVED:
            self._refuse("this section was removed", (name,), REMOVED[name])
            return
        if name not in names:
            known = [*names, *(section.name for section in SECTIONS)]
            self._refuse(f"no such section [{name}]", (name,), suggestion(name, known))
            return
        for key, value in table.items():
            self._one(key, value, name)

    def _one(self, key: str, value: Any, section: str) -> None:
        path = (section, key) if section else (key,)
        setting = by_key().get(".".join(path))
        if setting is None:
            prefix = f"{section}." if section else ""
            known = [k.removeprefix(prefix) for k in by_key() if k.rpartition(".")[0] == section]
            elsewhere = [k for k in by_key() if k.rpartition(".")[2] == key]
            hint = f"it belongs below [{elsewhere[0].rpartition('.')[0]}]" if elsewhere else ""
            if elsewhere and "." not in elsewhere[0]:
                hint = "it belongs above the first section"
            what = f"no such key {key!r}" + (f" in [{section}]" if section else "")
            self._refuse(what, path, hint or suggestion(key, known))
            return
        try:
            self._give(setting.field, self._value(setting, value, path), path)
        except HsError as error:
            self._errors.append(error)

    def _value(self, setting: Setting, value: Any, path: tuple[str, ...]) -> Any:
        where, kind = self._where("", path), setting.kind
        if kind.ends and isinstance(value, Mapping):
            value = self._both_ends(kind, value, path)
        words = value if kind.many else [value]
        if not isinstance(words, list):
            raise UsageError(f"{_quoted(value)} is no list", where=where, hint=f"write {setting.example}")
        for word in words:
            if type(word) not in kind.toml:
                what = f"expected {kind.name}, found {_quoted(word)}"
                raise UsageError(what, where=where, hint=f"write e.g. {path[-1]} = {setting.example}")
        texts = [_quoted(word) if not isinstance(word, str) else word for word in words]
        return read_words(kind, texts, where, self._path.parent)

    def _both_ends(self, kind: ValueKind, table: Mapping[str, Any], path: tuple[str, ...]) -> str:
        """Return the text that a table of two ends stands for: { min = 2, max = 40 } is 2..40."""
        for key, end in table.items():
            where = self._where("", (*path, key))
            if key not in kind.ends:
                raise UsageError(f"no such key {key!r}", where=where, hint=suggestion(key, kind.ends))
            if type(end) is not int:
                what = f"expected whole number, found {_quoted(end)}"
                raise UsageError(what, where=where, hint=f"write e.g. {key} = 2")
            kind.read(f"{end}..", where)
        return "..".join(str(table.get(key, "")) for key in kind.ends)

    def _give(self, field: str, value: Any, path: tuple[str, ...]) -> None:
        line = line_of(self._text, path)
        self._found[field] = GivenValue(value, f"{self._path} line {line}" if line else str(self._path))

    def _refuse(self, what: str, path: tuple[str, ...], hint: str) -> None:
        self._errors.append(UsageError(what, where=self._where("", path), hint=hint))

    def _where(self, section: str, path: tuple[str, ...]) -> str:
        whole = (section, *path) if section else path
        line = line_of(self._text, whole)
        place = f"{self._path} line {line}" if line else str(self._path)
        return f"{place}: {'.'.join(whole)}"


def read_words(kind: ValueKind, texts: list[str], where: str, folder: Path) -> Any:
    """Return the value of a setting from its texts: one, or several of a list.

    What holds times becomes a function of the time zone, which may come from a stronger source.
    """
    if kind.local == "excluded":
        return lambda tz: time_ranges.excluded(texts, where, folder, tz)
    if kind.local == "events":
        return lambda tz: time_ranges.events(texts, where, folder, tz)
    if kind.local == "moment":
        return lambda tz: moment(texts[0], where, tz)
    found = tuple(kind.read(text, where) for text in texts)
    return found if kind.many else found[0]


def _quoted(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)


PREFIX = "HSA_"

NEAR = 0.8
"""How alike a variable and a setting must be for the one to be a misspelt other [ratio of letters]."""


def read_environment(environment: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
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
            layer[setting.field] = GivenValue(value, name)
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
