"""Capacity of one instance at the SLO: the laws tried in order, the bracket, and the floor below them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_expit

from hs_analysis.derive import capacity_laws
from hs_analysis.derive.capacity_laws import (
    RULES,
    Bracket,
    Fitted,
    LabelledRows,
    attempt,
    binomial_fit,
    bracket,
    contradicted,
    doubtful_load,
    in_tail,
    label_rows,
    log_interval,
    shown_to_break,
    violating,
)
from hs_analysis.derive.constants import (
    BRACKET_WIDTH,
    CARRY_OVER_ROWS,
    END_SHARE,
    EVENTS_MIN,
    INDICATIVE,
    SYSTEMATIC_FEW,
    SYSTEMATIC_TEST,
    VIOLATING_MIN,
    WIDE,
)
from hs_analysis.derive.format import amount, capacity_reason, elsewhere
from hs_analysis.derive.mix import adjust_workload_mix
from hs_analysis.derive.rows import RoleRows, pressure_gate, production_gate, trailing_mean, was_full
from hs_analysis.schema.aligned import SERVED
from hs_analysis.schema.arrays import Floats, Integers, Mask
from hs_analysis.schema.constants import (
    APART_MAX,
    GROUP_MIN,
    HIGHEST_QUANTILE,
    MAJORITY,
    NORMAL_95,
    ROWS_MIN,
    TEST_VIOLATING_MIN,
)
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.results import Capacity, CapacityBasis, Interval, Reason, Status
from hs_analysis.schema.settings import Settings, Slo

PARTS = np.linspace(0.0, 1.0, 21)
"""Parts of a latency that may answer to the window before [ratio]."""


def with_carry_over(rows: RoleRows, slo: Slo) -> RoleRows:
    """Return the rows of a production history under the load that their latency answers to.

    A request that came at the end of a window is served in the next, and the queue it joined was made by
    those before it: on simulated services a third to a half of what a 60-s window answers to came in the one
    before. Read off its own load alone, part of what came by chance has no effect and blurs the law,
    whose average over chance then counts it twice: capacities came out 2 % low.

    The load is (1 − a) · own + a · the window before's, with the part a under which a binomial fit on ln load
    makes the violations likeliest; rows without a window before are no longer judged. Its chance is
    (1 − a)² + a² of a window's. Unchanged in a pressure test, whose loads are means already, and under ten
    violating windows.
    """
    if rows.kind != "production":
        return rows
    labelled = label_rows(rows, slo, drop_recovery=True)
    known = labelled.kept & (rows.load > 0) & (rows.earlier > 0)
    bad = labelled.bad[known]
    if bad.sum() < EVENTS_MIN:
        return rows
    load, earlier = rows.load[known], rows.earlier[known]
    tail = in_tail(np.log(load), bad)
    likely = [_likelihood(np.log((1.0 - a) * load + a * earlier)[tail], bad[tail]) for a in PARTS]
    part = float(PARTS[int(np.argmax(likely))])
    kept = (1.0 - part) ** 2 + part**2
    return replace(
        rows, load=(1.0 - part) * rows.load + part * rows.earlier, count_noise=kept * rows.count_noise
    )


def _likelihood(x: Floats, bad: Mask) -> float:
    """Return the log likelihood of a rising binomial fit of `bad` on `x`, -inf without one."""
    fit = binomial_fit(x, bad)
    if fit is None or fit[1] <= 0.0:
        return -np.inf
    odds = fit[0] + fit[1] * x
    return float(np.sum(log_expit(np.where(bad, odds, -odds))))


THIN_BELOW = {"production": VIOLATING_MIN, "pressure_test": TEST_VIOLATING_MIN}
"""Below this many violating windows a limit was touched, not met."""

GATES: dict[str, Callable[[RoleRows], Reason | None]] = {
    "production": production_gate,
    "pressure_test": pressure_gate,
}


@dataclass(frozen=True)
class CapacityFit:
    """A capacity with what the targets, the ratio and the detail tables need of it.

    Attributes
    ----------
    capacity
        The result.
    labelled
        The rows it rests on.
    draws
        Value in each bootstrap draw, NaN where it failed, shape (draws,).
    systematic
        Standard deviation of ln value beyond resampling.
    low, high
        Bounds of the true capacity, None where a side is open [tokens/s per instance].
    crossing
        The law's own answer, for the curve; None for brackets and floors.
    weighed
        The law's answer, where the capacity given is the safe end of an interval that only the histogram
        edges stretch [tokens/s per instance]; the draws are of it.
    """

    capacity: Capacity
    labelled: LabelledRows
    draws: Floats
    systematic: float = 0.0
    low: float | None = None
    high: float | None = None
    crossing: capacity_laws.Crossing | None = None
    weighed: float | None = None

    @property
    def value(self) -> float | None:
        """What pools are weighed by: the law's answer at the limit, else the number given."""
        return self.capacity.per_instance if self.weighed is None else self.weighed

    @property
    def is_known(self) -> bool:
        """Whether pools can be weighed at the limit itself."""
        return self.capacity.status == "ok" or self.weighed is not None


