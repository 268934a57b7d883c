"""What noise alone makes a controller do while the load stands still."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import plain_policy, primary

from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Hysteresis, Policy, SignalReading, Waiting
from hs_analysis.replay.flat_load import flat_actions

NEEDS = {"prefill": (4.0, 14.0), "decode": (2.0, 7.0)}
KEYS = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))
NOISE = dict.fromkeys(KEYS, 0.05)
PAIR = tuple(primary(signal, role, 100.0) for signal, role in KEYS)


def actions(policies: list[Policy], noise: dict | None = None, seed: int = 0) -> list[float]:
    """Return the actions a pool and day of some policies."""
    found = flat_actions([control_of(one) for one in policies], NEEDS, noise or NOISE, seed)
    return found.tolist()


def by(controller: str, out: float = 1.1, in_ratio: float = 0.8, over_s: float = 300.0) -> Policy:
    """Return a policy that sizes each pool by its own tokens."""
    bands = dict.fromkeys(("prefill", "decode"), Hysteresis(out, in_ratio))
    reading = SignalReading(60.0, over_s)
    return plain_policy(
        controller=controller, hysteresis=bands, reading=reading, primaries=PAIR, pd_ratio=None
    )


@pytest.mark.parametrize("controller", ["keda", "hpa", "heteroscale"])
def test_without_noise_nothing_acts_and_with_more_of_it_more_does(controller: str) -> None:
    """Pools have come to their size by then; a narrow band lets noise through."""
    still, some, much = (
        actions([by(controller, 1.02, 0.97)], dict.fromkeys(KEYS, cv))[0] for cv in (1e-9, 0.05, 0.2)
    )
    assert still == 0.0
    assert 0.0 < some < much


def test_a_wider_band_and_a_longer_way_in_act_less() -> None:
    """The figures that selection holds a limit to."""
    narrow, wide, late = actions([by("hpa", 1.02, 0.97), by("hpa", 1.1, 0.8), by("hpa", 1.02, 0.97, 1800.0)])
    assert wide < 0.3 * narrow
    assert late < narrow


def test_candidates_are_counted_each_for_itself_and_alike_for_a_seed() -> None:
    """In one batch as alone, in the order given; another seed draws other noise."""
    every = [by("hpa", 1.02), by("heteroscale", 1.02), by("keda", 1.05), by("hpa", 1.1, 0.97)]
    together = actions(every)
    assert together == pytest.approx([actions([one])[0] for one in every])
    assert together == actions(every)
    assert together[::-1] == actions(every[::-1])
    assert together != actions(every, seed=1)


@pytest.mark.parametrize("controller", ["keda", "hpa", "heteroscale"])
def test_what_waits_is_nothing_while_the_load_stands_still(controller: str) -> None:
    """A control that counts it acts as one that does not, beside others of either kind."""
    waiting = Waiting("queue_length", "prefill", 600.0, 60.0, 60.0)
    plain = by(controller, 1.02, 0.97)
    waits = replace(plain, primaries=(replace(PAIR[0], waiting=waiting), PAIR[1]))
    led = replace(waits, primaries=waits.primaries[:1], pd_ratio=plain_policy().pd_ratio)
    together = actions([waits, plain, replace(waits, controller="hpa"), led])
    assert together[0] == pytest.approx(actions([plain])[0]) == pytest.approx(together[1])
    assert together[0] > 0.0
    assert np.isnan(together[3]) == (controller == "heteroscale")


def test_a_control_with_a_pool_that_no_signal_sizes_is_not_counted() -> None:
    """HeteroScale's pool that follows the ratio; an object of such a pool reads the leader's signal."""
    led = plain_policy(primaries=PAIR[1:])
    found = actions([replace(led, controller=name) for name in ("heteroscale", "keda")])
    assert np.isnan(found[0])
    assert np.isfinite(found[1])
