"""Servers that speak the Prometheus API within limits of their own: how each is told, what a plan keeps to.

Limits that a server says itself when they are met (points, samples, time, load) stand nowhere here: queries
are halved then. Here is what a server does not say, or answers in silence with something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from hs_analysis.schema.constants import HOUR_S


@dataclass(frozen=True)
class Backend:
    """A kind of server.

    Attributes
    ----------
    name
        As ``--backend`` takes it.
    hosts
        Pattern on the host's name that tells it; none where people run it under names of their own.
    longest_query_s
        Longest time that one query may reach over, range selectors included [s].
    longest_listing_s
        Longest time that one list of series may reach over [s].
    lists_one_metric
        Whether a list of series takes one metric's name at a time.
    lists_by_get
        Whether lists of series and names are read from the address only, never from a form.
    parameters
        Sent with each request.
    most_series
        An answer of so many series is cut, whether it says so or not.
    signed_as
        Service that an AWS signature is for.
    """

    name: str
    hosts: str = ""
    longest_query_s: float | None = None
    longest_listing_s: float | None = None
    lists_one_metric: bool = False
    lists_by_get: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    most_series: int | None = None
    signed_as: str = "aps"


PROMETHEUS = Backend("prometheus")

BACKENDS = (
    PROMETHEUS,
    # Quotas are on bytes scanned and chunks read; a query over one ends with HTTP 422, and is halved.
    Backend("amp", r"aps-workspaces[.-][a-z0-9.-]+\.amazonaws\.com(\.cn)?"),
    # CloudWatch answers 500 series with status 200 and looks through 24 h; an hour is kept for the edges. The
    # service that is signed for is that of its other API: its pages on PromQL do not name one.
    Backend(
        "cloudwatch", r"monitoring\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", longest_query_s=23 * HOUR_S,
        longest_listing_s=23 * HOUR_S, most_series=500, signed_as="monitoring",
    ),
    # Google reads match[] of lists in GET requests only.
    Backend("gmp", r"monitoring\.googleapis\.com", lists_by_get=True),
    # Azure Monitor answers a range of 48 h or more at steps of at least a minute, without a word; a list of
    # series names one metric and reaches over 12 h. An hour is kept for the edges of a range.
    Backend(
        "azure", r"[a-z0-9.-]+\.prometheus\.monitor\.azure\.(com|cn|us)", longest_query_s=47 * HOUR_S,
        longest_listing_s=12 * HOUR_S, lists_one_metric=True,
    ),
    # Grafana Cloud refuses ranges over 32 days (`the query time range exceeds the limit`, limit 768h).
    Backend("grafana-cloud", r"[a-z0-9.-]+\.grafana\.net", longest_query_s=768 * HOUR_S),
    Backend("mimir"),
    # Without these a store that is gone leaves its part out, and samples may be those of a coarser block.
    Backend(
        "thanos",
        parameters=(("partial_response", "false"), ("dedup", "true"), ("max_source_resolution", "0s")),
    ),
    # A storage node that is down is an error then, also of a grid.
    Backend("victoriametrics", parameters=(("deny_partial_response", "1"),)),
)  # fmt: skip
"""Kinds of servers; limits as their makers document them, the hour of margin is the tool's own."""

NAMES = tuple(one.name for one in BACKENDS)


def backend_of(url: str, name: str | None = None) -> Backend:
    """Return the kind of server at an address: the named one, else what its host tells, else Prometheus."""
    if name is not None:
        return next(one for one in BACKENDS if one.name == name)
    host = (urlsplit(url).hostname or "").lower()
    return next((one for one in BACKENDS if one.hosts and re.fullmatch(one.hosts, host)), PROMETHEUS)
