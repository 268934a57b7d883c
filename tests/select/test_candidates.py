"""What a controller can be set to: knobs by name, and what they do to a policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from replay.services import plain_policy, primary

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Cooldown, Hysteresis, SignalReading, Step
from hs_analysis.select import can_hold, knobs_by_name, knobs_of, with_knobs
from hs_analysis.select.candidates import DEFAULTS, WAYS_IN, Knobs

NOISY = plain_policy(hysteresis={"prefill": Hysteresis(1.3, 0.6), "decode": Hysteresis(1.02, 0.95)})


@pytest.mark.parametrize("controller", ["keda", "hpa", "heteroscale"])
def test_every_candidate_has_a_name_of_its_own(controller: str) -> None:
    """Signals and knobs can be read off it; KEDA and the HPA also have Kubernetes' own settings."""
    named = knobs_by_name(["a@decode", "b@prefill"], controller)
    assert len(named) == 2 * len(knobs_of(controller))
    assert set(named.values()) == {(s, k) for s in ("a@decode", "b@prefill") for k in knobs_of(controller)}
    assert all(name.startswith(f"{signals}, in below") for name, (signals, _) in named.items())
    assert (DEFAULTS in knobs_of(controller)) == (controller != "heteroscale")
    assert {(one.over_s, one.in_ratio) for one in knobs_of(controller)} >= set(WAYS_IN)


def test_kubernetes_own_settings_give_its_own_object() -> None:
    """Tolerances of 10 % whatever the noise, five minutes of stabilisation, default policies."""
    control = control_of(with_knobs(NOISY, DEFAULTS, "hpa"))
    assert isinstance(control, Autoscaler)
    for one in control.pools.values():
        assert one.tolerances == (0.1, 0.1)
        assert (one.down.stabilization_s, one.up.stabilization_s) == (300.0, 0.0)
        assert (one.up.policies, one.down.policies) == (SCALE_UP.policies, SCALE_DOWN.policies)


def test_a_band_is_never_narrower_than_its_noise_asks() -> None:
    """The way in is at least as wide as the knob and the noise; the way out too, where the knob has one."""
    knobs = Knobs(900.0, 0.8, 1.1)
    bands = with_knobs(NOISY, knobs, "keda").hysteresis
    assert bands["prefill"] == replace(NOISY.hysteresis["prefill"], scale_out_ratio=1.3, scale_in_ratio=0.6)
    assert (bands["decode"].scale_out_ratio, bands["decode"].scale_in_ratio) == (1.1, 0.8)
    as_noise = with_knobs(NOISY, replace(knobs, out_ratio=None), "keda").hysteresis
    assert as_noise["decode"].scale_out_ratio == 1.02


def test_knobs_set_the_controller_the_reading_and_what_an_object_cannot_hold() -> None:
    """An HPA has no rests and no steps of the policy's; HeteroScale's rule keeps them."""
    own = plain_policy(step=Step(0.5, 2.0, 0.5), reading=SignalReading(60.0, 300.0))
    knobs = knobs_of("heteroscale")[2]
    ours = with_knobs(own, knobs, "heteroscale")
    assert (ours.controller, ours.reading) == ("heteroscale", SignalReading(60.0, knobs.over_s))
    assert (ours.step, ours.cooldown) == (own.step, own.cooldown)
    theirs = with_knobs(own, knobs, "keda")
    assert theirs.controller == "keda"
    assert (theirs.step.max_out_fraction, theirs.step.max_in_fraction) == (None, None)
    assert theirs.cooldown == dict.fromkeys(own.cooldown, Cooldown(0.0, 0.0))
    off = replace(own, cooldown=dict.fromkeys(own.cooldown, Cooldown(300.0, None)))
    assert with_knobs(off, knobs, "hpa").cooldown["decode"] == Cooldown(0.0, None)


def test_a_pool_that_follows_a_mean_is_held_by_heteroscale_alone() -> None:
    """A total can be divided between two objects, a mean over the leader's instances can't."""
    mean = plain_policy(primaries=(primary("gpu_util", "decode", 0.6, "mean"),))
    assert [can_hold(mean, name) for name in ("heteroscale", "keda", "hpa")] == [True, False, False]
    assert all(can_hold(plain_policy(), name) for name in ("heteroscale", "keda", "hpa"))
    assert can_hold(replace(mean, pd_ratio=None), "keda")
