"""Checks of the input as a whole: files, rows, times, gaps, captures, roles, units and lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from typing import Any

import numpy as np
import polars as pl

from hs_analysis.doctor.context import DoctorContext, Finding, Level
from hs_analysis.doctor.inventory import missing_signals
from hs_analysis.errors import first_of
from hs_analysis.schema.aligned import POOL_ROLES, ServiceFrame
from hs_analysis.schema.constants import HOUR_S, ROWS_MIN, SUSTAINED_S
from hs_analysis.schema.frames import GAP_INTERVALS, label_map
from hs_analysis.schema.number_text import percent
from hs_analysis.statistics.smoothing import highpass

OLDEST = datetime(2015, 1, 1, tzinfo=UTC)
"""Prometheus' first release year: older times are another unit, or count from the start of a log."""

AHEAD = timedelta(days=1)
"""A clock may be off, and a zone may be wrong, by so much; a time after that has not been yet."""

SCALES = (("milliseconds for seconds", 1e3), ("seconds for milliseconds", 1e-3))
"""How a unit is mistaken, and the factor on the time that undoes it."""

RENEWED_LABELS = ("worker_id", "pod_uid", "uid", "container_id")
"""Labels that a process gets anew when it starts: Dynamo, Kubernetes."""

MOST_RESTARTS = 3
"""Restarts of an instance that are told one by one; more are told together. Default of this project."""

RUNTIMES = ("go_", "process_", "python_", "promhttp_", "scrape_", "prometheus_")
"""Beginnings of what every client library and Prometheus itself export."""

MOST_NAMES = 3
"""Names a sentence lists."""


def listed(names: Iterable[object], most: int = MOST_NAMES) -> str:
    """Return the first names in order, and how many more there are."""
    return first_of(sorted({str(name) for name in names}), most)


def number(value: object) -> float:
    """Return what an aggregate gave as a float, NaN where it gave nothing."""
    return float(value) if isinstance(value, int | float) else math.nan


def time_text(moment: datetime) -> str:
    """Return a time for a sentence."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def metrics(context: DoctorContext) -> list[Finding]:
    """Whether there are metrics over time at all: without them nothing can be studied."""
    if context.series.height:
        return [Finding("metrics", "pass", f"{context.series.height:,} series over time")]
    there = [(context.requests, "requests"), (context.bench, "benchmark points")]
    rest = " and ".join(
        f"{frame.height:,} {what}" for frame, what in there if frame is not None and frame.height
    )
    text = f"no metrics over time, only {rest or 'nothing'}: no signal can be judged; add the service's dumps"
    return [Finding("metrics", "warn", text)]


def reader_notes(context: DoctorContext) -> list[Finding]:
    """Pass on what readers assumed, left out, or found odd in the files."""
    files: dict[str, list[str]] = {}
    for name, text in context.notes:
        files.setdefault(text, []).append(name)
    return [Finding("notes", "pass", f"{listed(names)}: {text}") for text, names in files.items()]


def source_losses(context: DoctorContext) -> list[Finding]:
    """Say what the source of a file can't give, although a scrape of the exporter would."""
    files: dict[str, list[str]] = {}
    for name, text in context.losses:
        files.setdefault(text, []).append(name)
    return [Finding("source_losses", "warn", f"{listed(names)}: {text}") for text, names in files.items()]


def exact_copies(context: DoctorContext) -> list[Finding]:
    """Count samples that are there more than once with the same value."""
    if not context.copies:
        return []
    count = sum(rows for _, rows in context.copies)
    where = listed(name for name, _ in context.copies)
    text = f"{count:,} samples are there again with the same time and value, and stored once ({where})"
    return [Finding("copies", "pass", text, value=float(count))]


def times(context: DoctorContext) -> list[Finding]:
    """Find times before 2015, and times that have not been yet, with the readings in other units."""
    if context.quality.is_empty():
        return []
    first, last = context.quality["first_t"].min(), context.quality["last_t"].max()
    latest = None if context.now is None else context.now + AHEAD
    found = []
    if isinstance(first, datetime) and first < OLDEST:
        text = f"the first sample is from {time_text(first)}, before Prometheus: {_readings(first, latest)}"
        found.append(Finding("times", "warn", text, start=first))
    if isinstance(last, datetime) and latest is not None and last > latest:
        text = f"the last sample is from {time_text(last)}, which has not been yet: {_readings(last, latest)}"
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
            return f"it is {time_text(other)} if {words} were read; give --time-unit, or export again"
    return (
        "no other unit makes it a time since 2015; times from the start of a log need --epoch, "
        "a clock that is off needs --tz or its data re-exported"
    )


