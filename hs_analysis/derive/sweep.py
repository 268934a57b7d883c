"""A sweep of splits: the best one that was measured, those near it, and the balance behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hs_analysis.derive.ratio import NEAR_BEST, integer_pairs
from hs_analysis.schema.results import Interval, Reason
from hs_analysis.schema.sweeps import JudgedOn, Pair, SweepResult

Verdict = Literal["meets", "fails", "undecided", "unknown"]

LEAST_PEAKS = 3
"""Fewest splits whose shape says anything of the balance: one on each side of the best."""

INTEGER_TOTAL_MAX = 10
"""Up to this many instances the best split is named first and the continuous ratio only explains it: whole
numbers are then far apart, and capacity per instance grows with the pool [instances]. Default of this
project, measured on simulated services."""


@dataclass(frozen=True)
class Trial:
    """One split under one load.

    Attributes
    ----------
    prefill, decode
        Instances.
    gpus
        (prefill, decode) GPUs, None where the input does not say.
    load
        Requests/s offered, or requests in flight; None where the input does not say.
    decode_tps, prefill_tps, request_throughput
        Served by all instances together [tokens/s, tokens/s, requests/s].
    ttft, tbt
        Whether the limit holds at the quantile; ``unknown`` without a limit or a measurement.
    within
        Share of requests and token gaps inside the limits, interpolated where a limit lies inside a bucket
        [ratio]: it may order splits, never certify one.
    mean_only
        Whether a latency was judged by its mean because its quantile was not measured.
    limited
        The role that holds the split back, by where its backlog sits; None where neither or unknown.
    label
        Capture or layout it comes from.
    """

    prefill: float
    decode: float
    gpus: tuple[float, float] | None = None
    load: float | None = None
    decode_tps: float | None = None
    prefill_tps: float | None = None
    request_throughput: float | None = None
    ttft: Verdict = "unknown"
    tbt: Verdict = "unknown"
    within: float = 1.0
    mean_only: bool = False
    limited: Literal["prefill", "decode"] | None = None
    label: str = ""

    @property
    def pair(self) -> Pair:
        """The split (P, D)."""
        return round(self.prefill), round(self.decode)

    @property
    def ratio(self) -> float:
        """Prefill ÷ decode instances."""
        return self.prefill / self.decode

    def per_unit(self, *, by_gpu: bool) -> float:
        """Return decode tokens/s per GPU, or per instance; NaN where they were not measured."""
        size = sum(self.gpus) if by_gpu and self.gpus else self.prefill + self.decode
        return math.nan if self.decode_tps is None else self.decode_tps / size

    def fails(self, limits: Sequence[str]) -> bool:
        """Whether any of these limits surely fails."""
        return any(getattr(self, limit) == "fails" for limit in limits)

    def meets(self, limits: Sequence[str]) -> bool:
        """Whether all of these limits surely hold."""
        return all(getattr(self, limit) == "meets" for limit in limits)


@dataclass(frozen=True)
class Continuous:
    """The ratio at which both roles run out together, or the side it lies on.

    Attributes
    ----------
    value
        β ÷ α: decode's served requests per instance over prefill's, where each limits a split.
    at_least, at_most
        Bound where every loaded split is limited by one role.
    reason
        Why there is no value.
    alpha, beta
        Requests/s of a prefill instance where prefill holds back, of a decode instance where decode does;
        None where neither split shows it.
    """

    value: float | None
    at_least: float | None
    at_most: float | None
    reason: Reason | None
    alpha: float | None = None
    beta: float | None = None


def by_gpu(trials: Sequence[Trial]) -> bool:
    """Whether splits must be compared per GPU: they say their GPUs, and these are not in proportion."""
    sizes = {(sum(t.gpus) / (t.prefill + t.decode)) if t.gpus else None for t in trials}
    return None not in sizes and len(sizes) > 1


def best_of(trials: Sequence[Trial], limits: Sequence[str]) -> list[tuple[float, Trial]]:
    """Return the best trial of each split with its score, best first.

    The score is decode tokens/s per unit, times the share inside the limits; trials that surely fail a limit
    are out. Ties go to more decode.

    Parameters
    ----------
    trials
        Trials of one token mix.
    limits
        Of ``ttft`` and ``tbt``, those that were given; none = judged on decode TPS alone.
    """
    per_gpu = by_gpu(trials)
    best: dict[Pair, tuple[float, Trial]] = {}
    for trial in trials:
        score = trial.per_unit(by_gpu=per_gpu) * (trial.within if limits else 1.0)
        if not math.isfinite(score) or trial.fails(limits):
            continue
        if trial.pair not in best or score > best[trial.pair][0]:
            best[trial.pair] = (score, trial)
    return sorted(best.values(), key=lambda found: (-found[0], found[1].ratio))


def continuous(trials: Sequence[Trial]) -> Continuous:
    """Return the continuous ratio of a sweep from where its backlogs sit.

    goodput(P, D) = min(αP, βD): α = median of served ÷ P over prefill-limited splits, β = median of
    served ÷ D over decode-limited ones, r = β ÷ α. With splits limited by one role only a bound:
    r ≥ (highest served ÷ D) ÷ α, or r ≤ β ÷ (highest served ÷ P).
    """
    served = [t for t in trials if t.request_throughput is not None and t.request_throughput > 0]
    alphas = [_rate(t) / t.prefill for t in served if t.limited == "prefill"]
    betas = [_rate(t) / t.decode for t in served if t.limited == "decode"]
    alpha, beta = (float(np.median(rates)) if rates else None for rates in (alphas, betas))
    if alpha is not None and beta is not None:
        return Continuous(beta / alpha, None, None, None, alpha, beta)
    if alpha is not None:
        text = "every loaded split waits for prefill: the balance lies at more prefill than any split tested"
        bound = max(_rate(t) / t.decode for t in served) / alpha
        return Continuous(None, bound, None, Reason("prefill_limits_all", text), alpha)
    if beta is not None:
        text = "every loaded split waits for decode: the balance lies at less prefill than any split tested"
        bound = beta / max(_rate(t) / t.prefill for t in served)
        return Continuous(None, None, bound, Reason("decode_limits_all", text), None, beta)
    text = "no backlog shows which role holds a split back, so the balance can't be told from the splits"
    return Continuous(None, None, None, Reason("side_unknown", text))


def balance_of_peaks(best: Sequence[Trial]) -> Continuous | None:
    """Return the balance of splits whose limiting side nothing shows, from the shape of what they served.

    α and β are the highest decode tokens/s per prefill and per decode instance that any split reached, each a
    lower bound of what its role can do: an indication, beside the best split measured, never in its place.
    None unless the best split lies inside the sweep, α comes from it or a split with less prefill, and β from
    it or one with more.

    Parameters
    ----------
    best
        The best trial of each split, best first.
    """
    known = sorted((t for t in best if t.decode_tps), key=lambda t: t.ratio)
    if len(known) < LEAST_PEAKS or best[0].pair in (known[0].pair, known[-1].pair):
        return None
    by_prefill = max(known, key=lambda t: (t.decode_tps or 0.0) / t.prefill)
    by_decode = max(known, key=lambda t: (t.decode_tps or 0.0) / t.decode)
    if not by_prefill.ratio <= best[0].ratio <= by_decode.ratio or by_prefill is by_decode:
        return None
    alpha = (by_prefill.decode_tps or 0.0) / by_prefill.prefill
    beta = (by_decode.decode_tps or 0.0) / by_decode.decode
    text = (
        f"no backlog shows which role holds a split back: from the highest rates per instance, {alpha:,.0f}"
        f" decode tokens/s for each of prefill ({by_prefill.pair[0]}P{by_prefill.pair[1]}D) and {beta:,.0f}"
        f" for each of decode ({by_decode.pair[0]}P{by_decode.pair[1]}D)"
    )
    return Continuous(beta / alpha, None, None, Reason("side_inferred", text))


def _rate(trial: Trial) -> float:
    return trial.request_throughput or 0.0


def decides(trials: Sequence[Trial], limits: Sequence[str]) -> str | None:
    """Return what holds the best split back: ``ttft``, ``tbt``, ``both`` or ``throughput``.

    The limit whose absence would let more be served; both where only leaving out both does, throughput where
    no limit costs anything. None without an answer or a limit.
    """
    with_all = best_of(trials, limits)
    if not with_all or not limits:
        return None
    now = with_all[0][0]
    gain = {}
    for limit in limits:
        rest = [replace(t, within=1.0) for t in trials]
        found = best_of(rest, [other for other in limits if other != limit])
        gain[limit] = found[0][0] - now
    free = best_of(trials, ())[0][0] - now
    if free <= (1.0 / NEAR_BEST - 1.0) * now:
        return "throughput"
    first = max(gain, key=lambda limit: gain[limit])
    return first if gain[first] > (1.0 / NEAR_BEST - 1.0) * now else "both"


def answer(
    trials: Sequence[Trial], limits: Sequence[str], base: SweepResult, *, balance: Continuous | None = None
) -> SweepResult:
    """Return the best measured split of one token mix, the splits within 3 % of it and what explains it.

    Parameters
    ----------
    trials
        Trials of the mix, of two splits or more; each split competes with its best one.
    limits
        Of ``ttft`` and ``tbt`` those that were given; none = judged on decode TPS alone.
    base
        Name, mix and limits of the sweep.
    balance
        Its continuous ratio; read from the trials unless given.
    """
    judged_on: JudgedOn = "slo" if limits else "decode_tps"
    found = balance if balance is not None else continuous(trials)
    tested = sorted({t.pair for t in trials}, key=lambda pair: pair[0] / pair[1])
    base = replace(
        base, judged_on=judged_on, tested=tuple(tested), continuous=found.value, at_least=found.at_least,
        at_most=found.at_most, continuous_reason=found.reason, unit=_unit(trials),
        prefill_rps=found.alpha, decode_rps=found.beta,
    )  # fmt: skip
    ranked = best_of(trials, limits)
    if not ranked:
        return replace(base, status="refused", reason=_nothing(trials, limits))
    score, best = ranked[0]
    if not limits and found.reason is not None and found.reason.code == "side_unknown":
        found = balance_of_peaks([t for _, t in ranked]) or found
        base = replace(base, continuous=found.value, continuous_reason=found.reason)
    near = tuple(t.pair for value, t in ranked if value >= NEAR_BEST * score)
    near_ratio = _range([t.ratio for value, t in ranked if value >= NEAR_BEST * score])
    base = replace(
        base, best=best.pair, ratio=best.ratio, gpu_ratio=_gpu_ratio(best), score=score, near=near,
        near_ratio=near_ratio, load=best.load, label=best.label, decides=decides(trials, limits),
        edge=_edge(best.pair, tested),
    )  # fmt: skip
    return _explained(_certified(base, best, limits), best)


def _unit(trials: Sequence[Trial]) -> str:
    return "decode tokens/s per GPU" if by_gpu(trials) else "decode tokens/s per instance"


def _nothing(trials: Sequence[Trial], limits: Sequence[str]) -> Reason:
    if not any(t.decode_tps is not None for t in trials):
        return Reason("no_throughput", "no split says how many output tokens per second it served")
    text = f"every split tested breaks the limit on {' and '.join(limit.upper() for limit in limits)}"
    return Reason("none_holds", text)


def _gpu_ratio(trial: Trial) -> float | None:
    return trial.gpus[0] / trial.gpus[1] if trial.gpus and trial.gpus[1] > 0 else None


def _range(values: Sequence[float]) -> Interval:
    return min(values), max(values)


def _edge(pair: Pair, tested: Sequence[Pair]) -> str | None:
    """Return on which edge of the sweep the best split lies: a better one may lie beyond it."""
    if pair == tested[0]:
        return "least_prefill"
    return "most_prefill" if pair == tested[-1] else None


def _certified(base: SweepResult, best: Trial, limits: Sequence[str]) -> SweepResult:
    if limits and not best.meets(limits):
        unsure = [limit.upper() for limit in limits if getattr(best, limit) != "meets"]
        missing = [limit for limit in limits if getattr(best, limit) == "unknown"]
        why = "was not measured" if missing else "lies inside a bucket of the histogram"
        text = (
            f"the best split by what is known; whether it holds is undecided, since the limit on"
            f" {' and '.join(unsure)} {why}"
        )
        return replace(base, status="undecided", reason=Reason("undecided_edge", text, best.within))
    if limits and best.mean_only:
        text = "latencies are means: the quantile of the objective was not measured"
        return replace(base, status="indicative", reason=Reason("mean_only", text))
    if base.edge:
        side = "less prefill" if base.edge == "least_prefill" else "more prefill"
        text = f"the best split is the edge of the sweep: one with {side} may be better still"
        return replace(base, status="ok", reason=Reason("edge_of_sweep", text))
    return replace(base, status="ok")


def _explained(base: SweepResult, best: Trial) -> SweepResult:
    """Add whole-number splits by the continuous ratio, and how far it is from the best measured one."""
    if base.continuous is None:
        return base
    total = round(best.prefill + best.decode)
    pairs: list[Pair] = list(integer_pairs(total, base.continuous))
    for other in (total - 1, total + 1):
        pairs += [pair for pair in integer_pairs(other, base.continuous)[:1] if pair not in pairs]
    apart = base.continuous / best.ratio - 1.0
    agrees = bool(pairs) and pairs[0] == best.pair
    said = "the same whole-number split" if agrees else f"another one ({pairs[0][0]}:{pairs[0][1]})"
    few = "; with so few instances the measured split comes first" if total <= INTEGER_TOTAL_MAX else ""
    text = (
        f"balance without an objective at {base.continuous:.2f}, {apart:+.0%} against the best split measured"
        f" ({best.ratio:.2f}); rounded to {total} instances it asks for {said}{few}"
    )
    return replace(base, pairs=tuple(pairs), disagreement=apart, disagreement_text=text)
