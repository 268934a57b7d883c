"""Two runs to compare, and which service is which: by name, or one that only goes by another name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

from hs_analysis.compare.changes import SAME_FLOAT, Plain
from hs_analysis.errors import UsageError
from hs_analysis.schema.names import POOL_ROLES

COUNTS = ("prompt_tokens", "output_tokens", "requests")
"""Totals that are as recorded: no two services have the same ones."""


@dataclass(frozen=True)
class ComparedRun:
    """What is compared of a run.

    Attributes
    ----------
    name
        What a user calls it: its folder.
    summary
        summary.json.
    policies
        Documents of policy.yaml as plain data, one a service.
    shown
        Paths of the evidence that its report has a place for; None without a report.
    """

    name: str
    summary: Plain
    policies: Sequence[Plain] = ()
    shown: frozenset[str] | None = None

    def policy(self, service: str) -> Plain | None:
        """Return the document of a service; None without one."""
        named = (one for one in self.policies if (one.get("metadata") or {}).get("service") == service)
        return next(named, None)


@dataclass(frozen=True)
class ServicePair:
    """A service in both runs.

    Attributes
    ----------
    old, new
        Its names, ``namespace/model``; None where a run does not have it.
    why
        What makes them one service where the names differ; empty else.
    """

    old: str | None
    new: str | None
    why: str = ""


def paired(a: Plain, b: Plain, renamed: Mapping[str, str]) -> tuple[ServicePair, ...]:
    """Return the services of two runs in pairs, those of the first in its order, then the new ones.

    A service of one run alone is the same as one of the other run alone where the user says so, where both
    have the same totals, or where namespaces differ and model, roles, GPUs per instance and capacities agree;
    each only where no second service of either run would fit as well.

    Parameters
    ----------
    a, b
        summary.json of both runs.
    renamed
        What the user says: old name → new name, empty for a service that is gone.

    Raises
    ------
    UsageError
        For a name that its run does not have.
    """
    first, second = (_by_name(summary) for summary in (a, b))
    taken = set(renamed.values())
    found: dict[str, tuple[str | None, str]] = {
        name: (name, "") for name in first if name in second and name not in {*renamed, *taken}
    }
    for old, new in renamed.items():
        _known(old, first, "old")
        if new:
            _known(new, second, "new")
        found[old] = (new or None, "as you say" if new else "")
    for fits, why in _RULES:
        gone = [one for name, one in first.items() if name not in found]
        came = [one for name, one in second.items() if name not in {new for new, _ in found.values()}]
        found |= {old: (new, why) for old, new in _matched(gone, came, fits)}
    pairs = [ServicePair(name, *found.get(name, (None, ""))) for name in first]
    known = {pair.new for pair in pairs}
    return (*pairs, *(ServicePair(None, name) for name in second if name not in known))


def _by_name(summary: Plain) -> dict[str, Plain]:
    return {str(one["service"]): one for one in summary.get("services") or []}


def _known(name: str, services: Mapping[str, Plain], which: str) -> None:
    if name not in services:
        has = ", ".join(list(services)[:3]) or "none"
        raise UsageError(f"the {which} run has no service {name!r}", where="--renamed", hint=f"it has {has}")


def _matched(
    gone: list[Plain], came: list[Plain], fits: Callable[[Plain, Plain], bool]
) -> Iterator[tuple[str, str]]:
    """Yield the pairs in which each is the only one that fits the other."""
    fitting = [(one, other) for one in gone for other in came if fits(one, other)]
    for one, other in fitting:
        rivals = [pair for pair in fitting if (pair[0] is one) != (pair[1] is other)]
        if not rivals:
            yield str(one["service"]), str(other["service"])


def _same_totals(one: Plain, other: Plain) -> bool:
    """Whether two services were counted over the very same requests."""
    pairs = [((one.get("totals") or {}).get(key), (other.get("totals") or {}).get(key)) for key in COUNTS]
    known = [(a, b) for a, b in pairs if a and b]
    return bool(known) and all(isclose(a, b, rel_tol=SAME_FLOAT) for a, b in known)


def _same_fleet(one: Plain, other: Plain) -> bool:
    """Whether one model in two namespaces is served by the same kind of instances."""
    models = {str(service["service"]).partition("/")[2] for service in (one, other)}
    built = [(sorted(pools(service)), service.get("gpus_per_instance")) for service in (one, other)]
    if len(models) != 1 or "" in models or built[0] != built[1] or not built[0][0]:
        return False
    if not _same_mix(one, other):
        return False
    verdicts = [_agree(row, found) for row in _sure(one) for found in _sure(other) if _of(row) == _of(found)]
    return bool(verdicts) and all(verdicts)


def _same_mix(one: Plain, other: Plain) -> bool:
    """Whether requests bring about as many tokens to both: another user of a model brings others."""
    found = []
    for key in ("prompt_tokens", "output_tokens"):
        totals = [service.get("totals") or {} for service in (one, other)]
        if all(each.get(key) and each.get("requests") for each in totals):
            a, b = (each[key] / each["requests"] for each in totals)
            found.append(isclose(a, b, rel_tol=MIX_APART_RATIO))
    return bool(found) and all(found)


_RULES: tuple[tuple[Callable[[Plain, Plain], bool], str], ...] = (
    (_same_totals, "both counted the same requests and tokens"),
    (
        _same_fleet,
        "one model; roles, GPUs per instance, capacities and tokens per request agree",
    ),
)
"""What makes two services one, surest first, and in words."""


def pools(service: Plain) -> set[str]:
    """Return the roles of which a service has instances."""
    named = [row.get("role") for key in ("capacity", "signals", "startup") for row in service.get(key) or []]
    per = service.get("gpus_per_instance")
    return {str(role) for role in [*named, *(per if isinstance(per, Mapping) else ())]} & set(POOL_ROLES)


def _sure(service: Plain) -> list[Plain]:
    """Return the capacities that have a number."""
    return [row for row in service.get("capacity") or [] if row.get("per_instance") is not None]


def _of(row: Plain) -> tuple[Any, ...]:
    return row.get("role"), row.get("gpu_type"), row.get("signal")


def _agree(row: Plain, other: Plain) -> bool:
    """Whether the intervals of two capacities overlap, or two floors are near each other."""
    low, high = row.get("ci") or (row["per_instance"],) * 2
    from_, to = other.get("ci") or (other["per_instance"],) * 2
    if "floor" in (row.get("status"), other.get("status")):
        return bool(isclose(row["per_instance"], other["per_instance"], rel_tol=FLOORS_APART_RATIO))
    return bool(low <= to and from_ <= high)


MIX_APART_RATIO = 0.2
"""How far apart the mean tokens of a request may be in two histories of one service [ratio]: a
guess at what a week changes. Default of this project."""

FLOORS_APART_RATIO = 0.25
"""How far apart two floors of one service may be [ratio]: they follow the highest load of their history.
Default of this project."""