def fit_capacity(
    rows: RoleRows, settings: Settings, resamples: Integers, rng: np.random.Generator, evidence: str
) -> CapacityFit:
    """Return the capacity of one role over all its GPU types.

    Parameters
    ----------
    rows
        The role's rows.
    settings
        SLO.
    resamples
        Row numbers of each block-bootstrap draw, shape (draws, rows); shared by the roles.
    rng
        Source of the draws of a bracket.
    evidence
        Evidence path of the result.
    """
    rows = adjust_workload_mix(with_carry_over(rows, settings.slo), settings.slo)
    labelled = label_rows(rows, settings.slo, drop_recovery=rows.kind == "production")
    if not np.isfinite(rows.load).any():
        nothing = "no_prompt_tokens" if rows.role == "prefill" else "no_work"
        code = "no_load" if np.isfinite(rows.work).any() else nothing
        return _refused(labelled, capacity_reason(code, rows.role), resamples, evidence)
    if not rows.limits or not np.isfinite(rows.over).any():
        if rows.limits and np.isfinite(rows.over_least).any():
            return _below_first_edge(labelled, settings, resamples, evidence)
        code = "no_latency_histogram" if rows.limits else "no_slo"
        return _observed(labelled, capacity_reason(code, rows.role), resamples, evidence)
    gate = GATES[rows.kind](rows)
    if gate is not None:
        return _floor(labelled, settings, gate, _broken_at(labelled, settings.slo, None), resamples, evidence)
    answer, untold = _answer(labelled, settings, resamples), _quiet_in_bucket(labelled)
    if answer is None:
        broken_at = _broken_at(labelled, settings.slo, bracket(labelled, settings.slo))
        reason = untold or _why_not(labelled, settings.slo)
        return _floor(labelled, settings, reason, broken_at, resamples, evidence)
    undecided = _undecided_ratio(labelled, answer, settings.slo)
    if rows.alone or undecided is None:
        least = answer.low if isinstance(answer, Bracket) else answer.ci[0]
        undecided_edge = capacity_reason("undecided_edge", rows.role, ALL_IN_ONE)
        reason = capacity_reason("one_role", rows.role) if rows.alone else undecided_edge
        return _floor(labelled, settings, reason, least, resamples, evidence)
    if rows.hit_rate_unknown:
        least = answer.low if isinstance(answer, Bracket) else answer.ci[0]
        reason = capacity_reason("hit_rate_unknown", rows.role)
        return _floor(labelled, settings, reason, least, resamples, evidence)
    reading = _Reading(_reading_ratio(labelled, answer, settings.slo), undecided)
    if isinstance(answer, Bracket):
        fit = _bracketed(labelled, answer, reading, len(resamples), rng, evidence)
    else:
        fit = _fitted(labelled, answer, reading, evidence)
    return _at_lower_end(fit, untold) if untold is not None else _at_safe_end(fit, answer.width)


ALL_IN_ONE = "one bucket about the limit holds all samples"


def _quiet_in_bucket(labelled: LabelledRows) -> Reason | None:
    """Return why the buckets don't tell at which load the limit breaks: they count alike long before.

    Where the bucket that the limit cuts already holds most of the samples at the lowest loads, latency gets
    from there to the limit inside of it: no count of the histogram moves, the mean alone does, and how far
    single samples lie from it is not known.
    """
    rows, lowest = labelled.rows, _lowest_rows(labelled)
    inside = rows.in_bucket[lowest] if rows.in_bucket is not None else np.empty(0)
    edges = [edge for edge in rows.limit_edges if edge.low_s is not None and math.isfinite(edge.high_s)]
    share = float(inside[np.isfinite(inside)].mean()) if np.isfinite(inside).any() else 0.0
    if share <= MAJORITY or not edges or not labelled.bad.any():
        return None
    detail = f"its bucket holds {share:.0%} of the samples at the lowest loads already"
    return capacity_reason("undecided_edge", rows.role, detail, share, MAJORITY)


