"""Seeded changes of a run, each with the truth of where every link of the old run leads afterwards.

The truth is written down by what makes the change, not by looking at the two runs.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hs_analysis import evidence
from hs_analysis.compare import ComparedRun

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
Service = dict[str, Any]
Fate = tuple[str | None, str]
"""Link in the new run, None for none; code of the reason, empty for the same path."""

ROWS = ("signals", "capacity", "thresholds", "startup", "gpu_speeds", "drivers")
KEPT = ("service", "decision", "gpus_per_instance", "totals", "selection", "replay", "pd_ratio", "demand")
STAGE = {"signals": "study", "drivers": "select"}
NAMED = {
    "signals": "{signal}@{role}",
    "capacity": "capacity@{role}",
    "thresholds": "threshold:{signal}@{role}",
    "startup": "startup@{role}",
    "gpu_speeds": "speed@{role}",
    "drivers": "driver:{signal}@{role}",
}


@dataclass
class Changed:
    """Two runs that differ by known changes.

    Attributes
    ----------
    old, new
        The runs.
    truth
        Link of the old run → where it leads.
    kinds
        Link of the old run → the change that its service met.
    """

    old: ComparedRun
    new: ComparedRun
    truth: dict[str, Fate]
    kinds: dict[str, str] = field(default_factory=dict)


def of(name: str, table: str, row: dict[str, Any]) -> str:
    """Return the path of one entry, as its stage writes it."""
    gpu = f"@{row['gpu_type']}" if row.get("gpu_type") else ""
    return evidence.path(name, STAGE.get(table, "derive"), NAMED[table].format(**row) + gpu)


def links(service: Service) -> Iterator[tuple[str, str, Any]]:
    """Yield link, table and entry of everything that one service answers."""
    name = service["service"]
    for table in ROWS:
        yield from ((of(name, table, row), table, row) for row in service[table])
    for kind in ("pd_ratio", "demand"):
        if service[kind]:
            yield evidence.path(name, "derive", kind), kind, service[kind]
    for row in service["selection"]:
        yield evidence.path(name, "select", row["policy"]), "selection", row
    if service["selection"]:
        yield evidence.path(name, "policy", "policy"), "policy", chosen(service)
    for row in service["replay"]["policies"]:
        yield evidence.path(name, "replay", row["policy"]), "replay", row


def chosen(service: Service) -> dict[str, Any]:
    """Return the selected candidate."""
    return next(row for row in service["selection"] if row["chosen"])


def fleet(count: int, seed: int) -> list[Service]:
    """Return services that look like those of the samples, each with counts and capacities of its own."""
    chance = random.Random(f"fleet {seed}")
    shapes = []
    for sample in ("simulated-days", "dynamo-pd"):
        summary = json.loads((GOLDEN / sample / "summary.json").read_text("utf-8"))
        shapes.append(summary["services"][0])
    return [
        service(f"team-{n % 7}/model-{n:03d}", shapes[n % 2], 1.7**n * chance.uniform(0.95, 1.05), n)
        for n in range(count)
    ]


def service(name: str, shape: Service, factor: float, place: int) -> Service:
    """Return a service of a shape, its counts and capacities times a factor; every third has GPU types."""
    made: Service = {key: copy.deepcopy(shape.get(key)) for key in KEPT}
    made |= {table: copy.deepcopy(shape.get(table) or []) for table in ROWS}
    made["refusals"] = []
    roles = [row["role"] for row in made["capacity"]]
    made["startup"] = [{"role": role, "value_s": 120.0, "status": "ok"} for role in roles]
    if place % 3 == 0:
        for gpu in ("H20", "H800"):
            made["capacity"] += [dict(row, gpu_type=gpu) for row in made["capacity"] if not row["gpu_type"]]
            made["gpu_speeds"] += [{"role": role, "gpu_type": gpu, "speed": 1.0} for role in roles]
    made["totals"] = {key: value * factor for key, value in made["totals"].items() if value}
    for row in made["capacity"]:
        row["per_instance"] *= factor
        row["ci"] = [row["per_instance"] * 0.95, row["per_instance"] * 1.05]
        row["status"] = "ok"
    return renamed(made, name)


def renamed(one: Service, name: str) -> Service:
    """Return a service under another name, its links with it."""
    one = copy.deepcopy(one) | {"service": name}
    for table in ROWS:
        for row in one[table]:
            row["evidence"] = of(name, table, row)
    if one["pd_ratio"]:
        one["pd_ratio"]["evidence"] = evidence.path(name, "derive", "pd_ratio")
    for row in one["replay"]["policies"]:
        row["evidence"] = evidence.path(name, "replay", row["policy"])
    return one


Told = dict[str, Fate]
Change = Callable[[Service, random.Random], tuple[list[Service], Told]]
"""From a service to what stands in its place, and the fates of its links that are not the same path."""


def _all(one: Service, fate: Callable[[str], Fate]) -> Told:
    return {link: fate(link) for link, *_ in links(one)}


def _to(name: str, code: str) -> Callable[[str], Fate]:
    def fate(link: str) -> Fate:
        found = evidence.parse(link)
        return evidence.path(name, found.stage, found.what), code

    return fate


def _dropped(one: Service, gone: Callable[[str, Any], bool], code: str) -> tuple[list[Service], Told]:
    """Return a service without the entries that are gone, whose links die of one cause."""
    told = {link: (None, code) for link, table, row in links(one) if gone(table, row)}
    after = copy.deepcopy(one)
    for table in (*ROWS, "selection"):
        after[table] = [row for row in one[table] if not gone(table, row)]
    after["replay"]["policies"] = [row for row in one["replay"]["policies"] if not gone("replay", row)]
    for kind in ("pd_ratio", "demand"):
        after[kind] = None if gone(kind, one[kind] or {}) else after[kind]
    return [after], told


def nothing(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The service stays as it is."""
    return [copy.deepcopy(one)], {}


