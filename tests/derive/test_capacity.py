"""Capacity at the SLO, recovered from services whose capacity is known."""

from dataclasses import replace

import numpy as np
import pytest
from derive.synthetic import (
    LEVEL_SHARE,
    SETTINGS,
    TRUE_SHARE,
    Service,
    day_frame,
    day_shape,
    make_frame,
    step_test,
    wander,
    with_columns,
)
from scipy.stats import binom, norm
from seeds import first

from hs_analysis.derive import derive_service
from hs_analysis.derive.rows import role_rows
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.limit_edges import LimitEdges
from hs_analysis.schema.results import Capacity
from hs_analysis.schema.settings import Settings, Slo

FEW = replace(SETTINGS, draws=80)  # enough to test an interval, and quick
TRUE = {"prefill": Service().prefill_capacity, "decode": Service().decode_capacity}


def capacities(frame, settings: Settings = SETTINGS) -> dict[str, Capacity]:
    """Return the capacity of each role."""
    return {c.role: c for c in derive_service(frame, (), settings).derived.capacity}


def covered(capacity: Capacity) -> bool:
    """Whether the interval holds the true capacity."""
    assert capacity.ci is not None
    return capacity.ci[0] <= TRUE[capacity.role] <= capacity.ci[1]


def check_recovery(found: list[Capacity], worst: float) -> None:
    """Hold capacities to the truth: median within 2 %, the worst within `worst`, coverage by binomial."""
    errors = [abs(c.per_instance / TRUE[c.role] - 1) for c in found if c.per_instance]
    assert len(errors) == len(found)
    assert np.median(errors) < 0.02
    assert max(errors) < worst
    assert sum(map(covered, found)) >= binom.ppf(0.001, len(found), 0.95)


