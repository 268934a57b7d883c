"""Values of settings as text: durations, shares, moments, sizes; errors name the setting and the form."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hs_analysis import patterns
from hs_analysis.errors import UsageError
from hs_analysis.schema.names import KUBERNETES_NAME, WORKLOAD_KINDS
from hs_analysis.schema.settings import CountLimits

UNIT_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

EPOCH_DIGITS = {10: 1.0, 13: 1e3, 16: 1e6, 19: 1e9}
"""Digits of a Unix time of this century → parts of a second it counts in; no other length is one."""

TEXT_JSON = {"type": "string", "pattern": r"\S"}
"""JSON Schema of a text that is not empty."""

DURATION_PATTERN = r"^\s*((\d+(\.\d+)?|\.\d+)(ms|s|m|h|d))+\s*$"
"""What `seconds` reads, as an editor checks it; it leaves the zero to `seconds`."""

_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)")
_LABEL = re.compile(
    r"([a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
    r"=([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
)
_SIZE = re.compile(r"\d+(?:\.\d+)?\s*(?:[KMGT]i?B|B)", re.IGNORECASE)


def seconds(text: str, where: str) -> float:
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
        if _NOT_ABOVE_ZERO.fullmatch(word):
            raise _not_above_zero(text, where)
        what = f"{text!r} has no unit" if bare else f"{text!r} is not a duration"
        number = f"{float(word):.15g}" if bare else ""  # +5 and 1e3 are not read with a unit either
        example = f"{number}s or {number}ms" if bare else "50ms, 2.5s, 4m or 1h30m"
        raise UsageError(what, where=where, hint=f"write {_spelt(word) or f'e.g. {example}'}")
    total = math.fsum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
    if total <= 0:
        raise _not_above_zero(text, where)
    return total


def _not_above_zero(text: str, where: str) -> UsageError:
    """Return the error of a duration that is no time, whatever its unit would be."""
    return UsageError(f"{text!r}: a duration must be above zero", where=where, hint="write e.g. 2.5s")


_NOT_ABOVE_ZERO = re.compile(r"(?:-[\d.]*\d|[+]?0*\.?0+)(?:e[-+]?\d+)?\s*[a-z]*", re.IGNORECASE)
"""A zero or a negative number, with a unit or without."""

_SPELT = re.compile(
    r"(\d+(?:\.\d+)?)\s*(?:(ms)|(s)ec(?:ond)?s?|(m)in(?:ute)?s?|(h)(?:ou)?rs?|(d)ays?|([smhd]))",
    re.IGNORECASE,
)


def _spelt(word: str) -> str:
    """Return ``4m`` for ``4 min``; empty for what is no number with a unit in other letters."""
    found = _SPELT.fullmatch(word)
    return found[1] + next(unit for unit in found.groups()[1:] if unit).lower() if found else ""


def share(text: str, where: str) -> float:
    """Return a share strictly between 0 and 1, given as ``0.95`` or ``95%``."""
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100.0 if percent else 1.0)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a share", where=where, hint="write e.g. 0.95 or 95%") from error
    if not 0.0 < value < 1.0:
        raise UsageError(f"{text} is not between 0 and 1", where=where, hint="write e.g. 0.95 or 95%")
    return value


def whole_share(text: str, where: str) -> float:
    """Return a share above 0 and at most 1."""
    return 1.0 if text in ("1", "1.0", "100%") else share(text, where)


def whole_number(least: int) -> Callable[[str, str], int]:
    """Return a reader of whole numbers from `least` on."""

    def read(text: str, where: str) -> int:
        if not re.fullmatch(r"[-+]?\d+", text.strip()) or int(text) < least:
            raise UsageError(
                f"{text!r} is not a whole number from {least} on", where=where, hint=f"write e.g. {least}"
            )
        return int(text)

    return read


def count_limits(text: str, where: str) -> CountLimits:
    """Return least and most instances, given as ``2..40``, ``2..`` or ``..40``.

    Raises
    ------
    UsageError
        When an end is no whole number from 1 on, both are missing, or the least is above the most.
    """
    first, dots, last = (part.strip() for part in text.partition(".."))
    if not dots:
        raise UsageError(f"{text!r} is not MIN..MAX", where=where, hint="write e.g. 2..40, 2.. or ..40")
    least, most = (whole_number(1)(end, where) if end else None for end in (first, last))
    return in_order(least, most, where)


def in_order(least: int | None, most: int | None, where: str) -> CountLimits:
    """Return the limits of a pool, after checking that one is given and the least is not above the most."""
    if least is None and most is None:
        raise UsageError("it limits nothing", where=where, hint="give min, max or both")
    if least is not None and most is not None and least > most:
        raise UsageError(f"min {least} is above max {most}", where=where, hint="swap them")
    return CountLimits(least, most)


def web_address(text: str, where: str) -> str:
    """Return an address of a server over HTTP as text.

    Raises
    ------
    UsageError
        When it has another scheme, no host, or credentials, which would end up in files that are shared.
    """
    example = "write e.g. http://prometheus.monitoring.svc:9090"
    return _address(
        text, where, "a server", example, "leave them out: the autoscaler takes them from a secret"
    )


def web_page(text: str, where: str) -> str:
    """Return an address of a page as text; errors as in `web_address`."""
    return _address(text, where, "a page", "write it with http:// or https://", "leave them out")


def _address(text: str, where: str, what: str, example: str, without: str) -> str:
    try:
        parts = urlsplit(text.strip())
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known or re.search(r"\s", text.strip()):
        raise UsageError(f"{text!r} is no address of {what}", where=where, hint=example)
    if "@" in parts.netloc:
        raise UsageError("the address holds credentials", where=where, hint=without)
    return text.strip()


def object_name(text: str, where: str) -> str:
    """Return the name of an object of Kubernetes."""
    if not re.fullmatch(KUBERNETES_NAME, text.strip()):
        hint = "small letters, digits, - and ."
        raise UsageError(f"{text!r} is no name of an object", where=where, hint=hint)
    return text.strip()


def workload(text: str, where: str) -> str:
    """Return what an autoscaler scales, as ``KIND/NAME`` or ``GROUP/VERSION/KIND/NAME``.

    Raises
    ------
    UsageError
        When it has another form, or its kind alone does not tell the group.
    """
    *version, kind, name = ["", *text.strip().split("/")]
    version = [part for part in version if part]
    if not kind or len(version) not in (0, 2):
        hint = "write e.g. Deployment/chat-decode"
        raise UsageError(f"{text!r} is not KIND/NAME", where=where, hint=hint)
    object_name(name, where)
    if not version and kind not in WORKLOAD_KINDS:
        near = suggestion(kind, WORKLOAD_KINDS)
        hint = f"{near}; of another kind write GROUP/VERSION/KIND/NAME"
        raise UsageError(f"no kind {kind!r} is known", where=where, hint=hint)
    return "/".join([*version, kind, name])


def label(text: str, where: str) -> str:
    """Return a label of an object as ``NAME=VALUE``."""
    if not _LABEL.fullmatch(text.strip()):
        raise UsageError(f"{text!r} is no label", where=where, hint="write e.g. release=prometheus")
    return text.strip()


def kube_version(text: str, where: str) -> str:
    """Return a version of Kubernetes as ``1.33``, whatever stands behind it."""
    found = re.fullmatch(r"v?(1\.\d{1,2})(?:[.+-].*)?", text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no version of Kubernetes", where=where, hint='write e.g. "1.33"')
    return found[1]


def switch(text: str, where: str) -> bool:
    """Return ``true`` or ``false``."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.strip().lower() not in known:
        raise UsageError(f"{text!r} is neither true nor false", where=where, hint="write true or false")
    return known[text.strip().lower()]


