"""Work that waits, as part of what sizes a pool.

Counters of tokens show what a pool served. When more comes than it can serve they stop at its capacity, so
that a pool grows by no more than capacity ÷ target a step, however long its queue. The queue itself says how
much is missing: requests that wait × tokens of a request ÷ the time in which they should be gone. Both pools
count those that wait for prefill, so that decode grows while its work is still on the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hs_analysis.policy.constants import WITHIN_S
from hs_analysis.policy.model import Policy, Primary, Waiting
from hs_analysis.policy.rounding import DIGITS
from hs_analysis.schema.aligned import ServiceFrame

QUEUE, REQUESTS = "queue_length", "request_rate"
"""Signals of the requests that wait in a pool, and of those that come to the service."""

_OPERATION = re.compile(r"\) [-+*/] ")

WAITS_IN = "prefill"
"""The pool whose queue counts, for both: what waits for prefill is decode's work a moment later. The queue of
a decode engine also holds requests whose prefill is still under way elsewhere."""

NOT_ONLY = ("dynamo_frontend",)
"""Sources of a queue that count requests under prefill too: at any load they add work that is served."""


def with_waiting(policy: Policy, frame: ServiceFrame, promql: Mapping[tuple[str, str], str]) -> Policy:
    """Return a policy whose primaries add the work that waits for prefill to the work that is served.

    Parameters
    ----------
    policy
        As `policy.build.build_policy` makes it; the same one comes back where the queue or the request rate
        was not recorded, or where no primary counts the served work of its pool.
    frame
        The window that it was fitted on.
    promql
        Query per (signal, role), of the queue among others. Where the primary has a query and the queue has
        none, what waits can't be asked for and is left out.
    """
    primaries = tuple(_added(primary, policy, frame, promql) for primary in policy.primaries)
    return policy if primaries == policy.primaries else replace(policy, primaries=primaries)


def _added(
    primary: Primary, policy: Policy, frame: ServiceFrame, promql: Mapping[tuple[str, str], str]
) -> Primary:
    role = primary.role
    queue = frame.info(QUEUE, WAITS_IN)
    if (
        primary.signal != frame.served(role)[0]
        or primary.pool != "sum"
        or queue is None
        or queue.source in NOT_ONLY
    ):
        return primary
    tokens = tokens_per_request(frame, primary.signal, role)
    if tokens is None:
        return primary
    waiting = Waiting(QUEUE, WAITS_IN, tokens, WITHIN_S, policy.reading.window_s)
    if not primary.promql:
        return replace(primary, waiting=waiting)
    query = promql.get((QUEUE, WAITS_IN))
    if not query:
        return primary
    weighed = f"{_grouped(query)} * {waiting.weight:g}"
    return replace(primary, promql=f"{primary.promql} + {weighed}", waiting=waiting)


def _grouped(query: str) -> str:
    """Return a query that a factor may follow: a formula of several terms in parentheses."""
    return f"({query})" if _OPERATION.search(query) else query


def tokens_per_request(frame: ServiceFrame, signal: str, role: str) -> float | None:
    """Return the median work of a request [tokens], as a policy writes it; None without a request rate."""
    if not frame.has(signal, role) or not frame.has(REQUESTS, "service"):
        return None
    work, requests = frame.values(signal, role), frame.values(REQUESTS, "service")
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(requests > 0, work / requests, np.nan)
    each = each[np.isfinite(each)]
    found = float(np.median(each)) if each.size else 0.0
    return float(f"{found:.{DIGITS}g}") if found > 0 else None
