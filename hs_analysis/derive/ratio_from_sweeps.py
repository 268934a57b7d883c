"""The P/D ratio from ratio tests: the best split measured for each token mix, where a test shows one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis import evidence
from hs_analysis.derive.demand import mean_request
from hs_analysis.derive.format import NO_HISTORY_COLLECT
from hs_analysis.derive.mix import DRIFT_SPREAD
from hs_analysis.derive.ratio import ratio_refusals
from hs_analysis.derive.rows import capture_numbers
from hs_analysis.derive.split_sweeps import mix_groups
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.constants import MAJORITY, MIX_MOVED_RATIO
from hs_analysis.schema.results import Demand, Derived, MixRatio, PdRatio, Reason, Refusal
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import SweepResult


def with_captured_sweeps(
    ratio: PdRatio, frame: ServiceFrame, tests: Sequence[SweepResult], slo: Slo
) -> PdRatio:
    """Return the ratio that the splits tested in a service's captures give; as it is without an answer.

    A test goes before the balance: it compared the splits themselves, and the mix of all its captures
    together is one that the experimenter chose. Each token mix has an answer of its own; where they lie
    more than a quarter apart no single ratio is right, and the value is their mean by decode work.

    Parameters
    ----------
    ratio
        As the balance has it.
    frame
        The service, for the decode work of each mix.
    tests
        Answers of its captures (`capture_sweeps`).
    slo
        Limits of the run: under them splits are judged where any is given, else on decode TPS alone.
    """
    judged = [one for one in tests if one.judged_on == ("slo" if slo.given else "decode_tps")]
    work = _decode_work(frame)
    shares = [work.get((one.isl, one.osl), 0.0) for one in judged]
    return _answered(ratio, frame.service, judged, shares)


def with_undeclared_test(ratio: PdRatio, frame: ServiceFrame) -> PdRatio:
    """Return a ratio refused for a short history with what its captures look like: a ratio test, if they do.

    Captures with several splits, each held through most of it, were made by someone who compared them;
    read as production their load steps are too short for a window.
    """
    known = ratio.reason is not None and ratio.reason.code == "thin"
    if frame.kind != "production" or not known or not {"prefill", "decode"} <= set(frame.pools):
        return ratio
    group = capture_numbers(frame)
    counts = [frame.values("instances", role) for role in ("prefill", "decode")]
    splits: list[tuple[int, int]] = []
    for number in np.unique(group):
        held = [pool[(group == number) & (pool > 0)] for pool in counts]
        usual = [float(np.median(one)) if one.size else math.nan for one in held]
        if not all(one.size and (one == own).mean() > MAJORITY for one, own in zip(held, usual, strict=True)):
            return ratio
        splits.append((round(usual[0]), round(usual[1])))
    if len(set(splits)) < 2:
        return ratio
    named = ", ".join(f"{p}P{d}D" for p, d in sorted(set(splits), key=lambda pair: pair[0] / pair[1]))
    text = (
        f"{len(splits)} short captures hold {len(set(splits))} splits of prefill and decode ({named}): they"
        f" look like a ratio test, which is read with --pressure-test"
    )
    return replace(ratio, reason=Reason("test_not_declared", text, float(len(set(splits)))))


def with_benchmarks(ratio: PdRatio, frame: ServiceFrame, tests: Sequence[SweepResult], slo: Slo) -> PdRatio:
    """Return the ratio that benchmarks of the service's model give near its mean request, else as it is.

    They stand in where the ratio is refused: what the service itself carried goes before what others
    measured. Tests of one model that differ in engine, precision or GPU type have to agree within a quarter:
    which of them the service is like is not known.
    """
    request = mean_request(frame)
    if ratio.status != "refused" or request is None:
        return ratio
    model = frame.service.partition("/")[2].lower()
    near = [
        one
        for one in tests
        if one.best
        and _judged_by(one, slo)
        and _same_model(one.model, model)
        and _near(one, request)
        and _same_sizes(one, frame)
    ]
    found = [one.ratio for one in near if one.ratio is not None]
    if not found or max(found) > MIX_MOVED_RATIO * min(found):
        return ratio
    return _answered(ratio, frame.service, near[:1], [1.0])


def services_of_tests(tests: Sequence[SweepResult], slo: Slo) -> tuple[tuple[str, Derived], ...]:
    """Return what ratio tests in benchmarks say where no service was recorded, by name of the test.

    Of all that is derived of a service only the ratio, for each token mix tested, is known: no load was seen,
    so that there is no demand, no capacity of a service and no target, and a refusal says what gives them.

    Parameters
    ----------
    tests
        Answers of `bench_sweeps`.
    slo
        Limits of the run: under them splits are judged where any is given, else on decode TPS alone.
    """
    by_name: dict[str, list[SweepResult]] = {}
    for one in tests:
        if one.source == "bench" and _judged_by(one, slo):
            by_name.setdefault(one.name, []).append(one)
    return tuple((name, _tested(name, own)) for name, own in by_name.items())


def _tested(name: str, tests: Sequence[SweepResult]) -> Derived:
    ratio = _answered(_unanswered(name, tests), name, tests, [0.0] * len(tests))
    text = "the input holds benchmarks and no load over time"
    no_load = Refusal("demand", "no_history", text, NO_HISTORY_COLLECT)
    return Derived(
        capacity=(),
        demand=Demand(None, None, (), None),
        thresholds=(),
        pd_ratio=ratio,
        refusals=(*ratio_refusals(ratio, {}), no_load),
    )


def _unanswered(name: str, tests: Sequence[SweepResult]) -> PdRatio:
    """Return the ratio of tests without a best split: one mix may still bound it."""
    first = tests[0]
    bounds = (first.at_least, first.at_most) if len(tests) == 1 else (None, None)
    return PdRatio(
        value=None, ci=None, status="refused", at_least=bounds[0], at_most=bounds[1], reason=first.reason,
        evidence=evidence.path(name, "derive", "pd_ratio"),
    )  # fmt: skip


def _judged_by(test: SweepResult, slo: Slo) -> bool:
    if not slo.given:
        return test.judged_on == "decode_tps"
    return test.judged_on == "slo" and (test.ttft_s, test.tbt_s) == (slo.ttft_s, slo.tbt_s)


def _same_model(tested: str | None, served: str) -> bool:
    """Whether two names are of one model, whoever published it."""
    return bool(tested) and str(tested).lower().rpartition("/")[2] == served.rpartition("/")[2]


def _same_sizes(test: SweepResult, frame: ServiceFrame) -> bool:
    """Whether GPUs of a prefill and a decode instance relate as in the test, where both are known."""
    sizes = [frame.gpus_per_instance.get(role) for role in ("prefill", "decode")]
    prefill, decode = sizes
    if not test.gpu_ratio or not test.ratio or not prefill or not decode:
        return True
    return math.isclose(test.ratio / test.gpu_ratio, decode / prefill, rel_tol=0.01)


def _near(test: SweepResult, request: tuple[float, float]) -> bool:
    """Whether prompts and answers of a test are as long as those of the service, within a quarter."""
    pairs = zip((test.isl, test.osl), request, strict=True)
    return all(one and abs(math.log(one / other)) <= DRIFT_SPREAD for one, other in pairs if other > 0)


def _decode_work(frame: ServiceFrame) -> dict[tuple[float | None, float | None], float]:
    """Return the decode tokens of the captures of each mix, by its mean lengths."""
    group, served = capture_numbers(frame), frame.values("decode_tps", "decode")
    return {
        (mix.isl, mix.osl): float(np.nansum(served[np.isin(group, mix.captures)]))
        for mix in mix_groups(frame)
    }


@dataclass(frozen=True)
class _Side:
    """What the test of one mix bounds the ratio by where its best split is an edge of the test."""

    at_least: float | None = None
    at_most: float | None = None


def _answered(ratio: PdRatio, service: str, tests: Sequence[SweepResult], work: Sequence[float]) -> PdRatio:
    mixes = _mixes(tests, work)
    if not mixes:
        return ratio
    values = [mix.value for mix in mixes]
    value = sum(mix.share * mix.value for mix in mixes)
    ends = [mix.between for mix in mixes if mix.between]
    inside = len(ends) == len(mixes)  # splits that serve less lie on both sides: the best ratio is between
    found = replace(
        ratio, value=value, ci=None, basis="sweep", status="ok", reason=None, by_mix=mixes, by_window=(),
        at_least=min(low for low, _ in ends) if inside else None,
        at_most=max(high for _, high in ends) if inside else None, band=None,
        one_primary_bound=None, one_primary_bound_ci=None,
        integer_pairs=_pairs(tests) if len(mixes) == 1 else (), fixed_costs=(), moved_by=(),
        evidence=evidence.path(service, "derive", "pd_ratio"),
    )  # fmt: skip
    if max(values) > MIX_MOVED_RATIO * min(values):
        return replace(
            found, status="drifting", reason=_differ(mixes, weighed=sum(work) > 0), at_least=None,
            at_most=None, band=(min(values), max(values)), one_primary_bound=max(values),
        )  # fmt: skip
    doubt = _doubt(tests)
    if doubt is None:
        return found
    if inside:
        return replace(found, status="floor", reason=doubt)
    side = _side(tests) if len(mixes) == 1 else _Side()
    return replace(found, status="floor", reason=doubt, at_least=side.at_least, at_most=side.at_most)


def _mixes(tests: Sequence[SweepResult], work: Sequence[float]) -> tuple[MixRatio, ...]:
    """Return the best split of each test that has one, with its part of the decode work of those."""
    known = [(one, part) for one, part in zip(tests, work, strict=True) if one.best and one.ratio]
    total = sum(part for _, part in known)
    return tuple(
        MixRatio(
            isl=one.isl, osl=one.osl, prefill=one.best[0], decode=one.best[1], value=one.ratio,
            between=one.between, status=one.status if one.status != "refused" else "indicative",
            share=part / total if total > 0 else 1.0 / len(known), neighbours=one.neighbours,
            prefill_tps_per_instance=one.prefill_tps_per_instance,
            decode_tps_per_instance=one.decode_tps_per_instance, gpu_ratio=one.gpu_ratio,
            is_estimated=one.is_estimated, evidence=one.evidence,
        )
        for one, part in known
        if one.best and one.ratio
    )  # fmt: skip


def _pairs(tests: Sequence[SweepResult]) -> tuple[tuple[int, int], ...]:
    return next((one.near for one in tests if one.best), ())


def _differ(mixes: Sequence[MixRatio], *, weighed: bool) -> Reason:
    values = [mix.value for mix in mixes]
    factor = max(values) / min(values)
    mean = "mean by decode work" if weighed else "plain mean, since nothing says how much of each is served"
    text = (
        f"the best splits of {len(mixes)} token mixes lie {factor:.2f} times apart, so no single ratio is"
        f" right; the value is their {mean}"
    )
    return Reason("mixes_differ", text, factor, MIX_MOVED_RATIO)


def _doubt(tests: Sequence[SweepResult]) -> Reason | None:
    """Return what speaks against the best splits: one may break a limit, is at an edge, or has none."""
    missing = [one for one in tests if not one.best]
    if missing and missing[0].reason is not None:
        return Reason("sweep_undecided", f"not every token mix has a best split: {missing[0].reason.text}")
    for one in tests:
        if one.reason is not None:
            code = "sweep_undecided" if one.status == "undecided" else one.reason.code
            return Reason(code, one.reason.text, one.reason.value, one.reason.limit)
    return None


def _side(tests: Sequence[SweepResult]) -> _Side:
    """Return the bound of a best split at an edge: the next split tested towards the other side."""
    one = next(test for test in tests if test.best)
    ratios = [prefill / decode for prefill, decode in one.tested]
    low, high = one.near_ratio or (math.nan, math.nan)
    if one.edge == "most_prefill":
        return _Side(at_least=max((r for r in ratios if r < low), default=None))
    if one.edge == "least_prefill":
        return _Side(at_most=min((r for r in ratios if r > high), default=None))
    return _Side()
