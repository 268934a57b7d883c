"""Checks of what the values themselves tell: their steps, their rounding, copies, histograms, counters."""

from __future__ import annotations

import polars as pl

from hs_analysis.doctor.input_checks import number
from hs_analysis.doctor.scene import Finding, Level, Scene
from hs_analysis.schema.frames import label_map

PAIRED_SHARE = 0.01
"""Share of samples that come right after another from which on it is how the source works [ratio]."""

UNEVEN_SHARE = 0.01
"""Share of uneven steps in one series from which on its interval is no longer one number [ratio]."""

FEW_STEPS = 10.0
"""A signal whose values cover fewer steps of its rounding than this hides its changes [count]."""

ENOUGH = 20
"""Changes or samples a series needs before its shape says something [count]; default of this project."""

GAUGE_FALLS = 0.05
"""Share of a counter's changes that are falls from which on it is no counter that restarts [ratio]."""

TWIN_SHARE = 0.8
"""Share of moments two copies of a series agree in; they are scraped at different times [ratio]."""

NEAR_RATIO = 0.02
"""Two values closer than this are alike: a counter moves on between two servers' scrapes [ratio]."""

MOST_PAIRS = 200
"""Pairs of series that are compared for each replica label [count]; more tell nothing new."""

REPLICA_LABELS = (
    "replica", "prometheus_replica", "__replica__", "thanos_replica", "rule_replica", "receive_replica",
)  # fmt: skip
"""Labels in which the servers of a highly available pair differ: defaults of the Prometheus operator,
Thanos, Cortex and Mimir."""

MOST_MOMENTS = 500
"""Moments at which each histogram is looked at [count]; a fault of an exporter shows at every scrape."""


SHAPES: dict[str, type[pl.DataType]] = dict.fromkeys(
    ("series_id", "steps", "rises", "falls", "zeros", "broken", "close", "uneven"), pl.Int64
) | {"shortest_s": pl.Float64}
"""Columns of the query ``doctor/shapes``."""


def shaped(scene: Scene) -> pl.DataFrame:
    """Return the series whose values were looked at, with their quality and shape."""
    shapes = pl.DataFrame(schema=SHAPES) if scene.shapes is None else scene.shapes
    quality = scene.quality.drop("interval_s")
    return scene.series.join(quality, "series_id").join(shapes, "series_id")


def _names(rows: pl.DataFrame) -> str:
    """Return up to three series as metric and instance, for a sentence."""
    shown = sorted(
        f"{metric} of {instance}" if instance else str(metric)
        for metric, instance in rows.select("metric", "instance").unique().iter_rows()
    )
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def spacing(scene: Scene) -> list[Finding]:
    """Find steps between samples that are not all the same, and samples that come in pairs."""
    looked = shaped(scene).filter(pl.col("steps") > 0)
    if looked.is_empty():
        return []
    found = []
    paired = looked.filter(pl.col("close") > PAIRED_SHARE * pl.col("steps"))
    if paired.height:
        text = (
            f"{paired['close'].sum():,} samples of {paired.height} series ({_names(paired)}) come right "
            "after another, within a tenth of the usual step: one moment told twice; windows average them, "
            "counts of samples mean nothing"
        )
        found.append(Finding("spacing", "warn", text, value=float(paired["close"].sum())))
    uneven = looked.filter(pl.col("uneven") > 0)
    if uneven.height:
        share = number((uneven["uneven"] / uneven["steps"]).max())
        level: Level = "warn" if share >= UNEVEN_SHARE else "pass"
        low, usual = number(uneven["shortest_s"].min()), number(uneven["interval_s"].median())
        shorter = f", the shortest {low:.4g} s" if low < 0.9 * usual else ""
        text = (
            f"steps off the usual {_usual(uneven)} s: {uneven['uneven'].sum():,} in {uneven.height} of "
            f"{looked.height} series ({_names(uneven)}){shorter}; rates use the true times, lags are no finer"
        )
        found.append(Finding("spacing", level, text, value=share))
    return found or [Finding("spacing", "pass", "every series keeps its step")]


def _usual(rows: pl.DataFrame) -> str:
    usual = sorted({round(one, 3) for one in rows["interval_s"].drop_nulls()})
    return f"{usual[0]:.4g}" if len(usual) == 1 else f"{usual[0]:.4g} to {usual[-1]:.4g}"


