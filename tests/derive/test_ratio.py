"""The P/D ratio: balance, drift, floor, bounds and whole-number splits."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from derive.synthetic import SETTINGS, Service, day_frame, make_frame, step_test, with_columns
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from seeds import first

from hs_analysis.derive import derive_service
from hs_analysis.derive.mix import Mix
from hs_analysis.derive.ratio import _Balance, _one_primary_bound, integer_pairs
from hs_analysis.schema.results import PdRatio
from hs_analysis.schema.settings import Slo

FEW = replace(SETTINGS, draws=80)


def ratio_of(frame, settings=FEW) -> PdRatio:
    """Return the ratio of a service."""
    return derive_service(frame, (), settings).derived.pd_ratio


def true_ratio(frame, service: Service | None = None) -> float:
    """Return the balance of the true capacities under the true mean mix."""
    service = service or Service()
    mix = frame.values("offered_tps", "prefill").sum() / frame.values("offered_tps", "decode").sum()
    return mix * service.decode_capacity / service.prefill_capacity


def test_hours_that_resemble_their_neighbours_say_less_of_the_busiest() -> None:
    """The bound of a mix that wanders over days is less certain than that of the same hours in any order."""
    hours = np.exp(0.3 * np.sin(np.arange(168) * 2 * np.pi / 84))
    balance = _Balance(True, 1.0, np.ones(400), 0.0, 1.0)

    def width(busy: np.ndarray) -> float:
        mix = Mix(1.0, np.ones(400), (), busy, 0.0, 0.3)
        _, (low, high) = _one_primary_bound(1.0, mix, balance, np.random.default_rng(0))
        return high - low

    assert width(hours) > 2.0 * width(np.random.default_rng(1).permutation(hours))


def test_balance_is_recovered_with_its_interval() -> None:
    """Both limits met: the ratio is known to a few percent and its interval holds the truth."""
    frames = [day_frame(seed, prefill_peak=1.1, decode_peak=1.1, hours=36) for seed in range(4)]
    found = [ratio_of(frame) for frame in frames]
    truth = [true_ratio(frame) for frame in frames]
    assert [r.status for r in found] == ["ok"] * 4
    assert max(abs(r.value / t - 1) for r, t in zip(found, truth, strict=True)) < 0.05
    held = sum(r.ci[0] <= t <= r.ci[1] for r, t in zip(found, truth, strict=True))
    assert held >= binom.ppf(0.001, 4, 0.95)
    assert all((r.ci[1] - r.ci[0]) / r.value < 0.2 for r in found)
    assert all(len(r.by_window) == 36 for r in found)


def test_a_ratio_weighs_the_capacities_as_they_are_and_its_interval_holds_the_other_reading() -> None:
    """Where a limit is read between two edges the ratio is still mix · C_D ÷ C_P, and is known less well."""
    frame = day_frame(3, prefill_peak=1.1, decode_peak=1.1, hours=36)
    share = frame.values("ttft_over", "service")
    read = with_columns(frame, {"ttft_over_other@service": np.clip(1.6 * share, 0.0, 1.0)})
    plain, between = (derive_service(one, (), FEW).derived for one in (frame, read))
    assert between.pd_ratio.value == plain.pd_ratio.value
    assert between.pd_ratio.ci[0] < plain.pd_ratio.ci[0]
    assert between.pd_ratio.ci[1] > plain.pd_ratio.ci[1]
    assert between.capacity_of("prefill").reading_ratio < 1.0
    assert between.capacity_of("decode").reading_ratio is None


@pytest.mark.slow
def test_balance_is_recovered_over_many_days() -> None:
    """Twenty days at the limit: mostly given, median error under 3 %, coverage by binomial, no drift."""
    frames = [day_frame(seed, prefill_peak=1.08, decode_peak=1.08, hours=24) for seed in range(20)]
    found = [(ratio_of(frame, SETTINGS), true_ratio(frame)) for frame in frames]
    known = [(r, t) for r, t in found if r.status == "ok"]
    assert len(known) >= 12
    assert not any(r.status == "drifting" for r, _ in found)
    assert np.median([abs(r.value / t - 1) for r, t in known]) < 0.03
    assert sum(r.ci[0] <= t <= r.ci[1] for r, t in known) >= binom.ppf(0.001, len(known), 0.95)


@pytest.mark.parametrize(("prefill", "decode", "side"), [(1.1, 0.6, "at_least"), (0.6, 1.1, "at_most")])
def test_one_known_side_bounds_the_ratio(prefill: float, decode: float, side: str) -> None:
    """Decode never near its limit: its capacity is larger than seen, so the ratio is at least the balance."""
    frame = day_frame(5, prefill_peak=prefill, decode_peak=decode, hours=24)
    found, truth = ratio_of(frame), true_ratio(frame)
    other = "at_most" if side == "at_least" else "at_least"
    assert (found.status, getattr(found, other)) == ("floor", None)
    bound = getattr(found, side)
    assert bound <= truth if side == "at_least" else bound >= truth
    assert bound == pytest.approx(truth * 0.6 ** (1 if side == "at_least" else -1), rel=0.2)


@pytest.mark.parametrize(
    ("decode", "slo", "asked"),
    [
        (1.1, FEW.slo, "prefill asks for; the ratio follows from both; hsa plan-test lays"),
        (0.6, FEW.slo, "prefill and then of decode asks for; the ratio follows from both; hsa plan-test"),
        (0.6, Slo(), "prefill and then of decode asks for; the ratio follows from both"),
    ],
)
def test_only_what_is_open_is_asked_for(decode: float, slo: Slo, asked: str) -> None:
    """A pool whose capacity is known is not pressed again, and without a limit there is none to press to."""
    frame = day_frame(5, prefill_peak=0.6, decode_peak=decode, hours=24)
    refusals = derive_service(frame, (), replace(FEW, slo=slo)).derived.refusals
    collect = next(one.collect for one in refusals if one.what == "pd_ratio")
    assert asked in collect
    assert ("plan-test" in collect) == slo.given


def test_two_floors_give_the_balance_of_the_targets_and_the_bound_beside_it() -> None:
    """Neither limit met: the value is the balance, the 95 % quantile of the hourly mix a bound beside it."""
    frame = day_frame(6, prefill_peak=0.6, decode_peak=0.6, hours=24)
    found = derive_service(frame, (), FEW).derived
    ratio = found.pd_ratio
    targets = [found.threshold_of(c.signal, c.role).target_per_instance for c in found.capacity]
    hourly = frame.table.group_by(pl.col("t").dt.truncate("1h")).agg(
        pl.col("offered_tps@prefill").mean().alias("p"), pl.col("offered_tps@decode").mean().alias("d")
    )
    busy = hourly.filter(pl.col("d") >= 0.2 * pl.col("d").quantile(0.95, "linear"))
    bound = float(np.quantile((busy["p"] / busy["d"]).to_numpy(), 0.95)) * targets[1] / targets[0]
    balance = hourly["p"].sum() / hourly["d"].sum() * targets[1] / targets[0]
    assert (ratio.status, ratio.reason.code) == ("floor", "capacity_floor")
    assert (ratio.at_least, ratio.at_most) == (None, None)
    assert ratio.value == pytest.approx(balance, rel=0.01)
    assert ratio.ci[0] < ratio.value < ratio.ci[1]
    assert ratio.one_primary_bound == ratio.held == pytest.approx(bound)
    assert ratio.one_primary_bound_ci[0] <= bound <= ratio.one_primary_bound_ci[1]
    assert "balance of the two targets" in ratio.reason.text


@pytest.mark.parametrize("peak", [0.6, 1.1])
def test_a_moving_mix_is_never_answered_by_its_high_quantile(peak: float) -> None:
    """The value of a drifting ratio is the balance, under floors too; the sizing bound is far above it."""
    frame = day_frame(7, prefill_peak=peak, decode_peak=peak, hours=28, mix_drift=0.4)
    found = ratio_of(frame)
    assert (found.status, found.basis) == ("drifting", "balance")
    assert found.value == pytest.approx(true_ratio(frame), rel=0.06)
    assert found.one_primary_bound > 1.25 * found.value
    assert found.band[0] < found.value < found.band[1]
    held = {cost.name: cost for cost in found.fixed_costs}
    assert held["one_primary_bound"].short_share < held["value"].short_share


def test_constant_or_short_load_gives_no_ratio() -> None:
    """Load that stood still, or a few hours of it, refuse the ratio; no interval has the width zero."""
    still = day_frame(9, prefill_peak=0.6, decode_peak=0.6, hours=24, low=0.97)
    short = day_frame(9, prefill_peak=0.6, decode_peak=0.6, hours=4)
    test = replace(still, kind="pressure_test")
    for frame, code in ((still, "load_range"), (short, "thin"), (test, "load_range")):
        derived = derive_service(frame, (), FEW).derived
        ratio = derived.pd_ratio
        assert (ratio.status, ratio.value, ratio.ci, ratio.held) == ("refused", None, None, None)
        assert ratio.reason.code == code
        assert ratio.reason.text.startswith("prefill: ")
        assert [r.what for r in derived.refusals].count("pd_ratio") == 1
        assert all(c.ci is None or c.ci[0] < c.ci[1] for c in derived.capacity)


@pytest.mark.parametrize("peak", [0.7, 1.1])
def test_a_moving_mix_is_called_drifting(peak: float) -> None:
    """A mix that swings by ±25 % is flagged whether or not the limits were met, with a band and the hours."""
    found = ratio_of(day_frame(7, prefill_peak=peak, decode_peak=peak, hours=28, mix_drift=0.25))
    assert (found.status, found.reason.code) == ("drifting", "mix_moves")
    assert found.reason.value > 1.25
    low, high = found.band
    assert high / low > 1.25
    values = [w.value for w in found.by_window]
    assert min(values) < low < high < max(values)
    assert found.value is not None


def test_the_compromise_of_a_moving_mix_is_load_weighted() -> None:
    """With both capacities known the value is total prefill work ÷ total decode work × capacities."""
    frame = day_frame(8, prefill_peak=1.1, decode_peak=1.1, hours=28, mix_drift=0.25)
    found = derive_service(frame, (), FEW).derived
    prefill, decode = (c.per_instance for c in found.capacity)
    steady = (frame.values("saturated", "prefill") + frame.values("saturated", "decode")) == 0
    mix = (
        frame.values("offered_tps", "prefill")[steady].sum()
        / frame.values("offered_tps", "decode")[steady].sum()
    )
    assert found.pd_ratio.value == pytest.approx(mix * decode / prefill)


@pytest.mark.parametrize("seed", first(1, range(3)))
def test_noise_is_not_drift(seed: int) -> None:
    """Few requests a minute scatter the hourly mix by over a quarter: noise, which is taken off."""
    frame = day_frame(seed, prefill_peak=0.6, decode_peak=0.6, hours=96, decode_wander_sd=0.0)
    rng = np.random.default_rng([seed, 3])
    noisy = frame.values("offered_tps", "prefill") * np.exp(rng.normal(0, 0.75, frame.table.height))
    busy = np.array(
        [w.value for w in ratio_of(with_columns(frame, {"offered_tps@prefill": noisy})).by_window]
    )
    assert np.quantile(busy, 0.9) / np.quantile(busy, 0.1) > 1.25
    assert ratio_of(with_columns(frame, {"offered_tps@prefill": noisy})).status == "floor"


def test_constant_load_never_gives_a_known_ratio() -> None:
    """Flat load at any height, violating or not, is at best a floor."""
    for peak in (0.6, 1.0, 1.3):
        flat = {"low": 1.0, "wander_sd": 1e-3, "decode_wander_sd": 1e-3}
        found = ratio_of(day_frame(9, prefill_peak=peak, decode_peak=peak, hours=24, **flat))
        assert found.status in ("floor", "refused")
        assert found.status == "floor" or found.value is None


def test_static_pools_that_never_met_a_limit_are_told_what_they_have() -> None:
    """Two calm floors under a steady mix come to the recorded split: nothing else is known to be safe."""
    service = Service()
    requests = 20 * (0.4 + 0.6 * np.sin(np.linspace(0, np.pi, 1440)) ** 2)
    frame = make_frame(service, requests, 700.0, 120.0, 1)
    found = ratio_of(frame)
    assert found.value == pytest.approx(service.prefill / service.decode, rel=0.05)
    assert found.integer_pairs[0] == (service.prefill, service.decode)


def test_a_single_pool_has_no_ratio() -> None:
    """One pool that does both is refused by that name, a missing pool by another."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=0.6, hours=12)
    renamed = {c: c.replace("@decode", "@mixed") for c in frame.table.columns if c.endswith("@decode")}
    mixed = replace(frame, table=frame.table.rename(renamed).drop("instances@prefill"))
    assert ratio_of(mixed).reason.code == "single_pool"
    alone = ratio_of(replace(frame, table=frame.table.drop("instances@prefill")))
    assert (alone.status, alone.reason.code) == ("refused", "one_role")
    assert "no prefill" in alone.reason.text


