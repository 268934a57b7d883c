"""Choose what to deploy: the cheapest candidate that holds the SLO and bears faults as a default HPA does.

HeteroScale's workload-centric policy curation (arXiv:2508.19559, Algorithm 1): the study gives ratio and
targets, simulation gives the score, the best score wins. What is simulated is the object that will run, by
the semantics of its controller, undisturbed, under faults and under bursts, on the window it was fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hs_analysis.controllers.hpa import Hpa, Metric
from hs_analysis.policy.constants import SAME_HOURS, SAME_MODELLED_HOURS, SAME_SHARE_POINTS
from hs_analysis.policy.model import Policy
from hs_analysis.policy.ratio_costs import LESS_HOURS, LESS_WINDOWS, SAME_WINDOWS
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.names import BURST, DEFAULT_HPA, RECORDED
from hs_analysis.schema.number_text import percent, percent_beside
from hs_analysis.schema.replays import PolicyReplay
from hs_analysis.schema.results import CandidateScore, Derived
from hs_analysis.schema.settings import Settings
from hs_analysis.select.candidates import Knobs, models_of
from hs_analysis.select.constants import (
    FLAT_ACTIONS_MAX,
    SAME_RISK,
)

BARRED = "not eligible: over floors each pool follows its own counted tokens, where it can"
"""Why a candidate that holds the SLO was not up for choice."""

FRAIL = "not feasible: undisturbed, under faults or in bursts it breaks the SLO more often than a default HPA"
"""Why a candidate that holds the SLO is not feasible."""

RESTLESS = "not feasible: noise alone makes it act at flat load more often than a default HPA"
"""Why a candidate that bears faults is not feasible."""

TOO_CLOSE = (
    "not chosen: what it saves over candidates whose pools follow their own counted tokens is less than "
    f"the {100 * SAME_MODELLED_HOURS:.0f} % of hours that its replay may be off"
)
"""Why a feasible candidate of fewer hours than the chosen one's was passed over."""

WORTH_IT = f"{100 * LESS_HOURS:g} % of the hours or {100 * LESS_WINDOWS:g} points of windows"
"""What makes other settings than Kubernetes' own worth it, in words."""

HARDLY = f"not chosen: it beats Kubernetes' own settings by less than {WORTH_IT}"
"""Why a candidate of fewer hours gave way to settings that everybody knows."""


class Scored(Protocol):
    """Figures of one control, undisturbed."""

    @property
    def row(self) -> PolicyReplay:
        """Hours, actions and violations."""

    @property
    def strain_ratio(self) -> float | None:
        """Share of windows expected over capacity [ratio]."""


class Simulated(Protocol):
    """What a simulation says of one control."""

    @property
    def score(self) -> Scored:
        """Figures, undisturbed."""

    @property
    def fault_ratio(self) -> Mapping[str, float]:
        """Chance of violating under each fault and under bursts, by name [ratio]; empty where not known."""

    @property
    def flat_actions(self) -> float | None:
        """Actions a pool and day while the load stands still; None where not known."""


Simulate = Callable[[ServiceFrame, Derived, Mapping[str, Policy], Settings], Mapping[str, Simulated]]


@dataclass(frozen=True)
class _Entry:
    name: str
    policy: Policy
    row: PolicyReplay
    known_strain: float | None
    faults: float | None
    burst: float | None
    flat: float | None

    @property
    def strain(self) -> float:
        """Expected share over capacity; none is counted against a candidate where no capacity is known."""
        return self.known_strain or 0.0

    @property
    def hours(self) -> float:
        return self.row.gpu_hours if self.row.gpu_hours is not None else self.row.instance_hours or 0.0

    @property
    def actions(self) -> float:
        return self.row.actions_per_day or 0.0

    def bears(self, default: _Entry | None) -> bool:
        """Say whether it breaks the SLO no more often than a default HPA on the same targets.

        Undisturbed, under faults and under bursts.
        """
        if default is None:
            return True
        if self.strain > _at_most(default.strain, behind_floor=self.bound):
            return False
        pairs = ((self.faults, default.faults), (self.burst, default.burst))
        return all(
            ours is None or theirs is None or ours <= theirs * (1 + SAME_RISK) for ours, theirs in pairs
        )

    def is_steady(self, default: _Entry | None) -> bool:
        """Say whether it acts at flat load no more often than is allowed, or than a default HPA does.

        HeteroScale's rule has no excuse in what a default HPA does.
        """
        limit = FLAT_ACTIONS_MAX
        if default is not None and default.flat is not None and self.policy.controller != "heteroscale":
            limit = max(limit, default.flat)
        return self.flat is None or self.flat <= limit

    def is_set_as(self, default: _Entry) -> bool:
        """Say whether its settings are those of a default HPA, at the shortest range there is."""
        usual = Knobs.kubernetes(default.policy.reading.window_s)
        band = next(iter(self.policy.hysteresis.values()), None)
        return (
            band is not None
            and self.policy.reading == usual.reading
            and (band.scale_out_ratio, band.scale_in_ratio) == (usual.out_ratio, usual.in_ratio)
        )

    def beats(self, other: _Entry) -> bool:
        """Say whether it needs fewer hours by more than nothing, or breaks the SLO less often.

        Behind a floor windows are bounds, and hours alone count.
        """
        saves = self.hours <= other.hours * (1.0 - LESS_HOURS)
        if self.bound:
            return saves
        fewer = other.strain - self.strain
        return (saves and fewer >= -SAME_WINDOWS) or (
            fewer >= LESS_WINDOWS and self.hours <= other.hours * (1.0 + SAME_HOURS)
        )

    @property
    def risk(self) -> float:
        """Violating windows undisturbed, under faults and under bursts together [sum of shares]."""
        return self.strain + (self.faults or 0.0) + (self.burst or 0.0)

    @property
    def modelled(self) -> int:
        """How many models it rests on: see `select.candidates.models_of`."""
        return models_of(self.policy)

    @property
    def bound(self) -> bool:
        """Whether the strain is only an upper bound: the capacity behind a floor is not known."""
        return any(p.target_per_instance.status == "floor" for p in self.policy.primaries)


