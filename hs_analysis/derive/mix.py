"""The workload mix: prefill work per decode work, why it moves, and loads adjusted for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis.derive.capacity_laws import label_rows
from hs_analysis.derive.constants import (
    ELASTICITY_SD,
    MOVER_SHARE,
    STRETCH_COVERAGE,
    STRETCH_PARTS,
    TEST_STRETCHES,
)
from hs_analysis.derive.demand import cached_share
from hs_analysis.derive.noise import disjoint_means
from hs_analysis.derive.rows import RoleRows, capture_numbers, saturated_rows, work_of
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import (
    BLOCK_S,
    DECILES,
    DEMAND_QUANTILE,
    GROUP_MIN,
    HIGHEST_QUANTILE,
    MINUTE_ROWS_MIN,
    MIX_MOVED_RATIO,
    NEAR_SHARE,
)
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import FixedCost, Mover
from hs_analysis.schema.settings import Slo
from hs_analysis.statistics.constants import OPERATING_SHARE
from hs_analysis.statistics.noise import second_difference_noise

DRIFT_SPREAD = math.log(MIX_MOVED_RATIO)
"""Spread of ln mix (q90 − q10, noise taken off) above which no single ratio is right."""

NORMAL_DECILES = 2.56
"""q90 − q10 of a normal variable in standard deviations."""


@dataclass(frozen=True)
class Stretch:
    """One stretch of time: mean work per role [tokens/s] over rows in which no role is saturated."""

    capture: int
    start_s: float
    end_s: float
    prefill: float
    decode: float

    @property
    def mix(self) -> float:
        """Prefill tokens per decode token, NaN where either is unknown."""
        return self.prefill / self.decode if self.decode > 0 else math.nan


@dataclass(frozen=True)
class Mix:
    """Prefill work per decode work.

    Attributes
    ----------
    value
        Σ prefill work ÷ Σ decode work over common unsaturated rows: the load-weighted mix.
    draws
        The same in each bootstrap draw, NaN without rows.
    stretches
        All stretches in time order.
    busy
        Mix of the stretches with enough decode work.
    noise
        Standard deviation of ln mix of one stretch, NaN where it can't be estimated.
    spread
        q90 − q10 of ln mix over busy stretches with the noise taken off; NaN under three stretches.
    """

    value: float
    draws: Floats
    stretches: tuple[Stretch, ...]
    busy: Floats
    noise: float
    spread: float

    @property
    def moves(self) -> bool:
        """Whether the mix moves by more than a quarter between its deciles."""
        return self.spread > DRIFT_SPREAD


def stretch_rows(frame: ServiceFrame) -> int:
    """Return the rows of a stretch: an hour, or in a test 1/18 of the longest capture and at least 3."""
    if frame.kind == "production":
        return max(1, round(BLOCK_S / frame.window_s))
    longest = int(np.bincount(capture_numbers(frame)).max()) if frame.table.height else 0
    return max(GROUP_MIN, round(longest / TEST_STRETCHES))


def stretches_of(frame: ServiceFrame, prefill: Floats, decode: Floats) -> tuple[Stretch, ...]:
    """Return the stretches of a history; work is NaN in one that has too few rows with a value.

    Parameters
    ----------
    prefill, decode
        Work of each role, NaN in rows that don't count, shape (rows,).
    """
    rows, group, seconds = stretch_rows(frame), capture_numbers(frame), frame.seconds()
    out = []
    for number in np.unique(group):
        inside = np.flatnonzero(group == number)
        for first in range(0, inside.size, rows):
            part = inside[first : first + rows]
            p, d = _mean(prefill[part]), _mean(decode[part])
            end = seconds[part[-1]] + frame.window_s
            out.append(Stretch(int(number), float(seconds[part[0]]), float(end), p, d))
    return tuple(out)


def _mean(values: Floats) -> float:
    good = np.isfinite(values)
    return float(values[good].mean()) if good.mean() >= STRETCH_COVERAGE and good.any() else math.nan


def mix_of(frame: ServiceFrame, resamples: Integers) -> Mix | None:
    """Return the mix of a service with both pools, None without a row that shows both unsaturated."""
    prefill, decode = work_of(frame, "prefill")[0], work_of(frame, "decode")[0]
    common = np.isfinite(prefill) & np.isfinite(decode)
    common &= ~saturated_rows(frame, "prefill") & ~saturated_rows(frame, "decode")
    p, d = np.where(common, prefill, 0.0), np.where(common, decode, 0.0)
    if not d.sum() > 0 or not p.sum() > 0:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = p[resamples].sum(axis=1) / d[resamples].sum(axis=1)
    p, d = np.where(common, prefill, np.nan), np.where(common, decode, np.nan)
    stretches = stretches_of(frame, p, d)
    busy = _busy(stretches)
    noise = stretch_noise(frame, p, d)
    return Mix(float(np.nansum(p) / np.nansum(d)), draws, stretches, busy, noise, _spread(busy, noise))


def _busy(stretches: tuple[Stretch, ...]) -> Floats:
    decode = np.array([s.decode for s in stretches])
    mix = np.array([s.mix for s in stretches])
    known = np.isfinite(mix) & (mix > 0)
    if not known.any():
        return np.empty(0)
    busy: Floats = mix[known & (decode >= OPERATING_SHARE * np.quantile(decode[known], DEMAND_QUANTILE))]
    return busy


def stretch_noise(frame: ServiceFrame, prefill: Floats, decode: Floats) -> float:
    """Return the standard deviation of ln mix of one stretch, from second differences of its parts.

    Parts are 10-minute means in production and single windows in a pressure test; the noise of a stretch is
    theirs ÷ √ of parts.
    """
    rows = stretch_rows(frame)
    part = max(1, rows // STRETCH_PARTS) if frame.kind == "production" else 1
    group = capture_numbers(frame)
    with np.errstate(invalid="ignore", divide="ignore"):
        pieces = [
            np.log(p / d)
            for p, d in zip(
                disjoint_means(prefill, part, group), disjoint_means(decode, part, group), strict=True
            )
        ]
    return second_difference_noise(pieces) / math.sqrt(rows / part)


def _spread(busy: Floats, noise: float) -> float:
    if busy.size < GROUP_MIN:
        return math.nan
    low, high = np.quantile(np.log(busy), DECILES)
    scatter = NORMAL_DECILES * noise if math.isfinite(noise) else 0.0
    return math.sqrt(max(0.0, float(high - low) ** 2 - scatter**2))


def adjust_workload_mix(rows: RoleRows, slo: Slo) -> RoleRows:
    """Return the rows with loads adjusted to the mean mix, where the mix moves.

    A step of decode reads the KV memory of every sequence it holds: the longer prompts and answers are, the
    fewer tokens an instance decodes within a limit. A limit met only while requests were short says too much
    of the mean ones. With g = ln(tokens per request) about its load-weighted mean, capacity follows
    C · exp(γ g), and load · exp(−γ g) is the load at the mean mix. γ is fitted by a binomial fit of the share
    over the limit on ln load and g over all busy rows, because windows that violate see little of the mix; it
    lies in −1..0 for decode. For prefill no elasticity could be fitted (queueing and cost per prompt work
    against each other): γ = 0.

    What is left of the doubt, 0.2 · |mean g of violating rows|, becomes a term of the interval. Nothing
    changes where tokens per request are not known or move by less than a quarter between their deciles.
    """
    if rows.kind != "production":
        return rows
    labelled = label_rows(rows, slo, drop_recovery=True)
    tokens = rows.request_tokens
    known = labelled.kept & (rows.load > 0) & (tokens > 0)
    if not known.any() or not labelled.bad[known].any():
        return rows
    busy = known & (rows.load > NEAR_SHARE * np.quantile(rows.load[known], HIGHEST_QUANTILE))
    g = np.log(np.where(tokens > 0, tokens, np.nan))
    low, high = np.quantile(g[known], DECILES)
    if busy.sum() < MINUTE_ROWS_MIN or high - low <= DRIFT_SPREAD:
        return rows
    g -= float(np.average(g[known], weights=rows.load[known] * rows.instances[known]))
    elasticity = 0.0
    if rows.role == "decode":
        elasticity = _elasticity(np.log(rows.load[busy]), g[busy], rows.over[busy])
    off = abs(float(g[known & labelled.bad].mean()))
    return replace(rows, load=rows.load * np.exp(-elasticity * g), mix_sd=ELASTICITY_SD * off)


def _elasticity(x: Floats, g: Floats, share: Floats) -> float:
    """Return d ln capacity ÷ dg: −(slope in g) ÷ (slope in ln load) of the log odds, in −1..0."""
    import statsmodels.api as sm

    design = np.column_stack([np.ones(x.size), x - x.mean(), g])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with np.errstate(all="ignore"):
            try:
                fit = sm.GLM(share, design, family=sm.families.Binomial()).fit()
            except (ValueError, np.linalg.LinAlgError):
                return 0.0
    _, in_load, in_mix = (float(value) for value in fit.params)
    if not math.isfinite(in_load) or not math.isfinite(in_mix) or in_load <= 0.0:
        return 0.0
    return min(max(-in_mix / in_load, -1.0), 0.0)


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
    against the others is negative). Idle stretches are left out, and those without a hit rate where another
    has one; where none has, it counts as 0. Empty where a length is not in the input,
    with under three busy stretches, or where nothing moves.

    Parameters
    ----------
    frame
        The service, for its lengths.
    stretches
        Stretches of its mix.
    """
    busy = _busy_stretches(stretches)
    isl, osl, hit = (np.array(values) for values in zip(*(_lengths(frame, s) for s in busy), strict=True)) \
        if busy else (np.empty(0),) * 3  # fmt: skip
    hit = hit if np.isfinite(hit).any() else np.zeros(hit.size)
    known = np.isfinite(isl) & np.isfinite(osl) & np.isfinite(hit) & (isl > 0) & (osl > 0)
    if known.sum() < GROUP_MIN:
        return ()
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
    low, high = np.quantile(values, DECILES)
    return float(low), float(high)


