"""From series and samples to one grid per service: windows, sources, instances, offered work, saturation."""

from hs_analysis.align.facts import ServiceFacts
from hs_analysis.align.queries import Stored
from hs_analysis.align.run import Aligned, align

__all__ = ["Aligned", "ServiceFacts", "Stored", "align"]
