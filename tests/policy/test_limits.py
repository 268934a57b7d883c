"""Limits of the user's own: what bounds become under them, and how pools share the GPUs of a service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import SETTINGS, VERDICTS, built, derived, pd_day, plain_policy

from hs_analysis.errors import InputError, UsageError
from hs_analysis.policy.build import build_policy
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.document import dump, load
from hs_analysis.policy.limits import fits_gpus, limited, shares_of, together_of
from hs_analysis.policy.model import Bounds
from hs_analysis.schema.settings import CountLimits, Settings

BOUNDS = {"prefill": Bounds(2, 20), "decode": Bounds(3, 30)}
GPUS = {"prefill": 8.0, "decode": 4.0}


def with_limits(gpus: int | None = None, **bounds: CountLimits) -> Settings:
    """Return settings with limits."""
    return Settings(bounds=bounds, gpus_limit=gpus)


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (CountLimits(), Bounds(3, 30)),
        (CountLimits(5, 25), Bounds(5, 25, "setting")),
        (CountLimits(max=40), Bounds(3, 40, "setting")),
        (CountLimits(min=1), Bounds(1, 30, "setting")),
        (CountLimits(max=2), Bounds(2, 2, "setting")),
        (CountLimits(min=50), Bounds(50, 50, "setting")),
    ],
)
def test_a_given_end_takes_the_place_of_the_policys(given: CountLimits, want: Bounds) -> None:
    """Up and down; the other end moves where it would be crossed, and pools without a limit stay."""
    limits = {} if given == CountLimits() else {"decode": given}
    assert limited(BOUNDS, with_limits(**limits), {}) == BOUNDS | {"decode": want}


def test_a_limit_of_a_pool_that_is_not_there_changes_nothing() -> None:
    """One hsa.toml serves several services."""
    assert limited(BOUNDS, with_limits(mixed=CountLimits(1, 4)), {}) == BOUNDS


def test_a_pool_has_what_the_others_leave_at_their_least() -> None:
    """Of 100 GPUs three decode instances leave 11 of prefill, two of prefill leave 21 of decode."""
    assert limited(BOUNDS, with_limits(100), GPUS) == {
        "prefill": Bounds(2, 11, "setting"), "decode": Bounds(3, 21, "setting"),
    }  # fmt: skip
    assert limited(BOUNDS, with_limits(1000), GPUS) == BOUNDS


def test_a_default_least_makes_room_and_a_given_one_does_not() -> None:
    """20 GPUs hold one prefill instance of eight and three decode instances of four, not two of prefill."""
    decode = CountLimits(min=3)
    found = limited(BOUNDS, with_limits(20, decode=decode), GPUS)
    assert found == {"prefill": Bounds(1, 1, "setting"), "decode": Bounds(3, 3, "setting")}
    with pytest.raises(UsageError) as caught:
        limited(BOUNDS, with_limits(19, decode=decode), GPUS)
    assert caught.value.line() == (
        "bounds.gpus: 19 GPUs do not hold the least counts, which need 20 (prefill 1 × 8, decode 3 × 4); "
        "raise gpus, or lower min of a pool"
    )


def test_a_limit_of_gpus_needs_the_gpus_of_an_instance() -> None:
    """What is not known is never taken for none."""
    with pytest.raises(UsageError, match=r"are not known for decode, .* \[gpus\], e\.g\. decode = 8"):
        limited(BOUNDS, with_limits(100), {"prefill": 8.0})


def test_maxima_share_the_gpus_by_the_peak() -> None:
    """Prefill of 8 GPUs and decode of 4, twice as many decode instances at the peak: 6 and 12 of 96 GPUs."""
    found = shares_of(96, BOUNDS, GPUS, {"prefill": 10.0, "decode": 20.0})
    assert found == {"prefill": Bounds(2, 6, "setting"), "decode": Bounds(3, 12, "setting")}


def test_maxima_that_fit_stay_and_a_pool_that_is_full_leaves_the_rest() -> None:
    """Decode may not grow beyond 5, so prefill takes what is left."""
    assert shares_of(280, BOUNDS, GPUS, {}) == BOUNDS
    bounds = BOUNDS | {"decode": Bounds(3, 5)}
    assert shares_of(100, bounds, GPUS, {"prefill": 1.0, "decode": 50.0}) == {
        "prefill": Bounds(2, 10, "setting"), "decode": Bounds(3, 5),
    }  # fmt: skip
    with pytest.raises(UsageError, match="27 GPUs do not hold the least counts, which need 28"):
        shares_of(27, BOUNDS, GPUS, {})


COUNT = st.integers(1, 60)
GPU = st.sampled_from([0.5, 1.0, 2.0, 3.0, 8.0, 1 / 3])


@st.composite
def pools(draw: Any) -> tuple[dict[str, Bounds], dict[str, float], dict[str, float], int]:
    """Return bounds, GPUs of an instance, peaks, and a limit that holds the least of all pools."""
    roles = draw(st.sampled_from([("prefill", "decode"), ("mixed",), ("decode",)]))
    bounds, gpus, peak = {}, {}, {}
    for role in roles:
        least = draw(COUNT)
        bounds[role] = Bounds(least, least + draw(COUNT) - 1)
        gpus[role] = draw(GPU)
        peak[role] = draw(st.floats(0.0, 80.0))
    needed = sum(one.min * gpus[role] for role, one in bounds.items())
    return bounds, gpus, peak, int(np.ceil(needed - 1e-9)) + draw(st.integers(0, 200))


@given(pools())
def test_shares_never_exceed_the_limit_nor_fall_below_the_least(made: Any) -> None:
    """And no pool could have one more: its most is reached, or it does not fit."""
    bounds, gpus, peak, limit = made
    found = shares_of(limit, bounds, gpus, peak)
    most = {role: one.max for role, one in found.items()}
    assert fits_gpus(most, gpus, limit)
    for role, one in found.items():
        assert bounds[role].min == one.min <= one.max <= bounds[role].max
        more = most | {role: most[role] + 1}
        assert most[role] == bounds[role].max or not fits_gpus(more, gpus, limit)


@given(pools(), st.data())
def test_bounds_keep_the_users_ends(made: Any, data: st.DataObject) -> None:
    """Least is at least 1 and within the user's ends, and the most leaves the least of the others."""
    bounds, gpus, _, limit = made
    ends = {
        role: CountLimits(*sorted((data.draw(COUNT), data.draw(COUNT))))
        for role in bounds
        if data.draw(st.booleans())
    }
    settings = Settings(bounds=ends, gpus_limit=data.draw(st.sampled_from([None, limit])))
    try:
        found = limited(bounds, settings, gpus)
    except UsageError:
        least = {role: ends[role].min if role in ends else 1 for role in bounds}
        assert not fits_gpus({role: count or 1 for role, count in least.items()}, gpus, limit)
        return
    for role, one in found.items():
        assert 1 <= one.min <= one.max
        if role in ends:
            assert one.min == ends[role].min
            assert one.max <= (ends[role].max or 0)
        others = {other: found[other].min for other in found if other != role}
        assert settings.gpus_limit is None or fits_gpus(others | {role: one.max}, gpus, limit)


