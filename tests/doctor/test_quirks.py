"""Each quirk that the folders of public data name is found by the checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from ingest.mappings import shipped
from public_sets import QUIRKS

from hs_analysis.doctor import CHECKS
from hs_analysis.errors import InputError
from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import MetricRow, Reading, Settings, TableRow

Findings = list[tuple[str, str, str]]
Expected = tuple[str, str, str]
"""Check, level and a pattern in its text."""


@pytest.fixture
def findings(real_data: Path, tmp_path: Path) -> Callable[..., Findings]:
    """Return what looks at files of a folder of public data: (check, level, text) of its findings."""

    def look(folder: str, *files: str, reading: Reading | None = None, tests_load: bool = False) -> Findings:
        inputs = [real_data / folder / name for name in files] or [real_data / folder]
        kind = "pressure_test" if tests_load else "production"
        run_inputs(
            inputs, "doctor", Settings(reading=reading or Reading(), history_kind=kind),
            stages=STAGES, progress=Silent(), run_dir=tmp_path / "run",
        )  # fmt: skip
        found = pl.read_parquet(tmp_path / "run" / "data" / "findings.parquet")
        return list(found.select("check", "level", "text").iter_rows())

    return look


def assert_found(found: Findings, *expected: Expected) -> None:
    """Hold the findings to each expected one."""
    for check, level, pattern in expected:
        own = [(lvl, text) for name, lvl, text in found if name == check]
        assert any(lvl == level and re.search(pattern, text) for lvl, text in own), (check, pattern, own)


def test_every_quirk_of_the_descriptions_is_listed(real_data: Path) -> None:
    """A bullet under Quirks of a known set that the table does not have, or one that is gone, fails."""
    for name, quirks in QUIRKS.items():
        text = " ".join((real_data / name).read_text("utf-8").split())
        assert [words for words, _ in quirks if words not in text] == [], name
        bullets = re.findall(r" - (.*?)(?= - |$)", text.partition("## Quirks")[2])
        if name.endswith("SOURCE.md"):
            assert len(bullets) == len({b for b in bullets for words, _ in quirks if words in b}), name


def test_every_check_of_the_table_is_one_that_a_folder_is_held_to() -> None:
    """A check that the table names is in CHECKS, and expected by a test below."""
    named = {
        check for rows in QUIRKS.values() for _, found in rows if isinstance(found, tuple) for check in found
    }
    assert named <= {name for check in CHECKS for name in check.names}
    text = Path(__file__).read_text("utf-8")
    assert [
        check for check in sorted(named) if f'"{check}", "' not in text and f'"{check}",\n' not in text
    ] == []


def test_azure(findings: Callable[..., Findings]) -> None:
    """Seven digits, no zone, CR LF, and nothing of how requests were served."""
    with pytest.raises(InputError, match="times carry no zone"):
        findings("azure-llm-2023")
    assert_found(
        findings("azure-llm-2023", reading=Reading(tz="UTC")),
        ("notes", "pass", "times have 7 fractional digits"),
        ("notes", "pass", "times without a zone were read as UTC: 2023-11-16"),
        ("notes", "pass", "lines end in CR LF"),
        ("requests", "warn", "19,366 requests over 3,502 s without model, .*time to first token"),
        ("metrics", "warn", "no metrics over time, only 19,366 requests"),
    )


def test_mooncake(findings: Callable[..., Findings]) -> None:
    """Arrivals in steps of 3 s, prefixes that a cache would have found, relative times."""
    assert_found(
        findings("mooncake-fast25"),
        ("arrivals", "warn", r"steps of 3 s, 1,180 moments for 12,031 requests"),
        ("notes", "pass", "0.37 of the prompt blocks .* overstates the work"),
        ("server_warnings", "warn", "times count from the start of the log"),
        ("requests", "warn", "without model, .*end-to-end latency"),
    )


def test_servegen(findings: Callable[..., Findings]) -> None:
    """No absolute date, and a column that says for how many requests lengths are known."""
    assert_found(
        findings("servegen-derived", reading=shipped("servegen-rates")),
        ("times", "warn", "1970-01-01 .*--epoch"),
        ("server_warnings", "warn", "--epoch joins them"),
        ("notes", "pass", "does not read: rate_with_known_lengths_rps"),
        (
            "notes",
            "pass",
            "rate_with_known_lengths_rps, .* is never above request_rate_rps and 44 % of it in all",
        ),
        (
            "averaged",
            "warn",
            "input_tps_est, output_tps_est: averages over 21,600 s, .* multiples are no load",
        ),
        ("offered_load", "warn", "served rates are used"),
        ("missing", "warn", "no ttft of service"),
    )


def test_wva(findings: Callable[..., Findings]) -> None:
    """Rows without traffic, pairs, three spacings, runs that lack a signal, pods that come and go."""
    found = findings(
        "wva-h100-autoscaling", "va_timeseries.csv", "pod_timeseries.csv.gz",
        reading=shipped("wva-h100"), tests_load=True,
    )  # fmt: skip
    assert_found(
        found,
        ("rejected", "warn", "324 rows quarantined: skip_where"),
        ("captures", "pass", "24 captures, kept apart"),
        ("captures", "warn", "request_rate of service is missing in"),
        ("spacing", "warn", "come right after another"),
        ("spacing", "warn", "steps off the usual .* to 60"),
        ("fleet", "pass", "mixed instances came or went"),
        ("ttft", "warn", "ttft_excludes_queue"),
        ("tail", "warn", "ttft_ms: the highest 1 % of its values carry 66 % .*: a cliff, so trust ranks"),
        ("confounded", "pass", "mixed instances move with the request rate"),
        ("services", "pass", "one of 1 services"),
        ("missing", "warn", "no gpu_util of mixed"),
    )


@pytest.mark.slow
def test_wva_as_openmetrics(findings: Callable[..., Findings]) -> None:
    """One pool whose pods are called decode, and metrics that only the user can name."""
    assert_found(
        findings("wva-h100-autoscaling", "wva_openmetrics.txt.gz", tests_load=True),
        ("roles", "warn", r"decode instances and no others: if they do both"),
        ("unknown_metric", "pass", "wva:arrival_rate_per_minute"),
        ("spacing", "warn", "come right after another"),
    )


@pytest.mark.slow
def test_wva_with_its_idle_rows(findings: Callable[..., Findings]) -> None:
    """A mapping that keeps latencies of 0 is told that they are no latencies."""
    told = shipped("wva-h100")
    kept = {name: replace(row, skip_where={}) for name, row in told.tables.items()}
    found = findings(
        "wva-h100-autoscaling", "va_timeseries.csv", reading=replace(told, tables=kept), tests_load=True
    )
    assert_found(found, ("idle_zero", "warn", "ttft_ms is 0 in .* no traffic, not a fast answer"))


@pytest.mark.slow
def test_wva_with_units_forgotten(findings: Callable[..., Findings]) -> None:
    """A mapping without units is told what the names say."""
    told = shipped("wva-h100")
    bare = {
        name: replace(row, columns={c: replace(m, unit=None) for c, m in row.columns.items()})
        for name, row in told.tables.items()
    }
    found = findings("wva-h100-autoscaling", "va_timeseries.csv", reading=replace(told, tables=bare))
    assert_found(
        found,
        (
            "named_unit",
            "warn",
            "arrival_rate_rpm is read in requests/s, but its name says rpm: .* factor of 60;",
        ),
        ("named_unit", "warn", "ttft_ms is read in s, but its name says ms: .* factor of 1000;"),
    )


def test_silicon(findings: Callable[..., Findings]) -> None:
    """Worker counts missing, no throughput, engines of several versions and of none."""
    assert_found(
        findings("aiconfigurator-silicon", "silicon_sample.csv.gz"),
        ("bench_workers", "warn", "1,328 of 1,602 disaggregated points"),
        ("bench_throughput", "warn", "5,202 of 5,221 points is not measured, but estimated: concurrency"),
        ("bench_versions", "warn", "engines and versions in one table"),
        ("bench_versions", "warn", "without a version number"),
        ("bench_dates", "warn", r"4,\d+ points were measured from 2025-.* on \d+ days, \d+ do not say when"),
        ("bench_gpus", "pass", "b200_sxm, b300_sxm, gb200, gb300, h100_sxm, h200_sxm; .* nothing of others"),
    )


def test_h200_profile(findings: Callable[..., Findings]) -> None:
    """A coarse grid without queueing."""
    assert_found(
        findings("dynamo-h200-profile"),
        ("bench_profile", "warn", "prefill at 17 points, 17 prompt lengths, a coarse grid: interpolate"),
        (
            "bench_profile",
            "warn",
            "decode at 41 points, 6 context lengths, .*without batching limits",
        ),
    )


def test_splitwise(findings: Callable[..., Findings]) -> None:
    """Five repeats of a point, and a card that was computed from another."""
    assert_found(
        findings("splitwise-sim", reading=shipped("splitwise-sim")),
        ("bench_repeats", "pass", "1,260 points are 228 settings, 228 of them measured up to 15 times"),
        ("bench_computed", "warn", "h100-80gb-pcap has 1.300 × the TTFT and 1.000 × the TBT of h100-80gb"),
    )


def test_dstack(findings: Callable[..., Findings]) -> None:
    """Byte order marks, CR LF, blanks, two spellings, old prices, four cards against eight."""
    assert_found(
        findings("dstack-h100-mi300x", reading=shipped("dstack")),
        ("notes", "pass", "byte order mark"),
        ("notes", "pass", "CR LF"),
        ("notes", "pass", "blanks around them"),
        ("bench_names", "warn", "'Mi300 1FP8-amd' and 'Mi300x 1FP8-amd'"),
        ("bench_prices", "warn", "give today's under"),
        ("bench_sizes", "warn", "points ran on 4, 8 GPUs: compare per GPU"),
    )


def test_acmetrace(findings: Callable[..., Findings]) -> None:
    """Distributions without times are refused in words."""
    with pytest.raises(InputError, match="distributions of metrics, without times"):
        findings("acmetrace", "gpu_metric_cdf.csv.gz")


def test_nab(findings: Callable[..., Findings]) -> None:
    """Pauses, and times before Prometheus."""
    assert_found(
        findings("nab", reading=shipped("nab")),
        ("holes", "warn", "the longest for 1200 s"),
        ("missing", "warn", "no ttft of service"),
        ("times", "warn", "2014-02-14 14:27:00 UTC, before Prometheus"),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "ec2_disk_write_bytes_1ef3de",
            (
                ("spacing", "pass", "steps off the usual 300 s: 1 in 1 of 1 series .*the shortest 240 s"),
                ("copies", "pass", "11 samples are there again with the same time and value"),
                ("holes", "warn", "the longest for 3660 s"),
            ),
        ),
        (
            "ec2_network_in_5abac7",
            (
                ("rejected", "warn", "12 rows quarantined: dup_conflict"),
                ("spacing", "pass", "steps off the usual 300 s: 1 in 1 of 1 series .*the shortest 60 s"),
                ("holes", "warn", "the longest for 3"),
            ),
        ),
    ],
)
def test_nab_steps_and_repeats(
    findings: Callable[..., Findings], name: str, expected: tuple[Expected, ...]
) -> None:
    """A step of 240 s, times that are there twelve times with one value or with several, long pauses."""
    table = TableRow(
        match=f"{name}.csv", time="timestamp", tz="UTC", fixed={"role": "mixed", "instance": "{file}"},
        columns={"value": MetricRow(signal="queue_length")},
    )  # fmt: skip
    found = findings("nab", f"{name}.csv", reading=Reading(tables={"rest": table}))
    assert_found(found, *expected)


def test_mocker(findings: Callable[..., Findings]) -> None:
    """A worker that was killed, its new worker_id, a scrape gap, roles by label, names that were dropped."""
    found = findings("dynamo-mocker/pd-cycles", "query_range.core.json.gz")
    assert_found(
        found,
        ("restarts", "warn", "llama8b-5 started again by 2026-11-24 13:41:45"),
        ("renewed", "warn", "llama8b-5 has another worker_id"),
        ("scrape_gap", "warn", "2026-11-24 14:06:45 UTC to 2026-11-24 14:07:15"),
        ("roles", "pass", r"4 instances are decode \(by label:dynamo_component\)"),
        ("missing", "warn", "no sm_activity of decode: add `DCGM_FI_PROF_SM_ACTIVE"),
    )


@pytest.mark.slow
def test_mocker_dump(findings: Callable[..., Findings]) -> None:
    """The dump has true scrape times: the gap is a pause there, and stale markers are no samples."""
    assert_found(
        findings("dynamo-mocker/pd-diurnal", "tsdb_dump.txt.gz"),
        ("holes", "warn", "the longest for 50 s"),
        ("restarts", "warn", "llama8b-3 started again by 2026-11-24 12:27:42"),
        ("renewed", "warn", "llama8b-3 has another worker_id"),
    )


@pytest.mark.slow
def test_mocker_sweep(findings: Callable[..., Findings]) -> None:
    """Every run is a capture; a worker of the next run is no restart of the last."""
    found = findings("dynamo-mocker/pd-sweep", tests_load=True, reading=shipped("request-log"))
    assert_found(
        found,
        ("captures", "pass", "8 captures, kept apart"),
        ("requests", "warn", r"requests failed \(client_abort"),
    )
    assert not [row for row in found if row[0] in ("renewed", "restarts") and row[1] == "warn"]


def test_simulated(findings: Callable[..., Findings]) -> None:
    """DCGM copies, pauses, one restart, whole percents."""
    assert_found(
        findings("simulated/dev_overload"),
        ("repeats", "warn", "DCGM_FI_PROF_SM_ACTIVE: values change every 60 s but are scraped every 30 s"),
        ("holes", "warn", "series pause, the longest for 270 s"),
        ("restarts", "warn", "m-large-prefill-2 started again"),
        ("resolution", "pass", "DCGM_FI_DEV_GPU_UTIL of 14 series comes in whole percents"),
        ("histograms", "pass", "cumulative, whole, and equal"),
    )