@dataclass(frozen=True)
class _Choice:
    """The largest feasible share and whose rule that is, the one chosen, and why others could not be.

    ``among`` says which of the feasible candidates the chosen one is the best of; nothing for all.
    ``recorded`` are the figures of what ran.
    """

    limit: float
    rule: str
    chosen: _Entry | None
    notes: Mapping[str, str]
    among: str
    feasible: frozenset[str]
    recorded: Scored | None


def select_service(
    frame_train: ServiceFrame,
    derived_train: Derived,
    candidates: Mapping[str, Policy],
    settings: Settings,
    simulate: Simulate,
) -> tuple[CandidateScore, ...]:
    """Rank candidates on the training window and choose one.

    A candidate is feasible when its expected share of violating windows (windows over capacity, where no SLO
    was given) is within the SLO's ``allowed_window_share``, it breaks the SLO no more often than a default
    HPA on the same targets, undisturbed, under faults and in bursts, and noise alone makes it act no more
    often at flat load. If none holds the SLO, those at most one point worse than the recorded counts do; if
    none is even that, or none bears faults, bursts and noise, the least violating candidate is chosen and the
    reason says so. A history that broke its SLO so never makes a cheap violator win while a candidate holds
    the SLO.

    ``score`` is the share of the recorded hours saved, for feasible candidates; the highest wins. Within
    0.2 % of the fewest hours the fewest violations undisturbed, under faults and under bursts win; of those
    that have as few, what counts waiting work, then the fewest actions. What a signal other than counted
    tokens reads at other counts is itself a model, and so is a P/D ratio that one pool follows: a candidate
    with one has to save 6 % of the hours of the cheapest that has fewer. Where targets are floors the share
    over capacity is only an upper bound, which orders nothing: then only policies of the fewest models may be
    chosen.

    Parameters
    ----------
    simulate
        ``simulate(frame, derived, policies, settings)`` gives the figures by name, ``recorded`` among them,
        and ``hpa``, the default HPA, where one can be set up.

    Returns
    -------
    tuple
        One score per candidate sorted by name, exactly one chosen unless none could be simulated; then the
        default HPA, which is never chosen by that name. Independent of the order of ``candidates``.
    """
    ordered = {name: candidates[name] for name in sorted(candidates)}
    found = simulate(frame_train, derived_train, ordered, settings) if ordered else {}
    entries = [
        _entry(name, policy, found[name]) for name, policy in ordered.items() if _is_known(found, name)
    ]
    recorded = found.get(RECORDED)
    default = None
    if entries and _is_known(found, DEFAULT_HPA):
        freshest = min((entry.policy for entry in entries), key=lambda one: one.reading.window_s)
        default = _entry(DEFAULT_HPA, freshest, found[DEFAULT_HPA])
    choice = _choose(entries, default, settings, recorded.score if recorded else None)
    by_name = {entry.name: entry for entry in entries}
    scores = [_candidate(name, one, by_name.get(name), choice) for name, one in ordered.items()]
    if default is not None:
        scores.append(_comparator(default, choice))
    marked = _with_front(scores)
    return marked if settings.slo.given else tuple(map(_without_slo, marked))


def _without_slo(score: CandidateScore) -> CandidateScore:
    """Return a candidate that says nothing of an SLO: none was given that it could break."""
    return replace(
        score,
        slo_violation_ratio=None,
        fault_violation_ratio=None,
        burst_violation_ratio=None,
        reason=score.reason.replace(FRAIL, FRAIL.replace("breaks the SLO", "goes over capacity")),
    )


