"""Pods of several GPU types counted in equivalents: what the mean pod of a pool stands for."""

from __future__ import annotations

from collections.abc import Mapping

from hs_analysis.policy.model import Primary, Ratio

Pods = Mapping[str, float]
"""GPU type → pods that run."""


def mean_weight(weights: Mapping[str, float], pods: Mapping[str, float]) -> float:
    """Return the equivalents of the mean pod of a pool: Σ weight × pods ÷ Σ pods.

    1 without weights or pods: the mix of types is then that which the weights refer to. A type without a
    weight counts 1.
    """
    total = sum(pods.values())
    if not weights or not total > 0:
        return 1.0
    return sum(weights.get(name, 1.0) * count for name, count in pods.items()) / total


def ratio_factor(ratio: Ratio, primary: Primary, follower: str, pods: Mapping[str, Pods]) -> float:
    """Return the factor from a ratio of equivalents to one of the pods that run in both pools.

    P / D of pods = ratio × mean weight of a decode pod ÷ that of a prefill pod.
    """
    leads = mean_weight(primary.gpu_types, pods.get(primary.role, {}))
    follows = mean_weight(ratio.gpu_types, pods.get(follower, {}))
    return leads / follows if follower == "prefill" else follows / leads
