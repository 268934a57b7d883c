"""From the plain data of a policy document to the policy, naming the key that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hs_analysis.controllers.heteroscale import GpuLimit
from hs_analysis.controllers.hpa import Surge
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Guard,
    Hysteresis,
    MixSplit,
    PeriodicEntry,
    Policy,
    Primary,
    Ratio,
    Runner,
    SignalReading,
    SoftScaleIn,
    Step,
    Target,
    Tier,
    Waiting,
)
from hs_analysis.policy.node import Node, T
from hs_analysis.schema.clock import UTC_NAME
from hs_analysis.schema.names import POOL_ROLES
from hs_analysis.schema.places import DocumentText
from hs_analysis.schema.results import Estimate

NO_LONGER_HELD = {
    "evaluation": ("averaging_s",),  # one trailing mean in both directions, before `reading`
    "hysteresis": ("usual_instances",),  # a band that was wider in a smaller pool
    "primary": ("highest",),  # a total beyond which alone more instances were wanted
}
"""Keys of files of before, per part of the document: they are read over, and decide nothing."""


def parse_policy(document: object, where: DocumentText) -> Policy:
    """Return the policy of a loaded document.

    Parameters
    ----------
    document
        Plain mappings, lists and scalars.
    where
        The text that it was loaded from, for messages.

    Raises
    ------
    InputError
        Naming the first key that is missing, unknown, of the wrong kind or out of range.
    """
    root = Node(document, "", where)
    root.read.add("schema")
    meta, spec, status = root.node("metadata"), root.node("spec"), root.node("status")
    evaluation = spec.node("evaluation")
    _read_over(evaluation, "evaluation")
    policy = _with_status(_rules(meta.text("service"), spec, evaluation), meta, status)
    zones = sorted({entry.zone for entry in policy.periodic})
    if len(zones) > 1:
        raise spec.wrong("periodic", f"entries are in {' and '.join(zones)}, expected one time zone")
    sized = policy.sized_roles
    bands = spec.optional("hysteresis", lambda node: _by_role(node, sized, _hysteresis))
    cooldowns = spec.optional("cooldown", lambda node: _by_role(node, sized, _cooldown))
    policy = replace(policy, hysteresis=bands or {}, cooldown=cooldowns or {})
    for node in (evaluation, spec, status, meta, root):
        node.done(None)
    return policy


def _rules(service: str, spec: Node, evaluation: Node) -> Policy:
    """Return what runs a service, but for bands and rests, which need to know the sized pools."""
    primaries = spec.items("primaries", _primary)
    ratio = spec.optional("pd_ratio", _ratio)
    return Policy(
        service=service,
        mode=spec.text("mode", ("metric", "periodic", "hold")),  # type: ignore[arg-type]
        unit=spec.text("unit"),
        primaries=primaries,
        pd_ratio=ratio,
        hysteresis={},
        cooldown={},
        step=spec.child("step", _step),
        guards=spec.items("guards", _guard),
        soft_scale_in=spec.optional("soft_scale_in", _soft),
        bounds=spec.child("bounds", _all_bounds),
        gpus=_gpus(spec.node("bounds")),
        on_missing_metric=spec.text("on_missing_metric", ("hold",)),
        periodic=spec.items("periodic", _periodic),
        placement=spec.plain("placement"),
        window_s=evaluation.number("window_s"),
        start_up_s=_numbers(evaluation.node("start_up_s")),
        controller=_controller(spec),
        reading=spec.child("reading", _reading) if "reading" in spec.data else SignalReading(),
    )


def _with_status(policy: Policy, meta: Node, status: Node) -> Policy:
    """Return a policy with where it comes from and what is said of it."""
    return replace(
        policy,
        recommended=status.flag("recommended") if "recommended" in status.data else True,
        confidence=status.text("confidence", ("high", "medium", "low")),
        confidence_reasons=status.texts("confidence_reasons") if "confidence_reasons" in status.data else (),
        refusals=status.texts("refusals"),
        window=meta.plain("window"),
        inputs_sha256=meta.text("inputs_sha256"),
        run=meta.text("run"),
        tool_version=meta.text("tool_version"),
        replay=status.plain("replay"),
    )


def _read_over(node: Node, part: str) -> None:
    """Accept the keys that files of before hold."""
    node.read.update(NO_LONGER_HELD[part])


def _controller(spec: Node) -> Runner:
    """Return what runs the policy; files of before were made for no object in particular: the default."""
    if "controller" not in spec.data:
        return "keda"
    return spec.text("controller", ("heteroscale", "keda", "hpa"))  # type: ignore[return-value]


def _reading(node: Node) -> SignalReading:
    node.text("out", ("newest",))
    node.text("in", ("highest",))
    surge = node.child("surge", _surge) if "surge" in node.data else None
    return SignalReading(_positive(node, "window_s"), _positive(node, "over_s"), surge)


def _surge(node: Node) -> Surge:
    return Surge(_positive(node, "window_s"), _positive(node, "above_ratio"))


def _positive(node: Node, key: str) -> float:
    value = node.number(key)
    if value <= 0:
        raise node.wrong(key, f"expected more than 0, found {value!r}")
    return value


def _primary(node: Node) -> Primary:
    pool = node.text("pool", ("sum", "mean"))
    _read_over(node, "primary")
    return Primary(
        node.text("signal"),
        node.text("role", POOL_ROLES),
        node.text("unit"),
        node.text("promql"),
        node.text("source"),
        node.child("target_per_instance", _target),
        pool,  # type: ignore[arg-type]
        _weights(node),
        _added(node, pool),
    )


def _added(node: Node, pool: str) -> Waiting | None:
    """Read what waits; files of before have no word of it, and a mean over instances holds no work."""
    found = node.optional("waiting", _waiting) if "waiting" in node.data else None
    if found is not None and pool != "sum":
        raise node.wrong("waiting", f"expected null where pool is {pool}: only a total counts what waits")
    return found


def _waiting(node: Node) -> Waiting:
    found = Waiting(
        node.text("signal"),
        node.text("role", POOL_ROLES),
        node.number("tokens_per_request"),
        node.number("within_s"),
        node.number("window_s"),
    )
    for key in ("tokens_per_request", "within_s", "window_s"):
        if getattr(found, key) <= 0:
            raise node.wrong(key, f"expected more than 0, found {getattr(found, key)!r}")
    return found


def _target(node: Node) -> Target:
    """Read a target; v1alpha1 gave it an interval of its own, which is no capacity and is left out."""
    value = node.maybe("value")
    if value is not None and value <= 0:
        raise node.wrong("value", f"expected more than 0, found {value!r}")
    headroom, capacity = None, None
    if "capacity" in node.data:
        headroom = node.maybe("headroom_ratio")
        capacity = node.optional("capacity", _estimate)
    else:
        node.maybe("low")
        node.maybe("high")
    return Target(value, headroom, capacity, node.text("status"), node.text("evidence"))


def _estimate(node: Node) -> Estimate:
    found = Estimate(node.number("value"), node.number("low"), node.number("high"))
    if not found.low <= found.value <= found.high:
        raise node.wrong("value", f"{found.value!r} is outside {found.low!r} to {found.high!r}")
    return found


def _ratio(node: Node) -> Ratio:
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
        node.maybe("one_primary_bound") if "one_primary_bound" in node.data else None,
        node.items("by_mix", _mix_split) if "by_mix" in node.data else (),
    )


def _mix_split(node: Node) -> MixSplit:
    floors = ("prefill_tps_per_instance", "decode_tps_per_instance")
    return MixSplit(
        node.maybe("isl"), node.maybe("osl"), node.whole("prefill"), node.whole("decode"),
        *(node.maybe(name) if name in node.data else None for name in floors),
    )  # fmt: skip


def _hysteresis(node: Node) -> Hysteresis:
    _read_over(node, "hysteresis")
    band = Hysteresis(node.number("scale_out_ratio"), node.number("scale_in_ratio"), node.text("evidence"))
    if band.scale_in_ratio > band.scale_out_ratio:
        raise node.wrong("scale_in_ratio", "is above scale_out_ratio")
    return band


def _cooldown(node: Node) -> Cooldown:
    return Cooldown(node.maybe("scale_out_s"), node.maybe("scale_in_s"), node.text("evidence"))


def _by_role(node: Node, sized: tuple[str, ...], read: Callable[[Node], T]) -> dict[str, T]:
    """Read one entry for all sized pools, or each pool's own under ``by_role`` (the rest is for readers)."""
    if "by_role" not in node.data:
        entry = read(node)
        return dict.fromkeys(sized, entry)
    node.read.update(str(key) for key in node.data)
    return node.child("by_role", lambda inner: _roles(inner, read))


