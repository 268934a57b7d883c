"""Numbers of a policy that no data and no setting gave: each in words, with what would replace it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hs_analysis.report.choice import mapping
from hs_analysis.report.wording import is_number, seconds

DEFAULT = "default"
"""What stands for the evidence of a number that no data gave."""


def assumed(service: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each assumed number that a reader should replace by their own.

    Parameters
    ----------
    service
        The service's part of summary.json; its replay says which start-up times were assumed.
    spec
        ``spec`` of policy.yaml; empty when there is none.
    """
    return [text for text in (_start_up(service), _cooldown(spec), _band(spec)) if text]


def _start_up(service: Mapping[str, Any]) -> str:
    given = mapping(mapping(mapping(service.get("replay")).get("calibration")).get("start_up_s"))
    times = {
        role: mapping(entry).get("value")
        for role, entry in given.items()
        if mapping(entry).get("provenance") == DEFAULT
    }
    if not times:
        return ""
    words = " and ".join(f"{seconds(value)} for {role}" for role, value in sorted(times.items()))
    return f"start-up time {words} (give yours: --startup)"


def _cooldown(spec: Mapping[str, Any]) -> str:
    found = _defaults(spec.get("cooldown"))
    words = [
        f"{seconds(entry.get('scale_out_s'))} out and {seconds(entry.get('scale_in_s'))} in{of}"
        for of, entry in found
        if is_number(entry.get("scale_out_s"))
    ]
    return f"cooldowns {', '.join(words)} (they follow from the start-up time)" if words else ""


def _band(spec: Mapping[str, Any]) -> str:
    found = _defaults(spec.get("hysteresis"))
    words = [f"{entry.get('scale_out_ratio')} and {entry.get('scale_in_ratio')}{of}" for of, entry in found]
    return f"scaling ratios {', '.join(words)} (the noise of the signal is not known)" if words else ""


def _defaults(given: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the entries marked as default, each with the pool it is of where pools differ."""
    entry = mapping(given)
    pools = mapping(entry.get("by_role"))
    if not pools:
        return [("", entry)] if entry.get("evidence") == DEFAULT else []
    marked = [(f" for {role}", mapping(one)) for role, one in sorted(pools.items())]
    found = [(of, one) for of, one in marked if one.get("evidence") == DEFAULT]
    if len(found) == len(marked) > 1 and all(dict(one) == dict(found[0][1]) for _, one in found):
        return [("", found[0][1])]
    return found
