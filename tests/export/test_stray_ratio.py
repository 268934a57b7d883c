"""What an export says of counts that stray from the P/D ratio."""

from __future__ import annotations

from dataclasses import replace

import pytest
from export.scenes import full_policy

from hs_analysis.export import ExportOptions, export
from hs_analysis.policy.model import Policy, Target

STRAY = "prefill ÷ decode of its counts is off the P/D ratio in 12.0% of windows"


def losses(policy: Policy, target: str) -> dict[str, str]:
    """Return the losses of an export by item."""
    return {loss.item: f"{loss.text}. {loss.cost}" for loss in export(policy, target, ExportOptions()).losses}


def apart(replay: dict[str, object]) -> Policy:
    """Return a policy whose pools follow a signal each."""
    first = full_policy().primaries[0]
    second = replace(first, signal="prefill_tps", role="prefill", promql="sum(rate(p[5m]))")
    second = replace(second, target_per_instance=Target(9000.0))
    return full_policy(primaries=(first, second), pd_ratio=None, replay=replay)


@pytest.mark.parametrize("target", ["keda", "hpa"])
def test_two_objects_say_how_far_their_counts_strayed(target: str) -> None:
    """Sized apart or tied by their targets: the measured distance stands beside what is lost."""
    assert f"In the backtest {STRAY}." in losses(apart({"pd_ratio_stray": STRAY}), target)["primaries"]
    tied = full_policy(replay={"pd_ratio_stray": STRAY})
    assert losses(tied, target)["pd_ratio.value"].endswith(f". In the backtest {STRAY}.")


@pytest.mark.parametrize("target", ["keda", "hpa"])
def test_counts_that_hold_the_ratio_lose_nothing(target: str) -> None:
    """Nothing measured, nothing said."""
    assert "primaries" not in losses(apart({}), target)
    assert "backtest" not in losses(full_policy(), target)["pd_ratio.value"]