def word_of(*known: str) -> Callable[[str, str], str]:
    """Return a reader that takes one of some words."""

    def read(text: str, where: str) -> str:
        if text not in known:
            raise UsageError(f"{text!r} is none of its values", where=where, hint=suggestion(text, known))
        return text

    return read


def plain(text: str, where: str) -> str:
    """Return a text that is not empty."""
    if not text.strip():
        raise UsageError("the text is empty", where=where, hint="leave the setting out instead")
    return text


def pattern(text: str, where: str) -> str:
    """Return a regular expression as text, after checking that it is one that never backtracks."""
    return patterns.check(text, where)


def named_groups(text: str, where: str) -> str:
    """Return a regular expression with at least one named group."""
    if not patterns.group_names(pattern(text, where)):
        hint = "name what becomes a label, e.g. (?P<pod>\\S+)"
        raise UsageError(f"{text!r} has no named group", where=where, hint=hint)
    return text


def size(text: str, where: str) -> str:
    """Return an amount of memory as text, e.g. ``4GB``."""
    if not _SIZE.fullmatch(text.strip()):
        raise UsageError(f"no amount of memory: {text!r}", where=where, hint="write it like 4GB")
    return text.strip()


def zone(text: str, where: str) -> str:
    """Return the name of a time zone, after checking that there is one."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = "write UTC or a name like Europe/Berlin"
        raise UsageError(f"no such time zone {text!r}", where=where, hint=hint) from error
    return text


def moment(text: str, where: str, tz: str | None = None) -> str:
    """Return a time as ISO 8601 UTC text ending in Z.

    Parameters
    ----------
    text
        ISO 8601, or Unix time in seconds, ms, µs or ns, told apart by its digits.
    where
        What it is of, for errors.
    tz
        Zone of a time that carries none; None refuses it.

    Raises
    ------
    UsageError
        For what is no time, for a time without a zone where none is known, and for a local time that a clock
        change makes ambiguous or skips.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return _unix(text.strip(), where)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a time", where=where, hint="write e.g. 2026-07-01T00:00:00Z"
        ) from error
    if found.tzinfo is None:
        if tz is None:
            naive = found.isoformat(timespec="seconds")
            hint = f"write e.g. {naive}Z for UTC, or give the zone with --tz"
            raise UsageError(f"time {text!r} has no zone", where=where, hint=hint)
        found = _local(found, tz, where)
    return _utc(found)


def _unix(text: str, where: str) -> str:
    digits = len(text.partition(".")[0])
    if digits not in EPOCH_DIGITS:
        hint = "Unix seconds have 10 digits, ms 13, µs 16, ns 19"
        raise UsageError(f"{text} is no time of this century", where=where, hint=hint)
    return _utc(datetime.fromtimestamp(float(text) / EPOCH_DIGITS[digits], UTC))


def _local(naive: datetime, tz: str, where: str) -> datetime:
    """Return a local time with its zone; a repeated or skipped hour has no one answer."""
    found = naive.replace(tzinfo=ZoneInfo(tz))
    if found.utcoffset() != found.replace(fold=1).utcoffset():
        what = f"{naive.isoformat(sep=' ')} is not one moment in {tz}: the clock changes then"
        raise UsageError(what, where=where, hint="write it with its offset, e.g. +02:00")
    return found


def _utc(found: datetime) -> str:
    return found.astimezone(UTC).isoformat().replace("+00:00", "Z")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean …?`` when a known name is near, else the list of known names."""
    names = list(known)
    near = get_close_matches(word, names, n=1)
    if not near and len(word) > 2:
        near = [name for name in names if word in name][:1]
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