def test_no_prompt_tokens_refuse_the_ratio() -> None:
    """Without any count of prompt tokens nothing is prefill's work; decode has its capacity all the same."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=1.0, hours=12)
    counted = ("offered_tps@prefill", "prefill_tps_effective@prefill", "prefill_tps@prefill")
    derived = derive_service(replace(frame, table=frame.table.drop(counted)), (), FEW).derived
    assert (derived.pd_ratio.status, derived.pd_ratio.reason.code) == ("refused", "no_prompt_tokens")
    assert derived.capacity_of("prefill").reason.code == "no_prompt_tokens"
    assert derived.capacity_of("decode").status != "refused"
    assert {r.what for r in derived.refusals} >= {"capacity@prefill", "pd_ratio"}


@pytest.mark.parametrize("peak", [0.6, 1.1])
def test_an_unknown_hit_rate_leaves_prefill_a_floor_and_no_ratio(peak: float) -> None:
    """Raw prompt tokens size prefill with head-room; its true capacity and the ratio are not known."""
    frame = day_frame(0, prefill_peak=peak, decode_peak=peak, hours=24)
    raw = with_columns(frame, {"offered_tps@prefill": 1.3 * frame.values("offered_tps", "prefill")})
    raw = replace(raw, table=raw.table.drop("prefill_tps_effective@prefill"))
    derived = derive_service(raw, (), FEW).derived
    prefill, whole = derived.capacity_of("prefill"), derive_service(frame, (), FEW).derived
    assert (prefill.status, prefill.signal, prefill.calm) == ("floor", "prefill_tps", False)
    assert prefill.per_instance <= 1.02 * 1.3 * whole.capacity_of("prefill").per_instance
    target = derived.threshold_of("prefill_tps", "prefill")
    assert target.target_per_instance <= 0.85 * prefill.per_instance * (1 + 1e-9)
    assert (derived.pd_ratio.status, derived.pd_ratio.reason.code) == ("refused", "hit_rate_unknown")
    assert derived.pd_ratio.value is None
    assert derived.pd_ratio.at_least is None
    assert (derived.pd_ratio.at_most is not None) == (derived.capacity_of("decode").status == "ok")
    assert derived.capacity_of("decode") == whole.capacity_of("decode")


def test_windows_of_which_the_buckets_cannot_tell_leave_the_ratio_a_floor() -> None:
    """A capacity that rests on them is a floor, and a floor does not balance; the edge to add is named."""
    frame = day_frame(2, prefill_peak=1.1, decode_peak=1.1, hours=24)
    unsure = with_columns(frame, {"tbt_over_least@decode": np.zeros(frame.table.height)})
    derived = derive_service(unsure, (), FEW).derived
    assert (derived.pd_ratio.status, derived.pd_ratio.reason.code) == ("floor", "undecided_edge")
    assert "decode" in derived.pd_ratio.reason.text
    assert all("edge" in r.collect for r in derived.refusals if r.what in ("pd_ratio", "capacity@decode"))


def test_a_pressure_test_has_stretches_of_its_own_length() -> None:
    """Twenty minutes of 20-s windows make stretches of a minute; a mix that moves within them is seen."""
    steady = ratio_of(step_test(1, top=1.3))
    assert steady.status == "ok"
    assert len(steady.by_window) >= 12
    frame = step_test(1, top=1.3)
    tilt = np.where(np.arange(frame.table.height) < 30, 1.6, 0.8)
    moving = with_columns(frame, {"offered_tps@prefill": frame.values("offered_tps", "prefill") * tilt})
    assert ratio_of(moving).status == "drifting"


@given(st.integers(2, 24), st.floats(0.1, 10))
def test_whole_number_splits_are_the_best_by_brute_force(total: int, ratio: float) -> None:
    """Every split within 3 % of the best is listed, best first, and no other."""
    served = {(p, total - p): min(p / ratio, total - p) for p in range(1, total)}
    found = integer_pairs(total, ratio)
    assert set(found) == {pair for pair, value in served.items() if value >= 0.97 * max(served.values())}
    assert served[found[0]] == max(served.values())
    assert [served[p] for p in found] == sorted((served[p] for p in found), reverse=True)


def test_one_instance_has_no_split() -> None:
    """A split needs one instance of each role."""
    assert integer_pairs(1, 1.0) == ()
