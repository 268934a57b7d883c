"""Capacity of one instance at the SLO: the laws tried in order, the bracket, and the floor below them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
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
    doubtful_load,
    in_tail,
    label_rows,
    log_interval,
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
from hs_analysis.derive.format import capacity_reason
from hs_analysis.derive.mix import adjust_workload_mix
from hs_analysis.derive.rows import RoleRows, pressure_gate, production_gate, trailing_mean
from hs_analysis.schema.aligned import SERVED
from hs_analysis.schema.constants import GROUP_MIN, HIGHEST_QUANTILE, ROWS_MIN, TEST_VIOLATING_MIN
from hs_analysis.schema.results import Capacity, CapacityBasis, Interval, Reason, Status
from hs_analysis.schema.settings import Settings, Slo

Floats = NDArray[np.float64]

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


def _likelihood(x: Floats, bad: NDArray[np.bool_]) -> float:
    """Return the log likelihood of a rising binomial fit of `bad` on `x`, -inf without one."""
    fit = binomial_fit(x, bad)
    if fit is None or fit[1] <= 0.0:
        return -np.inf
    odds = fit[0] + fit[1] * x
    return float(np.sum(log_expit(np.where(bad, odds, -odds))))


Integers = NDArray[np.int64]

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
    edge_factor
        Where the limit lies between two histogram edges: capacity at the upper edge ÷ capacity at the lower
        one (1 where it lies on an edge), None where the upper edge never broke, so that nothing closes the
        side.
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
    edge_factor: float | None = 1.0
    crossing: capacity_laws.Crossing | None = None
    weighed: float | None = None

    @property
    def value(self) -> float | None:
        """What pools are weighed by: the law's answer at the lower edge, else the number given."""
        return self.capacity.per_instance if self.weighed is None else self.weighed

    @property
    def is_known(self) -> bool:
        """Whether pools can be weighed at the limit itself."""
        return self.edge_factor is not None and (self.capacity.status == "ok" or self.weighed is not None)


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
        nothing = "no_cache_missed" if rows.role == "prefill" else "no_work"
        code = "no_load" if np.isfinite(rows.work).any() else nothing
        return _refused(labelled, capacity_reason(code, rows.role), resamples, evidence)
    if not rows.limits or not np.isfinite(rows.over_low).any():
        code = "no_latency_histogram" if rows.limits else "no_slo"
        return _observed(labelled, capacity_reason(code, rows.role), resamples, evidence)
    gate = GATES[rows.kind](rows)
    if gate is not None:
        return _floor(labelled, settings, gate, _broken_at(labelled, settings.slo, None), resamples, evidence)
    answer = _answer(labelled, settings, resamples)
    if answer is None:
        broken_at = _broken_at(labelled, settings.slo, bracket(labelled, settings.slo))
        return _floor(labelled, settings, _why_not(labelled), broken_at, resamples, evidence)
    if rows.alone:
        least = answer.low if isinstance(answer, Bracket) else answer.ci[0]
        return _floor(labelled, settings, capacity_reason("one_role", rows.role), least, resamples, evidence)
    upper = _at_upper_edge(rows, settings, resamples)
    if isinstance(answer, Bracket):
        bracketed = _bracketed(labelled, answer, upper, len(resamples), rng, evidence)
        return _at_safe_end(bracketed, answer.width)
    return _at_safe_end(_fitted(labelled, answer, upper, evidence), answer.width)


def _at_safe_end(fit: CapacityFit, own_width: float) -> CapacityFit:
    """Return a capacity whose interval is wider than the value as a floor at the interval's lower end.

    Such an interval says on which side of a load the limit lies, and no more: its middle is no capacity to
    take a share of. Pools are still weighed by it where only the histogram edges about the limit stretch the
    interval, since a ratio is taken at the limit itself.

    Parameters
    ----------
    own_width
        Width of the interval without what the edges add, as a share of the value.
    """
    value, ci = fit.capacity.per_instance, fit.capacity.ci
    if value is None or ci is None or ci[1] - ci[0] <= value:
        return fit
    low, role = ci[0], fit.capacity.role
    detail = (
        f"the interval, {ci[0]:,.0f} to {ci[1]:,.0f} tokens/s per instance, is wider than the value,"
        f" {value:,.0f}, so that its lower end is used"
    )
    reason = capacity_reason("cannot_fit", role, detail, (ci[1] - ci[0]) / value, 1.0)
    capacity = replace(
        fit.capacity, per_instance=low, status="floor", reason=reason,
        method=f"{fit.capacity.method}, the lower end of its interval",
    )  # fmt: skip
    if own_width <= 1.0 and fit.edge_factor is not None:
        return replace(fit, capacity=capacity, low=low, weighed=value)
    return replace(fit, capacity=capacity, draws=fit.draws * (low / value), low=low, edge_factor=1.0)


