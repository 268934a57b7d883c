"""May today's autoscaler be compared with the policy: which pool stands against it, and the likely cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from replay.services import SETTINGS, day, derived, service

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.aibrix import Apa, Kpa
from hs_analysis.controllers.dynamo import DynamoLoad, DynamoThroughput
from hs_analysis.controllers.hpa import Hpa, Metric
from hs_analysis.controllers.keda import Keda
from hs_analysis.controllers.kthena import Kthena
from hs_analysis.controllers.registry import bounds_of
from hs_analysis.current import CurrentAutoscaler, withheld
from hs_analysis.current.comparison import likely_cause
from hs_analysis.current.model import Addend, CurrentObject, MetricRead
from hs_analysis.replay.calibrate import counts_apart
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.simulate import simulate
from hs_analysis.schema.aligned import ServiceFrame

ROWS = 720
LOAD = {"prefill": day(ROWS, 18_000.0), "decode": day(ROWS, 2_400.0, seed=1)}


def sized(load: np.ndarray, target: float) -> np.ndarray:
    """Return the counts of an autoscaler that keeps the highest of ten minutes' counts."""
    wanted = np.ceil(load / target)
    return np.array([wanted[max(0, row - 9) : row + 1].max() for row in range(load.size)])


def history(decode: float | np.ndarray, **more: np.ndarray) -> ServiceFrame:
    """Return half a day on which decode ran these counts."""
    return service(LOAD, {"prefill": sized(LOAD["prefill"], 1_800.0), "decode": decode}, **more)


def on(
    signal: str, target: float, role: str = "decode", *, most: int = 100, scale: float = 1.0, unread: int = 0
) -> CurrentObject:
    """Return a ScaledObject with one trigger, from 1 to ``most`` instances."""
    parameters = Keda(Hpa((Metric(signal, target),)), 1, most)
    read = MetricRead(signal, role, target, "AverageValue", 60.0, scale, "query")
    return CurrentObject("ScaledObject", f"m-{role}", "k.yaml:2", role, parameters, (read,), unread=unread)


def today(*objects: CurrentObject) -> CurrentAutoscaler:
    pools = {one.role: one.parameters for one in objects if one.parameters is not None}
    return CurrentAutoscaler(Autoscaler("current", pools) if pools else None, objects, ())


def apart(**ratios: float) -> list[dict[str, object]]:
    """Return counts that were so far from ten that ran."""
    return [
        {"pool": pool, "recorded": 10.0, "replayed": 10.0 * (1 - ratio), "apart": 10.0 * ratio}
        | {"apart_ratio": ratio}
        for pool, ratio in ratios.items()
    ]


PREFILL = on("prefill_tps_effective", 1_800.0, "prefill")
POOLS = ("prefill", "decode")
FRAME = history(sized(LOAD["decode"], 400.0))


@pytest.mark.parametrize(("ratio", "stands"), [(0.0, True), (0.1, True), (0.11, False)])
def test_counts_within_a_tenth_of_those_that_ran_are_compared(ratio: float, stands: bool) -> None:
    """One pool further away is enough against it; the sentence has both numbers."""
    found = withheld(today(PREFILL, on("decode_tps", 400.0)), FRAME, POOLS, apart(prefill=0.05, decode=ratio))
    assert (found is None) == stands
    if found is not None:
        assert (found.code, [one.pool for one in found.pools]) == ("counts_apart", ["decode"])
        assert found.text.startswith(
            "decode is replayed with 8.9 instances on average where 10 ran, 11 % apart window by window, not "
            "within 10 %; the more likely cause: not known from the data"
        )


def test_a_pool_whose_object_is_refused_is_named_with_its_trigger() -> None:
    """It comes first, whatever the other pool's counts say."""
    refused = replace(
        on("decode_tps", 400.0), parameters=None, metrics=(), notes=("triggers[0]: q: no such pod", "another")
    )
    found = withheld(today(PREFILL, refused), FRAME, POOLS, apart(prefill=0.9, decode=0.0))
    assert found is not None
    assert found.code == "pool_not_replayed"
    assert [(one.pool, one.code, one.apart_ratio) for one in found.pools] == [
        ("decode", "pool_not_replayed", None),
        ("prefill", "counts_apart", 0.9),
    ]
    first, second = found.text.split("; ", 1)
    assert first == (
        "decode is not replayed: k.yaml:2: ScaledObject m-decode: triggers[0]: q: no such pod (and 1 more)"
    )
    assert second.startswith("prefill is replayed with 1 instances on average where 10 ran, 90 % apart")


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (4.0, "its recorded count never moved in this window"),
        (sized(LOAD["decode"], 400.0), "its recorded count moved: give the object that scales it"),
    ],
)
def test_a_pool_without_an_object_says_whether_something_scaled_it(
    counts: float | np.ndarray, says: str
) -> None:
    """A pool held by hand and an object that was forgotten are told apart."""
    found = withheld(today(PREFILL), history(counts), POOLS, apart(prefill=0.0, decode=0.0))
    assert found is not None
    assert f"decode is not replayed: no object given scales it ({says}" in found.text


