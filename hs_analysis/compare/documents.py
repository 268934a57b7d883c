"""Two policy documents, field by field: whatever a document holds is compared, so that a new field is, too.

Left out are evidence links, and ``metadata`` and the replay's figures, which summary.json holds as well.
Entries of a list are paired by their name (a signal and its role, a stretch of the day), not by their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hs_analysis.compare.changes import (
    MOVED,
    Measure,
    Plain,
    RunChange,
    Subject,
    number_change,
    schema_change,
    text_change,
)
from hs_analysis.schema.names import POOL_ROLES

LEFT_OUT = frozenset({"evidence"})
"""Keys that say where a value comes from and set nothing."""


Segments = tuple[str, ...]

ACTS: tuple[tuple[Segments, Literal["any", "moved"]], ...] = (
    (("spec", "mode"), "any"),
    (("spec", "controller"), "any"),
    (("spec", "primaries"), "any"),
    (("spec", "primaries", "*", "promql"), "any"),
    (("spec", "primaries", "*", "target_per_instance"), "moved"),
    (("spec", "primaries", "*", "target_per_instance", "status"), "any"),
    (("spec", "pd_ratio"), "moved"),
    (("spec", "pd_ratio", "status"), "any"),
    (("spec", "bounds", "*"), "moved"),
    (("spec", "bounds", "*", "min"), "moved"),
    (("spec", "bounds", "*", "max"), "moved"),
    (("spec", "bounds", "gpus", "limit"), "moved"),
    (("spec", "periodic", "*"), "any"),
    (("spec", "periodic", "*", "*"), "moved"),
    (("decision", "recommend"), "any"),
    (("decision", "metric"), "any"),
    (("decision", "controller"), "any"),
    (("decision", "target"), "any"),
)
"""Fields on which a user must act: at any difference, or at a move beyond `MOVED`; ``*`` is one name."""

_WORDS = {
    "spec": "",
    "decision": "",
    "primaries": "metric",
    "target_per_instance": "target",
    "pd_ratio": "P/D ratio",
    "promql": "query",
    "slo": "SLO",
    "slo_s": "SLO",
    "ttft_s": "TTFT",
    "tbt_s": "TBT",
    "gpu_types": "GPU types",
    "periodic": "timetable",
}
_UNITS = {"_s": "s", "_hours": "h", "_tps": "tokens/s"}
_ITEM_KEYS: tuple[Segments, ...] = (("signal", "role"), ("from", "to", "days"), ("role",), ("name",))
_NAMED_MAPS = ("gpu_types", "start_up_s", "by_role")
"""Mappings whose keys are names of things, not fields: one that is missing is no matter of the schema."""

_ABSENT: Any = object()


@dataclass(frozen=True)
class DocumentWalk:
    """Where a walk through two documents stands.

    ``service`` and ``part`` are of its changes; ``path`` are the keys so far, entries of lists in brackets;
    ``one_schema`` tells that both documents have the same one; ``unit`` and ``status`` are of the nearest
    holder that names them.
    """

    service: str
    part: str
    path: Segments
    one_schema: bool = True
    unit: str = ""
    status: Segments = ("", "")

    def to(self, key: str) -> DocumentWalk:
        """Return the walk one key further."""
        return replace(self, path=(*self.path, key))

    def place(self, unit: str | None = None) -> Subject:
        """Return what a change at this point is of."""
        path = self.path
        found = unit if unit is not None else _unit(path)
        return Subject(self.service, self.part, _dotted(path), in_words(path), found, _acts(path))


def policy_changes(service: str, a: Plain, b: Plain) -> Iterator[RunChange]:
    """Yield every field of two policy documents of a service, those that are the same too.

    Parameters
    ----------
    service
        ``namespace/model``.
    a, b
        The documents as plain data. Fields that only one of two different schemas knows are ``one_schema``.
    """
    walk = DocumentWalk(service, "policy", ("spec",), a.get("schema") == b.get("schema"))
    specs = [document.get("spec") or {} for document in (a, b)]
    metrics = (" + ".join(followed(document)) or None for document in (a, b))
    yield text_change(walk.to("primaries").place(), *metrics)
    yield from fields(walk, specs[0], specs[1])
    confidence = [(document.get("status") or {}).get("confidence") for document in (a, b)]
    yield text_change(Subject(service, "policy", "status.confidence", "confidence"), *confidence)


def followed(document: Plain) -> list[str]:
    """Return the metrics that a policy follows, ``signal@role``, in the order of the document."""
    primaries = (document.get("spec") or {}).get("primaries") or []
    return [f"{primary.get('signal')}@{primary.get('role')}" for primary in primaries]


def fields(walk: DocumentWalk, a: Any, b: Any) -> Iterator[RunChange]:
    """Yield every field of two values at a place: mappings by key, lists of mappings by name, else whole."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        yield from _mappings(walk, a, b)
    elif _items(a) and _items(b) and (a or b):
        pairs = [_named(side, [*a, *b]) for side in (a, b)]
        for name in dict.fromkeys([*pairs[0], *pairs[1]]):
            yield from fields(walk.to(f"[{name}]"), pairs[0].get(name, _ABSENT), pairs[1].get(name, _ABSENT))
    elif a is _ABSENT or b is _ABSENT:
        yield from _in_one(walk, a, b)
    elif _is_number(a) or _is_number(b):
        yield _number(walk, a, b)
    elif walk.path[-1:] == ("promql",) and _differ_in_weights(a, b):
        yield text_change(replace(walk.place(), acts=""), a, b)
    else:
        yield text_change(walk.place(), _bare(a), _bare(b))


