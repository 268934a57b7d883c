"""Bucket edges as the exporters ship them, and histograms of token gaps.

Edges: vLLM 0.33 and SGLang 0.5 from their metric sources, Dynamo 1.6 from the front end's /metrics page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from simulator.physics import GAP_SPREAD, Trace
from simulator.scrapes import Series, Target, bucketed, counted

Floats = NDArray[np.float64]

VLLM_TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160,
    640, 2560,
)  # fmt: skip
VLLM_GAP = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
VLLM_REQUEST = (
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip
SGLANG_TTFT = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)
SGLANG_GAP = (
    0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6,
    0.8, 1, 2, 4, 6, 8,
)  # fmt: skip
DYNAMO_TTFT = (0, 0.0022, 0.0047, 0.01, 0.022, 0.047, 0.1, 0.22, 0.47, 1, 2.2, 4.7, 10, 22, 48, 100, 220, 480)
DYNAMO_GAP = (
    0, 0.0018, 0.0033, 0.0059, 0.011, 0.02, 0.035, 0.064, 0.12, 0.21, 0.38, 0.69, 1.2, 2.3, 4.1, 7.4, 13, 24,
    44, 80,
)  # fmt: skip

BLOCK_S = 5
"""Seconds of one instance that share a step time in a histogram of gaps."""


@dataclass(frozen=True)
class Histogram:
    """Cumulative buckets (edges + 1, points), the last being +Inf, and the sum (points,), at each scrape."""

    buckets: Floats
    total: Floats


def of_events(time_s: Floats, value: Floats, edges: Sequence[float], sample_s: Floats) -> Histogram:
    """Return the histogram of values observed at moments; moments or values that are infinite never come."""
    seen = np.where(np.isfinite(value), time_s, np.inf)
    buckets = bucketed(seen, value, np.array(edges, dtype=float), sample_s)
    return Histogram(buckets, counted(seen, np.where(np.isfinite(value), value, 0.0), sample_s))


def of_gaps(
    trace: Trace, role: str, numbers: Sequence[int], edges: Sequence[float], sample_s: Floats
) -> Histogram:
    """Return the histogram of token gaps of some instances of a pool.

    The gaps of five seconds of an instance are log-normal about its step time; the expected counts are summed
    up and cut to whole numbers, so that buckets stay whole, rising, and below +Inf. The first gap of each
    request holds its hand-over and replaces one of the ordinary ones.
    """
    edge = np.array(edges, dtype=float)
    with np.errstate(divide="ignore"):
        log_edge = np.log(edge)
    expected, waited = np.zeros((edge.size + 1, sample_s.size + 1)), np.zeros(sample_s.size + 1)
    moments, lengths = [], []
    hand_over = trace.hand_over_s()
    for number in numbers:
        seconds, stay = trace.seconds[role][number], trace.stays[role]
        blocks = math.ceil(seconds.tokens.size / BLOCK_S)
        if blocks == 0:
            continue
        at = np.repeat(np.arange(blocks), BLOCK_S)[: seconds.tokens.size]
        tokens = np.bincount(at, weights=seconds.tokens, minlength=blocks)
        with np.errstate(invalid="ignore"):
            step = np.bincount(at, weights=seconds.tokens * seconds.gap_s, minlength=blocks) / tokens
        step = np.where(tokens > 0, step, 1.0)
        own = np.flatnonzero((stay.life == number) & np.isfinite(stay.start_s))
        begun = ((stay.start_s[own] - seconds.first) // BLOCK_S).astype(int)
        own, begun = own[begun < blocks], np.clip(begun[begun < blocks], 0, None)
        plain = np.maximum(tokens - np.bincount(begun, minlength=blocks), 0.0)
        point = np.searchsorted(sample_s, seconds.first + BLOCK_S * (1.0 + np.arange(blocks)), side="left")
        share = ndtr((log_edge[:, None] - np.log(step)) / GAP_SPREAD)
        for k, part in enumerate((*share, np.ones(blocks))):
            expected[k] += np.bincount(point, weights=plain * part, minlength=sample_s.size + 1)
        longer = step * math.exp(GAP_SPREAD**2 / 2.0)
        waited += np.bincount(point, weights=plain * longer, minlength=sample_s.size + 1)
        moments.append(stay.start_s[own] + step[begun])
        lengths.append(hand_over[own] + step[begun])
    first = of_events(np.concatenate([*moments, []]), np.concatenate([*lengths, []]), edges, sample_s)
    whole = np.floor(expected.cumsum(axis=1)[:, :-1] + 1e-9)
    return Histogram(whole + first.buckets, waited.cumsum()[:-1] + first.total)


def families(
    at: Target, name: str, found: Histogram, edges: Sequence[float], style: str, **labels: str
) -> list[Series]:
    """Return _bucket, _sum and _count of a histogram; ``style`` is how a client library writes edges.

    ``python`` writes 1.0, ``rust`` and ``go`` write 1; +Inf is the same everywhere.
    """
    written = [_edge(edge, style) for edge in edges] + ["+Inf"]
    rows = [
        at.series(f"{name}_bucket", bucket, **labels, le=edge)
        for bucket, edge in zip(found.buckets, written, strict=True)
    ]
    return [
        *rows,
        at.series(f"{name}_sum", found.total, **labels),
        at.series(f"{name}_count", found.buckets[-1], **labels),
    ]


def _edge(edge: float, style: str) -> str:
    return repr(float(edge)) if style == "python" else f"{edge:g}"
