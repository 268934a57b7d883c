"""The answers of summary.json that have a link of their own: of which kind, and where each stands.

What a link names is what its answer is of (service, stage, signal, role, GPU type, policy), never its place
in a list: another run that answers the same question has it under the same path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hs_analysis.evidence.grammar import parse, path

Plain = Mapping[str, Any]


@dataclass(frozen=True)
class LinkedAnswer:
    """One answer of a run.

    Attributes
    ----------
    kind
        ``signals``, ``capacity``, ``thresholds``, ``startup``, ``gpu_speeds``, ``pd_ratio``, ``demand``,
        ``selection``, ``policy``, ``replay``, ``drivers`` or ``sweeps``.
    service
        ``namespace/model``; of a ratio test in benchmark points the name of the test.
    stage, what
        The other segments of its path.
    entry
        Its part of summary.json.
    """

    kind: str
    service: str
    stage: str
    what: str
    entry: Plain

    @property
    def place(self) -> str:
        """Path made of what the answer is of."""
        return path(self.service, self.stage, self.what)

    @property
    def path(self) -> str:
        """Path under which the report shows it: its own evidence where it carries one, without a range."""
        given = str(self.entry.get("evidence") or "").strip()
        if not given or self.kind in _NO_LINK_OF_ITS_OWN:
            return self.place
        link = parse(given)
        return path(link.service, link.stage, link.what)


_NO_LINK_OF_ITS_OWN = ("selection", "policy", "demand")
"""Kinds whose entries carry no evidence, or that of another answer."""


def answers_of(service: Plain) -> Iterator[LinkedAnswer]:
    """Yield every answer of one service, in the order of summary.json; one that was refused, too."""
    for kind, stage, what, entry in _entries(service):
        yield LinkedAnswer(kind, str(service["service"]), stage, what, entry)


def answers_of_run(summary: Plain) -> Iterator[LinkedAnswer]:
    """Yield every answer of a run: those of its services, then its ratio tests."""
    for service in summary.get("services") or []:
        yield from answers_of(service)
    yield from _sweeps(summary)


def _sweeps(summary: Plain) -> Iterator[LinkedAnswer]:
    """Yield the ratio tests of a run; one that is judged in several ways has one path and is yielded once."""
    seen = set[str]()
    for entry in summary.get("sweeps") or []:
        given = str(entry.get("evidence") or "")
        if given and given not in seen:
            seen.add(given)
            link = parse(given)
            yield LinkedAnswer("sweeps", link.service, link.stage, link.what, entry)


def _entries(service: Plain) -> Iterator[tuple[str, str, str, Plain]]:
    """Yield kind, stage, what and entry of every answer."""
    for entry in service.get("signals") or []:
        yield "signals", "study", f"{entry['signal']}@{entry['role']}{_on(entry)}", entry
    for entry in service.get("capacity") or []:
        yield "capacity", "derive", f"capacity@{entry['role']}{_on(entry)}", entry
    for entry in service.get("thresholds") or []:
        yield "thresholds", "derive", f"threshold:{entry['signal']}@{entry['role']}{_on(entry)}", entry
    for entry in service.get("startup") or []:
        yield "startup", "derive", f"startup@{entry['role']}", entry
    for entry in service.get("gpu_speeds") or []:
        yield "gpu_speeds", "derive", f"speed@{entry['role']}@{entry['gpu_type']}", entry
    for kind in ("pd_ratio", "demand"):
        if service.get(kind):
            yield kind, "derive", kind, service[kind]
    for entry in service.get("selection") or []:
        yield "selection", "select", str(entry["policy"]), entry
        if entry.get("chosen"):
            yield "policy", "policy", "policy", entry
    for entry in (service.get("replay") or {}).get("policies") or []:
        yield "replay", "replay", str(entry["policy"]), entry
    for entry in service.get("drivers") or []:
        yield "drivers", "select", f"driver:{entry['signal']}@{entry['role']}", entry


def _on(entry: Plain) -> str:
    return f"@{entry['gpu_type']}" if entry.get("gpu_type") else ""