_WEIGHT = re.compile(r"(?<=\* )-?[0-9][0-9.]*(?:e[+-]?[0-9]+)?")
"""A factor in a query: what of a waiting request counts as work, which each week fits a little apart."""


def _differ_in_weights(a: Any, b: Any) -> bool:
    """Whether two queries are the same but for factors that moved by no more than `MOVED`."""
    if not isinstance(a, str) or not isinstance(b, str) or _WEIGHT.sub("", a) != _WEIGHT.sub("", b):
        return False
    pairs = zip(map(float, _WEIGHT.findall(a)), map(float, _WEIGHT.findall(b)), strict=True)
    return all(abs(after - before) <= MOVED * abs(before) for before, after in pairs)


def _mappings(walk: DocumentWalk, a: Plain, b: Plain) -> Iterator[RunChange]:
    a, b = _by_role(a, b)
    if walk.path[1:2] == ("primaries",) and "unit" in {**a, **b}:
        walk = replace(walk, unit=str(b.get("unit") or a.get("unit") or ""))
    if "status" in {**a, **b}:
        walk = replace(walk, status=tuple(str(side.get("status") or "") for side in (a, b)))
    left_out = set(LEFT_OUT)
    if walk.path[-1] == "target_per_instance":
        # v1alpha1 wrote ends beside a target, but a target is a decision: only its capacity has an interval.
        left_out |= {"low", "high"}
    if "value" in {**a, **b}:
        sides = [_measure(walk, side, status) for side, status in zip((a, b), walk.status, strict=True)]
        place = walk.place(_unit_of_value(walk))
        yield number_change(replace(place, path=f"{place.path}.value"), *sides)
        left_out |= {"value"}
        if all(side.interval or side.bound for side in sides):
            left_out |= {"low", "high"}
    for key in dict.fromkeys([*a, *b]):
        if key not in left_out:
            yield from fields(walk.to(str(key)), a.get(key, _ABSENT), b.get(key, _ABSENT))


def _measure(walk: DocumentWalk, node: Plain, status: str) -> Measure:
    """Return the number of a mapping with ``value``.

    A capacity that is a floor is a bound. A target is a decision, which has no interval; a ratio has one
    where it is ``ok``, else a band.
    """
    value = node.get("value") if _is_number(node.get("value")) else None
    if status == "floor" and walk.path[-1] == "capacity":
        return Measure(value, bound="at_least")
    ends = (node.get("low"), node.get("high"))
    known = walk.path[-1] != "target_per_instance" and all(_is_number(end) for end in ends)
    interval = (float(ends[0]), float(ends[1])) if known and status in ("", "ok") else None  # type: ignore[arg-type]
    return Measure(value, interval)


