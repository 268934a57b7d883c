"""What becomes of each sample of a series: stored, an exact copy, a contradiction, or held better elsewhere.

The reference queries ``ingest/deduplicate``, ``ingest/fates`` and ``ingest/conflicts`` of the tests say
the same in SQL, one series among all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hs_analysis.ingest.raw import FLAGS
from hs_analysis.ingest.staging import Samples

FATES = ("stored", "duplicate", "conflict", "superseded")
STORED, DUPLICATE, CONFLICT, SUPERSEDED = range(len(FATES))

_FLAG_ORDER = np.argsort(np.argsort([flag or "~" for flag in FLAGS]))
"""Rank of a flag by its text; a value that is there comes last."""

Span = tuple[int, int]
"""First and last time [us], both included."""


@dataclass(frozen=True)
class Judged:
    """The verdict on one series: fate codes of the samples as read, and the stored ones in time order."""

    fates: np.ndarray
    stored: np.ndarray


def judge(samples: Samples, covered: dict[int, Sequence[Span]], on_conflict: str) -> Judged:
    """Return the fate of every sample.

    Parameters
    ----------
    samples
        Samples of one series.
    covered
        File number → spans in which a more faithful file holds the same metric.
    on_conflict
        ``reject`` quarantines all sides of a contradiction; ``first``, ``last`` (by file) and ``max`` keep
        one, a value before a missing one.
    """
    t_us = samples.t_us
    fates = np.zeros(t_us.size, np.uint8)
    for file_no, spans in covered.items():
        own = samples.files == file_no
        for low, high in spans:
            fates[own & (t_us >= low) & (t_us <= high)] = SUPERSEDED
    live = np.flatnonzero(fates == STORED)
    if live.size == t_us.size and np.all(t_us[1:] > t_us[:-1]):
        return Judged(fates, live)
    order = live[np.lexsort((_FLAG_ORDER[samples.flags[live]], samples.files[live], t_us[live]))]
    first = np.diff(t_us[order], prepend=t_us[order[0]] - 1 if order.size else 0) != 0
    if order.size:
        _judge_copies(samples, order, first, on_conflict, fates)
    return Judged(fates, order[fates[order] == STORED])


def _judge_copies(
    samples: Samples, order: np.ndarray, first: np.ndarray, on_conflict: str, fates: np.ndarray
) -> None:
    """Mark copies and contradictions among samples in time order; ``first`` marks a new moment."""
    starts = np.flatnonzero(first)
    moment = np.cumsum(first) - 1
    values = samples.values[order]
    there = ~np.isnan(values)
    copies, present = np.bincount(moment), np.bincount(moment, there)
    low = np.minimum.reduceat(np.where(there, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(there, values, -np.inf), starts)
    differ = (copies > 1) & (present > 0) & ((present < copies) | (low != high))
    fates[order[~first]] = DUPLICATE
    torn = differ[moment]
    fates[order[torn]] = CONFLICT
    if on_conflict != "reject" and torn.any():
        fates[_kept(samples, order[torn], on_conflict)] = STORED


def _kept(samples: Samples, torn: np.ndarray, on_conflict: str) -> np.ndarray:
    """Return, of contradicting samples, the one each moment keeps."""
    values, files = samples.values[torn], samples.files[torn]
    missing = np.isnan(values)
    shown = np.where(missing, 0.0, values)
    wish = {"max": -shown, "last": -files}.get(on_conflict, files)
    order = torn[np.lexsort((shown, files, wish, missing, samples.t_us[torn]))]
    return order[np.flatnonzero(np.diff(samples.t_us[order], prepend=samples.t_us[order[0]] - 1))]
