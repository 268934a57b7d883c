"""A quantile at counts that never ran: what it follows, where it is not known, where it has no model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from controllers.batches import asks
from replay.services import SETTINGS, derived, service

from hs_analysis.controllers.hpa import Hpa, Metric
from hs_analysis.controllers.keda import Keda
from hs_analysis.replay.demand import demands, trailing_mean_of_known
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.readings import Passed, Readings, SameState
from hs_analysis.replay.signals import UNKNOWN, Quantile, SignalModel, fit_quantile, quantile_of
from hs_analysis.schema.aligned import ServiceFrame

ROWS = 600
LOAD = 4_000.0 + 3_000.0 * np.sin(np.arange(ROWS) / 40.0)
"""Work of four instances: a tenth of it each side of 250 to 1,750 an instance."""
RANGE = 5
"""Rows of the query's range."""
NAME, KEY = "ttft_p95_300s", ("ttft_p95_300s", "service")


def of_load(load: np.ndarray) -> np.ndarray:
    """Return the true quantile at a load per instance [s]."""
    return 0.2 + (load / 2_000.0) ** 2


def history(value: np.ndarray | None = None, **more: np.ndarray) -> ServiceFrame:
    """Return a service of four prefill instances whose quantile is exactly that of five rows of its load."""
    exact = of_load(trailing_mean_of_known(LOAD / 4.0, RANGE))
    columns = {f"{NAME}__service": exact if value is None else value, **more}
    frame = service({"prefill": LOAD}, {"prefill": 4}, **columns)
    infos = (
        replace(one, family="latency", pool="ratio") if one.signal == NAME else one for one in frame.signals
    )
    return replace(frame, signals=tuple(infos))


def fitted(frame: ServiceFrame) -> SignalModel | str:
    """Return the quantile's model, or why it has none."""
    info = frame.info(*KEY)
    assert info is not None
    return fit_quantile(frame, info)


def passed(row: int, counts: np.ndarray, waits_s: np.ndarray | None = None) -> Passed:
    """Return a row of lanes that serve all that comes, at counts of shape (rows,) or (rows, lanes)."""
    ready = np.atleast_1d(counts[row]).astype(float)
    lanes = ready.size
    wait = np.full(lanes, 0.0 if waits_s is None else waits_s[row])
    served = {"prefill": np.full(lanes, LOAD[row] * 60.0)}
    still = np.zeros(lanes, bool)
    return Passed(
        served, {"prefill": np.zeros(lanes)}, {"prefill": ready}, {"prefill": wait}, np.ones(lanes), still
    )


def read(counts: np.ndarray, waits_s: np.ndarray | None = None) -> np.ndarray:
    """Return what the quantile reads at some counts, one lane a column of them."""
    (part,) = demands(history())
    lanes = np.atleast_1d(counts[0]).size
    readings = Readings([KEY], 1, part, fit_fleet(history(), derived(), SETTINGS), lanes)
    state, found = SameState(part, lanes), []
    for row in range(ROWS):
        one = passed(row, counts, waits_s)
        state.see(row, one)
        found.append(readings.read(row, one, state)[0])
    return np.squeeze(np.array(found))


@pytest.mark.parametrize(
    "one", [Quantile("ttft", 0.95, 300.0), Quantile("e2e_latency", 0.999, 60.0), Quantile("tbt", 0.5, 90.5)]
)
def test_a_quantile_is_found_again_in_its_name(one: Quantile) -> None:
    """Latency, share and range."""
    found = quantile_of(one.name)
    assert found is not None
    assert (found.latency, found.range_s) == (one.latency, one.range_s)
    assert found.share == pytest.approx(one.share)
    assert quantile_of("ttft") is None


def test_at_the_counts_that_ran_it_reads_what_was_recorded() -> None:
    """To the last digit."""
    assert np.array_equal(read(np.full(ROWS, 4.0)), history().values(*KEY))


def test_at_other_counts_it_is_that_of_the_load_over_its_range() -> None:
    """Five instances for four; the first rows of a change mix both counts, as the range does."""
    counts = np.where(np.arange(ROWS) < 300, 4.0, 5.0)
    seen, wanted = read(counts), of_load(trailing_mean_of_known(LOAD / counts, RANGE))
    assert np.array_equal(seen[:300], history().values(*KEY)[:300])
    inside = trailing_mean_of_known(LOAD / counts, RANGE)[300:] > LOAD.min() / 4.0 * 1.05
    assert seen[300:][inside] == pytest.approx(wanted[300:][inside], rel=0.03)


def test_back_at_the_counts_that_ran_the_record_waits_for_a_whole_range() -> None:
    """While a row of the other count is still in the range, what was recorded is not what is there."""
    counts = np.full(ROWS, 4.0)
    counts[200:300] = 5.0
    same = read(counts) == history().values(*KEY)
    assert not same[300 : 300 + RANGE - 1].any()
    assert same[300 + RANGE - 1 :].all()


