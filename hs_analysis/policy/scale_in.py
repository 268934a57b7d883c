"""What scale-in costs: how long requests last, how long pods have to end them, and how many would be cut.

A pod that leaves ends after its grace period at the latest (``terminationGracePeriodSeconds``), and cuts what
still runs on it. How long requests last is a histogram of the recorded window; what happens between two of
its edges is read by probit in log latency, as for a latency limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri

from hs_analysis.policy.constants import GRACE_STEP_S, LONGEST_SHARE
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import DAY_S, GRACE_S
from hs_analysis.schema.decision import GraceSource, ScaleIn
from hs_analysis.schema.results import Reason

POINTS = 33
"""Points between two edges at which the share of running requests is summed up."""


@dataclass(frozen=True)
class LatencyHistogram:
    """How long requests took.

    Attributes
    ----------
    edges_s
        Upper edges of the buckets but for the infinite one, rising [s].
    within
        Requests that took no longer than each edge.
    total
        All requests.
    """

    edges_s: tuple[float, ...]
    within: tuple[float, ...]
    total: float

    @property
    def over(self) -> Floats:
        """Share of requests that took longer than each edge; it never rises."""
        shares = 1.0 - np.asarray(self.within, float) / self.total
        return np.minimum.accumulate(np.clip(shares, 0.0, 1.0))

    def share_over(self, limit_s: Floats | float) -> Floats:
        """Return the share of requests that take longer than a limit [s]; beyond the last edge that of it."""
        limits = np.asarray(limit_s, float)
        edges, over = np.concatenate([[0.0], self.edges_s]), np.concatenate([[1.0], self.over])
        after = np.clip(np.searchsorted(edges, limits, side="right"), 1, edges.size - 1)
        low, high = edges[after - 1], edges[after]
        first, last = over[after - 1], over[after]
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.where(low > 0, np.log(limits / low) / np.log(high / low), limits / high)
            place = np.clip(place, 0.0, 1.0)
            probit = ndtr(ndtri(first) + place * (ndtri(last) - ndtri(first)))
        straight = first + place * (last - first)
        inside: Floats = np.where((low > 0) & (first < 1.0) & (last > 0.0), probit, straight)
        return inside

    def quantile_s(self, share: float) -> float | None:
        """Return the time within which a share of requests ends [s]; None beyond the last edge."""
        bound = self.bound_s(share)
        if bound is None:
            return None
        place = self.edges_s.index(bound)
        grid = np.linspace(self.edges_s[place - 1] if place else 0.0, bound, 1024)
        return float(grid[np.argmax(self.share_over(grid) <= 1.0 - share + 1e-12)])

    def bound_s(self, share: float) -> float | None:
        """Return the first edge within which a share of requests ends [s]; None beyond the last edge."""
        enough = np.flatnonzero(self.over <= 1.0 - share + 1e-12)
        return self.edges_s[int(enough[0])] if enough.size else None

    def time_over(self, limit_s: float) -> float:
        """Return the mean time that requests spend beyond a limit, counted up to the last edge [s]."""
        edges = [limit_s, *(edge for edge in self.edges_s if edge > limit_s)]
        parts = [np.linspace(low, high, POINTS) for low, high in pairwise(edges)]
        return float(sum(np.trapezoid(self.share_over(grid), grid) for grid in parts))

    @property
    def mean_s(self) -> float:
        """Mean time of a request, counted up to the last edge [s]."""
        return self.time_over(0.0)

    def share_cut(self, grace_s: float) -> float | None:
        """Return the share of the requests that run when an instance leaves which last beyond its grace.

        A long request is more likely to run at any moment: of those that run at one, the share that goes on
        for longer than g is ∫ S over (g, ∞) ÷ ∫ S over (0, ∞), S being the share of requests that take
        longer.
        None where the grace period ends beyond the last edge and some requests do too.
        """
        if grace_s >= self.edges_s[-1]:
            return None if self.over[-1] > 0 else 0.0
        return self.time_over(grace_s) / self.mean_s


@dataclass(frozen=True)
class Grace:
    """How long the pods of a role have to end their requests [s], and what says so."""

    seconds: float = GRACE_S
    source: GraceSource = "default"
    where: str = ""


@dataclass(frozen=True)
class Leaving:
    """What leaves in a replay: instances a day, and requests that run on them then.

    The latter is None unless their rate is known in every row in which instances leave.
    """

    instances_per_day: float
    requests_per_day: float | None


def leaving(timeline: pl.DataFrame, rates: pl.DataFrame, mean_s: float | None, window_s: float) -> Leaving:
    """Return what leaves the pool that gives output.

    Parameters
    ----------
    timeline
        Rows of one policy of the contract TIMELINE.
    rates
        Columns ``capture``, ``t`` and ``rate``: requests a second; null where not known.
    mean_s
        Mean time of a request [s]: running requests are Little's, rate × time.
    window_s
        Width of a row [s].
    """
    rows = (
        timeline.filter(pl.col("desired_decode").is_not_null(), pl.col("load_decode").is_not_null())
        .sort("capture", "t")
        .select("capture", "t", count="desired_decode")
        .with_columns(before=pl.col("count").shift(1).over("capture"))
        .join(rates, on=["capture", "t"], how="left")
    )
    days = rows.height * window_s / DAY_S
    fewer = pl.col("before") - pl.col("count")
    gone = rows.filter(fewer > 0).with_columns(gone=fewer)
    if not days:
        return Leaving(0.0, None)
    instances = float(gone["gone"].sum()) / days
    if mean_s is None or not gone["rate"].is_finite().fill_null(False).all():
        return Leaving(instances, None)
    running = float((gone["gone"] / gone["before"] * gone["rate"]).sum()) * mean_s
    return Leaving(instances, running / days)


def scale_in(
    role: str, histogram: LatencyHistogram | None, grace: Grace, left: Leaving, families: Sequence[str] = ()
) -> ScaleIn:
    """Return what a scale-in of the pool that gives output cuts, and the line that mends it.

    Parameters
    ----------
    role
        decode or mixed.
    histogram
        Times of requests from arrival to last token; None where they are not recorded.
    grace
        What pods of the pool have.
    left
        What leaves in the replay that is the headline.
    families
        Histograms that would tell those times.
    """
    found = ScaleIn(
        role=role,
        grace_s=grace.seconds,
        grace_from=grace.source,
        grace_where=grace.where,
        instances_leaving_per_day=left.instances_per_day,
    )
    if histogram is None:
        text = f"no buckets of request times are recorded: keep those of {' or '.join(families)}"
        return _with(found, reason=Reason("latency_not_recorded", text))
    share = histogram.share_cut(grace.seconds)
    bound = histogram.bound_s(LONGEST_SHARE)
    enough_s = GRACE_STEP_S * math.ceil((bound or histogram.edges_s[-1]) / GRACE_STEP_S)
    cut = None if share is None or left.requests_per_day is None else share * left.requests_per_day
    reason = None
    if share is None:
        reason = Reason("buckets_end", f"the buckets end at {histogram.edges_s[-1]:g} s: add longer ones")
    elif cut is None:
        reason = Reason(
            "rate_not_recorded", "the rate of requests is not known whenever instances leave: record it"
        )
    return _with(
        found,
        longest_request_s=histogram.quantile_s(LONGEST_SHARE),
        longest_request_bound_s=bound or histogram.edges_s[-1],
        is_at_least=bound is None,
        requests_cut_per_day=cut,
        change=f"terminationGracePeriodSeconds: {enough_s:.0f}" if enough_s > grace.seconds else None,
        reason=reason,
    )


def _with(found: ScaleIn, **changes: object) -> ScaleIn:
    return replace(found, **changes)  # type: ignore[arg-type]
