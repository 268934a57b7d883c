"""The autoscalers that are known: parameters, batches, what they observe, and how they are sized."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Protocol, Self

import numpy as np

from hs_analysis.controllers import aibrix, dynamo, heteroscale, hpa, keda, kthena, slo_aware
from hs_analysis.controllers.heteroscale import HeteroScale, HeteroScaleBatch
from hs_analysis.controllers.kthena import KthenaBatch, RatioBand, RatioConstraint, within_ratio
from hs_analysis.controllers.lanes import (
    MISSING,
    RATIO,
    Batch,
    Fleet,
    Key,
    Orders,
    PerLane,
    PoolOrders,
    Scraped,
    changes,
    decisions,
    key_of,
    some,
)
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.settings import ControllerName, Settings


@dataclass(frozen=True)
class Autoscaler:
    """An autoscaler set up for a service: parameters per pool, and what binds the pools together.

    A pool without parameters keeps its count. The rule is found by the type of the parameters.
    """

    name: str
    pools: Mapping[str, Any]
    together: RatioConstraint | None = None


class PoolBatch(Protocol):
    """One controller a lane for one pool, with memory; made from ``(parameters of each lane, role)``."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that they need."""

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""

    def step(self, fleet: Fleet) -> PoolOrders:
        """Decide in every lane, and remember what is needed for the next decision."""

    def take(self, lanes: Integers) -> Self:
        """Return the same controllers, with all that they remember, for some lanes."""

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the lanes of these controllers, then those of others, which came from them by `take`."""


@dataclass(frozen=True)
class Sizing:
    """What a controller is sized by when nobody says how it is set up.

    Attributes
    ----------
    targets
        Work per instance to steer to, per pool [tokens/s]; None when it is not known.
    work
        Signal that counts a pool's served work; empty when none is recorded.
    readable
        (signal, role) that can be read at counts that never ran.
    bounds
        Least and most instances per pool.
    ratio
        (value, low, high) of prefill ÷ decode; None when it is not known.
    reading_s
        Range of the query that an HPA or a ScaledObject follows [s]: what a policy of the service reads too.
    slo_s
        Limits of latencies, by signal [s]; those that were not given are absent.
    """

    targets: Mapping[str, float | None]
    work: Mapping[str, str]
    readable: frozenset[tuple[str, str]]
    bounds: Mapping[str, tuple[int, int]]
    ratio: tuple[float, float, float] | None = None
    reading_s: float = 60.0
    slo_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Controller:
    """One autoscaler of the field.

    Attributes
    ----------
    name
        Its row in the replay table.
    title
        What it is, in a few words.
    parameters
        Dataclass of one pool's parameters; each field with a default says where it is documented.
    batch
        Decides one pool in many lanes.
    structure
        What parameters have to have in common to share a batch.
    source
        Where the algorithm is described.
    size
        Default parameters sized by the derived targets, or the reason why it can't be expressed here.
    looks_at_role
        Whether the rule is another one for prefill than for decode.
    """

    name: str
    title: str
    parameters: type
    batch: Callable[[Sequence[Any], str], PoolBatch]
    structure: Callable[[Any], Hashable]
    source: str
    size: Callable[[Sizing], Autoscaler | str] = field(repr=False)
    looks_at_role: bool = False


def _by_work(sizing: Sizing, name: str, make: Callable[[str, float, int, int], Any]) -> Autoscaler | str:
    """Set up every pool on its own work signal and target: ``make(signal, target, least, most)``."""
    pools = {}
    for role, (least, most) in sizing.bounds.items():
        signal, target = sizing.work.get(role, ""), sizing.targets.get(role)
        if not signal or (signal, role) not in sizing.readable:
            return f"the work of {role} is not recorded"
        if not target:
            return f"no target is known for {role}"
        pools[role] = make(signal, target, least, most)
    return Autoscaler(name, pools)


def _metric(sizing: Sizing, signal: str, target: float) -> hpa.Metric:
    return hpa.Metric(signal, target, averaging_s=sizing.reading_s)


def _size_hpa(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "hpa",
        lambda signal, target, least, most: hpa.Hpa((_metric(sizing, signal, target),), least, most),
    )


def _size_keda(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "keda",
        lambda signal, target, least, most: keda.Keda(
            hpa.Hpa((_metric(sizing, signal, target),)), min_replica_count=least, max_replica_count=most
        ),
    )


def _size_apa(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "aibrix_apa",
        lambda signal, target, least, most: aibrix.Apa(signal, target, min_replicas=least, max_replicas=most),
    )


def _size_kpa(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "aibrix_kpa",
        lambda signal, target, least, most: aibrix.Kpa(signal, target, min_replicas=least, max_replicas=most),
    )


def _size_dynamo_load(sizing: Sizing) -> Autoscaler | str:
    if "prefill" in sizing.bounds:
        return "its prefill thresholds are shares of the engine's context length, which metrics do not hold"
    missing = [role for role in sizing.bounds if ("kv_usage", role) not in sizing.readable]
    if missing:
        return f"the KV-cache usage of {missing[0]} is not recorded"
    pools = {
        role: dynamo.DynamoLoad("kv_usage", min_endpoint=least, max_replicas=most)
        for role, (least, most) in sizing.bounds.items()
    }
    return Autoscaler("dynamo_load", pools)


def _size_dynamo_throughput(sizing: Sizing) -> Autoscaler | str:
    return _by_work(
        sizing,
        "dynamo_throughput",
        lambda signal, target, least, most: dynamo.DynamoThroughput(
            signal, target, min_endpoint=least, max_replicas=most
        ),
    )


def _size_kthena(sizing: Sizing) -> Autoscaler | str:
    found = _by_work(
        sizing,
        "kthena",
        lambda signal, target, least, most: kthena.Kthena((hpa.Metric(signal, target),), least, most),
    )
    if isinstance(found, str) or "prefill" not in sizing.bounds or "decode" not in sizing.bounds:
        return found
    if sizing.ratio is None:
        return "no ratio is known to constrain the roles to"
    _, low, high = sizing.ratio
    band = RatioConstraint(low, high, sizing.bounds["prefill"], sizing.bounds["decode"])
    return Autoscaler("kthena", found.pools, band)


_ANSWERS_TO = {"ttft": ("prefill", "mixed"), "tbt": ("decode", "mixed")}
"""Latency → the pools that it drives."""


def _size_slo_aware(sizing: Sizing) -> Autoscaler | str:
    pools = {}
    for role, (least, most) in sizing.bounds.items():
        latencies = [name for name, roles in _ANSWERS_TO.items() if role in roles and name in sizing.slo_s]
        if not latencies:
            return f"no SLO is given for the latency of {role}"
        found = []
        for name in latencies:
            p90 = f"{name}_p90_{slo_aware.RANGE_S:g}s"
            owner = next((own for own in ("service", role) if (p90, own) in sizing.readable), None)
            if owner is None:
                over = f"the P90 of {name.upper()} over {slo_aware.RANGE_S:g} s"
                return f"{over} was not evaluated on this history"
            found.append(slo_aware.Latency(f"{p90}@{owner}", sizing.slo_s[name]))
        scaler = replace(slo_aware.SCALER, min_replicas=least, max_replicas=most)
        pools[role] = slo_aware.SloAware(tuple(found), scaler=scaler)
    return Autoscaler("slo_aware", pools)


CONTROLLERS: tuple[Controller, ...] = (
    Controller(
        "hpa", "Kubernetes HPA with default behaviour", hpa.Hpa, hpa.HpaBatch, hpa.structure,
        hpa.DOC, _size_hpa,
    ),
    Controller(
        "keda", "KEDA ScaledObject with default settings", keda.Keda, keda.KedaBatch, keda.structure,
        keda.DOC, _size_keda,
    ),
    Controller(
        "aibrix_apa", "AIBrix APA", aibrix.Apa, aibrix.ApaBatch, aibrix.structure,
        aibrix.SOURCES, _size_apa,
    ),
    Controller(
        "aibrix_kpa", "AIBrix KPA", aibrix.Kpa, aibrix.KpaBatch, aibrix.structure,
        aibrix.SOURCES, _size_kpa,
    ),
    Controller(
        "dynamo_load", "Dynamo planner, load-based thresholds", dynamo.DynamoLoad, dynamo.DynamoLoadBatch,
        dynamo.structure, dynamo.DOC, _size_dynamo_load,
        looks_at_role=True,
    ),
    Controller(
        "dynamo_throughput", "Dynamo planner, throughput-based", dynamo.DynamoThroughput,
        dynamo.DynamoThroughputBatch, dynamo.structure, dynamo.DOC,
        _size_dynamo_throughput,
    ),
    Controller(
        "kthena", "Kthena with the derived band as ratio constraint", kthena.Kthena, kthena.KthenaBatch,
        kthena.structure, kthena.SOURCES, _size_kthena,
    ),
    Controller(
        "slo_aware", "llm-d's SLO-aware formula", slo_aware.SloAware, slo_aware.SloAwareBatch,
        slo_aware.structure, slo_aware.GUIDE,
        _size_slo_aware,
    ),
)  # fmt: skip
"""Reactive autoscalers. HeteroScale's rule is ``heteroscale``; fixed counts need no controller."""

