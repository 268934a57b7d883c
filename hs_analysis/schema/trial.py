"""Result of trying a signal as the driver of an autoscaler."""

from __future__ import annotations

from dataclasses import dataclass

from hs_analysis.schema.results import Verdict


@dataclass(frozen=True)
class SignalTrial:
    """One signal as the driver of its pool on the test window.

    ``dip_ratio`` is the pool's mean instances in the tenth of rows with the lowest hourly load ÷ in the tenth
    with the highest, ``load_dip_ratio`` the same of the load itself; ``correlation`` is that of instances
    with 5-min load. ``reading`` puts it in words, or says why the signal was not tried. The last two are
    HeteroScale's figures for the same driver (arXiv:2508.19559, Fig. 6, digitised), None where it has none.
    """

    signal: str
    role: str
    pool: str
    verdict: Verdict
    target_per_instance: float | None = None
    load_dip_ratio: float | None = None
    dip_ratio: float | None = None
    correlation: float | None = None
    reversals_per_day: float | None = None
    instance_hours: float | None = None
    strain_ratio: float | None = None
    reading: str = ""
    paper_dip_ratio: float | None = None
    paper_correlation: float | None = None
    evidence: str = ""