def _busy_stretches(stretches: Sequence[Stretch]) -> list[Stretch]:
    known = [s for s in stretches if math.isfinite(s.mix)]
    if not known:
        return []
    least = OPERATING_SHARE * float(np.quantile([s.decode for s in known], DEMAND_QUANTILE))
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


LEAST_AGAINST = 0.005
"""Share of the movement against it that is told: what rounds to a per cent [ratio]."""


def movers_text(found: Sequence[Mover]) -> str:
    """Return which inputs moved the mix, in words; empty where it is not known.

    Shares that come to more than the whole are followed by those that moved against it.
    """
    named = [mover for mover in found if mover.share >= MOVER_SHARE]
    parts: list[str] = []
    for mover in named:
        of = " of the movement of the mix" if not parts else ""
        if mover.input == "hit_rate":
            values = f"{percent(mover.low, whole=True)} to {percent(mover.high, whole=True)}"
        else:
            values = f"{mover.low:,.0f} to {mover.high:,.0f} tokens"
        parts.append(f"{INPUTS[mover.input]} ({percent(mover.share, whole=True)}{of}, {values})")
    over = sum(mover.share for mover in named) > 1.0
    against = [
        f"{percent(-mover.share, whole=True)} by {INPUTS[mover.input]}"
        for mover in found
        if over and mover.share <= -LEAST_AGAINST
    ]
    less = f", less {' and '.join(against)}, which moved against them" if against else ""
    return " and ".join(parts) + less


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
    if len(known) < GROUP_MIN:
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
                name=name,
                ratio=ratio,
                extra_instance_hours=hold / follow - 1.0,
                sized_on_decode=sized_on_decode / follow - 1.0,
                short_share=float(work[short].sum() / work.sum()),
                worst_load=float(max(1.0, (need / ratio).max())),
            )
        )
    return tuple(out)
