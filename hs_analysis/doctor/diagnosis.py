"""The named checks as rows: each looks at the context and says pass, warn or fail.

A new check is a function and a row in CHECKS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from hs_analysis.doctor import input_checks, instance_checks, renamed_metrics, series_checks, table_checks
from hs_analysis.doctor.context import DoctorContext, Finding
from hs_analysis.schema.frames import FINDINGS, check, empty
from hs_analysis.schema.results import IDLE_INSTANCES


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    names
        What its findings are called.
    run
        What looks; its docstring says what for.
    levels
        What it may say, mildest first.
    then
        What to do when it does not pass.
    """

    names: tuple[str, ...]
    run: Callable[[DoctorContext], list[Finding]]
    levels: tuple[str, ...]
    then: str


_PASS_WARN = ("pass", "warn")
_ALL = ("pass", "warn", "fail")

CHECKS: tuple[Check, ...] = (
    Check(
        ("files",), input_checks.files_read, _ALL,
        "export the file again, as its message says",
    ),
    Check(("plan",), input_checks.planned, _ALL, "repeat the command that the finding names"),
    Check(("metrics",), input_checks.metrics, _PASS_WARN, "add the metric dumps of the service"),
    Check(
        ("rejected",), input_checks.rows_rejected, _PASS_WARN,
        "see the rows: `hsa sql RUN \"FROM rejected\"`",
    ),
    Check(("copies",), input_checks.exact_copies, ("pass",), "nothing; give each file once to save time"),
    Check(("replicas",), series_checks.replicas, ("fail",), "`--dedup-label LABEL`"),
    Check(
        ("server_warnings",), input_checks.server_warnings, ("warn",),
        "export again when every store answers",
    ),
    Check(
        ("source_losses",), input_checks.source_losses, ("warn",),
        "nothing where the study does not need it; else export from Prometheus",
    ),
    Check(("notes",), input_checks.reader_notes, ("pass",), "check that the assumption holds"),
    Check(("times",), input_checks.times, _PASS_WARN, "`--time-unit`, `--tz` or `--epoch`"),
    Check(("clocks",), input_checks.clocks, ("fail",), "export both in UTC, or give `--tz` for local times"),
    Check(
        ("scrape_gap",), input_checks.scrape_gaps, _PASS_WARN,
        "export a TSDB snapshot, which has the true scrape times, or leave the stretch out with `--exclude`",
    ),
    Check(("holes",), input_checks.holes, _PASS_WARN, "look why the target was not scraped"),
    Check(("no_value",), series_checks.without_value, ("warn",), "look why the exporter gives no number"),
    Check(("spacing",), series_checks.spacing, _PASS_WARN, "export at the scrape interval"),
    Check(
        ("query_grid",), series_checks.query_grids, _PASS_WARN,
        "take the samples as scraped: hsa pull without --step, a TSDB snapshot or dump; or wider windows",
    ),
    Check(("restarts",), input_checks.restarts, _PASS_WARN, "nothing: increases count on"),
    Check(("renewed",), input_checks.renewed, ("warn",), "nothing: series are joined by instance"),
    Check(("captures",), input_checks.captures, _PASS_WARN, "nothing: captures are kept apart"),
    Check(("fleet",), instance_checks.fleet, ("pass",), "nothing: instances count while they report"),
    Check(("ended",), instance_checks.ended, ("warn",), "look why it stopped, if nobody scaled in"),
    Check(
        ("frozen",), instance_checks.frozen, ("warn",),
        "look why it stopped; nothing else: no signal uses it",
    ),
    Check(
        (IDLE_INSTANCES,), instance_checks.idle, ("warn",),
        "look at the router; what is no part of the pool is `ignore` under `[roles]`",
    ),
    Check(("confounded",), series_checks.followed, ("pass",), "judge signals per instance"),
    Check(("roles",), input_checks.roles, _PASS_WARN, "how to give roles: `hsa help roles`"),
    Check(("label_join",), series_checks.pod_labels, ("warn",), "export kube_pod_labels of the same pods"),
    Check(
        ("release",), series_checks.releases, ("warn",),
        "nothing for capacity and ratio: they use what came after; `--from` after it for the rest",
    ),
    Check(("services",), input_checks.unmapped, _PASS_WARN, "name a service under `[services]`"),
    Check(("unknown_metric",), input_checks.unknown_metrics, ("pass",), "map it under `[metrics]`"),
    Check(("renamed",), renamed_metrics.renamed, ("warn",), "map it under `[metrics]`, if it is the same"),
    Check(("scale",), input_checks.scales, ("pass", "fail"), "set `unit` for the metric under `[metrics]`"),
    Check(("scale_mismatch",), series_checks.series_scales, ("warn", "fail"), "set `unit` under `[metrics]`"),
    Check(("named_unit",), series_checks.named_units, ("warn",), "set `unit` as the name says"),
    Check(("kind",), series_checks.kinds, ("warn", "fail"), "set `kind` for the metric under `[metrics]`"),
    Check(("constant",), series_checks.constants, ("warn",), "look whether the exporter keeps it up"),
    Check(("resolution",), series_checks.resolution, _PASS_WARN, "prefer a signal with finer steps"),
    Check(("idle_zero",), series_checks.idle_zeros, ("warn",), "`skip_where` in the mapping"),
    Check(("tail",), series_checks.tails, ("warn",), "trust ranks and shares over a limit, no mean"),
    Check(("averaged",), series_checks.averaged, ("warn",), "export the values as they were sampled"),
    Check(("repeats",), input_checks.repeats, ("warn",), "scrape no faster than the exporter collects"),
    Check(("histograms",), series_checks.histograms, _ALL, "export every bucket as scraped"),
    Check(
        ("limits",), input_checks.limits, _ALL,
        "choose a limit at an edge, or add the edge to the exporter",
    ),
    Check(("sources",), input_checks.disagreements, ("warn",), "find out which of the two is right"),
    Check(("offered_load", "ttft"), input_checks.references, _PASS_WARN, "export the front end's metrics"),
    Check(("length",), input_checks.lengths, _PASS_WARN, "export a longer window with `hsa pull`"),
    Check(("requests", "arrivals"), table_checks.request_logs, _PASS_WARN, "log what the finding names"),
    Check(
        ("bench_workers", "bench_throughput", "bench_versions", "bench_dates", "bench_sizes", "bench_names",
         "bench_gpus", "bench_repeats", "bench_computed", "bench_profile", "bench_prices"),
        table_checks.benchmarks, _PASS_WARN, "choose comparable points; measure what is missing",
    ),
    Check(("missing",), input_checks.missing, ("warn",), "switch the metric on as the finding says"),
)  # fmt: skip
"""All checks, in the order their findings are stored."""


def diagnose(context: DoctorContext) -> pl.DataFrame:
    """Run every check; return a frame of contract FINDINGS, checks in order."""
    rows = [
        {
            "check": f.check, "level": f.level, "service": f.service, "text": f.text, "value": f.value,
            "start": f.start, "end": f.end,
        }
        for one in CHECKS
        for f in one.run(context)
    ]  # fmt: skip
    return check(pl.DataFrame(rows, schema=empty(FINDINGS).schema), FINDINGS)
