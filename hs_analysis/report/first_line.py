"""What has to stand first in an answer: more SLO violations than were recorded, or that nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.choice import Choice, mapping, records
from hs_analysis.report.replay_words import side_unclear
from hs_analysis.report.wording import is_number, percent
from hs_analysis.schema.results import WITHOUT_SERVICE

WELL_ABOVE = 0.01
"""An uncalibrated share above that of the recorded counts by more than this is named [ratio]; as far apart as
predicted and observed shares may be in a calibrated replay. Default of this project."""

MOST_POOLS = 3
"""Pools without a service that the first lines name; doctor lists all [count]. Default of this project."""

_COMMON_TAIL = ": only hours and actions are given"
"""How reasons of a replay that is not calibrated end."""


def warnings(service: Mapping[str, Any], choice: Choice, slo: Mapping[str, Any]) -> list[str]:
    """Return the first lines of an answer that speaks of a service's backtest; mostly there are none.

    Parameters
    ----------
    service
        The service's part of summary.json, at least ``service`` and ``replay``.
    choice
        The selected policy and the recorded counts as replayed.
    slo
        Limits of the run.
    """
    said = worse_than_recorded(service, choice) or not_known(service, choice, slo)
    return [f"WARNING: {said}"] if said else []


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
    """Whether the selected policy breaks the SLO more often than what was recorded, as replayed."""
    ours, theirs = _shares(choice)
    return is_number(ours) and is_number(theirs) and ours > theirs


def worse_than_recorded(service: Mapping[str, Any], choice: Choice) -> str:
    """Return a sentence when the selected policy breaks the SLO more often than what was recorded."""
    if not is_worse(choice):
        return ""
    ours, theirs = _shares(choice)
    return (
        f"on the test window the selected policy of {service['service']} breaks the SLO in "
        f"{percent(ours)} of windows, the recorded fleet in {percent(theirs)}."
    )


def not_known(service: Mapping[str, Any], choice: Choice, slo: Mapping[str, Any]) -> str:
    """Return a sentence when a backtest can't tell whether the selected policy does worse, and why.

    Empty without an SLO or a backtest, and where both shares are known.
    """
    calibration = mapping(mapping(service.get("replay")).get("calibration"))
    replayed = bool(choice.selected and choice.recorded and calibration.get("status"))
    if not (_given(slo) and replayed) or all(is_number(share) for share in _shares(choice)):
        return ""
    why = f": {reason}" if (reason := _reason(calibration)) else ""
    return (
        f"it is not known whether the selected policy of {service['service']} breaks the SLO more often than "
        f"the recorded fleet on the test window{why}{_likely_worse(calibration, choice)}."
    )


def not_held(service: Mapping[str, Any], choice: Choice, slo: Mapping[str, Any]) -> list[str]:
    """Return a line when the replay is sure that the selected policy breaks the SLO more than is allowed."""
    if not is_over(choice, slo) or side_unclear(choice.selected):
        return []
    ours, allowed = choice.selected["slo_violation_ratio"], slo["allowed_window_share"]
    return [
        f"WARNING: on the test window the selected policy of {service['service']} does not hold the SLO: "
        f"it is broken in {percent(ours)} of windows, {percent(allowed)} are allowed."
    ]


def is_over(choice: Choice, slo: Mapping[str, Any]) -> bool:
    """Whether the selected policy breaks a given SLO in more windows than it allows, as replayed."""
    ours, allowed = choice.selected.get("slo_violation_ratio"), slo.get("allowed_window_share")
    return _given(slo) and is_number(ours) and is_number(allowed) and ours > allowed


def _given(slo: Mapping[str, Any]) -> bool:
    return is_number(slo.get("ttft_s")) or is_number(slo.get("tbt_s"))


def _shares(choice: Choice) -> tuple[Any, Any]:
    return choice.selected.get("slo_violation_ratio"), choice.recorded.get("slo_violation_ratio")


def _reason(calibration: Mapping[str, Any]) -> str:
    """Return in few words why no share is given: latencies that are foretold badly, else what moved."""
    compared = {
        name: entry
        for name, value in mapping(calibration.get("latencies")).items()
        if is_number((entry := mapping(value)).get("predicted"))
    }
    missed = [
        f"{name.upper()} is foretold over its limit in {percent(entry['predicted'])} of windows at the "
        f"recorded counts, seen in {_seen(entry['observed'])}"
        for name, entry in compared.items()
        if entry.get("calibrated") is False
    ]
    if missed:
        return "; ".join(missed)
    # The text tells every compared latency in a part of its own before it says what else stands against it.
    rest = str(calibration.get("text") or "").split("; ")[len(compared) :]
    return "; ".join(rest).partition(_COMMON_TAIL)[0].removeprefix("not calibrated: ")


def _seen(observed: Any) -> str:
    low, high = (percent(share) for share in observed)
    return low if low == high else f"{low} to {high}"


def _likely_worse(calibration: Mapping[str, Any], choice: Choice) -> str:
    """Return the shares of the uncalibrated replay where they speak against the selected policy."""
    shares = mapping(calibration.get("uncalibrated_shares"))
    ours, theirs = (shares.get(str(row.get("policy"))) for row in (choice.selected, choice.recorded))
    if not (is_number(ours) and is_number(theirs)) or ours - theirs <= WELL_ABOVE:
        return ""
    return (
        f"; it may well do, the uncalibrated replay has {percent(ours)} of windows against {percent(theirs)}"
    )