def _is_known(found: Mapping[str, Simulated], name: str) -> bool:
    return name in found and found[name].score.row.instance_hours is not None


def _entry(name: str, policy: Policy, simulated: Simulated) -> _Entry:
    ratios = simulated.fault_ratio
    faults = [ratio for fault, ratio in ratios.items() if fault != BURST]
    mean = sum(faults) / len(faults) if faults else None
    scored = simulated.score
    flat = simulated.flat_actions
    return _Entry(name, policy, scored.row, scored.strain_ratio, mean, ratios.get(BURST), flat)


def _choose(
    entries: list[_Entry], default: _Entry | None, settings: Settings, recorded: Scored | None
) -> _Choice:
    """Return the best of the feasible, or the least violating, and why others were passed over."""
    limit, rule = _limit(entries, default, settings.slo.allowed_window_share, recorded)
    rule = rule if settings.slo.given else rule.replace("the SLO", "the default")
    eligible = _eligible(entries)
    held = [e for e in eligible if e.strain <= limit]
    bearing = [e for e in held if e.bears(default)]
    feasible = [e for e in bearing if e.is_steady(default)] or bearing
    worth = _worth_it(feasible)
    best = _best(worth, default) if worth else None
    chosen = best or min(eligible, key=lambda e: (e.strain, *_order(e)), default=None)
    if best is not None and default is not None:
        usual = min((e for e in worth if e.is_set_as(default)), key=_order, default=best)
        chosen = best if best.beats(usual) else usual
    notes = {e.name: BARRED for e in entries if e.strain <= limit and e not in eligible}
    notes |= {e.name: FRAIL for e in held if e not in bearing}
    notes |= {e.name: RESTLESS for e in bearing if e not in feasible}
    if chosen is not best and chosen is not None:
        notes |= {e.name: HARDLY for e in worth if e is best or e.hours < chosen.hours}
    close = {e.name: TOO_CLOSE for e in feasible if e not in worth and e.hours < _fewest(worth)}
    among = " whose pools follow their own counted tokens" if close else ""
    return _Choice(limit, rule, chosen, notes | close, among, frozenset(e.name for e in feasible), recorded)


def _limit(
    entries: list[_Entry], default: _Entry | None, allowed: float, recorded: Scored | None
) -> tuple[float, str]:
    """Return the largest share that still counts as feasible, and where it comes from.

    Behind a floor a share is what is loaded more than the history ever was, which breaks nothing that is
    known: it may come to what it does with a default HPA, as under faults.
    """
    if default is not None and default.strain > allowed and any(e.bound for e in entries):
        rule = f"{100 * SAME_RISK:g} % above a default HPA's are"
        return _at_most(default.strain, behind_floor=True), rule
    if any(e.strain <= allowed for e in entries) or recorded is None or recorded.strain_ratio is None:
        return allowed, "the SLO allows"
    return recorded.strain_ratio + SAME_SHARE_POINTS, "one point above what ran allows"


def _at_most(share: float, *, behind_floor: bool) -> float:
    """Return the largest share of windows that counts as no more than one; behind a floor it is a bound."""
    return share * (1 + SAME_RISK) if behind_floor else share + SAME_WINDOWS


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


def _best(entries: list[_Entry], default: _Entry | None) -> _Entry:
    """Return the cheapest; of those that cost the same the safest, of those as safe the calmest.

    What is safer may cost hardly more than a default HPA.
    """
    fewest = _fewest(entries)
    most = fewest * (1 + SAME_HOURS)
    if default is not None:
        most = min(most, max(fewest, default.hours) * (1 + SAME_HOURS / 2))
    near = [e for e in entries if e.hours <= most]
    limit = (1 + SAME_RISK) * min(e.risk for e in near)
    return min((e for e in near if e.risk <= limit), key=_order)


def _eligible(entries: list[_Entry]) -> list[_Entry]:
    """Return the candidates that may be chosen: over floors those of the most counted tokens alone."""
    if not any(e.bound for e in entries):
        return entries
    least = min(e.modelled for e in entries)
    return [e for e in entries if e.modelled == least]


def _order(entry: _Entry) -> tuple[int, bool, float, float, str]:
    return entry.modelled, not entry.policy.counts_waiting, entry.actions, entry.hours, entry.name


