"""Numbers of a policy to as many digits as they mean: what is written is what acts and what is exported."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from hs_analysis.policy.model import Policy

DIGITS = 5
"""Significant digits of a number in policy.yaml: far finer than any interval in it, short enough to read."""


def rounded(policy: Policy) -> Policy:
    """Return the policy with every number to `DIGITS` significant digits; whole numbers stay whole."""
    return cast("Policy", _rounded(policy))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_rounded(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{item.name: _rounded(getattr(value, item.name)) for item in fields(value)})
    return value
