"""Instances of a service: who reports in a window, how many GPUs they hold, and their own signals.

The reference query ``align/instances`` of the tests is the same work in SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.align.counters import WindowStore, merged_times, slots_of
from hs_analysis.align.excluded import TimeRanges
from hs_analysis.align.service_tables import instants
from hs_analysis.align.terms import (
    EmitterParts,
    TermRow,
    WindowRange,
    emitter_parts,
    grouped,
    window_range_of,
)
from hs_analysis.catalogue import Catalogue
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame
from hs_analysis.schema.constants import SUSTAINED_S
from hs_analysis.schema.frames import INSTANCES, check, empty, label_map

NOT_REPORTERS = ("prometheus", "ksm", "node")
"""Exporters whose series do not prove that an instance serves."""


def of_pools(series: pl.DataFrame) -> pl.DataFrame:
    """Return the series that speak of an instance of a pool."""
    return series.filter(
        pl.col("service").is_not_null()
        & pl.col("instance").is_not_null()
        & pl.col("emitter_role").is_in(POOL_ROLES)
    )


def with_several_types(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with a GPU type of the pools that hold more than one.

    Parameters
    ----------
    frame
        Columns service, role, gpu_group and others.
    """
    typed = frame.filter(pl.col("gpu_group").is_not_null())
    several = (
        typed.group_by("service", "role")
        .agg(pl.col("gpu_group").n_unique().alias("types"))
        .filter(pl.col("types") > 1)
    )
    return typed.join(several, ["service", "role"], how="semi")


def gpu_exporters(catalogue: Catalogue) -> dict[str, str | None]:
    """Return the exporters of GPU metrics, which report on while an engine is down, and their GPU's label."""
    return {e.name: e.gpu_id for e in catalogue.exporters if e.watches_gpus}


def reporters(series: pl.DataFrame, interval_s: float, catalogue: Catalogue) -> pl.DataFrame:
    """Return the series whose samples prove that an instance is there, for all GPU types and once per type.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    interval_s
        Spacing of a series with a single sample [s].
    catalogue
        Which exporters watch GPUs.

    Returns
    -------
    Frame (series_id, service, capture, role, gpu_group, instance, interval_s). An engine's own series count;
    those of a GPU exporter only where a pool has no others. Buckets are left out: their _count says the
    same.
    """
    own = (
        of_pools(series)
        .filter(~pl.col("source").is_in(NOT_REPORTERS) & ~pl.col("metric").str.ends_with("_bucket"))
        .select(
            "series_id", "service", "capture", pl.col("emitter_role").alias("role"),
            pl.col("gpu_type").alias("gpu_group"), "instance", "source",
            pl.col("interval_s").fill_null(interval_s),
        )
    )  # fmt: skip
    engines = own.filter(~pl.col("source").is_in(list(gpu_exporters(catalogue))))
    alone = own.join(engines, ["service", "role"], how="anti")
    proof = pl.concat([engines, alone]).drop("source")
    return pl.concat(
        [proof.with_columns(pl.lit(None, pl.String).alias("gpu_group")), with_several_types(proof)]
    )


def gpus_per_instance(
    series: pl.DataFrame, service: str, catalogue: Catalogue, given_gpus: Mapping[str, float]
) -> dict[str, float]:
    """Return the GPUs of one instance per role: the median over instances of distinct GPUs, else the user's.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    service
        Service.
    catalogue
        Which exporters watch GPUs, and the label that names one.
    given_gpus
        The user's numbers by role, or by ``*`` for every role; a role without either is left out.
    """
    pools = of_pools(series).filter(pl.col("service") == service)
    labels = gpu_exporters(catalogue)
    gpus = pools.filter(pl.col("source").is_in(list(labels)))
    names = [
        label_map(row["labels"]).get(labels[row["source"]] or "")
        for row in gpus.select("labels", "source").iter_rows(named=True)
    ]
    seen = gpus.with_columns(pl.Series("gpu", names, dtype=pl.String)).drop_nulls("gpu")
    per = seen.group_by("emitter_role", "capture", "instance").agg(pl.col("gpu").n_unique())
    medians = per.group_by("emitter_role").agg(pl.col("gpu").median()).sort("emitter_role")
    counted = {row["emitter_role"]: float(row["gpu"]) for row in medians.iter_rows(named=True)}
    given = {role: given_gpus.get(role, given_gpus.get("*")) for role in sorted(set(pools["emitter_role"]))}
    return {role: float(gpus) for role, gpus in given.items() if gpus is not None} | counted


