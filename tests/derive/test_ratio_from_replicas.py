"""The P/D ratio from a history of changing counts: identified where each side was held back, else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from align.service import put_on_grid
from derive.synthetic import SETTINGS, Service, day_shape, frame_of, make_frame, role_state, wander
from seeds import first
from simulator import History, kind_of, write
from simulator.history import MONDAY_UNIX_S
from simulator.lives import Life
from simulator.physics import simulate
from simulator.pressure import throughput_tps
from simulator.services import draw, mean_point
from simulator.workloads import LoadShape, arrivals

from hs_analysis.derive import derive_service
from hs_analysis.derive.ratio_from_replicas import with_replica_ratio
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import PdRatio, ReplicaRatio
from hs_analysis.schema.settings import Slo

FEW = replace(SETTINGS, draws=60)
CAPACITY = {"prefill": 4000.0, "decode": 1300.0}
MIX = 4.0
TRUE = MIX * CAPACITY["decode"] / CAPACITY["prefill"]
HOURS = 96


def history(
    seed: int, prefill: np.ndarray, decode: np.ndarray, *, peak: dict[str, float], hours: int = HOURS
) -> ServiceFrame:
    """Return a service whose counts change by the hour; ``peak`` is demand ÷ capacity of the mean counts.

    Where more comes than a pool can do, it waits. Decode gets what prefill has served.
    """
    rng = np.random.default_rng([seed, 9])
    rows = hours * 60
    counts = {"prefill": np.repeat(prefill, 60)[:rows], "decode": np.repeat(decode, 60)[:rows]}
    shape = day_shape(float(hours), low=0.5) * wander(rows, 0.05, rng)
    requests = 20.0 * shape / np.quantile(shape, 0.99)
    decode_work = requests / 20.0 * peak["decode"] * CAPACITY["decode"] * decode.mean()
    work = {"prefill": MIX * decode_work, "decode": decode_work}
    frame = make_frame(Service(), requests, 1.0, 1.0, seed)
    columns = {name: frame.values(*name.split("@")) for name in frame.table.columns[2:]}
    for role, latency in (("prefill", "ttft@service"), ("decode", "tbt@decode")):
        state = role_state(work[role] / counts[role], CAPACITY[role], 60.0, rng)
        served = "prefill_tps_effective" if role == "prefill" else "decode_tps"
        signal, emitter = latency.split("@")
        columns |= {
            f"offered_tps@{role}": state["offered"] * counts[role],
            f"{served}@{role}": state["served"] * counts[role],
            f"instances@{role}": counts[role].astype(float),
            f"backlog_age_s@{role}": state["age"],
            f"saturated@{role}": (state["age"] > 10).astype(float),
            f"{signal}_over@{emitter}": state["share"],
        }
    return frame_of(columns, "production", 60.0)


def resized(seed: int, hours: int) -> History:
    """Return a simulated history in which each pool loses an instance or two every other hour, by turns."""
    load = LoadShape(night=0.7, wander_sd=0.05, first_hour=10.0)
    peaks = {"prefill_peak": (0.95, 1.0), "decode_peak": (0.95, 1.0)}
    kind = replace(kind_of("overload"), hours=float(hours), load=load, instances=(5, 5), **peaks)
    drawn = draw(kind, np.random.default_rng([seed, 1]))
    lives: dict[str, tuple[Life, ...]] = {}
    for turn, (role, pool) in enumerate(drawn.service.lives.items()):
        less = 1 if len(pool) < 6 else 2
        own = list(pool[:-less])
        for hour in range(hours):
            if hour % 2 != turn:  # the hours in which the pool is whole
                start = 3600.0 * hour
                own += [
                    replace(gone, pod=f"{gone.pod}{hour:02d}", close_s=start + 3600.0)
                    if not hour
                    else replace(gone, pod=f"{gone.pod}{hour:02d}", open_s=start, close_s=start + 3600.0,
                                 asked_s=start - 240.0)
                    for gone in pool[-less:]
                ]  # fmt: skip
        lives[role] = tuple(own)
    drawn = replace(drawn, service=drawn.service.with_lives(**lives))
    requests = arrivals(drawn.rate, drawn.path, kind.mix, np.random.default_rng([seed, 2]))
    trace = simulate(drawn.service, requests, kind.hours, np.random.default_rng([seed, 3]))
    return History(kind, seed, MONDAY_UNIX_S, drawn, trace)


@pytest.mark.slow
def test_pools_resized_by_turns_show_their_throughputs(tmp_path: Path) -> None:
    """Over scrapes of simulated engines: mix × decode's throughput ÷ prefill's lies in the interval."""
    made = resized(2, 10)
    write(made, tmp_path / "in")
    (frame,) = put_on_grid(tmp_path, tmp_path / "in")[1].frames
    found = told(frame, made.kind.slo)
    point = mean_point(made.drawn.rate, made.drawn.path)
    top = {
        role: throughput_tps(made.drawn.service, role, point, made.kind.mix) for role in ("prefill", "decode")
    }
    true = point.tokens("prefill") / point.tokens("decode") * top["decode"] / top["prefill"]
    assert found.ci is not None
    assert found.ci[0] <= true <= found.ci[1]
    assert found.value == pytest.approx(true, rel=0.1)


def told(frame: ServiceFrame, slo: Slo = FEW.slo) -> ReplicaRatio:
    """Return what the counts show."""
    found = derive_service(frame, (), replace(FEW, slo=slo)).derived.pd_ratio.from_replicas
    assert found is not None
    return found


def apart(seed: int) -> ServiceFrame:
    """Return days in which each pool was too small some of the time, never both by design."""
    hours = np.arange(HOURS)
    prefill = np.where(hours % 4 < 2, 6, 11)
    decode = np.where((hours + 2) % 4 < 2, 5, 8)
    return history(seed, prefill, decode, peak={"decode": 1.0})


@pytest.mark.parametrize("seed", first(2, range(5)))
def test_counts_that_moved_apart_show_the_ratio(seed: int) -> None:
    """Each side held back by turns: the true ratio lies in the interval, within a tenth of it."""
    found = told(apart(seed))
    assert found.status == "ok"
    assert found.ci is not None
    assert found.ci[0] <= TRUE <= found.ci[1]
    assert found.value == pytest.approx(TRUE, rel=0.05)
    assert {group.limited for group in found.groups} == {"prefill", "decode"}
    assert all(group.windows >= 3 for group in found.groups)
    assert found.agrees is True
    assert found.text is not None
    assert "agree" in found.text


@pytest.mark.parametrize(
    ("prefill", "decode", "code"), [(8, 6, "counts_still"), ("moves", "moves", "moved_together")]
)
def test_counts_that_did_not_move_apart_are_refused(prefill: object, decode: object, code: str) -> None:
    """Static pools, and pools that always moved in proportion."""
    moving = np.where(np.arange(HOURS) % 4 < 2, 4, 8)
    counts = [moving if one == "moves" else np.full(HOURS, one) for one in (prefill, decode)]
    found = told(history(1, *counts, peak={"decode": 0.9}))
    assert (found.status, found.value, found.ci) == ("refused", None, None)
    assert found.reason is not None
    assert found.reason.code == code


def test_one_side_gives_a_bound_that_holds_and_none_gives_nothing() -> None:
    """Only decode held back: at most; never held back: no number, and the reason says so."""
    hours = np.arange(HOURS)
    decode = np.where(hours % 4 < 2, 4, 6)
    one = told(history(2, np.full(HOURS, 12), decode, peak={"decode": 1.0}))
    assert one.reason is not None
    assert (one.reason.code, one.value, one.at_least) == ("one_side", None, None)
    assert one.at_most is not None
    assert one.at_most >= TRUE
    roomy = told(history(2, np.full(HOURS, 12), 3 * decode, peak={"decode": 0.4}))
    assert roomy.reason is not None
    assert (roomy.reason.code, roomy.at_least, roomy.at_most) == ("never_limited", None, None)


def test_one_stretch_of_backlog_is_too_little() -> None:
    """A side held back in a single hour gives no interval, so no number."""
    hours = np.arange(HOURS)
    prefill = np.where(hours == 24, 4, 9)
    decode = np.where((hours + 2) % 4 < 2, 5, 8)
    found = told(history(3, prefill, decode, peak={"decode": 0.95}))
    assert found.reason is not None
    assert found.reason.code in ("thin", "one_side")
    assert found.value is None


def test_it_never_moves_the_balance() -> None:
    """A cross-check that disagrees says so and leaves value, interval and status alone."""
    balance = PdRatio(value=1.0, ci=(0.95, 1.05), status="ok", at_least=None, at_most=None, reason=None)
    check = ReplicaRatio(
        value=2.0,
        ci=(1.8, 2.2),
        status="ok",
        at_least=None,
        at_most=None,
        reason=None,
        prefill_tps=4000.0,
        decode_tps=1000.0,
    )
    found = with_replica_ratio(balance, check)
    assert replace(found, from_replicas=None) == balance
    assert found.from_replicas is not None
    assert found.from_replicas.agrees is False
    assert "disagree" in (found.from_replicas.text or "")
    unknown = with_replica_ratio(replace(balance, value=None, ci=None), check)
    assert unknown.from_replicas == check
