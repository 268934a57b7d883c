"""Words of flags that hold a name and a value, or name a file: SLO, start-up times, captures, policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hs_analysis.errors import InputError, UsageError
from hs_analysis.schema.names import FAULTS, POOL_ROLES
from hs_analysis.schema.settings import Document
from hs_analysis.settings.file import GivenValue, Layer, read_words
from hs_analysis.settings.registry import ValueKind, by_key
from hs_analysis.settings.values import seconds, suggestion

NONE = "none"
SLO_KEYS = ("ttft", "tbt", "quantile", "window")


def read(kind: ValueKind, texts: Sequence[str], flag: str) -> Any:
    """Return the value of a flag; paths are relative to the current folder."""
    return read_words(kind, list(texts), flag, Path())


def slo(given: Sequence[str]) -> Layer:
    """Return the settings of ``--slo`` words: ``ttft=2.5s``, ``tbt=50ms``, ``quantile=…``, ``window=60s``."""
    found: dict[str, GivenValue] = {}
    for word in given:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value:
            raise UsageError(f"{word!r} has no value", where="--slo", hint="write e.g. --slo ttft=2.5s")
        if key not in SLO_KEYS:
            raise UsageError(f"no such limit {key!r}", where="--slo", hint=suggestion(key, SLO_KEYS))
        setting, flag = by_key()[f"slo.{key}"], f"--slo {key}"
        if setting.field in found:
            raise UsageError(f"{key} is given twice", where="--slo", hint="keep one")
        found[setting.field] = GivenValue(setting.kind.read(value, flag), flag)
    return found


def startup(given: Sequence[str]) -> Layer:
    """Return the settings of ``--startup`` words: ``240s`` for every pool, ``prefill=240s`` for one.

    The time of one pool wins over that of all, in whatever order they come.
    """
    times: dict[str, float] = {}
    for word in given:
        role, equals, value = (part.strip() for part in word.partition("="))
        if equals and role not in POOL_ROLES:
            raise UsageError(f"no such role {role!r}", where="--startup", hint=suggestion(role, POOL_ROLES))
        name, text = (role, value) if equals else ("", role)
        if name in times:
            what = f"{name or 'the time of every pool'} is given twice"
            raise UsageError(what, where="--startup", hint="keep one")
        times[name] = seconds(text, f"--startup {name}".rstrip())
    every = times.pop("", None)
    for_all = {} if every is None else dict.fromkeys(POOL_ROLES, every)
    return {f"startup_s.{role}": GivenValue(time, "--startup") for role, time in (for_all | times).items()}


def _halves(word: str, flag: str, form: str, example: str) -> tuple[str, str]:
    """Cut a word at its first ``=``; neither side may be empty."""
    left, _, right = (part.strip() for part in word.partition("="))
    if not left or not right:
        raise UsageError(f"{word!r} is not {form}", where=flag, hint=f"write e.g. {flag} {example}")
    return left, right


def captures(given: Sequence[str]) -> dict[str, str]:
    """Return name → path of ``--capture NAME=PATH`` words."""
    found: dict[str, str] = {}
    for word in given:
        name, path = _halves(word, "--capture", "NAME=PATH", "split-1-3=sweep/p1-d3")
        if name in found:
            raise UsageError(f"{name} is given twice", where="--capture", hint="keep one")
        if not Path(path).exists():
            raise UsageError(f"no such file or folder: {path}", where="--capture", hint="check the path")
        found[name] = path
    return found


def queries(given: Sequence[str]) -> dict[str, str]:
    """Return file or pattern → PromQL of ``--query FILE=PROMQL`` words."""
    found: dict[str, str] = {}
    for word in given:
        example = "'rates.json=sum(rate(gateway_tokens_total[1m]))'"
        file, text = _halves(word, "--query", "FILE=PROMQL", example)
        if found.setdefault(file, text) != text:
            raise UsageError(f"{file} is given twice", where="--query", hint="keep one")
    return found


def policies(given: Sequence[str]) -> tuple[Document, ...]:
    """Return the files of ``--policy`` words, each a policy that can be read; ``none`` takes all away."""
    files = _documents(given, "--policy")
    if not files:
        return files

    from hs_analysis.pipeline.faults import given_policies

    for file in files:
        if not given_policies(file.text, file.name):
            raise InputError("holds no policy", where=file.name, hint="give a policy.yaml")
    return files


def current(given: Sequence[str]) -> tuple[Document, ...]:
    """Return the files of ``--current`` words, ``FILE`` or ``prefill=FILE``; ``none`` takes all away."""
    files = _documents(given, "--current")
    if not files:
        return files

    from hs_analysis.current.documents import read_manifests

    for file in files:
        read_manifests(file.text, file.name)
    return files


def topology(given: Sequence[str]) -> tuple[Document, ...]:
    """Return the file of ``--topology``, one that can be read; ``none`` takes it away."""
    files = _documents(given, "--topology")
    if not files:
        return files

    from hs_analysis.policy.topology import load_topology

    for file in files:
        load_topology(file.text, file.name)
    return files


def faults(given: Sequence[str]) -> tuple[str, ...]:
    """Return the names of ``--fault`` words; ``none`` takes all away."""
    if list(given) == [NONE]:
        return ()
    known = ("all", *FAULTS)
    for name in given:
        if name not in known:
            raise UsageError(f"no such fault {name!r}", where="--fault", hint=suggestion(name, known))
    return tuple(dict.fromkeys(given))


def _documents(given: Sequence[str], flag: str) -> tuple[Document, ...]:
    """Read files whole: a run keeps them, without credentials, so that it can be made again."""
    from hs_analysis.pipeline.manifest import masked

    if list(given) == [NONE]:
        return ()
    found = []
    for word in given:
        role, equals, name = word.partition("=")
        if not equals or role not in POOL_ROLES:
            role, name = "", word
        try:
            text = Path(name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise InputError(
                f"can't be read ({reason})", where=name, hint=f"check the path of {flag}"
            ) from error
        found.append(Document(name, masked([text])[0], role))
    return tuple(found)
