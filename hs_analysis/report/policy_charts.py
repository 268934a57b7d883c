"""Charts of policies: signals tried as drivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hs_analysis.report.chart_templates import HERE, LOAD
from hs_analysis.report.charts import Chart, make
from hs_analysis.report.driver_words import NEAR_PEAK, finding, in_order
from hs_analysis.report.thinning import csv_number
from hs_analysis.report.wording import is_number, signal_label


def drivers(tried: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw how far each driver's instances fall when the load dips, beside the load."""
    rows = []
    for entry in in_order(tried):
        if not is_number(entry.get("dip_ratio")):
            continue
        label = signal_label(str(entry.get("signal")), str(entry.get("role") or ""))
        values = (
            (HERE, entry.get("dip_ratio")),
            (LOAD, entry.get("load_dip_ratio")),
        )
        rows += [[label, kind, csv_number(value)] for kind, value in values if is_number(value)]
    if not rows:
        return None
    title = finding(tried)
    reading = (
        "Each row is a signal as the driver of its pool. A point near the load's own mark gives back what "
        f"the load no longer needs; one in the shaded zone (over {NEAR_PEAK}) stays up and pays for idle "
        "instances."
    )
    zone = [{"low": NEAR_PEAK, "high": 1.05, "text": "stays near its peak"}]
    here = "; ".join(f"{label} {value}" for label, kind, value in rows if kind == HERE)
    return make(
        "drivers",
        "drivers",
        (title, reading, f"{title}. Instances at the dip ÷ at the peak: {here}."),
        (["driver", "kind", "ratio"], rows),
        datasets={"bands": zone},
    )
