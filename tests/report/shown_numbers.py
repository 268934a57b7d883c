"""A number as a page shows it, held to the number that a program would want."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hs_analysis.report.wording import status

NUMBER = re.compile(r"(<?)(−?)([\d,]*\.?\d+(?:e[−-]?\d+)?)\s*(ms|s|min|h|days|%)?(?![\w/])")
SCALES = {"%": 0.01, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "days": 86_400.0}
LEAST = {"%": "0.01", "s": "1"}
"""What the page writes less than, by unit."""

NONE = "–"


@dataclass(frozen=True)
class Amount:
    """What the page says of one number.

    Parameters
    ----------
    text, unit
        As shown, the unit apart.
    exact
        The value that sorting uses, as text; empty without.
    between
        The interval as shown.
    word
        The status beside it, or in its place.
    negative
        Whether words beside it say that it is less than nothing.
    """

    text: str
    unit: str = ""
    exact: str = ""
    between: str = ""
    word: str = ""
    negative: bool = False


def disagreement(shown: Amount, value: Any, interval: Any = None) -> str:
    """Return in what a shown number is not the value with its interval, empty where it is."""
    if isinstance(value, Mapping):
        value, interval = value["value"], [value["low"], value["high"]]
    if isinstance(value, str):
        return "" if shown.word == status(value)["word"] else f"says {shown.word!r} of {value!r}"
    if isinstance(value, bool):
        said = shown.word or shown.text
        return "" if said == ("chosen" if value else "no") else f"says {said!r} of {value}"
    if value is None:
        return "" if shown.text == NONE and not shown.exact else f"says {shown.text!r} of what is not known"
    if value and isinstance(value, list):
        pairs = [[int(p), int(d)] for p, d in re.findall(r"(\d+)P:(\d+)D", shown.text)]
        return "" if pairs and pairs == [list(one) for one in value[: len(pairs)]] else f"says {pairs}"
    if shown.exact and float(shown.exact) != float(value):
        return f"sorts by {shown.exact}, not {value}"
    digits = value if shown.exact or shown.unit else float(f"{value:.2g}")  # two, where no column sorts by it
    if not any(_shows(shown.text, shown.unit, one, negative=shown.negative) for one in (value, digits)):
        return f"shows {shown.text!r} {shown.unit} of {value}"
    return apart(shown.between, interval, shown.unit)


def apart(between: str, interval: Any, unit: str = "") -> str:
    """Return in what a shown interval is not the interval, empty where it is."""
    if not interval:
        return f"shows an interval {between!r}" if between else ""
    ends = between.split(" to ")
    if len(ends) != 2 or not all(_shows(end, unit, of) for end, of in zip(ends, interval, strict=True)):
        return f"shows {between!r} of {interval}"
    return ""


def _shows(text: str, unit: str, value: float, *, negative: bool = False) -> bool:
    """Whether a text is a value, rounded to the digits that the text has."""
    found = NUMBER.fullmatch(text.strip()) or NUMBER.match(text.strip())
    if found is None or (found.end() != len(text.strip()) and text.strip()[found.end() :].strip() != unit):
        return False
    below, minus, digits, own = found.groups()
    scaled = value / SCALES.get(own or unit, 1.0)
    if below:
        return digits == LEAST.get(own or unit) and abs(scaled) < float(digits)
    if (minus == "−" or negative) != (scaled < 0) and float(digits.replace(",", "").replace("−", "-")) != 0:
        return False
    got = float(digits.replace(",", "").replace("−", "-"))
    whole, _, power = digits.partition("e")
    last = 0.5 * 10.0 ** -len(whole.partition(".")[2]) * 10.0 ** float(power.replace("−", "-") or 0)
    if abs(scaled) >= 1000:
        last = max(last, 0.5 * 10.0 ** (math.floor(math.log10(abs(scaled))) - 3))
    return abs(got - abs(scaled)) <= last * 1.001
