"""What a controller reads at counts that never ran: the row as it was recorded, and the rows before."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from replay.services import SETTINGS, day, derived, guard, plain_policy, primary, service

from hs_analysis.policy.model import Bounds
from hs_analysis.replay.demand import demands, taking_over
from hs_analysis.replay.fleet import FleetModel, fit_fleet
from hs_analysis.replay.readings import Readings
from hs_analysis.replay.signals import SignalModel
from hs_analysis.replay.simulate import simulate
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


def read(frame: ServiceFrame, row: int, ready: float, served: float = 1.0) -> dict[tuple[str, str], float]:
    """Return the readings of a row at a count that serves a share of what came."""
    (part,) = demands(frame)
    readings = Readings([WORK, UTIL], part, fleet(frame))
    tokens = [0.0] * ROWS
    tokens[row] = served * float(SMOOTH[row]) * 60.0
    log = SimpleNamespace(
        served={"decode": tokens}, ready={"decode": [ready] * ROWS}, queued={"decode": [0.0] * ROWS},
        wait={"decode": [0.0] * ROWS},
    )  # fmt: skip
    readings.record(row, log)
    return {key: readings.scraped[key][row] for key in (WORK, UTIL)}


def backlogged(name: str, *, waits: bool = True, source: str = "made", **more: np.ndarray) -> float:
    """Return what a reading of the service is at other counts; 40 requests wait for prefill, 5 for decode.

    That is the row of the highest load; what waits is 5 s old in front of prefill and 2 s in front of decode.
    """
    load = {"prefill": 4.0 * SMOOTH, "decode": SMOOTH}
    frame = service(load, {"prefill": 8, "decode": 4}, request_rate__service=SMOOTH / 200.0, **more)
    frame = replace(frame, signals=tuple(replace(info, source=source) for info in frame.signals))
    (part,) = demands(frame)
    readings = Readings([(name, "decode")], part, fit_fleet(frame, derived(), SETTINGS), waits=waits)
    log = SimpleNamespace(
        served={role: (each * 60.0).tolist() for role, each in load.items()},
        ready={"prefill": [7.0] * ROWS, "decode": [8.0] * ROWS},
        queued={"prefill": [40 * 800.0] * ROWS, "decode": [5 * 200.0] * ROWS},
        wait={"prefill": [5.0] * ROWS, "decode": [2.0] * ROWS},
    )
    readings.record(ROWS // 2, log)
    return readings.scraped[name, "decode"][ROWS // 2]


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
    assert backlogged(name, waits=False, **flat) == pytest.approx(0.3)


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
    """A mean of five rows, the last four of them 600 and one of 100: 500 of 100 a piece, not 100."""
    load = np.array([600.0] * 10 + [600.0, 600.0, 600.0, 600.0, 100.0] + [100.0] * 5)
    frame = service({"decode": load}, {"decode": 2})
    past, own = halves(frame, 15)
    model = fit_fleet(day_of_work(), derived(), SETTINGS)
    (part,) = taking_over(demands(own), past)
    policy = plain_policy(**ALONE)
    assert simulate(policy, part, model).desired["decode"][0] == 5
    assert simulate(policy, demands(own)[0], model).desired["decode"][0] == 2
    (alone,) = taking_over(demands(own), frame)
    assert alone.before == {}
    (later,) = taking_over(demands(halves(frame, 16)[1]), past)
    assert later.before == {}


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
    assert simulate(policy, part, model).desired["decode"][0] < 40
    blind = {key: values for key, values in part.before.items() if key[0] != "tbt"}
    assert simulate(policy, replace(part, before=blind), model).desired["decode"][0] == 40


def test_a_guard_reads_the_mean_wait_of_its_window() -> None:
    """A queue that grows evenly through a window makes its requests wait half of the last one's wait."""
    model = fleet(noisy(tbt__decode=0.02 + SMOOTH / 1e6))
    pools = {"decode": replace(model.pools["decode"], max_throughput=100.0)}
    model = replace(model, pools=pools, waits={"tbt": {"decode": 1.0}})
    flat = SignalModel("curve", "decode", loads=(0.0, 1.0), values=(0.0, 0.0))
    model = replace(model, signals={**model.signals, ("tbt", "decode"): flat})
    frame = service({"decode": np.full(3, 180.0)}, {"decode": 1}, tbt__decode=np.full(3, np.nan))
    seen: list[float] = []

    def alter(key: tuple[str, str], row: int, value: float, before: object) -> float:
        if key[0] == "tbt":
            seen.append(value)
        return value

    held = plain_policy(**ALONE, guards=(guard("tbt", "decode", 1e6),))
    held = replace(held, primaries=(primary("decode_tps", "decode", 1e6),))
    simulate(held, demands(frame)[0], model, SimpleNamespace(alter=alter, strike=None))
    ages = 0.8 * 15.0 * np.arange(1, 13)
    assert seen == pytest.approx(ages.reshape(3, 4).mean(axis=1))
