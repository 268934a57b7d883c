"""Choose the policy: each candidate simulated on the training window, the cheapest that holds the SLO wins.

HeteroScale's workload-centric policy curation (arXiv:2508.19559, Algorithm 1): the study gives ratio and
targets, simulation gives the score, the best score wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from hs_analysis.policy.constants import SAME_HOURS, SAME_MODELLED_HOURS, SAME_OVERLOAD, SAME_SHARE_POINTS
from hs_analysis.policy.model import Policy
from hs_analysis.schema.aligned import SERVED, ServiceFrame
from hs_analysis.schema.names import RECORDED
from hs_analysis.schema.results import CandidateScore, Derived, PolicyReplay
from hs_analysis.schema.settings import Settings

BARRED = "not eligible: over floors only counted tokens are followed"
"""Why a candidate that holds the SLO was not up for choice."""

TOO_CLOSE = (
    "not chosen: what it saves over candidates that follow more counted tokens is less than the "
    f"{100 * SAME_MODELLED_HOURS:.0f} % of hours that its replay may be off"
)
"""Why a feasible candidate of fewer hours than the chosen one's was passed over."""


class Simulated(Protocol):
    """What a simulation says of one policy."""

    @property
    def row(self) -> PolicyReplay:
        """The figures."""

    @property
    def strain_ratio(self) -> float | None:
        """Share of windows expected over capacity [ratio]."""


Simulate = Callable[[ServiceFrame, Derived, Mapping[str, Policy], Settings], Mapping[str, Simulated]]


@dataclass(frozen=True)
class _Entry:
    name: str
    policy: Policy
    row: PolicyReplay
    known_strain: float | None

    @property
    def strain(self) -> float:
        """Expected share over capacity; none is counted against a candidate where no capacity is known."""
        return self.known_strain or 0.0

    @property
    def hours(self) -> float:
        return self.row.gpu_hours if self.row.gpu_hours is not None else self.row.instance_hours or 0.0

    @property
    def modelled(self) -> int:
        """How many primaries are not counted tokens: what those read at other counts is itself a model."""
        return sum(p.signal not in SERVED.values() for p in self.policy.primaries)

    @property
    def bound(self) -> bool:
        """Whether the strain is only an upper bound: the capacity behind a floor is not known."""
        return any(p.target_per_instance.status == "floor" for p in self.policy.primaries)


@dataclass(frozen=True)
class _Choice:
    """The largest feasible share and whose rule that is, the one chosen, and why others could not be.

    ``among`` says which of the feasible candidates the chosen one is the best of; nothing for all.
    """

    limit: float
    rule: str
    chosen: _Entry | None
    notes: Mapping[str, str]
    among: str


def select_service(
    frame_train: ServiceFrame,
    derived_train: Derived,
    candidates: Mapping[str, Policy],
    settings: Settings,
    simulate: Simulate,
) -> tuple[CandidateScore, ...]:
    """Rank candidate policies on the training window and choose one.

    A candidate is feasible when its expected share of violating windows (windows over capacity, where no SLO
    was given) is within the SLO's ``allowed_window_share``. If no candidate is, those at most one point worse
    than the recorded counts are; if none is even that, the least violating candidate is chosen and the reason
    says so. A history that broke its SLO so never makes a cheap violator win while a candidate holds the SLO.

    ``score`` is the share of the recorded hours saved, for feasible candidates; the highest wins. What a
    signal other than counted tokens reads at other counts is itself a model: a candidate that follows one has
    to save 6 % of the hours of the cheapest that follows fewer. Within 2 % of the fewest hours, which a
    replay can't tell apart, fewer violations win, then fewer actions, fewer hours, the name.
    Where targets are floors the share over capacity is only an upper bound, which orders nothing: then only
    policies of the most counted tokens may be chosen.

    Parameters
    ----------
    simulate
        ``simulate(frame, derived, policies, settings)`` gives the figures by name, ``recorded`` among them.

    Returns
    -------
    tuple
        One score per candidate sorted by name, exactly one chosen unless none could be simulated. Independent
        of the order of ``candidates``.
    """
    ordered = {name: candidates[name] for name in sorted(candidates)}
    found = simulate(frame_train, derived_train, ordered, settings) if ordered else {}
    entries = [
        _Entry(name, policy, found[name].row, found[name].strain_ratio)
        for name, policy in ordered.items()
        if name in found and found[name].row.instance_hours is not None
    ]
    recorded = found.get(RECORDED)
    choice = _choose(entries, settings, recorded)
    by_name = {entry.name: entry for entry in entries}
    return tuple(
        _candidate(name, policy, by_name.get(name), choice, recorded) for name, policy in ordered.items()
    )