def _roles(node: Node, read: Callable[[Node], T]) -> dict[str, T]:
    return {role: node.child(role, read) for role in node.data if role in POOL_ROLES}


def _step(node: Node) -> Step:
    return Step(
        node.number("dampening"),
        node.maybe("max_out_fraction"),
        node.maybe("max_in_fraction"),
        node.text("provenance"),
    )


def _guard(node: Node) -> Guard:
    tiers = node.items("tiers", lambda tier: Tier(tier.number("above_ratio"), tier.number("add_fraction")))
    slo_s = node.number("slo_s")
    if slo_s <= 0:
        raise node.wrong("slo_s", f"expected more than 0, found {slo_s!r}")
    return Guard(
        node.text("signal"),
        node.text("role", POOL_ROLES),
        slo_s,
        node.text("promql"),
        tiers,
        node.text("provenance"),
    )


def _soft(node: Node) -> SoftScaleIn:
    return SoftScaleIn(node.number("observe_s"), node.text("restore_when"), node.text("provenance"))


def _all_bounds(node: Node) -> dict[str, Bounds]:
    node.read.add("gpus")
    return _roles(node, _bounds)


def _gpus(bounds: Node) -> GpuLimit | None:
    """Read the limit on GPUs; most policies have none."""
    return bounds.child("gpus", _gpu_limit) if "gpus" in bounds.data else None


