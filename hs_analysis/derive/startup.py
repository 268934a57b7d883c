"""Start-up times as the dump shows them: from asking for an instance to its first request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from scipy.special import bdtr

from hs_analysis import evidence
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.constants import CLAIM_CHANCE, GROUP_MIN
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Interval, Reason, Startup
from hs_analysis.schema.settings import Settings
from hs_analysis.statistics.ranks import range_holds_median

ASKED_BY = {
    "pod_created": "the creation of its pod",
    "replicas": "the rise of the wanted replicas",
    "target": "the first scrape that found its target without an answer",
    "process": "the start of its process",
}
"""What says when an instance was asked for, in words, the better first."""

LEFT_OUT = {
    "target": "; the time until its pod was placed is not in it",
    "process": "; the time to place its pod and to pull its image is not in it",
}
"""What a start that is seen late leaves out of the time, as the rest of a sentence."""

SEEN_LATE = ("replicas", "target")
"""What shows the asking in the first sample after it, up to one interval late."""


def startups_of(frame: ServiceFrame, instance_startups: pl.DataFrame) -> tuple[Startup, ...]:
    """Return the start-up time of every pool of a service.

    Parameters
    ----------
    frame
        The service; instances that start after its last row are not looked at.
    instance_startups
        Rows of the contract BIRTHS.
    """
    own = instance_startups.filter(pl.col("service") == frame.service)
    own = (
        own.filter(pl.col("first_served").is_between(*_bounds(frame))) if frame.table.height else own.head(0)
    )
    return tuple(startup_of(own.filter(pl.col("role") == role), role, frame.service) for role in frame.pools)


def _bounds(frame: ServiceFrame) -> tuple[pl.Expr, pl.Expr]:
    """Return the start of the first row and the end of the last."""
    ends = [round(1e6 * at) for at in (frame.seconds().min(), frame.seconds().max() + frame.window_s)]
    first, last = (pl.lit(us).cast(pl.Datetime("us", "UTC")) for us in ends)
    return first, last


def startup_of(instance_startups: pl.DataFrame, role: str, service: str) -> Startup:
    """Return the median time from asking to serving of a role's instances.

    ``ok`` with at least three instances whose asking is known, all by the best of the ways that has as many;
    a scrape target and a process begin later than the asking, and the reason says what is left out then. Else
    ``floor``, a lower bound, with three instances of which only the first sample is known: the instance had
    started before it. Else refused.

    The first request came at most one scrape interval r before the sample that shows it, so the value is the
    median less r ÷ 2 and the interval reaches r lower. The rise of the wanted replicas and a new target are
    seen as late, so there nothing is taken off and the interval reaches r further on both sides.
    """
    link = evidence.path(service, "derive", f"startup@{role}")
    for source, words in ASKED_BY.items():
        known = instance_startups.filter(pl.col("asked_by") == source)
        times, resolution = _seconds(known, "asked"), _resolution(known)
        if times.size >= GROUP_MIN:
            text = (
                f"median of {times.size} births, each from {words} to its first request, "
                f"to within {resolution:.0f} s{_few_words(times.size)}{LEFT_OUT.get(source, '')}"
            )
            low, high = median_interval(times)
            seen_late = resolution if source in SEEN_LATE else 0.0
            value = float(np.median(times)) - resolution / 2.0 + seen_late / 2.0
            reason = Reason("measured", text, float(times.size), float(GROUP_MIN))
            ci = (max(0.0, low - resolution), high + seen_late)
            return Startup(
                role=role, value_s=max(0.0, value), ci=ci, births=times.size,
                status="ok", reason=reason, source=source, evidence=link,
            )  # fmt: skip
    count, least = instance_startups.height, float(GROUP_MIN)
    asked = instance_startups["asked"].count()
    if count == 0:
        return _refused(role, Reason("no_births", f"no {role} instance came while recording"), 0, link)
    if count < GROUP_MIN or asked:
        with_request = f", {asked} of them with the time they were asked for" if asked < count else ""
        text = f"only {count} {role} instances came while recording{with_request}"
        return _refused(role, Reason("few_births", text, float(asked), least), count, link)
    times = _seconds(instance_startups, "first_sample") - _resolution(instance_startups)
    text = (
        f"{count} {role} instances came, but nothing says when they were asked for: from an instance's first "
        "sample to its first request is a lower bound, and no start-up time"
    )
    reason = Reason("not_asked", text, float(count), least)
    least_s = float(np.median(times))
    if least_s <= 0.0:
        return _refused(role, reason, count, link)
    low, high = median_interval(times)
    return Startup(
        role=role, value_s=least_s, ci=(max(0.0, low), high), births=count, status="floor",
        reason=replace(reason, text=text + _few_words(count)), source="", evidence=link,
    )  # fmt: skip


def _refused(role: str, reason: Reason, instance_startups: int, link: str) -> Startup:
    return Startup(
        role=role,
        value_s=None,
        ci=None,
        births=instance_startups,
        status="refused",
        reason=reason,
        source="",
        evidence=link,
    )


def _seconds(instance_startups: pl.DataFrame, since: str) -> Floats:
    """Return the seconds from a moment to the first request, sorted, without those that lack the moment."""
    spans = (
        (instance_startups["first_served"] - instance_startups[since]).drop_nulls().dt.total_microseconds()
    )
    return np.sort(spans.to_numpy() / 1e6)


def _resolution(instance_startups: pl.DataFrame) -> float:
    """Return the median time between the samples that starts were read off [s], 0 where unknown."""
    spacing = instance_startups["resolution_s"].drop_nulls().to_numpy()
    return float(np.median(spacing)) if spacing.size else 0.0


def median_interval(values: Floats) -> Interval:
    """Return the 95 % interval of a median from order statistics, whatever the law of the values.

    The k-th smallest and k-th largest with the largest k that keeps P(Binomial(n, ½) < k) ≤ 2.5 %; under six
    values there is none and the whole range, which holds the median with probability 1 − 2^(1−n), is given
    (David and Nagaraja 2003, Order Statistics, 7.1).

    Parameters
    ----------
    values
        Sorted, at least one.
    """
    below = bdtr(np.arange(values.size), values.size, 0.5)
    k = max(1, int(np.searchsorted(below, CLAIM_CHANCE / 2.0)))
    return float(values[k - 1]), float(values[-k])


def _few_words(count: int) -> str:
    """Return what an interval of a median of few is worth, as the rest of a sentence; of more nothing."""
    sure = range_holds_median(count)
    if sure >= 1.0 - CLAIM_CHANCE:
        return ""
    return f"; the interval is the range of all {count}, which holds the true median in {percent(sure)}"


def with_measured(settings: Settings, startups: Sequence[Startup]) -> Settings:
    """Return the settings with measured start-up times where the user gave none."""
    measured = {one.role: one.value_s for one in startups if one.status == "ok" and one.value_s is not None}
    return replace(settings, startup_s=measured | settings.startup_s)
