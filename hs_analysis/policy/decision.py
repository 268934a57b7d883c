"""What to do with a policy: apply it, keep what runs, or record more; and what that changes.

The one place where `decision` of summary.json comes from; policy.yaml, the terminal, the report and the
exports read it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from hs_analysis.policy.confidence import (
    ANSWER_REFUSALS,
    Criterion,
    Grounds,
    confidence_of,
    remedy,
    unmet,
)
from hs_analysis.policy.constants import SAME_SHARE_POINTS
from hs_analysis.policy.model import Policy
from hs_analysis.policy.ratio_costs import measured_splits, ratio_notes
from hs_analysis.schema.decision import (
    CountsAtLoad,
    LimitCost,
    LimitHeld,
    PolicyDecision,
    PoolDecision,
    Recommend,
    ScaleIn,
    SloRisk,
)
from hs_analysis.schema.names import DEFAULT_HPA, RECORDED
from hs_analysis.schema.number_text import day_or_hours, percent, percent_beside
from hs_analysis.schema.replays import PolicyReplay
from hs_analysis.schema.results import Reason

MOST_STEPS = 5
"""Most sentences of `next_steps`."""


@dataclass(frozen=True)
class Consequences:
    """What applying a policy would change.

    Attributes
    ----------
    target, metric
        Its controller, and the signals that size the pools.
    pools
        Counts now and recommended.
    row, recorded
        Rows of the replay: the object that will run, and what ran; None without a backtest.
    under_faults
        Chance of violating under ``faults`` and ``bursts``, of ``policy`` and of the default HPA.
    test
        The window it was replayed on.
    by_blocks
        Whether that is the one day it was fitted on.
    floors
        Whether a capacity of the replay is a floor, so that faults break the SLO at most so often.
    limits
        What limits of the user's own cost there; None where none held a pool.
    scale_in
        What scale-in costs; None without a backtest.
    """

    target: str = ""
    metric: str = ""
    pools: tuple[PoolDecision, ...] = ()
    row: PolicyReplay | None = None
    recorded: PolicyReplay | None = None
    under_faults: Mapping[str, Any] = field(default_factory=dict)
    test: tuple[str, str] | None = None
    by_blocks: bool = False
    floors: bool = False
    limits: LimitCost | None = None
    scale_in: ScaleIn | None = None

    def risk(self) -> SloRisk:
        """Return how often the policy is expected to break the SLO."""
        ours, default = (self.under_faults.get(name) or {} for name in ("policy", DEFAULT_HPA))
        return SloRisk(
            undisturbed=self.row.slo_violation_ratio if self.row else None,
            undisturbed_range=self.row.slo_violation_range if self.row else None,
            recorded=self.recorded.slo_violation_ratio if self.recorded else None,
            under_faults=ours.get("faults"),
            under_bursts=ours.get("bursts"),
            default_hpa_under_faults=default.get("faults"),
            default_hpa_under_bursts=default.get("bursts"),
            faults_at_most=self.floors and bool(ours),
        )

    def saved(self, figure: str) -> float | None:
        """Return what was recorded less what the policy needs, of a figure that both have."""
        if self.by_blocks:  # a day that was seen gives a range at most
            return None
        before, after = (getattr(row, figure) if row else None for row in (self.recorded, self.row))
        return None if before is None or after is None else float(before - after)


def limit_cost(
    held: Sequence[LimitHeld], zone: str, row: PolicyReplay | None, without: PolicyReplay | None
) -> LimitCost | None:
    """Return what limits of the user's own cost; None where none held a pool.

    Parameters
    ----------
    held
        Pools that limits held in the replay.
    zone
        Time zone in which hours are said (IANA name).
    row, without
        The object that will run, with its limits and without.
    """
    if not held:
        return None
    return LimitCost(
        pools=tuple(held),
        zone=zone,
        slo_violation_ratio=row.slo_violation_ratio if row else None,
        slo_violation_ratio_without=without.slo_violation_ratio if without else None,
        instance_hours=row.instance_hours if row else None,
        instance_hours_without=without.instance_hours if without else None,
    )


def pool_counts(timeline: pl.DataFrame, policy: str, roles: Sequence[str]) -> tuple[PoolDecision, ...]:
    """Return the counts of pools as recorded and as a policy asked for, over all windows and at three loads.

    Parameters
    ----------
    timeline
        Rows of the contract TIMELINE of one service.
    policy
        Name of its rows; without any the pools have no recommended counts.
    roles
        Pools; a single one stands in the decode columns.
    """
    found = []
    for role in roles:
        column = "prefill" if role == "prefill" else "decode"
        rows = timeline.select(
            "policy", "capture", "t", load=pl.col(f"load_{column}"), count=pl.col(f"desired_{column}")
        )
        now = rows.filter(pl.col("policy") == RECORDED).drop("policy")
        then = rows.filter(pl.col("policy") == policy).select("capture", "t", recommended="count")
        both = now.join(then, on=["capture", "t"], how="left").filter(pl.col("load").is_not_null())
        at_load = {name: _at(both, *span) for name, span in _LOADS.items() if both.height}
        found.append(
            PoolDecision(
                role=role, now=_mean(both, "count"), recommended=_mean(both, "recommended"), at_load=at_load
            )
        )
    return tuple(found)


_LOADS = {"low": (0.0, 0.1), "usual": (0.45, 0.55), "peak": (0.9, 1.0)}
"""Part of the windows, by their load, that stands for a load [quantile]."""


def _at(rows: pl.DataFrame, low: float, high: float) -> CountsAtLoad:
    least, most = (rows["load"].quantile(share, "nearest") for share in (low, high))
    near = rows.filter(pl.col("load").is_between(least, most))
    load = near["load"].mean()
    return CountsAtLoad(
        load=float(load) if isinstance(load, float) else 0.0,
        now=_mean(near, "count"),
        recommended=_mean(near, "recommended"),
    )


def _mean(rows: pl.DataFrame, name: str) -> float | None:
    value = rows[name].drop_nulls().drop_nans().mean() if rows.height else None
    return float(value) if isinstance(value, float) else None


def decide_on(grounds: Grounds, consequences: Consequences | None = None) -> PolicyDecision:
    """Return what to do with a policy, what that changes, and how far to trust it."""
    after = consequences or Consequences()
    failed = unmet(grounds)
    weighed = sorted(failed, key=lambda one: (-one[0].points, len(one[1].text), one[1].text))
    recommend, why = recommendation(grounds)
    return PolicyDecision(
        recommend=recommend,
        why=why,
        confidence=confidence_of(failed),
        confidence_reasons=tuple(reason for _, reason in weighed),
        next_steps=tuple(_next_steps(grounds, recommend, failed)),
        target=after.target,
        metric=after.metric,
        pools=after.pools,
        hours_saved_ratio=after.row.vs_recorded if after.row and not after.by_blocks else None,
        hours_saved_ci=after.row.vs_recorded_ci if after.row else None,
        instance_hours_saved=after.saved("instance_hours"),
        gpu_hours_saved=after.saved("gpu_hours"),
        cost_saved=after.saved("cost"),
        slo_risk=after.risk(),
        backtested=after.test if after.row else None,
        alarm=grounds.alarm,
        by_blocks=after.by_blocks,
        limits=after.limits,
        ratio_notes=ratio_notes(grounds.replay, grounds.chosen, grounds.whole.pd_ratio),
        scale_in=after.scale_in,
    )


def with_decision(policy: Policy, decision: PolicyDecision) -> Policy:
    """Return the policy with the status that a decision gives it."""
    return replace(
        policy,
        recommended=decision.recommend == "apply",
        confidence=decision.confidence,
        confidence_reasons=tuple(reason.text for reason in decision.confidence_reasons),
    )


def recommendation(grounds: Grounds) -> tuple[Recommend, str]:
    """Return what to do and why, in a sentence.

    ``keep`` where the policy needs more hours than what ran and is not known to break the SLO a point less
    often, or what ran holds the SLO anyway; where it breaks the SLO more often than is allowed and what ran
    did not; and where there is an alarm.
    """
    if grounds.policy.mode == "hold":
        said = next(iter(grounds.policy.refusals[-1:]), "no_primary: no signal may size a pool")
        tested = measured_splits(grounds.whole.pd_ratio)
        return "record", "; ".join(text for text in (said.partition(": ")[2], tested) if text)
    if grounds.is_ratio_test:
        return "keep", f"{SET_ON_PURPOSE}; {measured_splits(grounds.whole.pd_ratio)}"
    row, ran = grounds.row, grounds.recorded
    if row is None or ran is None:
        return "apply", "no part of the history was left to replay it on"
    if grounds.alarm is not None:
        return "keep", f"it {grounds.alarm.text}"
    return _beside_what_ran(grounds, row, ran)


def _beside_what_ran(grounds: Grounds, row: PolicyReplay, ran: PolicyReplay) -> tuple[Recommend, str]:
    """Return what to do with a policy whose hours and risk are set beside those of what ran, and why."""
    more, hours = row.vs_recorded is not None and row.vs_recorded < 0, _hours_text(grounds, row.vs_recorded)
    if not grounds.slo.given:
        return ("keep" if more else "apply"), hours or "no SLO was given, and the hours are not known"
    shares = _shares(grounds, row, ran)
    if shares is None:
        unknown = "whether it breaks the SLO less often is not known"
        return ("keep" if more else "apply"), f"{hours}, and {unknown}" if hours else unknown
    ours, theirs = shares
    allowed = grounds.slo.allowed_window_share
    if ours > allowed >= theirs and row.slo_side != "unclear" and not more:
        share, most = percent_beside(ours, allowed), percent(allowed, exact=True)
        text = f"it breaks the SLO in {share} of windows, what ran in {percent(theirs)}; {most} are allowed"
        return "keep", text
    broken = _set_beside(ours, theirs, rough=None in (row.slo_violation_ratio, ran.slo_violation_ratio))
    worth_more = theirs > allowed and (ours < theirs - SAME_SHARE_POINTS or ours <= allowed)
    recommend: Recommend = "keep" if more and not worth_more else "apply"
    return recommend, f"{hours}, and {broken}" if hours else broken


def _hours_text(grounds: Grounds, saved: float | None) -> str:
    """Return how many hours a policy needs beside what ran; of the very day it was fitted on no number."""
    if saved is None:
        return ""
    said = "more" if saved < 0 else "fewer"
    if grounds.day is not None:
        return f"the policy needs {said} hours on the {day_or_hours(grounds.span_s)} it was fitted on"
    return f"the policy needs {percent(abs(saved))} {said} hours"


SET_ON_PURPOSE = "a ratio test sets load and counts on purpose, so that there is nothing to save on"
"""Why the policy of a ratio test is not set against what ran."""


def _set_beside(ours: float, theirs: float, *, rough: bool) -> str:
    """Return two shares in words, without their numbers where a replay is off."""
    if not rough:
        return f"it breaks the SLO in {percent(ours)} of windows, what ran in {percent(theirs)}"
    apart, same = ours - theirs, SAME_SHARE_POINTS
    often = "less often than" if apart < -same else "more often than" if apart > same else "as often as"
    return f"by a replay that is not calibrated it breaks the SLO {often} what ran"


def _shares(grounds: Grounds, row: PolicyReplay, ran: PolicyReplay) -> tuple[float, float] | None:
    """Return the shares of windows over the SLO; of an uncalibrated replay where no other has them."""
    ours, theirs = row.slo_violation_ratio, ran.slo_violation_ratio
    return grounds.rough if ours is None or theirs is None else (ours, theirs)


def _next_steps(
    grounds: Grounds, recommend: Recommend, failed: Sequence[tuple[Criterion, Reason]]
) -> Iterator[str]:
    steps = {
        "apply": "Read the first lines of an exported file, check its names and addresses, and apply it.",
        "keep": "Keep what runs. policy.yaml and the exports are written, marked as not recommended.",
        "record": "Keep what runs, and record what is missing.",
    }
    found = [steps[recommend]]
    if recommend == "record" and grounds.whole.pd_ratio.by_mix:
        found = ["Keep what runs, or start a new service at the split measured; record what is missing."]
    if recommend == "keep" and grounds.is_ratio_test:
        found.append("Record the service under its own load for a day or more: hsa pull.")
    remedies = [text for row, _ in failed if (text := remedy(grounds, row)) is not None]
    if recommend == "record":
        found += [ANSWER_REFUSALS] if ANSWER_REFUSALS in remedies else []
        open_ = [one for one in grounds.whole.refusals if not one.collect.startswith("nothing: ")]
        asked = [one.collect if grounds.load_test else one.collect_untested for one in open_]
        found += [f"{text[:1].upper()}{text[1:]}." for text in asked]
    found += remedies
    yield from list(dict.fromkeys(found))[:MOST_STEPS]
