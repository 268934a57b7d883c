"""Sweeps of prefill/decode splits in captures and benchmarks: the best one measured, and those near it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from hs_analysis import evidence
from hs_analysis.derive.constants import INTEGER_TOTAL_MAX, LOADED_SHARE, NEAR_BEST, STEP_GAIN, STEP_RATIO
from hs_analysis.derive.mix import DRIFT_SPREAD
from hs_analysis.derive.ratio import integer_pairs
from hs_analysis.derive.rows import capture_numbers, limit_shares
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.arrays import Floats, Integers
from hs_analysis.schema.constants import GROUP_MIN, TEST_BACKLOG_S
from hs_analysis.schema.frames import SPLITS, empty
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Interval, Pair, Reason, SplitBeside
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import JudgedOn, SweepResult

Verdict = Literal["meets", "fails", "undecided", "unknown"]

SAME_RATIO = 1e-9
"""Rounding of a ratio that is at its limit: values just that far apart belong together [ratio]."""

WHOLE_OVER = 0.5
"""Instances above which a mean number of them rounds to one or more."""


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
    is_estimated
        Whether what it served follows from concurrency and latencies, and was not measured.
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
    is_estimated: bool = False

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
    text = "no backlog shows which role holds a split back, so the balance is not known from the splits"
    return Continuous(None, None, None, Reason("side_unknown", text))


def balance_of_peaks(best: Sequence[Trial]) -> Continuous | None:
    """Return the balance of splits whose limiting side nothing shows, from the shape of what they served.

    α and β are the highest decode tokens/s per prefill and per decode instance that any split reached, each a
    lower bound of what its role can do: an indication next to the best split measured, never in its place.
    None unless the best split lies inside the sweep, α comes from it or a split with less prefill, and β from
    it or one with more.

    Parameters
    ----------
    best
        The best trial of each split, best first.
    """
    known = sorted((t for t in best if t.decode_tps), key=lambda t: t.ratio)
    if len(known) < GROUP_MIN or best[0].pair in (known[0].pair, known[-1].pair):
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
    no limit costs anything: the share of requests inside the limits does not count here. None without an
    answer or a limit.
    """
    trials = [replace(trial, within=1.0) for trial in trials]
    with_all = best_of(trials, limits)
    if not with_all or not limits:
        return None
    now = with_all[0][0]
    gain = {}
    for limit in limits:
        found = best_of(trials, [other for other in limits if other != limit])
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
        near_ratio=near_ratio, between=_between(near_ratio, tested), load=best.load, label=best.label,
        neighbours=_beside(near_ratio, ranked, trials, limits), is_estimated=best.is_estimated,
        decides=decides(trials, limits), edge=_edge(best.pair, tested),
    )  # fmt: skip
    return _explained(_with_floors(_certified(base, best, limits), best), best)


def _with_floors(base: SweepResult, best: Trial) -> SweepResult:
    """Add what one instance of each pool of the best split carried, where it surely held the limits."""
    if base.status != "ok":
        return base
    return replace(
        base,
        prefill_tps_per_instance=None if best.prefill_tps is None else best.prefill_tps / best.prefill,
        decode_tps_per_instance=None if best.decode_tps is None else best.decode_tps / best.decode,
    )


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


def _between(near: Interval, tested: Sequence[Pair]) -> Interval | None:
    """Return the nearest splits tested on either side of those near the best, None where a side has none.

    What a split serves rises with its ratio until decode runs out and falls from there, so that the best
    ratio of all, tested or not, lies between them.
    """
    ratios = [prefill / decode for prefill, decode in tested]
    below = [ratio for ratio in ratios if ratio < near[0] * (1.0 - SAME_RATIO)]
    above = [ratio for ratio in ratios if ratio > near[1] * (1.0 + SAME_RATIO)]
    return (max(below), min(above)) if below and above else None


