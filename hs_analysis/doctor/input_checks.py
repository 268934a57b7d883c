"""Checks of the input as a whole: readers' notes, times, captures, unknown names, who came and went."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl

from hs_analysis.doctor.scene import Finding, Scene
from hs_analysis.schema.aligned import POOL_ROLES
from hs_analysis.schema.frames import label_map

OLDEST = datetime(2015, 1, 1, tzinfo=UTC)
"""Prometheus' first release year: older times are another unit, or count from the start of a log."""

AHEAD = timedelta(days=1)
"""A clock may be off, and a zone may be wrong, by so much; a time after that has not been yet."""

SCALES = (("milliseconds for seconds", 1e3), ("seconds for milliseconds", 1e-3))
"""How a unit is mistaken, and the factor on the time that undoes it."""

RENEWED_LABELS = ("worker_id", "pod_uid", "uid", "container_id")
"""Labels that a process gets anew when it starts: Dynamo, Kubernetes."""

RUNTIMES = ("go_", "process_", "python_", "promhttp_", "scrape_", "prometheus_")
"""Beginnings of what every client library and Prometheus itself export."""

MOST_SHOWN = 3
"""Names a sentence lists."""


def listed(names: Iterable[object], most: int = MOST_SHOWN) -> str:
    """Return the first names in order, and how many more there are."""
    all_names = sorted({str(name) for name in names})
    return ", ".join(all_names[:most]) + (
        f" and {len(all_names) - most} more" if len(all_names) > most else ""
    )


def number(value: object) -> float:
    """Return what an aggregate gave as a float, NaN where it gave nothing."""
    return float(value) if isinstance(value, int | float) else math.nan


