"""What a controller reads: what was recorded where the pool is as it was, else the row at other counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay.services import SETTINGS, day, derived, guard, plain_policy, primary, replayed, service

from hs_analysis.controllers.lanes import Scraped
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Bounds, Policy, SoftScaleIn
from hs_analysis.replay.demand import DemandTrace, demands, taking_over
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.readings import Passed, Readings, SameState, Slots, uneven_parts
from hs_analysis.replay.signals import SignalModel
from hs_analysis.replay.simulate import Lot, Run, Strike
from hs_analysis.schema.aligned import ServiceFrame

ROWS = 240
WORK = ("decode_tps", "decode")
UTIL = ("gpu_util", "decode")
SMOOTH = day(ROWS, 3_000.0, noise=0.0)
NOISE = np.exp(0.05 * np.random.default_rng(3).standard_normal(ROWS))
ALONE = {"bounds": {"decode": Bounds(1, 50)}, "pd_ratio": None}


def noisy(**more: np.ndarray) -> ServiceFrame:
    """Return a service whose demand is known smoothly, and whose rows read 5 % beside it."""
    frame = service({"decode": SMOOTH}, {"decode": 4}, gpu_util__decode=SMOOTH * NOISE / 4e4, **more)
    return with_column(frame, "decode_tps@decode", SMOOTH * NOISE)


def with_column(frame: ServiceFrame, name: str, values: np.ndarray) -> ServiceFrame:
    """Return the frame with other values in a column."""
    import polars as pl

    return replace(frame, table=frame.table.with_columns(pl.Series(name, values)))


def fleet(frame: ServiceFrame) -> FleetModel:
    """Return the fleet of a frame, in which utilisation is exactly proportional to work per instance."""
    model = fit_fleet(frame, derived(), SETTINGS)
    exact = SignalModel("curve", "decode", loads=(0.0, 4e3), values=(0.0, 0.4), kept=True)
    return replace(model, signals={**model.signals, UTIL: exact})


def passed(
    served: dict[str, float], ready: dict[str, float], queued: dict[str, float] | None = None,
    wait: dict[str, float] | None = None, *, altered: bool = False,
) -> Passed:  # fmt: skip
    """Return a completed row of one lane [tokens, instances, tokens, s]."""

    def lane(values: dict[str, float]) -> dict[str, np.ndarray]:
        return {role: np.array([float(value)]) for role, value in values.items()}

    nothing = dict.fromkeys(served, 0.0)
    both = lane(queued or nothing), lane(ready), lane(wait or nothing)
    return Passed(lane(served), *both, np.ones(1), np.array([altered]))


def read_at(
    keys: list[tuple[str, str]], part: DemandTrace, model: FleetModel, rows: dict[int, Passed]
) -> dict[tuple[str, str], float]:
    """Return the readings of the last of some completed rows of one lane."""
    readings, state = Readings(keys, 1, part, model, 1), SameState(part, 1)
    found = np.empty((len(keys), 1))
    for row, one in rows.items():
        state.see(row, one)
        found = readings.read(row, one, state)
    return dict(zip(keys, found[:, 0].tolist(), strict=True))


def read(frame: ServiceFrame, row: int, ready: float, served: float = 1.0) -> dict[tuple[str, str], float]:
    """Return the readings of a row at a count that serves a share of what came."""
    (part,) = demands(frame)
    seen = passed({"decode": served * float(SMOOTH[row]) * 60.0}, {"decode": ready})
    return read_at([WORK, UTIL], part, fleet(frame), {row: seen})


def backlogged(name: str, *, source: str = "made", **more: np.ndarray) -> float:
    """Return what a reading of the service is at other counts; 40 requests wait for prefill, 5 for decode.

    That is the row of the highest load; what waits is 5 s old in front of prefill and 2 s in front of decode.
    """
    load, row = {"prefill": 4.0 * SMOOTH, "decode": SMOOTH}, ROWS // 2
    frame = service(load, {"prefill": 8, "decode": 4}, request_rate__service=SMOOTH / 200.0, **more)
    frame = replace(frame, signals=tuple(replace(info, source=source) for info in frame.signals))
    (part,) = demands(frame)
    seen = passed(
        {role: float(each[row]) * 60.0 for role, each in load.items()}, {"prefill": 7.0, "decode": 8.0},
        {"prefill": 40 * 800.0, "decode": 5 * 200.0}, {"prefill": 5.0, "decode": 2.0},
    )  # fmt: skip
    key = (name, "decode")
    return read_at([key], part, fit_fleet(frame, derived(), SETTINGS), {row: seen})[key]


def test_all_requests_in_the_service_are_those_that_run_and_those_that_wait() -> None:
    """As many run as ran at that load, whatever the counts; a backlog comes on top."""
    level = SMOOTH / 50.0
    assert backlogged("in_flight", in_flight__service=level) == pytest.approx(
        level[ROWS // 2] + 45.0, rel=0.02
    )


def test_a_front_end_holds_what_waits_where_it_ever_held_anything() -> None:
    """Dynamo's what waits for prefill, a picker's what waits for any pool; one that reads 0 says nothing."""
    held = np.where(np.arange(ROWS) % 7 == 0, 1.0, 0.0)
    for source, waiting in (("llmd_epp", 45.0), ("dynamo_frontend", 40.0)):
        read = backlogged("router_queue", source=source, router_queue__service=held)
        assert read == pytest.approx(waiting, abs=1.0)
    assert np.isnan(backlogged("router_queue", router_queue__service=np.zeros(ROWS)))


@pytest.mark.parametrize(("name", "wait_s"), [("ttft", 7.0), ("e2e_latency", 7.0), ("tbt", 0.0)])
def test_a_latency_that_an_autoscaler_follows_holds_the_wait(name: str, wait_s: float) -> None:
    """A mean time to first token, and that of a whole request; gaps between tokens know nothing of it."""
    flat = {f"{name}__service": np.full(ROWS, 0.3)}
    assert backlogged(name, **flat) == pytest.approx(0.3 + wait_s)


def test_while_nothing_waits_a_row_reads_what_it_read() -> None:
    """Served work whatever the counts; utilisation of half the instances twice as much, noise and all."""
    for row in (3, 100, 200):
        seen = read(noisy(), row, 2.0)
        assert seen[WORK] == pytest.approx(SMOOTH[row] * NOISE[row])
        assert seen[UTIL] == pytest.approx(SMOOTH[row] * NOISE[row] / 2e4)


def test_while_something_waits_a_row_reads_what_the_model_says() -> None:
    """In the replay, or in the history in that row or the one before: its noise says nothing of a ceiling."""
    assert read(noisy(), 100, 2.0, served=0.5)[WORK] == pytest.approx(0.5 * SMOOTH[100])
    age_s = np.where(np.arange(ROWS) == 99, 3.0, 0.0)
    for row, kept in ((98, True), (99, False), (100, False), (101, True)):
        seen = read(noisy(backlog_age_s__decode=age_s), row, 2.0)
        factor = NOISE[row] if kept else 1.0
        assert seen[WORK] == pytest.approx(SMOOTH[row] * factor)
        assert seen[UTIL] == pytest.approx(SMOOTH[row] * factor / 2e4)


def test_latencies_and_queues_keep_their_curves() -> None:
    """They rise out of proportion: how far a row was off at one load says nothing of another."""
    model = fit_fleet(noisy(tbt__decode=0.02 + SMOOTH * NOISE / 1e6), derived(), SETTINGS)
    assert model.signals[UTIL].kept
    assert not model.signals["tbt", "decode"].kept


def halves(frame: ServiceFrame, cut: int) -> tuple[ServiceFrame, ServiceFrame]:
    """Return the rows before a cut and those from it on."""
    rows = np.arange(frame.table.height)
    return frame.rows(rows < cut), frame.rows(rows >= cut)


def test_the_first_decision_knows_the_rows_before() -> None:
    """Growth on the newest row, 600 of 100 a piece; shrinking on the highest of five, once 600 is past."""
    load = np.array([100.0] * 10 + [600.0, 600.0, 600.0, 600.0, 600.0] + [100.0] * 5)
    frame = service({"decode": load}, {"decode": 2})
    past, own = halves(frame, 15)
    model = fit_fleet(day_of_work(), derived(), SETTINGS)
    (part,) = taking_over(demands(own), past)
    policy = plain_policy(**ALONE)
    assert replayed(policy, part, model).desired["decode"][0] == 6
    assert replayed(policy, demands(own)[0], model).desired["decode"][0] == 2
    (alone,) = taking_over(demands(own), frame)
    assert alone.before == {}
    (later,) = taking_over(demands(halves(frame, 16)[1]), past)
    assert later.before == {}
    falls = np.array([600.0] * 14 + [100.0] * 6)
    past, own = halves(service({"decode": falls}, {"decode": 6}), 15)
    (late,) = taking_over(demands(own), past)
    assert replayed(policy, late, model).desired["decode"].tolist() == [6.0, 6.0, 6.0, 6.0, 1.0]


def day_of_work() -> ServiceFrame:
    """Return a history to fit a fleet on."""
    return service({"decode": day(300, 3_000.0)}, {"decode": 4})


def test_a_guard_is_known_at_the_first_decision() -> None:
    """Its last window vetoes or allows; without one a pool may not shrink."""
    load = day(ROWS, 3_000.0, noise=0.0)
    frame = service({"decode": load}, {"decode": 40}, tbt__decode=0.02 + load / 1e6)
    past, own = halves(frame, 100)
    model = fit_fleet(frame, derived(), SETTINGS)
    policy = plain_policy(**ALONE, guards=(guard("tbt", "decode", 0.05),))
    policy = replace(policy, primaries=(primary("decode_tps", "decode", 1_000.0),))
    (part,) = taking_over(demands(own), past)
    assert replayed(policy, part, model).desired["decode"][0] < 40
    blind = {key: values for key, values in part.before.items() if key[0] != "tbt"}
    assert replayed(policy, replace(part, before=blind), model).desired["decode"][0] == 40


class Watching(Strike):
    """Changes nothing, and keeps what one reading of the first lane was."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen: list[float] = []

    def scraped(self, row: int, true: np.ndarray, lot: Lot) -> np.ndarray:
        """Keep the value."""
        self.seen += true[lot.slots.numbers[:, 0] == self.number, 0].tolist()
        return true


