"""Compare two runs: what was decided, every field of the policies, and the answers that they stand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hs_analysis.catalogue import load_catalogue
from hs_analysis.compare.changes import (
    Bound,
    Measure,
    Plain,
    RunChange,
    Subject,
    number_change,
    schema_change,
    text_change,
)
from hs_analysis.compare.documents import DocumentWalk, fields, followed, policy_changes
from hs_analysis.compare.links import LinkFate, fates
from hs_analysis.compare.services import ComparedRun, ServicePair, paired
from hs_analysis.errors import RunFolderError
from hs_analysis.schema.names import RECORDED

SUMMARY_SCHEMAS = (1, 2)
POLICY_SCHEMAS = ("hs-analysis/policy/v1alpha1", "hs-analysis/policy/v1alpha2")

SCORES = (
    ("instance_hours", "instance-hours", "h", "instance_hours_ci"),
    ("gpu_hours", "GPU-hours", "h", ""),
    ("slo_violation_ratio", "windows over the SLO", "ratio", "slo_violation_ci"),
    ("actions_per_day", "actions per day", "", ""),
    ("vs_recorded", "saved against recorded", "ratio", "vs_recorded_ci"),
)
"""Figures of a replayed policy that are compared: key, words, unit, key of the interval."""


SELECTED = "the selected policy"
"""Stands for the selected policies of two runs whose names differ."""


@dataclass(frozen=True)
class Comparison:
    """All that two runs have, sorted.

    Attributes
    ----------
    changes
        What differs: what asks for action first, each in the order of the first run.
    unchanged
        Number of answers and fields that are the same, per part.
    not_compared
        Paths of fields that only one of two schemas knows.
    links
        Where every evidence link of the first run leads in the second, those that lead nowhere first.
    """

    changes: tuple[RunChange, ...]
    unchanged: Mapping[str, int] = field(default_factory=dict)
    not_compared: tuple[str, ...] = ()
    links: tuple[LinkFate, ...] = ()

    @property
    def to_act(self) -> tuple[RunChange, ...]:
        """Changes of the decision."""
        return tuple(change for change in self.changes if change.relevance == "act")

    @property
    def decision_changed(self) -> bool:
        """Whether anything changed that a user must act on."""
        return bool(self.to_act)

    @property
    def changed(self) -> bool:
        """Whether any answer or setting differs; other inputs or limits alone are no change."""
        return any(change.relevance != "context" for change in self.changes)


def compare_runs(
    a: ComparedRun,
    b: ComparedRun,
    renamed: Mapping[str, str] | None = None,
    links: Sequence[str] | None = None,
) -> Comparison:
    """Return what differs between two runs and how much is the same.

    Services are paired by name, else as `hs_analysis.compare.services.paired` does; one that only one run
    has is a change.

    Parameters
    ----------
    a, b
        The two runs.
    renamed
        Services that go by another name in the second run: old name → new name.
    links
        Evidence links to follow from the first run into the second; all that the first run holds without.

    Raises
    ------
    RunFolderError
        When a run has a schema that this version does not know.
    UsageError
        For a renamed service that its run does not have.
    """
    for run in (a, b):
        _refuse_unknown(run)
    pairs = paired(a.summary, b.summary, renamed or {})
    found = list(_all(a, b, pairs))
    order = {"act": 0, "note": 1, "context": 2}
    changes = [change for change in found if change.relation not in ("same", "one_schema")]
    return Comparison(
        tuple(sorted(changes, key=lambda change: order[change.relevance])),
        Counter(change.part for change in found if change.relation == "same"),
        tuple(dict.fromkeys(change.path for change in found if change.relation == "one_schema")),
        fates(a, b, pairs, links),
    )


def _refuse_unknown(run: ComparedRun) -> None:
    version = run.summary.get("schema_version")
    if version not in SUMMARY_SCHEMAS:
        what = f"summary.json has schema_version {version!r}, and this version of hsa reads 1 and 2"
        raise RunFolderError(what, where=run.name, hint="compare with the newer version of hsa")
    for document in run.policies:
        if document.get("schema") not in POLICY_SCHEMAS:
            known = " and ".join(schema.rpartition("/")[2] for schema in POLICY_SCHEMAS)
            what = f"policy.yaml has schema {document.get('schema')!r}, and this version of hsa reads {known}"
            raise RunFolderError(what, where=run.name, hint="compare with the newer version of hsa")


def _all(a: ComparedRun, b: ComparedRun, pairs: Sequence[ServicePair]) -> Iterator[RunChange]:
    services = [{str(one["service"]): one for one in run.summary.get("services") or []} for run in (a, b)]
    for pair in pairs:
        place = Subject(pair.new or pair.old or "", "decision", "service", "service", acts="any")
        if pair.old is None or pair.new is None:
            yield text_change(place, *("there" if name else None for name in (pair.old, pair.new)))
            continue
        yield text_change(place, pair.old, pair.new)
        documents = [run.policy(name) for run, name in ((a, pair.old), (b, pair.new))]
        yield from _service(pair.new, a, b, services[0][pair.old], services[1][pair.new], documents)
    yield from _input(a.summary, b.summary)


def _service(
    name: str,
    a: ComparedRun,
    b: ComparedRun,
    first: Plain,
    second: Plain,
    documents: Sequence[Plain | None],
) -> Iterator[RunChange]:
    policies = [document or {} for document in documents]
    yield from _decision(name, a, b, first, second, policies)
    if None not in documents:
        yield from policy_changes(name, *policies)
    else:
        place = Subject(name, "policy", "policy.yaml", "policy", acts="any")
        yield text_change(place, *(" + ".join(followed(one)) if one else None for one in policies))
    yield from _verdicts(name, first, second, policies)
    yield from _estimates(name, first, second)
    yield from _targets(name, first, second, policies)
    yield from _ratio(name, first, second, policies)
    yield from _backtest(name, first, second)
    yield from _refusals(name, first, second)


def _decision(
    name: str, a: ComparedRun, b: ComparedRun, first: Plain, second: Plain, policies: Sequence[Plain]
) -> Iterator[RunChange]:
    versions = [run.summary.get("schema_version") for run in (a, b)]
    if "decision" in first or "decision" in second:
        walk = DocumentWalk(name, "decision", ("decision",), versions[0] == versions[1])
        sides = [one.get("decision") or {} for one in (first, second)]
        kept = [{key: value for key, value in side.items() if key not in _FIGURES} for side in sides]
        yield from fields(walk, *kept)
        for path, what in _DECISION_SHARES:
            values = [Measure(_at(side, path.split("."))) for side in sides]
            place = Subject(name, "decision", f"decision.{path}", what, "ratio")
            if walk.one_schema and any(side.value is not None for side in values):
                yield number_change(place, *values)
            elif any(side.value is not None for side in values):
                yield schema_change(place, *(side.value for side in values))
    best = [_signal(one["recommended"]) if one.get("recommended") else None for one in (first, second)]
    yield text_change(Subject(name, "decision", "recommended", "recommended metric", acts="any"), *best)
    if followed(policies[0]) == followed(policies[1]):  # else the policies themselves tell it
        # What is left is what the controller is set to: as in the policy, no matter that one must act on.
        place = Subject(name, "decision", "selection", "selected policy")
        yield text_change(place, *(_selected(one) for one in (first, second)))


_FIGURES = frozenset(
    {
        "why", "hours_saved_ratio", "hours_saved_ci", "instance_hours_saved", "gpu_hours_saved", "cost_saved",
        "slo_risk",
    }
)  # fmt: skip
"""Parts of a decision that are figures of its backtest, which is compared itself, but for these shares."""

_DECISION_SHARES = (
    ("hours_saved_ratio", "hours saved"),
    ("slo_risk.undisturbed", "SLO risk, undisturbed"),
    ("slo_risk.under_faults", "SLO risk, under faults"),
    ("slo_risk.under_bursts", "SLO risk, under bursts"),
    ("slo_risk.default_hpa_under_faults", "SLO risk, default HPA under faults"),
    ("slo_risk.default_hpa_under_bursts", "SLO risk, default HPA under bursts"),
)


def _at(side: Plain, path: Sequence[str]) -> float | None:
    """Return a number of a decision, None where a run has none."""
    found: Any = side
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def _selected(service: Plain) -> str | None:
    rows = service.get("selection") or []
    return next((str(row["policy"]) for row in rows if row.get("chosen")), None)


def _verdicts(name: str, first: Plain, second: Plain, policies: Sequence[Plain]) -> Iterator[RunChange]:
    """Yield the verdicts of all signals; those on which a decision stands ask for action."""
    decisive = {metric for policy in policies for metric in followed(policy)}
    decisive |= {_signal(one["recommended"]) for one in (first, second) if one.get("recommended")}
    for of, before, after in _joined(first, second, "signals", _signal):
        acts: Literal["", "any"] = "any" if of in decisive else ""
        place = Subject(name, "signals", f"signals[{of}].verdict", f"verdict on {of}", acts=acts)
        yield text_change(place, before.get("verdict"), after.get("verdict"))


def _estimates(name: str, first: Plain, second: Plain) -> Iterator[RunChange]:
    """Yield capacities, start-up times and what was asked for: what targets and cooldowns were made from."""
    for of, before, after in _joined(first, second, "capacity", _pool):
        path, what = f"capacity[{of}]", f"capacity of one {of} instance"
        signal = str(after.get("signal") or before.get("signal"))
        sides = [_measure(row, "per_instance") for row in (before, after)]
        unit = f"{_unit_of(signal)} per instance".strip()
        yield number_change(Subject(name, "capacity", f"{path}.per_instance", what, unit), *sides)
        status = Subject(name, "capacity", f"{path}.status", f"{what}, status", acts="any")
        yield text_change(status, before.get("status"), after.get("status"))
    for of, before, after in _joined(first, second, "startup", _pool):
        place = Subject(name, "capacity", f"startup[{of}].value_s", f"start-up time of {of}", "s")
        yield number_change(place, _measure(before, "value_s"), _measure(after, "value_s"))
    demand = [one.get("demand") or {} for one in (first, second)]
    for key, what in (("prefill_tps", "prefill work offered"), ("decode_tps", "decode work offered")):
        place = Subject(name, "capacity", f"demand.{key}", f"{what}, 95 % quantile", "tokens/s")
        yield number_change(place, *(Measure(one.get(key)) for one in demand))
    for key, what in (("prompt_tokens", "tokens of a prompt"), ("output_tokens", "tokens of an answer")):
        place = Subject(name, "capacity", f"totals.{key}", f"{what}, mean", "tokens")
        yield number_change(place, *(Measure(_per_request(one, key)) for one in (first, second)))


def _per_request(service: Plain, key: str) -> float | None:
    totals = service.get("totals") or {}
    tokens, requests = totals.get(key), totals.get("requests")
    return float(tokens) / float(requests) if tokens is not None and requests else None


def _targets(name: str, first: Plain, second: Plain, policies: Sequence[Plain]) -> Iterator[RunChange]:
    """Yield targets of signals that not both policies follow: those are fields of the policies."""
    known = set(followed(policies[0])) & set(followed(policies[1]))
    for of, before, after in _joined(first, second, "thresholds", _signal):
        if of in known:
            continue
        path, what = f"thresholds[{of}]", f"target of {of}"
        # A target is a decision and has no interval of its own, whatever schema 1 wrote beside it.
        sides = [Measure(row.get("target_per_instance")) for row in (before, after)]
        unit = f"{_unit_of(of.partition('@')[0])} per instance".strip()
        yield number_change(Subject(name, "capacity", f"{path}.target_per_instance", what, unit), *sides)
        status = Subject(name, "capacity", f"{path}.status", f"{what}, status")
        yield text_change(status, before.get("status"), after.get("status"))


def _ratio(name: str, first: Plain, second: Plain, policies: Sequence[Plain]) -> Iterator[RunChange]:
    """Yield the ratio: its one-sided bounds, and the number itself where not both policies hold it."""
    before, after = (one.get("pd_ratio") or {} for one in (first, second))
    for key, bound, what in _RATIO_BOUNDS:
        place = Subject(name, "capacity", f"pd_ratio.{key}", f"P/D ratio, {what}", _PD)
        yield number_change(place, *(Measure(one.get(key), bound=bound) for one in (before, after)))
    reasons = [one.get("reason") or {} for one in (before, after)]
    if reasons[0].get("code") != reasons[1].get("code"):  # the same cause moves in its numbers each week
        acts: Literal["", "any"] = "any" if before.get("status") != after.get("status") else ""
        place = Subject(name, "capacity", "pd_ratio.reason", "reason for the P/D ratio", acts=acts)
        yield text_change(place, *(one.get("text") for one in reasons))
    if all(((policy.get("spec") or {}).get("pd_ratio") or {}).get("value") for policy in policies):
        return
    place = Subject(name, "capacity", "pd_ratio.value", "P/D ratio", _PD, "moved")
    yield number_change(place, *(_measure(one, "value", floor="") for one in (before, after)))
    status = Subject(name, "capacity", "pd_ratio.status", "P/D ratio, status", acts="any")
    yield text_change(status, before.get("status"), after.get("status"))


_PD = "prefill per decode"
_RATIO_BOUNDS: tuple[tuple[str, Bound, str], ...] = (
    ("at_least", "at_least", "at least"),
    ("at_most", "at_most", "at most"),
)


def _backtest(name: str, first: Plain, second: Plain) -> Iterator[RunChange]:
    replays = [one.get("replay") or {} for one in (first, second)]
    calibration = [(one.get("calibration") or {}).get("status") for one in replays]
    yield text_change(Subject(name, "backtest", "replay.calibration.status", "calibration"), *calibration)
    names = {_selected(one) for one in (first, second)}
    # Candidates of other settings have other names; both are what their run would apply.
    same = dict.fromkeys(names, SELECTED) if len(names) > 1 else {}
    shown = {*names, SELECTED, RECORDED}
    for of, before, after in _joined(
        replays[0], replays[1], "policies", lambda row: same.get(str(row["policy"]), str(row["policy"]))
    ):
        part = "backtest" if of in shown else "other backtests"
        if not before or not after:
            scores = [{key: row.get(key) for key, *_ in SCORES} if row else None for row in (before, after)]
            yield text_change(Subject(name, part, f"replay.policies[{of}]", f"backtest of {of}"), *scores)
            continue
        for key, what, unit, ci in SCORES:
            sides = [Measure(row.get(key), _score_interval(row, ci)) for row in (before, after)]
            if any(side.value is not None for side in sides):
                place = Subject(name, part, f"replay.policies[{of}].{key}", f"{of}: {what}", unit)
                yield number_change(place, *sides)


def _score_interval(row: Plain, key: str) -> tuple[float, float] | None:
    """Return the interval of a score; what moves within one day tells no two runs apart."""
    return None if row.get("interval_basis") == "hours" else _pair(row.get(key))


def _refusals(name: str, first: Plain, second: Plain) -> Iterator[RunChange]:
    """Yield what was not answered, by what it is of: another cause is a change."""
    for of, before, after in _joined(first, second, "refusals", lambda row: str(row["what"])):
        place = Subject(name, "notes", f"refusals[{of}].code", f"not answered, {of}")
        yield text_change(place, before.get("code"), after.get("code"))


def _input(a: Plain, b: Plain) -> Iterator[RunChange]:
    """Yield what the runs were made from: window, limits, inputs, version; and their warnings."""
    codes = [dict.fromkeys(str(one.get("code")) for one in run.get("warnings") or []) for run in (a, b)]
    for code in dict.fromkeys([*codes[0], *codes[1]]):
        place = Subject("", "notes", f"warnings[{code}]", f"warning {code}")
        yield text_change(place, *(code if code in one else None for one in codes))
    windows = [run.get("window") or {} for run in (a, b)]
    spans = [f"{one['start']} to {one['end']}" if one.get("start") else None for one in windows]
    yield text_change(Subject("", "input", "window", "window"), *spans)
    limits = [run.get("slo") or {} for run in (a, b)]
    yield from fields(DocumentWalk("", "input", ("slo",), one_schema=False), *limits)
    yield text_change(Subject("", "input", "inputs", "inputs"), *_inputs(a, b))
    versions = [run.get("tool_version") for run in (a, b)]
    yield text_change(Subject("", "input", "tool_version", "version of hsa"), *versions)


def _inputs(a: Plain, b: Plain) -> tuple[str, str]:
    """Return each run's number of input files, and how many of them the other has, byte for byte."""
    hashes = [[str(one.get("sha256")) for one in run.get("inputs") or []] for run in (a, b)]
    if sorted(hashes[0]) == sorted(hashes[1]):
        return "the same files", "the same files"
    shared = len(set(hashes[0]) & set(hashes[1]))
    counted = [f"{len(one)} file{'s' if len(one) != 1 else ''}" for one in hashes]
    return counted[0], f"{counted[1]}, {shared} of them the same"


