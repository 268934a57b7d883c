"""Values of flags: durations, the SLO, start-up times, moments; errors name the flag and the form."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from hs_analysis.errors import UsageError

UNIT_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
POOLS = ("prefill", "decode", "mixed")

_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)")
_SLO_KEYS = {"ttft": "slo.ttft_s", "tbt": "slo.tbt_s", "quantile": "slo.quantile", "window": "slo.window_s"}


def seconds(text: str, flag: str) -> float:
    """Return a duration such as ``50ms``, ``2.5s``, ``4m`` or ``1h30m`` in seconds.

    Raises
    ------
    UsageError
        When the unit is missing or unknown, or the duration is not above zero.
    """
    word = text.strip()
    parts = _PART.findall(word)
    if not parts or "".join(number + unit for number, unit in parts) != word:
        bare = re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", word)
        what = f"{text!r} has no unit" if bare else f"{text!r} is not a duration"
        example = f"{word}s or {word}ms" if bare else "50ms, 2.5s, 4m or 1h30m"
        raise UsageError(what, where=flag, hint=f"write e.g. {example}")
    total = math.fsum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
    if total <= 0:
        raise UsageError("a duration must be above zero", where=flag, hint="write e.g. 2.5s")
    return total


def slo_changes(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings of ``--slo`` words: ``ttft=2.5s``, ``tbt=50ms``, ``quantile=…``, ``window=60s``."""
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value:
            raise UsageError(f"{word!r} has no value", where="--slo", hint="write e.g. --slo ttft=2.5s")
        if key not in _SLO_KEYS:
            raise UsageError(f"no such limit {key!r}", where="--slo", hint=suggestion(key, _SLO_KEYS))
        if _SLO_KEYS[key] in changes:
            raise UsageError(f"{key} is given twice", where="--slo", hint="keep one")
        flag = f"--slo {key}"
        changes[_SLO_KEYS[key]] = share(value, flag) if key == "quantile" else seconds(value, flag)
    return changes


def share(text: str, flag: str) -> float:
    """Return a share strictly between 0 and 1, given as ``0.95`` or ``95%``."""
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100.0 if percent else 1.0)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a share", where=flag, hint="write e.g. 0.95 or 95%") from error
    if not 0.0 < value < 1.0:
        raise UsageError(f"{text} is not between 0 and 1", where=flag, hint="write e.g. 0.95 or 95%")
    return value


def startup_changes(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings of ``--startup`` words: ``240s`` for every pool, ``prefill=240s`` for one.

    The time of one pool wins over that of all, in whatever order they come.
    """
    times: dict[str, float] = {}
    for word in words:
        role, equals, value = (part.strip() for part in word.partition("="))
        if equals and role not in POOLS:
            raise UsageError(f"no such role {role!r}", where="--startup", hint=suggestion(role, POOLS))
        name, text = (role, value) if equals else ("", role)
        if name in times:
            what = f"{name or 'the time of every pool'} is given twice"
            raise UsageError(what, where="--startup", hint="keep one")
        times[name] = seconds(text, f"--startup {name}".rstrip())
    every = times.pop("", None)
    for_all = {} if every is None else dict.fromkeys(POOLS, every)
    return {f"startup_s.{role}": time for role, time in (for_all | times).items()}


def moment(text: str, flag: str) -> str:
    """Return a time with its zone as ISO 8601 UTC text ending in Z.

    Raises
    ------
    UsageError
        For what is no time, and for a time without a zone: whose midnight it is can't be guessed.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a time", where=flag, hint="write e.g. 2026-07-01T00:00:00Z"
        ) from error
    if found.tzinfo is None:
        naive = found.isoformat(timespec="seconds")
        raise UsageError(f"time {text!r} has no zone", where=flag, hint=f"write e.g. {naive}Z for UTC")
    return found.astimezone(UTC).isoformat().replace("+00:00", "Z")


def bounds_changes(start: str | None, end: str | None) -> dict[str, Any]:
    """Return the settings of ``--from`` and ``--to``."""
    changes: dict[str, Any] = {}
    if start is not None:
        changes["start"] = moment(start, "--from")
    if end is not None:
        changes["end"] = moment(end, "--to")
    if len(changes) == 2 and datetime.fromisoformat(changes["start"]) >= datetime.fromisoformat(
        changes["end"]
    ):
        raise UsageError(f"{start} is not before {end}", where="--from and --to", hint="swap them")
    return changes


def suggestion(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Return ``did you mean …?`` when a known name is near, else the list of known names."""
    names = list(known)
    near = get_close_matches(word, names, n=1)
    if not near and len(word) > 2:
        near = [name for name in names if word in name][:1]
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
