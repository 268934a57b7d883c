"""Why a mix moves, and what a fixed ratio costs while it does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hs_analysis.derive.demand import cached_share
from hs_analysis.derive.load import capture_numbers
from hs_analysis.derive.mix import BUSY_SHARE, STRETCHES_MIN, Stretch
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import FixedCost, Mover

Floats = NDArray[np.float64]

MOVER_SHARE = 0.25
"""An input that explains at least this share of the movement is named [ratio]. Default of this project."""

STILL = 1e-9
"""Variance of ln mix below which nothing moved but rounding [1]."""

INPUTS: Mapping[str, str] = {
    "isl": "prompt length",
    "hit_rate": "share of cached prompt tokens",
    "osl": "output length",
}
"""Inputs of the mix, in words: x_P ÷ x_D = ISL · (1 − hit rate) ÷ OSL."""


def movers(frame: ServiceFrame, stretches: Sequence[Stretch]) -> tuple[Mover, ...]:
    """Return how much of the movement of ln mix each input explains, the largest first.

    ln mix = ln ISL + ln(1 − hit rate) − ln OSL, per stretch; the share of an input is the covariance of its
    term with the sum of the terms ÷ the variance of that sum, so that the shares add up to 1 (one that moves
    against the others is negative). Idle stretches are left out. Empty where a length is not in the input,
    with under three busy stretches, or where nothing moves.

    Parameters
    ----------
    frame
        The service, for its lengths.
    stretches
        Stretches of its mix.
    """
    busy = _busy(stretches)
    isl, osl, hit = (np.array(values) for values in zip(*(_lengths(frame, s) for s in busy), strict=True)) \
        if busy else (np.empty(0),) * 3  # fmt: skip
    known = np.isfinite(isl) & np.isfinite(osl) & (isl > 0) & (osl > 0)
    if known.sum() < STRETCHES_MIN:
        return ()
    hit = np.where(np.isfinite(hit), hit, 0.0)
    terms = {"isl": np.log(isl[known]), "hit_rate": np.log1p(-hit[known]), "osl": -np.log(osl[known])}
    plain = {"isl": isl[known], "hit_rate": hit[known], "osl": osl[known]}
    total = sum(terms.values(), np.zeros(int(known.sum())))
    spread = float(np.var(total))
    if not spread > STILL:
        return ()
    found = [
        Mover(name, float(np.cov(term, total, bias=True)[0, 1] / spread), *_ends(plain[name]))
        for name, term in terms.items()
    ]
    return tuple(sorted(found, key=lambda mover: -mover.share))


def _ends(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [0.1, 0.9])
    return float(low), float(high)


def _busy(stretches: Sequence[Stretch]) -> list[Stretch]:
    known = [s for s in stretches if math.isfinite(s.mix)]
    if not known:
        return []
    least = BUSY_SHARE * float(np.quantile([s.decode for s in known], 0.95))
    return [s for s in known if s.decode >= least]


def _lengths(frame: ServiceFrame, stretch: Stretch) -> tuple[float, float, float]:
    """Return prompt length, output length and hit rate of a stretch, NaN where unknown.

    Lengths are means over requests: windows weigh by the requests that arrived or finished in them.
    """
    seconds = frame.seconds()
    inside = (seconds >= stretch.start_s) & (seconds < stretch.end_s)
    inside &= capture_numbers(frame) == stretch.capture
    rate = frame.values("request_rate", "service")[inside]
    done = frame.values("finished_rate", "service")[inside]
    done = done if np.isfinite(done).any() else rate
    isl = _weighted(frame.values("input_length", "service")[inside], rate)
    osl = _weighted(frame.values("output_length", "service")[inside], done)
    cached = frame.values("cached_prompt_tps", "service")[inside]
    prompt = frame.values("prompt_tps", "service")[inside]
    return isl, osl, cached_share(cached, prompt)


def _weighted(values: Floats, weight: Floats) -> float:
    good = np.isfinite(values) & np.isfinite(weight) & (weight > 0)
    return float(np.average(values[good], weights=weight[good])) if good.any() else math.nan


def movers_text(found: Sequence[Mover]) -> str:
    """Return which inputs moved the mix, in words; empty where it is not known."""
    named = [mover for mover in found if mover.share >= MOVER_SHARE]
    parts = []
    for mover in named:
        low, high = (
            f"{v:.0%}" if mover.input == "hit_rate" else f"{v:,.0f}" for v in (mover.low, mover.high)
        )
        parts.append(f"{INPUTS[mover.input]} ({mover.share:.0%} of it, {low} to {high})")
    return " and ".join(parts)


def fixed_costs(
    stretches: Sequence[Stretch], scale: float, ratios: Mapping[str, float], headroom: float
) -> tuple[FixedCost, ...]:
    """Return what holding one ratio costs against following the mix, for each of some ratios.

    A stretch needs D ∝ its decode work and P = D · r_k with r_k = mix · scale. Holding r with both pools
    never short takes D · max(1, r_k ÷ r) · (1 + r) instances; sizing on decode alone takes D · (1 + r), and
    leaves prefill over its target where r_k > r, over its capacity where r_k · head-room > r. Instances are
    not rounded.

    Parameters
    ----------
    stretches
        Stretches of the mix; those without a mix are left out.
    scale
        Decode ÷ prefill work that one instance carries.
    ratios
        Ratios to hold, by name.
    headroom
        Share of capacity that a target uses [ratio].
    """
    known = [s for s in stretches if math.isfinite(s.mix)]
    if len(known) < STRETCHES_MIN:
        return ()
    need = np.array([s.mix * scale for s in known])
    work = np.array([s.decode * (s.end_s - s.start_s) for s in known])
    follow = float((work * (1.0 + need)).sum())
    out = []
    for name, ratio in ratios.items():
        hold = float((work * np.maximum(1.0, need / ratio) * (1.0 + ratio)).sum())
        sized_on_decode = float((work * (1.0 + ratio)).sum())
        short = need * headroom > ratio
        out.append(
            FixedCost(
                name, ratio, hold / follow - 1.0, sized_on_decode / follow - 1.0,
                float(work[short].sum() / work.sum()), float(max(1.0, (need / ratio).max())),
            )
        )  # fmt: skip
    return tuple(out)