def _choose(entries: list[_Entry], settings: Settings, recorded: Simulated | None) -> _Choice:
    """Return the best of the feasible, or the least violating, and why others were passed over."""
    limit, rule = _limit(entries, settings.slo.allowed_window_share, recorded)
    rule = rule if settings.slo.given else rule.replace("the SLO", "the default")
    eligible = _eligible(entries)
    feasible = [e for e in eligible if e.strain <= limit]
    worth = _worth_it(feasible)
    chosen = _best(worth) if worth else min(eligible, key=lambda e: (e.strain, *_order(e)), default=None)
    notes = {e.name: BARRED for e in entries if e.strain <= limit and e not in eligible}
    close = {e.name: TOO_CLOSE for e in feasible if e not in worth and e.hours < _fewest(worth)}
    among = " that follow the most counted tokens" if close else ""
    return _Choice(limit, rule, chosen, notes | close, among)


def _limit(entries: list[_Entry], allowed: float, recorded: Simulated | None) -> tuple[float, str]:
    """Return the largest share that still counts as feasible, and where it comes from."""
    if any(e.strain <= allowed for e in entries) or recorded is None or recorded.strain_ratio is None:
        return allowed, "the SLO allows"
    return recorded.strain_ratio + SAME_SHARE_POINTS, "one point above what ran allows"


def _worth_it(entries: list[_Entry]) -> list[_Entry]:
    """Return those of the fewest modelled signals that no others beat by more than a replay may err."""
    kept: list[_Entry] = []
    for modelled in sorted({e.modelled for e in entries}):
        found = [e for e in entries if e.modelled == modelled]
        limit = _fewest(kept) * (1 - SAME_MODELLED_HOURS)
        kept = [e for e in found if e.hours < limit] or kept
    return kept


def _fewest(entries: list[_Entry]) -> float:
    return min((e.hours for e in entries), default=math.inf)


def _best(entries: list[_Entry]) -> _Entry:
    """Return the cheapest and safest."""
    near = [e for e in entries if e.hours <= _fewest(entries) * (1 + SAME_HOURS)]
    return min(near, key=lambda e: (round(e.strain / SAME_OVERLOAD), *_order(e)))


def _eligible(entries: list[_Entry]) -> list[_Entry]:
    """Return the candidates that may be chosen: over floors those of the most counted tokens alone."""
    if not any(e.bound for e in entries):
        return entries
    least = min(e.modelled for e in entries)
    return [e for e in entries if e.modelled == least]


def _order(entry: _Entry) -> tuple[int, float, float, str]:
    return entry.modelled, entry.row.actions_per_day or 0.0, entry.hours, entry.name


def _candidate(
    name: str, policy: Policy, entry: _Entry | None, choice: _Choice, recorded: Simulated | None
) -> CandidateScore:
    unknown = CandidateScore(
        policy=name,
        signal="+".join(p.signal for p in policy.primaries),
        role="+".join(p.role for p in policy.primaries),
        score=None,
        gpu_hours=None,
        instance_hours=None,
        slo_violation_ratio=None,
        actions_per_day=None,
        chosen=False,
        reason="could not be simulated: no demand to replay",
    )
    if entry is None:
        return unknown
    saved = _saved(entry, recorded)
    return replace(
        unknown,
        score=saved if entry.strain <= choice.limit else None,
        gpu_hours=entry.row.gpu_hours,
        instance_hours=entry.row.instance_hours,
        slo_violation_ratio=entry.row.slo_violation_ratio,
        actions_per_day=entry.row.actions_per_day,
        chosen=entry is choice.chosen,
        reason="; ".join(
            [_reason(entry, choice, saved), *([note] if (note := choice.notes.get(name)) else [])]
        ),
    )


def _saved(entry: _Entry, recorded: Simulated | None) -> float | None:
    if recorded is None:
        return None
    base = recorded.row.gpu_hours if entry.row.gpu_hours is not None else recorded.row.instance_hours
    return 1 - entry.hours / base if base else None


def _reason(entry: _Entry, choice: _Choice, saved: float | None) -> str:
    chosen, rule = entry is choice.chosen, choice.rule
    if entry.known_strain is None:
        share, rule = "no capacity is known to hold it to", "the SLO would allow"
    else:
        share = f"{'at most ' if entry.bound else ''}{entry.strain:.2%} of windows expected over capacity"
    if entry.strain > choice.limit:
        why = (
            "what its pools carry beyond the loads seen is not known" if entry.bound else "it violates least"
        )
        start = f"no candidate is shown to be feasible; chosen: {why}" if chosen else "not feasible"
        return f"{start}: {share}, {rule} {choice.limit:.2%}"
    hours = f"{saved:.1%} of the recorded hours saved" if saved is not None else f"{entry.hours:.1f} hours"
    best = f"the fewest hours of the feasible candidates{choice.among}, or within 2 % of them the safest"
    start = f"chosen: {best} and calmest; " if chosen else ""
    return f"{start}{hours}, {share}, {rule} {choice.limit:.2%}"
