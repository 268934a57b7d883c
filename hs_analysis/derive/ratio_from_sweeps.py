"""The P/D ratio from ratio tests: the best split measured for each token mix, where a test shows one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hs_analysis import evidence
from hs_analysis.derive.demand import mean_request
from hs_analysis.derive.mix import DRIFT_SPREAD
from hs_analysis.derive.rows import capture_numbers
from hs_analysis.derive.split_sweeps import mix_groups
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.constants import MIX_MOVED_RATIO
from hs_analysis.schema.results import Interval, MixRatio, PdRatio, Reason
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
    ends = [mix.between for mix in mixes]
    ci: Interval | None = None
    if all(ends):
        low, high = (sum(m.share * m.between[i] for m in mixes if m.between) for i in (0, 1))
        ci = (low, high)
    found = replace(
        ratio, value=value, ci=ci, basis="sweep", status="ok", reason=None, by_mix=mixes, by_window=(),
        at_least=None, at_most=None, band=None, one_primary_bound=None, one_primary_bound_ci=None,
        integer_pairs=_pairs(tests) if len(mixes) == 1 else (), fixed_costs=(), moved_by=(),
        evidence=evidence.path(service, "derive", "pd_ratio"),
    )  # fmt: skip
    if max(values) > MIX_MOVED_RATIO * min(values):
        return replace(
            found, status="drifting", reason=_differ(mixes), band=(min(values), max(values)),
            one_primary_bound=max(values),
        )  # fmt: skip
    doubt = _doubt(tests)
    if doubt is None:
        return found
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
            share=part / total if total > 0 else 1.0 / len(known), evidence=one.evidence,
        )
        for one, part in known
        if one.best and one.ratio
    )  # fmt: skip


def _pairs(tests: Sequence[SweepResult]) -> tuple[tuple[int, int], ...]:
    return next((one.near for one in tests if one.best), ())


def _differ(mixes: Sequence[MixRatio]) -> Reason:
    values = [mix.value for mix in mixes]
    factor = max(values) / min(values)
    text = (
        f"the best splits of {len(mixes)} token mixes lie {factor:.2f} times apart, so no single ratio is"
        f" right; the value is their mean by decode work"
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
