"""Numbers as text: significant digits, thousands, and the one way to print a percentage."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

NONE = "–"
"""What stands where a number could not be had; the reason stands beside it."""

LEAST_PERCENT = 0.01
"""Smallest percentage that is told from none."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite number (a bool is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits and thousands separators.

    From 1,000 up there is one digit more and no decimals; null, NaN and infinities become an en dash.
    """
    if not is_number(value):
        return NONE
    if value == 0:
        return "0"
    digits += abs(value) >= 1000
    exponent = math.floor(math.log10(abs(value)))
    rounded = round(float(value), digits - 1 - exponent)
    if rounded == 0 or abs(rounded) < 1e-4:
        return f"{value:.{digits - 1}g}".replace("e-0", "e-").replace("-", "−", 1 if value < 0 else 0)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}".replace("-", "−")


def fixed(value: Any, decimals: int) -> str:
    """Return a number with as many decimals as its neighbours in a column have."""
    return f"{float(value) + 0.0:,.{decimals}f}".replace("-", "−") if is_number(value) else NONE


def plain(value: Any) -> str:
    """Return a number without trailing zeros: 8 GPUs, 9 instances, 0.25."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def percent(
    value: Any, digits: int = 3, *, signed: bool = False, whole: bool = False, exact: bool = False
) -> str:
    """Return a ratio as a percentage: 0.283 becomes ``28.3 %``; at most one decimal from 10 % up.

    What would round to less than a hundredth of a per cent is ``<0.01 %``: no model is as exact as that.

    Parameters
    ----------
    value
        Ratio; what is no number is an en dash.
    digits
        Significant digits below 10 %, two at most.
    signed
        Put a plus before a growth.
    whole
        Round to whole per cents: of what is only roughly known.
    exact
        Leave out a decimal that is zero: of what a setting says.
    """
    if not is_number(value):
        return NONE
    scaled = float(value) * 100
    if not whole and 0 < scaled < LEAST_PERCENT / 2:
        return f"<{LEAST_PERCENT} %"
    if whole:
        text = f"{scaled + 0.0:.0f}".replace("-", "−")
    elif abs(scaled) >= 9.95:
        text = f"{scaled:.1f}".removesuffix(".0").replace("-", "−")
    else:
        text = number(scaled, min(digits, 2))
    if exact:
        text = text.removesuffix(".0")
    return f"{'+' if signed and scaled > 0 else ''}{text} %"


def percent_beside(value: Any, limit: float) -> str:
    """Return a ratio as a percentage that reads otherwise than its limit, unless it is the limit."""
    text = percent(value)
    if value != limit and is_number(value) and percent(value, exact=True) == percent(limit, exact=True):
        return f"{100 * float(value):.2f} %"
    return text


SAME_SHARE = 0.005
"""A target this near to its share of the capacity is that share: numbers in files are rounded [ratio]."""


def share_words(target: Any, share: Any, ends: tuple[Any, Any], *, floor: bool) -> str:
    """Return what a target is of the capacity behind it, in words before that capacity.

    Work is a share of its capacity; another signal is read at that share of the load, where it need not be
    the same share of what it reads at capacity.

    Parameters
    ----------
    target, share
        The target and the head-room ratio.
    ends
        The capacity in the signal's unit, and its lower end.
    floor
        Whether the capacity is a floor, whose share is of the number itself.
    """
    part, base = fixed(share, 2), ends[0] if floor else ends[1]
    known = is_number(target) and is_number(share) and is_number(base)
    if known and abs(share * base - target) > SAME_SHARE * abs(target):
        load = "a floor, where it is" if floor else "the lower end; at capacity it is"
        return f"what it reads at {part} × the load of {load}"
    return f"{part} × {'a floor of' if floor else 'the lower end of a capacity of'}"


NEARLY_A_DAY_S = 20 * 3600.0
"""A history from this length on is called one day [s]. Default of this project."""


def day_or_hours(span_s: float | None) -> str:
    """Return what a history of at most a day is called: ``one day``, ``12 hours`` or ``20 minutes``.

    A length that is not known is a day's.
    """
    if not span_s or span_s >= NEARLY_A_DAY_S:
        return "one day"
    return f"{span_s / 3600.0:.0f} hours" if span_s >= 7200.0 else f"{span_s / 60.0:.0f} minutes"
