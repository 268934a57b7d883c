"""A policy.yaml that the user edited, in place of the run's own: what was changed, and what does not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hs_analysis.errors import InputError, first_of
from hs_analysis.export.model import items
from hs_analysis.pipeline.faults import given_policies
from hs_analysis.policy import Policy
from hs_analysis.policy.sanity import doubts
from hs_analysis.schema.settings import Document

STAMP = (
    "EDITED BY HAND ({file}: {changes}). The figures of replay and decision are those of the run's own "
    "policy, not of this one: hsa replay RUN --policy {file} replays it."
)
"""First line of every file that an edited policy is written as, and its first loss."""

NOT_REPLAYED = "edited by hand, and not replayed"

SHOWN = 4
"""Changes that the stamp lists [count]."""


@dataclass(frozen=True)
class ToExport:
    """A policy to write.

    Attributes
    ----------
    policy
        The run's own, or the edited one without figures of a replay that it did not have.
    sha256
        Of the policy.yaml that it stands in.
    stamp
        What was edited; empty for the run's own.
    changes
        Each change as ``path before → after``.
    doubts
        What the edited policy sets against its own numbers, as sentences that begin with the path.
    """

    policy: Policy
    sha256: str
    stamp: str = ""
    changes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def policies_to_export(own: Sequence[Policy], sha256: str, edited: Sequence[Document]) -> list[ToExport]:
    """Return the policies of a run, each replaced by the edited one of its service where that differs.

    Parameters
    ----------
    own, sha256
        The run's policies, and the hash of their file.
    edited
        The edited file; empty for none.

    Raises
    ------
    InputError
        When the edited file holds two policies of a service, or one of a service that the run does not have.
    """
    found = {policy.service: ToExport(policy, sha256) for policy in own}
    for file in edited:
        given = given_policies(file.text, file.name)
        services = [policy.service for policy in given]
        for service in services:
            if service not in found:
                raise InputError(
                    f"is a policy of {service}, the run has {', '.join(found)}",
                    where=file.name,
                    hint="take the policy.yaml of this run and edit it",
                )
            if services.count(service) > 1:
                raise InputError(f"holds {services.count(service)} policies of {service}", where=file.name)
        digest = hashlib.sha256(file.text.encode()).hexdigest()
        for policy in given:
            mine = found[policy.service].policy
            if changes := changes_of(mine, policy):
                stamp = STAMP.format(file=Path(file.name).name, changes=first_of(changes, SHOWN))
                odd = tuple(f"{where}: {said}" for where, said in doubts(policy))
                found[policy.service] = ToExport(_unjudged(policy, mine), digest, stamp, changes, odd)
    return list(found.values())


def changes_of(before: Policy, after: Policy) -> tuple[str, ...]:
    """Return what another policy sets otherwise, as ``path before → after``, in the order of the paths."""
    was, now = items(_rules(before)), items(_rules(after))
    paths = sorted({*was, *now}, key=lambda path: (path not in was, path))
    return tuple(
        f"{path} {_said(was.get(path))} → {_said(now.get(path))}"
        for path in paths
        if was.get(path) != now.get(path)
    )


def _rules(policy: Policy) -> Policy:
    """Return a policy without what is only said of it."""
    return replace(policy, recommended=True, confidence="low", confidence_reasons=(), refusals=(), replay={})


def _unjudged(policy: Policy, own: Policy) -> Policy:
    """Return an edited policy without the judgement of the run, which is of its own policy."""
    return replace(
        policy,
        recommended=policy.recommended and own.recommended,
        confidence="low",
        confidence_reasons=(NOT_REPLAYED,),
        replay={},
    )


_LONGEST = 40
"""Longest value in a change [characters]: queries are cut."""


def _said(value: Any) -> str:
    if value is None:
        return "not set"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
