"""Capacity and ratio from profiles of one prefill and one decode instance, interpolated, never snapped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from hs_analysis.derive.constants import OUTSIDE_MAX
from hs_analysis.schema.arrays import Floats
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Reason
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import ProfileRatio

PAIR_COLUMNS = ("capture", "model", "engine", "precision")
"""Columns in which the two profiles of a pair agree."""


@dataclass(frozen=True)
class Decode:
    """Decode times of one context length, over the KV tokens held.

    Attributes
    ----------
    context
        Tokens of one sequence.
    held
        KV tokens held by the instance, rising [tokens]: tokens/s · time between tokens · context (Little).
    tbt_s
        Time between tokens, made rising [s].
    """

    context: float
    held: Floats
    tbt_s: Floats


@dataclass(frozen=True)
class Profile:
    """Surfaces of one prefill and one decode instance.

    Attributes
    ----------
    name
        What the profiles have in common.
    isl, ttft_s, prefill_tps
        Prompt lengths, rising [tokens]; time of one prompt [s] and prompt tokens/s there.
    decode
        Decode times per context length, rising.
    gpu_type
        Its GPU type, None where the rows name none.
    """

    name: str
    isl: Floats
    ttft_s: Floats
    prefill_tps: Floats
    decode: tuple[Decode, ...]
    gpu_type: str | None = None


def profiles_of(bench: pl.DataFrame) -> tuple[Profile, ...]:
    """Return the profiles in benchmark rows of the kinds ``prefill`` and ``decode``, per GPU type.

    Prefill and decode of one capture, model, engine and precision make a pair; a row without a GPU type goes
    with any. Of several batches of one length the fastest counts. Context lengths with one decode point are
    left out: nothing can be interpolated along them.
    """
    found = []
    for key, group in sorted(bench.group_by(PAIR_COLUMNS), key=lambda one: tuple(map(str, one[0]))):
        prefill, decode = (group.filter(pl.col("kind") == kind) for kind in ("prefill", "decode"))
        types = sorted({*prefill["prefill_gpu_type"].drop_nulls(), *decode["decode_gpu_type"].drop_nulls()})
        for gpu in types or [None]:
            made = _profile(key, gpu, _of(prefill, "prefill", gpu), _of(decode, "decode", gpu))
            found += [made] if made is not None else []
    return tuple(found)


def _of(rows: pl.DataFrame, role: str, gpu: str | None) -> pl.DataFrame:
    column = pl.col(f"{role}_gpu_type")
    return rows if gpu is None else rows.filter(column.is_null() | (column == gpu))


def _profile(
    key: Sequence[object], gpu: str | None, prefill: pl.DataFrame, decode: pl.DataFrame
) -> Profile | None:
    lengths = (
        prefill.drop_nulls(["isl", "prefill_tps", "ttft_mean_s"])
        .sort("isl", "prefill_tps", descending=[False, True])
        .unique("isl", keep="first", maintain_order=True)
    )
    held = pl.col("decode_tps") * pl.col("tbt_mean_s") * pl.col("context_tokens")
    points = decode.drop_nulls(["context_tokens", "decode_tps", "tbt_mean_s"]).with_columns(held=held)
    curves = []
    for (context,), one in sorted(points.group_by("context_tokens"), key=lambda part: part[0][0]):
        if one["held"].n_unique() > 1:
            curve = one.sort("held")
            rising = np.maximum.accumulate(curve["tbt_mean_s"].to_numpy())
            curves.append(Decode(float(context), curve["held"].to_numpy(), rising))
    if lengths.height < 2 or not curves:
        return None
    name = " · ".join(str(part) for part in (*key, gpu) if part) or "one instance"
    isl, ttft, tps = (lengths[column].to_numpy() for column in ("isl", "ttft_mean_s", "prefill_tps"))
    return Profile(name, isl, ttft, tps, tuple(curves), gpu)


def prefill_rate(profile: Profile, isl: Floats, limit_s: float | None = None) -> Floats:
    """Return prompt tokens/s at some prompt lengths, NaN outside the profile.

    0 where even one prompt alone takes longer than the limit: no load keeps it.
    """
    rate = np.interp(isl, profile.isl, profile.prefill_tps, left=np.nan, right=np.nan)
    if limit_s is None:
        return rate
    alone = np.interp(isl, profile.isl, profile.ttft_s, left=np.nan, right=np.nan)
    return np.where(alone > limit_s, 0.0, rate)


def decode_rate(profile: Profile, context: Floats, limit_s: float | None = None) -> Floats:
    """Return the most output tokens/s at some context lengths with the time between tokens in its limit.

    Between two profiled contexts the time at equal KV tokens held is interpolated in 1 ÷ context, because a
    step reads what is held and works once per sequence (held ÷ context of them); the most tokens that keep
    the limit give tokens/s = held ÷ (context · time). NaN outside the profile, 0 where the limit holds for no
    batch that was profiled.
    """
    return np.array([_decode_at(profile.decode, float(one), limit_s) for one in np.atleast_1d(context)])


def _decode_at(curves: Sequence[Decode], context: float, limit_s: float | None) -> float:
    contexts = [curve.context for curve in curves]
    if not contexts[0] <= context <= contexts[-1]:
        return math.nan
    above = int(np.searchsorted(contexts, context))
    low, high = curves[max(above - 1, 0)] if contexts[above] != context else curves[above], curves[above]
    span = 1.0 / low.context - 1.0 / high.context
    way = (1.0 / low.context - 1.0 / context) / span if span > 0 else 0.0
    held = np.unique(np.concatenate([low.held, high.held]))
    held = held[(held >= max(low.held[0], high.held[0])) & (held <= min(low.held[-1], high.held[-1]))]
    if not held.size:
        return math.nan
    tbt = (1.0 - way) * np.interp(held, low.held, low.tbt_s) + way * np.interp(held, high.held, high.tbt_s)
    if limit_s is None:
        return float((held / (context * tbt)).max())
    if tbt[0] > limit_s:
        return 0.0
    keeps = int(np.searchsorted(tbt, limit_s, side="right"))
    if keeps == held.size:
        return float((held / (context * tbt)).max())
    share = (limit_s - tbt[keeps - 1]) / (tbt[keeps] - tbt[keeps - 1])
    most = held[keeps - 1] + share * (held[keeps] - held[keeps - 1])
    inside = held[:keeps] / (context * tbt[:keeps])
    return float(max(inside.max(), most / (context * limit_s)))


def context_of(isl: Floats, osl: Floats) -> Floats:
    """Return the mean context of a sequence while it is decoded: its prompt and half of its answer."""
    return isl + 0.5 * osl


def profile_ratio(
    profile: Profile, isl: Floats, osl: Floats, slo: Slo, *, context: Floats | None = None
) -> ProfileRatio:
    """Return capacities and ratio that a profile gives for some requests.

    r = Σ ISL ÷ prefill rate ÷ (Σ OSL ÷ decode rate): instance-seconds of prefill per instance-second of
    decode. No queue and no KV transfer is in a profile, so a capacity is an upper bound of what a loaded pool
    keeps its limit at.

    Parameters
    ----------
    profile
        The surfaces.
    isl, osl
        Computed prompt tokens and output tokens of each request, shape (requests,).
    slo
        Limits; a limit that is None does not bind.
    context
        Context length at which each request is decoded; prompt and half of the answer unless given.

    Returns
    -------
    Refused where more than 5 % of the requests lie outside the grid (``outside_grid``, with the share), or
    where a limit holds for no load (``limit_below_profile``); nothing is extrapolated.
    """
    at = context_of(isl, osl) if context is None else context
    prefill, decode = prefill_rate(profile, isl, slo.ttft_s), decode_rate(profile, at, slo.tbt_s)
    inside = np.isfinite(prefill) & np.isfinite(decode)
    outside = float(1.0 - inside.mean()) if inside.size else 1.0
    base = ProfileRatio(
        name=profile.name,
        isl=float(isl.mean()) if isl.size else None,
        osl=float(osl.mean()) if osl.size else None,
        requests=isl.size,
        outside_ratio=outside,
        ttft_s=slo.ttft_s,
        tbt_s=slo.tbt_s,
    )
    if not inside.any():
        return replace(base, reason=_outside(profile, outside))
    if (prefill[inside] <= 0).any() or (decode[inside] <= 0).any():
        short = "TTFT" if (prefill[inside] <= 0).any() else "TBT"
        text = f"even an idle instance breaks the limit on {short} for some of these requests"
        return replace(base, reason=Reason("limit_below_profile", text))
    busy_prefill = float((isl[inside] / prefill[inside]).sum())
    busy_decode = float((osl[inside] / decode[inside]).sum())
    ratio = busy_prefill / busy_decode
    base = replace(base, inside_ratio=ratio)
    if outside > OUTSIDE_MAX:
        return replace(base, reason=_outside(profile, outside, ratio))
    return replace(
        base, status="ok", ratio=ratio, prefill_tps=float(isl[inside].sum()) / busy_prefill,
        decode_tps=float(osl[inside].sum()) / busy_decode,
    )  # fmt: skip


def _outside(profile: Profile, share: float, ratio: float | None = None) -> Reason:
    grid = (
        f"prompts of {profile.isl[0]:,.0f} to {profile.isl[-1]:,.0f} tokens and contexts of"
        f" {profile.decode[0].context:,.0f} to {profile.decode[-1].context:,.0f}"
    )
    rest = "" if ratio is None else f"; those inside ask for {ratio:.2f} prefill per decode"
    text = f"{percent(share, whole=True)} of the requests lie outside what was profiled ({grid}){rest}"
    return Reason("outside_grid", text, share, OUTSIDE_MAX)
