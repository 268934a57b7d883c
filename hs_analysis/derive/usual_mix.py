"""Loads of a moving token mix, brought to the usual mix that a capacity speaks of."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hs_analysis.derive.load import RoleRows
from hs_analysis.derive.mix import DRIFT_SPREAD
from hs_analysis.derive.violations import judge
from hs_analysis.schema.settings import Slo

Floats = NDArray[np.float64]

# Defaults of this project, measured on simulated services whose capacity is known.

NEAR_SHARE = 0.5
"""Rows above this share of the 99 % quantile of load tell how latency answers to the mix [ratio]."""

FEWEST_ROWS = 60
"""Fewest such rows: an hour of 60-s windows."""

ELASTICITY_SD = 0.2
"""Standard deviation of the elasticity of capacity in tokens per request that is left after the fit: 0.13 was
seen in four histories whose mix moved, rounded up."""


def at_usual_mix(rows: RoleRows, slo: Slo) -> RoleRows:
    """Return the rows with loads brought to the usual mix, where the mix moves.

    A step of decode reads the KV memory of every sequence it holds: the longer prompts and answers are, the
    fewer tokens an instance decodes within a limit. A limit met only while requests were short says too much
    of the usual ones. With g = ln(tokens per request) about its load-weighted mean, capacity follows
    C · exp(γ g), and load · exp(−γ g) is the load of the usual mix. γ is told by a binomial fit of the share
    over the limit on ln load and g over all busy rows, because windows that violate see little of the mix; it
    lies in −1..0 for decode. For prefill no elasticity could be told (queueing and cost per prompt work
    against each other): γ = 0.

    What is left of the doubt, 0.2 · |mean g of violating rows|, becomes a term of the interval. Nothing
    changes where tokens per request are not known or move by less than a quarter between their deciles.
    """
    if rows.kind != "production":
        return rows
    judged = judge(rows, slo, drop_recovery=True)
    tokens = rows.request_tokens
    known = judged.kept & (rows.load > 0) & (tokens > 0)
    if not known.any() or not judged.bad[known].any():
        return rows
    busy = known & (rows.load > NEAR_SHARE * np.quantile(rows.load[known], 0.99))
    g = np.log(np.where(tokens > 0, tokens, np.nan))
    low, high = np.quantile(g[known], [0.1, 0.9])
    if busy.sum() < FEWEST_ROWS or high - low <= DRIFT_SPREAD:
        return rows
    g -= float(np.average(g[known], weights=rows.load[known] * rows.instances[known]))
    elasticity = 0.0
    if rows.role == "decode":
        elasticity = _elasticity(np.log(rows.load[busy]), g[busy], rows.over_low[busy])
    off = abs(float(g[known & judged.bad].mean()))
    return replace(rows, load=rows.load * np.exp(-elasticity * g), mix_sd=ELASTICITY_SD * off)


def _elasticity(x: Floats, g: Floats, share: Floats) -> float:
    """Return d ln capacity ÷ dg: −(slope in g) ÷ (slope in ln load) of the log odds, in −1..0."""
    import statsmodels.api as sm

    design = np.column_stack([np.ones(x.size), x - x.mean(), g])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with np.errstate(all="ignore"):
            try:
                fit = sm.GLM(share, design, family=sm.families.Binomial()).fit()
            except (ValueError, np.linalg.LinAlgError):
                return 0.0
    _, in_load, in_mix = (float(value) for value in fit.params)
    if not math.isfinite(in_load) or not math.isfinite(in_mix) or in_load <= 0.0:
        return 0.0
    return min(max(-in_mix / in_load, -1.0), 0.0)
