"""hsa.toml: found, parsed and checked; errors name the file, the line and the key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hs_analysis.errors import HsError, InputError, ManyErrors, UsageError
from hs_analysis.settings import stretches
from hs_analysis.settings.known import REMOVED, Kind, Setting, by_key
from hs_analysis.settings.layers import Given, Layer
from hs_analysis.settings.sections import SECTIONS, Section
from hs_analysis.settings.toml_lines import line_of
from hs_analysis.settings.values import moment, suggestion

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


def read(path: Path) -> Layer:
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
        raise UsageError(f"not TOML: {error}", where=str(path), hint="hsa init writes a valid one") from error
    return _File(path, text).layer(data)


class _File:
    """One file as it is read: its place, its text for line numbers, and the problems found so far."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._found: dict[str, Given] = {}
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
        words = value if kind.many else [value]
        if not isinstance(words, list):
            raise UsageError(f"{_shown(value)} is no list", where=where, hint=f"write {setting.example}")
        for word in words:
            if type(word) not in kind.toml:
                what = f"expected {kind.name}, found {_shown(word)}"
                raise UsageError(what, where=where, hint=f"write e.g. {path[-1]} = {setting.example}")
        texts = [_shown(word) if not isinstance(word, str) else word for word in words]
        return read_words(kind, texts, where, self._path.parent)

    def _give(self, field: str, value: Any, path: tuple[str, ...]) -> None:
        line = line_of(self._text, path)
        self._found[field] = Given(value, f"{self._path} line {line}" if line else str(self._path))

    def _refuse(self, what: str, path: tuple[str, ...], hint: str) -> None:
        self._errors.append(UsageError(what, where=self._where("", path), hint=hint))

    def _where(self, section: str, path: tuple[str, ...]) -> str:
        whole = (section, *path) if section else path
        line = line_of(self._text, whole)
        place = f"{self._path} line {line}" if line else str(self._path)
        return f"{place}: {'.'.join(whole)}"


def read_words(kind: Kind, texts: list[str], where: str, folder: Path) -> Any:
    """Return the value of a setting from its texts: one, or several of a list.

    What holds times becomes a function of the time zone, which may come from a stronger source.
    """
    if kind.local == "excluded":
        return lambda tz: stretches.excluded(texts, where, folder, tz)
    if kind.local == "events":
        return lambda tz: stretches.events(texts, where, folder, tz)
    if kind.local == "moment":
        return lambda tz: moment(texts[0], where, tz)
    found = tuple(kind.read(text, where) for text in texts)
    return found if kind.many else found[0]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)