def gpu_types(series: pl.DataFrame, service: str) -> dict[str, tuple[str, ...]]:
    """Return the GPU models seen per role, sorted."""
    found = (
        of_pools(series)
        .filter(pl.col("service") == service)
        .drop_nulls("gpu_type")
        .group_by("emitter_role")
        .agg(pl.col("gpu_type").unique().sort())
    )
    return {
        row["emitter_role"]: tuple(row["gpu_type"])
        for row in found.sort("emitter_role").iter_rows(named=True)
    }


INSTANCES_MAX = 64
"""Most instances of a role that are kept, evenly spaced by name: enough for a slope, bounded in size."""

_SIGNAL = ["service", "role", "signal"]
_ROLE_POOL = ["service", "capture", "role"]


def instance_terms(
    frames: tuple[ServiceFrame, ...], terms: pl.DataFrame, sources: pl.DataFrame
) -> pl.DataFrame:
    """Return the terms of candidate signals that every instance of their pool exports.

    Parameters
    ----------
    frames
        The aligned services.
    terms
        The term table.
    sources
        The chosen sources: service, role, signal and preference.

    Returns
    -------
    Terms over all GPU types of at most 64 instances a pool, evenly spaced by name; pools of one instance are
    left out.
    """
    candidates = [
        (frame.service, info.role, info.signal)
        for frame in frames
        for info in frame.signals
        if info.role in POOL_ROLES and info.family != "auxiliary"
    ]
    wanted = pl.DataFrame(candidates, schema=dict.fromkeys(_SIGNAL, pl.String), orient="row")
    own = terms.filter(pl.col("gpu_group").is_null() & pl.col("instance").is_not_null())
    own = own.join(wanted, _SIGNAL, how="semi").join(sources, [*_SIGNAL, "preference"], how="semi")
    pools = own.group_by(_ROLE_POOL).agg(pl.col("instance").unique().sort())
    sizes = pools.with_columns(pl.col("instance").list.len().alias("size")).drop("instance")
    exporters = own.group_by([*_ROLE_POOL, "signal"]).agg(pl.col("instance").n_unique().alias("exporting"))
    everywhere = exporters.join(sizes, _ROLE_POOL).filter(
        (pl.col("exporting") == pl.col("size")) & (pl.col("size") > 1)
    )
    kept = pools.with_columns(pl.col("instance").map_elements(_spread, return_dtype=pl.List(pl.String)))
    own = own.join(everywhere, [*_ROLE_POOL, "signal"], how="semi")
    return own.join(kept.explode("instance"), [*_ROLE_POOL, "instance"], how="semi")


def row_width_s(kind: str, window_s: float) -> float:
    """Return the width of a row [s]: whole windows, about five minutes; in a pressure test one window."""
    return window_s if kind == "pressure_test" else window_s * max(1, round(SUSTAINED_S / window_s))


def _spread(names: pl.Series) -> list[str]:
    """Return at most 64 of the sorted names, first and last among them."""
    count = min(len(names), INSTANCES_MAX)
    return [names[int(place)] for place in np.linspace(0, len(names) - 1, count).round()]


def instance_windows(
    terms: pl.DataFrame,
    store: WindowStore,
    left_out: TimeRanges,
    width_s: float,
    row_s: float,
    least_coverage: float,
) -> pl.DataFrame:
    """Return one value per instance, signal and row of several windows, a frame of contract INSTANCES.

    The reference query ``align/instance_windows`` of the tests is the same work in SQL.

    Parameters
    ----------
    terms
        Terms of the instances and sources wanted.
    store
        Windows of their series.
    left_out
        Stretches whose windows do not count.
    width_s, row_s
        Widths of a window and of a row [s].
    least_coverage
        Share of a window's samples, and of a row's windows, below which there is no value [ratio, 0..1].
    """
    rows = list(terms.iter_rows(named=True))
    formulas = grouped(rows, *_ROLE_POOL, "signal", "generation")
    parts = {formula: len({term["term"] for term in own}) for formula, own in formulas.items()}
    frames = []
    for key, own in sorted(grouped(rows, *_ROLE_POOL, "signal", "instance").items()):
        span = window_range_of(own, store)
        if span is not None:
            t = np.arange(span.first, span.after) * width_s
            kept = _outside(t, left_out)
            by_window, there = _of_instance(own, parts, store, span, least_coverage)
            row, value = _rows(
                own[0]["pool"], by_window, there & kept, np.floor(t / row_s), row_s / width_s, least_coverage
            )
            named = {
                name: pl.lit(text, pl.String)
                for name, text in zip((*_ROLE_POOL, "signal", "instance"), key, strict=True)
            }
            frames.append(
                pl.DataFrame(
                    {"t": row * row_s, "value": value}, schema={"t": pl.Float64, "value": pl.Float64}
                ).with_columns(pl.col("value").fill_nan(None), instants(), **named)
            )
    return check(pl.concat(frames), INSTANCES) if frames else empty(INSTANCES)


def _outside(t: np.ndarray, left_out: TimeRanges) -> np.ndarray:
    """Return which windows, by their starts [s], lie in none of the stretches."""
    kept = np.ones(t.size, bool)
    for first, after in left_out:
        kept &= (t < first) | (t >= after)
    return kept


def _of_instance(
    terms: Sequence[TermRow],
    parts: Mapping[tuple[Any, ...], int],
    store: WindowStore,
    span: WindowRange,
    least_coverage: float,
) -> tuple[EmitterParts, np.ndarray]:
    """Return an instance's parts per window from its newest names that have them all, and where there are."""
    best: tuple[EmitterParts, np.ndarray] | None = None
    for (generation,), own in sorted(grouped(terms, "generation").items()):
        formula = (*(terms[0][name] for name in (*_ROLE_POOL, "signal")), generation)
        found = emitter_parts(own, store, span, least_coverage)
        whole = found.parts == parts[formula]
        best = (found, whole) if best is None else (best[0].put(found, whole & ~best[1]), whole | best[1])
    assert best is not None  # noqa: S101 - every term has a generation
    return best


