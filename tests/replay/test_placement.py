"""Counts on a topology: tiny cases by hand, and the laws that any placement keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.services import SETTINGS, derived, pd_day

from hs_analysis.policy.topology import Rack, Topology
from hs_analysis.replay import replay_service_placement
from hs_analysis.replay.placement import _Racks, place

SIZES = {"prefill": 1, "decode": 1}


def topology(*racks: Rack, affinity: str = "s2", **types: tuple[str, ...]) -> Topology:
    """Return a topology of racks."""
    return Topology(affinity, racks, {}, types)


def placed(spread: Topology, prefill: list[float], decode: list[float]):
    """Place rows of counts."""
    return place({"prefill": np.array(prefill, float), "decode": np.array(decode, float)}, spread, SIZES)


def test_what_fits_is_placed_and_the_rest_is_not() -> None:
    """Six GPUs below one switch hold three of each; a fourth pair waits until there is room."""
    found = placed(topology(Rack("a", "a1", "H20", 6)), [2, 4, 2], [2, 4, 2])
    np.testing.assert_array_equal(found.counts["prefill"], [2, 3, 2])
    np.testing.assert_array_equal(found.counts["decode"], [2, 3, 2])
    np.testing.assert_array_equal(found.crossing, [0, 0, 0])


def test_a_domain_with_room_for_one_role_alone_is_of_no_use() -> None:
    """Prefill on L20 and decode on H20: only the switch that has both can hold a group."""
    racks = (Rack("a", "a1", "L20", 9), Rack("b", "b1", "L20", 2), Rack("b", "b2", "H20", 2))
    types = {"prefill": ("L20",), "decode": ("H20",)}
    near = placed(topology(*racks, **types), [4], [2])
    assert (near.counts["prefill"][0], near.counts["decode"][0]) == (2, 2)
    wide = placed(topology(*racks, affinity="cluster", **types), [4], [2])
    assert (wide.counts["prefill"][0], wide.counts["decode"][0]) == (4, 2)
    tight = placed(topology(*racks, affinity="s1", **types), [4], [2])
    assert (tight.counts["prefill"][0], tight.counts["decode"][0]) == (0, 0)


def test_scarce_racks_are_taken_last_and_left_first() -> None:
    """Racks of several GPU types hold what the plain one has no room for, until that is sent away."""
    racks = (Rack("x", "x1", "H20", 4), Rack("x", "x2", "L20", 4), Rack("p", "p1", "H20", 4))
    found = placed(topology(*racks), [2, 3, 2], [2, 3, 2])
    np.testing.assert_array_equal(found.scarce, [0, 2, 0])


def test_gpus_that_a_cycle_frees_are_used_from_the_next_one_on() -> None:
    """Prefill gives three GPUs back; decode gets them a row later."""
    found = placed(topology(Rack("a", "a1", "H20", 6)), [4, 1, 1], [2, 5, 5])
    np.testing.assert_array_equal(found.counts["prefill"], [4, 1, 1])
    np.testing.assert_array_equal(found.counts["decode"], [2, 2, 5])


def test_traffic_crosses_where_domains_hold_uneven_pairs() -> None:
    """Three prefill and one decode here, one and one there: a quarter of the traffic finds no partner."""
    racks = _Racks(topology(Rack("a", "a1", "H20", 9), Rack("b", "b1", "H20", 9)), SIZES)
    for role, at in [("prefill", 0)] * 3 + [("decode", 0), ("prefill", 1), ("decode", 1)]:
        racks.put(role, at)
    assert racks.crossing() == pytest.approx(1 - (0.5 + 0.25))


COUNTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)
RACK = st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.sampled_from("HL"), st.integers(0, 8))
RACKS = st.lists(RACK, min_size=1, max_size=6, unique_by=lambda rack: rack[:3])


@given(COUNTS, RACKS, st.sampled_from(["s1", "s2", "cluster"]))
def test_laws_of_any_placement(
    counts: list[tuple[int, int]], racks: list[tuple[str, str, str, int]], affinity: str
) -> None:
    """Never more than wanted nor than there are GPUs; an open domain has both roles after scaling out."""
    spread = topology(*(Rack(*rack) for rack in racks), affinity=affinity)
    state = _Racks(spread, {"prefill": 1, "decode": 2})
    for wanted in (dict(zip(("prefill", "decode"), pair, strict=True)) for pair in counts):
        before = [list(state.held[role]) for role in state.roles]
        free = list(state.free)
        state.cycle(wanted)
        for at in state.racks:
            held = [state.held[role][at] * state.sizes[role] for role in state.roles]
            had = [was[at] * state.sizes[role] for role, was in zip(state.roles, before, strict=True)]
            assert sum(max(0, now - then) for now, then in zip(held, had, strict=True)) <= free[at]
        for at, rack in enumerate(spread.racks):
            used = sum(state.held[role][at] * state.sizes[role] for role in state.roles)
            assert state.free[at] == rack.gpus - used >= 0
        assert all(sum(state.held[role]) <= wanted[role] for role in state.roles)
        assert 0.0 <= np.nan_to_num(state.crossing()) <= 1.0
    fresh = _Racks(spread, {"prefill": 1, "decode": 2})
    fresh.cycle(wanted)
    for at in fresh.racks:
        roles = [bool(fresh.in_domain(role, at)) for role in fresh.roles]
        assert all(roles) or not any(roles)


def test_a_service_that_finds_no_room_breaks_its_slo() -> None:
    """With all the GPUs there are nothing changes; with half of them instances wait and windows violate."""
    frame = pd_day(480)
    room, half = (topology(Rack("a", "a1", "H20", n)) for n in (200, 10))
    found = {}
    for name, spread in (("room", room), ("half", half)):
        spread.gpus_per_instance.update(prefill=1, decode=1)
        rows = replay_service_placement(frame, frame, derived(), {}, SETTINGS, spread, "t.yaml")
        assert [row.policy for row in rows] == ["static_peak", "recorded"]
        found[name] = rows[1]
    assert (found["room"].unplaced_instance_hours, found["room"].unplaced_window_ratio) == (0.0, 0.0)
    assert found["room"].placed_slo_violation_ratio == found["room"].slo_violation_ratio
    assert found["half"].unplaced_instance_hours == pytest.approx(5 * 8.0)
    assert found["half"].unplaced_window_ratio == 1.0
    assert found["half"].placed_slo_violation_ratio > found["half"].slo_violation_ratio + 0.2
    assert found["half"].placed_unserved_tokens >= found["half"].unserved_tokens