def _beside(
    near: Interval, ranked: Sequence[tuple[float, Trial]], trials: Sequence[Trial], limits: Sequence[str]
) -> tuple[SplitBeside, ...]:
    """Return the nearest splits tested on either side of those near the best, and how far they fall.

    Splits of one ratio count as the one that serves most. One of which nothing says what it served is left
    out.
    """
    best, known = ranked[0][0], {trial.pair: score for score, trial in ranked}
    broken = {trial.pair for trial in trials if trial.fails(limits)} - set(known)
    ratios = {pair: pair[0] / pair[1] for pair in (*known, *broken)}
    below = max((r for r in ratios.values() if r < near[0] * (1.0 - SAME_RATIO)), default=None)
    above = min((r for r in ratios.values() if r > near[1] * (1.0 + SAME_RATIO)), default=None)
    found = []
    for nearest in (below, above):
        if nearest is not None:
            same = [pair for pair, r in ratios.items() if math.isclose(r, nearest, rel_tol=SAME_RATIO)]
            pair = max(same, key=lambda one: (known.get(one, 0.0), -one[0]))
            found.append(SplitBeside(*pair, known[pair] / best if pair in known else None))
    return tuple(found)


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
        f"balance without an objective at {base.continuous:.2f},"
        f" {percent(apart, signed=True, whole=True)} against the best split measured ({best.ratio:.2f});"
        f" rounded to {total} instances it asks for {said}{few}"
    )
    return replace(base, pairs=tuple(pairs), disagreement=apart, disagreement_text=text)


TEST_COLUMNS = (
    "capture", "model", "engine", "precision", "prefill_gpu_type", "decode_gpu_type", "cached_ratio", "isl",
    "osl",
)  # fmt: skip
"""Columns in which the points of one ratio test agree."""

QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"))
"""Quantiles that a benchmark point may state, and the names of their columns."""

TIGHTER = (1.0, 0.8, 0.6, 0.4)
"""Shares of the limit on TBT at which a ratio test is judged too: how far a tighter limit moves the ratio.
Default of this project."""


@dataclass(frozen=True)
class RatioTest:
    """The points of one ratio test: what they agree in, and their rows of the contract ``bench``."""

    base: SweepResult
    points: pl.DataFrame


def ratio_tests(bench: pl.DataFrame) -> Iterator[RatioTest]:
    """Yield the ratio tests in benchmark points, by name.

    A ratio test is all points with separate prefill and decode, at least one instance of both, that agree in
    capture, model, engine, precision, GPU types, share of cached tokens and lengths; points that name no
    model also agree in their series. The parallel layout and the size of an instance may differ: a sweep
    chooses among layouts too, and is then judged per GPU.
    """
    points = bench.filter(
        pl.col("kind") == "point",
        *(pl.col(f"{role}_instances") > WHOLE_OVER for role in ("prefill", "decode")),
    )
    keys = [*TEST_COLUMNS, pl.when(pl.col("model").is_null()).then("series").alias("own_series")]
    for key, group in sorted(points.group_by(keys), key=lambda found: tuple(map(str, found[0]))):
        named = dict(zip((*TEST_COLUMNS, "own_series"), key, strict=True))
        name = _name(named)
        base = SweepResult(
            name=name, source="bench", model=named["model"], isl=named["isl"], osl=named["osl"],
            evidence=evidence.path(name, "derive", _what(named["isl"], named["osl"])),
        )  # fmt: skip
        yield RatioTest(base, group.sort("prefill_instances", "decode_instances", "concurrency", "series"))


def _what(isl: float | None, osl: float | None) -> str:
    return f"sweep:{isl or 0:.0f}+{osl or 0:.0f}"


def _name(named: Mapping[str, Any]) -> str:
    gpus = {named["prefill_gpu_type"], named["decode_gpu_type"]} - {None}
    parts = [named["capture"], named["own_series"], named["model"], named["engine"], named["precision"]]
    return " · ".join([*(str(part) for part in parts if part), *sorted(gpus)]) or "unnamed"


def trials_of(points: pl.DataFrame, slo: Slo) -> tuple[Trial, ...]:
    """Return the trials of benchmark points, in their order.

    A latency is judged by its quantile of the objective, else by a higher one that was stated (which can
    only be stricter), else by its mean.
    """
    return tuple(_bench_trial(row, slo) for row in points.iter_rows(named=True))


def _bench_trial(row: Mapping[str, Any], slo: Slo) -> Trial:
    ttft, by_mean = _bench_verdict(row, "ttft", slo)
    tbt, also = _bench_verdict(row, "tbt", slo)
    gpus = (row["prefill_gpus"], row["decode_gpus"])
    load = row["request_rate"] if row["request_rate"] is not None else row["concurrency"]
    return Trial(
        row["prefill_instances"], row["decode_instances"], None if None in gpus else gpus, load,
        row["decode_tps"], row["prefill_tps"], row["request_throughput"], ttft, tbt,
        mean_only=by_mean or also, label=row["series"],
        is_estimated=str(row["throughput_basis"] or "").startswith("estimated"),
    )  # fmt: skip