_ROWS: Mapping[type, Controller] = {row.parameters: row for row in CONTROLLERS}


class _Stack(PerLane):
    """The pools of one kind of controller, all roles of all lanes side by side in one batch.

    A rule that does not look at the role decides once for all pools; its lanes are those of the first role,
    then those of the next.
    """

    def __init__(self, pools: Mapping[str, Sequence[Any]], row: Controller) -> None:
        self.roles, self.lanes = tuple(pools), len(next(iter(pools.values())))
        renamed = {role: [_by_position(one, role) for one in members] for role, members in pools.items()}
        # A single role keeps its name: its rule may look at it.
        self.role = self.roles[0] if len(self.roles) == 1 else "pools"
        self.batch = row.batch([one for members in renamed.values() for one, _ in members], self.role)
        self.read = {
            slot: tuple(renamed[role][0][1][slot] for role in self.roles)
            for slot in renamed[self.roles[0]][0][1]
        }

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that they need."""
        return tuple(dict.fromkeys(key for keys in self.read.values() for key in keys))

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""
        return self.batch.reach_s

    def step(self, fleet: Fleet) -> dict[str, PoolOrders]:
        """Decide in every lane, per role."""
        return self.apart(self.batch.step(self.side_by_side(fleet)))

    def apart(self, orders: PoolOrders) -> dict[str, PoolOrders]:
        """Return what the batch asks for, per role."""
        parts = {}
        for number, role in enumerate(self.roles):
            own = slice(number * self.lanes, (number + 1) * self.lanes)
            parts[role] = PoolOrders(orders.count[own], orders.code[own], orders.wanted[own])
        return parts

    def joined(self, counts: Mapping[str, Floats]) -> Floats:
        """Return counts per role, shape (lanes,) each, as those of the lanes of the batch."""
        return _joined([counts[role] for role in self.roles])

    def take(self, lanes: Integers) -> Self:
        """Return the same for some lanes."""
        taken = copy.copy(self)
        taken.lanes = lanes.size
        taken.batch = self.batch.take(
            np.concatenate([n * self.lanes + lanes for n in range(len(self.roles))])
        )
        return taken

    def beside(self, others: Sequence[Self]) -> Self:
        """Return the lanes of this one, then those of others; in the batch those of a role stay together."""
        every = (self, *others)
        joined = copy.copy(self)
        joined.lanes = sum(one.lanes for one in every)
        begins = np.cumsum([0, *(one.lanes * len(self.roles) for one in every)])
        order = [
            begin + number * one.lanes + np.arange(one.lanes)
            for number in range(len(self.roles))
            for begin, one in zip(begins.tolist(), every, strict=False)
        ]
        batch = self.batch.beside([one.batch for one in others])
        joined.batch = batch.take(np.concatenate(order))
        return joined

    def side_by_side(self, fleet: Fleet) -> Fleet:
        """Return what is seen with the pools of all roles side by side."""
        seen = fleet.scraped
        values = {
            (slot, self.role): _joined([seen.values[key] for key in keys]) for slot, keys in self.read.items()
        }
        uneven = {
            (slot, self.role): _joined([seen.uneven[key] for key in keys])
            for slot, keys in self.read.items()
            if all(key in seen.uneven for key in keys)
        }
        return Fleet(
            _joined([fleet.t_s] * len(self.roles)),
            fleet.window_s,
            {self.role: self.joined(fleet.desired)},
            {self.role: self.joined(fleet.ready)},
            Scraped(seen.window_s, values, uneven),
        )


def _joined(values: Sequence[Floats]) -> Floats:
    return values[0] if len(values) == 1 else np.concatenate(values, axis=-1)


def _by_position(parameters: Any, role: str) -> tuple[Any, dict[str, Key]]:
    """Return one pool's parameters with signals named by their order, and which reading each name is."""
    names: dict[str, str] = {}

    def renamed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(renamed, value))
        if not is_dataclass(value) or isinstance(value, type):
            return value
        changes = {one.name: renamed(getattr(value, one.name)) for one in fields(value)}
        if signal := getattr(value, "signal", ""):
            changes["signal"] = names.setdefault(signal, f"reading{len(names)}")
        return replace(value, **changes)

    found = renamed(parameters)
    return found, {name: key_of(signal, role) for signal, name in names.items()}