def _answer(labelled: LabelledRows, settings: Settings, resamples: Integers) -> Fitted | Bracket | None:
    """Return the law or the bracket that answers, None where nothing does.

    The first law with an interval up to 30 % wide; else a bracket narrower than 15 % (30 % where it
    replaces a wider law); else the narrowest of the wide laws.
    """
    fitted = []
    for rule in RULES[labelled.rows.kind]:
        fit = attempt(rule, labelled, settings.slo, resamples)
        if fit is not None and fit.width <= WIDE:
            return fit
        fitted += [fit] if fit is not None else []
    between = bracket(labelled, settings.slo) if labelled.rows.kind == "production" else None
    if between is not None and between.width < (WIDE if fitted else BRACKET_WIDTH):
        return between
    return min(fitted, key=lambda fit: fit.width, default=None)


def _at_upper_edge(rows: RoleRows, settings: Settings, resamples: Integers) -> float | None:
    """Return the capacity by the limit's upper edge, None where nothing answers or both edges are one."""
    if not rows.bucket_bounds_differ:
        return None
    upper = replace(rows, over_low=rows.over_high)
    labelled = label_rows(upper, settings.slo, drop_recovery=rows.kind == "production")
    answer = _answer(labelled, settings, resamples)
    if isinstance(answer, Bracket):
        return answer.value
    return answer.crossing.load if answer is not None else None


def _over_bucket_bounds(
    labelled: LabelledRows, value: float, ci: Interval, upper: float | None
) -> tuple[Interval, float | None]:
    """Return the interval stretched to the upper edge's capacity, and the factor between both edges."""
    if not labelled.rows.bucket_bounds_differ:
        return ci, 1.0
    if upper is None:
        return ci, None
    factor = max(1.0, upper / value)
    return (ci[0], ci[1] * factor), factor


def _why_not(labelled: LabelledRows) -> Reason:
    """Tell apart a limit never met, met too seldom, and met but not pinned."""
    role, count = labelled.rows.role, labelled.bad_kept
    if int((labelled.bad & labelled.rows.labelled).sum()) == 0:
        return capacity_reason("no_violations", role)
    least = THIN_BELOW[labelled.rows.kind]
    if count < least:
        return capacity_reason("thin", role, f"{count} windows over the limit", float(count), float(least))
    return capacity_reason(
        "cannot_fit", role, f"{count} windows over it in {labelled.episodes} episodes", float(count)
    )


def _fitted(labelled: LabelledRows, fit: Fitted, upper: float | None, evidence: str) -> CapacityFit:
    value = fit.crossing.load
    ci, factor = _over_bucket_bounds(labelled, value, fit.ci, upper)
    reason = _caveat(labelled.rows.role, value, ci, factor)
    capacity = _capacity(labelled, value, ci, "slo", reason, fit.rule.name, evidence, fit.crossing.slope)
    high = None if factor is None else ci[1]
    return CapacityFit(capacity, labelled, fit.draws, fit.systematic, ci[0], high, factor, fit.crossing)


def _caveat(role: str, value: float, ci: Interval, factor: float | None) -> Reason | None:
    """Say what a known capacity has against it: an upper edge that never broke, or a wide interval."""
    if factor is None:
        return capacity_reason("undecided_edge", role)
    width = (ci[1] - ci[0]) / value
    if width <= INDICATIVE:
        return None
    text = f"the interval is {width:.0%} of the value wide: indicative only"
    return Reason("indicative", text, width, INDICATIVE)