def test_a_pool_whose_counts_are_not_known_or_none_is_not_compared() -> None:
    """Nothing says how far the replay is from what ran; nothing ran and nothing was replayed is near."""
    both = today(PREFILL, on("decode_tps", 400.0))
    found = withheld(both, FRAME, POOLS, apart(prefill=0.0))
    assert found is not None
    assert (found.code, found.text) == ("counts_unknown", "decode: how many instances ran is not known")
    none = {"pool": "decode", "recorded": 0.0, "replayed": 0.0, "apart": 0.0, "apart_ratio": None}
    assert withheld(both, FRAME, POOLS, [*apart(prefill=0.0), none]) is None
    found = withheld(both, FRAME, POOLS, [*apart(prefill=0.0), none | {"replayed": 2.0, "apart": 2.0}])
    assert found is not None
    assert found.code == "counts_apart"


def test_counts_that_bounds_forbid_show_an_object_not_in_force() -> None:
    """The first of all causes: an object can't have asked for them."""
    counts = sized(LOAD["decode"], 400.0)
    share = 100.0 * float((counts > 6).mean())
    cause, text = likely_cause(on("decode_tps", 400.0, most=6), history(counts))
    assert cause == "outside_bounds"
    assert text == (
        f"{counts.min():.0f} to {counts.max():.0f} instances ran, outside the object's bounds 1 to 6 in "
        f"{share:.3g} % of windows: the object was not in force then"
    )
    assert likely_cause(on("decode_tps", 400.0, most=int(counts.max())), history(counts))[0] == "unknown"


@pytest.mark.parametrize(
    ("parameters", "bounds"),
    [
        (Hpa((), 2, 9), (2, 9)),
        (Keda(Hpa((), 7, 8), 2, 9), (2, 9)),
        (Keda(Hpa(()), 2, 9, 0), (0, 9)),
        (DynamoLoad("kv_usage", min_endpoint=2, max_replicas=9), (2, 9)),
        (DynamoThroughput("decode_tps", 400.0, min_endpoint=2, max_replicas=9), (2, 9)),
        (Kthena((), min_replicas=2, max_replicas=9), (2, 9)),
        (Apa("decode_tps", 400.0, min_replicas=2, max_replicas=9), (2, 9)),
        (Kpa("decode_tps", 400.0, min_replicas=2, max_replicas=9), (2, 9)),
        (None, None),
    ],
)
def test_bounds_are_those_of_the_object(parameters: object, bounds: tuple[int, int] | None) -> None:
    """A ScaledObject may rest below its least count."""
    assert bounds_of(parameters) == bounds