class AutoscalerBatch(PerLane):
    """Autoscalers of one structure in many lanes: every pool decides alone, then the ratio binds them.

    Nothing is decided in a lane that no row reached: it would be read as a metric that is missing.
    """

    def __init__(self, controls: Sequence[Autoscaler]) -> None:
        pools = {role: [c.pools[role] for c in controls] for role in controls[0].pools}
        self._stacks = tuple(_stacked(pools))
        bands = [c.together for c in controls if c.together is not None]
        self._bands = RatioBand.of(bands) if bands else None
        self._seen = np.full(len(controls), not self.keys)  # what reads nothing waits for nothing

    @property
    def keys(self) -> tuple[Key, ...]:
        """Readings that they need."""
        return tuple(dict.fromkeys(key for stack in self._stacks for key in stack.keys))

    @property
    def reach_s(self) -> float:
        """How far back they read [s]."""
        return max((stack.reach_s for stack in self._stacks), default=0.0)

    def step(self, fleet: Fleet) -> Orders:
        """Decide in every lane."""
        joint: list[tuple[_Stack, KthenaBatch]] = []
        found: dict[str, PoolOrders] = {}
        for stack in self._stacks:
            if isinstance(stack.batch, KthenaBatch):
                joint.append((stack, stack.batch))
            else:
                found |= stack.step(fleet)
        if joint:
            found |= self._of_one_object(joint, fleet)
        else:
            self._keep_ratio(found, None)
        orders = Orders(
            {role: one.count for role, one in found.items()},
            {role: one.code for role, one in found.items()},
            {role: one.wanted for role, one in found.items()},
        )
        self._wait_for_a_row(fleet, orders)
        return orders

    def _of_one_object(
        self, joint: Sequence[tuple[_Stack, KthenaBatch]], fleet: Fleet
    ) -> dict[str, PoolOrders]:
        """Decide for the roles of Kthena's object: at each decision all of them, and then the ratio.

        Where a role needs a metric that can't be read, none is decided.
        """
        counts, why = dict(fleet.desired), dict[str, Integers]()
        seen = [stack.side_by_side(fleet) for stack, _ in joint]
        shares = [batch.shares(one) for (_, batch), one in zip(joint, seen, strict=True)]
        halted = np.zeros(fleet.lanes, bool)
        for (stack, batch), share in zip(joint, shares, strict=True):
            halted |= batch.lacks(share, stack.joined(counts)).reshape(len(stack.roles), -1).any(axis=0)
        left = decisions(fleet.window_s, joint[0][1].sync_s)
        spacing_s = fleet.window_s / left
        for place in range(left):
            found: dict[str, PoolOrders] = {}
            for (stack, batch), share, one in zip(joint, shares, seen, strict=True):
                now = kthena.Moment(one.t_s + place * spacing_s, spacing_s, left - place - 1)
                stopped = np.tile(halted, len(stack.roles)) if some(halted) else None
                own = [each[place] for each in share]
                found |= stack.apart(batch.decide(own, now, stack.joined(counts), stopped))
            self._keep_ratio(found, halted)
            moved = {role: orders.count != counts[role] for role, orders in found.items()}
            for role, orders in found.items():
                why[role] = np.where(moved[role], orders.code, why.get(role, orders.code))
                counts[role] = orders.count
            even = all(kthena.are_even(share, place) for share in shares)
            if even and all(batch.settled for _, batch in joint) and not any(map(some, moved.values())):
                for _, batch in joint:
                    batch.repeat(now)
                break
        for role, orders in found.items():
            orders.code = changes(why[role], fleet.desired[role], orders.count)
        return found

    def _keep_ratio(self, found: Mapping[str, PoolOrders], halted: Mask | None) -> None:
        """Move the counts of prefill and decode to where their ratio is kept, in lanes that decide."""
        if self._bands is None or not {"prefill", "decode"} <= set(found):
            return
        bound = within_ratio({role: orders.count for role, orders in found.items()}, self._bands)
        for role in ("prefill", "decode"):
            moved = bound[role] != found[role].count
            if halted is not None:
                moved &= ~halted
            if some(moved):
                found[role].code = np.where(moved, RATIO, found[role].code)
                found[role].count = np.where(moved, bound[role], found[role].count)

    def _wait_for_a_row(self, fleet: Fleet, orders: Orders) -> None:
        """Keep the counts of lanes where no reading ever brought a value."""
        if not some(~self._seen):
            return
        for key in self.keys:
            self._seen |= ~np.isnan(fleet.scraped.values[key]).all(axis=0)
        for role, count in orders.counts.items():
            orders.counts[role] = np.where(self._seen, count, fleet.desired[role])
            orders.code[role] = np.where(self._seen, orders.code[role], MISSING)


