"""What a policy may set and hardly means: numbers that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from hs_analysis.policy.model import Policy, Primary

LEAST_TARGET_SHARE = 0.01
"""A target below this share of the one it replaces is taken for a slip [ratio]: a pool would need a hundred
times the instances, and its bounds end at twice the most ever seen. Default of this project."""


def doubts(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the path of each odd value in its document, and what is odd about it, as a sentence."""
    for number, primary in enumerate(policy.primaries):
        value, capacity = primary.target_per_instance.value, primary.target_per_instance.capacity
        # Of a mean over instances the target is in its own unit, and capacity in that of the work.
        if value is not None and capacity is not None and primary.pool == "sum" and value > capacity.high:
            where = f"spec.primaries[{number}].target_per_instance.value"
            yield where, f"{value:g} is above the capacity of {capacity.low:g} to {capacity.high:g}"
    if (ratio := policy.pd_ratio) is not None:
        value, low, high = ratio.value, ratio.low, ratio.high
        if value is not None and low is not None and high is not None and not low <= value <= high:
            yield "spec.pd_ratio.value", f"{value:g} is outside {low:g} to {high:g}"
    for role, rest in policy.cooldown.items():
        start_s = policy.start_up_s.get(role)
        if rest.scale_out_s and start_s and rest.scale_out_s < start_s:
            said = f"{rest.scale_out_s:g} s is less than the {start_s:g} s that {role} takes to start"
            yield "spec.cooldown", f"scale_out_s {said}: more are asked for before the first ones serve"


def target_slip(primary: Primary, value: float) -> tuple[str, str] | None:
    """Return what is wrong with a target given by hand, and what to give instead; None where nothing is."""
    now, unit = primary.target_per_instance.value, primary.unit
    if not isinstance(value, int | float) or value <= 0:
        return f"{value} is not above zero", f"give {unit} of one instance, now {now}"
    if not now or value >= LEAST_TARGET_SHARE * now:
        return None
    share = f"for a share of it give {value:g} * {now:g} = {value * now:g}"
    return (
        f"{value:g} {unit} is less than a hundredth of the {now:g} it replaces",
        f"a target is in {unit} of one instance; {share}",
    )