@pytest.mark.parametrize("peak", [1.0, pytest.param(1.15, marks=pytest.mark.slow)])
def test_capacity_is_recovered_from_days_at_the_limit(peak: float) -> None:
    """Days whose peaks touch or pass both limits give both capacities, with intervals that hold them."""
    found = [
        c
        for seed in range(3)
        for c in capacities(day_frame(seed, prefill_peak=peak, decode_peak=peak, hours=36), FEW).values()
    ]
    known = [c for c in found if c.status == "ok"]
    assert len(known) >= (len(found) if peak > 1 else len(found) - 2)
    assert all(c.basis == "slo" for c in known)
    check_recovery(known, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("peak", [0.97, 1.03, 1.1, 1.25])
def test_capacity_is_recovered_over_many_days(peak: float) -> None:
    """Twenty seeds at each height."""
    found = [
        c
        for seed in range(20)
        for c in capacities(day_frame(seed, prefill_peak=peak, decode_peak=peak, hours=24)).values()
    ]
    known = [c for c in found if c.status == "ok"]
    assert len(known) >= 0.5 * len(found)
    check_recovery(known, 0.1)


@pytest.mark.parametrize("seed", first(2, range(4)))
def test_one_long_overload_is_not_taken_for_capacity(seed: int) -> None:
    """A ramp to 1.5 × capacity that never comes back: no value over 7 % high, and the lower end below."""
    rng = np.random.default_rng([seed, 9])
    service = Service()
    requests = 20 * np.linspace(0.3, 1.5, 720) * wander(720, 0.06, rng, 30)
    prefill = service.prefill_capacity * service.prefill / 20
    decode = service.decode_capacity * service.decode / 20
    frame = make_frame(service, requests, prefill, decode, seed)
    for role, capacity in capacities(frame).items():
        assert capacity.status in ("ok", "floor")
        assert capacity.per_instance <= 1.07 * TRUE[role]
        assert capacity.ci[0] <= 1.02 * TRUE[role]


def test_bursts_do_not_pull_capacity_down() -> None:
    """Bursts of four minutes say at which load the limit breaks, not at which 5-minute mean."""
    found = []
    for seed in range(3):
        rng = np.random.default_rng([seed, 7])
        requests = 13.0 * day_shape(36, low=0.5) * wander(36 * 60, 0.03, rng)
        for start in range(40, requests.size - 10, 47):
            requests[start : start + 4] *= rng.uniform(1.3, 2.0)
        service = Service()
        prefill = service.prefill_capacity * service.prefill / 20
        decode = service.decode_capacity * service.decode / 20
        found += capacities(make_frame(service, requests, prefill, decode, seed), FEW).values()
    known = [c for c in found if c.status == "ok"]
    assert len(known) >= 4
    check_recovery(known, 0.06)


@pytest.mark.parametrize("peak", [0.5, 0.75])
def test_a_limit_never_met_gives_a_floor_below_it(peak: float) -> None:
    """A fleet far from its limit leaves with the load it carried, never with a capacity."""
    for role, capacity in capacities(day_frame(1, prefill_peak=peak, decode_peak=peak, hours=24)).items():
        assert (capacity.status, capacity.basis) == ("floor", "observed")
        assert capacity.reason is not None
        assert capacity.reason.code == "no_violations"
        assert capacity.per_instance == pytest.approx(peak * TRUE[role], rel=0.03)
        assert capacity.per_instance < TRUE[role]


def test_a_limit_broken_where_decode_was_waited_for_is_not_said_to_hold() -> None:
    """First tokens that wait for decode say nothing of prefill; that they broke the limit is said."""
    frame = day_frame(1, prefill_peak=0.75, decode_peak=0.75, hours=24)
    behind = np.arange(frame.table.height) % 300 < 60
    over = np.where(behind, 0.9, np.minimum(frame.values("ttft_over", "service"), 0.01))
    columns = {"saturated@decode": behind.astype(float), "ttft_over@service": over}
    found = capacities(with_columns(frame, columns), replace(SETTINGS, draws=5))["prefill"]
    assert (found.status, found.reason.code) == ("floor", "no_violations")
    assert found.reason.text.startswith(f"TTFT broke its limit only in {behind.sum()} windows")


def test_a_violation_among_the_highest_loads_lowers_a_floor_and_one_by_night_does_not() -> None:
    """One window over the limit is no capacity: at the top it may be the limit, far below it is chance."""
    frame = day_frame(1, prefill_peak=0.75, decode_peak=0.75, hours=24)
    load = role_rows(frame, "decode", SETTINGS).load
    share = np.minimum(frame.values("tbt_over", "decode"), 0.01)
    busiest, idle = int(np.argsort(np.nan_to_num(load))[-8]), int(np.nanargmin(load))

    def floor(*over: int) -> Capacity:
        told = share.copy()
        told[list(over)] = 0.3
        columns = {"tbt_over@decode": told}
        found = capacities(with_columns(frame, columns), replace(SETTINGS, draws=5))["decode"]
        assert found.status == "floor"
        return found

    quiet = floor()
    assert floor(idle).per_instance == pytest.approx(quiet.per_instance, rel=1e-4)  # one window fewer held
    touched = floor(busiest)
    assert touched.reason is not None
    assert (touched.reason.code, touched.reason.text.partition(":")[0]) == ("thin", "1 window over the limit")
    assert 0.85 * quiet.per_instance < touched.per_instance < 0.99 * quiet.per_instance
    assert touched.method.endswith("lowered below loads that may break it")


@pytest.mark.slow
@pytest.mark.parametrize("peak", [0.97, 1.0, 1.03])
def test_no_floor_lies_above_the_truth_where_the_limit_was_nearly_met(peak: float) -> None:
    """Peaks that cross the limit by a little violate in too few windows for a capacity."""
    for seed in range(20):
        days = day_frame(seed, prefill_peak=peak, decode_peak=peak, hours=24)
        for role, capacity in capacities(days, replace(SETTINGS, draws=20)).items():
            assert capacity.status != "floor" or capacity.per_instance <= 1.01 * TRUE[role], (seed, role)


def test_a_limit_seen_only_from_afar_is_not_extrapolated_to() -> None:
    """Shares that rise smoothly show a law where 5 % lies, but nobody has been near it: a floor."""
    frame = day_frame(1, prefill_peak=0.75, decode_peak=0.6, hours=24)
    load = np.convolve(frame.values("offered_tps", "prefill"), np.ones(5) / 5, "same") / Service().prefill
    share = norm.cdf(norm.ppf(0.05) + 3 * np.log(np.maximum(load, 1) / TRUE["prefill"]))
    found = capacities(with_columns(frame, {"ttft_over@service": share}), FEW)["prefill"]
    assert (found.status, found.reason.code) == ("floor", "no_violations")
    near = norm.cdf(norm.ppf(0.05) + 3 * np.log(np.maximum(load, 1) / (0.8 * TRUE["prefill"])))
    known = capacities(with_columns(frame, {"ttft_over@service": near}), FEW)["prefill"]
    assert known.status == "ok"
    assert known.per_instance == pytest.approx(0.8 * TRUE["prefill"], rel=0.03)


@pytest.mark.parametrize(
    ("peak", "statuses"), [(0.7, {"floor"}), (1.0, {"floor", "refused"}), (1.4, {"refused"})]
)
def test_constant_load_never_pins_a_capacity(peak: float, statuses: set[str]) -> None:
    """Without a load range nothing is known of the limit, however many windows violate."""
    for seed in range(3):
        frame = day_frame(
            seed,
            prefill_peak=peak,
            decode_peak=peak,
            hours=24,
            low=1.0,
            wander_sd=1e-3,
            decode_wander_sd=1e-3,
        )
        assert {c.status for c in capacities(frame).values()} <= statuses


def test_load_over_the_limit_throughout_is_an_upper_bound() -> None:
    """Where the lowest load already breaks the limit there is no number, and the reason says so."""
    service = Service()
    requests = 20 * day_shape(24, low=0.4)
    tokens = 3.5 * service.decode_capacity * service.decode / 20
    capacity = capacities(make_frame(service, requests, 500.0, tokens, 0))["decode"]
    assert capacity.per_instance is None
    assert capacity.status == "refused"
    assert capacity.reason is not None
    assert "lowest load seen" in capacity.reason.text


@pytest.mark.parametrize("often", [0.12, 0.4])
def test_a_limit_that_quiet_hours_break_too_has_no_capacity_at_the_busy_ones(often: float) -> None:
    """A law fitted to the peaks is contradicted by the nights below it: no value, no target, and why.

    A floor at the few quiet windows that held asked for 15 times the instances, and made nobody faster.
    """
    frame = day_frame(0, prefill_peak=0.6, decode_peak=1.15, hours=36)
    share = frame.values("tbt_over", "decode")
    idle = np.random.default_rng(0).random(share.size) < often
    spread = with_columns(frame, {"tbt_over@decode": np.where(idle, np.fmax(share, 0.06), share)})
    derived = derive_service(spread, (), FEW).derived
    found, target = derived.capacity_of("decode"), derived.threshold_of("decode_tps", "decode")
    assert found.status == "refused"
    assert found.reason.code == "low_load_breaks"
    assert found.reason.value == pytest.approx(often, abs=0.05)
    assert target.target_per_instance is None
    (refusal,) = [one for one in derived.refusals if one.what == "capacity@decode"]
    assert refusal.collect.startswith("give a limit that quiet hours keep")


def test_an_incident_of_an_hour_leaves_the_capacity() -> None:
    """Three of a hundred windows below it were over the limit, which the objective allows."""
    frame = day_frame(3, prefill_peak=0.6, decode_peak=1.1, hours=36)
    share = frame.values("tbt_over", "decode")
    share[300:360] = 0.3
    found = capacities(with_columns(frame, {"tbt_over@decode": share}), FEW)["decode"]
    assert found.status == "ok"
    assert found.per_instance == pytest.approx(TRUE["decode"], rel=0.05)


def test_two_violating_windows_are_thin() -> None:
    """A limit touched twice by chance is not a limit met: the floor stands."""
    frame = day_frame(2, prefill_peak=0.6, decode_peak=0.6, hours=24)
    share = frame.values("ttft_over", "service")
    share[[300, 900]] = 0.3
    capacity = capacities(with_columns(frame, {"ttft_over@service": share}))["prefill"]
    assert capacity.status == "floor"
    assert capacity.reason is not None
    assert (capacity.reason.code, capacity.reason.value) == ("thin", 2.0)
    assert capacity.per_instance == pytest.approx(0.6 * TRUE["prefill"], rel=0.03)


def test_without_a_limit_the_floor_claims_no_latency() -> None:
    """No SLO: what the pool carried, also beyond its unknown limit, and the reason says so."""
    frame = day_frame(3, prefill_peak=1.2, decode_peak=0.6, hours=24)
    found = capacities(frame, Settings(slo=Slo(ttft_s=1.0)))["decode"]
    assert (found.status, found.reason.code, found.calm) == ("floor", "no_slo", None)
    bare = capacities(frame, Settings())["prefill"]
    assert (bare.status, bare.reason.code) == ("floor", "no_slo")
    assert bare.per_instance > TRUE["prefill"]


def test_a_limit_without_a_histogram_is_told_apart() -> None:
    """A limit was given but the input can't show it: another code, another thing to collect."""
    frame = day_frame(3, prefill_peak=0.6, decode_peak=0.6, hours=12)
    blank = with_columns(frame, {"tbt_over@decode": np.full(frame.table.height, np.nan)})
    derived = derive_service(blank, (), SETTINGS).derived
    assert derived.capacity_of("decode").reason.code == "no_latency_histogram"
    collect = next(r.collect for r in derived.refusals if r.what == "capacity@decode")
    assert "_bucket" in collect


def test_a_limit_between_two_edges_widens_the_interval_by_the_other_reading_and_says_so() -> None:
    """The value is that of the share as read; both ends move out by the distance of the next best reading."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=1.15, hours=36)
    share = frame.values("tbt_over", "decode")
    edges = (LimitEdges("tbt", "vllm", 0.045, 0.035, 0.064),)
    plain = capacities(frame, FEW)["decode"]
    other = np.clip(1.6 * share, 0.0, 1.0)
    read = replace(with_columns(frame, {"tbt_over_other@decode": other}), limit_edges=edges)
    found = capacities(read, FEW)["decode"]
    by_other = capacities(with_columns(frame, {"tbt_over@decode": other}), FEW)["decode"]
    assert (found.status, found.per_instance) == ("ok", plain.per_instance)
    assert found.reading_ratio == pytest.approx(by_other.per_instance / plain.per_instance, rel=0.005)
    away = abs(np.log(found.reading_ratio))
    for end, before in zip(found.ci, plain.ci, strict=True):
        assert abs(np.log(end / found.per_instance)) == pytest.approx(
            np.hypot(np.log(before / plain.per_instance), away)
        )
    assert "interpolated between 35 ms and 64 ms" in found.method
    exact = replace(frame, limit_edges=(LimitEdges("tbt", "vllm", 0.05, 0.05, 0.05),))
    assert capacities(exact, FEW)["decode"] == plain


def test_another_reading_without_rising_odds_is_read_by_its_quantile() -> None:
    """A straight line in the share leaves quiet windows just over the limit: no reason to open up."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=1.15, hours=36)
    share, load = frame.values("tbt_over", "decode"), frame.values("offered_tps", "decode")
    other = np.where((load < 0.6 * load.max()) & (np.arange(load.size) % 20 < 3), 0.06, share)
    found = capacities(with_columns(frame, {"tbt_over_other@decode": other}), FEW)["decode"]
    assert found.status == "ok"
    assert 0.8 < found.reading_ratio < 1.25


def test_a_capacity_that_rests_on_windows_the_buckets_cannot_tell_is_a_floor() -> None:
    """Taken as within, they would move it by more than 10 %: it is what was carried below them."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=1.15, hours=36)
    share = frame.values("tbt_over", "decode")
    plain = capacities(frame, FEW)["decode"]
    never = capacities(with_columns(frame, {"tbt_over_least@decode": 0.0 * share}), FEW)["decode"]
    assert (never.status, never.reason.code) == ("floor", "undecided_edge")
    assert 0.8 * plain.per_instance < never.per_instance <= plain.per_instance
    few = np.where(np.arange(share.size) % 12 == 0, 0.0, share)
    known = capacities(with_columns(frame, {"tbt_over_least@decode": few}), FEW)["decode"]
    assert (known.status, known.per_instance) == ("ok", plain.per_instance)
    assert known.ci[1] >= plain.ci[1]


def between(frame: ServiceFrame, low: np.ndarray | float, high: np.ndarray | float) -> ServiceFrame:
    """Return a frame whose TBT limit lies between two edges with these shares over them."""
    rows = np.ones(frame.table.height)
    frame = with_columns(frame, {"tbt_over_low@decode": rows * low, "tbt_over_high@decode": rows * high})
    return replace(frame, limit_edges=(LimitEdges("tbt", "x", 0.05, 0.035, 0.064),))


def test_a_bucket_that_holds_the_idle_pool_too_gives_a_floor() -> None:
    """From the quietest windows to the limit no count of the histogram moves: the lower end, and an edge."""
    frame = step_test(0, top=1.2)
    share = frame.values("tbt_over", "decode")
    plain = capacities(between(frame, share, share), FEW)["decode"]
    found = capacities(between(frame, 1.0, 0.1 * share), FEW)["decode"]
    assert plain.status == "ok"
    assert (found.status, found.reason.code) == ("floor", "undecided_edge")
    assert found.per_instance == found.ci[0] == pytest.approx(plain.ci[0])
    assert "100% of the samples at the lowest loads" in found.reason.text


def test_a_share_that_is_only_read_between_edges_bounds_nothing() -> None:
    """All loads over the limit by the reading, none by the edge above it: the lowest is no upper bound."""
    frame = step_test(0, top=1.2)
    over = with_columns(frame, {"tbt_over@decode": np.full(frame.table.height, 0.06)})
    for high, known in ((0.06, True), (0.01, False)):
        found = capacities(between(over, 0.3, high), FEW)["decode"]
        assert (found.status, found.reason.code) == ("refused", "cannot_fit")
        assert ("already breaks it" in found.reason.text) is known


def test_below_the_first_edge_the_capacity_there_is_only_a_bound() -> None:
    """Nothing shows that a limit below all edges held: a load carried without a claim, and never beyond."""
    frame = day_frame(0, prefill_peak=0.6, decode_peak=1.15, hours=36)
    share = frame.values("tbt_over", "decode")
    blind = with_columns(
        frame, {"tbt_over@decode": np.full(share.size, np.nan), "tbt_over_least@decode": share}
    )
    derived = derive_service(blind, (), FEW).derived
    found = derived.capacity_of("decode")
    assert (found.status, found.reason.code, found.calm) == ("floor", "below_first_edge", None)
    assert found.per_instance <= capacities(frame, FEW)["decode"].per_instance
    assert "add" not in found.method
    assert derived.pd_ratio.at_most is None or derived.pd_ratio.at_most > 0


def test_pressure_test_finds_capacity_within_its_interval() -> None:
    """Twenty minutes of steps up and down: the answer is rough, says so, and holds the truth."""
    found = [c for seed in range(6) for c in capacities(step_test(seed, top=1.3)).values()]
    truth = {role: value / TRUE_SHARE * LEVEL_SHARE for role, value in TRUE.items()}
    # One test of the twelve meets the limit in four windows only: refused as too thin, with a floor below it.
    thin = [c for c in found if c.status != "ok"]
    assert [c.reason.code for c in thin if c.reason] == ["thin"]
    assert all(c.per_instance <= truth[c.role] for c in thin)
    found = [c for c in found if c.status == "ok"]
    assert {c.method for c in found} == {"load levels"}
    errors = {role: [c.per_instance / truth[role] - 1 for c in found if c.role == role] for role in truth}
    assert max(map(abs, errors["decode"])) < 0.16
    assert max(map(abs, errors["prefill"])) < 0.3
    assert sum(c.ci[0] <= truth[c.role] <= c.ci[1] for c in found) >= binom.ppf(0.001, len(found), 0.95)


def test_a_thin_pressure_test_still_names_a_load_that_held() -> None:
    """One window over the limit by chance does not take the floor away, nor does the floor pass the limit."""
    frame = step_test(0, top=0.9)
    share = frame.values("tbt_over", "decode")
    share[2] = 0.06  # at a quarter of the highest load
    found = capacities(with_columns(frame, {"tbt_over@decode": share}))["decode"]
    assert (found.status, found.reason.code) == ("floor", "thin")
    assert 0.7 * TRUE["decode"] < found.per_instance < TRUE["decode"]


def test_pressure_test_below_the_limit_is_a_floor() -> None:
    """Steps that never reach the limit give the load carried."""
    for role, capacity in capacities(step_test(0, top=0.7)).items():
        assert (capacity.status, capacity.reason.code) == ("floor", "no_violations")
        assert capacity.per_instance < TRUE[role]


def test_an_interval_wider_than_the_value_is_a_floor_at_its_lower_end() -> None:
    """Readings that break at loads far apart leave no value between them: the end that is safe is kept."""
    frame = step_test(0, top=1.2)
    over = frame.values("ttft_over", "service")
    load = frame.values("offered_tps", "prefill") / Service().prefill
    low = np.clip((load / TRUE["prefill"] - 0.3) * 0.6, 0.0, 1.0)
    other = {"ttft_over_other@service": np.maximum(low, over), "ttft_over_least@service": over}
    derived = derive_service(with_columns(frame, other), (), FEW).derived
    found, ratio = derived.capacity_of("prefill"), derived.pd_ratio
    target = derived.threshold_of("prefill_tps_effective", "prefill")
    assert (found.status, found.reason.code) == ("floor", "cannot_fit")
    assert found.per_instance == found.ci[0] < TRUE["prefill"] < found.ci[1]
    assert target.target_per_instance == pytest.approx(0.85 * found.ci[0])
    truth = Service().prefill / Service().decode  # both pools are pressed alike
    assert ratio.value == pytest.approx(truth, rel=0.3)  # weighed at the limit, not at the safe end
    assert ratio.ci[0] < truth < ratio.ci[1]


@pytest.mark.parametrize("kind", ["production", "pressure_test"])
def test_load_that_never_moves_has_no_interval_of_zero_width(kind: str) -> None:
    """Resampling sees nothing of a load that stood still: the law's own error is left."""
    frame = replace(day_frame(4, prefill_peak=0.6, decode_peak=0.6, hours=10), kind=kind)
    still = np.full(frame.table.height, 9000.0)
    frame = with_columns(frame, {f"offered_tps@{role}": still for role in TRUE})
    for found in capacities(frame, FEW).values():
        assert found.status == "floor"
        assert found.ci[0] < found.per_instance < found.ci[1]


def test_a_burst_shorter_than_a_window_does_not_pull_capacity_down() -> None:
    """A window that violates while it drains another's burst says nothing of its own load."""
    frame = step_test(1, top=1.3)
    plain = capacities(frame)["decode"]
    arrivals = frame.values("offered_tps", "decode") / 200.0
    departures = arrivals.copy()
    share = frame.values("tbt_over", "decode")
    drained = [3, 4, 55, 56]  # at a quarter of the highest load
    share[drained] = 0.5
    departures[drained] *= 2.0
    flows = {"first_token_rate@service": arrivals, "completion_rate@service": departures}
    burst = capacities(with_columns(frame, {"tbt_over@decode": share, **flows}))["decode"]
    steady = capacities(with_columns(frame, {"tbt_over@decode": share}))["decode"]
    assert plain.ci is not None
    assert burst.ci is not None
    assert burst.per_instance == pytest.approx(plain.per_instance, rel=0.05)
    assert burst.ci[0] > 0.8 * plain.ci[0]
    assert steady.ci is None or steady.ci[0] < 0.8 * plain.ci[0]  # without flows nobody can tell


def test_a_floor_of_a_pressure_test_lasted() -> None:
    """One window of high load that held is noise: a floor is a load that held for three windows."""
    frame = step_test(0, top=0.7)
    offered = frame.values("offered_tps", "decode")
    offered[29] *= 1.5
    plain = capacities(frame)["decode"].per_instance
    assert (
        capacities(with_columns(frame, {"offered_tps@decode": offered}))["decode"].per_instance <= 1.2 * plain
    )


def test_one_overload_gives_a_capacity_with_the_larger_doubt() -> None:
    """Windows that violate in one surge pin the limit, but nothing shows how surges differ."""
    found = []
    for seed in range(4):
        service, rng = Service(), np.random.default_rng([seed, 5])
        requests = 16 * day_shape(24, low=0.3) * wander(24 * 60, 0.03, rng)
        requests[600:840] = 20 * (0.8 + 0.35 * (1 - np.abs(np.linspace(-1, 1, 240))))
        prefill = service.prefill_capacity * service.prefill / 20
        decode = 0.6 * service.decode_capacity * service.decode / 20
        found.append(capacities(make_frame(service, requests, prefill, decode, seed))["prefill"])
    few = [c for c in found if c.method == "logistic, few episodes"]
    assert len(few) >= 2
    assert all(c.ci[1] / c.ci[0] > np.exp(2 * 1.96 * 0.035) for c in few)
    check_recovery(few, 0.05)
