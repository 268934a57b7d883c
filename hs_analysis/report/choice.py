"""Which policy was chosen, which signals size its pools, and which rows of the replay it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hs_analysis.schema.baselines import BASELINES, RECORDED, STATIC_PEAK


@dataclass(frozen=True)
class Choice:
    """What the verdict speaks of.

    Attributes
    ----------
    policy
        Name of the chosen policy, empty when none was chosen.
    primaries
        (signal, role) that size pools: one entry, or one per role.
    mode, confidence
        As policy.yaml says, empty when there is none.
    selected, recorded, static_peak
        Rows of the replay, empty when missing.
    spec
        ``spec`` of policy.yaml, empty when there is none.
    """

    policy: str = ""
    primaries: tuple[tuple[str, str], ...] = ()
    mode: str = ""
    confidence: str = ""
    selected: Mapping[str, Any] = field(default_factory=dict)
    recorded: Mapping[str, Any] = field(default_factory=dict)
    static_peak: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def follows(self) -> bool:
        """Whether the policy follows its primaries; a timetable or a hold only names what was recommended."""
        return bool(self.policy or self.mode) and self.mode not in ("periodic", "hold")


def choose(service: Mapping[str, Any], policy_yaml: str) -> Choice:
    """Read the choice from a service's summary and its policy document.

    The policy document says which signals size the pools; without one the chosen candidate does, else the
    recommendation.
    """
    document = _document(policy_yaml)
    spec, said = mapping(document.get("spec")), mapping(document.get("status"))
    chosen = next((row for row in records(service.get("selection")) if row.get("chosen")), {})
    replay = records(mapping(service.get("replay")).get("policies"))
    name = str(chosen.get("policy") or "")
    return Choice(
        policy=name,
        primaries=_primaries(service, spec, chosen),
        mode=str(spec.get("mode") or ""),
        confidence=str(said.get("confidence") or ""),
        selected=_selected(replay, name),
        recorded=_named(replay, RECORDED),
        static_peak=_named(replay, STATIC_PEAK),
        spec=spec,
    )


def primary_thresholds(service: Mapping[str, Any], choice: Choice) -> list[Mapping[str, Any]]:
    """Return the thresholds of the choice's signals over all GPU types, all thresholds when it has none."""
    rows = [row for row in records(service.get("thresholds")) if not row.get("gpu_type")]
    wanted = [row for pair in choice.primaries if (row := threshold_of(service, *pair))]
    return wanted or rows


def threshold_of(service: Mapping[str, Any], signal: str, role: str) -> Mapping[str, Any]:
    """Return the threshold of a primary over all GPU types, empty when it has none."""
    return entry_of(
        [row for row in records(service.get("thresholds")) if not row.get("gpu_type")], signal, role
    )


def entry_of(rows: Sequence[Mapping[str, Any]], signal: str, role: str) -> Mapping[str, Any]:
    """Return the row of a primary, empty when there is none.

    A signal of the whole service, such as the request rate, has no row of the pool it sizes but its own.
    """
    keyed = {(row.get("signal"), row.get("role")): row for row in reversed(rows)}
    return keyed.get((signal, role)) or keyed.get((signal, "service")) or {}


def _document(text: str) -> Mapping[str, Any]:
    try:
        return mapping(YAML(typ="safe", pure=True).load(text)) if text.strip() else {}
    except YAMLError:
        return {}


def _primaries(
    service: Mapping[str, Any], spec: Mapping[str, Any], chosen: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    named = [(str(p.get("signal")), str(p.get("role"))) for p in records(spec.get("primaries"))]
    if named:
        return tuple(named)
    signals, roles = (str(chosen.get(key) or "").split("+") for key in ("signal", "role"))
    if signals != [""] and len(signals) == len(roles):
        return tuple(zip(signals, roles, strict=True))
    recommended = mapping(service.get("recommended"))
    return (
        ((str(recommended["signal"]), str(recommended.get("role") or "")),)
        if recommended.get("signal")
        else ()
    )


def _selected(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for wanted in (name, "selected", "chosen"):
        if wanted and (found := _named(rows, wanted)):
            return found
    return next((row for row in rows if row.get("policy") not in BASELINES), {})


def _named(rows: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((row for row in rows if row.get("policy") == name), {})


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value when it is a mapping, else an empty one: null stands for everything unknown."""
    return value if isinstance(value, Mapping) else {}


def records(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of a list, none of anything else."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []
