"""Alignment series by series gives what the reference queries give for all series at once."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from reference import Reference
from seeds import first

from hs_analysis.align.counters import WindowStore
from hs_analysis.align.instances import Presence, instance_windows
from hs_analysis.align.requests_in_flight import net_arrivals
from hs_analysis.align.series import SeriesPass, first_scrapes, renamed, used_series
from hs_analysis.align.service_tables import instants
from hs_analysis.align.signals import signal_windows
from hs_analysis.align.terms import TERM_COLUMNS

WIDTH_S, LEAST, PRESENT = 60.0, 0.7, 0.5
START_US = 1_767_225_600_000_000
SAMPLES = {
    "series_id": pl.Int64, "t": pl.Datetime("us", "UTC"), "value": pl.Float64, "flag": pl.String,
}  # fmt: skip
PODS = ("p0", "p1", "p2", "p3")
METRICS = (
    ("requests", "rate", 0), ("requests_old", "rate", 1), ("requests_older", "rate", 2),
    ("done", "rate", 0), ("done_old", "rate", 1), ("seconds", "rate", 0), ("seconds_old", "rate", 1),
    ("running", "gauge", 0), ("usage", "gauge", 0), ("usage_old", "gauge", 1),
)  # fmt: skip
"""Metric, how it is read, and how many renamings lie between it and today's name."""


