"""Numbers of a policy that contradict each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export.scenes import full_policy

from hs_analysis.policy import Policy
from hs_analysis.policy.model import Cooldown
from hs_analysis.policy.sanity import doubts

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
