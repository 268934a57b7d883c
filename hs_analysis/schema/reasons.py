"""What stands beside a number: its interval, or why it could not be had; and a number with its interval."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A number that was estimated, and the ends of its 95 % interval: low ≤ value ≤ high, one unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Reason:
    """Why a verdict or a refusal is what it is: code, sentence, measured value and the rule's limit."""

    code: str
    text: str
    value: float | None = None
    limit: float | None = None


WITHOUT_SERVICE = "instances_without_service"
"""Code of the warning that instances have a role and belong to no service: no answer counts them."""