def _bench_verdict(row: Mapping[str, Any], latency: str, slo: Slo) -> tuple[Verdict, bool]:
    """Return whether the limit holds, and whether only the mean says so."""
    limit = slo.limit_s(latency)
    if limit is None:
        return "unknown", False
    stated = [
        (quantile, row[f"{latency}_{name}_s"])
        for quantile, name in QUANTILES
        if quantile >= slo.quantile - 1e-9 and row[f"{latency}_{name}_s"] is not None
    ]
    if stated:
        quantile, value = stated[0]
        exact = abs(quantile - slo.quantile) < 1e-9
        return ("meets" if value <= limit else "fails" if exact else "undecided"), False
    mean = row[f"{latency}_mean_s"]
    return ("unknown", False) if mean is None else ("meets" if mean <= limit else "fails", True)


def bench_sweeps(bench: pl.DataFrame, slo: Slo) -> tuple[tuple[SweepResult, ...], pl.DataFrame]:
    """Return the answers of all ratio tests in benchmark points, and their splits (contract ``splits``).

    Each test is judged under the limits given, on decode TPS alone, and, where a limit on TBT was given,
    under 0.8, 0.6 and 0.4 of it. Points of one split alone are no test: they are among the splits only.
    """
    results: list[SweepResult] = []
    tables: list[pl.DataFrame] = []
    for test in ratio_tests(bench):
        trials = trials_of(test.points, slo)
        tables.append(split_table(test.base, trials))
        if len({trial.pair for trial in trials}) < 2:
            continue
        for objective in _objectives(slo):
            limits = [name for name in ("ttft", "tbt") if objective.limit_s(name) is not None]
            base = replace(
                test.base, ttft_s=objective.ttft_s, tbt_s=objective.tbt_s, quantile=objective.quantile
            )
            results.append(answer(trials_of(test.points, objective), limits, base))
        results.append(answer(trials, (), test.base))
    return tuple(results), pl.concat([empty(SPLITS), *tables])


def _objectives(slo: Slo) -> list[Slo]:
    if slo.tbt_s is None:
        return [slo] if slo.given else []
    return [replace(slo, tbt_s=round(slo.tbt_s * share, 9)) for share in TIGHTER]


def split_table(base: SweepResult, trials: tuple[Trial, ...]) -> pl.DataFrame:
    """Return the trials of one test as rows of the contract ``splits``."""
    rows = [
        {
            "name": base.name, "source": base.source, "isl": base.isl, "osl": base.osl, "label": t.label,
            "prefill_instances": t.prefill, "decode_instances": t.decode, "ratio": t.ratio, "load": t.load,
            "prefill_tps": t.prefill_tps, "decode_tps": t.decode_tps,
            "request_throughput": t.request_throughput, "ttft": t.ttft, "tbt": t.tbt,
            "within_ratio": t.within, "limited": t.limited,
        }
        for t in trials
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=empty(SPLITS).schema)


@dataclass(frozen=True)
class LoadStep:
    """One load step of one capture: the rows of its loaded part, and the requests/s offered."""

    capture: int
    rows: Integers
    rate: float


def segments(counts: Floats) -> list[tuple[int, int]]:
    """Return the stretches (first, end) of a series of Poisson counts between changes of its rate.

    Binary segmentation: a stretch is cut where the two rates gain more than 12 nats of likelihood and lie a
    factor of 1.15 apart. NaN counts belong to no rate and are skipped over.
    """
    open_, out = [(0, counts.size)], []
    while open_:
        first, end = open_.pop()
        cut = _cut(counts[first:end])
        if cut is None:
            out.append((first, end))
        else:
            open_ += [(first, first + cut), (first + cut, end)]
    return sorted(out)


def _cut(counts: Floats) -> int | None:
    known = np.isfinite(counts)
    total, rows = np.where(known, counts, 0.0).cumsum(), known.cumsum()
    best, at = STEP_GAIN, None
    for cut in range(1, counts.size):
        left, right = total[cut - 1], total[-1] - total[cut - 1]
        n, m = int(rows[cut - 1]), int(rows[-1] - rows[cut - 1])
        if n == 0 or m == 0 or left + right == 0:
            continue
        gain = _log(left, n) + _log(right, m) - _log(left + right, n + m)
        low, high = sorted((left / n, right / m))
        if gain > best and high >= STEP_RATIO * low:
            best, at = gain, cut
    return at


