"""Checks of single series: spacing, rounding, units, histograms, releases, load and fleet size."""

from __future__ import annotations

import re

import polars as pl

from hs_analysis.catalogue.rows import BASES, measured
from hs_analysis.doctor.context import DoctorContext, Finding, Level
from hs_analysis.doctor.input_checks import MOST_NAMES, listed, number
from hs_analysis.errors import first_of
from hs_analysis.schema.aligned import ServiceFrame, column
from hs_analysis.schema.frames import label_map
from hs_analysis.schema.number_text import percent
from hs_analysis.schema.settings import MetricRow

UNIT_WORDS = {"milliseconds": "ms", "millis": "ms", "microseconds": "us", "seconds": "s", "pct": "percent"}
"""Words at the end of metric names → the unit they mean; units themselves mean what they are."""

TOP_SHARE = 0.01
"""Share of the samples, farthest from the mean first, whose part of the variance is looked at [ratio]."""

CARRIED_SHARE = 0.5
"""Share of the variance in those samples from which on they decide every mean and every straight line
[ratio]; of exponential values it is 0.22."""

NO_VALUE_SHARE = 0.05
"""Share of a metric's samples without a number from which on it is said [ratio]; default of this project."""

ENOUGH_VALUES = 100
"""Values a signal needs before its tail says something [count]; default of this project."""

ENOUGH_WINDOWS = 30
"""Windows a rank correlation needs: its standard error is 0.2 then [count]."""

FOLLOWS = 0.5
"""Rank correlation of load and instances from which on one stands for the other [ratio]; default of this
project."""


def series_scales(context: DoctorContext) -> list[Finding]:
    """Report series whose unit is not the documented one, or is not known."""
    marked = context.series.drop_nulls("scale_evidence").with_columns(
        pl.col("scale_evidence").str.split(":").list.first().alias("why")
    )
    odd = marked.filter(pl.col("repair").is_not_null() | pl.col("why").is_in(["mismatch", "doubtful"]))
    counts = odd.group_by("metric", "why").agg(pl.len(), pl.col("scale_evidence").min().alias("seen"))
    return [
        Finding(
            "scale_mismatch", "fail" if row["why"] == "mismatch" else "warn",
            f"{row['len']} series of {row['metric']}: {row['seen']}", value=float(row["len"]),
        )
        for row in counts.sort("metric", "why").iter_rows(named=True)
    ]  # fmt: skip


def pod_labels(context: DoctorContext) -> list[Finding]:
    """Pods that the join with kube_pod_labels missed."""
    return [Finding("label_join", "warn", text) for text in context.pod_labels]


def releases(context: DoctorContext) -> list[Finding]:
    """Versions, images and metric names that changed inside the window."""
    rows = [] if context.releases is None else context.releases.iter_rows(named=True)
    return [
        Finding(
            "release", "warn",
            f"{row['what']} of {row['role']} changed from {row['from']} to {row['to']}: what was measured "
            "before may not hold after", service=row["service"], start=row["t"], end=row["until"],
        )
        for row in rows
    ]  # fmt: skip


def tails(context: DoctorContext) -> list[Finding]:
    """Latencies whose few highest values carry most of the variance: a cliff, not a slope."""
    if context.tails is None or context.tails.is_empty():
        return []
    steep = context.tails.filter((pl.col("moments") >= ENOUGH_VALUES) & (pl.col("carried") >= CARRIED_SHARE))
    return [
        Finding(
            "tail", "warn",
            f"{row['metric']}: the highest {percent(TOP_SHARE, exact=True)} of its values carry "
            f"{percent(row['carried'], whole=True)} of the variance "
            f"(mean {row['mean']:.4g}, 99 % within {row['high']:.4g}, maximum {row['peak']:.4g}, "
            f"deviation {row['deviation'] / row['mean']:.1f} × the mean): a cliff, so trust ranks and shares "
            "over a limit, no mean and no straight line", service=row["service"], value=row["carried"],
        )
        for row in steep.sort("service", "metric").iter_rows(named=True)
    ]  # fmt: skip


def followed(context: DoctorContext) -> list[Finding]:
    """Pools whose size moves with the load: what comes of which is not visible in totals."""
    found = []
    for frame in context.frames:
        for role in frame.pools if frame.has("request_rate", "service") else ():
            rho, count = _rank_correlation(
                frame, column("request_rate", "service"), column("instances", role)
            )
            if rho >= FOLLOWS:
                text = (
                    f"{role} instances move with the request rate (rank correlation {rho:.2f} over {count} "
                    "windows): the fleet followed the load, so what comes of either is not visible in "
                    "totals; signals are judged per instance"
                )
                found.append(Finding("confounded", "pass", text, service=frame.service, value=rho))
    return found


