"""What targets have in common that no policy is selected for: refusals, and losses said their own way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hs_analysis.export import kubernetes, rules
from hs_analysis.export.kubernetes import PoolSizing
from hs_analysis.export.model import Export, ExportOptions, Loss
from hs_analysis.policy.model import Policy

NO_TIMETABLE = "{title} keeps no timetable; hsa export --target keda does"
NOTHING_SIZED = "no role has a signal with a target and bounds"


def refusal(policy: Policy, title: str, *, timetable: bool = False) -> str:
    """Return why a policy can't be written for a target as a whole; empty where its mode is no obstacle."""
    if policy.mode == "hold":
        return "; ".join(policy.refusals) or "the policy is on hold"
    if policy.mode == "periodic" and not timetable:
        return NO_TIMETABLE.format(title=title)
    return ""


def refused(policy: Policy, options: ExportOptions, target: str, why: str) -> Export:
    """Return an export that holds the recording rules alone, and why there is no more."""
    files = dict(rules.export_rules(policy, options).files)
    return Export(target, files, (Loss("*", "refused", f"no object is written: {why}"),))


def bounded_pools(
    policy: Policy, title: str, *, timetable: bool = False
) -> tuple[list[PoolSizing], list[PoolSizing], list[Loss], str]:
    """Return the pools with bounds that an HPA would size, those without, losses, and why nothing is written.

    The reason is empty where a pool has bounds; where it is not, everything else is. With ``timetable`` the
    target keeps one beside its metrics.
    """
    if why := refusal(policy, title, timetable=timetable):
        return [], [], [], why
    pools, losses = kubernetes.sizings(replace(policy, mode="metric") if timetable else policy, "hpa")
    bounded = [pool for pool in pools if pool.role in policy.bounds]
    if not bounded:
        return [], [], [], NOTHING_SIZED
    return bounded, [pool for pool in pools if pool not in bounded], losses, ""


def replaced(losses: Iterable[Loss], *items: str) -> list[Loss]:
    """Return the losses without those of some items: the target holds them, or says them its own way."""
    return [loss for loss in losses if loss.item not in items]