def values(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """Every number moves a little: the same questions with other answers."""
    after = copy.deepcopy(one)
    for _, _, row in links(after):
        for key, value in row.items():
            if isinstance(value, float):
                row[key] = value * chance.uniform(0.97, 1.03)
    return [after], {}


def reorder(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """Every list comes in another order."""
    after = copy.deepcopy(one)
    for rows in (*(after[table] for table in ROWS), after["selection"], after["replay"]["policies"]):
        chance.shuffle(rows)
    return [after], {}


def service_removed(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The service is gone."""
    return [], _all(one, lambda _: (None, "service_gone"))


def service_added(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """Another service of the same model comes beside it, in a namespace of its own."""
    name = f"new-{chance.randrange(10**6)}/{one['service'].partition('/')[2]}"
    return [copy.deepcopy(one), service(name, one, chance.uniform(1.01, 1.04), 1)], {}


def service_replaced(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The service is gone, and another of the same model in another namespace carries three times as much."""
    name = f"new-{chance.randrange(10**6)}/{one['service'].partition('/')[2]}"
    return [service(name, one, 3.0, 1)], _all(one, lambda _: (None, "service_gone"))


def service_succeeded(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The service is gone; someone else runs its model on the same instances, with prompts twice as long."""
    name = f"new-{chance.randrange(10**6)}/{one['service'].partition('/')[2]}"
    after = renamed(one, name)
    after["totals"] |= {"prompt_tokens": 2.0 * one["totals"]["prompt_tokens"]}
    return [after], _all(one, lambda _: (None, "service_gone"))


def service_renamed(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The same history under a name that has nothing of the old one."""
    name = f"moved-{chance.randrange(10**6)}/other-{chance.randrange(10**6)}"
    return [renamed(one, name)], _all(one, _to(name, "renamed"))


def service_moved(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The model goes on in another namespace, with another week of load."""
    name = f"moved-{chance.randrange(10**6)}/{one['service'].partition('/')[2]}"
    after = renamed(one, name)
    traffic = chance.uniform(0.5, 2.0)
    after["totals"] = {
        key: value * traffic * chance.uniform(0.95, 1.05) for key, value in after["totals"].items()
    }
    for row in after["capacity"]:
        row["per_instance"] *= chance.uniform(0.97, 1.03)
        row["ci"] = [row["per_instance"] * 0.95, row["per_instance"] * 1.05]
    return [after], _all(one, _to(name, "renamed"))


def signal_removed(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """A signal is no longer recorded, for any role."""
    signal = chance.choice(one["signals"])["signal"]
    named = ("signals", "thresholds", "drivers")
    return _dropped(one, lambda table, row: table in named and row["signal"] == signal, "signal_gone")


def signal_of_a_role_removed(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """A signal is no longer recorded for one role."""
    lost = chance.choice(one["signals"])
    named = ("signals", "thresholds", "drivers")

    def gone(table: str, row: Any) -> bool:
        return table in named and (row["signal"], row["role"]) == (lost["signal"], lost["role"])

    return _dropped(one, gone, "signal_gone")


def role_removed(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """One pool is gone, and with it all that was of it."""
    role = chance.choice(("prefill", "decode"))
    after, told = _dropped(
        one,
        lambda kind, row: kind == "pd_ratio" or role in str(row.get("role") or "").split("+"),
        "role_gone",
    )
    after[0]["gpus_per_instance"] = {r: n for r, n in (one["gpus_per_instance"] or {}).items() if r != role}
    if not any(row["chosen"] for row in after[0]["selection"]):
        told[evidence.path(one["service"], "policy", "policy")] = (None, "role_gone")
    return after, told


def gpu_type_removed(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The last instance of a GPU type is gone; of a service without types, nothing is."""
    return _dropped(one, lambda table, row: row.get("gpu_type") == "H20", "gpu_type_gone")


def verdict_changed(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """A signal with a target is no longer proportional: it has no target."""
    lost = chance.choice(one["thresholds"])
    pair = (lost["signal"], lost["role"])
    after, told = _dropped(
        one, lambda t, row: t == "thresholds" and (row["signal"], row["role"]) == pair, "not_proportional"
    )
    for row in after[0]["signals"]:
        if (row["signal"], row["role"]) == pair:
            row["verdict"] = chance.choice(("guard", "unusable", "unknown"))
    return after, told


def section_refused(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """Capacities and ratio are refused: they stand there, with the reason."""
    after = copy.deepcopy(one)
    told: Told = {}
    for link, table, row in links(after):
        if table in ("capacity", "pd_ratio") and row["status"] != "refused":
            row |= {"status": "refused", "reason": {"code": "thin", "text": "two violating windows"}}
            told[link] = (link, "refused")
    return [after], told


def answer_dropped(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """Ratio, demand or start-up times are not answered any more."""
    kind = chance.choice(("pd_ratio", "demand", "startup"))
    after, told = _dropped(one, lambda table, row: table == kind, "not_answered")
    after[0]["refusals"] = [{"what": kind, "code": "thin", "text": "six hours are needed"}]
    return after, told


def policy_refused(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """Nothing can be stood for: no candidate, no replay."""
    after, told = _dropped(one, lambda table, row: table in ("selection", "replay"), "policy_refused")
    after[0]["decision"] = {"recommend": "record", "why": "the history is too short"}
    told[evidence.path(one["service"], "policy", "policy")] = (None, "policy_refused")
    return after, told


def policy_reset(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """The selected policy has other settings, which its name says."""
    after, told = copy.deepcopy(one), {}
    was = chosen(one)["policy"]
    now = f"{was.partition(',')[0]}, {chance.randrange(10, 90)} s mean"
    for row in (*after["selection"], *after["replay"]["policies"]):
        if row["policy"] == was:
            row["policy"] = now
    for stage in ("select", "replay"):
        link = evidence.path(one["service"], stage, was)
        if link in {each for each, *_ in links(one)}:
            told[link] = (evidence.path(one["service"], stage, now), "selected")
    return [renamed(after, one["service"])], told


def candidate_dropped(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """A candidate that was not chosen is beaten by others."""
    rest = [row["policy"] for row in one["selection"] if not row["chosen"]]
    lost = chance.choice(rest) if rest else None
    return _dropped(one, lambda table, row: table == "selection" and row["policy"] == lost, "candidate_gone")


def baseline_dropped(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """A policy of comparison is not replayed any more."""
    used = chosen(one)["policy"]
    lost = chance.choice([row["policy"] for row in one["replay"]["policies"] if row["policy"] != used])
    return _dropped(one, lambda table, row: table == "replay" and row["policy"] == lost, "not_replayed")


def driver_dropped(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
    """A signal is not tried as a driver any more."""
    lost = chance.choice(one["drivers"])
    pair = (lost["signal"], lost["role"])
    return _dropped(
        one, lambda table, row: table == "drivers" and (row["signal"], row["role"]) == pair, "not_tried"
    )


def _both(first: Change, second: Change) -> Change:
    """Return two changes of one service, one after the other."""

    def both(one: Service, chance: random.Random) -> tuple[list[Service], Told]:
        (between,), told = first(one, chance)
        after, then = second(between, chance)
        whole: Told = {}
        for link in (each for each, *_ in links(one)):
            to, code = told.get(link, (link, ""))
            end, other = then.get(str(to), (to, ""))
            whole[link] = (None, code) if to is None else (end, other or code)
        return after, whole

    both.__name__ = f"{first.__name__}, then {second.__name__}"
    return both


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (
        nothing, values, reorder, service_removed, service_added, service_replaced, service_succeeded,
        service_renamed, service_moved, signal_removed, signal_of_a_role_removed, role_removed,
        gpu_type_removed, verdict_changed, section_refused, answer_dropped, policy_refused, policy_reset,
        candidate_dropped, baseline_dropped, driver_dropped,
        *(
            _both(first, second)
            for first in (signal_removed, verdict_changed, answer_dropped, policy_refused, policy_reset)
            for second in (service_renamed, service_moved)
        ),
        _both(section_refused, service_renamed), _both(policy_reset, signal_of_a_role_removed),
    )
}  # fmt: skip
"""What may happen to a service between two runs."""

OLD_WINDOW = ("2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z")
NEW_WINDOW = ("2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z")
RANGES = {
    ("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"): ("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"),
    ("2026-01-04T00:00:00Z", "2026-01-06T00:00:00Z"): ("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"),
    ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"): None,
    ("2026-01-04T00:00:00Z", "2026-01-05T00:00:00Z"): None,
}
"""Time range of a link → what the history that moved by four days has of it."""


def changed(count: int, seed: int) -> Changed:
    """Return a run of many services and one after changes of every kind, with where each link leads.

    Parameters
    ----------
    count
        Number of services; each meets one change.
    seed
        Of names, numbers and which change meets whom.
    """
    chance = random.Random(f"changes {seed}")
    before = fleet(count, seed)
    names = list(CHANGES)
    chance.shuffle(names)
    truth: Told = {}
    kinds: dict[str, str] = {}
    after: list[Service] = []
    for n, one in enumerate(before):
        kind = names[n % len(names)]
        found, told = CHANGES[kind](one, chance)
        after += found
        same = {link: (link, "") for link, *_ in links(one)}
        truth |= same | told
        kinds |= dict.fromkeys(same, kind)
    chance.shuffle(after)
    runs = [
        ComparedRun(
            name,
            {
                "schema_version": 2,
                "services": services,
                "window": dict(zip(("start", "end"), window, strict=True)),
            },
        )
        for name, services, window in (("old", before, OLD_WINDOW), ("new", after, NEW_WINDOW))
    ]
    return Changed(runs[0], runs[1], truth, kinds)


def ranged(found: Changed, seed: int) -> dict[str, Fate]:
    """Return links with time ranges, and where each leads when the history moves on by four days.

    Only of answers that are made from the whole history.
    """
    chance = random.Random(f"ranges {seed}")
    told: Told = {}
    for link, (to, code) in found.truth.items():
        if evidence.parse(link).stage not in ("study", "derive"):
            continue
        had, has = chance.choice(list(RANGES.items()))
        given = f"{link}?from={had[0]}&to={had[1]}"
        if to is None:
            told[given] = (None, code)
        elif has is None:
            told[given] = (None, "window_outside")
        else:
            told[given] = (f"{to}?from={has[0]}&to={has[1]}", code or ("window_cut" if has != had else ""))
    return told
