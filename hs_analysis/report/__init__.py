"""The report: summary, frames and policies to one HTML page, by pure functions."""

from hs_analysis.report.html import render

__all__ = ["render"]
