"""From the plain data of a policy document to the policy, naming the key that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from hs_analysis.errors import InputError
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Guard,
    Hysteresis,
    PeriodicEntry,
    Policy,
    Primary,
    Quantity,
    Ratio,
    SoftScaleIn,
    Step,
    Tier,
)

T = TypeVar("T")
ROLES = ("prefill", "decode", "mixed")


class _Node:
    """A mapping of the document that knows its place and complains about keys by name."""

    def __init__(self, data: object, path: str, where: str) -> None:
        self.path, self.where = path, where
        if not isinstance(data, Mapping):
            raise self.wrong("", f"expected keys and values, found {data!r}")
        self.data = data
        self.read: set[str] = set()

    def wrong(self, key: str, what: str) -> InputError:
        place = ".".join(part for part in (self.path, key) if part)
        return InputError(f"{place}: {what}", where=self.where)

    def get(self, key: str) -> Any:
        if key not in self.data:
            raise self.wrong(key, "is missing")
        self.read.add(key)
        return self.data[key]

    def text(self, key: str, allowed: tuple[str, ...] = ()) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, f"expected text, found {value!r}")
        if allowed and value not in allowed:
            raise self.wrong(key, f"{value!r} is not one of {', '.join(allowed)}")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"expected a number, found {value!r}")
        return float(value)

    def maybe(self, key: str) -> float | None:
        return None if self.get(key) is None else self.number(key)

    def whole(self, key: str) -> int:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(key, f"expected a whole number, found {value!r}")
        return value

    def maybe_whole(self, key: str) -> int | None:
        return None if self.get(key) is None else self.whole(key)

    def plain(self, key: str) -> dict[str, Any]:
        value = self.get(key)
        if not isinstance(value, Mapping):
            raise self.wrong(key, f"expected keys and values, found {value!r}")
        return dict(value)

    def node(self, key: str) -> _Node:
        return _Node(self.get(key), f"{self.path}.{key}".lstrip("."), self.where)

    def items(self, key: str, read: Callable[[_Node], T]) -> tuple[T, ...]:
        value = self.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, f"expected a list, found {value!r}")
        found = []
        for number, item in enumerate(value):
            node = _Node(item, f"{self.path}.{key}[{number}]".lstrip("."), self.where)
            found.append(node.done(read(node)))
        return tuple(found)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, f"expected a list of texts, found {value!r}")
        return tuple(value)

    def child(self, key: str, read: Callable[[_Node], T]) -> T:
        node = self.node(key)
        return node.done(read(node))

    def optional(self, key: str, read: Callable[[_Node], T]) -> T | None:
        return None if self.get(key) is None else self.child(key, read)

    def done(self, value: T) -> T:
        unknown = sorted(str(key) for key in self.data if key not in self.read)
        if unknown:
            raise self.wrong(unknown[0], "is not a key of this policy schema")
        return value


def parse_policy(document: object, where: str) -> Policy:
    """Return the policy of a loaded document.

    Parameters
    ----------
    document
        Plain mappings, lists and scalars.
    where
        File name for messages.

    Raises
    ------
    InputError
        Naming the first key that is missing, unknown, of the wrong kind or out of range.
    """
    root = _Node(document, "", where)
    root.read.add("schema")
    meta, spec, status = root.node("metadata"), root.node("spec"), root.node("status")
    evaluation = spec.node("evaluation")
    primaries = spec.items("primaries", _primary)
    ratio = spec.optional("pd_ratio", _ratio)
    policy = Policy(
        service=meta.text("service"),
        mode=spec.text("mode", ("metric", "periodic", "hold")),  # type: ignore[arg-type]
        unit=spec.text("unit"),
        primaries=primaries,
        pd_ratio=ratio,
        hysteresis={},
        cooldown={},
        step=spec.child("step", _step),
        guards=spec.items("guards", _guard),
        soft_scale_in=spec.optional("soft_scale_in", _soft),
        bounds=spec.child("bounds", lambda node: _roles(node, _bounds)),
        on_missing_metric=spec.text("on_missing_metric", ("hold",)),
        periodic=spec.items("periodic", _periodic),
        placement=spec.plain("placement"),
        confidence=status.text("confidence", ("high", "medium", "low")),
        refusals=status.texts("refusals"),
        window=meta.plain("window"),
        inputs_sha256=meta.text("inputs_sha256"),
        run=meta.text("run"),
        tool_version=meta.text("tool_version"),
        window_s=evaluation.number("window_s"),
        averaging_s=evaluation.number("averaging_s"),
        start_up_s=_numbers(evaluation.node("start_up_s")),
        replay=status.plain("replay"),
    )
    sized = policy.sized_roles
    bands = spec.optional("hysteresis", lambda node: _by_role(node, sized, _hysteresis))
    cooldowns = spec.optional("cooldown", lambda node: _by_role(node, sized, _cooldown))
    policy = replace(policy, hysteresis=bands or {}, cooldown=cooldowns or {})
    for node in (evaluation, spec, status, meta, root):
        node.done(None)
    return policy


def _primary(node: _Node) -> Primary:
    pool = node.text("pool", ("sum", "mean"))
    return Primary(
        node.text("signal"),
        node.text("role", ROLES),
        node.text("unit"),
        node.text("promql"),
        node.text("source"),
        node.child("target_per_instance", _quantity),
        pool,  # type: ignore[arg-type]
        _weights(node),
    )


def _quantity(node: _Node) -> Quantity:
    value = node.maybe("value")
    if value is not None and value <= 0:
        raise node.wrong("value", f"expected more than 0, found {value!r}")
    return Quantity(value, node.maybe("low"), node.maybe("high"), node.text("status"), node.text("evidence"))


def _ratio(node: _Node) -> Ratio:
    value = node.maybe("value")
    if value is not None and value <= 0:
        raise node.wrong("value", f"expected more than 0, found {value!r}")
    return Ratio(
        node.maybe_whole("prefill"),
        node.maybe_whole("decode"),
        value,
        node.maybe("low"),
        node.maybe("high"),
        node.maybe("max_deviation"),
        node.text("status"),
        node.text("evidence"),
        _weights(node),
    )


def _hysteresis(node: _Node) -> Hysteresis:
    band = Hysteresis(node.number("scale_out_ratio"), node.number("scale_in_ratio"), node.text("evidence"))
    if band.scale_in_ratio > band.scale_out_ratio:
        raise node.wrong("scale_in_ratio", "is above scale_out_ratio")
    return band


def _cooldown(node: _Node) -> Cooldown:
    return Cooldown(node.maybe("scale_out_s"), node.maybe("scale_in_s"), node.text("evidence"))


def _by_role(node: _Node, sized: tuple[str, ...], read: Callable[[_Node], T]) -> dict[str, T]:
    """Read one entry for all sized pools, or each pool's own under ``by_role`` (the rest is for readers)."""
    if "by_role" not in node.data:
        entry = read(node)
        return dict.fromkeys(sized, entry)
    node.read.update(str(key) for key in node.data)
    return node.child("by_role", lambda inner: _roles(inner, read))


