"""What a Prometheus in the loop keeps is what the dumps of the same history hold, and its answers are its."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from simulator.engines import View, vllm
from simulator.lives import Life
from simulator.measures import Looks
from simulator.physics import Service, simulate
from simulator.prometheus import Prometheus
from simulator.readings import kv_usage, sm_activity, utilisation
from simulator.scrapes import Target
from simulator.steering import Order, Sight, Steered, Steering, steer
from simulator.surroundings import dynamo_frontend
from simulator.workloads import Arrivals, TokenMix, steady_arrivals

HOURS = 0.75
USUAL = Looks(15, 30)
STARTUP_S = 240.0
MOVES = {300.0: {"decode": Order(4)}, 900.0: {"prefill": Order(2)}, 1200.0: {"decode": Order(2)}}


def _requests() -> Arrivals:
    return steady_arrivals(4.0, 1400.0, 320.0, 0.35, TokenMix(), HOURS, np.random.default_rng(5))


def _service() -> Service:
    return Service({role: tuple(Life(f"{role}{k}") for k in range(3)) for role in ("prefill", "decode")})


def _run(steering: Steering, looks: Looks = USUAL, **options: object) -> tuple[Steered, Prometheus]:
    kept = Prometheus(looks, HOURS, np.random.default_rng(9))
    steered = steer(
        _service(), _requests(), HOURS, np.random.default_rng(1), steering, startup_s=STARTUP_S, look_s=15,
        prometheus=kept, **options,
    )  # fmt: skip
    return steered, kept


def _moved(sight: Sight) -> Mapping[str, Order]:
    return MOVES.get(sight.t_s, {})


@pytest.fixture(scope="module")
def moved() -> tuple[Steered, Prometheus]:
    """Return a history whose pools grow and shrink."""
    return _run(_moved)


def _target(kept: Prometheus, role: str, number: int) -> Target:
    """Return a scrape target of the dumps with the offset that an instance has in the loop."""
    one = kept.targets[role]
    sample = np.arange(one.kept.shape[1]) * 15.0 - one.age_s[number]
    nothing = np.zeros(sample.size, bool)
    return Target({}, sample, ~nothing, nothing)


@pytest.mark.parametrize("looks", [Looks(15, 30), Looks(30, 60), Looks(5, 10)])
def test_looks_every_fifteen_seconds_are_the_fixed_schedule(looks: Looks) -> None:
    """Nobody steering, and orders given at the same moments, leave what a schedule known before leaves."""
    for steering in (lambda sight: {}, _moved):
        steered, _ = _run(steering, looks)
        fixed = simulate(steered.trace.service, _requests(), HOURS, np.random.default_rng(1))
        for role in ("prefill", "decode"):
            assert steered.trace.stays[role].life.tolist() == fixed.stays[role].life.tolist()
            np.testing.assert_allclose(steered.trace.stays[role].end_s, fixed.stays[role].end_s)
            for ours, theirs in zip(steered.trace.seconds[role], fixed.seconds[role], strict=True):
                np.testing.assert_allclose(ours.tokens, theirs.tokens, atol=1e-6)


def test_samples_are_those_of_the_engines_metric_page(moved: tuple[Steered, Prometheus]) -> None:
    """Counters and levels of every instance equal what the writer of dumps shows at the same scrapes."""
    steered, kept = moved
    rows = {
        "vllm:num_requests_running": 4,
        "vllm:num_requests_waiting": 5,
        "vllm:kv_cache_usage_perc": 6,
    }
    for role, counters in (("prefill", {"prompt_tokens": 0}), ("decode", {"generation_tokens": 2})):
        for number, life in enumerate(steered.trace.service.lives[role]):
            samples = kept.targets[role].kept[number]
            there = np.isfinite(samples[:, 0])
            assert there.sum() > 10
            series = vllm(View(steered.trace, role, number), _target(kept, role, number), "m")
            shown = {one.labels["__name__"]: one.values for one in series}
            names = rows | {f"vllm:{name}_total": row for name, row in counters.items()}
            for name, row in names.items():
                np.testing.assert_allclose(samples[there, row], shown[name][there], atol=2e-6, err_msg=name)
            moments = np.flatnonzero(there) * 15.0 - kept.targets[role].age_s[number]
            assert moments[0] >= life.open_s - 1.0
            assert moments[0] <= max(life.open_s, 0.0) + 15.0


def test_rates_are_those_of_the_dumps(moved: tuple[Steered, Prometheus]) -> None:
    """The increase that the dump's series show over a range, extrapolated to it, summed over instances."""
    steered, kept = moved
    for role, name, signal in (
        ("prefill", "vllm:prompt_tokens_total", "prefill_tps"),
        ("decode", "vllm:generation_tokens_total", "decode_tps"),
    ):
        for moment in (120.0, 315.0, 905.0, 1235.0, 2600.0):
            total = 0.0
            for number in range(len(steered.trace.service.lives[role])):
                at = _target(kept, role, number)
                series = vllm(View(steered.trace, role, number), at, "m")
                values = next(one.values for one in series if one.labels["__name__"] == name)
                there = np.isfinite(kept.targets[role].kept[number, :, 0])
                inside = there & (at.sample_s > moment - 60.0) & (at.sample_s <= moment)
                if inside.sum() >= 2:
                    total += _extrapolated(at.sample_s[inside], values[inside], moment - 60.0, moment)
            assert kept.rate(signal, role, 60.0, moment) == pytest.approx(total, rel=1e-4)