def resolution(scene: Scene) -> list[Finding]:
    """Percentages that come in whole numbers: smaller changes can't be seen."""
    looked = shaped(scene).filter(pl.col("steps") >= ENOUGH)
    found = []
    for (metric,), rows in looked.group_by("metric", maintain_order=True):
        reader = scene.catalogue.reader_of(str(metric))
        if reader is None or reader[1].unit not in ("percent", "%"):
            continue
        low, high = rows["low"].min(), rows["high"].max()
        if rows["broken"].sum() or not isinstance(low, float) or not isinstance(high, float) or low == high:
            continue
        coarse = high - low < FEW_STEPS
        text = (
            f"{metric} of {rows.height} series comes in whole percents, from {low:.0f} to {high:.0f}: "
            "smaller changes can't be seen" + ("; it has too few steps to follow load" if coarse else "")
        )
        found.append(Finding("resolution", "warn" if coarse else "pass", text, value=high - low))
    return sorted(found, key=lambda one: one.text)


def constants(scene: Scene) -> list[Finding]:
    """Signals that never change in any of their series."""
    still = (pl.col("high") == pl.col("low")).all()
    counts = (
        shaped(scene)
        .filter((pl.col("rows") >= ENOUGH) & pl.col("signal").is_not_null())
        .group_by("service", "signal", "metric", "emitter_role")
        .agg(pl.len(), still.alias("still"), pl.col("low").first())
        .filter("still")
    )
    return [
        Finding(
            "constant", "warn",
            f"{row['metric']} of {row['emitter_role']} is {row['low']:.6g} all the time in {row['len']} "
            f"series: {row['signal']} can't be judged by it; idle, or not kept up by the exporter",
            service=row["service"] or "", value=row["low"],
        )
        for row in counts.sort("service", "metric", "emitter_role").iter_rows(named=True)
        if (known := scene.catalogue.signal(row["signal"])) and known.family != "auxiliary"
    ]  # fmt: skip


def kinds(scene: Scene) -> list[Finding]:
    """Counters whose values fall often, and gauges that only ever rise."""
    looked = shaped(scene).filter(pl.col("signal").is_not_null())
    changes = pl.col("rises") + pl.col("falls")
    falling = looked.filter(
        (pl.col("kind") == "counter") & (changes >= ENOUGH) & (pl.col("falls") > GAUGE_FALLS * changes)
    )
    rising = looked.filter((pl.col("kind") == "gauge") & ~pl.col("metric").is_in(scene.catalogue.clock_like))
    rising = rising.filter(((pl.col("falls").sum() == 0) & (pl.col("rises").sum() >= ENOUGH)).over("metric"))
    odd: tuple[tuple[pl.DataFrame, Level, str, str], ...] = (
        (falling, "fail", "falls too often for a counter: its rate is wrong", "gauge"),
        (rising, "warn", "only ever rises, as a counter does: its mean says nothing", "counter"),
    )
    found = []
    for rows, level, words, kind in odd:
        for metric in sorted(set(rows["metric"])):
            count = rows.filter(pl.col("metric") == metric).height
            how = f'if it is one, set kind = "{kind}" for it under [metrics]'
            found.append(
                Finding("kind", level, f"{metric} of {count} series {words}; {how}", value=float(count))
            )
    return found


def idle_zeros(scene: Scene) -> list[Finding]:
    """Latencies of 0: what a source writes when there was no traffic, not a fast answer."""
    latency = [s.id for s in scene.catalogue.signals if s.family == "latency"]
    looked = shaped(scene).filter(
        pl.col("signal").is_in(latency) & (pl.col("kind") == "gauge") & (pl.col("zeros") > 0)
    )
    return [
        Finding(
            "idle_zero", "warn",
            f"{metric} is 0 in {rows['zeros'].sum():,} samples of {rows.height} series: no traffic, not a "
            "fast answer; leave those rows out (skip_where in the mapping)",
            value=float(rows["zeros"].sum()),
        )
        for (metric,), rows in looked.sort("metric").group_by("metric", maintain_order=True)
    ]  # fmt: skip


def replica_pairs(series: pl.DataFrame, quality: pl.DataFrame) -> pl.DataFrame:
    """Return pairs of series that differ in a replica label only and are not constant.

    Returns
    -------
    Frame (pair_id, label, first_id, second_id, reach_s), at most MOST_PAIRS a label, in series order; input
    ``pairs`` of the query ``doctor/twins``.
    """
    joined = series.select("series_id", "capture", "metric", "labels", "interval_s").join(
        quality.select("series_id", "low", "high"), "series_id"
    )
    moving = joined.filter((pl.col("low") < pl.col("high")) & pl.col("interval_s").is_not_null())
    firsts: dict[tuple[object, ...], int] = {}
    pairs: list[tuple[int, str, int, int, float]] = []
    for one, capture, metric, raw, interval_s in moving.sort("series_id").drop("low", "high").iter_rows():
        labels = label_map(raw)
        for label in REPLICA_LABELS:
            if label not in labels:
                continue
            rest = tuple(sorted(pair for pair in labels.items() if pair[0] != label))
            first = firsts.setdefault((capture, metric, label, rest), one)
            if first != one and sum(pair[1] == label for pair in pairs) < MOST_PAIRS:
                pairs.append((len(pairs), label, first, one, interval_s))
    schema = {"pair_id": pl.Int64, "label": pl.String, "first_id": pl.Int64, "second_id": pl.Int64}
    return pl.DataFrame(pairs, schema=schema | {"reach_s": pl.Float64}, orient="row")