def _rank_correlation(frame: ServiceFrame, load: str, size: str) -> tuple[float, int]:
    both = frame.table.select(load, size).drop_nulls()
    varies = both[load].n_unique() > 1 and both[size].n_unique() > 1
    if both.height < ENOUGH_WINDOWS or not varies:
        return 0.0, both.height
    return number(both.select(pl.corr(load, size, method="spearman")).item()), both.height


def averaged(context: DoctorContext) -> list[Finding]:
    """Values that the mapping says were averaged before they were written."""
    spans: dict[float, list[str]] = {}
    for name, row in _mapped(context):
        if row.averaged is not None:
            spans.setdefault(row.averaged, []).append(name)
    return [
        Finding(
            "averaged", "warn",
            f"{listed(names)}: averages over {span_s:,.0f} s, or made from such: steps at its multiples are "
            "no load, and nothing shorter can be seen", value=span_s,
        )
        for span_s, names in sorted(spans.items())
    ]  # fmt: skip


def _mapped(context: DoctorContext) -> list[tuple[str, MetricRow]]:
    """Return the metrics of the user's that the input has, and what the settings say of them."""
    reading = context.settings.reading
    tables = [table.columns for table in reading.tables.values() if table.holds == "samples"]
    rows = {name: row for columns in (*tables, reading.metrics) for name, row in columns.items()}
    there = set(context.series["metric"])
    return [
        (name, row)
        for name, row in sorted(rows.items())
        if (f"{name}_bucket" if row.kind == "histogram" else name) in there
    ]


def named_units(context: DoctorContext) -> list[Finding]:
    """Metrics of the user's whose name tells another unit than they are read in."""
    found = []
    for name, row in _mapped(context):
        signal, suffix = context.catalogue.signal(row.signal), _unit_in(name)
        if signal is None or suffix is None or row.kind == "counter":
            continue
        read = row.unit or signal.unit
        ours, theirs = measured(suffix), measured(read)
        if ours and theirs and ours[0] == theirs[0] and ours[1] != theirs[1]:
            text = (
                f"{name} is read in {read}, but its name says {suffix}: if the name is right, "
                f"{row.signal} is off by a factor of {max(ours[1] / theirs[1], theirs[1] / ours[1]):.4g}; "
                f'set unit = "{suffix}"'
            )
            found.append(Finding("named_unit", "warn", text))
    return found


def _unit_in(name: str) -> str | None:
    """Return the unit that the end of a name tells, None when it tells none."""
    words = re.split(r"[_:.]", name.lower())
    if words[-2:] == ["per", "minute"]:
        return "req/min" if {"rate", "requests", "arrival"} & set(words) else None
    last = UNIT_WORDS.get(words[-1], words[-1])
    return last if len(words) > 1 and last in BASES else None


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

MOST_TIMES = 500
"""Moments at which each histogram is looked at [count]; a fault of an exporter shows at every scrape."""


SHAPES: dict[str, type[pl.DataType]] = dict.fromkeys(
    ("series_id", "steps", "rises", "falls", "zeros", "broken", "close", "uneven"), pl.Int64
) | {"shortest_s": pl.Float64}
"""Columns of the query ``doctor/shapes``."""


def with_shape(context: DoctorContext) -> pl.DataFrame:
    """Return the series whose values were looked at, with their quality and shape."""
    shapes = pl.DataFrame(schema=SHAPES) if context.shapes is None else context.shapes
    quality = context.quality.drop("interval_s")
    return context.series.join(quality, "series_id").join(shapes, "series_id")


def _names(rows: pl.DataFrame) -> str:
    """Return up to three series as metric and instance, for a sentence."""
    names = sorted(
        f"{metric} of {instance}" if instance else str(metric)
        for metric, instance in rows.select("metric", "instance").unique().iter_rows()
    )
    return first_of(names, MOST_NAMES)