def _stacked(pools: Mapping[str, Sequence[Any]]) -> Iterator[_Stack]:
    """Yield the pools of a batch, those side by side whose rule and structure are the same."""
    groups: dict[Hashable, list[str]] = {}
    for role, members in pools.items():
        row = _ROWS[type(members[0])]
        alike = row.structure(_by_position(members[0], role)[0])
        groups.setdefault((row.name, role if row.looks_at_role else "", alike), []).append(role)
    for roles in groups.values():
        yield _Stack({role: pools[role] for role in roles}, _ROWS[type(pools[roles[0]][0])])


def with_slots(control: Autoscaler | HeteroScale) -> tuple[Autoscaler | HeteroScale, dict[Key, Key]]:
    """Return a control that reads numbered slots, and which reading each slot holds.

    Controls that differ in signals alone have the same structure once they read slots, so that they share a
    batch; what fills the slots of a lane is up to the caller.
    """
    slots: dict[Key, Key] = {}

    def slot_of(signal: str, owner: str) -> str:
        reading = key_of(signal, owner)
        own = {slot: held for slot, held in slots.items() if slot[1] == owner}
        slot = next((slot for slot, held in own.items() if held == reading), (f"slot{len(own)}", owner))
        slots[slot] = reading
        return slot[0]

    def renamed(value: Any, role: str) -> Any:
        if isinstance(value, tuple):
            return tuple(renamed(one, role) for one in value)
        if not is_dataclass(value) or isinstance(value, type):
            return value
        changes: dict[str, Any] = {}
        if signal := getattr(value, "signal", ""):
            changes["signal"] = slot_of(signal, getattr(value, "role", role))
        below = (one.name for one in fields(value) if one.name not in changes)
        return replace(value, **changes | {name: renamed(getattr(value, name), role) for name in below})

    pools = {role: renamed(one, role) for role, one in sorted(control.pools.items())}
    if isinstance(control, HeteroScale):
        return replace(control, pools=pools, upkeep=renamed(control.upkeep, "")), slots
    return replace(control, pools=pools), slots