def test_a_guard_reads_the_mean_wait_of_its_window() -> None:
    """A queue that grows evenly through a window makes its requests wait half of the last one's wait."""
    model = fleet(noisy(tbt__decode=0.02 + SMOOTH / 1e6))
    pools = {"decode": replace(model.pools["decode"], max_throughput=100.0)}
    model = replace(model, pools=pools, waits={"tbt": {"decode": 1.0}})
    flat = SignalModel("curve", "decode", loads=(0.0, 1.0), values=(0.0, 0.0))
    model = replace(model, signals={**model.signals, ("tbt", "decode"): flat})
    frame = service({"decode": np.full(3, 180.0)}, {"decode": 2}, tbt__decode=np.zeros(3))
    held = plain_policy(**ALONE, guards=(guard("tbt", "decode", 1e6),), controller="heteroscale")
    held = replace(held, primaries=(primary("decode_tps", "decode", 1e6),), mode="hold")
    held = replace(held, mode="metric", bounds={"decode": Bounds(1, 1)})
    run = Run([control_of(held)], demands(frame)[0], model)
    run.pools["decode"].hold(np.ones(1), np.zeros(1, np.int64))
    run.strike = watching = Watching(run.readings.keys.index(("tbt", "decode")))
    run.advance(3)
    ages = 0.8 * 15.0 * np.arange(1, 13)
    assert watching.seen == pytest.approx(ages.reshape(3, 4).mean(axis=1))