def _roles(node: _Node, read: Callable[[_Node], T]) -> dict[str, T]:
    return {role: node.child(role, read) for role in node.data if role in ROLES}


def _step(node: _Node) -> Step:
    return Step(
        node.number("dampening"),
        node.number("max_out_fraction"),
        node.number("max_in_fraction"),
        node.text("provenance"),
    )


def _guard(node: _Node) -> Guard:
    tiers = node.items("tiers", lambda tier: Tier(tier.number("above_ratio"), tier.number("add_fraction")))
    slo_s = node.number("slo_s")
    if slo_s <= 0:
        raise node.wrong("slo_s", f"expected more than 0, found {slo_s!r}")
    return Guard(
        node.text("signal"),
        node.text("role", ROLES),
        slo_s,
        node.text("promql"),
        tiers,
        node.text("provenance"),
    )


def _soft(node: _Node) -> SoftScaleIn:
    return SoftScaleIn(node.number("observe_s"), node.text("restore_when"), node.text("provenance"))


def _bounds(node: _Node) -> Bounds:
    bounds = Bounds(node.whole("min"), node.whole("max"), node.text("provenance"))
    if bounds.min > bounds.max:
        raise node.wrong("min", f"{bounds.min} is above max {bounds.max}")
    return bounds


def _periodic(node: _Node) -> PeriodicEntry:
    return PeriodicEntry(
        node.text("from"),
        node.text("to"),
        node.texts("days"),
        node.maybe_whole("decode"),
        node.maybe_whole("prefill"),
    )


def _weights(node: _Node) -> dict[str, float]:
    """Read what a pod of each GPU type counts; a policy without the key mixes none."""
    found = node.child("gpu_types", _numbers) if "gpu_types" in node.data else {}
    for name, weight in found.items():
        if weight <= 0:
            raise node.wrong(f"gpu_types.{name}", f"expected more than 0, found {weight!r}")
    return found


def _numbers(node: _Node) -> dict[str, float]:
    return {str(key): node.number(key) for key in node.data}