def test_above_the_highest_load_that_ran_it_is_not_known() -> None:
    """Infinite: an autoscaler holds on it. Nothing is carried on beyond what was seen."""
    seen, load = read(np.full(ROWS, 3.0)), trailing_mean_of_known(LOAD / 3.0, RANGE)
    beyond = load > trailing_mean_of_known(LOAD / 4.0, RANGE).max()
    assert beyond.any()
    assert np.isinf(seen[beyond]).all()
    assert np.isfinite(seen[~beyond]).all()


def test_what_waits_is_in_it_as_far_as_its_share_reaches() -> None:
    """Of five rows one waited 8 s: a fifth of the requests, so that the 95 % quantile holds it all."""
    waits_s = np.zeros(ROWS)
    waits_s[400] = 8.0
    counts = np.full(ROWS, 5.0)
    gained = read(counts, waits_s) - read(counts)
    assert gained[400 : 400 + RANGE] == pytest.approx(np.full(RANGE, 8.0))
    assert np.count_nonzero(gained) == RANGE


def test_a_wait_makes_it_known_beyond_the_highest_load() -> None:
    """A pool at its ceiling is behind: that it is late is certain, and by how much the backlog says."""
    seen = read(np.full(ROWS, 3.0), np.full(ROWS, 20.0))
    assert np.isfinite(seen[RANGE:]).all()
    assert seen[RANGE:].min() > 20.0


def test_a_quantile_that_does_not_follow_load_has_no_model() -> None:
    """Noise, or one that falls as load rises."""
    noise = np.random.default_rng(0).uniform(0.2, 0.4, ROWS)
    for value in (noise, 5.0 - history().values(*KEY)):
        why = fitted(history(value))
        assert isinstance(why, str)
        assert why.startswith("it does not follow the load of prefill: at the highest tenth of load")
        assert KEY not in fit_fleet(history(value), derived(), SETTINGS).signals


def test_a_quantile_needs_as_many_ranges_as_a_curve_needs_rows() -> None:
    """Twenty of five rows; a queue anywhere in a range makes it say nothing of load."""
    whole = history().values(*KEY)
    assert isinstance(fitted(history()), SignalModel)
    some = np.where(np.arange(ROWS) < 99, whole, math.nan)
    assert fitted(history(some)) == ("it is known in 99 windows without a queue, and a curve of it needs 100")
    late = np.where(np.arange(ROWS) % 2 == 0, 5.0, 0.0)
    assert fitted(history(whole, backlog_age_s__prefill=late)) == (
        "it is known in 0 windows without a queue, and a curve of it needs 100"
    )


def test_a_quantile_of_a_pool_that_the_service_lacks_has_no_model() -> None:
    """Gaps between tokens, where only prefill is there."""
    frame = service({"prefill": LOAD}, {"prefill": 4}, tbt_p95_300s__service=of_load(LOAD))
    info = frame.info("tbt_p95_300s", "service")
    assert info is not None
    assert fit_quantile(frame, info) == "it answers to the load of no one pool of this service"


@pytest.mark.parametrize("scaler", [Hpa, Keda])
def test_an_autoscaler_holds_on_a_quantile_that_is_not_known(scaler: type) -> None:
    """Nor is it a query without an answer, which KEDA takes for zero."""
    hpa = Hpa((Metric(NAME, 1.0, "Value", 0.0),), 1, 20)
    one = hpa if scaler is Hpa else Keda(hpa, max_replica_count=20)
    assert asks(one, {NAME: [UNKNOWN]}, 7) == 7
    assert asks(one, {NAME: [2.0]}, 7) > 7


def test_lanes_read_a_quantile_each_for_itself() -> None:
    """Three lanes at other counts are three readings alone."""
    lanes = np.stack([np.full(ROWS, 4.0), np.where(np.arange(ROWS) < 300, 4.0, 5.0), np.full(ROWS, 3.0)], 1)
    together = read(lanes)
    for lane in range(3):
        assert np.array_equal(together[:, lane], read(lanes[:, lane]))


def test_a_replay_that_goes_on_from_another_knows_what_that_one_saw() -> None:
    """Under faults a replay branches off: the rows that were not as recorded are still in the range."""
    counts = np.where(np.arange(ROWS) < 300, 5.0, 4.0)
    (part,) = demands(history())
    model = fit_fleet(history(), derived(), SETTINGS)
    readings, state = Readings([KEY], 1, part, model, 1), SameState(part, 1)
    found = []
    for row in range(ROWS):
        if row == 300:
            readings, state = readings.take(np.array([0, 0])), state.take(np.array([0, 0]))
        one = passed(row, np.repeat(counts[:, None], 1 if row < 300 else 2, axis=1))
        state.see(row, one)
        values = readings.read(row, one, state)[0]
        assert (values == values[0]).all()
        found.append(float(values[0]))
    assert found == read(counts).tolist()