def clock(moment: datetime) -> str:
    """Return a time for a sentence."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def metrics(scene: Scene) -> list[Finding]:
    """Whether there are metrics over time at all: without them nothing can be studied."""
    if scene.series.height:
        return [Finding("metrics", "pass", f"{scene.series.height:,} series over time")]
    there = [(scene.requests, "requests"), (scene.bench, "benchmark points")]
    rest = " and ".join(
        f"{frame.height:,} {what}" for frame, what in there if frame is not None and frame.height
    )
    text = f"no metrics over time, only {rest or 'nothing'}: no signal can be judged; add the service's dumps"
    return [Finding("metrics", "warn", text)]


def reader_notes(scene: Scene) -> list[Finding]:
    """Pass on what readers assumed, left out, or found odd in the files."""
    files: dict[str, list[str]] = {}
    for name, text in scene.notes:
        files.setdefault(text, []).append(name)
    return [Finding("notes", "pass", f"{listed(names)}: {text}") for text, names in files.items()]


def exact_copies(scene: Scene) -> list[Finding]:
    """Count samples that are there more than once with the same value."""
    if not scene.copies:
        return []
    count = sum(rows for _, rows in scene.copies)
    where = listed(name for name, _ in scene.copies)
    text = f"{count:,} samples are there again with the same time and value, and stored once ({where})"
    return [Finding("copies", "pass", text, value=float(count))]


def times(scene: Scene) -> list[Finding]:
    """Find times before 2015, and times that have not been yet, with the readings in other units."""
    if scene.quality.is_empty():
        return []
    first, last = scene.quality["first_t"].min(), scene.quality["last_t"].max()
    latest = None if scene.now is None else scene.now + AHEAD
    found = []
    if isinstance(first, datetime) and first < OLDEST:
        text = f"the first sample is from {clock(first)}, before Prometheus: {_readings(first, latest)}"
        found.append(Finding("times", "warn", text, start=first))
    if isinstance(last, datetime) and latest is not None and last > latest:
        text = f"the last sample is from {clock(last)}, which has not been yet: {_readings(last, latest)}"
        found.append(Finding("times", "warn", text, end=last))
    return found or [Finding("times", "pass", "all times lie between 2015 and now")]


def _readings(moment: datetime, latest: datetime | None) -> str:
    """Return what the time would be in another unit, or what else it may be."""
    for words, factor in SCALES:
        seconds = moment.timestamp() * factor
        if not OLDEST.timestamp() <= seconds <= datetime(2100, 1, 1, tzinfo=UTC).timestamp():
            continue
        other = datetime.fromtimestamp(seconds, UTC)
        if latest is None or other <= latest:
            return f"it is {clock(other)} if {words} were read; give --time-unit, or export again"
    return (
        "no other unit makes it a time since 2015; times from the start of a log need --epoch, "
        "a clock that is off needs --tz or its data re-exported"
    )


def unknown_metrics(scene: Scene) -> list[Finding]:
    """Metrics of exporters nobody knows, which carry no signal: they may be the user's own."""
    orphans = scene.series.filter(pl.col("signal").is_null())
    exporters = {one.name: one.prefixes for one in scene.catalogue.exporters}
    known = set(scene.catalogue.clock_like) | {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
    strange = [
        metric
        for metric, source in orphans.select("metric", "source").unique().iter_rows()
        if metric
        and metric not in known
        and not metric.startswith(RUNTIMES)
        and not any(exporters.get(source or "", ()))
    ]
    if not strange:
        return []
    text = (
        f"{len(set(strange))} metrics of exporters the catalogue does not know are not used "
        f"({listed(strange)}): name their signal and unit under [metrics] in hsa.toml"
    )
    return [Finding("unknown_metric", "pass", text, value=float(len(set(strange))))]


def captures(scene: Scene) -> list[Finding]:
    """Separate runs of a service, and the signals that some of them lack."""
    found = []
    for frame in scene.frames:
        names = [name for name in frame.captures() if name]
        if len(names) < 2:
            continue
        text = f"{len(names)} captures, kept apart: {listed(names)}"
        found.append(Finding("captures", "pass", text, service=frame.service, value=float(len(names))))
        columns = [info for info in frame.signals if info.family != "auxiliary"]
        counts = frame.table.group_by("capture").agg(
            pl.col(f"{info.signal}@{info.role}").count() for info in columns
        )
        for info in columns:
            without = counts.filter(pl.col(f"{info.signal}@{info.role}") == 0)["capture"].to_list()
            if without:
                text = (
                    f"{info.signal} of {info.role} is missing in {len(without)} of {counts.height} captures "
                    f"({listed(without)}): null there, never zero"
                )
                found.append(
                    Finding("captures", "warn", text, service=frame.service, value=float(len(without)))
                )
    return found


def renewed(scene: Scene) -> list[Finding]:
    """Instances whose process got a new identity: it started again, and its series began anew."""
    placed = scene.series.filter(pl.col("emitter_role").is_in(POOL_ROLES) & pl.col("instance").is_not_null())
    rows = placed.join(scene.quality.select("series_id", "first_t", "last_t"), "series_id")
    lives: dict[tuple[str, str, str, str], dict[str, tuple[datetime, datetime]]] = {}
    for service, capture, instance, raw, first, last in rows.select(
        "service", "capture", "instance", "labels", "first_t", "last_t"
    ).iter_rows():
        labels = label_map(raw)
        for label in RENEWED_LABELS:
            if labels.get(label):
                own = lives.setdefault((service or "", capture, instance, label), {})
                low, high = own.get(labels[label], (first, last))
                own[labels[label]] = min(low, first), max(high, last)
    return [
        Finding(
            "renewed", "warn",
            f"{instance} has another {label} from {clock(first)} on ({old}, then {new}): it started again; "
            f"series are joined by instance, never by {label}", service=service, start=first, end=first,
        )
        for (service, _, instance, label), values in sorted(lives.items())
        for old, new, first in _successions(values)
    ]  # fmt: skip


def _successions(values: dict[str, tuple[datetime, datetime]]) -> list[tuple[str, str, datetime]]:
    """Return (old, new, first seen) of values of which one begins after the other has ended."""
    order: Sequence[tuple[str, tuple[datetime, datetime]]] = sorted(values.items(), key=lambda one: one[1])
    return [(old, new, first) for (old, (_, last)), (new, (first, _)) in pairwise(order) if first >= last]
