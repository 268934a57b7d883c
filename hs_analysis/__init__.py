"""hs_analysis: which metric to autoscale prefill/decode LLM serving on, proved from metric dumps."""

from __future__ import annotations

__version__ = "0.1.0"
