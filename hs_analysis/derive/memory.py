"""How much of a window's latency answers to what came in the window before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit

from hs_analysis.derive.laws import binomial_fit, in_tail
from hs_analysis.derive.load import RoleRows
from hs_analysis.derive.violations import judge
from hs_analysis.schema.settings import Slo

Floats = NDArray[np.float64]

PARTS = np.linspace(0.0, 1.0, 21)
"""Parts of a latency that may answer to the window before [ratio]."""

VIOLATING_MIN = 10
"""Fewest violating windows that tell the part: ten events for each number fitted (Peduzzi et al. 1996)."""


def remembering(rows: RoleRows, slo: Slo) -> RoleRows:
    """Return the rows of a production history under the load that their latency answers to.

    A request that came at the end of a window is served in the next, and the queue it joined was made by
    those before it: on simulated services a third to a half of what a 60-s window answers to came in the one
    before. Read off its own load alone, part of what came by chance has no effect and blurs the law,
    whose average over chance then counts it twice: capacities came out 2 % low.

    The load is (1 − a) · own + a · the window before's, with the part a under which a binomial fit on ln load
    makes the violations likeliest; rows without a window before are no longer judged. Its chance is
    (1 − a)² + a² of a window's. Unchanged in a pressure test, whose loads are means already, and under ten
    violating windows.
    """
    if rows.kind != "production":
        return rows
    judged = judge(rows, slo, drop_recovery=True)
    known = judged.kept & (rows.load > 0) & (rows.earlier > 0)
    bad = judged.bad[known]
    if bad.sum() < VIOLATING_MIN:
        return rows
    load, earlier = rows.load[known], rows.earlier[known]
    tail = in_tail(np.log(load), bad)
    likely = [_likelihood(np.log((1.0 - a) * load + a * earlier)[tail], bad[tail]) for a in PARTS]
    part = float(PARTS[int(np.argmax(likely))])
    kept = (1.0 - part) ** 2 + part**2
    return replace(
        rows, load=(1.0 - part) * rows.load + part * rows.earlier, count_noise=kept * rows.count_noise
    )


def _likelihood(x: Floats, bad: NDArray[np.bool_]) -> float:
    """Return the log likelihood of a rising binomial fit of `bad` on `x`, -inf without one."""
    fit = binomial_fit(x, bad)
    if fit is None or fit[1] <= 0.0:
        return -np.inf
    odds = fit[0] + fit[1] * x
    return float(np.sum(log_expit(np.where(bad, odds, -odds))))
