"""From series and samples to one grid per service: windows, sources, instances, offered work, saturation."""

from hs_analysis.align.series import StoredSamples
from hs_analysis.align.stage import Aligned, ServiceFacts, align

__all__ = ["Aligned", "ServiceFacts", "StoredSamples", "align"]