def _at_safe_end(fit: CapacityFit, own_width: float) -> CapacityFit:
    """Return a capacity whose interval is wider than the value as a floor at the interval's lower end.

    Such an interval says on which side of a load the limit lies, and no more: its middle is no capacity to
    take a share of. Pools are still weighed by it where only the reading between histogram edges stretches
    the interval, since a ratio is taken at the limit itself.

    Parameters
    ----------
    own_width
        Width of the interval without what the edges add, as a share of the value.
    """
    value, ci = fit.capacity.per_instance, fit.capacity.ci
    if value is None or ci is None or ci[1] - ci[0] <= value:
        return fit
    detail = (
        f"the interval, {ci[0]:,.0f} to {ci[1]:,.0f} tokens/s per instance, is wider than the value,"
        f" {value:,.0f}, so that its lower end is used"
    )
    reason = capacity_reason("cannot_fit", fit.capacity.role, detail, (ci[1] - ci[0]) / value, 1.0)
    lowered = _at_lower_end(fit, reason)
    return replace(lowered, draws=fit.draws, weighed=value) if own_width <= 1.0 else lowered


def _at_lower_end(fit: CapacityFit, reason: Reason) -> CapacityFit:
    """Return a capacity as a floor at the lower end of its interval."""
    value, ci = fit.capacity.per_instance, fit.capacity.ci
    if value is None or ci is None:
        return fit
    capacity = replace(
        fit.capacity, per_instance=ci[0], status="floor", reason=reason,
        method=f"{fit.capacity.method}, the lower end of its interval",
    )  # fmt: skip
    return replace(fit, capacity=capacity, draws=fit.draws * (ci[0] / value), low=ci[0])


def _answer(labelled: LabelledRows, settings: Settings, resamples: Integers) -> Fitted | Bracket | None:
    """Return the law or the bracket that answers, None where nothing does.

    The first law with an interval up to 30 % wide; else a bracket narrower than 15 % (30 % where it
    replaces a wider law); else the narrowest of the wide laws. In production none whose value the windows up
    to it contradict.
    """
    fitted, production = [], labelled.rows.kind == "production"
    for rule in RULES[labelled.rows.kind]:
        fit = attempt(rule, labelled, settings.slo, resamples)
        if fit is None or (production and contradicted(labelled, fit.crossing.load, settings.slo)):
            continue
        if fit.width <= WIDE:
            return fit
        fitted.append(fit)
    between = bracket(labelled, settings.slo) if production else None
    narrow = between is not None and between.width < (WIDE if fitted else BRACKET_WIDTH)
    if between is not None and narrow and not contradicted(labelled, between.value, settings.slo):
        return between
    return min(fitted, key=lambda fit: fit.width, default=None)


@dataclass(frozen=True)
class _Reading:
    """How far a capacity hangs on the way that shares between two histogram edges are read [ratio].

    Attributes
    ----------
    other
        Capacity by the next best reading ÷ the capacity; None where the limit lies on an edge.
    undecided
        Capacity with windows taken as within of which the buckets can't tell ÷ the capacity, at least 1.
    """

    other: float | None
    undecided: float

    @property
    def spread(self) -> float:
        """Distance of the next best reading in logs."""
        return abs(math.log(self.other)) if self.other is not None else 0.0

    def systematic(self, own: float) -> float:
        """Return a standard deviation of ln capacity with that of the reading in it."""
        return math.hypot(own, self.spread / NORMAL_95, math.log(self.undecided) / NORMAL_95)

    def widened(self, value: float, ci: Interval) -> Interval:
        """Return an interval widened by the distance of the next best reading, and by undecided windows."""
        below, above = (math.hypot(math.log(value / ci[0]), self.spread),
                        math.hypot(math.log(ci[1] / value), self.spread))  # fmt: skip
        return value * math.exp(-below), max(value * math.exp(above), value * self.undecided)


