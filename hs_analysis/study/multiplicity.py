"""Many signals, one family of tests: the chance of a link, corrected for how many were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hs_analysis.schema.results import Reason
from hs_analysis.study.measured import Measured
from hs_analysis.study.rule import CHANCE_MAX


def correct_chances(measured: Sequence[Measured]) -> list[Measured]:
    """Replace each signal's own chance by that over all signals tested on the service, and say so.

    Holm's step-down correction (1979) holds whatever the signals have to do with each other: with it the
    probability that *any* unrelated signal passes is at most the limit.

    Parameters
    ----------
    measured
        All signals of a service; those that were not tested, or have no link, are left as they are.
    """
    tested = [k for k, one in enumerate(measured) if not one.gates and one.link_chance is not None]
    if not tested:
        return list(measured)
    own = [measured[k].link_chance for k in tested]
    corrected = holm(np.array(own, dtype=float))
    found = list(measured)
    for k, chance in zip(tested, corrected, strict=True):
        text = (
            f"chance of its innovation link without following the load: {chance:.1g} after Holm's correction "
            f"for {len(tested)} signals tested"
        )
        reason = Reason("tests", text, float(chance), CHANCE_MAX)
        found[k] = replace(measured[k], link_chance=float(chance)).noting(reason)
    return found


def holm(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return chances corrected for all tests of their family, in the same order, shape (tests,).

    The k-th smallest of n is multiplied by n − k + 1, no corrected one is below that of a smaller chance, and
    none is above 1 (Holm 1979). As statsmodels' `multipletests`, which collects the garbage of the whole
    process at every call.
    """
    order = np.argsort(chances)
    stepped = np.maximum.accumulate(chances[order] * np.arange(chances.size, 0, -1))
    corrected = np.empty_like(chances)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