def _extrapolated(at: np.ndarray, values: np.ndarray, begin: float, end: float) -> float:
    """Extrapolate as Prometheus does."""
    gained, span = values[-1] - values[0], at[-1] - at[0]
    usual = span / (at.size - 1)
    before, after = at[0] - begin, end - at[-1]
    before = usual / 2 if before >= 1.1 * usual else before
    after = usual / 2 if after >= 1.1 * usual else after
    if gained > 0:
        before = min(before, span * values[0] / gained)
    return gained * (span + before + after) / span / (end - begin)


@pytest.mark.parametrize(
    ("signal", "name", "within"),
    [
        ("request_rate", "dynamo_frontend_requests_started_total", 1e-6),
        ("passing_prompt_tps", "dynamo_frontend_input_sequence_tokens_sum", 1e-6),
        ("passing_cached_tps", "dynamo_frontend_cached_tokens_sum", 1e-6),
        ("passing_output_tps", "dynamo_frontend_output_tokens_total", 0.01),
    ],
)
def test_the_front_end_counts_as_its_metric_page_does(
    moved: tuple[Steered, Prometheus], signal: str, name: str, within: float
) -> None:
    """The increase between two scrapes a minute apart, over the range; whole output tokens in the page."""
    steered, kept = moved
    sample = np.arange(200) * 15.0 - kept.front_s
    nothing = np.zeros(sample.size, bool)
    series = dynamo_frontend(steered.trace, Target({}, sample, ~nothing, nothing), "m")
    counted = next(v.values for v in series if v.labels["__name__"] == name)
    inside = (sample > 1140.0) & (sample <= 1200.0)
    wanted = _extrapolated(sample[inside], counted[inside], 1140.0, 1200.0)
    assert wanted > 0
    assert kept.rate(signal, "service", 60.0, 1200.0) == pytest.approx(wanted, rel=within)


def test_latencies_are_those_of_the_front_ends_histograms(moved: tuple[Steered, Prometheus]) -> None:
    """Mean time to first token exactly; mean gap within what whole tokens and seconds leave."""
    steered, kept = moved
    sample = np.arange(len(kept.front)) * 15.0 - kept.front_s
    nothing = np.zeros(sample.size, bool)
    series = {
        one.labels["__name__"]: one.values
        for one in dynamo_frontend(steered.trace, Target({}, sample, ~nothing, nothing), "m")
    }
    points = (sample > 1140.0) & (sample <= 1500.0)
    for signal, name, within in (
        ("ttft", "dynamo_frontend_time_to_first_token_seconds", 1e-6),
        ("tbt", "dynamo_frontend_inter_token_latency_seconds", 0.01),
    ):
        total, count = (series[f"{name}_{part}"][points] for part in ("sum", "count"))
        wanted = (total[-1] - total[0]) / (count[-1] - count[0])
        assert kept.latency(signal, 360.0, 1500.0) == pytest.approx(wanted, rel=within)
    assert kept.latency("ttft", 10.0, 1500.0) is None