def _rows(
    kind: str, windows: EmitterParts, there: np.ndarray, row: np.ndarray, windows_a_row: float, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each row with enough windows, and its value, NaN where there is none."""
    first = int(row[0])
    own = (row[there] - first).astype(np.int64)
    count = np.bincount(own)
    total, mean, below = (
        np.bincount(own, weights=values[there]) for values in (windows.total, windows.mean, windows.below)
    )
    enough = np.flatnonzero((count > 0) & (count >= least * windows_a_row))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = {"mean": mean / count, "ratio": np.where(below == 0, np.nan, total / below)}.get(
            kind, total / count
        )
    return first + enough, value[enough]


_POOL = ("service", "capture", "role", "gpu_group")

INSTANCE_WINDOWS = {
    "service": pl.String, "capture": pl.String, "role": pl.String, "gpu_group": pl.String, "t": pl.Float64,
    "instances": pl.Float64,
}  # fmt: skip
"""Columns of the result, as the reference query gives them."""

PoolKey = tuple[str, str, str, str | None]
"""Service, capture, role and GPU model, None = all together."""


class Presence:
    """Takes the samples of series that prove an instance, one after the other.

    Parameters
    ----------
    reporters
        Those series, as `instances.reporters` gives them.
    width_s
        Width of a window [s].
    """

    def __init__(self, reporters: pl.DataFrame, width_s: float) -> None:
        self._width_s = width_s
        self._proves: dict[int, list[tuple[PoolKey, str, float]]] = {}
        for series_id, *pool, instance, interval_s in reporters.select(
            "series_id", *_POOL, "instance", "interval_s"
        ).iter_rows():
            self._proves.setdefault(series_id, []).append(((*pool,), instance, interval_s))
        self._seen: dict[PoolKey, dict[str, _InstanceTimes]] = {}

    def add(self, series_id: int, t_s: np.ndarray, values: np.ndarray) -> None:  # noqa: ARG002
        """Take the moments at which a series has a value [s since 1970, UTC], in order and at least one."""
        for pool, instance, interval_s in self._proves.get(series_id, ()):
            known = self._seen.setdefault(pool, {}).setdefault(instance, _InstanceTimes())
            known.add(t_s, interval_s, self._width_s)

    def counts(self, present_share: float) -> pl.DataFrame:
        """Return the reporting instances per pool and window, columns INSTANCE_WINDOWS, sorted.

        Parameters
        ----------
        present_share
            Share of the expected samples that makes an instance present [ratio, 0..1]. A window in which
            none has so many is null.
        """
        frames = [
            self._pool(pool, seen, present_share)
            for pool, seen in sorted(self._seen.items(), key=lambda one: (*one[0][:3], nulls_last(one[0][3])))
        ]
        return pl.concat([pl.DataFrame(schema=INSTANCE_WINDOWS), *frames])

    def _pool(self, pool: PoolKey, seen: Mapping[str, _InstanceTimes], present_share: float) -> pl.DataFrame:
        shares = [one.shares(self._width_s) for one in seen.values()]
        first = min(low for low, _ in shares)
        count, there = (np.zeros(max(low + s.size for low, s in shares) - first) for _ in range(2))
        for low, share in shares:
            own = slice(low - first, low - first + share.size)
            there[own] += share > 0
            count[own] += share >= present_share
        slots = np.flatnonzero(there)
        counted = pl.Series(np.where(count[slots] > 0, count[slots], np.nan)).fill_nan(None)
        return pl.DataFrame(
            {"t": (first + slots) * self._width_s, "instances": counted},
            schema_overrides={"t": pl.Float64, "instances": pl.Float64},
        ).select(
            *(pl.lit(name, pl.String).alias(key) for key, name in zip(_POOL, pool, strict=True)),
            "t", "instances",
        )  # fmt: skip


class _InstanceTimes:
    """The moments at which an instance reported, and the shortest interval of its series in each window."""

    def __init__(self) -> None:
        self._moments = np.empty(0)
        self._first = 0
        self._interval_s = np.empty(0)

    def add(self, t_s: np.ndarray, interval_s: float, width_s: float) -> None:
        if not np.array_equal(t_s, self._moments):
            self._moments = merged_times(self._moments, t_s)
        slots = slots_of(t_s[[0, -1]], width_s)
        first, after = int(slots[0]), int(slots[1]) + 1
        if self._interval_s.size:
            grown_to = max(after, self._first + self._interval_s.size)
            grown = np.full(grown_to - min(first, self._first), np.inf)
            offset = self._first - min(first, self._first)
            grown[offset : offset + self._interval_s.size] = self._interval_s
            self._first, self._interval_s = min(first, self._first), grown
        else:
            self._first, self._interval_s = first, np.full(after - first, np.inf)
        there = slots_of(t_s, width_s) - self._first
        self._interval_s[there] = np.minimum(self._interval_s[there], interval_s)

    def shares(self, width_s: float) -> tuple[int, np.ndarray]:
        """Return the first window and, from there on, the share of the expected samples; 0 = none."""
        moments = np.bincount(slots_of(self._moments, width_s) - self._first, minlength=self._interval_s.size)
        return self._first, moments * np.where(moments > 0, self._interval_s, 0.0) / width_s


def nulls_last(name: str | None) -> tuple[bool, str]:
    """Return the key that sorts names as SQL does."""
    return name is None, name or ""
