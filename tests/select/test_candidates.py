"""What a controller can be set to: knobs by name, and what they do to a policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from replay.services import plain_policy, primary

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import SCALE_DOWN, SCALE_UP, Hpa, Metric, Surge
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Cooldown, SignalReading, Step, Waiting
from hs_analysis.policy.waiting import QUEUE, WITHIN_S
from hs_analysis.schema.results import CandidateScore
from hs_analysis.select import (
    Knobs,
    can_be_set,
    can_hold,
    can_surge,
    candidate_of,
    chosen_knobs,
    knobs_of,
    models_of,
    with_knobs,
)

KUBERNETES = Knobs(60.0, 1.1, 300.0, 0.9)
"""What an HPA does where nothing is set."""


def test_every_candidate_has_a_name_of_its_own() -> None:
    """Signals and knobs can be read off it, and Kubernetes' own settings come first."""
    tried = knobs_of(60.0, waits=False)
    names = [candidate_of(signals, knobs) for signals in ("a@decode", "b@prefill") for knobs in tried]
    assert len(set(names)) == len(names) == 2 * len(tried)
    assert all(name.startswith(("a@decode, ", "b@prefill, ")) for name in names)
    assert tried[0] == Knobs.kubernetes(60.0) == KUBERNETES
    assert KUBERNETES.name == "60 s mean, out above 1.1, in below 0.9 for 300 s"
    assert replace(KUBERNETES, waits=True).name == (
        "60 s mean with what waits, out above 1.1, in below 0.9 for 300 s"
    )


def test_where_it_is_known_what_waits_counts_in_all_but_kubernetes_own() -> None:
    """The one that sets nothing stays what a default HPA does; ranges go with the scrapes of a service."""
    plain, waits = (knobs_of(90.0, waits=known) for known in (False, True))
    assert not any(one.waits for one in plain)
    assert waits[0] == plain[0] == Knobs.kubernetes(90.0)
    assert all(one.waits for one in waits[1:])
    assert {replace(one, waits=False) for one in waits[1:]} == set(plain)
    assert {one.window_s for one in plain} == {90.0, 180.0}


def test_a_calm_reading_turns_fresh_where_objects_can_ask_for_it() -> None:
    """Three times the shortest range, and the shortest where it is a tenth higher; not in our own rule."""
    calm = [one for one in knobs_of(60.0, waits=False, surges=True) if one.surge]
    assert set(knobs_of(60.0, waits=False, surges=True)) - set(calm) == set(knobs_of(60.0, waits=False))
    assert {(one.window_s, one.surge, one.over_s) for one in calm} == {
        (180.0, Surge(60.0, 1.1), 240.0), (180.0, Surge(60.0, 1.1), 300.0),
    }  # fmt: skip
    assert calm[0].name.startswith("180/60 s mean, out above")
    reading = with_knobs(plain_policy(), replace(calm[0], over_s=30.0), "keda", "x").reading
    assert reading == SignalReading(180.0, 60.0, Surge(60.0, 1.1))
    gauge = plain_policy(primaries=(primary("gpu_util", "decode", 0.6, "mean"),))
    asked = [can_surge(plain_policy(), name) for name in ("keda", "hpa", "heteroscale")]
    assert (asked, can_surge(gauge, "keda")) == ([True, True, False], False)


@pytest.mark.parametrize("surge", [None, Surge(30.0, 1.1)])
@pytest.mark.parametrize("waits", [True, False])
def test_what_was_chosen_is_read_back_off_its_row(waits: bool, surge: Surge | None) -> None:
    """The names of its signals and all of its knobs: together they are the name of the candidate again."""
    knobs = Knobs(90.0, 1.05, 600.0, 0.9, waits, surge)
    name = candidate_of("prefill_tps@prefill+decode_tps@decode", knobs)
    row = CandidateScore(
        policy=name, signal="prefill_tps+decode_tps", role="prefill+decode", controller="keda", score=None,
        gpu_hours=None, instance_hours=None, slo_violation_ratio=None, actions_per_day=None, chosen=True,
        reason="", reading_s=90.0, over_s=600.0, scale_out_ratio=1.05, scale_in_ratio=0.9,
        counts_waiting=waits, surge_s=surge.window_s if surge else None,
    )  # fmt: skip
    assert chosen_knobs(row) == ("prefill_tps@prefill+decode_tps@decode", knobs)
    assert candidate_of(*chosen_knobs(row)) == name


def test_models_are_gauges_and_a_pool_that_follows() -> None:
    """A pool's own counted tokens are none, whatever waits; nor is a ratio that nothing follows."""
    prefill, decode = (primary(*key, 1.0) for key in (("prefill_tps", "prefill"), ("decode_tps", "decode")))
    counted = primary("prefill_tps_effective", "prefill", 1.0)
    waits = replace(counted, waiting=Waiting(QUEUE, "prefill", 600.0, WITHIN_S, 60.0))
    gauge = primary("gpu_util", "decode", 0.6, "mean")
    for primaries, expected in (
        ((counted, decode), 0), ((waits, decode), 0), ((prefill, decode), 1), ((counted, gauge), 1),
        ((prefill, gauge), 2), ((decode,), 1), ((gauge,), 2),
    ):  # fmt: skip
        assert models_of(plain_policy(primaries=primaries)) == expected, primaries
    assert models_of(plain_policy(primaries=(decode,), pd_ratio=None)) == 0