def _log(count: float, rows: int) -> float:
    return count * math.log(count / rows) if count > 0 else 0.0


def steps_of(frame: ServiceFrame) -> tuple[LoadStep, ...]:
    """Return the load steps of every capture; stretches of under three windows are none."""
    rate, group = frame.values("request_rate", "service"), capture_numbers(frame)
    served = frame.values("decode_tps", "decode")
    found = []
    for number in np.unique(group):
        inside = np.flatnonzero((group == number) & np.isfinite(rate) & np.isfinite(served))
        for first, end in segments(rate[inside] * frame.window_s):
            rows = inside[first:end]
            rows = rows[math.ceil((1.0 - LOADED_SHARE) * rows.size) :]
            if end - first >= GROUP_MIN:
                found.append(LoadStep(int(number), rows, float(rate[rows].mean())))
    return tuple(found)


def chained(values: Sequence[float], ratio: float) -> list[int]:
    """Return a cluster number per value, by size: sorted neighbours up to `ratio` apart belong together."""
    if not values:
        return []

    from sklearn.cluster import DBSCAN  # takes a second to load, and few runs hold a ratio test

    order = np.argsort(values, kind="stable")
    logs = np.log(np.maximum(np.asarray(values, float)[order], np.finfo(float).tiny))
    reach = math.log(ratio) * (1.0 + SAME_RATIO)
    numbers = np.empty(order.size, np.int64)
    numbers[order] = DBSCAN(eps=reach, min_samples=1).fit_predict(logs[:, None])
    return [int(number) for number in numbers]


@dataclass(frozen=True)
class MixGroup:
    """Captures of one token mix: their numbers, and mean prompt and output length [tokens]."""

    captures: tuple[int, ...]
    isl: float
    osl: float


def mix_groups(frame: ServiceFrame) -> tuple[MixGroup, ...]:
    """Return the captures by token mix: lengths of one mix are up to 25 % apart."""
    group = capture_numbers(frame)
    length = [frame.values(name, "service") for name in ("input_length", "output_length")]
    means = {
        int(n): tuple(float(np.nanmedian(x[group == n])) for x in length)
        for n in np.unique(group)
        if all(np.isfinite(x[group == n]).any() for x in length)
    }
    numbers = list(means)
    apart = math.exp(DRIFT_SPREAD)
    keys = list(zip(*(chained([means[n][i] for n in numbers], apart) for i in (0, 1)), strict=True))
    found = []
    for key in sorted(set(keys)):
        inside = tuple(n for n, k in zip(numbers, keys, strict=True) if k == key)
        isl, osl = (float(np.median([means[n][i] for n in inside])) for i in (0, 1))
        found.append(MixGroup(inside, isl, osl))
    return tuple(found)


def capture_sweeps(frame: ServiceFrame, slo: Slo) -> tuple[tuple[SweepResult, ...], pl.DataFrame]:
    """Return the ratio tests in a service's captures, and their splits (contract ``splits``).

    A test is two captures or more of one token mix with different splits. Splits compete within one load
    level: under the limits at the level at which the best split serves most within them, on decode TPS alone
    at the highest level that two splits saw. The continuous ratio is read from all levels. Steps are left out
    whose split is not known or lacks a pool, and captures whose output has no length.

    Parameters
    ----------
    frame
        The service.
    slo
        The limits.
    """
    if not {"prefill", "decode"} <= set(frame.pools) or len(frame.captures()) < 2:
        return (), empty(SPLITS)
    steps = steps_of(frame)
    results: list[SweepResult] = []
    tables = [empty(SPLITS)]
    for mix in mix_groups(frame):
        tried = {id(step): _trial(frame, step, mix, slo) for step in steps if step.capture in mix.captures}
        trials = {number: trial for number, trial in tried.items() if trial is not None}
        own = [step for step in steps if id(step) in trials]
        if len({t.pair for t in trials.values()}) < 2:
            continue
        levels = _levels(own, trials)
        if not levels:
            continue
        name = f"sweep:{mix.isl:.0f}+{mix.osl:.0f}"
        base = SweepResult(
            name=frame.service,
            source="captures",
            isl=mix.isl,
            osl=mix.osl,
            evidence=evidence.path(frame.service, "derive", name),
        )
        results += _answers(levels, base, slo)
        tables.append(split_table(base, tuple(trials[id(step)] for step in own)))
    return tuple(results), pl.concat(tables)


