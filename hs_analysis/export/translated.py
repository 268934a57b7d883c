"""What targets have in common that no policy is selected for: refusals, first lines, losses that matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hs_analysis.export import kubernetes, model, rules
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


def bounded_pools(policy: Policy, title: str) -> tuple[list[PoolSizing], list[PoolSizing], list[Loss], str]:
    """Return the pools with bounds that an HPA would size, those without, losses, and why nothing is written.

    The reason is empty where a pool has bounds; where it is not, everything else is.
    """
    if why := refusal(policy, title):
        return [], [], [], why
    pools, losses = kubernetes.sizings(policy, "hpa")
    bounded = [pool for pool in pools if pool.role in policy.bounds]
    if not bounded:
        return [], [], [], NOTHING_SIZED
    return bounded, [pool for pool in pools if pool not in bounded], losses, ""


def replaced(losses: Iterable[Loss], *items: str) -> list[Loss]:
    """Return the losses without those of some items: the target holds them, or says them its own way."""
    return [loss for loss in losses if loss.item not in items]


def _weight(loss: Loss) -> int:
    """Return where a loss stands: refusals, then what the target does otherwise, then what none can say."""
    if loss.kind == "refused":
        return 0
    return 2 if kubernetes.DROPPED.get(loss.item) == loss.text else 1


def concerning(losses: Sequence[Loss], policy: Policy) -> tuple[Loss, ...]:
    """Return the losses that speak of something the policy sets, those that change what it does first."""
    return tuple(sorted(model.concerning(losses, policy), key=_weight))


def first_lines(
    policy: Policy, options: ExportOptions, title: str, losses: Sequence[Loss], more: Sequence[str]
) -> str:
    """Return the comment a file starts with, in few lines: the losses are counted and stand in their file."""
    window = f"{policy.window.get('start', '?')} to {policy.window.get('end', '?')}"
    rest = sorted(set(policy.window) - {"start", "end"})
    window += "".join(f", {key} {policy.window[key]}" for key in rest)
    near = sum(loss.kind == "approximated" for loss in losses)
    said = f"{near} items of the policy are held nearly and {len(losses) - near} not"
    return model.comment(
        [
            f"{title}, written by hs_analysis {policy.tool_version or '(version unknown)'} for "
            f"{policy.service}",
            f"policy: sha256 {options.policy_sha256 or 'unknown'}, run {policy.run or 'unknown'}; "
            f"data: {window}; inputs sha256 {policy.inputs_sha256 or 'unknown'}",
            f"Selected and replayed for {policy.controller}: {said}, see {losses_file(policy)}.",
            *more,
        ]
    )


def losses_file(policy: Policy) -> str:
    """Return the name of the file that lists what a target does not say."""
    return f"{model.file_stem(policy.service)}.{model.LOSSES_SUFFIX}"
