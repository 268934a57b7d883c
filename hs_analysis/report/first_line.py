"""What has to stand first in an answer: what is known to speak against a policy, and whom it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.policy.alarms import alarm_of, uncalibrated
from hs_analysis.policy.constants import SAME_SHARE_POINTS
from hs_analysis.report.choice import Choice, mapping, records
from hs_analysis.report.wording import day_of, is_number, replayed_on
from hs_analysis.schema.names import BASELINES, PERIODIC
from hs_analysis.schema.results import WITHOUT_SERVICE

MOST_POOLS = 3
"""Pools without a service that the first lines name; doctor lists all [count]. Default of this project."""


def warnings(service: Mapping[str, Any], choice: Choice, slo: Mapping[str, Any]) -> list[str]:
    """Return the first lines of a backtest that warn of a policy; mostly there are none.

    Of the selected policy what its decision says, or what its row says where no decision was made from this
    replay; of policies given beside it what their rows say. Only what the replay knows is warned of: an SLO
    that is broken, or loads that nothing recorded ever carried.

    Parameters
    ----------
    service
        The service's part of summary.json, at least ``service`` and ``replay``; ``decision`` where there is
        one of this replay.
    choice
        The selected policy and the recorded counts as replayed.
    slo
        Limits of the run.
    """
    if not _given(slo):
        return []
    replay = mapping(service.get("replay"))
    known, rows = mapping(replay.get("calibration")), records(replay.get("policies"))
    own = {choice.policy, choice.backtested, choice.selected.get("policy"), PERIODIC, *BASELINES}
    on, day = replayed_on(service), f"the {day_of(choice.decision)} of the history"
    warned = []
    if choice.decision:
        said = str(mapping(choice.decision.get("alarm")).get("text") or "")
        warned.append((day if choice.decision.get("by_blocks") else on, "the selected policy", said))
    elif choice.selected:
        warned.append((on, "the selected policy", _alarm(choice.selected, choice.recorded, known, slo)))
    whole = mapping(known.get("one_day"))  # of one day the test window is a part that is no sample of it
    ran, of_day = mapping(whole.get("recorded")), mapping(whole.get("given"))
    for row in (row for row in rows if row.get("policy") not in own):
        if same := mapping(of_day.get(row["policy"])):
            warned.append((day, row["policy"], _alarm(same, ran, whole, slo)))
        else:
            warned.append((on, row["policy"], _alarm(row, choice.recorded, known, slo)))
    return [f"WARNING: on {at} {name} of {service['service']} {said}." for at, name, said in warned if said]


def _alarm(
    row: Mapping[str, Any], ran: Mapping[str, Any], calibration: Mapping[str, Any], slo: Mapping[str, Any]
) -> str:
    """Return what a replayed policy is warned of, in words after its name; empty for nothing."""
    found = alarm_of(
        side=row.get("slo_side"),
        share=row.get("slo_violation_ratio"),
        span=row.get("slo_violation_range"),
        recorded=ran.get("slo_violation_ratio"),
        recorded_span=ran.get("slo_violation_range"),
        recorded_unknown=ran.get("not_known_ratio"),
        rough=uncalibrated(calibration, row.get("policy")),
        far_above=row.get("far_above_ratio"),
        allowed=float(slo.get("allowed_window_share") or 0.0),
    )
    return found[1] if found else ""


def without_service(summary: Mapping[str, Any], most: int = MOST_POOLS) -> list[str]:
    """Return the very first sentences of an answer: instances that have a role and belong to no service.

    At most ``most`` pools, then how many more there are; doctor lists them all.
    """
    found = records(summary.get("warnings"))
    texts = [str(one.get("text")) for one in found if one.get("code") == WITHOUT_SERVICE]
    rest = len(texts) - most
    more = [f"{rest} more pools belong to no service: hsa doctor lists them"] if rest > 0 else []
    return [*texts[:most], *more]


def ratio_kept(service: Mapping[str, Any], choice: Choice) -> str:
    """Return that nothing keeps the derived ratio, where a policy sizes each pool by its own signal."""
    known = is_number(mapping(service.get("pd_ratio")).get("value"))
    if not known or choice.keeps_ratio or len(choice.primaries) < 2 or not choice.follows:
        return ""
    return "; derived, and not kept: the policy sizes each pool by its own signal"


def is_worse(choice: Choice) -> bool:
    """Whether the selected policy breaks the SLO clearly more often than what was recorded, as replayed."""
    ours, theirs = (row.get("slo_violation_ratio") for row in (choice.selected, choice.recorded))
    if choice.decision.get("by_blocks"):
        ours, theirs = map(mapping(choice.decision.get("slo_risk")).get, ("undisturbed", "recorded"))
    return is_number(ours) and is_number(theirs) and ours > theirs + SAME_SHARE_POINTS


def _given(slo: Mapping[str, Any]) -> bool:
    return is_number(slo.get("ttft_s")) or is_number(slo.get("tbt_s"))