FLAT = np.full(ROWS, 3_000.0)
SLO_S = 0.03


def same_state(
    part: DemandTrace,
    ready: dict[str, list[float]],
    wait: dict[str, list[float]] | None = None,
    altered: int = 0,
) -> dict[str, list[bool]]:
    """Return which pools stand as recorded after each of the first rows; of ``altered`` the demand is not."""
    state = SameState(part, 1)
    found: dict[str, list[bool]] = {role: [] for role in ready}
    for row in range(len(next(iter(ready.values())))):
        counts = {role: values[row] for role, values in ready.items()}
        ages = dict.fromkeys(ready, 0.0) | {role: one[row] for role, one in (wait or {}).items()}
        state.see(row, passed(dict.fromkeys(ready, 1.0), counts, None, ages, altered=row < altered))
        for role, same in state.same.items():
            found[role].append(bool(same[0]))
    return found


def test_a_pool_stands_as_recorded_until_its_count_differs() -> None:
    """Then from the row after one in which nothing waited, here or there; a recorded queue is no loss."""
    age_s = np.where(np.isin(np.arange(ROWS), (1, 4)), 3.0, 0.0)
    (part,) = demands(service({"decode": FLAT}, {"decode": 4}, backlog_age_s__decode=age_s))
    found = same_state(
        part,
        {"decode": [4.0, 4.0, 3.0, 4.0, 4.0, 4.0, 4.0, np.nan, 4.0, 4.0]},
        {"decode": [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, np.nan, 0.0, 0.0]},
    )
    assert found["decode"] == [True, True, False, False, True, True, True, False, False, True]