Slotted = tuple[Autoscaler | HeteroScale, dict[Key, Key]]
"""A control that reads numbered slots, and which reading each slot holds."""


def sharing_slots(controls: Sequence[Autoscaler | HeteroScale]) -> list[Slotted]:
    """Return controls `with_slots`, of as few structures as their rules allow.

    Where some autoscalers add readings to the one that all of them follow, the others get operands that add
    nothing; where some of HeteroScale's ratios follow the mix, the others get one that they don't follow.
    Their slots hold what they read anyway.
    """
    found = _sharing_mixes([with_slots(one) for one in controls])
    groups: dict[Hashable, list[int]] = {}
    for number, (control, _) in enumerate(found):
        if isinstance(control, Autoscaler):
            bare = {role: _with_metrics(pool, _without_added) for role, pool in control.pools.items()}
            groups.setdefault(structure(replace(control, pools=bare)), []).append(number)
    for numbers in groups.values():
        added: dict[Key, set[Added]] = {}
        for number in numbers:
            for role, pool in found[number][0].pools.items():
                for one in metrics_of(pool):
                    added.setdefault((one.signal, role), set()).add(_added(one))
        if all(len(ways - {()}) <= 1 for ways in added.values()):
            longest = {key: max(ways, key=len) for key, ways in added.items()}
            for number in numbers:
                found[number] = _padded(*found[number], longest)
    return found


