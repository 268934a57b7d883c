"""Other names for what identifies a fleet: the same value has the same alias in all that a report holds.

Replaced are label values, names of services, captures, files and addresses, wherever they stand: in tables,
sentences, queries, evidence links and the policy. Numbers, times, roles, metric names and GPU types stay.
So do words that the report itself uses (`vocabulary`), such as a container called ``engine``: they tell
nothing. A note that the user wrote on an event or an excluded stretch is one value.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from os.path import commonprefix
from typing import Any

import polars as pl

from hs_analysis import evidence
from hs_analysis.catalogue import load_catalogue
from hs_analysis.errors import HsError
from hs_analysis.schema.names import BASELINES

KINDS = ("namespace", "model", "pod", "host", "address", "deployment", "capture", "file", "name")
"""What an alias says of the value that it stands for; a value of several kinds is of the first."""

LABEL_KINDS = {
    "namespace": ("namespace",),
    "model": ("model",),
    "pod": ("pod", "instance"),
    "host": ("host", "node"),
    "deployment": ("deployment", "statefulset", "replicaset", "leaderworkerset"),
}
"""Kind → parts of the label names that carry it; a value of any other label is a ``name``."""

SPOKEN_LABELS = frozenset({
    "code", "component", "device_type", "dp_rank", "dynamo_component", "endpoint", "error_type",
    "finish_reason", "finished_reason", "gpu", "gpu_type", "le", "method", "modelName", "operation", "phase",
    "quantile", "reason", "request_type", "role", "source", "stage", "state", "status", "type", "unit",
    "worker_type",
})  # fmt: skip
"""Labels whose values say what a series measures, not whose it is: they are not replaced."""

HEX_DIGITS = 8
"""Digits of an alias made with a key: two of 1,000 values share one in a run of 10,000."""

SHORT_DIGITS = 6
"""Numbers of fewer digits are no names."""

_FORMS = (
    lambda text: text,
    lambda text: evidence.path(text, "study", "x").partition("/")[0],
    lambda text: text.replace(".", r"\."),
    lambda text: text.replace(".", r"\\."),
    lambda text: re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-"),
    lambda text: re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower(),
    lambda text: re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_"),
    lambda text: text.replace("/", "."),
    lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
)
"""Ways in which a value is written: as it is, in links, in patterns, in names of objects, in HTML."""

_ADDRESS = re.compile(
    r"(?:[a-z]+://)?((?:\d{1,3}\.){3}\d{1,3}|\[[0-9a-fA-F:]+\]|[\w.-]+\.\w+)(?::\d+)?(?:/.*)?"
)
_MATCHER = re.compile(r"""\b(\w+)\s*(?:=~|!~|!=|=)\s*\\?(["'])((?:\\.|(?!\2).)*?)\\?\2""")
_WRITTEN = (".py", ".jinja", ".js", ".css", "_templates.json")
"""Files whose words come into a report: the code that words it, its templates and charts."""

_LIBRARY = "chart_library"

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")


@dataclass(frozen=True)
class Aliases:
    """Aliases of the values of one run.

    Attributes
    ----------
    of
        Value → alias; values in all forms in which they are written.
    spoken
        Values that stay in running text because the report uses the word itself.
    """

    of: Mapping[str, str]
    spoken: frozenset[str]

    def text(self, text: str) -> str:
        """Return a text with every value replaced that stands in it as a whole."""
        if not text:
            return text
        text = _MATCHER.sub(self._matcher, text)
        pattern = _pattern(tuple(self.of))
        return pattern.sub(lambda found: self._alias(found[0]), text) if pattern else text

    def _alias(self, value: str) -> str:
        return value if value in self.spoken else self.of[value]

    def _matcher(self, found: re.Match[str]) -> str:
        """Return a label matcher of PromQL with its value replaced, a word of the report or not."""
        label, value = found[1], found[3]
        if label in SPOKEN_LABELS or value not in self.of:
            return found[0]
        start, end = found.start(3) - found.start(), found.end(3) - found.start()
        return found[0][:start] + self.of[value] + found[0][end:]

    def plain(self, node: Any) -> Any:
        """Return plain data (mappings, lists, texts) with every text replaced; keys stay."""
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, Mapping):
            return {key: self.plain(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [self.plain(value) for value in node]
        return node

    def frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a table with the values of its text columns replaced."""
        texts = [name for name, kind in frame.schema.items() if kind == pl.String]
        replaced = []
        for name in texts:
            known = frame[name].unique().drop_nulls().to_list()
            changed = {old: new for old in known if (new := self.text(old)) != old}
            if changed:
                replaced.append(pl.col(name).replace(changed))
        return frame.with_columns(replaced)

    def standing(self, text: str) -> list[str]:
        """Return the values that still stand in a text, words of the report left aside."""
        pattern = _pattern(tuple(self.of))
        found = set(pattern.findall(text)) if pattern else set()
        return sorted(found - self.spoken)


def aliases_of(names: Mapping[str, Collection[str]], services: Collection[str], key: bytes = b"") -> Aliases:
    """Return the aliases of a run.

    Parameters
    ----------
    names
        Values by kind (`KINDS`); empty ones, short numbers and ``-`` are left out.
    services
        Names of services: each part of ``namespace/model`` has its own alias.
    key
        Secret: an alias is a keyed hash of its value, the same in every report made with the key. Without
        one, values are numbered in their order, in this report alone: then nobody can check a guess.
    """
    kinds: dict[str, str] = {}
    for kind in KINDS:
        for value in sorted(names.get(kind, ())):
            if _names_something(value):
                kinds.setdefault(value, kind)
    for service in sorted(services):
        parts = service.split("/")
        for part, kind in zip(
            parts, ("namespace", "model") if len(parts) == 2 else ("name",) * len(parts), strict=True
        ):
            if part not in ("", "-"):
                kinds.setdefault(part, kind)
    aliases = {value: _alias(value, kind, place, key) for value, kind, place in _numbered(kinds)}
    whole = {
        service: "/".join(aliases.get(part, part) for part in service.split("/")) for service in services
    }
    forms: dict[str, str] = {}
    for value, alias in (whole | aliases).items():
        for form in _FORMS:
            if written := form(value):
                forms.setdefault(written, form(alias))
    spoken = frozenset(value for value in forms if value.lower() in vocabulary() and value not in whole)
    return Aliases({old: new for old, new in forms.items() if old != new}, spoken)


def kind_of_label(label: str) -> str | None:
    """Return the kind of the values of a label; None where they are not replaced."""
    if label in SPOKEN_LABELS:
        return None
    low = label.lower()
    return next((kind for kind, parts in LABEL_KINDS.items() if any(part in low for part in parts)), "name")


def address_of(value: str) -> str | None:
    """Return the host of an address (``10.0.0.1:8000``, ``http://prometheus.svc:9090``), None without one."""
    found = _ADDRESS.fullmatch(value)
    return found[1] if found else None


def check(aliases: Aliases, page: str) -> None:
    """Refuse a page, as `hs_analysis.report.packing.spread` returns it, in which a value still stands.

    Raises
    ------
    HsError
        With the values; nothing may be written then.
    """
    if left := aliases.standing(page):
        raise HsError(
            f"{len(left)} values are still in the report, the first {left[0]!r}",
            where="--anonymise", hint="nothing was written; please report which label or file it comes from",
        )  # fmt: skip


@cache
def vocabulary() -> frozenset[str]:
    """Return the words in small letters that a report uses whatever it is about."""
    package = files("hs_analysis.report")
    own = [one for folder in (package, package.joinpath("templates")) for one in folder.iterdir()]
    texts = [
        one.read_text("utf-8") for one in own if one.name.endswith(_WRITTEN) and _LIBRARY not in one.name
    ]
    texts += [*KINDS, *BASELINES, *BASELINES.values()]
    for signal in load_catalogue().signals:
        texts += [signal.id, signal.meaning, signal.enable, *(str(source) for source in signal.sources)]
    return frozenset(word.lower() for text in texts for word in _WORD.findall(text))


def _names_something(value: str) -> bool:
    return value.strip() not in ("", "-") and not (value.isdigit() and len(value) < SHORT_DIGITS)


def _numbered(kinds: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
    """Yield value, kind and its number within the kind."""
    counts = dict.fromkeys(KINDS, 0)
    for value in sorted(kinds):
        counts[kinds[value]] += 1
        yield value, kinds[value], counts[kinds[value]]


def _alias(value: str, kind: str, number: int, key: bytes) -> str:
    tail = str(number)
    if key:
        tail = hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:HEX_DIGITS]
    endings = re.search(r"(?:\.[a-z][a-z0-9]{0,6}){1,2}$", value) if kind == "file" else None
    return f"{kind}-{tail}{endings[0] if endings else ''}"


@cache
def _pattern(values: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return what finds any of the values, the longest first, with no letter, digit or ``_`` beside it."""
    if not values:
        return None
    return re.compile(rf"(?<!\w)(?:{_alternatives(sorted(values))})(?!\w)")


def _alternatives(values: Sequence[str]) -> str:
    """Return a pattern of sorted values that reads each letter of a text once, longer values first."""
    ends = values[0] == ""
    branches = []
    for _, group in groupby(values[ends:], lambda value: value[0]):
        same = list(group)
        start = commonprefix([same[0], same[-1]])  # noqa: RUF071 - of texts, not of paths
        rest = [value[len(start) :] for value in same]
        branches.append(re.escape(start) + (_alternatives(rest) if rest != [""] else ""))
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)}){'?' if ends else ''}"
