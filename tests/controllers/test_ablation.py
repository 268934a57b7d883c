"""HeteroScale's rule with one field as the object of another controller holds it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from hs_analysis.controllers import Autoscaler, HeteroScale, structure
from hs_analysis.controllers.ablation import FIELDS, as_written, field_of, fields_of
from hs_analysis.controllers.aibrix import Kpa
from hs_analysis.controllers.dynamo import DynamoLoad, DynamoThroughput
from hs_analysis.controllers.heteroscale import LatencyGuard, PoolRule, RatioUpkeep
from hs_analysis.controllers.hpa import Hpa, Metric, Operand, RatePolicy, Rules, Surge
from hs_analysis.controllers.keda import Keda
from hs_analysis.controllers.kthena import Kthena

GUARD = LatencyGuard("ttft", "prefill", 2.0, ((1.0, 0.1),))
WAITING = (Operand("queue_length", 120.0, 3.0),)
SURGE = Surge(120.0, 1.1)
POOL = PoolRule(
    "prefill_tps", 100.0, scale_out_ratio=1.05, scale_in_ratio=0.9, rest_out_s=60.0, rest_in_s=300.0,
    dampening=0.5, max_out_fraction=0.25, max_in_fraction=0.1, least=2, most=9, start_up_s=240.0,
    guards=(GUARD,), others=WAITING,
)  # fmt: skip
RULE = HeteroScale({"prefill": POOL}, None, 360.0, 240.0, 120.0, surge=SURGE)
METRIC = Metric("prefill_tps", 100.0, averaging_s=360.0, others=WAITING, surge=SURGE)
UP = Rules(0.0, (RatePolicy("Percent", 25, 60.0),), tolerance=0.05)
DOWN = Rules(240.0, (RatePolicy("Percent", 10, 60.0),), tolerance=0.1)
ALIKE = Hpa((METRIC,), 2, 9, up=UP, down=DOWN)
"""An object that holds of the rule what an HPA can."""


def held(field: str, scaler: Any, rule: HeteroScale = RULE) -> HeteroScale:
    """Return the rule with one field as an object of the prefill pool holds it."""
    found = as_written(rule, Autoscaler("x", {"prefill": scaler}), field)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ("guards", "guards"),
        ("guards[0].tiers", "guards"),
        ("*.tiers", "guards"),
        ("*.slo_s", "guards"),
        ("*.waiting", "waiting"),
        ("primaries[1].waiting", "waiting"),
        ("primaries[1]", "primaries"),
        ("cooldown.prefill.scale_in_s", "cooldown"),
        ("step.dampening", "step"),
        ("start_up_s", "start_up_s"),
        ("*.gpu_types", "*.gpu_types"),
    ],
)
def test_a_path_in_a_policy_speaks_of_a_field(item: str, field: str) -> None:
    """As losses name them."""
    assert field_of(item) == field


@pytest.mark.parametrize("field", ["hysteresis", "reading", "waiting", "bounds"])
@pytest.mark.parametrize("keda", [False, True])
def test_what_an_object_holds_as_the_policy_says_changes_nothing(field: str, *, keda: bool) -> None:
    """Bands, what is read and bounds; a ScaledObject has its own."""
    scaler = Keda(replace(ALIKE, min_replicas=1, max_replicas=10), 2, 9) if keda else ALIKE
    assert held(field, scaler) == RULE


@pytest.mark.parametrize(
    ("field", "scaler", "changes"),
    [
        ("start_up_s", ALIKE, {"start_up_s": 0.0}),
        ("guards", ALIKE, {"guards": (replace(GUARD, limit_s=math.inf),)}),
        ("hysteresis", replace(ALIKE, up=replace(UP, tolerance=None)), {"scale_out_ratio": 1.1}),
        (
            "hysteresis",
            Kthena((METRIC,), tolerance=0.02),
            {"scale_out_ratio": 1.02, "scale_in_ratio": 0.98},
        ),
        # It weighs its tolerances against the pool's total.
        ("hysteresis", Kpa("x", 1.0), {"scale_out_ratio": 1.0, "scale_in_ratio": 1.0}),
        ("cooldown", ALIKE, {"rest_out_s": 0.0, "rest_in_s": 0.0}),
        (
            "cooldown",
            replace(ALIKE, down=replace(DOWN, select="Disabled")),
            {"rest_out_s": 0.0, "rest_in_s": None},
        ),
        ("step", ALIKE, {"dampening": 1.0}),
        (
            "step",
            replace(ALIKE, up=replace(UP, policies=(RatePolicy("Percent", 100, 15.0),))),
            {"dampening": 1.0, "max_out_fraction": None},
        ),
        ("waiting", replace(ALIKE, metrics=(replace(METRIC, others=()),)), {"others": "weight 0"}),
        ("bounds", replace(ALIKE, min_replicas=1, max_replicas=20), {"least": 1, "most": 20}),
        ("bounds", DynamoThroughput("x", 1.0, min_endpoint=3, max_replicas=4), {"least": 3, "most": 4}),
    ],
)
def test_a_pool_is_changed_in_that_field_alone(field: str, scaler: Any, changes: dict[str, Any]) -> None:
    """By what the object holds, and into a rule that shares a batch with the policy's."""
    if "others" in changes:
        changes = {"others": (replace(WAITING[0], weight=0.0),)}
    found = held(field, scaler)
    assert found == replace(RULE, pools={"prefill": replace(POOL, **changes)})
    assert structure(found) == structure(RULE)