def _read_otherwise(
    labelled: LabelledRows, answer: Fitted | Bracket, share: Floats, slo: Slo
) -> float | None:
    """Return the capacity under another reading of the shares, None where nothing gives one.

    By the law of the answer, else by the next one that holds: a reading that has every load over the limit
    now and then leaves no rising odds, and still a quantile.
    """
    rows = replace(labelled.rows, over=share)
    again = label_rows(rows, slo, drop_recovery=rows.kind == "production")
    if isinstance(answer, Bracket):
        between = bracket(again, slo)
        return between.value if between is not None else None
    every = np.arange(again.kept.size)
    for rule in (answer.rule, *RULES[rows.kind]):
        crossing = rule.crossing(again, slo, every)
        if crossing is not None:
            return crossing.load
    return None


def _undecided_ratio(labelled: LabelledRows, answer: Fitted | Bracket, slo: Slo) -> float | None:
    """Return what windows of which the buckets can't tell may add to a capacity, None over 10 %.

    They count as over the limit. Taken as within, the capacity is at least as high; where that moves it by
    more, or leaves none, it rests on them.
    """
    rows = labelled.rows
    unsure = labelled.kept & labelled.bad & ~violating(rows.over_least, slo)
    if not unsure.any():
        return 1.0
    other = _read_otherwise(labelled, answer, rows.over_least, slo)
    moved = max(1.0, other / _value(answer)) if other is not None else math.inf
    return moved if moved <= 1.0 + APART_MAX else None


def _reading_ratio(labelled: LabelledRows, answer: Fitted | Bracket, slo: Slo) -> float | None:
    """Return capacity by the next best reading ÷ the capacity, None where no share was read between edges.

    Where that reading gives none, it is as far as the loads go: to the lowest where it has more windows over
    the limit, else to the highest.
    """
    rows = labelled.rows
    if not rows.between_edges:
        return None
    other = _read_otherwise(labelled, answer, rows.over_other, slo)
    if other is None:
        load = labelled.load[labelled.load > 0]
        more = violating(rows.over_other, slo).sum() > violating(rows.over, slo).sum()
        other = float(load.min() if more else load.max())
    return other / _value(answer)


def _value(answer: Fitted | Bracket) -> float:
    return answer.value if isinstance(answer, Bracket) else answer.crossing.load


def _why_not(labelled: LabelledRows, slo: Slo) -> Reason:
    """Tell apart a limit never met, with and without room, met too seldom, broken by more, and not pinned."""
    role, count = labelled.rows.role, labelled.bad_kept
    if int((labelled.bad & labelled.rows.labelled).sum()) == 0:
        if was_full(labelled.rows):
            return capacity_reason("kv_full", role)
        aside = int((violating(labelled.rows.over, slo) & ~labelled.rows.labelled).sum())
        none = capacity_reason("no_violations", role)
        return elsewhere(none, role, aside) if aside else none
    least = THIN_BELOW[labelled.rows.kind]
    if count < least:
        over = "1 window" if count == 1 else f"{count} windows"
        return capacity_reason("thin", role, f"{over} over the limit", float(count), float(least))
    quiet = labelled.kept & (labelled.rows.load <= np.median(labelled.load))
    now_and_then = labelled.bad[_lowest_rows(labelled)].mean() <= MAJORITY
    if labelled.rows.kind == "production" and now_and_then and shown_to_break(labelled, quiet, slo):
        share, allowed = float(labelled.bad[quiet].mean()), slo.allowed_window_share
        upto = amount(float(labelled.rows.load[quiet].max()), labelled.rows.unit)
        detail = f"{share:.0%} of the windows up to {upto} per instance, and {allowed:.0%} may"
        return capacity_reason("low_load_breaks", role, detail, share, allowed)
    return capacity_reason(
        "cannot_fit", role, f"{count} windows over it in {labelled.episodes} episodes", float(count)
    )


def _fitted(labelled: LabelledRows, fit: Fitted, reading: _Reading, evidence: str) -> CapacityFit:
    value = fit.crossing.load
    ci = reading.widened(value, fit.ci)
    capacity = _capacity(
        labelled, value, ci, "slo", _caveat(value, ci), fit.rule.name, evidence, fit.crossing.slope
    )
    capacity = replace(capacity, reading_ratio=reading.other)
    systematic = reading.systematic(fit.systematic)
    return CapacityFit(capacity, labelled, fit.draws, systematic, ci[0], ci[1], fit.crossing)


