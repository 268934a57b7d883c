"""From a metric and its target to what the replay's HPA runs: how a query and a target type go together."""

from __future__ import annotations

import re

from hs_analysis.current.model import Addend, MetricRead
from hs_analysis.current.queries import Query

_QUANTITY = re.compile(r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip

_KINDS = {
    ("sum", "sum", "AverageValue"): "AverageValue",
    ("sum", "sum", "Value"): "Value",
    # The mean of an instance against its target, times the instances: the total ÷ target.
    ("sum", "avg", "Value"): "AverageValue",
    ("mean", "sum", "AverageValue"): "Pods",
    ("mean", "avg", "AverageValue"): "AverageValue",
    ("mean", "avg", "Value"): "Value",
}
"""(how the signal adds up, what the query makes of it, target type) → kind of the replay's metric."""

TWICE_DIVIDED = (
    "a mean over instances is divided by their number once more (AverageValue): the count follows the mean "
    "alone, whatever the load; use Value, or a sum"
)


def quantity(value: object) -> float | None:
    """Return a Kubernetes quantity (``3800``, ``45m``, ``2Ki``) as a number; None when it is none."""
    found = _QUANTITY.fullmatch(str(value).strip())
    return float(found[1]) * _UNITS[found[2] or ""] if found else None


def metric_read(
    query: Query, kind: str, target: float, text: str
) -> tuple[MetricRead | None, tuple[str, ...]]:
    """Return a metric with its target in the signal's unit, and what to note; None when it can't be run."""
    forms = {(_adds(one), one.over) for one in (query, *query.others)}
    if len(forms) > 1:
        told = (f"{one.over} of {one.signal}@{one.role}" for one in (query, *query.others))
        return None, (*query.notes, f"{' and '.join(told)} do not add up over instances alike")
    ((adds, over),) = forms
    found = _KINDS.get((adds, over, kind))
    if found is None:
        return None, (*query.notes, f"{over} of {query.signal} with {kind} is not read")
    notes = query.notes
    if (adds, over, kind) == ("mean", "avg", "AverageValue"):
        notes = (*notes, TWICE_DIVIDED)
    others = tuple(
        Addend(one.signal, one.role, one.averaging_s, query.scale / one.scale) for one in query.others
    )
    read = MetricRead(
        query.signal, query.role, target * query.scale, found, query.averaging_s, query.scale, text, others,
        query.how,
    )  # fmt: skip
    return read, notes


def _adds(query: Query) -> str:
    return "sum" if query.pool == "sum" else "mean"