def test_decode_stands_as_recorded_while_its_work_comes_as_it_did() -> None:
    """A prefill pool of another size hands it on as it did, unless somebody waits there."""
    (part,) = demands(service({"prefill": FLAT, "decode": FLAT}, {"prefill": 4, "decode": 4}))
    ready = {"prefill": [4.0, 3.0, 3.0, 3.0, 3.0], "decode": [4.0] * 5}
    assert same_state(part, ready)["decode"] == [True] * 5
    found = same_state(part, ready, {"prefill": [1.0, 0.0, 1.0, 0.0, 0.0]})
    assert found["prefill"] == [True, False, False, False, False]
    assert found["decode"] == [True, True, False, True, True]


def test_altered_demand_is_no_recorded_state() -> None:
    """What a fault changed is like no row that was recorded, nor are the rows after it but for a calm one."""
    (part,) = demands(service({"decode": FLAT}, {"decode": 4}))
    found = same_state(part, {"decode": [4.0] * 5}, altered=3)
    assert found["decode"] == [False, False, False, False, True]


def late_once() -> ServiceFrame:
    """Return a day whose latency is above 30 ms in one row, at a load like that of others."""
    late_s = np.where(np.arange(ROWS) == 150, 0.2, 0.02)
    return service({"decode": FLAT}, {"decode": 4}, tbt__decode=late_s)


def holding(slo_s: float = SLO_S, least: int = 4) -> Policy:
    """Return a policy that holds its pool, four or more, until a guard adds."""
    return plain_policy(
        primaries=(primary("decode_tps", "decode", 1_000.0),), guards=(guard("tbt", "decode", slo_s),),
        bounds={"decode": Bounds(least, 50)}, pd_ratio=None, soft_scale_in=SoftScaleIn(120.0, "tbt > 30 ms"),
    )  # fmt: skip


def test_a_guard_reads_the_recorded_latency_at_the_recorded_count() -> None:
    """And the curve at another one; a window without a latency adds nothing."""
    frame = late_once()
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    alone = replayed(holding(), part, model)
    assert alone.desired["decode"][150] == 4
    assert alone.desired["decode"][151] == 5
    assert "a guard is over its limit" in alone.reasons()[151]
    assert replayed(holding(least=6), part, model).desired["decode"].max() == 6
    blank = np.where(np.arange(ROWS) == 150, np.nan, part.column("tbt", "decode"))
    unseen = replace(part, recorded=part.recorded | {("tbt", "decode"): blank})
    assert replayed(holding(), unseen, model).desired["decode"].max() == 4


def test_a_queue_as_recorded_reads_as_recorded() -> None:
    """A row in which work waited reads its own value, where the replay has the same count."""
    age_s = np.where(np.arange(ROWS) == 1, 3.0, 0.0)
    queue = np.where(np.arange(ROWS) == 1, 40.0, 0.0)
    frame = service({"decode": FLAT}, {"decode": 4}, backlog_age_s__decode=age_s, queue_length__decode=queue)
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    tokens = {"decode": 3_000.0 * 60.0}
    for ready, read_as in ((4.0, 40.0), (5.0, 0.0)):
        rows = dict.fromkeys(range(2), passed(tokens, {"decode": ready}))
        found = read_at([("queue_length", "decode")], part, model, rows)
        assert found["queue_length", "decode"] == read_as