def test_policy_of_limited_gpus_is_written_and_read_back() -> None:
    """The limit, GPUs of an instance and the most of each pool; a number that can't be names its key."""
    policy = plain_policy(gpus=together_of(96, BOUNDS, GPUS), bounds=BOUNDS)
    text = dump(policy)
    assert load(text) == policy
    assert "gpus:\n" in text
    assert "gpus:\n" not in dump(plain_policy())
    with pytest.raises(InputError, match=r"spec.bounds.gpus.per_instance.decode: expected more than 0"):
        load(text.replace("decode: 4.0", "decode: 0.0"))


def test_pools_stepped_together_may_have_what_the_others_leave() -> None:
    """Maxima of objects apart fit the limit together; the rule that steps both has the limit itself."""
    frame = pd_day(120, gpus={"prefill": 8.0, "decode": 8.0})
    settings = replace(SETTINGS, gpus_limit=120)
    policy = build_policy(frame, derived(), VERDICTS, (("decode_tps", "decode"),), settings, {}, {})
    assert fits_gpus({role: one.max for role, one in policy.bounds.items()}, frame.gpus_per_instance, 120)
    assert built(frame, (("decode_tps", "decode"),)).gpus is None
    apart = control_of(replace(policy, controller="hpa"))
    assert {role: one.max_replicas for role, one in apart.pools.items()} == {
        role: one.max for role, one in policy.bounds.items()
    }
    rule = control_of(replace(policy, controller="heteroscale"))
    assert rule.gpus is not None
    assert rule.gpus.limit == 120
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        assert rule.pools[role].is_strict
        assert rule.pools[role].most > policy.bounds[role].max
        assert (rule.pools[role].most + policy.bounds[other].min) * 8.0 <= 120
