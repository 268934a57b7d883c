"""Checks of files, rows, gaps, roles, units, limits and lengths."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from hs_analysis.doctor.input_checks import clock
from hs_analysis.doctor.inventory import missing_signals
from hs_analysis.doctor.scene import Finding, Scene

SCALE_LIMIT = 1.05
"""A ratio above this is a percentage read as a ratio."""

REPEAT_FACTOR = 1.5
"""An exporter whose values change more rarely than this many scrapes repeats them."""

SHORT_HOURS = 8.0
"""A production history shorter than this seldom pins a verdict; measured on simulated services."""

SAME_RESTART_S = 60.0
"""Resets of one instance closer together than this are one restart."""


def files_read(scene: Scene) -> list[Finding]:
    """Broken files, files no reader knows, and files whose samples others hold more faithfully."""
    found = [Finding("files", "fail", f"{name} was not read: {why}") for name, why in scene.broken]
    if scene.skipped:
        shown = ", ".join(scene.skipped[:5]) + (" and more" if len(scene.skipped) > 5 else "")
        text = f"{len(scene.skipped)} files are no dump a reader knows and were skipped: {shown}"
        found.append(Finding("files", "pass", text, value=float(len(scene.skipped))))
    whole = [one for one in scene.superseded if one.rows == one.of]
    parts = [one for one in scene.superseded if one.rows < one.of]
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


def planned(scene: Scene) -> list[Finding]:
    """Chunks of plan.json that are missing, short, or at another step."""
    if scene.plan is None:
        return []
    found = [Finding("plan", "fail" if level == "fail" else "warn", text) for level, text in scene.plan]
    return found or [Finding("plan", "pass", "every file of plan.json is there, whole and at its step")]


def rows_rejected(scene: Scene) -> list[Finding]:
    """Quarantined rows by reason."""
    if scene.rejected.is_empty():
        return [Finding("rejected", "pass", "no row was quarantined")]
    counts = scene.rejected.group_by("reason").len().sort("reason")
    return [
        Finding(
            "rejected", "warn", f"{row['len']} rows quarantined: {row['reason']}; see data/rejected.parquet",
            value=float(row["len"]),
        )
        for row in counts.iter_rows(named=True)
    ]  # fmt: skip


def server_warnings(scene: Scene) -> list[Finding]:
    """Report what the server said when it answered: parts of the data may be missing."""
    return [Finding("server_warnings", "warn", f"{name}: {text}") for name, text in scene.server_warnings]


def scrape_gaps(scene: Scene) -> list[Finding]:
    """Stretches in which the server repeated the last value because nothing was scraped."""
    found = []
    for row in scene.frozen.iter_rows(named=True):
        seconds = (row["last_t"] - row["first_t"]).total_seconds()
        text = (
            f"nothing was scraped from {clock(row['first_t'])} to {clock(row['last_t'])}: every series "
            "repeats its last value; these samples are null, the increase over the gap counts in totals only"
        )
        found.append(
            Finding("scrape_gap", "warn", text, value=seconds, start=row["first_t"], end=row["last_t"])
        )
    if scene.series.is_empty():
        return []
    return found or [Finding("scrape_gap", "pass", "no stretch in which all series repeat together")]


def holes(scene: Scene) -> list[Finding]:
    """Pauses inside series."""
    if scene.series.is_empty():
        return []
    with_gaps = scene.quality.filter(pl.col("gaps") > 0)
    if with_gaps.is_empty():
        return [Finding("holes", "pass", "no series pauses for more than 2.5 intervals")]
    longest = max(with_gaps["longest_gap_s"].to_list())
    text = (
        f"{with_gaps.height} of {scene.quality.height} series pause, the longest for {longest:.0f} s; "
        "windows there are null"
    )
    return [Finding("holes", "warn", text, value=longest)]


def restarts(scene: Scene) -> list[Finding]:
    """Counters that fell back: instances that started again."""
    if scene.series.is_empty():
        return []
    if scene.resets.is_empty():
        return [Finding("restarts", "pass", "no counter fell back")]
    who = scene.resets.join(
        scene.series.select("series_id", "service", "instance", "capture"), "series_id"
    ).sort("service", "instance", "t")
    found: list[Finding] = []
    last: dict[tuple[str, str], datetime] = {}
    for row in who.iter_rows(named=True):
        key = (row["service"] or "", row["instance"] or "a front end")
        before = last.get(key)
        last[key] = row["t"]
        if before is not None and row["t"] - before <= timedelta(seconds=SAME_RESTART_S):
            continue
        text = f"{key[1]} started again by {clock(row['t'])}: its counters fell back and count on from zero"
        found.append(Finding("restarts", "warn", text, service=key[0], start=row["t"], end=row["t"]))
    return found


def roles(scene: Scene) -> list[Finding]:
    """How the roles were decided, and what has none."""
    placed = scene.series.filter(pl.col("instance").is_not_null() & pl.col("signal").is_not_null())
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
        hint = "name pods with the word prefill or decode, or export a role label, so that their series count"
        found.append(Finding("roles", "warn", hint))
    return found + _one_sided(scene)


def _one_sided(scene: Scene) -> list[Finding]:
    """Return the services that have decode instances and none that prefill, or the reverse."""
    return [
        Finding(
            "roles", "warn",
            f"there are {frame.pools[0]} instances and no others: if they do both, say so under [roles] "
            'in hsa.toml ("." = "mixed"); if not, the other pool was not exported', service=frame.service,
        )
        for frame in scene.frames
        if frame.pools in (("prefill",), ("decode",))
    ]  # fmt: skip


def unmapped(scene: Scene) -> list[Finding]:
    """Series that belong to no service; first the instances that have a role."""
    if scene.series.is_empty():
        return []
    orphans = scene.series.filter(pl.col("service").is_null())
    if orphans.is_empty():
        return [Finding("services", "pass", f"every series belongs to one of {len(scene.frames)} services")]
    metrics = ", ".join(sorted(set(orphans["metric"]))[:3])
    text = (
        f"{orphans.height} series belong to no service ({metrics}): no model, and nothing that exactly one "
        "service shares"
    )
    lost = [Finding("services", "warn", sentence) for sentence in scene.unserved]
    return [*lost, Finding("services", "warn", text, value=float(orphans.height))]


def scales(scene: Scene) -> list[Finding]:
    """Ratios out of range: a percentage read as a ratio."""
    found = []
    for frame in scene.frames:
        for info in frame.signals:
            if info.unit != "ratio" or info.family == "auxiliary":
                continue
            high = frame.table[f"{info.signal}@{info.role}"].max()
            if isinstance(high, float) and high > SCALE_LIMIT:
                text = (
                    f"{info.signal} of {info.role} reaches {high:.3g}; a ratio ends at 1: its unit is another"
                )
                found.append(Finding("scale", "fail", text, service=frame.service, value=high))
    if not scene.frames:
        return []
    return found or [Finding("scale", "pass", "all ratios lie within 0 and 1")]


def repeats(scene: Scene) -> list[Finding]:
    """Find exporters that collect more rarely than they are scraped."""
    gauges = scene.series.join(scene.quality.drop("interval_s"), "series_id").filter(
        (pl.col("source") == "dcgm") & (pl.col("news_s") > REPEAT_FACTOR * pl.col("interval_s"))
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


def limits(scene: Scene) -> list[Finding]:
    """Latency limits that lie between two histogram edges."""
    found = []
    for service, edge in scene.edges:
        signal, limit, low, high = edge["signal"], edge["limit_s"], edge["low_s"], edge["high_s"]
        if low == high:
            text, level = (
                f"{signal}: an edge of {edge['source']}'s histogram lies at the limit of {limit} s",
                "pass",
            )
        elif low is None:
            text = f"{signal}: {limit} s is below the first edge ({high} s): nothing can be judged"
            level = "fail"
        else:
            text = (
                f"{signal}: the limit of {limit} s lies between the edges {low} and {high} s of "
                f"{edge['source']}'s histogram; windows between stay undecided, targets use the lower"
            )
            level = "warn"
        found.append(Finding("limits", level, text, service=service))  # type: ignore[arg-type]
    return found


def disagreements(scene: Scene) -> list[Finding]:
    """Two sources of one signal that differ."""
    return [
        Finding(
            "sources", "warn",
            f"{row['signal']} of {row['role']}: {row['source']} and {row['other']} differ by "
            f"{row['difference']:.0%} (median); {row['source']} is used",
            service=row["service"], value=row["difference"],
        )
        for row in scene.disagreements.iter_rows(named=True)
    ]  # fmt: skip


def references(scene: Scene) -> list[Finding]:
    """Whether offered load is known, and whether TTFT holds the queue in front of the engines."""
    found = []
    for frame in scene.frames:
        if frame.reference == "served":
            text = "started requests are not exported: served rates stand in, a lower bound when saturated"
            found.append(Finding("offered_load", "warn", text, service=frame.service))
        else:
            found.append(
                Finding(
                    "offered_load",
                    "pass",
                    "demand is known from requests that started",
                    service=frame.service,
                )
            )
        ttft = frame.info("ttft", "service")
        if ttft is not None and not next(
            e.frontend for e in scene.catalogue.exporters if e.name == ttft.source
        ):
            text = (
                f"ttft_excludes_queue: TTFT comes from {ttft.source}; waiting before the engine is left out"
                + (
                    ", and so is the hand-over to decode"
                    if frame.has("ttft", "service") and "decode" in frame.pools
                    else ""
                )
            )
            found.append(Finding("ttft", "warn", text, service=frame.service))
    return found


def lengths(scene: Scene) -> list[Finding]:
    """Histories too short for a verdict."""
    found = []
    for frame in scene.frames:
        hours = frame.table.height * frame.window_s / 3600
        if frame.kind == "production" and hours < SHORT_HOURS:
            text = (
                f"{hours:.1f} h of history: 8 h with a real ramp are the practical minimum, 12 h are better"
            )
            found.append(Finding("length", "warn", text, service=frame.service, value=hours))
    if not scene.frames:
        return []
    return found or [Finding("length", "pass", "the history is long enough to be judged")]


def missing(scene: Scene) -> list[Finding]:
    """Signals of the catalogue that the input lacks."""
    return [
        Finding("missing", "warn", f"no {row['signal']} of {row['role']}: {row['how_to_enable']}")
        for row in missing_signals(scene)
    ]
