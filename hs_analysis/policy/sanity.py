"""What a policy can't mean, signals and units that are not the catalogue's, and what it hardly means."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from hs_analysis.catalogue import WORKED_OUT, load_catalogue
from hs_analysis.catalogue.rows import conversion
from hs_analysis.policy.model import Policy, Primary, Target

LEAST_TARGET_SHARE = 0.01
"""A target below this share of the one it replaces is taken for a slip [ratio]: a pool would need a hundred
times the instances, and its bounds end at twice the most ever seen. Default of this project."""

USUAL_TARGET = (0.5, 2.0)
"""A target outside these multiples of head-room × capacity is worth a second look [ratio]: no head-room that
a user sets makes such a distance, a slip of thousands does. Default of this project."""


def signal_faults(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the path of each signal or unit that is not the catalogue's, and what is wrong, as a sentence.

    Mapped metrics carry signals of the catalogue, too, in its units. An empty unit says nothing wrong.
    """
    units = {signal.id: signal.unit for signal in load_catalogue().signals}
    units |= {signal.id: "" for signal in WORKED_OUT}  # the load is counted in what its pool counts
    named = [(f"spec.guards[{number}]", guard.signal) for number, guard in enumerate(policy.guards)]
    for number, primary in enumerate(policy.primaries):
        where, wanted = f"spec.primaries[{number}]", units.get(primary.signal)
        named.append((where, primary.signal))
        if primary.waiting is not None:
            named.append((f"{where}.waiting", primary.waiting.signal))
        if wanted and primary.unit and not _same(primary.unit, wanted):
            yield f"{where}.unit", f"{primary.unit!r} is not the unit of {primary.signal}; write {wanted}"
    for where, signal in named:
        if signal not in units:
            near = get_close_matches(signal, units, n=1)
            hint = f"did you mean {near[0]}?" if near else "`hsa signals` lists them"
            yield f"{where}.signal", f"no such signal {signal!r}; {hint}"


def _same(unit: str, wanted: str) -> bool:
    return unit == wanted or conversion(unit, wanted) == 1.0


def doubts(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the path of each odd value in its document, and what is odd about it, as a sentence."""
    for number, primary in enumerate(policy.primaries):
        if said := _odd_target(primary):
            yield f"spec.primaries[{number}].target_per_instance.value", said
    if (ratio := policy.pd_ratio) is not None:
        value, low, high = ratio.value, ratio.low, ratio.high
        if value is not None and low is not None and high is not None and not low <= value <= high:
            yield "spec.pd_ratio.value", f"{value:g} is outside {low:g} to {high:g}"
    for role, rest in policy.cooldown.items():
        start_s = policy.start_up_s.get(role)
        if rest.scale_out_s and start_s and rest.scale_out_s < start_s:
            said = f"{rest.scale_out_s:g} s is less than the {start_s:g} s that {role} takes to start"
            yield "spec.cooldown", f"scale_out_s {said}: more are asked for before the first ones serve"


def _odd_target(primary: Primary) -> str:
    """Say that a target is far from its own capacity, or above it; empty where neither.

    Work served falls with head-room as capacity does; of any other signal the target may be far less.
    """
    target = primary.target_per_instance
    value, capacity = target.value, target.capacity
    if value is None or capacity is None or primary.pool != "sum":
        return ""  # of a mean over instances the target may be in another unit than the work
    if value > capacity.high:
        return f"{value:g} is above the capacity of {capacity.low:g} to {capacity.high:g}"
    said, expected = _expected(target)
    least, most = USUAL_TARGET
    if primary.unit == "tokens/s" and expected and not least <= value / expected <= most:
        return f"{value:g} is far {'below' if value < expected else 'above'} {expected:g}, {said}"
    return ""


def _expected(target: Target) -> tuple[str, float | None]:
    """Return how head-room and capacity make a target, in words and as a number; None without them."""
    if target.capacity is None or target.headroom_ratio is None:
        return "", None
    end = "value" if target.status == "floor" else "low"
    of = getattr(target.capacity, end)
    return f"headroom_ratio {target.headroom_ratio:g} × capacity.{end} {of:g}", target.headroom_ratio * of


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