def _sharing_mixes(slotted: Sequence[Slotted]) -> list[Slotted]:
    found, groups = list(slotted), dict[Hashable, list[int]]()
    for number, (control, _) in enumerate(found):
        if isinstance(control, HeteroScale) and control.upkeep is not None:
            still = replace(control, upkeep=replace(control.upkeep, observed=None))
            groups.setdefault(structure(still), []).append(number)
    for numbers in groups.values():
        mixes = [mix for number in numbers if (mix := _mix(found[number][0]))]
        if len({(mix.prefill, mix.decode) for mix in mixes}) == 1:
            for number in numbers:
                found[number] = _beside_mix(*found[number], mixes[0])
    return found


def _mix(control: Autoscaler | HeteroScale) -> heteroscale.ObservedMix | None:
    """Return the mix that a ratio follows, if any."""
    return control.upkeep.observed if isinstance(control, HeteroScale) and control.upkeep else None


def _beside_mix(
    control: Autoscaler | HeteroScale, slots: Mapping[Key, Key], mix: heteroscale.ObservedMix
) -> Slotted:
    """Return a control whose ratio follows a mix, or has the one of the others and does not follow it."""
    if not isinstance(control, HeteroScale) or control.upkeep is None or _mix(control):
        return control, dict(slots)
    other = next(iter(slots.values()))
    held = {key_of(work.signal, work.role): other for work in (mix.prefill, mix.decode)} | dict(slots)
    upkeep = replace(control.upkeep, observed=replace(mix, factor=heteroscale.NOT_FOLLOWED))
    return replace(control, upkeep=upkeep), held


Added = tuple[tuple[str, float], ...]
"""Slot and range [s] of what a sum adds to its first reading."""


def _added(metric: hpa.Metric) -> Added:
    return tuple((other.signal, other.averaging_s) for other in metric.others)


def _without_added(metric: hpa.Metric) -> hpa.Metric:
    return replace(metric, others=()) if metric.how == "sum" else metric


def metrics_of(pool: Any) -> tuple[hpa.Metric, ...]:
    """Return the metrics of a pool's object; empty for one that holds none."""
    found: tuple[hpa.Metric, ...] = getattr(getattr(pool, "hpa", pool), "metrics", ())
    return found