def _bracketed(
    labelled: LabelledRows,
    between: Bracket,
    upper: float | None,
    draws: int,
    rng: np.random.Generator,
    evidence: str,
) -> CapacityFit:
    ends, systematic = (
        np.array([between.low, between.high]),
        math.hypot(SYSTEMATIC_FEW, labelled.rows.mix_sd),
    )
    ci, factor = _over_bucket_bounds(
        labelled, between.value, log_interval(between.value, ends, systematic), upper
    )
    reason = _caveat(labelled.rows.role, between.value, ci, factor)
    capacity = _capacity(labelled, between.value, ci, "slo", reason, "bracket", evidence)
    inside = np.exp(rng.uniform(math.log(between.low), math.log(between.high), draws))
    high = None if factor is None else ci[1]
    return CapacityFit(capacity, labelled, inside, systematic, ci[0], high, factor)


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
        crossing = capacity_laws.levels(rows.load[known], rows.over_low[known], slo)
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
    in the mean): then not even that load held.
    """
    held = labelled.held & labelled.kept
    if int(held.sum()) >= ROWS_MIN:
        fit = _quantile_floor(labelled, held, broken_at, reason, resamples, evidence)
        upto = labelled.kept & (labelled.rows.sustained <= (fit.low or 0.0))
        windows, samples = labelled.bad[upto], labelled.rows.over_low[upto]
        kept_slo = upto.any() and windows.mean() <= settings.slo.allowed_window_share
        if labelled.rows.kind == "pressure_test":
            kept_slo = upto.any() and samples.mean() <= capacity_laws.share_limit(settings.slo)
        if kept_slo:
            return fit
    return _refused(labelled, reason, resamples, evidence)


def _quantile_floor(
    labelled: LabelledRows,
    carried: NDArray[np.bool_],
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
    method = "highest load carried" + (
        " within the limit" if np.isfinite(labelled.rows.over_low).any() else ""
    )
    method += ", lowered below loads that may break it" if value < most else ""
    capacity = _capacity(labelled, value, ci, "observed", reason, method, evidence)
    # Without a limit nobody knows what latency that load had: it bounds nothing.
    low = value if labelled.rows.limits and np.isfinite(labelled.rows.over_low).any() else None
    return CapacityFit(capacity, labelled, draws, systematic, low=low)


def _sustained(rows: RoleRows, carried: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the load that lasted: a 5-min mean in production; a pressure test's last three windows."""
    if rows.kind == "production":
        return rows.sustained, carried & np.isfinite(rows.sustained)
    load = trailing_mean(np.where(carried, rows.load, np.nan), CARRY_OVER_ROWS, rows.group)
    return load, np.isfinite(load)


def _refused(labelled: LabelledRows, reason: Reason, resamples: Integers, evidence: str) -> CapacityFit:
    """Return no number; where even the lowest loads break the limit, they are an upper bound."""
    high = None
    load, bad = labelled.load, labelled.bad[labelled.kept]
    lowest_rows = np.argsort(load, kind="stable")[: max(GROUP_MIN, round(END_SHARE * load.size))]
    if load.size >= ROWS_MIN and bad[lowest_rows].mean() > 0.5 and not labelled.rows.bucket_bounds_differ:
        high = lowest = float(load[lowest_rows].max())
        if reason.code == "cannot_fit":
            text = (
                f"{reason.text}; the lowest load seen, {lowest:.0f} tokens/s per instance, already breaks it"
            )
            reason = Reason(reason.code, text, reason.value, reason.limit)
    capacity = _capacity(labelled, None, None, None, reason, "", evidence)
    return CapacityFit(capacity, labelled, np.full(len(resamples), math.nan), high=high)


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
    if value is not None and rows.bucket_bounds_differ:
        method += "; the limit lies between two histogram edges, the lower one was used"
    return Capacity(
        role=rows.role,
        gpu_type=None,
        signal=SERVED[rows.role],
        per_instance=value,
        ci=ci,
        status=status,
        basis=basis,
        reason=reason,
        method=method,
        slope=slope,
        evidence=evidence,
    )
