"""What a replay may warn of in a first line: only what the evidence says, in one place.

An alarm says that applying a policy would break the SLO, or would load instances as nothing recorded ever
did. That a replay can't tell is no alarm: it stays in the body of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from hs_analysis.policy.constants import SAME_SHARE_POINTS
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
        where the share is not known. None for no claim.
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
    least, at_least = known_over(side, share, span)
    if side is None or least is None or least <= allowed:
        return None
    ran_at_most = recorded_span[1] if recorded is None and recorded_span is not None else recorded
    if ran_at_most is not None and least <= ran_at_most + SAME_SHARE_POINTS:
        return None
    words = "at least " if at_least else ""
    ran = "" if recorded is None else f", what ran in {percent(recorded)}"
    return (
        NOT_HELD,
        f"breaks the SLO in {words}{percent_beside(least, allowed)} of windows{ran}; "
        f"{percent(allowed, exact=True)} are allowed",
    )


def known_over(
    side: str | None, share: float | None, span: Sequence[float] | None
) -> tuple[float | None, bool]:
    """Return the share of windows over the SLO that is known, and whether it is only at least so much.

    Arguments as those of `alarm_of`; a range that is not ``over`` tells no share.
    """
    if share is None and span is not None and side == "over":
        return span[0], True
    return share, False
