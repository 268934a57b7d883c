"""Files that a user gives beside the dumps: policies of their own, and which service they speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hs_analysis.errors import InputError, UsageError
from hs_analysis.pipeline.faults import given_policies
from hs_analysis.policy import Policy, load_all
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.settings import Document, Settings


def policies_beside(files: Sequence[Document], frame: ServiceFrame) -> dict[str, Policy]:
    """Return the policies of a service in the files given, by file name.

    Raises
    ------
    InputError
        When a primary follows a signal that the history does not hold: it would hold still all the time; or
        its unit is not the signal's.
    """
    found: dict[str, Policy] = {}
    for file in files:
        for policy in given_policies(file.text, file.name):
            if policy.service != frame.service:
                continue
            for number, primary in enumerate(policy.primaries):
                if not any(frame.has(primary.signal, role) for role in (primary.role, "service")):
                    raise InputError(
                        f"spec.primaries[{number}]: {primary.signal}@{primary.role} is not in this history",
                        where=file.name,
                        hint="hsa study RUN lists the signals",
                    )
            found[_free(Path(file.name).name, found)] = policy
    return found


def require_spoken_of(settings: Settings, services: Sequence[str]) -> None:
    """Raise when a file speaks of none of the services, or today's objects can't be told apart by service."""
    for file in settings.beside.policies:
        spoken = [policy.service for policy in load_all(file.text, file.name)]
        if not set(spoken) & set(services):
            raise InputError(
                f"is a policy of {' and '.join(spoken) or 'no service'}, the run has {', '.join(services)}",
                where=file.name,
                hint="take the policy.yaml of this run and edit it",
            )
    if settings.beside.current and len(services) > 1:
        hint = f"name the one it scales: --service {services[0]}"
        raise UsageError(f"the run has {len(services)} services", where="--current", hint=hint)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number = sum(1 for other in taken if other == name or other.startswith(f"{name} ("))
    return f"{name} ({number + 1})" if number else name