def replicas(scene: Scene) -> list[Finding]:
    """Series that are there twice because two Prometheus servers scraped the same pods."""
    if scene.twins is None or scene.twins.is_empty():
        return []
    counts = (
        scene.twins.with_columns((pl.col("alike") >= TWIN_SHARE * pl.col("compared")).alias("twin"))
        .group_by("label")
        .agg(pl.len(), pl.col("twin").sum())
        .filter(2 * pl.col("twin") > pl.col("len"))
    )
    return [
        Finding(
            "replicas", "fail",
            f"{row['twin']} of {row['len']} pairs of series that differ in {row['label']} only tell the "
            f"same: two servers scraped the same pods, and totals count twice; read it with --dedup-label "
            f"{row['label']}", value=float(row["twin"]),
        )
        for row in counts.sort("label").iter_rows(named=True)
    ]  # fmt: skip


def histogram_parts(series: pl.DataFrame, families: frozenset[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the buckets and the counts of histograms.

    Parameters
    ----------
    series
        Frame of contract SERIES.
    families
        Names of histograms without an ending.

    Returns
    -------
    Frames (series_id, histogram_id, le) and (series_id, histogram_id), inputs ``buckets`` and ``counts`` of
    the query ``doctor/histograms``. A histogram is numbered by the first of its buckets; an edge that is no
    number is left out.
    """
    numbers: dict[tuple[object, ...], int] = {}
    buckets, counts = list[tuple[int, int, float]](), list[tuple[int, int]]()
    looked = series.select("series_id", "capture", "metric", "labels").sort("series_id")
    for ending in ("_bucket", "_count"):
        for one, capture, metric, raw in looked.iter_rows():
            family = metric.removesuffix(ending)
            if family == metric or family not in families:
                continue
            labels = label_map(raw)
            edge = _edge(labels.pop("le", ""))
            key = (capture, family, tuple(sorted(labels.items())))
            if ending == "_bucket" and edge is not None:
                buckets.append((one, numbers.setdefault(key, one), edge))
            elif ending == "_count" and key in numbers:
                counts.append((one, numbers[key]))
    schema = {"series_id": pl.Int64, "histogram_id": pl.Int64}
    return (
        pl.DataFrame(buckets, schema=schema | {"le": pl.Float64}, orient="row"),
        pl.DataFrame(counts, schema=schema, orient="row"),
    )


def _edge(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_FAULTS: tuple[tuple[str, Level, str], ...] = (
    ("open", "fail", "has no bucket up to +Inf (bucket_incomplete): no quantile, no share over a limit; keep "
     "every le in metric_relabel_configs"),
    ("lacking", "warn", "lacks edges at times (bucket_incomplete): its edges changed, or some were dropped; "
     "shares over a limit before and after are not the same"),
    ("falling", "fail", "is not cumulative: a bucket is below that of a smaller edge; sums over pods or "
     "servers have mixed it up, so export it as scraped"),
    ("unequal", "warn", "has another count than its last bucket: it was added up or scraped in parts; export "
     "it as scraped"),
)  # fmt: skip
"""Column of the query ``doctor/histograms``, level and words."""


def histograms(scene: Scene) -> list[Finding]:
    """Histograms that do not hold together: edges missing or changed, buckets that fall, another count."""
    if scene.histograms is None or scene.histograms.is_empty():
        return []
    names = scene.series.select(pl.col("series_id").alias("histogram_id"), "metric")
    looked = scene.histograms.join(names, "histogram_id")
    found = []
    for column, level, words in _FAULTS:
        faulty = looked.filter(pl.col(column) > 0)
        for (metric,), rows in faulty.sort("metric").group_by("metric", maintain_order=True):
            text = (
                f"{str(metric).removesuffix('_bucket')} {words} ({rows.height} histograms, "
                f"{rows[column].sum()} of {rows['moments'].sum()} moments looked at)"
            )
            found.append(Finding("histograms", level, text, value=float(rows[column].sum())))
    whole = f"{looked.height} histograms are cumulative, whole, and equal to their counts"
    return found or [Finding("histograms", "pass", whole)]
