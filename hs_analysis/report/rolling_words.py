"""Realised coverage in words: how many later days agreed with an interval fitted before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.cells import reason_text
from hs_analysis.report.choice import mapping
from hs_analysis.report.wording import is_number
from hs_analysis.schema.constants import DAY_S


def coverage_count(capacity: Mapping[str, Any]) -> str:
    """Return ``4 of 5 days``, empty where there is no number."""
    found = mapping(capacity.get("realised_coverage"))
    if not is_number(found.get("covered")):
        return ""
    blocks = "days" if found.get("block_s") == DAY_S else "half days"
    return f"{found['covered']} of {found['blocks']} {blocks}"


def coverage_text(capacity: Mapping[str, Any]) -> str:
    """Return the realised coverage of a capacity's interval as a sentence, empty where not looked for."""
    found = mapping(capacity.get("realised_coverage"))
    if not found:
        return ""
    count = coverage_count(capacity)
    if not count:
        return f"not checked on later days: {reason_text(found.get('reason'))}"
    pairs = [(side, *found[side]) for side in ("below", "above")]
    sides = [f"just {side} it {held} of {seen}" for side, held, seen in pairs if seen]
    return f"{count} agree with the interval that the time before them gives ({', '.join(sides)})"