def _signal(row: Plain) -> str:
    on = f" on {row['gpu_type']}" if row.get("gpu_type") else ""
    return f"{row['signal']}@{row['role']}{on}"


def _pool(row: Plain) -> str:
    return f"{row['role']}{' on ' + row['gpu_type'] if row.get('gpu_type') else ''}"


def _unit_of(signal: str) -> str:
    return next((entry.unit for entry in load_catalogue().signals if entry.id == signal), "")


def _joined(
    a: Plain, b: Plain, table: str, key: Callable[[Plain], str]
) -> Iterator[tuple[str, Plain, Plain]]:
    """Yield rows of both runs by key, in the order of the first, then what only the second has."""
    rows = [{key(row): row for row in one.get(table) or []} for one in (a, b)]
    for of in dict.fromkeys([*rows[0], *rows[1]]):
        yield of, rows[0].get(of, {}), rows[1].get(of, {})


def _measure(row: Plain, key: str, floor: Bound = "at_least") -> Measure:
    """Return a number of summary.json: a floor is a bound, and only an ``ok`` one has an interval."""
    value = row.get(key)
    if row.get("status") == "floor" and floor:
        return Measure(value, bound=floor)
    return Measure(value, _pair(row.get("ci")) if row.get("status") == "ok" else None)


def _pair(ends: Any) -> tuple[float, float] | None:
    return (float(ends[0]), float(ends[1])) if ends and None not in ends else None