def test_counts_that_never_moved_had_no_autoscaler() -> None:
    """A slip of a few scrapes is no move; counts that only differ from capture to capture are set by hand."""
    slip = np.full(ROWS, 4.0)
    slip[100:105] = 3.0
    assert likely_cause(on("decode_tps", 400.0), history(slip)) == (
        "never_moved",
        "the recorded count never moved: no autoscaler acted on this pool in this window",
    )
    halves = np.repeat([4.0, 6.0], ROWS // 2)
    captures = ["a"] * (ROWS // 2) + ["b"] * (ROWS // 2)
    assert likely_cause(on("decode_tps", 400.0), history(halves, captures=captures))[0] == "never_moved"
    assert likely_cause(on("decode_tps", 400.0), history(halves))[0] != "never_moved"


def test_a_metric_that_is_not_read_may_have_sized_the_pool() -> None:
    """The largest of several metrics wins: the replay has too few instances without it."""
    assert likely_cause(on("decode_tps", 600.0, unread=1), FRAME) == (
        "trigger_left_out",
        "1 of the 2 metrics of the object could not be replayed",
    )


def test_a_signal_with_gaps_is_told_with_their_share() -> None:
    """Also one that is not in the window at all; a service's signal is looked for there."""
    gappy = np.full(ROWS, 0.5)
    gappy[: ROWS // 4] = np.nan
    one = on("kv_usage", 0.5)
    assert likely_cause(one, history(FRAME.values("instances", "decode"), kv_usage__decode=gappy)) == (
        "signal_gaps",
        "its signal kv_usage is missing in 25 % of windows",
    )
    assert likely_cause(one, FRAME)[1] == "its signal kv_usage is missing in 100 % of windows"
    whole = history(FRAME.values("instances", "decode"), request_rate__service=LOAD["decode"] / 150.0)
    assert likely_cause(on("request_rate", 4.0), whole)[0] != "signal_gaps"


def test_counts_that_keep_another_target_tell_it_in_the_objects_unit() -> None:
    """Recorded total ÷ count is steady, at another number than the object's; near it, it is no cause."""
    cause, text = likely_cause(on("decode_tps", 800.0, scale=2.0), FRAME)
    kept = float(np.median(LOAD["decode"] / FRAME.values("instances", "decode")))
    assert cause == "other_target"
    assert text == (
        f"the recorded counts keep decode_tps@decode steady at about {kept / 2.0:.0f} per instance, the "
        "object's target is 400"
    )
    assert likely_cause(on("decode_tps", 400.0), FRAME)[0] == "unknown"


@pytest.mark.parametrize("usual", [5, 10, 30])
def test_what_an_autoscaler_kept_is_told_from_another_target(usual: int) -> None:
    """Counts of a simulated HPA are those of its own target, and of no object with half as much again."""
    load = day(1440, 1_200.0 * usual, noise=0.05)
    frame = service({"decode": load}, {"decode": usual})
    model = fit_fleet(frame, derived(), SETTINGS)
    (part,) = demands(frame, model.pools)
    ran = Autoscaler("ran", {"decode": Hpa((Metric("decode_tps", 1_200.0),), 1, 100)})
    seen = service({"decode": load}, {"decode": simulate(ran, part, model).ready["decode"]})
    causes = [likely_cause(on("decode_tps", target), seen)[0] for target in (800.0, 1_200.0, 1_800.0)]
    assert causes == ["other_target", "unknown", "other_target"]


def test_counts_that_follow_another_signal_name_it() -> None:
    """The object's own signal wanders per instance, the pool's work does not."""
    queue = np.exp(np.random.default_rng(2).standard_normal(ROWS))
    frame = history(FRAME.values("instances", "decode"), queue_length__decode=queue)
    cause, text = likely_cause(on("queue_length", 10.0), frame)
    assert cause == "other_signal"
    assert text.startswith("the recorded counts keep decode_tps@decode steady at about ")
    assert text.endswith(" per instance, the object follows queue_length")


def test_a_metric_of_two_signals_is_taken_as_a_whole() -> None:
    """Neither is steady per instance alone, their weighted sum is."""
    part = np.random.default_rng(3).uniform(0.0, 1.0, ROWS) * LOAD["decode"]
    more = (LOAD["decode"] - part) / 2.0
    frame = history(FRAME.values("instances", "decode"), running__decode=part, queue_length__decode=more)
    one = on("running", 800.0)
    read = replace(one.metrics[0], others=(Addend("queue_length", "decode", 60.0, 2.0),))
    cause, text = likely_cause(replace(one, metrics=(read,)), frame)
    assert (cause, text.split(" steady")[0]) == (
        "other_target",
        "the recorded counts keep running@decode + queue_length@decode",
    )
    assert likely_cause(one, frame)[0] == "other_signal"


def test_counts_that_wander_keep_no_target() -> None:
    """What an instance carried differs by far more than whole instances explain."""
    counts = np.where(np.arange(ROWS) < ROWS // 2, 10.0, 20.0)
    frame = service({"decode": 200.0 * counts[::-1]}, {"decode": counts})
    assert likely_cause(on("decode_tps", 800.0), frame)[0] == "unknown"
    load = day(ROWS, 4_000.0, swing=0.8, noise=0.0)
    frame = service({"decode": load}, {"decode": np.rint(np.sqrt(load) / 6.0)})
    assert likely_cause(on("decode_tps", 2_000.0), frame)[0] == "unknown"


def test_a_steady_load_is_no_target() -> None:
    """Where the load hardly moves, what an instance carries is steady whatever the counts follow."""
    flat = day(ROWS, 2_400.0, swing=0.02)
    counts = np.where(np.arange(ROWS) % 90 < 45, 6.0, 7.0)
    frame = service({"decode": flat}, {"decode": counts})
    assert likely_cause(on("decode_tps", 800.0), frame)[0] == "unknown"


def test_a_single_pool_keeps_its_name() -> None:
    """It stands in the columns of decode."""
    rows = {
        "policy": ["recorded", "current"],
        "capture": ["", ""],
        "t": [0, 0],
        "ready_prefill": [None, None],
        "ready_decode": [10.0, 8.0],
    }
    timeline = pl.DataFrame(rows, schema_overrides={"ready_prefill": pl.Float64})
    (found,) = counts_apart(timeline, "current", ("mixed",))
    assert (found["pool"], found["apart_ratio"]) == ("mixed", pytest.approx(0.2))
    (found,) = counts_apart(timeline, "current", POOLS)
    assert found["pool"] == "decode"