def _levels(steps: Sequence[LoadStep], trials: Mapping[int, Trial]) -> list[tuple[Trial, ...]]:
    """Return the trials by load level, lowest first; levels that one split alone saw are left out."""
    numbers = chained([step.rate for step in steps], STEP_RATIO)
    found = []
    for number in sorted(set(numbers)):
        level = tuple(trials[id(step)] for step, n in zip(steps, numbers, strict=True) if n == number)
        if len({t.pair for t in level}) > 1:
            found.append(level)
    return found


def _answers(levels: Sequence[tuple[Trial, ...]], base: SweepResult, slo: Slo) -> list[SweepResult]:
    every = [trial for level in levels for trial in level]
    balance = continuous(every)
    limits = [name for name in ("ttft", "tbt") if slo.limit_s(name) is not None]
    out = []
    if limits:
        labelled = replace(base, ttft_s=slo.ttft_s, tbt_s=slo.tbt_s, quantile=slo.quantile)
        found = [answer(level, limits, labelled, balance=balance) for level in levels]
        best = max(found, key=lambda one: one.score or -1.0)
        out.append(replace(best, decides=decides(every, limits)))
    out.append(answer(levels[-1], (), base, balance=balance))
    return out


def _trial(frame: ServiceFrame, step: LoadStep, mix: MixGroup, slo: Slo) -> Trial | None:
    """Return what a step shows of its split, None where a pool's size is not known or rounds to none."""

    def mean(signal: str, role: str) -> float:
        values = frame.values(signal, role)[step.rows]
        return float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan

    p, d = (mean("instances", role) for role in ("prefill", "decode"))
    if not (p > WHOLE_OVER and d > WHOLE_OVER and mix.osl > 0):
        return None
    decode_tps, first = mean("decode_tps", "decode"), mean("first_token_rate", "service")
    prefill_tps = mean("prefill_tps_effective", "prefill")
    ttft, within_ttft = _slo_verdict(frame, step, "ttft", slo)
    tbt, within_tbt = _slo_verdict(frame, step, "tbt", slo)
    if ttft != "unknown" and _behind(frame, step) > 1.0 - slo.quantile:
        ttft = "fails"
    return Trial(
        p, d, None, step.rate, decode_tps, _known(prefill_tps), _known(_served(first, decode_tps, mix)),
        ttft, tbt, within_ttft * within_tbt, limited=_limited(frame, step),
        label=frame.captures()[step.capture],
    )  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _served(first_tokens: float, decode_tps: float, mix: MixGroup) -> float:
    """Return the requests/s a split finishes: output tokens by their mean length, at most first tokens."""
    return float(np.fmin(decode_tps / mix.osl, first_tokens))


def _behind(frame: ServiceFrame, step: LoadStep) -> float:
    """Return the share of arrivals by which first tokens stay behind, of rows that hold both."""
    arrived, first = (
        frame.values(name, "service")[step.rows] for name in ("request_rate", "first_token_rate")
    )
    known = np.isfinite(first) & np.isfinite(arrived)
    return float(1.0 - first[known].sum() / arrived[known].sum()) if arrived[known].any() else 0.0


def _slo_verdict(frame: ServiceFrame, step: LoadStep, latency: str, slo: Slo) -> tuple[Verdict, float]:
    """Return whether a limit holds in the step, and the share of samples inside it."""
    if slo.limit_s(latency) is None:
        return "unknown", 1.0
    shares = limit_shares(frame, "service", (latency,))
    least = _mean(shares.least[step.rows])
    if not math.isfinite(least):
        return "unknown", 1.0
    over = _mean(shares.over[step.rows])
    most = over if math.isfinite(over) else 1.0  # below the first edge nothing shows that it holds
    allowed = 1.0 - slo.quantile
    verdict: Verdict = "meets" if most <= allowed else "fails" if least > allowed else "undecided"
    return verdict, 1.0 - most


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _limited(frame: ServiceFrame, step: LoadStep) -> Literal["prefill", "decode"] | None:
    age = {
        role: float(np.median(np.nan_to_num(frame.values("backlog_age_s", role)[step.rows])))
        for role in ("prefill", "decode")
    }
    if age["prefill"] > TEST_BACKLOG_S and age["prefill"] > age["decode"]:
        return "prefill"
    return "decode" if age["decode"] > TEST_BACKLOG_S else None
