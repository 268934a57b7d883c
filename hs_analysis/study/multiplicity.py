"""Many signals, one family of tests: the chance of a link, corrected for how many were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from statsmodels.stats.multitest import multipletests

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
    corrected = multipletests(own, alpha=CHANCE_MAX, method="holm")[1]
    found = list(measured)
    for k, chance in zip(tested, corrected, strict=True):
        text = (
            f"chance of its innovation link without following the load: {chance:.1g} after Holm's correction "
            f"for {len(tested)} signals tested"
        )
        reason = Reason("tests", text, float(chance), CHANCE_MAX)
        found[k] = replace(measured[k], link_chance=float(chance)).noting(reason)
    return found
