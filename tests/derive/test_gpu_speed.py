"""GPU types of one pool weighed against each other, and instances counted in equivalents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from align.service import put_on_grid
from derive.bench import points
from derive.synthetic import SETTINGS, Service, day_frame, with_columns
from simulator import history, kind_of, write

from hs_analysis.derive import bench_speeds, derive_service, mean_request, profiles_of
from hs_analysis.derive.gpu_speed import (
    in_equivalents,
    pods_for,
    pool_speeds,
    type_ratios,
    type_speeds,
    with_pods,
)
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.results import Capacity, GpuSpeed, weights_of
from hs_analysis.schema.settings import Slo
from hs_analysis.schema.sweeps import BenchSpeed
from hs_analysis.statistics.resampling import moving_block_indices

SPEEDS = {"fast": 1.0, "slow": 0.7}
PODS = {"fast": 3, "slow": 2}
FEW = replace(SETTINGS, draws=40)


def mixed(
    seed: int, pods: Mapping[str, int | np.ndarray] = PODS, hours: float = 24.0
) -> tuple[ServiceFrame, pl.DataFrame]:
    """Return a decode pool of two types whose instances hold equally many requests, and its typed rows.

    An instance of speed s that holds q requests serves s · 100 · q ÷ (4 + q) tokens/s.
    """
    frame = day_frame(seed, prefill_peak=0.6, decode_peak=0.6, hours=hours, service=Service(decode=5))
    rng = np.random.default_rng([seed, 5])
    load = frame.values("offered_tps", "decode")
    held = 12.0 * load / np.nanmax(load) + 0.3
    rows = []
    for name, speed in SPEEDS.items():
        count = np.broadcast_to(np.asarray(pods[name], dtype=float), held.shape)
        own = held * np.exp(rng.normal(0.0, 0.03, held.size))
        served = speed * 100.0 * own / (4.0 + own) * np.exp(rng.normal(0.0, 0.02, held.size)) * count
        rows += [
            frame.table.select("capture", "t").with_columns(
                pl.lit("decode").alias("role"), pl.lit(name).alias("gpu_type"),
                pl.lit(signal).alias("signal"), pl.Series("value", values), pl.Series("instances", count),
            )
            for signal, values in {"decode_tps": served, "running": own * count}.items()
        ]  # fmt: skip
    total = sum(np.asarray(pods[name], dtype=float) for name in SPEEDS) * np.ones(held.size)
    frame = with_columns(frame, {"instances@decode": total})
    return replace(frame, gpu_types={"prefill": ("fast",), "decode": tuple(SPEEDS)}), pl.concat(rows)


def speeds(frame: ServiceFrame, typed: pl.DataFrame, **more: tuple[object, ...]) -> tuple[GpuSpeed, ...]:
    """Return the speeds of a pool with few draws."""
    draws = moving_block_indices(frame.table.height, 60, 40, np.random.default_rng(0))
    given: dict[str, tuple[object, ...]] = {"capacities": (), "profiles": ()} | more
    return type_speeds(frame, typed, settings=FEW, resamples=draws, **given)  # type: ignore[arg-type]


def typed_capacity(name: str, value: float, status: str = "ok") -> Capacity:
    """Return a capacity of a type with an interval of a tenth."""
    ci = (0.9 * value, 1.1 * value)
    return Capacity(
        role="decode",
        gpu_type=name,
        signal="decode_tps",
        per_instance=value,
        ci=ci,
        status=status,
        basis="slo",
        reason=None,
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_speed_is_work_at_equal_queue_length(seed: int) -> None:
    """The true speed lies in the interval; weights make the recorded pool count as many as it has pods."""
    frame, typed = mixed(seed)
    fast, slow = speeds(frame, typed)
    assert (fast.gpu_type, fast.relative, fast.reference, fast.basis) == ("fast", 1.0, "fast", "equal_queue")
    assert slow.ci is not None
    assert slow.ci[0] <= SPEEDS["slow"] <= slow.ci[1]
    assert slow.relative == pytest.approx(SPEEDS["slow"], rel=0.02)
    assert 3 * (fast.weight or 0) + 2 * (slow.weight or 0) == pytest.approx(5.0)
    assert slow.evidence.endswith("speed@decode@slow")


def test_own_capacities_come_first_and_a_floor_is_none() -> None:
    """Both known: their quotient, intervals joined in logs. One a floor: the queue says it."""
    frame, typed = mixed(0)
    known = (typed_capacity("fast", 1000.0), typed_capacity("slow", 600.0))
    fast, slow = speeds(frame, typed, capacities=known)
    assert (slow.basis, slow.relative) == ("capacity", pytest.approx(0.6))
    assert slow.ci == pytest.approx((0.6 * np.exp(-np.hypot(np.log(0.9), np.log(1.1))),
                                     0.6 * np.exp(np.hypot(np.log(1.1), np.log(0.9)))))  # fmt: skip
    assert fast.ci == (1.0, 1.0)
    floor = (known[0], typed_capacity("slow", 600.0, "floor"))
    assert {one.basis for one in speeds(frame, typed, capacities=floor)} == {"equal_queue"}


def test_profiles_of_both_types_come_before_the_queue() -> None:
    """Rates at the mean request; profiles that lack a type say nothing."""
    rows = [
        {
            "kind": "prefill",
            "prefill_gpu_type": name,
            "isl": isl,
            "ttft_mean_s": isl / rate,
            "prefill_tps": rate,
        }
        for name, rate in (("fast", 1e5), ("slow", 6e4))
        for isl in (1.0, 1e5)
    ]
    rows += [
        {"kind": "decode", "decode_gpu_type": name, "context_tokens": context, "tbt_mean_s": t,
         "decode_tps": rate * t}
        for name, rate in (("fast", 1e5), ("slow", 5e4))
        for context in (100.0, 4000.0)
        for t in (0.001, 0.04)
    ]  # fmt: skip
    frame, typed = mixed(0)
    found = speeds(frame, typed, profiles=profiles_of(points(rows)))
    assert {one.basis for one in found} == {"profile"}
    assert weights_of(found, "decode")["slow"] < weights_of(found, "decode")["fast"]
    one_type = [row for row in rows if "slow" not in row.values()]
    assert {one.basis for one in speeds(frame, typed, profiles=profiles_of(points(one_type)))} == {
        "equal_queue"
    }


def test_refusals_say_what_is_missing() -> None:
    """No requests per type, no served work per type, or never equally many requests."""
    frame, typed = mixed(0)
    blind = speeds(frame, typed.filter(pl.col("signal") != "running"))
    assert {one.status for one in blind} == {"refused"}
    assert "no requests running on fast" in blind[0].reason.text  # type: ignore[union-attr]
    slow = pl.col("gpu_type") == "slow"
    none = speeds(frame, typed.filter(~(slow & (pl.col("signal") == "decode_tps"))))
    assert "no decode_tps per GPU type" in none[0].reason.text  # type: ignore[union-attr]
    apart = (
        pl.when((pl.col("gpu_type") == "slow") & (pl.col("signal") == "running")).then(100.0).otherwise(1.0)
    )
    far = speeds(frame, typed.with_columns(value=pl.col("value") * apart))
    assert "seldom held equally many requests" in far[0].reason.text  # type: ignore[union-attr]
    assert weights_of(far, "decode") == {}


def test_a_mix_that_moves_is_counted_in_equivalents() -> None:
    """Slow pods replaced by fast ones: more equivalents from as many pods; a still mix keeps its counts."""
    rows = day_frame(0, prefill_peak=0.6, decode_peak=0.6, hours=24.0).table.height
    early = np.arange(rows) < rows // 2
    frame, typed = mixed(0, {"fast": np.where(early, 1, 4), "slow": np.where(early, 4, 1)})
    found = speeds(frame, typed)
    counted, moved = in_equivalents(frame, typed, found)
    assert moved == ("decode",)
    counts, weight = counted.values("instances", "decode"), weights_of(found, "decode")
    assert counts[0] == pytest.approx(weight["fast"] + 4 * weight["slow"])
    assert counts[-1] == pytest.approx(4 * weight["fast"] + weight["slow"])
    assert counts.mean() == pytest.approx(5.0, rel=1e-6)
    still, typed = mixed(0)
    same, moved = in_equivalents(still, typed, speeds(still, typed))
    assert moved == ()
    assert same.table.equals(still.table)


def test_the_ratio_in_pods_of_each_type_and_the_pods_of_a_need() -> None:
    """r · w_D ÷ w_P; the fastest pods first, of those recorded."""
    frame, typed = mixed(0)
    found = speeds(frame, typed)
    weight = weights_of(found, "decode")
    ratios = type_ratios(2.0, found)
    assert [(one.prefill_type, one.decode_type) for one in ratios] == [(None, "fast"), (None, "slow")]
    assert [one.value for one in ratios] == pytest.approx([2.0 * weight["fast"], 2.0 * weight["slow"]])
    assert type_ratios(None, found) == ()
    assert type_ratios(2.0, ()) == ()
    pods = {one.gpu_type: one.pods for one in with_pods(found, {"decode": 4.0, "prefill": 3.0})}
    assert pods == {"fast": 3, "slow": 1}
    assert {one.pods for one in with_pods(found, {"decode": None})} == {None}


def test_pods_make_up_equivalents() -> None:
    """Preferred pods first, whole pods only, never fewer than needed while there are any."""
    assert pods_for(5.0, [("fast", 2.0, 2), ("slow", 0.5, 10)]) == (("fast", 2), ("slow", 2))
    assert pods_for(3.0, [("fast", 2.0, 4), ("slow", 0.5, 10)]) == (("fast", 2), ("slow", 0))
    assert pods_for(99.0, [("fast", 2.0, 4), ("slow", 0.5, 10)]) == (("fast", 4), ("slow", 10))


def test_derivation_carries_speeds_and_leaves_a_still_pool_as_it_was() -> None:
    """Capacity, target and ratio of a pool whose mix stood still do not change by weighing its types."""
    frame, typed = mixed(1)
    weighed, plain = (derive_service(frame, (), FEW, rows).derived for rows in (typed, None))
    assert [one.gpu_type for one in weighed.gpu_speeds] == ["fast", "slow"]
    assert weighed.capacity_of("decode") == plain.capacity_of("decode")
    assert replace(weighed.pd_ratio, by_gpu_type=()) == plain.pd_ratio
    assert len(weighed.pd_ratio.by_gpu_type) == 2
    assert sum(one.pods or 0 for one in weighed.gpu_speeds) >= 1


def test_types_of_a_benchmark_compare_at_equal_load() -> None:
    """Per GPU, at loads all were tested at: the type tested further gains nothing by it."""
    rows = [
        {"decode_gpu_type": name, "decode_gpus": gpus, "concurrency": load, "decode_tps": tps, "isl": 1e3,
         "osl": 100.0, "tbt_p95_s": tbt}
        for name, gpus, load, tps, tbt in (
            ("A", 8.0, 4.0, 800.0, 0.02), ("A", 8.0, 8.0, 1200.0, 0.03), ("A", 8.0, 16.0, 1600.0, 0.05),
            ("B", 4.0, 4.0, 600.0, 0.02), ("B", 4.0, 8.0, 900.0, 0.06),
        )
    ]  # fmt: skip
    found = {one.gpu_type: one for one in bench_speeds(points(rows), Slo())}
    assert found["A"].tps_per_gpu == pytest.approx(150.0)
    assert found["B"].relative == pytest.approx(1.5)
    assert found["B"].reason is not None
    assert found["B"].reason.code == "highest_load"
    limited = {one.gpu_type: one for one in bench_speeds(points(rows), Slo(tbt_s=0.05))}
    assert limited["B"].tps_per_gpu == pytest.approx(150.0)
    assert limited["B"].relative == pytest.approx(1.0)
    assert bench_speeds(points(rows[:3]), Slo()) == ()
    idle = {one.gpu_type for one in bench_speeds(points([*rows, rows[3] | {"decode_tps": 0.0}]), Slo())}
    dead = [row | {"decode_tps": 0.0} for row in rows[3:]]
    assert (idle, bench_speeds(points(rows[:3] + dead), Slo())) == ({"A", "B"}, ())


def test_a_benchmark_speaks_where_the_history_is_silent() -> None:
    """Requests per type are not counted: 100 against 65 tokens/s per GPU, named as what it is."""
    frame, typed = mixed(0)
    blind = typed.filter(pl.col("signal") != "running")
    isl, osl = mean_request(frame)
    rows = [
        {"model": "m", "decode_gpu_type": name, "decode_gpus": 1.0, "concurrency": load, "isl": isl,
         "osl": osl, "decode_tps": tps}
        for name, tps in (("fast", 100.0), ("slow", 65.0))
        for load in (4.0, 8.0)
    ]  # fmt: skip
    known = bench_speeds(points(rows), Slo())
    fast, slow = speeds(frame, blind, bench=known)
    assert (slow.basis, slow.status, slow.relative, slow.ci) == ("bench", "ok", 0.65, (0.65, 0.65))
    assert 3 * (fast.weight or 0) + 2 * (slow.weight or 0) == pytest.approx(5.0)
    assert "from the benchmark m · made at" in slow.reason.text
    assert "no requests running on fast" in slow.reason.text
    assert {one.basis for one in speeds(frame, typed, bench=known)} == {"equal_queue"}
    far = bench_speeds(points([row | {"osl": 3.0 * osl} for row in rows]), Slo())
    one_type = bench_speeds(
        points([row | {"decode_gpu_type": "other"} for row in rows[2:]] + rows[:2]), Slo()
    )
    for other in (far, one_type, ()):
        assert {one.status for one in speeds(frame, blind, bench=other)} == {"refused"}


def test_a_benchmark_names_gpus_its_own_way() -> None:
    """A model number is enough where one type there has it; set-ups of an instance's size come first."""

    def row(name: str, gpus: float, tps: float) -> BenchSpeed:
        return BenchSpeed(
            name="b",
            isl=1000.0,
            osl=100.0,
            gpu_type=name,
            gpus=gpus,
            tps_per_gpu=tps,
            load=8.0,
            relative=1.0,
            reference="x",
        )

    known = (row("h20_sxm", 8.0, 90.0), row("h20_sxm", 4.0, 99.0), row("l20", 8.0, 60.0))
    types, request = ("NVIDIA H20", "NVIDIA L20"), (1100.0, 90.0)
    found = pool_speeds(known, types, request, 8.0)
    assert [found[name].tps_per_gpu for name in types] == [90.0, 60.0]
    assert pool_speeds(known, types, request, None)["NVIDIA H20"].tps_per_gpu == 99.0
    assert pool_speeds((*known, row("h20_pcie", 8.0, 70.0)), types, request, 8.0) == {}
    assert pool_speeds(known, types, None, 8.0) == {}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_simulated_pool_of_two_types_is_weighed_right(tmp_path: Path, seed: int) -> None:
    """Over scrapes of simulated engines, half of them 1.3 times slower: the true speed is in the interval."""
    made = history(replace(kind_of("two_gpu_types"), hours=12.0), seed)
    write(made, tmp_path / "in")
    found = put_on_grid(tmp_path, tmp_path / "in")[1]
    typed = found.signals.filter(pl.col("gpu_type").is_not_null())
    known = {one.gpu_type: one for one in speeds(found.frames[0], typed) if one.role == "decode"}
    true = {
        name: np.mean(
            [1.0 / life.slowness for life in made.drawn.service.lives["decode"] if life.gpu == name]
        )
        for name in known
    }
    for name, one in known.items():
        assert one.ci is not None
        assert one.reference is not None
        assert one.basis == "equal_queue"
        assert one.ci[0] <= true[name] / true[one.reference] <= one.ci[1]
    slow = known["NVIDIA L20"]
    assert (slow.relative or 0.0) / (known["NVIDIA H20"].relative or 1.0) == pytest.approx(1 / 1.3, rel=0.06)