@pytest.mark.parametrize("role", ["prefill", "decode"])
@pytest.mark.parametrize(("signal", "read"), [("gpu_util", 1), ("sm_activity", 30)])
def test_gpus_show_their_last_reading(
    moved: tuple[Steered, Prometheus], role: str, signal: str, read: int
) -> None:
    """Busy in the second of the reading, active in the time since the one before.

    An idle second of prefill is slightly active in the dumps and not here.
    """
    steered, kept = moved
    one, row = kept.targets[role], {"gpu_util": 7, "sm_activity": 8}[signal]
    seconds = steered.trace.seconds[role][0]
    shown = utilisation(seconds, role) if read == 1 else sm_activity(seconds, role, steered.trace.service)
    assert seconds.first == 0
    for point in range(5, one.kept.shape[1]):
        if np.isfinite(one.kept[0, point, row]):
            moment = point * 15 - one.age_s[0]
            last = moment - (moment - one.phase_s[0]) % 30
            assert one.kept[0, point, row] == pytest.approx(shown[last - read : last].mean(), abs=4e-3)


def test_means_and_highest_values_are_over_each_instances_samples(moved: tuple[Steered, Prometheus]) -> None:
    """KV usage of the decode pool: mean of means, and mean of the highest."""
    steered, kept = moved
    one, moment = kept.targets["decode"], 1000.0
    each = []
    for number, seconds in enumerate(steered.trace.seconds["decode"]):
        points = np.arange(one.kept.shape[1]) * 15 - one.age_s[number]
        inside = points[(points > 700) & (points <= moment)]
        usage = kv_usage(seconds, "decode", steered.trace.service)
        values = [usage[p - 1 - seconds.first] for p in inside if 0 <= p - 1 - seconds.first < usage.size]
        each.append((np.mean(values), np.max(values)))
    assert kept.mean("kv_usage", "decode", 300.0, moment, "avg") == pytest.approx(np.mean(each, axis=0)[0])
    assert kept.highest("kv_usage", "decode", 300.0, moment, "avg") == pytest.approx(np.mean(each, axis=0)[1])


def _counter(values: list[float]) -> Prometheus:
    """Return a Prometheus with one decode instance, scraped on the grid, with these samples."""
    kept = Prometheus(Looks(15, 30), 1.0, np.random.default_rng(0))
    one = kept.of("decode", 1)
    one.age_s[:] = 0
    one.kept[0, : len(values), 2] = values
    return kept


@pytest.mark.parametrize(
    ("values", "at", "rate"),
    [
        ([100.0, 130, 160, 190, 220], 60.0, 2.0),  # 90 in 45 s, and 15 s more at the same pace
        ([100.0, 130, 160, 10, 40], 60.0, 70 / 45 * 60 / 60),  # 30 + 10 + 30 in 45 s
        ([100.0, 130, np.nan, np.nan, 220], 60.0, 90 / 45 * 60 / 60),
        ([0.0, 0, 0, 30, 60], 60.0, 60 / 45 * (45 + 0) / 60),  # from zero, so nothing before it
        ([np.nan, np.nan, 100, 130, 160], 60.0, 60 / 30 * (30 + 7.5) / 60),  # half an interval back
    ],
)
def test_a_rate_is_extrapolated_as_prometheus_does(values: list[float], at: float, rate: float) -> None:
    """One series at 0, 15, 30, 45 and 60 s and a range of 60 s, worked by hand."""
    assert _counter(values).rate("decode_tps", "decode", 60.0, at) == pytest.approx(rate)


def test_one_sample_is_no_rate_and_an_empty_range_has_no_mean() -> None:
    """Nothing is made up: the query is empty."""
    kept = _counter([100.0, 130, 160, 190, 220])
    assert kept.rate("decode_tps", "decode", 10.0, 60.0) is None
    assert kept.mean("running", "decode", 60.0, 60.0) is None