def _gpu_limit(node: Node) -> GpuLimit:
    gpus = node.child("per_instance", _numbers)
    for role, count in gpus.items():
        if count <= 0:
            raise node.wrong(f"per_instance.{role}", f"expected more than 0, found {count!r}")
    most = node.child("most", lambda one: {str(role): one.whole(role) for role in one.data})
    return GpuLimit(node.whole("limit"), gpus, most)


def _bounds(node: Node) -> Bounds:
    bounds = Bounds(node.whole("min"), node.whole("max"), node.text("provenance"))
    if bounds.min > bounds.max:
        raise node.wrong("min", f"{bounds.min} is above max {bounds.max}")
    return bounds


def _periodic(node: Node) -> PeriodicEntry:
    return PeriodicEntry(
        node.text("from"),
        node.text("to"),
        node.texts("days"),
        node.maybe_whole("decode"),
        node.maybe_whole("prefill"),
        _zone(node) if "zone" in node.data else UTC_NAME,
    )


def _zone(node: Node) -> str:
    """Read the name of a time zone that there is; files of before have none and mean UTC."""
    name = node.text("zone")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise node.wrong("zone", f"no such time zone {name!r}, write e.g. Europe/Berlin") from error
    return name


def _weights(node: Node) -> dict[str, float]:
    """Read what a pod of each GPU type counts; a policy without the key mixes none."""
    found = node.child("gpu_types", _numbers) if "gpu_types" in node.data else {}
    for name, weight in found.items():
        if weight <= 0:
            raise node.wrong(f"gpu_types.{name}", f"expected more than 0, found {weight!r}")
    return found


def _numbers(node: Node) -> dict[str, float]:
    return {str(key): node.number(key) for key in node.data}
