"""The items of a policy by path: what an export has to hold or to list as lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hs_analysis.export.model import Loss
from hs_analysis.policy.model import Policy


def items(policy: Policy) -> dict[str, Any]:
    """Return every value that the policy sets, by paths such as ``guards[0].tiers[0].above_ratio``.

    What is None or empty was not set and is left out; a block of which nothing is set stands for itself.
    """
    return dict(_walk(policy, ""))


def concerning(losses: Sequence[Loss], policy: Policy) -> tuple[Loss, ...]:
    """Return the losses that speak of something the policy sets, each once, in the order given."""
    paths = list(items(policy))
    return tuple(loss for loss in dict.fromkeys(losses) if any(map(loss.covers, paths)))


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if value is None or value in ("", (), {}):
        return
    if is_dataclass(value):
        below = [_walk(getattr(value, f.name), f"{path}.{f.name}".lstrip(".")) for f in fields(value)]
        found = [item for part in below for item in part]
        yield from found or [(path, value)]
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from _walk(value[key], f"{path}.{key}")
    elif isinstance(value, tuple) and not isinstance(value[0], str):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]")
    else:
        yield path, value
