"""From the aligned frame and the verdicts to demand, capacity at the SLO, thresholds and the P/D ratio."""

from hs_analysis.derive.demand import mean_request
from hs_analysis.derive.gpu_speed import bench_speeds
from hs_analysis.derive.profiles import profile_ratio, profiles_of
from hs_analysis.derive.ratio_from_sweeps import services_of_tests
from hs_analysis.derive.service import DeriveResult, derive_service
from hs_analysis.derive.split_sweeps import bench_sweeps, capture_sweeps
from hs_analysis.derive.versions import other_version

__all__ = [
    "DeriveResult", "bench_speeds", "bench_sweeps", "capture_sweeps", "derive_service", "mean_request",
    "other_version", "profile_ratio", "profiles_of", "services_of_tests",
]  # fmt: skip
