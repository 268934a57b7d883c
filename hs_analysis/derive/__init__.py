"""From the aligned frame and the verdicts to demand, capacity at the SLO, thresholds and the P/D ratio."""

from hs_analysis.derive.service import DeriveResult, derive_service

__all__ = ["DeriveResult", "derive_service"]
