"""What a replay may warn of in a first line: only what the evidence says, in one place.

An alarm says that applying a policy would break the SLO, or would load instances as nothing recorded ever
did. That a replay can't tell is no alarm: it stays in the body of an answer. A replay that is not calibrated
may not say that the SLO holds; that it breaks, and more often than as it ran, it may: it is off for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.policy.constants import SAME_SHARE_POINTS
from hs_analysis.schema.names import RECORDED
from hs_analysis.schema.number_text import percent, percent_beside

NOT_HELD, NEVER_CARRIED = "slo_not_held", "load_never_carried"
"""Codes of what is warned of: the SLO is broken, or nothing shows that it holds."""


def alarm_of(
    *,
    side: str | None,
    share: float | None,
    span: Sequence[float] | None,
    recorded: float | None,
    recorded_span: Sequence[float] | None,
    recorded_unknown: float | None,
    rough: tuple[float, float] | None,
    far_above: float | None,
    allowed: float,
) -> tuple[str, str] | None:
    """Return the code of what a replayed policy is warned of, and the words after its name; None for nothing.

    Parameters
    ----------
    side
        ``slo_side`` of the policy in the replay; None where no limit was given.
    share, recorded
        Share of windows over the SLO, of the policy and of what ran, in one replay; None where not known.
    span, recorded_span
        Between which shares these lie (``slo_violation_range``); the lower end of one that is ``over`` speaks
        where the share is not known, against the lower end of what ran: how far a replay is off is common to
        both. None for no claim.
    recorded_unknown
        ``not_known_ratio`` of what ran: its lower end may be higher by so much.
    rough
        Both shares by a replay that is not calibrated (`uncalibrated`).
    far_above
        ``far_above_ratio`` of the policy.
    allowed
        Share of windows that the SLO allows.
    """
    if side == "beyond" and far_above is not None:
        return NEVER_CARRIED, (
            f"loads its instances far above all that was recorded in {percent(far_above, whole=True)} of "
            "windows, and nothing shows that the SLO holds there; "
            f"{percent(allowed, exact=True)} may break it"
        )
    if side is None:
        return None
    least, at_least = known_over(side, share, span)
    beside = recorded
    if recorded_span is not None and at_least:
        beside = recorded_span[0] + (recorded_unknown or 0.0)
    elif recorded_span is not None and recorded is None:
        beside = recorded_span[1]
    if least is not None and _worse(least, beside, allowed):
        words = "at least " if at_least else ""
        ran = "" if recorded is None else f", what ran in {percent(recorded)}"
        return (
            NOT_HELD,
            f"breaks the SLO in {words}{percent_beside(least, allowed)} of windows{ran}; "
            f"{percent(allowed, exact=True)} are allowed",
        )
    if rough is not None and _worse(*rough, allowed):
        return NOT_HELD, (
            f"breaks the SLO more often than what ran, and in more than the {percent(allowed, exact=True)} "
            "of windows that are allowed, by a replay that is not calibrated"
        )
    return None


def _worse(share: float, beside: float | None, allowed: float) -> bool:
    """Whether a share is over what is allowed, and a point over the share that it is set beside."""
    return share > allowed and (beside is None or share > beside + SAME_SHARE_POINTS)


def uncalibrated(calibration: Mapping[str, Any], policy: str | None) -> tuple[float, float] | None:
    """Return the shares of a policy and of what ran by a replay that is not calibrated, None without both."""
    shares = calibration.get("uncalibrated_shares") or {}
    ours, theirs = shares.get(policy), shares.get(RECORDED)
    return None if ours is None or theirs is None else (ours, theirs)


def known_over(
    side: str | None, share: float | None, span: Sequence[float] | None
) -> tuple[float | None, bool]:
    """Return the share of windows over the SLO that is known, and whether it is only at least so much.

    Arguments as those of `alarm_of`; a range that is not ``over`` tells no share.
    """
    if share is None and span is not None and side == "over":
        return span[0], True
    return share, False
