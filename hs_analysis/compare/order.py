"""The order in which a person reads what differs: what to act on by weight, without what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from hs_analysis.compare.changes import RunChange

WEIGHTS = (
    "service",
    "decision.recommend",
    "spec.mode",
    "policy.yaml",
    "spec.primaries",
    "decision.metric",
    "recommended",
    "spec.controller",
    "decision.controller",
    "decision.target",
    "spec.primaries[[]*.target_per_instance.value",
    "spec.pd_ratio*",
    "pd_ratio.value",
    "pd_ratio.reason",
    "pd_ratio*",
    "spec.bounds*",
    "spec.periodic*",
    "*.promql",
    "signals*",
    "*.status",
)
"""Patterns of paths, what weighs most first: a metric before its target, a number before its status."""

_CAUSES = (
    ("recommended", ("spec.primaries", "decision.metric")),
    ("decision.metric", ("spec.primaries",)),
    ("decision.controller", ("spec.controller",)),
    ("decision.target", ("spec.controller", "decision.controller")),
    ("pd_ratio.value", ("spec.pd_ratio", "spec.pd_ratio.value")),
    ("pd_ratio.status", ("spec.pd_ratio", "spec.pd_ratio.value", "pd_ratio.value")),
    ("spec.pd_ratio.status", ("spec.pd_ratio.value",)),
)
"""Pattern of a path → paths whose change says the same already."""

_FORETOLD = ("decision.hours_saved_ratio", "decision.slo_risk.undisturbed")
"""Paths of what a policy is foretold to save and to risk."""


def weight(change: RunChange) -> int:
    """Return the place of a change in `WEIGHTS`, that behind the last one for a path that none fits."""
    fits = (place for place, pattern in enumerate(WEIGHTS) if fnmatchcase(change.path, pattern))
    return next(fits, len(WEIGHTS))


def leading(changes: Sequence[RunChange]) -> tuple[RunChange, ...]:
    """Return what to act on, heaviest first, without what another of these changes says already.

    A status of the P/D ratio is said by the change of its value, for example. Within one weight
    services keep their order.
    """
    acts = [change for change in changes if change.relevance == "act"]
    paths = {(change.service, change.path) for change in acts}
    kept = [change for change in acts if not _follows(change, paths)]
    return tuple(sorted(kept, key=weight))


def foretold(changes: Sequence[RunChange]) -> tuple[RunChange, ...]:
    """Return what the two policies are foretold to save and to risk, where that differs."""
    return tuple(change for change in changes if change.path in _FORETOLD)


def _follows(change: RunChange, paths: set[tuple[str, str]]) -> bool:
    return any(
        fnmatchcase(change.path, pattern) and any((change.service, cause) in paths for cause in causes)
        for pattern, causes in _CAUSES
    )