def unknown_metrics(context: DoctorContext) -> list[Finding]:
    """Metrics of exporters nobody knows, which carry no signal: they may be the user's own."""
    orphans = context.series.filter(pl.col("signal").is_null())
    exporters = {one.name: one.prefixes for one in context.catalogue.exporters}
    known = set(context.catalogue.clock_like) | {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
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


def captures(context: DoctorContext) -> list[Finding]:
    """Separate runs of a service, and the signals that some of them lack."""
    found = []
    for frame in context.frames:
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


def renewed(context: DoctorContext) -> list[Finding]:
    """Instances whose process got a new identity: it started again, and its series began anew."""
    placed = context.series.filter(
        pl.col("emitter_role").is_in(POOL_ROLES) & pl.col("instance").is_not_null()
    )
    rows = placed.join(context.quality.select("series_id", "first_t", "last_t"), "series_id")
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
            f"{instance} has another {label} from {time_text(first)} on ({old}, then {new}): "
            "it started again; "
            f"series are joined by instance, never by {label}", service=service, start=first, end=first,
        )
        for (service, _, instance, label), values in sorted(lives.items())
        for old, new, first in _successions(values)
    ]  # fmt: skip


def _successions(values: dict[str, tuple[datetime, datetime]]) -> list[tuple[str, str, datetime]]:
    """Return (old, new, first seen) of values of which one begins after the other has ended."""
    order: Sequence[tuple[str, tuple[datetime, datetime]]] = sorted(values.items(), key=lambda one: one[1])
    return [(old, new, first) for (old, (_, last)), (new, (first, _)) in pairwise(order) if first >= last]


SCALE_LIMIT = 1.05
"""A ratio above this is a percentage read as a ratio."""

BEYOND_IN_FLIGHT = 30.0
"""Requests that rate times latency ask for, over those that are there, from which on the unit is another: the
middle, in logarithms, of an honest latency and one read 1000 times too long. Default of this project."""

REPEAT_FACTOR = 1.5
"""An exporter whose values change more rarely than this many scrapes repeats them."""

SHORT_HOURS = 8.0
"""A production history shorter than this seldom pins a verdict; measured on simulated services."""

SAME_RESTART_S = 60.0
"""Resets of one instance closer together than this are one restart."""


def files_read(context: DoctorContext) -> list[Finding]:
    """Broken files, files no reader knows, and files whose samples others hold more faithfully."""
    found = [Finding("files", "fail", f"{name} was not read: {why}") for name, why in context.broken]
    for what, names in _alike(context.tables).items():
        text = f"skipped: {first_of(names, MOST_NAMES)}: {what}; map them under [tables] in hsa.toml"
        found.append(Finding("files", "warn", text, value=float(len(names))))
    skipped = [name for name in context.skipped if name not in dict(context.tables)]
    if skipped:
        shown = ", ".join(skipped[:5]) + (" and more" if len(skipped) > 5 else "")
        text = f"{len(skipped)} files are no dump a reader knows and were skipped: {shown}"
        found.append(Finding("files", "pass", text, value=float(len(skipped))))
    whole = [one for one in context.superseded if one.rows == one.of]
    parts = [one for one in context.superseded if one.rows < one.of]
    for some, words in (
        (whole, "add nothing, others hold their samples more faithfully"),
        (parts, "are read only where no other file holds their samples more faithfully"),
    ):
        if some:
            shown = "; ".join(one.sentence() for one in some[:5]) + ("; and more" if len(some) > 5 else "")
            found.append(
                Finding("files", "pass", f"{len(some)} files {words}: {shown}", value=float(len(some)))
            )
    return found or [Finding("files", "pass", "every file was read")]