def _caveat(value: float, ci: Interval) -> Reason | None:
    """Say what a known capacity has against it: a wide interval."""
    width = (ci[1] - ci[0]) / value
    if width <= INDICATIVE:
        return None
    text = f"the interval is {percent(width, whole=True)} of the value wide: indicative only"
    return Reason("indicative", text, width, INDICATIVE)


def _bracketed(
    labelled: LabelledRows,
    between: Bracket,
    reading: _Reading,
    draws: int,
    rng: np.random.Generator,
    evidence: str,
) -> CapacityFit:
    ends, own = np.array([between.low, between.high]), math.hypot(SYSTEMATIC_FEW, labelled.rows.mix_sd)
    ci = reading.widened(between.value, log_interval(between.value, ends, own))
    capacity = _capacity(labelled, between.value, ci, "slo", _caveat(between.value, ci), "bracket", evidence)
    capacity = replace(capacity, reading_ratio=reading.other)
    inside = np.exp(rng.uniform(math.log(between.low), math.log(between.high), draws))
    return CapacityFit(capacity, labelled, inside, reading.systematic(own), ci[0], ci[1])


def _below_first_edge(
    labelled: LabelledRows, settings: Settings, resamples: Integers, evidence: str
) -> CapacityFit:
    """Return the most the pool carried within the first edge, with no claim on the limit below it.

    The capacity at that edge bounds the one at the limit from above.
    """
    rows = replace(labelled.rows, over=labelled.rows.over_least)
    at_edge = label_rows(rows, settings.slo, drop_recovery=rows.kind == "production")
    answer = None if GATES[rows.kind](rows) is not None else _answer(at_edge, settings, resamples)
    high = at_most = None
    if answer is not None:
        high = answer.high if isinstance(answer, Bracket) else answer.ci[1]
        at_most = _value(answer)
    carried = rows.usable & np.isfinite(rows.sustained) & ~at_edge.bad
    reason = capacity_reason("below_first_edge", rows.role)
    found = _quantile_floor(labelled, carried, at_most, reason, resamples, evidence)
    return replace(found, high=high)


def _observed(labelled: LabelledRows, reason: Reason, resamples: Integers, evidence: str) -> CapacityFit:
    """Return the most the pool carried, with no claim on latency: nobody knows whether the SLO held."""
    rows = labelled.rows
    return _quantile_floor(
        labelled, rows.usable & np.isfinite(rows.sustained), None, reason, resamples, evidence
    )


def _broken_at(labelled: LabelledRows, slo: Slo, between: Bracket | None) -> float | None:
    """Return the lowest load that may break the limit, None without one: no floor lies above it.

    In production the lowest mean load at which violations began and nothing shows that the SLO held, less one
    systematic error of a bracket, or the lower end of a bracket. In a pressure test the load at which the
    mean share reaches what the SLO allows, however few windows say so, less one systematic error of that law.
    """
    rows = labelled.rows
    if rows.kind == "pressure_test":
        known = rows.labelled & (
            rows.load > 0
        )  # windows that fill or drain too: a floor errs on the low side
        crossing = capacity_laws.levels(rows.load[known], rows.over[known], slo)
        error = RULES["pressure_test"][0].systematic[rows.role]
        return crossing.load * math.exp(-error) if crossing is not None else None
    ends = [between.low] if between is not None else []
    doubtful = doubtful_load(labelled, slo)
    if doubtful is not None:
        ends.append(doubtful * math.exp(-math.hypot(SYSTEMATIC_FEW, rows.mix_sd)))
    return min(ends, default=None)


def _floor(
    labelled: LabelledRows,
    settings: Settings,
    reason: Reason,
    broken_at: float | None,
    resamples: Integers,
    evidence: str,
) -> CapacityFit:
    """Return the most the pool carried within its SLO, at most the lowest load that may break it.

    Refused where up to that load more windows violate than the SLO allows (in a pressure test: more samples
    in the mean): then not even that load held. And where quiet windows break the limit: what held it had few
    requests, of which none happened to be slow, and more instances make none of them faster.
    """
    held = labelled.held & labelled.kept
    if reason.code != "low_load_breaks" and int(held.sum()) >= ROWS_MIN:
        fit = _quantile_floor(labelled, held, broken_at, reason, resamples, evidence)
        upto = labelled.kept & (labelled.rows.sustained <= (fit.low or 0.0))
        windows, samples = labelled.bad[upto], labelled.rows.over[upto]
        kept_slo = upto.any() and windows.mean() <= settings.slo.allowed_window_share
        if labelled.rows.kind == "pressure_test":
            kept_slo = upto.any() and samples.mean() <= capacity_laws.share_limit(settings.slo)
        if kept_slo:
            return fit
    return _refused(labelled, reason, resamples, evidence)