def spacing(context: DoctorContext) -> list[Finding]:
    """Find steps between samples that are not all the same, and samples that come in pairs."""
    shapes = with_shape(context).filter(pl.col("steps") > 0)
    if shapes.is_empty():
        return []
    found = []
    paired = shapes.filter(pl.col("close") > PAIRED_SHARE * pl.col("steps"))
    if paired.height:
        text = (
            f"{paired['close'].sum():,} samples of {paired.height} series ({_names(paired)}) come right "
            "after another, within a tenth of the usual step: one moment reported twice; windows average "
            "them, counts of samples mean nothing"
        )
        found.append(Finding("spacing", "warn", text, value=float(paired["close"].sum())))
    uneven = shapes.filter(pl.col("uneven") > 0)
    if uneven.height:
        share = number((uneven["uneven"] / uneven["steps"]).max())
        level: Level = "warn" if share >= UNEVEN_SHARE else "pass"
        low, usual = number(uneven["shortest_s"].min()), number(uneven["interval_s"].median())
        shorter = f", the shortest {low:.4g} s" if low < 0.9 * usual else ""
        text = (
            f"steps off the usual {_usual(uneven)} s: {uneven['uneven'].sum():,} in {uneven.height} of "
            f"{shapes.height} series ({_names(uneven)}){shorter}; rates use the true times, lags are no finer"
        )
        found.append(Finding("spacing", level, text, value=share))
    return found or [Finding("spacing", "pass", "every series keeps its step")]


def _usual(rows: pl.DataFrame) -> str:
    usual = sorted({round(one, 3) for one in rows["interval_s"].drop_nulls()})
    return f"{usual[0]:.4g}" if len(usual) == 1 else f"{usual[0]:.4g} to {usual[-1]:.4g}"


def without_value(context: DoctorContext) -> list[Finding]:
    """Metrics of which many samples hold no number: they pass as pauses, though the target was scraped."""
    known = context.series.filter(pl.col("signal").is_not_null()).select("series_id", "metric")
    nothing = (pl.col("nulls") - pl.col("lookback")).sum().alias("nothing")
    counts = (
        known.join(context.quality, "series_id")
        .group_by("metric")
        .agg(pl.len().alias("series"), pl.col("rows").sum(), nothing)
        .filter(pl.col("nothing") >= NO_VALUE_SHARE * pl.col("rows"), pl.col("nothing") > 0)
    )
    return [
        Finding(
            "no_value", "warn",
            f"{row['metric']}: {row['nothing']:,} of {row['rows']:,} samples in {row['series']} series "
            f"({percent(row['nothing'] / row['rows'])}) are NaN, infinite or null; windows with no other "
            "sample are null", value=row["nothing"] / row["rows"],
        )
        for row in counts.sort("metric").iter_rows(named=True)
    ]  # fmt: skip


def resolution(context: DoctorContext) -> list[Finding]:
    """Percentages that come in whole numbers: smaller changes can't be seen."""
    shapes = with_shape(context).filter(pl.col("steps") >= ENOUGH)
    found = []
    for (metric,), rows in shapes.group_by("metric", maintain_order=True):
        reader = context.catalogue.reader_of(str(metric))
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


def constants(context: DoctorContext) -> list[Finding]:
    """Signals that never change in any of their series."""
    still = (pl.col("high") == pl.col("low")).all()
    counts = (
        with_shape(context)
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
        if (known := context.catalogue.signal(row["signal"])) and known.family != "auxiliary"
    ]  # fmt: skip


def kinds(context: DoctorContext) -> list[Finding]:
    """Counters whose values fall often, and gauges that only ever rise."""
    shapes = with_shape(context).filter(pl.col("signal").is_not_null())
    changes = pl.col("rises") + pl.col("falls")
    falling = shapes.filter(
        (pl.col("kind") == "counter") & (changes >= ENOUGH) & (pl.col("falls") > GAUGE_FALLS * changes)
    )
    rising = shapes.filter(
        (pl.col("kind") == "gauge") & ~pl.col("metric").is_in(context.catalogue.clock_like)
    )
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


