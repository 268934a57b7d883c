"""Numbers of a policy that contradict each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export.scenes import full_policy

from hs_analysis.catalogue import WORKED_OUT, Signal, load_catalogue
from hs_analysis.policy import Policy
from hs_analysis.policy.model import Cooldown, Primary
from hs_analysis.policy.sanity import doubts, signal_faults
from hs_analysis.schema.results import Estimate

TARGET = full_policy().primaries[0].target_per_instance


def changed(pool: str = "sum", **target: float) -> Policy:
    """Return a policy whose target differs."""
    primary = replace(full_policy().primaries[0], target_per_instance=replace(TARGET, **target), pool=pool)
    return full_policy(primaries=(primary,))


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (full_policy(), []),
        (changed(value=4901.0), ["spec.primaries[0].target_per_instance.value"]),
        (changed(value=4900.0), []),
        (changed(pool="mean", value=4901.0), []),
        (full_policy(pd_ratio=replace(full_policy().pd_ratio, value=0.6)), ["spec.pd_ratio.value"]),
        (full_policy(cooldown={"decode": Cooldown(120.0, 600.0)}), ["spec.cooldown"]),
        (full_policy(cooldown={"decode": Cooldown(0.0, 0.0)}), []),
        (full_policy(cooldown={"prefill": Cooldown(120.0, 600.0)}), []),
    ],
)
def test_what_contradicts_is_told_with_its_path(policy: Policy, told: list[str]) -> None:
    """A target above capacity (not of a mean), a ratio outside its interval, a rest shorter than a start."""
    assert [path for path, _ in doubts(policy)] == told


LEADER = full_policy().primaries[0]


def with_leader(**changes: object) -> Policy:
    """Return a policy whose first primary differs."""
    return full_policy(primaries=(replace(LEADER, **changes),))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"value": 2.8}, "2.8 is far below 2800, headroom_ratio 0.7 × capacity.low 4000"),
        ({"value": 1399.0}, "1399 is far below 2800, headroom_ratio 0.7 × capacity.low 4000"),
        ({"value": 1401.0}, ""),
        ({"value": 5601.0}, "5601 is far above 2800, headroom_ratio 0.7 × capacity.low 4000"),
        ({"value": 5599.0}, ""),
        ({"value": 9001.0}, "9001 is above the capacity of 4000 to 9000"),
        ({"value": 1401.0, "status": "floor"}, "1401 is far below 3150, headroom_ratio 0.7 × capacity.value"),
        ({"value": 2.8, "headroom_ratio": None}, ""),
        ({"value": 2.8, "capacity": None}, ""),
    ],
)
def test_a_target_far_from_its_own_capacity_is_told(changes: dict[str, object], told: str) -> None:
    """A slip of thousands, in either direction; a floor is measured by its value."""
    target = replace(TARGET, headroom_ratio=0.7, capacity=Estimate(4500.0, 4000.0, 9000.0))
    found = dict(doubts(with_leader(target_per_instance=replace(target, **changes))))
    said = found.get("spec.primaries[0].target_per_instance.value", "")
    assert said.startswith(told) if told else not said


def test_a_signal_that_is_not_work_may_read_far_less_below_its_capacity() -> None:
    """A queue is empty at the target and long at capacity: no doubt."""
    target = replace(TARGET, value=0.1, headroom_ratio=0.85, capacity=Estimate(9.0, 8.0, 10.0))
    queue = {"signal": "queue_length", "unit": "requests", "target_per_instance": target}
    assert list(doubts(with_leader(**queue))) == []


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (full_policy(), []),
        (with_leader(unit=""), []),
        (with_leader(unit="tps", signal="decode_tps"), []),
        (with_leader(unit="requests/s", signal="offered_tps"), []),
        (
            with_leader(unit="ms", signal="decode_tps"),
            [("spec.primaries[0].unit", "'ms' is not the unit of decode_tps; write tokens/s")],
        ),
        (
            with_leader(unit="tokens/min", signal="decode_tps"),
            [("spec.primaries[0].unit", "'tokens/min' is not the unit of decode_tps; write tokens/s")],
        ),
        (
            with_leader(signal="prefil_tps"),
            [("spec.primaries[0].signal", "no such signal 'prefil_tps'; did you mean prefill_tps?")],
        ),
        (
            with_leader(signal="zzz"),
            [("spec.primaries[0].signal", "no such signal 'zzz'; `hsa signals` lists them")],
        ),
        (
            full_policy(guards=(replace(full_policy().guards[0], signal="ttftt"),)),
            [("spec.guards[0].signal", "no such signal 'ttftt'; did you mean ttft?")],
        ),
    ],
)
def test_signals_and_units_are_those_of_the_catalogue(policy: Policy, told: list[tuple[str, str]]) -> None:
    """A typo and a wrong unit are faults with the path of their key; another spelling of a unit is none."""
    assert list(signal_faults(policy)) == told


@pytest.mark.parametrize("signal", [*load_catalogue().signals, *WORKED_OUT], ids=lambda one: one.id)
def test_every_signal_of_the_catalogue_passes_in_its_own_unit(signal: Signal) -> None:
    """Whatever signal the tool follows, the policy that it writes is valid."""
    primary = Primary(signal.id, "decode", signal.unit, "sum(a)", "vllm", TARGET)
    assert list(signal_faults(full_policy(primaries=(primary,)))) == []
