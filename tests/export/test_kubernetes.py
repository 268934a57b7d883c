"""Behaviour of an HPA from a controller's rules: what is written, and what a version does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export.scenes import full_policy

from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP, RatePolicy, Rules
from hs_analysis.export import ExportOptions, export
from hs_analysis.export.kubernetes import behavior_of
from hs_analysis.policy.model import SignalReading, Step, Target

TWO = (RatePolicy("Pods", 2, 60.0), RatePolicy("Percent", 10, 120.0))


def test_kubernetes_own_rules_are_left_to_it():
    """Default rate policies and ``Max`` are not repeated; the windows are always said."""
    body, losses = behavior_of(SCALE_UP, SCALE_DOWN, (1, 35), "hysteresis.decode")
    assert body == {
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {"stabilizationWindowSeconds": 300},
    }
    assert losses == []


def test_rules_of_a_candidate_are_all_written():
    """Several policies of a direction, the choice among them, scale-in off, each direction's tolerance."""
    up = Rules(30.0, TWO, "Min", 0.05)
    down = replace(SCALE_DOWN, select="Disabled", tolerance=0.2)
    body, losses = behavior_of(up, down, (1, 35), "hysteresis.decode")
    assert body["scaleUp"] == {
        "stabilizationWindowSeconds": 30,
        "policies": [
            {"type": "Pods", "value": 2, "periodSeconds": 60},
            {"type": "Percent", "value": 10, "periodSeconds": 120},
        ],
        "selectPolicy": "Min",
        "tolerance": "0.05",
    }
    assert body["scaleDown"] == {
        "stabilizationWindowSeconds": 300,
        "selectPolicy": "Disabled",
        "tolerance": "0.2",
    }
    assert losses == []


@pytest.mark.parametrize(
    ("version", "kept", "kind"), [((1, 32), False, "dropped"), ((1, 34), True, "approximated")]
)
def test_a_tolerance_that_a_version_does_not_know_is_a_loss(version, kept, kind):
    """Unknown below 1.33 and left out, behind a feature gate below 1.35 and written."""
    up = replace(SCALE_UP, tolerance=0.05)
    body, (loss,) = behavior_of(up, SCALE_DOWN, version, "hysteresis.decode")
    assert ("tolerance" in body["scaleUp"]) is kept
    assert (loss.item, loss.kind) == ("hysteresis.decode", kind)


@pytest.mark.parametrize("target", ["keda", "hpa"])
def test_a_policy_of_the_very_controller_is_held_but_for_what_it_can_not_say(target):
    """Reading, band, rests and steps are in the object: no loss speaks of them; of another's all do."""
    items = {"reading", "hysteresis", "cooldown", "step", "controller"}
    minute = replace(full_policy().primaries[0], promql="sum(rate(a[1m]))")
    policy = full_policy(controller=target, primaries=(minute,))

    def spoken(policy):
        losses = export(policy, target, ExportOptions()).losses
        return {loss.item for loss in losses if loss.item.partition(".")[0] in items}

    assert spoken(policy) == {"step.dampening"}
    other = spoken(replace(policy, controller="heteroscale"))
    assert other >= {"reading", "cooldown", "step", "controller"}


def test_a_number_that_the_object_can_not_hold_is_a_loss():
    """Windows are cut at an hour and shares are whole percents; what nothing limits is dropped."""
    policy = full_policy(reading=SignalReading(60.0, 7200.0), step=Step(1.0, None, 0.125))
    losses = {loss.item: loss for loss in export(policy, "keda").losses}
    assert "300" in losses["reading.window_s"].text, "the range of the recorded expression"
    assert "3600" in losses["reading.over_s"].text
    assert "0.12" in losses["step.max_in_fraction"].text
    assert losses["cooldown.decode.scale_out_s"].kind == "dropped"


def test_a_small_target_is_written_as_objects_work_with_it():
    """Whole thousandths, rounded down, in both objects; the loss has both numbers."""
    primary = replace(full_policy().primaries[0], target_per_instance=Target(0.0579))
    for target, key in (("keda", "threshold"), ("hpa", "averageValue")):
        made = export(full_policy(primaries=(primary,), controller=target), target)
        text = "".join(
            text
            for name, text in made.files.items()
            if name.endswith("s.yaml" if target == "keda" else "hpa.yaml")
        )
        assert f'{key}: "0.057"' in text
        (loss,) = [loss for loss in made.losses if loss.item == "primaries[0].target_per_instance.value"]
        assert "0.057 for decode instead of 0.0579" in loss.text
