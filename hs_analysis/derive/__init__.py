"""From the aligned frame and the verdicts to demand, capacity at the SLO, thresholds and the P/D ratio."""

from hs_analysis.derive.bench_points import bench_sweeps
from hs_analysis.derive.bench_speeds import bench_speeds
from hs_analysis.derive.capture_sweep import capture_sweeps
from hs_analysis.derive.demand import mean_request
from hs_analysis.derive.profile import profile_ratio, profiles_of
from hs_analysis.derive.releases import other_version
from hs_analysis.derive.service import DeriveResult, derive_service

__all__ = [
    "DeriveResult", "bench_speeds", "bench_sweeps", "capture_sweeps", "derive_service", "mean_request",
    "other_version", "profile_ratio", "profiles_of",
]  # fmt: skip