def _quantile_floor(
    labelled: LabelledRows,
    carried: Mask,
    cap: float | None,
    reason: Reason,
    resamples: Integers,
    evidence: str,
) -> CapacityFit:
    load, carried = _sustained(labelled.rows, carried)
    if int(carried.sum()) < ROWS_MIN or not load[carried].max() > 0:
        return _refused(labelled, reason, resamples, evidence)
    limit = math.inf if cap is None else cap
    most = float(np.quantile(load[carried], HIGHEST_QUANTILE))
    value = min(most, limit)
    chosen = [load[rows[carried[rows]]] for rows in resamples]
    draws = np.array([min(np.quantile(c, HIGHEST_QUANTILE), limit) if c.size else math.nan for c in chosen])
    ci, systematic = log_interval(value, draws, 0.0), 0.0
    if not ci[0] < ci[1]:
        # Resampling sees nothing of a load that stood still, nor of one that another law lowered.
        systematic = SYSTEMATIC_FEW if labelled.rows.kind == "production" else \
            SYSTEMATIC_TEST[labelled.rows.role]  # fmt: skip
        ci = log_interval(value, draws, systematic)
    method = "highest load carried" + (" within the limit" if np.isfinite(labelled.rows.over).any() else "")
    method += ", lowered below loads that may break it" if value < most else ""
    capacity = _capacity(labelled, value, ci, "observed", reason, method, evidence)
    # Without a limit nobody knows what latency that load had: it bounds nothing.
    low = value if labelled.rows.limits and np.isfinite(labelled.rows.over).any() else None
    return CapacityFit(capacity, labelled, draws, systematic, low=low)


def _sustained(rows: RoleRows, carried: Mask) -> tuple[Floats, Mask]:
    """Return the load that lasted: a 5-min mean in production; a pressure test's last three windows."""
    if rows.kind == "production":
        return rows.sustained, carried & np.isfinite(rows.sustained)
    load = trailing_mean(np.where(carried, rows.load, np.nan), CARRY_OVER_ROWS, rows.group)
    return load, np.isfinite(load)


def _refused(labelled: LabelledRows, reason: Reason, resamples: Integers, evidence: str) -> CapacityFit:
    """Return no number; where even the lowest loads break the limit, they are an upper bound."""
    high = None
    lowest_rows = _lowest_rows(labelled)
    if labelled.load.size >= ROWS_MIN and labelled.surely[lowest_rows].mean() > MAJORITY:
        high = lowest = float(labelled.rows.load[lowest_rows].max())
        if reason.code == "cannot_fit":
            least = amount(lowest, labelled.rows.unit)
            text = f"{reason.text}; the lowest load seen, {least} per instance, already breaks it"
            reason = Reason(reason.code, text, reason.value, reason.limit)
    capacity = _capacity(labelled, None, None, None, reason, "", evidence)
    return CapacityFit(capacity, labelled, np.full(len(resamples), math.nan), high=high)


def _lowest_rows(labelled: LabelledRows) -> Mask:
    """Return which kept rows carry the lowest loads: 5 % of them, three at least."""
    kept = np.flatnonzero(labelled.kept)
    order = np.argsort(labelled.load, kind="stable")[: max(GROUP_MIN, round(END_SHARE * kept.size))]
    lowest = np.zeros(labelled.kept.size, dtype=bool)
    lowest[kept[order]] = True
    return lowest


def _capacity(
    labelled: LabelledRows,
    value: float | None,
    ci: Interval | None,
    basis: CapacityBasis | None,
    reason: Reason | None,
    method: str,
    evidence: str,
    slope: float | None = None,
) -> Capacity:
    rows = labelled.rows
    status: Status = "refused" if value is None else "ok" if basis == "slo" else "floor"
    if value is not None:
        method += "".join(f"; {edges.judged}" for edges in rows.limit_edges if edges.judged)
    return Capacity(
        role=rows.role,
        gpu_type=None,
        signal=rows.signal or SERVED[rows.role],
        per_instance=value,
        ci=ci,
        status=status,
        basis=basis,
        reason=reason,
        method=method,
        slope=slope,
        evidence=evidence,
    )
