"""Scaling behaviour of a HorizontalPodAutoscaler: steps, cooldowns and dead band of one role."""

from __future__ import annotations

from typing import Any

from hs_analysis.export import naming
from hs_analysis.export.model import Loss
from hs_analysis.policy.model import Policy

# Limits of HorizontalPodAutoscaler autoscaling/v2.
MAX_STABILISATION_S = 3600
MAX_PERIOD_S = 1800
# The field `tolerance`: unknown before 1.33, behind a feature gate until 1.35.
TOLERANCE_KNOWN = (1, 33)
TOLERANCE_ON = (1, 35)

_COOLDOWN_TEXT = (
    "{window} s of stabilisation take the highest answer of that time and {period} s limit the steps: "
    "close to a cooldown, not equal"
)
_STEP_TEXT = "{share} % a period, rounded to the larger step; the policy rounds to the smaller one"
_SIZE_TEXT = "one tolerance at every size: below {usual} instances the policy shrinks later than this does"
_DISABLED_TEXT = "the scale-in cooldown of {role} is unknown: scale-in is off; give --startup and run again"


def behaviour(
    policy: Policy, role: str, leader: str, kubernetes: tuple[int, int]
) -> tuple[dict[str, Any], list[Loss]]:
    """Return ``scaleUp`` and ``scaleDown`` of a role, and what of the policy they don't hold.

    Parameters
    ----------
    policy
        The policy.
    role
        Role whose pool is scaled.
    leader
        Role whose signal sizes it; its dead band and cooldown are used where the role has none of its own.
    kubernetes
        Version that decides which fields exist.
    """
    up, up_losses = _up(policy, role, leader)
    down, down_losses = _down(policy, role, leader)
    band, band_losses = _tolerances(policy, role, leader, kubernetes)
    for rules, tolerance in ((up, band.get("scaleUp")), (down, band.get("scaleDown"))):
        if tolerance is not None:
            rules["tolerance"] = tolerance
    return {"scaleUp": up, "scaleDown": down}, up_losses + down_losses + band_losses


def _key(table: dict[str, Any], role: str, leader: str) -> str | None:
    return next((name for name in (role, leader) if name in table), None)


def _up(policy: Policy, role: str, leader: str) -> tuple[dict[str, Any], list[Loss]]:
    key = _key(policy.cooldown, role, leader)
    rest = policy.cooldown[key].scale_out_s if key else None
    # Without a cooldown the policy may act once a window.
    period, losses = _whole(rest if rest is not None else policy.window_s, 1, MAX_PERIOD_S)
    share, rounded = _percent(policy.step.max_out_fraction)
    found = []
    if losses:
        found.append(Loss(f"cooldown.{key}.scale_out_s", "approximated", f"{losses}: {period} s"))
    if rounded:
        found.append(Loss("step.max_out_fraction", "approximated", f"whole percents only: {share} %"))
    step = {"type": "Percent", "value": share, "periodSeconds": period}
    return {"stabilizationWindowSeconds": 0, "policies": [step]}, found


def _down(policy: Policy, role: str, leader: str) -> tuple[dict[str, Any], list[Loss]]:
    key = _key(policy.cooldown, role, leader)
    rest = policy.cooldown[key].scale_in_s if key else None
    if rest is None:
        text = _DISABLED_TEXT.format(role=role)
        losses = [
            Loss(f"cooldown.{key}" if key else "step.max_in_fraction", "approximated", text),
            Loss("step.max_in_fraction", "dropped", f"scale-in of {role} is off"),
        ]
        return {"selectPolicy": "Disabled"}, losses
    window, _ = _whole(rest, 0, MAX_STABILISATION_S)
    period, _ = _whole(rest, 1, MAX_PERIOD_S)
    share, _ = _percent(policy.step.max_in_fraction)
    losses = [
        Loss(
            f"cooldown.{key}.scale_in_s", "approximated", _COOLDOWN_TEXT.format(window=window, period=period)
        ),
        Loss("step.max_in_fraction", "approximated", _STEP_TEXT.format(share=share)),
    ]
    step = {"type": "Percent", "value": share, "periodSeconds": period}
    return {"stabilizationWindowSeconds": window, "policies": [step]}, losses


def _tolerances(
    policy: Policy, role: str, leader: str, kubernetes: tuple[int, int]
) -> tuple[dict[str, str], list[Loss]]:
    key = _key(policy.hysteresis, role, leader)
    if key is None:
        return {}, []
    version = ".".join(map(str, kubernetes))
    if kubernetes < TOLERANCE_KNOWN:
        text = f"Kubernetes {version} has no tolerance field; its cluster-wide 10 % applies to {role}"
        return {}, [Loss(f"hysteresis.{key}", "dropped", text)]
    band = policy.hysteresis[key]
    found = {
        "scaleUp": naming.plain_number(max(0.0, round(band.scale_out_ratio - 1.0, 4))),
        "scaleDown": naming.plain_number(max(0.0, round(1.0 - band.scale_in_ratio, 4))),
    }
    losses = []
    if kubernetes < TOLERANCE_ON:
        text = f"Kubernetes {version} ignores tolerance unless the gate HPAConfigurableTolerance is on"
        losses.append(Loss(f"hysteresis.{key}", "approximated", text))
    if band.usual_instances is not None:
        text = _SIZE_TEXT.format(usual=naming.plain_number(round(band.usual_instances, 1)))
        losses.append(Loss(f"hysteresis.{key}.usual_instances", "dropped", text))
    return found, losses


def _percent(fraction: float) -> tuple[int, bool]:
    percent = max(1, round(fraction * 100))
    return percent, abs(percent - fraction * 100) > 1e-6


def _whole(seconds: float, least: int, most: int) -> tuple[int, str]:
    """Return whole seconds within the API's limits, and why they are not the seconds asked for."""
    whole = min(max(round(seconds), least), most)
    return whole, f"the field holds whole seconds from {least} to {most}" if whole != seconds else ""