def test_parts_of_a_row_keep_its_sum() -> None:
    """Sums up to each part vary as a Brownian bridge does; parts are independent but for the sum."""
    draws, parts = 20_000, 4
    drawn = uneven_parts(draws, parts, 5)
    assert drawn.shape == (draws, parts - 1)
    want = np.array([[min(i, j) * (parts - max(i, j)) / parts**2 for j in (1, 2, 3)] for i in (1, 2, 3)])
    spread = 5.0 * np.sqrt(2.0 / draws)  # of a covariance of normals, at most
    np.testing.assert_allclose(np.cov(drawn.T), want, atol=float(want.max()) * spread)
    assert uneven_parts(3, 1, 0).shape == (3, 0)


def test_a_range_that_ends_within_a_row_is_the_sum_of_its_parts() -> None:
    """By hand: two quarters of 12 after a row of 8, of which one more than an even share had come."""
    key = ("load", "decode")
    uneven = {key: np.array([[[0.0], [0.0]], [[0.0], [1.0]], [[0.0], [0.0]]])}
    seen = Scraped(60.0, {key: np.array([[8.0], [12.0]])}, uneven)
    assert seen.means_within(key, 60.0, 4)[:, 0].tolist() == [9.0, 11.0, 11.0, 12.0]
    assert seen.means_within(key, 60.0, 2)[:, 0].tolist() == [11.0, 12.0]
    assert seen.means_within(key, 120.0, 2)[:, 0].tolist() == [10.0, 10.0]  # nothing is known before it
    missing = Scraped(60.0, {key: np.array([[np.nan], [12.0]])}, uneven)
    assert missing.means_within(key, 60.0, 2)[:, 0].tolist() == [12.0, 12.0]


def highest_of_five_minutes(minutes: np.ndarray) -> float:
    """Return the mean over time of the highest of readings, shape (rows, looks), of five rows."""
    return float(np.lib.stride_tricks.sliding_window_view(minutes.max(axis=1), 5).max(axis=1).mean())


@pytest.mark.parametrize("requests", [20.0, 200.0])
def test_the_highest_of_five_minutes_is_that_of_requests_as_they_come(requests: float) -> None:
    """Counted every 15 s, requests of one rate have a higher highest minute than rows of 60 s show."""
    rows, parts = 4_000, 4
    came = np.random.default_rng(7).poisson(requests / parts, (rows, parts)).astype(float)
    each = came.sum(axis=1)
    steps = np.lib.stride_tricks.sliding_window_view(came.ravel(), parts).sum(axis=1)[1:]
    true = highest_of_five_minutes(steps[: (rows - 1) * parts].reshape(-1, parts))
    slots = Slots({WORK: np.zeros(1, int)}, 2, [np.empty(0)], 60.0, np.ones(1), parts)
    drawn, looks = uneven_parts(rows, parts, 0), []
    for row in range(rows):
        value = np.array([[each[row]]])
        slots.add(value, value, drawn[row][:, None])
        looks.append(slots.seen().means_within(WORK, 60.0, parts)[:, 0])
    found = highest_of_five_minutes(np.array(looks[1:]))
    whole = highest_of_five_minutes(each[1:, None])
    assert found == pytest.approx(true, rel=0.01)
    assert true - whole > 4.0 * abs(true - found)


def test_a_value_that_is_not_the_true_one_comes_evenly() -> None:
    """What a fault shows instead has no noise of its own."""
    slots = Slots({WORK: np.zeros(2, int)}, 2, [np.empty(0)], 60.0, np.ones(1), 4)
    for true in (4.0, 9.0):
        slots.add(np.array([[true, 5.0]]), np.full((1, 2), true), np.array([[0.5], [0.0], [-0.5]]))
    first = slots.seen().means_within(WORK, 60.0, 4)
    assert first[:, 1].tolist() == [5.0, 5.0, 5.0, 5.0]
    assert first[0, 0] == pytest.approx(4.0 * 0.75 + 9.0 * 0.25 + 0.5 * (3.0 - 2.0))
