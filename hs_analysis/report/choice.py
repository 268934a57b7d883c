"""Which policy was chosen, which signals size its pools, and which rows of the replay it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hs_analysis.schema.names import BASELINES, RECORDED


@dataclass(frozen=True)
class Choice:
    """What the verdict speaks of.

    Attributes
    ----------
    policy
        Name of the policy that policy.yaml holds, without a document of the selected one; else empty.
    backtested
        Name of the selected policy where policy.yaml holds another one, whose backtest there is none of.
    primaries
        (signal, role) that size pools: one entry, or one per role.
    mode
        As policy.yaml says, empty when there is none.
    decision
        ``decision`` of the summary, empty without one.
    selected, recorded
        Rows of the replay, empty when missing.
    spec
        ``spec`` of policy.yaml, empty when there is none.
    """

    policy: str = ""
    primaries: tuple[tuple[str, str], ...] = ()
    mode: str = ""
    backtested: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)
    selected: Mapping[str, Any] = field(default_factory=dict)
    recorded: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def confidence(self) -> str:
        """How far to trust the policy, empty when it is not said."""
        return str(self.decision.get("confidence") or "")

    @property
    def keeps_ratio(self) -> bool:
        """Whether the policy holds the pools at a P/D ratio."""
        return bool(mapping(self.spec.get("pd_ratio")).get("value"))

    @property
    def follows(self) -> bool:
        """Whether the policy follows its primaries; a timetable or a hold only names what was recommended."""
        return bool(self.policy or self.mode) and self.mode not in ("periodic", "hold")


def choose(service: Mapping[str, Any], policy_yaml: str) -> Choice:
    """Read the choice from a service's summary and its policy document.

    The policy document says which signals size the pools; without one the chosen candidate does, else the
    recommendation.
    """
    document = policy_document(policy_yaml)
    spec = mapping(document.get("spec"))
    chosen = next((row for row in records(service.get("selection")) if row.get("chosen")), {})
    backtest = mapping(service.get("replay"))
    replay = records(backtest.get("policies"))
    name = str(chosen.get("policy") or "")
    filed, selected = _filed(spec), _selected_primaries(chosen)
    timed = spec.get("mode") == "periodic"
    other = bool(filed and name) and filed != selected and not timed
    return Choice(
        policy="+".join(f"{signal}@{role}" for signal, role in filed) if other else name,
        primaries=filed or selected or _recommended(service),
        mode=str(spec.get("mode") or ""),
        backtested=name if other else "",
        decision=mapping(service.get("decision")),
        selected=_selected(replay, headline_of(backtest) or name),
        recorded=_named(replay, RECORDED),
        spec=spec,
    )


def headline_of(backtest: Mapping[str, Any]) -> str:
    """Return the row of a backtest that the decision speaks of, empty where it does not say."""
    said = mapping(mapping(backtest.get("calibration")).get("deployed"))
    return str(said.get("policy") or "")


def knows_shares(service: Mapping[str, Any]) -> bool:
    """Whether shares of windows over the SLO may be shown: of a replay that is off only hours are given."""
    calibration = mapping(mapping(service.get("replay")).get("calibration"))
    return calibration.get("status") != "not_calibrated"


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


@lru_cache(maxsize=64)
def policy_document(text: str) -> Mapping[str, Any]:
    """Return a policy document as plain data, empty for what is none."""
    try:
        return mapping(YAML(typ="safe", pure=True).load(text)) if text.strip() else {}
    except YAMLError:
        return {}


def _filed(spec: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the primaries of the policy document."""
    return tuple((str(p.get("signal")), str(p.get("role"))) for p in records(spec.get("primaries")))


def _selected_primaries(chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the primaries of the selected candidate."""
    signals, roles = (str(chosen.get(key) or "").split("+") for key in ("signal", "role"))
    if signals == [""] or len(signals) != len(roles):
        return ()
    return tuple(zip(signals, roles, strict=True))


def _recommended(service: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
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
