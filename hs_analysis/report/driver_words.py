"""Words and order of signals tried as drivers that the page and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report.wording import fixed, is_number

Row = Mapping[str, Any]

NEAR_PEAK = 0.9
"""From this dip ÷ peak on a fleet counts as staying near its peak; the limit of ``replay.drivers``."""

CAPTION = (
    "Dip ÷ peak: mean over the tenth of the time with the lowest hourly load ÷ that with the highest. A "
    "driver whose instances stay near 1 never hands back what the load no longer needs. All drivers have the "
    "same target load, dead band, cooldowns and steps, and no guards; each drives its own pool, the other "
    "pool follows its own work."
)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return the drivers by pool, those that follow the load best first, those not tried last."""

    def rank(row: Row) -> tuple[Any, ...]:
        dip = row.get("dip_ratio")
        tried = is_number(dip)
        return (not tried, str(row.get("pool")), dip if tried else 0.0, str(row.get("signal")))

    return sorted(rows, key=rank)


def finding(rows: Sequence[Row]) -> str:
    """Return what came of it in one sentence: who follows the load, who stays up."""
    tried = [row for row in rows if is_number(row.get("dip_ratio"))]
    if not tried:
        return "No signal could be tried as a driver on this test window"
    up = [row for row in tried if row["dip_ratio"] > NEAR_PEAK]
    if any(not is_number(row.get("load_dip_ratio")) or row["load_dip_ratio"] > NEAR_PEAK for row in tried):
        return "The load of the test window has no dip that a driver could follow"
    if not up:
        return f"All {len(tried)} drivers follow the load when it dips"
    stay = "stays" if len(up) == 1 else "stay"
    return f"{len(tried) - len(up)} of {len(tried)} drivers follow the load when it dips, {len(up)} {stay} up"


def readings(rows: Sequence[Row]) -> list[str]:
    """Return what became of the drivers, those of one fate together."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(str(row.get("reading")), []).append(f"{row.get('signal')}@{row.get('role')}")
    return [f"{reading}: {', '.join(names)}" for reading, names in found.items()]


def load_dips(rows: Sequence[Row]) -> list[str]:
    """Return how far the load of each pool falls, which is what its drivers are held against."""
    pools = {
        str(row["pool"]): f"{row['pool']} {fixed(row['load_dip_ratio'], 2)}"
        for row in rows
        if is_number(row.get("load_dip_ratio"))
    }
    return (
        [f"the load itself, dip ÷ peak: {', '.join(pools[pool] for pool in sorted(pools))}"] if pools else []
    )