def test_kubernetes_own_settings_give_its_own_object() -> None:
    """Tolerances of 10 %, five minutes of stabilisation, default policies: an HPA that says nothing."""
    control = control_of(with_knobs(plain_policy(), KUBERNETES, "hpa", "mine"))
    silent = Hpa((Metric("", 1.0),))
    assert isinstance(control, Autoscaler)
    for one in control.pools.values():
        assert one.tolerances == pytest.approx(silent.tolerances)
        assert (one.down.stabilization_s, one.up.stabilization_s) == (300.0, 0.0)
        assert (one.up.policies, one.down.policies) == (SCALE_UP.policies, SCALE_DOWN.policies)
        assert one.metrics[0].averaging_s == silent.metrics[0].averaging_s


def test_knobs_set_the_controller_the_reading_and_the_band_with_a_link_to_the_candidate() -> None:
    """In every pool alike; the link opens the candidate that selection scored."""
    knobs = Knobs(90.0, 1.05, 600.0, 0.8)
    made = with_knobs(plain_policy(), knobs, "keda", "decode_tps@decode, x")
    assert (made.controller, made.reading) == ("keda", SignalReading(90.0, 600.0))
    for band in made.hysteresis.values():
        assert (band.scale_out_ratio, band.scale_in_ratio) == (1.05, 0.8)
        assert band.evidence == "demo%2Fm/select/decode_tps@decode%2C%20x"


def test_a_range_is_no_shorter_than_the_scrapes_of_the_service_allow() -> None:
    """A policy that needs two minutes keeps them; the time of the highest is at least one range."""
    slow = plain_policy(reading=SignalReading(120.0, 300.0))
    assert with_knobs(slow, KUBERNETES, "keda", "x").reading == SignalReading(120.0, 300.0)
    slower = plain_policy(reading=SignalReading(900.0, 900.0))
    assert with_knobs(slower, KUBERNETES, "keda", "x").reading == SignalReading(900.0, 900.0)


def test_an_object_has_no_rests_and_no_steps_of_the_policys() -> None:
    """What an HPA waits for is its stabilisation window; HeteroScale's rule keeps its own."""
    own = plain_policy(step=Step(0.5, 2.0, 0.5))
    ours = with_knobs(own, KUBERNETES, "heteroscale", "x")
    assert (ours.step, ours.cooldown) == (own.step, own.cooldown)
    theirs = with_knobs(own, KUBERNETES, "keda", "x")
    assert (theirs.step.max_out_fraction, theirs.step.max_in_fraction) == (None, None)
    rests = {(one.scale_out_s, one.scale_in_s) for one in theirs.cooldown.values()}
    assert rests == {(0.0, 0.0)}
    off = replace(own, cooldown=dict.fromkeys(own.cooldown, Cooldown(300.0, None)))
    rests = {(r.scale_out_s, r.scale_in_s) for r in with_knobs(off, KUBERNETES, "hpa", "x").cooldown.values()}
    assert rests == {(0.0, None)}


@pytest.mark.parametrize(
    ("controller", "kubernetes", "bands"),
    [
        ("hpa", (1, 32), {(1.1, 0.9)}),
        ("keda", (1, 30), {(1.1, 0.9)}),
        ("keda", (1, 33), {(1.05, 0.9), (1.1, 0.9)}),
        ("heteroscale", (1, 30), {(1.05, 0.9), (1.1, 0.9)}),
    ],
)
def test_a_tolerance_that_the_cluster_does_not_know_is_no_candidate(
    controller: str, kubernetes: tuple[int, int], bands: set[tuple[float, float]]
) -> None:
    """Before 1.33 an HPA has the 10 % of its cluster; HeteroScale's own rule needs no HPA."""
    tried = [one for one in knobs_of(60.0, waits=True) if can_be_set(one, controller, kubernetes)]
    assert {(one.out_ratio, one.in_ratio) for one in tried} == bands


def test_a_pool_that_follows_a_mean_is_held_by_heteroscale_alone() -> None:
    """A total can be divided between two objects, a mean over the leader's instances can't."""
    mean = plain_policy(primaries=(primary("gpu_util", "decode", 0.6, "mean"),))
    assert [can_hold(mean, name) for name in ("heteroscale", "keda", "hpa")] == [True, False, False]
    assert all(can_hold(plain_policy(), name) for name in ("heteroscale", "keda", "hpa"))
    assert can_hold(replace(mean, pd_ratio=None), "keda")