@dataclass(frozen=True)
class Made:
    """Random series of a service in two captures, and what carries which signal."""

    series: pl.DataFrame
    samples: pl.DataFrame
    terms: pl.DataFrame
    reporters: pl.DataFrame

    @property
    def quality(self) -> pl.DataFrame:
        """First rows, all that the pass wants of it."""
        return self.samples.group_by("series_id").agg(pl.col("t").min().alias("first_t"))

    def read(self, wanted: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read samples as the store does."""
        for (series_id,), own in self.samples.group_by("series_id", maintain_order=True):
            if series_id in set(wanted):
                values = own["value"].fill_null(float("nan")).to_numpy()
                yield int(series_id), own["t"].dt.epoch("us").to_numpy(), values  # type: ignore[call-overload]


def made(seed: int) -> Made:
    """Draw counters with resets, gaps, missing values and late births, gauges, and renamed names of both."""
    rng = np.random.default_rng(seed)
    rows, samples = [], []
    for capture in ("", "b"):
        for metric, read, generation in sorted(METRICS):
            for pod in PODS:
                for part in range(int(rng.integers(1, 3))):
                    if rng.random() < 0.15:
                        continue
                    series_id = len(rows)
                    t_us, values = _drawn(rng, read == "rate")
                    interval_s = (None, 15.0, 15.0, 10.0)[int(rng.integers(4))]
                    rows.append((series_id, capture, metric, read, generation, pod, part, interval_s))
                    samples += [
                        (series_id, t, None if np.isnan(v) else v)
                        for t, v in zip(t_us.tolist(), values.tolist(), strict=True)
                    ]
    names = ("series_id", "capture", "metric", "read", "generation", "pod", "part", "interval_s")
    series = pl.DataFrame(rows, schema=list(names), orient="row")
    table = pl.DataFrame(samples, schema=["series_id", "t", "value"], orient="row").with_columns(
        pl.from_epoch("t", time_unit="us").dt.replace_time_zone("UTC"), pl.lit(None, pl.String).alias("flag")
    )
    reporters = series.select(
        "series_id", pl.lit("s").alias("service"), "capture", pl.lit("decode").alias("role"),
        pl.lit(None, pl.String).alias("gpu_group"), pl.col("pod").alias("instance"),
        pl.col("interval_s").fill_null(15.0),
    )  # fmt: skip
    typed = reporters.with_columns(
        pl.when(pl.col("instance") < "p2").then(pl.lit("A")).otherwise(pl.lit("B")).alias("gpu_group")
    )
    return Made(series, table.cast(SAMPLES), _terms(series), pl.concat([reporters, typed]))


def _drawn(rng: np.random.Generator, counter: bool) -> tuple[np.ndarray, np.ndarray]:
    steps = 120
    begin = 0 if rng.random() < 0.6 else int(rng.integers(0, 60))
    grid = np.arange(begin, int(rng.integers(70, steps)) + 1)
    kept = rng.random(grid.size) > 0.1
    hole = int(rng.integers(0, grid.size))
    kept[hole : hole + int(rng.integers(0, 12))] = False
    kept[0] = True
    grid = grid[kept]
    t_us = START_US + grid * 15_000_000 + (int(rng.integers(0, 15_000_000)) if rng.random() < 0.5 else 0)
    values = rng.integers(0, 9, grid.size).astype(float) + (rng.random() < 0.5) * rng.random(grid.size)
    if counter:
        values = np.cumsum(values) + (0.0 if rng.random() < 0.7 else 1e4)
        for at in rng.integers(0, grid.size, 2):
            values[at:] -= values[at] - 1.0
    values[rng.random(grid.size) < 0.05] = np.nan
    return t_us, np.maximum(values, 0.0)


def _terms(series: pl.DataFrame) -> pl.DataFrame:
    """Return terms of a sum, a difference, a ratio and means, over all GPU types and per type."""
    formulas = (
        ("request_rate", "sum", (("requests", 0, "num", 1.0),)),
        ("completion_rate", "sum", (("done", 0, "num", 1.0),)),
        ("open", "sum", (("requests", 0, "num", 1.0), ("done", 1, "num", -1.0))),
        ("latency", "ratio", (("seconds", 0, "num", 1.0), ("requests", 1, "den", 1.0))),
        ("usage", "mean", (("usage", 0, "num", 0.01),)),
        ("running", "sum", (("running", 0, "num", 1.0),)),
    )
    found = []
    for signal, pool, terms in formulas:
        for metric, number, side, sign in terms:
            own = series.filter(pl.col("metric").str.replace("_older|_old", "") == metric)
            front = signal == "request_rate"  # no count of instances covers a front end
            for row in own.iter_rows(named=True):
                term = {
                    "signal": signal, "source": "x", "preference": 0, "pool": pool, "gpu_group": None,
                    "role": "service" if front else "decode", "service": "s", "capture": row["capture"],
                    "instance": None if front else row["pod"],
                    "emitter": None if front and row["pod"] == "p3" else row["pod"], "term": number,
                    "side": side, "sign": sign, "series_id": row["series_id"], "read": row["read"],
                    "generation": row["generation"],
                }  # fmt: skip
                found.append(term)
                if not front:
                    found.append(term | {"gpu_group": "A" if row["pod"] < "p2" else "B"})
    table = pl.DataFrame(found, schema=TERM_COLUMNS)
    formula = ["signal", "gpu_group", "capture", "generation"]
    wanted = pl.col("signal").replace_strict({name: len(terms) for name, _, terms in formulas})
    return table.filter(pl.col("term").n_unique().over(formula) == wanted)  # as terms are resolved


@dataclass(frozen=True)
class Results:
    """What both ways give."""

    instances: pl.DataFrame
    signals: pl.DataFrame
    rows: pl.DataFrame
    gains: dict[int, float]
    net: pl.DataFrame


def instance_rows_wanted(terms: pl.DataFrame) -> pl.DataFrame:
    """Return the terms of instances."""
    return terms.filter(pl.col("instance").is_not_null() & pl.col("gpu_group").is_null())


def by_series(one: Made) -> tuple[Results, WindowStore]:
    """Go series by series."""
    store, presence = WindowStore(io.BytesIO()), Presence(one.reporters, WIDTH_S)
    used = used_series(one.series.drop("read", "generation"), one.terms, 15.0)
    whole = SeriesPass(
        used, first_scrapes(used, one.quality), renamed(one.terms), store, (presence,), WIDTH_S, ()
    )
    gains = whole.read(set(one.reporters["series_id"]), one.read)
    instances = presence.counts(PRESENT)
    signals = signal_windows(one.terms, store, instances, WIDTH_S, LEAST)
    rows = instance_windows(instance_rows_wanted(one.terms), store, (), WIDTH_S, 300.0, LEAST)
    nets = []
    for capture in ("", "b"):
        first, net = net_arrivals(
            list(flows(one).filter(pl.col("capture") == capture).select("series_id", "sign").iter_rows()),
            store,
        )
        slots = np.flatnonzero(~np.isnan(net))
        nets.append(pl.DataFrame({"capture": capture, "t": (first + slots) * WIDTH_S, "net": net[slots]}))
    return Results(instances, signals, rows, dict(gains.iter_rows()), pl.concat(nets)), store


def flows(one: Made) -> pl.DataFrame:
    """Return the counters of started and finished requests."""
    sign = pl.when(pl.col("signal") == "request_rate").then(1.0).otherwise(-1.0).alias("sign")
    own = one.terms.filter(
        pl.col("signal").is_in(["request_rate", "completion_rate"]) & pl.col("gpu_group").is_null()
    )
    return own.select("service", "capture", sign, "series_id")


def by_query(one: Made) -> Results:
    """Go by the reference queries."""
    used = one.series.join(one.terms.select("series_id").unique(), "series_id", how="semi")
    spaced = used.with_columns(pl.col("interval_s").fill_null(15.0))
    counters = spaced.filter(pl.col("read") == "rate").select("series_id", "capture", "metric", "interval_s")
    gauges = spaced.filter(pl.col("read") == "gauge").select("series_id", "interval_s")
    width = {"window_s": WIDTH_S}
    with Reference(threads=1) as database:
        increases = database.query("align/increases", {}, {"samples": one.samples, "counters": counters})
        known = one.terms.drop("read", "source", "pool", "role", "gpu_group", "instance", "side", "sign")
        increases = database.query("align/newest_names", {}, {"increases": increases, "terms": known})
        rates = database.query("align/counter_windows", width, {"increases": increases})
        means = database.query("align/gauge_windows", width, {"samples": one.samples, "gauges": gauges})
        values, terms = pl.concat([rates, means]), one.terms.drop("read")
        instances = database.query(
            "align/instances",
            {**width, "present_share": PRESENT},
            {"samples": one.samples, "reporters": one.reporters},
        )
        inputs = {"windows": values, "terms": terms, "instances": instances}
        signals = database.query("align/signal_windows", {"least_coverage": LEAST}, inputs)
        rows = database.query(
            "align/instance_windows", {**width, "row_s": 300.0, "least_coverage": LEAST},
            {"windows": values, "terms": instance_rows_wanted(terms)},
        )  # fmt: skip
        net = database.query("align/net_arrivals", width, {"increases": increases, "terms": flows(one)})
    gains = dict(increases.group_by("series_id").agg(pl.col("increase").sum()).iter_rows())
    return Results(instances, signals, rows, gains, net.drop("service"))


@pytest.mark.parametrize("seed", first(4, range(12)))
def test_both_ways_give_the_same(seed: int) -> None:
    """Instances, signals, rows of instances, gains and net arrivals."""
    one = made(seed)
    ours, theirs = by_series(one)[0], by_query(one)
    assert theirs.signals["value"].is_not_null().any()
    assert theirs.rows.height
    assert_frame_equal(ours.instances, theirs.instances)
    assert_frame_equal(ours.signals, theirs.signals, rel_tol=1e-12, abs_tol=1e-12)
    assert_frame_equal(ours.rows, theirs.rows.with_columns(instants()), rel_tol=1e-12, abs_tol=1e-12)
    assert ours.gains == pytest.approx(theirs.gains, rel=1e-12)
    assert_frame_equal(ours.net, theirs.net, rel_tol=1e-12, abs_tol=1e-9)