def idle_zeros(context: DoctorContext) -> list[Finding]:
    """Latencies of 0: what a source writes when there was no traffic, not a fast answer."""
    latency = [s.id for s in context.catalogue.signals if s.family == "latency"]
    shapes = with_shape(context).filter(
        pl.col("signal").is_in(latency) & (pl.col("kind") == "gauge") & (pl.col("zeros") > 0)
    )
    return [
        Finding(
            "idle_zero", "warn",
            f"{metric} is 0 in {rows['zeros'].sum():,} samples of {rows.height} series: no traffic, not a "
            "fast answer; leave those rows out (skip_where in the mapping)",
            value=float(rows["zeros"].sum()),
        )
        for (metric,), rows in shapes.sort("metric").group_by("metric", maintain_order=True)
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


def replicas(context: DoctorContext) -> list[Finding]:
    """Series that are there twice because two Prometheus servers scraped the same pods."""
    if context.twins is None or context.twins.is_empty():
        return []
    counts = (
        context.twins.with_columns((pl.col("alike") >= TWIN_SHARE * pl.col("compared")).alias("twin"))
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
    labelled = series.select("series_id", "capture", "metric", "labels").sort("series_id")
    for ending in ("_bucket", "_count"):
        for one, capture, metric, raw in labelled.iter_rows():
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


def histograms(context: DoctorContext) -> list[Finding]:
    """Histograms that do not hold together: edges missing or changed, buckets that fall, another count."""
    if context.histograms is None or context.histograms.is_empty():
        return []
    names = context.series.select(pl.col("series_id").alias("histogram_id"), "metric")
    checked = context.histograms.join(names, "histogram_id")
    found = []
    for fault, level, words in _FAULTS:
        faulty = checked.filter(pl.col(fault) > 0)
        for (metric,), rows in faulty.sort("metric").group_by("metric", maintain_order=True):
            text = (
                f"{str(metric).removesuffix('_bucket')} {words} ({rows.height} histograms, "
                f"{rows[fault].sum()} of {rows['moments'].sum()} moments looked at)"
            )
            found.append(Finding("histograms", level, text, value=float(rows[fault].sum())))
    whole = f"{checked.height} histograms are cumulative, whole, and equal to their counts"
    return found or [Finding("histograms", "pass", whole)]


CERTAIN_RATIO = 0.02
"""A rate that is off by less is as good as one from scrapes [ratio]; default of this project."""


def query_grids(context: DoctorContext) -> list[Finding]:
    """Find counters at the times of a query, not of scrapes, and say how far rates from them may be off.

    A server answers at each point of the grid with the last sample before it, so that a counter is late by up
    to a scrape interval. A rate over a window then gains or loses the growth of up to one interval at an end:
    interval ÷ window, where the load changes by as much as itself from one end to the other. In a real
    capture (5 s of 60 s, bursty load) 99 % of the rates were within that.
    """
    if context.grids is None or context.grids.is_empty() or not context.frames:
        return []
    counters = context.series.filter(pl.col("kind") == "counter").join(context.grids, "series_id")
    if counters.is_empty():
        return []
    late_s = scrape_distance_s(counters, context.quality)
    window_s = min(frame.window_s for frame in context.frames)
    steps = listed(f"{step:g}" for step in counters["step_s"].unique())
    files = counters["file"].n_unique()
    which = (
        f"{counters.height} counters of {files} file{'s' * (files != 1)} ({listed(counters['file'])}) "
        f"lie on a query's grid of {steps} s, which does not say when a value was scraped"
    )
    open_ratio = late_s / window_s
    certain = percent(CERTAIN_RATIO, exact=True)
    if open_ratio <= CERTAIN_RATIO:
        text = f"{which}: rates over windows of {window_s:g} s are within {certain} all the same"
        return [Finding("query_grid", "pass", text, value=open_ratio)]
    text = (
        f"{which}: a rate over a window of {window_s:g} s may be off by {percent(open_ratio)} (one scrape "
        f"interval, {late_s:g} s, of the window), by {certain} from {late_s / CERTAIN_RATIO:g} s "
        "on; ask for the samples as scraped (hsa pull without --step, `metric[1d]` at the end of each day, "
        "a TSDB snapshot or dump)"
    )
    return [Finding("query_grid", "warn", text, value=open_ratio)]


def scrape_distance_s(counters: pl.DataFrame, quality: pl.DataFrame) -> float:
    """Return by how much samples on a grid may be late [s]: the largest distance of scrapes.

    A grid finer than the scrapes repeats values. The liveliest counter of a capture and step tells how often
    there is news at all; no distance is shorter than the step.

    Parameters
    ----------
    counters
        Series on a grid (series_id, capture, step_s), at least one.
    quality
        How often each series brings news: series_id, news_s.
    """
    news = counters.join(quality.select("series_id", "news_s"), "series_id", how="left")
    liveliest = pl.col("news_s").min().over("capture", "step_s")
    found: float = news.select(pl.max_horizontal("step_s", liveliest).max()).item()
    return found