@pytest.mark.parametrize(
    ("scaler", "reads"),
    [
        (replace(ALIKE, down=replace(DOWN, stabilization_s=300.0)), (360.0, 300.0, SURGE)),
        (replace(ALIKE, metrics=(replace(METRIC, surge=None, averaging_s=60.0),)), (60.0, 240.0, None)),
        (
            Kpa("prefill_tps", 1.0, panic_window_s=30.0, averaging_s=360.0, highest_s=240.0),
            (390.0, 240.0, None),
        ),
        (DynamoThroughput("prefill_tps", 1.0, adjustment_s=180.0), (180.0, 0.0, None)),
    ],
)
def test_the_reading_is_that_of_the_object(scaler: Any, reads: tuple[float, float, Surge | None]) -> None:
    """Range of its query, how far back its highest is taken, and when another range is read."""
    found = held("reading", scaler)
    assert (found.window_s, found.over_s, found.surge) == reads
    assert replace(found, window_s=360.0, over_s=240.0, surge=SURGE) == RULE


@pytest.mark.parametrize("field", ["reading", "waiting"])
def test_another_signal_is_not_taken_for_another_reading(field: str) -> None:
    """What is read and over which range can't be told apart then; bounds still can."""
    other = replace(ALIKE, metrics=(replace(METRIC, signal="in_flight_tokens", averaging_s=0.0),))
    alone = Autoscaler("x", {"prefill": other})
    assert as_written(RULE, alone, field) is None
    assert as_written(RULE, alone, "bounds") == RULE
    assert as_written(RULE, Autoscaler("x", {"prefill": DynamoThroughput("other", 1.0)}), field) is None


@pytest.mark.parametrize("limits", [None, (66.0, 54.0)])
def test_a_planner_by_load_sizes_nothing_in_proportion(limits: tuple[float, float] | None) -> None:
    """It moves one instance at a time past two thresholds: bounds and what it lacks can be told, no band."""
    planner = DynamoLoad("prefill_tps", limits=limits, min_endpoint=3, max_replicas=4)
    alone = Autoscaler("x", {"prefill": planner})
    told = {field for field in fields_of(RULE) if as_written(RULE, alone, field) is not None}
    assert told == {"guards", "soft_scale_in", "start_up_s", "bounds"}
    assert held("bounds", planner) == replace(RULE, pools={"prefill": replace(POOL, least=3, most=4)})


def test_what_leaves_is_not_watched_and_comes_not_back() -> None:
    """No object of Kubernetes knows a soft scale-in."""
    assert held("soft_scale_in", ALIKE) == replace(RULE, observe_s=None)


def test_a_follower_with_an_object_of_its_own_no_longer_follows() -> None:
    """Its object reads the leader's signal at a target of its own; without one nothing changes."""
    follower = replace(POOL, signal="", target=math.nan, others=())
    rule = replace(RULE, pools={"decode": POOL, "prefill": follower}, upkeep=RatioUpkeep("decode", 2.0))
    own = replace(ALIKE, metrics=(Metric("decode_tps@decode", 50.0, averaging_s=360.0),))
    found = held("pd_ratio", own, rule)
    assert found.upkeep is None
    assert (found.pools["prefill"].signal, found.pools["prefill"].target) == ("decode_tps@decode", 50.0)
    assert found.pools["decode"] == POOL
    assert as_written(rule, Autoscaler("x", {"decode": own}), "pd_ratio") == rule


def test_only_what_a_rule_has_is_asked_for() -> None:
    """A policy without guards loses none."""
    assert set(fields_of(RULE)) == set(FIELDS) - {"pd_ratio"}
    bare = replace(RULE, pools={"prefill": PoolRule("x", 1.0)}, observe_s=None)
    assert set(fields_of(bare)) == {"hysteresis", "cooldown", "step", "reading", "bounds"}