def _candidate(name: str, policy: Policy, entry: _Entry | None, choice: _Choice) -> CandidateScore:
    unknown = CandidateScore(
        **_settings(policy),
        policy=name,
        signal="+".join(p.signal for p in policy.primaries),
        role="+".join(p.role for p in policy.primaries),
        controller=policy.controller,
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
    saved = _saved(entry, choice.recorded)
    note = choice.notes.get(name)
    return replace(
        _with_figures(unknown, entry),
        score=saved if entry.name in choice.feasible else None,
        chosen=entry is choice.chosen,
        reason="; ".join([_reason(entry, choice, saved), *([note] if note else [])]),
    )


def _settings(policy: Policy) -> dict[str, Any]:
    """Return what the controller of a candidate is set to; its pools share one band."""
    band = next(iter(policy.hysteresis.values()), None)
    return {
        "reading_s": policy.reading.window_s,
        "surge_s": policy.reading.surge.window_s if policy.reading.surge else None,
        "over_s": policy.reading.over_s,
        "scale_out_ratio": band.scale_out_ratio if band else None,
        "scale_in_ratio": band.scale_in_ratio if band else None,
        "counts_waiting": policy.counts_waiting,
    }


def _with_figures(score: CandidateScore, entry: _Entry) -> CandidateScore:
    return replace(
        score,
        gpu_hours=entry.row.gpu_hours,
        instance_hours=entry.row.instance_hours,
        slo_violation_ratio=entry.row.slo_violation_ratio,
        actions_per_day=entry.row.actions_per_day,
        fault_violation_ratio=entry.faults,
        burst_violation_ratio=entry.burst,
        flat_actions_per_day=entry.flat,
    )


_HPA = Hpa((Metric("", 1.0),))
"""An HPA as Kubernetes sets it up where nothing is said."""


def _comparator(default: _Entry, choice: _Choice) -> CandidateScore:
    """Return the row of the default HPA: what no candidate may be worse than."""
    blank = CandidateScore(
        policy=DEFAULT_HPA,
        signal="",
        role="",
        controller="hpa",
        score=_saved(default, choice.recorded),
        gpu_hours=None,
        instance_hours=None,
        slo_violation_ratio=None,
        actions_per_day=None,
        chosen=False,
        reason="comparison: an HPA with Kubernetes' defaults on the derived targets",
        reading_s=default.policy.reading.window_s,
        scale_out_ratio=1.0 + _HPA.tolerance,
        scale_in_ratio=1.0 - _HPA.tolerance,
        over_s=_HPA.down.stabilization_s,
    )
    return _with_figures(blank, default)


def _with_front(scores: list[CandidateScore]) -> tuple[CandidateScore, ...]:
    """Mark the candidates that no other beats in hours, violations and violations under faults at once."""

    def costs(one: CandidateScore) -> tuple[float, float, float]:
        hours = one.gpu_hours if one.gpu_hours is not None else one.instance_hours
        return hours or math.inf, one.slo_violation_ratio or 0.0, one.fault_violation_ratio or 0.0

    every = [costs(one) for one in scores]
    return tuple(
        replace(one, front=not any(_dominates(other, own) for other in every) and own[0] < math.inf)
        for one, own in zip(scores, every, strict=True)
    )


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _saved(entry: _Entry, recorded: Scored | None) -> float | None:
    if recorded is None:
        return None
    base = recorded.row.gpu_hours if entry.row.gpu_hours is not None else recorded.row.instance_hours
    return 1 - entry.hours / base if base else None


def _reason(entry: _Entry, choice: _Choice, saved: float | None) -> str:
    chosen, rule = entry is choice.chosen, choice.rule
    if entry.known_strain is None:
        share, rule = "no capacity is known to hold it to", "the SLO would allow"
    else:
        most = "at most " if entry.bound else ""
        share = f"{most}{percent_beside(entry.strain, choice.limit)} of windows expected over capacity"
    if entry.strain > choice.limit:
        why = (
            "what its pools carry beyond the loads seen is not known" if entry.bound else "it violates least"
        )
        start = f"no candidate is shown to be feasible; chosen: {why}" if chosen else "not feasible"
        return f"{start}: {share}, {rule} {percent(choice.limit, exact=True)}"
    hours = f"{entry.hours:.1f} hours"
    if saved is not None:
        hours = f"{percent(abs(saved))} {'more' if saved < 0 else 'fewer'} hours than recorded"
    waiting = " that counts waiting work" if entry.policy.counts_waiting else ""
    best = (
        f"of the feasible candidates{choice.among} within {100 * SAME_HOURS:g} % of the fewest hours the "
        f"safest, and of those as safe the calmest{waiting}"
    )
    if chosen and HARDLY in choice.notes.values():
        best = f"Kubernetes' own settings, which no feasible candidate beats by {WORTH_IT}"
    if chosen and entry.name not in choice.feasible:
        best = "no candidate is shown to be feasible, and it violates least undisturbed"
    start = f"chosen: {best}; " if chosen else ""
    return f"{start}{hours}, {share}, {rule} {percent(choice.limit, exact=True)}"
