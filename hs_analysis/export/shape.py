"""The shape of an object: which keys it may have and what stands behind them, as checks that say where.

A cluster ignores or refuses a key it does not know; here it is a sentence. Rules across fields stay with the
target that has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

Check = Callable[[Any, str], list[str]]
"""A value and where it stands → what is wrong with it, one sentence a problem."""

_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([numkMGTPE]|[KMGTPE]i)?", re.ASCII)
_UNITS = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def keys(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Return the check of an object that has the keys required, may have the others, and no more."""
    known = {**required, **(optional or {})}

    def check(value: Any, where: str) -> list[str]:
        if not isinstance(value, Mapping):
            return [f"{where} is no object"]
        found = [f"{_below(where, key)} is missing" for key in required if key not in value]
        found += [unknown(_below(where, key), key, known) for key in value if key not in known]
        for key in known.keys() & value.keys():
            found += known[key](value[key], _below(where, key))
        return sorted(found)

    return check


def some(known: Mapping[str, Check]) -> Check:
    """Return the check of an object that may have any keys, of which some are looked at where they are."""

    def check(value: Any, where: str) -> list[str]:
        if not isinstance(value, Mapping):
            return [f"{where} is no object"]
        found = [known[key](below, _below(where, key)) for key, below in value.items() if key in known]
        return [problem for problems in found for problem in problems]

    return check


def unknown(where: str, key: object, known: Iterable[str]) -> str:
    """Return the sentence about a key that is none, with the nearest one that is."""
    near = get_close_matches(str(key), list(known), n=1)
    return f"{where} is unknown{f'; did you mean {near[0]}?' if near else ''}"


def _below(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def named(each: Check, least: int = 1, most: int | None = None) -> Check:
    """Return the check of an object whose keys are names, ``least`` to ``most`` of them."""

    def check(value: Any, where: str) -> list[str]:
        if not isinstance(value, Mapping):
            return [f"{where} is no object"]
        if len(value) < least or (most is not None and len(value) > most):
            return [
                f"{where} has {len(value)} entries, not {least} to {'any number' if most is None else most}"
            ]
        return [problem for key, below in value.items() for problem in each(below, _below(where, key))]

    return check


def listed(each: Check, least: int = 1) -> Check:
    """Return the check of a list of at least so many entries."""

    def check(value: Any, where: str) -> list[str]:
        if not isinstance(value, list):
            return [f"{where} is no list"]
        if len(value) < least:
            return [f"{where} has {len(value)} entries and needs {least}"]
        return [problem for i, below in enumerate(value) for problem in each(below, f"{where}[{i}]")]

    return check


def text(value: Any, where: str) -> list[str]:
    """Check a text that is not empty."""
    return [] if isinstance(value, str) and value else [f"{where} {value!r} is not a text"]


def anything(_value: Any, _where: str) -> list[str]:
    """Check nothing."""
    return []


def choice(*words: Any) -> Check:
    """Return the check of a value that is one of a few."""

    def check(value: Any, where: str) -> list[str]:
        said = ", ".join(map(str, words))
        return [] if value in words else [f"{where} {value!r} is not one of {said}"]

    return check


def whole(least: int, most: int | None = None) -> Check:
    """Return the check of a whole number; a text is none."""

    def check(value: Any, where: str) -> list[str]:
        number = isinstance(value, int) and not isinstance(value, bool)
        if number and value >= least and (most is None or value <= most):
            return []
        return [f"{where} {value!r} is not a whole number {least} to {'any' if most is None else most}"]

    return check


def between(least: float, most: float) -> Check:
    """Return the check of a number, ends included; a text is none."""

    def check(value: Any, where: str) -> list[str]:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (
            [] if number and least <= value <= most else [f"{where} {value!r} is not {least:g} to {most:g}"]
        )

    return check


def amount(text: str) -> float | None:
    """Return a quantity of Kubernetes (``3800``, ``45m``, ``.5Ki``) as a number; None when it is none."""
    found = _QUANTITY.fullmatch(text)
    return float(found[1]) * _UNITS[found[2] or ""] if found else None


def quantity(value: Any, where: str) -> list[str]:
    """Check a quantity of Kubernetes above zero, written as a text so that no reader rounds it."""
    if isinstance(value, str) and (amount(value) or 0.0) > 0:
        return []
    return [f"{where} {value!r} is not a quantity above 0 in quotes"]


def duration(most_s: float) -> Check:
    """Return the check of a duration such as ``15s`` or ``5m``, from 0 up to so many seconds."""

    def check(value: Any, where: str) -> list[str]:
        found = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
        if found is None:
            return [f"{where} {value!r} is not a duration"]
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        length_s = 3600 * hours + 60 * minutes + seconds
        return [] if length_s <= most_s else [f"{where} {value!r} is more than {most_s:g} s"]

    return check
