"""Words of flags that hold a name and a value: the SLO, start-up times, captures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hs_analysis.errors import UsageError
from hs_analysis.settings.file import read_words
from hs_analysis.settings.known import Kind, by_key
from hs_analysis.settings.layers import Given, Layer
from hs_analysis.settings.values import seconds, suggestion

POOLS = ("prefill", "decode", "mixed")
SLO_KEYS = ("ttft", "tbt", "quantile", "window")


def read(kind: Kind, texts: Sequence[str], flag: str) -> Any:
    """Return the value of a flag; paths are relative to the current folder."""
    return read_words(kind, list(texts), flag, Path())


def slo(given: Sequence[str]) -> Layer:
    """Return the settings of ``--slo`` words: ``ttft=2.5s``, ``tbt=50ms``, ``quantile=…``, ``window=60s``."""
    found: dict[str, Given] = {}
    for word in given:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value:
            raise UsageError(f"{word!r} has no value", where="--slo", hint="write e.g. --slo ttft=2.5s")
        if key not in SLO_KEYS:
            raise UsageError(f"no such limit {key!r}", where="--slo", hint=suggestion(key, SLO_KEYS))
        setting, flag = by_key()[f"slo.{key}"], f"--slo {key}"
        if setting.field in found:
            raise UsageError(f"{key} is given twice", where="--slo", hint="keep one")
        found[setting.field] = Given(setting.kind.read(value, flag), flag)
    return found


def startup(given: Sequence[str]) -> Layer:
    """Return the settings of ``--startup`` words: ``240s`` for every pool, ``prefill=240s`` for one.

    The time of one pool wins over that of all, in whatever order they come.
    """
    times: dict[str, float] = {}
    for word in given:
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
    return {f"startup_s.{role}": Given(time, "--startup") for role, time in (for_all | times).items()}


def captures(given: Sequence[str]) -> dict[str, str]:
    """Return name → path of ``--capture NAME=PATH`` words."""
    found: dict[str, str] = {}
    for word in given:
        name, equals, path = (part.strip() for part in word.partition("="))
        if not equals or not name or not path:
            hint = "write e.g. --capture split-1-3=sweep/p1-d3"
            raise UsageError(f"{word!r} is not NAME=PATH", where="--capture", hint=hint)
        if name in found:
            raise UsageError(f"{name} is given twice", where="--capture", hint="keep one")
        if not Path(path).exists():
            raise UsageError(f"no such file or folder: {path}", where="--capture", hint="check the path")
        found[name] = path
    return found
