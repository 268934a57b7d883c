"""On which side of what the SLO allows a replayed policy lies, as far as a replay can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hs_analysis.replay.constants import SHARE_WIDTH
from hs_analysis.schema.results import Interval, PolicyReplay

OVER, UNDER, UNCLEAR = "over", "under", "unclear"


def width_of(calibration: Mapping[str, Any]) -> float:
    """Return how far roots of shares may be off in this history [√ratio].

    ``SHARE_WIDTH``, or how far the recorded counts were foretold, per latency, if that is more. Over a floor
    the model is meant to predict too much; there only too little counts.
    """
    widths = [SHARE_WIDTH]
    for entry in calibration.get("latencies", {}).values():
        if entry["predicted"] is None:
            continue
        predicted, (low, high) = entry["predicted"], entry["observed"]
        seen = low if entry.get("upper_bound") and predicted > low else min(max(predicted, low), high)
        off = math.sqrt(seen) - math.sqrt(predicted)
        widths.append(max(0.0, off) if entry.get("upper_bound") else abs(off))
    return max(widths)


def share_range(share: float, measured: float, width: float) -> Interval:
    """Return the shares between which the true one lies, as far as a replay can tell.

    Parameters
    ----------
    share
        Replayed share of violating windows, an upper bound over floors [ratio].
    measured
        The same of the pools alone whose capacity was measured: others are not known to violate [ratio].
    width
        See ``width_of``.
    """
    low = max(0.0, math.sqrt(measured) - width) ** 2
    return low, min(1.0, math.sqrt(share) + width) ** 2


def side_of(span: Interval, mark: float) -> str:
    """Return whether a range of shares lies ``under`` a mark (or on it), ``over`` it, or is ``unclear``."""
    if span[1] <= mark:
        return UNDER
    return OVER if span[0] > mark else UNCLEAR


def with_side(
    row: PolicyReplay, measured: float | None, calibration: Mapping[str, Any], allowed: float
) -> PolicyReplay:
    """Add the range of a row's share of violating windows, and its side of the share that the SLO allows.

    A share that is not calibrated has no range, and its side is unclear. Without a share, because no limit or
    no capacity is known, there is neither.

    Parameters
    ----------
    row
        Figures of one policy.
    measured
        Its share in the pools of measured capacity; None without such a pool.
    calibration
        Of the replay, see ``calibrate``.
    allowed
        Share of windows that the SLO allows [ratio].
    """
    share = row.slo_violation_ratio
    if share is None:
        return row
    if calibration["status"] != "calibrated":
        return replace(row, slo_side=UNCLEAR)
    span = share_range(share, measured or 0.0, width_of(calibration))
    return replace(row, slo_violation_range=span, slo_side=side_of(span, allowed))
