"""Counts that Kubernetes' and KEDA's own tests and documentation expect, held against the batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controllers.batches import asks, batch_of, fleet, pods
from ruamel.yaml import YAML

from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP, Hpa, HpaBatch, Metric, RatePolicy, Rules
from hs_analysis.controllers.keda import Fallback, Keda

CASES = Path(__file__).parent / "cases"
KUBERNETES = YAML(typ="safe").load(CASES / "kubernetes.yaml")
KEDA = YAML(typ="safe").load(CASES / "keda.yaml")
SYNC_S = 5.0
"""Short enough that every change of a case falls on a sync."""
EXACT = Metric("load", 1.0)
"""A value of n asks for n."""
Case = dict[str, Any]


def cases(book: dict[str, Any], section: str) -> Any:
    """Parametrize a test by the cases of a section."""
    listed = book[section]["cases"]
    return pytest.mark.parametrize("case", listed, ids=[one["name"] for one in listed])


def rules(listed: Sequence[tuple[Any, int, float]] | None, window_s: float, default: Rules) -> Rules:
    """Return rules of some policies, or the default ones, with a window."""
    found = default.policies if listed is None else tuple(RatePolicy(*one) for one in listed)
    return Rules(window_s, found)


def remember(batch: HpaBatch, changes: dict[float, float], seen: dict[float, float], window_s: float) -> None:
    """Let a batch of one lane remember changes and recommendations by their age [s], and no start."""
    batch.found_s[:] = batch.found[:] = -1e9
    batch._in_time(fleet({"load": [1.0]}, [1], window_s=window_s))
    for back in range(2000, 0, -1):
        age = back * window_s
        batch.recommended.add(np.array([seen.get(age, np.nan)]))
        batch.changed = batch.changed + changes.get(age, 0.0)
        batch.changes.add(batch.changed)
    batch.last_s = np.zeros(1)


def spread(events: Sequence[float], over_s: float, sign: int) -> dict[float, float]:
    """Return changes in the middles of equal parts of a time up to now, by age [s]."""
    part = over_s / len(events)
    return {over_s - part * (at + 0.5): sign * change for at, change in enumerate(events)}


@cases(KUBERNETES, "rate")
def test_kubernetes_limits_of_rates(case: Case) -> None:
    """Policies, periods and the changes within them, without windows."""
    least, most = case["bounds"]
    up, down = (
        rules(case.get(side), 0.0, default) for side, default in (("up", SCALE_UP), ("down", SCALE_DOWN))
    )
    batch = batch_of([Hpa((EXACT,), least, most, 0.0, SYNC_S, up, down)])
    changes: dict[float, float] = {}
    for name, sign in (("added", 1), ("removed", -1)):
        for age, change in (
            spread(case.get(name, []), case.get(f"{name}_over_s", 0.0), sign).items() if name in case else ()
        ):
            changes[age] = changes.get(age, 0.0) + change
    remember(batch, changes, {}, SYNC_S)
    seen = fleet({"load": [case["wanted"]]}, [case["current"]], window_s=SYNC_S)
    assert batch.step(seen).count.tolist() == [case["count"]]


@pytest.mark.parametrize("section", ["stabilised", "stabilised_by_default"])
def test_kubernetes_windows(section: str) -> None:
    """The lowest recommendation of the window up, the highest of the one down."""
    for case in KUBERNETES[section]["cases"]:
        windows = [Rules(case[side], ()) for side in ("up_s", "down_s")]
        batch = batch_of([Hpa((EXACT,), 0, 10_000, 0.0, 60.0, *windows)])
        remember(batch, {}, {float(age): count for age, count in case["seen"]}, 60.0)
        found = batch.step(fleet({"load": [case["wanted"]]}, [case["current"]]))
        assert found.count.tolist() == [case["count"]], case["name"]


@cases(KUBERNETES, "metrics")
def test_kubernetes_metrics_of_a_pool(case: Case) -> None:
    """Value, AverageValue and Pods against their targets, tolerance included."""
    free = Rules(0.0, ())
    scaler = Hpa((Metric("load", case["target"], case["kind"]),), 1, 10_000, up=free, down=free)
    assert (
        asks(scaler, [case["value"]], case["current"], ready=case.get("ready"), window_s=15.0)
        == case["count"]
    )


@cases(KUBERNETES, "pods")
def test_kubernetes_metrics_of_single_pods(case: Case) -> None:
    """Missing pods, and pods not yet ready."""
    levels = [*case["levels"], *([None] * case["missing"])]
    assert pods(levels, case["unready"], case["target"], case["current"]) == case["count"]


@cases(KUBERNETES, "syncs")
def test_kubernetes_syncs(case: Case) -> None:
    """Bounds, zero, failing metrics and caps in one sync."""
    names = [f"metric{at}" for at in range(len(case["values"]))]
    metrics = tuple(
        Metric(name, target, kind)
        for name, target, kind in zip(names, case["targets"], case["kinds"], strict=True)
    )
    batch = batch_of([Hpa(metrics, *case["bounds"], up=rules(case.get("up"), 0.0, SCALE_UP))])
    if not case["first"]:
        batch.found_s[:] = batch.found[:] = -1e9
    readings = {name: [value] for name, value in zip(names, case["values"], strict=True)}
    assert batch.step(fleet(readings, [case["current"]], window_s=15.0)).count.tolist() == [case["count"]]


@pytest.mark.parametrize(
    "case", [one for section in KEDA if section != "sources" for one in KEDA[section]["cases"]],
    ids=lambda case: case["name"],
)  # fmt: skip
def test_keda_cases(case: Case) -> None:
    """Targets, activation, cooldown, idling and fallback in one row of one sync."""
    least, most = case.get("bounds", (1, 100))
    free = Rules(0.0, ())
    fallback = Fallback(*case["fallback"]) if "fallback" in case else None
    metric = Metric("load", case["threshold"], case.get("kind", "AverageValue"))
    batch = batch_of(
        [
            Keda(
                Hpa((metric,), up=free, down=free), least, most, case.get("idle"),
                activation_threshold=case.get("activation", 0.0), ignore_null_values=False, fallback=fallback,
            )
        ]
    )  # fmt: skip
    batch.failures[:] = case.get("failures", 0)
    seen = fleet(
        {"load": [case["value"]]}, [case["current"]], [case.get("ready", case["current"])], window_s=15.0
    )
    batch.active_s = seen.t_s - case.get("quiet_s", 0.0)
    assert batch.step(seen).count.tolist() == [case["count"]]


def test_cases_name_their_sources() -> None:
    """Every section says repository, file and commit; at least 40 cases of Kubernetes, 20 of KEDA."""
    for book, least in ((KUBERNETES, 40), (KEDA, 20)):
        sections = [one for name, one in book.items() if name != "sources"]
        assert all({"repository", "file", "commit"} <= set(one["source"]) for one in sections)
        assert sum(len(one["cases"]) for one in sections) >= least