def _alike(tables: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names of tables by what they are."""
    found: dict[str, list[str]] = {}
    for name, what in tables:
        found.setdefault(what, []).append(name)
    return found


def planned(context: DoctorContext) -> list[Finding]:
    """Chunks of plan.json that are missing, short, or at another step."""
    if context.plan is None:
        return []
    found = [Finding("plan", "fail" if level == "fail" else "warn", text) for level, text in context.plan]
    return found or [Finding("plan", "pass", "every file of plan.json is there, whole and at its step")]


def rows_rejected(context: DoctorContext) -> list[Finding]:
    """Quarantined rows by reason."""
    if context.rejected.is_empty():
        return [Finding("rejected", "pass", "no row was quarantined")]
    found = []
    for (reason,), own in context.rejected.sort("rows", descending=True).group_by(
        "reason", maintain_order=True
    ):
        rows, most = int(own["rows"].sum()), own.row(0, named=True)
        of_most = "" if own.height == 1 else f"{most['rows']} of them "
        text = (
            f"{rows} rows quarantined: {reason}, {of_most}{rejected_where(most)}; see data/rejected.parquet"
        )
        found.append(Finding("rejected", "warn", text, value=float(rows)))
    return sorted(found, key=lambda finding: finding.text.partition(": ")[2])


def rejected_where(group: Mapping[str, Any]) -> str:
    """Return the metric and file of rejected rows; the file alone where they name no series."""
    return f"{group['metric']} in {group['file']}" if group["metric"] else str(group["file"])


def server_warnings(context: DoctorContext) -> list[Finding]:
    """Report what the server said when it answered: parts of the data may be missing."""
    return [Finding("server_warnings", "warn", f"{name}: {text}") for name, text in context.server_warnings]


def scrape_gaps(context: DoctorContext) -> list[Finding]:
    """Stretches in which the server repeated the last value because nothing was scraped."""
    found = []
    for row in context.frozen.iter_rows(named=True):
        seconds = (row["last_t"] - row["first_t"]).total_seconds()
        text = (
            f"nothing was scraped from {time_text(row['first_t'])} to {time_text(row['last_t'])}: "
            "every series repeats its last value; these samples are null, the increase over the gap counts "
            "in totals only"
        )
        found.append(
            Finding("scrape_gap", "warn", text, value=seconds, start=row["first_t"], end=row["last_t"])
        )
    if context.series.is_empty():
        return []
    return found or [Finding("scrape_gap", "pass", "no stretch in which all series repeat together")]


def holes(context: DoctorContext) -> list[Finding]:
    """Pauses inside series."""
    if context.series.is_empty():
        return []
    with_gaps = context.quality.filter(pl.col("gaps") > 0)
    if with_gaps.is_empty():
        return [Finding("holes", "pass", f"no series pauses for more than {GAP_INTERVALS:g} intervals")]
    longest = max(with_gaps["longest_gap_s"].to_list())
    text = (
        f"{with_gaps.height} of {context.quality.height} series pause, the longest for {longest:.0f} s; "
        "windows there are null"
    )
    return [Finding("holes", "warn", text, value=longest)]


def restarts(context: DoctorContext) -> list[Finding]:
    """Counters that fell back: instances that started again."""
    if context.series.is_empty():
        return []
    if context.resets.is_empty():
        return [Finding("restarts", "pass", "no counter fell back")]
    who = context.resets.join(
        context.series.select("series_id", "service", "instance", "capture"), "series_id"
    ).sort("service", "instance", "t")
    times: dict[tuple[str, str], list[datetime]] = {}
    last: dict[tuple[str, str], datetime] = {}
    for row in who.iter_rows(named=True):
        key = (row["service"] or "", row["instance"] or "a front end")
        before = last.get(key)
        last[key] = row["t"]
        if before is None or row["t"] - before > timedelta(seconds=SAME_RESTART_S):
            times.setdefault(key, []).append(row["t"])
    return [finding for key, at in times.items() for finding in _restarts_of(*key, at)]


def _restarts_of(service: str, name: str, at: Sequence[datetime]) -> Iterator[Finding]:
    """Yield a finding a restart of an instance; one for all of them where they are many."""
    fell = "its counters fell back and count on from zero"
    if len(at) > MOST_RESTARTS:
        text = f"{name} started again {len(at)} times from {time_text(at[0])} to {time_text(at[-1])}: {fell}"
        yield Finding("restarts", "warn", text, service=service, start=at[0], end=at[-1])
        return
    for t in at:
        text = f"{name} started again by {time_text(t)}: {fell}"
        yield Finding("restarts", "warn", text, service=service, start=t, end=t)


def roles(context: DoctorContext) -> list[Finding]:
    """How the roles were decided, and what has none."""
    placed = context.series.filter(pl.col("instance").is_not_null() & pl.col("signal").is_not_null())
    counts = (
        placed.group_by("emitter_role", "role_evidence")
        .agg(pl.col("instance").n_unique())
        .sort("emitter_role", "role_evidence")
    )
    found = [
        Finding(
            "roles", "warn" if row["emitter_role"] == "unknown" else "pass",
            f"{row['instance']} instances are {row['emitter_role']} (by {row['role_evidence']})",
            value=float(row["instance"]),
        )
        for row in counts.iter_rows(named=True)
    ]  # fmt: skip
    if any(f.level == "warn" for f in found):
        hint = (
            "name pods with the word prefill or decode, export a role label, or give roles under [roles] in "
            'hsa.toml ("." = "mixed" where all do both), so that their series count'
        )
        found.append(Finding("roles", "warn", hint))
    return [*_two_roles(context), *found, *_one_role_only(context)]


def _two_roles(context: DoctorContext) -> list[Finding]:
    """Return pods that two pools count at one time: two files may give the same pods two roles."""
    placed = context.series.filter(
        pl.col("emitter_role").is_in(POOL_ROLES) & (pl.col("unit_kind") == "pod")
    ).select("series_id", "service", "instance", "capture", "emitter_role", "role_evidence")
    lives = (
        placed.join(context.quality.select("series_id", "first_t", "last_t"), "series_id")
        .group_by("service", "instance", "capture", "emitter_role")
        .agg(pl.col("role_evidence").min(), pl.col("first_t").min(), pl.col("last_t").max())
    )
    one_run = pl.col("capture") == pl.col("capture_other")  # two named captures may differ in roles
    pairs = lives.join(lives, on=["service", "instance"], suffix="_other").filter(
        (pl.col("emitter_role") < pl.col("emitter_role_other"))
        & (one_run | (pl.col("capture") == "") | (pl.col("capture_other") == ""))
        & (pl.col("first_t") <= pl.col("last_t_other"))
        & (pl.col("first_t_other") <= pl.col("last_t"))
    )
    keys = ["service", "emitter_role", "role_evidence", "emitter_role_other", "role_evidence_other"]
    return [
        Finding(
            "roles", "warn",
            f"{row['count']} pods ({listed(row['pods'], 1)}) are counted in two pools: {row['emitter_role']} "
            f"(by {row['role_evidence']}) and {row['emitter_role_other']} (by {row['role_evidence_other']}); "
            "leave out one of the files, or give the pods one role under [roles] in hsa.toml",
            service=row["service"] or "", value=float(row["count"]),
        )
        for row in pairs.group_by(keys)
        .agg(pl.col("instance").unique().sort().alias("pods"), pl.col("instance").n_unique().alias("count"))
        .sort(keys)
        .iter_rows(named=True)
    ]  # fmt: skip


def _one_role_only(context: DoctorContext) -> list[Finding]:
    """Return the services that have decode instances and none that prefill, or the reverse."""
    return [
        Finding(
            "roles", "warn",
            f"there are {frame.pools[0]} instances and no others: if they do both, say so under [roles] "
            'in hsa.toml ("." = "mixed"); if not, the other pool was not exported', service=frame.service,
        )
        for frame in context.frames
        if frame.pools in (("prefill",), ("decode",))
    ]  # fmt: skip


def unmapped(context: DoctorContext) -> list[Finding]:
    """Series that belong to no service; first the instances that have a role."""
    if context.series.is_empty():
        return []
    orphans = context.series.filter(pl.col("service").is_null())
    if orphans.is_empty():
        return [Finding("services", "pass", f"every series belongs to one of {len(context.frames)} services")]
    metrics = ", ".join(sorted(set(orphans["metric"]))[:3])
    text = (
        f"{orphans.height} series belong to no service ({metrics}): no model, and nothing that exactly one "
        "service shares"
    )
    lost = [Finding("services", "warn", sentence) for sentence in context.unserved]
    return [*lost, Finding("services", "warn", text, value=float(orphans.height))]


def scales(context: DoctorContext) -> list[Finding]:
    """Ratios out of range, and latencies that more requests would have to wait than are there."""
    found = [finding for frame in context.frames for finding in _beyond_in_flight(frame)]
    for frame in context.frames:
        for info in frame.signals:
            if info.unit != "ratio" or info.family == "auxiliary":
                continue
            high = frame.table[f"{info.signal}@{info.role}"].max()
            if isinstance(high, float) and high > SCALE_LIMIT:
                text = (
                    f"{info.signal} of {info.role} reaches {high:.3g}; a ratio ends at 1: its unit is another"
                )
                found.append(Finding("scale", "fail", text, service=frame.service, value=high))
    if not context.frames:
        return []
    return found or [Finding("scale", "pass", "all ratios lie within 0 and 1")]


def _beyond_in_flight(frame: ServiceFrame) -> list[Finding]:
    """Return the latencies in another unit: rate times latency are requests in flight (Little's law)."""
    running = [frame.values("running", pool) for pool in frame.pools]
    if not running or any(np.isnan(values).all() for values in running):
        return []  # part of the requests is not seen
    waiting = [frame.values("queue_length", pool) for pool in frame.pools]
    held = np.maximum(np.nansum([*running, *waiting, frame.values("in_flight", "service")], axis=0), 1.0)
    found = []
    for latency, rate in _LITTLE:
        ages = [frame.values(latency, role) for role in ("service", *frame.pools)]
        rates = [frame.values(rate, role) for role in ("service", *frame.pools)]
        for age, per_s in product(ages, rates):
            both = np.isfinite(age * per_s) & (per_s > 0)
            if both.sum() < ROWS_MIN or np.median((age * per_s / held)[both]) < BEYOND_IN_FLIGHT:
                continue
            age_s, flow, there = (float(np.median(values[both])) for values in (age, per_s, held))
            text = (
                f"{latency} is {age_s:.3g} s at {flow:.3g} {_PER_S[rate]}, which takes {age_s * flow:,.0f} "
                f"requests in flight, and {there:,.0f} are: its unit is another, perhaps ms"
            )
            found.append(Finding("scale", "fail", text, service=frame.service, value=age_s))
    return found


_LITTLE = (("ttft", "first_token_rate"), ("tbt", "decode_tps"))
_PER_S = {"first_token_rate": "requests/s", "decode_tps": "tokens/s"}


def clocks(context: DoctorContext) -> list[Finding]:
    """Find requests that move whole or half hours before or after the tokens: a file in another time zone."""
    found = []
    for frame in context.frames:
        pool = next((role for role in frame.pools if frame.has(*frame.served(role))), "")
        part = _longest_capture(frame)
        for signal in _REQUEST_RATES if pool and not frame.counts_requests(pool) else ():
            tokens = frame.served_values(pool)
            shift_s = _shift(frame.values(signal, "service")[part], tokens[part], frame.window_s)
            if shift_s is not None:
                side = "before" if shift_s > 0 else "after"
                text = (
                    f"{signal} of the front end moves {abs(shift_s) / HOUR_S:g} h {side} the tokens of the "
                    "engines: times of one of the two are of another zone"
                )
                found.append(Finding("clocks", "fail", text, service=frame.service, value=shift_s))
                break
    return found


_REQUEST_RATES = ("request_rate", "first_token_rate", "completion_rate")

CLOCK_ROW_S, CLOCK_STEP_S, CLOCK_MOST_S = 300.0, 1800.0, 14 * 3600.0
"""Rows whose moves are compared; time zones are multiples of half an hour and at most 14 hours apart [s]."""

CLOCK_LINK, CLOCK_ROWS = 0.6, 144
"""Correlation of the moves at the shift, from which on it is one, and rows that it takes: twelve hours. Two
unrelated loads of 14 to 48 hours reached both in none of 1,200 histories. Defaults of this project."""


def _longest_capture(frame: ServiceFrame) -> np.ndarray:
    """Return which rows are of the capture with most rows."""
    capture = frame.table["capture"]
    names = capture.value_counts(sort=True)["capture"]
    return (capture == names[0]).to_numpy() if len(names) else np.zeros(frame.table.height, bool)


def _shift(requests: np.ndarray, tokens: np.ndarray, window_s: float) -> float | None:
    """Return by how long requests move before tokens [s]; None where they move together, or not alike."""
    width = max(1, round(CLOCK_ROW_S / window_s))
    half = round(HOUR_S / CLOCK_ROW_S)  # what is left of a day cycle by a mean over two hours has no lag
    size = requests.size // width * width
    if size // width < CLOCK_ROWS:
        return None
    before, after = (
        highpass(values[:size].reshape(-1, width).mean(axis=1), half) for values in (requests, tokens)
    )
    most = min(round(CLOCK_MOST_S / CLOCK_ROW_S), size // width - CLOCK_ROWS)
    links = {lag: _link_at(before, after, lag) for lag in range(-most, most + 1)}
    best = max(links, key=lambda lag: links[lag])
    shift_s = round(best * CLOCK_ROW_S / CLOCK_STEP_S) * CLOCK_STEP_S
    near = abs(best * CLOCK_ROW_S - shift_s) <= CLOCK_ROW_S and abs(shift_s) >= HOUR_S
    together = max(links.get(lag, 0.0) for lag in (-1, 0, 1))
    return shift_s if near and links[best] >= max(CLOCK_LINK, 2.0 * together) else None


def _link_at(before: np.ndarray, after: np.ndarray, lag: int) -> float:
    """Return the correlation of rows with those ``lag`` later in the other; 0 where too few are known."""
    if lag >= 0:
        first, second = before[: before.size - lag], after[lag:]
    else:
        first, second = before[-lag:], after[: after.size + lag]
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < CLOCK_ROWS or np.std(first[known]) == 0.0 or np.std(second[known]) == 0.0:
        return 0.0
    return float(np.corrcoef(first[known], second[known])[0, 1])


def repeats(context: DoctorContext) -> list[Finding]:
    """Find exporters that collect more rarely than they are scraped; a gauge that is flat is none."""
    gauges = context.series.join(context.quality.drop("interval_s"), "series_id").filter(
        (pl.col("source") == "dcgm")
        & pl.col("news_s").is_between(REPEAT_FACTOR * pl.col("interval_s"), SUSTAINED_S, closed="right")
    )
    counts = (
        gauges.group_by("metric")
        .agg(pl.len(), pl.col("news_s").median(), pl.col("interval_s").median())
        .sort("metric")
    )
    return [
        Finding(
            "repeats", "warn",
            f"{row['metric']}: values change every {row['news_s']:.0f} s but are scraped every "
            f"{row['interval_s']:.0f} s; copies carry no news and count once", value=row["news_s"],
        )
        for row in counts.iter_rows(named=True)
    ]  # fmt: skip


def limits(context: DoctorContext) -> list[Finding]:
    """Latency limits at which no histogram edge lies."""
    found = []
    for service, edge in context.edges:
        level: Level = "pass" if edge.exact else "fail" if edge.low_s is None else "warn"
        at_limit = f"{edge.source}'s histogram of {edge.signal.upper()} has an edge at {edge.limit_s:g} s"
        text = edge.sentence or at_limit
        found.append(Finding("limits", level, text, service=service))
    return found


def disagreements(context: DoctorContext) -> list[Finding]:
    """Two sources of one signal that differ."""
    return [
        Finding(
            "sources", "warn",
            f"{row['signal']} of {row['role']}: {row['source']} and {row['other']} differ by "
            f"{percent(row['difference'], whole=True)} (median); {row['source']} is used",
            service=row["service"], value=row["difference"],
        )
        for row in context.disagreements.iter_rows(named=True)
    ]  # fmt: skip


def references(context: DoctorContext) -> list[Finding]:
    """Whether offered load is known, and whether TTFT holds the queue in front of the engines."""
    found = []
    for frame in context.frames:
        if frame.reference == "served":
            text = "started requests are not exported: served rates are used, a lower bound when saturated"
            found.append(Finding("offered_load", "warn", text, service=frame.service))
        else:
            counted = frame.has("request_rate", "service")
            text = (
                "demand is known from requests that started"
                if counted
                else "demand is first tokens plus the growth of queues: started requests are not counted"
            )
            found.append(Finding("offered_load", "pass", text, service=frame.service))
        ttft = frame.info("ttft", "service")
        if ttft is not None and not next(
            e.frontend for e in context.catalogue.exporters if e.name == ttft.source
        ):
            text = (
                f"ttft_excludes_queue: TTFT comes from {ttft.source}; waiting before the engine is left out"
            )
            known = context.catalogue.signal("ttft")
            by_decode = known is not None and any(
                "decode" in row.emitters for row in known.sources if row.source == ttft.source
            )
            if "decode" in frame.pools and not by_decode:
                text += ", and so is the hand-over to decode"
            found.append(Finding("ttft", "warn", text, service=frame.service))
    return found


def lengths(context: DoctorContext) -> list[Finding]:
    """Histories too short for a verdict."""
    found = []
    for frame in context.frames:
        hours = frame.table.height * frame.window_s / 3600
        if frame.kind == "production" and hours < SHORT_HOURS:
            text = (
                f"{hours:.1f} h of history: 8 h with a real ramp are the practical minimum, 12 h are better"
            )
            found.append(Finding("length", "warn", text, service=frame.service, value=hours))
    if not context.frames:
        return []
    return found or [Finding("length", "pass", "the history is long enough to be judged")]


def missing(context: DoctorContext) -> list[Finding]:
    """Signals of the catalogue that the input lacks."""
    return [
        Finding("missing", "warn", f"no {row['signal']} of {row['role']}: {row['how_to_enable']}")
        for row in missing_signals(context)
    ]