def _by_role(a: Plain, b: Plain) -> tuple[Plain, Plain]:
    """Return both with one entry a pool when either has them: what all pools share holds for each."""
    roles = list(dict.fromkeys([*(a.get("by_role") or {}), *(b.get("by_role") or {})]))
    if not roles:
        return a, b

    def spread(side: Plain) -> Plain:
        own = side.get("by_role")
        return own if own else dict.fromkeys(roles, side)

    return spread(a), spread(b)


def _in_one(walk: DocumentWalk, a: Any, b: Any) -> Iterator[RunChange]:
    """Yield what only one document has; an empty value says the same as none."""
    before, after = (None if side is _ABSENT or side in (None, {}, []) else _bare(side) for side in (a, b))
    key, holder = walk.path[-1], walk.path[-2] if len(walk.path) > 1 else ""
    thing = key.startswith("[") or key in POOL_ROLES or holder in _NAMED_MAPS
    if walk.one_schema or thing:
        yield text_change(walk.place(), before, after)
    else:
        yield schema_change(walk.place(), before, after)


def _number(walk: DocumentWalk, a: Any, b: Any) -> RunChange:
    if all(side is None or _is_number(side) for side in (a, b)):
        return number_change(walk.place(), Measure(a), Measure(b))
    return text_change(walk.place(), _bare(a), _bare(b))


def _items(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _named(items: Sequence[Plain], both: Sequence[Plain]) -> dict[str, Plain]:
    """Return entries of a list by name: the first of `_ITEM_KEYS` that all have and that tells them apart."""
    for keys in _ITEM_KEYS:
        if all(key in item for item in both for key in keys):
            named = {"@".join(_text(item[key]) for key in keys if item[key]): item for item in items}
            if len(named) == len(items):
                return named
    return {str(number): item for number, item in enumerate(items)}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _bare(value: Any) -> Any:
    """Return plain data without what is left out."""
    if isinstance(value, Mapping):
        return {str(key): _bare(item) for key, item in value.items() if key not in LEFT_OUT}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _acts(path: Segments) -> Literal["", "any", "moved"]:
    for pattern, kind in ACTS:
        if len(pattern) == len(path) and all(map(_fits, pattern, path)):
            return kind
    return ""


def _fits(one: str, key: str) -> bool:
    return one in ("*", key)


def _unit(path: Segments) -> str:
    if path == ("spec", "bounds", "gpus", "limit"):
        return "GPUs"
    if path[:2] == ("spec", "bounds") or (path[:2] == ("spec", "periodic") and path[-1] in POOL_ROLES):
        return "instances"
    holders = [key for key in path[-2:] if not key.startswith("[")]
    return next((unit for key in reversed(holders) for end, unit in _UNITS.items() if key.endswith(end)), "")


def _unit_of_value(walk: DocumentWalk) -> str:
    if walk.path[-1] == "pd_ratio":
        return "prefill per decode"
    return f"{walk.unit} per instance" if walk.unit else _unit(walk.path)


def _dotted(path: Segments) -> str:
    return "".join(key if key.startswith("[") or not n else f".{key}" for n, key in enumerate(path))


def in_words(path: Segments) -> str:
    """Return a path in words: ``cooldown, decode, scale in``; units are told with the value."""
    found: list[str] = []
    for key in path:
        if key.startswith("[") and found:
            name = key[1:-1]  # entries without a name are counted from 1
            found[-1] = f"{found[-1]} {int(name) + 1 if name.isdecimal() else name}"
        elif word := _WORDS.get(key, _plain_key(key)):
            found.append(word)
    return ", ".join(found)


def _plain_key(key: str) -> str:
    return next((key.removesuffix(end) for end in _UNITS if key.endswith(end)), key).replace("_", " ").strip()
