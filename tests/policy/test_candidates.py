"""Which signals may drive a policy, and in which combination."""

from __future__ import annotations

from dataclasses import replace

from replay.services import VERDICTS, derived, verdict

from hs_analysis.policy.candidates import candidate_primaries
from hs_analysis.schema.results import Threshold

PREFILL, DECODE = ("prefill_tps_effective", "prefill"), ("decode_tps", "decode")
PAIR = "prefill_tps_effective@prefill+decode_tps@decode"


def threshold(signal: str, role: str, target: float | None = 0.6) -> Threshold:
    """Return a threshold of another signal."""
    return Threshold(
        signal=signal,
        role=role,
        gpu_type=None,
        target_per_instance=target,
        capacity=None,
        scale_out_ratio=1.1,
        scale_in_ratio=0.8,
        cooldown_out_s=300.0,
        cooldown_in_s=600.0,
        status="ok",
        reason=None,
    )


def test_a_good_ratio_allows_single_signals_and_the_pair() -> None:
    """Each proportional signal may size both pools, or each pool follows its own."""
    assert candidate_primaries(VERDICTS, derived()) == {
        "decode_tps@decode": (DECODE,),
        "prefill_tps_effective@prefill": (PREFILL,),
        PAIR: (PREFILL, DECODE),
    }


def test_floors_a_refused_and_a_drifting_ratio_need_two_primaries() -> None:
    """A fixed ratio is not offered where it would break the SLO."""
    for numbers in (
        derived(status="floor", ratio_status="floor"),
        derived(ratio=None, ratio_status="refused"),
        derived(ratio_status="drifting"),
    ):
        assert list(candidate_primaries(VERDICTS, numbers)) == [PAIR]


def test_one_usable_signal_takes_the_ratio_it_can_get() -> None:
    """With decode alone a floor ratio sizes prefill; without any ratio only its own pool is sized."""
    only = (verdict("decode_tps", "decode"), verdict("prefill_tps_effective", "prefill", "unusable"))
    for numbers in (
        derived(status="floor", ratio_status="floor"),
        derived(ratio=None, ratio_status="refused"),
    ):
        assert candidate_primaries(only, numbers) == {"decode_tps@decode": (DECODE,)}


def test_guards_unknown_signals_and_missing_targets_never_drive() -> None:
    """Only proportional verdicts with a target count."""
    numbers = derived()
    extra = replace(numbers, thresholds=(*numbers.thresholds, threshold("gpu_util", "prefill", None)))
    verdicts = (
        verdict("decode_tps", "decode", "guard"),
        verdict("gpu_util", "prefill"),
        verdict("sm_activity", "prefill"),
    )
    assert candidate_primaries(verdicts, extra) == {}


def test_request_rate_is_a_last_resort() -> None:
    """A service signal drives the decode pool only when no signal of a pool may."""
    numbers = derived()
    extra = replace(numbers, thresholds=(*numbers.thresholds, threshold("request_rate", "service")))
    rate = verdict("request_rate", "service")
    assert candidate_primaries((rate,), extra) == {"request_rate@decode": (("request_rate", "decode"),)}
    assert "request_rate@decode" not in candidate_primaries((*VERDICTS, rate), extra)


def test_order_of_verdicts_does_not_matter() -> None:
    """The list is sorted by name."""
    assert list(candidate_primaries(VERDICTS[::-1], derived())) == list(
        candidate_primaries(VERDICTS, derived())
    )


def test_raw_prefill_tps_never_stands_beside_the_cache_missed_one() -> None:
    """The raw rate is offered only where the cache-missed one is not known."""
    numbers = derived()
    extra = replace(numbers, thresholds=(*numbers.thresholds, threshold("prefill_tps", "prefill", 5000.0)))
    raw = verdict("prefill_tps", "prefill")
    assert candidate_primaries((*VERDICTS, raw), extra) == candidate_primaries(VERDICTS, numbers)
    assert "prefill_tps@prefill" in candidate_primaries(
        (VERDICTS[0], raw) if VERDICTS[0].role == "decode" else (VERDICTS[1], raw), extra
    )
