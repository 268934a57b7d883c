"""PromQL over a run's stored samples: expressions read into few forms, and their values as in Prometheus."""

from hs_analysis.promql.evaluate import Vector, evaluate
from hs_analysis.promql.forms import Form, Refused, Selector, selectors
from hs_analysis.promql.history import Grid, History, picked
from hs_analysis.promql.parse import KindOf, parse, require_kinds, syntax_problem
from hs_analysis.promql.windows import PROMETHEUS_2, PROMETHEUS_3, Server

__all__ = [
    "PROMETHEUS_2",
    "PROMETHEUS_3",
    "Form",
    "Grid",
    "History",
    "KindOf",
    "Refused",
    "Selector",
    "Server",
    "Vector",
    "evaluate",
    "parse",
    "picked",
    "require_kinds",
    "selectors",
    "syntax_problem",
]
