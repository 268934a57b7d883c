"""A pool that stands as recorded reads what was recorded, its queue and latency included."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from hs_analysis.replay.alike import Alike
from replay.services import SETTINGS, derived, guard, plain_policy, primary, service

from hs_analysis.policy.model import Bounds, Policy, SoftScaleIn
from hs_analysis.replay.demand import DemandTrace, demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.readings import Readings
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.aligned import ServiceFrame

ROWS = 240
LOAD = np.full(ROWS, 3_000.0)
SLO_S = 0.03


def seen(
    part: DemandTrace, ready: dict[str, list[float]], wait: dict[str, list[float]] | None = None
) -> dict[str, list[bool]]:
    """Return which pools stand as recorded after each of the first rows."""
    alike = Alike(part)
    rows = len(next(iter(ready.values())))
    log = SimpleNamespace(ready=ready, wait={role: [0.0] * rows for role in ready} | (wait or {}))
    found: dict[str, list[bool]] = {role: [] for role in ready}
    for row in range(rows):
        alike.see(row, log)
        for role, same in alike.same.items():
            found[role].append(same)
    return found


def test_a_pool_stands_as_recorded_until_its_count_differs() -> None:
    """Then from the row after one in which nothing waited, here or there; a recorded queue is no loss."""
    age_s = np.where(np.isin(np.arange(ROWS), (1, 4)), 3.0, 0.0)
    (part,) = demands(service({"decode": LOAD}, {"decode": 4}, backlog_age_s__decode=age_s))
    found = seen(
        part,
        {"decode": [4.0, 4.0, 3.0, 4.0, 4.0, 4.0, 4.0, np.nan, 4.0, 4.0]},
        {"decode": [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, np.nan, 0.0, 0.0]},
    )
    assert found["decode"] == [True, True, False, False, True, True, True, False, False, True]


def test_decode_stands_as_recorded_while_its_work_comes_as_it_did() -> None:
    """A prefill pool of another size hands it on as it did, unless somebody waits there."""
    (part,) = demands(service({"prefill": LOAD, "decode": LOAD}, {"prefill": 4, "decode": 4}))
    ready = {"prefill": [4.0, 3.0, 3.0, 3.0, 3.0], "decode": [4.0] * 5}
    assert seen(part, ready)["decode"] == [True] * 5
    found = seen(part, ready, {"prefill": [1.0, 0.0, 1.0, 0.0, 0.0]})
    assert found["prefill"] == [True, False, False, False, False]
    assert found["decode"] == [True, True, False, True, True]


def test_altered_demand_is_no_recorded_state() -> None:
    """What a fault changed is like no row that was recorded, nor are the rows after it but for a calm one."""
    (part,) = demands(service({"decode": LOAD}, {"decode": 4}))
    altered = np.arange(ROWS) < 3
    found = seen(replace(part, altered=altered), {"decode": [4.0] * 5})
    assert found["decode"] == [False, False, False, False, True]


def late() -> ServiceFrame:
    """Return a day whose latency is above 30 ms in one row, at a load like that of others."""
    late_s = np.where(np.arange(ROWS) == 150, 0.2, 0.02)
    return service({"decode": LOAD}, {"decode": 4}, tbt__decode=late_s)


def held(slo_s: float = SLO_S, least: int = 4) -> Policy:
    """Return a policy that holds its pool, four or more, until a guard adds."""
    return plain_policy(
        primaries=(primary("decode_tps", "decode", 1_000.0),), guards=(guard("tbt", "decode", slo_s),),
        bounds={"decode": Bounds(least, 50)}, pd_ratio=None, soft_scale_in=SoftScaleIn(120.0, "tbt > 30 ms"),
    )  # fmt: skip


def test_a_guard_reads_the_recorded_latency_at_the_recorded_count() -> None:
    """And the curve at another one; a window without a latency is read off the curve too."""
    frame = late()
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    alone = simulate(held(), part, model)
    assert alone.desired["decode"][150] == 4
    assert alone.desired["decode"][151] == 5
    assert "tbt" in alone.reason[151]
    assert simulate(held(least=6), part, model).desired["decode"].max() == 6
    blank = np.where(np.arange(ROWS) == 150, np.nan, part.column("tbt", "decode"))
    unseen = replace(part, recorded=part.recorded | {("tbt", "decode"): blank})
    assert simulate(held(), unseen, model).desired["decode"].max() == 4


def test_a_queue_as_recorded_reads_as_recorded() -> None:
    """A row in which work waited reads its own value, where the replay has the same count."""
    age_s = np.where(np.arange(ROWS) == 1, 3.0, 0.0)
    queue = np.where(np.arange(ROWS) == 1, 40.0, 0.0)
    frame = service({"decode": LOAD}, {"decode": 4}, backlog_age_s__decode=age_s, queue_length__decode=queue)
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame)
    for ready, told in ((4.0, 40.0), (5.0, 0.0)):
        readings = Readings([("queue_length", "decode")], part, model)
        tokens = {"decode": [3_000.0 * 60.0] * 2}
        log = SimpleNamespace(
            ready={"decode": [ready] * 2}, wait={"decode": [0.0] * 2}, queued={"decode": [0.0] * 2},
            served=tokens, arrived=tokens,
        )  # fmt: skip
        for row in range(2):
            readings.record(row, log)
        assert readings.scraped["queue_length", "decode"][1] == told
