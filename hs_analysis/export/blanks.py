"""Names that nothing tells: what stands for each in the files, where it stands, and what would tell it.

Each is a text that no cluster has, so that an object applied with it finds nothing and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hs_analysis.errors import first_of
from hs_analysis.schema.names import POOL_ROLES

START = "fill-in-"

MOST_PLACES = 4
"""Places of a name that a sentence or a table lists; JSON has all [count]."""

NAMESPACE = f"{START}namespace"
ADDRESS = f"{START}prometheus-address"
SERVER_ADDRESS = f"http://{ADDRESS}:9090"
CREDENTIAL = f"{START}credential"
PROVIDER = f"{START}metric-provider"

SERVING = ("ModelServing", "StormService", "LLMInferenceService", "RoleBasedGroup", "InferenceService")
"""Kinds of objects that deploy a whole service: of Kthena, AIBrix, KServe, RoleBasedGroup, OME."""

_MEANINGS = {
    NAMESPACE: ("namespace of the objects", "[export] namespace"),
    ADDRESS: ("address of Prometheus", "[export] server_address"),
    PROVIDER: ("name of OME's metric provider", ""),
    CREDENTIAL: ("credential that --current held", ""),
}
_OF_ROLE = {
    "workload": ("name and kind of what runs the {role} pods", "[export] {role}"),
    "pods": ("beginning of the names of the {role} pods", "[export] {role}"),
}
_OF_SERVING = {f"{START}{kind.lower()}": kind for kind in SERVING}
# What stands behind a blank is of the name around it: fill-in-rolebasedgroup-prefill.
_BLANK = re.compile(
    "|".join(
        [*_MEANINGS, *_OF_SERVING, *(f"{START}{role}-{kind}" for role in POOL_ROLES for kind in _OF_ROLE)]
    )
)


@dataclass(frozen=True)
class Blank:
    """A name that nothing tells.

    Attributes
    ----------
    text
        What stands for it in the files.
    what
        What it is the name of.
    why
        What was found in its place; empty for nothing.
    setting
        The setting that gives it; empty where it has to be written into the files.
    places
        ``file:line`` of every place, in the order of the files.
    """

    text: str
    what: str
    why: str
    setting: str
    places: tuple[str, ...]

    def sentence(self) -> str:
        """Return what to replace where, what was found, and the setting that does it for all files."""
        found = f" ({self.why})" if self.why else ""
        setting = f", or give {self.setting}" if self.setting else ""
        places = first_of(self.places, MOST_PLACES)
        return f"Replace {self.text} by the {self.what}{found} in {places}{setting}."


def workload(role: str) -> str:
    """Return what stands for the name of the scaled object of a pool."""
    return f"{START}{role}-workload"


def pods(role: str) -> str:
    """Return what stands for the beginning of the names of a pool's pods."""
    return f"{START}{role}-pods"


def parent(kind: str) -> str:
    """Return what stands for the name of the object that deploys a whole service."""
    return f"{START}{kind.lower()}"


def listed(files: Mapping[str, str], why: Mapping[str, str]) -> tuple[Blank, ...]:
    """Return every blank that stands in the files, each once; comments are no place.

    Parameters
    ----------
    files
        Text by name.
    why
        What was found in place of a name, by what stands for it.
    """
    places: dict[str, list[str]] = {}
    for name, text in files.items():
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.startswith("#"):
                for found in dict.fromkeys(_BLANK.findall(line)):
                    places.setdefault(found, []).append(f"{name}:{number}")
    return tuple(
        Blank(text, *_meaning(text, why.get(text, "")), tuple(where))
        for text, where in sorted(places.items())
    )


def _meaning(text: str, why: str) -> tuple[str, str, str]:
    """Return what a blank is the name of, why it is one, and the setting that gives it."""
    if text in _MEANINGS:
        what, setting = _MEANINGS[text]
        return what, why, setting
    if text in _OF_SERVING:
        return f"name of the {_OF_SERVING[text]}", why, "[export] serving"
    role, _, kind = text.removeprefix(START).rpartition("-")
    what, setting = (part.format(role=role) for part in _OF_ROLE[kind])
    return what, why, setting
