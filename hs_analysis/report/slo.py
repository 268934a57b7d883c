"""The allowed share of violating windows, as far as the summary says or the fitted curve shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.report.choice import mapping
from hs_analysis.report.wording import is_number


def allowed_share(
    service: Mapping[str, Any], summary: Mapping[str, Any], capacity: Mapping[str, Any], curve: pl.DataFrame
) -> float | None:
    """Return the share of windows that may violate [ratio], None when nothing tells.

    A summary that carries its objective says it. Otherwise a logistic fit does: by definition it crosses the
    allowed share at the capacity; other methods answer without such a curve.
    """
    for holder in (service, summary, mapping(summary.get("settings"))):
        value = mapping(holder.get("slo")).get("allowed_window_share")
        if is_number(value):
            return float(value)
    at = capacity.get("per_instance")
    logistic = str(capacity.get("method") or "").startswith("logistic")
    if capacity.get("status") != "ok" or not logistic or curve.height < 2:
        return None
    line = curve.sort("load_per_instance")
    x = np.log(np.maximum(line["load_per_instance"].to_numpy(), 1e-12))
    share = np.clip(line["violation_probability"].to_numpy(), 1e-9, 1 - 1e-9)
    if not is_number(at) or at <= 0 or not x[0] <= np.log(at) <= x[-1]:
        return None
    # In these coordinates a logistic law is a straight line, so that reading between its points is exact.
    logit = float(np.interp(np.log(at), x, np.log(share / (1 - share))))
    return float(1 / (1 + np.exp(-logit)))
