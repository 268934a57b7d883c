"""What the heaviest mix of requests leaves of a floor that was carried under another one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hs_analysis.derive.capacity import CapacityFit
from hs_analysis.derive.load import RoleRows
from hs_analysis.derive.mix import DRIFT_SPREAD
from hs_analysis.derive.targets import CALM_LOAD_SHARE
from hs_analysis.derive.usual_mix import FEWEST_ROWS
from hs_analysis.statistics.operating import operating_rows

HEAVY_QUANTILE, LIGHT_QUANTILE = 0.9, 0.1
"""Deciles of tokens per request between which a mix moves, as for the drift of the ratio; the upper one is
the heavy mix."""


def heaviest_mix_ratio(rows: RoleRows) -> float | None:
    """Return what a decode pool carries of the heaviest mix ÷ what it carried at its highest loads [ratio].

    A step of decode reads the KV memory of every sequence it holds, so that tokens per second within a limit
    fall at most in proportion to the tokens a sequence holds: h = tokens at the busiest 5 % of rows ÷ their
    upper decile over the operating range, at most 1. At night a fleet that follows its load stands at its
    target under whatever mix there is; one of fixed size did so only at its peak.

    Parameters
    ----------
    rows
        A role of a production history.

    Returns
    -------
    None for other pools than decode, for a load that was set on purpose, where tokens per request are unknown
    in all but 60 rows, and where they move by no more than a quarter between their deciles.
    """
    if rows.kind != "production" or rows.role != "decode":
        return None
    tokens, load = rows.request_tokens, rows.sustained
    known = np.isfinite(tokens) & (tokens > 0) & np.isfinite(load) & (load > 0)
    known = operating_rows(rows.work, known & np.isfinite(rows.work))
    if int(known.sum()) < FEWEST_ROWS:
        return None
    logs = np.log(tokens[known])
    light, heavy = np.quantile(logs, (LIGHT_QUANTILE, HEAVY_QUANTILE))
    if heavy - light <= DRIFT_SPREAD:
        return None
    busiest = np.argsort(load[known], kind="stable")[-max(1, round(CALM_LOAD_SHARE * logs.size)) :]
    return float(min(1.0, np.exp(logs[busiest].mean() - heavy)))


def with_heaviest_mix(fits: dict[str, CapacityFit]) -> dict[str, CapacityFit]:
    """Return the capacities with `heaviest_mix_ratio` set, but for pools whose counts followed their load.

    These stood near their usual load under every mix, so what they carried was carried of the heaviest too.
    """
    return {
        role: fit
        if fit.capacity.tracked_per_instance is not None
        else replace(
            fit,
            capacity=replace(fit.capacity, heaviest_mix_ratio=heaviest_mix_ratio(fit.judged.rows)),
        )
        for role, fit in fits.items()
    }