def bounds_of(parameters: Any) -> tuple[int, int] | None:
    """Return the least and most instances of what scales a pool; None where it has no such bounds."""
    if isinstance(parameters, keda.Keda):
        least = [parameters.min_replica_count, parameters.idle_replica_count]
        return min(bound for bound in least if bound is not None), parameters.max_replica_count
    if isinstance(parameters, hpa.Hpa | kthena.Kthena | aibrix.Apa | aibrix.Kpa):
        return parameters.min_replicas, parameters.max_replicas
    if isinstance(parameters, slo_aware.SloAware):
        return parameters.scaler.min_replicas, parameters.scaler.max_replicas
    if isinstance(parameters, dynamo.DynamoLoad | dynamo.DynamoThroughput):
        return parameters.min_endpoint, parameters.max_replicas
    return None


def _with_metrics(pool: Any, change: Callable[[hpa.Metric], hpa.Metric]) -> Any:
    """Return a pool's object with its metrics changed."""
    if isinstance(pool, keda.Keda):
        return replace(pool, hpa=_with_metrics(pool.hpa, change))
    return replace(pool, metrics=tuple(map(change, pool.metrics))) if metrics_of(pool) else pool


def _padded(
    control: Autoscaler | HeteroScale, slots: Mapping[Key, Key], added: Mapping[Key, Added]
) -> Slotted:
    """Return a control whose metrics all add what the others of its kind add, or nothing in place of it."""
    held, pools = dict(slots), {}
    for role, pool in control.pools.items():

        def padded(metric: hpa.Metric, role: str = role) -> hpa.Metric:
            ways = added[metric.signal, role]
            if _added(metric) == ways:
                return metric
            for slot, _ in ways:
                held.setdefault((slot, role), held[metric.signal, role])
            return replace(metric, others=tuple(hpa.Operand(*one, hpa.ADDS_NOTHING) for one in ways))

        pools[role] = _with_metrics(pool, padded)
    return replace(control, pools=pools), held


def structure(control: Autoscaler | HeteroScale) -> Hashable:
    """Return what controls have to have in common to share a batch: all that is not a number."""
    if isinstance(control, HeteroScale):
        return HeteroScale, heteroscale.structure(control)
    pools = tuple(
        (role, type(one), _ROWS[type(one)].structure(one)) for role, one in sorted(control.pools.items())
    )
    return Autoscaler, pools, control.together is not None


def batch_of(controls: Sequence[Autoscaler | HeteroScale]) -> Batch:
    """Return the batch that runs controls, one a lane.

    Raises
    ------
    ValueError
        When they differ in structure.
    """
    if len({structure(control) for control in controls}) != 1:
        raise ValueError("controls of one batch need one structure")
    ours = [control for control in controls if isinstance(control, HeteroScale)]
    if ours:
        return HeteroScaleBatch(ours)
    return AutoscalerBatch([control for control in controls if isinstance(control, Autoscaler)])


DEFAULT_TARGET: ControllerName = "keda"
"""What a policy is for where nobody says it and nothing runs today that tells."""

TARGET_OF_KIND: dict[str, ControllerName] = {"ScaledObject": "keda", "HorizontalPodAutoscaler": "hpa"}
"""Kind of today's object → the controller behind it, the strongest first: KEDA keeps an HPA of its own."""


def target_of(settings: Settings, current_kinds: Iterable[str]) -> ControllerName:
    """Return the controller that the policy is selected, replayed and written for.

    Parameters
    ----------
    settings
        ``target`` wins where it was given.
    current_kinds
        Kinds of today's objects (``--current``), as their documents name them. A ScaledObject makes it KEDA,
        also beside an HPA; an HPA makes it the HPA. Other kinds tell nothing.
    """
    if settings.target is not None:
        return settings.target
    kinds = set(current_kinds)
    return next((target for kind, target in TARGET_OF_KIND.items() if kind in kinds), DEFAULT_TARGET)
